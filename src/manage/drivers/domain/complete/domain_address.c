/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI addresses. They are given as libvirt gives them, so that a guest finds its cards where it knows them: what the chipset fixes comes first, then addresses
 * that the document names, then bridges, then devices by kind in the order of `kinds` below. A first pass, without writing, finds how many
 * root ports and bridges are missing; a second pass, with those in the document, assigns.
 */
#include "manage/drivers/domain/complete/domain_complete.h"

#include <string.h>

/* What a place offers and a device wants. */
enum {
    PCI_PLAIN = 1,      /* conventional device */
    PCI_EXPRESS = 2,    /* express endpoint behind a port */
    PCI_ROOT_PORT = 4,  /* root port or bridge on the root bus */
    PCI_DOWNSTREAM = 8, /* port of a switch */
    PCI_UPSTREAM = 16,
    PCI_TO_PCI = 32,    /* bridge from express to conventional */
};

static const struct pci_model {
    const char *model, *device; /* device: <model name=> */
    uint8_t min, max;           /* slots of its bus */
    uint8_t offers, wants;
    bool express_port;          /* chassis and port are told to the guest */
} models[] = {
    { "pci-root", NULL, 1, 31, PCI_PLAIN, 0, false },
    { "pcie-root", NULL, 1, 31, PCI_ROOT_PORT, 0, false },
    { "pcie-root-port", "pcie-root-port", 0, 0, PCI_EXPRESS | PCI_UPSTREAM | PCI_TO_PCI, PCI_ROOT_PORT, true },
    { "pcie-switch-upstream-port", "x3130-upstream", 0, 31, PCI_DOWNSTREAM, PCI_UPSTREAM, false },
    { "pcie-switch-downstream-port", "xio3130-downstream", 0, 0, PCI_EXPRESS | PCI_UPSTREAM | PCI_TO_PCI, PCI_DOWNSTREAM, true },
    { "pcie-to-pci-bridge", "pcie-pci-bridge", 1, 31, PCI_PLAIN, PCI_TO_PCI, false },
    { "dmi-to-pci-bridge", "i82801b11-bridge", 0, 31, PCI_PLAIN, PCI_ROOT_PORT, false },
    { "pci-bridge", "pci-bridge", 1, 31, PCI_PLAIN, PCI_PLAIN, false },
    { "pci-expander-bus", "pxb", 0, 0, PCI_PLAIN, PCI_PLAIN, false },
    { "pcie-expander-bus", "pxb-pcie", 0, 0, PCI_ROOT_PORT, PCI_ROOT_PORT, false },
};

static const struct pci_model *find_model(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++)
        if (name && g_str_equal(models[i].model, name))
            return &models[i];
    return NULL;
}

struct pci_bus {
    const struct pci_model *model; /* NULL: no controller has this index */
    uint8_t used[32];              /* functions, a bit each */
    bool shared[32];               /* root ports: more may come to the slot */
};

struct pci_map {
    struct domain_complete *c;
    struct pci_bus *buses; /* 256 */
    unsigned nbuses;       /* highest index + 1 */
    GHashTable *usb_slots; /* of ICH9 USB controllers, by index: bus << 8 | slot */
    bool write, grow;
    uint8_t function;      /* that the next device takes in a slot of its own */
    uint8_t last_bus, last_slot; /* where the last one was placed */
};

/* ---- who wants what ---- */

static bool virtio_model(const struct el *e, const char *path)
{
    const char *m = el_get(e, path);
    return m && g_str_has_prefix(m, "virtio");
}

/* Virtio devices are express devices, but for those that show the old interface as well. */
static unsigned virtio_wants(const struct el *e, const char *path)
{
    return el_is(e, path, "virtio-transitional") ? PCI_PLAIN : PCI_EXPRESS;
}

static unsigned wants_interface(const struct el *e)
{
    static const char *const express[] = { "e1000e", "vmxnet3", "igb" };
    if (el_is(e, "@type", "hostdev") || el_is(e, "@type", "vdpa"))
        return PCI_EXPRESS;
    if (virtio_model(e, "model/@type"))
        return virtio_wants(e, "model/@type");
    for (unsigned i = 0; i < G_N_ELEMENTS(express); i++)
        if (el_is(e, "model/@type", express[i]))
            return PCI_EXPRESS;
    return el_is(e, "model/@type", "usb-net") ? 0 : PCI_PLAIN;
}

