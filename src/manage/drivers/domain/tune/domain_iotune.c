/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits of a disk (<iotune>, virsh blkdeviotune): one table for the document, libvirt's parameters and the machine's command. */
#include <string.h>

#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/command/domain_plan.h"
#include "manage/drivers/domain/stats/domain_stats.h"

/* Of each kind: total, read, write. A parameter and the element have the same name. "Total" and the others exclude each other, so what is set of a kind replaces all of it. */
enum kind { BYTES, IOPS, BYTES_MAX, IOPS_MAX, BYTES_LENGTH, IOPS_LENGTH, SIZE_IOPS };
static const struct {
    const char *field, *qmp;
    enum kind kind;
} limits[] = {
    { "total_bytes_sec", "bps", BYTES }, { "read_bytes_sec", "bps_rd", BYTES }, { "write_bytes_sec", "bps_wr", BYTES },
    { "total_iops_sec", "iops", IOPS }, { "read_iops_sec", "iops_rd", IOPS }, { "write_iops_sec", "iops_wr", IOPS },
    { "total_bytes_sec_max", "bps_max", BYTES_MAX }, { "read_bytes_sec_max", "bps_rd_max", BYTES_MAX }, { "write_bytes_sec_max", "bps_wr_max", BYTES_MAX },
    { "total_iops_sec_max", "iops_max", IOPS_MAX }, { "read_iops_sec_max", "iops_rd_max", IOPS_MAX }, { "write_iops_sec_max", "iops_wr_max", IOPS_MAX },
    { "size_iops_sec", "iops_size", SIZE_IOPS },
    { "total_bytes_sec_max_length", "bps_max_length", BYTES_LENGTH }, { "read_bytes_sec_max_length", "bps_rd_max_length", BYTES_LENGTH },
    { "write_bytes_sec_max_length", "bps_wr_max_length", BYTES_LENGTH }, { "total_iops_sec_max_length", "iops_max_length", IOPS_LENGTH },
    { "read_iops_sec_max_length", "iops_rd_max_length", IOPS_LENGTH }, { "write_iops_sec_max_length", "iops_wr_max_length", IOPS_LENGTH },
};
enum { RATES = 6, MAXIMA = 6, LENGTHS = 13 }; /* the first of each; those of a length, a maximum and a rate stand in the same order */

/* What a client is told of a disk that is not there. */
static const char not_live[] = "disk '%s' was not found in the domain config", not_defined[] = "missing persistent configuration for disk '%s'";

static uint64_t limit_of(const struct el *disk, unsigned i)
{
    g_autofree char *path = g_strdup_printf("iotune/%s", limits[i].field);
    uint64_t v = 0;
    return el_get_u64(disk, path, &v) ? v : 0;
}

static void set_limit(struct el *disk, unsigned i, uint64_t v)
{
    g_autofree char *path = g_strdup_printf("iotune/%s", limits[i].field);
    if (v)
        el_setf(disk, path, "%" G_GUINT64_FORMAT, v);
    else if (el_find(disk, path))
        el_remove(el_find(disk, path));
}

static bool check_total(const struct el *disk, unsigned first, const char *what, int code, GError **error)
{
    if (!limit_of(disk, first) || (!limit_of(disk, first + 1) && !limit_of(disk, first + 2)))
        return true;
    return manage_fail(error, code, "disk '%s': total and read/write of %s cannot be set at the same time", el_get_or(disk, "target/@dev", "?"), what);
}

bool domain_iotune_check(const struct el *disk, int code, GError **error)
{
    static const char *const totals[] = { "bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max" };
    const char *name = el_get_or(disk, "target/@dev", "?");
    if (!el_find(disk, "iotune"))
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(totals); i++)
        if (!check_total(disk, i * 3, totals[i], code, error))
            return false;
    for (unsigned i = 0; i < RATES; i++) {
        uint64_t rate = limit_of(disk, i), max = limit_of(disk, MAXIMA + i);
        if (max && !rate)
            return manage_fail(error, code, "disk '%s': value '%s' cannot be set if '%s' is not set", name, limits[MAXIMA + i].field, limits[i].field);
        if (max && max < rate)
            return manage_fail(error, code, "disk '%s': value '%s' cannot be smaller than '%s'", name, limits[MAXIMA + i].field, limits[i].field);
        if (limit_of(disk, LENGTHS + i) && !max)
            return manage_fail(error, code, "disk '%s': value '%s' cannot be set if '%s' is not set", name, limits[LENGTHS + i].field, limits[MAXIMA + i].field);
    }
    if (limit_of(disk, 12) && !limit_of(disk, 3) && !limit_of(disk, 4) && !limit_of(disk, 5))
        return manage_fail(error, code, "disk '%s': value 'size_iops_sec' cannot be set without a limit of requests (iops_sec)", name);
    return true;
}

void domain_iotune_args(const struct el *disk, bool is_vireo, struct json_object *args)
{
    /* QEMU's virtio disk is two devices, and the one with the limits has no id. */
    bool inner = !is_vireo && el_is(disk, "target/@bus", "virtio");
    g_autofree char *id = g_strdup_printf(inner ? "/machine/peripheral/%s/virtio-backend" : "%s", el_get_or(disk, "alias/@name", ""));
    js_set(args, "id", id);
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        uint64_t v = limit_of(disk, i);
        if (v || i < RATES)
            js_int(args, limits[i].qmp, (int64_t)v);
    }
    js_set(args, "group", el_get(disk, "iotune/group_name"));
}

