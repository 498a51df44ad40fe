/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dirty bitmaps in memory. Bits stand in chunks of 4 KiB that are made when their first bit is set, so that a bitmap of a large,
 * hardly written disk costs little, and finding the next dirty grain skips what was never touched. A chunk, once made, stays
 * until the bitmap goes: whoever reads needs no lock.
 */
#include "block/bitmap.h"

#include <string.h>

#include "base/error.h"
#include "block/driver.h"

enum { CHUNK_BYTES = 4096, CHUNK_WORDS = CHUNK_BYTES / 8, CHUNK_BITS = CHUNK_BYTES * 8 };

struct block_bitmap_bits {
    uint64_t size, nbits; /* bytes covered; grains */
    unsigned shift;       /* log2 of the granularity */
    uint64_t nchunks;
    uint64_t **chunks;    /* atomic; NULL: all zero */
    uint64_t count;       /* atomic: grains dirty */
};

struct block_bitmap {
    struct block_node *node;
    char *name;
    bool enabled, persistent, busy, inconsistent, read_only;
    struct block_bitmap_bits *bits;
    struct block_bitmap *successor; /* frozen: where writes go; not in the list */
};

struct bitmap_list { /* node->bitmaps */
    GMutex lock; /* the array, against those who look from outside; writers marking rely on quiet changes */
    GPtrArray *all;
};

/* ---- bits ---- */

