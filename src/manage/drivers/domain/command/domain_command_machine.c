/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options that are no devices: machine, processors, memory, clock, what is started. */
#include "manage/drivers/domain/command/domain_command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "manage/drivers/domain/tune/domain_tune.h"

/* The kernel's part is there, not only a file of its name. */
static bool host_has_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    bool has = fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION;
    if (fd >= 0)
        close(fd);
    return has;
}

bool domain_plan_kvm(const struct domain_build *b)
{
    return el_is(b->root, "@type", "kvm") && (b->m.is_vireo || !b->d || host_has_kvm());
}

static bool lacking(const struct domain_build *b, const struct el *e, const char *what, GError **error)
{
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: %s is not there with the emulator '%s'", el_name(e), domain_line(e), what, b->m.emulator);
}

/* ---- name, machine ---- */

static bool add_name(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    g_autofree char *name = domain_plan_escape(el_get_or(b->root, "name", ""));
    domain_plan_option(b, "-name", "guest=%s%s", name, b->m.is_vireo ? "" : ",debug-threads=on");
    return true;
}

static bool has_cells(const struct domain_build *b)
{
    return el_find(b->root, "cpu/numa/cell") != NULL;
}

static bool add_machine(struct domain_build *b, GError **error)
{
    static const struct { const char *path, *on; } switches[] = { { "features/vmport/@state", "vmport" }, { "features/smm/@state", "smm" } };
    if (b->m.is_vireo && b->m.i440fx)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "vireo-vmm has no machine '%s'%s: change it to 'q35' (and disks on 'ide' to 'sata')", b->m.name,
                           domain_line(el_find(b->root, "os/type")));
    if (b->m.is_vireo && el_is(b->root, "features/smm/@state", "on"))
        return lacking(b, el_find(b->root, "features/smm"), "system management mode", error);
    g_autoptr(GString) s = g_string_new(b->m.name);
    if (b->m.has_pci)
        g_string_append(s, ",usb=off");
    for (unsigned i = 0; i < G_N_ELEMENTS(switches); i++)
        if (el_get(b->root, switches[i].path))
            g_string_append_printf(s, ",%s=%s", switches[i].on, el_get(b->root, switches[i].path));
    bool dump = el_is(b->root, "memory/@dumpCore", "on");
    g_string_append_printf(s, ",dump-guest-core=%s", dump ? "on" : "off");
    if (el_find(b->root, "memoryBacking/nosharepages"))
        g_string_append(s, ",mem-merge=off");
    if (!has_cells(b))
        g_string_append(s, ",memory-backend=pc.ram");
    if (el_is(b->root, "os/bios/@useserial", "yes"))
        g_string_append(s, ",graphics=off"); /* SeaBIOS shows itself on the serial port then */
    if (el_is(b->root, "features/ioapic/@driver", "qemu"))
        g_string_append(s, ",kernel_irqchip=split");
    domain_plan_option(b, "-machine", "%s", s->str);
    bool asked = el_is(b->root, "@type", "kvm"), kvm = domain_plan_kvm(b);
    if (asked && !kvm)
        domain_plan_note(b, "<domain type='kvm'>: this host has no usable /dev/kvm; the machine is run in software");
    uint64_t cache = 0;
    if (!kvm && el_get_bytes(b->root, "features/tcg/tb-cache", "KiB", &cache) && cache)
        domain_plan_option(b, "-accel", "tcg,tb-size=%" G_GUINT64_FORMAT, (cache + (1 << 20) - 1) >> 20);
    else
        domain_plan_option(b, "-accel", "%s", kvm ? (b->m.is_vireo ? "auto" : "kvm") : "tcg");
    return true;
}

/* ---- processors ---- */

