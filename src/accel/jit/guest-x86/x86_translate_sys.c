/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System instructions: mostly checks that the mode decides, and a helper. Source: SDM vol. 2; vol. 3, chapter 2. */
#include "accel/jit/guest-x86/x86_tr.h"

#define READ JIT_ACC_READ
#define WRITE JIT_ACC_WRITE
#define RMW (JIT_ACC_READ | JIT_ACC_WRITE)
#define NOTHING ir_none()

static void undefined(struct x86_tr *t)
{
    x86_tr_raise(t, X86_UD);
}

static struct ir_arg next_rip(const struct x86_tr *t)
{
    return x86_rip_arg(t, t->next);
}

/* A helper that needs no arguments and changes general registers. */
static void plain(struct x86_tr *t, x86_helper_fn *fn)
{
    x86_call(t, NOTHING, fn, IR_CALL_WRITES_G, NOTHING, NOTHING, NOTHING);
}

/* A helper that gets the next rip in c, then leaves the region. */
static void leaving(struct x86_tr *t, x86_helper_fn *fn, struct ir_arg a, struct ir_arg b)
{
    x86_call(t, NOTHING, fn, IR_CALL_WRITES_G, a, b, next_rip(t));
    x86_exit_state(t);
}

/* The next instruction, looked up anew: translations and interrupts may have changed. */
static void leave_to_next(struct x86_tr *t)
{
    x86_set_next(t);
    x86_exit_state(t);
}

/* The low word of the rm operand, zero-extended. */
static struct ir_arg rm16(struct x86_tr *t)
{
    struct x86_opnd rm = x86_opnd_rm(t, 2, READ);
    return rm.kind == X86_O_MEM ? x86_load(t, rm.mem, 2) : x86_zx(t, ir_g(rm.n), 2);
}

/* SLDT, STR, SMSW: a register gets the operand size, memory a word. */
static void store_word(struct x86_tr *t, x86_helper_fn *fn)
{
    unsigned width = x86_is_mem(t->in) ? 2 : t->in->opsize;
    struct ir_arg v = x86_temp(t);
    x86_call(t, v, fn, 0, NOTHING, NOTHING, NOTHING);
    struct x86_opnd rm = x86_opnd_rm(t, width, WRITE);
    x86_write(t, &rm, width, v);
}

static void group6(struct x86_tr *t)
{
    unsigned g = x86_group(t->in);
    if (!x86_protected(t) || g > 5) {
        undefined(t);
        return;
    }
    switch (g) {
    case 0: case 1:
        store_word(t, g ? x86_h_str : x86_h_sldt);
        break;
    case 2: case 3:
        if (x86_need_cpl0(t))
            x86_call(t, NOTHING, g == 3 ? x86_h_ltr : x86_h_lldt, 0, rm16(t), NOTHING, NOTHING);
        break;
    default:
        x86_call(t, NOTHING, g == 5 ? x86_h_verw : x86_h_verr, X86_CALL_FLAGS, rm16(t), NOTHING, NOTHING);
    }
}

static void table_register(struct x86_tr *t, unsigned g)
{
    static x86_helper_fn *const fns[4] = { x86_h_sgdt, x86_h_sidt, x86_h_lgdt, x86_h_lidt };
    unsigned opsize = t->code == 8 ? 8 : t->in->opsize;
    if (g >= 2 && !x86_need_cpl0(t))
        return;
    struct ir_arg lin = x86_tr_linear(t, opsize == 8 ? 10 : 6, g >= 2 ? READ : WRITE);
    x86_call(t, NOTHING, fns[g], 0, lin, NOTHING, ir_i(opsize));
}

static void swapgs(struct x86_tr *t)
{
    if (t->code != 8)
        undefined(t);
    else if (x86_need_cpl0(t))
        x86_call(t, NOTHING, x86_h_swapgs, 0, NOTHING, NOTHING, NOTHING);
}

static void access_check(struct x86_tr *t, x86_helper_fn *fn) /* CLAC, STAC */
{
    if (!x86_tr_has(t, X86_FEAT_SMAP) || JIT_MODE_CPL(t->mode))
        undefined(t);
    else
        leaving(t, fn, NOTHING, NOTHING);
}

static void xcr(struct x86_tr *t, bool set)
{
    if (!(t->mode & JIT_MODE_AVX)) {
        undefined(t);
    } else if (!set) {
        plain(t, x86_h_xgetbv);
    } else if (x86_need_cpl0(t)) {
        plain(t, x86_h_xsetbv);
        leave_to_next(t);
    }
}

