/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses other than PCI: drives on their controllers, ports of virtio-serial, USB ports, slots of memory modules. They bring the controllers they need. */
#include "manage/drivers/domain/complete/domain_complete.h"

#include <string.h>

/* ---- drives ---- */

/* Where the name of a disk puts it, as QEMU's boards number their drives. */
static bool drive_address(struct domain_complete *c, struct el *disk)
{
    const char *bus = el_get_or(disk, "target/@bus", "");
    int index = domain_disk_index(el_get_or(disk, "target/@dev", ""));
    struct el *given = el_find(disk, "address");
    static const char *const parts[] = { "@controller", "@bus", "@target", "@unit" };
    for (unsigned i = 0; given && el_is(given, "@type", "drive") && i < G_N_ELEMENTS(parts); i++)
        domain_default(given, parts[i], "0");
    if (given || index < 0)
        return false;
    unsigned controller = 0, port = 0, unit = 0;
    if (g_str_equal(bus, "sata")) {
        controller = index / 6;
        unit = index % 6;
    } else if (g_str_equal(bus, "ide")) {
        controller = index / 4;
        port = index % 4 / 2;
        unit = index % 2;
    } else if (g_str_equal(bus, "fdc")) {
        controller = index / 2;
        unit = index % 2;
    } else if (g_str_equal(bus, "scsi")) {
        controller = index / 7; /* a narrow bus, whatever the controller */
        unit = index % 7;
    } else {
        return false;
    }
    el_set(disk, "address/@type", "drive");
    struct el *a = el_find(disk, "address");
    el_setf(a, "@controller", "%u", controller);
    el_setf(a, "@bus", "%u", port);
    el_set(a, "@target", "0");
    el_setf(a, "@unit", "%u", unit);
    return true;
}

static void add_controllers(struct domain_complete *c, const char *type, uint64_t up_to, const char *model)
{
    for (unsigned i = 0; i <= up_to && i < 256; i++)
        if (!domain_controller(c->devices, type, i))
            domain_add_controller(c->devices, type, i, model);
}

static void drive_controllers(struct domain_complete *c)
{
    static const char *const types[] = { "scsi", "fdc", "ide", "sata" };
    const char *scsi = c->machine.is_vireo ? "virtio-scsi" : "lsilogic";
    for (unsigned t = 0; t < G_N_ELEMENTS(types); t++) {
        el_each(d, c->devices, "disk")
            if (el_is(d, "target/@bus", types[t]) && el_is(d, "address/@type", "drive"))
                add_controllers(c, types[t], domain_number(d, "address/@controller", 0), t == 0 ? scsi : NULL);
        el_each(h, c->devices, "hostdev")
            if (t == 0 && el_is(h, "@type", "scsi"))
                add_controllers(c, types[t], domain_number(h, "address/@controller", 0), scsi);
    }
}

/* ---- virtio-serial ---- */

static bool on_virtio_serial(const struct el *e)
{
    return el_is(e, "target/@type", "virtio") && (g_str_equal(el_name(e), "channel") || g_str_equal(el_name(e), "console"));
}

static bool port_used(struct el *devices, uint64_t controller, unsigned port)
{
    el_each(e, devices, NULL)
        if (el_is(e, "address/@type", "virtio-serial") && domain_number(e, "address/@controller", 0) == controller && domain_number(e, "address/@port", UINT64_MAX) == port)
            return true;
    return false;
}

/* Consoles that the machine has put onto free ports by itself; the first of them takes port 0. */
static unsigned unknown_ports(struct domain_complete *c)
{
    unsigned n = 0;
    el_each(e, c->devices, "console")
        n += c->running && on_virtio_serial(e) && !el_find(e, "address") && el_get(e, "alias/@name");
    return n;
}

