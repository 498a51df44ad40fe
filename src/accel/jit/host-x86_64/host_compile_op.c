/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operations. A memory operand stands at [r14] by now, EFLAGS then hold nothing. */
#include "accel/jit/host-x86_64/host_compile.h"

/* Where a two-operand host instruction works: on the destination itself, or on rax that is put there afterwards. */
struct target { struct host_opnd o; bool put, whole; };

static bool in_memory(const struct hc *c, const struct ir_arg *a)
{
    return a->kind == IR_M || ((a->kind == IR_G || a->kind == IR_T) && hc_loc(c, a).mem);
}

/* dst = a. `mem_ok`: the instruction may work on a spilled register in place. */
static struct target begin(struct hc *c, const struct ir_op *op, bool mem_ok)
{
    const struct ir_arg *dst = &op->dst, *a = &op->a;
    unsigned w = op->width;
    struct target t = { .o = hc_loc(c, dst) };
    if (dst->kind == IR_M && mem_ok)
        return t;
    bool same = hc_same(c, dst, a);
    bool narrow_g = dst->kind == IR_G && w < 4;
    if (!t.o.mem) {
        bool conflict = !same && (hc_same(c, dst, &op->b) || hc_same(c, dst, &op->c));
        if (same)
            return t;
        if (!conflict && !narrow_g) {
            hc_fetch(c, t.o.reg, w, a);
            return t;
        }
    } else if (same && w == 8 && mem_ok) {
        return t;
    }
    t.o = host_r(RAX);
    t.put = true;
    t.whole = same && narrow_g;
    hc_fetch(c, RAX, t.whole ? 8 : w, a);
    return t;
}

static void finish(struct hc *c, const struct ir_op *op, const struct target *t)
{
    if (t->put)
        hc_put(c, &op->dst, t->whole ? 8 : op->width, RAX);
    else if (op->dst.kind == IR_T && op->width < 4)
        host_load(&c->e, op->width, t->o.reg, host_r(t->o.reg));
}

struct source { bool is_imm; int32_t imm; struct host_opnd o; };

/* The second operand, for an instruction whose first is `t`. */
static struct source source(struct hc *c, const struct ir_arg *a, unsigned w, struct host_opnd t)
{
    struct source s = { 0 };
    bool rax_free = t.mem || t.reg != RAX;
    if (a->kind == IR_I) {
        if (w < 8 || a->imm == (int32_t)a->imm) {
            s.is_imm = true;
            s.imm = w == 2 ? (int16_t)a->imm : (int32_t)a->imm;
        } else if (rax_free) {
            host_mov_ri(&c->e, RAX, (uint64_t)a->imm);
            s.o = host_r(RAX);
        } else {
            s.o = host_m(RSP, OFF(scratch[3]));
            for (int half = 0; half < 2; half++) {
                host_op(&c->e, 4, 0xc7, 0, host_m(RSP, OFF(scratch[3]) + 4 * half), 0);
                host_u32(&c->e, (uint32_t)((uint64_t)a->imm >> (32 * half)));
            }
        }
        return s;
    }
    s.o = hc_loc(c, a);
    if (s.o.mem && t.mem) {
        hc_fetch(c, RAX, w, a);
        s.o = host_r(RAX);
    }
    return s;
}

/* add or adc sbb and sub xor cmp: 0 to 7 */
static void alu(struct hc *c, unsigned n, unsigned w, struct host_opnd t, const struct source *s, bool lock)
{
    unsigned wide = w != 1, flags = HOST_R8 | HOST_M8 | (lock ? HOST_LOCK : 0);
    if (s->is_imm)
        host_alu_imm(&c->e, w, n, t, s->imm, lock ? HOST_LOCK : 0);
    else if (!s->o.mem)
        host_op(&c->e, w, n << 3 | wide, s->o.reg, t, flags);
    else
        host_op(&c->e, w, n << 3 | 2 | wide, t.reg, s->o, flags);
}

static void do_alu(struct hc *c, const struct ir_op *op, unsigned n)
{
    struct target t = begin(c, op, true);
    struct source s = source(c, &op->b, op->width, t.o);
    alu(c, n, op->width, t.o, &s, op->lock);
    finish(c, op, &t);
}

