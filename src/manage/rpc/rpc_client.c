/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/rpc/rpc_client.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_client_private.h"
#include "manage/rpc/rpc_xdr.h"

#define BUFFER (256u << 10)
#define BACKLOG_MAX (4u << 20)       /* of stream data, above which the client's own thread reads no further */
#define CALLS_ARE_NEAR (20 * 1000)   /* microseconds after a call in which the next one is expected: its thread will read */
#define LONGEST_REST (1000 * 1000)

struct pending {
    struct waiter waiter;
    const struct rpc_proc *proc;
    GVariant *ret;
    GError *error;
    int domain;
    GArray *ret_fds;
    struct rpc_stream *stream; /* to be registered with a good reply */
    bool done;
};

/* What the reading thread has to do once it holds no lock. */
struct deliveries {
    GQueue events; /* struct event */
    bool pong;
};
struct event {
    const struct rpc_proc *proc;
    GVariant *payload;
};

/* ---- closing ---- */

bool rpc_client_closed_error(struct rpc_client *c, GError **error)
{
    return manage_fail(error, VIR_ERR_SYSTEM_ERROR, c->reason == VIR_CONNECT_CLOSE_REASON_KEEPALIVE ? "the server does not answer: the connection was closed" :
                       c->reason == VIR_CONNECT_CLOSE_REASON_CLIENT ? "the connection has been closed" : "the server closed the connection");
}

static void close_locked(struct rpc_client *c, int reason)
{
    if (c->closed)
        return;
    c->closed = true;
    c->reason = reason;
    shutdown(c->fd, SHUT_RDWR);
    for (GList *l = c->waiters.head; l; l = l->next)
        g_cond_signal(&((struct waiter *)l->data)->cond);
    g_cond_signal(&c->thread_cond);
}

/* Outside the lock. */
static void tell_closed(struct rpc_client *c)
{
    GHashTableIter iter;
    gpointer s;
    g_mutex_lock(&c->lock);
    bool tell = c->closed && !c->told;
    c->told |= tell;
    g_hash_table_iter_init(&iter, c->streams);
    while (tell && g_hash_table_iter_next(&iter, NULL, &s))
        if (((struct rpc_stream *)s)->notify)
            ((struct rpc_stream *)s)->notify(((struct rpc_stream *)s)->notify_opaque);
    g_mutex_unlock(&c->lock);
    if (tell && c->callbacks && c->callbacks->closed)
        c->callbacks->closed(c->opaque, c->reason);
}

void rpc_client_close(struct rpc_client *c)
{
    g_mutex_lock(&c->lock);
    close_locked(c, VIR_CONNECT_CLOSE_REASON_CLIENT);
    g_mutex_unlock(&c->lock);
    tell_closed(c);
}

/* ---- messages that come ---- */

static void read_reply_locked(struct rpc_client *c, const struct rpc_header *h, const uint8_t *payload, gsize size, unsigned nfds)
{
    struct pending *p = g_hash_table_lookup(c->pending, GUINT_TO_POINTER(h->serial));
    if (!p || p->proc->program != h->program || p->proc->wire != h->procedure)
        return;
    if (h->status == RPC_ERROR)
        rpc_message_read_error(payload, size, &p->domain, &p->error);
    else
        p->ret = rpc_decode_as(p->proc->ret, p->proc->ret_type, payload, size, NULL, &p->error);
    if (p->ret && p->stream) /* its data may come in the same read */
        g_hash_table_insert(c->streams, GUINT_TO_POINTER(h->serial), p->stream);
    for (unsigned i = 0; i < nfds; i++) {
        int fd = g_array_index(c->fds_in, int, i);
        if (p->ret_fds && p->ret)
            g_array_append_val(p->ret_fds, fd);
        else
            close(fd);
        g_array_index(c->fds_in, int, i) = -1;
    }
    p->done = true;
    g_hash_table_remove(c->pending, GUINT_TO_POINTER(h->serial));
    g_cond_signal(&p->waiter.cond);
}

