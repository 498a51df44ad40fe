/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory modules: the device `pc-dimm` of -device and device_add, and the registers by which the guest's ACPI
 * (vmm/board/acpi_memhp.c) learns of them. Registers of 32 bits, little-endian, at MEM_HOTPLUG_BASE:
 *
 *   0  SELECT  the slot that the other registers are about
 *   4  STATUS  read: 1 present, 2 it came and nobody was told, 4 its removal was asked for and nobody was told
 *              write: 2 and 4 acknowledge; 8 ejects: the guest has let go of it
 *   8  NEXT    read: the lowest slot with 2 or 4, or all ones; write: event code of _OST for the selected slot
 *  12  OST     write: status code of _OST, which makes the report complete
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

enum { MEM_HOTPLUG_SELECT = 0, MEM_HOTPLUG_STATUS = 4, MEM_HOTPLUG_NEXT = 8, MEM_HOTPLUG_OST = 12, MEM_HOTPLUG_RANGE = 16, MEM_HOTPLUG_NODE = 40 };
enum { MEM_SLOT_PRESENT = 1, MEM_SLOT_CAME = 2, MEM_SLOT_LEAVE = 4, MEM_SLOT_EJECT = 8 };

/* For a machine with -m slots=N; gpe: pulsed when the guest has something to look at. Sets m->mem_hotplug. */
struct device *mem_hotplug_create(struct machine *m, struct irq_line gpe, GError **error) G_GNUC_WARN_UNUSED_RESULT;
