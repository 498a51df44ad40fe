/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits of memory and the nodes that it comes from (virsh memtune, numatune). */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, NLIMITS = 3 };

/* ---- memory ---- */

static const struct tune_field limit_fields[NLIMITS] = {
    { VIR_DOMAIN_MEMORY_HARD_LIMIT, TUNE_U64 }, { VIR_DOMAIN_MEMORY_SOFT_LIMIT, TUNE_U64 }, { VIR_DOMAIN_MEMORY_SWAP_HARD_LIMIT, TUNE_U64 } };
static const char *const limit_paths[NLIMITS] = { [CGROUP_HARD] = "memtune/hard_limit", [CGROUP_SOFT] = "memtune/soft_limit", [CGROUP_SWAP] = "memtune/swap_hard_limit" };

struct limits {
    bool given[NLIMITS];
    uint64_t kib[NLIMITS];
};

static void limits_of(const struct el *root, uint64_t *kib)
{
    for (unsigned i = 0; i < NLIMITS; i++) {
        uint64_t bytes;
        kib[i] = el_get_bytes(root, limit_paths[i], "KiB", &bytes) ? bytes >> 10 : CGROUP_UNLIMITED;
    }
}

static void edit_limits(struct el *root, void *opaque)
{
    const struct limits *l = opaque;
    for (unsigned i = 0; i < NLIMITS; i++) {
        g_autofree char *unit = g_strconcat(limit_paths[i], "/@unit", NULL);
        if (!l->given[i])
            continue;
        el_set(root, limit_paths[i], NULL);
        if (l->kib[i] < CGROUP_UNLIMITED) {
            el_setf(root, limit_paths[i], "%" G_GUINT64_FORMAT, l->kib[i]);
            el_set(root, unit, "KiB");
        }
    }
    tune_prune(root, "memtune");
}

/* What is given over what the document has: memory and swap together are no less than memory alone. */
static bool check_limits(const struct el *root, const struct limits *l, GError **error)
{
    uint64_t kib[NLIMITS];
    limits_of(root, kib);
    for (unsigned i = 0; i < NLIMITS; i++)
        if (l->given[i])
            kib[i] = l->kib[i];
    return !(l->given[CGROUP_SWAP] || (l->given[CGROUP_HARD] && kib[CGROUP_SWAP] < CGROUP_UNLIMITED)) || kib[CGROUP_HARD] <= kib[CGROUP_SWAP] || kib[CGROUP_HARD] == CGROUP_UNLIMITED ||
           manage_fail(error, VIR_ERR_INVALID_ARG, "memory hard_limit tunable value must be lower than or equal to swap_hard_limit");
}

/* The kernel holds the same order at each step: who grows goes in front. */
static bool set_limits(struct domain *d, const struct limits *l, GError **error)
{
    static const unsigned up[] = { CGROUP_SWAP, CGROUP_HARD, CGROUP_SOFT }, down[] = { CGROUP_HARD, CGROUP_SOFT, CGROUP_SWAP };
    uint64_t now;
    cgroup_auto *g = domain_cgroup_need(d, CGROUP_MEMORY, error);
    if (!g)
        return false;
    bool grow = l->given[CGROUP_SWAP] && !cgroup_is_v2(g, CGROUP_MEMORY) && cgroup_get_memory(g, CGROUP_SWAP, &now) && l->kib[CGROUP_SWAP] > now;
    const unsigned *order = grow ? up : down;
    for (unsigned i = 0; i < NLIMITS; i++)
        if (l->given[order[i]] && !cgroup_set_memory(g, order[i], l->kib[order[i]], error))
            return false;
    return true;
}

static bool change_limits(struct domain *d, uint32_t which, struct limits *l, GError **error)
{
    doc_auto *live = which & VIR_DOMAIN_AFFECT_LIVE ? domain_live(d, error) : NULL;
    if ((which & VIR_DOMAIN_AFFECT_LIVE) && !(live && check_limits(doc_root(live), l, error)))
        return false;
    doc_auto *config = which & VIR_DOMAIN_AFFECT_CONFIG ? domain_definition(d, error) : NULL;
    if ((which & VIR_DOMAIN_AFFECT_CONFIG) && !(config && check_limits(doc_root(config), l, error)))
        return false;
    return (!live || set_limits(d, l, error)) && domain_edit(d, which, edit_limits, l, error);
}

