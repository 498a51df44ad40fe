/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One vCPU of the translator, as generated code and its helpers see it.
 *
 * Host stack pointer = jit_cpu. While generated code runs, host RSP points at this structure, which lies at
 * the top of a stack of its own: every field is one [rsp+disp] away, and a `call` from generated code leaves its
 * return address in the eight bytes below the structure, where jit_sync_rip finds it.
 *
 * Light code. Guest vector registers live in the host's all the time, so C code called from generated code must
 * not touch them: files of the translator that such calls reach are compiled with -mgeneral-regs-only and call
 * nothing outside themselves except through jit_heavy (which saves the vector state around the call). No memcpy,
 * no memset, no GLib, no libc there: use jit_copy / jit_zero (rep movs / rep stos) below. A test looks at the
 * undefined symbols of those objects. Guest x87 state stays in the host x87 unit even across jit_heavy.
 */
#pragma once

#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/accel.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"

struct jit_machine;

/* What code was translated for; part of every region's key. */
#define JIT_MODE_CODE16   0u        /* code size: bits 0-1 */
#define JIT_MODE_CODE32   1u
#define JIT_MODE_CODE64   2u
#define JIT_MODE_CODE(m)  ((m) & 3u)
#define JIT_MODE_CPL(m)   ((m) >> 2 & 3u)
#define JIT_MODE_MMU(m)   ((m) >> 4 & 3u) /* enum jit_mmu */
#define JIT_MODE_PE       0x0040u   /* protected mode (not real, not virtual 8086) */
#define JIT_MODE_VM86     0x0080u
#define JIT_MODE_SS32     0x0100u   /* stack size 32 (SS.B); 64-bit code always uses 64 */
#define JIT_MODE_FLAT     0x0200u   /* ES CS SS DS have base 0 and limit 4 GiB and are usable, readable and writable:
                                       no base to add, no limit to check. Always set in 64-bit code */
#define JIT_MODE_FPU_NM   0x0400u   /* x87/MMX/SSE instructions raise #NM (CR0.TS; CR0.EM for x87 -> NM, SSE -> UD) */
#define JIT_MODE_FPU_EM   0x0800u
#define JIT_MODE_SSE      0x1000u   /* CR4.OSFXSR: SSE allowed, else #UD */
#define JIT_MODE_STEP     0x2000u   /* RFLAGS.TF: regions of one instruction, then #DB */
#define JIT_MODE_DEBUG    0x4000u   /* DR7 has enabled breakpoints: regions of one instruction */
#define JIT_MODE_SHADOW   0x8000u   /* interrupt shadow: region of one instruction, then it ends */
#define JIT_MODE_ONE      0x10000u  /* isolated: region of one instruction, not kept (see jit_restart_isolated) */
#define JIT_MODE_LMA      0x20000u  /* EFER.LMA (compatibility mode when CODE is not 64) */
#define JIT_MODE_AVX      0x40000u  /* CR4.OSXSAVE: XGETBV/XSAVE... allowed */
#define JIT_MODE_SINGLE   (JIT_MODE_STEP | JIT_MODE_DEBUG | JIT_MODE_SHADOW | JIT_MODE_ONE)

/* Code that is translated so that it runs wherever its physical page is mapped (IR_P in ir/ir.h). User code only: libraries
 * lie elsewhere in each process. A kernel stays where it is, and absolute addresses are a little faster. */
static inline bool jit_mode_relative(uint32_t mode)
{
    return JIT_MODE_CODE(mode) == JIT_MODE_CODE64 && JIT_MODE_CPL(mode) == 3;
}

enum jit_mmu { JIT_MMU_KERNEL /* SMAP enforced, or off by CR4 */, JIT_MMU_KERNEL_AC /* RFLAGS.AC set */, JIT_MMU_USER, JIT_NMMU };

/* Inline TLB. Entry i of a table serves linear pages whose number ends in i. A tag equals the page's linear
 * address when that access may go straight to host memory, else ((i ^ 1) << 12), which no address that selects
 * entry i can equal. Generated code:  x = (gva >> 7) & mask;  off = gva ^ tag[x];  off > 4096 - size: slow;
 * host = off + entry.host. */
#define JIT_TLB_BITS 12
#define JIT_TLB_SIZE (1u << JIT_TLB_BITS)
struct jit_tlb_entry {
    uint64_t tag_read, tag_write;
    uint64_t host;  /* host address of the page's first byte */
    uint64_t unused;
};

