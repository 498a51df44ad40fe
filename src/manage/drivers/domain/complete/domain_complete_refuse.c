/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a document may say and no machine here can have, and what does not fit together: refused when it is defined, as libvirt does, with the line. */
#include "manage/drivers/domain/complete/domain_complete.h"

#include <string.h>

/* Devices that are for other machines. */
static const struct {
    const char *element, *path, *value; /* value NULL: the path is there */
    const char *why;
} devices[] = {
    { "filesystem", "@type", "file", "a machine's <filesystem> is of the type 'mount'" },
    { "filesystem", "@type", "block", "a machine's <filesystem> is of the type 'mount'" },
    { "filesystem", "@type", "template", "a machine's <filesystem> is of the type 'mount'" },
    { "filesystem", "@type", "ram", "a machine's <filesystem> is of the type 'mount'" },
    { "filesystem", "@type", "bind", "a machine's <filesystem> is of the type 'mount'" },
    { "watchdog", "@model", "diag288", "the model 'diag288' is of s390 machines; take 'i6300esb'" },
    { "iommu", "@model", "smmuv3", "the model 'smmuv3' is of ARM machines; take 'intel' or 'virtio'" },
    { "panic", "@model", "pseries", "the model 'pseries' is of pSeries machines; take 'isa'" },
    { "panic", "@model", "s390", "the model 's390' is of s390 machines; take 'isa'" },
    { "console", "target/@type", "sclp", "an SCLP console is of s390 machines; take 'serial' or 'virtio'" },
    { "console", "target/@type", "sclplm", "an SCLP console is of s390 machines; take 'serial' or 'virtio'" },
    { "hostdev", "@mode", "capabilities", "devices of the mode 'capabilities' are of containers" },
    { "interface", "route", NULL, "<route> is of containers: a machine gets its routes from its network" },
    { "serial", "@type", "spicevmc", "the type 'spicevmc' is of channels with <target type='virtio'>" },
    { NULL, "address/@type", "ccw", "addresses of the type 'ccw' are of s390 machines" },
    { NULL, "address/@type", "spapr-vio", "addresses of the type 'spapr-vio' are of pSeries machines" },
};

/* The same, of the machine itself. */
static const struct {
    const char *path, *value, *why;
} parts[] = {
    { "bootloader", NULL, "<bootloader> is of paravirtual machines" },
    { "features/gic", NULL, "<gic> is of ARM machines" },
    { "on_poweroff", "preserve", "a machine that has powered off can be 'destroy'ed or 'restart'ed" },
    { "on_reboot", "preserve", "a machine that reboots can be 'destroy'ed or 'restart'ed" },
    { "on_poweroff", "rename-restart", "machines are not renamed" },
    { "on_reboot", "rename-restart", "machines are not renamed" },
    { "on_crash", "rename-restart", "machines are not renamed" },
    { "memtune/min_guarantee", NULL, "no memory is guaranteed to a machine; <hard_limit> and <soft_limit> are there" },
    { "launchSecurity/@type", "s390-pv", "protected virtualization is of s390 machines" },
};

static bool refuse_kinds(struct domain_complete *c, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(devices); i++)
        el_each(e, c->devices, devices[i].element)
            if (devices[i].value ? el_is(e, devices[i].path, devices[i].value) : el_find(e, devices[i].path) != NULL)
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: %s", el_name(e), domain_line(e), devices[i].why);
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++)
        if (parts[i].value ? el_is(c->root, parts[i].path, parts[i].value) : el_find(c->root, parts[i].path) != NULL)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: %s", parts[i].path, domain_line(el_find(c->root, parts[i].path)), parts[i].why);
    return true;
}

/* ---- what must not be there twice ---- */

static char *key_of(const struct el *e, const char *const paths[3])
{
    GString *key = g_string_new(NULL);
    for (unsigned i = 0; i < 3 && paths[i]; i++) {
        const char *v = el_get(e, paths[i]);
        if (!v)
            return g_string_free(key, TRUE);
        g_string_append_printf(key, "%s%s", key->len ? " " : "", v);
    }
    return g_string_free(key, FALSE);
}

