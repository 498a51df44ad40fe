/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The content of a volume over a stream: upload and download, from an offset, up to a length, with holes where the client knows of them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "storage.h"

struct transfer {
    struct storage_job *job;
    char *name;
    int fd;
    bool device;
    uint64_t at, end;  /* end: UINT64_MAX: the end of the volume */
    uint64_t data_end; /* of the piece of data that `at` is in; sparse downloads */
    bool sparse, grown; /* grown: a hole at the end is still to be made */
    gint cancelled, over;
};

/* The volume is free for others: when the client hears that the stream has ended, it may delete it. Any thread. */
static void let_go(struct transfer *t)
{
    if (!g_atomic_int_compare_and_exchange(&t->over, 0, 1))
        return;
    storage_volume_let_go(t->job->pool, t->name);
    storage_job_over(t->job);
}

static bool goes_on(const struct transfer *t, GError **error)
{
    if (g_atomic_int_get(&t->cancelled))
        return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the transfer of volume '%s' was given up", t->name);
    return storage_job_goes_on(t->job, error);
}

/* Sparse: a hole at `at`? Then *ret_hole, else data_end. */
static bool find_hole(struct transfer *t, int64_t *ret_hole)
{
    off_t size = lseek(t->fd, 0, SEEK_END);
    uint64_t end = MIN(t->end, (uint64_t)MAX(size, 0));
    off_t data = t->at < end ? lseek(t->fd, (off_t)t->at, SEEK_DATA) : -1;
    if (t->at >= end || (data < 0 && errno != ENXIO)) {
        t->data_end = UINT64_MAX; /* no holes here, or nothing left */
        return false;
    }
    uint64_t next = data < 0 ? end : MIN((uint64_t)data, end);
    if (next > t->at) {
        *ret_hole = (int64_t)(next - t->at);
        t->at = next;
        return true;
    }
    off_t hole = lseek(t->fd, data, SEEK_HOLE);
    t->data_end = hole < 0 ? UINT64_MAX : (uint64_t)hole;
    return false;
}

static gssize read_piece(struct transfer *t, void *buffer, gsize size, int64_t *ret_hole, GError **error)
{
    if (!goes_on(t, error))
        return -1;
    if (t->sparse && !t->device && t->at >= t->data_end && find_hole(t, ret_hole))
        return 0;
    uint64_t left = MIN(t->end, t->data_end) > t->at ? MIN(t->end, t->data_end) - t->at : 0;
    if (!t->sparse || t->device)
        left = t->end > t->at ? t->end - t->at : 0;
    if (!left)
        return 0;
    for (;;) {
        ssize_t n = pread(t->fd, buffer, MIN(size, left), (off_t)t->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            manage_fail_errno(error, errno, "cannot read volume '%s'", t->name);
            return -1;
        }
        t->at += (uint64_t)n;
        return n;
    }
}

/* All has been read: go-libvirt finishes no download, and may delete the volume next. */
static gssize transfer_read(void *o, void *buffer, gsize size, int64_t *ret_hole, GError **error)
{
    gssize n = read_piece(o, buffer, size, ret_hole, error);
    if (n == 0 && *ret_hole == 0)
        let_go(o);
    return n;
}

static bool fits(struct transfer *t, uint64_t size, GError **error)
{
    if (size > t->end || t->at > t->end - size)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "more data came for volume '%s' than the length that was said", t->name);
    return true;
}

static bool transfer_write(void *o, const void *data, gsize size, GError **error)
{
    struct transfer *t = o;
    if (!fits(t, size, error))
        return false;
    for (gsize done = 0; done < size;) {
        if (!goes_on(t, error))
            return false;
        ssize_t n = pwrite(t->fd, (const char *)data + done, size - done, (off_t)t->at);
        if (n < 0 && errno != EINTR)
            return manage_fail_errno(error, errno, "cannot write volume '%s'", t->name);
        done += n > 0 ? (gsize)n : 0;
        t->at += n > 0 ? (uint64_t)n : 0;
    }
    t->grown = false;
    return true;
}

