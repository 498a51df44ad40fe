/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "Cluster mapping" and "Extended L2 Entries": what lies at a guest offset, and how mappings are taken away again. */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

static enum qcow2_kind kind_of(const struct qcow2 *q, uint64_t e)
{
    if (e & QCOW2_OFLAG_COMPRESSED)
        return QCOW2_COMPRESSED;
    bool host = (e & QCOW2_L2_OFFSET_MASK) || (q->external && e & QCOW2_OFLAG_COPIED);
    if (e & QCOW2_OFLAG_ZERO && q->h.version >= 3)
        return host ? QCOW2_ZERO_HOST : QCOW2_ZERO;
    return host ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

/* w: the word of subclusters, sub: which. */
static enum qcow2_kind sub_kind(const struct qcow2 *q, uint64_t e, uint64_t w, unsigned sub)
{
    if (e & QCOW2_OFLAG_COMPRESSED)
        return QCOW2_COMPRESSED;
    if (w >> sub & 1)
        return QCOW2_DATA;
    if (!(w >> (sub + 32) & 1))
        return QCOW2_UNALLOCATED;
    return (e & QCOW2_L2_OFFSET_MASK) || (q->external && e & QCOW2_OFLAG_COPIED) ? QCOW2_ZERO_HOST : QCOW2_ZERO;
}

static int check_entry(struct qcow2 *q, uint64_t cluster, uint64_t e, uint64_t w)
{
    uint64_t host = e & QCOW2_L2_OFFSET_MASK;
    if (e & QCOW2_OFLAG_COMPRESSED) {
        if (q->external)
            return qcow2_corrupt(q, true, 0, 0, "Compressed cluster entry found in image with external data file (guest offset %#" G_GINT64_MODIFIER "x)",
                                 cluster << q->cluster_bits);
        return 0;
    }
    if (host & (q->cluster_size - 1))
        return qcow2_corrupt(q, true, host, q->cluster_size, "Cluster allocation offset %#" G_GINT64_MODIFIER "x unaligned (guest offset %#" G_GINT64_MODIFIER "x)",
                             host, cluster << q->cluster_bits);
    if (q->external && e & QCOW2_OFLAG_COPIED && host != cluster << q->cluster_bits)
        return qcow2_corrupt(q, true, host, q->cluster_size,
                             "External data file host cluster offset %#" G_GINT64_MODIFIER "x does not match guest cluster offset %#" G_GINT64_MODIFIER "x",
                             host, cluster << q->cluster_bits);
    if (w & w >> 32 & UINT32_MAX)
        return qcow2_corrupt(q, true, host, q->cluster_size, "Invalid cluster entry found: subclusters both allocated and zero (guest offset %#" G_GINT64_MODIFIER "x)",
                             cluster << q->cluster_bits);
    if (w & UINT32_MAX && !host && !q->external)
        return qcow2_corrupt(q, true, 0, 0, "Invalid cluster entry found: subclusters without a host cluster (guest offset %#" G_GINT64_MODIFIER "x)",
                             cluster << q->cluster_bits);
    return 0;
}

static bool has_place(enum qcow2_kind kind)
{
    return kind == QCOW2_DATA || kind == QCOW2_ZERO_HOST;
}

static int classify_extended(struct qcow2 *q, const struct qcow2_slice *s, uint64_t offset, uint64_t bytes, struct qcow2_extent *x)
{
    uint64_t cluster = offset >> q->cluster_bits, in = offset & (q->cluster_size - 1), sub_size = UINT64_C(1) << q->subcluster_bits;
    unsigned index = qcow2_slice_index(q, cluster), end = q->slice_bytes / 8, sub = (unsigned) (in >> q->subcluster_bits);
    uint64_t e = qcow2_entry(s, index), w = e & QCOW2_OFLAG_COMPRESSED ? 0 : qcow2_entry(s, index + 1), host = e & QCOW2_L2_OFFSET_MASK;
    int err = check_entry(q, cluster, e, w);
    if (err)
        return err;
    *x = (struct qcow2_extent){sub_kind(q, e, w, sub), e & QCOW2_OFLAG_COPIED, 0, host + in, e};
    if (x->kind == QCOW2_COMPRESSED) {
        x->bytes = MIN(bytes, q->cluster_size - in);
        return 0;
    }
    x->bytes = sub_size - (in & (sub_size - 1));
    for (sub++; x->bytes < bytes; sub++) {
        if (sub == QCOW2_SUBCLUSTERS) {
            sub = 0;
            index += 2;
            cluster++;
            if (index >= end)
                break;
            uint64_t next = qcow2_entry(s, index), nhost = next & QCOW2_L2_OFFSET_MASK;
            if (next & QCOW2_OFLAG_COMPRESSED || (next ^ e) & QCOW2_OFLAG_COPIED || (has_place(x->kind) && nhost != host + q->cluster_size))
                break;
            e = next;
            host = nhost;
            w = qcow2_entry(s, index + 1);
            if (w & w >> 32 & UINT32_MAX || (w & UINT32_MAX && !host && !q->external) || host & (q->cluster_size - 1))
                break; /* said when it is its turn */
        }
        if (sub_kind(q, e, w, sub) != x->kind)
            break;
        x->bytes += sub_size;
    }
    x->bytes = MIN(x->bytes, bytes);
    return 0;
}

int qcow2_classify(struct qcow2 *q, const struct qcow2_slice *s, uint64_t offset, uint64_t bytes, struct qcow2_extent *x)
{
    if (q->extended)
        return classify_extended(q, s, offset, bytes, x);
    uint64_t cluster = offset >> q->cluster_bits, in = offset & (q->cluster_size - 1);
    unsigned index = qcow2_slice_index(q, cluster), end = q->slice_bytes / 8;
    uint64_t e = qcow2_entry(s, index);
    int err = check_entry(q, cluster, e, 0);
    if (err)
        return err;
    *x = (struct qcow2_extent){kind_of(q, e), e & QCOW2_OFLAG_COPIED, q->cluster_size - in, (e & QCOW2_L2_OFFSET_MASK) + in, e};
    if (x->kind != QCOW2_COMPRESSED) {
        uint64_t step = has_place(x->kind) ? q->cluster_size : 0;
        for (index++; index < end && x->bytes < bytes; index++) {
            e += step;
            if (qcow2_entry(s, index) != e)
                break;
            x->bytes += q->cluster_size;
        }
    }
    x->bytes = MIN(x->bytes, bytes);
    return 0;
}

int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t bytes, struct qcow2_extent *x)
{
    int err;
    struct qcow2_slice *s = qcow2_slice_get(q, offset >> q->cluster_bits, false, &err);
    if (s)
        return qcow2_classify(q, s, offset, bytes, x);
    if (err)
        return err;
    uint64_t table = UINT64_C(1) << (q->l2_bits + q->cluster_bits); /* bytes that a table describes */
    *x = (struct qcow2_extent){.kind = QCOW2_UNALLOCATED, .bytes = MIN(bytes, table - (offset & (table - 1)))};
    return 0;
}

