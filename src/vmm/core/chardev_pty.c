/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Back end pty: a pseudo terminal that other programs open. While nobody has it open, output is thrown away; a timer
 * looks for somebody, since no event tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/core/chardev_backend.h"

struct pty {
    int master;
    guint timer;
};

struct pty_opts { char *fd; };
static const struct keyval_key pty_keys[] = { { "fd", KV_STRING, offsetof(struct pty_opts, fd), "the master of one that was opened by somebody else" }, { NULL } };

/* seccomp(main): dup */
static gboolean look(gpointer opaque)
{
    struct chardev *c = opaque;
    struct pty *p = c->state;
    struct pollfd pfd = { .fd = p->master, .events = POLLIN };
    if (poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLHUP)) {
        p->timer = 0;
        chardev_connected(c, dup(p->master), dup(p->master), (struct chardev_out_mode){ 0 });
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void pty_hangup(struct chardev *c)
{
    struct pty *p = c->state;
    chardev_disconnected(c);
    if (!p->timer)
        p->timer = g_timeout_add(200, look, c);
}

/* seccomp(main+files): ioctl(TIOCSPTLCK TIOCGPTPEER) */
static int open_master(GError **error)
{
    int master, slave;
    if (!sandbox_has(SANDBOX_FILES)) {
        vireo_fail(error, VIREO_ERROR_PERMISSION, "the sandbox of this process opens no pseudo terminal once the machine is set up; pass its master (QMP getfd, x-fd), or start "
                   "with -sandbox on,files=on");
        return -1;
    }
    if (openpty(&master, &slave, NULL, NULL, NULL)) {
        vireo_fail_errno(error, errno, "Failed to open a pseudo terminal");
        return -1;
    }
    close(slave);
    return master;
}

/* seccomp(main): ioctl(TIOCGPTN TCSETS) fcntl(F_SETFD F_SETFL) */
static bool pty_open(struct chardev *c, const void *opts, GError **error)
{
    const struct pty_opts *o = opts;
    struct termios t;
    char name[128];
    int master = o->fd ? fdset_take(o->fd, error) : open_master(error);
    if (master < 0)
        return false;
    if (ptsname_r(master, name, sizeof(name))) {
        close(master);
        return vireo_fail(error, VIREO_ERROR_INVALID, "File descriptor '%s' is not the master of a pseudo terminal", o->fd ? o->fd : "");
    }
    tcgetattr(master, &t); /* those of the other end */
    cfmakeraw(&t);
    tcsetattr(master, TCSANOW, &t);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(master, F_SETFL, O_NONBLOCK | O_RDWR); /* ours alone: nobody else has this description */
    struct pty *p = g_new0(struct pty, 1);
    p->master = master;
    c->state = p;
    chardev_set_filename(c, g_strdup_printf("pty:%s", name));
    printf("char device redirected to %s (label %s)\n", name, c->id);
    fflush(stdout);
    p->timer = g_timeout_add(200, look, c);
    return true;
}

static void pty_close(struct chardev *c)
{
    struct pty *p = c->state;
    if (p->timer)
        g_source_remove(p->timer);
    close(p->master);
    g_free(p);
}

const struct chardev_backend chardev_pty = { "pty", "a pseudo terminal[,fd=N]", pty_keys, sizeof(struct pty_opts), pty_open, pty_close, pty_hangup };
