/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interrupt controllers and timers, driven through their registers as a guest does. */
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "cpu/x86/x86_model.h"
#include "vmm/dev/apic.h"
#include "vmm/dev/i8254.h"
#include "vmm/dev/i8259.h"
#include "vmm/dev/ioapic.h"
#include "vmm/dev/pm.h"
#include "vmm/dev/rtc.h"

static struct machine *make(unsigned cpus)
{
    struct machine_config *c = g_new0(struct machine_config, 1);
    c->cpus = cpus;
    c->rtc_base = 1000000000; /* 2001-09-09 01:46:40 UTC, a Sunday */
    struct machine *m = machine_create(c);
    m->accel_ops = &fake_accel;
    m->cpu_model = x86_cpu_model_parse("max", (uint64_t[(X86_NFEATURES + 63) / 64]){ [0 ... (X86_NFEATURES + 63) / 64 - 1] = ~0ull }, NULL);
    g_assert_true(machine_create_cpus(m, NULL));
    g_assert_true(apic_attach(m, cpus, NULL));
    return m;
}

static void done(struct machine *m)
{
    while (m->devices->len)
        device_destroy(g_ptr_array_index(m->devices, m->devices->len - 1));
    apic_detach(m);
    machine_destroy(m);
}

static uint64_t x2(struct machine *m, unsigned cpu, unsigned reg)
{
    uint64_t v = 0;
    g_assert_true(m->msr_read(m, cpu, 0x800 + reg, &v));
    return v;
}

static void enable_x2(struct machine *m, unsigned cpu)
{
    uint64_t base;
    g_assert_true(m->msr_read(m, cpu, 0x1b, &base));
    g_assert_true(m->msr_write(m, cpu, 0x1b, base | 0xc00));
    g_assert_true(m->msr_write(m, cpu, 0x80f, 0x1ff));
}

static bool intr(struct machine *m, unsigned cpu) { return atomic_load(&m->accel->vcpus[cpu]->intr); }

static void test_apic_priority(void)
{
    struct machine *m = make(2);
    enable_x2(m, 0);
    enable_x2(m, 1);
    g_assert_cmpuint(x2(m, 1, 2), ==, 1);
    g_assert_true(m->msr_write(m, 0, 0x83f, 0x41)); /* self IPIs */
    g_assert_true(m->msr_write(m, 0, 0x83f, 0x52));
    g_assert_true(intr(m, 0));
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x52);
    g_assert_false(intr(m, 0)); /* 41h waits behind 52h */
    g_assert_cmpuint(x2(m, 0, 0x0a), ==, 0x50);
    g_assert_true(m->msr_write(m, 0, 0x83f, 0x61));
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x61);
    g_assert_true(m->msr_write(m, 0, 0x80b, 0));
    g_assert_false(intr(m, 0));
    g_assert_true(m->msr_write(m, 0, 0x80b, 0));
    g_assert_true(intr(m, 0));
    m->set_tpr(m, 0, 4);
    g_assert_false(intr(m, 0));
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, -1);
    m->set_tpr(m, 0, 3);
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x41);
    g_assert_true(m->msr_write(m, 0, 0x80b, 0));
    g_assert_false(m->msr_write(m, 0, 0x80b, 1)); /* #GP */
    g_assert_false(m->msr_write(m, 0, 0x802, 1));
    g_assert_false(m->msr_write(m, 0, 0x1b, 0xfee00000 | 0x900)); /* x2APIC straight back to xAPIC */
    done(m);
}

