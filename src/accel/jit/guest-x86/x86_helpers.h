/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helpers that translated code calls: light code (engine/jit_cpu.h). Each is `uint64_t x86_h_NAME(cpu, a, b, c)`.
 * They see all guest state current, raise exceptions with jit_raise (s.rip is found there), and must not change
 * anything before their last fault. `opsize` is 2, 4 or 8; `lin` a linear address; `len` the instruction length.
 * Column: name, arguments, result. Instructions marked EXIT change rip or mode: the translator follows them with
 * IR_EXIT_STATE, and they set s.rip themselves (those marked NEXT only need s.rip = next instruction, which
 * the translator stores before or passes). After any mode-relevant change the helper calls jit_mode_changed.
 */
#pragma once

#include "accel/jit/engine/jit_cpu.h"

#define X86_HELPERS(H)                                                                              \
    /* --- x86_seg.c, x86_far.c, x86_int.c, x86_task.c --- */                                          \
    H(load_seg)     /* a: enum x86_seg, b: selector. MOV/POP to ES SS DS FS GS, LDS... (SS sets the interrupt shadow: NEXT, EXIT) */ \
    H(jmp_far)      /* a: selector, b: offset, c: opsize | len << 8. EXIT */                                  \
    H(call_far)     /* a: selector, b: offset, c: opsize | len << 8. EXIT */                                  \
    H(ret_far)      /* a: bytes to pop, c: opsize. EXIT */                                                 \
    H(iret)         /* c: opsize | len << 8. EXIT */                                                       \
    H(int_soft)     /* a: vector, b: len, c: enum jit_event. Never returns (leaves with the event; IOPL checked for VM86) */ \
    H(syscall)      /* a: len, or (faster, when above 15) next rip. EXIT */                                 \
    H(sysret)       /* c: opsize. EXIT */                                                                 \
    H(sysenter)     /* EXIT */                                                                            \
    H(sysexit)      /* c: opsize. EXIT */                                                                 \
    H(lgdt)         /* a: lin of the 6- or 10-byte operand, c: opsize (base is 24 bits for 2) */               \
    H(lidt) H(sgdt) H(sidt) /* as lgdt; stores check UMIP */                                              \
    H(lldt) H(ltr)  /* a: selector */                                                                    \
    H(sldt) H(str)  /* returns the selector; UMIP */                                                       \
    H(lar) H(lsl)   /* a: selector, b: old destination, c: opsize. Returns new destination, ZF in cc */        \
    H(verr) H(verw) /* a: selector. ZF in cc */                                                           \
    H(arpl)         /* a: destination selector, b: source selector. Returns new destination, ZF in cc */       \
    H(seg_check)    /* a: offset, b: enum x86_seg, c: size | kind (JIT_ACC_*). #GP or #SS when outside the limit, not
                       readable/writable, unusable */                                                    \
    H(push_seg_sel) /* a: enum x86_seg. Returns the selector */                                             \
    /* --- x86_sys.c, x86_msr.c, x86_debug.c --- */                                                       \
    H(read_cr) H(read_dr)   /* a: number. Returns value */                                                 \
    H(write_cr) H(write_dr) /* a: number, b: value, c: next rip (stored to s.rip). EXIT */                      \
    H(smsw)         /* returns CR0, UMIP */                                                               \
    H(lmsw)         /* a: value, c: next rip. EXIT */                                                      \
    H(clts)         /* c: next rip. EXIT */                                                               \
    H(rdmsr)        /* ECX -> EDX:EAX */                                                                  \
    H(wrmsr)        /* c: next rip. EXIT */                                                               \
    H(rdtsc) H(rdtscp) H(rdpmc) /* EDX:EAX (ECX) written; TSD, PCE checked */                               \
    H(rdpid)        /* returns TSC_AUX */                                                                 \
    H(cpuid)                                                                                             \
    H(invlpg)       /* a: lin */                                                                         \
    H(invpcid)      /* a: type, b: lin of the descriptor. May #GP */                                        \
    H(wbinvd)       /* privilege check only */                                                            \
    H(hlt)          /* c: next rip. Leaves with JIT_LEAVE_HALT */                                          \
    H(monitor) H(mwait) /* as NOP at CPL 0; #UD when not offered */                                         \
    H(cli)          /* IOPL, PVI/VME checks */                                                            \
    H(sti)          /* c: next rip; sets the interrupt shadow when IF was 0. EXIT */                            \
    H(sti_open)     /* STI where the interrupt shadow makes no difference: takes effect at once */                  \
    H(pushf)        /* returns RFLAGS to push (VM and RF clear); checks VM86 IOPL. c: opsize */                  \
    H(popf)         /* a: value, b: next rip, c: opsize. EXIT */                                            \
    H(stac) H(clac) /* c: next rip. EXIT */                                                               \
    H(swapgs)                                                                                            \
    H(rdfsgsbase)   /* a: 0 FS, 1 GS. Returns base */                                                      \
    H(wrfsgsbase)   /* a: 0 FS, 1 GS, b: value (canonical check) */                                           \
    H(in)           /* a: port, c: size. Returns value; I/O permission checked */                               \
    H(out)          /* a: port, b: value, c: size */                                                       \
    H(step_done)    /* a: X86_STEP_*, c: next rip. End of a single-stepped instruction: #DB with DR6.BS (trap), or data breakpoint hit
                       recorded by debug_check. May return when nothing is due */                          \
    H(debug_check)  /* a: lin, c: size | kind. Notes a data breakpoint hit in guest_debug_hit */               \
    H(debug_fetch)  /* a: lin of the instruction. Raises #DB (fault) on an execution breakpoint unless RF */    \
    H(umip_check) H(cpl0_check) /* #GP(0) when not allowed */                                              \
    /* --- x86_xsave.c --- */                                                                            \
    H(fxsave) H(fxrstor)    /* a: lin, c: opsize (8: REX.W form) */                                       \
    H(xsave) H(xrstor)      /* a: lin, b: 0 XSAVE, 1 XSAVEOPT, 2 XSAVEC, c: opsize. Mask EDX:EAX */         \
    H(xgetbv)               /* ECX -> EDX:EAX */                                                          \
    H(xsetbv)                                                                                            \
    H(fnsave) H(frstor)     /* a: lin, c: opsize (2 or 4) | 0x100 when in protected mode format */            \
    H(fnstenv) H(fldenv)    /* likewise */                                                               \
    /* --- x86_string.c: c packs size | addrsize << 8 | rep << 16 (0 none, 1 REP/REPE, 2 REPNE) | source seg << 24; b: next rip.
       They advance rSI rDI rCX as far as they got, so that a fault or interrupt in the middle resumes; with rep they return
       1 when finished, 0 when the instruction must be executed again (interrupt pending: the translator then exits
       with rip = this instruction). They do the segment checks themselves. */                              \
    H(movs) H(stos) H(lods) H(scas) H(cmps) H(ins) H(outs)                                              \
    /* --- x86_misc.c --- */                                                                             \
    H(daa) H(das) H(aaa) H(aas)                                                                         \
    H(aam) H(aad)   /* a: immediate. AAM raises #DE for 0 */                                              \
    H(enter)        /* a: frame bytes, b: level, c: opsize */                                              \
    H(pusha) H(popa)/* c: opsize */                                                                      \
    H(bound)        /* a: index value, b: lin, c: opsize */                                               \
    H(cmpxchg8b) H(cmpxchg16b) /* a: lin, c: lock. ZF in cc, rDX:rAX; 16b: #GP unless aligned */               \
    H(bt_mem)       /* unused when the translator reduces bit strings itself */                           \
    /* --- x86_vector_light.c --- */                                                                     \
    H(fwait_check)  /* #NM when CR0.MP and CR0.TS */                                                      \
    H(maskmov)      /* a: lin, b: 8 data bytes, c: 8 mask bytes: stores the bytes whose mask has bit 7 set */