static bool write_zeroes(struct transfer *t, uint64_t length, GError **error)
{
    static char zeroes[1 << 16]; /* never written; not const, so that it is no part of the program's file */
    while (length) {
        gsize n = MIN(length, sizeof(zeroes));
        if (!transfer_write(t, zeroes, n, error))
            return false;
        length -= n;
    }
    return true;
}

static bool transfer_hole(void *o, int64_t length, GError **error)
{
    struct transfer *t = o;
    if (length < 0 || !fits(t, (uint64_t)length, error))
        return length >= 0 ? false : manage_fail(error, VIR_ERR_INVALID_ARG, "a hole of negative length");
    if (t->device)
        return write_zeroes(t, (uint64_t)length, error);
    if (length && fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)t->at, length) < 0)
        return write_zeroes(t, (uint64_t)length, error);
    t->at += (uint64_t)length;
    t->grown = true;
    return true;
}

/* What ends with a hole gets its size here. */
static bool transfer_finish(void *o, GError **error)
{
    struct transfer *t = o;
    struct stat st;
    if (t->grown && !t->device && fstat(t->fd, &st) == 0 && (uint64_t)st.st_size < t->at && ftruncate(t->fd, (off_t)t->at) < 0)
        return manage_fail_errno(error, errno, "cannot write volume '%s'", t->name);
    bool wrote = (fcntl(t->fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
    if (wrote && fdatasync(t->fd) < 0 && errno != EINVAL)
        return manage_fail_errno(error, errno, "cannot write volume '%s'", t->name);
    if (wrote) /* it may be an image of another format now */
        storage_volume_look_again(t->job->pool, t->name);
    let_go(t);
    return true;
}

static void transfer_cancel(void *o)
{
    struct transfer *t = o;
    g_atomic_int_set(&t->cancelled, 1);
    let_go(t);
}

static void transfer_free(void *o)
{
    struct transfer *t = o;
    bool wrote = (fcntl(t->fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
    close(t->fd);
    let_go(t);
    if (wrote)
        storage_pool_refreshed(t->job->pool);
    storage_job_end(t->job);
    g_free(t->job);
    g_free(t->name);
    g_free(t);
}

static bool check_range(int fd, const struct stat *st, const struct storage_volume *v, uint64_t offset, uint64_t length, bool upload, GError **error)
{
    off_t end = lseek(fd, 0, SEEK_END);
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "volume '%s' is neither a file nor a device", v->name);
    if (end >= 0 && offset > (uint64_t)end)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "offset %" G_GUINT64_FORMAT " lies beyond the end of volume '%s' (%lld bytes)", offset, v->name, (long long)end);
    if (end >= 0 && length && !upload && length > (uint64_t)end - offset)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "offset and length reach beyond the end of volume '%s' (%lld bytes)", v->name, (long long)end);
    return true;
}

bool storage_stream_open(struct manage_call *c, struct storage_job *j, struct storage_volume *v, bool upload, uint64_t offset, uint64_t length, bool sparse, GError **error)
{
    static const struct manage_stream_ops down = { .read = transfer_read, .finish = transfer_finish, .cancel = transfer_cancel, .free = transfer_free };
    static const struct manage_stream_ops up = { .write = transfer_write, .hole = transfer_hole, .finish = transfer_finish, .cancel = transfer_cancel, .free = transfer_free };
    struct stat st;
    int fd = open(v->target.path, (upload ? O_WRONLY : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return manage_fail_errno(error, errno, "cannot open '%s'", v->target.path);
    if (fstat(fd, &st) < 0 || !check_range(fd, &st, v, offset, length, upload, error)) {
        close(fd);
        return false;
    }
    struct transfer *t = g_new0(struct transfer, 1);
    *t = (struct transfer){ .job = j, .name = g_strdup(v->name), .fd = fd, .device = S_ISBLK(st.st_mode), .at = offset,
                            .end = length ? offset + length : UINT64_MAX, .sparse = sparse };
    manage_call_stream(c, upload ? &up : &down, t, sparse);
    return true;
}
