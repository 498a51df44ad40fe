/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * General-register instructions beyond the base set: BMI1, BMI2 (VEX-encoded), ADX, MOVBE, CRC32, RDRAND, RDSEED.
 * None of them depends on CR0 or CR4. Source: SDM vol. 2, the instructions' pages.
 */
#include "accel/jit/guest-x86/x86_vector.h"

enum vex_form {
    VEX_RVM, /* reg = vvvv op rm */
    VEX_RMV, /* reg = rm op vvvv: the same fields read and written as RVM */
    VEX_VM,  /* vvvv = op rm, reg an opcode extension */
    VEX_RMI, /* reg = rm op imm8; vvvv must be unused */
    VEX_MULX
};

struct vex_row {
    uint8_t map, pp, opcode; /* pp as VEX encodes it: none, 66, F3, F2 */
    int8_t ext;              /* of VEX_VM */
    uint16_t feature;
    uint8_t form;
    bool flags;
};

static const struct vex_row vex_rows[] = {
    { X86_MAP_0F38, 0, 0xf2, -1, X86_FEAT_BMI1, VEX_RVM, true },   /* ANDN */
    { X86_MAP_0F38, 0, 0xf3, 1, X86_FEAT_BMI1, VEX_VM, true },     /* BLSR */
    { X86_MAP_0F38, 0, 0xf3, 2, X86_FEAT_BMI1, VEX_VM, true },     /* BLSMSK */
    { X86_MAP_0F38, 0, 0xf3, 3, X86_FEAT_BMI1, VEX_VM, true },     /* BLSI */
    { X86_MAP_0F38, 0, 0xf5, -1, X86_FEAT_BMI2, VEX_RMV, true },   /* BZHI */
    { X86_MAP_0F38, 2, 0xf5, -1, X86_FEAT_BMI2, VEX_RVM, false },  /* PEXT */
    { X86_MAP_0F38, 3, 0xf5, -1, X86_FEAT_BMI2, VEX_RVM, false },  /* PDEP */
    { X86_MAP_0F38, 3, 0xf6, -1, X86_FEAT_BMI2, VEX_MULX, false }, /* MULX */
    { X86_MAP_0F38, 0, 0xf7, -1, X86_FEAT_BMI1, VEX_RMV, true },   /* BEXTR */
    { X86_MAP_0F38, 1, 0xf7, -1, X86_FEAT_BMI2, VEX_RMV, false },  /* SHLX */
    { X86_MAP_0F38, 2, 0xf7, -1, X86_FEAT_BMI2, VEX_RMV, false },  /* SARX */
    { X86_MAP_0F38, 3, 0xf7, -1, X86_FEAT_BMI2, VEX_RMV, false },  /* SHRX */
    { X86_MAP_0F3A, 3, 0xf0, -1, X86_FEAT_BMI2, VEX_RMI, false },  /* RORX */
};

static const uint8_t host_maps[] = { [X86_MAP_0F38] = IR_MAP_0F38, [X86_MAP_0F3A] = IR_MAP_0F3A };

static const struct vex_row *find_vex(const struct x86_insn *in)
{
    for (unsigned i = 0; i < sizeof vex_rows / sizeof vex_rows[0]; i++) {
        const struct vex_row *row = &vex_rows[i];
        if (row->map == in->map && row->pp == in->vex_pp && row->opcode == in->opcode &&
            (row->ext < 0 || row->ext == (in->reg & 7)))
            return row;
    }
    return NULL;
}

/* The rm operand as a value: the register, or a temp loaded from memory. */
static struct ir_arg rm_value(struct x86_tr *t, unsigned width)
{
    if (t->in->mod == 3)
        return ir_g(t->in->rm);
    struct ir_mem mem = x86_tr_mem(t, width, JIT_ACC_READ);
    struct ir_arg ret = x86_vector_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_MOV, width);
    op->dst = ret;
    op->a = ir_m();
    op->mem = mem;
    return ret;
}

/* When both destinations are one register it holds the high half. */
static void emit_mulx(struct x86_tr *t, unsigned width, unsigned vvvv)
{
    struct ir_arg src = rm_value(t, width);
    struct ir_op *op = x86_tr_emit(t, IR_MULX, width);
    op->fdef = op->fuse = 0;
    op->b = src;
    op->dst = ir_g(t->in->reg);
    op->c = vvvv == t->in->reg ? x86_vector_temp(t) : ir_g(vvvv);
}

