/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/chardev.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/core/chardev_backend.h"

/* Of the process, not of a machine: how it ends. Set once by main. */
static struct { void (*fn)(void *opaque); void *opaque; int cancel_fd; } quit = { .cancel_fd = -1 };

void chardev_set_quit(void (*fn)(void *opaque), void *opaque)
{
    quit.fn = fn;
    quit.opaque = opaque;
}

void chardev_set_cancel_fd(int fd)
{
    quit.cancel_fd = fd;
}

int chardev_cancel_fd(void)
{
    return quit.cancel_fd;
}

void chardev_quit(void)
{
    if (quit.fn)
        quit.fn(quit.opaque);
}

static void source_drop(GSource **s)
{
    if (*s) {
        g_source_destroy(*s);
        g_source_unref(*s);
        *s = NULL;
    }
}

static void source_start(GSource **slot, GSource *s, GSourceFunc fn, struct chardev *c)
{
    g_source_set_callback(s, fn, c, NULL);
    g_source_attach(s, NULL);
    *slot = s;
}

static void tell(struct chardev *c, enum chardev_event ev)
{
    for (unsigned i = 0; i < c->nfrontends; i++) {
        if (c->frontends[i].h->event)
            c->frontends[i].h->event(c->frontends[i].opaque, ev);
    }
}

/* ---- output ---- */

/* seccomp(device): sendto
 * How much the descriptor takes now without blocking; -1 with errno EAGAIN when nothing. */
static ssize_t write_some_locked(struct chardev *c, const uint8_t *data, size_t n)
{
    if (c->out_mode.send)
        return send(c->fd_out, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (c->out_mode.poll_first) {
        struct pollfd p = { .fd = c->fd_out, .events = POLLOUT };
        if (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLOUT | POLLERR | POLLHUP))) {
            errno = EAGAIN;
            return -1;
        }
        n = MIN(n, 256); /* what a terminal that is ready has room for at least */
    }
    return write(c->fd_out, data, n);
}

/* Writes what goes; returns how much of it, all of it when the peer is gone (thrown away). */
static size_t push_locked(struct chardev *c, const uint8_t *data, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t w = write_some_locked(c, data + done, n - done);
        if (w > 0)
            done += (size_t)w;
        else if (w < 0 && errno == EINTR)
            continue;
        else if (w < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        else
            return n;
    }
    return done;
}