/* The first operand of cmp, test, bt: in place unless it is a constant. */
static struct host_opnd first(struct hc *c, const struct ir_arg *a, unsigned w)
{
    if (a->kind != IR_I)
        return hc_loc(c, a);
    hc_fetch(c, RAX, w, a);
    return host_r(RAX);
}

static void do_cmp(struct hc *c, const struct ir_op *op)
{
    struct host_opnd t = first(c, &op->a, op->width);
    struct source s = source(c, &op->b, op->width, t);
    alu(c, 7, op->width, t, &s, false);
}

static void do_test(struct hc *c, const struct ir_op *op)
{
    const struct ir_arg *x = &op->a, *y = &op->b;
    unsigned w = op->width;
    if (x->kind == IR_I) {
        x = &op->b;
        y = &op->a;
    }
    struct host_opnd t = first(c, x, w);
    struct source s = source(c, y, w, t);
    if (!s.is_imm) {
        if (s.o.mem)
            host_op(&c->e, w, w == 1 ? 0x84 : 0x85, t.reg, s.o, HOST_R8);
        else
            host_op(&c->e, w, w == 1 ? 0x84 : 0x85, s.o.reg, t, HOST_R8 | HOST_M8);
        return;
    }
    host_op(&c->e, w, w == 1 ? 0xf6 : 0xf7, 0, t, HOST_M8);
    if (w == 1) {
        host_u8(&c->e, (uint8_t)s.imm);
    } else if (w == 2) {
        host_u8(&c->e, (uint8_t)s.imm);
        host_u8(&c->e, (uint8_t)(s.imm >> 8));
    } else {
        host_u32(&c->e, (uint32_t)s.imm);
    }
}

static void do_unary(struct hc *c, const struct ir_op *op)
{
    static const struct { uint8_t op, opcode, reg; } rows[] = {
        { IR_INC, 0xfe, 0 }, { IR_DEC, 0xfe, 1 }, { IR_NOT, 0xf6, 2 }, { IR_NEG, 0xf6, 3 } };
    struct target t = begin(c, op, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].op == op->opcode)
            host_op(&c->e, op->width, rows[i].opcode | (op->width != 1), rows[i].reg, t.o,
                    HOST_M8 | (op->lock ? HOST_LOCK : 0));
    finish(c, op, &t);
}

/* A variable count goes to CL; when it is not guest RCX, that one steps aside into scratch[4]. */
static bool count_begin(struct hc *c, const struct ir_arg *count)
{
    if (count->kind == IR_I || (count->kind == IR_G && count->n == X86_RCX))
        return false;
    struct host_opnd o = hc_loc(c, count);
    host_store(&c->e, 8, host_m(RSP, OFF(scratch[4])), RCX);
    host_load(&c->e, 4, RCX, o);
    c->rcx_in_mem = true;
    return true;
}

static void count_end(struct hc *c, bool begun)
{
    if (!begun)
        return;
    c->rcx_in_mem = false;
    host_load(&c->e, 8, RCX, host_m(RSP, OFF(scratch[4])));
}

static void do_shift(struct hc *c, const struct ir_op *op)
{
    static const uint8_t ext[] = { [IR_SHL - IR_SHL] = 4, [IR_SHR - IR_SHL] = 5, [IR_SAR - IR_SHL] = 7,
                                   [IR_ROL - IR_SHL] = 0, [IR_ROR - IR_SHL] = 1, [IR_RCL - IR_SHL] = 2,
                                   [IR_RCR - IR_SHL] = 3 };
    unsigned n = ext[op->opcode - IR_SHL], wide = op->width != 1;
    bool moved = count_begin(c, &op->b);
    struct target t = begin(c, op, true);
    if (op->b.kind == IR_I) {
        host_op(&c->e, op->width, 0xc0 | wide, n, t.o, HOST_M8);
        host_u8(&c->e, (uint8_t)op->b.imm);
    } else {
        host_op(&c->e, op->width, 0xd2 | wide, n, t.o, HOST_M8);
    }
    finish(c, op, &t);
    count_end(c, moved);
}

