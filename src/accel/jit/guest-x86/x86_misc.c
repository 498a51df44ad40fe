/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decimal adjustment, ENTER, PUSHA, POPA, BOUND, CMPXCHG8B/16B, bit strings in memory. SDM vol. 2. Light code. */
#include "accel/jit/guest-x86/x86_helpers.h"

static unsigned flag(const struct jit_cpu *cpu, unsigned which)
{
    return (jit_get_rflags(cpu) & which) != 0;
}

static unsigned parity(uint8_t v)
{
    return __builtin_parity(v) ? 0 : X86_FL_PF;
}

static unsigned szp(uint8_t v)
{
    return (v & 0x80 ? X86_FL_SF : 0) | (v ? 0 : X86_FL_ZF) | parity(v);
}

static void set_ax(struct jit_cpu *cpu, unsigned ax)
{
    cpu->s.gpr[X86_RAX] = (cpu->s.gpr[X86_RAX] & ~0xffffull) | (ax & 0xffff);
}

static uint8_t al(const struct jit_cpu *cpu)
{
    return (uint8_t)cpu->s.gpr[X86_RAX];
}

static uint8_t ah(const struct jit_cpu *cpu)
{
    return (uint8_t)(cpu->s.gpr[X86_RAX] >> 8);
}

static void set_al(struct jit_cpu *cpu, uint8_t v)
{
    set_ax(cpu, ah(cpu) * 256u + v);
}

/* ---- decimal: undefined flags come out clear ---- */

static uint64_t decimal_adjust(struct jit_cpu *cpu, bool subtract)
{
    uint8_t old = al(cpu), v = old;
    unsigned cf = flag(cpu, X86_FL_CF), af = flag(cpu, X86_FL_AF), new_cf = 0, new_af = 0;

    if ((old & 15) > 9 || af) {
        new_cf = cf | (subtract ? old < 6 : old > 0xf9);
        v = (uint8_t)(subtract ? v - 6 : v + 6);
        new_af = 1;
    }
    if (old > 0x99 || cf) {
        v = (uint8_t)(subtract ? v - 0x60 : v + 0x60);
        new_cf = 1;
    }
    set_al(cpu, v);
    jit_set_arith(cpu, szp(v) | (new_cf ? X86_FL_CF : 0) | (new_af ? X86_FL_AF : 0));
    return 0;
}

uint64_t x86_h_daa(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return decimal_adjust(cpu, false);
}

uint64_t x86_h_das(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return decimal_adjust(cpu, true);
}

static uint64_t ascii_adjust(struct jit_cpu *cpu, bool subtract)
{
    unsigned ax = cpu->s.gpr[X86_RAX] & 0xffff;
    bool adjust = (ax & 15) > 9 || flag(cpu, X86_FL_AF);

    if (adjust) {
        ax = subtract ? ax - 0x106 : ax + 0x106;
    }
    ax &= 0xff0f;
    set_ax(cpu, ax);
    jit_set_arith(cpu, szp((uint8_t)ax) | (adjust ? X86_FL_CF | X86_FL_AF : 0));
    return 0;
}

uint64_t x86_h_aaa(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return ascii_adjust(cpu, false);
}

uint64_t x86_h_aas(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return ascii_adjust(cpu, true);
}

uint64_t x86_h_aam(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned base = a & 0xff, v = al(cpu);

    if (!base) {
        jit_raise(cpu, X86_DE, false, 0);
    }
    set_ax(cpu, v / base << 8 | v % base);
    jit_set_arith(cpu, szp((uint8_t)(v % base)));
    return 0;
}

uint64_t x86_h_aad(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint8_t v = (uint8_t)(al(cpu) + ah(cpu) * (unsigned)(a & 0xff));

    set_ax(cpu, v);
    jit_set_arith(cpu, szp(v));
    return 0;
}

/* ---- stack frames ---- */

static unsigned stack_size(const struct jit_cpu *cpu)
{
    return JIT_MODE_CODE(cpu->mode) == JIT_MODE_CODE64 ? 8 : cpu->mode & JIT_MODE_SS32 ? 4 : 2;
}

static uint64_t stack_mask(const struct jit_cpu *cpu)
{
    unsigned size = stack_size(cpu);

    return size == 8 ? ~0ull : size == 4 ? 0xffffffffull : 0xffff;
}

