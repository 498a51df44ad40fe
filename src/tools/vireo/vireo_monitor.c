/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What domains use and have: statistics, disks, interfaces, addresses. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static char *or_dash(char *text)
{
    if (text && *text)
        return text;
    g_free(text);
    return g_strdup("-");
}

#define DISK_SOURCE "string(./source/@file|./source/@dev|./source/@dir|./source/@name|./source/@volume|./source/@path)"

static char *disk_source(struct xml *x, xmlNodePtr disk, const char *type)
{
    g_autofree char *space = xml_text(x, disk, "./source/@namespace");
    if (g_strcmp0(type, "nvme") || !space)
        return or_dash(xml_text(x, disk, DISK_SOURCE));
    unsigned part[4];
    static const char *const names[] = {"domain", "bus", "slot", "function"};
    for (int i = 0; i < 4; i++) {
        g_autofree char *text = xml_text(x, disk, "./source/address/@%s", names[i]);
        part[i] = text ? strtoul(text, NULL, 0) : 0;
    }
    return g_strdup_printf("nvme://%04x:%02x:%02x.%d/%s", part[0], part[1], part[2], part[3], space);
}

static bool cmd_domblklist(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    bool details = opt_bool(c, "details");
    struct xml x;
    if (!domain || !domain_xml(c, domain, opt_bool(c, "inactive") ? VIR_DOMAIN_XML_INACTIVE : 0, &x))
        return false;
    g_autoptr(GPtrArray) disks = xml_nodes(&x, NULL, "/domain/devices/disk");
    struct table *t = details ? table_new(c, "Type", "Device", "Target", "Source", NULL) : table_new(c, "Target", "Source", NULL);
    for (guint i = 0; i < disks->len; i++) {
        xmlNodePtr disk = disks->pdata[i];
        g_autofree char *type = or_dash(xml_text(&x, disk, "./@type"));
        g_autofree char *device = xml_text(&x, disk, "./@device");
        g_autofree char *target = or_dash(xml_text(&x, disk, "./target/@dev"));
        g_autofree char *source = disk_source(&x, disk, type);
        if (details)
            table_row(t, type, device ? device : "disk", target, source, NULL);
        else
            table_row(t, target, source, NULL);
    }
    xml_close(&x);
    return table_print(t);
}

static bool cmd_domiflist(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    struct xml x;
    if (!domain || !domain_xml(c, domain, opt_bool(c, "inactive") ? VIR_DOMAIN_XML_INACTIVE : 0, &x))
        return false;
    g_autoptr(GPtrArray) all = xml_nodes(&x, NULL, "/domain/devices/interface");
    struct table *t = table_new(c, "Interface", "Type", "Source", "Model", "MAC", NULL);
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *type = or_dash(xml_text(&x, all->pdata[i], "./@type"));
        g_autofree char *source = or_dash(xml_text(&x, all->pdata[i], "string(./source/@bridge|./source/@dev|./source/@network|./source/@name|./source/@path)"));
        g_autofree char *target = or_dash(xml_text(&x, all->pdata[i], "./target/@dev"));
        g_autofree char *model = or_dash(xml_text(&x, all->pdata[i], "./model/@type"));
        g_autofree char *mac = or_dash(xml_text(&x, all->pdata[i], "./mac/@address"));
        table_row(t, target, type, source, model, mac, NULL);
    }
    xml_close(&x);
    return table_print(t);
}

static char *size_cell(bool human, unsigned long long n)
{
    const char *unit;
    if (!human)
        return g_strdup_printf("%llu", n);
    double value = pretty_size(n, &unit);
    return g_strdup_printf("%.3lf %s", value, unit);
}

static bool block_info_all(struct call *c, virDomainPtr domain, bool human)
{
    struct xml x;
    if (!domain_xml(c, domain, 0, &x))
        return false;
    bool active = virDomainIsActive(domain) == 1;
    g_autoptr(GPtrArray) disks = xml_nodes(&x, NULL, "/domain/devices/disk");
    struct table *t = table_new(c, "Target", "Capacity#", "Allocation#", "Physical#", NULL);
    for (guint i = 0; i < disks->len; i++) {
        g_autofree char *target = or_dash(xml_text(&x, disks->pdata[i], "./target/@dev"));
        virDomainBlockInfo info;
        if (virDomainGetBlockInfo(domain, target, &info, 0) < 0) {
            g_autofree char *protocol = xml_text(&x, disks->pdata[i], "./source/@protocol");
            g_autofree char *source = disk_source(&x, disks->pdata[i], "");
            forget_library_error(c->v);
            if (active && !protocol && strcmp(source, "-")) {
                complain(c, "Failed to get block information of '%s'", target);
            }
            table_row(t, target, "-", "-", "-", NULL);
            continue;
        }
        g_autofree char *capacity = size_cell(human, info.capacity), *allocation = size_cell(human, info.allocation), *physical = size_cell(human, info.physical);
        table_row(t, target, capacity, allocation, physical, NULL);
    }
    xml_close(&x);
    return table_print(t);
}

