/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A network is made and taken away. While that is under way NAME.half lies in the state directory: what a killed daemon leaves is swept by
 * the next. Order: bridge, addresses, routes, forwarding, rules, dnsmasq; backwards to take away.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manage/core/manage_shape.h"
#include "manage/drivers/network/network.h"

/* ---- what cannot be done, by name ---- */

static bool check_can(const struct network *n, const struct doc *d, GError **error)
{
    const struct el *root = doc_root(d);
    enum network_mode mode = network_mode(d);
    if (mode == NETWORK_POOL && (el_is(root, "forward/@mode", "hostdev") || el_find(root, "forward/pf") || el_find(root, "forward/address")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED,
                           "network '%s': virtual functions (forward mode='hostdev', <pf>, <address>) are not there: name the devices with <forward mode='passthrough'><interface dev=>", n->name);
    static const struct { const char *path, *value, *what; } missing[] = {
        { "bridge/@zone", NULL, "the firewalld zone of <bridge zone=>" },
        { "bridge/@macTableManager", "libvirt", "<bridge macTableManager='libvirt'>" },
        { "bandwidth/inbound/@floor", NULL, "a guaranteed rate, <inbound floor=>," },
        { "port/@isolated", "yes", "<port isolated='yes'>" },
        { "vlan/tag/@id", NULL, "<vlan>" },
        { "virtualport/@type", NULL, "<virtualport> (Open vSwitch, 802.1Qbg, 802.1Qbh, midonet)" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(missing); i++) {
        const char *value = el_get(root, missing[i].path);
        if (value && (!missing[i].value || !strcmp(value, missing[i].value)))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "network '%s': %s is not done here yet: take it out to start the network", n->name,
                               missing[i].what);
    }
    if (el_child(root, "bandwidth") && !(network_is_virtual(mode) && n->driver->state->privileged))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "network '%s': <bandwidth> needs a bridge that the network makes itself: take it out to start the network",
                           n->name);
    return true;
}

static bool is_free(const struct net_addr *net, const GArray *routes)
{
    for (unsigned i = 0; i < routes->len; i++) {
        const struct net_route *r = &g_array_index(routes, struct net_route, i);
        if (r->to.prefix > 1 && net_addr_overlap(net, &r->to))
            return false;
    }
    return true;
}

/* ", for example 192.168.123.0/24, which is free here", or "". */
static char *free_range(const struct net_addr *like, const GArray *routes)
{
    for (unsigned i = 122; like->family == AF_INET && i < 255; i++) {
        struct net_addr a = { .family = AF_INET, .bytes = { 192, 168, (uint8_t)i, 1 }, .prefix = 24 };
        if (is_free(&a, routes))
            return g_strdup_printf(", for example 192.168.%u.0/24, which is free here", i);
    }
    return g_strdup("");
}

/* A route of the host into the range would be cut off, or would cut off the network. */
static bool check_routes(const struct network *n, const struct doc *d, GError **error)
{
    const struct el *root = doc_root(d);
    g_autoptr(GArray) routes = net_routes(error);
    if (!routes)
        return false;
    el_each (ip, root, "ip") {
        struct net_addr net;
        if (!net_addr_of(ip, n->name, &net, error))
            return false;
        for (unsigned i = 0; i < routes->len; i++) {
            const struct net_route *r = &g_array_index(routes, struct net_route, i);
            /* Prefix 0 is the default route, 1 its two halves as VPNs set them; link-local is on every device. */
            if (r->to.prefix <= 1 || (r->to.family == AF_INET6 && r->to.bytes[0] == 0xfe) || !net_addr_overlap(&net, &r->to))
                continue;
            g_autofree char *own = net_addr_format_net(&net), *other = net_addr_format_net(&r->to), *example = free_range(&net, routes);
            return manage_fail(error, VIR_ERR_INTERNAL_ERROR,
                               "network '%s': its range %s overlaps the route of the host to %s on '%s'. Network is already in use by interface %s: change <ip address=> "
                               "of the network (net-edit %s) to a range that the host has no route to%s",
                               n->name, own, other, r->device, r->device, n->name, example);
        }
    }
    return true;
}

