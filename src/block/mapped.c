/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/mapped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void mapped_init(struct mapped *m, const struct mapped_format *format)
{
    m->format = format;
    g_mutex_init(&m->lock);
    g_mutex_init(&m->alloc);
}

void mapped_finish(struct mapped *m)
{
    if (!m->format)
        return;
    g_mutex_clear(&m->lock);
    g_mutex_clear(&m->alloc);
    m->format = NULL;
}

static struct block_node *backing(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_BACKING];
}

static int find_locked(struct block_node *n, uint64_t offset, bool wait, struct mapped_piece *ret)
{
    const struct mapped *m = n->state;
    *ret = (struct mapped_piece){ 0 };
    return m->format->find(n, offset, wait, ret);
}

/* The piece at offset, made longer by those behind it that continue it, up to `bytes`. */
enum { RUN_PIECES = 4096 }; /* the lock is not held for longer than they take */
static int find_run(struct block_node *n, uint64_t offset, uint64_t bytes, bool wait, struct mapped_piece *ret)
{
    struct mapped *m = n->state;
    struct mapped_piece next;
    g_mutex_lock(&m->lock);
    int err = find_locked(n, offset, wait, ret);
    for (unsigned i = 0; i < RUN_PIECES && !err && ret->kind != MAPPED_COMPRESSED && ret->bytes < bytes; i++) {
        int later = find_locked(n, offset + ret->bytes, wait, &next);
        if (later || next.kind != ret->kind || (ret->kind == MAPPED_DATA && (next.file != ret->file || next.at != ret->at + ret->bytes)))
            break; /* an error there is for who asks from there on */
        ret->bytes += next.bytes;
    }
    g_mutex_unlock(&m->lock);
    ret->bytes = MIN(ret->bytes, bytes);
    return err;
}

/* ---- reading ---- */

/* Of the backing image, which may be shorter. */
static int read_backing(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct block_node *b = backing(n);
    uint64_t size = b ? block_node_size(b) : 0, there = offset < size ? MIN(size - offset, bytes) : 0;
    int err = 0;
    if (there) {
        int count;
        g_autofree struct iovec *piece = iov_slice(iov, niov, 0, there, &count);
        err = block_preadv(b, offset, there, piece, count);
    }
    if (!err && there < bytes) {
        struct iov_cursor c = { iov, niov, 0 };
        iov_cursor_advance(&c, there);
        iov_cursor_zero(&c, bytes - there);
    }
    return err;
}

static int read_compressed(struct block_node *n, const struct mapped_piece *p, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    const struct mapped *m = n->state;
    g_autofree uint8_t *block = g_malloc(p->block_bytes);
    int err = m->format->decompress(n, p, block);
    struct iov_cursor c = { iov, niov, 0 };
    if (!err)
        iov_cursor_write(&c, block + (offset - p->block), bytes);
    return err;
}

static int read_piece(struct block_node *n, const struct mapped_piece *p, uint64_t offset, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    switch (p->kind) {
    case MAPPED_ABSENT: return read_backing(n, offset, p->bytes, iov, niov);
    case MAPPED_DATA: return block_preadv(p->file, p->at, p->bytes, iov, niov);
    case MAPPED_COMPRESSED: return read_compressed(n, p, offset, p->bytes, iov, niov);
    case MAPPED_ZERO: break;
    }
    iov_cursor_zero(&c, p->bytes);
    return 0;
}

int mapped_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct mapped_piece p;
    for (uint64_t done = 0; done < bytes; done += p.bytes) {
        int err = find_run(n, offset + done, bytes - done, true, &p), count = niov;
        if (err)
            return err;
        bool all = !done && p.bytes == bytes;
        g_autofree struct iovec *piece = all ? NULL : iov_slice(iov, niov, done, p.bytes, &count);
        err = read_piece(n, &p, offset + done, all ? iov : piece, count);
        if (err)
            return err;
    }
    return 0;
}

/* ---- writing ---- */

