/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bus: slots, configuration accesses by ports and ECAM, where windows are. Interrupts are in pci_irq.c. */
#include "vmm/bus/pci_private.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/machine.h"

unsigned pci_intx_line(unsigned slot, unsigned pin)
{
    return (slot + pin - 1) % PCI_INTX_LINES;
}

/* ---- windows of base address registers ---- */

static bool bar_is_64(enum pci_bar_kind kind)
{
    return kind == PCI_BAR_MEM64 || kind == PCI_BAR_MEM64_PREFETCH;
}

/* Where the guest has put a BAR; 0: nowhere. An address at the very top of its space is what sizing leaves behind. */
static uint64_t bar_address(const struct pci_device *d, unsigned n)
{
    const struct pci_bar *b = &d->bars[n];
    const uint8_t *reg = d->config + PCI_REG_BAR0 + 4 * n;
    uint16_t command = pci_get16(d->config + PCI_REG_COMMAND);
    if (b->kind == PCI_BAR_IO) {
        uint64_t base = pci_get32(reg) & ~3u;
        return (command & PCI_CMD_IO) && base + b->window.size <= 0x10000 ? base : 0;
    }
    if (!(command & PCI_CMD_MEMORY))
        return 0;
    uint64_t base = pci_get32(reg) & ~15u, limit = 1ull << 32;
    if (bar_is_64(b->kind)) {
        base |= (uint64_t)pci_get32(reg + 4) << 32;
        if (base >= limit)
            limit = 1ull << 52;
    }
    return base < limit && base + b->window.size < limit ? base : 0;
}

static void update_windows(struct pci_device *d)
{
    struct guest_memory *memory = d->owner->machine->memory;
    for (unsigned i = 0; i < PCI_NBARS; i++) {
        struct io_window *w = &d->bars[i].window;
        if (d->bars[i].kind == PCI_BAR_NONE)
            continue;
        uint64_t base = bar_address(d, i);
        if (!base)
            io_window_unmap(memory, w);
        else if (!w->mapped || w->base != base)
            io_window_map(memory, w, base);
    }
}

void pci_bar_init(struct pci_device *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, const struct io_ops *ops,
                  void *opaque, GMutex *lock)
{
    static const uint8_t type_bits[] = { [PCI_BAR_MEM32] = 0, [PCI_BAR_MEM64] = 4, [PCI_BAR_MEM64_PREFETCH] = 12, [PCI_BAR_IO] = 1 };
    uint8_t *reg = d->config + PCI_REG_BAR0 + 4 * bar, *mask = d->wmask + PCI_REG_BAR0 + 4 * bar;
    g_assert(bar + bar_is_64(kind) < PCI_NBARS && size && !(size & (size - 1)));
    d->bars[bar] = (struct pci_bar){
        .kind = kind,
        .window = { .name = d->name, .ops = ops, .opaque = opaque, .lock = lock, .size = size, .port = kind == PCI_BAR_IO, .behind = true },
    };
    pci_set32(reg, type_bits[kind]);
    pci_set32(mask, (uint32_t)~(size - 1) & (kind == PCI_BAR_IO ? ~3u : ~15u));
    if (bar_is_64(kind))
        pci_set32(mask + 4, (uint32_t)(~(size - 1) >> 32));
}

/* ---- configuration space; bus lock held ---- */

static uint32_t config_read_locked(struct pci_device *d, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    if (offset + size > PCIE_CONFIG_SIZE)
        return ~0u;
    if (d->config_read)
        d->config_read(d, offset, size);
    pci_irq_status(d);
    memcpy(&value, d->config + offset, size);
    return value;
}

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned reg_size)
{
    return offset < reg + reg_size && reg < offset + size;
}

static void config_write_locked(struct pci_device *d, unsigned offset, unsigned size, uint32_t value)
{
    if (offset + size > PCIE_CONFIG_SIZE)
        return;
    for (unsigned i = 0; i < size; i++) {
        uint8_t v = value >> 8 * i, w = d->wmask[offset + i], *c = &d->config[offset + i];
        *c = (*c & ~w) | (v & w);
        *c &= ~(v & d->w1c[offset + i]);
    }
    if (touches(offset, size, PCI_REG_COMMAND, 2) || touches(offset, size, PCI_REG_BAR0, 4 * PCI_NBARS))
        update_windows(d);
    pci_irq_config_written(d);
    if (d->changed && (touches(offset, size, PCI_REG_COMMAND, 2) || touches(offset, size, PCI_REG_BAR0, 4 * PCI_NBARS) ||
                       touches(offset, size, d->msix.cap + 2u, 2)))
        d->changed(d);
    if (d->config_written)
        d->config_written(d, offset, size);
}

