/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The common code between C and generated code, made once per machine.
 *
 * Generated code runs with rsp = cpu. What it calls finds its return address at cpu - 8; thunks keep it there while they
 * call C, which therefore sees at cpu - 8 which guest instruction it works for. Thunks that are jumped to put 0 there.
 */
#include "accel/jit/host-x86_64/host.h"
#include "accel/jit/host-x86_64/host_compile.h"

/* Guest registers that live in host registers, and where. */
static const struct { uint8_t guest, host; } pairs[] = {
    { X86_RAX, R12 }, { X86_RCX, RCX }, { X86_RDX, RDX }, { X86_RBX, RBX }, { X86_RSP, R13 }, { X86_RBP, RBP },
    { X86_RSI, RSI }, { X86_RDI, RDI }, { X86_R8, R8 },   { X86_R9, R9 },   { X86_R10, R10 }, { X86_R11, R11 } };

static bool survives_c(unsigned reg)
{
    return reg == RBX || reg == RBP || reg >= R12;
}

/* `depth`: how far rsp is below cpu. */
static void spill(struct host_emit *e, int32_t depth)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++)
        host_store(e, 8, host_m(RSP, depth + 8 * pairs[i].guest), pairs[i].host);
}

void host_reload_guest(struct host_emit *e, int32_t depth, bool all)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++)
        if (all || !survives_c(pairs[i].host))
            host_load(e, 8, pairs[i].host, host_m(RSP, depth + 8 * pairs[i].guest));
}

void host_vec_save(struct host_emit *e, unsigned base)
{
    for (unsigned i = 0; i < 16; i++) /* movaps [m], xmm */
        host_op(e, 4, 0x0f29, i, host_m(base, OFF(vec) + 16 * (int32_t)i), 0);
    host_op(e, 4, 0x0fae, 3, host_m(base, OFF(mxcsr)), 0); /* stmxcsr */
    host_op(e, 4, 0x0fae, 2, host_m(base, OFF(host_mxcsr)), 0); /* ldmxcsr */
}

void host_vec_load(struct host_emit *e, unsigned base)
{
    for (unsigned i = 0; i < 16; i++)
        host_op(e, 4, 0x0f28, i, host_m(base, OFF(vec) + 16 * (int32_t)i), 0);
    host_op(e, 4, 0x0fae, 2, host_m(base, OFF(mxcsr)), 0);
}

void host_push(struct host_emit *e, unsigned reg)
{
    if (reg & 8)
        host_u8(e, 0x41);
    host_u8(e, 0x50 | (reg & 7));
}

void host_pop(struct host_emit *e, unsigned reg)
{
    if (reg & 8)
        host_u8(e, 0x41);
    host_u8(e, 0x58 | (reg & 7));
}

static void ret(struct host_emit *e) { host_u8(e, 0xc3); }
static void lea(struct host_emit *e, unsigned reg, unsigned base, int32_t disp)
{
    host_op(e, 8, 0x8d, reg, host_m(base, disp), 0);
}
static void store_imm(struct host_emit *e, unsigned width, struct host_opnd m, int32_t v)
{
    host_op(e, width, width == 1 ? 0xc6 : 0xc7, 0, m, 0);
    if (width == 1)
        host_u8(e, (uint8_t)v);
    else
        host_u32(e, (uint32_t)v);
}
static void call_reg(struct host_emit *e, unsigned reg) { host_op(e, 4, 0xff, 2, host_r(reg), 0); }
static void jmp_reg(struct host_emit *e, unsigned reg) { host_op(e, 4, 0xff, 4, host_r(reg), 0); }
static void call_c(struct host_emit *e, const void *fn)
{
    host_mov_ri(e, RAX, (uint64_t)(uintptr_t)fn);
    call_reg(e, RAX);
}

static const uint8_t saved[] = { RBX, RBP, R12, R13, R14, R15 };

/* int enter(cpu, code) */
static void make_enter(struct host_emit *e)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(saved); i++)
        host_push(e, saved[i]);
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    host_op(e, 4, 0x0fae, 3, host_m(RDI, OFF(host_mxcsr)), 0);
    host_store(e, 8, host_m(RDI, OFF(exit_sp)), RSP);
    host_vec_load(e, RDI);
    store_imm(e, 1, host_m(RDI, OFF(vec_saved)), 0);
    host_mov_rr(e, 8, RAX, RSI);
    host_mov_rr(e, 8, RSP, RDI);
    host_reload_guest(e, 0, true);
    jmp_reg(e, RAX);
}