/* 0F 01 with a register ModRM: instructions by the whole byte. */
static void group7_register(struct x86_tr *t)
{
    switch (t->in->modrm) {
    case 0xc8: case 0xc9:
        if (!x86_tr_has(t, X86_FEAT_MONITOR) || JIT_MODE_CPL(t->mode))
            undefined(t);
        else
            plain(t, t->in->modrm & 1 ? x86_h_mwait : x86_h_monitor);
        return;
    case 0xca: access_check(t, x86_h_clac); return;
    case 0xcb: access_check(t, x86_h_stac); return;
    case 0xd0: xcr(t, false); return;
    case 0xd1: xcr(t, true); return;
    case 0xf8: swapgs(t); return;
    case 0xf9:
        if (x86_tr_has(t, X86_FEAT_RDTSCP))
            plain(t, x86_h_rdtscp);
        else
            undefined(t);
        return;
    }
    undefined(t);
}

static void group7(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned g = x86_group(in);
    if (g == 4) {
        store_word(t, x86_h_smsw);
    } else if (g == 6) {
        if (x86_need_cpl0(t))
            leaving(t, x86_h_lmsw, rm16(t), NOTHING);
    } else if (!x86_is_mem(in)) {
        group7_register(t);
    } else if (g < 4) {
        table_register(t, g);
    } else if (g == 7) {
        if (x86_need_cpl0(t)) {
            x86_call(t, NOTHING, x86_h_invlpg, 0, x86_tr_linear(t, 1, 0), NOTHING, NOTHING);
            leave_to_next(t);
        }
    } else {
        undefined(t);
    }
}

static void lar_lsl(struct x86_tr *t, x86_helper_fn *fn)
{
    const struct x86_insn *in = t->in;
    if (!x86_protected(t)) {
        undefined(t);
        return;
    }
    struct ir_arg sel = rm16(t), result = x86_temp(t);
    x86_call(t, result, fn, X86_CALL_FLAGS, sel, ir_g(in->reg), ir_i(in->opsize));
    x86_mov(t, ir_g(in->reg), result, in->opsize);
}

/* 0F 20-23: MOV to and from control and debug registers. */
static void mov_special(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    bool debug = in->opcode & 1, write = in->opcode & 2;
    unsigned n = in->reg, width = t->code == 8 ? 8 : 4;
    bool exists = debug ? n < 8 : n == 0 || n == 2 || n == 3 || n == 4 || n == 8;
    if (!exists) {
        undefined(t);
    } else if (!x86_need_cpl0(t)) {
        return;
    } else if (write) {
        leaving(t, debug ? x86_h_write_dr : x86_h_write_cr, ir_i(n), x86_zx(t, ir_g(in->rm), width));
    } else {
        struct ir_arg v = x86_temp(t);
        x86_call(t, v, debug ? x86_h_read_dr : x86_h_read_cr, 0, ir_i(n), NOTHING, NOTHING);
        x86_mov(t, ir_g(in->rm), v, width);
    }
}

/* --- 0F AE --- */

static void fence(struct x86_tr *t, bool full)
{
    if (full)
        x86_tr_emit(t, IR_FENCE, 8);
}

static void fs_gs_base(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned g = x86_group(in);
    if (t->code != 8 || !x86_tr_has(t, X86_FEAT_FSGSBASE)) {
        undefined(t);
    } else if (g & 2) {
        x86_call(t, NOTHING, x86_h_wrfsgsbase, 0, ir_i(g & 1), x86_zx(t, ir_g(in->rm), in->opsize == 8 ? 8 : 4), NOTHING);
    } else {
        struct ir_arg v = x86_temp(t);
        x86_call(t, v, x86_h_rdfsgsbase, 0, ir_i(g & 1), NOTHING, NOTHING);
        x86_mov(t, ir_g(in->rm), v, in->opsize == 8 ? 8 : 4);
    }
}

/* False when the mode has raised #UD or #NM. */
static bool fpu_usable(struct x86_tr *t, bool needs_sse)
{
    if ((t->mode & JIT_MODE_FPU_EM) || (needs_sse && !(t->mode & JIT_MODE_SSE)))
        undefined(t);
    else if (t->mode & JIT_MODE_FPU_NM)
        x86_tr_raise(t, X86_NM);
    else
        return true;
    return false;
}