/* Writes a register at the stack's or an operand's width as instructions do: 2 merges, 4 zero-extends. */
static void set_reg(struct jit_cpu *cpu, unsigned reg, unsigned size, uint64_t v)
{
    uint64_t *r = &cpu->s.gpr[reg];

    *r = size == 2 ? (*r & ~0xffffull) | (v & 0xffff) : size == 4 ? (uint32_t)v : v;
}

static uint64_t stack_lin(struct jit_cpu *cpu, uint64_t off, unsigned size, unsigned kind)
{
    return x86_seg_lin(cpu, X86_SS, off & stack_mask(cpu), size, kind);
}

/* n values of opsize bytes below rSP, the first on top; nothing is written when any of them faults. */
static void push_all(struct jit_cpu *cpu, const uint64_t *values, unsigned n, unsigned opsize)
{
    unsigned mmu = JIT_MODE_MMU(cpu->mode);
    uint64_t sp = cpu->s.gpr[X86_RSP], lin[40];

    for (unsigned i = 0; i < n; i++) {
        lin[i] = stack_lin(cpu, sp - (uint64_t)(i + 1) * opsize, opsize, JIT_ACC_WRITE);
        jit_probe(cpu, lin[i], opsize, JIT_ACC_WRITE, mmu);
    }
    for (unsigned i = 0; i < n; i++) {
        jit_store(cpu, lin[i], opsize, mmu, values[i]);
    }
}

uint64_t x86_h_enter(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned opsize = (unsigned)c, level = b & 31, n = 0, width = stack_size(cpu);
    uint64_t sp = cpu->s.gpr[X86_RSP], bp = cpu->s.gpr[X86_RBP], frame = sp - opsize, values[40];

    values[n++] = bp;
    for (unsigned i = 1; i < level; i++) {
        uint64_t lin = stack_lin(cpu, bp - (uint64_t)i * opsize, opsize, JIT_ACC_READ);

        values[n++] = jit_load(cpu, lin, opsize, JIT_MODE_MMU(cpu->mode));
    }
    if (level) {
        values[n++] = frame;
    }
    sp -= (uint64_t)n * opsize + (a & 0xffff);
    /* the new top of the stack must be writable, whatever is between (SDM vol. 2, ENTER) */
    jit_probe(cpu, stack_lin(cpu, sp, opsize, JIT_ACC_WRITE), opsize, JIT_ACC_WRITE, JIT_MODE_MMU(cpu->mode));
    push_all(cpu, values, n, opsize);
    set_reg(cpu, X86_RBP, width < opsize ? width : opsize, frame);
    set_reg(cpu, X86_RSP, width, sp);
    return 0;
}

uint64_t x86_h_pusha(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned opsize = (unsigned)c;
    uint64_t sp = cpu->s.gpr[X86_RSP], values[8];

    for (unsigned i = 0; i < 8; i++) {
        values[i] = cpu->s.gpr[i]; /* rAX rCX rDX rBX, rSP as it was, rBP rSI rDI */
    }
    push_all(cpu, values, 8, opsize);
    set_reg(cpu, X86_RSP, stack_size(cpu), sp - 8u * opsize);
    return 0;
}

uint64_t x86_h_popa(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned opsize = (unsigned)c;
    uint64_t sp = cpu->s.gpr[X86_RSP], values[8];

    for (unsigned i = 0; i < 8; i++) {
        values[7 - i] = jit_load(cpu, stack_lin(cpu, sp + i * opsize, opsize, JIT_ACC_READ), opsize, JIT_MODE_MMU(cpu->mode));
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != X86_RSP) {
            set_reg(cpu, i, opsize, values[i]);
        }
    }
    set_reg(cpu, X86_RSP, stack_size(cpu), sp + 8u * opsize);
    return 0;
}

uint64_t x86_h_bound(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned mmu = JIT_MODE_MMU(cpu->mode);
    int64_t index, low, high;

    if (c == 2) {
        index = (int16_t)a;
        low = (int16_t)jit_load(cpu, b, 2, mmu);
        high = (int16_t)jit_load(cpu, b + 2, 2, mmu);
    } else {
        index = (int32_t)a;
        low = (int32_t)jit_load(cpu, b, 4, mmu);
        high = (int32_t)jit_load(cpu, b + 4, 4, mmu);
    }
    if (index < low || index > high) {
        jit_raise(cpu, X86_BR, false, 0);
    }
    return 0;
}

/* ---- CMPXCHG8B, CMPXCHG16B ---- */

