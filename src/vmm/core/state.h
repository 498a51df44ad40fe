/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device's state as named values, as it lies in a saved machine. A value is a row of elements of 1, 2, 4 or 8 bytes, little-endian
 * in the saved form. What is read is hostile: a value that is missing, of another shape, or that nobody asked for is an error
 * with its name, and a device checks what it is given before it uses it as an index, a length or a selector.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct device;
struct state_reader;
struct state_writer;

struct state_writer *state_writer_new(void);
/* The name is unique in one writer, and at most 255 bytes. */
void state_put(struct state_writer *w, const char *name, const void *data, unsigned size, uint32_t count);
void state_put_u64(struct state_writer *w, const char *name, uint64_t value);
/* What is written cannot be all of it: the machine cannot be saved now, for this reason (the first one counts). */
void state_refuse(struct state_writer *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
const char *state_refused(const struct state_writer *w); /* NULL: it was not */
/* Ends the writer. */
GBytes *state_writer_end(struct state_writer *w);

/* `what` names the device in errors; copied. NULL with error: the bytes are not what state_writer_end gives. */
struct state_reader *state_reader_new(GBytes *bytes, const char *what, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Exactly that shape. */
bool state_get(struct state_reader *r, const char *name, void *ret, unsigned size, uint32_t count, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Up to `max` elements; *ret_count says how many there were. */
bool state_get_some(struct state_reader *r, const char *name, void *ret, unsigned size, uint32_t max, uint32_t *ret_count, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* How many elements of that size there are, at most `max`; for what is then read by state_get_some. */
bool state_get_count(struct state_reader *r, const char *name, unsigned size, uint32_t max, uint32_t *ret_count, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* An unsigned number of at most `max`. */
bool state_get_u64(struct state_reader *r, const char *name, uint64_t max, uint64_t *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The bytes of a value of one-byte elements, any number of them; owned by the reader. NULL with error. */
const uint8_t *state_get_bytes(struct state_reader *r, const char *name, uint32_t *ret_size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool state_has(const struct state_reader *r, const char *name);
/* For a device's own checks: an error that names the device, false. */
bool state_bad(const struct state_reader *r, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* False with error: a value was never asked for. Frees the reader in any case. */
bool state_reader_end(struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void state_reader_free(struct state_reader *r);

/* The class's table, then its own save(). Machine stopped, the device drained. */
void device_save(struct device *d, struct state_writer *w);
/* Onto a device that has just been reset: the table, then load(). On failure the device is of no use until its next reset. */
bool device_load(struct device *d, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
