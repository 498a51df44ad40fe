/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One rule as nftables of family bridge wants it. Directions: a rule stands as it is written, or mirrored (source and destination exchanged). Fields of ARP
 * are taken by their offset: nft's own words for them mean EtherType 0x806 alone, and RARP has the same fields.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manage/drivers/nwfilter/nwfilter.h"

struct line {
    GString *s;
    const struct nwfilter_rule *r;
    GError **error;
    bool ipv6;
};

static char *value(const struct line *l, const char *attribute) { return l->r->value(l->r->opaque, attribute); }

/* The attribute of the source, or of the destination where the rule is mirrored. */
static char *side(const struct line *l, bool source, const char *format_src, const char *format_dst)
{
    return value(l, source != l->r->mirrored ? format_src : format_dst);
}

static void match(struct line *l, const char *what, const char *is)
{
    g_string_append_printf(l->s, " %s %s%s", what, l->r->negated ? "!= " : "", is);
}

/* "FIELD & MASK == VALUE" */
static void match_masked(struct line *l, const char *what, const char *mask, const char *is)
{
    g_string_append_printf(l->s, " %s & %s %s %s", what, mask, l->r->negated ? "!=" : "==", is);
}

static uint64_t mac_number(const char *text)
{
    uint64_t n = 0;
    for (const char *p = text; *p; p++)
        if (*p != ':')
            n = n << 4 | (unsigned)g_ascii_xdigit_value(*p);
    return n;
}

/* ---- addresses ---- */

static void add_mac(struct line *l, bool source)
{
    g_autofree char *mac = side(l, source, "srcmacaddr", "dstmacaddr"), *mask = side(l, source, "srcmacmask", "dstmacmask"), *masked = NULL;
    const char *what = source ? "ether saddr" : "ether daddr";
    if (!mac)
        return;
    if (!mask || !strcmp(mask, "ff:ff:ff:ff:ff:ff")) {
        match(l, what, mac);
        return;
    }
    uint64_t n = mac_number(mac) & mac_number(mask);
    masked = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", (unsigned)(n >> 40 & 255), (unsigned)(n >> 32 & 255), (unsigned)(n >> 24 & 255), (unsigned)(n >> 16 & 255), (unsigned)(n >> 8 & 255),
                             (unsigned)(n & 255));
    match_masked(l, what, mask, masked);
}

static void add_ip(struct line *l, bool source)
{
    const char *what = l->ipv6 ? source ? "ip6 saddr" : "ip6 daddr" : source ? "ip saddr" : "ip daddr";
    g_autofree char *ip = side(l, source, "srcipaddr", "dstipaddr"), *mask = side(l, source, "srcipmask", "dstipmask");
    g_autofree char *from = side(l, source, "srcipfrom", "dstipfrom"), *to = side(l, source, "srcipto", "dstipto");
    g_autofree char *net = ip && mask ? g_strdup_printf("%s/%s", ip, mask) : g_strdup(ip), *range = from ? g_strdup_printf(to ? "%s-%s" : "%s", from, to) : NULL;
    if (net && !(mask && !strcmp(mask, "0")))
        match(l, what, net);
    if (range)
        match(l, what, range);
}

static void add_range(struct line *l, const char *what, const char *from, const char *to)
{
    g_autofree char *range = from ? g_strdup_printf(to && strcmp(from, to) ? "%s-%s" : "%s", from, to) : NULL;
    if (range)
        match(l, what, range);
}

static void add_ports(struct line *l)
{
    g_autofree char *src = side(l, true, "srcportstart", "dstportstart"), *src_end = side(l, true, "srcportend", "dstportend");
    g_autofree char *dst = side(l, false, "srcportstart", "dstportstart"), *dst_end = side(l, false, "srcportend", "dstportend");
    add_range(l, "@th,0,16", src, src_end);
    add_range(l, "@th,16,16", dst, dst_end);
}

static void add_number(struct line *l, const char *attribute, const char *what)
{
    g_autofree char *n = value(l, attribute);
    if (n)
        match(l, what, n);
}

static void add_word(struct line *l, enum nwfilter_kind kind, const char *attribute, const char *what)
{
    g_autofree char *word = value(l, attribute), *n = word ? g_strdup_printf(kind == NW_ETHER ? "0x%04x" : "%d", (unsigned)nwfilter_number(kind, word)) : NULL;
    if (n)
        match(l, what, n);
}

static bool refuse(struct line *l, const char *const *names)
{
    for (; *names; names++) {
        g_autofree char *given = value(l, *names);
        if (given)
            return manage_fail(l->error, VIR_ERR_CONFIG_UNSUPPORTED, "%s='%s' of <%s>, line %u of the filter, is not there", *names, given, l->r->protocol, el_line(l->r->el));
    }
    return true;
}

/* ---- protocols ---- */

static void add_arp_mac(struct line *l, bool source)
{
    g_autofree char *mac = side(l, source, "arpsrcmacaddr", "arpdstmacaddr"), *n = mac ? g_strdup_printf("0x%012" G_GINT64_MODIFIER "x", mac_number(mac)) : NULL;
    if (n)
        match(l, source ? "@nh,64,48" : "@nh,144,48", n);
}

