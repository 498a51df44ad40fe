/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region in words, for people and for tests. */
#include "accel/jit/ir/ir.h"

#include "cpu/x86/x86_state.h"

static const char *const ir_names[IR_NOPCODES] = {
    [IR_INSN] = "insn", [IR_LABEL] = "label", [IR_BR] = "br", [IR_BRCC] = "brcc", [IR_BRZ] = "brz",
    [IR_BRNZ] = "brnz", [IR_IRQ_CHECK] = "irq_check", [IR_MOV] = "mov", [IR_MOVZX] = "movzx", [IR_MOVSX] = "movsx",
    [IR_LEA] = "lea", [IR_LDS] = "lds", [IR_STS] = "sts", [IR_XCHG] = "xchg", [IR_CMOV] = "cmov",
    [IR_SETCC] = "setcc", [IR_ADD] = "add", [IR_ADC] = "adc", [IR_SUB] = "sub", [IR_SBB] = "sbb", [IR_AND] = "and",
    [IR_OR] = "or", [IR_XOR] = "xor", [IR_CMP] = "cmp", [IR_TEST] = "test", [IR_INC] = "inc", [IR_DEC] = "dec",
    [IR_NEG] = "neg", [IR_NOT] = "not", [IR_SHL] = "shl", [IR_SHR] = "shr", [IR_SAR] = "sar", [IR_ROL] = "rol",
    [IR_ROR] = "ror", [IR_RCL] = "rcl", [IR_RCR] = "rcr", [IR_SHLD] = "shld", [IR_SHRD] = "shrd", [IR_IMUL] = "imul",
    [IR_MUL_WIDE] = "mul_wide", [IR_IMUL_WIDE] = "imul_wide", [IR_DIV_WIDE] = "div_wide",
    [IR_IDIV_WIDE] = "idiv_wide", [IR_BT] = "bt", [IR_BTS] = "bts", [IR_BTR] = "btr", [IR_BTC] = "btc",
    [IR_BSF] = "bsf", [IR_BSR] = "bsr", [IR_TZCNT] = "tzcnt", [IR_LZCNT] = "lzcnt", [IR_POPCNT] = "popcnt",
    [IR_BSWAP] = "bswap", [IR_XADD] = "xadd", [IR_CMPXCHG] = "cmpxchg", [IR_EXT8H] = "ext8h", [IR_DEP8H] = "dep8h",
    [IR_MULX] = "mulx", [IR_GETF] = "getf", [IR_SETF] = "setf", [IR_HOST] = "host", [IR_CALL] = "call",
    [IR_FENCE] = "fence", [IR_EXIT_JMP] = "exit_jmp", [IR_EXIT_IND] = "exit_ind", [IR_EXIT_STATE] = "exit_state",
    [IR_EXIT_LOOP] = "exit_loop",
};
static const char *const ir_gpr[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const ir_conds[16] = { "o", "no", "b", "ae", "e", "ne", "be", "a",
                                          "s", "ns", "p", "np", "l", "ge", "le", "g" };
static const char *const ir_segs[6] = { "es", "cs", "ss", "ds", "fs", "gs" };

static void print_arg(GString *s, const struct ir_op *op, const struct ir_arg *a);

static void print_mem(GString *s, const struct ir_op *op)
{
    const struct ir_mem *m = &op->mem;
    g_string_append_c(s, '[');
    if (m->seg < G_N_ELEMENTS(ir_segs))
        g_string_append_printf(s, "%s:", ir_segs[m->seg]);
    if (m->base.kind)
        print_arg(s, op, &m->base);
    if (m->index.kind) {
        g_string_append(s, "+");
        print_arg(s, op, &m->index);
        g_string_append_printf(s, "*%u", 1u << m->scale);
    }
    g_string_append_printf(s, "%s0x%" G_GINT64_MODIFIER "x]", m->disp < 0 ? "-" : "+",
                           m->disp < 0 ? -(guint64)m->disp : (guint64)m->disp);
    if (m->abits != 64)
        g_string_append_printf(s, "a%u", m->abits);
    if (m->align)
        g_string_append_printf(s, "!%u", m->align);
}

static void print_arg(GString *s, const struct ir_op *op, const struct ir_arg *a)
{
    switch (a->kind) {
    case IR_G: g_string_append(s, ir_gpr[a->n & 15]); break;
    case IR_T: g_string_append_printf(s, "t%u", a->n); break;
    case IR_I: g_string_append_printf(s, "0x%" G_GINT64_MODIFIER "x", (guint64)a->imm); break;
    case IR_M: print_mem(s, op); break;
    case IR_P: g_string_append_printf(s, "page%+" G_GINT64_MODIFIER "d", (gint64)a->imm); break;
    default: g_string_append_c(s, '_'); break;
    }
}

static void print_flags(GString *s, const char *name, unsigned f)
{
    static const struct { uint16_t bit; char c; } bits[] = {
        { X86_FL_OF, 'o' }, { X86_FL_SF, 's' }, { X86_FL_ZF, 'z' }, { X86_FL_AF, 'a' }, { X86_FL_PF, 'p' },
        { X86_FL_CF, 'c' } };
    if (!f)
        return;
    g_string_append_printf(s, " %s=", name);
    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++)
        if (f & bits[i].bit)
            g_string_append_c(s, bits[i].c);
}

