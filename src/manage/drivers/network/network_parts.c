/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Procedures on parts of a network: entries of its lists, leases, ports, metadata. */
#include <libvirt/libvirt.h>
#include <string.h>

#include "manage/drivers/network/network_calls.h"

/* Newer than the oldest headers that this is compiled with. */
enum { METADATA_DESCRIPTION = 0, METADATA_TITLE = 1, METADATA_ELEMENT = 2, ERR_NO_NETWORK_METADATA = 111 };

/* ---- update ---- */

/* VIR_NETWORK_UPDATE_AFFECT_* and VIR_DOMAIN_AFFECT_*: 0 current, 1 live, 2 config. */
static bool affect(struct network *n, uint32_t flags, bool *ret_live, bool *ret_config, GError **error)
{
    struct seen s = look(n);
    bool live = flags & 1, config = flags & 2;
    if (!live && !config) {
        live = s.active;
        config = !live;
    }
    if (live && !s.active)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "network is not running: '%s'", n->name);
    if (config && !s.persistent)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot change persistent config of a transient network: '%s'", n->name);
    *ret_live = live;
    *ret_config = config;
    return true;
}

/* dnsmasq and the rules follow the new document; on failure they go back to the old one. */
static bool follow(struct network *n, struct doc *new, unsigned section, GError **error)
{
    doc_auto *old = network_live(n);
    bool dns = section != VIR_NETWORK_SECTION_FORWARD_INTERFACE && section != VIR_NETWORK_SECTION_PORTGROUP;
    bool made = network_is_virtual(network_mode(new)) && !n->user;
    bool ok = true;
    if (made && section == VIR_NETWORK_SECTION_FORWARD_INTERFACE)
        ok = network_firewall_apply(n, new, error);
    if (made && dns) {
        network_dns_stop(n->driver, n->name);
        ok = !network_dns_wanted(new) || network_dns_start(n, new, error);
        if (!ok && network_dns_wanted(old) && !network_dns_start(n, old, NULL))
            g_warning("network '%s' goes on without dnsmasq", n->name);
    }
    return ok && network_save_status(n, new, error);
}

/* A device of a pool that interfaces are on stays. */
static bool check_unused(struct network *n, const struct doc *new, GError **error)
{
    char *used = NULL;
    unsigned count = 0;
    g_mutex_lock(&n->lock);
    for (unsigned i = 0; i < n->ports->len && !used; i++) {
        const char *device = ((const struct network_port *)n->ports->pdata[i])->device;
        bool there = !device;
        el_each (interface, el_find(doc_root(new), "forward"), "interface")
            there |= device && el_is(interface, "@dev", device);
        if (!there) {
            used = g_strdup(device);
            count = network_connections_locked(n, device);
        }
    }
    g_mutex_unlock(&n->lock);
    bool ok = !used || manage_fail(error, VIR_ERR_OPERATION_INVALID, "unable to delete interface '%s' in network '%s': it is being used by %u domains", used, n->name, count);
    g_free(used);
    return ok;
}

static bool update_both(struct network *n, bool live, bool config, struct manage_call *c, GError **error)
{
    unsigned command = uint_arg(c, 1), section = uint_arg(c, 2);
    int parent = int_arg(c, 3);
    const char *xml = string_arg(c, 4);
    doc_auto *new_config = config ? network_definition(n) : NULL;
    doc_auto *new_live = live ? network_live(n) : NULL;
    if ((new_config && !network_update_doc(new_config, command, section, parent, xml, error)) ||
        (new_live && !network_update_doc(new_live, command, section, parent, xml, error)))
        return false;
    if (new_live && !check_unused(n, new_live, error))
        return false;
    if ((new_config && !network_save(n, new_config, error)) || (new_live && !follow(n, new_live, section, error)))
        return false;
    if (new_config)
        network_set_docs(n, NULL, false, g_steal_pointer(&new_config), true);
    if (new_live)
        network_set_docs(n, g_steal_pointer(&new_live), true, NULL, false);
    return true;
}

GVariant *network_call_update(struct manage_call *c, GError **error)
{
    struct network_driver *dr = driver_of(c);
    bool live, config;
    uint32_t flags = uint_arg(c, 5);
    if (!manage_check_flags(flags, VIR_NETWORK_UPDATE_AFFECT_LIVE | VIR_NETWORK_UPDATE_AFFECT_CONFIG, error))
        return NULL;
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_mutex_lock(&dr->change);
    bool ok = affect(n, flags, &live, &config, error) && update_both(n, live, config, c, error);
    g_mutex_unlock(&dr->change);
    return ok ? manage_void() : NULL;
}

