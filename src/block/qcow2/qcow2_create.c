/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * New images. Header, refcount table, refcount blocks and an empty L1 table lie one after the other; space taken in advance comes
 * through the driver, once the image is open.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

static const char *const compat_values[] = {"1.1", "v3", "0.10", "v2", NULL};
static const char *const prealloc_values[] = {"off", "metadata", "falloc", "full", NULL};
static const char *const compression_values[] = {"zlib", "zstd", NULL};
static const char *const encrypt_values[] = {"", "aes", "luks", NULL};

struct options {
    uint64_t cluster_size, refcount_bits, iter_time;
    int compat, preallocation, compression, encrypt;
    bool lazy, extended, data_file_raw, nocow, encryption;
    uint64_t extent_size_hint;
    char *data_file, *crypt[6];
};
#define O(member) offsetof(struct options, member)
const struct keyval_key qcow2_create_keys[] = {
    {"cluster_size", KV_SIZE, O(cluster_size), "qcow2 cluster size"},
    {"compat", KV_ENUM, O(compat), "Compatibility level (v2 [0.10] or v3 [1.1])", compat_values},
    {"compression_type", KV_ENUM, O(compression), "Compression method used for image cluster compression", compression_values},
    {"data_file", KV_STRING, O(data_file), "File name of an external data file"},
    {"data_file_raw", KV_BOOL, O(data_file_raw), "The external data file must stay valid as a raw image"},
    {"encrypt.cipher-alg", KV_STRING, O(crypt[1]), "Name of encryption cipher algorithm"},
    {"encrypt.cipher-mode", KV_STRING, O(crypt[2]), "Name of encryption cipher mode"},
    {"encrypt.format", KV_ENUM, O(encrypt), "Encrypt the image, format choices: 'aes', 'luks'", encrypt_values},
    {"encrypt.hash-alg", KV_STRING, O(crypt[3]), "Name of encryption hash algorithm"},
    {"encrypt.iter-time", KV_UINT, O(iter_time), "Time to spend in PBKDF in milliseconds"},
    {"encrypt.ivgen-alg", KV_STRING, O(crypt[4]), "Name of IV generator algorithm"},
    {"encrypt.ivgen-hash-alg", KV_STRING, O(crypt[5]), "Name of IV generator hash algorithm"},
    {"encrypt.key-secret", KV_STRING, O(crypt[0]), "ID of secret providing qcow AES key or LUKS passphrase"},
    {"encryption", KV_BOOL, O(encryption), "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"},
    {"extended_l2", KV_BOOL, O(extended), "Extended L2 tables"},
    {"lazy_refcounts", KV_BOOL, O(lazy), "Postpone refcount updates"},
    {"preallocation", KV_ENUM, O(preallocation), "Preallocation mode (allowed values: off, metadata, falloc, full)", prealloc_values},
    {"refcount_bits", KV_UINT, O(refcount_bits), "Width of a reference count entry in bits"},
    {NULL}
};

static bool take_options(struct block_create *c, struct options *o, GError **error)
{
    keyval_auto *mine = keyval_new();
    for (const struct keyval_key *k = qcow2_create_keys; k->name; k++) {
        g_autofree char *value = keyval_take(c->options, k->name);
        if (value)
            keyval_add(mine, k->name, value);
    }
    return keyval_load(mine, qcow2_create_keys, o, error);
}