static uint64_t function_read(struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size)
{
    return bus->devices[devfn] ? config_read_locked(bus->devices[devfn], offset, size) : ~0u;
}

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
    return function_read(opaque, offset >> 12 & 0xff, offset & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bus *bus = opaque;
    if (bus->devices[offset >> 12 & 0xff])
        config_write_locked(bus->devices[offset >> 12 & 0xff], offset & 0xfff, size, value);
}

static const struct io_ops ecam_ops = { ecam_read, ecam_write, 1, 4 };

/* CONFIG_ADDRESS is a doubleword register: narrower accesses are not for it (PCI 3.0, 3.2.2.3.2). */
static uint64_t address_read(void *opaque, uint64_t offset, unsigned size)
{
    return size == 4 ? ((struct pci_bus *)opaque)->address : ~0u;
}

static void address_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    if (size == 4)
        ((struct pci_bus *)opaque)->address = value & 0x80fffffc;
}

static const struct io_ops address_ops = { address_read, address_write, 1, 4 };

/* Enabled, and bus 0. */
static bool address_valid(const struct pci_bus *bus)
{
    return (bus->address & 0x80ff0000) == 0x80000000;
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_bus *bus = opaque;
    return address_valid(bus) ? function_read(bus, bus->address >> 8 & 0xff, (bus->address & 0xfc) + offset, size) : ~0u;
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bus *bus = opaque;
    struct pci_device *d = address_valid(bus) ? bus->devices[bus->address >> 8 & 0xff] : NULL;
    if (d)
        config_write_locked(d, (bus->address & 0xfc) + offset, size, value);
}

static const struct io_ops data_ops = { data_read, data_write, 1, 4 };

/* ---- the bus ---- */

struct pci_bus *pci_bus_create(struct machine *m, const struct irq_line *intx)
{
    struct pci_bus *bus = g_new0(struct pci_bus, 1);
    bus->machine = m;
    g_mutex_init(&bus->lock);
    g_mutex_init(&bus->intx_lock);
    memcpy(bus->intx, intx, sizeof(bus->intx));
    m->pci = bus;
    return bus;
}

void pci_bus_destroy(struct pci_bus *bus)
{
    if (!bus)
        return;
    struct guest_memory *memory = bus->machine->memory;
    io_window_unmap(memory, &bus->address_window);
    io_window_unmap(memory, &bus->data_window);
    io_window_unmap(memory, &bus->ecam_window);
    bus->machine->pci = NULL;
    g_mutex_clear(&bus->lock);
    g_mutex_clear(&bus->intx_lock);
    g_free(bus);
}

void pci_bus_map_ports(struct pci_bus *bus)
{
    bus->address_window = (struct io_window){ .name = "pci-address", .ops = &address_ops, .opaque = bus, .lock = &bus->lock, .size = 4, .port = true };
    bus->data_window = (struct io_window){ .name = "pci-data", .ops = &data_ops, .opaque = bus, .lock = &bus->lock, .size = 4, .port = true };
    io_window_map(bus->machine->memory, &bus->address_window, 0xcf8);
    io_window_map(bus->machine->memory, &bus->data_window, 0xcfc);
}

void pci_bus_map_ecam(struct pci_bus *bus, uint64_t base)
{
    bus->ecam_window = (struct io_window){ .name = "pci-ecam", .ops = &ecam_ops, .opaque = bus, .lock = &bus->lock, .size = PCI_ECAM_SIZE };
    io_window_map(bus->machine->memory, &bus->ecam_window, base);
}

struct pci_device *pci_bus_next(struct pci_bus *bus, struct pci_device *prev)
{
    for (unsigned i = prev ? (unsigned)prev->devfn + 1 : 0; i < 256; i++) {
        if (bus->devices[i])
            return bus->devices[i];
    }
    return NULL;
}

void pci_bus_reset(struct pci_bus *bus)
{
    for (struct pci_device *d = NULL; (d = pci_bus_next(bus, d));)
        pci_device_reset(d);
    g_mutex_lock(&bus->lock);
    bus->address = 0;
    g_mutex_unlock(&bus->lock);
}

/* ---- addresses, as firmware gives them ---- */

struct space {
    uint64_t next, end;
};

