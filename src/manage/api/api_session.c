/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's daemon is started by the first client that finds none, and ends when it has had no client for two minutes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "manage/api/api_transport.h"

#define WAIT_STEP (50 * 1000)
#define WAIT_STEPS 200 /* ten seconds */

static void own_session(gpointer opaque)
{
    setsid();
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
    }
}

static bool spawn(GError **error)
{
    g_autofree char *program = manage_find_daemon();
    char *argv[] = { program, (char *)"--timeout=120", NULL };
    g_autoptr(GError) inner = NULL;
    if (g_spawn_async(NULL, argv, NULL, G_SPAWN_DEFAULT, own_session, NULL, NULL, &inner))
        return true;
    return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "cannot start the session's daemon '%s': %s; VIREOD_PATH names another, LIBVIRT_AUTOSTART=0 starts none", program,
                       inner->message);
}

/* One client at a time starts it; the others find it running when they get the lock. */
static int lock(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "vireod.lock", NULL);
    if (g_mkdir_with_parents(dir, 0700) < 0) {
        manage_fail_errno(error, errno, "cannot make directory '%s' for the session's daemon", dir);
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        manage_fail_errno(error, errno, "cannot lock '%s'", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

struct rpc_client *api_session_start(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = lock(dir, error);
    if (fd < 0)
        return NULL;
    struct rpc_client *c = rpc_client_unix(path, NULL);
    bool good = c || spawn(error);
    for (unsigned i = 0; good && !c && i < WAIT_STEPS; i++) {
        g_usleep(WAIT_STEP);
        c = rpc_client_unix(path, NULL);
    }
    close(fd);
    if (good && !c)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "the session's daemon was started but does not answer on '%s'; try 'vireod --verbose'", path);
    return c;
}
