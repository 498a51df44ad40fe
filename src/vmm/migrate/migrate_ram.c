/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RAM in a stream. Pages that were never touched are not sent, and not read where that can be known: private memory by mincore(2) as long as
 * the host has no swap (it does not tell a page that is swapped out from one that never was), shared memory by SEEK_DATA of its file.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory.h"
#include "vmm/migrate/migrate_private.h"

static const struct hostmem *memory_of(const struct machine *m, const uint8_t *host)
{
    for (guint i = 0; i < m->objects->len; i++) {
        const struct object *o = m->objects->pdata[i];
        const struct hostmem *h = hostmem_is(o) ? (const struct hostmem *)o : NULL;
        if (h && h->host && host >= h->host && host < h->host + h->size)
            return h;
    }
    return NULL;
}

struct ram_map *ram_map_new(struct machine *m)
{
    struct ram_map *r = g_new0(struct ram_map, 1);
    GArray *runs = g_array_new(FALSE, FALSE, sizeof(struct ram_run));
    uint64_t gpa, size;
    bool readonly;
    for (unsigned i = 0; guest_memory_ram_range(m->memory, i, &gpa, &size, &readonly); i++) {
        uint8_t *host = readonly ? NULL : guest_memory_ptr(m->memory, gpa, size, false);
        const struct hostmem *h = host ? memory_of(m, host) : NULL;
        struct ram_run run = { gpa, size, host, h && h->share ? h->fd : -1, h ? (uint64_t)(host - h->host) : 0, h && h->fd < 0 };
        if (h)
            g_array_append_val(runs, run);
        r->pages += h ? size / STREAM_PAGE : 0;
    }
    r->n = runs->len;
    r->runs = (struct ram_run *)(void *)g_array_free(runs, FALSE);
    return r;
}

void ram_map_free(struct ram_map *r)
{
    if (r)
        g_free(r->runs);
    g_free(r);
}

/* ---- which pages were touched ---- */

static bool no_swap(void)
{
    struct sysinfo i;
    return !sysinfo(&i) && !i.totalswap;
}

/* present[i]: the page may hold something.
 * seccomp(main, migrate): mincore */
static void ask_mincore(uint8_t *host, unsigned n, bool *present)
{
    unsigned char there[STREAM_PAGES_MAX];
    bool known = !mincore(host, (size_t)n * STREAM_PAGE, there) && no_swap(); /* looked at last: then nothing was swapped out before */
    for (unsigned i = 0; i < n; i++)
        present[i] = !known || there[i] & 1;
}

static void ask_file(const struct ram_run *run, uint64_t first, unsigned n, bool *present)
{
    off_t begin = (off_t)(run->fd_offset + first * STREAM_PAGE), end = begin + (off_t)n * STREAM_PAGE, at = begin;
    memset(present, false, n);
    while (at < end) {
        off_t data = lseek(run->fd, at, SEEK_DATA), hole;
        if (data < 0 && errno == ENXIO)
            return;
        if (data < 0) {
            memset(present, true, n);
            return;
        }
        hole = data < end ? lseek(run->fd, data, SEEK_HOLE) : end;
        if (hole < 0)
            hole = end;
        for (off_t p = MAX(data, begin); p < MIN(hole, end); p += STREAM_PAGE)
            present[(p - begin) / STREAM_PAGE] = true;
        at = MAX(hole, at + STREAM_PAGE);
    }
}

static void ask(const struct ram_run *run, uint64_t first, unsigned n, bool *present)
{
    if (run->fd >= 0)
        ask_file(run, first, n, present);
    else if (run->anonymous)
        ask_mincore(run->host + first * STREAM_PAGE, n, present);
    else
        memset(present, true, n);
}

static bool is_zero(const uint8_t *page)
{
    const uint64_t *w = (const uint64_t *)(const void *)page;
    if (w[0] | w[STREAM_PAGE / 8 - 1])
        return false;
    return !memcmp(page, page + 8, STREAM_PAGE - 8);
}

/* ---- sending ---- */

struct sending { const struct ram_map *map; const struct migrate_sink *sink; struct ram_stats *stats; uint8_t *copy; };

/* A record's pages are copied first: the guest may be writing, and the checksum has to be that of what is sent. */
static bool send_data(struct sending *s, unsigned piece, uint64_t first, unsigned n, GError **error)
{
    if (!n)
        return true;
    memcpy(s->copy, s->map->runs[piece].host + first * STREAM_PAGE, (size_t)n * STREAM_PAGE);
    __atomic_fetch_add(&s->stats->normal, n, __ATOMIC_RELAXED);
    return stream_write_pages(s->sink, piece, first, n, s->copy, error);
}

