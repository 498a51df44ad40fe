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
        for (unsigned i = 0; i < 100 && !intr(m, 0); i++)
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
    unsigned before = atomic_load(&w.rises);
    g_usleep(205000);
    unsigned n = atomic_load(&w.rises) - before;
    g_assert_cmpuint(n, >=, 15);
    g_assert_cmpuint(n, <=, 25);
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
    for (unsigned i = 0; i < 100 && !w.level; i++)
        g_usleep(100);
    g_assert_true(w.level);
    g_assert_cmphex(cmos(m, 0x0c) & 0xc0, ==, 0xc0);
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
    return g_test_run();
}
