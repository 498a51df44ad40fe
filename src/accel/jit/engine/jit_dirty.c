/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of written pages. A page is marked before a vCPU's TLB lets generated code write it directly, and at each write that goes
 * the slow way. Reading takes the marks, then has all vCPUs out of guest code for a moment and takes the right to write from every
 * TLB entry: whatever was written through such an entry meanwhile lies in a page whose mark has just been taken, and is in memory when
 * the reader goes on to copy it.
 */
#include "accel/jit/engine/jit_engine.h"

#include <sys/mman.h>

#include "base/error.h"

static struct jit_machine *machine_of(struct accel *a) { return (struct jit_machine *)a; }

static void forbid_writes(struct jit_cpu *cpu)
{
    for (unsigned mmu = 0; mmu < JIT_NMMU; mmu++)
        for (unsigned i = 0; i <= cpu->tlb_mask >> 5; i++)
            cpu->tlb[mmu][i].tag_write = (uint64_t)(i ^ 1) << 12;
}

/* vCPUs leave at their next look, and keep out of guest code (jit_run.c) until this one has been through the gate: a vCPU that was
 * turned out before this thread had queued at the gate would go in again, perhaps for good. */
static void forbid_all(struct jit_machine *m)
{
    atomic_fetch_add(&m->want_gate, 1);
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        struct jit_vcpu *v = __atomic_load_n(&m->vcpus[i], __ATOMIC_ACQUIRE);
        if (v) {
            atomic_fetch_or(&v->cpu->pending, JIT_PEND_KICK);
            atomic_store(&v->cpu->attention, 1);
        }
    }
    pthread_rwlock_wrlock(&m->gate);
    for (unsigned i = 0; i < m->max_vcpus; i++)
        if (m->vcpus[i])
            forbid_writes(m->vcpus[i]->cpu);
    atomic_fetch_sub(&m->want_gate, 1);
    pthread_rwlock_unlock(&m->gate);
}

bool jit_dirty_start(struct accel *a, GError **error)
{
    struct jit_machine *m = machine_of(a);
    const struct jit_slots *s = atomic_load(&m->slots);
    for (unsigned i = 0; i < s->n; i++)
        if (s->slot[i].dirty)
            madvise((void *)s->slot[i].dirty, jit_marks_size(s->slot[i].size), MADV_DONTNEED);
    atomic_store(&m->log_dirty, true);
    forbid_all(m);
    return true;
}

void jit_dirty_stop(struct accel *a)
{
    atomic_store(&machine_of(a)->log_dirty, false);
}

static void take_marks(const struct jit_slot *s, uint64_t gpa, uint64_t size, uint64_t *bitmap)
{
    uint64_t from = MAX(gpa, s->gpa), to = MIN(gpa + size, s->gpa + s->size);
    for (uint64_t at = from; at < to; at += 0x1000) {
        _Atomic uint8_t *mark = &s->dirty[(at - s->gpa) >> 12];
        if (!atomic_load_explicit(mark, memory_order_relaxed))
            continue;
        atomic_store(mark, 0);
        bitmap[(at - gpa) >> 12 >> 6] |= 1ull << ((at - gpa) >> 12 & 63);
    }
}

bool jit_dirty_read(struct accel *a, uint64_t gpa, uint64_t size, uint64_t *bitmap, GError **error)
{
    struct jit_machine *m = machine_of(a);
    const struct jit_slots *s = atomic_load(&m->slots);
    if (!atomic_load(&m->log_dirty))
        return vireo_fail(error, VIREO_ERROR_FAILED, "the log of written pages is off");
    for (unsigned i = 0; i < s->n; i++)
        if (s->slot[i].dirty && s->slot[i].gpa < gpa + size && s->slot[i].gpa + s->slot[i].size > gpa)
            take_marks(&s->slot[i], gpa, size, bitmap);
    forbid_all(m);
    return true;
}
