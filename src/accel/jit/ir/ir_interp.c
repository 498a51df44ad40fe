/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The portable interpreter: what each operation means, in C, over struct jit_cpu. The oracle of the differential tests and
 * the fallback where there is no back end. Flags that the architecture leaves undefined may differ from the host's.
 */
#include "accel/jit/ir/ir.h"

#include <string.h>

#include "accel/jit/engine/jit_cpu.h"
#include "accel/jit/host-x86_64/host.h"

#define CF X86_FL_CF
#define PF X86_FL_PF
#define AF X86_FL_AF
#define ZF X86_FL_ZF
#define SF X86_FL_SF
#define OF X86_FL_OF

struct interp {
    struct jit_cpu *cpu;
    const struct ir_region *r;
    uint64_t t[IR_MAX_TEMPS];
    unsigned labels[IR_MAX_LABELS];
};

static uint64_t mask_of(unsigned w) { return w >= 8 ? UINT64_MAX : ((uint64_t)1 << (8 * w)) - 1; }
static uint64_t sign_of(unsigned w) { return (uint64_t)1 << (8 * w - 1); }
static int64_t sext(uint64_t v, unsigned w)
{
    unsigned s = 64 - 8 * w;
    return (int64_t)(v << s) >> s;
}

static unsigned flags_get(const struct jit_cpu *cpu)
{
    return (cpu->cc >> 8 & 0xd5u) | (cpu->cc & 1u ? OF : 0);
}

static void flags_set(struct jit_cpu *cpu, unsigned which, unsigned f)
{
    jit_set_arith(cpu, (flags_get(cpu) & ~which) | (f & which));
}

static unsigned flags_szp(uint64_t v, unsigned w)
{
    v &= mask_of(w);
    return (v ? 0 : ZF) | (v & sign_of(w) ? SF : 0) | (__builtin_parity((unsigned)(v & 0xff)) ? 0 : PF);
}

static bool holds(unsigned f, unsigned cond)
{
    bool less = !(f & SF) != !(f & OF), r;
    switch (cond >> 1) {
    case 0: r = f & OF; break;
    case 1: r = f & CF; break;
    case 2: r = f & ZF; break;
    case 3: r = f & (CF | ZF); break;
    case 4: r = f & SF; break;
    case 5: r = f & PF; break;
    case 6: r = less; break;
    default: r = less || (f & ZF); break;
    }
    return r != (cond & 1);
}

/* ---- operands ---- */

static uint64_t value(const struct interp *x, const struct ir_arg *a)
{
    switch (a->kind) {
    case IR_G: return x->cpu->s.gpr[a->n & 15];
    case IR_T: return x->t[a->n];
    case IR_I: return (uint64_t)a->imm;
    case IR_P: return x->cpu->rip_base + (uint64_t)a->imm;
    default: return 0;
    }
}

static uint64_t address(const struct interp *x, const struct ir_mem *m)
{
    uint64_t v = value(x, &m->base) + (value(x, &m->index) << m->scale) + (uint64_t)m->disp;
    v &= mask_of(m->abits / 8);
    if (m->seg < X86_NSEG) {
        v += x->cpu->seg_base[m->seg];
        if (m->abits < 64)
            v = (uint32_t)v;
    }
    return v;
}

static void *host_address(struct interp *x, const struct ir_op *op, unsigned size, unsigned kind)
{
    uint64_t gva = address(x, &op->mem);
    if (op->mem.align == 16 && (gva & 15))
        jit_raise(x->cpu, X86_GP, true, 0);
    return jit_mem_slow(x->cpu, gva, JIT_ACC(size, kind, JIT_MODE_MMU(x->r->mode)));
}

static void commit(struct interp *x)
{
    if (x->cpu->bounce_desc)
        jit_mem_commit(x->cpu);
}

static uint64_t load(const void *p, unsigned w)
{
    switch (w) {
    case 1: return __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
    case 2: return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
    case 4: return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
    default: return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
    }
}

