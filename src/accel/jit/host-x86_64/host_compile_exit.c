/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control flow: labels, branches, interrupt checks, calls of helpers, exits. */
#include "accel/jit/host-x86_64/host_compile.h"

/* At labels and exits the flags are expected in cc. */
static void flags_to_memory(struct hc *c, unsigned wanted)
{
    if (wanted)
        hc_flags_save(c);
}

static void to_label(struct hc *c, uint32_t at, int64_t label)
{
    if (c->nfixups == IR_MAX_OPS) {
        c->failed = true;
        return;
    }
    c->fixups[c->nfixups++] = (struct hc_fixup){ .at = at, .label = (unsigned)label };
}

static void do_label(struct hc *c, unsigned i)
{
    if (c->dead && !c->label_refs[c->r->ops[i].a.imm])
        return; /* its branches went elsewhere */
    if (!c->dead)
        flags_to_memory(c, c->live[i]);
    c->fl_host = false;
    c->fl_cc = true;
    c->dead = false;
    c->label_off[c->r->ops[i].a.imm] = host_off(&c->e);
}

/* The target of an EXIT_JMP may be chained. */
static bool same_page(const struct ir_region *r, const struct ir_arg *to)
{
    uint64_t target = (uint64_t)to->imm;
    if (to->kind == IR_P || jit_mode_relative(r->mode))
        return to->kind == IR_P && target < 0x1000;
    uint64_t last = r->rip + (r->guest_bytes ? r->guest_bytes - 1 : 0);
    return (r->mode & JIT_MODE_FLAT) && (target >> 12 == r->rip >> 12 || target >> 12 == last >> 12);
}

/* A patchable rel32 lies within eight bytes, since it changes while others run it. */
static void align_rel32(struct hc *c, unsigned opcode_len)
{
    while ((((uintptr_t)c->e.p + opcode_len) & 7) > 4 && !c->e.overflow)
        host_u8(&c->e, 0x90);
}

static void chained(struct hc *c, unsigned i, uint32_t at)
{
    const struct ir_op *op = &c->r->ops[i];
    unsigned n = c->ret->nexits++;
    c->ret->exits[n] = (struct host_exit){ .patch_off = at, .target = (uint64_t)op->a.imm,
                                              .relative = op->a.kind == IR_P, .cflags = op->cflags };
    hc_ool(c, HC_OOL_STUB, i, at)->exit = n;
}

/* The conditional jump of a branch: to its label, or straight out when nothing but a chained exit stands there. */
static void jump_if(struct hc *c, unsigned cond, int64_t label)
{
    unsigned exit = c->label_op[label] + 1u;
    const struct ir_op *op = exit < c->r->nops ? &c->r->ops[exit] : NULL;
    if (op && op->opcode == IR_EXIT_JMP && same_page(c->r, &op->a) && c->ret->nexits < HOST_MAX_EXITS) {
        align_rel32(c, 2);
        chained(c, exit, host_jcc(&c->e, cond));
        c->label_refs[label]--;
    } else {
        to_label(c, host_jcc(&c->e, cond), label);
    }
}

static void do_brcc(struct hc *c, const struct ir_op *op)
{
    flags_to_memory(c, c->label_live[op->a.imm]);
    unsigned cond = hc_condition(c, op->cond);
    jump_if(c, cond, op->a.imm);
}

static void do_brz(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    hc_flags_before_clobber(c, (struct hc_flags){ .live = c->live[i] });
    if (op->a.kind == IR_I)
        hc_fetch(c, RAX, op->width, &op->a);
    struct host_opnd o = op->a.kind == IR_I ? host_r(RAX) : hc_loc(c, &op->a);
    if (o.mem)
        host_alu_imm(&c->e, op->width, 7, o, 0, 0);
    else
        host_op(&c->e, op->width, op->width == 1 ? 0x84 : 0x85, o.reg, o, HOST_R8 | HOST_M8);
    jump_if(c, op->opcode == IR_BRZ ? 4 : 5, op->b.imm);
}

/* With live flags in EFLAGS the check goes through rcx and jrcxz, which leave them alone. */
static void do_irq_check(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    struct host_emit *e = &c->e;
    struct hc_flags f = hc_flags(c, i);
    struct hc_ool *o;
    if (c->fl_host && !c->fl_cc && (f.live | f.use)) {
        host_mov_rr(e, 8, RAX, RCX);
        host_load(e, 4, RCX, host_m(RSP, OFF(attention)));
        host_u8(e, 0xe3); /* jrcxz over the jump */
        host_u8(e, 5);
        o = hc_ool(c, HC_OOL_IRQ, i, host_jmp(e));
        host_mov_rr(e, 8, RCX, RAX);
        o->rcx_in_rax = true;
        o->save_flags = true;
    } else {
        host_alu_imm(e, 4, 7, host_m(RSP, OFF(attention)), 0, 0);
        c->fl_host = false;
        o = hc_ool(c, HC_OOL_IRQ, i, host_jcc(e, 5));
    }
    o->rip = op->a;
}

static void call_arg(struct hc *c, const struct ir_arg *a, unsigned n)
{
    struct host_emit *e = &c->e;
    struct host_opnd to = host_m(RSP, OFF(scratch) + 8 * (int32_t)n);
    if (a->kind == IR_NONE)
        return;
    if (a->kind == IR_I && a->imm == (int32_t)a->imm) {
        host_op(e, 8, 0xc7, 0, to, 0);
        host_u32(e, (uint32_t)a->imm);
        return;
    }
    struct host_opnd o = hc_loc(c, a);
    if (a->kind == IR_I || a->kind == IR_P || o.mem) {
        hc_fetch(c, RAX, 8, a);
        o = host_r(RAX);
    }
    host_store(e, 8, to, o.reg);
}

