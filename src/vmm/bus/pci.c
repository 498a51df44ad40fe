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

/* Each bridge turns the pins by the slot (PCI-to-PCI Bridge 1.2, 9.1). */
unsigned pci_intx_route(const struct pci_device *d)
{
    unsigned pin = d->config[PCI_REG_INT_PIN];
    for (; d->bus->bridge; d = d->bus->bridge)
        pin = (PCI_SLOT(d->devfn) + pin - 1) % 4 + 1;
    return pci_intx_line(PCI_SLOT(d->devfn), pin);
}

void pci_lock(struct pci_bus *bus)
{
    g_mutex_lock(&bus->host->lock);
}

void pci_unlock(struct pci_bus *bus)
{
    g_mutex_unlock(&bus->host->lock);
}

/* ---- windows of base address registers ---- */

static bool bar_is_64(enum pci_bar_kind kind)
{
    return kind == PCI_BAR_MEM64 || kind == PCI_BAR_MEM64_PREFETCH;
}

static bool reaches(const struct pci_device *d, const struct pci_bar *b, uint64_t base)
{
    for (const struct pci_device *bridge = d->bus->bridge; bridge; bridge = bridge->bus->bridge) {
        if (!pci_bridge_forwards(bridge, b->kind, base, b->window.size))
            return false;
    }
    return true;
}

/* Where the guest has put a BAR; 0: nowhere. An address at the very top of its space is what sizing leaves behind. */
static uint64_t bar_address(const struct pci_device *d, unsigned n)
{
    const struct pci_bar *b = &d->bars[n];
    const uint8_t *reg = d->config + PCI_REG_BAR0 + 4 * n;
    uint16_t command = pci_get16(d->config + PCI_REG_COMMAND);
    if (b->kind == PCI_BAR_IO) {
        uint64_t base = pci_get32(reg) & ~3u;
        return (command & PCI_CMD_IO) && base + b->window.size <= 0x10000 && reaches(d, b, base) ? base : 0;
    }
    if (!(command & PCI_CMD_MEMORY))
        return 0;
    uint64_t base = pci_get32(reg) & ~15u, limit = 1ull << 32;
    if (bar_is_64(b->kind)) {
        base |= (uint64_t)pci_get32(reg + 4) << 32;
        if (base >= limit)
            limit = 1ull << 52;
    }
    return base < limit && base + b->window.size < limit && reaches(d, b, base) ? base : 0;
}

void pci_update_windows_behind(struct pci_bus *bus)
{
    for (struct pci_device *d = NULL; (d = pci_bus_next(bus, d));) {
        pci_update_windows(d);
        if (d->changed)
            d->changed(d);
    }
}

static uint64_t rom_address(const struct pci_device *d)
{
    uint64_t base = pci_get16(d->config + PCI_REG_COMMAND) & PCI_CMD_MEMORY ? pci_rom_address(d) : 0;
    return base && base + d->rom.window.size < 1ull << 32 && reaches(d, &d->rom, base) ? base : 0;
}

static void move_window(struct pci_device *d, struct io_window *w, uint64_t base)
{
    struct guest_memory *memory = d->owner->machine->memory;
    if (!base)
        io_window_unmap(memory, w);
    else if (!w->mapped || w->base != base)
        io_window_map(memory, w, base);
}

void pci_update_windows(struct pci_device *d)
{
    for (unsigned i = 0; i < PCI_NBARS; i++) {
        if (d->bars[i].kind != PCI_BAR_NONE)
            move_window(d, &d->bars[i].window, bar_address(d, i));
    }
    if (d->rom.kind != PCI_BAR_NONE)
        move_window(d, &d->rom.window, rom_address(d));
    if (d->secondary)
        pci_update_windows_behind(d->secondary);
}