static void store(void *p, unsigned w, uint64_t v)
{
    switch (w) {
    case 1: __atomic_store_n((uint8_t *)p, (uint8_t)v, __ATOMIC_RELEASE); break;
    case 2: __atomic_store_n((uint16_t *)p, (uint16_t)v, __ATOMIC_RELEASE); break;
    case 4: __atomic_store_n((uint32_t *)p, (uint32_t)v, __ATOMIC_RELEASE); break;
    default: __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE); break;
    }
}

/* *p = new if it still is old; false: it changed. */
static bool cas(void *p, unsigned w, uint64_t old, uint64_t new_value)
{
    uint8_t o1 = (uint8_t)old;
    uint16_t o2 = (uint16_t)old;
    uint32_t o4 = (uint32_t)old;
    switch (w) {
    case 1: return __atomic_compare_exchange_n((uint8_t *)p, &o1, (uint8_t)new_value, false, __ATOMIC_SEQ_CST,
                                                __ATOMIC_SEQ_CST);
    case 2: return __atomic_compare_exchange_n((uint16_t *)p, &o2, (uint16_t)new_value, false, __ATOMIC_SEQ_CST,
                                                __ATOMIC_SEQ_CST);
    case 4: return __atomic_compare_exchange_n((uint32_t *)p, &o4, (uint32_t)new_value, false, __ATOMIC_SEQ_CST,
                                                __ATOMIC_SEQ_CST);
    default: return __atomic_compare_exchange_n((uint64_t *)p, &old, new_value, false, __ATOMIC_SEQ_CST,
                                                __ATOMIC_SEQ_CST);
    }
}

static void set(struct interp *x, const struct ir_arg *dst, unsigned w, uint64_t v)
{
    uint64_t m = mask_of(w);
    if (dst->kind == IR_T)
        x->t[dst->n] = v & m;
    else if (dst->kind == IR_G)
        x->cpu->s.gpr[dst->n & 15] = w >= 4 ? v & m : (x->cpu->s.gpr[dst->n & 15] & ~m) | (v & m);
}

/* A source at width: from memory when it is M. */
static uint64_t get(struct interp *x, const struct ir_op *op, const struct ir_arg *a, unsigned w)
{
    if (a->kind == IR_M)
        return load(host_address(x, op, w, JIT_ACC_READ), w);
    return value(x, a) & mask_of(w);
}

/* ---- arithmetic: result, flags into *f (all that the operation defines) ---- */

static uint64_t add_flags(uint64_t a, uint64_t b, unsigned carry, unsigned w, unsigned *f)
{
    uint64_t m = mask_of(w), r = (a + b + carry) & m;
    uint64_t out = ((a & b) | ((a | b) & ~r)) & sign_of(w);
    *f = flags_szp(r, w) | (out ? CF : 0) | ((a ^ b ^ r) & 0x10 ? AF : 0) | ((~(a ^ b) & (a ^ r)) & sign_of(w) ? OF : 0);
    return r;
}

static uint64_t sub_flags(uint64_t a, uint64_t b, unsigned borrow, unsigned w, unsigned *f)
{
    uint64_t m = mask_of(w), r = (a - b - borrow) & m;
    uint64_t out = ((~a & b) | ((~a | b) & r)) & sign_of(w);
    *f = flags_szp(r, w) | (out ? CF : 0) | ((a ^ b ^ r) & 0x10 ? AF : 0) | (((a ^ b) & (a ^ r)) & sign_of(w) ? OF : 0);
    return r;
}

