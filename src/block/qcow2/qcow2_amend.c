/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing what an image is while its content stays: version, width of the reference counts, lazy reference counts, backing file,
 * data file, size; and how large an image would be (measure).
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2/qcow2_check.h"

struct amend {
    struct qcow2 *q;
    struct keyval *options;
    void (*progress)(void *opaque, double part);
    void *opaque;
};

static bool fail_io(int err, const char *what, GError **error)
{
    return vireo_fail_errno(error, err, "cannot %s", what);
}

static int header_now(struct qcow2 *q)
{
    int err = qcow2_header_write(q);
    return err ? err : block_flush(qcow2_file(q));
}

/* ---- version ---- */

/* Zero clusters of one L2 table become unallocated (when nothing lies below) or real zeroes: version 2 cannot say "zero". */
static int table_without_zeroes(struct qcow2 *q, uint64_t offset, uint64_t *table, const uint8_t *zeroes, bool below)
{
    uint64_t refs;
    bool changed = false;
    int err = qcow2_file_read(q, offset, q->cluster_size, table);
    if (!err)
        err = qcow2_refcount_get(q, offset >> q->cluster_bits, &refs);
    g_autoptr(GArray) dropped = g_array_new(FALSE, FALSE, 8);
    for (uint64_t i = 0; i < q->cluster_size / 8 && !err; i++) {
        uint64_t e = GUINT64_FROM_BE(table[i]), at = 0;
        if (e & QCOW2_OFLAG_COMPRESSED || !(e & QCOW2_OFLAG_ZERO))
            continue;
        if (below && !(err = qcow2_alloc(q, 1, &at)) && !(err = qcow2_refcount_set(q, at >> q->cluster_bits, refs)))
            err = qcow2_file_write(q, at, q->cluster_size, zeroes);
        table[i] = GUINT64_TO_BE(at | (at && refs == 1 ? QCOW2_OFLAG_COPIED : 0));
        if (e & QCOW2_L2_OFFSET_MASK)
            g_array_append_val(dropped, e);
        changed = true;
    }
    if (err || !changed)
        return err;
    g_mutex_unlock(&q->lock);
    err = qcow2_settle(q, false); /* new clusters and their counts before what points to them */
    if (!err)
        err = qcow2_file_write(q, offset, q->cluster_size, table);
    if (!err)
        err = block_flush(qcow2_file(q));
    g_mutex_lock(&q->lock);
    for (guint i = 0; i < dropped->len && !err; i++)
        for (uint64_t r = 0; r < refs; r++)
            qcow2_free_entry(q, g_array_index(dropped, uint64_t, i), QCOW2_DISCARD_OTHER);
    return err;
}

static void collect(GHashTable *seen, const uint64_t *l1, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t offset = l1[i] & QCOW2_L1_OFFSET_MASK;
        if (offset)
            g_hash_table_add(seen, g_memdup2(&offset, 8));
    }
}

static int without_zeroes(struct amend *a)
{
    struct qcow2 *q = a->q;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autofree uint64_t *table = g_malloc(q->cluster_size);
    g_autofree uint8_t *zeroes = g_malloc0(q->cluster_size);
    GHashTableIter it;
    gpointer offset;
    guint done = 0;
    int err = 0;
    collect(seen, q->l1, q->h.l1_size);
    for (guint i = 0; q->snapshots && i < q->snapshots->len && !err; i++) {
        const struct qcow2_snapshot *s = &g_array_index(q->snapshots, struct qcow2_snapshot, i);
        g_autofree uint64_t *l1 = g_try_new(uint64_t, MAX(s->l1_size, 1));
        err = s->l1_size > QCOW2_MAX_L1_BYTES / 8 || !l1 ? EIO : qcow2_table_read(q, s->l1_offset, s->l1_size, l1);
        if (!err)
            collect(seen, l1, s->l1_size);
    }
    g_hash_table_iter_init(&it, seen);
    while (!err && g_hash_table_iter_next(&it, &offset, NULL)) {
        g_mutex_lock(&q->lock);
        err = *(uint64_t *)offset & (q->cluster_size - 1) ? EIO : table_without_zeroes(q, *(uint64_t *)offset, table, zeroes, q->n->backing_file);
        g_mutex_unlock(&q->lock);
        if (a->progress)
            a->progress(a->opaque, (double)++done / g_hash_table_size(seen));
    }
    return err;
}