static bool space_take(struct space *s, uint64_t size, uint64_t *ret)
{
    uint64_t base = (s->next + size - 1) & ~(size - 1);
    if (base < s->next || base >= s->end || s->end - base < size)
        return false;
    s->next = base + size;
    *ret = base;
    return true;
}

#define SMALL_BAR (16u << 20) /* a 64-bit BAR up to this goes below 4 GiB while there is room */

static bool bar_place(struct pci_device *d, unsigned n, struct space *mem32, struct space *mem64, struct space *io)
{
    const struct pci_bar *b = &d->bars[n];
    uint8_t *reg = d->config + PCI_REG_BAR0 + 4 * n;
    uint64_t size = b->window.size, base, align = MAX(size, b->kind == PCI_BAR_IO ? 4u : 4096u);
    bool ok;
    if (b->kind == PCI_BAR_IO)
        ok = space_take(io, align, &base);
    else if (bar_is_64(b->kind) && size > SMALL_BAR)
        ok = space_take(mem64, align, &base) || space_take(mem32, align, &base);
    else
        ok = space_take(mem32, align, &base) || (bar_is_64(b->kind) && space_take(mem64, align, &base));
    if (!ok)
        return false;
    pci_set32(reg, (uint32_t)base | (reg[0] & (b->kind == PCI_BAR_IO ? 3 : 15)));
    if (bar_is_64(b->kind))
        pci_set32(reg + 4, base >> 32);
    return true;
}

static bool device_assign(struct pci_device *d, struct space *mem32, struct space *mem64, struct space *io, uint8_t gsi_base,
                          GError **error)
{
    uint16_t command = PCI_CMD_MASTER;
    for (unsigned i = 0; i < PCI_NBARS; i++) {
        if (d->bars[i].kind == PCI_BAR_NONE)
            continue;
        if (!bar_place(d, i, mem32, mem64, io))
            return vireo_fail(error, VIREO_ERROR_FAILED, "PCI device '%s' at 00:%02x.%u: no room for a register window of %" G_GUINT64_FORMAT
                              " bytes; use fewer devices", d->name, PCI_SLOT(d->devfn), PCI_FUNC(d->devfn), d->bars[i].window.size);
        command |= d->bars[i].kind == PCI_BAR_IO ? PCI_CMD_IO : PCI_CMD_MEMORY;
    }
    pci_set16(d->config + PCI_REG_COMMAND, command & pci_get16(d->wmask + PCI_REG_COMMAND));
    if (d->config[PCI_REG_INT_PIN])
        d->config[PCI_REG_INT_LINE] = gsi_base + pci_intx_line(PCI_SLOT(d->devfn), d->config[PCI_REG_INT_PIN]);
    update_windows(d);
    if (d->changed)
        d->changed(d);
    return true;
}

bool pci_bus_assign(struct pci_bus *bus, const struct pci_windows *w, GError **error)
{
    struct space mem32 = { w->mem32_base, w->mem32_base + w->mem32_size }, mem64 = { w->mem64_base, w->mem64_base + w->mem64_size },
                 io = { w->io_base, (uint64_t)w->io_base + w->io_size };
    bool ok = true;
    g_mutex_lock(&bus->lock);
    for (struct pci_device *d = NULL; ok && (d = pci_bus_next(bus, d));)
        ok = device_assign(d, &mem32, &mem64, &io, w->gsi_base, error);
    g_mutex_unlock(&bus->lock);
    return ok;
}

/* ---- functions ---- */

void pci_device_init(struct pci_device *d, struct device *owner, const char *name, const struct pci_id *id)
{
    d->name = name;
    d->owner = owner;
    d->devfn = -1;
    g_mutex_init(&d->irq_lock);
    pci_set16(d->config + PCI_REG_VENDOR, id->vendor);
    pci_set16(d->config + PCI_REG_DEVICE, id->device);
    d->config[PCI_REG_REVISION] = id->revision;
    d->config[PCI_REG_CLASS] = id->prog_if;
    d->config[PCI_REG_CLASS + 1] = id->subclass;
    d->config[PCI_REG_CLASS + 2] = id->class_code;
    pci_set16(d->config + PCI_REG_SUBSYS_VENDOR, id->subsys_vendor);
    pci_set16(d->config + PCI_REG_SUBSYS, id->subsys);
    d->config[PCI_REG_INT_PIN] = id->int_pin;
    pci_set16(d->wmask + PCI_REG_COMMAND, PCI_CMD_IO | PCI_CMD_MEMORY | PCI_CMD_MASTER | PCI_CMD_SERR | PCI_CMD_INTX_OFF | 0x40);
    pci_set16(d->w1c + PCI_REG_STATUS, 0xf900);
    d->wmask[0x0c] = 0xff; /* cache line size */
    d->wmask[PCI_REG_INT_LINE] = 0xff;
    d->cap_end = 0x40;
}

