/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks as their users see them, and the engine that executes their requests: what lies in the host's cache is read at once by
 * whoever asks (block_try_now); direct access goes by a thread with a ring of the kernel (ring.c); the rest is done by worker
 * threads, which call the nodes.
 */
#include "block/block.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/sandbox.h"
#include "base/throttle.h"
#include "block/block_private.h"
#include "block/path.h"
#include "block/ring.h"

#define WORKERS 16 /* at most, per device */
#define IDLE_US (10 * G_USEC_PER_SEC) /* after which a worker ends, but for the last */

struct block_device {
    struct block_graph *graph;
    struct block_parent parent;   /* parent.node of the node */
    struct block_node *node;      /* referenced; changes only while the graph is quiet */
    struct block_device_options options; /* id owned */
    GMutex lock;                  /* covers everything below */
    GCond idle;                   /* nothing is in flight */
    char *claimed_by;
    void (*changed)(void *opaque, bool resized);
    void *changed_opaque;
    unsigned inflight;            /* requests that are inside the graph */
    GQueue pending;               /* struct block_request *: inside, nobody has begun */
    GQueue outside;               /* waiting for the graph to let them in */
    GCond work;                   /* one more is pending, or quit */
    unsigned nworkers, nwaiting;
    GSList *ended;                /* GThread * of workers that have nothing more to do */
    bool quit;
    struct throttle_member *throttle; /* limits; NULL: none. Changes only while the graph is quiet */
    gint draining;                /* atomic: limits do not hold back now */
    struct block_ring *ring;      /* NULL: none. Set when the disk stands on a file with direct access */
    struct block_stats stats;     /* atomics */
};

/* ---- one request ---- */

void block_device_count(struct block_device *b, enum block_op op, uint64_t bytes, gint64 began, int err)
{
    struct block_stats *s = &b->stats;
    gint64 now = g_get_monotonic_time();
    if (err) {
        __atomic_add_fetch(&s->failed[op], 1, __ATOMIC_RELAXED);
    } else {
        __atomic_add_fetch(&s->bytes[op], bytes, __ATOMIC_RELAXED);
        __atomic_add_fetch(&s->operations[op], 1, __ATOMIC_RELAXED);
    }
    __atomic_add_fetch(&s->nanoseconds[op], (uint64_t)(now - began) * 1000, __ATOMIC_RELAXED);
    __atomic_store_n(&s->last_access_us, now, __ATOMIC_RELAXED);
}

/* Whoever changes the graph, or drains the device, does not wait for limits. */
static bool in_a_hurry(void *opaque)
{
    struct block_device *b = opaque;
    return g_atomic_int_get(&b->draining) || block_graph_wanted(b->graph);
}

/* A disk's last sector may be more than its node has. */
static int execute(struct block_device *b, enum block_op op, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct block_node *n = b->node;
    if (!n)
        return ENOMEDIUM;
    if (b->throttle && op != BLOCK_FLUSH)
        throttle_wait(b->throttle, op != BLOCK_READ, bytes, in_a_hurry, b);
    if (b->options.write_through && op != BLOCK_READ && op != BLOCK_FLUSH && op != BLOCK_DISCARD)
        flags |= BLOCK_FUA;
    switch (op) {
    case BLOCK_READ: return block_preadv(n, offset, bytes, iov, niov);
    case BLOCK_WRITE: return block_pwritev(n, offset, bytes, iov, niov, flags);
    case BLOCK_FLUSH: return block_flush(n);
    case BLOCK_DISCARD: return block_discard(n, offset, bytes);
    case BLOCK_WRITE_ZEROES: return block_write_zeroes(n, offset, bytes, flags);
    default: return EINVAL;
    }
}

int block_do(struct block_device *b, enum block_op op, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    gint64 began = g_get_monotonic_time();
    block_enter(b->graph);
    int err = execute(b, op, offset, bytes, iov, niov, flags);
    block_leave(b->graph);
    block_device_count(b, op, bytes, began, err);
    return err;
}

/* ---- the fast way ---- */

