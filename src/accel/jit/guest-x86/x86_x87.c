/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The x87 unit, opcodes D8-DF and WAIT: the guest's x87 state is the host's, so nearly every instruction is passed on
 * as it is. Source: SDM vol. 2, appendix A.5 (escape opcodes) and the instructions' pages.
 */
#include "accel/jit/guest-x86/x86_helpers.h"
#include "accel/jit/guest-x86/x86_vector.h"

/* Memory forms, by opcode D8 + row and ModRM.reg: bytes and direction. */
enum form { NO, LD2, LD4, LD8, LD10, ST2, ST4, ST8, ST10, TT2, TT4, TT8 /* FISTTP: SSE3 */, LDENV, STENV, RSTOR, SAVE };
static const uint8_t forms[8][8] = {
    { LD4, LD4, LD4, LD4, LD4, LD4, LD4, LD4 },       /* D8: arithmetic, float */
    { LD4, NO, ST4, ST4, LDENV, LD2, STENV, ST2 },    /* D9 */
    { LD4, LD4, LD4, LD4, LD4, LD4, LD4, LD4 },       /* DA: arithmetic, int32 */
    { LD4, TT4, ST4, ST4, NO, LD10, NO, ST10 },       /* DB */
    { LD8, LD8, LD8, LD8, LD8, LD8, LD8, LD8 },       /* DC: arithmetic, double */
    { LD8, TT8, ST8, ST8, RSTOR, NO, SAVE, ST2 },     /* DD */
    { LD2, LD2, LD2, LD2, LD2, LD2, LD2, LD2 },       /* DE: arithmetic, int16 */
    { LD2, TT2, ST2, ST2, LD10, LD8, ST10, ST8 },     /* DF */
};
static const struct { uint8_t size, access; } form_mem[] = {
    [LD2] = { 2, 1 }, [LD4] = { 4, 1 }, [LD8] = { 8, 1 }, [LD10] = { 10, 1 },
    [ST2] = { 2, 2 }, [ST4] = { 4, 2 }, [ST8] = { 8, 2 }, [ST10] = { 10, 2 },
    [TT2] = { 2, 2 }, [TT4] = { 4, 2 }, [TT8] = { 8, 2 },
};

/* Register forms that exist: bit ModRM.rm of [opcode - D8][ModRM.reg]. Aliases that every processor has without listing
 * them (D9 D8, DC D0, DD C8, DE D0, DF C0-DF) are among them. */
