/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VGA against IBM's description of it: planes, modes, pictures; and against a guest that writes anything anywhere. */
#include "vmm/dev/vga/vga.h"

#include <string.h>

#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/display/display.h"
#include "vmm/display/edid.h"

enum { VRAM = 4 << 20 };

struct rig {
    struct machine *m;
    struct device dev;
    struct vga v;
    uint8_t *vram;
};
static const struct device_class test_class = { .name = "VGA" };

static void setup(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    r->m = machine_create(g_new0(struct machine_config, 1));
    r->dev = (struct device){ .class = &test_class, .machine = r->m };
    g_mutex_init(&r->dev.lock);
    r->vram = guest_memory_alloc(r->m->memory, "vram", VRAM, NULL);
    vga_init(&r->v, &r->dev, r->vram, VRAM, true);
    g_assert_true(display_claim(display_of(r->m), "VGA", NULL));
    vga_attach(&r->v, display_of(r->m));
    vga_reset(&r->v);
}

static void teardown(struct rig *r)
{
    vga_detach(&r->v);
    display_release(display_of(r->m));
    vga_finish(&r->v);
    machine_destroy(r->m);
    g_mutex_clear(&r->dev.lock);
}

static void out(struct rig *r, unsigned port, unsigned value) { guest_io_write(r->m->memory, true, port, 1, value); }
static void out16(struct rig *r, unsigned port, unsigned value) { guest_io_write(r->m->memory, true, port, 2, value); }
static unsigned in(struct rig *r, unsigned port) { return (unsigned)guest_io_read(r->m->memory, true, port, 1); }
static void poke(struct rig *r, unsigned address, unsigned value) { guest_io_write(r->m->memory, false, address, 1, value); }
static unsigned peek(struct rig *r, unsigned address) { return (unsigned)guest_io_read(r->m->memory, false, address, 1); }
static void gfx(struct rig *r, unsigned index, unsigned value) { out16(r, 0x3ce, index | value << 8); }
static void seq(struct rig *r, unsigned index, unsigned value) { out16(r, 0x3c4, index | value << 8); }

/* ---- modes, as IBM's BIOS sets them ---- */

struct mode { uint8_t misc, seq[4], crtc[25], gfx[9], attr[20]; };
static const struct mode text80 = {
    0x67, { 0x00, 0x03, 0x00, 0x02 },
    { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff },
    { 0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff },
    { 0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0, 0x0f, 8 },
};
static const struct mode mode04 = {
    0x63, { 0x09, 0x03, 0x00, 0x02 },
    { 0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xa2, 0xff },
    { 0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff },
    { 0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 1, 0, 3, 0 },
};
static const struct mode mode06 = {
    0x63, { 0x01, 0x01, 0x00, 0x06 },
    { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0, 0x96, 0xb9, 0xc2, 0xff },
    { 0, 0, 0, 0, 0, 0, 0x0d, 0, 0xff },
    { 0, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 1, 0, 1, 0 },
};
static const struct mode mode12 = {
    0xe3, { 0x01, 0x0f, 0x00, 0x06 },
    { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0, 0xe7, 0x04, 0xe3, 0xff },
    { 0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff },
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 0, 0x0f, 0 },
};
static const struct mode mode13 = {
    0x63, { 0x01, 0x0f, 0x00, 0x0e },
    { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff },
    { 0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff },
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0, 0x0f, 0 },
};

static void set_mode(struct rig *r, const struct mode *m)
{
    out(r, 0x3c2, m->misc);
    for (unsigned i = 0; i < 4; i++)
        seq(r, i + 1, m->seq[i]);
    out16(r, 0x3d4, 0x11);
    for (unsigned i = 0; i < 25; i++)
        out16(r, 0x3d4, i | (unsigned)m->crtc[i] << 8);
    for (unsigned i = 0; i < 9; i++)
        gfx(r, i, m->gfx[i]);
    in(r, 0x3da);
    for (unsigned i = 0; i < 20; i++) {
        out(r, 0x3c0, i);
        out(r, 0x3c0, m->attr[i]);
    }
    out(r, 0x3c0, 0x20);
    out(r, 0x3c8, 0); /* colour i: red i, green 63 - i, blue i / 2 */
    for (unsigned i = 0; i < 256; i++) {
        out(r, 0x3c9, i & 63);
        out(r, 0x3c9, 63 - (i & 63));
        out(r, 0x3c9, (i & 63) / 2);
    }
}

