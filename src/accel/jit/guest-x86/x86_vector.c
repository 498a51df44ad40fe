/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MMX and SSE: the guest instruction becomes one IR_HOST operation, its operands renamed. What an opcode is stands in
 * x86_vector_table.inc; the code here checks that it may run (features, CR0, CR4) and copies the operands.
 */
#include "accel/jit/guest-x86/x86_vector.h"

#include "accel/jit/guest-x86/x86_helpers.h"

enum { PFX_NP, PFX_66, PFX_F3, PFX_F2, PFX_COUNT };
enum kind { KIND_N, KIND_X, KIND_M, KIND_G, KIND_W };
enum {
    ST = 0x01, AL = 0x02, IM = 0x04, FL = 0x08, RO = 0x10, MO = 0x20,
    EA = 0x40, /* reads RAX and RDX */
    CX = 0x80, /* writes RCX */
};
#define EXT(mask) ((mask) << 8)
#define SZ_W 0xff

struct row {
    uint16_t feature;
    uint8_t reg, rm; /* enum kind */
    uint8_t msize;
    bool valid;
    uint16_t flags;
};

#define ROW(p, op, feat, rg, r, size, fl) \
    [PFX_##p][op] = { X86_FEAT_##feat, KIND_##rg, KIND_##r, size, true, fl },
#define NO_ROW(p, op, feat, rg, r, size, fl)

#define V0F ROW
#define V38 NO_ROW
#define V3A NO_ROW
static const struct row rows_0f[PFX_COUNT][256] = {
#include "accel/jit/guest-x86/x86_vector_table.inc"
};
#undef V0F
#undef V38
#define V0F NO_ROW
#define V38 ROW
static const struct row rows_0f38[PFX_COUNT][256] = {
#include "accel/jit/guest-x86/x86_vector_table.inc"
};
#undef V38
#undef V3A
#define V38 NO_ROW
#define V3A ROW
static const struct row rows_0f3a[PFX_COUNT][256] = {
#include "accel/jit/guest-x86/x86_vector_table.inc"
};

struct ir_arg x86_vector_temp(struct x86_tr *t)
{
    return ir_t(ir_new_temp(t->r));
}

void x86_vector_mov(struct x86_tr *t, struct ir_arg dst, struct ir_arg src, unsigned width)
{
    struct ir_op *op = x86_tr_emit(t, IR_MOV, width);
    op->dst = dst;
    op->a = src;
}

struct ir_op *x86_vector_emit(struct x86_tr *t, uint8_t map, uint8_t pfx, unsigned msize, unsigned access)
{
    struct ir_mem mem = { 0 };
    if (msize)
        mem = x86_tr_mem(t, msize, access);
    struct ir_op *op = x86_tr_emit(t, IR_HOST, 8);
    op->fdef = op->fuse = 0;
    op->host.map = map;
    op->host.opcode = t->in->opcode;
    op->host.pfx = pfx;
    op->host.gwidth = 4;
    if (msize) {
        op->mem = mem;
        op->host.rm_kind = IR_HO_MEM;
        op->host.msize = (uint8_t)msize;
        op->host.maccess = (uint8_t)(((access & JIT_ACC_READ) ? 1 : 0) | ((access & JIT_ACC_WRITE) ? 2 : 0));
    }
    return op;
}

static unsigned pfx_index(uint8_t pfx)
{
    return pfx == 0x66 ? PFX_66 : pfx == 0xf3 ? PFX_F3 : pfx == 0xf2 ? PFX_F2 : PFX_NP;
}

static const struct row *find_row(const struct x86_insn *in, uint8_t pfx)
{
    const struct row *row;
    switch (in->map) {
    case X86_MAP_0F: row = &rows_0f[pfx_index(pfx)][in->opcode]; break;
    case X86_MAP_0F38: row = &rows_0f38[pfx_index(pfx)][in->opcode]; break;
    case X86_MAP_0F3A: row = &rows_0f3a[pfx_index(pfx)][in->opcode]; break;
    default: return NULL;
    }
    if (!row->valid)
        return NULL;
    bool emms = row->reg == KIND_N && row->rm == KIND_N;
    if (!emms && ((in->mod == 3 && (row->flags & MO)) || (in->mod != 3 && (row->flags & RO))))
        return NULL;
    unsigned ext = row->flags >> 8;
    return !ext || (ext >> (in->reg & 7) & 1) ? row : NULL;
}

/* The exception that the row raises in this mode before it looks at memory, or -1 (SDM vol. 3, 2.5 CR0.EM and CR0.TS,
 * 12.1 for MMX; vol. 2, 2.4 for SSE; MOVNTI and others without vector operands need neither). */
static int row_exception(struct x86_tr *t, const struct row *row)
{
    bool xmm = row->reg == KIND_X || row->rm == KIND_X;
    bool mmx = row->reg == KIND_M || row->rm == KIND_M || (row->reg == KIND_N && row->rm == KIND_N);
    if (t->in->lock || !x86_tr_has(t, row->feature))
        return X86_UD;
    if (!xmm && !mmx)
        return -1;
    if ((t->mode & JIT_MODE_FPU_EM) || (xmm && !(t->mode & JIT_MODE_SSE)))
        return X86_UD;
    return (t->mode & JIT_MODE_FPU_NM) ? X86_NM : -1;
}

/* Fills one register operand (the reg or the rm field) of an IR_HOST operation. */
static void set_operand(uint8_t kind, unsigned n, uint8_t *ret_kind, uint8_t *ret_n, struct ir_arg *ret_gpr)
{
    switch (kind) {
    case KIND_X:
        *ret_kind = IR_HO_XMM;
        *ret_n = (uint8_t)n;
        break;
    case KIND_M: /* REX.R and REX.B do not reach MMX registers */
        *ret_kind = IR_HO_MM;
        *ret_n = n & 7;
        break;
    case KIND_G:
    case KIND_W:
        *ret_kind = IR_HO_GPR;
        *ret_gpr = ir_g(n);
        break;
    default:
        break;
    }
}

static void emit_row(struct x86_tr *t, const struct row *row, uint8_t pfx)
{
    static const uint8_t maps[] = {
        [X86_MAP_0F] = IR_MAP_0F, [X86_MAP_0F38] = IR_MAP_0F38, [X86_MAP_0F3A] = IR_MAP_0F3A
    };
    const struct x86_insn *in = t->in;
    bool store = row->flags & ST;
    bool emms = row->reg == KIND_N && row->rm == KIND_N;
    bool mem_form = !emms && in->mod != 3;
    unsigned gwidth = row->reg == KIND_W || row->rm == KIND_W ? x86_vector_gwidth(in) : 4;
    unsigned msize = !mem_form ? 0 : row->msize == SZ_W ? gwidth : row->msize;
    struct ir_op *op = x86_vector_emit(t, maps[in->map], pfx, msize, store ? JIT_ACC_WRITE : JIT_ACC_READ);

    op->host.gwidth = (uint8_t)gwidth;
    op->host.w = gwidth == 8 || ((row->flags & EA) && (in->rex & 8));
    set_operand(row->reg, in->reg, &op->host.reg_kind, &op->host.reg, &op->c);
    if (row->flags >> 8) {
        op->host.reg_kind = IR_HO_FIXED;
        op->host.reg = in->reg & 7;
    }
    if (op->host.reg_kind == IR_HO_GPR) {
        op->host.reg_read = store;
        op->host.reg_write = !store;
    }
    if (mem_form)
        op->mem.align = (row->flags & AL) ? 16 : 0;
    else
        set_operand(row->rm, in->rm, &op->host.rm_kind, &op->host.rm, &op->a);
    if (op->host.rm_kind == IR_HO_GPR) {
        op->host.rm_read = !store;
        op->host.rm_write = store;
    }
    if (row->flags & IM) {
        op->host.has_imm = true;
        op->host.imm = (uint8_t)in->imm;
    }
    if (row->flags & FL)
        op->fdef = X86_FL_ARITH;
    if (row->flags & CX)
        op->dst = ir_g(X86_RCX);
    if (row->flags & EA)
        op->b = ir_g(X86_RAX);
}

/* T = eight bytes of a vector register: MMX n, or half `high` of XMM n. */
static struct ir_arg vector_qword(struct x86_tr *t, bool xmm, unsigned n, bool high)
{
    struct ir_arg ret = x86_vector_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_HOST, 8);
    op->host = (struct ir_host){ .map = high ? IR_MAP_0F3A : IR_MAP_0F, .opcode = high ? 0x16 : 0x7e, /* PEXTRQ, MOVQ */
        .pfx = xmm ? 0x66 : 0, .w = true, .reg_kind = xmm ? IR_HO_XMM : IR_HO_MM, .reg = (uint8_t)n,
        .rm_kind = IR_HO_GPR, .rm_write = true, .gwidth = 8, .has_imm = high, .imm = high };
    op->a = ret;
    return ret;
}