static const uint8_t reg_forms[8][8] = {
    { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, /* D8 */
    { 0xff, 0xff, 0x01, 0xff, 0x33, 0x7f, 0xff, 0xff }, /* D9: FLD FXCH FNOP FSTP; FCHS FABS FTST FXAM; FLD1... */
    { 0xff, 0xff, 0xff, 0xff, 0x00, 0x02, 0x00, 0x00 }, /* DA: FCMOVcc; FUCOMPP */
    { 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0x00 }, /* DB: FCMOVNcc; FNCLEX FNINIT, old ones; FUCOMI FCOMI */
    { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, /* DC */
    { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00 }, /* DD: FFREE FXCH FST FSTP FUCOM FUCOMP */
    { 0xff, 0xff, 0xff, 0x02, 0xff, 0xff, 0xff, 0xff }, /* DE: FCOMPP is D9 */
    { 0xff, 0xff, 0xff, 0xff, 0x01, 0xff, 0xff, 0x00 }, /* DF: FNSTSW AX; FUCOMIP FCOMIP */
};

static struct ir_op *emit_reg(struct x86_tr *t, uint8_t opcode, unsigned reg, unsigned rm)
{
    struct ir_op *op = x86_vector_emit(t, IR_MAP_X87, 0, 0, 0);
    op->host.opcode = opcode;
    op->host.reg_kind = op->host.rm_kind = IR_HO_FIXED;
    op->host.reg = (uint8_t)reg;
    op->host.rm = (uint8_t)rm;
    return op;
}

/* FNOP: does nothing but raise what an earlier instruction left pending (#MF), as WAIT does. */
static void emit_wait(struct x86_tr *t)
{
    emit_reg(t, 0xd9, 2, 0);
}

/* FNSTENV, FLDENV, FNSAVE, FRSTOR: formats by operand size and mode, SDM vol. 1, 8.1.10. */
static void emit_environment(struct x86_tr *t, enum form form)
{
    static const struct {
        uint64_t (*fn)(struct jit_cpu *, uint64_t, uint64_t, uint64_t);
        uint8_t size16, size32;
        bool store;
    } env[] = {
        [LDENV] = { x86_h_fldenv, 14, 28, false }, [STENV] = { x86_h_fnstenv, 14, 28, true },
        [RSTOR] = { x86_h_frstor, 94, 108, false }, [SAVE] = { x86_h_fnsave, 94, 108, true },
    };
    bool small = t->in->opsize == 2;
    if (!env[form].store) /* these two look at pending exceptions first; the helper must not meet them */
        emit_wait(t);
    struct ir_arg lin = x86_tr_linear(t, small ? env[form].size16 : env[form].size32,
                                      env[form].store ? JIT_ACC_WRITE : JIT_ACC_READ);
    unsigned format = (small ? 2 : 4) | ((t->mode & JIT_MODE_PE) ? 0x100 : 0);
    x86_tr_call(t, ir_none(), env[form].fn, 0, lin, ir_i(0), ir_i(format));
}

static bool memory_form(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    enum form form = forms[in->opcode - 0xd8][in->reg & 7];
    if (form == NO || (form >= TT2 && form <= TT8 && !x86_tr_has(t, X86_FEAT_SSE3)))
        return false;
    if (form >= LDENV) {
        emit_environment(t, form);
        return true;
    }
    struct ir_op *op = x86_vector_emit(t, IR_MAP_X87, 0, form_mem[form].size,
                                       form_mem[form].access == 1 ? JIT_ACC_READ : JIT_ACC_WRITE);
    op->host.reg_kind = IR_HO_FIXED;
    op->host.reg = in->reg & 7;
    return true;
}

static bool register_form(struct x86_tr *t)
{
    static const uint16_t cmov_flags[4] = { X86_FL_CF, X86_FL_ZF, X86_FL_CF | X86_FL_ZF, X86_FL_PF };
    const struct x86_insn *in = t->in;
    unsigned reg = in->reg & 7, rm = in->rm & 7;
    bool fcmov = (in->opcode == 0xda || in->opcode == 0xdb) && reg < 4;
    bool fcomi = (in->opcode == 0xdb || in->opcode == 0xdf) && (reg == 5 || reg == 6);

    if (!(reg_forms[in->opcode - 0xd8][reg] >> rm & 1) || ((fcmov || fcomi) && !x86_tr_has(t, X86_FEAT_CMOV)))
        return false;
    struct ir_op *op = emit_reg(t, in->opcode, reg, rm);
    if (in->opcode == 0xdf && reg == 4) /* FNSTSW AX */
        op->dst = ir_g(X86_RAX);
    if (fcmov)
        op->fuse = cmov_flags[reg];
    if (fcomi)
        op->fdef = X86_FL_ARITH;
    return true;
}

bool x86_translate_x87(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    bool wait = in->opcode == 0x9b;
    if (!wait && (in->opcode < 0xd8 || in->opcode > 0xdf))
        return false;
    if (in->lock || !x86_tr_has(t, X86_FEAT_FPU)) {
        x86_tr_raise(t, X86_UD);
    } else if (wait) {
        if (t->mode & JIT_MODE_FPU_NM)
            x86_tr_call(t, ir_none(), x86_h_fwait_check, 0, ir_i(0), ir_i(0), ir_i(0));
        emit_wait(t);
    } else if (t->mode & (JIT_MODE_FPU_NM | JIT_MODE_FPU_EM)) {
        x86_tr_raise(t, X86_NM);
    } else if (!(in->mod == 3 ? register_form(t) : memory_form(t))) {
        x86_tr_raise(t, X86_UD);
    }
    return true;
}
