/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/metadata.h"

#include <errno.h>
#include <string.h>

#include "block/driver.h"

enum { PAGE = 4096, MAX_PAGES = 8192, SECTOR = 512 };

struct page {
    uint64_t number;
    uint8_t dirty; /* a bit for each of its 8 sectors: what else lies in the page may be guest data */
    unsigned writing; /* flushes that have a copy under way */
    uint8_t data[PAGE];
};
struct metadata {
    struct block_node *file;
    GMutex *lock;
    GHashTable *pages; /* by number */
    struct page *last; /* looked up last */
    GQueue dirty;      /* struct page * */
    GMutex flushing;   /* one flush at a time; taken before the lock */
};

struct metadata *metadata_create(struct block_node *file, GMutex *lock)
{
    struct metadata *m = g_new0(struct metadata, 1);
    m->file = file;
    m->lock = lock;
    m->pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    g_mutex_init(&m->flushing);
    return m;
}

void metadata_destroy(struct metadata *m)
{
    if (!m)
        return;
    g_hash_table_unref(m->pages);
    g_queue_clear(&m->dirty);
    g_mutex_clear(&m->flushing);
    g_free(m);
}

static gboolean is_clean(gpointer key, gpointer value, gpointer opaque)
{
    const struct page *p = value;
    return !p->dirty && !p->writing;
}

static int load(struct metadata *m, uint64_t number, struct page **ret)
{
    struct page *p = g_new(struct page, 1);
    uint64_t at = number * PAGE, size = block_node_size(m->file), there = at < size ? MIN(size - at, PAGE) : 0;
    int err = there ? block_pread(m->file, at, there, p->data) : 0;
    if (err) {
        g_free(p);
        return err;
    }
    memset(p->data + there, 0, PAGE - there);
    p->number = number;
    p->dirty = 0;
    p->writing = 0;
    if (g_hash_table_size(m->pages) >= MAX_PAGES) {
        g_hash_table_foreach_remove(m->pages, is_clean, NULL);
        m->last = NULL;
    }
    g_hash_table_insert(m->pages, &p->number, p);
    *ret = p;
    return 0;
}

static int page_get(struct metadata *m, uint64_t number, bool wait, struct page **ret)
{
    if (!m->last || m->last->number != number) {
        struct page *p = g_hash_table_lookup(m->pages, &number);
        int err = p ? 0 : wait ? load(m, number, &p) : EAGAIN;
        if (err)
            return err;
        m->last = p;
    }
    *ret = m->last;
    return 0;
}

int metadata_read(struct metadata *m, uint64_t offset, size_t bytes, void *to, bool wait)
{
    struct page *p;
    for (size_t part; bytes; bytes -= part, offset += part, to = (char *)to + part) {
        part = MIN(bytes, PAGE - offset % PAGE);
        int err = page_get(m, offset / PAGE, wait, &p);
        if (err)
            return err;
        memcpy(to, p->data + offset % PAGE, part);
    }
    return 0;
}

int metadata_write(struct metadata *m, uint64_t offset, size_t bytes, const void *from)
{
    struct page *p;
    for (size_t part; bytes; bytes -= part, offset += part, from = (const char *)from + part) {
        part = MIN(bytes, PAGE - offset % PAGE);
        int err = page_get(m, offset / PAGE, true, &p);
        if (err)
            return err;
        memcpy(p->data + offset % PAGE, from, part);
        if (!p->dirty)
            g_queue_push_tail(&m->dirty, p);
        for (uint64_t i = offset % PAGE / SECTOR; i <= (offset % PAGE + part - 1) / SECTOR; i++)
            p->dirty |= (uint8_t)(1u << i);
    }
    return 0;
}

bool metadata_full(const struct metadata *m)
{
    return m->dirty.length >= MAX_PAGES / 2;
}

struct copy {
    struct page *page;
    uint8_t dirty;
    uint8_t data[PAGE];
};

/* Copies of all dirty pages, which count as clean from now on. */
static GPtrArray *take_dirty(struct metadata *m)
{
    GPtrArray *copies = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(m->lock);
    for (struct page *p; (p = g_queue_pop_head(&m->dirty));) {
        struct copy *c = g_new(struct copy, 1);
        c->page = p;
        c->dirty = p->dirty;
        memcpy(c->data, p->data, PAGE);
        p->dirty = 0;
        p->writing++;
        g_ptr_array_add(copies, c);
    }
    g_mutex_unlock(m->lock);
    return copies;
}

static void give_back(struct metadata *m, GPtrArray *copies, bool failed)
{
    g_mutex_lock(m->lock);
    for (guint i = 0; i < copies->len; i++) {
        const struct copy *c = copies->pdata[i];
        c->page->writing--;
        if (failed && !c->page->dirty)
            g_queue_push_tail(&m->dirty, c->page);
        if (failed)
            c->page->dirty |= c->dirty;
    }
    g_mutex_unlock(m->lock);
}

static int write_copy(struct metadata *m, const struct copy *c)
{
    int err = 0;
    for (unsigned i = 0, end; i < PAGE / SECTOR && !err; i = end + 1) {
        for (end = i; end < PAGE / SECTOR && c->dirty >> end & 1; end++)
            ;
        if (end > i)
            err = block_pwrite(m->file, c->page->number * PAGE + i * SECTOR, (end - i) * SECTOR, c->data + i * SECTOR, 0);
    }
    return err;
}

int metadata_flush(struct metadata *m)
{
    g_mutex_lock(&m->flushing);
    GPtrArray *copies = take_dirty(m);
    int err = block_flush(m->file);
    for (guint i = 0; i < copies->len && !err; i++)
        err = write_copy(m, copies->pdata[i]);
    if (!err && copies->len)
        err = block_flush(m->file);
    give_back(m, copies, err != 0);
    g_ptr_array_unref(copies);
    g_mutex_unlock(&m->flushing);
    return err;
}
