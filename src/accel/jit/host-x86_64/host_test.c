/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random regions, run by the interpreter and as generated code from the same state over a small guest memory: registers,
 * flags, memory and vectors must agree. Pages of that memory are plain, plain but not yet in the TLB, device-like
 * (every access through the bounce buffer), or absent (fault). G_TEST seeds: run with --seed to repeat.
 */
#include <stdio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "accel/jit/host-x86_64/host.h"

#define LIGHT __attribute__((target("general-regs-only"), no_sanitize("address", "undefined")))
#define MEM_BASE 0x100000u
#define NPAGES 16u
#define MEM_SIZE (NPAGES * 4096u)
#define RIP 0x400100u
#define STACK 0x40000u

enum { PAGE_PLAIN, PAGE_LAZY, PAGE_DEVICE, PAGE_ABSENT };

static struct bed {
    struct jit_cpu *cpu;
    uint8_t *mem, *code;
    struct host_thunks thunks;
    struct host_code hc;
    struct host_insn_map insns[HOST_MAX_INSNS];
    struct host_exit exits[HOST_MAX_EXITS];
    bool native, relative; /* relative: the region's code may move; it is at `base` now */
    uint64_t base;
    sigjmp_buf out;
    unsigned asked_slot, chained, faults, helper_calls;
    size_t thunk_room;
} bed;

/* ---- the engine's part, in small ---- */

static LIGHT unsigned page_kind(uint64_t gva)
{
    uint64_t page = (gva - MEM_BASE) >> 12;
    if (page >= NPAGES - 1)
        return PAGE_ABSENT;
    return page % 4 == 3 ? PAGE_DEVICE : page % 4 == 1 ? PAGE_LAZY : PAGE_PLAIN;
}

LIGHT void jit_sync_rip(struct jit_cpu *cpu)
{
    uint64_t ret = ((const uint64_t *)cpu)[-1];
    uint64_t off = ret - (uint64_t)(uintptr_t)bed.hc.code;
    unsigned at = 0;
    if (!bed.native)
        return;
    for (unsigned i = 0; i < bed.hc.ninsns; i++)
        if (bed.hc.insns[i].host_off <= off)
            at = i;
    cpu->s.rip = (bed.relative ? cpu->rip_base + (RIP & 4095) : RIP) + bed.hc.insns[at].guest_off;
}

LIGHT void jit_leave(struct jit_cpu *cpu, enum jit_leave why)
{
    if (bed.native)
        bed.thunks.unwind(cpu, (int)why);
    siglongjmp(bed.out, 1);
}

LIGHT void jit_raise(struct jit_cpu *cpu, unsigned vector, bool has_error, uint32_t error)
{
    jit_sync_rip(cpu);
    cpu->exception_vector = vector;
    bed.faults++;
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}

LIGHT void *jit_mem_slow(struct jit_cpu *cpu, uint64_t gva, uint32_t desc)
{
    unsigned size = JIT_ACC_SIZE(desc), kind = page_kind(gva), last = page_kind(gva + size - 1);
    uint8_t *p = bed.mem + (gva - MEM_BASE);
    if (kind == PAGE_ABSENT || last == PAGE_ABSENT)
        jit_raise(cpu, X86_PF, true, 0);
    if (kind != PAGE_DEVICE && ((gva & 4095) + size) <= 4096) {
        struct jit_tlb_entry *e = &cpu->tlb[JIT_ACC_MMU(desc)][(gva >> 12) & (cpu->tlb_mask >> 5)];
        e->tag_read = e->tag_write = gva & ~4095ull;
        e->host = (uint64_t)(uintptr_t)(p - (gva & 4095));
        return p;
    }
    jit_copy(cpu->bounce, p, size);
    cpu->bounce_gva = gva;
    cpu->bounce_desc = desc & JIT_ACC_WRITE ? desc : 0;
    return cpu->bounce;
}

LIGHT void jit_mem_commit(struct jit_cpu *cpu)
{
    jit_copy(bed.mem + (cpu->bounce_gva - MEM_BASE), cpu->bounce, JIT_ACC_SIZE(cpu->bounce_desc));
    cpu->bounce_desc = 0;
}

LIGHT const void *jit_lookup_jump(struct jit_cpu *cpu, uint64_t rip, unsigned slot)
{
    bed.asked_slot = slot;
    cpu->rip_base = rip & ~4095ull;
    cpu->s.rip = rip;
    return bed.thunks.leave_lookup;
}

LIGHT const void *jit_chain(struct jit_cpu *cpu, const uint8_t *stub_ret)
{
    for (unsigned i = 0; i < bed.hc.nexits; i++)
        if (bed.hc.code + bed.hc.exits[i].stub_off + 5 == stub_ret) {
            cpu->s.rip = bed.hc.exits[i].target + (bed.hc.exits[i].relative ? cpu->rip_base : 0);
            bed.chained++;
        }
    return bed.thunks.leave_lookup;
}

LIGHT void jit_host_fault(struct jit_cpu *cpu, uint64_t host_pc, unsigned signal)
{
    jit_raise(cpu, signal == SIGFPE ? X86_DE : X86_GP, false, 0);
}

static LIGHT uint64_t helper(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    bed.helper_calls++;
    cpu->s.gpr[X86_RDI] += a;
    cpu->s.gpr[X86_R13] ^= b;
    return a + 3 * b + 5 * c + cpu->cc;
}

static LIGHT uint64_t helper_reads(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t sum = a ^ b ^ c;
    for (unsigned i = 0; i < 16; i++)
        sum = sum * 31 + cpu->s.gpr[i];
    return sum;
}

static void tlb_reset(struct jit_cpu *cpu)
{
    for (unsigned m = 0; m < JIT_NMMU; m++)
        for (unsigned i = 0; i < JIT_TLB_SIZE; i++)
            cpu->tlb[m][i] = (struct jit_tlb_entry){ .tag_read = (i ^ 1ull) << 12, .tag_write = (i ^ 1ull) << 12 };
    for (unsigned p = 0; p < NPAGES; p++) {
        uint64_t gva = MEM_BASE + 4096 * p;
        if (page_kind(gva) == PAGE_PLAIN)
            cpu->tlb[0][(gva >> 12) & (cpu->tlb_mask >> 5)] = (struct jit_tlb_entry){
                .tag_read = gva, .tag_write = gva, .host = (uint64_t)(uintptr_t)(bed.mem + 4096 * p) };
    }
}

static void setup(void)
{
    if (bed.cpu)
        return;
    size_t size = STACK + ((sizeof(struct jit_cpu) + 4095) & ~4095ul);
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(p != MAP_FAILED);
    bed.cpu = (struct jit_cpu *)(void *)(p + STACK);
    bed.mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bed.code = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(host_make_thunks(bed.code, 1 << 16, &bed.thunks));
    bed.thunk_room = (bed.thunks.size + 63) & ~63ul;
    bed.cpu->tlb_mask = (JIT_TLB_SIZE - 1) << 5;
    bed.cpu->vec_saved = 1;
    bed.cpu->mxcsr = 0x1f80;
    bed.cpu->jump_key = 0x5aull << 48;
}

