/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two-byte opcodes of the integer set. Source: SDM vol. 2, chapters 3 to 5. */
#include "accel/jit/guest-x86/x86_tr.h"

#define READ JIT_ACC_READ
#define WRITE JIT_ACC_WRITE
#define RMW (JIT_ACC_READ | JIT_ACC_WRITE)

/* reg = op rm, or reg = reg op rm. */
static struct ir_op *reg_rm(struct x86_tr *t, unsigned opcode, unsigned width, bool binary)
{
    const struct x86_insn *in = t->in;
    struct x86_opnd rm = x86_opnd_rm(t, width, READ);
    struct ir_arg src = x86_arg(t, &rm);
    struct ir_op *op = x86_tr_emit(t, opcode, width);
    op->dst = ir_g(in->reg);
    op->a = binary ? ir_g(in->reg) : src;
    if (binary)
        op->b = src;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
    return op;
}

static void cmov(struct x86_tr *t)
{
    struct ir_op *op = reg_rm(t, IR_CMOV, t->in->opsize, false);
    op->cond = t->in->opcode & 15;
    op->fuse = x86_cond_flags(op->cond);
}

static void setcc(struct x86_tr *t)
{
    struct x86_opnd rm = x86_opnd_rm(t, 1, WRITE);
    struct ir_arg dst = rm.kind == X86_O_REG ? ir_g(rm.n) : rm.kind == X86_O_MEM ? ir_m() : x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_SETCC, 1);
    op->cond = t->in->opcode & 15;
    op->fuse = x86_cond_flags(op->cond);
    op->dst = dst;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
    if (rm.kind == X86_O_HIGH)
        x86_deposit8h(t, rm.n, dst);
}

