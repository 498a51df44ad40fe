/* SPDX-License-Identifier: GPL-2.0-or-later */
/* isa-debug-exit: the guest ends the process with exit status (value << 1) | 1; for tests. */
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

struct debug_exit {
    struct device dev;
    uint64_t iobase, iosize;
    struct io_window window;
};

static uint64_t debug_exit_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_exit *s = opaque;
    machine_request_exit(s->dev.machine, (int)((value << 1 | 1) & 0xff));
}

static const struct io_ops debug_exit_ops = { debug_exit_read, debug_exit_write, 1, 4 };

static bool debug_exit_realize(struct device *d, GError **error)
{
    struct debug_exit *s = (struct debug_exit *)d;
    s->window = (struct io_window){ .name = "debug-exit", .ops = &debug_exit_ops, .opaque = s, .lock = &d->lock, .size = s->iosize, .port = true };
    io_window_map(d->machine->memory, &s->window, s->iobase);
    return true;
}

static void debug_exit_unrealize(struct device *d)
{
    io_window_unmap(d->machine->memory, &((struct debug_exit *)d)->window);
}

static const struct device_prop props[] = {
    { "iobase", PROP_UINT, offsetof(struct debug_exit, iobase), 1, 0xffff, .def = "0x501", .help = "first I/O port" },
    { "iosize", PROP_UINT, offsetof(struct debug_exit, iosize), 1, 8, .def = "2", .help = "number of ports" },
    { NULL }
};

extern const struct device_class isa_debug_exit_class;
const struct device_class isa_debug_exit_class = {
    .name = "isa-debug-exit", .help = "port that ends the process", .bus = DEV_BUS_ISA, .size = sizeof(struct debug_exit), .props = props,
    .user_creatable = true, .stateless = true, .realize = debug_exit_realize, .unrealize = debug_exit_unrealize,
};
