/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dnsmasq for one network (dnsmasq(8)): DHCP, DNS, router advertisements, TFTP. It goes into the background by itself and outlives this
 * process. All it needs stands in one configuration file, which it reads before it gives up root; a change is a restart, which its
 * leases file survives.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "manage/drivers/network/network.h"

struct config {
    GString *text;
    const char *name;
    GError **error;
    bool failed;
};

/* One line. A value that would begin another line is refused. */
static void G_GNUC_PRINTF(2, 3) line(struct config *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    for (const char *t = text; *t && !c->failed; t++) {
        if ((uint8_t)*t < 0x20 || *t == 0x7f) {
            c->failed = true;
            manage_fail(c->error, VIR_ERR_XML_ERROR, "a control character stands in what network '%s' gives to dnsmasq: '%.*s'", c->name, (int)(t - text), text);
        }
    }
    g_string_append_printf(c->text, "%s\n", text);
}

/* A word within a line: no comma, no blank. */
static const char *word(struct config *c, const struct el *e, const char *path)
{
    const char *text = el_get(e, path);
    if (text && (!*text || strpbrk(text, ", \t")) && !c->failed) {
        c->failed = true;
        manage_fail(c->error, VIR_ERR_XML_ERROR, "line %u: '%s' of <%s> in network '%s' is empty or has a blank or comma", el_line(e), text, el_name(e), c->name);
    }
    return text;
}

static bool has_ip(const struct doc *d, int family)
{
    struct net_addr a;
    el_each (ip, doc_root(d), "ip")
        if (net_addr_of(ip, "", &a, NULL) && a.family == family)
            return true;
    return false;
}

bool network_dns_wanted(const struct doc *d)
{
    const struct el *root = doc_root(d);
    if (!el_child(root, "ip"))
        return false;
    if (!el_is(root, "dns/@enable", "no") || has_ip(d, AF_INET6))
        return true;
    el_each (ip, root, "ip")
        if (el_child(ip, "dhcp") || el_child(ip, "tftp"))
            return true;
    return false;
}

/* ---- the configuration ---- */

/* ",2h" or "" after <lease expiry= unit=>. */
static char *lease_time(const struct el *e)
{
    uint64_t n;
    if (!el_get_u64(e, "lease/@expiry", &n))
        return g_strdup("");
    if (!n)
        return g_strdup(",infinite");
    const char *unit = el_get_or(e, "lease/@unit", "minutes");
    return g_strdup_printf(",%" G_GUINT64_FORMAT "%s", n, !strcmp(unit, "seconds") ? "" : !strcmp(unit, "hours") ? "h" : "m");
}

static void dns_forwarding(struct config *c, const struct el *root, const struct el *dns, enum network_mode mode)
{
    const char *domain = word(c, root, "domain/@name");
    bool any_server = false;
    if (domain) {
        line(c, "domain=%s", domain);
        line(c, "expand-hosts");
        if (el_is(root, "domain/@localOnly", "yes"))
            line(c, "local=/%s/", domain);
    }
    if (el_is(dns, "@forwardPlainNames", "no")) {
        line(c, "domain-needed");
        if (!domain || !el_is(root, "domain/@localOnly", "yes"))
            line(c, "local=//");
    }
    el_each (f, dns, "forwarder") {
        const char *address = word(c, f, "@addr"), *of = word(c, f, "@domain");
        any_server |= !of;
        if (of)
            line(c, "server=/%s/%s", of, address ? address : "#");
        else if (address)
            line(c, "server=%s", address);
    }
    if (any_server || mode == NETWORK_ISOLATED)
        line(c, "no-resolv");
}

