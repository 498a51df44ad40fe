/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The optimiser: what it must remove, and what it must leave alone. Execution is tested in host-x86_64/host_test.c. */
#include "accel/jit/ir/ir.h"

#include <string.h>

#include "cpu/x86/x86_state.h"

static struct ir_op ops[IR_MAX_OPS];

static struct ir_region region(void)
{
    return (struct ir_region){ .ops = ops, .rip = 0x1000, .guest_bytes = 16 };
}

static struct ir_op *op3(struct ir_region *r, enum ir_opcode o, unsigned w, struct ir_arg dst, struct ir_arg a, struct ir_arg b)
{
    struct ir_op *op = ir_emit(r, o, w);
    op->dst = dst;
    op->a = a;
    op->b = b;
    return op;
}

static void leave(struct ir_region *r, unsigned fuse)
{
    struct ir_op *op = ir_emit(r, IR_EXIT_JMP, 8);
    op->a = ir_i(0x1010);
    op->fuse = (uint16_t)fuse;
}

static void test_dead_flags(void)
{
    struct ir_region r = region();
    op3(&r, IR_ADD, 8, ir_g(1), ir_g(1), ir_i(1));
    op3(&r, IR_INC, 8, ir_g(2), ir_g(2), ir_none()); /* keeps CF of the add alive */
    op3(&r, IR_SHL, 8, ir_g(3), ir_g(3), ir_g(1));   /* may keep all of them */
    leave(&r, X86_FL_CF | X86_FL_ZF);
    ir_optimise(&r);
    g_assert_cmphex(ops[0].flive, ==, X86_FL_CF);
    g_assert_cmphex(ops[1].flive, ==, X86_FL_ZF);
    g_assert_cmphex(ops[2].flive, ==, X86_FL_CF | X86_FL_ZF);
    r = region();
    op3(&r, IR_ADD, 8, ir_g(1), ir_g(1), ir_i(1));
    op3(&r, IR_SHL, 8, ir_g(3), ir_g(3), ir_i(3)); /* a constant count defines all */
    leave(&r, X86_FL_ARITH);
    ir_optimise(&r);
    g_assert_cmphex(ops[0].flive, ==, 0);
}

/* An address of the code itself goes where P may stand, and nowhere else. */
static void test_moving(void)
{
    struct ir_region r = region();
    op3(&r, IR_MOV, 8, ir_t(ir_new_temp(&r)), ir_p(0x123), ir_none());
    op3(&r, IR_ADD, 8, ir_g(1), ir_g(1), ir_t(0));
    op3(&r, IR_MOV, 8, ir_g(2), ir_m(), ir_none())->mem = (struct ir_mem){ .base = ir_t(0), .disp = 4, .abits = 64, .seg = IR_SEG_NONE };
    op3(&r, IR_MOV, 4, ir_g(3), ir_t(0), ir_none());
    op3(&r, IR_EXIT_IND, 8, ir_none(), ir_t(0), ir_none());
    ir_optimise(&r);
    g_assert_cmpint(ops[1].b.kind, ==, IR_T);
    g_assert_cmpint(ops[2].mem.base.kind, ==, IR_P);
    g_assert_cmpint(ops[2].mem.base.imm, ==, 0x123);
    g_assert_cmpint(ops[3].a.kind, ==, IR_T);
    g_assert_cmpint(ops[4].opcode, ==, IR_EXIT_JMP);
    g_assert_cmpint(ops[4].a.kind, ==, IR_P);
    g_assert_cmpint((gint64)ir_rip_offset(&r, &ops[4].a), ==, 0x123);
}

/* Flags read around a loop's back edge are live at its end. */
static void test_loop_flags(void)
{
    struct ir_region r = region();
    unsigned top = ir_new_label(&r);
    ir_emit(&r, IR_LABEL, 0)->a = ir_i(top);
    op3(&r, IR_ADC, 8, ir_g(1), ir_g(1), ir_g(2));
    struct ir_op *op = op3(&r, IR_BRNZ, 8, ir_none(), ir_g(3), ir_i(top));
    (void)op;
    leave(&r, 0);
    ir_optimise(&r);
    g_assert_cmphex(ops[1].flive, ==, X86_FL_CF);
}