bool qcow2_no_backing(const struct qcow2 *q, uint64_t offset)
{
    const struct block_node *b = q->n->child[BLOCK_ROLE_BACKING];
    return !b || offset >= block_node_size(b) || offset >= block_node_size(q->n);
}

static bool busy(const struct qcow2 *q, uint64_t first, uint64_t last)
{
    for (const struct qcow2_inflight *f = q->inflight; f; f = f->next)
        if (f->first <= last && f->last >= first)
            return true;
    return false;
}

struct qcow2_slice *qcow2_slice_alone(struct qcow2 *q, uint64_t cluster, uint64_t last, int *ret_err)
{
    for (;;) {
        bool dropped;
        if (cluster >> q->l2_bits >= q->h.l1_size) {
            *ret_err = EIO;
            return NULL;
        }
        if ((*ret_err = qcow2_table_for_write(q, (uint32_t) (cluster >> q->l2_bits), &dropped)))
            return NULL;
        if (dropped)
            continue;
        struct qcow2_slice *s = qcow2_slice_get(q, cluster, false, ret_err);
        if (*ret_err)
            return NULL;
        if (!s || !(q->l1[cluster >> q->l2_bits] & QCOW2_OFLAG_COPIED))
            continue;
        if (!busy(q, cluster, last))
            return s;
        q->waiters = true;
        g_cond_wait(&q->cond, &q->lock);
    }
}