static GVariant *set_memory(struct manage_call *c, GError **error)
{
    GVariant *values[NLIMITS];
    struct limits l;
    uint32_t flags = tune_u32(c, 2), which;
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 1);
    if (!manage_check_flags(flags, AFFECT, error) || !tune_fields(params, limit_fields, NLIMITS, values, error))
        return NULL;
    for (unsigned i = 0; i < NLIMITS; i++) {
        l.given[i] = values[i] != NULL;
        l.kib[i] = values[i] ? MIN(g_variant_get_uint64(values[i]), CGROUP_UNLIMITED) : 0;
    }
    tune_fields_clear(values, NLIMITS);
    struct domain *d = tune_begin(c, "set memory parameters", flags, &which, error);
    return d ? tune_end(d, tune_privileged(d, "Memory", error) && change_limits(d, which, &l, error)) : NULL;
}

static GVariant *get_memory(struct manage_call *c, GError **error)
{
    int asked;
    bool live;
    uint64_t kib[NLIMITS];
    uint32_t flags = tune_u32(c, 2);
    g_variant_get_child(c->args, 1, "i", &asked);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !tune_privileged(d, "Memory", error))
        return NULL;
    doc_auto *doc = tune_document(d, flags, &live, error);
    if (!doc)
        return NULL;
    limits_of(doc_root(doc), kib);
    cgroup_auto *g = live ? domain_cgroup_need(d, CGROUP_MEMORY, error) : NULL;
    if (live && !g)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < NLIMITS; i++) {
        if (live && !cgroup_get_memory(g, i, &kib[i])) /* a kernel that does not count swap */
            kib[i] = CGROUP_UNLIMITED;
        if (!asked || (int)i < asked)
            manage_param_u64(&b, limit_fields[i].name, kib[i]);
    }
    return manage_params_reply(&b, asked);
}

/* ---- nodes ---- */

static const char *const modes[] = { "strict", "preferred", "interleave", "restrictive" }; /* virDomainNumatuneMemMode */
static const struct tune_field numa_fields[] = { { VIR_DOMAIN_NUMA_MODE, TUNE_I32 }, { VIR_DOMAIN_NUMA_NODESET, TUNE_STRING } };

struct numa {
    int mode; /* -1: not given */
    char *nodes;
};

static int mode_of(const struct el *root)
{
    const char *mode = el_get(root, "numatune/memory/@mode");
    for (unsigned i = 0; mode && i < G_N_ELEMENTS(modes); i++)
        if (g_str_equal(mode, modes[i]))
            return (int)i;
    return VIR_DOMAIN_NUMATUNE_MEM_STRICT;
}

static void edit_numa(struct el *root, void *opaque)
{
    const struct numa *n = opaque;
    if (n->mode >= 0)
        el_set(root, "numatune/memory/@mode", modes[n->mode]);
    if (!el_get(root, "numatune/memory/@mode"))
        el_set(root, "numatune/memory/@mode", modes[VIR_DOMAIN_NUMATUNE_MEM_STRICT]);
    if (n->nodes) {
        el_set(root, "numatune/memory/@nodeset", n->nodes);
        el_set(root, "numatune/memory/@placement", NULL);
    }
}

/* The children have the threads that touch memory; memory that is there moves along. */
static bool set_nodes(struct domain *d, const char *nodes, GError **error)
{
    cgroup_auto *g = domain_cgroup_need(d, CGROUP_CPUSET, error);
    g_autoptr(GArray) vcpus = g ? domain_vcpu_threads(d, error) : NULL, iothreads = vcpus ? domain_iothreads(d, error) : NULL;
    if (!iothreads || !cgroup_set_mems(g, "emulator", nodes, error))
        return false;
    for (unsigned i = 0; i < vcpus->len + iothreads->len; i++) {
        bool vcpu = i < vcpus->len;
        g_autofree char *child = g_strdup_printf(vcpu ? "vcpu%u" : "iothread%u", g_array_index(vcpu ? vcpus : iothreads, struct domain_vcpu, vcpu ? i : i - vcpus->len).index);
        if (!cgroup_set_mems(g, child, nodes, error))
            return false;
    }
    return true;
}