/* MOVZX, MOVSX */
static void extend(struct x86_tr *t, unsigned opcode)
{
    const struct x86_insn *in = t->in;
    unsigned swidth = in->opcode & 1 ? 2 : 1;
    struct x86_opnd rm = x86_opnd_rm(t, swidth, READ);
    struct ir_arg src = x86_arg(t, &rm);
    struct ir_op *op = x86_tr_emit(t, swidth == in->opsize ? IR_MOV : opcode, in->opsize);
    op->swidth = (uint8_t)swidth;
    op->dst = ir_g(in->reg);
    op->a = src;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

/* Offset of the element of a bit string in memory that holds bit `reg`: signed bits / (8 * width) elements on. *ret_bit: the bit
 * within that element (the host's own instruction would add the element's offset once more). */
static struct ir_mem bit_string(struct x86_tr *t, unsigned width, struct ir_arg *ret_bit)
{
    const struct x86_insn *in = t->in;
    unsigned log = width == 8 ? 3 : width == 4 ? 2 : 1;
    struct ir_arg flags = x86_temp(t), elem = x86_temp(t);
    x86_tr_emit(t, IR_GETF, 8)->dst = flags; /* BT keeps ZF */
    struct ir_op *op = x86_tr_emit(t, width == 8 ? IR_MOV : IR_MOVSX, 8);
    op->swidth = (uint8_t)width;
    op->dst = elem;
    op->a = ir_g(in->reg);
    op = x86_tr_emit(t, IR_SAR, 8);
    op->dst = op->a = elem;
    op->b = ir_i(3 + log);
    *ret_bit = x86_temp(t);
    op = x86_tr_emit(t, IR_AND, 4);
    op->dst = *ret_bit;
    op->a = ir_g(in->reg);
    op->b = ir_i(width * 8 - 1);
    x86_tr_emit(t, IR_SETF, 8)->a = flags;
    struct ir_mem raw = x86_mem_raw(t);
    if (raw.index.kind != IR_NONE)
        raw = (struct ir_mem){ .base = x86_lea(t, raw), .abits = raw.abits, .seg = IR_SEG_NONE };
    raw.index = elem;
    raw.scale = (uint8_t)log;
    return raw;
}

static void bit_test(struct x86_tr *t, unsigned which, bool imm)
{
    static const uint8_t ops[4] = { IR_BT, IR_BTS, IR_BTR, IR_BTC };
    const struct x86_insn *in = t->in;
    unsigned width = in->opsize, access = which ? RMW : READ;
    struct x86_opnd rm;
    struct ir_arg bit = imm ? ir_i((int64_t)in->imm & (width * 8 - 1)) : ir_g(in->reg);
    if (imm || !x86_is_mem(in))
        rm = x86_opnd_rm(t, width, access);
    else
        rm = (struct x86_opnd){ .kind = X86_O_MEM,
                                .mem = x86_mem_seg(t, bit_string(t, width, &bit), in->mem_seg, width, access) };
    struct ir_op *op = x86_tr_emit(t, ops[which], width);
    op->a = rm.kind == X86_O_MEM ? ir_m() : ir_g(rm.n);
    op->b = bit;
    if (which)
        op->dst = op->a;
    op->lock = in->lock;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

static void double_shift(struct x86_tr *t, unsigned opcode, struct ir_arg count)
{
    const struct x86_insn *in = t->in;
    unsigned width = in->opsize;
    struct x86_opnd rm = x86_opnd_rm(t, width, RMW);
    if (count.kind == IR_I) {
        count.imm &= width == 8 ? 63 : 31;
        if (!count.imm && rm.kind != X86_O_MEM) {
            if (width == 4)
                x86_mov(t, ir_g(rm.n), ir_g(rm.n), 4);
            return;
        }
    }
    struct ir_op *op = x86_tr_emit(t, opcode, width);
    op->dst = op->a = rm.kind == X86_O_MEM ? ir_m() : ir_g(rm.n);
    op->b = ir_g(in->reg);
    op->c = count;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

/* A conditional move between temps, all 64 bits. */
static void pick(struct x86_tr *t, unsigned cond, struct ir_arg dst, struct ir_arg src)
{
    struct ir_op *op = x86_tr_emit(t, IR_CMOV, 8);
    op->cond = (uint8_t)cond;
    op->fuse = x86_cond_flags(cond);
    op->dst = dst;
    op->a = src;
}

/* CMPXCHG with AH, CH, DH or BH as the destination. */
static void cmpxchg_high(struct x86_tr *t, const struct x86_opnd *rm, const struct x86_opnd *reg)
{
    struct ir_arg old = x86_arg(t, rm), src = x86_zx(t, x86_arg(t, reg), 1);
    struct ir_arg dst = x86_temp(t), al = x86_zx(t, ir_g(X86_RAX), 1);
    struct ir_op *op = x86_tr_emit(t, IR_CMP, 1);
    op->a = al;
    op->b = old;
    x86_mov(t, dst, old, 8);
    pick(t, IR_CC_E, dst, src);
    pick(t, IR_CC_NE, al, old);
    x86_mov(t, ir_g(X86_RAX), al, 1);
    x86_deposit8h(t, rm->n, dst);
}

static void cmpxchg(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = in->opcode & 1 ? in->opsize : 1;
    struct x86_opnd rm = x86_opnd_rm(t, width, RMW), reg = x86_opnd_reg(t, in->reg, width);
    if (rm.kind == X86_O_HIGH) {
        cmpxchg_high(t, &rm, &reg);
        return;
    }
    struct ir_arg src = x86_arg(t, &reg);
    struct ir_op *op = x86_tr_emit(t, IR_CMPXCHG, width);
    op->dst = rm.kind == X86_O_MEM ? ir_m() : ir_g(rm.n);
    op->b = src;
    op->lock = in->lock;
    if (rm.kind == X86_O_MEM)
        op->mem = rm.mem;
}

static void xadd(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = in->opcode & 1 ? in->opsize : 1;
    struct x86_opnd rm = x86_opnd_rm(t, width, RMW), reg = x86_opnd_reg(t, in->reg, width);
    if (rm.kind == X86_O_MEM) {
        struct ir_arg src = x86_arg(t, &reg);
        struct ir_op *op = x86_tr_emit(t, IR_XADD, width);
        op->dst = ir_m();
        op->b = src;
        op->mem = rm.mem;
        op->lock = in->lock;
        if (reg.kind == X86_O_HIGH)
            x86_deposit8h(t, reg.n, src);
        return;
    }
    struct ir_arg old = x86_temp(t), sum = x86_temp(t), a = x86_arg(t, &rm), b = x86_arg(t, &reg);
    x86_mov(t, old, a, width);
    struct ir_op *op = x86_tr_emit(t, IR_ADD, width);
    op->dst = sum;
    op->a = old;
    op->b = b;
    x86_write(t, &reg, width, old);
    x86_write(t, &rm, width, sum);
}

static void bswap(struct x86_tr *t)
{
    unsigned n = (t->in->opcode & 7) | (t->in->rex & 1 ? 8 : 0);
    if (t->in->opsize == 2) { /* undefined; processors give zero */
        x86_mov(t, ir_g(n), ir_i(0), 2);
        return;
    }
    struct ir_op *op = x86_tr_emit(t, IR_BSWAP, t->in->opsize);
    op->dst = op->a = ir_g(n);
}

/* 0F B8, BC, BD: POPCNT, TZCNT and LZCNT with F3 where the CPU has them; else BSF and BSR. */
static void bit_scan(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    bool f3 = in->last_rep == 0xf3;
    if (in->opcode == 0xb8) {
        if (!f3 || !x86_tr_has(t, X86_FEAT_POPCNT))
            x86_tr_raise(t, X86_UD);
        else
            reg_rm(t, IR_POPCNT, in->opsize, false);
        return;
    }
    bool forward = in->opcode == 0xbc;
    bool count = f3 && x86_tr_has(t, forward ? X86_FEAT_BMI1 : X86_FEAT_ABM);
    reg_rm(t, forward ? count ? IR_TZCNT : IR_BSF : count ? IR_LZCNT : IR_BSR, in->opsize, false);
}

/* 0F C7 /1 */
static void cmpxchg8b(struct x86_tr *t)
{
    bool wide = t->in->opsize == 8;
    if (wide && !x86_tr_has(t, X86_FEAT_CX16)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    struct ir_arg lin = x86_tr_linear(t, wide ? 16 : 8, RMW);
    x86_call(t, ir_none(), wide ? x86_h_cmpxchg16b : x86_h_cmpxchg8b, IR_CALL_WRITES_G | X86_CALL_FLAGS, lin, ir_none(),
             ir_i(t->in->lock));
}

static void movnti(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    struct x86_opnd rm = x86_opnd_rm(t, in->opsize, WRITE);
    x86_write(t, &rm, in->opsize, ir_g(in->reg));
}

static bool bit_insn(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    switch (in->opcode) {
    case 0xa3: case 0xab: case 0xb3: case 0xbb:
        bit_test(t, in->opcode >> 3 & 3, false);
        return true;
    case 0xba:
        if (x86_group(in) < 4)
            x86_tr_raise(t, X86_UD);
        else
            bit_test(t, x86_group(in) & 3, true);
        return true;
    case 0xa4: double_shift(t, IR_SHLD, ir_i((uint8_t)in->imm)); return true;
    case 0xa5: double_shift(t, IR_SHLD, ir_g(X86_RCX)); return true;
    case 0xac: double_shift(t, IR_SHRD, ir_i((uint8_t)in->imm)); return true;
    case 0xad: double_shift(t, IR_SHRD, ir_g(X86_RCX)); return true;
    case 0xb8: case 0xbc: case 0xbd: bit_scan(t); return true;
    }
    return false;
}

bool x86_translate_int0f(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (in->map != X86_MAP_0F)
        return false;
    if (bit_insn(t))
        return true;
    switch (in->opcode) {
    case 0x0d: /* PREFETCHW is a hint; its register form does not exist */
        if (!x86_is_mem(in))
            x86_tr_raise(t, X86_UD);
        return true;
    case 0x18 ... 0x1f: /* hints, ENDBR */
        return true;
    case 0x40 ... 0x4f: cmov(t); return true;
    case 0x90 ... 0x9f: setcc(t); return true;
    case 0xaf: reg_rm(t, IR_IMUL, in->opsize, true); return true;
    case 0xb0: case 0xb1: cmpxchg(t); return true;
    case 0xb6: case 0xb7: extend(t, IR_MOVZX); return true;
    case 0xbe: case 0xbf: extend(t, IR_MOVSX); return true;
    case 0xc0: case 0xc1: xadd(t); return true;
    case 0xc3:
        if (!x86_is_mem(in) || in->opsize_prefix || in->last_rep)
            return false;
        movnti(t);
        return true;
    case 0xc7:
        if (x86_group(in) != 1 || !x86_is_mem(in))
            return false;
        cmpxchg8b(t);
        return true;
    case 0xc8 ... 0xcf: bswap(t); return true;
    }
    return false;
}