static void test_apic_icr(void)
{
    struct machine *m = make(4);
    for (unsigned i = 0; i < 4; i++)
        enable_x2(m, i);
    g_assert_true(m->msr_write(m, 0, 0x830, 2ull << 32 | 0x4030)); /* fixed, to id 2 */
    g_assert_true(intr(m, 2) && !intr(m, 0) && !intr(m, 1) && !intr(m, 3));
    g_assert_cmpint(m->ack_interrupt(m, 2), ==, 0x30);
    g_assert_true(m->msr_write(m, 0, 0x830, 0xc4031)); /* all but self */
    g_assert_true(intr(m, 1) && intr(m, 3) && !intr(m, 0));
    g_assert_true(m->msr_write(m, 0, 0x830, 9ull << 32 | 0x4800 | 0x41)); /* logical: cluster 0, CPUs 0 and 3 */
    g_assert_true(intr(m, 0));
    g_assert_cmpint(m->ack_interrupt(m, 3), ==, 0x41);
    g_assert_cmpint(m->ack_interrupt(m, 3), ==, -1);
    g_assert_true(m->msr_write(m, 0, 0x830, 1ull << 32 | 0x4400)); /* NMI */
    g_assert_cmpuint(atomic_load(&m->accel->vcpus[1]->nmis), ==, 1);
    g_assert_true(m->msr_write(m, 0, 0x830, 1ull << 32 | 0x4005)); /* vector below 16 */
    g_assert_true(m->msr_write(m, 0, 0x828, 0));
    g_assert_cmpuint(x2(m, 0, 0x28), ==, 0x20);
    done(m);
}

static void test_apic_timer(void)
{
    struct machine *m = make(1);
    enable_x2(m, 0);
    vclock_resume(m->clock);
    g_assert_true(m->msr_write(m, 0, 0x83e, 0xb)); /* divide by 1 */
    g_assert_true(m->msr_write(m, 0, 0x832, 0x20000 | 0x99));
    g_assert_true(m->msr_write(m, 0, 0x838, 2000000)); /* 2 ms, periodic */
    for (unsigned n = 0; n < 3; n++) {
        for (unsigned i = 0; i < 20000 && !intr(m, 0); i++)
            g_usleep(500);
        g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x99);
        g_assert_true(m->msr_write(m, 0, 0x80b, 0));
    }
    g_assert_cmpuint(x2(m, 0, 0x39), <=, 2000000);
    g_assert_true(m->msr_write(m, 0, 0x832, 0x40000 | 0x98)); /* TSC deadline in the past: at once */
    g_assert_true(m->msr_write(m, 0, 0x6e0, 1));
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x98);
    uint64_t v;
    g_assert_true(m->msr_read(m, 0, 0x6e0, &v));
    g_assert_cmpuint(v, ==, 0);
    done(m);
}

static void ioapic_write(struct machine *m, unsigned reg, uint32_t value)
{
    guest_io_write(m->memory, false, IOAPIC_BASE, 4, reg);
    guest_io_write(m->memory, false, IOAPIC_BASE + 0x10, 4, value);
}

static uint32_t ioapic_read(struct machine *m, unsigned reg)
{
    guest_io_write(m->memory, false, IOAPIC_BASE, 4, reg);
    return (uint32_t)guest_io_read(m->memory, false, IOAPIC_BASE + 0x10, 4);
}

static void test_ioapic(void)
{
    struct machine *m = make(2);
    struct device *io = ioapic_create(m, NULL);
    apic_set_eoi(m, ioapic_eoi_line(io));
    enable_x2(m, 0);
    enable_x2(m, 1);
    struct irq_line l = ioapic_line(io, 17), e = ioapic_line(io, 4);
    g_assert_cmpuint(ioapic_read(m, 1) >> 16, ==, 23);
    irq_set(&l, true);
    ioapic_write(m, 0x10 + 17 * 2 + 1, 1u << 24);
    g_assert_false(intr(m, 1));
    ioapic_write(m, 0x10 + 17 * 2, 0x8000 | 0x71); /* level; was waiting behind the mask */
    g_assert_cmpint(m->ack_interrupt(m, 1), ==, 0x71);
    g_assert_true(ioapic_read(m, 0x10 + 34) & 0x4000);
    g_assert_true(m->msr_write(m, 1, 0x80b, 0)); /* still high: again */
    g_assert_cmpint(m->ack_interrupt(m, 1), ==, 0x71);
    irq_set(&l, false);
    g_assert_true(m->msr_write(m, 1, 0x80b, 0));
    g_assert_cmpint(m->ack_interrupt(m, 1), ==, -1);
    g_assert_false(ioapic_read(m, 0x10 + 34) & 0x4000);
    ioapic_write(m, 0x10 + 8, 0x10000 | 0x55);
    irq_pulse(&e); /* masked edge: lost */
    ioapic_write(m, 0x10 + 8, 0x55);
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, -1);
    irq_set(&e, true);
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x55);
    done(m);
}

