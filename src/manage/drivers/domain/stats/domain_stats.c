/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers of a running domain: disks, interfaces, memory, CPU time, addresses. */
#include "manage/drivers/domain/command/domain_plan.h"
#include "manage/drivers/domain/stats/domain_stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bigendian.h"
#include "manage/core/manage_netlink.h"
#include "manage/drivers/domain/guest/domain_agent.h"
#include "manage/drivers/domain/block/domain_chain.h"

/* ---- shared ---- */

int64_t js_number(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : 0;
}

static const char *js_string(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : NULL;
}

struct doc *domain_any_document(struct domain *d, GError **error)
{
    struct doc *live = domain_live(d, NULL);
    return live ? live : domain_definition(d, error);
}

const char *domain_disk_path(const struct el *disk)
{
    const char *file = el_get(disk, "source/@file");
    return file ? file : el_get(disk, "source/@dev");
}

char *domain_disk_image(struct domain *d, const struct el *disk)
{
    return el_is(disk, "@type", "volume") ? domain_image_path(d->driver, disk, NULL) : g_strdup(domain_disk_path(disk));
}

struct el *domain_find_disk(struct doc *doc, const char *name)
{
    el_each(disk, el_find(doc_root(doc), "devices"), "disk") {
        const char *path = domain_disk_path(disk);
        if (el_is(disk, "target/@dev", name) || el_is(disk, "alias/@name", name) || (path && !strcmp(path, name)))
            return disk;
    }
    return NULL;
}

struct el *domain_need_disk(struct doc *doc, const char *name, int code, const char *text, GError **error)
{
    struct el *disk = domain_find_disk(doc, name);
    return disk ? disk : manage_null(error, code, text, name);
}

struct el *domain_find_interface(struct doc *doc, const char *name)
{
    el_each(nic, el_find(doc_root(doc), "devices"), "interface") {
        const char *mac = el_get(nic, "mac/@address");
        if (el_is(nic, "target/@dev", name) || el_is(nic, "alias/@name", name) || (mac && !g_ascii_strcasecmp(mac, name)))
            return nic;
    }
    return NULL;
}

/* ---- disks ---- */

bool domain_disk_stats(struct json_object *list, const char *alias, struct disk_stats *ret)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", alias);
    gsize size = strlen(path);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *s = json_object_object_get(o, "stats");
        struct json_object *parent = json_object_object_get(o, "parent"), *file = parent ? json_object_object_get(parent, "stats") : NULL; /* below the format */
        const char *qdev = js_string(o, "qdev");
        if (!s || !qdev || !(!strcmp(qdev, alias) || (!strncmp(qdev, path, size) && (!qdev[size] || qdev[size] == '/'))))
            continue;
        *ret = (struct disk_stats){
            .rd_reqs = (uint64_t)js_number(s, "rd_operations"), .rd_bytes = (uint64_t)js_number(s, "rd_bytes"), .rd_ns = (uint64_t)js_number(s, "rd_total_time_ns"),
            .wr_reqs = (uint64_t)js_number(s, "wr_operations"), .wr_bytes = (uint64_t)js_number(s, "wr_bytes"), .wr_ns = (uint64_t)js_number(s, "wr_total_time_ns"),
            .fl_reqs = (uint64_t)js_number(s, "flush_operations"), .fl_ns = (uint64_t)js_number(s, "flush_total_time_ns"),
            .highest = (uint64_t)js_number(file ? file : s, "wr_highest_offset"),
            .errors = (uint64_t)(js_number(s, "failed_rd_operations") + js_number(s, "failed_wr_operations")),
        };
        return true;
    }
    return false;
}

static bool sizes_of_node(struct json_object *nodes, const struct el *disk, struct disk_sizes *ret)
{
    g_autofree char *name = domain_chain_node(disk);
    for (size_t i = 0; name && nodes && i < json_object_array_length(nodes); i++) {
        struct json_object *o = json_object_array_get_idx(nodes, i), *image = json_object_object_get(o, "image");
        const char *node = js_string(o, "node-name");
        if (!image || !node || strcmp(node, name))
            continue;
        ret->capacity = (uint64_t)js_number(image, "virtual-size");
        if (js_number(image, "actual-size") > 0 || !ret->allocation) /* of a block device nobody knows how much is used: all of it */
            ret->allocation = (uint64_t)js_number(image, "actual-size");
        return true;
    }
    return false;
}

