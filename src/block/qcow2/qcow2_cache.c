/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slices of L2 tables in memory, the L1 table, and the flush. A slice is found by two pointers (dir[l1 index][number]), so that a hit
 * costs next to nothing; which one has to go when the cache is full is found by a clock's hand.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

/* ---- metadata by offset ---- */

int qcow2_file_read(struct qcow2 *q, uint64_t offset, uint64_t bytes, void *buffer)
{
    uint64_t size = block_node_size(qcow2_file(q)), there = offset < size ? MIN(bytes, size - offset) : 0;
    int err = there ? block_pread(qcow2_file(q), offset, there, buffer) : 0;
    memset((char *) buffer + there, 0, bytes - there);
    return err;
}

int qcow2_file_write(struct qcow2 *q, uint64_t offset, uint64_t bytes, const void *buffer)
{
    return block_pwrite(qcow2_file(q), offset, bytes, buffer, 0);
}

int qcow2_table_read(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t *ret)
{
    int err = qcow2_file_read(q, offset, entries * 8, ret);
    for (uint64_t i = 0; i < entries && !err; i++)
        ret[i] = GUINT64_FROM_BE(ret[i]);
    return err;
}

int qcow2_table_write(struct qcow2 *q, uint64_t offset, uint64_t entries, const uint64_t *table)
{
    g_autofree uint64_t *be = g_new(uint64_t, entries + 1);
    for (uint64_t i = 0; i < entries; i++)
        be[i] = GUINT64_TO_BE(table[i]);
    return entries ? qcow2_file_write(q, offset, entries * 8, be) : 0;
}

/* ---- slices ---- */

static unsigned slice_number(const struct qcow2 *q, uint64_t cluster)
{
    return (unsigned) ((cluster & ((UINT64_C(1) << q->l2_bits) - 1)) >> q->slice_bits);
}

struct qcow2_slice *qcow2_slice_peek(struct qcow2 *q, uint64_t cluster)
{
    uint64_t i = cluster >> q->l2_bits;
    if (i >= q->h.l1_size || !q->dir[i])
        return NULL;
    struct qcow2_slice *s = q->dir[i][slice_number(q, cluster)];
    if (!s || s->loading)
        return NULL;
    s->used = true;
    return s;
}

static void slice_unlink(struct qcow2 *q, struct qcow2_slice *s)
{
    q->dir[s->l1_index][s->number] = NULL;
}

static bool evictable(const struct qcow2_slice *s)
{
    return !s->pins && !s->dirty && !s->flushing && !s->loading;
}

/* An unused slice. NULL: all are dirty; they were written with the lock let go, look again (*ret_err 0) or that failed. */
static struct qcow2_slice *slice_take(struct qcow2 *q, int *ret_err)
{
    *ret_err = 0;
    if (q->nslices >= q->max_slices) {
        for (unsigned tries = 2 * q->nslices; tries; tries--) {
            q->hand = q->hand + 1 < q->nslices ? q->hand + 1 : 0;
            struct qcow2_slice *s = q->slices[q->hand];
            if (!evictable(s))
                continue;
            if (!s->used) {
                slice_unlink(q, s);
                return s;
            }
            s->used = false;
        }
        if (q->dirty_slices || q->flush_running) {
            g_mutex_unlock(&q->lock);
            *ret_err = qcow2_flush(q);
            g_mutex_lock(&q->lock);
            return NULL;
        }
        /* All are being read by other threads: one more than wanted. */
    }
    struct qcow2_slice *s = g_new0(struct qcow2_slice, 1);
    s->entry = g_malloc(q->slice_bytes);
    q->slices = g_renew(struct qcow2_slice *, q->slices, q->nslices + 1);
    q->slices[q->nslices++] = s;
    return s;
}

