/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The picture. Made only when somebody looks (display_set_refresh), row by row, and compared with what the display has: what differs is
 * drawn. The accelerators' log of written pages would tell which rows to look at, but it covers all RAM and makes vCPUs leave the guest at each
 * page's first write; a comparison costs about a millisecond for a million pixels. Text and planes change through the ports and the window
 * alone, as a rule: while nothing comes there, they are only looked at now and then.
 */
#include <string.h>

#include "vmm/dev/vga/vga.h"
#include "vmm/display/display.h"

enum { BAND = 16, LOOK_EVERY = 8 };
enum { CRTC_OVERFLOW = 7, CRTC_PRESET_ROW, CRTC_MAX_ROW, CRTC_START_HIGH = 0xc, CRTC_START_LOW, CRTC_OFFSET = 0x13, CRTC_MODE = 0x17, CRTC_LINE_COMPARE };
enum { CRTC_SYNC = 0x80 };
enum { ATTR_DISPLAYED = 0x20, ATTR_MODE = 16, MODE_PAN_COMPARE = 0x20 };
enum { SEQ_SCREEN_OFF = 0x20 };

/* ---- rows to the display ---- */

static bool row_differs(const struct display_picture *p, unsigned y, unsigned width, const uint32_t *row)
{
    return y < p->height && width <= p->width && memcmp(p->pixels + (size_t)y * p->width, row, (size_t)width * 4);
}

/* n rows of v->width pixels, which stand in v->line; those that differ are drawn, neighbours together. */
static void flush(struct vga *v, unsigned y, unsigned n)
{
    unsigned differ = 0;
    const struct display_picture *p = display_lock(v->display);
    for (unsigned i = 0; i < n; i++)
        differ |= row_differs(p, y + i, v->width, v->line + (size_t)i * v->width) ? 1u << i : 0;
    display_unlock(v->display);
    for (unsigned i = 0; i < n; i++) {
        unsigned first = i;
        while (i < n && differ & 1u << i)
            i++;
        if (i > first)
            display_draw(v->display, 0, y + first, v->width, i - first, v->line + (size_t)first * v->width, (size_t)v->width * 4);
    }
}

static void set_size(struct vga *v, unsigned width, unsigned height)
{
    if (width == v->width && height == v->height)
        return;
    v->width = width;
    v->height = height;
    g_free(v->line);
    v->line = width ? g_new0(uint32_t, (size_t)width * BAND + VGA_SCAN_ROOM) : NULL;
    display_resize(v->display, width, height);
}

/* ---- colours ---- */

static uint32_t colour(const struct vga *v, const uint8_t *rgb)
{
    bool wide = v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;
    uint32_t c = 0;
    for (unsigned i = 0; i < 3; i++)
        c = c << 8 | (wide ? rgb[i] : (uint32_t)(rgb[i] << 2 | rgb[i] >> 4));
    return c;
}

static void take_colours(struct vga *v)
{
    for (unsigned i = 0; i < 256; i++)
        v->colours[i] = colour(v, v->palette + 3 * (i & v->dac_mask));
}

/* ---- linear modes ---- */

static uint32_t wide5(uint32_t x) { return x << 3 | x >> 2; }
static uint32_t wide6(uint32_t x) { return x << 2 | x >> 4; }

static uint32_t pixel15(uint16_t p) { return wide5(p >> 10 & 31) << 16 | wide5(p >> 5 & 31) << 8 | wide5(p & 31); }
static uint32_t pixel16(uint16_t p) { return wide5(p >> 11) << 16 | wide6(p >> 5 & 63) << 8 | wide5(p & 31); }

static uint16_t read16(const struct vga *v, const uint8_t *p)
{
    return v->big_endian ? (uint16_t)(p[0] << 8 | p[1]) : (uint16_t)(p[0] | p[1] << 8);
}

