/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory map. Regions are kept in a list under `lock`; every change flattens them into a new immutable `struct map` of
 * disjoint sorted ranges. Readers announce the map they look at in their thread's hazard pointer while they search it; a
 * replaced map is freed once no hazard pointer names it. A thread's last hits are copies, valid while the generation
 * stands, and need no hazard pointer at all.
 *
 * RAM blocks and windows outlive the lookup: RAM lives as long as the map, a window as long as its owner says.
 */
#include "vmm/core/memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "accel/accel.h"
#include "base/error.h"

#define PAGE_SIZE 4096ull

enum kind { KIND_NONE /* a gap */, KIND_RAM, KIND_ROM, KIND_WINDOW };

struct region {
    uint64_t start, size;
    enum kind kind;
    int priority;
    uint8_t *host;
    struct io_window *window;
    bool port;
};

struct range {
    uint64_t start, end; /* end exclusive */
    enum kind kind;
    uint8_t *host; /* of `start` */
    struct io_window *window;
    uint64_t base, size; /* of the whole window, as it was when this map was made */
};

struct table {
    unsigned n;
    struct range *ranges;
};

struct map {
    uint64_t generation;
    struct table space[2]; /* memory, ports */
};

struct reader { /* one per thread that ever looked */
    _Atomic(struct map *) hazard;
    _Atomic(const struct target *) telling; /* inside its ram_written, or about to be */
    GThread *thread;
    struct reader *next;
};

/* Who is told of RAM. */
struct target {
    const struct accel_ops *ops;
    struct accel *accel;
};

struct block { /* guest_memory_alloc: the map's own */
    void *host;
    uint64_t size;
};

struct owner {
    uint8_t *host;
    uint64_t size;
    void (*discard)(void *owner, uint64_t offset, uint64_t size);
    void *owner;
};

struct watcher { void (*fn)(void *opaque); void *opaque; };

struct guest_memory {
    uint64_t id; /* tells it from an earlier one at the same address */
    GMutex lock; /* covers everything but `map`, `generation` and `readers`, which are read without it */
    _Atomic(struct map *) map;
    _Atomic uint64_t generation;
    _Atomic(struct reader *) readers;
    GArray *regions; /* struct region */
    GPtrArray *retired;
    GArray *blocks; /* struct block */
    GArray *watchers; /* struct watcher; lock */
    GArray *owners; /* struct owner */
    GRWLock owner_lock; /* covers owners; held while one discards, so that it cannot go meanwhile */
    _Atomic(const struct target *) target;
};

/* What this thread found last: slots for ports by address, memory by kind of use. */
enum { SLOT_MMIO, SLOT_RAM, SLOT_PORT, NSLOTS = SLOT_PORT + 8 };
struct thread_cache {
    struct guest_memory *memory;
    struct reader *reader;
    uint64_t id, generation, slot_owner;
    struct range slot[NSLOTS];
};
static _Thread_local struct thread_cache cache;

static void map_free(struct map *map)
{
    if (!map)
        return;
    g_free(map->space[0].ranges);
    g_free(map->space[1].ranges);
    g_free(map);
}

struct guest_memory *guest_memory_create(void)
{
    struct guest_memory *m = g_new0(struct guest_memory, 1);
    g_mutex_init(&m->lock);
    m->regions = g_array_new(FALSE, FALSE, sizeof(struct region));
    m->retired = g_ptr_array_new();
    m->blocks = g_array_new(FALSE, FALSE, sizeof(struct block));
    m->owners = g_array_new(FALSE, FALSE, sizeof(struct owner));
    m->watchers = g_array_new(FALSE, FALSE, sizeof(struct watcher));
    g_rw_lock_init(&m->owner_lock);
    struct map *map = g_new0(struct map, 1);
    /* Starts at the time, so that a map made later at the same address never meets an old thread cache. */
    m->id = map->generation = (uint64_t)g_get_monotonic_time() << 12;
    atomic_store(&m->generation, map->generation);
    atomic_store(&m->map, map);
    return m;
}

