/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Back end socket: UNIX or TCP, listening (server=on) or connecting. One peer at a time; while it is there, others wait in
 * the queue of the listening socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/leftover.h"
#include "base/sandbox.h"
#include "vmm/core/chardev_backend.h"

struct socket_opts { char *path, *addr, *host, *port, *fd; bool server, telnet; int wait; uint64_t reconnect; };

static const char *const off_on[] = { "default", "off", "on", NULL };
enum { WAIT_DEFAULT, WAIT_OFF, WAIT_ON };
static const char *const only_off[] = { "off", NULL };
static const struct keyval_key socket_keys[] = {
    { "path", KV_STRING, offsetof(struct socket_opts, path), "of a UNIX socket" },
    { "host", KV_STRING, offsetof(struct socket_opts, host), "TCP: name or address" },
    { "port", KV_STRING, offsetof(struct socket_opts, port), "TCP: number or service" },
    { "addr", KV_STRING, offsetof(struct socket_opts, addr), "TCP: HOST:PORT" },
    { "fd", KV_STRING, offsetof(struct socket_opts, fd), "an open socket that was inherited" },
    { "server", KV_BOOL, offsetof(struct socket_opts, server), "listen instead of connecting" },
    { "wait", KV_ENUM, offsetof(struct socket_opts, wait), "server: the machine starts when somebody has connected (default on)", off_on },
    { "reconnect", KV_UINT, offsetof(struct socket_opts, reconnect), "client: seconds after which to connect again", NULL, 0, 3600 },
    { "nodelay", KV_IGNORED }, { "delay", KV_IGNORED },
    { "telnet", KV_BOOL, offsetof(struct socket_opts, telnet), "speak telnet, so that a telnet client sends each key at once and as it is" },
    { "abstract", KV_ONLY, 0, "give the socket a path", only_off },
    { NULL }
};

struct socket_state {
    int listener;
    GSource *source;     /* of the listener */
    guint retry;
    char *name;          /* "unix:PATH,server=on" */
    struct leftover *made; /* the socket file */
    struct addrinfo *addresses; /* TCP */
    struct chardev_telnet telnet;
};

static const struct chardev_out_mode mode_send = { .send = true };

static void listen_again(struct chardev *c);
static bool connect_peer(struct chardev *c, GError **error);

/* seccomp(main): setsockopt sendto */
static void got_peer(struct chardev *c, int fd)
{
    struct socket_state *s = c->state;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on UNIX sockets, harmlessly */
    chardev_set_filename(c, g_strdup(s->name));
    if (c->telnet) {
        uint8_t greeting[TELNET_GREETING];
        telnet_start(c->telnet, greeting);
        (void)send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL | MSG_DONTWAIT); /* a new connection has room for it */
    }
    /* sockets need no O_NONBLOCK: output is sent with MSG_DONTWAIT, input is read when it is there */
    chardev_connected(c, fd, fd, mode_send);
}

/* seccomp(main): accept4 */
static gboolean on_listener(gint fd, GIOCondition condition, gpointer opaque)
{
    struct chardev *c = opaque;
    struct socket_state *s = c->state;
    int peer = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0)
        return G_SOURCE_CONTINUE;
    g_source_unref(s->source);
    s->source = NULL;
    got_peer(c, peer);
    return G_SOURCE_REMOVE;
}

static void listen_again(struct chardev *c)
{
    struct socket_state *s = c->state;
    if (s->source)
        return;
    s->source = g_unix_fd_source_new(s->listener, G_IO_IN);
    g_source_set_callback(s->source, G_SOURCE_FUNC(on_listener), c, NULL);
    g_source_attach(s->source, NULL);
}

/* seccomp(main+sockets): socket(AF_UNIX AF_INET AF_INET6) connect setsockopt */
static gboolean on_retry(gpointer opaque)
{
    struct chardev *c = opaque;
    struct socket_state *s = c->state;
    if (!connect_peer(c, NULL))
        return G_SOURCE_CONTINUE;
    s->retry = 0;
    return G_SOURCE_REMOVE;
}

static void socket_hangup(struct chardev *c)
{
    struct socket_state *s = c->state;
    const struct socket_opts *o = c->opts;
    chardev_set_filename(c, g_strdup_printf("disconnected:%s", s->name));
    chardev_disconnected(c);
    if (s->listener >= 0)
        listen_again(c);
    else if (o->reconnect && !s->retry)
        s->retry = g_timeout_add_seconds((guint)o->reconnect, on_retry, c);
}

