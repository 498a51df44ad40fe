/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Short runs of other programs (nft, tc, dnsmasq until it is in the background). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/core/manage_run.h"

#define RUN_MS 20000
#define RUN_OUTPUT 4096 /* of what it says, for the error */

/* sbin is not in everybody's path. */
static char *find_program(const char *name)
{
    char *found = g_find_program_in_path(name);
    static const char *const dirs[] = { "/usr/sbin/", "/sbin/", "/usr/local/sbin/" };
    for (unsigned i = 0; !found && i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = g_strconcat(dirs[i], name, NULL);
        if (access(path, X_OK) == 0)
            found = g_steal_pointer(&path);
    }
    return found;
}

/* One round of reading: false at the end of file. Keeps the first RUN_OUTPUT bytes. */
static bool read_some(int fd, GString *said)
{
    char buffer[1024];
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n > 0 && said->len < RUN_OUTPUT)
        g_string_append_len(said, buffer, n);
    return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static bool write_some(int fd, const char **input)
{
    ssize_t n = write(fd, *input, strlen(*input));
    if (n > 0)
        *input += n;
    return **input && (n > 0 || errno == EINTR || errno == EAGAIN);
}

/* Feeds and reads until the process has ended (a daemon that it leaves behind may keep the pipe) or time is up. */
static bool attend(int pidfd, int in, int out, const char *input, GString *said)
{
    gint64 end = g_get_monotonic_time() + RUN_MS * 1000LL;
    bool reading = true, writing = true;
    while (g_get_monotonic_time() < end) {
        if (writing && !*input) {
            close(in);
            writing = false;
        }
        struct pollfd p[3] = { { pidfd, POLLIN, 0 }, { reading ? out : -1, POLLIN, 0 }, { writing ? in : -1, POLLOUT, 0 } };
        if (poll(p, 3, (int)((end - g_get_monotonic_time()) / 1000) + 1) < 0 && errno != EINTR)
            break;
        if (p[2].revents && !write_some(in, &input)) {
            close(in);
            writing = false;
        }
        if (p[1].revents)
            reading = read_some(out, said);
        else if (p[0].revents)
            break; /* it has ended and all it said has been read */
    }
    if (writing)
        close(in);
    struct pollfd ended = { pidfd, POLLIN, 0 };
    return poll(&ended, 1, 0) == 1;
}

bool manage_run(const char *const *argv, const char *input, GError **error)
{
    g_autofree char *path = find_program(argv[0]);
    if (!path)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the program '%s' is not there: install it", argv[0]);
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    g_ptr_array_add(args, path);
    for (unsigned i = 1; argv[i]; i++)
        g_ptr_array_add(args, (gpointer)argv[i]);
    g_ptr_array_add(args, NULL);
    GPid pid;
    int in, out;
    g_autoptr(GError) spawn = NULL;
    if (!g_spawn_async_with_pipes("/", (char **)args->pdata, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, &pid, &in, NULL, &out,
                                  &spawn))
        return manage_fail(error, VIR_ERR_SYSTEM_ERROR, "cannot run '%s': %s", path, spawn->message);
    g_autoptr(GString) said = g_string_new(NULL);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), status = 0;
    bool ended = attend(pidfd, in, out, input ? input : "", said);
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(pidfd);
    close(out);
    g_strchomp(said->str);
    g_strchug(said->str);
    if (!ended)
        return manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "'%s' did not end within %d s: %s", path, RUN_MS / 1000, said->str);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "'%s' failed with %s %d: %s", path, WIFEXITED(status) ? "exit status" : "signal",
                           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), *said->str ? said->str : "it said nothing");
    return true;
}
