/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine offers of its disks to others: the NBD server and its exports, for QMP. Main thread; messages are QEMU's.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/json.h"
#include "base/keyval.h"

struct blockdev;
struct blockdev_exports;

/* addr: members of a SocketAddress (type, path, host, port, str); taken out. */
bool blockdev_nbd_start(struct blockdev *b, struct keyval *addr, unsigned max_connections, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool blockdev_nbd_stop(struct blockdev *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether one runs. */
bool blockdev_nbd_running(const struct blockdev *b);

struct blockdev_export {
    const char *id, *node_name, *name, *description; /* name NULL: node_name; description NULL: none */
    bool writable, write_through, allocation_depth;
    bool read_only_falls_back;   /* nbd-server-add: a node that is read-only is exported so */
    struct json_object *bitmaps; /* array of names or { "node", "name" }; NULL: none */
};
bool blockdev_export_add(struct blockdev *b, const struct blockdev_export *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* hard: also when clients are connected. It is gone when BLOCK_EXPORT_DELETED comes. */
bool blockdev_export_del(struct blockdev *b, const char *id, bool hard, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct json_object *blockdev_exports_info(struct blockdev *b); /* QMP's list of BlockExportInfo */
void blockdev_exports_end(struct blockdev_exports *x);         /* of blockdev_stop; NULL is allowed */
