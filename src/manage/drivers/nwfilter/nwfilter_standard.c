/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filters that are there from the first start on, under the names that users of libvirt refer to. Entries, each ended by ';':
 *   use NAME                                           another filter
 *   DIRECTION ACTION PRIORITY [PROTOCOL [KEY=VALUE]...] a rule
 */
#include <string.h>
#include <sys/stat.h>

#include "manage/drivers/nwfilter/nwfilter.h"

#define DHCP_ASKS "out accept 100 ip srcipaddr=0.0.0.0 dstipaddr=255.255.255.255 protocol=udp srcportstart=68 dstportstart=67;"
#define DHCP6_ASKS "out accept 100 ipv6 srcipaddr=fe80:: srcipmask=10 dstipaddr=ff02::1:2 protocol=udp srcportstart=546 dstportstart=547;"
#define ANNOUNCED "dstmacaddr=ff:ff:ff:ff:ff:ff opcode=Request_Reverse arpsrcmacaddr=$MAC arpdstmacaddr=$MAC arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0;"

static const struct { const char *name, *chain; int priority; const char *entries; } standard[] = {
    { "allow-arp", "arp", 0, "inout accept 500;" },
    { "allow-dhcp", "ipv4", 0, DHCP_ASKS "in accept 100 ip protocol=udp srcportstart=67 dstportstart=68;" },
    { "allow-dhcp-server", "ipv4", 0, DHCP_ASKS "in accept 100 ip srcipaddr=$DHCPSERVER protocol=udp srcportstart=67 dstportstart=68;" },
    { "allow-dhcpv6", "ipv6", 0, DHCP6_ASKS "in accept 100 ipv6 protocol=udp srcportstart=547 dstportstart=546;" },
    { "allow-dhcpv6-server", "ipv6", 0, DHCP6_ASKS "in accept 100 ipv6 srcipaddr=$DHCPSERVER protocol=udp srcportstart=547 dstportstart=546;" },
    { "allow-incoming-ipv4", "ipv4", 0, "in accept 500;" },
    { "allow-incoming-ipv6", "ipv6", 0, "in accept 500;" },
    { "allow-ipv4", "ipv4", 0, "inout accept 500;" },
    { "allow-ipv6", "ipv6", 0, "inout accept 500;" },
    { "clean-traffic", "root", 0, "use no-mac-spoofing; use no-ip-spoofing; out accept -650 mac protocolid=ipv4; use allow-incoming-ipv4; use no-arp-spoofing;"
      "inout accept -500 mac protocolid=arp; use no-other-l2-traffic; use qemu-announce-self;" },
    { "clean-traffic-gateway", "root", 0, "use no-mac-spoofing; use no-ip-spoofing; use no-arp-spoofing; inout accept -500 mac protocolid=arp;"
      "in accept 500 mac srcmacaddr=$GATEWAY_MAC; out accept 500 mac dstmacaddr=$GATEWAY_MAC; use no-other-l2-traffic; use qemu-announce-self;" },
    { "no-arp-ip-spoofing", "arp-ip", -510, "out return 400 arp arpsrcipaddr=$IP; out drop 1000;" },
    { "no-arp-mac-spoofing", "arp-mac", -520, "out return 350 arp arpsrcmacaddr=$MAC; out drop 1000;" },
    { "no-arp-spoofing", "root", 0, "use no-arp-mac-spoofing; use no-arp-ip-spoofing;" },
    { "no-ip-multicast", "ipv4", 0, "out drop 500 ip dstipaddr=224.0.0.0 dstipmask=4;" },
    { "no-ip-spoofing", "ipv4-ip", -710, "out return 100 ip srcipaddr=0.0.0.0 protocol=udp; out return 500 ip srcipaddr=$IP; out drop 1000;" },
    { "no-ipv6-multicast", "ipv6", 0, "out drop 500 ipv6 dstipaddr=ff00:: dstipmask=8;" },
    { "no-ipv6-spoofing", "ipv6-ip", -610, "out return 100 ipv6 srcipaddr=fe80:: srcipmask=10 protocol=udp; out return 500 ipv6 srcipaddr=$IPV6; out drop 1000;" },
    { "no-mac-broadcast", "ipv4", 0, "out drop 500 mac dstmacaddr=ff:ff:ff:ff:ff:ff;" },
    { "no-mac-spoofing", "mac", 0, "out return 500 mac srcmacaddr=$MAC; out drop 500 mac;" },
    { "no-other-l2-traffic", "root", 0, "inout drop 1000;" },
    { "no-other-rarp-traffic", "rarp", 0, "inout drop 1000;" },
    { "qemu-announce-self", "root", 0, "out accept 500 mac protocolid=0x835; use qemu-announce-self-rarp; use no-other-rarp-traffic;" },
    { "qemu-announce-self-rarp", "rarp", 0, "out accept 500 rarp srcmacaddr=$MAC " ANNOUNCED "in accept 500 rarp " ANNOUNCED },
};

static void add_entry(struct el *root, const char *text)
{
    g_auto(GStrv) w = g_strsplit(text, " ", -1);
    if (!strcmp(w[0], "use")) {
        el_set(el_add(root, "filterref"), "@filter", w[1]);
        return;
    }
    struct el *rule = el_add(root, "rule"), *protocol = w[3] ? el_add(rule, w[3]) : NULL;
    el_set(rule, "@direction", w[0]);
    el_set(rule, "@action", w[1]);
    el_set(rule, "@priority", w[2]);
    for (char **pair = w + 4; protocol && *pair; pair++) {
        char *equals = strchr(*pair, '=');
        g_autofree char *path = g_strdup_printf("@%.*s", (int)(equals - *pair), *pair);
        el_set(protocol, path, equals + 1);
    }
}

static struct nwfilter *standard_new(unsigned i)
{
    struct nwfilter *f = g_new0(struct nwfilter, 1);
    char uuid[37];
    f->name = g_strdup(standard[i].name);
    f->def = doc_new(&schema_nwfilter);
    manage_uuid_random(f->uuid);
    manage_uuid_format(f->uuid, uuid);
    struct el *root = doc_root(f->def);
    int priority = standard[i].priority ? standard[i].priority : nwfilter_chain_priority(standard[i].chain);
    el_set(root, "@name", f->name);
    el_set(root, "@chain", standard[i].chain);
    if (priority)
        el_setf(root, "@priority", "%d", priority);
    el_set(root, "uuid", uuid);
    g_auto(GStrv) entries = g_strsplit(standard[i].entries, ";", -1);
    for (char **e = entries; *g_strstrip(*e); e++)
        add_entry(root, *e);
    return f;
}

struct nwfilter *nwfilter_standard_again(const char *file)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(standard); i++)
        if (g_str_has_prefix(file, standard[i].name) && !strcmp(file + strlen(standard[i].name), ".xml"))
            return standard_new(i);
    return NULL;
}

void nwfilter_standard(struct nwfilter_driver *dr)
{
    g_autoptr(GError) error = NULL;
    if (g_file_test(dr->config_dir, G_FILE_TEST_EXISTS) || g_mkdir_with_parents(dr->config_dir, 0700) < 0)
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(standard) && !error; i++) {
        struct nwfilter *f = standard_new(i);
        g_autofree char *path = g_strdup_printf("%s/%s.xml", dr->config_dir, f->name), *text = doc_format(f->def);
        /* without waiting for the disk: what a power cut leaves empty is made again */
        if (manage_put_file(path, text, -1, 0600, &error))
            g_hash_table_replace(dr->filters, f->name, f);
        else
            nwfilter_free(f);
    }
    if (error)
        g_warning("the standard network filters are not all there: %s", error->message);
}