static void read_event(struct rpc_client *c, const struct rpc_header *h, const uint8_t *payload, gsize size, struct deliveries *d)
{
    const struct rpc_proc *p = rpc_proc_on_wire(h->program, h->procedure);
    GVariant *v = p && (p->flags & RPC_EVENT) ? rpc_decode_as(p->args, p->args_type, payload, size, NULL, NULL) : NULL;
    if (!v)
        return;
    struct event *e = g_new(struct event, 1);
    *e = (struct event){ p, v };
    g_queue_push_tail(&d->events, e);
}

static void read_stream_locked(struct rpc_client *c, const struct rpc_header *h, const uint8_t *payload, gsize size)
{
    struct rpc_stream *s = g_hash_table_lookup(c->streams, GUINT_TO_POINTER(h->serial));
    if (!s)
        return;
    rpc_stream_message_locked(s, h, payload, size);
    for (GList *l = c->waiters.head; l; l = l->next)
        if (((struct waiter *)l->data)->stream == s)
            g_cond_signal(&((struct waiter *)l->data)->cond);
    if (s->notify)
        s->notify(s->notify_opaque);
}

static void read_message_locked(struct rpc_client *c, const struct rpc_header *h, const uint8_t *payload, gsize size, unsigned nfds, struct deliveries *d)
{
    if (h->program == RPC_KEEPALIVE_PROGRAM)
        d->pong |= h->type == RPC_MESSAGE && h->procedure == RPC_KEEPALIVE_PING;
    else if (h->type == RPC_REPLY || h->type == RPC_REPLY_WITH_FDS)
        read_reply_locked(c, h, payload, size, nfds);
    else if (h->type == RPC_MESSAGE)
        read_event(c, h, payload, size, d);
    else if (h->type == RPC_STREAM || h->type == RPC_STREAM_HOLE)
        read_stream_locked(c, h, payload, size);
}

/* Whole messages of the buffer. False: what came is no message. */
static bool parse_locked(struct rpc_client *c, struct deliveries *d)
{
    gsize at = 0;
    while (c->in->len - at >= RPC_HEADER) {
        const uint8_t *data = c->in->data + at;
        gsize left = c->in->len - at, skip = RPC_HEADER;
        struct rpc_header h;
        uint32_t nfds = 0;
        rpc_header_read(data, &h);
        if (h.length < RPC_HEADER || h.length > RPC_MESSAGE_MAX)
            return false;
        if (h.type == RPC_REPLY_WITH_FDS) {
            if (h.length < RPC_HEADER + 4)
                return false;
            if (left < RPC_HEADER + 4)
                break;
            memcpy(&nfds, data + RPC_HEADER, 4);
            nfds = GUINT32_FROM_BE(nfds);
            skip += 4;
            if (nfds > RPC_FDS_MAX)
                return false;
        }
        if (left < (gsize)h.length + nfds)
            break;
        if (c->fds_in->len < nfds)
            return false;
        read_message_locked(c, &h, data + skip, h.length - skip, nfds, d);
        for (uint32_t i = 0; i < nfds; i++)
            if (g_array_index(c->fds_in, int, i) >= 0)
                close(g_array_index(c->fds_in, int, i));
        g_array_remove_range(c->fds_in, 0, nfds);
        at += h.length + nfds;
    }
    g_byte_array_remove_range(c->in, 0, (guint)at);
    return true;
}

static void deliver(struct rpc_client *c, struct deliveries *d)
{
    struct event *e;
    while ((e = g_queue_pop_head(&d->events))) {
        if (c->callbacks && c->callbacks->event)
            c->callbacks->event(c->opaque, e->proc, e->payload);
        g_variant_unref(e->payload);
        g_free(e);
    }
}

/* ---- the socket ---- */

