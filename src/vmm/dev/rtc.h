/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MC146818 real-time clock with 128 bytes of CMOS RAM at ports 70h and 71h. */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

/* The time begins at config->rtc_base (or the host's time, local when config->rtc_localtime). */
struct device *rtc_create(struct machine *m, struct irq_line irq8, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* CMOS bytes that firmware would set; kept over resets. */
void rtc_set_cmos(struct device *d, unsigned index, uint8_t value);