static uint64_t shift(unsigned opcode, uint64_t a, unsigned n, unsigned w, unsigned *f)
{
    unsigned bits = 8 * w, old = *f;
    uint64_t m = mask_of(w), r = a, cf = 0;
    n &= w == 8 ? 63 : 31;
    if (!n)
        return a;
    switch (opcode) {
    case IR_SHL:
        r = n >= bits ? 0 : (a << n) & m;
        cf = n <= bits ? a >> (bits - n) & 1 : 0;
        *f = flags_szp(r, w) | (cf ? CF : 0) | (!(r & sign_of(w)) != !cf ? OF : 0);
        return r;
    case IR_SHR:
        r = n >= bits ? 0 : a >> n;
        cf = n <= bits ? a >> (n - 1) & 1 : 0;
        *f = flags_szp(r, w) | (cf ? CF : 0) | (a & sign_of(w) ? OF : 0);
        return r;
    case IR_SAR: {
        int64_t s = sext(a, w);
        r = (uint64_t)(s >> (n > 63 ? 63 : n)) & m;
        cf = (uint64_t)(s >> (n - 1)) & 1;
        *f = flags_szp(r, w) | (cf ? CF : 0);
        return r;
    }
    case IR_ROL: case IR_ROR: {
        unsigned k = n % bits;
        if (opcode == IR_ROR)
            k = (bits - k) % bits;
        r = k ? (a << k | a >> (bits - k)) & m : a;
        bool top = r & sign_of(w);
        if (opcode == IR_ROL)
            *f = (old & ~(CF | OF)) | (r & 1 ? CF : 0) | (top != (bool)(r & 1) ? OF : 0);
        else
            *f = (old & ~(CF | OF)) | (top ? CF : 0) | (top != (bool)(r & sign_of(w) >> 1) ? OF : 0);
        return r;
    }
    default: { /* RCL RCR: through the carry, bit by bit */
        unsigned c = old & CF ? 1 : 0, of;
        n %= bits + 1;
        bool top = a & sign_of(w);
        of = opcode == IR_RCR ? top != (bool)c : 0;
        for (unsigned i = 0; i < n; i++) {
            unsigned out = opcode == IR_RCL ? (r & sign_of(w)) != 0 : r & 1;
            r = opcode == IR_RCL ? ((r << 1) | c) & m : r >> 1 | (c ? sign_of(w) : 0);
            c = out;
        }
        if (opcode == IR_RCL)
            of = (bool)(r & sign_of(w)) != (bool)c;
        else
            of = (bool)(r & sign_of(w)) != (bool)(r & sign_of(w) >> 1);
        *f = n ? (old & ~(CF | OF)) | (c ? CF : 0) | (of ? OF : 0) : old;
        return r;
    }
    }
}

static uint64_t shift_double(bool left, uint64_t a, uint64_t fill, unsigned n, unsigned w, unsigned *f)
{
    unsigned bits = 8 * w;
    uint64_t r, cf;
    n &= w == 8 ? 63 : 31;
    if (!n)
        return a;
    if (w == 2 && n > 16) { /* undefined by the architecture */
        *f = 0;
        return a;
    }
    if (left) {
        r = n == bits ? fill : a << n | fill >> (bits - n);
        cf = a >> (bits - n) & 1;
    } else {
        r = n == bits ? fill : a >> n | fill << (bits - n);
        cf = a >> (n - 1) & 1;
    }
    r &= mask_of(w);
    *f = flags_szp(r, w) | (cf ? CF : 0) | ((a ^ r) & sign_of(w) ? OF : 0);
    return r;
}

static uint64_t imul(uint64_t a, uint64_t b, unsigned w, unsigned *f)
{
    __int128 p = (__int128)sext(a, w) * sext(b, w);
    uint64_t r = (uint64_t)p & mask_of(w);
    *f = flags_szp(r, w) | (p != sext(r, w) ? CF | OF : 0);
    return r;
}

