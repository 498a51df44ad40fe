/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A queue's requests. What the host's cache can answer is done when it is added; what lies in one piece of a file goes to the
 * ring; the rest to the disk's worker threads, whose completions come back over a list and an eventfd. The ring watches the
 * eventfd, so that there is one place to wait.
 *
 * A ring could do more than the sandbox lets its owner do: it is restricted to reading, writing and waiting.
 */
#include "block/queue.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/block_private.h"
#include "block/path.h"

#define DEPTH_MAX 1024
#define SHARE_MIN (32u << 10) /* bytes whose copying takes longer than waking another thread */
#define INLINE_MAX (256u << 10) /* bytes that are copied to and from the host's cache without asking another thread */

struct flight {
    struct block_request *request;
    struct block_queue *queue;
    struct block_device *device;
    struct block_request slow;   /* the copy that worker threads get */
    struct block_path path;
    int err;
    GList link;                  /* in ready, or done, or idle */
};

struct block_queue {
    struct block_graph *graph;
    struct io_uring ring;
    bool has_ring, waking;       /* waking: a poll of the eventfd is in the ring */
    int fd;                      /* eventfd: something is in `done` */
    bool may_wait;               /* the owner would rather wait than wake another thread */
    unsigned depth, inflight, in_ring, at_workers;
    unsigned share;              /* requests that worker threads may have beside this thread, when it may wait */
    GQueue ready;                /* struct flight: completed by this thread */
    GQueue idle;                 /* struct flight: free */
    GMutex lock;                 /* covers done, told */
    GQueue done;                 /* struct flight: completed by worker threads */
    bool told;                   /* the eventfd has been written since `done` was taken */
    struct iovec fixed[16];
    unsigned nfixed;
};

/* ---- the ring ---- */

/* seccomp(main): io_uring_setup io_uring_register
 * seccomp(block): io_uring_enter */
static bool restrict_ring(struct io_uring *ring)
{
    static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, IORING_OP_POLL_ADD };
    struct io_uring_restriction res[G_N_ELEMENTS(ops) + 2] = { 0 };
    unsigned n = 0;
    for (; n < G_N_ELEMENTS(ops); n++)
        res[n] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = ops[n] };
    res[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_BUFFERS };
    res[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_BUFFERS };
    /* liburing 2.3 declares functions for these two and does not export them. */
    return syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, res, n) == 0 &&
           syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0;
}

struct block_queue *block_queue_create(struct block_graph *g, unsigned depth)
{
    struct block_queue *q = g_new0(struct block_queue, 1);
    q->graph = g;
    q->depth = CLAMP(depth, 1, DEPTH_MAX);
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_init(&q->lock);
    g_queue_init(&q->ready);
    g_queue_init(&q->idle);
    g_queue_init(&q->done);
    q->has_ring = q->fd >= 0 && io_uring_queue_init(q->depth + 2, &q->ring, IORING_SETUP_R_DISABLED) == 0;
    if (q->has_ring && !restrict_ring(&q->ring)) {
        io_uring_queue_exit(&q->ring);
        q->has_ring = false;
    }
    return q;
}

void block_queue_set_may_wait(struct block_queue *q, bool on)
{
    q->may_wait = on;
    q->share = on && q->depth > 1 ? 2 * (g_get_num_processors() - 1) : 0;
}

void block_queue_destroy(struct block_queue *q)
{
    GList *l;
    if (!q)
        return;
    g_assert(!q->inflight);
    while ((l = g_queue_pop_head_link(&q->idle)))
        g_free(l->data);
    if (q->has_ring)
        io_uring_queue_exit(&q->ring);
    if (q->fd >= 0)
        close(q->fd);
    g_mutex_clear(&q->lock);
    g_free(q);
}

bool block_queue_has_ring(const struct block_queue *q)
{
    return q->has_ring;
}

bool block_queue_register(struct block_queue *q, const struct iovec *iov, unsigned n)
{
    if (!q->has_ring || n > G_N_ELEMENTS(q->fixed) || q->nfixed || io_uring_register_buffers(&q->ring, iov, n) < 0)
        return false;
    memcpy(q->fixed, iov, n * sizeof(*iov));
    q->nfixed = n;
    return true;
}

/* The registered memory that one vector lies in, or -1. */
static int find_fixed(const struct block_queue *q, const struct block_request *r)
{
    for (unsigned i = 0; r->niov == 1 && i < q->nfixed; i++) {
        const char *start = q->fixed[i].iov_base, *at = r->iov->iov_base;
        if (at >= start && at + r->iov->iov_len <= start + q->fixed[i].iov_len)
            return (int)i;
    }
    return -1;
}