static bool channel_address(struct domain_complete *c, struct el *e, GError **error)
{
    uint64_t controller = domain_number(e, "address/@controller", 0);
    /* Port 0 is for consoles, whose guests look for it by habit. */
    unsigned unknown = unknown_ports(c), port = g_str_equal(el_name(e), "console") && !unknown ? 0 : 1;
    if (el_get(e, "address/@port"))
        return true;
    for (;; controller++, port = 1, unknown = 0) {
        struct el *at = domain_controller(c->devices, "virtio-serial", controller);
        uint64_t ports = at ? domain_number(at, "@ports", 31) : 31;
        for (unsigned skip = unknown ? unknown - 1 : 0; port < ports && (port_used(c->devices, controller, port) || skip); port++)
            skip -= !port_used(c->devices, controller, port);
        if (port < ports)
            break;
        if (controller > 30)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: no virtio-serial controller has a free port", el_name(e), domain_line(e));
    }
    el_set(e, "address/@type", "virtio-serial");
    struct el *a = el_find(e, "address");
    el_setf(a, "@controller", "%u", (unsigned)controller);
    el_set(a, "@bus", "0");
    el_setf(a, "@port", "%u", port);
    return true;
}

static bool virtio_serial(struct domain_complete *c, GError **error)
{
    el_each(e, c->devices, "channel")
        if (on_virtio_serial(e) && !channel_address(c, e, error))
            return false;
    el_each(e, c->devices, "console") /* one that comes later must not meet what has come since */
        if (c->running && on_virtio_serial(e) && !el_get(e, "alias/@name") && !channel_address(c, e, error))
            return false;
    el_each(e, c->devices, NULL)
        if (on_virtio_serial(e))
            add_controllers(c, "virtio-serial", domain_number(e, "address/@controller", 0), NULL);
    return true;
}

/* ---- USB ---- */

static bool on_usb(const struct el *e)
{
    static const struct { const char *element, *path, *value; } rows[] = {
        { "hub", "@type", "usb" },     { "disk", "target/@bus", "usb" }, { "input", "@bus", "usb" },  { "hostdev", "@type", "usb" },
        { "redirdev", "@bus", "usb" }, { "sound", "@model", "usb" },     { "serial", "target/@type", "usb-serial" }, { "interface", "model/@type", "usb-net" },
        { "controller", "@type", "ccid" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].element, el_name(e)) && el_is(e, rows[i].path, rows[i].value))
            return true;
    return false;
}

unsigned domain_usb_ports(const struct el *controller)
{
    static const struct { const char *model; uint8_t ports; } rows[] = { { "qemu-xhci", 4 }, { "nec-xhci", 4 }, { "ich9-ehci1", 6 }, { "ehci", 6 }, { "piix3-uhci", 2 },
                                                                         { "piix4-uhci", 2 }, { "vt82c686b-uhci", 2 }, { "pci-ohci", 3 } };
    uint64_t ports = domain_number(controller, "@ports", 0);
    for (unsigned i = 0; !ports && i < G_N_ELEMENTS(rows); i++)
        if (el_is(controller, "@model", rows[i].model))
            ports = rows[i].ports;
    return ports;
}

/* port NULL: any. */
static const struct el *usb_device_at(struct el *devices, unsigned bus, const char *port)
{
    el_each(e, devices, NULL)
        if (el_is(e, "address/@type", "usb") && domain_number(e, "address/@bus", 0) == bus && (!port || el_is(e, "address/@port", port)))
            return e;
    return NULL;
}

bool domain_usb_used(struct el *devices, unsigned bus)
{
    return usb_device_at(devices, bus, NULL) != NULL;
}

enum { HUB_PORTS = 8 };

/* A free port of what stands at `path` ("" for the controller itself), as deep as `depth` more hubs: "2", "1.3". NULL: there is none. */
static char *free_port(struct el *devices, unsigned bus, const char *path, unsigned ports, unsigned depth)
{
    for (unsigned port = 1; port <= ports; port++) {
        g_autofree char *text = g_strdup_printf("%s%s%u", path, *path ? "." : "", port);
        const struct el *at = usb_device_at(devices, bus, text);
        if (!depth && !at)
            return g_steal_pointer(&text);
        char *below = depth && at && g_str_equal(el_name(at), "hub") ? free_port(devices, bus, text, HUB_PORTS, depth - 1) : NULL;
        if (below)
            return below;
    }
    return NULL;
}

