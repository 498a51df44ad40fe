/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* I/O threads come, go and are looked at. In documents: their number, and a list of ids that is complete as soon as one of them is named. */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, NPARAMS = 5 };

/* ---- in documents ---- */

static struct el *find_id(const struct el *root, unsigned id)
{
    g_autofree char *text = g_strdup_printf("%u", id);
    el_each(t, el_find(root, "iothreadids"), "iothread")
        if (el_is(t, "@id", text))
            return t;
    return NULL;
}

void domain_iothread_ids(struct el *root)
{
    uint64_t want = 0;
    unsigned have = 0;
    el_get_u64(root, "iothreads", &want);
    el_each(t, el_find(root, "iothreadids"), "iothread")
        have++;
    for (unsigned id = 1; have < want && want < 65536; id++)
        if (!find_id(root, id)) {
            struct el *ids = el_find(root, "iothreadids");
            el_setf(el_add(ids ? ids : el_add(root, "iothreadids"), "iothread"), "@id", "%u", id);
            have++;
        }
}

static void edit_add(struct el *root, void *opaque)
{
    unsigned id = *(unsigned *)opaque;
    uint64_t n = 0;
    domain_iothread_ids(root);
    el_get_u64(root, "iothreads", &n);
    el_setf(root, "iothreads", "%u", (unsigned)n + 1);
    struct el *ids = el_find(root, "iothreadids");
    el_setf(el_add(ids ? ids : el_add(root, "iothreadids"), "iothread"), "@id", "%u", id);
}

static void edit_remove(struct el *root, void *opaque)
{
    unsigned id = *(unsigned *)opaque;
    g_autofree char *text = g_strdup_printf("%u", id);
    uint64_t n = 0;
    domain_iothread_ids(root);
    el_get_u64(root, "iothreads", &n);
    struct el *e = find_id(root, id);
    if (e)
        el_remove(e);
    if (n > 1)
        el_setf(root, "iothreads", "%u", (unsigned)n - 1);
    else
        el_set(root, "iothreads", NULL);
    tune_prune(root, "iothreadids");
    for (struct el *pin = el_child(el_find(root, "cputune"), "iothreadpin"), *next; pin; pin = next) {
        next = el_next(pin, "iothreadpin");
        if (el_is(pin, "@iothread", text))
            el_remove(pin);
    }
    tune_prune(root, "cputune");
}

static bool can_add(struct el *root, unsigned id, GError **error)
{
    domain_iothread_ids(root);
    return !find_id(root, id) || manage_fail(error, VIR_ERR_INVALID_ARG, "an IOThread is already using iothread_id '%u'", id);
}

static bool can_remove(struct el *root, unsigned id, GError **error)
{
    g_autofree char *text = g_strdup_printf("%u", id);
    domain_iothread_ids(root);
    if (!find_id(root, id))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "cannot find IOThread '%u' in iothreadids list", id);
    el_each(e, el_find(root, "devices"), NULL)
        if (el_is(e, "driver/@iothread", text)) {
            bool disk = g_str_equal(el_name(e), "disk");
            return manage_fail(error, VIR_ERR_INVALID_ARG, "cannot remove IOThread %u since it is being used by %s '%s'", id, el_name(e),
                               disk ? el_get_or(e, "target/@dev", "?") : el_get_or(e, "@index", "?"));
        }
    return true;
}

static bool can_set(struct el *root, unsigned id, GError **error)
{
    domain_iothread_ids(root);
    return find_id(root, id) || manage_fail(error, VIR_ERR_INVALID_ARG, "cannot find IOThread '%u' in iothreadids list", id);
}

/* Of each document that is affected. */
static bool check(struct domain *d, uint32_t which, unsigned id, bool (*fn)(struct el *, unsigned, GError **), GError **error)
{
    doc_auto *live = which & VIR_DOMAIN_AFFECT_LIVE ? domain_live(d, error) : NULL;
    if ((which & VIR_DOMAIN_AFFECT_LIVE) && !(live && fn(doc_root(live), id, error)))
        return false;
    doc_auto *config = which & VIR_DOMAIN_AFFECT_CONFIG ? domain_definition(d, error) : NULL;
    return !(which & VIR_DOMAIN_AFFECT_CONFIG) || (config && fn(doc_root(config), id, error));
}

/* ---- in a machine ---- */

static bool tell(struct domain *d, const char *command, struct json_object *args, GError **error)
{
    struct json_object *o = monitor_command(d, command, args, error);
    bool ok = o != NULL;
    json_object_put(o);
    return ok;
}