/* dst = op(a, b) for everything that has that form; f holds the flags before and after. */
static uint64_t compute(const struct ir_op *op, uint64_t a, uint64_t b, uint64_t c, unsigned *f)
{
    unsigned w = op->width, carry = *f & CF ? 1 : 0;
    uint64_t r, bit;
    switch (op->opcode) {
    case IR_ADD: return add_flags(a, b, 0, w, f);
    case IR_ADC: return add_flags(a, b, carry, w, f);
    case IR_SUB: case IR_CMP: return sub_flags(a, b, 0, w, f);
    case IR_SBB: return sub_flags(a, b, carry, w, f);
    case IR_AND: case IR_TEST: r = a & b; *f = flags_szp(r, w); return r;
    case IR_OR: r = a | b; *f = flags_szp(r, w); return r;
    case IR_XOR: r = a ^ b; *f = flags_szp(r, w); return r;
    case IR_INC: return add_flags(a, 1, 0, w, f);
    case IR_DEC: return sub_flags(a, 1, 0, w, f);
    case IR_NEG: return sub_flags(0, a, 0, w, f);
    case IR_NOT: return ~a & mask_of(w);
    case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROL: case IR_ROR: case IR_RCL: case IR_RCR:
        return shift(op->opcode, a, (unsigned)b, w, f);
    case IR_SHLD: case IR_SHRD: return shift_double(op->opcode == IR_SHLD, a, b, (unsigned)c, w, f);
    case IR_IMUL: return imul(a, b, w, f);
    case IR_BT: case IR_BTS: case IR_BTR: case IR_BTC:
        bit = (uint64_t)1 << (b & (8 * w - 1));
        *f = (*f & ~CF) | (a & bit ? CF : 0);
        return op->opcode == IR_BTS ? a | bit : op->opcode == IR_BTR ? a & ~bit : op->opcode == IR_BTC ? a ^ bit : a;
    case IR_TZCNT:
        r = a ? (unsigned)__builtin_ctzll(a) : 8 * w;
        *f = (a ? 0 : CF) | (r ? 0 : ZF);
        return r;
    case IR_LZCNT:
        r = a ? (unsigned)__builtin_clzll(a) - (64 - 8 * w) : 8 * w;
        *f = (a ? 0 : CF) | (r ? 0 : ZF);
        return r;
    case IR_POPCNT: *f = a ? 0 : ZF; return (unsigned)__builtin_popcountll(a);
    case IR_BSWAP: return w == 8 ? __builtin_bswap64(a) : w == 4 ? __builtin_bswap32((uint32_t)a) : 0;
    default: return a;
    }
}

/* ---- groups of operations ---- */

/* Read-modify-write through a compare-and-swap, so that lock prefixes hold. */
static uint64_t modify(struct interp *x, const struct ir_op *op, unsigned *f, uint64_t b, uint64_t c)
{
    unsigned w = op->width, before = *f;
    void *p = host_address(x, op, w, JIT_ACC_READ | JIT_ACC_WRITE);
    for (;;) {
        uint64_t old = load(p, w);
        *f = before;
        uint64_t r = compute(op, old, b, c, f);
        if (!op->lock) {
            store(p, w, r);
        } else if (!cas(p, w, old, r)) {
            continue;
        }
        commit(x);
        return old;
    }
}

static void do_compute(struct interp *x, const struct ir_op *op)
{
    unsigned def, use, f = flags_get(x->cpu), w = op->width;
    ir_op_flags(op, &def, &use);
    if (op->dst.kind == IR_M) {
        modify(x, op, &f, value(x, &op->b) & mask_of(w), value(x, &op->c));
    } else {
        uint64_t a = get(x, op, &op->a, w), b = get(x, op, &op->b, w);
        uint64_t r = compute(op, a, b, value(x, &op->c), &f);
        set(x, &op->dst, w, r);
    }
    flags_set(x->cpu, def, f);
}

static void do_scan(struct interp *x, const struct ir_op *op)
{
    uint64_t a = get(x, op, &op->a, op->width);
    if (a)
        set(x, &op->dst, op->width, op->opcode == IR_BSF ? (unsigned)__builtin_ctzll(a) : 63 - (unsigned)__builtin_clzll(a));
    flags_set(x->cpu, op->fdef, a ? 0 : ZF);
}

