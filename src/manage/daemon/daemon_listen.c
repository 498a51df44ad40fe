/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sockets: inherited from systemd, or made here. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

void listener_free(gpointer opaque)
{
    struct listener *l = opaque;
    close(l->fd);
    if (l->path)
        unlink(l->path);
    if (l->alias)
        unlink(l->alias);
    g_free(l->path);
    g_free(l->alias);
    g_free(l);
}

static void add(GPtrArray *to, int fd, bool readonly, bool tcp, const char *path)
{
    struct listener *l = g_new0(struct listener, 1);
    *l = (struct listener){ { WATCHED_LISTENER }, fd, readonly, tcp, g_strdup(path), NULL };
    g_ptr_array_add(to, l);
}

/* ---- inherited (sd_listen_fds(3)) ---- */

int daemon_inherited(void)
{
    const char *pid = g_getenv("LISTEN_PID"), *count = g_getenv("LISTEN_FDS");
    int n = pid && count && strtol(pid, NULL, 10) == getpid() ? atoi(count) : 0;
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return CLAMP(n, 0, 64);
}

/* *ret_libvirt: sockets under libvirt's names are among them. */
static void add_inherited(GPtrArray *to, int n, bool *ret_libvirt)
{
    for (int fd = 3; fd < 3 + n; fd++) {
        struct sockaddr_un a = { 0 };
        socklen_t size = sizeof(a);
        if (getsockname(fd, (struct sockaddr *)&a, &size) < 0)
            continue;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        bool tcp = a.sun_family != AF_UNIX;
        *ret_libvirt |= !tcp && strstr(a.sun_path, "/libvirt/");
        add(to, fd, !tcp && g_str_has_suffix(a.sun_path, "-ro"), tcp, NULL);
    }
}

/* ---- UNIX ---- */

static bool address(const char *path, struct sockaddr_un *ret, GError **error)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (g_strlcpy(ret->sun_path, path, sizeof(ret->sun_path)) >= sizeof(ret->sun_path))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the socket's path '%s' is longer than the %zu bytes that the system allows", path, sizeof(ret->sun_path) - 1);
    return true;
}

static bool somebody_listens(const struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool yes = fd >= 0 && (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return yes;
}

static bool set_access(const char *path, mode_t mode, const char *group, GError **error)
{
    if (group && *group) {
        const struct group *g = getgrnam(group);
        if (!g)
            return manage_fail(error, VIR_ERR_CONF_SYNTAX, "unix_sock_group: there is no group '%s'", group);
        if (chown(path, (uid_t)-1, g->gr_gid) < 0)
            return manage_fail_errno(error, errno, "cannot give '%s' to the group '%s'", path, group);
    }
    if (chmod(path, mode) < 0)
        return manage_fail_errno(error, errno, "cannot set the mode of '%s'", path);
    return true;
}

static bool add_unix(GPtrArray *to, const char *path, bool readonly, mode_t mode, const char *group, GError **error)
{
    struct sockaddr_un a;
    if (!address(path, &a, error))
        return false;
    if (somebody_listens(&a))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "another daemon listens on '%s' already: stop it first, or set libvirt_names = 0", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The file gets the descriptor's mode: nobody comes in before it is what it is to be. */
    bool ok = fd >= 0 && fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;
    int err = errno;
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return manage_fail_errno(error, err, "cannot make the socket '%s'", path);
    }
    add(to, fd, readonly, false, path);
    if (!set_access(path, mode, group, error))
        return false;
    if (listen(fd, 1000) < 0)
        return manage_fail_errno(error, errno, "cannot listen on '%s'", path);
    return true;
}

static bool parse_mode(const char *key, const char *text, mode_t *ret, GError **error)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (!*text || *end || mode > 0777)
        return manage_fail(error, VIR_ERR_CONF_SYNTAX, "%s takes an octal mode such as 0770, not '%s'", key, text);
    *ret = (mode_t)mode;
    return true;
}

