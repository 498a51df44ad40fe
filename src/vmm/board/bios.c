/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/bios.h"

#include <string.h>

#include "base/log.h"
#include "vmm/board/boot.h"
#include "vmm/board/chipset.h"

#include "bios_code.h"

#define SEGMENT 0xf000u

/* Words at the start of bios.asm. */
enum { W_MASTER, W_SLAVE, W_IGNORE, W_INT10, W_INT11, W_INT12, W_INT13, W_INT15, W_INT16, W_INT1A, W_E820_COUNT, W_E820_TABLE, W_EXT_KIB,
       W_E801_LOW, W_E801_HIGH, W_RESTART };

static void fill_vectors(uint8_t ivt[1024], const uint8_t *code)
{
    static const struct { uint8_t vector, word; } rows[] = {
        { 0x10, W_INT10 }, { 0x11, W_INT11 }, { 0x12, W_INT12 }, { 0x13, W_INT13 }, { 0x15, W_INT15 }, { 0x16, W_INT16 }, { 0x1a, W_INT1A },
    };
    for (unsigned v = 0; v < 256; v++) {
        unsigned word = v >= 0x08 && v < 0x10 ? W_MASTER : v >= 0x70 && v < 0x78 ? W_SLAVE : W_IGNORE;
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
            if (rows[i].vector == v)
                word = rows[i].word;
        }
        put16(ivt + v * 4, get16(code + word * 2));
        put16(ivt + v * 4 + 2, SEGMENT);
    }
}

void bios_install(struct machine *m, const struct e820_entry *e820, unsigned n, uint64_t low_size)
{
    uint8_t image[sizeof(bios_code) + E820_MAX * 20], ivt[1024], bda[256] = { 0 };
    memcpy(image, bios_code, sizeof(bios_code));
    uint64_t kib = low_size / 1024 - 1024;
    put16(image + W_E820_COUNT * 2, (uint16_t)n);
    put16(image + W_E820_TABLE * 2, (uint16_t)(CHIPSET_BIOS + sizeof(bios_code)));
    put16(image + W_EXT_KIB * 2, (uint16_t)MIN(kib, 0xfc00));
    put16(image + W_E801_LOW * 2, (uint16_t)MIN(kib, 15 * 1024));
    put16(image + W_E801_HIGH * 2, (uint16_t)(kib > 15 * 1024 ? MIN((kib - 15 * 1024) / 64, 0xffff) : 0));
    for (unsigned i = 0; i < n; i++) {
        uint8_t *e = image + sizeof(bios_code) + i * 20;
        put64(e, e820[i].base);
        put64(e + 8, e820[i].size);
        put32(e + 16, e820[i].type);
    }
    fill_vectors(ivt, image);
    /* BIOS data area: COM1, segment of the EBDA, KiB of base memory. */
    put16(bda, 0x3f8);
    put16(bda + 0x0e, CHIPSET_EBDA >> 4);
    put16(bda + 0x10, 0x0222);
    put16(bda + 0x13, 639);
    /* The last 16 bytes below 1 MiB: a far jump, the BIOS's date, the model (FCh: PC AT). */
    uint8_t reset[16] = { 0xea, 0, 0, 0, 0, '0', '1', '/', '0', '1', '/', '2', '6', 0, 0xfc };
    put16(reset + 1, get16(image + W_RESTART * 2));
    put16(reset + 3, SEGMENT);
    if (!guest_memory_write(m->memory, CHIPSET_BIOS, image, sizeof(bios_code) + n * 20) || !guest_memory_write(m->memory, 0, ivt, sizeof(ivt)) ||
        !guest_memory_write(m->memory, 0x400, bda, sizeof(bda)) || !guest_memory_write(m->memory, 0xffff0, reset, sizeof(reset)))
        log_warn("the BIOS stub does not fit into guest memory");
}
