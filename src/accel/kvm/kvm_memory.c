/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory slots (4.35 KVM_SET_USER_MEMORY_REGION) and the log of written pages: the kernel's bitmaps (4.8, 4.117) or rings (8.29)
 * are gathered into one sparse bitmap of the machine, together with what the process itself wrote.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/error.h"

#define PAGE 4096u
#define PIECE_SHIFT 27 /* bytes per bitmap of kvm_machine.dirty: 128 MiB, 4 KiB of bitmap */
#define PIECE_PAGES (1u << (PIECE_SHIFT - 12))

void kvm_memory_init(struct kvm_machine *m)
{
    g_mutex_init(&m->slots_lock);
    m->slots = g_array_new(FALSE, FALSE, sizeof(struct kvm_slot));
    m->dirty = g_hash_table_new_full(NULL, NULL, NULL, g_free);
}

void kvm_memory_finish(struct kvm_machine *m)
{
    g_array_free(m->slots, TRUE);
    g_hash_table_destroy(m->dirty);
    g_free(m->slot_used);
    g_mutex_clear(&m->slots_lock);
}

/* ---- the sparse bitmap ---- */

static uint64_t *piece_locked(struct kvm_machine *m, uint64_t page, bool make)
{
    gpointer key = GSIZE_TO_POINTER(page / PIECE_PAGES);
    uint64_t *bits = g_hash_table_lookup(m->dirty, key);
    if (!bits && make) {
        bits = g_malloc0(PIECE_PAGES / 8);
        g_hash_table_insert(m->dirty, key, bits);
    }
    return bits;
}

static void mark_locked(struct kvm_machine *m, uint64_t first, uint64_t npages)
{
    for (uint64_t page = first; page < first + npages; page++) {
        uint64_t *bits = piece_locked(m, page, true);
        bits[page % PIECE_PAGES / 64] |= 1ull << (page % 64);
    }
}

/* Words of a bitmap whose bit 0 is the page `first`. */
static void mark_words_locked(struct kvm_machine *m, uint64_t first, const uint64_t *words, uint64_t npages)
{
    for (uint64_t w = 0; w < (npages + 63) / 64; w++) {
        uint64_t bits = words[w];
        if (w * 64 + 64 > npages && npages % 64)
            bits &= (1ull << (npages % 64)) - 1;
        while (bits) {
            unsigned b = (unsigned)__builtin_ctzll(bits);
            bits &= bits - 1;
            mark_locked(m, first + w * 64 + b, 1);
        }
    }
}

static void take_locked(struct kvm_machine *m, uint64_t first, uint64_t npages, uint64_t *bitmap)
{
    for (uint64_t page = first; page < first + npages;) {
        uint64_t *bits = piece_locked(m, page, false);
        uint64_t end = MIN((page / PIECE_PAGES + 1) * PIECE_PAGES, first + npages);
        for (; bits && page < end; page++) {
            uint64_t *word = &bits[page % PIECE_PAGES / 64], bit = 1ull << (page % 64);
            if (*word & bit) {
                *word &= ~bit;
                bitmap[(page - first) / 64] |= 1ull << ((page - first) % 64);
            } else if (!*word && page % 64 == 0 && end - page >= 64) {
                page += 63;
            }
        }
        page = end;
    }
}

/* ---- slots ---- */

static bool tell(struct kvm_machine *m, const struct kvm_slot *s, bool there)
{
    struct kvm_userspace_memory_region r = {
        .slot = s->id, .guest_phys_addr = s->gpa, .memory_size = there ? s->size : 0, .userspace_addr = (uintptr_t)s->host,
        .flags = (s->readonly ? KVM_MEM_READONLY : 0) | (there && !s->readonly && atomic_load(&m->logging) ? KVM_MEM_LOG_DIRTY_PAGES : 0),
    };
    /* seccomp(main, vcpu-kvm): ioctl(KVM_SET_USER_MEMORY_REGION) */
    return kvm_ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &r) == 0;
}

