/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port 0x80, where firmware writes its progress codes and Linux writes to wait a moment ("io_delay"). Writes do nothing;
 * the board makes one so that they are no access to a port that nobody has.
 */
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

struct port80 {
    struct device dev;
    uint8_t last;
    struct io_window window;
};

static uint64_t port80_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct port80 *)opaque)->last;
}

static void port80_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    ((struct port80 *)opaque)->last = (uint8_t)value;
}

static const struct io_ops port80_ops = { port80_read, port80_write, 1, 1 };

static void port80_reset(struct device *d)
{
    ((struct port80 *)d)->last = 0;
}

static bool port80_realize(struct device *d, GError **error)
{
    struct port80 *s = (struct port80 *)d;
    s->window = (struct io_window){ .name = "port80", .ops = &port80_ops, .opaque = s, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &s->window, 0x80);
    return true;
}

static void port80_unrealize(struct device *d)
{
    io_window_unmap(d->machine->memory, &((struct port80 *)d)->window);
}

static const struct device_field fields[] = { DEVICE_FIELD(struct port80, last), { NULL } };

extern const struct device_class port80_class;
const struct device_class port80_class = {
    .name = "port80", .help = "diagnostic port 0x80", .bus = DEV_BUS_NONE, .size = sizeof(struct port80), .fields = fields,
    .realize = port80_realize, .reset = port80_reset, .unrealize = port80_unrealize,
};
