/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dirty bitmaps kept in the image ("Bitmaps extension"). A directory names them; each has a table of clusters that hold its bits. At opening they are
 * loaded into the node's bitmaps, and, when the image is writable, marked "in use" in the directory before anything can be written;
 * at closing they are written to new clusters, the new directory says that they are consistent, and the old clusters are freed. A
 * bitmap that is found "in use" was not closed properly: it misses writes, is shown as inconsistent, and can only be removed.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/bigendian.h"
#include "block/bitmap.h"
#include "block/qcow2/qcow2_check.h"

enum { ENTRY_BYTES = 24, MAX_BITMAPS = 65535, MAX_DIRECTORY = 64 << 20, MAX_TABLE = 0x8000000, TYPE_DIRTY = 1,
       MIN_BITS = 9, MAX_BITS = 31 };
#define MAX_PHYSICAL UINT64_C(0x20000000)
enum { IN_USE = 1, AUTO = 2, EXTRA_COMPATIBLE = 4 };
#define TABLE_OFFSET UINT64_C(0x00fffffffffffe00)
#define TABLE_RESERVED UINT64_C(0xff000000000001fe)
#define TABLE_ONES UINT64_C(1)

struct stored { /* an entry of the directory */
    uint64_t table_offset;
    uint32_t table_size, flags, extra_size;
    uint8_t type, bits;
    char *name;
    uint8_t *extra;
};

static void stored_clear(void *p)
{
    struct stored *s = p;
    g_free(s->name);
    g_free(s->extra);
}

static GArray *list_new(void)
{
    GArray *a = g_array_new(FALSE, TRUE, sizeof(struct stored));
    g_array_set_clear_func(a, stored_clear);
    return a;
}

static GArray *list_of(struct qcow2 *q)
{
    if (!q->bitmaps)
        q->bitmaps = list_new();
    return q->bitmaps;
}

void qcow2_bitmaps_free(struct qcow2 *q)
{
    if (q->bitmaps)
        g_array_unref(q->bitmaps);
    q->bitmaps = NULL;
}

static struct stored *find(struct qcow2 *q, const char *name, guint *ret_index)
{
    GArray *a = list_of(q);
    for (guint i = 0; i < a->len; i++)
        if (!strcmp(g_array_index(a, struct stored, i).name, name)) {
            *ret_index = i;
            return &g_array_index(a, struct stored, i);
        }
    return NULL;
}

/* ---- the directory ---- */

static const char *directory_fault(const struct qcow2 *q)
{
    if (q->nb_bitmaps > MAX_BITMAPS)
        return "it has too many entries";
    if (!q->bitmap_directory_size || q->bitmap_directory_size > MAX_DIRECTORY)
        return "its size is out of range";
    if (q->bitmap_directory_offset & (q->cluster_size - 1) || !q->bitmap_directory_offset || q->bitmap_directory_offset > INT64_MAX - MAX_DIRECTORY)
        return "its offset is invalid";
    return NULL;
}

static const char *parse_directory(const struct qcow2 *q, const uint8_t *p, uint64_t n, GArray *to)
{
    for (uint32_t i = 0; i < q->nb_bitmaps; i++) {
        if (n < ENTRY_BYTES)
            return "it is shorter than its entries";
        uint64_t extra = be_get32(p + 20), name = be_get16(p + 18), whole = (ENTRY_BYTES + extra + name + 7) & ~UINT64_C(7);
        if (whole > n || !name || name > BLOCK_BITMAP_MAX_NAME)
            return "an entry's name or extra data are out of range";
        struct stored s = { be_get64(p), be_get32(p + 8), be_get32(p + 12), (uint32_t)extra, p[16], p[17], NULL, NULL };
        if (s.table_offset & (q->cluster_size - 1) || s.table_size > MAX_TABLE || (!s.table_offset && s.table_size))
            return "an entry's table is out of range";
        s.extra = extra ? g_memdup2(p + ENTRY_BYTES, extra) : NULL;
        s.name = g_strndup((const char *)p + ENTRY_BYTES + extra, name);
        g_array_append_val(to, s);
        p += whole;
        n -= whole;
    }
    return n ? "it is longer than its entries" : NULL;
}

/* NULL: read; else what is wrong. */
static const char *read_directory(struct qcow2 *q, GArray *to)
{
    const char *fault = directory_fault(q);
    if (fault)
        return fault;
    g_autofree uint8_t *p = g_malloc(q->bitmap_directory_size);
    int err = qcow2_file_read(q, q->bitmap_directory_offset, q->bitmap_directory_size, p);
    return err ? g_strerror(err) : parse_directory(q, p, q->bitmap_directory_size, to);
}

