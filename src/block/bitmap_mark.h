/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What node_io.c tells the dirty bitmaps of a node (bitmap.c). */
#pragma once

#include <stdint.h>

struct block_node;

/* Bytes have been written: every enabled bitmap has them. Any thread. */
void block_bitmaps_mark(struct block_node *n, uint64_t offset, uint64_t bytes);
/* node->size has changed; the graph is quiet. */
void block_bitmaps_resize(struct block_node *n);
/* The node goes. */
void block_bitmaps_end(struct block_node *n);
