/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inline TLB: filling and dropping entries. Light code (jit_cpu.h).
 */
#include "accel/jit/engine/jit_engine.h"

static unsigned tlb_index(const struct jit_cpu *cpu, uint64_t gva)
{
    return (unsigned)(gva >> 7 & cpu->tlb_mask) >> 5;
}

static void entry_clear(struct jit_tlb_entry *e, unsigned index)
{
    uint64_t never = (uint64_t)(index ^ 1) << 12;
    e->tag_read = never;
    e->tag_write = never;
}

static void table_clear(struct jit_cpu *cpu, unsigned mmu)
{
    for (unsigned i = 0; i <= cpu->tlb_mask >> 5; i++)
        entry_clear(&cpu->tlb[mmu][i], i);
    cpu->vcpu->nfilled[mmu] = 0;
}

void jit_tlb_init(struct jit_cpu *cpu)
{
    cpu->tlb_mask = (JIT_TLB_SIZE - 1) << 5;
    for (unsigned mmu = 0; mmu < JIT_NMMU; mmu++)
        table_clear(cpu, mmu);
}

/* Contexts (jump cache keys) of kind 0: CPL 0; kind 1: the others. A key is never used again for another context until
 * the counter wraps, and then the whole jump cache is emptied. */
static void contexts_drop(struct jit_cpu *cpu, unsigned kind)
{
    struct jit_vcpu *v = cpu->vcpu;
    v->ncontexts[kind] = 0;
}

static void refresh_key(struct jit_cpu *cpu)
{
    struct jit_vcpu *v = cpu->vcpu;
    unsigned kind = JIT_MODE_CPL(cpu->mode) != 0;
    uint64_t base = jit_code_base(cpu);
    struct jit_context *c = v->contexts[kind];
    for (unsigned i = 0; i < v->ncontexts[kind]; i++)
        if (c[i].mode == cpu->mode && c[i].cs_base == base) {
            cpu->jump_key = c[i].key;
            return;
        }
    if (++v->next_context == 0x10000) {
        v->next_context = 1;
        v->ncontexts[0] = v->ncontexts[1] = 0;
        for (unsigned i = 0; i < JIT_JUMPS; i++)
            cpu->jumps[i].key = ~0ull >> 1;
    }
    unsigned at = v->ncontexts[kind] < JIT_NCONTEXTS ? v->ncontexts[kind]++ : v->context_turn[kind]++ % JIT_NCONTEXTS;
    c[at] = (struct jit_context){ cpu->mode, base, v->next_context << 48 };
    cpu->jump_key = c[at].key;
}

static void xtlb_drop(struct jit_vcpu *v, bool global_too)
{
    for (unsigned u = 0; u < 2; u++)
        for (unsigned i = 0; i < JIT_XTLB; i++)
            if (global_too || !v->xtlb[u][i].global)
                v->xtlb[u][i].valid = false;
}

void jit_tlb_flush(struct jit_cpu *cpu)
{
    for (unsigned mmu = 0; mmu < JIT_NMMU; mmu++)
        table_clear(cpu, mmu);
    xtlb_drop(cpu->vcpu, true);
    contexts_drop(cpu, 0);
    contexts_drop(cpu, 1);
    jit_zero(cpu->vcpu->code_pages, sizeof(cpu->vcpu->code_pages));
    cpu->vcpu->kernel_nonglobal_code = false;
    refresh_key(cpu);
}

void jit_tlb_flush_nonglobal(struct jit_cpu *cpu)
{
    struct jit_vcpu *v = cpu->vcpu;
    for (unsigned mmu = 0; mmu < JIT_NMMU; mmu++) {
        if (v->nfilled[mmu] > JIT_FILL_LOG) {
            table_clear(cpu, mmu);
            continue;
        }
        for (unsigned i = 0; i < v->nfilled[mmu]; i++)
            entry_clear(&cpu->tlb[mmu][v->filled[mmu][i]], v->filled[mmu][i]);
        v->nfilled[mmu] = 0;
    }
    xtlb_drop(v, false);
    contexts_drop(cpu, 1);
    if (v->kernel_nonglobal_code) {
        contexts_drop(cpu, 0);
        v->kernel_nonglobal_code = false;
    }
    refresh_key(cpu);
}

void jit_tlb_flush_page(struct jit_cpu *cpu, uint64_t gva)
{
    struct jit_vcpu *v = cpu->vcpu;
    unsigned i = tlb_index(cpu, gva);
    for (unsigned mmu = 0; mmu < JIT_NMMU; mmu++)
        entry_clear(&cpu->tlb[mmu][i], i);
    for (unsigned u = 0; u < 2; u++) {
        struct jit_xtlb_entry *e = &v->xtlb[u][(gva >> 12) % JIT_XTLB];
        if (e->valid && e->page == gva >> 12)
            e->valid = false;
    }
    if (!jit_code_page_known(v, gva >> 12))
        return; /* a data page, as nearly all are */
    contexts_drop(cpu, 0);
    contexts_drop(cpu, 1);
    jit_zero(v->code_pages, sizeof(v->code_pages));
    refresh_key(cpu);
}