static GByteArray *make_directory(const GArray *list)
{
    GByteArray *d = g_byte_array_new();
    for (guint i = 0; i < list->len; i++) {
        const struct stored *s = &g_array_index(list, struct stored, i);
        uint8_t head[ENTRY_BYTES] = { 0 }, zero[8] = { 0 };
        be_put(head, s->table_offset, 8);
        be_put(head + 8, s->table_size, 4);
        be_put(head + 12, s->flags, 4);
        head[16] = s->type;
        head[17] = s->bits;
        be_put(head + 18, strlen(s->name), 2);
        be_put(head + 20, s->extra_size, 4);
        g_byte_array_append(d, head, sizeof(head));
        if (s->extra_size)
            g_byte_array_append(d, s->extra, s->extra_size);
        g_byte_array_append(d, (const uint8_t *)s->name, strlen(s->name));
        g_byte_array_append(d, zero, -d->len & 7);
    }
    return d;
}

/* ---- loading ---- */

static int load_bits(struct qcow2 *q, const struct stored *s, struct block_bitmap *b)
{
    uint64_t total = block_bitmap_bytes_total(q->n->size, 1u << s->bits);
    g_autofree uint64_t *table = g_try_new(uint64_t, MAX(s->table_size, 1));
    g_autofree uint8_t *bytes = g_malloc(q->cluster_size);
    int err = table ? qcow2_table_read(q, s->table_offset, s->table_size, table) : ENOMEM;
    for (uint64_t i = 0; i < s->table_size && !err; i++) {
        uint64_t offset = table[i] & TABLE_OFFSET, first = i << q->cluster_bits;
        if (table[i] & TABLE_RESERVED || offset & (q->cluster_size - 1) || (offset && table[i] & TABLE_ONES))
            err = EIO;
        else if (first >= total || !table[i])
            continue;
        else if (!offset)
            memset(bytes, 0xff, q->cluster_size);
        else
            err = qcow2_file_read(q, offset, q->cluster_size, bytes);
        if (!err)
            block_bitmap_write_bytes(b, first, MIN(q->cluster_size, total - first), bytes);
    }
    return err;
}

/* Whether it is of a kind that can be used; others stay in the image as they are. */
static bool usable(const struct stored *s)
{
    return s->type == TYPE_DIRTY && s->bits >= MIN_BITS && s->bits <= MAX_BITS && (!s->extra_size || s->flags & EXTRA_COMPATIBLE) &&
           !(s->flags & ~(IN_USE | AUTO | EXTRA_COMPATIBLE));
}

