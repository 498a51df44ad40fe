/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots inside the image ("Snapshots"): a table of copies of the L1 table. All that such a copy leads to has one reference more,
 * and loses its "copied" flag, so that the next write makes a copy.
 *
 * Order on the disk: counts go up, are flushed; then tables that need them are written and flushed; then 12 bytes of the header
 * (number and place of the snapshot table) or 12 others (size and place of the active L1 table) say that it holds; only then counts go down. A crash
 * in between leaves leaks, and perhaps "copied" flags that are set or missing against their count, which no data depend on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bigendian.h"
#include "block/bitmap.h"
#include "block/qcow2/qcow2_check.h"

enum { ENTRY_BYTES = 40, EXTRA_KNOWN = 24, EXTRA_V3 = 16, MAX_EXTRA = 1024, MAX_TEXT = UINT16_MAX };

/* ---- the table ---- */

static void snapshot_clear(void *p)
{
    struct qcow2_snapshot *s = p;
    g_free(s->id);
    g_free(s->name);
    g_free(s->extra);
}

static GArray *snapshots_new(void)
{
    GArray *a = g_array_new(FALSE, TRUE, sizeof(struct qcow2_snapshot));
    g_array_set_clear_func(a, snapshot_clear);
    return a;
}

void qcow2_snapshots_free(struct qcow2 *q)
{
    g_clear_pointer(&q->snapshots, g_array_unref);
}

/* One entry at `at`; its length, rounded up. 0: success. */
static int entry_read(struct qcow2 *q, uint64_t at, struct qcow2_snapshot *s, uint64_t *ret_bytes, bool *ret_incomplete)
{
    uint8_t head[ENTRY_BYTES], known[EXTRA_KNOWN] = { 0 };
    int err = qcow2_file_read(q, at, ENTRY_BYTES, head);
    if (err)
        return err;
    uint32_t extra = be_get32(head + 36), id = be_get16(head + 12), name = be_get16(head + 14);
    if (extra > MAX_EXTRA)
        return EFBIG;
    *ret_bytes = (ENTRY_BYTES + extra + id + name + 7) & ~UINT64_C(7);
    *ret_incomplete = extra < EXTRA_V3;
    if (!s)
        return 0;
    g_autofree uint8_t *rest = g_malloc(extra + id + name + 1);
    if ((err = qcow2_file_read(q, at + ENTRY_BYTES, extra + id + name, rest)))
        return err;
    memcpy(known, rest, MIN(extra, EXTRA_KNOWN));
    *s = (struct qcow2_snapshot){ .l1_offset = be_get64(head), .l1_size = be_get32(head + 8), .date_sec = be_get32(head + 16), .date_nsec = be_get32(head + 20),
        .vm_clock_nsec = be_get64(head + 24), .vm_state_size = extra >= 8 ? be_get64(known) : be_get32(head + 32),
        .disk_size = extra >= 16 ? be_get64(known + 8) : q->h.size, .icount = extra >= 24 ? be_get64(known + 16) : UINT64_MAX };
    s->id = g_strndup((const char *)rest + extra, id);
    s->name = g_strndup((const char *)rest + extra + id, name);
    if (extra > EXTRA_KNOWN) {
        s->extra_size = extra - EXTRA_KNOWN;
        s->extra = g_memdup2(rest + EXTRA_KNOWN, s->extra_size);
    }
    return 0;
}

bool qcow2_snapshots_read(struct qcow2 *q, GError **error)
{
    qcow2_snapshots_free(q);
    q->snapshots = snapshots_new();
    uint64_t at = q->h.snapshots_offset, bytes;
    bool incomplete;
    for (uint32_t i = 0; i < q->h.nb_snapshots; i++, at += bytes) {
        struct qcow2_snapshot s;
        int err = entry_read(q, at, &s, &bytes, &incomplete);
        if (!err && at + bytes - q->h.snapshots_offset > QCOW2_MAX_SNAPSHOT_TABLE) {
            snapshot_clear(&s);
            err = EFBIG;
        }
        if (err)
            return vireo_fail_errno(error, err, "entry %u of the image's snapshot table is damaged; check -r all may mend the image", i);
        g_array_append_val(q->snapshots, s);
    }
    return true;
}

