/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start by firmware: a BIOS image (SeaBIOS) below 4 GiB and its last part below 1 MiB, and what it is told through fw_cfg: memory map, ACPI
 * tables, SMBIOS, boot order. The ACPI tables lie ready at the end of RAM below 4 GiB; firmware only copies the pointer to them (RSDP)
 * to where systems look for it.
 */
#pragma once

#include "vmm/board/chipset.h"

#define FIRMWARE_TABLES_SIZE 0x40000u /* at the end of low RAM */

struct firmware;

/* The image of -bios, or the default one; maps it. NULL: error that names what is missing. */
struct firmware *firmware_create(struct chipset *cs, GError **error);
/* After the devices are there: fills fw_cfg. */
bool firmware_finish(struct chipset *cs, struct firmware *f, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Each reset: the image's shadow below 1 MiB, tables anew. */
void firmware_reset(struct chipset *cs, struct firmware *f);
void firmware_free(struct firmware *f);
/* Where the tables of a machine that starts firmware lie. */
uint64_t firmware_tables_at(const struct chipset *cs);