/* ---- zeroes and discard ---- */

struct change { /* of mappings, for a range */
    bool discard, full, may_unmap;
    enum qcow2_discard_type type;
};

/* One cluster, subclusters lo..hi-1 of it (all, without extended entries). EOPNOTSUPP: it takes data to do this. */
static int change_one(struct qcow2 *q, struct qcow2_slice *s, uint64_t cluster, unsigned lo, unsigned hi, const struct change *c)
{
    unsigned index = qcow2_slice_index(q, cluster);
    uint64_t e = qcow2_entry(s, index), w = q->extended && !(e & QCOW2_OFLAG_COMPRESSED) ? qcow2_entry(s, index + 1) : 0, new = 0, new_w = 0;
    bool whole = lo == 0 && hi == QCOW2_SUBCLUSTERS, own = e & QCOW2_OFLAG_COPIED && !(e & QCOW2_OFLAG_COMPRESSED);
    int err = check_entry(q, cluster, e, w);
    if (err)
        return err;
    if (c->discard) {
        bool nothing = !e && !w;
        if (nothing && (c->full || qcow2_no_backing(q, cluster << q->cluster_bits)))
            return 0;
        bool keep = q->o.discard_no_unref && c->type == QCOW2_DISCARD_REQUEST && own && q->h.version >= 3 && !c->full;
        bool zero = !c->full && q->h.version >= 3;
        new = (zero && !q->extended ? QCOW2_OFLAG_ZERO : 0) | (keep ? (e & QCOW2_L2_OFFSET_MASK) | QCOW2_OFLAG_COPIED : 0);
        new_w = zero && q->extended ? UINT64_C(0xffffffff) << 32 : 0;
    } else if (whole) {
        bool keep = own && !c->may_unmap;
        new = (keep ? (e & QCOW2_L2_OFFSET_MASK) | QCOW2_OFLAG_COPIED : 0) | (q->extended ? 0 : QCOW2_OFLAG_ZERO);
        new_w = UINT64_C(0xffffffff) << 32;
    } else {
        if (e & QCOW2_OFLAG_COMPRESSED)
            return EOPNOTSUPP;
        uint64_t bits = (hi == 32 ? UINT32_MAX : (UINT32_C(1) << hi) - 1) & ~((UINT32_C(1) << lo) - 1);
        new = e;
        new_w = (w & ~bits) | bits << 32;
    }
    if (new == e && (!q->extended || new_w == w))
        return 0;
    bool had = e & QCOW2_OFLAG_COMPRESSED || e & QCOW2_L2_OFFSET_MASK || (q->external && e & QCOW2_OFLAG_COPIED);
    qcow2_slice_dirty(q, s);
    s->entry[index] = GUINT64_TO_BE(new);
    if (q->extended)
        s->entry[index + 1] = GUINT64_TO_BE(new_w);
    if (had && !(new & QCOW2_OFLAG_COPIED) && new != e)
        qcow2_free_entry(q, e, c->type);
    return 0;
}

