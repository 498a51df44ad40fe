/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checking an image: what its metadata refer to is counted anew, from the header down, and compared with the reference counts that the
 * image holds. Everything is read from the file once, in the order in which it lies there: all L1 tables first, which say how often
 * each L2 table is used, then those tables by rising offset. An L2 table that several snapshots share is read once and counts as
 * often as it is used.
 *
 * Repair. Nothing is mended in an image in which metadata could not be read. Counts that are too low, or have no block, come first, since a count that is
 * too high only loses space; a refcount structure that is damaged itself is written anew behind everything else, and the header,
 * one write of one sector, says that it holds. Then the "copied" flags, then what the check of an entry alone found. A crash at
 * any time leaves an image that another check mends.
 */
#include "block/qcow2/qcow2_check.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

enum { READ_AHEAD = 1 << 20, MAX_CLUSTERS = INT32_MAX };

/* ---- counts of clusters: a byte each, and a table for the few that are large ---- */

void counts_init(struct counts *c, uint64_t clusters)
{
    c->clusters = clusters;
    c->chunk = g_new0(uint8_t *, clusters / COUNTS_CHUNK + 1);
    c->large = NULL;
}

void counts_finish(struct counts *c)
{
    for (uint64_t i = 0; c->chunk && i <= c->clusters / COUNTS_CHUNK; i++)
        g_free(c->chunk[i]);
    g_clear_pointer(&c->chunk, g_free);
    g_clear_pointer(&c->large, g_hash_table_unref);
}

uint64_t counts_get(const struct counts *c, uint64_t cluster)
{
    const uint8_t *p = cluster < c->clusters ? c->chunk[cluster / COUNTS_CHUNK] : NULL;
    uint8_t v = p ? p[cluster % COUNTS_CHUNK] : 0;
    return v < COUNTS_LARGE ? v : *(uint64_t *)g_hash_table_lookup(c->large, &cluster);
}

void counts_set(struct counts *c, uint64_t cluster, uint64_t value)
{
    if (cluster >= c->clusters)
        return;
    uint8_t **p = &c->chunk[cluster / COUNTS_CHUNK];
    if (!*p) {
        if (!value)
            return;
        *p = g_malloc0(COUNTS_CHUNK);
    }
    (*p)[cluster % COUNTS_CHUNK] = MIN(value, COUNTS_LARGE);
    if (value < COUNTS_LARGE)
        return;
    if (!c->large)
        c->large = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    g_hash_table_insert(c->large, g_memdup2(&cluster, 8), g_memdup2(&value, 8));
}

void counts_add(struct counts *c, uint64_t cluster, uint64_t n)
{
    uint8_t *p = cluster < c->clusters ? c->chunk[cluster / COUNTS_CHUNK] : NULL;
    if (p && p[cluster % COUNTS_CHUNK] + n < COUNTS_LARGE)
        p[cluster % COUNTS_CHUNK] += (uint8_t)n;
    else
        counts_set(c, cluster, counts_get(c, cluster) + n);
}

/* ---- the state of one check ---- */

void check_say(struct check *k, const char *format, ...)
{
    va_list ap;
    if (!k->c->say || k->quiet)
        return;
    va_start(ap, format);
    g_autofree char *line = g_strdup_vprintf(format, ap);
    va_end(ap);
    k->c->say(k->c->opaque, line);
}

static bool cancelled(const struct check *k)
{
    return k->c->cancel && __atomic_load_n(k->c->cancel, __ATOMIC_RELAXED);
}

/* Something of [offset, offset + bytes) is used `times` times. */
void check_use(struct check *k, uint64_t offset, uint64_t bytes, uint64_t times, const char *by)
{
    if (!bytes)
        return;
    uint64_t end = offset + bytes;
    if (end < offset || end > (uint64_t)INT64_MAX || (end > k->file_size && end - k->file_size >= k->q->cluster_size)) {
        check_say(k, "ERROR %s reaches beyond the end of the file: offset 0x%" PRIx64 " size 0x%" PRIx64, by, offset, bytes);
        k->c->corruptions += times;
        k->lost = true;
        return;
    }
    for (uint64_t c = offset >> k->q->cluster_bits; c <= (end - 1) >> k->q->cluster_bits; c++)
        counts_add(&k->used, c, times);
}

/* Reads a table of big-endian words; what the image cannot have fails. */
static uint64_t *read_table(struct check *k, uint64_t offset, uint64_t entries, const char *what)
{
    uint64_t *t = g_try_new(uint64_t, MAX(entries, 1));
    int err = t ? qcow2_table_read(k->q, offset, entries, t) : ENOMEM;
    if (!err)
        return t;
    check_say(k, "ERROR cannot read %s at 0x%" PRIx64 ": %s", what, offset, g_strerror(err));
    k->c->check_errors++;
    g_free(t);
    return NULL;
}

/* ---- reference counts as the image holds them ---- */

static uint64_t count_at(const struct qcow2 *q, const uint8_t *block, uint64_t i)
{
    switch (q->h.refcount_order) {
    case 3: return block[i];
    case 4: return GUINT16_FROM_BE(((const uint16_t *)block)[i]);
    case 5: return GUINT32_FROM_BE(((const uint32_t *)block)[i]);
    case 6: return GUINT64_FROM_BE(((const uint64_t *)block)[i]);
    default: return block[(i << q->h.refcount_order) / 8] >> ((i << q->h.refcount_order) % 8) & q->refcount_max;
    }
}

