/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * I/O on nodes: bounds, alignment, watches, zeroes and flushes, which drivers need not know of; and where content comes from
 * through a chain of images.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bitmap_mark.h"
#include "block/block_private.h"
#include "block/fence.h"

#define ZERO_CHUNK (1u << 20)

static bool in_bounds(const struct block_node *n, uint64_t offset, uint64_t bytes)
{
    uint64_t size = n->driver->growable ? INT64_MAX : block_node_size(n);
    return offset <= size && bytes <= size - offset;
}

static bool aligned(const struct block_node *n, uint64_t offset, uint64_t bytes)
{
    return !((offset | bytes) & (n->limits.request_alignment - 1));
}

/* ---- reading ---- */

/* Calls the driver for pieces that it can take. */
static int driver_read(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint32_t max = n->limits.max_transfer;
    if (!max || bytes <= max)
        return n->driver->preadv(n, offset, bytes, iov, niov);
    for (uint64_t done = 0; done < bytes;) {
        uint64_t part = MIN(bytes - done, max);
        int count;
        g_autofree struct iovec *piece = iov_slice(iov, niov, done, part, &count);
        int err = n->driver->preadv(n, offset + done, part, piece, count);
        if (err)
            return err;
        done += part;
    }
    return 0;
}

/* The aligned units around offset..offset+bytes, in one buffer (free()). The end of a node that is no whole unit reads as zeroes. */
static int read_around(struct block_node *n, uint64_t offset, uint64_t bytes, void **ret, uint64_t *ret_start, uint64_t *ret_bytes)
{
    uint64_t mask = n->limits.request_alignment - 1, start = offset & ~mask, end = (offset + bytes + mask) & ~mask;
    if (posix_memalign(ret, 4096, MAX(end - start, 4096)))
        return ENOMEM;
    const struct iovec iov = { *ret, end - start };
    int err = driver_read(n, start, end - start, &iov, 1);
    *ret_start = start;
    *ret_bytes = end - start;
    if (err)
        free(*ret);
    return err;
}

static int read_data(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    if (aligned(n, offset, bytes))
        return driver_read(n, offset, bytes, iov, niov);
    void *buffer;
    uint64_t start, length;
    int err = read_around(n, offset, bytes, &buffer, &start, &length);
    if (err)
        return err;
    struct iov_cursor c = { iov, niov, 0 };
    iov_cursor_write(&c, (char *)buffer + (offset - start), bytes);
    free(buffer);
    return 0;
}

int block_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct block_fence_reader r;
    if (!in_bounds(n, offset, bytes))
        return EINVAL;
    if (!bytes)
        return 0;
    int err = n->fence ? block_fence_enter(n->fence, &r, offset, bytes) : 0;
    if (err)
        return err;
    err = read_data(n, offset, bytes, iov, niov);
    if (n->fence)
        block_fence_leave(n->fence, &r);
    return err;
}

int block_pread(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer)
{
    const struct iovec iov = { buffer, bytes };
    return block_preadv(n, offset, bytes, &iov, 1);
}

/* ---- writing ---- */

/* Those before `until` (NULL: all) hear that the write is over. */
static void tell_end(struct block_node *n, uint64_t offset, uint64_t bytes, const GList *until)
{
    for (GList *l = n->watches.head; l != until; l = l->next) {
        struct block_watch *w = l->data;
        if (w->end)
            w->end(w, offset, bytes);
    }
}

static int tell_before(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    for (GList *l = n->watches.head; l; l = l->next) {
        struct block_watch *w = l->data;
        int err = w->before ? w->before(w, offset, bytes) : 0;
        if (err) {
            tell_end(n, offset, bytes, l);
            return err;
        }
    }
    return 0;
}

