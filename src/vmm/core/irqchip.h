/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a machine's interrupt controllers are. Either they are its own devices (vmm/dev), or the local APICs are inside the
 * accelerator (split), or local APICs, I/O APIC, 8259s and 8254 are. The devices exist in any case; those whose work is done inside
 * are inert: no timer, no line to a vCPU. Their state moves in the canonical form (cpu/x86/x86_irqchip.h).
 *
 * A device that raises an interrupt on any thread does it between machine_irq_begin and machine_irq_end (the board's lines and the
 * local APICs' message sink do so for everybody): meanwhile the accelerator stays what it is.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/x86_irqchip.h"
#include "vmm/core/machine.h"

static inline bool machine_lapic_inside(const struct machine *m) { return m->irqchip != ACCEL_IRQCHIP_OFF; }
static inline bool machine_irqchip_inside(const struct machine *m) { return m->irqchip == ACCEL_IRQCHIP_ON; }

/* Nests. Not held while waiting for another thread. */
void machine_irq_begin(struct machine *m);
void machine_irq_end(struct machine *m);

/* Between begin and end. All inside: level of ISA line 0-15 or of I/O APIC input 16-23. */
void machine_gsi_set(struct machine *m, unsigned line, bool level);
/* Local APICs inside: a message (SDM vol. 3, 10.11). */
void machine_msi_send(struct machine *m, uint64_t address, uint32_t data);
/* Split: the 8259's output. */
void machine_extint_set(struct machine *m, bool level);
/* Split: what I/O APIC input `pin` sends, so that the end of its interrupt is told. */
void machine_ioapic_route(struct machine *m, unsigned pin, uint64_t address, uint32_t data, bool masked);
/* All inside: whether the 8254 drives line 0 (HPET legacy replacement takes it away). Kept over changes of the accelerator. */
void machine_pit_output(struct machine *m, bool connected);

/* ---- events without leaving the guest for the process ---- */

/* Writes to [address, address+size) have no effect before the next access to something else: they may be gathered. For the life
 * of the machine. */
void machine_coalesce(struct machine *m, bool port, uint64_t address, uint64_t size);
/* As in accel_ops; false without error set: the accelerator has none of this. Whoever uses them has a hook: what was set up ends
 * with HOOK_ACCEL_LEAVE. */
bool machine_ioeventfd(struct machine *m, int fd, uint64_t address, unsigned size, bool match, uint64_t value, bool on);
int machine_route_add(struct machine *m, uint64_t address, uint32_t data); /* -1: none */
void machine_route_set(struct machine *m, int route, uint64_t address, uint32_t data, bool masked);
void machine_route_remove(struct machine *m, int route);
bool machine_irqfd(struct machine *m, int fd, int route, bool on);

/* ---- state; machine stopped ---- */

struct irqchip_state {
    struct x86_irqchip chip;
    unsigned nlapics;
    struct x86_lapic lapic[]; /* by vCPU */
};
/* From wherever it is. The caller frees with g_free. */
struct irqchip_state *irqchip_read(struct machine *m);
/* To wherever it belongs. */
bool irqchip_write(struct machine *m, const struct irqchip_state *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* One vCPU's local APIC alone, which has been reset. */
bool irqchip_reset_lapic(struct machine *m, unsigned index, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* After a reset of the devices: what is inside begins like them. */
bool irqchip_reset(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