/* LDMXCSR and STMXCSR: the guest's MXCSR is in the host's. */
static void mxcsr(struct x86_tr *t, bool store)
{
    if (!fpu_usable(t, true))
        return;
    struct ir_mem mem = x86_tr_mem(t, 4, store ? WRITE : READ);
    struct ir_op *op = x86_tr_emit(t, IR_HOST, 4);
    op->mem = mem;
    op->host = (struct ir_host){ .map = IR_MAP_0F, .opcode = 0xae, .reg_kind = IR_HO_FIXED, .reg = store ? 3 : 2,
                                 .rm_kind = IR_HO_MEM, .msize = 4, .maccess = store ? 2 : 1 };
}

static void xsave_area(struct x86_tr *t, x86_helper_fn *fn, unsigned access, int kind)
{
    if (!(t->mode & JIT_MODE_AVX)) {
        undefined(t);
    } else if (t->mode & JIT_MODE_FPU_NM) {
        x86_tr_raise(t, X86_NM);
    } else {
        struct ir_arg lin = x86_tr_linear(t, 16, access);
        x86_call(t, NOTHING, fn, 0, lin, ir_i(kind), ir_i(t->in->opsize));
    }
}

static void fx_area(struct x86_tr *t, x86_helper_fn *fn, unsigned access)
{
    if (!fpu_usable(t, false))
        return;
    struct ir_arg lin = x86_tr_linear(t, 16, access);
    x86_call(t, NOTHING, fn, 0, lin, NOTHING, ir_i(t->in->opsize));
}

static void group15_memory(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned g = x86_group(in);
    if (in->last_rep) {
        undefined(t);
        return;
    }
    if (in->opsize_prefix) { /* CLWB, CLFLUSHOPT: caches are coherent here */
        if (!(g == 6 && x86_tr_has(t, X86_FEAT_CLWB)) && !(g == 7 && x86_tr_has(t, X86_FEAT_CLFLUSHOPT)))
            undefined(t);
        return;
    }
    switch (g) {
    case 0: fx_area(t, x86_h_fxsave, WRITE); break;
    case 1: fx_area(t, x86_h_fxrstor, READ); break;
    case 2: case 3: mxcsr(t, g == 3); break;
    case 4: xsave_area(t, x86_h_xsave, RMW, 0); break;
    case 5: xsave_area(t, x86_h_xrstor, READ, 0); break;
    case 6:
        if (x86_tr_has(t, X86_FEAT_XSAVEOPT))
            xsave_area(t, x86_h_xsave, RMW, 1);
        else
            undefined(t);
        break;
    case 7: break; /* CLFLUSH */
    }
}

static void group15(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned g = x86_group(in);
    if (x86_is_mem(in))
        group15_memory(t);
    else if (in->last_rep == 0xf3 && g < 4)
        fs_gs_base(t);
    else if (!in->last_rep && !in->opsize_prefix && g >= 5)
        fence(t, g != 5);
    else
        undefined(t);
}

/* 0F C7 but /1: RDPID, XSAVEC; RDRAND and RDSEED are x86_bits.c's. */
static bool group9(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned g = x86_group(in);
    if (x86_is_mem(in) && g == 4 && !in->last_rep && !in->opsize_prefix && x86_tr_has(t, X86_FEAT_XSAVEC)) {
        xsave_area(t, x86_h_xsave, RMW, 2);
        return true;
    }
    if (!x86_is_mem(in) && g == 7 && in->last_rep == 0xf3) {
        if (!x86_tr_has(t, X86_FEAT_RDPID)) {
            undefined(t);
            return true;
        }
        struct ir_arg v = x86_temp(t);
        x86_call(t, v, x86_h_rdpid, 0, NOTHING, NOTHING, NOTHING);
        x86_mov(t, ir_g(in->rm), v, t->code == 8 ? 8 : 4);
        return true;
    }
    return false;
}

static void system_call(struct x86_tr *t, x86_helper_fn *fn, struct ir_arg a, struct ir_arg c)
{
    x86_call(t, NOTHING, fn, IR_CALL_WRITES_G | X86_CALL_FLAGS, a, NOTHING, c);
    x86_exit_state(t);
}

static bool syscall_insn(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    switch (in->opcode) {
    case 0x05:
        if (x86_tr_has(t, X86_FEAT_SYSCALL))
            system_call(t, x86_h_syscall, ir_i(in->len), NOTHING);
        else
            undefined(t);
        return true;
    case 0x07:
        if (!x86_tr_has(t, X86_FEAT_SYSCALL) || !x86_protected(t))
            undefined(t);
        else if (x86_need_cpl0(t))
            system_call(t, x86_h_sysret, NOTHING, ir_i(in->opsize));
        return true;
    case 0x34: case 0x35:
        if (!x86_tr_has(t, X86_FEAT_SEP))
            undefined(t);
        else if (!x86_protected(t))
            x86_tr_raise(t, X86_GP);
        else if (in->opcode == 0x34)
            system_call(t, x86_h_sysenter, NOTHING, NOTHING);
        else if (x86_need_cpl0(t))
            system_call(t, x86_h_sysexit, NOTHING, ir_i(in->opsize));
        return true;
    }
    return false;
}

