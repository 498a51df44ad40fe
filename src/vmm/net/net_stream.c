/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -netdev stream: frames over a stream socket to one peer (another machine, passt, a switch in software). The main thread makes and
 * ends connections; a connection (net_link) has a thread of its own.
 */
#include "vmm/net/net_stream.h"

#include <errno.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"
#include "base/leftover.h"
#include "base/sandbox.h"
#include "vmm/core/machine.h"
#include "vmm/net/net_link.h"

struct stream_backend {
    struct net_backend net;
    struct net_address address;
    bool server;
    uint64_t reconnect_ms;
    int listen_fd;
    struct leftover *made;     /* the file of a UNIX socket that is listened at */
    guint listen_watch, timer; /* main thread */
    guint ended;               /* idle source after a connection's end */
    bool started;
    GMutex lock;               /* covers link */
    struct net_link *link;
};

static struct stream_backend *of(struct net_backend *b)
{
    return (struct stream_backend *)b;
}

static void seek_peer(struct stream_backend *s);

/* ---- events; main thread ---- */

static void tell_connected(struct stream_backend *s)
{
    if (s->net.machine)
        machine_event(s->net.machine, "NETDEV_STREAM_CONNECTED",
                      json_make("netdev-id", json_object_new_string(s->net.id), "addr", net_address_json(&s->address), NULL));
}

static void tell_disconnected(struct stream_backend *s)
{
    if (s->net.machine)
        machine_event(s->net.machine, "NETDEV_STREAM_DISCONNECTED", json_make("netdev-id", json_object_new_string(s->net.id), NULL));
}

/* ---- connections; main thread ---- */

static gboolean on_ended(gpointer opaque)
{
    struct stream_backend *s = opaque;
    struct net_link *l;
    g_mutex_lock(&s->lock);
    l = s->link;
    s->link = NULL;
    s->ended = 0;
    g_mutex_unlock(&s->lock);
    net_link_destroy(l);
    tell_disconnected(s);
    seek_peer(s);
    return G_SOURCE_REMOVE;
}

static void link_ended(void *opaque)
{
    struct stream_backend *s = opaque;
    g_mutex_lock(&s->lock);
    if (!s->ended)
        s->ended = g_idle_add(on_ended, s);
    g_mutex_unlock(&s->lock);
}

/* seccomp(main): eventfd2 setsockopt */
static void connected(struct stream_backend *s, int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct net_link *l = net_link_create(&s->net, fd, link_ended, s);
    g_mutex_lock(&s->lock);
    s->link = l;
    g_mutex_unlock(&s->lock);
    if (s->started)
        net_port_start(&l->port);
    tell_connected(s);
}

/* seccomp(main): accept4 */
static gboolean on_accept(gint fd, GIOCondition condition, gpointer opaque)
{
    struct stream_backend *s = opaque;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0)
        return G_SOURCE_CONTINUE;
    connected(s, peer);
    s->listen_watch = 0; /* one peer at a time; the next waits */
    return G_SOURCE_REMOVE;
}

/* seccomp(main+sockets): socket(AF_UNIX AF_INET AF_INET6) connect getsockopt setsockopt */
static gboolean on_timer(gpointer opaque)
{
    struct stream_backend *s = opaque;
    int fd = net_address_connect("stream", &s->address, NULL);
    if (fd < 0)
        return G_SOURCE_CONTINUE;
    connected(s, fd);
    s->timer = 0;
    return G_SOURCE_REMOVE;
}

static void seek_peer(struct stream_backend *s)
{
    if (s->server)
        s->listen_watch = g_unix_fd_add(s->listen_fd, G_IO_IN, on_accept, s);
    else if (s->reconnect_ms)
        s->timer = g_timeout_add((guint)MIN(s->reconnect_ms, G_MAXINT), on_timer, s);
}

/* ---- methods ---- */

void net_stream_start(struct net_backend *b)
{
    of(b)->started = true;
    if (of(b)->link)
        net_port_start(&of(b)->link->port);
}

void net_stream_stop(struct net_backend *b)
{
    of(b)->started = false;
    if (of(b)->link)
        net_port_stop(&of(b)->link->port);
}

