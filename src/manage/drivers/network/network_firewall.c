/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nftables of one network: a table "inet vireo_BRIDGE" of its own, made in one transaction and taken away with one. What other tables
 * drop it cannot allow; what it rejects (the way into a network that is not routed, isolation) no other table lets through.
 */
#include <string.h>
#include <sys/socket.h>

#include "manage/core/manage_nft.h"
#include "manage/drivers/network/network.h"

struct rules {
    const char *bridge, *dev; /* dev: the only way out, or NULL */
    GString *forward, *nat;
};

static void G_GNUC_PRINTF(2, 3) rule(GString *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_string_append(s, "    ");
    g_string_append_vprintf(s, format, args);
    g_string_append_c(s, '\n');
    va_end(args);
}

/* Into the network only what answers; from it everything, with the host's address. */
static void nat_rules(struct rules *r, const struct el *forward, const char *ip, const char *net)
{
    g_autofree char *out = r->dev ? g_strdup_printf(" oifname \"%s\"", r->dev) : g_strdup(""), *in = r->dev ? g_strdup_printf(" iifname \"%s\"", r->dev) : g_strdup("");
    rule(r->forward, "oifname \"%s\"%s %s daddr %s ct state established,related accept", r->bridge, in, ip, net);
    rule(r->forward, "iifname \"%s\"%s %s saddr %s accept", r->bridge, out, ip, net);
    const char *first = el_get(forward, "nat/address/@start"), *last = el_get(forward, "nat/address/@end");
    const char *low = el_get(forward, "nat/port/@start"), *high = el_get(forward, "nat/port/@end");
    bool v4 = !strcmp(ip, "ip");
    g_autofree char *ports = g_strdup_printf(":%s-%s", low ? low : "1024", high ? high : "65535"), *all = NULL, *with_ports = NULL;
    if (first && v4) {
        const char *to = last && strcmp(first, last) ? "-" : "";
        all = g_strdup_printf("snat ip to %s%s%s", first, to, *to ? last : "");
        with_ports = g_strdup_printf("%s%s", all, ports);
    } else {
        all = g_strdup("masquerade");
        with_ports = g_strdup_printf("masquerade to %s", ports);
    }
    if (v4)
        rule(r->nat, "ip saddr %s ip daddr { 224.0.0.0/24, 255.255.255.255 } return", net);
    else
        rule(r->nat, "ip6 saddr %s ip6 daddr ff02::/16 return", net);
    rule(r->nat, "%s saddr %s %s daddr != %s%s meta l4proto { tcp, udp } %s", ip, net, ip, net, out, with_ports);
    rule(r->nat, "%s saddr %s %s daddr != %s%s %s", ip, net, ip, net, out, all);
}

static void route_rules(struct rules *r, const char *ip, const char *net)
{
    g_autofree char *out = r->dev ? g_strdup_printf(" oifname \"%s\"", r->dev) : g_strdup(""), *in = r->dev ? g_strdup_printf(" iifname \"%s\"", r->dev) : g_strdup("");
    rule(r->forward, "oifname \"%s\"%s %s daddr %s accept", r->bridge, in, ip, net);
    rule(r->forward, "iifname \"%s\"%s %s saddr %s accept", r->bridge, out, ip, net);
}

static void net_rules(struct rules *r, const struct el *forward, enum network_mode mode, const struct net_addr *net)
{
    const char *ip = net->family == AF_INET ? "ip" : "ip6";
    g_autofree char *text = net_addr_format_net(net);
    if (mode == NETWORK_NAT && (net->family == AF_INET || el_is(forward, "nat/@ipv6", "yes")))
        nat_rules(r, forward, ip, text);
    else if (mode != NETWORK_ISOLATED)
        route_rules(r, ip, text);
}

static void input_rules(GString *s, const char *bridge)
{
    rule(s, "iifname \"%s\" meta l4proto { tcp, udp } th dport { 53, 67, 69, 547 } accept", bridge);
}

static char *chains_text(const struct doc *d)
{
    const struct el *root = doc_root(d), *forward = el_child(root, "forward");
    const char *bridge = el_get(root, "bridge/@name");
    struct rules r = { bridge, el_get(forward, "@dev"), g_string_new(NULL), g_string_new(NULL) };
    g_autoptr(GString) input = g_string_new(NULL);
    input_rules(input, bridge);
    rule(r.forward, "iifname \"%s\" oifname \"%s\" accept", bridge, bridge);
    el_each (ip, root, "ip") {
        struct net_addr net;
        if (net_addr_of(ip, "", &net, NULL))
            net_rules(&r, forward, network_mode(d), &net);
    }
    el_each (route, root, "route") { /* what lies behind a guest that routes */
        struct net_addr to;
        if (net_addr_of(route, "", &to, NULL))
            net_rules(&r, forward, network_mode(d), &to);
    }
    rule(r.forward, "oifname \"%s\" reject with icmpx port-unreachable", bridge);
    rule(r.forward, "iifname \"%s\" reject with icmpx port-unreachable", bridge);
    char *text = g_strdup_printf("  chain input {\n    type filter hook input priority filter; policy accept;\n%s  }\n"
                                 "  chain forward {\n    type filter hook forward priority filter; policy accept;\n%s  }\n"
                                 "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n%s  }\n",
                                 input->str, r.forward->str, r.nat->str);
    g_string_free(r.forward, TRUE);
    g_string_free(r.nat, TRUE);
    return text;
}

