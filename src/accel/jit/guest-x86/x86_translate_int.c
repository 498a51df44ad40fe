/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One-byte opcodes: arithmetic, logic, shifts, moves, strings, flags. Source: SDM vol. 2, chapters 3 and 4. */
#include "accel/jit/guest-x86/x86_tr.h"

#define READ JIT_ACC_READ
#define WRITE JIT_ACC_WRITE
#define RMW (JIT_ACC_READ | JIT_ACC_WRITE)

static const uint8_t alu_ops[8] = { IR_ADD, IR_OR, IR_ADC, IR_SBB, IR_AND, IR_SUB, IR_XOR, IR_CMP };
static const uint8_t shift_ops[8] = { IR_ROL, IR_ROR, IR_RCL, IR_RCR, IR_SHL, IR_SHR, IR_SHL, IR_SAR };

static unsigned op_width(const struct x86_insn *in)
{
    return in->opcode & 1 ? in->opsize : 1;
}

/* dst = dst op src; at most one of them (src when not NULL) is in memory. */
static void binary(struct x86_tr *t, unsigned opcode, unsigned width, const struct x86_opnd *dst, struct ir_arg src,
                   const struct x86_opnd *src_opnd)
{
    bool no_dst = opcode == IR_CMP || opcode == IR_TEST;
    if (src_opnd)
        src = x86_arg(t, src_opnd);
    struct ir_arg d = x86_arg(t, dst);
    struct ir_op *op = x86_tr_emit(t, opcode, width);
    op->a = d;
    op->b = src;
    if (!no_dst)
        op->dst = d;
    op->lock = t->in->lock;
    if (dst->kind == X86_O_MEM)
        op->mem = dst->mem;
    else if (src_opnd && src_opnd->kind == X86_O_MEM)
        op->mem = src_opnd->mem;
    if (!no_dst && dst->kind == X86_O_HIGH)
        x86_deposit8h(t, dst->n, d);
}

static void unary(struct x86_tr *t, unsigned opcode, unsigned width, const struct x86_opnd *dst)
{
    struct ir_arg d = x86_arg(t, dst);
    struct ir_op *op = x86_tr_emit(t, opcode, width);
    op->dst = op->a = d;
    op->lock = t->in->lock;
    if (dst->kind == X86_O_MEM)
        op->mem = dst->mem;
    if (dst->kind == X86_O_HIGH)
        x86_deposit8h(t, dst->n, d);
}

/* 00-3F: six forms of eight operations. */
static bool alu(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned opcode = alu_ops[in->opcode >> 3], form = in->opcode & 7, width = op_width(in);
    if (form >= 6)
        return false;
    if (form >= 4) {
        struct x86_opnd acc = { .kind = X86_O_REG, .n = X86_RAX };
        binary(t, opcode, width, &acc, ir_i((int64_t)in->imm), NULL);
        return true;
    }
    bool to_rm = form < 2;
    struct x86_opnd rm = x86_opnd_rm(t, width, to_rm && opcode != IR_CMP ? RMW : READ);
    struct x86_opnd reg = x86_opnd_reg(t, in->reg, width);
    binary(t, opcode, width, to_rm ? &rm : &reg, ir_none(), to_rm ? &reg : &rm);
    return true;
}

static void group1(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned opcode = alu_ops[x86_group(in)], width = op_width(in);
    struct x86_opnd rm = x86_opnd_rm(t, width, opcode == IR_CMP ? READ : RMW);
    binary(t, opcode, width, &rm, ir_i((int64_t)in->imm), NULL);
}

static void shift(struct x86_tr *t, struct ir_arg count)
{
    const struct x86_insn *in = t->in;
    unsigned width = op_width(in), opcode = shift_ops[x86_group(in)];
    struct x86_opnd rm = x86_opnd_rm(t, width, RMW);
    if (count.kind == IR_I) {
        count.imm &= width == 8 ? 63 : 31;
        if (!count.imm && rm.kind != X86_O_MEM) { /* nothing but the zero-extension */
            if (width == 4)
                x86_mov(t, ir_g(rm.n), ir_g(rm.n), 4);
            return;
        }
    }
    binary(t, opcode, width, &rm, count, NULL);
}

