/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images that consist of blocks of one size, each of which a table maps to a place in a file: vdi, vhdx, vpc and vmdk are that
 * with different tables. The format says where a block is and makes room for new ones; reading, writing and what both have to do
 * with each other stand here once. Blocks that are there never move and are never given up while the image is open.
 */
#pragma once

#include "block/driver.h"

enum mapped_kind {
    MAPPED_ABSENT,     /* the backing image's, or zeroes */
    MAPPED_ZERO,
    MAPPED_DATA,
    MAPPED_COMPRESSED,
};
struct mapped_piece {
    enum mapped_kind kind;
    uint64_t bytes;          /* from the offset asked for to the end of the block */
    uint64_t block;          /* offset in the image where the block begins */
    uint32_t block_bytes;    /* of the whole block, also where the image ends within it */
    struct block_node *file; /* MAPPED_DATA, MAPPED_COMPRESSED: where it lies; not referenced */
    uint64_t at;             /* DATA: of the byte asked for; COMPRESSED: of the block */
    bool fixed;              /* nothing can be allocated here (a piece of a read-only extent) */
    void *unit;              /* the format's own */
};
/* With mapped.lock held, but for decompress. */
struct mapped_format {
    /* wait false: EAGAIN rather than I/O. ret->bytes > 0. */
    int (*find)(struct block_node *n, uint64_t offset, bool wait, struct mapped_piece *ret);
    /* p as find said: room for the whole block. Sets p->file and p->at, of the block's beginning; the room reads as zeroes
     * (it lies where nobody ever wrote). NULL: read-only. */
    int (*allocate)(struct block_node *n, struct mapped_piece *p);
    /* The data is there: readers shall find it. */
    int (*commit)(struct block_node *n, const struct mapped_piece *p);
    /* Makes room for `bytes` of compressed data and commits; NULL: cannot. from holds p->block_bytes. mapped.alloc held, the lock not. */
    int (*compress)(struct block_node *n, struct mapped_piece *p, const uint8_t *from);
    /* The whole block; any thread, without the lock. */
    int (*decompress)(struct block_node *n, const struct mapped_piece *p, uint8_t *to);
    /* Metadata that is full of changes is to be written, before more of it is changed; without the lock. May be NULL. */
    int (*relieve)(struct block_node *n);
};
struct mapped { /* the first member of the driver's state */
    const struct mapped_format *format;
    GMutex lock;  /* tables in memory */
    GMutex alloc; /* one allocation at a time; taken before lock */
};

void mapped_init(struct mapped *m, const struct mapped_format *format);
void mapped_finish(struct mapped *m); /* after mapped_init alone; zeroed is allowed */

/* Methods of struct block_driver. */
int mapped_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
int mapped_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
int mapped_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
int mapped_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret);
bool mapped_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret);

/* Every entry of the tables: what leads past the file, into metadata or nowhere is a corruption. Nothing is repaired. */
int mapped_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error);

/* For drivers that cannot write: fails when the node is to be writable, or makes it read-only where options allow that. */
bool mapped_refuse_writing(struct block_node *n, unsigned flags, const char *what, GError **error) G_GNUC_WARN_UNUSED_RESULT;