void jit_mode_changed(struct jit_cpu *cpu)
{
    for (unsigned i = 0; i < X86_NSEG; i++)
        cpu->seg_base[i] = cpu->s.seg[i].base;
    cpu->mode = x86_mode(cpu) | (cpu->vcpu->isolated ? JIT_MODE_ONE : 0);
    refresh_key(cpu);
    jit_check_interrupts(cpu);
}

void jit_check_interrupts(struct jit_cpu *cpu)
{
    if (atomic_load_explicit(&cpu->pending, memory_order_relaxed))
        atomic_store_explicit(&cpu->attention, 1, memory_order_relaxed);
}

/* Puts the page of gva into the table. Returns the host address of gva, or NULL when it is not RAM that this access may
 * touch directly (then *ret_gpa is the address for the bus). */
static uint8_t *tlb_fill(struct jit_cpu *cpu, uint64_t gva, const struct x86_walk *w, unsigned kind, unsigned mmu)
{
    struct jit_vcpu *v = cpu->vcpu;
    uint64_t gpa_page = w->gpa & ~0xfffull;
    const struct jit_slot *slot = jit_slot_of(cpu->machine, gpa_page);
    v->tlb_fills++;
    if (!slot || (slot->readonly && (kind & JIT_ACC_WRITE)))
        return NULL;
    unsigned i = tlb_index(cpu, gva);
    struct jit_tlb_entry *e = &cpu->tlb[mmu][i];
    uint64_t never = (uint64_t)(i ^ 1) << 12, page = gva & ~0xfffull, slot_page = (gpa_page - slot->gpa) >> 12;
    uint8_t *host = slot->host + (gpa_page - slot->gpa);
    if (!w->global) {
        if (v->nfilled[mmu] < JIT_FILL_LOG)
            v->filled[mmu][v->nfilled[mmu]] = (uint16_t)i;
        if (v->nfilled[mmu] <= JIT_FILL_LOG)
            v->nfilled[mmu]++;
    }
    if ((kind & JIT_ACC_WRITE) || (w->writable && w->dirty))
        jit_mark_dirty(cpu->machine, slot, gpa_page);
    jit_spin_lock(&v->tlb_lock);
    bool code = atomic_load_explicit(&slot->has_code[slot_page], memory_order_seq_cst);
    e->tag_write = never; /* the entry is never half right for the other vCPU's scan */
    v->tlb_page[mmu][i] = (uint32_t)(gpa_page >> 12);
    e->host = (uint64_t)(uintptr_t)host;
    e->tag_read = page;
    e->tag_write = w->writable && w->dirty && !slot->readonly && !code ? page : never;
    jit_spin_unlock(&v->tlb_lock);
    return host + (gva & 0xfff);
}

static void check_canonical(struct jit_cpu *cpu, uint64_t gva)
{
    if ((cpu->mode & JIT_MODE_LMA) && (uint64_t)((int64_t)(gva << 16) >> 16) != gva)
        jit_raise(cpu, X86_GP, true, 0);
}

static void walk(struct jit_cpu *cpu, uint64_t gva, unsigned kind, unsigned mmu, struct x86_walk *w)
{
    check_canonical(cpu, gva);
    if (!x86_walk(cpu, gva, kind & JIT_ACC_WRITE ? X86_ACC_WRITE : X86_ACC_READ, (enum jit_mmu)mmu, w)) {
        if (w->error == X86_WALK_NONCANONICAL)
            jit_raise(cpu, X86_GP, true, 0);
        jit_raise_pf(cpu, gva, w->error);
    }
}

/* A write is about to hit a page that code was translated from. */
static void write_to_code(struct jit_cpu *cpu, uint64_t gpa, unsigned size, bool may_restart)
{
    const struct jit_slot *slot = jit_slot_of(cpu->machine, gpa);
    if (!slot || !atomic_load_explicit(&slot->has_code[(gpa - slot->gpa) >> 12], memory_order_acquire))
        return;
    const struct jit_region *running = NULL;
    if (may_restart && cpu->in_code && !(cpu->mode & JIT_MODE_ONE))
        running = jit_region_of(cpu->machine, ((const uint8_t *const *)cpu)[-1]);
    if (jit_heavy(cpu, jit_cache_write_heavy, cpu, gpa, size, (uint64_t)(uintptr_t)running))
        jit_restart_isolated(cpu);
}

