/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest physical memory, ports, finding code by guest address and by host address, raising exceptions: what
 * generated code and its helpers call that is not the TLB. Light code (jit_cpu.h).
 */
#include "accel/jit/engine/jit_engine.h"

uint64_t jit_phys_load(struct jit_cpu *cpu, uint64_t gpa, unsigned size)
{
    const struct jit_slot *slot = jit_slot_of(cpu->machine, gpa);
    if (!slot)
        return size == 8 ? ~0ull : 0xffffffffull;
    const void *p = slot->host + (gpa - slot->gpa);
    return size == 8 ? __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED)
                     : __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
}

bool jit_phys_cas(struct jit_cpu *cpu, uint64_t gpa, unsigned size, uint64_t old, uint64_t new_value)
{
    const struct jit_slot *slot = jit_slot_of(cpu->machine, gpa);
    if (!slot || slot->readonly)
        return true; /* page tables in ROM: accessed bits do not stick */
    void *p = slot->host + (gpa - slot->gpa);
    jit_mark_dirty(cpu->machine, slot, gpa);
    if (size == 8)
        return __atomic_compare_exchange_n((uint64_t *)p, &old, new_value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    uint32_t old32 = (uint32_t)old;
    return __atomic_compare_exchange_n((uint32_t *)p, &old32, (uint32_t)new_value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static uint64_t heavy_pio_read(void *p, uint64_t port, uint64_t size, uint64_t unused)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    uint64_t start = __builtin_ia32_rdtsc();
    uint64_t value = m->bus.pio_read(m->bus_opaque, cpu->index, (uint16_t)port, (unsigned)size);
    jit_exit_over(cpu->vcpu, JIT_EXIT_PORT_READ, start);
    return value;
}

static uint64_t heavy_pio_write(void *p, uint64_t port, uint64_t size, uint64_t value)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    uint64_t start = __builtin_ia32_rdtsc();
    m->bus.pio_write(m->bus_opaque, cpu->index, (uint16_t)port, (unsigned)size, value);
    jit_exit_over(cpu->vcpu, JIT_EXIT_PORT_WRITE, start);
    return 0;
}

uint64_t jit_pio_read(struct jit_cpu *cpu, unsigned port, unsigned size)
{
    return jit_heavy(cpu, heavy_pio_read, cpu, port, size, 0);
}

void jit_pio_write(struct jit_cpu *cpu, unsigned port, unsigned size, uint64_t value)
{
    jit_heavy(cpu, heavy_pio_write, cpu, port, size, value);
}

static uint64_t heavy_tpr(void *p, uint64_t write, uint64_t value, uint64_t unused)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    uint64_t start = __builtin_ia32_rdtsc();
    if (write)
        m->bus.set_tpr(m->bus_opaque, cpu->index, (unsigned)value);
    else
        value = m->bus.get_tpr(m->bus_opaque, cpu->index);
    jit_exit_over(cpu->vcpu, JIT_EXIT_TPR, start);
    return value;
}

unsigned jit_get_tpr(struct jit_cpu *cpu)
{
    return (unsigned)jit_heavy(cpu, heavy_tpr, cpu, 0, 0, 0);
}

void jit_set_tpr(struct jit_cpu *cpu, unsigned tpr)
{
    jit_heavy(cpu, heavy_tpr, cpu, 1, tpr, 0);
}

static uint64_t heavy_msr(void *p, uint64_t write, uint64_t index, uint64_t value_at)
{
    struct jit_cpu *cpu = p;
    struct jit_machine *m = cpu->machine;
    uint64_t *value = (uint64_t *)(uintptr_t)value_at;
    uint64_t start = __builtin_ia32_rdtsc();
    bool ok = write ? m->bus.msr_write(m->bus_opaque, cpu->index, (uint32_t)index, *value)
                    : m->bus.msr_read(m->bus_opaque, cpu->index, (uint32_t)index, value);
    jit_exit_over(cpu->vcpu, write ? JIT_EXIT_MSR_WRITE : JIT_EXIT_MSR_READ, start);
    return ok;
}

bool jit_bus_msr(struct jit_cpu *cpu, bool write, uint32_t index, uint64_t *value)
{
    return jit_heavy(cpu, heavy_msr, cpu, write, index, (uint64_t)(uintptr_t)value);
}

uint64_t jit_heavy(struct jit_cpu *cpu, uint64_t (*fn)(void *, uint64_t, uint64_t, uint64_t), void *self, uint64_t a,
                   uint64_t b, uint64_t c)
{
    return cpu->vec_saved ? fn(self, a, b, c) : cpu->machine->thunks.heavy(cpu, fn, self, a, b, c);
}

