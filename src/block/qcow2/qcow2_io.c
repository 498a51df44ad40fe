/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest data. The lock is held to find out where it is and to enter where it went; in between, files are read and written without it.
 * While data is on its way to new clusters, the guest's clusters stand in q->inflight and other writers of them wait.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

static void slices_of(const struct iov_cursor *c, uint64_t bytes, GArray *to)
{
    const struct iovec *v = c->iov;
    size_t skip = c->skip;
    for (int i = 0; i < c->n && bytes; i++, skip = 0) {
        struct iovec part = {(char *) v[i].iov_base + skip, MIN(v[i].iov_len - skip, bytes)};
        if (part.iov_len)
            g_array_append_val(to, part);
        bytes -= part.iov_len;
    }
}

enum { INLINE_IOV = 16 };
/* The next `bytes` of the cursor as vectors: in `small` when they fit, else allocated (*ret_free). */
static const struct iovec *vectors(const struct iov_cursor *c, uint64_t bytes, struct iovec *small, int *ret_n, struct iovec **ret_free)
{
    uint64_t got;
    *ret_free = NULL;
    if (c->n <= INLINE_IOV) {
        *ret_n = iov_cursor_fill(c, small, INLINE_IOV, bytes, &got);
        return small;
    }
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct iovec));
    slices_of(c, bytes, all);
    *ret_n = (int) all->len;
    return *ret_free = (struct iovec *) (void *) g_array_free(all, FALSE);
}

/* ---- reading ---- */

static int read_host(struct qcow2 *q, uint64_t host, uint64_t guest, uint64_t bytes, const struct iov_cursor *c)
{
    struct iovec small[INLINE_IOV], *allocated;
    int n;
    const struct iovec *iov = vectors(c, bytes, small, &n, &allocated);
    int err;
    if (!q->crypt) {
        err = block_preadv(qcow2_data(q), host, bytes, iov, n);
    } else {
        g_autofree void *buffer = g_malloc(bytes);
        struct iov_cursor to = *c;
        if (!(err = block_pread(qcow2_data(q), host, bytes, buffer)) && !(err = qcow2_decrypt(q, host, guest, buffer, bytes)))
            iov_cursor_write(&to, buffer, bytes);
    }
    g_free(allocated);
    return err;
}

static int read_backing(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iov_cursor *c)
{
    struct block_node *b = q->n->child[BLOCK_ROLE_BACKING];
    /* Never more than the disk's own size, or a later growth would show it. */
    uint64_t size = b ? MIN(block_node_size(b), block_node_size(q->n)) : 0, there = offset < size ? MIN(bytes, size - offset) : 0;
    int err = 0;
    struct iov_cursor rest = *c;
    if (there) {
        struct iovec small[INLINE_IOV], *allocated;
        int n;
        const struct iovec *iov = vectors(c, there, small, &n, &allocated);
        err = block_preadv(b, offset, there, iov, n);
        g_free(allocated);
        iov_cursor_advance(&rest, there);
    }
    if (there < bytes)
        iov_cursor_zero(&rest, bytes - there);
    return err;
}

static int read_compressed(struct qcow2 *q, uint64_t entry, uint64_t in, uint64_t bytes, const struct iov_cursor *c)
{
    uint64_t offset, length;
    struct iov_cursor to = *c;
    qcow2_compressed_place(q, entry, &offset, &length);
    g_autofree uint8_t *cluster = g_mutex_trylock(&q->unpacked_lock) ? NULL : g_malloc(q->cluster_size);
    if (cluster) { /* somebody else unpacks; do without what was unpacked last */
        g_autofree uint8_t *packed = g_malloc(length);
        int err = qcow2_file_read(q, offset, length, packed);
        if (!err)
            err = qcow2_decompress(q, packed, length, cluster, q->cluster_size);
        if (!err)
            iov_cursor_write(&to, cluster + in, bytes);
        return err;
    }
    int err = 0;
    if (!q->unpacked)
        q->unpacked = g_malloc(q->cluster_size);
    if (q->unpacked_entry != entry) {
        g_autofree uint8_t *packed = g_malloc(length);
        q->unpacked_entry = 0;
        err = qcow2_file_read(q, offset, length, packed);
        if (!err)
            err = qcow2_decompress(q, packed, length, q->unpacked, q->cluster_size);
        if (!err && q->read_only) /* else the place may come to hold something else */
            q->unpacked_entry = entry;
    }
    if (!err)
        iov_cursor_write(&to, q->unpacked + in, bytes);
    g_mutex_unlock(&q->unpacked_lock);
    return err;
}