static bool to_ring(struct block_queue *q, struct flight *f)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
    const struct block_request *r = f->request;
    bool write = r->op == BLOCK_WRITE;
    int fixed = find_fixed(q, r);
    if (!sqe && io_uring_submit(&q->ring) >= 0)
        sqe = io_uring_get_sqe(&q->ring);
    if (!sqe)
        return false;
    if (fixed >= 0 && write)
        io_uring_prep_write_fixed(sqe, f->path.fd, r->iov->iov_base, (unsigned)r->iov->iov_len, f->path.offset, fixed);
    else if (fixed >= 0)
        io_uring_prep_read_fixed(sqe, f->path.fd, r->iov->iov_base, (unsigned)r->iov->iov_len, f->path.offset, fixed);
    else if (write)
        io_uring_prep_writev(sqe, f->path.fd, r->iov, (unsigned)r->niov, f->path.offset);
    else
        io_uring_prep_readv(sqe, f->path.fd, r->iov, (unsigned)r->niov, f->path.offset);
    io_uring_sqe_set_data(sqe, f);
    q->in_ring++;
    return true;
}

/* ---- the slow way ---- */

static void slow_done(struct block_request *slow, int err)
{
    struct flight *f = slow->opaque;
    struct block_queue *q = f->queue;
    f->err = err;
    f->link = (GList){ .data = f };
    g_mutex_lock(&q->lock);
    g_queue_push_tail_link(&q->done, &f->link);
    bool tell = !q->told;
    q->told = true;
    if (tell) {
        uint64_t one = 1;
        (void)!write(q->fd, &one, sizeof(one));
    }
    g_mutex_unlock(&q->lock);
}

static void go_slow(struct flight *f)
{
    f->slow = *f->request;
    f->slow.done = slow_done;
    f->slow.opaque = f;
    f->queue->at_workers++;
    block_submit_to_worker(f->device, &f->slow);
}

/* ---- the fast way ---- */

static bool direct_possible(const struct flight *f, uint32_t align)
{
    const struct block_request *r = f->request;
    uint64_t all = f->path.offset | r->length;
    for (int i = 0; i < r->niov; i++)
        all |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
    return !(all & (align - 1));
}

static void done_now(struct block_queue *q, struct flight *f, int err)
{
    f->err = err;
    f->link = (GList){ .data = f };
    g_queue_push_tail_link(&q->ready, &f->link);
}

/* Inside the graph, with a path. True: it is done, or on its way; the graph is left when it is done. */
static bool go_fast(struct block_queue *q, struct flight *f)
{
    struct block_request *r = f->request;
    bool write = r->op == BLOCK_WRITE;
    uint32_t align;
    if (f->path.zero) {
        iov_cursor_zero(&(struct iov_cursor){ r->iov, r->niov, 0 }, r->length);
        done_now(q, f, 0);
        return true;
    }
    if (block_file_direct(f->path.file, &align))
        return q->has_ring && direct_possible(f, align) && to_ring(q, f);
    if (write && r->length > INLINE_MAX)
        return q->has_ring && to_ring(q, f);
    ssize_t n = write ? pwritev(f->path.fd, r->iov, r->niov, f->path.offset) : preadv2(f->path.fd, r->iov, r->niov, f->path.offset, RWF_NOWAIT);
    if (n != (ssize_t)r->length)
        return !write && n < 0 && errno == EAGAIN && q->has_ring && to_ring(q, f);
    done_now(q, f, 0);
    return true;
}

static bool may_go_fast(const struct block_device *b, const struct block_request *r)
{
    return (r->op == BLOCK_READ || (r->op == BLOCK_WRITE && !r->flags && !block_device_options(b)->write_through)) && r->length && r->niov <= IOV_MAX &&
           r->length <= INT_MAX && !block_device_limits(b);
}

static bool cached(const struct block_device *b)
{
    const struct block_node *n = block_device_node(b);
    return n && !(n->flags & BLOCK_DIRECT);
}

/* The slow way in this thread: what mostly computes and fills the host's cache is done sooner than another thread is awake. With
 * several requests in flight reads are left to others, as they may wait for the disk. */
static bool go_here(struct block_queue *q, struct flight *f)
{
    const struct block_request *r = f->request;
    if (!q->may_wait || !cached(f->device) || (r->op == BLOCK_READ && q->depth > 1))
        return false;
    done_now(q, f, block_do(f->device, r->op, r->offset, r->length, r->iov, r->niov, r->flags));
    return true;
}

