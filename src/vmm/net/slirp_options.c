/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of -netdev user, in QEMU's syntax. Defaults: 10.0.2.0/24, host .2, name server .3, DHCP from .15; fec0::/64. */
#include "vmm/net/slirp_options.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"

static bool bad(GError **error, const char *key, const char *value, const char *expects)
{
    return vireo_fail(error, VIREO_ERROR_INVALID, "netdev user: %s=%s is not possible; it takes %s", key, value, expects);
}

static bool parse_bool(const char *key, const char *text, bool *ret, GError **error)
{
    static const char *const yes[] = { "on", "yes", "true", "y", NULL }, *const no[] = { "off", "no", "false", "n", NULL };
    *ret = g_strv_contains(yes, text);
    return *ret || g_strv_contains(no, text) || bad(error, key, text, "on or off");
}

static bool parse_net(const char *text, SlirpConfig *c, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 2);
    struct in_addr net, mask;
    guint64 bits = 24;
    if (!parts[0] || !inet_pton(AF_INET, parts[0], &net))
        return bad(error, "net", text, "an IPv4 network, as 10.0.2.0/24");
    if (!parts[1])
        mask.s_addr = htonl(0xffffff00);
    else if (strchr(parts[1], '.') ? !inet_pton(AF_INET, parts[1], &mask) : !g_ascii_string_to_unsigned(parts[1], 10, 4, 28, &bits, NULL))
        return bad(error, "net", text, "an IPv4 network of 4 to 28 bits, as 10.0.2.0/24");
    else if (!strchr(parts[1], '.'))
        mask.s_addr = htonl(~0u << (32 - bits));
    uint32_t hosts = ~ntohl(mask.s_addr);
    if ((hosts & (hosts + 1)) || hosts < 15)
        return bad(error, "net", text, "a network mask with room for 15 addresses");
    c->vnetmask = mask;
    c->vnetwork.s_addr = net.s_addr & mask.s_addr;
    /* Host, name server and first guest at their usual places, or near in a small network. */
    uint32_t base = ntohl(c->vnetwork.s_addr);
    c->vhost.s_addr = htonl(base | 2);
    c->vnameserver.s_addr = htonl(base | 3);
    c->vdhcp_start.s_addr = htonl(base | (hosts >= 31 ? 15 : 4));
    return true;
}

static bool in_net(const SlirpConfig *c, struct in_addr a)
{
    uint32_t host = ntohl(a.s_addr) & ~ntohl(c->vnetmask.s_addr);
    return (a.s_addr & c->vnetmask.s_addr) == c->vnetwork.s_addr && host && host != ~ntohl(c->vnetmask.s_addr);
}

static bool parse_place(const char *key, const char *text, const SlirpConfig *c, struct in_addr *ret, GError **error)
{
    return (inet_pton(AF_INET, text, ret) == 1 && in_net(c, *ret)) || bad(error, key, text, "an address inside the network (net=)");
}

static bool known(GHashTable *opts, GError **error)
{
    static const char *const taken[] = { "id", "type", "net", "host", "dns", "dhcpstart", "hostname", "hostfwd", "restrict", "ipv4",
                                         "ipv6", "domainname", NULL };
    static const char *const refused[] = { "tftp", "tftp-server-name", "bootfile", "smb", "smbserver", "guestfwd", "dnssearch",
                                           "ipv6-net", "ipv6-prefix", "ipv6-prefixlen", "ipv6-host", "ipv6-dns", NULL };
    GHashTableIter i;
    gpointer key;
    g_hash_table_iter_init(&i, opts);
    while (g_hash_table_iter_next(&i, &key, NULL)) {
        if (g_strv_contains(refused, key))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "netdev user: '%s' is not supported; leave it out", (char *)key);
        if (!g_strv_contains(taken, key))
            return vireo_fail(error, VIREO_ERROR_INVALID, "netdev user has no option '%s'", (char *)key);
    }
    return true;
}

bool slirp_options_parse(GHashTable *opts, SlirpConfig *ret, GError **error)
{
    const char *v;
    bool flag;
    *ret = (SlirpConfig){ .version = 4, .in_enabled = true, .in6_enabled = true, .vprefix_len = 64 };
    inet_pton(AF_INET6, "fec0::", &ret->vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &ret->vhost6);
    inet_pton(AF_INET6, "fec0::3", &ret->vnameserver6);
    if (!known(opts, error) || !parse_net((v = g_hash_table_lookup(opts, "net")) ? v : "10.0.2.0/24", ret, error))
        return false;
    const struct { const char *key; struct in_addr *at; } places[] = {
        { "host", &ret->vhost }, { "dns", &ret->vnameserver }, { "dhcpstart", &ret->vdhcp_start } };
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        v = g_hash_table_lookup(opts, places[i].key);
        if (v && !parse_place(places[i].key, v, ret, places[i].at, error))
            return false;
    }
    if (ret->vhost.s_addr == ret->vnameserver.s_addr)
        return vireo_fail(error, VIREO_ERROR_INVALID, "netdev user: host and dns may not be the same address");
    const struct { const char *key; int kind; } flags[] = { { "restrict", 0 }, { "ipv4", 1 }, { "ipv6", 2 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        v = g_hash_table_lookup(opts, flags[i].key);
        if (!v)
            continue;
        if (!parse_bool(flags[i].key, v, &flag, error))
            return false;
        if (flags[i].kind == 0)
            ret->restricted = flag;
        else if (flags[i].kind == 1)
            ret->in_enabled = flag;
        else
            ret->in6_enabled = flag;
    }
    if (!ret->in_enabled && !ret->in6_enabled)
        return vireo_fail(error, VIREO_ERROR_INVALID, "netdev user: ipv4=off and ipv6=off leave nothing");
    ret->vhostname = g_hash_table_lookup(opts, "hostname");
    ret->vdomainname = g_hash_table_lookup(opts, "domainname");
    if (ret->vhostname && strlen(ret->vhostname) > 32)
        return bad(error, "hostname", ret->vhostname, "up to 32 characters");
    if (ret->vdomainname && strlen(ret->vdomainname) > 255)
        return bad(error, "domainname", ret->vdomainname, "up to 255 characters");
    return true;
}

static bool parse_end(const char *text, struct in_addr *addr, uint16_t *port)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 2);
    guint64 n;
    addr->s_addr = 0;
    if (!parts[0] || !parts[1] || (*parts[0] && inet_pton(AF_INET, parts[0], addr) != 1) ||
        !g_ascii_string_to_unsigned(parts[1], 10, 1, 65535, &n, NULL))
        return false;
    *port = n;
    return true;
}

bool slirp_forward_parse(const char *text, struct slirp_forward *ret, GError **error)
{
    const char *rest = strchr(text, ':');
    g_autofree char *protocol = rest ? g_strndup(text, rest - text) : NULL;
    g_auto(GStrv) ends = rest ? g_strsplit(rest + 1, "-", 2) : NULL;
    ret->udp = protocol && !strcmp(protocol, "udp");
    if (!rest || (*protocol && !ret->udp && strcmp(protocol, "tcp")) || !ends[0] || !ends[1] ||
        !parse_end(ends[0], &ret->host, &ret->host_port) || !parse_end(ends[1], &ret->guest, &ret->guest_port))
        return bad(error, "hostfwd", text, "tcp|udp:[hostaddr]:hostport-[guestaddr]:guestport");
    return true;
}