static void add_hyperv(struct domain_build *b, GString *s)
{
    static const char *const names[] = { "relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "vendor_id", "frequencies", "reenlightenment", "tlbflush",
                                         "ipi", "evmcs", "avic" };
    const struct el *hv = el_find(b->root, "features/hyperv");
    if (hv && el_is(hv, "@mode", "passthrough"))
        g_string_append(s, ",hv-passthrough=on");
    for (unsigned i = 0; hv && i < G_N_ELEMENTS(names); i++) {
        const struct el *f = el_find(hv, names[i]);
        if (!f || !el_is(f, "@state", "on"))
            continue;
        if (g_str_equal(names[i], "spinlocks"))
            g_string_append_printf(s, ",hv-spinlocks=0x%x", (unsigned)domain_number(f, "@retries", 0x1fff));
        else if (g_str_equal(names[i], "vendor_id"))
            g_string_append_printf(s, ",hv-vendor-id=%s", el_get_or(f, "@value", ""));
        else
            g_string_append_printf(s, ",hv-%s=on", names[i]);
    }
}

static void add_timers(struct domain_build *b, GString *s)
{
    el_each(t, el_find(b->root, "clock"), "timer") {
        if (el_is(t, "@name", "kvmclock") && el_get(t, "@present"))
            g_string_append_printf(s, ",kvmclock=%s", el_is(t, "@present", "yes") ? "on" : "off");
        if (el_is(t, "@name", "hypervclock") && el_is(t, "@present", "yes"))
            g_string_append(s, ",hv-time=on");
        if (el_is(t, "@name", "tsc") && el_get(t, "@frequency"))
            g_string_append_printf(s, ",tsc-frequency=%s", el_get(t, "@frequency"));
    }
}

static bool add_features(struct domain_build *b, const struct el *cpu, GString *s)
{
    el_each(f, cpu, "feature") {
        const char *policy = el_get_or(f, "@policy", "require");
        g_autofree char *name = g_strdelimit(g_strdup(el_get_or(f, "@name", "")), "_", '-');
        if (g_str_equal(policy, "optional") && b->m.is_vireo)
            continue; /* what is not there would be an error */
        bool off = g_str_equal(policy, "disable") || g_str_equal(policy, "forbid");
        g_string_append_printf(s, ",%s=%s", name, off ? "off" : "on");
    }
    return true;
}

static const char *cpu_model(const struct domain_build *b, const struct el *cpu)
{
    const char *mode = el_get_or(cpu, "@mode", "custom");
    if (g_str_equal(mode, "custom"))
        return el_get_or(cpu, "model", "qemu64");
    return g_str_equal(mode, "maximum") || !domain_plan_kvm(b) ? "max" : "host";
}

