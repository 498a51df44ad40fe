/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks every opcode of the 0F, 0F38, 0F3A, x87 and BMI maps with every mandatory prefix and compares what the
 * translator makes of it with two judges: capstone (is this a vector instruction, where does it end) and the host
 * itself (which bytes it touches, does it want alignment, does it write, which registers and flags change).
 */
#define x86_insn capstone_x86_insn /* both have one */
#include <capstone/capstone.h>
#undef x86_insn
#include <glib.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "accel/jit/guest-x86/x86_helpers.h"
#include "accel/jit/guest-x86/x86_insn.h"

/* ---- a translator of one instruction ---- */

struct fixture {
    struct ir_op ops[64];
    struct ir_region region;
    int raised; /* vector, or -1 */
    unsigned absent; /* a feature that is not offered; X86_NFEATURES: all are */
};

static struct fixture *fixture_of(struct x86_tr *t)
{
    return (struct fixture *)((char *)t->r - offsetof(struct fixture, region));
}

struct ir_op *x86_tr_emit(struct x86_tr *t, enum ir_opcode opcode, unsigned width)
{
    g_assert_cmpuint(t->r->nops, <, 64);
    struct ir_op *op = &t->r->ops[t->r->nops++];
    memset(op, 0, sizeof *op);
    op->opcode = (uint8_t)opcode;
    op->width = (uint8_t)width;
    return op;
}

unsigned ir_new_temp(struct ir_region *r)
{
    return r->ntemps++;
}

struct ir_mem x86_tr_mem(struct x86_tr *t, unsigned size, unsigned access)
{
    g_assert_cmpuint(t->in->mod, !=, 3);
    return (struct ir_mem){ .base = ir_g((unsigned)t->in->base), .seg = IR_SEG_NONE, .abits = 64 };
}

struct ir_arg x86_tr_linear(struct x86_tr *t, unsigned size, unsigned access)
{
    g_assert_cmpuint(t->in->mod, !=, 3);
    return ir_t(ir_new_temp(t->r));
}

void x86_tr_call(struct x86_tr *t, struct ir_arg dst, uint64_t (*fn)(struct jit_cpu *, uint64_t, uint64_t, uint64_t),
                 unsigned cflags, struct ir_arg a, struct ir_arg b, struct ir_arg c)
{
    x86_tr_emit(t, IR_CALL, 8);
}

void x86_tr_raise(struct x86_tr *t, unsigned vector)
{
    fixture_of(t)->raised = (int)vector;
}

bool x86_tr_has(struct x86_tr *t, enum x86_feature f)
{
    return f != fixture_of(t)->absent;
}

#define HELPER(name) \
    uint64_t x86_h_##name(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c) { return 0; }
HELPER(fnstenv) HELPER(fldenv) HELPER(fnsave) HELPER(frstor) HELPER(fwait_check) HELPER(maskmov)

static bool translate(struct fixture *f, const struct x86_insn *in, uint32_t mode)
{
    struct x86_tr t = { .r = &f->region, .mode = mode, .code = 8, .in = in };
    memset(&f->region, 0, sizeof f->region);
    f->region.ops = f->ops;
    f->raised = -1;
    return x86_translate_vector(&t);
}

#define MODE64 (JIT_MODE_CODE64 | JIT_MODE_PE | JIT_MODE_FLAT | JIT_MODE_SSE)

/* ---- all encodings ---- */

struct encoding { uint8_t code[16]; unsigned len; };
typedef void (*encoding_fn)(const struct encoding *e, void *opaque);

static void each_modrm(struct encoding e, encoding_fn fn, void *opaque)
{
    for (unsigned i = 0; i < 16; i++) { /* reg 0-7; rm: register 1, or [rbx] */
        e.code[e.len] = (uint8_t)((i & 7) << 3 | (i & 8 ? 0xc1 : 0x03));
        fn(&e, opaque);
    }
}