/* Takes a slice that could not be read out of the cache. */
static void slice_drop(struct qcow2 *q, struct qcow2_slice *s)
{
    slice_unlink(q, s);
    for (unsigned i = 0; i < q->nslices; i++)
        if (q->slices[i] == s) {
            q->slices[i] = q->slices[--q->nslices];
            break;
        }
    g_free(s->entry);
    g_free(s);
}

void qcow2_l1_set(struct qcow2 *q, uint32_t index, uint64_t value)
{
    q->l1[index] = value;
    g_array_append_val(q->l1_dirty, index);
}

static bool is_new(const struct qcow2 *q, uint64_t l1_index)
{
    return q->l1_new[l1_index >> 3] >> (l1_index & 7) & 1;
}

static int table_make(struct qcow2 *q, uint32_t index)
{
    uint64_t offset;
    int err = qcow2_alloc(q, 1, &offset);
    if (err)
        return err;
    qcow2_meta_mark(q, offset, q->cluster_size, true);
    q->l1_new[index >> 3] |= (uint8_t) (1 << (index & 7));
    qcow2_l1_set(q, index, offset | QCOW2_OFLAG_COPIED);
    return 0;
}

/* A table that a snapshot shares: its copy goes to the disk at once, where nobody points to it yet. Drops the lock. */
static int table_copy(struct qcow2 *q, uint32_t index)
{
    uint64_t old = q->l1[index], offset;
    g_autofree uint8_t *copy = g_malloc(q->cluster_size);
    g_mutex_unlock(&q->lock);
    int err = qcow2_file_read(q, old & QCOW2_L1_OFFSET_MASK, q->cluster_size, copy);
    g_mutex_lock(&q->lock);
    if (err || q->l1[index] != old)
        return err;
    if ((err = qcow2_alloc(q, 1, &offset)))
        return err;
    qcow2_meta_mark(q, offset, q->cluster_size, true);
    if ((err = qcow2_file_write(q, offset, q->cluster_size, copy))) {
        qcow2_refcount_add(q, offset, 1, -1);
        return err;
    }
    qcow2_free(q, old & QCOW2_L1_OFFSET_MASK, q->cluster_size, QCOW2_DISCARD_SNAPSHOT);
    qcow2_l1_set(q, index, offset | QCOW2_OFLAG_COPIED);
    return 0;
}

int qcow2_table_for_write(struct qcow2 *q, uint32_t index, bool *ret_dropped)
{
    uint64_t e = q->l1[index];
    *ret_dropped = false;
    if (q->failed)
        return q->failed;
    if (!(e & QCOW2_L1_OFFSET_MASK))
        return table_make(q, index);
    if (e & QCOW2_OFLAG_COPIED)
        return 0;
    *ret_dropped = true;
    return table_copy(q, index);
}

static struct qcow2_slice *slice_load(struct qcow2 *q, uint32_t index, unsigned number, int *ret_err)
{
    uint64_t table = q->l1[index] & QCOW2_L1_OFFSET_MASK;
    if (table & (q->cluster_size - 1)) {
        *ret_err = qcow2_corrupt(q, true, table, q->cluster_size, "L2 table offset %#" G_GINT64_MODIFIER "x unaligned (L1 index: %#x)", table, index);
        return NULL;
    }
    struct qcow2_slice *s = slice_take(q, ret_err);
    if (!s)
        return NULL;
    if (!q->dir[index])
        q->dir[index] = g_new0(struct qcow2_slice *, q->slices_per_table);
    if (q->dir[index][number]) { /* cannot be: taking one without dropping the lock changes nothing */
        *ret_err = EIO;
        return NULL;
    }
    *s = (struct qcow2_slice){.entry = s->entry, .l1_index = index, .number = number, .used = true};
    q->dir[index][number] = s;
    if (is_new(q, index)) { /* what is not in memory of a table that is not on the disk was never set */
        memset(s->entry, 0, q->slice_bytes);
        return s;
    }
    s->loading = true;
    g_mutex_unlock(&q->lock);
    int err = qcow2_file_read(q, table + (uint64_t) number * q->slice_bytes, q->slice_bytes, s->entry);
    g_mutex_lock(&q->lock);
    s->loading = false;
    g_cond_broadcast(&q->cond);
    if (err) {
        slice_drop(q, s);
        *ret_err = err;
    }
    return NULL; /* look again */
}