static bool set_numa_live(struct domain *d, const struct numa *n, GError **error)
{
    struct cpu_map want, have;
    doc_auto *live = domain_live(d, error);
    if (!live)
        return false;
    const struct el *memory = el_find(doc_root(live), "numatune/memory");
    int mode = mode_of(doc_root(live));
    if (n->mode >= 0 && n->mode != mode)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "can't change numatune mode for running domain");
    if (!n->nodes)
        return true;
    if (memory && mode != VIR_DOMAIN_NUMATUNE_MEM_RESTRICTIVE) /* its memory has been bound to nodes */
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "change of nodeset for running domain requires restrictive numa mode");
    cpu_map_nodes(&have);
    if (cpu_map_parse(&want, n->nodes) && !cpu_map_subset(&want, &have))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the nodes '%s' are not all there", n->nodes);
    return set_nodes(d, n->nodes, error);
}

static bool check_numa(struct domain *d, uint32_t which, const struct numa *n, GError **error)
{
    doc_auto *config = which & VIR_DOMAIN_AFFECT_CONFIG ? domain_definition(d, error) : NULL;
    if (!(which & VIR_DOMAIN_AFFECT_CONFIG))
        return true;
    return config && (n->nodes || el_get(doc_root(config), "numatune/memory/@nodeset") ||
                      manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "nodeset for NUMA memory tuning must be set if 'placement' is 'static'"));
}

static bool read_numa(GVariant *params, struct numa *n, GError **error)
{
    GVariant *values[2];
    struct cpu_map m;
    if (!tune_fields(params, numa_fields, 2, values, error))
        return false;
    bool ok = true;
    n->mode = values[0] ? g_variant_get_int32(values[0]) : -1;
    if (values[0] && (n->mode < 0 || n->mode >= (int)G_N_ELEMENTS(modes)))
        ok = manage_fail(error, VIR_ERR_INVALID_ARG, "unsupported numatune mode: '%d'", n->mode);
    const char *text = values[1] ? g_variant_get_string(values[1], NULL) : NULL;
    if (ok && text && !cpu_map_parse(&m, text))
        ok = manage_fail(error, VIR_ERR_INVALID_ARG, "Failed to parse bitmap '%s'", text);
    if (ok && text)
        n->nodes = cpu_map_format(&m);
    tune_fields_clear(values, 2);
    return ok;
}

static GVariant *set_numa(struct manage_call *c, GError **error)
{
    uint32_t flags = tune_u32(c, 2), which;
    struct numa n = { -1, NULL };
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 1);
    if (!manage_check_flags(flags, AFFECT, error) || !read_numa(params, &n, error))
        return NULL;
    G_GNUC_UNUSED g_autofree char *nodes = n.nodes;
    struct domain *d = tune_begin(c, "set numa parameters", flags, &which, error);
    if (!d)
        return NULL;
    bool ok = tune_privileged(d, "NUMA", error) && check_numa(d, which, &n, error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || set_numa_live(d, &n, error));
    return tune_end(d, ok && domain_edit(d, which, edit_numa, &n, error));
}

static GVariant *get_numa(struct manage_call *c, GError **error)
{
    int asked;
    bool live;
    uint32_t flags = tune_u32(c, 2);
    g_variant_get_child(c->args, 1, "i", &asked);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? tune_document(d, flags, &live, error) : NULL;
    if (!doc)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    manage_param_i32(&b, VIR_DOMAIN_NUMA_MODE, mode_of(doc_root(doc)));
    if (!asked || asked > 1)
        manage_param_string(&b, VIR_DOMAIN_NUMA_NODESET, el_get_or(doc_root(doc), "numatune/memory/@nodeset", ""));
    return manage_params_reply(&b, asked);
}

const struct manage_row domain_rows_limits[] = {
    { RPC_DOMAIN_SET_MEMORY_PARAMETERS, set_memory },
    { RPC_DOMAIN_GET_MEMORY_PARAMETERS, get_memory },
    { RPC_DOMAIN_SET_NUMA_PARAMETERS, set_numa },
    { RPC_DOMAIN_GET_NUMA_PARAMETERS, get_numa },
    { 0, NULL },
};