static void each_legacy(encoding_fn fn, void *opaque)
{
    static const uint8_t prefixes[] = { 0, 0x66, 0xf3, 0xf2 }, maps[] = { 0, 0x38, 0x3a };
    for (unsigned n = 0; n < 3 * 4 * 2 * 256; n++) {
        struct encoding e = { 0 };
        uint8_t pfx = prefixes[n >> 9 & 3], map = maps[n >> 11];
        if (pfx)
            e.code[e.len++] = pfx;
        if (n & 256)
            e.code[e.len++] = 0x48;
        e.code[e.len++] = 0x0f;
        if (map)
            e.code[e.len++] = map;
        else if ((n & 0xff) == 0x38 || (n & 0xff) == 0x3a)
            continue;
        e.code[e.len++] = (uint8_t)n;
        each_modrm(e, fn, opaque);
    }
}

static void each_x87(encoding_fn fn, void *opaque)
{
    for (unsigned n = 0; n < 8 * 256; n++) {
        struct encoding e = { .code = { (uint8_t)(0xd8 + (n >> 8)), (uint8_t)n }, .len = 1 };
        if (n % 256 >= 0xc0 || n % 8 == 3) /* registers, or [rbx] */
            if (n % 256 < 0x40 || n % 256 >= 0xc0)
                fn(&e, opaque);
    }
}

static void each_vex(encoding_fn fn, void *opaque)
{
    for (unsigned n = 0; n < 2 * 2 * 4 * 2 * 256; n++) { /* map, vvvv used, pp, W, opcode */
        uint8_t vvvv = n >> 11 & 1 ? 0x68 /* rdx */ : 0x78;
        uint8_t map = (uint8_t)(0xe2 + (n >> 12)), w_vvvv_pp = (uint8_t)((n >> 8 & 1) << 7 | vvvv | (n >> 9 & 3));
        struct encoding e = { .code = { 0xc4, map, w_vvvv_pp, (uint8_t)n }, .len = 4 };
        each_modrm(e, fn, opaque);
    }
}

/* ---- capstone ---- */

struct judge {
    csh cs;
    cs_insn *insn;
    unsigned ours, mismatches;
};

static bool is_vector_reg(unsigned reg)
{
    return (reg >= X86_REG_XMM0 && reg <= X86_REG_XMM15) || (reg >= X86_REG_MM0 && reg <= X86_REG_MM7) ||
           (reg >= X86_REG_ST0 && reg <= X86_REG_ST7);
}

static bool is_avx_reg(unsigned reg)
{
    return reg >= X86_REG_YMM0 && reg <= X86_REG_ZMM31;
}

static bool in_groups(const cs_insn *insn)
{
    static const uint8_t groups[] = { X86_GRP_MMX, X86_GRP_SSE1, X86_GRP_SSE2, X86_GRP_SSE3, X86_GRP_SSSE3,
        X86_GRP_SSE41, X86_GRP_SSE42, X86_GRP_AES, X86_GRP_PCLMUL, X86_GRP_SHA, X86_GRP_BMI, X86_GRP_BMI2,
        X86_GRP_ADX, X86_GRP_FPU };
    for (unsigned i = 0; i < insn->detail->groups_count; i++)
        if (memchr(groups, insn->detail->groups[i], sizeof groups))
            return true;
    return false;
}