static void count_put(const struct qcow2 *q, uint8_t *block, uint64_t i, uint64_t v)
{
    uint64_t bit = i << q->h.refcount_order;
    switch (q->h.refcount_order) {
    case 3: block[i] = (uint8_t)v; break;
    case 4: ((uint16_t *)block)[i] = GUINT16_TO_BE((uint16_t)v); break;
    case 5: ((uint32_t *)block)[i] = GUINT32_TO_BE((uint32_t)v); break;
    case 6: ((uint64_t *)block)[i] = GUINT64_TO_BE(v); break;
    default: block[bit / 8] = (uint8_t)((block[bit / 8] & ~(q->refcount_max << bit % 8)) | v << bit % 8);
    }
}

static bool all_zero(const void *p, size_t n)
{
    return buffer_is_zero(p, n);
}

static void bad_structure(struct check *k)
{
    k->structural++;
    k->rebuild = true;
}

/* Whether entry i of the refcount table can be followed. */
static bool block_entry_good(struct check *k, uint64_t i, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_RT_OFFSET_MASK;
    if (entry & ~QCOW2_RT_OFFSET_MASK)
        check_say(k, "ERROR refcount table entry %" PRIu64 " has reserved bits set", i);
    else if (offset & (k->q->cluster_size - 1))
        check_say(k, "ERROR refcount block %" PRIu64 " is not cluster aligned; refcount table entry corrupted", i);
    else
        return true;
    bad_structure(k);
    return false;
}

static bool read_block(struct check *k, uint64_t i, uint64_t offset)
{
    uint64_t per = UINT64_C(1) << k->q->rb_bits, first = i * per;
    if (first >= k->clusters)
        return true;
    int err = qcow2_file_read(k->q, offset, k->q->cluster_size, k->block);
    if (err) {
        check_say(k, "ERROR cannot read refcount block %" PRIu64 " at 0x%" PRIx64 ": %s", i, offset, g_strerror(err));
        k->c->check_errors++;
        return false;
    }
    if (all_zero(k->block, k->q->cluster_size))
        return true;
    for (uint64_t e = 0; e < MIN(per, k->clusters - first); e++) {
        uint64_t v = count_at(k->q, k->block, e);
        if (v)
            counts_set(&k->stored, first + e, v);
    }
    return true;
}

/* The refcount structure itself: its clusters are used, its counts are loaded. */
static bool survey_refcounts(struct check *k)
{
    struct qcow2 *q = k->q;
    k->rt_entries = (uint64_t)q->h.refcount_table_clusters << (q->cluster_bits - 3);
    check_use(k, q->h.refcount_table_offset, k->rt_entries * 8, 1, "the refcount table");
    k->rt = read_table(k, q->h.refcount_table_offset, k->rt_entries, "the refcount table");
    if (!k->rt)
        return false;
    for (uint64_t i = 0; i < k->rt_entries; i++) {
        uint64_t offset = k->rt[i];
        if (!offset)
            continue;
        if (!block_entry_good(k, i, offset)) {
            k->rt[i] = 0;
            offset &= QCOW2_RT_OFFSET_MASK;
            if (!(offset & (q->cluster_size - 1)) && offset >> q->cluster_bits < k->clusters && !read_block(k, i, offset))
                return false;
        } else if (offset >> q->cluster_bits >= k->clusters) {
            check_say(k, "ERROR refcount block %" PRIu64 " is outside the image: 0x%" PRIx64, i, offset);
            bad_structure(k);
            k->rt[i] = 0;
        } else {
            counts_add(&k->used, offset >> q->cluster_bits, 1);
            counts_add(&k->structure, offset >> q->cluster_bits, 1);
            if (!read_block(k, i, offset))
                return false;
        }
        if (cancelled(k))
            return false;
    }
    for (uint64_t c = 0; c < q->h.refcount_table_clusters; c++)
        counts_add(&k->structure, (q->h.refcount_table_offset >> q->cluster_bits) + c, 1);
    return true;
}

/* A block must be used for nothing else. Called when everything has been counted. */
static void check_blocks_alone(struct check *k)
{
    for (uint64_t i = 0; i < k->rt_entries; i++) {
        uint64_t n = k->rt[i] ? counts_get(&k->used, k->rt[i] >> k->q->cluster_bits) : 1;
        if (n != 1) {
            check_say(k, "ERROR refcount block %" PRIu64 " refcount=%" PRIu64, i, n);
            bad_structure(k);
        }
    }
}

/* ---- L1 tables ---- */

