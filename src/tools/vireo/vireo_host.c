/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host and its hypervisor: processors, memory, capabilities, versions. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>

static bool cmd_uri(struct call *c)
{
    g_autofree char *uri = virConnectGetURI(c->v->connection);
    if (!uri)
        return complain(c, "failed to get URI");
    return say_value(c, "uri", "%s", uri);
}

static bool cmd_hostname(struct call *c)
{
    g_autofree char *name = virConnectGetHostname(c->v->connection);
    if (!name)
        return complain(c, "failed to get hypervisor hostname");
    return say_value(c, "hostname", "%s", name);
}

static bool cmd_capabilities(struct call *c)
{
    g_autofree char *text = virConnectGetCapabilities(c->v->connection);
    if (!text)
        return complain(c, "failed to get capabilities");
    return print_document(c, text) && (opt_str(c, "xpath") || (say(c, "\n"), true));
}

static bool cmd_domcapabilities(struct call *c)
{
    g_autofree char *text = virConnectGetDomainCapabilities(c->v->connection, opt_str(c, "emulatorbin"), opt_str(c, "arch"), opt_str(c, "machine"), opt_str(c, "virttype"), 0);
    if (!text)
        return complain(c, "failed to get emulator capabilities");
    return print_document(c, text) && (opt_str(c, "xpath") || (say(c, "\n"), true));
}

static bool cmd_sysinfo(struct call *c)
{
    g_autofree char *text = virConnectGetSysinfo(c->v->connection, 0);
    if (!text)
        return complain(c, "failed to get sysinfo");
    return print_document(c, text);
}

static bool cmd_nodeinfo(struct call *c)
{
    virNodeInfo info;
    if (virNodeGetInfo(c->v->connection, &info) < 0)
        return complain(c, "failed to get node information");
    struct fields *f = fields_new(c, 20);
    field(f, "CPU model:", "%s", info.model);
    field(f, "CPU(s):", "%d", info.cpus);
    if (info.mhz)
        field(f, "CPU frequency:", "%d MHz", info.mhz);
    field(f, "CPU socket(s):", "%d", info.sockets);
    field(f, "Core(s) per socket:", "%d", info.cores);
    field(f, "Thread(s) per core:", "%d", info.threads);
    field(f, "NUMA cell(s):", "%d", info.nodes);
    field(f, "Memory size:", "%lu KiB", info.memory);
    return fields_print(f);
}

static bool cmd_nodecpumap(struct call *c)
{
    g_autofree unsigned char *map = NULL;
    unsigned online;
    int n = virNodeGetCPUMap(c->v->connection, &map, &online, 0);
    if (n < 0)
        return complain(c, "Unable to get cpu map");
    struct fields *f = fields_new(c, 15);
    field(f, "CPUs present:", "%d", n);
    field(f, "CPUs online:", "%d", online);
    g_autoptr(GString) s = g_string_new(NULL);
    for (int i = 0; i < n; i++) {
        bool on = VIR_CPU_USED(map, i);
        if (!opt_bool(c, "pretty")) {
            g_string_append_c(s, on ? 'y' : '-');
            continue;
        }
        if (!on)
            continue;
        int end = i;
        while (end + 1 < n && VIR_CPU_USED(map, end + 1))
            end++;
        g_string_append_printf(s, end > i ? "%s%d-%d" : "%s%d", s->len ? "," : "", i, end);
        i = end;
    }
    field(f, "CPU map:", "%s", s->str);
    return fields_print(f);
}

struct cpu_times {
    unsigned long long user, system, idle, iowait, intr, usage;
    bool has_usage;
};

