/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Transports: a UNIX socket, TCP, or the standard input and output of a program (ssh, or any that ?command= names). Schemes say whose socket is looked
 * for first: vireo: that of vireod, others (qemu, ...) that of libvirtd; the other one is taken where the first is not there.
 */
#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_transport.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- sockets of this host ---- */

/* Root has no session: both paths mean the system's daemon. */
static bool is_session(const struct rpc_uri *u) { return geteuid() && !g_str_has_prefix(u->path, "/system"); }

/* Where sockets may be, most wanted first. */
static GPtrArray *candidates(const struct rpc_uri *u, bool readonly)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    bool session = is_session(u), ours = !strcmp(u->driver, "vireo") || !strcmp(u->driver, "remote");
    const char *suffix = readonly && !session ? "-ro" : "", *mode = rpc_uri_query(u, "mode");
    const char *base = session ? g_get_user_runtime_dir() : "/run";
    g_autofree char *vireo = g_strdup_printf("%s/vireo/libvirt-sock%s", base, suffix);
    g_autofree char *direct = g_strdup_printf("%s/libvirt/virt%sd-sock%s", base, ours ? "qemu" : u->driver, suffix);
    g_autofree char *legacy = g_strdup_printf("%s/libvirt/libvirt-sock%s", base, suffix);
    if (ours)
        g_ptr_array_add(out, g_strdup(vireo));
    if (!mode || strcmp(mode, "legacy"))
        g_ptr_array_add(out, g_strdup(direct));
    if (!mode || strcmp(mode, "direct"))
        g_ptr_array_add(out, g_strdup(legacy));
    if (!ours)
        g_ptr_array_add(out, g_strdup(vireo));
    return out;
}

static struct rpc_client *connect_local(const struct rpc_uri *u, bool readonly, rpc_transport_start start_session, GError **error)
{
    const char *named = rpc_uri_query(u, "socket");
    if (named)
        return rpc_client_unix(named, error);
    g_autoptr(GPtrArray) paths = candidates(u, readonly);
    g_autoptr(GError) first = NULL;
    for (unsigned i = 0; i < paths->len; i++) {
        GError *inner = NULL;
        struct rpc_client *c = rpc_client_unix(paths->pdata[i], &inner);
        if (c)
            return c;
        if (!first)
            first = inner;
        else
            g_error_free(inner);
    }
    const char *start = g_getenv("LIBVIRT_AUTOSTART");
    if (start_session && is_session(u) && (!start || strcmp(start, "0"))) {
        g_autofree char *path = g_build_filename(g_get_user_runtime_dir(), "vireo", "libvirt-sock", NULL);
        return start_session(path, error);
    }
    manage_fail(error, manage_error_code(first), "%s; is vireod running? (systemctl start vireod)", first->message);
    return NULL;
}

/* ---- programs ---- */

/* In the child, between fork and exec. */
static void own_session(gpointer opaque) { setsid(); }

/* Its standard input and output become one connected socket. */
static struct rpc_client *connect_program(char **argv, GError **error)
{
    int pair[2];
    GPid pid;
    g_autoptr(GError) inner = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        manage_fail_errno(error, errno, "cannot make a socket for '%s'", argv[0]);
        return NULL;
    }
    bool started = g_spawn_async_with_fds(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, own_session, NULL, &pid, pair[1], pair[1], -1, &inner);
    close(pair[1]);
    if (started)
        return rpc_client_fd(pair[0]);
    close(pair[0]);
    manage_fail(error, VIR_ERR_SYSTEM_ERROR, "cannot start '%s': %s", argv[0], inner->message);
    return NULL;
}

