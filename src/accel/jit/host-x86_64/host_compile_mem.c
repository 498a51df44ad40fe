/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory operands: the address, then the inline TLB (engine/jit_cpu.h). The fast path ends with the host address in r14;
 * the slow path asks jit_mem_slow for one, and for stores has its own copy of the operation with a commit after it.
 */
#include "accel/jit/host-x86_64/host_compile.h"

static int64_t with_base(const struct ir_mem *m)
{
    return m->base.kind == IR_P ? (int64_t)((uint64_t)m->disp + (uint64_t)m->base.imm) : m->disp;
}

/* base + index << scale + disp, truncated, into `to` (not rax); flags are kept. Returns false when the address
 * is just the base register, *ret_reg, and nothing was emitted. A base P counts with its constant in disp. */
static bool effective(struct hc *c, const struct ir_mem *m, unsigned to, unsigned *ret_reg)
{
    struct host_emit *e = &c->e;
    unsigned base = HOST_NOREG, index = HOST_NOREG, width = m->abits == 64 ? 8 : 4;
    int64_t sum = with_base(m), disp = m->abits == 64 ? sum : (int32_t)sum;
    int64_t far = disp == (int32_t)disp ? 0 : disp;
    *ret_reg = to;
    if (!m->base.kind && !m->index.kind) {
        host_mov_ri(e, to, m->abits == 64 ? (uint64_t)disp : m->abits == 32 ? (uint32_t)disp : (uint16_t)disp);
        return true;
    }
    if (m->index.kind) {
        struct host_opnd o = hc_loc(c, &m->index);
        index = o.mem ? RAX : o.reg;
        if (o.mem)
            host_load(e, 8, RAX, o);
    }
    if (m->base.kind == IR_P) {
        base = index == RAX ? R14 : index == HOST_NOREG ? to : RAX;
        host_load(e, 8, base, host_m(RSP, OFF(rip_base)));
    } else if (m->base.kind) {
        struct host_opnd o = hc_loc(c, &m->base);
        base = o.mem ? (index == RAX ? R14 : RAX) : o.reg;
        if (o.mem)
            host_load(e, 8, base, o);
    }
    if (far)
        disp = 0;
    if (index == HOST_NOREG && !disp && !far && m->abits == 64 && base != RAX) {
        *ret_reg = base;
        return false;
    }
    if (index == HOST_NOREG && !disp)
        host_mov_rr(e, width, to, base);
    else
        host_op(e, width, 0x8d, to, host_mx(base, index, index == HOST_NOREG ? 0 : m->scale, (int32_t)disp), 0);
    if (far) {
        host_mov_ri(e, RAX, (uint64_t)far);
        host_op(e, 8, 0x8d, to, host_mx(to, RAX, 0, 0), 0);
    }
    if (m->abits == 16)
        host_load(e, 2, to, host_r(to));
    return true;
}

/* A segment base added without touching the flags. */
static void add_segment(struct hc *c, const struct ir_mem *m, unsigned to)
{
    if (m->seg >= X86_NSEG)
        return;
    host_load(&c->e, 8, RAX, host_m(RSP, OFF(seg_base) + 8 * m->seg));
    host_op(&c->e, m->abits == 64 ? 8 : 4, 0x8d, to, host_mx(to, RAX, 0, 0), 0);
}

void hc_lea(struct hc *c, const struct ir_op *op)
{
    struct host_opnd d = hc_loc(c, &op->dst);
    struct ir_mem m = op->mem;
    bool direct = !d.mem && op->width >= 4 && m.seg >= X86_NSEG && m.abits >= 32;
    int64_t disp = with_base(&m);
    if (op->width <= 4 && m.abits == 64 && m.seg >= X86_NSEG && disp == (int32_t)disp)
        m.abits = 32; /* the same low half */
    direct = direct && (m.abits == 32 || disp == (int32_t)disp);
    unsigned reg, to = direct ? d.reg : R14;
    if (!effective(c, &m, to, &reg) && (m.seg < X86_NSEG || op->width == 4)) {
        host_mov_rr(&c->e, 8, R14, reg);
        reg = R14;
    }
    add_segment(c, &m, reg);
    if (direct && reg == to)
        return;
    if (op->width == 4 && m.abits == 64)
        host_mov_rr(&c->e, 4, R14, R14);
    hc_put(c, &op->dst, op->width, reg);
}

static unsigned access_size(const struct ir_op *op)
{
    switch (op->opcode) {
    case IR_MOVZX: case IR_MOVSX: return op->swidth;
    case IR_SETCC: return 1;
    case IR_HOST: return op->host.msize;
    default: return op->width;
    }
}

static bool access_writes(const struct ir_op *op)
{
    return op->opcode == IR_HOST ? (op->host.maccess & 2) != 0 : op->dst.kind == IR_M;
}

static uint32_t access_desc(const struct hc *c, const struct ir_op *op)
{
    unsigned kind;
    if (op->opcode == IR_HOST)
        kind = (op->host.maccess & 1 ? JIT_ACC_READ : 0) | (op->host.maccess & 2 ? JIT_ACC_WRITE : 0);
    else if (!access_writes(op))
        kind = JIT_ACC_READ;
    else
        kind = op->opcode == IR_MOV || op->opcode == IR_SETCC ? JIT_ACC_WRITE : JIT_ACC_READ | JIT_ACC_WRITE;
    return JIT_ACC(access_size(op), kind, JIT_MODE_MMU(c->r->mode));
}