static unsigned wants_sound(const struct el *e)
{
    static const char *const none[] = { "sb16", "pcspk", "usb" };
    for (unsigned i = 0; i < G_N_ELEMENTS(none); i++)
        if (el_is(e, "@model", none[i]))
            return 0;
    return el_is(e, "@model", "virtio") ? PCI_EXPRESS : PCI_PLAIN;
}

static unsigned wants_controller(const struct el *e)
{
    const char *type = el_get_or(e, "@type", ""), *model = el_get_or(e, "@model", "");
    if (g_str_equal(type, "usb"))
        return g_str_equal(model, "none") ? 0 : g_str_has_suffix(model, "-xhci") ? PCI_EXPRESS : PCI_PLAIN;
    if (g_str_equal(type, "sata"))
        return PCI_PLAIN;
    if (g_str_equal(type, "scsi"))
        return virtio_model(e, "@model") ? virtio_wants(e, "@model") : PCI_PLAIN;
    return g_str_equal(type, "virtio-serial") ? virtio_wants(e, "@model") : 0;
}

static unsigned wants_disk(const struct el *e) { return el_is(e, "target/@bus", "virtio") ? virtio_wants(e, "@model") : 0; }
static unsigned wants_filesystem(const struct el *e) { return virtio_wants(e, "@model"); }
static unsigned wants_memballoon(const struct el *e) { return virtio_model(e, "@model") ? virtio_wants(e, "@model") : 0; }
static unsigned wants_rng(const struct el *e) { return virtio_wants(e, "@model"); }
static unsigned wants_vsock(const struct el *e) { return virtio_wants(e, "@model"); }
static unsigned wants_watchdog(const struct el *e) { return el_is(e, "@model", "i6300esb") ? PCI_PLAIN : 0; }
static unsigned wants_shmem(G_GNUC_UNUSED const struct el *e) { return PCI_PLAIN; }
static unsigned wants_input(const struct el *e) { return el_is(e, "@bus", "virtio") ? virtio_wants(e, "@model") : 0; }
static unsigned wants_serial(const struct el *e) { return el_is(e, "target/@type", "pci-serial") ? PCI_PLAIN : 0; }
static unsigned wants_memory(const struct el *e) { return virtio_model(e, "@model") ? PCI_EXPRESS : 0; }
static unsigned wants_crypto(G_GNUC_UNUSED const struct el *e) { return PCI_EXPRESS; }
static unsigned wants_iommu(const struct el *e) { return el_is(e, "@model", "virtio") ? PCI_ROOT_PORT : 0; }

static unsigned wants_video(const struct el *e)
{
    if (el_is(e, "model/@type", "none") || el_is(e, "model/@type", "ramfb"))
        return 0;
    return el_is(e, "model/@type", "virtio") || el_is(e, "model/@type", "bochs") ? PCI_EXPRESS : PCI_PLAIN;
}

/* A card of the host is an express device when its configuration space is that of one. */
static unsigned wants_hostdev(const struct el *e)
{
    if (!el_is(e, "@type", "pci") || el_is(e, "@mode", "capabilities"))
        return el_is(e, "@type", "mdev") ? PCI_EXPRESS : el_is(e, "@type", "scsi_host") ? PCI_EXPRESS : 0;
    g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%04x:%02x:%02x.%x/config", (unsigned)domain_number(e, "source/address/@domain", 0),
                                            (unsigned)domain_number(e, "source/address/@bus", 0), (unsigned)domain_number(e, "source/address/@slot", 0),
                                            (unsigned)domain_number(e, "source/address/@function", 0));
    g_autofree char *text = NULL;
    gsize size = 0;
    return g_file_get_contents(path, &text, &size, NULL) && size > 256 ? PCI_EXPRESS : PCI_PLAIN;
}

/* In the order in which they get addresses. */
static const struct {
    const char *element;
    unsigned (*wants)(const struct el *e);
} kinds[] = {
    { "filesystem", wants_filesystem }, { "interface", wants_interface },   { "sound", wants_sound }, { "controller", wants_controller }, { "disk", wants_disk },
    { "hostdev", wants_hostdev },       { "memballoon", wants_memballoon }, { "rng", wants_rng },     { "watchdog", wants_watchdog },     { "video", wants_video },
    { "shmem", wants_shmem },           { "input", wants_input },           { "serial", wants_serial }, { "vsock", wants_vsock },         { "memory", wants_memory },
    { "crypto", wants_crypto },         { "iommu", wants_iommu },
};

