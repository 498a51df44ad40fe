/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/dirty_log.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/page_sample.h"

#define PAGE_SIZE 4096ull
#define PIECE (64ull << 20) /* read at once: 2 KiB of bitmap */

struct dirty_log {
    uint64_t bitmap[PIECE / PAGE_SIZE / 64];
};

bool dirty_log_start(struct machine *m, GError **error)
{
    if (m->dirty_log)
        return vireo_fail(error, VIREO_ERROR_BUSY, "the log of written pages is on already");
    if (!m->accel_ops->dirty_start)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the accelerator %s has no log of written pages", m->accel_ops->name);
    if (!m->accel_ops->dirty_start(m->accel, error))
        return false;
    m->dirty_log = g_new0(struct dirty_log, 1);
    return true;
}

void dirty_log_stop(struct machine *m)
{
    if (!m->dirty_log)
        return;
    m->accel_ops->dirty_stop(m->accel);
    g_clear_pointer(&m->dirty_log, g_free);
}

void dirty_log_finish(struct machine *m)
{
    if (m->dirty_rate && m->dirty_rate->measuring)
        g_source_remove(m->dirty_rate->measuring);
    if (m->dirty_rate)
        page_sample_free(m->dirty_rate->sample);
    g_clear_pointer(&m->dirty_rate, g_free);
    dirty_log_stop(m);
}

static void add_page(GArray *runs, uint64_t gpa)
{
    struct dirty_run *last = runs->len ? &g_array_index(runs, struct dirty_run, runs->len - 1) : NULL;
    if (last && last->gpa + last->pages * PAGE_SIZE == gpa) {
        last->pages++;
        return;
    }
    struct dirty_run r = { gpa, 1 };
    g_array_append_val(runs, r);
}

static bool read_piece(struct machine *m, uint64_t gpa, uint64_t size, GArray *runs, GError **error)
{
    struct dirty_log *d = m->dirty_log;
    memset(d->bitmap, 0, sizeof(d->bitmap));
    if (!m->accel_ops->dirty_read(m->accel, gpa, size, d->bitmap, error))
        return false;
    for (uint64_t i = 0; i < G_N_ELEMENTS(d->bitmap); i++) {
        for (uint64_t w = d->bitmap[i]; w; w &= w - 1)
            add_page(runs, gpa + (i * 64 + (uint64_t)__builtin_ctzll(w)) * PAGE_SIZE);
    }
    return true;
}

GArray *dirty_log_read(struct machine *m, GError **error)
{
    if (!m->dirty_log) {
        vireo_fail(error, VIREO_ERROR_FAILED, "the log of written pages is off; start it first");
        return NULL;
    }
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(struct dirty_run));
    uint64_t gpa, size;
    bool readonly;
    for (unsigned i = 0; guest_memory_ram_range(m->memory, i, &gpa, &size, &readonly); i++) {
        for (uint64_t at = 0; !readonly && at < size; at += PIECE) {
            if (!read_piece(m, gpa + at, MIN(PIECE, size - at), runs, error))
                return NULL;
        }
    }
    return g_steal_pointer(&runs);
}

uint64_t dirty_log_pages(const GArray *runs)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < runs->len; i++)
        n += g_array_index(runs, struct dirty_run, i).pages;
    return n;
}
