/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From guest code to IR: the second pass over a run of instructions, and what all translate files share:
 * operands, memory addresses, helper calls, ways out.
 *
 * Shape of a region: [LABEL] IRQ_CHECK, then per instruction [LABEL [IRQ_CHECK]] INSN ops; then the stubs of branches
 * that leave. The check for interrupts of a loop stands behind the label it returns to: one check serves every branch to
 * it, and comparison and branch at the loop's end stay together.
 */
#include "accel/jit/guest-x86/x86_tr.h"

/* --- small emitters --- */

struct ir_op *x86_tr_emit(struct x86_tr *t, enum ir_opcode op, unsigned width)
{
    return ir_emit(t->r, op, width);
}

bool x86_tr_has(struct x86_tr *t, enum x86_feature f)
{
    return x86_model_has(t->cpu->model, f);
}

struct ir_arg x86_rip_arg(const struct x86_tr *t, uint64_t rip)
{
    return jit_mode_relative(t->mode) ? ir_p((int64_t)(rip - (t->r->rip & ~(uint64_t)0xfff))) : ir_i((int64_t)rip);
}

struct ir_arg x86_temp(struct x86_tr *t)
{
    return ir_t(ir_new_temp(t->r));
}

struct ir_op *x86_mov(struct x86_tr *t, struct ir_arg dst, struct ir_arg src, unsigned width)
{
    struct ir_op *op = x86_tr_emit(t, IR_MOV, width);
    op->dst = dst;
    op->a = src;
    return op;
}

struct ir_arg x86_zx(struct x86_tr *t, struct ir_arg a, unsigned width)
{
    if (width == 8 || a.kind == IR_I)
        return a;
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_MOVZX, 8);
    op->swidth = (uint8_t)width;
    op->dst = ret;
    op->a = a;
    return ret;
}

struct ir_arg x86_load(struct x86_tr *t, struct ir_mem mem, unsigned width)
{
    struct ir_arg ret = x86_temp(t);
    x86_mov(t, ret, ir_m(), width)->mem = mem;
    return ret;
}

void x86_store(struct x86_tr *t, struct ir_mem mem, struct ir_arg value, unsigned width)
{
    x86_mov(t, ir_m(), value, width)->mem = mem;
}

struct ir_arg x86_lds(struct x86_tr *t, unsigned offset, unsigned size)
{
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_LDS, 8);
    op->swidth = (uint8_t)size;
    op->dst = ret;
    op->a = ir_i(offset);
    return ret;
}

void x86_sts(struct x86_tr *t, unsigned offset, struct ir_arg value, unsigned size)
{
    struct ir_op *op = x86_tr_emit(t, IR_STS, size);
    op->a = value;
    op->b = ir_i(offset);
}

struct ir_arg x86_lea(struct x86_tr *t, struct ir_mem mem)
{
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_LEA, 8);
    op->dst = ret;
    op->mem = mem;
    return ret;
}

/* --- helper calls --- */

struct ir_op *x86_call(struct x86_tr *t, struct ir_arg dst, x86_helper_fn *fn, unsigned cflags, struct ir_arg a,
                       struct ir_arg b, struct ir_arg c)
{
    struct ir_op *op = x86_tr_emit(t, IR_CALL, 8);
    op->dst = dst;
    op->fn = (void *)fn;
    op->cflags = (uint8_t)cflags;
    op->a = a;
    op->b = b;
    op->c = c;
    op->fdef = cflags & X86_CALL_FLAGS ? X86_FL_ARITH : 0;
    op->fuse = cflags & (X86_CALL_FLAGS | IR_CALL_NORETURN) ? X86_FL_ARITH : 0;
    return op;
}

void x86_tr_call(struct x86_tr *t, struct ir_arg dst, x86_helper_fn *fn, unsigned cflags, struct ir_arg a,
                 struct ir_arg b, struct ir_arg c)
{
    x86_call(t, dst, fn, cflags, a, b, c);
}

