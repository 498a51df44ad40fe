/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/i8259.h"

#include "vmm/core/machine.h"

struct chip {
    uint8_t irr, isr, imr, level, elcr;
    uint8_t icw[4], init_step; /* init_step: the ICW expected next (2-4), 0: initialised */
    uint8_t read_isr, poll, special_mask, auto_eoi, rotate_aeoi, lowest; /* lowest: input of lowest priority */
};

struct i8259 {
    struct device dev; /* its lock covers both; the output is set with it held */
    struct irq_line output;
    struct io_window windows[4];
    struct chip chip[2];
    uint8_t out;
};

static const uint8_t elcr_mask[2] = { 0xf8, 0xde }; /* inputs 0, 1, 2, 8, 13 are always edges */

/* Input of highest priority in a set, or -1. */
static int first_of(const struct chip *c, uint8_t set)
{
    for (unsigned i = 1; i <= 8; i++) {
        unsigned n = (c->lowest + i) & 7;
        if (set >> n & 1)
            return (int)n;
    }
    return -1;
}

static unsigned rank(const struct chip *c, int input)
{
    return input < 0 ? 8 : (unsigned)(input - c->lowest - 1) & 7;
}

/* The request that beats what is in service, or -1. */
static int pending(const struct chip *c, bool master)
{
    int irq = first_of(c, c->irr & (uint8_t)~c->imr);
    uint8_t serving = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
    /* Special fully nested mode lets the slave interrupt itself (8259A, "The special fully nest mode"). */
    if (master && (c->icw[3] & 0x10))
        serving &= (uint8_t)~4;
    return irq >= 0 && rank(c, irq) < rank(c, first_of(c, serving)) ? irq : -1;
}

static void chip_input(struct chip *c, unsigned n, bool level)
{
    uint8_t bit = (uint8_t)(1u << n);
    bool rise = level && !(c->level & bit);
    c->level = level ? c->level | bit : c->level & (uint8_t)~bit;
    if (c->elcr & bit)
        c->irr = level ? c->irr | bit : c->irr & (uint8_t)~bit;
    else if (rise)
        c->irr |= bit;
    else if (!level)
        c->irr &= (uint8_t)~bit; /* an edge must stay up until acknowledged */
}

static void update_locked(struct i8259 *p)
{
    chip_input(&p->chip[0], 2, pending(&p->chip[1], false) >= 0);
    bool out = !p->chip[0].init_step && pending(&p->chip[0], true) >= 0;
    if (out != p->out) {
        p->out = out;
        irq_set(&p->output, out);
    }
}

static void input(void *opaque, unsigned irq, bool level)
{
    struct i8259 *p = opaque;
    g_mutex_lock(&p->dev.lock);
    chip_input(&p->chip[irq >> 3 & 1], irq & 7, level);
    update_locked(p);
    g_mutex_unlock(&p->dev.lock);
}

static void acknowledge(struct chip *c, int n)
{
    uint8_t bit = (uint8_t)(1u << n);
    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_aeoi)
        c->lowest = (uint8_t)n;
}

int i8259_ack(void *opaque)
{
    struct i8259 *p = opaque;
    struct chip *master = &p->chip[0], *slave = &p->chip[1];
    g_mutex_lock(&p->dev.lock);
    int n = pending(master, true), vector;
    if (n < 0) {
        vector = master->icw[1] | 7;
    } else if (n == 2) {
        acknowledge(master, 2);
        int s = pending(slave, false);
        if (s >= 0)
            acknowledge(slave, s);
        vector = slave->icw[1] | (s < 0 ? 7 : s);
    } else {
        acknowledge(master, n);
        vector = master->icw[1] | n;
    }
    update_locked(p);
    g_mutex_unlock(&p->dev.lock);
    return vector;
}

