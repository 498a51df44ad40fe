/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks: device.lock covers one APIC. Never two at once; none is held while calling the I/O APIC or the 8259, which call
 * here with theirs held. vCPU threads are told under the lock, so that level changes arrive in order.
 */
#include "vmm/dev/apic.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/irqchip.h"

#define NSEC 1000000000ull
#define TIMER_PERIOD_MIN 20000 /* ns: no guest needs more interrupts than that, and the clock thread is everybody's */

#define BASE_BSP  0x100u
#define BASE_X2   0x400u
#define BASE_ON   0x800u

/* Registers by offset / 16, which are also MSR numbers minus 0x800 (SDM vol. 3, tables 10-1 and 10-6). */
enum reg {
    REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a, REG_EOI = 0x0b, REG_RRD = 0x0c, REG_LDR = 0x0d,
    REG_DFR = 0x0e, REG_SVR = 0x0f, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_CMCI = 0x2f, REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31, REG_LVT_TIMER = 0x32, REG_LVT_ERROR = 0x37, REG_TIMER_INITIAL = 0x38, REG_TIMER_CURRENT = 0x39,
    REG_TIMER_DIVIDE = 0x3e, REG_SELF_IPI = 0x3f
};

enum { LVT_TIMER, LVT_THERMAL, LVT_PMI, LVT_LINT0, LVT_LINT1, LVT_ERROR, NLVT };
/* Writable bits of each LVT entry (SDM vol. 3, figure 10-8). */
static const uint32_t lvt_mask[NLVT] = { 0x710ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff };
#define LVT_MASKED 0x10000u

enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_RESERVED, MODE_NMI, MODE_INIT, MODE_SIPI, MODE_EXTINT };
enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define ESR_SEND_VECTOR 0x20u
#define ESR_RECV_VECTOR 0x40u
#define ESR_REGISTER    0x80u

struct apic {
    struct device dev;
    struct apic_group *group;
    struct vtimer *timer;
    unsigned index;
    uint32_t base; /* low half of IA32_APIC_BASE */
    uint32_t irr[8], isr[8], tmr[8];
    uint32_t tpr, svr, ldr, dfr, esr, esr_pending;
    uint32_t icr_low, icr_high;
    uint32_t lvt[NLVT];
    uint32_t timer_initial, timer_divide;
    uint64_t timer_start;    /* virtual time when the counter last had its initial value */
    uint64_t timer_deadline; /* virtual time of the next interrupt; 0: stopped */
    uint64_t tsc_deadline;   /* the MSR */
    uint8_t id;
    uint8_t intr;            /* level told to the vCPU */
};

struct apic_group {
    struct machine *machine;
    unsigned n;
    struct apic **apics;
    struct io_window window;
    struct irq_line eoi;
    int (*ext_ack)(void *opaque);
    void *ext_opaque;
    _Atomic bool ext_level;
    _Atomic unsigned round; /* where the search for the lowest priority begins */
};

struct message {
    uint32_t dest;
    bool logical, level, wide /* 32-bit destination */;
    uint8_t mode, vector;
};

/* --- vectors ---------------------------------------------------------------------------------------------------- */

static void bit_set(uint32_t *set, unsigned v) { set[v / 32] |= 1u << v % 32; }
static void bit_clear(uint32_t *set, unsigned v) { set[v / 32] &= ~(1u << v % 32); }
static bool bit_test(const uint32_t *set, unsigned v) { return set[v / 32] >> v % 32 & 1; }

static int highest(const uint32_t *set)
{
    for (int i = 7; i >= 0; i--) {
        if (set[i])
            return i * 32 + 31 - __builtin_clz(set[i]);
    }
    return -1;
}

static bool enabled(const struct apic *a)
{
    return (a->base & BASE_ON) && (a->svr & 0x100);
}

/* SDM vol. 3, 10.8.3.1. */
static uint32_t ppr(const struct apic *a)
{
    int v = highest(a->isr);
    uint32_t in_service = v < 0 ? 0 : (uint32_t)v & 0xf0;
    return (a->tpr & 0xf0) >= in_service ? a->tpr : in_service;
}

static int deliverable(const struct apic *a)
{
    int v = enabled(a) ? highest(a->irr) : -1;
    return v >= 16 && ((uint32_t)v & 0xf0) > (ppr(a) & 0xf0) ? v : -1;
}

