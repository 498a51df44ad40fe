/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a network document must be, beyond its schema, and what is filled in at define. */
#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>
#include <sys/random.h>

#include "manage/drivers/network/network.h"

enum network_mode network_mode(const struct doc *d)
{
    const struct el *forward = el_child(doc_root(d), "forward");
    if (!forward)
        return NETWORK_ISOLATED;
    const char *mode = el_get_or(forward, "@mode", "nat");
    static const struct { const char *name; enum network_mode mode; } modes[] = {
        { "nat", NETWORK_NAT }, { "route", NETWORK_ROUTE }, { "open", NETWORK_OPEN }, { "passthrough", NETWORK_POOL }, { "private", NETWORK_POOL },
        { "vepa", NETWORK_POOL }, { "hostdev", NETWORK_POOL },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++)
        if (!strcmp(mode, modes[i].name))
            return modes[i].mode;
    /* "bridge": over a bridge of the host, or by macvtap over a pool of devices. */
    return el_child(doc_root(d), "bridge") ? NETWORK_BRIDGE : NETWORK_POOL;
}

/* ---- checks ---- */

static bool check_range(const struct el *range, const struct net_addr *net, const char *name, GError **error)
{
    struct net_addr start, end;
    const char *from = el_get_or(range, "@start", ""), *to = el_get_or(range, "@end", "");
    if (!net_addr_parse(from, net->family, &start) || !net_addr_parse(to, net->family, &end))
        return manage_fail(error, VIR_ERR_XML_ERROR, "range '%s' - '%s' of network '%s' (line %u) has an invalid address", from, to, name, el_line(range));
    if (net_addr_compare(&start, &end) > 0)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "range %s - %s is reversed in network '%s' (line %u)", from, to, name, el_line(range));
    g_autofree char *text = net_addr_format_net(net);
    if (!net_addr_in(&start, net) || !net_addr_in(&end, net))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "range %s - %s is not entirely within network %s of network '%s' (line %u)", from, to, text, name,
                           el_line(range));
    return true;
}

static bool check_host(const struct el *host, const struct net_addr *net, const char *name, GError **error)
{
    const char *mac = el_get(host, "@mac"), *id = el_get(host, "@id"), *ip = el_get(host, "@ip"), *hostname = el_get(host, "@name");
    struct net_addr a;
    if (mac && !net_mac_valid(mac))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Cannot parse MAC address '%s' in network '%s' (line %u)", mac, name, el_line(host));
    if (mac && (g_ascii_xdigit_value(mac[1]) & 1))
        return manage_fail(error, VIR_ERR_XML_ERROR, "expected unicast mac address, found multicast '%s' in network '%s' (line %u)", mac, name, el_line(host));
    if (mac && net->family == AF_INET6)
        return manage_fail(error, VIR_ERR_XML_ERROR, "Invalid to specify MAC address '%s' in network '%s' IPv6 static host definition: give id= or name=", mac,
                           name);
    if (id && net->family == AF_INET)
        return manage_fail(error, VIR_ERR_XML_ERROR, "id='%s' stands in an IPv4 host definition of network '%s' (line %u): give mac= or name=", id, name,
                           el_line(host));
    if (!mac && !hostname && net->family == AF_INET)
        return manage_fail(error, VIR_ERR_XML_ERROR, "Static host definition in IPv4 network '%s' must have mac or name attribute (line %u)", name, el_line(host));
    if (!ip || !net_addr_parse(ip, net->family, &a))
        return manage_fail(error, VIR_ERR_XML_ERROR, "%s%s in the static host definition of network '%s' (line %u)",
                           ip ? "Invalid IP address " : "Missing IP address", ip ? ip : "", name, el_line(host));
    return true;
}

static bool check_dhcp(const struct el *ip, const struct net_addr *net, const char *name, GError **error)
{
    el_each (range, el_find(ip, "dhcp"), "range")
        if (!check_range(range, net, name, error))
            return false;
    el_each (host, el_find(ip, "dhcp"), "host")
        if (!check_host(host, net, name, error))
            return false;
    return true;
}