static uint64_t grains(uint64_t size, unsigned shift)
{
    return (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
}

static struct block_bitmap_bits *bits_new(uint64_t size, unsigned shift)
{
    struct block_bitmap_bits *m = g_new0(struct block_bitmap_bits, 1);
    m->size = size;
    m->shift = shift;
    m->nbits = grains(size, shift);
    m->nchunks = m->nbits / CHUNK_BITS + (m->nbits % CHUNK_BITS != 0);
    m->chunks = g_new0(uint64_t *, m->nchunks + 1);
    return m;
}

void block_bitmap_bits_free(struct block_bitmap_bits *m)
{
    if (!m)
        return;
    for (uint64_t i = 0; i < m->nchunks; i++)
        g_free(m->chunks[i]);
    g_free(m->chunks);
    g_free(m);
}

static uint64_t *chunk_get(const struct block_bitmap_bits *m, uint64_t i)
{
    return __atomic_load_n(&m->chunks[i], __ATOMIC_ACQUIRE);
}

static uint64_t *chunk_make(struct block_bitmap_bits *m, uint64_t i)
{
    uint64_t *c = chunk_get(m, i), *none = NULL;
    if (c)
        return c;
    c = g_malloc0(CHUNK_BYTES);
    if (__atomic_compare_exchange_n(&m->chunks[i], &none, c, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return c;
    g_free(c);
    return none;
}

static uint64_t word_mask(uint64_t from, uint64_t to) /* bits from..to-1 of one word, from < to <= 64 */
{
    return (to == 64 ? UINT64_MAX : (UINT64_C(1) << to) - 1) & (UINT64_MAX << from);
}

static void bits_change(struct block_bitmap_bits *m, uint64_t first, uint64_t end, bool set)
{
    while (first < end) {
        uint64_t ci = first / CHUNK_BITS, chunk_end = MIN(end, (ci + 1) * CHUNK_BITS);
        uint64_t *c = set ? chunk_make(m, ci) : chunk_get(m, ci);
        if (!c) {
            first = chunk_end;
            continue;
        }
        while (first < chunk_end) {
            uint64_t word_end = MIN(chunk_end, (first / 64 + 1) * 64);
            uint64_t mask = word_mask(first % 64, word_end - first / 64 * 64), *w = &c[first / 64 % CHUNK_WORDS], old;
            old = __atomic_load_n(w, __ATOMIC_RELAXED);
            if (set && (old & mask) != mask) { /* mostly it is set already: then no cache line is taken */
                old = __atomic_fetch_or(w, mask, __ATOMIC_SEQ_CST);
                __atomic_fetch_add(&m->count, __builtin_popcountll(mask & ~old), __ATOMIC_RELAXED);
            } else if (!set && (old & mask)) {
                old = __atomic_fetch_and(w, ~mask, __ATOMIC_SEQ_CST);
                __atomic_fetch_sub(&m->count, __builtin_popcountll(mask & old), __ATOMIC_RELAXED);
            }
            first = word_end;
        }
    }
}

/* First bit in [first, end) that is `set`, or end. */
static uint64_t bits_find(const struct block_bitmap_bits *m, uint64_t first, uint64_t end, bool set)
{
    while (first < end) {
        uint64_t ci = first / CHUNK_BITS, chunk_end = MIN(end, (ci + 1) * CHUNK_BITS);
        const uint64_t *c = chunk_get(m, ci);
        if (!c) {
            if (!set)
                return first;
            first = chunk_end;
            continue;
        }
        while (first < chunk_end) {
            uint64_t w = __atomic_load_n(&c[first / 64 % CHUNK_WORDS], __ATOMIC_ACQUIRE);
            w = (set ? w : ~w) & (UINT64_MAX << first % 64);
            if (w)
                return MIN(end, first / 64 * 64 + __builtin_ctzll(w));
            first = first / 64 * 64 + 64;
        }
    }
    return end;
}

static struct block_bitmap_bits *bits_copy(const struct block_bitmap_bits *from)
{
    struct block_bitmap_bits *m = bits_new(from->size, from->shift);
    for (uint64_t i = 0; i < m->nchunks; i++) {
        const uint64_t *c = chunk_get(from, i);
        if (!c)
            continue;
        m->chunks[i] = g_malloc(CHUNK_BYTES);
        for (unsigned w = 0; w < CHUNK_WORDS; w++) {
            m->chunks[i][w] = __atomic_load_n(&c[w], __ATOMIC_RELAXED);
            m->count += __builtin_popcountll(m->chunks[i][w]);
        }
    }
    return m;
}

static void bits_merge(struct block_bitmap_bits *to, const struct block_bitmap_bits *from)
{
    uint64_t at = 0;
    while ((at = bits_find(from, at, from->nbits, true)) < from->nbits) {
        uint64_t end = bits_find(from, at, from->nbits, false);
        uint64_t start_byte = at << from->shift, end_byte = MIN(end << from->shift, from->size);
        bits_change(to, start_byte >> to->shift, grains(end_byte, to->shift), true);
        at = end;
    }
}

/* ---- a node's bitmaps ---- */

static struct bitmap_list *list_of(struct block_node *n)
{
    return __atomic_load_n((struct bitmap_list **)&n->bitmaps, __ATOMIC_ACQUIRE);
}

static struct bitmap_list *list_make(struct block_node *n)
{
    struct bitmap_list *l = list_of(n);
    if (l)
        return l;
    l = g_new0(struct bitmap_list, 1);
    g_mutex_init(&l->lock);
    l->all = g_ptr_array_new();
    __atomic_store_n((struct bitmap_list **)&n->bitmaps, l, __ATOMIC_RELEASE);
    return l;
}

uint32_t block_bitmap_default_granularity(struct block_node *n)
{
    struct block_info info = { 0 };
    if (!n->driver || !n->driver->get_info || n->driver->get_info(n, &info) || !info.cluster_size)
        return 65536;
    return CLAMP(info.cluster_size, 4096, 65536);
}

static void bitmap_free(struct block_bitmap *b)
{
    if (!b)
        return;
    bitmap_free(b->successor);
    block_bitmap_bits_free(b->bits);
    g_free(b->name);
    g_free(b);
}

static struct block_bitmap *bitmap_new(struct block_node *n, const char *name, unsigned shift)
{
    struct block_bitmap *b = g_new0(struct block_bitmap, 1);
    b->node = n;
    b->name = g_strdup(name);
    b->enabled = true;
    b->bits = bits_new(__atomic_load_n(&n->size, __ATOMIC_RELAXED), shift);
    return b;
}

struct block_bitmap *block_bitmap_create(struct block_node *n, const char *name, uint32_t granularity, GError **error)
{
    if (!granularity)
        granularity = block_bitmap_default_granularity(n);
    if (granularity < BLOCK_BITMAP_MIN_GRANULARITY || granularity > BLOCK_BITMAP_MAX_GRANULARITY || (granularity & (granularity - 1))) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Granularity must be power of 2, from 512 bytes to 2 GiB");
        return NULL;
    }
    if (name && !*name) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap name cannot be empty");
        return NULL;
    }
    if (name && strlen(name) > BLOCK_BITMAP_MAX_NAME) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap name too long: at most 1023 bytes");
        return NULL;
    }
    if (name && block_bitmap_find(n, name)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap already exists: %s", name);
        return NULL;
    }
    struct block_bitmap *b = bitmap_new(n, name, __builtin_ctz(granularity));
    struct bitmap_list *l = list_make(n);
    g_mutex_lock(&l->lock);
    g_ptr_array_add(l->all, b);
    g_mutex_unlock(&l->lock);
    return b;
}