static gboolean out_ready(gint fd, GIOCondition condition, gpointer opaque)
{
    struct chardev *c = opaque;
    bool tell_writable = false;
    g_mutex_lock(&c->lock);
    if (c->fd_out >= 0 && c->out->len) {
        size_t n = push_locked(c, c->out->data, c->out->len);
        g_byte_array_remove_range(c->out, 0, (guint)n);
    }
    if (!c->out->len)
        source_drop(&c->out_source);
    if (c->busy_told && c->out->len < CHARDEV_OUT_MAX / 2) {
        c->busy_told = false;
        tell_writable = true;
    }
    bool again = c->out_source != NULL;
    g_mutex_unlock(&c->lock);
    if (tell_writable)
        tell(c, CHARDEV_WRITABLE);
    return again ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* How many bytes were taken. */
static size_t write_locked(struct chardev *c, const uint8_t *data, size_t n)
{
    size_t done = c->out->len ? 0 : push_locked(c, data, n);
    if (done < n) {
        size_t keep = MIN(n - done, CHARDEV_OUT_MAX - MIN(c->out->len, CHARDEV_OUT_MAX));
        g_byte_array_append(c->out, data + done, (guint)keep);
        done += keep;
        c->busy_told = c->busy_told || done < n;
        if (!c->out_source)
            source_start(&c->out_source, g_unix_fd_source_new(c->fd_out, G_IO_OUT | G_IO_ERR | G_IO_HUP), G_SOURCE_FUNC(out_ready), c);
    }
    return done;
}

/* An IAC goes as two, or not at all. */
static size_t write_telnet_locked(struct chardev *c, const uint8_t *data, size_t n)
{
    static const uint8_t twice[2] = { TELNET_IAC, TELNET_IAC };
    size_t done = 0;
    while (done < n) {
        size_t plain = telnet_plain(data + done, n - done), taken = plain ? write_locked(c, data + done, plain) : 0;
        done += taken;
        if (taken < plain || done == n)
            break;
        if (c->out->len + sizeof(twice) > CHARDEV_OUT_MAX) {
            c->busy_told = true;
            break;
        }
        write_locked(c, twice, sizeof(twice));
        done++;
    }
    return done;
}

size_t chardev_write(struct chardev *c, const void *data, size_t n)
{
    g_mutex_lock(&c->lock);
    size_t done = !c->connected || c->fd_out < 0 ? n : c->telnet ? write_telnet_locked(c, data, n) : write_locked(c, data, n);
    g_mutex_unlock(&c->lock);
    return done;
}

bool chardev_can_write(struct chardev *c)
{
    g_mutex_lock(&c->lock);
    bool room = !c->connected || c->out->len < CHARDEV_OUT_MAX;
    if (!room)
        c->busy_told = true;
    g_mutex_unlock(&c->lock);
    return room;
}

/* At the end: what the host takes within a moment still goes out. */
static void flush_at_end(struct chardev *c)
{
    g_mutex_lock(&c->lock);
    for (int tries = 0; c->fd_out >= 0 && c->out->len && tries < 20; tries++) {
        struct pollfd p = { .fd = c->fd_out, .events = POLLOUT };
        if (poll(&p, 1, 10) > 0 && !(p.revents & POLLOUT))
            break;
        g_byte_array_remove_range(c->out, 0, (guint)push_locked(c, c->out->data, c->out->len));
    }
    g_mutex_unlock(&c->lock);
}

/* ---- input ---- */

static size_t frontend_room(struct chardev *c)
{
    if (c->mux)
        return c->nfrontends ? chardev_mux_room(c->mux) : 0;
    return c->nfrontends ? c->frontends[0].h->can_receive(c->frontends[0].opaque) : 0;
}

/* ---- descriptors that are passed ---- */

enum { PASSED_MAX = 16 }; /* descriptors in one message; more are lost, as they are not asked for */

void chardev_accept_fds(struct chardev *c)
{
    c->accept_fds = true;
}

int chardev_take_fd(struct chardev *c)
{
    int fd = c->passed_fd;
    c->passed_fd = -1;
    return fd;
}

void chardev_put_fd(struct chardev *c, int fd)
{
    if (c->passed_fd >= 0)
        close(c->passed_fd);
    c->passed_fd = fd;
}

static void keep_fds(struct chardev *c, struct msghdr *msg)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= h->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, (char *)h + at, sizeof(fd));
            chardev_put_fd(c, fd);
        }
    }
}

/* seccomp(main): recvmsg */
static ssize_t read_input(struct chardev *c, void *buf, size_t n)
{
    union { char bytes[CMSG_SPACE(PASSED_MAX * sizeof(int))]; struct cmsghdr align; } control;
    struct iovec iov = { buf, n };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
    if (!c->accept_fds || !c->out_mode.send)
        return read(c->fd_in, buf, n);
    ssize_t got = recvmsg(c->fd_in, &msg, MSG_CMSG_CLOEXEC);
    if (got > 0)
        keep_fds(c, &msg);
    return got;
}

/* How many bytes are the guest's. */
static size_t take_telnet(struct chardev *c, uint8_t *data, size_t n)
{
    uint8_t reply[CHARDEV_IN_MAX + TELNET_REPLY];
    size_t nreply;
    bool broken;
    n = telnet_input(c->telnet, data, n, &broken, reply, &nreply);
    g_mutex_lock(&c->lock);
    if (nreply && c->connected)
        write_locked(c, reply, nreply);
    g_mutex_unlock(&c->lock);
    if (broken)
        tell(c, CHARDEV_BREAK);
    return n;
}

static gboolean in_ready(gint fd, GIOCondition condition, gpointer opaque)
{
    struct chardev *c = opaque;
    uint8_t buf[CHARDEV_IN_MAX];
    size_t room = MIN(frontend_room(c), sizeof(buf));
    if (!room) {
        source_drop(&c->in_source);
        return G_SOURCE_REMOVE;
    }
    ssize_t n = read_input(c, buf, room);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        c->in_ended = true;
        source_drop(&c->in_source);
        if (c->backend->hangup)
            c->backend->hangup(c);
        return G_SOURCE_REMOVE;
    }
    if (c->telnet)
        n = (ssize_t)take_telnet(c, buf, (size_t)n);
    if (!n)
        return G_SOURCE_CONTINUE;
    if (c->mux)
        chardev_mux_input(c->mux, buf, (size_t)n);
    else
        c->frontends[0].h->receive(c->frontends[0].opaque, buf, (size_t)n);
    return c->in_source ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

