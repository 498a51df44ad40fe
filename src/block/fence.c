/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/fence.h"

#include <errno.h>

struct block_fence {
    GMutex lock; /* all of it; taken last */
    GCond left;
    GList *readers;
    uint64_t next;
    bool broken;
};

struct block_fence *block_fence_new(void)
{
    struct block_fence *f = g_new0(struct block_fence, 1);
    g_mutex_init(&f->lock);
    g_cond_init(&f->left);
    return f;
}

void block_fence_free(struct block_fence *f)
{
    if (!f)
        return;
    g_assert(!f->readers);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->left);
    g_free(f);
}

int block_fence_enter(struct block_fence *f, struct block_fence_reader *r, uint64_t offset, uint64_t bytes)
{
    g_mutex_lock(&f->lock);
    bool broken = f->broken;
    if (!broken) {
        *r = (struct block_fence_reader){ offset, offset + bytes, f->next++ };
        f->readers = g_list_prepend(f->readers, r);
    }
    g_mutex_unlock(&f->lock);
    return broken ? EIO : 0;
}

void block_fence_leave(struct block_fence *f, struct block_fence_reader *r)
{
    g_mutex_lock(&f->lock);
    f->readers = g_list_remove(f->readers, r);
    g_cond_broadcast(&f->left);
    g_mutex_unlock(&f->lock);
}

static bool read_locked(const struct block_fence *f, uint64_t start, uint64_t end, uint64_t until)
{
    for (const GList *l = f->readers; l; l = l->next) {
        const struct block_fence_reader *r = l->data;
        if (r->turn < until && r->start < end && start < r->end)
            return true;
    }
    return false;
}

void block_fence_wait(struct block_fence *f, uint64_t offset, uint64_t bytes)
{
    g_mutex_lock(&f->lock);
    uint64_t until = f->next;
    while (read_locked(f, offset, offset + bytes, until))
        g_cond_wait(&f->left, &f->lock);
    g_mutex_unlock(&f->lock);
}

void block_fence_break(struct block_fence *f)
{
    g_mutex_lock(&f->lock);
    f->broken = true;
    g_mutex_unlock(&f->lock);
}

bool block_fence_broken(struct block_fence *f)
{
    g_mutex_lock(&f->lock);
    bool broken = f->broken;
    g_mutex_unlock(&f->lock);
    return broken;
}
