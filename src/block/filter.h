/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What filters have in common: each method hands its request on to the node below. For the table of a filter's driver. */
#pragma once

#include "block/driver.h"

static inline struct block_node *filter_below(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}
/* Size and limits of the node below: for open. */
void filter_take_over(struct block_node *n);
int filter_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
int filter_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
int filter_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
int filter_discard(struct block_node *n, uint64_t offset, uint64_t bytes);
bool filter_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error);
int filter_get_info(struct block_node *n, struct block_info *ret);
bool filter_reopen(struct block_node *n, unsigned flags, GError **error);