/* MASKMOVQ, MASKMOVDQU: the bytes of `reg` selected by the high bits of `rm`'s bytes go to [rDI] (DS or the
 * override). */
static void emit_maskmov(struct x86_tr *t, bool xmm)
{
    const struct x86_insn *in = t->in;
    unsigned data = xmm ? in->reg : in->reg & 7, mask = xmm ? in->rm : in->rm & 7;
    struct x86_insn mem = *in; /* the same instruction with [rDI] for its memory operand */
    mem.mod = 0;
    mem.base = X86_RDI;
    mem.index = -1;
    mem.scale = 0;
    mem.disp = 0;
    mem.rip_relative = false;
    mem.mem_seg = in->seg == IR_SEG_NONE ? X86_DS : in->seg;
    t->in = &mem;
    struct ir_arg lin = x86_tr_linear(t, xmm ? 16 : 8, JIT_ACC_WRITE);
    t->in = in;

    struct ir_arg lo = vector_qword(t, xmm, data, false), lo_mask = vector_qword(t, xmm, mask, false);
    if (xmm) {
        /* The high half first: a fault in either leaves an instruction that can simply be run again. */
        struct ir_arg hi = vector_qword(t, true, data, true), hi_mask = vector_qword(t, true, mask, true);
        struct ir_arg lin8 = x86_vector_temp(t);
        struct ir_op *op = x86_tr_emit(t, IR_LEA, t->code == 8 ? 8 : 4);
        op->dst = lin8;
        op->mem = (struct ir_mem){ .base = lin, .disp = 8, .abits = t->code == 8 ? 64 : 32, .seg = IR_SEG_NONE };
        x86_tr_call(t, ir_none(), x86_h_maskmov, 0, lin8, hi, hi_mask);
    }
    x86_tr_call(t, ir_none(), x86_h_maskmov, 0, lin, lo, lo_mask);
}

static bool translate_row(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    uint8_t pfx = x86_vector_pfx(in);
    const struct row *row = find_row(in, pfx);
    if (!row)
        return false;
    int vector = row_exception(t, row);
    if (vector >= 0)
        x86_tr_raise(t, (unsigned)vector);
    else if (in->map == X86_MAP_0F && in->opcode == 0xf7)
        emit_maskmov(t, pfx == 0x66);
    else
        emit_row(t, row, pfx);
    return true;
}

bool x86_translate_vector(struct x86_tr *t)
{
    if (!t->in->vex && t->in->map == X86_MAP_ONE)
        return x86_translate_x87(t);
    return x86_translate_bits(t) || (!t->in->vex && translate_row(t));
}