static void tell_threshold(struct block_node *n, uint64_t end)
{
    uint64_t threshold = __atomic_load_n(&n->write_threshold, __ATOMIC_RELAXED);
    if (!threshold || end <= threshold || !__atomic_compare_exchange_n(&n->write_threshold, &threshold, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    block_graph_event(n->graph, "BLOCK_WRITE_THRESHOLD",
                      json_make("node-name", json_object_new_string(n->name), "amount-exceeded", json_object_new_int64((int64_t)(end - threshold)),
                                "write-threshold", json_object_new_int64((int64_t)threshold), NULL));
}

void block_set_write_threshold(struct block_node *n, uint64_t threshold)
{
    __atomic_store_n(&n->write_threshold, threshold, __ATOMIC_RELAXED);
}

uint64_t block_write_threshold(const struct block_node *n)
{
    return __atomic_load_n(&n->write_threshold, __ATOMIC_RELAXED);
}

uint64_t block_write_highest(const struct block_node *n)
{
    return __atomic_load_n(&n->write_highest, __ATOMIC_RELAXED);
}

void block_node_written(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes, old = __atomic_load_n(&n->write_highest, __ATOMIC_RELAXED);
    while (old < end && !__atomic_compare_exchange_n(&n->write_highest, &old, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    if (n->write_threshold)
        tell_threshold(n, end);
    if (n->bitmaps)
        block_bitmaps_mark(n, offset, bytes);
}

/* A write that failed may have changed something: bitmaps have it too. */
static void tell_after(struct block_node *n, uint64_t offset, uint64_t bytes, int err, bool watched)
{
    block_node_written(n, offset, bytes);
    for (GList *l = err || !watched ? NULL : n->watches.head; l; l = l->next) {
        struct block_watch *w = l->data;
        if (w->after)
            w->after(w, offset, bytes);
    }
}

static int writable(const struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    if (!in_bounds(n, offset, bytes))
        return EINVAL;
    if (n->flags & BLOCK_INACTIVE)
        return EPERM;
    return n->flags & BLOCK_RDWR || flags & BLOCK_WRITE_UNCHANGED ? 0 : EROFS;
}

static int driver_write(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    uint32_t max = n->limits.max_transfer;
    if (!max || bytes <= max)
        return n->driver->pwritev(n, offset, bytes, iov, niov, flags);
    for (uint64_t done = 0; done < bytes;) {
        uint64_t part = MIN(bytes - done, max);
        int count;
        g_autofree struct iovec *piece = iov_slice(iov, niov, done, part, &count);
        int err = n->driver->pwritev(n, offset + done, part, piece, count, flags);
        if (err)
            return err;
        done += part;
    }
    return 0;
}

/* A part of an aligned unit at either end: read, modify, write, with others kept out. */
static int write_unaligned(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    void *buffer;
    uint64_t start, length;
    g_rw_lock_writer_lock(&n->rmw);
    int err = read_around(n, offset, bytes, &buffer, &start, &length);
    if (!err) {
        struct iov_cursor c = { iov, niov, 0 };
        const struct iovec whole = { buffer, length };
        iov_cursor_read(&c, (char *)buffer + (offset - start), bytes);
        err = driver_write(n, start, length, &whole, 1, flags);
        free(buffer);
    }
    g_rw_lock_writer_unlock(&n->rmw);
    return err;
}

static int write_data(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    bool units = n->limits.request_alignment > 1;
    if (units && !aligned(n, offset, bytes))
        return write_unaligned(n, offset, bytes, iov, niov, flags);
    if (units)
        g_rw_lock_reader_lock(&n->rmw);
    int err = driver_write(n, offset, bytes, iov, niov, flags);
    if (units)
        g_rw_lock_reader_unlock(&n->rmw);
    return err;
}

static int write_zero_bytes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    uint64_t size = MIN(bytes, (uint64_t)ZERO_CHUNK);
    void *zeroes;
    int err = 0;
    if (posix_memalign(&zeroes, 4096, MAX(size, 4096)))
        return ENOMEM;
    memset(zeroes, 0, size);
    for (uint64_t done = 0; done < bytes && !err; done += size) {
        const struct iovec iov = { zeroes, MIN(bytes - done, size) };
        err = write_data(n, offset + done, iov.iov_len, &iov, 1, flags);
    }
    free(zeroes);
    return err;
}

static int zero_data(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    unsigned write_flags = flags & (BLOCK_FUA | BLOCK_WRITE_UNCHANGED);
    uint64_t unit = n->limits.request_alignment, head = -offset & (unit - 1);
    if (!n->driver->write_zeroes || (head && head >= bytes))
        return flags & BLOCK_NO_FALLBACK ? EOPNOTSUPP : write_zero_bytes(n, offset, bytes, write_flags);
    uint64_t tail = (offset + bytes) & (unit - 1), middle = bytes - head - tail, done = 0;
    int err = head ? write_zero_bytes(n, offset, head, write_flags) : 0;
    while (done < middle && !err) {
        uint64_t part = n->limits.max_zeroes ? MIN(middle - done, n->limits.max_zeroes) : middle - done;
        err = n->driver->write_zeroes(n, offset + head + done, part, flags);
        if (err == EOPNOTSUPP && !(flags & BLOCK_NO_FALLBACK))
            err = write_zero_bytes(n, offset + head + done, part, write_flags);
        done += part;
    }
    if (tail && !err)
        err = write_zero_bytes(n, offset + bytes - tail, tail, write_flags);
    return err;
}

/* What each of writing, zeroing and discarding has around it. */
enum kind { WRITE, ZERO, DISCARD };
static int discard_data(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    uint64_t unit = MAX(n->limits.request_alignment, 1), head = -offset & (unit - 1);
    if (!n->driver->discard || head >= bytes)
        return 0;
    bytes = (bytes - head) & ~(unit - 1);
    for (uint64_t done = 0; done < bytes;) {
        uint64_t part = n->limits.max_discard ? MIN(bytes - done, n->limits.max_discard) : bytes - done;
        int err = n->driver->discard(n, offset + head + done, part);
        if (err)
            return err == EOPNOTSUPP ? 0 : err;
        done += part;
    }
    return 0;
}

static int change(struct block_node *n, enum kind kind, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    int err = writable(n, offset, bytes, flags);
    if (err || !bytes)
        return err;
    unsigned pass = n->driver->supports_fua ? flags : flags & ~(unsigned)BLOCK_FUA;
    bool watched = n->watches.length && !(flags & BLOCK_WRITE_UNCHANGED);
    if (watched && (err = tell_before(n, offset, bytes)))
        return err;
    switch (kind) {
    case WRITE: err = write_data(n, offset, bytes, iov, niov, pass); break;
    case ZERO: err = zero_data(n, offset, bytes, pass); break;
    case DISCARD: err = discard_data(n, offset, bytes); break;
    }
    tell_after(n, offset, bytes, err, watched);
    if (watched)
        tell_end(n, offset, bytes, NULL);
    return err || !(flags & BLOCK_FUA) || n->driver->supports_fua ? err : block_flush(n);
}

int block_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    if (flags & BLOCK_COMPRESSED && !n->driver->pwritev)
        return EOPNOTSUPP;
    if (!n->driver->pwritev)
        return n->flags & BLOCK_RDWR ? EOPNOTSUPP : EROFS;
    if (n->detect_zeroes != BLOCK_DETECT_OFF && !(flags & BLOCK_COMPRESSED) && iov_is_zero(iov, niov))
        return change(n, ZERO, offset, bytes, NULL, 0, flags | (n->detect_zeroes == BLOCK_DETECT_UNMAP ? BLOCK_MAY_UNMAP : 0));
    return change(n, WRITE, offset, bytes, iov, niov, flags);
}

int block_pwrite(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer, unsigned flags)
{
    const struct iovec iov = { (void *)buffer, bytes };
    return block_pwritev(n, offset, bytes, &iov, 1, flags);
}

int block_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    if (!n->driver->pwritev)
        return n->flags & BLOCK_RDWR ? EOPNOTSUPP : EROFS;
    if (!(n->flags & BLOCK_UNMAP))
        flags &= ~(unsigned)BLOCK_MAY_UNMAP;
    return change(n, ZERO, offset, bytes, NULL, 0, flags);
}

int block_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    if (!(n->flags & BLOCK_UNMAP) || !n->driver->discard)
        return writable(n, offset, bytes, 0);
    return change(n, DISCARD, offset, bytes, NULL, 0, 0);
}