/* Does capstone see an instruction that belongs to x86_vector.c? */
static bool capstone_says(const cs_insn *insn)
{
    static const unsigned others[] = { X86_INS_SFENCE, X86_INS_LFENCE, X86_INS_MFENCE, X86_INS_LDMXCSR, X86_INS_STMXCSR,
        X86_INS_FXSAVE, X86_INS_FXSAVE64, X86_INS_FXRSTOR, X86_INS_FXRSTOR64, X86_INS_PREFETCHNTA, X86_INS_PREFETCHT0,
        X86_INS_PREFETCHT1, X86_INS_PREFETCHT2, X86_INS_CLFLUSH, X86_INS_POPCNT, X86_INS_TZCNT, X86_INS_LZCNT,
        X86_INS_PAUSE, X86_INS_MONITOR, X86_INS_MWAIT };
    static const unsigned sse4a[] = { X86_INS_EXTRQ, X86_INS_INSERTQ, X86_INS_MOVNTSS, X86_INS_MOVNTSD };
    const cs_x86 *x86 = &insn->detail->x86;
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        if (insn->id == others[i])
            return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(sse4a); i++)
        if (insn->id == sse4a[i])
            return false;
    bool vex = insn->bytes[0] == 0xc4;
    for (unsigned i = 0; vex && i < x86->op_count; i++)
        if (x86->operands[i].type == X86_OP_REG &&
            (is_vector_reg(x86->operands[i].reg) || is_avx_reg(x86->operands[i].reg)))
            return false; /* AVX */
    if (in_groups(insn) || insn->id == X86_INS_MOVBE || insn->id == X86_INS_CRC32 || insn->id == X86_INS_RDRAND ||
        insn->id == X86_INS_RDSEED || (x86->opcode[0] >= 0xd8 && x86->opcode[0] <= 0xdf))
        return true;
    for (unsigned i = 0; i < x86->op_count; i++)
        if (x86->operands[i].type == X86_OP_REG && is_vector_reg(x86->operands[i].reg))
            return true;
    return false;
}

static void mismatch(struct judge *j, const struct encoding *e, const char *what, const cs_insn *insn)
{
    g_autoptr(GString) hex = g_string_new(NULL);
    for (unsigned i = 0; i <= e->len; i++)
        g_string_append_printf(hex, "%02x ", e->code[i]);
    g_test_message("%s: %s(%s %s)", what, hex->str, insn ? insn->mnemonic : "not known", insn ? insn->op_str : "");
    j->mismatches++;
}

/* Instructions that capstone 4 and 5 lack or print under another name, and processors have. */
static bool capstone_lacks(const struct x86_insn *in)
{
    if (in->map == X86_MAP_ONE)
        return in->mod == 3 && (in->opcode >= 0xd9);
    return (in->map == X86_MAP_0F38 || in->map == X86_MAP_0F3A) && (in->opcode == 0xcf || in->opcode == 0xce);
}

static struct judge judge_new(void)
{
    struct judge j = { 0 };
    g_assert_cmpint(cs_open(CS_ARCH_X86, CS_MODE_64, &j.cs), ==, CS_ERR_OK);
    cs_option(j.cs, CS_OPT_DETAIL, CS_OPT_ON);
    j.insn = cs_malloc(j.cs);
    return j;
}

/* ---- the host ---- */

struct host {
    struct judge j;
    uint8_t *code, *data /* one page; the next is not accessible */, *readonly;
    unsigned probed;
};
struct regs { uint64_t rax, rcx, rdx, rbx, flags; };
static __thread sigjmp_buf fault_jump;
static const int fault_signals[] = { SIGSEGV, SIGILL, SIGBUS };

static void on_fault(int signal)
{
    siglongjmp(fault_jump, signal);
}