static void dns_records(struct config *c, const struct el *dns)
{
    el_each (txt, dns, "txt")
        line(c, "txt-record=%s,%s", word(c, txt, "@name"), el_get_or(txt, "@value", ""));
    el_each (srv, dns, "srv") {
        g_autoptr(GString) text = g_string_new(NULL);
        const char *domain = word(c, srv, "@domain"), *target = word(c, srv, "@target"), *port = word(c, srv, "@port");
        g_string_printf(text, "srv-host=_%s._%s", word(c, srv, "@service"), word(c, srv, "@protocol"));
        if (domain)
            g_string_append_printf(text, ".%s", domain);
        if (target) {
            g_string_append_printf(text, ",%s,%s", target, port ? port : "1");
            if (el_get(srv, "@priority") || el_get(srv, "@weight"))
                g_string_append_printf(text, ",%s", el_get_or(srv, "@priority", "0"));
            if (el_get(srv, "@weight"))
                g_string_append_printf(text, ",%s", el_get(srv, "@weight"));
        }
        line(c, "%s", text->str);
    }
    el_each (host, dns, "host") {
        g_autoptr(GString) text = g_string_new("host-record=");
        el_each (name, host, "hostname")
            g_string_append_printf(text, "%s,", word(c, name, ""));
        const char *ip = word(c, host, "@ip");
        if (ip && el_child(host, "hostname"))
            line(c, "%s%s", text->str, ip);
    }
}

static void dhcp_host(struct config *c, const struct el *host, int family)
{
    g_autoptr(GString) text = g_string_new("dhcp-host=");
    const char *mac = word(c, host, "@mac"), *id = word(c, host, "@id"), *name = word(c, host, "@name"), *ip = word(c, host, "@ip");
    g_autofree char *lease = lease_time(host);
    if (mac)
        g_string_append_printf(text, "%s,", mac);
    if (id)
        g_string_append_printf(text, "id:%s,", id);
    if (family == AF_INET6)
        g_string_append_printf(text, "%s%s[%s]", name ? name : "", name ? "," : "", ip);
    else
        g_string_append_printf(text, "%s%s%s", !mac && name ? name : ip, name ? "," : "", !name ? "" : mac ? name : ip);
    line(c, "%s%s", text->str, lease);
}

/* Addresses that the ranges give out, for the limit on leases. */
static uint64_t range_size(const struct el *range, int family)
{
    struct net_addr a, b;
    if (!net_addr_parse(el_get(range, "@start"), family, &a) || !net_addr_parse(el_get(range, "@end"), family, &b))
        return 0;
    uint64_t size = 0;
    for (unsigned i = net_addr_bits(&a) / 8 - 4; i < net_addr_bits(&a) / 8; i++)
        size = size * 256 + (uint64_t)b.bytes[i] - a.bytes[i];
    return (size & 0xffffffff) + 1;
}

static void dhcp(struct config *c, const struct el *ip, const struct net_addr *net, bool *ret_v6, uint64_t *leases)
{
    const struct el *d = el_child(ip, "dhcp");
    g_autofree char *address = net_addr_format(net);
    if (net->family == AF_INET6)
        *ret_v6 = true;
    struct net_addr base = *net;
    g_autofree char *network = net_addr_format_net(&base);
    *strchr(network, '/') = 0;
    struct net_addr mask = { .family = net->family, .prefix = net->prefix };
    memset(mask.bytes, 0xff, 16);
    g_autofree char *mask_text = net_addr_format_net(&mask);
    *strchr(mask_text, '/') = 0;
    bool any = false;
    el_each (range, d, "range") {
        g_autofree char *lease = lease_time(range);
        g_autofree char *prefix = g_strdup_printf("%u", net->prefix);
        line(c, "dhcp-range=%s,%s,%s%s", word(c, range, "@start"), word(c, range, "@end"), net->family == AF_INET ? mask_text : prefix, lease);
        *leases += range_size(range, net->family);
        any = true;
    }
    el_each (host, d, "host") {
        if (!any && net->family == AF_INET)
            line(c, "dhcp-range=%s,static,%s", network, mask_text);
        else if (!any)
            line(c, "dhcp-range=%s,static,%u", network, net->prefix);
        any = true;
        dhcp_host(c, host, net->family);
        *leases += 1;
    }
    if (net->family == AF_INET6 && !any)
        line(c, "dhcp-range=%s,ra-only", address);
    if (el_child(ip, "tftp")) {
        line(c, "enable-tftp");
        line(c, "tftp-root=%s", el_get_or(ip, "tftp/@root", ""));
    }
    if (el_get(d, "bootp/@file"))
        line(c, el_get(d, "bootp/@server") ? "dhcp-boot=%s,,%s" : "dhcp-boot=%s%s", el_get(d, "bootp/@file"), el_get_or(d, "bootp/@server", ""));
}

