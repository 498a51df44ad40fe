/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Networks of the test driver, and storage pools where they are handled alike; interfaces. */
#include "manage/drivers/test/test.h"

/* Both kinds by what the procedure works on. */
static enum test_kind kind_of(const struct manage_call *c)
{
    return g_str_has_prefix(c->proc->name, "storage") || g_str_has_suffix(c->proc->name, "storage_pools") ? TEST_POOL :
           g_str_has_suffix(c->proc->name, "interfaces") || g_str_has_prefix(c->proc->name, "interface") ? TEST_INTERFACE : TEST_NETWORK;
}

static bool match(const struct test_object *o, uint32_t flags)
{
    const struct { uint32_t group, mine; } g[] = { { 3, o->active ? 2 : 1 }, { 12, o->persistent ? 4 : 8 }, { 48, o->autostart ? 16 : 32 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(g); i++)
        if ((flags & g[i].group) && !(flags & g[i].mine))
            return false;
    return true;
}

LOCKED(list_all)
{
    int results;
    uint32_t flags;
    g_variant_get(c->args, "(iu)", &results, &flags);
    return test_list(t, kind_of(c), results, flags, match);
}

static int max_arg(struct manage_call *c)
{
    int max;
    g_variant_get_child(c->args, 0, "i", &max);
    return max;
}

LOCKED(names) { return test_names(t, kind_of(c), true, max_arg(c)); }
LOCKED(defined_names) { return test_names(t, kind_of(c), false, max_arg(c)); }
LOCKED(num) { return g_variant_new("(i)", test_count(t, kind_of(c), true)); }
LOCKED(num_defined) { return g_variant_new("(i)", test_count(t, kind_of(c), false)); }

static GVariant *record(struct test_object *o) { return o ? g_variant_new("(@*)", test_record(o)) : NULL; }

LOCKED(lookup) { return record(test_arg(c, t, kind_of(c), error)); }

static const char *xml_arg(struct manage_call *c)
{
    const char *xml;
    g_variant_get_child(c->args, 0, "&s", &xml);
    return xml;
}

LOCKED(define)
{
    struct test_object *o = test_define(t, kind_of(c), xml_arg(c), true, error);
    if (o && o->kind != TEST_INTERFACE)
        test_event(c, o, VIR_NETWORK_EVENT_DEFINED, 0);
    return record(o);
}

LOCKED(create_xml)
{
    struct test_object *o = test_define(t, kind_of(c), xml_arg(c), false, error);
    if (!o || !test_want(o, o->kind, false, error))
        return NULL;
    o->active = true;
    test_event(c, o, VIR_NETWORK_EVENT_STARTED, 0);
    return record(o);
}

LOCKED(create)
{
    struct test_object *o = test_arg(c, t, kind_of(c), error);
    if (!o || !test_want(o, o->kind, false, error))
        return NULL;
    o->active = true;
    if (o->kind != TEST_INTERFACE)
        test_event(c, o, VIR_NETWORK_EVENT_STARTED, 0);
    return manage_void();
}

LOCKED(destroy)
{
    struct test_object *o = test_arg(c, t, kind_of(c), error);
    if (!o || !test_want(o, o->kind, true, error))
        return NULL;
    o->active = false;
    if (o->kind != TEST_INTERFACE)
        test_event(c, o, VIR_NETWORK_EVENT_STOPPED, 0);
    if (!o->persistent)
        test_remove(t, o);
    return manage_void();
}

LOCKED(undefine)
{
    struct test_object *o = test_arg(c, t, kind_of(c), error);
    if (!o || (o->kind == TEST_POOL && !test_want(o, o->kind, false, error)))
        return NULL;
    o->persistent = false;
    if (o->kind != TEST_INTERFACE)
        test_event(c, o, VIR_NETWORK_EVENT_UNDEFINED, 0);
    if (!o->active)
        test_remove(t, o);
    return manage_void();
}

LOCKED(get_xml)
{
    struct test_object *o = test_arg(c, t, kind_of(c), error);
    if (!o)
        return NULL;
    g_autofree char *xml = doc_format(o->def);
    return g_variant_new("(s)", xml);
}

LOCKED(bridge)
{
    struct test_object *o = test_arg(c, t, TEST_NETWORK, error);
    const char *name = o ? el_get(doc_root(o->def), "bridge/@name") : NULL;
    if (!o)
        return NULL;
    return name ? g_variant_new("(s)", name) : manage_null(error, VIR_ERR_INTERNAL_ERROR, "network '%s' does not have a bridge name.", o->name);
}

LOCKED(set_autostart)
{
    struct test_object *o = test_arg(c, t, kind_of(c), error);
    int on;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "i", &on);
    o->autostart = on;
    return manage_void();
}