static void add_cpu_details(struct domain_build *b, const struct el *cpu, GString *s)
{
    static const struct { const char *path, *value, *text; } rows[] = { { "cpu/cache/@mode", "passthrough", ",host-cache-info=on,l3-cache=off" }, { "cpu/cache/@mode", "emulate", ",l3-cache=on" },
        { "cpu/cache/@mode", "disable", ",l3-cache=off" }, { "cpu/maxphysaddr/@mode", "passthrough", ",host-phys-bits=on" }, { "features/kvm/hidden/@state", "on", ",kvm=off" },
        { "features/pmu/@state", "off", ",pmu=off" }, { "features/pmu/@state", "on", ",pmu=on" }, { "features/pvspinlock/@state", "off", ",kvm-pv-unhalt=off" },
        { "features/pvspinlock/@state", "on", ",kvm-pv-unhalt=on" }, { "features/kvm/hint-dedicated/@state", "on", ",kvm-hint-dedicated=on" }, { "features/kvm/poll-control/@state", "on", ",kvm-poll-control=on" },
        { "features/kvm/pv-ipi/@state", "off", ",kvm-pv-ipi=off" }, { "features/apic/@eoi", "on", ",kvm-pv-eoi=on" }, { "features/apic/@eoi", "off", ",kvm-pv-eoi=off" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (el_is(b->root, rows[i].path, rows[i].value) && !(b->m.is_vireo && (i < 3 || i == 5 || i == 6)))
            g_string_append(s, rows[i].text);
    if (el_is(b->root, "cpu/maxphysaddr/@mode", "emulate"))
        g_string_append_printf(s, ",phys-bits=%u", (unsigned)domain_number(b->root, "cpu/maxphysaddr/@bits", 40));
    if (el_is(cpu, "@migratable", "off") && !b->m.is_vireo)
        g_string_append(s, ",migratable=off");
}

static bool add_cpu(struct domain_build *b, GError **error)
{
    const struct el *cpu = el_find(b->root, "cpu");
    if (b->m.is_vireo && el_find(b->root, "features/hyperv"))
        return lacking(b, el_find(b->root, "features/hyperv"), "the Hyper-V interface", error);
    if (el_is(cpu, "@mode", "host-passthrough") && !el_is(b->root, "@type", "kvm") && !b->m.is_vireo)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<cpu mode='host-passthrough'>%s needs a domain of type 'kvm'; 'maximum' goes with 'qemu'", domain_line(cpu));
    g_autoptr(GString) s = g_string_new(cpu_model(b, cpu));
    if (!add_features(b, cpu, s))
        return false;
    add_timers(b, s);
    add_hyperv(b, s);
    add_cpu_details(b, cpu, s);
    domain_plan_option(b, "-cpu", "%s", s->str);
    return true;
}

static bool add_smp(struct domain_build *b, GError **error)
{
    unsigned max = domain_number(b->root, "vcpu", 1), now = domain_number(b->root, "vcpu/@current", max);
    if (el_find(b->root, "vcpus")) {
        if (!domain_vcpus_check(b->root, error))
            return false;
        now = domain_vcpus_cold(b->root); /* the others are plugged in before the guest runs */
    }
    const struct el *t = el_find(b->root, "cpu/topology");
    unsigned sockets = t ? domain_number(t, "@sockets", 1) : max, dies = domain_number(t, "@dies", 1), cores = domain_number(t, "@cores", 1), threads = domain_number(t, "@threads", 1);
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_append_printf(s, "%u", now);
    if (now != max)
        g_string_append_printf(s, ",maxcpus=%u", max);
    g_string_append_printf(s, ",sockets=%u", sockets);
    if (t && !b->m.is_vireo)
        g_string_append_printf(s, ",dies=%u", dies);
    g_string_append_printf(s, ",cores=%u,threads=%u", cores, threads);
    domain_plan_option(b, "-smp", "%s", s->str);
    return true;
}

/* ---- memory ---- */

static void add_nodeset(struct domain_build *b, struct json_object *o)
{
    static const char *const policies[][2] = { { "strict", "bind" }, { "preferred", "preferred" }, { "interleave", "interleave" } };
    const struct el *m = el_find(b->root, "numatune/memory");
    const char *set = m ? el_get(m, "@nodeset") : NULL;
    if (!set)
        return;
    struct json_object *nodes = json_object_new_array();
    g_auto(GStrv) parts = g_strsplit(set, ",", 64);
    for (char **p = parts; *p; p++) {
        char *dash = strchr(*p, '-');
        unsigned from = (unsigned)strtoul(*p, NULL, 10), to = dash ? (unsigned)strtoul(dash + 1, NULL, 10) : from;
        for (unsigned n = from; n <= to && n < 1024; n++)
            json_object_array_add(nodes, json_object_new_int((int)n));
    }
    json_object_object_add(o, "host-nodes", nodes);
    for (unsigned i = 0; i < G_N_ELEMENTS(policies); i++)
        if (el_is(m, "@mode", policies[i][0]))
            js_set(o, "policy", policies[i][1]);
    if (!el_get(m, "@mode"))
        js_set(o, "policy", "bind");
}

struct json_object *domain_plan_memory(struct domain_build *b, const char *id, uint64_t bytes, bool shared)
{
    const struct el *backing = el_find(b->root, "memoryBacking"), *huge = el_find(backing, "hugepages");
    shared |= el_is(backing, "access/@mode", "shared");
    bool file = el_is(backing, "source/@type", "file"), memfd = huge || shared || el_is(backing, "source/@type", "memfd");
    struct json_object *o = domain_plan_object(b, file ? "memory-backend-file" : memfd ? "memory-backend-memfd" : "memory-backend-ram", id);
    if (file)
        js_set(o, "mem-path", b->dr->lib_dir);
    uint64_t page;
    if (huge && !file) {
        js_bool(o, "hugetlb", true);
        if (el_get_u64(huge, "page/@size", &page))
            js_int(o, "hugetlbsize", (int64_t)(page * (el_is(huge, "page/@unit", "GiB") || el_is(huge, "page/@unit", "G") ? 1 << 20 : el_is(huge, "page/@unit", "MiB") ||
                                               el_is(huge, "page/@unit", "M") ? 1024 : 1) * 1024));
    }
    if (shared)
        js_bool(o, "share", true);
    if (el_is(backing, "allocation/@mode", "immediate") || huge)
        js_bool(o, "prealloc", true);
    js_int(o, "size", (int64_t)bytes);
    add_nodeset(b, o);
    return o;
}

/* What is there at the start: modules come by themselves. MiB, rounded up. */
static uint64_t start_mib(struct domain_build *b)
{
    uint64_t kib = domain_number(b->root, "memory", 0);
    el_each(m, b->devices, "memory") {
        uint64_t size = domain_number(m, "target/size", 0);
        kib -= MIN(kib, size);
    }
    return (kib + 1023) / 1024;
}

static bool add_memory(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    uint64_t mib = start_mib(b), max = domain_number(b->root, "maxMemory", 0);
    if (max)
        domain_plan_option(b, "-m", "size=%" G_GUINT64_FORMAT "k,slots=%s,maxmem=%" G_GUINT64_FORMAT "k", mib * 1024, el_get_or(b->root, "maxMemory/@slots", "16"), max);
    else
        domain_plan_option(b, "-m", "%" G_GUINT64_FORMAT, mib);
    if (!has_cells(b))
        domain_plan_memory(b, "pc.ram", mib << 20, false);
    domain_plan_option(b, "-overcommit", "mem-lock=%s", el_find(b->root, "memoryBacking/locked") ? "on" : "off");
    return true;
}

static bool add_numa(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    el_each(cell, el_find(b->root, "cpu/numa"), "cell") {
        unsigned id = domain_number(cell, "@id", 0);
        uint64_t kib = domain_number(cell, "@memory", 0);
        g_autofree char *name = g_strdup_printf("ram-node%u", id);
        g_autoptr(GString) s = g_string_new(NULL);
        g_string_append_printf(s, "node,nodeid=%u", id);
        g_auto(GStrv) cpus = g_strsplit(el_get_or(cell, "@cpus", ""), ",", 256);
        for (char **c = cpus; *c; c++)
            if (**c)
                g_string_append_printf(s, ",cpus=%s", *c);
        if (kib) {
            domain_plan_memory(b, name, (kib + 1023) / 1024 << 20, el_is(cell, "@memAccess", "shared"));
            g_string_append_printf(s, ",memdev=%s", name);
        }
        domain_plan_option(b, "-numa", "%s", s->str);
    }
    el_each(cell, el_find(b->root, "cpu/numa"), "cell")
        el_each(other, el_find(cell, "distances"), "sibling")
            domain_plan_option(b, "-numa", "dist,src=%s,dst=%s,val=%s", el_get_or(cell, "@id", "0"), el_get_or(other, "@id", "0"), el_get_or(other, "@value", "20"));
    return true;
}

static void add_thread_pool(struct json_object *o, const struct el *e)
{
    uint64_t n;
    if (el_get_u64(e, "@thread_pool_min", &n))
        js_int(o, "thread-pool-min", (int64_t)n);
    if (el_get_u64(e, "@thread_pool_max", &n))
        js_int(o, "thread-pool-max", (int64_t)n);
}

static bool add_iothreads(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    if (el_find(b->root, "defaultiothread")) /* of QEMU's main loop */
        add_thread_pool(domain_plan_object(b, "main-loop", "main-loop"), el_find(b->root, "defaultiothread"));
    const struct el *ids = el_find(b->root, "iothreadids");
    unsigned want = domain_number(b->root, "iothreads", 0), have = 0;
    el_each(t, ids, "iothread") {
        g_autofree char *name = g_strdup_printf("iothread%s", el_get_or(t, "@id", "1"));
        add_thread_pool(domain_plan_object(b, "iothread", name), t);
        have++;
    }
    for (unsigned id = 1; have < want && id < 1000; id++) {
        g_autofree char *text = g_strdup_printf("%u", id), *name = g_strdup_printf("iothread%u", id);
        bool taken = false;
        el_each(t, ids, "iothread")
            taken |= el_is(t, "@id", text);
        if (taken)
            continue;
        domain_plan_object(b, "iothread", name);
        have++;
    }
    return true;
}

/* ---- identity ---- */

static bool add_uuid(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    domain_plan_option(b, "-uuid", "%s", el_get_or(b->root, "uuid", ""));
    return true;
}

/* A generation ID is a device of QEMU's. */
static bool add_genid(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    const char *id = el_get(b->root, "genid");
    if (!id)
        return true;
    uint8_t bytes[16];
    char text[37];
    if (!*id || !manage_uuid_parse(id, bytes))
        manage_uuid_random(bytes);
    manage_uuid_format(bytes, text);
    struct json_object *o = domain_plan_device(b, "vmgenid", NULL);
    js_set(o, "guid", text);
    js_set(o, "id", "vmgenid0");
    return true;
}

/* Files that the guest's firmware can read. */
static bool add_fw_cfg(struct domain_build *b, GError **error)
{
    el_each(info, b->root, "sysinfo") {
        if (!el_is(info, "@type", "fwcfg"))
            continue;
        if (b->m.is_vireo)
            return lacking(b, info, "firmware configuration (type='fwcfg')", error);
        el_each(entry, info, "entry") {
            const char *file = el_get(entry, "@file");
            g_autofree char *name = domain_plan_escape(el_get_or(entry, "@name", "")), *value = domain_plan_escape(file ? file : el_get_or(entry, "", ""));
            domain_plan_option(b, "-fw_cfg", "name=%s,%s=%s", name, file ? "file" : "string", value);
        }
    }
    return true;
}

static bool add_vmcoreinfo(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    const struct el *e = el_find(b->root, "features/vmcoreinfo");
    if (e && !el_is(e, "@state", "off"))
        domain_plan_device(b, "vmcoreinfo", NULL);
    return true;
}

/* The part of <sysinfo type='smbios'> with this name. */
static const struct el *sysinfo_part(const struct domain_build *b, const char *element)
{
    el_each(info, b->root, "sysinfo")
        if (el_is(info, "@type", "smbios"))
            return el_find(info, element);
    return NULL;
}

/* One option with the entries of one part: <entry name='serial'> is serial=, and the nameless ones of oemStrings are value=. */
static void smbios_block(struct domain_build *b, const char *element, unsigned type)
{
    const struct el *e = sysinfo_part(b, element);
    if (!e)
        return;
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_append_printf(s, "type=%u", type);
    el_each(entry, e, "entry") {
        g_autofree char *v = domain_plan_escape(el_get_or(entry, "", ""));
        g_string_append_printf(s, ",%s=%s", el_get_or(entry, "@name", "value"), v);
    }
    domain_plan_option(b, "-smbios", "%s", s->str);
}

static bool add_smbios(struct domain_build *b, GError **error)
{
    static const struct { const char *element; unsigned type; } parts[] = { { "bios", 0 }, { "system", 1 }, { "baseBoard", 2 }, { "chassis", 3 }, { "oemStrings", 11 } };
    const struct el *mode = el_find(b->root, "os/smbios");
    if (!mode || el_is(mode, "@mode", "emulate"))
        return true;
    if (el_is(mode, "@mode", "host"))
        return lacking(b, mode, "the host's own SMBIOS table", error);
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++)
        smbios_block(b, parts[i].element, parts[i].type);
    return true;
}

static bool add_basics(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    if (!el_find(b->devices, "graphics") || b->m.is_vireo)
        domain_plan_option(b, "-display", "none");
    domain_plan_option(b, "-no-user-config", NULL);
    domain_plan_option(b, "-nodefaults", NULL);
    return true;
}

/* ---- clock and power ---- */

static const struct el *timer(const struct domain_build *b, const char *name)
{
    el_each(t, el_find(b->root, "clock"), "timer")
        if (el_is(t, "@name", name))
            return t;
    return NULL;
}

static char *utc_text(gint64 seconds)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(seconds);
    return t ? g_date_time_format(t, "%Y-%m-%dT%H:%M:%S") : g_strdup("utc");
}

