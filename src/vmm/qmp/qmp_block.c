/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What disks there are: query-block, query-named-block-nodes, query-blockstats. */
#include "vmm/qmp/qmp_block.h"

#include <string.h>

#include "base/error.h"
#include "base/throttle.h"
#include "block/bitmap.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/core/removable.h"

const struct qmp_arg qmp_query_block_args[] = { { NULL } };
const struct qmp_arg qmp_query_named_block_nodes_args[] = { { "flat", QMP_ARG_BOOL, true }, { NULL } };
const struct qmp_arg qmp_query_blockstats_args[] = { { "query-nodes", QMP_ARG_BOOL, true }, { NULL } };

/* ---- arguments ---- */

const char *qmp_text(struct json_object *args, const char *name)
{
    return args ? json_object_get_string(json_object_object_get(args, name)) : NULL;
}

bool qmp_flag(struct json_object *args, const char *name, bool otherwise)
{
    struct json_object *o = args ? json_object_object_get(args, name) : NULL;
    return o ? json_object_get_boolean(o) : otherwise;
}

int64_t qmp_number(struct json_object *args, const char *name, int64_t otherwise)
{
    struct json_object *o = args ? json_object_object_get(args, name) : NULL;
    return o ? json_object_get_int64(o) : otherwise;
}

bool qmp_choice(struct json_object *args, const char *name, const char *const *names, int otherwise, int *ret, GError **error)
{
    const char *text = qmp_text(args, name);
    *ret = otherwise;
    if (!text)
        return true;
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], text)) {
            *ret = i;
            return true;
        }
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' does not accept value '%s'", name, text);
}

struct blockdev *qmp_blockdev(struct machine *m, GError **error)
{
    if (!m->blockdev)
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "this machine has no block layer");
    return m->blockdev;
}

/* ---- nodes ---- */

static void add_int(struct json_object *o, const char *name, uint64_t value)
{
    json_object_object_add(o, name, json_object_new_int64((int64_t)MIN(value, (uint64_t)INT64_MAX)));
}

static struct json_object *cache_info(const struct block_node *n, const struct block_device *drive)
{
    unsigned flags = block_node_flags(n);
    return json_make("no-flush", json_object_new_boolean((flags & BLOCK_NO_FLUSH) != 0), "direct", json_object_new_boolean((flags & BLOCK_DIRECT) != 0), "writeback",
                     json_object_new_boolean(!drive || !block_device_options(drive)->write_through), NULL);
}

/* BlockDeviceInfo. */
static struct json_object *node_info(struct block_node *n, const struct block_device *drive, bool flat)
{
    static const char *const detect[] = { "off", "on", "unmap" };
    struct block_node *format = block_skip_filters(n);
    unsigned depth = 0;
    struct block_info i;
    (void)block_get_info(format, &i);
    for (struct block_node *b = block_skip_filters(block_backing(format)); b; b = block_skip_filters(block_backing(b)))
        depth++;
    struct json_object *info = json_make("file", json_object_new_string(block_node_filename(n)), "node-name", json_object_new_string(block_node_name(n)),
                                         "ro", json_object_new_boolean(block_node_read_only(n)), "drv", json_object_new_string(block_node_driver(n)),
                                         "encrypted", json_object_new_boolean(i.encrypted), "detect_zeroes", json_object_new_string(detect[block_node_detect_zeroes(n)]),
                                         "image", block_image_info(format, !flat), "cache", cache_info(n, drive), NULL);
    struct json_object *bitmaps = block_bitmaps_info(n);
    if (bitmaps)
        json_object_object_add(info, "dirty-bitmaps", bitmaps);
    if (block_backing_filename(format))
        json_object_object_add(info, "backing_file", json_object_new_string(block_backing_filename(format)));
    add_int(info, "backing_file_depth", depth);
    add_int(info, "write_threshold", block_write_threshold(n));
    struct throttle_group *group = drive ? block_device_limits(drive) : NULL;
    struct throttle_config limits = { 0 };
    if (group) {
        throttle_group_config(group, &limits);
        json_object_object_add(info, "group", json_object_new_string(throttle_group_name(group)));
    }
    throttle_config_info(&limits, info);
    return info;
}

struct json_object *qmp_query_named_block_nodes(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    GPtrArray *nodes = m->blockdev ? block_nodes(blockdev_graph(m->blockdev)) : NULL;
    for (guint i = 0; nodes && i < nodes->len; i++)
        json_object_array_add(list, node_info(nodes->pdata[i], blockdev_drive_on(m->blockdev, nodes->pdata[i]), qmp_flag(args, "flat", false)));
    if (nodes)
        g_ptr_array_unref(nodes);
    return list;
}

/* ---- drives ---- */