static bool check_ips(const struct el *root, const char *name, GError **error)
{
    struct net_addr nets[64];
    unsigned n = 0, dhcp4 = 0, dhcp6 = 0;
    el_each (ip, root, "ip") {
        if (n == G_N_ELEMENTS(nets))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "network '%s' has more than %u addresses", name, n);
        if (!net_addr_of(ip, name, &nets[n], error) || !check_dhcp(ip, &nets[n], name, error))
            return false;
        for (unsigned i = 0; i < n; i++) {
            g_autofree char *a = net_addr_format_net(&nets[i]), *b = net_addr_format_net(&nets[n]);
            if (net_addr_overlap(&nets[i], &nets[n]))
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the addresses %s and %s of network '%s' overlap", a, b, name);
        }
        unsigned *dhcp = nets[n].family == AF_INET ? &dhcp4 : &dhcp6;
        if (el_find(ip, "dhcp") && ++*dhcp > 1)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "Multiple %s dhcp sections found in network '%s' -- dhcp is supported only for a single %s address on each network",
                               dhcp == &dhcp4 ? "IPv4" : "IPv6", name, dhcp == &dhcp4 ? "IPv4" : "IPv6");
        n++;
    }
    el_each (route, root, "route") {
        struct net_addr to, via;
        if (!net_addr_of(route, name, &to, error))
            return false;
        bool reachable = false;
        if (!net_addr_parse(el_get_or(route, "@gateway", ""), to.family, &via))
            return manage_fail(error, VIR_ERR_XML_ERROR, "line %u: route of network '%s' has no valid gateway", el_line(route), name);
        for (unsigned i = 0; i < n; i++)
            reachable |= net_addr_in(&via, &nets[i]);
        if (!reachable)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "unreachable static route gateway '%s' specified for network '%s' (line %u)",
                               el_get(route, "@gateway"), name, el_line(route));
    }
    return true;
}

/* What goes between quotes of nft's language, and into paths below /proc/sys. */
static bool is_device_name(const char *name)
{
    return *name && strlen(name) < IFNAMSIZ && strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-@:") == strlen(name);
}

static bool check_devices(const struct el *root, const char *name, GError **error)
{
    const char *dev = el_get(root, "forward/@dev");
    bool ok = !dev || is_device_name(dev);
    el_each (interface, el_child(root, "forward"), "interface") {
        dev = ok ? el_get_or(interface, "@dev", "") : dev;
        ok = ok && is_device_name(dev);
    }
    return ok || manage_fail(error, VIR_ERR_XML_ERROR, "forward device '%s' in network '%s' is not a device name: at most 15 letters, digits, '_', '.', '-', '@', ':'",
                             dev, name);
}