void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *s)
{
    if (!s->dirty)
        q->dirty_slices++;
    s->dirty = true;
}

struct qcow2_slice *qcow2_slice_get(struct qcow2 *q, uint64_t cluster, bool write, int *ret_err)
{
    uint64_t index = cluster >> q->l2_bits;
    unsigned number = slice_number(q, cluster);
    *ret_err = 0;
    while (!*ret_err) {
        if (index >= q->h.l1_size) {
            *ret_err = write ? EIO : 0;
            return NULL;
        }
        bool again = false;
        if (write && ((*ret_err = qcow2_table_for_write(q, (uint32_t) index, &again)) || again))
            continue;
        if (!(q->l1[index] & QCOW2_L1_OFFSET_MASK))
            return NULL;
        struct qcow2_slice *s = q->dir[index] ? q->dir[index][number] : NULL;
        if (s && s->loading) {
            g_cond_wait(&q->cond, &q->lock);
            continue;
        }
        if (!s)
            s = slice_load(q, (uint32_t) index, number, ret_err);
        if (!s)
            continue;
        s->used = true;
        if (write)
            qcow2_slice_dirty(q, s);
        return s;
    }
    return NULL;
}

void qcow2_table_forget(struct qcow2 *q, uint32_t index)
{
    for (unsigned i = 0; q->dir[index] && i < q->slices_per_table; i++) {
        struct qcow2_slice *s = q->dir[index][i];
        if (!s)
            continue;
        if (s->dirty)
            q->dirty_slices--;
        slice_drop(q, s);
    }
    q->l1_new[index >> 3] &= (uint8_t) ~(1 << (index & 7));
    qcow2_l1_set(q, index, 0);
}

/* ---- the flush ---- */

struct piece { /* of metadata to write, copied */
    uint64_t offset, bytes;
    uint8_t *data;
};
struct plan {
    GArray *blocks, *rt, *tables, *slices, *l1; /* struct piece */
    GArray *flushing;      /* struct qcow2_slice * whose copies are in tables or slices */
    GArray *new_tables;    /* uint32_t */
    GArray *ranges;        /* struct range: of refcount blocks */
    GArray *l1_dirty, *rt_dirty, *frees; /* taken from q */
    uint64_t frees_clusters;
    bool rt_moved, dirty_bit;
    uint64_t rt_offset;
    uint32_t rt_clusters;
};
struct range {
    struct qcow2_block *block;
    uint32_t lo, hi;
};

static GArray *pieces_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct piece));
}
static void pieces_free(GArray *a)
{
    for (guint i = 0; i < a->len; i++)
        g_free(g_array_index(a, struct piece, i).data);
    g_array_free(a, TRUE);
}
static uint8_t *piece_add(GArray *a, uint64_t offset, uint64_t bytes)
{
    struct piece p = {offset, bytes, g_malloc(bytes)};
    g_array_append_val(a, p);
    return p.data;
}
static int by_offset(gconstpointer a, gconstpointer b)
{
    const struct piece *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}
/* Adjacent pieces go out together. */
static int pieces_write(struct qcow2 *q, GArray *a)
{
    struct iovec iov[64];
    g_array_sort(a, by_offset);
    for (guint i = 0; i < a->len;) {
        struct piece *first = &g_array_index(a, struct piece, i);
        uint64_t bytes = 0;
        int n = 0;
        for (; i < a->len && n < (int) G_N_ELEMENTS(iov); i++, n++) {
            struct piece *p = &g_array_index(a, struct piece, i);
            if (p->offset != first->offset + bytes)
                break;
            iov[n] = (struct iovec){p->data, p->bytes};
            bytes += p->bytes;
        }
        int err = block_pwritev(qcow2_file(q), first->offset, bytes, iov, n, 0);
        if (err)
            return err;
    }
    return 0;
}