/* ---- random regions ---- */

struct gen {
    struct ir_region r;
    unsigned undef;   /* flags whose value the architecture does not tell now */
    uint64_t rip;
    bool mem_fault_possible;
};

static unsigned rnd(unsigned n) { return (unsigned)g_test_rand_int_range(0, (gint32)n); }
static bool chance(unsigned percent) { return rnd(100) < percent; }

static uint64_t rnd64(void)
{
    uint64_t v = (uint64_t)(uint32_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int();
    switch (rnd(6)) {
    case 0: return v & 0xff;
    case 1: return (uint64_t)(int64_t)(int8_t)v;
    case 2: return (uint64_t)1 << (v & 63);
    case 3: return rnd(2) ? 0 : UINT64_MAX;
    default: return v;
    }
}

static struct ir_op *emit(struct gen *g, enum ir_opcode opcode, unsigned width) { return ir_emit(&g->r, opcode, width); }

/* An address that was RIP's neighbour when the region was translated. */
static struct ir_arg rip_arg(uint64_t rip)
{
    return bed.relative ? ir_p((int64_t)(rip - (RIP & ~4095u))) : ir_i((int64_t)rip);
}

static void insn(struct gen *g)
{
    struct ir_op *op = emit(g, IR_INSN, 0);
    op->a = rip_arg(g->rip);
    op->b = ir_i(3);
    g->rip += 3;
}

static struct ir_arg any_g(void) { return ir_g(rnd(16)); }

/* P where it may stand. */
static struct ir_arg or_p(struct ir_arg a)
{
    static const int64_t far[] = { INT32_MAX, INT32_MIN, (int64_t)INT32_MAX + 4096, (int64_t)INT32_MIN - 4096, IR_P_MAX, -IR_P_MAX };
    if (!bed.relative || !chance(25))
        return a;
    return ir_p(chance(20) ? far[rnd(G_N_ELEMENTS(far))] : chance(50) ? (int64_t)rnd(8192) : (int32_t)rnd64());
}

/* A temp that holds something, or a register, or a constant. */
static struct ir_arg any_src(struct gen *g, bool imm)
{
    if (imm && chance(25))
        return ir_i(chance(70) ? (int32_t)rnd64() : (int64_t)rnd64());
    if (chance(20)) {
        unsigned t = ir_new_temp(&g->r);
        struct ir_op *op = emit(g, IR_MOV, 8);
        op->dst = ir_t(t);
        op->a = or_p(chance(50) ? any_g() : ir_i((int64_t)rnd64()));
        return ir_t(t);
    }
    return any_g();
}

static struct ir_arg any_dst(struct gen *g)
{
    return chance(15) ? ir_t(ir_new_temp(&g->r)) : any_g();
}

static uint64_t any_address(unsigned size, unsigned align)
{
    uint64_t off = chance(2) ? MEM_SIZE - 4096 + rnd(4000) : rnd(NPAGES - 1) * 4096 + (chance(30) ? 4096 - rnd(size + 8) : rnd(4000));
    if (align)
        off &= ~15ull;
    if (off < MEM_SIZE - 4096 && off + size > MEM_SIZE - 4096 && chance(90))
        off -= 64;
    return MEM_BASE + off;
}

static struct ir_mem any_mem(struct gen *g, unsigned size)
{
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    uint64_t gva = any_address(size, 0);
    unsigned form = rnd(5);
    if (chance(20))
        m.abits = 32;
    if (chance(15)) {
        m.seg = X86_FS;
        gva -= 0x1230;
    } else if (chance(5)) {
        m.seg = X86_GS;
        m.abits = 16;
        gva -= MEM_BASE;
    }
    if (form >= 1) { /* base */
        struct ir_arg base = chance(30) ? ir_t(ir_new_temp(&g->r)) : any_g();
        int32_t disp = chance(30) ? 0 : chance(50) ? (int8_t)rnd64() : (int32_t)rnd64() >> 4;
        uint64_t rest = 0;
        if (form >= 3) {
            struct ir_arg index = ir_g(rnd(16));
            if (index.n == X86_RSP || (base.kind == IR_G && base.n == index.n))
                index = ir_g((index.n + 1) % 16);
            if (index.n == X86_RSP || (base.kind == IR_G && base.n == index.n))
                index = ir_g(index.n == X86_RSP ? X86_RBX : X86_RDI);
            if (!(base.kind == IR_G && base.n == index.n)) {
                uint64_t v = rnd64();
                struct ir_op *op = emit(g, IR_MOV, 8);
                op->dst = index;
                op->a = ir_i((int64_t)v);
                m.index = index;
                m.scale = (uint8_t)rnd(4);
                rest = v << m.scale;
            }
        }
        struct ir_op *op = emit(g, IR_MOV, 8);
        op->dst = base;
        int64_t v = (int64_t)(gva - rest - (uint64_t)(int64_t)disp), p = (int64_t)((uint64_t)v - bed.base);
        op->a = bed.relative && p >= -IR_P_MAX && p <= IR_P_MAX ? ir_p(p) : ir_i(v);
        m.base = base;
        m.disp = disp;
    } else if (bed.relative && chance(70)) {
        m.base = ir_p(chance(50) ? 0 : (int16_t)rnd64());
        m.disp = (int64_t)(gva - bed.base) - m.base.imm;
    } else {
        m.disp = (int64_t)gva;
    }
    return m;
}

static const uint8_t widths[] = { 1, 2, 4, 8 };
static unsigned any_width(void) { return widths[rnd(4)]; }
static unsigned wide_width(void) { return widths[1 + rnd(3)]; }

static void done(struct gen *g, const struct ir_op *op, unsigned undefined)
{
    unsigned def, use;
    ir_op_flags(op, &def, &use);
    bool keeps = op->opcode >= IR_SHL && op->opcode <= IR_SHRD && (use & def & ~X86_FL_CF);
    g->undef = (g->undef & ~(keeps ? 0 : def)) | undefined;
}

static void gen_alu(struct gen *g)
{
    static const uint8_t ops[] = { IR_ADD, IR_ADC, IR_SUB, IR_SBB, IR_AND, IR_OR, IR_XOR, IR_CMP, IR_TEST };
    unsigned o = ops[rnd(G_N_ELEMENTS(ops))], w = any_width(), form = rnd(4);
    if ((o == IR_ADC || o == IR_SBB) && (g->undef & X86_FL_CF))
        o = IR_ADD;
    struct ir_arg dst = any_dst(g), a = any_src(g, false), b = any_src(g, true);
    if (dst.kind == IR_G && chance(60))
        a = dst;
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    if (form <= 1)
        m = any_mem(g, w);
    struct ir_op *op = emit(g, o, w);
    op->mem = m;
    op->a = a;
    op->b = b;
    bool none = o == IR_CMP || o == IR_TEST;
    if (!none)
        op->dst = dst;
    if (form == 0) {
        op->a = ir_m();
        if (!none)
            op->dst = ir_m();
        op->lock = !none && chance(30);
        if (op->b.kind == IR_I)
            op->b.imm = (int32_t)op->b.imm;
    } else if (form == 1) {
        op->b = ir_m();
    }
    done(g, op, o == IR_AND || o == IR_OR || o == IR_XOR || o == IR_TEST ? X86_FL_AF : 0);
}

static void gen_unary(struct gen *g)
{
    static const uint8_t ops[] = { IR_INC, IR_DEC, IR_NEG, IR_NOT };
    unsigned w = any_width(), form = rnd(3);
    struct ir_arg dst = any_dst(g), a = any_src(g, false);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    if (form == 0)
        m = any_mem(g, w);
    struct ir_op *op = emit(g, ops[rnd(4)], w);
    op->mem = m;
    op->dst = form == 0 ? ir_m() : dst;
    op->a = form == 0 ? ir_m() : form == 1 && dst.kind == IR_G ? dst : a;
    op->lock = form == 0 && chance(30);
    done(g, op, 0);
}

static void gen_shift(struct gen *g)
{
    unsigned w = any_width(), o = IR_SHL + rnd(7), bits = 8 * w;
    bool var = chance(40), mem = chance(25);
    if (o >= IR_RCL && (g->undef & X86_FL_CF))
        o = IR_SHR;
    struct ir_arg dst = any_dst(g), a = any_src(g, false), b = var ? chance(70) ? ir_g(X86_RCX) : any_src(g, false) : ir_i(rnd(70));
    if (dst.kind == IR_G && chance(60))
        a = dst;
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    if (mem)
        m = any_mem(g, w);
    struct ir_op *op = emit(g, o, w);
    op->mem = m;
    op->dst = mem ? ir_m() : dst;
    op->a = mem ? ir_m() : a;
    op->b = b;
    unsigned n = (unsigned)b.imm & (w == 8 ? 63 : 31), undef;
    bool one = !var && n == 1;
    undef = one ? 0 : X86_FL_OF;
    if (o <= IR_SAR) {
        undef |= X86_FL_AF;
        if (w < 4 && o != IR_SAR && (var || n > bits))
            undef |= X86_FL_CF;
    }
    if (!var && n == 0)
        undef = 0;
    done(g, op, undef);
}

static void gen_shift_double(struct gen *g)
{
    unsigned w = wide_width();
    bool var = w > 2 && chance(40), mem = chance(25);
    struct ir_arg dst = any_g(), b = any_src(g, false), n = var ? ir_g(X86_RCX) : ir_i(rnd(w == 2 ? 17 : 70));
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    if (mem)
        m = any_mem(g, w);
    struct ir_op *op = emit(g, chance(50) ? IR_SHLD : IR_SHRD, w);
    op->mem = m;
    op->dst = op->a = mem ? ir_m() : dst;
    op->b = b;
    op->c = n;
    unsigned k = (unsigned)n.imm & (w == 8 ? 63 : 31);
    done(g, op, !var && !k ? 0 : !var && k == 1 ? X86_FL_AF : X86_FL_AF | X86_FL_OF);
}

static void gen_mul(struct gen *g)
{
    unsigned w, kind = rnd(4);
    bool mem = chance(30);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    struct ir_arg dst = any_dst(g), a = any_src(g, false), b = any_src(g, true);
    w = kind == 0 ? wide_width() : any_width();
    if (mem)
        m = any_mem(g, w);
    if (kind >= 2 && chance(70)) { /* make the quotient fit now and then */
        struct ir_op *z = emit(g, IR_MOV, 8);
        z->dst = ir_g(X86_RDX);
        z->a = ir_i(0);
        z = emit(g, IR_MOV, 8);
        z->dst = ir_g(X86_RAX);
        z->a = ir_i(rnd(100));
        insn(g);
        if (mem && (m.base.kind == IR_T || m.base.kind == IR_G || m.index.kind))
            mem = false;
        if (a.kind == IR_T)
            a = any_g();
    }
    struct ir_op *op = emit(g, kind == 0 ? IR_IMUL : kind == 1 ? (chance(50) ? IR_MUL_WIDE : IR_IMUL_WIDE)
                                                             : (chance(50) ? IR_DIV_WIDE : IR_IDIV_WIDE), w);
    op->mem = m;
    if (kind == 0) {
        op->dst = dst;
        op->a = chance(50) && dst.kind == IR_G ? dst : a;
        op->b = b;
        if (mem)
            *(chance(50) && b.kind == IR_I ? &op->a : &op->b) = ir_m();
    } else {
        op->a = mem ? ir_m() : a;
    }
    done(g, op, kind >= 2 ? X86_FL_ARITH : X86_FL_SF | X86_FL_ZF | X86_FL_AF | X86_FL_PF);
}

static void gen_bits(struct gen *g)
{
    unsigned w = wide_width(), o = IR_BT + rnd(4);
    bool mem = chance(40);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    struct ir_arg dst = any_g(), b = ir_i(rnd(8 * w));
    if (chance(60)) { /* a bit number already reduced */
        b = chance(50) ? ir_t(ir_new_temp(&g->r)) : any_g();
        struct ir_op *z = emit(g, IR_MOV, 8);
        z->dst = b;
        z->a = ir_i(rnd(8 * w));
    }
    if (mem) {
        m = any_mem(g, w);
        if (b.kind == IR_G && ((m.base.kind == IR_G && m.base.n == b.n) || (m.index.kind == IR_G && m.index.n == b.n)))
            b = ir_i(rnd(8 * w));
    }
    struct ir_op *op = emit(g, o, w);
    op->mem = m;
    op->a = mem ? ir_m() : dst;
    op->b = b;
    if (o != IR_BT) {
        op->dst = op->a;
        op->lock = mem && chance(30);
    }
    done(g, op, 0);
}

static void gen_scan(struct gen *g)
{
    unsigned w = wide_width(), o = IR_BSF + rnd(5);
    bool mem = chance(30);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    struct ir_arg dst = any_g(), a = any_src(g, false);
    if (mem)
        m = any_mem(g, w);
    struct ir_op *op = emit(g, o, w);
    op->mem = m;
    op->dst = dst;
    op->a = mem ? ir_m() : a;
    done(g, op, o <= IR_BSR ? X86_FL_ARITH & ~X86_FL_ZF
                : o == IR_POPCNT ? 0 : X86_FL_OF | X86_FL_SF | X86_FL_PF | X86_FL_AF);
}

static void gen_move(struct gen *g)
{
    unsigned w = any_width(), form = rnd(9);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    struct ir_arg dst = any_dst(g), src = any_src(g, true), g1 = any_g(), g2 = any_g();
    struct ir_op *op;
    switch (form) {
    case 0: case 1: /* mov */
        m = any_mem(g, w);
        op = emit(g, IR_MOV, w);
        op->mem = m;
        op->dst = form ? ir_m() : dst;
        op->a = form ? or_p(src) : ir_m();
        if (form && op->a.kind == IR_I && w == 8)
            op->a.imm = (int32_t)op->a.imm;
        break;
    case 2:
        op = emit(g, IR_MOV, w);
        op->dst = dst;
        op->a = or_p(src);
        break;
    case 3: case 4:
        w = wide_width();
        if (form == 3)
            m = any_mem(g, 4);
        op = emit(g, chance(50) ? IR_MOVZX : IR_MOVSX, w);
        op->swidth = w == 8 ? widths[rnd(3)] : w == 4 ? widths[rnd(2)] : 1;
        op->mem = m;
        op->dst = dst;
        op->a = form == 3 ? ir_m() : g1;
        break;
    case 5:
        m = any_mem(g, 8);
        w = wide_width();
        op = emit(g, IR_LEA, w);
        op->mem = m;
        op->dst = dst;
        break;
    case 6:
        if (chance(50))
            m = any_mem(g, w);
        op = emit(g, IR_XCHG, w);
        op->mem = m;
        op->dst = m.disp || m.base.kind ? ir_m() : g1;
        op->a = g2;
        break;
    case 7:
        op = emit(g, IR_EXT8H, 8);
        op->dst = ir_t(ir_new_temp(&g->r));
        op->a = ir_g(rnd(4));
        dst = op->dst;
        op = emit(g, IR_DEP8H, 1);
        op->dst = ir_g(rnd(4));
        op->a = chance(50) ? dst : src;
        break;
    default:
        w = chance(50) ? 8 : 4;
        op = emit(g, chance(50) ? IR_BSWAP : IR_MOV, w);
        op->dst = op->a = dst.kind == IR_G ? dst : g1;
        break;
    }
}

static void gen_cond(struct gen *g)
{
    struct ir_op probe = { .opcode = IR_SETCC, .cond = (uint8_t)rnd(16) };
    unsigned def, use, w = wide_width();
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    bool mem = chance(25), setcc = chance(50);
    ir_op_flags(&probe, &def, &use);
    if (use & g->undef)
        return;
    struct ir_arg dst = any_g(), a = any_src(g, false), td = any_dst(g);
    if (mem)
        m = any_mem(g, setcc ? 1 : w);
    struct ir_op *op = emit(g, setcc ? IR_SETCC : IR_CMOV, setcc ? 1 : w);
    op->cond = probe.cond;
    op->mem = m;
    op->dst = setcc ? (mem ? ir_m() : td) : dst;
    if (!setcc)
        op->a = mem ? ir_m() : a;
}

static void gen_atomic(struct gen *g)
{
    unsigned w = any_width();
    bool mem = chance(60), xadd = chance(50);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    struct ir_arg dst = any_g(), b = any_g();
    if (mem)
        m = any_mem(g, w);
    struct ir_op *op = emit(g, xadd ? IR_XADD : IR_CMPXCHG, w);
    op->mem = m;
    op->dst = mem ? ir_m() : dst;
    op->b = b;
    op->lock = mem && chance(50);
    done(g, op, 0);
}

static void gen_flags(struct gen *g)
{
    if (chance(50)) {
        struct ir_arg a = any_src(g, true);
        static const uint16_t sets[] = { X86_FL_ARITH, X86_FL_CF, X86_FL_ARITH & ~X86_FL_OF, X86_FL_ZF };
        struct ir_op *op = emit(g, IR_SETF, 8);
        op->a = a;
        op->fdef = sets[rnd(4)];
        done(g, op, 0);
    } else if (!g->undef) {
        struct ir_op *op = emit(g, IR_GETF, 8);
        op->dst = any_g();
    }
}

static void gen_call(struct gen *g)
{
    struct ir_arg a = any_src(g, true), b = any_src(g, true), c = any_src(g, true), d = any_dst(g);
    bool writes = chance(50);
    if (g->undef && writes)
        return;
    struct ir_op *op = emit(g, IR_CALL, widths[2 + rnd(2)]);
    op->fn = writes ? helper : helper_reads;
    op->cflags = writes ? IR_CALL_WRITES_G : 0;
    op->a = or_p(a);
    op->b = or_p(b);
    op->c = or_p(c);
    if (chance(70))
        op->dst = d;
}

static void gen_state(struct gen *g)
{
    unsigned w = any_width();
    struct ir_arg a = any_src(g, true), d = any_g();
    if (a.kind == IR_I)
        a.imm = (int32_t)a.imm;
    struct ir_op *op = emit(g, IR_STS, w);
    op->a = or_p(a);
    op->b = ir_i((int64_t)offsetof(struct jit_cpu, s.star));
    op = emit(g, IR_LDS, 8);
    op->swidth = (uint8_t)any_width();
    op->dst = d;
    op->a = ir_i((int64_t)offsetof(struct jit_cpu, s.star));
}

static void gen_host(struct gen *g)
{
    unsigned form = rnd(9);
    struct ir_mem m = { .abits = 64, .seg = IR_SEG_NONE };
    struct ir_arg a = any_g(), b = any_g(), c = any_g();
    struct ir_host h = { .map = IR_MAP_0F, .gwidth = chance(50) ? 8 : 4, .reg = (uint8_t)rnd(16), .rm = (uint8_t)rnd(16) };
    unsigned def = 0, use = 0, undef = 0;
    h.w = h.gwidth == 8;
    switch (form) {
    case 0: /* paddd xmm, xmm or m128 */
        h.pfx = 0x66; h.opcode = 0xfe; h.w = false;
        h.reg_kind = h.rm_kind = IR_HO_XMM;
        if (chance(50)) {
            h.rm_kind = IR_HO_MEM; h.msize = 16; h.maccess = 1;
            m.disp = (int64_t)any_address(16, 16);
            m.align = 16;
        }
        break;
    case 1: /* movq xmm, r/m64 and back; movd */
        h.pfx = 0x66; h.opcode = chance(50) ? 0x6e : 0x7e;
        h.reg_kind = IR_HO_XMM; h.rm_kind = IR_HO_GPR;
        h.rm_read = h.opcode == 0x6e; h.rm_write = !h.rm_read;
        break;
    case 2: /* andn: vex 0f38 f2 */
        h.vex = true; h.map = IR_MAP_0F38; h.opcode = 0xf2;
        h.reg_kind = h.rm_kind = h.v_kind = IR_HO_GPR;
        h.reg_write = h.rm_read = true;
        def = X86_FL_ARITH; undef = X86_FL_AF | X86_FL_PF;
        break;
    case 3: /* mulx */
        h.vex = true; h.map = IR_MAP_0F38; h.opcode = 0xf6; h.pfx = 0xf2;
        h.reg_kind = h.rm_kind = h.v_kind = IR_HO_GPR;
        h.reg_write = h.rm_read = h.v_write = true;
        if (b.n == c.n)
            b = ir_g((b.n + 1) % 16);
        break;
    case 4: /* crc32 r, rm8 / rm64 */
        h.map = IR_MAP_0F38; h.pfx = 0xf2; h.opcode = chance(50) ? 0xf0 : 0xf1;
        h.reg_kind = h.rm_kind = IR_HO_GPR;
        h.reg_read = h.reg_write = h.rm_read = true;
        break;
    case 5: /* adcx, adox */
        h.map = IR_MAP_0F38; h.opcode = 0xf6; h.pfx = chance(50) ? 0x66 : 0xf3;
        h.reg_kind = h.rm_kind = IR_HO_GPR;
        h.reg_read = h.reg_write = h.rm_read = true;
        def = use = h.pfx == 0x66 ? X86_FL_CF : X86_FL_OF;
        if (g->undef & use)
            return;
        break;
    case 6: /* comisd xmm, xmm or m64 */
        h.pfx = 0x66; h.opcode = 0x2f; h.w = false;
        h.reg_kind = h.rm_kind = IR_HO_XMM;
        def = X86_FL_ARITH;
        if (chance(50)) {
            h.rm_kind = IR_HO_MEM; h.msize = 8; h.maccess = 1;
            m = any_mem(g, 8);
        }
        break;
    case 7: /* movdqu m128, xmm */
        h.pfx = 0xf3; h.opcode = 0x7f; h.w = false;
        h.reg_kind = IR_HO_XMM; h.rm_kind = IR_HO_MEM; h.msize = 16; h.maccess = 2;
        m = any_mem(g, 16);
        break;
    default: /* pcmpistri xmm, xmm, imm: writes ecx */
        h.pfx = 0x66; h.map = IR_MAP_0F3A; h.opcode = chance(50) ? 0x63 : 0x61; h.w = false;
        h.reg_kind = h.rm_kind = IR_HO_XMM;
        h.has_imm = true; h.imm = (uint8_t)rnd(128);
        def = X86_FL_ARITH;
        break;
    }
    struct ir_op *op = emit(g, IR_HOST, 0);
    op->mem = m;
    op->host = h;
    op->a = h.rm_kind == IR_HO_GPR ? a : ir_none();
    op->b = h.v_kind == IR_HO_GPR ? b : ir_none();
    op->c = h.reg_kind == IR_HO_GPR ? c : ir_none();
    if (form == 8) {
        op->dst = ir_g(X86_RCX);
        if (h.opcode == 0x61)
            op->b = ir_g(X86_RAX);
    }
    op->fdef = (uint16_t)def;
    op->fuse = (uint16_t)use;
    done(g, op, undef);
}

static void (*const generators[])(struct gen *) = {
    gen_alu, gen_alu, gen_alu, gen_alu, gen_unary, gen_unary, gen_shift, gen_shift, gen_shift_double, gen_mul, gen_bits,
    gen_scan, gen_move, gen_move, gen_move, gen_cond, gen_cond, gen_atomic, gen_flags, gen_call, gen_state, gen_host, gen_host };

static void irq_check(struct gen *g)
{
    emit(g, IR_IRQ_CHECK, 0)->a = rip_arg(g->rip);
}

static void generate(struct gen *g, struct ir_op *ops)
{
    unsigned n = 1 + rnd(12), skip = 0, label = 0, join = 0, stubs[12], nstubs = 0;
    memset(g, 0, sizeof(*g));
    g->r = (struct ir_region){ .ops = ops, .rip = RIP, .mode = JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE | JIT_MODE_LMA,
                               .guest_bytes = 64 };
    g->rip = RIP;
    bed.relative = chance(50);
    bed.base = (uint32_t)g_test_rand_int() & ~4095u;
    if (bed.relative)
        g->r.mode |= 3 << 2; /* CPL 3 */
    irq_check(g);
    for (unsigned i = 0; i < n; i++) {
        insn(g);
        generators[rnd(G_N_ELEMENTS(generators))](g);
        if (!g->undef && nstubs < 12 && chance(8)) { /* a branch that leaves the region */
            struct ir_op *op;
            stubs[nstubs] = nstubs && chance(30) ? stubs[nstubs - 1] : ir_new_label(&g->r);
            if (chance(60)) {
                op = emit(g, IR_BRCC, 0);
                op->cond = (uint8_t)rnd(16);
                op->a = ir_i(stubs[nstubs++]);
            } else {
                op = emit(g, chance(50) ? IR_BRZ : IR_BRNZ, any_width());
                op->a = any_g();
                op->b = ir_i(stubs[nstubs++]);
            }
        }
        if (!skip && chance(15)) { /* a forward branch over some of what follows */
            struct ir_op probe = { .opcode = IR_SETCC, .cond = (uint8_t)rnd(16) };
            unsigned def, use;
            ir_op_flags(&probe, &def, &use);
            label = ir_new_label(&g->r);
            skip = 1 + rnd(3);
            join = g->undef;
            if (use & g->undef) {
                struct ir_op *op = emit(g, chance(50) ? IR_BRZ : IR_BRNZ, any_width());
                op->a = any_g();
                op->b = ir_i(label);
            } else {
                if (chance(40))
                    irq_check(g);
                struct ir_op *op = emit(g, IR_BRCC, 0);
                op->cond = probe.cond;
                op->a = ir_i(label);
            }
        } else if (skip && --skip == 0) {
            emit(g, IR_LABEL, 0)->a = ir_i(label);
            g->undef |= join;
        }
    }
    if (skip) {
        emit(g, IR_LABEL, 0)->a = ir_i(label);
        g->undef |= join;
    }
    insn(g);
    unsigned kind = rnd(4);
    if (kind == 0) {
        struct ir_arg a = any_g();
        emit(g, IR_EXIT_IND, 8)->a = a;
    } else if (kind == 3) {
        struct ir_op *op = emit(g, IR_EXIT_LOOP, 0);
        op->a = ir_i(JIT_LEAVE_HALT);
        op->b = rip_arg(g->rip);
    } else {
        emit(g, IR_EXIT_JMP, 0)->a = kind == 1 ? rip_arg(RIP + 0x40) : or_p(ir_i(0x7654321000));
    }
    for (unsigned i = 0; i < nstubs; i++) {
        if (i && stubs[i] == stubs[i - 1])
            continue;
        emit(g, IR_LABEL, 0)->a = ir_i(stubs[i]);
        emit(g, IR_EXIT_JMP, 0)->a = chance(70) ? rip_arg(RIP + 0x80 + i) : or_p(ir_i(0x1234567000 + i));
    }
}

/* ---- running and comparing ---- */

struct snapshot { uint64_t gpr[16], rip, star; uint16_t cc; uint8_t vec[16][16]; uint8_t mem[MEM_SIZE]; int why; uint32_t vector; };

static void take(struct snapshot *s, int why)
{
    memcpy(s->gpr, bed.cpu->s.gpr, sizeof(s->gpr));
    s->rip = bed.cpu->s.rip;
    s->star = bed.cpu->s.star;
    s->cc = bed.cpu->cc;
    memcpy(s->vec, bed.cpu->vec, sizeof(s->vec));
    memcpy(s->mem, bed.mem, MEM_SIZE);
    s->why = why;
    s->vector = why == JIT_LEAVE_EXCEPTION ? bed.cpu->exception_vector : 0;
}

static void put_back(const struct snapshot *s)
{
    memcpy(bed.cpu->s.gpr, s->gpr, sizeof(s->gpr));
    bed.cpu->s.rip = s->rip;
    bed.cpu->s.star = s->star;
    bed.cpu->cc = s->cc;
    memcpy(bed.cpu->vec, s->vec, sizeof(s->vec));
    memcpy(bed.mem, s->mem, MEM_SIZE);
    bed.cpu->bounce_desc = 0;
    bed.cpu->rip_base = bed.base;
    tlb_reset(bed.cpu);
}

static __attribute__((noinline)) int interpret(const struct ir_region *r)
{
    if (sigsetjmp(bed.out, 0))
        return JIT_LEAVE_EXCEPTION;
    return ir_interp(bed.cpu, r);
}

static int native(const struct ir_region *r)
{
    bed.hc = (struct host_code){ .thunks = &bed.thunks, .insns = bed.insns, .exits = bed.exits };
    g_assert(host_compile(r, bed.code + bed.thunk_room, (1 << 20) - bed.thunk_room, &bed.hc));
    bed.native = true;
    int why = bed.thunks.enter(bed.cpu, bed.hc.code + bed.hc.entry_off);
    bed.native = false;
    return why;
}

static void on_sigfpe(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    bed.cpu->scratch[7] = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    bed.cpu->scratch[6] = (uint64_t)sig;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)bed.thunks.host_fault;
}