static void print_host(GString *s, const struct ir_op *op)
{
    static const char *const maps[] = { "?", "0f", "0f38", "0f3a", "x87" };
    static const char *const kinds[] = { "-", "xmm", "mm", "gpr", "mem", "/" };
    const struct ir_host *h = &op->host;
    g_string_append_printf(s, " %s%s %02x %s:%02x", h->vex ? "vex " : "", h->w ? "w" : "", h->pfx,
                           maps[h->map < 5 ? h->map : 0], h->opcode);
    g_string_append_printf(s, " reg=%s%u rm=%s%u", kinds[h->reg_kind < 6 ? h->reg_kind : 0], h->reg,
                           kinds[h->rm_kind < 6 ? h->rm_kind : 0], h->rm);
    if (h->has_imm)
        g_string_append_printf(s, " imm=%02x", h->imm);
    if (h->rm_kind == IR_HO_MEM) {
        g_string_append_printf(s, " m%u", h->msize * 8);
        print_mem(s, op);
    }
}

static void print_op(GString *s, const struct ir_op *op)
{
    const char *name = op->opcode < IR_NOPCODES ? ir_names[op->opcode] : "?";
    g_string_append(s, op->opcode == IR_INSN ? "" : "    ");
    if (op->lock)
        g_string_append(s, "lock ");
    g_string_append(s, name);
    if (op->opcode == IR_BRCC || op->opcode == IR_SETCC || op->opcode == IR_CMOV)
        g_string_append_printf(s, ".%s", ir_conds[op->cond & 15]);
    if (op->width)
        g_string_append_printf(s, ".%u", op->width * 8u);
    if (op->opcode == IR_MOVZX || op->opcode == IR_MOVSX || op->opcode == IR_LDS)
        g_string_append_printf(s, "<%u", op->swidth * 8u);
    const struct ir_arg *args[] = { &op->dst, &op->a, &op->b, &op->c };
    unsigned last = 4;
    while (last > 1 && !args[last - 1]->kind)
        last--;
    for (unsigned i = op->dst.kind ? 0 : 1; i < last; i++) {
        g_string_append(s, i == 0 || (i == 1 && !op->dst.kind) ? " " : ", ");
        print_arg(s, op, args[i]);
    }
    if (op->opcode == IR_LEA) {
        g_string_append(s, ", ");
        print_mem(s, op);
    }
    if (op->opcode == IR_HOST)
        print_host(s, op);
    print_flags(s, "def", op->fdef);
    print_flags(s, "use", op->fuse);
    print_flags(s, "live", op->flive);
    g_string_append_c(s, '\n');
}

char *ir_print(const struct ir_region *r)
{
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "region 0x%" G_GINT64_MODIFIER "x mode 0x%x, %u ops\n", r->rip, r->mode, r->nops);
    for (unsigned i = 0; i < r->nops && i < IR_MAX_OPS; i++)
        print_op(s, &r->ops[i]);
    return g_string_free(s, FALSE);
}