int block_flush(struct block_node *n)
{
    if (!(n->flags & BLOCK_RDWR))
        return 0;
    if (n->driver->flush)
        return n->driver->flush(n);
    int err = 0;
    for (int i = 0; i < BLOCK_NROLES && !err; i++) {
        if (i != BLOCK_ROLE_BACKING && n->child[i])
            err = block_flush(n->child[i]);
    }
    return err;
}

bool block_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    if (!(n->flags & BLOCK_RDWR))
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "'%s' is read-only", n->filename);
    if (size > INT64_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': a size of %" G_GUINT64_FORMAT " bytes is too large", n->filename, size);
    if (!n->driver->truncate)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "driver '%s' cannot change the size of an image", n->driver->name);
    uint64_t old = n->size;
    if (!n->driver->truncate(n, size, exact, prealloc ? prealloc : "off", error))
        return false;
    if (n->bitmaps)
        block_bitmaps_resize(n);
    if (n->bitmaps && size > old)
        block_bitmaps_mark(n, old, size - old);
    return true;
}

/* ---- where content comes from ---- */

static int own_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    *ret = (struct block_status){ 0 };
    if (n->driver->status) {
        int err = n->driver->status(n, offset, bytes, ret);
        if (err)
            return err;
        ret->bytes = MIN(ret->bytes, bytes);
        return ret->bytes ? 0 : EIO;
    }
    struct block_node *file = n->child[BLOCK_ROLE_FILE];
    *ret = (struct block_status){ .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED, .bytes = bytes };
    if (file) {
        ret->flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED | BLOCK_STATUS_RECURSE;
        ret->map = offset;
        ret->file = file;
    }
    return 0;
}

