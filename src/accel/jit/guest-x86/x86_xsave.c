/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FXSAVE, XSAVE and FNSAVE families. SDM vol. 1, 10.5, 13.4 to 13.10, 8.1.10. The guest's x87 state is in the host's unit, and
 * its XMM registers and MXCSR in the host's while generated code is on the stack (else in jit_cpu.vec): the host's own
 * instructions fetch and load them. Light code. Instruction and operand pointers are saved as zero. Components are
 * always reported in use (XINUSE), as the architecture allows.
 */
#include "accel/jit/guest-x86/x86_helpers.h"

enum {
    AT_FCW = 0, AT_FOP = 6, AT_FIP = 8, AT_MXCSR = 24, AT_MXCSR_MASK = 28, AT_ST = 32, AT_XMM = 160, AT_XMM8 = 288, AT_END = 416,
    AT_HEADER = 512, XSAVE_SIZE = 576,
};
#define MXCSR_KNOWN 0xffffu
#define MXCSR_RESET 0x1f80u
#define COMPACT (1ull << 63)
enum { X87 = 1, SSE = 2 };

struct image {
    _Alignas(64) uint8_t b[512];
};

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    jit_copy(&v, p, sizeof(v));
    return v;
}

static void put32(uint8_t *p, uint32_t v)
{
    jit_copy(p, &v, sizeof(v));
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* Are the guest's vector registers in the host's? */
static bool vectors_live(const struct jit_cpu *cpu)
{
    return cpu->in_code && !cpu->vec_saved;
}

static unsigned mmu_of(const struct jit_cpu *cpu)
{
    return JIT_MODE_MMU(cpu->mode);
}

/* Bytes of the legacy area that this mode has: XMM8-15 only in 64-bit code. */
static unsigned legacy_size(const struct jit_cpu *cpu)
{
    return JIT_MODE_CODE(cpu->mode) == JIT_MODE_CODE64 ? AT_END : AT_XMM8;
}

static void current(struct jit_cpu *cpu, struct image *m)
{
    __asm__ volatile("fxsave64 %0" : "=m"(*m) : : "memory");
    if (!vectors_live(cpu)) {
        jit_copy(m->b + AT_XMM, cpu->vec, sizeof(cpu->vec));
        put32(m->b + AT_MXCSR, cpu->mxcsr);
    }
    jit_zero(m->b + AT_FOP, AT_MXCSR - AT_FOP);
    put32(m->b + AT_MXCSR_MASK, MXCSR_KNOWN);
}

/* Makes m the guest's state; MXCSR has been checked. */
static void load(struct jit_cpu *cpu, struct image *m)
{
    if (!vectors_live(cpu)) {
        struct image host;

        jit_copy(cpu->vec, m->b + AT_XMM, sizeof(cpu->vec));
        cpu->mxcsr = get32(m->b + AT_MXCSR);
        __asm__ volatile("fxsave64 %0" : "=m"(host) : : "memory");
        jit_copy(m->b + AT_XMM, host.b + AT_XMM, sizeof(cpu->vec));
        jit_copy(m->b + AT_MXCSR, host.b + AT_MXCSR, 8);
    }
    __asm__ volatile("fxrstor64 %0" : : "m"(*m) : "memory");
}

static void reset_x87(struct image *m)
{
    jit_zero(m->b, AT_MXCSR);
    jit_zero(m->b + AT_ST, AT_XMM - AT_ST);
    m->b[AT_FCW] = 0x7f;
    m->b[AT_FCW + 1] = 0x03;
}

static void check_mxcsr(struct jit_cpu *cpu, uint32_t v)
{
    if (v & ~MXCSR_KNOWN) {
        jit_raise(cpu, X86_GP, true, 0);
    }
}

static void check_aligned(struct jit_cpu *cpu, uint64_t lin, unsigned align)
{
    if (lin & (align - 1)) {
        jit_raise(cpu, X86_GP, true, 0);
    }
}

/* ---- FXSAVE, FXRSTOR ---- */

static void fx_checks(struct jit_cpu *cpu, uint64_t lin)
{
    if (cpu->s.cr0 & (X86_CR0_EM | X86_CR0_TS)) {
        jit_raise(cpu, X86_NM, false, 0);
    }
    check_aligned(cpu, lin, 16);
}

uint64_t x86_h_fxsave(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct image m;

    fx_checks(cpu, a);
    current(cpu, &m);
    jit_store_bytes(cpu, a, m.b, legacy_size(cpu), mmu_of(cpu));
    return 0;
}

uint64_t x86_h_fxrstor(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct image m, from;

    fx_checks(cpu, a);
    jit_load_bytes(cpu, a, from.b, AT_END, mmu_of(cpu));
    check_mxcsr(cpu, get32(from.b + AT_MXCSR));
    current(cpu, &m);
    jit_copy(m.b, from.b, AT_MXCSR_MASK);
    jit_copy(m.b + AT_ST, from.b + AT_ST, legacy_size(cpu) - AT_ST);
    jit_zero(m.b + AT_FOP, AT_MXCSR - AT_FOP);
    load(cpu, &m);
    return 0;
}

/* ---- XSAVE, XRSTOR ---- */

static void xsave_checks(struct jit_cpu *cpu)
{
    if (!(cpu->s.cr4 & X86_CR4_OSXSAVE)) {
        jit_raise(cpu, X86_UD, false, 0);
    }
    if (cpu->s.cr0 & X86_CR0_TS) {
        jit_raise(cpu, X86_NM, false, 0);
    }
}

static uint64_t requested(const struct jit_cpu *cpu)
{
    return ((uint32_t)cpu->s.gpr[X86_RAX] | cpu->s.gpr[X86_RDX] << 32) & cpu->s.xcr0;
}

static void store_components(struct jit_cpu *cpu, uint64_t lin, const struct image *m, uint64_t rfbm)
{
    unsigned mmu = mmu_of(cpu), end = legacy_size(cpu);

    if (rfbm == (X87 | SSE)) {
        jit_store_bytes(cpu, lin, m->b, end, mmu);
        return;
    }
    if (rfbm & X87) {
        jit_store_bytes(cpu, lin, m->b, AT_MXCSR, mmu);
        jit_store_bytes(cpu, lin + AT_ST, m->b + AT_ST, AT_XMM - AT_ST, mmu);
    }
    if (rfbm & SSE) {
        jit_store_bytes(cpu, lin + AT_MXCSR, m->b + AT_MXCSR, 8, mmu);
        jit_store_bytes(cpu, lin + AT_XMM, m->b + AT_XMM, end - AT_XMM, mmu);
    }
}

uint64_t x86_h_xsave(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t rfbm = requested(cpu), bv;
    unsigned mmu = mmu_of(cpu);
    struct image m;

    xsave_checks(cpu);
    check_aligned(cpu, a, 64);
    jit_probe(cpu, a, XSAVE_SIZE, JIT_ACC_WRITE, mmu);
    current(cpu, &m);
    store_components(cpu, a, &m, rfbm);
    if (b == 2) { /* XSAVEC */
        jit_store(cpu, a + AT_HEADER, 8, mmu, rfbm);
        jit_store(cpu, a + AT_HEADER + 8, 8, mmu, rfbm | COMPACT);
        return 0;
    }
    bv = jit_load(cpu, a + AT_HEADER, 8, mmu);
    jit_store(cpu, a + AT_HEADER, 8, mmu, bv | rfbm);
    return 0;
}

/* SDM vol. 1, 13.8.1 and 13.8.2: what makes XRSTOR fail. */
static bool header_ok(const struct jit_cpu *cpu, const uint8_t *header)
{
    uint64_t bv = get64(header), comp = get64(header + 8), rest = 0;
    unsigned zero_to = comp & COMPACT ? 64 : 24;

    for (unsigned i = 16; i < zero_to; i += 8) {
        rest |= get64(header + i);
    }
    if (rest || (bv & ~cpu->s.xcr0)) {
        return false;
    }
    if (!(comp & COMPACT)) {
        return !comp;
    }
    return x86_model_has(cpu->model, X86_FEAT_XSAVEC) && !(comp & ~COMPACT & ~cpu->s.xcr0) && !(bv & ~comp);
}

static void take_sse(struct jit_cpu *cpu, struct image *m, const struct image *from, bool present)
{
    unsigned size = legacy_size(cpu) - AT_XMM;

    if (present) {
        jit_copy(m->b + AT_XMM, from->b + AT_XMM, size);
    } else {
        jit_zero(m->b + AT_XMM, size);
    }
}

uint64_t x86_h_xrstor(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t rfbm = requested(cpu), bv;
    uint32_t mxcsr = MXCSR_RESET;
    uint8_t header[64];
    struct image m, from;

    xsave_checks(cpu);
    check_aligned(cpu, a, 64);
    jit_probe(cpu, a, 1, JIT_ACC_READ, mmu_of(cpu)); /* a fault names the first byte, though the header is read first */
    jit_load_bytes(cpu, a + AT_HEADER, header, sizeof(header), mmu_of(cpu));
    jit_load_bytes(cpu, a, from.b, AT_END, mmu_of(cpu));
    if (!header_ok(cpu, header)) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    bv = get64(header);
    /* In the standard form MXCSR is loaded whenever SSE is asked for (13.8.1). */
    if ((bv & SSE) || !(get64(header + 8) & COMPACT)) {
        mxcsr = get32(from.b + AT_MXCSR);
    }
    if (rfbm & SSE) {
        check_mxcsr(cpu, mxcsr);
    }
    current(cpu, &m);
    if ((rfbm & X87) && (bv & X87)) {
        jit_copy(m.b, from.b, AT_FOP);
        jit_copy(m.b + AT_ST, from.b + AT_ST, AT_XMM - AT_ST);
    } else if (rfbm & X87) {
        reset_x87(&m);
    }
    if (rfbm & SSE) {
        put32(m.b + AT_MXCSR, mxcsr);
        take_sse(cpu, &m, &from, bv & SSE);
    }
    load(cpu, &m);
    return 0;
}

static void set_edx_eax(struct jit_cpu *cpu, uint64_t v)
{
    cpu->s.gpr[X86_RAX] = (uint32_t)v;
    cpu->s.gpr[X86_RDX] = v >> 32;
}

uint64_t x86_h_xgetbv(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t index = (uint32_t)cpu->s.gpr[X86_RCX];

    if (!(cpu->s.cr4 & X86_CR4_OSXSAVE)) {
        jit_raise(cpu, X86_UD, false, 0);
    }
    /* XCR1 does not exist, reading it gives the components in use: all */
    if (index > 1 || (index == 1 && !x86_model_has(cpu->model, X86_FEAT_XGETBV1))) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    set_edx_eax(cpu, cpu->s.xcr0);
    return 0;
}

uint64_t x86_h_xsetbv(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t v = (uint32_t)cpu->s.gpr[X86_RAX] | cpu->s.gpr[X86_RDX] << 32;

    if (!(cpu->s.cr4 & X86_CR4_OSXSAVE)) {
        jit_raise(cpu, X86_UD, false, 0);
    }
    if (x86_cpl(cpu) != 0 || (uint32_t)cpu->s.gpr[X86_RCX] || (v != X87 && v != (X87 | SSE))) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    cpu->s.xcr0 = v;
    return 0;
}

/* ---- FNSTENV, FNSAVE and back: the environment as the host stores it has seven doublewords ---- */

struct x87_env {
    uint16_t fcw, pad0, fsw, pad1, ftw, pad2;
    uint32_t fip;
    uint16_t fcs, fop;
    uint32_t fdp;
    uint16_t fds, pad3;
};
struct x87_save {
    struct x87_env env;
    uint8_t st[80];
};

static unsigned env_size(uint64_t c)
{
    return (c & 0xff) == 2 ? 14 : 28;
}

/* The guest's form of env, 14 or 28 bytes; pointers are zero in every mode. */
static void env_out(const struct x87_env *env, uint64_t c, uint8_t *ret)
{
    uint16_t words[14];
    unsigned step = (c & 0xff) == 2 ? 1 : 2;

    for (unsigned i = 0; i < 14; i++) {
        /* upper halves are reserved and stored as ones, except where a 32-bit pointer stands */
        words[i] = step == 2 && (i & 1) && i != 7 && i != 9 && i != 11 ? 0xffff : 0;
    }
    words[0] = env->fcw;
    words[step] = env->fsw;
    words[2 * step] = env->ftw;
    jit_copy(ret, words, env_size(c));
}

static void env_in(const uint8_t *from, uint64_t c, struct x87_env *ret)
{
    unsigned step = (c & 0xff) == 2 ? 2 : 4;

    jit_zero(ret, sizeof(*ret));
    jit_copy(&ret->fcw, from, 2);
    jit_copy(&ret->fsw, from + step, 2);
    jit_copy(&ret->ftw, from + 2 * step, 2);
    ret->pad0 = ret->pad1 = ret->pad2 = ret->pad3 = 0xffff;
}

uint64_t x86_h_fnstenv(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint8_t out[28];
    struct x87_env env;

    jit_probe(cpu, a, env_size(c), JIT_ACC_WRITE, mmu_of(cpu));
    __asm__ volatile("fnstenv %0" : "=m"(env) : : "memory"); /* masks all exceptions, as the guest's does */
    env_out(&env, c, out);
    jit_store_bytes(cpu, a, out, env_size(c), mmu_of(cpu));
    return 0;
}

uint64_t x86_h_fldenv(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint8_t in[28];
    struct x87_env env;

    jit_load_bytes(cpu, a, in, env_size(c), mmu_of(cpu));
    env_in(in, c, &env);
    __asm__ volatile("fldenv %0" : : "m"(env) : "memory");
    return 0;
}

uint64_t x86_h_fnsave(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned size = env_size(c);
    uint8_t out[28 + 80];
    struct x87_save save;

    jit_probe(cpu, a, size + 80, JIT_ACC_WRITE, mmu_of(cpu));
    __asm__ volatile("fnsave %0" : "=m"(save) : : "memory"); /* and FNINIT, as the guest's does */
    env_out(&save.env, c, out);
    jit_copy(out + size, save.st, sizeof(save.st));
    jit_store_bytes(cpu, a, out, size + 80, mmu_of(cpu));
    return 0;
}

uint64_t x86_h_frstor(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned size = env_size(c);
    uint8_t in[28 + 80];
    struct x87_save save;

    jit_load_bytes(cpu, a, in, size + 80, mmu_of(cpu));
    env_in(in, c, &save.env);
    jit_copy(save.st, in + size, sizeof(save.st));
    __asm__ volatile("frstor %0" : : "m"(save) : "memory");
    return 0;
}