void pci_bar_init(struct pci_device *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, const struct io_ops *ops,
                  void *opaque, GMutex *lock)
{
    static const uint8_t type_bits[] = { [PCI_BAR_MEM32] = 0, [PCI_BAR_MEM64] = 4, [PCI_BAR_MEM64_PREFETCH] = 12, [PCI_BAR_MEM32_PREFETCH] = 8, [PCI_BAR_IO] = 1 };
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

void pci_bar_init_ram(struct pci_device *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, void *ram)
{
    pci_bar_init(d, bar, kind, size, NULL, NULL, NULL);
    d->bars[bar].window.ram = ram;
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
    bool rom = d->rom.kind != PCI_BAR_NONE && touches(offset, size, PCI_REG_ROM, 4);
    if (touches(offset, size, PCI_REG_COMMAND, 2) || touches(offset, size, PCI_REG_BAR0, 4 * PCI_NBARS) || rom)
        pci_update_windows(d);
    if (d->secondary)
        pci_bridge_written(d, offset, size);
    pci_irq_config_written(d);
    if (d->changed && (touches(offset, size, PCI_REG_COMMAND, 2) || touches(offset, size, PCI_REG_BAR0, 4 * PCI_NBARS) ||
                       touches(offset, size, d->msix.cap + 2u, 2)))
        d->changed(d);
    if (d->config_written)
        d->config_written(d, offset, size);
}

unsigned pci_bus_number(const struct pci_bus *bus)
{
    return bus->bridge ? bus->bridge->config[PCI_REG_SECONDARY] : 0;
}

/* The way of a configuration request down the tree: each bridge takes what lies between its secondary and subordinate numbers
 * (PCI-to-PCI Bridge 1.2, 3.1.2). */
static struct pci_bus *find_number_locked(struct pci_bus *bus, unsigned number)
{
    while (bus && pci_bus_number(bus) != number) {
        struct pci_bus *next = NULL;
        for (struct pci_device *d = NULL; !next && (d = pci_bus_next(bus, d));) {
            const uint8_t *c = d->config;
            if (d->secondary && c[PCI_REG_SECONDARY] && c[PCI_REG_SECONDARY] <= number && number <= c[PCI_REG_SUBORDINATE])
                next = d->secondary;
        }
        bus = next;
    }
    return bus;
}

/* at: bus number, device and function as in an ECAM offset. */
static struct pci_device *function_at_locked(struct pci_host *host, uint64_t at)
{
    struct pci_bus *bus = find_number_locked(host->machine->pci, at >> 8 & 0xff);
    return bus ? bus->devices[at & 0xff] : NULL;
}

static uint64_t function_read(struct pci_device *d, unsigned offset, unsigned size)
{
    return d ? config_read_locked(d, offset, size) : ~0u;
}

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
    return function_read(function_at_locked(opaque, offset >> 12), offset & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_device *d = function_at_locked(opaque, offset >> 12);
    if (d)
        config_write_locked(d, offset & 0xfff, size, value);
}

static const struct io_ops ecam_ops = { ecam_read, ecam_write, 1, 4 };

/* CONFIG_ADDRESS is a doubleword register: narrower accesses are not for it (PCI 3.0, 3.2.2.3.2). */
static uint64_t address_read(void *opaque, uint64_t offset, unsigned size)
{
    return size == 4 ? ((struct pci_host *)opaque)->address : ~0u;
}

static void address_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    if (size == 4)
        ((struct pci_host *)opaque)->address = value & 0x80fffffc;
}

static const struct io_ops address_ops = { address_read, address_write, 1, 4 };

static struct pci_device *addressed(struct pci_host *host)
{
    return host->address >> 31 ? function_at_locked(host, host->address >> 8) : NULL;
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *host = opaque;
    return function_read(addressed(host), (host->address & 0xfc) + offset, size);
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = opaque;
    struct pci_device *d = addressed(host);
    if (d)
        config_write_locked(d, (host->address & 0xfc) + offset, size, value);
}

static const struct io_ops data_ops = { data_read, data_write, 1, 4 };

/* ---- the buses ---- */

struct pci_bus *pci_bus_create(struct machine *m, const struct irq_line *intx)
{
    struct pci_host *host = g_new0(struct pci_host, 1);
    struct pci_bus *bus = g_new0(struct pci_bus, 1);
    host->machine = m;
    g_mutex_init(&host->lock);
    g_mutex_init(&host->intx_lock);
    memcpy(host->intx, intx, sizeof(host->intx));
    *bus = (struct pci_bus){ .host = host, .name = g_strdup("pcie.0"), .express = true, .first_slot = 1, .nslots = 31 };
    m->pci = bus;
    return bus;
}

void pci_bus_destroy(struct pci_bus *bus)
{
    if (!bus)
        return;
    struct pci_host *host = bus->host;
    struct guest_memory *memory = host->machine->memory;
    io_window_unmap(memory, &host->address_window);
    io_window_unmap(memory, &host->data_window);
    io_window_unmap(memory, &host->ecam_window);
    host->machine->pci = NULL;
    g_mutex_clear(&host->lock);
    g_mutex_clear(&host->intx_lock);
    g_free(host);
    g_free(bus->name);
    g_free(bus);
}

void pci_bus_map_ports(struct pci_bus *bus)
{
    struct pci_host *h = bus->host;
    h->address_window = (struct io_window){ .name = "pci-address", .ops = &address_ops, .opaque = h, .lock = &h->lock, .size = 4, .port = true };
    h->data_window = (struct io_window){ .name = "pci-data", .ops = &data_ops, .opaque = h, .lock = &h->lock, .size = 4, .port = true };
    io_window_map(h->machine->memory, &h->address_window, 0xcf8);
    io_window_map(h->machine->memory, &h->data_window, 0xcfc);
}