static bool cpu_times(struct call *c, int cpu, struct cpu_times *ret)
{
    int n = 0;
    *ret = (struct cpu_times){};
    if (virNodeGetCPUStats(c->v->connection, cpu, NULL, &n, 0) < 0)
        return complain(c, "Unable to get number of cpu stats");
    g_autofree virNodeCPUStatsPtr all = g_new0(virNodeCPUStats, MAX(n, 1));
    if (virNodeGetCPUStats(c->v->connection, cpu, all, &n, 0) < 0)
        return complain(c, "Unable to get node cpu stats");
    for (int i = 0; i < n; i++) {
        const char *name = all[i].field;
        unsigned long long *to = !strcmp(name, "user") ? &ret->user : !strcmp(name, "kernel") ? &ret->system : !strcmp(name, "idle") ? &ret->idle
            : !strcmp(name, "iowait") ? &ret->iowait : !strcmp(name, "intr") ? &ret->intr : !strcmp(name, "utilization") ? &ret->usage : NULL;
        if (to)
            *to = all[i].value;
        ret->has_usage |= to == &ret->usage;
    }
    return true;
}

static bool cpu_percent(struct call *c, int cpu)
{
    struct cpu_times a, b;
    if (!cpu_times(c, cpu, &a))
        return false;
    if (a.has_usage) {
        json_member(c, "usage", "%llu", a.usage);
        json_member(c, "idle", "%llu", 100 - a.usage);
        say(c, "%-15s %5.1llu%%\n%-15s %5.1llu%%\n", "usage:", a.usage, "idle:", 100 - a.usage);
        return true;
    }
    g_usleep(1000000);
    if (!cpu_times(c, cpu, &b))
        return false;
    double user = b.user - a.user, system = b.system - a.system, idle = b.idle - a.idle, wait = b.iowait - a.iowait;
    double all = MAX(user + system + idle + wait, 1);
    const struct {
        const char *label;
        double part;
    } rows[] = {{"usage:", user + system}, {"user:", user}, {"system:", system}, {"idle:", idle}, {"iowait:", wait}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_member(c, rows[i].label, "%.1lf%%", rows[i].part / all * 100);
        say(c, "%-15s %5.1lf%%\n", rows[i].label, rows[i].part / all * 100);
    }
    return true;
}

static bool cmd_nodecpustats(struct call *c)
{
    int cpu = VIR_NODE_CPU_STATS_ALL_CPUS;
    struct cpu_times t;
    int given = opt_int(c, "cpu", &cpu);
    if (given < 0 || (given && cpu < 0))
        return given > 0 && complain(c, "Invalid value of cpu");
    if (opt_bool(c, "percent"))
        return cpu_percent(c, cpu);
    if (!cpu_times(c, cpu, &t))
        return false;
    const struct {
        const char *name;
        unsigned long long value;
    } rows[] = {{"user:", t.user}, {"system:", t.system}, {"idle:", t.idle}, {"iowait:", t.iowait}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows) && !t.has_usage; i++) {
        json_member(c, rows[i].name, "%llu", rows[i].value);
        say(c, "%-15s %20llu\n", rows[i].name, rows[i].value);
    }
    if (t.has_usage)
        json_member(c, "usage", "%llu", t.usage);
    if (t.intr)
        json_member(c, "intr", "%llu", t.intr);
    if (t.intr)
        say(c, "%-15s %20llu\n", "intr:", t.intr);
    return true;
}

static bool cmd_nodememstats(struct call *c)
{
    int cell = VIR_NODE_MEMORY_STATS_ALL_CELLS, n = 0;
    if (opt_int(c, "cell", &cell) < 0)
        return false;
    if (virNodeGetMemoryStats(c->v->connection, cell, NULL, &n, 0) < 0)
        return complain(c, "Unable to get number of memory stats");
    g_autofree virNodeMemoryStatsPtr all = g_new0(virNodeMemoryStats, MAX(n, 1));
    if (n && virNodeGetMemoryStats(c->v->connection, cell, all, &n, 0) < 0)
        return complain(c, "Unable to get memory stats");
    for (int i = 0; i < n; i++) {
        json_member(c, all[i].field, "%llu", all[i].value);
        say(c, "%-7s: %20llu KiB\n", all[i].field, all[i].value);
    }
    return true;
}

static bool cmd_maxvcpus(struct call *c)
{
    /* the capabilities tell what the machine can have; the older call only what the type can */
    g_autofree char *caps = virConnectGetDomainCapabilities(c->v->connection, NULL, NULL, NULL, opt_str(c, "type"), 0);
    struct xml x;
    g_autofree char *most = xml_open(&x, caps) ? xml_text(&x, NULL, "/domainCapabilities/vcpu/@max") : NULL;
    xml_close(&x);
    forget_library_error(c->v);
    int n = most ? atoi(most) : virConnectGetMaxVcpus(c->v->connection, opt_str(c, "type"));
    if (n < 0)
        return false;
    return say_value(c, "maxvcpus", "%d", n);
}