/* Both sockets of a name in a directory. */
static bool add_pair(GPtrArray *to, const char *dir, const char *name, const struct daemon_config *config, bool privileged, GError **error)
{
    g_autofree char *rw = g_build_filename(dir, name, NULL), *ro = g_strconcat(rw, "-ro", NULL);
    mode_t rw_mode, ro_mode;
    if (!parse_mode("unix_sock_rw_perms", config->unix_sock_rw_perms, &rw_mode, error) || !parse_mode("unix_sock_ro_perms", config->unix_sock_ro_perms, &ro_mode, error))
        return false;
    if (g_mkdir_with_parents(dir, privileged ? 0755 : 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dir);
    const char *group = privileged ? config->unix_sock_group : NULL;
    return add_unix(to, rw, false, privileged ? rw_mode : 0700, group, error) && add_unix(to, ro, true, privileged ? ro_mode : 0700, group, error);
}

/* vireo-sock is a second name of the same socket. */
static void add_alias(const struct listener *l, const char *dir, const char *name, char **ret)
{
    g_autofree char *link = g_build_filename(dir, name, NULL), *target = g_path_get_basename(l->path);
    unlink(link);
    if (symlink(target, link) < 0)
        daemon_log("cannot make '%s': %s", link, g_strerror(errno));
    else
        *ret = g_steal_pointer(&link);
}

/* ---- TCP ---- */

static bool add_address(GPtrArray *to, const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 100) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return false;
    }
    add(to, fd, false, true, NULL);
    return true;
}

static bool add_tcp(GPtrArray *to, const struct daemon_config *config, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_ADDRCONFIG }, *list = NULL;
    if (strcmp(config->auth_tcp, "none"))
        return manage_fail(error, VIR_ERR_CONF_SYNTAX, "TCP gives everybody who reaches %s full access: set auth_tcp = \"none\" in vireod.conf if that is wanted, "
                           "else connect through ssh", config->listen_addr);
    int err = getaddrinfo(*config->listen_addr ? config->listen_addr : NULL, config->tcp_port, &hints, &list);
    if (err)
        return manage_fail(error, VIR_ERR_SYSTEM_ERROR, "cannot find the address '%s', port '%s': %s", config->listen_addr, config->tcp_port, gai_strerror(err));
    bool any = false;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        any |= add_address(to, a);
    if (!any)
        manage_fail_errno(error, errno, "cannot listen on %s, port %s", config->listen_addr, config->tcp_port);
    freeaddrinfo(list);
    return any;
}

/* ---- all ---- */

static char *libvirt_dir(const char *root, bool privileged)
{
    if (root || privileged)
        return g_strconcat(root ? root : "", "/run/libvirt", NULL);
    return g_build_filename(g_get_user_runtime_dir(), "libvirt", NULL);
}

static bool add_own(GPtrArray *to, const struct manage_dirs *dirs, const struct daemon_config *config, bool privileged, GError **error)
{
    if (!add_pair(to, dirs->state, "libvirt-sock", config, privileged, error))
        return false;
    for (guint i = 0; i < to->len; i++) {
        struct listener *l = to->pdata[i];
        add_alias(l, dirs->state, l->readonly ? "vireo-sock-ro" : "vireo-sock", &l->alias);
    }
    return true;
}

static bool add_libvirt_names(GPtrArray *to, const char *root, const struct daemon_config *config, bool privileged, GError **error)
{
    g_autofree char *dir = libvirt_dir(root, privileged);
    return add_pair(to, dir, "libvirt-sock", config, privileged, error) && add_pair(to, dir, "virtqemud-sock", config, privileged, error);
}

GPtrArray *daemon_listen(const struct manage_dirs *dirs, const struct daemon_options *options, const struct daemon_config *config, bool privileged, GError **error)
{
    GPtrArray *to = g_ptr_array_new_with_free_func(listener_free);
    bool libvirt = false;
    add_inherited(to, options->inherited, &libvirt);
    bool ok = to->len > 0 || add_own(to, dirs, config, privileged, error);
    if (ok && config->libvirt_names && !libvirt)
        ok = add_libvirt_names(to, options->root, config, privileged, error);
    if (ok && (options->listen || config->listen_tcp))
        ok = add_tcp(to, config, error);
    if (ok)
        return to;
    g_ptr_array_unref(to);
    return NULL;
}
