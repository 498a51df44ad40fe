/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DMTF DSP0134, System Management BIOS Reference Specification 2.8. */
#include "vmm/board/smbios.h"

#include <string.h>

#include "vmm/board/boot.h"
#include "vmm/core/machine.h"

#define ENTRY_SIZE 0x20u

struct builder { GByteArray *out; unsigned count, largest; };

/* A structure: formatted area, then its strings (numbered from 1), then an empty one (6.1). */
static void structure(struct builder *b, uint8_t type, const uint8_t *body, uint8_t size, const char *const *strings)
{
    guint at = b->out->len;
    uint8_t header[4] = { type, (uint8_t)(size + 4), 0, 0 };
    put16(header + 2, (uint16_t)(type << 8 | b->count));
    g_byte_array_append(b->out, header, 4);
    g_byte_array_append(b->out, body, size);
    for (unsigned i = 0; strings && strings[i]; i++)
        g_byte_array_append(b->out, (const uint8_t *)strings[i], (guint)strlen(strings[i]) + 1);
    g_byte_array_append(b->out, (const uint8_t *)"\0\0", strings && strings[0] ? 1 : 2);
    b->count++;
    b->largest = MAX(b->largest, b->out->len - at);
}

/* 7.2.1: the first three fields are little-endian. */
static void put_uuid(uint8_t *p, const char *text)
{
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    unsigned n = 0;
    for (const char *t = text; t && *t && n < 32; t++) {
        int v = g_ascii_xdigit_value(*t);
        if (v >= 0) {
            p[order[n / 2]] |= (uint8_t)(v << (n & 1 ? 0 : 4));
            n++;
        }
    }
}

static void processors(struct builder *b, const struct machine_config *c, unsigned ncpus)
{
    unsigned sockets = MAX(c->sockets, 1), per = MAX(ncpus / sockets, 1), cores = c->cores ? c->cores : per;
    static const char *const strings[] = { "CPU", "Vireo", NULL };
    for (unsigned i = 0; i < sockets; i++) {
        uint8_t p[38] = { [0] = 1, [1] = 3, [2] = 1, [3] = 2, [0x14] = 0x41, [0x15] = 1 };
        put16(p + 0x10, 2000);
        put16(p + 0x12, 2000);
        put16(p + 0x16, 0xffff);
        put16(p + 0x18, 0xffff);
        put16(p + 0x1a, 0xffff);
        p[0x1f] = p[0x20] = (uint8_t)MIN(cores, 255);
        p[0x21] = (uint8_t)MIN(per, 255);
        put16(p + 0x22, 4); /* 64-bit capable */
        put16(p + 0x24, 1);
        structure(b, 4, p, sizeof(p), strings);
    }
}

static void memory(struct builder *b, uint64_t bytes)
{
    static const char *const strings[] = { "DIMM 0", "Vireo", NULL };
    uint8_t array[19] = { 1, 3, 6 }, dimm[36] = { 0 }, map[27] = { 0 };
    uint64_t kib = bytes >> 10, mib = bytes >> 20;
    put32(array + 3, kib < 0x80000000ull ? (uint32_t)kib : 0x80000000u);
    put16(array + 7, 0xfffe);
    put16(array + 9, 1);
    put64(array + 11, kib < 0x80000000ull ? 0 : bytes);
    structure(b, 16, array, sizeof(array), NULL);
    put16(dimm, (uint16_t)(16 << 8 | (b->count - 1)));
    put16(dimm + 2, 0xfffe);
    put16(dimm + 4, 0xffff);
    put16(dimm + 6, 0xffff);
    put16(dimm + 8, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
    dimm[0x0a] = 9;  /* DIMM */
    dimm[0x0c] = 1;
    dimm[0x0e] = 7;  /* RAM */
    put16(dimm + 0x0f, 2);
    dimm[0x13] = 2;
    put32(dimm + 0x18, mib < 0x7fff ? 0 : (uint32_t)mib);
    structure(b, 17, dimm, sizeof(dimm), strings);
    put32(map, kib - 1 < 0xffffffff ? 0 : 0xffffffff);
    put32(map + 4, kib - 1 < 0xffffffff ? (uint32_t)(kib - 1) : 0xffffffff);
    put16(map + 8, (uint16_t)(16 << 8 | (b->count - 2)));
    map[10] = 1;
    put64(map + 19, kib - 1 < 0xffffffff ? 0 : bytes - 1);
    structure(b, 19, map, sizeof(map), NULL);
}

static uint8_t negate(const uint8_t *p, unsigned n)
{
    uint8_t sum = 0;
    while (n--)
        sum += *p++;
    return (uint8_t)-sum;
}

GBytes *smbios_build(const struct machine_config *c, unsigned ncpus, uint32_t base, uint32_t max)
{
    static const char *const bios[] = { "Vireo", "1.0", "01/01/2026", NULL }, *const chassis[] = { "Vireo", NULL };
    const char *const system[] = { "Vireo", c->board ? c->board : "q35", "1.0", NULL };
    struct builder b = { g_byte_array_new(), 0, 0 };
    uint8_t entry[ENTRY_SIZE] = "_SM_", type0[20] = { 1, 2, 0x00, 0xe8, 3, 0 }, type1[23] = { 1, 2, 3, 0 }, type3[9] = { 1, 1 }, type32[7] = { 0 };
    g_byte_array_append(b.out, entry, sizeof(entry));
    type0[6] = 8;     /* BIOS characteristics are not supported */
    type0[15] = 0x1c; /* a virtual machine; UEFI no; targeted content */
    type0[16] = type0[17] = 0;
    type0[18] = type0[19] = 0xff;
    structure(&b, 0, type0, sizeof(type0), bios);
    put_uuid(type1 + 4, c->uuid);
    type1[20] = 6; /* woken by the power switch */
    structure(&b, 1, type1, sizeof(type1), system);
    type3[5] = type3[6] = type3[7] = 3;
    structure(&b, 3, type3, sizeof(type3), chassis);
    processors(&b, c, ncpus);
    memory(&b, c->ram_size);
    structure(&b, 32, type32, sizeof(type32), NULL);
    structure(&b, 127, NULL, 0, NULL);
    if (b.out->len > max) {
        g_byte_array_free(b.out, TRUE);
        return NULL;
    }
    entry[5] = 0x1f;
    entry[6] = 2;
    entry[7] = 8;
    put16(entry + 8, (uint16_t)b.largest);
    memcpy(entry + 0x10, "_DMI_", 5);
    put16(entry + 0x16, (uint16_t)(b.out->len - ENTRY_SIZE));
    put32(entry + 0x18, base + ENTRY_SIZE);
    put16(entry + 0x1c, (uint16_t)b.count);
    entry[0x1e] = 0x28;
    entry[0x15] = negate(entry + 0x10, 0xf);
    entry[4] = negate(entry, 0x1f);
    memcpy(b.out->data, entry, sizeof(entry));
    return g_byte_array_free_to_bytes(b.out);
}
