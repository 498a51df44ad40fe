/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What jobs copy, several pieces at once. Whoever holds a range is inside the graph (or has quiesced it), and takes it after having
 * entered: so nobody inside ever waits for somebody outside.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sandbox.h"
#include "block/bitmap.h"
#include "block/job_private.h"

#define PIECE (1u << 20) /* bytes that one thread copies at a time */

/* ---- ranges ---- */

void block_ranges_init(struct block_ranges *r)
{
    g_mutex_init(&r->lock);
    g_cond_init(&r->changed);
    r->list = NULL;
}

void block_ranges_clear(struct block_ranges *r)
{
    g_assert(!r->list);
    g_mutex_clear(&r->lock);
    g_cond_clear(&r->changed);
}

static bool overlaps_locked(const struct block_ranges *r, const struct block_range *range)
{
    for (const GList *l = r->list; l; l = l->next) {
        const struct block_range *o = l->data;
        if (o->start < range->end && range->start < o->end && !(o->shared && range->shared))
            return true;
    }
    return false;
}

void block_ranges_take(struct block_ranges *r, struct block_range *range)
{
    g_mutex_lock(&r->lock);
    while (overlaps_locked(r, range))
        g_cond_wait(&r->changed, &r->lock);
    r->list = g_list_prepend(r->list, range);
    g_mutex_unlock(&r->lock);
}

void block_ranges_release(struct block_ranges *r, struct block_range *range)
{
    g_mutex_lock(&r->lock);
    r->list = g_list_remove(r->list, range);
    g_cond_broadcast(&r->changed);
    g_mutex_unlock(&r->lock);
}

void block_ranges_share(struct block_ranges *r, uint64_t offset, uint64_t bytes)
{
    struct block_range *range = g_new(struct block_range, 1);
    *range = (struct block_range){ offset, offset + bytes, true };
    block_ranges_take(r, range);
}

void block_ranges_unshare(struct block_ranges *r, uint64_t offset, uint64_t bytes)
{
    g_mutex_lock(&r->lock);
    for (GList *l = r->list; l; l = l->next) {
        struct block_range *range = l->data;
        if (!range->shared || range->start != offset || range->end != offset + bytes)
            continue;
        r->list = g_list_delete_link(r->list, l);
        g_free(range);
        break;
    }
    g_cond_broadcast(&r->changed);
    g_mutex_unlock(&r->lock);
}

/* ---- one piece ---- */

static int copy_data(struct block_copy *c, uint64_t offset, uint64_t bytes, bool *ret_read)
{
    void *buffer;
    int err = posix_memalign(&buffer, 4096, MAX(MIN(bytes, PIECE), 4096)) ? ENOMEM : 0;
    if (err)
        return err;
    for (uint64_t done = 0; done < bytes && !err;) {
        uint64_t part = MIN(bytes - done, PIECE);
        err = block_pread(c->source, offset + done, part, buffer);
        *ret_read = err != 0;
        if (!err)
            err = block_pwrite(c->target, offset + done, part, buffer, c->write_flags | (c->up ? BLOCK_WRITE_UNCHANGED : 0));
        done += part;
    }
    free(buffer);
    return err;
}

/* Whether the target reads as zeroes there already. */
static bool target_is_zero(struct block_copy *c, uint64_t offset, uint64_t bytes)
{
    while (bytes) {
        struct block_status s;
        if (block_status_chain(c->target, NULL, offset, bytes, &s) || !(s.flags & BLOCK_STATUS_ZERO))
            return false;
        offset += s.bytes;
        bytes -= MIN(bytes, s.bytes);
    }
    return true;
}

static bool target_has(struct block_copy *c, uint64_t offset, uint64_t bytes)
{
    while (bytes) {
        struct block_status s;
        if (block_status(block_skip_filters(c->target), offset, bytes, &s) || !(s.flags & BLOCK_STATUS_ALLOCATED))
            return false;
        offset += s.bytes;
        bytes -= MIN(bytes, s.bytes);
    }
    return true;
}

