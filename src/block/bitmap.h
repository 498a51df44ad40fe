/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dirty bitmaps of a node: which of its pieces ("grains", `granularity` bytes each) have been written since. Named ones are the
 * users' (QMP block-dirty-bitmap-*), anonymous ones belong to jobs; a persistent one is kept in the image by the node's driver.
 *
 * Threads. Marking, and reading and changing bits, need no lock and may be done by any threads at once. What is said to be
 * quiet below changes which bitmaps writes go to: between block_quiesce and block_resume. A caller that holds a bitmap's
 * pointer over a time in which others could release it makes it busy first. A write is marked after it has taken effect and
 * before its caller hears of it, whether it succeeded or not.
 */
#pragma once

#include "block/bitmap_mark.h"
#include "block/node.h"

struct block_bitmap;
struct block_bitmap_bits; /* the content of a bitmap alone */

enum {
    BLOCK_BITMAP_MIN_GRANULARITY = 512,
    BLOCK_BITMAP_MAX_NAME = 1023,
};
#define BLOCK_BITMAP_MAX_GRANULARITY (UINT32_C(1) << 31)

/* ---- a node's bitmaps ---- */

/* Quiet. name NULL: anonymous. granularity 0: the default, that is the image's cluster size between 4 and 64 KiB. The new one is
 * clean and enabled, not persistent. Errors as QEMU's: name taken, too long, granularity no power of two. */
