/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's own structures: one translator machine, its RAM slots, its code cache, its vCPUs. Only files of
 * this folder include it. Reading order: jit_accel.c (the door), jit_run.c (the loop), jit_cache.c (regions), jit_tlb.c and
 * jit_memory.c (what generated code calls).
 *
 * Locks: jit_machine.lock covers the code cache and the region lists (never held while guest code runs). `gate` is held for
 * reading by a vCPU inside vcpu_run and for writing by whoever empties the code cache or
 * takes the log of written pages; both say so first (want_flush, want_gate), then set every vCPU's attention. jit_vcpu.tlb_lock (a spin lock
 * of a few instructions) orders TLB fills against another vCPU's marking of a page as code.
 */
#pragma once

#include <glib.h>
#include <pthread.h>
#include <setjmp.h>

#include "accel/jit/engine/jit_cpu.h"
#include "accel/jit/host-x86_64/host.h"
#include "accel/jit/ir/ir.h"

#define JIT_MAX_SLOTS 320 /* pieces of RAM: 256 memory modules, 32 of each virtio-mem, the rest */
#define JIT_STACK_SIZE (512u * 1024)
#define JIT_CACHE_SIZE (128u << 20)
#define JIT_HASH_SIZE (1u << 20)
#define JIT_MAX_REGION_BYTES (64u * 1024)
#define JIT_NO_PAGE UINT64_MAX

struct jit_slot {
    uint64_t gpa, size;
    uint8_t *host;
    bool readonly;
    _Atomic uint8_t *has_code; /* per page: translated code came from it */
    _Atomic uint8_t *dirty;    /* per page, while jit_machine.log_dirty: written since the log was read. NULL: read only */
};
/* Bytes of one kind of marks of a slot: whole host pages. */
static inline uint64_t jit_marks_size(uint64_t size) { return ((size >> 12) + 4095) & ~4095ull; }
struct jit_slots { /* immutable once published */
    unsigned n;
    struct jit_slot slot[JIT_MAX_SLOTS];
};

struct jit_region {
    uint64_t rip, cs_base; /* where jit_mode_relative(mode): only the first address it was met at */
    uint64_t gpa;       /* of the first byte */
    uint64_t page2;     /* guest physical page of the part in the second page, or JIT_NO_PAGE */
    uint32_t mode, guest_bytes;
    uint16_t scan_lo, scan_hi; /* as in struct ir_region */
    uint8_t *via;       /* code that looks this region up through the jump cache, or NULL */
    uint8_t *code, *entry;
    uint32_t code_size;
    unsigned ninsns, nexits;
    struct host_insn_map *insns;
    struct host_exit *exits;
    _Atomic bool dead;
    struct jit_region *_Atomic next; /* in the hash bucket */
    GSList *incoming;   /* struct jit_link *: chained jumps into this region */
    struct ir_region *ir; /* kept for the interpreter, else NULL */
};
struct jit_link { struct jit_region *from; unsigned exit; };

struct jit_machine {
    struct accel_bus bus;
    void *bus_opaque;
    const struct x86_cpu_model *model;
    unsigned max_vcpus;
    struct x86_cpu_topology topo;
    uint64_t tsc_offset;
    struct jit_vcpu **vcpus;
    struct jit_slots *_Atomic slots;
    GPtrArray *old_slots;

    GMutex lock;
    pthread_rwlock_t gate;
    uint8_t *cache, *cache_end;
    uint8_t *cache_start;      /* after the thunks */
    uint8_t *cache_next;
    struct host_thunks thunks;
    struct jit_region *_Atomic *hash; /* JIT_HASH_SIZE buckets */
    /* Regions in order of code address, for finding one by host pc: append-only until the cache is emptied. */
    struct jit_region **by_code;
    _Atomic unsigned nregions;
    unsigned max_regions;
    GHashTable *pages;         /* gpa of page -> GPtrArray of struct jit_region * */
    struct ir_region ir;       /* the translator's scratch, under lock */
    bool interpret;            /* run the IR interpreter instead of generated code */
    uint64_t translated_insns, translated_regions, invalidated, flushes;
    _Atomic bool want_flush, flushing;
    _Atomic unsigned want_gate; /* threads that want all vCPUs out of guest code for a moment */
    _Atomic bool log_dirty;
};