static bool take_fds(struct rpc_client *c, struct msghdr *m)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
            g_array_append_vals(c->fds_in, CMSG_DATA(h), (guint)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
    return !(m->msg_flags & MSG_CTRUNC) && c->fds_in->len <= 2 * RPC_FDS_MAX;
}

#define NOTHING_THERE (-2)

/* Bytes into c->in; 0: the end. */
static ssize_t receive(struct rpc_client *c, bool wait)
{
    union { struct cmsghdr h; char room[CMSG_SPACE(RPC_FDS_MAX * sizeof(int))]; } control;
    guint before = c->in->len;
    g_byte_array_set_size(c->in, before + BUFFER);
    struct iovec iov = { c->in->data + before, BUFFER };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c->is_unix ? control.room : NULL,
                        .msg_controllen = c->is_unix ? sizeof(control.room) : 0 };
    ssize_t n;
    do
        n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    while (n < 0 && errno == EINTR);
    int err = errno;
    g_byte_array_set_size(c->in, before + (n > 0 ? (guint)n : 0));
    if (n > 0 && m.msg_controllen && !take_fds(c, &m))
        return 0;
    return n < 0 && err == EAGAIN ? NOTHING_THERE : n;
}

static void send_pong(struct rpc_client *c, unsigned procedure)
{
    g_autoptr(GByteArray) m = rpc_message_new(RPC_KEEPALIVE_PROGRAM, procedure, RPC_MESSAGE, 0, RPC_OK);
    rpc_message_finish(m);
    if (!rpc_client_send(c, m, NULL, 0, NULL))
        return; /* closed: whoever waits learns it */
}

/* One read by the thread that has c->reading. Called and left with the lock held, which is let go in between. */
static void read_some_locked(struct rpc_client *c, bool wait)
{
    struct deliveries d = { G_QUEUE_INIT, false };
    g_mutex_unlock(&c->lock);
    ssize_t n = receive(c, wait);
    g_mutex_lock(&c->lock);
    if (n > 0) {
        c->last_in = g_get_monotonic_time();
        c->pings = 0;
    }
    if (n != NOTHING_THERE && (n <= 0 || !parse_locked(c, &d)))
        close_locked(c, n == 0 ? VIR_CONNECT_CLOSE_REASON_EOF : VIR_CONNECT_CLOSE_REASON_ERROR);
    c->reading = false;
    bool closed = c->closed;
    if (g_queue_is_empty(&d.events) && !d.pong && !closed)
        return;
    g_mutex_unlock(&c->lock);
    deliver(c, &d);
    if (d.pong)
        send_pong(c, RPC_KEEPALIVE_PONG);
    if (closed)
        tell_closed(c);
    g_mutex_lock(&c->lock);
}

/* Another thread that waits is to read now, as this one has what it wanted. */
static void hand_over_locked(struct rpc_client *c)
{
    if (!c->reading && c->waiters.head)
        g_cond_signal(&((struct waiter *)c->waiters.head->data)->cond);
}

void rpc_client_wait_locked(struct rpc_client *c, struct waiter *w, bool (*done)(void *opaque), void *opaque)
{
    GList link = { w, NULL, NULL };
    g_queue_push_tail_link(&c->waiters, &link);
    c->callers++;
    while (!done(opaque) && !c->closed) {
        if (c->reading) {
            g_cond_wait(&w->cond, &c->lock);
            continue;
        }
        c->reading = true;
        read_some_locked(c, true);
    }
    c->callers--;
    c->calls++;
    c->last_call = g_get_monotonic_time();
    g_queue_unlink(&c->waiters, &link);
    hand_over_locked(c);
}

static ssize_t send_part(struct rpc_client *c, const uint8_t *data, gsize size, const int *fd)
{
    union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct iovec iov = { (void *)data, size };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (fd) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof(control.room);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), fd, sizeof(*fd));
    }
    return sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The socket is full. Reads meanwhile where nobody does: a server that cannot get rid of its answers does not read either. */
