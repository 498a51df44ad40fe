/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stack, branches, calls and returns, software interrupts. Source: SDM vol. 2; vol. 1, chapter 6.
 * Everywhere rSP is written after the last operation of the instruction that may fault.
 */
#include "accel/jit/guest-x86/x86_tr.h"

#define READ JIT_ACC_READ
#define WRITE JIT_ACC_WRITE
#define RMW (JIT_ACC_READ | JIT_ACC_WRITE)

/* --- the stack --- */

unsigned x86_stack_width(const struct x86_tr *t)
{
    return t->code == 8 ? 8 : t->mode & JIT_MODE_SS32 ? 4 : 2;
}

unsigned x86_stack_opsize(const struct x86_tr *t)
{
    if (t->code != 8)
        return t->in->opsize;
    return t->in->opsize == 2 ? 2 : 8;
}

/* The element `disp` bytes from the address in a register. */
static struct ir_mem stack_mem(struct x86_tr *t, unsigned reg, int64_t disp, unsigned size, unsigned access)
{
    struct ir_mem raw = { .base = ir_g(reg), .disp = disp, .abits = (uint8_t)(x86_stack_width(t) * 8),
                          .seg = IR_SEG_NONE };
    return x86_mem_seg(t, raw, X86_SS, size, access);
}

void x86_sp_add(struct x86_tr *t, int64_t n)
{
    unsigned width = x86_stack_width(t);
    struct ir_op *op = x86_tr_emit(t, IR_LEA, width);
    op->dst = ir_g(X86_RSP);
    op->mem = (struct ir_mem){ .base = ir_g(X86_RSP), .disp = n, .abits = (uint8_t)(width * 8), .seg = IR_SEG_NONE };
}

void x86_push(struct x86_tr *t, struct ir_arg value, unsigned width)
{
    struct ir_mem mem = stack_mem(t, X86_RSP, -(int64_t)width, width, WRITE);
    x86_store(t, mem, value, width);
    x86_sp_add(t, -(int64_t)width);
}

struct ir_arg x86_peek(struct x86_tr *t, unsigned width)
{
    return x86_load(t, stack_mem(t, X86_RSP, 0, width, READ), width);
}

static void pop_reg(struct x86_tr *t, unsigned n)
{
    unsigned width = x86_stack_opsize(t);
    if (n == X86_RSP) {
        struct ir_arg v = x86_peek(t, width);
        x86_sp_add(t, width);
        x86_mov(t, ir_g(n), v, width);
        return;
    }
    struct ir_mem mem = stack_mem(t, X86_RSP, 0, width, READ);
    x86_mov(t, ir_g(n), ir_m(), width)->mem = mem;
    x86_sp_add(t, width);
}