/* ---- finding code ---- */

bool jit_code_gpa(struct jit_cpu *cpu, uint64_t gva, uint64_t *ret_gpa, bool *ret_global, uint32_t *ret_error)
{
    struct jit_vcpu *v = cpu->vcpu;
    unsigned user = JIT_MODE_CPL(cpu->mode) == 3;
    struct jit_xtlb_entry *e = &v->xtlb[user][(gva >> 12) % JIT_XTLB];
    if (!e->valid || e->page != gva >> 12) {
        struct x86_walk w;
        if (!x86_walk(cpu, gva, X86_ACC_EXEC, user ? JIT_MMU_USER : JIT_MMU_KERNEL, &w)) {
            *ret_error = w.error;
            return false;
        }
        e->page = gva >> 12;
        e->gpa = w.gpa & ~0xfffull;
        e->global = w.global;
        e->valid = true;
    }
    *ret_gpa = e->gpa | (gva & 0xfff);
    *ret_global = e->global;
    return true;
}

static unsigned hash_of(uint64_t gpa, uint64_t rip, uint32_t mode)
{
    if (jit_mode_relative(mode))
        rip = 0; /* found at any */
    uint64_t h = gpa * 0x9e3779b97f4a7c15ull ^ rip * 0xc2b2ae3d27d4eb4full ^ mode * 0x165667b19e3779f9ull;
    return (unsigned)(h >> 36) & (JIT_HASH_SIZE - 1);
}

struct jit_region *jit_cache_find(struct jit_cpu *cpu, uint64_t rip, uint64_t gpa)
{
    struct jit_region *r = atomic_load_explicit(&cpu->machine->hash[hash_of(gpa, rip, cpu->mode)], memory_order_acquire);
    bool relative = jit_mode_relative(cpu->mode);
    for (; r; r = atomic_load_explicit(&r->next, memory_order_acquire)) {
        if (r->gpa != gpa || r->mode != cpu->mode || (!relative && (r->rip != rip || r->cs_base != jit_code_base(cpu))) ||
            atomic_load_explicit(&r->dead, memory_order_relaxed))
            continue;
        if (r->page2 == JIT_NO_PAGE)
            return r;
        uint64_t gpa2;
        uint32_t error;
        bool global;
        if (jit_code_gpa(cpu, (jit_code_linear(cpu, rip) | 0xfff) + 1, &gpa2, &global, &error) && gpa2 == r->page2)
            return r;
    }
    return NULL;
}

unsigned jit_hash_of(uint64_t gpa, uint64_t rip, uint32_t mode)
{
    return hash_of(gpa, rip, mode);
}

void jit_jump_insert(struct jit_cpu *cpu, uint64_t rip, const struct jit_region *r, bool global)
{
    struct jit_jump *j = &cpu->jumps[jit_jump_index(rip)];
    j->key = rip ^ cpu->jump_key;
    j->code = r->entry;
    uint64_t page = jit_code_linear(cpu, rip) >> 12;
    jit_code_page_set(cpu->vcpu, page);
    if (r->page2 != JIT_NO_PAGE)
        jit_code_page_set(cpu->vcpu, page + 1);
    if (!global && JIT_MODE_CPL(cpu->mode) == 0)
        cpu->vcpu->kernel_nonglobal_code = true;
}

static const void *lookup_jump(struct jit_cpu *cpu, uint64_t rip)
{
    uint64_t gpa;
    uint32_t error;
    bool global;
    cpu->vcpu->lookups++;
    if (!(cpu->mode & JIT_MODE_SINGLE) && jit_code_gpa(cpu, jit_code_linear(cpu, rip), &gpa, &global, &error)) {
        struct jit_region *r = jit_cache_find(cpu, rip, gpa);
        if (r) {
            jit_jump_insert(cpu, rip, r, global);
            return r->entry;
        }
    }
    cpu->s.rip = rip;
    if (cpu->mode & JIT_MODE_SINGLE)
        cpu->machine->thunks.unwind(cpu, JIT_LEAVE_LOOKUP);
    const void *code = (const void *)(uintptr_t)jit_heavy(cpu, jit_cache_lookup_slow, cpu, rip, 0, 0);
    if (!code)
        cpu->machine->thunks.unwind(cpu, JIT_LEAVE_LOOKUP); /* the run loop meets the fault or the full cache itself */
    return code;
}

