/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What makes a region shorter: copies and constants in temporaries go into their users and addresses, temporaries nobody
 * reads vanish, and each flag that nobody reads is known as dead.
 */
#include "accel/jit/ir/ir.h"

#include <string.h>

#include "cpu/x86/x86_state.h"

/* ---- flags ---- */

static bool ends_flow(const struct ir_op *op)
{
    return op->opcode == IR_BR || op->opcode >= IR_EXIT_JMP || (op->opcode == IR_CALL && (op->cflags & IR_CALL_NORETURN));
}

static int64_t branch_label(const struct ir_op *op)
{
    if (op->opcode == IR_BR || op->opcode == IR_BRCC)
        return op->a.imm;
    return op->opcode == IR_BRZ || op->opcode == IR_BRNZ ? op->b.imm : -1;
}

void ir_flag_liveness(const struct ir_region *r, uint16_t *ret_live_after)
{
    uint16_t at_label[IR_MAX_LABELS] = { 0 };
    bool changed = true;
    while (changed) {
        unsigned live = 0;
        changed = false;
        for (unsigned i = r->nops; i-- > 0;) {
            const struct ir_op *op = &r->ops[i];
            int64_t label = branch_label(op);
            unsigned def, use;
            if (ends_flow(op))
                live = 0;
            if (label >= 0)
                live |= at_label[label];
            ret_live_after[i] = (uint16_t)live;
            ir_op_flags_at(op, live, &def, &use);
            live = (live & ~def) | use;
            if (op->opcode == IR_LABEL && at_label[op->a.imm] != live) {
                at_label[op->a.imm] = (uint16_t)live;
                changed = true;
            }
        }
    }
}

/* ---- copies and constants ---- */

struct value { struct ir_arg arg; uint8_t width; }; /* what a temporary is a copy of, IR_NONE: unknown */
struct values { struct value v[IR_MAX_TEMPS]; unsigned n; };

static void forget_copies(struct values *v, unsigned kind, unsigned n)
{
    for (unsigned t = 0; t < v->n; t++)
        if (v->v[t].arg.kind == kind && v->v[t].arg.n == n)
            v->v[t].arg.kind = IR_NONE;
}

static void forget_g(struct values *v, unsigned n) { forget_copies(v, IR_G, n); }

static void forget_arg(struct values *v, const struct ir_arg *a)
{
    if (a->kind == IR_G) {
        forget_g(v, a->n);
    } else if (a->kind == IR_T) {
        v->v[a->n].arg.kind = IR_NONE;
        forget_copies(v, IR_T, a->n);
    }
}

static void forget_written(struct values *v, const struct ir_op *op)
{
    forget_arg(v, &op->dst);
    switch (op->opcode) {
    case IR_XCHG: forget_arg(v, &op->a); break;
    case IR_XADD: forget_arg(v, &op->b); break;
    case IR_MULX: forget_arg(v, &op->c); break;
    case IR_CMPXCHG: forget_g(v, X86_RAX); break;
    case IR_MUL_WIDE: case IR_IMUL_WIDE: case IR_DIV_WIDE: case IR_IDIV_WIDE:
        forget_g(v, X86_RAX);
        forget_g(v, X86_RDX);
        break;
    case IR_HOST:
        forget_arg(v, &op->a);
        forget_arg(v, &op->b);
        forget_arg(v, &op->c);
        break;
    case IR_CALL:
        if (op->cflags & IR_CALL_WRITES_G)
            for (unsigned n = 0; n < 16; n++)
                forget_g(v, n);
        break;
    default:
        break;
    }
}

/* Operands that are only read, whose width is op->width. */
static bool reads_plainly(const struct ir_op *op, unsigned which)
{
    switch (op->opcode) {
    case IR_ADD: case IR_ADC: case IR_SUB: case IR_SBB: case IR_AND: case IR_OR: case IR_XOR:
        return which == 1 || (which == 0 && op->dst.kind != IR_M);
    case IR_CMP: case IR_TEST: case IR_CALL:
        return true;
    case IR_MOV: case IR_STS: case IR_CMOV: case IR_EXIT_IND: case IR_BRZ: case IR_BRNZ:
        return which == 0;
    case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROL: case IR_ROR: case IR_IMUL:
        return which == 1;
    default:
        return false;
    }
}

static unsigned read_width(const struct ir_op *op, unsigned which)
{
    if (op->opcode == IR_CALL || op->opcode == IR_EXIT_IND)
        return 8;
    if (which == 1 && op->opcode >= IR_SHL && op->opcode <= IR_RCR)
        return 1;
    return op->width;
}

/* Of the operations that read plainly: those where P may stand. */
static bool takes_p(const struct ir_op *op)
{
    return op->opcode == IR_CALL || op->opcode == IR_EXIT_IND || ((op->opcode == IR_MOV || op->opcode == IR_STS) && op->width == 8);
}

static void substitute(const struct values *v, const struct ir_op *op, struct ir_arg *a, unsigned which)
{
    if (a->kind != IR_T || !reads_plainly(op, which))
        return;
    const struct value *k = &v->v[a->n];
    if (k->arg.kind == IR_I) {
        if (k->arg.imm == (int32_t)k->arg.imm || op->opcode == IR_MOV || op->opcode == IR_CALL || op->opcode == IR_EXIT_IND)
            *a = k->arg;
    } else if (k->arg.kind == IR_P) {
        if (takes_p(op))
            *a = k->arg;
    } else if ((k->arg.kind == IR_G || k->arg.kind == IR_T) && read_width(op, which) <= k->width) {
        *a = k->arg;
    }
}