static bool differs(const struct snapshot *x, const struct snapshot *y, unsigned undef)
{
    uint16_t mask = (uint16_t)((0xd5u & ~undef) << 8 | (undef & X86_FL_OF ? 0 : 1));
    bool fault = x->why == JIT_LEAVE_EXCEPTION;
    return x->why != y->why || x->vector != y->vector || memcmp(x->gpr, y->gpr, sizeof(x->gpr)) || x->star != y->star ||
           x->rip != y->rip || (!fault && ((x->cc ^ y->cc) & mask)) || memcmp(x->vec, y->vec, sizeof(x->vec)) ||
           memcmp(x->mem, y->mem, MEM_SIZE);
}

static void report(const struct ir_region *r, const struct snapshot *s, const struct snapshot *x, const struct snapshot *y,
                   unsigned undef)
{
    g_autofree char *text = ir_print(r);
    fprintf(stderr, "%s", text);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "g%-2u start %016lx interp %016lx native %016lx%s\n", i, (unsigned long)s->gpr[i],
                (unsigned long)x->gpr[i], (unsigned long)y->gpr[i], x->gpr[i] != y->gpr[i] ? " <--" : "");
    fprintf(stderr, "cc start %04x interp %04x native %04x (undefined %x)\nrip %lx %lx why %d %d vector %u %u\n", s->cc, x->cc,
            y->cc, undef, (unsigned long)x->rip, (unsigned long)y->rip, x->why, y->why, x->vector, y->vector);
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(x->vec[i], y->vec[i], 16))
            fprintf(stderr, "xmm%u differs\n", i);
    for (unsigned i = 0; i < MEM_SIZE; i++)
        if (x->mem[i] != y->mem[i])
            fprintf(stderr, "mem %x: %02x %02x\n", MEM_BASE + i, x->mem[i], y->mem[i]);
    FILE *f = fopen(g_build_filename(g_get_tmp_dir(), "host_test.bin", NULL), "wb");
    if (f) {
        fwrite(bed.hc.code, 1, bed.hc.size, f);
        fclose(f);
    }
}