/* ---- leases ---- */

static GVariant *lease_variant(const struct network_lease *l, const char *bridge)
{
    return g_variant_new("(sximsmssumsms)", bridge, l->expiry, l->v6 ? VIR_IP_ADDR_TYPE_IPV6 : VIR_IP_ADDR_TYPE_IPV4, l->mac, l->iaid, l->ip, l->prefix,
                         l->hostname, l->clientid);
}

GVariant *network_call_dhcp_leases(struct manage_call *c, GError **error)
{
    const char *mac = maybe_arg(c, 1);
    int need = int_arg(c, 2);
    if (!manage_check_flags(uint_arg(c, 3), 0, error))
        return NULL;
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    doc_auto *d = network_live(n);
    g_autoptr(GPtrArray) leases = network_leases(n, mac); /* none where it is not active */
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sximsmssumsms)"));
    for (unsigned i = 0; i < leases->len && need; i++)
        g_variant_builder_add_value(&b, lease_variant(leases->pdata[i], d ? el_get_or(doc_root(d), "bridge/@name", "") : ""));
    return g_variant_new("(a(sximsmssumsms)u)", &b, leases->len);
}

/* ---- ports: which interfaces are attached; made and removed by domains alone ---- */

static GVariant *port_variant(const struct network *n, const struct network_port *p)
{
    return g_variant_new("(@(say)@ay)", network_variant(n), manage_uuid_variant(p->uuid));
}

GVariant *network_call_list_all_ports(struct manage_call *c, GError **error)
{
    int need = int_arg(c, 1);
    if (!manage_check_flags(uint_arg(c, 2), 0, error))
        return NULL;
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    if (!network_is_active(n))
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "network '%s' is not active", n->name);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a((say)ay)"));
    g_mutex_lock(&n->lock);
    unsigned count = n->ports->len;
    for (unsigned i = 0; i < count && need; i++)
        g_variant_builder_add_value(&b, port_variant(n, n->ports->pdata[i]));
    g_mutex_unlock(&n->lock);
    return g_variant_new("(a((say)ay)u)", &b, count);
}

/* A copy of a port; network_port_free(). */
static struct network_port *port_of(struct network *n, const uint8_t *uuid, GError **error)
{
    struct network_port *found = NULL;
    char text[37];
    g_mutex_lock(&n->lock);
    for (unsigned i = 0; i < n->ports->len && !found; i++) {
        const struct network_port *p = n->ports->pdata[i];
        if (!memcmp(p->uuid, uuid, 16)) {
            found = g_memdup2(p, sizeof *p);
            found->domain = g_strdup(p->domain);
            found->mac = g_strdup(p->mac);
            found->device = g_strdup(p->device);
        }
    }
    g_mutex_unlock(&n->lock);
    manage_uuid_format(uuid, text);
    return found ? found : manage_null(error, VIR_ERR_NO_NETWORK_PORT, "network port not found: network '%s' has no port with matching uuid '%s'", n->name, text);
}

GVariant *network_call_port_lookup(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(c->args, 1);
    gsize size;
    const uint8_t *uuid = g_variant_get_fixed_array(v, &size, 1);
    network_auto *n = network_of(c, error);
    struct network_port *p = n && size == 16 ? port_of(n, uuid, error) : NULL;
    if (!p)
        return NULL;
    GVariant *reply = g_variant_new("(@((say)ay))", port_variant(n, p));
    network_port_free(p);
    return reply;
}

GVariant *network_call_port_xml(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(uint_arg(c, 1), 0, error))
        return NULL;
    g_autoptr(GVariant) record = g_variant_get_child_value(c->args, 0), of = g_variant_get_child_value(record, 0);
    const char *name;
    g_variant_get_child(of, 0, "&s", &name);
    network_auto *n = network_by_uuid(driver_of(c), manage_variant_uuid(of), name, error);
    struct network_port *p = n ? port_of(n, manage_variant_uuid(record), error) : NULL;
    if (!p)
        return NULL;
    doc_auto *live = network_live(n), *d = doc_new(&schema_networkport);
    char uuid[37];
    manage_uuid_format(p->uuid, uuid);
    el_set(doc_root(d), "uuid", uuid);
    el_set(doc_root(d), "owner/name", p->domain);
    el_set(doc_root(d), "mac/@address", p->mac);
    if (live && p->device) {
        el_set(doc_root(d), "plug/@type", "direct");
        el_set(doc_root(d), "plug/@dev", p->device);
        el_set(doc_root(d), "plug/@mode", el_get(doc_root(live), "forward/@mode"));
    } else if (live && el_get(doc_root(live), "bridge/@name")) {
        el_set(doc_root(d), "plug/@type", network_is_virtual(network_mode(live)) ? "network" : "bridge");
        el_set(doc_root(d), "plug/@bridge", el_get(doc_root(live), "bridge/@name"));
    }
    network_port_free(p);
    g_autofree char *text = doc_format(d);
    return g_variant_new("(s)", text);
}

