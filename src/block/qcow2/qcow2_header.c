/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header and its extensions ("Header", "Header extensions", "Feature name table"). */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

static uint32_t be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return GUINT32_FROM_BE(v);
}
static uint64_t be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return GUINT64_FROM_BE(v);
}
static void put32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(p, &v, 4);
}
static void put64(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    memcpy(p, &v, 8);
}

static const struct {
    uint8_t type, bit;
    const char *name;
} feature_names[] = {
    {0, 0, "dirty bit"},
    {0, 1, "corrupt bit"},
    {0, 2, "external data file"},
    {0, 3, "compression type"},
    {0, 4, "extended L2 entries"},
    {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},
    {2, 1, "raw external data"},
};
enum { FEATURE_NAME_BYTES = 46, FEATURE_ENTRY_BYTES = 48 };

/* Calls fn for each extension that lies wholly within the n bytes; false: the area is damaged. */
static bool each_extension(const uint8_t *head, size_t n, size_t start, bool (*fn)(void *opaque, uint32_t type, const uint8_t *data, uint32_t length),
                           void *opaque, GError **error)
{
    for (size_t at = start; at + 8 <= n;) {
        uint32_t type = be32(head + at), length = be32(head + at + 4);
        if (type == QCOW2_EXT_END)
            return true;
        at += 8;
        if (length > n - at)
            return vireo_fail(error, VIREO_ERROR_INVALID, "qcow2 header extension 0x%08x of %u bytes reaches beyond the header's area", type, length);
        if (!fn(opaque, type, head + at, length))
            return false;
        at += ((size_t) length + 7) & ~(size_t) 7;
    }
    return true;
}

struct names {
    uint64_t unknown;
    GString *text;
};
static bool collect_names(void *opaque, uint32_t type, const uint8_t *data, uint32_t length)
{
    struct names *names = opaque;
    if (type != QCOW2_EXT_FEATURE_NAMES)
        return true;
    for (; length >= FEATURE_ENTRY_BYTES; data += FEATURE_ENTRY_BYTES, length -= FEATURE_ENTRY_BYTES) {
        if (data[0] || data[1] > 63 || !(names->unknown >> data[1] & 1))
            continue;
        names->unknown &= ~(UINT64_C(1) << data[1]);
        g_autofree char *name = g_strndup((const char *) data + 2, FEATURE_NAME_BYTES);
        g_autofree char *printable = g_strescape(name, NULL);
        g_string_append_printf(names->text, "%s%s", names->text->len ? ", " : "", printable);
    }
    return true;
}
static bool refuse_features(const uint8_t *head, size_t n, const struct qcow2_header *h, GError **error)
{
    struct names names = {h->incompatible & ~QCOW2_INCOMPAT_KNOWN, g_string_new(NULL)};
    size_t area = MIN(n, (size_t) 1 << h->cluster_bits);
    each_extension(head, area, h->header_length, collect_names, &names, NULL);
    if (names.unknown)
        g_string_append_printf(names.text, "%sbits 0x%" G_GINT64_MODIFIER "x", names.text->len ? ", " : "", names.unknown);
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the image uses qcow2 features that are not known here: %s", names.text->str);
    g_string_free(names.text, TRUE);
    return false;
}

static bool parse_v3(const uint8_t *head, size_t n, struct qcow2_header *h, GError **error)
{
    if (n < QCOW2_HEADER_V3)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the qcow2 header is cut off after %zu bytes", n);
    h->incompatible = be64(head + 72);
    h->compatible = be64(head + 80);
    h->autoclear = be64(head + 88);
    h->refcount_order = be32(head + 96);
    h->header_length = be32(head + 100);
    if (h->header_length < QCOW2_HEADER_V3 || h->header_length > UINT32_C(1) << h->cluster_bits || h->header_length > n)
        return vireo_fail(error, VIREO_ERROR_INVALID, "qcow2 header length %u is out of range", h->header_length);
    h->compression_type = h->header_length > QCOW2_HEADER_V3 ? head[QCOW2_HEADER_V3] : 0;
    if (h->incompatible & ~QCOW2_INCOMPAT_KNOWN)
        return refuse_features(head, n, h, error);
    if (h->refcount_order > 6)
        return vireo_fail(error, VIREO_ERROR_INVALID, "refcount order %u is out of range: at most 6 (64 bits)", h->refcount_order);
    if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "compression type %u is not known: zlib (0) and zstd (1) are", h->compression_type);
    if (!(h->incompatible & QCOW2_INCOMPAT_COMPRESSION) != !h->compression_type)
        return vireo_fail(error, VIREO_ERROR_INVALID, "compression type %u does not go with the compression feature bit", h->compression_type);
    if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 && h->cluster_bits < 14)
        return vireo_fail(error, VIREO_ERROR_INVALID, "extended L2 entries need clusters of at least 16 KiB");
    if (h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW && !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
        h->autoclear &= ~QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    return true;
}