uint8_t pci_cap_add(struct pci_device *d, uint8_t id, uint8_t size)
{
    unsigned at = (d->cap_end + 3u) & ~3u;
    if (at + size > PCI_CONFIG_SIZE - 4)
        return 0;
    if (d->cap_last)
        d->config[d->cap_last + 1] = at;
    else
        d->config[PCI_REG_CAP_PTR] = at;
    d->config[at] = id;
    d->config[PCI_REG_STATUS] |= 0x10; /* capability list */
    d->cap_last = at;
    d->cap_end = at + size;
    return at;
}

void pci_express_init(struct pci_device *d)
{
    uint8_t at = pci_cap_add(d, PCI_CAP_EXPRESS, 0x3c);
    if (!at)
        return;
    pci_set16(d->config + at + 2, 2 | 9 << 4);           /* version 2, root complex integrated endpoint */
    pci_set32(d->config + at + 4, 1 << 15);              /* role-based error reporting */
    pci_set16(d->wmask + at + 8, 0x7fff & ~0x0700);      /* device control, without extended tags, phantom functions, aux power */
}

static bool take_slot(struct pci_bus *bus, struct pci_device *d, int devfn, GError **error)
{
    for (unsigned slot = 1; devfn < 0 && slot < 31; slot++) {
        bool used = false;
        for (unsigned fn = 0; fn < 8; fn++)
            used |= bus->devices[PCI_DEVFN(slot, fn)] != NULL;
        if (!used)
            devfn = PCI_DEVFN(slot, 0);
    }
    if (devfn < 0)
        return vireo_fail(error, VIREO_ERROR_FAILED, "device %s: all slots of the PCI bus are taken", d->name);
    if (devfn > 255)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: a PCI address goes up to 1f.7", d->name);
    struct pci_device *other = bus->devices[devfn];
    if (other)
        return vireo_fail(error, VIREO_ERROR_BUSY, "device %s: PCI address %02x.%u is taken by '%s'", d->name, PCI_SLOT(devfn),
                          PCI_FUNC(devfn), other->owner->id ? other->owner->id : other->name);
    d->devfn = devfn;
    return true;
}

/* Functions beside function 0 are only looked for where it says so (PCI 3.0, 6.2.1, Header Type). */
static void mark_multifunction(struct pci_bus *bus, unsigned slot)
{
    unsigned n = 0;
    for (unsigned fn = 0; fn < 8; fn++)
        n += bus->devices[PCI_DEVFN(slot, fn)] != NULL;
    for (unsigned fn = 0; n > 1 && fn < 8; fn++) {
        struct pci_device *d = bus->devices[PCI_DEVFN(slot, fn)];
        if (d) {
            d->config[PCI_REG_HEADER_TYPE] |= 0x80;
            d->initial[PCI_REG_HEADER_TYPE] |= 0x80;
        }
    }
}

bool pci_device_plug(struct pci_device *d, struct machine *m, int devfn, GError **error)
{
    struct pci_bus *bus = m->pci;
    if (!bus)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s needs a PCI bus, and this machine has none; use a -device form "
                          "that ends in '-device' here, or -M q35", d->name);
    g_mutex_lock(&bus->lock);
    bool ok = take_slot(bus, d, devfn, error);
    if (ok) {
        d->bus = bus;
        d->plugged = true;
        memcpy(d->initial, d->config, sizeof(d->initial));
        bus->devices[d->devfn] = d;
        mark_multifunction(bus, PCI_SLOT(d->devfn));
    }
    g_mutex_unlock(&bus->lock);
    return ok;
}

void pci_device_unplug(struct pci_device *d)
{
    if (d->plugged) {
        pci_device_reset(d);
        g_mutex_lock(&d->bus->lock);
        d->bus->devices[d->devfn] = NULL;
        d->plugged = false;
        g_mutex_unlock(&d->bus->lock);
    }
    pci_irq_finish(d);
    g_mutex_clear(&d->irq_lock);
}

void pci_device_reset(struct pci_device *d)
{
    if (!d->plugged)
        return;
    g_mutex_lock(&d->bus->lock);
    memcpy(d->config, d->initial, sizeof(d->config));
    pci_irq_reset(d);
    update_windows(d);
    if (d->changed)
        d->changed(d);
    g_mutex_unlock(&d->bus->lock);
}