static int read_some(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iov_cursor *c, uint64_t *ret_done)
{
    struct qcow2_extent x;
    g_mutex_lock(&q->lock);
    int err = qcow2_lookup(q, offset, bytes, &x);
    gint *users = &q->users[q->epoch];
    g_atomic_int_inc(users);
    g_mutex_unlock(&q->lock);
    if (!err) {
        *ret_done = x.bytes;
        struct iov_cursor to = *c;
        switch (x.kind) {
        case QCOW2_UNALLOCATED: err = read_backing(q, offset, x.bytes, c); break;
        case QCOW2_ZERO:
        case QCOW2_ZERO_HOST: iov_cursor_zero(&to, x.bytes); break;
        case QCOW2_DATA: err = read_host(q, x.host, offset, x.bytes, c); break;
        case QCOW2_COMPRESSED: err = read_compressed(q, x.entry, offset & (q->cluster_size - 1), x.bytes, c); break;
        }
    }
    g_atomic_int_add(users, -1);
    return err;
}

int qcow2_data_read(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iov_cursor c = {iov, niov, 0};
    while (bytes) {
        uint64_t done = 0;
        int err = read_some(q, offset, bytes, &c, &done);
        if (err)
            return err;
        offset += done;
        bytes -= done;
        if (bytes)
            iov_cursor_advance(&c, done);
    }
    return 0;
}

int qcow2_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    return qcow2_data_read(qcow2_of(n), offset, bytes, iov, niov);
}

/* ---- writing ---- */

struct run { /* adjacent guest clusters that get their data at adjacent places */
    struct qcow2_inflight in;
    uint64_t offset, bytes;     /* the guest's part */
    uint64_t host;              /* of cluster in.first */
    uint64_t head, tail;        /* bytes around it that have to be there too */
    bool head_zero, tail_zero;  /* and read as zeroes */
    bool own;                   /* the places are the clusters' own already */
    bool fresh;                 /* nobody ever wrote there */
};

static void inflight_remove(struct qcow2 *q, struct qcow2_inflight *f)
{
    struct qcow2_inflight **p = &q->inflight;
    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    if (q->waiters) {
        q->waiters = false;
        g_cond_broadcast(&q->cond);
    }
}

static bool own_place(const struct qcow2 *q, uint64_t e)
{
    return !(e & QCOW2_OFLAG_COMPRESSED) && e & QCOW2_OFLAG_COPIED && (e & QCOW2_L2_OFFSET_MASK || q->external);
}

/* Extended entries: a cluster whose data is elsewhere and has to move as a whole. */
static bool moves(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t cluster, bool own)
{
    unsigned index = qcow2_slice_index(q, cluster);
    uint64_t e = qcow2_entry(s, index);
    return !q->extended || (!own && (e & QCOW2_OFLAG_COMPRESSED || qcow2_entry(s, index + 1) & UINT32_MAX));
}

static bool reads_zero(struct qcow2 *q, const struct qcow2_slice *s, uint64_t offset, uint64_t bytes)
{
    struct qcow2_extent x;
    if (qcow2_classify(q, s, offset, bytes, &x) || x.bytes < bytes)
        return false;
    return x.kind == QCOW2_ZERO || x.kind == QCOW2_ZERO_HOST || (x.kind == QCOW2_UNALLOCATED && qcow2_no_backing(q, offset));
}

static void run_edges(struct qcow2 *q, const struct qcow2_slice *s, struct run *r)
{
    uint64_t end = r->offset + r->bytes, sub = (UINT64_C(1) << q->subcluster_bits) - 1, mask = q->cluster_size - 1;
    uint64_t head_mask = moves(q, s, r->in.first, r->own) ? mask : sub, tail_mask = moves(q, s, r->in.last, r->own) ? mask : sub;
    r->head = r->offset & head_mask;
    r->tail = -end & tail_mask;
    r->head_zero = r->head && reads_zero(q, s, r->offset - r->head, r->head);
    r->tail_zero = r->tail && reads_zero(q, s, end, r->tail);
    if (r->fresh && !q->crypt && !q->external) { /* it is zero already */
        if (r->head_zero)
            r->head = 0;
        if (r->tail_zero)
            r->tail = 0;
    }
}

