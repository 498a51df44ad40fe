/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files on segmentation, far control transfers, interrupts and tasks share (x86_seg.c, x86_dtable.c,
 * x86_far.c, x86_iret.c, x86_syscall.c, x86_int.c, x86_task.c). Light code.
 *
 * All of them keep one order: read and check everything, store what goes to memory (a store may fault; what it leaves
 * below the stack pointer is nobody's), then change registers, which cannot fail.
 */
#pragma once

#include "accel/jit/engine/jit_cpu.h"
#include "accel/jit/guest-x86/x86_helpers.h"

/* Descriptor tables and TSS: implicit supervisor accesses, for which SMAP holds whatever RFLAGS.AC says (SDM vol. 3,
 * 4.6.1): the KERNEL mode of the MMU. */
#define X86_MMU_SYSTEM JIT_MMU_KERNEL

/* Second doubleword of a descriptor (SDM vol. 3, 3.4.5). */
#define X86_D_ACCESSED 0x00000100u
#define X86_D_BUSY     0x00000200u /* TSS */
#define X86_D_RW       0x00000200u /* code: readable; data: writable */
#define X86_D_CONFORM  0x00000400u /* of code */
#define X86_D_CODE     0x00000800u
#define X86_D_S        0x00001000u /* code or data, not system */
#define X86_D_P        0x00008000u
#define X86_D_L        0x00200000u
#define X86_D_DB       0x00400000u
#define X86_D_TYPE(d1) ((d1) >> 8 & 15u)
#define X86_D_DPL(d1)  ((d1) >> 13 & 3u)

/* System descriptor types (SDM vol. 3, table 3-2). */
enum x86_sys_type {
    X86_SYS_TSS16 = 1, X86_SYS_LDT = 2, X86_SYS_TSS16_BUSY = 3, X86_SYS_CALL16 = 4, X86_SYS_TASK_GATE = 5,
    X86_SYS_INT16 = 6, X86_SYS_TRAP16 = 7, X86_SYS_TSS32 = 9, X86_SYS_TSS32_BUSY = 11, X86_SYS_CALL32 = 12,
    X86_SYS_INT32 = 14, X86_SYS_TRAP32 = 15
};

/* jit_cpu.delivering: the class of the event under delivery (SDM vol. 3, table 6-4), and whether faults met meanwhile
 * carry the EXT bit. */
enum x86_delivering { X86_DELIVER_NONE, X86_DELIVER_BENIGN, X86_DELIVER_CONTRIBUTORY, X86_DELIVER_PF, X86_DELIVER_DF };
#define X86_DELIVER_CLASS(d) ((d) & 0x7fu)
#define X86_DELIVER_EXT 0x80u

static inline unsigned x86_ext(const struct jit_cpu *cpu) { return cpu->delivering >> 7; }
static inline bool x86_long(const struct jit_cpu *cpu) { return cpu->s.efer & X86_EFER_LMA; }
static inline bool x86_code64(const struct jit_cpu *cpu)
{
    return x86_long(cpu) && (cpu->s.seg[X86_CS].attr & X86_ATTR_L);
}
static inline bool x86_vm86(const struct jit_cpu *cpu) { return cpu->s.rflags & X86_FL_VM; }
/* Selectors name descriptors: neither real nor virtual 8086 mode. */
static inline bool x86_protected(const struct jit_cpu *cpu) { return (cpu->s.cr0 & X86_CR0_PE) && !x86_vm86(cpu); }
static inline unsigned x86_iopl(const struct jit_cpu *cpu) { return cpu->s.rflags >> 12 & 3u; }
static inline bool x86_canonical(uint64_t v) { return (uint64_t)((int64_t)(v << 16) >> 16) == v; }
static inline bool x86_null_sel(unsigned sel) { return !(sel & 0xfffcu); }
static inline uint64_t x86_mask(unsigned size) { return size == 2 ? 0xffffu : size == 4 ? 0xffffffffu : ~(uint64_t)0; }

static inline _Noreturn void x86_fault(struct jit_cpu *cpu, unsigned vector, unsigned sel)
{
    jit_raise(cpu, vector, true, (sel & 0xfffcu) | x86_ext(cpu));
}
static inline void x86_need(struct jit_cpu *cpu, bool ok, unsigned vector, unsigned sel)
{
    if (__builtin_expect(!ok, 0)) {
        x86_fault(cpu, vector, sel);
    }
}
static inline void x86_need_protected(struct jit_cpu *cpu)
{
    if (!x86_protected(cpu)) {
        jit_raise(cpu, X86_UD, false, 0);
    }
}
static inline void x86_need_cpl0(struct jit_cpu *cpu) { x86_need(cpu, x86_cpl(cpu) == 0, X86_GP, 0); }
static inline void x86_put_rflags(struct jit_cpu *cpu, uint64_t v)
{
    cpu->s.rflags = (v & ~(uint64_t)X86_FL_ARITH) | X86_FL_1;
    jit_set_arith(cpu, v);
}
static inline void x86_put_zf(struct jit_cpu *cpu, bool zf)
{
    cpu->cc = (uint16_t)((cpu->cc & ~0x4000u) | (zf ? 0x4000u : 0));
}
/* Explicit accesses made at privilege `cpl`. */
static inline unsigned x86_mmu_at(const struct jit_cpu *cpu, unsigned cpl)
{
    return cpl == 3 ? JIT_MMU_USER
         : (cpu->s.rflags & X86_FL_AC) && (cpu->s.cr4 & X86_CR4_SMAP) ? JIT_MMU_KERNEL_AC : JIT_MMU_KERNEL;
}
static inline bool x86_is_code(uint32_t d1) { return (d1 & (X86_D_S | X86_D_CODE)) == (X86_D_S | X86_D_CODE); }
static inline bool x86_is_writable_data(uint32_t d1)
{
    return (d1 & (X86_D_S | X86_D_CODE | X86_D_RW)) == (X86_D_S | X86_D_RW);
}

/* ---- x86_seg.c ---- */
/* x86_read_descriptor, and #GP (or `vector`) with the selector where it is beyond its table. */
void x86_need_descriptor(struct jit_cpu *cpu, uint16_t sel, uint32_t ret[2], unsigned vector);
/* Upper half of a 16-byte system descriptor: bits 32-63 of the base; `vector` where it is beyond the table or its type
 * field is not zero. */
uint32_t x86_descriptor_high(struct jit_cpu *cpu, uint16_t sel, unsigned vector);
/* Sets a type bit (accessed, busy) in the descriptor in memory. May fault. */
void x86_descriptor_set(struct jit_cpu *cpu, uint16_t sel, uint32_t d[2], uint32_t bit);
static inline void x86_mark_accessed(struct jit_cpu *cpu, uint16_t sel, uint32_t d[2])
{
    if (__builtin_expect(!(d[1] & X86_D_ACCESSED), 0)) {
        x86_descriptor_set(cpu, sel, d, X86_D_ACCESSED);
    }
}
void x86_set_seg_desc(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel, const uint32_t d[2]);
void x86_set_seg_real(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel); /* real and virtual 8086 mode */
/* SS: its attributes keep `cpl`, which is where x86_cpl finds it. */
void x86_set_ss_null(struct jit_cpu *cpu, unsigned cpl);
void x86_set_seg_null(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel);
/* Checks a stack segment for privilege `cpl` (SDM vol. 3, 5.7 and 5.8.5): `vector` is #GP, or #TS when the selector
 * came from a TSS; #SS when not present. The selector is not null. */
void x86_check_ss(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2], unsigned cpl, unsigned vector);
/* Data segment (not SS) at privilege `cpl`. */
void x86_check_data(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2], unsigned cpl, unsigned vector);
/* #GP(0) where a branch to `rip` in the segment cannot be. */
void x86_check_rip(struct jit_cpu *cpu, const uint32_t d[2], uint64_t rip);
/* The limit and type check of an access; the linear address. */
uint64_t x86_segment_lin(struct jit_cpu *cpu, const struct x86_segment *seg, uint64_t off, unsigned size, unsigned kind,
                         unsigned vector, unsigned error_sel);

