/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/filter.h"

void filter_take_over(struct block_node *n)
{
    const struct block_node *below = filter_below(n);
    n->size = block_node_size(below);
    n->limits.request_alignment = MAX(below->limits.request_alignment, 1);
    n->limits.zeroes_alignment = below->limits.zeroes_alignment;
    n->limits.discard_alignment = below->limits.discard_alignment;
}

/* A write past the end of a file makes it larger; drivers of filters are growable, and the node below says what it is. */
static int wrote(struct block_node *n, uint64_t end, int err)
{
    uint64_t below = block_node_size(filter_below(n)), old = __atomic_load_n(&n->size, __ATOMIC_RELAXED);
    while (!err && end > old && below > old && !__atomic_compare_exchange_n(&n->size, &old, below, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    return err;
}

int filter_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    return block_preadv(filter_below(n), offset, bytes, iov, niov);
}

int filter_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    return wrote(n, offset + bytes, block_pwritev(filter_below(n), offset, bytes, iov, niov, flags));
}

int filter_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    return wrote(n, offset + bytes, block_write_zeroes(filter_below(n), offset, bytes, flags));
}

int filter_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    return block_discard(filter_below(n), offset, bytes);
}

bool filter_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    if (!block_truncate(filter_below(n), size, exact, prealloc, error))
        return false;
    n->size = block_node_size(filter_below(n));
    return true;
}

int filter_get_info(struct block_node *n, struct block_info *ret)
{
    return block_get_info(filter_below(n), ret);
}

bool filter_reopen(struct block_node *n, unsigned flags, GError **error)
{
    return true;
}