void x86_tr_raise(struct x86_tr *t, unsigned vector)
{
    bool has_error = vector == X86_DF || (vector >= X86_TS && vector <= X86_PF) || vector == X86_AC;
    struct ir_op *op = x86_call(t, ir_none(), NULL, IR_CALL_NORETURN, ir_i(vector), ir_i(has_error), ir_i(0));
    op->fn = (void *)jit_raise; /* its parameters lie in the same registers */
    t->ended = true;
}

bool x86_need_cpl0(struct x86_tr *t)
{
    if (JIT_MODE_CPL(t->mode) == 0 && !(t->mode & JIT_MODE_VM86))
        return true;
    x86_tr_raise(t, X86_GP);
    return false;
}

void x86_set_next(struct x86_tr *t)
{
    x86_sts(t, X86_OFFSET(s.rip), x86_rip_arg(t, t->next), 8);
}

/* --- memory operands --- */

struct ir_mem x86_mem_raw(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    struct ir_mem m = { .disp = in->disp, .scale = in->scale, .abits = (uint8_t)(in->addrsize * 8), .seg = IR_SEG_NONE };
    if (!in->has_modrm)
        m.disp = (int64_t)in->imm2; /* moffs */
    if (in->base >= 0)
        m.base = ir_g((unsigned)in->base);
    if (in->index >= 0)
        m.index = ir_g((unsigned)in->index);
    if (in->rip_relative) {
        struct ir_arg next = x86_rip_arg(t, t->next);
        m.disp += next.imm;
        if (next.kind == IR_P)
            m.base = ir_p(0);
    }
    return m;
}

static struct ir_mem offset_mem(struct ir_arg offset, unsigned abits, unsigned seg)
{
    return (struct ir_mem){ .base = offset, .abits = (uint8_t)abits, .seg = (uint8_t)seg };
}

struct ir_mem x86_mem_seg(struct x86_tr *t, struct ir_mem raw, unsigned seg, unsigned size, unsigned access)
{
    struct ir_mem m = raw;
    if (t->code == 8) {
        if (seg == X86_FS || seg == X86_GS) {
            if (m.abits == 64)
                m.seg = (uint8_t)seg;
            else
                m = offset_mem(x86_lea(t, raw), 64, seg); /* 32-bit offset, 64-bit base */
        }
    } else if (!(t->mode & JIT_MODE_FLAT) || seg >= X86_FS) {
        if (access) {
            struct ir_arg offset = x86_lea(t, raw);
            x86_call(t, ir_none(), x86_h_seg_check, 0, offset, ir_i(seg), ir_i(size | access));
            m = offset_mem(offset, 32, seg);
        }
        m.seg = (uint8_t)seg;
    }
    if (access && (t->mode & JIT_MODE_DEBUG))
        x86_call(t, ir_none(), x86_h_debug_check, 0, x86_lea(t, m), ir_i(0), ir_i(size | access));
    return m;
}

struct ir_mem x86_tr_mem(struct x86_tr *t, unsigned size, unsigned access)
{
    return x86_mem_seg(t, x86_mem_raw(t), t->in->mem_seg, size, access);
}

struct ir_arg x86_tr_linear(struct x86_tr *t, unsigned size, unsigned access)
{
    return x86_lea(t, x86_tr_mem(t, size, access));
}

/* --- operands --- */

struct x86_opnd x86_opnd_reg(struct x86_tr *t, unsigned n, unsigned width)
{
    bool high = width == 1 && !t->in->rex && n >= 4 && n < 8;
    return (struct x86_opnd){ .kind = high ? X86_O_HIGH : X86_O_REG, .n = (uint8_t)(high ? n - 4 : n) };
}

struct x86_opnd x86_opnd_rm(struct x86_tr *t, unsigned width, unsigned access)
{
    if (!x86_is_mem(t->in))
        return x86_opnd_reg(t, t->in->rm, width);
    return (struct x86_opnd){ .kind = X86_O_MEM, .mem = x86_tr_mem(t, width, access) };
}

struct ir_arg x86_arg(struct x86_tr *t, const struct x86_opnd *o)
{
    if (o->kind == X86_O_REG)
        return ir_g(o->n);
    if (o->kind == X86_O_MEM)
        return ir_m();
    struct ir_arg ret = x86_temp(t);
    struct ir_op *op = x86_tr_emit(t, IR_EXT8H, 1);
    op->dst = ret;
    op->a = ir_g(o->n);
    return ret;
}

