/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host's network devices, read only: what a bridge, bond, VLAN or device is comes from the kernel at each call; nothing is kept. Changing the
 * host's network is left to the distribution's own tools: those calls are refused.
 */
#include <arpa/inet.h>
#include <libvirt/libvirt.h>
#include <string.h>

#include "manage/core/manage.h"
#include "manage/drivers/interface/interface_link.h"
#include "manage/model/doc.h"

#define IS_UP 6 /* IF_OPER_UP */

static const struct interface_link *at(const GArray *links, unsigned i) { return &g_array_index(links, struct interface_link, i); }

/* A port of a bridge or bond is shown inside of that. */
static bool listed(const struct interface_link *l) { return !l->master; }

/* ---- lists ---- */

static GVariant *record(const struct interface_link *l) { return g_variant_new("(ss)", l->name, l->mac); }

static GVariant *list_all(struct manage_call *c, GError **error)
{
    int need;
    uint32_t flags, n = 0;
    g_variant_get(c->args, "(iu)", &need, &flags);
    if (!manage_check_flags(flags, VIR_CONNECT_LIST_INTERFACES_ACTIVE | VIR_CONNECT_LIST_INTERFACES_INACTIVE, error))
        return NULL;
    g_autoptr(GArray) links = interface_links(error);
    if (!links)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(ss)"));
    for (unsigned i = 0; i < links->len; i++) {
        uint32_t state = at(links, i)->operstate == IS_UP ? VIR_CONNECT_LIST_INTERFACES_ACTIVE : VIR_CONNECT_LIST_INTERFACES_INACTIVE;
        if (!listed(at(links, i)) || (flags && !(flags & state)))
            continue;
        n++;
        if (need)
            g_variant_builder_add_value(&b, record(at(links, i)));
    }
    return g_variant_new("(a(ss)u)", &b, n);
}

static GVariant *count(struct manage_call *c, bool active, GError **error)
{
    g_autoptr(GArray) links = interface_links(error);
    int n = 0;
    for (unsigned i = 0; links && i < links->len; i++)
        n += listed(at(links, i)) && (at(links, i)->operstate == IS_UP) == active;
    return links ? g_variant_new("(i)", n) : NULL;
}

static GVariant *names(struct manage_call *c, bool active, GError **error)
{
    int max;
    g_variant_get(c->args, "(i)", &max);
    g_autoptr(GArray) links = interface_links(error);
    if (!links)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < links->len && max > 0; i++) {
        if (!listed(at(links, i)) || (at(links, i)->operstate == IS_UP) != active)
            continue;
        g_variant_builder_add(&b, "s", at(links, i)->name);
        max--;
    }
    return g_variant_new("(as)", &b);
}

static GVariant *num_active(struct manage_call *c, GError **error) { return count(c, true, error); }
static GVariant *num_inactive(struct manage_call *c, GError **error) { return count(c, false, error); }
static GVariant *list_active(struct manage_call *c, GError **error) { return names(c, true, error); }
static GVariant *list_inactive(struct manage_call *c, GError **error) { return names(c, false, error); }

/* ---- one ---- */

static const struct interface_link *find(const GArray *links, const char *name, GError **error)
{
    for (unsigned i = 0; links && i < links->len; i++)
        if (!strcmp(at(links, i)->name, name))
            return at(links, i);
    return links ? manage_null(error, VIR_ERR_NO_INTERFACE, "Interface not found: couldn't find interface named '%s'", name) : NULL;
}

static GVariant *lookup_name(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get(c->args, "(&s)", &name);
    g_autoptr(GArray) links = interface_links(error);
    const struct interface_link *l = find(links, name, error);
    return l ? g_variant_new("(@(ss))", record(l)) : NULL;
}

static GVariant *lookup_mac(struct manage_call *c, GError **error)
{
    const char *mac;
    unsigned n = 0;
    const struct interface_link *l = NULL;
    g_variant_get(c->args, "(&s)", &mac);
    g_autoptr(GArray) links = interface_links(error);
    if (!links)
        return NULL;
    for (unsigned i = 0; i < links->len; i++) {
        if (!g_ascii_strcasecmp(at(links, i)->mac, mac)) {
            l = at(links, i);
            n++;
        }
    }
    if (n > 1)
        return manage_null(error, VIR_ERR_MULTIPLE_INTERFACES, "there are %u interfaces with MAC address '%s': name the one you mean", n, mac);
    return l ? g_variant_new("(@(ss))", record(l))
             : manage_null(error, VIR_ERR_NO_INTERFACE, "Interface not found: couldn't find interface with MAC address '%s'", mac);
}

static const struct interface_link *of_call(struct manage_call *c, const GArray *links, GError **error)
{
    g_autoptr(GVariant) r = g_variant_get_child_value(c->args, 0);
    const char *name;
    g_variant_get_child(r, 0, "&s", &name);
    return find(links, name, error);
}

static GVariant *is_active(struct manage_call *c, GError **error)
{
    g_autoptr(GArray) links = interface_links(error);
    const struct interface_link *l = of_call(c, links, error);
    return l ? g_variant_new("(i)", l->operstate == IS_UP) : NULL;
}

/* ---- XML ---- */

static void put_link(struct el *e, const struct interface_link *l)
{
    static const char *const state[] = { "unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up" };
    unsigned speed = l->operstate == IS_UP ? interface_speed(l->name) : 0;
    if (speed)
        el_setf(e, "link/@speed", "%u", speed);
    el_set(e, "link/@state", l->operstate < G_N_ELEMENTS(state) ? state[l->operstate] : "unknown");
    el_set(e, "mac/@address", l->mac);
}