bool qcow2_header_parse(const uint8_t *head, size_t n, struct qcow2_header *h, GError **error)
{
    *h = (struct qcow2_header){0};
    if (n < QCOW2_HEADER_V2 || be32(head) != QCOW2_MAGIC)
        return vireo_fail(error, VIREO_ERROR_INVALID, "image is not in qcow2 format");
    h->version = be32(head + 4);
    if (h->version < 2 || h->version > 3)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "qcow2 version %u is not supported: 2 and 3 are", h->version);
    h->backing_file_offset = be64(head + 8);
    h->backing_file_size = be32(head + 16);
    h->cluster_bits = be32(head + 20);
    h->size = be64(head + 24);
    h->crypt_method = be32(head + 32);
    h->l1_size = be32(head + 36);
    h->l1_table_offset = be64(head + 40);
    h->refcount_table_offset = be64(head + 48);
    h->refcount_table_clusters = be32(head + 56);
    h->nb_snapshots = be32(head + 60);
    h->snapshots_offset = be64(head + 64);
    h->refcount_order = 4;
    h->header_length = QCOW2_HEADER_V2;
    if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "unsupported cluster size: 2^%u", h->cluster_bits);
    if (h->version == 3 && !parse_v3(head, n, h, error))
        return false;
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    if (h->crypt_method > QCOW2_CRYPT_LUKS)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "encryption method %u is not known", h->crypt_method);
    if (h->backing_file_offset > cluster || (h->backing_file_offset && (h->backing_file_size > 1023 || h->backing_file_offset + h->backing_file_size > cluster)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "the name of the backing file lies outside the header's cluster");
    if (h->l1_size > QCOW2_MAX_L1_BYTES / 8)
        return vireo_fail(error, VIREO_ERROR_INVALID, "active L1 table is too large: %u entries", h->l1_size);
    if (h->l1_table_offset & (cluster - 1) || h->l1_table_offset > INT64_MAX - QCOW2_MAX_L1_BYTES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "active L1 table has an invalid offset 0x%" G_GINT64_MODIFIER "x", h->l1_table_offset);
    if (!h->refcount_table_clusters)
        return vireo_fail(error, VIREO_ERROR_INVALID, "image does not contain a reference count table");
    if (h->refcount_table_clusters > (uint32_t) QCOW2_MAX_RT_BYTES >> h->cluster_bits)
        return vireo_fail(error, VIREO_ERROR_INVALID, "reference count table is too large: %u clusters", h->refcount_table_clusters);
    if (h->refcount_table_offset & (cluster - 1) || h->refcount_table_offset > INT64_MAX - QCOW2_MAX_RT_BYTES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "reference count table has an invalid offset 0x%" G_GINT64_MODIFIER "x", h->refcount_table_offset);
    if (h->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
        return vireo_fail(error, VIREO_ERROR_INVALID, "snapshot table is too large: %u snapshots", h->nb_snapshots);
    if (h->nb_snapshots && (h->snapshots_offset & (cluster - 1) || h->snapshots_offset > INT64_MAX - QCOW2_MAX_SNAPSHOT_TABLE))
        return vireo_fail(error, VIREO_ERROR_INVALID, "snapshot table has an invalid offset 0x%" G_GINT64_MODIFIER "x", h->snapshots_offset);
    return true;
}

struct loading {
    struct qcow2 *q;
    GError *error;
};
static bool load_extension(void *opaque, uint32_t type, const uint8_t *data, uint32_t length)
{
    struct loading *l = opaque;
    struct qcow2 *q = l->q;
    switch (type) {
    case QCOW2_EXT_BACKING_FORMAT:
        if (length >= 16)
            return vireo_fail(&l->error, VIREO_ERROR_INVALID, "the backing format's name is too long: %u bytes", length);
        g_free(q->backing_format);
        q->backing_format = g_strndup((const char *) data, length);
        return true;
    case QCOW2_EXT_DATA_FILE:
        if (length > 1023)
            return vireo_fail(&l->error, VIREO_ERROR_INVALID, "the data file's name is too long: %u bytes", length);
        g_free(q->data_file_name);
        q->data_file_name = g_strndup((const char *) data, length);
        return true;
    case QCOW2_EXT_CRYPTO:
        if (length != 16)
            return vireo_fail(&l->error, VIREO_ERROR_INVALID, "the encryption header extension has %u bytes instead of 16", length);
        q->crypto_offset = be64(data);
        q->crypto_length = be64(data + 8);
        return (!(q->crypto_offset & (q->cluster_size - 1)) && q->crypto_length <= 1 << 30) ||
               vireo_fail(&l->error, VIREO_ERROR_INVALID, "the encryption header lies at an invalid offset");
    case QCOW2_EXT_BITMAPS:
        if (length != 24)
            return vireo_fail(&l->error, VIREO_ERROR_INVALID, "the bitmaps extension has %u bytes instead of 24", length);
        q->nb_bitmaps = be32(data);
        q->bitmap_directory_size = be64(data + 8);
        q->bitmap_directory_offset = be64(data + 16);
        return true;
    case QCOW2_EXT_FEATURE_NAMES:
        return true;
    }
    struct qcow2_extension e = {type, length, g_memdup2(data, length)};
    g_array_append_val(q->extensions, e);
    return true;
}

bool qcow2_extensions_parse(struct qcow2 *q, const uint8_t *head, size_t n, char **ret_backing, GError **error)
{
    const struct qcow2_header *h = &q->h;
    if (n > q->cluster_size)
        n = q->cluster_size;
    struct loading l = {q, NULL};
    size_t end = h->backing_file_offset > h->header_length ? MIN(n, h->backing_file_offset) : n;
    if (!q->extensions)
        q->extensions = g_array_new(FALSE, FALSE, sizeof(struct qcow2_extension));
    if (!each_extension(head, end, h->header_length, load_extension, &l, &l.error)) {
        g_propagate_error(error, l.error);
        return false;
    }
    g_free(q->header_rest);
    q->header_rest = h->header_length > QCOW2_HEADER_COMPRESSION
                         ? g_memdup2(head + QCOW2_HEADER_COMPRESSION, h->header_length - QCOW2_HEADER_COMPRESSION) : NULL;
    *ret_backing = NULL;
    if (h->backing_file_offset && h->backing_file_size && h->backing_file_offset + h->backing_file_size <= n)
        *ret_backing = g_strndup((const char *) head + h->backing_file_offset, h->backing_file_size);
    return true;
}

void qcow2_extensions_free(struct qcow2 *q)
{
    for (guint i = 0; q->extensions && i < q->extensions->len; i++)
        g_free(g_array_index(q->extensions, struct qcow2_extension, i).data);
    if (q->extensions)
        g_array_free(q->extensions, TRUE);
    q->extensions = NULL;
    g_clear_pointer(&q->backing_format, g_free);
    g_clear_pointer(&q->data_file_name, g_free);
    g_clear_pointer(&q->header_rest, g_free);
    q->crypto_offset = q->crypto_length = q->bitmap_directory_offset = q->bitmap_directory_size = 0;
    q->nb_bitmaps = 0;
}

struct writer {
    uint8_t *head;
    size_t at, size;
    bool full;
};
static uint8_t *extension(struct writer *w, uint32_t type, size_t length)
{
    size_t padded = (length + 7) & ~(size_t) 7;
    if (w->full || w->size - w->at < 8 + padded) {
        w->full = true;
        return NULL;
    }
    uint8_t *p = w->head + w->at;
    put32(p, type);
    put32(p + 4, (uint32_t) length);
    w->at += 8 + padded;
    return p + 8;
}
static void string_extension(struct writer *w, uint32_t type, const char *s)
{
    uint8_t *p = s ? extension(w, type, strlen(s)) : NULL;
    if (p)
        memcpy(p, s, strlen(s));
}
static void write_extensions(struct qcow2 *q, struct writer *w)
{
    uint8_t *p;
    string_extension(w, QCOW2_EXT_BACKING_FORMAT, q->n->backing_file || q->backing_format ? q->backing_format : NULL);
    if (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE)
        string_extension(w, QCOW2_EXT_DATA_FILE, q->data_file_name);
    if (q->crypto_offset && (p = extension(w, QCOW2_EXT_CRYPTO, 16))) {
        put64(p, q->crypto_offset);
        put64(p + 8, q->crypto_length);
    }
    /* A help to programs that know less; left out where the header's cluster is too small for it. */
    if (q->h.version >= 3 && q->cluster_size >= 4096 && (p = extension(w, QCOW2_EXT_FEATURE_NAMES, sizeof(feature_names) / sizeof(feature_names[0]) * FEATURE_ENTRY_BYTES)))
        for (size_t i = 0; i < sizeof(feature_names) / sizeof(feature_names[0]); i++, p += FEATURE_ENTRY_BYTES) {
            p[0] = feature_names[i].type;
            p[1] = feature_names[i].bit;
            memcpy(p + 2, feature_names[i].name, strlen(feature_names[i].name));
        }
    if (q->nb_bitmaps && (p = extension(w, QCOW2_EXT_BITMAPS, 24))) {
        put32(p, q->nb_bitmaps);
        put64(p + 8, q->bitmap_directory_size);
        put64(p + 16, q->bitmap_directory_offset);
    }
    for (guint i = 0; q->extensions && i < q->extensions->len; i++) {
        const struct qcow2_extension *e = &g_array_index(q->extensions, struct qcow2_extension, i);
        if ((p = extension(w, e->type, e->length)))
            memcpy(p, e->data, e->length);
    }
    extension(w, QCOW2_EXT_END, 0);
}

int qcow2_header_write(struct qcow2 *q)
{
    struct qcow2_header *h = &q->h;
    g_autofree uint8_t *head = g_malloc0(q->cluster_size);
    if (h->version >= 3 && h->header_length < QCOW2_HEADER_COMPRESSION)
        h->header_length = QCOW2_HEADER_COMPRESSION;
    else if (h->version < 3)
        h->header_length = QCOW2_HEADER_V2;
    struct writer w = {head, h->header_length, q->cluster_size, h->header_length > q->cluster_size};
    if (w.full)
        return ENOSPC;
    write_extensions(q, &w);
    size_t name = q->n->backing_file ? strlen(q->n->backing_file) : 0;
    if (w.full || w.size - w.at < name || name > 1023)
        return ENOSPC;
    h->backing_file_offset = name ? w.at : 0;
    h->backing_file_size = (uint32_t) name;
    memcpy(head + w.at, q->n->backing_file ? q->n->backing_file : "", name);
    put32(head, QCOW2_MAGIC);
    put32(head + 4, h->version);
    put64(head + 8, h->backing_file_offset);
    put32(head + 16, h->backing_file_size);
    put32(head + 20, h->cluster_bits);
    put64(head + 24, h->size);
    put32(head + 32, h->crypt_method);
    put32(head + 36, h->l1_size);
    put64(head + 40, h->l1_table_offset);
    put64(head + 48, h->refcount_table_offset);
    put32(head + 56, h->refcount_table_clusters);
    put32(head + 60, h->nb_snapshots);
    put64(head + 64, h->snapshots_offset);
    if (h->version >= 3) {
        put64(head + 72, h->incompatible);
        put64(head + 80, h->compatible);
        put64(head + 88, h->autoclear);
        put32(head + 96, h->refcount_order);
        put32(head + 100, h->header_length);
        head[QCOW2_HEADER_V3] = h->compression_type;
        if (h->header_length > QCOW2_HEADER_COMPRESSION && q->header_rest)
            memcpy(head + QCOW2_HEADER_COMPRESSION, q->header_rest, h->header_length - QCOW2_HEADER_COMPRESSION);
    }
    return qcow2_file_write(q, 0, q->cluster_size, head);
}

int qcow2_header_features(struct qcow2 *q)
{
    if (q->h.version < 3)
        return 0;
    uint8_t bits[24];
    put64(bits, q->h.incompatible);
    put64(bits + 8, q->h.compatible);
    put64(bits + 16, q->h.autoclear);
    int err = qcow2_file_write(q, 72, sizeof(bits), bits);
    return err ? err : block_flush(qcow2_file(q));
}
