/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values of filter documents: what each attribute may be, and the one form in which it is kept. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manage/drivers/nwfilter/nwfilter.h"

enum { CHAIN_MAX = 12, PRIORITY_MAX = 1000, ETHER_MIN = 0x600 };

static const struct { const char *name; enum nwfilter_kind kind; } attributes[] = {
    { "srcmacaddr", NW_MAC }, { "dstmacaddr", NW_MAC }, { "arpsrcmacaddr", NW_MAC }, { "arpdstmacaddr", NW_MAC }, { "root-address", NW_MAC }, { "sender-address", NW_MAC },
    { "srcmacmask", NW_MACMASK }, { "dstmacmask", NW_MACMASK }, { "root-address-mask", NW_MACMASK }, { "sender-address-mask", NW_MACMASK },
    { "srcipaddr", NW_IP }, { "dstipaddr", NW_IP }, { "srcipfrom", NW_IP }, { "srcipto", NW_IP }, { "dstipfrom", NW_IP }, { "dstipto", NW_IP },
    { "srcipmask", NW_IPMASK }, { "dstipmask", NW_IPMASK }, { "arpsrcipaddr", NW_IP4 }, { "arpdstipaddr", NW_IP4 }, { "arpsrcipmask", NW_IP4MASK }, { "arpdstipmask", NW_IP4MASK },
    { "protocolid", NW_ETHER }, { "encap-protocol", NW_ETHER }, { "protocol", NW_PROTOCOL }, { "opcode", NW_ARP }, { "gratuitous", NW_BOOL },
    { "hwtype", NW_U16 }, { "protocoltype", NW_U16 }, { "srcportstart", NW_U16 }, { "srcportend", NW_U16 }, { "dstportstart", NW_U16 }, { "dstportend", NW_U16 },
    { "dscp", NW_DSCP }, { "type", NW_U8 }, { "typeend", NW_U8 }, { "code", NW_U8 }, { "codeend", NW_U8 }, { "vlanid", NW_VLAN }, { "connlimit-above", NW_COUNT },
    { "flags", NW_TCPFLAGS }, { "root-priority", NW_U16 }, { "root-priority-hi", NW_U16 }, { "root-cost", NW_U32 }, { "root-cost-hi", NW_U32 }, { "sender-priority", NW_U16 }, { "sender-priority-hi", NW_U16 },
    { "port", NW_U16 }, { "port-hi", NW_U16 }, { "age", NW_U16 }, { "age-hi", NW_U16 }, { "max-age", NW_U16 }, { "max-age-hi", NW_U16 }, { "hello-time", NW_U16 },
    { "hello-time-hi", NW_U16 }, { "forward-delay", NW_U16 }, { "forward-delay-hi", NW_U16 }, { "state", NW_STATE }, { "ipset", NW_IPSET }, { "ipsetflags", NW_IPSETFLAGS },
};

struct word { const char *name; int number; };
static const struct word ethers[] = { { "arp", 0x806 }, { "rarp", 0x8035 }, { "ipv4", 0x800 }, { "ipv6", 0x86dd }, { "vlan", 0x8100 }, {} };
static const struct word protocols[] = { { "tcp", 6 }, { "udp", 17 }, { "udplite", 136 }, { "esp", 50 }, { "ah", 51 }, { "icmp", 1 }, { "igmp", 2 }, { "sctp", 132 }, { "icmpv6", 58 }, {} };
static const struct word arps[] = { { "Request", 1 }, { "Reply", 2 }, { "Request_Reverse", 3 }, { "Reply_Reverse", 4 }, { "DRARP_Request", 5 }, { "DRARP_Reply", 6 }, { "DRARP_Error", 7 },
                                    { "InARP_Request", 8 }, { "ARP_NAK", 9 }, {} };

/* Decimal, or 0x: the number as it may stand; -1. */
static int64_t number(const char *text, int64_t least, int64_t most)
{
    char *end;
    if (!g_ascii_isdigit(*text))
        return -1;
    gint64 n = g_ascii_strtoll(text, &end, !g_ascii_strncasecmp(text, "0x", 2) ? 16 : 10);
    return *end || n < least || n > most ? -1 : n;
}

