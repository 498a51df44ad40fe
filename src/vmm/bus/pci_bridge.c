/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/bus/pci_bridge.h"

#include "base/error.h"
#include "vmm/bus/pci_private.h"
#include "vmm/core/machine.h"

static const struct pci_bridge *bridge_of(const struct pci_device *d)
{
    return (const struct pci_bridge *)d->owner;
}

/* 3.2: 16-bit I/O and 64-bit prefetchable addresses. */
void pci_bridge_init(struct pci_bridge *b, const struct pci_id *id)
{
    struct pci_device *d = &b->pci;
    pci_device_init(d, &b->dev, b->dev.class->name, id);
    pci_set32(d->config + PCI_REG_SUBSYS_VENDOR, 0); /* that is PCI_REG_PREF_LIMIT_HIGH here */
    d->config[PCI_REG_HEADER_TYPE] = 1;
    pci_set16(d->config + PCI_REG_PREF_BASE, 1);
    pci_set16(d->config + PCI_REG_PREF_LIMIT, 1);
    pci_set32(d->wmask + PCI_REG_PRIMARY, ~0u); /* with secondary latency timer */
    pci_set16(d->wmask + PCI_REG_IO_BASE, 0xf0f0);
    pci_set16(d->w1c + PCI_REG_SECONDARY_STATUS, 0xf900);
    pci_set32(d->wmask + PCI_REG_MEM_BASE, 0xfff0fff0);
    pci_set32(d->wmask + PCI_REG_PREF_BASE, 0xfff0fff0);
    pci_set32(d->wmask + PCI_REG_PREF_BASE_HIGH, ~0u);
    pci_set32(d->wmask + PCI_REG_PREF_LIMIT_HIGH, ~0u);
    pci_set16(d->wmask + PCI_REG_BRIDGE_CONTROL, 0x0f7f & ~0x0400);
}

bool pci_bridge_forwards(const struct pci_device *d, enum pci_bar_kind kind, uint64_t base, uint64_t size)
{
    const uint8_t *c = d->config;
    uint16_t command = pci_get16(c + PCI_REG_COMMAND);
    uint64_t last = base + size - 1;
    if (kind == PCI_BAR_IO) {
        uint64_t low = (c[PCI_REG_IO_BASE] & 0xf0) << 8, high = (c[PCI_REG_IO_LIMIT] & 0xf0) << 8 | 0xfff;
        return (command & PCI_CMD_IO) && low <= base && last <= high;
    }
    uint64_t low = (uint64_t)(pci_get16(c + PCI_REG_MEM_BASE) & 0xfff0) << 16, high = (uint64_t)(pci_get16(c + PCI_REG_MEM_LIMIT) & 0xfff0) << 16 | 0xfffff;
    uint64_t plow = (uint64_t)pci_get32(c + PCI_REG_PREF_BASE_HIGH) << 32 | (uint64_t)(pci_get16(c + PCI_REG_PREF_BASE) & 0xfff0) << 16;
    uint64_t phigh = (uint64_t)pci_get32(c + PCI_REG_PREF_LIMIT_HIGH) << 32 | (uint64_t)(pci_get16(c + PCI_REG_PREF_LIMIT) & 0xfff0) << 16 | 0xfffff;
    return (command & PCI_CMD_MEMORY) && ((low <= base && last <= high) || (plow <= base && last <= phigh));
}

void pci_bridge_written(struct pci_device *d, unsigned offset, unsigned size)
{
    if (offset < PCI_REG_PREF_LIMIT_HIGH + 4 && offset + size > PCI_REG_IO_BASE)
        pci_update_windows_behind(d->secondary);
    if (((struct pci_bridge *)d->owner)->has_slot)
        pcie_slot_written((struct pci_bridge *)d->owner, offset, size);
}

#define UNSET UINT64_MAX