/* The size that a qcow2 image's header gives (QCOW2 specification: magic at 0, size at 24). */
static bool qcow2_capacity(const char *path, uint64_t *ret)
{
    uint8_t h[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = fd >= 0 && pread(fd, h, sizeof(h), 0) == sizeof(h) && be_get32(h) == 0x514649fb;
    if (fd >= 0)
        close(fd);
    if (ok)
        *ret = be_get64(h + 24);
    return ok;
}

static uint64_t device_size(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    if (fd >= 0)
        close(fd);
    return size > 0 ? (uint64_t)size : 0;
}

bool domain_image_sizes(const char *path, bool raw, struct disk_sizes *ret)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return false;
    uint64_t used = (uint64_t)st.st_blocks * 512, capacity;
    *ret = (struct disk_sizes){ .capacity = (uint64_t)st.st_size, .allocation = used, .physical = used };
    if (S_ISREG(st.st_mode))
        ret->physical = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode))
        ret->capacity = ret->allocation = ret->physical = device_size(path);
    if (!raw && qcow2_capacity(path, &capacity))
        ret->capacity = capacity;
    return true;
}

bool domain_disk_sizes(struct domain *d, const struct el *disk, struct json_object *nodes, struct disk_sizes *ret, GError **error)
{
    g_autofree char *path = domain_disk_image(d, disk);
    if (!path)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "disk '%s' does not currently have a source assigned", el_get_or(disk, "target/@dev", "?"));
    if (!domain_image_sizes(path, g_str_equal(domain_chain_format(disk), "raw"), ret))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "cannot look at the image '%s' of disk '%s': %s", path, el_get_or(disk, "target/@dev", "?"), g_strerror(errno));
    sizes_of_node(nodes, disk, ret);
    return true;
}

/* query-blockstats or query-named-block-nodes; NULL: error. */
static struct json_object *ask(struct domain *d, const char *command, GError **error)
{
    struct json_object *o = monitor_command(d, command, NULL, error);
    if (o && !json_object_is_type(o, json_type_array)) {
        json_object_put(o);
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "the machine answers %s with something else than a list", command);
    }
    return o;
}

/* Sums up all disks where `name` is empty. */
static bool collect_disk(struct domain *d, const char *name, struct disk_stats *ret, GError **error)
{
    doc_auto *doc = domain_live(d, error);
    struct json_object *list = doc ? ask(d, "query-blockstats", error) : NULL;
    bool found = false;
    if (!list)
        return false;
    *ret = (struct disk_stats){ 0 };
    el_each(disk, el_find(doc_root(doc), "devices"), "disk") {
        struct disk_stats one;
        if ((*name && disk != domain_find_disk(doc, name)) || !domain_disk_stats(list, el_get_or(disk, "alias/@name", ""), &one))
            continue;
        found = true;
        ret->rd_reqs += one.rd_reqs, ret->rd_bytes += one.rd_bytes, ret->rd_ns += one.rd_ns;
        ret->wr_reqs += one.wr_reqs, ret->wr_bytes += one.wr_bytes, ret->wr_ns += one.wr_ns;
        ret->fl_reqs += one.fl_reqs, ret->fl_ns += one.fl_ns, ret->errors += one.errors;
    }
    json_object_put(list);
    return found || manage_fail(error, VIR_ERR_INVALID_ARG, "invalid path: %s: the domain has no such disk", *name ? name : "(all disks)");
}

static GVariant *block_stats(struct manage_call *c, GError **error)
{
    const char *name;
    struct disk_stats s;
    g_variant_get_child(c->args, 1, "&s", &name);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !collect_disk(d, name, &s, error))
        return NULL;
    return g_variant_new("(xxxxx)", (int64_t)s.rd_reqs, (int64_t)s.rd_bytes, (int64_t)s.wr_reqs, (int64_t)s.wr_bytes, (int64_t)-1);
}

