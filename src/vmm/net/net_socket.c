/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -netdev socket: the older form of stream and dgram. */
#include <netinet/in.h>
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/net/net_dgram.h"
#include "vmm/net/net_fd.h"
#include "vmm/net/net_stream.h"

struct socket_options { char *fd, *listen, *connect, *mcast, *udp, *localaddr; };
#define S(member) offsetof(struct socket_options, member)
static const struct keyval_key keys[] = {
    { "fd", KV_STRING, S(fd), "an open socket" },
    { "listen", KV_STRING, S(listen), "[HOST]:PORT where the peer connects" },
    { "connect", KV_STRING, S(connect), "HOST:PORT of the peer" },
    { "mcast", KV_STRING, S(mcast), "GROUP:PORT of a multicast group" },
    { "udp", KV_STRING, S(udp), "HOST:PORT of the peer" },
    { "localaddr", KV_STRING, S(localaddr), "udp: [HOST]:PORT here; mcast: address of the interface" },
    { NULL }
};

static const struct net_backend_ops stream_ops = {
    .type = "socket", .destroy = net_stream_destroy, .sendv = net_stream_sendv, .wake = net_stream_wake, .start = net_stream_start,
    .stop = net_stream_stop,
};
static const struct net_backend_ops dgram_ops = {
    .type = "socket", .destroy = net_dgram_destroy, .sendv = net_dgram_sendv, .wake = net_dgram_wake, .start = net_dgram_start,
    .stop = net_dgram_stop,
};

static struct net_backend *with_ops(struct net_backend *b, const struct net_backend_ops *ops)
{
    if (b)
        b->ops = ops;
    return b;
}

static struct net_backend *from_fd(const char *text, GError **error)
{
    struct net_address a = NET_NO_ADDRESS, none = NET_NO_ADDRESS;
    int type = 0;
    socklen_t n = sizeof(type);
    a.fd = net_fd_take("socket", text, error);
    if (a.fd < 0)
        return NULL;
    if (getsockopt(a.fd, SOL_SOCKET, SO_TYPE, &type, &n) || (type != SOCK_STREAM && type != SOCK_DGRAM)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "socket: descriptor %s is not a stream or datagram socket", text);
        return NULL;
    }
    a.text = g_strdup(text);
    if (type == SOCK_STREAM)
        return with_ops(net_stream_make("socket", &a, false, 0, error), &stream_ops);
    return with_ops(net_dgram_make("socket", &a, &none, error), &dgram_ops);
}

static struct net_backend *stream_of(const char *text, bool server, GError **error)
{
    struct net_address a = NET_NO_ADDRESS;
    if (!net_address_parse(server ? "socket: listen" : "socket: connect", text, server, &a, error))
        return NULL;
    return with_ops(net_stream_make("socket", &a, server, 0, error), &stream_ops);
}

static struct net_backend *dgram_of(const char *text, const char *localaddr, bool group, GError **error)
{
    struct net_address local = NET_NO_ADDRESS, remote = NET_NO_ADDRESS;
    g_autofree char *interface = group && localaddr ? g_strdup_printf("%s:1", localaddr) : NULL; /* an address without a port */
    if (!group && !localaddr) {
        vireo_fail(error, VIREO_ERROR_INVALID, "socket: udp needs localaddr=[HOST]:PORT");
        return NULL;
    }
    if (!net_address_parse(group ? "socket: mcast" : "socket: udp", text, false, &remote, error))
        return NULL;
    if (group && !net_address_multicast(&remote)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "socket: mcast=%s is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)", text);
        net_address_clear(&remote);
        return NULL;
    }
    if (localaddr && !net_address_parse("socket: localaddr", interface ? interface : localaddr, true, &local, error)) {
        net_address_clear(&remote);
        return NULL;
    }
    return with_ops(net_dgram_make("socket", &local, &remote, error), &dgram_ops);
}

static struct net_backend *make(const struct socket_options *o, GError **error)
{
    unsigned given = !!o->fd + !!o->listen + !!o->connect + !!o->mcast + !!o->udp;
    if (given != 1) {
        vireo_fail(error, VIREO_ERROR_INVALID, "socket: give exactly one of fd, listen, connect, mcast and udp");
        return NULL;
    }
    if (o->localaddr && !o->mcast && !o->udp) {
        vireo_fail(error, VIREO_ERROR_INVALID, "socket: localaddr goes with mcast and udp only");
        return NULL;
    }
    if (o->fd)
        return from_fd(o->fd, error);
    if (o->listen || o->connect)
        return stream_of(o->listen ? o->listen : o->connect, o->listen, error);
    return dgram_of(o->mcast ? o->mcast : o->udp, o->localaddr, o->mcast, error);
}

static struct net_backend *socket_create(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    struct socket_options o = { 0 };
    keyval_auto *kv = keyval_from_hash(opts);
    struct net_backend *b = keyval_load(kv, keys, &o, error) ? make(&o, error) : NULL;
    char *all[] = { o.fd, o.listen, o.connect, o.mcast, o.udp, o.localaddr };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        g_free(all[i]);
    return b;
}

const struct net_backend_ops net_socket = { .type = "socket", .create = socket_create };
