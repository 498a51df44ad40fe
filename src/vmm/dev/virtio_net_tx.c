/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames from the guest (virtio 1.2, 5.1.6.2), on the thread that was told of them: usually the vCPU's. The kernel reads them from
 * the guest's memory; the device's lock is free meanwhile.
 */
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_net.h"

enum { BURST = 1024 };

/* Drops the header for a back end that does not know it. Returns the number of pieces. */
static unsigned without_header(const struct virtio_chain *c, struct iovec *ret)
{
    size_t skip = NET_HEADER;
    unsigned n = 0;
    for (unsigned i = 0; i < c->nout; i++) {
        size_t cut = MIN(skip, c->iov[i].iov_len);
        skip -= cut;
        if (c->iov[i].iov_len > cut)
            ret[n++] = (struct iovec){ (uint8_t *)c->iov[i].iov_base + cut, c->iov[i].iov_len - cut };
    }
    return n;
}

static enum net_sent send_unlocked(struct virtio_net *s, unsigned pair, struct virtio_chain *c)
{
    if (s->header)
        return net_sendv(s->backend, pair, c->iov, c->nout);
    struct iovec iov[VIRTIO_MAX_CHAIN];
    return net_sendv(s->backend, pair, iov, without_header(c, iov));
}

/* False: the back end has no room; the request is back in the queue. */
static bool transmit_one(struct virtio_net *s, struct net_pair *p, struct virtqueue *q, struct virtio_chain *c)
{
    enum net_sent sent = NET_DROPPED;
    if (c->out_len < NET_HEADER || c->out_len > NET_HEADER + NET_FRAME_MAX) {
        virtio_broken(&s->v, "a frame of %" G_GUINT64_FORMAT " bytes", c->out_len);
    } else if (s->backend && c->out_len >= NET_HEADER + 14) {
        g_mutex_unlock(&s->v.dev.lock);
        sent = send_unlocked(s, p->index, c);
        g_mutex_lock(&s->v.dev.lock);
    }
    if (sent == NET_BLOCKED) {
        virtqueue_unpop(q, c);
        return false;
    }
    virtqueue_push(c, 0);
    return true;
}

static gboolean transmit_later(gpointer opaque)
{
    struct virtio_net *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    s->tx_later = 0;
    for (unsigned i = 0; i < s->npairs; i++)
        virtio_net_transmit(s, i);
    g_mutex_unlock(&s->v.dev.lock);
    return G_SOURCE_REMOVE;
}

/* A guest that always has more to send may not keep a vCPU out of its code: after a burst the main loop goes on with it. */
void virtio_net_transmit(struct virtio_net *s, unsigned pair)
{
    struct net_pair *p = &s->pairs[pair];
    struct virtqueue *q = &s->v.queues[2 * pair + 1];
    struct virtio_chain *c;
    unsigned n = 0;
    bool room = true;
    /* Who is at it already looks again before it ends. */
    if (p->tx_busy || p->tx_blocked || virtio_net_vhost_runs(s, pair) || s->paused || !virtio_running(&s->v))
        return;
    p->tx_busy = true;
    p->tx_again = false;
    do {
        (void)virtqueue_want_notify(q, false);
        while (room && n < BURST && !s->paused && (c = virtqueue_pop(q))) {
            room = transmit_one(s, p, q, c);
            n++;
        }
    } while (room && n < BURST && !s->paused && virtqueue_want_notify(q, true));
    p->tx_busy = false;
    /* The back end may have told of room before it was known here that there was none. */
    bool again = p->tx_again;
    p->tx_again = false;
    p->tx_blocked = !room && !again && !s->v.stopping;
    if ((room ? n == BURST : again) && !s->tx_later)
        s->tx_later = g_idle_add(transmit_later, s);
    if (n)
        virtqueue_interrupt(q);
    if (s->paused || s->v.stopping)
        g_cond_broadcast(&s->idle);
    if (s->vhost)
        virtio_net_vhost_update(s);
}

void virtio_net_tx_ready(void *opaque, unsigned queue)
{
    struct virtio_net *s = opaque;
    if (queue >= s->npairs)
        return;
    g_mutex_lock(&s->v.dev.lock);
    s->pairs[queue].tx_blocked = false;
    s->pairs[queue].tx_again = s->pairs[queue].tx_busy;
    virtio_net_transmit(s, queue);
    g_mutex_unlock(&s->v.dev.lock);
}