/* ---- x86_far.c: stacks ---- */
struct x86_stack {
    struct x86_segment seg;
    uint64_t sp, mask;   /* of the address size of the stack */
    unsigned mmu;
    unsigned error_sel;  /* of #SS */
    bool flat64;
};
void x86_stack_current(const struct jit_cpu *cpu, struct x86_stack *ret);
/* Slots in the order of rising addresses: pushed below sp, read from sp upwards. Both move sp. */
void x86_stack_push(struct jit_cpu *cpu, struct x86_stack *st, const uint64_t *slots, unsigned n, unsigned size);
void x86_stack_read(struct jit_cpu *cpu, struct x86_stack *st, uint64_t *ret, unsigned n, unsigned size);
void x86_put_sp(struct jit_cpu *cpu, uint64_t sp, uint64_t mask);
/* The stack for a change to inner privilege `cpl`, from the TSS (SDM vol. 3, 5.8.5): in long mode RSPn, or IST when ist
 * is not 0. *ret_ss is the selector, ret_d its descriptor (not in long mode, where SS becomes null). */
void x86_stack_inner(struct jit_cpu *cpu, unsigned cpl, unsigned ist, struct x86_stack *ret, uint16_t *ret_ss,
                     uint32_t ret_d[2]);
/* Loads SS and the stack pointer of x86_stack_inner. */
void x86_commit_inner(struct jit_cpu *cpu, unsigned cpl, const struct x86_stack *st, uint16_t ss, const uint32_t d[2]);
/* After a return to outer privilege: data segments it may not see become null (SDM vol. 3, 5.8.6). */
void x86_hide_segments(struct jit_cpu *cpu, unsigned cpl);
/* Where the instruction after this one is; sets s.rip to this one. */
uint64_t x86_next_rip(struct jit_cpu *cpu, unsigned len);
/* Checks the code segment that a RET or IRET goes back to. */
void x86_check_return_cs(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2]);