static void do_mul_wide(struct interp *x, const struct ir_op *op)
{
    uint64_t *g = x->cpu->s.gpr, a = get(x, op, &op->a, op->width), b = g[X86_RAX] & mask_of(op->width);
    unsigned w = op->width;
    bool sign = op->opcode == IR_IMUL_WIDE;
    unsigned __int128 p = sign ? (unsigned __int128)((__int128)sext(a, w) * sext(b, w)) : (unsigned __int128)a * b;
    uint64_t lo = (uint64_t)p & mask_of(w), hi = (uint64_t)(p >> (8 * w)) & mask_of(w);
    bool over = sign ? (__int128)p != sext(lo, w) : hi != 0;
    struct ir_arg ax = ir_g(X86_RAX), dx = ir_g(X86_RDX);
    if (w == 1) {
        set(x, &ax, 2, (uint64_t)p);
    } else {
        set(x, &ax, w, lo);
        set(x, &dx, w, hi);
    }
    flags_set(x->cpu, op->fdef, flags_szp(lo, w) | (over ? CF | OF : 0));
}

static void do_div_wide(struct interp *x, const struct ir_op *op)
{
    uint64_t *g = x->cpu->s.gpr, d = get(x, op, &op->a, op->width), q, r;
    unsigned w = op->width;
    struct ir_arg ax = ir_g(X86_RAX), dx = ir_g(X86_RDX);
    unsigned __int128 n = w == 1 ? (unsigned __int128)(g[X86_RAX] & 0xffff)
                                 : (unsigned __int128)(g[X86_RDX] & mask_of(w)) << (8 * w) | (g[X86_RAX] & mask_of(w));
    if (!d)
        jit_raise(x->cpu, X86_DE, false, 0);
    if (op->opcode == IR_DIV_WIDE) {
        unsigned __int128 wide = n / d;
        if (wide > mask_of(w))
            jit_raise(x->cpu, X86_DE, false, 0);
        q = (uint64_t)wide;
        r = (uint64_t)(n % d);
    } else {
        unsigned s = 128 - 16 * w;
        __int128 sn = (__int128)(n << s) >> s, sd = sext(d, w);
        if (sd == -1) { /* the quotient of the most negative dividend does not exist in C */
            unsigned __int128 neg = -(unsigned __int128)sn;
            if ((__int128)neg != sext((uint64_t)neg, w) || (sn < 0 && (__int128)neg < 0))
                jit_raise(x->cpu, X86_DE, false, 0);
            q = (uint64_t)neg;
            r = 0;
        } else {
            __int128 wide = sn / sd;
            if (wide != sext((uint64_t)wide, w))
                jit_raise(x->cpu, X86_DE, false, 0);
            q = (uint64_t)wide;
            r = (uint64_t)(sn % sd);
        }
    }
    if (w == 1) {
        set(x, &ax, 2, (q & 0xff) | (r & 0xff) << 8);
    } else {
        set(x, &ax, w, q);
        set(x, &dx, w, r);
    }
}

static void do_xchg(struct interp *x, const struct ir_op *op)
{
    const struct ir_arg *d = &op->dst, *a = &op->a;
    unsigned w = op->width;
    uint64_t old, v;
    if (a->kind == IR_M) {
        d = &op->a;
        a = &op->dst;
    }
    v = value(x, a);
    if (d->kind == IR_M) {
        void *p = host_address(x, op, w, JIT_ACC_READ | JIT_ACC_WRITE);
        do {
            old = load(p, w);
        } while (!cas(p, w, old, v));
        commit(x);
    } else {
        old = value(x, d);
        set(x, d, w, v);
    }
    set(x, a, w, old);
}

static void do_xadd(struct interp *x, const struct ir_op *op)
{
    unsigned w = op->width, f = 0;
    uint64_t b = value(x, &op->b) & mask_of(w), old, sum;
    if (op->dst.kind == IR_M) {
        void *p = host_address(x, op, w, JIT_ACC_READ | JIT_ACC_WRITE);
        do {
            old = load(p, w);
            sum = add_flags(old, b, 0, w, &f);
        } while (!cas(p, w, old, sum));
        commit(x);
        set(x, &op->b, w, old);
    } else {
        old = value(x, &op->dst) & mask_of(w);
        sum = add_flags(old, b, 0, w, &f);
        set(x, &op->b, w, old);
        set(x, &op->dst, w, sum);
    }
    flags_set(x->cpu, op->fdef, f);
}

