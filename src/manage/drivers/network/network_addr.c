/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IP addresses with a prefix, as they stand in network documents. */
#include <arpa/inet.h>
#include <string.h>

#include "manage/drivers/network/network.h"

unsigned net_addr_bits(const struct net_addr *a) { return a->family == AF_INET ? 32 : 128; }

bool net_addr_parse(const char *text, int family, struct net_addr *ret)
{
    struct net_addr a = { 0 };
    if (!text)
        return false;
    if (family != AF_INET6 && inet_pton(AF_INET, text, a.bytes) == 1)
        a.family = AF_INET;
    else if (family != AF_INET && inet_pton(AF_INET6, text, a.bytes) == 1)
        a.family = AF_INET6;
    else
        return false;
    a.prefix = net_addr_bits(&a);
    *ret = a;
    return true;
}

char *net_addr_format(const struct net_addr *a)
{
    char text[INET6_ADDRSTRLEN];
    return g_strdup(inet_ntop(a->family, a->bytes, text, sizeof text));
}

static struct net_addr masked(const struct net_addr *a)
{
    struct net_addr m = *a;
    for (unsigned bit = m.prefix; bit < net_addr_bits(&m); bit++)
        m.bytes[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
    return m;
}

char *net_addr_format_net(const struct net_addr *a)
{
    struct net_addr m = masked(a);
    g_autofree char *text = net_addr_format(&m);
    return g_strdup_printf("%s/%u", text, m.prefix);
}

bool net_addr_in(const struct net_addr *a, const struct net_addr *net)
{
    struct net_addr wide = *a, m = masked(net);
    wide.prefix = net->prefix;
    wide = masked(&wide);
    return a->family == net->family && !memcmp(wide.bytes, m.bytes, sizeof m.bytes);
}

bool net_addr_overlap(const struct net_addr *a, const struct net_addr *b)
{
    return a->prefix >= b->prefix ? net_addr_in(a, b) : net_addr_in(b, a);
}

int net_addr_compare(const struct net_addr *a, const struct net_addr *b) { return memcmp(a->bytes, b->bytes, 16); }

/* 255.255.255.0 -> 24; -1 where the ones do not stand in front. */
static int prefix_of_mask(const struct net_addr *mask)
{
    uint32_t m;
    memcpy(&m, mask->bytes, 4);
    m = ntohl(m);
    int prefix = m ? __builtin_clz(~m ? ~m : 1) : 0;
    if (m == 0xffffffff)
        return 32;
    return (uint32_t)(m << prefix) == 0 ? prefix : -1;
}

static unsigned class_prefix(const struct net_addr *a)
{
    if (a->family == AF_INET6)
        return 64;
    return a->bytes[0] < 128 ? 8 : a->bytes[0] < 192 ? 16 : 24;
}

bool net_addr_of(const struct el *e, const char *network, struct net_addr *ret, GError **error)
{
    const char *address = el_get(e, "@address"), *netmask = el_get(e, "@netmask"), *prefix = el_get(e, "@prefix");
    const char *family = el_get_or(e, "@family", "ipv4");
    struct net_addr a, mask;
    if (!address)
        return manage_fail(error, VIR_ERR_XML_ERROR, "line %u: <%s> of network '%s' has no address", el_line(e), el_name(e), network);
    if (!net_addr_parse(address, 0, &a))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Invalid address '%s' in network '%s' (line %u)", address, network, el_line(e));
    if (strcmp(family, "ipv4") && strcmp(family, "ipv6"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Invalid family '%s' in network '%s' (line %u): ipv4 or ipv6", family, network, el_line(e));
    if ((a.family == AF_INET6) != !strcmp(family, "ipv6"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "address '%s' in network '%s' (line %u) is not of family '%s'%s", address, network, el_line(e),
                           family, a.family == AF_INET6 ? ": write family='ipv6'" : "");
    if (netmask && prefix)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Network '%s' IP address cannot have both a prefix and a netmask (line %u)", network, el_line(e));
    if (netmask) {
        int n = a.family == AF_INET && net_addr_parse(netmask, AF_INET, &mask) ? prefix_of_mask(&mask) : -1;
        if (n < 0)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "netmask '%s' of address '%s' in network '%s' (line %u) is not valid", netmask, address,
                               network, el_line(e));
        a.prefix = (unsigned)n;
    } else if (prefix) {
        guint64 n;
        if (!g_ascii_string_to_unsigned(prefix, 10, 0, net_addr_bits(&a), &n, NULL))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Invalid %s prefix '%s' in network '%s' (line %u)",
                               a.family == AF_INET ? "IPv4" : "IPv6", prefix, network, el_line(e));
        a.prefix = (unsigned)n;
    } else {
        a.prefix = class_prefix(&a);
    }
    *ret = a;
    return true;
}

bool net_mac_valid(const char *text)
{
    for (unsigned i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':' : !g_ascii_isxdigit(text[i]))
            return false;
    return !text[17];
}
