/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/nbd_server.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "block/block.h"
#include "block/nbd_address.h"
#include "block/nbd_server_private.h"

enum { NEGOTIATE_US = 10 * G_USEC_PER_SEC, RETRY_MS = 100 };

struct nbd_server {
    int fd, wake_fd;
    char *path;                /* a socket file to be removed at the end */
    unsigned max_connections;
    GThread *thread;
    GMutex lock;               /* all below, users and removed of the exports */
    GCond changed;             /* a connection has ended */
    GPtrArray *exports;        /* struct nbd_export *; changed by the main thread alone */
    GPtrArray *peers;          /* struct nbd_peer * */
    bool ending;
};

/* ---- bytes ---- */

/* Waits until there is something to read; false: the time is over. */
static bool wait_readable(struct nbd_peer *p)
{
    if (!p->deadline)
        return true;
    gint64 left = (p->deadline - g_get_monotonic_time()) / 1000;
    struct pollfd f = { p->fd, POLLIN, 0 };
    return left > 0 && poll(&f, 1, (int)left) > 0;
}

static ssize_t receive(struct nbd_peer *p, void *to, size_t n)
{
    ssize_t got;
    do
        got = wait_readable(p) ? recv(p->fd, to, n, 0) : -1;
    while (got < 0 && errno == EINTR && !p->deadline);
    return got;
}

bool nbd_peer_read(struct nbd_peer *p, void *to, size_t n)
{
    while (n) {
        size_t part = MIN(n, p->in_end - p->in_at);
        memcpy(to, p->input + p->in_at, part);
        p->in_at += part;
        n -= part;
        if (!n)
            return true;
        to = (uint8_t *)to + part;
        bool direct = n >= NBD_INPUT / 2;
        ssize_t got = direct ? receive(p, to, n) : receive(p, p->input, NBD_INPUT);
        if (got <= 0)
            return false;
        if (direct) {
            to = (uint8_t *)to + got;
            n -= (size_t)got;
            if (!n)
                return true;
        } else {
            p->in_at = 0;
            p->in_end = (size_t)got;
        }
    }
    return true;
}

bool nbd_peer_skip(struct nbd_peer *p, uint64_t n)
{
    uint8_t waste[4096];
    for (; n; n -= MIN(n, sizeof(waste))) {
        if (!nbd_peer_read(p, waste, MIN(n, sizeof(waste))))
            return false;
    }
    return true;
}

/* seccomp(block, main): recvfrom sendmsg shutdown setsockopt accept4 eventfd2 */
bool nbd_peer_send(struct nbd_peer *p, struct iovec *iov, int niov)
{
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)niov };
    while (m.msg_iovlen) {
        ssize_t sent = sendmsg(p->fd, &m, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        while (m.msg_iovlen && (size_t)sent >= m.msg_iov->iov_len) {
            sent -= (ssize_t)m.msg_iov->iov_len;
            m.msg_iov++;
            m.msg_iovlen--;
        }
        if (m.msg_iovlen) {
            m.msg_iov->iov_base = (uint8_t *)m.msg_iov->iov_base + sent;
            m.msg_iov->iov_len -= (size_t)sent;
        }
    }
    return true;
}

/* ---- exports ---- */

static struct nbd_export *find_locked(struct nbd_server *s, const char *name, size_t length)
{
    for (guint i = 0; i < s->exports->len; i++) {
        struct nbd_export *e = s->exports->pdata[i];
        if (!e->removed && strlen(e->name) == length && !memcmp(e->name, name, length))
            return e;
    }
    return NULL;
}

struct nbd_export *nbd_server_take_locked_export(struct nbd_peer *p, const char *name, size_t length)
{
    g_mutex_lock(&p->server->lock);
    struct nbd_export *e = p->server->ending ? NULL : find_locked(p->server, name, length);
    if (e)
        e->users++;
    p->export = e;
    g_mutex_unlock(&p->server->lock);
    return e;
}

void nbd_server_each_export(struct nbd_server *s, void (*fn)(void *opaque, const struct nbd_export *e), void *opaque)
{
    g_mutex_lock(&s->lock);
    for (guint i = 0; i < s->exports->len; i++) {
        const struct nbd_export *e = s->exports->pdata[i];
        if (!e->removed)
            fn(opaque, e);
    }
    g_mutex_unlock(&s->lock);
}

const struct nbd_export *nbd_server_look(struct nbd_server *s, const char *name, size_t length)
{
    g_mutex_lock(&s->lock);
    return find_locked(s, name, length);
}

void nbd_server_unlook(struct nbd_server *s)
{
    g_mutex_unlock(&s->lock);
}

const char *nbd_export_id(const struct nbd_export *e)
{
    return e->id;
}

const char *nbd_export_name(const struct nbd_export *e)
{
    return e->name;
}

struct block_node *nbd_export_node(const struct nbd_export *e)
{
    return block_device_node(e->device);
}

