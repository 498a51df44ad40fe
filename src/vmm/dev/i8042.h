/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keyboard and mouse controller at ports 60h and 64h, with a PS/2 keyboard and mouse, which people use through the display. */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

struct device *i8042_create(struct machine *m, struct irq_line irq1, struct irq_line irq12, GError **error) G_GNUC_WARN_UNUSED_RESULT;