static void test_copies(void)
{
    struct ir_region r = region();
    unsigned t = ir_new_temp(&r), u = ir_new_temp(&r);
    op3(&r, IR_MOV, 8, ir_t(t), ir_g(X86_RSI), ir_none());
    op3(&r, IR_MOV, 8, ir_t(u), ir_i(0x20), ir_none());
    struct ir_op *op = op3(&r, IR_ADD, 8, ir_g(1), ir_g(1), ir_m());
    op->mem.base = ir_t(t);
    op->mem.index = ir_t(u);
    op->mem.scale = 2;
    op->mem.disp = 1;
    leave(&r, 0);
    ir_optimise(&r);
    g_assert_cmpuint(r.nops, ==, 2); /* both moves are gone */
    g_assert_cmpuint(ops[0].opcode, ==, IR_ADD);
    g_assert_cmpuint(ops[0].mem.base.kind, ==, IR_G);
    g_assert_cmpuint(ops[0].mem.index.kind, ==, IR_NONE);
    g_assert_cmpint(ops[0].mem.disp, ==, 0x81);
}

/* A copy is not the register any more once that is written; loads stay even when nobody wants the value: they may fault. */
static void test_kept(void)
{
    struct ir_region r = region();
    unsigned t = ir_new_temp(&r), u = ir_new_temp(&r);
    op3(&r, IR_MOV, 8, ir_t(t), ir_g(X86_RSI), ir_none());
    op3(&r, IR_MOV, 8, ir_g(X86_RSI), ir_i(0), ir_none());
    op3(&r, IR_MOV, 8, ir_g(X86_RDI), ir_t(t), ir_none());
    op3(&r, IR_MOV, 8, ir_t(u), ir_m(), ir_none())->mem.base = ir_g(X86_RDI);
    leave(&r, 0);
    ir_optimise(&r);
    g_assert_cmpuint(r.nops, ==, 5);
    g_assert_cmpuint(ops[2].a.kind, ==, IR_T);
}

static void test_print(void)
{
    struct ir_region r = region();
    struct ir_op *op = op3(&r, IR_ADD, 4, ir_m(), ir_m(), ir_g(X86_R9));
    op->lock = true;
    op->mem = (struct ir_mem){ .base = ir_g(X86_RBX), .index = ir_t(3), .scale = 2, .disp = -8, .abits = 64, .seg = X86_GS };
    g_autofree char *text = ir_print(&r);
    g_assert_nonnull(strstr(text, "lock add.32 [gs:rbx+t3*4-0x8], [gs:rbx+t3*4-0x8], r9 def=oszapc"));
}

/* A region that overflows says so and writes nowhere else. */
static void test_full(void)
{
    struct ir_region r = region();
    for (unsigned i = 0; i < IR_MAX_OPS + 10; i++)
        ir_emit(&r, IR_FENCE, 0);
    g_assert_cmpuint(r.nops, >, IR_MAX_OPS);
    r = region();
    for (unsigned i = 0; i < IR_MAX_TEMPS + 10; i++)
        g_assert_cmpuint(ir_new_temp(&r), <, IR_MAX_TEMPS);
    g_assert_cmpuint(r.nops, >, IR_MAX_OPS);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/jit/ir/code that moves", test_moving);
    g_test_add_func("/jit/ir/dead flags", test_dead_flags);
    g_test_add_func("/jit/ir/flags around a loop", test_loop_flags);
    g_test_add_func("/jit/ir/copies and constants vanish", test_copies);
    g_test_add_func("/jit/ir/what must stay", test_kept);
    g_test_add_func("/jit/ir/print", test_print);
    g_test_add_func("/jit/ir/full", test_full);
    return g_test_run();
}