static void one_operand(struct x86_tr *t, unsigned opcode, unsigned width)
{
    struct x86_opnd rm = x86_opnd_rm(t, width, READ);
    struct ir_arg a = x86_arg(t, &rm);
    struct ir_op *op = x86_tr_emit(t, opcode, width);
    op->a = a;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

static void group3(struct x86_tr *t)
{
    static const uint8_t wide[4] = { IR_MUL_WIDE, IR_IMUL_WIDE, IR_DIV_WIDE, IR_IDIV_WIDE };
    const struct x86_insn *in = t->in;
    unsigned width = op_width(in), g = x86_group(in);
    if (g >= 4) {
        one_operand(t, wide[g - 4], width);
        return;
    }
    struct x86_opnd rm = x86_opnd_rm(t, width, g < 2 ? READ : RMW);
    if (g < 2)
        binary(t, IR_TEST, width, &rm, ir_i((int64_t)in->imm), NULL);
    else
        unary(t, g == 2 ? IR_NOT : IR_NEG, width, &rm);
}

static bool group45(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = op_width(in), g = x86_group(in);
    if (g >= 2) {
        if (in->opcode == 0xff && g < 7)
            return false; /* calls, jumps, push: x86_translate_ctl.c */
        x86_tr_raise(t, X86_UD);
        return true;
    }
    struct x86_opnd rm = x86_opnd_rm(t, width, RMW);
    unary(t, g ? IR_DEC : IR_INC, width, &rm);
    return true;
}

static void imul3(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    struct x86_opnd rm = x86_opnd_rm(t, in->opsize, READ);
    struct ir_op *op = x86_tr_emit(t, IR_IMUL, in->opsize);
    op->dst = ir_g(in->reg);
    op->a = rm.kind == X86_O_MEM ? ir_m() : ir_g(rm.n);
    op->b = ir_i((int64_t)in->imm);
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

static void xchg_regs(struct x86_tr *t, const struct x86_opnd *a, const struct x86_opnd *b, unsigned width)
{
    if (a->kind == X86_O_REG && b->kind == X86_O_REG) {
        struct ir_op *op = x86_tr_emit(t, IR_XCHG, width);
        op->dst = ir_g(a->n);
        op->a = ir_g(b->n);
        return;
    }
    struct ir_arg va = x86_zx(t, x86_arg(t, a), width), vb = x86_zx(t, x86_arg(t, b), width);
    x86_write(t, a, width, vb);
    x86_write(t, b, width, va);
}

static void xchg(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = op_width(in);
    struct x86_opnd rm = x86_opnd_rm(t, width, RMW), reg = x86_opnd_reg(t, in->reg, width);
    if (rm.kind != X86_O_MEM) {
        xchg_regs(t, &rm, &reg, width);
        return;
    }
    struct ir_arg v = x86_arg(t, &reg);
    struct ir_op *op = x86_tr_emit(t, IR_XCHG, width);
    op->dst = ir_m();
    op->a = v;
    op->mem = rm.mem;
    op->lock = true;
    if (reg.kind == X86_O_HIGH)
        x86_deposit8h(t, reg.n, v);
}

static void mov_rm(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = op_width(in);
    bool load = in->opcode & 2;
    struct x86_opnd rm = x86_opnd_rm(t, width, load ? READ : WRITE), reg = x86_opnd_reg(t, in->reg, width);
    const struct x86_opnd *dst = load ? &reg : &rm, *src = load ? &rm : &reg;
    struct ir_arg v = x86_arg(t, src);
    if (src->kind != X86_O_MEM) {
        x86_write(t, dst, width, v);
    } else if (dst->kind == X86_O_HIGH) {
        x86_deposit8h(t, dst->n, x86_load(t, src->mem, 1));
    } else {
        x86_mov(t, ir_g(dst->n), v, width)->mem = src->mem;
    }
}

static void moffs(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = op_width(in);
    bool load = in->opcode < 0xa2;
    struct ir_mem mem = x86_tr_mem(t, width, load ? READ : WRITE);
    if (load)
        x86_mov(t, ir_g(X86_RAX), ir_m(), width)->mem = mem;
    else
        x86_store(t, mem, ir_g(X86_RAX), width);
}

static void lea(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (!x86_is_mem(in)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    struct ir_mem mem = x86_mem_raw(t);
    struct ir_op *op = x86_tr_emit(t, IR_LEA, in->opsize);
    op->dst = ir_g(in->reg);
    op->mem = mem;
}

static void movsxd(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned swidth = in->opsize == 2 ? 2 : 4;
    struct x86_opnd rm = x86_opnd_rm(t, swidth, READ);
    struct ir_op *op = x86_tr_emit(t, in->opsize == 8 ? IR_MOVSX : IR_MOV, in->opsize);
    op->swidth = (uint8_t)swidth;
    op->dst = ir_g(in->reg);
    op->a = rm.kind == X86_O_MEM ? ir_m() : ir_g(rm.n);
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

static void arpl(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (!x86_protected(t)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    struct x86_opnd rm = x86_opnd_rm(t, 2, RMW);
    struct ir_arg old = rm.kind == X86_O_MEM ? x86_load(t, rm.mem, 2) : x86_zx(t, ir_g(rm.n), 2), result = x86_temp(t);
    if (rm.kind == X86_O_MEM)
        x86_store(t, rm.mem, old, 2); /* a write fault before ZF changes */
    x86_call(t, result, x86_h_arpl, X86_CALL_FLAGS, old, x86_zx(t, ir_g(in->reg), 2), ir_none());
    x86_write(t, &rm, 2, result);
}

static void bound(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (!x86_is_mem(in)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    struct ir_arg lin = x86_tr_linear(t, in->opsize * 2, READ);
    x86_call(t, ir_none(), x86_h_bound, 0, x86_zx(t, ir_g(in->reg), in->opsize), lin, ir_i(in->opsize));
}

static struct ir_arg sign_extend(struct x86_tr *t, struct ir_arg a, unsigned swidth)
{
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_MOVSX, 8);
    op->swidth = (uint8_t)swidth;
    op->dst = ret;
    op->a = a;
    return ret;
}

static struct ir_arg byte_swap(struct x86_tr *t, struct ir_arg a)
{
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_BSWAP, 8);
    op->dst = ret;
    op->a = a;
    return ret;
}

/* CBW, CWDE, CDQE */
static void extend_acc(struct x86_tr *t)
{
    struct ir_op *op = x86_tr_emit(t, IR_MOVSX, t->in->opsize);
    op->swidth = t->in->opsize / 2;
    op->dst = op->a = ir_g(X86_RAX);
}

/* CWD, CDQ, CQO. Flags must stay, so no shift: with the sign in all high bytes, swapping bytes brings it down. */
static void sign_to_dx(struct x86_tr *t)
{
    unsigned width = t->in->opsize;
    struct ir_arg v = ir_g(X86_RAX);
    if (width == 8)
        v = byte_swap(t, sign_extend(t, byte_swap(t, v), 1));
    else
        v = byte_swap(t, sign_extend(t, v, width));
    if (width == 8)
        v = sign_extend(t, v, 4);
    x86_mov(t, ir_g(X86_RDX), v, width);
}

static void lahf(struct x86_tr *t)
{
    struct ir_arg f = x86_temp(t);
    x86_tr_emit(t, IR_GETF, 8)->dst = f;
    struct ir_arg with_one = x86_lea(t, (struct ir_mem){ .base = f, .disp = X86_FL_1, .abits = 64, .seg = IR_SEG_NONE });
    x86_deposit8h(t, X86_RAX, with_one);
}

static void set_flags(struct x86_tr *t, unsigned flags, struct ir_arg value)
{
    struct ir_op *op = x86_tr_emit(t, IR_SETF, 8);
    op->fdef = (uint16_t)flags;
    op->a = value;
}

static struct ir_arg condition(struct x86_tr *t, unsigned cond)
{
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_SETCC, 1);
    op->cond = (uint8_t)cond;
    op->fuse = x86_cond_flags(cond);
    op->dst = ret;
    return ret;
}

static void salc(struct x86_tr *t)
{
    struct ir_arg ret = x86_temp(t), ones = x86_temp(t);
    x86_mov(t, ret, ir_i(0), 8);
    x86_mov(t, ones, ir_i(0xff), 8);
    struct ir_op *op = x86_tr_emit(t, IR_CMOV, 8);
    op->cond = IR_CC_B;
    op->fuse = X86_FL_CF;
    op->dst = ret;
    op->a = ones;
    x86_mov(t, ir_g(X86_RAX), ret, 1);
}

/* CLD, STD: DF is bit 2 of byte 1 of s.rflags. The arithmetic flags survive the logic on it. */
static void set_df(struct x86_tr *t, bool set)
{
    struct ir_arg f = x86_temp(t);
    x86_tr_emit(t, IR_GETF, 8)->dst = f;
    struct ir_arg v = x86_lds(t, X86_OFFSET(s.rflags) + 1, 1);
    struct ir_op *op = x86_tr_emit(t, set ? IR_OR : IR_AND, 4);
    op->dst = op->a = v;
    op->b = ir_i(set ? 4 : 0xfb);
    x86_sts(t, X86_OFFSET(s.rflags) + 1, v, 1);
    set_flags(t, X86_FL_ARITH, f);
}

static void xlat(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    struct ir_mem raw = { .base = ir_g(X86_RBX), .index = x86_zx(t, ir_g(X86_RAX), 1),
                          .abits = (uint8_t)(in->addrsize * 8), .seg = IR_SEG_NONE };
    struct ir_mem mem = x86_mem_seg(t, raw, in->mem_seg, 1, READ);
    x86_mov(t, ir_g(X86_RAX), ir_m(), 1)->mem = mem;
}

/* String instructions: helpers that advance the registers; a repeated one that was interrupted starts again. */
static void string(struct x86_tr *t, x86_helper_fn *fn, bool compares)
{
    const struct x86_insn *in = t->in;
    unsigned size = op_width(in), rep = in->last_rep ? 1 : 0;
    if ((fn == x86_h_ins || fn == x86_h_outs) && size == 8)
        size = 4;
    if (compares && in->last_rep == 0xf2)
        rep = 2;
    struct ir_arg done = rep ? x86_temp(t) : ir_none();
    uint32_t c = size | in->addrsize << 8 | rep << 16 | (uint32_t)in->mem_seg << 24;
    x86_call(t, done, fn, IR_CALL_WRITES_G | (compares ? X86_CALL_FLAGS : 0), ir_i(0), x86_rip_arg(t, t->next), ir_i(c));
    if (rep)
        x86_branch_zero(t, true, done, 4, x86_label_exit(t, t->rip));
}

static void adjust(struct x86_tr *t, x86_helper_fn *fn)
{
    x86_call(t, ir_none(), fn, IR_CALL_WRITES_G | X86_CALL_FLAGS, ir_i((uint8_t)t->in->imm), ir_none(), ir_none());
}

static bool only_legacy(struct x86_tr *t)
{
    if (t->code != 8)
        return true;
    x86_tr_raise(t, X86_UD);
    return false;
}

static bool string_insn(struct x86_tr *t)
{
    switch (t->in->opcode) {
    case 0x6c: case 0x6d: string(t, x86_h_ins, false); return true;
    case 0x6e: case 0x6f: string(t, x86_h_outs, false); return true;
    case 0xa4: case 0xa5: string(t, x86_h_movs, false); return true;
    case 0xa6: case 0xa7: string(t, x86_h_cmps, true); return true;
    case 0xaa: case 0xab: string(t, x86_h_stos, false); return true;
    case 0xac: case 0xad: string(t, x86_h_lods, false); return true;
    case 0xae: case 0xaf: string(t, x86_h_scas, true); return true;
    }
    return false;
}

static bool decimal_insn(struct x86_tr *t)
{
    x86_helper_fn *fn;
    switch (t->in->opcode) {
    case 0x27: fn = x86_h_daa; break;
    case 0x2f: fn = x86_h_das; break;
    case 0x37: fn = x86_h_aaa; break;
    case 0x3f: fn = x86_h_aas; break;
    case 0xd4: fn = x86_h_aam; break;
    case 0xd5: fn = x86_h_aad; break;
    default: return false;
    }
    if (only_legacy(t))
        adjust(t, fn);
    return true;
}

static bool flag_insn(struct x86_tr *t)
{
    switch (t->in->opcode) {
    case 0x9e: {
        struct ir_arg ah = x86_temp(t);
        struct ir_op *op = x86_tr_emit(t, IR_EXT8H, 1);
        op->dst = ah;
        op->a = ir_g(X86_RAX);
        set_flags(t, X86_FL_ARITH & ~X86_FL_OF, ah);
        return true;
    }
    case 0x9f: lahf(t); return true;
    case 0xf5: set_flags(t, X86_FL_CF, condition(t, IR_CC_AE)); return true;
    case 0xf8: set_flags(t, X86_FL_CF, ir_i(0)); return true;
    case 0xf9: set_flags(t, X86_FL_CF, ir_i(X86_FL_CF)); return true;
    case 0xfc: set_df(t, false); return true;
    case 0xfd: set_df(t, true); return true;
    case 0xd6:
        if (only_legacy(t))
            salc(t);
        return true;
    }
    return false;
}

static void test_rm(struct x86_tr *t)
{
    unsigned width = op_width(t->in);
    struct x86_opnd rm = x86_opnd_rm(t, width, READ), reg = x86_opnd_reg(t, t->in->reg, width);
    binary(t, IR_TEST, width, &rm, ir_none(), &reg);
}

static void mov_imm_rm(struct x86_tr *t)
{
    if (x86_group(t->in)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    unsigned width = op_width(t->in);
    struct x86_opnd rm = x86_opnd_rm(t, width, WRITE);
    x86_write(t, &rm, width, ir_i((int64_t)t->in->imm));
}

static bool move_insn(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned low = (in->opcode & 7) | (in->rex & 1 ? 8 : 0);
    switch (in->opcode) {
    case 0x86: case 0x87: xchg(t); return true;
    case 0x88: case 0x89: case 0x8a: case 0x8b: mov_rm(t); return true;
    case 0x8d: lea(t); return true;
    case 0x90 ... 0x97: {
        if (low == X86_RAX)
            return true; /* NOP, PAUSE */
        struct x86_opnd a = { .kind = X86_O_REG, .n = X86_RAX }, b = { .kind = X86_O_REG, .n = (uint8_t)low };
        xchg_regs(t, &a, &b, in->opsize);
        return true;
    }
    case 0x98: extend_acc(t); return true;
    case 0x99: sign_to_dx(t); return true;
    case 0xa0 ... 0xa3: moffs(t); return true;
    case 0xb0 ... 0xb7: {
        struct x86_opnd r = x86_opnd_reg(t, low, 1);
        x86_write(t, &r, 1, ir_i((int64_t)in->imm));
        return true;
    }
    case 0xb8 ... 0xbf:
        x86_mov(t, ir_g(low), ir_i((int64_t)in->imm), in->opsize);
        return true;
    case 0xc6: case 0xc7: mov_imm_rm(t); return true;
    case 0xd7: xlat(t); return true;
    }
    return false;
}

bool x86_translate_int(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    struct x86_opnd acc = { .kind = X86_O_REG, .n = X86_RAX };
    if (in->opcode < 0x40 && (in->opcode & 7) < 6)
        return alu(t);
    if (move_insn(t) || string_insn(t) || decimal_insn(t) || flag_insn(t))
        return true;
    switch (in->opcode) {
    case 0x40 ... 0x4f: {
        struct x86_opnd r = { .kind = X86_O_REG, .n = in->opcode & 7 };
        unary(t, in->opcode & 8 ? IR_DEC : IR_INC, in->opsize, &r);
        return true;
    }
    case 0x62: bound(t); return true;
    case 0x63:
        if (t->code == 8)
            movsxd(t);
        else
            arpl(t);
        return true;
    case 0x69: case 0x6b: imul3(t); return true;
    case 0x82:
        if (only_legacy(t))
            group1(t);
        return true;
    case 0x80: case 0x81: case 0x83: group1(t); return true;
    case 0x84: case 0x85: test_rm(t); return true;
    case 0xa8: case 0xa9:
        binary(t, IR_TEST, op_width(in), &acc, ir_i((int64_t)in->imm), NULL);
        return true;
    case 0xc0: case 0xc1: shift(t, ir_i((uint8_t)in->imm)); return true;
    case 0xd0: case 0xd1: shift(t, ir_i(1)); return true;
    case 0xd2: case 0xd3: shift(t, ir_g(X86_RCX)); return true;
    case 0xf6: case 0xf7: group3(t); return true;
    case 0xfe: case 0xff: return group45(t);
    }
    return false;
}
