/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other programs: mount, lvm, parted, iscsiadm. Never through a shell; their output is bounded. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage.h"

enum { OUTPUT_MAX = 16 << 20 };

/* Where administrators' programs lie, which an ordinary user's PATH may not have. */
static char **environment(void)
{
    char **env = g_get_environ();
    env = g_environ_setenv(env, "LC_ALL", "C", TRUE);
    const char *path = g_environ_getenv(env, "PATH");
    g_autofree char *longer = g_strconcat(path ? path : "/usr/bin:/bin", ":/usr/local/sbin:/usr/sbin:/sbin", NULL);
    return g_environ_setenv(env, "PATH", longer, TRUE);
}

static void pull(int *fd, GString *to)
{
    char buffer[8192];
    ssize_t n = read(*fd, buffer, sizeof(buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        close(*fd);
        *fd = -1;
    } else if (to->len < OUTPUT_MAX) {
        g_string_append_len(to, buffer, n);
    }
}

/* Reads both pipes to their ends. */
static void collect(int out, int err, GString *ret_out, GString *ret_err)
{
    while (out >= 0 || err >= 0) {
        struct pollfd p[2] = { { out, POLLIN, 0 }, { err, POLLIN, 0 } };
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[0].revents)
            pull(&out, ret_out);
        if (p[1].revents)
            pull(&err, ret_err);
    }
}

static bool run(const char *const *argv, const char *input, char **ret_out, char **ret_err, int *ret_status, GError **error)
{
    g_auto(GStrv) env = environment();
    g_autoptr(GString) out = g_string_new(NULL), err = g_string_new(NULL);
    GError *e = NULL;
    GPid pid;
    int in_fd = -1, out_fd, err_fd, status;
    if (!g_spawn_async_with_pipes("/", (char **)argv, env, G_SPAWN_SEARCH_PATH_FROM_ENVP | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, input ? &in_fd : NULL,
                                  &out_fd, &err_fd, &e)) {
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "cannot run '%s': %s", argv[0], e->message);
        g_error_free(e);
        return false;
    }
    if (input) {
        (void)!write(in_fd, input, strlen(input)); /* a few lines: they fit into the pipe */
        close(in_fd);
    }
    collect(out_fd, err_fd, out, err);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    *ret_err = g_utf8_make_valid(g_strstrip(err->str), -1);
    if (ret_out)
        *ret_out = g_utf8_make_valid(out->str, -1);
    return true;
}

bool storage_run_status(const char *const *argv, char **ret_out, int *ret_status, GError **error)
{
    g_autofree char *err = NULL;
    return run(argv, NULL, ret_out, &err, ret_status, error);
}

bool storage_run_with(const char *const *argv, const char *input, char **ret_out, GError **error)
{
    g_autofree char *err = NULL, *out = NULL, *line = g_strjoinv(" ", (char **)argv);
    int status;
    if (!run(argv, input, &out, &err, &status, error))
        return false;
    if (status)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "'%s' failed (exit status %d): %.1000s", line, status, *err ? err : "it said nothing");
    if (ret_out)
        *ret_out = g_steal_pointer(&out);
    return true;
}

bool storage_run(const char *const *argv, char **ret_out, GError **error) { return storage_run_with(argv, NULL, ret_out, error); }