int qcow2_snapshots_measure(struct qcow2 *q, uint64_t *ret_bytes, unsigned *ret_incomplete)
{
    uint64_t bytes;
    bool incomplete;
    *ret_bytes = 0;
    *ret_incomplete = 0;
    for (uint32_t i = 0; i < q->h.nb_snapshots; i++) {
        int err = entry_read(q, q->h.snapshots_offset + *ret_bytes, NULL, &bytes, &incomplete);
        if (err)
            return err;
        *ret_bytes += bytes;
        *ret_incomplete += incomplete;
        if (*ret_bytes > QCOW2_MAX_SNAPSHOT_TABLE)
            return EFBIG;
    }
    return 0;
}

static void entry_append(GByteArray *a, const struct qcow2_snapshot *s)
{
    uint8_t head[ENTRY_BYTES] = { 0 }, known[EXTRA_KNOWN], zero[8] = { 0 };
    size_t id = strlen(s->id), name = strlen(s->name);
    be_put(head, s->l1_offset, 8);
    be_put(head + 8, s->l1_size, 4);
    be_put(head + 12, id, 2);
    be_put(head + 14, name, 2);
    be_put(head + 16, s->date_sec, 4);
    be_put(head + 20, s->date_nsec, 4);
    be_put(head + 24, s->vm_clock_nsec, 8);
    be_put(head + 32, s->vm_state_size > UINT32_MAX ? 0 : s->vm_state_size, 4);
    be_put(head + 36, EXTRA_KNOWN + s->extra_size, 4);
    be_put(known, s->vm_state_size, 8);
    be_put(known + 8, s->disk_size, 8);
    be_put(known + 16, s->icount, 8);
    g_byte_array_append(a, head, sizeof(head));
    g_byte_array_append(a, known, sizeof(known));
    if (s->extra_size)
        g_byte_array_append(a, s->extra, s->extra_size);
    g_byte_array_append(a, (const uint8_t *)s->id, id);
    g_byte_array_append(a, (const uint8_t *)s->name, name);
    g_byte_array_append(a, zero, -a->len & 7);
}

int qcow2_snapshots_write(struct qcow2 *q)
{
    g_autoptr(GByteArray) table = g_byte_array_new();
    uint64_t old = q->h.snapshots_offset, old_bytes = 0, offset = 0;
    unsigned incomplete;
    uint8_t place[12];
    int err = q->h.nb_snapshots ? qcow2_snapshots_measure(q, &old_bytes, &incomplete) : 0;
    for (guint i = 0; i < q->snapshots->len; i++)
        entry_append(table, &g_array_index(q->snapshots, struct qcow2_snapshot, i));
    if (table->len > QCOW2_MAX_SNAPSHOT_TABLE || q->snapshots->len > QCOW2_MAX_SNAPSHOTS)
        return EFBIG;
    if (!err && table->len) {
        g_mutex_lock(&q->lock);
        err = qcow2_alloc(q, qcow2_clusters(q, table->len), &offset);
        if (!err)
            qcow2_meta_mark(q, offset, table->len, true);
        g_mutex_unlock(&q->lock);
        if (!err)
            err = qcow2_file_write(q, offset, table->len, table->data);
    }
    if (!err)
        err = qcow2_settle(q, false); /* the counts, too */
    if (err)
        return err;
    be_put(place, q->snapshots->len, 4);
    be_put(place + 4, offset, 8);
    err = qcow2_file_write(q, 60, sizeof(place), place); /* nb_snapshots, snapshots_offset */
    if (!err)
        err = block_flush(qcow2_file(q));
    if (err)
        return err;
    q->h.nb_snapshots = q->snapshots->len;
    q->h.snapshots_offset = offset;
    g_mutex_lock(&q->lock);
    qcow2_free(q, old, old_bytes, QCOW2_DISCARD_OTHER);
    g_mutex_unlock(&q->lock);
    return 0;
}

/* ---- references of L1 tables ---- */

/* Everything that an L1 table (host order) leads to gains a reference, or loses one after the next flush. With the lock held. */
static int entry_refer(struct qcow2 *q, uint64_t e, bool gain)
{
    uint64_t offset = e & QCOW2_L2_OFFSET_MASK, bytes = q->cluster_size;
    if (!gain) {
        qcow2_free_entry(q, e, QCOW2_DISCARD_SNAPSHOT);
        return 0;
    }
    if (e & QCOW2_OFLAG_COMPRESSED)
        qcow2_compressed_place(q, e, &offset, &bytes);
    else if (!offset)
        return 0;
    else if (offset & (q->cluster_size - 1))
        return EIO;
    return qcow2_refcount_add(q, offset, bytes, 1);
}