static uint32_t wide(unsigned six) { return six << 2 | six >> 4; }
static uint32_t dac(unsigned i) { return wide(i & 63) << 16 | wide(63 - (i & 63)) << 8 | wide((i & 63) / 2); }

static uint32_t pixel(struct rig *r, unsigned x, unsigned y)
{
    const struct display_picture *p = display_lock(r->v.display);
    uint32_t c = x < p->width && y < p->height ? p->pixels[(size_t)y * p->width + x] : 0xdeadbeef;
    display_unlock(r->v.display);
    return c;
}

static void check_size(struct rig *r, unsigned width, unsigned height)
{
    vga_refresh(&r->v);
    const struct display_picture *p = display_lock(r->v.display);
    g_assert_cmpuint(p->width, ==, width);
    g_assert_cmpuint(p->height, ==, height);
    display_unlock(r->v.display);
}

/* What the screen shows at some places, by the colour's number. */
struct dot { unsigned x, y, colour; };
#define check_dots(r, ...) check_all_dots(r, (const struct dot[]){ __VA_ARGS__ }, sizeof((const struct dot[]){ __VA_ARGS__ }) / sizeof(struct dot))

static void check_all_dots(struct rig *r, const struct dot *dots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t is = pixel(r, dots[i].x, dots[i].y), wanted = dac(dots[i].colour);
        if (is != wanted)
            g_error("the dot at %u, %u is %06x, not colour %u (%06x)", dots[i].x, dots[i].y, is, dots[i].colour, wanted);
    }
}

/* ---- tests ---- */

static void test_text(struct rig *r)
{
    /* the glyph of 'A' and of a line graphics character, as a BIOS loads them: plane 2, one address after the other */
    seq(r, 2, 4), seq(r, 4, 7), gfx(r, 5, 0), gfx(r, 6, 0);
    poke(r, 0xa0000 + 'A' * 32 + 3, 0x81);
    poke(r, 0xa0000 + 0xc4 * 32 + 7, 0xff);
    poke(r, 0xa4000 + 'A' * 32 + 5, 0xff);
    seq(r, 2, 3), seq(r, 4, 3), gfx(r, 5, 0x10), gfx(r, 6, 0x0e);
    poke(r, 0xb8000 + 2 * 81, 'A'); /* row 1, column 1 */
    poke(r, 0xb8001 + 2 * 81, 0x1e);
    poke(r, 0xb8000 + 2 * 82, 0xc4);
    poke(r, 0xb8001 + 2 * 82, 0x9a); /* blinking: no bright background */
    g_assert_cmphex(peek(r, 0xb8000 + 2 * 81), ==, 'A');
    g_assert_cmphex(peek(r, 0xb8001 + 2 * 81), ==, 0x1e);
    check_size(r, 720, 400);
    enum { PAPER = 1, INK = 0x3e };
    check_dots(r, { 9, 19, INK }, { 10, 19, PAPER }, { 16, 19, INK }, { 17, 19, PAPER }, /* the ninth dot */
               { 9, 18, PAPER }, { 9, 21, PAPER }, { 26, 22, PAPER }, { 26, 23, 0x3a } /* of a line: it goes on */);
    /* cursor at row 1, column 3: lines 13 and 14 */
    out16(r, 0x3d4, 0x0e), out16(r, 0x3d4, 0x0f | 83 << 8);
    poke(r, 0xb8001 + 2 * 83, 0x07);
    vga_refresh(&r->v);
    check_dots(r, { 27, 29, 7 }, { 35, 30, 7 }, { 27, 28, 0 });
    /* two character sets: bit 3 of the attribute chooses */
    seq(r, 3, 4);
    vga_refresh(&r->v);
    check_dots(r, { 9, 19, PAPER }, { 9, 21, INK });
    /* scrolled by a row */
    out16(r, 0x3d4, 0x0d | 80 << 8);
    vga_refresh(&r->v);
    check_dots(r, { 9, 5, INK });
    /* the screen is switched off */
    in(r, 0x3da), out(r, 0x3c0, 0);
    vga_refresh(&r->v);
    g_assert_cmphex(pixel(r, 9, 5), ==, 0);
}

