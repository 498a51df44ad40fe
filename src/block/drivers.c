/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All block drivers. */
#include "block/drivers.h"

#include <string.h>

const struct block_driver *const block_drivers[] = {
    /* protocols */
    &block_file,
    &block_host_device,
    &block_nbd,
    &block_null_co,
    &block_null_aio,
    /* filters */
    &block_logwrites,
    &block_throttle,
    &block_copy_on_read,
    &block_blkdebug,
    /* formats */
    &block_raw,
    &block_luks,
    &block_vdi,
    &block_vmdk,
    &block_vhdx,
    &block_vpc,
    &qcow2_driver,
    NULL
};

const struct block_driver *block_driver_find(const char *name)
{
    for (const struct block_driver *const *d = block_drivers; *d; d++) {
        if (!strcmp((*d)->name, name))
            return *d;
    }
    return NULL;
}

const struct block_driver *block_probe(const uint8_t *head, size_t n, const char *filename)
{
    const struct block_driver *best = &block_raw;
    int most = 0;
    for (const struct block_driver *const *d = block_drivers; *d; d++) {
        int score = (*d)->probe ? (*d)->probe(head, n, filename) : 0;
        if (score > most) {
            most = score;
            best = *d;
        }
    }
    return best;
}
