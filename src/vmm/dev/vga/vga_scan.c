/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VGA's own registers show: text and planes, one row at a time. Whatever the registers hold, sizes stay within VGA_SCAN_ROOM and 1024 rows,
 * and offsets within the mask. */
#include "vmm/dev/vga/vga.h"

enum { CRTC_DISPLAY_END = 1, CRTC_OVERFLOW = 7, CRTC_CURSOR_START = 0xa, CRTC_CURSOR_END, CRTC_CURSOR_HIGH = 0xe, CRTC_CURSOR_LOW, CRTC_LAST_ROW = 0x12,
       CRTC_UNDERLINE = 0x14 };
enum { SEQ_CLOCKING = 1, SEQ_FONTS = 3, SEQ_MEMORY = 4 };
enum { GFX_MODE = 5, GFX_MISC = 6 };
enum { ATTR_MODE = 16, ATTR_PLANES = 18, ATTR_PAN, ATTR_SELECT };
enum { MODE_GRAPHICS = 1, MODE_MONO = 2, MODE_LINE_GRAPHICS = 4, MODE_BLINK = 8, MODE_8BIT = 0x40, MODE_SELECT_54 = 0x80 };

/* Sequencer register 3: three bits for each of the two sets, one apart from the others; the sets lie in an order that grew. */
static uint32_t font_at(unsigned set)
{
    return (set & 3) * 0x4000u + (set & 4 ? 0x2000u : 0);
}

void vga_scan_mode(const struct vga *v, struct vga_scan *ret)
{
    uint8_t clocking = v->seq[SEQ_CLOCKING], overflow = v->crtc[CRTC_OVERFLOW], fonts = v->seq[SEQ_FONTS], pan = v->attr[ATTR_PAN] & 15;
    struct vga_scan s = { .cells = v->crtc[CRTC_DISPLAY_END] + 1u, .wide = clocking & 8 ? 2 : 1 };
    s.text = !(v->gfx[GFX_MISC] & 1) && !(v->attr[ATTR_MODE] & MODE_GRAPHICS);
    s.dots = s.text && !(clocking & 1) ? 9 : 8;
    s.height = (v->crtc[CRTC_LAST_ROW] | (overflow & 2u) << 7 | (overflow & 0x40u) << 3) + 1;
    s.colours256 = v->gfx[GFX_MODE] & 0x40;
    s.pairs = v->gfx[GFX_MODE] & 0x20;
    s.wide = !s.text && s.colours256 ? 1 : s.wide; /* two dots a pixel in any case */
    s.width = s.cells * s.dots * s.wide;
    if (s.dots == 9) /* eight means none, the others one more than they say */
        s.pan = pan >= 8 ? 0 : pan + 1u;
    else
        s.pan = pan & (s.colours256 ? 6 : 7);
    s.mask = v->dispi[DISPI_ENABLE] & DISPI_ENABLED ? v->vram_size / 4 - 1 : 0xffff;
    s.font[1] = font_at((fonts >> 2 & 3) | (fonts >> 3 & 4));
    s.font[0] = font_at((fonts & 3) | (fonts >> 2 & 4));
    *ret = s;
}

uint8_t vga_attribute(const struct vga *v, unsigned pixel)
{
    uint8_t c = v->attr[pixel & v->attr[ATTR_PLANES] & 15], select = v->attr[ATTR_SELECT];
    if (v->attr[ATTR_MODE] & MODE_SELECT_54)
        c = (c & 0xf) | (uint8_t)((select & 3) << 4);
    return (uint8_t)((c & 0x3f) | (select & 0xc) << 4);
}

static uint32_t *put(const struct vga_scan *s, uint32_t *to, uint32_t colour)
{
    *to++ = colour;
    if (s->wide == 2)
        *to++ = colour;
    return to;
}

/* ---- text ---- */