static void test_random(void)
{
    static struct snapshot start, want, got;
    struct ir_op *ops = g_new0(struct ir_op, IR_MAX_OPS);
    struct sigaction act = { .sa_sigaction = on_sigfpe, .sa_flags = SA_SIGINFO }, old;
    unsigned rounds = getenv("HOST_TEST_ROUNDS") ? (unsigned)atoi(getenv("HOST_TEST_ROUNDS")) : 20000, exceptions = 0;
    setup();
    sigaction(SIGFPE, &act, &old);
    for (unsigned i = 0; i < MEM_SIZE; i++)
        start.mem[i] = (uint8_t)g_test_rand_int();
    bed.cpu->seg_base[X86_FS] = 0x1230;
    bed.cpu->seg_base[X86_GS] = MEM_BASE;
    for (unsigned n = 0; n < rounds; n++) {
        struct gen g;
        generate(&g, ops);
        for (unsigned i = 0; i < 16; i++)
            start.gpr[i] = rnd64();
        for (unsigned i = 0; i < 16; i++)
            for (unsigned k = 0; k < 16; k++)
                start.vec[i][k] = (uint8_t)g_test_rand_int();
        start.star = rnd64();
        start.rip = 0;
        start.cc = (uint16_t)((rnd(256) & 0xd5) << 8 | 0x200 | rnd(2));
        atomic_store(&bed.cpu->attention, chance(3));
        put_back(&start);
        int why = interpret(&g.r);
        take(&want, why);
        if (chance(70))
            ir_optimise(&g.r);
        put_back(&start);
        why = native(&g.r);
        take(&got, why);
        exceptions += why == JIT_LEAVE_EXCEPTION;
        if (differs(&want, &got, g.undef)) {
            report(&g.r, &start, &want, &got, g.undef);
            g_test_message("round %u", n);
            g_test_fail();
            break;
        }
    }
    g_test_message("%u exceptions, %u chained exits, %u helper calls", exceptions, bed.chained, bed.helper_calls);
    sigaction(SIGFPE, &old, NULL);
    g_free(ops);
}

