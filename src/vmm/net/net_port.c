/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread of a queue with a descriptor: waits, takes frames, gives them to the front end. */
#include "vmm/net/net_port.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"

enum { PIECES = 320, BURST = 256 /* frames before the other events are looked at */ };
enum verdict { EMPTY, MORE, STALLED, ENDED };

void net_port_init(struct net_port *p, struct net_backend *b, const struct net_port_ops *ops, unsigned queue, int fd)
{
    *p = (struct net_port){ .b = b, .ops = ops, .queue = queue, .fd = fd, .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
}

void net_port_finish(struct net_port *p)
{
    net_port_stop(p);
    if (p->wake_fd >= 0)
        close(p->wake_fd);
    p->wake_fd = -1;
    g_clear_pointer(&p->scratch, g_free);
}

static void signal_thread(struct net_port *p)
{
    uint64_t one = 1;
    (void)!write(p->wake_fd, &one, sizeof(one)); /* a counter that is full is readable too */
}

void net_port_wake(struct net_port *p)
{
    if (atomic_exchange(&p->stalled, false))
        signal_thread(p);
}

void net_port_wait_room(struct net_port *p)
{
    if (!atomic_exchange(&p->blocked, true))
        signal_thread(p);
}

/* ---- frames for the guest ---- */

static enum verdict verdict_of(ssize_t n)
{
    return n > 0 ? MORE : n == -EAGAIN ? EMPTY : n == -EINTR ? MORE : ENDED;
}

/* Nobody wants the frame, or the front end takes it as one piece. */
static enum verdict take_to_scratch(struct net_port *p, bool discard)
{
    const struct net_frontend *f = p->b->frontend;
    if (!p->scratch)
        p->scratch = g_malloc(NET_FRAME_MAX + NET_HEADER);
    struct iovec iov = { p->scratch, NET_FRAME_MAX + NET_HEADER };
    if (!discard && !f->can_receive(p->b->frontend_opaque))
        return STALLED;
    ssize_t n = p->ops->read(p, &iov, 1);
    if (n > 0 && !discard)
        f->receive(p->b->frontend_opaque, p->scratch, n);
    return verdict_of(n);
}

static enum verdict take_one(struct net_port *p)
{
    const struct net_frontend *f = p->b->frontend;
    bool discard = atomic_load_explicit(&p->b->down, memory_order_relaxed);
    if (discard || !f->rx_buffers)
        return take_to_scratch(p, discard);
    struct iovec iov[PIECES];
    unsigned pieces = f->rx_buffers(p->b->frontend_opaque, p->queue, iov, PIECES);
    if (!pieces)
        return STALLED;
    ssize_t n = p->ops->read(p, iov, pieces);
    f->rx_done(p->b->frontend_opaque, p->queue, MAX(n, 0));
    return verdict_of(n);
}

static enum verdict take_frames(struct net_port *p)
{
    for (unsigned i = 0; i < BURST; i++) {
        if (atomic_load_explicit(&p->stopping, memory_order_relaxed))
            return MORE;
        enum verdict v = take_one(p);
        if (v == STALLED) {
            /* Buffers may have come between the front end's look and this mark: look once more after it. */
            atomic_store(&p->stalled, true);
            v = take_one(p);
            if (v != STALLED)
                atomic_store(&p->stalled, false);
        }
        if (v != MORE)
            return v;
    }
    return MORE;
}

/* ---- the thread ---- */

static void make_room(struct net_port *p)
{
    const struct net_frontend *f = p->b->frontend;
    if (p->ops->flush && p->ops->flush(p))
        return;
    atomic_store(&p->blocked, false);
    if (f->tx_ready)
        f->tx_ready(p->b->frontend_opaque, p->queue);
}

static void *run(void *opaque)
{
    struct net_port *p = opaque;
    bool ended = false, again = false, waited = false;
    while (!atomic_load(&p->stopping) && !ended) {
        bool stalled = atomic_load(&p->stalled), blocked = atomic_load(&p->blocked);
        struct pollfd fds[2] = { { p->wake_fd, POLLIN, 0 },
                                 { stalled && !blocked ? -1 : p->fd, (stalled ? 0 : POLLIN) | (blocked ? POLLOUT : 0), 0 } };
        again |= waited && !stalled; /* a back end may hold frames that it has read already */
        waited = stalled;
        if (poll(fds, 2, again ? 0 : -1) < 0)
            continue;
        if (fds[0].revents) {
            uint64_t count;
            (void)!read(p->wake_fd, &count, sizeof(count));
        }
        if (fds[1].revents & POLLOUT)
            make_room(p);
        if (again || (fds[1].revents & (POLLIN | POLLHUP | POLLERR))) {
            enum verdict v = take_frames(p);
            again = v == MORE;
            /* A descriptor that is gone is told again and again; nobody may wait for buffers then. */
            ended = v == ENDED || (v == STALLED && (fds[1].revents & (POLLHUP | POLLERR)));
        }
    }
    if (ended && p->ops->ended)
        p->ops->ended(p);
    else if (ended)
        log_warn("netdev '%s': the descriptor of queue %u gives no more frames", p->b->id, p->queue);
    return NULL;
}

void net_port_start(struct net_port *p)
{
    char name[16];
    if (p->thread || p->fd < 0)
        return;
    snprintf(name, sizeof(name), "net %s/%u", p->b->id ? p->b->id : "", p->queue);
    atomic_store(&p->stopping, false);
    atomic_store(&p->stalled, false);
    atomic_store(&p->blocked, false);
    p->thread = sandbox_thread_new(SANDBOX_NET, name, run, p);
}

void net_port_stop(struct net_port *p)
{
    if (!p->thread)
        return;
    atomic_store(&p->stopping, true);
    signal_thread(p);
    g_thread_join(p->thread);
    p->thread = NULL;
}
