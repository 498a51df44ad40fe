/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks of a running domain: size, the job that copies its backing chain into it, limits. A disk's job has the id "libvirt-ALIAS"; there is one a disk. */
#include <string.h>

#include "manage/drivers/domain/domain_stats.h"

/* ---- the disk a call means ---- */

struct target {
    struct domain *d;
    struct doc *live;
    struct el *disk;
    char *node, *job; /* its format node; the job's id */
};

static void target_clear(struct target *t)
{
    if (t->d)
        domain_unref(t->d);
    doc_free(t->live);
    g_free(t->node);
    g_free(t->job);
}
#define target_auto __attribute__((cleanup(target_clear))) struct target

static bool find_target(struct manage_call *c, struct target *t, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 1, "&s", &name);
    t->d = domain_of_call(c, 0, error);
    t->live = t->d ? domain_live(t->d, error) : NULL;
    if (!t->live)
        return false;
    t->disk = domain_find_disk(t->live, name);
    const char *alias = t->disk ? el_get(t->disk, "alias/@name") : NULL, *index = t->disk ? el_get(t->disk, "source/@index") : NULL;
    if (!t->disk || !alias)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "disk '%s' was not found in the domain config", name);
    if (!index)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "disk '%s' has no medium", name);
    t->node = g_strdup_printf("libvirt-%s-format", index);
    t->job = g_strdup_printf("libvirt-%s", alias);
    return true;
}

static struct json_object *args_of(const char *key, const char *value)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, key, json_object_new_string(value));
    return o;
}

static bool run(struct domain *d, const char *command, struct json_object *args, GError **error)
{
    struct json_object *o = monitor_command(d, command, args, error);
    bool ok = o != NULL;
    json_object_put(o);
    return ok;
}

/* ---- size ---- */

static GVariant *block_resize(struct manage_call *c, GError **error)
{
    uint64_t size;
    uint32_t flags;
    target_auto t = { NULL };
    g_variant_get_child(c->args, 2, "t", &size);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_RESIZE_BYTES, error) || !find_target(c, &t, error))
        return NULL;
    if (!(flags & VIR_DOMAIN_BLOCK_RESIZE_BYTES)) {
        if (size > UINT64_MAX / 1024)
            return manage_null(error, VIR_ERR_OVERFLOW, "size must be less than %" G_GUINT64_FORMAT " KiB", UINT64_MAX / 1024);
        size *= 1024;
    }
    size = (size + 511) & ~(uint64_t)511;
    struct json_object *args = args_of("node-name", t.node);
    json_object_object_add(args, "size", json_object_new_int64((int64_t)size));
    if (!domain_begin(t.d, "block resize", true, error)) {
        json_object_put(args);
        return NULL;
    }
    bool ok = run(t.d, "block_resize", args, error);
    domain_end(t.d);
    return ok ? manage_void() : NULL;
}

/* ---- jobs ---- */

/* The disk's job in query-block-jobs; a reference. NULL: none (no error), or error. */
static struct json_object *find_job(struct target *t, GError **error)
{
    struct json_object *list = monitor_command(t->d, "query-block-jobs", NULL, error), *found = NULL;
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && !found; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *id;
        if (json_object_object_get_ex(o, "device", &id) && !strcmp(json_object_get_string(id), t->job))
            found = json_object_get(o);
    }
    json_object_put(list);
    return found;
}

/* Bandwidth as calls give it, MiB/s or bytes/s, in bytes. */
static bool to_bytes(uint64_t bandwidth, bool bytes, uint64_t *ret, GError **error)
{
    if (!bytes && bandwidth > G_MAXINT64 >> 20)
        return manage_fail(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %lld", (long long)(G_MAXINT64 >> 20));
    *ret = bytes ? bandwidth : bandwidth << 20;
    return true;
}

static bool stream(struct target *t, const char *base, uint64_t speed, GError **error)
{
    struct json_object *args = args_of("device", t->node);
    json_object_object_add(args, "job-id", json_object_new_string(t->job));
    if (base)
        json_object_object_add(args, "base", json_object_new_string(base));
    if (speed)
        json_object_object_add(args, "speed", json_object_new_int64((int64_t)speed));
    if (!domain_begin(t->d, "block pull", true, error)) {
        json_object_put(args);
        return false;
    }
    struct json_object *job = find_job(t, NULL);
    bool ok = !job || manage_fail(error, VIR_ERR_OPERATION_FAILED, "disk '%s' already in active block job", el_get_or(t->disk, "target/@dev", "?"));
    json_object_put(job);
    if (ok)
        ok = run(t->d, "block-stream", args, error);
    else
        json_object_put(args);
    domain_end(t->d);
    return ok;
}

static GVariant *block_pull(struct manage_call *c, GError **error)
{
    uint64_t bandwidth, speed = 0;
    uint32_t flags;
    target_auto t = { NULL };
    g_variant_get_child(c->args, 2, "t", &bandwidth);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES, error) || !to_bytes(bandwidth, flags & VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES, &speed, error) ||
        !find_target(c, &t, error))
        return NULL;
    return stream(&t, NULL, speed, error) ? manage_void() : NULL;
}

/* Without a base it is a pull; a base keeps what lies below it. A copy (the other meaning of this call) is not there. */
static GVariant *block_rebase(struct manage_call *c, GError **error)
{
    const char *base;
    uint64_t bandwidth, speed = 0;
    uint32_t flags;
    target_auto t = { NULL };
    g_variant_get_child(c->args, 2, "m&s", &base);
    g_variant_get_child(c->args, 3, "t", &bandwidth);
    g_variant_get_child(c->args, 4, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, error) ||
        !to_bytes(bandwidth, flags & VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, &speed, error) || !find_target(c, &t, error))
        return NULL;
    return stream(&t, base, speed, error) ? manage_void() : NULL;
}