/* 8F /0: a memory operand based on rSP uses its value after the pop. */
static void pop_rm(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = x86_stack_opsize(t);
    if (x86_group(in)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    if (!x86_is_mem(in)) {
        pop_reg(t, in->rm);
        return;
    }
    struct ir_arg v = x86_peek(t, width);
    struct ir_mem raw = x86_mem_raw(t);
    if (in->base == X86_RSP)
        raw.disp += width;
    x86_store(t, x86_mem_seg(t, raw, in->mem_seg, width, WRITE), v, width);
    x86_sp_add(t, width);
}

static void push_rm(struct x86_tr *t)
{
    unsigned width = x86_stack_opsize(t);
    struct x86_opnd rm = x86_opnd_rm(t, width, READ);
    x86_push(t, x86_value(t, &rm, width), width);
}

static void push_seg(struct x86_tr *t, unsigned seg)
{
    x86_push(t, x86_lds(t, X86_OFFSET(s.seg[0].sel) + seg * sizeof(struct x86_segment), 2), x86_stack_opsize(t));
}

/* After load_seg: what the mode depends on may have changed. In 64-bit code only SS matters (its interrupt shadow). */
static void after_load_seg(struct x86_tr *t, unsigned seg)
{
    if (t->code != 8 || seg == X86_SS)
        x86_exit_state(t);
}

static void pop_seg(struct x86_tr *t, unsigned seg)
{
    unsigned width = x86_stack_opsize(t);
    struct ir_arg sel = x86_zx(t, x86_peek(t, width), 2);
    x86_set_next(t);
    x86_call(t, ir_none(), x86_h_load_seg, 0, ir_i(seg), sel, ir_none());
    x86_sp_add(t, width);
    after_load_seg(t, seg);
}

static void mov_from_seg(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned seg = x86_group(in), width = x86_is_mem(in) ? 2 : in->opsize;
    if (seg >= X86_NSEG) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    struct x86_opnd rm = x86_opnd_rm(t, width, WRITE);
    x86_write(t, &rm, width, x86_lds(t, X86_OFFSET(s.seg[0].sel) + seg * sizeof(struct x86_segment), 2));
}

static void mov_to_seg(struct x86_tr *t)
{
    unsigned seg = x86_group(t->in);
    if (seg >= X86_NSEG || seg == X86_CS) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    struct x86_opnd rm = x86_opnd_rm(t, 2, READ);
    struct ir_arg sel = rm.kind == X86_O_MEM ? x86_load(t, rm.mem, 2) : x86_zx(t, ir_g(rm.n), 2);
    x86_set_next(t);
    x86_call(t, ir_none(), x86_h_load_seg, 0, ir_i(seg), sel, ir_none());
    after_load_seg(t, seg);
}

void x86_load_far(struct x86_tr *t, struct ir_arg *ret_off, struct ir_arg *ret_sel)
{
    unsigned width = t->in->opsize;
    struct ir_mem mem = x86_tr_mem(t, width + 2, READ);
    *ret_off = x86_load(t, mem, width);
    mem.disp += width;
    *ret_sel = x86_load(t, mem, 2);
}

/* LES, LDS, LSS, LFS, LGS */
static void load_far_pointer(struct x86_tr *t, unsigned seg)
{
    struct ir_arg off, sel;
    if (!x86_is_mem(t->in)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    x86_load_far(t, &off, &sel);
    x86_set_next(t);
    x86_call(t, ir_none(), x86_h_load_seg, 0, ir_i(seg), sel, ir_none());
    x86_mov(t, ir_g(t->in->reg), off, t->in->opsize);
    after_load_seg(t, seg);
}

static void leave(struct x86_tr *t)
{
    unsigned width = x86_stack_opsize(t), sp_width = x86_stack_width(t);
    struct ir_arg frame = x86_load(t, stack_mem(t, X86_RBP, 0, width, READ), width);
    struct ir_op *op = x86_tr_emit(t, IR_LEA, sp_width);
    op->dst = ir_g(X86_RSP);
    op->mem = (struct ir_mem){ .base = ir_g(X86_RBP), .disp = width, .abits = (uint8_t)(sp_width * 8),
                               .seg = IR_SEG_NONE };
    x86_mov(t, ir_g(X86_RBP), frame, width);
}

static void pushf(struct x86_tr *t)
{
    struct ir_arg v = x86_temp(t);
    unsigned width = x86_stack_opsize(t);
    x86_call(t, v, x86_h_pushf, 0, ir_none(), ir_none(), ir_i(width))->fuse = X86_FL_ARITH;
    x86_push(t, v, width);
}

static void popf(struct x86_tr *t)
{
    unsigned width = x86_stack_opsize(t);
    struct ir_arg v = x86_peek(t, width);
    x86_call(t, ir_none(), x86_h_popf, X86_CALL_FLAGS, v, x86_rip_arg(t, t->next), ir_i(width));
    x86_sp_add(t, width);
    x86_exit_state(t);
}

/* --- near branches --- */

static void jump_to(struct x86_tr *t, uint64_t target)
{
    struct x86_slot *s = t->mode & JIT_MODE_SINGLE ? NULL : x86_run_slot(x86_run_of(t), target);
    if (!s || !s->target) {
        x86_exit_jmp(t, target, 0, 0);
        return;
    }
    x86_tr_emit(t, IR_BR, 8)->a = ir_i(x86_label_for(t, target));
    t->ended = true;
}

static uint64_t target_of(const struct x86_tr *t)
{
    return x86_rel_target(t->code, t->in, t->next);
}

/* LOOPNE, LOOPE, LOOP, JrCXZ: E0-E3 */
static void loop(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned width = in->addrsize, kind = in->opcode & 3;
    unsigned target = x86_label_for(t, target_of(t));
    struct ir_arg count = ir_g(X86_RCX);
    if (kind == 3) {
        x86_branch_zero(t, true, count, width, target);
        return;
    }
    struct ir_op *op = x86_tr_emit(t, IR_LEA, width);
    op->dst = count;
    op->mem = (struct ir_mem){ .base = count, .disp = -1, .abits = (uint8_t)(width * 8), .seg = IR_SEG_NONE };
    if (kind == 2) {
        x86_branch_zero(t, false, count, width, target);
        return;
    }
    unsigned skip = ir_new_label(t->r);
    x86_branch_zero(t, true, count, width, skip);
    x86_branch_cond(t, kind ? IR_CC_E : IR_CC_NE, target);
    x86_place_label(t, skip);
}

static unsigned near_width(const struct x86_tr *t)
{
    return t->code == 8 ? 8 : t->in->opsize;
}

static void call_direct(struct x86_tr *t)
{
    x86_push(t, x86_rip_arg(t, t->next), near_width(t));
    x86_exit_jmp(t, target_of(t), IR_EXIT_CALLHINT, t->next);
}

/* FF /2 and /4 */
static void branch_indirect(struct x86_tr *t, bool call)
{
    const struct x86_insn *in = t->in;
    unsigned width = near_width(t);
    struct ir_arg target;
    if (x86_is_mem(in)) {
        target = x86_load(t, x86_tr_mem(t, width, READ), width);
    } else if (width == 8 && !(call && in->rm == X86_RSP)) {
        target = ir_g(in->rm);
    } else {
        target = x86_temp(t);
        x86_mov(t, target, ir_g(in->rm), width);
    }
    if (call)
        x86_push(t, x86_rip_arg(t, t->next), width);
    x86_exit_ind(t, target, call ? IR_EXIT_CALLHINT : 0, call ? t->next : 0);
}

static void ret_near(struct x86_tr *t)
{
    unsigned width = near_width(t);
    struct ir_arg target = x86_peek(t, width);
    x86_sp_add(t, (int64_t)(width + t->in->imm));
    x86_exit_ind(t, target, IR_EXIT_RETHINT, 0);
}

/* --- far transfers and interrupts --- */

static int64_t size_and_len(const struct x86_tr *t)
{
    return t->in->opsize | t->in->len << 8;
}

static void far(struct x86_tr *t, x86_helper_fn *fn, struct ir_arg a, struct ir_arg b, int64_t c)
{
    x86_call(t, ir_none(), fn, IR_CALL_WRITES_G | X86_CALL_FLAGS, a, b, ir_i(c));
    x86_exit_state(t);
}

static void far_direct(struct x86_tr *t, x86_helper_fn *fn)
{
    if (t->code == 8)
        x86_tr_raise(t, X86_UD);
    else
        far(t, fn, ir_i((int64_t)t->in->imm2), ir_i((int64_t)t->in->imm), size_and_len(t));
}

static void far_indirect(struct x86_tr *t, x86_helper_fn *fn)
{
    struct ir_arg off, sel;
    if (!x86_is_mem(t->in)) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    x86_load_far(t, &off, &sel);
    far(t, fn, sel, off, size_and_len(t));
}

static void soft_int(struct x86_tr *t, unsigned vector, enum jit_event event)
{
    x86_call(t, ir_none(), x86_h_int_soft, IR_CALL_NORETURN | IR_CALL_WRITES_G, ir_i(vector), ir_i(t->in->len),
             ir_i(event));
    t->ended = true;
}

static void into(struct x86_tr *t)
{
    if (t->code == 8) {
        x86_tr_raise(t, X86_UD);
        return;
    }
    unsigned skip = ir_new_label(t->r);
    x86_branch_cond(t, IR_CC_NO, skip);
    soft_int(t, X86_OF, JIT_EV_SOFT_EXC);
    x86_place_label(t, skip);
    t->ended = false;
}

static void enter(struct x86_tr *t)
{
    x86_call(t, ir_none(), x86_h_enter, IR_CALL_WRITES_G, ir_i((int64_t)t->in->imm), ir_i(t->in->imm2 & 31),
             ir_i(x86_stack_opsize(t)));
}

static bool far_insn(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    switch (in->opcode) {
    case 0x9a: far_direct(t, x86_h_call_far); return true;
    case 0xea: far_direct(t, x86_h_jmp_far); return true;
    case 0xc4: load_far_pointer(t, X86_ES); return true;
    case 0xc5: load_far_pointer(t, X86_DS); return true;
    case 0xca: case 0xcb: far(t, x86_h_ret_far, ir_i((int64_t)in->imm), ir_none(), in->opsize); return true;
    case 0xcf: far(t, x86_h_iret, ir_none(), ir_none(), size_and_len(t)); return true;
    case 0xcc: soft_int(t, X86_BP, JIT_EV_SOFT_EXC); return true;
    case 0xcd: soft_int(t, (uint8_t)in->imm, JIT_EV_SOFT_INT); return true;
    case 0xce: into(t); return true;
    case 0xf1: soft_int(t, X86_DB, JIT_EV_ICEBP); return true;
    }
    return false;
}

static bool group5(struct x86_tr *t)
{
    switch (x86_group(t->in)) {
    case 2: branch_indirect(t, true); return true;
    case 3: far_indirect(t, x86_h_call_far); return true;
    case 4: branch_indirect(t, false); return true;
    case 5: far_indirect(t, x86_h_jmp_far); return true;
    case 6: push_rm(t); return true;
    }
    return false;
}

/* Opcodes of the stack that 64-bit code lacks. */
static bool legacy_stack(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned seg = in->opcode >> 3 & 3;
    switch (in->opcode) {
    case 0x06: case 0x07: case 0x0e: case 0x16: case 0x17: case 0x1e: case 0x1f: case 0x60: case 0x61:
        break;
    default:
        return false;
    }
    if (t->code == 8)
        x86_tr_raise(t, X86_UD);
    else if (in->opcode >= 0x60)
        x86_call(t, ir_none(), in->opcode & 1 ? x86_h_popa : x86_h_pusha, IR_CALL_WRITES_G, ir_none(), ir_none(),
                 ir_i(in->opsize));
    else if (in->opcode & 1)
        pop_seg(t, seg);
    else
        push_seg(t, seg);
    return true;
}

static bool stack_insn(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    unsigned low = (in->opcode & 7) | (in->rex & 1 ? 8 : 0);
    switch (in->opcode) {
    case 0x50 ... 0x57: x86_push(t, ir_g(low), x86_stack_opsize(t)); return true;
    case 0x58 ... 0x5f: pop_reg(t, low); return true;
    case 0x68: case 0x6a: x86_push(t, ir_i((int64_t)in->imm), x86_stack_opsize(t)); return true;
    case 0x8c: mov_from_seg(t); return true;
    case 0x8e: mov_to_seg(t); return true;
    case 0x8f: pop_rm(t); return true;
    case 0x9c: pushf(t); return true;
    case 0x9d: popf(t); return true;
    case 0xc8: enter(t); return true;
    case 0xc9: leave(t); return true;
    }
    return legacy_stack(t);
}

static bool ctl_0f(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    switch (in->opcode) {
    case 0x80 ... 0x8f: x86_branch_cond(t, in->opcode & 15, x86_label_for(t, target_of(t))); return true;
    case 0xa0: case 0xa8: push_seg(t, in->opcode == 0xa0 ? X86_FS : X86_GS); return true;
    case 0xa1: case 0xa9: pop_seg(t, in->opcode == 0xa1 ? X86_FS : X86_GS); return true;
    case 0xb2: load_far_pointer(t, X86_SS); return true;
    case 0xb4: case 0xb5: load_far_pointer(t, in->opcode == 0xb4 ? X86_FS : X86_GS); return true;
    }
    return false;
}

bool x86_translate_ctl(struct x86_tr *t)
{
    const struct x86_insn *in = t->in;
    if (in->map == X86_MAP_0F)
        return ctl_0f(t);
    if (in->map != X86_MAP_ONE)
        return false;
    switch (in->opcode) {
    case 0x70 ... 0x7f: x86_branch_cond(t, in->opcode & 15, x86_label_for(t, target_of(t))); return true;
    case 0xc2: case 0xc3: ret_near(t); return true;
    case 0xe0 ... 0xe3: loop(t); return true;
    case 0xe8: call_direct(t); return true;
    case 0xe9: case 0xeb: jump_to(t, target_of(t)); return true;
    case 0xff: return group5(t);
    }
    return stack_insn(t) || far_insn(t);
}
