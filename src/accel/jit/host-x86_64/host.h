/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host back end for x86-64: turns an IR region into machine code.
 *
 * Fixed registers while generated code runs:
 *   rsp = struct jit_cpu *
 *   guest RCX RDX RBX RBP RSI RDI R8 R9 R10 R11 -> the host register of the same name
 *   guest RAX -> r12, guest RSP -> r13;  guest R12-R15 live in jit_cpu.s.gpr[]
 *   scratch: rax (flags by lahf, values), r14, r15 (TLB look-up)
 *   xmm0-15 and MXCSR, x87/MMX: the guest's own
 */
#pragma once

#include "accel/jit/engine/jit_cpu.h"
#include "accel/jit/ir/ir.h"

/* Where each guest instruction's code begins: fault addresses map back to rip. */
struct host_insn_map { uint32_t host_off; uint32_t guest_off; /* from region.rip */ };
/* A direct exit that can be chained: rel32 at patch_off of a jmp; until then it jumps to stub_off. */
struct host_exit {
    uint32_t patch_off, stub_off;
    uint64_t target;  /* guest rip */
    bool relative;    /* target is to be added to jit_cpu.rip_base */
    uint8_t cflags;
};

struct host_thunks;
struct host_code {
    const struct host_thunks *thunks; /* caller-provided: what host_make_thunks filled in; within 2 GiB of the code */
    uint8_t *code; size_t size;          /* where it was written */
    uint32_t entry_off;
    /* Caller-provided arrays of HOST_MAX_INSNS and HOST_MAX_EXITS. insns is in order of host_off; the entry of a host
     * address is the last one with host_off <= offset, for return addresses too. */
    unsigned ninsns; struct host_insn_map *insns;
    unsigned nexits; struct host_exit *exits;
};
#define HOST_MAX_EXITS 64
#define HOST_MAX_INSNS (IR_MAX_OPS * 2)

/* Writes code for the region into buf (at most size bytes; the final address, executable later). False: it does not fit.
 * Targets in the page of the region's first instruction are chained by patching (where the code does not move: in its second
 * page too); others go through the jump cache inline. */
bool host_compile(const struct ir_region *r, uint8_t *buf, size_t size, struct host_code *ret);
/* Points a chained exit at `target` (NULL: back at its stub). Atomic 4-byte store; safe while others run it. */
void host_patch_exit(uint8_t *code, const struct host_exit *e, const void *target);

/* Writes code that goes to a guest address through the jump cache: what an exit may be patched to when its target region is only
 * right for some of those that come this way. Returns its size, 0: it does not fit. */
size_t host_make_jump(uint8_t *buf, size_t size, const struct host_thunks *th, uint64_t target, bool relative);

/* Common code, generated once per machine at the start of the code cache. */
struct host_thunks {
    /* enter(cpu, code): loads guest registers and vector state, jumps to code; returns an enum jit_leave when generated code
     * leaves or something unwinds. cpu->exit_sp is set. */
    int (*enter)(struct jit_cpu *cpu, const void *code);
    /* unwind(cpu, why): from C under generated code (light or heavy), back to the caller of enter. Vector state is
     * saved unless cpu->vec_saved says it is already. Guest registers are taken from s.gpr[] (where every helper
     * call has put them). */
    void (*unwind)(struct jit_cpu *cpu, int why) __attribute__((noreturn));
    uint64_t (*heavy)(struct jit_cpu *cpu, uint64_t (*fn)(void *, uint64_t, uint64_t, uint64_t), void *self, uint64_t a,
                      uint64_t b, uint64_t c);
    /* Outside generated code vec_saved is 1 (set on leaving) and exit_sp NULL; heavy then just calls fn. Under generated code it
     * runs fn on the run loop's stack, below exit_sp. */
    /* where a host signal (SIGSEGV on a misaligned m128, SIGFPE, SIGILL) inside generated code is sent: spills guest registers
     * and calls jit_host_fault(cpu, cpu->scratch[7] = host pc, signal in scratch[6]) */
    const void *host_fault;
    const void *lookup_miss;   /* slow path of jump-cache look-ups: rax = guest rip; spills, calls jit_lookup_jump(cpu, rip),
                                  reloads, jumps to its result */
    const void *lookup_miss_at;/* the same with a slot of the jump cache in r14d */
    const void *leave_lookup, *leave_attention; /* leave to the run loop with JIT_LEAVE_LOOKUP / _ATTENTION, s.rip as it
                                                   is: what jit_lookup_jump and jit_chain may return */
    /* What generated code calls or jumps to; see host_thunks.c. */
    const void *leave, *call, *call_reload, *mem_slow, *mem_commit, *chain, *state, *misaligned;
    size_t size;
};
bool host_make_thunks(uint8_t *buf, size_t size, struct host_thunks *ret);

/* Engine functions that thunks call (light code). The eight bytes below cpu hold the return address into the region (mem_slow,
 * commit, helpers, chain), the faulting address + 1 (jit_host_fault), or 0 (jit_lookup_jump). s.gpr is current in all. */
/* Fills the jump cache: the slot that rip has, and `slot` when below JIT_JUMPS, where the asking exit looks. Returns code to jump
 * to, maybe the leave-to-run-loop code with s.rip set. */
const void *jit_lookup_jump(struct jit_cpu *cpu, uint64_t rip, unsigned slot);
/* A chaining stub was reached: host_off is the return address of its call; finds the exit, the target region (translating
 * it when needed), patches, returns code to jump to. */
const void *jit_chain(struct jit_cpu *cpu, const uint8_t *stub_ret);
_Noreturn void jit_host_fault(struct jit_cpu *cpu, uint64_t host_pc, unsigned signal);

/* Executes one IR_HOST (and no other) op natively with cpu's vector state, for the interpreter: address of the memory operand,
 * if any, is `mem`; GPR operands from args[] and results back into it: args[0] = a (rm), [1] = b (vvvv), [2] = c (reg).
 * Flags through cpu->cc. Ordinary code. Returns a host signal number when it faulted, else 0. */
int host_exec_one(struct jit_cpu *cpu, const struct ir_op *op, void *mem, uint64_t args[3]);
bool host_supported(void); /* BMI2, SSE4.2 ... as the back end needs */