static bool refuse_twice(struct domain_complete *c, GError **error)
{
    static const struct { const char *parent, *element, *paths[3]; } rows[] = {
        { "cputune", "vcpupin", { "@vcpu" } },      { "cputune", "iothreadpin", { "@iothread" } }, { "cpu", "feature", { "@name" } },
        { "blkiotune", "device", { "path" } },      { "devices", "audio", { "@id" } },             { "devices", "panic", { "@model" } },
        { "devices", "watchdog", { "@model" } },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        el_each(e, el_find(c->root, rows[i].parent), rows[i].element) {
            char *key = key_of(e, rows[i].paths);
            const struct el *other = key ? g_hash_table_lookup(seen, key) : NULL;
            if (other) {
                g_autofree char *k = key;
                return manage_fail(error, VIR_ERR_XML_ERROR, "<%s>%s and <%s>%s are both for '%s'", el_name(other), domain_line(other), el_name(e), domain_line(e), k);
            }
            if (key)
                g_hash_table_insert(seen, key, e);
        }
    }
    return true;
}

/* ---- threads ---- */

static bool thread_exists(const struct el *root, uint64_t id)
{
    const struct el *ids = el_find(root, "iothreadids");
    el_each(t, ids, "iothread")
        if (domain_number(t, "@id", 0) == id)
            return true;
    return !el_child(ids, "iothread") && id && id <= domain_number(root, "iothreads", 0);
}