static bool usb_address(struct domain_complete *c, struct el *e, GError **error)
{
    for (unsigned bus = 0; bus < 32; bus++) {
        struct el *at = domain_controller(c->devices, "usb", bus);
        g_autofree char *port = NULL;
        for (unsigned depth = 0; at && !port && depth < 4; depth++)
            port = free_port(c->devices, bus, "", domain_usb_ports(at), depth);
        if (port) {
            el_set(e, "address/@type", "usb");
            el_setf(e, "address/@bus", "%u", bus);
            el_set(e, "address/@port", port);
            return true;
        }
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: no USB controller has a free port; give a <controller type='usb'> more ports=", el_name(e), domain_line(e));
}

/* Hubs for what finds no port on the controllers. */
static void usb_hubs(struct domain_complete *c)
{
    int room = 0;
    if (c->running)
        return;
    el_each(e, c->devices, "controller")
        if (el_is(e, "@type", "usb"))
            room += domain_usb_ports(e);
    if (!room)
        return;
    el_each(e, c->devices, NULL) {
        room -= on_usb(e);
        room += g_str_equal(el_name(e), "hub") ? HUB_PORTS : 0;
    }
    for (; room < 0; room += HUB_PORTS - 1)
        el_set(el_add(c->devices, "hub"), "@type", "usb");
}

static bool usb(struct domain_complete *c, GError **error)
{
    static const char *const order[] = { "hub", "hostdev", "disk", "interface", "controller", "input", "serial", "sound", "redirdev" };
    usb_hubs(c);
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
        el_each(e, c->devices, order[i])
            if (on_usb(e) && !el_find(e, "address") && !usb_address(c, e, error))
                return false;
    return true;
}

/* ---- smart cards ---- */

static bool ccid_slot_used(struct el *devices, unsigned controller, unsigned slot)
{
    el_each(e, devices, "smartcard")
        if (el_is(e, "address/@type", "ccid") && domain_number(e, "address/@controller", 0) == controller && domain_number(e, "address/@slot", 0) == slot)
            return true;
    return false;
}

static void smartcards(struct domain_complete *c)
{
    el_each(e, c->devices, "smartcard") {
        if (!el_find(e, "address")) {
            unsigned slot = 0;
            while (ccid_slot_used(c->devices, 0, slot))
                slot++;
            el_set(e, "address/@type", "ccid");
            el_set(e, "address/@controller", "0");
            el_setf(e, "address/@slot", "%u", slot);
        }
        if (el_is(e, "address/@type", "ccid"))
            add_controllers(c, "ccid", domain_number(e, "address/@controller", 0), NULL);
    }
}

/* ---- memory modules ---- */

static bool slot_used(struct el *devices, unsigned slot)
{
    el_each(e, devices, "memory")
        if (el_is(e, "address/@type", "dimm") && domain_number(e, "address/@slot", UINT64_MAX) == slot)
            return true;
    return false;
}

static bool modules(struct domain_complete *c, GError **error)
{
    uint64_t slots = domain_number(c->root, "maxMemory/@slots", 0);
    el_each(e, c->devices, "memory") {
        if ((!el_is(e, "@model", "dimm") && !el_is(e, "@model", "nvdimm")) || el_get(e, "address/@slot"))
            continue;
        unsigned slot = 0;
        while (slot_used(c->devices, slot))
            slot++;
        if (slot >= slots)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<memory>%s: all %u slots of <maxMemory> are taken", domain_line(e), (unsigned)slots);
        el_set(e, "address/@type", "dimm");
        el_setf(e, "address/@slot", "%u", slot);
    }
    return true;
}

bool domain_address_small(struct domain_complete *c, GError **error)
{
    el_each(d, c->devices, "disk")
        drive_address(c, d);
    drive_controllers(c);
    if (!virtio_serial(c, error))
        return false;
    smartcards(c);
    return usb(c, error) && modules(c, error);
}
