/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/pm.h"

#include "base/log.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

#define NSEC 1000000000ull
#define TIMER_HZ 3579545u

#define STS_TMR    0x0001u
#define STS_GBL    0x0020u
#define STS_PWRBTN 0x0100u
#define STS_SLPBTN 0x0200u
#define STS_RTC    0x0400u
#define STS_WAK    0x8000u
#define STS_ALL    (STS_TMR | STS_GBL | STS_PWRBTN | STS_SLPBTN | STS_RTC | STS_WAK)
#define EN_ALL     (STS_TMR | STS_GBL | STS_PWRBTN | STS_SLPBTN | STS_RTC)
#define CNT_SCI_EN 0x0001u
#define CNT_SLP_EN 0x2000u

struct pm {
    struct device dev;
    struct irq_line sci;
    struct io_window block, reset_reg, port92;
    struct vtimer *timer; /* of the PM timer's overflow, while its interrupt is enabled */
    uint16_t status, enable, control;
    uint8_t gpe[PM_GPE0_LEN]; /* 8 bytes status, 8 bytes enable */
    uint8_t reset_value, port92_value;
    uint64_t timer_seen; /* half periods (2^31 ticks) for which TMR_STS was given */
};

static uint64_t timer_ticks(const struct pm *p)
{
    return (uint64_t)((unsigned __int128)vclock_now(p->dev.machine->clock) * TIMER_HZ / NSEC);
}

/* ACPI 6.5, 4.8.3.3: status is set whenever the top bit of the timer changes. */
static void update(struct pm *p)
{
    uint64_t half = timer_ticks(p) >> 31;
    if (half != p->timer_seen) {
        p->timer_seen = half;
        p->status |= STS_TMR;
    }
    bool gpe = false;
    for (unsigned i = 0; i < PM_GPE0_LEN / 2; i++)
        gpe = gpe || (p->gpe[i] & p->gpe[i + PM_GPE0_LEN / 2]);
    irq_set(&p->sci, (p->status & p->enable & EN_ALL) || gpe);
    if (p->enable & STS_TMR)
        vtimer_set(p->timer, (uint64_t)(((unsigned __int128)((half + 1) << 31) * NSEC + TIMER_HZ - 1) / TIMER_HZ));
    else
        vtimer_cancel(p->timer);
}

static void timer_expired(void *opaque)
{
    struct pm *p = opaque;
    g_mutex_lock(&p->dev.lock);
    update(p);
    g_mutex_unlock(&p->dev.lock);
}

static void control_write(struct pm *p, uint16_t value)
{
    p->control = (value & 0x1c06) | CNT_SCI_EN; /* there is no other mode than ACPI */
    if (!(value & CNT_SLP_EN))
        return;
    if ((value >> 10 & 7) == PM_S5_TYPE)
        machine_request_shutdown(p->dev.machine, CAUSE_GUEST_SHUTDOWN);
    else
        log_at(LOG_UNIMP, "pm: sleep type %u is not there", value >> 10 & 7);
}

static uint8_t byte_read(struct pm *p, unsigned offset)
{
    unsigned shift = (offset & 1) * 8;
    switch (offset) {
    case 0: case 1:
        return (uint8_t)(p->status >> shift);
    case 2: case 3:
        return (uint8_t)(p->enable >> shift);
    case 4: case 5:
        return (uint8_t)(p->control >> shift);
    case PM_GPE0 - PM_BASE ... PM_GPE0 - PM_BASE + PM_GPE0_LEN - 1:
        return p->gpe[offset - (PM_GPE0 - PM_BASE)];
    case 0x30:
        return 0x20; /* SMI_EN.APMC_EN (ICH9 datasheet, 13.8.3.10): tells firmware that there is nothing for it to set up in SMM */
    default:
        return 0;
    }
}

static uint64_t block_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pm *p = opaque;
    if (offset >= 8 && offset < 12)
        return (uint32_t)timer_ticks(p) >> (offset & 3) * 8;
    update(p);
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)byte_read(p, (unsigned)offset + i) << i * 8;
    return v;
}

static void byte_write(struct pm *p, unsigned offset, uint8_t value)
{
    unsigned shift = (offset & 1) * 8;
    uint16_t wide = (uint16_t)(value << shift), keep = (uint16_t)(0xff00u >> shift);
    switch (offset) {
    case 0: case 1:
        p->status &= (uint16_t)~(wide & STS_ALL);
        break;
    case 2: case 3:
        p->enable = (uint16_t)((p->enable & keep) | (wide & EN_ALL));
        break;
    case 4: case 5:
        control_write(p, (uint16_t)((p->control & keep) | wide));
        break;
    case PM_GPE0 - PM_BASE ... PM_GPE0 - PM_BASE + PM_GPE0_LEN / 2 - 1:
        p->gpe[offset - (PM_GPE0 - PM_BASE)] &= (uint8_t)~value;
        break;
    case PM_GPE0 - PM_BASE + PM_GPE0_LEN / 2 ... PM_GPE0 - PM_BASE + PM_GPE0_LEN - 1:
        p->gpe[offset - (PM_GPE0 - PM_BASE)] = value;
        break;
    }
}

