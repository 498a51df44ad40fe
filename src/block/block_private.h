/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of src/block; nobody else includes it. */
#pragma once

#include "block/block.h"

struct block_device {
    struct block_options options; /* texts owned */
    char *claimed_by;
    int fd;
    bool direct, host_device, can_punch, can_zero_range;
    uint32_t align;               /* of O_DIRECT: offset, length and memory */
    uint64_t size;
    GRWLock rmw_lock;             /* writer: read, modify, write of a part of an aligned unit; reader: other writes */
    GMutex lock;                  /* covers everything below, claimed_by */
    GCond idle;                   /* nothing is in flight */
    unsigned inflight;
    GQueue pending;               /* struct block_request *: nobody has begun */
    GCond work;                   /* one more is pending, or quit */
    unsigned nworkers, nwaiting;
    GSList *ended;                /* GThread * of workers that have nothing more to do */
    bool quit;
};

/* raw.c: executes one request; 0 or an errno value. */
int raw_execute(struct block_device *b, const struct block_request *r);
/* image_lock.c: what QEMU's programs look at before they open an image. */
bool image_lock(int fd, const char *path, bool write, GError **error) G_GNUC_WARN_UNUSED_RESULT;
