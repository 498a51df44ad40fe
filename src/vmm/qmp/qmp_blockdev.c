/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes and drives over QMP: made, removed, resized; media that change. */
#include <string.h>

#include "base/error.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/core/removable.h"
#include "vmm/qmp/qmp_block.h"

/* ---- nodes ---- */

const struct qmp_arg qmp_blockdev_add_args[] = { { "driver", QMP_ARG_STRING }, { "node-name", QMP_ARG_STRING, true }, { NULL } };
struct json_object *qmp_blockdev_add(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    keyval_auto *kv = keyval_new();
    if (b && json_flatten_object(args, kv, error))
        (void)!blockdev_add_node(b, kv, error);
    return NULL;
}

const struct qmp_arg qmp_blockdev_del_args[] = { { "node-name", QMP_ARG_STRING }, { NULL } };
struct json_object *qmp_blockdev_del(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    if (b)
        (void)!blockdev_del_node(b, qmp_text(args, "node-name"), error);
    return NULL;
}

/* Options of a node that reopening may change; everything else must be as it is, which is not compared. */
static bool reopen_one(struct blockdev *b, struct json_object *o, GError **error)
{
    keyval_auto *kv = keyval_new();
    if (!json_object_is_type(o, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'options', expected: object");
    if (!json_flatten_object(o, kv, error))
        return false;
    const char *name = keyval_get(kv, "node-name"), *driver = keyval_get(kv, "driver");
    struct block_node *n = name ? block_find(blockdev_graph(b), name) : NULL;
    if (!name)
        return vireo_fail(error, VIREO_ERROR_INVALID, "node-name not specified");
    if (!n)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Failed to find node with node-name='%s'", name);
    if (!driver || strcmp(driver, block_node_driver(n)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Cannot change the option 'driver'");
    static const char *const general[] = { "read-only", "auto-read-only", "force-share", "cache.direct", "cache.no-flush", "discard", "detect-zeroes" };
    keyval_auto *change = keyval_new();
    for (size_t i = 0; i < G_N_ELEMENTS(general); i++) {
        g_autofree char *value = keyval_take(kv, general[i]);
        if (value)
            keyval_add(change, general[i], value);
    }
    static const char *const roles[] = { "file", "backing", "data-file" };
    for (size_t i = 0; i < G_N_ELEMENTS(roles); i++) {
        const char *child = keyval_get(kv, roles[i]);
        struct block_node *old = block_child(n, roles[i]), *to = child && *child ? block_find(blockdev_graph(b), child) : NULL;
        if (!child || (to && to == old) || (!to && !*child && !old))
            continue;
        if (!to && *child)
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find device='' nor node-name='%s'", child);
        if (strcmp(roles[i], "backing") && !to)
            return vireo_fail(error, VIREO_ERROR_INVALID, "node '%s' needs its child '%s'", name, roles[i]);
        if (block_node_blocked(n))
            return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", name, block_node_blocked(n));
        if (!block_set_child(n, roles[i], to, error))
            return false;
    }
    /* What is not given has its default again. */
    return block_reopen(n, change, BLOCK_RDWR | (block_node_flags(n) & (BLOCK_AIO_NATIVE | BLOCK_AIO_IO_URING)), error);
}

const struct qmp_arg qmp_blockdev_reopen_args[] = { { "options", QMP_ARG_ARRAY }, { NULL } };
struct json_object *qmp_blockdev_reopen(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct json_object *list = json_object_object_get(args, "options");
    if (!b)
        return NULL;
    block_quiesce(blockdev_graph(b));
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (!reopen_one(b, json_object_array_get_idx(list, i), error))
            break;
    }
    block_resume(blockdev_graph(b));
    return NULL;
}

/* All drives that stand on the node hear of it. */
static void tell_drives(struct blockdev *b, const struct block_node *n)
{
    const GPtrArray *drives = blockdev_drives(b);
    for (guint i = 0; i < drives->len; i++) {
        struct block_node *top = block_device_node(drives->pdata[i]);
        if (top && (top == n || block_skip_filters(top) == n))
            block_device_tell(drives->pdata[i], true);
    }
}

const struct qmp_arg qmp_block_resize_args[] = { { "device", QMP_ARG_STRING, true }, { "node-name", QMP_ARG_STRING, true }, { "size", QMP_ARG_INT }, { NULL } };
struct json_object *qmp_block_resize(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    int64_t size = qmp_number(args, "size", 0);
    struct block_node *n = b ? blockdev_find_either(b, qmp_text(args, "device"), qmp_text(args, "node-name"), error) : NULL;
    if (!n)
        return NULL;
    if (size < 0) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'size' expects a >0 size");
    } else if (block_node_blocked(n)) {
        vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", block_node_name(n), block_node_blocked(n));
    } else {
        block_quiesce(blockdev_graph(b));
        bool ok = block_truncate(n, (uint64_t)size, false, "off", error);
        block_resume(blockdev_graph(b));
        if (ok)
            tell_drives(b, n);
    }
    return NULL;
}

const struct qmp_arg qmp_change_backing_file_args[] = { { "device", QMP_ARG_STRING }, { "image-node-name", QMP_ARG_STRING }, { "backing-file", QMP_ARG_STRING }, { NULL } };
struct json_object *qmp_change_backing_file(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_node *root = b ? blockdev_find_node(b, qmp_text(args, "device"), error) : NULL;
    struct block_node *n = root ? block_find(blockdev_graph(b), qmp_text(args, "image-node-name")) : NULL;
    if (!root)
        return NULL;
    if (!n) {
        vireo_fail(error, VIREO_ERROR_INVALID, "image file not found");
        return NULL;
    }
    struct block_node *in = block_skip_filters(root);
    while (in && in != n)
        in = block_skip_filters(block_backing(in));
    if (!in) {
        vireo_fail(error, VIREO_ERROR_INVALID, "not in the backing chain of '%s'", qmp_text(args, "device"));
        return NULL;
    }
    struct block_node *backing = block_skip_filters(block_backing(n));
    if (!backing) {
        vireo_fail(error, VIREO_ERROR_INVALID, "image has no backing file: there is none to change");
        return NULL;
    }
    block_quiesce(blockdev_graph(b));
    bool writable = !block_node_read_only(n);
    if (writable || block_reopen(n, NULL, block_node_flags(n) | BLOCK_RDWR, error))
        (void)!block_change_backing_file(n, qmp_text(args, "backing-file"), block_node_driver(backing), error);
    if (!writable && !block_node_read_only(n))
        (void)!block_reopen(n, NULL, block_node_flags(n) & ~(unsigned)BLOCK_RDWR, NULL);
    block_resume(blockdev_graph(b));
    return NULL;
}

const struct qmp_arg qmp_block_set_write_threshold_args[] = { { "node-name", QMP_ARG_STRING }, { "write-threshold", QMP_ARG_INT }, { NULL } };
struct json_object *qmp_block_set_write_threshold(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    int64_t value = qmp_number(args, "write-threshold", 0);
    struct block_node *n = b ? block_find(blockdev_graph(b), qmp_text(args, "node-name")) : NULL;
    if (!b)
        return NULL;
    if (!n)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", qmp_text(args, "node-name"));
    else if (value < 0)
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'write-threshold' expects a non-negative value");
    else
        block_set_write_threshold(n, (uint64_t)value);
    return NULL;
}

/* QEMU's own is for quorum and experimental. */
const struct qmp_arg qmp_x_blockdev_change_args[] = { { "parent", QMP_ARG_STRING }, { "child", QMP_ARG_STRING, true }, { "node", QMP_ARG_STRING, true }, { NULL } };
struct json_object *qmp_x_blockdev_change(struct machine *m, struct json_object *args, GError **error)
{
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "The node %s does not support adding or removing a child: there is no quorum driver", qmp_text(args, "parent"));
    return NULL;
}

/* ---- media ---- */

#define DEVICE_ARGS { "device", QMP_ARG_STRING, true }, { "id", QMP_ARG_STRING, true }

static struct block_device *find_drive(struct machine *m, struct json_object *args, struct removable **ret_tray, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_device *drive = b ? blockdev_find_drive(b, qmp_text(args, "device"), qmp_text(args, "id"), error) : NULL;
    struct device *user = drive ? blockdev_user(b, drive, NULL) : NULL;
    *ret_tray = user ? user->removable : NULL;
    if (!drive || !user || user->removable)
        return drive;
    vireo_fail(error, VIREO_ERROR_INVALID, "Device '%s' is not removable", qmp_text(args, "device") ? qmp_text(args, "device") : qmp_text(args, "id"));
    return NULL;
}

static const char *name_in(struct json_object *args)
{
    return qmp_text(args, "device") ? qmp_text(args, "device") : qmp_text(args, "id");
}

const struct qmp_arg qmp_blockdev_open_tray_args[] = { DEVICE_ARGS, { "force", QMP_ARG_BOOL, true }, { NULL } };
struct json_object *qmp_blockdev_open_tray(struct machine *m, struct json_object *args, GError **error)
{
    struct removable *tray;
    if (find_drive(m, args, &tray, error) && tray)
        (void)!removable_open(tray, qmp_flag(args, "force", false), error);
    return NULL;
}

const struct qmp_arg qmp_blockdev_close_tray_args[] = { DEVICE_ARGS, { NULL } };
struct json_object *qmp_blockdev_close_tray(struct machine *m, struct json_object *args, GError **error)
{
    struct removable *tray;
    if (find_drive(m, args, &tray, error) && tray)
        removable_close(tray);
    return NULL;
}

static bool insert(struct blockdev *b, struct block_device *drive, struct removable *tray, struct block_node *n, const char *name, GError **error)
{
    if (tray && !removable_is_open(tray))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Tray of device '%s' is not open", name);
    if (block_device_node(drive))
        return vireo_fail(error, VIREO_ERROR_INVALID, "There already is a medium in device '%s'", name);
    if (blockdev_drive_on(b, n))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is already in use", block_node_name(n));
    block_device_set_node(drive, n);
    return true;
}

const struct qmp_arg qmp_blockdev_insert_medium_args[] = { { "id", QMP_ARG_STRING }, { "node-name", QMP_ARG_STRING }, { NULL } };
struct json_object *qmp_blockdev_insert_medium(struct machine *m, struct json_object *args, GError **error)
{
    struct removable *tray;
    struct block_device *drive = find_drive(m, args, &tray, error);
    struct block_node *n = drive ? block_find(blockdev_graph(m->blockdev), qmp_text(args, "node-name")) : NULL;
    if (drive && !n)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Node '%s' not found", qmp_text(args, "node-name"));
    else if (drive)
        (void)!insert(m->blockdev, drive, tray, n, qmp_text(args, "id"), error);
    return NULL;
}

static bool take_out(struct block_device *drive, struct removable *tray, const char *name, GError **error)
{
    struct block_node *n = block_device_node(drive);
    if (tray && !removable_is_open(tray))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Tray of device '%s' is not open", name);
    if (n && block_node_blocked(n))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", block_node_name(n), block_node_blocked(n));
    if (n)
        block_device_set_node(drive, NULL);
    return true;
}

const struct qmp_arg qmp_blockdev_remove_medium_args[] = { { "id", QMP_ARG_STRING }, { NULL } };
struct json_object *qmp_blockdev_remove_medium(struct machine *m, struct json_object *args, GError **error)
{
    struct removable *tray;
    struct block_device *drive = find_drive(m, args, &tray, error);
    if (drive)
        (void)!take_out(drive, tray, qmp_text(args, "id"), error);
    return NULL;
}

const struct qmp_arg qmp_eject_args[] = { DEVICE_ARGS, { "force", QMP_ARG_BOOL, true }, { NULL } };
struct json_object *qmp_eject(struct machine *m, struct json_object *args, GError **error)
{
    struct removable *tray;
    struct block_device *drive = find_drive(m, args, &tray, error);
    if (drive && (!tray || removable_open(tray, qmp_flag(args, "force", false), error)))
        (void)!take_out(drive, tray, name_in(args), error);
    return NULL;
}

const struct qmp_arg qmp_blockdev_change_medium_args[] = { DEVICE_ARGS, { "filename", QMP_ARG_STRING }, { "format", QMP_ARG_STRING, true }, { "force", QMP_ARG_BOOL, true },
                                                           { "read-only-mode", QMP_ARG_STRING, true }, { NULL } };
struct json_object *qmp_blockdev_change_medium(struct machine *m, struct json_object *args, GError **error)
{
    static const char *const modes[] = { "retain", "read-only", "read-write", NULL };
    struct removable *tray;
    int mode;
    struct block_device *drive = find_drive(m, args, &tray, error);
    if (!drive || !qmp_choice(args, "read-only-mode", modes, 0, &mode, error))
        return NULL;
    bool writable = mode == 2 || (mode == 0 && block_device_node(drive) && !block_read_only(drive));
    block_node_auto *n = block_open_filename(blockdev_graph(m->blockdev), qmp_text(args, "filename"), qmp_text(args, "format"), NULL, writable ? BLOCK_RDWR : 0, error);
    if (!n || (tray && !removable_open(tray, qmp_flag(args, "force", false), error)) || !take_out(drive, tray, name_in(args), error))
        return NULL;
    if (insert(m->blockdev, drive, tray, n, name_in(args), error) && tray)
        removable_close(tray);
    return NULL;
}