static bool check_options(const struct block_create *c, struct options *o, GError **error)
{
    bool v3 = o->compat < 2;
    if (!o->cluster_size)
        o->cluster_size = 65536;
    if (o->cluster_size & (o->cluster_size - 1) || o->cluster_size < 512 || o->cluster_size > 2 << 20)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Cluster size must be a power of two between 512 and 2048k");
    if (!o->refcount_bits)
        o->refcount_bits = 16;
    if (o->refcount_bits > 64 || o->refcount_bits & (o->refcount_bits - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Refcount width must be a power of two and may not exceed 64 bits");
    if (!v3 && o->refcount_bits != 16)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)");
    if (!v3 && o->lazy)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)");
    if (!v3 && o->compression)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)");
    if (!v3 && o->extended)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)");
    if (o->extended && o->cluster_size < 16384)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
    if (!v3 && o->data_file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)");
    if (o->data_file_raw && !o->data_file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "data-file-raw requires data-file");
    if (o->data_file_raw && c->backing_file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Backing file and data-file-raw cannot be used at the same time");
    if (o->data_file_raw && !o->preallocation) /* the data file has to say all by itself */
        o->preallocation = QCOW2_PREALLOC_METADATA;
    if (c->backing_file && o->preallocation && !o->extended)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Backing file and preallocation can only be used at the same time if extended_l2 is enabled");
    if (c->backing_file && strlen(c->backing_file) > 1023)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Backing file name too long");
    if (c->size & 511)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Image size must be a multiple of 512");
    if (o->encryption && o->encrypt == 0)
        o->encrypt = 1;
    if (o->encrypt == 1)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "AES-encrypted qcow2 images are not secure and are not made here; use encrypt.format=luks");
    if (o->encrypt && o->data_file)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "an encrypted image with an external data file is not supported");
    return true;
}

struct layout { /* in clusters */
    uint64_t rt, blocks, l1, total;
    uint64_t l1_entries;
};
static bool plan(const struct qcow2 *q, uint64_t size, struct layout *y, GError **error)
{
    uint64_t table = UINT64_C(1) << (q->l2_bits + q->cluster_bits);
    y->l1_entries = size / table + (size % table != 0);
    if (y->l1_entries > QCOW2_MAX_L1_BYTES / 8)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Image size too large for clusters of %" G_GUINT64_FORMAT " bytes: use larger ones (cluster_size=)", q->cluster_size);
    y->l1 = MAX(qcow2_clusters(q, y->l1_entries * 8), 1);
    y->rt = y->blocks = 1;
    for (;;) {
        y->total = 1 + y->rt + y->blocks + y->l1;
        uint64_t blocks = (y->total + (UINT64_C(1) << q->rb_bits) - 1) >> q->rb_bits, rt = qcow2_clusters(q, blocks * 8);
        if (blocks == y->blocks && rt == y->rt)
            return true;
        y->blocks = blocks;
        y->rt = rt;
    }
}

/* Everything but the header. */
static int write_tables(struct qcow2 *q, const struct layout *y, bool file_was_empty)
{
    uint64_t base = 1 + y->rt, bytes = (y->rt + y->blocks) << q->cluster_bits;
    g_autofree uint8_t *buffer = g_malloc0(bytes);
    uint64_t *rt = (uint64_t *) (void *) buffer;
    for (uint64_t i = 0; i < y->blocks; i++)
        rt[i] = GUINT64_TO_BE((base + i) << q->cluster_bits);
    uint8_t *counts = buffer + (y->rt << q->cluster_bits);
    for (uint64_t i = 0; i < y->total; i++) {
        if (q->refcount_bits >= 8)
            counts[(i + 1) * (q->refcount_bits / 8) - 1] = 1; /* big-endian */
        else
            counts[i * q->refcount_bits / 8] |= (uint8_t) (1u << (i * q->refcount_bits & 7));
    }
    int err = qcow2_file_write(q, q->cluster_size, bytes, buffer);
    uint64_t l1 = (base + y->blocks) << q->cluster_bits, l1_bytes = y->l1 << q->cluster_bits;
    static const uint8_t zero[512];
    if (!err && !file_was_empty)
        return block_write_zeroes(qcow2_file(q), l1, l1_bytes, 0);
    return err ? err : qcow2_file_write(q, l1 + l1_bytes - sizeof(zero), sizeof(zero), zero);
}

static bool empty_file(struct block_node *file, GError **error)
{
    if (!block_node_size(file))
        return true;
    block_quiesce(file->graph);
    bool ok = block_truncate(file, 0, false, "off", error);
    block_resume(file->graph);
    return ok;
}

static bool encrypt_image(struct qcow2 *q, const struct options *o, GError **error)
{
    static const char *const names[] = {"key-secret", "cipher-alg", "cipher-mode", "hash-alg", "ivgen-alg", "ivgen-hash-alg"};
    keyval_auto *kv = keyval_new();
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (o->crypt[i])
            keyval_add(kv, names[i], o->crypt[i]);
    if (o->iter_time) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, o->iter_time);
        keyval_add(kv, "iter-time", text);
    }
    return qcow2_crypt_create(q, kv, error);
}