static int l1_refer(struct qcow2 *q, const uint64_t *l1, uint32_t n, bool gain)
{
    g_autofree uint64_t *table = g_malloc(q->cluster_size);
    int err = 0;
    for (uint32_t i = 0; i < n && !err; i++) {
        uint64_t offset = l1[i] & QCOW2_L1_OFFSET_MASK;
        if (!offset)
            continue;
        if (offset & (q->cluster_size - 1))
            return EIO;
        err = qcow2_file_read(q, offset, q->cluster_size, table);
        for (uint64_t w = 0; w < q->cluster_size / 8 && !err; w += q->entry_words)
            if (table[w])
                err = entry_refer(q, GUINT64_FROM_BE(table[w]), gain);
        if (!err && gain)
            err = qcow2_refcount_add(q, offset, q->cluster_size, 1);
        else if (!err)
            qcow2_free(q, offset, q->cluster_size, QCOW2_DISCARD_OTHER);
    }
    return err;
}

static int flag_of(struct qcow2 *q, uint64_t offset, uint64_t *ret)
{
    uint64_t count;
    int err = qcow2_refcount_get(q, offset >> q->cluster_bits, &count);
    *ret = !err && count == 1 ? QCOW2_OFLAG_COPIED : 0;
    return err;
}

static int table_flags(struct qcow2 *q, uint64_t offset, uint64_t *table)
{
    bool changed = false;
    int err = qcow2_file_read(q, offset, q->cluster_size, table);
    for (uint64_t w = 0; w < q->cluster_size / 8 && !err; w += q->entry_words) {
        uint64_t e = GUINT64_FROM_BE(table[w]), at = e & QCOW2_L2_OFFSET_MASK, flag;
        if (!at || e & QCOW2_OFLAG_COMPRESSED || (err = flag_of(q, at, &flag)))
            continue;
        changed |= (e & QCOW2_OFLAG_COPIED) != flag;
        table[w] = GUINT64_TO_BE((e & ~QCOW2_OFLAG_COPIED) | flag);
    }
    return !err && changed ? qcow2_file_write(q, offset, q->cluster_size, table) : err;
}

/* The "copied" flags below an L1 table, by the counts; the table itself is changed in memory alone. With the lock held. */
static int l1_flags(struct qcow2 *q, uint64_t *l1, uint32_t n)
{
    g_autofree uint64_t *table = g_malloc(q->cluster_size);
    int err = 0;
    for (uint32_t i = 0; i < n && !err; i++) {
        uint64_t offset = l1[i] & QCOW2_L1_OFFSET_MASK, flag;
        if (!offset)
            continue;
        if (offset & (q->cluster_size - 1))
            return EIO;
        err = flag_of(q, offset, &flag);
        if (!err)
            err = table_flags(q, offset, table);
        l1[i] = offset | flag;
    }
    return err;
}

/* In memory alone: the active L1 table is that one. With the lock held. */
static void l1_show(struct qcow2 *q, uint32_t size, const uint64_t *table)
{
    qcow2_cache_empty(q);
    q->l1 = g_renew(uint64_t, q->l1, MAX(size, 1));
    memcpy(q->l1, table, (size_t)size * 8);
    g_free(q->l1_new);
    q->l1_new = g_malloc0(size / 8 + 1);
    q->dir = g_new0(struct qcow2_slice **, MAX(size, 1));
    q->h.l1_size = size;
}

/* The active L1 table is that one, of a disk of that size: 24 adjacent bytes in the header's first sector, all or nothing. */
static int l1_switch(struct qcow2 *q, uint64_t disk_size, uint64_t offset, uint32_t size, const uint64_t *table)
{
    uint8_t place[24];
    int err = qcow2_table_write(q, offset, size, table);
    if (!err)
        err = block_flush(qcow2_file(q));
    if (err)
        return err;
    be_put(place, disk_size, 8);
    be_put(place + 8, q->h.crypt_method, 4);
    be_put(place + 12, size, 4);
    be_put(place + 16, offset, 8);
    if ((err = qcow2_file_write(q, 24, sizeof(place), place)) || (err = block_flush(qcow2_file(q))))
        return err;
    qcow2_meta_mark(q, offset, (uint64_t)size * 8, true);
    l1_show(q, size, table);
    q->h.l1_table_offset = offset;
    q->h.size = disk_size;
    return 0;
}