static void out(struct machine *m, uint16_t port, uint8_t v) { guest_io_write(m->memory, true, port, 1, v); }
static uint8_t in(struct machine *m, uint16_t port) { return (uint8_t)guest_io_read(m->memory, true, port, 1); }

static void test_i8259(void)
{
    struct machine *m = make(1);
    struct device *pic = i8259_create(m, apic_extint_line(m), NULL);
    apic_set_extint_ack(m, i8259_ack, pic);
    static const uint8_t init[][2] = { { 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 4 }, { 0x21, 1 }, { 0xa0, 0x11 }, { 0xa1, 0x28 }, { 0xa1, 2 }, { 0xa1, 1 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(init); i++)
        out(m, init[i][0], init[i][1]);
    out(m, 0x21, 0);
    out(m, 0xa1, 0);
    struct irq_line irq4 = i8259_line(pic, 4), irq0 = i8259_line(pic, 0), irq10 = i8259_line(pic, 10);
    g_assert_false(intr(m, 0));
    irq_set(&irq4, true);
    g_assert_true(intr(m, 0));
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x24);
    irq_set(&irq10, true); /* on input 2: beats 4 */
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x2a);
    irq_set(&irq0, true);
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x20);
    out(m, 0x20, 0x0b);
    g_assert_cmpuint(in(m, 0x20), ==, 0x15);
    out(m, 0x20, 0x20);
    out(m, 0xa0, 0x20);
    out(m, 0x20, 0x20);
    out(m, 0x20, 0x20);
    g_assert_cmpuint(in(m, 0x20), ==, 0);
    g_assert_false(intr(m, 0));
    irq_set(&irq4, false);
    irq_set(&irq4, true);
    irq_set(&irq4, false); /* gone before the acknowledge: nothing */
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, -1);
    out(m, 0x21, 0x10);
    irq_set(&irq4, true);
    g_assert_false(intr(m, 0));
    done(m);
}

struct wire { _Atomic unsigned rises; bool level; };
static void wire_set(void *opaque, unsigned input, bool level)
{
    struct wire *w = opaque;
    if (level && !w->level)
        atomic_fetch_add(&w->rises, 1);
    w->level = level;
}

static void test_i8254(void)
{
    struct machine *m = make(1);
    struct wire w = { 0 };
    g_assert_nonnull(i8254_create(m, (struct irq_line){ wire_set, &w, 0 }, NULL));
    vclock_resume(m->clock);
    out(m, 0x43, 0x34);
    out(m, 0x40, 11932 & 0xff); /* 100 Hz */
    out(m, 0x40, 11932 >> 8);
    /* Never faster than asked; on a busy host ticks may come late, so how long 20 of them take has no close bound above. */
    int64_t begun = g_get_monotonic_time();
    unsigned before = atomic_load(&w.rises), n;
    while ((n = atomic_load(&w.rises) - before) < 20 && g_get_monotonic_time() - begun < 20 * G_USEC_PER_SEC)
        g_usleep(1000);
    int64_t took = g_get_monotonic_time() - begun;
    g_assert_cmpuint(n, >=, 20);
    g_assert_cmpint(took, >=, 180000);
    /* Channel 2 as a stop watch, as kernels calibrate by it: mode 0, gate by port 61h. */
    out(m, 0x61, 1);
    out(m, 0x43, 0xb0);
    out(m, 0x42, 0x9b);
    out(m, 0x42, 0x2e); /* 10 ms */
    g_assert_false(in(m, 0x61) & 0x20);
    g_usleep(12000);
    g_assert_true(in(m, 0x61) & 0x20);
    out(m, 0x43, 0xe8); /* read back: latch status of channel 2 */
    g_assert_cmpuint(in(m, 0x42) & 0xbf, ==, 0xb0);
    done(m);
}