static void plan_blocks(struct qcow2 *q, struct plan *p)
{
    for (guint i = 0; i < q->block_list->len; i++) {
        struct qcow2_block *b = q->block_list->pdata[i];
        if (b->dirty_lo >= b->dirty_hi)
            continue;
        struct range r = {b, b->dirty_lo & ~511u, MIN((b->dirty_hi + 511) & ~511u, (uint32_t) q->cluster_size)};
        g_array_append_val(p->ranges, r);
        memcpy(piece_add(p->blocks, (q->rt[b->index] & QCOW2_RT_OFFSET_MASK) + r.lo, r.hi - r.lo), b->data + r.lo, r.hi - r.lo);
        b->flushing = true;
        b->dirty_lo = UINT32_MAX;
        b->dirty_hi = 0;
    }
}

/* The sectors of a table of words that hold the entries in `dirty`. */
static void plan_words(GArray *pieces, uint64_t offset, const uint64_t *table, uint64_t entries, const GArray *dirty, bool wide)
{
    uint64_t last = UINT64_MAX;
    for (guint i = 0; i < dirty->len; i++) {
        uint64_t index = wide ? g_array_index(dirty, uint64_t, i) : g_array_index(dirty, uint32_t, i), sector = index / 64;
        if (sector == last)
            continue;
        last = sector;
        bool have = false;
        for (guint k = 0; k < pieces->len && !have && pieces->len < 64; k++)
            have = g_array_index(pieces, struct piece, k).offset == offset + sector * 512;
        if (have)
            continue;
        uint64_t n = MIN(64, entries - sector * 64);
        uint64_t *out = (uint64_t *) piece_add(pieces, offset + sector * 512, n * 8);
        for (uint64_t k = 0; k < n; k++)
            out[k] = GUINT64_TO_BE(table[sector * 64 + k]);
    }
}

static void plan_rt(struct qcow2 *q, struct plan *p)
{
    p->rt_dirty = g_steal_pointer(&q->rt_dirty);
    q->rt_dirty = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    p->rt_moved = q->rt_moved;
    if (!p->rt_moved) {
        plan_words(p->rt, q->h.refcount_table_offset, q->rt, q->rt_entries, p->rt_dirty, true);
        return;
    }
    p->rt_offset = q->rt_new_offset;
    p->rt_clusters = q->rt_new_clusters;
    uint64_t bytes = (uint64_t) p->rt_clusters << q->cluster_bits;
    uint64_t *out = (uint64_t *) piece_add(p->blocks, p->rt_offset, bytes);
    memset(out, 0, bytes);
    for (uint64_t i = 0; i < q->rt_entries; i++)
        out[i] = GUINT64_TO_BE(q->rt[i]);
    q->rt_moved = false;
}

static void plan_tables(struct qcow2 *q, struct plan *p)
{
    p->l1_dirty = g_steal_pointer(&q->l1_dirty);
    q->l1_dirty = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (guint i = 0; i < p->l1_dirty->len; i++) {
        uint32_t index = g_array_index(p->l1_dirty, uint32_t, i);
        if (!is_new(q, index))
            continue;
        bool have = false;
        for (guint k = 0; k < p->new_tables->len && !have; k++)
            have = g_array_index(p->new_tables, uint32_t, k) == index;
        if (have)
            continue;
        g_array_append_val(p->new_tables, index);
        uint8_t *out = piece_add(p->tables, q->l1[index] & QCOW2_L1_OFFSET_MASK, q->cluster_size);
        memset(out, 0, q->cluster_size);
        for (unsigned k = 0; q->dir[index] && k < q->slices_per_table; k++) {
            struct qcow2_slice *s = q->dir[index][k];
            if (s && !s->loading)
                memcpy(out + (size_t) k * q->slice_bytes, s->entry, q->slice_bytes);
        }
    }
    plan_words(p->l1, q->h.l1_table_offset, q->l1, q->h.l1_size, p->l1_dirty, false);
    for (unsigned i = 0; i < q->nslices && q->dirty_slices; i++) {
        struct qcow2_slice *s = q->slices[i];
        if (!s->dirty)
            continue;
        if (!is_new(q, s->l1_index))
            memcpy(piece_add(p->slices, (q->l1[s->l1_index] & QCOW2_L1_OFFSET_MASK) + (uint64_t) s->number * q->slice_bytes, q->slice_bytes),
                   s->entry, q->slice_bytes);
        s->dirty = false;
        s->flushing = true;
        q->dirty_slices--;
        g_array_append_val(p->flushing, s);
    }
}

