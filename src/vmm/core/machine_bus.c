/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the accelerator's vCPUs see of the machine: ports and MMIO go to the memory map, the rest to the board's
 * interrupt controllers. `-d exits` shows each access. */
#include "base/log.h"
#include "vmm/core/machine_private.h"

static uint64_t pio_read(void *opaque, unsigned cpu, uint16_t port, unsigned size)
{
    struct machine *m = opaque;
    uint64_t value = guest_io_read(m->memory, true, port, size);
    log_at(LOG_EXITS, "cpu %u: in%u %#x -> %#llx", cpu, size * 8, port, (unsigned long long)value);
    return value;
}

static void pio_write(void *opaque, unsigned cpu, uint16_t port, unsigned size, uint64_t value)
{
    struct machine *m = opaque;
    log_at(LOG_EXITS, "cpu %u: out%u %#x <- %#llx", cpu, size * 8, port, (unsigned long long)value);
    guest_io_write(m->memory, true, port, size, value);
}

static uint64_t mmio_read(void *opaque, unsigned cpu, uint64_t gpa, unsigned size)
{
    struct machine *m = opaque;
    vcpu_set_current_index(cpu);
    uint64_t value = guest_io_read(m->memory, false, gpa, size);
    log_at(LOG_EXITS, "cpu %u: mmio read%u %#llx -> %#llx", cpu, size * 8, (unsigned long long)gpa, (unsigned long long)value);
    return value;
}

static void mmio_write(void *opaque, unsigned cpu, uint64_t gpa, unsigned size, uint64_t value)
{
    struct machine *m = opaque;
    vcpu_set_current_index(cpu);
    log_at(LOG_EXITS, "cpu %u: mmio write%u %#llx <- %#llx", cpu, size * 8, (unsigned long long)gpa, (unsigned long long)value);
    guest_io_write(m->memory, false, gpa, size, value);
}

static int ack_interrupt(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;
    int vector = m->ack_interrupt ? m->ack_interrupt(m, cpu) : -1;
    log_at(LOG_EXITS, "cpu %u: interrupt acknowledge -> %d", cpu, vector);
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
    bool ok = m->msr_read && m->msr_read(m, cpu, index, ret);
    log_at(LOG_EXITS, "cpu %u: rdmsr %#x -> %#llx%s", cpu, index, ok ? (unsigned long long)*ret : 0, ok ? "" : " (#GP)");
    return ok;
}

static bool msr_write(void *opaque, unsigned cpu, uint32_t index, uint64_t value)
{
    struct machine *m = opaque;
    bool ok = m->msr_write && m->msr_write(m, cpu, index, value);
    log_at(LOG_EXITS, "cpu %u: wrmsr %#x <- %#llx%s", cpu, index, (unsigned long long)value, ok ? "" : " (#GP)");
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