/* The flags below the active table, on the disk as well. Everything has been flushed before. */
static int active_flags(struct qcow2 *q)
{
    g_mutex_lock(&q->lock);
    g_autofree uint64_t *l1 = g_memdup2(q->l1, (gsize)q->h.l1_size * 8);
    int err = l1_flags(q, l1, q->h.l1_size);
    if (!err)
        err = qcow2_table_write(q, q->h.l1_table_offset, q->h.l1_size, l1);
    l1_show(q, q->h.l1_size, l1);
    g_mutex_unlock(&q->lock);
    return err ? err : block_flush(qcow2_file(q));
}

/* What was changed in memory is dropped again. */
static void take_back(struct qcow2 *q)
{
    g_autoptr(GError) ignored = NULL;
    if (!qcow2_reload(q, &ignored))
        q->failed = EIO;
}

/* ---- the driver's methods ---- */

static struct qcow2_snapshot *find(struct qcow2 *q, const char *id_or_name, guint *ret_index)
{
    for (int by_name = 0; by_name < 2 && q->snapshots; by_name++)
        for (guint i = 0; i < q->snapshots->len; i++) {
            struct qcow2_snapshot *s = &g_array_index(q->snapshots, struct qcow2_snapshot, i);
            if (strcmp(by_name ? s->name : s->id, id_or_name))
                continue;
            if (ret_index)
                *ret_index = i;
            return s;
        }
    return NULL;
}

static void list_free(void *p)
{
    struct block_snapshot *s = p;
    g_free(s->id);
    g_free(s->name);
    g_free(s);
}

GPtrArray *qcow2_snapshot_list(struct block_node *n, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    GPtrArray *list = g_ptr_array_new_with_free_func(list_free);
    for (guint i = 0; q->snapshots && i < q->snapshots->len; i++) {
        const struct qcow2_snapshot *s = &g_array_index(q->snapshots, struct qcow2_snapshot, i);
        struct block_snapshot *b = g_new0(struct block_snapshot, 1);
        *b = (struct block_snapshot){ g_strdup(s->id), g_strdup(s->name), s->vm_state_size, s->date_sec, s->date_nsec, s->vm_clock_nsec, s->icount,
            s->disk_size };
        g_ptr_array_add(list, b);
    }
    return list;
}

static char *new_id(const struct qcow2 *q)
{
    uint64_t max = 0;
    for (guint i = 0; i < q->snapshots->len; i++)
        max = MAX(max, strtoull(g_array_index(q->snapshots, struct qcow2_snapshot, i).id, NULL, 10));
    return g_strdup_printf("%" G_GUINT64_FORMAT, max + 1);
}

static bool may_change(struct qcow2 *q, const char *what, GError **error)
{
    if (q->external)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "cannot %s: internal snapshots do not go with an external data file", what);
    if (q->read_only || q->failed)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot %s: the image is read-only", what);
    return true;
}

static bool failed(struct qcow2 *q, int err, const char *what, const char *name, GError **error)
{
    if (err == ERANGE)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "cannot %s snapshot '%s': a cluster would have more references than the image's %u "
                          "bits can count; amend refcount_bits to 16 or more", what, name, q->refcount_bits);
    return vireo_fail_errno(error, err, "cannot %s snapshot '%s'", what, name);
}

/* A copy of the active L1 table in clusters of its own. With the lock held. */
static int copy_l1(struct qcow2 *q, struct qcow2_snapshot *s)
{
    uint64_t bytes = (uint64_t)MAX(q->h.l1_size, 1) * 8;
    g_autofree uint64_t *copy = g_new0(uint64_t, MAX(q->h.l1_size, 1));
    for (uint32_t i = 0; i < q->h.l1_size; i++)
        copy[i] = q->l1[i] & ~QCOW2_OFLAG_COPIED;
    s->l1_size = q->h.l1_size;
    int err = qcow2_alloc(q, qcow2_clusters(q, bytes), &s->l1_offset);
    if (!err)
        qcow2_meta_mark(q, s->l1_offset, bytes, true);
    return err ? err : qcow2_table_write(q, s->l1_offset, s->l1_size, copy);
}

