/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/hpet.h"

#include "vmm/core/irqchip.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

#define TICK_NS 10u
#define NTIMERS 3
#define PERIOD_MIN_NS 20000u
#define ROUTES 0x00f00000ull /* I/O APIC inputs 20-23 */

#define T_LEVEL    0x0002ull
#define T_ENABLE   0x0004ull
#define T_PERIODIC 0x0008ull
#define T_CAP_PER  0x0010ull
#define T_CAP_64   0x0020ull
#define T_SET      0x0040ull
#define T_32BIT    0x0100ull
#define T_WRITABLE (T_LEVEL | T_ENABLE | T_PERIODIC | T_SET | T_32BIT | 0x3e00ull)

struct comparator {
    uint64_t config, value, period;
    uint64_t deadline; /* virtual time; 0: not armed */
};

struct hpet {
    struct device dev;
    const struct irq_line *gsi;
    struct irq_line legacy[2];
    struct io_window window;
    struct vtimer *timer[NTIMERS];
    struct hpet_timer_ref { struct hpet *hpet; unsigned n; } ref[NTIMERS];
    uint64_t config, status;
    uint64_t counter; /* when stopped */
    uint64_t start;   /* virtual time at which the counter was 0, when running */
    uint8_t legacy_level[2];
    struct comparator t[NTIMERS];
};

static bool running(const struct hpet *h) { return h->config & 1; }
static bool legacy_on(const struct hpet *h) { return (h->config & 3) == 3; }

static uint64_t counter(const struct hpet *h)
{
    return running(h) ? (vclock_now(h->dev.machine->clock) - h->start) / TICK_NS : h->counter;
}

static const struct irq_line *line_of(const struct hpet *h, unsigned n)
{
    if (legacy_on(h) && n < 2)
        return &h->legacy[n];
    unsigned route = h->t[n].config >> 9 & 31;
    return ROUTES >> route & 1 ? &h->gsi[route] : NULL;
}

static void arm(struct hpet *h, unsigned n)
{
    struct comparator *t = &h->t[n];
    if (!running(h) || !(t->config & T_ENABLE)) {
        t->deadline = 0;
        vtimer_cancel(h->timer[n]);
        return;
    }
    uint64_t now = counter(h), ticks = t->value - now;
    if (t->config & T_32BIT)
        ticks = (uint32_t)ticks;
    else if ((int64_t)ticks < 0 && (t->config & T_PERIODIC))
        ticks = 0;
    ticks = MIN(ticks, UINT64_MAX / TICK_NS / 4);
    /* "Past" one-shot deadlines wait for the wrap, as in hardware; 32-bit ones wrap in 43 s. */
    t->deadline = vclock_now(h->dev.machine->clock) + ticks * TICK_NS;
    vtimer_set(h->timer[n], t->deadline);
}

static void expired(void *opaque)
{
    struct hpet_timer_ref *ref = opaque;
    struct hpet *h = ref->hpet;
    struct comparator *t = &h->t[ref->n];
    g_mutex_lock(&h->dev.lock);
    uint64_t now = vclock_now(h->dev.machine->clock);
    if (t->deadline && now >= t->deadline) {
        t->deadline = 0;
        const struct irq_line *line = line_of(h, ref->n);
        if (t->config & T_LEVEL) {
            h->status |= 1ull << ref->n;
            irq_set(line, true);
        } else if (line == &h->legacy[0] || line == &h->legacy[1]) {
            /* Up until the next one: an 8259 forgets an edge that falls before it is acknowledged. */
            irq_set(line, false);
            irq_set(line, true);
        } else {
            irq_pulse(line);
        }
        if ((t->config & T_PERIODIC) && t->period) {
            uint64_t period = MAX(t->period, PERIOD_MIN_NS / TICK_NS), late = counter(h) - t->value;
            if (t->config & T_32BIT)
                late = (uint32_t)late;
            t->value += (late / period + 1) * period;
            if (t->config & T_32BIT)
                t->value = (uint32_t)t->value;
            arm(h, ref->n);
        }
    }
    g_mutex_unlock(&h->dev.lock);
}