static bool downgrade(struct amend *a, GError **error)
{
    struct qcow2 *q = a->q;
    if (q->refcount_bits != 16)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "compat=0.10 requires refcount_bits=16; the image has %u", q->refcount_bits);
    if (q->external || q->extended || q->h.compression_type || q->h.crypt_method == QCOW2_CRYPT_LUKS)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Cannot downgrade an image that uses %s: compat=0.10 does not know it",
                          q->external ? "a data file" : q->extended ? "extended L2 entries" : q->h.compression_type ? "zstd compression" : "LUKS encryption");
    for (guint i = 0; q->snapshots && i < q->snapshots->len; i++) {
        const struct qcow2_snapshot *s = &g_array_index(q->snapshots, struct qcow2_snapshot, i);
        if (s->vm_state_size > UINT32_MAX || s->disk_size != q->h.size)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Internal snapshots prevent downgrade of image: snapshot '%s' has another disk size "
                              "or a large VM state", s->name);
    }
    if (q->nb_bitmaps)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "compat=0.10 does not know dirty bitmaps: remove them first");
    int err = qcow2_settle(q, true);
    if (!err)
        err = without_zeroes(a);
    if (!err)
        err = qcow2_settle(q, true);
    if (err)
        return fail_io(err, "expand the image's zero clusters", error);
    q->h.version = 2;
    q->h.incompatible = q->h.compatible = q->h.autoclear = 0;
    q->lazy = q->dirty_marked = false;
    if ((err = header_now(q)))
        return fail_io(err, "write the header", error);
    return qcow2_reload(q, error);
}

static bool upgrade(struct amend *a, GError **error)
{
    struct qcow2 *q = a->q;
    unsigned incomplete = 0;
    uint64_t bytes;
    int err = qcow2_settle(q, true);
    if (!err && q->h.nb_snapshots && !(err = qcow2_snapshots_measure(q, &bytes, &incomplete)) && incomplete)
        err = qcow2_snapshots_write(q); /* version 3 demands fields that version 2 may lack */
    if (err)
        return fail_io(err, "write the snapshot table", error);
    q->h.version = 3;
    q->h.header_length = QCOW2_HEADER_COMPRESSION;
    q->h.refcount_order = 4;
    err = header_now(q);
    return !err || fail_io(err, "write the header", error);
}

/* ---- single options ---- */

static const char *const compat_names[] = { "0.10", "1.1", "v2", "v3", NULL };

static bool amend_lazy(struct amend *a, const char *value, GError **error)
{
    struct qcow2 *q = a->q;
    bool on;
    if (!keyval_bool("lazy_refcounts", value, &on, error))
        return false;
    if (on && q->h.version < 3)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)");
    if (on == !!(q->h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS))
        return true;
    q->h.compatible ^= QCOW2_COMPAT_LAZY_REFCOUNTS;
    if (!on)
        q->lazy = false; /* the flush writes all counts */
    int err = qcow2_settle(q, true);
    if (!err && !on && q->h.version >= 3) {
        q->h.incompatible &= ~QCOW2_INCOMPAT_DIRTY;
        q->dirty_marked = false;
    }
    if (!err)
        err = qcow2_header_features(q);
    return !err || fail_io(err, "change lazy_refcounts", error);
}