static void wait_for_room(struct rpc_client *c)
{
    struct pollfd p = { c->fd, POLLOUT, 0 };
    g_mutex_lock(&c->lock);
    bool reader = !c->reading && !c->closed;
    c->reading |= reader;
    g_mutex_unlock(&c->lock);
    if (reader)
        p.events |= POLLIN;
    (void)!poll(&p, 1, reader ? 100 : 10);
    if (!reader)
        return;
    g_mutex_lock(&c->lock);
    if (p.revents & POLLIN)
        read_some_locked(c, false);
    else
        c->reading = false;
    hand_over_locked(c);
    g_mutex_unlock(&c->lock);
}

static bool send_all(struct rpc_client *c, const uint8_t *data, gsize size, const int *fd)
{
    for (gsize at = 0; at < size;) {
        ssize_t n = send_part(c, data + at, size - at, fd);
        if (n >= 0)
            at += (gsize)n;
        else if (errno == EAGAIN)
            wait_for_room(c);
        else if (errno != EINTR)
            return false;
    }
    return true;
}

bool rpc_client_send(struct rpc_client *c, const GByteArray *m, const int *fds, unsigned nfds, GError **error)
{
    static const uint8_t zero = 0;
    g_mutex_lock(&c->send_lock);
    bool ok = send_all(c, m->data, m->len, NULL);
    for (unsigned i = 0; ok && i < nfds; i++)
        ok = send_all(c, &zero, 1, &fds[i]);
    g_mutex_unlock(&c->send_lock);
    if (ok)
        return true;
    g_mutex_lock(&c->lock);
    close_locked(c, VIR_CONNECT_CLOSE_REASON_ERROR);
    g_mutex_unlock(&c->lock);
    return rpc_client_closed_error(c, error);
}

/* ---- the client's own thread ---- */

/* How long the others can be left to read by themselves: calls are being made, or came just now; or nobody takes a stream's data. */
static gint64 rest_locked(struct rpc_client *c, unsigned *seen, gint64 last)
{
    bool same = *seen == c->calls;
    *seen = c->calls;
    if (c->callers > 0 || c->backlog > BACKLOG_MAX || c->reading)
        return same ? MIN(2 * MAX(last, CALLS_ARE_NEAR), LONGEST_REST) : CALLS_ARE_NEAR;
    return g_get_monotonic_time() - c->last_call < CALLS_ARE_NEAR ? CALLS_ARE_NEAR : 0;
}

/* False: the server is gone. */
static bool keepalive_locked(struct rpc_client *c, bool *ret_ping)
{
    gint64 silence = g_get_monotonic_time() - c->last_in;
    if (c->interval <= 0 || silence < (1 + (gint64)c->pings) * c->interval * G_USEC_PER_SEC)
        return true;
    if (c->pings >= c->count)
        return false;
    c->pings++;
    *ret_ping = true;
    return true;
}

static void watch_locked(struct rpc_client *c)
{
    struct pollfd p[2] = { { c->fd, POLLIN, 0 }, { c->wake, POLLIN, 0 } };
    uint64_t n;
    int timeout = c->interval > 0 ? 1000 : -1;
    g_mutex_unlock(&c->lock);
    (void)!poll(p, 2, timeout);
    if (p[1].revents)
        (void)!read(c->wake, &n, sizeof(n));
    g_mutex_lock(&c->lock);
    if (!p[0].revents || c->reading || c->callers > 0 || c->closed)
        return;
    c->reading = true;
    read_some_locked(c, false);
    hand_over_locked(c);
}

