/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a monitor says of itself (VESA E-EDID 1.4). */
#pragma once

#include <stdint.h>

enum { EDID_SIZE = 128 };

/* A monitor that prefers width x height at 60 Hz and takes the usual smaller sizes. 64 to 4095 pixels a side; more is cut. */
void edid_make(uint8_t ret[EDID_SIZE], unsigned width, unsigned height);