static unsigned device_wants(const struct domain_machine *m, const struct el *e)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_str_equal(kinds[i].element, el_name(e))) {
            unsigned w = kinds[i].wants(e);
            return m->i440fx && w ? PCI_PLAIN : w;
        }
    return 0;
}

/* ---- addresses ---- */

static bool has_address(const struct el *e)
{
    const struct el *a = el_find(e, "address");
    return a && (!el_is(a, "@type", "pci") || el_get(a, "@bus") || el_get(a, "@slot"));
}

static void write_address(struct pci_map *m, struct el *e, unsigned bus, unsigned slot, unsigned function)
{
    if (!m->write)
        return;
    el_set(e, "address/@type", "pci");
    struct el *a = el_find(e, "address");
    el_set(a, "@domain", "0x0000");
    el_setf(a, "@bus", "0x%02x", bus);
    el_setf(a, "@slot", "0x%02x", slot);
    el_setf(a, "@function", "0x%x", function);
}

static bool take(struct pci_map *m, struct el *e, unsigned bus, unsigned slot, unsigned function)
{
    if (m->buses[bus].used[slot] & 1 << function)
        return false;
    m->buses[bus].used[slot] |= 1 << function;
    m->last_bus = bus;
    m->last_slot = slot;
    if (e)
        write_address(m, e, bus, slot, function);
    return true;
}

/* Where the chipset has a device, if nothing else is there. */
static void take_fixed(struct pci_map *m, struct el *e, unsigned slot, unsigned function)
{
    if (e && !has_address(e) && take(m, e, 0, slot, function))
        g_hash_table_add(m->c->fixed, e);
}

/* A bus more. The controller is made when the first pass has ended. */
static bool add_bus(struct pci_map *m, const char *model, GError **error)
{
    if (m->nbuses >= 256)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the domain has more devices than 256 PCI buses have room for");
    m->buses[m->nbuses++].model = find_model(model);
    return true;
}

static bool place(struct pci_map *m, struct el *e, unsigned wants, GError **error);

/* Makes room for what `wants` asks for; the new bus's own bridge is placed in the second pass, in the first its place is taken here. */
static bool grow(struct pci_map *m, struct el *e, unsigned wants, GError **error)
{
    bool express = m->c->machine.pcie;
    if (!m->grow) {
        g_autofree char *label = e ? domain_device_label(e) : NULL;
        if (express && wants == PCI_PLAIN)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no conventional PCI slot for %s: take a model of PCI Express (virtio, e1000e), or give the definition a "
                               "<controller type='pci' model='pcie-to-pci-bridge'/>", label ? label : "it");
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no free PCI slot for %s: the definition needs more <controller type='pci' model='%s'/>",
                           label ? label : "it", express ? "pcie-root-port" : "pci-bridge");
    }
    if (express && wants & (PCI_EXPRESS | PCI_UPSTREAM | PCI_TO_PCI))
        return place(m, NULL, PCI_ROOT_PORT, error) && add_bus(m, "pcie-root-port", error);
    bool conventional = false;
    for (unsigned i = 0; i < m->nbuses; i++)
        conventional |= m->buses[i].model && m->buses[i].model->offers & PCI_PLAIN;
    /* The first bridge to conventional PCI brings a port of its own. */
    if (wants & PCI_PLAIN && express && !conventional && !(place(m, NULL, PCI_ROOT_PORT, error) && add_bus(m, "pcie-root-port", error)))
        return false;
    if (wants & PCI_PLAIN)
        return place(m, NULL, express ? PCI_TO_PCI : PCI_PLAIN, error) && add_bus(m, express ? "pcie-to-pci-bridge" : "pci-bridge", error);
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no PCI slot left on the root bus");
}

/* Root ports share slots, eight to each. Others have a slot for themselves. */
static bool place_on(struct pci_map *m, struct el *e, unsigned bus, bool share)
{
    struct pci_bus *b = &m->buses[bus];
    for (unsigned slot = b->model->min; slot <= b->model->max; slot++) {
        if (share && b->used[slot] && b->shared[slot] && b->used[slot] != 0xff)
            for (unsigned f = 0; f < 8; f++)
                if (!(b->used[slot] & 1 << f))
                    return take(m, e, bus, slot, f);
        if (b->used[slot])
            continue;
        b->shared[slot] = share;
        return take(m, e, bus, slot, share ? 0 : m->function);
    }
    return false;
}