GVariant *network_call_port_refuse(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: %s: ports come and go with the domains' interfaces",
                       c->proc->name);
}

/* ---- metadata: title, description, and elements by their namespace ---- */

static GVariant *no_metadata(const struct network *n, GError **error)
{
    return manage_null(error, ERR_NO_NETWORK_METADATA, "Requested metadata element is not present in network '%s'", n->name);
}

GVariant *network_call_get_metadata(struct manage_call *c, GError **error)
{
    int type = int_arg(c, 1);
    const char *uri = maybe_arg(c, 2);
    bool live, config;
    uint32_t flags = uint_arg(c, 3);
    if (!manage_check_flags(flags, 3, error))
        return NULL;
    if ((flags & 3) == 3)
        return manage_null(error, VIR_ERR_INVALID_ARG, "metadata is read live or from the configuration, not both");
    network_auto *n = network_of(c, error);
    if (!n || !affect(n, flags, &live, &config, error))
        return NULL;
    doc_auto *d = live ? network_live(n) : network_definition(n);
    const struct el *root = d ? doc_root(d) : NULL;
    const char *text = NULL;
    g_autofree char *found = NULL;
    if (type == METADATA_DESCRIPTION || type == METADATA_TITLE)
        text = el_get(root, type == METADATA_TITLE ? "title" : "description");
    else if (type == METADATA_ELEMENT)
        text = found = network_metadata_get(el_child(root, "metadata"), uri ? uri : "");
    else
        return manage_null(error, VIR_ERR_INVALID_ARG, "unknown metadata type %d", type);
    return text ? g_variant_new("(s)", text) : no_metadata(n, error);
}

static bool set_metadata_doc(struct doc *d, int type, const char *text, const char *key, const char *uri, GError **error)
{
    if (!d)
        return true;
    if (type == METADATA_ELEMENT)
        return network_metadata_set(doc_root(d), text, key, uri, error);
    if (type == METADATA_TITLE && text && strchr(text, '\n'))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Network title can't contain newlines");
    el_set(doc_root(d), type == METADATA_TITLE ? "title" : "description", text && *text ? text : NULL);
    return true;
}

static bool set_metadata_both(struct network *n, bool live, bool config, struct manage_call *c, GError **error)
{
    int type = int_arg(c, 1);
    const char *text = maybe_arg(c, 2), *key = maybe_arg(c, 3), *uri = maybe_arg(c, 4);
    doc_auto *new_config = config ? network_definition(n) : NULL;
    doc_auto *new_live = live ? network_live(n) : NULL;
    if (!set_metadata_doc(new_config, type, text, key, uri, error) || !set_metadata_doc(new_live, type, text, key, uri, error))
        return false;
    if ((new_config && !network_save(n, new_config, error)) || (new_live && !network_save_status(n, new_live, error)))
        return false;
    if (new_config)
        network_set_docs(n, NULL, false, g_steal_pointer(&new_config), true);
    if (new_live)
        network_set_docs(n, g_steal_pointer(&new_live), true, NULL, false);
    return true;
}

GVariant *network_call_set_metadata(struct manage_call *c, GError **error)
{
    struct network_driver *dr = driver_of(c);
    int type = int_arg(c, 1);
    bool live, config;
    uint32_t flags = uint_arg(c, 5);
    if (!manage_check_flags(flags, 3, error))
        return NULL;
    if (type < 0 || type > METADATA_ELEMENT)
        return manage_null(error, VIR_ERR_INVALID_ARG, "unknown metadata type %d", type);
    network_auto *n = network_of(c, error);
    if (!n)
        return NULL;
    g_mutex_lock(&dr->change);
    bool ok = affect(n, flags, &live, &config, error) && set_metadata_both(n, live, config, c, error);
    g_mutex_unlock(&dr->change);
    if (!ok)
        return NULL;
    manage_event(c->conn->state, MANAGE_NETWORK, 1, n->uuid, 16, g_variant_new("(@(say)ims)", network_variant(n), type, maybe_arg(c, 4)));
    return manage_void();
}