static const struct word *words_of(enum nwfilter_kind kind) { return kind == NW_ETHER ? ethers : kind == NW_PROTOCOL ? protocols : arps; }

int nwfilter_number(enum nwfilter_kind kind, const char *value)
{
    for (const struct word *w = words_of(kind); w->name; w++)
        if (!g_ascii_strcasecmp(w->name, value))
            return w->number;
    return (int)number(value, kind == NW_ETHER ? ETHER_MIN : 0, kind == NW_PROTOCOL ? 255 : 65535);
}

/* By name where there is one; other EtherTypes as 0x600. */
static char *word_form(enum nwfilter_kind kind, const char *value)
{
    int n = nwfilter_number(kind, value);
    for (const struct word *w = words_of(kind); w->name; w++)
        if (w->number == n)
            return g_strdup(w->name);
    return n < 0 ? NULL : g_strdup_printf(kind == NW_ETHER ? "0x%x" : "%d", (unsigned)n);
}

/* As it was given: 0x10 stays 0x10. */
static char *number_form(const char *value, int64_t most)
{
    int64_t n = number(value, 0, most);
    return n < 0 ? NULL : g_strdup_printf(!g_ascii_strncasecmp(value, "0x", 2) ? "0x%" G_GINT64_MODIFIER "x" : "%" G_GINT64_FORMAT, n);
}