static GVariant *job_info(struct manage_call *c, GError **error)
{
    uint32_t flags;
    target_auto t = { NULL };
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES, error) || !find_target(c, &t, error))
        return NULL;
    GError *e = NULL;
    struct json_object *job = find_job(&t, &e);
    if (!job) {
        if (!e)
            return g_variant_new("(iittt)", 0, 0, (uint64_t)0, (uint64_t)0, (uint64_t)0);
        g_propagate_error(error, e);
        return NULL;
    }
    static const struct { const char *name; int type; } types[] = { { "stream", VIR_DOMAIN_BLOCK_JOB_TYPE_PULL }, { "mirror", VIR_DOMAIN_BLOCK_JOB_TYPE_COPY },
                                                                    { "commit", VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT }, { "backup", VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP } };
    struct json_object *kind = json_object_object_get(job, "type");
    int type = VIR_DOMAIN_BLOCK_JOB_TYPE_UNKNOWN;
    for (unsigned i = 0; kind && i < G_N_ELEMENTS(types); i++)
        type = strcmp(json_object_get_string(kind), types[i].name) ? type : types[i].type;
    uint64_t speed = (uint64_t)js_number(job, "speed"), at = (uint64_t)js_number(job, "offset"), end = (uint64_t)js_number(job, "len");
    json_object_put(job);
    if (!(flags & VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES))
        speed = (speed + (1 << 20) - 1) >> 20;
    if (at == end && end == 0)
        end = 1; /* both 0 would say that it is complete */
    return g_variant_new("(iittt)", 1, type, speed, at, end);
}

static GVariant *job_abort(struct manage_call *c, GError **error)
{
    uint32_t flags;
    target_auto t = { NULL };
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC, error) || !find_target(c, &t, error) || !domain_begin(t.d, "block job abort", true, error))
        return NULL;
    bool ok = run(t.d, "block-job-cancel", args_of("device", t.job), error);
    for (unsigned i = 0; ok && !(flags & VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC) && i < 600; i++) { /* until it is gone */
        struct json_object *job = find_job(&t, NULL);
        json_object_put(job);
        if (!job)
            break;
        g_usleep(50000);
    }
    domain_end(t.d);
    if (!ok && error && *error) {
        g_autofree char *why = g_strdup((*error)->message);
        g_clear_error(error);
        return manage_null(error, VIR_ERR_INVALID_ARG, "disk %s does not have an active block job (%s)", el_get_or(t.disk, "target/@dev", "?"), why);
    }
    return ok ? manage_void() : NULL;
}

static GVariant *job_set_speed(struct manage_call *c, GError **error)
{
    uint64_t bandwidth, speed = 0;
    uint32_t flags;
    target_auto t = { NULL };
    g_variant_get_child(c->args, 2, "t", &bandwidth);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, error) ||
        !to_bytes(bandwidth, flags & VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, &speed, error) || !find_target(c, &t, error))
        return NULL;
    struct json_object *args = args_of("device", t.job);
    json_object_object_add(args, "speed", json_object_new_int64((int64_t)speed));
    return run(t.d, "block-job-set-speed", args, error) ? manage_void() : NULL;
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
    struct el *disk = doc ? domain_find_disk(doc, name) : NULL;
    if (doc && !disk)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "disk '%s' was not found in the domain config", name);
    if (!doc || !change_limits(disk, params, error))
        return false;
    struct json_object *args = args_of("id", el_get_or(disk, "alias/@name", ""));
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_autofree char *path = g_strdup_printf("iotune/%s", limits[i].element);
        uint64_t v = 0;
        el_get_u64(disk, path, &v);
        if (i < 6 || v)
            json_object_object_add(args, limits[i].qmp, json_object_new_int64((int64_t)v));
    }
    return run(d, "block_set_io_throttle", args, error) && domain_set_live(d, g_steal_pointer(&doc), error);
}

static bool limit_config(struct domain *d, const char *name, GVariant *params, GError **error)
{
    doc_auto *doc = domain_definition(d, error);
    struct el *disk = doc ? domain_find_disk(doc, name) : NULL;
    if (doc && !disk)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "missing persistent configuration for disk '%s'", name);
    return doc && change_limits(disk, params, error) && domain_set_definition(d, g_steal_pointer(&doc), error);
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
    struct el *disk = doc && name ? domain_find_disk(doc, name) : NULL;
    if (!doc)
        return NULL;
    if (name && !disk)
        return manage_null(error, VIR_ERR_INVALID_ARG, "disk '%s' was not found in the domain config", name);
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
    { RPC_DOMAIN_BLOCK_PULL, block_pull },
    { RPC_DOMAIN_BLOCK_REBASE, block_rebase },
    { RPC_DOMAIN_GET_BLOCK_JOB_INFO, job_info },
    { RPC_DOMAIN_BLOCK_JOB_ABORT, job_abort },
    { RPC_DOMAIN_BLOCK_JOB_SET_SPEED, job_set_speed },
    { RPC_DOMAIN_SET_BLOCK_IO_TUNE, set_io_tune },
    { RPC_DOMAIN_GET_BLOCK_IO_TUNE, get_io_tune },
    { 0, NULL },
};
