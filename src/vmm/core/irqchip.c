/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/irqchip.h"

#include <string.h>

#include "base/log.h"
#include "vmm/core/machine_private.h"

static struct machine_impl *impl(struct machine *m)
{
    return (struct machine_impl *)m;
}

/* Readers prefer readers here (glibc's default), so nesting is safe. */
void machine_irq_begin(struct machine *m)
{
    g_rw_lock_reader_lock(&impl(m)->gate);
}

void machine_irq_end(struct machine *m)
{
    g_rw_lock_reader_unlock(&impl(m)->gate);
}

void machine_gsi_set(struct machine *m, unsigned line, bool level)
{
    if (level)
        atomic_fetch_or(&impl(m)->lines, 1u << line);
    else
        atomic_fetch_and(&impl(m)->lines, ~(1u << line));
    m->accel_ops->gsi_set(m->accel, line, level);
}

void machine_msi_send(struct machine *m, uint64_t address, uint32_t data)
{
    m->accel_ops->msi_send(m->accel, address, data);
}

void machine_extint_set(struct machine *m, bool level)
{
    if (m->irqchip == ACCEL_IRQCHIP_SPLIT)
        vcpu_set_intr(m, 0, level);
}

void machine_ioapic_route(struct machine *m, unsigned pin, uint64_t address, uint32_t data, bool masked)
{
    if (m->irqchip == ACCEL_IRQCHIP_SPLIT && m->accel_ops->route_set)
        m->accel_ops->route_set(m->accel, pin, address, data, masked);
}

void machine_pit_output(struct machine *m, bool connected)
{
    machine_irq_begin(m);
    if (machine_irqchip_inside(m) && m->accel_ops->pit_output)
        m->accel_ops->pit_output(m->accel, connected);
    machine_irq_end(m);
}

/* ---- events ---- */

void machine_coalesce(struct machine *m, bool port, uint64_t address, uint64_t size)
{
    struct coalesced c = { port, address, size };
    g_array_append_val(impl(m)->coalesced, c);
    if (m->accel && m->accel_ops->coalesce)
        m->accel_ops->coalesce(m->accel, port, address, size, true);
}

void irqchip_coalesce_again(struct machine *m)
{
    for (unsigned i = 0; m->accel_ops->coalesce && i < impl(m)->coalesced->len; i++) {
        const struct coalesced *c = &g_array_index(impl(m)->coalesced, struct coalesced, i);
        m->accel_ops->coalesce(m->accel, c->port, c->address, c->size, true);
    }
}

/* A kernel that has no more of something is no reason to fail: the event then goes the long way. */
static void fell_short(const char *what, GError *error)
{
    log_at(LOG_ACCEL, "%s: %s; the event goes through the process", what, error ? error->message : "refused");
    g_clear_error(&error);
}

bool machine_ioeventfd(struct machine *m, int fd, uint64_t address, unsigned size, bool match, uint64_t value, bool on)
{
    GError *error = NULL;
    if (!m->accel_ops->ioeventfd)
        return false;
    if (m->accel_ops->ioeventfd(m->accel, fd, false, address, size, match, value, on, &error))
        return true;
    fell_short("eventfd for a write of the guest", error);
    return false;
}

int machine_route_add(struct machine *m, uint64_t address, uint32_t data)
{
    GError *error = NULL;
    if (!m->accel_ops->route_add || !m->accel_ops->irqfd || !machine_lapic_inside(m))
        return -1;
    int route = m->accel_ops->route_add(m->accel, address, data, &error);
    if (route < 0)
        fell_short("interrupt route", error);
    return route;
}

void machine_route_set(struct machine *m, int route, uint64_t address, uint32_t data, bool masked)
{
    m->accel_ops->route_set(m->accel, (unsigned)route, address, data, masked);
}

void machine_route_remove(struct machine *m, int route)
{
    m->accel_ops->route_remove(m->accel, (unsigned)route);
}

bool machine_irqfd(struct machine *m, int fd, int route, bool on)
{
    GError *error = NULL;
    if (m->accel_ops->irqfd(m->accel, fd, -1, (unsigned)route, on, &error))
        return true;
    fell_short("eventfd for an interrupt", error);
    return false;
}

