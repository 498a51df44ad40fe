/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window A0000h to BFFFFh: four planes behind latches, and the graphics controller's ways of reading and writing them (IBM PS/2 Hardware
 * Interface Technical Reference, Video Subsystems: Graphics Controller registers). */
#include "vmm/dev/vga/vga.h"

enum { SEQ_MASK = 2, SEQ_MEMORY = 4 };                                         /* sequencer */
enum { SET_RESET, ENABLE_SET_RESET, COMPARE, ROTATE, READ_MAP, MODE, MISC, DONT_CARE, BIT_MASK }; /* graphics controller */
enum { MEMORY_SEQUENTIAL = 4, MEMORY_CHAIN4 = 8 };
enum { MISC_RAM = 2 };
#define NOWHERE UINT32_MAX

/* What the window's byte is for the planes. */
struct place {
    uint32_t offset; /* in each plane */
    uint8_t planes;  /* that a write may reach */
    uint8_t plane;   /* that a read gives */
};

/* Memory map select: the address within the part of the window that is decoded. */
static uint32_t decode(const struct vga *v, uint32_t a)
{
    static const struct { uint32_t start, size; } maps[] = { { 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 } };
    unsigned map = v->gfx[MISC] >> 2 & 3;
    return (v->misc & MISC_RAM) && a - maps[map].start < maps[map].size ? a - maps[map].start : NOWHERE;
}

/* Expand each of the four bits to a byte. */
static uint32_t spread(unsigned bits)
{
    return (bits & 1 ? 0xffu : 0) | (bits & 2 ? 0xff00u : 0) | (bits & 4 ? 0xff0000u : 0) | (bits & 8 ? 0xff000000u : 0);
}

static bool linear_window(const struct vga *v)
{
    return (v->dispi[DISPI_ENABLE] & DISPI_ENABLED) && v->dispi[DISPI_BPP] > 4;
}

/* The byte of vram in a large mode with banks of 64 KiB. */
static uint32_t banked(const struct vga *v, uint32_t a)
{
    uint64_t at = ((uint64_t)v->dispi[DISPI_BANK] << 16) + a;
    return a < 0x10000 && at < v->vram_size ? (uint32_t)at : NOWHERE;
}

static bool find(const struct vga *v, uint32_t a, struct place *ret)
{
    a = decode(v, a);
    if (a == NOWHERE)
        return false;
    bool large = v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
    if (large)
        a += (uint32_t)v->dispi[DISPI_BANK] << 16;
    uint8_t select = v->gfx[READ_MAP] & 3;
    if (v->seq[SEQ_MEMORY] & MEMORY_CHAIN4)
        *ret = (struct place){ a >> 2, (uint8_t)(1u << (a & 3)), a & 3 };
    else if (!(v->seq[SEQ_MEMORY] & MEMORY_SEQUENTIAL))
        *ret = (struct place){ a >> 1, a & 1 ? 0xa : 5, v->gfx[MODE] & 0x10 ? (uint8_t)((select & 2) | (a & 1)) : select };
    else
        *ret = (struct place){ large ? a : a & 0xffff, 0xf, select };
    return ret->offset < v->vram_size / 4;
}

static uint32_t load(const struct vga *v, uint32_t offset)
{
    const uint8_t *p = v->vram + 4 * (size_t)offset;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t latched(const struct vga *v)
{
    return v->latch[0] | (uint32_t)v->latch[1] << 8 | (uint32_t)v->latch[2] << 16 | (uint32_t)v->latch[3] << 24;
}

/* Read mode 1: a bit is set where the pixel has the colour that is looked for, in the planes that matter. */
static uint8_t compare(const struct vga *v, uint32_t planes)
{
    uint32_t differ = (planes ^ spread(v->gfx[COMPARE])) & spread(v->gfx[DONT_CARE]);
    differ |= differ >> 16;
    return (uint8_t)~(differ | differ >> 8);
}

uint8_t vga_mem_read(struct vga *v, uint32_t a)
{
    struct place p;
    if (linear_window(v)) {
        uint32_t at = banked(v, a);
        return at == NOWHERE ? 0xff : v->vram[at];
    }
    if (!find(v, a, &p))
        return 0xff;
    uint32_t planes = load(v, p.offset);
    for (unsigned i = 0; i < 4; i++)
        v->latch[i] = (uint8_t)(planes >> 8 * i);
    return v->gfx[MODE] & 8 ? compare(v, planes) : v->latch[p.plane];
}

static uint8_t rotated(const struct vga *v, uint8_t value)
{
    unsigned n = v->gfx[ROTATE] & 7;
    return (uint8_t)(value >> n | value << (8 - n));
}

/* What the four planes get, and by *mask which bits of it: the write modes. */
static uint32_t data_of(const struct vga *v, uint8_t value, uint8_t *mask)
{
    uint32_t enable = spread(v->gfx[ENABLE_SET_RESET]), set = spread(v->gfx[SET_RESET]);
    *mask = v->gfx[BIT_MASK];
    switch (v->gfx[MODE] & 3) {
    case 0:
        return (rotated(v, value) * 0x01010101u & ~enable) | (set & enable);
    case 2:
        return spread(value);
    default: /* 3 */
        *mask &= rotated(v, value);
        return set;
    }
}

static uint32_t combine(const struct vga *v, uint32_t data, uint32_t latch)
{
    switch (v->gfx[ROTATE] >> 3 & 3) {
    case 1:
        return data & latch;
    case 2:
        return data | latch;
    case 3:
        return data ^ latch;
    default:
        return data;
    }
}

void vga_mem_write(struct vga *v, uint32_t a, uint8_t value)
{
    struct place p;
    v->touched = true;
    if (linear_window(v)) {
        uint32_t at = banked(v, a);
        if (at != NOWHERE)
            v->vram[at] = value;
        return;
    }
    if (!find(v, a, &p))
        return;
    uint32_t latch = latched(v), data = latch;
    if ((v->gfx[MODE] & 3) != 1) {
        uint8_t mask;
        data = combine(v, data_of(v, value, &mask), latch);
        data = (data & mask * 0x01010101u) | (latch & ~(mask * 0x01010101u));
    }
    for (unsigned i = 0; i < 4; i++)
        if (p.planes & v->seq[SEQ_MASK] & 1u << i)
            v->vram[4 * (size_t)p.offset + i] = (uint8_t)(data >> 8 * i);
}