static gpointer own_thread(gpointer opaque)
{
    struct rpc_client *c = opaque;
    unsigned seen = 0;
    gint64 rest = 0;
    g_mutex_lock(&c->lock);
    while (!c->stop && !c->closed) {
        bool ping = false;
        if (!keepalive_locked(c, &ping))
            close_locked(c, VIR_CONNECT_CLOSE_REASON_KEEPALIVE);
        if (ping) {
            g_mutex_unlock(&c->lock);
            send_pong(c, RPC_KEEPALIVE_PING);
            g_mutex_lock(&c->lock);
        }
        rest = rest_locked(c, &seen, rest);
        if (c->closed || c->stop)
            break;
        if (rest)
            g_cond_wait_until(&c->thread_cond, &c->lock, g_get_monotonic_time() + rest);
        else
            watch_locked(c);
    }
    g_mutex_unlock(&c->lock);
    tell_closed(c);
    return NULL;
}

/* ---- calls ---- */

static bool is_done(void *opaque) { return ((struct pending *)opaque)->done; }

static bool start_call(struct rpc_client *c, struct pending *p, uint32_t *ret_serial, GError **error)
{
    g_mutex_lock(&c->lock);
    bool open = !c->closed;
    if (open) {
        *ret_serial = c->serial++;
        g_hash_table_insert(c->pending, GUINT_TO_POINTER(*ret_serial), p);
    }
    g_mutex_unlock(&c->lock);
    return open || rpc_client_closed_error(c, error);
}

static bool send_call(struct rpc_client *c, uint32_t serial, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GError **error)
{
    g_autoptr(GByteArray) m = rpc_message_new(proc->program, proc->wire, nfds ? RPC_CALL_WITH_FDS : RPC_CALL, serial, RPC_OK);
    if (nfds)
        rpc_message_fds(m, nfds);
    if (!rpc_encode(m, proc->args, args, error))
        return false;
    if (m->len > RPC_MESSAGE_MAX)
        return manage_fail(error, VIR_ERR_RPC, "the arguments of %s have %u bytes, a message may have %u", proc->name, m->len, RPC_MESSAGE_MAX);
    rpc_message_finish(m);
    return rpc_client_send(c, m, fds, nfds, error);
}

static GVariant *call(struct rpc_client *c, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GArray *ret_fds,
                      struct rpc_stream *stream, int *ret_domain, GError **error)
{
    g_autoptr(GVariant) held = g_variant_ref_sink(args);
    struct pending p = { .proc = proc, .domain = VIR_FROM_RPC, .ret_fds = ret_fds, .stream = stream };
    uint32_t serial = 0;
    g_cond_init(&p.waiter.cond);
    bool sent = start_call(c, &p, &serial, &p.error);
    if (stream)
        stream->serial = serial;
    sent = sent && send_call(c, serial, proc, held, fds, nfds, &p.error);
    g_mutex_lock(&c->lock);
    if (sent)
        rpc_client_wait_locked(c, &p.waiter, is_done, &p);
    g_hash_table_remove(c->pending, GUINT_TO_POINTER(serial));
    g_mutex_unlock(&c->lock);
    if (sent && !p.done)
        rpc_client_closed_error(c, &p.error);
    g_cond_clear(&p.waiter.cond);
    if (p.error) {
        if (ret_domain)
            *ret_domain = p.domain;
        g_propagate_error(error, p.error);
    }
    return p.ret;
}

GVariant *rpc_client_call(struct rpc_client *c, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GArray *ret_fds, int *ret_domain,
                          GError **error)
{
    return call(c, proc, args, fds, nfds, ret_fds, NULL, ret_domain, error);
}

GVariant *rpc_client_call_stream(struct rpc_client *c, const struct rpc_proc *proc, GVariant *args, struct rpc_stream **ret_stream, int *ret_domain, GError **error)
{
    struct rpc_stream *s = g_new0(struct rpc_stream, 1);
    s->client = rpc_client_ref(c);
    s->program = proc->program;
    s->procedure = proc->wire;
    g_queue_init(&s->chunks);
    GVariant *ret = call(c, proc, args, NULL, 0, NULL, s, ret_domain, error);
    if (ret) {
        *ret_stream = s;
    } else {
        rpc_client_unref(c);
        g_free(s);
    }
    return ret;
}

/* ---- life ---- */