/* One L1 table (host order): its L2 tables are counted in k->l2. */
static void survey_l1(struct check *k, const uint64_t *l1, uint64_t n, bool active)
{
    struct qcow2 *q = k->q;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t e = l1[i], offset = e & QCOW2_L1_OFFSET_MASK;
        if (!offset)
            continue;
        if (e & ~(QCOW2_L1_OFFSET_MASK | QCOW2_OFLAG_COPIED)) {
            check_say(k, "ERROR L1 entry %" PRIu64 " has reserved bits set: %" PRIx64, i, e);
            k->c->corruptions++;
        }
        check_use(k, offset, q->cluster_size, 1, "an L2 table");
        if (offset & (q->cluster_size - 1)) {
            check_say(k, "ERROR l2_offset=0x%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted", offset);
            k->c->corruptions++;
            k->lost = true;
        } else {
            counts_add(&k->l2, offset >> q->cluster_bits, 1);
            if (active)
                counts_add(&k->l2_active, offset >> q->cluster_bits, 1);
        }
        if (active && !k->fix_flags) {
            bool copied = e & QCOW2_OFLAG_COPIED, once = counts_get(&k->stored, offset >> q->cluster_bits) == 1;
            if (copied != once) {
                check_say(k, "ERROR OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64 " refcount=%" PRIu64, i, e,
                          counts_get(&k->stored, offset >> q->cluster_bits));
                k->c->corruptions++;
            }
        }
    }
}

static bool survey_snapshot(struct check *k, const struct qcow2_snapshot *s)
{
    struct qcow2 *q = k->q;
    if (s->l1_offset & (q->cluster_size - 1)) {
        k->lost = true;
        check_say(k, "ERROR snapshot %s (%s) l1_offset=0x%" PRIx64 ": L1 table is not cluster aligned; snapshot table entry corrupted", s->id,
                  s->name, s->l1_offset);
        k->c->corruptions++;
        return true;
    }
    if (s->l1_size > QCOW2_MAX_L1_BYTES / 8) {
        k->lost = true;
        check_say(k, "ERROR snapshot %s (%s) l1_size=%u: L1 table is too large; snapshot table entry corrupted", s->id, s->name, s->l1_size);
        k->c->corruptions++;
        return true;
    }
    check_use(k, s->l1_offset, (uint64_t)s->l1_size * 8, 1, "a snapshot's L1 table");
    uint64_t there = s->l1_offset < k->file_size ? MIN(s->l1_size, (k->file_size - s->l1_offset + 7) / 8) : 0; /* zeroes follow */
    g_autofree uint64_t *l1 = read_table(k, s->l1_offset, there, "a snapshot's L1 table");
    if (l1)
        survey_l1(k, l1, there, false);
    return l1 && !cancelled(k);
}

static bool survey_snapshots(struct check *k)
{
    struct qcow2 *q = k->q;
    uint64_t bytes = 0;
    if (!q->h.nb_snapshots)
        return true;
    if (q->external) {
        check_say(k, "ERROR the image has internal snapshots and an external data file, which do not go together");
        k->c->corruptions++;
        return true;
    }
    for (guint i = 0; q->snapshots && i < q->snapshots->len; i++)
        if (!survey_snapshot(k, &g_array_index(q->snapshots, struct qcow2_snapshot, i)))
            return false;
    k->snapshots_incomplete = 0;
    if (qcow2_snapshots_measure(q, &bytes, &k->snapshots_incomplete)) {
        check_say(k, "ERROR the snapshot table at 0x%" PRIx64 " cannot be read", q->h.snapshots_offset);
        k->c->check_errors++;
        return false;
    }
    if (k->snapshots_incomplete && q->h.version >= 3 && !(k->fix & BLOCK_FIX_ERRORS)) {
        check_say(k, "ERROR %u entries of the snapshot table lack fields that version 3 demands", k->snapshots_incomplete);
        k->c->corruptions += k->snapshots_incomplete;
    }
    check_use(k, q->h.snapshots_offset, bytes, 1, "the snapshot table");
    return true;
}

/* ---- L2 tables ---- */

struct l2_walk { /* one L2 table */
    struct check *k;
    uint64_t offset;
    uint64_t times;     /* how often it is used by L1 tables */
    uint64_t active;    /* by the active one */
    uint64_t next;      /* where the next cluster of an unfragmented image would lie */
};

static void wrong(struct l2_walk *w, const char *what, uint64_t index, uint64_t entry)
{
    check_say(w->k, "ERROR %s: entry %" PRIu64 " (0x%" PRIx64 ") of the L2 table at 0x%" PRIx64, what, index, entry, w->offset);
    w->k->c->corruptions += w->times;
}

static void see_compressed(struct l2_walk *w, uint64_t i, uint64_t e, uint64_t bitmap)
{
    struct check *k = w->k;
    uint64_t offset, bytes;
    if (e & QCOW2_OFLAG_COPIED && !k->fix_flags)
        wrong(w, "copied flag must never be set for compressed clusters", i, e);
    if (k->q->external) {
        wrong(w, "compressed cluster with external data file", i, e);
        return;
    }
    if (bitmap)
        wrong(w, "compressed cluster with non-zero subcluster allocation bitmap", i, e);
    qcow2_compressed_place(k->q, e, &offset, &bytes);
    check_use(k, offset, bytes, w->times, "a compressed cluster");
    k->c->compressed_clusters += w->active;
    k->c->allocated_clusters += w->active;
    k->c->fragmented_clusters += w->active;
}