static void test_cga_four_colours(struct rig *r)
{
    poke(r, 0xb8000, 0x1b);            /* pixels 0 to 3: 0 1 2 3 */
    poke(r, 0xb8001, 0xc0);            /* pixel 4: 3 */
    poke(r, 0xb8000 + 0x2000 + 80, 0x40); /* odd lines lie 2000h higher: line 3, pixel 0: 1 */
    check_size(r, 640, 400);
    check_dots(r, { 0, 0, 0 }, { 2, 1, 0x13 }, { 5, 0, 0x15 }, { 6, 0, 0x17 }, { 8, 0, 0x17 }, { 0, 6, 0x13 }, { 0, 7, 0x13 }, { 0, 8, 0 });
}

static void test_cga_two_colours(struct rig *r)
{
    poke(r, 0xb8000 + 1, 0x80);
    poke(r, 0xb8000 + 0x2000, 0x01);
    check_size(r, 640, 400);
    check_dots(r, { 8, 0, 0x17 }, { 9, 0, 0 }, { 7, 2, 0x17 });
}

static void test_planar_picture(struct rig *r)
{
    gfx(r, 5, 2); /* write mode 2: the byte is a colour */
    gfx(r, 8, 0x10);
    peek(r, 0xa0000 + 80 * 2 + 1);
    poke(r, 0xa0000 + 80 * 2 + 1, 9);
    check_size(r, 640, 480);
    check_dots(r, { 11, 2, 9 }, { 10, 2, 0 });
    in(r, 0x3da), out(r, 0x3c0, 0x33), out(r, 0x3c0, 3); /* three dots to the left */
    vga_refresh(&r->v);
    check_dots(r, { 8, 2, 9 });
    /* split screen: from line 101 on, memory from 0 again */
    out16(r, 0x3d4, 0x18 | 100 << 8), out16(r, 0x3d4, 0x07 | 0x2e00), out16(r, 0x3d4, 0x09);
    out16(r, 0x3d4, 0x11), out16(r, 0x3d4, 0x07 | 0x2e00);
    vga_refresh(&r->v);
    check_dots(r, { 8, 103, 9 });
}

static void test_mode13(struct rig *r)
{
    poke(r, 0xa0000 + 320 * 7 + 5, 77);
    g_assert_cmphex(peek(r, 0xa0000 + 320 * 7 + 5), ==, 77);
    check_size(r, 640, 400);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmphex(pixel(r, 10 + i % 2, 14 + i / 2), ==, dac(77));
    check_dots(r, { 9, 14, 0 }, { 10, 16, 0 });
    /* "mode X": the same picture by planes */
    seq(r, 4, 6), out16(r, 0x3d4, 0x14), out16(r, 0x3d4, 0x17 | 0xe300);
    seq(r, 2, 2);
    poke(r, 0xa0000 + 80 * 7 + 1, 78);
    vga_refresh(&r->v);
    check_dots(r, { 10, 14, 78 });
}

/* Independent of the program's own way: bit by bit, plane by plane, as the registers' description has it. */
static void model_write(const uint8_t g[9], unsigned planes, const uint8_t latch[4], uint8_t mem[4], uint8_t value)
{
    unsigned mode = g[5] & 3, rotate = g[3] & 7, function = g[3] >> 3 & 3;
    for (unsigned p = 0; p < 4; p++) {
        if (!(planes >> p & 1))
            continue;
        for (unsigned b = 0; b < 8; b++) {
            unsigned from = value >> (b + rotate) % 8 & 1, l = latch[p] >> b & 1, set = g[0] >> p & 1, bit, open = g[8] >> b & 1;
            bit = mode == 0 ? (g[1] >> p & 1 ? set : from) : mode == 2 ? value >> p & 1u : set;
            open = mode == 3 ? open & from : open;
            bit = function == 1 ? bit & l : function == 2 ? bit | l : function == 3 ? bit ^ l : bit;
            if (mode == 1 || !open)
                bit = l;
            mem[p] = (uint8_t)((mem[p] & ~(1u << b)) | bit << b);
        }
    }
}