/* Registers as the AMD manual's vol. 3 has it: the side that is not written keeps its upper half. */
static void do_cmpxchg(struct interp *x, const struct ir_op *op)
{
    unsigned w = op->width, f = 0;
    struct ir_arg ax = ir_g(X86_RAX);
    uint64_t acc = x->cpu->s.gpr[X86_RAX] & mask_of(w), b = value(x, &op->b) & mask_of(w), old;
    void *p = op->dst.kind == IR_M ? host_address(x, op, w, JIT_ACC_READ | JIT_ACC_WRITE) : NULL;
    if (p) {
        do {
            old = load(p, w);
        } while (!cas(p, w, old, old == acc ? b : old));
        commit(x);
    } else {
        old = value(x, &op->dst) & mask_of(w);
        if (old == acc)
            set(x, &op->dst, w, b);
    }
    if (old != acc)
        set(x, &ax, w, old);
    sub_flags(acc, old, 0, w, &f);
    flags_set(x->cpu, op->fdef, f);
}

static void do_store(struct interp *x, const struct ir_op *op, unsigned w, uint64_t v)
{
    if (op->dst.kind == IR_M) {
        store(host_address(x, op, w, JIT_ACC_WRITE), w, v);
        commit(x);
    } else {
        set(x, &op->dst, w, v);
    }
}

static void do_host(struct interp *x, const struct ir_op *op)
{
    struct jit_cpu *cpu = x->cpu;
    const struct ir_host *h = &op->host;
    uint64_t args[3] = { value(x, &op->a), value(x, &op->b), value(x, &op->c) };
    void *p = NULL;
    if (!host_supported())
        jit_raise(cpu, X86_UD, false, 0);
    if (h->rm_kind == IR_HO_MEM)
        p = host_address(x, op, h->msize, (h->maccess & 1 ? JIT_ACC_READ : 0) | (h->maccess & 2 ? JIT_ACC_WRITE : 0));
    int sig = host_exec_one(cpu, op, p, args);
    if (sig)
        jit_host_fault(cpu, 0, (unsigned)sig);
    if (h->maccess & 2)
        commit(x);
    if (h->rm_kind == IR_HO_GPR && h->rm_write)
        set(x, &op->a, h->gwidth, args[0]);
    if (h->v_kind == IR_HO_GPR && h->v_write)
        set(x, &op->b, h->gwidth, args[1]);
    if (h->reg_kind == IR_HO_GPR && h->reg_write)
        set(x, &op->c, h->gwidth, args[2]);
    if (h->map == IR_MAP_X87 && op->dst.kind != IR_NONE)
        set(x, &op->dst, 2, args[0]);
}

static void do_call(struct interp *x, const struct ir_op *op)
{
    uint64_t r = op->fn(x->cpu, value(x, &op->a), value(x, &op->b), value(x, &op->c));
    set(x, &op->dst, op->width ? op->width : 8, r);
}

