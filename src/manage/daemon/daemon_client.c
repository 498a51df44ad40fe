/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection. In: bytes are cut into messages; a client that has too much under way is not read until some of it is done. Out: a queue that any
 * thread appends to; what the socket takes at once goes at once, the rest when epoll says so. While the socket thread works through a batch of
 * messages the queue is corked, so that the answers leave in one write.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

#define BUFFER (256u << 10)
#define SMALL_MESSAGE (64u << 10)  /* limit before the connection is open */
#define READONLY_MESSAGE (4u << 20)
#define HELD_MAX (512u << 20)      /* bytes of unfinished messages of all clients together */
#define BIG_ANSWER (1u << 16)
#define OPEN_WITHIN 30             /* seconds */

/* ---- life ---- */

static void find_peer(struct client *c)
{
    struct ucred cred;
    socklen_t size = sizeof(cred);
    if (!c->is_unix || getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
        return;
    c->conn->uid = cred.uid;
    c->conn->gid = cred.gid;
    c->conn->pid = cred.pid;
}

static void conn_destroyed(struct manage_conn *conn);

struct client *client_new(struct server *s, int fd, const struct listener *from)
{
    struct client *c = g_new0(struct client, 1);
    c->watched.kind = WATCHED_CLIENT;
    c->refs = 1;
    c->server = s;
    c->fd = fd;
    c->is_unix = !from->tcp;
    c->conn = manage_conn_new(s->state);
    c->conn->readonly = from->readonly;
    c->conn->event = client_event;
    c->conn->destroy = conn_destroyed;
    c->conn->opaque = c;
    find_peer(c);
    c->in = g_byte_array_new();
    c->fds_in = g_array_new(FALSE, FALSE, sizeof(int));
    c->born = c->last_in = s->now;
    g_mutex_init(&c->lock);
    g_queue_init(&c->out);
    c->streams = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)stream_unref);
    daemon_debug("client %" PRIu64 ": connected, user %d, process %d%s", c->conn->id, (int)c->conn->uid, (int)c->conn->pid, from->readonly ? ", read-only" : "");
    return c;
}

struct client *client_ref(struct client *c)
{
    g_atomic_int_inc(&c->refs);
    return c;
}

static void close_all(GArray *fds, guint from)
{
    for (guint i = from; fds && i < fds->len; i++)
        close(g_array_index(fds, int, i));
}

static void out_free(struct out *o)
{
    g_byte_array_unref(o->data);
    close_all(o->fds, o->fds_sent);
    if (o->fds)
        g_array_unref(o->fds);
    if (o->stream)
        stream_written(o->stream);
    g_free(o);
}

void client_unref(struct client *c)
{
    if (g_atomic_int_dec_and_test(&c->refs))
        manage_conn_unref(c->conn);
}

/* The connection object outlives the client by the events that are on their way to it: what they touch goes with it. */
static void conn_destroyed(struct manage_conn *conn)
{
    struct client *c = conn->opaque;
    g_byte_array_unref(c->in);
    close_all(c->fds_in, 0);
    g_array_unref(c->fds_in);
    g_hash_table_unref(c->streams);
    g_mutex_clear(&c->lock);
    g_free(c);
}

void client_close(struct client *c)
{
    g_autoptr(GPtrArray) streams = g_ptr_array_new_with_free_func((GDestroyNotify)stream_unref);
    GHashTableIter iter;
    gpointer s;
    struct out *o;
    daemon_debug("client %" PRIu64 ": gone", c->conn->id);
    c->server->held -= c->in->len;
    g_mutex_lock(&c->lock);
    c->closed = true;
    g_atomic_int_set(&c->conn->lost, 1);
    epoll_ctl(c->server->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
    while ((o = g_queue_pop_head(&c->out)))
        out_free(o);
    g_hash_table_iter_init(&iter, c->streams);
    while (g_hash_table_iter_next(&iter, NULL, &s)) {
        stream_cancel(s);
        g_ptr_array_add(streams, s); /* let go of outside the lock */
    }
    g_hash_table_steal_all(c->streams);
    bool last = c->calls == 0;
    g_mutex_unlock(&c->lock);
    if (last)
        call_conn_closed(c);
}

/* ---- out ---- */

/* Covers c->waiting; c->lock is held. */
static void wait_for_locked(struct client *c, uint32_t events)
{
    if (c->closed || c->waiting == events)
        return;
    struct epoll_event e = { .events = events, .data.ptr = c };
    epoll_ctl(c->server->epoll, EPOLL_CTL_MOD, c->fd, &e);
    c->waiting = events;
}

/* One descriptor, with the one byte that carries it. */
static ssize_t send_fd(int sock, int fd)
{
    char byte = 0;
    union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room) };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &fd, sizeof(fd));
    return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Bytes of as many messages as may go together: up to one that has descriptors behind it. */