static bool cmd_domblkinfo(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    const char *device = opt_str(c, "device");
    bool human = opt_bool(c, "human");
    virDomainBlockInfo info;
    if (!domain)
        return false;
    if (opt_bool(c, "all"))
        return device ? complain(c, "Options --all and --device are mutually exclusive") : block_info_all(c, domain, human);
    if (!device)
        return complain(c, "command '%s' requires <%s> option", "domblkinfo", "device");
    if (virDomainGetBlockInfo(domain, device, &info, 0) < 0)
        return false;
    g_autofree char *capacity = size_cell(human, info.capacity), *allocation = size_cell(human, info.allocation), *physical = size_cell(human, info.physical);
    struct fields *f = fields_new(c, 15);
    field(f, "Capacity:", "%s", capacity);
    field(f, "Allocation:", "%s", allocation);
    field(f, "Physical:", "%s", physical);
    return fields_print(f);
}

static const struct {
    const char *field, *name, *human;
} block_stats[] = {
    {VIR_DOMAIN_BLOCK_STATS_READ_REQ, "rd_req", "number of read operations:"},
    {VIR_DOMAIN_BLOCK_STATS_READ_BYTES, "rd_bytes", "number of bytes read:"},
    {VIR_DOMAIN_BLOCK_STATS_WRITE_REQ, "wr_req", "number of write operations:"},
    {VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, "wr_bytes", "number of bytes written:"},
    {VIR_DOMAIN_BLOCK_STATS_ERRS, "errs", "error count:"},
    {VIR_DOMAIN_BLOCK_STATS_FLUSH_REQ, "flush_operations", "number of flush operations:"},
    {VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, "rd_total_times", "total duration of reads (ns):"},
    {VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES, "wr_total_times", "total duration of writes (ns):"},
    {VIR_DOMAIN_BLOCK_STATS_FLUSH_TOTAL_TIMES, "flush_total_times", "total duration of flushes (ns):"},
};

static void block_stat_line(struct call *c, const char *device, unsigned i, long long value)
{
    g_autofree char *number = g_strdup_printf("%lld", value);
    if (opt_bool(c, "human"))
        value_line(c, block_stats[i].name, number, " %-31s %lld", block_stats[i].human, value);
    else
        value_line(c, block_stats[i].name, number, "%s %s %lld", device, block_stats[i].name, value);
}

/* For hypervisors that know only the five old numbers. */
static bool block_stats_old(struct call *c, virDomainPtr domain, const char *device)
{
    virDomainBlockStatsStruct old;
    if (virDomainBlockStats(domain, device, &old, sizeof old) < 0)
        return complain(c, "Failed to get block stats %s %s", virDomainGetName(domain), device);
    forget_library_error(c->v);
    if (opt_bool(c, "human"))
        say(c, "Device: %s\n", device);
    const long long values[] = {old.rd_req, old.rd_bytes, old.wr_req, old.wr_bytes, old.errs};
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++)
        if (values[i] >= 0)
            block_stat_line(c, device, i, values[i]);
    return true;
}

static bool cmd_domblkstat(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    const char *device = opt_str(c, "device") ? opt_str(c, "device") : "";
    int n = 0;
    if (!domain)
        return false;
    if (virDomainBlockStatsFlags(domain, device, NULL, &n, 0) < 0)
        return c->v->last_error && c->v->last_error->code == VIR_ERR_NO_SUPPORT && block_stats_old(c, domain, device);
    struct params p = {.list = calloc(MAX(n, 1), sizeof(virTypedParameter)), .n = n};
    if (virDomainBlockStatsFlags(domain, device, p.list, &p.n, 0) < 0) {
        params_clear(&p);
        return complain(c, "Failed to get block stats for domain '%s' device '%s'", virDomainGetName(domain), device);
    }
    if (opt_bool(c, "human"))
        say(c, "Device: %s\n", device);
    for (unsigned i = 0; i < G_N_ELEMENTS(block_stats); i++) {
        long long value;
        if (virTypedParamsGetLLong(p.list, p.n, block_stats[i].field, &value) == 1)
            block_stat_line(c, device, i, value);
    }
    for (int k = 0; k < p.n; k++) {
        bool known = false;
        for (unsigned i = 0; i < G_N_ELEMENTS(block_stats); i++)
            known |= !strcmp(block_stats[i].field, p.list[k].field);
        g_autofree char *text = param_text(&p.list[k]);
        if (!known)
            value_line(c, p.list[k].field, text, "%s %s %s", device, p.list[k].field, text);
    }
    params_clear(&p);
    return true;
}

