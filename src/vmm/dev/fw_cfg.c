/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/fw_cfg.h"

#include <string.h>

#include "base/bigendian.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory.h"

#define BASE 0x510u
enum { NAME_SIZE = 56, DIR_ENTRY = 64, MAX_FILES = 64, MAX_ITEMS = FW_CFG_FILE_FIRST + MAX_FILES };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

struct fw_cfg {
    struct device dev;
    struct io_window window, dma;
    GBytes *item[MAX_ITEMS];
    char name[MAX_FILES][NAME_SIZE];
    unsigned nfiles;
    uint16_t selected;
    uint32_t offset;
    uint32_t dma_high;
};

/* ---- content ---- */

static void make_directory(struct fw_cfg *f)
{
    g_autofree uint8_t *dir = g_malloc0(4 + (size_t)f->nfiles * DIR_ENTRY);
    be_put(dir, f->nfiles, 4);
    for (unsigned i = 0; i < f->nfiles; i++) {
        uint8_t *e = dir + 4 + (size_t)i * DIR_ENTRY;
        be_put(e, g_bytes_get_size(f->item[FW_CFG_FILE_FIRST + i]), 4);
        be_put(e + 4, FW_CFG_FILE_FIRST + i, 2);
        memcpy(e + 8, f->name[i], NAME_SIZE);
    }
    g_clear_pointer(&f->item[FW_CFG_FILE_DIR], g_bytes_unref);
    f->item[FW_CFG_FILE_DIR] = g_bytes_new(dir, 4 + (size_t)f->nfiles * DIR_ENTRY);
}

void fw_cfg_set(struct device *d, uint16_t key, const void *data, size_t size)
{
    struct fw_cfg *f = (struct fw_cfg *)d;
    g_assert(key < MAX_ITEMS);
    g_mutex_lock(&d->lock);
    g_clear_pointer(&f->item[key], g_bytes_unref);
    f->item[key] = g_bytes_new(data, size);
    g_mutex_unlock(&d->lock);
}

void fw_cfg_set_int(struct device *d, uint16_t key, uint64_t value, unsigned bytes)
{
    uint8_t le[8];
    for (unsigned i = 0; i < bytes; i++)
        le[i] = (uint8_t)(value >> 8 * i);
    fw_cfg_set(d, key, le, bytes);
}

void fw_cfg_set_file(struct device *d, const char *name, const void *data, size_t size)
{
    struct fw_cfg *f = (struct fw_cfg *)d;
    unsigned i = 0;
    while (i < f->nfiles && strcmp(f->name[i], name))
        i++;
    g_assert(i < MAX_FILES && strlen(name) < NAME_SIZE);
    g_strlcpy(f->name[i], name, NAME_SIZE);
    fw_cfg_set(d, (uint16_t)(FW_CFG_FILE_FIRST + i), data, size);
    f->nfiles = MAX(f->nfiles, i + 1);
    g_mutex_lock(&d->lock);
    make_directory(f);
    g_mutex_unlock(&d->lock);
}

/* ---- registers ---- */

static void select_item(struct fw_cfg *f, uint16_t key)
{
    f->selected = key & 0xbfff; /* bit 14 asks for writing, which is not there; bit 15 for items of an architecture: there are none */
    f->offset = 0;
}

/* The next n bytes; zeroes past the end, and where there is no such item. */
static void take(struct fw_cfg *f, uint8_t *to, uint32_t n)
{
    gsize size = 0;
    const uint8_t *data = f->selected < MAX_ITEMS && f->item[f->selected] ? g_bytes_get_data(f->item[f->selected], &size) : NULL;
    uint32_t have = f->offset < size ? (uint32_t)MIN(n, size - f->offset) : 0;
    if (to) {
        if (have)
            memcpy(to, data + f->offset, have);
        memset(to + have, 0, n - have);
    }
    f->offset = f->offset > UINT32_MAX - n ? UINT32_MAX : f->offset + n;
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    uint8_t byte = 0;
    if (offset == 1)
        take(opaque, &byte, 1);
    return offset == 1 ? byte : ((struct fw_cfg *)opaque)->selected;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 0)
        select_item(opaque, (uint16_t)value);
}