/* Where the guest's clock begins. */
static char *rtc_base(struct domain_build *b)
{
    const struct el *clock = el_find(b->root, "clock");
    const char *offset = el_get_or(clock, "@offset", "utc");
    gint64 now = b->d ? g_get_real_time() / G_USEC_PER_SEC : 0;
    if (g_str_equal(offset, "localtime"))
        return g_strdup("localtime");
    if (g_str_equal(offset, "absolute"))
        return utc_text((gint64)domain_number(clock, "@start", 0));
    if (g_str_equal(offset, "timezone") && el_get(clock, "@timezone")) {
        g_autoptr(GTimeZone) zone = g_time_zone_new_identifier(el_get(clock, "@timezone"));
        int interval = zone ? g_time_zone_find_interval(zone, G_TIME_TYPE_UNIVERSAL, now) : -1;
        return utc_text(now + (interval >= 0 ? g_time_zone_get_offset(zone, interval) : 0));
    }
    if (g_str_equal(offset, "variable")) {
        gint64 shift = g_ascii_strtoll(el_get_or(clock, "@adjustment", "0"), NULL, 10);
        g_autoptr(GDateTime) local = g_date_time_new_now_local();
        if (el_is(clock, "@basis", "localtime") && local)
            shift += g_date_time_get_utc_offset(local) / G_USEC_PER_SEC;
        return shift ? utc_text(now + shift) : g_strdup("utc");
    }
    return g_strdup("utc");
}