static GVariant *block_stats_flags(struct manage_call *c, GError **error)
{
    const char *name;
    int asked;
    uint32_t flags;
    struct disk_stats s;
    g_variant_get(c->args, "(@(sayi)&siu)", NULL, &name, &asked, &flags);
    domain_auto *d = manage_check_flags(flags, VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !collect_disk(d, name, &s, error))
        return NULL;
    const struct { const char *field; uint64_t value; } rows[] = {
        { VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, s.wr_bytes }, { VIR_DOMAIN_BLOCK_STATS_WRITE_REQ, s.wr_reqs }, { VIR_DOMAIN_BLOCK_STATS_READ_BYTES, s.rd_bytes },
        { VIR_DOMAIN_BLOCK_STATS_READ_REQ, s.rd_reqs }, { VIR_DOMAIN_BLOCK_STATS_FLUSH_REQ, s.fl_reqs }, { VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES, s.wr_ns },
        { VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, s.rd_ns }, { VIR_DOMAIN_BLOCK_STATS_FLUSH_TOTAL_TIMES, s.fl_ns },
    };
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        manage_param(&b, rows[i].field, g_variant_new_int64((int64_t)rows[i].value));
    return manage_params_reply(&b, asked);
}

static GVariant *get_block_info(struct manage_call *c, GError **error)
{
    const char *name;
    uint32_t flags;
    struct disk_sizes s;
    g_variant_get(c->args, "(@(sayi)&su)", NULL, &name, &flags);
    domain_auto *d = manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? domain_any_document(d, error) : NULL;
    if (!doc)
        return NULL;
    struct el *disk = domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, "invalid path %s not assigned to domain", error);
    if (!disk)
        return NULL;
    struct json_object *nodes = el_get(disk, "source/@index") ? ask(d, "query-named-block-nodes", NULL) : NULL;
    bool ok = domain_disk_sizes(d, disk, nodes, &s, error);
    json_object_put(nodes);
    struct json_object *stats = ok && el_get(disk, "source/@index") && el_get(disk, "alias/@name") ? ask(d, "query-blockstats", NULL) : NULL;
    struct disk_stats written;
    if (stats && domain_disk_stats(stats, el_get(disk, "alias/@name"), &written) && written.highest) { /* for those who make thin volumes larger: where the guest has written to */
        s.physical = s.allocation;
        s.allocation = written.highest;
    }
    json_object_put(stats);
    return ok ? g_variant_new("(ttt)", s.allocation, s.capacity, s.physical) : NULL;
}

static GVariant *get_disk_errors(struct manage_call *c, GError **error)
{
    uint32_t max, flags;
    g_variant_get(c->args, "(@(sayi)uu)", NULL, &max, &flags);
    domain_auto *d = manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? domain_live(d, error) : NULL;
    struct json_object *list = doc ? ask(d, "query-block", error) : NULL;
    if (!list)
        return NULL;
    GVariantBuilder b;
    int n = 0;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(si)"));
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *status = js_string(o, "io-status"), *qdev = js_string(o, "qdev");
        if (!status || !strcmp(status, "ok"))
            continue;
        el_each(disk, el_find(doc_root(doc), "devices"), "disk") {
            const char *alias = el_get(disk, "alias/@name");
            if (!alias || !qdev || !strstr(qdev, alias))
                continue;
            if ((uint32_t)n < max)
                g_variant_builder_add(&b, "(si)", el_get_or(disk, "target/@dev", ""), !strcmp(status, "nospace") ? VIR_DOMAIN_DISK_ERROR_NO_SPACE : VIR_DOMAIN_DISK_ERROR_UNSPEC);
            n++;
            break;
        }
    }
    json_object_put(list);
    return g_variant_new("(a(si)i)", &b, n);
}

/* ---- interfaces ---- */

bool domain_net_stats(const struct el *nic, uint64_t ret[8])
{
    const char *tap = el_get(nic, "target/@dev");
    struct manage_link_stats s;
    if (!tap || !manage_link_stats(tap, &s))
        return false;
    bool own = el_is(nic, "@type", "direct"); /* what a tap sends is what the guest receives; a macvtap is the guest's own card */
    memcpy(ret, own ? s.received : s.sent, sizeof s.sent);
    memcpy(ret + 4, own ? s.sent : s.received, sizeof s.sent);
    return true;
}