static uint64_t heavy_mmio_read(void *p, uint64_t gpa, uint64_t size, uint64_t unused)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    uint64_t start = __builtin_ia32_rdtsc();
    uint64_t value = m->bus.mmio_read(m->bus_opaque, cpu->index, gpa, (unsigned)size);
    jit_exit_over(cpu->vcpu, JIT_EXIT_MMIO_READ, start);
    return value;
}

static uint64_t heavy_mmio_write(void *p, uint64_t gpa, uint64_t size, uint64_t value)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    uint64_t start = __builtin_ia32_rdtsc();
    m->bus.mmio_write(m->bus_opaque, cpu->index, gpa, (unsigned)size, value);
    jit_exit_over(cpu->vcpu, JIT_EXIT_MMIO_WRITE, start);
    return 0;
}

static unsigned piece(uint64_t gpa, unsigned left) /* largest naturally sized access, at most 8, within a page */
{
    unsigned n = 8;
    while (n > left || (gpa & 0xfff) + n > 0x1000)
        n >>= 1;
    return n;
}

static void phys_read(struct jit_cpu *cpu, uint64_t gpa, uint8_t *ret, unsigned size)
{
    const struct jit_slot *slot = jit_slot_of(cpu->machine, gpa);
    if (slot) {
        jit_copy(ret, slot->host + (gpa - slot->gpa), size);
        return;
    }
    while (size) {
        unsigned n = piece(gpa, size);
        uint64_t v = jit_heavy(cpu, heavy_mmio_read, cpu, gpa, n, 0);
        jit_copy(ret, &v, n);
        gpa += n, ret += n, size -= n;
    }
}

static void phys_write(struct jit_cpu *cpu, uint64_t gpa, const uint8_t *data, unsigned size, bool may_restart)
{
    const struct jit_slot *slot = jit_slot_of(cpu->machine, gpa);
    if (slot && !slot->readonly) {
        write_to_code(cpu, gpa, size, may_restart);
        jit_copy(slot->host + (gpa - slot->gpa), data, size);
        jit_mark_dirty(cpu->machine, slot, gpa);
        return;
    }
    while (size) {
        unsigned n = piece(gpa, size);
        uint64_t v = 0;
        jit_copy(&v, data, n);
        jit_heavy(cpu, heavy_mmio_write, cpu, gpa, n, v);
        gpa += n, data += n, size -= n;
    }
}

/* Both pages of an access that may cross one. second->gpa is where its part in the next page lies. */
static unsigned walk_both(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned kind, unsigned mmu, struct x86_walk w[2])
{
    unsigned first = 0x1000 - (unsigned)(gva & 0xfff);
    if (first >= size)
        first = size;
    else
        check_canonical(cpu, gva + size - 1); /* comes before any page fault */
    walk(cpu, gva, kind, mmu, &w[0]);
    if (first < size) {
        uint64_t next = gva + first;
        if (!(cpu->mode & JIT_MODE_LMA))
            next = (uint32_t)next;
        walk(cpu, next, kind, mmu, &w[1]);
    }
    return first;
}

void *jit_mem_slow(struct jit_cpu *cpu, uint64_t gva, uint32_t desc)
{
    unsigned size = JIT_ACC_SIZE(desc), kind = desc & (JIT_ACC_READ | JIT_ACC_WRITE), mmu = JIT_ACC_MMU(desc);
    struct x86_walk w[2];
    cpu->bounce_desc = 0;
    unsigned first = walk_both(cpu, gva, size, kind, mmu, w);
    if (first == size) {
        uint8_t *host = tlb_fill(cpu, gva, &w[0], kind, mmu);
        if (host) {
            if (kind & JIT_ACC_WRITE)
                write_to_code(cpu, w[0].gpa, size, true);
            return host;
        }
    }
    if (kind & JIT_ACC_WRITE) {
        /* The commit must find everything in order: what would restart the instruction has to do so now. */
        write_to_code(cpu, w[0].gpa, first, true);
        if (first < size)
            write_to_code(cpu, w[1].gpa, size - first, true);
        cpu->bounce_gva = gva;
        cpu->bounce_desc = desc;
    }
    if (kind & JIT_ACC_READ) {
        phys_read(cpu, w[0].gpa, cpu->bounce, first);
        if (first < size)
            phys_read(cpu, w[1].gpa, cpu->bounce + first, size - first);
    }
    return cpu->bounce;
}

void jit_mem_commit(struct jit_cpu *cpu)
{
    uint32_t desc = cpu->bounce_desc;
    if (!desc)
        return;
    unsigned size = JIT_ACC_SIZE(desc), mmu = JIT_ACC_MMU(desc);
    struct x86_walk w[2];
    cpu->bounce_desc = 0;
    unsigned first = walk_both(cpu, cpu->bounce_gva, size, JIT_ACC_WRITE, mmu, w);
    phys_write(cpu, w[0].gpa, cpu->bounce, first, false);
    if (first < size)
        phys_write(cpu, w[1].gpa, cpu->bounce + first, size - first, false);
}

