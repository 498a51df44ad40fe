/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/drivers/domain/net/domain_bandwidth.h"

#include <string.h>

#include "manage/core/manage_shape.h"
#include "manage/drivers/domain/stats/domain_stats.h"
#include "manage/drivers/domain/tune/domain_tune.h"

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG };

/* In the order in which clients show them. */
enum { NFIELDS = 7, IN_FIELDS = 4, IN_AVERAGE = 0, IN_FLOOR = 3, OUT_AVERAGE = 4 };
static const struct tune_field fields[NFIELDS] = {
    { VIR_DOMAIN_BANDWIDTH_IN_AVERAGE, TUNE_U32 },  { VIR_DOMAIN_BANDWIDTH_IN_PEAK, TUNE_U32 },  { VIR_DOMAIN_BANDWIDTH_IN_BURST, TUNE_U32 },  { VIR_DOMAIN_BANDWIDTH_IN_FLOOR, TUNE_U32 },
    { VIR_DOMAIN_BANDWIDTH_OUT_AVERAGE, TUNE_U32 }, { VIR_DOMAIN_BANDWIDTH_OUT_PEAK, TUNE_U32 }, { VIR_DOMAIN_BANDWIDTH_OUT_BURST, TUNE_U32 },
};
static const char *const paths[NFIELDS] = { "bandwidth/inbound/@average", "bandwidth/inbound/@peak", "bandwidth/inbound/@burst", "bandwidth/inbound/@floor",
                                            "bandwidth/outbound/@average", "bandwidth/outbound/@peak", "bandwidth/outbound/@burst" };

/* ---- in a document ---- */

bool domain_bandwidth_check(const struct el *nic, GError **error)
{
    const struct el *in = el_find(nic, "bandwidth/inbound"), *out = el_find(nic, "bandwidth/outbound");
    if (in && !el_get(in, "@average") && !el_get(in, "@floor"))
        return manage_fail(error, VIR_ERR_XML_DETAIL, "XML error: 'average' or 'floor' attributes are mandatory for the 'inbound' element");
    if (out && !el_get(out, "@average"))
        return manage_fail(error, VIR_ERR_XML_DETAIL, "XML error: 'average' attribute is mandatory for the 'outbound' element");
    if (out && el_get(out, "@floor"))
        return manage_fail(error, VIR_ERR_XML_DETAIL, "XML error: 'floor' attribute isn't allowed in the 'outbound' element");
    return true;
}

static uint64_t number(const struct el *nic, const char *path)
{
    uint64_t v = 0;
    el_get_u64(nic, path, &v);
    return v;
}

void domain_bandwidth_inherit(struct el *nic, const struct manage_network_place *place)
{
    const struct { const char *path; const struct manage_rate *rate; } rows[] = { { "bandwidth/inbound", &place->in }, { "bandwidth/outbound", &place->out } };
    if (el_find(nic, "bandwidth"))
        return;
    for (unsigned i = 0; i < 2; i++) {
        const struct manage_rate *r = rows[i].rate;
        const struct { const char *key; uint64_t value; } keys[] = { { "average", r->average }, { "peak", r->peak }, { "floor", r->floor }, { "burst", r->burst } };
        for (unsigned k = 0; k < G_N_ELEMENTS(keys); k++) {
            g_autofree char *path = g_strdup_printf("%s/@%s", rows[i].path, keys[k].key);
            if (keys[k].value)
                el_setf(nic, path, "%" G_GUINT64_FORMAT, keys[k].value);
        }
    }
}

bool domain_bandwidth_same(const struct el *a, const struct el *b)
{
    for (unsigned i = 0; i < NFIELDS; i++)
        if (number(a, paths[i]) != number(b, paths[i]))
            return false;
    return true;
}

/* ---- in force ---- */

bool domain_bandwidth_apply(int id, const struct el *nic, GError **error)
{
    struct manage_rate in = manage_rate_of(el_find(nic, "bandwidth/inbound")), out = manage_rate_of(el_find(nic, "bandwidth/outbound"));
    const char *device = el_get(nic, "target/@dev");
    bool host_view = el_is(nic, "@type", "direct");
    if (in.floor)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the interface %s: a guaranteed rate, <inbound floor=>, is not there", el_get(nic, "mac/@address"));
    return !device || manage_shape(device, (unsigned)id, host_view ? &out : &in, host_view ? &in : &out, error);
}

void domain_bandwidth_gone(int id, const struct el *nic)
{
    if (el_find(nic, "bandwidth") && el_get(nic, "target/@dev"))
        manage_shape_gone(el_get(nic, "target/@dev"), (unsigned)id);
}

void domain_bandwidth_gone_all(int id, const struct doc *live)
{
    el_each(nic, live ? el_find(doc_root(live), "devices") : NULL, "interface")
        domain_bandwidth_gone(id, nic);
}

/* ---- virsh domiftune ---- */

struct wish {
    const char *device;
    bool in, out; /* the direction is spoken of */
    uint32_t value[NFIELDS];
};