static GVariant *interface_stats(struct manage_call *c, GError **error)
{
    const char *name;
    uint64_t v[8];
    g_variant_get_child(c->args, 1, "&s", &name);
    domain_auto *d = domain_of_call(c, 0, error);
    doc_auto *doc = d ? domain_live(d, error) : NULL;
    if (!doc)
        return NULL;
    struct el *nic = domain_find_interface(doc, name);
    if (!nic)
        return manage_null(error, VIR_ERR_INVALID_ARG, "invalid path, '%s' is not a known interface", name);
    if (!domain_net_stats(nic, v))
        return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "interface '%s' has no device on the host whose numbers could be read (%s network)", name,
                           el_get_or(nic, "@type", "user"));
    return g_variant_new("(xxxxxxxx)", (int64_t)v[0], (int64_t)v[1], (int64_t)v[2], (int64_t)v[3], (int64_t)v[4], (int64_t)v[5], (int64_t)v[6], (int64_t)v[7]);
}

/* From the host's table of neighbours (proc(5), /proc/net/arp: address, type, flags, MAC, mask, device). */
static void add_arp(GVariantBuilder *b, const char *mac)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/net/arp", &text, NULL, NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines + (lines[0] ? 1 : 0); *l; l++) {
        char address[64], hw[32];
        unsigned flags;
        if (sscanf(*l, "%63s %*x %x %31s", address, &flags, hw) == 3 && (flags & 2) && !g_ascii_strcasecmp(hw, mac))
            g_variant_builder_add(b, "(isu)", VIR_IP_ADDR_TYPE_IPV4, address, 0u);
    }
}

static void add_leases(GVariantBuilder *b, struct manage_state *s, const struct el *nic, const char *mac)
{
    const char *network = el_get(nic, "source/@network");
    g_auto(GStrv) leases = network && s->services->network_leases ? s->services->network_leases(s, network, mac) : NULL;
    for (char **l = leases; l && *l; l++) {
        char *slash = strchr(*l, '/');
        bool v6 = strchr(*l, ':') != NULL;
        if (slash)
            *slash = 0;
        g_variant_builder_add(b, "(isu)", v6 ? VIR_IP_ADDR_TYPE_IPV6 : VIR_IP_ADDR_TYPE_IPV4, *l, slash ? (uint32_t)g_ascii_strtoull(slash + 1, NULL, 10) : v6 ? 128u : 24u);
    }
}

/* From the guest's agent: all its interfaces (QEMU guest agent protocol, guest-network-get-interfaces). */
static GVariant *agent_addresses(struct domain *d, GError **error)
{
    if (!domain_begin(d, "agent", true, error))
        return NULL;
    struct json_object *list = domain_agent_command(d, "guest-network-get-interfaces", NULL, false, error);
    domain_end(d);
    if (!list)
        return NULL;
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE("a(smsa(isu))"));
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < MIN(n, 2048); i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *ips = json_object_object_get(o, "ip-addresses");
        const char *name = js_string(o, "name"), *mac = js_string(o, "hardware-address");
        GVariantBuilder b;
        g_variant_builder_init(&b, G_VARIANT_TYPE("a(isu)"));
        for (size_t k = 0; ips && json_object_is_type(ips, json_type_array) && k < MIN(json_object_array_length(ips), 2048); k++) {
            struct json_object *ip = json_object_array_get_idx(ips, k);
            const char *address = js_string(ip, "ip-address"), *type = js_string(ip, "ip-address-type");
            if (address && type && g_utf8_validate(address, -1, NULL))
                g_variant_builder_add(&b, "(isu)", !strcmp(type, "ipv6") ? VIR_IP_ADDR_TYPE_IPV6 : VIR_IP_ADDR_TYPE_IPV4, address, (uint32_t)js_number(ip, "prefix"));
        }
        GVariant *addresses = g_variant_ref_sink(g_variant_builder_end(&b));
        if (name && g_utf8_validate(name, -1, NULL))
            g_variant_builder_add(&all, "(sms@a(isu))", name, mac && g_utf8_validate(mac, -1, NULL) ? mac : NULL, addresses);
        g_variant_unref(addresses);
    }
    json_object_put(list);
    return g_variant_new("(a(smsa(isu)))", &all);
}