enum net_sent net_stream_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n)
{
    struct stream_backend *s = of(b);
    g_mutex_lock(&s->lock);
    enum net_sent r = s->link ? net_link_send(s->link, iov, n) : NET_DROPPED;
    g_mutex_unlock(&s->lock);
    return r;
}

void net_stream_wake(struct net_backend *b, unsigned queue)
{
    struct stream_backend *s = of(b);
    g_mutex_lock(&s->lock);
    if (s->link)
        net_port_wake(&s->link->port);
    g_mutex_unlock(&s->lock);
}

void net_stream_destroy(struct net_backend *b)
{
    struct stream_backend *s = of(b);
    net_link_destroy(s->link);
    if (s->ended)
        g_source_remove(s->ended);
    if (s->listen_watch)
        g_source_remove(s->listen_watch);
    if (s->timer)
        g_source_remove(s->timer);
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        leftover_remove(s->made);
    }
    net_address_clear(&s->address);
    g_mutex_clear(&s->lock);
    g_free(s);
}

struct net_backend *net_stream_make(const char *what, struct net_address *a, bool server, uint64_t reconnect_ms, GError **error)
{
    GError *e = NULL;
    if (a->fd < 0 && !sandbox_may_open("a socket", error)) {
        net_address_clear(a);
        return NULL;
    }
    int fd = a->fd >= 0 ? a->fd : server ? net_address_listen(what, a, &e) : net_address_connect(what, a, &e);
    if (fd < 0 && (server || !reconnect_ms)) {
        g_propagate_error(error, e);
        net_address_clear(a);
        return NULL;
    }
    g_clear_error(&e);
    struct stream_backend *s = g_new0(struct stream_backend, 1);
    g_mutex_init(&s->lock);
    g_queue_init(&s->net.waiting);
    s->address = *a;
    s->server = server;
    s->reconnect_ms = a->fd >= 0 ? 0 : reconnect_ms;
    s->listen_fd = server ? fd : -1;
    s->made = server && a->path ? leftover_keep(a->path) : NULL;
    if (s->reconnect_ms)
        sandbox_need(SANDBOX_SOCKETS);
    if (!server && fd >= 0)
        connected(s, fd);
    else
        seek_peer(s);
    return &s->net;
}

/* ---- -netdev stream ---- */

struct stream_options { bool server; uint64_t reconnect, reconnect_ms; };
#define S(member) offsetof(struct stream_options, member)
static const struct keyval_key keys[] = {
    { "server", KV_BOOL, S(server), "wait for the peer instead of connecting to it" },
    { "reconnect", KV_UINT, S(reconnect), "seconds after which a lost peer is sought again; 0: never", NULL, 0, 100000 },
    { "reconnect-ms", KV_UINT, S(reconnect_ms), "the same in milliseconds", NULL, 0, 100000000 },
    { "addr", KV_REFUSED, 0, "give addr.type=inet,addr.host=,addr.port= or addr.type=unix,addr.path= or addr.type=fd,addr.str=" },
    { NULL }
};

static struct net_backend *stream_create(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    struct stream_options o = { 0 };
    struct net_address a = NET_NO_ADDRESS;
    keyval_auto *kv = keyval_from_hash(opts);
    if (net_address_take(kv, "addr", &a, error) && keyval_load(kv, keys, &o, error)) {
        uint64_t ms = o.reconnect_ms ? o.reconnect_ms : o.reconnect * 1000;
        if (!a.text)
            vireo_fail(error, VIREO_ERROR_INVALID, "stream: addr.type is missing; it is inet, unix or fd");
        else if (ms && o.server)
            vireo_fail(error, VIREO_ERROR_INVALID, "stream: reconnect is for server=off");
        else
            return net_stream_make("stream", &a, o.server, ms, error);
    }
    net_address_clear(&a);
    return NULL;
}

const struct net_backend_ops net_stream = {
    .type = "stream", .create = stream_create, .destroy = net_stream_destroy, .sendv = net_stream_sendv, .wake = net_stream_wake,
    .start = net_stream_start, .stop = net_stream_stop,
};