static void row32(const struct vga *v, const uint8_t *from, unsigned width, uint32_t *to)
{
    memcpy(to, from, (size_t)width * 4);
    for (unsigned x = 0; x < width; x++)
        to[x] = (v->big_endian ? GUINT32_SWAP_LE_BE(to[x]) : to[x]) & 0xffffff;
}

void vga_draw_linear(const struct vga *v, const struct vga_linear *m, unsigned y, uint32_t *to)
{
    const uint8_t *from = v->vram + m->start + (size_t)y * m->stride;
    switch (m->bpp) {
    case 8:
        for (unsigned x = 0; x < m->width; x++)
            to[x] = v->colours[from[x]];
        break;
    case 15:
        for (unsigned x = 0; x < m->width; x++)
            to[x] = pixel15(read16(v, from + 2 * x));
        break;
    case 16:
        for (unsigned x = 0; x < m->width; x++)
            to[x] = pixel16(read16(v, from + 2 * x));
        break;
    case 24:
        for (unsigned x = 0; x < m->width; x++)
            to[x] = v->big_endian ? (uint32_t)from[3 * x] << 16 | from[3 * x + 1] << 8 | from[3 * x + 2]
                                  : (uint32_t)from[3 * x + 2] << 16 | from[3 * x + 1] << 8 | from[3 * x];
        break;
    default:
        row32(v, from, m->width, to);
    }
}

/* The usual case at the usual time: pixels in the display's own form that have not changed since. */
static bool same_as_shown(const struct vga *v, const struct vga_linear *m, unsigned y, unsigned n)
{
    bool same = m->bpp == 32 && !v->big_endian;
    const struct display_picture *p = display_lock(v->display);
    same = same && m->width == p->width && y + n <= p->height;
    for (unsigned i = y; same && i < y + n; i++)
        same = !memcmp(v->vram + m->start + (size_t)i * m->stride, p->pixels + (size_t)i * p->width, (size_t)m->width * 4);
    display_unlock(v->display);
    return same;
}

static void draw_linear(struct vga *v, const struct vga_linear *m)
{
    for (unsigned y = 0; y < m->height; y += BAND) {
        unsigned n = MIN(BAND, m->height - y);
        if (same_as_shown(v, m, y, n))
            continue;
        for (unsigned i = 0; i < n; i++)
            vga_draw_linear(v, m, y + i, v->line + (size_t)i * v->width);
        flush(v, y, n);
    }
}

/* 800x600 in 16 colours: planes, in the size that DISPI says. */
static void draw_linear_planes(struct vga *v, const struct vga_linear *m)
{
    struct vga_scan s = { .cells = m->width / 8, .dots = 8, .wide = 1, .mask = v->vram_size / 4 - 1 };
    g_autofree uint32_t *row = g_new(uint32_t, m->width + 8);
    for (unsigned y = 0; y < m->height; y++) {
        vga_draw_planes(v, &s, m->start + y * m->stride, row);
        memcpy(v->line, row, (size_t)m->width * 4);
        flush(v, y, 1);
    }
}

/* ---- VGA's own modes ---- */

/* Where the CRT controller is. */
struct beam {
    uint32_t offset; /* of the row */
    unsigned row;    /* within the character */
    bool again;      /* each row comes twice: this is the second time */
    bool below;      /* of the line compare */
};

static unsigned line_compare(const struct vga *v)
{
    return v->crtc[CRTC_LINE_COMPARE] | (v->crtc[CRTC_OVERFLOW] & 0x10u) << 4 | (v->crtc[CRTC_MAX_ROW] & 0x40u) << 3;
}

static struct beam beam_start(const struct vga *v)
{
    uint32_t start = (uint32_t)v->crtc[CRTC_START_HIGH] << 8 | v->crtc[CRTC_START_LOW];
    return (struct beam){ .offset = start + (v->crtc[CRTC_PRESET_ROW] >> 5 & 3), .row = v->crtc[CRTC_PRESET_ROW] & 0x1f };
}

