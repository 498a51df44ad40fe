/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vCPUs that come and go at run time: the device `MODEL-x86_64-cpu` of -device and device_add, in slots (vmm/core/plug_slots.h) of which the
 * guest's ACPI (vmm/board/acpi_hotplug.c) learns.
 */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define CPU_HOTPLUG_BASE 0x680u
#define CPU_HOTPLUG_SIZE 16u
#define CPU_HOTPLUG_GPE  2u

/* For a machine with max_vcpus above nvcpus; gpe: pulsed when the guest has something to look at. Sets m->cpu_slots. */
bool cpu_hotplug_create(struct machine *m, struct irq_line gpe, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The device of a vCPU that came by -device or device_add; NULL: it was there from the start, or is not there. */
struct device *cpu_hotplug_device(const struct machine *m, unsigned index);
/* What the guest last said of a slot by _OST; false: nothing yet. */
bool cpu_hotplug_ost(const struct machine *m, unsigned index, uint32_t *ret_event, uint32_t *ret_status);
/* Place of a vCPU in the topology, and back. */
struct cpu_place { unsigned socket, core, thread; };
struct cpu_place cpu_place_of(const struct machine *m, unsigned index);
/* "max-x86_64-cpu"; the caller frees. */
char *cpu_type_name(const struct machine *m);
