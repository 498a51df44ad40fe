/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registers at ports 3B0h to 3DFh. Indices beyond the last register read as zero and keep nothing. */
#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/dev/vga/vga.h"

enum { MISC_COLOUR = 1 };
enum { ATTR_DISPLAYED = 0x20 };
enum { CRTC_END_RETRACE = 0x11, CRTC_OVERFLOW = 7, CRTC_PROTECT = 0x80 };

/* Bits that exist. */
static const uint8_t seq_mask[VGA_NSEQ] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const uint8_t gfx_mask[VGA_NGFX] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
static const uint8_t attr_mask[VGA_NATTR] = { 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f };

/* ---- input status 1 ---- */

/* The beam, from the clock: 60 pictures a second of 525 lines, of which 480 show something. Whoever waits for the retrace sees it come and go. */
static uint8_t status1(struct vga *v)
{
    enum { FRAME_NS = 16683333, LINE_NS = FRAME_NS / 525 };
    uint64_t at = vclock_now(v->dev->machine->clock) % FRAME_NS;
    unsigned line = (unsigned)(at / LINE_NS), dot = (unsigned)(at % LINE_NS);
    bool retrace = line >= 490 && line < 492, shown = line < 480 && dot < LINE_NS * 4 / 5;
    return (retrace ? 8 : 0) | (shown ? 0 : 1);
}

/* ---- DAC ---- */

static unsigned dac_bits(const struct vga *v)
{
    return v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? 0xff : 0x3f;
}

static uint8_t dac_read(struct vga *v)
{
    uint8_t value = v->palette[v->dac_read * 3 + v->dac_step];
    if (++v->dac_step == 3) {
        v->dac_step = 0;
        v->dac_read++;
    }
    return value;
}

/* A colour is taken when its third part has come. */
static void dac_write(struct vga *v, uint8_t value)
{
    v->dac_latch[v->dac_step] = value & dac_bits(v);
    if (++v->dac_step < 3)
        return;
    memcpy(v->palette + v->dac_write * 3, v->dac_latch, 3);
    v->dac_step = 0;
    v->dac_write++;
}

/* ---- attribute controller: one port for index and data ---- */

static void attr_write(struct vga *v, uint8_t value)
{
    unsigned index = v->attr_index & 0x1f;
    /* the palette is only reachable while it is not the display's */
    if (!v->attr_data)
        v->attr_index = value & 0x3f;
    else if (index < VGA_NATTR && (index >= 16 || !(v->attr_index & ATTR_DISPLAYED)))
        v->attr[index] = value & attr_mask[index];
    v->attr_data = !v->attr_data;
}

/* ---- CRT controller ---- */

static void crtc_write(struct vga *v, uint8_t value)
{
    if (v->crtc_index >= VGA_NCRTC)
        return;
    if (v->crtc_index <= 7 && (v->crtc[CRTC_END_RETRACE] & CRTC_PROTECT)) {
        if (v->crtc_index == CRTC_OVERFLOW) /* bit 8 of the line compare is not protected */
            v->crtc[CRTC_OVERFLOW] = (v->crtc[CRTC_OVERFLOW] & ~0x10) | (value & 0x10);
        return;
    }
    v->crtc[v->crtc_index] = value;
}

void vga_regs_loaded(struct vga *v)
{
    v->seq_index &= 7;
    v->gfx_index &= 0xf;
    v->attr_index &= 0x3f;
    v->crtc_index &= 0x3f;
    v->dac_step %= 3;
    for (unsigned i = 0; i < VGA_NSEQ; i++)
        v->seq[i] &= seq_mask[i];
    for (unsigned i = 0; i < VGA_NGFX; i++)
        v->gfx[i] &= gfx_mask[i];
    for (unsigned i = 0; i < VGA_NATTR; i++)
        v->attr[i] &= attr_mask[i];
}

/* ---- ports ---- */

/* CRT controller and status 1 are at 3Bxh for monochrome, at 3Dxh for colour displays. */
static bool hidden(const struct vga *v, unsigned port)
{
    bool colour = v->misc & MISC_COLOUR;
    return (port >= 0x3b0 && port <= 0x3bf && colour) || (port >= 0x3d0 && port <= 0x3df && !colour);
}

uint8_t vga_port_read(struct vga *v, unsigned port)
{
    if (hidden(v, port))
        return 0xff;
    switch (port) {
    case 0x3c0:
        return v->attr_data ? 0 : v->attr_index;
    case 0x3c1:
        return (v->attr_index & 0x1f) < VGA_NATTR ? v->attr[v->attr_index & 0x1f] : 0;
    case 0x3c2:
        return 0x10; /* switch sense: a colour display is there */
    case 0x3c4:
        return v->seq_index;
    case 0x3c5:
        return v->seq_index < VGA_NSEQ ? v->seq[v->seq_index] : 0;
    case 0x3c6:
        return v->dac_mask;
    case 0x3c7:
        return v->dac_reads ? 3 : 0;
    case 0x3c8:
        return v->dac_write;
    case 0x3c9:
        return dac_read(v);
    case 0x3ca:
        return v->feature;
    case 0x3cc:
        return v->misc;
    case 0x3ce:
        return v->gfx_index;
    case 0x3cf:
        return v->gfx_index < VGA_NGFX ? v->gfx[v->gfx_index] : 0;
    case 0x3b4:
    case 0x3d4:
        return v->crtc_index;
    case 0x3b5:
    case 0x3d5:
        return v->crtc_index < VGA_NCRTC ? v->crtc[v->crtc_index] : 0;
    case 0x3ba:
    case 0x3da:
        v->attr_data = false;
        return status1(v);
    default:
        return 0xff;
    }
}

void vga_port_write(struct vga *v, unsigned port, uint8_t value)
{
    if (hidden(v, port))
        return;
    v->touched = true;
    switch (port) {
    case 0x3c0:
        attr_write(v, value);
        break;
    case 0x3c2:
        v->misc = value & ~0x10;
        break;
    case 0x3c4:
        v->seq_index = value & 7;
        break;
    case 0x3c5:
        if (v->seq_index < VGA_NSEQ)
            v->seq[v->seq_index] = value & seq_mask[v->seq_index];
        break;
    case 0x3c6:
        v->dac_mask = value;
        break;
    case 0x3c7:
        v->dac_read = value;
        v->dac_step = 0;
        v->dac_reads = true;
        break;
    case 0x3c8:
        v->dac_write = value;
        v->dac_step = 0;
        v->dac_reads = false;
        break;
    case 0x3c9:
        dac_write(v, value);
        break;
    case 0x3ce:
        v->gfx_index = value & 0xf;
        break;
    case 0x3cf:
        if (v->gfx_index < VGA_NGFX)
            v->gfx[v->gfx_index] = value & gfx_mask[v->gfx_index];
        break;
    case 0x3b4:
    case 0x3d4:
        v->crtc_index = value & 0x3f;
        break;
    case 0x3b5:
    case 0x3d5:
        crtc_write(v, value);
        break;
    case 0x3ba:
    case 0x3da:
        v->feature = value & 3;
        break;
    }
}