struct pci_bridge_room pci_bridge_room(const struct pci_device *d)
{
    const struct pci_bridge *b = bridge_of(d);
    bool slot = b->has_slot && b->hotplug;
    return (struct pci_bridge_room){
        .mem = b->mem_reserve != UNSET ? b->mem_reserve : slot ? 2u << 20 : 0,
        .pref = b->pref64_reserve != UNSET ? b->pref64_reserve : b->pref32_reserve != UNSET ? b->pref32_reserve : slot ? 32u << 20 : 0,
        .io = b->io_reserve != UNSET ? b->io_reserve : 0,
        .buses = b->bus_reserve != UNSET ? (unsigned)b->bus_reserve : 0,
    };
}

/* Names count over the machine's buses that have none of their own. */
static char *bus_name(const struct pci_bridge *b)
{
    if (b->dev.id)
        return g_strdup(b->dev.id);
    for (unsigned n = 1;; n++) {
        g_autofree char *name = g_strdup_printf(b->pci.express_cap ? "pcie.%u" : "pci.%u", n);
        if (!pci_bus_find(b->dev.machine->pci, name))
            return g_steal_pointer(&name);
    }
}

bool pci_bridge_plug(struct pci_bridge *b, unsigned nslots, bool express, GError **error)
{
    if (!pci_device_plug(&b->pci, b->dev.machine, b->addr, error))
        return false;
    struct pci_bus *bus = g_new0(struct pci_bus, 1);
    *bus = (struct pci_bus){ .host = b->pci.bus->host, .bridge = &b->pci, .ops = b->has_slot ? &pcie_slot_ops : NULL, .name = bus_name(b),
                             .express = express, .first_slot = nslots > 1 && !express, .nslots = nslots };
    pci_lock(bus);
    b->pci.secondary = b->secondary = bus;
    pci_unlock(bus);
    return true;
}

void pci_bridge_unplug(struct pci_bridge *b)
{
    struct pci_bus *bus = b->secondary;
    pci_device_unplug(&b->pci);
    if (bus) {
        b->secondary = NULL;
        g_free(bus->name);
        g_free(bus);
    }
}

void pci_bridge_reset(struct pci_bridge *b)
{
    pci_device_reset(&b->pci);
    if (!b->has_slot)
        return;
    pci_lock(b->secondary);
    pcie_slot_reset(b);
    pci_unlock(b->secondary);
}

int pcie_port_type_of(const struct pci_device *d)
{
    return d->express_cap ? d->config[d->express_cap + 2] >> 4 & 15 : -1;
}

/* PCIe 3.0, 7.8: the fastest link that there is a number for, so that nobody warns of a slow one; it is up where something is plugged in. */
void pcie_port_init(struct pci_bridge *b, enum pcie_port_type type, bool slot)
{
    static const uint8_t widths[] = { 1, 2, 4, 8, 12, 16, 32 };
    struct pci_device *d = &b->pci;
    uint8_t at = pci_cap_add(d, PCI_CAP_EXPRESS, 0x3c), speed = b->speed + 1, width = widths[b->width];
    if (!at)
        return;
    d->express_cap = at;
    uint8_t *c = d->config + at, *w = d->wmask + at;
    pci_set16(c + 2, 2 | type << 4 | slot << 8);
    pci_set32(c + 4, 1 << 15); /* role-based error reporting */
    pci_set16(w + 8, 0x00ff);
    pci_set16(d->w1c + at + 10, 0x000f);
    pci_set32(c + 0x0c, speed | width << 4 | (type == PCIE_ROOT_PORT || type == PCIE_DOWNSTREAM) << 20 | (uint32_t)b->port << 24);
    pci_set16(w + 0x10, 0x00fb & ~0x20);
    pci_set16(c + 0x12, speed | width << 4);
    pci_set32(c + 0x2c, ((1u << speed) - 1) << 1);
    pci_set16(c + 0x30, speed);
    pci_set16(w + 0x30, 0x000f);
    if (type == PCIE_ROOT_PORT)
        pci_set16(w + 0x1c, 0x000f); /* Root Control */
    b->has_slot = slot;
    if (slot)
        pcie_slot_init(b);
}