void block_bitmap_release(struct block_bitmap *b)
{
    if (!b)
        return;
    struct bitmap_list *l = list_of(b->node);
    g_mutex_lock(&l->lock);
    g_ptr_array_remove(l->all, b);
    g_mutex_unlock(&l->lock);
    bitmap_free(b);
}

bool block_bitmap_remove(struct block_bitmap *b, GError **error)
{
    const struct block_bitmap_driver *d = b->node->driver ? b->node->driver->bitmaps : NULL;
    if (b->persistent && d && !d->remove(b->node, b->name, error))
        return false;
    block_bitmap_release(b);
    return true;
}

struct block_bitmap *block_bitmap_find(struct block_node *n, const char *name)
{
    struct block_bitmap *b = NULL;
    while ((b = block_bitmap_next(n, b)))
        if (!strcmp(b->name, name))
            break;
    return b;
}

struct block_bitmap *block_bitmap_next(struct block_node *n, struct block_bitmap *prev)
{
    struct bitmap_list *l = list_of(n);
    struct block_bitmap *found = NULL;
    if (!l)
        return NULL;
    g_mutex_lock(&l->lock);
    guint i = 0;
    if (prev && g_ptr_array_find(l->all, prev, &i))
        i++;
    for (; i < l->all->len && !found; i++) {
        struct block_bitmap *b = g_ptr_array_index(l->all, i);
        if (b->name)
            found = b;
    }
    g_mutex_unlock(&l->lock);
    return found;
}

static struct json_object *bitmap_info(struct block_bitmap *b)
{
    struct json_object *o = json_object_new_object();
    if (b->name)
        json_object_object_add(o, "name", json_object_new_string(b->name));
    json_object_object_add(o, "recording", json_object_new_boolean(block_bitmap_enabled(b)));
    json_object_object_add(o, "persistent", json_object_new_boolean(b->persistent));
    json_object_object_add(o, "busy", json_object_new_boolean(block_bitmap_busy(b)));
    if (b->inconsistent)
        json_object_object_add(o, "inconsistent", json_object_new_boolean(true));
    json_object_object_add(o, "granularity", json_object_new_int64(block_bitmap_granularity(b)));
    json_object_object_add(o, "count", json_object_new_int64((int64_t)block_bitmap_count(b)));
    return o;
}

struct json_object *block_bitmaps_info(struct block_node *n)
{
    struct json_object *array = NULL;
    for (struct block_bitmap *b = NULL; (b = block_bitmap_next(n, b));) {
        if (!array)
            array = json_object_new_array();
        json_object_array_add(array, bitmap_info(b));
    }
    return array;
}

/* ---- properties ---- */

struct block_node *block_bitmap_node(const struct block_bitmap *b)
{
    return b->node;
}

const char *block_bitmap_name(const struct block_bitmap *b)
{
    return b->name;
}

uint32_t block_bitmap_granularity(const struct block_bitmap *b)
{
    return UINT32_C(1) << b->bits->shift;
}

