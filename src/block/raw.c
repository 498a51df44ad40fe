/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw images: bytes of the disk are bytes of the file. Runs on worker threads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/block_private.h"

#define BOUNCE_MAX (1u << 20)

struct cursor { /* a place in an iovec */
    const struct iovec *iov;
    int n;
    size_t skip;
};

/* The next vectors of at most `left` bytes; returns how many vectors, and their bytes. */
static int cursor_fill(const struct cursor *c, struct iovec *ret, int max, uint64_t left, uint64_t *ret_bytes)
{
    int n = 0;
    size_t skip = c->skip;
    *ret_bytes = 0;
    for (int i = 0; i < c->n && n < max && left; i++) {
        size_t part = MIN(c->iov[i].iov_len - skip, left);
        if (part)
            ret[n++] = (struct iovec){ (char *)c->iov[i].iov_base + skip, part };
        *ret_bytes += part;
        left -= part;
        skip = 0;
    }
    return n;
}

static void cursor_advance(struct cursor *c, uint64_t bytes)
{
    while (c->n && bytes >= c->iov->iov_len - c->skip) {
        bytes -= c->iov->iov_len - c->skip;
        c->skip = 0;
        c->iov++;
        c->n--;
    }
    c->skip += bytes;
}

static void cursor_copy(struct cursor *c, void *to, const void *from, uint64_t bytes)
{
    uint64_t done = 0;
    while (done < bytes && c->n) {
        uint64_t part = MIN(bytes - done, c->iov->iov_len - c->skip);
        char *at = (char *)c->iov->iov_base + c->skip;
        if (to)
            memcpy((char *)to + done, at, part);
        else if (from)
            memcpy(at, (const char *)from + done, part);
        else
            memset(at, 0, part);
        done += part;
        cursor_advance(c, part);
    }
}

static bool aligned(const struct block_device *b, const struct block_request *r)
{
    uint64_t mask = b->align - 1;
    if (!b->direct)
        return true;
    if ((r->offset | r->length) & mask)
        return false;
    for (int i = 0; i < r->niov; i++) {
        if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & mask)
            return false;
    }
    return true;
}

/* seccomp(block): preadv pwritev
 * Straight between the file and the request's memory. Past the end of the file reads as zeroes. */
static int transfer(struct block_device *b, const struct block_request *r, bool write)
{
    struct cursor c = { r->iov, r->niov, 0 };
    uint64_t done = 0;
    while (done < r->length) {
        struct iovec iov[64];
        uint64_t bytes;
        int n = cursor_fill(&c, iov, G_N_ELEMENTS(iov), MIN(r->length - done, 1u << 30), &bytes);
        if (!n)
            return EINVAL;
        ssize_t got = write ? pwritev(b->fd, iov, n, r->offset + done) : preadv(b->fd, iov, n, r->offset + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0 && write)
            return ENOSPC;
        if (got == 0) {
            cursor_copy(&c, NULL, NULL, r->length - done);
            return 0;
        }
        cursor_advance(&c, got);
        done += got;
    }
    return 0;
}

static int whole(struct block_device *b, char *buffer, uint64_t offset, uint64_t size, bool write)
{
    const struct iovec iov = { buffer, size };
    const struct block_request r = { .offset = offset, .length = size, .iov = &iov, .niov = 1 };
    return transfer(b, &r, write);
}

/* O_DIRECT with memory or an extent that is not aligned: through an aligned buffer, piece by piece. */
static int bounce(struct block_device *b, const struct block_request *r, bool write)
{
    uint64_t mask = b->align - 1, at = r->offset, end = r->offset + r->length;
    struct cursor c = { r->iov, r->niov, 0 };
    size_t size = MIN((r->length + 2 * b->align) & ~mask, (uint64_t)BOUNCE_MAX);
    void *buffer;
    int err = posix_memalign(&buffer, MAX(b->align, 4096), size);
    if (err)
        return err;
    while (at < end && !err) {
        uint64_t lo = at & ~mask, hi = MIN((end + mask) & ~mask, lo + size), stop = MIN(hi, end);
        bool partial = write && (at != lo || stop != hi);
        if (!write || partial)
            err = whole(b, buffer, lo, hi - lo, false);
        if (!err)
            cursor_copy(&c, write ? (char *)buffer + (at - lo) : NULL, write ? NULL : (char *)buffer + (at - lo), stop - at);
        if (!err && write)
            err = whole(b, buffer, lo, hi - lo, true);
        at = stop;
    }
    free(buffer);
    return err;
}

