/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The procedures that work on networks, one row each; those on parts of one are in network_parts.c. */
#include <libvirt/libvirt.h>

#include "manage/drivers/network/network_calls.h"

/* ---- lists ---- */

static bool wanted(struct seen s, uint32_t flags)
{
    static const uint32_t state = VIR_CONNECT_LIST_NETWORKS_ACTIVE | VIR_CONNECT_LIST_NETWORKS_INACTIVE,
                          kept = VIR_CONNECT_LIST_NETWORKS_PERSISTENT | VIR_CONNECT_LIST_NETWORKS_TRANSIENT,
                          start = VIR_CONNECT_LIST_NETWORKS_AUTOSTART | VIR_CONNECT_LIST_NETWORKS_NO_AUTOSTART;
    uint32_t has = (s.active ? VIR_CONNECT_LIST_NETWORKS_ACTIVE : VIR_CONNECT_LIST_NETWORKS_INACTIVE) |
                   (s.persistent ? VIR_CONNECT_LIST_NETWORKS_PERSISTENT : VIR_CONNECT_LIST_NETWORKS_TRANSIENT) |
                   (s.autostart ? VIR_CONNECT_LIST_NETWORKS_AUTOSTART : VIR_CONNECT_LIST_NETWORKS_NO_AUTOSTART);
    return (!(flags & state) || (flags & has & state)) && (!(flags & kept) || (flags & has & kept)) && (!(flags & start) || (flags & has & start));
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    int need = int_arg(c, 0);
    uint32_t flags = uint_arg(c, 1);
    if (!manage_check_flags(flags, 63, error))
        return NULL;
    g_autoptr(GPtrArray) all = network_all(driver_of(c));
    GVariantBuilder b;
    unsigned n = 0;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(say)"));
    for (unsigned i = 0; i < all->len; i++) {
        if (!wanted(look(all->pdata[i]), flags))
            continue;
        n++;
        if (need)
            g_variant_builder_add_value(&b, network_variant(all->pdata[i]));
    }
    return g_variant_new("(a(say)u)", &b, n);
}

static GVariant *count(struct manage_call *c, bool active)
{
    g_autoptr(GPtrArray) all = network_all(driver_of(c));
    int n = 0;
    for (unsigned i = 0; i < all->len; i++)
        n += look(all->pdata[i]).active == active;
    return g_variant_new("(i)", n);
}

static GVariant *names(struct manage_call *c, bool active)
{
    int max = int_arg(c, 0);
    g_autoptr(GPtrArray) all = network_all(driver_of(c));
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < all->len && max > 0; i++) {
        if (look(all->pdata[i]).active != active)
            continue;
        g_variant_builder_add(&b, "s", ((struct network *)all->pdata[i])->name);
        max--;
    }
    return g_variant_new("(as)", &b);
}

static GVariant *num_active(struct manage_call *c, GError **error) { return count(c, true); }
static GVariant *num_defined(struct manage_call *c, GError **error) { return count(c, false); }
static GVariant *list_active(struct manage_call *c, GError **error) { return names(c, true); }
static GVariant *list_defined(struct manage_call *c, GError **error) { return names(c, false); }

static GVariant *lookup_name(struct manage_call *c, GError **error)
{
    network_auto *n = network_by_name(driver_of(c), string_arg(c, 0), error);
    return n ? g_variant_new("(@(say))", network_variant(n)) : NULL;
}

static GVariant *lookup_uuid(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(c->args, 0);
    gsize size;
    const uint8_t *uuid = g_variant_get_fixed_array(v, &size, 1);
    network_auto *n = size == 16 ? network_by_uuid(driver_of(c), uuid, NULL, error) : manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
    return n ? g_variant_new("(@(say))", network_variant(n)) : NULL;
}

/* ---- reading one ---- */

static GVariant *is_active(struct manage_call *c, GError **error)
{
    network_auto *n = network_of(c, error);
    return n ? g_variant_new("(i)", look(n).active) : NULL;
}

static GVariant *is_persistent(struct manage_call *c, GError **error)
{
    network_auto *n = network_of(c, error);
    return n ? g_variant_new("(i)", look(n).persistent) : NULL;
}

static GVariant *get_autostart(struct manage_call *c, GError **error)
{
    network_auto *n = network_of(c, error);
    return n ? g_variant_new("(i)", look(n).autostart) : NULL;
}

static GVariant *bridge_name(struct manage_call *c, GError **error)
{
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_mutex_lock(&n->lock);
    const struct doc *d = n->live ? n->live : n->defined;
    g_autofree char *name = g_strdup(d ? el_get(doc_root(d), "bridge/@name") : NULL);
    g_mutex_unlock(&n->lock);
    return name ? g_variant_new("(s)", name) : manage_null(error, VIR_ERR_INTERNAL_ERROR, "network '%s' does not have a bridge name.", n->name);
}