/* Head and tail of a new block that a write does not cover come from the backing image; p->at is the block's beginning. */
static int write_with_backing(struct block_node *n, const struct mapped_piece *p, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t head = offset - p->block, whole = MIN(p->block_bytes, n->size - p->block), tail = whole - head - bytes;
    g_autofree uint8_t *around = g_malloc(head + tail + 1);
    g_autofree struct iovec *all = g_new(struct iovec, niov + 2);
    const struct iovec first = { around, head }, last = { around + head, tail };
    int err = head ? read_backing(n, p->block, head, &first, 1) : 0, count = 0;
    if (!err && tail)
        err = read_backing(n, offset + bytes, tail, &last, 1);
    if (err)
        return err;
    if (head)
        all[count++] = first;
    memcpy(all + count, iov, (size_t)niov * sizeof(*iov));
    count += niov;
    if (tail)
        all[count++] = last;
    return block_pwritev(p->file, p->at, whole, all, count, 0);
}

/* The rest of a new block reads as zeroes in a file that grows, but the file has to reach to its end. */
static int write_alone(const struct mapped_piece *p, uint64_t head, uint64_t bytes, const struct iovec *iov, int niov)
{
    static const uint8_t zero[512];
    uint64_t end = p->at + p->block_bytes, tail = p->block_bytes - head - bytes, last = MIN(tail, sizeof(zero));
    int err = block_pwritev(p->file, p->at + head, bytes, iov, niov, 0);
    if (!block_skip_filters(p->file)->driver->growable) { /* a device: who knows what was there */
        if (!err && head)
            err = block_write_zeroes(p->file, p->at, head, 0);
        return err || !tail ? err : block_write_zeroes(p->file, end - tail, tail, 0);
    }
    if (!err && tail && block_node_size(p->file) < end)
        err = block_pwrite(p->file, end - last, last, zero, 0);
    return err;
}

/* The first write to a block that is not there. *ret_again: it is there meanwhile. */
static int write_new(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, bool *ret_again)
{
    struct mapped *m = n->state;
    struct mapped_piece p;
    int err = 0;
    if (m->format->relieve)
        err = m->format->relieve(n);
    if (err)
        return err;
    g_mutex_lock(&m->alloc);
    g_mutex_lock(&m->lock);
    err = find_locked(n, offset, true, &p);
    *ret_again = !err && p.kind == MAPPED_DATA;
    bool absent = p.kind == MAPPED_ABSENT;
    if (!err && !*ret_again)
        err = p.kind == MAPPED_COMPRESSED || p.fixed || !m->format->allocate ? EOPNOTSUPP : m->format->allocate(n, &p);
    g_mutex_unlock(&m->lock);
    if (!err && !*ret_again) {
        err = absent && backing(n) ? write_with_backing(n, &p, offset, bytes, iov, niov) : write_alone(&p, offset - p.block, bytes, iov, niov);
        if (!err) {
            g_mutex_lock(&m->lock);
            err = m->format->commit(n, &p);
            g_mutex_unlock(&m->lock);
        }
    }
    g_mutex_unlock(&m->alloc);
    return err;
}

/* One block, whole or the image's last, shorter one. */
static int write_compressed(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct mapped *m = n->state;
    struct mapped_piece p;
    g_mutex_lock(&m->alloc);
    g_mutex_lock(&m->lock);
    int err = find_locked(n, offset, true, &p);
    g_mutex_unlock(&m->lock);
    if (!err && (p.block != offset || bytes != MIN(p.block_bytes, n->size - offset)))
        err = EINVAL;
    if (!err && (p.kind != MAPPED_ABSENT || p.fixed))
        err = EIO; /* it can be written once */
    if (!err) {
        g_autofree uint8_t *block = g_malloc0(p.block_bytes);
        struct iov_cursor c = { iov, niov, 0 };
        iov_cursor_read(&c, block, bytes);
        err = m->format->compress(n, &p, block);
    }
    g_mutex_unlock(&m->alloc);
    return err;
}