static void see_copied(struct l2_walk *w, uint64_t e, uint64_t offset)
{
    struct check *k = w->k;
    if (!w->active || k->fix_flags)
        return;
    uint64_t count = counts_get(&k->stored, offset >> k->q->cluster_bits);
    if ((count == 1) != !!(e & QCOW2_OFLAG_COPIED)) {
        check_say(k, "ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64, e, count);
        k->c->corruptions += w->active;
    }
}

static void see_data(struct l2_walk *w, uint64_t i, uint64_t e, uint64_t bitmap, uint64_t offset, bool zero)
{
    struct check *k = w->k;
    struct qcow2 *q = k->q;
    if (q->extended && (uint32_t)(bitmap >> 32) & (uint32_t)bitmap)
        wrong(w, "allocated cluster with corrupted subcluster allocation bitmap", i, e);
    if (w->active) {
        k->c->allocated_clusters += w->active;
        if (w->next && offset != w->next)
            k->c->fragmented_clusters += w->active;
        w->next = offset + q->cluster_size;
    }
    if (offset & (q->cluster_size - 1)) {
        bool content = q->extended ? (uint32_t)bitmap : !zero;
        if (content)
            wrong(w, "data cluster is not properly aligned; L2 entry corrupted", i, e);
        else if (k->fix & BLOCK_FIX_ERRORS)
            return; /* mended with the flags */
        else
            wrong(w, "preallocated cluster is not properly aligned; L2 entry corrupted", i, e);
        k->lost |= content;
        if (!q->external)
            check_use(k, offset, q->cluster_size, w->times, "a data cluster"); /* what it touches is not given to others */
        if (!q->external)
            see_copied(w, e, offset);
        return;
    }
    if (q->external)
        return;
    check_use(k, offset, q->cluster_size, w->times, "a data cluster");
    see_copied(w, e, offset);
}

static void see_entry(struct l2_walk *w, uint64_t i, uint64_t e, uint64_t bitmap)
{
    struct qcow2 *q = w->k->q;
    if (e & QCOW2_OFLAG_COMPRESSED) {
        see_compressed(w, i, e, bitmap);
        return;
    }
    uint64_t offset = e & QCOW2_L2_OFFSET_MASK;
    if (e & ~(QCOW2_L2_OFFSET_MASK | QCOW2_OFLAG_COPIED | (q->extended ? 0 : QCOW2_OFLAG_ZERO)))
        wrong(w, "L2 entry with reserved bits set", i, e);
    if (offset || (q->external && e & QCOW2_OFLAG_COPIED && !(e & QCOW2_OFLAG_ZERO)))
        see_data(w, i, e, bitmap, offset, e & QCOW2_OFLAG_ZERO && !q->extended);
    else if (q->extended && (uint32_t)bitmap)
        wrong(w, "unallocated cluster with non-zero subcluster allocation map", i, e);
}

static void see_table(struct l2_walk *w, const uint64_t *table)
{
    struct qcow2 *q = w->k->q;
    uint64_t words = q->cluster_size / 8;
    if (q->extended) {
        for (uint64_t i = 0; i < words; i += 2)
            if (table[i] | table[i + 1])
                see_entry(w, i / 2, GUINT64_FROM_BE(table[i]), GUINT64_FROM_BE(table[i + 1]));
        return;
    }
    for (uint64_t i = 0; i < words; i++) {
        if (!table[i]) {
            while (i + 8 < words && !(table[i + 1] | table[i + 2] | table[i + 3] | table[i + 4] | table[i + 5] | table[i + 6] | table[i + 7] | table[i + 8]))
                i += 8;
            continue;
        }
        see_entry(w, i, GUINT64_FROM_BE(table[i]), 0);
    }
}

/* The next L2 tables that lie side by side from `cluster` on; 0: no more. */
static uint64_t next_tables(const struct check *k, uint64_t *cluster)
{
    uint64_t c = *cluster, max = MAX(READ_AHEAD >> k->q->cluster_bits, 1), n = 0;
    while (c < k->clusters) {
        const uint8_t *chunk = k->l2.chunk[c / COUNTS_CHUNK];
        if (!chunk) {
            c = (c / COUNTS_CHUNK + 1) * COUNTS_CHUNK;
            continue;
        }
        uint64_t i = c % COUNTS_CHUNK;
        while (i < COUNTS_CHUNK && !chunk[i])
            i++;
        c = c / COUNTS_CHUNK * COUNTS_CHUNK + i;
        if (i < COUNTS_CHUNK)
            break;
    }
    *cluster = c;
    while (n < max && c + n < k->clusters && counts_get(&k->l2, c + n))
        n++;
    return n;
}

/* Calls fn with every L2 table (as on the disk), those of snapshots too. */
static bool each_table(struct check *k, bool (*fn)(struct check *k, uint64_t cluster, uint64_t *table))
{
    struct qcow2 *q = k->q;
    uint64_t per = q->cluster_size / 8, n;
    g_autofree uint64_t *tables = g_malloc(MAX(READ_AHEAD, q->cluster_size));
    for (uint64_t c = 0; (n = next_tables(k, &c)); c += n) {
        if (cancelled(k))
            return false;
        int err = qcow2_file_read(q, c << q->cluster_bits, n << q->cluster_bits, tables);
        if (err) {
            check_say(k, "ERROR cannot read the L2 table at 0x%" PRIx64 ": %s", c << q->cluster_bits, g_strerror(err));
            k->c->check_errors++;
            return false;
        }
        for (uint64_t i = 0; i < n; i++)
            if (!fn(k, c + i, tables + i * per))
                return false;
        if (k->c->progress)
            k->c->progress(k->c->opaque, (double)(c + n) / k->clusters);
    }
    return true;
}

static bool survey_table(struct check *k, uint64_t cluster, uint64_t *table)
{
    struct l2_walk w = { k, cluster << k->q->cluster_bits, counts_get(&k->l2, cluster), counts_get(&k->l2_active, cluster), 0 };
    see_table(&w, table);
    return true;
}

/* ---- all ---- */

static bool survey(struct check *k)
{
    struct qcow2 *q = k->q;
    check_use(k, 0, q->cluster_size, 1, "the header");
    if (!survey_refcounts(k))
        return false;
    check_use(k, q->h.l1_table_offset, (uint64_t)q->h.l1_size * 8, 1, "the active L1 table");
    k->l1 = read_table(k, q->h.l1_table_offset, q->h.l1_size, "the active L1 table");
    if (!k->l1)
        return false;
    survey_l1(k, k->l1, q->h.l1_size, true);
    if (!survey_snapshots(k))
        return false;
    if (q->crypto_offset)
        check_use(k, q->crypto_offset, q->crypto_length, 1, "the encryption header");
    if (!qcow2_bitmaps_check(k) || cancelled(k) || !each_table(k, survey_table))
        return false;
    check_blocks_alone(k);
    return true;
}

static bool has_block(const struct check *k, uint64_t cluster)
{
    uint64_t i = cluster >> k->q->rb_bits;
    return i < k->rt_entries && k->rt[i];
}

/* Compares what is used with what is counted. */
static void compare(struct check *k)
{
    uint64_t highest = 0;
    for (uint64_t first = 0; first < k->clusters; first += COUNTS_CHUNK) {
        const uint8_t *used = k->used.chunk[first / COUNTS_CHUNK], *stored = k->stored.chunk[first / COUNTS_CHUNK];
        if (!used && !stored)
            continue;
        for (uint64_t c = first; c < MIN(first + COUNTS_CHUNK, k->clusters); c++) {
            uint8_t u = used ? used[c - first] : 0, s = stored ? stored[c - first] : 0;
            if (u | s)
                highest = c;
            if (u == s && u < COUNTS_LARGE)
                continue;
            uint64_t want = counts_get(&k->used, c), have = counts_get(&k->stored, c);
            if (want == have)
                continue;
            if (want < have) {
                k->leaks++;
                check_say(k, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, k->fix & BLOCK_FIX_LEAKS ? "Repairing leaked" : "Leaked", c,
                          have, want);
            } else {
                k->low++;
                k->rebuild |= !has_block(k, c);
                k->too_many += want > k->q->refcount_max;
                check_say(k, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, k->fix & BLOCK_FIX_ERRORS ? "Repairing" : "ERROR", c, have, want);
            }
        }
    }
    k->c->image_end_offset = (highest + 1) << k->q->cluster_bits;
}

/* ---- repair of counts ---- */

static int write_checked(struct check *k, uint64_t offset, uint64_t bytes, const void *p)
{
    int err = qcow2_file_write(k->q, offset, bytes, p);
    if (err)
        check_say(k, "ERROR cannot write at 0x%" PRIx64 ": %s", offset, g_strerror(err));
    return err;
}

/* Counts in the blocks there are. raise: only those that are too low, else only those that are too high. */
static int patch_counts(struct check *k, bool raise)
{
    struct qcow2 *q = k->q;
    uint64_t per = UINT64_C(1) << q->rb_bits;
    for (uint64_t i = 0; i < k->rt_entries && i * per < k->clusters; i++) {
        bool differs = false;
        uint64_t first = i * per, n = MIN(per, k->clusters - first);
        if (!k->rt[i])
            continue;
        for (uint64_t c = first; c < first + n && !differs; c++)
            differs = raise ? counts_get(&k->used, c) > counts_get(&k->stored, c) : counts_get(&k->used, c) < counts_get(&k->stored, c);
        if (!differs)
            continue;
        int err = qcow2_file_read(q, k->rt[i], q->cluster_size, k->block);
        if (err)
            return err;
        for (uint64_t c = first; c < first + n; c++) {
            uint64_t want = counts_get(&k->used, c), have = counts_get(&k->stored, c);
            if (raise ? want <= have : want >= have)
                continue;
            want = MIN(want, q->refcount_max);
            count_put(q, k->block, c - first, want);
            counts_set(&k->stored, c, want);
        }
        if ((err = write_checked(k, k->rt[i], q->cluster_size, k->block)))
            return err;
    }
    return 0;
}

struct rebuilt { /* a refcount structure written anew */
    uint64_t *table;
    uint64_t entries, table_clusters, table_cluster, blocks;
};

/* Which parts of the image need blocks when `extra` clusters are added at `end`; returns how many blocks. */
static uint64_t blocks_needed(struct check *k, uint8_t *need, uint64_t entries, uint64_t end, uint64_t extra)
{
    uint64_t per = UINT64_C(1) << k->q->rb_bits, n = 0;
    for (uint64_t i = 0; i < entries; i++)
        n += need[i] = need[i] || (extra && i >= end / per && i <= (end + extra - 1) / per);
    return n;
}

static void set_order(struct qcow2 *q, unsigned order)
{
    q->h.refcount_order = order;
    q->refcount_bits = 1u << order;
    q->refcount_max = order == 6 ? UINT64_MAX : (UINT64_C(1) << q->refcount_bits) - 1;
    q->rb_bits = q->cluster_bits + 3 - order;
}

/* refcount_table_offset, refcount_table_clusters, refcount_order: within one sector, all or nothing. */
static int write_place(struct check *k, uint64_t offset, uint64_t clusters)
{
    enum { FIRST = 48, ORDER = 96, END = 100 };
    uint8_t bytes[END - FIRST];
    uint64_t n = k->q->h.version >= 3 ? END - FIRST : 12;
    uint32_t count = GUINT32_TO_BE((uint32_t)clusters), order = GUINT32_TO_BE(k->q->h.refcount_order);
    int err = qcow2_file_read(k->q, FIRST, n, bytes);
    if (err)
        return err;
    offset = GUINT64_TO_BE(offset);
    memcpy(bytes, &offset, 8);
    memcpy(bytes + 8, &count, 4);
    if (n > 12)
        memcpy(bytes + (ORDER - FIRST), &order, 4);
    return write_checked(k, FIRST, n, bytes);
}

/* Where some of the image cannot be reached, nothing that is counted is given up: it may be found again by other means. */
static void keep_counted(struct check *k)
{
    for (uint64_t c = 0; c < k->clusters; c++)
        if (!k->stored.chunk[c / COUNTS_CHUNK])
            c = (c / COUNTS_CHUNK + 1) * COUNTS_CHUNK - 1;
        else if (counts_get(&k->stored, c) > counts_get(&k->used, c))
            counts_set(&k->used, c, counts_get(&k->stored, c));
}

/* References that are not the refcount structure's own alone are left in `used`. */
static void without_structure(struct check *k)
{
    for (uint64_t first = 0; first < k->clusters; first += COUNTS_CHUNK) {
        const uint8_t *was = k->structure.chunk[first / COUNTS_CHUNK];
        for (uint64_t c = first; was && c < MIN(first + COUNTS_CHUNK, k->clusters); c++)
            if (was[c - first])
                counts_set(&k->used, c, counts_get(&k->used, c) - counts_get(&k->structure, c));
    }
}

/* Puts a new refcount structure for what is counted in `used` behind everything. */
static int rebuild(struct check *k)
{
    struct qcow2 *q = k->q;
    struct rebuilt r = { 0 };
    uint64_t per = UINT64_C(1) << q->rb_bits, end = k->clusters, extra = 0, again;
    without_structure(k);
    uint64_t max_entries = end / per + QCOW2_MAX_RT_BYTES / 8 + 1;
    g_autofree uint8_t *need = g_malloc0(max_entries);
    for (uint64_t c = 0; c < end; c++)
        if (!k->used.chunk[c / COUNTS_CHUNK])
            c = (c / COUNTS_CHUNK + 1) * COUNTS_CHUNK - 1;
        else if (k->used.chunk[c / COUNTS_CHUNK][c % COUNTS_CHUNK]) {
            need[c / per] = 1;
            c = MAX(c, (c / per + 1) * per - 1);
        }
    do { /* the structure describes itself as well */
        again = extra;
        r.entries = (end + extra + per - 1) / per;
        if (r.entries > QCOW2_MAX_RT_BYTES / 8) {
            check_say(k, "ERROR the refcount structure would become too large for this cluster size");
            return EFBIG;
        }
        r.table_clusters = MAX(qcow2_clusters(q, r.entries * 8), 1);
        r.blocks = blocks_needed(k, need, r.entries, end, extra);
        extra = r.blocks + r.table_clusters;
    } while (extra != again);

    r.table_cluster = end;
    r.entries = r.table_clusters << (q->cluster_bits - 3);
    r.table = g_new0(uint64_t, r.entries);
    uint64_t at = end + r.table_clusters;
    int err = 0;
    for (uint64_t i = 0; i < max_entries && !err; i++) {
        if (!need[i])
            continue;
        memset(k->block, 0, q->cluster_size);
        for (uint64_t c = i * per; c < (i + 1) * per; c++) {
            uint64_t n = c < end ? counts_get(&k->used, c) : c < end + extra;
            if (n)
                count_put(q, k->block, c - i * per, MIN(n, q->refcount_max));
        }
        r.table[i] = at++ << q->cluster_bits;
        err = write_checked(k, r.table[i], q->cluster_size, k->block);
    }
    if (!err)
        err = qcow2_table_write(q, r.table_cluster << q->cluster_bits, r.entries, r.table);
    if (!err)
        err = block_flush(qcow2_file(q));
    if (!err)
        err = write_place(k, r.table_cluster << q->cluster_bits, r.table_clusters);
    if (!err)
        err = block_flush(qcow2_file(q));
    if (!err) {
        q->h.refcount_table_offset = r.table_cluster << q->cluster_bits;
        q->h.refcount_table_clusters = (uint32_t)r.table_clusters;
    }
    g_free(r.table);
    return err;
}

/* ---- repair of flags ---- */

static bool right_flag(const struct check *k, uint64_t offset)
{
    return counts_get(&k->used, offset >> k->q->cluster_bits) == 1;
}

static bool mend_entry(struct check *k, bool active, uint64_t *e, uint64_t bitmap)
{
    struct qcow2 *q = k->q;
    uint64_t v = GUINT64_FROM_BE(*e), offset = v & QCOW2_L2_OFFSET_MASK, was = v;
    if (v & QCOW2_OFLAG_COMPRESSED) {
        v &= ~QCOW2_OFLAG_COPIED;
    } else if (offset & (q->cluster_size - 1)) {
        if (q->h.version >= 3 && (q->extended ? !(uint32_t)bitmap : (v & QCOW2_OFLAG_ZERO) != 0))
            v = q->extended ? 0 : QCOW2_OFLAG_ZERO;
    } else if (offset && active && !q->external) {
        v = (v & ~QCOW2_OFLAG_COPIED) | (right_flag(k, offset) ? QCOW2_OFLAG_COPIED : 0);
    }
    if (v == was)
        return false;
    *e = GUINT64_TO_BE(v);
    return true;
}

static bool mend_table(struct check *k, uint64_t cluster, uint64_t *table)
{
    struct qcow2 *q = k->q;
    uint64_t words = q->cluster_size / 8, fixed = 0;
    bool active = counts_get(&k->l2_active, cluster);
    if (!cluster || (cluster << q->cluster_bits) - q->h.l1_table_offset < (uint64_t)q->h.l1_size * 8)
        return true; /* the header or the L1 table lie there too: hands off */
    for (uint64_t i = 0; i < words; i += q->entry_words)
        if (table[i] && mend_entry(k, active, &table[i], q->extended ? GUINT64_FROM_BE(table[i + 1]) : 0))
            fixed++;
    if (!fixed)
        return true;
    if (write_checked(k, cluster << q->cluster_bits, q->cluster_size, table)) {
        k->c->check_errors++;
        return false;
    }
    k->c->corruptions_fixed += fixed;
    return true;
}

static int mend_l1(struct check *k)
{
    struct qcow2 *q = k->q;
    uint64_t fixed = 0;
    for (uint64_t i = 0; i < q->h.l1_size; i++) {
        uint64_t offset = k->l1[i] & QCOW2_L1_OFFSET_MASK, was = k->l1[i];
        if (!offset || offset & (q->cluster_size - 1))
            continue;
        k->l1[i] = (was & ~QCOW2_OFLAG_COPIED) | (right_flag(k, offset) ? QCOW2_OFLAG_COPIED : 0);
        fixed += k->l1[i] != was;
    }
    int err = fixed ? qcow2_table_write(q, q->h.l1_table_offset, q->h.l1_size, k->l1) : 0;
    if (!err)
        k->c->corruptions_fixed += fixed;
    return err;
}

static int mend_flags(struct check *k)
{
    int err = mend_l1(k);
    k->quiet = true;
    if (!err && !each_table(k, mend_table))
        err = EIO;
    k->quiet = false;
    return err;
}

/* ---- repair ---- */

static int mend_counts(struct check *k)
{
    bool errors = k->fix & BLOCK_FIX_ERRORS, leaks = k->fix & BLOCK_FIX_LEAKS;
    int err = 0;
    if (k->lost && k->leaks && (leaks || (errors && k->rebuild))) {
        check_say(k, "Leaked clusters are left as they are: some entries lead nowhere, and what they should lead to may be among these clusters");
        leaks = false;
    }
    if (errors && k->rebuild) {
        check_say(k, "Rebuilding the refcount structure");
        if (k->lost)
            keep_counted(k);
        if ((err = rebuild(k)))
            return err;
        k->c->corruptions_fixed += k->structural + k->low - k->too_many;
        k->c->leaks_fixed += k->lost ? 0 : k->leaks;
        k->leaks = k->lost ? k->leaks : 0;
        k->structural = 0;
        k->low = k->too_many;
        return 0;
    }
    if (errors && k->low) {
        if ((err = patch_counts(k, true)) || (err = block_flush(qcow2_file(k->q))))
            return err;
        k->c->corruptions_fixed += k->low - k->too_many;
        k->low = k->too_many;
    }
    if (leaks && k->leaks) {
        if ((err = patch_counts(k, false)) || (err = block_flush(qcow2_file(k->q))))
            return err;
        k->c->leaks_fixed += k->leaks;
        k->leaks = 0;
    }
    return 0;
}

static int mend_marks(struct check *k)
{
    struct qcow2 *q = k->q;
    if (!(q->h.incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)) || q->h.version < 3)
        return 0;
    q->h.incompatible &= ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
    q->corrupt = false;
    q->dirty_marked = false;
    return qcow2_header_features(q);
}