/* ---- directed ---- */

static struct ir_op directed_ops[IR_MAX_OPS];

static void start_region(struct gen *g, uint64_t rip)
{
    memset(g, 0, sizeof(*g));
    bed.relative = false;
    g->r = (struct ir_region){ .ops = directed_ops, .rip = rip, .mode = JIT_MODE_CODE64 | JIT_MODE_FLAT, .guest_bytes = 64 };
    g->rip = rip;
}

static struct ir_op *emit3(struct gen *g, enum ir_opcode o, unsigned w, struct ir_arg dst, struct ir_arg a, struct ir_arg b)
{
    struct ir_op *op = emit(g, o, w);
    op->dst = dst;
    op->a = a;
    op->b = b;
    return op;
}

/* Attention in the middle of a loop: set by a helper in its n-th call. */
static LIGHT uint64_t helper_attention(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if (cpu->s.gpr[X86_RCX] == a)
        atomic_store(&cpu->attention, 1);
    return 0;
}

static void loop_region(struct gen *g, bool dec)
{
    start_region(g, RIP);
    unsigned top = ir_new_label(&g->r);
    emit3(g, IR_MOV, 8, ir_g(X86_RCX), ir_i(1000), ir_none());
    emit(g, IR_LABEL, 0)->a = ir_i(top);
    irq_check(g);
    insn(g);
    emit3(g, IR_ADC, 8, ir_g(X86_RBX), ir_g(X86_RBX), ir_g(X86_RCX));
    insn(g);
    emit3(g, IR_CALL, 8, ir_none(), ir_i(400), ir_none())->fn = helper_attention;
    g->r.ops[g->r.nops - 1].fuse = 0;
    insn(g);
    if (dec)
        emit3(g, IR_DEC, 8, ir_g(X86_RCX), ir_g(X86_RCX), ir_none());
    else
        emit3(g, IR_SUB, 8, ir_g(X86_RCX), ir_g(X86_RCX), ir_i(1));
    insn(g);
    struct ir_op *op = emit(g, IR_BRCC, 0);
    op->cond = IR_CC_NE;
    op->a = ir_i(top);
    emit(g, IR_EXIT_JMP, 0)->a = ir_i((int64_t)g->rip);
}