static int write_piece(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags, uint64_t *ret_done)
{
    const struct mapped *m = n->state;
    struct mapped_piece p;
    bool again = true;
    int err = find_run(n, offset, bytes, true, &p), count;
    *ret_done = p.bytes;
    if (err)
        return err;
    if (p.kind != MAPPED_DATA || flags & BLOCK_COMPRESSED)
        *ret_done = MIN(bytes, p.block + p.block_bytes - offset); /* blocks are made one by one */
    g_autofree struct iovec *piece = iov_slice(iov, niov, 0, *ret_done, &count);
    if (flags & BLOCK_COMPRESSED)
        return m->format->compress ? write_compressed(n, offset, *ret_done, piece, count) : EOPNOTSUPP;
    if (p.kind == MAPPED_DATA)
        return block_pwritev(p.file, p.at, *ret_done, piece, count, 0);
    err = write_new(n, offset, *ret_done, piece, count, &again);
    if (!err && again)
        *ret_done = 0; /* somebody else made the block: once more from here */
    return err;
}

int mapped_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    for (uint64_t done = 0, part; done < bytes; done += part) {
        int count;
        g_autofree struct iovec *rest = done ? iov_slice(iov, niov, done, bytes - done, &count) : NULL;
        int err = write_piece(n, offset + done, bytes - done, done ? rest : iov, done ? count : niov, flags, &part);
        if (err)
            return err;
    }
    return 0;
}

int mapped_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct mapped_piece p;
    for (; bytes; offset += p.bytes, bytes -= p.bytes) {
        int err = find_run(n, offset, bytes, true, &p);
        if (!err && (p.kind == MAPPED_COMPRESSED || (p.kind == MAPPED_ABSENT && backing(n))))
            err = EOPNOTSUPP;
        else if (!err && p.kind == MAPPED_DATA)
            err = block_write_zeroes(p.file, p.at, p.bytes, flags & BLOCK_MAY_UNMAP);
        if (err)
            return err;
    }
    return 0;
}

/* ---- where things are ---- */

int mapped_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    static const unsigned flags[] = {
        [MAPPED_ABSENT] = 0,
        [MAPPED_ZERO] = BLOCK_STATUS_ZERO | BLOCK_STATUS_ALLOCATED,
        [MAPPED_DATA] = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED | BLOCK_STATUS_RECURSE,
        [MAPPED_COMPRESSED] = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_COMPRESSED,
    };
    struct mapped_piece p;
    int err = find_run(n, offset, bytes, true, &p);
    if (err)
        return err;
    ret->flags = flags[p.kind];
    ret->bytes = p.bytes;
    if (p.kind == MAPPED_DATA) {
        ret->map = p.at;
        ret->file = p.file;
    }
    return 0;
}

bool mapped_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret)
{
    struct mapped_piece p;
    if (find_run(n, offset, bytes, false, &p) || p.kind != MAPPED_DATA || p.bytes < bytes)
        return false;
    ret->node = p.file;
    ret->offset = p.at;
    return true;
}

bool mapped_refuse_writing(struct block_node *n, unsigned flags, const char *what, GError **error)
{
    if (!(flags & BLOCK_RDWR))
        return true;
    if (!(flags & BLOCK_AUTO_READ_ONLY))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': %s can only be read: open it with read-only=on, or convert it", n->filename, what);
    n->flags &= ~(unsigned)BLOCK_RDWR;
    return true;
}

/* ---- checking ---- */

int mapped_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error)
{
    struct mapped *m = n->state;
    struct mapped_piece p;
    if (fix) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "images of format '%s' cannot be repaired: convert what can be read", n->driver->name);
        return EOPNOTSUPP;
    }
    unsigned since = 0;
    for (uint64_t at = 0; at < n->size; at += p.bytes) {
        g_mutex_lock(&m->lock);
        int err = find_locked(n, at, true, &p);
        g_mutex_unlock(&m->lock);
        if (c->cancel && *c->cancel)
            return ECANCELED;
        if (err && !p.bytes) {
            vireo_fail_errno(error, err, "cannot check '%s' from %" G_GUINT64_FORMAT " on", n->filename, at);
            return err;
        }
        if (err) {
            g_autofree char *line = g_strdup_printf("ERROR: the block at %" G_GUINT64_FORMAT " of the disk is not where the table says: %s", p.block, g_strerror(err));
            c->corruptions++;
            if (c->say)
                c->say(c->opaque, line);
        }
        if (c->progress && !(since++ % 1024))
            c->progress(c->opaque, (double)at / (double)n->size);
    }
    return 0;
}