static int32_t tlb_off(const struct hc *c, size_t field)
{
    return OFF(tlb) + (int32_t)(JIT_MODE_MMU(c->r->mode) * sizeof(((struct jit_cpu *)0)->tlb[0]) + field);
}

static int32_t tag_off(const struct hc *c, const struct ir_op *op)
{
    return tlb_off(c, access_writes(op) ? offsetof(struct jit_tlb_entry, tag_write)
                                        : offsetof(struct jit_tlb_entry, tag_read));
}

void hc_mem(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    const struct ir_mem *m = &op->mem;
    struct host_emit *e = &c->e;
    unsigned reg;
    hc_flags_before_clobber(c, hc_flags(c, i));
    if (!effective(c, m, R14, &reg))
        host_mov_rr(e, 8, R14, reg);
    if (m->seg < X86_NSEG) {
        host_op(e, m->abits == 64 ? 8 : 4, 0x03, R14, host_m(RSP, OFF(seg_base) + 8 * m->seg), 0);
        reg = R14;
    }
    host_vex(e, 3, 3, false, false, 0xf0, RAX, 0, host_r(reg)); /* rorx eax, reg, 7: the page number at bit 5 */
    host_u8(e, 7);
    host_op(e, 4, 0x23, RAX, host_m(RSP, OFF(tlb_mask)), 0);
    host_op(e, 8, 0x33, R14, host_mx(RSP, RAX, 0, tag_off(c, op)), 0);
    host_alu_imm(e, 8, 7, host_r(R14), 4096 - (int32_t)access_size(op), 0);
    struct hc_ool *o = hc_ool(c, HC_OOL_MEM, i, host_jcc(e, 7));
    host_op(e, 8, 0x03, R14, host_mx(RSP, RAX, 0, tlb_off(c, offsetof(struct jit_tlb_entry, host))), 0);
    if (!access_writes(op))
        o->back = host_off(e);
}

static void mem_slow(struct hc *c, const struct hc_ool *o)
{
    const struct ir_op *op = &c->r->ops[o->op];
    struct host_emit *e = &c->e;
    host_op(e, 8, 0x33, R14, host_mx(RSP, RAX, 0, tag_off(c, op)), 0);
    if (op->mem.align == 16) {
        host_op(e, 1, 0xf6, 0, host_r(R14), HOST_M8);
        host_u8(e, 15);
        host_u8(e, 0x74); /* jz over the call */
        host_u8(e, 5);
        host_call_abs(e, c->th->misaligned);
    }
    host_mov_ri(e, RAX, access_desc(c, op));
    host_call_abs(e, c->th->mem_slow);
    if (access_writes(op)) {
        c->fl_host = o->fl_host;
        c->fl_cc = o->fl_cc;
        hc_body(c, o->op);
        host_call_abs(e, c->th->mem_commit);
    }
    host_fix(e, host_jmp(e), o->back);
}

static void irq(struct hc *c, const struct hc_ool *o)
{
    struct host_emit *e = &c->e;
    if (o->rcx_in_rax)
        host_mov_rr(e, 8, RCX, RAX);
    c->fl_host = o->fl_host;
    c->fl_cc = o->fl_cc;
    if (o->save_flags)
        hc_flags_save(c);
    hc_fetch(c, RAX, 8, &o->rip);
    host_store(e, 8, host_m(RSP, OFF(s.rip)), RAX);
    host_jmp_abs(e, c->th->leave_attention);
}

void hc_out_of_line(struct hc *c)
{
    struct host_emit *e = &c->e;
    for (unsigned i = 0; i < c->nools && !e->overflow && !c->failed; i++) {
        const struct hc_ool *o = &c->ools[i];
        hc_insn_entry(c, o->guest_off);
        host_fix(e, o->from, host_off(e));
        switch (o->kind) {
        case HC_OOL_MEM:
            mem_slow(c, o);
            break;
        case HC_OOL_IRQ:
            irq(c, o);
            break;
        case HC_OOL_STUB:
            c->ret->exits[o->exit].stub_off = host_off(e);
            host_call_abs(e, c->th->chain);
            host_u8(e, 0xcc);
            break;
        case HC_OOL_MISS:
            hc_fetch(c, RAX, 8, &o->rip);
            host_jmp_abs(e, c->th->lookup_miss);
            break;
        case HC_OOL_MISS_SLOT:
            host_op(e, 8, 0x33, R15, host_m(RSP, OFF(jump_key)), 0);
            host_mov_rr(e, 8, RAX, R15);
            host_mov_ri(e, R14, o->slot);
            host_jmp_abs(e, c->th->lookup_miss_at);
            break;
        case HC_OOL_MISS_R14:
            host_mov_rr(e, 8, RAX, R14);
            host_jmp_abs(e, c->th->lookup_miss);
            break;
        default:
            break;
        }
    }
}