static void set_zf(struct jit_cpu *cpu, bool on)
{
    jit_set_arith(cpu, (jit_get_rflags(cpu) & ~(uint64_t)X86_FL_ZF) | (on ? X86_FL_ZF : 0));
}

uint64_t x86_h_cmpxchg8b(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t *r = cpu->s.gpr, want = (uint32_t)r[X86_RAX] | r[X86_RDX] << 32, old = want;
    uint64_t put = (uint32_t)r[X86_RBX] | r[X86_RCX] << 32;
    unsigned mmu = JIT_MODE_MMU(cpu->mode);
    uint64_t *host = (uint64_t *)jit_host_ptr(cpu, a, JIT_ACC(8, JIT_ACC_READ | JIT_ACC_WRITE, mmu), NULL);

    if (host) {
        __asm__ volatile("lock cmpxchgq %2, %1" : "+a"(old), "+m"(*host) : "r"(put) : "memory", "cc");
    } else { /* across two pages, a device, or code: not atomic */
        jit_probe(cpu, a, 8, JIT_ACC_WRITE, mmu);
        old = jit_load(cpu, a, 8, mmu);
        jit_store(cpu, a, 8, mmu, old == want ? put : old);
    }
    if (old != want) {
        r[X86_RAX] = (uint32_t)old;
        r[X86_RDX] = old >> 32;
    }
    set_zf(cpu, old == want);
    return 0;
}

uint64_t x86_h_cmpxchg16b(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t *r = cpu->s.gpr, low = r[X86_RAX], high = r[X86_RDX];
    unsigned mmu = JIT_MODE_MMU(cpu->mode);
    uint64_t *host;
    bool equal;

    if (a & 15) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    host = (uint64_t *)jit_host_ptr(cpu, a, JIT_ACC(16, JIT_ACC_READ | JIT_ACC_WRITE, mmu), NULL);
    if (host) {
        __asm__ volatile("lock cmpxchg16b %1; sete %b0"
                         : "=q"(equal), "+m"(*(unsigned __int128 *)host), "+a"(low), "+d"(high)
                         : "b"(r[X86_RBX]), "c"(r[X86_RCX])
                         : "memory", "cc");
    } else {
        jit_probe(cpu, a, 16, JIT_ACC_WRITE, mmu);
        low = jit_load(cpu, a, 8, mmu);
        high = jit_load(cpu, a + 8, 8, mmu);
        equal = low == r[X86_RAX] && high == r[X86_RDX];
        if (equal) {
            jit_store(cpu, a, 8, mmu, r[X86_RBX]);
            jit_store(cpu, a + 8, 8, mmu, r[X86_RCX]);
        }
    }
    if (!equal) {
        r[X86_RAX] = low;
        r[X86_RDX] = high;
    }
    set_zf(cpu, equal);
    return 0;
}

/* ---- bit strings ---- */

/* a: lin of the string's start, b: bit number, signed, c: operation (0 BT, 1 BTS, 2 BTR, 3 BTC). CF in cc. The byte that holds
 * the bit is changed atomically where it is plain memory. */
uint64_t x86_h_bt_mem(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned mmu = JIT_MODE_MMU(cpu->mode), bit = b & 7, kind = c ? JIT_ACC_READ | JIT_ACC_WRITE : JIT_ACC_READ;
    uint64_t lin = a + (uint64_t)((int64_t)b >> 3);
    uint8_t mask = (uint8_t)(1u << bit), old;
    uint8_t *host;

    if (JIT_MODE_CODE(cpu->mode) != JIT_MODE_CODE64) {
        lin = (uint32_t)lin;
    }
    host = (uint8_t *)jit_host_ptr(cpu, lin, JIT_ACC(1, kind, mmu), NULL);
    if (host && c == 1) {
        old = __atomic_fetch_or(host, mask, __ATOMIC_SEQ_CST);
    } else if (host && c == 2) {
        old = __atomic_fetch_and(host, (uint8_t)~mask, __ATOMIC_SEQ_CST);
    } else if (host && c == 3) {
        old = __atomic_fetch_xor(host, mask, __ATOMIC_SEQ_CST);
    } else {
        old = (uint8_t)jit_load(cpu, lin, 1, mmu);
        if (c) {
            jit_store(cpu, lin, 1, mmu, c == 1 ? old | mask : c == 2 ? old & ~mask : old ^ mask);
        }
    }
    jit_set_arith(cpu, (jit_get_rflags(cpu) & ~(uint64_t)X86_FL_CF) | (old & mask ? X86_FL_CF : 0));
    return 0;
}