static bool add_clock(struct domain_build *b, GError **error)
{
    g_autofree char *base = rtc_base(b);
    const struct el *rtc = timer(b, "rtc"), *pit = timer(b, "pit"), *hpet = timer(b, "hpet");
    g_autoptr(GString) s = g_string_new("base=");
    g_string_append(s, base);
    if (rtc && b->m.is_vireo && el_is(rtc, "@track", "guest"))
        return lacking(b, rtc, "a clock that stands while the guest does (track='guest')", error);
    if (rtc && el_is(rtc, "@track", "guest"))
        g_string_append(s, ",clock=vm");
    if (rtc && el_is(rtc, "@tickpolicy", "catchup")) {
        if (b->m.is_vireo)
            domain_plan_note(b, "<timer name='rtc' tickpolicy='catchup'>: ticks that were lost are not made up for");
        else
            g_string_append(s, ",driftfix=slew");
    }
    domain_plan_option(b, "-rtc", "%s", s->str);
    if (pit && el_get(pit, "@tickpolicy") && !el_is(pit, "@tickpolicy", "catchup"))
        domain_plan_option(b, "-global", "kvm-pit.lost_tick_policy=%s", el_get(pit, "@tickpolicy"));
    if (hpet && el_is(hpet, "@present", "no") && b->m.has_pci)
        domain_plan_option(b, "-no-hpet", NULL);
    const struct el *hyperv = timer(b, "hypervclock");
    if (b->m.is_vireo && hyperv && el_is(hyperv, "@present", "yes"))
        return lacking(b, hyperv, "the Hyper-V clock", error);
    return true;
}