static GVariant *interface_addresses(struct manage_call *c, GError **error)
{
    uint32_t source, flags;
    g_variant_get(c->args, "(@(sayi)uu)", NULL, &source, &flags);
    domain_auto *d = manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? domain_live(d, error) : NULL;
    if (!doc)
        return NULL;
    if (source == VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
        return agent_addresses(d, error);
    if (source > VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP)
        return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "Unknown IP address data source %u", source);
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE("a(smsa(isu))"));
    el_each(nic, el_find(doc_root(doc), "devices"), "interface") {
        const char *mac = el_get(nic, "mac/@address"), *name = el_get(nic, "target/@dev");
        GVariantBuilder b;
        g_variant_builder_init(&b, G_VARIANT_TYPE("a(isu)"));
        if (mac && source == VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
            add_leases(&b, d->driver->state, nic, mac);
        else if (mac)
            add_arp(&b, mac);
        GVariant *addresses = g_variant_ref_sink(g_variant_builder_end(&b));
        if (g_variant_n_children(addresses))
            g_variant_builder_add(&all, "(sms@a(isu))", name ? name : el_get_or(nic, "alias/@name", ""), mac, addresses);
        g_variant_unref(addresses);
    }
    return g_variant_new("(a(smsa(isu)))", &all);
}

/* ---- memory, CPU ---- */

/* What the guest's balloon driver tells, with virDomainMemoryStatTags and libvirt's names in domstats. */
static const struct { const char *name; int tag; uint64_t unit; const char *field; } balloon_rows[] = {
        { "stat-swap-in", VIR_DOMAIN_MEMORY_STAT_SWAP_IN, 1024, "swap_in" }, { "stat-swap-out", VIR_DOMAIN_MEMORY_STAT_SWAP_OUT, 1024, "swap_out" },
        { "stat-major-faults", VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT, 1, "major_fault" }, { "stat-minor-faults", VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT, 1, "minor_fault" },
        { "stat-free-memory", VIR_DOMAIN_MEMORY_STAT_UNUSED, 1024, "unused" }, { "stat-total-memory", VIR_DOMAIN_MEMORY_STAT_AVAILABLE, 1024, "available" },
        { "stat-available-memory", VIR_DOMAIN_MEMORY_STAT_USABLE, 1024, "usable" }, { "stat-disk-caches", VIR_DOMAIN_MEMORY_STAT_DISK_CACHES, 1024, "disk_caches" },
    { "stat-htlb-pgalloc", VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGALLOC, 1, "hugetlb_pgalloc" },
    { "stat-htlb-pgfail", VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGFAIL, 1, "hugetlb_pgfail" },
};

unsigned domain_balloon_stats(struct json_object *o, struct balloon_stat ret[BALLOON_STATS])
{
    struct json_object *stats = o ? json_object_object_get(o, "stats") : NULL, *v;
    unsigned n = 0;
    G_STATIC_ASSERT(BALLOON_STATS == G_N_ELEMENTS(balloon_rows) + 1);
    if (!stats)
        return 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(balloon_rows); i++) /* the guest tells only what it knows: the largest number, and -1 in a QEMU's answer, mean nothing */
        if (json_object_object_get_ex(stats, balloon_rows[i].name, &v) && json_object_get_int64(v) >= 0 && json_object_get_int64(v) != INT64_MAX)
            ret[n++] = (struct balloon_stat){ balloon_rows[i].field, balloon_rows[i].tag, (uint64_t)json_object_get_int64(v) / balloon_rows[i].unit };
    ret[n++] = (struct balloon_stat){ "last-update", VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE, (uint64_t)js_number(o, "last-update") };
    return n;
}

struct json_object *domain_balloon_question(const struct doc *doc)
{
    const char *alias = doc ? el_get(doc_root(doc), "devices/memballoon/alias/@name") : NULL;
    if (!alias)
        return NULL;
    struct json_object *args = json_object_new_object();
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", alias);
    json_object_object_add(args, "path", json_object_new_string(path));
    json_object_object_add(args, "property", json_object_new_string("guest-stats"));
    return args;
}

static void balloon_stats(struct domain *d, GVariantBuilder *b)
{
    doc_auto *doc = domain_live(d, NULL);
    struct json_object *args = domain_balloon_question(doc), *o = args ? monitor_command(d, "qom-get", args, NULL) : NULL;
    struct balloon_stat all[BALLOON_STATS];
    unsigned n = domain_balloon_stats(o, all);
    for (unsigned i = 0; i < n; i++)
        g_variant_builder_add(b, "(it)", all[i].tag, all[i].value);
    json_object_put(o);
}