/* IPv6 forwarding makes the kernel drop routes learned from advertisements unless accept_ra is 2. */
static bool check_autoconf(const struct network *n, GError **error)
{
    g_autoptr(GArray) routes = net_routes(error);
    if (!routes)
        return false;
    for (unsigned i = 0; i < routes->len; i++) {
        const struct net_route *r = &g_array_index(routes, struct net_route, i);
        g_autofree char *path = g_strdup_printf("/proc/sys/net/ipv6/conf/%s/accept_ra", r->device), *text = NULL;
        if (r->autoconf && g_file_get_contents(path, &text, NULL, NULL) && atoi(text) < 2)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID,
                               "network '%s': IPv6 forwarding would make the host forget the routes that '%s' learned by router advertisement: set "
                               "net.ipv6.conf.%s.accept_ra=2 first (sysctl)",
                               n->name, r->device, r->device);
    }
    return true;
}

/* ---- making ---- */

static bool has_family(const struct doc *d, int family)
{
    struct net_addr a;
    el_each (ip, doc_root(d), "ip")
        if (net_addr_of(ip, "", &a, NULL) && a.family == family)
            return true;
    return false;
}

static bool set_ipv6(const struct doc *d, const char *bridge, GError **error)
{
    bool v6 = has_family(d, AF_INET6);
    if (access("/proc/sys/net/ipv6", F_OK) != 0)
        return !v6 || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the host has no IPv6: take the IPv6 addresses out of the network");
    const char *off = v6 || el_is(doc_root(d), "@ipv6", "yes") ? "0" : "1";
    return net_sysctl(off, error, "net/ipv6/conf/%s/disable_ipv6", bridge) && net_sysctl("0", error, "net/ipv6/conf/%s/accept_ra", bridge) &&
           net_sysctl("0", error, "net/ipv6/conf/%s/autoconf", bridge);
}

static bool add_addresses(const struct network *n, const struct doc *d, const char *bridge, GError **error)
{
    el_each (ip, doc_root(d), "ip") {
        struct net_addr a;
        if (!net_addr_of(ip, n->name, &a, error) || !net_addr_add(bridge, &a, error))
            return false;
    }
    return true;
}

static bool add_routes(const struct network *n, const struct doc *d, GError **error)
{
    el_each (route, doc_root(d), "route") {
        struct net_addr to, via;
        uint64_t metric = 0;
        el_get_u64(route, "@metric", &metric);
        if (!net_addr_of(route, n->name, &to, error) || !net_addr_parse(el_get(route, "@gateway"), to.family, &via) || !net_route_add(&to, &via, (unsigned)metric, error))
            return false;
    }
    return true;
}

static bool set_forwarding(const struct network *n, const struct doc *d, GError **error)
{
    if (network_mode(d) == NETWORK_ISOLATED)
        return true;
    if (has_family(d, AF_INET) && !net_sysctl("1", error, "net/ipv4/ip_forward"))
        return false;
    return !has_family(d, AF_INET6) || (check_autoconf(n, error) && net_sysctl("1", error, "net/ipv6/conf/all/forwarding"));
}

/* What comes into the network is shaped where it leaves the host; what goes out is limited by the rules (network_firewall.c). */
static bool shape(const struct network *n, const struct doc *d, const char *bridge, GError **error)
{
    struct manage_rate in = manage_rate_of(el_find(doc_root(d), "bandwidth/inbound"));
    g_autoptr(GError) why = NULL;
    return !in.average || manage_shape(bridge, 0, &in, NULL, &why) || manage_fail(error, why->code, "cannot limit the rate of network '%s': %s", n->name, why->message);
}

static bool make_bridge(const struct network *n, const struct doc *d, GError **error)
{
    const struct el *root = doc_root(d);
    const char *bridge = el_get(root, "bridge/@name");
    uint64_t delay = 0, mtu = 0;
    el_get_u64(root, "bridge/@delay", &delay);
    el_get_u64(root, "mtu/@size", &mtu);
    return net_bridge_create(bridge, el_get(root, "mac/@address"), el_is(root, "bridge/@stp", "on"), (unsigned)MIN(delay, 1000), (unsigned)mtu, error) &&
           set_ipv6(d, bridge, error) && add_addresses(n, d, bridge, error) && manage_link_up(bridge, true, error) && shape(n, d, bridge, error) && add_routes(n, d, error) &&
           set_forwarding(n, d, error);
}

static void clear_half(struct network_driver *dr, const char *name)
{
    g_autofree char *path = network_file(dr->state_dir, name, ".half");
    manage_remove_file(path, NULL);
}

static bool mark_half(struct network_driver *dr, const char *name, const struct doc *d, GError **error)
{
    g_autofree char *path = network_file(dr->state_dir, name, ".half"), *text = doc_format(d);
    return manage_write_file(path, text, -1, 0600, error);
}

