/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory modules: the device `pc-dimm` of -device and device_add, in slots (vmm/core/plug_slots.h) of which the guest's ACPI
 * (vmm/board/acpi_memhp.c) learns. Their own registers:
 *
 *  16  BASE    read: 64 bits, first address of the module in the slot
 *  24  LAST    read: 64 bits, last address
 *  32  LENGTH  read: 64 bits
 *  40  NODE    read: NUMA node
 */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

#define MEM_HOTPLUG_BASE 0x6c0u
#define MEM_HOTPLUG_SIZE 44u
#define MEM_HOTPLUG_GPE  3u

enum { MEM_HOTPLUG_RANGE = 16, MEM_HOTPLUG_NODE = 40 };

/* For a machine with -m slots=N; gpe: pulsed when the guest has something to look at. Sets m->mem_slots. */
bool mem_hotplug_create(struct machine *m, struct irq_line gpe, GError **error) G_GNUC_WARN_UNUSED_RESULT;