struct rpc_client *rpc_client_fd(int fd)
{
    struct rpc_client *c = g_new0(struct rpc_client, 1);
    int domain = 0;
    socklen_t size = sizeof(domain);
    c->refs = 1;
    c->fd = fd;
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->is_unix = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    c->in = g_byte_array_new();
    c->fds_in = g_array_new(FALSE, FALSE, sizeof(int));
    c->pending = g_hash_table_new(NULL, NULL);
    c->streams = g_hash_table_new(NULL, NULL);
    g_queue_init(&c->waiters);
    g_mutex_init(&c->lock);
    g_mutex_init(&c->send_lock);
    g_cond_init(&c->thread_cond);
    c->last_in = c->last_call = g_get_monotonic_time();
    c->thread = g_thread_new("rpc-client", own_thread, c);
    return c;
}

struct rpc_client *rpc_client_unix(const char *path, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (g_strlcpy(a.sun_path, path, sizeof(a.sun_path)) >= sizeof(a.sun_path))
        return manage_null(error, VIR_ERR_INVALID_ARG, "the socket's path '%s' is too long", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
        manage_fail_errno(error, errno, "Failed to connect socket to '%s'", path);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return rpc_client_fd(fd);
}

struct rpc_client *rpc_client_tcp(const char *host, const char *port, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    int err = getaddrinfo(host, port ? port : "16509", &hints, &list), fd = -1, one = 1;
    if (err)
        return manage_null(error, VIR_ERR_SYSTEM_ERROR, "cannot find the address of '%s': %s", host, gai_strerror(err));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            err = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0) {
        manage_fail_errno(error, err, "cannot connect to '%s', port %s", host, port ? port : "16509");
        return NULL;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return rpc_client_fd(fd);
}

struct rpc_client *rpc_client_ref(struct rpc_client *c)
{
    g_atomic_int_inc(&c->refs);
    return c;
}

static void stop_thread(struct rpc_client *c)
{
    uint64_t one = 1;
    g_mutex_lock(&c->lock);
    c->stop = true;
    g_cond_signal(&c->thread_cond);
    g_mutex_unlock(&c->lock);
    (void)!write(c->wake, &one, sizeof(one));
    g_thread_join(c->thread);
}

void rpc_client_unref(struct rpc_client *c)
{
    if (!c || !g_atomic_int_dec_and_test(&c->refs))
        return;
    rpc_client_close(c);
    stop_thread(c);
    close(c->fd);
    close(c->wake);
    for (guint i = 0; i < c->fds_in->len; i++)
        close(g_array_index(c->fds_in, int, i));
    g_array_unref(c->fds_in);
    g_byte_array_unref(c->in);
    g_hash_table_unref(c->pending);
    g_hash_table_unref(c->streams);
    g_mutex_clear(&c->lock);
    g_mutex_clear(&c->send_lock);
    g_cond_clear(&c->thread_cond);
    g_free(c);
}

void rpc_client_set_callbacks(struct rpc_client *c, const struct rpc_client_callbacks *callbacks, void *opaque)
{
    g_mutex_lock(&c->lock);
    c->callbacks = callbacks;
    c->opaque = opaque;
    g_mutex_unlock(&c->lock);
}

bool rpc_client_alive(struct rpc_client *c)
{
    g_mutex_lock(&c->lock);
    bool alive = !c->closed;
    g_mutex_unlock(&c->lock);
    return alive;
}

bool rpc_client_passes_fds(struct rpc_client *c) { return c->is_unix; }

void rpc_client_keepalive(struct rpc_client *c, int interval, unsigned count)
{
    uint64_t one = 1;
    g_mutex_lock(&c->lock);
    c->interval = interval;
    c->count = count;
    c->pings = 0;
    g_cond_signal(&c->thread_cond);
    g_mutex_unlock(&c->lock);
    (void)!write(c->wake, &one, sizeof(one)); /* it may be waiting without an end */
}