uint64_t block_bitmap_size(const struct block_bitmap *b)
{
    return b->bits->size;
}

uint64_t block_bitmap_count(const struct block_bitmap *b)
{
    const struct block_bitmap_bits *m = b->bits;
    uint64_t bytes = __atomic_load_n(&m->count, __ATOMIC_RELAXED) << m->shift;
    return bytes; /* as QEMU counts: the last grain in full */
}

bool block_bitmap_enabled(const struct block_bitmap *b)
{
    return __atomic_load_n(b->successor ? &b->successor->enabled : &b->enabled, __ATOMIC_ACQUIRE);
}

void block_bitmap_set_enabled(struct block_bitmap *b, bool on)
{
    __atomic_store_n(b->successor ? &b->successor->enabled : &b->enabled, on, __ATOMIC_RELEASE);
}

bool block_bitmap_persistent(const struct block_bitmap *b)
{
    return b->persistent;
}

void block_bitmap_set_persistent(struct block_bitmap *b, bool on)
{
    b->persistent = on;
}

bool block_bitmap_check_persistent(struct block_node *n, const char *name, uint32_t granularity, GError **error)
{
    const struct block_bitmap_driver *d = n->driver->bitmaps;
    if (!d || !d->can_store)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Can't make bitmap '%s' persistent in node '%s': driver '%s' does not support "
                          "persistent bitmaps", name, n->name, n->driver->name);
    if (!granularity)
        granularity = block_bitmap_default_granularity(n);
    return d->can_store(n, name, granularity, error);
}

bool block_bitmap_busy(const struct block_bitmap *b)
{
    return b->busy || b->successor;
}

void block_bitmap_set_busy(struct block_bitmap *b, bool on)
{
    b->busy = on;
}

bool block_bitmap_inconsistent(const struct block_bitmap *b)
{
    return b->inconsistent;
}

void block_bitmap_set_inconsistent(struct block_bitmap *b)
{
    b->inconsistent = true;
    b->enabled = false;
}

bool block_bitmap_read_only(const struct block_bitmap *b)
{
    return b->read_only;
}

void block_bitmap_set_read_only(struct block_bitmap *b, bool on)
{
    b->read_only = on;
}

bool block_bitmap_check(const struct block_bitmap *b, unsigned refuse, GError **error)
{
    const char *name = b->name ? b->name : "(anonymous)";
    if ((refuse & BLOCK_BITMAP_BUSY) && block_bitmap_busy(b))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Bitmap '%s' is currently in use by another operation and cannot be used", name);
    if ((refuse & BLOCK_BITMAP_READ_ONLY) && b->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "Bitmap '%s' is readonly and cannot be modified", name);
    if ((refuse & BLOCK_BITMAP_INCONSISTENT) && b->inconsistent)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap '%s' is inconsistent and cannot be used; remove it with "
                          "block-dirty-bitmap-remove (in an image that no machine uses: bitmap --remove)", name);
    return true;
}

/* ---- bits of a bitmap ---- */

/* Grains that [offset, offset + bytes) touches, within the bitmap. */
static bool touched(const struct block_bitmap_bits *m, uint64_t offset, uint64_t bytes, uint64_t *ret_first, uint64_t *ret_end)
{
    if (!bytes || offset >= m->size)
        return false;
    uint64_t last = bytes > m->size - offset ? m->size - 1 : offset + bytes - 1;
    *ret_first = offset >> m->shift;
    *ret_end = (last >> m->shift) + 1;
    return true;
}

void block_bitmap_set(struct block_bitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t first, end;
    if (touched(b->bits, offset, bytes, &first, &end))
        bits_change(b->bits, first, end, true);
}

void block_bitmap_reset(struct block_bitmap *b, uint64_t offset, uint64_t bytes)
{
    struct block_bitmap_bits *m = b->bits;
    if (!bytes || offset >= m->size)
        return;
    uint64_t end_byte = bytes > m->size - offset ? m->size : offset + bytes;
    uint64_t end = end_byte == m->size ? m->nbits : end_byte >> m->shift;
    bits_change(m, grains(offset, m->shift), end, false);
}