/* What the network sends out is policed where it enters the host: libvirt's "outbound". */
static char *police_text(const struct el *root, const char *bridge)
{
    const struct el *out = el_find(root, "bandwidth/outbound");
    const char *average = el_get(out, "@average"), *burst = el_get(out, "@burst");
    if (!average)
        return g_strdup("");
    return g_strdup_printf("  chain prerouting {\n    type filter hook prerouting priority raw; policy accept;\n"
                           "    iifname \"%s\" limit rate over %s kbytes/second burst %s kbytes drop\n  }\n",
                           bridge, average, burst ? burst : average);
}

/* The first two lines make the transaction good whether the table is there or not. */
static char *whole_text(const struct doc *d)
{
    const struct el *root = doc_root(d);
    const char *bridge = el_get(root, "bridge/@name");
    /* An open network has no rules of ours: the administrator's own decide. */
    g_autofree char *chains = network_mode(d) == NETWORK_OPEN ? g_strdup("") : chains_text(d), *police = police_text(root, bridge);
    if (!*chains && !*police)
        return NULL;
    return g_strdup_printf("table inet vireo_%s { }\ndelete table inet vireo_%s\ntable inet vireo_%s {\n%s%s}\n", bridge, bridge, bridge, chains, police);
}

/* ---- the rules that the kernel has ---- */

/* -1 where that cannot be known. */
static int count_rules(const char *bridge)
{
    g_autofree char *table = g_strconcat("vireo_", bridge, NULL);
    return manage_nft_count(NFPROTO_INET, table);
}

/* A base chain of the forward hook whose policy is drop, and that is not ours. */
static void dropping_chain(void *opaque, const struct nlmsghdr *h)
{
    GString *found = opaque;
    const struct nfgenmsg *g = NLMSG_DATA(h);
    const char *table = manage_nft_text(manage_nft_attr(h, NFTA_CHAIN_TABLE)), *name = manage_nft_text(manage_nft_attr(h, NFTA_CHAIN_NAME));
    const struct nlattr *hook = manage_nft_inner(manage_nft_attr(h, NFTA_CHAIN_HOOK), NFTA_HOOK_HOOKNUM), *policy = manage_nft_attr(h, NFTA_CHAIN_POLICY);
    const char *family = g->nfgen_family == NFPROTO_INET ? "inet" : g->nfgen_family == NFPROTO_IPV4 ? "ip" : g->nfgen_family == NFPROTO_IPV6 ? "ip6" : NULL;
    if (family && hook && policy && manage_nft_u32(hook) == NF_INET_FORWARD && manage_nft_u32(policy) == NF_DROP && !g_str_has_prefix(table, "vireo_"))
        g_string_append_printf(found, "%s%s %s %s", found->len ? ", " : "", family, table, name);
}

void network_firewall_warn(const struct network *n, const struct doc *d)
{
    const char *bridge = el_get(doc_root(d), "bridge/@name");
    g_autoptr(GString) text = g_string_new(NULL);
    if (network_mode(d) == NETWORK_ISOLATED || !manage_nft_dump(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, dropping_chain, text) || !text->len)
        return;
    g_warning("network '%s': another firewall drops what it does not know of forwarded packets (nftables chain %s): where it has no rule for '%s', guests reach nothing "
              "beyond the host. Rules that allow it: nft insert rule CHAIN iifname %s accept; nft insert rule CHAIN oifname %s ct state established,related accept",
              n->name, text->str, bridge, bridge, bridge);
}

/* ---- making and taking away ---- */

bool network_firewall_apply(struct network *n, const struct doc *d, GError **error)
{
    g_autofree char *text = whole_text(d);
    if (!text)
        return true;
    g_autoptr(GError) why = NULL;
    if (!manage_nft_run(text, &why))
        return manage_fail(error, why->code, "cannot make the firewall rules of network '%s': %s", n->name, why->message);
    int count = count_rules(el_get(doc_root(d), "bridge/@name"));
    n->rules = count > 0 ? (unsigned)count : 0;
    return true;
}

void network_firewall_remove(const char *bridge)
{
    g_autofree char *text = g_strdup_printf("table inet vireo_%s { }\ndelete table inet vireo_%s\n", bridge, bridge);
    g_autoptr(GError) error = NULL;
    if (count_rules(bridge) != 0 && !manage_nft_run(text, &error))
        g_warning("the firewall rules of bridge '%s' are left behind: %s", bridge, error->message);
}

bool network_firewall_mend(struct network *n)
{
    doc_auto *d = network_live(n);
    if (!d || n->user || !network_is_virtual(network_mode(d)))
        return false;
    int count = count_rules(el_get(doc_root(d), "bridge/@name"));
    g_autoptr(GError) error = NULL;
    if (count < 0 || !n->rules || (unsigned)count == n->rules)
        return false; /* not to be known, or all there: our own changes are heard of as well */
    g_message("network '%s': its firewall rules were taken away by another program and are put back", n->name);
    if (!network_firewall_apply(n, d, &error))
        g_warning("%s", error->message);
    return true;
}