static bool amend_refcount_bits(struct amend *a, const char *value, GError **error)
{
    struct qcow2 *q = a->q;
    uint64_t bits;
    if (!keyval_uint("refcount_bits", value, 1, 64, &bits, error))
        return false;
    if (bits & (bits - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Refcount width must be a power of two and may not exceed 64 bits");
    if (bits == q->refcount_bits)
        return true;
    if (q->h.version < 3)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or "
                          "greater)");
    return qcow2_refcounts_rewrite(q, (unsigned)__builtin_ctzll(bits), a->progress, a->opaque, error);
}

static bool amend_data_file(struct amend *a, const char *name, const char *raw, GError **error)
{
    struct qcow2 *q = a->q;
    bool on = q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    if (raw && !keyval_bool("data_file_raw", raw, &on, error))
        return false;
    if (name && !q->external)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "data-file can only be set for images that use an external data file");
    if (on && !(q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "data-file-raw cannot be set on existing images");
    if (name) {
        g_free(q->data_file_name);
        q->data_file_name = *name ? g_strdup(name) : NULL;
    }
    if (!on) {
        q->h.autoclear &= ~QCOW2_AUTOCLEAR_DATA_FILE_RAW;
        q->raw_external = false;
    }
    int err = header_now(q);
    return !err || fail_io(err, "write the header", error);
}

static bool amend_backing(struct amend *a, const char *file, const char *format, GError **error)
{
    struct block_node *n = a->q->n;
    return block_change_backing_file(n, file ? (*file ? file : NULL) : n->backing_file, format ? format : n->backing_format, error);
}

static bool amend_size(struct amend *a, const char *value, GError **error)
{
    uint64_t size;
    if (!keyval_size("size", value, 1, &size, error))
        return false;
    return size == a->q->h.size || block_truncate(a->q->n, size, false, "off", error);
}

static bool refuse_rest(const struct keyval *options, GError **error)
{
    static const char *const fixed[] = { "cluster_size", "preallocation", "extended_l2", "compression_type" };
    for (guint i = 0; i < options->pairs->len; i++) {
        const struct keyval_pair *p = g_ptr_array_index(options->pairs, i);
        for (size_t k = 0; k < G_N_ELEMENTS(fixed); k++)
            if (!strcmp(p->key, fixed[k]))
                return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Invalid parameter '%s': it is chosen when an image is made; convert the image "
                                  "to change it", p->key);
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s'", p->key);
    }
    return true;
}

const struct keyval_key qcow2_amend_keys[] = {
    { "backing_file", KV_STRING, 0, "File name of a base image" },
    { "backing_fmt", KV_STRING, 0, "Image format of the base image" },
    { "compat", KV_STRING, 0, "Compatibility level (v2 [0.10] or v3 [1.1])" },
    { "data_file", KV_STRING, 0, "File name of an external data file" },
    { "data_file_raw", KV_BOOL, 0, "The external data file must stay valid as a raw image" },
    { "encrypt.iter-time", KV_UINT, 0, "Time to spend in PBKDF in milliseconds" },
    { "encrypt.keyslot", KV_UINT, 0, "Select a single keyslot to modify explicitly" },
    { "encrypt.new-secret", KV_STRING, 0, "New secret to set in the matching keyslots. Empty string to erase" },
    { "encrypt.old-secret", KV_STRING, 0, "Select all keyslots that match this password" },
    { "encrypt.state", KV_STRING, 0, "Select new state of affected keyslots (active/inactive)" },
    { "lazy_refcounts", KV_BOOL, 0, "Postpone refcount updates" },
    { "refcount_bits", KV_UINT, 0, "Width of a reference count entry in bits" },
    { "size", KV_SIZE, 0, "Virtual disk size" },
    { NULL }
};