struct block_bitmap *block_bitmap_create(struct block_node *n, const char *name, uint32_t granularity, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Quiet. Takes it from its node and frees it; what is stored in the image stays (block_bitmap_remove takes that too). Of a frozen
 * one the successor goes too. NULL is allowed. */
void block_bitmap_release(struct block_bitmap *b);
/* Quiet. block-dirty-bitmap-remove: from the image, when it is persistent, and from memory. The caller has checked that it is
 * not busy. */
bool block_bitmap_remove(struct block_bitmap *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct block_bitmap *block_bitmap_find(struct block_node *n, const char *name);
/* The named ones in order of creation; prev NULL: the first. */
struct block_bitmap *block_bitmap_next(struct block_node *n, struct block_bitmap *prev);
/* QMP's list of BlockDirtyInfo: name, count, granularity, recording, busy, persistent, inconsistent; NULL when there is none. */
struct json_object *block_bitmaps_info(struct block_node *n);
uint32_t block_bitmap_default_granularity(struct block_node *n);

/* ---- properties ---- */

struct block_node *block_bitmap_node(const struct block_bitmap *b);
const char *block_bitmap_name(const struct block_bitmap *b); /* NULL: anonymous */
uint32_t block_bitmap_granularity(const struct block_bitmap *b);
uint64_t block_bitmap_size(const struct block_bitmap *b);    /* bytes it covers: the node's size */
uint64_t block_bitmap_count(const struct block_bitmap *b);   /* dirty bytes, whole grains but for the last */
bool block_bitmap_enabled(const struct block_bitmap *b);     /* recording; of a frozen one: whether its successor is */
void block_bitmap_set_enabled(struct block_bitmap *b, bool on);
bool block_bitmap_persistent(const struct block_bitmap *b);
/* Only the flag; whether the image can hold it: block_bitmap_check_persistent. */
void block_bitmap_set_persistent(struct block_bitmap *b, bool on);
bool block_bitmap_check_persistent(struct block_node *n, const char *name, uint32_t granularity, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* An operation uses it: others refuse to change it. */
bool block_bitmap_busy(const struct block_bitmap *b);
void block_bitmap_set_busy(struct block_bitmap *b, bool on);
/* It was in the image and not closed properly: it has no content and can only be removed. */
bool block_bitmap_inconsistent(const struct block_bitmap *b);
void block_bitmap_set_inconsistent(struct block_bitmap *b);
/* It is stored in an image that is read-only: its bits cannot be changed. */
bool block_bitmap_read_only(const struct block_bitmap *b);
void block_bitmap_set_read_only(struct block_bitmap *b, bool on);
/* Refuses a bitmap that is one of these, in QEMU's words. */
enum { BLOCK_BITMAP_BUSY = 1, BLOCK_BITMAP_READ_ONLY = 2, BLOCK_BITMAP_INCONSISTENT = 4, BLOCK_BITMAP_USABLE = 7,
       BLOCK_BITMAP_READABLE = BLOCK_BITMAP_BUSY | BLOCK_BITMAP_INCONSISTENT };
bool block_bitmap_check(const struct block_bitmap *b, unsigned refuse, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- bits ---- */

/* What lies beyond the size is left out. reset takes whole grains: those that [offset, offset + bytes) covers fully, or to the end. */
void block_bitmap_set(struct block_bitmap *b, uint64_t offset, uint64_t bytes);
void block_bitmap_reset(struct block_bitmap *b, uint64_t offset, uint64_t bytes);
void block_bitmap_clear(struct block_bitmap *b);
bool block_bitmap_get(const struct block_bitmap *b, uint64_t offset);
/* The first dirty range in [offset, end): as long as it goes, at most max bytes. False: none. Offset and length are cut to [offset, end). */
bool block_bitmap_next_dirty(const struct block_bitmap *b, uint64_t offset, uint64_t end, uint64_t max, uint64_t *ret_offset,
                             uint64_t *ret_bytes);
/* Offset of the first clean byte in [offset, end), or end. */
uint64_t block_bitmap_next_clean(const struct block_bitmap *b, uint64_t offset, uint64_t end);
/* The same with the bits taken: a job's way to claim work when writers mark at the same time. */
bool block_bitmap_take_dirty(struct block_bitmap *b, uint64_t offset, uint64_t end, uint64_t max, uint64_t *ret_offset, uint64_t *ret_bytes);
/* to |= from. Granularities may differ, sizes may not. */
bool block_bitmap_merge(struct block_bitmap *to, const struct block_bitmap *from, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The content alone, for transactions that may have to be undone. restore frees `bits`; size and granularity must be the same. */
struct block_bitmap_bits *block_bitmap_save(const struct block_bitmap *b);
void block_bitmap_restore(struct block_bitmap *b, struct block_bitmap_bits *bits);
void block_bitmap_bits_free(struct block_bitmap_bits *bits);

/* ---- successors: an operation (backup) copies what is dirty while writes go on ---- */

/* Quiet. From now on writes go to a successor, and b, which is busy until then, keeps what it has. */
bool block_bitmap_freeze(struct block_bitmap *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Quiet. The operation succeeded: b has what was written since the freeze. */
void block_bitmap_abdicate(struct block_bitmap *b);
/* Quiet. It failed: b has both. */
void block_bitmap_reclaim(struct block_bitmap *b);

/* ---- for src/block ---- */

/* bitmap_mark.h: marking, resizing, the end. Grains that a resize adds are clean; node_io.c marks them. */
/* The bits as bytes, the lowest grain in the lowest bit of the first byte, for storing: bytes_total of them. `write` replaces. */
uint64_t block_bitmap_bytes_total(uint64_t size, uint32_t granularity);
void block_bitmap_read_bytes(const struct block_bitmap *b, uint64_t first, uint64_t n, uint8_t *ret);
void block_bitmap_write_bytes(struct block_bitmap *b, uint64_t first, uint64_t n, const uint8_t *from);
/* All grains dirty. */
void block_bitmap_set_all(struct block_bitmap *b);

/* What a driver offers that can keep bitmaps in its image (block_driver.bitmaps). It loads them in its open and stores them in
 * its close or when it becomes read-only. */
struct block_bitmap_driver {
    /* Whether a bitmap of that name can be stored in addition. */
    bool (*can_store)(struct block_node *n, const char *name, uint32_t granularity, GError **error);
    /* Quiet. Takes the stored one away; none of that name is success. */
    bool (*remove)(struct block_node *n, const char *name, GError **error);
    /* Quiet. Writes all persistent ones out; for those who end without closing. */
    bool (*store)(struct block_node *n, GError **error);
};
