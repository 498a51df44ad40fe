/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory, processors and limits of a domain. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <stdlib.h>
#include <string.h>

static void param_line(struct call *c, const char *name, const char *value)
{
    value_line(c, name, value, "%-15s: %s", name, value);
}

static bool cmd_setmem(struct call *c)
{
    unsigned flags;
    unsigned long long bytes;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || opt_size(c, "size", &bytes, 1024) <= 0)
        return false;
    unsigned long kib = bytes / 1024 + (bytes % 1024 != 0);
    return (flags || opt_bool(c, "current") ? virDomainSetMemoryFlags(domain, kib, flags) : virDomainSetMemory(domain, kib)) == 0;
}

static bool cmd_setmaxmem(struct call *c)
{
    unsigned flags;
    unsigned long long bytes;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || opt_size(c, "size", &bytes, 1024) <= 0)
        return false;
    unsigned long kib = bytes / 1024 + (bytes % 1024 != 0);
    int result = flags || opt_bool(c, "current") ? virDomainSetMemoryFlags(domain, kib, flags | VIR_DOMAIN_MEM_MAXIMUM) : virDomainSetMaxMemory(domain, kib);
    return result == 0 || complain(c, "Unable to change MaxMemorySize");
}

static bool cmd_setvcpus(struct call *c)
{
    unsigned flags, count;
    if (!opt_affect(c, &flags) || !opt_exclusive(c, "guest", "config", NULL))
        return false;
    flags |= opt_flags(c, "maximum", VIR_DOMAIN_VCPU_MAXIMUM, "guest", VIR_DOMAIN_VCPU_GUEST, "hotpluggable", VIR_DOMAIN_VCPU_HOTPLUGGABLE, NULL);
    if ((flags & VIR_DOMAIN_VCPU_GUEST) && (flags & VIR_DOMAIN_VCPU_MAXIMUM))
        return complain(c, "Options --guest and --maximum are mutually exclusive");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || opt_uint(c, "count", &count) <= 0)
        return false;
    if (!count)
        return complain(c, "Can't set 0 processors for a VM");
    return (flags || opt_bool(c, "current") ? virDomainSetVcpusFlags(domain, count, flags) : virDomainSetVcpus(domain, count)) == 0;
}

static void count_line(struct call *c, struct table *t, virDomainPtr domain, const char *which, const char *where, unsigned flags)
{
    int n = virDomainGetVcpusFlags(domain, flags);
    forget_library_error(c->v);
    if (n < 0)
        return;
    g_autofree char *number = g_strdup_printf("%d", n);
    table_row(t, which, where, number, NULL);
    say(c, "%-12s %-12s %3d\n", which, where, n);
}

