/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What firmware does with the buses at power-on: numbers them, gives BARs and the windows of bridges addresses, with room behind ports
 * into which cards may be plugged. A bridge's block is laid out twice: once from 0 to learn its size, once where it lies.
 */
#include "base/error.h"
#include "vmm/bus/pci_bridge.h"
#include "vmm/bus/pci_private.h"
#include "vmm/core/machine.h"

struct space {
    uint64_t next, end, align; /* align: the largest that was asked for */
};

struct spaces {
    struct space mem;  /* below 4 GiB */
    struct space pref; /* prefetchable; of the root bus: above 4 GiB */
    struct space io;
    bool root;
    uint8_t gsi_base;
};

static bool space_take(struct space *s, uint64_t size, uint64_t align, uint64_t *ret)
{
    uint64_t base = (s->next + align - 1) & ~(align - 1);
    if (base < s->next || base > s->end || s->end - base < size)
        return false;
    s->next = base + size;
    s->align = MAX(s->align, align);
    *ret = base;
    return true;
}

#define SMALL_BAR (16u << 20) /* a 64-bit BAR of the root bus up to this goes below 4 GiB while there is room */

static bool is_64(enum pci_bar_kind kind)
{
    return kind == PCI_BAR_MEM64 || kind == PCI_BAR_MEM64_PREFETCH;
}

static bool bar_take(const struct pci_bar *b, struct spaces *s, uint64_t *ret)
{
    uint64_t size = MAX(b->window.size, b->kind == PCI_BAR_IO ? 4u : 4096u);
    if (b->kind == PCI_BAR_IO)
        return space_take(&s->io, size, size, ret);
    if (!s->root) /* only what is prefetchable may lie in that window (PCI-to-PCI Bridge 1.2, 3.2.5.8) */
        return b->kind == PCI_BAR_MEM64_PREFETCH ? space_take(&s->pref, size, size, ret) : space_take(&s->mem, size, size, ret);
    if (is_64(b->kind) && size > SMALL_BAR && space_take(&s->pref, size, size, ret))
        return true;
    return space_take(&s->mem, size, size, ret) || (is_64(b->kind) && space_take(&s->pref, size, size, ret));
}

static void bar_write(struct pci_device *d, unsigned n, uint64_t base)
{
    uint8_t *reg = d->config + PCI_REG_BAR0 + 4 * n;
    pci_set32(reg, (uint32_t)base | (reg[0] & (d->bars[n].kind == PCI_BAR_IO ? 3 : 15)));
    if (is_64(d->bars[n].kind))
        pci_set32(reg + 4, base >> 32);
}

static bool no_room(const struct pci_device *d, uint64_t size, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_FAILED, "PCI device '%s' at %s:%02x.%u: no room for a register window of %" G_GUINT64_FORMAT
                      " bytes; use fewer devices", d->name, pci_bus_name(d->bus), PCI_SLOT(d->devfn), PCI_FUNC(d->devfn), size);
}

static bool bars_place(struct pci_device *d, struct spaces *s, bool write, GError **error)
{
    uint16_t command = PCI_CMD_MASTER;
    for (unsigned i = 0; i < PCI_NBARS; i++) {
        uint64_t base;
        if (d->bars[i].kind == PCI_BAR_NONE)
            continue;
        if (!bar_take(&d->bars[i], s, &base))
            return no_room(d, d->bars[i].window.size, error);
        if (write)
            bar_write(d, i, base);
        command |= d->bars[i].kind == PCI_BAR_IO ? PCI_CMD_IO : PCI_CMD_MEMORY;
    }
    uint64_t rom;
    if (d->rom.kind != PCI_BAR_NONE && !bar_take(&d->rom, s, &rom))
        return no_room(d, d->rom.window.size, error);
    if (!write)
        return true;
    if (d->rom.kind != PCI_BAR_NONE)
        pci_rom_write(d, rom);
    if (d->secondary)
        command |= PCI_CMD_IO | PCI_CMD_MEMORY;
    pci_set16(d->config + PCI_REG_COMMAND, command & pci_get16(d->wmask + PCI_REG_COMMAND));
    if (d->config[PCI_REG_INT_PIN])
        d->config[PCI_REG_INT_LINE] = s->gsi_base + pci_intx_route(d);
    return true;
}

/* ---- bridges ---- */

enum { IO_UNIT = 4096, MEM_UNIT = 1 << 20 };

static bool bus_place(struct pci_bus *bus, struct spaces *s, bool write, GError **error);

/* A block for what was laid out from 0, at least `reserve`; an empty one takes none. */
static bool block_take(struct space *from, const struct space *need, uint64_t reserve, uint64_t unit, struct space *ret)
{
    uint64_t size = (MAX(need->next, reserve) + unit - 1) & ~(unit - 1), base = 0;
    if (size && !space_take(from, size, MAX(need->align, unit), &base))
        return false;
    *ret = (struct space){ base, base + size, 0 };
    return true;
}

