/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QMP client. The machine is not trusted: a message has a limit, answers are matched by id, what nobody asked for is dropped.
 *
 * Connecting, greeting and qmp_capabilities happen on the caller's thread. From then on the state's main loop reads: it hands answers to the threads that wait and
 * events to the driver. Commands (domain_monitor_ask.c) are written by the thread that has them, in the order in which they take m->lock; what the socket does not take at
 * once the main loop writes. m->lock covers everything below it and is held for moments only; no other lock is taken under it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/drivers/domain/monitor/domain_monitor.h"

enum {
    LIMIT = 16 << 20,      /* bytes of one message */
    DEPTH = 64,            /* of nesting in it */
    CHUNK = 64 << 10,      /* read at once */
    ROUNDS = 16,           /* chunks read before the main loop looks at others */
};

static void outgoing_free(gpointer opaque)
{
    struct outgoing *o = opaque;
    for (unsigned i = 0; i < o->nfds; i++)
        close(o->fds[i]);
    g_free(o->text);
    g_free(o);
}

struct monitor *monitor_ref(struct monitor *m)
{
    g_atomic_int_inc(&m->refs);
    return m;
}

void monitor_unref(gpointer opaque)
{
    struct monitor *m = opaque;
    if (!g_atomic_int_dec_and_test(&m->refs))
        return;
    close(m->fd);
    g_queue_clear_full(&m->outgoing, outgoing_free);
    g_ptr_array_unref(m->pending);
    g_string_free(m->partial, TRUE);
    g_mutex_clear(&m->lock);
    g_main_context_unref(m->context);
    domain_unref(m->domain);
    g_free(m);
}

/* ---- the end ---- */

static void drop_source(GSource **s)
{
    if (!*s)
        return;
    g_source_destroy(*s);
    g_source_unref(*s);
    *s = NULL;
}

/* It has its answer, or will not get one. */
static void done_locked(struct pending *p, struct json_object *answer)
{
    p->answer = answer;
    p->done = true;
    if (--p->batch->left == 0)
        g_cond_signal(&p->batch->answered);
}

/* Everyone who waits is told. true: it was open until now. */
static bool end_locked(struct monitor *m)
{
    if (m->ended)
        return false;
    drop_source(&m->in);
    drop_source(&m->out);
    shutdown(m->fd, SHUT_RDWR);
    m->ended = true;
    g_queue_clear_full(&m->outgoing, outgoing_free);
    g_queue_init(&m->outgoing);
    for (guint i = 0; i < m->pending->len; i++)
        done_locked(m->pending->pdata[i], NULL);
    g_ptr_array_set_size(m->pending, 0);
    return true;
}

void monitor_close(struct monitor *m)
{
    if (!m)
        return;
    g_mutex_lock(&m->lock);
    (void)end_locked(m);
    g_mutex_unlock(&m->lock);
    monitor_unref(m);
}

/* The other side has ended the connection, or must not be listened to any longer. On the main loop. */
static void lost(struct monitor *m, const char *why)
{
    g_mutex_lock(&m->lock);
    bool was_open = end_locked(m);
    g_mutex_unlock(&m->lock);
    if (was_open && why)
        g_warning("domain '%s': monitor closed: %s", m->domain->name, why);
    if (was_open)
        m->fn(m->domain, NULL, NULL, g_get_real_time());
}

/* ---- messages from the machine ---- */

static struct json_object *parse(const char *line, gsize size)
{
    struct json_tokener *t = json_tokener_new_ex(DEPTH);
    struct json_object *o = json_tokener_parse_ex(t, line, (int)size);
    bool ok = json_tokener_get_error(t) == json_tokener_success && json_object_is_type(o, json_type_object);
    json_tokener_free(t);
    if (!ok)
        json_object_put(o);
    return ok ? o : NULL;
}

/* Takes the message over. */
static void answer(struct monitor *m, struct json_object *o, gsize size)
{
    uint64_t id = (uint64_t)json_object_get_int64(json_object_object_get(o, "id"));
    g_mutex_lock(&m->lock);
    for (guint i = 0; i < m->pending->len; i++) {
        struct pending *p = m->pending->pdata[i];
        if (p->id != id)
            continue;
        g_ptr_array_remove_index(m->pending, i);
        p->batch->bytes += size;
        p->large = p->batch->n > 1 && p->batch->bytes > MONITOR_BATCH_BYTES;
        done_locked(p, p->large ? NULL : g_steal_pointer(&o));
        break;
    }
    g_mutex_unlock(&m->lock);
    if (o)
        json_object_put(o); /* too late, nobody waits any more; or too large */
}