/* What the file below says about a piece that is data here. */
static void refine(struct block_status *s)
{
    struct block_status below;
    uint64_t size = block_node_size(s->file);
    if (s->map >= size) { /* a hole behind the end */
        s->flags = (s->flags | BLOCK_STATUS_ZERO) & ~(unsigned)BLOCK_STATUS_DATA;
        return;
    }
    if (block_status(s->file, s->map, MIN(s->bytes, size - s->map), &below))
        return;
    s->bytes = MIN(s->bytes, below.bytes);
    if (below.flags & BLOCK_STATUS_ZERO)
        s->flags = (s->flags | BLOCK_STATUS_ZERO) & (below.flags & BLOCK_STATUS_DATA ? ~0u : ~(unsigned)BLOCK_STATUS_DATA);
}

int block_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    uint64_t size = block_node_size(n);
    if (offset >= size || !bytes)
        return EINVAL;
    bytes = MIN(bytes, size - offset);
    int err = own_status(n, offset, bytes, ret);
    if (err)
        return err;
    if (ret->flags & BLOCK_STATUS_RECURSE && ret->flags & BLOCK_STATUS_DATA && ret->file && ret->file != n)
        refine(ret);
    ret->flags &= ~(unsigned)BLOCK_STATUS_RECURSE;
    if (offset + ret->bytes == size)
        ret->flags |= BLOCK_STATUS_EOF;
    return 0;
}

static int status_chain(struct block_node *n, struct block_node *base, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    unsigned depth = 0;
    uint64_t top = block_node_size(n), want = MIN(bytes, top - MIN(offset, top));
    for (n = block_skip_filters(n), base = block_skip_filters(base); n && n != base; n = block_skip_filters(block_backing(n)), depth++) {
        uint64_t size = block_node_size(n);
        if (offset >= size) { /* a backing image that is shorter than what stands on it */
            *ret = (struct block_status){ .flags = BLOCK_STATUS_ZERO | (depth ? BLOCK_STATUS_ALLOCATED : 0), .bytes = want, .depth = depth };
            break;
        }
        int err = block_status(n, offset, want, ret);
        if (err)
            return err;
        want = ret->bytes;
        ret->depth = depth;
        if (ret->flags & (BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_ZERO) || !block_backing(n))
            break;
    }
    if (!n || n == base)
        *ret = (struct block_status){ .bytes = want, .depth = depth };
    else if (!(ret->flags & (BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_ZERO)) && !base)
        ret->flags |= BLOCK_STATUS_ZERO;
    ret->flags &= ~(unsigned)BLOCK_STATUS_EOF;
    if (offset + ret->bytes == top)
        ret->flags |= BLOCK_STATUS_EOF;
    return 0;
}