static bool read_wish(GVariant *params, struct wish *w, GError **error)
{
    GVariant *values[NFIELDS];
    if (!tune_fields(params, fields, NFIELDS, values, error))
        return false;
    for (unsigned i = 0; i < NFIELDS; i++) {
        w->value[i] = values[i] ? g_variant_get_uint32(values[i]) : 0;
        *(i < IN_FIELDS ? &w->in : &w->out) |= values[i] != NULL;
    }
    tune_fields_clear(values, NFIELDS);
    return true;
}

/* By MAC address or name of its device on the host. */
static struct el *find(struct el *root, const char *name)
{
    el_each(nic, el_find(root, "devices"), "interface")
        if (el_is(nic, "target/@dev", name) || !g_ascii_strcasecmp(el_get_or(nic, "mac/@address", ""), name))
            return nic;
    return NULL;
}

static struct el *need(struct doc *doc, const char *name, GError **error)
{
    struct el *nic = find(doc_root(doc), name);
    return nic ? nic : manage_null(error, VIR_ERR_INVALID_ARG, "'%s' is not a known interface", name);
}

/* A direction without an average is without a limit. */
static void change_direction(struct el *nic, const struct wish *w, bool in)
{
    const char *element = in ? "bandwidth/inbound" : "bandwidth/outbound";
    unsigned from = in ? 0 : IN_FIELDS, to = in ? IN_FIELDS : NFIELDS;
    bool limit = w->value[from] || (in && w->value[IN_FLOOR]);
    if (el_find(nic, element))
        el_remove(el_find(nic, element));
    for (unsigned i = from; limit && i < to; i++)
        if (w->value[i])
            el_setf(nic, paths[i], "%u", w->value[i]);
}

static void change(struct el *nic, const struct wish *w)
{
    if (w->in)
        change_direction(nic, w, true);
    if (w->out)
        change_direction(nic, w, false);
    tune_prune(nic, "bandwidth");
}

static void edit(struct el *root, void *opaque)
{
    const struct wish *w = opaque;
    struct el *nic = find(root, w->device);
    if (nic)
        change(nic, w);
}

static bool set_live(struct domain *d, const struct wish *w, GError **error)
{
    doc_auto *live = domain_live(d, error);
    struct el *nic = live ? need(live, w->device, error) : NULL;
    if (!nic)
        return false;
    if (!el_get(nic, "target/@dev"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the interface '%s' of type '%s' has no device on the host whose rate could be limited", w->device,
                           el_get_or(nic, "@type", ""));
    doc_auto *before = doc_copy(live);
    change(nic, w);
    if (domain_bandwidth_apply(d->id, nic, error))
        return domain_edit(d, VIR_DOMAIN_AFFECT_LIVE, edit, (void *)w, error);
    (void)!domain_bandwidth_apply(d->id, find(doc_root(before), w->device), NULL);
    return false;
}

static bool set_both(struct domain *d, const struct wish *w, uint32_t which, GError **error)
{
    doc_auto *defined = which & VIR_DOMAIN_AFFECT_CONFIG ? domain_definition(d, error) : NULL;
    if ((which & VIR_DOMAIN_AFFECT_CONFIG) && (!defined || !need(defined, w->device, error)))
        return false;
    return (!(which & VIR_DOMAIN_AFFECT_LIVE) || set_live(d, w, error)) && domain_edit(d, which & VIR_DOMAIN_AFFECT_CONFIG, edit, (void *)w, error);
}

static GVariant *set(struct manage_call *c, GError **error)
{
    struct wish w = { 0 };
    uint32_t flags = tune_u32(c, 3), which;
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 2);
    g_variant_get_child(c->args, 1, "&s", &w.device);
    if (!manage_check_flags(flags, AFFECT, error) || !read_wish(params, &w, error))
        return NULL;
    struct domain *d = tune_begin(c, "set interface parameters", flags, &which, error);
    return d ? tune_end(d, set_both(d, &w, which, error)) : NULL;
}

static GVariant *get(struct manage_call *c, GError **error)
{
    const char *name;
    int asked;
    bool live;
    uint32_t flags = tune_u32(c, 3);
    g_variant_get_child(c->args, 1, "&s", &name);
    g_variant_get_child(c->args, 2, "i", &asked);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? tune_document(d, flags, &live, error) : NULL;
    const struct el *nic = doc && asked ? need(doc, name, error) : NULL;
    if (!doc || (asked && !nic)) /* who asks how many there are is not asked of what */
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < NFIELDS; i++)
        manage_param_u32(&b, fields[i].name, nic ? (uint32_t)MIN(number(nic, paths[i]), (uint64_t)G_MAXUINT32) : 0);
    return manage_params_reply(&b, asked);
}

const struct manage_row domain_rows_bandwidth[] = {
    { RPC_DOMAIN_SET_INTERFACE_PARAMETERS, set },
    { RPC_DOMAIN_GET_INTERFACE_PARAMETERS, get },
    { 0, NULL },
};