static void print_number(struct call *c, const char *key, const char *what, unsigned long n)
{
    json_member(c, key, "%lu.%lu.%lu", n / 1000000, n / 1000 % 1000, n % 1000);
    say(c, "%s%lu.%lu.%lu\n", what, n / 1000000, n / 1000 % 1000, n % 1000);
}

static bool cmd_version(struct call *c)
{
    unsigned long library = 0, api = 0, hypervisor = 0, daemon = 0;
    const char *type = virConnectGetType(c->v->connection);
    if (!type)
        return complain(c, "failed to get hypervisor type");
    print_number(c, "compiled-against", "Compiled against library: libvirt ", LIBVIR_VERSION_NUMBER);
    if (virGetVersion(&library, type, &api) < 0)
        return complain(c, "failed to get the library version");
    json_member(c, "type", "%s", type);
    print_number(c, "library", "Using library: libvirt ", library);
    g_autofree char *what = g_strdup_printf("Using API: %s ", type);
    print_number(c, "api", what, api);
    if (virConnectGetVersion(c->v->connection, &hypervisor) < 0)
        return complain(c, "failed to get the hypervisor version");
    g_autofree char *running = g_strdup_printf("Running hypervisor: %s ", type);
    if (hypervisor)
        print_number(c, "hypervisor", running, hypervisor);
    else
        say(c, "Cannot extract running %s hypervisor version\n", type);
    if (!opt_bool(c, "daemon"))
        return true;
    if (virConnectGetLibVersion(c->v->connection, &daemon) < 0)
        return complain(c, "failed to get the daemon version");
    print_number(c, "daemon", "Running against daemon: ", daemon);
    return true;
}

#define FREE_TABLE(c) json_table(c, "Node#", "Free KiB#")

static void free_row(struct table *t, const char *node, unsigned long long bytes)
{
    g_autofree char *kib = g_strdup_printf("%llu", bytes / 1024);
    table_row(t, node, kib, NULL);
}

static bool cmd_freecell(struct call *c)
{
    int cell;
    int given = opt_int(c, "cellno", &cell);
    if (given < 0)
        return false;
    if (given && opt_bool(c, "all"))
        return complain(c, "Options --cellno and --all are mutually exclusive");
    if (!opt_bool(c, "all")) {
        unsigned long long n = 0;
        if (given ? virNodeGetCellsFreeMemory(c->v->connection, &n, cell, 1) != 1 : !(n = virNodeGetFreeMemory(c->v->connection)))
            return false;
        g_autofree char *which = given ? g_strdup_printf("%d", cell) : g_strdup("Total");
        struct table *t = FREE_TABLE(c);
        free_row(t, given ? which : "-", n);
        say(c, "%s: %llu KiB\n", which, n / 1024);
        return table_print(t);
    }
    g_autofree char *text = virConnectGetCapabilities(c->v->connection);
    struct xml x;
    if (!xml_open(&x, text))
        return complain(c, "unable to get node capabilities");
    g_autoptr(GPtrArray) cells = xml_nodes(&x, NULL, "/capabilities/host/topology/cells/cell/@id");
    unsigned long long total = 0;
    bool good = cells->len || complain(c, "could not get information about NUMA topology");
    struct table *t = FREE_TABLE(c);
    for (guint i = 0; good && i < cells->len; i++) {
        g_autofree char *id = xml_text(&x, cells->pdata[i], "string(.)");
        unsigned long long n;
        unsigned long number = strtoul(id, NULL, 10);
        good = virNodeGetCellsFreeMemory(c->v->connection, &n, number, 1) == 1 || complain(c, "failed to get free memory for NUMA node number: %lu", number);
        if (good) {
            free_row(t, id, n);
            say(c, "%5lu: %10llu KiB\n", number, n / 1024);
        }
        total += n;
    }
    if (good)
        say(c, "--------------------\n%5s: %10llu KiB\n", "Total", total / 1024);
    xml_close(&x);
    if (good)
        table_print(t);
    else
        table_drop(t);
    return good;
}