static void block_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm *p = opaque;
    if (offset == 4 && size >= 2) {
        control_write(p, (uint16_t)value);
    } else {
        for (unsigned i = 0; i < size; i++)
            byte_write(p, (unsigned)offset + i, (uint8_t)(value >> i * 8));
    }
    update(p);
}

/* ICH9 datasheet 13.7.5: bit 2 going from 0 to 1 resets; bit 1 chooses a hard reset. */
static uint64_t reset_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct pm *)opaque)->reset_value;
}

static void reset_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm *p = opaque;
    if ((value & 4) && !(p->reset_value & 4))
        machine_request_reset(p->dev.machine, CAUSE_GUEST_RESET);
    p->reset_value = value & 0x0a;
}

/* Port 92h: bit 0 rising resets, bit 1 is A20 (always on here). */
static uint64_t port92_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct pm *)opaque)->port92_value;
}

static void port92_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm *p = opaque;
    if ((value & 1) && !(p->port92_value & 1))
        machine_request_reset(p->dev.machine, CAUSE_GUEST_RESET);
    p->port92_value = value & 3;
}

static const struct io_ops block_ops = { block_read, block_write, 1, 4 }, reset_ops = { reset_read, reset_write, 1, 1 },
                           port92_ops = { port92_read, port92_write, 1, 1 };

static void pm_reset(struct device *d)
{
    struct pm *p = (struct pm *)d;
    g_mutex_lock(&d->lock);
    p->status = p->enable = 0;
    p->control = CNT_SCI_EN;
    for (unsigned i = 0; i < PM_GPE0_LEN; i++)
        p->gpe[i] = 0;
    p->reset_value = 0;
    p->port92_value = 2;
    p->timer_seen = timer_ticks(p) >> 31;
    update(p);
    g_mutex_unlock(&d->lock);
}

static bool pm_load(struct device *d, struct state_reader *r, GError **error)
{
    struct pm *p = (struct pm *)d;
    if (p->status & ~STS_ALL || p->enable & ~EN_ALL || p->reset_value & ~0x0a || p->port92_value & ~3)
        return state_bad(r, error, "a register has bits that are not there");
    update(p);
    return true;
}

void pm_power_button(struct device *d)
{
    struct pm *p = (struct pm *)d;
    g_mutex_lock(&d->lock);
    p->status |= STS_PWRBTN;
    update(p);
    g_mutex_unlock(&d->lock);
}

static void gpe_set(void *opaque, unsigned n, bool level)
{
    struct pm *p = opaque;
    if (!level)
        return;
    g_mutex_lock(&p->dev.lock);
    p->gpe[n / 8] |= (uint8_t)(1u << n % 8);
    update(p);
    g_mutex_unlock(&p->dev.lock);
}

struct irq_line pm_gpe_line(struct device *d, unsigned n)
{
    return (struct irq_line){ gpe_set, d, n % (PM_GPE0_LEN / 2 * 8) };
}

static bool pm_realize(struct device *d, GError **error)
{
    struct pm *p = (struct pm *)d;
    p->timer = vtimer_create(d->machine->clock, timer_expired, p);
    p->block = (struct io_window){ .name = "acpi-pm", .ops = &block_ops, .opaque = p, .lock = &d->lock, .size = 0x40, .port = true };
    p->reset_reg = (struct io_window){ .name = "reset", .ops = &reset_ops, .opaque = p, .lock = &d->lock, .size = 1, .port = true };
    p->port92 = (struct io_window){ .name = "port92", .ops = &port92_ops, .opaque = p, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &p->block, PM_BASE);
    io_window_map(d->machine->memory, &p->reset_reg, PM_RESET_REG);
    io_window_map(d->machine->memory, &p->port92, 0x92);
    return true;
}

static void pm_unrealize(struct device *d)
{
    struct pm *p = (struct pm *)d;
    io_window_unmap(d->machine->memory, &p->block);
    io_window_unmap(d->machine->memory, &p->reset_reg);
    io_window_unmap(d->machine->memory, &p->port92);
    vtimer_destroy(p->timer);
}

static const struct device_field pm_fields[] = {
    DEVICE_FIELD(struct pm, status), DEVICE_FIELD(struct pm, enable), DEVICE_FIELD(struct pm, control), DEVICE_ARRAY(struct pm, gpe),
    DEVICE_FIELD(struct pm, reset_value), DEVICE_FIELD(struct pm, port92_value), DEVICE_FIELD(struct pm, timer_seen), { 0 }
};

static const struct device_class pm_class = {
    .name = "acpi-pm", .help = "ACPI fixed hardware", .size = sizeof(struct pm), .fields = pm_fields,
    .realize = pm_realize, .reset = pm_reset, .load = pm_load, .unrealize = pm_unrealize,
};

struct device *pm_create(struct machine *m, struct irq_line sci, GError **error)
{
    struct device *d = device_create(m, &pm_class);
    ((struct pm *)d)->sci = sci;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    pm_reset(d);
    return d;
}