static bool add_power(struct domain_build *b, GError **error)
{
    static const struct { const char *path, *q35, *pc; } rows[] = { { "pm/suspend-to-mem", "ICH9-LPC.disable_s3", "PIIX4_PM.disable_s3" },
                                                                    { "pm/suspend-to-disk", "ICH9-LPC.disable_s4", "PIIX4_PM.disable_s4" } };
    for (unsigned i = 0; b->m.has_pci && i < G_N_ELEMENTS(rows); i++) {
        const struct el *e = el_find(b->root, rows[i].path);
        const char *on = e ? el_get(e, "@enabled") : NULL;
        if (!on)
            continue;
        if (b->m.is_vireo && g_str_equal(on, "yes"))
            return lacking(b, e, "suspending by the guest", error);
        domain_plan_option(b, "-global", "%s=%d", b->m.pcie ? rows[i].q35 : rows[i].pc, g_str_equal(on, "no"));
    }
    if (!el_find(b->root, "features/acpi") && !b->m.is_vireo)
        domain_plan_option(b, "-no-acpi", NULL);
    else if (!el_find(b->root, "features/acpi"))
        domain_plan_note(b, "<features> has no <acpi/>: the machine has ACPI tables all the same");
    return true;
}

/* ---- what is started ---- */

static bool readable(const char *path, const char *what, GError **error)
{
    if (access(path, R_OK) == 0)
        return true;
    return manage_fail_errno(error, errno, "<%s> '%s' cannot be read", what, path);
}