static int mend(struct check *k)
{
    struct block_check *c = k->c;
    int err = mend_counts(k);
    /* Leaks mended by themselves can change which flags are right; that is no error of the image. */
    if (!err && ((k->fix & BLOCK_FIX_ERRORS) || (!c->corruptions && !k->low && !k->leaks && !k->structural)) && !k->too_many) {
        uint64_t fixed = c->corruptions_fixed;
        err = mend_flags(k);
        if (!(k->fix & BLOCK_FIX_ERRORS))
            c->corruptions_fixed = fixed;
    }
    if (!err)
        err = block_flush(qcow2_file(k->q));
    if (!err && k->fix & BLOCK_FIX_ERRORS && !c->check_errors && !c->corruptions && !k->low && !k->structural)
        err = mend_marks(k);
    return err;
}

static void check_finish(struct check *k)
{
    counts_finish(&k->used);
    counts_finish(&k->stored);
    counts_finish(&k->l2);
    counts_finish(&k->l2_active);
    counts_finish(&k->structure);
    g_free(k->rt);
    g_free(k->l1);
    g_free(k->block);
}

static int check_init(struct check *k, struct qcow2 *q, unsigned fix, struct block_check *c)
{
    *k = (struct check){ .q = q, .c = c, .fix = fix };
    k->file_size = block_node_size(qcow2_file(q));
    k->clusters = qcow2_clusters(q, k->file_size);
    if (k->clusters > MAX_CLUSTERS) {
        c->check_errors++;
        return EFBIG;
    }
    k->fix_flags = fix & BLOCK_FIX_ERRORS;
    struct counts *all[] = { &k->used, &k->stored, &k->l2, &k->l2_active, &k->structure };
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        counts_init(all[i], k->clusters);
    k->block = g_malloc(q->cluster_size);
    c->total_clusters = qcow2_clusters(q, q->h.size);
    return 0;
}