/* e NULL: only the place is taken. */
static bool place(struct pci_map *m, struct el *e, unsigned wants, GError **error)
{
    bool writes = m->write;
    if (!e)
        m->write = false;
    bool done = false;
    for (unsigned turn = 0; turn < 2 && !done; turn++) {
        for (unsigned bus = 0; bus < m->nbuses && !done; bus++)
            done = m->buses[bus].model && m->buses[bus].model->offers & wants && place_on(m, e, bus, wants == PCI_ROOT_PORT && (!e || g_str_equal(el_name(e), "controller")));
        if (!done && turn == 0 && !grow(m, e, wants, error))
            break;
    }
    m->write = writes;
    if (!done && error && !*error)
        manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no room on the PCI buses for all devices");
    return done;
}

/* ---- passes ---- */

static bool reserve(struct pci_map *m, struct el *e, GError **error)
{
    const struct el *a = el_find(e, "address");
    if (!a || !el_is(a, "@type", "pci") || !has_address(e))
        return true;
    uint64_t bus = domain_number(a, "@bus", 0), slot = domain_number(a, "@slot", 0), function = domain_number(a, "@function", 0);
    if (domain_number(a, "@domain", 0) || bus > 255 || slot > 31 || function > 7)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<address>%s of <%s> is no PCI address of this machine: domain 0, bus to 0xff, slot to 0x1f, function to 7", domain_line(a),
                           el_name(e));
    while (m->grow && m->nbuses <= bus) {
        const char *model = m->c->machine.pcie ? "pcie-root-port" : "pci-bridge";
        if (!add_bus(m, model, error))
            return false;
    }
    if (bus >= m->nbuses || !m->buses[bus].model)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<address>%s of <%s> is on the PCI bus %u: there is no <controller type='pci' index='%u'>", domain_line(a), el_name(e),
                           (unsigned)bus, (unsigned)bus);
    const struct pci_model *model = m->buses[bus].model;
    if (slot > model->max || (slot < model->min && !(bus == 0 && slot == 0 && el_is(e, "@type", "pci"))))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<address>%s of <%s>: a %s has slots from %u to %u", domain_line(a), el_name(e), model->model, model->min, model->max);
    struct pci_bus *b = &m->buses[bus];
    if (b->used[slot] & 1 << function)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the PCI address bus 0x%02x slot 0x%02x function %u is used twice; the second is <%s>%s", (unsigned)bus, (unsigned)slot,
                           (unsigned)function, el_name(e), domain_line(e));
    if (!b->used[slot])
        b->shared[slot] = el_is(e, "@model", "pcie-root-port") && g_str_equal(el_name(e), "controller");
    b->used[slot] |= 1 << function;
    return true;
}

static struct el *first_of(struct pci_map *m, const char *element, const char *path, const char *value)
{
    el_each(e, m->c->devices, element)
        if (el_is(e, path, value))
            return e;
    return NULL;
}

/* The parts of an ICH9 USB controller share a slot: the EHCI is function 7, its companions 0, 1 and 2. */
static bool ich9_usb(const struct el *e, uint8_t *ret_function)
{
    static const struct { const char *model; uint8_t function; } parts[] = { { "ich9-ehci1", 7 }, { "ich9-uhci1", 0 }, { "ich9-uhci2", 1 }, { "ich9-uhci3", 2 } };
    for (unsigned i = 0; el_is(e, "@type", "usb") && i < G_N_ELEMENTS(parts); i++)
        if (el_is(e, "@model", parts[i].model)) {
            *ret_function = parts[i].function;
            return true;
        }
    return false;
}

/* The board has two places for such a group: the first companion takes it. */
static void take_ich9_usb(struct pci_map *m)
{
    static const uint8_t places[] = { 0x1d, 0x1a };
    el_each(e, m->c->devices, "controller")
        for (unsigned i = 0; el_is(e, "@model", "ich9-uhci1") && !has_address(e) && !g_hash_table_contains(m->c->fixed, e) && i < G_N_ELEMENTS(places); i++) {
            if (m->buses[0].used[places[i]])
                continue;
            take_fixed(m, e, places[i], 0);
            g_hash_table_insert(m->usb_slots, GUINT_TO_POINTER(domain_number(e, "@index", 0)), GUINT_TO_POINTER(places[i]));
            break;
        }
}