static void plan_make(struct qcow2 *q, struct plan *p)
{
    *p = (struct plan){pieces_new(), pieces_new(), pieces_new(), pieces_new(), pieces_new()};
    p->flushing = g_array_new(FALSE, FALSE, sizeof(struct qcow2_slice *));
    p->new_tables = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    p->ranges = g_array_new(FALSE, FALSE, sizeof(struct range));
    bool lazy = q->lazy && !q->closing;
    plan_tables(q, p);
    if (lazy && (p->flushing->len || p->l1_dirty->len))
        p->dirty_bit = !q->dirty_marked;
    /* Lazy refcounts: the dirty bit says that the counts on the disk may be behind. */
    if (!lazy || q->rt_moved || q->rt_dirty->len)
        plan_blocks(q, p);
    plan_rt(q, p);
    p->frees = g_steal_pointer(&q->frees);
    p->frees_clusters = q->frees_clusters;
    q->frees = g_array_new(FALSE, FALSE, sizeof(struct qcow2_free));
    q->frees_clusters = 0;
}

static int sync_all(struct qcow2 *q)
{
    int err = q->external ? block_flush(qcow2_data(q)) : 0;
    return err ? err : block_flush(qcow2_file(q));
}

static int header_rt(struct qcow2 *q, const struct plan *p)
{
    uint8_t place[12];
    uint64_t offset = GUINT64_TO_BE(p->rt_offset);
    uint32_t clusters = GUINT32_TO_BE(p->rt_clusters);
    memcpy(place, &offset, 8);
    memcpy(place + 8, &clusters, 4);
    int err = qcow2_file_write(q, 48, sizeof(place), place); /* within one sector: all or nothing */
    if (!err)
        err = block_flush(qcow2_file(q));
    if (!err) {
        q->h.refcount_table_offset = p->rt_offset;
        q->h.refcount_table_clusters = p->rt_clusters;
    }
    return err;
}

static int plan_carry_out(struct qcow2 *q, struct plan *p)
{
    int err = 0;
    if (p->dirty_bit) {
        q->h.incompatible |= QCOW2_INCOMPAT_DIRTY;
        if ((err = qcow2_header_features(q)))
            return err;
        q->dirty_marked = true;
    }
    if ((err = pieces_write(q, p->blocks)) || (err = pieces_write(q, p->tables)) || (err = sync_all(q)))
        return err;
    if (p->rt_moved && (err = header_rt(q, p)))
        return err;
    if (p->rt->len && ((err = pieces_write(q, p->rt)) || (err = block_flush(qcow2_file(q)))))
        return err;
    if (p->slices->len || p->l1->len)
        if ((err = pieces_write(q, p->slices)) || (err = pieces_write(q, p->l1)) || (err = block_flush(qcow2_file(q))))
            return err;
    return 0;
}