static void do_shift_double(struct hc *c, const struct ir_op *op)
{
    uint32_t opcode = op->opcode == IR_SHLD ? 0x0fa4 : 0x0fac;
    bool moved = count_begin(c, &op->c);
    struct target t = begin(c, op, true);
    unsigned fill = in_memory(c, &op->b) || op->b.kind == IR_I ? (t.o.mem ? RAX : R14) : hc_loc(c, &op->b).reg;
    if (op->b.kind == IR_I || in_memory(c, &op->b))
        hc_fetch(c, fill, op->width, &op->b);
    if (op->c.kind == IR_I) {
        host_op(&c->e, op->width, opcode, fill, t.o, 0);
        host_u8(&c->e, (uint8_t)op->c.imm);
    } else {
        host_op(&c->e, op->width, opcode + 1, fill, t.o, 0);
    }
    finish(c, op, &t);
    count_end(c, moved);
}

static void imm_of_width(struct host_emit *e, unsigned width, int64_t imm)
{
    for (unsigned i = 0; i < (width > 4 ? 4 : width); i++)
        host_u8(e, (uint8_t)((uint64_t)imm >> (8 * i)));
}

static void do_imul(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    unsigned w = op->width;
    if (op->b.kind != IR_I || (w == 8 && op->b.imm != (int32_t)op->b.imm)) {
        struct target t = begin(c, op, false);
        struct source s = source(c, &op->b, w, t.o);
        host_op(e, w, 0x0faf, t.o.reg, s.o, 0);
        finish(c, op, &t);
        return;
    }
    struct host_opnd d = hc_loc(c, &op->dst), a = first(c, &op->a, w);
    unsigned to = d.mem || (op->dst.kind == IR_T && w < 4) ? RAX : d.reg;
    bool byte = op->b.imm == (int8_t)op->b.imm;
    host_op(e, w, byte ? 0x6b : 0x69, to, a, 0);
    imm_of_width(e, byte ? 1 : w, op->b.imm);
    if (to == RAX)
        hc_put(c, &op->dst, w, RAX);
}

/* rDX is in its place; rAX comes and goes. A fault leaves both as they were. */
static void do_wide(struct hc *c, const struct ir_op *op)
{
    unsigned n = op->opcode == IR_MUL_WIDE ? 4 : op->opcode == IR_IMUL_WIDE ? 5 : op->opcode == IR_DIV_WIDE ? 6 : 7;
    struct host_opnd a = hc_loc(c, &op->a);
    if (op->a.kind == IR_I) {
        hc_fetch(c, R14, op->width, &op->a);
        a = host_r(R14);
    }
    host_mov_rr(&c->e, 8, RAX, R12);
    host_op(&c->e, op->width, op->width == 1 ? 0xf6 : 0xf7, n, a, HOST_M8);
    host_mov_rr(&c->e, op->width == 1 ? 2 : op->width, R12, RAX);
}

static void do_bit(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    unsigned n = op->opcode - IR_BT, w = op->width; /* BT BTS BTR BTC: /4 to /7 */
    bool imm = op->b.kind == IR_I, in_place = op->dst.kind == IR_M && (op->lock || in_memory(c, &op->b) || imm);
    struct target t = { 0 };
    if (op->opcode == IR_BT) {
        t.o = op->a.kind == IR_I || (in_memory(c, &op->a) && !imm) ? host_r(RAX) : hc_loc(c, &op->a);
        if (!t.o.mem && t.o.reg == RAX)
            hc_fetch(c, RAX, w, &op->a);
    } else {
        t = begin(c, op, in_place);
    }
    if (imm) {
        host_op(e, w, 0x0fba, 4 + n, t.o, op->lock ? HOST_LOCK : 0);
        host_u8(e, (uint8_t)op->b.imm & (w * 8 - 1));
    } else {
        unsigned index = in_memory(c, &op->b) ? (t.o.mem ? RAX : R14) : hc_loc(c, &op->b).reg;
        if (in_memory(c, &op->b))
            hc_fetch(c, index, 4, &op->b);
        host_op(e, w, 0x0fa3 | n << 3, index, t.o, op->lock ? HOST_LOCK : 0);
    }
    if (op->opcode != IR_BT)
        finish(c, op, &t);
}

