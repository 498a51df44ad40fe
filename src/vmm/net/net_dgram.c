/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -netdev dgram: each frame is one datagram, over UDP, multicast or UNIX sockets. */
#include "vmm/net/net_dgram.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/keyval.h"
#include "base/leftover.h"
#include "base/sandbox.h"
#include "vmm/net/net_port.h"

struct dgram_backend {
    struct net_backend net;
    struct net_address local, remote;
    struct leftover *made; /* the file of a UNIX socket */
    int fd;
    struct net_port port;
};

static struct dgram_backend *of(struct net_backend *b)
{
    return (struct dgram_backend *)b;
}

/* ---- methods ---- */

/* seccomp(net): recvmsg
 * Errors that the network reports about an earlier datagram are not the socket's end, nor is an empty datagram. */
static ssize_t dgram_read(struct net_port *p, const struct iovec *iov, unsigned n)
{
    struct msghdr h = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
    ssize_t got = recvmsg(p->fd, &h, MSG_DONTWAIT);
    if (got > NET_FRAME_MAX || !got || (h.msg_flags & MSG_TRUNC))
        return -EINTR;
    if (got < 0)
        return errno == ECONNREFUSED || errno == ENOMEM || errno == ENOBUFS ? -EINTR : -errno;
    return got;
}

static const struct net_port_ops port_ops = { .read = dgram_read };

/* seccomp(device): sendmsg */
enum net_sent net_dgram_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n)
{
    struct dgram_backend *s = of(b);
    struct msghdr h = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
    if (s->remote.len) {
        h.msg_name = &s->remote.sa;
        h.msg_namelen = s->remote.len;
    }
    if (sendmsg(s->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return NET_SENT;
    if (errno != EAGAIN)
        return NET_DROPPED; /* nobody is there */
    /* A UNIX socket is full when its reader is slow, and becomes writable for us only when it is connected. */
    if (s->remote.path)
        return NET_DROPPED;
    net_port_wait_room(&s->port);
    return NET_BLOCKED;
}

void net_dgram_wake(struct net_backend *b, unsigned queue)
{
    net_port_wake(&of(b)->port);
}

void net_dgram_start(struct net_backend *b)
{
    net_port_start(&of(b)->port);
}

void net_dgram_stop(struct net_backend *b)
{
    net_port_stop(&of(b)->port);
}

void net_dgram_destroy(struct net_backend *b)
{
    struct dgram_backend *s = of(b);
    net_port_finish(&s->port);
    close(s->fd);
    leftover_remove(s->made);
    net_address_clear(&s->local);
    net_address_clear(&s->remote);
    g_free(s);
}

/* ---- making ---- */

static int join_group(const char *what, const struct net_address *local, const struct net_address *remote, GError **error)
{
    const struct sockaddr_in *group = (const struct sockaddr_in *)&remote->sa;
    struct ip_mreq m = { .imr_multiaddr = group->sin_addr };
    int fd = net_address_bind(what, remote, error), one = 1;
    if (fd < 0)
        return -1;
    if (local->len && local->sa.ss_family == AF_INET)
        m.imr_interface = ((const struct sockaddr_in *)&local->sa)->sin_addr;
    if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)) || setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &one, sizeof(one)) ||
        (local->len && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &m.imr_interface, sizeof(m.imr_interface)))) {
        vireo_fail_errno(error, errno, "%s: cannot join the group %s%s%s", what, remote->text, local->len ? " at " : "", local->len ? local->text : "");
        close(fd);
        return -1;
    }
    return fd;
}

static int open_socket(const char *what, struct net_address *local, struct net_address *remote, GError **error)
{
    if (local->fd >= 0)
        return local->fd;
    if (!sandbox_may_open("a socket", error))
        return -1;
    if (net_address_multicast(remote))
        return join_group(what, local, remote, error);
    if (!local->len || !remote->len) {
        vireo_fail(error, VIREO_ERROR_INVALID, "%s: the %s address is missing", what, local->len ? "remote" : "local");
        return -1;
    }
    if (local->sa.ss_family != remote->sa.ss_family) {
        vireo_fail(error, VIREO_ERROR_INVALID, "%s: %s and %s are addresses of different kinds", what, local->text, remote->text);
        return -1;
    }
    return net_address_bind(what, local, error);
}

struct net_backend *net_dgram_make(const char *what, struct net_address *local, struct net_address *remote, GError **error)
{
    int fd = open_socket(what, local, remote, error);
    if (fd < 0) {
        net_address_clear(local);
        net_address_clear(remote);
        return NULL;
    }
    struct dgram_backend *s = g_new0(struct dgram_backend, 1);
    g_queue_init(&s->net.waiting);
    s->made = local->path ? leftover_keep(local->path) : NULL;
    s->local = *local;
    s->remote = *remote;
    s->fd = fd;
    /* A frame of 64 KiB must fit; the kernel's usual bound for UNIX sockets is some 200 KiB of them. */
    int size = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    net_port_init(&s->port, &s->net, &port_ops, 0, fd);
    return &s->net;
}

static const struct keyval_key keys[] = { { NULL } };

static struct net_backend *dgram_create(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    struct net_address local = NET_NO_ADDRESS, remote = NET_NO_ADDRESS;
    keyval_auto *kv = keyval_from_hash(opts);
    if (net_address_take(kv, "local", &local, error) && net_address_take(kv, "remote", &remote, error) && keyval_load(kv, keys, NULL, error)) {
        if (remote.fd >= 0)
            vireo_fail(error, VIREO_ERROR_INVALID, "dgram: remote.type=fd is not possible; give the descriptor as local.type=fd");
        else
            return net_dgram_make("dgram", &local, &remote, error);
    }
    net_address_clear(&local);
    net_address_clear(&remote);
    return NULL;
}

const struct net_backend_ops net_dgram = {
    .type = "dgram", .create = dgram_create, .destroy = net_dgram_destroy, .sendv = net_dgram_sendv, .wake = net_dgram_wake,
    .start = net_dgram_start, .stop = net_dgram_stop,
};
