/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames to the guest (virtio 1.2, 5.1.6.3). Buffers are taken from the queue ahead, as many as a largest frame needs, and the
 * back end reads each frame straight into the first of them; what is left serves the next. A frame that is larger than what the
 * guest has given so far continues in `spill`, and waits there for more buffers.
 */
#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/dev/virtio_net.h"

enum { SMALL = 2048, LARGE = NET_HEADER + NET_FRAME_MAX, PEEK = 18 };

static struct virtqueue *queue_of(struct net_pair *p)
{
    return &p->s->v.queues[2 * p->index];
}

void virtio_net_rx_drop(struct net_pair *p)
{
    for (unsigned i = 0; i < p->rx.n; i++)
        virtio_chain_free(p->rx.chain[i]);
    p->rx.n = 0;
    p->rx.capacity = 0;
    p->rx.pending = 0;
    p->rx.notify = true;
}

void virtio_net_rx_return(struct net_pair *p)
{
    while (p->rx.n)
        virtqueue_unpop(queue_of(p), p->rx.chain[--p->rx.n]);
    virtio_net_rx_drop(p);
}

/* ---- the window of buffers ---- */

static void fill(struct net_pair *p, size_t wanted)
{
    struct net_rx *rx = &p->rx;
    bool merge = virtio_has(&p->s->v, NET_F_MRG_RXBUF);
    while ((merge || !rx->n) && rx->capacity < wanted && rx->n < NET_RX_WINDOW) {
        struct virtio_chain *c = virtqueue_pop(queue_of(p));
        if (!c)
            return;
        if (c->in_len < (rx->n ? 1 : NET_HEADER)) {
            virtio_broken(&p->s->v, "a receive buffer of %u bytes", (unsigned)c->in_len);
            virtio_chain_free(c);
            return;
        }
        rx->chain[rx->n++] = c;
        rx->capacity += c->in_len;
    }
}

/* The driver tells of new buffers only while some are missing. True: they came meanwhile. */
static bool ask(struct net_pair *p)
{
    p->rx.notify = true;
    return virtqueue_want_notify(queue_of(p), true);
}

static void do_not_ask(struct net_pair *p)
{
    if (p->rx.notify)
        (void)virtqueue_want_notify(queue_of(p), false);
    p->rx.notify = false;
}

/* Puts data at a place of the frame, header included. */
static void window_write(struct net_pair *p, uint64_t offset, const uint8_t *data, size_t n)
{
    for (unsigned i = 0; i < p->rx.n && n; i++) {
        struct virtio_chain *c = p->rx.chain[i];
        if (offset >= c->in_len) {
            offset -= c->in_len;
            continue;
        }
        size_t part = virtio_chain_write(c, offset, data, n);
        data += part;
        n -= part;
        offset = 0;
    }
}

/* The first bytes of the Ethernet frame. The guest could change them meanwhile, which would only fool its own filter. */
static size_t peek(const struct net_pair *p, size_t total, uint8_t *ret)
{
    const struct net_rx *rx = &p->rx;
    size_t want = MIN(total - NET_HEADER, PEEK), done = 0, at = 0;
    for (unsigned i = 0; i < rx->n; i++) {
        const struct virtio_chain *c = rx->chain[i];
        for (unsigned k = c->nout; k < c->nout + c->nin && done < want && at < rx->direct; k++) {
            const uint8_t *piece = c->iov[k].iov_base;
            size_t skip = at < NET_HEADER ? NET_HEADER - at : 0, size = MIN(c->iov[k].iov_len, rx->direct - at);
            size_t part = size > skip ? MIN(want - done, size - skip) : 0;
            memcpy(ret + done, piece + skip, part);
            done += part;
            at += size;
        }
    }
    if (done < want) {
        memcpy(ret + done, rx->spill, want - done);
        done = want;
    }
    return done;
}

/* ---- a frame that is there ---- */

/* The kernel wrote to these pages, whether the guest sees the frame or not. */
static void mark_written(struct net_pair *p, size_t n)
{
    for (unsigned i = 0; i < p->rx.n && n; i++) {
        size_t part = MIN(n, p->rx.chain[i]->in_len);
        virtio_chain_written(p->rx.chain[i], part);
        n -= part;
    }
}

static void put_header(struct net_pair *p, unsigned count)
{
    uint8_t header[NET_HEADER] = { 0 };
    header[10] = (uint8_t)count;
    /* Without NET_F_GUEST_CSUM its fields are zero (5.1.6.4.1); a back end may say more. */
    unsigned from = p->s->header && virtio_has(&p->s->v, NET_F_GUEST_CSUM) ? 10 : 0;
    window_write(p, from, header + from, NET_HEADER - from);
}

