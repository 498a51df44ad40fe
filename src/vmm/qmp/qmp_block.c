/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/qmp/qmp_block.h"

#include <string.h>

#include "block/block.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

/* The device whose PROP_DRIVE is `id`; *ret_path is its QOM path as QEMU would have it (the caller frees). */
static const struct device *find_user(struct machine *m, const char *id, char **ret_path)
{
    unsigned anonymous = 0;
    for (guint i = 0; i < m->devices->len; i++) {
        const struct device *d = g_ptr_array_index(m->devices, i);
        for (const struct device_prop *p = d->class->props; p && p->name; p++) {
            if (p->type != PROP_DRIVE || g_strcmp0(*(char *const *)((const char *)d + p->offset), id))
                continue;
            *ret_path = d->id ? g_strdup_printf("/machine/peripheral/%s/virtio-backend", d->id)
                              : g_strdup_printf("/machine/peripheral-anon/device[%u]/virtio-backend", anonymous);
            return d;
        }
        anonymous += d->class->user_creatable && !d->id;
    }
    return NULL;
}

static struct json_object *cache_info(const struct block_device *b)
{
    unsigned flags = block_node_flags(block_device_node(b));
    return json_make("no-flush", json_object_new_boolean((flags & BLOCK_NO_FLUSH) != 0), "direct", json_object_new_boolean((flags & BLOCK_DIRECT) != 0), "writeback",
                     json_object_new_boolean(!block_device_options(b)->write_through), NULL);
}

/* BlockDeviceInfo. */
static struct json_object *node_info(const struct block_device *b, const char *id)
{
    static const char *const zeroes[] = { "iops_rd", "iops_wr", "iops", "bps_rd", "bps_wr", "bps", "write_threshold", "backing_file_depth" };
    struct block_node *n = block_device_node(b);
    struct json_object *info = json_make("file", json_object_new_string(block_node_filename(n)), "node-name", json_object_new_string(block_node_name(n)),
                                         "ro", json_object_new_boolean(block_read_only(b)), "drv", json_object_new_string(block_node_driver(n)),
                                         "encrypted", json_object_new_boolean(false), "detect_zeroes", json_object_new_string("off"), "image",
                                         block_image_info(n, true), "cache", cache_info(b), NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(zeroes); i++)
        json_object_object_add(info, zeroes[i], json_object_new_int(0));
    return info;
}

static const char *io_status(const struct machine *m)
{
    return m->state == MACHINE_IO_ERROR ? "failed" : "ok";
}

/* BlockInfo: -drive has a name as `device`; a -blockdev node shows when a device uses it, by that device. */
static struct json_object *block_info(struct machine *m, const struct block_device *b, const char *id)
{
    const struct block_device_options *o = block_device_options(b);
    g_autofree char *path = NULL;
    const struct device *user = find_user(m, id, &path);
    if (!o->id && !user)
        return NULL;
    struct json_object *info = json_make("device", json_object_new_string(o->id ? o->id : ""), "type", json_object_new_string("unknown"), "locked",
                                         json_object_new_boolean(false), "removable", json_object_new_boolean(!user), "inserted",
                                         node_info(b, id), NULL);
    if (user) {
        json_object_object_add(info, "qdev", json_object_new_string(path));
        json_object_object_add(info, "io-status", json_object_new_string(io_status(m)));
    }
    return info;
}

static struct json_object *each_drive(struct machine *m, bool nodes)
{
    struct json_object *list = json_object_new_array();
    GList *ids = g_list_sort(g_hash_table_get_keys(m->drives), (GCompareFunc)strcmp);
    for (GList *l = ids; l; l = l->next) {
        const struct block_device *b = g_hash_table_lookup(m->drives, l->data);
        struct json_object *info = nodes ? node_info(b, l->data) : block_info(m, b, l->data);
        if (info)
            json_object_array_add(list, info);
    }
    g_list_free(ids);
    return list;
}

struct json_object *qmp_query_block(struct machine *m, struct json_object *args, GError **error)
{
    return each_drive(m, false);
}

struct json_object *qmp_query_named_block_nodes(struct machine *m, struct json_object *args, GError **error)
{
    return each_drive(m, true);
}
