/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exports of disks over NBD, and I/O limits, over QMP. Shapes of arguments and answers: QMP reference of QEMU 7.2. */
#include <string.h>

#include "base/error.h"
#include "base/throttle.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/blockdev/export.h"
#include "vmm/core/machine.h"
#include "vmm/core/object.h"
#include "vmm/qmp/qmp_block.h"

/* ---- the server ---- */

/* SocketAddressLegacy { type, data: {...} } as the members of a SocketAddress. */
static struct keyval *address(struct json_object *addr, GError **error)
{
    struct json_object *data;
    const char *type = json_object_get_string(json_object_object_get(addr, "type"));
    if (!type || !json_object_object_get_ex(addr, "data", &data) || !json_object_is_type(data, json_type_object)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'addr.%s' is missing", type ? "data" : "type");
        return NULL;
    }
    struct keyval *kv = keyval_new();
    keyval_add(kv, "type", type);
    if (json_flatten_object(data, kv, error))
        return kv;
    keyval_free(kv);
    return NULL;
}

const struct qmp_arg qmp_nbd_server_start_args[] = {
    { "addr", QMP_ARG_OBJECT }, { "tls-creds", QMP_ARG_STRING, true }, { "tls-authz", QMP_ARG_STRING, true }, { "max-connections", QMP_ARG_INT, true }, { NULL }
};
struct json_object *qmp_nbd_server_start(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    int64_t max = qmp_number(args, "max-connections", 0);
    if (!b)
        return NULL;
    if (qmp_text(args, "tls-creds") || qmp_text(args, "tls-authz")) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "TLS is not available for NBD: use a UNIX socket, or a tunnel");
        return NULL;
    }
    if (max < 0 || max > UINT32_MAX) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'max-connections' expects uint32_t");
        return NULL;
    }
    keyval_auto *kv = address(json_object_object_get(args, "addr"), error);
    if (kv)
        (void)!blockdev_nbd_start(b, kv, (unsigned)max, error);
    return NULL;
}

const struct qmp_arg qmp_nbd_server_stop_args[] = { { NULL } };
struct json_object *qmp_nbd_server_stop(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    if (b)
        (void)!blockdev_nbd_stop(b, error);
    return NULL;
}

/* ---- exports ---- */

const struct qmp_arg qmp_nbd_server_add_args[] = {
    { "device", QMP_ARG_STRING }, { "name", QMP_ARG_STRING, true }, { "description", QMP_ARG_STRING, true }, { "writable", QMP_ARG_BOOL, true },
    { "bitmap", QMP_ARG_STRING, true }, { NULL }
};
struct json_object *qmp_nbd_server_add(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    const char *device = qmp_text(args, "device"), *name = qmp_text(args, "name"), *bitmap = qmp_text(args, "bitmap");
    struct blockdev_export e = { .id = name ? name : device, .node_name = device, .name = name ? name : device, .description = qmp_text(args, "description"),
                                 .writable = qmp_flag(args, "writable", false), .read_only_falls_back = true };
    json_auto *bitmaps = bitmap ? json_object_new_array() : NULL;
    if (bitmap)
        json_object_array_add(bitmaps, json_object_new_string(bitmap));
    e.bitmaps = bitmaps;
    if (b)
        (void)!blockdev_export_add(b, &e, error);
    return NULL;
}

static struct json_object *remove_export(struct machine *m, const char *id, struct json_object *args, GError **error)
{
    static const char *const modes[] = { "safe", "hard", NULL };
    struct blockdev *b = qmp_blockdev(m, error);
    int mode;
    if (b && qmp_choice(args, "mode", modes, 0, &mode, error))
        (void)!blockdev_export_del(b, id, mode == 1, error);
    return NULL;
}

const struct qmp_arg qmp_nbd_server_remove_args[] = { { "name", QMP_ARG_STRING }, { "mode", QMP_ARG_STRING, true }, { NULL } };
struct json_object *qmp_nbd_server_remove(struct machine *m, struct json_object *args, GError **error)
{
    if (m->blockdev && !blockdev_nbd_running(m->blockdev)) {
        vireo_fail(error, VIREO_ERROR_FAILED, "NBD server not running");
        return NULL;
    }
    return remove_export(m, qmp_text(args, "name"), args, error);
}

