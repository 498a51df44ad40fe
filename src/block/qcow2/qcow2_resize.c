/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other sizes, and space taken in advance. */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

static const char *const prealloc_names[] = {"off", "metadata", "falloc", "full", NULL};

static int fill(struct qcow2 *q, uint64_t host, uint64_t bytes, enum qcow2_prealloc mode)
{
    if (mode == QCOW2_PREALLOC_FALLOC)
        return block_write_zeroes(qcow2_data(q), host, bytes, 0);
    enum { PART = 1 << 20 };
    g_autofree void *zeroes = g_malloc0(PART);
    int err = 0;
    for (uint64_t done = 0; done < bytes && !err; done += PART)
        err = block_pwrite(qcow2_data(q), host + done, MIN(bytes - done, PART), zeroes, 0);
    return err;
}

/* Places for the clusters from `first`, at most `n` of them, within one slice. */
static int preallocate_run(struct qcow2 *q, uint64_t first, uint64_t n, enum qcow2_prealloc mode, uint64_t *ret_done)
{
    int err;
    uint64_t host = first << q->cluster_bits;
    g_mutex_lock(&q->lock);
    struct qcow2_slice *s = qcow2_slice_alone(q, first, first + n - 1, &err);
    bool have = s && qcow2_entry(s, qcow2_slice_index(q, first));
    uint64_t fresh = q->fresh_from;
    *ret_done = have ? 1 : n;
    if (!err && !have && !q->external)
        err = qcow2_alloc_some(q, n, &host, ret_done);
    bool zero = !err && (q->external || host >= fresh);
    g_mutex_unlock(&q->lock);
    if (err || have)
        return err;
    if (mode >= QCOW2_PREALLOC_FALLOC || !zero)
        err = fill(q, host, *ret_done << q->cluster_bits, mode >= QCOW2_PREALLOC_FALLOC ? mode : QCOW2_PREALLOC_FALLOC);
    g_mutex_lock(&q->lock);
    for (uint64_t i = 0; i < *ret_done && !err; i++) {
        if (!(s = qcow2_slice_get(q, first + i, true, &err)))
            break;
        uint64_t e = (host + (i << q->cluster_bits)) | QCOW2_OFLAG_COPIED;
        if (q->h.crypt_method && q->h.version >= 3 && !q->extended) /* zero bytes there would not read as zeroes */
            e |= QCOW2_OFLAG_ZERO;
        s->entry[qcow2_slice_index(q, first + i)] = GUINT64_TO_BE(e);
    }
    g_mutex_unlock(&q->lock);
    return err;
}

int qcow2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum qcow2_prealloc mode)
{
    uint64_t c = from >> q->cluster_bits, end = qcow2_clusters(q, to), per = UINT64_C(1) << q->slice_bits;
    int err = 0;
    for (uint64_t done; c < end && !err; c += done)
        err = preallocate_run(q, c, MIN(per - (c & (per - 1)), end - c), mode, &done);
    /* The last cluster is there as a whole. */
    uint64_t size = block_node_size(qcow2_file(q));
    g_mutex_lock(&q->lock);
    uint64_t last = q->fresh_from;
    g_mutex_unlock(&q->lock);
    static const uint8_t zero[512];
    if (!err && !q->external && size < last)
        err = block_pwrite(qcow2_file(q), last - sizeof(zero), sizeof(zero), zero, 0);
    return err;
}

static int fill_guest(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    enum { PART = 1 << 20 };
    g_autofree void *zeroes = g_malloc0(PART);
    int err = 0;
    for (uint64_t done = 0; done < bytes && !err; done += PART) {
        const struct iovec iov = {zeroes, MIN(bytes - done, PART)};
        err = qcow2_data_write(q, offset + done, iov.iov_len, &iov, 1);
    }
    return err;
}

static int write_size(struct qcow2 *q, uint64_t size)
{
    uint64_t be = GUINT64_TO_BE(size);
    int err = qcow2_file_write(q, 24, 8, &be);
    if (!err)
        err = block_flush(qcow2_file(q));
    if (!err)
        q->h.size = size;
    return err;
}