struct ir_arg x86_value(struct x86_tr *t, const struct x86_opnd *o, unsigned width)
{
    return o->kind == X86_O_MEM ? x86_load(t, o->mem, width) : x86_arg(t, o);
}

void x86_deposit8h(struct x86_tr *t, unsigned n, struct ir_arg value)
{
    struct ir_op *op = x86_tr_emit(t, IR_DEP8H, 1);
    op->dst = ir_g(n);
    op->a = value;
}

void x86_write(struct x86_tr *t, const struct x86_opnd *dst, unsigned width, struct ir_arg value)
{
    if (dst->kind == X86_O_HIGH)
        x86_deposit8h(t, dst->n, value);
    else if (dst->kind == X86_O_MEM)
        x86_store(t, dst->mem, value, width);
    else
        x86_mov(t, ir_g(dst->n), value, width);
}

/* --- labels and ways out --- */

static unsigned slot_label(struct x86_tr *t, struct x86_slot *s)
{
    if (!s->labelled) {
        s->label = (uint16_t)ir_new_label(t->r);
        s->labelled = true;
        x86_run_of(t)->npending++;
    }
    return s->label;
}

unsigned x86_label_exit(struct x86_tr *t, uint64_t target)
{
    struct x86_run *run = x86_run_of(t);
    for (unsigned i = 0; i < run->nstubs; i++)
        if (run->stubs[i].rip == target)
            return run->stubs[i].label;
    unsigned label = ir_new_label(t->r);
    run->stubs[run->nstubs].rip = target;
    run->stubs[run->nstubs++].label = label;
    return label;
}

unsigned x86_label_for(struct x86_tr *t, uint64_t target)
{
    struct x86_slot *s = t->mode & JIT_MODE_SINGLE ? NULL : x86_run_slot(x86_run_of(t), target);
    return s && s->target ? slot_label(t, s) : x86_label_exit(t, target);
}

void x86_place_label(struct x86_tr *t, unsigned label)
{
    x86_tr_emit(t, IR_LABEL, 8)->a = ir_i(label);
}

void x86_branch_cond(struct x86_tr *t, unsigned cond, unsigned label)
{
    struct ir_op *op = x86_tr_emit(t, IR_BRCC, 8);
    op->cond = (uint8_t)cond;
    op->fuse = x86_cond_flags(cond);
    op->a = ir_i(label);
}

void x86_branch_zero(struct x86_tr *t, bool if_zero, struct ir_arg a, unsigned width, unsigned label)
{
    struct ir_op *op = x86_tr_emit(t, if_zero ? IR_BRZ : IR_BRNZ, width);
    op->a = a;
    op->b = ir_i(label);
}

/* What step_done has to know about the instruction (SDM vol. 3, 18.3.1.4 and 6.8.3). */
static unsigned step_kind(const struct x86_tr *t, bool again)
{
    const struct x86_insn *in = t->in;
    unsigned kind = t->mode & JIT_MODE_STEP ? X86_STEP_TF : 0, op = in->opcode;
    if (in->map == X86_MAP_ONE && (op == 0x17 || (op == 0x8e && x86_group(in) == X86_SS)))
        kind |= X86_STEP_HELD;
    if (in->map == X86_MAP_0F && (op == 0x05 || op == 0x07 || op == 0x34 || op == 0x35))
        kind |= X86_STEP_NEW_TF;
    bool string = in->map == X86_MAP_ONE && ((op >= 0x6c && op <= 0x6f) || (op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf));
    return again && string ? kind | X86_STEP_AGAIN : kind;
}

/* Back to the run loop, which looks rip (I, P or T) up: the end of a region of one instruction. */
static void exit_lookup(struct x86_tr *t, struct ir_arg rip, bool again)
{
    if (t->mode & (JIT_MODE_STEP | JIT_MODE_DEBUG))
        x86_call(t, ir_none(), x86_h_step_done, 0, ir_i(step_kind(t, again)), ir_i(0), rip)->fuse = X86_FL_ARITH;
    struct ir_op *op = x86_tr_emit(t, IR_EXIT_LOOP, 8);
    op->a = ir_i(JIT_LEAVE_LOOKUP);
    op->b = rip;
    op->fuse = X86_FL_ARITH;
    t->ended = true;
}