static uint8_t model_read(const uint8_t g[9], const uint8_t mem[4])
{
    uint8_t value = 0;
    if (!(g[5] & 8))
        return mem[g[4] & 3];
    for (unsigned b = 0; b < 8; b++) {
        bool same = true;
        for (unsigned p = 0; p < 4; p++)
            same &= !(g[7] >> p & 1) || (mem[p] >> b & 1) == (g[2] >> p & 1);
        value |= (uint8_t)(same << b);
    }
    return value;
}

static void test_planes(struct rig *r)
{
    GRand *rand = g_rand_new_with_seed(3);
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t g[9], mem[4], latch[4], value = (uint8_t)g_rand_int(rand);
        unsigned planes = g_rand_int(rand) & 15, at = g_rand_int(rand) & 0xffff, from = g_rand_int(rand) & 0xffff;
        for (unsigned i = 0; i < 9; i++)
            g[i] = (uint8_t)g_rand_int(rand);
        g[5] &= 0x0b, g[6] = 5;
        for (unsigned i = 0; i < 9; i++)
            gfx(r, i, g[i]);
        seq(r, 2, planes);
        for (unsigned p = 0; p < 4; p++) {
            r->vram[4 * from + p] = (uint8_t)g_rand_int(rand);
            r->vram[4 * at + p] = (uint8_t)g_rand_int(rand);
        }
        memcpy(latch, r->vram + 4 * from, 4);
        memcpy(mem, r->vram + 4 * at, 4);
        g_assert_cmphex(peek(r, 0xa0000 + from), ==, model_read(g, latch));
        model_write(g, planes, latch, mem, value);
        poke(r, 0xa0000 + at, value);
        g_assert_cmpmem(r->vram + 4 * at, 4, mem, 4);
    }
    g_rand_free(rand);
}

static void test_registers(struct rig *r)
{
    out(r, 0x3d4, 0x13);
    g_assert_cmphex(in(r, 0x3d5), ==, 0x28);
    g_assert_cmphex(in(r, 0x3b5), ==, 0xff); /* not the monochrome address */
    out16(r, 0x3d4, 0x11 | 0x8e00);
    out16(r, 0x3d4, 0); /* protected */
    out(r, 0x3d4, 0);
    g_assert_cmphex(in(r, 0x3d5), ==, 0x5f);
    in(r, 0x3da), out(r, 0x3c0, 0x36); /* the display has the palette: index 16h is not it */
    g_assert_cmphex(in(r, 0x3c1), ==, 0);
    in(r, 0x3da), out(r, 0x3c0, 0x30);
    g_assert_cmphex(in(r, 0x3c1), ==, 0x0c);
    out(r, 0x3c7, 5);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmphex(in(r, 0x3c9), ==, 5 + i);
        g_assert_cmphex(in(r, 0x3c9), ==, 58 - i);
        g_assert_cmphex(in(r, 0x3c9), ==, (5 + i) / 2);
    }
    g_assert_cmphex(in(r, 0x3c7), ==, 3);
    g_assert_cmphex(in(r, 0x3cc), ==, 0x67);
    vga_reset(&r->v);
    g_assert_cmphex(in(r, 0x3cc), ==, 0);
}

static void dispi(struct rig *r, unsigned index, unsigned value)
{
    out16(r, 0x1ce, index);
    out16(r, 0x1cf, value);
}

static unsigned dispi_of(struct rig *r, unsigned index)
{
    out16(r, 0x1ce, index);
    return (unsigned)guest_io_read(r->m->memory, true, 0x1cf, 2);
}

static void set_dispi(struct rig *r, unsigned width, unsigned height, unsigned bpp)
{
    dispi(r, DISPI_ENABLE, 0);
    dispi(r, DISPI_XRES, width);
    dispi(r, DISPI_YRES, height);
    dispi(r, DISPI_BPP, bpp);
    dispi(r, DISPI_ENABLE, DISPI_ENABLED | DISPI_LFB);
}