const struct qmp_arg qmp_block_export_add_args[] = {
    { "type", QMP_ARG_STRING }, { "id", QMP_ARG_STRING }, { "node-name", QMP_ARG_STRING }, { "fixed-iothread", QMP_ARG_BOOL, true },
    { "iothread", QMP_ARG_STRING, true }, { "writable", QMP_ARG_BOOL, true }, { "writethrough", QMP_ARG_BOOL, true }, { "name", QMP_ARG_STRING, true },
    { "description", QMP_ARG_STRING, true }, { "bitmaps", QMP_ARG_ARRAY, true }, { "allocation-depth", QMP_ARG_BOOL, true }, { NULL }
};
struct json_object *qmp_block_export_add(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    const char *type = qmp_text(args, "type"), *iothread = qmp_text(args, "iothread");
    struct blockdev_export e = { .id = qmp_text(args, "id"), .node_name = qmp_text(args, "node-name"), .name = qmp_text(args, "name"),
                                 .description = qmp_text(args, "description"), .writable = qmp_flag(args, "writable", false),
                                 .write_through = qmp_flag(args, "writethrough", false), .allocation_depth = qmp_flag(args, "allocation-depth", false),
                                 .bitmaps = json_object_object_get(args, "bitmaps") };
    if (!b)
        return NULL;
    if (strcmp(type, "nbd"))
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "block exports of type '%s' are not available; there is nbd", type);
    else if (iothread && (!object_find(m, iothread) || strcmp(object_find(m, iothread)->class->name, "iothread")))
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "iothread \"%s\" not found", iothread);
    else /* an export has threads of its own, whatever iothread says */
        (void)!blockdev_export_add(b, &e, error);
    return NULL;
}

const struct qmp_arg qmp_block_export_del_args[] = { { "id", QMP_ARG_STRING }, { "mode", QMP_ARG_STRING, true }, { NULL } };
struct json_object *qmp_block_export_del(struct machine *m, struct json_object *args, GError **error)
{
    return remove_export(m, qmp_text(args, "id"), args, error);
}

const struct qmp_arg qmp_query_block_exports_args[] = { { NULL } };
struct json_object *qmp_query_block_exports(struct machine *m, struct json_object *args, GError **error)
{
    return m->blockdev ? blockdev_exports_info(m->blockdev) : json_object_new_array();
}

/* ---- limits ---- */

#define LIMIT(name, optional) { name, QMP_ARG_INT, optional }, { name "_max", QMP_ARG_INT, true }, { name "_max_length", QMP_ARG_INT, true }
const struct qmp_arg qmp_block_set_io_throttle_args[] = {
    { "device", QMP_ARG_STRING, true }, { "id", QMP_ARG_STRING, true }, LIMIT("bps", false), LIMIT("bps_rd", false), LIMIT("bps_wr", false),
    LIMIT("iops", false), LIMIT("iops_rd", false), LIMIT("iops_wr", false), { "iops_size", QMP_ARG_INT, true }, { "group", QMP_ARG_STRING, true }, { NULL }
};
struct json_object *qmp_block_set_io_throttle(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    const char *device = qmp_text(args, "device"), *id = qmp_text(args, "id"), *group = qmp_text(args, "group");
    struct throttle_config c = { 0 };
    if (!b)
        return NULL;
    if (!device == !id) {
        vireo_fail(error, VIREO_ERROR_INVALID, device ? "Only one of 'device' and 'id' may be used" : "Need either 'device' or 'id'");
        return NULL;
    }
    struct block_device *drive = blockdev_find_drive(b, device, id, error);
    if (!drive || !throttle_config_from_json(args, &c, error) || !throttle_config_check(&c, error))
        return NULL;
    if (!block_device_node(drive)) {
        vireo_fail(error, VIREO_ERROR_FAILED, "Device '%s' has no medium", device ? device : id);
        return NULL;
    }
    const struct throttle_group *now = block_device_limits(drive);
    g_autofree char *old = now ? g_strdup(throttle_group_name(now)) : NULL; /* it stays in its group when none is named */
    block_device_set_limits(drive, group ? group : old ? old : device ? device : id, &c);
    return NULL;
}
