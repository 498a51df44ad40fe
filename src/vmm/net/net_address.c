/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/net/net_address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"
#include "vmm/net/net_fd.h"

enum { CONNECT_MS = 10000 };

void net_address_clear(struct net_address *a)
{
    g_clear_pointer(&a->text, g_free);
    g_clear_pointer(&a->path, g_free);
    a->len = 0;
    a->fd = -1;
}

/* ---- from text ---- */

static bool resolve(const char *what, const char *host, const char *port, int family, bool passive, struct net_address *ret, GError **error)
{
    struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0 }, *found = NULL;
    guint64 number;
    if (!g_ascii_string_to_unsigned(port, 10, 1, 65535, &number, NULL))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: '%s' is not a port from 1 to 65535", what, port);
    int r = getaddrinfo(host && *host ? host : NULL, port, &hints, &found);
    if (r)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "%s: cannot find the address of '%s': %s", what, host ? host : "", gai_strerror(r));
    memcpy(&ret->sa, found->ai_addr, found->ai_addrlen);
    ret->len = found->ai_addrlen;
    freeaddrinfo(found);
    ret->text = g_strdup_printf("%s:%s", host ? host : "", port);
    return true;
}

bool net_address_parse(const char *what, const char *text, bool passive, struct net_address *ret, GError **error)
{
    const char *colon = strrchr(text, ':');
    *ret = (struct net_address)NET_NO_ADDRESS;
    if (!colon)
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: '%s' has no port; it takes HOST:PORT", what, text);
    g_autofree char *host = g_strndup(text, (gsize)(colon - text));
    size_t n = strlen(host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        memmove(host, host + 1, n - 1);
    }
    return resolve(what, host, colon + 1, passive && !*host ? AF_INET : AF_UNSPEC, passive, ret, error);
}

struct address_options {
    char *type, *host, *port, *path, *str;
    bool abstract, tight, ipv4, ipv6;
};
#define A(member) offsetof(struct address_options, member)
static const char *const off_values[] = { "off", "false", "no", NULL };
static const struct keyval_key keys[] = {
    { "type", KV_STRING, A(type), "inet, unix or fd" },
    { "host", KV_STRING, A(host), "inet: name or address" },
    { "port", KV_STRING, A(port), "inet: number" },
    { "ipv4", KV_BOOL, A(ipv4), "inet: only IPv4" },
    { "ipv6", KV_BOOL, A(ipv6), "inet: only IPv6" },
    { "numeric", KV_IGNORED },
    { "keep-alive", KV_IGNORED },
    { "mptcp", KV_ONLY, 0, "MPTCP is not there", off_values },
    { "to", KV_REFUSED, 0, "give one port" },
    { "path", KV_STRING, A(path), "unix: file" },
    { "abstract", KV_BOOL, A(abstract), "unix: a name that is not in the file system" },
    { "tight", KV_BOOL, A(tight), "unix: the abstract name ends with its text" },
    { "str", KV_STRING, A(str), "fd: number or name of a descriptor" },
    { NULL }
};

static bool unix_address(const char *what, const struct address_options *o, struct net_address *ret, GError **error)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t n = o->path ? strlen(o->path) : 0;
    if (!n || n >= sizeof(un.sun_path) - o->abstract)
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: path of a UNIX socket has 1 to %zu bytes", what, sizeof(un.sun_path) - 1);
    memcpy(un.sun_path + o->abstract, o->path, n);
    memcpy(&ret->sa, &un, sizeof(un));
    ret->len = o->abstract && o->tight ? (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n) : sizeof(un);
    ret->path = o->abstract ? NULL : g_strdup(o->path);
    ret->text = g_strdup(o->path);
    return true;
}

static bool make(const char *what, const struct address_options *o, struct net_address *ret, GError **error)
{
    if (!strcmp(o->type, "unix"))
        return unix_address(what, o, ret, error);
    if (!strcmp(o->type, "inet")) {
        int family = o->ipv4 == o->ipv6 ? AF_UNSPEC : o->ipv4 ? AF_INET : AF_INET6;
        if (!o->port || !o->host)
            return vireo_fail(error, VIREO_ERROR_INVALID, "%s: type=inet needs host and port", what);
        return resolve(what, o->host, o->port, family, true, ret, error);
    }
    if (!strcmp(o->type, "fd")) {
        ret->fd = o->str ? net_fd_take(what, o->str, error) : -1;
        ret->text = g_strdup_printf("descriptor %s", o->str ? o->str : "");
        return ret->fd >= 0 || (error && *error) || vireo_fail(error, VIREO_ERROR_INVALID, "%s: type=fd needs str=NUMBER", what);
    }
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "%s: type=%s is not there; there are: inet, unix, fd", what, o->type);
}