void chardev_pump(struct chardev *c)
{
    if (c->mux)
        chardev_mux_deliver(c->mux);
    if (c->fd_in < 0 || c->in_ended || c->in_source || !frontend_room(c))
        return;
    source_start(&c->in_source, g_unix_fd_source_new(c->fd_in, G_IO_IN | G_IO_HUP | G_IO_ERR), G_SOURCE_FUNC(in_ready), c);
}

static gboolean pump_later(gpointer opaque)
{
    struct chardev *c = opaque;
    g_mutex_lock(&c->lock);
    source_drop(&c->pump_source);
    g_mutex_unlock(&c->lock);
    chardev_pump(c);
    return G_SOURCE_REMOVE;
}

void chardev_receive_ready(struct chardev *c)
{
    g_mutex_lock(&c->lock);
    if (!c->pump_source)
        source_start(&c->pump_source, g_idle_source_new(), pump_later, c);
    g_mutex_unlock(&c->lock);
}

/* ---- peers and front ends ---- */

void chardev_connected(struct chardev *c, int fd_in, int fd_out, struct chardev_out_mode mode)
{
    g_mutex_lock(&c->lock);
    c->fd_in = fd_in;
    c->fd_out = fd_out;
    c->out_mode = mode;
    c->in_ended = false;
    c->connected = true;
    g_mutex_unlock(&c->lock);
    tell(c, CHARDEV_OPENED);
    chardev_pump(c);
}

static void close_descriptors(struct chardev *c)
{
    source_drop(&c->in_source);
    g_mutex_lock(&c->lock);
    source_drop(&c->out_source);
    g_byte_array_set_size(c->out, 0);
    c->busy_told = false;
    c->connected = false;
    if (c->fd_in >= 0)
        close(c->fd_in);
    if (c->fd_out >= 0 && c->fd_out != c->fd_in)
        close(c->fd_out);
    c->fd_in = c->fd_out = -1;
    g_mutex_unlock(&c->lock);
    chardev_put_fd(c, -1);
}

void chardev_disconnected(struct chardev *c)
{
    close_descriptors(c);
    tell(c, CHARDEV_CLOSED);
}

bool chardev_attach(struct chardev *c, const struct chardev_handlers *h, void *opaque, GError **error)
{
    unsigned max = c->mux ? CHARDEV_FRONTENDS_MAX : 1;
    if (c->nfrontends == max)
        return vireo_fail(error, VIREO_ERROR_BUSY, "chardev '%s' is already in use by another device; give each its own", c->id);
    c->frontends[c->nfrontends].h = h;
    c->frontends[c->nfrontends].opaque = opaque;
    c->nfrontends++;
    if (c->connected && h->event)
        h->event(opaque, CHARDEV_OPENED);
    chardev_pump(c);
    return true;
}

void chardev_detach(struct chardev *c)
{
    source_drop(&c->in_source);
    c->nfrontends = c->focus = 0;
}

void chardev_set_filename(struct chardev *c, char *filename)
{
    g_free(c->filename);
    c->filename = filename;
}

const char *chardev_id(const struct chardev *c)
{
    return c->id;
}

const char *chardev_filename(const struct chardev *c)
{
    return c->mux ? "mux" : c->filename;
}

bool chardev_frontend_open(const struct chardev *c)
{
    return c->nfrontends > 0;
}

bool chardev_busy(const struct chardev *c)
{
    return c->mux || c->nfrontends > 0;
}

/* ---- opening and closing ---- */

static const struct chardev_backend *const backends[] = { &chardev_null, &chardev_stdio, &chardev_file, &chardev_socket, &chardev_pty };

const char *chardev_backend_at(unsigned i)
{
    return i < G_N_ELEMENTS(backends) ? backends[i]->name : NULL;
}