static int grow(struct qcow2 *q, uint64_t size, enum qcow2_prealloc mode)
{
    struct block_node *n = q->n, *backing = n->child[BLOCK_ROLE_BACKING];
    uint64_t old = n->size, table = UINT64_C(1) << (q->l2_bits + q->cluster_bits), entries = (size + table - 1) / table;
    if (entries > QCOW2_MAX_L1_BYTES / 8)
        return EFBIG;
    g_mutex_lock(&q->lock);
    int err = qcow2_l1_grow(q, (uint32_t) entries);
    g_mutex_unlock(&q->lock);
    if (err)
        return err;
    n->size = size;
    /* The rest of the last cluster, and what the backing image has beyond the old end, must not show. */
    uint64_t shown = MIN(size, MAX((old + q->cluster_size - 1) & ~(q->cluster_size - 1), backing ? block_node_size(backing) : 0));
    if (shown > old) {
        err = qcow2_write_zeroes(n, old, shown - old, 0);
        if (err == EOPNOTSUPP)
            err = fill_guest(q, old, shown - old);
    }
    if (!err && mode != QCOW2_PREALLOC_OFF)
        err = qcow2_preallocate(q, old, size, mode);
    if (!err)
        err = qcow2_flush(q);
    if (!err)
        err = write_size(q, size);
    if (err)
        n->size = old;
    return err;
}

/* First byte that no cluster in use lies behind. */
static int used_end(struct qcow2 *q, uint64_t *ret)
{
    uint64_t c = qcow2_clusters(q, block_node_size(qcow2_file(q))), count = 0;
    int err = 0;
    while (c && !err && !(err = qcow2_refcount_get(q, c - 1, &count)) && !count)
        c--;
    *ret = c << q->cluster_bits;
    return err;
}

static int shrink(struct qcow2 *q, uint64_t size)
{
    uint64_t old = q->n->size, start = (size + q->cluster_size - 1) & ~(q->cluster_size - 1), end = (old + q->cluster_size - 1) & ~(q->cluster_size - 1);
    uint64_t table = UINT64_C(1) << (q->l2_bits + q->cluster_bits), kept = (size + table - 1) / table, entries = (old + table - 1) / table;
    int err = write_size(q, size); /* from now on nobody reads what goes */
    if (err)
        return err;
    q->n->size = size;
    if (end > start)
        err = qcow2_unmap_clusters(q, start, end - start, QCOW2_DISCARD_REQUEST, true);
    g_mutex_lock(&q->lock);
    for (uint64_t i = kept; i < entries && i < q->h.l1_size && !err; i++) {
        uint64_t e = q->l1[i] & QCOW2_L1_OFFSET_MASK;
        if (!e)
            continue;
        qcow2_free(q, e, q->cluster_size, QCOW2_DISCARD_OTHER);
        qcow2_table_forget(q, (uint32_t) i);
    }
    g_mutex_unlock(&q->lock);
    if (!err)
        err = qcow2_flush_all(q);
    uint64_t used;
    if (!err) {
        g_mutex_lock(&q->lock);
        err = used_end(q, &used);
        g_mutex_unlock(&q->lock);
    }
    /* Space behind the last cluster goes back to the host, if it lets it. */
    if (!err && used < block_node_size(qcow2_file(q)) && block_truncate(qcow2_file(q), used, false, "off", NULL)) {
        g_mutex_lock(&q->lock);
        q->fresh_from = qcow2_clusters(q, block_node_size(qcow2_file(q))) << q->cluster_bits;
        g_mutex_unlock(&q->lock);
    }
    return err;
}

bool qcow2_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    int mode = 0, err = 0;
    uint64_t old = n->size;
    if (q->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "'%s' is read-only", n->filename);
    if (prealloc && !keyval_enum("preallocation", prealloc, prealloc_names, &mode, error))
        return false;
    if (size & 511)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The new size must be a multiple of 512");
    if (size != old && q->h.nb_snapshots && q->h.version < 3)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Can't resize a version 2 image which has snapshots");
    if (size < old && mode)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Preallocation can't be used for shrinking an image");
    if (size > INT64_MAX - (INT64_C(1) << 40))
        return vireo_fail(error, VIREO_ERROR_INVALID, "The new size is too large");
    if ((err = q->failed))
        return vireo_fail_errno(error, err, "'%s' cannot be written any more", n->filename);
    if (size > old && q->external && size > block_node_size(qcow2_data(q)) &&
        !block_truncate(qcow2_data(q), size, false, mode >= QCOW2_PREALLOC_FALLOC ? prealloc_names[mode] : "off", error))
        return false;
    if (size > old)
        err = grow(q, size, (enum qcow2_prealloc) mode);
    else if (size < old)
        err = shrink(q, size);
    if (err == EFBIG)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': an image with clusters of %" G_GUINT64_FORMAT " bytes cannot have %" G_GUINT64_FORMAT " bytes", n->filename,
                          q->cluster_size, size);
    if (err)
        return vireo_fail_errno(error, err, "cannot change the size of '%s'", n->filename);
    return size >= old || !q->external || block_truncate(qcow2_data(q), size, exact, "off", error);
}