/* Runs the instruction with these registers; a signal number, or 0. */
static int run(struct host *h, const struct x86_insn *in, struct regs *r)
{
    memcpy(h->code, in->bytes, in->len);
    h->code[in->len] = 0xc3;
    int signal = sigsetjmp(fault_jump, 1);
    if (signal) {
        __asm__ volatile("fninit");
        return signal;
    }
    register uint64_t flags __asm__("r8") = r->flags;
    register uint8_t *code __asm__("r9") = h->code;
    __asm__ volatile("lea -256(%%rsp), %%rsp\n\tpushq %%r8\n\tpopfq\n\tcall *%%r9\n\tpushfq\n\tpopq %%r8\n\t"
                     "lea 256(%%rsp), %%rsp\n\tfninit"
                     : "+a"(r->rax), "+c"(r->rcx), "+d"(r->rdx), "+b"(r->rbx), "+r"(flags), "+r"(code)
                     :
                     : "memory", "cc", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    r->flags = flags & X86_FL_ARITH;
    return 0;
}

static int run_at(struct host *h, const struct x86_insn *in, uint8_t *address)
{
    struct regs r = { .rax = 0, .rcx = 0, .rdx = 0, .rbx = (uintptr_t)address, .flags = 2 };
    memset(h->data, 0x7f, 4096);
    return run(h, in, &r);
}

static void probe_memory(struct host *h, const struct encoding *e, const struct x86_insn *in, const struct ir_op *op)
{
    unsigned size = op->host.msize;
    uint8_t *end = h->data + 4096;
    int first = run_at(h, in, end - size);
    if (first == SIGILL)
        return; /* not on this host */
    h->probed++;
    if (first)
        mismatch(&h->j, e, "memory operand is larger than the row says", h->j.insn);
    if (!run_at(h, in, end - size + 1))
        mismatch(&h->j, e, "memory operand is smaller than the row says", h->j.insn);
    bool sha = (in->map == X86_MAP_0F38 && in->opcode >= 0xc8 && in->opcode <= 0xcd) || /* differs by vendor */
               (in->map == X86_MAP_0F3A && in->opcode == 0xcc);
    if (!sha && (run_at(h, in, h->data + 1) != 0) != (op->mem.align == 16))
        mismatch(&h->j, e, "alignment", h->j.insn);
    if ((run_at(h, in, h->readonly) != 0) != ((op->host.maccess & 2) != 0))
        mismatch(&h->j, e, "memory access", h->j.insn);
}

/* Register n of the operation is written, as op says? */
static bool op_writes(const struct ir_op *op, unsigned n)
{
    const struct ir_host *x = &op->host;
    return (x->reg_kind == IR_HO_GPR && x->reg_write && op->c.kind == IR_G && op->c.n == n) ||
           (x->rm_kind == IR_HO_GPR && x->rm_write && op->a.kind == IR_G && op->a.n == n) ||
           (x->v_kind == IR_HO_GPR && x->v_write && op->b.kind == IR_G && op->b.n == n) ||
           (op->dst.kind == IR_G && op->dst.n == n);
}

static void probe_registers(struct host *h, const struct encoding *e, const struct x86_insn *in, const struct ir_op *op)
{
    uint64_t all = 0x3333333333333333ull;
    for (unsigned pass = 0; pass < 2; pass++) {
        uint64_t flags = pass ? X86_FL_ARITH : 0;
        struct regs r = { all, all, all, all, flags | 2 };
        if (run(h, in, &r))
            return;
        h->probed++;
        uint64_t values[4] = { r.rax, r.rcx, r.rdx, r.rbx };
        for (unsigned n = 0; n < 4; n++) {
            bool written = op_writes(op, n);
            if (!written && values[n] != all)
                mismatch(&h->j, e, "writes a register that the row does not name", h->j.insn);
            if (written && op->dst.kind == IR_NONE && op->host.gwidth == 4 && values[n] >> 32)
                mismatch(&h->j, e, "register width", h->j.insn);
        }
        if ((r.flags ^ flags) & ~(uint64_t)op->fdef)
            mismatch(&h->j, e, "writes flags that the row does not name", h->j.insn);
    }
}

static void compare_with_host(const struct encoding *e, void *opaque)
{
    struct host *h = opaque;
    struct fixture f = { .absent = X86_NFEATURES };
    struct x86_insn in;
    const uint8_t *code = e->code;
    size_t left = sizeof e->code;
    uint64_t address = 0;
    cs_disasm_iter(h->j.cs, &code, &left, &address, h->j.insn);
    if (x86_decode(e->code, sizeof e->code, 8, &in) != X86_DECODED || !translate(&f, &in, MODE64) || f.raised >= 0)
        return;
    if (f.region.nops != 1 || f.ops[0].opcode != IR_HOST)
        return;
    const struct ir_op *op = &f.ops[0];
    if (op->host.reg_kind != IR_HO_FIXED && in.reg > 2)
        return; /* rsp, rbp and rbx belong to the test */
    if (op->host.rm_kind == IR_HO_MEM)
        probe_memory(h, e, &in, op);
    else
        probe_registers(h, e, &in, op);
}

static struct host host_open(struct sigaction *old)
{
    struct host h = { .j = judge_new() };
    struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
    h.code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    h.data = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    h.readonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(h.code != MAP_FAILED && h.data != MAP_FAILED && h.readonly != MAP_FAILED);
    g_assert_cmpint(mprotect(h.data + 4096, 4096, PROT_NONE), ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_signals); i++)
        sigaction(fault_signals[i], &action, &old[i]);
    return h;
}