/* ---- addresses ---- */

static bool unix_address(const char *path, struct sockaddr_un *ret, GError **error)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (!*path || strlen(path) >= sizeof(ret->sun_path))
        return vireo_fail(error, VIREO_ERROR_INVALID, "UNIX socket path '%s' must have 1 to %zu bytes", path, sizeof(ret->sun_path) - 1);
    strcpy(ret->sun_path, path);
    return true;
}

/* A socket file of a program that has ended may be replaced; nothing else. */
static bool clear_stale(const struct sockaddr_un *a, GError **error)
{
    struct stat st;
    if (lstat(a->sun_path, &st))
        return true;
    if (!S_ISSOCK(st.st_mode))
        return vireo_fail(error, VIREO_ERROR_BUSY, "cannot make socket '%s': a file of that name is there; remove it", a->sun_path);
    if (!sandbox_has(SANDBOX_SOCKETS)) /* nobody can be asked */
        return vireo_fail(error, VIREO_ERROR_BUSY, "cannot make socket '%s': a socket of that name is there; remove it", a->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && (!connect(fd, (const struct sockaddr *)a, sizeof(*a)) || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    if (alive)
        return vireo_fail(error, VIREO_ERROR_BUSY, "cannot make socket '%s': another program is listening on it", a->sun_path);
    unlink(a->sun_path);
    return true;
}

/* seccomp(main+files): socket(AF_UNIX) bind listen */
static int unix_listen(struct socket_state *s, const char *path, GError **error)
{
    struct sockaddr_un a;
    if (!sandbox_has(SANDBOX_FILES)) {
        vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot make socket '%s': the sandbox of this process makes no files once the machine is set up; pass a socket that "
                   "listens (QMP getfd, address of type fd), or start with -sandbox on,files=on", path);
        return -1;
    }
    if (!unix_address(path, &a, error) || !clear_stale(&a, error))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 1)) {
        vireo_fail_errno(error, errno, "Failed to bind socket to %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    s->made = leftover_keep(path);
    return fd;
}

static int unix_connect(const char *path, GError **error)
{
    struct sockaddr_un a;
    if (!sandbox_may_make_sockets(path, error) || !unix_address(path, &a, error))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
        return fd;
    vireo_fail_errno(error, errno, "Failed to connect to '%s'", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Once, when the back end is opened: the resolver reads files of the host and talks to its services. */
static bool resolve(struct socket_state *s, const struct socket_opts *o, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = o->server ? AI_PASSIVE : 0 };
    const char *host = o->host && *o->host ? o->host : NULL;
    if (sandbox_closed())
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "%s:%s: the sandbox of a running machine looks up no addresses; pass a socket (QMP getfd, address of type fd), or "
                          "start with -sandbox off", host ? host : "", o->port);
    int r = getaddrinfo(host, o->port, &hints, &s->addresses);
    if (!r)
        return true;
    s->addresses = NULL;
    return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "address resolution failed for %s:%s: %s", host ? host : "", o->port, gai_strerror(r));
}

static int tcp_open(struct socket_state *s, const struct socket_opts *o, GError **error)
{
    const char *host = o->host && *o->host ? o->host : NULL;
    int err = 0, fd = -1, one = 1;
    for (struct addrinfo *a = s->addresses; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (o->server ? bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, 1) : connect(fd, a->ai_addr, a->ai_addrlen)) {
            err = errno;
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        vireo_fail_errno(error, err, "Failed to %s %s:%s", o->server ? "listen on" : "connect to", host ? host : "", o->port);
    return fd;
}

static int inherited(const struct socket_opts *o, GError **error)
{
    struct stat st;
    int fd = fdset_take(o->fd, error);
    if (fd >= 0 && (fstat(fd, &st) || !S_ISSOCK(st.st_mode))) {
        vireo_fail(error, VIREO_ERROR_INVALID, "File descriptor '%s' is not a socket", o->fd);
        return -1;
    }
    return fd;
}

/* ---- opening ---- */

static bool connect_peer(struct chardev *c, GError **error)
{
    struct socket_state *s = c->state;
    const struct socket_opts *o = c->opts;
    int fd = o->fd ? inherited(o, error) : o->path ? unix_connect(o->path, error) : tcp_open(s, o, error);
    if (fd < 0)
        return false;
    got_peer(c, fd);
    return true;
}

/* wait=on: until a client is there, or the process is asked to end. */
static bool wait_for_client(struct chardev *c, GError **error)
{
    struct socket_state *s = c->state;
    struct pollfd p[2] = { { .fd = s->listener, .events = POLLIN }, { .fd = chardev_cancel_fd(), .events = POLLIN } };
    fprintf(stderr, "vireo-vmm: info: waiting for connection on: %s\n", c->filename);
    for (;;) {
        p[0].revents = p[1].revents = 0;
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return vireo_fail_errno(error, errno, "waiting for a client on %s", s->name);
        if (p[1].revents)
            return vireo_fail(error, VIREO_ERROR_FAILED, "ended by a signal while waiting for a client on %s", s->name);
        if (!p[0].revents)
            continue;
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            got_peer(c, fd);
            return true;
        }
    }
}