static void test_loop(void)
{
    static struct snapshot start, want, got;
    setup();
    for (unsigned variant = 0; variant < 4; variant++) {
        struct gen g;
        loop_region(&g, variant & 1);
        if (variant & 2) { /* no interruption */
            for (unsigned i = 0; i < g.r.nops; i++)
                if (g.r.ops[i].opcode == IR_CALL)
                    g.r.ops[i].a = ir_i(5000);
        }
        start.cc = 0x0301;
        put_back(&start);
        atomic_store(&bed.cpu->attention, 0);
        take(&want, interpret(&g.r));
        put_back(&start);
        atomic_store(&bed.cpu->attention, 0);
        ir_optimise(&g.r);
        take(&got, native(&g.r));
        g_assert_cmpint(want.why, ==, variant & 2 ? JIT_LEAVE_LOOKUP : JIT_LEAVE_ATTENTION);
        if (differs(&want, &got, 0)) {
            report(&g.r, &start, &want, &got, 0);
            g_test_fail();
        }
    }
    atomic_store(&bed.cpu->attention, 0);
}

/* Region B, somewhere else in the code area: sets RBX and leaves. Returns its code. */
static uint8_t *other_region(uint64_t rip, int64_t mark)
{
    static struct host_insn_map insns[HOST_MAX_INSNS];
    static struct host_exit exits[HOST_MAX_EXITS];
    struct host_code hc = { .thunks = &bed.thunks, .insns = insns, .exits = exits };
    static struct ir_op ops[8];
    struct gen g;
    start_region(&g, rip);
    g.r.ops = ops;
    insn(&g);
    emit3(&g, IR_MOV, 8, ir_g(X86_RBX), ir_i(mark), ir_none());
    struct ir_op *op = emit(&g, IR_EXIT_LOOP, 0);
    op->a = ir_i(JIT_LEAVE_HALT);
    op->b = ir_i((int64_t)rip + 3);
    g_assert(host_compile(&g.r, bed.code + (1 << 19), 4096, &hc));
    return hc.code + hc.entry_off;
}

