/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options that describe the machine itself. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "accel/accel.h"
#include "base/error.h"
#include "base/log.h"
#include "cpu/x86/x86_model.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/options.h"

static const char *const only_off[] = { "off", NULL };
static const char *const only_on[] = { "on", NULL };
static const char *const off_auto[] = { "off", "auto", NULL };
static const char *const off_on_names[] = { "off", "on", "auto", NULL };

/* ---- -machine, -accel ---- */

static const struct { const char *name, *board, *help; } machines[] = {
    { "q35", "q35", "PC with PCI Express (default)" },
    { "microvm", "microvm", "minimal PC without PCI, virtio over MMIO" },
    { "none", "none", "empty: only for asking the program over QMP what it has" },
};

static char *machine_help(void)
{
    GString *s = g_string_new("Supported machines are:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(machines); i++)
        g_string_append_printf(s, "%-20s %s\n", machines[i].name, machines[i].help);
    g_string_append_printf(s, "%-20s alias of q35, whatever the version\n", "pc-q35-VERSION");
    return g_string_free(s, FALSE);
}

static bool set_board(struct options *o, const char *type, GError **error)
{
    if (!strcmp(type, "help"))
        return options_print(error, machine_help());
    if (g_str_has_prefix(type, "pc-q35-"))
        type = "q35";
    for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
        if (!strcmp(type, machines[i].name)) {
            o->config->board = machines[i].board;
            return true;
        }
    }
    if (!strcmp(type, "pc") || g_str_has_prefix(type, "pc-"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the i440FX machine '%s' is not there; use q35, which runs the same guests", type);
    return vireo_fail(error, VIREO_ERROR_INVALID, "unsupported machine type '%s'; there are: q35, microvm", type);
}

static char *accel_help(void)
{
    GString *s = g_string_new("Accelerators supported:\n");
    const struct accel_ops *const *list = accel_list();
    for (size_t i = 0; list[i]; i++)
        g_string_append_printf(s, "%-6s %s\n", list[i]->name, list[i]->help);
    g_string_append(s, "auto   the best one of these on this host (default)\n");
    return g_string_free(s, FALSE);
}

static bool accel_known(const char *name)
{
    const struct accel_ops *const *list = accel_list();
    bool known = !strcmp(name, "auto");
    for (size_t i = 0; list[i]; i++)
        known |= !strcmp(list[i]->name, name);
    return known;
}

static char *accel_names(void)
{
    GString *s = g_string_new(NULL);
    const struct accel_ops *const *list = accel_list();
    for (size_t i = 0; list[i]; i++)
        g_string_append_printf(s, "%s, ", list[i]->name);
    g_string_append(s, "auto");
    return g_string_free(s, FALSE);
}

/* One or several with colons between, the best first; added after those that were given before. */
static bool set_accel(struct options *o, const char *names, GError **error)
{
    if (!strcmp(names, "help"))
        return options_print(error, accel_help());
    g_auto(GStrv) list = g_strsplit(names, ":", 0);
    for (size_t i = 0; list[i]; i++) {
        const char *name = !strcmp(list[i], "tcg") ? "jit" : list[i]; /* QEMU's name of a translator */
        if (!accel_known(name)) {
            g_autofree char *all = accel_names();
            return vireo_fail(error, VIREO_ERROR_INVALID, "invalid accelerator %s; there are: %s", name, all);
        }
        char *before = o->config->accel_name;
        o->config->accel_name = before ? g_strconcat(before, ":", name, NULL) : g_strdup(name);
        g_free(before);
    }
    return true;
}

static const char *const irqchip_values[] = { "off", "split", "on", NULL }; /* enum accel_irqchip */

struct machine_opts { char *type, *accel, *kernel, *initrd, *append, *memory_backend; int pit, pic, rtc, linux_entry, irqchip; bool mem_merge, dump_guest_core, hpet, usb; };
#define M(member) offsetof(struct machine_opts, member)
static const char *const values_isa_serial[] = { "on", NULL };
static const char *const linux_entries[] = { "auto", "16", "32", "64", NULL };
static const struct keyval_key machine_keys[] = {
    { "type", KV_STRING, M(type), "board" },
    { "accel", KV_STRING, M(accel), "accelerator" },
    { "kernel", KV_STRING, M(kernel), "as -kernel" },
    { "initrd", KV_STRING, M(initrd), "as -initrd" },
    { "append", KV_STRING, M(append), "as -append" },
    { "linux-entry", KV_ENUM, M(linux_entry), "where Linux is entered: its 16-, 32- or 64-bit entry", linux_entries },
    { "pit", KV_ENUM, M(pit), "", off_on_names }, { "pic", KV_ENUM, M(pic), "", off_on_names }, { "rtc", KV_ENUM, M(rtc), "", off_on_names },
    { "isa-serial", KV_ONLY, 0, "use -serial none for no serial port", values_isa_serial },
    { "usb", KV_BOOL, M(usb), "as -usb" },
    { "smm", KV_ONLY, 0, "there is no system management mode", off_auto },
    { "vmport", KV_ONLY, 0, "there is no VMware port", off_auto },
    { "acpi", KV_ONLY, 0, "the machine always has ACPI tables", only_on },
    { "hpet", KV_BOOL, M(hpet), "the machine has an HPET" },
    { "graphics", KV_IGNORED },
    { "hmat", KV_ONLY, 0, "heterogeneous memory tables are not there", only_off },
    { "x-option-roms", KV_IGNORED }, { "auto-kernel-cmdline", KV_IGNORED },
    { "kernel-irqchip", KV_ENUM, M(irqchip), "interrupt controllers inside the accelerator: all, only the local APICs, none", irqchip_values },
    { "suppress-vmdesc", KV_IGNORED },
    { "memory-backend", KV_STRING, M(memory_backend), "id of the object that is the memory" },
    { "mem-merge", KV_BOOL, M(mem_merge), "the host may merge equal pages of memory (KSM)" },
    { "dump-guest-core", KV_BOOL, M(dump_guest_core), "a core dump of the process has the guest's memory in it" },
    { "pflash0", KV_REFUSED, 0, "there is no flash memory; firmware is -bios FILE" }, { "pflash1", KV_REFUSED, 0, "there is no flash memory; firmware is -bios FILE" },
    { NULL }
};

const struct keyval_key *options_machine_keys(void)
{
    return machine_keys;
}

static void take_text(char **field, char **from)
{
    if (*from) {
        g_free(*field);
        *field = g_steal_pointer(from);
    }
}

static bool apply_machine(struct options *o, struct machine_opts *v, GError **error)
{
    static const char *const chips[] = { "pit", "pic", "rtc" };
    int states[] = { v->pit, v->pic, v->rtc };
    for (size_t i = 0; i < G_N_ELEMENTS(chips); i++) {
        if (states[i] == 0)
            log_warn("-machine %s=off: it stays; guests that do not use it are not disturbed", chips[i]);
    }
    if (v->type && !set_board(o, v->type, error))
        return false;
    if (v->accel && !set_accel(o, v->accel, error))
        return false;
    if (v->linux_entry >= 0)
        o->config->linux_entry = (unsigned[]){ 0, 16, 32, 64 }[v->linux_entry];
    o->config->no_mem_merge = !v->mem_merge;
    o->config->dump_guest_core = v->dump_guest_core;
    o->config->no_hpet = !v->hpet;
    o->usb = v->usb;
    take_text(&o->config->memory_backend, &v->memory_backend);
    if (v->irqchip >= 0)
        o->config->irqchip = v->irqchip;
    o->machine_accel_given |= v->accel != NULL;
    take_text(&o->config->kernel, &v->kernel);
    take_text(&o->config->initrd, &v->initrd);
    take_text(&o->config->append, &v->append);
    return true;
}

/* mem_merge= is mem-merge=: QEMU's users write both. */
static void fold_keys(struct keyval *kv)
{
    for (guint i = 0; i < kv->pairs->len; i++)
        g_strdelimit(((struct keyval_pair *)kv->pairs->pdata[i])->key, "_", '-');
}

bool opt_machine(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct machine_opts v = { .pit = 1, .pic = 1, .rtc = 1, .linux_entry = -1, .irqchip = -1, .mem_merge = !o->config->no_mem_merge, .hpet = !o->config->no_hpet, .usb = o->usb,
                              .dump_guest_core = o->config->dump_guest_core };
    keyval_auto *kv = keyval_parse(arg, "type", error);
    if (kv)
        fold_keys(kv);
    bool ok = kv && keyval_load(kv, machine_keys, &v, error) && apply_machine(o, &v, error);
    g_free(v.type);
    g_free(v.accel);
    g_free(v.kernel);
    g_free(v.initrd);
    g_free(v.append);
    g_free(v.memory_backend);
    return ok;
}

struct accel_opts { char *name, *device; int irqchip; uint64_t dirty_ring; };
static const char *const thread_values[] = { "multi", NULL };
#define A(member) offsetof(struct accel_opts, member)
static const struct keyval_key accel_keys[] = {
    { "accel", KV_STRING, A(name), "accelerator" },
    { "kernel-irqchip", KV_ENUM, A(irqchip), "interrupt controllers inside the accelerator: all, only the local APICs, none", irqchip_values },
    { "dirty-ring-size", KV_UINT, A(dirty_ring), "written pages in a ring of so many entries per vCPU; 0: in a bitmap", NULL, 0, 65536 },
    { "device", KV_STRING, A(device), "the accelerator's device file, or /dev/fdset/N" },
    { "thread", KV_ONLY, 0, "each vCPU has its own thread", thread_values },
    { "split-wx", KV_ONLY, 0, "translated code is in one mapping", only_off },
    { "tb-size", KV_IGNORED }, { "notify-vmexit", KV_IGNORED },
    { "kvm-shadow-mem", KV_REFUSED, 0, "the kernel sizes its own page tables; leave it out" },
    { "igd-passthru", KV_REFUSED, 0, "there is no Xen" },
    { NULL }
};

static bool apply_accel(struct options *o, struct accel_opts *v, GError **error)
{
    if (v->dirty_ring & (v->dirty_ring - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "dirty-ring-size must be a power of two, not %u", (unsigned)v->dirty_ring);
    if (v->name && !set_accel(o, v->name, error))
        return false;
    if (v->irqchip >= 0)
        o->config->irqchip = v->irqchip;
    if (v->dirty_ring)
        o->config->dirty_ring = (unsigned)v->dirty_ring;
    take_text(&o->config->accel_device, &v->device);
    return true;
}

bool opt_accel(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct accel_opts v = { .irqchip = -1 };
    keyval_auto *kv = keyval_parse(arg, "accel", error);
    bool ok = kv && keyval_load(kv, accel_keys, &v, error) && apply_accel(o, &v, error);
    g_free(v.name);
    g_free(v.device);
    o->accel_given = true;
    return ok;
}

bool opt_enable_kvm(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    o->accel_given = true;
    return set_accel(o, "kvm", error);
}

/* ---- -cpu, -smp, -m ---- */

bool opt_cpu(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?"))
        return options_print(error, x86_cpu_help());
    g_free(o->config->cpu_spec);
    o->config->cpu_spec = g_strdup(arg);
    return true;
}

struct smp_opts { uint64_t cpus, maxcpus, sockets, dies, clusters, cores, threads; };
#define SMP_MAX 255 /* APIC ids of 8 bits, 255 is the broadcast */
#define SMP_KEY(name, help) { #name, KV_UINT, offsetof(struct smp_opts, name), help, NULL, 1, SMP_MAX }
static const struct keyval_key smp_keys[] = {
    SMP_KEY(cpus, "vCPUs"), SMP_KEY(maxcpus, "vCPUs that there is room for"), SMP_KEY(sockets, "packages"), SMP_KEY(cores, "cores in a package"),
    SMP_KEY(threads, "threads in a core"), { "dies", KV_UINT, offsetof(struct smp_opts, dies), "", NULL, 1, 1 },
    { "clusters", KV_UINT, offsetof(struct smp_opts, clusters), "", NULL, 1, 1 },
    { NULL }
};

/* What is not given follows from the rest; cores are preferred over sockets, those over threads. */
static void smp_defaults(struct smp_opts *v)
{
    uint64_t total = v->maxcpus ? v->maxcpus : v->cpus;
    if (!total) {
        v->sockets = v->sockets ? v->sockets : 1;
        v->cores = v->cores ? v->cores : 1;
        v->threads = v->threads ? v->threads : 1;
        total = v->sockets * v->cores * v->threads;
    } else if (!v->cores) {
        v->sockets = v->sockets ? v->sockets : 1;
        v->threads = v->threads ? v->threads : 1;
        v->cores = total / (v->sockets * v->threads);
    } else if (!v->sockets) {
        v->threads = v->threads ? v->threads : 1;
        v->sockets = total / (v->cores * v->threads);
    } else if (!v->threads) {
        v->threads = total / (v->cores * v->sockets);
    }
    v->maxcpus = v->maxcpus ? v->maxcpus : total;
    v->cpus = v->cpus ? v->cpus : v->maxcpus;
}

bool opt_smp(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct smp_opts v = { 0 };
    struct machine_config *c = o->config;
    keyval_auto *kv = keyval_parse(arg, "cpus", error);
    if (!kv || !keyval_load(kv, smp_keys, &v, error))
        return false;
    smp_defaults(&v);
    if (v.sockets * v.cores * v.threads != v.maxcpus)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (%u) * cores (%u) "
                          "* threads (%u) != maxcpus (%u)", (unsigned)v.sockets, (unsigned)v.cores, (unsigned)v.threads, (unsigned)v.maxcpus);
    if (v.maxcpus > SMP_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid SMP CPUs %u. The max CPUs supported is %u", (unsigned)v.maxcpus, SMP_MAX);
    if (v.maxcpus < v.cpus)
        return vireo_fail(error, VIREO_ERROR_INVALID, "maxcpus must be equal to or greater than smp: maxcpus (%u), cpus (%u)", (unsigned)v.maxcpus,
                          (unsigned)v.cpus);
    c->cpus = (unsigned)v.cpus;
    c->max_cpus = (unsigned)v.maxcpus;
    c->sockets = (unsigned)v.sockets;
    c->cores = (unsigned)v.cores;
    c->threads = (unsigned)v.threads;
    return true;
}

struct memory_opts { char *size, *maxmem; uint64_t slots; };
static const struct keyval_key memory_keys[] = {
    { "size", KV_STRING, offsetof(struct memory_opts, size), "bytes" },
    { "slots", KV_UINT, offsetof(struct memory_opts, slots), "memory modules (pc-dimm) that there is room for", NULL, 0, 256 },
    { "maxmem", KV_STRING, offsetof(struct memory_opts, maxmem), "with what may be plugged later" },
    { NULL }
};
#define MEMORY_MAX (UINT64_C(1) << 40)

static bool set_memory(struct options *o, const char *text, GError **error)
{
    uint64_t size;
    if (!keyval_size("size", text, 1 << 20, &size, error))
        return false;
    if (size < (1 << 20) || size > MEMORY_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the memory must have between 1M and 1T, not %s", text);
    o->config->ram_size_given = true;
    o->config->ram_size = (size + 8191) & ~UINT64_C(8191); /* whole pages, as QEMU rounds */
    return true;
}

static bool set_maxmem(struct options *o, const struct memory_opts *v, GError **error)
{
    struct machine_config *c = o->config;
    uint64_t max = 0;
    if (v->slots && !v->maxmem)
        return vireo_fail(error, VIREO_ERROR_INVALID, "invalid -m option value: 'slots' given without 'maxmem', the memory that there is room for");
    if (v->maxmem && !keyval_size("maxmem", v->maxmem, 1 << 20, &max, error))
        return false;
    if (v->maxmem && max < c->ram_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "invalid value of maxmem: maximum memory size (0x%" G_GINT64_MODIFIER "x) must be at least the "
                          "initial memory size (0x%" G_GINT64_MODIFIER "x)", max, c->ram_size);
    if (max > MEMORY_MAX || max % 8192)
        return vireo_fail(error, VIREO_ERROR_INVALID, "maxmem must be a multiple of 8K up to 1T, not %s", v->maxmem);
    c->max_ram_size = max > c->ram_size ? max : 0;
    c->mem_slots = (unsigned)v->slots;
    return true;
}

bool opt_memory(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct memory_opts v = { 0 };
    if (!*arg)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the memory must have between 1M and 1T; no size is given");
    keyval_auto *kv = keyval_parse(arg, "size", error);
    bool ok = kv && keyval_load(kv, memory_keys, &v, error) && (!v.size || set_memory(o, v.size, error)) && set_maxmem(o, &v, error);
    g_free(v.size);
    g_free(v.maxmem);
    return ok;
}

/* ---- -name, -uuid, -rtc, -boot ---- */

struct name_opts { char *guest, *process; };
static const struct keyval_key name_keys[] = {
    { "guest", KV_STRING, offsetof(struct name_opts, guest), "name of the machine" },
    { "process", KV_STRING, offsetof(struct name_opts, process), "name of the process" },
    { "debug-threads", KV_IGNORED, 0, "threads always have names" },
    { NULL }
};

bool opt_name(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct name_opts v = { 0 };
    keyval_auto *kv = keyval_parse(arg, "guest", error);
    bool ok = kv && keyval_load(kv, name_keys, &v, error);
    if (ok && v.process)
        prctl(PR_SET_NAME, v.process);
    if (ok)
        take_text(&o->config->name, &v.guest);
    g_free(v.guest);
    g_free(v.process);
    return ok;
}

bool opt_no_hpet(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    o->config->no_hpet = true;
    return true;
}

/* DRIVER.PROPERTY=VALUE, or driver=, property=, value=. What asks a part of the board for what it does anyway, or would have no effect,
 * is accepted: ticks that the 8254 lost are never sent later; there is no S3 or S4. */
bool opt_global(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    static const char *const accepted[] = { "kvm-pit.lost_tick_policy=delay", "kvm-pit.lost_tick_policy=discard", "ICH9-LPC.disable_s3=1", "ICH9-LPC.disable_s4=1",
                                            "ICH9-LPC.disable_s3=on", "ICH9-LPC.disable_s4=on", NULL };
    const char *dot = strchr(arg, '.'), *is = strchr(arg, '=');
    g_autofree char *text = g_strdup(arg);
    if (!dot || !is || dot > is) {
        keyval_auto *kv = keyval_parse(arg, NULL, error);
        if (!kv)
            return false;
        const char *driver = keyval_get(kv, "driver"), *property = keyval_get(kv, "property"), *value = keyval_get(kv, "value");
        if (!driver || !property || !value)
            return vireo_fail(error, VIREO_ERROR_INVALID, "it takes DRIVER.PROPERTY=VALUE, or driver=, property= and value=");
        g_free(text);
        text = g_strdup_printf("%s.%s=%s", driver, property, value);
    }
    if (g_strv_contains(accepted, text))
        return true;
    g_autofree char *name = g_strndup(text, strchr(text, '.') - text);
    if (!device_class_find(name))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is no device '%s' whose properties can be set; -device help lists those that can", name);
    if (!o->config->globals)
        o->config->globals = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(o->config->globals, g_steal_pointer(&text));
    return true;
}

struct msg_opts { bool timestamp; };
static const struct keyval_key msg_keys[] = {
    { "timestamp", KV_BOOL, offsetof(struct msg_opts, timestamp), "messages begin with the time" }, { "guest-name", KV_ONLY, 0, "messages do not name the guest", only_off }, { NULL }
};

bool opt_msg(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct msg_opts v = { 0 };
    keyval_auto *kv = keyval_parse(arg, NULL, error);
    if (!kv || !keyval_load(kv, msg_keys, &v, error))
        return false;
    log_set_timestamps(v.timestamp);
    return true;
}

bool opt_uuid(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!g_uuid_string_is_valid(arg))
        return vireo_fail(error, VIREO_ERROR_INVALID, "failed to parse UUID string: wrong format; expected xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    g_free(o->config->uuid);
    o->config->uuid = g_ascii_strdown(arg, -1);
    return true;
}

struct rtc_opts { char *base; };
static const char *const host_clock[] = { "host", NULL };
static const char *const drift_values[] = { "none", "slew", NULL };
static const struct keyval_key rtc_keys[] = {
    { "base", KV_STRING, offsetof(struct rtc_opts, base), "utc, localtime or a date" },
    { "clock", KV_ONLY, 0, "the clock follows the host", host_clock },
    { "driftfix", KV_ONLY, 0, "", drift_values },
    { NULL }
};

static bool rtc_base(struct options *o, const char *base, GError **error)
{
    struct machine_config *c = o->config;
    c->rtc_localtime = !strcmp(base, "localtime");
    c->rtc_base = -1;
    if (c->rtc_localtime || !strcmp(base, "utc"))
        return true;
    int y, mo, d, h = 0, mi = 0, s = 0, n = 0;
    bool date = sscanf(base, "%d-%d-%d%n", &y, &mo, &d, &n) == 3 && !base[n];
    date = date || (sscanf(base, "%d-%d-%dT%d:%d:%d%n", &y, &mo, &d, &h, &mi, &s, &n) == 6 && !base[n]);
    g_autoptr(GDateTime) t = date ? g_date_time_new_utc(y, mo, d, h, mi, s) : NULL;
    if (!t)
        return vireo_fail(error, VIREO_ERROR_INVALID, "invalid datetime format '%s'; valid: utc, localtime, 2006-06-17T16:01:21, 2006-06-17", base);
    c->rtc_base = g_date_time_to_unix(t);
    return true;
}

bool opt_rtc(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct rtc_opts v = { 0 };
    keyval_auto *kv = keyval_parse(arg, NULL, error);
    bool ok = kv && keyval_load(kv, rtc_keys, &v, error) && (!v.base || rtc_base(o, v.base, error));
    g_free(v.base);
    return ok;
}

static const char *const boot_orders[] = { "c", NULL };
struct boot_opts { char *order; };
static const struct keyval_key boot_keys[] = {
    { "order", KV_STRING, offsetof(struct boot_opts, order), "kinds of disks that firmware tries: c disk, d CD-ROM, n network" },
    { "once", KV_ONLY, 0, "another order for the first start is not there", boot_orders },
    { "menu", KV_ONLY, 0, "there is no boot menu", only_off },
    { "strict", KV_IGNORED },
    { NULL }
};

bool opt_boot(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    keyval_auto *kv = keyval_parse(arg, "order", error);
    struct boot_opts v = { NULL };
    if (!kv || !keyval_load(kv, boot_keys, &v, error)) {
        g_free(v.order); /* loaded before the key that was refused */
        return false;
    }
    if (!v.order)
        return true;
    if (!*v.order || v.order[strspn(v.order, "acdn")]) {
        vireo_fail(error, VIREO_ERROR_INVALID, "order=%s: an order is made of the letters a, c, d and n", v.order);
        g_free(v.order);
        return false;
    }
    g_free(o->config->boot_order);
    o->config->boot_order = v.order;
    return true;
}

/* ---- -action, -overcommit ---- */

struct action_opts { int reboot, shutdown; };
static const char *const reboot_values[] = { "reset", "shutdown", NULL };
static const char *const shutdown_values[] = { "poweroff", "pause", NULL };
static const char *const panic_values[] = { "shutdown", NULL };
static const struct keyval_key action_keys[] = {
    { "reboot", KV_ENUM, offsetof(struct action_opts, reboot), "reset or shutdown", reboot_values },
    { "shutdown", KV_ENUM, offsetof(struct action_opts, shutdown), "poweroff or pause", shutdown_values },
    { "panic", KV_ONLY, 0, "with shutdown=pause a panic stops the machine", panic_values },
    { "watchdog", KV_IGNORED, 0, "there is no watchdog" },
    { NULL }
};

bool opt_action(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct action_opts v = { -1, -1 };
    keyval_auto *kv = keyval_parse(arg, NULL, error);
    if (!kv || !keyval_load(kv, action_keys, &v, error))
        return false;
    if (v.reboot >= 0)
        o->config->no_reboot = v.reboot == 1;
    if (v.shutdown >= 0)
        o->config->no_shutdown = v.shutdown == 1;
    return true;
}

static const struct keyval_key overcommit_keys[] = {
    { "mem-lock", KV_BOOL, offsetof(struct machine_config, mem_lock), "memory of the process stays in RAM" },
    { "cpu-pm", KV_ONLY, 0, "the guest cannot manage the host's power states", only_off },
    { NULL }
};

bool opt_overcommit(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    keyval_auto *kv = keyval_parse(arg, NULL, error);
    return kv && keyval_load(kv, overcommit_keys, o->config, error);
}

/* ---- -numa: taken apart once the machine and its memory objects are there (vmm/core/numa.c) ---- */

bool opt_numa(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    return options_add_item(o, o->numas, "-numa", arg, true, "type", error) != NULL;
}