/* A target that will stand on another image one day must have the zeroes itself. */
static int copy_zeroes(struct block_copy *c, uint64_t offset, uint64_t bytes, bool *ret_read)
{
    if (c->up)
        return block_write_zeroes(c->target, offset, bytes, BLOCK_WRITE_UNCHANGED);
    if (!c->partial)
        return target_is_zero(c, offset, bytes) ? 0 : block_write_zeroes(c->target, offset, bytes, BLOCK_MAY_UNMAP);
    int err = block_write_zeroes(c->target, offset, bytes, 0);
    return err || target_has(c, offset, bytes) ? err : copy_data(c, offset, bytes, ret_read);
}

/* How far the content from offset on is of one kind, and which. skip: there is nothing to copy. */
static int look(struct block_copy *c, uint64_t offset, uint64_t bytes, uint64_t *ret_bytes, bool *ret_zero, bool *ret_skip)
{
    struct block_status s;
    int err = block_status_chain(c->source, c->up ? c->base : NULL, offset, bytes, &s);
    if (err)
        return err;
    *ret_bytes = MIN(s.bytes, bytes);
    *ret_zero = s.flags & BLOCK_STATUS_ZERO;
    *ret_skip = c->up && (!(s.flags & BLOCK_STATUS_ALLOCATED) || !s.depth);
    return 0;
}

static int copy_range(struct block_copy *c, uint64_t offset, uint64_t bytes, bool *ret_read)
{
    int err = 0;
    while (bytes && !err) {
        uint64_t part;
        bool zero, skip;
        *ret_read = true;
        err = look(c, offset, bytes, &part, &zero, &skip);
        if (err)
            return err;
        if (c->write_flags & BLOCK_COMPRESSED && (part != bytes || !zero)) { /* whole clusters */
            zero = false;
            part = MIN(bytes, MAX(part / c->grain, 1) * c->grain);
        }
        *ret_read = false;
        err = skip ? 0 : zero ? copy_zeroes(c, offset, part, ret_read) : copy_data(c, offset, part, ret_read);
        offset += part;
        bytes -= part;
    }
    return err;
}

int block_copy_now(struct block_copy *c, uint64_t offset, uint64_t bytes, bool *ret_read)
{
    uint64_t end = MIN(offset + bytes, block_bitmap_size(c->todo)), at, n;
    *ret_read = false;
    while (offset < end && block_bitmap_take_dirty(c->todo, offset, end, PIECE, &at, &n)) {
        int err = copy_range(c, at, n, ret_read);
        if (err) {
            block_bitmap_set(c->todo, at, n);
            return err;
        }
        block_job_add_done(c->job, n);
        offset = at + n;
    }
    return 0;
}

/* ---- several at once ---- */

void block_copy_init(struct block_copy *c, struct block_job *j)
{
    c->job = j;
    block_ranges_init(&c->ranges);
    g_mutex_init(&c->lock);
    g_cond_init(&c->changed);
    g_queue_init(&c->tasks);
}

void block_copy_clear(struct block_copy *c)
{
    g_mutex_lock(&c->lock);
    c->quit = true;
    g_cond_broadcast(&c->changed);
    g_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->nthreads; i++)
        g_thread_join(c->threads[i]);
    c->nthreads = 0;
    g_queue_clear_full(&c->tasks, g_free);
    block_ranges_clear(&c->ranges);
    g_mutex_clear(&c->lock);
    g_cond_clear(&c->changed);
}

static void serve(struct block_copy *c, struct block_range *task)
{
    struct block_graph *g = block_node_graph(c->source);
    bool read = false;
    block_enter(g);
    block_ranges_take(&c->ranges, task);
    int err = block_copy_now(c, task->start, task->end - task->start, &read);
    block_ranges_release(&c->ranges, task);
    block_leave(g);
    g_free(task);
    g_mutex_lock(&c->lock);
    c->busy--;
    if (err && !c->err) {
        c->err = err;
        c->err_read = read;
    }
    g_cond_broadcast(&c->changed);
    g_mutex_unlock(&c->lock);
}

