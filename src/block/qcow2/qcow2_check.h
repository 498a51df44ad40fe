/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of a check share: qcow2_check.c walks, qcow2_bitmap.c and qcow2_snapshot.c know their tables. */
#pragma once

#include <inttypes.h>

#include "block/qcow2/qcow2.h"

enum { COUNTS_CHUNK = 65536, COUNTS_LARGE = 255 };

struct counts { /* of clusters: sparse, small for what is mostly 0 and 1 */
    uint64_t clusters;
    uint8_t **chunk;
    GHashTable *large; /* those of COUNTS_LARGE and more */
};
void counts_init(struct counts *c, uint64_t clusters);
void counts_finish(struct counts *c);
/* Beyond the end: 0, and no effect. */
uint64_t counts_get(const struct counts *c, uint64_t cluster);
void counts_set(struct counts *c, uint64_t cluster, uint64_t value);
void counts_add(struct counts *c, uint64_t cluster, uint64_t n);

struct check { /* one run */
    struct qcow2 *q;
    struct block_check *c;
    unsigned fix;
    uint64_t file_size, clusters;  /* of the image file */
    struct counts used, stored;    /* references found; reference counts in the image */
    struct counts l2, l2_active;   /* how many L1 tables' entries point to the L2 table there */
    struct counts structure;       /* clusters of the refcount structure: as often as counted in `used` for that */
    uint64_t *rt, rt_entries, *l1;
    uint8_t *block;                /* a cluster */
    uint64_t leaks, low;           /* counts too high, too low */
    uint64_t structural;           /* corruptions of the refcount structure itself: gone with a new one */
    uint64_t too_many;             /* more references than the width of counts can say */
    unsigned snapshots_incomplete;
    bool lost;                     /* an entry leads nowhere: what it led to may look leaked */
    bool rebuild, fix_flags, quiet;
};
void check_say(struct check *k, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Bytes of the image file are used by something, in words; those beyond the end of the file are a corruption. */
void check_use(struct check *k, uint64_t offset, uint64_t bytes, uint64_t times, const char *by);

/* qcow2_bitmap.c: the directory of bitmaps and all it refers to. False: it could not be read, or cancelled. */
bool qcow2_bitmaps_check(struct check *k);
/* qcow2_snapshot.c: length of the snapshot table in the file, and how many entries lack what version 3 demands. */
int qcow2_snapshots_measure(struct qcow2 *q, uint64_t *ret_bytes, unsigned *ret_incomplete);
/* Writes the table anew in a place of its own, then the header's reference to it. 0 or errno. */
int qcow2_snapshots_write(struct qcow2 *q);
/* Counts of 2^order bits instead of those there are: a new structure behind everything, then the header. Quiet. */
bool qcow2_refcounts_rewrite(struct qcow2 *q, unsigned order, void (*progress)(void *, double), void *opaque, GError **error);

/* A flush with which the counts on the disk are right whether or not they are lazy: for those who read them there, or who may have to
 * drop what is in memory. Quiet. all: qcow2_flush_all. */
static inline int qcow2_settle(struct qcow2 *q, bool all)
{
    bool was = q->closing;
    q->closing = true;
    int err = all ? qcow2_flush_all(q) : qcow2_flush(q);
    q->closing = was;
    return err;
}