static void show_connections_locked(const struct network *n, struct doc *d)
{
    el_setf(doc_root(d), "@connections", "%u", n->ports->len);
    el_each (interface, el_find(doc_root(d), "forward"), "interface") {
        unsigned count = network_connections_locked(n, el_get_or(interface, "@dev", ""));
        if (count)
            el_setf(interface, "@connections", "%u", count);
    }
}

static GVariant *get_xml_desc(struct manage_call *c, GError **error)
{
    uint32_t flags = uint_arg(c, 1);
    if (!manage_check_flags(flags, VIR_NETWORK_XML_INACTIVE, error))
        return NULL;
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    bool inactive = flags & VIR_NETWORK_XML_INACTIVE;
    g_mutex_lock(&n->lock);
    unsigned ports = n->live && !inactive ? n->ports->len : 0;
    struct doc *d = n->live && (!inactive || !n->defined) ? n->live : n->defined;
    doc_auto *copy = d && ports ? doc_copy(d) : NULL;
    if (copy)
        show_connections_locked(n, copy);
    g_autofree char *text = d ? doc_format(copy ? copy : d) : NULL;
    g_mutex_unlock(&n->lock);
    return text ? g_variant_new("(s)", text) : manage_null(error, VIR_ERR_NO_NETWORK, "'%s' has just been removed", n->name);
}

/* ---- define, undefine, autostart ---- */

static GVariant *define_flags(struct manage_call *c, uint32_t flags, GError **error)
{
    struct network_driver *dr = driver_of(c);
    if (!manage_check_flags(flags, VIR_NETWORK_DEFINE_VALIDATE, error)) /* every document is checked against its schema */
        return NULL;
    doc_auto *d = doc_parse(&schema_network, string_arg(c, 0), -1, error);
    if (!d)
        return NULL;
    network_auto *old = NULL;
    g_mutex_lock(&dr->change);
    bool ok = network_complete(dr, d, error) && network_check_unique(dr, d, false, &old, error);
    uint8_t uuid[16];
    network_auto *n = !ok || !manage_uuid_parse(el_get(doc_root(d), "uuid"), uuid) ? NULL
                      : old ? network_ref(old) : network_new(dr, el_get(doc_root(d), "name"), uuid);
    ok = n && network_save(n, d, error);
    if (ok) {
        network_set_docs(n, NULL, false, doc_copy(d), true);
        network_list_add(dr, n);
    }
    g_mutex_unlock(&dr->change);
    if (!ok)
        return NULL;
    network_event(n, VIR_NETWORK_EVENT_DEFINED);
    return g_variant_new("(@(say))", network_variant(n));
}

static GVariant *define_xml(struct manage_call *c, GError **error) { return define_flags(c, 0, error); }
static GVariant *define_xml_flags(struct manage_call *c, GError **error) { return define_flags(c, uint_arg(c, 1), error); }

static GVariant *undefine(struct manage_call *c, GError **error)
{
    struct network_driver *dr = driver_of(c);
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_autofree char *path = network_file(dr->config_dir, n->name, ".xml");
    g_mutex_lock(&dr->change);
    bool ok = look(n).persistent || manage_fail(error, VIR_ERR_OPERATION_INVALID, "can't undefine transient network '%s': destroy it", n->name);
    ok = ok && network_set_autostart(n, false, error) && manage_remove_file(path, error);
    if (ok) {
        g_mutex_lock(&n->lock);
        n->autostart = false;
        g_mutex_unlock(&n->lock);
        network_set_docs(n, NULL, false, NULL, true);
        if (!network_is_active(n)) {
            network_list_remove(dr, n);
            network_dns_remove_files(dr, n->name, true);
        }
    }
    g_mutex_unlock(&dr->change);
    if (!ok)
        return NULL;
    network_event(n, VIR_NETWORK_EVENT_UNDEFINED);
    return manage_void();
}

static GVariant *set_autostart(struct manage_call *c, GError **error)
{
    struct network_driver *dr = driver_of(c);
    bool on = int_arg(c, 1);
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_mutex_lock(&dr->change);
    bool ok = look(n).persistent || manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot set autostart for transient network '%s': define it first", n->name);
    ok = ok && network_set_autostart(n, on, error);
    if (ok) {
        g_mutex_lock(&n->lock);
        n->autostart = on;
        g_mutex_unlock(&n->lock);
    }
    g_mutex_unlock(&dr->change);
    return ok ? manage_void() : NULL;
}

/* ---- start and stop ---- */