void guest_memory_destroy(struct guest_memory *m)
{
    if (!m)
        return;
    map_free(atomic_load(&m->map));
    g_free((struct target *)atomic_load(&m->target));
    for (unsigned i = 0; i < m->retired->len; i++)
        map_free(g_ptr_array_index(m->retired, i));
    g_ptr_array_free(m->retired, TRUE);
    for (struct reader *r = atomic_load(&m->readers), *next; r; r = next) {
        next = r->next;
        g_free(r);
    }
    for (unsigned i = 0; i < m->blocks->len; i++) {
        struct block *b = &g_array_index(m->blocks, struct block, i);
        munmap(b->host, b->size);
    }
    g_array_free(m->blocks, TRUE);
    g_array_free(m->owners, TRUE);
    g_array_free(m->watchers, TRUE);
    g_rw_lock_clear(&m->owner_lock);
    g_array_free(m->regions, TRUE);
    g_mutex_clear(&m->lock);
    if (cache.memory == m)
        cache.memory = NULL;
    g_free(m);
}

void *guest_memory_alloc(struct guest_memory *m, const char *name, uint64_t size, GError **error)
{
    uint64_t whole = (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    if (!size || whole < size || whole > (1ull << 46)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "memory '%s': a size of %" G_GUINT64_FORMAT " bytes is not possible", name, size);
        return NULL;
    }
    void *host = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host == MAP_FAILED) {
        vireo_fail_errno(error, errno, "cannot map %" G_GUINT64_FORMAT " MiB of guest memory '%s'; give the guest less with -m",
                         whole >> 20, name);
        return NULL;
    }
    (void)madvise(host, whole, MADV_DONTDUMP);
    struct block b = { host, whole };
    g_mutex_lock(&m->lock);
    g_array_append_val(m->blocks, b);
    g_mutex_unlock(&m->lock);
    return host;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The region that answers at `at`: highest priority, among equals the first registered. */
static const struct region *winner(const GArray *regions, bool port, uint64_t at)
{
    const struct region *best = NULL;
    for (unsigned i = 0; i < regions->len; i++) {
        const struct region *r = &g_array_index(regions, struct region, i);
        if (r->port == port && at - r->start < r->size && (!best || r->priority > best->priority))
            best = r;
    }
    return best;
}

static void flatten(const GArray *regions, bool port, struct table *ret)
{
    g_autofree uint64_t *edges = g_new(uint64_t, regions->len * 2 + 1);
    unsigned n = 0;
    for (unsigned i = 0; i < regions->len; i++) {
        const struct region *r = &g_array_index(regions, struct region, i);
        if (r->port != port)
            continue;
        edges[n++] = r->start;
        edges[n++] = r->start + r->size;
    }
    qsort(edges, n, sizeof(edges[0]), compare_u64);
    ret->ranges = g_new(struct range, n + 1);
    ret->n = 0;
    const struct region *last = NULL;
    for (unsigned i = 0; i + 1 < n; i++) {
        if (edges[i] == edges[i + 1])
            continue;
        const struct region *r = winner(regions, port, edges[i]);
        if (r && r == last && ret->ranges[ret->n - 1].end == edges[i]) {
            ret->ranges[ret->n - 1].end = edges[i + 1];
        } else if (r) {
            ret->ranges[ret->n++] = (struct range){ edges[i], edges[i + 1], r->kind,
                                                    r->host ? r->host + (edges[i] - r->start) : NULL, r->window, r->start, r->size };
        }
        last = r;
    }
}

/* The whole pages of a RAM range, which is what the accelerator maps directly; the rest goes through the dispatcher. */
static bool accel_part(const struct range *r, uint64_t *gpa, uint64_t *size, void **host)
{
    if (r->kind != KIND_RAM && r->kind != KIND_ROM)
        return false;
    uint64_t a = (r->start + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1), e = r->end & ~(PAGE_SIZE - 1);
    *gpa = a;
    *size = e > a ? e - a : 0;
    *host = r->host + (a - r->start);
    return e > a;
}