/* Reverse names of this network are answered here and nowhere else: whole bytes (IPv4) or nibbles (IPv6) of the prefix. */
static void local_ptr(struct config *c, const struct net_addr *net)
{
    g_autoptr(GString) text = g_string_new("local=/");
    if (net->family == AF_INET) {
        for (unsigned i = net->prefix / 8; i-- > 0;)
            g_string_append_printf(text, "%u.", net->bytes[i]);
        g_string_append(text, "in-addr.arpa/");
    } else {
        for (unsigned i = net->prefix / 4; i-- > 0;)
            g_string_append_printf(text, "%x.", i % 2 ? net->bytes[i / 2] & 15 : net->bytes[i / 2] >> 4);
        g_string_append(text, "ip6.arpa/");
    }
    line(c, "%s", text->str);
}

static const char *server_user(void)
{
    static const char *const users[] = { "vireo-dnsmasq", "libvirt-dnsmasq", "dnsmasq", "nobody" };
    for (unsigned i = 0; i < G_N_ELEMENTS(users); i++) {
        char buffer[4096];
        struct passwd p, *found = NULL;
        if (getpwnam_r(users[i], &p, buffer, sizeof buffer, &found) == 0 && found)
            return users[i];
    }
    return "root";
}

char *network_dns_config(const struct network *n, const struct doc *d, GError **error)
{
    const struct el *root = doc_root(d), *dns = el_child(root, "dns");
    g_autoptr(GString) text = g_string_new("# Made by Vireo from the network's document; changes here are overwritten.\n");
    struct config c = { text, el_get_or(root, "name", ""), error, false };
    enum network_mode mode = network_mode(d);
    line(&c, "strict-order");
    if (n) {
        g_autofree char *pid = network_file(n->driver->state_dir, n->name, ".pid"), *leases = network_file(n->driver->lib_dir, n->name, ".leases");
        line(&c, "user=%s", server_user());
        line(&c, "pid-file=%s", pid);
        line(&c, "dhcp-leasefile=%s", leases);
    }
    line(&c, "except-interface=lo");
    line(&c, "bind-dynamic");
    line(&c, "interface=%s", el_get_or(root, "bridge/@name", ""));
    if (el_is(root, "dns/@enable", "no")) {
        line(&c, "port=0");
    } else {
        dns_forwarding(&c, root, dns, mode);
        dns_records(&c, dns);
    }
    if (mode == NETWORK_ISOLATED) {
        line(&c, "dhcp-option=3"); /* no default route, by DHCP or by router advertisement */
        line(&c, "ra-param=*,0,0");
    }
    bool v6 = false;
    uint64_t leases = 0;
    el_each (ip, root, "ip") {
        struct net_addr net;
        if (!net_addr_of(ip, c.name, &net, error))
            return NULL;
        if (el_is(ip, "@localPtr", "yes"))
            local_ptr(&c, &net);
        dhcp(&c, ip, &net, &v6, &leases);
    }
    if (leases) {
        line(&c, "dhcp-no-override");
        line(&c, "dhcp-authoritative");
        line(&c, "dhcp-lease-max=%" G_GUINT64_FORMAT, MIN(leases, 65536));
    }
    if (v6)
        line(&c, "enable-ra");
    if (el_get(root, "mtu/@size"))
        line(&c, "dhcp-option=option:mtu,%s", el_get(root, "mtu/@size"));
    el_each (option, el_child(root, "dnsmasq:options"), "dnsmasq:option")
        line(&c, "%s", el_get_or(option, "@value", ""));
    return c.failed ? NULL : g_string_free(g_steal_pointer(&text), FALSE);
}