void x86_exit_jmp(struct x86_tr *t, uint64_t rip, unsigned hint, uint64_t ret_rip)
{
    if (t->mode & JIT_MODE_SINGLE) {
        exit_lookup(t, x86_rip_arg(t, rip), rip == t->rip);
        return;
    }
    struct ir_op *op = x86_tr_emit(t, IR_EXIT_JMP, 8);
    op->a = x86_rip_arg(t, rip);
    op->cflags = (uint8_t)hint;
    if (hint & IR_EXIT_CALLHINT)
        op->c = x86_rip_arg(t, ret_rip);
    op->fuse = x86_run_flags_live(x86_run_of(t), rip);
    x86_run_of(t)->nexits++;
    t->ended = true;
}

void x86_exit_ind(struct x86_tr *t, struct ir_arg rip, unsigned hint, uint64_t ret_rip)
{
    if (t->mode & JIT_MODE_SINGLE) {
        if (rip.kind == IR_G) {
            struct ir_arg copy = x86_temp(t);
            x86_mov(t, copy, rip, 8);
            rip = copy;
        }
        exit_lookup(t, rip, false);
        return;
    }
    struct ir_op *op = x86_tr_emit(t, IR_EXIT_IND, 8);
    op->a = rip;
    op->cflags = (uint8_t)hint;
    if (hint & IR_EXIT_CALLHINT)
        op->c = x86_rip_arg(t, ret_rip);
    op->fuse = X86_FL_ARITH;
    t->ended = true;
}

void x86_exit_state(struct x86_tr *t)
{
    if (t->mode & JIT_MODE_SINGLE)
        exit_lookup(t, x86_lds(t, X86_OFFSET(s.rip), 8), false);
    else
        x86_tr_emit(t, IR_EXIT_STATE, 8)->fuse = X86_FL_ARITH;
    t->ended = true;
}

/* --- one instruction --- */

/* LOCK is for these read-modify-write forms with a memory destination (SDM vol. 2, "LOCK"). */
static bool lock_allowed(const struct x86_insn *in)
{
    unsigned op = in->opcode, g = x86_group(in);
    if (!in->has_modrm || !x86_is_mem(in) || in->vex)
        return false;
    if (in->map == X86_MAP_ONE)
        return (op < 0x38 && (op & 7) < 2) || (op >= 0x80 && op <= 0x83 && g != 7) || op == 0x86 || op == 0x87 ||
               ((op == 0xf6 || op == 0xf7) && (g == 2 || g == 3)) || ((op == 0xfe || op == 0xff) && g < 2);
    if (in->map != X86_MAP_0F)
        return false;
    return op == 0xab || op == 0xb3 || op == 0xbb || (op == 0xba && g >= 5) || op == 0xb0 || op == 0xb1 || op == 0xc0 ||
           op == 0xc1 || (op == 0xc7 && g == 1);
}

static void translate_one(struct x86_tr *t, const struct x86_slot *s)
{
    if (t->mode & JIT_MODE_DEBUG) {
        struct ir_arg lin = t->code == 8 ? x86_rip_arg(t, t->rip) : ir_i((uint32_t)(t->cpu->seg_base[X86_CS] + t->rip));
        x86_call(t, ir_none(), x86_h_debug_fetch, 0, lin, ir_i(0), ir_i(0));
    }
    if (s->status == X86_RUN_GP || s->status == X86_TOO_LONG) {
        x86_tr_raise(t, X86_GP);
        return;
    }
    if (s->status != X86_DECODED || (t->in->lock && !lock_allowed(t->in))) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    bool done = false;
    if (!t->in->vex) {
        if (t->in->map == X86_MAP_ONE)
            done = x86_translate_int(t) || x86_translate_ctl(t) || x86_translate_sys(t);
        else
            done = x86_translate_int0f(t) || x86_translate_ctl(t) || x86_translate_sys(t);
    }
    if (!done && !x86_translate_vector(t))
        x86_tr_raise(t, X86_UD);
}

