/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI's view of memory modules (ACPI 6.5, 5.6.6, 6.3, 9.11): each slot is a memory device of \_SB; the methods talk to the
 * registers of vmm/dev/mem_hotplug.h. */
#pragma once

#include "vmm/board/acpi.h"
#include "vmm/board/aml.h"

/* Inside Scope (\_SB): the slots, c->mem_slots of them; nothing when there are none. */
void acpi_memhp_slots(struct aml *a, const struct acpi_config *c);
/* At the root: the event that says that a slot has changed. */
void acpi_memhp_event(struct aml *a, const struct acpi_config *c);
