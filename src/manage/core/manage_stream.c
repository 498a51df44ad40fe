/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stream over a descriptor: consoles, channels, pipes. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "manage/core/manage.h"

struct fd_stream {
    int fd, cancel; /* cancel: an eventfd, readable for good once the stream is cancelled */
};

/* Waits until the descriptor is ready; false: cancelled. */
static bool ready(struct fd_stream *f, short events)
{
    struct pollfd p[2] = { { f->fd, events, 0 }, { f->cancel, POLLIN, 0 } };
    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    return !p[1].revents;
}

static gssize fd_read(void *o, void *buffer, gsize size, int64_t *ret_hole, GError **error)
{
    struct fd_stream *f = o;
    for (;;) {
        if (!ready(f, POLLIN))
            return 0;
        ssize_t n = read(f->fd, buffer, size);
        if (n >= 0)
            return n;
        if (errno == EIO) /* the other side of a pty has gone */
            return 0;
        if (errno != EAGAIN && errno != EINTR) {
            manage_fail_errno(error, errno, "cannot read from the stream");
            return -1;
        }
    }
}

static bool fd_write(void *o, const void *data, gsize size, GError **error)
{
    struct fd_stream *f = o;
    for (gsize at = 0; at < size;) {
        if (!ready(f, POLLOUT))
            return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the stream was closed");
        ssize_t n = write(f->fd, (const char *)data + at, size - at);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return manage_fail_errno(error, errno, "cannot write to the stream");
        at += n > 0 ? (gsize)n : 0;
    }
    return true;
}

static void fd_cancel(void *o)
{
    struct fd_stream *f = o;
    uint64_t one = 1;
    (void)!write(f->cancel, &one, sizeof(one));
}

static void fd_free(void *o)
{
    struct fd_stream *f = o;
    close(f->fd);
    close(f->cancel);
    g_free(f);
}

void manage_call_stream_fd(struct manage_call *c, int fd)
{
    static const struct manage_stream_ops ops = { .read = fd_read, .write = fd_write, .cancel = fd_cancel, .free = fd_free };
    struct fd_stream *f = g_new0(struct fd_stream, 1);
    f->fd = fd;
    f->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    manage_call_stream(c, &ops, f, false);
}