static void exit_region(struct gen *g, enum ir_opcode o, int64_t target)
{
    start_region(g, RIP);
    insn(g);
    emit3(g, IR_CMP, 8, ir_none(), ir_g(X86_RAX), ir_i(5));
    if (o == IR_EXIT_STATE) {
        emit3(g, IR_STS, 8, ir_none(), ir_i(target), ir_i((int64_t)offsetof(struct jit_cpu, s.rip)));
        emit(g, o, 0);
    } else if (o == IR_EXIT_IND) {
        emit3(g, IR_MOV, 8, ir_g(X86_R12), ir_i(target), ir_none());
        emit(g, o, 8)->a = ir_g(X86_R12);
    } else {
        emit(g, o, 8)->a = ir_i(target);
    }
}

static void test_exits(void)
{
    static const struct { uint8_t op; int64_t target; } cases[] = {
        { IR_EXIT_JMP, 0x7f1234567890 }, { IR_EXIT_IND, 0x7f1234567890 }, { IR_EXIT_STATE, 0x7f1234567890 },
        { IR_EXIT_IND, (int64_t)0xffffffff81000010 } };
    setup();
    struct jit_cpu *cpu = bed.cpu;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct gen g;
        uint64_t target = (uint64_t)cases[i].target;
        struct jit_jump *slot = &cpu->jumps[jit_jump_index(target)];
        exit_region(&g, cases[i].op, cases[i].target);
        cpu->s.gpr[X86_RBX] = 0;
        slot->key = 0;
        g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_LOOKUP); /* nothing in the cache */
        g_assert_cmphex(cpu->s.rip, ==, target);
        *slot = (struct jit_jump){ .key = target ^ cpu->jump_key, .code = other_region(target, 77) };
        g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_HALT);
        g_assert_cmphex(cpu->s.rip, ==, target + 3);
        g_assert_cmpuint(cpu->s.gpr[X86_RBX], ==, 77);
        cpu->jump_key ^= 1ull << 48; /* another context: not found */
        g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_LOOKUP);
        cpu->jump_key ^= 1ull << 48;
        slot->key = 0;
    }
    struct gen g;
    exit_region(&g, IR_EXIT_JMP, RIP + 0x40);
    g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_LOOKUP);
    g_assert_cmpuint(bed.hc.nexits, ==, 1);
    g_assert_cmpuint((uintptr_t)(bed.hc.code + bed.exits[0].patch_off) & 7, <=, 4);
    host_patch_exit(bed.hc.code, &bed.exits[0], other_region(RIP + 0x40, 78));
    g_assert_cmpint(bed.thunks.enter(cpu, bed.hc.code), ==, JIT_LEAVE_HALT);
    g_assert_cmpuint(cpu->s.gpr[X86_RBX], ==, 78);
    host_patch_exit(bed.hc.code, &bed.exits[0], NULL);
    g_assert_cmpint(bed.thunks.enter(cpu, bed.hc.code), ==, JIT_LEAVE_LOOKUP);
    g_assert_cmphex(cpu->s.rip, ==, RIP + 0x40);
}

/* The same code at two addresses: chained in its page, through the jump cache out of it, rip_base right when it gets there. */
static void test_moving(void)
{
    static const uint64_t bases[] = { 0x400000, 0x7f1234567000, 0x5555000 };
    static const struct { uint8_t op; int64_t to; } cases[] = {
        { IR_EXIT_JMP, 0x40 }, { IR_EXIT_JMP, 0x1040 }, { IR_EXIT_JMP, -0x123456 }, { IR_EXIT_JMP, 0x80001000 }, { IR_EXIT_IND, 0x2345 },
        { IR_EXIT_LOOP, 0x107 } };
    setup();
    struct jit_cpu *cpu = bed.cpu;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct gen g;
        start_region(&g, RIP);
        g.r.mode |= 3 << 2;
        bed.relative = true;
        insn(&g);
        if (cases[i].op == IR_EXIT_IND)
            emit3(&g, IR_MOV, 8, ir_g(X86_R12), ir_p(cases[i].to), ir_none());
        struct ir_op *op = emit(&g, cases[i].op, 8);
        op->a = cases[i].op == IR_EXIT_IND ? ir_g(X86_R12) : ir_p(cases[i].to);
        if (cases[i].op == IR_EXIT_LOOP) {
            op->a = ir_i(JIT_LEAVE_LOOKUP);
            op->b = ir_p(cases[i].to);
        }
        for (unsigned k = 0; k < G_N_ELEMENTS(bases); k++) {
            uint64_t target = bases[k] + (uint64_t)cases[i].to;
            cpu->rip_base = bases[k];
            bed.asked_slot = JIT_JUMPS;
            g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_LOOKUP);
            g_assert_cmphex(cpu->s.rip, ==, target);
            g_assert_cmpuint(bed.hc.nexits, ==, cases[i].to == 0x40);
            if (bed.hc.nexits || cases[i].op == IR_EXIT_LOOP)
                continue;
            unsigned slot = bed.asked_slot < JIT_JUMPS ? bed.asked_slot : jit_jump_index(target);
            cpu->jumps[slot] = (struct jit_jump){ .key = target ^ cpu->jump_key, .code = other_region(0x999000, 77) };
            cpu->rip_base = bases[k];
            g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_HALT);
            g_assert_cmphex(cpu->rip_base, ==, target & ~4095ull);
            cpu->rip_base = bases[k] ^ 0x10000; /* elsewhere the slot is not its */
            g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_LOOKUP);
            g_assert_cmphex(cpu->s.rip, ==, (bases[k] ^ 0x10000) + (uint64_t)cases[i].to);
            cpu->jumps[slot].key = 0;
        }
    }
    uint8_t *via = bed.code + (1 << 18);
    for (unsigned relative = 0; relative < 2; relative++) {
        g_assert_cmpuint(host_make_jump(via, 256, &bed.thunks, 0x678, relative), >, 0);
        cpu->rip_base = bases[1];
        g_assert_cmpint(bed.thunks.enter(cpu, via), ==, JIT_LEAVE_LOOKUP);
        g_assert_cmphex(cpu->s.rip, ==, (relative ? bases[1] : 0) + 0x678);
    }
    bed.relative = false;
}

