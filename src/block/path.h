/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fast way: from a piece of a disk down to the file of the host where it lies (block_driver.map_now). */
#pragma once

#include "block/driver.h"

#define PATH_MAX_NODES 16

struct block_path {
    struct block_map held[PATH_MAX_NODES]; /* what must be released */
    struct block_node *nodes[PATH_MAX_NODES];
    uint64_t offsets[PATH_MAX_NODES];      /* of the piece, in each */
    int nheld, nnodes;
    bool zero;                             /* nowhere: it reads as zeroes, and what is below says nothing */
    struct block_node *file;
    int fd;
    uint64_t offset;                       /* in the file */
};

/* Without waiting. False: the slow way (block_preadv ...). The caller is inside the graph and stays there until path_end. */
bool block_path_find(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_path *ret);
/* After a write: tells the nodes of it. */
void block_path_written(struct block_path *p, uint64_t bytes);
void block_path_end(struct block_path *p);
