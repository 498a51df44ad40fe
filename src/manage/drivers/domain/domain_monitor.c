/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QMP client. The machine is not trusted: a message has a limit, answers are matched by id, what nobody asked for is dropped.
 *
 * Connecting, greeting and qmp_capabilities happen on the caller's thread. From then on the state's main loop reads: it hands answers to the threads that wait and
 * events to the driver. Commands are written by the thread that has them, in the order in which they take m->lock; what the socket does not take at
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

#include "manage/drivers/domain/domain.h"

enum {
    LIMIT = 16 << 20,      /* bytes of one message */
    DEPTH = 64,            /* of nesting in it */
    CHUNK = 64 << 10,      /* read at once */
    ROUNDS = 16,           /* chunks read before the main loop looks at others */
    COMMAND_SECONDS = 60,
    FDS = 16,
};

/* A command on its way. */
struct pending {
    uint64_t id;
    const char *name;           /* the asker's */
    struct monitor_batch *batch;
    bool done;
    struct json_object *answer; /* the whole message; NULL with done: the connection has ended */
};

/* Commands on their way together: who waits for them is woken once, by the last answer. Under m->lock until nothing is left. */
struct monitor_batch {
    struct monitor *m;          /* a reference */
    GCond answered;
    gint64 until;               /* monotonic */
    unsigned n, left;           /* left: of them, not done yet */
    struct pending p[];
};

/* Bytes that wait to be written; descriptors go with the first of them. */
struct outgoing {
    char *text;
    gsize size, at;
    int fds[FDS];
    unsigned nfds;
};

struct monitor {
    gint refs;
    struct domain *domain;     /* constant; a reference */
    GMainContext *context;
    monitor_event fn;
    GMutex lock;
    int fd;                    /* constant; shut down at the end, closed with the last reference: the main loop may be reading */
    bool ended;
    GSource *in, *out;
    GString *partial;          /* of the main loop alone: a message that has not ended */
    gsize scanned;             /* bytes of partial without a line's end */
    GPtrArray *pending;        /* of struct pending * */
    GQueue outgoing;           /* of struct outgoing * */
    uint64_t next_id;
};

static void outgoing_free(gpointer opaque)
{
    struct outgoing *o = opaque;
    for (unsigned i = 0; i < o->nfds; i++)
        close(o->fds[i]);
    g_free(o->text);
    g_free(o);
}

static struct monitor *monitor_ref(struct monitor *m)
{
    g_atomic_int_inc(&m->refs);
    return m;
}

static void monitor_unref(gpointer opaque)
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
static void answer(struct monitor *m, struct json_object *o)
{
    uint64_t id = (uint64_t)json_object_get_int64(json_object_object_get(o, "id"));
    g_mutex_lock(&m->lock);
    for (guint i = 0; i < m->pending->len; i++) {
        struct pending *p = m->pending->pdata[i];
        if (p->id != id)
            continue;
        g_ptr_array_remove_index(m->pending, i);
        done_locked(p, g_steal_pointer(&o));
        break;
    }
    g_mutex_unlock(&m->lock);
    if (o)
        json_object_put(o); /* too late: nobody waits any more */
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
        answer(m, o);
    } else {
        json_object_put(o); /* a greeting again */
    }
    return true;
}