static struct ir_op *x87(struct gen *g, uint8_t opcode, uint8_t reg, uint8_t rm)
{
    struct ir_op *op = emit(g, IR_HOST, 0);
    op->host = (struct ir_host){ .map = IR_MAP_X87, .opcode = opcode, .reg_kind = IR_HO_FIXED, .reg = reg,
                                 .rm_kind = IR_HO_FIXED, .rm = rm };
    return op;
}

/* fldpi; fst m64; fnstsw ax; fcomip: x87 through both, into memory and registers. */
static void test_x87(void)
{
    static struct snapshot start, want, got;
    struct gen g;
    setup();
    start_region(&g, RIP);
    insn(&g);
    x87(&g, 0xdb, 4, 3); /* fninit */
    x87(&g, 0xd9, 5, 3); /* fldpi */
    x87(&g, 0xd9, 5, 0); /* fld1 */
    struct ir_op *op = x87(&g, 0xdd, 2, 0);
    op->host.rm_kind = IR_HO_MEM;
    op->host.msize = 8;
    op->host.maccess = 2;
    op->mem.disp = MEM_BASE + 3 * 4096 + 8; /* a device page */
    x87(&g, 0xdf, 4, 0)->dst = ir_g(X86_RAX); /* fnstsw ax */
    x87(&g, 0xdf, 4, 0)->dst = ir_g(X86_R13);
    x87(&g, 0xdf, 6, 1)->fdef = X86_FL_ARITH; /* fcomip st, st1 */
    x87(&g, 0xdd, 3, 0); /* fstp st0 */
    emit(&g, IR_EXIT_JMP, 0)->a = ir_i(RIP + 0x40);
    start.gpr[X86_RAX] = start.gpr[X86_R13] = 0x1122334455667788;
    put_back(&start);
    take(&want, interpret(&g.r));
    put_back(&start);
    take(&got, native(&g.r));
    double one;
    memcpy(&one, got.mem + 3 * 4096 + 8, 8);
    g_assert_true(one == 1.0);
    g_assert_cmphex(got.gpr[X86_RAX], ==, 0x1122334455663000); /* TOP = 6 */
    if (differs(&want, &got, 0)) {
        report(&g.r, &start, &want, &got, 0);
        g_test_fail();
    }
}

/* A host instruction that faults in the interpreter's stub is reported, not fatal; in generated code it becomes an exception. */
static void test_host_fault(void)
{
    static uint8_t buf[64] __attribute__((aligned(64)));
    struct ir_op op = { .opcode = IR_HOST, .mem = { .align = 16 } };
    uint64_t args[3] = { 0 };
    struct gen g;
    setup();
    op.host = (struct ir_host){ .map = IR_MAP_0F, .opcode = 0x28, .reg_kind = IR_HO_XMM, .rm_kind = IR_HO_MEM, .msize = 16,
                                .maccess = 1 };
    g_assert_cmpint(host_exec_one(bed.cpu, &op, buf + 1, args), ==, SIGSEGV);
    g_assert_cmpint(host_exec_one(bed.cpu, &op, buf, args), ==, 0);
    tlb_reset(bed.cpu);
    start_region(&g, RIP); /* misaligned and on the slow path: #GP from the thunk */
    insn(&g);
    insn(&g);
    struct ir_op *o = emit(&g, IR_HOST, 0);
    o->host = op.host;
    o->mem.align = 16;
    o->mem.disp = MEM_BASE + 4096 - 8;
    emit(&g, IR_EXIT_JMP, 0)->a = ir_i(RIP + 0x40);
    g_assert_cmpint(native(&g.r), ==, JIT_LEAVE_EXCEPTION);
    g_assert_cmpuint(bed.cpu->exception_vector, ==, X86_GP);
    g_assert_cmphex(bed.cpu->s.rip, ==, RIP + 3);
}

static uint64_t heavy_work(void *self, uint64_t a, uint64_t b, uint64_t c)
{
    volatile double x[16];
    for (unsigned i = 0; i < 16; i++)
        x[i] = (double)i * 1.5 + (double)a;
    g_assert_true(self == &bed);
    g_assert_true(bed.cpu->vec_saved);
    return (uint64_t)(x[0] + x[2]) + b + c; /* a + a + 3 + b + c */
}

static LIGHT uint64_t helper_heavy(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return bed.thunks.heavy(cpu, heavy_work, &bed, a, b, c);
}

static void test_heavy(void)
{
    static struct snapshot start, got;
    struct gen g;
    setup();
    for (unsigned i = 0; i < sizeof(start.vec); i++)
        ((uint8_t *)start.vec)[i] = (uint8_t)(i * 7 + 1);
    put_back(&start);
    start_region(&g, RIP);
    insn(&g);
    struct ir_op *op = emit3(&g, IR_CALL, 8, ir_g(X86_R14), ir_i(10), ir_i(100));
    op->c = ir_i(1000);
    op->fn = helper_heavy;
    emit(&g, IR_EXIT_JMP, 0)->a = ir_i(RIP + 0x40);
    take(&got, native(&g.r));
    g_assert_cmpuint(got.gpr[X86_R14], ==, 1123);
    g_assert_cmpmem(got.vec, sizeof(got.vec), start.vec, sizeof(start.vec));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/jit/host/generated code agrees with the interpreter", test_random);
    g_test_add_func("/jit/host/loops are interrupted with the right state", test_loop);
    g_test_add_func("/jit/host/exits find their targets", test_exits);
    g_test_add_func("/jit/host/code that moves", test_moving);
    g_test_add_func("/jit/host/x87", test_x87);
    g_test_add_func("/jit/host/host faults become exceptions", test_host_fault);
    g_test_add_func("/jit/host/heavy calls keep the vectors", test_heavy);
    return g_test_run();
}