static void place(struct net_pair *p, size_t total)
{
    struct net_rx *rx = &p->rx;
    uint32_t written[NET_RX_WINDOW];
    unsigned count = 0;
    if (total > rx->direct)
        window_write(p, rx->direct, rx->spill, total - rx->direct);
    for (size_t left = total; left; count++) {
        written[count] = (uint32_t)MIN(left, rx->chain[count]->in_len);
        left -= written[count];
        rx->capacity -= rx->chain[count]->in_len;
    }
    put_header(p, count);
    virtqueue_push_batch(rx->chain, written, count);
    rx->n -= count;
    memmove(rx->chain, rx->chain + count, rx->n * sizeof(rx->chain[0]));
    virtqueue_interrupt(queue_of(p));
}

/* True: the frame has been placed, or can never be. */
static bool finish(struct net_pair *p)
{
    struct net_rx *rx = &p->rx;
    fill(p, rx->pending);
    if (rx->capacity >= rx->pending)
        place(p, rx->pending);
    else if (rx->n < NET_RX_WINDOW && virtio_has(&p->s->v, NET_F_MRG_RXBUF) && virtio_running(&p->s->v))
        return false;
    else
        mark_written(p, rx->direct);
    rx->pending = 0;
    return true;
}

static bool finish_pending(struct net_pair *p)
{
    while (p->rx.pending && !finish(p)) {
        if (!ask(p))
            return false;
    }
    return true;
}

static void deliver(struct net_pair *p, size_t total)
{
    uint8_t start[PEEK];
    if (total >= NET_HEADER + 14 && virtio_net_wanted(p->s, start, peek(p, total, start))) {
        p->rx.pending = total;
        (void)finish_pending(p);
    } else {
        mark_written(p, MIN(total, p->rx.direct));
    }
}

/* ---- what the back end calls ---- */

/* Room for a largest frame: the window, then the spill. */
static unsigned list(struct net_pair *p, struct iovec *ret, unsigned max)
{
    struct net_rx *rx = &p->rx;
    size_t skip = p->s->header ? 0 : NET_HEADER;
    unsigned n = 0;
    rx->direct = 0;
    for (unsigned i = 0; i < rx->n && !rx->discard; i++) {
        const struct virtio_chain *c = rx->chain[i];
        for (unsigned k = c->nout; k < c->nout + c->nin && n + 1 < max && rx->direct < LARGE; k++) {
            size_t size = c->iov[k].iov_len, cut = MIN(skip, size);
            rx->direct += size;
            skip -= cut;
            if (size > cut)
                ret[n++] = (struct iovec){ (uint8_t *)c->iov[k].iov_base + cut, size - cut };
        }
        if (n + 1 >= max) /* a later buffer may not come before the rest of this one */
            break;
    }
    if (!rx->spill)
        rx->spill = g_malloc(LARGE);
    ret[n++] = (struct iovec){ rx->spill, LARGE };
    return n;
}

static bool have_buffers(struct net_pair *p)
{
    size_t wanted = p->s->offloads & (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO) ? LARGE : SMALL;
    if (!finish_pending(p))
        return false;
    do {
        fill(p, wanted);
    } while (!p->rx.n && ask(p));
    if (p->rx.n)
        do_not_ask(p);
    return p->rx.n;
}

unsigned virtio_net_rx_buffers(void *opaque, unsigned queue, struct iovec *ret, unsigned max)
{
    struct virtio_net *s = opaque;
    struct net_pair *p = &s->pairs[queue < s->npairs ? queue : 0];
    unsigned n = 0;
    g_mutex_lock(&s->v.dev.lock);
    /* Without a driver frames are taken, and lost. */
    p->rx.discard = queue >= s->used_pairs || !virtio_running(&s->v) || !queue_of(p)->enabled;
    if (!s->paused && !s->v.stopping && !virtio_net_vhost_runs(s, p->index) && (p->rx.discard || have_buffers(p))) {
        n = list(p, ret, max);
        p->rx.busy = true;
    }
    g_mutex_unlock(&s->v.dev.lock);
    return n;
}

void virtio_net_rx_done(void *opaque, unsigned queue, size_t n)
{
    struct virtio_net *s = opaque;
    struct net_pair *p = &s->pairs[queue < s->npairs ? queue : 0];
    g_mutex_lock(&s->v.dev.lock);
    p->rx.busy = false;
    if (n && !p->rx.discard) {
        size_t total = n + (s->header ? 0 : NET_HEADER);
        if (virtio_running(&s->v))
            deliver(p, total);
        else
            mark_written(p, total);
    }
    if (s->paused || s->v.stopping)
        g_cond_broadcast(&s->idle);
    if (s->vhost) /* it waited for this */
        virtio_net_vhost_update(s);
    g_mutex_unlock(&s->v.dev.lock);
}
