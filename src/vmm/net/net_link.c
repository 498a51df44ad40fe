/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/net/net_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

enum { LENGTH = 4, IN_SIZE = 2 * (LENGTH + NET_FRAME_MAX), PIECES = 64 };

/* ---- frames that come ---- */

/* The length of the frame at the front, when all of it is here; 0: not yet; -1: nonsense. */
static ssize_t front(const struct net_link *l)
{
    uint32_t n;
    if (l->in_n - l->in_at < LENGTH)
        return 0;
    memcpy(&n, l->in + l->in_at, LENGTH);
    n = ntohl(n);
    if (!n || n > NET_FRAME_MAX)
        return -1;
    return l->in_n - l->in_at - LENGTH >= n ? (ssize_t)n : 0;
}

/* seccomp(net): recvfrom */
static ssize_t read_more(struct net_link *l)
{
    memmove(l->in, l->in + l->in_at, l->in_n - l->in_at);
    l->in_n -= l->in_at;
    l->in_at = 0;
    ssize_t n = recv(l->fd, l->in + l->in_n, IN_SIZE - l->in_n, MSG_DONTWAIT);
    if (n > 0)
        l->in_n += (size_t)n;
    return n < 0 ? -errno : n;
}

static ssize_t link_read(struct net_port *p, const struct iovec *iov, unsigned n)
{
    struct net_link *l = (struct net_link *)p;
    ssize_t size;
    while (!(size = front(l))) {
        ssize_t more = read_more(l);
        if (more <= 0)
            return more;
    }
    if (size < 0) {
        log_warn("netdev '%s': the peer sent a frame of an impossible length; the connection is closed", p->b->id);
        return 0;
    }
    net_iov_scatter(iov, n, l->in + l->in_at + LENGTH, (size_t)size);
    l->in_at += LENGTH + (size_t)size;
    return size;
}

static void link_ended(struct net_port *p)
{
    struct net_link *l = (struct net_link *)p;
    l->ended(l->opaque);
}

/* ---- frames that go ---- */

/* True: all is out.
 * seccomp(device): sendto sendmsg */
static bool push_tail_locked(struct net_link *l)
{
    while (l->tail_n) {
        ssize_t n = send(l->fd, l->tail + l->tail_at, l->tail_n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        l->tail_at += (size_t)n;
        l->tail_n -= (size_t)n;
    }
    return true;
}

static bool link_flush(struct net_port *p)
{
    struct net_link *l = (struct net_link *)p;
    g_mutex_lock(&l->lock);
    bool left = !push_tail_locked(l) && errno == EAGAIN;
    g_mutex_unlock(&l->lock);
    return left;
}

static void keep_tail_locked(struct net_link *l, const struct iovec *iov, unsigned n, size_t sent)
{
    if (!l->tail)
        l->tail = g_malloc(LENGTH + NET_FRAME_MAX);
    l->tail_n = net_iov_gather(iov, n, l->tail, LENGTH + NET_FRAME_MAX) - sent;
    l->tail_at = sent;
}

static enum net_sent send_locked(struct net_link *l, const struct iovec *iov, unsigned n, size_t size)
{
    if (!push_tail_locked(l))
        return errno == EAGAIN ? NET_BLOCKED : NET_DROPPED;
    struct msghdr h = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
    ssize_t sent;
    do {
        sent = sendmsg(l->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? NET_BLOCKED : NET_DROPPED;
    if ((size_t)sent < size)
        keep_tail_locked(l, iov, n, (size_t)sent);
    return NET_SENT;
}

enum net_sent net_link_send(struct net_link *l, const struct iovec *iov, unsigned n)
{
    struct iovec with[PIECES];
    g_autofree uint8_t *whole = NULL;
    size_t size = net_iov_length(iov, n);
    uint32_t length = htonl((uint32_t)size);
    if (!size || size > NET_FRAME_MAX)
        return NET_DROPPED;
    with[0] = (struct iovec){ &length, LENGTH };
    if (n < PIECES) {
        memcpy(with + 1, iov, n * sizeof(iov[0]));
    } else {
        whole = g_malloc(size);
        with[1] = (struct iovec){ whole, net_iov_gather(iov, n, whole, size) };
        n = 1;
    }
    g_mutex_lock(&l->lock);
    enum net_sent r = send_locked(l, with, n + 1, LENGTH + size);
    bool left = l->tail_n;
    g_mutex_unlock(&l->lock);
    if (r == NET_BLOCKED || left)
        net_port_wait_room(&l->port);
    return r;
}

/* ---- life ---- */

static const struct net_port_ops port_ops = { .read = link_read, .flush = link_flush, .ended = link_ended };

struct net_link *net_link_create(struct net_backend *b, int fd, void (*ended)(void *opaque), void *opaque)
{
    struct net_link *l = g_new0(struct net_link, 1);
    net_port_init(&l->port, b, &port_ops, 0, fd);
    l->fd = fd;
    l->ended = ended;
    l->opaque = opaque;
    l->in = g_malloc(IN_SIZE);
    g_mutex_init(&l->lock);
    return l;
}

void net_link_destroy(struct net_link *l)
{
    if (!l)
        return;
    net_port_finish(&l->port);
    close(l->fd);
    g_mutex_clear(&l->lock);
    g_free(l->in);
    g_free(l->tail);
    g_free(l);
}
