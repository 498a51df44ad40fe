/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver: opening, closing, and what an image says about itself. */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "block/block_private.h"

#define O(member) offsetof(struct qcow2_options, member)
static const char *const tristate[] = {"", "off", "on", "no", "yes", "false", "true", "n", "y", NULL};
static const char *const overlap_values[] = {"", "none", "constant", "cached", "all", NULL};
static const char *const bool_values[] = {"on", "off", "true", "false", "yes", "no", NULL};
static const char *const crypt_values[] = {"", "aes", "luks", NULL};
static const struct keyval_key keys[] = {
    {"lazy-refcounts", KV_ENUM, O(lazy_refcounts), "postpone reference counts until closing, with a mark on the image (default: as the image says)", tristate},
    {"pass-discard-request", KV_ENUM, O(discard_request), "free the host's space when the guest discards (default: as discard=)", tristate},
    {"pass-discard-snapshot", KV_ENUM, O(discard_snapshot), "free the host's space that deleted snapshots leave (default: on)", tristate},
    {"pass-discard-other", KV_ENUM, O(discard_other), "free the host's space of other clusters that become free (default: off)", tristate},
    {"discard-no-unref", KV_BOOL, O(discard_no_unref), "discarded clusters keep their place in the file"},
    {"overlap-check", KV_ENUM, O(overlap), "none, constant, cached or all: none switches the checks against writes over metadata off", overlap_values},
    {"overlap-check.template", KV_ENUM, O(overlap_template), "the same", overlap_values},
    {"overlap-check.main-header", KV_ONLY, 0, "a part of the checks; they are made together", bool_values},
    {"overlap-check.active-l1", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.active-l2", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.refcount-table", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.refcount-block", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.snapshot-table", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.inactive-l1", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.inactive-l2", KV_ONLY, 0, "see main-header", bool_values},
    {"overlap-check.bitmap-directory", KV_ONLY, 0, "see main-header", bool_values},
    {"cache-size", KV_SIZE, O(cache_size), "bytes of both caches together"},
    {"l2-cache-size", KV_SIZE, O(l2_cache_size), "bytes of L2 tables kept in memory (default: all of the image's, at most 32 MiB)"},
    {"l2-cache-entry-size", KV_SIZE, O(l2_cache_entry_size), "bytes of an L2 table read at once: a power of two, 512 to the cluster size"},
    {"refcount-cache-size", KV_SIZE, O(refcount_cache_size), "bytes of refcount blocks kept in memory"},
    {"cache-clean-interval", KV_IGNORED, 0, "accepted: what is not used gives way to what is"},
    {"encrypt.format", KV_ENUM, O(encrypt_format), "aes or luks, as the image has it", crypt_values},
    {"encrypt.key-secret", KV_STRING, O(key_secret), "ID of the secret with the passphrase"},
    {NULL}
};

static int probe(const uint8_t *head, size_t n, const char *filename)
{
    static const uint8_t magic[] = {'Q', 'F', 'I', 0xfb, 0, 0, 0};
    return n >= 8 && !memcmp(head, magic, sizeof(magic)) && head[7] >= 2 ? 100 : 0;
}

/* ---- what is wrong ---- */

int qcow2_corrupt(struct qcow2 *q, bool fatal, uint64_t offset, uint64_t bytes, const char *format, ...)
{
    va_list va;
    va_start(va, format);
    g_autofree char *text = g_strdup_vprintf(format, va);
    va_end(va);
    fatal &= !q->read_only;
    if (q->corrupt && (!fatal || q->failed))
        return EIO; /* said already */
    q->corrupt = true;
    log_warn("disk '%s': the image is corrupt: %s; %s", q->n->filename, text,
             fatal ? "nothing more is written to it; repair it with: vireo-img check -r all" : "further such cases are not reported");
    struct json_object *data = json_make("device", json_object_new_string(""), "msg", json_object_new_string(text), "fatal", json_object_new_boolean(fatal), NULL);
    if (q->n->name)
        json_object_object_add(data, "node-name", json_object_new_string(q->n->name));
    if (bytes) {
        json_object_object_add(data, "offset", json_object_new_int64((int64_t) offset));
        json_object_object_add(data, "size", json_object_new_int64((int64_t) bytes));
    }
    block_graph_event(q->n->graph, "BLOCK_IMAGE_CORRUPTED", data);
    if (fatal) {
        q->failed = EIO;
        q->h.incompatible |= q->h.version >= 3 ? QCOW2_INCOMPAT_CORRUPT : 0;
        qcow2_header_features(q);
    }
    return EIO;
}