static uint8_t cmos(struct machine *m, uint8_t index)
{
    out(m, 0x70, index);
    return in(m, 0x71);
}

static void test_rtc(void)
{
    struct machine *m = make(1);
    struct wire w = { 0 };
    struct device *d = rtc_create(m, (struct irq_line){ wire_set, &w, 0 }, NULL);
    rtc_set_cmos(d, 0x15, 0x80);
    vclock_resume(m->clock);
    g_assert_cmphex(cmos(m, 9), ==, 0x01);
    g_assert_cmphex(cmos(m, 8), ==, 0x09);
    g_assert_cmphex(cmos(m, 7), ==, 0x09);
    g_assert_cmphex(cmos(m, 6), ==, 0x01);
    g_assert_cmphex(cmos(m, 4), ==, 0x01);
    g_assert_cmphex(cmos(m, 2), ==, 0x46);
    g_assert_cmphex(cmos(m, 0x32), ==, 0x20);
    g_assert_cmphex(cmos(m, 0x15), ==, 0x80);
    out(m, 0x70, 0x0b);
    out(m, 0x71, 0x06 | 0x40); /* binary, periodic interrupt */
    g_assert_cmpuint(cmos(m, 2), ==, 46);
    for (unsigned i = 0; i < 10000 && !w.level; i++)
        g_usleep(1000);
    g_assert_true(w.level);
    g_assert_cmphex(cmos(m, 0x0c) & 0xc0, ==, 0xc0);
    out(m, 0x70, 0x0b); /* before the next period raises it again */
    out(m, 0x71, 0x06);
    (void)cmos(m, 0x0c);
    g_assert_false(w.level);
    done(m);
}

static void test_pm(void)
{
    struct machine *m = make(1);
    struct wire w = { 0 };
    struct device *d = pm_create(m, (struct irq_line){ wire_set, &w, 0 }, NULL);
    vclock_resume(m->clock);
    pm_power_button(d);
    g_assert_false(w.level);
    guest_io_write(m->memory, true, PM_PM1_EVT + 2, 2, 0x100);
    g_assert_true(w.level);
    guest_io_write(m->memory, true, PM_PM1_EVT, 2, 0x100);
    g_assert_false(w.level);
    uint64_t a = guest_io_read(m->memory, true, PM_TMR, 4);
    g_usleep(10000);
    uint64_t n = guest_io_read(m->memory, true, PM_TMR, 4) - a;
    g_assert_cmpuint(n, >=, 35000);
    g_assert_cmpuint(guest_io_read(m->memory, true, PM_PM1_CNT, 2) & 1, ==, 1);
    done(m);
}

/* ---- the canonical form: there and back is the same, and what was pending still comes ---- */

