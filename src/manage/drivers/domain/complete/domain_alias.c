/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of devices inside the machine, as libvirt gives them: clients and users know "virtio-disk0" and "net0". */
#include "manage/drivers/domain/complete/domain_complete.h"

#include <string.h>

static const struct {
    const char *element, *prefix;
} prefixes[] = {
    { "interface", "net" }, { "filesystem", "fs" },     { "serial", "serial" },     { "parallel", "parallel" }, { "channel", "channel" },   { "console", "console" },
    { "input", "input" },   { "tpm", "tpm" },           { "sound", "sound" },       { "video", "video" },       { "hostdev", "hostdev" },
    { "redirdev", "redir" }, { "smartcard", "smartcard" }, { "hub", "hub" },        { "watchdog", "watchdog" }, { "memballoon", "balloon" }, { "rng", "rng" },
    { "shmem", "shmem" },   { "panic", "panic" },       { "vsock", "vsock" },       { "crypto", "crypto" },     { "iommu", "iommu" },
};

static bool taken(struct el *devices, const char *alias)
{
    el_each(e, devices, NULL)
        if (el_is(e, "alias/@name", alias))
            return true;
    return false;
}

static char *numbered(struct el *devices, const char *prefix)
{
    for (unsigned n = 0;; n++) {
        g_autofree char *alias = g_strdup_printf("%s%u", prefix, n);
        if (!taken(devices, alias))
            return g_steal_pointer(&alias);
    }
}

static char *disk_alias(struct el *devices, const struct el *disk)
{
    const char *bus = el_get_or(disk, "target/@bus", "virtio");
    const struct el *a = el_find(disk, "address");
    if (g_str_equal(bus, "virtio") || g_str_equal(bus, "usb")) {
        g_autofree char *prefix = g_strdup_printf("%s-disk", bus);
        return numbered(devices, prefix);
    }
    return g_strdup_printf("%s%u-%u-%u", bus, (unsigned)domain_number(a, "@controller", 0), (unsigned)domain_number(a, "@bus", 0),
                           (unsigned)(g_str_equal(bus, "scsi") && domain_number(a, "@target", 0) ? domain_number(a, "@target", 0) : domain_number(a, "@unit", 0)));
}

static char *scsi_alias(const struct el *disk, const struct el *controller)
{
    const struct el *a = el_find(disk, "address");
    bool lsi = controller && el_is(controller, "@model", "lsilogic");
    if (lsi)
        return g_strdup_printf("scsi%u-%u-%u", (unsigned)domain_number(a, "@controller", 0), (unsigned)domain_number(a, "@bus", 0), (unsigned)domain_number(a, "@unit", 0));
    return g_strdup_printf("scsi%u-%u-%u-%u", (unsigned)domain_number(a, "@controller", 0), (unsigned)domain_number(a, "@bus", 0), (unsigned)domain_number(a, "@target", 0),
                           (unsigned)domain_number(a, "@unit", 0));
}

static char *controller_alias(const struct el *e)
{
    const char *type = el_get_or(e, "@type", "");
    unsigned index = domain_number(e, "@index", 0);
    if (g_str_equal(type, "pci")) {
        if (el_is(e, "@model", "pcie-root"))
            return g_strdup("pcie.0");
        return el_is(e, "@model", "pci-root") ? g_strdup("pci.0") : g_strdup_printf("pci.%u", index);
    }
    if (index == 0 && g_str_equal(type, "usb"))
        return g_strdup("usb");
    if (index == 0 && g_str_equal(type, "sata"))
        return g_strdup("ide");
    if (index == 0 && (g_str_equal(type, "ide")))
        return g_strdup("ide");
    return g_strdup_printf("%s%u", type, index);
}

void domain_alias_one(struct el *devices, struct el *e)
{
    g_autofree char *alias = NULL;
    const char *name = el_name(e);
    if (el_get(e, "alias/@name"))
        return;
    if (g_str_equal(name, "disk") && el_is(e, "target/@bus", "scsi"))
        alias = scsi_alias(e, domain_controller(devices, "scsi", domain_number(e, "address/@controller", 0)));
    else if (g_str_equal(name, "disk"))
        alias = disk_alias(devices, e);
    else if (g_str_equal(name, "controller"))
        alias = controller_alias(e);
    else if (g_str_equal(name, "memory"))
        alias = el_is(e, "address/@type", "dimm") ? g_strdup_printf("dimm%u", (unsigned)domain_number(e, "address/@slot", 0)) : numbered(devices, el_get_or(e, "@model", "memory"));
    for (unsigned i = 0; !alias && i < G_N_ELEMENTS(prefixes); i++)
        if (g_str_equal(prefixes[i].element, name))
            alias = numbered(devices, prefixes[i].prefix);
    if (alias)
        el_set(e, "alias/@name", alias);
}

/* The first console shares its name with the serial port that it is; the others are numbered by their place. */
static void alias_consoles(struct el *devices)
{
    unsigned place = 0;
    struct el *console = el_child(devices, "console"), *serial = el_child(devices, "serial");
    if (console && serial && el_is(console, "target/@type", "serial") && !el_get(console, "alias/@name"))
        el_set(console, "alias/@name", el_get_or(serial, "alias/@name", "serial0"));
    el_each(e, devices, "console") {
        g_autofree char *alias = g_strdup_printf("console%u", place++);
        if (!el_get(e, "alias/@name") && !taken(devices, alias))
            el_set(e, "alias/@name", alias);
    }
}

void domain_alias_all(struct doc *d)
{
    struct el *devices = el_find(doc_root(d), "devices");
    el_each(e, devices, "serial")
        domain_alias_one(devices, e);
    alias_consoles(devices);
    el_each(e, devices, NULL)
        domain_alias_one(devices, e);
}
