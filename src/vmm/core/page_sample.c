/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/page_sample.h"

#include "vmm/core/machine.h"

#define PAGE_SIZE 4096ull
#define MOST 32768 /* read twice in some 50 ms: QMP waits for that */

struct sampled_page { uint64_t gpa, hash; };

struct page_sample {
    GArray *pages; /* struct sampled_page */
    uint64_t bytes; /* of all memory */
};

/* splitmix64: pages need to be spread, not secret, and the sandbox opens no source of random numbers. */
static uint64_t next_number(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The guest may write meanwhile: then it is one or the other. */
static uint64_t hash_page(const uint64_t *words)
{
    uint64_t h = PAGE_SIZE;
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
        h = (h ^ __atomic_load_n(&words[i], __ATOMIC_RELAXED)) * 0x9fb21c651e98df25u + (h >> 47);
    return h;
}

static void sample_range(struct machine *m, struct page_sample *s, uint64_t gpa, uint64_t size, uint64_t want, uint64_t *state)
{
    for (uint64_t i = 0; i < want && size >= PAGE_SIZE; i++) {
        struct sampled_page p = { gpa + next_number(state) % (size / PAGE_SIZE) * PAGE_SIZE, 0 };
        const uint64_t *words = guest_memory_ptr(m->memory, p.gpa, PAGE_SIZE, false);
        if (words) {
            p.hash = hash_page(words);
            g_array_append_val(s->pages, p);
        }
    }
}

struct page_sample *page_sample_take(struct machine *m, unsigned per_gib)
{
    struct page_sample *s = g_new0(struct page_sample, 1);
    uint64_t gpa, size, state = (uint64_t)g_get_monotonic_time();
    bool readonly;
    s->pages = g_array_new(FALSE, FALSE, sizeof(struct sampled_page));
    for (unsigned i = 0; guest_memory_ram_range(m->memory, i, &gpa, &size, &readonly); i++)
        s->bytes += readonly ? 0 : size;
    uint64_t all = MIN(MAX(s->bytes * per_gib >> 30, 64), MOST);
    for (unsigned i = 0; guest_memory_ram_range(m->memory, i, &gpa, &size, &readonly); i++) {
        if (!readonly)
            sample_range(m, s, gpa, size, (uint64_t)((unsigned __int128)size * all / s->bytes), &state);
    }
    return s;
}

uint64_t page_sample_changed(struct machine *m, const struct page_sample *s)
{
    uint64_t changed = 0, there = 0;
    for (guint i = 0; i < s->pages->len; i++) {
        const struct sampled_page *p = &g_array_index(s->pages, struct sampled_page, i);
        const uint64_t *words = guest_memory_ptr(m->memory, p->gpa, PAGE_SIZE, false); /* a module may have been pulled out */
        there += words != NULL;
        changed += words && hash_page(words) != p->hash;
    }
    return there ? (uint64_t)((unsigned __int128)s->bytes * changed / there) : 0;
}

void page_sample_free(struct page_sample *s)
{
    if (s)
        g_array_unref(s->pages);
    g_free(s);
}
