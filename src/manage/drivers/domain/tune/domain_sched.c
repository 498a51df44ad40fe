/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shares and quotas of processor time (virsh schedinfo). */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

enum {
    AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG,
    PERIOD_MIN = 1000, PERIOD_MAX = 1000000, QUOTA_MIN = 1000, SHARES_MIN = 2, SHARES_MAX = 262144,
};
#define QUOTA_MAX INT64_C(17592186044415) /* 2^64 / 2^20 ns: the kernel's limit in microseconds */

enum scope { SHARES, VCPU, EMULATOR, GLOBAL, IOTHREAD };
enum { NFIELDS = 9 };

/* In the order in which clients show them; a period stands before its quota. */
static const struct tune_field fields[NFIELDS] = {
    { VIR_DOMAIN_SCHEDULER_CPU_SHARES, TUNE_U64 }, { VIR_DOMAIN_SCHEDULER_VCPU_PERIOD, TUNE_U64 }, { VIR_DOMAIN_SCHEDULER_VCPU_QUOTA, TUNE_I64 },
    { VIR_DOMAIN_SCHEDULER_EMULATOR_PERIOD, TUNE_U64 }, { VIR_DOMAIN_SCHEDULER_EMULATOR_QUOTA, TUNE_I64 }, { VIR_DOMAIN_SCHEDULER_GLOBAL_PERIOD, TUNE_U64 },
    { VIR_DOMAIN_SCHEDULER_GLOBAL_QUOTA, TUNE_I64 }, { VIR_DOMAIN_SCHEDULER_IOTHREAD_PERIOD, TUNE_U64 }, { VIR_DOMAIN_SCHEDULER_IOTHREAD_QUOTA, TUNE_I64 },
};
static const struct {
    enum scope scope;
    const char *path, *event;
} rows[NFIELDS] = {
    { SHARES, "cputune/shares", VIR_DOMAIN_TUNABLE_CPU_CPU_SHARES }, { VCPU, "cputune/period", VIR_DOMAIN_TUNABLE_CPU_VCPU_PERIOD }, { VCPU, "cputune/quota", VIR_DOMAIN_TUNABLE_CPU_VCPU_QUOTA },
    { EMULATOR, "cputune/emulator_period", VIR_DOMAIN_TUNABLE_CPU_EMULATOR_PERIOD }, { EMULATOR, "cputune/emulator_quota", VIR_DOMAIN_TUNABLE_CPU_EMULATOR_QUOTA },
    { GLOBAL, "cputune/global_period", VIR_DOMAIN_TUNABLE_CPU_GLOBAL_PERIOD }, { GLOBAL, "cputune/global_quota", VIR_DOMAIN_TUNABLE_CPU_GLOBAL_QUOTA },
    { IOTHREAD, "cputune/iothread_period", VIR_DOMAIN_TUNABLE_CPU_IOTHREAD_PERIOD }, { IOTHREAD, "cputune/iothread_quota", VIR_DOMAIN_TUNABLE_CPU_IOTHREAD_QUOTA },
};

/* What a setter was given. */
struct wish {
    bool given[NFIELDS];
    int64_t value[NFIELDS];
    uint64_t shares_live; /* what the kernel made of it */
    bool live;
};

static bool check_ranges(struct wish *w, GError **error)
{
    if (w->given[0] && w->value[0] && (w->value[0] < SHARES_MIN || w->value[0] > SHARES_MAX))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "shares '%" G_GINT64_FORMAT "' must be in range [%d, %d]", w->value[0], SHARES_MIN, SHARES_MAX);
    for (unsigned i = 1; i < NFIELDS; i++) {
        bool period = fields[i].type == TUNE_U64;
        int64_t low = period ? PERIOD_MIN : QUOTA_MIN, high = period ? PERIOD_MAX : QUOTA_MAX, v = w->value[i];
        if (!period && v < 0)
            w->value[i] = -1;
        if (w->given[i] && v != 0 && !(v < 0 && !period) && (v < low || v > high))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "value of '%s' is out of range [%" G_GINT64_FORMAT ", %" G_GINT64_FORMAT "]", fields[i].name, low, high);
    }
    return true;
}

