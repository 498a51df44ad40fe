/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/display/edid.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

enum { MAX_SIDE = 4095, DPI = 96 };

/* ---- detailed timing (3.10.2) ---- */

static void detailed_timing(uint8_t d[18], unsigned width, unsigned height)
{
    const unsigned hblank = 160, vblank = 35; /* about CVT's reduced blanking: nothing depends on it */
    unsigned clock = (unsigned)MIN((uint64_t)(width + hblank) * (height + vblank) * 60 / 10000, 0xffffu); /* 10 kHz */
    unsigned mm_x = width * 254 / (DPI * 10), mm_y = height * 254 / (DPI * 10);
    const uint8_t bytes[18] = {
        clock & 0xff, (uint8_t)(clock >> 8), width & 0xff, hblank, (uint8_t)(width >> 8 << 4), height & 0xff, vblank, (uint8_t)(height >> 8 << 4),
        48 /* front porch */, 32 /* sync */, 3 << 4 | 6, 0, mm_x & 0xff, mm_y & 0xff, (uint8_t)((mm_x >> 8 << 4) | (mm_y >> 8 & 15)), 0, 0, 0x1a,
    };
    memcpy(d, bytes, 18);
}

/* Name: up to 13 characters, a line feed behind shorter ones, then blanks (3.10.3.4). */
static void name_descriptor(uint8_t d[18], const char *name)
{
    size_t n = MIN(strlen(name), 13);
    memset(d, ' ', 18);
    memcpy(d, "\0\0\0\xfc\0", 5);
    memcpy(d + 5, name, n);
    if (n < 13)
        d[5 + n] = '\n';
}

static void range_descriptor(uint8_t d[18])
{
    static const uint8_t bytes[18] = { 0, 0, 0, 0xfd, 0, 50, 125, 30, 160, 120 /* up to 1200 MHz */, 1, '\n', ' ', ' ', ' ', ' ', ' ', ' ' };
    memcpy(d, bytes, 18);
}

/* ---- the sizes that are usual: established (3.8) and standard (3.9) timings ---- */

static const struct { uint16_t width, height; uint8_t byte, bit; } established[] = {
    { 640, 480, 35, 5 }, { 800, 600, 35, 0 }, { 1024, 768, 36, 3 },
};
enum { RATIO_16_10, RATIO_4_3, RATIO_5_4, RATIO_16_9 };
static const struct { uint16_t width, height; uint8_t ratio; } standard[] = {
    { 1920, 1080, RATIO_16_9 }, { 1680, 1050, RATIO_16_10 }, { 1600, 1200, RATIO_4_3 }, { 1280, 1024, RATIO_5_4 }, { 1440, 900, RATIO_16_10 },
    { 1280, 960, RATIO_4_3 }, { 1280, 720, RATIO_16_9 }, { 1152, 864, RATIO_4_3 },
};

static void usual_sizes(uint8_t e[EDID_SIZE], unsigned width, unsigned height)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(established); i++)
        if (established[i].width <= width && established[i].height <= height)
            e[established[i].byte] |= 1u << established[i].bit;
    for (unsigned i = 0; i < 8; i++) {
        bool fits = standard[i].width <= width && standard[i].height <= height;
        e[38 + 2 * i] = fits ? (uint8_t)(standard[i].width / 8 - 31) : 1;
        e[39 + 2 * i] = fits ? (uint8_t)(standard[i].ratio << 6) /* 60 Hz */ : 1;
    }
}

void edid_make(uint8_t e[EDID_SIZE], unsigned width, unsigned height)
{
    static const uint8_t header[] = { 0, 255, 255, 255, 255, 255, 255, 0, 0x5a /* "VRO", five bits a letter */, 0x4f };
    static const uint8_t chromaticity[10] = { 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54 }; /* sRGB */
    uint8_t sum = 0;
    width = MIN(width, MAX_SIDE);
    height = MIN(height, MAX_SIDE);
    memset(e, 0, EDID_SIZE);
    memcpy(e, header, sizeof(header));
    e[10] = 1;                 /* product */
    e[16] = 1;                 /* week and year - 1990 of make */
    e[17] = 34;
    e[18] = 1;                 /* EDID 1.4 */
    e[19] = 4;
    e[20] = 0xa5;              /* digital, 8 bits a colour, DisplayPort */
    e[21] = (uint8_t)MIN(width * 254 / (DPI * 100), 255u); /* cm */
    e[22] = (uint8_t)MIN(height * 254 / (DPI * 100), 255u);
    e[23] = 120;               /* gamma 2.2 */
    e[24] = 0x06;              /* sRGB; the first detailed timing is the native one */
    memcpy(e + 25, chromaticity, sizeof(chromaticity));
    usual_sizes(e, width, height);
    detailed_timing(e + 54, width, height);
    range_descriptor(e + 72);
    name_descriptor(e + 90, "Vireo");
    e[111] = 0x10;             /* the fourth descriptor has no content */
    for (unsigned i = 0; i < EDID_SIZE - 1; i++)
        sum += e[i];
    e[EDID_SIZE - 1] = (uint8_t)-sum;
}
