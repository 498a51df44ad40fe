/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/i8237.h"

#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/core/state.h"

struct controller { uint8_t flip, mask, command, reg[8][2]; };

struct i8237 {
    struct device dev;
    struct io_window windows[4];
    struct controller dma[2];
    uint8_t page[16];
};

static uint64_t dma_read(struct controller *c, unsigned reg)
{
    if (reg < 8)
        return c->reg[reg][c->flip ^= 1];
    return reg == 15 ? c->mask : 0;
}

static void dma_write(struct controller *c, unsigned reg, uint8_t value)
{
    switch (reg) {
    case 0 ... 7:
        c->reg[reg][c->flip ^= 1] = value;
        break;
    case 8:
        c->command = value;
        break;
    case 10:
        c->mask = value & 4 ? c->mask | (uint8_t)(1u << (value & 3)) : c->mask & (uint8_t)~(1u << (value & 3));
        break;
    case 12:
        c->flip = 0;
        break;
    case 13:
        c->flip = 0;
        c->mask = 15;
        break;
    case 14:
        c->mask = 0;
        break;
    case 15:
        c->mask = value & 15;
        break;
    }
}

static uint64_t read0(void *o, uint64_t offset, unsigned size) { return dma_read(&((struct i8237 *)o)->dma[0], (unsigned)offset); }
static uint64_t read1(void *o, uint64_t offset, unsigned size) { return dma_read(&((struct i8237 *)o)->dma[1], (unsigned)offset / 2); }
static uint64_t read_page(void *o, uint64_t offset, unsigned size) { return ((struct i8237 *)o)->page[offset]; }
static uint64_t read_none(void *o, uint64_t offset, unsigned size) { return 0xff; }
static void write0(void *o, uint64_t offset, unsigned size, uint64_t v) { dma_write(&((struct i8237 *)o)->dma[0], (unsigned)offset, (uint8_t)v); }
static void write1(void *o, uint64_t offset, unsigned size, uint64_t v) { dma_write(&((struct i8237 *)o)->dma[1], (unsigned)offset / 2, (uint8_t)v); }
static void write_page(void *o, uint64_t offset, unsigned size, uint64_t v) { ((struct i8237 *)o)->page[offset] = (uint8_t)v; }
static void write_none(void *o, uint64_t offset, unsigned size, uint64_t v) { }

static const struct { uint16_t port, size; struct io_ops ops; } windows[] = {
    { 0x00, 16, { read0, write0, 1, 1 } },
    { 0xc0, 32, { read1, write1, 1, 1 } },
    { 0x81, 15, { read_page, write_page, 1, 1 } },
    { 0xed, 1, { read_none, write_none, 1, 1 } },
};

static void i8237_reset(struct device *d)
{
    struct i8237 *p = (struct i8237 *)d;
    g_mutex_lock(&d->lock);
    memset(p->dma, 0, sizeof(p->dma));
    memset(p->page, 0, sizeof(p->page));
    p->dma[0].mask = p->dma[1].mask = 15;
    g_mutex_unlock(&d->lock);
}

static bool i8237_load(struct device *d, struct state_reader *r, GError **error)
{
    const struct i8237 *p = (struct i8237 *)d;
    return (p->dma[0].flip <= 1 && p->dma[1].flip <= 1) || state_bad(r, error, "its flip-flop is neither 0 nor 1");
}

static bool i8237_realize(struct device *d, GError **error)
{
    struct i8237 *p = (struct i8237 *)d;
    for (unsigned i = 0; i < G_N_ELEMENTS(windows); i++) {
        p->windows[i] = (struct io_window){ .name = "i8237", .ops = &windows[i].ops, .opaque = p, .lock = &d->lock,
                                            .size = windows[i].size, .port = true };
        io_window_map(d->machine->memory, &p->windows[i], windows[i].port);
    }
    return true;
}

static void i8237_unrealize(struct device *d)
{
    struct i8237 *p = (struct i8237 *)d;
    for (unsigned i = 0; i < G_N_ELEMENTS(windows); i++)
        io_window_unmap(d->machine->memory, &p->windows[i]);
}

static const struct device_field i8237_fields[] = {
    { "dma", offsetof(struct i8237, dma), 1, sizeof(((struct i8237 *)0)->dma) }, DEVICE_ARRAY(struct i8237, page), { 0 }
};

static const struct device_class i8237_class = {
    .name = "i8237", .help = "DMA controller registers", .size = sizeof(struct i8237), .fields = i8237_fields,
    .realize = i8237_realize, .reset = i8237_reset, .load = i8237_load, .unrealize = i8237_unrealize,
};

struct device *i8237_create(struct machine *m, GError **error)
{
    struct device *d = device_create(m, &i8237_class);
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    i8237_reset(d);
    return d;
}