/* Chooses places for the clusters of offset..offset+bytes, as far as one run goes. */
static int run_begin(struct qcow2 *q, struct qcow2_slice *s, uint64_t offset, uint64_t bytes, struct run *r)
{
    uint64_t first = offset >> q->cluster_bits, last = (offset + bytes - 1) >> q->cluster_bits, n = 1;
    uint64_t e = qcow2_entry(s, qcow2_slice_index(q, first)), host = e & QCOW2_L2_OFFSET_MASK;
    *r = (struct run){.in.first = first, .offset = offset, .own = own_place(q, e), .host = host};
    for (uint64_t c = first + 1; c <= last; c++, n++) {
        uint64_t next = qcow2_entry(s, qcow2_slice_index(q, c));
        if (r->own ? !own_place(q, next) || (next & QCOW2_L2_OFFSET_MASK) != host + (n << q->cluster_bits) : own_place(q, next))
            break;
    }
    if (q->external) {
        r->host = first << q->cluster_bits;
    } else if (!r->own) {
        uint64_t fresh = q->fresh_from, got;
        int err = qcow2_alloc_some(q, n, &r->host, &got);
        if (err)
            return err;
        n = got;
        r->fresh = r->host >= fresh;
    } else if (!qcow2_meta_ok(q, r->host, n << q->cluster_bits)) {
        return EIO;
    }
    r->in.last = first + n - 1;
    r->bytes = MIN(bytes, ((first + n) << q->cluster_bits) - offset);
    run_edges(q, s, r);
    r->in.next = q->inflight;
    q->inflight = &r->in;
    return 0;
}

static int cow_read(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool zero, uint8_t *to)
{
    const struct iovec iov = {to, bytes};
    if (!bytes)
        return 0;
    if (!zero)
        return qcow2_data_read(q, offset, bytes, &iov, 1);
    memset(to, 0, bytes);
    return 0;
}

/* Data to its place, with what has to be copied around it, in one write. Without the lock. */
static int run_write(struct qcow2 *q, const struct run *r, const struct iov_cursor *c)
{
    uint64_t start = r->offset - r->head, total = r->head + r->bytes + r->tail;
    uint64_t host = r->host + (start - (r->in.first << q->cluster_bits));
    g_autofree uint8_t *edges = r->head + r->tail ? g_malloc(r->head + r->tail) : NULL;
    int err = cow_read(q, start, r->head, r->head_zero, edges);
    if (!err)
        err = cow_read(q, r->offset + r->bytes, r->tail, r->tail_zero, edges ? edges + r->head : NULL);
    if (err)
        return err;
    if (q->crypt) {
        g_autofree uint8_t *all = g_malloc(total);
        struct iov_cursor from = *c;
        memcpy(all, edges ? edges : (uint8_t *) "", r->head);
        iov_cursor_read(&from, all + r->head, r->bytes);
        memcpy(all + r->head + r->bytes, edges ? edges + r->head : (uint8_t *) "", r->tail);
        err = qcow2_encrypt(q, host, start, all, total);
        return err ? err : block_pwrite(qcow2_data(q), host, total, all, 0);
    }
    if (!edges) {
        struct iovec small[INLINE_IOV], *allocated;
        int n;
        const struct iovec *iov = vectors(c, r->bytes, small, &n, &allocated);
        err = block_pwritev(qcow2_data(q), host, total, iov, n, 0);
        g_free(allocated);
        return err;
    }
    g_autoptr(GArray) v = g_array_sized_new(FALSE, FALSE, sizeof(struct iovec), (guint) c->n + 2);
    struct iovec head = {edges, r->head}, tail = {edges + r->head, r->tail};
    if (r->head)
        g_array_append_val(v, head);
    slices_of(c, r->bytes, v);
    if (r->tail)
        g_array_append_val(v, tail);
    return block_pwritev(qcow2_data(q), host, total, (struct iovec *) (void *) v->data, (int) v->len, 0);
}

/* The word of subclusters of a cluster after the run. */
static uint64_t run_subclusters(const struct qcow2 *q, const struct run *r, uint64_t cluster, uint64_t e, uint64_t w)
{
    bool whole = !r->own && (e & QCOW2_OFLAG_COMPRESSED || w & UINT32_MAX);
    if (whole)
        return UINT32_MAX;
    uint64_t start = cluster << q->cluster_bits, lo = MAX(start, r->offset), hi = MIN(start + q->cluster_size, r->offset + r->bytes);
    unsigned from = (unsigned) ((lo - start) >> q->subcluster_bits);
    unsigned to = (unsigned) ((hi - start + (UINT64_C(1) << q->subcluster_bits) - 1) >> q->subcluster_bits);
    uint64_t bits = (to == 32 ? UINT32_MAX : (UINT32_C(1) << to) - 1) & ~((UINT32_C(1) << from) - 1);
    return (w | bits) & ~(bits << 32);
}