/* What was found without mending is what the caller hears of. */
static int check_run(struct qcow2 *q, unsigned fix, struct block_check *c, unsigned *ret_incomplete)
{
    struct check k;
    int err = check_init(&k, q, fix, c);
    if (err)
        return err;
    bool whole = survey(&k);
    if (whole) {
        compare(&k);
        if (fix && !c->check_errors)
            err = mend(&k);
        c->leaks += k.leaks;
        c->corruptions += k.low + k.structural;
        *ret_incomplete = k.snapshots_incomplete;
    } else if (cancelled(&k)) {
        err = ECANCELED;
    }
    check_finish(&k);
    return err;
}

int qcow2_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    unsigned incomplete = 0;
    int err = 0;
    if (!q->l1) {
        vireo_fail(error, VIREO_ERROR_IO, "the image cannot be read any more: open it again");
        return EIO;
    }
    if (fix && q->read_only) {
        vireo_fail(error, VIREO_ERROR_PERMISSION, "the image is open read-only and cannot be repaired");
        return EROFS;
    }
    if (!q->read_only && !q->failed)
        err = qcow2_settle(q, true);
    if (!err)
        err = check_run(q, fix, c, &incomplete);
    if (fix && err != EROFS) {
        g_autoptr(GError) again = NULL;
        if (!qcow2_reload(q, &again) && !err) {
            vireo_fail(error, VIREO_ERROR_IO, "the image cannot be used after the repair: %s", again->message);
            return EIO;
        }
        if (!err && fix & BLOCK_FIX_ERRORS && incomplete && q->h.version >= 3) { /* now that clusters can be allocated again */
            if (qcow2_snapshots_write(q))
                c->corruptions += incomplete;
            else
                c->corruptions_fixed += incomplete;
        }
    }
    if (err && err != ECANCELED)
        vireo_fail_errno(error, err, "cannot check '%s'", n->filename ? n->filename : n->name);
    return err;
}