/* seccomp(any): preadv2
 * From the host's cache, when all of it is there. */
static bool read_cached(struct block_node *n, struct block_request *r)
{
    struct block_path p;
    if (r->niov > IOV_MAX || !block_path_find(n, false, r->offset, r->length, &p))
        return false;
    bool ok = p.zero || preadv2(p.fd, r->iov, r->niov, p.offset, RWF_NOWAIT) == (ssize_t)r->length;
    if (p.zero)
        iov_cursor_zero(&(struct iov_cursor){ r->iov, r->niov, 0 }, r->length);
    block_path_end(&p);
    return ok;
}

bool block_try_now(struct block_device *b, struct block_request *r, int *ret_err)
{
    gint64 began = g_get_monotonic_time();
    if (r->op != BLOCK_READ || !block_try_enter(b->graph))
        return false;
    bool ok = b->node && !b->throttle && !(b->node->flags & BLOCK_DIRECT) && read_cached(b->node, r);
    block_leave(b->graph);
    if (ok) {
        *ret_err = 0;
        block_device_count(b, r->op, r->length, began, 0);
    }
    return ok;
}

/* ---- workers ---- */

static void *worker(void *opaque);

/* One more worker, when requests wait and nobody is free for them. A worker starts the next one, so that no vCPU has to be
 * allowed to make threads; the first is there from the beginning. */
static void start_worker_locked(struct block_device *b)
{
    b->nworkers++;
    (void)!sandbox_thread_new(SANDBOX_BLOCK, "block", worker, b); /* it leaves itself in b->ended */
}

static void join_ended_locked(struct block_device *b)
{
    while (b->ended) {
        GThread *t = b->ended->data;
        b->ended = g_slist_delete_link(b->ended, b->ended);
        g_thread_join(t); /* it has given the lock back, or is about to end without it */
    }
}

/* The next request, or NULL: the worker ends. One worker waits for ever, the others for a while. */
static struct block_request *next_request_locked(struct block_device *b)
{
    gint64 until = g_get_monotonic_time() + IDLE_US;
    while (g_queue_is_empty(&b->pending) && !b->quit) {
        bool in_time = true;
        b->nwaiting++;
        if (b->nworkers == 1)
            g_cond_wait(&b->work, &b->lock);
        else
            in_time = g_cond_wait_until(&b->work, &b->lock, until);
        b->nwaiting--;
        if (!in_time && g_queue_is_empty(&b->pending) && b->nworkers > 1)
            return NULL;
    }
    GList *link = g_queue_pop_head_link(&b->pending);
    return link ? link->data : NULL;
}

static void serve(struct block_device *b, struct block_request *r)
{
    g_mutex_unlock(&b->lock);
    int err = execute(b, r->op, r->offset, r->length, r->iov, r->niov, r->flags);
    block_device_count(b, r->op, r->length, r->began, err);
    block_leave(b->graph);
    r->done(r, err); /* r may be gone now */
    g_mutex_lock(&b->lock);
    if (!--b->inflight)
        g_cond_broadcast(&b->idle);
}

static void *worker(void *opaque)
{
    struct block_device *b = opaque;
    struct block_request *r;
    g_mutex_lock(&b->lock);
    while ((r = next_request_locked(b))) {
        join_ended_locked(b);
        if (!g_queue_is_empty(&b->pending) && !b->nwaiting && b->nworkers < WORKERS)
            start_worker_locked(b);
        serve(b, r);
    }
    b->nworkers--;
    b->ended = g_slist_prepend(b->ended, g_thread_self());
    g_cond_broadcast(&b->idle);
    g_mutex_unlock(&b->lock);
    return NULL;
}

static void end_workers(struct block_device *b)
{
    g_mutex_lock(&b->lock);
    b->quit = true;
    g_cond_broadcast(&b->work);
    while (b->nworkers)
        g_cond_wait(&b->idle, &b->lock);
    g_mutex_unlock(&b->lock);
    join_ended_locked(b); /* nobody else is left */
}

/* ---- requests ---- */

bool block_device_throttled(const struct block_device *b)
{
    return b->throttle != NULL;
}