static void test_lapic_state(void)
{
    struct machine *m = make(2);
    struct x86_lapic a, b;
    enable_x2(m, 1);
    g_assert_true(m->msr_write(m, 1, 0x832, 0x20099)); /* periodic, vector 99h */
    g_assert_true(m->msr_write(m, 1, 0x83e, 0x3));
    g_assert_true(m->msr_write(m, 1, 0x838, 50000000));
    g_assert_true(m->msr_write(m, 1, 0x83f, 0x41));
    g_assert_cmpint(m->ack_interrupt(m, 1), ==, 0x41);
    g_assert_true(m->msr_write(m, 1, 0x83f, 0x62));
    g_assert_true(m->msr_write(m, 1, 0x808, 0x70));
    g_assert_false(intr(m, 1));
    m->chips.lapic_get(m, 1, &a);
    g_assert_cmphex(a.regs[2], ==, 1); /* the x2APIC id */
    g_assert_cmphex(a.base, ==, 0xfee00c00);
    g_assert_cmphex(a.regs[0x12], ==, 1u << 1);
    g_assert_cmphex(a.regs[0x23], ==, 1u << 2);
    g_assert_cmpuint(a.regs[0x39], >, 0);
    apic_quiet(m);
    m->chips.lapic_get(m, 1, &b);
    g_assert_cmpint(memcmp(&a, &b, sizeof(a)), !=, 0);
    m->chips.lapic_set(m, 1, &a);
    m->chips.lapic_get(m, 1, &b);
    a.regs[0x39] = b.regs[0x39] = 0; /* goes on counting */
    g_assert_cmpmem(&a, sizeof(a), &b, sizeof(b));
    m->set_tpr(m, 1, 0);
    g_assert_true(intr(m, 1));
    g_assert_cmpint(m->ack_interrupt(m, 1), ==, 0x62);
    done(m);
}

/* An armed TSC deadline fires after the move, and one that has passed meanwhile at once. */
static void test_lapic_deadline_state(void)
{
    struct machine *m = make(1);
    struct x86_lapic s;
    vclock_resume(m->clock);
    enable_x2(m, 0);
    g_assert_true(m->msr_write(m, 0, 0x832, 0x40098));
    g_assert_true(m->msr_write(m, 0, 0x6e0, machine_guest_tsc(m) + machine_tsc_hz(m) / 4));
    m->chips.lapic_get(m, 0, &s);
    g_assert_cmpuint(s.tsc_deadline, !=, 0);
    apic_quiet(m);
    g_usleep(300000);
    g_assert_false(intr(m, 0));
    m->chips.lapic_set(m, 0, &s);
    g_assert_true(intr(m, 0));
    s.tsc_deadline = machine_guest_tsc(m) + machine_tsc_hz(m) / 4;
    s.regs[0x24] = 0;
    m->chips.lapic_set(m, 0, &s);
    g_assert_false(intr(m, 0));
    for (unsigned i = 0; i < 2000 && !intr(m, 0); i++)
        g_usleep(5000);
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x98);
    done(m);
}

/* A periodic timer that was looked at just as it reached its end goes on. */
static void test_lapic_periodic_state(void)
{
    struct machine *m = make(1);
    struct x86_lapic s;
    vclock_resume(m->clock);
    enable_x2(m, 0);
    g_assert_true(m->msr_write(m, 0, 0x83e, 0xb));
    g_assert_true(m->msr_write(m, 0, 0x832, 0x20000 | 0x99));
    g_assert_true(m->msr_write(m, 0, 0x838, 2000000));
    m->chips.lapic_get(m, 0, &s);
    apic_quiet(m);
    s.regs[0x39] = 0;
    m->chips.lapic_set(m, 0, &s);
    for (unsigned n = 0; n < 3; n++) {
        for (unsigned i = 0; i < 20000 && !intr(m, 0); i++)
            g_usleep(500);
        g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x99);
        g_assert_true(m->msr_write(m, 0, 0x80b, 0));
    }
    done(m);
}

static void wait_for(void *mutex)
{
    g_mutex_lock(mutex);
    g_mutex_unlock(mutex);
}