enum jit_leave { /* why generated code returned to the run loop */
    JIT_LEAVE_LOOKUP,    /* find the region at s.rip in the current mode and go on */
    JIT_LEAVE_ATTENTION, /* attention was set */
    JIT_LEAVE_EXCEPTION, /* exception_* below are to be delivered at s.rip */
    JIT_LEAVE_HALT,      /* HLT; s.rip is past it */
    JIT_LEAVE_SHUTDOWN,
    JIT_LEAVE_ISOLATED,  /* run the instruction at s.rip alone */
    JIT_LEAVE_ERROR,
};

/* Software interrupts and #BP/#OF differ from faults in delivery. */
enum jit_event { JIT_EV_FAULT, JIT_EV_SOFT_INT /* INT n */, JIT_EV_SOFT_EXC /* INT3, INTO */, JIT_EV_ICEBP, JIT_EV_EXTERNAL, JIT_EV_NMI };

struct jit_jump { uint64_t key; void *code; };
#define JIT_JUMP_SHIFT 18
#define JIT_JUMPS (1u << (32 - JIT_JUMP_SHIFT)) /* jump cache: linear rip -> host code */
/* The only slot of the jump cache that rip may be in; generated code computes the same. */
static inline unsigned jit_jump_index(uint64_t rip)
{
    return (uint32_t)rip * 0x9e3779b1u >> JIT_JUMP_SHIFT;
}

struct jit_cpu {
    struct x86_state s;    /* at offset 0. s.rflags holds all but the arithmetic flags; while generated code runs
                              s.rip is stale, s.xsave is stale */
    /* Arithmetic flags when not in host EFLAGS: low byte OF (0 or 1), high byte as LAHF gives (SF ZF 0 AF 0 PF 1 CF). */
    uint16_t cc;
    uint8_t vec_saved;     /* 1 while jit_heavy has put the vector registers into vec[] */
    uint8_t in_code;       /* generated code is on the stack: s.rip is found from the return address below */
    _Atomic uint32_t attention; /* not 0: leave at the next check */
    _Atomic uint32_t pending;   /* JIT_PEND_* set by any thread */
    uint32_t mode;         /* JIT_MODE_* of what runs now */
    uint32_t tlb_mask;     /* (entries - 1) << 5 */
    uint64_t seg_base[X86_NSEG]; /* copy of s.seg[].base, kept by x86_sync_segs */
    uint64_t jump_key;     /* (context id) << 48: key of a jump cache entry = rip ^ jump_key */
    uint64_t rip_base;     /* linear address of the page that the running region's first instruction lies in. Kept in
                              modes where jit_mode_relative(); set by whatever enters another page */
    uint64_t scratch[8];   /* back end's own */
    uint64_t temps[64];    /* spilled temporaries of a region */
    _Alignas(64) uint8_t vec[16][16]; /* XMM0-15, when vec_saved or out of generated code */
    uint32_t mxcsr, host_mxcsr;
    _Alignas(16) uint8_t bounce[64];  /* an access that is not plain RAM in one page goes through here */
    uint64_t bounce_gva;   /* where to commit: */
    uint32_t bounce_desc;  /* JIT_ACC_*; 0: nothing to commit */
    uint32_t exception_vector, exception_error, exception_event; /* with JIT_LEAVE_EXCEPTION; event: enum jit_event */
    uint8_t exception_has_error, exception_next_len /* soft interrupts: instruction length */;
    uint8_t delivering, deliver_vector; /* x86_deliver's: the event under delivery (0: none), for double faults */
    uint64_t x87_ip, x87_dp; uint16_t x87_op, x87_cs, x87_ds; /* last x87 instruction: kept as zero */
    void *exit_sp;         /* host stack of the run loop, for unwinding */
    struct jit_machine *machine;
    const struct x86_cpu_model *model;
    struct x86_cpu_topology topo;
    unsigned index;
    struct jit_vcpu *vcpu; /* the engine's own part */
    uint64_t mxcsr_mask;
    uint8_t debug_hit;     /* data breakpoints (DR0-3) that the current instruction met: x86_debug.c */
    uint8_t debug_rf;      /* RFLAGS.RF was set when it began */
    void *guest_priv;      /* guest-x86's own, if it needs any */
    _Alignas(64) struct jit_jump jumps[JIT_JUMPS];
    _Alignas(4096) struct jit_tlb_entry tlb[JIT_NMMU][JIT_TLB_SIZE];
};

