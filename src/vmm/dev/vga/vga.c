/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all cards have in common: power-on state, ports, the window, the display. */
#include "vmm/dev/vga/vga.h"

#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/display/display.h"

/* ---- ports and window ---- */

#define PORTS(first) \
    static uint64_t read_##first(void *opaque, uint64_t offset, unsigned size) { return vga_port_read(opaque, 0x##first + (unsigned)offset); } \
    static void write_##first(void *opaque, uint64_t offset, unsigned size, uint64_t value) { vga_port_write(opaque, 0x##first + (unsigned)offset, (uint8_t)value); } \
    static const struct io_ops ops_##first = { read_##first, write_##first, 1, 1 };
PORTS(3b4)
PORTS(3ba)
PORTS(3c0)
PORTS(3d4)
PORTS(3da)
#undef PORTS

/* Two registers of 16 bits that overlap: the index at 1CEh, data at 1CFh; bytes mean nothing. */
static uint64_t dispi_port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *v = opaque;
    if (size != 2)
        return ~0ull;
    return offset == 0 ? v->dispi_index : vga_dispi_read(v, v->dispi_index);
}

static void dispi_port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *v = opaque;
    if (size == 2 && offset == 0)
        v->dispi_index = (uint16_t)value;
    else if (size == 2)
        vga_dispi_write(v, v->dispi_index, (uint16_t)value);
}

static const struct io_ops dispi_ops = { dispi_port_read, dispi_port_write, 1, 2 };

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size) { return vga_mem_read(opaque, (uint32_t)offset); }

static void window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) { vga_mem_write(opaque, (uint32_t)offset, (uint8_t)value); }

static const struct io_ops window_ops = { window_read, window_write, 1, 1 };

static const struct { uint16_t base, size; const struct io_ops *ops; } port_rows[] = {
    { 0x3b4, 2, &ops_3b4 }, { 0x3ba, 1, &ops_3ba }, { 0x3c0, 16, &ops_3c0 }, { 0x3d4, 2, &ops_3d4 }, { 0x3da, 1, &ops_3da }, { 0x1ce, 3, &dispi_ops },
};
G_STATIC_ASSERT(G_N_ELEMENTS(port_rows) == G_N_ELEMENTS(((struct vga *)0)->ports));

static void map(struct vga *v)
{
    struct guest_memory *memory = v->dev->machine->memory;
    const char *name = v->dev->class->name;
    v->window = (struct io_window){ .name = name, .ops = &window_ops, .opaque = v, .lock = &v->dev->lock, .size = 0x20000 };
    io_window_map(memory, &v->window, 0xa0000);
    for (unsigned i = 0; i < G_N_ELEMENTS(port_rows); i++) {
        v->ports[i] = (struct io_window){ .name = name, .ops = port_rows[i].ops, .opaque = v, .lock = &v->dev->lock, .size = port_rows[i].size, .port = true };
        io_window_map(memory, &v->ports[i], port_rows[i].base);
    }
}

/* ---- life ---- */

void vga_init(struct vga *v, struct device *dev, uint8_t *vram, uint32_t vram_size, bool legacy)
{
    v->dev = dev;
    v->vram = vram;
    v->vram_size = vram_size;
    v->legacy = legacy;
    v->colours = g_new0(uint32_t, 256);
}

void vga_attach(struct vga *v, struct display *display)
{
    v->display = display;
    if (v->legacy)
        map(v);
    display_set_refresh(display, vga_refresh, v);
}

void vga_detach(struct vga *v)
{
    struct guest_memory *memory = v->dev->machine->memory;
    if (!v->display)
        return;
    display_set_refresh(v->display, NULL, NULL);
    io_window_unmap(memory, &v->window);
    for (unsigned i = 0; i < G_N_ELEMENTS(v->ports); i++)
        io_window_unmap(memory, &v->ports[i]);
    v->display = NULL;
}

void vga_finish(struct vga *v)
{
    g_clear_pointer(&v->line, g_free);
    g_clear_pointer(&v->colours, g_free);
}

void vga_hide(struct vga *v, bool hidden)
{
    v->hidden = hidden;
    v->width = v->height = 0; /* the display's size is not ours now */
    g_clear_pointer(&v->line, g_free);
    v->touched = true;
}

/* ---- a saved machine ---- */

enum { PIECE = 16 << 10 };

static bool is_zero(const uint8_t *p)
{
    return !p[0] && !memcmp(p, p + 1, PIECE - 1);
}

void vga_save(const struct vga *v, struct state_writer *w)
{
    unsigned n = v->vram_size / PIECE;
    g_autofree uint8_t *there = g_malloc0(n);
    g_autoptr(GByteArray) pieces = g_byte_array_new();
    for (unsigned i = 0; i < n; i++) {
        there[i] = !is_zero(v->vram + (size_t)i * PIECE);
        if (there[i])
            g_byte_array_append(pieces, v->vram + (size_t)i * PIECE, PIECE);
    }
    state_put(w, "vga.there", there, 1, n);
    state_put(w, "vga.memory", pieces->data, 1, pieces->len);
}

static bool load_memory(struct vga *v, struct state_reader *r, GError **error)
{
    unsigned n = v->vram_size / PIECE;
    uint32_t size, at = 0;
    g_autofree uint8_t *there = g_malloc(n);
    const uint8_t *pieces = state_get(r, "vga.there", there, 1, n, error) ? state_get_bytes(r, "vga.memory", &size, error) : NULL;
    for (unsigned i = 0; pieces && i < n; i++) {
        uint8_t *to = v->vram + (size_t)i * PIECE;
        if (there[i] && size - at < PIECE)
            return state_bad(r, error, "its memory ends too early");
        if (there[i])
            memcpy(to, pieces + at, PIECE);
        else if (!is_zero(to))
            memset(to, 0, PIECE);
        at += there[i] ? PIECE : 0;
    }
    return pieces != NULL;
}

bool vga_load(struct vga *v, struct state_reader *r, GError **error)
{
    vga_regs_loaded(v);
    v->dispi[DISPI_BANK] &= (uint16_t)((v->vram_size >> 16) - 1);
    v->dispi[DISPI_BPP] = v->dispi[DISPI_BPP] ? v->dispi[DISPI_BPP] : 8;
    vga_hide(v, v->hidden);
    return load_memory(v, r, error);
}

void vga_reset(struct vga *v)
{
    v->misc = v->feature = v->seq_index = v->gfx_index = v->attr_index = v->crtc_index = 0;
    v->attr_data = false;
    v->dac_reads = 0;
    v->big_endian = false;
    memset(v->seq, 0, sizeof(v->seq));
    memset(v->gfx, 0, sizeof(v->gfx));
    memset(v->attr, 0, sizeof(v->attr));
    memset(v->crtc, 0, sizeof(v->crtc));
    memset(v->palette, 0, sizeof(v->palette));
    memset(v->latch, 0, sizeof(v->latch));
    memset(v->dispi, 0, sizeof(v->dispi));
    v->dac_mask = 0xff;
    v->dac_read = v->dac_write = v->dac_step = 0;
    v->dispi_index = 0;
    v->dispi[DISPI_ID] = 0xb0c5;
    v->dispi[DISPI_BPP] = 8;
    v->touched = true;
}