static void test_dispi(struct rig *r)
{
    g_assert_cmphex(dispi_of(r, DISPI_ID), ==, 0xb0c5);
    g_assert_cmphex(dispi_of(r, DISPI_MEMORY_64K), ==, VRAM >> 16);
    dispi(r, DISPI_ENABLE, DISPI_GETCAPS);
    g_assert_cmpuint(dispi_of(r, DISPI_XRES), ==, DISPLAY_MAX_SIZE);
    g_assert_cmpuint(dispi_of(r, DISPI_BPP), ==, 32);

    static const struct { unsigned bpp, bytes; uint32_t value, shown; } rows[] = {
        { 8, 1, 9, 0 }, { 15, 2, 0x7c1f, 0xff00ff }, { 16, 2, 0x07e0, 0x00ff00 }, { 24, 3, 0x123456, 0x123456 }, { 32, 4, 0xff654321, 0x654321 },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        memset(r->vram, 0xff, VRAM);
        set_dispi(r, 640, 480, rows[i].bpp);
        g_assert_cmphex(r->vram[0], ==, 0); /* cleared */
        g_assert_cmphex(r->vram[640 * 480 * rows[i].bytes], ==, 0xff);
        memcpy(r->vram + (640 * 100 + 50) * rows[i].bytes, &rows[i].value, rows[i].bytes);
        check_size(r, 640, 480);
        g_assert_cmphex(pixel(r, 50, 100), ==, rows[i].bpp == 8 ? dac(9) : rows[i].shown);
        g_assert_cmphex(pixel(r, 51, 100), ==, rows[i].bpp == 8 ? dac(0) : 0);
    }
    /* a larger picture of which a part is shown */
    dispi(r, DISPI_VIRT_WIDTH, 800);
    dispi(r, DISPI_X_OFFSET, 10);
    dispi(r, DISPI_Y_OFFSET, 20);
    g_assert_cmpuint(dispi_of(r, DISPI_VIRT_HEIGHT), ==, VRAM / 3200);
    memcpy(r->vram + (800 * 21 + 12) * 4, "\x11\x22\x33", 4);
    vga_refresh(&r->v);
    g_assert_cmphex(pixel(r, 2, 1), ==, 0x332211);
    /* through the window, by banks */
    dispi(r, DISPI_BANK, 5);
    poke(r, 0xa0003, 0x5a);
    g_assert_cmphex(r->vram[5 * 65536 + 3], ==, 0x5a);
    g_assert_cmphex(peek(r, 0xa0003), ==, 0x5a);
    /* back to text */
    dispi(r, DISPI_ENABLE, 0);
    check_size(r, 720, 400);
}

static void test_8bit_dac(struct rig *r)
{
    set_dispi(r, 320, 200, 8);
    dispi(r, DISPI_ENABLE, DISPI_ENABLED | DISPI_8BIT_DAC);
    out(r, 0x3c8, 1), out(r, 0x3c9, 0x12), out(r, 0x3c9, 0xfe), out(r, 0x3c9, 0x81);
    r->vram[0] = 1;
    r->vram[1] = 63;
    check_size(r, 320, 200);
    g_assert_cmphex(pixel(r, 0, 0), ==, 0x12fe81);
    check_dots(r, { 1, 0, 63 });
}

/* Sizes and offsets that do not fit: what is shown lies in the memory. */
static void test_dispi_bounds(struct rig *r)
{
    static const uint16_t values[] = { 0, 1, 7, 8, 255, 640, 1024, 4095, 8192, 8193, 32768, 65535 };
    static const uint16_t bpps[] = { 0, 1, 4, 8, 15, 16, 24, 32, 33, 65535 };
    GRand *rand = g_rand_new_with_seed(4);
    for (unsigned i = 0; i < 100000; i++) {
        struct vga_linear m;
        for (unsigned k = DISPI_XRES; k <= DISPI_Y_OFFSET; k++)
            r->v.dispi[k] = values[g_rand_int_range(rand, 0, G_N_ELEMENTS(values))];
        r->v.dispi[DISPI_BPP] = bpps[g_rand_int_range(rand, 0, G_N_ELEMENTS(bpps))];
        r->v.dispi[DISPI_ENABLE] = 1;
        if (!vga_linear_mode(&r->v, &m))
            continue;
        uint64_t row = m.bpp == 4 ? m.width / 8 : m.width * ((m.bpp + 7) / 8), room = m.bpp == 4 ? VRAM / 4 : VRAM;
        g_assert_true(m.width && m.height && m.width <= DISPLAY_MAX_SIZE && m.height <= DISPLAY_MAX_SIZE);
        g_assert_cmpuint(m.start + (uint64_t)(m.height - 1) * m.stride + row, <=, room);
    }
    g_rand_free(rand);
}

