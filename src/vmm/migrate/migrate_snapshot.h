/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of a machine inside its disk images: one of each disk, all of the same instant, and in one image the state of the machine, where
 * the format keeps it (qcow2: behind the disk's end). QMP snapshot-save and its siblings, and -loadvm. Main thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct machine;

/* tag: the snapshots' name. vmstate: name of the node, one of `devices`, that has the state; NULL (load only): the one whose snapshot has one.
 * devices: names of nodes, NULL-terminated; NULL: all that the machine's drives can write. */
struct migrate_snapshot {
    const char *tag, *vmstate;
    const char *const *devices;
};
/* The machine goes on as before. On failure there is no snapshot of that name in any image. */
bool migrate_snapshot_save(struct machine *m, const struct migrate_snapshot *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Disks and machine are as they were then; it stands still (MACHINE_PAUSED), whatever it did before. On failure it stands still, too, and, when
 * *ret_touched, is of no use until it is reset or loaded. */
bool migrate_snapshot_load(struct machine *m, const struct migrate_snapshot *s, bool *ret_touched, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Images without it are no error. */
bool migrate_snapshot_delete(struct machine *m, const struct migrate_snapshot *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
