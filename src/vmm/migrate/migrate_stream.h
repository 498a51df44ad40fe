/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The form of a saved machine: "VIREOMIG", version (4 bytes), zeroes (4 bytes), then records; all numbers little-endian. A record: what it is (4
 * bytes), length of its content (4 bytes), CRC-32 of both and the content (4 bytes), content:
 *
 *   DESCRIPTION  first; lines of text that say what the machine is. Both sides make them of their own machine; they must be the same
 *   RAM          piece (4), pages (4), first page (8), so many pages of 4096 bytes
 *   ZERO         piece (4), 0 (4), first page (8), pages (8): they read as zeroes. Pages that were never sent do, too
 *   STATE        length of a name (1), name, values as of vmm/core/state.h
 *   END          number of STATE records (4)
 *
 * A page may come several times: the last one counts.
 */
#pragma once

#include "vmm/migrate/migrate.h"

#define STREAM_VERSION 2u
enum stream_record { STREAM_DESCRIPTION = 1, STREAM_RAM, STREAM_ZERO, STREAM_STATE, STREAM_END };
enum { STREAM_PAGE = 4096, STREAM_PAGES_MAX = 256 /* of a RAM record */, STREAM_RECORD_MAX = 64 << 20, STREAM_DESCRIPTION_MAX = 1 << 20,
       STREAM_STATES_MAX = 4096 };
#define STREAM_STATES_BYTES (512u << 20)

bool stream_write_head(const struct migrate_sink *k, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Two parts, one after the other; b may be NULL. */
bool stream_write(const struct migrate_sink *k, enum stream_record type, const void *a, size_t na, const void *b, size_t nb, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool stream_write_text(const struct migrate_sink *k, const char *description, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool stream_write_pages(const struct migrate_sink *k, uint32_t piece, uint64_t first, uint32_t count, const void *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool stream_write_zeroes(const struct migrate_sink *k, uint32_t piece, uint64_t first, uint64_t count, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool stream_write_state(const struct migrate_sink *k, const char *name, GBytes *values, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool stream_write_end(const struct migrate_sink *k, uint32_t states, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Who takes what a stream has; each false with error ends it. */
struct stream_taker {
    bool (*description)(void *opaque, const char *text, GError **error);
    /* Where [first, first + count) of the piece lies, `count` at most STREAM_PAGES_MAX; NULL with error. */
    void *(*pages)(void *opaque, uint32_t piece, uint64_t first, uint32_t count, GError **error);
    void (*pages_there)(void *opaque, uint32_t piece, uint64_t first, uint32_t count);
    bool (*zeroes)(void *opaque, uint32_t piece, uint64_t first, uint64_t count, GError **error);
    bool (*state)(void *opaque, const char *name, GBytes *values, GError **error);
    void *opaque;
};
/* Reads up to and with END. */
bool stream_read(const struct migrate_source *s, const struct stream_taker *t, GError **error) G_GNUC_WARN_UNUSED_RESULT;
