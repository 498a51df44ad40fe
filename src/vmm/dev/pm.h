/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI fixed hardware (ACPI 6.5, 4.8): PM1a, PM timer, GPE0; the reset register 0xcf9 and port 92h. Always in ACPI mode. */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define PM_BASE      0x600u
#define PM_PM1_EVT   (PM_BASE + 0)  /* 4 bytes: status, enable */
#define PM_PM1_CNT   (PM_BASE + 4)  /* 2 */
#define PM_TMR       (PM_BASE + 8)  /* 4, 32 bits */
#define PM_GPE0      (PM_BASE + 0x20) /* 16: 8 status, 8 enable */
#define PM_GPE0_LEN  16
#define PM_RESET_REG 0xcf9u
#define PM_RESET_VALUE 0x06u
#define PM_S5_TYPE   5u /* SLP_TYP of \_S5 */

struct device *pm_create(struct machine *m, struct irq_line sci, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* General-purpose event `n` (0-63): a rising edge sets its status. Any thread. */
struct irq_line pm_gpe_line(struct device *d, unsigned n);
void pm_power_button(struct device *d); /* any thread */