/* n at most STREAM_PAGES_MAX. say_zeroes: a page that is zero now may be another one at the other side. */
static bool send_some(struct sending *s, unsigned piece, uint64_t first, unsigned n, const bool *present, bool say_zeroes, GError **error)
{
    const uint8_t *host = s->map->runs[piece].host + first * STREAM_PAGE;
    unsigned data = 0, zero = 0; /* pages before i that wait to be sent; only one of them is not 0 */
    for (unsigned i = 0; i <= n; i++) {
        bool end = i == n, full = !end && (!present || present[i]) && !is_zero(host + (size_t)i * STREAM_PAGE);
        if (data && !full) {
            if (!send_data(s, piece, first + i - data, data, error))
                return false;
            data = 0;
        }
        if (zero && (full || end)) {
            __atomic_fetch_add(&s->stats->zero, zero, __ATOMIC_RELAXED);
            if (say_zeroes && !stream_write_zeroes(s->sink, piece, first + i - zero, zero, error))
                return false;
            zero = 0;
        }
        data += full;
        zero += !end && !full;
    }
    return true;
}

bool ram_send_all(const struct ram_map *r, const struct migrate_sink *k, struct ram_stats *st, GError **error)
{
    g_autofree uint8_t *copy = g_malloc((size_t)STREAM_PAGES_MAX * STREAM_PAGE);
    struct sending s = { r, k, st, copy };
    bool present[STREAM_PAGES_MAX];
    for (unsigned i = 0; i < r->n; i++) {
        const struct ram_run *run = &r->runs[i];
        for (uint64_t at = 0, all = run->size / STREAM_PAGE; at < all; at += STREAM_PAGES_MAX) {
            unsigned n = (unsigned)MIN(all - at, STREAM_PAGES_MAX);
            ask(run, at, n, present);
            if (!send_some(&s, i, at, n, present, false, error))
                return false;
        }
    }
    return true;
}

static int find_piece(const struct ram_map *r, uint64_t gpa)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (gpa >= r->runs[i].gpa && gpa - r->runs[i].gpa < r->runs[i].size)
            return (int)i;
    }
    return -1;
}

bool ram_send_runs(const struct ram_map *r, const struct migrate_sink *k, const GArray *runs, struct ram_stats *st, GError **error)
{
    g_autofree uint8_t *copy = g_malloc((size_t)STREAM_PAGES_MAX * STREAM_PAGE);
    struct sending s = { r, k, st, copy };
    for (guint i = 0; i < runs->len; i++) {
        const struct dirty_run *d = &g_array_index(runs, struct dirty_run, i);
        for (uint64_t at = 0, n; at < d->pages; at += n) {
            uint64_t gpa = d->gpa + at * STREAM_PAGE;
            int piece = find_piece(r, gpa);
            n = 1;
            if (piece < 0)
                continue; /* memory of a card: its device saves it */
            uint64_t first = (gpa - r->runs[piece].gpa) / STREAM_PAGE;
            n = MIN(MIN(d->pages - at, STREAM_PAGES_MAX), r->runs[piece].size / STREAM_PAGE - first);
            if (!send_some(&s, (unsigned)piece, first, (unsigned)n, NULL, true, error))
                return false;
        }
    }
    return true;
}

/* ---- for loading ---- */

/* What giving back left: parts of huge pages, private memory of a file. */
static void clear_rest(const struct ram_run *run)
{
    bool present[STREAM_PAGES_MAX];
    for (uint64_t at = 0, all = run->size / STREAM_PAGE; at < all; at += STREAM_PAGES_MAX) {
        unsigned n = (unsigned)MIN(all - at, STREAM_PAGES_MAX);
        ask(run, at, n, present);
        for (unsigned i = 0; i < n; i++) {
            uint8_t *page = run->host + (at + i) * STREAM_PAGE;
            if (present[i] && !is_zero(page))
                memset(page, 0, STREAM_PAGE);
        }
    }
}

void ram_discard(struct machine *m, const struct ram_map *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        guest_memory_discard(m->memory, r->runs[i].gpa, r->runs[i].size);
        clear_rest(&r->runs[i]);
        guest_memory_written(m->memory, r->runs[i].gpa, r->runs[i].size);
    }
}

bool ram_in_bounds(const struct ram_map *r, uint32_t piece, uint64_t first, uint64_t count, GError **error)
{
    uint64_t pages = piece < r->n ? r->runs[piece].size / STREAM_PAGE : 0;
    return (first < pages && count <= pages - first) || vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine is damaged: it has pages where this one has no RAM");
}