/* A timer that has run down while the clock's thread was busy is pending, not lost. */
static void test_lapic_due_state(void)
{
    struct machine *m = make(1);
    struct x86_lapic s;
    GMutex busy;
    g_mutex_init(&busy);
    g_mutex_lock(&busy);
    vclock_resume(m->clock);
    struct vtimer *other = vtimer_create(m->clock, wait_for, &busy);
    vtimer_set(other, vclock_now(m->clock) + 1);
    enable_x2(m, 0);
    g_assert_true(m->msr_write(m, 0, 0x83e, 0xb));
    g_assert_true(m->msr_write(m, 0, 0x832, 0x99));
    g_assert_true(m->msr_write(m, 0, 0x838, 1000000));
    g_usleep(5000);
    m->chips.lapic_get(m, 0, &s);
    g_assert_cmphex(s.regs[0x20 + 0x99 / 32], ==, 1u << 0x99 % 32);
    apic_quiet(m);
    m->chips.lapic_set(m, 0, &s);
    g_assert_cmpint(m->ack_interrupt(m, 0), ==, 0x99);
    g_mutex_unlock(&busy);
    vtimer_destroy(other);
    g_mutex_clear(&busy);
    done(m);
}

static void sunk(void *opaque, uint64_t address, uint32_t data) { *(unsigned *)opaque += 1; }

static void test_ioapic_state(void)
{
    struct machine *m = make(1);
    struct device *io = ioapic_create(m, NULL);
    struct x86_ioapic a, b;
    unsigned sent = 0;
    m->msi = (struct msi_sink){ sunk, &sent };
    g_assert_nonnull(io);
    for (unsigned i = 0; i < 24; i++) {
        guest_io_write(m->memory, false, IOAPIC_BASE, 4, 0x10 + 2 * i);
        guest_io_write(m->memory, false, IOAPIC_BASE + 0x10, 4, 0xa000 + 0x30 + i);
        guest_io_write(m->memory, false, IOAPIC_BASE, 4, 0x11 + 2 * i);
        guest_io_write(m->memory, false, IOAPIC_BASE + 0x10, 4, i << 24);
    }
    struct irq_line line = ioapic_line(io, 19);
    irq_set(&line, true);
    g_assert_cmpuint(sent, ==, 1);
    ioapic_state_get(io, &a);
    g_assert_cmphex(a.level, ==, 1u << 19);
    g_assert_cmphex(a.redirection[19], ==, 0x130000000000e043ull); /* remote IRR set */
    io->class->reset(io);
    ioapic_state_set(io, &a);
    ioapic_state_get(io, &b);
    g_assert_cmpmem(&a, sizeof(a), &b, sizeof(b));
    g_assert_cmpuint(sent, ==, 1); /* it waits for its end of interrupt */
    a.redirection[19] &= ~0x4000ull;
    ioapic_state_set(io, &a);
    g_assert_cmpuint(sent, ==, 2); /* held high and not sent: sent now */
    done(m);
}

static void ignore(void *opaque, unsigned n, bool level) { *(bool *)opaque = level; }

