/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PC's 8254 interval timer with port 61h, which gates channel 2 and reads its output (Intel 8254 datasheet). */
#pragma once

#include "vmm/core/irqchip.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define I8254_HZ 1193182u

/* `irq0`: output of channel 0. */
struct device *i8254_create(struct machine *m, struct irq_line irq0, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Machine stopped. speaker: as in struct x86_irqchip. */
void i8254_state_get(struct device *d, struct x86_pit_channel ret[3], uint8_t *ret_speaker);
void i8254_state_set(struct device *d, const struct x86_pit_channel s[3], uint8_t speaker);