static bool refuse_threads(struct domain_complete *c, GError **error)
{
    static const struct { const char *element, *path; } users[] = { { "disk", "driver/@iothread" }, { "controller", "driver/@iothread" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(users); i++)
        el_each(e, c->devices, users[i].element) {
            const char *id = el_get(e, users[i].path);
            if (id && !el_is(e, users[i].path, "0") && !thread_exists(c->root, domain_number(e, users[i].path, 0)))
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s is for the I/O thread %s, which is neither in <iothreadids> nor counted by <iothreads>", el_name(e),
                                   domain_line(e), id);
        }
    el_each(pin, el_find(c->root, "cputune"), "iothreadpin")
        if (!thread_exists(c->root, domain_number(pin, "@iothread", 0)))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<iothreadpin>%s is for the I/O thread %s, which is neither in <iothreadids> nor counted by <iothreads>", domain_line(pin),
                               el_get(pin, "@iothread"));
    const struct el *tune = el_find(c->root, "cputune");
    const struct el *cache = el_find(tune, "cachetune") ? el_find(tune, "cachetune") : el_find(tune, "memorytune");
    if (cache && !c->machine.is_vireo && !el_is(c->root, "@type", "kvm"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s is for domains of the type 'kvm'", el_name(cache), domain_line(cache));
    return true;
}

/* ---- firmware ---- */

static bool refuse_firmware(struct domain_complete *c, GError **error)
{
    const struct el *loader = el_find(c->root, "os/loader"), *nvram = el_find(c->root, "os/nvram"), *any = loader ? loader : nvram;
    const char *choice = el_get(c->root, "os/@firmware");
    if (any && !choice && !*el_get_or(c->root, "os/loader", ""))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<%s>%s without a <loader> that names a file needs <os firmware=>, which chooses one", el_name(any), domain_line(any));
    bool efi = (choice && g_str_equal(choice, "efi")) || el_is(loader, "@type", "pflash");
    if (efi && !el_find(c->root, "features/acpi"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "UEFI%s needs <features> <acpi/>", domain_line(any));
    if (el_is(loader, "@secure", "yes") && !el_is(c->root, "features/smm/@state", "on"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<loader secure='yes'>%s needs <features> <smm state='on'/>", domain_line(loader));
    if (el_find(c->root, "features/smm/tseg") && !c->machine.pcie)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<tseg>%s is of q35 machines", domain_line(el_find(c->root, "features/smm/tseg")));
    if (el_is(c->root, "os/bios/@useserial", "yes") && !el_find(c->devices, "serial"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<bios useserial='yes'>%s needs a <serial> in <devices>", domain_line(el_find(c->root, "os/bios")));
    return true;
}

/* ---- devices that need something of their own ---- */

static bool memory_is_shared(const struct el *root)
{
    bool shared = el_is(root, "memoryBacking/access/@mode", "shared"), cells = false;
    el_each(cell, el_find(root, "cpu/numa"), "cell") {
        const char *access = el_get(cell, "@memAccess");
        if (access ? !g_str_equal(access, "shared") : !shared)
            return false;
        cells = true;
    }
    return cells || shared;
}

static bool refuse_disk(struct domain_complete *c, const struct el *e, GError **error)
{
    const char *target = el_get_or(e, "target/@dev", "");
    bool lun = el_is(e, "@device", "lun");
    if (el_find(e, "geometry") && el_get(e, "geometry/@trans") && !el_is(e, "target/@bus", "ide"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<geometry trans=>%s: the disk '%s' is not on the bus 'ide'", domain_line(el_find(e, "geometry")), target);
    if (!lun && (el_find(e, "source/reservations") || el_get(e, "@sgio") || el_get(e, "@rawio")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: sgio=, rawio= and <reservations> are for the device 'lun'", target, domain_line(e));
    if (!el_is(e, "driver/@name", "qemu") && !el_is(e, "@type", "vhostuser"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s has a driver '%s': 'qemu' is there", target, domain_line(e), el_get_or(e, "driver/@name", ""));
    if (el_is(e, "driver/@io", "native") && !el_is(e, "driver/@cache", "none") && !el_is(e, "driver/@cache", "directsync"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: io='native' needs cache='none' or 'directsync'", target, domain_line(e));
    if (el_is(e, "@type", "nvme") && !el_find(e, "source"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "the disk '%s'%s has no <source>", target, domain_line(e));
    for (const struct el *store = el_find(e, "backingStore"); store && el_get(store, "@type"); store = el_find(store, "backingStore"))
        if (!el_find(store, "format") || !el_find(store, "source"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<backingStore>%s of the disk '%s' lacks <%s>", domain_line(store), target, el_find(store, "format") ? "source" : "format");
    el_each(secret, el_find(e, "source/encryption"), "secret")
        if (!el_get(secret, "@uuid") && !el_get(secret, "@usage"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<secret>%s of the disk '%s' has neither uuid= nor usage=", domain_line(secret), target);
    el_each(host, el_find(e, "source"), "host")
        if (!el_get(host, "@name") && !el_is(host, "@transport", "unix"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<host>%s of the disk '%s' has no name=", domain_line(host), target);
    if (el_find(e, "shareable") && el_get(e, "driver/@type") && !el_is(e, "driver/@type", "raw"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s is <shareable/>, which an image of the format '%s' cannot be: only 'raw' can", target, domain_line(e),
                           el_get(e, "driver/@type"));
    (void)c;
    return true;
}

static bool refuse_filesystem(struct domain_complete *c, const struct el *e, GError **error)
{
    if (!el_find(e, "source"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<filesystem>%s has no <source>", domain_line(e));
    if (el_is(e, "driver/@type", "virtiofs") && !memory_is_shared(c->root))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<filesystem>%s with virtiofs needs memory that is shared: <memoryBacking> <access mode='shared'/>", domain_line(e));
    return true;
}

static bool refuse_iommu(struct domain_complete *c, const struct el *e, GError **error)
{
    bool intel = el_is(e, "@model", "intel");
    if (intel && !c->machine.pcie)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<iommu model='intel'>%s is of q35 machines", domain_line(e));
    if (!intel && !el_find(c->root, "features/acpi"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<iommu model='%s'>%s needs <features> <acpi/>", el_get(e, "@model"), domain_line(e));
    if (el_is(e, "driver/@eim", "on") && !el_is(e, "driver/@intremap", "on"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<driver eim='on'>%s needs intremap='on'", domain_line(e));
    if (el_is(e, "driver/@intremap", "on") && !el_is(c->root, "features/ioapic/@driver", "qemu"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<driver intremap='on'>%s needs <features> <ioapic driver='qemu'/>", domain_line(e));
    return true;
}

static bool refuse_interface(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    const char *model = el_get_or(e, "model/@type", "");
    if (el_is(e, "@type", "vhostuser") && !g_str_has_prefix(model, "virtio"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<interface type='vhostuser'>%s needs <model type='virtio'/>", domain_line(e));
    if (el_find(e, "ip") && !el_is(e, "@type", "user"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<ip>%s is of containers and of the type 'user': a machine gets its addresses from its network", domain_line(el_find(e, "ip")));
    return true;
}

static bool refuse_input(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    const char *model = el_get(e, "@model");
    if (model && !g_str_equal(model, "virtio") && !el_is(e, "@type", "passthrough"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<input type='%s'>%s has no model '%s'", el_get(e, "@type"), domain_line(e), model);
    return true;
}

static bool refuse_vsock(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    if (el_get(e, "cid/@address") && !el_is(e, "cid/@auto", "yes") && domain_number(e, "cid/@address", 0) < 3)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<cid address='%s'>%s: addresses of guests begin at 3", el_get(e, "cid/@address"), domain_line(e));
    return true;
}

/* What goes through the connection of a SPICE display. */
static bool refuse_spice(struct domain_complete *c, const struct el *e, GError **error)
{
    const char *type = el_get_or(e, "@type", "");
    if (!g_str_equal(type, "spicevmc") && !g_str_equal(type, "spiceport"))
        return true;
    el_each(g, c->devices, "graphics")
        if (el_is(g, "@type", "spice"))
            return true;
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s type='%s'>%s needs <graphics type='spice'>", el_name(e), type, domain_line(e));
}

static bool refuse_console(struct domain_complete *c, const struct el *e, GError **error)
{
    if (e != el_child(c->devices, "console") && el_is(e, "target/@type", "serial"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<console>%s: the first console alone can be a serial port; take <target type='virtio'>, or a <serial> more", domain_line(e));
    return true;
}

static bool refuse_video(struct domain_complete *c, const struct el *e, GError **error)
{
    const char *type = el_get_or(e, "model/@type", "");
    if (g_str_equal(type, "none") && (e != el_child(c->devices, "video") || el_next(e, "video")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<video>%s says that there is no video card, and another <video> stands beside it", domain_line(e));
    if (!el_is(e, "model/@primary", "yes") && !g_str_equal(type, "qxl") && !g_str_equal(type, "virtio") && !g_str_equal(type, "none"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<video>%s: a '%s' is the first video card or none; 'virtio' and 'qxl' can stand beside another", domain_line(e), type);
    return true;
}

static bool refuse_controller(struct domain_complete *c, const struct el *e, GError **error)
{
    if (el_is(e, "@type", "usb") && g_str_has_suffix(el_get_or(e, "@model", ""), "-xhci") && domain_number(e, "@ports", 1) > 15)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='usb'>%s has %s ports: 15 are the most", domain_line(e), el_get(e, "@ports"));
    if (el_is(e, "@type", "ide") && c->machine.pcie)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='ide'>%s: the machine '%s' has no IDE", domain_line(e), c->machine.name);
    return true;
}

/* Where the host's end of a character device is. */
static bool refuse_source(const struct el *e, bool own_socket, GError **error)
{
    static const struct { const char *type, *path; } needs[] = { { "tcp", "source/@host" }, { "tcp", "source/@service" }, { "udp", "source/@service" }, { "unix", "source/@path" },
        { "spiceport", "source/@channel" }, { "dbus", "source/@channel" }, { "nmdm", "source/@master" }, { "nmdm", "source/@slave" } };
    const char *type = el_get_or(e, "@type", "");
    for (unsigned i = 0; i < G_N_ELEMENTS(needs); i++)
        if (g_str_equal(type, needs[i].type) && !el_get(e, needs[i].path) && !(own_socket && g_str_equal(type, "unix")))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<%s type='%s'>%s has no <source %s=>", el_name(e), type, domain_line(e), needs[i].path + strlen("source/@"));
    unsigned n = 0, most = g_str_equal(type, "udp") ? 2 : 1;
    el_each(source, e, "source")
        if (++n > most)
            return manage_fail(error, VIR_ERR_XML_ERROR, "<%s type='%s'>%s: a second <source>%s is one too many", el_name(e), type, domain_line(e), domain_line(source));
    return true;
}

static bool refuse_serial(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error) { return refuse_source(e, false, error); }
static bool refuse_channel(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error) { return refuse_source(e, true, error); }
static bool refuse_rng(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    return !el_is(e, "backend/@model", "egd") || refuse_source(el_find(e, "backend"), false, error);
}

static bool refuse_graphics(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    const char *password = el_get(e, "@passwd");
    if (el_is(e, "@type", "vnc") && password && strlen(password) > 8)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics passwd=>%s is longer than VNC's 8 characters", domain_line(e));
    if (el_is(e, "listen/@type", "network") && !el_get(e, "listen/@network"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<listen type='network'>%s has no network=", domain_line(el_find(e, "listen")));
    return true;
}

static bool refuse_memory(struct domain_complete *c, const struct el *e, GError **error)
{
    if (!el_find(c->root, "cpu/numa/cell") || el_is(e, "@model", "virtio-pmem") || el_is(e, "@model", "sgx-epc"))
        return true;
    el_each(cell, el_find(c->root, "cpu/numa"), "cell")
        if (el_get(e, "target/node") && el_is(cell, "@id", el_get(e, "target/node")))
            return true;
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<memory>%s needs <target> <node>: one of the cells in <cpu> <numa>", domain_line(e));
}

static bool refuse_hostdev(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    bool vendor = el_find(e, "source/vendor") != NULL, product = el_find(e, "source/product") != NULL;
    if (vendor != product)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<hostdev>%s has no <%s>", domain_line(e), vendor ? "product" : "vendor");
    return true;
}

static bool refuse_sound(struct domain_complete *c, const struct el *e, GError **error)
{
    const char *id = el_get(e, "audio/@id");
    el_each(audio, c->devices, "audio")
        if (id && el_is(audio, "@id", id))
            return true;
    return !id || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<sound>%s names the audio back end %s, which is not there", domain_line(e), id);
}

static bool refuse_environment(struct domain_complete *c, GError **error)
{
    el_each(e, el_find(c->root, "qemu:commandline"), "qemu:env") {
        const char *name = el_get_or(e, "@name", "");
        if (g_ascii_isdigit(*name) || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != strlen(name))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<qemu:env name='%s'>%s: a variable's name is made of letters, digits and '_', and does not begin with a digit", name, domain_line(e));
    }
    return true;
}

bool domain_complete_refuse(struct domain_complete *c, GError **error)
{
    static const struct { const char *element; bool (*check)(struct domain_complete *, const struct el *, GError **); } rows[] = {
        { "disk", refuse_disk }, { "filesystem", refuse_filesystem }, { "iommu", refuse_iommu }, { "input", refuse_input }, { "interface", refuse_interface }, { "vsock", refuse_vsock }, { "smartcard", refuse_spice },
        { "controller", refuse_controller }, { "serial", refuse_serial }, { "parallel", refuse_serial }, { "console", refuse_channel }, { "channel", refuse_channel },
        { "redirdev", refuse_serial }, { "redirdev", refuse_spice }, { "channel", refuse_spice }, { "serial", refuse_spice },
        { "console", refuse_console }, { "video", refuse_video }, { "rng", refuse_rng }, { "graphics", refuse_graphics }, { "memory", refuse_memory }, { "hostdev", refuse_hostdev }, { "sound", refuse_sound },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        el_each(e, c->devices, rows[i].element)
            if (!rows[i].check(c, e, error))
                return false;
    el_each(label, c->root, "seclabel")
        if (el_is(label, "@type", "dynamic") && el_is(label, "@relabel", "no"))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<seclabel type='dynamic'>%s cannot have relabel='no'", domain_line(label));
    el_each(label, c->root, "seclabel")
        if (el_is(label, "@type", "static") && !el_get(label, "label"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<seclabel type='static'>%s has no <label>", domain_line(label));
    return refuse_kinds(c, error) && refuse_twice(c, error) && refuse_threads(c, error) && refuse_firmware(c, error) && refuse_environment(c, error);
}
