/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks of a running domain: size and limits. */
#include <string.h>

#include "manage/drivers/domain/domain_blockjob.h"
#include "manage/drivers/domain/domain_stats.h"

/* What a client is told of a disk that is not there. */
static const char not_live[] = "disk '%s' was not found in the domain config", not_defined[] = "missing persistent configuration for disk '%s'";

/* ---- size ---- */

static GVariant *block_resize(struct manage_call *c, GError **error)
{
    uint64_t size;
    uint32_t flags;
    blocktarget_auto t = { .unknown = not_live };
    g_variant_get_child(c->args, 2, "t", &size);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_RESIZE_BYTES, error) || !domain_blocktarget_find(c, &t, error))
        return NULL;
    g_autofree char *node = domain_chain_node(t.disk);
    if (!node)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "disk '%s' has no medium", t.name);
    if (!(flags & VIR_DOMAIN_BLOCK_RESIZE_BYTES)) {
        if (size > UINT64_MAX / 1024)
            return manage_null(error, VIR_ERR_OVERFLOW, "size must be less than %" G_GUINT64_FORMAT " KiB", UINT64_MAX / 1024);
        size *= 1024;
    }
    size = (size + 511) & ~(uint64_t)511;
    if (!domain_begin(t.d, "block resize", true, error))
        return NULL;
    struct json_object *args = json_object_new_object();
    js_set(args, "node-name", node);
    js_int(args, "size", (int64_t)size);
    bool ok = domain_command_run(t.d, "block_resize", args, error);
    domain_end(t.d);
    return ok ? manage_void() : NULL;
}

/* ---- limits ---- */

/* Names of libvirt's parameter, QMP's argument, the document's element. */
static const struct {
    const char *field, *qmp, *element;
} limits[] = {
    { "total_bytes_sec", "bps", "total_bytes_sec" }, { "read_bytes_sec", "bps_rd", "read_bytes_sec" }, { "write_bytes_sec", "bps_wr", "write_bytes_sec" },
    { "total_iops_sec", "iops", "total_iops_sec" }, { "read_iops_sec", "iops_rd", "read_iops_sec" }, { "write_iops_sec", "iops_wr", "write_iops_sec" },
    { "total_bytes_sec_max", "bps_max", "total_bytes_sec_max" }, { "read_bytes_sec_max", "bps_rd_max", "read_bytes_sec_max" },
    { "write_bytes_sec_max", "bps_wr_max", "write_bytes_sec_max" }, { "total_iops_sec_max", "iops_max", "total_iops_sec_max" },
    { "read_iops_sec_max", "iops_rd_max", "read_iops_sec_max" }, { "write_iops_sec_max", "iops_wr_max", "write_iops_sec_max" }, { "size_iops_sec", "iops_size", "size_iops_sec" },
};

static int limit_of(const char *field)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++)
        if (!strcmp(limits[i].field, field))
            return (int)i;
    return -1;
}

/* The parameters that are given replace those of the element; 0 takes a limit away. */
static bool change_limits(struct el *disk, GVariant *params, GError **error)
{
    GVariantIter it;
    const char *field;
    GVariant *value;
    bool ok = true;
    g_variant_iter_init(&it, params);
    while (ok && g_variant_iter_next(&it, "(&sv)", &field, &value)) {
        int i = limit_of(field);
        if (i < 0)
            ok = manage_fail(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "limit '%s' is not there yet; there are bytes, requests, their bursts and size_iops_sec", field);
        else if (!g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
            ok = manage_fail(error, VIR_ERR_INVALID_ARG, "limit '%s' is a number without a sign", field);
        if (ok) {
            g_autofree char *path = g_strdup_printf("iotune/%s", limits[i].element);
            if (g_variant_get_uint64(value))
                el_setf(disk, path, "%" G_GUINT64_FORMAT, g_variant_get_uint64(value));
            else if (el_find(disk, path))
                el_remove(el_find(disk, path));
        }
        g_variant_unref(value);
    }
    struct el *iotune = el_find(disk, "iotune");
    if (iotune && !el_child(iotune, NULL))
        el_remove(iotune);
    return ok;
}

static bool limit_live(struct domain *d, const char *name, GVariant *params, GError **error)
{
    doc_auto *doc = domain_live(d, error);
    struct el *disk = doc ? domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, not_live, error) : NULL;
    if (!disk || !change_limits(disk, params, error))
        return false;
    struct json_object *args = json_object_new_object();
    js_set(args, "id", el_get_or(disk, "alias/@name", ""));
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_autofree char *path = g_strdup_printf("iotune/%s", limits[i].element);
        uint64_t v = 0;
        el_get_u64(disk, path, &v);
        if (i < 6 || v)
            js_int(args, limits[i].qmp, (int64_t)v);
    }
    return domain_command_run(d, "block_set_io_throttle", args, error) && domain_set_live(d, g_steal_pointer(&doc), error);
}

static bool limit_config(struct domain *d, const char *name, GVariant *params, GError **error)
{
    doc_auto *doc = domain_definition(d, error);
    struct el *disk = doc ? domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, not_defined, error) : NULL;
    return disk && change_limits(disk, params, error) && domain_set_definition(d, g_steal_pointer(&doc), error);
}

static GVariant *set_io_tune(struct manage_call *c, GError **error)
{
    const char *name;
    uint32_t flags;
    bool live, config;
    g_variant_get_child(c->args, 1, "&s", &name);
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 2);
    g_variant_get_child(c->args, 3, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "disk limits", false, error))
        return NULL;
    bool ok = domain_affect(d, flags, &live, &config, error) && (!live || limit_live(d, name, params, error)) && (!config || limit_config(d, name, params, error));
    domain_end(d);
    return ok ? manage_void() : NULL;
}

static GVariant *get_io_tune(struct manage_call *c, GError **error)
{
    const char *name;
    int asked;
    uint32_t flags;
    bool live = false, config = false;
    g_variant_get_child(c->args, 1, "m&s", &name);
    g_variant_get_child(c->args, 2, "i", &asked);
    g_variant_get_child(c->args, 3, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_affect(d, flags & ~VIR_TYPED_PARAM_STRING_OKAY, &live, &config, error))
        return NULL;
    doc_auto *doc = config ? domain_definition(d, error) : domain_live(d, error);
    struct el *disk = doc && name ? domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, not_live, error) : NULL;
    if (!doc || (name && !disk))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_autofree char *path = g_strdup_printf("iotune/%s", limits[i].element);
        uint64_t v = 0;
        if (disk)
            el_get_u64(disk, path, &v);
        manage_param_u64(&b, limits[i].field, v);
    }
    return manage_params_reply(&b, asked);
}

const struct manage_row domain_rows_block[] = {
    { RPC_DOMAIN_BLOCK_RESIZE, block_resize },
    { RPC_DOMAIN_SET_BLOCK_IO_TUNE, set_io_tune },
    { RPC_DOMAIN_GET_BLOCK_IO_TUNE, get_io_tune },
    { 0, NULL },
};