/* rbx = cpu, eax = result: back to the caller of enter. */
static void make_return(struct host_emit *e)
{
    host_load(e, 8, RSP, host_m(RBX, OFF(exit_sp)));
    store_imm(e, 1, host_m(RBX, OFF(vec_saved)), 1);
    store_imm(e, 8, host_m(RBX, OFF(exit_sp)), 0);
    host_alu_imm(e, 8, 0, host_r(RSP), 8, 0);
    for (unsigned i = G_N_ELEMENTS(saved); i-- > 0;)
        host_pop(e, saved[i]);
    ret(e);
}

/* void unwind(cpu, why) */
static void make_unwind(struct host_emit *e)
{
    host_mov_rr(e, 8, RBX, RDI);
    host_alu_imm(e, 1, 7, host_m(RBX, OFF(vec_saved)), 0, 0);
    uint32_t skip = host_jcc(e, 5);
    host_vec_save(e, RBX);
    host_fix(e, skip, host_off(e));
    host_mov_rr(e, 4, RAX, RSI);
    make_return(e);
}

/* uint64_t heavy(cpu, fn, self, a, b, c) */
static void make_heavy(struct host_emit *e)
{
    host_alu_imm(e, 1, 7, host_m(RDI, OFF(vec_saved)), 0, 0);
    uint32_t nested1 = host_jcc(e, 5);
    host_alu_imm(e, 8, 7, host_m(RDI, OFF(exit_sp)), 0, 0);
    uint32_t nested2 = host_jcc(e, 4);
    host_push(e, RBX);
    host_push(e, RBP);
    host_vec_save(e, RDI);
    store_imm(e, 1, host_m(RDI, OFF(vec_saved)), 1);
    host_mov_rr(e, 8, RBX, RDI);
    host_mov_rr(e, 8, RBP, RSP);
    host_load(e, 8, RSP, host_m(RBX, OFF(exit_sp)));
    host_mov_rr(e, 8, RAX, RSI);
    host_mov_rr(e, 8, RDI, RDX);
    host_mov_rr(e, 8, RSI, RCX);
    host_mov_rr(e, 8, RDX, R8);
    host_mov_rr(e, 8, RCX, R9);
    call_reg(e, RAX);
    host_mov_rr(e, 8, RSP, RBP);
    store_imm(e, 1, host_m(RBX, OFF(vec_saved)), 0);
    host_vec_load(e, RBX);
    host_pop(e, RBP);
    host_pop(e, RBX);
    ret(e);
    host_fix(e, nested1, host_off(e));
    host_fix(e, nested2, host_off(e));
    host_mov_rr(e, 8, RAX, RSI);
    host_mov_rr(e, 8, RDI, RDX);
    host_mov_rr(e, 8, RSI, RCX);
    host_mov_rr(e, 8, RDX, R8);
    host_mov_rr(e, 8, RCX, R9);
    jmp_reg(e, RAX);
}

/* Called by generated code: rax = function, scratch[0..2] its arguments; result in rax. Its own temporaries may be in
 * r15, which survives. */
static void make_call(struct host_emit *e, bool all)
{
    spill(e, 8);
    lea(e, RDI, RSP, 8);
    host_load(e, 8, RSI, host_m(RSP, 8 + OFF(scratch[0])));
    host_load(e, 8, RDX, host_m(RSP, 8 + OFF(scratch[1])));
    host_load(e, 8, RCX, host_m(RSP, 8 + OFF(scratch[2])));
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_reg(e, RAX);
    host_alu_imm(e, 8, 0, host_r(RSP), 8, 0);
    host_reload_guest(e, 8, all);
    ret(e);
}

