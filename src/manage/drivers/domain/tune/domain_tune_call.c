/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the calls that tune a domain have in common. */
#include "manage/drivers/domain/tune/domain_tune.h"

uint32_t tune_u32(struct manage_call *c, unsigned i)
{
    uint32_t v;
    g_variant_get_child(c->args, i, "u", &v);
    return v;
}

struct domain *tune_begin(struct manage_call *c, const char *job, uint32_t flags, uint32_t *ret_which, GError **error)
{
    bool live, config;
    struct domain *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    if (domain_begin(d, job, false, error)) {
        if (domain_affect(d, flags, &live, &config, error)) {
            *ret_which = (live ? VIR_DOMAIN_AFFECT_LIVE : 0) | (config ? VIR_DOMAIN_AFFECT_CONFIG : 0);
            return d;
        }
        domain_end(d);
    }
    domain_unref(d);
    return NULL;
}

GVariant *tune_end(struct domain *d, bool ok)
{
    domain_end(d);
    domain_unref(d);
    return ok ? manage_void() : NULL;
}

struct doc *tune_document(struct domain *d, uint32_t flags, bool *ret_live, GError **error)
{
    bool config;
    uint32_t both = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
    if ((flags & both) == both)
        return manage_null(error, VIR_ERR_INVALID_ARG, "flags for the running machine and for the definition exclude each other");
    if (!domain_affect(d, flags & both, ret_live, &config, error))
        return NULL;
    return *ret_live ? domain_live(d, error) : domain_definition(d, error);
}

bool tune_privileged(struct domain *d, const char *what, GError **error)
{
    return d->driver->state->privileged || manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s tuning is not available in session mode", what);
}

void tune_prune(struct el *root, const char *name)
{
    struct el *e = el_find(root, name);
    if (e && !el_child(e, NULL))
        el_remove(e);
}

void tune_event(struct domain *d, GVariantBuilder *b)
{
    GVariant *list = g_variant_ref_sink(g_variant_builder_end(b));
    if (g_variant_n_children(list))
        manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_TUNABLE, d->uuid, sizeof(d->uuid), g_variant_new("(@(sayi)@a(sv))", domain_variant(d), list));
    g_variant_unref(list);
}

/* ---- typed parameters ---- */

static const struct {
    const char *format, *name;
} types[] = { [TUNE_U64] = { "t", "ullong" }, [TUNE_I64] = { "x", "llong" }, [TUNE_U32] = { "u", "uint" }, [TUNE_I32] = { "i", "int" }, [TUNE_STRING] = { "s", "string" } };

static const char *type_name(GVariant *v)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++)
        if (g_str_equal(g_variant_get_type_string(v), types[i].format))
            return types[i].name;
    return g_variant_is_of_type(v, G_VARIANT_TYPE_DOUBLE) ? "double" : "boolean";
}

static bool one_field(const char *name, GVariant *v, const struct tune_field *fields, unsigned n, GVariant **ret, GError **error)
{
    for (unsigned i = 0; i < n; i++) {
        if (!g_str_equal(name, fields[i].name))
            continue;
        if (ret[i])
            return manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' occurs multiple times", name);
        if (!g_str_equal(g_variant_get_type_string(v), types[fields[i].type].format))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "invalid type '%s' for parameter '%s', expected '%s'", type_name(v), name, types[fields[i].type].name);
        ret[i] = g_variant_ref(v);
        return true;
    }
    return manage_fail(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
}

bool tune_fields(GVariant *params, const struct tune_field *fields, unsigned n, GVariant **ret, GError **error)
{
    for (unsigned i = 0; i < n; i++)
        ret[i] = NULL;
    for (gsize k = 0; k < g_variant_n_children(params); k++) {
        const char *name;
        g_autoptr(GVariant) v = NULL;
        g_variant_get_child(params, k, "(&sv)", &name, &v);
        if (!one_field(name, v, fields, n, ret, error)) {
            tune_fields_clear(ret, n);
            return false;
        }
    }
    return true;
}

void tune_fields_clear(GVariant **values, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        g_clear_pointer(&values[i], g_variant_unref);
}
