/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The BAR with registers: EDID at 0, VGA's ports from 3C0h on at 400h, the Bochs extensions at 500h, at 600h two registers for the byte order
 * (QEMU's specification "standard VGA"). */
#include "vmm/dev/vga/vga.h"
#include "vmm/display/edid.h"

enum { AT_VGA = 0x400, AT_DISPI = 0x500, AT_EXTENDED = 0x600 };
enum { VGA_PORTS = 0x20, FIRST_PORT = 0x3c0, EXTENDED_SIZE = 8 };
#define LITTLE 0x1e1e1e1eu
#define BIG 0xbebebebeu

static uint64_t edid_read(const struct vga *v, unsigned at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(v->edid && at + i < EDID_SIZE ? v->edid[at + i] : 0) << 8 * i;
    return value;
}

static uint64_t registers_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *v = opaque;
    unsigned at = (unsigned)offset;
    uint64_t value = 0;
    if (at < AT_VGA)
        return edid_read(v, at, size);
    if (at < AT_VGA + VGA_PORTS && v->legacy) {
        for (unsigned i = 0; i < MIN(size, 2u); i++)
            value |= (uint64_t)vga_port_read(v, FIRST_PORT + at - AT_VGA + i) << 8 * i;
        return value;
    }
    if (at >= AT_DISPI && at < AT_DISPI + 2 * VGA_NDISPI && size == 2)
        return vga_dispi_read(v, (at - AT_DISPI) / 2);
    if (at == AT_EXTENDED && size == 4)
        return EXTENDED_SIZE;
    if (at == AT_EXTENDED + 4 && size == 4)
        return v->big_endian ? BIG : LITTLE;
    return 0;
}

static void registers_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *v = opaque;
    unsigned at = (unsigned)offset;
    if (at >= AT_VGA && at < AT_VGA + VGA_PORTS && v->legacy) {
        for (unsigned i = 0; i < MIN(size, 2u); i++)
            vga_port_write(v, FIRST_PORT + at - AT_VGA + i, (uint8_t)(value >> 8 * i));
    } else if (at >= AT_DISPI && at < AT_DISPI + 2 * VGA_NDISPI && size == 2) {
        vga_dispi_write(v, (at - AT_DISPI) / 2, (uint16_t)value);
    } else if (at == AT_EXTENDED + 4 && size == 4 && (value == BIG || value == LITTLE)) {
        v->big_endian = value == BIG;
        v->touched = true;
    }
}

const struct io_ops vga_register_ops = { registers_read, registers_write, 1, 4 };