static bool start_virtual(struct network *n, const struct doc *d, GError **error)
{
    struct network_driver *dr = n->driver;
    const char *bridge = el_get(doc_root(d), "bridge/@name");
    if (!check_routes(n, d, error))
        return false;
    if (manage_link_exists(bridge))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED,
                           "network '%s': there is a device '%s' already that does not belong to it: remove that device, or name another <bridge name=> (net-edit %s)",
                           n->name, bridge, n->name);
    network_dns_stop(dr, n->name); /* one that an earlier life has left */
    if (!mark_half(dr, n->name, d, error))
        return false;
    bool ok = make_bridge(n, d, error) && network_firewall_apply(n, d, error) && (!network_dns_wanted(d) || network_dns_start(n, d, error)) &&
              network_save_status(n, d, error);
    if (!ok)
        network_sweep(dr, n->name, d);
    clear_half(dr, n->name);
    if (ok)
        network_firewall_warn(n, d);
    return ok;
}

/* The port range that masquerading uses is said in the live document, as libvirt does. */
static struct doc *live_document(const struct doc *d)
{
    struct doc *live = doc_copy(d);
    struct el *root = doc_root(live);
    if (network_mode(live) == NETWORK_NAT && !el_find(root, "forward/nat/port")) {
        el_set(root, "forward/nat/port/@start", "1024");
        el_set(root, "forward/nat/port/@end", "65535");
    }
    return live;
}

bool network_start(struct network *n, const struct doc *d, GError **error)
{
    doc_auto *live = live_document(d);
    bool privileged = n->driver->state->privileged, virtual = network_is_virtual(network_mode(d));
    if (!check_can(n, d, error))
        return false;
    if (privileged && virtual ? !start_virtual(n, live, error) : !network_save_status(n, live, error))
        return false;
    g_mutex_lock(&n->lock);
    doc_free(n->live);
    n->live = g_steal_pointer(&live);
    n->user = virtual && !privileged;
    g_mutex_unlock(&n->lock);
    return true;
}

/* ---- taking away ---- */

void network_sweep(struct network_driver *dr, const char *name, const struct doc *d)
{
    const char *bridge = el_get(doc_root(d), "bridge/@name"), *mac = el_get(doc_root(d), "mac/@address");
    g_autoptr(GError) error = NULL;
    if (!bridge)
        return;
    network_dns_stop(dr, name);
    network_dns_remove_files(dr, name, false);
    network_firewall_remove(bridge);
    /* Not one that somebody else made in the meantime: ours has our MAC address. */
    g_autofree char *now = manage_link_mac(bridge);
    if (now && mac && !g_ascii_strcasecmp(now, mac) && !manage_link_delete(bridge, &error))
        g_warning("network '%s': %s", name, error->message);
}

void network_stop(struct network *n)
{
    struct network_driver *dr = n->driver;
    doc_auto *d = network_live(n);
    g_autofree char *status = network_file(dr->state_dir, n->name, ".xml"), *ports = network_file(dr->state_dir, n->name, ".ports");
    g_autoptr(GError) error = NULL;
    if (!d)
        return;
    bool made = network_is_virtual(network_mode(d)) && !n->user;
    if (made && !mark_half(dr, n->name, d, &error))
        g_warning("network '%s': %s", n->name, error->message);
    if (made)
        network_sweep(dr, n->name, d);
    unlink(ports);
    if (!manage_remove_file(status, NULL))
        g_warning("'%s' is left behind", status);
    clear_half(dr, n->name);
    n->dnsmasq = 0;
    network_watch_dns(n);
    n->rules = 0;
    g_mutex_lock(&n->lock);
    doc_free(n->live);
    n->live = NULL;
    n->user = false;
    g_ptr_array_set_size(n->ports, 0);
    g_mutex_unlock(&n->lock);
}

bool network_find_again(struct network *n)
{
    doc_auto *d = network_live(n);
    if (!network_is_virtual(network_mode(d)))
        return true;
    if (!n->driver->state->privileged) {
        n->user = true;
        return true;
    }
    const char *bridge = el_get(doc_root(d), "bridge/@name");
    g_autoptr(GError) error = NULL;
    if (!bridge || !manage_link_exists(bridge)) {
        g_message("network '%s' is no longer active: its bridge '%s' is gone", n->name, bridge ? bridge : "");
        network_stop(n);
        return false;
    }
    n->dnsmasq = network_dns_find(n->driver, n->name);
    network_watch_dns(n);
    if (!n->dnsmasq && network_dns_wanted(d) && !network_dns_start(n, d, &error))
        g_warning("%s", error->message);
    g_clear_error(&error);
    if (!network_firewall_apply(n, d, &error)) /* whatever happened to the rules in between */
        g_warning("%s", error->message);
    return true;
}
