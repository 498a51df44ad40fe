/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IR_HOST: the guest's instruction again, general registers and address renamed. */
#include "accel/jit/host-x86_64/host_compile.h"

static bool spilled(const struct hc *c, const struct ir_arg *a)
{
    return a->kind == IR_I || hc_loc(c, a).mem;
}

/* The register for a GPR operand: its own, or `scratch`, loaded when it is read. */
static unsigned operand(struct hc *c, const struct ir_arg *a, unsigned scratch, bool read)
{
    if (!spilled(c, a))
        return hc_loc(c, a).reg;
    if (read)
        hc_fetch(c, scratch, 8, a);
    return scratch;
}

static void written(struct hc *c, const struct ir_arg *a, unsigned reg)
{
    if (spilled(c, a) && a->kind != IR_I)
        host_store(&c->e, 8, hc_loc(c, a), reg);
}

static void encode_legacy(struct hc *c, const struct ir_host *h, unsigned reg, struct host_opnd rm)
{
    static const uint32_t maps[] = { 0, 0x0f00, 0x0f3800, 0x0f3a00, 0 };
    struct host_emit *e = &c->e;
    unsigned flags = h->pfx == 0x66 ? HOST_66 : h->pfx == 0xf2 ? HOST_F2 : h->pfx == 0xf3 ? HOST_F3 : 0;
    if (h->map == IR_MAP_0F38 && h->opcode == 0xf0 && h->pfx == 0xf2)
        flags |= HOST_M8;
    if (h->rm_kind == IR_HO_NONE && h->reg_kind == IR_HO_NONE && h->map != IR_MAP_X87) { /* EMMS: no ModRM */
        if (h->pfx)
            host_u8(e, h->pfx);
        host_u8(e, 0x0f);
        host_u8(e, h->opcode);
        return;
    }
    host_op(e, h->w ? 8 : 4, maps[h->map] | h->opcode, reg, rm, flags);
}

static void encode_vex(struct hc *c, const struct ir_host *h, unsigned reg, unsigned v, struct host_opnd rm)
{
    unsigned pp = h->pfx == 0x66 ? 1 : h->pfx == 0xf3 ? 2 : h->pfx == 0xf2 ? 3 : 0;
    host_vex(&c->e, h->map, pp, h->w, h->vexl, h->opcode, reg, v, rm);
}

void hc_host(struct hc *c, const struct ir_op *op)
{
    const struct ir_host *h = &op->host;
    unsigned reg = h->reg, rmreg = h->rm, v = 0;
    /* r14 is free for r/m when that is no memory operand, and for a vvvv that is only written (MULX). */
    if (h->rm_kind == IR_HO_GPR)
        rmreg = operand(c, &op->a, R14, h->rm_read || !h->rm_write);
    if (h->v_kind == IR_HO_GPR)
        v = operand(c, &op->b, h->v_write ? R14 : RAX, !h->v_write);
    else if (op->b.kind == IR_G && op->b.n == X86_RAX)
        host_mov_rr(&c->e, 8, RAX, R12);
    if (h->reg_kind == IR_HO_GPR)
        reg = operand(c, &op->c, RAX, h->reg_read);
    struct host_opnd rm = h->rm_kind == IR_HO_MEM ? host_m(R14, 0) : host_r(rmreg);
    if (h->vex)
        encode_vex(c, h, reg, v, rm);
    else
        encode_legacy(c, h, reg, rm);
    if (h->has_imm)
        host_u8(&c->e, h->imm);
    if (h->rm_kind == IR_HO_GPR && h->rm_write)
        written(c, &op->a, rmreg);
    if (h->v_kind == IR_HO_GPR && h->v_write)
        written(c, &op->b, v);
    if (h->reg_kind == IR_HO_GPR && h->reg_write)
        written(c, &op->c, reg);
    if (h->map == IR_MAP_X87 && op->dst.kind != IR_NONE)
        hc_put(c, &op->dst, 2, RAX);
}
