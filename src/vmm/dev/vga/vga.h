/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VGA: what IBM's VGA has (sequencer, graphics controller, attribute controller, CRT controller, DAC), and the Bochs extensions for large
 * linear modes ("DISPI"). vga_regs.c: ports; vga_mem.c: the window at A0000h with its planes; vga_dispi.c: the extensions; vga_scan.c and
 * vga_draw.c: from registers and memory to pixels; vga_pci.c: the cards (virtio-vga: virtio_gpu_vga.c).
 *
 * Memory: byte p of a group of four belongs to plane p, so that offset o of plane p is vram[4 * o + p]. Chain-4 is then the identity. In
 * odd/even addressing, as in text modes, the two addresses of a pair lead to one offset, and the CRT controller's word mode to single
 * steps: the same picture as with the holes of the original.
 *
 * Everything is covered by the device's lock, but for vram: the guest's vCPUs write it through BAR 0 at any time, so what is read there is
 * never trusted, nor read twice.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/device.h"
#include "vmm/core/memory.h"

struct display;
struct state_reader;
struct state_writer;

enum { VGA_NSEQ = 5, VGA_NGFX = 9, VGA_NATTR = 21, VGA_NCRTC = 25, VGA_NDISPI = 11 };

/* Bochs VBE extensions, register indices (Bochs' "vbe_display_api"). */
enum { DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH, DISPI_VIRT_HEIGHT, DISPI_X_OFFSET, DISPI_Y_OFFSET,
       DISPI_MEMORY_64K };
enum { DISPI_ENABLED = 1, DISPI_GETCAPS = 2, DISPI_8BIT_DAC = 0x20, DISPI_LFB = 0x40, DISPI_NOCLEAR = 0x80 };

struct vga {
    struct device *dev;
    uint8_t *vram;
    uint32_t vram_size; /* a power of two, at least 1 MiB */
    bool legacy;        /* the ports and the window at A0000h are there */
    bool hidden;        /* somebody else draws: a virtio driver */
    const uint8_t *edid; /* EDID_SIZE bytes; NULL: the monitor says nothing */
    struct display *display;

    /* state */
    uint8_t misc, feature, seq_index, gfx_index, attr_index /* bit 5: the palette is the display's */, crtc_index;
    bool attr_data;     /* the next write of 3C0h is data */
    uint8_t seq[VGA_NSEQ], gfx[VGA_NGFX], attr[VGA_NATTR], crtc[VGA_NCRTC];
    uint8_t dac_mask, dac_read, dac_write, dac_step, dac_reads, dac_latch[3], palette[768];
    uint8_t latch[4];
    uint16_t dispi_index, dispi[VGA_NDISPI];
    bool big_endian;

    /* what was drawn last */
    unsigned width, height;
    bool touched;       /* by ports or the window since */
    uint8_t skipped;
    uint32_t *line;     /* rows in the making */
    uint32_t *colours;  /* palette of 256, as it was at the beginning of the picture */

    struct io_window window, ports[6];
};