static bool add_locked(struct kvm_machine *m, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error)
{
    unsigned id = 0;
    if (!m->slot_used)
        m->slot_used = g_malloc0((m->caps.slots + 7) / 8);
    while (id < m->caps.slots && (m->slot_used[id / 8] >> (id % 8) & 1))
        id++;
    if (id == m->caps.slots)
        return vireo_fail(error, VIREO_ERROR_FAILED, "-accel kvm: the kernel gives a machine %u pieces of memory, and all are in use", m->caps.slots);
    struct kvm_slot s = { id, readonly, gpa, size, host };
    if (!tell(m, &s, true))
        return vireo_fail_errno(error, errno, "-accel kvm: cannot map guest memory at %#" G_GINT64_MODIFIER "x, size %#" G_GINT64_MODIFIER "x", gpa, size);
    m->slot_used[id / 8] |= (uint8_t)(1u << (id % 8));
    g_array_append_val(m->slots, s);
    return true;
}

bool kvm_map_ram(struct accel *a, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    g_mutex_lock(&m->slots_lock);
    bool ok = add_locked(m, gpa, size, host, readonly, error);
    g_mutex_unlock(&m->slots_lock);
    return ok;
}

static bool harvest_slot_locked(struct kvm_machine *m, const struct kvm_slot *s, uint64_t from, uint64_t to);
static void harvest_rings_locked(struct kvm_machine *m);

/* A slot of which a part stays is replaced by one or two smaller ones: the kernel cannot cut. */
void kvm_unmap_ram(struct accel *a, uint64_t gpa, uint64_t size)
{
    struct kvm_machine *m = kvm_machine_of(a);
    uint64_t end = gpa + size;
    g_mutex_lock(&m->slots_lock);
    if (m->ring_entries && atomic_load(&m->logging))
        harvest_rings_locked(m); /* entries name slots by number */
    for (unsigned i = 0; i < m->slots->len;) {
        struct kvm_slot s = g_array_index(m->slots, struct kvm_slot, i);
        uint64_t s_end = s.gpa + s.size;
        if (s.gpa >= end || s_end <= gpa) {
            i++;
            continue;
        }
        if (atomic_load(&m->logging))
            (void)harvest_slot_locked(m, &s, s.gpa, s_end);
        (void)tell(m, &s, false);
        m->slot_used[s.id / 8] &= (uint8_t)~(1u << (s.id % 8));
        g_array_remove_index_fast(m->slots, i);
        if (s.gpa < gpa)
            (void)add_locked(m, s.gpa, gpa - s.gpa, s.host, s.readonly, NULL);
        if (s_end > end)
            (void)add_locked(m, end, s_end - end, s.host + (end - s.gpa), s.readonly, NULL);
    }
    g_mutex_unlock(&m->slots_lock);
}

/* ---- the log ---- */

void kvm_ram_written(struct accel *a, uint64_t gpa, uint64_t size)
{
    struct kvm_machine *m = kvm_machine_of(a);
    if (!size || !atomic_load_explicit(&m->logging, memory_order_acquire))
        return;
    g_mutex_lock(&m->slots_lock);
    mark_locked(m, gpa / PAGE, (gpa + size - 1) / PAGE - gpa / PAGE + 1);
    g_mutex_unlock(&m->slots_lock);
}

/* Moves what the kernel has noted of [from, to) to the machine's bitmap. With manual protection only that part is forgotten by the
 * kernel and made to fault again; otherwise KVM_GET_DIRTY_LOG does it for the whole slot. */
static bool harvest_slot_locked(struct kvm_machine *m, const struct kvm_slot *s, uint64_t from, uint64_t to)
{
    if (s->readonly || m->ring_entries)
        return true;
    uint64_t npages = s->size / PAGE, first = (from - s->gpa) / PAGE & ~63ull, last = MIN(((to - s->gpa) / PAGE + 63) & ~63ull, npages);
    g_autofree uint64_t *bits = g_malloc0((npages + 63) / 64 * 8);
    struct kvm_dirty_log log = { .slot = s->id, .dirty_bitmap = bits };
    if (kvm_ioctl(m->vm, KVM_GET_DIRTY_LOG, &log) < 0)
        return errno == ENOENT; /* not logged */
    if (!m->caps.manual_protect) {
        mark_words_locked(m, s->gpa / PAGE, bits, npages);
        return true;
    }
    struct kvm_clear_dirty_log clear = { .slot = s->id, .num_pages = (uint32_t)(last - first), .first_page = first, .dirty_bitmap = bits + first / 64 };
    if (kvm_ioctl(m->vm, KVM_CLEAR_DIRTY_LOG, &clear) < 0)
        return false;
    mark_words_locked(m, s->gpa / PAGE + first, bits + first / 64, last - first);
    return true;
}