static bool cmd_domifstat(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    const char *device = opt_str(c, "interface");
    virDomainInterfaceStatsStruct s;
    if (!domain)
        return false;
    if (virDomainInterfaceStats(domain, device, &s, sizeof s) < 0)
        return complain(c, "Failed to get interface stats %s %s", virDomainGetName(domain), device);
    const struct {
        const char *name;
        long long value;
    } rows[] = {{"rx_bytes", s.rx_bytes}, {"rx_packets", s.rx_packets}, {"rx_errs", s.rx_errs}, {"rx_drop", s.rx_drop},
        {"tx_bytes", s.tx_bytes}, {"tx_packets", s.tx_packets}, {"tx_errs", s.tx_errs}, {"tx_drop", s.tx_drop}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *number = g_strdup_printf("%lld", rows[i].value);
        if (rows[i].value >= 0)
            value_line(c, rows[i].name, number, "%s %s %s", device, rows[i].name, number);
    }
    return true;
}

static bool cmd_dommemstat(struct call *c)
{
    static const struct {
        int tag;
        const char *name;
    } names[] = {{VIR_DOMAIN_MEMORY_STAT_SWAP_IN, "swap_in"}, {VIR_DOMAIN_MEMORY_STAT_SWAP_OUT, "swap_out"},
        {VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT, "major_fault"}, {VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT, "minor_fault"}, {VIR_DOMAIN_MEMORY_STAT_UNUSED, "unused"},
        {VIR_DOMAIN_MEMORY_STAT_AVAILABLE, "available"}, {VIR_DOMAIN_MEMORY_STAT_USABLE, "usable"}, {VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, "actual"},
        {VIR_DOMAIN_MEMORY_STAT_RSS, "rss"}, {VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE, "last_update"}, {VIR_DOMAIN_MEMORY_STAT_DISK_CACHES, "disk_caches"},
        {VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGALLOC, "hugetlb_pgalloc"}, {VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGFAIL, "hugetlb_pgfail"}};
    unsigned flags;
    int period = -1;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int given = opt_int(c, "period", &period);
    if (given < 0 || (given > 0 && period < 0))
        return given > 0 && complain(c, "Invalid collection period value '%d'", period);
    if (given > 0)
        return virDomainSetMemoryStatsPeriod(domain, period, flags) == 0 || complain(c, "Unable to change balloon collection period.");
    virDomainMemoryStatStruct stats[VIR_DOMAIN_MEMORY_STAT_NR];
    int n = virDomainMemoryStats(domain, stats, VIR_DOMAIN_MEMORY_STAT_NR, 0);
    if (n < 0)
        return complain(c, "Failed to get memory statistics for domain %s", virDomainGetName(domain));
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(names); k++)
            if (stats[i].tag == names[k].tag) {
                g_autofree char *number = g_strdup_printf("%llu", stats[i].val);
                value_line(c, names[k].name, number, "%s %s", names[k].name, number);
            }
    return true;
}

static bool cmd_domblkerror(struct call *c)
{
    static const char *const texts[] = {"no error", "unspecified error", "no space"};
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int n = virDomainGetDiskErrors(domain, NULL, 0, 0);
    if (n < 0)
        return false;
    g_autofree virDomainDiskErrorPtr all = g_new0(virDomainDiskError, MAX(n, 1));
    n = n ? virDomainGetDiskErrors(domain, all, n, 0) : 0;
    if (n < 0)
        return false;
    struct table *t = json_table(c, "Disk", "Error");
    if (!n)
        say(c, "No errors found\n");
    for (int i = 0; i < n; i++) {
        const char *what = all[i].error >= 0 && all[i].error < 3 ? texts[all[i].error] : "unknown";
        table_row(t, all[i].disk, what, NULL);
        say(c, "%s: %s\n", all[i].disk, what);
        free(all[i].disk);
    }
    return table_print(t);
}