/* Called: r14 = gva, eax = descriptor; returns the host address in r14. */
static void make_mem_slow(struct host_emit *e)
{
    spill(e, 8);
    lea(e, RDI, RSP, 8);
    host_mov_rr(e, 8, RSI, R14);
    host_mov_rr(e, 4, RDX, RAX);
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_c(e, jit_mem_slow);
    host_mov_rr(e, 8, R14, RAX);
    host_alu_imm(e, 8, 0, host_r(RSP), 8, 0);
    host_reload_guest(e, 8, false);
    ret(e);
}

/* Called after a store through mem_slow: commits what went to the bounce buffer. Keeps all but rax, flags included. */
static void make_mem_commit(struct host_emit *e)
{
    host_u8(e, 0x9f); /* lahf */
    host_op(e, 1, 0x0f90, 0, host_r(RAX), 0); /* seto al */
    host_alu_imm(e, 4, 7, host_m(RSP, 8 + OFF(bounce_desc)), 0, 0);
    uint32_t none = host_jcc(e, 4);
    host_store(e, 8, host_m(RSP, 8 + OFF(scratch[5])), RAX);
    spill(e, 8);
    lea(e, RDI, RSP, 8);
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_c(e, jit_mem_commit);
    host_alu_imm(e, 8, 0, host_r(RSP), 8, 0);
    host_reload_guest(e, 8, false);
    host_load(e, 8, RAX, host_m(RSP, 8 + OFF(scratch[5])));
    host_fix(e, none, host_off(e));
    host_alu_imm(e, 1, 0, host_r(RAX), 0x7f, 0); /* OF */
    host_u8(e, 0x9e); /* sahf */
    ret(e);
}

/* Called, never returns: a misaligned operand of an instruction that wants 16 bytes. */
static void make_misaligned(struct host_emit *e)
{
    spill(e, 8);
    lea(e, RDI, RSP, 8);
    host_mov_ri(e, RSI, X86_GP);
    host_mov_ri(e, RDX, 1);
    host_mov_ri(e, RCX, 0);
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_c(e, jit_raise);
}

/* Called from a chaining stub. */
static void make_chain(struct host_emit *e)
{
    spill(e, 8);
    lea(e, RDI, RSP, 8);
    host_load(e, 8, RSI, host_m(RSP, 0));
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_c(e, jit_chain);
    host_alu_imm(e, 8, 0, host_r(RSP), 16, 0);
    host_reload_guest(e, 0, true);
    jmp_reg(e, RAX);
}

/* Jumped to: rax = guest rip, r14d = slot if `at`. */
static void make_lookup_miss(struct host_emit *e, bool at)
{
    spill(e, 0);
    host_store(e, 8, host_m(RSP, OFF(s.rip)), RAX);
    host_mov_rr(e, 8, RDI, RSP);
    host_mov_rr(e, 8, RSI, RAX);
    if (at)
        host_mov_rr(e, 4, RDX, R14);
    else
        host_mov_ri(e, RDX, JIT_JUMPS);
    host_u8(e, 0x6a); /* push 0 */
    host_u8(e, 0);
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_c(e, jit_lookup_jump);
    host_alu_imm(e, 8, 0, host_r(RSP), 16, 0);
    host_reload_guest(e, 0, true);
    jmp_reg(e, RAX);
}

/* Jumped to: eax = enum jit_leave, s.rip set. */
static void make_leave(struct host_emit *e)
{
    spill(e, 0);
    host_mov_rr(e, 8, RBX, RSP);
    host_vec_save(e, RBX);
    make_return(e);
}

static void make_leave_with(struct host_emit *e, enum jit_leave why, const void *leave)
{
    host_mov_ri(e, RAX, why);
    host_jmp_abs(e, leave);
}

uint32_t host_lookup_r14(struct host_emit *e, bool based)
{
    host_op(e, 4, 0x69, RAX, host_r(R14), 0); /* as jit_jump_index */
    host_u32(e, 0x9e3779b1u);
    host_op(e, 4, 0xc1, 5, host_r(RAX), 0);
    host_u8(e, JIT_JUMP_SHIFT - 4);
    host_alu_imm(e, 4, 4, host_r(RAX), (JIT_JUMPS - 1) << 4, 0);
    host_mov_rr(e, 8, R15, R14);
    host_op(e, 8, 0x33, R15, host_m(RSP, OFF(jump_key)), 0);
    host_op(e, 8, 0x3b, R15, host_mx(RSP, RAX, 0, OFF(jumps)), 0);
    uint32_t miss = host_jcc(e, 5);
    if (based) {
        host_alu_imm(e, 8, 4, host_r(R14), -4096, 0);
        host_store(e, 8, host_m(RSP, OFF(rip_base)), R14);
    }
    host_op(e, 4, 0xff, 4, host_mx(RSP, RAX, 0, OFF(jumps) + 8), 0);
    return miss;
}

