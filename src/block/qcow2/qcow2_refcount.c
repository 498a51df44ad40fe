/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reference counts of host clusters and their allocation ("Host cluster management"). All in memory, under q->lock; qcow2_flush writes.
 *
 * Refcount blocks, and the refcount table, take clusters themselves that have to be counted. A run of clusters is therefore marked as
 * used first, which may make new blocks in memory without a place in the file ("homeless"); then each is given the next free cluster,
 * whose count may need another new block, until all have a place (settle).
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>


/* ---- one block ---- */

static uint64_t count_get(const struct qcow2 *q, const uint8_t *data, uint64_t i)
{
    switch (q->h.refcount_order) {
    case 4: return GUINT16_FROM_BE(((const uint16_t *) data)[i]);
    case 3: return data[i];
    case 5: return GUINT32_FROM_BE(((const uint32_t *) data)[i]);
    case 6: return GUINT64_FROM_BE(((const uint64_t *) data)[i]);
    default: {
        unsigned order = q->h.refcount_order, per = 3 - order, shift = (unsigned) (i & ((1u << per) - 1)) << order;
        return data[i >> per] >> shift & ((1u << q->refcount_bits) - 1);
    }
    }
}
static void count_put(const struct qcow2 *q, struct qcow2_block *b, uint64_t i, uint64_t value)
{
    uint8_t *data = b->data;
    uint32_t lo, bytes = q->refcount_bits >> 3;
    switch (q->h.refcount_order) {
    case 4: ((uint16_t *) data)[i] = GUINT16_TO_BE((uint16_t) value); break;
    case 3: data[i] = (uint8_t) value; break;
    case 5: ((uint32_t *) data)[i] = GUINT32_TO_BE((uint32_t) value); break;
    case 6: ((uint64_t *) data)[i] = GUINT64_TO_BE(value); break;
    default: {
        unsigned order = q->h.refcount_order, per = 3 - order, shift = (unsigned) (i & ((1u << per) - 1)) << order;
        uint8_t mask = (uint8_t) (((1u << q->refcount_bits) - 1) << shift), *p = &data[i >> per];
        *p = (uint8_t) ((*p & ~mask) | value << shift);
    }
    }
    lo = q->refcount_bits >= 8 ? (uint32_t) (i * bytes) : (uint32_t) (i >> (3 - q->h.refcount_order));
    b->dirty_lo = MIN(b->dirty_lo, lo);
    b->dirty_hi = MAX(b->dirty_hi, lo + MAX(bytes, 1));
}

static struct qcow2_block *block_new(struct qcow2 *q, uint64_t index)
{
    struct qcow2_block *b = g_new0(struct qcow2_block, 1);
    b->data = g_malloc0(q->cluster_size);
    b->index = index;
    b->dirty_lo = UINT32_MAX;
    b->used = true;
    q->blocks[index] = b;
    g_ptr_array_add(q->block_list, b);
    return b;
}
static void block_free(struct qcow2_block *b)
{
    g_free(b->data);
    g_free(b);
}
static bool block_idle(const struct qcow2_block *b)
{
    return !b->flushing && b->dirty_lo >= b->dirty_hi;
}
/* Makes room when there are too many. Called where nobody holds a pointer to one. */
static void blocks_trim(struct qcow2 *q)
{
    for (unsigned tries = 2 * q->block_list->len; q->block_list->len > q->max_blocks && tries; tries--) {
        q->block_hand %= q->block_list->len;
        struct qcow2_block *b = q->block_list->pdata[q->block_hand];
        if (block_idle(b) && !b->used) {
            q->blocks[b->index] = NULL;
            g_ptr_array_remove_index_fast(q->block_list, q->block_hand);
            block_free(b);
        } else {
            b->used = false;
            q->block_hand++;
        }
    }
}

