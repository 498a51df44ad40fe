/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel keeps when its count was loaded; what it shows is computed from the clock when asked. Only channel 0 has a timer,
 * for its interrupt. Virtual time is nanoseconds; one tick is 838 ns.
 */
#include "vmm/dev/i8254.h"

#include "vmm/core/irqchip.h"
#include "vmm/core/machine.h"

#define NSEC 1000000000ull

struct channel {
    uint32_t count;     /* initial count, 1 to 0x10000 */
    uint64_t start;     /* when it was loaded (or triggered) */
    uint16_t latched;
    uint8_t latch_left; /* bytes of `latched` still to be read */
    uint8_t status, status_latched;
    uint8_t access, mode, bcd; /* access: 1 low, 2 high, 3 both */
    uint8_t read_high, write_high, write_low; /* which byte comes next; low byte already written */
    uint8_t gate, loaded;
};

struct i8254 {
    struct device dev;
    struct irq_line irq0;
    struct vtimer *timer;
    struct io_window window, window61;
    uint64_t deadline; /* of the timer; 0: none */
    uint8_t speaker;   /* port 61h, bits 0 and 1 */
    uint8_t refresh;   /* bit 4 toggles at each read */
    struct channel ch[3];
};

static uint64_t now_of(const struct i8254 *p)
{
    return vclock_now(p->dev.machine->clock);
}

static uint64_t ticks_of(uint64_t ns) { return (uint64_t)((unsigned __int128)ns * I8254_HZ / NSEC); }
static uint64_t ns_of(uint64_t ticks) { return (uint64_t)(((unsigned __int128)ticks * NSEC + I8254_HZ - 1) / I8254_HZ); }

static uint64_t elapsed(const struct i8254 *p, const struct channel *c)
{
    uint64_t now = now_of(p);
    return now > c->start ? ticks_of(now - c->start) : 0;
}

/* The counting element (8254, "Mode definitions"). */
static uint16_t current_count(const struct i8254 *p, const struct channel *c)
{
    uint64_t t = elapsed(p, c), n = c->count, wrap = c->bcd ? 10000 : 0x10000, v;
    if (!c->loaded)
        return 0;
    switch (c->mode) {
    case 2:
        v = n - t % n;
        break;
    case 3:
        v = n - t * 2 % n;
        break;
    default:
        v = (n + wrap - t % wrap) % wrap;
    }
    if (v >= wrap)
        v = 0;
    return (uint16_t)(c->bcd ? v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10 : v);
}

static bool output(const struct i8254 *p, const struct channel *c)
{
    uint64_t t = elapsed(p, c), n = c->count;
    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1:
        return t >= n;
    case 2:
        return t % n != n - 1 || !c->gate;
    case 3:
        return t % n < (n + 1) / 2 || !c->gate;
    default:
        return t != n;
    }
}

/* Channel 0 has its gate tied high. Its next rising edge: end of count, then each period in modes 2 and 3. */
static void arm(struct i8254 *p, bool again)
{
    struct channel *c = &p->ch[0];
    bool periodic = c->mode == 2 || c->mode == 3;
    if (machine_irqchip_inside(p->dev.machine) || !c->loaded || c->mode == 1 || c->mode == 5 || (again && !periodic)) {
        p->deadline = 0;
        vtimer_cancel(p->timer);
        return;
    }
    uint64_t periods = again ? elapsed(p, c) / c->count + 1 : 1;
    p->deadline = c->start + ns_of(periods * c->count);
    /* A period shorter than 20 us would keep the clock thread busy and no handler can follow it. */
    if (again)
        p->deadline = MAX(p->deadline, now_of(p) + 20000);
    vtimer_set(p->timer, p->deadline);
}

static void expired(void *opaque)
{
    struct i8254 *p = opaque;
    g_mutex_lock(&p->dev.lock);
    if (p->deadline && now_of(p) >= p->deadline) {
        if (p->ch[0].mode != 0)
            irq_set(&p->irq0, false);
        irq_set(&p->irq0, true);
        arm(p, true);
    }
    g_mutex_unlock(&p->dev.lock);
}

static uint32_t from_bcd(uint16_t v)
{
    return (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);
}