static void host_close(struct host *h, const struct sigaction *old)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(fault_signals); i++)
        sigaction(fault_signals[i], &old[i], NULL);
    cs_free(h->j.insn, 1);
    cs_close(&h->j.cs);
    munmap(h->code, 4096);
    munmap(h->data, 8192);
    munmap(h->readonly, 4096);
}

static void test_host(void)
{
    struct sigaction old[G_N_ELEMENTS(fault_signals)];
    struct host h = host_open(old);
    each_legacy(compare_with_host, &h);
    each_x87(compare_with_host, &h);
    each_vex(compare_with_host, &h);
    host_close(&h, old);
    g_test_message("%u runs on the host", h.probed);
    g_assert_cmpuint(h.probed, >, 2000);
    g_assert_cmpuint(h.j.mismatches, ==, 0);
}

/* ---- capstone and the host, of instructions that are not translated ---- */

/* Capstone ignores prefixes that make an encoding undefined: what we do not translate must raise #UD on the host.
 * (Instructions that write general registers are tried with the harmless ones only.) */
static bool host_runs(struct host *h, const cs_insn *insn, const struct x86_insn *in)
{
    const cs_x86 *x86 = &insn->detail->x86;
    if (in->reg > 2)
        for (unsigned i = 0; i < x86->op_count; i++)
            if (x86->operands[i].type == X86_OP_REG && !is_vector_reg(x86->operands[i].reg))
                return false;
    return run_at(h, in, h->data + 256) != SIGILL;
}

static void compare_with_capstone(const struct encoding *e, void *opaque)
{
    struct host *h = opaque;
    struct judge *j = &h->j;
    struct fixture f = { .absent = X86_NFEATURES };
    struct x86_insn in;
    const uint8_t *code = e->code;
    size_t left = sizeof e->code;
    uint64_t address = 0;
    bool known = cs_disasm_iter(j->cs, &code, &left, &address, j->insn);
    bool theirs = known && capstone_says(j->insn);
    bool decoded = x86_decode(e->code, sizeof e->code, 8, &in) == X86_DECODED;
    bool ours = decoded && translate(&f, &in, MODE64) && f.raised < 0;

    if (ours && !theirs && !capstone_lacks(&in))
        mismatch(j, e, "translated, but not a vector instruction", known ? j->insn : NULL);
    if (theirs && !ours && decoded && host_runs(h, j->insn, &in))
        mismatch(j, e, "not translated", j->insn);
    if (!ours)
        return;
    j->ours++;
    if (theirs && in.len != j->insn->size)
        mismatch(j, e, "length", j->insn);
}

static void test_capstone(void)
{
    struct sigaction old[G_N_ELEMENTS(fault_signals)];
    struct host h = host_open(old);
    each_legacy(compare_with_capstone, &h);
    each_x87(compare_with_capstone, &h);
    each_vex(compare_with_capstone, &h);
    host_close(&h, old);
    g_test_message("%u encodings translated", h.j.ours);
    g_assert_cmpuint(h.j.ours, >, 3000);
    g_assert_cmpuint(h.j.mismatches, ==, 0);
}

/* ---- when an instruction may not run ---- */