static bool check_names(const struct el *root, const char *name, GError **error)
{
    const char *bridge = el_get(root, "bridge/@name"), *mac = el_get(root, "mac/@address");
    if (!*name)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the network has no name: <name> is missing or empty");
    if (strchr(name, '/') || strchr(name, '\n') || *name == '.' || strlen(name) > 200)
        return manage_fail(error, VIR_ERR_XML_ERROR, "invalid char in name: network '%s': no '/', no leading '.', at most 200 bytes", name);
    if (bridge && (strlen(bridge) >= IFNAMSIZ || !*bridge || strspn(bridge, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-") != strlen(bridge)))
        return manage_fail(error, VIR_ERR_XML_ERROR, "bridge name '%s' in network '%s' is not a device name: letters, digits, '_', '.', '-', at most 15", bridge,
                           name);
    if (mac && !net_mac_valid(mac))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Invalid bridge mac address '%s' in network '%s'", mac, name);
    if (mac && (g_ascii_xdigit_value(mac[1]) & 1))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Invalid multicast bridge mac address '%s' in network '%s'", mac, name);
    return check_devices(root, name, error);
}

static bool check_portgroups(const struct el *root, const char *name, GError **error)
{
    unsigned defaults = 0;
    el_each (group, root, "portgroup") {
        defaults += el_is(group, "@default", "yes");
        for (const struct el *other = el_next(group, "portgroup"); other; other = el_next(other, "portgroup"))
            if (el_is(other, "@name", el_get_or(group, "@name", "")))
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is more than one portgroup '%s' in network '%s'", el_get(other, "@name"), name);
    }
    if (defaults > 1)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "multiple default portgroups in network '%s', only one default is allowed", name);
    return true;
}

static bool check_bandwidth(const struct el *parent, const char *name, GError **error)
{
    static const char *const direction[] = { "bandwidth/inbound", "bandwidth/outbound" };
    for (unsigned i = 0; i < G_N_ELEMENTS(direction); i++) {
        const struct el *e = el_find(parent, direction[i]);
        if (e && !el_get(e, "@average") && !(i == 0 && el_get(e, "@floor")))
            return manage_fail(error, VIR_ERR_XML_ERROR, "line %u: <%s> of network '%s' has no average", el_line(e), el_name(e), name);
    }
    return true;
}

/* Networks over what the host has: a bridge, or a pool of devices. */
static bool check_devices_of_host(const struct el *root, enum network_mode mode, const char *name, GError **error)
{
    const char *text = el_get_or(root, "forward/@mode", "nat");
    const struct el *forward = el_child(root, "forward"), *bridge = el_child(root, "bridge");
    bool either = g_str_equal(text, "bridge");
    if (network_is_virtual(mode))
        return true;
    if (bridge && el_get(bridge, "@name") && (!either || el_child(forward, "interface")))
        return either ? manage_fail(error, VIR_ERR_XML_ERROR, "A network with forward mode='bridge' can specify a bridge name or a forward dev, but not both (network '%s')", name)
                      : manage_fail(error, VIR_ERR_XML_ERROR, "bridge name not allowed in %s mode (network '%s')", text, name);
    if (bridge && (el_get(bridge, "@stp") || el_get(bridge, "@delay") || el_get(bridge, "@zone")))
        return manage_fail(error, VIR_ERR_XML_ERROR, "bridge delay/stp/zone options only allowed in route, nat, and isolated mode, not in %s (network '%s')", text, name);
    if (mode == NETWORK_POOL && el_child(root, "bandwidth"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Unsupported network-wide <bandwidth> element in network %s with forward mode='%s'", name, text);
    el_each (group, root, "portgroup")
        if (mode == NETWORK_POOL && el_child(group, "bandwidth"))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Unsupported <bandwidth> element in network '%s' in portgroup '%s' with forward mode='%s'", name, el_get(group, "@name"), text);
    el_each (interface, forward, "interface")
        for (const struct el *other = el_next(interface, "interface"); other; other = el_next(other, "interface"))
            if (el_is(other, "@dev", el_get_or(interface, "@dev", "")))
                return manage_fail(error, VIR_ERR_XML_ERROR, "interface '%s' can only be listed once in network %s", el_get(other, "@dev"), name);
    return true;
}

static bool check_mode(const struct doc *d, const char *name, GError **error)
{
    const struct el *root = doc_root(d);
    enum network_mode mode = network_mode(d);
    const char *text = el_get_or(root, "forward/@mode", "nat");
    if ((mode == NETWORK_NAT || mode == NETWORK_ROUTE || mode == NETWORK_OPEN) && !el_child(root, "ip"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "%s forwarding requested, but no IP address provided for network '%s'", text, name);
    if (!network_is_virtual(mode)) {
        static const char *const not_here[] = { "ip", "dns", "domain", "mac", "route", "mtu" };
        for (unsigned i = 0; i < G_N_ELEMENTS(not_here); i++)
            if (el_child(root, not_here[i]))
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Unsupported <%s> element in network %s with forward mode='%s'", not_here[i], name, text);
    }
    if (mode == NETWORK_OPEN && el_find(root, "forward/interface"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "forward dev or <interface> not allowed in network '%s' with forward mode='open'", name);
    if (mode != NETWORK_NAT && el_find(root, "forward/nat"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<nat> is not allowed in network '%s' with forward mode='%s'", name, text);
    return check_devices_of_host(root, mode, name, error);
}

bool network_check(const struct doc *d, GError **error)
{
    const struct el *root = doc_root(d);
    const char *name = el_get_or(root, "name", "");
    if (!check_names(root, name, error) || !check_mode(d, name, error) || !check_ips(root, name, error) || !check_portgroups(root, name, error) ||
        !check_bandwidth(root, name, error))
        return false;
    el_each (group, root, "portgroup")
        if (!check_bandwidth(group, name, error))
            return false;
    g_autofree char *config = network_dns_config(NULL, d, error); /* what would be a line of its own is found here */
    return config != NULL;
}

/* ---- defaults ---- */

/* forward dev='X' and the first <interface dev='X'/> are one thing written twice. */
static void complete_forward(struct el *root)
{
    struct el *forward = el_child(root, "forward");
    if (!forward)
        return;
    const char *dev = el_get(forward, "@dev"), *first = el_get(forward, "interface/@dev");
    if (!el_get(forward, "@mode"))
        el_set(forward, "@mode", "nat");
    if (dev && !first)
        el_set(forward, "interface/@dev", dev);
    else if (first && (!dev || strcmp(dev, first)))
        el_set(forward, "@dev", first);
    el_each (interface, forward, "interface")
        el_set(interface, "@connections", NULL);
    el_each (address, forward, "address")
        el_set(address, "@connections", NULL);
    struct el *nat = el_child(forward, "nat");
    if (nat && !el_get(nat, "@ipv6") && !el_child(nat, NULL))
        el_remove(nat);
}

/* Elements that say nothing are dropped, as libvirt does. */
static void drop_empty(struct el *root)
{
    el_set(root, "@connections", NULL);
    struct el *dns = el_child(root, "dns"), *bandwidth = el_child(root, "bandwidth");
    if (dns && !el_child(dns, NULL) && !el_get(dns, "@enable") && !el_get(dns, "@forwardPlainNames"))
        el_remove(dns);
    if (bandwidth && !el_child(bandwidth, NULL))
        el_remove(bandwidth);
    el_each (ip, root, "ip") {
        struct el *dhcp = el_child(ip, "dhcp");
        if (dhcp && !el_child(dhcp, "range") && !el_child(dhcp, "host"))
            el_remove(dhcp);
    }
}

/* The bridge's name is another network's, defined or active? */
static struct network *bridge_user(struct network_driver *dr, const char *bridge, const uint8_t *own_uuid)
{
    g_autoptr(GPtrArray) all = network_all(dr);
    for (unsigned i = 0; i < all->len; i++) {
        struct network *n = all->pdata[i];
        if (own_uuid && !memcmp(n->uuid, own_uuid, 16))
            continue;
        g_mutex_lock(&n->lock);
        bool used = (n->defined && network_is_virtual(network_mode(n->defined)) && el_is(doc_root(n->defined), "bridge/@name", bridge)) ||
                    (n->live && network_is_virtual(network_mode(n->live)) && el_is(doc_root(n->live), "bridge/@name", bridge));
        g_mutex_unlock(&n->lock);
        if (used)
            return network_ref(n);
    }
    return NULL;
}

static bool bridge_free(struct network_driver *dr, const char *bridge)
{
    network_auto *user = bridge_user(dr, bridge, NULL);
    return !user && !manage_link_exists(bridge);
}

static bool complete_bridge(struct network_driver *dr, struct el *root, GError **error)
{
    const char *given = el_get(root, "bridge/@name");
    bool numbered = given && g_str_has_suffix(given, "%d");
    if (!given || numbered) {
        g_autofree char *stem = numbered ? g_strndup(given, strlen(given) - 2) : g_strdup("virbr");
        unsigned i = 0;
        char name[64];
        do {
            if (i > 9999)
                return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "no free bridge name '%s0' ... '%s9999'", stem, stem);
            g_snprintf(name, sizeof name, "%s%u", stem, i++);
        } while (!bridge_free(dr, name));
        el_set(root, "bridge/@name", name);
    }
    if (!el_get(root, "bridge/@stp"))
        el_set(root, "bridge/@stp", "on");
    if (!el_get(root, "bridge/@delay"))
        el_set(root, "bridge/@delay", "0");
    const char *mac = el_get(root, "mac/@address");
    if (!mac) {
        uint8_t b[3];
        if (getrandom(b, 3, 0) != 3)
            return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "no random numbers for a MAC address");
        el_setf(root, "mac/@address", "52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
    } else {
        g_autofree char *lower = g_ascii_strdown(mac, -1);
        el_set(root, "mac/@address", lower);
    }
    return true;
}

bool network_complete(struct network_driver *dr, struct doc *d, GError **error)
{
    struct el *root = doc_root(d);
    uint8_t uuid[16];
    char text[37];
    const char *dev = el_get(root, "forward/@dev"), *first = el_get(root, "forward/interface/@dev");
    if (dev && first && strcmp(dev, first))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<forward dev='%s'> must match first <interface dev='%s'/> in network %s", dev, first, el_get_or(root, "name", ""));
    drop_empty(root);
    complete_forward(root);
    const char *given = el_get(root, "uuid");
    if (given && !manage_uuid_parse(given, uuid))
        return manage_fail(error, VIR_ERR_XML_ERROR, "line %u: '%s' is not a UUID", el_line(el_child(root, "uuid")), given);
    if (!given)
        manage_uuid_random(uuid);
    manage_uuid_format(uuid, text);
    el_set(root, "uuid", text);
    const char *bridge = el_get(root, "bridge/@name");
    if (network_is_virtual(network_mode(d)) && (!bridge || g_str_has_suffix(bridge, "%d")) && !complete_bridge(dr, root, error))
        return false;
    if (!network_check(d, error))
        return false;
    return !network_is_virtual(network_mode(d)) || complete_bridge(dr, root, error);
}

/* ---- against the others ---- */

bool network_check_unique(struct network_driver *dr, const struct doc *d, bool create, struct network **ret, GError **error)
{
    const struct el *root = doc_root(d);
    const char *name = el_get(root, "name"), *bridge = el_get(root, "bridge/@name");
    uint8_t uuid[16];
    char text[37];
    if (!manage_uuid_parse(el_get(root, "uuid"), uuid))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "network '%s' has no UUID", name);
    network_auto *same_name = network_by_name(dr, name, NULL), *same_uuid = network_by_uuid(dr, uuid, NULL, NULL);
    if (same_uuid && same_uuid != same_name) {
        manage_uuid_format(uuid, text);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "network '%s' is already defined with uuid %s", same_uuid->name, text);
    }
    if (same_name && !same_uuid) {
        manage_uuid_format(same_name->uuid, text);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "network '%s' already exists with uuid %s", name, text);
    }
    if (create && same_name && network_is_active(same_name))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "network is already active as '%s'", name);
    network_auto *user = bridge && network_is_virtual(network_mode(d)) ? bridge_user(dr, bridge, uuid) : NULL;
    if (user)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "bridge name '%s' already in use by network '%s': name another one", bridge, user->name);
    const char *mac = network_is_virtual(network_mode(d)) ? el_get(root, "mac/@address") : NULL;
    g_autoptr(GPtrArray) all = network_all(dr);
    for (unsigned i = 0; mac && i < all->len; i++) {
        struct network *n = all->pdata[i];
        g_mutex_lock(&n->lock);
        const struct doc *other = n->defined ? n->defined : n->live;
        bool same = n != same_name && other && el_is(doc_root(other), "mac/@address", mac);
        g_mutex_unlock(&n->lock);
        if (same)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "MAC address '%s' of the bridge is that of network '%s': leave <mac> out to get a new one", mac,
                               n->name);
    }
    *ret = same_name ? network_ref(same_name) : NULL;
    return true;
}
