/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/ring.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "block/block_private.h"
#include "block/queue.h"

#define DEPTH 128

struct block_ring {
    struct block_device *device;
    struct block_queue *queue; /* the thread's */
    GThread *thread;
    int fd;                    /* eventfd: something is in `incoming`, or quit */
    GMutex lock;               /* covers the rest */
    GQueue incoming;           /* struct block_request */
    bool told, quit;
};

/* Puts what has come into the queue. False: the end. */
static bool take_incoming(struct block_ring *r)
{
    uint64_t value;
    g_mutex_lock(&r->lock);
    GQueue list = r->incoming;
    bool quit = r->quit;
    g_queue_init(&r->incoming);
    if (r->told)
        (void)!read(r->fd, &value, sizeof(value));
    r->told = false;
    g_mutex_unlock(&r->lock);
    for (GList *l; (l = g_queue_pop_head_link(&list));)
        block_queue_add(r->queue, r->device, l->data);
    return !quit;
}

/* seccomp(block): poll ppoll */
static void *serve(void *opaque)
{
    struct block_ring *r = opaque;
    int fds[2];
    block_queue_fds(r->queue, fds);
    struct pollfd p[3] = { { r->fd, POLLIN, 0 }, { fds[0], POLLIN, 0 }, { fds[1], POLLIN, 0 } };
    while (take_incoming(r)) {
        unsigned n = block_queue_reap(r->queue, false);
        if (n)
            block_device_ring_done(r->device, n);
        else
            (void)!poll(p, 3, -1);
    }
    return NULL;
}

struct block_ring *block_ring_create(struct block_device *b)
{
    struct block_queue *q = block_queue_create(block_device_graph(b), DEPTH);
    int fd = block_queue_has_ring(q) ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd < 0) {
        block_queue_destroy(q);
        return NULL;
    }
    struct block_ring *r = g_new0(struct block_ring, 1);
    r->device = b;
    r->queue = q;
    r->fd = fd;
    g_mutex_init(&r->lock);
    g_queue_init(&r->incoming);
    r->thread = sandbox_thread_new(SANDBOX_BLOCK, "block ring", serve, r);
    return r;
}

/* seccomp(any): write */
static void tell_locked(struct block_ring *r)
{
    const uint64_t one = 1;
    if (!r->told)
        (void)!write(r->fd, &one, sizeof(one));
    r->told = true;
}

void block_ring_destroy(struct block_ring *r)
{
    if (!r)
        return;
    g_mutex_lock(&r->lock);
    r->quit = true;
    tell_locked(r);
    g_mutex_unlock(&r->lock);
    g_thread_join(r->thread);
    block_queue_destroy(r->queue);
    close(r->fd);
    g_mutex_clear(&r->lock);
    g_free(r);
}

void block_ring_submit(struct block_ring *r, struct block_request *request)
{
    request->link = (GList){ .data = request };
    g_mutex_lock(&r->lock);
    g_queue_push_tail_link(&r->incoming, &request->link);
    tell_locked(r);
    g_mutex_unlock(&r->lock);
}