static void emit_vex(struct x86_tr *t, const struct vex_row *row)
{
    const struct x86_insn *in = t->in;
    unsigned width = in->vex_w && t->code == 8 ? 8 : 4;
    unsigned vvvv = t->code == 8 ? in->vex_v & 15 : in->vex_v & 7;
    if (row->form == VEX_MULX) {
        emit_mulx(t, width, vvvv);
        return;
    }
    static const uint8_t prefixes[] = { 0, 0x66, 0xf3, 0xf2 };
    struct ir_op *op = x86_vector_emit(t, host_maps[in->map], prefixes[in->vex_pp & 3], in->mod == 3 ? 0 : width,
                                       JIT_ACC_READ);
    op->host.vex = true;
    op->host.w = width == 8;
    op->host.gwidth = (uint8_t)width;
    if (in->mod == 3) {
        op->host.rm_kind = IR_HO_GPR;
        op->host.rm_read = true;
        op->a = ir_g(in->rm);
    }
    if (row->form == VEX_VM) {
        op->host.reg_kind = IR_HO_FIXED;
        op->host.reg = (uint8_t)row->ext;
    } else {
        op->host.reg_kind = IR_HO_GPR;
        op->host.reg_write = true;
        op->c = ir_g(in->reg);
    }
    if (row->form == VEX_RMI) {
        op->host.has_imm = true;
        op->host.imm = (uint8_t)in->imm;
    } else {
        op->host.v_kind = IR_HO_GPR;
        op->host.v_write = row->form == VEX_VM;
        op->b = ir_g(vvvv);
    }
    if (row->flags)
        op->fdef = X86_FL_ARITH;
}

static bool translate_vex(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    const struct vex_row *row = find_vex(in);
    if (!row)
        return false;
    bool bad = in->lock || in->vex_l || (row->form == VEX_RMI && (in->vex_v & (t->code == 8 ? 15 : 7)));
    if (bad || !(t->mode & JIT_MODE_PE) || !x86_tr_has(t, row->feature))
        x86_tr_raise(t, X86_UD);
    else
        emit_vex(t, row);
    return true;
}

/* CRC32 of one byte of `byte` (a register) into acc. */
static void emit_crc_byte(struct x86_tr *t, struct ir_arg acc, struct ir_arg byte)
{
    struct ir_op *op = x86_tr_emit(t, IR_HOST, 8);
    op->host = (struct ir_host){ .map = IR_MAP_0F38, .opcode = 0xf0, .pfx = 0xf2, .reg_kind = IR_HO_GPR,
        .reg_read = true, .reg_write = true, .rm_kind = IR_HO_GPR, .rm_read = true, .gwidth = 4 };
    op->a = byte;
    op->c = acc;
}

/* T = byte 1 of src in its low byte, flags untouched: RORX. */
static struct ir_arg second_byte(struct x86_tr *t, struct ir_arg src)
{
    struct ir_arg ret = x86_vector_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_HOST, 8);
    op->host = (struct ir_host){ .map = IR_MAP_0F3A, .opcode = 0xf0, .pfx = 0xf2, .vex = true, .reg_kind = IR_HO_GPR,
        .reg_write = true, .rm_kind = IR_HO_GPR, .rm_read = true, .gwidth = 4, .has_imm = true, .imm = 8 };
    op->a = src;
    op->c = ret;
    return ret;
}

/* Sources of 8 and 16 bits go byte by byte (the CRC of a word is that of its two bytes in order), since host
 * operands have no such widths. */
static void emit_crc_narrow(struct x86_tr *t, unsigned size)
{
    const struct x86_insn *in = t->in;
    struct ir_arg src = x86_vector_temp(t), acc = x86_vector_temp(t);
    struct ir_mem mem = { 0 };
    bool high = size == 1 && in->mod == 3 && !in->rex && in->rm >= 4; /* AH CH DH BH */
    if (in->mod != 3)
        mem = x86_tr_mem(t, size, JIT_ACC_READ);
    struct ir_op *op = x86_tr_emit(t, in->mod == 3 ? IR_MOV : IR_MOVZX, 4);
    op->dst = src;
    op->a = in->mod == 3 ? ir_g(high ? in->rm - 4 : in->rm) : ir_m();
    op->mem = mem;
    if (in->mod != 3)
        op->swidth = (uint8_t)size;
    x86_vector_mov(t, acc, ir_g(in->reg), 4);
    if (!high)
        emit_crc_byte(t, acc, src);
    if (high || size == 2)
        emit_crc_byte(t, acc, second_byte(t, src));
    x86_vector_mov(t, ir_g(in->reg), acc, 4);
}

