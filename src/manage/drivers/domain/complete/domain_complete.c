/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A definition becomes whole, as libvirt's clients expect to read it back: what was left out gets the values that the machine would have
 * anyway, sizes get one unit, devices get controllers and addresses. The same document always becomes the same.
 */
#include "manage/drivers/domain/block/domain_chain.h"

#include <string.h>

void domain_default(struct el *e, const char *path, const char *value)
{
    if (!el_get(e, path))
        el_set(e, path, value);
}

const char *domain_line(const struct el *e)
{
    static _Thread_local char text[16][24];
    static _Thread_local unsigned turn;
    char *t = text[turn++ % 16];
    unsigned line = e ? el_line(e) : 0;
    if (line)
        g_snprintf(t, sizeof(text[0]), " (line %u)", line);
    else
        *t = 0;
    return t;
}

uint64_t domain_number(const struct el *e, const char *path, uint64_t otherwise)
{
    uint64_t v;
    return e && el_get_u64(e, path, &v) ? v : otherwise;
}

int domain_disk_index(const char *target)
{
    static const char *const prefixes[] = { "fd", "hd", "vd", "sd", "xvd", "ubd" };
    for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (!g_str_has_prefix(target, prefixes[i]))
            continue;
        const char *p = target + strlen(prefixes[i]);
        int n = 0;
        for (unsigned len = 0; *p >= 'a' && *p <= 'z' && len < 4; p++, len++)
            n = n * 26 + (*p - 'a' + 1);
        return n && !*p ? n - 1 : -1;
    }
    return -1;
}

struct el *domain_controller(struct el *devices, const char *type, unsigned index)
{
    el_each(c, devices, "controller")
        if (el_is(c, "@type", type) && domain_number(c, "@index", 0) == index)
            return c;
    return NULL;
}

struct el *domain_add_controller(struct el *devices, const char *type, unsigned index, const char *model)
{
    struct el *c = el_add(devices, "controller");
    el_set(c, "@type", type);
    el_setf(c, "@index", "%u", index);
    if (model)
        el_set(c, "@model", model);
    return c;
}

char *domain_device_label(const struct el *e)
{
    static const char *const paths[] = { "target/@dev", "mac/@address", "target/@name", "alias/@name", "@model", "model/@type", "model/@name", "@type" };
    for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++) {
        const char *v = el_get(e, paths[i]);
        if (v && *v)
            return g_strdup_printf("<%s> '%s'%s", el_name(e), v, domain_line(e));
    }
    return g_strdup_printf("<%s>%s", el_name(e), domain_line(e));
}

char *domain_nvram_path(const struct domain_driver *dr, const char *name) { return g_strdup_printf("%s/nvram/%s_VARS.fd", dr->lib_dir, name ? name : ""); }

/* ---- steps ---- */

static void drop(struct el *e, const char *path)
{
    if (el_get(e, path))
        el_set(e, path, NULL);
}

static void drop_element(struct el *e, const char *path)
{
    struct el *child = el_find(e, path);
    if (child)
        el_remove(child);
}

void domain_forget_live(struct el *e)
{
    const char *alias = el_get(e, "alias/@name"), *dev = el_get(e, "target/@dev"), *name = el_name(e);
    if (alias && !g_str_has_prefix(alias, "ua-"))
        drop_element(e, "alias");
    if (g_str_equal(name, "disk")) {
        domain_chain_forget(e);
        drop_element(e, "mirror");
    } else if (g_str_equal(name, "interface")) {
        if (dev && (g_str_has_prefix(dev, "vnet") || g_str_has_prefix(dev, "macvtap") || g_str_has_prefix(dev, "macvlan")))
            drop_element(e, "target");
        domain_interface_place(e, NULL, NULL, NULL, NULL);
    } else if (g_str_equal(name, "graphics")) {
        if (el_is(e, "@autoport", "yes") && el_get(e, "@port"))
            el_set(e, "@port", el_is(e, "@type", "spice") ? NULL : "-1");
    } else if (g_str_equal(name, "serial") || g_str_equal(name, "console") || g_str_equal(name, "parallel") || g_str_equal(name, "channel")) {
        if (g_str_equal(name, "console"))
            drop(e, "@tty");
        if (g_str_equal(name, "channel"))
            drop(e, "target/@state");
        if (el_is(e, "@type", "pty"))
            drop_element(e, "source");
    }
}

/* What a running machine's document has more: it may be the one that is defined. */
static bool forget_live(struct domain_complete *c, G_GNUC_UNUSED GError **error)
{
    drop(c->root, "@id");
    el_each(e, c->devices, NULL)
        domain_forget_live(e);
    return true;
}

