/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Bochs extensions for large modes: eleven registers of 16 bits, by ports 1CEh and 1CFh or in BAR 2. They may hold anything; what is
 * shown is made of them anew for each picture, so that it lies in the card's memory and within what a display can be.
 */
#include <string.h>

#include "vmm/dev/vga/vga.h"
#include "vmm/display/display.h"

enum { ID_FIRST = 0xb0c0, ID_LAST = 0xb0c5 };
#define MAX_PIXELS (16u << 20) /* of a picture: bounds what this process allocates for it */

static bool known_bpp(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Bytes of a row (4 bits: of one plane's). */
static uint32_t row_bytes(unsigned pixels, unsigned bpp)
{
    return bpp == 4 ? pixels / 8 : pixels * ((bpp + 7) / 8);
}

static uint32_t room(const struct vga *v)
{
    return v->dispi[DISPI_BPP] == 4 ? v->vram_size / 4 : v->vram_size;
}

static unsigned virtual_width(const struct vga *v)
{
    return MAX(v->dispi[DISPI_VIRT_WIDTH], v->dispi[DISPI_XRES]);
}

static uint16_t virtual_height(const struct vga *v)
{
    uint32_t stride = row_bytes(virtual_width(v), v->dispi[DISPI_BPP]);
    return stride ? (uint16_t)MIN(room(v) / stride, 0xffffu) : 0;
}

bool vga_linear_mode(const struct vga *v, struct vga_linear *ret)
{
    const uint16_t *r = v->dispi;
    if (!(r[DISPI_ENABLE] & DISPI_ENABLED) || !known_bpp(r[DISPI_BPP]))
        return false;
    struct vga_linear m = { .bpp = r[DISPI_BPP], .stride = row_bytes(virtual_width(v), r[DISPI_BPP]) };
    m.width = MIN(r[DISPI_XRES] & ~7u, DISPLAY_MAX_SIZE);
    if (!m.width || !r[DISPI_YRES])
        return false;
    m.start = m.stride * r[DISPI_Y_OFFSET] + row_bytes(r[DISPI_X_OFFSET], m.bpp);
    if ((uint64_t)m.stride * r[DISPI_Y_OFFSET] + row_bytes(r[DISPI_X_OFFSET], m.bpp) >= room(v))
        m.start = 0;
    uint32_t last = row_bytes(m.width, m.bpp); /* the last row need not be followed by the rest of its stride */
    if (last > room(v) - m.start)
        return false;
    m.height = MIN(MIN(r[DISPI_YRES], (room(v) - m.start - last) / m.stride + 1), MIN(DISPLAY_MAX_SIZE, MAX_PIXELS / m.width));
    *ret = m;
    return true;
}

uint16_t vga_dispi_read(struct vga *v, unsigned index)
{
    bool caps = v->dispi[DISPI_ENABLE] & DISPI_GETCAPS;
    switch (index) {
    case DISPI_XRES:
    case DISPI_YRES:
        return caps ? DISPLAY_MAX_SIZE : v->dispi[index];
    case DISPI_BPP:
        return caps ? 32 : v->dispi[index];
    case DISPI_VIRT_WIDTH:
        return (uint16_t)virtual_width(v);
    case DISPI_VIRT_HEIGHT:
        return virtual_height(v);
    case DISPI_MEMORY_64K:
        return (uint16_t)(v->vram_size >> 16);
    default:
        return index < VGA_NDISPI ? v->dispi[index] : 0;
    }
}

static void enable(struct vga *v, uint16_t value)
{
    bool was = v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
    bool wide_dac = v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;
    v->dispi[DISPI_ENABLE] = value;
    v->dispi[DISPI_BANK] = 0;
    if (wide_dac != !!(value & DISPI_8BIT_DAC)) { /* the colours stay what they were */
        for (unsigned i = 0; i < sizeof(v->palette); i++)
            v->palette[i] = wide_dac ? v->palette[i] >> 2 : (uint8_t)(v->palette[i] << 2 | v->palette[i] >> 4);
    }
    if (!(value & DISPI_ENABLED) || was)
        return;
    v->dispi[DISPI_VIRT_WIDTH] = v->dispi[DISPI_XRES];
    v->dispi[DISPI_X_OFFSET] = v->dispi[DISPI_Y_OFFSET] = 0;
    if (!(value & DISPI_NOCLEAR)) {
        uint64_t size = (uint64_t)row_bytes(v->dispi[DISPI_XRES], v->dispi[DISPI_BPP]) * v->dispi[DISPI_YRES] * (v->dispi[DISPI_BPP] == 4 ? 4 : 1);
        memset(v->vram, 0, (size_t)MIN(size, v->vram_size));
    }
}

void vga_dispi_write(struct vga *v, unsigned index, uint16_t value)
{
    v->touched = true;
    switch (index) {
    case DISPI_ID:
        if (value >= ID_FIRST && value <= ID_LAST)
            v->dispi[DISPI_ID] = value;
        break;
    case DISPI_BPP:
        v->dispi[DISPI_BPP] = value ? value : 8;
        break;
    case DISPI_ENABLE:
        enable(v, value & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BIT_DAC | DISPI_LFB | DISPI_NOCLEAR));
        break;
    case DISPI_BANK:
        v->dispi[DISPI_BANK] = value & (uint16_t)((v->vram_size >> 16) - 1);
        break;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        v->dispi[index] = value;
        break;
    }
}