static bool open_server(struct chardev *c, const struct socket_opts *o, GError **error)
{
    struct socket_state *s = c->state;
    s->listener = o->fd ? inherited(o, error) : o->path ? unix_listen(s, o->path, error) : tcp_open(s, o, error);
    if (s->listener < 0)
        return false;
    if (o->wait == WAIT_OFF) {
        listen_again(c);
        return true;
    }
    return wait_for_client(c, error);
}

static bool split_addr(struct socket_opts *o, GError **error)
{
    char *colon = strrchr(o->addr, ':');
    if (!colon)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': expected HOST:PORT", o->addr);
    g_free(o->host);
    g_free(o->port);
    o->host = g_strndup(o->addr, (gsize)(colon - o->addr));
    o->port = g_strdup(colon + 1);
    return true;
}

static void socket_close(struct chardev *c)
{
    struct socket_state *s = c->state;
    if (s->source) {
        g_source_destroy(s->source);
        g_source_unref(s->source);
    }
    if (s->retry)
        g_source_remove(s->retry);
    if (s->listener >= 0)
        close(s->listener);
    leftover_remove(s->made);
    if (s->addresses)
        freeaddrinfo(s->addresses);
    g_free(s->name);
    c->telnet = NULL;
    g_free(s);
}

static bool socket_open(struct chardev *c, const void *opts, GError **error)
{
    struct socket_opts *o = c->opts;
    if (o->addr && !split_addr(o, error))
        return false;
    if (!!o->path + !!o->port + !!o->fd != 1)
        return vireo_fail(error, VIREO_ERROR_INVALID, "chardev: socket: give one of path=, host= with port=, fd=");
    if (!o->server && o->wait)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'wait' option is incompatible with socket in client connect mode; add server=on");
    if (o->server && o->reconnect)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'reconnect' option is incompatible with socket in server listen mode");
    if (o->fd && o->reconnect)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'reconnect' option is incompatible with a socket that was passed: it cannot be opened again");
    if (o->reconnect && !sandbox_may_make_sockets("reconnect", error))
        return false;
    struct socket_state *s = g_new0(struct socket_state, 1);
    s->listener = -1;
    g_autofree char *where = o->path ? g_strdup_printf("unix:%s", o->path) : o->fd ? g_strdup_printf("fd:%s", o->fd)
                                                                                 : g_strdup_printf("%s:%s:%s", o->telnet ? "telnet" : "tcp", o->host ? o->host : "", o->port);
    s->name = g_strdup_printf("%s%s", where, o->server ? ",server=on" : "");
    c->state = s;
    c->telnet = o->telnet ? &s->telnet : NULL;
    chardev_set_filename(c, g_strdup_printf("disconnected:%s", s->name));
    if (o->reconnect)
        sandbox_need(SANDBOX_SOCKETS);
    if (o->port && !resolve(s, o, error)) {
        socket_close(c);
        return false;
    }
    bool ok = o->server ? open_server(c, o, error) : connect_peer(c, o->reconnect ? NULL : error);
    if (!ok && o->reconnect && !o->server) {
        s->retry = g_timeout_add_seconds((guint)o->reconnect, on_retry, c);
        ok = true;
    }
    if (!ok)
        socket_close(c);
    return ok;
}

const struct chardev_backend chardev_socket = {
    "socket", "path=PATH | host=HOST,port=PORT | fd=N [,server=on[,wait=off]][,telnet=on]", socket_keys, sizeof(struct socket_opts), socket_open, socket_close,
    socket_hangup
};
