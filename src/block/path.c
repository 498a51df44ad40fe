/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/path.h"

#include "block/block_private.h"

void block_path_end(struct block_path *p)
{
    while (p->nheld) {
        struct block_map *m = &p->held[--p->nheld];
        m->owner->driver->unmap(m->owner, m);
    }
}

/* Whether a write of n may go by the fast way: nobody wants to know of it before, and zeroes are not looked for. */
static bool plain(const struct block_node *n)
{
    return (n->flags & (BLOCK_RDWR | BLOCK_INACTIVE)) == BLOCK_RDWR && !n->watches.length && n->detect_zeroes == BLOCK_DETECT_OFF;
}

bool block_path_find(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_path *p)
{
    p->nheld = p->nnodes = 0;
    p->zero = false;
    while (p->nnodes < PATH_MAX_NODES) {
        struct block_map m = { .offset = offset };
        uint64_t size = block_node_size(n);
        if (!n->driver->map_now || offset > size || bytes > size - offset || (write && !plain(n)) || !n->driver->map_now(n, write, offset, bytes, &m))
            break;
        p->nodes[p->nnodes] = n;
        p->offsets[p->nnodes++] = offset;
        if (n->driver->unmap) {
            m.owner = n;
            p->held[p->nheld++] = m;
        }
        if (m.zero) {
            p->zero = true;
            p->file = NULL;
            p->fd = -1;
            return true;
        }
        if (m.node == n) {
            p->file = n;
            p->fd = block_node_fd(n);
            p->offset = m.offset;
            return true;
        }
        n = m.node;
        offset = m.offset;
    }
    block_path_end(p);
    p->nnodes = 0;
    return false;
}

void block_path_written(struct block_path *p, uint64_t bytes)
{
    for (int i = 0; i < p->nnodes; i++)
        block_node_written(p->nodes[i], p->offsets[i], bytes);
}