static void load(struct i8254 *p, unsigned n, uint16_t value)
{
    struct channel *c = &p->ch[n];
    c->count = c->bcd ? from_bcd(value) : value;
    if (!c->count)
        c->count = c->bcd ? 10000 : 0x10000;
    c->start = now_of(p);
    c->loaded = 1;
    if (n == 0) {
        irq_set(&p->irq0, c->mode != 0);
        arm(p, false);
    }
}

static void write_count(struct i8254 *p, unsigned n, uint8_t value)
{
    struct channel *c = &p->ch[n];
    switch (c->access) {
    case 1:
        load(p, n, value);
        break;
    case 2:
        load(p, n, (uint16_t)(value << 8));
        break;
    default:
        if (c->write_high)
            load(p, n, (uint16_t)(value << 8 | c->write_low));
        c->write_low = value;
        c->write_high = !c->write_high;
        if (c->write_high && c->mode == 0)
            c->loaded = 0; /* the first byte stops the count in mode 0 */
    }
}

static void latch_count(struct i8254 *p, struct channel *c)
{
    if (c->latch_left)
        return;
    c->latched = current_count(p, c);
    c->latch_left = c->access == 3 ? 2 : 1;
}

static void latch_status(struct i8254 *p, struct channel *c)
{
    if (c->status_latched)
        return;
    c->status_latched = 1;
    c->status = (uint8_t)(output(p, c) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
}

static void write_control(struct i8254 *p, uint8_t value)
{
    unsigned n = value >> 6;
    if (n == 3) { /* read back */
        for (unsigned i = 0; i < 3; i++) {
            if (!(value >> (i + 1) & 1))
                continue;
            if (!(value & 0x20))
                latch_count(p, &p->ch[i]);
            if (!(value & 0x10))
                latch_status(p, &p->ch[i]);
        }
        return;
    }
    struct channel *c = &p->ch[n];
    if (!(value >> 4 & 3)) {
        latch_count(p, c);
        return;
    }
    c->access = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5)
        c->mode &= 3;
    c->bcd = value & 1;
    c->read_high = c->write_high = c->latch_left = c->status_latched = c->loaded = 0;
    if (n == 0) {
        irq_set(&p->irq0, c->mode != 0);
        arm(p, false);
    }
}

static uint8_t read_count(struct i8254 *p, struct channel *c)
{
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->latch_left) {
        bool high = c->access == 2 || (c->access == 3 && c->latch_left == 1);
        c->latch_left--;
        return (uint8_t)(high ? c->latched >> 8 : c->latched);
    }
    uint16_t v = current_count(p, c);
    bool high = c->access == 2 || (c->access == 3 && c->read_high);
    if (c->access == 3)
        c->read_high = !c->read_high;
    return (uint8_t)(high ? v >> 8 : v);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8254 *p = opaque;
    return offset == 3 ? 0xff : read_count(p, &p->ch[offset]);
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 3)
        write_control(opaque, (uint8_t)value);
    else
        write_count(opaque, (unsigned)offset, (uint8_t)value);
}

/* Port 61h: 0 gate of channel 2, 1 speaker, 4 refresh toggle, 5 output of channel 2 (ICH9 datasheet 13.7.1). */
static uint64_t port61_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8254 *p = opaque;
    p->refresh ^= 0x10;
    return p->speaker | p->refresh | output(p, &p->ch[2]) << 5;
}

static void port61_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8254 *p = opaque;
    struct channel *c = &p->ch[2];
    bool gate = value & 1;
    /* Modes 1, 2, 3 and 5 start again at the gate's rise. */
    if (gate && !c->gate && (c->mode == 1 || c->mode == 2 || c->mode == 3 || c->mode == 5))
        c->start = now_of(p);
    c->gate = gate;
    p->speaker = value & 3;
}

static const struct io_ops ops = { port_read, port_write, 1, 1 }, ops61 = { port61_read, port61_write, 1, 1 };

static void i8254_reset(struct device *d)
{
    struct i8254 *p = (struct i8254 *)d;
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 3; i++)
        p->ch[i] = (struct channel){ .count = 0x10000, .mode = 3, .access = 3, .gate = i != 2 };
    p->speaker = p->refresh = 0;
    p->deadline = 0;
    vtimer_cancel(p->timer);
    g_mutex_unlock(&d->lock);
}