/* ICW1 (8259A, "Initialization command words"). */
static void begin_init(struct chip *c, uint8_t value)
{
    uint8_t level = c->level, elcr = c->elcr;
    *c = (struct chip){ .level = level, .elcr = elcr, .lowest = 7, .init_step = 2 };
    c->icw[0] = value;
    c->irr = level & elcr;
}

/* OCW2: end of interrupt and rotation. */
static void ocw2(struct chip *c, uint8_t value)
{
    unsigned cmd = value >> 5;
    int n = value & 7;
    if (cmd == 0 || cmd == 4) {
        c->rotate_aeoi = cmd == 4;
        return;
    }
    if (cmd == 6) {
        c->lowest = (uint8_t)n;
        return;
    }
    if (cmd == 1 || cmd == 5)
        n = first_of(c, c->isr);
    else if (cmd != 3 && cmd != 7)
        return;
    if (n >= 0) {
        c->isr &= (uint8_t)~(1u << n);
        if (cmd & 4)
            c->lowest = (uint8_t)n;
    }
}

static void ocw3(struct chip *c, uint8_t value)
{
    if (value & 4)
        c->poll = 1;
    if (value & 2)
        c->read_isr = value & 1;
    if (value & 0x40)
        c->special_mask = value >> 5 & 1;
}

static void write_data(struct chip *c, uint8_t value)
{
    switch (c->init_step) {
    case 0:
        c->imr = value;
        return;
    case 2:
        c->icw[1] = value & 0xf8;
        c->init_step = c->icw[0] & 2 ? (c->icw[0] & 1 ? 4 : 0) : 3;
        return;
    case 3:
        c->icw[2] = value;
        c->init_step = c->icw[0] & 1 ? 4 : 0;
        return;
    default:
        c->icw[3] = value;
        c->auto_eoi = value >> 1 & 1;
        c->init_step = 0;
    }
}

static uint64_t chip_read(struct i8259 *p, unsigned n, uint64_t offset)
{
    struct chip *c = &p->chip[n];
    uint8_t v;
    if (c->poll) {
        int irq = pending(c, n == 0);
        c->poll = 0;
        if (irq >= 0)
            acknowledge(c, irq);
        v = irq < 0 ? 0 : 0x80 | (uint8_t)irq;
        update_locked(p);
    } else {
        v = offset ? c->imr : c->read_isr ? c->isr : c->irr;
    }
    return v;
}

static void chip_write(struct i8259 *p, unsigned n, uint64_t offset, uint8_t value)
{
    struct chip *c = &p->chip[n];
    if (offset)
        write_data(c, value);
    else if (value & 0x10)
        begin_init(c, value);
    else if (value & 8)
        ocw3(c, value);
    else
        ocw2(c, value);
    update_locked(p);
}

static uint64_t read0(void *opaque, uint64_t offset, unsigned size) { return chip_read(opaque, 0, offset); }
static uint64_t read1(void *opaque, uint64_t offset, unsigned size) { return chip_read(opaque, 1, offset); }
static void write0(void *opaque, uint64_t offset, unsigned size, uint64_t value) { chip_write(opaque, 0, offset, (uint8_t)value); }
static void write1(void *opaque, uint64_t offset, unsigned size, uint64_t value) { chip_write(opaque, 1, offset, (uint8_t)value); }

static uint64_t elcr_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8259 *p = opaque;
    return p->chip[offset].elcr;
}

static void elcr_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8259 *p = opaque;
    p->chip[offset].elcr = (uint8_t)value & elcr_mask[offset];
}

static const struct io_ops ops0 = { read0, write0, 1, 1 }, ops1 = { read1, write1, 1, 1 }, elcr_ops = { elcr_read, elcr_write, 1, 1 };

static void i8259_reset(struct device *d)
{
    struct i8259 *p = (struct i8259 *)d;
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 2; i++)
        p->chip[i] = (struct chip){ .lowest = 7, .imr = 0xff, .level = p->chip[i].level, .icw = { 0x11, i ? 0x70 : 0x08 } };
    p->out = false;
    irq_set(&p->output, false);
    g_mutex_unlock(&d->lock);
}

