/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building regions, and what each opcode does to the flags. */
#include "accel/jit/ir/ir.h"

#include "cpu/x86/x86_state.h"

#define ARITH X86_FL_ARITH
#define NOCF (X86_FL_ARITH & ~X86_FL_CF)
#define CO (X86_FL_CF | X86_FL_OF)

/* Flags written and read, by opcode (SDM vol. 2, each instruction's "Flags Affected"; undefined ones count as
 * written). Shifts and rotates stand for a variable count, which may be zero and then keeps the flags. */
static const struct { uint16_t fdef, fuse; } ir_flags[IR_NOPCODES] = {
    [IR_IRQ_CHECK] = { 0, ARITH },
    [IR_ADD] = { ARITH, 0 },      [IR_ADC] = { ARITH, X86_FL_CF }, [IR_SUB] = { ARITH, 0 },
    [IR_SBB] = { ARITH, X86_FL_CF }, [IR_AND] = { ARITH, 0 },      [IR_OR] = { ARITH, 0 },
    [IR_XOR] = { ARITH, 0 },      [IR_CMP] = { ARITH, 0 },         [IR_TEST] = { ARITH, 0 },
    [IR_INC] = { NOCF, 0 },       [IR_DEC] = { NOCF, 0 },          [IR_NEG] = { ARITH, 0 },
    [IR_SHL] = { ARITH, ARITH },  [IR_SHR] = { ARITH, ARITH },     [IR_SAR] = { ARITH, ARITH },
    [IR_ROL] = { CO, CO },        [IR_ROR] = { CO, CO },           [IR_RCL] = { CO, CO },
    [IR_RCR] = { CO, CO },        [IR_SHLD] = { ARITH, ARITH },    [IR_SHRD] = { ARITH, ARITH },
    [IR_IMUL] = { ARITH, 0 },     [IR_MUL_WIDE] = { ARITH, 0 },    [IR_IMUL_WIDE] = { ARITH, 0 },
    [IR_DIV_WIDE] = { ARITH, 0 }, [IR_IDIV_WIDE] = { ARITH, 0 },
    [IR_BT] = { X86_FL_CF, 0 },   [IR_BTS] = { X86_FL_CF, 0 },     [IR_BTR] = { X86_FL_CF, 0 },
    [IR_BTC] = { X86_FL_CF, 0 },  [IR_BSF] = { ARITH, 0 },         [IR_BSR] = { ARITH, 0 },
    [IR_TZCNT] = { ARITH, 0 },    [IR_LZCNT] = { ARITH, 0 },       [IR_POPCNT] = { ARITH, 0 },
    [IR_XADD] = { ARITH, 0 },     [IR_CMPXCHG] = { ARITH, 0 },
    [IR_GETF] = { 0, ARITH },     [IR_SETF] = { ARITH, 0 },
    [IR_CALL] = { 0, ARITH },
    [IR_EXIT_JMP] = { 0, ARITH }, [IR_EXIT_IND] = { 0, ARITH },
    [IR_EXIT_STATE] = { 0, ARITH }, [IR_EXIT_LOOP] = { 0, ARITH },
};

struct ir_op *ir_emit(struct ir_region *r, enum ir_opcode opcode, unsigned width)
{
    unsigned at = r->nops++;
    if (at >= IR_MAX_OPS) {
        at = IR_MAX_OPS - 1;
        r->nops = IR_MAX_OPS + 1;
    }
    struct ir_op *op = &r->ops[at];
    *op = (struct ir_op){ .opcode = (uint8_t)opcode, .width = (uint8_t)width, .swidth = (uint8_t)width,
                          .fdef = ir_flags[opcode].fdef, .fuse = ir_flags[opcode].fuse };
    op->mem = (struct ir_mem){ .abits = 64, .seg = IR_SEG_NONE };
    return op;
}

unsigned ir_new_temp(struct ir_region *r)
{
    if (r->ntemps >= IR_MAX_TEMPS) {
        r->nops = IR_MAX_OPS + 1; /* full, as when ops run out */
        return IR_MAX_TEMPS - 1;
    }
    return r->ntemps++;
}

unsigned ir_new_label(struct ir_region *r)
{
    if (r->nlabels >= IR_MAX_LABELS) {
        r->nops = IR_MAX_OPS + 1;
        return IR_MAX_LABELS - 1;
    }
    return r->nlabels++;
}

static const uint16_t ir_cond_flags[8] = { /* by cond / 2 */
    X86_FL_OF, X86_FL_CF, X86_FL_ZF, X86_FL_CF | X86_FL_ZF, X86_FL_SF, X86_FL_PF, X86_FL_SF | X86_FL_OF,
    X86_FL_SF | X86_FL_OF | X86_FL_ZF
};

void ir_op_flags(const struct ir_op *op, unsigned *ret_def, unsigned *ret_use)
{
    unsigned def = op->fdef, use = op->fuse;
    const struct ir_arg *count = &op->b;
    switch (op->opcode) {
    case IR_BRCC: case IR_CMOV: case IR_SETCC:
        use |= ir_cond_flags[op->cond >> 1 & 7];
        break;
    case IR_SHLD: case IR_SHRD:
        count = &op->c;
        /* fall through */
    case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROL: case IR_ROR: case IR_RCL: case IR_RCR:
        if (count->kind == IR_I && !(count->imm & (op->width == 8 ? 63 : 31))) {
            def = use = 0;
        } else if (count->kind == IR_I) {
            use = op->opcode == IR_RCL || op->opcode == IR_RCR ? X86_FL_CF : 0;
        } else { /* a zero count keeps them */
            use |= def;
            if (op->opcode == IR_RCL || op->opcode == IR_RCR)
                use |= X86_FL_CF;
        }
        break;
    default:
        break;
    }
    *ret_def = def;
    *ret_use = use;
}

void ir_op_flags_at(const struct ir_op *op, unsigned live, unsigned *ret_def, unsigned *ret_use)
{
    ir_op_flags(op, ret_def, ret_use);
    if ((op->opcode >= IR_SHL && op->opcode <= IR_ROR) || op->opcode == IR_SHLD || op->opcode == IR_SHRD)
        *ret_use &= live;
    else if (op->opcode == IR_RCL || op->opcode == IR_RCR)
        *ret_use &= live | X86_FL_CF;
}