/* A guest that writes anything into every register and the window while somebody looks. */
static void test_hostile(struct rig *r)
{
    static const uint16_t ports[] = { 0x3c0, 0x3c1, 0x3c2, 0x3c4, 0x3c5, 0x3c6, 0x3c7, 0x3c8, 0x3c9, 0x3ca, 0x3cc, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x3b4, 0x3b5,
                                     0x3ba };
    GRand *rand = g_rand_new_with_seed(5);
    for (unsigned i = 0; i < 300; i++) {
        if (i % 10 == 0)
            set_mode(r, i % 20 ? &text80 : &mode12);
        for (unsigned k = 0; k < 300; k++) {
            unsigned port = ports[g_rand_int_range(rand, 0, G_N_ELEMENTS(ports))];
            out(r, port, g_rand_int(rand));
            in(r, port);
            if (k % 8 == 0)
                poke(r, 0xa0000 + (g_rand_int(rand) & 0x1ffff), g_rand_int(rand)), peek(r, 0xa0000 + (g_rand_int(rand) & 0x1ffff));
        }
        if (i % 3 == 0) {
            dispi(r, g_rand_int(rand) & 15, g_rand_int(rand));
            dispi(r, DISPI_XRES + (g_rand_int(rand) & 1), g_rand_int(rand) & 2047);
            dispi(r, DISPI_ENABLE, g_rand_int(rand) & 1);
        }
        in(r, 0x3da), out(r, 0x3c0, 0x20);
        vga_refresh(&r->v);
        const struct display_picture *p = display_lock(r->v.display);
        g_assert_true(p->width <= DISPLAY_MAX_SIZE && p->height <= DISPLAY_MAX_SIZE);
        display_unlock(r->v.display);
    }
    g_rand_free(rand);
}

static void test_edid(void)
{
    uint8_t e[EDID_SIZE], sum = 0;
    edid_make(e, 1280, 800);
    for (unsigned i = 0; i < sizeof(e); i++)
        sum += e[i];
    g_assert_cmpuint(sum, ==, 0);
    g_assert_cmpuint(e[56] | (e[58] >> 4) << 8, ==, 1280);
    g_assert_cmpuint(e[59] | (e[61] >> 4) << 8, ==, 800);
}

static const struct test {
    const char *name;
    const struct mode *mode; /* set before it begins; NULL: as after a reset */
    void (*fn)(struct rig *r);
} tests[] = {
    { "/vga/text", &text80, test_text },
    { "/vga/cga, four colours", &mode04, test_cga_four_colours },
    { "/vga/cga, two colours", &mode06, test_cga_two_colours },
    { "/vga/planar picture", &mode12, test_planar_picture },
    { "/vga/mode 13h", &mode13, test_mode13 },
    { "/vga/planes", &mode12, test_planes },
    { "/vga/registers", &text80, test_registers },
    { "/vga/dispi", &text80, test_dispi },
    { "/vga/8-bit dac", &text80, test_8bit_dac },
    { "/vga/dispi bounds", NULL, test_dispi_bounds },
    { "/vga/hostile", NULL, test_hostile },
};

static void run(const void *opaque)
{
    const struct test *t = opaque;
    struct rig r;
    setup(&r);
    if (t->mode)
        set_mode(&r, t->mode);
    t->fn(&r);
    teardown(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add_data_func(tests[i].name, &tests[i], run);
    g_test_add_func("/vga/edid", test_edid);
    return g_test_run();
}