static uint64_t reg_read(struct hpet *h, uint64_t offset)
{
    switch (offset) {
    case 0x000:
        return (uint64_t)HPET_PERIOD_FS << 32 | 0x8086ull << 16 | 1u << 15 | 1u << 13 | (NTIMERS - 1) << 8 | 1;
    case 0x010:
        return h->config;
    case 0x020:
        return h->status;
    case 0x0f0:
        return counter(h);
    }
    unsigned n = (unsigned)(offset - 0x100) / 0x20;
    if (offset < 0x100 || n >= NTIMERS)
        return 0;
    switch (offset & 0x1f) {
    case 0x00:
        return ROUTES << 32 | T_CAP_64 | T_CAP_PER | h->t[n].config;
    case 0x08:
        return h->t[n].value;
    default:
        return 0;
    }
}

static void config_write(struct hpet *h, uint64_t value)
{
    uint64_t now = counter(h);
    bool was_legacy = legacy_on(h);
    h->config = value & 3;
    if (running(h))
        h->start = vclock_now(h->dev.machine->clock) - now * TICK_NS;
    else
        h->counter = now;
    for (unsigned n = 0; n < NTIMERS; n++)
        arm(h, n);
    for (unsigned i = 0; i < 2 && was_legacy != legacy_on(h); i++)
        irq_set(&h->legacy[i], !legacy_on(h) && h->legacy_level[i]);
    if (was_legacy != legacy_on(h))
        machine_pit_output(h->dev.machine, !legacy_on(h));
}

static void status_write(struct hpet *h, uint64_t value)
{
    for (unsigned n = 0; n < NTIMERS; n++) {
        if (!(value & h->status & 1ull << n))
            continue;
        h->status &= ~(1ull << n);
        irq_set(line_of(h, n), false);
    }
}

static void timer_config_write(struct hpet *h, unsigned n, uint64_t value)
{
    struct comparator *t = &h->t[n];
    if (h->status & 1ull << n) {
        irq_set(line_of(h, n), false);
        h->status &= ~(1ull << n);
    }
    t->config = value & T_WRITABLE;
    if (t->config & T_32BIT) {
        t->value = (uint32_t)t->value;
        t->period = (uint32_t)t->period;
    }
    arm(h, n);
}

/* IA-PC HPET 2.3.9.2.2: in periodic mode a write sets the period, and the comparator too after T_SET. */
static void timer_value_write(struct hpet *h, unsigned n, uint64_t value)
{
    struct comparator *t = &h->t[n];
    if (t->config & T_32BIT)
        value = (uint32_t)value;
    if (!(t->config & T_PERIODIC) || (t->config & T_SET))
        t->value = value;
    if (t->config & T_PERIODIC)
        t->period = value;
    t->config &= ~T_SET;
    arm(h, n);
}

static void reg_write(struct hpet *h, uint64_t offset, uint64_t value)
{
    switch (offset) {
    case 0x010:
        config_write(h, value);
        return;
    case 0x020:
        status_write(h, value);
        return;
    case 0x0f0:
        if (!running(h))
            h->counter = value;
        return;
    }
    unsigned n = (unsigned)(offset - 0x100) / 0x20;
    if (offset < 0x100 || n >= NTIMERS)
        return;
    if ((offset & 0x1f) == 0x00)
        timer_config_write(h, n, value);
    else if ((offset & 0x1f) == 0x08)
        timer_value_write(h, n, value);
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    return reg_read(opaque, offset & ~7ull) >> (offset & 4) * 8;
}

static void window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct hpet *h = opaque;
    if (size == 4) {
        uint64_t old = offset == 0x20 || offset == 0x24 ? 0 : reg_read(h, offset & ~7ull);
        unsigned shift = (offset & 4) * 8;
        value = (old & ~(0xffffffffull << shift)) | value << shift;
    }
    reg_write(h, offset & ~7ull, value);
}

static const struct io_ops window_ops = { window_read, window_write, 4, 8 };