void block_queue_add(struct block_queue *q, struct block_device *b, struct block_request *r)
{
    GList *l = g_queue_pop_head_link(&q->idle);
    struct flight *f = l ? l->data : g_new(struct flight, 1);
    f->request = r;
    f->queue = q;
    f->device = b;
    f->path.nnodes = 0;
    r->began = g_get_monotonic_time();
    q->inflight++;
    if (r->length >= SHARE_MIN && q->at_workers < q->share && (r->op == BLOCK_READ || r->op == BLOCK_WRITE) && cached(b)) {
        go_slow(f); /* other processors copy as well */
        return;
    }
    if (may_go_fast(b, r) && block_try_enter(q->graph)) {
        struct block_node *n = block_device_node(b);
        if (n && block_path_find(n, r->op == BLOCK_WRITE, r->offset, r->length, &f->path)) {
            if (go_fast(q, f))
                return;
            block_path_end(&f->path);
            f->path.nnodes = 0;
        }
        block_leave(q->graph);
    }
    if (!go_here(q, f))
        go_slow(f);
}

static void finish(struct block_queue *q, struct flight *f)
{
    struct block_request *r = f->request;
    int err = f->err;
    if (f->path.nnodes) { /* the fast way */
        if (r->op == BLOCK_WRITE && !err)
            block_path_written(&f->path, r->length);
        block_path_end(&f->path);
        block_leave(q->graph);
        block_device_count(f->device, r->op, r->length, r->began, err);
    }
    q->inflight--;
    f->link = (GList){ .data = f };
    g_queue_push_head_link(&q->idle, &f->link);
    r->done(r, err);
}

/* The ring did only a part, or could not: once more by the slow way, which says what is wrong. */
static void again(struct block_queue *q, struct flight *f)
{
    block_path_end(&f->path);
    f->path.nnodes = 0;
    block_leave(q->graph);
    go_slow(f);
}

static unsigned reap_ready(struct block_queue *q)
{
    unsigned n = 0;
    GList *l;
    /* What callbacks add is for the next time. */
    for (guint left = q->ready.length; left && (l = g_queue_pop_head_link(&q->ready)); left--, n++)
        finish(q, l->data);
    return n;
}

static unsigned reap_done(struct block_queue *q)
{
    GQueue list = G_QUEUE_INIT;
    unsigned n = 0;
    uint64_t value;
    GList *l;
    if (!__atomic_load_n(&q->told, __ATOMIC_ACQUIRE))
        return 0;
    g_mutex_lock(&q->lock);
    list = q->done;
    g_queue_init(&q->done);
    q->told = false;
    (void)!read(q->fd, &value, sizeof(value));
    g_mutex_unlock(&q->lock);
    for (; (l = g_queue_pop_head_link(&list)); n++) {
        q->at_workers--;
        finish(q, l->data);
    }
    return n;
}

static unsigned reap_ring(struct block_queue *q)
{
    struct io_uring_cqe *cqes[64];
    unsigned n = 0, got;
    while (q->has_ring && (got = io_uring_peek_batch_cqe(&q->ring, cqes, G_N_ELEMENTS(cqes)))) {
        struct { struct flight *f; int res; } batch[64];
        for (unsigned i = 0; i < got; i++) {
            batch[i].f = io_uring_cqe_get_data(cqes[i]);
            batch[i].res = cqes[i]->res;
        }
        io_uring_cq_advance(&q->ring, got);
        for (unsigned i = 0; i < got; i++) {
            struct flight *f = batch[i].f;
            if (!f) { /* the eventfd */
                q->waking = false;
                continue;
            }
            q->in_ring--;
            f->err = 0;
            if (batch[i].res == (int)f->request->length) {
                finish(q, f);
                n++;
            } else {
                again(q, f);
            }
        }
        if (got < G_N_ELEMENTS(cqes))
            break;
    }
    return n;
}

void block_queue_submit(struct block_queue *q)
{
    if (q->has_ring && io_uring_sq_ready(&q->ring))
        (void)io_uring_submit(&q->ring);
}

/* Until a worker or the ring has something. */
static void wait_for_any(struct block_queue *q)
{
    if (!q->in_ring) {
        struct pollfd p = { q->fd, POLLIN, 0 };
        (void)!poll(&p, 1, -1);
        return;
    }
    if (!q->waking && q->inflight > q->in_ring) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
        if (sqe) {
            io_uring_prep_poll_add(sqe, q->fd, POLLIN);
            io_uring_sqe_set_data(sqe, NULL);
            q->waking = true;
        }
    }
    (void)io_uring_submit_and_wait(&q->ring, 1);
}

unsigned block_queue_reap(struct block_queue *q, bool wait)
{
    unsigned n = reap_ready(q);
    block_queue_submit(q);
    for (;;) {
        n += reap_ring(q) + reap_done(q);
        if (n || !wait || !q->inflight)
            return n;
        if (q->ready.length)
            return reap_ready(q);
        wait_for_any(q);
    }
}

unsigned block_queue_inflight(const struct block_queue *q)
{
    return q->inflight;
}

void block_queue_fds(const struct block_queue *q, int ret[2])
{
    ret[0] = q->fd;
    ret[1] = q->has_ring ? q->ring.ring_fd : -1;
}