/* Why guest code is left for the machine: X(identifier, name, help). */
#define JIT_EXIT_ROWS(X) \
    X(PORT_READ, "port-read", "IN from a port") \
    X(PORT_WRITE, "port-write", "OUT to a port") \
    X(MMIO_READ, "mmio-read", "read of device memory") \
    X(MMIO_WRITE, "mmio-write", "write to device memory or to ROM") \
    X(DEVICE_CODE, "device-code", "instructions that lie in device memory") \
    X(MSR_READ, "msr-read", "RDMSR of a register of the local APIC") \
    X(MSR_WRITE, "msr-write", "WRMSR of a register of the local APIC") \
    X(TPR, "task-priority", "reading or writing CR8") \
    X(INTERRUPT, "interrupt", "an external interrupt was acknowledged") \
    X(HALT, "halt", "HLT with nothing to do; the time is the sleep") \
    X(KICK, "kick", "another thread asked the vCPU to look at its requests") \
    X(SHUTDOWN, "shutdown", "triple fault") \
    X(ERROR, "error", "code that the translator cannot run")
enum jit_exit_row {
#define X(id, name, help) JIT_EXIT_##id,
    JIT_EXIT_ROWS(X)
#undef X
    JIT_EXIT_NROWS
};

/* Code address translation cache. */
#define JIT_XTLB 512
struct jit_xtlb_entry { uint64_t page; uint64_t gpa; bool global, valid; };
#define JIT_NCONTEXTS 16
struct jit_context { uint32_t mode; uint64_t cs_base; uint64_t key; };

#define JIT_FILL_LOG 1024
#define JIT_CODE_PAGES 32768
struct jit_vcpu {
    struct jit_cpu *cpu;
    struct jit_machine *machine;
    void *mapping; size_t mapping_size;
    _Atomic uint32_t tlb_lock;
    struct jit_xtlb_entry xtlb[2][JIT_XTLB]; /* supervisor, user */
    struct jit_context contexts[2][JIT_NCONTEXTS]; /* those of CPL 0, which outlive a change of address space; others */
    unsigned ncontexts[2], context_turn[2];
    uint64_t next_context;
    bool kernel_nonglobal_code;
    /* Linear pages (by number, folded) that the jump cache may have code of: INVLPG of any other leaves it alone. */
    uint64_t code_pages[JIT_CODE_PAGES / 64];
    /* Entries of tlb[] that a change of address space must drop; more than fit: all. */
    /* Guest physical page numbers of the entries of tlb[], for finding those of one page; stale where an entry is empty. */
    uint32_t tlb_page[JIT_NMMU][JIT_TLB_SIZE];
    unsigned nfilled[JIT_NMMU]; uint16_t filled[JIT_NMMU][JIT_FILL_LOG];
    sigjmp_buf outside;       /* where jit_raise and jit_leave go when no generated code runs, */
    int outside_why;          /* with this enum jit_leave */
    /* Code that is not in RAM: the bytes an instruction may have, read before the lock is taken, each at its place in an otherwise
     * empty page. [0]: from the address to execute; [1]: from the start of the next page. */
    struct { uint64_t gpa; bool valid; uint8_t page[4096]; } device_code[2];
    bool isolated;
    char *error;
    struct accel_exit_count exits[JIT_EXIT_NROWS];
    unsigned left_why;        /* the row for which vcpu_run returned, JIT_EXIT_NROWS: it has not yet, */
    uint64_t left_at;         /* and when */
    uint64_t leaves[16], tlb_fills, lookups, slow_lookups;
    _Alignas(64) uint8_t fpu[512]; /* guest x87 (FXSAVE image) while the vCPU is outside vcpu_run */
    bool in_run;
};

/* An exit that began at host time `start` is over. Light; the vCPU's own thread, others only read. */
static inline void jit_exit_over(struct jit_vcpu *v, enum jit_exit_row row, uint64_t start)
{
    struct accel_exit_count *c = &v->exits[row];
    __atomic_store_n(&c->count, c->count + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&c->ticks, c->ticks + (__builtin_ia32_rdtsc() - start), __ATOMIC_RELAXED);
}

static inline void jit_code_page_set(struct jit_vcpu *v, uint64_t page)
{
    v->code_pages[page % JIT_CODE_PAGES / 64] |= 1ull << (page % 64);
}
static inline bool jit_code_page_known(const struct jit_vcpu *v, uint64_t page)
{
    return v->code_pages[page % JIT_CODE_PAGES / 64] >> (page % 64) & 1;
}