static void test_i8259_state(void)
{
    struct machine *m = make(1);
    bool out = false;
    struct device *pic = i8259_create(m, (struct irq_line){ ignore, &out, 0 }, NULL);
    struct x86_pic a[2], b[2];
    static const struct { uint8_t port, value; } init[] = { { 0x20, 0x11 }, { 0x21, 0x30 }, { 0x21, 4 }, { 0x21, 0x13 }, { 0xa0, 0x11 },
        { 0xa1, 0x38 }, { 0xa1, 2 }, { 0xa1, 1 }, { 0x21, 0xe8 }, { 0xa1, 0x5f }, { 0x20, 0xc2 }, { 0xa0, 0x68 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(init); i++)
        guest_io_write(m->memory, true, init[i].port, 1, init[i].value);
    guest_io_write(m->memory, true, 0x4d1, 1, 0x20);
    struct irq_line line = i8259_line(pic, 13), level = i8259_line(pic, 5);
    irq_set(&line, true);
    irq_set(&level, true);
    g_assert_true(out);
    i8259_state_get(pic, a);
    g_assert_cmphex(a[1].last_irr, ==, 0x20);
    g_assert_cmpuint(a[0].priority_add, ==, 3);
    g_assert_cmpuint(a[0].special_fully_nested, ==, 1);
    g_assert_cmpuint(a[0].auto_eoi, ==, 1);
    g_assert_cmpuint(a[1].special_mask, ==, 1);
    pic->class->reset(pic);
    g_assert_false(out);
    i8259_state_set(pic, a);
    i8259_state_get(pic, b);
    g_assert_cmpmem(a, sizeof(a), b, sizeof(b));
    g_assert_true(out);
    g_assert_cmphex(i8259_ack(pic), ==, 0x3d);
    guest_io_write(m->memory, true, 0xa0, 1, 0x11); /* in the middle of an initialisation */
    i8259_state_get(pic, a);
    g_assert_cmpuint(a[1].init_state, ==, 1);
    pic->class->reset(pic);
    i8259_state_set(pic, a);
    i8259_state_get(pic, b);
    g_assert_cmpmem(a, sizeof(a), b, sizeof(b));
    done(m);
}

static void test_i8254_state(void)
{
    struct machine *m = make(1);
    bool out = false;
    struct device *pit = i8254_create(m, (struct irq_line){ ignore, &out, 0 }, NULL);
    struct x86_pit_channel a[3], b[3];
    uint8_t speaker;
    vclock_resume(m->clock);
    i8254_state_get(pit, a, &speaker);
    g_assert_cmpuint(a[0].count, ==, 0); /* nothing loaded */
    static const struct { uint8_t port, value; } writes[] = { { 0x43, 0x34 }, { 0x40, 0x00 }, { 0x40, 0x90 }, { 0x43, 0x58 }, { 0x41, 0x77 },
        { 0x43, 0xb6 }, { 0x42, 0x12 }, { 0x43, 0x00 }, { 0x61, 0x01 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++)
        guest_io_write(m->memory, true, writes[i].port, 1, writes[i].value);
    (void)guest_io_read(m->memory, true, 0x40, 1); /* the low byte of what is latched */
    vclock_pause(m->clock);
    i8254_state_get(pit, a, &speaker);
    g_assert_cmpuint(a[0].count, ==, 0x9000);
    g_assert_cmpuint(a[0].count_latched, ==, 2);
    g_assert_cmpuint(a[2].write_state, ==, 4);
    g_assert_cmphex(a[2].write_latch, ==, 0x12);
    g_assert_cmpuint(speaker, ==, 1);
    pit->class->reset(pit);
    i8254_state_set(pit, a, speaker);
    i8254_state_get(pit, b, &speaker);
    g_assert_cmpmem(a, sizeof(a), b, sizeof(b));
    out = false;
    vclock_resume(m->clock);
    for (unsigned i = 0; i < 10000 && !out; i++)
        g_usleep(1000);
    g_assert_true(out); /* 31 ms later at most */
    done(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/apic/priority", test_apic_priority);
    g_test_add_func("/apic/icr", test_apic_icr);
    g_test_add_func("/apic/timer", test_apic_timer);
    g_test_add_func("/ioapic", test_ioapic);
    g_test_add_func("/i8259", test_i8259);
    g_test_add_func("/i8254", test_i8254);
    g_test_add_func("/rtc", test_rtc);
    g_test_add_func("/pm", test_pm);
    g_test_add_func("/lapic/canonical", test_lapic_state);
    g_test_add_func("/lapic/canonical-deadline", test_lapic_deadline_state);
    g_test_add_func("/lapic/canonical-due", test_lapic_due_state);
    g_test_add_func("/lapic/canonical-periodic", test_lapic_periodic_state);
    g_test_add_func("/ioapic/canonical", test_ioapic_state);
    g_test_add_func("/i8259/canonical", test_i8259_state);
    g_test_add_func("/i8254/canonical", test_i8254_state);
    return g_test_run();
}