/* The block of that index; *ret NULL: there is none, all its counts are 0. */
static int block_get(struct qcow2 *q, uint64_t index, struct qcow2_block **ret)
{
    *ret = NULL;
    if (index >= q->rt_entries)
        return 0;
    if (q->blocks[index]) {
        *ret = q->blocks[index];
        (*ret)->used = true;
        return 0;
    }
    uint64_t offset = q->rt[index] & QCOW2_RT_OFFSET_MASK;
    if (!offset)
        return 0;
    if (offset & (q->cluster_size - 1))
        return qcow2_corrupt(q, true, offset, q->cluster_size, "Refblock offset %#" G_GINT64_MODIFIER "x unaligned (reftable index: %#" G_GINT64_MODIFIER "x)", offset, index);
    struct qcow2_block *b = block_new(q, index);
    int err = qcow2_file_read(q, offset, q->cluster_size, b->data);
    if (err) {
        q->blocks[index] = NULL;
        g_ptr_array_remove_fast(q->block_list, b);
        block_free(b);
        return err;
    }
    *ret = b;
    return 0;
}

/* ---- the table ---- */

static void rt_extend(struct qcow2 *q, uint64_t entries)
{
    uint64_t per = q->cluster_size / 8, wanted = MAX(entries, q->rt_entries + q->rt_entries / 2);
    wanted = MIN((wanted + per - 1) / per * per, (uint64_t) QCOW2_MAX_RT_BYTES / 8);
    q->rt = g_renew(uint64_t, q->rt, wanted);
    q->blocks = g_renew(struct qcow2_block *, q->blocks, wanted);
    memset(q->rt + q->rt_entries, 0, (wanted - q->rt_entries) * 8);
    memset(q->blocks + q->rt_entries, 0, (wanted - q->rt_entries) * sizeof(*q->blocks));
    q->rt_entries = wanted;
}

/* The block, made when there is none. */
static int block_want(struct qcow2 *q, uint64_t index, struct qcow2_block **ret)
{
    int err = block_get(q, index, ret);
    if (err || *ret)
        return err;
    if (index >= QCOW2_MAX_RT_BYTES / 8)
        return EFBIG;
    if (index >= q->rt_entries)
        rt_extend(q, index + 1);
    *ret = block_new(q, index);
    (*ret)->dirty_lo = 0;
    (*ret)->dirty_hi = (uint32_t) q->cluster_size;
    g_array_append_val(q->homeless, index);
    return 0;
}

static int count_of(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    struct qcow2_block *b;
    int err = block_get(q, cluster >> q->rb_bits, &b);
    *ret = !err && b ? count_get(q, b->data, cluster & ((UINT64_C(1) << q->rb_bits) - 1)) : 0;
    return err;
}
static int count_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
    struct qcow2_block *b;
    int err = block_want(q, cluster >> q->rb_bits, &b);
    if (!err)
        count_put(q, b, cluster & ((UINT64_C(1) << q->rb_bits) - 1), value);
    return err;
}

/* ---- finding free clusters ---- */

/* First free cluster at or above `from`, and how many follow it, up to `want`. Counts of clusters that no block covers are 0. */
static int find_free(struct qcow2 *q, uint64_t from, uint64_t want, uint64_t *ret, uint64_t *ret_run)
{
    const uint64_t per = UINT64_C(1) << q->rb_bits, limit = QCOW2_L2_OFFSET_MASK >> q->cluster_bits;
    uint64_t start = from, run = 0;
    for (uint64_t c = from; run < want;) {
        struct qcow2_block *b;
        int err = block_get(q, c >> q->rb_bits, &b);
        if (err)
            return err;
        uint64_t i = c & (per - 1), n;
        if (!b) {
            n = MIN(per - i, want - run);
            run += n;
            c += n;
        } else if (!run) {
            if (q->h.refcount_order == 4) {
                const uint16_t *p = (const uint16_t *) b->data;
                while (i < per && p[i])
                    i++;
            } else {
                while (i < per && count_get(q, b->data, i))
                    i++;
            }
            c = (c & ~(per - 1)) + i;
            start = c;
            if (i == per)
                continue;
            run = 1;
            c++;
        } else {
            for (; i < per && run < want && !count_get(q, b->data, i); i++, run++, c++)
                ;
            if (i < per && run < want)
                break;
        }
        if (c > limit)
            return EFBIG;
    }
    *ret = start;
    *ret_run = run;
    return 0;
}
static int find_run(struct qcow2 *q, uint64_t from, uint64_t n, uint64_t *ret)
{
    for (uint64_t run;; from = *ret + run) {
        int err = find_free(q, from, n, ret, &run);
        if (err || run == n)
            return err;
    }
}

