/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of one machine: its graph of nodes, the drives on top of them, and the names by which users know both. `drive=` of a
 * device, `device` and `node-name` of a QMP command are resolved here and nowhere else.
 *
 * A drive is a block_device. One of -drive has an id; one that a device made of a node's name has none, and goes when nobody uses
 * it any more. Nodes of -blockdev and blockdev-add are held until blockdev-del; those below them live as long as somebody uses them.
 *
 * Everything runs on the main thread.
 */
#pragma once

#include "base/keyval.h"
#include "block/block.h"

struct block_jobs;
struct machine;

struct blockdev; /* machine.blockdev */

/* Made before the devices and kept until they are gone; blockdev_stop ends what goes on by itself (jobs, events) before that. */
struct blockdev *blockdev_create(struct machine *m);
void blockdev_stop(struct blockdev *b);
void blockdev_destroy(struct blockdev *b); /* NULL is allowed */
struct block_graph *blockdev_graph(const struct blockdev *b);
/* What is opened from now on is inactive until blockdev_activate: another process has the images in hand (vmm/migrate). */
void blockdev_begin_inactive(struct blockdev *b);
bool blockdev_is_inactive(const struct blockdev *b);
/* Takes all images, or lets go of them; see node.h. An error leaves all as it was. */
bool blockdev_activate(struct blockdev *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool blockdev_inactivate(struct blockdev *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct block_jobs *blockdev_jobs(const struct blockdev *b);
struct machine *blockdev_machine(const struct blockdev *b);
struct blockdev_exports **blockdev_exports(struct blockdev *b); /* export.c's */

/* ---- nodes ---- */

/* -blockdev and blockdev-add: options of BlockdevOptions as dotted keys; node-name is required. */
bool blockdev_add_node(struct blockdev *b, const struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Several at once, in an order in which each finds the nodes that it names. items: struct keyval *. On failure *ret_failed has the
 * index of the one that cannot be made. */
bool blockdev_add_nodes(struct blockdev *b, const GPtrArray *items, guint *ret_failed, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Only what was added so, and is not in use. */
bool blockdev_del_node(struct blockdev *b, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Holds a node from now on as if blockdev-add had made it. */
void blockdev_hold_node(struct blockdev *b, struct block_node *n);
bool blockdev_holds(const struct blockdev *b, const struct block_node *n);

/* ---- drives ---- */

enum blockdev_interface { BLOCKDEV_IF_DEFAULT, BLOCKDEV_IF_NONE, BLOCKDEV_IF_VIRTIO, BLOCKDEV_IF_IDE, BLOCKDEV_IF_SCSI, BLOCKDEV_IF_SD, BLOCKDEV_IF_MTD,
                          BLOCKDEV_IF_FLOPPY, BLOCKDEV_IF_PFLASH, BLOCKDEV_IF_XEN };
/* What -drive says. */
struct blockdev_drive {
    char *id, *file, *format;       /* file NULL: no medium; format NULL: probed */
    int interface, media /* 1: a CD-ROM */;
    uint64_t index, bus, unit;      /* UINT64_MAX: not given */
    bool snapshot, copy_on_read, write_through;
    int rerror, werror;             /* enum block_on_error */
    unsigned flags;                 /* enum block_open_flags */
    struct keyval *node;            /* options of the format node */
    struct keyval *throttle;        /* throttling.*, without the prefix; NULL: none */
};
/* Checks and sorts the keys of -drive; opens nothing. */
bool blockdev_drive_parse(const struct keyval *kv, struct blockdev_drive *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void blockdev_drive_clear(struct blockdev_drive *d);
/* Opens it and enters it into machine.drives. */
struct block_device *blockdev_add_drive(struct blockdev *b, const struct blockdev_drive *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The drive of this id, or one on the node of this name, made on demand; entered into machine.drives under `name`. NULL: error. */
struct block_device *blockdev_resolve(struct machine *m, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* All drives, in order of their coming. Those that nobody uses any more are gone before. */
const GPtrArray *blockdev_drives(struct blockdev *b);
/* The drive that a command means by `device` (id of a drive) or `id` (of a guest's device, or its path); one of them is NULL. */
struct block_device *blockdev_find_drive(struct blockdev *b, const char *device, const char *id, GError **error);
/* The node that a command means by the id of a drive or a node's name; NULL with *error (VIREO_ERROR_NOT_FOUND). */
struct block_node *blockdev_find_node(struct blockdev *b, const char *name, GError **error);
/* The same with two names of which at most one is given. */
struct block_node *blockdev_find_either(struct blockdev *b, const char *device, const char *node_name, GError **error);
/* A drive that stands on this node, or NULL; an id for a job comes from it. */
struct block_device *blockdev_drive_on(struct blockdev *b, const struct block_node *n);
/* The guest's device that uses the drive, and its path as QMP shows it (the caller frees); NULL: none. */
struct device *blockdev_user(struct blockdev *b, const struct block_device *drive, char **ret_path);

/* An empty file for a temporary overlay or a helper, in TMPDIR or /var/tmp; the caller frees the name. NULL: error. */
char *blockdev_temporary(GError **error);
/* A new image on top of `below`, in a file that is removed at once: -snapshot. Referenced. */
struct block_node *blockdev_overlay(struct blockdev *b, struct block_node *below, const char *node_name, unsigned flags, GError **error);