static const char *type_of(const struct interface_link *l)
{
    return !strcmp(l->kind, "bridge") || !strcmp(l->kind, "bond") || !strcmp(l->kind, "vlan") ? l->kind : "ethernet";
}

static void put_vlan(struct el *e, const struct interface_link *l, const GArray *links)
{
    el_setf(e, "vlan/@tag", "%u", l->vlan);
    for (unsigned i = 0; i < links->len; i++)
        if (at(links, i)->index == l->parent)
            el_set(e, "vlan/interface/@name", at(links, i)->name);
}

static void put_bond(struct el *e, const struct interface_link *l, const GArray *links)
{
    static const char *const modes[] = { "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb" };
    static const char *const validate[] = { "none", "active", "backup", "all" };
    struct el *bond = el_add(e, "bond");
    if (l->bond_mode < G_N_ELEMENTS(modes))
        el_set(bond, "@mode", modes[l->bond_mode]);
    if (l->miimon) {
        el_setf(bond, "miimon/@freq", "%u", l->miimon);
        el_setf(bond, "miimon/@downdelay", "%u", l->downdelay);
        el_setf(bond, "miimon/@updelay", "%u", l->updelay);
        el_set(bond, "miimon/@carrier", l->use_carrier ? "netif" : "ioctl");
    } else if (l->arp_interval && l->arp_target) {
        char target[INET_ADDRSTRLEN];
        el_setf(bond, "arpmon/@interval", "%u", l->arp_interval);
        el_set(bond, "arpmon/@target", inet_ntop(AF_INET, &l->arp_target, target, sizeof target));
        el_set(bond, "arpmon/@validate", validate[l->arp_validate & 3]);
    }
    for (unsigned i = 0; i < links->len; i++) {
        if (at(links, i)->master != l->index)
            continue;
        struct el *port = el_add(bond, "interface");
        el_set(port, "@type", "ethernet");
        el_set(port, "@name", at(links, i)->name);
        put_link(port, at(links, i));
    }
}

static void put_bridge(struct el *e, const struct interface_link *l, const GArray *links)
{
    struct el *bridge = el_add(e, "bridge");
    el_set(bridge, "@stp", l->stp ? "on" : "off");
    el_setf(bridge, "@delay", "%u", l->delay);
    for (unsigned i = 0; i < links->len; i++) {
        const struct interface_link *p = at(links, i);
        if (p->master != l->index)
            continue;
        const char *type = type_of(p);
        struct el *port = el_add(bridge, "interface");
        el_set(port, "@type", !strcmp(type, "bridge") ? "ethernet" : type);
        el_set(port, "@name", p->name);
        if (!strcmp(type, "vlan"))
            put_vlan(port, p, links);
        else if (!strcmp(type, "bond"))
            put_bond(port, p, links);
        else
            put_link(port, p);
    }
}

static GVariant *get_xml_desc(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, VIR_INTERFACE_XML_INACTIVE, error))
        return NULL;
    g_autoptr(GArray) links = interface_links(error);
    const struct interface_link *l = of_call(c, links, error);
    if (!l)
        return NULL;
    doc_auto *d = doc_new(&schema_interface);
    struct el *root = doc_root(d);
    const char *type = type_of(l);
    el_set(root, "@type", type);
    el_set(root, "@name", l->name);
    el_setf(root, "mtu/@size", "%u", l->mtu);
    if (!strcmp(type, "bridge"))
        put_bridge(root, l, links);
    else if (!strcmp(type, "bond"))
        put_bond(root, l, links);
    else if (!strcmp(type, "vlan"))
        put_vlan(root, l, links);
    else
        put_link(root, l);
    g_autofree char *text = doc_format(d);
    return g_variant_new("(s)", text);
}

/* ---- what is refused ---- */

static GVariant *refuse(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_SUPPORT,
                       "this function is not supported by the connection driver: %s: the network devices of the host are read only here; change them with the "
                       "distribution's own tools (ip, netplan, ifupdown, NetworkManager)",
                       c->proc->name);
}

static const struct manage_row rows[] = {
    { RPC_CONNECT_NUM_OF_INTERFACES, num_active },
    { RPC_CONNECT_LIST_INTERFACES, list_active },
    { RPC_CONNECT_NUM_OF_DEFINED_INTERFACES, num_inactive },
    { RPC_CONNECT_LIST_DEFINED_INTERFACES, list_inactive },
    { RPC_CONNECT_LIST_ALL_INTERFACES, list_all },
    { RPC_INTERFACE_LOOKUP_BY_NAME, lookup_name },
    { RPC_INTERFACE_LOOKUP_BY_MAC_STRING, lookup_mac },
    { RPC_INTERFACE_GET_XML_DESC, get_xml_desc },
    { RPC_INTERFACE_IS_ACTIVE, is_active },
    { RPC_INTERFACE_DEFINE_XML, refuse },
    { RPC_INTERFACE_UNDEFINE, refuse },
    { RPC_INTERFACE_CREATE, refuse },
    { RPC_INTERFACE_DESTROY, refuse },
    { RPC_INTERFACE_CHANGE_BEGIN, refuse },
    { RPC_INTERFACE_CHANGE_COMMIT, refuse },
    { RPC_INTERFACE_CHANGE_ROLLBACK, refuse },
    { 0, NULL },
};
const struct manage_driver manage_driver_interface = { .name = "interface", .rows = rows };