#define JIT_PEND_INTR 1u
#define JIT_PEND_NMI  2u
#define JIT_PEND_KICK 4u
#define JIT_PEND_TLB  8u
#define JIT_PEND_EXCL 16u

/* Access descriptor: size in bits 0-7, kind in 8-9, MMU index in 12-13. */
#define JIT_ACC_READ  0x100u
#define JIT_ACC_WRITE 0x200u
#define JIT_ACC_SIZE(d) ((d) & 0xffu)
#define JIT_ACC_MMU(d)  ((d) >> 12 & 3u)
#define JIT_ACC(size, kind, mmu) ((size) | (kind) | (mmu) << 12)

/* ---- engine services, callable from light code ---- */

/* Raise an exception at the current instruction; never returns. Registers and memory must be as they were
 * before the instruction. Finds s.rip by itself (when called under generated code). */
_Noreturn void jit_raise(struct jit_cpu *cpu, unsigned vector, bool has_error, uint32_t error);
_Noreturn void jit_raise_pf(struct jit_cpu *cpu, uint64_t gva, uint32_t error);
/* Leave to the run loop, s.rip already set by the caller. */
_Noreturn void jit_leave(struct jit_cpu *cpu, enum jit_leave why);
/* Sets s.rip to the current instruction's address from the return address below cpu; no effect when not
 * under generated code (cpu->in_helper logic is the engine's). */
void jit_sync_rip(struct jit_cpu *cpu);
/* Undo: restore to the start of the current instruction and run it alone in a region of its own. */
_Noreturn void jit_restart_isolated(struct jit_cpu *cpu);
/* Calls a function that may use any register and library. */
uint64_t jit_heavy(struct jit_cpu *cpu, uint64_t (*fn)(void *, uint64_t, uint64_t, uint64_t), void *self, uint64_t a,
                   uint64_t b, uint64_t c);

/* Guest virtual memory for helpers: full checks, faults raise. mmu is enum jit_mmu (JIT_MODE_MMU(cpu->mode) for the
 * guest's own accesses, JIT_MMU_KERNEL_AC for implicit supervisor accesses: descriptor tables, TSS).
 * Unaligned and page-crossing accesses are handled; a faulting write has written nothing. */
uint64_t jit_load(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu);
void jit_store(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu, uint64_t value);
void jit_load_bytes(struct jit_cpu *cpu, uint64_t gva, void *ret, unsigned size, unsigned mmu);
void jit_store_bytes(struct jit_cpu *cpu, uint64_t gva, const void *src, unsigned size, unsigned mmu);
/* Raises the fault that a write (or read) of size bytes at gva would raise, else nothing. */
void jit_probe(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned kind, unsigned mmu);
/* Host pointer for an access of `desc` at gva if it is plain RAM within one page (fills the TLB), else NULL; faults
 * raise. What string operations use to run at speed. *ret_left (optional): bytes to the end of the page. */
void *jit_host_ptr(struct jit_cpu *cpu, uint64_t gva, uint32_t desc, unsigned *ret_left);
/* The slow path of generated code: returns the host address to operate on, maybe cpu->bounce with commit pending. */
void *jit_mem_slow(struct jit_cpu *cpu, uint64_t gva, uint32_t desc);
void jit_mem_commit(struct jit_cpu *cpu);
/* Guest physical memory, for page walks: 8- or 4-byte aligned load, and compare-and-set for accessed/dirty bits (false:
 * the value had changed). Memory that is not RAM reads as all ones. */
uint64_t jit_phys_load(struct jit_cpu *cpu, uint64_t gpa, unsigned size);
bool jit_phys_cas(struct jit_cpu *cpu, uint64_t gpa, unsigned size, uint64_t old, uint64_t new_value);

void jit_tlb_flush(struct jit_cpu *cpu);            /* all of this vCPU's, and its jump cache */
void jit_tlb_flush_nonglobal(struct jit_cpu *cpu);  /* a new address space: entries of global pages stay. To be called at every
                                                       write of CR3, NOFLUSH or not: the TLB here knows no PCIDs */