void block_submit(struct block_device *b, struct block_request *r)
{
    struct block_ring *ring = __atomic_load_n(&b->ring, __ATOMIC_ACQUIRE);
    if (ring && !block_device_throttled(b) && (r->op == BLOCK_READ || r->op == BLOCK_WRITE)) {
        g_mutex_lock(&b->lock);
        b->inflight++;
        g_mutex_unlock(&b->lock);
        block_ring_submit(ring, r);
    } else {
        block_submit_to_worker(b, r);
    }
}

void block_device_ring_done(struct block_device *b, unsigned n)
{
    g_mutex_lock(&b->lock);
    b->inflight -= n;
    if (!b->inflight)
        g_cond_broadcast(&b->idle);
    g_mutex_unlock(&b->lock);
}

void block_submit_to_worker(struct block_device *b, struct block_request *r)
{
    bool inside = block_try_enter(b->graph);
    r->began = g_get_monotonic_time();
    r->link = (GList){ .data = r };
    g_mutex_lock(&b->lock);
    if (inside) {
        b->inflight++;
        g_queue_push_tail_link(&b->pending, &r->link);
        g_cond_signal(&b->work);
    } else {
        g_queue_push_tail_link(&b->outside, &r->link);
    }
    g_mutex_unlock(&b->lock);
    /* The graph may have been resumed in between: then nobody else lets it in. */
    if (!inside && block_try_enter(b->graph)) {
        block_leave(b->graph);
        block_device_let_in(b);
    }
}

void block_device_let_in(void *opaque)
{
    struct block_device *b = opaque;
    g_mutex_lock(&b->lock);
    while (!g_queue_is_empty(&b->outside) && block_try_enter(b->graph)) {
        b->inflight++;
        g_queue_push_tail_link(&b->pending, g_queue_pop_head_link(&b->outside));
        g_cond_signal(&b->work);
    }
    g_mutex_unlock(&b->lock);
}

void block_drain(struct block_device *b)
{
    g_atomic_int_inc(&b->draining);
    g_mutex_lock(&b->lock);
    while (b->inflight)
        g_cond_wait(&b->idle, &b->lock);
    g_mutex_unlock(&b->lock);
    g_atomic_int_add(&b->draining, -1);
}

/* ---- coming and going ---- */

/* Direct access goes by a ring, where the kernel lets us have one. It stays when the node goes: it costs one sleeping thread. */
static void want_ring(struct block_device *b)
{
    if (b->node && b->node->flags & BLOCK_DIRECT && !b->ring)
        __atomic_store_n(&b->ring, block_ring_create(b), __ATOMIC_RELEASE);
}

static void replaced(struct block_parent *p, struct block_node *to)
{
    struct block_device *b = p->opaque;
    struct block_node *old = b->node;
    b->node = to;
    block_node_unref(old);
}

struct block_device *block_device_create(struct block_graph *g, struct block_node *node, const struct block_device_options *o)
{
    struct block_device *b = g_new0(struct block_device, 1);
    b->graph = g;
    b->options = *o;
    b->options.id = g_strdup(o->id);
    b->parent = (struct block_parent){ .opaque = b, .replaced = replaced, .what = b->options.id ? b->options.id : "a device" };
    g_mutex_init(&b->lock);
    g_cond_init(&b->idle);
    g_cond_init(&b->work);
    g_queue_init(&b->pending);
    g_queue_init(&b->outside);
    if (node) {
        b->node = block_node_ref(node);
        block_parent_add(node, &b->parent);
    }
    block_graph_on_resume(g, block_device_let_in, b);
    g_mutex_lock(&b->lock);
    start_worker_locked(b);
    g_mutex_unlock(&b->lock);
    want_ring(b);
    return b;
}