static bool read_wish(GVariant *params, struct wish *w, GError **error)
{
    GVariant *values[NFIELDS];
    *w = (struct wish){ .live = false };
    if (!tune_fields(params, fields, NFIELDS, values, error))
        return false;
    for (unsigned i = 0; i < NFIELDS; i++) {
        w->given[i] = values[i] != NULL;
        if (values[i] && fields[i].type == TUNE_U64)
            w->value[i] = (int64_t)MIN(g_variant_get_uint64(values[i]), (guint64)G_MAXINT64);
        else if (values[i])
            w->value[i] = g_variant_get_int64(values[i]);
    }
    tune_fields_clear(values, NFIELDS);
    return check_ranges(w, error);
}

/* ---- a running machine ---- */

/* Groups of the threads of a kind: "vcpu0", ... A NULL-terminated list; NULL: error. */
static char **children(struct domain *d, enum scope scope, GError **error)
{
    g_autoptr(GArray) threads = scope == VCPU ? domain_vcpu_threads(d, error) : scope == IOTHREAD ? domain_iothreads(d, error) : g_array_new(FALSE, FALSE, 1);
    if (!threads)
        return NULL;
    GPtrArray *list = g_ptr_array_new();
    for (unsigned i = 0; i < threads->len; i++)
        g_ptr_array_add(list, g_strdup_printf(scope == VCPU ? "vcpu%u" : "iothread%u", g_array_index(threads, struct domain_vcpu, i).index));
    if (scope == EMULATOR)
        g_ptr_array_add(list, g_strdup("emulator"));
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}

static bool set_quota(struct domain *d, struct cgroup *g, enum scope scope, uint64_t period, int64_t quota, GError **error)
{
    if (!period && !quota)
        return true;
    if (scope == GLOBAL)
        return cgroup_set_bandwidth(g, NULL, period, quota, error);
    g_auto(GStrv) list = children(d, scope, error);
    for (char **child = list; child && *child; child++)
        if (!cgroup_set_bandwidth(g, *child, period, quota, error))
            return false;
    return list != NULL;
}

static bool set_live(struct domain *d, struct wish *w, GError **error)
{
    cgroup_auto *g = domain_cgroup_need(d, CGROUP_CPU, error);
    if (!g)
        return false;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    bool ok = !w->given[0] || !w->value[0] || cgroup_set_shares(g, (uint64_t)w->value[0], error);
    if (ok && w->given[0] && w->value[0] && cgroup_get_shares(g, &w->shares_live))
        manage_param_u64(&b, rows[0].event, w->shares_live);
    for (unsigned i = 1; ok && i < NFIELDS; i++) {
        bool period = fields[i].type == TUNE_U64;
        if (!w->given[i] || !w->value[i])
            continue;
        ok = set_quota(d, g, rows[i].scope, period ? (uint64_t)w->value[i] : 0, period ? 0 : w->value[i], error);
        if (ok && period)
            manage_param_u64(&b, rows[i].event, (uint64_t)w->value[i]);
        else if (ok)
            manage_param(&b, rows[i].event, g_variant_new_int64(w->value[i]));
    }
    tune_event(d, &b);
    return ok;
}

static void edit(struct el *root, void *opaque)
{
    const struct wish *w = opaque;
    for (unsigned i = 0; i < NFIELDS; i++) {
        int64_t v = i == 0 && w->live && w->shares_live ? (int64_t)w->shares_live : w->value[i];
        if (w->given[i] && v)
            el_setf(root, rows[i].path, "%" G_GINT64_FORMAT, v);
        else if (w->given[i] && !w->live)
            el_set(root, rows[i].path, NULL);
    }
    tune_prune(root, "cputune");
}

