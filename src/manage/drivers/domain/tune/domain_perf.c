/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events that the host's processors count (virsh perf): none is counted, and each is told to be off. */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

static const char *const events[] = {
    VIR_PERF_PARAM_CMT, VIR_PERF_PARAM_MBMT, VIR_PERF_PARAM_MBML, VIR_PERF_PARAM_CPU_CYCLES, VIR_PERF_PARAM_INSTRUCTIONS, VIR_PERF_PARAM_CACHE_REFERENCES, VIR_PERF_PARAM_CACHE_MISSES,
    VIR_PERF_PARAM_BRANCH_INSTRUCTIONS, VIR_PERF_PARAM_BRANCH_MISSES, VIR_PERF_PARAM_BUS_CYCLES, VIR_PERF_PARAM_STALLED_CYCLES_FRONTEND, VIR_PERF_PARAM_STALLED_CYCLES_BACKEND,
    VIR_PERF_PARAM_REF_CPU_CYCLES, VIR_PERF_PARAM_CPU_CLOCK, VIR_PERF_PARAM_TASK_CLOCK, VIR_PERF_PARAM_PAGE_FAULTS, VIR_PERF_PARAM_CONTEXT_SWITCHES, VIR_PERF_PARAM_CPU_MIGRATIONS,
    VIR_PERF_PARAM_PAGE_FAULTS_MIN, VIR_PERF_PARAM_PAGE_FAULTS_MAJ, VIR_PERF_PARAM_ALIGNMENT_FAULTS, VIR_PERF_PARAM_EMULATION_FAULTS,
};

static GVariant *get_events(struct manage_call *c, GError **error)
{
    bool live;
    uint32_t flags = tune_u32(c, 1);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? tune_document(d, flags, &live, error) : NULL;
    if (!doc)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++) {
        bool on = false;
        el_each(e, el_find(doc_root(doc), "perf"), "event")
            on |= el_is(e, "@name", events[i]) && el_is(e, "@enabled", "yes");
        manage_param_bool(&b, events[i], on);
    }
    return g_variant_new("(a(sv))", &b);
}

static bool known(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++)
        if (g_str_equal(name, events[i]))
            return true;
    return false;
}

static void edit_off(struct el *root, void *opaque)
{
    GVariant *params = opaque;
    for (gsize i = 0; i < g_variant_n_children(params); i++) {
        const char *name;
        struct el *perf = el_find(root, "perf"), *event = NULL;
        g_variant_get_child(params, i, "(&sv)", &name, NULL);
        perf = perf ? perf : el_add(root, "perf");
        el_each(e, perf, "event")
            if (el_is(e, "@name", name))
                event = e;
        event = event ? event : el_add(perf, "event");
        el_set(event, "@name", name);
        el_set(event, "@enabled", "no");
    }
}

/* Switching off what is off is fine, and stands in the document from then on. */
static GVariant *set_events(struct manage_call *c, GError **error)
{
    uint32_t which, flags = tune_u32(c, 2);
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 1);
    struct domain *d = manage_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, error) ? tune_begin(c, "set perf events", flags, &which, error) : NULL;
    bool ok = d != NULL;
    for (gsize i = 0; ok && i < g_variant_n_children(params); i++) {
        const char *name;
        g_autoptr(GVariant) v = NULL;
        g_variant_get_child(params, i, "(&sv)", &name, &v);
        if (!known(name) || !g_variant_is_of_type(v, G_VARIANT_TYPE_BOOLEAN))
            ok = manage_fail(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
        else if (g_variant_get_boolean(v))
            ok = manage_fail(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "unable to enable host cpu perf event for %s: events of the processors are not counted", name);
    }
    return d ? tune_end(d, ok && domain_edit(d, which, edit_off, params, error)) : NULL;
}

const struct manage_row domain_rows_perf[] = {
    { RPC_DOMAIN_GET_PERF_EVENTS, get_events },
    { RPC_DOMAIN_SET_PERF_EVENTS, set_events },
    { 0, NULL },
};
