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
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/core/chardev_backend.h"

struct pty {
    int master;
    guint timer;
};

static const struct keyval_key no_keys[] = { { NULL } };

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

static bool pty_open(struct chardev *c, const void *opts, GError **error)
{
    int master, slave;
    struct termios t;
    char name[128];
    if (openpty(&master, &slave, NULL, NULL, NULL))
        return vireo_fail_errno(error, errno, "Failed to open a pseudo terminal");
    tcgetattr(slave, &t);
    cfmakeraw(&t);
    tcsetattr(slave, TCSAFLUSH, &t);
    if (ttyname_r(slave, name, sizeof(name)))
        snprintf(name, sizeof(name), "?");
    close(slave);
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

const struct chardev_backend chardev_pty = { "pty", "a new pseudo terminal", no_keys, 0, pty_open, pty_close, pty_hangup };