void jit_tlb_flush_page(struct jit_cpu *cpu, uint64_t gva);
/* After anything in cpu->s that the mode depends on changed: recompute mode, jump_key, seg_base, attention. */
void jit_mode_changed(struct jit_cpu *cpu);
/* After IF may have become 1. */
void jit_check_interrupts(struct jit_cpu *cpu);
uint64_t jit_pio_read(struct jit_cpu *cpu, unsigned port, unsigned size);
void jit_pio_write(struct jit_cpu *cpu, unsigned port, unsigned size, uint64_t value);

unsigned jit_get_tpr(struct jit_cpu *cpu);

void jit_set_tpr(struct jit_cpu *cpu, unsigned tpr);

bool jit_bus_msr(struct jit_cpu *cpu, bool write, uint32_t index, uint64_t *value);

/* RFLAGS whole, and back; arithmetic flags live in cc. */
static inline uint64_t jit_get_rflags(const struct jit_cpu *cpu)
{
    return (cpu->s.rflags & ~(uint64_t)X86_FL_ARITH) | (cpu->cc >> 8 & 0xd5u) | X86_FL_1 | ((cpu->cc & 1u) ? X86_FL_OF : 0);
}
static inline void jit_set_arith(struct jit_cpu *cpu, uint64_t rflags)
{
    cpu->cc = (uint16_t)((rflags & 0xd5u) << 8 | 0x200u | (rflags >> 11 & 1u));
}

static inline void jit_copy(void *dst, const void *src, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
static inline void jit_zero(void *dst, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(0) : "memory");
}

/* ---- what the guest front end (guest-x86) offers to the engine ---- */

/* Page walk result. */
struct x86_walk {
    uint64_t gpa;        /* of the byte asked for */
    bool writable, user, nx, global, dirty; /* effective permissions of the page for later accesses; dirty: D already
                                        set, so that a write needs no further walk */
    unsigned page_bits;  /* 12, 21, 22 or 30 */
    uint32_t error;      /* #PF error code when the walk fails, or X86_WALK_NONCANONICAL: #GP(0) */
};
#define X86_WALK_NONCANONICAL 0x80000000u
#define X86_ACC_READ 0u
#define X86_ACC_WRITE 1u
#define X86_ACC_EXEC 2u
/* Translates a linear address for an access by `mmu`, sets accessed and (for writes) dirty bits as hardware
 * does, checks U/S, R/W, NX, SMEP, SMAP, WP, reserved bits. False: w->error is the #PF code. Light. */
bool x86_walk(struct jit_cpu *cpu, uint64_t gva, unsigned access, enum jit_mmu mmu, struct x86_walk *w);
/* The mode bits for the state (without JIT_MODE_ONE). Light. */
uint32_t x86_mode(const struct jit_cpu *cpu);
/* Delivers an event (exception, interrupt, NMI) at s.rip through the IDT/IVT: pushes the frame, loads CS:RIP. Handles
 * double fault by itself when delivery faults (uses jit_event_guard below); returns false on triple fault. Called by
 * the run loop, not under generated code. */
bool x86_deliver(struct jit_cpu *cpu, enum jit_event event, unsigned vector, bool has_error, uint32_t error,
                 unsigned insn_len);
struct ir_region;
/* Translates from s-independent inputs: code at region->rip (linear = CS base + rip is the front end's matter:
 * it uses cpu->seg_base[X86_CS] in non-64-bit modes) for region->mode into region->ops. Stops by itself at a branch, at the
 * end of the second page, at max_insns. Fetches code through x86_fetch. A fetch fault at the first instruction returns
 * false with the fault raised by the caller: it fills *ret_fault_gva/_error. Runs as ordinary (not light) code. */
bool x86_translate(struct jit_cpu *cpu, struct ir_region *region, unsigned max_insns, uint64_t *ret_fault_gva,
                   uint32_t *ret_fault_error);
/* Code fetch for the translator: a host pointer to the code page that holds gva (exec permission checked by cpu's mode),
 * NULL on fault (error filled). MMIO code pages are fetched into a buffer of the engine. */
const uint8_t *jit_fetch_page(struct jit_cpu *cpu, uint64_t gva, uint32_t *ret_error);
/* Guest features that host instructions give us, as bits of x86_cpu_model.features. */
void x86_jit_features(uint64_t ret_features[(X86_NFEATURES + 63) / 64]);
/* vcpu_get_state / set_state: s from and to what is spread over jit_cpu (cc, vec, x87, seg_base). */
void x86_state_out(struct jit_cpu *cpu, struct x86_state *ret);
void x86_state_in(struct jit_cpu *cpu, const struct x86_state *state);
