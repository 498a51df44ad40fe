/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a document may say and no machine here can have, and what does not fit together: refused when it is defined, as libvirt does, with the line. */
#include "manage/drivers/domain/complete/domain_complete.h"

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
    if (el_find(e, "shareable") && el_get(e, "driver/@type") && !el_is(e, "driver/@type", "raw"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s is <shareable/>, which an image of the format '%s' cannot be: only 'raw' can", target, domain_line(e),
                           el_get(e, "driver/@type"));
    (void)c;
    return true;
}

static bool refuse_filesystem(struct domain_complete *c, const struct el *e, GError **error)
{
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
    if (el_is(e, "driver/@intremap", "on") && !el_is(c->root, "features/ioapic/@driver", "qemu"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<driver intremap='on'>%s needs <features> <ioapic driver='qemu'/>", domain_line(e));
    return true;
}

static bool refuse_interface(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
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

static bool refuse_smartcard(struct domain_complete *c, const struct el *e, GError **error)
{
    if (!el_is(e, "@type", "spicevmc"))
        return true;
    el_each(g, c->devices, "graphics")
        if (el_is(g, "@type", "spice"))
            return true;
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<smartcard type='spicevmc'>%s needs <graphics type='spice'>", domain_line(e));
}

static bool refuse_controller(struct domain_complete *c, const struct el *e, GError **error)
{
    if (el_is(e, "@type", "ide") && c->machine.pcie)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='ide'>%s: the machine '%s' has no IDE", domain_line(e), c->machine.name);
    return true;
}

static bool refuse_serial(G_GNUC_UNUSED struct domain_complete *c, const struct el *e, GError **error)
{
    if (el_is(e, "@type", "unix") && !el_get(e, "source/@path"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<%s type='unix'>%s has no <source path=>", el_name(e), domain_line(e));
    return true;
}

bool domain_complete_refuse(struct domain_complete *c, GError **error)
{
    static const struct { const char *element; bool (*check)(struct domain_complete *, const struct el *, GError **); } rows[] = {
        { "disk", refuse_disk }, { "filesystem", refuse_filesystem }, { "iommu", refuse_iommu }, { "input", refuse_input }, { "interface", refuse_interface }, { "vsock", refuse_vsock }, { "smartcard", refuse_smartcard },
        { "controller", refuse_controller }, { "serial", refuse_serial }, { "parallel", refuse_serial },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        el_each(e, c->devices, rows[i].element)
            if (!rows[i].check(c, e, error))
                return false;
    el_each(label, c->root, "seclabel")
        if (el_is(label, "@type", "dynamic") && el_is(label, "@relabel", "no"))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<seclabel type='dynamic'>%s cannot have relabel='no'", domain_line(label));
    return refuse_kinds(c, error) && refuse_threads(c, error) && refuse_firmware(c, error);
}