#define NUMBER(name, expression)                                        \
    LOCKED(name)                                                        \
    {                                                                   \
        struct test_object *o = test_arg(c, t, kind_of(c), error);      \
        return o ? g_variant_new("(i)", (int)(expression)) : NULL;      \
    }
NUMBER(is_active, o->active)
NUMBER(is_persistent, o->persistent)
NUMBER(autostart, o->autostart)

LOCKED(no_leases)
{
    if (!test_arg(c, t, TEST_NETWORK, error))
        return NULL;
    return g_variant_new("(@a(sximsmssumsms)u)", g_variant_new_array(G_VARIANT_TYPE("(sximsmssumsms)"), NULL, 0), 0u);
}

const struct manage_row test_network_rows[] = {
    { RPC_CONNECT_LIST_ALL_NETWORKS, list_all },
    { RPC_CONNECT_LIST_NETWORKS, names },
    { RPC_CONNECT_LIST_DEFINED_NETWORKS, defined_names },
    { RPC_CONNECT_NUM_OF_NETWORKS, num },
    { RPC_CONNECT_NUM_OF_DEFINED_NETWORKS, num_defined },
    { RPC_NETWORK_LOOKUP_BY_NAME, lookup },
    { RPC_NETWORK_LOOKUP_BY_UUID, lookup },
    { RPC_NETWORK_DEFINE_XML, define },
    { RPC_NETWORK_DEFINE_XML_FLAGS, define },
    { RPC_NETWORK_CREATE_XML, create_xml },
    { RPC_NETWORK_CREATE_XML_FLAGS, create_xml },
    { RPC_NETWORK_CREATE, create },
    { RPC_NETWORK_DESTROY, destroy },
    { RPC_NETWORK_UNDEFINE, undefine },
    { RPC_NETWORK_GET_XML_DESC, get_xml },
    { RPC_NETWORK_GET_BRIDGE_NAME, bridge },
    { RPC_NETWORK_GET_AUTOSTART, autostart },
    { RPC_NETWORK_SET_AUTOSTART, set_autostart },
    { RPC_NETWORK_IS_ACTIVE, is_active },
    { RPC_NETWORK_IS_PERSISTENT, is_persistent },
    { RPC_NETWORK_GET_DHCP_LEASES, no_leases },
    { RPC_CONNECT_LIST_ALL_STORAGE_POOLS, list_all },
    { RPC_CONNECT_LIST_STORAGE_POOLS, names },
    { RPC_CONNECT_LIST_DEFINED_STORAGE_POOLS, defined_names },
    { RPC_CONNECT_NUM_OF_STORAGE_POOLS, num },
    { RPC_CONNECT_NUM_OF_DEFINED_STORAGE_POOLS, num_defined },
    { RPC_STORAGE_POOL_LOOKUP_BY_NAME, lookup },
    { RPC_STORAGE_POOL_LOOKUP_BY_UUID, lookup },
    { RPC_STORAGE_POOL_DEFINE_XML, define },
    { RPC_STORAGE_POOL_CREATE_XML, create_xml },
    { RPC_STORAGE_POOL_CREATE, create },
    { RPC_STORAGE_POOL_DESTROY, destroy },
    { RPC_STORAGE_POOL_UNDEFINE, undefine },
    { RPC_STORAGE_POOL_GET_XML_DESC, get_xml },
    { RPC_STORAGE_POOL_GET_AUTOSTART, autostart },
    { RPC_STORAGE_POOL_SET_AUTOSTART, set_autostart },
    { RPC_STORAGE_POOL_IS_ACTIVE, is_active },
    { RPC_STORAGE_POOL_IS_PERSISTENT, is_persistent },
    { RPC_CONNECT_LIST_ALL_INTERFACES, list_all },
    { RPC_CONNECT_LIST_INTERFACES, names },
    { RPC_CONNECT_LIST_DEFINED_INTERFACES, defined_names },
    { RPC_CONNECT_NUM_OF_INTERFACES, num },
    { RPC_CONNECT_NUM_OF_DEFINED_INTERFACES, num_defined },
    { RPC_INTERFACE_LOOKUP_BY_NAME, lookup },
    { RPC_INTERFACE_DEFINE_XML, define },
    { RPC_INTERFACE_CREATE, create },
    { RPC_INTERFACE_DESTROY, destroy },
    { RPC_INTERFACE_UNDEFINE, undefine },
    { RPC_INTERFACE_GET_XML_DESC, get_xml },
    { RPC_INTERFACE_IS_ACTIVE, is_active },
    { 0, NULL },
};