/* Enters the run's places into the L2 table. */
static int run_enter(struct qcow2 *q, const struct run *r)
{
    int err = 0;
    uint64_t c = r->in.first;
    while (c <= r->in.last) {
        struct qcow2_slice *s = qcow2_slice_get(q, c, true, &err);
        if (!s)
            break;
        for (uint64_t slice_last = c | ((UINT64_C(1) << q->slice_bits) - 1); c <= r->in.last && c <= slice_last; c++) {
            unsigned index = qcow2_slice_index(q, c);
            uint64_t e = qcow2_entry(s, index), host = r->host + ((c - r->in.first) << q->cluster_bits);
            if (q->extended) {
                uint64_t w = e & QCOW2_OFLAG_COMPRESSED ? 0 : qcow2_entry(s, index + 1);
                s->entry[index + 1] = GUINT64_TO_BE(run_subclusters(q, r, c, e, w));
            }
            s->entry[index] = GUINT64_TO_BE(host | QCOW2_OFLAG_COPIED);
            if (!r->own)
                qcow2_free_entry(q, e, QCOW2_DISCARD_SNAPSHOT);
        }
    }
    if (c <= r->in.last && !r->own && !q->external)
        qcow2_refcount_add(q, r->host + ((c - r->in.first) << q->cluster_bits), (r->in.last + 1 - c) << q->cluster_bits, -1);
    return err;
}

/* Clusters whose data did not get there: nothing points to them, on the disk or in memory. */
static void run_abandon(struct qcow2 *q, const struct run *r)
{
    if (!r->own && !q->external)
        qcow2_refcount_add(q, r->host, (r->in.last + 1 - r->in.first) << q->cluster_bits, -1);
}

/* Over data that is this image's own. With the lock; returns without. */
static int write_in_place(struct qcow2 *q, const struct qcow2_extent *x, uint64_t offset, const struct iov_cursor *c)
{
    bool ok = q->external || qcow2_meta_ok(q, x->host, x->bytes);
    gint *users = &q->users[q->epoch];
    g_atomic_int_inc(users);
    g_mutex_unlock(&q->lock);
    struct run r = {.in.first = offset >> q->cluster_bits, .offset = offset, .bytes = x->bytes, .own = true,
                    .host = x->host - (offset & (q->cluster_size - 1))};
    int err = ok ? run_write(q, &r, c) : EIO;
    g_atomic_int_add(users, -1);
    return err;
}

static int write_some(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iov_cursor *c, uint64_t *ret_done)
{
    struct qcow2_extent x;
    uint64_t first = offset >> q->cluster_bits, span = UINT64_C(1) << (q->slice_bits + q->cluster_bits);
    bytes = MIN(bytes, span - (offset & (span - 1))); /* within a slice */
    g_mutex_lock(&q->lock);
    int err = q->failed ? q->failed : qcow2_lookup(q, offset, bytes, &x);
    if (!err && x.kind == QCOW2_DATA && x.copied) {
        *ret_done = x.bytes;
        return write_in_place(q, &x, offset, c);
    }
    struct qcow2_slice *s = err ? NULL : qcow2_slice_alone(q, first, (offset + bytes - 1) >> q->cluster_bits, &err);
    if (s && !(err = qcow2_classify(q, s, offset, bytes, &x)) && x.kind == QCOW2_DATA && x.copied) {
        *ret_done = x.bytes;
        return write_in_place(q, &x, offset, c);
    }
    struct run r;
    if (!err)
        err = run_begin(q, s, offset, bytes, &r);
    if (err) {
        g_mutex_unlock(&q->lock);
        return err;
    }
    gint *users = &q->users[q->epoch];
    g_atomic_int_inc(users);
    g_mutex_unlock(&q->lock);
    err = run_write(q, &r, c);
    g_mutex_lock(&q->lock);
    g_atomic_int_add(users, -1);
    if (err)
        run_abandon(q, &r);
    else
        err = run_enter(q, &r);
    inflight_remove(q, &r.in);
    g_mutex_unlock(&q->lock);
    *ret_done = r.bytes;
    return err;
}

int qcow2_data_write(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iov_cursor c = {iov, niov, 0};
    while (bytes) {
        uint64_t done = 0;
        int err = write_some(q, offset, bytes, &c, &done);
        if (err)
            return err;
        offset += done;
        bytes -= done;
        if (bytes)
            iov_cursor_advance(&c, done);
    }
    return 0;
}