static void beam_next(const struct vga *v, struct beam *b, unsigned y)
{
    bool twice = v->crtc[CRTC_MAX_ROW] & 0x80;
    if (y == line_compare(v)) {
        *b = (struct beam){ .below = true };
        return;
    }
    if (twice && !b->again) {
        b->again = true;
        return;
    }
    b->again = false;
    if (b->row++ != (v->crtc[CRTC_MAX_ROW] & 0x1fu)) {
        b->row &= 0x1f;
        return;
    }
    b->row = 0;
    b->offset += v->crtc[CRTC_OFFSET] * 2u;
}

/* For the CGA's and Hercules' sake two address bits can come from the row instead (CRTC mode control, bits 0 and 1). */
static uint32_t row_bits(const struct vga *v, uint32_t offset, unsigned row)
{
    uint8_t mode = v->crtc[CRTC_MODE];
    unsigned bit = mode & 0x40 ? 13 : 12;
    if (!(mode & 1))
        offset = (offset & ~(1u << bit)) | (row & 1u) << bit;
    if (!(mode & 2))
        offset = (offset & ~(2u << bit)) | (row >> 1 & 1u) << (bit + 1);
    return offset;
}

static void scan_row(struct vga *v, const struct vga_scan *s, const struct beam *b, uint32_t *row, uint32_t *to)
{
    unsigned pan = b->below && (v->attr[ATTR_MODE] & MODE_PAN_COMPARE) ? 0 : s->pan * s->wide;
    if (s->text)
        vga_draw_text(v, s, b->offset & s->mask, b->row, row);
    else
        vga_draw_planes(v, s, row_bits(v, b->offset, b->row) & s->mask, row);
    memcpy(to, row + pan, (size_t)v->width * 4);
}

static void draw_scan(struct vga *v, const struct vga_scan *s)
{
    uint32_t *row = v->line + (size_t)v->width * BAND;
    struct beam b = beam_start(v);
    for (unsigned y = 0; y < s->height; y += BAND) {
        unsigned n = MIN(BAND, s->height - y);
        for (unsigned i = 0; i < n; i++) {
            scan_row(v, s, &b, row, v->line + (size_t)i * v->width);
            beam_next(v, &b, y + i);
        }
        flush(v, y, n);
    }
}

/* ---- the whole ---- */

static void draw_black(struct vga *v)
{
    if (!v->width)
        return;
    memset(v->line, 0, (size_t)v->width * BAND * 4);
    for (unsigned y = 0; y < v->height; y += BAND)
        flush(v, y, MIN(BAND, v->height - y));
}

static bool blank(const struct vga *v, bool linear)
{
    if (!v->legacy)
        return false;
    return !(v->attr_index & ATTR_DISPLAYED) || (!linear && ((v->seq[1] & SEQ_SCREEN_OFF) || !(v->crtc[CRTC_MODE] & CRTC_SYNC)));
}

static void refresh_locked(struct vga *v)
{
    struct vga_linear m;
    struct vga_scan s;
    bool linear = vga_linear_mode(v, &m);
    bool quiet = !v->touched && (!linear || m.bpp == 4) && ++v->skipped < LOOK_EVERY;
    if (v->hidden || quiet || (!linear && !v->legacy))
        return;
    v->touched = false;
    v->skipped = 0;
    if (blank(v, linear)) {
        draw_black(v);
        return;
    }
    take_colours(v);
    if (linear) {
        set_size(v, m.width, m.height);
        if (m.bpp == 4)
            draw_linear_planes(v, &m);
        else
            draw_linear(v, &m);
        return;
    }
    vga_scan_mode(v, &s);
    set_size(v, s.width, s.height);
    draw_scan(v, &s);
}

void vga_refresh(void *opaque)
{
    struct vga *v = opaque;
    g_mutex_lock(&v->dev->lock);
    refresh_locked(v);
    g_mutex_unlock(&v->dev->lock);
}