static void substitute_mem(const struct values *v, struct ir_mem *m)
{
    struct ir_arg *args[] = { &m->base, &m->index };
    for (unsigned i = 0; i < 2; i++) {
        if (args[i]->kind != IR_T)
            continue;
        const struct value *k = &v->v[args[i]->n];
        if (k->arg.kind == IR_I) {
            m->disp = (int64_t)((uint64_t)m->disp + ((uint64_t)k->arg.imm << (i ? m->scale : 0)));
            *args[i] = ir_none();
        } else if (k->arg.kind == IR_P) {
            if (i == 0)
                *args[i] = k->arg;
        } else if ((k->arg.kind == IR_G || k->arg.kind == IR_T) &&
                   (k->width == 8 || (m->abits <= 32 && k->width == 4)) &&
                   !(i == 1 && k->arg.kind == IR_G && k->arg.n == X86_RSP && m->scale)) {
            *args[i] = k->arg;
        }
    }
}

static void propagate(struct ir_region *r)
{
    struct values v;
    memset(&v, 0, sizeof(v));
    v.n = r->ntemps;
    for (unsigned i = 0; i < r->nops; i++) {
        struct ir_op *op = &r->ops[i];
        if (op->opcode == IR_LABEL) {
            memset(v.v, 0, v.n * sizeof(v.v[0]));
            continue;
        }
        substitute_mem(&v, &op->mem);
        substitute(&v, op, &op->a, 0);
        substitute(&v, op, &op->b, 1);
        substitute(&v, op, &op->c, 2);
        if (op->opcode == IR_EXIT_IND && (op->a.kind == IR_I || op->a.kind == IR_P))
            op->opcode = IR_EXIT_JMP;
        forget_written(&v, op);
        if (op->opcode != IR_MOV || op->dst.kind != IR_T)
            continue;
        if (op->a.kind == IR_I) {
            uint64_t mask = op->width == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * op->width)) - 1;
            v.v[op->dst.n] = (struct value){ ir_i((int64_t)((uint64_t)op->a.imm & mask)), 8 };
        } else if (op->a.kind == IR_P && op->width == 8) {
            v.v[op->dst.n] = (struct value){ op->a, 8 };
        } else if ((op->a.kind == IR_G || op->a.kind == IR_T) && !(op->a.kind == IR_T && op->a.n == op->dst.n)) {
            v.v[op->dst.n] = (struct value){ op->a, op->width };
        }
    }
}

/* ---- dead operations ---- */

static bool only_makes_dst(const struct ir_op *op)
{
    if (op->dst.kind != IR_T || op->a.kind == IR_M || op->b.kind == IR_M)
        return false;
    switch (op->opcode) {
    case IR_MOV: case IR_MOVZX: case IR_MOVSX: case IR_LEA: case IR_LDS: case IR_CMOV: case IR_SETCC: case IR_ADD:
    case IR_ADC: case IR_SUB: case IR_SBB: case IR_AND: case IR_OR: case IR_XOR: case IR_INC: case IR_DEC: case IR_NEG:
    case IR_NOT: case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROL: case IR_ROR: case IR_IMUL: case IR_BSWAP:
    case IR_GETF: case IR_EXT8H:
        return true;
    default:
        return false;
    }
}

static void drop_dead(struct ir_region *r, uint16_t *live)
{
    unsigned uses[IR_MAX_TEMPS] = { 0 };
    bool gone[IR_MAX_OPS];
    memset(gone, 0, sizeof(gone));
    for (unsigned i = 0; i < r->nops; i++) {
        const struct ir_op *op = &r->ops[i];
        const struct ir_arg *args[] = { &op->a, &op->b, &op->c, &op->mem.base, &op->mem.index };
        for (unsigned k = 0; k < G_N_ELEMENTS(args); k++)
            if (args[k]->kind == IR_T)
                uses[args[k]->n]++;
        /* these read their destination too */
        if (op->dst.kind == IR_T && !only_makes_dst(op))
            uses[op->dst.n]++;
    }
    for (unsigned i = r->nops; i-- > 0;) {
        struct ir_op *op = &r->ops[i];
        unsigned def, use;
        ir_op_flags(op, &def, &use);
        if (!only_makes_dst(op) || uses[op->dst.n] || (def & live[i]))
            continue;
        const struct ir_arg *args[] = { &op->a, &op->b, &op->c, &op->mem.base, &op->mem.index };
        for (unsigned k = 0; k < G_N_ELEMENTS(args); k++)
            if (args[k]->kind == IR_T)
                uses[args[k]->n]--;
        gone[i] = true;
    }
    unsigned n = 0;
    for (unsigned i = 0; i < r->nops; i++)
        if (!gone[i]) {
            if (n != i)
                r->ops[n] = r->ops[i];
            n++;
        }
    r->nops = n;
}

void ir_optimise(struct ir_region *r)
{
    uint16_t live[IR_MAX_OPS];
    if (r->nops > IR_MAX_OPS)
        return;
    if (r->ntemps) {
        propagate(r);
        ir_flag_liveness(r, live);
        drop_dead(r, live);
    }
    ir_flag_liveness(r, live);
    for (unsigned i = 0; i < r->nops; i++) {
        unsigned def, use;
        ir_op_flags(&r->ops[i], &def, &use);
        r->ops[i].flive = (uint16_t)(def & live[i]);
    }
}