void pci_bus_map_ecam(struct pci_bus *bus, uint64_t base)
{
    struct pci_host *h = bus->host;
    h->ecam_window = (struct io_window){ .name = "pci-ecam", .ops = &ecam_ops, .opaque = h, .lock = &h->lock, .size = PCI_ECAM_SIZE };
    io_window_map(h->machine->memory, &h->ecam_window, base);
}

struct pci_device *pci_bus_next(struct pci_bus *bus, struct pci_device *prev)
{
    for (unsigned i = prev ? (unsigned)prev->devfn + 1 : 0; i < 256; i++) {
        if (bus->devices[i])
            return bus->devices[i];
    }
    return NULL;
}

const char *pci_bus_name(const struct pci_bus *bus)
{
    return bus->name;
}

struct pci_device *pci_bus_bridge(const struct pci_bus *bus)
{
    return bus->bridge;
}

struct pci_bus *pci_bus_find(struct pci_bus *bus, const char *name)
{
    struct pci_bus *found = strcmp(bus->name, name) ? NULL : bus;
    for (struct pci_device *d = NULL; !found && (d = pci_bus_next(bus, d));) {
        if (d->secondary)
            found = pci_bus_find(d->secondary, name);
    }
    return found;
}

void pci_bus_reset(struct pci_bus *bus)
{
    for (struct pci_device *d = NULL; (d = pci_bus_next(bus, d));)
        pci_device_reset(d);
    if (bus->bridge)
        return;
    g_mutex_lock(&bus->host->lock);
    bus->host->address = 0;
    g_mutex_unlock(&bus->host->lock);
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
    d->express_cap = at;
    pci_set16(d->config + at + 2, 2 | 9 << 4);           /* version 2, root complex integrated endpoint */
    pci_set32(d->config + at + 4, 1 << 15);              /* role-based error reporting */
    pci_set16(d->wmask + at + 8, 0x7fff & ~0x0700);      /* device control, without extended tags, phantom functions, aux power */
}

/* Takes a capability out of the list. */
static void drop_cap(struct pci_device *d, uint8_t cap)
{
    uint8_t *at = &d->config[PCI_REG_CAP_PTR];
    while (*at && *at != cap)
        at = &d->config[*at + 1];
    if (*at)
        *at = d->config[cap + 1];
}

/* What the function says of itself depends on the bus (7.8.2, 7.8.6, 7.8.8): behind a port it has a link. */
static void settle_express(struct pci_device *d)
{
    uint8_t *cap = d->config + d->express_cap;
    if (!d->express_cap || !d->bus->bridge || (cap[2] >> 4 & 15) != 9)
        return;
    if (!d->bus->express) {
        drop_cap(d, d->express_cap);
        return;
    }
    pci_set16(cap + 2, 2); /* endpoint */
    pci_set32(cap + 0x0c, 1 << 4 | 1); /* one lane of 2.5 GT/s */
    pci_set16(cap + 0x12, 1 << 4 | 1);
    pci_set32(cap + 0x2c, 1 << 1);
    pci_set16(cap + 0x30, 1);
}

static bool take_slot(struct pci_bus *bus, struct pci_device *d, int devfn, GError **error)
{
    for (unsigned slot = bus->first_slot; devfn < 0 && slot < bus->nslots; slot++) {
        bool used = false;
        for (unsigned fn = 0; fn < 8; fn++)
            used |= bus->devices[PCI_DEVFN(slot, fn)] != NULL;
        if (!used)
            devfn = PCI_DEVFN(slot, 0);
    }
    if (devfn < 0)
        return vireo_fail(error, VIREO_ERROR_FAILED, "device %s: all slots of the PCI bus '%s' are taken", d->name, bus->name);
    if (devfn > 255)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: a PCI address goes up to 1f.7", d->name);
    if (PCI_SLOT(devfn) >= 1 && bus->nslots == 1)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: PCI: slot %u is not valid for %s, parent device only allows plugging into slot 0",
                          d->name, PCI_SLOT(devfn), d->name);
    struct pci_device *other = bus->devices[devfn];
    if (other)
        return vireo_fail(error, VIREO_ERROR_BUSY, "device %s: PCI address %02x.%u of bus '%s' is taken by '%s'", d->name, PCI_SLOT(devfn),
                          PCI_FUNC(devfn), bus->name, other->owner->id ? other->owner->id : other->name);
    if (d->owner->hotplugged && PCI_FUNC(devfn) && bus->devices[devfn & ~7])
        return vireo_fail(error, VIREO_ERROR_BUSY, "device %s: PCI: slot %u function 0 is there already, the guest would not see function %u: plug "
                          "function 0 last", d->name, PCI_SLOT(devfn), PCI_FUNC(devfn));
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