bool net_address_take(struct keyval *kv, const char *prefix, struct net_address *ret, GError **error)
{
    struct address_options o = { .ipv4 = true, .ipv6 = true, .tight = true };
    g_autofree char *dotted = g_strdup_printf("%s.", prefix);
    keyval_auto *own = keyval_take_nested(kv, prefix);
    *ret = (struct net_address)NET_NO_ADDRESS;
    if (!own->pairs->len)
        return true;
    bool ok = keyval_load(own, keys, &o, error);
    if (ok && !o.type)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "%stype is missing; it is inet, unix or fd", dotted);
    ok = ok && make(prefix, &o, ret, error);
    char *all[] = { o.type, o.host, o.port, o.path, o.str };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        g_free(all[i]);
    return ok;
}

bool net_address_multicast(const struct net_address *a)
{
    return a->len && a->sa.ss_family == AF_INET && IN_MULTICAST(ntohl(((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr));
}

struct json_object *net_address_json(const struct net_address *a)
{
    char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
    if (a->fd >= 0)
        return json_make("type", json_object_new_string("fd"), "str", json_object_new_string(a->text), NULL);
    if (a->sa.ss_family == AF_UNIX)
        return json_make("type", json_object_new_string("unix"), "path", json_object_new_string(a->text), NULL);
    (void)!getnameinfo((const struct sockaddr *)&a->sa, a->len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
    return json_make("type", json_object_new_string("inet"), "host", json_object_new_string(host), "port", json_object_new_string(port), NULL);
}

/* ---- sockets ---- */

static int failed(int fd, const char *what, const char *verb, const struct net_address *a, const char *hint, GError **error)
{
    int err = errno;
    if (fd >= 0)
        close(fd);
    vireo_fail_errno(error, err, "%s: cannot %s %s%s", what, verb, a->text, hint);
    return -1;
}

/* A socket can only be made at set-up, but by one who has said that it will need more (net_stream.c). */
static int make_socket(const struct net_address *a, int type)
{
    return socket(a->sa.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* What an earlier program left behind may go; a file that is no socket may not. */
static void remove_stale(const struct net_address *a)
{
    struct stat st;
    if (a->path && !lstat(a->path, &st) && S_ISSOCK(st.st_mode))
        unlink(a->path);
}

int net_address_listen(const char *what, const struct net_address *a, GError **error)
{
    int fd = make_socket(a, SOCK_STREAM), one = 1;
    remove_stale(a);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (const struct sockaddr *)&a->sa, a->len) || listen(fd, 1))
        return failed(fd, what, "listen at", a, errno == EADDRINUSE ? " (choose another port, or end who has it)" : "", error);
    return fd;
}

int net_address_connect(const char *what, const struct net_address *a, GError **error)
{
    int fd = make_socket(a, SOCK_STREAM), one = 1, err = 0;
    socklen_t n = sizeof(err);
    bool ok = fd >= 0 && !connect(fd, (const struct sockaddr *)&a->sa, a->len);
    if (fd >= 0 && !ok && errno == EINPROGRESS) {
        struct pollfd p = { fd, POLLOUT, 0 };
        err = poll(&p, 1, CONNECT_MS) == 1 && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) ? err : ETIMEDOUT;
        ok = !err;
        errno = err;
    }
    if (!ok)
        return failed(fd, what, "connect to", a, "; is the other side started?", error);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* not for UNIX sockets, where it fails */
    return fd;
}

int net_address_bind(const char *what, const struct net_address *a, GError **error)
{
    int fd = make_socket(a, SOCK_DGRAM), one = 1;
    remove_stale(a);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (const struct sockaddr *)&a->sa, a->len))
        return failed(fd, what, "take the local address", a, "", error);
    return fd;
}