/* What is part of the chipset, and the first graphics card, whose place old guests expect. */
static void take_chipset(struct pci_map *m)
{
    struct el *video = first_of(m, "video", "model/@primary", "yes");
    if (m->c->machine.pcie) {
        m->buses[0].used[0x1f] |= 1 | 1 << 3; /* LPC, SMBus */
        take_fixed(m, domain_controller(m->c->devices, "sata", 0), 0x1f, 2);
        take_ich9_usb(m);
        if (video && wants_video(video) && !m->buses[0].used[1])
            take_fixed(m, video, 1, 0);
        struct el *sound = first_of(m, "sound", "@model", "ich9");
        if (sound && !m->buses[0].used[0x1b])
            take_fixed(m, sound, 0x1b, 0);
        return;
    }
    m->buses[0].used[1] |= 1 | 1 << 3; /* PIIX3: ISA, power management */
    take_fixed(m, domain_controller(m->c->devices, "ide", 0), 1, 1);
    struct el *usb = domain_controller(m->c->devices, "usb", 0);
    if (usb && el_is(usb, "@model", "piix3-uhci"))
        take_fixed(m, usb, 1, 2);
    if (video && wants_video(video) && !m->buses[0].used[2])
        take_fixed(m, video, 2, 0);
}

static bool make_map(struct pci_map *m, GError **error)
{
    memset(m->buses, 0, MAX(m->nbuses, 1) * sizeof(*m->buses)); /* of the first pass */
    m->nbuses = 0;
    g_hash_table_remove_all(m->usb_slots);
    el_each(e, m->c->devices, "controller") {
        if (!el_is(e, "@type", "pci"))
            continue;
        uint64_t i = domain_number(e, "@index", 256);
        const struct pci_model *model = find_model(el_get(e, "@model"));
        if (i > 255 || !model)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='pci'>%s: there is no model '%s' with index %u", domain_line(e), el_get_or(e, "@model", ""),
                               (unsigned)i);
        m->buses[i].model = model;
        m->nbuses = MAX(m->nbuses, (unsigned)i + 1);
    }
    /* Indexes that were left out are ports that nobody named. */
    for (unsigned i = 1; i < m->nbuses && m->grow; i++)
        if (!m->buses[i].model)
            m->buses[i].model = find_model(m->c->machine.pcie ? "pcie-root-port" : "pci-bridge");
    el_each(e, m->c->devices, NULL)
        if (!reserve(m, e, error))
            return false;
    take_chipset(m);
    return true;
}

static bool place_controllers(struct pci_map *m, GError **error)
{
    el_each(e, m->c->devices, "controller") {
        const struct pci_model *model = el_is(e, "@type", "pci") ? find_model(el_get(e, "@model")) : NULL;
        if (model && model->wants && !has_address(e) && !place(m, e, model->wants, error))
            return false;
    }
    /* Ports that have an index and no controller yet. */
    for (unsigned i = 1; !m->write && i < m->nbuses; i++)
        if (!domain_controller(m->c->devices, "pci", i) && !place(m, NULL, m->buses[i].model->wants, error))
            return false;
    return true;
}

/* The parts of one ICH9 USB controller come into the slot of the first of them that has one. */
static bool place_ich9_usb(struct pci_map *m, struct el *e, unsigned wants, uint8_t function, GError **error)
{
    GHashTable *slots = m->usb_slots;
    gpointer key = GUINT_TO_POINTER(domain_number(e, "@index", 0)), found;
    uint8_t other;
    if (!g_hash_table_lookup_extended(slots, key, NULL, &found))
        el_each(part, m->c->devices, "controller")
            if (ich9_usb(part, &other) && el_is(part, "@index", el_get_or(e, "@index", "0")) && has_address(part) && el_is(part, "address/@type", "pci"))
                g_hash_table_insert(slots, key, GUINT_TO_POINTER(domain_number(part, "address/@bus", 0) << 8 | domain_number(part, "address/@slot", 0)));
    if (g_hash_table_lookup_extended(slots, key, NULL, &found) && take(m, e, GPOINTER_TO_UINT(found) >> 8, GPOINTER_TO_UINT(found) & 255, function))
        return true;
    m->function = function;
    bool good = place(m, e, wants, error);
    m->function = 0;
    g_hash_table_insert(slots, key, GUINT_TO_POINTER((unsigned)m->last_bus << 8 | m->last_slot));
    return good;
}

