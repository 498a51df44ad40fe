/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The firmware configuration device: numbered items and named files that firmware reads through ports 510h and 511h, or by DMA from 514h
 * (Linux Documentation/devicetree/bindings/firmware/qemu,fw-cfg-mmio.yaml and drivers/firmware/qemu_fw_cfg.c name the interface).
 */
#pragma once

#include "vmm/core/device.h"

enum { FW_CFG_SIGNATURE = 0, FW_CFG_ID = 1, FW_CFG_UUID = 2, FW_CFG_RAM_SIZE = 3, FW_CFG_NOGRAPHIC = 4, FW_CFG_NB_CPUS = 5, FW_CFG_BOOT_MENU = 0x0e,
       FW_CFG_MAX_CPUS = 0x0f, FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20 };

struct device *fw_cfg_create(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The content of an item; replaces what was there. The bytes are copied. Main thread, the guest stopped or not yet running. */
void fw_cfg_set(struct device *d, uint16_t key, const void *data, size_t size);
void fw_cfg_set_int(struct device *d, uint16_t key, uint64_t value, unsigned bytes); /* little-endian */
/* A file of the directory, at most 55 characters of name; replaced where it is there. */
void fw_cfg_set_file(struct device *d, const char *name, const void *data, size_t size);