void block_bitmap_clear(struct block_bitmap *b)
{
    bits_change(b->bits, 0, b->bits->nbits, false);
}

void block_bitmap_set_all(struct block_bitmap *b)
{
    bits_change(b->bits, 0, b->bits->nbits, true);
}

bool block_bitmap_get(const struct block_bitmap *b, uint64_t offset)
{
    const struct block_bitmap_bits *m = b->bits;
    if (offset >= m->size)
        return false;
    uint64_t bit = offset >> m->shift;
    return bits_find(m, bit, bit + 1, true) == bit;
}

bool block_bitmap_next_dirty(const struct block_bitmap *b, uint64_t offset, uint64_t end, uint64_t max, uint64_t *ret_offset,
                             uint64_t *ret_bytes)
{
    const struct block_bitmap_bits *m = b->bits;
    end = MIN(end, m->size);
    if (offset >= end || !max)
        return false;
    uint64_t end_bit = ((end - 1) >> m->shift) + 1, bit = bits_find(m, offset >> m->shift, end_bit, true);
    if (bit == end_bit)
        return false;
    uint64_t start = MAX(offset, bit << m->shift), limit = max > end - start ? end : start + max;
    uint64_t stop = bits_find(m, bit + 1, ((limit - 1) >> m->shift) + 1, false);
    *ret_offset = start;
    *ret_bytes = MIN(limit, stop << m->shift) - start;
    return true;
}

uint64_t block_bitmap_next_clean(const struct block_bitmap *b, uint64_t offset, uint64_t end)
{
    const struct block_bitmap_bits *m = b->bits;
    uint64_t top = MIN(end, m->size);
    if (offset >= top)
        return end;
    uint64_t end_bit = ((top - 1) >> m->shift) + 1, bit = bits_find(m, offset >> m->shift, end_bit, false);
    if (bit == end_bit)
        return end;
    return MAX(offset, bit << m->shift);
}

bool block_bitmap_take_dirty(struct block_bitmap *b, uint64_t offset, uint64_t end, uint64_t max, uint64_t *ret_offset, uint64_t *ret_bytes)
{
    uint64_t grain = UINT64_C(1) << b->bits->shift;
    if (!block_bitmap_next_dirty(b, offset & ~(grain - 1), end, MAX(max & ~(grain - 1), grain), ret_offset, ret_bytes))
        return false;
    bits_change(b->bits, *ret_offset >> b->bits->shift, ((*ret_offset + *ret_bytes - 1) >> b->bits->shift) + 1, false);
    return true;
}

bool block_bitmap_merge(struct block_bitmap *to, const struct block_bitmap *from, GError **error)
{
    if (to->bits->size != from->bits->size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bitmaps are of different sizes (destination size is %" G_GUINT64_FORMAT
                          " and source size is %" G_GUINT64_FORMAT ") and can't be merged", to->bits->size, from->bits->size);
    if (to != from)
        bits_merge(to->bits, from->bits);
    return true;
}

struct block_bitmap_bits *block_bitmap_save(const struct block_bitmap *b)
{
    return bits_copy(b->bits);
}

void block_bitmap_restore(struct block_bitmap *b, struct block_bitmap_bits *bits)
{
    block_bitmap_clear(b);
    bits_merge(b->bits, bits);
    block_bitmap_bits_free(bits);
}

uint64_t block_bitmap_bytes_total(uint64_t size, uint32_t granularity)
{
    return (grains(size, __builtin_ctz(granularity)) + 7) / 8;
}

void block_bitmap_read_bytes(const struct block_bitmap *b, uint64_t first, uint64_t n, uint8_t *ret)
{
    const struct block_bitmap_bits *m = b->bits;
    memset(ret, 0, n);
    while (n) {
        uint64_t ci = first / CHUNK_BYTES, now = MIN(n, CHUNK_BYTES - first % CHUNK_BYTES);
        const uint64_t *c = ci < m->nchunks ? chunk_get(m, ci) : NULL;
        if (c)
            memcpy(ret, (const uint8_t *)c + first % CHUNK_BYTES, now);
        ret += now;
        first += now;
        n -= now;
    }
}

void block_bitmap_write_bytes(struct block_bitmap *b, uint64_t first, uint64_t n, const uint8_t *from)
{
    struct block_bitmap_bits *m = b->bits;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t bit = (first + i) * 8;
        if (bit >= m->nbits)
            break;
        uint64_t end = MIN(bit + 8, m->nbits);
        if (i + 8 <= n && bit + 64 <= m->nbits && !memcmp(from + i, "\0\0\0\0\0\0\0\0", 8) && !chunk_get(m, bit / CHUNK_BITS)) {
            i += 7; /* nothing there, nothing to come */
            continue;
        }
        bits_change(m, bit, end, false);
        for (uint64_t k = bit; k < end; k++)
            if (from[i] >> (k - bit) & 1)
                bits_change(m, k, k + 1, true);
    }
}

