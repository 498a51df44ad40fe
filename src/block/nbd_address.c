/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/nbd_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/keyval.h"
#include "base/sandbox.h"

enum { BACKLOG = 64, MAX_PORT = 65535 };

void nbd_address_clear(struct nbd_address *a)
{
    if (a->resolved)
        g_array_unref(a->resolved);
    g_free(a->host);
    g_free(a->port);
    g_free(a->path);
    g_free(a->fd_name);
    g_free(a->text);
    *a = (struct nbd_address) { 0 };
}

static bool take_unix(struct keyval *kv, struct nbd_address *a, GError **error)
{
    g_autofree char *abstract = keyval_take(kv, "abstract"), *tight = keyval_take(kv, "tight");
    bool is_abstract = false, is_tight = true;
    if ((abstract && !keyval_bool("abstract", abstract, &is_abstract, error)) || (tight && !keyval_bool("tight", tight, &is_tight, error)))
        return false;
    a->path = keyval_take(kv, "path");
    if (!a->path || !*a->path)
        return vireo_fail(error, VIREO_ERROR_INVALID, "a UNIX socket of NBD needs path=");
    struct nbd_sockaddr s = { .len = sizeof(struct sockaddr_un) };
    struct sockaddr_un *un = (struct sockaddr_un *)&s.sa;
    size_t n = strlen(a->path);
    if (n + is_abstract >= sizeof(un->sun_path))
        return vireo_fail(error, VIREO_ERROR_INVALID, "the socket path '%s' is too long: at most %zu bytes", a->path, sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path + is_abstract, a->path, n);
    if (is_abstract && is_tight)
        s.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
    g_array_append_val(a->resolved, s);
    a->text = g_strdup_printf("%s%s", is_abstract ? "@" : "", a->path);
    if (is_abstract) /* nothing in the file system */
        g_clear_pointer(&a->path, g_free);
    return true;
}

/* Without the library's look-up, which opens files and sockets of its own. */
static bool parse_numeric(struct nbd_address *a, int family, GError **error)
{
    struct nbd_sockaddr s = { .len = 0 };
    struct sockaddr_in *v4 = (struct sockaddr_in *)&s.sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&s.sa;
    const char *host = a->host && *a->host ? a->host : family == AF_INET6 ? "::" : "0.0.0.0";
    guint64 port;
    if (!g_ascii_string_to_unsigned(a->port, 10, 0, MAX_PORT, &port, NULL))
        return vireo_fail(error, VIREO_ERROR_INVALID, "the port '%s' is no number up to %d", a->port, MAX_PORT);
    if (family != AF_INET6 && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        s.len = sizeof(*v4);
    } else if (family != AF_INET && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        s.len = sizeof(*v6);
    } else {
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': the sandbox of a running machine looks up no names; give the address in digits", a->text);
    }
    g_array_append_val(a->resolved, s);
    return true;
}

static bool look_up(struct nbd_address *a, int family, bool passive, bool numeric, GError **error)
{
    struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0 }, *list;
    if (sandbox_closed())
        return parse_numeric(a, family, error);
    if (numeric)
        hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    int err = getaddrinfo(a->host && *a->host ? a->host : NULL, a->port, &hints, &list);
    if (err)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "cannot look up '%s': %s", a->text, err == EAI_SYSTEM ? g_strerror(errno) : gai_strerror(err));
    for (struct addrinfo *i = list; i; i = i->ai_next) {
        struct nbd_sockaddr s = { .len = i->ai_addrlen };
        memcpy(&s.sa, i->ai_addr, i->ai_addrlen);
        g_array_append_val(a->resolved, s);
    }
    freeaddrinfo(list);
    return true;
}