static bool object(struct domain *d, const char *command, unsigned id, GError **error)
{
    struct json_object *args = json_object_new_object();
    g_autofree char *name = g_strdup_printf("iothread%u", id);
    if (g_str_equal(command, "object-add"))
        json_object_object_add(args, "qom-type", json_object_new_string("iothread"));
    json_object_object_add(args, "id", json_object_new_string(name));
    return tell(d, command, args, error);
}

/* The new one is where the document wants I/O threads to be. */
static bool add_live(struct domain *d, unsigned id, GError **error)
{
    if (!object(d, "object-add", id, error))
        return false;
    g_autoptr(GArray) threads = domain_iothreads(d, error);
    doc_auto *live = threads ? domain_live(d, error) : NULL;
    cgroup_auto *g = domain_cgroup(d);
    bool ok = live != NULL;
    for (unsigned i = 0; ok && i < threads->len; i++) {
        const struct domain_vcpu *t = &g_array_index(threads, struct domain_vcpu, i);
        ok = t->index != id || domain_tune_thread(d, g, doc_root(live), false, t, error);
    }
    if (!ok)
        (void)object(d, "object-del", id, NULL);
    return ok;
}

static bool remove_live(struct domain *d, unsigned id, GError **error)
{
    g_autofree char *child = g_strdup_printf("iothread%u", id);
    if (!object(d, "object-del", id, error))
        return false;
    cgroup_auto *g = domain_cgroup(d);
    if (g)
        cgroup_remove_child(g, child);
    return true;
}

static GVariant *change(struct manage_call *c, bool add, GError **error)
{
    uint32_t id = tune_u32(c, 1), flags = tune_u32(c, 2), which;
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (!id)
        return manage_null(error, VIR_ERR_INVALID_ARG, "iothread_id in virDomain%sIOThread must not be zero", add ? "Add" : "Del");
    struct domain *d = tune_begin(c, add ? "add iothread" : "delete iothread", flags, &which, error);
    if (!d)
        return NULL;
    bool ok = check(d, which, id, add ? can_add : can_remove, error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || (add ? add_live : remove_live)(d, id, error));
    return tune_end(d, ok && domain_edit(d, which, add ? edit_add : edit_remove, &id, error));
}

static GVariant *add(struct manage_call *c, GError **error) { return change(c, true, error); }
static GVariant *del(struct manage_call *c, GError **error) { return change(c, false, error); }

/* ---- parameters ---- */

static const struct tune_field param_fields[NPARAMS] = {
    { VIR_DOMAIN_IOTHREAD_POLL_MAX_NS, TUNE_U64 }, { VIR_DOMAIN_IOTHREAD_POLL_GROW, TUNE_U32 }, { VIR_DOMAIN_IOTHREAD_POLL_SHRINK, TUNE_U32 },
    { VIR_DOMAIN_IOTHREAD_THREAD_POOL_MIN, TUNE_I32 }, { VIR_DOMAIN_IOTHREAD_THREAD_POOL_MAX, TUNE_I32 } };
static const char *const param_names[NPARAMS] = { "poll-max-ns", "poll-grow", "poll-shrink", "thread-pool-min", "thread-pool-max" };
static const char *const param_attributes[NPARAMS] = { NULL, NULL, NULL, "@thread_pool_min", "@thread_pool_max" };

struct params {
    unsigned id;
    bool given[NPARAMS];
    int64_t value[NPARAMS];
};

static void edit_params(struct el *root, void *opaque)
{
    const struct params *p = opaque;
    domain_iothread_ids(root);
    struct el *e = find_id(root, p->id);
    for (unsigned i = 0; e && i < NPARAMS; i++)
        if (p->given[i] && param_attributes[i])
            el_setf(e, param_attributes[i], "%" G_GINT64_FORMAT, p->value[i]);
}

static bool read_params(GVariant *list, struct params *p, GError **error)
{
    GVariant *values[NPARAMS];
    bool ok = true;
    if (!tune_fields(list, param_fields, NPARAMS, values, error))
        return false;
    for (unsigned i = 0; i < NPARAMS; i++) {
        p->given[i] = values[i] != NULL;
        p->value[i] = !values[i] ? 0 : i == 0 ? (int64_t)MIN(g_variant_get_uint64(values[i]), (guint64)G_MAXINT64) : i < 3 ? (int64_t)g_variant_get_uint32(values[i]) : g_variant_get_int32(values[i]);
        if (ok && p->value[i] > G_MAXINT32)
            ok = manage_fail(error, VIR_ERR_INVALID_ARG, "value of '%s' is out of range [0, %d]", param_fields[i].name, G_MAXINT32);
    }
    tune_fields_clear(values, NPARAMS);
    return ok;
}