static int by_size(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

/* The page sizes in KiB that the capabilities name, each once, smallest first. */
static GArray *page_sizes(struct xml *x)
{
    GArray *sizes = g_array_new(false, false, sizeof(unsigned));
    g_autoptr(GPtrArray) pages = xml_nodes(x, NULL, "/capabilities/host/cpu/pages/@size|/capabilities/host/topology/cells/cell/pages/@size");
    for (guint i = 0; i < pages->len; i++) {
        g_autofree char *text = xml_text(x, pages->pdata[i], "string(.)");
        unsigned size = strtoul(text, NULL, 10);
        bool seen = false;
        for (guint k = 0; k < sizes->len; k++)
            seen |= g_array_index(sizes, unsigned, k) == size;
        if (!seen)
            g_array_append_val(sizes, size);
    }
    g_array_sort(sizes, by_size);
    return sizes;
}

#define PAGES_TABLE(c) json_table(c, "Node#", "Page KiB#", "Free#")

static void pages_row(struct table *t, int cell, unsigned size, unsigned long long count)
{
    g_autofree char *node = g_strdup_printf("%d", cell), *kib = g_strdup_printf("%u", size), *n = g_strdup_printf("%llu", count);
    table_row(t, node, kib, n, NULL);
}

static bool free_pages_of(struct call *c, struct table *t, GArray *sizes, int cell)
{
    g_autofree unsigned long long *counts = g_new0(unsigned long long, MAX(sizes->len, 1));
    if (virNodeGetFreePages(c->v->connection, sizes->len, (unsigned *)sizes->data, cell, 1, counts, 0) < 0)
        return false;
    say(c, "Node %d:\n", cell);
    for (guint i = 0; i < sizes->len; i++) {
        pages_row(t, cell, g_array_index(sizes, unsigned, i), counts[i]);
        say(c, "%uKiB: %lld\n", g_array_index(sizes, unsigned, i), counts[i]);
    }
    return true;
}

static bool free_pages_all(struct call *c)
{
    g_autofree char *text = virConnectGetCapabilities(c->v->connection);
    struct xml x;
    if (!xml_open(&x, text))
        return complain(c, "unable to get node capabilities");
    g_autoptr(GPtrArray) cells = xml_nodes(&x, NULL, "/capabilities/host/topology/cells/cell/@id");
    bool good = cells->len || complain(c, "no NUMA nodes found");
    g_autoptr(GArray) sizes = page_sizes(&x);
    struct table *t = PAGES_TABLE(c);
    for (guint i = 0; good && i < cells->len; i++) {
        g_autofree char *id = xml_text(&x, cells->pdata[i], "string(.)");
        good = free_pages_of(c, t, sizes, atoi(id));
        if (good)
            say(c, "\n");
    }
    xml_close(&x);
    if (good)
        table_print(t);
    else
        table_drop(t);
    return good;
}

static bool cmd_freepages(struct call *c)
{
    int cell = 0;
    unsigned long long bytes;
    if (opt_bool(c, "all"))
        return free_pages_all(c);
    int given = opt_int(c, "cellno", &cell);
    if (given <= 0)
        return given == 0 && complain(c, "missing cellno argument");
    int sized = opt_size(c, "pagesize", &bytes, 1024);
    if (sized <= 0)
        return sized == 0 && complain(c, "missing pagesize argument");
    g_autoptr(GArray) sizes = g_array_new(false, false, sizeof(unsigned));
    unsigned size = bytes / 1024;
    unsigned long long count;
    g_array_append_val(sizes, size);
    if (virNodeGetFreePages(c->v->connection, 1, (unsigned *)sizes->data, cell, 1, &count, 0) < 0)
        return false;
    struct table *t = PAGES_TABLE(c);
    pages_row(t, cell, size, count);
    say(c, "%uKiB: %lld\n", size, count);
    return table_print(t);
}

static bool cmd_allocpages(struct call *c)
{
    unsigned long long bytes, count;
    int cell = -1;
    if (opt_size(c, "pagesize", &bytes, 1024) < 0 || opt_ull(c, "pagecount", &count) < 0 || opt_int(c, "cellno", &cell) < 0)
        return false;
    if (opt_bool(c, "all"))
        return complain(c, "--all is not available in this version of vireo; name a cell with --cellno");
    unsigned size = bytes / 1024;
    unsigned flags = opt_flags(c, "add", VIR_NODE_ALLOC_PAGES_ADD, NULL);
    if (!opt_bool(c, "add"))
        flags |= VIR_NODE_ALLOC_PAGES_SET;
    return virNodeAllocPages(c->v->connection, 1, &size, &count, cell, 1, flags) >= 0;
}

static bool cmd_nodesuspend(struct call *c)
{
    static const char *const targets[] = {"mem", "disk", "hybrid"};
    unsigned long long duration;
    unsigned i = 0;
    if (opt_ull(c, "duration", &duration) <= 0)
        return false;
    while (i < G_N_ELEMENTS(targets) && strcmp(targets[i], opt_str(c, "target")))
        i++;
    if (i == G_N_ELEMENTS(targets))
        return complain(c, "Invalid target");
    return virNodeSuspendForDuration(c->v->connection, i, duration, 0) == 0 || complain(c, "The host was not suspended");
}

static bool cmd_memory_tune(struct call *c)
{
    static const struct {
        const char *option, *field;
    } all[] = {{"shm-pages-to-scan", VIR_NODE_MEMORY_SHARED_PAGES_TO_SCAN}, {"shm-sleep-millisecs", VIR_NODE_MEMORY_SHARED_SLEEP_MILLISECS},
        {"shm-merge-across-nodes", VIR_NODE_MEMORY_SHARED_MERGE_ACROSS_NODES}};
    struct params p = {};
    bool good = true;
    for (unsigned i = 0; good && i < G_N_ELEMENTS(all); i++)
        good = params_from_option(c, &p, all[i].option, all[i].field, VIR_TYPED_PARAM_UINT);
    if (good && p.n) {
        good = virNodeSetMemoryParameters(c->v->connection, p.list, p.n, 0) == 0 || complain(c, "Unable to change memory parameters");
    } else if (good) {
        int n = 0;
        good = virNodeGetMemoryParameters(c->v->connection, NULL, &n, 0) == 0 || complain(c, "Unable to get number of memory parameters");
        p.list = calloc(MAX(n, 1), sizeof *p.list);
        p.n = n;
        good = good && (!n || virNodeGetMemoryParameters(c->v->connection, p.list, &p.n, 0) == 0 || complain(c, "Unable to get memory parameters"));
        if (good && p.n)
            say(c, "Shared memory:\n");
        for (int i = 0; good && i < p.n; i++) {
            g_autofree char *text = param_text(&p.list[i]);
            const char *name = g_str_has_prefix(p.list[i].field, "shm_") ? p.list[i].field + 4 : p.list[i].field;
            value_line(c, name, text, "\t%-15s %s", name, text);
        }
    }
    params_clear(&p);
    return good;
}

static bool cmd_sevinfo(struct call *c)
{
    struct params p = {};
    if (virNodeGetSEVInfo(c->v->connection, &p.list, &p.n, 0) < 0)
        return complain(c, "Unable to get host SEV information");
    for (int i = 0; i < p.n; i++) {
        g_autofree char *text = param_text(&p.list[i]);
        value_line(c, p.list[i].field, text, "%-18s: %s", p.list[i].field, text);
    }
    params_clear(&p);
    return true;
}

static bool cmd_cpu_models(struct call *c)
{
    char **models = NULL;
    int n = virConnectGetCPUModelNames(c->v->connection, opt_str(c, "arch"), &models, 0);
    if (n < 0)
        return complain(c, "failed to get CPU model names");
    struct table *t = json_table(c, "Model");
    if (!n)
        say(c, "all CPU models are accepted\n");
    for (int i = 0; i < n; i++) {
        table_row(t, models[i], NULL);
        say(c, "%s\n", models[i]);
        free(models[i]);
    }
    free(models);
    return table_print(t);
}

/* The <cpu> elements of a file: alone, in a domain, in host or domain capabilities, several of them one after another. */
static GPtrArray *cpus_of_file(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return NULL;
    /* Several documents in one file get a common root; declarations may not stand in the middle. */
    g_autoptr(GRegex) declaration = g_regex_new("<\\?xml[^>]*\\?>", 0, 0, NULL);
    g_autofree char *plain = g_regex_replace_literal(declaration, text, -1, 0, "", 0, NULL);
    g_autofree char *whole = g_strdup_printf("<container>%s</container>", plain);
    GPtrArray *cpus = g_ptr_array_new_with_free_func(g_free);
    struct xml x;
    if (xml_open(&x, whole)) {
        g_autoptr(GPtrArray) nodes = xml_nodes(&x, NULL, "/container/cpu|/container/domain/cpu|/container/capabilities/host/cpu|"
            "/container/domainCapabilities/cpu/mode[@name='host-model' and @supported='yes']");
        for (guint i = 0; i < nodes->len; i++) {
            xmlNodePtr node = nodes->pdata[i];
            if (!xmlStrcmp(node->name, (const xmlChar *)"mode"))
                xmlNodeSetName(node, (const xmlChar *)"cpu");
            xmlUnsetProp(node, (const xmlChar *)"supported");
            xmlUnsetProp(node, (const xmlChar *)"name");
            g_ptr_array_add(cpus, xml_dump(&x, node));
        }
        xml_close(&x);
    }
    if (cpus->len)
        return cpus;
    g_ptr_array_unref(cpus);
    complain(c, "File '%s' does not contain any <cpu> element or valid domain XML, host capabilities XML, or domain capabilities XML", opt_str(c, "file"));
    return NULL;
}

static bool compared(struct call *c, int result, const char *whose, const char *super)
{
    const char *file = opt_str(c, "file");
    switch (result) {
    case VIR_CPU_COMPARE_INCOMPATIBLE: say(c, "CPU described in %s is incompatible with %s\n", file, whose); return false;
    case VIR_CPU_COMPARE_IDENTICAL: say(c, "CPU described in %s is identical to %s\n", file, whose); return true;
    case VIR_CPU_COMPARE_SUPERSET: say(c, "%s is a superset of CPU described in %s\n", super, file); return true;
    }
    return complain(c, "Failed to compare %s with %s", g_str_has_prefix(whose, "host") ? "host CPU" : "hypervisor CPU", file);
}

static bool cmd_cpu_compare(struct call *c)
{
    unsigned flags = opt_flags(c, "error", VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE, "validate", VIR_CONNECT_COMPARE_CPU_VALIDATE_XML, NULL);
    g_autoptr(GPtrArray) cpus = cpus_of_file(c);
    return cpus && compared(c, virConnectCompareCPU(c->v->connection, cpus->pdata[0], flags), "host CPU", "Host CPU");
}

static bool cmd_hypervisor_cpu_compare(struct call *c)
{
    unsigned flags = opt_flags(c, "error", VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE, "validate", VIR_CONNECT_COMPARE_CPU_VALIDATE_XML, NULL);
    g_autoptr(GPtrArray) cpus = cpus_of_file(c);
    if (!cpus)
        return false;
    int result = virConnectCompareHypervisorCPU(c->v->connection, opt_str(c, "emulator"), opt_str(c, "arch"), opt_str(c, "machine"), opt_str(c, "virttype"), cpus->pdata[0], flags);
    return compared(c, result, "the CPU provided by hypervisor on the host", "The CPU provided by hypervisor on the host");
}

static bool cmd_cpu_baseline(struct call *c)
{
    unsigned flags = opt_flags(c, "features", VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES, "migratable", VIR_CONNECT_BASELINE_CPU_MIGRATABLE, NULL);
    g_autoptr(GPtrArray) cpus = cpus_of_file(c);
    if (!cpus)
        return false;
    g_autofree char *text = virConnectBaselineCPU(c->v->connection, (const char **)cpus->pdata, cpus->len, flags);
    if (text)
        say(c, "%s", text);
    return text != NULL;
}

static bool cmd_hypervisor_cpu_baseline(struct call *c)
{
    unsigned flags = opt_flags(c, "features", VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES, "migratable", VIR_CONNECT_BASELINE_CPU_MIGRATABLE, NULL);
    g_autoptr(GPtrArray) cpus = NULL;
    const char *model = opt_str(c, "model");
    if (!model && !opt_str(c, "file"))
        return complain(c, "Either --%s or --%s must be provided", "file", "model");
    if (model) {
        cpus = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(cpus, g_markup_printf_escaped("<cpu><model>%s</model></cpu>", model));
    } else if (!(cpus = cpus_of_file(c))) {
        return false;
    }
    g_autofree char *text = virConnectBaselineHypervisorCPU(c->v->connection, opt_str(c, "emulator"), opt_str(c, "arch"), opt_str(c, "machine"),
        opt_str(c, "virttype"), (const char **)cpus->pdata, cpus->len, flags);
    if (text)
        say(c, "%s", text);
    return text != NULL;
}

const struct command host_commands[] = {
    {"allocpages", "host", "pagesize#! pagecount#! cellno# add all", cmd_allocpages, 0, "Reserve huge pages on the host"},
    {"capabilities", "host", "xpath=@ wrap", cmd_capabilities, 0, "Print what the host and its hypervisor can do"},
    {"cpu-baseline", "host", "file! features migratable", cmd_cpu_baseline, 0, "Find a processor that several hosts have in common"},
    {"cpu-compare", "host", "file! error validate", cmd_cpu_compare, 0, "Compare a processor's description with the host's"},
    {"cpu-models", "host", "arch!", cmd_cpu_models, COMMAND_LIST, "List the processor models known"},
    {"domcapabilities", "host", "virttype= emulatorbin= arch= machine= xpath=@ wrap", cmd_domcapabilities, 0, "Print what a domain can have"},
    {"freecell", "host", "cellno# all", cmd_freecell, COMMAND_LIST, "Print the free memory of NUMA cells"},
    {"freepages", "host", "cellno# pagesize# all", cmd_freepages, COMMAND_LIST, "Print how many pages of which size are free"},
    {"hostname", "host", "", cmd_hostname, COMMAND_LIST, "Print the name of the host"},
    {"hypervisor-cpu-baseline", "host",
        "file= virttype= emulator= arch= machine= features migratable model=",
        cmd_hypervisor_cpu_baseline, 0, "Find a processor that an emulator offers on several hosts"},
    {"hypervisor-cpu-compare", "host",
        "file! virttype= emulator= arch= machine= error validate",
        cmd_hypervisor_cpu_compare, 0, "Compare a processor's description with what an emulator offers"},
    {"maxvcpus", "host", "type=", cmd_maxvcpus, COMMAND_LIST, "Print the greatest number of virtual processors of a domain"},
    {"node-memory-tune", "host",
        "shm-pages-to-scan# shm-sleep-millisecs# shm-merge-across-nodes#",
        cmd_memory_tune, COMMAND_LIST, "Show or set how the host shares equal pages"},
    {"nodecpumap", "host", "pretty", cmd_nodecpumap, COMMAND_LIST, "Show which processors of the host are on"},
    {"nodecpustats", "host", "cpu# percent", cmd_nodecpustats, COMMAND_LIST, "Show how the host's processors spent their time"},
    {"nodeinfo", "host", "", cmd_nodeinfo, COMMAND_LIST, "Show the host's processors and memory"},
    {"nodememstats", "host", "cell#", cmd_nodememstats, COMMAND_LIST, "Show how the host's memory is used"},
    {"nodesevinfo", "host", "", cmd_sevinfo, COMMAND_LIST, "Show what the host offers for encrypted guests"},
    {"nodesuspend", "host", "target! duration#!", cmd_nodesuspend, 0, "Send the host to sleep for some time"},
    {"sysinfo", "host", "", cmd_sysinfo, 0, "Print the host's SMBIOS information"},
    {"uri", "host", "", cmd_uri, COMMAND_LIST, "Print the URI of the connection"},
    {"version", "host", "daemon", cmd_version, COMMAND_LIST, "Print the versions of library, hypervisor and daemon"},
    {},
};