static ssize_t send_bytes(struct client *c)
{
    struct iovec iov[32];
    struct msghdr m = { .msg_iov = iov };
    for (GList *l = c->out.head; l && m.msg_iovlen < G_N_ELEMENTS(iov); l = l->next) {
        struct out *o = l->data;
        iov[m.msg_iovlen++] = (struct iovec){ o->data->data + o->at, o->data->len - o->at };
        if (o->fds)
            break;
    }
    return sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void account_locked(struct client *c, gsize n)
{
    c->out_bytes -= n;
    while (!g_queue_is_empty(&c->out)) {
        struct out *o = g_queue_peek_head(&c->out);
        gsize part = MIN(n, o->data->len - o->at);
        o->at += part;
        n -= part;
        if (o->at < o->data->len || (o->fds && o->fds_sent < o->fds->len))
            return;
        out_free(g_queue_pop_head(&c->out));
    }
}

/* Sends what the socket takes. Sets broken on failure: the socket thread closes then. */
static void flush_locked(struct client *c)
{
    while (!c->closed && !c->broken && !g_queue_is_empty(&c->out)) {
        struct out *o = g_queue_peek_head(&c->out);
        bool fd_now = o->at == o->data->len;
        ssize_t n = fd_now ? send_fd(c->fd, g_array_index(o->fds, int, o->fds_sent)) : send_bytes(c);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            c->broken = errno != EAGAIN;
            break;
        }
        if (fd_now)
            close(g_array_index(o->fds, int, o->fds_sent++));
        account_locked(c, fd_now ? 0 : (gsize)n);
    }
    if (!c->closed && !c->broken) {
        uint32_t out = g_queue_is_empty(&c->out) ? 0 : EPOLLOUT;
        wait_for_locked(c, (c->waiting & EPOLLIN) | out);
    }
}

void client_send(struct client *c, GByteArray *m, GArray *fds, struct stream *stream)
{
    struct out *o = g_new0(struct out, 1);
    *o = (struct out){ m, 0, fds, 0, stream };
    if (m->len > BIG_ANSWER)
        g_atomic_int_set(&c->server->trim, 2); /* what it was made of is freed after this */
    g_mutex_lock(&c->lock);
    if (c->closed) {
        out_free(o);
    } else {
        g_queue_push_tail(&c->out, o);
        c->out_bytes += m->len;
        if (!c->corked && c->out.length == 1)
            flush_locked(c);
    }
    bool tell = c->broken && !c->closed;
    g_mutex_unlock(&c->lock);
    if (tell)
        server_resume(c->server, c);
}

void client_event(struct manage_conn *conn, const struct rpc_proc *proc, GVariant *payload)
{
    struct client *c = conn->opaque;
    GByteArray *m = rpc_message_new(proc->program, proc->wire, RPC_MESSAGE, 1, RPC_OK);
    g_autoptr(GError) error = NULL;
    if (!rpc_encode(m, proc->args, payload, &error)) {
        daemon_log("event %s: %s", proc->name, error->message);
        g_byte_array_unref(m);
        return;
    }
    rpc_message_finish(m);
    g_mutex_lock(&c->lock);
    bool slow = c->out_bytes > CLIENT_OUT_EVENTS, tell = slow && !c->broken && !c->closed;
    c->broken = c->broken || slow;
    g_mutex_unlock(&c->lock);
    if (tell) {
        daemon_log("client %" PRIu64 " (process %d) does not read its events: disconnected", conn->id, (int)conn->pid);
        server_resume(c->server, c);
    }
    if (slow)
        g_byte_array_unref(m);
    else
        client_send(c, m, NULL, NULL);
}

/* ---- pausing ---- */

static bool may_read_locked(struct client *c)
{
    return c->calls < (unsigned)c->server->config.max_client_requests && c->out_bytes < CLIENT_OUT_HIGH && c->stream_bytes < CLIENT_STREAM_HIGH;
}