static void touched(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
    q->fresh_from = MAX(q->fresh_from, (cluster + n) << q->cluster_bits);
}

/* Places for all new blocks, and for the refcount table when it has grown. */
static int settle(struct qcow2 *q, uint64_t from)
{
    int err = 0;
    uint64_t at;
    while (!err) {
        if (q->homeless->len) {
            uint64_t index = g_array_index(q->homeless, uint64_t, 0);
            if ((err = find_run(q, from, 1, &at)) || (err = count_set(q, at, 1)))
                break;
            g_array_remove_index(q->homeless, 0);
            q->rt[index] = at << q->cluster_bits;
            g_array_append_val(q->rt_dirty, index);
            qcow2_meta_mark(q, q->rt[index], q->cluster_size, true);
            touched(q, at, 1);
            continue;
        }
        uint64_t have = q->rt_moved ? q->rt_new_clusters : q->h.refcount_table_clusters;
        uint64_t need = qcow2_clusters(q, q->rt_entries * 8);
        if (need <= have)
            break;
        if ((err = find_run(q, from, need, &at)))
            break;
        for (uint64_t i = 0; i < need && !err; i++)
            err = count_set(q, at + i, 1);
        if (q->rt_moved) { /* it grew again before anybody heard of the last place */
            for (uint64_t i = 0; i < q->rt_new_clusters; i++)
                count_set(q, (q->rt_new_offset >> q->cluster_bits) + i, 0);
            qcow2_meta_mark(q, q->rt_new_offset, (uint64_t) q->rt_new_clusters << q->cluster_bits, false);
        } else {
            qcow2_free(q, q->h.refcount_table_offset, (uint64_t) q->h.refcount_table_clusters << q->cluster_bits, QCOW2_DISCARD_OTHER);
        }
        q->rt_moved = true;
        q->rt_new_offset = at << q->cluster_bits;
        q->rt_new_clusters = (uint32_t) need;
        qcow2_meta_mark(q, q->rt_new_offset, need << q->cluster_bits, true);
        touched(q, at, need);
    }
    if (err) /* a block without a place cannot be written: go no further */
        q->failed = err;
    return err;
}

/* ---- allocation ---- */

static int take(struct qcow2 *q, uint64_t at, uint64_t n, uint64_t *ret_offset)
{
    int err = 0;
    /* The block that covers the last cluster, and those for what will describe them, must fit the largest refcount table. */
    if ((at + n) >> q->rb_bits >= QCOW2_MAX_RT_BYTES / 8 - 8)
        return EFBIG;
    if (!qcow2_meta_ok(q, at << q->cluster_bits, n << q->cluster_bits))
        return EIO;
    uint64_t i = 0;
    for (; i < n && !err; i++)
        err = count_set(q, at + i, 1);
    touched(q, at, n);
    if (!err)
        err = settle(q, at + n);
    if (!err)
        *ret_offset = at << q->cluster_bits;
    return err;
}

int qcow2_alloc_some(struct qcow2 *q, uint64_t clusters, uint64_t *ret_offset, uint64_t *ret_clusters)
{
    uint64_t at;
    if (q->failed)
        return q->failed;
    blocks_trim(q);
    int err = find_free(q, q->free_from, clusters, &at, ret_clusters);
    if (!err)
        err = take(q, at, *ret_clusters, ret_offset);
    if (!err)
        q->free_from = at + *ret_clusters;
    return err;
}

int qcow2_alloc(struct qcow2 *q, uint64_t clusters, uint64_t *ret_offset)
{
    uint64_t at, run;
    if (q->failed)
        return q->failed;
    if (clusters == 1)
        return qcow2_alloc_some(q, 1, ret_offset, &run);
    blocks_trim(q);
    int err = find_run(q, q->free_from, clusters, &at);
    return err ? err : take(q, at, clusters, ret_offset);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    return count_of(q, cluster, ret);
}