static void do_call(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    struct host_emit *e = &c->e;
    struct hc_flags f = hc_flags(c, i);
    flags_to_memory(c, f.use | f.live);
    call_arg(c, &op->a, 0);
    call_arg(c, &op->b, 1);
    call_arg(c, &op->c, 2);
    host_mov_ri(e, RAX, (uint64_t)(uintptr_t)op->fn);
    host_call_abs(e, op->cflags & IR_CALL_WRITES_G ? c->th->call_reload : c->th->call);
    c->fl_host = false;
    c->fl_cc = true;
    if (op->cflags & IR_CALL_NORETURN) {
        host_u8(e, 0x0f);
        host_u8(e, 0x0b);
        c->dead = true;
        return;
    }
    if (op->dst.kind != IR_NONE) {
        if (op->width == 4)
            host_mov_rr(e, 4, RAX, RAX);
        hc_put(c, &op->dst, op->width ? op->width : 8, RAX);
    } else {
        host_u8(e, 0x90); /* so that the return address belongs to this instruction */
    }
}

/* To another page, in code that moves. The slot is the one that the target has where the region was met first: no address need
 * be hashed here, and what the slot holds is known by its key. */
static void exit_far(struct hc *c, unsigned i)
{
    const struct ir_arg *a = &c->r->ops[i].a;
    struct host_emit *e = &c->e;
    if (a->kind != IR_P || a->imm != (int32_t)a->imm) {
        hc_fetch(c, R14, 8, a);
        hc_ool(c, HC_OOL_MISS_R14, i, host_lookup_r14(e, true));
        return;
    }
    unsigned index = jit_jump_index((c->r->rip & ~(uint64_t)0xfff) + (uint64_t)a->imm);
    int32_t slot = OFF(jumps) + (int32_t)(index * sizeof(struct jit_jump));
    host_load(e, 8, R14, host_m(RSP, OFF(rip_base)));
    host_op(e, 8, 0x8d, R15, host_m(R14, (int32_t)a->imm), 0);
    host_op(e, 8, 0x33, R15, host_m(RSP, OFF(jump_key)), 0);
    host_op(e, 8, 0x3b, R15, host_m(RSP, slot), 0);
    hc_ool(c, HC_OOL_MISS_SLOT, i, host_jcc(e, 5))->slot = index;
    host_add_keep(e, 8, R14, a->imm & ~(int64_t)0xfff);
    host_store(e, 8, host_m(RSP, OFF(rip_base)), R14);
    host_op(e, 4, 0xff, 4, host_m(RSP, slot + 8), 0);
}

static void do_exit_jmp(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    struct host_emit *e = &c->e;
    uint64_t target = (uint64_t)op->a.imm;
    if (same_page(c->r, &op->a) && c->ret->nexits < HOST_MAX_EXITS) {
        align_rel32(c, 1);
        chained(c, i, host_jmp(e));
        return;
    }
    if (jit_mode_relative(c->r->mode)) {
        exit_far(c, i);
        return;
    }
    int32_t slot = OFF(jumps) + (int32_t)(jit_jump_index(target) * sizeof(struct jit_jump));
    host_mov_ri(e, R14, target);
    host_op(e, 8, 0x33, R14, host_m(RSP, OFF(jump_key)), 0);
    host_op(e, 8, 0x3b, R14, host_m(RSP, slot), 0);
    hc_ool(c, HC_OOL_MISS, i, host_jcc(e, 5))->rip = op->a;
    host_op(e, 4, 0xff, 4, host_m(RSP, slot + 8), 0);
}

static void do_exit_ind(struct hc *c, unsigned i)
{
    hc_fetch(c, R14, 8, &c->r->ops[i].a);
    hc_ool(c, HC_OOL_MISS_R14, i, host_lookup_r14(&c->e, jit_mode_relative(c->r->mode)));
}

static void do_exit_loop(struct hc *c, const struct ir_op *op)
{
    if (op->b.kind != IR_NONE) {
        hc_fetch(c, RAX, 8, &op->b);
        host_store(&c->e, 8, host_m(RSP, OFF(s.rip)), RAX);
    }
    host_mov_ri(&c->e, RAX, (uint32_t)op->a.imm);
    host_jmp_abs(&c->e, c->th->leave);
}

bool hc_control(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    switch (op->opcode) {
    case IR_LABEL: do_label(c, i); return true;
    case IR_BR:
        flags_to_memory(c, c->label_live[op->a.imm]);
        to_label(c, host_jmp(&c->e), op->a.imm);
        c->dead = true;
        return true;
    case IR_BRCC: do_brcc(c, op); return true;
    case IR_BRZ: case IR_BRNZ: do_brz(c, i); return true;
    case IR_IRQ_CHECK: do_irq_check(c, i); return true;
    case IR_CALL: do_call(c, i); return true;
    case IR_EXIT_JMP: case IR_EXIT_IND: case IR_EXIT_STATE: case IR_EXIT_LOOP:
        flags_to_memory(c, op->fuse);
        if (op->opcode == IR_EXIT_JMP)
            do_exit_jmp(c, i);
        else if (op->opcode == IR_EXIT_IND)
            do_exit_ind(c, i);
        else if (op->opcode == IR_EXIT_STATE)
            host_jmp_abs(&c->e, c->th->state);
        else
            do_exit_loop(c, op);
        c->dead = true;
        return true;
    default:
        return false;
    }
}
