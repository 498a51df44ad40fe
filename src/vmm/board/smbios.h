/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SMBIOS 2.8 tables: what dmidecode shows. */
#pragma once

#include <glib.h>
#include <stdint.h>

struct machine_config;

/* Entry point and tables as one block for guest physical `base` (in 0xf0000-0xfffff, 16-byte aligned). NULL when they do not
 * fit into `max` bytes. */
GBytes *smbios_build(const struct machine_config *c, unsigned ncpus, uint32_t base, uint32_t max);