/* What runs on the other host: the helper where it is installed, else a netcat that speaks UNIX sockets. */
static char *remote_command(const struct rpc_uri *u, bool readonly)
{
    const char *netcat = rpc_uri_query(u, "netcat"), *socket = rpc_uri_query(u, "socket");
    g_autoptr(GPtrArray) paths = candidates(u, readonly);
    GString *s = g_string_new(NULL);
    g_autofree char *nc = g_shell_quote(netcat ? netcat : "nc");
    if (!socket && !netcat)
        g_string_append_printf(s, "if command -v virt-ssh-helper >/dev/null 2>&1 && ! [ -S /run/vireo/libvirt-sock ]; then exec virt-ssh-helper %s'%s'; fi; ",
                               readonly ? "-r " : "", u->remote);
    for (unsigned i = 0; !socket && i < paths->len && g_str_has_prefix(u->path, "/system"); i++)
        g_string_append_printf(s, "[ -S %s ] && exec %s -U %s; ", (char *)paths->pdata[i], nc, (char *)paths->pdata[i]);
    g_autofree char *quoted = g_shell_quote(socket ? socket : "/run/libvirt/libvirt-sock");
    g_string_append_printf(s, "exec %s -U %s", nc, quoted);
    g_autofree char *script = g_string_free(s, FALSE), *as_word = g_shell_quote(script);
    return g_strdup_printf("sh -c %s", as_word);
}

static struct rpc_client *connect_ssh(const struct rpc_uri *u, bool readonly, GError **error)
{
    const char *command = rpc_uri_query(u, "command"), *key = rpc_uri_query(u, "keyfile"), *no_tty = rpc_uri_query(u, "no_tty"),
               *no_verify = rpc_uri_query(u, "no_verify");
    if (!u->host)
        return manage_null(error, VIR_ERR_INVALID_ARG, "URI '%s' names no host: %s+ssh://HOST/system", u->text, u->driver);
    if (*u->host == '-' || (u->user && *u->user == '-')) /* would be an option of ssh */
        return manage_null(error, VIR_ERR_INVALID_ARG, "'%s' is no name of a host or user", *u->host == '-' ? u->host : u->user);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup(command ? command : "ssh"));
    if (u->port)
        g_ptr_array_add(argv, g_strdup_printf("-p%d", u->port));
    if (u->user)
        g_ptr_array_add(argv, g_strdup_printf("-l%s", u->user));
    if (key)
        g_ptr_array_add(argv, g_strdup_printf("-i%s", key));
    if (no_tty && strcmp(no_tty, "0"))
        g_ptr_array_add(argv, g_strdup("-oBatchMode=yes"));
    if (no_verify && strcmp(no_verify, "0"))
        g_ptr_array_add(argv, g_strdup("-oStrictHostKeyChecking=no"));
    const char *const rest[] = { "-T", "-e", "none", "--", u->host };
    for (unsigned i = 0; i < G_N_ELEMENTS(rest); i++)
        g_ptr_array_add(argv, g_strdup(rest[i]));
    g_ptr_array_add(argv, remote_command(u, readonly));
    g_ptr_array_add(argv, NULL);
    return connect_program((char **)argv->pdata, error);
}

static struct rpc_client *connect_ext(const struct rpc_uri *u, GError **error)
{
    const char *command = rpc_uri_query(u, "command");
    if (!command)
        return manage_null(error, VIR_ERR_INVALID_ARG, "URI '%s' names no program: add ?command=/path/of/it", u->text);
    char *argv[] = { (char *)command, NULL };
    return connect_program(argv, error);
}

struct rpc_client *rpc_transport_connect(const struct rpc_uri *u, bool readonly, rpc_transport_start start_session, bool *ret_local, bool *ret_encrypted, GError **error)
{
    const char *t = u->transport ? u->transport : u->host ? "tls" : "unix";
    g_autofree char *port = u->port ? g_strdup_printf("%d", u->port) : NULL;
    *ret_local = !strcmp(t, "unix");
    *ret_encrypted = !strcmp(t, "ssh") || !strcmp(t, "libssh2") || !strcmp(t, "libssh");
    if (*ret_local && u->host)
        return manage_null(error, VIR_ERR_INVALID_ARG, "URI '%s': a UNIX socket is on this host, leave out '%s'", u->text, u->host);
    if (*ret_local)
        return connect_local(u, readonly, start_session, error);
    if (!strcmp(t, "tcp"))
        return rpc_client_tcp(u->host ? u->host : "localhost", port, error);
    if (*ret_encrypted)
        return connect_ssh(u, readonly, error);
    if (!strcmp(t, "ext"))
        return connect_ext(u, error);
    return manage_null(error, VIR_ERR_INVALID_ARG, "URI '%s': transport '%s' is not supported; there are unix, ssh, tcp and ext (as in %s+ssh://%s/system)", u->text, t,
                       u->driver, u->host ? u->host : "HOST");
}
