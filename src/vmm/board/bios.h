/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The few BIOS services that 16-bit boot code calls (bios.asm): memory map, console, disk "none". Also a vector table whose
 * hardware interrupts are acknowledged and ignored. */
#pragma once

#include <stdint.h>

struct e820_entry;
struct machine;

void bios_install(struct machine *m, const struct e820_entry *e820, unsigned n, uint64_t low_size);