/* bsf bsr tzcnt lzcnt popcnt: reg, r/m. A zero source of the first two keeps the destination. */
static void do_scan(struct hc *c, const struct ir_op *op)
{
    static const struct { uint32_t opcode; unsigned flags; } rows[] = {
        { 0x0fbc, 0 }, { 0x0fbd, 0 }, { 0x0fbc, HOST_F3 }, { 0x0fbd, HOST_F3 }, { 0x0fb8, HOST_F3 } };
    unsigned n = op->opcode - IR_BSF;
    struct host_opnd d = hc_loc(c, &op->dst), a = op->a.kind == IR_I ? host_r(R14) : hc_loc(c, &op->a);
    if (op->a.kind == IR_I)
        hc_fetch(c, R14, op->width, &op->a);
    if (d.mem)
        hc_fetch(c, RAX, 8, &op->dst);
    unsigned to = d.mem ? RAX : d.reg;
    host_op(&c->e, op->width, rows[n].opcode, to, a, rows[n].flags);
    if (op->dst.kind == IR_T && op->width < 4)
        host_load(&c->e, op->width, to, host_r(to));
    if (d.mem)
        host_store(&c->e, 8, d, RAX);
}

static void do_bswap(struct hc *c, const struct ir_op *op)
{
    struct target t = begin(c, op, false);
    unsigned rex = (op->width == 8 ? 8 : 0) | t.o.reg >> 3;
    if (op->width == 2)
        host_u8(&c->e, 0x66);
    if (rex)
        host_u8(&c->e, 0x40 | rex);
    host_u8(&c->e, 0x0f);
    host_u8(&c->e, 0xc8 | (t.o.reg & 7));
    finish(c, op, &t);
}

static void do_xchg(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    const struct ir_arg *d = &op->dst, *a = &op->a;
    unsigned w = op->width;
    if (a->kind == IR_M) {
        d = &op->a;
        a = &op->dst;
    }
    struct host_opnd od = hc_loc(c, d), oa = hc_loc(c, a);
    bool temp = (d->kind == IR_T || a->kind == IR_T) && w < 4;
    if (d->kind == IR_M) {
        hc_fetch(c, RAX, w, a);
        host_op(e, w, w == 1 ? 0x86 : 0x87, RAX, od, 0);
        if (w == 4 && oa.mem)
            host_mov_rr(e, 4, RAX, RAX);
        hc_put(c, a, w, RAX);
    } else if (od.mem || oa.mem || temp) {
        hc_fetch(c, R14, w, d);
        hc_fetch(c, RAX, w, a);
        if (w < 4) { /* hc_put may use rax */
            host_store(e, 8, host_m(RSP, OFF(scratch[3])), R14);
            hc_put(c, d, w, RAX);
            host_load(e, 8, R14, host_m(RSP, OFF(scratch[3])));
        } else {
            hc_put(c, d, w, RAX);
        }
        hc_put(c, a, w, R14);
    } else {
        host_op(e, w, w == 1 ? 0x86 : 0x87, oa.reg, od, HOST_R8 | HOST_M8);
    }
}

static void do_xadd(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    unsigned w = op->width;
    struct host_opnd d = hc_loc(c, &op->dst);
    hc_fetch(c, RAX, w, &op->b);
    bool spilled = op->dst.kind != IR_M && d.mem;
    if (spilled) {
        hc_fetch(c, R14, 8, &op->dst);
        d = host_r(R14);
    }
    host_op(e, w, w == 1 ? 0x0fc0 : 0x0fc1, RAX, d, HOST_M8 | (op->lock ? HOST_LOCK : 0));
    if (op->dst.kind == IR_T && w < 4)
        host_load(e, w, d.reg, host_r(d.reg));
    bool same = hc_same(c, &op->dst, &op->b);
    if (!same)
        hc_put(c, &op->b, w, RAX);
    if (spilled)
        host_store(e, 8, hc_loc(c, &op->dst), R14);
}