static const struct kvm_slot *slot_by_id_locked(struct kvm_machine *m, uint32_t id)
{
    for (unsigned i = 0; i < m->slots->len; i++)
        if (g_array_index(m->slots, struct kvm_slot, i).id == id)
            return &g_array_index(m->slots, struct kvm_slot, i);
    return NULL;
}

/* Entries go from the kernel to us by the flag DIRTY, back by RESET (8.29). With page-modification logging the CPU itself holds
 * the last few until its vCPU leaves guest code; a later read shows them. */
static void harvest_rings_locked(struct kvm_machine *m)
{
    bool any = false;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        struct kvm_vcpu *v = atomic_load(&m->vcpus[i]);
        if (!v || !v->ring)
            continue;
        for (;;) {
            struct kvm_dirty_gfn *g = &v->ring[v->ring_at % m->ring_entries];
            if (!(__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY) || (g->flags & KVM_DIRTY_GFN_F_RESET))
                break;
            const struct kvm_slot *s = slot_by_id_locked(m, g->slot & 0xffff);
            if (s && g->offset < s->size / PAGE)
                mark_locked(m, s->gpa / PAGE + g->offset, 1);
            __atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
            v->ring_at++;
            any = true;
        }
    }
    if (any)
        (void)kvm_ioctl(m->vm, KVM_RESET_DIRTY_RINGS, NULL);
}

/* seccomp(main, vcpu-kvm): ioctl(KVM_RESET_DIRTY_RINGS) */
void kvm_dirty_ring_full(struct kvm_machine *m)
{
    g_mutex_lock(&m->slots_lock);
    harvest_rings_locked(m);
    g_mutex_unlock(&m->slots_lock);
}

static bool relog_locked(struct kvm_machine *m, bool on, GError **error)
{
    atomic_store(&m->logging, on);
    for (unsigned i = 0; i < m->slots->len; i++) {
        const struct kvm_slot *s = &g_array_index(m->slots, struct kvm_slot, i);
        if (!s->readonly && !tell(m, s, true)) {
            int err = errno;
            if (on)
                (void)relog_locked(m, false, NULL);
            return vireo_fail_errno(error, err, "-accel kvm: cannot log writes to guest memory at %#" G_GINT64_MODIFIER "x", s->gpa);
        }
    }
    return true;
}

bool kvm_dirty_start(struct accel *a, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    g_mutex_lock(&m->slots_lock);
    bool ok = atomic_load(&m->logging) || relog_locked(m, true, error);
    g_mutex_unlock(&m->slots_lock);
    return ok;
}

void kvm_dirty_stop(struct accel *a)
{
    struct kvm_machine *m = kvm_machine_of(a);
    g_mutex_lock(&m->slots_lock);
    if (atomic_load(&m->logging)) {
        if (m->ring_entries)
            harvest_rings_locked(m);
        (void)relog_locked(m, false, NULL);
    }
    g_hash_table_remove_all(m->dirty);
    g_mutex_unlock(&m->slots_lock);
}

/* seccomp(main): ioctl(KVM_GET_DIRTY_LOG KVM_CLEAR_DIRTY_LOG) */
bool kvm_dirty_read(struct accel *a, uint64_t gpa, uint64_t size, uint64_t *bitmap, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    bool ok = true;
    if (gpa % PAGE || size % PAGE || gpa + size < gpa)
        return vireo_fail(error, VIREO_ERROR_INVALID, "a range of the dirty log must be of whole pages");
    g_mutex_lock(&m->slots_lock);
    if (!atomic_load(&m->logging))
        ok = vireo_fail(error, VIREO_ERROR_FAILED, "writes are not being logged; start that first");
    if (ok && m->ring_entries)
        harvest_rings_locked(m);
    for (unsigned i = 0; ok && i < m->slots->len; i++) {
        const struct kvm_slot *s = &g_array_index(m->slots, struct kvm_slot, i);
        uint64_t from = MAX(gpa, s->gpa), to = MIN(gpa + size, s->gpa + s->size);
        if (from < to && !harvest_slot_locked(m, s, from, to))
            ok = vireo_fail_errno(error, errno, "-accel kvm: cannot read the log of written pages");
    }
    if (ok)
        take_locked(m, gpa / PAGE, size / PAGE, bitmap);
    g_mutex_unlock(&m->slots_lock);
    return ok;
}
