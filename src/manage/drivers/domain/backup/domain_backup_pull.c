/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Backups in pull mode: the machine's own NBD server, where clients read the disks as they were at one moment, and bitmaps of what was written since a checkpoint. The daemon
 * makes the listening socket, so that a machine in its sandbox need not be able to, and that what is wrong with the address is said here.
 */
#include "manage/drivers/domain/backup/domain_backup.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/drivers/domain/stats/domain_stats.h"

enum { NBD_PORT = 10809, BACKLOG = 16 };

bool domain_backup_check_server(struct el *root, GError **error)
{
    struct el *s = el_find(root, "server");
    if (!s)
        return manage_fail(error, VIR_ERR_XML_ERROR, "a backup in pull mode needs a <server> with name and port, or with transport='unix' and socket");
    if (el_is(s, "@tls", "yes"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the server of a backup has no TLS here: use a UNIX socket, or a tunnel");
    if (!el_get(s, "@transport"))
        el_set(s, "@transport", "tcp");
    bool tcp = el_is(s, "@transport", "tcp");
    const char *lacks = tcp ? "name" : "socket", *path = el_get(s, "@socket");
    if (!el_get(s, tcp ? "@name" : "@socket"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<server transport='%s'> needs the attribute '%s'", el_get(s, "@transport"), lacks);
    if (!tcp && strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the socket's path '%s' is longer than %zu bytes", path, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    if (tcp && !el_get(s, "@port"))
        el_setf(s, "@port", "%d", NBD_PORT);
    return true;
}

/* ---- the socket ---- */

/* Nobody listens there any more. */
static bool is_dead(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    bool dead = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return dead;
}

static int listen_unix(const char *path, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (is_dead(path))
        unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    /* A guest's data is not for everybody: the file gets the socket's mode. */
    if (fd >= 0 && !fchmod(fd, 0600) && !bind(fd, (struct sockaddr *)&a, sizeof(a)) && !listen(fd, BACKLOG))
        return fd;
    int err = errno;
    if (fd >= 0)
        close(fd);
    if (err == EADDRINUSE)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the backup's server cannot listen on '%s': the file is there already%s", path,
                    g_file_test(path, G_FILE_TEST_EXISTS) ? " and is in use, or is no socket" : "");
    else
        manage_fail_errno(error, err, "the backup's server cannot listen on '%s'", path);
    return -1;
}

static int listen_tcp(const char *name, const char *port, GError **error)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *all = NULL;
    int found = getaddrinfo(name, port, &hints, &all), err = EADDRNOTAVAIL, fd = -1, one = 1;
    if (found)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the address '%s' of the backup's server is not known: %s", name, gai_strerror(found)), -1;
    for (const struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) && !bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, BACKLOG))
            break;
        err = errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(all);
    if (fd < 0)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the backup's server cannot listen on '%s' port %s: %s", name, port, g_strerror(err));
    return fd;
}

static char *socket_of(struct domain *d)
{
    g_mutex_lock(&d->lock);
    char *path = d->backup ? g_strdup(el_get(doc_root(d->backup->doc), "server/@socket")) : NULL;
    g_mutex_unlock(&d->lock);
    return path;
}

void domain_backup_remove_socket(struct domain *d)
{
    g_autofree char *path = socket_of(d);
    if (path && is_dead(path)) /* it may be another's by now */
        unlink(path);
}

/* ---- the server ---- */

/* The machine lets go of a socket that it has been given and does not use. */
static void close_unused(struct domain *d)
{
    struct json_object *args = json_object_new_object();
    js_set(args, "fdname", "backup-server");
    (void)!domain_command_run(d, "closefd", args, NULL);
}

static bool start(struct domain *d, int fd, GError **error)
{
    struct json_object *args = json_object_new_object(), *addr = json_object_new_object(), *data = json_object_new_object();
    js_set(args, "fdname", "backup-server");
    struct json_object *o = monitor_command_fds(d, "getfd", args, &fd, 1, error);
    json_object_put(o);
    js_set(data, "str", "backup-server");
    js_set(addr, "type", "fd");
    json_object_object_add(addr, "data", data);
    args = json_object_new_object();
    json_object_object_add(args, "addr", addr);
    if (o && domain_command_run(d, "nbd-server-start", args, error))
        return true;
    if (!o)
        json_object_put(args);
    close_unused(d);
    return false;
}

bool domain_backup_serve(struct domain *d, const struct el *root, GError **error)
{
    const struct el *s = el_find(root, "server");
    int fd = el_is(s, "@transport", "unix") ? listen_unix(el_get(s, "@socket"), error) : listen_tcp(el_get(s, "@name"), el_get(s, "@port"), error);
    if (fd < 0)
        return false;
    bool ok = start(d, fd, error);
    close(fd);
    return ok;
}

bool domain_backup_export(struct domain *d, const struct el *spec, GError **error)
{
    struct json_object *args = json_object_new_object();
    g_autofree char *node = g_strdup_printf("libvirt-%s-format", el_get(spec, "@index")), *id = g_strdup_printf("libvirt-nbd-%s", node);
    js_set(args, "type", "nbd");
    js_set(args, "id", id);
    js_set(args, "node-name", node);
    js_set(args, "name", el_get(spec, "@exportname"));
    js_bool(args, "writable", false);
    if (el_is(spec, "@backupmode", "incremental")) {
        g_autofree char *own = g_strdup_printf("backup-%s", el_get(spec, "@name"));
        struct json_object *bitmaps = json_object_new_array();
        json_object_array_add(bitmaps, json_object_new_string(el_get_or(spec, "@exportbitmap", own)));
        json_object_object_add(args, "bitmaps", bitmaps);
    }
    return domain_command_run(d, "block-export-add", args, error);
}

void domain_backup_close(struct domain *d)
{
    json_object_put(monitor_command(d, "nbd-server-stop", NULL, NULL)); /* one that does not run is no error */
    close_unused(d); /* of a daemon that was killed in between */
    domain_backup_remove_socket(d);
}