bool qcow2_amend(struct block_node *n, struct keyval *options, bool force, void (*progress)(void *, double), void *opaque, GError **error)
{
    struct amend a = { qcow2_of(n), options, progress, opaque };
    keyval_auto *encrypt = keyval_take_nested(options, "encrypt");
    if (encrypt && encrypt->pairs->len && !qcow2_crypt_amend(a.q, encrypt, force, error))
        return false;
    g_autofree char *compat = keyval_take(options, "compat"), *lazy = keyval_take(options, "lazy_refcounts");
    g_autofree char *bits = keyval_take(options, "refcount_bits"), *backing = keyval_take(options, "backing_file");
    g_autofree char *format = keyval_take(options, "backing_fmt"), *data = keyval_take(options, "data_file");
    g_autofree char *raw = keyval_take(options, "data_file_raw"), *size = keyval_take(options, "size");
    int version = 0;
    if (a.q->read_only || a.q->failed)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "the image is read-only and cannot be amended");
    if (!refuse_rest(options, error) || (compat && !keyval_enum("compat", compat, compat_names, &version, error)))
        return false;
    version = compat ? (version & 1) + 2 : (int)a.q->h.version;
    return (version <= (int)a.q->h.version || upgrade(&a, error)) && (!lazy || amend_lazy(&a, lazy, error)) && (!bits || amend_refcount_bits(&a, bits, error)) &&
           ((!data && !raw) || amend_data_file(&a, data, raw, error)) && ((!backing && !format) || amend_backing(&a, backing, format, error)) &&
           (!size || amend_size(&a, size, error)) && (version >= (int)a.q->h.version || downgrade(&a, error));
}

/* ---- measure ---- */

static uint64_t round_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) / to * to;
}

/* Bytes of refcount blocks and table for that many clusters and themselves. */
static uint64_t refcount_bytes(uint64_t clusters, uint64_t cluster, unsigned bits)
{
    uint64_t per_block = cluster * 8 / bits, blocks = 0, table = 0, n = 0, last;
    do {
        last = n;
        blocks = round_up(clusters + table + blocks, per_block) / per_block;
        table = round_up(blocks, cluster / 8) / (cluster / 8);
        n = clusters + blocks + table;
    } while (n != last);
    return (blocks + table) * cluster;
}

static bool take_size(struct keyval *o, const char *key, uint64_t *value, GError **error)
{
    g_autofree char *text = o ? keyval_take(o, key) : NULL;
    return !text || keyval_size(key, text, 1, value, error);
}

bool qcow2_measure(struct block_create *c, uint64_t data, uint64_t *ret_required, uint64_t *ret_fully, GError **error)
{
    enum { LUKS_PAYLOAD = 2068480 }; /* of LUKS 1 with aes-256 and 8 key slots */
    uint64_t cluster = 65536, bits = 16;
    bool extended = false;
    if (!take_size(c->options, "cluster_size", &cluster, error) || !take_size(c->options, "refcount_bits", &bits, error))
        return false;
    g_autofree char *l2 = c->options ? keyval_take(c->options, "extended_l2") : NULL, *prealloc = c->options ? keyval_take(c->options, "preallocation") : NULL;
    g_autofree char *encrypt = c->options ? keyval_take(c->options, "encrypt.format") : NULL;
    if (l2 && !keyval_bool("extended_l2", l2, &extended, error))
        return false;
    if (cluster < 512 || cluster > 2 << 20 || cluster & (cluster - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Cluster size must be a power of two between 512 and 2048k");
    if (!bits || bits > 64 || bits & (bits - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Refcount width must be a power of two and may not exceed 64 bits");
    if (c->size > INT64_MAX - (4 << 20))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Image size is too large");
    uint64_t entry = extended ? 16 : 8, whole = round_up(c->size, cluster), tables = round_up(whole / cluster, cluster / entry) * entry;
    uint64_t l1 = round_up(tables / cluster, cluster / 8);
    if (l1 * 8 > QCOW2_MAX_L1_BYTES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The image size is too large (try using a larger cluster size)");
    uint64_t meta = cluster + tables + l1 * 8;
    meta += refcount_bytes((meta + whole) / cluster, cluster, (unsigned)bits);
    if (encrypt && !strcmp(encrypt, "luks"))
        meta += round_up(LUKS_PAYLOAD, cluster);
    *ret_fully = meta + whole;
    *ret_required = prealloc && (!strcmp(prealloc, "full") || !strcmp(prealloc, "falloc")) ? *ret_fully : meta + MIN(round_up(data, cluster), whole);
    return true;
}