/* Everything is as before the attempt: it can be made again. */
static void plan_undo(struct qcow2 *q, struct plan *p)
{
    for (guint i = 0; i < p->flushing->len; i++) {
        struct qcow2_slice *s = g_array_index(p->flushing, struct qcow2_slice *, i);
        if (!s->dirty) {
            s->dirty = true;
            q->dirty_slices++;
        }
    }
    for (guint i = 0; i < p->ranges->len; i++) {
        struct range *r = &g_array_index(p->ranges, struct range, i);
        r->block->dirty_lo = MIN(r->block->dirty_lo, r->lo);
        r->block->dirty_hi = MAX(r->block->dirty_hi, r->hi);
    }
    g_array_append_vals(q->l1_dirty, p->l1_dirty->data, p->l1_dirty->len);
    g_array_append_vals(q->rt_dirty, p->rt_dirty->data, p->rt_dirty->len);
    g_array_append_vals(q->frees, p->frees->data, p->frees->len);
    q->frees_clusters += p->frees_clusters;
    if (p->rt_moved && q->h.refcount_table_offset != p->rt_offset && !q->rt_moved)
        q->rt_moved = true; /* the place stands in rt_new_offset still */
}

static void plan_done(struct qcow2 *q, struct plan *p)
{
    for (guint i = 0; i < p->new_tables->len; i++) {
        uint32_t index = g_array_index(p->new_tables, uint32_t, i);
        q->l1_new[index >> 3] &= (uint8_t) ~(1 << (index & 7));
    }
    g_array_append_vals(q->reclaim[q->epoch], p->frees->data, p->frees->len);
}

static void plan_finish(struct qcow2 *q, struct plan *p)
{
    for (guint i = 0; i < p->flushing->len; i++)
        g_array_index(p->flushing, struct qcow2_slice *, i)->flushing = false;
    for (guint i = 0; i < p->ranges->len; i++)
        g_array_index(p->ranges, struct range, i).block->flushing = false;
    pieces_free(p->blocks);
    pieces_free(p->rt);
    pieces_free(p->tables);
    pieces_free(p->slices);
    pieces_free(p->l1);
    g_array_free(p->flushing, TRUE);
    g_array_free(p->new_tables, TRUE);
    g_array_free(p->ranges, TRUE);
    g_array_free(p->l1_dirty, TRUE);
    g_array_free(p->rt_dirty, TRUE);
    g_array_free(p->frees, TRUE);
}

static bool anything_dirty(const struct qcow2 *q)
{
    if (q->dirty_slices || q->l1_dirty->len || q->rt_dirty->len || q->rt_moved || q->frees->len)
        return true;
    for (guint i = 0; i < q->block_list->len && (!q->lazy || q->closing); i++) {
        const struct qcow2_block *b = q->block_list->pdata[i];
        if (b->dirty_lo < b->dirty_hi)
            return true;
    }
    return false;
}

/* I/O that begins from now on cannot know what the flush freed; what began before is waited for, by nobody in particular. */
static void turn_epoch(struct qcow2 *q)
{
    qcow2_reclaim(q);
    unsigned old = 1 - q->epoch;
    if (q->reclaim[q->epoch]->len && !q->reclaim[old]->len && !q->reclaiming && !g_atomic_int_get(&q->users[old])) {
        q->epoch = old;
        qcow2_reclaim(q);
    }
}

int qcow2_flush(struct qcow2 *q)
{
    if (q->read_only)
        return 0;
    g_mutex_lock(&q->lock);
    uint64_t need = q->flush_begun + 1;
    while (q->flush_running) {
        g_cond_wait(&q->cond, &q->lock);
        if (q->flush_ended >= need) {
            g_mutex_unlock(&q->lock);
            return 0;
        }
    }
    if (q->failed) {
        g_mutex_unlock(&q->lock);
        return q->failed;
    }
    if (!anything_dirty(q)) {
        turn_epoch(q);
        g_mutex_unlock(&q->lock);
        return sync_all(q);
    }
    struct plan plan;
    uint64_t id = ++q->flush_begun;
    q->flush_running = true;
    plan_make(q, &plan);
    g_mutex_unlock(&q->lock);
    int err = plan_carry_out(q, &plan);
    g_mutex_lock(&q->lock);
    if (err) {
        plan_undo(q, &plan);
    } else {
        plan_done(q, &plan);
        q->flush_ended = id;
    }
    plan_finish(q, &plan);
    q->flush_running = false;
    g_cond_broadcast(&q->cond);
    if (!err)
        turn_epoch(q);
    g_mutex_unlock(&q->lock);
    return err;
}