static void do_cmpxchg(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    unsigned w = op->width;
    struct host_opnd d = hc_loc(c, &op->dst);
    bool spilled = op->dst.kind != IR_M && d.mem, borrow = in_memory(c, &op->b) || op->b.kind == IR_I;
    unsigned b = borrow ? R15 : hc_loc(c, &op->b).reg;
    if (borrow) {
        host_store(e, 8, host_m(RSP, OFF(scratch[3])), R15);
        hc_fetch(c, R15, 8, &op->b);
    }
    if (spilled) {
        hc_fetch(c, R14, 8, &op->dst);
        d = host_r(R14);
    }
    host_mov_rr(e, 8, RAX, R12);
    host_op(e, w, w == 1 ? 0x0fb0 : 0x0fb1, b, d, HOST_R8 | HOST_M8 | (op->lock ? HOST_LOCK : 0));
    if (d.mem || d.reg != R12)
        host_mov_rr(e, 8, R12, RAX);
    if (spilled)
        host_store(e, 8, hc_loc(c, &op->dst), R14);
    if (borrow)
        host_load(e, 8, R15, host_m(RSP, OFF(scratch[3])));
}

static void do_mov(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    const struct ir_arg *dst = &op->dst, *a = &op->a;
    unsigned w = op->width;
    struct host_opnd d = hc_loc(c, dst);
    if (a->kind == IR_I) {
        uint64_t v = w == 8 ? (uint64_t)a->imm : (uint64_t)a->imm & (((uint64_t)1 << (8 * w)) - 1);
        unsigned store = dst->kind == IR_T || (dst->kind == IR_G && w == 4) ? 8 : w;
        if (!d.mem && store >= 4) {
            host_mov_ri(e, d.reg, v);
        } else if (store == 8 && (int64_t)v != (int32_t)v) {
            host_mov_ri(e, RAX, v);
            host_store(e, 8, d, RAX);
        } else {
            host_op(e, store, store == 1 ? 0xc6 : 0xc7, 0, d, HOST_M8);
            for (unsigned i = 0; i < (store > 4 ? 4 : store); i++)
                host_u8(e, (uint8_t)(v >> (8 * i)));
        }
        return;
    }
    if (a->kind == IR_P) {
        bool direct = !d.mem && w == 8;
        hc_fetch(c, direct ? d.reg : RAX, w, a);
        if (!direct)
            hc_put(c, dst, w, RAX);
        return;
    }
    struct host_opnd s = hc_loc(c, a);
    bool merge = dst->kind == IR_G && w < 4;
    if (!d.mem) {
        if (s.mem && (a->kind == IR_M || merge)) {
            if (merge)
                host_op(e, w, w == 1 ? 0x8a : 0x8b, d.reg, s, HOST_R8);
            else
                hc_fetch(c, d.reg, w, a);
        } else if (dst->kind == IR_T && w < 4) {
            host_load(e, w, d.reg, s);
        } else if (s.mem) {
            hc_fetch(c, d.reg, w, a);
        } else {
            host_mov_rr(e, w, d.reg, s.reg);
        }
        return;
    }
    if (s.mem || (w == 4 && dst->kind != IR_M)) {
        hc_fetch(c, RAX, w, a);
        hc_put(c, dst, w, RAX);
    } else {
        hc_put(c, dst, w, s.reg);
    }
}

static void do_extend(struct hc *c, const struct ir_op *op)
{
    bool sx = op->opcode == IR_MOVSX;
    unsigned w = op->width;
    struct host_opnd d = hc_loc(c, &op->dst), s = op->a.kind == IR_I ? host_r(R14) : hc_loc(c, &op->a);
    bool merge = op->dst.kind == IR_G && w == 2;
    unsigned to = d.mem || (op->dst.kind == IR_T && w == 2) ? RAX : d.reg;
    if (op->a.kind == IR_I)
        hc_fetch(c, R14, op->swidth, &op->a);
    if (op->swidth == 4)
        host_op(&c->e, sx && w == 8 ? 8 : 4, sx && w == 8 ? 0x63 : 0x8b, to, s, 0);
    else
        host_op(&c->e, sx ? w : merge ? 2 : 4, (sx ? 0x0fbe : 0x0fb6) + (op->swidth == 2), to, s,
                op->swidth == 1 ? HOST_M8 : 0);
    if (to == RAX)
        hc_put(c, &op->dst, w, RAX);
}