/* --- the region --- */

/* Room for one more instruction (its ops: below 64) and all stubs; and below what a back end can chain. */
static bool has_room(const struct x86_run *run)
{
    const struct ir_region *r = run->t.r;
    return r->nops + 64 + 2 * X86_STUBS_MAX <= IR_MAX_OPS && r->ntemps + 32 <= IR_MAX_TEMPS && r->nlabels + 8 <= IR_MAX_LABELS &&
           run->nstubs + run->nexits + run->npending < X86_EXITS_MAX;
}

static void irq_check(struct x86_tr *t, uint64_t rip)
{
    if (t->mode & JIT_MODE_SINGLE)
        return;
    struct ir_op *op = x86_tr_emit(t, IR_IRQ_CHECK, 8);
    op->a = x86_rip_arg(t, rip);
    op->fuse = x86_run_flags_live(x86_run_of(t), rip);
}

/* Branches that leave, and those to slots that were not reached. */
static void emit_stubs(struct x86_run *run)
{
    for (unsigned i = 0; i < run->nstubs; i++) {
        x86_place_label(&run->t, run->stubs[i].label);
        x86_exit_jmp(&run->t, run->stubs[i].rip, 0, 0);
    }
    for (unsigned i = 0; i < run->nslots; i++) {
        struct x86_slot *s = &run->slots[i];
        if (s->labelled && !s->placed) {
            x86_place_label(&run->t, s->label);
            x86_exit_jmp(&run->t, s->rip, 0, 0);
        }
    }
}

static void begin_slot(struct x86_tr *t, struct x86_slot *s, bool first)
{
    t->rip = s->rip;
    t->next = x86_wrap_rip(t->code, s->rip + s->in.len);
    t->in = &s->in;
    if (s->target && !(t->mode & JIT_MODE_SINGLE)) {
        x86_place_label(t, slot_label(t, s));
        s->placed = true;
        x86_run_of(t)->npending--;
    }
    if (first || s->backward)
        irq_check(t, s->rip);
    struct ir_op *op = x86_tr_emit(t, IR_INSN, 8);
    op->a = x86_rip_arg(t, s->rip);
    op->b = ir_i(s->in.len);
    t->r->ninsns++;
}

static void emit_run(struct x86_run *run)
{
    struct x86_tr *t = &run->t;
    for (unsigned i = 0; i < run->nslots; i++) {
        struct x86_slot *s = &run->slots[i];
        if (t->ended && !s->target)
            continue; /* nothing comes here */
        if (!has_room(run)) {
            if (!t->ended)
                x86_exit_jmp(t, s->rip, 0, 0);
            return;
        }
        t->ended = false;
        begin_slot(t, s, i == 0);
        t->r->guest_bytes = (uint32_t)(s->rip + s->in.len - t->r->rip);
        translate_one(t, s);
        if (!t->ended && (i + 1 == run->nslots || run->slots[i + 1].rip != t->next))
            x86_exit_jmp(t, t->next, 0, 0);
    }
}

bool x86_translate(struct jit_cpu *cpu, struct ir_region *region, unsigned max_insns, uint64_t *ret_fault_gva,
                   uint32_t *ret_fault_error)
{
    static const uint8_t code_sizes[4] = { 2, 4, 8, 8 };
    struct x86_run run; /* large; slots are filled as they are used */
    run.t = (struct x86_tr){ .cpu = cpu, .r = region, .mode = region->mode,
                             .code = code_sizes[JIT_MODE_CODE(region->mode)] };
    region->nops = region->ntemps = region->nlabels = region->ninsns = 0;
    region->guest_bytes = region->scan_lo = region->scan_hi = 0;
    region->exit_flags_live = X86_FL_ARITH;
    if (max_insns == 0 || (region->mode & JIT_MODE_SINGLE))
        max_insns = 1;
    if (!x86_run_decode(&run, max_insns, ret_fault_gva, ret_fault_error))
        return false;
    emit_run(&run);
    emit_stubs(&run);
    return true;
}
