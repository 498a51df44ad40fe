/* SPDX-License-Identifier: GPL-2.0-or-later */
/* query-pci: functions as the guest has set them up, buses behind bridges below their bridge. */
#include "base/json.h"
#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp.h"

#define INT(v) json_object_new_int64((int64_t)(v))

static struct json_object *bus_devices(struct pci_bus *bus);

static struct json_object *range(uint64_t base, uint64_t limit)
{
    return json_make("base", INT(base), "limit", INT(limit), NULL);
}

/* PCI-to-PCI Bridge 1.2, 3.2.5 */
static struct json_object *bridge_info(struct pci_device *d)
{
    const uint8_t *c = d->config;
    uint64_t pref = (uint64_t)pci_get32(c + PCI_REG_PREF_BASE_HIGH) << 32 | (uint64_t)(pci_get16(c + PCI_REG_PREF_BASE) & 0xfff0) << 16;
    uint64_t pref_end = (uint64_t)pci_get32(c + PCI_REG_PREF_LIMIT_HIGH) << 32 | (uint64_t)(pci_get16(c + PCI_REG_PREF_LIMIT) & 0xfff0) << 16 | 0xfffff;
    struct json_object *numbers = json_make(
        "number", INT(c[PCI_REG_PRIMARY]), "secondary", INT(c[PCI_REG_SECONDARY]), "subordinate", INT(c[PCI_REG_SUBORDINATE]),
        "io_range", range((c[PCI_REG_IO_BASE] & 0xf0) << 8, (c[PCI_REG_IO_LIMIT] & 0xf0) << 8 | 0xfff),
        "memory_range", range((uint64_t)(pci_get16(c + PCI_REG_MEM_BASE) & 0xfff0) << 16, (uint64_t)(pci_get16(c + PCI_REG_MEM_LIMIT) & 0xfff0) << 16 | 0xfffff),
        "prefetchable_range", range(pref, pref_end), NULL);
    return json_make("bus", numbers, "devices", bus_devices(d->secondary), NULL);
}

static void add_region(struct json_object *list, unsigned number, const struct pci_bar *b)
{
    bool io = b->kind == PCI_BAR_IO, wide = b->kind == PCI_BAR_MEM64 || b->kind == PCI_BAR_MEM64_PREFETCH;
    if (b->kind == PCI_BAR_NONE)
        return;
    struct json_object *r = json_make("bar", INT(number), "type", json_object_new_string(io ? "io" : "memory"), "address",
                                      INT(b->window.mapped ? b->window.base : UINT64_MAX), "size", INT(b->window.size), NULL);
    if (!io) {
        json_object_object_add(r, "mem_type_64", json_object_new_boolean(wide));
        json_object_object_add(r, "prefetch", json_object_new_boolean(b->kind == PCI_BAR_MEM64_PREFETCH || b->kind == PCI_BAR_MEM32_PREFETCH));
    }
    json_object_array_add(list, r);
}

/* The option ROM comes last, as number 6. */
static struct json_object *regions(const struct pci_device *d)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < PCI_NBARS; i++)
        add_region(list, i, &d->bars[i]);
    add_region(list, PCI_NBARS, &d->rom);
    return list;
}

static const char *class_name(unsigned class)
{
    static const struct { uint16_t class; const char *name; } rows[] = {
        { 0x0100, "SCSI controller" }, { 0x0101, "IDE controller" }, { 0x0106, "SATA controller" }, { 0x0108, "NVMe controller" },
        { 0x0200, "Ethernet controller" }, { 0x0300, "VGA controller" }, { 0x0380, "Display controller" },
        { 0x0600, "Host bridge" }, { 0x0601, "ISA bridge" }, { 0x0604, "PCI bridge" }, { 0x0780, "Communication controller" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].class == class)
            return rows[i].name;
    }
    return NULL;
}

static struct json_object *device_info(struct pci_device *d)
{
    const uint8_t *c = d->config;
    unsigned class = c[PCI_REG_CLASS + 2] << 8 | c[PCI_REG_CLASS + 1];
    struct json_object *what = json_make("class", INT(class), NULL), *id = json_make("vendor", INT(pci_get16(c + PCI_REG_VENDOR)), "device",
                                                                                     INT(pci_get16(c + PCI_REG_DEVICE)), NULL);
    if (class_name(class))
        json_object_object_add(what, "desc", json_object_new_string(class_name(class)));
    if (!d->secondary) {
        json_object_object_add(id, "subsystem", INT(pci_get16(c + PCI_REG_SUBSYS)));
        json_object_object_add(id, "subsystem-vendor", INT(pci_get16(c + PCI_REG_SUBSYS_VENDOR)));
    }
    struct json_object *info = json_make("bus", INT(pci_bus_number(d->bus)), "slot", INT(PCI_SLOT(d->devfn)), "function", INT(PCI_FUNC(d->devfn)),
                                         "class_info", what, "id", id, "irq_pin", INT(c[PCI_REG_INT_PIN]), "qdev_id",
                                         json_object_new_string(d->owner->id ? d->owner->id : ""), "regions", regions(d), NULL);
    if (c[PCI_REG_INT_PIN])
        json_object_object_add(info, "irq", INT(c[PCI_REG_INT_LINE]));
    if (d->secondary)
        json_object_object_add(info, "pci_bridge", bridge_info(d));
    return info;
}

static struct json_object *bus_devices(struct pci_bus *bus)
{
    struct json_object *list = json_object_new_array();
    for (struct pci_device *d = NULL; (d = pci_bus_next(bus, d));)
        json_object_array_add(list, device_info(d));
    return list;
}

struct json_object *qmp_query_pci(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    if (!m->pci)
        return list;
    pci_lock(m->pci);
    json_object_array_add(list, json_make("bus", INT(0), "devices", bus_devices(m->pci), NULL));
    pci_unlock(m->pci);
    return list;
}