static void event(struct monitor *m, struct json_object *o)
{
    struct json_object *stamp = json_object_object_get(o, "timestamp");
    gint64 us = json_object_get_int64(json_object_object_get(stamp, "seconds")) * G_USEC_PER_SEC + json_object_get_int64(json_object_object_get(stamp, "microseconds"));
    m->fn(m->domain, json_object_get_string(json_object_object_get(o, "event")), json_object_object_get(o, "data"), us);
}

static bool message(struct monitor *m, const char *line, gsize size)
{
    while (size && g_ascii_isspace(line[size - 1]))
        size--;
    if (!size)
        return true;
    struct json_object *o = parse(line, size);
    if (!o)
        return false;
    if (json_object_object_get(o, "event")) {
        event(m, o);
        json_object_put(o);
    } else if (json_object_object_get(o, "return") || json_object_object_get(o, "error") || json_object_object_get_ex(o, "return", NULL)) {
        answer(m, o, size);
    } else {
        json_object_put(o); /* a greeting again */
    }
    return true;
}

/* All whole lines of the text, of which the first `scanned` bytes have no line's end. */
static bool whole_lines(struct monitor *m, const char *text, gsize size, gsize scanned, gsize *ret_used)
{
    const char *end;
    *ret_used = 0;
    while ((end = memchr(text + scanned, '\n', size - scanned))) {
        gsize line = (gsize)(end - text) - *ret_used;
        if (!message(m, text + *ret_used, line))
            return false;
        *ret_used += line + 1;
        scanned = *ret_used;
    }
    return true;
}

/* All whole lines of m->partial. */
static bool messages(struct monitor *m)
{
    gsize used;
    if (!whole_lines(m, m->partial->str, m->partial->len, m->scanned, &used))
        return false;
    g_string_erase(m->partial, 0, (gssize)used);
    m->scanned = m->partial->len;
    return m->partial->len <= LIMIT;
}

/* What has come: what is whole is read where it lies, and only a rest is kept, so that a hundred idle monitors have no memory each. */
static bool take(struct monitor *m, const char *chunk, gsize n)
{
    gsize used = 0;
    if (!m->partial->len && !whole_lines(m, chunk, n, 0, &used))
        return false;
    if (used == n)
        return true;
    g_string_append_len(m->partial, chunk + used, (gssize)(n - used));
    bool ok = messages(m);
    if (!m->partial->len) {
        g_string_free(m->partial, TRUE);
        m->partial = g_string_new(NULL);
    }
    return ok;
}

/* What came behind the answer to qmp_capabilities. */
static gboolean on_rest(gpointer opaque)
{
    struct monitor *m = opaque;
    if (!messages(m))
        lost(m, "what came is not QMP");
    return G_SOURCE_REMOVE;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct monitor *m = opaque;
    g_autofree char *chunk = g_malloc(CHUNK);
    for (unsigned i = 0; i < ROUNDS; i++) {
        ssize_t n = recv(fd, chunk, CHUNK, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return G_SOURCE_CONTINUE;
        if (n <= 0) {
            lost(m, NULL);
            return G_SOURCE_REMOVE;
        }
        if (!take(m, chunk, (gsize)n)) {
            lost(m, m->partial->len > LIMIT ? "a message is larger than 16 MiB" : "what came is not QMP");
            return G_SOURCE_REMOVE;
        }
        if (n < CHUNK)
            break;
    }
    return G_SOURCE_CONTINUE;
}

/* ---- writing ---- */

static ssize_t send_some(int fd, struct outgoing *o)
{
    struct iovec v = { o->text + o->at, o->size - o->at };
    union { char bytes[CMSG_SPACE(sizeof(int) * MONITOR_FDS)]; struct cmsghdr align; } control = { { 0 } };
    struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1 };
    if (o->nfds) {
        h.msg_control = &control;
        h.msg_controllen = CMSG_SPACE(sizeof(int) * o->nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * o->nfds);
        memcpy(CMSG_DATA(c), o->fds, sizeof(int) * o->nfds);
    }
    ssize_t n = sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        for (unsigned i = 0; i < o->nfds; i++)
            close(o->fds[i]);
        o->nfds = 0;
        o->at += (gsize)n;
    }
    return n;
}