void block_device_destroy(struct block_device *b)
{
    if (!b)
        return;
    block_drain(b);
    block_ring_destroy(b->ring);
    if (b->node && !block_node_read_only(b->node))
        (void)block_flush(b->node);
    end_workers(b);
    block_graph_on_resume(b->graph, NULL, b);
    if (b->node) {
        block_parent_remove(b->node, &b->parent);
        block_node_unref(b->node);
    }
    throttle_leave(b->throttle);
    g_free((char *)b->options.id);
    g_free(b->claimed_by);
    g_mutex_clear(&b->lock);
    g_cond_clear(&b->idle);
    g_cond_clear(&b->work);
    g_free(b);
}

void block_device_set_node(struct block_device *b, struct block_node *node)
{
    block_quiesce(b->graph);
    struct block_node *old = b->node;
    if (old) {
        (void)block_flush(old);
        block_parent_remove(old, &b->parent);
    }
    b->node = node ? block_node_ref(node) : NULL;
    if (node)
        block_parent_add(node, &b->parent);
    block_node_unref(old);
    want_ring(b);
    block_resume(b->graph);
    block_device_tell(b, false);
}

/* ---- what a disk is ---- */

struct block_graph *block_device_graph(const struct block_device *b)
{
    return b->graph;
}

struct block_node *block_device_node(const struct block_device *b)
{
    return b->node;
}

uint64_t block_size(const struct block_device *b)
{
    return b->node ? (block_node_size(b->node) + 511) & ~511ull : 0;
}

bool block_read_only(const struct block_device *b)
{
    return b->node && block_node_read_only(b->node);
}

const struct block_device_options *block_device_options(const struct block_device *b)
{
    return &b->options;
}

void block_device_set_write_through(struct block_device *b, bool on)
{
    b->options.write_through = on;
}

void block_device_set_limits(struct block_device *b, const char *group, const struct throttle_config *c)
{
    struct throttle_groups *set = block_graph_throttle(b->graph);
    struct throttle_member *old = b->throttle, *now = NULL;
    if (c && throttle_config_on(c)) {
        struct throttle_group *g = throttle_group_get(set, group);
        throttle_group_set_config(g, c);
        now = throttle_join(g);
        throttle_group_unref(g);
    }
    block_quiesce(b->graph);
    b->throttle = now;
    block_resume(b->graph);
    throttle_leave(old);
}

bool block_device_join_limits(struct block_device *b, const char *group)
{
    struct throttle_group *g = throttle_group_find(block_graph_throttle(b->graph), group);
    struct throttle_member *old = b->throttle;
    if (!g)
        return false;
    block_quiesce(b->graph);
    b->throttle = throttle_join(g);
    block_resume(b->graph);
    throttle_leave(old);
    return true;
}

struct throttle_group *block_device_limits(const struct block_device *b)
{
    return b->throttle ? throttle_member_group(b->throttle) : NULL;
}

void block_device_stats(const struct block_device *b, struct block_stats *ret)
{
    *ret = b->stats;
}

void block_device_on_change(struct block_device *b, void (*fn)(void *opaque, bool resized), void *opaque)
{
    g_mutex_lock(&b->lock);
    b->changed = fn;
    b->changed_opaque = opaque;
    g_mutex_unlock(&b->lock);
}

void block_device_tell(struct block_device *b, bool resized)
{
    g_mutex_lock(&b->lock);
    void (*fn)(void *opaque, bool resized) = b->changed;
    void *opaque = b->changed_opaque;
    g_mutex_unlock(&b->lock);
    if (fn)
        fn(opaque, resized);
}

bool block_claim(struct block_device *b, const char *who, GError **error)
{
    g_mutex_lock(&b->lock);
    bool ok = !b->claimed_by;
    if (ok)
        b->claimed_by = g_strdup(who);
    else
        vireo_fail(error, VIREO_ERROR_BUSY, "drive '%s' is already used by %s", b->options.id ? b->options.id : b->node ? b->node->name : "", b->claimed_by);
    g_mutex_unlock(&b->lock);
    return ok;
}

void block_unclaim(struct block_device *b)
{
    g_mutex_lock(&b->lock);
    g_clear_pointer(&b->claimed_by, g_free);
    g_mutex_unlock(&b->lock);
}

const char *block_claimed_by(const struct block_device *b)
{
    return b->claimed_by;
}