static GVariant *memory_stats(struct manage_call *c, GError **error)
{
    uint32_t max, flags;
    g_variant_get(c->args, "(@(sayi)uu)", NULL, &max, &flags);
    domain_auto *d = manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? domain_live(d, error) : NULL;
    if (!doc)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(it)"));
    g_mutex_lock(&d->lock);
    uint64_t now = d->balloon_kib ? d->balloon_kib : d->memory_kib;
    pid_t pid = d->pid;
    g_mutex_unlock(&d->lock);
    g_variant_builder_add(&b, "(it)", VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, now);
    balloon_stats(d, &b);
    g_variant_builder_add(&b, "(it)", VIR_DOMAIN_MEMORY_STAT_RSS, domain_process_kib(pid));
    return g_variant_new("(a(it))", &b);
}

void domain_thread_time(pid_t pid, int tid, uint64_t *ret_run, uint64_t *ret_wait)
{
    char path[64], text[128];
    unsigned long long run = 0, wait = 0;
    g_snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, tid);
    if (manage_read_small(path, text, sizeof(text)) > 0)
        (void)!sscanf(text, "%llu %llu", &run, &wait);
    *ret_run = run;
    *ret_wait = wait;
}

/* "se.statistics.wait_sum : 12.345678", or without "statistics", in milliseconds. */
uint64_t domain_thread_wait(pid_t pid, int tid)
{
    char path[64], text[4096];
    g_snprintf(path, sizeof(path), "/proc/%d/task/%d/sched", (int)pid, tid);
    const char *at = manage_read_small(path, text, sizeof(text)) > 0 ? strstr(text, "wait_sum") : NULL;
    at = at ? strchr(at, ':') : NULL;
    double ms = at ? g_ascii_strtod(at + 1, NULL) : 0;
    return ms > 0 && ms < 1e12 ? (uint64_t)(ms * 1e6) : 0;
}

static GVariant *set_stats_period(struct manage_call *c, GError **error)
{
    int period;
    uint32_t flags;
    bool live, config;
    g_variant_get(c->args, "(@(sayi)iu)", NULL, &period, &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "statistics", false, error))
        return NULL;
    bool ok = domain_affect(d, flags, &live, &config, error);
    if (ok && period < 0)
        ok = manage_fail(error, VIR_ERR_INVALID_ARG, "the period of memory statistics is a number of seconds, not %d", period);
    if (ok && live) {
        doc_auto *doc = domain_live(d, error);
        const char *alias = doc ? el_get(doc_root(doc), "devices/memballoon/alias/@name") : NULL;
        ok = alias || manage_fail(error, VIR_ERR_OPERATION_INVALID, "Memory balloon model must be virtio to set the collection period");
        if (ok) {
            g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", alias);
            struct json_object *args = json_object_new_object();
            json_object_object_add(args, "path", json_object_new_string(path));
            json_object_object_add(args, "property", json_object_new_string("guest-stats-polling-interval"));
            json_object_object_add(args, "value", json_object_new_int(period));
            struct json_object *o = monitor_command(d, "qom-set", args, error);
            ok = o != NULL;
            json_object_put(o);
            el_setf(doc_root(doc), "devices/memballoon/stats/@period", "%d", period);
            ok = ok && domain_set_live(d, g_steal_pointer(&doc), error);
        }
    }
    if (ok && config) {
        struct doc *doc = domain_definition(d, error);
        if ((ok = doc != NULL)) {
            el_setf(doc_root(doc), "devices/memballoon/stats/@period", "%d", period);
            ok = domain_set_definition(d, doc, error);
        }
    }
    domain_end(d);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_stats[] = {
    { RPC_DOMAIN_BLOCK_STATS, block_stats },
    { RPC_DOMAIN_BLOCK_STATS_FLAGS, block_stats_flags },
    { RPC_DOMAIN_GET_BLOCK_INFO, get_block_info },
    { RPC_DOMAIN_GET_DISK_ERRORS, get_disk_errors },
    { RPC_DOMAIN_INTERFACE_STATS, interface_stats },
    { RPC_DOMAIN_INTERFACE_ADDRESSES, interface_addresses },
    { RPC_DOMAIN_MEMORY_STATS, memory_stats },
    { RPC_DOMAIN_SET_MEMORY_STATS_PERIOD, set_stats_period },
    { 0, NULL },
};
