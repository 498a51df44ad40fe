/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -netdev tap and bridge: a TAP interface of the host (Linux, Documentation/networking/tuntap.rst; <linux/if_tun.h>), one
 * descriptor per queue. What is opened and refused is in tap_open.c.
 */
#include "vmm/net/tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/net/net_port.h"

struct tap_backend {
    struct net_backend net;
    struct tap_queues q;
    struct net_port port[TAP_MAX_QUEUES];
    unsigned used; /* queues that are attached to the interface */
};

static struct tap_backend *tap_of(struct net_backend *b)
{
    return (struct tap_backend *)b;
}

/* seccomp(net): readv
 * A front end that does not know the header: it is skipped here. No offload is on then, so it says nothing. */
static ssize_t tap_read(struct net_port *p, const struct iovec *iov, unsigned n)
{
    uint8_t header[NET_HEADER];
    ssize_t got;
    if (p->b->has_header && !p->b->header) {
        struct iovec with[2] = { { header, sizeof(header) }, iov[0] };
        got = n == 1 ? readv(p->fd, with, 2) : -1;
        return got < 0 ? -errno : got > NET_HEADER ? got - NET_HEADER : -EINTR;
    }
    got = readv(p->fd, iov, (int)n);
    return got < 0 ? -errno : got;
}

static struct vhost *tap_vhost(struct net_backend *b, unsigned queue, int *ret_fd, bool *ret_forced)
{
    struct tap_backend *t = tap_of(b);
    *ret_fd = t->q.fd[queue];
    *ret_forced = t->q.vhost_forced;
    return t->q.vhost[queue];
}

static const struct net_port_ops port_ops = { .read = tap_read };

/* seccomp(device): writev */
static enum net_sent tap_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n)
{
    struct tap_backend *t = tap_of(b);
    ssize_t sent;
    if (queue >= b->queues)
        return NET_DROPPED;
    if (b->has_header && !b->header) {
        static const uint8_t none[NET_HEADER];
        struct iovec with[64] = { { (void *)none, sizeof(none) } };
        if (n > G_N_ELEMENTS(with) - 1)
            return NET_DROPPED;
        for (unsigned i = 0; i < n; i++)
            with[i + 1] = iov[i];
        sent = writev(t->q.fd[queue], with, (int)n + 1);
    } else {
        sent = writev(t->q.fd[queue], iov, (int)n);
    }
    if (sent >= 0)
        return NET_SENT;
    if (errno != EAGAIN)
        return NET_DROPPED; /* the interface is down, or the header is nonsense */
    net_port_wait_room(&t->port[queue]);
    return NET_BLOCKED;
}

static void tap_wake(struct net_backend *b, unsigned queue)
{
    if (queue < b->queues)
        net_port_wake(&tap_of(b)->port[queue]);
}

static void tap_start(struct net_backend *b)
{
    for (unsigned i = 0; i < b->queues; i++)
        net_port_start(&tap_of(b)->port[i]);
}

static void tap_stop(struct net_backend *b)
{
    for (unsigned i = 0; i < b->queues; i++)
        net_port_stop(&tap_of(b)->port[i]);
}

/* seccomp(device): ioctl(TUNSETOFFLOAD TUNSETQUEUE) */
static void tap_set_header(struct net_backend *b, bool on)
{
    if (!on)
        (void)!ioctl(tap_of(b)->q.fd[0], TUNSETOFFLOAD, 0);
}

static void tap_set_offloads(struct net_backend *b, unsigned offloads)
{
    static const struct { unsigned ours, tun; } bits[] = {
        { NET_OFFLOAD_CSUM, TUN_F_CSUM }, { NET_OFFLOAD_TSO4, TUN_F_TSO4 }, { NET_OFFLOAD_TSO6, TUN_F_TSO6 },
        { NET_OFFLOAD_ECN, TUN_F_TSO_ECN }, { NET_OFFLOAD_UFO, TUN_F_UFO },
    };
    unsigned tun = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++)
        tun |= offloads & bits[i].ours ? bits[i].tun : 0;
    if (!(offloads & NET_OFFLOAD_CSUM))
        tun = 0; /* segments without checksums come from nowhere */
    /* They are the interface's, not the queue's; the first queue is always attached. */
    int fd = tap_of(b)->q.fd[0];
    if (ioctl(fd, TUNSETOFFLOAD, tun) < 0 && (!(tun & TUN_F_UFO) || ioctl(fd, TUNSETOFFLOAD, tun & ~TUN_F_UFO) < 0))
        log_warn("netdev '%s': the host does not take the guest's offloads (0x%x)", b->id, tun);
}

/* Queues that the guest does not use are taken off the interface, so that no frame ends there. */
static void tap_set_queues(struct net_backend *b, unsigned n)
{
    struct tap_backend *t = tap_of(b);
    n = CLAMP(n, 1, b->queues);
    for (; t->used < n; t->used++) {
        struct ifreq r = { .ifr_flags = IFF_ATTACH_QUEUE };
        if (ioctl(t->q.fd[t->used], TUNSETQUEUE, &r) < 0 && errno != EINVAL)
            log_warn("netdev '%s': queue %u cannot be used", b->id, t->used);
    }
    for (; t->used > n; t->used--) {
        struct ifreq r = { .ifr_flags = IFF_DETACH_QUEUE };
        if (ioctl(t->q.fd[t->used - 1], TUNSETQUEUE, &r) < 0)
            break;
    }
}

static void tap_destroy(struct net_backend *b)
{
    struct tap_backend *t = tap_of(b);
    for (unsigned i = 0; i < t->q.n; i++)
        net_port_finish(&t->port[i]);
    tap_close(&t->q);
    g_free(t);
}

static struct net_backend *make(bool opened, struct tap_backend *t)
{
    if (!opened) {
        tap_close(&t->q);
        g_free(t);
        return NULL;
    }
    t->net.queues = t->used = t->q.n;
    t->net.has_header = t->q.header;
    for (unsigned i = 0; i < t->q.n; i++)
        net_port_init(&t->port[i], &t->net, &port_ops, i, t->q.fd[i]);
    return &t->net;
}

static struct net_backend *tap_create(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    struct tap_backend *t = g_new0(struct tap_backend, 1);
    return make(tap_open(opts, &t->q, error), t);
}

static struct net_backend *bridge_create(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    struct tap_backend *t = g_new0(struct tap_backend, 1);
    return make(tap_open_bridge(opts, &t->q, error), t);
}

#define TAP_OPS                                                                                                        \
    .destroy = tap_destroy, .sendv = tap_sendv, .wake = tap_wake, .start = tap_start, .stop = tap_stop, .set_header = tap_set_header, \
    .set_offloads = tap_set_offloads, .set_queues = tap_set_queues, .vhost = tap_vhost
const struct net_backend_ops net_tap = { .type = "tap", .create = tap_create, TAP_OPS };
const struct net_backend_ops net_bridge = { .type = "bridge", .create = bridge_create, TAP_OPS };
