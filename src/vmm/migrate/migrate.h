/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's state as a stream of bytes: saving, loading, migrating live. What is saved, and in which order, is one table in
 * migrate_state.c; the form of the stream is described in migrate_stream.h. The stream's other side is hostile: see docs/threat-model.md.
 *
 * This header has the two halves: the state of a machine that stands still as records (for snapshots in disk images too), and migration as QMP
 * and -incoming have it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;
struct machine;

/* ---- where bytes go and come from ---- */

/* All of it, or false with error. Any one thread at a time. */
struct migrate_sink {
    bool (*write)(void *opaque, const void *data, size_t size, GError **error);
    void *opaque;
};
/* Exactly `size` bytes, or false with error (the end is one). */
struct migrate_source {
    bool (*read)(void *opaque, void *ret, size_t size, GError **error);
    void *opaque;
};

/* ---- a machine that stands still ---- */

/* May this machine be saved at all? An error names the device, and why. Main thread. */
bool migrate_possible(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Everything into the sink: description, RAM, vCPUs, clocks, interrupt controllers, devices. Main thread; the machine is not running, and does
 * not run before it returns. Devices are drained first; disks are not flushed, and stay this process's. */
bool migrate_save_machine(struct machine *m, const struct migrate_sink *sink, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The other way: the machine (not running) is reset, and takes all that the source has. When it returns true it stands where the saved one stood;
 * *ret_ran: that one was running. False: description and RAM may be half there; it must be reset or loaded before it can run. Main thread. */
bool migrate_load_machine(struct machine *m, const struct migrate_source *source, bool *ret_ran, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- migration: QMP and -incoming. Main thread ---- */

struct migration; /* machine.migration */

/* -incoming: NULL or "defer" waits for migrate_incoming. Before the sandbox closes; opens what `uri` names. */
bool migrate_setup(struct machine *m, const char *incoming, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* migrate-incoming. */
bool migrate_incoming(struct machine *m, const char *uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends what is under way; before the machine goes. */
void migrate_finish(struct machine *m);
bool migrate_start(struct machine *m, const char *uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void migrate_cancel(struct machine *m);
/* What cont does first: a machine that was migrated away takes its disks again. */
bool migrate_before_cont(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct json_object *migrate_query(struct machine *m);
struct json_object *migrate_query_capabilities(struct machine *m);
struct json_object *migrate_query_parameters(struct machine *m);
bool migrate_set_capability(struct machine *m, const char *name, bool on, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Members as of QMP's MigrateSetParameters; all or none. */
bool migrate_set_parameters(struct machine *m, struct json_object *members, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* migrate-continue, after pause-before-switchover. */
bool migrate_continue(struct machine *m, const char *state, GError **error) G_GNUC_WARN_UNUSED_RESULT;