static bool cmd_getlink(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    const char *name = opt_str(c, "interface");
    struct xml x;
    if (!domain || !domain_xml(c, domain, opt_bool(c, "config") ? VIR_DOMAIN_XML_INACTIVE : 0, &x))
        return false;
    bool quotes = strchr(name, '\'') != NULL;
    g_autoptr(GPtrArray) all = quotes ? g_ptr_array_new() : xml_nodes(&x, NULL, "/domain/devices/interface[mac/@address='%s' or target/@dev='%s']", name, name);
    bool good = false;
    if (all->len == 1) {
        g_autofree char *state = xml_text(&x, all->pdata[0], "./link/@state");
        json_member(c, "state", "%s", state ? state : "up");
        say(c, "%s %s", name, state ? state : "up");
        good = true;
    } else if (all->len) {
        complain(c, "multiple matching interfaces found");
    } else {
        complain(c, strchr(name, ':') ? "Interface (mac: %s) not found." : "Interface (dev: %s) not found.", name);
    }
    xml_close(&x);
    return good;
}

static void address_rows(struct call *c, struct table *t, virDomainInterfacePtr one)
{
    if (!one->naddrs) {
        if (t)
            table_row(t, one->name, one->hwaddr ? one->hwaddr : "-", "-", "-", NULL);
        else
            say(c, " %-10s %-17s    %-12s %s\n", one->name, one->hwaddr ? one->hwaddr : "N/A", "N/A", "N/A");
    }
    for (unsigned i = 0; i < one->naddrs; i++) {
        bool named = !i || opt_bool(c, "full") || t;
        g_autofree char *address = g_strdup_printf("%s/%d", one->addrs[i].addr, one->addrs[i].prefix);
        const char *kind = one->addrs[i].type == VIR_IP_ADDR_TYPE_IPV4 ? "ipv4" : one->addrs[i].type == VIR_IP_ADDR_TYPE_IPV6 ? "ipv6" : "";
        const char *mac = one->hwaddr ? one->hwaddr : t ? "-" : "N/A";
        if (t)
            table_row(t, one->name, mac, kind, address, NULL);
        else
            say(c, " %-10s %-17s    %-12s %s\n", named ? one->name : "-", named ? mac : "-", kind, address);
    }
}

static bool cmd_domifaddr(struct call *c)
{
    static const char *const sources[] = {"lease", "agent", "arp"};
    const char *source = opt_str(c, "source") ? opt_str(c, "source") : "lease", *wanted = opt_str(c, "interface");
    unsigned s = 0;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    while (s < G_N_ELEMENTS(sources) && strcmp(sources[s], source))
        s++;
    if (s == G_N_ELEMENTS(sources))
        return complain(c, "Unknown data source '%s'", source);
    virDomainInterfacePtr *all = NULL;
    int n = virDomainInterfaceAddresses(domain, &all, s, 0);
    if (n < 0)
        return complain(c, "Failed to query for interfaces addresses");
    struct table *t = json_table(c, "Name", "MAC address", "Protocol", "Address");
    if (!t)
        note(c, " %-10s %-20s %-8s     %s\n%s\n", "Name", "MAC address", "Protocol", "Address",
            "-------------------------------------------------------------------------------");
    for (int i = 0; i < n; i++) {
        if (!wanted || !strcmp(all[i]->name, wanted))
            address_rows(c, t, all[i]);
        virDomainInterfaceFree(all[i]);
    }
    free(all);
    return !t || table_print(t);
}

static void stats_json(struct json_object *all, virDomainStatsRecordPtr record)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "domain", json_object_new_string(virDomainGetName(record->dom)));
    for (int i = 0; i < record->nparams; i++) {
        const virTypedParameter *p = &record->params[i];
        g_autofree char *text = param_text(p);
        struct json_object *value = p->type == VIR_TYPED_PARAM_STRING ? json_object_new_string(text)
            : p->type == VIR_TYPED_PARAM_BOOLEAN ? json_object_new_boolean(p->value.b)
            : p->type == VIR_TYPED_PARAM_ULLONG ? json_object_new_uint64(p->value.ul) : json_object_new_int64(g_ascii_strtoll(text, NULL, 10));
        json_object_object_add(o, p->field, value);
    }
    json_object_array_add(all, o);
}

static void stats_text(struct call *c, virDomainStatsRecordPtr record, bool last)
{
    say(c, "Domain: '%s'\n", virDomainGetName(record->dom));
    for (int i = 0; i < record->nparams; i++) {
        char number[PARAM_NUMBER];
        say(c, "  %s=%s\n", record->params[i].field, param_print(&record->params[i], number));
    }
    if (!last)
        say(c, "\n");
}

/* The list that the library wants ends in NULL. */
static void domain_free(gpointer domain)
{
    if (domain)
        virDomainFree(domain);
}

