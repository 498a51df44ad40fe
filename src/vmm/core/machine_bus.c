/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the accelerator's vCPUs see of the machine: ports and MMIO go to the memory map, the rest to the board's
 * interrupt controllers. `-d exits` shows each access in words: who, what, which device answered, the value, the time it took. */
#include <x86intrin.h>

#include "base/log.h"
#include "vmm/core/machine_private.h"

/* ---- the trace: slow on purpose, and not there when nobody asked for it ---- */

static uint64_t nanoseconds(const struct machine *m, uint64_t since)
{
    return (uint64_t)((unsigned __int128)(__rdtsc() - since) * 1000000000u / machine_tsc_hz(m));
}

static const char *owner_of(const struct machine *m, bool port, uint64_t address)
{
    const char *name = guest_io_owner(m->memory, port, address);
    return name ? name : "nobody there";
}

static uint64_t traced_read(struct machine *m, unsigned cpu, bool port, uint64_t address, unsigned size)
{
    const char *owner = owner_of(m, port, address); /* before: the access may move the window */
    uint64_t start = __rdtsc(), value = guest_io_read(m->memory, port, address, size);
    log_write(LOG_EXITS, "cpu %u: %s-read: %u bytes from %#llx (%s) gave %#llx; %llu ns", cpu, port ? "port" : "mmio", size,
              (unsigned long long)address, owner, (unsigned long long)value, (unsigned long long)nanoseconds(m, start));
    return value;
}

static void traced_write(struct machine *m, unsigned cpu, bool port, uint64_t address, unsigned size, uint64_t value)
{
    const char *owner = owner_of(m, port, address);
    uint64_t start = __rdtsc();
    guest_io_write(m->memory, port, address, size, value);
    log_write(LOG_EXITS, "cpu %u: %s-write: %u bytes to %#llx (%s), %#llx; %llu ns", cpu, port ? "port" : "mmio", size, (unsigned long long)address,
              owner, (unsigned long long)value, (unsigned long long)nanoseconds(m, start));
}

/* ---- ports and memory ---- */

static uint64_t pio_read(void *opaque, unsigned cpu, uint16_t port, unsigned size)
{
    struct machine *m = opaque;
    return G_UNLIKELY(log_on(LOG_EXITS)) ? traced_read(m, cpu, true, port, size) : guest_io_read(m->memory, true, port, size);
}

static void pio_write(void *opaque, unsigned cpu, uint16_t port, unsigned size, uint64_t value)
{
    struct machine *m = opaque;
    if (G_UNLIKELY(log_on(LOG_EXITS)))
        traced_write(m, cpu, true, port, size, value);
    else
        guest_io_write(m->memory, true, port, size, value);
}

static uint64_t mmio_read(void *opaque, unsigned cpu, uint64_t gpa, unsigned size)
{
    struct machine *m = opaque;
    vcpu_set_current_index(cpu);
    return G_UNLIKELY(log_on(LOG_EXITS)) ? traced_read(m, cpu, false, gpa, size) : guest_io_read(m->memory, false, gpa, size);
}

static void mmio_write(void *opaque, unsigned cpu, uint64_t gpa, unsigned size, uint64_t value)
{
    struct machine *m = opaque;
    vcpu_set_current_index(cpu);
    if (G_UNLIKELY(log_on(LOG_EXITS)))
        traced_write(m, cpu, false, gpa, size, value);
    else
        guest_io_write(m->memory, false, gpa, size, value);
}

/* ---- interrupts and the local APIC's registers ---- */

static int ack_interrupt(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;
    uint64_t start = log_on(LOG_EXITS) ? __rdtsc() : 0;
    int vector = m->ack_interrupt ? m->ack_interrupt(m, cpu) : -1;
    if (vector >= 0)
        log_at(LOG_EXITS, "cpu %u: interrupt: vector %#x is delivered; %llu ns", cpu, (unsigned)vector, (unsigned long long)nanoseconds(m, start));
    return vector;
}

static unsigned get_tpr(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;
    return m->get_tpr ? m->get_tpr(m, cpu) : 0;
}

static void set_tpr(void *opaque, unsigned cpu, unsigned tpr)
{
    struct machine *m = opaque;
    if (m->set_tpr)
        m->set_tpr(m, cpu, tpr);
}

static bool msr_read(void *opaque, unsigned cpu, uint32_t index, uint64_t *ret)
{
    struct machine *m = opaque;
    uint64_t start = log_on(LOG_EXITS) ? __rdtsc() : 0;
    bool ok = m->msr_read && m->msr_read(m, cpu, index, ret);
    log_at(LOG_EXITS, "cpu %u: msr-read: %#x (local APIC) gave %#llx%s; %llu ns", cpu, index, ok ? (unsigned long long)*ret : 0,
           ok ? "" : ", there is none: #GP", (unsigned long long)nanoseconds(m, start));
    return ok;
}

static bool msr_write(void *opaque, unsigned cpu, uint32_t index, uint64_t value)
{
    struct machine *m = opaque;
    uint64_t start = log_on(LOG_EXITS) ? __rdtsc() : 0;
    bool ok = m->msr_write && m->msr_write(m, cpu, index, value);
    log_at(LOG_EXITS, "cpu %u: msr-write: %#x (local APIC), %#llx%s; %llu ns", cpu, index, (unsigned long long)value,
           ok ? "" : ", it is not possible: #GP", (unsigned long long)nanoseconds(m, start));
    return ok;
}

static void ioapic_eoi(void *opaque, unsigned vector)
{
    struct machine *m = opaque;
    log_at(LOG_EXITS, "end of level-triggered interrupt %#x", vector);
    if (m->chips.ioapic_eoi)
        m->chips.ioapic_eoi(m, vector);
}

const struct accel_bus machine_bus = {
    .pio_read = pio_read, .pio_write = pio_write, .mmio_read = mmio_read, .mmio_write = mmio_write,
    .ack_interrupt = ack_interrupt, .get_tpr = get_tpr, .set_tpr = set_tpr, .msr_read = msr_read, .msr_write = msr_write,
    .ioapic_eoi = ioapic_eoi,
};
