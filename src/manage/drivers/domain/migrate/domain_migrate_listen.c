/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a destination waits for a machine's state. The daemon listens and hands the first connection to the machine: one in its sandbox makes no sockets, and nobody else can
 * connect once the source has. A machine that takes several connections (--parallel) listens itself.
 */
#include <errno.h>
#include <json-c/json.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"

enum { PORT_FIRST = 49152, PORT_LAST = 49215, N_PORTS = PORT_LAST - PORT_FIRST + 1, BACKLOG = 16, LOOK_MS = 100 };

/* ---- sockets ---- */

int migrate_listen_tcp(const char *host, unsigned port, int *ret_err)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *all = NULL;
    g_autofree char *service = g_strdup_printf("%u", port);
    int fd = -1, on = 1, off = 0;
    *ret_err = EADDRNOTAVAIL;
    if (getaddrinfo(host, service, &hints, &all))
        return -1;
    for (unsigned v6 = 0; v6 < 2 && fd < 0; v6++) /* without a host: one IPv6 socket for both, where there is IPv6 */
        for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
            if ((a->ai_family == AF_INET6) == (v6 == 1) && !host)
                continue;
            fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (fd >= 0 && a->ai_family == AF_INET6 && !host)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
            if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) && !bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, BACKLOG))
                break;
            *ret_err = errno;
            if (fd >= 0)
                close(fd);
            fd = -1;
        }
    freeaddrinfo(all);
    return fd;
}

int migrate_listen_somewhere(struct domain_driver *dr, const char *host, unsigned *port, GError **error)
{
    int err = 0, fd = -1;
    unsigned first = (unsigned)g_atomic_int_add(&dr->next_port, 1); /* goes round: two that begin at once seldom want the same */
    if (*port)
        fd = migrate_listen_tcp(host, *port, &err);
    for (unsigned i = 0; !*port && fd < 0 && i < N_PORTS; i++) {
        unsigned at = PORT_FIRST + (first + i) % N_PORTS;
        fd = migrate_listen_tcp(host, at, &err);
        if (fd >= 0)
            *port = at;
    }
    if (fd < 0)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "cannot listen for a migration on '%s': %s", host ? host : "*", g_strerror(err));
    return fd;
}

static int listen_unix(const char *path, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    /* A guest's memory is not for everybody: the file gets the socket's mode. */
    if (fd >= 0 && !fchmod(fd, 0600) && !bind(fd, (struct sockaddr *)&a, sizeof(a)) && !listen(fd, BACKLOG))
        return fd;
    manage_fail_errno(error, errno, "cannot listen for a migration on '%s'", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- the first who comes ---- */

struct waiting {
    struct domain *d;
    const struct domain_run *run; /* compared, never followed */
    int fd;
    char *path; /* of a UNIX socket, to be removed; NULL */
};

static bool still_waits(const struct waiting *w)
{
    g_mutex_lock(&w->d->lock);
    bool yes = w->d->run == w->run && w->d->run && !w->d->run->ending && w->d->migration && w->d->migration->phase == MIGRATION_PREPARED;
    g_mutex_unlock(&w->d->lock);
    return yes && !g_atomic_int_get(&w->d->driver->stopping);
}

static struct json_object *word(const char *key, const char *value)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, key, json_object_new_string(value));
    return o;
}

static void hand_over(struct domain *d, int fd)
{
    g_autoptr(GError) error = NULL;
    struct json_object *o = monitor_command_fds(d, "getfd", word("fdname", "incoming"), &fd, 1, &error);
    json_object_put(o);
    o = o ? monitor_command(d, "migrate-incoming", word("uri", "fd:incoming"), &error) : NULL;
    if (!o) {
        g_autofree char *text = g_strdup_printf("the machine does not take its state: %s", error->message);
        domain_log(d, text);
    }
    json_object_put(o);
}

/* A thread of its own for as long as the machine waits. */
static gpointer wait_for_source(gpointer opaque)
{
    struct waiting *w = opaque;
    struct pollfd p = { w->fd, POLLIN, 0 };
    int fd = -1;
    while (still_waits(w) && (poll(&p, 1, LOOK_MS) <= 0 || (fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC)) < 0))
        ;
    close(w->fd);
    if (w->path)
        unlink(w->path);
    if (fd >= 0) {
        if (still_waits(w))
            hand_over(w->d, fd);
        close(fd);
    }
    struct domain_driver *dr = w->d->driver;
    domain_unref(w->d);
    g_free(w->path);
    g_free(w);
    g_atomic_int_add(&dr->acceptors, -1);
    return NULL;
}

static void wait_there(struct domain *d, int fd, const char *path)
{
    struct waiting *w = g_new(struct waiting, 1);
    *w = (struct waiting){ domain_ref(d), d->run, fd, g_strdup(path) };
    g_atomic_int_inc(&d->driver->acceptors);
    g_thread_unref(g_thread_new("migrate", wait_for_source, w));
}

void migrate_listen_stop(struct domain_driver *dr)
{
    while (g_atomic_int_get(&dr->acceptors))
        g_usleep(LOOK_MS * 100);
}

/* ---- addresses ---- */

/* As an address in a URI. */
static char *bracketed(const char *host) { return strchr(host, ':') ? g_strdup_printf("[%s]", host) : g_strdup(host); }

/* A machine that listens itself, where we have just seen that it can. */
static bool listens_itself(struct domain *d, const char *listen, unsigned port, int fd, GError **error)
{
    g_autofree char *address = bracketed(listen ? listen : "0.0.0.0"), *uri = g_strdup_printf("tcp:%s:%u", address, port);
    close(fd);
    struct json_object *o = monitor_command(d, "migrate-incoming", word("uri", uri), error);
    json_object_put(o);
    return o != NULL;
}

bool migrate_listen(struct domain *d, const struct migrate_args *a, char **ret_uri, GError **error)
{
    g_autofree char *host = NULL;
    unsigned port = 0;
    bool local = false;
    if (a->uri && !migrate_uri_parse(a->uri, &host, &port, &local, error))
        return false;
    if (local && (a->flags & VIR_MIGRATE_PARALLEL))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "several connections are made over TCP alone: the destination's address must be tcp://HOST");
    if (!host && g_str_has_prefix(g_get_host_name(), "localhost"))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "hostname on destination resolved to localhost, but migration requires an FQDN; name one with --migrateuri tcp://HOST");
    int fd = local ? listen_unix(host, error) : migrate_listen_somewhere(d->driver, a->listen, &port, error);
    if (fd < 0)
        return false;
    g_autofree char *named = local ? NULL : bracketed(host ? host : g_get_host_name());
    *ret_uri = local ? g_strdup(a->uri) : g_strdup_printf("tcp:%s:%u", named, port);
    if (a->flags & VIR_MIGRATE_PARALLEL)
        return listens_itself(d, a->listen, port, fd, error);
    wait_there(d, fd, local ? host : NULL);
    return true;
}