static int change_range(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct change *c)
{
    uint64_t end = offset + bytes, table = UINT64_C(1) << (q->l2_bits + q->cluster_bits);
    int err = 0;
    g_mutex_lock(&q->lock);
    while (offset < end && !err) {
        uint64_t cluster = offset >> q->cluster_bits, index = cluster >> q->l2_bits;
        if (c->discard && (index >= q->h.l1_size || (!(q->l1[index] & QCOW2_L1_OFFSET_MASK) && (c->full || qcow2_no_backing(q, offset))))) {
            offset = (offset & ~(table - 1)) + table; /* nothing there to take away */
            continue;
        }
        uint64_t slice_last = cluster | ((UINT64_C(1) << q->slice_bits) - 1), last = MIN(slice_last, (end - 1) >> q->cluster_bits);
        struct qcow2_slice *s = qcow2_slice_alone(q, cluster, last, &err);
        for (; s && cluster <= last && !err; cluster++) {
            uint64_t start = cluster << q->cluster_bits, stop = MIN(start + q->cluster_size, end);
            unsigned lo = 0, hi = QCOW2_SUBCLUSTERS;
            if (q->extended && !c->discard) {
                lo = (unsigned) ((offset - start) >> q->subcluster_bits);
                hi = (unsigned) ((stop - start + (UINT64_C(1) << q->subcluster_bits) - 1) >> q->subcluster_bits);
                if (stop == end && end == q->n->size)
                    hi = QCOW2_SUBCLUSTERS;
            }
            err = change_one(q, s, cluster, lo, hi, c);
            if (!err)
                offset = start + q->cluster_size;
        }
    }
    bool many = q->frees_clusters > 65536;
    g_mutex_unlock(&q->lock);
    return err || !many ? err : qcow2_flush(q);
}

int qcow2_unmap_clusters(struct qcow2 *q, uint64_t offset, uint64_t bytes, enum qcow2_discard_type type, bool full)
{
    const struct change c = {.discard = true, .full = full, .type = type};
    return change_range(q, offset, bytes, &c);
}

int qcow2_zero_clusters(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool may_unmap)
{
    const struct change c = {.may_unmap = may_unmap, .type = QCOW2_DISCARD_REQUEST};
    /* An external data file has one place for each cluster, which the next write takes at once: it is freed before, not after. */
    if (q->raw_external || (q->external && may_unmap)) {
        int err = block_write_zeroes(qcow2_data(q), offset, MIN(bytes, q->n->size - MIN(offset, q->n->size)), may_unmap ? BLOCK_MAY_UNMAP : 0);
        if (err)
            return err;
    }
    return change_range(q, offset, bytes, &c);
}

int qcow2_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t start = (offset + q->cluster_size - 1) & ~(q->cluster_size - 1), end = offset + bytes;
    end = end == n->size ? (end + q->cluster_size - 1) & ~(q->cluster_size - 1) : end & ~(q->cluster_size - 1);
    if (start >= end)
        return 0;
    if (q->raw_external) /* what the data file holds has to be the same */
        return qcow2_zero_clusters(q, start, MIN(end, n->size) - start, true);
    if (q->external) {
        int err = block_discard(qcow2_data(q), start, MIN(end, n->size) - start);
        if (err)
            return err;
    }
    return qcow2_unmap_clusters(q, start, end - start, QCOW2_DISCARD_REQUEST, false);
}

/* A part of a subcluster: nothing to do when it reads as zeroes, else data. */
static int zero_part(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    struct qcow2_extent x;
    g_mutex_lock(&q->lock);
    int err = qcow2_lookup(q, offset, bytes, &x);
    g_mutex_unlock(&q->lock);
    if (err)
        return err;
    if (!q->raw_external && x.bytes >= bytes &&
        (x.kind == QCOW2_ZERO || x.kind == QCOW2_ZERO_HOST || (x.kind == QCOW2_UNALLOCATED && qcow2_no_backing(q, offset))))
        return 0;
    g_autofree void *zeroes = g_malloc0(bytes);
    const struct iovec iov = {zeroes, bytes};
    return qcow2_data_write(q, offset, bytes, &iov, 1);
}

