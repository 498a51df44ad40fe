/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PC's 8254 interval timer with port 61h, which gates channel 2 and reads its output (Intel 8254 datasheet). */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define I8254_HZ 1193182u

/* `irq0`: output of channel 0. */
struct device *i8254_create(struct machine *m, struct irq_line irq0, GError **error) G_GNUC_WARN_UNUSED_RESULT;