bool qcow2_snapshot_create(struct block_node *n, const struct block_snapshot *b, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    const char *name = b->name ? b->name : "";
    if (!may_change(q, "create the snapshot", error))
        return false;
    if (strlen(name) > MAX_TEXT || (b->id && (strlen(b->id) > MAX_TEXT || find(q, b->id, NULL))))
        return vireo_fail(error, VIREO_ERROR_INVALID, "a snapshot of that id exists, or its id or name is too long");
    if (q->snapshots->len >= QCOW2_MAX_SNAPSHOTS)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the image has %u snapshots already, and cannot have more", q->snapshots->len);
    int err = qcow2_settle(q, true);
    if (err)
        return failed(q, err, "create", name, error);
    struct qcow2_snapshot s = { .date_sec = (uint32_t)b->date_sec, .date_nsec = (uint32_t)b->date_nsec, .vm_clock_nsec = b->vm_clock_nsec,
        .vm_state_size = b->vm_state_size, .disk_size = q->h.size, .icount = b->icount };
    s.id = b->id ? g_strdup(b->id) : new_id(q);
    s.name = g_strdup(name);
    g_mutex_lock(&q->lock);
    err = l1_refer(q, q->l1, q->h.l1_size, true);
    if (!err)
        err = copy_l1(q, &s);
    g_mutex_unlock(&q->lock);
    if (err) {
        take_back(q);
        snapshot_clear(&s);
        return failed(q, err, "create", name, error);
    }
    err = qcow2_settle(q, false);
    if (!err)
        err = active_flags(q);
    if (!err) {
        g_array_append_val(q->snapshots, s);
        err = qcow2_snapshots_write(q);
        if (err)
            g_array_set_size(q->snapshots, q->snapshots->len - 1); /* frees s; what it counts is leaked */
    } else {
        snapshot_clear(&s);
    }
    if (!err && b->vm_state_size)
        err = qcow2_unmap_clusters(q, qcow2_vm_state_offset(q), qcow2_clusters(q, b->vm_state_size) << q->cluster_bits, QCOW2_DISCARD_NEVER, true);
    if (!err)
        err = qcow2_settle(q, true);
    return !err || failed(q, err, "create", name, error);
}

bool qcow2_snapshot_delete(struct block_node *n, const char *id_or_name, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    guint index;
    if (!may_change(q, "delete the snapshot", error))
        return false;
    struct qcow2_snapshot *s = find(q, id_or_name, &index);
    if (!s)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Can't find the snapshot '%s'", id_or_name);
    uint64_t l1_offset = s->l1_offset;
    uint32_t l1_size = s->l1_size;
    if (l1_offset & (q->cluster_size - 1) || l1_size > QCOW2_MAX_L1_BYTES / 8)
        l1_size = 0; /* damaged: what it led to is leaked, for a check to find */
    g_autofree uint64_t *l1 = g_new(uint64_t, MAX(l1_size, 1));
    int err = qcow2_table_read(q, l1_offset, l1_size, l1);
    if (!err)
        err = qcow2_settle(q, true);
    if (err)
        return failed(q, err, "delete", id_or_name, error);
    struct qcow2_snapshot was = *s;
    g_array_set_clear_func(q->snapshots, NULL); /* it may have to come back */
    g_array_remove_index(q->snapshots, index);
    err = qcow2_snapshots_write(q);
    if (err)
        g_array_insert_val(q->snapshots, index, was);
    g_array_set_clear_func(q->snapshots, snapshot_clear);
    if (err)
        return failed(q, err, "delete", id_or_name, error);
    snapshot_clear(&was);
    g_mutex_lock(&q->lock);
    err = l1_refer(q, l1, l1_size, false);
    qcow2_free(q, l1_offset, (uint64_t)l1_size * 8, QCOW2_DISCARD_OTHER);
    g_mutex_unlock(&q->lock);
    if (!err)
        err = qcow2_settle(q, true);
    if (!err)
        err = active_flags(q);
    return !err || failed(q, err, "delete", id_or_name, error);
}

/* The L1 table that shows a snapshot as the disk, large enough for its size; flags cleared. */
static uint64_t *snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *s, uint32_t *ret_size, int *ret_err)
{
    uint64_t per = (q->cluster_size / 8 / q->entry_words) << q->cluster_bits, need = s->disk_size / per + (s->disk_size % per != 0);
    *ret_err = EIO;
    if (s->l1_offset & (q->cluster_size - 1) || s->l1_size > QCOW2_MAX_L1_BYTES / 8 || need > QCOW2_MAX_L1_BYTES / 8)
        return NULL;
    *ret_size = (uint32_t)MAX(MAX(need, s->l1_size), 1);
    uint64_t *l1 = g_new0(uint64_t, *ret_size);
    *ret_err = qcow2_table_read(q, s->l1_offset, s->l1_size, l1);
    if (*ret_err) {
        g_free(l1);
        return NULL;
    }
    for (uint32_t i = 0; i < s->l1_size; i++)
        l1[i] &= ~QCOW2_OFLAG_COPIED;
    return l1;
}