static bool add_firmware(struct domain_build *b, GError **error)
{
    const struct el *loader = el_find(b->root, "os/loader");
    const char *path = loader ? el_get(loader, "") : NULL, *nvram = el_get(b->root, "os/nvram");
    bool efi = el_is(b->root, "os/@firmware", "efi");
    if (!efi && (!path || !*path))
        return true;
    if (!efi && !el_is(loader, "@type", "pflash")) {
        if (b->d && !readable(path, "loader", error))
            return false;
        domain_plan_option(b, "-bios", "%s", path);
        return true;
    }
    if (b->m.is_vireo)
        return lacking(b, loader ? loader : el_find(b->root, "os"), "UEFI (flash memory)", error);
    g_autofree char *code = domain_plan_escape(path && *path ? path : "/usr/share/OVMF/OVMF_CODE_4M.fd");
    if (b->d && !g_file_test(code, G_FILE_TEST_EXISTS))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the firmware '%s' is missing: install the package that has it (ovmf)", code);
    domain_plan_option(b, "-drive", "file=%s,if=pflash,format=raw,unit=0,readonly=on", code);
    if (!nvram || !*nvram) {
        g_autofree char *made = domain_nvram_path(b->dr, el_get(b->root, "name"));
        el_set(b->root, "os/nvram", made);
        nvram = el_get(b->root, "os/nvram");
    }
    if (b->d && !g_file_test(nvram, G_FILE_TEST_EXISTS)) {
        g_autofree char *text = NULL;
        gsize size = 0;
        const char *template = el_get_or(b->root, "os/nvram/@template", "/usr/share/OVMF/OVMF_VARS_4M.fd");
        if (!g_file_get_contents(template, &text, &size, NULL))
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the template '%s' of the firmware's variables is missing", template);
        if (!manage_write_file(nvram, text, (gssize)size, 0600, error))
            return false;
    }
    g_autofree char *vars = domain_plan_escape(nvram);
    domain_plan_option(b, "-drive", "file=%s,if=pflash,format=raw,unit=1", vars);
    return true;
}

static bool add_boot(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    g_autoptr(GString) s = g_string_new(NULL);
    const struct el *menu = el_find(b->root, "os/bootmenu"), *bios = el_find(b->root, "os/bios");
    if (menu && el_is(menu, "@enable", "yes")) {
        if (b->m.is_vireo)
            domain_plan_note(b, "<bootmenu>: the firmware shows no menu");
        else
            g_string_append(s, "menu=on,");
        if (!b->m.is_vireo && el_get(menu, "@timeout"))
            g_string_append_printf(s, "splash-time=%s,", el_get(menu, "@timeout"));
    }
    if (bios && el_get(bios, "@rebootTimeout") && !b->m.is_vireo)
        g_string_append_printf(s, "reboot-timeout=%s,", el_get(bios, "@rebootTimeout"));
    domain_plan_option(b, "-boot", "%sstrict=on", s->str);
    return true;
}

