/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The drivers, as drivers.c lists them. */
#pragma once

#include "block/driver.h"

extern const struct block_driver block_file, block_host_device, block_raw, block_logwrites;
extern const struct block_driver block_luks, block_vdi, block_vmdk, block_vhdx, block_vpc;
extern const struct block_driver block_nbd, block_null_co, block_null_aio, block_throttle, block_copy_on_read, block_blkdebug;
extern const struct block_driver qcow2_driver;
