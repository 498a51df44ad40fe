/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The local APICs of a machine (SDM vol. 3, chapter 10): xAPIC and x2APIC, one per vCPU, reached by the vCPU's own MMIO
 * window and MSRs, by messages (MSI, I/O APIC) and by the 8259's output. */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"
#include "vmm/core/machine.h"

#define APIC_BASE 0xfee00000ull

/* Creates one APIC per vCPU that may ever be there (ids 0..n-1; one without its vCPU is off and takes nothing), maps the window, sets m->apics, m->msi and the machine's interrupt callbacks. */
bool apic_attach(struct machine *m, unsigned n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void apic_detach(struct machine *m); /* frees what apic_attach made besides the devices; after them */
/* The local APICs are inside the accelerator now: these fall silent. */
void apic_quiet(struct machine *m);
/* The 8259's output (LINT0 of the first vCPU), and how to acknowledge it. */
struct irq_line apic_extint_line(struct machine *m);
void apic_set_extint_ack(struct machine *m, int (*ack)(void *opaque), void *opaque);
/* End of interrupt of level-triggered vectors: set(opaque, vector, true). Called with no APIC lock held. */
void apic_set_eoi(struct machine *m, struct irq_line eoi);