const void *jit_lookup_jump(struct jit_cpu *cpu, uint64_t rip, unsigned slot)
{
    const struct jit_jump *j = &cpu->jumps[jit_jump_index(rip)];
    uint64_t key = rip ^ cpu->jump_key;
    const void *code = j->code;
    jit_set_base(cpu, rip);
    if (slot >= JIT_JUMPS || j->key != key) /* else only the slot has it not */
        code = lookup_jump(cpu, rip);
    if (slot < JIT_JUMPS && j->key == key) {
        cpu->jumps[slot].key = j->key;
        cpu->jumps[slot].code = j->code;
    }
    return code;
}

const void *jit_chain(struct jit_cpu *cpu, const uint8_t *stub_ret)
{
    const void *code = (const void *)(uintptr_t)jit_heavy(cpu, jit_cache_chain, cpu, (uint64_t)(uintptr_t)stub_ret, 0, 0);
    if (!code)
        cpu->machine->thunks.unwind(cpu, JIT_LEAVE_LOOKUP);
    return code;
}

const struct jit_region *jit_region_of(struct jit_machine *m, const uint8_t *pc)
{
    unsigned lo = 0, hi = atomic_load_explicit(&m->nregions, memory_order_acquire);
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (m->by_code[mid]->code <= pc)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo)
        return NULL;
    const struct jit_region *r = m->by_code[lo - 1];
    return pc <= r->code + r->code_size ? r : NULL;
}

/* ---- leaving and raising ---- */

void jit_sync_rip(struct jit_cpu *cpu)
{
    if (!cpu->in_code)
        return;
    const uint8_t *ret = ((const uint8_t *const *)cpu)[-1];
    const struct jit_region *r = jit_region_of(cpu->machine, ret - 1);
    if (!r || !r->ninsns)
        return;
    uint32_t off = (uint32_t)(ret - 1 - r->code);
    unsigned lo = 0, hi = r->ninsns;
    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;
        if (r->insns[mid].host_off <= off)
            lo = mid;
        else
            hi = mid;
    }
    uint64_t rip = jit_region_rip(cpu, r) + r->insns[lo].guest_off;
    cpu->s.rip = JIT_MODE_CODE(r->mode) == JIT_MODE_CODE64   ? rip
                 : JIT_MODE_CODE(r->mode) == JIT_MODE_CODE32 ? (uint32_t)rip
                                                             : (uint16_t)rip;
}

void jit_leave(struct jit_cpu *cpu, enum jit_leave why)
{
    if (!cpu->in_code) {
        cpu->vcpu->outside_why = (int)why;
        jit_raise_outside(cpu);
    }
    cpu->machine->thunks.unwind(cpu, why);
}

static _Noreturn void raise_event(struct jit_cpu *cpu, unsigned vector, bool has_error, uint32_t error)
{
    jit_sync_rip(cpu);
    cpu->exception_vector = vector;
    cpu->exception_has_error = has_error;
    cpu->exception_error = error;
    cpu->exception_event = JIT_EV_FAULT;
    cpu->exception_next_len = 0;
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}

void jit_raise(struct jit_cpu *cpu, unsigned vector, bool has_error, uint32_t error)
{
    raise_event(cpu, vector, has_error, error);
}

void jit_raise_pf(struct jit_cpu *cpu, uint64_t gva, uint32_t error)
{
    cpu->s.cr2 = gva;
    raise_event(cpu, X86_PF, true, error);
}

void jit_restart_isolated(struct jit_cpu *cpu)
{
    jit_sync_rip(cpu);
    jit_leave(cpu, JIT_LEAVE_ISOLATED);
}

/* A host signal in generated code: the host refused what the guest asked for. */
void jit_host_fault(struct jit_cpu *cpu, uint64_t host_pc, unsigned signal)
{
    ((uint64_t *)cpu)[-1] = host_pc + 1;
    if (signal == 8 /* SIGFPE */) {
        uint16_t x87;
        __asm__ volatile("fnstsw %0" : "=m"(x87));
        /* scratch[5]: the signal's si_code, 1 = integer division (FPE_INTDIV) */
        if (cpu->scratch[5] == 1)
            jit_raise(cpu, X86_DE, false, 0);
        if (x87 & 0x80)
            jit_raise(cpu, X86_MF, false, 0);
        jit_raise(cpu, cpu->s.cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD, false, 0);
    }
    if (signal == 4 /* SIGILL */)
        jit_raise(cpu, X86_UD, false, 0);
    jit_raise(cpu, X86_GP, true, 0); /* SIGSEGV: a 16-byte operand that is not aligned, reserved MXCSR bits */
}