/* Which byte comes next, as x86_pit_channel has it. */
static uint8_t byte_state(const struct channel *c, bool high)
{
    return c->access == 3 ? (high ? 4 : 3) : c->access;
}

void i8254_state_get(struct device *d, struct x86_pit_channel ret[3], uint8_t *ret_speaker)
{
    struct i8254 *p = (struct i8254 *)d;
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 3; i++) {
        const struct channel *c = &p->ch[i];
        uint64_t now = now_of(p);
        ret[i] = (struct x86_pit_channel){
            .count = c->loaded ? c->count : 0, .latched_count = c->latched,
            .count_latched = (uint8_t)(!c->latch_left ? 0 : c->access != 3 ? c->access : c->latch_left == 2 ? 3 : 2),
            .status_latched = c->status_latched, .status = c->status, .read_state = byte_state(c, c->read_high),
            .write_state = byte_state(c, c->write_high), .write_latch = c->write_low, .rw_mode = c->access, .mode = c->mode, .bcd = c->bcd,
            .gate = c->gate, .age_ns = now > c->start ? now - c->start : 0 };
    }
    *ret_speaker = p->speaker;
    g_mutex_unlock(&d->lock);
}

static void channel_in(struct i8254 *p, struct channel *c, const struct x86_pit_channel *s)
{
    uint64_t now = now_of(p), age = s->age_ns;
    *c = (struct channel){ .count = s->count >= 1 && s->count <= 0x10000 ? s->count : 0x10000, .latched = s->latched_count,
                           .latch_left = s->count_latched == 3 ? 2 : !!s->count_latched, .status = s->status,
                           .status_latched = !!s->status_latched, .access = s->rw_mode & 3 ? s->rw_mode & 3 : 3,
                           .mode = s->mode > 5 ? 3 : s->mode, .bcd = s->bcd & 1, .read_high = s->read_state == 4,
                           .write_high = s->write_state == 4, .write_low = s->write_latch, .gate = s->gate & 1,
                           .loaded = s->count && s->mode <= 5 };
    if (age > now && (c->mode == 2 || c->mode == 3))
        age %= ns_of(c->count); /* loaded before this clock began: the phase is what counts */
    c->start = now - MIN(age, now);
}

void i8254_state_set(struct device *d, const struct x86_pit_channel s[3], uint8_t speaker)
{
    struct i8254 *p = (struct i8254 *)d;
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 3; i++)
        channel_in(p, &p->ch[i], &s[i]);
    p->speaker = speaker & 3;
    bool periodic = p->ch[0].mode == 2 || p->ch[0].mode == 3;
    /* A single count that has run out has given its interrupt. */
    arm(p, periodic || elapsed(p, &p->ch[0]) >= p->ch[0].count);
    g_mutex_unlock(&d->lock);
}

static bool i8254_realize(struct device *d, GError **error)
{
    struct i8254 *p = (struct i8254 *)d;
    p->timer = vtimer_create(d->machine->clock, expired, p);
    p->window = (struct io_window){ .name = "i8254", .ops = &ops, .opaque = p, .lock = &d->lock, .size = 4, .port = true };
    p->window61 = (struct io_window){ .name = "port61", .ops = &ops61, .opaque = p, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &p->window, 0x40);
    io_window_map(d->machine->memory, &p->window61, 0x61);
    return true;
}

static void i8254_unrealize(struct device *d)
{
    struct i8254 *p = (struct i8254 *)d;
    io_window_unmap(d->machine->memory, &p->window);
    io_window_unmap(d->machine->memory, &p->window61);
    vtimer_destroy(p->timer);
}

/* No table of fields: its state moves in the canonical form (vmm/core/irqchip.h), whoever does its work. */
static const struct device_class i8254_class = {
    .name = "i8254", .help = "interval timer", .size = sizeof(struct i8254),
    .realize = i8254_realize, .reset = i8254_reset, .unrealize = i8254_unrealize, .stateless = true,
};

struct device *i8254_create(struct machine *m, struct irq_line irq0, GError **error)
{
    struct device *d = device_create(m, &i8254_class);
    ((struct i8254 *)d)->irq0 = irq0;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    i8254_reset(d);
    return d;
}
