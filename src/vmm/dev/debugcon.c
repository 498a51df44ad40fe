/* SPDX-License-Identifier: GPL-2.0-or-later */
/* isa-debugcon: one port; a byte written goes to a character back end, a read gives a fixed value that tells it is there. */
#include "base/error.h"
#include "vmm/core/chardev.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

struct debugcon {
    struct device dev;
    char *chardev;
    uint64_t iobase, readback;
    struct chardev *host;
    struct io_window window;
};

static uint64_t debugcon_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct debugcon *)opaque)->readback;
}

static void debugcon_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct debugcon *s = opaque;
    uint8_t byte = (uint8_t)value;
    if (s->host)
        chardev_write(s->host, &byte, 1);
}

static const struct io_ops debugcon_ops = { debugcon_read, debugcon_write, 1, 1 };

static size_t no_room(void *opaque)
{
    return 0;
}

static void no_receive(void *opaque, const uint8_t *data, size_t n)
{
}

static const struct chardev_handlers host_handlers = { no_room, no_receive };

static bool debugcon_realize(struct device *d, GError **error)
{
    struct debugcon *s = (struct debugcon *)d;
    if (!s->chardev)
        return vireo_fail(error, VIREO_ERROR_INVALID, "isa-debugcon: Can't create serial device, empty char device; add chardev=ID");
    s->host = g_hash_table_lookup(d->machine->chardevs, s->chardev);
    if (!s->host)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "isa-debugcon: there is no chardev '%s'", s->chardev);
    if (!chardev_attach(s->host, &host_handlers, s, error))
        return false;
    s->window = (struct io_window){ .name = "debugcon", .ops = &debugcon_ops, .opaque = s, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &s->window, s->iobase);
    return true;
}

static void debugcon_unrealize(struct device *d)
{
    struct debugcon *s = (struct debugcon *)d;
    io_window_unmap(d->machine->memory, &s->window);
    chardev_detach(s->host);
}

static const struct device_prop props[] = {
    { "chardev", PROP_CHARDEV, offsetof(struct debugcon, chardev), .help = "character back end" },
    { "iobase", PROP_UINT, offsetof(struct debugcon, iobase), 1, 0xffff, .def = "0xe9", .help = "I/O port" },
    { "readback", PROP_UINT, offsetof(struct debugcon, readback), 0, 0xff, .def = "0xe9", .help = "what a read gives" },
    { NULL }
};

extern const struct device_class isa_debugcon_class;
const struct device_class isa_debugcon_class = {
    .name = "isa-debugcon", .help = "debug console port", .bus = DEV_BUS_ISA, .size = sizeof(struct debugcon), .props = props,
    .user_creatable = true, .stateless = true, .realize = debugcon_realize, .unrealize = debugcon_unrealize,
};