/* vram is the caller's and zeroed. Power-on state comes by vga_reset. */
void vga_init(struct vga *v, struct device *dev, uint8_t *vram, uint32_t vram_size, bool legacy);
/* Draws on this display from now on, which the card has claimed; takes, where legacy, ports and window. vga_detach before the display is released. */
void vga_attach(struct vga *v, struct display *display);
void vga_detach(struct vga *v);
void vga_finish(struct vga *v);
void vga_reset(struct vga *v);
/* The card's memory, what of it is not zero. load: after the device's table: registers get what bits they can have, and the picture is drawn anew. */
void vga_save(const struct vga *v, struct state_writer *w);
bool vga_load(struct vga *v, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Part of it, vga_regs.c: the registers. */
void vga_regs_loaded(struct vga *v);
/* Draws what has changed; takes the device's lock. For display_set_refresh. */
void vga_refresh(void *vga);

/* Of the BAR with registers (vga_mmio.c); opaque: struct vga *. */
enum { VGA_REGISTERS_SIZE = 4096 };
extern const struct io_ops vga_register_ops;

/* Rows of a device's state, where its member `vga` is a struct vga. */
#define VGA_FIELDS(T) \
    DEVICE_FIELD(T, vga.misc), DEVICE_FIELD(T, vga.feature), DEVICE_FIELD(T, vga.seq_index), DEVICE_FIELD(T, vga.gfx_index), DEVICE_FIELD(T, vga.attr_index), \
    DEVICE_FIELD(T, vga.crtc_index), DEVICE_FIELD(T, vga.attr_data), DEVICE_ARRAY(T, vga.seq), DEVICE_ARRAY(T, vga.gfx), DEVICE_ARRAY(T, vga.attr), \
    DEVICE_ARRAY(T, vga.crtc), DEVICE_FIELD(T, vga.dac_mask), DEVICE_FIELD(T, vga.dac_read), DEVICE_FIELD(T, vga.dac_write), DEVICE_FIELD(T, vga.dac_step), \
    DEVICE_FIELD(T, vga.dac_reads), DEVICE_ARRAY(T, vga.dac_latch), DEVICE_ARRAY(T, vga.palette), DEVICE_ARRAY(T, vga.latch), DEVICE_FIELD(T, vga.dispi_index), \
    DEVICE_ARRAY(T, vga.dispi), DEVICE_FIELD(T, vga.big_endian), DEVICE_FIELD(T, vga.hidden)

/* ---- lock held ---- */

/* Somebody else draws on the display, or does not any more: then what the VGA shows appears again. */
void vga_hide(struct vga *v, bool hidden);

/* Ports 3B0h to 3DFh. */
uint8_t vga_port_read(struct vga *v, unsigned port);
void vga_port_write(struct vga *v, unsigned port, uint8_t value);
/* Offset in the window, from A0000h. */
uint8_t vga_mem_read(struct vga *v, uint32_t offset);
void vga_mem_write(struct vga *v, uint32_t offset, uint8_t value);

uint16_t vga_dispi_read(struct vga *v, unsigned index);
void vga_dispi_write(struct vga *v, unsigned index, uint16_t value);

/* The mode that the DISPI registers make: always inside vram and the display's bounds. False: VGA's own registers say what is shown. */
struct vga_linear {
    unsigned width, height, bpp; /* 4 (planar), 8, 15, 16, 24, 32 */
    uint32_t start, stride;      /* bytes (planar: of a plane) */
};
bool vga_linear_mode(const struct vga *v, struct vga_linear *ret);

/* Rows of the picture. Both write width pixels to `to`. */
void vga_draw_linear(const struct vga *v, const struct vga_linear *m, unsigned y, uint32_t *to);

/* What VGA's own registers make, worked out once a picture. */
struct vga_scan {
    unsigned width, height;   /* pixels */
    unsigned cells, dots;     /* a row's character clocks; dots of one, 8 or 9 */
    unsigned wide;            /* 1; 2: each dot is as wide as two */
    bool text, colours256, pairs /* of bits from two planes make a pixel */;
    unsigned pan;             /* dots that the row begins further right */
    uint32_t mask;            /* of offsets */
    uint32_t font[2];         /* offset in plane 2; by bit 3 of the attribute */
};
void vga_scan_mode(const struct vga *v, struct vga_scan *ret);
/* offset: of the row's first cell; row: the scan line within the character. `to` has room for VGA_SCAN_ROOM pixels. */
enum { VGA_SCAN_ROOM = 257 * 18 + 32 };
void vga_draw_text(const struct vga *v, const struct vga_scan *s, uint32_t offset, unsigned row, uint32_t *to);
void vga_draw_planes(const struct vga *v, const struct vga_scan *s, uint32_t offset, uint32_t *to);
/* A 4-bit pixel through the attribute controller: an index of the DAC. */
uint8_t vga_attribute(const struct vga *v, unsigned pixel);