static char *mac_form(const char *value)
{
    unsigned b[6];
    int used = 0;
    if (strspn(value, "0123456789abcdefABCDEF:") != strlen(value) ||
        sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", b, b + 1, b + 2, b + 3, b + 4, b + 5, &used) != 6 || value[used])
        return NULL;
    return g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

static char *ip_form(const char *value, bool ipv6)
{
    uint8_t b[16];
    char text[INET6_ADDRSTRLEN];
    int family = ipv6 ? AF_INET6 : AF_INET;
    return inet_pton(family, value, b) == 1 && inet_ntop(family, b, text, sizeof(text)) ? g_strdup(text) : NULL;
}

/* A number of bits, or the mask written out. */
static char *mask_form(const char *value, bool ipv6)
{
    uint8_t b[16];
    int bits = 0, all = ipv6 ? 128 : 32;
    if (number(value, 0, all) >= 0 && strspn(value, "0123456789") == strlen(value))
        return g_strdup_printf("%d", (int)number(value, 0, all));
    if (inet_pton(ipv6 ? AF_INET6 : AF_INET, value, b) != 1)
        return NULL;
    while (bits < all && (b[bits / 8] & 0x80 >> bits % 8))
        bits++;
    for (int i = bits; i < all; i++)
        if (b[i / 8] & 0x80 >> i % 8)
            return NULL;
    return g_strdup_printf("%d", bits);
}

/* A list of these words, in upper case. */
static char *list_form(const char *value, const char *const *words)
{
    g_autofree char *up = g_ascii_strup(value, -1);
    g_auto(GStrv) parts = g_strsplit(up, ",", -1);
    for (char **p = parts; *p; p++)
        if (!g_strv_contains(words, *p))
            return NULL;
    return *parts ? g_steal_pointer(&up) : NULL;
}

static char *flags_form(const char *value)
{
    static const char *const words[] = { "SYN", "ACK", "URG", "PSH", "FIN", "RST", "ALL", "NONE", NULL };
    g_auto(GStrv) parts = g_strsplit(value, "/", -1);
    if (g_strv_length(parts) != 2)
        return NULL;
    g_autofree char *mask = list_form(parts[0], words), *set = list_form(parts[1], words);
    return mask && set ? g_strdup_printf("%s/%s", mask, set) : NULL;
}

char *nwfilter_canonical(enum nwfilter_kind kind, bool ipv6, const char *value)
{
    static const char *const states[] = { "NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE", NULL }, *const sides[] = { "SRC", "DST", NULL };
    switch (kind) {
    case NW_MAC: case NW_MACMASK: return mac_form(value);
    case NW_IP: return ip_form(value, ipv6);
    case NW_IP4: return ip_form(value, false);
    case NW_IPMASK: return mask_form(value, ipv6);
    case NW_IP4MASK: return mask_form(value, false);
    case NW_U8: return number_form(value, 255);
    case NW_DSCP: return number_form(value, 63);
    case NW_U16: return number_form(value, 65535);
    case NW_VLAN: return number_form(value, 4095);
    case NW_U32: return number_form(value, G_MAXUINT32);
    case NW_COUNT: return strspn(value, "0123456789") == strlen(value) ? number_form(value, 65535) : NULL;
    case NW_ETHER: case NW_PROTOCOL: case NW_ARP: return word_form(kind, value);
    case NW_BOOL: return g_strdup(!strcmp(value, "yes") || !strcmp(value, "true") || !strcmp(value, "1") ? "true" : "false");
    case NW_TCPFLAGS: return flags_form(value);
    case NW_STATE: return list_form(value, states);
    case NW_IPSET: return *value && strlen(value) < 32 && strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-+") == strlen(value) ? g_strdup(value) : NULL;
    case NW_IPSETFLAGS: {
        g_autofree char *up = list_form(value, sides);
        return up ? g_ascii_strdown(up, -1) : NULL;
    }
    case NW_ANY: break;
    }
    return g_strdup(value);
}

enum nwfilter_kind nwfilter_kind_of(const char *protocol, const char *attribute)
{
    if (!strcmp(attribute, "flags") && !strcmp(protocol, "stp"))
        return NW_U8;
    for (unsigned i = 0; i < G_N_ELEMENTS(attributes); i++)
        if (!strcmp(attributes[i].name, attribute))
            return attributes[i].kind;
    return NW_ANY;
}

const char *nwfilter_attribute(unsigned i) { return i < G_N_ELEMENTS(attributes) ? attributes[i].name : NULL; }

bool nwfilter_is_ipv6(const char *protocol) { return !strcmp(protocol, "ipv6") || !strcmp(protocol, "icmpv6") || g_str_has_suffix(protocol, "-ipv6"); }

bool nwfilter_variable(const char *value, char **ret_name, int *ret_index, unsigned *ret_iterator)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t length = *value == '$' ? strspn(value + 1, letters) : 0;
    const char *at = value + 1 + length;
    char *end;
    if (!length)
        return false;
    *ret_index = -1;
    *ret_iterator = 0;
    if (*at == '[') {
        at += 1 + strspn(at + 1, " ");
        bool iterates = *at == '@';
        guint64 n = g_ascii_isdigit(at[iterates]) ? g_ascii_strtoull(at + iterates, &end, 10) : G_MAXUINT64;
        if (n > 65535)
            return false;
        at = end + strspn(end, " ");
        if (*at++ != ']')
            return false;
        if (iterates)
            *ret_iterator = (unsigned)n;
        else
            *ret_index = (int)n;
    }
    if (*at)
        return false;
    *ret_name = g_strndup(value + 1, length);
    return true;
}

static char *variable_form(const char *value)
{
    g_autofree char *name = NULL;
    int index;
    unsigned iterator;
    if (!nwfilter_variable(value, &name, &index, &iterator))
        return NULL;
    if (!strchr(value, '['))
        return g_strdup(value);
    return index >= 0 ? g_strdup_printf("$%s[%d]", name, index) : g_strdup_printf("$%s[@%u]", name, iterator);
}

/* ---- rules ---- */

static bool check_value(struct el *e, const char *name, GError **error)
{
    g_autofree char *path = g_strconcat("@", name, NULL), *given = g_strdup(el_get(e, path)), *form = NULL;
    enum nwfilter_kind kind = nwfilter_kind_of(el_name(e), name);
    if (!given)
        return true;
    if (kind == NW_ANY)
        return true;
    form = *given == '$' ? variable_form(given) : nwfilter_canonical(kind, nwfilter_is_ipv6(el_name(e)), given);
    if (!form)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "%s has illegal value %s", name, given);
    el_set(e, path, form);
    return true;
}