static void *worker(void *opaque)
{
    struct block_copy *c = opaque;
    g_mutex_lock(&c->lock);
    for (;;) {
        struct block_range *task = g_queue_pop_head(&c->tasks);
        if (task) {
            g_mutex_unlock(&c->lock);
            serve(c, task);
            g_mutex_lock(&c->lock);
        } else if (c->quit) {
            break;
        } else {
            g_cond_wait(&c->changed, &c->lock);
        }
    }
    g_mutex_unlock(&c->lock);
    return NULL;
}

static void wait_idle(struct block_copy *c, unsigned most)
{
    g_mutex_lock(&c->lock);
    while (c->busy > most)
        g_cond_wait(&c->changed, &c->lock);
    g_mutex_unlock(&c->lock);
}

static void hand_out(struct block_copy *c, uint64_t offset, uint64_t bytes)
{
    struct block_range *task = g_new(struct block_range, 1);
    uint64_t end = offset + bytes;
    *task = (struct block_range){ offset - offset % c->grain, end + (c->grain - end % c->grain) % c->grain, false };
    g_mutex_lock(&c->lock);
    c->busy++;
    g_queue_push_tail(&c->tasks, task);
    bool more = c->nthreads < G_N_ELEMENTS(c->threads) && c->busy > c->nthreads;
    g_cond_broadcast(&c->changed);
    g_mutex_unlock(&c->lock);
    if (more) {
        c->threads[c->nthreads] = sandbox_thread_new(SANDBOX_BLOCK, "block copy", worker, c);
        c->nthreads++;
    }
}

/* 0: go on; else the job ends with it. */
static int look_up(struct block_copy *c)
{
    if (block_job_wanted(c->job)) {
        wait_idle(c, 0);
        if (!block_job_checkpoint(c->job))
            return ECANCELED;
    }
    g_mutex_lock(&c->lock);
    int err = c->err;
    g_mutex_unlock(&c->lock);
    if (!err)
        return 0;
    wait_idle(c, 0);
    bool read = c->err_read;
    c->err = 0;
    if (!block_job_retry(c->job, read, read ? c->errors.source : c->errors.target, err))
        return err;
    return block_job_checkpoint(c->job) ? 0 : ECANCELED;
}

int block_copy_run(struct block_copy *c)
{
    uint64_t size = block_bitmap_size(c->todo), cursor = 0, at, n;
    int err;
    while (!(err = look_up(c))) {
        bool dirty = cursor < size && block_bitmap_next_dirty(c->todo, cursor, size, PIECE, &at, &n);
        if (!dirty && cursor) {
            wait_idle(c, 0);
            cursor = 0;
            continue;
        }
        if (!dirty) {
            wait_idle(c, 0);
            if (!c->err && !block_bitmap_next_dirty(c->todo, 0, size, PIECE, &at, &n))
                return 0;
            continue;
        }
        block_job_throttle(c->job, n);
        wait_idle(c, G_N_ELEMENTS(c->threads) - 1);
        hand_out(c, at, n);
        cursor = at + n;
    }
    wait_idle(c, 0);
    return err;
}

int block_copy_mark_allocated(struct block_job *j, struct block_bitmap *todo, struct block_node *n, struct block_node *base, bool below)
{
    struct block_graph *g = block_node_graph(n);
    uint64_t size = block_node_size(n);
    for (uint64_t at = 0; at < size;) {
        struct block_status s;
        if (!block_job_checkpoint(j))
            return ECANCELED;
        block_enter(g);
        int err = block_status_chain(n, base, at, size - at, &s);
        block_leave(g);
        if (err)
            return err;
        if (s.flags & BLOCK_STATUS_ALLOCATED && (!below || s.depth))
            block_bitmap_set(todo, at, s.bytes);
        at += s.bytes;
    }
    return 0;
}