static bool sys_0f(struct x86_tr *t)
{
    switch (t->in->opcode) {
    case 0x00: group6(t); return true;
    case 0x01: group7(t); return true;
    case 0x02: lar_lsl(t, x86_h_lar); return true;
    case 0x03: lar_lsl(t, x86_h_lsl); return true;
    case 0x06:
        if (x86_need_cpl0(t))
            leaving(t, x86_h_clts, NOTHING, NOTHING);
        return true;
    case 0x08: case 0x09: /* INVD, WBINVD: caches are coherent here */
        if (x86_need_cpl0(t))
            x86_call(t, NOTHING, x86_h_wbinvd, 0, NOTHING, NOTHING, NOTHING);
        return true;
    case 0x20 ... 0x23: mov_special(t); return true;
    case 0x30:
        if (x86_need_cpl0(t))
            leaving(t, x86_h_wrmsr, NOTHING, NOTHING);
        return true;
    case 0x31: plain(t, x86_h_rdtsc); return true;
    case 0x32:
        if (x86_need_cpl0(t))
            plain(t, x86_h_rdmsr);
        return true;
    case 0x33: plain(t, x86_h_rdpmc); return true;
    case 0xa2: plain(t, x86_h_cpuid); return true;
    case 0xae: group15(t); return true;
    case 0xc7: return group9(t);
    }
    return syscall_insn(t);
}

/* 66 0F 38 82 */
static void invpcid(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (!x86_tr_has(t, X86_FEAT_INVPCID) || !x86_is_mem(in)) {
        undefined(t);
    } else if (x86_need_cpl0(t)) {
        struct ir_arg lin = x86_tr_linear(t, 16, READ);
        x86_call(t, NOTHING, x86_h_invpcid, 0, x86_zx(t, ir_g(in->reg), t->code == 8 ? 8 : 4), lin, NOTHING);
        leave_to_next(t);
    }
}

/* E4-E7, EC-EF */
static void port_io(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned size = !(in->opcode & 1) ? 1 : in->opsize == 2 ? 2 : 4;
    struct ir_arg port = in->opcode & 8 ? x86_zx(t, ir_g(X86_RDX), 2) : ir_i((uint8_t)in->imm);
    if (in->opcode & 2) {
        x86_call(t, NOTHING, x86_h_out, 0, port, x86_zx(t, ir_g(X86_RAX), size), ir_i(size));
        return;
    }
    struct ir_arg v = x86_temp(t);
    x86_call(t, v, x86_h_in, 0, port, NOTHING, ir_i(size));
    x86_mov(t, ir_g(X86_RAX), v, size);
}

/* STI holds interrupts off for one instruction more. Only before HLT can a program tell (an interrupt between the two would leave
 * it asleep), so only there the shadow is real, which costs two trips through the run loop. */
static void sti(struct x86_tr *t)
{
    int next = x86_run_peek(x86_run_of(t), t->next);
    if (next < 0 || next == 0xf4 || (t->mode & JIT_MODE_SINGLE)) {
        leaving(t, x86_h_sti, NOTHING, NOTHING);
        return;
    }
    x86_call(t, NOTHING, x86_h_sti_open, 0, NOTHING, NOTHING, NOTHING);
    x86_exit_jmp(t, t->next, 0, 0);
}

bool x86_translate_sys(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (in->map == X86_MAP_0F)
        return sys_0f(t);
    if (in->map == X86_MAP_0F38 && in->opcode == 0x82 && in->opsize_prefix && !in->last_rep) {
        invpcid(t);
        return true;
    }
    if (in->map != X86_MAP_ONE)
        return false;
    switch (in->opcode) {
    case 0xe4 ... 0xe7: case 0xec ... 0xef:
        port_io(t);
        return true;
    case 0xf4:
        if (x86_need_cpl0(t)) {
            x86_call(t, NOTHING, x86_h_hlt, IR_CALL_WRITES_G, NOTHING, NOTHING, next_rip(t))->fuse = X86_FL_ARITH;
            x86_exit_jmp(t, t->next, 0, 0);
        }
        return true;
    case 0xfa:
        x86_call(t, NOTHING, x86_h_cli, 0, NOTHING, NOTHING, NOTHING);
        return true;
    case 0xfb:
        sti(t);
        return true;
    }
    return false;
}