/* ---- opening ---- */

void qcow2_geometry(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->h;
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = UINT64_C(1) << h->cluster_bits;
    q->extended = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
    q->external = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
    q->raw_external = h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    q->entry_words = q->extended ? 2 : 1;
    q->l2_bits = q->cluster_bits - (q->extended ? 4 : 3);
    q->subcluster_bits = q->extended ? q->cluster_bits - 5 : q->cluster_bits;
    q->refcount_bits = 1u << h->refcount_order;
    q->rb_bits = q->cluster_bits + 3 - h->refcount_order;
    q->refcount_max = h->refcount_order == 6 ? UINT64_MAX : (UINT64_C(1) << q->refcount_bits) - 1;
}

static bool caches(struct qcow2 *q, GError **error)
{
    struct qcow2_options *o = &q->o;
    if (o->cache_size && o->l2_cache_size && o->refcount_cache_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
    if (o->cache_size && (o->l2_cache_size > o->cache_size || o->refcount_cache_size > o->cache_size))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s may not exceed cache-size", o->l2_cache_size > o->cache_size ? "l2-cache-size" : "refcount-cache-size");
    uint64_t slice = o->l2_cache_entry_size ? o->l2_cache_entry_size : MIN(q->cluster_size, 4096);
    if (slice < 512 || slice > q->cluster_size || slice & (slice - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "l2-cache-entry-size must be a power of two between 512 and the cluster size (%" G_GUINT64_FORMAT ")", q->cluster_size);
    uint64_t all = (qcow2_clusters(q, q->h.size) + 1) * q->entry_words * 8, l2 = o->l2_cache_size, counts = o->refcount_cache_size;
    if (o->cache_size && !l2)
        l2 = counts ? o->cache_size - counts : MIN(all, o->cache_size);
    if (!l2)
        l2 = 32 << 20;
    if (!counts)
        counts = o->cache_size > l2 ? o->cache_size - l2 : 8 << 20;
    q->slice_bytes = (uint32_t) slice;
    q->slices_per_table = (unsigned) (q->cluster_size / slice);
    q->slice_bits = (unsigned) g_bit_nth_lsf(slice, -1) - (q->extended ? 4 : 3);
    q->max_slices = (unsigned) CLAMP(MIN(l2, all) / slice + 2, 16, 1 << 24);
    q->max_blocks = (unsigned) CLAMP(counts / q->cluster_size, 4, 1 << 24);
    return true;
}

static bool read_tables(struct qcow2 *q, GError **error)
{
    const struct qcow2_header *h = &q->h;
    q->l1 = g_new0(uint64_t, MAX(h->l1_size, 1));
    q->l1_new = g_malloc0(h->l1_size / 8 + 1);
    q->dir = g_new0(struct qcow2_slice **, MAX(h->l1_size, 1));
    q->rt_entries = ((uint64_t) h->refcount_table_clusters << q->cluster_bits) / 8;
    q->rt = g_new0(uint64_t, q->rt_entries);
    q->blocks = g_new0(struct qcow2_block *, q->rt_entries);
    int err = h->l1_size ? qcow2_table_read(q, h->l1_table_offset, h->l1_size, q->l1) : 0;
    if (err)
        return vireo_fail_errno(error, err, "Could not read L1 table");
    if (!q->read_only && (err = qcow2_table_read(q, h->refcount_table_offset, q->rt_entries, q->rt)))
        return vireo_fail_errno(error, err, "Could not read the reference count table");
    q->l1_dirty = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    q->rt_dirty = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    q->homeless = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    q->block_list = g_ptr_array_new();
    q->frees = g_array_new(FALSE, FALSE, sizeof(struct qcow2_free));
    q->reclaim[0] = g_array_new(FALSE, FALSE, sizeof(struct qcow2_free));
    q->reclaim[1] = g_array_new(FALSE, FALSE, sizeof(struct qcow2_free));
    q->free_from = 0;
    q->fresh_from = qcow2_clusters(q, block_node_size(qcow2_file(q))) << q->cluster_bits;
    q->compressed_next = 0;
    return true;
}

/* Where metadata lies, for the overlap checks. */
static void meta_build(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->h;
    g_clear_pointer(&q->meta, g_free);
    if (q->read_only || q->o.overlap == 1 || q->o.overlap_template == 1)
        return;
    q->meta_clusters = MIN((q->fresh_from >> q->cluster_bits) + 1024, UINT64_C(1) << 26) & ~UINT64_C(63); /* grows when metadata lie beyond */
    q->meta = g_malloc0(q->meta_clusters / 8);
    qcow2_meta_mark(q, 0, q->cluster_size, true);
    qcow2_meta_mark(q, h->l1_table_offset, (uint64_t) h->l1_size * 8, true);
    qcow2_meta_mark(q, h->refcount_table_offset, (uint64_t) h->refcount_table_clusters << q->cluster_bits, true);
    for (uint32_t i = 0; i < h->l1_size; i++)
        if (q->l1[i] & QCOW2_L1_OFFSET_MASK)
            qcow2_meta_mark(q, q->l1[i] & QCOW2_L1_OFFSET_MASK, q->cluster_size, true);
    for (uint64_t i = 0; i < q->rt_entries; i++)
        if (q->rt[i] & QCOW2_RT_OFFSET_MASK)
            qcow2_meta_mark(q, q->rt[i] & QCOW2_RT_OFFSET_MASK, q->cluster_size, true);
    for (guint i = 0; q->snapshots && i < q->snapshots->len; i++) {
        const struct qcow2_snapshot *s = &g_array_index(q->snapshots, struct qcow2_snapshot, i);
        qcow2_meta_mark(q, s->l1_offset, (uint64_t) s->l1_size * 8, true);
    }
    if (h->nb_snapshots)
        qcow2_meta_mark(q, h->snapshots_offset, 1, true);
    if (q->nb_bitmaps)
        qcow2_meta_mark(q, q->bitmap_directory_offset, q->bitmap_directory_size, true);
    if (q->crypto_offset)
        qcow2_meta_mark(q, q->crypto_offset, q->crypto_length, true);
}

static bool read_header(struct qcow2 *q, GError **error)
{
    struct block_node *n = q->n;
    uint8_t first[QCOW2_HEADER_V3];
    uint64_t file_size = block_node_size(qcow2_file(q));
    int err = qcow2_file_read(q, 0, sizeof(first), first);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the header of '%s'", n->filename);
    uint32_t bits;
    memcpy(&bits, first + 20, 4);
    bits = GUINT32_FROM_BE(bits);
    /* Extensions and names lie within the first cluster; seldom more than these bytes of it. */
    size_t length = (size_t) MIN(UINT64_C(1) << (bits >= QCOW2_MIN_CLUSTER_BITS && bits <= QCOW2_MAX_CLUSTER_BITS ? bits : 16), MAX(file_size, sizeof(first)));
    g_autofree uint8_t *head = g_malloc(length);
    g_autofree char *backing = NULL;
    GError *e = NULL;
    if ((err = qcow2_file_read(q, 0, length, head)))
        return vireo_fail_errno(error, err, "cannot read the header of '%s'", n->filename);
    if (!qcow2_header_parse(head, length, &q->h, &e)) {
        g_propagate_prefixed_error(error, e, "'%s': ", n->filename);
        return false;
    }
    qcow2_geometry(q);
    if (!qcow2_extensions_parse(q, head, length, &backing, &e)) {
        g_propagate_prefixed_error(error, e, "'%s': ", n->filename);
        return false;
    }
    g_free(n->backing_file);
    g_free(n->backing_format);
    n->backing_file = g_steal_pointer(&backing);
    n->backing_format = n->backing_file && q->backing_format && *q->backing_format ? g_strdup(q->backing_format) : NULL;
    n->size = q->h.size;
    return true;
}

static bool check_header(struct qcow2 *q, unsigned flags, GError **error)
{
    const struct qcow2_header *h = &q->h;
    const char *name = q->n->filename;
    uint64_t table = UINT64_C(1) << (q->l2_bits + q->cluster_bits);
    if (h->size > INT64_MAX - table)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': Image is too big: %" G_GUINT64_FORMAT " bytes", name, h->size);
    if (h->l1_size < (h->size + table - 1) / table)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': L1 table is too small: %u entries for %" G_GUINT64_FORMAT " bytes", name, h->l1_size, h->size);
    if (h->l1_size && !h->l1_table_offset)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the L1 table has no place", name);
    if (flags & BLOCK_CHECK)
        return true;
    if (h->incompatible & QCOW2_INCOMPAT_CORRUPT && !q->read_only)
        return vireo_fail(error, VIREO_ERROR_FAILED, "'%s' is marked corrupt and cannot be opened read/write; repair it with: vireo-img check -r all", name);
    if (q->raw_external && q->n->backing_file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': an image with a raw external data file cannot have a backing file", name);
    return true;
}

static bool open_data_file(struct qcow2 *q, unsigned flags, GError **error)
{
    struct block_node *n = q->n, **data = &n->child[BLOCK_ROLE_DATA_FILE];
    if (!q->external)
        return !*data || vireo_fail(error, VIREO_ERROR_INVALID, "'data-file' can only be set for images with an external data file");
    if (*data || (flags & BLOCK_NO_IO && !q->data_file_name))
        return true;
    if (!q->data_file_name)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'data-file' is required for '%s': the image does not name its data file", n->filename);
    g_autofree char *path = block_resolve(qcow2_file(q)->filename, q->data_file_name);
    GError *e = NULL;
    *data = block_open_filename(n->graph, path, "file", NULL, (flags & ~(unsigned) (BLOCK_CHECK | BLOCK_NO_BACKING | BLOCK_TEMPORARY)) | BLOCK_UNMAP, &e);
    if (!*data)
        g_propagate_prefixed_error(error, e, "cannot open the data file of '%s': ", n->filename);
    return *data != NULL;
}

/* A sparse file under mapped clusters: the host knows better which of them hold zeroes. */
static bool looks_preallocated(struct qcow2 *q)
{
    uint64_t size = block_node_size(qcow2_data(q));
    return block_node_allocated(qcow2_data(q)) < size - size / 8;
}

/* Lets an image be written: what writers have to do first. */
static bool begin_writing(struct qcow2 *q, unsigned flags, GError **error)
{
    struct qcow2_header *h = &q->h;
    int err = 0;
    q->lazy = h->version >= 3 && qcow2_on(q->o.lazy_refcounts, h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS);
    if (qcow2_on(q->o.lazy_refcounts, false) && h->version < 3)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
    if (flags & BLOCK_CHECK)
        return true;
    if (h->incompatible & QCOW2_INCOMPAT_DIRTY) {
        struct block_check check = {0};
        err = qcow2_check(q->n, BLOCK_FIX_ERRORS | BLOCK_FIX_LEAKS, &check, error);
        if (!err && (check.corruptions > check.corruptions_fixed || check.check_errors))
            err = EIO;
        if (err)
            return (error && *error) || vireo_fail_errno(error, err, "'%s' was not closed and its reference counts could not be repaired", q->n->filename);
        h->incompatible &= ~QCOW2_INCOMPAT_DIRTY;
        if ((err = qcow2_header_features(q)))
            return vireo_fail_errno(error, err, "cannot write the header of '%s'", q->n->filename);
    }
    if (h->autoclear & ~QCOW2_AUTOCLEAR_KNOWN) {
        h->autoclear &= QCOW2_AUTOCLEAR_KNOWN;
        if ((err = qcow2_header_features(q)))
            return vireo_fail_errno(error, err, "cannot write the header of '%s'", q->n->filename);
    }
    return true;
}

static void tables_free(struct qcow2 *q)
{
    if (!q->block_list)
        return;
    qcow2_cache_empty(q);
    for (guint i = 0; i < q->block_list->len; i++) {
        struct qcow2_block *b = q->block_list->pdata[i];
        g_free(b->data);
        g_free(b);
    }
    g_clear_pointer(&q->block_list, g_ptr_array_unref);
    g_clear_pointer(&q->blocks, g_free);
    g_clear_pointer(&q->rt, g_free);
    g_clear_pointer(&q->l1, g_free);
    g_clear_pointer(&q->l1_new, g_free);
    g_clear_pointer(&q->meta, g_free);
    GArray **arrays[] = {&q->l1_dirty, &q->rt_dirty, &q->homeless, &q->frees, &q->reclaim[0], &q->reclaim[1]};
    for (size_t i = 0; i < G_N_ELEMENTS(arrays); i++) {
        g_array_free(*arrays[i], TRUE);
        *arrays[i] = NULL;
    }
    q->frees_clusters = 0;
    q->rt_moved = false;
}

static bool load(struct qcow2 *q, unsigned flags, GError **error)
{
    if (!read_header(q, error) || !check_header(q, flags, error) || !caches(q, error) || !open_data_file(q, flags, error))
        return false;
    q->corrupt = q->h.incompatible & QCOW2_INCOMPAT_CORRUPT;
    if (!read_tables(q, error))
        return false;
    if (!qcow2_snapshots_read(q, error))
        return false;
    meta_build(q);
    q->metadata_preallocated = !(flags & BLOCK_NO_IO) && looks_preallocated(q);
    return true;
}

static bool qcow2_open(struct block_node *n, unsigned flags, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    q->n = n;
    g_mutex_init(&q->lock);
    g_mutex_init(&q->unpacked_lock);
    g_cond_init(&q->cond);
    q->read_only = !(flags & BLOCK_RDWR) || flags & BLOCK_INACTIVE;
    if (!load(q, flags, error))
        return false;
    if (q->h.crypt_method && !(flags & BLOCK_CHECK) && !qcow2_crypt_open(q, flags, error))
        return false;
    if (q->crypt)
        n->limits.request_alignment = 512;
    n->limits.zeroes_alignment = (uint32_t) (UINT64_C(1) << q->subcluster_bits);
    n->limits.discard_alignment = (uint32_t) q->cluster_size;
    if (!q->read_only && !begin_writing(q, flags, error))
        return false;
    return flags & BLOCK_CHECK || qcow2_bitmaps_open(q, error);
}

/* Everything on the disk, and nothing that says somebody is still writing. */
static int end_writing(struct qcow2 *q)
{
    int err = 0;
    q->closing = true;
    if (!q->failed && !(q->n->flags & BLOCK_CHECK) && !qcow2_bitmaps_store(q, NULL))
        err = EIO;
    int e = qcow2_flush_all(q);
    if (!e && q->dirty_marked) {
        q->h.incompatible &= ~QCOW2_INCOMPAT_DIRTY;
        e = qcow2_header_features(q);
        q->dirty_marked = e != 0;
    }
    q->closing = false;
    return err ? err : e;
}

static void qcow2_close(struct block_node *n)
{
    struct qcow2 *q = qcow2_of(n);
    if (!q->n)
        return;
    int err = n->open && !q->read_only ? end_writing(q) : 0;
    if (err)
        log_warn("disk '%s': closing the image failed: %s", n->filename, g_strerror(err));
    qcow2_bitmaps_free(q);
    qcow2_snapshots_free(q);
    tables_free(q);
    qcow2_extensions_free(q);
    qcow2_crypt_close(q);
    qcow2_codec_free(q);
    g_free(q->unpacked);
    g_free(q->o.key_secret);
    g_mutex_clear(&q->lock);
    g_mutex_clear(&q->unpacked_lock);
    g_cond_clear(&q->cond);
    q->n = NULL;
}

bool qcow2_reload(struct qcow2 *q, GError **error)
{
    tables_free(q);
    qcow2_snapshots_free(q);
    qcow2_extensions_free(q);
    q->unpacked_entry = 0;
    q->failed = 0;
    if (load(q, q->n->flags, error))
        return true;
    /* Nothing of it can be reached any more: every request is out of bounds. */
    tables_free(q);
    q->failed = EIO;
    q->h.l1_size = q->h.nb_snapshots = 0;
    q->h.size = 0;
    __atomic_store_n(&q->n->size, 0, __ATOMIC_RELAXED);
    return false;
}

static bool qcow2_reopen(struct block_node *n, unsigned flags, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    bool read_only = !(flags & BLOCK_RDWR) || flags & BLOCK_INACTIVE;
    if (read_only && !q->read_only) {
        int err = end_writing(q);
        if (err)
            return vireo_fail_errno(error, err, "cannot finish writing '%s'", n->filename);
        q->read_only = true;
    } else if (q->read_only && (!read_only || (n->flags & BLOCK_INACTIVE && !(flags & BLOCK_INACTIVE)))) {
        /* What was written by somebody else, or not needed for reading, comes from the disk again. */
        unsigned old = n->flags;
        q->read_only = read_only;
        n->flags = flags;
        qcow2_bitmaps_free(q);
        if (!qcow2_reload(q, error) || (!read_only && !begin_writing(q, flags, error)) || (!(flags & BLOCK_CHECK) && !qcow2_bitmaps_open(q, error))) {
            q->read_only = true;
            n->flags = old;
            return false;
        }
    }
    return true;
}

/* ---- what it says ---- */

uint64_t qcow2_vm_state_offset(const struct qcow2 *q)
{
    uint64_t table = UINT64_C(1) << (q->l2_bits + q->cluster_bits);
    return (q->h.size + table - 1) & ~(table - 1);
}

static int get_info(struct block_node *n, struct block_info *ret)
{
    const struct qcow2 *q = qcow2_of(n);
    *ret = (struct block_info){.cluster_size = (uint32_t) q->cluster_size, .dirty = q->h.incompatible & QCOW2_INCOMPAT_DIRTY, .corrupt = q->corrupt,
                               .encrypted = q->h.crypt_method, .compressed_possible = !q->external && !q->h.crypt_method,
                               .vm_state_offset = qcow2_vm_state_offset(q)};
    return 0;
}

static struct json_object *specific_info(struct block_node *n)
{
    const struct qcow2 *q = qcow2_of(n);
    const struct qcow2_header *h = &q->h;
    struct json_object *d = json_make("compat", json_object_new_string(h->version < 3 ? "0.10" : "1.1"), "compression-type",
                                      json_object_new_string(h->compression_type ? "zstd" : "zlib"), NULL);
    /* In the order in which people are used to reading it. */
    if (h->version >= 3)
        json_object_object_add(d, "lazy-refcounts", json_object_new_boolean(h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS));
    qcow2_bitmaps_info(q, d);
    json_object_object_add(d, "refcount-bits", json_object_new_int((int) q->refcount_bits));
    if (q->external) {
        if (q->data_file_name)
            json_object_object_add(d, "data-file", json_object_new_string(q->data_file_name));
        json_object_object_add(d, "data-file-raw", json_object_new_boolean(q->raw_external));
    }
    if (h->crypt_method)
        json_object_object_add(d, "encrypt", qcow2_crypt_info(q));
    if (h->version >= 3) {
        json_object_object_add(d, "corrupt", json_object_new_boolean(q->corrupt));
        json_object_object_add(d, "extended-l2", json_object_new_boolean(q->extended));
    }
    return json_make("type", json_object_new_string("qcow2"), "data", d, NULL);
}

static int flush(struct block_node *n)
{
    return qcow2_flush(qcow2_of(n));
}

static bool change_backing_file(struct block_node *n, const char *file, const char *format, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    if (q->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "'%s' is read-only", n->filename);
    if (file && strlen(file) > 1023)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Backing file name too long");
    if (file && q->raw_external)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Cannot set a backing file: the image has a raw external data file");
    char *old_file = n->backing_file, *old_format = q->backing_format;
    n->backing_file = g_strdup(file && *file ? file : NULL);
    q->backing_format = g_strdup(n->backing_file ? format : NULL);
    int err = qcow2_flush_all(q);
    if (!err)
        err = qcow2_header_write(q);
    if (!err)
        err = block_flush(qcow2_file(q));
    if (err) {
        g_free(n->backing_file);
        g_free(q->backing_format);
        n->backing_file = old_file;
        q->backing_format = old_format;
        return vireo_fail_errno(error, err, "cannot write the header of '%s'%s", n->filename, err == ENOSPC ? " (the names do not fit its cluster)" : "");
    }
    g_free(old_file);
    g_free(old_format);
    g_free(n->backing_format);
    n->backing_format = g_strdup(q->backing_format);
    return true;
}

/* What the header says of the size stays; clusters become free once nothing on the disk points to them any more. */
static bool make_empty(struct block_node *n, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    if (q->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "'%s' is read-only", n->filename);
    if (q->raw_external)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "an image with a raw external data file cannot be emptied");
    int err = n->size ? qcow2_unmap_clusters(q, 0, qcow2_clusters(q, n->size) << q->cluster_bits, QCOW2_DISCARD_REQUEST, true) : 0;
    if (!err)
        err = qcow2_flush_all(q);
    return !err || vireo_fail_errno(error, err, "cannot write the metadata of '%s'", n->filename);
}

const struct block_driver qcow2_driver = {
    .name = "qcow2",
    .help = "images that grow, with backing files, snapshots and compression (versions 2 and 3)",
    .kind = BLOCK_FORMAT,
    .state_size = sizeof(struct qcow2),
    .supports_backing = true,
    .supports_data_file = true,
    .keys = keys,
    .probe = probe,
    .open = qcow2_open,
    .close = qcow2_close,
    .reopen = qcow2_reopen,
    .preadv = qcow2_preadv,
    .pwritev = qcow2_pwritev,
    .write_zeroes = qcow2_write_zeroes,
    .discard = qcow2_discard,
    .flush = flush,
    .status = qcow2_status,
    .map_now = qcow2_map_now,
    .unmap = qcow2_unmap,
    .truncate = qcow2_truncate,
    .get_info = get_info,
    .specific_info = specific_info,
    .change_backing_file = change_backing_file,
    .check = qcow2_check,
    .snapshot_list = qcow2_snapshot_list,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_delete = qcow2_snapshot_delete,
    .snapshot_load = qcow2_snapshot_load,
    .vmstate_read = qcow2_vmstate_read,
    .vmstate_write = qcow2_vmstate_write,
    .make_empty = make_empty,
    .amend_keys = qcow2_amend_keys,
    .amend = qcow2_amend,
    .measure = qcow2_measure,
    .bitmaps = &qcow2_bitmap_driver,
    .create_keys = qcow2_create_keys,
    .create = qcow2_create,
};
