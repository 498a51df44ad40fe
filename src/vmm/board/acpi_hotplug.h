/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI's view of vCPUs that come and go (ACPI 6.5, 5.6.6, 6.3, 8.4): each possible one is a processor device of \_SB, with a
 * status, a way out, and a report; the methods talk to the registers of vmm/dev/cpu_hotplug.h. */
#pragma once

#include "vmm/board/acpi.h"
#include "vmm/board/aml.h"

/* Inside Scope (\_SB): the processors, and with c->cpu_hotplug what they need. */
void acpi_hotplug_cpus(struct aml *a, const struct acpi_config *c);
/* At the root: the events of the general-purpose register block. */
void acpi_hotplug_events(struct aml *a, const struct acpi_config *c);
/* Name of the processor device in \_SB. */
void acpi_cpu_name(unsigned index, char ret[5]);
