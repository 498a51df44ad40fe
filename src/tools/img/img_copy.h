/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies the content of images into another one, by several threads: convert and commit. */
#pragma once

#include "tools/img/img.h"

struct img_copy {
    struct img *img;
    struct block_node **source;  /* one after another */
    unsigned nsources;
    struct block_node *target;
    /* With one source: what is not allocated above `base` is left to the target's backing image. NULL with `above`: nothing is
     * below, but what is not allocated stays away too. */
    bool above;
    struct block_node *base;
    uint64_t backing_size;       /* with above: behind it what is not allocated is zero */
    uint64_t total;              /* bytes to copy */
    bool target_zero;            /* reads as zero where nothing is written */
    uint64_t sparse;             /* so many zero bytes are not written as data; 0: everything is written out */
    uint64_t unit;               /* cluster of the target, or 1 */
    bool compressed;             /* one unit at a time */
    bool ordered;                /* the target is written from its beginning to its end */
    bool salvage;                /* what cannot be read is zero, with a warning */
    bool clone, copy_range;      /* the host's file system may share or copy blocks by itself */
    unsigned threads, write_flags;
    uint64_t rate;               /* bytes per second; 0: no limit */
    double progress_end;         /* part of the progress bar that this is */
};

bool img_copy(struct img_copy *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* How many threads are worth it: `asked`, or as many as there are processors. */
unsigned img_copy_threads(unsigned asked, uint64_t total);