static void do_state_field(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    if (op->opcode == IR_LDS) {
        struct host_opnd d = hc_loc(c, &op->dst), s = host_m(RSP, (int32_t)op->a.imm);
        if (!d.mem && op->width >= 4) {
            host_load(e, op->swidth, d.reg, s);
        } else {
            host_load(e, op->swidth, RAX, s);
            hc_put(c, &op->dst, op->width, RAX);
        }
        return;
    }
    struct host_opnd d = host_m(RSP, (int32_t)op->b.imm);
    unsigned w = op->width;
    if (op->a.kind == IR_I && (w < 8 || op->a.imm == (int32_t)op->a.imm)) {
        host_op(e, w, w == 1 ? 0xc6 : 0xc7, 0, d, 0);
        for (unsigned i = 0; i < (w > 4 ? 4 : w); i++)
            host_u8(e, (uint8_t)((uint64_t)op->a.imm >> (8 * i)));
        return;
    }
    bool load = op->a.kind == IR_I || op->a.kind == IR_P || hc_loc(c, &op->a).mem;
    if (load)
        hc_fetch(c, RAX, w, &op->a);
    host_store(e, w, d, load ? RAX : hc_loc(c, &op->a).reg);
}

static void do_cmov(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    struct host_opnd d = hc_loc(c, &op->dst), a = op->a.kind == IR_I ? host_r(R14) : hc_loc(c, &op->a);
    if (op->a.kind == IR_I)
        hc_fetch(c, R14, op->width, &op->a);
    unsigned cond = hc_condition(c, op->cond), to = d.mem ? RAX : d.reg; /* first: it may use rax */
    if (d.mem)
        host_load(e, 8, RAX, d);
    host_op(e, op->width, 0x0f40 | cond, to, a, 0);
    if (d.mem)
        host_store(e, 8, d, RAX);
    else if (op->dst.kind == IR_T && op->width == 2)
        host_load(e, 2, to, host_r(to));
}

static void do_setcc(struct hc *c, const struct ir_op *op)
{
    struct host_opnd d = hc_loc(c, &op->dst);
    unsigned cond = hc_condition(c, op->cond);
    bool via = op->dst.kind == IR_T && d.mem;
    struct host_opnd to = via ? host_r(RAX) : d;
    host_op(&c->e, 1, 0x0f90 | cond, 0, to, HOST_M8);
    if (op->dst.kind == IR_T)
        host_load(&c->e, 1, to.reg, to);
    if (via)
        host_store(&c->e, 8, d, RAX);
}

/* AH CH DH BH. Host rcx rdx rbx have them, guest rax (r12) has not. */
static void do_ext8h(struct hc *c, const struct ir_op *op)
{
    unsigned n = op->a.n & 3;
    if (n == X86_RAX)
        host_mov_rr(&c->e, 4, RAX, R12);
    host_op(&c->e, 4, 0x0fb6, RAX, host_r(4 + n), HOST_NOREX); /* movzx eax, nh */
    hc_put(c, &op->dst, 8, RAX);
}

static void do_dep8h(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    unsigned n = op->dst.n & 3;
    hc_fetch(c, RAX, 4, &op->a);
    if (n != X86_RAX) {
        host_op(e, 1, 0x8a, 4 + n, host_r(RAX), HOST_NOREX); /* mov nh, al */
        return;
    }
    host_mov_rr(e, 8, R14, RCX);
    host_mov_rr(e, 8, RCX, R12);
    host_op(e, 1, 0x8a, 4 + X86_RCX, host_r(RAX), HOST_NOREX); /* mov ch, al */
    host_mov_rr(e, 8, R12, RCX);
    host_mov_rr(e, 8, RCX, R14);
}