/* ---- the process ---- */

/* Is this process one with the word in its command line? */
static bool has_word(gint64 pid, const char *word)
{
    g_autofree char *proc = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/cmdline", pid), *cmdline = NULL;
    gsize size;
    if (pid <= 1 || pid > G_MAXINT || pid == getpid() || !g_file_get_contents(proc, &cmdline, &size, NULL))
        return false;
    for (gsize at = 0; at < size; at += strlen(cmdline + at) + 1)
        if (!strcmp(cmdline + at, word))
            return true;
    return false;
}

static char *config_word(struct network_driver *dr, const char *name)
{
    g_autofree char *config = network_file(dr->lib_dir, name, ".conf");
    return g_strconcat("--conf-file=", config, NULL);
}

pid_t network_dns_find(struct network_driver *dr, const char *name)
{
    g_autofree char *path = network_file(dr->state_dir, name, ".pid"), *word = config_word(dr, name), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    gint64 pid = g_ascii_strtoll(text, NULL, 10);
    return has_word(pid, word) ? (pid_t)pid : 0;
}

/* One that has not written its number down: a daemon that was killed while it started one has left it on its way. 0: none. */
static pid_t find_on_its_way(const char *word)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while (proc && (name = g_dir_read_name(proc)))
        if (g_ascii_isdigit(name[0]) && has_word(g_ascii_strtoll(name, NULL, 10), word))
            return (pid_t)g_ascii_strtoll(name, NULL, 10);
    return 0;
}

static bool wait_end(int pidfd, int ms)
{
    struct pollfd p = { pidfd, POLLIN, 0 };
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR)
        ;
    return n == 1;
}

static void end_process(pid_t pid, const char *word)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return;
    if (has_word(pid, word) && syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) == 0 && !wait_end(fd, 3000)) {
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
        wait_end(fd, 3000);
    }
    close(fd);
}

void network_dns_stop(struct network_driver *dr, const char *name)
{
    enum { FORKS = 16 }; /* it goes to the background by forking while it is looked for */
    g_autofree char *word = config_word(dr, name), *path = network_file(dr->state_dir, name, ".pid");
    pid_t pid = network_dns_find(dr, name);
    if (pid)
        end_process(pid, word);
    for (int i = 0; i < FORKS && (pid = find_on_its_way(word)); i++)
        end_process(pid, word);
    unlink(path);
}

void network_dns_remove_files(struct network_driver *dr, const char *name, bool leases)
{
    g_autofree char *config = network_file(dr->lib_dir, name, ".conf"), *file = network_file(dr->lib_dir, name, ".leases");
    unlink(config);
    if (leases)
        unlink(file);
}

bool network_dns_start(struct network *n, const struct doc *d, GError **error)
{
    struct network_driver *dr = n->driver;
    g_autofree char *config = network_file(dr->lib_dir, n->name, ".conf"), *text = network_dns_config(n, d, error);
    if (!text)
        return false;
    if (g_mkdir_with_parents(dr->lib_dir, 0755) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dr->lib_dir);
    if (!manage_write_file(config, text, -1, 0644, error))
        return false;
    g_autofree char *option = g_strconcat("--conf-file=", config, NULL);
    const char *argv[] = { "dnsmasq", option, NULL };
    g_autoptr(GError) why = NULL;
    if (!manage_run(argv, NULL, &why))
        return manage_fail(error, why->code, "network '%s': %s", n->name, why->message);
    n->dnsmasq = network_dns_find(dr, n->name);
    network_watch_dns(n);
    return true;
}