static GVariant *set_with(struct manage_call *c, uint32_t flags, GError **error)
{
    struct wish w;
    uint32_t which;
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 1);
    if (!manage_check_flags(flags, AFFECT, error) || !read_wish(params, &w, error))
        return NULL;
    struct domain *d = tune_begin(c, "set scheduler parameters", flags, &which, error);
    if (!d)
        return NULL;
    bool ok = tune_privileged(d, "CPU", error);
    if (ok && (which & VIR_DOMAIN_AFFECT_LIVE)) {
        ok = set_live(d, &w, error);
        w.live = true;
        ok = ok && domain_edit(d, VIR_DOMAIN_AFFECT_LIVE, edit, &w, error);
        w.live = false;
    }
    return tune_end(d, ok && domain_edit(d, which & VIR_DOMAIN_AFFECT_CONFIG, edit, &w, error));
}

static GVariant *set_parameters(struct manage_call *c, GError **error) { return set_with(c, 0, error); }
static GVariant *set_parameters_flags(struct manage_call *c, GError **error) { return set_with(c, tune_u32(c, 2), error); }

/* ---- reading ---- */

/* What the kernel has: of the first thread of each kind, they are all alike; of the whole machine where there is none of a kind. */
static bool read_live(struct domain *d, int64_t *values, GError **error)
{
    cgroup_auto *g = domain_cgroup_need(d, CGROUP_CPU, error);
    uint64_t shares = 0;
    if (!g || (!cgroup_get_shares(g, &shares) && !manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the CPU shares of domain '%s' cannot be read", d->name)))
        return false;
    values[0] = (int64_t)shares;
    for (unsigned i = 1; i < NFIELDS; i += 2) {
        g_auto(GStrv) list = rows[i].scope == GLOBAL ? NULL : children(d, rows[i].scope, error);
        uint64_t period = 0;
        int64_t quota = 0;
        if (rows[i].scope != GLOBAL && !list)
            return false;
        (void)cgroup_get_bandwidth(g, list ? *list : NULL, &period, &quota);
        values[i] = (int64_t)period;
        values[i + 1] = quota;
    }
    return true;
}

static void read_document(const struct el *root, int64_t *values)
{
    for (unsigned i = 0; i < NFIELDS; i++) {
        const char *text = el_get(root, rows[i].path);
        values[i] = text ? g_ascii_strtoll(text, NULL, 10) : 0;
    }
}

static GVariant *get_with(struct manage_call *c, uint32_t flags, GError **error)
{
    int asked;
    bool live;
    int64_t values[NFIELDS] = { 0 };
    g_variant_get_child(c->args, 1, "i", &asked);
    if (!manage_check_flags(flags, AFFECT | VIR_TYPED_PARAM_STRING_OKAY, error))
        return NULL;
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !tune_privileged(d, "CPU", error))
        return NULL;
    doc_auto *doc = tune_document(d, flags, &live, error);
    if (!doc || (live && !read_live(d, values, error)))
        return NULL;
    if (!live)
        read_document(doc_root(doc), values);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < NFIELDS && (int)i < asked; i++)
        manage_param(&b, fields[i].name, fields[i].type == TUNE_U64 ? g_variant_new_uint64((uint64_t)values[i]) : g_variant_new_int64(values[i]));
    return g_variant_new("(a(sv))", &b);
}

static GVariant *get_parameters(struct manage_call *c, GError **error) { return get_with(c, 0, error); }
static GVariant *get_parameters_flags(struct manage_call *c, GError **error) { return get_with(c, tune_u32(c, 2), error); }

static GVariant *get_type(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !tune_privileged(d, "CPU", error))
        return NULL;
    g_mutex_lock(&d->lock);
    bool running = d->id >= 0;
    g_mutex_unlock(&d->lock);
    cgroup_auto *g = running ? domain_cgroup_need(d, CGROUP_CPU, error) : NULL;
    return running && !g ? NULL : g_variant_new("(si)", "posix", NFIELDS);
}

const struct manage_row domain_rows_sched[] = {
    { RPC_DOMAIN_GET_SCHEDULER_TYPE, get_type },
    { RPC_DOMAIN_GET_SCHEDULER_PARAMETERS, get_parameters },
    { RPC_DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS, get_parameters_flags },
    { RPC_DOMAIN_SET_SCHEDULER_PARAMETERS, set_parameters },
    { RPC_DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS, set_parameters_flags },
    { 0, NULL },
};