static bool take_inet(struct keyval *kv, bool passive, struct nbd_address *a, GError **error)
{
    g_autofree char *v4 = keyval_take(kv, "ipv4"), *v6 = keyval_take(kv, "ipv6"), *num = keyval_take(kv, "numeric");
    g_autofree char *to = keyval_take(kv, "to"), *alive = keyval_take(kv, "keep-alive"), *mptcp = keyval_take(kv, "mptcp");
    bool ipv4 = !v6, ipv6 = !v4, numeric = false, is_mptcp = false, is_alive;
    if ((v4 && !keyval_bool("ipv4", v4, &ipv4, error)) || (v6 && !keyval_bool("ipv6", v6, &ipv6, error)) || (num && !keyval_bool("numeric", num, &numeric, error)) ||
        (alive && !keyval_bool("keep-alive", alive, &is_alive, error)) || (mptcp && !keyval_bool("mptcp", mptcp, &is_mptcp, error)))
        return false;
    if (v4 && !v6)
        ipv6 = !ipv4;
    if (v6 && !v4)
        ipv4 = !ipv6;
    if (is_mptcp)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "mptcp=on is not available for NBD");
    if (to)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "to=: a range of ports is not available for NBD; give one port");
    a->host = keyval_take(kv, "host");
    a->port = keyval_take(kv, "port");
    if (!a->port || !*a->port || (!passive && (!a->host || !*a->host)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "an internet address of NBD needs host= and port=");
    a->text = g_strdup_printf(a->host && strchr(a->host, ':') ? "[%s]:%s" : "%s:%s", a->host ? a->host : "", a->port);
    return look_up(a, ipv4 && ipv6 ? AF_UNSPEC : ipv4 ? AF_INET : AF_INET6, passive, numeric, error);
}

bool nbd_address_take(struct keyval *kv, bool passive, struct nbd_address *ret, GError **error)
{
    g_autofree char *type = keyval_take(kv, "type");
    struct nbd_address a = { .resolved = g_array_new(FALSE, FALSE, sizeof(struct nbd_sockaddr)) };
    bool ok;
    if (!g_strcmp0(type, "unix")) {
        ok = take_unix(kv, &a, error);
    } else if (!g_strcmp0(type, "inet")) {
        ok = take_inet(kv, passive, &a, error);
    } else if (!g_strcmp0(type, "fd")) {
        a.fd_name = keyval_take(kv, "str");
        a.text = g_strdup_printf("descriptor '%s'", a.fd_name ? a.fd_name : "");
        ok = a.fd_name || vireo_fail(error, VIREO_ERROR_INVALID, "type=fd needs str=NAME, a descriptor's number or its name in getfd");
    } else if (!g_strcmp0(type, "vsock")) {
        ok = vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "NBD over vsock is not available: use inet or unix");
    } else {
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s'; an address has type inet, unix or fd", type ? type : "type");
    }
    if (ok)
        *ret = a;
    else
        nbd_address_clear(&a);
    return ok;
}

/* ---- connecting ---- */

/* 0 or an errno value; fd is non-blocking. */
static int finish_connect(int fd, const struct nbd_sockaddr *s, int timeout_ms)
{
    if (!connect(fd, (const struct sockaddr *)&s->sa, s->len))
        return 0;
    if (errno != EINPROGRESS && errno != EAGAIN)
        return errno;
    if (errno == EAGAIN) /* a UNIX socket whose queue of connections is full */
        return EAGAIN;
    struct pollfd p = { fd, POLLOUT, 0 };
    int got = poll(&p, 1, timeout_ms), err = 0;
    socklen_t len = sizeof(err);
    if (!got)
        return ETIMEDOUT;
    return got < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? errno : err;
}

/* A host that is gone without a word is noticed: probes after 30 s, given up after 3 of them. */
static void tune_tcp(int fd)
{
    static const struct {
        int level, name, value;
    } o[] = { { IPPROTO_TCP, TCP_NODELAY, 1 }, { SOL_SOCKET, SO_KEEPALIVE, 1 }, { IPPROTO_TCP, TCP_KEEPIDLE, 30 },
              { IPPROTO_TCP, TCP_KEEPINTVL, 10 }, { IPPROTO_TCP, TCP_KEEPCNT, 3 }, { IPPROTO_TCP, TCP_USER_TIMEOUT, 60000 } };
    for (size_t i = 0; i < G_N_ELEMENTS(o); i++)
        setsockopt(fd, o[i].level, o[i].name, &o[i].value, sizeof(o[i].value));
}