static void now_free(struct qcow2 *q, uint64_t cluster)
{
    q->free_from = MIN(q->free_from, cluster);
    if (q->compressed_next && (q->compressed_next - 1) >> q->cluster_bits == cluster)
        q->compressed_next = 0;
    qcow2_meta_mark(q, cluster << q->cluster_bits, q->cluster_size, false);
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
    if (value > q->refcount_max)
        return ERANGE;
    blocks_trim(q);
    int err = count_set(q, cluster, value);
    if (!err && q->homeless->len)
        err = settle(q, MAX(q->free_from, cluster + 1));
    if (!err && !value)
        now_free(q, cluster);
    touched(q, cluster, 1);
    return err;
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t offset, uint64_t bytes, int delta)
{
    uint64_t first = offset >> q->cluster_bits, last = bytes ? (offset + bytes - 1) >> q->cluster_bits : first - 1, value = 0;
    int err = 0;
    blocks_trim(q);
    for (uint64_t c = first; c <= last && bytes; c++) { /* may each change? */
        if ((err = count_of(q, c, &value)))
            return err;
        if (delta < 0 ? value < (uint64_t) -delta : value + (uint64_t) delta > q->refcount_max || value + (uint64_t) delta < value)
            return delta < 0 ? EINVAL : ERANGE;
    }
    for (uint64_t c = first; c <= last && bytes && !err; c++) {
        err = count_of(q, c, &value);
        if (!err)
            err = qcow2_refcount_set(q, c, value + (uint64_t) (int64_t) delta);
    }
    return err;
}

/* ---- freeing ---- */

void qcow2_free(struct qcow2 *q, uint64_t offset, uint64_t bytes, enum qcow2_discard_type type)
{
    if (!bytes)
        return;
    uint64_t start = offset & ~(q->cluster_size - 1), end = (offset + bytes + q->cluster_size - 1) & ~(q->cluster_size - 1);
    q->frees_clusters += (end - start) >> q->cluster_bits;
    if (q->frees->len) {
        struct qcow2_free *last = &g_array_index(q->frees, struct qcow2_free, q->frees->len - 1);
        if (last->offset + last->bytes == start && last->type == type) {
            last->bytes = end - last->offset;
            return;
        }
    }
    struct qcow2_free f = {start, end - start, type};
    g_array_append_val(q->frees, f);
}

void qcow2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset, uint64_t *ret_bytes)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    *ret_offset = entry & ((UINT64_C(1) << x) - 1) & ((UINT64_C(1) << 56) - 1);
    uint64_t sectors = (entry >> x & ((UINT64_C(1) << (q->cluster_bits - 8)) - 1)) + 1;
    *ret_bytes = sectors * 512 - (*ret_offset & 511);
}

void qcow2_free_entry(struct qcow2 *q, uint64_t entry, enum qcow2_discard_type type)
{
    uint64_t offset = entry & QCOW2_L2_OFFSET_MASK, bytes = q->cluster_size;
    if (entry & QCOW2_OFLAG_COMPRESSED) {
        qcow2_compressed_place(q, entry, &offset, &bytes);
    } else if (q->external || !offset) {
        return; /* nothing is counted in an external data file */
    }
    qcow2_free(q, offset, bytes, type);
}

static bool pass_discard(const struct qcow2 *q, enum qcow2_discard_type type)
{
    switch (type) {
    case QCOW2_DISCARD_REQUEST: return qcow2_on(q->o.discard_request, q->n->flags & BLOCK_UNMAP);
    case QCOW2_DISCARD_SNAPSHOT: return qcow2_on(q->o.discard_snapshot, true);
    case QCOW2_DISCARD_OTHER: return qcow2_on(q->o.discard_other, false);
    default: return false;
    }
}