/* One operation with a general register in reg and a register or memory of the same width in rm. */
static struct ir_op *emit_reg_rm(struct x86_tr *t, uint8_t pfx, unsigned width, unsigned access)
{
    const struct x86_insn *in = t->in;
    struct ir_op *op = x86_vector_emit(t, IR_MAP_0F38, pfx, in->mod == 3 ? 0 : width, access);
    op->host.gwidth = width == 8 ? 8 : 4;
    op->host.w = width == 8;
    op->host.reg_kind = IR_HO_GPR;
    op->c = ir_g(in->reg);
    if (in->mod == 3) {
        op->host.rm_kind = IR_HO_GPR;
        op->host.rm_read = true;
        op->a = ir_g(in->rm);
    }
    return op;
}

static void emit_crc32(struct x86_tr *t)
{
    unsigned size = t->in->opcode == 0xf0 ? 1 : t->in->opsize;
    if (size < 4) {
        emit_crc_narrow(t, size);
        return;
    }
    struct ir_op *op = emit_reg_rm(t, 0xf2, size, JIT_ACC_READ);
    op->host.reg_read = op->host.reg_write = true;
}

static void emit_movbe(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    bool store = in->opcode == 0xf1;
    struct ir_op *op = emit_reg_rm(t, in->opsize == 2 ? 0x66 : 0, in->opsize, store ? JIT_ACC_WRITE : JIT_ACC_READ);
    op->host.reg_read = store;
    op->host.reg_write = !store;
    if (!store && in->opsize == 2) {
        struct ir_arg value = x86_vector_temp(t);
        op->c = value;
        x86_vector_mov(t, ir_g(in->reg), value, 2);
    }
}

/* ADCX reads and writes CF alone, ADOX OF alone. */
static void emit_adx(struct x86_tr *t, uint8_t pfx)
{
    struct ir_op *op = emit_reg_rm(t, pfx, x86_vector_gwidth(t->in), JIT_ACC_READ);
    op->host.reg_read = op->host.reg_write = true;
    op->fdef = op->fuse = pfx == 0x66 ? X86_FL_CF : X86_FL_OF;
}

/* RDRAND (/6), RDSEED (/7): 16-bit forms keep the low half of a 32-bit number. */
static void emit_random(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    struct ir_arg dst = in->opsize == 2 ? x86_vector_temp(t) : ir_g(in->rm);
    struct ir_op *op = x86_vector_emit(t, IR_MAP_0F, 0, 0, 0);
    op->host.gwidth = in->opsize == 8 ? 8 : 4;
    op->host.w = in->opsize == 8;
    op->host.reg_kind = IR_HO_FIXED;
    op->host.reg = in->reg & 7;
    op->host.rm_kind = IR_HO_GPR;
    op->host.rm_write = true;
    op->a = dst;
    op->fdef = X86_FL_ARITH;
    if (in->opsize == 2)
        x86_vector_mov(t, ir_g(in->rm), dst, 2);
}

/* #UD unless the feature is there and no LOCK stands before. */
static bool allowed(struct x86_tr *t, enum x86_feature feature)
{
    if (!t->in->lock && x86_tr_has(t, feature))
        return true;
    x86_tr_raise(t, X86_UD);
    return false;
}

bool x86_translate_bits(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (in->vex)
        return translate_vex(t);
    uint8_t pfx = x86_vector_pfx(in);
    if (in->map == X86_MAP_0F && in->opcode == 0xc7 && in->mod == 3 && (in->reg & 7) >= 6 && !in->last_rep) {
        if (allowed(t, (in->reg & 7) == 6 ? X86_FEAT_RDRAND : X86_FEAT_RDSEED))
            emit_random(t);
        return true;
    }
    if (in->map != X86_MAP_0F38)
        return false;
    if ((in->opcode == 0xf0 || in->opcode == 0xf1) && pfx == 0xf2) {
        if (allowed(t, X86_FEAT_SSE4_2))
            emit_crc32(t);
        return true;
    }
    if ((in->opcode == 0xf0 || in->opcode == 0xf1) && pfx != 0xf3 && in->mod != 3) {
        if (allowed(t, X86_FEAT_MOVBE))
            emit_movbe(t);
        return true;
    }
    if (in->opcode == 0xf6 && (pfx == 0x66 || pfx == 0xf3)) {
        if (allowed(t, X86_FEAT_ADX))
            emit_adx(t, pfx);
        return true;
    }
    return false;
}
