/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CD/DVD-ROM drive as a logical unit: SCSI commands (SPC-4, MMC-6) whose descriptor blocks come by ATAPI or SCSI. The medium is an
 * image of 2048-byte blocks, one data track. What moves data from the medium is left to the caller, who knows where the guest's buffers
 * are.
 *
 * The lock of whoever owns it covers it (struct removable's).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/removable.h"

struct device;

enum { MMC_BLOCK = 2048, MMC_REPLY_MAX = 512, MMC_CDB = 16 };
enum { SENSE_NONE = 0, SENSE_NOT_READY = 2, SENSE_MEDIUM_ERROR = 3, SENSE_ILLEGAL_REQUEST = 5, SENSE_UNIT_ATTENTION = 6 };

struct mmc {
    struct removable removable;
    char product[17], version[5]; /* INQUIRY; 16 and 4 characters */
    uint8_t key, asc, ascq;       /* what REQUEST SENSE says next */
    bool attention;               /* the medium may have changed: the next command hears of it */
    uint8_t event;                /* media event that GET EVENT STATUS NOTIFICATION has not told yet (MMC-6, 6.6.2.4) */
};

enum mmc_kind { MMC_GOOD, MMC_CHECK /* key, asc, ascq say why */, MMC_REPLY /* data for the guest */, MMC_READ /* blocks of the medium */,
                MMC_TAKE /* `length` bytes come from the guest, and are ignored */ };
struct mmc_result {
    enum mmc_kind kind;
    uint8_t data[MMC_REPLY_MAX];
    uint32_t length;              /* bytes of data, at most what the command allows */
    uint64_t offset, bytes;       /* MMC_READ: of the medium; a multiple of MMC_BLOCK */
};

void mmc_init(struct mmc *c, struct device *dev, GMutex *lock, struct block_device *block, const char *product, const char *version);
void mmc_reset(struct mmc *c);
/* Another medium, or none, or another size of it. */
void mmc_medium_changed(struct mmc *c);
void mmc_command(struct mmc *c, const uint8_t *cdb, struct mmc_result *ret);
/* A read of the medium failed. */
void mmc_read_failed(struct mmc *c, int err);
bool mmc_has_medium(const struct mmc *c);
/* Fixed format sense data, 18 bytes; the sense is told with it. */
void mmc_sense(struct mmc *c, uint8_t ret[18]);