/* The first range that ends above `addr`; t->n: none. */
static unsigned table_search(const struct table *t, uint64_t addr)
{
    unsigned lo = 0, hi = t->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (t->ranges[mid].end <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static const struct range *table_find(const struct table *t, uint64_t addr)
{
    unsigned i = table_search(t, addr);
    return i < t->n && t->ranges[i].start <= addr ? &t->ranges[i] : NULL;
}

/* A copy of the range at `addr`, or of the gap there. */
static struct range table_range(const struct table *t, uint64_t addr)
{
    unsigned i = table_search(t, addr);
    if (i < t->n && t->ranges[i].start <= addr)
        return t->ranges[i];
    return (struct range){ .start = i ? t->ranges[i - 1].end : 0, .end = i < t->n ? t->ranges[i].start : UINT64_MAX };
}

static bool same_ram(const struct map *map, const struct range *r)
{
    const struct range *o = map ? table_find(&map->space[0], r->start) : NULL;
    return o && o->start == r->start && o->end == r->end && o->kind == r->kind && o->host == r->host;
}

static bool show_accel_locked(const struct target *t, const struct map *old, const struct map *new, GError **error)
{
    if (!t)
        return true;
    uint64_t gpa, size;
    void *host;
    for (unsigned i = 0; old && i < old->space[0].n; i++) {
        const struct range *r = &old->space[0].ranges[i];
        if (!same_ram(new, r) && accel_part(r, &gpa, &size, &host))
            t->ops->unmap_ram(t->accel, gpa, size);
    }
    for (unsigned i = 0; i < new->space[0].n; i++) {
        const struct range *r = &new->space[0].ranges[i];
        if (!same_ram(old, r) && accel_part(r, &gpa, &size, &host) &&
            !t->ops->map_ram(t->accel, gpa, size, host, r->kind == KIND_ROM, error))
            return false;
    }
    return true;
}

static void reclaim_locked(struct guest_memory *m)
{
    for (unsigned i = 0; i < m->retired->len;) {
        struct map *map = g_ptr_array_index(m->retired, i);
        bool used = false;
        for (struct reader *r = atomic_load(&m->readers); r && !used; r = r->next)
            used = atomic_load(&r->hazard) == map;
        if (used) {
            i++;
        } else {
            map_free(map);
            g_ptr_array_remove_index_fast(m->retired, i);
        }
    }
}

static bool rebuild_locked(struct guest_memory *m, GError **error)
{
    struct map *old = atomic_load(&m->map), *map = g_new0(struct map, 1);
    map->generation = old->generation + 1;
    flatten(m->regions, false, &map->space[0]);
    flatten(m->regions, true, &map->space[1]);
    atomic_store(&m->map, map);
    atomic_store(&m->generation, map->generation);
    bool ok = show_accel_locked(atomic_load(&m->target), old, map, error);
    g_ptr_array_add(m->retired, old);
    reclaim_locked(m);
    return ok;
}

void guest_memory_watch_ram(struct guest_memory *m, void (*fn)(void *opaque), void *opaque)
{
    struct watcher w = { fn, opaque };
    g_mutex_lock(&m->lock);
    g_array_append_val(m->watchers, w);
    g_mutex_unlock(&m->lock);
}

void guest_memory_unwatch_ram(struct guest_memory *m, void *opaque)
{
    g_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->watchers->len; i++) {
        if (g_array_index(m->watchers, struct watcher, i).opaque == opaque)
            g_array_remove_index_fast(m->watchers, i--);
    }
    g_mutex_unlock(&m->lock);
}

static void tell_watchers_locked(struct guest_memory *m)
{
    for (unsigned i = 0; i < m->watchers->len; i++) {
        struct watcher w = g_array_index(m->watchers, struct watcher, i);
        w.fn(w.opaque);
    }
}

bool guest_memory_add_ram(struct guest_memory *m, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error)
{
    if (!size || (gpa | size) % PAGE_SIZE || gpa + size < gpa)
        return vireo_fail(error, VIREO_ERROR_INVALID, "guest memory at %#" G_GINT64_MODIFIER "x, size %#" G_GINT64_MODIFIER
                          "x is not page aligned", gpa, size);
    struct region r = { .start = gpa, .size = size, .kind = readonly ? KIND_ROM : KIND_RAM, .host = host };
    g_mutex_lock(&m->lock);
    g_array_append_val(m->regions, r);
    bool ok = rebuild_locked(m, error);
    tell_watchers_locked(m);
    g_mutex_unlock(&m->lock);
    return ok;
}

static void remove_where(struct guest_memory *m, const struct io_window *w, uint64_t gpa, uint64_t size)
{
    for (unsigned i = 0; i < m->regions->len; i++) {
        const struct region *r = &g_array_index(m->regions, struct region, i);
        if (w ? r->window == w : !r->window && r->start == gpa && r->size == size) {
            g_array_remove_index(m->regions, i);
            return;
        }
    }
}

void guest_memory_remove_ram(struct guest_memory *m, uint64_t gpa, uint64_t size)
{
    g_mutex_lock(&m->lock);
    remove_where(m, NULL, gpa, size);
    (void)rebuild_locked(m, NULL);
    tell_watchers_locked(m);
    g_mutex_unlock(&m->lock);
}

bool guest_memory_set_accel(struct guest_memory *m, const struct accel_ops *ops, struct accel *a, GError **error)
{
    if (!guest_memory_show(m, ops, a, error))
        return false;
    guest_memory_use(m, ops, a);
    return true;
}

bool guest_memory_show(struct guest_memory *m, const struct accel_ops *ops, struct accel *a, GError **error)
{
    const struct target t = { ops, a };
    g_mutex_lock(&m->lock);
    bool ok = show_accel_locked(&t, NULL, atomic_load(&m->map), error);
    g_mutex_unlock(&m->lock);
    return ok;
}

/* A thread announces the target that it is about to tell, then looks again whether it still is the one: so once the new one is
 * published, only those who announced the old one before can be inside it. */
void guest_memory_use(struct guest_memory *m, const struct accel_ops *ops, struct accel *a)
{
    struct target *t = g_new(struct target, 1);
    *t = (struct target){ ops, a };
    g_mutex_lock(&m->lock);
    const struct target *old = atomic_exchange(&m->target, t);
    for (struct reader *r = atomic_load(&m->readers); old && r; r = r->next) {
        while (atomic_load(&r->telling) == old)
            g_thread_yield();
    }
    g_mutex_unlock(&m->lock);
    g_free((struct target *)old);
}

static enum kind window_kind(const struct io_window *w)
{
    return !w->ram ? KIND_WINDOW : w->rom ? KIND_ROM : KIND_RAM;
}

void io_window_map(struct guest_memory *m, struct io_window *w, uint64_t base)
{
    g_mutex_lock(&m->lock);
    if (w->mapped)
        remove_where(m, w, 0, 0);
    w->base = base;
    w->mapped = w->size && base + w->size - 1 >= base && (!w->port || base + w->size <= 0x10000);
    if (w->mapped) {
        struct region r = { .start = base, .size = w->size, .kind = window_kind(w), .priority = w->behind ? -1 : 1, .host = w->ram, .window = w, .port = w->port };
        /* The last byte of the address space stays empty: range ends are exclusive. */
        if (base + w->size == 0)
            r.size--;
        g_array_append_val(m->regions, r);
    }
    (void)rebuild_locked(m, NULL);
    if (w->ram)
        tell_watchers_locked(m);
    g_mutex_unlock(&m->lock);
}

void io_window_unmap(struct guest_memory *m, struct io_window *w)
{
    g_mutex_lock(&m->lock);
    if (w->mapped) {
        remove_where(m, w, 0, 0);
        w->mapped = false;
        (void)rebuild_locked(m, NULL);
        if (w->ram)
            tell_watchers_locked(m);
    }
    g_mutex_unlock(&m->lock);
}

static struct reader *reader_of_thread(struct guest_memory *m)
{
    GThread *self = g_thread_self();
    for (struct reader *r = atomic_load(&m->readers); r; r = r->next) {
        if (r->thread == self)
            return r;
    }
    struct reader *r = g_new0(struct reader, 1);
    r->thread = self;
    r->next = atomic_load(&m->readers);
    while (!atomic_compare_exchange_weak(&m->readers, &r->next, r))
        ;
    return r;
}

/* Copies the range (or gap) that holds `addr`, and the generation it is of. */
static void lookup_slow(struct guest_memory *m, bool port, uint64_t addr, struct range *ret, uint64_t *ret_generation)
{
    if (!cache.reader) {
        cache.memory = m;
        cache.id = m->id;
        cache.reader = reader_of_thread(m);
    }
    struct reader *reader = cache.reader;
    struct map *map = atomic_load(&m->map), *again;
    for (;;) {
        atomic_store(&reader->hazard, map);
        again = atomic_load(&m->map);
        if (again == map)
            break;
        map = again;
    }
    *ret = table_range(&map->space[port], addr);
    *ret_generation = map->generation;
    atomic_store_explicit(&reader->hazard, NULL, memory_order_release);
}

static inline const struct range *lookup(struct guest_memory *m, bool port, unsigned slot, uint64_t addr)
{
    struct range *s = &cache.slot[slot];
    uint64_t generation = atomic_load_explicit(&m->generation, memory_order_acquire);
    if (G_LIKELY(cache.memory == m && cache.generation == generation && addr >= s->start && addr < s->end))
        return s;
    if (cache.memory != m || cache.id != m->id)
        cache.reader = NULL;
    struct range found;
    lookup_slow(m, port, addr, &found, &generation);
    if (generation != cache.generation || cache.slot_owner != m->id)
        memset(cache.slot, 0, sizeof(cache.slot)); /* hits of another map */
    cache.generation = generation;
    cache.slot_owner = m->id;
    *s = found;
    return s;
}

static inline unsigned port_slot(uint64_t port)
{
    return SLOT_PORT + (port >> 3) % 8;
}

static uint64_t ones(unsigned size)
{
    return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
}

static uint64_t window_read(struct io_window *w, uint64_t offset, unsigned size)
{
    unsigned min = w->ops->min_size ? w->ops->min_size : 1, max = w->ops->max_size ? w->ops->max_size : 8;
    uint64_t value = 0;
    if (size < min || !w->ops->read)
        return ones(size);
    unsigned step = MIN(size, max);
    if (w->lock)
        g_mutex_lock(w->lock);
    for (unsigned i = 0; i < size; i += step)
        value |= (w->ops->read(w->opaque, offset + i, step) & ones(step)) << i * 8;
    if (w->lock)
        g_mutex_unlock(w->lock);
    return value;
}

static void window_write(struct io_window *w, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned min = w->ops->min_size ? w->ops->min_size : 1, max = w->ops->max_size ? w->ops->max_size : 8;
    if (size < min || !w->ops->write)
        return;
    unsigned step = MIN(size, max);
    if (w->lock)
        g_mutex_lock(w->lock);
    for (unsigned i = 0; i < size; i += step)
        w->ops->write(w->opaque, offset + i, step, value >> i * 8 & ones(step));
    if (w->lock)
        g_mutex_unlock(w->lock);
}

/* Whether [addr, addr+size) lies in the thing that answers at `addr`. A wide access belongs to the owner of its first
 * byte, even where another window lies inside (the reset register 0xcf9 within the PCI address port 0xcf8). */
static bool fits(const struct range *r, uint64_t addr, unsigned size)
{
    if (r->kind == KIND_WINDOW) {
        uint64_t offset = addr - r->base;
        return offset < r->size && r->size - offset >= size;
    }
    return r->end > addr && r->end - addr >= size;
}

const char *guest_io_owner(struct guest_memory *m, bool port, uint64_t addr)
{
    const struct range *r = lookup(m, port, port ? port_slot(addr) : SLOT_MMIO, addr);
    return r->kind == KIND_NONE ? NULL : r->kind == KIND_WINDOW ? r->window->name : "RAM";
}

uint64_t guest_io_read(struct guest_memory *m, bool port, uint64_t addr, unsigned size)
{
    const struct range *r = lookup(m, port, port ? port_slot(addr) : SLOT_MMIO, addr);
    if (fits(r, addr, size)) {
        if (r->kind == KIND_NONE)
            return ones(size);
        if (r->kind == KIND_WINDOW)
            return window_read(r->window, addr - r->base, size);
        uint64_t value = 0;
        memcpy(&value, r->host + (addr - r->start), size);
        return value;
    }
    if (size == 1)
        return 0xff;
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= guest_io_read(m, port, port ? (uint16_t)(addr + i) : addr + i, 1) << i * 8;
    return value;
}

void guest_io_write(struct guest_memory *m, bool port, uint64_t addr, unsigned size, uint64_t value)
{
    const struct range *r = lookup(m, port, port ? port_slot(addr) : SLOT_MMIO, addr);
    if (fits(r, addr, size)) {
        if (r->kind == KIND_WINDOW) {
            window_write(r->window, addr - r->base, size, value);
        } else if (r->kind == KIND_RAM) {
            memcpy(r->host + (addr - r->start), &value, size);
            guest_memory_written(m, addr, size);
        }
        return;
    }
    for (unsigned i = 0; size > 1 && i < size; i++)
        guest_io_write(m, port, port ? (uint16_t)(addr + i) : addr + i, 1, value >> i * 8 & 0xff);
}

static bool usable(const struct range *r, bool write)
{
    return r->kind == KIND_RAM || (r->kind == KIND_ROM && !write);
}

/* Walks [gpa, gpa+size) piece by piece. With data == NULL only checks. */
static bool transfer(struct guest_memory *m, uint64_t gpa, void *data, uint64_t size, bool write)
{
    uint64_t done = 0;
    while (done < size) {
        const struct range *r = lookup(m, false, SLOT_RAM, gpa + done);
        if (!usable(r, write))
            return false;
        uint64_t n = MIN(size - done, r->end - (gpa + done));
        uint8_t *host = r->host + (gpa + done - r->start);
        if (data && write)
            memcpy(host, (uint8_t *)data + done, n);
        else if (data)
            memcpy((uint8_t *)data + done, host, n);
        done += n;
    }
    return true;
}

void guest_memory_add_owner(struct guest_memory *m, void *host, uint64_t size, void (*discard)(void *owner, uint64_t offset, uint64_t size), void *owner)
{
    struct owner o = { host, size, discard, owner };
    g_rw_lock_writer_lock(&m->owner_lock);
    g_array_append_val(m->owners, o);
    g_rw_lock_writer_unlock(&m->owner_lock);
}

void guest_memory_remove_owner(struct guest_memory *m, void *owner)
{
    g_rw_lock_writer_lock(&m->owner_lock);
    for (unsigned i = 0; i < m->owners->len; i++) {
        if (g_array_index(m->owners, struct owner, i).owner == owner)
            g_array_remove_index_fast(m->owners, i--);
    }
    g_rw_lock_writer_unlock(&m->owner_lock);
}

/* One piece of RAM may lie in several owners' memory when those are neighbours in the process. */
static void discard_piece(struct guest_memory *m, uint8_t *host, uint64_t size)
{
    g_rw_lock_reader_lock(&m->owner_lock);
    for (unsigned i = 0; i < m->owners->len; i++) {
        const struct owner *o = &g_array_index(m->owners, struct owner, i);
        uint8_t *begin = MAX(host, o->host), *end = MIN(host + size, o->host + o->size);
        if (begin < end)
            o->discard(o->owner, (uint64_t)(begin - o->host), (uint64_t)(end - begin));
    }
    g_rw_lock_reader_unlock(&m->owner_lock);
}

void guest_memory_discard(struct guest_memory *m, uint64_t gpa, uint64_t size)
{
    uint64_t done = 0;
    if (gpa + size < gpa)
        return;
    while (done < size) {
        const struct range *r = lookup(m, false, SLOT_RAM, gpa + done);
        uint64_t n = MIN(size - done, r->end - (gpa + done));
        if (r->kind == KIND_RAM) {
            discard_piece(m, r->host + (gpa + done - r->start), n);
            guest_memory_written(m, gpa + done, n);
        }
        done += n;
    }
}

static bool in_one_piece(struct guest_memory *m, uint64_t gpa, uint64_t size)
{
    const struct range *r = lookup(m, false, SLOT_RAM, gpa);
    return r->end > gpa && r->end - gpa >= size;
}

bool guest_memory_read(struct guest_memory *m, uint64_t gpa, void *ret, uint64_t size)
{
    if (gpa + size < gpa || (!in_one_piece(m, gpa, size) && !transfer(m, gpa, NULL, size, false)))
        return false;
    return transfer(m, gpa, ret, size, false);
}

bool guest_memory_write(struct guest_memory *m, uint64_t gpa, const void *data, uint64_t size)
{
    if (gpa + size < gpa || (!in_one_piece(m, gpa, size) && !transfer(m, gpa, NULL, size, true)))
        return false;
    if (!transfer(m, gpa, (void *)data, size, true))
        return false;
    guest_memory_written(m, gpa, size);
    return true;
}

void *guest_memory_ptr(struct guest_memory *m, uint64_t gpa, uint64_t size, bool write)
{
    const struct range *r = lookup(m, false, SLOT_RAM, gpa);
    if (!usable(r, write) || r->end - gpa < size)
        return NULL;
    return r->host + (gpa - r->start);
}

void guest_memory_written(struct guest_memory *m, uint64_t gpa, uint64_t size)
{
    const struct target *t = atomic_load_explicit(&m->target, memory_order_acquire), *again;
    if (!t || !size)
        return;
    struct reader *r = cache.memory == m && cache.id == m->id && cache.reader ? cache.reader : reader_of_thread(m);
    for (;;) {
        atomic_store(&r->telling, t);
        again = atomic_load(&m->target);
        if (again == t)
            break;
        t = again;
    }
    t->ops->ram_written(t->accel, gpa, size);
    atomic_store_explicit(&r->telling, NULL, memory_order_release);
}

bool guest_memory_ram_range(struct guest_memory *m, unsigned index, uint64_t *ret_gpa, uint64_t *ret_size, bool *ret_readonly)
{
    bool found = false;
    g_mutex_lock(&m->lock);
    const struct table *t = &atomic_load(&m->map)->space[0];
    for (unsigned i = 0; i < t->n && !found; i++) {
        const struct range *r = &t->ranges[i];
        if (r->kind == KIND_WINDOW || index--)
            continue;
        *ret_gpa = r->start;
        *ret_size = r->end - r->start;
        *ret_readonly = r->kind == KIND_ROM;
        found = true;
    }
    g_mutex_unlock(&m->lock);
    return found;
}