/* seccomp(nbd+sockets, main+sockets): socket(AF_UNIX AF_INET AF_INET6) connect getsockopt setsockopt
 * seccomp(nbd, main): fcntl(F_GETFL F_SETFL F_GETFD F_SETFD) */
static int connect_one(const struct nbd_sockaddr *s, int timeout_ms, int *ret_err)
{
    int fd = socket(s->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        *ret_err = errno;
        return -1;
    }
    gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    int err;
    while ((err = finish_connect(fd, s, timeout_ms)) == EAGAIN && g_get_monotonic_time() < deadline)
        g_usleep(20000);
    if (err) {
        close(fd);
        *ret_err = err;
        return -1;
    }
    if (s->sa.ss_family != AF_UNIX)
        tune_tcp(fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

int nbd_address_connect(const struct nbd_address *a, int timeout_ms, GError **error)
{
    if (a->fd_name)
        return fdset_take(a->fd_name, error);
    if (!sandbox_may_make_sockets("NBD", error))
        return -1;
    int err = ENOENT;
    for (guint i = 0; i < a->resolved->len; i++) {
        int fd = connect_one(&g_array_index(a->resolved, struct nbd_sockaddr, i), timeout_ms, &err);
        if (fd >= 0)
            return fd;
    }
    vireo_fail_errno(error, err, "cannot connect to the NBD server at '%s'", a->text);
    return -1;
}

/* ---- listening ---- */

/* A socket file that nobody listens on any more is in the way of a new server. */
static void remove_stale(const struct nbd_address *a, const struct nbd_sockaddr *s)
{
    struct stat st;
    if (!a->path || sandbox_closed() || lstat(a->path, &st) || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&s->sa, s->len) && errno == ECONNREFUSED)
        unlink(a->path);
    close(fd);
}

/* seccomp(main): getsockopt
 * seccomp(main+sockets): socket(AF_UNIX AF_INET AF_INET6) bind listen setsockopt
 * seccomp(main+files): socket(AF_UNIX) bind listen */
static int listen_one(const struct nbd_address *a, const struct nbd_sockaddr *s, int *ret_err)
{
    int fd = socket(s->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) {
        *ret_err = errno;
        return -1;
    }
    if (s->sa.ss_family == AF_UNIX)
        remove_stale(a, s);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (!bind(fd, (const struct sockaddr *)&s->sa, s->len) && !listen(fd, BACKLOG))
        return fd;
    *ret_err = errno;
    close(fd);
    return -1;
}

int nbd_address_listen(const struct nbd_address *a, bool *ret_made_path, GError **error)
{
    *ret_made_path = false;
    if (a->fd_name) {
        int fd = fdset_take(a->fd_name, error), listening = 0;
        socklen_t len = sizeof(listening);
        if (fd < 0)
            return -1;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) || !listening) {
            close(fd);
            vireo_fail(error, VIREO_ERROR_INVALID, "%s is not a listening socket", a->text);
            return -1;
        }
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        return fd;
    }
    /* Who may make files may make the file of a socket. */
    if (!(a->path && sandbox_has(SANDBOX_FILES)) && !sandbox_may_make_sockets("NBD server", error))
        return -1;
    int err = ENOENT;
    for (guint i = 0; i < a->resolved->len; i++) {
        int fd = listen_one(a, &g_array_index(a->resolved, struct nbd_sockaddr, i), &err);
        if (fd >= 0) {
            *ret_made_path = a->path != NULL;
            return fd;
        }
    }
    vireo_fail_errno(error, err, "Failed to bind socket to '%s'", a->text);
    return -1;
}