int qcow2_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t unit = UINT64_C(1) << q->subcluster_bits, end = offset + bytes;
    uint64_t first = (offset + unit - 1) & ~(unit - 1), last = end == n->size ? (end + unit - 1) & ~(unit - 1) : end & ~(unit - 1);
    if (q->h.version < 3) {
        if (!qcow2_no_backing(q, offset) || offset & (q->cluster_size - 1) || (end & (q->cluster_size - 1) && end != n->size))
            return EOPNOTSUPP;
        return qcow2_unmap_clusters(q, offset, last - offset, QCOW2_DISCARD_REQUEST, false);
    }
    if (first >= last)
        return flags & BLOCK_NO_FALLBACK ? EOPNOTSUPP : zero_part(q, offset, bytes);
    int err = first > offset ? zero_part(q, offset, first - offset) : 0;
    if (!err && q->raw_external)
        last = MIN(last, end);
    if (!err)
        err = qcow2_zero_clusters(q, first, last - first, flags & BLOCK_MAY_UNMAP);
    if (err == EOPNOTSUPP && !(flags & BLOCK_NO_FALLBACK))
        return err; /* node_io.c writes zero bytes over all of it */
    if (!err && last < end)
        err = zero_part(q, last, end - last);
    return err;
}

/* ---- where content is ---- */

int qcow2_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_extent x;
    g_mutex_lock(&q->lock);
    int err = qcow2_lookup(q, offset, bytes, &x);
    g_mutex_unlock(&q->lock);
    if (err)
        return err;
    ret->bytes = x.bytes;
    switch (x.kind) {
    case QCOW2_UNALLOCATED:
        ret->flags = n->child[BLOCK_ROLE_BACKING] ? 0 : BLOCK_STATUS_ZERO;
        break;
    case QCOW2_ZERO: ret->flags = BLOCK_STATUS_ZERO | BLOCK_STATUS_ALLOCATED; break;
    case QCOW2_ZERO_HOST: ret->flags = BLOCK_STATUS_ZERO | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED; break;
    case QCOW2_DATA: ret->flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | (q->crypt ? 0 : BLOCK_STATUS_MAPPED | (q->metadata_preallocated ? BLOCK_STATUS_RECURSE : 0)); break;
    case QCOW2_COMPRESSED: ret->flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_COMPRESSED; break;
    }
    if (ret->flags & BLOCK_STATUS_MAPPED) {
        ret->map = x.host;
        ret->file = qcow2_data(q);
    }
    return 0;
}

/* Of a piece that is in one state, in memory; false when that is not known without reading. */
static bool classify_now(struct qcow2 *q, uint64_t offset, uint64_t bytes, struct qcow2_extent *x)
{
    uint64_t cluster = offset >> q->cluster_bits, table = UINT64_C(1) << (q->l2_bits + q->cluster_bits);
    const struct qcow2_slice *s = qcow2_slice_peek(q, cluster);
    if (s)
        return !qcow2_classify(q, s, offset, bytes, x) && x->bytes >= bytes;
    *x = (struct qcow2_extent){.kind = QCOW2_UNALLOCATED};
    return cluster >> q->l2_bits < q->h.l1_size && !q->l1[cluster >> q->l2_bits] && bytes <= table - (offset & (table - 1));
}

/* Data in the image; zeroes; or what the backing image has there. */
bool qcow2_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret)
{
    struct qcow2 *q = qcow2_of(n);
    struct block_node *backing = n->child[BLOCK_ROLE_BACKING];
    struct qcow2_extent x;
    if (q->crypt || (write && q->read_only))
        return false;
    g_mutex_lock(&q->lock);
    bool ok = classify_now(q, offset, bytes, &x);
    if (ok && x.kind == QCOW2_DATA) {
        ok = !write || (x.copied && !q->failed && (q->external || qcow2_meta_ok(q, x.host, bytes)));
        if (ok) {
            gint *users = &q->users[q->epoch];
            g_atomic_int_inc(users);
            ret->token[0] = users;
            ret->node = qcow2_data(q);
            ret->offset = x.host;
        }
    } else if (ok && !write && x.kind == QCOW2_UNALLOCATED && !qcow2_no_backing(q, offset)) {
        ret->node = backing;
        ok = bytes <= block_node_size(backing) - offset;
    } else {
        ok = ok && !write && x.kind != QCOW2_COMPRESSED;
        ret->zero = ok;
    }
    g_mutex_unlock(&q->lock);
    return ok;
}

void qcow2_unmap(struct block_node *n, struct block_map *map)
{
    if (map->token[0])
        g_atomic_int_add((gint *) map->token[0], -1);
}