size_t host_make_jump(uint8_t *buf, size_t size, const struct host_thunks *th, uint64_t target, bool relative)
{
    struct host_emit e = { .start = buf, .p = buf, .end = buf + size };
    if (relative) {
        host_load(&e, 8, R14, host_m(RSP, OFF(rip_base)));
        host_add_keep(&e, 8, R14, (int64_t)target);
    } else {
        host_mov_ri(&e, R14, target);
    }
    uint32_t miss = host_lookup_r14(&e, relative);
    host_fix(&e, miss, host_off(&e));
    host_mov_rr(&e, 8, RAX, R14);
    host_jmp_abs(&e, th->lookup_miss);
    return e.overflow ? 0 : (size_t)(e.p - buf);
}

/* Jumped to with s.rip set and the mode perhaps new. */
static void make_state(struct host_emit *e, const struct host_thunks *t)
{
    host_alu_imm(e, 4, 7, host_m(RSP, OFF(attention)), 0, 0);
    uint32_t attention = host_jcc(e, 5);
    host_load(e, 8, R14, host_m(RSP, OFF(s.rip)));
    uint32_t miss = host_lookup_r14(e, true);
    host_fix(e, miss, host_off(e));
    host_mov_rr(e, 8, RAX, R14);
    host_jmp_abs(e, t->lookup_miss);
    host_fix(e, attention, host_off(e));
    host_jmp_abs(e, t->leave_attention);
}

/* A host signal handler resumes here: scratch[7] = faulting address, scratch[6] = signal. */
static void make_host_fault(struct host_emit *e)
{
    spill(e, 0);
    host_mov_rr(e, 8, RDI, RSP);
    host_load(e, 8, RSI, host_m(RSP, OFF(scratch[7])));
    host_load(e, 4, RDX, host_m(RSP, OFF(scratch[6])));
    lea(e, RAX, RSI, 1); /* as a return address would: past the first byte of the instruction */
    host_push(e, RAX);
    host_alu_imm(e, 8, 5, host_r(RSP), 8, 0);
    call_c(e, jit_host_fault);
}

static void *here(struct host_emit *e)
{
    while (host_off(e) & 15)
        host_u8(e, 0xcc);
    return e->p;
}

bool host_make_thunks(uint8_t *buf, size_t size, struct host_thunks *ret_thunks)
{
    struct host_thunks t = { 0 };
    struct host_emit e = { .start = buf, .p = buf, .end = buf + size };
    *(void **)&t.enter = here(&e);
    make_enter(&e);
    *(void **)&t.unwind = here(&e);
    make_unwind(&e);
    *(void **)&t.heavy = here(&e);
    make_heavy(&e);
    t.host_fault = here(&e);
    make_host_fault(&e);
    t.leave = here(&e);
    make_leave(&e);
    t.leave_lookup = here(&e);
    make_leave_with(&e, JIT_LEAVE_LOOKUP, t.leave);
    t.leave_attention = here(&e);
    make_leave_with(&e, JIT_LEAVE_ATTENTION, t.leave);
    t.lookup_miss = here(&e);
    make_lookup_miss(&e, false);
    t.lookup_miss_at = here(&e);
    make_lookup_miss(&e, true);
    t.state = here(&e);
    make_state(&e, &t);
    t.call = here(&e);
    make_call(&e, false);
    t.call_reload = here(&e);
    make_call(&e, true);
    t.mem_slow = here(&e);
    make_mem_slow(&e);
    t.mem_commit = here(&e);
    make_mem_commit(&e);
    t.chain = here(&e);
    make_chain(&e);
    t.misaligned = here(&e);
    make_misaligned(&e);
    t.size = (size_t)(e.p - e.start);
    *ret_thunks = t;
    return !e.overflow;
}