static void add_arp_ip(struct line *l, bool source)
{
    g_autofree char *ip = side(l, source, "arpsrcipaddr", "arpdstipaddr"), *mask = side(l, source, "arpsrcipmask", "arpdstipmask");
    const char *what = source ? "@nh,112,32" : "@nh,192,32";
    unsigned b[4];
    int bits = mask ? atoi(mask) : 32;
    if (!ip || !bits || sscanf(ip, "%u.%u.%u.%u", b, b + 1, b + 2, b + 3) != 4)
        return;
    uint32_t m = ~0u << (32 - bits);
    g_autofree char *n = g_strdup_printf("0x%08x", ((b[0] & 255) << 24 | (b[1] & 255) << 16 | (b[2] & 255) << 8 | (b[3] & 255)) & m), *mask_text = g_strdup_printf("0x%08x", m);
    if (bits == 32)
        match(l, what, n);
    else
        match_masked(l, what, mask_text, n);
}

static bool add_arp(struct line *l)
{
    static const char *const never[] = { "gratuitous", NULL };
    g_string_append(l->s, !strcmp(l->r->protocol, "arp") ? " ether type 0x0806" : " ether type 0x8035");
    add_number(l, "hwtype", "@nh,0,16");
    add_number(l, "protocoltype", "@nh,16,16");
    add_word(l, NW_ARP, "opcode", "@nh,48,16");
    for (int source = 1; source >= 0; source--) {
        add_arp_mac(l, source);
        add_arp_ip(l, source);
    }
    return refuse(l, never);
}

static bool add_ip_l2(struct line *l)
{
    g_autofree char *type = value(l, "type"), *type_end = value(l, "typeend"), *code = value(l, "code"), *code_end = value(l, "codeend");
    g_string_append(l->s, l->ipv6 ? " ether type 0x86dd" : " ether type 0x0800");
    add_ip(l, true);
    add_ip(l, false);
    add_word(l, NW_PROTOCOL, "protocol", "meta l4proto");
    add_ports(l);
    if (!l->ipv6)
        add_number(l, "dscp", "ip dscp");
    add_range(l, "@th,0,8", type, type_end);
    add_range(l, "@th,8,8", code, code_end);
    return true;
}

static unsigned tcp_bits(const char *list)
{
    static const struct { const char *name; unsigned bit; } words[] = { { "FIN", 1 }, { "SYN", 2 }, { "RST", 4 }, { "PSH", 8 }, { "ACK", 16 }, { "URG", 32 }, { "ALL", 63 } };
    g_auto(GStrv) parts = g_strsplit(list, ",", -1);
    unsigned bits = 0;
    for (char **p = parts; *p; p++)
        for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
            bits |= !strcmp(*p, words[i].name) ? words[i].bit : 0;
    return bits;
}

/* "LOOKED AT/SET" */
static void add_flags(struct line *l)
{
    g_autofree char *text = value(l, "flags");
    g_auto(GStrv) parts = text ? g_strsplit(text, "/", 2) : NULL;
    if (!parts || g_strv_length(parts) != 2)
        return;
    g_autofree char *mask = g_strdup_printf("0x%02x", tcp_bits(parts[0])), *set = g_strdup_printf("0x%02x", tcp_bits(parts[1]));
    match_masked(l, "@th,104,8", mask, set);
}

static bool add_l3(struct line *l)
{
    static const char *const never[] = { "connlimit-above", "ipset", NULL };
    const char *p = l->r->protocol;
    size_t length = strcspn(p, "-");
    g_autofree char *name = g_strndup(p, length), *type = value(l, "type"), *code = value(l, "code");
    if (!l->r->mirrored)
        add_mac(l, true);
    g_string_append(l->s, l->ipv6 ? " ether type 0x86dd" : " ether type 0x0800");
    if (strcmp(name, "all"))
        g_string_append_printf(l->s, " meta l4proto %d", nwfilter_number(NW_PROTOCOL, name));
    add_ip(l, true);
    add_ip(l, false);
    add_number(l, "dscp", l->ipv6 ? "ip6 dscp" : "ip dscp");
    if (strcmp(name, "all") && strcmp(name, "esp") && strcmp(name, "ah"))
        add_ports(l);
    add_flags(l);
    add_range(l, "@th,0,8", type, NULL);
    add_range(l, "@th,8,8", code, NULL);
    return refuse(l, never);
}

static bool add_stp(struct line *l)
{
    static const char *const never[] = { "type", "flags", "root-priority", "root-address", "root-cost", "sender-priority", "sender-address", "port", "age", "max-age", "hello-time", "forward-delay", NULL };
    g_string_append(l->s, " ether daddr 01:80:c2:00:00:00");
    return refuse(l, never);
}

static bool add_protocol(struct line *l)
{
    const char *p = l->r->protocol;
    if (l->r->layer3)
        return add_l3(l);
    add_mac(l, true);
    if (strcmp(p, "stp"))
        add_mac(l, false);
    if (!strcmp(p, "arp") || !strcmp(p, "rarp"))
        return add_arp(l);
    if (!strcmp(p, "ip") || !strcmp(p, "ipv6"))
        return add_ip_l2(l);
    if (!strcmp(p, "stp"))
        return add_stp(l);
    if (!strcmp(p, "vlan")) {
        g_string_append(l->s, " ether type 0x8100");
        add_number(l, "vlanid", "vlan id");
        add_word(l, NW_ETHER, "encap-protocol", "vlan type");
        return true;
    }
    add_word(l, NW_ETHER, "protocolid", "ether type"); /* mac */
    return true;
}

bool nwfilter_rule_text(GString *s, const struct nwfilter_rule *r, GError **error)
{
    struct line l = { s, r, error, r->protocol && nwfilter_is_ipv6(r->protocol) };
    g_string_append(s, "   ");
    if (r->protocol && !add_protocol(&l))
        return false;
    if (r->state)
        g_string_append_printf(s, " ct state %s", r->state);
    if (r->direction)
        g_string_append_printf(s, " ct direction %s", r->direction);
    g_string_append_printf(s, " %s\n", r->verdict);
    return true;
}