static bool cmd_vcpucount(struct call *c)
{
    bool maximum = opt_bool(c, "maximum"), active = opt_bool(c, "active"), live = opt_bool(c, "live"), config = opt_bool(c, "config");
    bool current = opt_bool(c, "current"), guest = opt_bool(c, "guest");
    if (!opt_exclusive(c, "live", "config", NULL) || !opt_exclusive(c, "maximum", "active", NULL) || !opt_exclusive(c, "guest", "config", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (!maximum && !active && !live && !config && !current && !guest) {
        struct table *t = json_table(c, "Which", "Where", "Count#");
        count_line(c, t, domain, "maximum", "config", VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM);
        count_line(c, t, domain, "maximum", "live", VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_VCPU_MAXIMUM);
        count_line(c, t, domain, "current", "config", VIR_DOMAIN_AFFECT_CONFIG);
        count_line(c, t, domain, "current", "live", VIR_DOMAIN_AFFECT_LIVE);
        return table_print(t);
    }
    unsigned flags = (maximum ? VIR_DOMAIN_VCPU_MAXIMUM : 0) | (live ? VIR_DOMAIN_AFFECT_LIVE : 0) | (config ? VIR_DOMAIN_AFFECT_CONFIG : 0) | (guest ? VIR_DOMAIN_VCPU_GUEST : 0);
    int n = virDomainGetVcpusFlags(domain, flags);
    if (n < 0)
        return complain(c, "unable to retrieve vcpu count");
    return say_value(c, "count", "%d", n);
}

/* How many processors the host has. */
static int host_cpus(struct call *c)
{
    int n = virNodeGetCPUMap(c->v->connection, NULL, NULL, 0);
    if (n < 0) {
        virNodeInfo info;
        forget_library_error(c->v);
        if (virNodeGetInfo(c->v->connection, &info) < 0)
            return -1;
        n = VIR_NODEINFO_MAXCPUS(info);
    }
    return n;
}

/* "0-3,^2" or "r" for all. Returns a map of host processors; NULL said. */
static unsigned char *parse_cpus(struct call *c, const char *text, int n, int *ret_length)
{
    int length = VIR_CPU_MAPLEN(n);
    unsigned char *map = g_malloc0(length);
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    bool good = *text != 0;
    *ret_length = length;
    if (!strcmp(text, "r")) {
        for (int i = 0; i < n; i++)
            VIR_USE_CPU(map, i);
        return map;
    }
    for (char **p = parts; good && *p; p++) {
        char *end, *from = *p + (**p == '^');
        unsigned long first = strtoul(from, &end, 10), last = first;
        good = end != from;
        if (good && *end == '-') {
            char *second = end + 1;
            last = strtoul(second, &end, 10);
            good = end != second;
        }
        good = good && !*end && first <= last && last < 65536;
        if (good && last >= (unsigned)n) {
            complain(c, "CPU %lu in cpulist '%s' exceed the maxcpu %d", last, text, n);
            g_free(map);
            return NULL;
        }
        for (unsigned long i = first; good && i <= last; i++) {
            if (**p == '^')
                VIR_UNUSE_CPU(map, i);
            else
                VIR_USE_CPU(map, i);
        }
    }
    if (good)
        return map;
    complain(c, "Invalid cpulist '%s'", text);
    g_free(map);
    return NULL;
}

static char *format_cpus(const unsigned char *map, int n)
{
    GString *s = g_string_new(NULL);
    for (int i = 0; i < n; i++) {
        if (!VIR_CPU_USED(map, i))
            continue;
        int end = i;
        while (end + 1 < n && VIR_CPU_USED(map, end + 1))
            end++;
        g_string_append_printf(s, end > i ? "%s%d-%d" : "%s%d", s->len ? "," : "", i, end);
        i = end;
    }
    return g_string_free(s, false);
}

static void vcpu_map(struct call *c, const unsigned char *map, int host)
{
    if (opt_bool(c, "pretty")) {
        g_autofree char *text = format_cpus(map, host);
        say(c, "%-15s %s (out of %d)\n", "CPU Affinity:", text, host);
        return;
    }
    say(c, "%-15s ", "CPU Affinity:");
    for (int i = 0; i < host; i++)
        say(c, "%c", VIR_CPU_USED(map, i) ? 'y' : '-');
    say(c, "\n");
}

#define VCPU_TABLE(c) json_table(c, "VCPU#", "CPU#", "State", "CPU time", "CPU Affinity")

static void vcpu_row(struct table *t, int number, const char *cpu, const char *state, const char *seconds, const unsigned char *map, int host)
{
    g_autofree char *vcpu = g_strdup_printf("%d", number), *text = format_cpus(map, host);
    table_row(t, vcpu, cpu, state, seconds, text, NULL);
}

/* Of a stopped domain only the pinning is known. */
static bool vcpuinfo_stopped(struct call *c, virDomainPtr domain, int host)
{
    int n = virDomainGetVcpusFlags(domain, VIR_DOMAIN_AFFECT_CONFIG), length = VIR_CPU_MAPLEN(host);
    if (n < 0)
        return false;
    g_autofree unsigned char *maps = g_malloc0((gsize)MAX(n, 1) * length);
    n = virDomainGetVcpuPinInfo(domain, n, maps, length, VIR_DOMAIN_AFFECT_CONFIG);
    if (n < 0)
        return false;
    struct table *t = VCPU_TABLE(c);
    for (int i = 0; i < n; i++) {
        vcpu_row(t, i, "-", "-", "-", maps + i * length, host);
        say(c, "%-15s %d\n%-15s %s\n%-15s %s\n%-15s %s\n", "VCPU:", i, "CPU:", "N/A", "State:", "N/A", "CPU time", "N/A");
        vcpu_map(c, maps + i * length, host);
        if (i + 1 < n)
            say(c, "\n");
    }
    return table_print(t);
}

static bool cmd_vcpuinfo(struct call *c)
{
    static const char *const states[] = {"offline", "running", "blocked"};
    g_autoptr(virDomain) domain = arg_domain(c);
    virDomainInfo info;
    int host = domain ? host_cpus(c) : -1;
    if (host < 0 || virDomainGetInfo(domain, &info) < 0)
        return false;
    int length = VIR_CPU_MAPLEN(host);
    g_autofree virVcpuInfoPtr cpus = g_new0(virVcpuInfo, MAX(info.nrVirtCpu, 1));
    g_autofree unsigned char *maps = g_malloc0((gsize)MAX(info.nrVirtCpu, 1) * length);
    int n = virDomainGetVcpus(domain, cpus, info.nrVirtCpu, maps, length);
    if (n < 0 && info.state == VIR_DOMAIN_SHUTOFF) {
        forget_library_error(c->v);
        return vcpuinfo_stopped(c, domain, host);
    }
    if (n < 0)
        return false;
    struct table *t = VCPU_TABLE(c);
    for (int i = 0; i < n; i++) {
        const char *state = cpus[i].state >= 0 && cpus[i].state < 3 ? states[cpus[i].state] : "no state";
        g_autofree char *cpu = cpus[i].cpu >= 0 ? g_strdup_printf("%d", cpus[i].cpu) : g_strdup("-");
        g_autofree char *seconds = g_strdup_printf("%.1lfs", cpus[i].cpuTime / 1000000000.0);
        vcpu_row(t, cpus[i].number, cpu, state, seconds, maps + i * length, host);
        say(c, "%-15s %d\n", "VCPU:", cpus[i].number);
        if (cpus[i].cpu >= 0)
            say(c, "%-15s %d\n", "CPU:", cpus[i].cpu);
        else
            say(c, "%-15s %s\n", "CPU:", "N/A");
        say(c, "%-15s %s\n", "State:", state);
        if (cpus[i].cpuTime)
            say(c, "%-15s %s\n", "CPU time:", seconds);
        vcpu_map(c, maps + i * length, host);
        if (i + 1 < n)
            say(c, "\n");
    }
    return table_print(t);
}

static bool pin_list(struct call *c, virDomainPtr domain, int host, int only, unsigned flags)
{
    virDomainInfo info;
    int length = VIR_CPU_MAPLEN(host);
    int count = virDomainGetVcpusFlags(domain, flags | VIR_DOMAIN_VCPU_MAXIMUM);
    if (count < 0 && virDomainGetInfo(domain, &info) == 0)
        count = info.nrVirtCpu;
    forget_library_error(c->v);
    g_autofree unsigned char *maps = g_malloc0((gsize)MAX(count, 1) * length);
    int n = virDomainGetVcpuPinInfo(domain, count, maps, length, flags);
    if (n < 0)
        return false;
    if (only >= n)
        return complain(c, (flags & VIR_DOMAIN_AFFECT_CONFIG) || virDomainIsActive(domain) != 1 ? "vcpu %d is out of range of persistent cpu count %d"
                                                                                               : "vcpu %d is out of range of live cpu count %d", only, n);
    struct table *t = table_new(c, "VCPU#", "CPU Affinity", NULL);
    for (int i = 0; i < n; i++) {
        g_autofree char *number = g_strdup_printf("%d", i), *text = format_cpus(maps + i * length, host);
        if (only < 0 || only == i)
            table_row(t, number, text, NULL);
    }
    return table_print(t);
}

static bool cmd_vcpupin(struct call *c)
{
    unsigned flags;
    int vcpu = -1, length;
    const char *list = opt_str(c, "cpulist");
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    int given = domain ? opt_int(c, "vcpu", &vcpu) : -1;
    if (given < 0)
        return false;
    if (given && vcpu < 0)
        return complain(c, "Numeric value '%s' for <%s> option is malformed or out of range", opt_str(c, "vcpu"), "vcpu");
    if (list && !given)
        return complain(c, "vcpupin: Missing vCPU number in pin mode.");
    int host = host_cpus(c);
    if (host < 0)
        return false;
    if (!list)
        return pin_list(c, domain, host, vcpu, flags);
    g_autofree unsigned char *map = parse_cpus(c, list, host, &length);
    if (!map)
        return false;
    bool plain = !flags && !opt_bool(c, "current");
    return (plain ? virDomainPinVcpu(domain, vcpu, map, length) : virDomainPinVcpuFlags(domain, vcpu, map, length, flags)) == 0;
}

static bool cmd_emulatorpin(struct call *c)
{
    unsigned flags;
    int length;
    const char *list = opt_str(c, "cpulist");
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    int host = domain ? host_cpus(c) : -1;
    if (host < 0)
        return false;
    if (!list) {
        g_autofree unsigned char *map = g_malloc0(VIR_CPU_MAPLEN(host));
        if (virDomainGetEmulatorPinInfo(domain, map, VIR_CPU_MAPLEN(host), flags) < 0)
            return false;
        g_autofree char *text = format_cpus(map, host);
        json_member(c, "CPU Affinity", "%s", text);
        say(c, "emulator: CPU Affinity\n----------------------------------\n       *: %s\n", text);
        return true;
    }
    g_autofree unsigned char *map = parse_cpus(c, list, host, &length);
    return map && virDomainPinEmulator(domain, map, length, flags) == 0;
}

static bool cmd_iothreadinfo(struct call *c)
{
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    int host = domain ? host_cpus(c) : -1;
    if (host < 0)
        return false;
    virDomainIOThreadInfoPtr *all = NULL;
    int n = virDomainGetIOThreadInfo(domain, &all, flags);
    if (n < 0)
        return complain(c, "Unable to get domain IOThreads information");
    if (!n && !call_json(c)) {
        say(c, "No IOThreads found for the domain");
        return true;
    }
    struct table *t = table_new(c, "IOThread ID#", "CPU Affinity", NULL);
    for (int i = 0; i < n; i++) {
        g_autofree char *id = g_strdup_printf("%u", all[i]->iothread_id);
        g_autofree char *text = format_cpus(all[i]->cpumap, MIN(host, all[i]->cpumaplen * 8));
        table_row(t, id, text, NULL);
        virDomainIOThreadInfoFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static bool cmd_iothreadpin(struct call *c)
{
    unsigned flags, id;
    int length;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    int host = domain && opt_uint(c, "iothread", &id) > 0 ? host_cpus(c) : -1;
    if (host < 0)
        return false;
    g_autofree unsigned char *map = parse_cpus(c, opt_str(c, "cpulist"), host, &length);
    return map && virDomainPinIOThread(domain, id, map, length, flags) == 0;
}

static bool iothread_id(struct call *c, int *ret_id)
{
    if (opt_int(c, "id", ret_id) <= 0)
        return false;
    return *ret_id > 0 || complain(c, "Invalid IOThread id value: '%d'", *ret_id);
}

static bool cmd_iothreadadd(struct call *c)
{
    unsigned flags;
    int id;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && iothread_id(c, &id) && virDomainAddIOThread(domain, id, flags) == 0;
}

static bool cmd_iothreaddel(struct call *c)
{
    unsigned flags;
    int id;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && iothread_id(c, &id) && virDomainDelIOThread(domain, id, flags) == 0;
}

/* A row of options that become typed parameters. */
struct parameter {
    const char *option, *field;
    int kind;
};

static bool parameters_of(struct call *c, struct params *p, const struct parameter *rows, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!params_from_option(c, p, rows[i].option, rows[i].field, rows[i].kind))
            return false;
    return true;
}

static bool cmd_iothreadset(struct call *c)
{
    static const struct parameter rows[] = {{"poll-max-ns", VIR_DOMAIN_IOTHREAD_POLL_MAX_NS, VIR_TYPED_PARAM_ULLONG},
        {"poll-grow", VIR_DOMAIN_IOTHREAD_POLL_GROW, VIR_TYPED_PARAM_UINT}, {"poll-shrink", VIR_DOMAIN_IOTHREAD_POLL_SHRINK, VIR_TYPED_PARAM_UINT},
        {"thread-pool-min", VIR_DOMAIN_IOTHREAD_THREAD_POOL_MIN, VIR_TYPED_PARAM_INT}, {"thread-pool-max", VIR_DOMAIN_IOTHREAD_THREAD_POOL_MAX, VIR_TYPED_PARAM_INT}};
    unsigned flags;
    int id;
    struct params p = {};
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    bool good = domain && iothread_id(c, &id) && parameters_of(c, &p, rows, G_N_ELEMENTS(rows));
    if (good && !p.n)
        good = complain(c, "Not enough arguments passed, nothing to set");
    good = good && virDomainSetIOThreadParams(domain, id, p.list, p.n, flags) == 0;
    params_clear(&p);
    return good;
}

/* Show or set: with options set, without show each parameter in its own way. */
struct tuning {
    const struct parameter *rows;
    unsigned n;
    int (*get)(virDomainPtr domain, virTypedParameterPtr list, int *n, unsigned flags);
    int (*set)(virDomainPtr domain, virTypedParameterPtr list, int n, unsigned flags);
    char *(*text)(const virTypedParameter *p);
    const char *no_number, *no_get, *no_set;
};

static bool tune(struct call *c, virDomainPtr domain, const struct tuning *how, unsigned flags)
{
    struct params p = {};
    bool good = parameters_of(c, &p, how->rows, how->n);
    if (good && p.n) {
        good = how->set(domain, p.list, p.n, flags) == 0 || complain(c, "%s", how->no_set);
    } else if (good) {
        int n = 0;
        good = how->get(domain, NULL, &n, flags) == 0 || complain(c, "%s", how->no_number);
        p.list = calloc(MAX(n, 1), sizeof *p.list);
        p.n = n;
        good = good && (!n || how->get(domain, p.list, &p.n, flags) == 0 || complain(c, "%s", how->no_get));
        for (int i = 0; good && i < p.n; i++) {
            g_autofree char *text = how->text(&p.list[i]);
            param_line(c, p.list[i].field, text);
        }
    }
    params_clear(&p);
    return good;
}

/* Memory limits are in KiB, and a very large number means none. */
static char *memory_text(const virTypedParameter *p)
{
    if (p->type == VIR_TYPED_PARAM_ULLONG && p->value.ul == VIR_DOMAIN_MEMORY_PARAM_UNLIMITED)
        return g_strdup("unlimited");
    return param_text(p);
}

static bool cmd_memtune(struct call *c)
{
    static const struct parameter names[] = {{"hard-limit", VIR_DOMAIN_MEMORY_HARD_LIMIT}, {"soft-limit", VIR_DOMAIN_MEMORY_SOFT_LIMIT},
        {"swap-hard-limit", VIR_DOMAIN_MEMORY_SWAP_HARD_LIMIT}, {"min-guarantee", VIR_DOMAIN_MEMORY_MIN_GUARANTEE}};
    static const struct tuning show = {NULL, 0, virDomainGetMemoryParameters, virDomainSetMemoryParameters, memory_text,
        "Unable to get number of memory parameters", "Unable to get memory parameters", "Unable to change memory parameters"};
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    struct params p = {};
    bool good = domain != NULL;
    for (unsigned i = 0; good && i < G_N_ELEMENTS(names); i++) {
        const char *text = opt_str(c, names[i].option);
        unsigned long long bytes = 0;
        if (!text)
            continue;
        bool none = !strcmp(text, "-1");
        good = none || opt_size(c, names[i].option, &bytes, 1024) > 0;
        if (good)
            virTypedParamsAddULLong(&p.list, &p.n, &p.max, names[i].field, none ? VIR_DOMAIN_MEMORY_PARAM_UNLIMITED : bytes / 1024);
    }
    if (good && p.n)
        good = virDomainSetMemoryParameters(domain, p.list, p.n, flags) == 0 || complain(c, "%s", show.no_set);
    else if (good)
        good = tune(c, domain, &show, flags);
    params_clear(&p);
    return good;
}

static bool cmd_blkiotune(struct call *c)
{
    static const struct parameter rows[] = {{"weight", VIR_DOMAIN_BLKIO_WEIGHT, VIR_TYPED_PARAM_UINT}, {"device-weights", VIR_DOMAIN_BLKIO_DEVICE_WEIGHT, VIR_TYPED_PARAM_STRING},
        {"device-read-iops-sec", VIR_DOMAIN_BLKIO_DEVICE_READ_IOPS, VIR_TYPED_PARAM_STRING}, {"device-write-iops-sec", VIR_DOMAIN_BLKIO_DEVICE_WRITE_IOPS, VIR_TYPED_PARAM_STRING},
        {"device-read-bytes-sec", VIR_DOMAIN_BLKIO_DEVICE_READ_BPS, VIR_TYPED_PARAM_STRING}, {"device-write-bytes-sec", VIR_DOMAIN_BLKIO_DEVICE_WRITE_BPS, VIR_TYPED_PARAM_STRING}};
    static const struct tuning how = {rows, G_N_ELEMENTS(rows), virDomainGetBlkioParameters, virDomainSetBlkioParameters, param_text,
        "Unable to get number of blkio parameters", "Unable to get blkio parameters", "Unable to change blkio parameters"};
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && tune(c, domain, &how, flags);
}

static bool cmd_numatune(struct call *c)
{
    static const char *const modes[] = {"strict", "preferred", "interleave", "restrictive"};
    static const struct tuning show = {NULL, 0, virDomainGetNumaParameters, virDomainSetNumaParameters, param_text,
        "Unable to get number of memory parameters", "Unable to get numa parameters", "Unable to change numa parameters"};
    unsigned flags;
    const char *mode = opt_str(c, "mode"), *nodes = opt_str(c, "nodeset");
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    struct params p = {};
    if (nodes)
        virTypedParamsAddString(&p.list, &p.n, &p.max, VIR_DOMAIN_NUMA_NODESET, nodes);
    if (mode) {
        unsigned i = 0;
        while (i < G_N_ELEMENTS(modes) && strcmp(modes[i], mode))
            i++;
        unsigned number = i < G_N_ELEMENTS(modes) ? i : strtoul(mode, NULL, 10);
        if (i == G_N_ELEMENTS(modes) && !g_ascii_isdigit(*mode)) {
            params_clear(&p);
            return complain(c, "Invalid mode: %s", mode);
        }
        virTypedParamsAddInt(&p.list, &p.n, &p.max, VIR_DOMAIN_NUMA_MODE, number);
    }
    bool good;
    if (p.n) {
        good = virDomainSetNumaParameters(domain, p.list, p.n, flags) == 0 || complain(c, "%s", show.no_set);
    } else {
        int n = 0;
        good = virDomainGetNumaParameters(domain, NULL, &n, flags) == 0 || complain(c, "%s", show.no_number);
        p.list = calloc(MAX(n, 1), sizeof *p.list);
        p.n = n;
        good = good && (!n || virDomainGetNumaParameters(domain, p.list, &p.n, flags) == 0 || complain(c, "%s", show.no_get));
        for (int i = 0; good && i < p.n; i++) {
            g_autofree char *text = param_text(&p.list[i]);
            bool is_mode = !strcmp(p.list[i].field, VIR_DOMAIN_NUMA_MODE) && p.list[i].type == VIR_TYPED_PARAM_INT && p.list[i].value.i >= 0 && p.list[i].value.i < 4;
            param_line(c, p.list[i].field, is_mode ? modes[p.list[i].value.i] : text);
        }
    }
    params_clear(&p);
    return good;
}

/* weight, cap, and --set NAME=VALUE for the others, of the types that the scheduler's parameters have now. */
static bool schedule_set(struct call *c, struct params *now, struct params *p)
{
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
    if (opt_str(c, "weight"))
        g_ptr_array_add(pairs, g_strdup_printf("weight=%s", opt_str(c, "weight")));
    if (opt_str(c, "cap"))
        g_ptr_array_add(pairs, g_strdup_printf("cap=%s", opt_str(c, "cap")));
    for (char **w = opt_list(c, "set"); w && *w; w++)
        g_ptr_array_add(pairs, g_strdup(*w));
    for (guint i = 0; i < pairs->len; i++) {
        const char *pair = pairs->pdata[i], *equals = strchr(pair, '=');
        if (!equals)
            return complain(c, "Invalid syntax for --set, expecting name=value");
        g_autofree char *name = g_strndup(pair, equals - pair);
        virTypedParameterPtr like = virTypedParamsGet(now->list, now->n, name);
        if (!like)
            return complain(c, "invalid scheduler option: %s", name);
        if (virTypedParamsAddFromString(&p->list, &p->n, &p->max, name, like->type, equals + 1) < 0)
            return false;
    }
    return true;
}

static bool cmd_schedinfo(struct call *c)
{
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int n = 0;
    g_autofree char *type = virDomainGetSchedulerType(domain, &n);
    if (!type) {
        say(c, "%-15s: %s\n", "Scheduler", "Unknown");
        return false;
    }
    param_line(c, "Scheduler", type);
    if (!n)
        return true;
    bool plain = !flags && !opt_bool(c, "current"), good;
    struct params now = {.list = calloc(n, sizeof(virTypedParameter)), .n = n}, p = {};
    good = (plain ? virDomainGetSchedulerParameters(domain, now.list, &now.n) : virDomainGetSchedulerParametersFlags(domain, now.list, &now.n, flags)) == 0
        && schedule_set(c, &now, &p);
    if (good && p.n) {
        good = (plain ? virDomainSetSchedulerParameters(domain, p.list, p.n) : virDomainSetSchedulerParametersFlags(domain, p.list, p.n, flags)) == 0;
        if (good) {
            params_clear(&now);
            now = (struct params){.list = calloc(n, sizeof(virTypedParameter)), .n = n};
            good = (plain ? virDomainGetSchedulerParameters(domain, now.list, &now.n) : virDomainGetSchedulerParametersFlags(domain, now.list, &now.n, flags)) == 0;
        }
    }
    for (int i = 0; good && i < now.n; i++) {
        g_autofree char *text = param_text(&now.list[i]);
        param_line(c, now.list[i].field, text);
    }
    params_clear(&now);
    params_clear(&p);
    return good;
}

static bool cmd_blkdeviotune(struct call *c)
{
    static const char *const names[] = {"total-bytes-sec", "read-bytes-sec", "write-bytes-sec", "total-iops-sec", "read-iops-sec", "write-iops-sec",
        "total-bytes-sec-max", "read-bytes-sec-max", "write-bytes-sec-max", "total-iops-sec-max", "read-iops-sec-max", "write-iops-sec-max", "size-iops-sec",
        "total-bytes-sec-max-length", "read-bytes-sec-max-length", "write-bytes-sec-max-length", "total-iops-sec-max-length", "read-iops-sec-max-length",
        "write-iops-sec-max-length"};
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    const char *disk = opt_str(c, "device");
    struct params p = {};
    bool good = domain != NULL;
    for (unsigned i = 0; good && i < G_N_ELEMENTS(names); i++) {
        g_autofree char *key = g_strdelimit(g_strdup(names[i]), "-", '_');
        good = params_from_option(c, &p, names[i], key, VIR_TYPED_PARAM_ULLONG);
    }
    good = good && params_from_option(c, &p, "group-name", VIR_DOMAIN_BLOCK_IOTUNE_GROUP_NAME, VIR_TYPED_PARAM_STRING);
    if (good && p.n) {
        good = virDomainSetBlockIoTune(domain, disk, p.list, p.n, flags) == 0 || complain(c, "Unable to change block I/O throttle");
    } else if (good) {
        int n = 0;
        good = virDomainGetBlockIoTune(domain, NULL, NULL, &n, flags) == 0 || complain(c, "Unable to get number of block I/O throttle parameters");
        p.list = calloc(MAX(n, 1), sizeof *p.list);
        p.n = n;
        good = good && (!n || virDomainGetBlockIoTune(domain, disk, p.list, &p.n, flags) == 0 || complain(c, "Unable to get block I/O throttle parameters"));
        for (int i = 0; good && i < p.n; i++) {
            g_autofree char *text = param_text(&p.list[i]);
            param_line(c, p.list[i].field, text);
        }
    }
    params_clear(&p);
    return good;
}

/* "average,peak,burst,floor": each part of it that is given. */
static bool rate(struct call *c, struct params *p, const char *option, bool floor)
{
    static const char *const parts[] = {"average", "peak", "burst", "floor"};
    const char *text = opt_str(c, option);
    if (!text)
        return true;
    g_auto(GStrv) numbers = g_strsplit(text, ",", -1);
    if (g_strv_length(numbers) > 4u)
        return complain(c, "Rate string '%s' has too many fields", text);
    for (unsigned i = 0; numbers[i]; i++) {
        char *end;
        unsigned long value = strtoul(numbers[i], &end, 10);
        if (!*numbers[i] && i)
            continue;
        if (end == numbers[i] || *end || value > G_MAXUINT)
            return complain(c, "field '%s' is malformed", parts[i]);
        g_autofree char *key = g_strdup_printf("%s.%s", option, parts[i]);
        if (i < 3 || floor)
            virTypedParamsAddUInt(&p->list, &p->n, &p->max, key, value);
    }
    return true;
}

static bool cmd_domiftune(struct call *c)
{
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    const char *device = opt_str(c, "interface");
    struct params p = {};
    bool good = domain && rate(c, &p, "inbound", true) && rate(c, &p, "outbound", false);
    if (good && p.n) {
        good = virDomainSetInterfaceParameters(domain, device, p.list, p.n, flags) == 0 || complain(c, "Unable to set interface parameters");
    } else if (good) {
        int n = 0;
        good = virDomainGetInterfaceParameters(domain, device, NULL, &n, flags) == 0 || complain(c, "Unable to get number of interface parameters");
        p.list = calloc(MAX(n, 1), sizeof *p.list);
        p.n = n;
        good = good && (!n || virDomainGetInterfaceParameters(domain, device, p.list, &p.n, flags) == 0 || complain(c, "Unable to get interface parameters"));
        for (int i = 0; good && i < p.n; i++) {
            g_autofree char *text = param_text(&p.list[i]);
            param_line(c, p.list[i].field, text);
        }
    }
    params_clear(&p);
    return good;
}

static bool perf_switch(struct call *c, struct params *p, const char *option, bool on)
{
    g_auto(GStrv) names = g_strsplit(opt_str(c, option) ? opt_str(c, option) : "", ",", -1);
    for (char **n = names; *n; n++)
        if (**n && virTypedParamsAddBoolean(&p->list, &p->n, &p->max, *n, on) < 0)
            return false;
    return true;
}

static bool cmd_perf(struct call *c)
{
    unsigned flags;
    if (!opt_affect(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    struct params p = {};
    bool good = domain && perf_switch(c, &p, "enable", true) && perf_switch(c, &p, "disable", false);
    bool set = p.n > 0;
    if (good && set)
        good = virDomainSetPerfEvents(domain, p.list, p.n, flags) == 0 || complain(c, "Unable to enable/disable perf events");
    else if (good)
        good = virDomainGetPerfEvents(domain, &p.list, &p.n, flags) == 0 || complain(c, "Unable to get perf events");
    for (int i = 0; good && i < p.n; i++)
        param_line(c, p.list[i].field, p.list[i].value.b ? "enabled" : "disabled");
    params_clear(&p);
    return good;
}

static bool cmd_setvcpu(struct call *c)
{
    unsigned flags;
    bool enable = opt_bool(c, "enable");
    if (!opt_affect(c, &flags) || !opt_exclusive(c, "enable", "disable", NULL))
        return false;
    if (!enable && !opt_bool(c, "disable"))
        return complain(c, "one of --enable, --disable is required");
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && virDomainSetVcpu(domain, opt_str(c, "vcpulist"), enable, flags) == 0;
}

static bool cmd_guestvcpus(struct call *c)
{
    const char *list = opt_str(c, "cpulist");
    bool enable = opt_bool(c, "enable"), disable = opt_bool(c, "disable");
    if (!opt_exclusive(c, "enable", "disable", NULL))
        return false;
    if ((enable || disable) && !list)
        return complain(c, "Option --%s is required by option --%s", "cpulist", enable ? "enable" : "disable");
    if (list && !enable && !disable)
        return complain(c, "One of options --enable or --disable is required by option --cpulist");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (list)
        return virDomainSetGuestVcpus(domain, list, enable, 0) == 0;
    struct params p = {};
    unsigned n = 0;
    if (virDomainGetGuestVcpus(domain, &p.list, &n, 0) < 0)
        return false;
    p.n = n;
    for (int i = 0; i < p.n; i++) {
        g_autofree char *text = param_text(&p.list[i]);
        param_line(c, p.list[i].field, text);
    }
    params_clear(&p);
    return true;
}

static void stat_time(struct call *c, struct table *t, int cpu, const char *name, unsigned long long ns)
{
    g_autofree char *which = cpu < 0 ? g_strdup("-") : g_strdup_printf("%d", cpu), *number = g_strdup_printf("%llu", ns);
    table_row(t, which, name, number, NULL);
    say(c, "\t%-12s %9lld.%09lld seconds\n", name, ns / 1000000000, ns % 1000000000);
}

static bool cpu_stats_total(struct call *c, struct table *t, virDomainPtr domain)
{
    int n = virDomainGetCPUStats(domain, NULL, 0, -1, 1, 0);
    if (n < 0)
        return false;
    if (!n) {
        say(c, "No total stats available\n");
        return true;
    }
    struct params p = {.list = calloc(n, sizeof(virTypedParameter)), .n = n};
    n = virDomainGetCPUStats(domain, p.list, n, -1, 1, 0);
    bool good = n >= 0;
    if (good)
        say(c, "Total:\n");
    for (int i = 0; i < n; i++) {
        if (p.list[i].type == VIR_TYPED_PARAM_ULLONG) {
            stat_time(c, t, -1, p.list[i].field, p.list[i].value.ul);
        } else {
            g_autofree char *text = param_text(&p.list[i]);
            say(c, "\t%-12s %s\n", p.list[i].field, text);
        }
    }
    params_clear(&p);
    return good;
}

static bool cmd_cpu_stats(struct call *c)
{
    unsigned first = 0, count = G_MAXUINT;
    bool show_total = opt_bool(c, "total"), show_each = !show_total || opt_str(c, "start") || opt_str(c, "count");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || opt_uint(c, "start", &first) < 0 || opt_uint(c, "count", &count) < 0)
        return false;
    int cpus = show_each ? virDomainGetCPUStats(domain, NULL, 0, 0, 0, 0) : 0;
    if (cpus < 0)
        return complain(c, "Failed to retrieve CPU statistics for domain '%s'", virDomainGetName(domain));
    if (show_each && first >= (unsigned)cpus)
        return complain(c, "Start CPU %d is out of range (min: 0, max: %d)", first, cpus - 1);
    int each = show_each ? virDomainGetCPUStats(domain, NULL, 0, 0, 1, 0) : 0;
    bool good = each >= 0;
    struct table *t = json_table(c, "CPU#", "Statistic", "Nanoseconds#");
    for (unsigned i = first; good && show_each && i < (unsigned)cpus && i - first < count; i++) {
        struct params p = {.list = calloc(MAX(each, 1), sizeof(virTypedParameter)), .n = each};
        good = virDomainGetCPUStats(domain, p.list, each, i, 1, 0) >= 0;
        if (good)
            say(c, "CPU%u:\n", i);
        for (int k = 0; good && k < each; k++)
            if (p.list[k].type == VIR_TYPED_PARAM_ULLONG && p.list[k].field[0])
                stat_time(c, t, i, p.list[k].field, p.list[k].value.ul);
        params_clear(&p);
    }
    if (good && (show_total || !opt_str(c, "start")))
        good = (!show_total && (opt_str(c, "count"))) || cpu_stats_total(c, t, domain);
    if (good)
        table_print(t);
    else
        table_drop(t);
    return good || complain(c, "Failed to retrieve CPU statistics for domain '%s'", virDomainGetName(domain));
}

const struct command domain_tune_commands[] = {
    {"blkdeviotune", "domain",
        "domain! device! total-bytes-sec# read-bytes-sec# write-bytes-sec# total-iops-sec# read-iops-sec# write-iops-sec# "
        "total-bytes-sec-max# read-bytes-sec-max# write-bytes-sec-max# total-iops-sec-max# read-iops-sec-max# "
        "write-iops-sec-max# size-iops-sec# group-name= total-bytes-sec-max-length# read-bytes-sec-max-length# "
        "write-bytes-sec-max-length# total-iops-sec-max-length# read-iops-sec-max-length# write-iops-sec-max-length# config live "
        "current",
        cmd_blkdeviotune, COMMAND_LIST, "Show or set the rate limits of a disk"},
    {"blkiotune", "domain",
        "domain! weight# device-weights= device-read-iops-sec= device-write-iops-sec= device-read-bytes-sec= "
        "device-write-bytes-sec= config live current",
        cmd_blkiotune, COMMAND_LIST, "Show or set how disk time is shared among domains"},
    {"cpu-stats", "domain", "domain! total start# count#", cmd_cpu_stats, COMMAND_LIST, "Print the processor time a domain has used"},
    {"domiftune", "domain",
        "domain! interface! inbound= outbound= config live current",
        cmd_domiftune, COMMAND_LIST, "Show or set the rate limits of an interface"},
    {"emulatorpin", "domain", "domain! cpulist= config live current", cmd_emulatorpin, COMMAND_LIST, "Show or set which processors the emulator may run on"},
    {"guestvcpus", "domain", "domain! cpulist= enable disable", cmd_guestvcpus, COMMAND_LIST, "Show or switch processors inside the guest"},
    {"iothreadadd", "domain", "domain! id#! config live current", cmd_iothreadadd, 0, "Add an I/O thread"},
    {"iothreaddel", "domain", "domain! id#! config live current", cmd_iothreaddel, 0, "Remove an I/O thread"},
    {"iothreadinfo", "domain", "domain! config live current", cmd_iothreadinfo, COMMAND_LIST, "List I/O threads"},
    {"iothreadpin", "domain", "domain! iothread#! cpulist! config live current", cmd_iothreadpin, 0, "Set which processors an I/O thread may run on"},
    {"iothreadset", "domain",
        "domain! id#! poll-max-ns# poll-grow# poll-shrink# thread-pool-min# thread-pool-max# config live current",
        cmd_iothreadset, 0, "Set how an I/O thread polls"},
    {"memtune", "domain",
        "domain! hard-limit# soft-limit# swap-hard-limit# min-guarantee# config live current",
        cmd_memtune, COMMAND_LIST, "Show or set memory limits"},
    {"numatune", "domain", "domain! mode= nodeset= config live current", cmd_numatune, COMMAND_LIST, "Show or set which NUMA nodes memory comes from"},
    {"perf", "domain", "domain! enable= disable= config live current", cmd_perf, COMMAND_LIST, "Show or switch performance counters"},
    {"schedinfo", "domain",
        "domain! weight#@ cap#@ current config live set...",
        cmd_schedinfo, COMMAND_LIST, "Show or set how processor time is shared among domains"},
    {"setmaxmem", "domain", "domain! size#! config live current kilobytes>size", cmd_setmaxmem, 0, "Set the most memory a domain can have"},
    {"setmem", "domain", "domain! size#! config live current kilobytes>size", cmd_setmem, 0, "Set how much memory a domain has"},
    {"setvcpu", "domain", "domain! vcpulist! enable disable config live current", cmd_setvcpu, 0, "Plug single virtual processors in or out"},
    {"setvcpus", "domain",
        "domain! count#! maximum config live current guest hotpluggable",
        cmd_setvcpus, 0, "Set how many virtual processors a domain has"},
    {"vcpucount", "domain", "domain! maximum active live config current guest", cmd_vcpucount, COMMAND_LIST, "Print how many virtual processors a domain has"},
    {"vcpuinfo", "domain", "domain! pretty", cmd_vcpuinfo, COMMAND_LIST, "Tell what the virtual processors do"},
    {"vcpupin", "domain",
        "domain! vcpu# cpulist= config live current",
        cmd_vcpupin, COMMAND_LIST, "Show or set which processors a virtual processor may run on"},
    {},
};