/* As much as the socket takes; false: it is broken, the reader will see that. */
static bool flush_locked(struct monitor *m)
{
    struct outgoing *o;
    while (!m->ended && (o = g_queue_peek_head(&m->outgoing))) {
        ssize_t n = send_some(m->fd, o);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (o->at == o->size)
            outgoing_free(g_queue_pop_head(&m->outgoing));
    }
    return true;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct monitor *m = opaque;
    g_mutex_lock(&m->lock);
    bool ok = flush_locked(m), more = ok && !g_queue_is_empty(&m->outgoing);
    if (!more)
        drop_source(&m->out);
    g_mutex_unlock(&m->lock);
    return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static GSource *add_source(struct monitor *m, GIOCondition condition, GUnixFDSourceFunc fn)
{
    GSource *s = g_unix_fd_source_new(m->fd, condition);
    g_source_set_callback(s, G_SOURCE_FUNC(fn), monitor_ref(m), monitor_unref);
    g_source_set_can_recurse(s, TRUE); /* it never does: otherwise GLib takes it out of the loop and puts it back around each call, with a system call each */
    g_source_attach(s, m->context);
    return s;
}

void monitor_send_locked(struct monitor *m, struct outgoing *o)
{
    g_queue_push_tail(&m->outgoing, o);
    if (m->outgoing.length > 1)
        return; /* behind others that wait already */
    (void)flush_locked(m);
    if (!g_queue_is_empty(&m->outgoing) && !m->out)
        m->out = add_source(m, G_IO_OUT, on_writable);
}

/* ---- connecting ---- */

/* The path may be longer than an address has room for: it is reached through its directory. */
static int connect_to(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", at, name);
    bool ok = at >= 0 && fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    int err = errno;
    if (at >= 0)
        close(at);
    if (ok)
        return fd;
    if (fd >= 0)
        close(fd);
    manage_fail_errno(error, err, "cannot connect to the monitor '%s'", path);
    return -1;
}

/* One line before `until`, into m->partial's front; NULL: error. */
static struct json_object *read_line(struct monitor *m, gint64 until, GError **error)
{
    for (;;) {
        char *end = memchr(m->partial->str, '\n', m->partial->len);
        if (end) {
            gsize size = (gsize)(end - m->partial->str);
            struct json_object *o = parse(m->partial->str, size);
            g_string_erase(m->partial, 0, (gssize)size + 1);
            return o ? o : manage_null(error, VIR_ERR_INTERNAL_ERROR, "the monitor's answer is not QMP");
        }
        gint64 left = (until - g_get_monotonic_time()) / 1000;
        struct pollfd p = { m->fd, POLLIN, 0 };
        if (left <= 0 || m->partial->len > CHUNK)
            return manage_null(error, VIR_ERR_OPERATION_TIMEOUT, "the monitor did not answer in time");
        char chunk[4096];
        ssize_t n = poll(&p, 1, (int)left) > 0 ? recv(m->fd, chunk, sizeof(chunk), MSG_DONTWAIT) : -2;
        if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
            return manage_null(error, VIR_ERR_OPERATION_FAILED, "the machine ended while its monitor was being connected");
        if (n > 0)
            g_string_append_len(m->partial, chunk, n);
    }
}

static bool greet(struct monitor *m, gint64 until, GError **error)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\",\"id\":0}\r\n";
    struct json_object *o = read_line(m, until, error);
    bool ok = o && json_object_object_get_ex(o, "QMP", NULL);
    if (o && !ok)
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the monitor does not greet as QMP does");
    json_object_put(o);
    if (!ok || send(m->fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) < 0)
        return ok ? manage_fail_errno(error, errno, "cannot write to the monitor") : false;
    for (;;) { /* events may come before the answer: nothing has happened yet that they could tell */
        o = read_line(m, until, error);
        bool answered = o && json_object_object_get_ex(o, "return", NULL), event_came = o && json_object_object_get_ex(o, "event", NULL);
        json_object_put(o);
        if (answered)
            return true;
        if (!event_came)
            return error && *error ? false : manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the monitor refuses qmp_capabilities");
    }
}

struct monitor *monitor_open(struct domain *d, const char *path, unsigned wait_ms, monitor_event fn, GError **error)
{
    g_autoptr(GError) e = NULL;
    int fd = connect_to(path, error);
    if (fd < 0)
        return NULL;
    struct monitor *m = g_new0(struct monitor, 1);
    m->refs = 1;
    m->domain = domain_ref(d);
    m->context = g_main_context_ref(d->driver->state->context);
    m->fn = fn;
    m->fd = fd;
    g_mutex_init(&m->lock);
    m->partial = g_string_new(NULL);
    m->pending = g_ptr_array_new();
    g_queue_init(&m->outgoing);
    if (!greet(m, g_get_monotonic_time() + (gint64)wait_ms * 1000, &e)) {
        g_propagate_error(error, g_steal_pointer(&e));
        monitor_unref(m);
        return NULL;
    }
    g_mutex_lock(&m->lock);
    if (m->partial->len) {
        g_autoptr(GSource) rest = g_idle_source_new();
        g_source_set_callback(rest, on_rest, monitor_ref(m), monitor_unref);
        g_source_attach(rest, m->context);
    }
    m->in = add_source(m, G_IO_IN, on_readable);
    g_mutex_unlock(&m->lock);
    return m;
}
