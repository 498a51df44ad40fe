/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest flags. Those that are live stand in EFLAGS (fl_host), in jit_cpu.cc (fl_cc), or in both. An operation that writes
 * flags somebody reads leaves them in EFLAGS only; before anything else destroys EFLAGS they are saved.
 */
#include "accel/jit/host-x86_64/host_compile.h"

struct hc_flags hc_flags(const struct hc *c, unsigned i)
{
    struct hc_flags f = { .live = c->live[i] };
    ir_op_flags_at(&c->r->ops[i], f.live, &f.def, &f.use);
    return f;
}

void hc_flags_save(struct hc *c)
{
    if (!c->fl_host || c->fl_cc)
        return;
    host_u8(&c->e, 0x9f);                                       /* lahf */
    host_op(&c->e, 1, 0x0f90, 0, host_r(RAX), 0);               /* seto al */
    host_store(&c->e, 2, host_m(RSP, OFF(cc)), RAX);
    c->fl_cc = true;
}

void hc_flags_restore(struct hc *c)
{
    if (c->fl_host)
        return;
    host_load(&c->e, 2, RAX, host_m(RSP, OFF(cc)));
    host_alu_imm(&c->e, 1, 0, host_r(RAX), 0x7f, 0);            /* OF = (1 + 0x7f overflows) */
    host_u8(&c->e, 0x9e);                                       /* sahf */
    c->fl_host = true;
}

void hc_flags_before_clobber(struct hc *c, struct hc_flags f)
{
    if ((f.live & ~f.def) | f.use)
        hc_flags_save(c);
    c->fl_host = false;
}

/* For conditions that one test of the saved bytes decides: byte (0: OF, 1: LAHF) and bits, by cond / 2. */
static const struct { uint8_t byte, mask; } cc_tests[8] = {
    { 0, 0x01 }, { 1, 0x01 }, { 1, 0x40 }, { 1, 0x41 }, { 1, 0x80 }, { 1, 0x04 }, { 0, 0 }, { 0, 0 } };

unsigned hc_condition(struct hc *c, unsigned cond)
{
    if (c->fl_host)
        return cond;
    if (cc_tests[cond >> 1].mask) {
        host_op(&c->e, 1, 0xf6, 0, host_m(RSP, OFF(cc) + cc_tests[cond >> 1].byte), 0);
        host_u8(&c->e, cc_tests[cond >> 1].mask);
        return 5 ^ (cond & 1); /* set: not zero */
    }
    hc_flags_restore(c);
    return cond;
}

void hc_getf(struct hc *c, const struct ir_op *op)
{
    struct host_emit *e = &c->e;
    hc_flags_save(c);
    c->fl_host = false;
    host_load(e, 1, RAX, host_m(RSP, OFF(cc) + 1));
    host_alu_imm(e, 4, 4, host_r(RAX), 0xd5, 0);
    host_load(e, 1, R14, host_m(RSP, OFF(cc)));
    host_op(e, 4, 0xc1, 4, host_r(R14), 0);
    host_u8(e, 11);
    host_op(e, 4, 0x0b, RAX, host_r(R14), 0);
    hc_put(c, &op->dst, 8, RAX);
}

void hc_setf(struct hc *c, const struct ir_op *op, struct hc_flags f)
{
    struct host_emit *e = &c->e;
    bool whole = !(f.live & ~f.def);
    unsigned lahf = f.def & 0xd5, of = f.def & X86_FL_OF ? 1 : 0;
    if (!whole)
        hc_flags_save(c);
    hc_fetch(c, R14, 4, &op->a);
    host_mov_rr(e, 4, RAX, R14);
    host_op(e, 4, 0xc1, 4, host_r(RAX), 0);
    host_u8(e, 8);
    host_alu_imm(e, 4, 4, host_r(RAX), (int32_t)(lahf << 8), 0);
    if (of) {
        host_op(e, 4, 0xc1, 5, host_r(R14), 0);
        host_u8(e, 11);
        host_alu_imm(e, 4, 4, host_r(R14), 1, 0);
        host_op(e, 4, 0x0b, RAX, host_r(R14), 0);
    }
    if (whole) {
        host_alu_imm(e, 4, 1, host_r(RAX), 0x200, 0);
        host_store(e, 2, host_m(RSP, OFF(cc)), RAX);
    } else {
        host_alu_imm(e, 2, 4, host_m(RSP, OFF(cc)), (int16_t)~(lahf << 8 | of), 0);
        host_op(e, 2, 0x09, RAX, host_m(RSP, OFF(cc)), 0);
    }
    c->fl_host = false;
    c->fl_cc = true;
}
