/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic: one port by which a guest says that it has panicked (bit 0) or has loaded its crash kernel (bit 1). A read gives
 * the events that the device takes (QEMU docs/specs/pvpanic.txt).
 */
#include "base/log.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

enum { PVPANIC_PANICKED = 1, PVPANIC_CRASH_LOADED = 2 };

struct pvpanic {
    struct device dev;
    uint64_t ioport, events;
    struct io_window window;
};

static uint64_t pvpanic_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct pvpanic *)opaque)->events;
}

static void pvpanic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pvpanic *s = opaque;
    if (value & ~(uint64_t)(PVPANIC_PANICKED | PVPANIC_CRASH_LOADED))
        log_at(LOG_GUEST_ERRORS, "pvpanic: unknown event 0x%x", (unsigned)value);
    if (value & s->events & PVPANIC_PANICKED)
        machine_guest_panicked(s->dev.machine);
    else if (value & s->events & PVPANIC_CRASH_LOADED)
        machine_guest_crashloaded(s->dev.machine);
}

static const struct io_ops pvpanic_ops = { pvpanic_read, pvpanic_write, 1, 1 };

static bool pvpanic_realize(struct device *d, GError **error)
{
    struct pvpanic *s = (struct pvpanic *)d;
    s->window = (struct io_window){ .name = "pvpanic", .ops = &pvpanic_ops, .opaque = s, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &s->window, s->ioport);
    return true;
}

static void pvpanic_unrealize(struct device *d)
{
    io_window_unmap(d->machine->memory, &((struct pvpanic *)d)->window);
}

static const struct device_prop props[] = {
    { "ioport", PROP_UINT, offsetof(struct pvpanic, ioport), 1, 0xffff, .def = "0x505", .help = "I/O port" },
    { "events", PROP_UINT, offsetof(struct pvpanic, events), 0, 3, .def = "3", .help = "events taken: 1 panicked, 2 crash kernel loaded" },
    { NULL }
};

extern const struct device_class pvpanic_class;
const struct device_class pvpanic_class = {
    .name = "pvpanic", .help = "the guest reports a panic", .bus = DEV_BUS_ISA, .size = sizeof(struct pvpanic), .props = props,
    .user_creatable = true, .stateless = true, .realize = pvpanic_realize, .unrealize = pvpanic_unrealize,
};