#define H(name) uint64_t x86_h_##name(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c);
X86_HELPERS(H)
#undef H

/* --- shared among the light files --- */
/* x86_seg.c */
bool x86_read_descriptor(struct jit_cpu *cpu, uint16_t sel, uint32_t ret[2]); /* false: beyond the table; faults raise */
void x86_set_seg(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel, uint64_t base, uint32_t limit, uint32_t attr);
uint64_t x86_desc_base(const uint32_t d[2]);
uint32_t x86_desc_limit(const uint32_t d[2]);
uint32_t x86_desc_attr(const uint32_t d[2]);
unsigned x86_cpl(const struct jit_cpu *cpu);
/* x86_task.c: task switch (SDM vol. 3, 7.3). next_rip is what the old task resumes at. */
/* Of the instruction that is done: TF was set when it began; TF as it is now decides (SYSCALL...); a string instruction with
 * elements to go; MOV SS or POP SS, whose traps wait for the end of the next instruction. */
enum { X86_STEP_TF = 1, X86_STEP_NEW_TF = 2, X86_STEP_AGAIN = 4, X86_STEP_HELD = 8 };

enum x86_task_kind { X86_TASK_JMP, X86_TASK_CALL, X86_TASK_IRET, X86_TASK_INT };
void x86_task_switch(struct jit_cpu *cpu, uint16_t tss_sel, const uint32_t desc[2], enum x86_task_kind kind,
                     uint64_t next_rip, bool has_error, uint32_t error);
/* x86_sys.c: CR0/CR3/CR4/EFER writes with all checks; false: #GP(0) due. */
bool x86_set_cr0(struct jit_cpu *cpu, uint64_t v);
bool x86_set_cr3(struct jit_cpu *cpu, uint64_t v);
bool x86_set_cr4(struct jit_cpu *cpu, uint64_t v);
bool x86_set_efer(struct jit_cpu *cpu, uint64_t v);
bool x86_set_rflags(struct jit_cpu *cpu, uint64_t v, uint64_t mask); /* arithmetic part to cc */
/* I/O permission: IOPL or the TSS bit map; raises #GP(0). */
void x86_io_check(struct jit_cpu *cpu, unsigned port, unsigned size);
/* Loads and stores through a segment with its checks, at `off` in seg: stack and string operands. */
uint64_t x86_seg_lin(struct jit_cpu *cpu, enum x86_seg seg, uint64_t off, unsigned size, unsigned kind);
