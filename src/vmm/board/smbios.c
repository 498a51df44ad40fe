/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DMTF DSP0134, System Management BIOS Reference Specification 2.8. */
#include "vmm/board/smbios.h"

#include <stdio.h>
#include <string.h>

#include "base/keyval.h"
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

/* The strings of one structure, and what -smbios says about it. */
struct texts { const struct keyval *given; const char *type, *strings[8]; unsigned n; };

static const char *given(const struct texts *t, const char *key)
{
    g_autofree char *name = g_strconcat(t->type, ".", key, NULL);
    return t->given ? keyval_get(t->given, name) : NULL;
}

/* The number of the string for a field: what was given, else `usual`; 0 if there is none, as a string of length 0 would end the list. */
static uint8_t text(struct texts *t, const char *key, const char *usual)
{
    const char *s = given(t, key);
    s = s ? s : usual;
    if (!s || !*s)
        return 0;
    t->strings[t->n++] = s;
    return (uint8_t)t->n;
}

/* 7.1 */
static void bios(struct builder *b, const struct keyval *kv)
{
    struct texts t = { kv, "0", { NULL }, 0 };
    uint8_t p[20] = { [2] = 0x00, [3] = 0xe8, [6] = 8 /* BIOS characteristics are not supported */, [15] = 0x1c /* a virtual machine; no UEFI; targeted content */,
                      [18] = 0xff, [19] = 0xff };
    unsigned major = 0, minor = 0;
    const char *release = given(&t, "release");
    p[0] = text(&t, "vendor", "Vireo");
    p[1] = text(&t, "version", "1.0");
    p[4] = text(&t, "date", "01/01/2026");
    if (release && sscanf(release, "%u.%u", &major, &minor) == 2) {
        p[16] = (uint8_t)major;
        p[17] = (uint8_t)minor;
    }
    structure(b, 0, p, sizeof(p), t.strings);
}

/* 7.2 */
static void whole_system(struct builder *b, const struct keyval *kv, const char *board, const char *uuid)
{
    struct texts t = { kv, "1", { NULL }, 0 };
    uint8_t p[23] = { [20] = 6 /* woken by the power switch */ };
    p[0] = text(&t, "manufacturer", "Vireo");
    p[1] = text(&t, "product", board);
    p[2] = text(&t, "version", "1.0");
    p[3] = text(&t, "serial", NULL);
    put_uuid(p + 4, given(&t, "uuid") ? given(&t, "uuid") : uuid);
    p[21] = text(&t, "sku", NULL);
    p[22] = text(&t, "family", NULL);
    structure(b, 1, p, sizeof(p), t.strings);
}

/* 7.3; only there if something is said about it. The chassis follows it. */
static void baseboard(struct builder *b, const struct keyval *kv)
{
    struct texts t = { kv, "2", { NULL }, 0 };
    uint8_t p[11] = { [5] = 1 /* a hosting board */, [9] = 0x0a /* motherboard */ };
    p[0] = text(&t, "manufacturer", NULL);
    p[1] = text(&t, "product", NULL);
    p[2] = text(&t, "version", NULL);
    p[3] = text(&t, "serial", NULL);
    p[4] = text(&t, "asset", NULL);
    p[6] = text(&t, "location", NULL);
    put16(p + 7, (uint16_t)(3 << 8 | (b->count + 1)));
    if (t.n)
        structure(b, 2, p, sizeof(p), t.strings);
}

/* 7.4 */
static void chassis(struct builder *b, const struct keyval *kv)
{
    struct texts t = { kv, "3", { NULL }, 0 };
    uint8_t p[18] = { [1] = 1, [5] = 3, [6] = 3, [7] = 3, [8] = 2 };
    p[0] = text(&t, "manufacturer", "Vireo");
    p[2] = text(&t, "version", NULL);
    p[3] = text(&t, "serial", NULL);
    p[4] = text(&t, "asset", NULL);
    p[17] = text(&t, "sku", NULL);
    structure(b, 3, p, sizeof(p), t.strings);
}

/* 7.12: as many structures as the strings, of which one counts 255, need. */
static void oem_strings(struct builder *b, const struct keyval *kv)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    for (guint i = 0; kv && i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        if (!strcmp(p->key, "11.value") && *p->value)
            g_ptr_array_add(all, p->value);
    }
    for (guint at = 0; at < all->len; at += 255) {
        const char *strings[256] = { NULL };
        uint8_t n = (uint8_t)MIN(all->len - at, 255);
        memcpy(strings, all->pdata + at, n * sizeof(strings[0]));
        structure(b, 11, &n, 1, strings);
    }
}

GBytes *smbios_build(const struct machine_config *c, unsigned ncpus, uint32_t base, uint32_t max)
{
    struct builder b = { g_byte_array_new(), 0, 0 };
    uint8_t entry[ENTRY_SIZE] = "_SM_", type32[7] = { 0 };
    g_byte_array_append(b.out, entry, sizeof(entry));
    bios(&b, c->smbios);
    whole_system(&b, c->smbios, c->board ? c->board : "q35", c->uuid);
    baseboard(&b, c->smbios);
    chassis(&b, c->smbios);
    processors(&b, c, ncpus);
    oem_strings(&b, c->smbios);
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