/* All whole lines of m->partial. */
static bool messages(struct monitor *m)
{
    gsize at = 0;
    for (;;) {
        const char *from = m->partial->str + MAX(at, m->scanned), *end = memchr(from, '\n', m->partial->len - MAX(at, m->scanned));
        if (!end)
            break;
        gsize size = (gsize)(end - m->partial->str) - at;
        if (!message(m, m->partial->str + at, size))
            return false;
        at += size + 1;
        m->scanned = 0;
    }
    g_string_erase(m->partial, 0, (gssize)at);
    m->scanned = m->partial->len;
    return m->partial->len <= LIMIT;
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
        g_string_append_len(m->partial, chunk, n);
        if (!messages(m)) {
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
    union { char bytes[CMSG_SPACE(sizeof(int) * FDS)]; struct cmsghdr align; } control = { { 0 } };
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

static void send_locked(struct monitor *m, struct outgoing *o)
{
    g_queue_push_tail(&m->outgoing, o);
    if (m->outgoing.length > 1)
        return; /* behind others that wait already */
    (void)flush_locked(m);
    if (!g_queue_is_empty(&m->outgoing) && !m->out)
        m->out = add_source(m, G_IO_OUT, on_writable);
}

/* ---- commands ---- */

/* Takes args over. */
static void command_text(GString *text, const struct monitor_question *q, uint64_t id)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "execute", json_object_new_string(q->name));
    if (q->args)
        json_object_object_add(o, "arguments", q->args);
    json_object_object_add(o, "id", json_object_new_int64((int64_t)id));
    g_string_append(text, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
    g_string_append(text, "\r\n");
    json_object_put(o);
}

static struct json_object *result(struct json_object *o, const char *name, GError **error)
{
    struct json_object *e = json_object_object_get(o, "error"), *ret = NULL;
    if (e) {
        const char *desc = json_object_get_string(json_object_object_get(e, "desc"));
        const char *class = json_object_get_string(json_object_object_get(e, "class"));
        int code = class && !strcmp(class, "CommandNotFound") ? VIR_ERR_OPERATION_UNSUPPORTED : VIR_ERR_OPERATION_FAILED;
        manage_fail(error, code, "the machine refuses '%s': %s", name, desc ? desc : "no reason given");
    } else {
        ret = json_object_get(json_object_object_get(o, "return"));
        if (!ret)
            ret = json_object_new_object();
    }
    json_object_put(o);
    return ret;
}

static struct monitor *monitor_of(struct domain *d)
{
    g_mutex_lock(&d->lock);
    struct monitor *m = d->monitor ? monitor_ref(d->monitor) : NULL;
    g_mutex_unlock(&d->lock);
    return m;
}

static void send_batch_locked(struct monitor_batch *b, const struct monitor_question *all, const int *fds, unsigned nfds)
{
    struct outgoing *o = g_new0(struct outgoing, 1);
    GString *text = g_string_new(NULL);
    for (; o->nfds < nfds; o->nfds++)
        o->fds[o->nfds] = fcntl(fds[o->nfds], F_DUPFD_CLOEXEC, 0);
    for (unsigned i = 0; i < b->n; i++) {
        b->p[i] = (struct pending){ .id = ++b->m->next_id, .name = all[i].name, .batch = b };
        command_text(text, &all[i], b->p[i].id);
        g_ptr_array_add(b->m->pending, &b->p[i]);
    }
    o->size = text->len;
    o->text = g_string_free(text, FALSE);
    send_locked(b->m, o);
}

static struct monitor_batch *ask(struct domain *d, const struct monitor_question *all, unsigned n, const int *fds, unsigned nfds, GError **error)
{
    struct monitor *m = nfds <= FDS ? monitor_of(d) : NULL;
    struct monitor_batch *b = NULL;
    if (m) {
        g_mutex_lock(&m->lock);
        if (!m->ended) {
            b = g_malloc0(sizeof(*b) + n * sizeof(b->p[0]));
            *b = (struct monitor_batch){ .m = monitor_ref(m), .until = g_get_monotonic_time() + COMMAND_SECONDS * G_TIME_SPAN_SECOND, .n = n, .left = n };
            g_cond_init(&b->answered);
            send_batch_locked(b, all, fds, nfds);
        }
        g_mutex_unlock(&m->lock);
        monitor_unref(m);
    }
    for (unsigned i = 0; !b && i < n; i++)
        json_object_put(all[i].args);
    return b ? b : manage_null(error, VIR_ERR_OPERATION_INVALID, nfds > FDS ? "too many descriptors" : "Requested operation is not valid: domain is not running");
}

struct monitor_batch *monitor_ask(struct domain *d, const struct monitor_question *all, unsigned n, GError **error) { return ask(d, all, n, NULL, 0, error); }

/* Nothing of the batch is known to the monitor any more. */
static void forget_locked(struct monitor_batch *b)
{
    for (unsigned i = 0; b->left && i < b->n; i++)
        if (!b->p[i].done)
            g_ptr_array_remove(b->m->pending, &b->p[i]);
    b->left = 0;
}

/* The whole answer, an error of the machine's too; the caller's. */
static struct json_object *collect(struct monitor_batch *b, unsigned i, GError **error)
{
    struct pending *p = &b->p[i];
    g_mutex_lock(&b->m->lock);
    while (b->left && g_cond_wait_until(&b->answered, &b->m->lock, b->until))
        ;
    forget_locked(b);
    g_mutex_unlock(&b->m->lock);
    if (!p->done)
        manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "the machine did not answer '%s' within %d s", p->name, COMMAND_SECONDS);
    else if (!p->answer)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine ended before it answered '%s'", p->name);
    return g_steal_pointer(&p->answer);
}

struct json_object *monitor_batch_answer(struct monitor_batch *b, unsigned i, GError **error)
{
    struct json_object *o = collect(b, i, error);
    return o ? result(o, b->p[i].name, error) : NULL;
}

void monitor_batch_free(struct monitor_batch *b)
{
    if (!b)
        return;
    g_mutex_lock(&b->m->lock);
    forget_locked(b);
    g_mutex_unlock(&b->m->lock);
    for (unsigned i = 0; i < b->n; i++)
        json_object_put(b->p[i].answer);
    g_cond_clear(&b->answered);
    monitor_unref(b->m);
    g_free(b);
}

struct json_object *monitor_answer(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error)
{
    const struct monitor_question one = { name, args };
    struct monitor_batch *b = ask(d, &one, 1, fds, nfds, error);
    struct json_object *ret = b ? collect(b, 0, error) : NULL;
    monitor_batch_free(b);
    return ret;
}

struct json_object *monitor_command_fds(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error)
{
    struct json_object *o = monitor_answer(d, name, args, fds, nfds, error);
    return o ? result(o, name, error) : NULL;
}

struct json_object *monitor_command(struct domain *d, const char *name, struct json_object *args, GError **error)
{
    return monitor_command_fds(d, name, args, NULL, 0, error);
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
