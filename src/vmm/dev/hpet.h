/* SPDX-License-Identifier: GPL-2.0-or-later */
/* High precision event timer with 3 comparators (IA-PC HPET specification 1.0a). */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define HPET_BASE 0xfed00000ull
#define HPET_PERIOD_FS 10000000u /* 100 MHz */

/* `gsi`: the 24 lines of the I/O APIC; `irq0` and `irq8`: where legacy replacement leads. */
struct device *hpet_create(struct machine *m, const struct irq_line *gsi, struct irq_line irq0, struct irq_line irq8, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* What the 8254 (0) and the clock (1) drive: forwarded to irq0 and irq8 unless legacy replacement is on. */
struct irq_line hpet_legacy_input(struct device *d, unsigned n);
/* Whether legacy replacement is on: then the 8254 drives nothing. */
bool hpet_legacy(struct device *d);