static int write_request(struct block_device *b, const struct block_request *r)
{
    bool part = b->direct && ((r->offset | r->length) & (b->align - 1));
    if (part)
        g_rw_lock_writer_lock(&b->rmw_lock);
    else if (b->direct)
        g_rw_lock_reader_lock(&b->rmw_lock);
    int err = aligned(b, r) ? transfer(b, r, true) : bounce(b, r, true);
    if (part)
        g_rw_lock_writer_unlock(&b->rmw_lock);
    else if (b->direct)
        g_rw_lock_reader_unlock(&b->rmw_lock);
    return err;
}

static bool not_supported(int err)
{
    return err == EOPNOTSUPP || err == ENOSYS || err == EINVAL || err == ENOTTY || err == EPERM;
}

/* seccomp(block): fallocate
 * True: done, with *ret_err. False: this file cannot do it. */
static bool try_fallocate(struct block_device *b, bool *able, int mode, const struct block_request *r, int *ret_err)
{
    if (!*able)
        return false;
    int err;
    do {
        err = fallocate(b->fd, mode, r->offset, r->length) < 0 ? errno : 0;
    } while (err == EINTR);
    if (not_supported(err)) {
        *able = false;
        return false;
    }
    *ret_err = err;
    return true;
}

static int write_zero_bytes(struct block_device *b, const struct block_request *r)
{
    g_autofree char *zeroes = g_malloc0(MIN(r->length, (uint64_t)BOUNCE_MAX));
    uint64_t done = 0;
    int err = 0;
    while (done < r->length && !err) {
        const struct iovec iov = { zeroes, MIN(r->length - done, (uint64_t)BOUNCE_MAX) };
        const struct block_request part = { .offset = r->offset + done, .length = iov.iov_len, .iov = &iov, .niov = 1 };
        err = write_request(b, &part);
        done += iov.iov_len;
    }
    return err;
}

static int write_zeroes(struct block_device *b, const struct block_request *r)
{
    int err = 0;
    if (b->options.discard && try_fallocate(b, &b->can_punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r, &err))
        return err;
    if (try_fallocate(b, &b->can_zero_range, FALLOC_FL_ZERO_RANGE, r, &err))
        return err;
    return write_zero_bytes(b, r);
}

static int discard(struct block_device *b, const struct block_request *r)
{
    int err = 0; /* a hint: where it cannot be followed, nothing is lost */
    if (b->options.discard)
        (void)try_fallocate(b, &b->can_punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r, &err);
    return err;
}

/* seccomp(block): fdatasync */
static int flush(struct block_device *b)
{
    if (b->options.read_only || b->options.cache == BLOCK_CACHE_UNSAFE)
        return 0;
    return fdatasync(b->fd) < 0 ? errno : 0;
}

int raw_execute(struct block_device *b, const struct block_request *r)
{
    bool through = b->options.cache == BLOCK_CACHE_WRITETHROUGH || b->options.cache == BLOCK_CACHE_DIRECTSYNC;
    int err;
    if (r->op == BLOCK_FLUSH)
        return flush(b);
    if (r->offset > b->size || r->length > b->size - r->offset)
        return EINVAL;
    if (r->op != BLOCK_READ && b->options.read_only)
        return EROFS;
    if (!r->length)
        return 0;
    switch (r->op) {
    case BLOCK_READ:
        return aligned(b, r) ? transfer(b, r, false) : bounce(b, r, false);
    case BLOCK_WRITE:
        err = write_request(b, r);
        break;
    case BLOCK_WRITE_ZEROES:
        err = write_zeroes(b, r);
        break;
    default:
        return discard(b, r);
    }
    return err || !through ? err : flush(b);
}