int qcow2_flush_all(struct qcow2 *q)
{
    int err = qcow2_flush(q);
    /* Each flush moves frees on by one step: into memory, then to the disk. */
    for (int i = 0; i < 2 && !err; i++)
        err = qcow2_flush(q);
    return err;
}

/* ---- another L1 table ---- */

void qcow2_cache_empty(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->nslices; i++) {
        g_free(q->slices[i]->entry);
        g_free(q->slices[i]);
    }
    g_clear_pointer(&q->slices, g_free);
    q->nslices = q->hand = q->dirty_slices = 0;
    for (uint32_t i = 0; q->dir && i < q->h.l1_size; i++)
        g_free(q->dir[i]);
    g_clear_pointer(&q->dir, g_free);
}

static int header_l1(struct qcow2 *q, uint64_t offset, uint32_t size)
{
    uint8_t place[12];
    size = GUINT32_TO_BE(size);
    offset = GUINT64_TO_BE(offset);
    memcpy(place, &size, 4);
    memcpy(place + 4, &offset, 8);
    int err = qcow2_file_write(q, 36, sizeof(place), place); /* within one sector: all or nothing */
    return err ? err : block_flush(qcow2_file(q));
}

int qcow2_l1_switch(struct qcow2 *q, uint64_t offset, uint32_t size, const uint64_t *table)
{
    int err = qcow2_table_write(q, offset, size, table);
    if (!err)
        err = block_flush(qcow2_file(q));
    if (!err)
        err = header_l1(q, offset, size);
    if (err)
        return err;
    qcow2_meta_mark(q, offset, (uint64_t) size * 8, true);
    qcow2_cache_empty(q);
    q->l1 = g_renew(uint64_t, q->l1, MAX(size, 1));
    memcpy(q->l1, table, (size_t) size * 8);
    g_free(q->l1_new);
    q->l1_new = g_malloc0(size / 8 + 1);
    q->dir = g_new0(struct qcow2_slice **, MAX(size, 1));
    q->h.l1_size = size;
    q->h.l1_table_offset = offset;
    return 0;
}

int qcow2_l1_grow(struct qcow2 *q, uint32_t size)
{
    uint64_t old = q->h.l1_table_offset, old_size = (uint64_t) q->h.l1_size * 8, offset;
    if (size <= q->h.l1_size)
        return 0;
    if (size > QCOW2_MAX_L1_BYTES / 8)
        return EFBIG;
    /* Space in its last cluster: nothing has to move. */
    bool fits = qcow2_clusters(q, (uint64_t) size * 8) <= qcow2_clusters(q, old_size) && old_size;
    if (fits) {
        offset = old;
    } else {
        int err = qcow2_alloc(q, qcow2_clusters(q, (uint64_t) size * 8), &offset);
        if (err)
            return err;
    }
    g_mutex_unlock(&q->lock);
    int err = qcow2_flush(q);
    g_mutex_lock(&q->lock);
    g_autofree uint64_t *table = g_new0(uint64_t, size);
    memcpy(table, q->l1, old_size);
    if (!err)
        err = qcow2_l1_switch(q, offset, size, table);
    if (!fits) {
        if (err)
            qcow2_refcount_add(q, offset, (uint64_t) size * 8, -1);
        else
            qcow2_free(q, old, old_size, QCOW2_DISCARD_OTHER);
    }
    return err;
}
