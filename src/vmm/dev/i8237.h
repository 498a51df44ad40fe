/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registers of the PC's two 8237 DMA controllers and their page registers. Nothing is connected to them: they remember
 * what is written, which is all that probing software asks for. Also swallows writes to the delay port EDh. */
#pragma once

#include "vmm/core/device.h"

struct device *i8237_create(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