/* The descriptor in guest memory: control, length, address, all big-endian; control is written back: 0, or an error. */
static void run_dma(struct fw_cfg *f, uint64_t at)
{
    struct guest_memory *m = f->dev.machine->memory;
    uint8_t d[16], piece[4096];
    if (!guest_memory_read(m, at, d, sizeof(d)))
        return;
    uint32_t control = be_get32(d), length = be_get32(d + 4);
    uint64_t to = be_get64(d + 8);
    bool ok = !(control & DMA_WRITE);
    if (control & DMA_SELECT)
        select_item(f, (uint16_t)(control >> 16));
    if (control & DMA_SKIP)
        take(f, NULL, length);
    else if (control & DMA_READ)
        for (uint32_t done = 0, n; ok && done < length; done += n) {
            n = MIN(length - done, sizeof(piece));
            take(f, piece, n);
            ok = guest_memory_write(m, to + done, piece, n);
        }
    be_put(d, ok ? 0 : DMA_ERROR, 4);
    (void)!guest_memory_write(m, at, d, 4);
}

static uint64_t dma_read(void *opaque, uint64_t offset, unsigned size)
{
    return offset ? GUINT32_SWAP_LE_BE(0x20434647u) : GUINT32_SWAP_LE_BE(0x51454d55u); /* "QEMU CFG" says that DMA is there */
}

static void dma_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct fw_cfg *f = opaque;
    uint32_t word = GUINT32_SWAP_LE_BE((uint32_t)value);
    if (offset == 0) {
        f->dma_high = word;
        return;
    }
    run_dma(f, (uint64_t)f->dma_high << 32 | word);
    f->dma_high = 0;
}

static const struct io_ops port_ops = { port_read, port_write, 1, 2 };
static const struct io_ops dma_ops = { dma_read, dma_write, 4, 4 };

static bool realize(struct device *d, GError **error)
{
    struct fw_cfg *f = (struct fw_cfg *)d;
    f->window = (struct io_window){ .name = "fw_cfg", .ops = &port_ops, .opaque = f, .lock = &d->lock, .size = 2, .port = true };
    f->dma = (struct io_window){ .name = "fw_cfg-dma", .ops = &dma_ops, .opaque = f, .lock = &d->lock, .size = 8, .port = true };
    io_window_map(d->machine->memory, &f->window, BASE);
    io_window_map(d->machine->memory, &f->dma, BASE + 4);
    fw_cfg_set(d, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_set_int(d, FW_CFG_ID, 3, 4); /* ports, and DMA */
    return true;
}

static void reset(struct device *d)
{
    select_item((struct fw_cfg *)d, 0);
    ((struct fw_cfg *)d)->dma_high = 0;
}

static void unrealize(struct device *d)
{
    struct fw_cfg *f = (struct fw_cfg *)d;
    io_window_unmap(d->machine->memory, &f->window);
    io_window_unmap(d->machine->memory, &f->dma);
    for (unsigned i = 0; i < MAX_ITEMS; i++)
        g_clear_pointer(&f->item[i], g_bytes_unref);
}

static const struct device_field fields[] = { DEVICE_FIELD(struct fw_cfg, selected), DEVICE_FIELD(struct fw_cfg, offset), DEVICE_FIELD(struct fw_cfg, dma_high), { NULL } };

static const struct device_class fw_cfg_class = {
    .name = "fw_cfg", .help = "what firmware is told", .bus = DEV_BUS_NONE, .size = sizeof(struct fw_cfg), .fields = fields, .realize = realize, .reset = reset,
    .unrealize = unrealize,
};

struct device *fw_cfg_create(struct machine *m, GError **error)
{
    struct device *d = device_create(m, &fw_cfg_class);
    if (device_realize(d, error))
        return d;
    device_destroy(d);
    return NULL;
}