static bool may_read(struct client *c)
{
    g_mutex_lock(&c->lock);
    bool may = may_read_locked(c);
    if (!may && !c->paused) {
        c->paused = true;
        wait_for_locked(c, c->waiting & ~(uint32_t)EPOLLIN);
    }
    g_mutex_unlock(&c->lock);
    return may;
}

/* True: was paused, and need not be any longer. */
static bool unpause_locked(struct client *c)
{
    if (!c->paused || c->closed || !may_read_locked(c))
        return false;
    c->paused = false;
    return true;
}

void client_call_done(struct client *c)
{
    g_mutex_lock(&c->lock);
    c->calls--;
    bool resume = unpause_locked(c), last = c->closed && c->calls == 0;
    g_mutex_unlock(&c->lock);
    if (resume)
        server_resume(c->server, c);
    if (last)
        call_conn_closed(c);
}

void client_stream_bytes(struct client *c, gssize change)
{
    g_mutex_lock(&c->lock);
    c->stream_bytes += (gsize)change;
    bool resume = unpause_locked(c);
    g_mutex_unlock(&c->lock);
    if (resume)
        server_resume(c->server, c);
}

/* ---- in ---- */

static gsize limit_of(const struct client *c)
{
    return !c->conn->open ? SMALL_MESSAGE : c->conn->readonly ? READONLY_MESSAGE : RPC_MESSAGE_MAX;
}

/* Complains once: the connection is closed, as there is no telling where the next message would begin. */
static bool hostile(struct client *c, const char *what, uint32_t value)
{
    daemon_log("client %" PRIu64 " (process %d, user %d) sent %s %u: disconnected", c->conn->id, (int)c->conn->pid, (int)c->conn->uid, what, value);
    return false;
}

/* How many bytes the first message takes (with the bytes that carry descriptors); 0: not all there; -1: hostile. */
static gssize message_size(struct client *c, const uint8_t *data, gsize size, struct rpc_header *h, unsigned *ret_nfds)
{
    uint32_t length;
    *ret_nfds = 0;
    if (size < 4)
        return 0;
    memcpy(&length, data, 4);
    length = GUINT32_FROM_BE(length);
    if (length < RPC_HEADER || length > limit_of(c)) {
        hostile(c, "a message of the length", length);
        return -1;
    }
    if (size < RPC_HEADER)
        return 0;
    rpc_header_read(data, h);
    if (h->type == RPC_CALL_WITH_FDS || h->type == RPC_REPLY_WITH_FDS) {
        if (length >= RPC_HEADER + 4 && size < RPC_HEADER + 4)
            return 0;
        if (length >= RPC_HEADER + 4)
            memcpy(ret_nfds, data + RPC_HEADER, 4);
        *ret_nfds = GUINT32_FROM_BE(*ret_nfds);
        if (*ret_nfds > RPC_FDS_MAX || length < RPC_HEADER + 4) {
            hostile(c, "a number of descriptors of", *ret_nfds);
            return -1;
        }
    }
    return size < (gsize)length + *ret_nfds ? 0 : (gssize)length + *ret_nfds;
}

static bool one_message(struct client *c, const struct rpc_header *h, const uint8_t *data, unsigned nfds)
{
    if (c->fds_in->len < nfds)
        return hostile(c, "fewer descriptors than", nfds);
    gsize skip = RPC_HEADER + (h->type == RPC_CALL_WITH_FDS || h->type == RPC_REPLY_WITH_FDS ? 4 : 0);
    bool ok = call_message(c, h, data + skip, h->length - skip, (const int *)(void *)c->fds_in->data, nfds);
    for (unsigned i = 0; i < nfds; i++)
        close(g_array_index(c->fds_in, int, i));
    g_array_remove_range(c->fds_in, 0, nfds);
    return ok;
}

/* All whole messages in data; *ret_used: the bytes they took. */
static bool messages(struct client *c, const uint8_t *data, gsize size, gsize *ret_used)
{
    gsize at = 0;
    while (at < size && may_read(c)) {
        struct rpc_header h;
        unsigned nfds;
        gssize n = message_size(c, data + at, size - at, &h, &nfds);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        if (!one_message(c, &h, data + at, nfds))
            return false;
        at += (gsize)n;
    }
    *ret_used = at;
    return true;
}

