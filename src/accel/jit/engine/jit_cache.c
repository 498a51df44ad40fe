/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The code cache: regions are appended until the cache is full, then all go at once. A region whose guest code changes is
 * marked dead, its entry is overwritten with a call that leads to its successor, and jumps chained to it are undone;
 * its memory stays until the next flush, since other vCPUs may be inside.
 */
#include "accel/jit/engine/jit_engine.h"

#include <errno.h>
#include <string.h>
#include <malloc.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/log.h"

#define MAX_INSNS 48
#define MAX_REGIONS (1u << 20)

bool jit_cache_init(struct jit_machine *m, GError **error)
{
    m->cache = mmap(NULL, JIT_CACHE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->cache == MAP_FAILED) {
        m->cache = NULL;
        return vireo_fail_errno(error, errno, "the translator cannot get %u MiB of executable memory", JIT_CACHE_SIZE >> 20);
    }
    m->cache_end = m->cache + JIT_CACHE_SIZE;
    if (!host_make_thunks(m->cache, 65536, &m->thunks))
        return vireo_fail(error, VIREO_ERROR_FAILED, "the translator's common code does not fit");
    m->cache_start = m->cache_next = m->cache + ((m->thunks.size + 63) & ~63ul);
    m->max_regions = MAX_REGIONS;
    m->by_code = mmap(NULL, MAX_REGIONS * sizeof(*m->by_code), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    m->ir.ops = mmap(NULL, IR_MAX_OPS * sizeof(struct ir_op), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    m->hash = mmap(NULL, JIT_HASH_SIZE * sizeof(*m->hash), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->by_code == MAP_FAILED || m->ir.ops == MAP_FAILED || m->hash == MAP_FAILED)
        return vireo_fail_errno(error, ENOMEM, "the translator cannot get memory for its tables");
    m->pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    return true;
}

static void region_free(struct jit_region *r)
{
    g_slist_free_full(r->incoming, g_free);
    g_free(r->insns);
    g_free(r->exits);
    if (r->ir)
        g_free(r->ir->ops);
    g_free(r->ir);
    g_free(r);
}

static void drop_all(struct jit_machine *m)
{
    for (unsigned i = 0; i < m->nregions; i++)
        region_free(m->by_code[i]);
    m->nregions = 0;
    madvise((void *)m->hash, JIT_HASH_SIZE * sizeof(*m->hash), MADV_DONTNEED); /* all zero again */
}

void jit_cache_finish(struct jit_machine *m)
{
    if (!m->cache)
        return;
    drop_all(m);
    g_hash_table_unref(m->pages);
    munmap((void *)m->hash, JIT_HASH_SIZE * sizeof(*m->hash));
    munmap(m->by_code, MAX_REGIONS * sizeof(*m->by_code));
    munmap(m->ir.ops, IR_MAX_OPS * sizeof(struct ir_op));
    munmap(m->cache, JIT_CACHE_SIZE);
}

void jit_cache_flush(struct jit_machine *m)
{
    g_mutex_lock(&m->lock);
    drop_all(m);
    const struct jit_slots *s = atomic_load(&m->slots);
    GHashTableIter it;
    gpointer key;
    g_hash_table_iter_init(&it, m->pages);
    while (g_hash_table_iter_next(&it, &key, NULL)) {
        uint64_t gpa = *(uint64_t *)key;
        for (unsigned i = 0; i < s->n; i++)
            if (gpa - s->slot[i].gpa < s->slot[i].size)
                atomic_store(&s->slot[i].has_code[(gpa - s->slot[i].gpa) >> 12], 0);
    }
    g_hash_table_remove_all(m->pages);
    m->cache_next = m->cache_start;
    m->flushes++;
    for (unsigned i = 0; i < m->max_vcpus; i++)
        if (m->vcpus[i]) {
            struct jit_cpu *cpu = m->vcpus[i]->cpu;
            for (unsigned j = 0; j < JIT_JUMPS; j++)
                cpu->jumps[j] = (struct jit_jump){ ~0ull >> 1, NULL };
        }
    atomic_store(&m->want_flush, false);
    g_mutex_unlock(&m->lock);
}

void jit_cache_trim(struct jit_machine *m)
{
    /* Below this much code there is little to win, and an idle guest has just made it again. */
    enum { WORTH_IT = 4 << 20 };
    g_mutex_lock(&m->lock);
    bool worth = m->cache_next - m->cache_start > WORTH_IT;
    g_mutex_unlock(&m->lock);
    if (!worth || atomic_exchange(&m->flushing, true)) /* the other who empties it does not give it back: next time */
        return;
    atomic_store(&m->want_flush, true);
    for (unsigned i = 0; i < m->max_vcpus; i++)
        if (m->vcpus[i])
            atomic_store(&m->vcpus[i]->cpu->attention, 1);
    pthread_rwlock_wrlock(&m->gate);
    jit_cache_flush(m);
    uintptr_t unused = ((uintptr_t)m->cache_start + 4095) & ~(uintptr_t)4095;
    madvise((void *)unused, (uintptr_t)m->cache_end - unused, MADV_DONTNEED); /* seccomp(main): madvise(MADV_DONTNEED) */
    madvise(m->by_code, MAX_REGIONS * sizeof(*m->by_code), MADV_DONTNEED);
    pthread_rwlock_unlock(&m->gate);
    atomic_store(&m->flushing, false);
    malloc_trim(0); /* what described the regions */
}

/* v, which may be running, no longer writes that page directly. */
static void drop_write(struct jit_vcpu *v, uint64_t gpa_page)
{
    uint32_t page = (uint32_t)(gpa_page >> 12);
    jit_spin_lock(&v->tlb_lock);
    for (unsigned mmu = 0; mmu < JIT_NMMU; mmu++)
        for (unsigned i = 0; i < JIT_TLB_SIZE; i += 32) {
            const uint32_t *pages = &v->tlb_page[mmu][i];
            uint32_t hit = 0;
            for (unsigned j = 0; j < 32; j++)
                hit |= (uint32_t)(pages[j] == page);
            for (unsigned j = 0; hit && j < 32; j++)
                if (pages[j] == page)
                    __atomic_store_n(&v->cpu->tlb[mmu][i + j].tag_write, (uint64_t)((i + j) ^ 1) << 12, __ATOMIC_RELAXED);
        }
    jit_spin_unlock(&v->tlb_lock);
}

/* Code is about to be read from this page: from now on writes to it are seen. */
static void mark_page(struct jit_machine *m, uint64_t gpa)
{
    const struct jit_slot *s = jit_slot_of(m, gpa);
    if (!s)
        return;
    if (atomic_exchange(&s->has_code[(gpa - s->gpa) >> 12], 1))
        return;
    for (unsigned i = 0; i < m->max_vcpus; i++)
        if (m->vcpus[i])
            drop_write(m->vcpus[i], gpa & ~0xfffull);
}

static void page_add(struct jit_machine *m, uint64_t page, struct jit_region *r)
{
    GPtrArray *a = g_hash_table_lookup(m->pages, &page);
    if (!a) {
        uint64_t *key = g_new(uint64_t, 1);
        *key = page;
        a = g_ptr_array_new();
        g_hash_table_insert(m->pages, key, a);
    }
    g_ptr_array_add(a, r);
}

static void fetch_fault(struct jit_cpu *cpu, uint64_t rip, uint64_t gva, uint32_t error)
{
    cpu->s.rip = rip;
    cpu->exception_event = JIT_EV_FAULT;
    cpu->exception_next_len = 0;
    cpu->exception_has_error = true;
    if (error == X86_WALK_NONCANONICAL) { /* the word for #GP(0): CS limit, non-canonical rip */
        cpu->exception_vector = X86_GP;
        cpu->exception_error = 0;
        return;
    }
    cpu->s.cr2 = gva;
    cpu->exception_vector = X86_PF;
    cpu->exception_error = error;
}

static bool canonical(const struct jit_cpu *cpu, uint64_t gva)
{
    return !(cpu->mode & JIT_MODE_LMA) || (uint64_t)((int64_t)(gva << 16) >> 16) == gva;
}

static struct jit_region *translate(struct jit_cpu *cpu, uint64_t rip, uint64_t gpa, bool keep, enum jit_leave *ret_leave)
{
    struct jit_machine *m = cpu->machine;
    struct ir_region *ir = &m->ir;
    uint64_t fault_gva = 0, page2 = JIT_NO_PAGE, linear = jit_code_linear(cpu, rip);
    uint32_t fault_error = 0;

    if ((size_t)(m->cache_end - m->cache_next) < JIT_MAX_REGION_BYTES || m->nregions == m->max_regions) {
        atomic_store(&m->want_flush, true);
        *ret_leave = JIT_LEAVE_LOOKUP;
        return NULL;
    }
    mark_page(m, gpa & ~0xfffull);
    unsigned max_insns = (cpu->mode & JIT_MODE_SINGLE) || !jit_slot_of(m, gpa) ? 1 : MAX_INSNS;
    for (;;) {
        ir->rip = rip;
        ir->mode = cpu->mode;
        ir->nops = ir->ntemps = ir->nlabels = ir->ninsns = 0;
        ir->guest_bytes = 0;
        ir->exit_flags_live = X86_FL_ARITH;
        if (!x86_translate(cpu, ir, max_insns, &fault_gva, &fault_error)) {
            fetch_fault(cpu, rip, fault_gva, fault_error);
            *ret_leave = JIT_LEAVE_EXCEPTION;
            return NULL;
        }
        /* The second page is known only now: mark it, and read its bytes again. */
        if ((linear & 0xfff) + ir->guest_bytes <= 0x1000 || page2 != JIT_NO_PAGE)
            break;
        bool global;
        if (!jit_code_gpa(cpu, (linear | 0xfff) + 1, &page2, &global, &fault_error))
            break;
        mark_page(m, page2);
    }
    if ((linear & 0xfff) + ir->guest_bytes <= 0x1000)
        page2 = JIT_NO_PAGE;
    else if (page2 == JIT_NO_PAGE || !jit_slot_of(m, page2))
        keep = false; /* it depends on what is not there (true of this address only), or on a device's bytes */
    if (log_on(LOG_IR)) {
        g_autofree char *text = ir_print(ir);
        log_write(LOG_IR, "region %" G_GINT64_MODIFIER "x mode %x\n%s", rip, cpu->mode, text);
    }
    ir_optimise(ir);
    if (log_on(LOG_IR_OPT)) {
        g_autofree char *text = ir_print(ir);
        log_write(LOG_IR_OPT, "region %" G_GINT64_MODIFIER "x mode %x\n%s", rip, cpu->mode, text);
    }

    struct host_insn_map map[HOST_MAX_INSNS];
    struct host_exit exits[HOST_MAX_EXITS];
    struct host_code code = { .thunks = &m->thunks, .insns = map, .exits = exits };
    uint8_t *at = (uint8_t *)(((uintptr_t)m->cache_next + 15) & ~(uintptr_t)15);
    while (!host_compile(ir, at, (size_t)(m->cache_end - at), &code)) {
        /* Too large for the back end: fewer instructions. */
        if (max_insns <= 1) {
            *ret_leave = JIT_LEAVE_ERROR;
            return NULL;
        }
        max_insns /= 2;
        ir->rip = rip;
        ir->nops = ir->ntemps = ir->nlabels = ir->ninsns = 0;
        ir->guest_bytes = 0;
        if (!x86_translate(cpu, ir, max_insns, &fault_gva, &fault_error)) {
            fetch_fault(cpu, rip, fault_gva, fault_error);
            *ret_leave = JIT_LEAVE_EXCEPTION;
            return NULL;
        }
        ir_optimise(ir);
        if ((linear & 0xfff) + ir->guest_bytes <= 0x1000)
            page2 = JIT_NO_PAGE;
    }
    m->cache_next = at + code.size;
    m->translated_insns += ir->ninsns;
    m->translated_regions++;

    struct jit_region *r = g_new0(struct jit_region, 1);
    r->rip = rip;
    r->cs_base = jit_code_base(cpu);
    r->gpa = gpa;
    r->page2 = page2;
    r->mode = cpu->mode;
    r->guest_bytes = ir->guest_bytes;
    r->scan_lo = (uint16_t)ir->scan_lo;
    r->scan_hi = (uint16_t)ir->scan_hi;
    r->code = at;
    r->entry = at + code.entry_off;
    r->code_size = (uint32_t)code.size;
    r->ninsns = code.ninsns;
    r->insns = g_memdup2(map, code.ninsns * sizeof(*map));
    r->nexits = code.nexits;
    r->exits = g_memdup2(exits, code.nexits * sizeof(*exits));
    log_at(LOG_OUT_ASM, "region %" G_GINT64_MODIFIER "x mode %x gpa %" G_GINT64_MODIFIER "x: %u insns %u bytes -> %p, %u bytes", rip,
           cpu->mode, gpa, ir->ninsns, ir->guest_bytes, (void *)at, r->code_size);

    if (m->interpret) {
        r->ir = g_memdup2(ir, sizeof(*ir));
        r->ir->ops = g_memdup2(ir->ops, ir->nops * sizeof(*ir->ops));
    }
    m->by_code[m->nregions] = r;
    atomic_store_explicit(&m->nregions, m->nregions + 1, memory_order_release);
    if (!keep) {
        atomic_store(&r->dead, true);
        return r;
    }
    page_add(m, gpa & ~0xfffull, r);
    if (page2 != JIT_NO_PAGE)
        page_add(m, page2, r);
    struct jit_region *_Atomic *bucket = &m->hash[jit_hash_of(gpa, rip, cpu->mode)];
    atomic_store_explicit(&r->next, atomic_load(bucket), memory_order_relaxed);
    atomic_store_explicit(bucket, r, memory_order_release);
    return r;
}

#define MAX_INSN_BYTES 15

static void read_device_code(struct jit_cpu *cpu, unsigned i, uint64_t gpa, unsigned size)
{
    struct jit_vcpu *v = cpu->vcpu;
    struct jit_machine *m = cpu->machine;
    v->device_code[i].gpa = gpa & ~0xfffull;
    v->device_code[i].valid = true;
    uint64_t start = __builtin_ia32_rdtsc();
    for (unsigned at = 0; at < size; at++)
        v->device_code[i].page[(gpa & 0xfff) + at] = (uint8_t)m->bus.mmio_read(m->bus_opaque, cpu->index, gpa + at, 1);
    jit_exit_over(v, JIT_EXIT_DEVICE_CODE, start);
}

/* The bus may not be called under the lock: a device that writes RAM takes it while it holds its own. */
static void fetch_device_code(struct jit_cpu *cpu, uint64_t linear, uint64_t gpa)
{
    struct jit_machine *m = cpu->machine;
    unsigned left = 0x1000 - (unsigned)(gpa & 0xfff);
    uint64_t next;
    uint32_t error;
    bool global;
    cpu->vcpu->device_code[0].valid = cpu->vcpu->device_code[1].valid = false;
    if (!jit_slot_of(m, gpa))
        read_device_code(cpu, 0, gpa, MIN(left, MAX_INSN_BYTES));
    if (left < MAX_INSN_BYTES && jit_code_gpa(cpu, linear + left, &next, &global, &error) && !jit_slot_of(m, next))
        read_device_code(cpu, 1, next, MAX_INSN_BYTES - left);
}

struct jit_region *jit_cache_get(struct jit_cpu *cpu, uint64_t rip, enum jit_leave *ret_leave)
{
    struct jit_machine *m = cpu->machine;
    uint64_t gpa, linear = jit_code_linear(cpu, rip);
    uint32_t error;
    bool global;
    if (!canonical(cpu, linear)) {
        fetch_fault(cpu, rip, linear, X86_WALK_NONCANONICAL);
        *ret_leave = JIT_LEAVE_EXCEPTION;
        return NULL;
    }
    if (!jit_code_gpa(cpu, linear, &gpa, &global, &error)) {
        fetch_fault(cpu, rip, linear, error);
        *ret_leave = JIT_LEAVE_EXCEPTION;
        return NULL;
    }
    bool keep = !(cpu->mode & (JIT_MODE_SINGLE & ~JIT_MODE_SHADOW)) && jit_slot_of(m, gpa);
    struct jit_region *r = keep ? jit_cache_find(cpu, rip, gpa) : NULL;
    if (r)
        return r;
    if (!jit_slot_of(m, gpa) || (gpa & 0xfff) > 0x1000 - MAX_INSN_BYTES)
        fetch_device_code(cpu, linear, gpa);
    g_mutex_lock(&m->lock);
    r = keep ? jit_cache_find(cpu, rip, gpa) : NULL;
    if (!r)
        r = translate(cpu, rip, gpa, keep, ret_leave);
    g_mutex_unlock(&m->lock);
    return r;
}

/* jit_lookup_jump found nothing: returns the entry of the region at rip, or 0 when the run loop must look. */
uint64_t jit_cache_lookup_slow(void *p, uint64_t rip, uint64_t unused1, uint64_t unused2)
{
    struct jit_cpu *cpu = p;
    enum jit_leave leave;
    cpu->vcpu->slow_lookups++;
    uint64_t gpa, cr2 = cpu->s.cr2;
    uint32_t error;
    bool global;
    struct jit_region *r = jit_cache_get(cpu, rip, &leave);
    if (!r) {
        cpu->s.cr2 = cr2;
        return 0;
    }
    if (!atomic_load(&r->dead) && jit_code_gpa(cpu, jit_code_linear(cpu, rip), &gpa, &global, &error))
        jit_jump_insert(cpu, rip, r, global);
    return (uint64_t)(uintptr_t)r->entry;
}

static struct host_exit *exit_at(struct jit_region *r, const uint8_t *stub_ret)
{
    /* The stub is a five-byte call: its return address is stub_off + 5. */
    for (unsigned i = 0; i < r->nexits; i++)
        if (r->code + r->exits[i].stub_off + 5 == stub_ret)
            return &r->exits[i];
    return NULL;
}

/* Where an exit of `from` may be patched to. Whoever runs `from` has its pages mapped, and no others for certain: a target that
 * goes on into another page is looked up each time, since what lies there may differ from one address space to the next. */
static const void *chain_to(struct jit_machine *m, const struct jit_region *from, struct jit_region *to)
{
    uint64_t page = to->gpa & ~0xfffull;
    if (page != (from->gpa & ~0xfffull) && page != from->page2)
        return NULL; /* the page tables changed under it */
    if (to->page2 == JIT_NO_PAGE || to->page2 == from->page2)
        return to->entry;
    if (!to->via && (size_t)(m->cache_end - m->cache_next) >= JIT_MAX_REGION_BYTES) {
        uint8_t *at = (uint8_t *)(((uintptr_t)m->cache_next + 15) & ~(uintptr_t)15);
        bool relative = jit_mode_relative(to->mode);
        size_t size = host_make_jump(at, JIT_MAX_REGION_BYTES / 2, &m->thunks, relative ? to->gpa & 0xfff : to->rip, relative);
        if (size) {
            m->cache_next = at + size;
            to->via = at;
        }
    }
    return to->via;
}

uint64_t jit_cache_chain(void *p, uint64_t stub_ret_at, uint64_t unused1, uint64_t unused2)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    const uint8_t *stub_ret = (const uint8_t *)(uintptr_t)stub_ret_at;
    struct jit_region *from = (struct jit_region *)jit_region_of(m, stub_ret - 1);
    enum jit_leave leave;
    uint64_t target;
    struct host_exit *e = NULL;
    if (stub_ret == from->entry + 5) {
        target = jit_region_rip(cpu, from); /* the entry of a dead region */
    } else {
        e = exit_at(from, stub_ret);
        target = e->relative ? cpu->rip_base + e->target : e->target;
    }
    cpu->s.rip = target;
    uint64_t cr2 = cpu->s.cr2;
    struct jit_region *to = jit_cache_get(cpu, target, &leave);
    if (!to) {
        cpu->s.cr2 = cr2;
        return 0;
    }
    g_mutex_lock(&m->lock);
    const void *at = NULL;
    if (e && !atomic_load(&from->dead) && !atomic_load(&to->dead) && !(cpu->mode & JIT_MODE_SINGLE))
        at = chain_to(m, from, to);
    if (at) {
        host_patch_exit(from->code, e, at);
        struct jit_link *l = g_new(struct jit_link, 1);
        *l = (struct jit_link){ from, (unsigned)(e - from->exits) };
        to->incoming = g_slist_prepend(to->incoming, l);
    }
    g_mutex_unlock(&m->lock);
    return (uint64_t)(uintptr_t)to->entry;
}

static void hash_remove(struct jit_machine *m, struct jit_region *r)
{
    struct jit_region *_Atomic *at = &m->hash[jit_hash_of(r->gpa, r->rip, r->mode)];
    for (struct jit_region *i = atomic_load(at); i; at = &i->next, i = atomic_load(at))
        if (i == r) {
            /* r->next stays: a reader may be standing on r */
            atomic_store_explicit(at, atomic_load(&r->next), memory_order_release);
            return;
        }
}

/* Makes the entry lead to jit_chain, which finds what is there now. The first instruction of a region, its interrupt check, is
 * longer than the five bytes of the call, and the entry is 16-byte aligned: one 8-byte store. */
static void patch_entry(struct jit_machine *m, struct jit_region *r)
{
    uint64_t word = __atomic_load_n((uint64_t *)r->entry, __ATOMIC_RELAXED);
    int32_t rel = (int32_t)((const uint8_t *)m->thunks.chain - (r->entry + 5));
    word = (word & 0xffffff0000000000ull) | 0xe8 | (uint64_t)(uint32_t)rel << 8;
    __atomic_store_n((uint64_t *)r->entry, word, __ATOMIC_SEQ_CST);
}

static void region_kill(struct jit_machine *m, struct jit_region *r)
{
    atomic_store(&r->dead, true);
    hash_remove(m, r);
    for (GSList *l = r->incoming; l; l = l->next) {
        struct jit_link *link = l->data;
        host_patch_exit(link->from->code, &link->from->exits[link->exit], NULL);
    }
    g_slist_free_full(r->incoming, g_free);
    r->incoming = NULL;
    patch_entry(m, r);
    m->invalidated++;
}

static bool touches(uint64_t start, uint64_t len, uint64_t gpa, uint64_t size)
{
    return len && start < gpa + size && gpa < start + len;
}

/* What was read for the region, the code it looked ahead at included. */
static bool overlaps(const struct jit_region *r, uint64_t page, uint64_t gpa, uint64_t size)
{
    uint64_t first_len = MIN(r->guest_bytes, 0x1000 - (r->gpa & 0xfff));
    if ((r->gpa & ~0xfffull) == page &&
        (touches(r->gpa, first_len, gpa, size) || touches(page + r->scan_lo, r->scan_hi - r->scan_lo, gpa, size)))
        return true;
    return r->page2 == page && touches(page, r->guest_bytes - first_len, gpa, size);
}

static bool invalidate_page(struct jit_machine *m, uint64_t page, uint64_t gpa, uint64_t size, const struct jit_region *running)
{
    GPtrArray *a = g_hash_table_lookup(m->pages, &page);
    if (!a) { /* marked for code that was not kept */
        const struct jit_slot *s = jit_slot_of(m, page);
        if (s)
            atomic_store(&s->has_code[(page - s->gpa) >> 12], 0);
        return false;
    }
    bool any = false;
    for (unsigned i = 0; running && i < a->len; i++)
        if (a->pdata[i] == running && overlaps(running, page, gpa, size))
            return true;
    for (unsigned i = 0; i < a->len;) {
        struct jit_region *r = a->pdata[i];
        if (!atomic_load(&r->dead) && !overlaps(r, page, gpa, size)) {
            i++;
            continue;
        }
        if (!atomic_load(&r->dead)) {
            region_kill(m, r);
            any = true;
        }
        g_ptr_array_remove_index_fast(a, i);
    }
    if (a->len == 0) {
        const struct jit_slot *s = jit_slot_of(m, page);
        if (s)
            atomic_store(&s->has_code[(page - s->gpa) >> 12], 0);
        g_hash_table_remove(m->pages, &page);
    }
    if (any) /* somebody may be looping inside a dead region */
        for (unsigned i = 0; i < m->max_vcpus; i++)
            if (m->vcpus[i])
                atomic_store(&m->vcpus[i]->cpu->attention, 1);
    return false;
}

bool jit_cache_invalidate(struct jit_machine *m, uint64_t gpa, uint64_t size, const struct jit_region *running)
{
    bool hit = false;
    g_mutex_lock(&m->lock);
    for (uint64_t page = gpa & ~0xfffull; page < gpa + size && !hit; page += 0x1000) {
        const struct jit_slot *s = jit_slot_of(m, page);
        if (s && atomic_load(&s->has_code[(page - s->gpa) >> 12]))
            hit = invalidate_page(m, page, gpa, size, running);
    }
    g_mutex_unlock(&m->lock);
    return hit;
}

uint64_t jit_cache_write_heavy(void *p, uint64_t gpa, uint64_t size, uint64_t running)
{
    struct jit_cpu *cpu = p;
    return jit_cache_invalidate(cpu->machine, gpa, size, (const struct jit_region *)(uintptr_t)running);
}

const uint8_t *jit_fetch_page(struct jit_cpu *cpu, uint64_t gva, uint32_t *ret_error)
{
    struct jit_machine *m = cpu->machine;
    uint64_t gpa;
    bool global;
    if (!canonical(cpu, gva)) {
        *ret_error = X86_WALK_NONCANONICAL;
        return NULL;
    }
    if (!jit_code_gpa(cpu, gva, &gpa, &global, ret_error))
        return NULL;
    gpa &= ~0xfffull;
    const struct jit_slot *s = jit_slot_of(m, gpa);
    if (s)
        return s->host + (gpa - s->gpa);
    for (unsigned i = 0; i < 2; i++)
        if (cpu->vcpu->device_code[i].valid && cpu->vcpu->device_code[i].gpa == gpa)
            return cpu->vcpu->device_code[i].page;
    *ret_error = X86_WALK_NONCANONICAL; /* only asked for beyond the first instruction: the region ends there */
    return NULL;
}