static bool named_domains(struct call *c, GPtrArray *domains)
{
    for (char **name = opt_list(c, "domain"); *name; name++) {
        virDomainPtr domain = find_domain(c, *name);
        if (!domain)
            return false;
        g_ptr_array_add(domains, domain);
    }
    g_ptr_array_add(domains, NULL);
    return true;
}

static bool cmd_domstats(struct call *c)
{
    unsigned stats = opt_flags(c, "state", VIR_DOMAIN_STATS_STATE, "cpu-total", VIR_DOMAIN_STATS_CPU_TOTAL, "balloon", VIR_DOMAIN_STATS_BALLOON,
        "vcpu", VIR_DOMAIN_STATS_VCPU, "interface", VIR_DOMAIN_STATS_INTERFACE, "block", VIR_DOMAIN_STATS_BLOCK, "perf", VIR_DOMAIN_STATS_PERF,
        "iothread", VIR_DOMAIN_STATS_IOTHREAD, "memory", VIR_DOMAIN_STATS_MEMORY, "dirtyrate", VIR_DOMAIN_STATS_DIRTYRATE, "vm", VIR_DOMAIN_STATS_VM, NULL);
    unsigned flags = opt_flags(c, "list-active", VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE, "list-inactive", VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE,
        "list-persistent", VIR_CONNECT_GET_ALL_DOMAINS_STATS_PERSISTENT, "list-transient", VIR_CONNECT_GET_ALL_DOMAINS_STATS_TRANSIENT,
        "list-running", VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING, "list-paused", VIR_CONNECT_GET_ALL_DOMAINS_STATS_PAUSED,
        "list-shutoff", VIR_CONNECT_GET_ALL_DOMAINS_STATS_SHUTOFF, "list-other", VIR_CONNECT_GET_ALL_DOMAINS_STATS_OTHER,
        "enforce", VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS, "backing", VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING,
        "nowait", VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT, NULL);
    g_autoptr(GPtrArray) domains = g_ptr_array_new_with_free_func(domain_free);
    virDomainStatsRecordPtr *records = NULL;
    int n;
    if (opt_list(c, "domain")) {
        bool found = named_domains(c, domains);
        if (found && (flags & ~(VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS | VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)))
            found = complain(c, "Options --list-* and --domain are mutually exclusive");
        n = found ? virDomainListGetStats((virDomainPtr *)domains->pdata, stats, &records, flags) : -1;
    } else {
        n = virConnectGetAllDomainStats(c->v->connection, stats, &records, flags);
    }
    if (n < 0)
        return false;
    bool as_json = call_json(c);
    json_auto *all = json_object_new_array();
    for (int i = 0; i < n; i++)
        if (as_json)
            stats_json(all, records[i]);
        else
            stats_text(c, records[i], i + 1 == n);
    if (as_json)
        json_print(c, all);
    if (records)
        virDomainStatsRecordListFree(records);
    return true;
}

const struct command monitor_commands[] = {
    {"domblkerror", "monitor", "domain!", cmd_domblkerror, COMMAND_LIST, "Show the disks that have failed"},
    {"domblkinfo", "monitor", "domain! device= human all", cmd_domblkinfo, COMMAND_LIST, "Print the sizes of a disk"},
    {"domblklist", "monitor", "domain! inactive details", cmd_domblklist, COMMAND_LIST, "List the disks of a domain"},
    {"domblkstat", "monitor", "domain! device= human", cmd_domblkstat, COMMAND_LIST, "Print how much a disk has been used"},
    {"domif-getlink", "monitor", "domain! interface! config", cmd_getlink, COMMAND_LIST, "Tell whether the cable of an interface is in"},
    {"domifaddr", "monitor", "domain! interface= full source=", cmd_domifaddr, COMMAND_LIST, "Print the addresses of a running guest"},
    {"domiflist", "monitor", "domain! inactive", cmd_domiflist, COMMAND_LIST, "List the interfaces of a domain"},
    {"domifstat", "monitor", "domain! interface!", cmd_domifstat, COMMAND_LIST, "Print how much an interface has been used"},
    {"dommemstat", "monitor",
        "domain! period#@ config live current",
        cmd_dommemstat, COMMAND_LIST, "Print how memory is used, or how often the guest reports it"},
    {"domstats", "monitor",
        "state cpu-total balloon vcpu interface block perf iothread memory dirtyrate vm list-active list-inactive "
        "list-persistent list-transient list-running list-paused list-shutoff list-other raw enforce backing nowait domain...",
        cmd_domstats, COMMAND_LIST, "Print the statistics of one, several or all domains"},
    {},
};