static void do_other(struct interp *x, const struct ir_op *op)
{
    struct jit_cpu *cpu = x->cpu;
    unsigned w = op->width, def, use;
    uint64_t v = 0;
    switch (op->opcode) {
    case IR_MOV: do_store(x, op, w, get(x, op, &op->a, w)); break;
    case IR_MOVZX: set(x, &op->dst, w, get(x, op, &op->a, op->swidth)); break;
    case IR_MOVSX: set(x, &op->dst, w, (uint64_t)sext(get(x, op, &op->a, op->swidth), op->swidth)); break;
    case IR_LEA: set(x, &op->dst, w, address(x, &op->mem)); break;
    case IR_LDS:
        memcpy(&v, (const uint8_t *)cpu + op->a.imm, op->swidth);
        set(x, &op->dst, w, v);
        break;
    case IR_STS:
        v = value(x, &op->a);
        memcpy((uint8_t *)cpu + op->b.imm, &v, w);
        break;
    case IR_XCHG: do_xchg(x, op); break;
    case IR_CMOV:
        v = get(x, op, &op->a, w);
        set(x, &op->dst, w, holds(flags_get(cpu), op->cond) ? v : value(x, &op->dst));
        break;
    case IR_SETCC: do_store(x, op, 1, holds(flags_get(cpu), op->cond)); break;
    case IR_BSF: case IR_BSR: do_scan(x, op); break;
    case IR_MUL_WIDE: case IR_IMUL_WIDE: do_mul_wide(x, op); break;
    case IR_DIV_WIDE: case IR_IDIV_WIDE: do_div_wide(x, op); break;
    case IR_XADD: do_xadd(x, op); break;
    case IR_CMPXCHG: do_cmpxchg(x, op); break;
    case IR_EXT8H: set(x, &op->dst, 8, value(x, &op->a) >> 8 & 0xff); break;
    case IR_DEP8H: set(x, &op->dst, 2, (value(x, &op->a) & 0xff) << 8 | (value(x, &op->dst) & 0xff)); break;
    case IR_MULX: {
        uint64_t b = get(x, op, &op->b, w);
        unsigned __int128 p = (unsigned __int128)(cpu->s.gpr[X86_RDX] & mask_of(w)) * b;
        set(x, &op->c, w, (uint64_t)p);
        set(x, &op->dst, w, (uint64_t)(p >> (8 * w)));
        break;
    }
    case IR_GETF: set(x, &op->dst, 8, flags_get(cpu)); break;
    case IR_SETF:
        ir_op_flags(op, &def, &use);
        flags_set(cpu, def, (unsigned)value(x, &op->a));
        break;
    case IR_HOST: do_host(x, op); break;
    case IR_CALL: do_call(x, op); break;
    case IR_FENCE: __atomic_thread_fence(__ATOMIC_SEQ_CST); break;
    case IR_INSN: cpu->s.rip = value(x, &op->a); break;
    case IR_LABEL: break;
    default: do_compute(x, op); break;
    }
}

/* Returns the next operation's index, or -1 - (enum jit_leave). */
static int step(struct interp *x, unsigned i)
{
    const struct ir_op *op = &x->r->ops[i];
    struct jit_cpu *cpu = x->cpu;
    bool zero;
    switch (op->opcode) {
    case IR_BR: return (int)x->labels[op->a.imm];
    case IR_BRCC: return holds(flags_get(cpu), op->cond) ? (int)x->labels[op->a.imm] : (int)i + 1;
    case IR_BRZ: case IR_BRNZ:
        zero = !(value(x, &op->a) & mask_of(op->width));
        return zero == (op->opcode == IR_BRZ) ? (int)x->labels[op->b.imm] : (int)i + 1;
    case IR_IRQ_CHECK:
        if (!atomic_load_explicit(&cpu->attention, memory_order_relaxed))
            return (int)i + 1;
        cpu->s.rip = value(x, &op->a);
        return -1 - JIT_LEAVE_ATTENTION;
    case IR_EXIT_JMP: case IR_EXIT_IND:
        cpu->s.rip = value(x, &op->a);
        return -1 - JIT_LEAVE_LOOKUP;
    case IR_EXIT_STATE: return -1 - JIT_LEAVE_LOOKUP;
    case IR_EXIT_LOOP:
        if (op->b.kind != IR_NONE)
            cpu->s.rip = value(x, &op->b);
        return -1 - (int)op->a.imm;
    default:
        do_other(x, op);
        return (int)i + 1;
    }
}

int ir_interp(struct jit_cpu *cpu, const struct ir_region *r)
{
    struct interp x = { .cpu = cpu, .r = r };
    for (unsigned i = 0; i < r->nops; i++)
        if (r->ops[i].opcode == IR_LABEL)
            x.labels[r->ops[i].a.imm] = i;
    int i = 0;
    while (i >= 0 && (unsigned)i < r->nops)
        i = step(&x, (unsigned)i);
    return i < 0 ? -1 - i : JIT_LEAVE_ERROR;
}