static bool load(struct qcow2 *q, const struct stored *s, GError **error)
{
    uint64_t physical = (uint64_t)s->table_size << q->cluster_bits;
    if (!usable(s))
        return true;
    if (!(s->flags & IN_USE) && (physical > MAX_PHYSICAL || physical < block_bitmap_bytes_total(q->n->size, 1u << s->bits)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap '%s' in the image does not have the size of the disk", s->name);
    struct block_bitmap *b = block_bitmap_find(q->n, s->name);
    if (b && block_bitmap_busy(b))
        return true;
    block_bitmap_release(b); /* the image was read-only until now: what it says counts */
    b = block_bitmap_create(q->n, s->name, 1u << s->bits, error);
    if (!b)
        return false;
    block_bitmap_set_persistent(b, true);
    block_bitmap_set_enabled(b, s->flags & AUTO);
    block_bitmap_set_read_only(b, q->read_only);
    if (s->flags & IN_USE) {
        block_bitmap_set_inconsistent(b);
        return true;
    }
    int err = load_bits(q, s, b);
    return !err || vireo_fail_errno(error, err, "cannot read bitmap '%s' of the image", s->name);
}

/* The whole directory again where it lies, with other flags. */
static int mark_in_use(struct qcow2 *q)
{
    bool changed = false;
    GArray *list = list_of(q);
    for (guint i = 0; i < list->len; i++) {
        struct stored *s = &g_array_index(list, struct stored, i);
        if (!usable(s) || s->flags & IN_USE)
            continue;
        s->flags |= IN_USE;
        changed = true;
    }
    if (!changed)
        return 0;
    g_autoptr(GByteArray) d = make_directory(list);
    if (d->len != q->bitmap_directory_size)
        return EIO;
    int err = qcow2_file_write(q, q->bitmap_directory_offset, d->len, d->data);
    return err ? err : block_flush(qcow2_file(q));
}

static bool writable(struct qcow2 *q, GError **error)
{
    int err = mark_in_use(q);
    for (struct block_bitmap *b = NULL; (b = block_bitmap_next(q->n, b));)
        if (block_bitmap_persistent(b))
            block_bitmap_set_read_only(b, false);
    return !err || vireo_fail_errno(error, err, "cannot mark the image's bitmaps as in use");
}

bool qcow2_bitmaps_open(struct qcow2 *q, GError **error)
{
    if (!q->nb_bitmaps)
        return true;
    if (!(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
        log_warn("%s: a program that does not know bitmaps has written to this image: its bitmaps are gone",
                 q->n->filename ? q->n->filename : q->n->name);
        q->nb_bitmaps = 0;
        q->bitmap_directory_offset = q->bitmap_directory_size = 0;
        return true;
    }
    if (q->n->flags & BLOCK_CHECK)
        return true; /* looked at by the check */
    const char *fault = read_directory(q, list_of(q));
    if (fault)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the image's directory of bitmaps is damaged: %s", fault);
    if (q->n->flags & BLOCK_NO_IO)
        return true;
    GArray *list = list_of(q);
    for (guint i = 0; i < list->len; i++)
        if (!load(q, &g_array_index(list, struct stored, i), error))
            return false;
    return q->read_only || q->n->flags & BLOCK_INACTIVE || writable(q, error);
}

void qcow2_bitmaps_info(const struct qcow2 *q, struct json_object *data)
{
    const GArray *list = q->bitmaps;
    if (!list || !list->len)
        return;
    struct json_object *a = json_object_new_array();
    for (guint i = 0; i < list->len; i++) {
        const struct stored *s = &g_array_index(list, struct stored, i);
        struct json_object *o = json_object_new_object(), *flags = json_object_new_array();
        if (s->flags & IN_USE)
            json_object_array_add(flags, json_object_new_string("in-use"));
        if (s->flags & AUTO)
            json_object_array_add(flags, json_object_new_string("auto"));
        json_object_object_add(o, "flags", flags);
        json_object_object_add(o, "name", json_object_new_string(s->name));
        json_object_object_add(o, "granularity", json_object_new_int64(INT64_C(1) << (s->bits & 63)));
        json_object_array_add(a, o);
    }
    json_object_object_add(data, "bitmaps", a);
}

/* ---- storing ---- */

static int alloc(struct qcow2 *q, uint64_t clusters, uint64_t *ret)
{
    g_mutex_lock(&q->lock);
    int err = qcow2_alloc(q, clusters, ret);
    if (!err)
        qcow2_meta_mark(q, *ret, clusters << q->cluster_bits, true);
    g_mutex_unlock(&q->lock);
    return err;
}

static void release(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    if (!offset || !bytes)
        return;
    g_mutex_lock(&q->lock);
    qcow2_free(q, offset, bytes, QCOW2_DISCARD_OTHER);
    g_mutex_unlock(&q->lock);
}

/* All that an entry of the directory refers to. */
static void release_stored(struct qcow2 *q, const struct stored *s)
{
    g_autofree uint64_t *table = g_try_new(uint64_t, MAX(s->table_size, 1));
    if (!table || qcow2_table_read(q, s->table_offset, s->table_size, table))
        return; /* leaked */
    for (uint32_t i = 0; i < s->table_size; i++)
        if (!(table[i] & (q->cluster_size - 1) & ~TABLE_ONES))
            release(q, table[i] & TABLE_OFFSET, q->cluster_size);
    release(q, s->table_offset, (uint64_t)s->table_size * 8);
}

static bool all_ones(const uint8_t *p, uint64_t n, uint64_t bits)
{
    for (uint64_t i = 0; i < n && i * 8 < bits; i++)
        if (p[i] != (bits - i * 8 >= 8 ? 0xff : (1u << (bits - i * 8)) - 1))
            return false;
    return true;
}

static int store_bits(struct qcow2 *q, struct block_bitmap *b, struct stored *s)
{
    uint64_t g = block_bitmap_granularity(b), size = block_bitmap_size(b), bits = size / g + (size % g != 0), total = (bits + 7) / 8, at;
    uint64_t entries = qcow2_clusters(q, total), per = q->cluster_size;
    g_autofree uint64_t *table = g_new0(uint64_t, MAX(entries, 1));
    g_autofree uint8_t *bytes = g_malloc(per);
    int err = 0;
    s->table_size = (uint32_t)entries;
    for (uint64_t i = 0; i < entries && !err; i++) {
        uint64_t n = MIN(per, total - i * per);
        memset(bytes, 0, per);
        block_bitmap_read_bytes(b, i * per, n, bytes);
        if (buffer_is_zero(bytes, n))
            continue;
        if (all_ones(bytes, n, bits - i * per * 8)) {
            table[i] = TABLE_ONES;
            continue;
        }
        if (!(err = alloc(q, 1, &at)))
            err = qcow2_file_write(q, at, per, bytes);
        table[i] = at;
    }
    if (!err && entries && !(err = alloc(q, qcow2_clusters(q, entries * 8), &s->table_offset)))
        err = qcow2_table_write(q, s->table_offset, entries, table);
    return err;
}

/* Makes `list` the image's bitmaps. What the old list had and the new one has not is freed. */
static int replace_directory(struct qcow2 *q, GArray *list)
{
    g_autoptr(GByteArray) d = make_directory(list);
    uint64_t old = q->bitmap_directory_offset, old_bytes = q->bitmap_directory_size, at = 0;
    uint32_t old_n = q->nb_bitmaps;
    uint64_t old_clear = q->h.autoclear;
    int err = d->len > MAX_DIRECTORY ? EFBIG : 0;
    if (!err && d->len && !(err = alloc(q, qcow2_clusters(q, d->len), &at)))
        err = qcow2_file_write(q, at, d->len, d->data);
    if (!err)
        err = qcow2_settle(q, false);
    if (err)
        return err;
    q->nb_bitmaps = list->len;
    q->bitmap_directory_offset = at;
    q->bitmap_directory_size = d->len;
    q->h.autoclear = list->len ? q->h.autoclear | QCOW2_AUTOCLEAR_BITMAPS : q->h.autoclear & ~QCOW2_AUTOCLEAR_BITMAPS;
    if ((err = qcow2_header_write(q)) || (err = block_flush(qcow2_file(q)))) {
        q->nb_bitmaps = old_n;
        q->bitmap_directory_offset = old;
        q->bitmap_directory_size = old_bytes;
        q->h.autoclear = old_clear;
        release(q, at, d->len);
        return err;
    }
    GArray *was = list_of(q);
    for (guint i = 0; i < was->len; i++) {
        const struct stored *s = &g_array_index(was, struct stored, i);
        bool kept = false;
        for (guint k = 0; k < list->len && !kept; k++)
            kept = s->table_offset && g_array_index(list, struct stored, k).table_offset == s->table_offset;
        if (!kept)
            release_stored(q, s);
    }
    release(q, old, old_bytes);
    g_array_ref(list);
    qcow2_bitmaps_free(q);
    q->bitmaps = list;
    return 0;
}

static struct stored stored_copy(const struct stored *s)
{
    struct stored c = *s;
    c.name = g_strdup(s->name);
    c.extra = s->extra_size ? g_memdup2(s->extra, s->extra_size) : NULL;
    return c;
}

static bool in_memory(struct qcow2 *q, const struct stored *s)
{
    struct block_bitmap *b = block_bitmap_find(q->n, s->name);
    return b && block_bitmap_persistent(b) && !block_bitmap_inconsistent(b) && !block_bitmap_read_only(b); /* read-only: stored as it is */
}

bool qcow2_bitmaps_store(struct qcow2 *q, GError **error)
{
    g_autoptr(GArray) list = list_new();
    GArray *was = list_of(q);
    bool any = false;
    int err = 0;
    for (guint i = 0; i < was->len; i++) { /* inconsistent ones, and those nobody here understands, stay as they are */
        struct stored s = stored_copy(&g_array_index(was, struct stored, i));
        if (in_memory(q, &s))
            stored_clear(&s);
        else
            g_array_append_val(list, s);
    }
    for (struct block_bitmap *b = NULL; !err && (b = block_bitmap_next(q->n, b));) {
        if (!block_bitmap_persistent(b) || block_bitmap_inconsistent(b) || block_bitmap_read_only(b))
            continue;
        struct stored s = { .flags = block_bitmap_enabled(b) ? AUTO : 0, .type = TYPE_DIRTY, .name = g_strdup(block_bitmap_name(b)),
            .bits = (uint8_t)__builtin_ctz(block_bitmap_granularity(b)) };
        any = true;
        err = store_bits(q, b, &s);
        g_array_append_val(list, s);
    }
    if (!any || q->read_only || q->failed)
        return true;
    if (!err)
        err = replace_directory(q, list);
    if (!err)
        for (struct block_bitmap *b = NULL; (b = block_bitmap_next(q->n, b));)
            if (block_bitmap_persistent(b))
                block_bitmap_set_read_only(b, true); /* what is written from now on would be missing in the image */
    return !err || vireo_fail_errno(error, err, "cannot store the dirty bitmaps of '%s' in the image: they will be inconsistent there",
                                    q->n->filename ? q->n->filename : q->n->name);
}

/* ---- the driver's methods ---- */

static bool method_can_store(struct block_node *n, const char *name, uint32_t granularity, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    guint index;
    if (q->h.version < 3)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Cannot store dirty bitmaps in qcow2 v2 files; amend the image to compat=1.1");
    if (q->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot store bitmap '%s': the image is read-only", name);
    if (find(q, name, &index))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap already exists: %s", name);
    if (strlen(name) > BLOCK_BITMAP_MAX_NAME || granularity < 1u << MIN_BITS || block_bitmap_bytes_total(n->size, granularity) > MAX_PHYSICAL)
        return vireo_fail(error, VIREO_ERROR_INVALID, "bitmap '%s' is too large to be stored in the image: use a larger granularity", name);
    if (list_of(q)->len >= MAX_BITMAPS)
        return vireo_fail(error, VIREO_ERROR_FAILED, "Maximum number of persistent bitmaps is already reached");
    return true;
}

static bool method_remove(struct block_node *n, const char *name, GError **error)
{
    struct qcow2 *q = qcow2_of(n);
    guint index;
    if (!find(q, name, &index))
        return true;
    if (q->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot remove bitmap '%s': the image is read-only", name);
    g_autoptr(GArray) list = list_new();
    GArray *was = list_of(q);
    for (guint i = 0; i < was->len; i++) {
        struct stored s = stored_copy(&g_array_index(was, struct stored, i));
        if (i == index)
            stored_clear(&s);
        else
            g_array_append_val(list, s);
    }
    int err = replace_directory(q, list);
    return !err || vireo_fail_errno(error, err, "cannot remove bitmap '%s' from the image", name);
}

static bool method_store(struct block_node *n, GError **error)
{
    return qcow2_bitmaps_store(qcow2_of(n), error);
}

const struct block_bitmap_driver qcow2_bitmap_driver = { .can_store = method_can_store, .remove = method_remove, .store = method_store };

/* ---- checking ---- */

static bool check_one(struct check *k, const struct stored *s)
{
    struct qcow2 *q = k->q;
    check_use(k, s->table_offset, (uint64_t)s->table_size * 8, 1, "a bitmap's table");
    g_autofree uint64_t *table = g_try_new(uint64_t, MAX(s->table_size, 1));
    if (!table || s->table_size * UINT64_C(8) > k->file_size || qcow2_table_read(q, s->table_offset, s->table_size, table)) {
        check_say(k, "ERROR the table of bitmap '%s' cannot be read", s->name);
        k->c->corruptions++;
        return true;
    }
    for (uint32_t i = 0; i < s->table_size; i++) {
        uint64_t offset = table[i] & TABLE_OFFSET;
        if (table[i] & TABLE_RESERVED || offset & (q->cluster_size - 1) || (offset && table[i] & TABLE_ONES)) {
            check_say(k, "ERROR bitmap '%s' has a damaged table entry %u: %" PRIx64, s->name, i, table[i]);
            k->c->corruptions++;
        } else if (offset) {
            check_use(k, offset, q->cluster_size, 1, "a bitmap's bits");
        }
    }
    return true;
}

bool qcow2_bitmaps_check(struct check *k)
{
    struct qcow2 *q = k->q;
    if (!q->nb_bitmaps || !(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return true;
    check_use(k, q->bitmap_directory_offset, q->bitmap_directory_size, 1, "the directory of bitmaps");
    g_autoptr(GArray) list = list_new();
    const char *fault = read_directory(q, list);
    if (fault) {
        check_say(k, "ERROR the directory of bitmaps is damaged: %s", fault);
        k->c->corruptions++;
        k->lost = true;
        return true;
    }
    for (guint i = 0; i < list->len; i++)
        check_one(k, &g_array_index(list, struct stored, i));
    return true;
}