static void windows_write(struct pci_device *d, const struct spaces *s)
{
    uint8_t *c = d->config;
    /* Base above limit: closed. */
    uint64_t io = s->io.end ? s->io.next : 0xf000, io_end = s->io.end ? s->io.end - 1 : 0xfff;
    uint64_t mem = s->mem.end ? s->mem.next : 0xfff00000, mem_end = s->mem.end ? s->mem.end - 1 : 0xfffff;
    uint64_t pref = s->pref.end ? s->pref.next : 0xfff00000, pref_end = s->pref.end ? s->pref.end - 1 : 0xfffff;
    c[PCI_REG_IO_BASE] = io >> 8 & 0xf0;
    c[PCI_REG_IO_LIMIT] = io_end >> 8 & 0xf0;
    pci_set16(c + PCI_REG_MEM_BASE, mem >> 16 & 0xfff0);
    pci_set16(c + PCI_REG_MEM_LIMIT, mem_end >> 16 & 0xfff0);
    pci_set16(c + PCI_REG_PREF_BASE, (pref >> 16 & 0xfff0) | 1);
    pci_set16(c + PCI_REG_PREF_LIMIT, (pref_end >> 16 & 0xfff0) | 1);
    pci_set32(c + PCI_REG_PREF_BASE_HIGH, pref >> 32);
    pci_set32(c + PCI_REG_PREF_LIMIT_HIGH, pref_end >> 32);
}

static bool bridge_place(struct pci_device *d, struct spaces *s, bool write, GError **error)
{
    struct pci_bridge_room room = pci_bridge_room(d);
    struct spaces need = { .mem = { .end = UINT64_MAX }, .pref = { .end = UINT64_MAX }, .io = { .end = UINT64_MAX } }, block = { .gsi_base = s->gsi_base };
    if (!bus_place(d->secondary, &need, false, error))
        return false;
    struct space *pref_from = s->root && s->pref.end == s->pref.next ? &s->mem : &s->pref;
    if (pref_from == &s->mem) /* the CPU does not address more: only what is needed */
        room.pref = MIN(room.pref, 2u << 20);
    if (!block_take(&s->io, &need.io, room.io, IO_UNIT, &block.io) || !block_take(&s->mem, &need.mem, room.mem, MEM_UNIT, &block.mem) ||
        !block_take(pref_from, &need.pref, room.pref, MEM_UNIT, &block.pref))
        return vireo_fail(error, VIREO_ERROR_FAILED, "PCI bridge '%s' (bus '%s'): no room for the windows of what is behind it: %" G_GUINT64_FORMAT
                          " bytes of memory, %" G_GUINT64_FORMAT " of prefetchable memory, %" G_GUINT64_FORMAT " I/O ports; use fewer devices, or smaller "
                          "mem-reserve=, pref64-reserve=, io-reserve=", d->name, pci_bus_name(d->secondary), MAX(need.mem.next, room.mem),
                          MAX(need.pref.next, room.pref), MAX(need.io.next, room.io));
    if (!write)
        return true;
    windows_write(d, &block);
    return bus_place(d->secondary, &block, true, error);
}

static bool bus_place(struct pci_bus *bus, struct spaces *s, bool write, GError **error)
{
    for (struct pci_device *d = NULL; (d = pci_bus_next(bus, d));) {
        if (!bars_place(d, s, write, error) || (d->secondary && !bridge_place(d, s, write, error)))
            return false;
    }
    return true;
}

/* Depth first. */
static bool bus_number(struct pci_bus *bus, unsigned *next, GError **error)
{
    for (struct pci_device *d = NULL; (d = pci_bus_next(bus, d));) {
        if (!d->secondary)
            continue;
        unsigned first = *next;
        d->config[PCI_REG_PRIMARY] = pci_bus_number(bus);
        d->config[PCI_REG_SECONDARY] = (*next)++;
        d->config[PCI_REG_SUBORDINATE] = 255; /* so that configuration requests find the way meanwhile */
        if (!bus_number(d->secondary, next, error))
            return false;
        *next = MAX(*next, first + 1 + pci_bridge_room(d).buses);
        if (*next > PCI_ECAM_BUSES)
            return vireo_fail(error, VIREO_ERROR_FAILED, "PCI bridge '%s': there are no more than 256 bus numbers; use fewer bridges, or a smaller "
                              "bus-reserve=", d->name);
        d->config[PCI_REG_SUBORDINATE] = *next - 1;
    }
    return true;
}

bool pci_bus_assign(struct pci_bus *bus, const struct pci_windows *w, GError **error)
{
    struct spaces s = { .mem = { w->mem32_base, w->mem32_base + w->mem32_size, 0 }, .pref = { w->mem64_base, w->mem64_base + w->mem64_size, 0 },
                        .io = { w->io_base, (uint64_t)w->io_base + w->io_size, 0 }, .root = true, .gsi_base = w->gsi_base };
    unsigned next = 1;
    pci_lock(bus);
    bool ok = bus_number(bus, &next, error) && bus_place(bus, &s, true, error);
    if (ok)
        pci_update_windows_behind(bus);
    pci_unlock(bus);
    return ok;
}