static bool fits(struct check *k, GError **error)
{
    for (uint64_t c = 0; c < k->clusters; c++)
        if (counts_get(&k->used, c) > k->q->refcount_max)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Cannot decrease refcount entry width to %u bits: the cluster at offset 0x%" PRIx64
                              " has a refcount of %" PRIu64, k->q->refcount_bits, c << k->q->cluster_bits, counts_get(&k->used, c));
    return true;
}

bool qcow2_refcounts_rewrite(struct qcow2 *q, unsigned order, void (*progress)(void *, double), void *opaque, GError **error)
{
    struct block_check c = { .progress = progress, .opaque = opaque };
    struct check k;
    unsigned was = q->h.refcount_order;
    int err = qcow2_settle(q, true);
    if (!err)
        err = check_init(&k, q, 0, &c);
    if (err)
        return vireo_fail_errno(error, err, "cannot change the width of reference counts");
    bool ok = survey(&k);
    if (ok)
        compare(&k);
    if (!ok || c.corruptions || c.check_errors || k.low || k.structural) {
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "the image has errors: run check -r all before changing the width of its reference counts");
    } else {
        set_order(q, order);
        ok = fits(&k, error);
        if (ok && (err = rebuild(&k)))
            ok = vireo_fail_errno(error, err, "cannot change the width of reference counts");
        if (!ok)
            set_order(q, was);
    }
    check_finish(&k);
    g_autoptr(GError) again = NULL;
    if (!qcow2_reload(q, ok ? error : &again))
        ok = false;
    return ok;
}