static bool complete_identity(struct domain_complete *c, GError **error)
{
    const char *name = el_get(c->root, "name");
    if (!name || !*name)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the domain has no name: <name> is missing or empty");
    if (strpbrk(name, "/\n") || g_str_equal(name, ".") || g_str_equal(name, "..") || strlen(name) > 200)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the name '%s'%s cannot be used: no '/', no line break, not '.' or '..', at most 200 bytes", name,
                           domain_line(el_find(c->root, "name")));
    const char *uuid = el_get(c->root, "uuid");
    uint8_t bytes[16];
    char text[37];
    if (!uuid || !*uuid)
        manage_uuid_random(bytes);
    else if (!manage_uuid_parse(uuid, bytes))
        return manage_fail(error, VIR_ERR_XML_ERROR, "'%s'%s is not a UUID", uuid, domain_line(el_find(c->root, "uuid")));
    manage_uuid_format(bytes, text);
    el_set(c->root, "uuid", text);
    if (el_find(c->root, "genid") && !*el_get_or(c->root, "genid", "")) {
        manage_uuid_random(bytes);
        manage_uuid_format(bytes, text);
        el_set(c->root, "genid", text);
    }
    if (!el_get(c->root, "@type"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<domain> has no type: 'kvm' or 'qemu'");
    if (!el_is(c->root, "@type", "kvm") && !el_is(c->root, "@type", "qemu"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "domains of type '%s' cannot run here: 'kvm' and 'qemu' can", el_get(c->root, "@type"));
    return true;
}

/* To KiB, rounded up. */
static void to_kib(struct el *e)
{
    uint64_t bytes;
    if (e && el_get_bytes(e, "", "KiB", &bytes)) {
        el_setf(e, "", "%" G_GUINT64_FORMAT, bytes / 1024 + !!(bytes % 1024));
        el_set(e, "@unit", "KiB");
    }
}

static uint64_t numa_kib(struct el *root)
{
    uint64_t sum = 0;
    el_each(cell, el_find(root, "cpu/numa"), "cell") {
        uint64_t v;
        const char *unit = el_get_or(cell, "@unit", "KiB");
        g_autofree char *text = g_strdup_printf("%s", el_get_or(cell, "@memory", "0"));
        static const struct { const char *name; uint64_t kib; } units[] = { { "KiB", 1 }, { "k", 1 }, { "MiB", 1024 }, { "M", 1024 }, { "GiB", 1 << 20 }, { "G", 1 << 20 },
                                                                            { "TiB", 1 << 30 }, { "T", 1 << 30 } };
        v = g_ascii_strtoull(text, NULL, 10);
        for (unsigned i = 0; i < G_N_ELEMENTS(units); i++)
            if (g_str_equal(units[i].name, unit))
                v *= units[i].kib;
        if (g_str_equal(unit, "b") || g_str_equal(unit, "bytes"))
            v = (v + 1023) / 1024;
        el_setf(cell, "@memory", "%" G_GUINT64_FORMAT, v);
        el_set(cell, "@unit", "KiB");
        sum += v;
    }
    return sum;
}

static bool complete_memory(struct domain_complete *c, GError **error)
{
    static const char *const sizes[] = { "maxMemory", "memory", "currentMemory", "memtune/hard_limit", "memtune/soft_limit", "memtune/swap_hard_limit",
                                         "memtune/min_guarantee" };
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
        to_kib(el_find(c->root, sizes[i]));
    uint64_t modules = 0, cells = numa_kib(c->root);
    el_each(m, c->devices, "memory") {
        static const char *const parts[] = { "target/size", "target/block", "target/requested", "target/label/size", "source/pagesize" };
        for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++)
            to_kib(el_find(m, parts[i]));
        modules += domain_number(m, "target/size", 0);
    }
    uint64_t memory = domain_number(c->root, "memory", 0);
    if (cells) {
        memory = cells + modules;
        el_setf(c->root, "memory", "%" G_GUINT64_FORMAT, memory);
        el_set(c->root, "memory/@unit", "KiB");
    }
    if (!memory)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the domain has no memory: <memory>%s is missing or 0", domain_line(el_find(c->root, "memory")));
    if (memory > (UINT64_C(1) << 42))
        return manage_fail(error, VIR_ERR_OVERFLOW, "<memory>%s is too large", domain_line(el_find(c->root, "memory")));
    uint64_t current = domain_number(c->root, "currentMemory", 0);
    if (!current || current > memory)
        el_setf(c->root, "currentMemory", "%" G_GUINT64_FORMAT, memory);
    el_set(c->root, "currentMemory/@unit", "KiB");
    if (modules && !el_find(c->root, "maxMemory"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "memory modules need <maxMemory slots=...>: it says how many slots the board has");
    uint64_t max = domain_number(c->root, "maxMemory", 0);
    if (max && max < memory)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<maxMemory>%s is less than <memory>", domain_line(el_find(c->root, "maxMemory")));
    return true;
}

static bool complete_vcpus(struct domain_complete *c, GError **error)
{
    if (!el_get(c->root, "vcpu") || !*el_get(c->root, "vcpu"))
        el_set(c->root, "vcpu", "1");
    domain_default(c->root, "vcpu/@placement", "static");
    struct el *e = el_find(c->root, "vcpu");
    uint64_t max = domain_number(e, "", 0), on = 0;
    el_each(v, el_find(c->root, "vcpus"), "vcpu") /* single ones say it, where they are named */
        on += el_is(v, "@enabled", "yes") && domain_number(v, "@id", max) < max;
    if (el_find(c->root, "vcpus"))
        el_setf(e, "@current", "%u", (unsigned)on);
    uint64_t current = domain_number(e, "@current", max);
    if (!max || max > 4096)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<vcpu>%s is not a number of vCPUs: %s", domain_line(e), el_get(e, ""));
    if (!current || current > max)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<vcpu current=>%s must be from 1 to the maximum %u", domain_line(e), (unsigned)max);
    if (current == max)
        el_set(e, "@current", NULL);
    struct el *t = el_find(c->root, "cpu/topology");
    if (t) {
        domain_default(t, "@dies", "1");
        uint64_t all = domain_number(t, "@sockets", 1) * domain_number(t, "@dies", 1) * domain_number(t, "@cores", 1) * domain_number(t, "@threads", 1);
        if (all != max)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<topology>%s is of %u vCPUs, <vcpu> says %u", domain_line(t), (unsigned)all, (unsigned)max);
    }
    return true;
}

/* Where the variables of UEFI from flash memory lie: whoever clones, moves or renames the domain finds them in the definition. */
static void complete_nvram(struct domain_complete *c)
{
    const struct el *loader = el_find(c->root, "os/loader");
    if (!*el_get_or(c->root, "os/loader", "") || !el_is(loader, "@type", "pflash") || !el_is(loader, "@readonly", "yes") || el_is(loader, "@stateless", "yes") ||
        el_get(c->root, "os/nvram/@type") || *el_get_or(c->root, "os/nvram", ""))
        return;
    g_autofree char *path = domain_nvram_path(c->dr, el_get(c->root, "name"));
    el_set(c->root, "os/nvram", path);
}

static bool complete_os(struct domain_complete *c, GError **error)
{
    struct el *type = el_find(c->root, "os/type");
    if (!type)
        return manage_fail(error, VIR_ERR_OS_TYPE, "<os> has no <type>: 'hvm' is what can run here");
    if (!el_is(type, "", "hvm"))
        return manage_fail(error, VIR_ERR_OS_TYPE, "<os> <type>%s is '%s': only 'hvm' can run here", domain_line(type), el_get(type, ""));
    domain_default(type, "@arch", "x86_64");
    if (!el_is(type, "@arch", "x86_64") && !el_is(type, "@arch", "i686")) /* a 64-bit machine runs a 32-bit system */
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "machines of the architecture '%s'%s cannot run here: x86_64 and i686 can", el_get(type, "@arch"), domain_line(type));
    el_set(type, "@machine", c->machine.name);
    static const char *const containers[] = { "os/init", "os/initarg", "os/initenv", "os/initdir", "os/inituser", "os/initgroup" };
    for (unsigned i = 0; i < G_N_ELEMENTS(containers); i++) /* of containers: a machine has no use for them */
        while (el_find(c->root, containers[i]))
            el_remove(el_find(c->root, containers[i]));
    if (*el_get_or(c->root, "os/loader", ""))
        domain_default(c->root, "os/loader/@type", "rom");
    complete_nvram(c);
    bool ordered = false;
    el_each(d, c->devices, NULL)
        ordered |= el_find(d, "boot") != NULL;
    if (ordered && el_find(c->root, "os/boot"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<os> <boot dev=>%s and <boot order=> of devices exclude each other", domain_line(el_find(c->root, "os/boot")));
    if (!ordered && !el_find(c->root, "os/boot"))
        el_set(c->root, "os/boot/@dev", "hd");
    if (!el_find(c->root, "os/kernel") && (el_find(c->root, "os/initrd") || el_find(c->root, "os/cmdline")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<initrd> and <cmdline> go with a <kernel>, which is missing");
    return true;
}

/* Where the mode chooses the model, what is said of another one means nothing. */
static void without_model(struct el *cpu, const char *mode)
{
    struct el *model = el_find(cpu, "model");
    bool kept = g_str_equal(mode, "host-model") && model && (*el_get_or(model, "", "") || el_get(model, "@vendor_id"));
    el_set(cpu, "@match", NULL);
    if (model && !kept)
        el_remove(model);
    if (el_find(cpu, "vendor") && !g_str_equal(mode, "host-model"))
        el_remove(el_find(cpu, "vendor"));
}

static bool complete_cpu(struct domain_complete *c, GError **error)
{
    struct el *cpu = el_find(c->root, "cpu");
    bool kvm = el_is(c->root, "@type", "kvm");
    bool plain = !cpu || (!el_get(cpu, "@mode") && !el_find(cpu, "model"));
    if (plain) {
        /* Nothing was said: QEMU's default model. Topology and NUMA may be there all the same. */
        el_set(c->root, "cpu/@mode", "custom");
        cpu = el_find(c->root, "cpu");
        el_set(cpu, "@match", "exact");
        domain_default(cpu, "@check", "none");
        el_set(cpu, "model", g_str_has_suffix(c->machine.emulator, "-i386") ? "qemu32" : "qemu64");
        el_set(cpu, "model/@fallback", "forbid");
    }
    domain_default(cpu, "@mode", "custom");
    const char *mode = el_get(cpu, "@mode");
    if (g_str_equal(mode, "custom")) {
        if (!el_find(cpu, "model"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<cpu mode='custom'>%s names no <model>", domain_line(cpu));
        domain_default(cpu, "@match", "exact");
        domain_default(cpu, "@check", kvm ? "partial" : "none");
        domain_default(cpu, "model/@fallback", "allow");
    } else if (g_str_equal(mode, "host-model")) {
        domain_default(cpu, "@check", "partial");
    } else {
        domain_default(cpu, "@check", "none");
        if (g_str_equal(mode, "host-passthrough"))
            domain_default(cpu, "@migratable", "on");
    }
    if (!g_str_equal(mode, "custom"))
        without_model(cpu, mode);
    el_each(f, cpu, "feature")
        domain_default(f, "@policy", "require");
    unsigned n = 0;
    el_each(cell, el_find(cpu, "numa"), "cell") {
        if (!el_get(cell, "@id"))
            el_setf(cell, "@id", "%u", n);
        n++;
    }
    return true;
}

static bool complete_rest(struct domain_complete *c, G_GNUC_UNUSED GError **error)
{
    static const char *const plain[][2] = { { "clock/@offset", "utc" }, { "on_poweroff", "destroy" }, { "on_reboot", "restart" }, { "on_crash", "destroy" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++)
        domain_default(c->root, plain[i][0], plain[i][1]);
    /* What holds nothing says nothing. */
    static const char *const empty[] = { "title", "description", "pm", "features", "memtune", "blkiotune", "cputune", "memoryBacking", "idmap", "perf", "iothreadids", "keywrap" };
    for (unsigned i = 0; i < G_N_ELEMENTS(empty); i++) {
        struct el *e = el_find(c->root, empty[i]);
        if (e && !el_child(e, NULL) && !*el_get_or(e, "", ""))
            el_remove(e);
    }
    static const char *const relabel[][2] = { { "dynamic", "yes" }, { "static", "no" } };
    el_each(label, c->root, "seclabel")
        for (unsigned i = 0; i < G_N_ELEMENTS(relabel); i++)
            if (el_is(label, "@type", relabel[i][0]) && el_get(label, "@model"))
                domain_default(label, "@relabel", relabel[i][1]);
    if (el_find(c->root, "features/hyperv"))
        domain_default(c->root, "features/hyperv/@mode", "custom");
    el_set(c->devices, "emulator", c->machine.emulator);
    return true;
}



bool domain_complete(struct domain_driver *dr, struct doc *d, GError **error)
{
    static bool (*const steps[])(struct domain_complete *, GError **) = { forget_live, complete_identity, complete_os, complete_memory, complete_cpu, domain_complete_tune, complete_vcpus, complete_rest, domain_complete_disks,
                                           domain_complete_interfaces, domain_complete_chars, domain_complete_others, domain_complete_controllers, domain_address_small,
                                           domain_address_pci_all, domain_complete_check, domain_complete_refuse };
    struct domain_complete c = { .dr = dr, .doc = d, .root = doc_root(d) };
    c.devices = el_find(c.root, "devices");
    if (!c.devices)
        c.devices = el_add(c.root, "devices");
    if (!domain_machine_init(&c.machine, dr, c.root, error))
        return false;
    bool good = true;
    for (unsigned i = 0; good && i < G_N_ELEMENTS(steps); i++)
        good = steps[i](&c, error);
    domain_machine_finish(&c.machine);
    return good;
}