struct chardev *chardev_open_opts(const char *backend, const char *id, GHashTable *opts, GError **error)
{
    const struct chardev_backend *b = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(backends); i++) {
        if (!strcmp(backends[i]->name, backend))
            b = backends[i];
    }
    if (!b) {
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not a valid char driver; there are: null, stdio, file, socket, pty", backend);
        return NULL;
    }
    keyval_auto *kv = keyval_from_hash(opts);
    g_autofree char *mux = keyval_take(kv, "mux");
    bool want_mux = false;
    if (mux && !keyval_bool("mux", mux, &want_mux, error))
        return NULL;
    struct chardev *c = g_new0(struct chardev, 1);
    c->backend = b;
    c->id = g_strdup(id);
    c->filename = g_strdup(b->name);
    c->fd_in = c->fd_out = c->passed_fd = -1;
    c->out = g_byte_array_new();
    g_mutex_init(&c->lock);
    c->opts = g_malloc0(b->opts_size + 1);
    if (want_mux)
        c->mux = chardev_mux_create(c);
    c->opened = keyval_load(kv, b->keys, c->opts, error) && b->open(c, c->opts, error);
    if (!c->opened)
        g_clear_pointer(&c, chardev_close);
    return c;
}

char *chardev_help(void)
{
    GString *s = g_string_new("Available chardev backend types:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(backends); i++)
        g_string_append_printf(s, "  %-8s %s\n", backends[i]->name, backends[i]->help);
    return g_string_free(s, FALSE);
}

static void free_opts(struct chardev *c)
{
    for (const struct keyval_key *k = c->backend->keys; c->opts && k && k->name; k++) {
        if (k->type == KV_STRING)
            g_free(*(char **)((char *)c->opts + k->offset));
    }
    g_free(c->opts);
}

void chardev_close(struct chardev *c)
{
    if (!c)
        return;
    c->nfrontends = 0;
    flush_at_end(c);
    if (c->opened && c->backend->close)
        c->backend->close(c);
    close_descriptors(c);
    g_mutex_lock(&c->lock);
    source_drop(&c->pump_source);
    g_mutex_unlock(&c->lock);
    chardev_mux_destroy(c->mux);
    free_opts(c);
    g_byte_array_unref(c->out);
    g_mutex_clear(&c->lock);
    g_free(c->filename);
    g_free(c->id);
    g_free(c);
}

/* The short forms and the long ones they stand for; the text behind the colon becomes `key`. */
static const struct { const char *prefix, *backend, *key, *on; } short_forms[] = {
    { "null", "null", NULL }, { "stdio", "stdio", NULL }, { "pty", "pty", NULL },
    { "file:", "file", "path" }, { "unix:", "socket", "path" }, { "tcp:", "socket", "addr" }, { "telnet:", "socket", "addr", "telnet" },
};

static struct chardev *open_short(const char *id, const char *spec, bool mux, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(short_forms); i++) {
        const char *key = short_forms[i].key;
        size_t n = strlen(short_forms[i].prefix);
        if (strncmp(spec, short_forms[i].prefix, n) || (!key && spec[n] && spec[n] != ','))
            continue;
        keyval_auto *kv = keyval_parse(key ? spec + n : spec[n] ? spec + n + 1 : "", key, error);
        if (!kv)
            return NULL;
        if (mux)
            keyval_add(kv, "mux", "on");
        if (short_forms[i].on)
            keyval_add(kv, short_forms[i].on, "on");
        g_autoptr(GHashTable) opts = keyval_to_hash(kv);
        return chardev_open_opts(short_forms[i].backend, id, opts, error);
    }
    vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not a valid char driver; there are: none, null, stdio, mon:stdio, pty, file:PATH, "
               "unix:PATH[,server=on][,wait=off], tcp:HOST:PORT[,server=on][,wait=off], telnet:HOST:PORT[,server=on][,wait=off], chardev:ID", spec);
    return NULL;
}

struct chardev *chardev_open(const char *id, const char *spec, GError **error)
{
    if (!strcmp(spec, "none"))
        return NULL;
    bool mux = g_str_has_prefix(spec, "mon:");
    return open_short(id, mux ? spec + 4 : spec, mux, error);
}