static void plugged(struct device *owner)
{
    struct pci_device *d = owner->bus_data;
    if (d->bus->ops && d->bus->ops->plugged)
        d->bus->ops->plugged(d->bus, d);
}

static bool unplug(struct device *owner, GError **error)
{
    struct pci_device *d = owner->bus_data;
    if (d->bus->ops && d->bus->ops->unplug)
        return d->bus->ops->unplug(d->bus, d, error);
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Bus '%s' does not support hotplugging", d->bus->name);
}

static const struct device_bus_ops bus_ops = { plugged, unplug };

struct pci_device *pci_function(const struct device *owner)
{
    return owner->bus_ops == &bus_ops ? owner->bus_data : NULL;
}

static bool may_plug(struct pci_bus *bus, struct pci_device *d, GError **error)
{
    if (!d->owner->hotplugged)
        return true;
    if (bus->ops && bus->ops->may_plug)
        return bus->ops->may_plug(bus, d, error);
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Bus '%s' does not support hotplugging; name the bus of a pcie-root-port with bus=ID", bus->name);
}

bool pci_device_plug(struct pci_device *d, struct machine *m, int devfn, GError **error)
{
    const char *name = d->owner->bus;
    if (!m->pci)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s needs a PCI bus, and this machine has none; use a -device form "
                          "that ends in '-device' here, or -M q35", d->name);
    struct pci_bus *bus = name ? pci_bus_find(m->pci, name) : m->pci;
    if (!bus)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Bus '%s' not found; a bus has the id of its bridge (-device pcie-root-port,id=...), which "
                          "comes first", name);
    if (!may_plug(bus, d, error) || !pci_rom_realize(d, m, error))
        return false;
    pci_lock(bus);
    bool ok = take_slot(bus, d, devfn, error);
    if (ok) {
        d->bus = bus;
        d->plugged = true;
        d->owner->bus_data = d;
        d->owner->bus_ops = &bus_ops;
        if (d->owner->multifunction)
            d->config[PCI_REG_HEADER_TYPE] |= 0x80;
        settle_express(d);
        memcpy(d->initial, d->config, sizeof(d->initial));
        bus->devices[d->devfn] = d;
        mark_multifunction(bus, PCI_SLOT(d->devfn));
    }
    pci_unlock(bus);
    return ok;
}

void pci_device_detach(struct pci_device *d)
{
    if (!d->plugged)
        return;
    pci_device_reset(d);
    pci_lock(d->bus);
    d->bus->devices[d->devfn] = NULL;
    d->plugged = false;
    pci_unlock(d->bus);
}

void pci_device_unplug(struct pci_device *d)
{
    pci_device_detach(d);
    pci_irq_finish(d);
    g_mutex_clear(&d->irq_lock);
}

void pci_device_reset(struct pci_device *d)
{
    if (!d->plugged)
        return;
    pci_lock(d->bus);
    memcpy(d->config, d->initial, sizeof(d->config));
    pci_irq_reset(d);
    pci_update_windows(d);
    if (d->changed)
        d->changed(d);
    pci_unlock(d->bus);
}

/* ---- names for firmware (IEEE 1275, PCI bus binding) ---- */

struct pci_device *pci_bus_function_of(struct pci_bus *bus, const struct device *owner)
{
    struct pci_device *found = NULL;
    for (struct pci_device *d = pci_bus_next(bus, NULL); d && !found; d = pci_bus_next(bus, d))
        found = d->owner == owner ? d : d->secondary ? pci_bus_function_of(d->secondary, owner) : NULL;
    return found;
}

static const char *firmware_name(const struct pci_device *d)
{
    if (d->secondary)
        return "pci-bridge";
    switch (d->config[PCI_REG_CLASS + 2]) {
    case 0x01:
        return "scsi";
    case 0x02:
        return "ethernet";
    case 0x0c:
        return d->config[PCI_REG_CLASS + 1] == 3 ? "usb" : "device";
    default:
        return "device";
    }
}

char *pci_firmware_path(const struct pci_device *d)
{
    struct pci_device *bridge = pci_bus_bridge(d->bus);
    g_autofree char *above = bridge ? pci_firmware_path(bridge) : g_strdup("/pci@i0cf8");
    unsigned slot = PCI_SLOT((unsigned)d->devfn), function = PCI_FUNC((unsigned)d->devfn);
    return function ? g_strdup_printf("%s/%s@%x,%x", above, firmware_name(d), slot, function) : g_strdup_printf("%s/%s@%x", above, firmware_name(d), slot);
}
