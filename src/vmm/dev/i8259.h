/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PC's pair of 8259A interrupt controllers with ELCR (Intel 8259A datasheet; ICH9 datasheet 5.9). */
#pragma once

#include "vmm/core/irqchip.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

/* `output`: the first controller's INT. */
struct device *i8259_create(struct machine *m, struct irq_line output, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct irq_line i8259_line(struct device *d, unsigned irq); /* 0-15; 2 is the cascade */
/* Machine stopped. */
void i8259_state_get(struct device *d, struct x86_pic ret[2]);
void i8259_state_set(struct device *d, const struct x86_pic s[2]);
int i8259_ack(void *opaque); /* opaque: the device. Vector of the highest request (spurious: input 7) */