/* BlockInfo: a drive without id shows when a device uses it, by that device. */
static struct json_object *block_info(struct machine *m, struct block_device *drive)
{
    const struct block_device_options *o = block_device_options(drive);
    struct block_node *n = block_device_node(drive);
    g_autofree char *path = NULL;
    struct device *user = blockdev_user(m->blockdev, drive, &path);
    struct removable *tray = user ? user->removable : NULL;
    if (!o->id && !user)
        return NULL;
    struct json_object *info = json_make("device", json_object_new_string(o->id ? o->id : ""), "type", json_object_new_string("unknown"), "locked",
                                         json_object_new_boolean(tray && removable_is_locked(tray)), "removable", json_object_new_boolean(!user || tray), NULL);
    if (n)
        json_object_object_add(info, "inserted", node_info(n, drive, false));
    if (tray)
        json_object_object_add(info, "tray_open", json_object_new_boolean(removable_is_open(tray)));
    if (user) {
        json_object_object_add(info, "qdev", json_object_new_string(path));
        json_object_object_add(info, "io-status", json_object_new_string(m->state == MACHINE_IO_ERROR ? "failed" : "ok"));
    }
    return info;
}

struct json_object *qmp_query_block(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    const GPtrArray *drives = m->blockdev ? blockdev_drives(m->blockdev) : NULL;
    for (guint i = 0; drives && i < drives->len; i++) {
        struct json_object *info = block_info(m, drives->pdata[i]);
        if (info)
            json_object_array_add(list, info);
    }
    return list;
}

/* ---- statistics ---- */

static struct json_object *device_stats(const struct block_device *drive, const struct block_node *n)
{
    static const struct { const char *prefix; enum block_op op; } ops[] = { { "rd", BLOCK_READ }, { "wr", BLOCK_WRITE }, { "flush", BLOCK_FLUSH }, { "unmap", BLOCK_DISCARD } };
    static const char *const zeroes[] = { "rd_merged", "wr_merged", "unmap_merged", "invalid_rd_operations", "invalid_wr_operations", "invalid_flush_operations",
                                          "invalid_unmap_operations" };
    struct block_stats s = { 0 };
    struct json_object *o = json_object_new_object();
    if (drive)
        block_device_stats(drive, &s);
    s.bytes[BLOCK_WRITE] += s.bytes[BLOCK_WRITE_ZEROES];
    s.operations[BLOCK_WRITE] += s.operations[BLOCK_WRITE_ZEROES];
    s.failed[BLOCK_WRITE] += s.failed[BLOCK_WRITE_ZEROES];
    s.nanoseconds[BLOCK_WRITE] += s.nanoseconds[BLOCK_WRITE_ZEROES];
    for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
        enum block_op op = ops[i].op;
        g_autofree char *bytes = g_strdup_printf("%s_bytes", ops[i].prefix), *count = g_strdup_printf("%s_operations", ops[i].prefix),
                        *time = g_strdup_printf("%s_total_time_ns", ops[i].prefix), *failed = g_strdup_printf("failed_%s_operations", ops[i].prefix);
        if (op != BLOCK_FLUSH)
            add_int(o, bytes, s.bytes[op]);
        add_int(o, count, s.operations[op]);
        add_int(o, time, s.nanoseconds[op]);
        add_int(o, failed, s.failed[op]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(zeroes); i++)
        add_int(o, zeroes[i], 0);
    if (s.last_access_us)
        add_int(o, "idle_time_ns", (uint64_t)(g_get_monotonic_time() - s.last_access_us) * 1000);
    add_int(o, "wr_highest_offset", n ? block_write_highest(n) : 0);
    json_object_object_add(o, "account_invalid", json_object_new_boolean(true));
    json_object_object_add(o, "account_failed", json_object_new_boolean(true));
    json_object_object_add(o, "timed_stats", json_object_new_array());
    return o;
}

/* BlockStats of a node, with those below it. */
static struct json_object *node_stats(const struct block_device *drive, struct block_node *n, bool below)
{
    struct json_object *o = json_make("stats", device_stats(drive, n), NULL);
    if (!n)
        return o;
    json_object_object_add(o, "node-name", json_object_new_string(block_node_name(n)));
    if (below && block_child(n, "file"))
        json_object_object_add(o, "parent", node_stats(NULL, block_child(n, "file"), true));
    if (below && block_backing(n))
        json_object_object_add(o, "backing", node_stats(NULL, block_backing(n), true));
    return o;
}

struct json_object *qmp_query_blockstats(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    if (!m->blockdev)
        return list;
    if (qmp_flag(args, "query-nodes", false)) {
        GPtrArray *nodes = block_nodes(blockdev_graph(m->blockdev));
        for (guint i = 0; i < nodes->len; i++)
            json_object_array_add(list, node_stats(NULL, nodes->pdata[i], false));
        g_ptr_array_unref(nodes);
        return list;
    }
    const GPtrArray *drives = blockdev_drives(m->blockdev);
    for (guint i = 0; i < drives->len; i++) {
        struct block_device *drive = drives->pdata[i];
        const char *id = block_device_options(drive)->id;
        g_autofree char *path = NULL;
        const struct device *user = blockdev_user(m->blockdev, drive, &path);
        if (!id && !user)
            continue;
        struct json_object *o = node_stats(drive, block_device_node(drive), true);
        json_object_object_add(o, "device", json_object_new_string(id ? id : ""));
        if (user)
            json_object_object_add(o, "qdev", json_object_new_string(path));
        json_object_array_add(list, o);
    }
    return list;
}