static bool cursor_here(const struct vga *v, const struct vga_scan *s, uint32_t offset, unsigned row)
{
    const uint8_t *c = v->crtc;
    uint32_t at = ((uint32_t)c[CRTC_CURSOR_HIGH] << 8 | c[CRTC_CURSOR_LOW]) & s->mask;
    unsigned first = c[CRTC_CURSOR_START] & 0x1f, last = c[CRTC_CURSOR_END] & 0x1f;
    return !(c[CRTC_CURSOR_START] & 0x20) && at == offset && row >= first && row <= last;
}

static bool underlined(const struct vga *v, uint8_t attribute, unsigned row)
{
    return (v->attr[ATTR_MODE] & MODE_MONO) && (attribute & 0x77) == 1 && row == (v->crtc[CRTC_UNDERLINE] & 0x1fu);
}

/* The nine dots of a cell's row; the first in bit 8. */
static unsigned cell_dots(const struct vga *v, const struct vga_scan *s, uint32_t offset, unsigned row, uint8_t character, uint8_t attribute)
{
    uint32_t glyph = (s->font[attribute >> 3 & 1] + character * 32u + (row & 31)) & 0xffff;
    unsigned dots = v->vram[4 * (size_t)glyph + 2] * 2u;
    if ((v->attr[ATTR_MODE] & MODE_LINE_GRAPHICS) && character >= 0xc0 && character <= 0xdf)
        dots |= dots >> 1 & 1;
    return cursor_here(v, s, offset, row) || underlined(v, attribute, row) ? 0x1ff : dots;
}

void vga_draw_text(const struct vga *v, const struct vga_scan *s, uint32_t offset, unsigned row, uint32_t *to)
{
    for (unsigned i = 0; i <= s->cells; i++, offset = (offset + 1) & s->mask) {
        const uint8_t *cell = v->vram + 4 * (size_t)(offset & s->mask);
        uint8_t character = cell[0], attribute = cell[1];
        unsigned dots = cell_dots(v, s, offset & s->mask, row, character, attribute);
        unsigned back = attribute >> 4 & (v->attr[ATTR_MODE] & MODE_BLINK ? 7 : 15);
        uint32_t ink = v->colours[vga_attribute(v, attribute & 15)], paper = v->colours[vga_attribute(v, back)];
        for (unsigned d = 0; d < s->dots; d++)
            to = put(s, to, dots & 0x100u >> d ? ink : paper);
    }
}

/* ---- planes ---- */

static uint32_t *draw_256(const struct vga *v, const uint8_t *p, uint32_t *to)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t c = v->colours[p[i]];
        *to++ = c;
        *to++ = c;
    }
    return to;
}

/* Two bits a pixel: of planes 0 and 2 the first four, of 1 and 3 the others. */
static uint32_t *draw_pairs(const struct vga *v, const struct vga_scan *s, const uint8_t *p, uint32_t *to)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned shift = 6 - i % 4 * 2;
        unsigned pixel = (p[i / 4] >> shift & 3u) | (p[i / 4 + 2] >> shift & 3u) << 2;
        to = put(s, to, v->colours[vga_attribute(v, pixel)]);
    }
    return to;
}

static uint32_t *draw_bits(const struct vga *v, const struct vga_scan *s, const uint8_t *p, const uint32_t colours[16], uint32_t *to)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned b = 7 - i;
        to = put(s, to, colours[(p[0] >> b & 1u) | (p[1] >> b & 1u) << 1 | (p[2] >> b & 1u) << 2 | (p[3] >> b & 1u) << 3]);
    }
    return to;
}

void vga_draw_planes(const struct vga *v, const struct vga_scan *s, uint32_t offset, uint32_t *to)
{
    uint32_t colours[16];
    for (unsigned i = 0; i < 16; i++)
        colours[i] = v->colours[vga_attribute(v, i)];
    for (unsigned i = 0; i <= s->cells; i++, offset++) {
        uint8_t p[4];
        for (unsigned n = 0; n < 4; n++)
            p[n] = v->vram[4 * (size_t)(offset & s->mask) + n];
        if (s->colours256)
            to = draw_256(v, p, to);
        else
            to = s->pairs ? draw_pairs(v, s, p, to) : draw_bits(v, s, p, colours, to);
    }
}
