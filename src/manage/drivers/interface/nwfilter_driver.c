/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Network filters: there are none. Clients that ask (virt-manager, libvirt-tck) get empty lists; defining one is refused. */
#include "manage/core/manage.h"

static GVariant *none(struct manage_call *c, GError **error) { return g_variant_new("(i)", 0); }
static GVariant *no_names(struct manage_call *c, GError **error) { return g_variant_new("(@as)", g_variant_new_strv(NULL, 0)); }
static GVariant *no_filters(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return manage_check_flags(flags, 0, error) ? g_variant_new("(@a(say)u)", g_variant_new_array(G_VARIANT_TYPE("(say)"), NULL, 0), 0) : NULL;
}
static GVariant *no_bindings(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return manage_check_flags(flags, 0, error) ? g_variant_new("(@a(ss)u)", g_variant_new_array(G_VARIANT_TYPE("(ss)"), NULL, 0), 0) : NULL;
}

static GVariant *by_name(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get(c->args, "(&s)", &name);
    return manage_null(error, VIR_ERR_NO_NWFILTER, "Network filter not found: no nwfilter with matching name '%s'", name);
}

static GVariant *by_uuid(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(c->args, 0);
    gsize size;
    const uint8_t *uuid = g_variant_get_fixed_array(v, &size, 1);
    char text[37] = "";
    if (size == 16)
        manage_uuid_format(uuid, text);
    return manage_null(error, VIR_ERR_NO_NWFILTER, "Network filter not found: no nwfilter with matching uuid '%s'", text);
}

static GVariant *by_record(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) record = g_variant_get_child_value(c->args, 0);
    const char *name;
    g_variant_get_child(record, 0, "&s", &name);
    return manage_null(error, VIR_ERR_NO_NWFILTER, "Network filter not found: no nwfilter with matching name '%s'", name);
}

static GVariant *no_binding(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_NWFILTER_BINDING, "Network filter binding not found: network filters are not done here");
}

static GVariant *refuse(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_SUPPORT,
                       "this function is not supported by the connection driver: %s: network filters are not done here; use nftables rules on the host, or a network of its own",
                       c->proc->name);
}

static const struct manage_row rows[] = {
    { RPC_CONNECT_NUM_OF_NWFILTERS, none },
    { RPC_CONNECT_LIST_NWFILTERS, no_names },
    { RPC_CONNECT_LIST_ALL_NWFILTERS, no_filters },
    { RPC_CONNECT_LIST_ALL_NWFILTER_BINDINGS, no_bindings },
    { RPC_NWFILTER_LOOKUP_BY_NAME, by_name },
    { RPC_NWFILTER_LOOKUP_BY_UUID, by_uuid },
    { RPC_NWFILTER_GET_XML_DESC, by_record },
    { RPC_NWFILTER_UNDEFINE, by_record },
    { RPC_NWFILTER_DEFINE_XML, refuse },
    { RPC_NWFILTER_DEFINE_XML_FLAGS, refuse },
    { RPC_NWFILTER_BINDING_LOOKUP_BY_PORT_DEV, no_binding },
    { RPC_NWFILTER_BINDING_GET_XML_DESC, no_binding },
    { RPC_NWFILTER_BINDING_DELETE, no_binding },
    { RPC_NWFILTER_BINDING_CREATE_XML, refuse },
    { 0, NULL },
};
const struct manage_driver manage_driver_nwfilter = { .name = "nwfilter", .rows = rows };