/* ---- compressed ---- */

/* A place for `bytes` bytes of compressed data, after the last one where that fits. */
static int alloc_bytes(struct qcow2 *q, uint64_t bytes, uint64_t *ret)
{
    uint64_t room = q->compressed_next ? -q->compressed_next & (q->cluster_size - 1) : 0, cluster;
    uint64_t last = q->compressed_next - 1; /* lies in the cluster that has room */
    if (room >= bytes && !qcow2_refcount_add(q, last, 1, 1)) {
        *ret = q->compressed_next;
        q->compressed_next += bytes;
        return 0;
    }
    int err = qcow2_alloc(q, 1, &cluster);
    if (err)
        return err;
    /* qcow2_alloc may have dropped what was known (reclaimed clusters): look again. */
    room = q->compressed_next ? -q->compressed_next & (q->cluster_size - 1) : 0;
    if (room && room < bytes && q->compressed_next + room == cluster && !qcow2_refcount_add(q, q->compressed_next - 1, 1, 1))
        *ret = q->compressed_next;
    else
        *ret = cluster;
    q->compressed_next = *ret + bytes;
    return 0;
}

static int enter_compressed(struct qcow2 *q, uint64_t cluster, uint64_t host, uint64_t bytes)
{
    int err;
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = ((host + bytes - 1) >> 9) - (host >> 9);
    struct qcow2_slice *s = qcow2_slice_get(q, cluster, true, &err);
    if (!s)
        return err ? err : EIO;
    unsigned index = qcow2_slice_index(q, cluster);
    qcow2_free_entry(q, qcow2_entry(s, index), QCOW2_DISCARD_SNAPSHOT);
    s->entry[index] = GUINT64_TO_BE(host | sectors << x | QCOW2_OFLAG_COMPRESSED);
    if (q->extended)
        s->entry[index + 1] = 0;
    return 0;
}

static int write_packed(struct qcow2 *q, uint64_t offset, const void *packed, uint64_t bytes)
{
    struct qcow2_inflight in = {.first = offset >> q->cluster_bits, .last = offset >> q->cluster_bits};
    uint64_t host = 0, limit = UINT64_C(1) << MIN(62 - (q->cluster_bits - 8), 56);
    int err;
    g_mutex_lock(&q->lock);
    if (qcow2_slice_alone(q, in.first, in.last, &err))
        err = alloc_bytes(q, bytes, &host);
    if (!err && host + bytes > limit) {
        qcow2_refcount_add(q, host, bytes, -1);
        err = EFBIG;
    }
    if (err) {
        g_mutex_unlock(&q->lock);
        return err;
    }
    in.next = q->inflight;
    q->inflight = &in;
    g_mutex_unlock(&q->lock);
    err = block_pwrite(qcow2_file(q), host, bytes, packed, 0);
    g_mutex_lock(&q->lock);
    if (!err)
        err = enter_compressed(q, in.first, host, bytes);
    if (err)
        qcow2_refcount_add(q, host, bytes, -1);
    inflight_remove(q, &in);
    g_mutex_unlock(&q->lock);
    return err;
}

static int write_compressed(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iov_cursor c = {iov, niov, 0};
    if (q->external || q->crypt)
        return EOPNOTSUPP;
    if (offset & (q->cluster_size - 1))
        return EINVAL;
    g_autofree uint8_t *plain = g_malloc(q->cluster_size), *packed = g_malloc(q->cluster_size);
    for (uint64_t part; bytes; offset += part, bytes -= part) {
        size_t length;
        part = MIN(bytes, q->cluster_size);
        if (part < q->cluster_size && offset + part != q->n->size)
            return EINVAL;
        iov_cursor_read(&c, plain, part);
        memset(plain + part, 0, q->cluster_size - part);
        int err = qcow2_compress(q, plain, q->cluster_size, packed, q->cluster_size - 1, &length);
        const struct iovec whole = {plain, part};
        if (err == ENOSPC) /* does not get smaller */
            err = qcow2_data_write(q, offset, part, &whole, 1);
        else if (!err)
            err = write_packed(q, offset, packed, length);
        if (err)
            return err;
    }
    return 0;
}

int qcow2_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    int err = flags & BLOCK_COMPRESSED ? write_compressed(q, offset, bytes, iov, niov) : qcow2_data_write(q, offset, bytes, iov, niov);
    /* Frees that wait for a flush must not pile up. */
    return err || q->frees_clusters < 65536 ? err : qcow2_flush(q);
}