static GVariant *create(struct manage_call *c, GError **error)
{
    struct network_driver *dr = driver_of(c);
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_mutex_lock(&dr->change);
    doc_auto *d = network_definition(n);
    bool ok = network_is_active(n) ? manage_fail(error, VIR_ERR_OPERATION_INVALID, "network is already active: '%s'", n->name)
              : d                  ? true
                                   : manage_fail(error, VIR_ERR_NO_NETWORK, "'%s' has no definition", n->name);
    ok = ok && network_start(n, d, error);
    g_mutex_unlock(&dr->change);
    if (!ok)
        return NULL;
    network_event(n, VIR_NETWORK_EVENT_STARTED);
    return manage_void();
}

static GVariant *create_flags(struct manage_call *c, uint32_t flags, GError **error)
{
    struct network_driver *dr = driver_of(c);
    if (!manage_check_flags(flags, VIR_NETWORK_CREATE_VALIDATE, error))
        return NULL;
    doc_auto *d = doc_parse(&schema_network, string_arg(c, 0), -1, error);
    if (!d)
        return NULL;
    network_auto *old = NULL;
    g_mutex_lock(&dr->change);
    bool ok = network_complete(dr, d, error) && network_check_unique(dr, d, true, &old, error);
    uint8_t uuid[16];
    network_auto *n = !ok || !manage_uuid_parse(el_get(doc_root(d), "uuid"), uuid) ? NULL
                      : old ? network_ref(old) : network_new(dr, el_get(doc_root(d), "name"), uuid);
    ok = n && network_start(n, d, error);
    if (ok && !old)
        network_list_add(dr, n);
    g_mutex_unlock(&dr->change);
    if (!ok)
        return NULL;
    network_event(n, VIR_NETWORK_EVENT_STARTED);
    return g_variant_new("(@(say))", network_variant(n));
}

static GVariant *create_xml(struct manage_call *c, GError **error) { return create_flags(c, 0, error); }
static GVariant *create_xml_flags(struct manage_call *c, GError **error) { return create_flags(c, uint_arg(c, 1), error); }

static GVariant *destroy(struct manage_call *c, GError **error)
{
    struct network_driver *dr = driver_of(c);
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_mutex_lock(&dr->change);
    bool ok = network_is_active(n) || manage_fail(error, VIR_ERR_OPERATION_INVALID, "network '%s' is not active", n->name);
    if (ok) {
        network_stop(n);
        if (!look(n).persistent) {
            network_list_remove(dr, n);
            network_dns_remove_files(dr, n->name, true);
        }
    }
    g_mutex_unlock(&dr->change);
    if (!ok)
        return NULL;
    network_event(n, VIR_NETWORK_EVENT_STOPPED);
    return manage_void();
}

const struct manage_row network_rows[] = {
    { RPC_CONNECT_NUM_OF_NETWORKS, num_active },
    { RPC_CONNECT_LIST_NETWORKS, list_active },
    { RPC_CONNECT_NUM_OF_DEFINED_NETWORKS, num_defined },
    { RPC_CONNECT_LIST_DEFINED_NETWORKS, list_defined },
    { RPC_CONNECT_LIST_ALL_NETWORKS, list_all },
    { RPC_NETWORK_LOOKUP_BY_NAME, lookup_name },
    { RPC_NETWORK_LOOKUP_BY_UUID, lookup_uuid },
    { RPC_NETWORK_IS_ACTIVE, is_active },
    { RPC_NETWORK_IS_PERSISTENT, is_persistent },
    { RPC_NETWORK_GET_AUTOSTART, get_autostart },
    { RPC_NETWORK_SET_AUTOSTART, set_autostart },
    { RPC_NETWORK_GET_BRIDGE_NAME, bridge_name },
    { RPC_NETWORK_GET_XML_DESC, get_xml_desc },
    { RPC_NETWORK_DEFINE_XML, define_xml },
    { RPC_NETWORK_DEFINE_XML_FLAGS, define_xml_flags },
    { RPC_NETWORK_UNDEFINE, undefine },
    { RPC_NETWORK_CREATE, create },
    { RPC_NETWORK_CREATE_XML, create_xml },
    { RPC_NETWORK_CREATE_XML_FLAGS, create_xml_flags },
    { RPC_NETWORK_DESTROY, destroy },
    { RPC_NETWORK_UPDATE, network_call_update },
    { RPC_NETWORK_GET_DHCP_LEASES, network_call_dhcp_leases },
    { RPC_NETWORK_LIST_ALL_PORTS, network_call_list_all_ports },
    { RPC_NETWORK_PORT_LOOKUP_BY_UUID, network_call_port_lookup },
    { RPC_NETWORK_PORT_GET_XML_DESC, network_call_port_xml },
    { RPC_NETWORK_PORT_CREATE_XML, network_call_port_refuse },
    { RPC_NETWORK_PORT_DELETE, network_call_port_refuse },
    { RPC_NETWORK_GET_METADATA, network_call_get_metadata },
    { RPC_NETWORK_SET_METADATA, network_call_set_metadata },
    { 0, NULL },
};