static bool check_ports(struct el *e, GError **error)
{
    static const char *const ports[] = { "@srcportstart", "@srcportend", "@dstportstart", "@dstportend" };
    const char *protocol = el_get(e, "@protocol");
    int number = protocol && *protocol != '$' ? nwfilter_number(NW_PROTOCOL, protocol) : 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(ports); i++)
        if (el_get(e, ports[i]) && number != 6 && number != 17 && number != 33 && number != 132)
            return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "%s rule with port specification requires protocol specification with protocol to be either one of tcp(6), udp(17), dccp(33), or sctp(132)",
                               !strcmp(el_name(e), "ip") ? "IP" : "IPv6");
    return true;
}

static bool check_rule(struct el *rule, GError **error)
{
    if (el_get(rule, "@statematch")) {
        bool off = el_is(rule, "@statematch", "0") || !g_ascii_strcasecmp(el_get(rule, "@statematch"), "false");
        el_set(rule, "@statematch", off ? "false" : NULL);
    }
    struct el *e = el_child(rule, NULL);
    if (e && el_next(e, NULL))
        return manage_fail(error, VIR_ERR_XML_ERROR, "line %u: a <rule> has one protocol; make a rule of <%s> of its own", el_line(el_next(e, NULL)), el_name(el_next(e, NULL)));
    if (!e)
        return true;
    if (el_is(e, "@match", "yes"))
        el_set(e, "@match", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(attributes); i++)
        if (!check_value(e, attributes[i].name, error))
            return false;
    if (el_get(e, "@ipset") && !el_get(e, "@ipsetflags"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "ipset needs ipsetflags: src, dst, or a list of these");
    return (strcmp(el_name(e), "ip") && strcmp(el_name(e), "ipv6")) || check_ports(e, error);
}

/* ---- chains ---- */

static const struct { const char *name; int priority; } chains[] = { { "root", 0 }, { "mac", -800 }, { "vlan", -750 }, { "stp", 0 }, { "arp", -500 }, { "rarp", -400 }, { "ipv4", -700 }, { "ipv6", -600 } };

static int chain_of(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(chains); i++)
        if (i ? g_str_has_prefix(name, chains[i].name) && strchr("-", name[strlen(chains[i].name)]) : !strcmp(name, "root"))
            return (int)i;
    return -1;
}

int nwfilter_chain_priority(const char *chain)
{
    int i = chain_of(chain);
    return i < 0 ? 0 : chains[i].priority;
}

static bool check_chain(struct el *root, GError **error)
{
    const char *chain = el_get_or(root, "@chain", "root"), *given = el_get(root, "@priority");
    if (strlen(chain) > CHAIN_MAX)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "Name of chain is longer than %d characters", CHAIN_MAX);
    if (chain_of(chain) < 0)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "Invalid chain name '%s'. Please use a chain name called 'root' or any of the following prefixes: mac, vlan, stp, arp, rarp, ipv4, ipv6", chain);
    int priority = given ? atoi(given) : nwfilter_chain_priority(chain);
    if (priority < -PRIORITY_MAX || priority > PRIORITY_MAX)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "Priority '%d' is outside valid range of [-%d,%d]", priority, PRIORITY_MAX, PRIORITY_MAX);
    el_set(root, "@chain", chain);
    el_set(root, "@priority", NULL);
    if (priority)
        el_setf(root, "@priority", "%d", priority);
    return true;
}

bool nwfilter_check(struct doc *def, GError **error)
{
    struct el *root = doc_root(def);
    const char *name = el_get_or(root, "@name", "");
    if (!*name || strlen(name) > 128 || strpbrk(name, "/\n") || *name == '.')
        return manage_fail(error, VIR_ERR_XML_ERROR, "name '%s' cannot be that of a filter: it is empty, too long, begins with '.' or contains '/'", name);
    if (!check_chain(root, error))
        return false;
    el_each (rule, root, "rule")
        if (!check_rule(rule, error))
            return false;
    return true;
}