GPtrArray *nbd_export_bitmaps(const struct nbd_export *e)
{
    return e->bitmaps;
}

bool nbd_export_used(const struct nbd_export *e)
{
    g_mutex_lock(&e->server->lock);
    bool used = e->users > 0;
    g_mutex_unlock(&e->server->lock);
    return used;
}

bool nbd_export_removed(const struct nbd_export *e)
{
    return e->removed;
}

struct nbd_export *nbd_server_find(struct nbd_server *s, const char *name)
{
    g_mutex_lock(&s->lock);
    struct nbd_export *e = find_locked(s, name, strlen(name));
    g_mutex_unlock(&s->lock);
    return e;
}

struct nbd_export *nbd_server_add(struct nbd_server *s, struct block_node *node, const struct nbd_export_options *o,
                                  void (*gone)(void *opaque, struct nbd_export *e), void *opaque, GError **error)
{
    if (strlen(o->name) > NBD_MAX_STRING || (o->description && strlen(o->description) > NBD_MAX_STRING)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "export name or description too long: at most %d bytes", NBD_MAX_STRING);
        return NULL;
    }
    if (o->bitmaps && o->bitmaps->len > NBD_MAX_BITMAPS - NBD_CONTEXT_BITMAP) {
        vireo_fail(error, VIREO_ERROR_INVALID, "export '%s' has too many bitmaps: at most %d", o->name, NBD_MAX_BITMAPS - NBD_CONTEXT_BITMAP);
        return NULL;
    }
    if (nbd_server_find(s, o->name)) {
        vireo_fail(error, VIREO_ERROR_BUSY, "NBD server already has export named '%s'", o->name);
        return NULL;
    }
    struct nbd_export *e = g_new0(struct nbd_export, 1);
    e->server = s;
    e->id = g_strdup(o->id ? o->id : o->name);
    e->name = g_strdup(o->name);
    e->description = g_strdup(o->description);
    e->writable = o->writable;
    e->fast_zero = o->writable;
    e->allocation_depth = o->allocation_depth;
    e->multi_conn = s->max_connections != 1; /* all connections use one node: a flush on one is a flush for all */
    e->bitmaps = o->bitmaps ? g_ptr_array_ref(o->bitmaps) : NULL;
    e->graph = block_node_graph(node);
    struct block_device_options d = { .write_through = o->write_through, .rerror = BLOCK_ON_ERROR_REPORT, .werror = BLOCK_ON_ERROR_REPORT };
    e->device = block_device_create(e->graph, node, &d);
    e->size = block_node_size(node);
    e->gone = gone;
    e->opaque = opaque;
    g_mutex_lock(&s->lock);
    g_ptr_array_add(s->exports, e);
    g_mutex_unlock(&s->lock);
    return e;
}

/* Main thread. */
static void free_export(struct nbd_export *e)
{
    struct nbd_server *s = e->server;
    g_mutex_lock(&s->lock);
    g_ptr_array_remove(s->exports, e);
    g_mutex_unlock(&s->lock);
    if (e->gone)
        e->gone(e->opaque, e);
    block_device_destroy(e->device);
    if (e->bitmaps)
        g_ptr_array_unref(e->bitmaps);
    g_free(e->id);
    g_free(e->name);
    g_free(e->description);
    g_free(e);
}

static gboolean free_when_idle(void *opaque)
{
    free_export(opaque);
    return G_SOURCE_REMOVE;
}

/* Removed and unused: the main context frees it. A server that ends frees its exports by itself. */
static void retire_locked(struct nbd_export *e)
{
    if (e->removed && !e->users && !e->server->ending)
        g_source_set_name_by_id(g_idle_add_full(G_PRIORITY_DEFAULT, free_when_idle, e, NULL), "nbd export");
}

void nbd_export_remove(struct nbd_export *e)
{
    struct nbd_server *s = e->server;
    g_mutex_lock(&s->lock);
    if (!e->removed) {
        e->removed = true;
        for (guint i = 0; i < s->peers->len; i++) {
            struct nbd_peer *p = s->peers->pdata[i];
            if (p->export == e)
                shutdown(p->fd, SHUT_RDWR);
        }
        retire_locked(e);
    }
    g_mutex_unlock(&s->lock);
}

/* ---- connections ---- */

static void wake(struct nbd_server *s)
{
    uint64_t one = 1;
    if (write(s->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        log_warn("NBD server: cannot wake its thread: %s", g_strerror(errno));
}

/* The last thread of a connection leaves. */
static void end_peer(struct nbd_peer *p)
{
    struct nbd_server *s = p->server;
    g_mutex_lock(&s->lock);
    g_ptr_array_remove(s->peers, p);
    close(p->fd);
    if (p->export) {
        p->export->users--;
        retire_locked(p->export);
    }
    g_mutex_clear(&p->send_lock);
    g_mutex_clear(&p->lock);
    g_cond_clear(&p->idle);
    g_free(p->contexts_of);
    g_free(p);
    wake(s);
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
}

static void leave_peer(struct nbd_peer *p)
{
    g_mutex_lock(&p->lock);
    bool last = --p->threads == 0;
    g_mutex_unlock(&p->lock);
    if (last)
        end_peer(p);
}

static void *first_thread(void *opaque)
{
    struct nbd_peer *p = opaque;
    if (nbd_negotiate(p)) {
        p->deadline = 0;
        setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval) { 0 }, sizeof(struct timeval));
        nbd_transmit(p);
    }
    leave_peer(p);
    return NULL;
}