int block_status_chain(struct block_node *n, struct block_node *base, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    struct block_fence *f = block_skip_filters(n)->fence;
    struct block_fence_reader r;
    int err = f ? block_fence_enter(f, &r, offset, bytes) : 0;
    if (err)
        return err;
    err = status_chain(n, base, offset, bytes, ret);
    if (f)
        block_fence_leave(f, &r);
    return err;
}

/* ---- what the driver does, or cannot ---- */

static bool cannot(struct block_node *n, const char *what, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "images of format '%s' have no %s", n->driver->name, what);
}

int block_get_info(struct block_node *n, struct block_info *ret)
{
    *ret = (struct block_info){ 0 };
    return n->driver->get_info ? n->driver->get_info(n, ret) : 0;
}

struct json_object *block_specific_info(struct block_node *n)
{
    return n->driver->specific_info ? n->driver->specific_info(n) : NULL;
}

int block_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error)
{
    if (n->driver->check)
        return n->driver->check(n, fix, c, error);
    cannot(n, "check", error);
    return EOPNOTSUPP;
}

#define SNAPSHOTS "internal snapshots"
GPtrArray *block_snapshot_list(struct block_node *n, GError **error)
{
    if (n->driver->snapshot_list)
        return n->driver->snapshot_list(n, error);
    cannot(n, SNAPSHOTS, error);
    return NULL;
}

bool block_snapshot_create(struct block_node *n, const struct block_snapshot *s, GError **error)
{
    return n->driver->snapshot_create ? n->driver->snapshot_create(n, s, error) : cannot(n, SNAPSHOTS, error);
}

bool block_snapshot_apply(struct block_node *n, const char *id_or_name, GError **error)
{
    return n->driver->snapshot_apply ? n->driver->snapshot_apply(n, id_or_name, error) : cannot(n, SNAPSHOTS, error);
}

bool block_snapshot_delete(struct block_node *n, const char *id_or_name, GError **error)
{
    return n->driver->snapshot_delete ? n->driver->snapshot_delete(n, id_or_name, error) : cannot(n, SNAPSHOTS, error);
}

bool block_snapshot_load(struct block_node *n, const char *id_or_name, GError **error)
{
    return n->driver->snapshot_load ? n->driver->snapshot_load(n, id_or_name, error) : cannot(n, SNAPSHOTS, error);
}

int block_vmstate_read(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer)
{
    return n->driver->vmstate_read ? n->driver->vmstate_read(n, offset, bytes, buffer) : EOPNOTSUPP;
}

int block_vmstate_write(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer)
{
    return n->driver->vmstate_write ? n->driver->vmstate_write(n, offset, bytes, buffer) : EOPNOTSUPP;
}

bool block_change_backing_file(struct block_node *n, const char *file, const char *format, GError **error)
{
    return n->driver->change_backing_file ? n->driver->change_backing_file(n, file, format, error) : cannot(n, "backing file", error);
}

bool block_make_empty(struct block_node *n, GError **error)
{
    return n->driver->make_empty ? n->driver->make_empty(n, error) : cannot(n, "way to be emptied", error);
}

bool block_amend(struct block_node *n, struct keyval *options, bool force, void (*progress)(void *opaque, double part), void *opaque, GError **error)
{
    return n->driver->amend ? n->driver->amend(n, options, force, progress, opaque, error) : cannot(n, "options that can be amended", error);
}