void *jit_host_ptr(struct jit_cpu *cpu, uint64_t gva, uint32_t desc, unsigned *ret_left)
{
    unsigned size = JIT_ACC_SIZE(desc), kind = desc & (JIT_ACC_READ | JIT_ACC_WRITE), mmu = JIT_ACC_MMU(desc);
    unsigned left = 0x1000 - (unsigned)(gva & 0xfff);
    if (ret_left)
        *ret_left = left;
    if (left < size)
        return NULL;
    const struct jit_tlb_entry *e = &cpu->tlb[mmu][tlb_index(cpu, gva)];
    uint64_t page = gva & ~0xfffull;
    if ((!(kind & JIT_ACC_READ) || e->tag_read == page) && (!(kind & JIT_ACC_WRITE) || e->tag_write == page))
        return (uint8_t *)(uintptr_t)e->host + (gva & 0xfff);
    struct x86_walk w;
    walk(cpu, gva, kind, mmu, &w);
    uint8_t *host = tlb_fill(cpu, gva, &w, kind, mmu);
    if (host && (kind & JIT_ACC_WRITE)) {
        const struct jit_slot *slot = jit_slot_of(cpu->machine, w.gpa);
        if (atomic_load_explicit(&slot->has_code[(w.gpa - slot->gpa) >> 12], memory_order_acquire))
            return NULL; /* element by element, through the exact check */
    }
    return host;
}

void jit_probe(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned kind, unsigned mmu)
{
    struct x86_walk w[2];
    walk_both(cpu, gva, size, kind, mmu, w);
}

void jit_load_bytes(struct jit_cpu *cpu, uint64_t gva, void *ret, unsigned size, unsigned mmu)
{
    uint8_t *to = ret;
    if ((gva & 0xfff) + size > 0x1000)
        jit_probe(cpu, gva, size, JIT_ACC_READ, mmu);
    while (size) {
        unsigned n = 0x1000 - (unsigned)(gva & 0xfff);
        n = n < size ? n : size;
        void *host = jit_host_ptr(cpu, gva, JIT_ACC(1, JIT_ACC_READ, mmu), NULL);
        if (host) {
            jit_copy(to, host, n);
        } else {
            struct x86_walk w;
            walk(cpu, gva, JIT_ACC_READ, mmu, &w);
            phys_read(cpu, w.gpa, to, n);
        }
        gva += n, to += n, size -= n;
    }
}

void jit_store_bytes(struct jit_cpu *cpu, uint64_t gva, const void *src, unsigned size, unsigned mmu)
{
    const uint8_t *from = src;
    if ((gva & 0xfff) + size > 0x1000)
        jit_probe(cpu, gva, size, JIT_ACC_WRITE, mmu);
    while (size) {
        unsigned n = 0x1000 - (unsigned)(gva & 0xfff);
        n = n < size ? n : size;
        void *host = jit_host_ptr(cpu, gva, JIT_ACC(1, JIT_ACC_WRITE, mmu), NULL);
        if (host) {
            jit_copy(host, from, n);
        } else {
            struct x86_walk w;
            walk(cpu, gva, JIT_ACC_WRITE, mmu, &w);
            phys_write(cpu, w.gpa, from, n, true);
        }
        gva += n, from += n, size -= n;
    }
}

uint64_t jit_load(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu)
{
    void *host = jit_host_ptr(cpu, gva, JIT_ACC(size, JIT_ACC_READ, mmu), NULL);
    uint64_t v = 0;
    if (!host) {
        jit_load_bytes(cpu, gva, &v, size, mmu);
        return v;
    }
    switch (size) {
    case 1: return *(volatile uint8_t *)host;
    case 2: return *(volatile uint16_t *)host;
    case 4: return *(volatile uint32_t *)host;
    default: return *(volatile uint64_t *)host;
    }
}

void jit_store(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu, uint64_t value)
{
    void *host = jit_host_ptr(cpu, gva, JIT_ACC(size, JIT_ACC_WRITE, mmu), NULL);
    if (!host) {
        jit_store_bytes(cpu, gva, &value, size, mmu);
        return;
    }
    switch (size) {
    case 1: *(volatile uint8_t *)host = (uint8_t)value; break;
    case 2: *(volatile uint16_t *)host = (uint16_t)value; break;
    case 4: *(volatile uint32_t *)host = (uint32_t)value; break;
    default: *(volatile uint64_t *)host = value; break;
    }
}