static bool add_acpi_tables(struct domain_build *b, G_GNUC_UNUSED GError **error)
{
    el_each(t, el_find(b->root, "os/acpi"), "table") {
        g_autofree char *path = domain_plan_escape(el_get_or(t, "", "")), *signature = g_ascii_strup(el_get_or(t, "@type", "slic"), -1);
        domain_plan_option(b, "-acpitable", "sig=%s,file=%s", signature, path);
    }
    return true;
}

static bool add_kernel(struct domain_build *b, GError **error)
{
    static const struct { const char *path, *option; bool file; } rows[] = { { "os/kernel", "-kernel", true }, { "os/initrd", "-initrd", true }, { "os/cmdline", "-append", false },
                                                                             { "os/dtb", "-dtb", true } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *v = el_get(b->root, rows[i].path);
        if (!v || !*v)
            continue;
        if (i == 3)
            return lacking(b, el_find(b->root, rows[i].path), "a device tree", error);
        if (rows[i].file && b->d && !readable(v, rows[i].path + 3, error))
            return false;
        domain_plan_option(b, rows[i].option, "%s", v);
    }
    return true;
}

static bool counts(const struct el *perf)
{
    el_each(e, perf, "event")
        if (el_is(e, "@enabled", "yes"))
            return true;
    return false;
}

/* Elements of the document that would change the machine and that nothing here makes. */
static bool refuse_unknown(struct domain_build *b, GError **error)
{
    static const struct { const char *path, *what; bool vireo_only; } rows[] = {
        { "launchSecurity", "memory encryption", false },       { "features/tseg", "a size of TSEG", true },      { "features/vmcoreinfo", "vmcoreinfo", true },
        { "features/nvdimm", "nvdimm", false },                 { "perf", "performance counting", false },        { "os/acpi", "ACPI tables of the document", true },
        { "idmap", "user mapping", false },                  { "bootloader", "a boot loader of the host", false }, { "keywrap", "keywrap", false },
        { "memoryBacking/discard", "discarding of memory", true }, { "cpu/numa/interconnects", "memory latencies", true }, { "features/xen", "Xen", false },
        { "genid", "a generation ID", true }, { "features/ps2", "a board without PS/2", false }, { "features/pmu", "counting of events in the CPU", true },
        { "defaultiothread", "a choice of the main thread's helpers", true } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        const struct el *e = el_find(b->root, rows[i].path);
        if (g_str_equal(rows[i].path, "perf") && !counts(e))
            continue;
        if (e && (b->m.is_vireo || !rows[i].vireo_only) && !el_is(e, "@state", "off"))
            return lacking(b, e, rows[i].what, error);
    }
    const struct el *bios = el_find(b->root, "os/bios");
    if (b->m.is_vireo && el_is(bios, "@useserial", "yes"))
        return lacking(b, bios, "firmware on the serial port (useserial)", error);
    if (b->m.is_vireo && el_get(bios, "@rebootTimeout") && !el_is(bios, "@rebootTimeout", "-1"))
        return lacking(b, bios, "a new start when nothing boots (rebootTimeout)", error);
    return true;
}

bool domain_plan_machine(struct domain_build *b, GError **error)
{
    static bool (*const rows[])(struct domain_build *, GError **) = { refuse_unknown, add_name, add_machine, add_cpu, add_firmware, add_memory, add_smp, add_iothreads, add_numa, add_uuid, add_genid, add_vmcoreinfo,
                                                                      add_smbios, add_fw_cfg, add_acpi_tables, add_basics, add_clock, add_power, add_boot, add_kernel };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (!rows[i](b, error))
            return false;
    return true;
}