static void legacy_input(void *opaque, unsigned n, bool level)
{
    struct hpet *h = opaque;
    g_mutex_lock(&h->dev.lock);
    h->legacy_level[n] = level;
    if (!legacy_on(h))
        irq_set(&h->legacy[n], level);
    g_mutex_unlock(&h->dev.lock);
}

static void hpet_reset(struct device *d)
{
    struct hpet *h = (struct hpet *)d;
    g_mutex_lock(&d->lock);
    h->config = h->status = h->counter = h->start = 0;
    for (unsigned n = 0; n < NTIMERS; n++) {
        h->t[n] = (struct comparator){ .value = ~0ull };
        vtimer_cancel(h->timer[n]);
    }
    g_mutex_unlock(&d->lock);
}

/* What drives the lines now: level interrupts that were not acknowledged, and in legacy mode nothing of the timers in front. */
static bool hpet_load(struct device *d, struct state_reader *r, GError **error)
{
    struct hpet *h = (struct hpet *)d;
    if (h->config > 3 || h->status >> NTIMERS)
        return state_bad(r, error, "config %#" G_GINT64_MODIFIER "x, status %#" G_GINT64_MODIFIER "x", h->config, h->status);
    for (unsigned n = 0; n < NTIMERS; n++) {
        struct comparator *t = &h->t[n];
        if (t->config & ~T_WRITABLE)
            return state_bad(r, error, "comparator %u has configuration %#" G_GINT64_MODIFIER "x", n, t->config);
        if (t->deadline)
            vtimer_set(h->timer[n], t->deadline);
        if (h->status >> n & 1)
            irq_set(line_of(h, n), true);
    }
    machine_pit_output(d->machine, !legacy_on(h));
    return true;
}

static bool hpet_realize(struct device *d, GError **error)
{
    struct hpet *h = (struct hpet *)d;
    for (unsigned n = 0; n < NTIMERS; n++) {
        h->ref[n] = (struct hpet_timer_ref){ h, n };
        h->timer[n] = vtimer_create(d->machine->clock, expired, &h->ref[n]);
    }
    h->window = (struct io_window){ .name = "hpet", .ops = &window_ops, .opaque = h, .lock = &d->lock, .size = 0x400 };
    io_window_map(d->machine->memory, &h->window, HPET_BASE);
    return true;
}

static void hpet_unrealize(struct device *d)
{
    struct hpet *h = (struct hpet *)d;
    io_window_unmap(d->machine->memory, &h->window);
    for (unsigned n = 0; n < NTIMERS; n++)
        vtimer_destroy(h->timer[n]);
}

static const struct device_field hpet_fields[] = {
    DEVICE_FIELD(struct hpet, config), DEVICE_FIELD(struct hpet, status), DEVICE_FIELD(struct hpet, counter), DEVICE_FIELD(struct hpet, start),
    { "legacy_level", offsetof(struct hpet, legacy_level), 1, 2, .truth = true }, { "comparators", offsetof(struct hpet, t), 8, NTIMERS * sizeof(struct comparator) / 8 }, { 0 }
};

static const struct device_class hpet_class = {
    .name = "hpet", .help = "high precision event timer", .size = sizeof(struct hpet), .fields = hpet_fields,
    .realize = hpet_realize, .reset = hpet_reset, .load = hpet_load, .unrealize = hpet_unrealize,
};

struct device *hpet_create(struct machine *m, const struct irq_line *gsi, struct irq_line irq0, struct irq_line irq8, GError **error)
{
    struct device *d = device_create(m, &hpet_class);
    struct hpet *h = (struct hpet *)d;
    h->gsi = gsi;
    h->legacy[0] = irq0;
    h->legacy[1] = irq8;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    hpet_reset(d);
    return d;
}

bool hpet_legacy(struct device *d)
{
    g_mutex_lock(&d->lock);
    bool on = legacy_on((struct hpet *)d);
    g_mutex_unlock(&d->lock);
    return on;
}

struct irq_line hpet_legacy_input(struct device *d, unsigned n)
{
    return (struct irq_line){ legacy_input, d, n };
}