/* ---- state ---- */

/* ISA line 0 is input 2 of the I/O APIC; line 2 is the cascade and leads nowhere. */
static uint32_t pins_of(uint32_t lines)
{
    return (lines & ~5u) | (lines & 1) << 2;
}

static uint32_t lines_of(uint32_t pins)
{
    return (pins & ~5u) | (pins >> 2 & 1);
}

static struct irqchip_state *state_new(const struct machine *m)
{
    struct irqchip_state *s = g_malloc0(sizeof(*s) + m->max_vcpus * sizeof(s->lapic[0]));
    s->nlapics = m->max_vcpus;
    return s;
}

static void chips_get(struct machine *m, struct irqchip_state *s, bool lapics, bool others)
{
    for (unsigned i = 0; lapics && m->chips.lapic_get && i < s->nlapics; i++)
        m->chips.lapic_get(m, i, &s->lapic[i]);
    if (others && m->chips.irqchip_get)
        m->chips.irqchip_get(m, &s->chip);
}

struct irqchip_state *irqchip_read(struct machine *m)
{
    struct irqchip_state *s = state_new(m);
    for (unsigned i = 0; machine_lapic_inside(m) && i < s->nlapics; i++) {
        if (m->vcpus[i])
            m->accel_ops->lapic_get(vcpu_accel(m->vcpus[i]), &s->lapic[i]);
    }
    if (machine_irqchip_inside(m)) {
        m->accel_ops->irqchip_get(m->accel, &s->chip);
        /* What the devices pull is known better here; the timer's line is the accelerator's. */
        s->chip.ioapic.level = (s->chip.ioapic.level & 4) | (pins_of(atomic_load(&impl(m)->lines)) & ~4u);
    }
    chips_get(m, s, !machine_lapic_inside(m), !machine_irqchip_inside(m));
    return s;
}

bool irqchip_write(struct machine *m, const struct irqchip_state *s, GError **error)
{
    for (unsigned i = 0; i < s->nlapics; i++) {
        if (!m->vcpus[i])
            continue;
        if (machine_lapic_inside(m)) {
            if (!m->accel_ops->lapic_set(vcpu_accel(m->vcpus[i]), &s->lapic[i], error))
                return false;
        } else if (m->chips.lapic_set) {
            m->chips.lapic_set(m, i, &s->lapic[i]);
        }
    }
    if (machine_irqchip_inside(m)) {
        /* The timer inside gives pulses, so its line is low between them; one here stays up until the next. An edge that was not seen
         * as one would be the last: the kernel's 8254 waits for each interrupt to be acknowledged. */
        struct x86_irqchip chip = s->chip;
        chip.ioapic.level &= ~4u;
        chip.pic[0].last_irr &= ~1u;
        atomic_store(&impl(m)->lines, lines_of(chip.ioapic.level));
        return m->accel_ops->irqchip_set(m->accel, &chip, error);
    }
    if (m->chips.irqchip_set)
        m->chips.irqchip_set(m, &s->chip);
    return true;
}

bool irqchip_reset_lapic(struct machine *m, unsigned index, GError **error)
{
    struct x86_lapic s;
    if (!machine_lapic_inside(m) || !m->chips.lapic_get || !m->vcpus[index])
        return true;
    m->chips.lapic_get(m, index, &s);
    return m->accel_ops->lapic_set(vcpu_accel(m->vcpus[index]), &s, error);
}

bool irqchip_reset(struct machine *m, GError **error)
{
    if (!machine_lapic_inside(m))
        return true;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (!irqchip_reset_lapic(m, i, error))
            return false;
    }
    if (!machine_irqchip_inside(m))
        return true;
    struct x86_irqchip chip;
    m->chips.irqchip_get(m, &chip);
    /* The devices here have not seen their inputs. */
    uint32_t lines = atomic_load(&impl(m)->lines);
    chip.ioapic.level = pins_of(lines);
    for (unsigned i = 0; i < 2; i++)
        chip.pic[i].last_irr = (uint8_t)(lines >> 8 * i) & (i ? 0xff : 0xfb);
    return m->accel_ops->irqchip_set(m->accel, &chip, error);
}