/* The image is there: what needs it open. */
static bool fill_image(struct block_node *file, const struct block_create *c, const struct options *o, GError **error)
{
    if (!o->preallocation && !o->data_file && !o->encrypt)
        return true;
    keyval_auto *kv = keyval_new();
    keyval_add(kv, "driver", "qcow2");
    keyval_add(kv, "file", file->name);
    block_node_auto *n = block_open_options(file->graph, kv, BLOCK_RDWR | BLOCK_NO_BACKING, error);
    if (!n)
        return false;
    struct qcow2 *q = qcow2_of(n);
    if (q->external) {
        block_quiesce(file->graph);
        bool ok = block_truncate(qcow2_data(q), c->size, false, o->preallocation >= QCOW2_PREALLOC_FALLOC ? prealloc_values[o->preallocation] : "off", error);
        block_resume(file->graph);
        if (!ok)
            return false;
    }
    if (o->encrypt && !encrypt_image(q, o, error))
        return false;
    int err = o->preallocation ? qcow2_preallocate(q, 0, c->size, q->external ? QCOW2_PREALLOC_METADATA : (enum qcow2_prealloc) o->preallocation) : 0;
    if (!err)
        err = qcow2_flush_all(q);
    return !err || vireo_fail_errno(error, err, "Could not preallocate '%s'", file->filename);
}

static bool make(struct block_node *file, struct block_create *c, struct options *o, GError **error)
{
    struct block_node self = {.child[BLOCK_ROLE_FILE] = file, .backing_file = (char *) c->backing_file};
    struct qcow2 q = {.n = &self, .backing_format = (char *) c->backing_format, .data_file_name = o->data_file};
    struct qcow2_header *h = &q.h;
    h->version = o->compat < 2 ? 3 : 2;
    h->cluster_bits = (uint32_t) g_bit_nth_lsf(o->cluster_size, -1);
    h->size = c->size;
    h->refcount_order = (uint32_t) g_bit_nth_lsf(o->refcount_bits, -1);
    h->header_length = h->version < 3 ? QCOW2_HEADER_V2 : QCOW2_HEADER_COMPRESSION;
    h->compression_type = (uint8_t) o->compression;
    h->incompatible = (o->compression ? QCOW2_INCOMPAT_COMPRESSION : 0) | (o->extended ? QCOW2_INCOMPAT_EXTENDED_L2 : 0) | (o->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0);
    h->compatible = o->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
    h->autoclear = o->data_file_raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0;
    qcow2_geometry(&q);
    struct layout y = {0};
    if (!plan(&q, c->size, &y, error))
        return false;
    h->refcount_table_offset = q.cluster_size;
    h->refcount_table_clusters = (uint32_t) y.rt;
    h->l1_table_offset = (1 + y.rt + y.blocks) << q.cluster_bits;
    h->l1_size = (uint32_t) y.l1_entries;
    if (!empty_file(file, error))
        return false;
    int err = write_tables(&q, &y, block_node_size(file) == 0);
    if (!err)
        err = qcow2_header_write(&q);
    if (err == ENOSPC && o->cluster_size < 4096)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the names of the backing file and the data file do not fit a cluster of %" G_GUINT64_FORMAT " bytes (or there is no space left)",
                          o->cluster_size);
    return !err || vireo_fail_errno(error, err, "Could not write qcow2 header of '%s'", file->filename);
}

static bool create_data_file(struct block_node *file, const struct options *o, GError **error)
{
    const struct block_driver *d = block_driver_find("file");
    keyval_auto *none = keyval_new();
    struct block_create c = {.options = none};
    bool made;
    return !o->data_file || d->create_file(file->graph, o->data_file, &c, &made, error);
}

bool qcow2_create(struct block_node *file, struct block_create *c, GError **error)
{
    struct options o = {0};
    bool ok = take_options(c, &o, error) && check_options(c, &o, error) && create_data_file(file, &o, error) && make(file, c, &o, error) && fill_image(file, c, &o, error);
    g_free(o.data_file);
    for (size_t i = 0; i < G_N_ELEMENTS(o.crypt); i++)
        g_free(o.crypt[i]);
    return ok;
}