static void *further_thread(void *opaque)
{
    nbd_transmit(opaque);
    leave_peer(opaque);
    return NULL;
}

bool nbd_peer_more_threads(struct nbd_peer *p)
{
    g_thread_unref(sandbox_thread_new(SANDBOX_BLOCK, "nbd request", further_thread, p));
    return true;
}

void nbd_server_take(struct nbd_server *s, int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on UNIX sockets */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval) { NEGOTIATE_US / G_USEC_PER_SEC, 0 }, sizeof(struct timeval));
    struct nbd_peer *p = g_new0(struct nbd_peer, 1);
    p->server = s;
    p->fd = fd;
    p->deadline = g_get_monotonic_time() + NEGOTIATE_US;
    p->threads = 1;
    g_mutex_init(&p->send_lock);
    g_mutex_init(&p->lock);
    g_cond_init(&p->idle);
    g_mutex_lock(&s->lock);
    g_ptr_array_add(s->peers, p);
    g_mutex_unlock(&s->lock);
    g_thread_unref(sandbox_thread_new(SANDBOX_BLOCK, "nbd", first_thread, p));
}

static bool room_for_more(struct nbd_server *s)
{
    g_mutex_lock(&s->lock);
    bool room = !s->max_connections || s->peers->len < s->max_connections;
    g_mutex_unlock(&s->lock);
    return room;
}

static bool server_ending(struct nbd_server *s)
{
    g_mutex_lock(&s->lock);
    bool ending = s->ending;
    g_mutex_unlock(&s->lock);
    return ending;
}

static void *listen_thread(void *opaque)
{
    struct nbd_server *s = opaque;
    while (!server_ending(s)) {
        struct pollfd f[2] = { { s->wake_fd, POLLIN, 0 }, { room_for_more(s) ? s->fd : -1, POLLIN, 0 } };
        uint64_t n;
        if (poll(f, 2, -1) < 0)
            continue;
        if (f[0].revents && read(s->wake_fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
            break;
        if (!f[1].revents)
            continue;
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            nbd_server_take(s, fd);
        else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
            g_usleep(RETRY_MS * 1000); /* no descriptors or memory now: others may give some back */
    }
    return NULL;
}

struct nbd_server *nbd_server_start_fd(int fd, unsigned max_connections)
{
    struct nbd_server *s = g_new0(struct nbd_server, 1);
    s->fd = fd;
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->max_connections = max_connections;
    g_mutex_init(&s->lock);
    g_cond_init(&s->changed);
    s->exports = g_ptr_array_new();
    s->peers = g_ptr_array_new();
    s->thread = sandbox_thread_new(SANDBOX_BLOCK, "nbd listen", listen_thread, s);
    return s;
}

struct nbd_server *nbd_server_start(const struct nbd_address *addr, unsigned max_connections, GError **error)
{
    bool made;
    int fd = nbd_address_listen(addr, &made, error);
    if (fd < 0)
        return NULL;
    struct nbd_server *s = nbd_server_start_fd(fd, max_connections);
    if (made)
        s->path = g_strdup(addr->path);
    return s;
}

/* seccomp(main+unlink): unlink */
void nbd_server_stop(struct nbd_server *s)
{
    if (!s)
        return;
    g_mutex_lock(&s->lock);
    s->ending = true;
    for (guint i = 0; i < s->peers->len; i++)
        shutdown(((struct nbd_peer *)s->peers->pdata[i])->fd, SHUT_RDWR);
    wake(s);
    g_mutex_unlock(&s->lock);
    g_thread_join(s->thread);
    g_mutex_lock(&s->lock);
    for (guint i = 0; i < s->peers->len; i++) /* one that was just being taken */
        shutdown(((struct nbd_peer *)s->peers->pdata[i])->fd, SHUT_RDWR);
    while (s->peers->len)
        g_cond_wait(&s->changed, &s->lock);
    g_mutex_unlock(&s->lock);
    while (s->exports->len) {
        struct nbd_export *e = s->exports->pdata[0];
        g_idle_remove_by_data(e);
        free_export(e);
    }
    if (s->path && (sandbox_has(SANDBOX_UNLINK) || sandbox_has(SANDBOX_FILES)))
        unlink(s->path);
    if (s->fd >= 0)
        close(s->fd);
    close(s->wake_fd);
    g_ptr_array_unref(s->exports);
    g_ptr_array_unref(s->peers);
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->changed);
    g_free(s->path);
    g_free(s);
}