/* Does the 8259 reach this vCPU's interrupt input (virtual wire mode, MultiProcessor Specification 3.6.2.2)? */
static bool extint_accepted(const struct apic *a)
{
    if (a->index != 0 || !atomic_load(&a->group->ext_level))
        return false;
    return !(a->base & BASE_ON) || (a->lvt[LVT_LINT0] & (LVT_MASKED | 0x700)) == 0x700;
}

static void update_locked(struct apic *a)
{
    if (machine_lapic_inside(a->group->machine))
        return;
    bool level = deliverable(a) >= 0 || extint_accepted(a);
    if (level == a->intr)
        return;
    a->intr = level;
    vcpu_set_intr(a->group->machine, a->index, level);
}

static void error_locked(struct apic *a, uint32_t bit);

static void accept_locked(struct apic *a, unsigned vector, bool level)
{
    if (vector < 16) {
        error_locked(a, ESR_RECV_VECTOR);
        return;
    }
    if (!enabled(a))
        return;
    bit_set(a->irr, vector);
    if (level)
        bit_set(a->tmr, vector);
    else
        bit_clear(a->tmr, vector);
    update_locked(a);
}

static void error_locked(struct apic *a, uint32_t bit)
{
    uint32_t lvt = a->lvt[LVT_ERROR];
    bool had = a->esr_pending & bit;
    a->esr_pending |= bit;
    if (!had && !(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        accept_locked(a, lvt & 0xff, false);
}

/* --- reset and INIT ----------------------------------------------------------------------------------------------- */

/* SDM vol. 3, 10.4.7.1. The board has no firmware, so the LINT pins begin as firmware would leave them: 8259 on LINT0 of
 * the first vCPU, NMI on LINT1. */
static void init_locked(struct apic *a)
{
    vtimer_cancel(a->timer);
    memset(a->irr, 0, sizeof(a->irr));
    memset(a->isr, 0, sizeof(a->isr));
    memset(a->tmr, 0, sizeof(a->tmr));
    a->tpr = a->esr = a->esr_pending = a->icr_low = a->icr_high = 0;
    a->svr = 0xff;
    a->dfr = 0xffffffff;
    a->ldr = a->base & BASE_X2 ? (a->index / 16u << 16 | 1u << a->index % 16) : 0;
    for (unsigned i = 0; i < NLVT; i++)
        a->lvt[i] = LVT_MASKED;
    if (a->index == 0)
        a->lvt[LVT_LINT0] = 0x700;
    a->timer_initial = a->timer_divide = 0;
    a->timer_start = a->timer_deadline = a->tsc_deadline = 0;
    a->id = (uint8_t)a->index;
    a->intr = false;
    if (!machine_lapic_inside(a->group->machine))
        vcpu_set_intr(a->group->machine, a->index, false);
}

static void apic_reset(struct device *d)
{
    struct apic *a = (struct apic *)d;
    g_mutex_lock(&d->lock);
    a->base = (uint32_t)APIC_BASE | BASE_ON | (a->index ? 0 : BASE_BSP);
    init_locked(a);
    update_locked(a);
    g_mutex_unlock(&d->lock);
}

/* --- delivery ------------------------------------------------------------------------------------------------------ */

static void deliver(struct apic *a, const struct message *msg)
{
    struct machine *m = a->group->machine;
    g_mutex_lock(&a->dev.lock);
    switch (msg->mode) {
    case MODE_FIXED:
    case MODE_LOWEST:
        accept_locked(a, msg->vector, msg->level);
        break;
    case MODE_NMI:
        vcpu_nmi(m, a->index);
        break;
    case MODE_INIT:
        init_locked(a);
        vcpu_init(m, a->index);
        update_locked(a);
        break;
    case MODE_SIPI:
        vcpu_sipi(m, a->index, msg->vector);
        break;
    default:
        log_at(LOG_UNIMP, "apic: delivery mode %u is not there", msg->mode);
    }
    g_mutex_unlock(&a->dev.lock);
}

/* SDM vol. 3, 10.6.2. Registers of other APICs are read without their locks: a guest that changes a destination while
 * it is in use gets the old or the new one. */
static bool matches(const struct apic *a, const struct message *msg)
{
    bool x2 = a->base & BASE_X2;
    if (!msg->logical) {
        if (msg->dest == (msg->wide ? 0xffffffffu : 0xffu))
            return true;
        return msg->dest == (x2 ? a->index : a->id);
    }
    if (x2)
        return msg->dest >> 16 == a->ldr >> 16 && (msg->dest & a->ldr & 0xffff);
    uint32_t ldr = a->ldr >> 24, dest = msg->dest & 0xff;
    if (a->dfr >> 28 == 0xf)
        return ldr & dest;
    return (dest >> 4 == 0xf || dest >> 4 == ldr >> 4) && (dest & ldr & 0xf);
}

static void send_lowest(struct apic_group *g, const struct message *msg)
{
    struct apic *best = NULL;
    unsigned from = atomic_fetch_add(&g->round, 1);
    for (unsigned i = 0; i < g->n; i++) {
        struct apic *a = g->apics[(from + i) % g->n];
        if (matches(a, msg) && enabled(a) && (!best || ppr(a) < ppr(best)))
            best = a;
    }
    if (best)
        deliver(best, msg);
}

static void send(struct apic_group *g, const struct message *msg)
{
    if (!msg->logical && msg->dest < g->n && msg->dest != 0xff && g->apics[msg->dest]->id == msg->dest) {
        deliver(g->apics[msg->dest], msg);
        return;
    }
    if (msg->mode == MODE_LOWEST) {
        send_lowest(g, msg);
        return;
    }
    for (unsigned i = 0; i < g->n; i++) {
        if (matches(g->apics[i], msg))
            deliver(g->apics[i], msg);
    }
}

/* SDM vol. 3, 10.11.1 and 10.11.2. */
static void deliver_msi(struct apic_group *g, uint64_t address, uint32_t data)
{
    if (address >> 20 != 0xfee) {
        log_at(LOG_GUEST_ERRORS, "apic: message to %#llx, where no APIC is", (unsigned long long)address);
        return;
    }
    struct message msg = { .dest = address >> 12 & 0xff, .logical = address >> 2 & 1, .mode = data >> 8 & 7,
                           .vector = data & 0xff, .level = data >> 15 & 1 };
    send(g, &msg);
}

static void msi_send(void *opaque, uint64_t address, uint32_t data)
{
    struct apic_group *g = opaque;
    machine_irq_begin(g->machine);
    if (machine_lapic_inside(g->machine))
        machine_msi_send(g->machine, address, data);
    else
        deliver_msi(g, address, data);
    machine_irq_end(g->machine);
}

/* An IPI; `a` is unlocked. */
static void send_ipi(struct apic *a, uint32_t low, uint32_t dest, bool wide)
{
    struct apic_group *g = a->group;
    struct message msg = { .dest = dest, .wide = wide, .logical = low >> 11 & 1, .mode = low >> 8 & 7, .vector = low & 0xff };
    if ((msg.mode == MODE_FIXED || msg.mode == MODE_LOWEST) && msg.vector < 16) {
        g_mutex_lock(&a->dev.lock);
        error_locked(a, ESR_SEND_VECTOR);
        g_mutex_unlock(&a->dev.lock);
        return;
    }
    if (msg.mode == MODE_INIT && (low >> 15 & 1) && !(low >> 14 & 1))
        return; /* INIT level de-assert: no effect on these processors */
    switch (low >> 18 & 3) {
    case 0:
        send(g, &msg);
        break;
    case 1:
        deliver(a, &msg);
        break;
    default:
        for (unsigned i = 0; i < g->n; i++) {
            if (g->apics[i] != a || (low >> 18 & 3) == 2)
                deliver(g->apics[i], &msg);
        }
    }
}

/* --- timer (SDM vol. 3, 10.5.4) -------------------------------------------------------------------------------------- */

static unsigned timer_mode(const struct apic *a)
{
    return a->lvt[LVT_TIMER] >> 17 & 3;
}

/* The counter runs at 1 GHz before the divider. */
static uint64_t timer_divider(const struct apic *a)
{
    unsigned code = (a->timer_divide & 3) | (a->timer_divide >> 1 & 4);
    return 1ull << ((code + 1) & 7);
}

static void timer_fire_locked(struct apic *a)
{
    uint32_t lvt = a->lvt[LVT_TIMER];
    if (!(lvt & LVT_MASKED))
        accept_locked(a, lvt & 0xff, false);
}

static void timer_start_locked(struct apic *a)
{
    uint64_t period = a->timer_initial * timer_divider(a);
    a->timer_start = vclock_now(a->group->machine->clock);
    a->timer_deadline = 0;
    if (!a->timer_initial || timer_mode(a) == TIMER_DEADLINE) {
        vtimer_cancel(a->timer);
        return;
    }
    a->timer_deadline = a->timer_start + period;
    vtimer_set(a->timer, a->timer_deadline);
}

static uint32_t timer_current(const struct apic *a)
{
    uint64_t divider = timer_divider(a), period = a->timer_initial * divider;
    if (!a->timer_initial || timer_mode(a) == TIMER_DEADLINE)
        return 0;
    uint64_t passed = vclock_now(a->group->machine->clock) - a->timer_start;
    if (timer_mode(a) == TIMER_PERIODIC)
        passed %= period;
    return passed >= period ? 0 : (uint32_t)((period - passed + divider - 1) / divider);
}

static void deadline_set_locked(struct apic *a, uint64_t tsc)
{
    struct machine *m = a->group->machine;
    if (timer_mode(a) != TIMER_DEADLINE)
        return;
    uint64_t now = machine_guest_tsc(m), hz = machine_tsc_hz(m);
    a->tsc_deadline = tsc;
    a->timer_deadline = 0;
    if (!tsc) {
        vtimer_cancel(a->timer);
        return;
    }
    if ((int64_t)(tsc - now) <= 0) {
        a->tsc_deadline = 0;
        vtimer_cancel(a->timer);
        timer_fire_locked(a);
        return;
    }
    a->timer_deadline = vclock_now(m->clock) + (uint64_t)((unsigned __int128)(tsc - now) * NSEC / hz);
    vtimer_set(a->timer, a->timer_deadline);
}

/* What falls due, if it has: the clock's thread does this, and whoever reads the state, since a timer that has run down and not been
 * seen to is in no register. */
static void timer_due_locked(struct apic *a)
{
    uint64_t now = vclock_now(a->group->machine->clock);
    if (!a->timer_deadline || now < a->timer_deadline)
        return;
    if (timer_mode(a) == TIMER_PERIODIC) {
        uint64_t period = MAX(a->timer_initial * timer_divider(a), TIMER_PERIOD_MIN);
        a->timer_start = a->timer_deadline;
        if (now - a->timer_start >= period)
            a->timer_start = now - (now - a->timer_start) % period; /* late: what was missed is lost */
        a->timer_deadline = a->timer_start + period;
        vtimer_set(a->timer, a->timer_deadline);
    } else {
        a->timer_deadline = a->tsc_deadline = 0;
    }
    timer_fire_locked(a);
}

static void timer_expired(void *opaque)
{
    struct apic *a = opaque;
    g_mutex_lock(&a->dev.lock);
    timer_due_locked(a);
    g_mutex_unlock(&a->dev.lock);
}

/* --- registers ---------------------------------------------------------------------------------------------------------- */

static uint32_t reg_read_locked(struct apic *a, unsigned reg, bool *ok)
{
    *ok = true;
    switch (reg) {
    case REG_ID:
        return a->base & BASE_X2 ? a->index : (uint32_t)a->id << 24;
    case REG_VERSION:
        return 0x00050014;
    case REG_TPR:
        return a->tpr;
    case REG_APR:
    case REG_RRD:
        *ok = !(a->base & BASE_X2);
        return 0;
    case REG_PPR:
        return ppr(a);
    case REG_LDR:
        return a->ldr;
    case REG_DFR:
        *ok = !(a->base & BASE_X2);
        return a->dfr;
    case REG_SVR:
        return a->svr;
    case REG_ISR ... REG_ISR + 7:
        return a->isr[reg - REG_ISR];
    case REG_TMR ... REG_TMR + 7:
        return a->tmr[reg - REG_TMR];
    case REG_IRR ... REG_IRR + 7:
        return a->irr[reg - REG_IRR];
    case REG_ESR:
        return a->esr;
    case REG_ICR:
        return a->icr_low;
    case REG_ICR_HIGH:
        return a->icr_high;
    case REG_LVT_TIMER ... REG_LVT_ERROR:
        return a->lvt[reg - REG_LVT_TIMER];
    case REG_TIMER_INITIAL:
        return a->timer_initial;
    case REG_TIMER_CURRENT:
        return timer_current(a);
    case REG_TIMER_DIVIDE:
        return a->timer_divide;
    default:
        *ok = false;
        return 0;
    }
}

static void lvt_write_locked(struct apic *a, unsigned n, uint32_t value)
{
    unsigned old_mode = timer_mode(a);
    value &= lvt_mask[n];
    if (!(a->svr & 0x100))
        value |= LVT_MASKED;
    a->lvt[n] = value;
    if (n == LVT_TIMER && (old_mode == TIMER_DEADLINE) != (timer_mode(a) == TIMER_DEADLINE)) {
        vtimer_cancel(a->timer);
        a->timer_deadline = a->tsc_deadline = 0;
        a->timer_initial = 0;
    }
    if (n == LVT_LINT0)
        update_locked(a);
}

static void svr_write_locked(struct apic *a, uint32_t value)
{
    a->svr = value & 0x3ff;
    for (unsigned i = 0; !(value & 0x100) && i < NLVT; i++)
        a->lvt[i] |= LVT_MASKED; /* SDM vol. 3, 10.4.7.2 */
    update_locked(a);
}

/* Registers whose writing touches this APIC only. False: no such register. */
static bool reg_write_locked(struct apic *a, unsigned reg, uint32_t value)
{
    bool x2 = a->base & BASE_X2;
    switch (reg) {
    case REG_ID:
        if (!x2)
            a->id = (uint8_t)(value >> 24);
        return !x2;
    case REG_TPR:
        a->tpr = value & 0xff;
        update_locked(a);
        return true;
    case REG_LDR:
        if (!x2)
            a->ldr = value & 0xff000000;
        return !x2;
    case REG_DFR:
        if (!x2)
            a->dfr = value | 0x0fffffff;
        return !x2;
    case REG_SVR:
        svr_write_locked(a, value);
        return true;
    case REG_ESR:
        a->esr = a->esr_pending;
        a->esr_pending = 0;
        return !x2 || !value;
    case REG_LVT_TIMER ... REG_LVT_ERROR:
        lvt_write_locked(a, reg - REG_LVT_TIMER, value);
        return true;
    case REG_TIMER_INITIAL:
        if (timer_mode(a) != TIMER_DEADLINE) {
            a->timer_initial = value;
            timer_start_locked(a);
        }
        return true;
    case REG_TIMER_DIVIDE:
        a->timer_divide = value & 0xb;
        if (a->timer_deadline && timer_mode(a) != TIMER_DEADLINE)
            timer_start_locked(a);
        return true;
    case REG_VERSION:
    case REG_PPR:
    case REG_ISR ... REG_IRR + 7:
    case REG_TIMER_CURRENT:
        return !x2; /* read only: ignored, #GP by MSR */
    default:
        return false;
    }
}

static void eoi(struct apic *a)
{
    g_mutex_lock(&a->dev.lock);
    int v = highest(a->isr);
    bool broadcast = false;
    if (v >= 0) {
        bit_clear(a->isr, (unsigned)v);
        broadcast = bit_test(a->tmr, (unsigned)v);
        update_locked(a);
    }
    g_mutex_unlock(&a->dev.lock);
    if (broadcast && a->group->eoi.set)
        a->group->eoi.set(a->group->eoi.opaque, (unsigned)v, true);
}

static bool reg_write(struct apic *a, unsigned reg, uint64_t value)
{
    bool x2 = a->base & BASE_X2, ok = true;
    uint32_t dest;
    switch (reg) {
    case REG_EOI:
        eoi(a);
        return !x2 || !value;
    case REG_ICR:
        g_mutex_lock(&a->dev.lock);
        a->icr_low = (uint32_t)value & 0xccfff & ~0x1000u; /* delivery is at once: never "pending" */
        if (x2)
            a->icr_high = (uint32_t)(value >> 32);
        dest = x2 ? a->icr_high : a->icr_high >> 24;
        g_mutex_unlock(&a->dev.lock);
        send_ipi(a, (uint32_t)value, dest, x2);
        return true;
    case REG_ICR_HIGH:
        a->icr_high = (uint32_t)value & 0xff000000;
        return !x2;
    case REG_SELF_IPI:
        if (x2)
            send_ipi(a, ((uint32_t)value & 0xff) | 1u << 18, 0, true);
        return x2;
    default:
        g_mutex_lock(&a->dev.lock);
        ok = reg_write_locked(a, reg, (uint32_t)value);
        if (!ok && !x2)
            error_locked(a, ESR_REGISTER);
        g_mutex_unlock(&a->dev.lock);
        return ok && (!x2 || value >> 32 == 0);
    }
}

static struct apic *nth(struct apic_group *g, unsigned cpu)
{
    return g->apics[cpu < g->n ? cpu : 0];
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    struct apic *a = nth(opaque, vcpu_current_index());
    bool ok;
    if (!(a->base & BASE_ON) || (a->base & BASE_X2))
        return ~0ull;
    if ((offset & 15) + size > 4 || (offset & 15))
        return 0;
    g_mutex_lock(&a->dev.lock);
    uint32_t v = reg_read_locked(a, (unsigned)(offset >> 4), &ok);
    if (!ok)
        error_locked(a, ESR_REGISTER);
    g_mutex_unlock(&a->dev.lock);
    return v;
}

/* A write that no vCPU makes to its own APIC's page is a message (SDM vol. 3, 10.11): devices do it by msi_sink; a vCPU
 * that writes within 4 KiB means its registers. */
static void window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct apic *a = nth(opaque, vcpu_current_index());
    if (!(a->base & BASE_ON) || (a->base & BASE_X2) || (offset & 15) || size < 4)
        return;
    (void)reg_write(a, (unsigned)(offset >> 4), (uint32_t)value);
}

static const struct io_ops window_ops = { window_read, window_write, 1, 4 };

/* --- what the machine asks for a vCPU ------------------------------------------------------------------------------------ */

static int ack_interrupt(struct machine *m, unsigned cpu)
{
    struct apic_group *g = m->apics;
    struct apic *a = nth(g, cpu);
    if (machine_lapic_inside(m)) /* split: what comes from the 8259 */
        return g->ext_ack && cpu == 0 && atomic_load(&g->ext_level) ? g->ext_ack(g->ext_opaque) : -1;
    g_mutex_lock(&a->dev.lock);
    int v = deliverable(a);
    bool ext = v < 0 && extint_accepted(a);
    if (v >= 0) {
        bit_clear(a->irr, (unsigned)v);
        bit_set(a->isr, (unsigned)v);
    }
    update_locked(a);
    g_mutex_unlock(&a->dev.lock);
    return ext && g->ext_ack ? g->ext_ack(g->ext_opaque) : v;
}

static unsigned get_tpr(struct machine *m, unsigned cpu)
{
    return nth(m->apics, cpu)->tpr >> 4;
}

static void set_tpr(struct machine *m, unsigned cpu, unsigned tpr)
{
    struct apic *a = nth(m->apics, cpu);
    g_mutex_lock(&a->dev.lock);
    a->tpr = (tpr & 15) << 4;
    update_locked(a);
    g_mutex_unlock(&a->dev.lock);
}

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u

/* SDM vol. 3, 10.12.5: which changes of mode are allowed. The window cannot be moved. */
static bool base_write(struct apic *a, uint64_t value)
{
    uint32_t mode = (uint32_t)value & (BASE_ON | BASE_X2);
    bool has_x2 = machine_has_x2apic(a->group->machine);
    if (value >> 12 != APIC_BASE >> 12 || (value & 0x2ff) || mode == BASE_X2 || ((mode & BASE_X2) && !has_x2)) {
        log_at(LOG_GUEST_ERRORS, "cpu %u: IA32_APIC_BASE <- %#llx refused", a->index, (unsigned long long)value);
        return false;
    }
    g_mutex_lock(&a->dev.lock);
    uint32_t old = a->base & (BASE_ON | BASE_X2);
    bool ok = !((old & BASE_X2) && mode == BASE_ON) && !(old == 0 && (mode & BASE_X2));
    if (ok) {
        a->base = (a->base & BASE_BSP) | (uint32_t)APIC_BASE | mode;
        if (!(mode & BASE_ON) && old) {
            init_locked(a);
        } else if (mode != old && (mode & BASE_X2)) {
            a->ldr = a->index / 16u << 16 | 1u << a->index % 16;
            a->icr_high = 0;
        }
        update_locked(a);
    }
    g_mutex_unlock(&a->dev.lock);
    return ok;
}

static bool msr_read(struct machine *m, unsigned cpu, uint32_t index, uint64_t *ret)
{
    struct apic *a = nth(m->apics, cpu);
    bool ok = true;
    if (index == MSR_APIC_BASE) {
        *ret = a->base;
        return true;
    }
    if (index == MSR_TSC_DEADLINE) {
        *ret = a->tsc_deadline;
        return true;
    }
    if (index < 0x800 || index > 0x83f || !(a->base & BASE_X2))
        return false;
    unsigned reg = index - 0x800;
    if (reg == REG_ICR_HIGH || reg == REG_EOI || reg == REG_SELF_IPI)
        return false;
    g_mutex_lock(&a->dev.lock);
    *ret = reg_read_locked(a, reg, &ok);
    if (reg == REG_ICR)
        *ret |= (uint64_t)a->icr_high << 32;
    g_mutex_unlock(&a->dev.lock);
    return ok;
}

static bool msr_write(struct machine *m, unsigned cpu, uint32_t index, uint64_t value)
{
    struct apic *a = nth(m->apics, cpu);
    if (index == MSR_APIC_BASE)
        return base_write(a, value);
    if (index == MSR_TSC_DEADLINE) {
        g_mutex_lock(&a->dev.lock);
        deadline_set_locked(a, value);
        g_mutex_unlock(&a->dev.lock);
        return true;
    }
    if (index < 0x800 || index > 0x83f || !(a->base & BASE_X2) || index == 0x800 + REG_ICR_HIGH)
        return false;
    return reg_write(a, index - 0x800, value);
}

/* --- the 8259's output ------------------------------------------------------------------------------------------------------ */

static void extint_set(void *opaque, unsigned input, bool level)
{
    struct apic_group *g = opaque;
    struct apic *a = g->apics[0];
    if (machine_lapic_inside(g->machine)) {
        atomic_store(&g->ext_level, level);
        machine_extint_set(g->machine, level);
        return;
    }
    g_mutex_lock(&a->dev.lock);
    bool rise = level && !atomic_exchange(&g->ext_level, level);
    atomic_store(&g->ext_level, level);
    uint32_t lvt = a->lvt[LVT_LINT0];
    if (rise && (a->base & BASE_ON) && !(lvt & LVT_MASKED)) {
        if ((lvt >> 8 & 7) == MODE_FIXED)
            accept_locked(a, lvt & 0xff, lvt >> 15 & 1);
        else if ((lvt >> 8 & 7) == MODE_NMI)
            vcpu_nmi(g->machine, 0);
    }
    update_locked(a);
    g_mutex_unlock(&a->dev.lock);
}

struct irq_line apic_extint_line(struct machine *m)
{
    return (struct irq_line){ extint_set, m->apics, 0 };
}

void apic_set_extint_ack(struct machine *m, int (*ack)(void *opaque), void *opaque)
{
    m->apics->ext_ack = ack;
    m->apics->ext_opaque = opaque;
}

void apic_set_eoi(struct machine *m, struct irq_line eoi_line)
{
    m->apics->eoi = eoi_line;
}

/* --- the canonical form -------------------------------------------------------------------------------------------------------- */

static void lapic_get(struct machine *m, unsigned cpu, struct x86_lapic *ret)
{
    struct apic *a = nth(m->apics, cpu);
    bool ok;
    memset(ret, 0, sizeof(*ret));
    g_mutex_lock(&a->dev.lock);
    timer_due_locked(a);
    for (unsigned reg = REG_ID; reg <= REG_TIMER_DIVIDE; reg++) {
        uint32_t value = reg_read_locked(a, reg, &ok);
        ret->regs[reg] = ok ? value : 0;
    }
    ret->regs[REG_DFR] = a->dfr;
    ret->regs[REG_ESR] = a->esr | a->esr_pending;
    ret->base = a->base;
    ret->tsc_deadline = a->tsc_deadline;
    g_mutex_unlock(&a->dev.lock);
}

/* The count goes on from where it is. */
static void timer_in_locked(struct apic *a, const struct x86_lapic *s)
{
    uint64_t divider = timer_divider(a), now = vclock_now(a->group->machine->clock), period = a->timer_initial * divider;
    uint64_t left = MIN(s->regs[REG_TIMER_CURRENT], a->timer_initial) * divider;
    if (timer_mode(a) == TIMER_PERIODIC && !left && period)
        left = 1; /* seen at its end, where it begins again: it expires now */
    vtimer_cancel(a->timer);
    a->timer_deadline = a->tsc_deadline = 0;
    a->timer_start = now + left - period; /* may lie before the clock's beginning: differences are what is used */
    if (timer_mode(a) == TIMER_DEADLINE) {
        deadline_set_locked(a, s->tsc_deadline);
    } else if (left) {
        a->timer_deadline = now + left;
        vtimer_set(a->timer, a->timer_deadline);
    }
}

static void lapic_set(struct machine *m, unsigned cpu, const struct x86_lapic *s)
{
    struct apic *a = nth(m->apics, cpu);
    g_mutex_lock(&a->dev.lock);
    a->base = (uint32_t)APIC_BASE | ((uint32_t)s->base & (BASE_BSP | BASE_X2 | BASE_ON));
    a->id = (uint8_t)(a->base & BASE_X2 ? a->index : s->regs[REG_ID] >> 24);
    memcpy(a->isr, s->regs + REG_ISR, sizeof(a->isr));
    memcpy(a->tmr, s->regs + REG_TMR, sizeof(a->tmr));
    memcpy(a->irr, s->regs + REG_IRR, sizeof(a->irr));
    a->tpr = s->regs[REG_TPR] & 0xff;
    a->svr = s->regs[REG_SVR] & 0x3ff;
    a->ldr = s->regs[REG_LDR];
    a->dfr = s->regs[REG_DFR] | 0x0fffffff;
    a->esr = s->regs[REG_ESR];
    a->esr_pending = 0;
    a->icr_low = s->regs[REG_ICR] & 0xccfff & ~0x1000u;
    a->icr_high = s->regs[REG_ICR_HIGH];
    for (unsigned i = 0; i < NLVT; i++)
        a->lvt[i] = s->regs[REG_LVT_TIMER + i] & lvt_mask[i];
    a->timer_initial = s->regs[REG_TIMER_INITIAL];
    a->timer_divide = s->regs[REG_TIMER_DIVIDE] & 0xb;
    timer_in_locked(a, s);
    a->intr = false;
    vcpu_set_intr(m, a->index, false);
    update_locked(a);
    g_mutex_unlock(&a->dev.lock);
}

void apic_quiet(struct machine *m)
{
    for (unsigned i = 0; i < m->apics->n; i++)
        apic_reset(&m->apics->apics[i]->dev);
}

/* --- life -------------------------------------------------------------------------------------------------------------------- */

static bool apic_realize(struct device *d, GError **error)
{
    struct apic *a = (struct apic *)d;
    a->timer = vtimer_create(d->machine->clock, timer_expired, a);
    return true;
}

static void apic_unrealize(struct device *d)
{
    vtimer_destroy(((struct apic *)d)->timer);
}

/* No table of fields: its state moves in the canonical form (vmm/core/irqchip.h), whoever does its work. */
static const struct device_class apic_class = {
    .name = "apic", .help = "local APIC", .size = sizeof(struct apic),
    .realize = apic_realize, .reset = apic_reset, .unrealize = apic_unrealize, .stateless = true,
};

static void reset_one(struct machine *m, unsigned cpu)
{
    apic_reset(&nth(m->apics, cpu)->dev);
}

bool apic_attach(struct machine *m, unsigned n, GError **error)
{
    struct apic_group *g = g_new0(struct apic_group, 1);
    g->machine = m;
    g->n = n;
    g->apics = g_new0(struct apic *, n);
    m->apics = g;
    for (unsigned i = 0; i < n; i++) {
        struct device *d = device_create(m, &apic_class);
        g->apics[i] = (struct apic *)d;
        g->apics[i]->index = i;
        g->apics[i]->group = g;
        if (!device_realize(d, error)) {
            device_destroy(d);
            return false;
        }
    }
    g->window = (struct io_window){ .name = "apic", .ops = &window_ops, .opaque = g, .size = 0x1000 };
    io_window_map(m->memory, &g->window, APIC_BASE);
    m->msi = (struct msi_sink){ msi_send, g };
    m->ack_interrupt = ack_interrupt;
    m->get_tpr = get_tpr;
    m->set_tpr = set_tpr;
    m->reset_lapic = reset_one;
    m->msr_read = msr_read;
    m->msr_write = msr_write;
    m->chips.lapic_get = lapic_get;
    m->chips.lapic_set = lapic_set;
    for (unsigned i = 0; i < n; i++)
        apic_reset(&g->apics[i]->dev);
    return true;
}

void apic_detach(struct machine *m)
{
    struct apic_group *g = m->apics;
    if (!g)
        return;
    io_window_unmap(m->memory, &g->window);
    m->apics = NULL;
    g_free(g->apics);
    g_free(g);
}
