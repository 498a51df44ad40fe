/* SPDX-License-Identifier: GPL-2.0-or-later */
/* I/O APIC, 24 inputs (82093AA; ICH9 datasheet 13.5). */
#pragma once

#include "vmm/core/irqchip.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_PINS 24

/* Maps it at IOAPIC_BASE; messages go to machine->msi. NULL with error. */
struct device *ioapic_create(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct irq_line ioapic_line(struct device *d, unsigned pin);
/* Machine stopped. */
void ioapic_state_get(struct device *d, struct x86_ioapic *ret);
void ioapic_state_set(struct device *d, const struct x86_ioapic *s);
struct irq_line ioapic_eoi_line(struct device *d); /* set(opaque, vector, true) */
