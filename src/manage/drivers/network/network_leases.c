/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dnsmasq's leases file: "EXPIRY MAC IP NAME CLIENTID" per IPv4 lease; after a line "duid ...", "EXPIRY IAID IP NAME DUID" per IPv6 lease; "*": none. */
#include <arpa/inet.h>
#include <string.h>
#include <time.h>

#include "manage/drivers/network/network.h"

#define LEASES_MAX (4 << 20)

static void lease_free(gpointer opaque)
{
    struct network_lease *l = opaque;
    g_free(l->mac);
    g_free(l->iaid);
    g_free(l->ip);
    g_free(l->hostname);
    g_free(l->clientid);
    g_free(l);
}

static char *or_none(const char *text) { return strcmp(text, "*") ? g_strdup(text) : NULL; }

/* DUID-LLT (1) and DUID-LL (3) over Ethernet (1) end in the MAC address (RFC 8415, 11). */
static char *mac_of_duid(const char *duid)
{
    gsize n = strlen(duid);
    bool llt = g_str_has_prefix(duid, "00:01:00:01:") && n == 3 * 14 - 1, ll = g_str_has_prefix(duid, "00:03:00:01:") && n == 3 * 10 - 1;
    return llt || ll ? g_strdup(duid + n - 17) : NULL;
}

/* Length of the prefix of the network's address that the lease lies in. */
static unsigned prefix_of(const struct doc *d, const struct net_addr *a)
{
    el_each (ip, doc_root(d), "ip") {
        struct net_addr net;
        if (net_addr_of(ip, "", &net, NULL) && net_addr_in(a, &net))
            return net.prefix;
    }
    return net_addr_bits(a);
}

static struct network_lease *parse(char **word, bool v6, const struct doc *d, gint64 now)
{
    struct network_lease l = { .v6 = v6 };
    struct net_addr a;
    guint64 expiry;
    if (g_strv_length(word) < 5 || !g_ascii_string_to_unsigned(word[0], 10, 0, G_MAXINT64, &expiry, NULL) ||
        !net_addr_parse(word[2], v6 ? AF_INET6 : AF_INET, &a) || (expiry && (gint64)expiry <= now))
        return NULL;
    l.expiry = (int64_t)expiry;
    l.prefix = prefix_of(d, &a);
    l.ip = net_addr_format(&a);
    l.hostname = or_none(word[3]);
    l.clientid = or_none(word[4]);
    if (v6)
        l.iaid = g_strdup(word[1]);
    const char *mac = strrchr(word[1], '-'); /* "06-MAC": hardware type in front where it is not Ethernet */
    l.mac = v6 ? mac_of_duid(word[4]) : g_strdup(mac ? mac + 1 : word[1]);
    return g_memdup2(&l, sizeof l);
}

GPtrArray *network_leases(struct network *n, const char *mac)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(lease_free);
    g_autofree char *path = network_file(n->driver->lib_dir, n->name, ".leases"), *text = NULL;
    gsize size;
    doc_auto *d = network_live(n);
    if (!d || !g_file_get_contents(path, &text, &size, NULL) || size > LEASES_MAX)
        return list;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    gint64 now = time(NULL);
    bool v6 = false;
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) word = g_strsplit(lines[i], " ", -1);
        if (word[0] && !strcmp(word[0], "duid")) {
            v6 = true;
            continue;
        }
        struct network_lease *l = parse(word, v6, d, now);
        if (l && mac && (!l->mac || g_ascii_strcasecmp(l->mac, mac))) {
            lease_free(l);
            l = NULL;
        }
        if (l)
            g_ptr_array_add(list, l);
    }
    return list;
}
