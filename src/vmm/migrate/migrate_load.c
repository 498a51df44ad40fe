/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stream into a machine, and a machine that stands still into a stream. */
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory.h"
#include "vmm/migrate/migrate_private.h"

struct loader {
    struct machine *machine;
    struct ram_map *ram;
    char *here;         /* description of the machine that it goes into */
    GHashTable *states; /* name -> GBytes */
    uint64_t bytes;     /* atomic */
};

struct loader *loader_new(struct machine *m)
{
    struct loader *l = g_new0(struct loader, 1);
    l->machine = m;
    l->ram = ram_map_new(m);
    l->here = state_describe(m, l->ram);
    l->states = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    return l;
}

void loader_free(struct loader *l)
{
    if (!l)
        return;
    ram_map_free(l->ram);
    g_free(l->here);
    g_hash_table_unref(l->states);
    g_free(l);
}

uint64_t loader_bytes(const struct loader *l)
{
    return __atomic_load_n(&l->bytes, __ATOMIC_RELAXED);
}

static bool take_description(void *opaque, const char *text, GError **error)
{
    struct loader *l = opaque;
    if (!state_compare(text, l->here, error))
        return false;
    ram_discard(l->machine, l->ram);
    return true;
}

static void *take_pages(void *opaque, uint32_t piece, uint64_t first, uint32_t count, GError **error)
{
    const struct loader *l = opaque;
    return ram_in_bounds(l->ram, piece, first, count, error) ? l->ram->runs[piece].host + first * STREAM_PAGE : NULL;
}

static void pages_there(void *opaque, uint32_t piece, uint64_t first, uint32_t count)
{
    struct loader *l = opaque;
    guest_memory_written(l->machine->memory, l->ram->runs[piece].gpa + first * STREAM_PAGE, (uint64_t)count * STREAM_PAGE);
    __atomic_fetch_add(&l->bytes, (uint64_t)count * STREAM_PAGE, __ATOMIC_RELAXED);
}

static bool take_zeroes(void *opaque, uint32_t piece, uint64_t first, uint64_t count, GError **error)
{
    struct loader *l = opaque;
    if (!ram_in_bounds(l->ram, piece, first, count, error))
        return false;
    uint64_t gpa = l->ram->runs[piece].gpa + first * STREAM_PAGE, size = count * STREAM_PAGE;
    memset(l->ram->runs[piece].host + first * STREAM_PAGE, 0, size);
    guest_memory_written(l->machine->memory, gpa, size);
    return true;
}

static bool take_state(void *opaque, const char *name, GBytes *values, GError **error)
{
    struct loader *l = opaque;
    return g_hash_table_insert(l->states, g_strdup(name), g_bytes_ref(values)) ||
           vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine is damaged: it has the state of '%s' twice", name);
}

bool loader_read(struct loader *l, const struct migrate_source *s, GError **error)
{
    const struct stream_taker taker = { take_description, take_pages, pages_there, take_zeroes, take_state, l };
    return stream_read(s, &taker, error);
}

bool loader_apply(struct loader *l, bool *ret_ran, GError **error)
{
    return state_apply(l->machine, l->states, ret_ran, error);
}

/* ---- a machine that stands still ---- */

bool migrate_save_machine(struct machine *m, const struct migrate_sink *k, GError **error)
{
    enum machine_state was = m->state;
    struct ram_stats stats = { 0 };
    if (was == MACHINE_RUNNING)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the machine runs; stop it first");
    if (!migrate_possible(m, error))
        return false;
    state_drain(m);
    struct ram_map *r = ram_map_new(m);
    g_autofree char *description = state_describe(m, r);
    g_autoptr(GPtrArray) states = state_collect(m, was, error);
    bool ok = states && stream_write_head(k, error) && stream_write_text(k, description, error) && ram_send_all(r, k, &stats, error);
    for (guint i = 0; ok && i < states->len; i++) {
        const struct named_state *s = states->pdata[i];
        ok = stream_write_state(k, s->name, s->values, error);
    }
    ok = ok && stream_write_end(k, states->len, error);
    ram_map_free(r);
    return ok;
}

bool migrate_load_machine(struct machine *m, const struct migrate_source *source, bool *ret_ran, GError **error)
{
    if (m->state == MACHINE_RUNNING)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the machine runs; stop it first");
    machine_reset_now(m);
    struct loader *l = loader_new(m);
    bool ok = loader_read(l, source, error) && loader_apply(l, ret_ran, error);
    loader_free(l);
    return ok;
}