static void do_mulx(struct hc *c, const struct ir_op *op)
{
    struct host_opnd hi = hc_loc(c, &op->dst), lo = hc_loc(c, &op->c), b = hc_loc(c, &op->b);
    if (op->b.kind == IR_I) {
        hc_fetch(c, RAX, op->width, &op->b);
        b = host_r(RAX);
    }
    unsigned rhi = hi.mem ? RAX : hi.reg, rlo = lo.mem ? R14 : lo.reg;
    host_vex(&c->e, 2, 3, op->width == 8, false, 0xf6, rhi, rlo, b);
    if (lo.mem)
        host_store(&c->e, 8, lo, R14);
    if (hi.mem)
        host_store(&c->e, 8, hi, RAX);
}

static void operation(struct hc *c, const struct ir_op *op, struct hc_flags f)
{
    switch (op->opcode) {
    case IR_MOV: do_mov(c, op); break;
    case IR_MOVZX: case IR_MOVSX: do_extend(c, op); break;
    case IR_LEA: hc_lea(c, op); break;
    case IR_LDS: case IR_STS: do_state_field(c, op); break;
    case IR_XCHG: do_xchg(c, op); break;
    case IR_CMOV: do_cmov(c, op); break;
    case IR_SETCC: do_setcc(c, op); break;
    case IR_ADD: do_alu(c, op, 0); break;
    case IR_OR: do_alu(c, op, 1); break;
    case IR_ADC: do_alu(c, op, 2); break;
    case IR_SBB: do_alu(c, op, 3); break;
    case IR_AND: do_alu(c, op, 4); break;
    case IR_SUB: do_alu(c, op, 5); break;
    case IR_XOR: do_alu(c, op, 6); break;
    case IR_CMP: do_cmp(c, op); break;
    case IR_TEST: do_test(c, op); break;
    case IR_INC: case IR_DEC: case IR_NEG: case IR_NOT: do_unary(c, op); break;
    case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROL: case IR_ROR: case IR_RCL: case IR_RCR: do_shift(c, op); break;
    case IR_SHLD: case IR_SHRD: do_shift_double(c, op); break;
    case IR_IMUL: do_imul(c, op); break;
    case IR_MUL_WIDE: case IR_IMUL_WIDE: case IR_DIV_WIDE: case IR_IDIV_WIDE: do_wide(c, op); break;
    case IR_BT: case IR_BTS: case IR_BTR: case IR_BTC: do_bit(c, op); break;
    case IR_BSF: case IR_BSR: case IR_TZCNT: case IR_LZCNT: case IR_POPCNT: do_scan(c, op); break;
    case IR_BSWAP: do_bswap(c, op); break;
    case IR_XADD: do_xadd(c, op); break;
    case IR_CMPXCHG: do_cmpxchg(c, op); break;
    case IR_EXT8H: do_ext8h(c, op); break;
    case IR_DEP8H: do_dep8h(c, op); break;
    case IR_MULX: do_mulx(c, op); break;
    case IR_GETF: hc_getf(c, op); break;
    case IR_SETF: hc_setf(c, op, f); break;
    case IR_HOST: hc_host(c, op); break;
    case IR_FENCE: /* mfence */
        host_u8(&c->e, 0x0f);
        host_u8(&c->e, 0xae);
        host_u8(&c->e, 0xf0);
        break;
    default: c->failed = true; break;
    }
}

static bool only_conditions(const struct ir_op *op)
{
    return op->opcode == IR_SETCC || op->opcode == IR_CMOV || op->opcode == IR_GETF || op->opcode == IR_SETF;
}

void hc_body(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    struct hc_flags f = hc_flags(c, i);
    unsigned live_def = f.live & f.def, keep = f.live & ~f.def;
    if (op->opcode == IR_HOST && (keep | f.use)) /* a host signal may end it: the exception frame needs flags */
        hc_flags_save(c);
    if (!only_conditions(op) && (f.use || (keep && live_def)))
        hc_flags_restore(c);
    operation(c, op, f);
    if (live_def && op->opcode != IR_SETF) {
        c->fl_host = true;
        c->fl_cc = false;
    } else if (f.def && !keep && op->opcode != IR_SETF) {
        c->fl_host = false; /* nothing is live */
        c->fl_cc = true;
    }
}
