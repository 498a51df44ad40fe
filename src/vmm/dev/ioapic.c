/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/ioapic.h"

#include "vmm/core/irqchip.h"
#include "vmm/core/machine.h"

#define RTE_REMOTE_IRR 0x4000u
#define RTE_STATUS     0x1000u
#define RTE_LEVEL      0x8000u
#define RTE_MASKED     0x10000u

struct ioapic {
    struct device dev; /* its lock is taken before that of a local APIC */
    struct io_window window;
    uint8_t select, id;
    uint8_t level[IOAPIC_PINS];
    uint64_t rte[IOAPIC_PINS];
};

/* The message of a redirection entry is that of an MSI (82093AA 3.2.4, SDM vol. 3, 10.11). */
static uint64_t message_address(uint64_t e) { return 0xfee00000ull | (e >> 56) << 12 | (e >> 11 & 1) << 2; }
static uint32_t message_data(uint64_t e) { return (uint32_t)(e & 0x87ff) | 1u << 14; }

/* With the local APICs in the accelerator and this outside, it has to know what an end of interrupt belongs to. */
static void show_route_locked(struct ioapic *io, unsigned pin)
{
    uint64_t e = io->rte[pin];
    machine_ioapic_route(io->dev.machine, pin, message_address(e), message_data(e), e & RTE_MASKED);
}

static void service_locked(struct ioapic *io, unsigned pin)
{
    uint64_t e = io->rte[pin];
    if (!io->level[pin] || (e & RTE_MASKED) || ((e & RTE_LEVEL) && (e & RTE_REMOTE_IRR)))
        return;
    if (e & RTE_LEVEL)
        io->rte[pin] |= RTE_REMOTE_IRR;
    struct msi_sink *msi = &io->dev.machine->msi;
    if (msi->send)
        msi->send(msi->opaque, message_address(e), message_data(e));
}

static void ioapic_set(void *opaque, unsigned pin, bool level)
{
    struct ioapic *io = opaque;
    g_mutex_lock(&io->dev.lock);
    bool was = io->level[pin];
    io->level[pin] = level;
    if (level && (!was || (io->rte[pin] & RTE_LEVEL)))
        service_locked(io, pin);
    g_mutex_unlock(&io->dev.lock);
}

static void eoi_locked(struct ioapic *io, unsigned vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = io->rte[pin];
        if ((e & 0xff) == vector && (e & RTE_LEVEL) && (e & RTE_REMOTE_IRR)) {
            io->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
            service_locked(io, pin);
        }
    }
}

static void ioapic_eoi(void *opaque, unsigned vector, bool level)
{
    struct ioapic *io = opaque;
    g_mutex_lock(&io->dev.lock);
    eoi_locked(io, vector);
    g_mutex_unlock(&io->dev.lock);
}

static uint32_t reg_read(const struct ioapic *io)
{
    unsigned r = io->select;
    if (r == 0 || r == 2)
        return (uint32_t)io->id << 24;
    if (r == 1)
        return (IOAPIC_PINS - 1) << 16 | 0x20;
    if (r >= 0x10 && r < 0x10 + 2 * IOAPIC_PINS)
        return (uint32_t)(io->rte[(r - 0x10) / 2] >> (r & 1) * 32);
    return 0xffffffff;
}

static void reg_write(struct ioapic *io, uint32_t value)
{
    unsigned r = io->select;
    if (r == 0)
        io->id = value >> 24 & 15;
    if (r < 0x10 || r >= 0x10 + 2 * IOAPIC_PINS)
        return;
    unsigned pin = (r - 0x10) / 2;
    uint64_t e = io->rte[pin];
    if (r & 1) {
        io->rte[pin] = (e & 0xffffffff) | (uint64_t)value << 32;
        show_route_locked(io, pin);
        return;
    }
    e = (e & ~0xffffffffull) | (value & 0x1afff) | (e & RTE_REMOTE_IRR);
    if (!(e & RTE_LEVEL))
        e &= ~(uint64_t)RTE_REMOTE_IRR;
    io->rte[pin] = e;
    show_route_locked(io, pin);
    if (e & RTE_LEVEL)
        service_locked(io, pin); /* an edge that came while masked is lost (82093AA 3.2.4, interrupt mask) */
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ioapic *io = opaque;
    switch (offset) {
    case 0x00: return io->select;
    case 0x10: return reg_read(io);
    default: return 0;
    }
}

static void window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *io = opaque;
    switch (offset) {
    case 0x00:
        io->select = (uint8_t)value;
        break;
    case 0x10:
        reg_write(io, (uint32_t)value);
        break;
    case 0x40:
        eoi_locked(io, value & 0xff);
        break;
    }
}

static const struct io_ops window_ops = { window_read, window_write, 1, 4 };

static void ioapic_reset(struct device *d)
{
    struct ioapic *io = (struct ioapic *)d;
    g_mutex_lock(&d->lock);
    io->select = io->id = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        io->rte[i] = RTE_MASKED;
        show_route_locked(io, i);
    }
    g_mutex_unlock(&d->lock);
}

void ioapic_state_get(struct device *d, struct x86_ioapic *ret)
{
    struct ioapic *io = (struct ioapic *)d;
    g_mutex_lock(&d->lock);
    *ret = (struct x86_ioapic){ .id = io->id, .select = io->select };
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        ret->level |= (uint32_t)io->level[i] << i;
        ret->redirection[i] = io->rte[i];
    }
    g_mutex_unlock(&d->lock);
}

void ioapic_state_set(struct device *d, const struct x86_ioapic *s)
{
    struct ioapic *io = (struct ioapic *)d;
    g_mutex_lock(&d->lock);
    io->id = s->id & 15;
    io->select = (uint8_t)s->select;
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        io->level[i] = s->level >> i & 1;
        io->rte[i] = s->redirection[i] & (0xff00000000000000ull | 0x1afff | RTE_REMOTE_IRR);
        show_route_locked(io, i);
    }
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        if (io->rte[i] & RTE_LEVEL)
            service_locked(io, i); /* held high and not yet sent */
    }
    g_mutex_unlock(&d->lock);
}

static bool ioapic_realize(struct device *d, GError **error)
{
    struct ioapic *io = (struct ioapic *)d;
    io->window = (struct io_window){ .name = "ioapic", .ops = &window_ops, .opaque = io, .lock = &d->lock, .size = 0x1000 };
    io_window_map(d->machine->memory, &io->window, IOAPIC_BASE);
    return true;
}

static void ioapic_unrealize(struct device *d)
{
    io_window_unmap(d->machine->memory, &((struct ioapic *)d)->window);
}

/* No table of fields: its state moves in the canonical form (vmm/core/irqchip.h), whoever does its work. */
static const struct device_class ioapic_class = {
    .name = "ioapic", .help = "I/O APIC", .size = sizeof(struct ioapic),
    .realize = ioapic_realize, .reset = ioapic_reset, .unrealize = ioapic_unrealize, .stateless = true,
};

struct device *ioapic_create(struct machine *m, GError **error)
{
    struct device *d = device_create(m, &ioapic_class);
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    ioapic_reset(d);
    return d;
}

struct irq_line ioapic_line(struct device *d, unsigned pin)
{
    return (struct irq_line){ ioapic_set, d, pin };
}

struct irq_line ioapic_eoi_line(struct device *d)
{
    return (struct irq_line){ ioapic_eoi, d, 0 };
}