/* ---- successors ---- */

bool block_bitmap_freeze(struct block_bitmap *b, GError **error)
{
    if (!block_bitmap_check(b, BLOCK_BITMAP_BUSY, error))
        return false;
    struct block_bitmap *s = bitmap_new(b->node, NULL, b->bits->shift);
    s->enabled = b->enabled;
    b->enabled = false;
    b->successor = s;
    return true;
}

static void end_successor(struct block_bitmap *b)
{
    struct block_bitmap *s = b->successor;
    b->enabled = s->enabled;
    b->successor = NULL;
    bitmap_free(s);
}

void block_bitmap_abdicate(struct block_bitmap *b)
{
    struct block_bitmap_bits *old = b->bits;
    b->bits = b->successor->bits;
    b->successor->bits = old;
    end_successor(b);
}

void block_bitmap_reclaim(struct block_bitmap *b)
{
    bits_merge(b->bits, b->successor->bits);
    end_successor(b);
}

/* ---- for src/block ---- */

void block_bitmaps_mark(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    struct bitmap_list *l = list_of(n);
    if (!l)
        return;
    for (guint i = 0; i < l->all->len; i++) {
        struct block_bitmap *b = g_ptr_array_index(l->all, i);
        if (b->successor)
            b = b->successor;
        if (__atomic_load_n(&b->enabled, __ATOMIC_ACQUIRE))
            block_bitmap_set(b, offset, bytes);
    }
}

static void bitmap_resize(struct block_bitmap *b, uint64_t size)
{
    struct block_bitmap_bits *old = b->bits;
    if (b->successor)
        bitmap_resize(b->successor, size);
    if (b->inconsistent || old->size == size)
        return;
    b->bits = bits_new(size, old->shift);
    bits_change(old, MIN(b->bits->nbits, old->nbits), old->nbits, false);
    if (size > old->size)
        bits_merge(b->bits, old);
    else
        for (uint64_t i = 0; i < b->bits->nchunks; i++) {
            b->bits->chunks[i] = old->chunks[i];
            old->chunks[i] = NULL;
        }
    if (size < old->size)
        b->bits->count = old->count;
    block_bitmap_bits_free(old);
}

void block_bitmaps_resize(struct block_node *n)
{
    struct bitmap_list *l = list_of(n);
    for (guint i = 0; l && i < l->all->len; i++)
        bitmap_resize(g_ptr_array_index(l->all, i), __atomic_load_n(&n->size, __ATOMIC_RELAXED));
}

void block_bitmaps_end(struct block_node *n)
{
    struct bitmap_list *l = list_of(n);
    if (!l)
        return;
    for (guint i = 0; i < l->all->len; i++)
        bitmap_free(g_ptr_array_index(l->all, i));
    g_ptr_array_unref(l->all);
    g_mutex_clear(&l->lock);
    g_free(l);
    n->bitmaps = NULL;
}