/* jit_cache.c */
bool jit_cache_init(struct jit_machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void jit_cache_finish(struct jit_machine *m);
void jit_cache_flush(struct jit_machine *m); /* gate held for writing */
void jit_cache_trim(struct jit_machine *m);  /* empties it and gives its memory back; any thread but a vCPU's */
/* The region for cpu->mode at rip, made when needed. NULL: *ret_leave says why (a fetch fault is recorded in
 * exception_*, or the cache is full). Takes the lock. */
struct jit_region *jit_cache_get(struct jit_cpu *cpu, uint64_t rip, enum jit_leave *ret_leave);
const struct jit_region *jit_region_of(struct jit_machine *m, const uint8_t *host_pc); /* light */
/* Code bytes at [gpa, gpa+size) are about to change. True: a region that contains `running` is among them and was left alone
 * (only when running is not NULL). */
bool jit_cache_invalidate(struct jit_machine *m, uint64_t gpa, uint64_t size, const struct jit_region *running);
uint64_t jit_cache_chain(void *cpu, uint64_t stub_ret, uint64_t unused1, uint64_t unused2);
uint64_t jit_cache_lookup_slow(void *cpu, uint64_t rip, uint64_t unused1, uint64_t unused2);
uint64_t jit_cache_write_heavy(void *cpu, uint64_t gpa, uint64_t size, uint64_t running);

/* jit_lookup.c (light) */
/* Guest physical address of code at linear address gva, through the code TLB; false: fault, code in *ret_error. */
bool jit_code_gpa(struct jit_cpu *cpu, uint64_t gva, uint64_t *ret_gpa, bool *ret_global, uint32_t *ret_error);
static inline uint64_t jit_code_linear(const struct jit_cpu *cpu, uint64_t rip)
{
    return JIT_MODE_CODE(cpu->mode) == JIT_MODE_CODE64 ? rip : (uint32_t)(cpu->seg_base[X86_CS] + rip);
}
/* Where the region that generated code is in begins now. */
static inline uint64_t jit_region_rip(const struct jit_cpu *cpu, const struct jit_region *r)
{
    return jit_mode_relative(r->mode) ? cpu->rip_base + (r->gpa & 0xfff) : r->rip;
}
/* Before generated code is entered at rip. */
static inline void jit_set_base(struct jit_cpu *cpu, uint64_t rip) { cpu->rip_base = rip & ~0xfffull; }
static inline uint64_t jit_code_base(const struct jit_cpu *cpu)
{
    return JIT_MODE_CODE(cpu->mode) == JIT_MODE_CODE64 ? 0 : cpu->seg_base[X86_CS];
}
struct jit_region *jit_cache_find(struct jit_cpu *cpu, uint64_t rip, uint64_t gpa);
void jit_jump_insert(struct jit_cpu *cpu, uint64_t rip, const struct jit_region *r, bool global);

/* jit_memory.c (light) */
/* [gpa, gpa+size) of a slot, within a page, is about to be writable or has been written. A page is marked before a TLB entry allows
 * writing it; reading the log takes those entries away again (jit_dirty.c). */
static inline void jit_mark_dirty(const struct jit_machine *m, const struct jit_slot *s, uint64_t gpa)
{
    if (atomic_load_explicit(&m->log_dirty, memory_order_relaxed) && s->dirty)
        atomic_store_explicit(&s->dirty[(gpa - s->gpa) >> 12], 1, memory_order_relaxed);
}
unsigned jit_hash_of(uint64_t gpa, uint64_t rip, uint32_t mode); /* bucket of a region */
static inline const struct jit_slot *jit_slot_of(struct jit_machine *m, uint64_t gpa)
{
    const struct jit_slots *s = atomic_load_explicit(&m->slots, memory_order_acquire);
    for (unsigned i = 0; i < s->n; i++)
        if (gpa - s->slot[i].gpa < s->slot[i].size)
            return &s->slot[i];
    return NULL;
}
static inline void jit_spin_lock(_Atomic uint32_t *l)
{
    while (atomic_exchange_explicit(l, 1, memory_order_acquire))
        while (atomic_load_explicit(l, memory_order_relaxed))
            __builtin_ia32_pause();
}
static inline void jit_spin_unlock(_Atomic uint32_t *l) { atomic_store_explicit(l, 0, memory_order_release); }
void jit_tlb_init(struct jit_cpu *cpu);

/* jit_dirty.c */
bool jit_dirty_start(struct accel *a, GError **error);
void jit_dirty_stop(struct accel *a);
bool jit_dirty_read(struct accel *a, uint64_t gpa, uint64_t size, uint64_t *bitmap, GError **error);

/* jit_run.c */
_Noreturn void jit_raise_outside(struct jit_cpu *cpu);
bool jit_signals_init(GError **error);
enum accel_exit jit_run(struct jit_vcpu *v);