static void cork(struct client *c)
{
    g_mutex_lock(&c->lock);
    c->corked = true;
    g_mutex_unlock(&c->lock);
}

static bool uncork(struct client *c)
{
    g_mutex_lock(&c->lock);
    c->corked = false;
    flush_locked(c);
    bool ok = !c->broken, again = unpause_locked(c);
    g_mutex_unlock(&c->lock);
    if (again)
        server_resume(c->server, c);
    return ok;
}

/* New bytes (or none: what was held back). Whole messages are handled where they lie, only a rest is copied. */
static bool feed(struct client *c, const uint8_t *data, gsize size)
{
    gsize used = 0, before = c->in->len;
    bool direct = before == 0;
    if (!direct && size > 0)
        g_byte_array_append(c->in, data, (guint)size);
    cork(c);
    bool ok = direct ? messages(c, data, size, &used) : messages(c, c->in->data, c->in->len, &used);
    if (direct && size > used)
        g_byte_array_append(c->in, data + used, (guint)(size - used));
    else if (!direct)
        g_byte_array_remove_range(c->in, 0, (guint)used);
    if (c->in->len == 0 && before > BUFFER) { /* a big message does not keep its room */
        g_byte_array_unref(c->in);
        c->in = g_byte_array_new();
    }
    c->server->held += c->in->len - before;
    if (c->server->held > HELD_MAX && c->in->len > BUFFER)
        ok = hostile(c, "part of a message while too much is waiting, bytes:", c->in->len);
    return uncork(c) && ok;
}

static bool take_fds(struct client *c, struct msghdr *m)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        g_array_append_vals(c->fds_in, CMSG_DATA(h), (guint)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
    }
    if (m->msg_flags & MSG_CTRUNC || c->fds_in->len > RPC_FDS_MAX)
        return hostile(c, "too many descriptors:", c->fds_in->len);
    return true;
}

static bool readable(struct client *c)
{
    union { struct cmsghdr h; char room[CMSG_SPACE(RPC_FDS_MAX * sizeof(int))]; } control;
    struct iovec iov = { c->server->buffer, BUFFER };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c->is_unix ? control.room : NULL,
                        .msg_controllen = c->is_unix ? sizeof(control.room) : 0 };
    ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0 || (m.msg_controllen && !take_fds(c, &m)))
        return false;
    c->last_in = c->server->now;
    c->pings = 0;
    return feed(c, c->server->buffer, (gsize)n);
}

bool client_events(struct client *c, uint32_t events)
{
    if (events & EPOLLOUT) {
        g_mutex_lock(&c->lock);
        flush_locked(c);
        bool broken = c->broken, resume = unpause_locked(c);
        g_mutex_unlock(&c->lock);
        if (broken || (resume && !client_resume(c)))
            return false;
    }
    if (events & EPOLLIN)
        return readable(c);
    return !(events & (EPOLLERR | EPOLLHUP));
}

bool client_resume(struct client *c)
{
    g_mutex_lock(&c->lock);
    bool broken = c->broken;
    if (!broken && !c->paused)
        wait_for_locked(c, c->waiting | EPOLLIN);
    g_mutex_unlock(&c->lock);
    return !broken && feed(c, NULL, 0);
}

/* ---- time ---- */

bool client_tick(struct client *c, gint64 now)
{
    const struct daemon_config *config = &c->server->config;
    if (!c->conn->open && now - c->born > OPEN_WITHIN * G_USEC_PER_SEC && c->conn->uid != 0) {
        daemon_log("client %" PRIu64 " (process %d, user %d) did not open its connection: disconnected", c->conn->id, (int)c->conn->pid, (int)c->conn->uid);
        return false;
    }
    if (!c->keepalive || config->keepalive_interval <= 0 || now - c->last_in < (1 + c->pings) * (gint64)config->keepalive_interval * G_USEC_PER_SEC)
        return true;
    if (c->pings >= (unsigned)config->keepalive_count) {
        daemon_log("client %" PRIu64 " (process %d) does not answer: disconnected", c->conn->id, (int)c->conn->pid);
        return false;
    }
    c->pings++;
    GByteArray *m = rpc_message_new(RPC_KEEPALIVE_PROGRAM, RPC_KEEPALIVE_PING, RPC_MESSAGE, 0, RPC_OK);
    rpc_message_finish(m);
    client_send(c, m, NULL, NULL);
    return true;
}