void i8259_state_get(struct device *d, struct x86_pic ret[2])
{
    static const uint8_t init_states[] = { 0, 0, 1, 2, 3 };
    struct i8259 *p = (struct i8259 *)d;
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 2; i++) {
        const struct chip *c = &p->chip[i];
        ret[i] = (struct x86_pic){ .last_irr = c->level, .irr = c->irr, .imr = c->imr, .isr = c->isr, .priority_add = (c->lowest + 1) & 7,
                                   .irq_base = c->icw[1], .read_isr = c->read_isr, .poll = c->poll, .special_mask = c->special_mask,
                                   .init_state = init_states[c->init_step], .auto_eoi = c->auto_eoi, .rotate_on_auto_eoi = c->rotate_aeoi,
                                   .special_fully_nested = c->icw[3] >> 4 & 1, .init4 = c->icw[0] & 1, .elcr = c->elcr,
                                   .elcr_mask = elcr_mask[i] };
    }
    g_mutex_unlock(&d->lock);
}

void i8259_state_set(struct device *d, const struct x86_pic s[2])
{
    struct i8259 *p = (struct i8259 *)d;
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 2; i++)
        p->chip[i] = (struct chip){ .level = s[i].last_irr, .irr = s[i].irr, .imr = s[i].imr, .isr = s[i].isr,
                                    .lowest = (s[i].priority_add + 7) & 7, .read_isr = !!s[i].read_isr, .poll = !!s[i].poll,
                                    .special_mask = !!s[i].special_mask, .init_step = s[i].init_state ? (s[i].init_state & 3) + 1 : 0,
                                    .auto_eoi = !!s[i].auto_eoi, .rotate_aeoi = !!s[i].rotate_on_auto_eoi, .elcr = s[i].elcr & elcr_mask[i],
                                    .icw = { 0x10 | !!s[i].init4, s[i].irq_base & 0xf8, i ? 2 : 4,
                                             (uint8_t)(s[i].special_fully_nested ? 0x10 : 0) } };
    p->out = !p->chip[0].init_step && pending(&p->chip[0], true) >= 0;
    irq_set(&p->output, p->out);
    update_locked(p);
    g_mutex_unlock(&d->lock);
}

static bool i8259_realize(struct device *d, GError **error)
{
    static const struct { const char *name; const struct io_ops *ops; uint16_t port; } rows[] = {
        { "i8259", &ops0, 0x20 }, { "i8259-2", &ops1, 0xa0 }, { "elcr", &elcr_ops, 0x4d0 },
    };
    struct i8259 *p = (struct i8259 *)d;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        p->windows[i] = (struct io_window){ .name = rows[i].name, .ops = rows[i].ops, .opaque = p, .lock = &d->lock, .size = 2, .port = true };
        io_window_map(d->machine->memory, &p->windows[i], rows[i].port);
    }
    return true;
}

static void i8259_unrealize(struct device *d)
{
    struct i8259 *p = (struct i8259 *)d;
    for (unsigned i = 0; i < 3; i++)
        io_window_unmap(d->machine->memory, &p->windows[i]);
}

/* No table of fields: its state moves in the canonical form (vmm/core/irqchip.h), whoever does its work. */
static const struct device_class i8259_class = {
    .name = "i8259", .help = "interrupt controller pair", .size = sizeof(struct i8259),
    .realize = i8259_realize, .reset = i8259_reset, .unrealize = i8259_unrealize, .stateless = true,
};

struct device *i8259_create(struct machine *m, struct irq_line output, GError **error)
{
    struct device *d = device_create(m, &i8259_class);
    ((struct i8259 *)d)->output = output;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    i8259_reset(d);
    return d;
}

struct irq_line i8259_line(struct device *d, unsigned irq)
{
    return (struct irq_line){ input, d, irq };
}