static bool set_live(struct domain *d, const struct params *p, GError **error)
{
    g_autofree char *path = g_strdup_printf("/objects/iothread%u", p->id);
    for (unsigned i = 0; i < NPARAMS; i++) {
        if (!p->given[i] || (i > 2 && p->value[i] < 0))
            continue;
        struct json_object *args = json_object_new_object();
        json_object_object_add(args, "path", json_object_new_string(path));
        json_object_object_add(args, "property", json_object_new_string(param_names[i]));
        json_object_object_add(args, "value", json_object_new_int64(p->value[i]));
        if (!tell(d, "qom-set", args, error))
            return false;
    }
    return true;
}

static GVariant *set_params(struct manage_call *c, GError **error)
{
    uint32_t flags = tune_u32(c, 3), which;
    struct params p = { .id = tune_u32(c, 1) };
    g_autoptr(GVariant) list = g_variant_get_child_value(c->args, 2);
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (!p.id)
        return manage_null(error, VIR_ERR_INVALID_ARG, "iothread_id in virDomainSetIOThreadParams must not be zero");
    if (!read_params(list, &p, error))
        return NULL;
    struct domain *d = tune_begin(c, "set iothread parameters", flags, &which, error);
    if (!d)
        return NULL;
    bool ok = true;
    if ((which & VIR_DOMAIN_AFFECT_CONFIG) && (p.given[0] || p.given[1] || p.given[2]))
        ok = manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "configuring persistent polling values is not supported");
    ok = ok && check(d, which, p.id, can_set, error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || set_live(d, &p, error));
    return tune_end(d, ok && domain_edit(d, which, edit_params, &p, error));
}

/* ---- looking ---- */

static GVariant *map_of(const struct cpu_map *m)
{
    struct cpu_map online;
    unsigned bits = CPU_MAP_BITS;
    cpu_map_online(&online);
    while (bits > 8 && !cpu_map_test(&online, bits - 1) && !cpu_map_test(m, bits - 1))
        bits--;
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, m->bits, (bits + 7) / 8, 1);
}

static bool info_live(struct domain *d, GVariantBuilder *b, unsigned *ret_n, GError **error)
{
    g_autoptr(GArray) threads = domain_iothreads(d, error);
    for (unsigned i = 0; threads && i < threads->len; i++) {
        const struct domain_vcpu *t = &g_array_index(threads, struct domain_vcpu, i);
        struct cpu_map m;
        cpu_map_of_thread(&m, t->tid);
        g_variant_builder_add(b, "(u@ay)", t->index, map_of(&m));
        *ret_n += 1;
    }
    return threads != NULL;
}

static void info_config(struct el *root, GVariantBuilder *b, unsigned *ret_n)
{
    domain_iothread_ids(root);
    el_each(t, el_find(root, "iothreadids"), "iothread") {
        uint64_t id = 0;
        struct cpu_map m;
        el_get_u64(t, "@id", &id);
        domain_cpus_of(root, "iothreadpin", "@iothread", (unsigned)id, &m);
        g_variant_builder_add(b, "(u@ay)", (uint32_t)id, map_of(&m));
        *ret_n += 1;
    }
}

static GVariant *get_info(struct manage_call *c, GError **error)
{
    uint32_t flags = tune_u32(c, 1);
    unsigned n = 0;
    bool live;
    domain_auto *d = manage_check_flags(flags, AFFECT, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? tune_document(d, flags, &live, error) : NULL;
    if (!doc)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(uay)"));
    if (!live)
        info_config(doc_root(doc), &b, &n);
    else if (!info_live(d, &b, &n, error)) {
        g_variant_builder_clear(&b);
        return NULL;
    }
    return g_variant_new("(a(uay)u)", &b, n);
}

const struct manage_row domain_rows_iothread[] = {
    { RPC_DOMAIN_GET_IOTHREAD_INFO, get_info },
    { RPC_DOMAIN_ADD_IOTHREAD, add },
    { RPC_DOMAIN_DEL_IOTHREAD, del },
    { RPC_DOMAIN_SET_IOTHREAD_PARAMS, set_params },
    { 0, NULL },
};