static void test_exceptions(void)
{
    static const struct { const char *what; uint8_t code[8]; unsigned feature; uint32_t mode; int vector; } cases[] = {
        { "addps", { 0x0f, 0x58, 0xc1 }, X86_NFEATURES, MODE64, -1 },
        { "addps, SSE not offered", { 0x0f, 0x58, 0xc1 }, X86_FEAT_SSE, MODE64, X86_UD },
        { "addps, CR4.OSFXSR = 0", { 0x0f, 0x58, 0xc1 }, X86_NFEATURES, MODE64 & ~JIT_MODE_SSE, X86_UD },
        { "addps, CR0.EM", { 0x0f, 0x58, 0xc1 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_EM, X86_UD },
        { "addps, CR0.TS", { 0x0f, 0x58, 0xc1 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM, X86_NM },
        { "lock addps", { 0xf0, 0x0f, 0x58, 0xc1 }, X86_NFEATURES, MODE64, X86_UD },
        { "paddb mm, CR4.OSFXSR = 0", { 0x0f, 0xfc, 0xc1 }, X86_NFEATURES, MODE64 & ~JIT_MODE_SSE, -1 },
        { "paddb mm, CR0.EM", { 0x0f, 0xfc, 0xc1 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_EM, X86_UD },
        { "paddb mm, CR0.TS", { 0x0f, 0xfc, 0xc1 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM, X86_NM },
        { "emms, CR0.TS", { 0x0f, 0x77 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM, X86_NM },
        { "cvtpi2ps, CR4.OSFXSR = 0", { 0x0f, 0x2a, 0xc1 }, X86_NFEATURES, MODE64 & ~JIT_MODE_SSE, X86_UD },
        { "movnti, CR0.TS", { 0x0f, 0xc3, 0x03 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM | JIT_MODE_FPU_EM, -1 },
        { "fld1", { 0xd9, 0xe8 }, X86_NFEATURES, MODE64, -1 },
        { "fld1, CR0.TS", { 0xd9, 0xe8 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM, X86_NM },
        { "fld1, CR0.EM", { 0xd9, 0xe8 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_EM, X86_NM },
        { "d9 d1", { 0xd9, 0xd1 }, X86_NFEATURES, MODE64, X86_UD },
        { "fisttp, no SSE3", { 0xdd, 0x0b }, X86_FEAT_SSE3, MODE64, X86_UD },
        { "fwait", { 0x9b }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM, -1 },
        { "andn", { 0xc4, 0xe2, 0x68, 0xf2, 0xc1 }, X86_NFEATURES, MODE64, -1 },
        { "andn, VEX.L", { 0xc4, 0xe2, 0x6c, 0xf2, 0xc1 }, X86_NFEATURES, MODE64, X86_UD },
        { "andn, no BMI1", { 0xc4, 0xe2, 0x68, 0xf2, 0xc1 }, X86_FEAT_BMI1, MODE64, X86_UD },
        { "rorx with vvvv", { 0xc4, 0xe3, 0x6b, 0xf0, 0xc1, 1 }, X86_NFEATURES, MODE64, X86_UD },
        { "crc32, CR0.TS", { 0xf2, 0x0f, 0x38, 0xf1, 0xc1 }, X86_NFEATURES, MODE64 | JIT_MODE_FPU_NM, -1 },
        { "rdrand", { 0x0f, 0xc7, 0xf1 }, X86_FEAT_RDRAND, MODE64, X86_UD },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct fixture f = { .absent = cases[i].feature };
        struct x86_insn in;
        g_assert_cmpint(x86_decode(cases[i].code, sizeof cases[i].code, 8, &in), ==, X86_DECODED);
        g_assert_true(translate(&f, &in, cases[i].mode));
        if (f.raised != cases[i].vector)
            g_error("%s: raises %d, not %d", cases[i].what, f.raised, cases[i].vector);
        g_assert_true((f.region.nops == 0) == (cases[i].vector >= 0));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86_vector/capstone", test_capstone);
    g_test_add_func("/x86_vector/host", test_host);
    g_test_add_func("/x86_vector/exceptions", test_exceptions);
    return g_test_run();
}