bool qcow2_snapshot_apply(struct block_node *n, const char *id_or_name, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    if (!may_change(q, "apply the snapshot", error))
        return false;
    if (block_bitmap_next(n, NULL)) /* they would miss what changes */
        return vireo_fail(error, VIREO_ERROR_BUSY, "Device has active dirty bitmaps: remove them before applying snapshot '%s'", id_or_name);
    struct qcow2_snapshot *s = find(q, id_or_name, NULL);
    if (!s)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Can't find the snapshot '%s'", id_or_name);
    int err = qcow2_settle(q, true);
    uint32_t size = 0, old_size = q->h.l1_size;
    g_autofree uint64_t *l1 = err ? NULL : snapshot_l1(q, s, &size, &err);
    if (err)
        return failed(q, err, "apply", id_or_name, error);
    g_autofree uint64_t *old = g_memdup2(q->l1, (gsize)MAX(old_size, 1) * 8);
    uint64_t old_offset = q->h.l1_table_offset, offset = 0;
    g_mutex_lock(&q->lock);
    err = l1_refer(q, l1, size, true);
    if (!err)
        err = qcow2_alloc(q, qcow2_clusters(q, (uint64_t)size * 8), &offset);
    g_mutex_unlock(&q->lock);
    if (err) {
        take_back(q);
        return failed(q, err, "apply", id_or_name, error);
    }
    err = qcow2_settle(q, false);
    if (!err) {
        g_mutex_lock(&q->lock);
        err = l1_flags(q, l1, size);
        if (!err)
            err = l1_switch(q, s->disk_size, offset, size, l1);
        g_mutex_unlock(&q->lock);
    }
    if (err) {
        take_back(q);
        return failed(q, err, "apply", id_or_name, error);
    }
    __atomic_store_n(&n->size, s->disk_size, __ATOMIC_RELAXED);
    g_mutex_lock(&q->lock);
    err = l1_refer(q, old, old_size, false);
    qcow2_free(q, old_offset, (uint64_t)old_size * 8, QCOW2_DISCARD_OTHER);
    g_mutex_unlock(&q->lock);
    if (!err)
        err = qcow2_settle(q, true);
    if (!err)
        err = active_flags(q);
    return !err || failed(q, err, "apply", id_or_name, error);
}

bool qcow2_snapshot_load(struct block_node *n, const char *id_or_name, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    if (!q->read_only)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "a snapshot can be read only from an image that is open read-only");
    struct qcow2_snapshot *s = find(q, id_or_name, NULL);
    if (!s)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Can't find the snapshot '%s'", id_or_name);
    uint32_t size = 0;
    int err;
    uint64_t *l1 = snapshot_l1(q, s, &size, &err);
    if (!l1)
        return failed(q, err, "load", id_or_name, error);
    g_mutex_lock(&q->lock);
    l1_show(q, size, l1);
    q->h.size = s->disk_size;
    g_mutex_unlock(&q->lock);
    __atomic_store_n(&n->size, s->disk_size, __ATOMIC_RELAXED);
    g_free(l1);
    return true;
}

int qcow2_vmstate_read(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer)
{
    struct qcow2 *q = qcow2_of(n);
    struct iovec iov = { buffer, bytes };
    if (offset > INT64_MAX - qcow2_vm_state_offset(q) || bytes > INT32_MAX)
        return EFBIG;
    if (!q->l1)
        return EIO;
    return qcow2_data_read(q, qcow2_vm_state_offset(q) + offset, bytes, &iov, 1);
}

int qcow2_vmstate_write(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer)
{
    struct qcow2 *q = qcow2_of(n);
    struct iovec iov = { (void *)buffer, bytes };
    uint64_t per = UINT64_C(1) << (q->l2_bits + q->cluster_bits);
    if (offset > INT64_MAX / 2 - qcow2_vm_state_offset(q) || bytes > INT32_MAX)
        return EFBIG;
    if (q->read_only || q->failed)
        return EROFS;
    uint64_t entries = (qcow2_vm_state_offset(q) + offset + bytes + per - 1) / per;
    if (entries > QCOW2_MAX_L1_BYTES / 8)
        return EFBIG;
    g_mutex_lock(&q->lock);
    int err = entries > q->h.l1_size ? qcow2_l1_grow(q, (uint32_t)entries) : 0;
    g_mutex_unlock(&q->lock);
    return err ? err : qcow2_data_write(q, qcow2_vm_state_offset(q) + offset, bytes, &iov, 1);
}