static bool place_devices(struct pci_map *m, GError **error)
{
    uint8_t function;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        el_each(e, m->c->devices, kinds[i].element) {
            unsigned wants = device_wants(&m->c->machine, e);
            /* Chipset devices have their place in the map, though nothing is written in the first pass. */
            if (!wants || has_address(e) || g_hash_table_contains(m->c->fixed, e))
                continue;
            bool usb = ich9_usb(e, &function);
            if (!(usb ? place_ich9_usb(m, e, wants, function, error) : place(m, e, wants, error)))
                return false;
        }
    return true;
}

/* Makes the controllers that the first pass found missing. */
static void add_missing(struct pci_map *m)
{
    for (unsigned i = 1; i < m->nbuses; i++)
        if (m->buses[i].model && !domain_controller(m->c->devices, "pci", i))
            domain_add_controller(m->c->devices, "pci", i, m->buses[i].model->model);
}

static void describe_controllers(struct pci_map *m)
{
    el_each(e, m->c->devices, "controller") {
        const struct pci_model *model = el_is(e, "@type", "pci") ? find_model(el_get(e, "@model")) : NULL;
        if (!model || !model->device)
            continue;
        domain_default(e, "model/@name", model->device);
        if (model->express_port) {
            if (!el_get(e, "target/@chassis"))
                el_setf(e, "target/@chassis", "%s", el_get(e, "@index"));
            if (!el_get(e, "target/@port"))
                el_setf(e, "target/@port", "0x%x", (unsigned)(domain_number(e, "address/@slot", 0) << 3 | domain_number(e, "address/@function", 0)));
        } else if (g_str_equal(model->model, "pci-bridge") && !el_get(e, "target/@chassisNr")) {
            el_setf(e, "target/@chassisNr", "%s", el_get(e, "@index"));
        }
    }
}

/* Function 0 says whether there are more. */
static void mark_multifunction(struct pci_map *m)
{
    el_each(e, m->c->devices, NULL) {
        const struct el *a = el_find(e, "address");
        if (!a || !el_is(a, "@type", "pci") || domain_number(a, "@function", 0) || el_get(a, "@multifunction"))
            continue;
        unsigned bus = domain_number(a, "@bus", 0) & 255, slot = domain_number(a, "@slot", 0) & 31;
        bool chipset = bus == 0 && (slot == 0x1f || (m->c->machine.i440fx && slot == 1));
        if (!chipset && m->buses[bus].used[slot] & 0xfe)
            el_set(e, "address/@multifunction", "on");
    }
}

bool domain_address_pci(struct domain_complete *c, bool grow, GError **error)
{
    if (!c->machine.has_pci)
        return true;
    g_autofree struct pci_bus *buses = g_new0(struct pci_bus, 256);
    g_autoptr(GHashTable) usb_slots = g_hash_table_new(NULL, NULL);
    struct pci_map m = { .c = c, .buses = buses, .usb_slots = usb_slots, .grow = grow };
    bool fresh = !domain_controller(c->devices, "pci", 1);
    el_each(e, c->devices, "controller")
        fresh = fresh && !(el_is(e, "@type", "pci") && domain_number(e, "@index", 0));
    g_autoptr(GHashTable) fixed = g_hash_table_new(NULL, NULL);
    c->fixed = fixed;
    if (grow) {
        if (!make_map(&m, error) || !place_controllers(&m, error) || !place_devices(&m, error))
            return false;
        /* One port stays free for what is plugged in later, where the document leaves ports to us. */
        if (fresh && !place(&m, NULL, c->machine.pcie ? PCI_EXPRESS : PCI_PLAIN, error))
            return false;
        add_missing(&m);
        g_hash_table_remove_all(fixed);
    }
    m.write = true;
    if (!make_map(&m, error) || !place_controllers(&m, error) || !place_devices(&m, error))
        return false;
    describe_controllers(&m);
    mark_multifunction(&m);
    return true;
}

bool domain_address_pci_all(struct domain_complete *c, GError **error)
{
    return domain_address_pci(c, true, error);
}