/* ---- setting ---- */

static int find_limit(const char *field)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++)
        if (!strcmp(limits[i].field, field))
            return (int)i;
    return -1;
}

static bool one_param(struct el *disk, const char *field, GVariant *value, unsigned *replaced, GError **error)
{
    if (!strcmp(field, "group_name")) {
        if (!g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "'group_name' of disk limits is a name");
        el_set(disk, "iotune/group_name", *g_variant_get_string(value, NULL) ? g_variant_get_string(value, NULL) : NULL);
        return true;
    }
    int i = find_limit(field);
    if (i < 0)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", field);
    if (!g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "limit '%s' is a number without a sign", field);
    if (g_variant_get_uint64(value) > 1000000000000000)
        return manage_fail(error, VIR_ERR_OVERFLOW, "limit '%s' must be no more than 1000000000000000", field);
    for (unsigned k = 0; !(*replaced & 1u << limits[i].kind) && k < G_N_ELEMENTS(limits); k++)
        if (limits[k].kind == limits[i].kind)
            set_limit(disk, k, 0);
    *replaced |= 1u << limits[i].kind;
    set_limit(disk, (unsigned)i, g_variant_get_uint64(value));
    return true;
}

/* Without a rate its burst means nothing, and without any limit a group does. */
static void drop_idle(struct el *disk)
{
    bool any = false;
    for (unsigned i = 0; i < RATES; i++) {
        any = any || limit_of(disk, i);
        if (!limit_of(disk, i) && !limit_of(disk, MAXIMA + i))
            set_limit(disk, LENGTHS + i, 0);
    }
    struct el *iotune = el_find(disk, "iotune");
    if (iotune && !any)
        el_set(disk, "iotune/group_name", NULL);
    iotune = el_find(disk, "iotune");
    if (iotune && !el_child(iotune, NULL))
        el_remove(iotune);
}

static bool change_limits(struct el *disk, GVariant *params, GError **error)
{
    GVariantIter it;
    const char *field;
    GVariant *value;
    unsigned replaced = 0;
    bool ok = true;
    g_variant_iter_init(&it, params);
    while (ok && g_variant_iter_next(&it, "(&sv)", &field, &value)) {
        ok = one_param(disk, field, value, &replaced, error);
        g_variant_unref(value);
    }
    for (unsigned i = 0; i < RATES; i++) { /* a rate that was taken away takes along the burst that was there before */
        if (!limit_of(disk, i) && !(replaced & 1u << limits[MAXIMA + i].kind))
            set_limit(disk, MAXIMA + i, 0);
        if (!limit_of(disk, MAXIMA + i) && !(replaced & 1u << limits[LENGTHS + i].kind))
            set_limit(disk, LENGTHS + i, 0);
    }
    if (!(replaced & 1u << SIZE_IOPS) && !limit_of(disk, 3) && !limit_of(disk, 4) && !limit_of(disk, 5))
        set_limit(disk, 12, 0);
    ok = ok && domain_iotune_check(disk, VIR_ERR_INVALID_ARG, error);
    drop_idle(disk);
    return ok;
}

static bool limit_live(struct domain *d, const char *name, GVariant *params, GError **error)
{
    doc_auto *doc = domain_live(d, error);
    struct el *disk = doc ? domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, not_live, error) : NULL;
    if (!disk || !change_limits(disk, params, error))
        return false;
    struct json_object *args = json_object_new_object();
    domain_iotune_args(disk, d->run->is_vireo, args);
    return domain_command_run(d, "block_set_io_throttle", args, error) && domain_set_live(d, g_steal_pointer(&doc), error);
}

/* check: whether it can be set, before the machine changes. */
static bool limit_config(struct domain *d, const char *name, GVariant *params, bool check, GError **error)
{
    doc_auto *doc = domain_definition(d, error);
    struct el *disk = doc ? domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, not_defined, error) : NULL;
    return disk && change_limits(disk, params, error) && (check || domain_set_definition(d, g_steal_pointer(&doc), error));
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
    bool ok = domain_affect(d, flags, &live, &config, error) && (!config || limit_config(d, name, params, true, error)) &&
              (!live || limit_live(d, name, params, error)) && (!config || limit_config(d, name, params, false, error));
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
        if (i == LENGTHS && (flags & VIR_TYPED_PARAM_STRING_OKAY))
            manage_param_string(&b, "group_name", disk ? el_get_or(disk, "iotune/group_name", "") : "");
        manage_param_u64(&b, limits[i].field, disk ? limit_of(disk, i) : 0);
    }
    return manage_params_reply(&b, asked);
}

const struct manage_row domain_rows_iotune[] = {
    { RPC_DOMAIN_SET_BLOCK_IO_TUNE, set_io_tune },
    { RPC_DOMAIN_GET_BLOCK_IO_TUNE, get_io_tune },
    { 0, NULL },
};