/* Holes in the host's file for what is about to become free. Without the lock: the clusters still count as used. */
static void punch(struct qcow2 *q, const GArray *list)
{
    struct block_node *node = qcow2_file(q);
    uint64_t start = 0, end = 0;
    for (guint i = 0; i < list->len; i++) {
        const struct qcow2_free *f = &g_array_index(list, struct qcow2_free, i);
        if (!pass_discard(q, f->type))
            continue;
        for (uint64_t at = f->offset; at < f->offset + f->bytes; at += q->cluster_size) {
            uint64_t count = 1;
            g_mutex_lock(&q->lock);
            if (count_of(q, at >> q->cluster_bits, &count))
                count = 2;
            g_mutex_unlock(&q->lock);
            if (count != 1)
                continue;
            if (at != end) {
                if (end > start)
                    block_discard(node, start, end - start);
                start = at;
            }
            end = at + q->cluster_size;
        }
    }
    uint64_t size = block_node_size(node);
    if (end > start && start < size)
        block_discard(node, start, MIN(end, size) - start);
}

void qcow2_reclaim(struct qcow2 *q)
{
    unsigned old = 1 - q->epoch;
    GArray *list = q->reclaim[old];
    if (!list->len || g_atomic_int_get(&q->users[old]))
        return;
    q->reclaim[old] = g_array_new(FALSE, FALSE, sizeof(struct qcow2_free));
    q->reclaiming++;
    bool holes = false;
    for (guint i = 0; i < list->len && !holes; i++)
        holes = pass_discard(q, g_array_index(list, struct qcow2_free, i).type);
    if (holes) {
        g_mutex_unlock(&q->lock);
        punch(q, list);
        g_mutex_lock(&q->lock);
    }
    for (guint i = 0; i < list->len; i++) {
        const struct qcow2_free *f = &g_array_index(list, struct qcow2_free, i);
        for (uint64_t c = f->offset >> q->cluster_bits; c < (f->offset + f->bytes) >> q->cluster_bits; c++) {
            uint64_t count;
            if (count_of(q, c, &count))
                continue; /* stays counted: a leak */
            if (!count) {
                qcow2_corrupt(q, false, c << q->cluster_bits, q->cluster_size, "Freeing a cluster without references");
                continue;
            }
            if (!count_set(q, c, count - 1) && count == 1)
                now_free(q, c);
        }
    }
    q->reclaiming--;
    g_array_free(list, TRUE);
}

/* ---- overlap checks ---- */

void qcow2_meta_mark(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool on)
{
    if (!q->meta || !bytes)
        return;
    uint64_t first = offset >> q->cluster_bits, end = (offset + bytes - 1) >> q->cluster_bits, limit = (q->fresh_from >> q->cluster_bits) + (1 << 16);
    for (uint64_t c = first; c <= end; c++) {
        if (c >= q->meta_clusters) {
            if (!on || c > limit) /* entries that point far beyond the file's end: nobody is given clusters there */
                return;
            uint64_t n = (MAX(c + 1, q->meta_clusters + q->meta_clusters / 2) + 63) & ~UINT64_C(63);
            uint8_t *larger = n >> 33 ? NULL : g_try_realloc(q->meta, n / 8); /* a file with holes can be of any size */
            if (!larger)
                return;
            q->meta = larger;
            memset(q->meta + q->meta_clusters / 8, 0, (n - q->meta_clusters) / 8);
            q->meta_clusters = n;
        }
        if (on)
            q->meta[c >> 3] |= (uint8_t) (1 << (c & 7));
        else
            q->meta[c >> 3] &= (uint8_t) ~(1 << (c & 7));
    }
}

bool qcow2_meta_ok(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    if (!q->meta || !bytes)
        return true;
    uint64_t end = (offset + bytes - 1) >> q->cluster_bits;
    for (uint64_t c = offset >> q->cluster_bits; c <= end && c < q->meta_clusters; c++) {
        if (q->meta[c >> 3] >> (c & 7) & 1) {
            qcow2_corrupt(q, true, c << q->cluster_bits, q->cluster_size, "Preventing invalid write on metadata (overlaps with metadata)");
            return false;
        }
    }
    return true;
}
