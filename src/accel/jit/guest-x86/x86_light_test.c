/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helpers of x86_misc.c, x86_string.c, x86_xsave.c, x86_sys.c and x86_msr.c with a toy memory behind them: guest linear
 * addresses are offsets into one buffer, in which one page is "MMIO" (no host pointer) and everything past the end faults.
 */
#include <glib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "accel/jit/guest-x86/x86_helpers.h"

#define MEM_SIZE (16u * 4096)
#define MMIO_PAGE 5u

struct toy {
    struct jit_cpu cpu; /* first */
    _Alignas(4096) uint8_t mem[MEM_SIZE];
    jmp_buf fault;
    unsigned vector, error, flushes, pio_reads;
    struct x86_cpu_model model;
};

static struct toy *toy_of(struct jit_cpu *cpu)
{
    return (struct toy *)(void *)cpu;
}

/* ---- the engine and the guest's other files, as far as these helpers need them ---- */

_Noreturn void jit_raise(struct jit_cpu *cpu, unsigned vector, bool has_error, uint32_t error)
{
    toy_of(cpu)->vector = vector;
    toy_of(cpu)->error = error;
    longjmp(toy_of(cpu)->fault, 1);
}

_Noreturn void jit_leave(struct jit_cpu *cpu, enum jit_leave why)
{
    toy_of(cpu)->vector = 1000 + why;
    longjmp(toy_of(cpu)->fault, 1);
}

static void touch(struct jit_cpu *cpu, uint64_t gva, unsigned size)
{
    if (gva + size > MEM_SIZE || gva + size < gva) {
        jit_raise(cpu, X86_PF, true, (uint32_t)gva);
    }
}

void jit_probe(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned kind, unsigned mmu) { touch(cpu, gva, size); }

void jit_load_bytes(struct jit_cpu *cpu, uint64_t gva, void *ret, unsigned size, unsigned mmu)
{
    touch(cpu, gva, size);
    memcpy(ret, toy_of(cpu)->mem + gva, size);
}

void jit_store_bytes(struct jit_cpu *cpu, uint64_t gva, const void *src, unsigned size, unsigned mmu)
{
    touch(cpu, gva, size);
    memcpy(toy_of(cpu)->mem + gva, src, size);
}

uint64_t jit_load(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu)
{
    uint64_t v = 0;

    jit_load_bytes(cpu, gva, &v, size, mmu);
    return v;
}

void jit_store(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu, uint64_t value)
{
    jit_store_bytes(cpu, gva, &value, size, mmu);
}

void *jit_host_ptr(struct jit_cpu *cpu, uint64_t gva, uint32_t desc, unsigned *ret_left)
{
    unsigned left = 4096 - (gva & 4095);

    if (ret_left) {
        *ret_left = left;
    }
    if (JIT_ACC_SIZE(desc) > left) {
        return NULL;
    }
    touch(cpu, gva, JIT_ACC_SIZE(desc));
    return gva >> 12 == MMIO_PAGE ? NULL : toy_of(cpu)->mem + gva;
}

uint64_t x86_seg_lin(struct jit_cpu *cpu, enum x86_seg seg, uint64_t off, unsigned size, unsigned kind)
{
    if (off + size - 1 > cpu->s.seg[seg].limit) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    return cpu->s.seg[seg].base + off;
}

unsigned x86_cpl(const struct jit_cpu *cpu) { return JIT_MODE_CPL(cpu->mode); }
void jit_tlb_flush(struct jit_cpu *cpu) { toy_of(cpu)->flushes++; }
void jit_tlb_flush_nonglobal(struct jit_cpu *cpu) { toy_of(cpu)->flushes++; }
void jit_tlb_flush_page(struct jit_cpu *cpu, uint64_t gva) { toy_of(cpu)->flushes++; }
void jit_mode_changed(struct jit_cpu *cpu) { }
void jit_check_interrupts(struct jit_cpu *cpu) { }
unsigned jit_get_tpr(struct jit_cpu *cpu) { return 0; }
void jit_set_tpr(struct jit_cpu *cpu, unsigned tpr) { }
bool jit_bus_msr(struct jit_cpu *cpu, bool write, uint32_t index, uint64_t *value) { return false; }
uint64_t jit_pio_read(struct jit_cpu *cpu, unsigned port, unsigned size) { return ++toy_of(cpu)->pio_reads; }
void jit_pio_write(struct jit_cpu *cpu, unsigned port, unsigned size, uint64_t value) { }

static struct toy *toy_new(uint32_t mode)
{
    struct toy *t = aligned_alloc(4096, (sizeof(struct toy) + 4095) / 4096 * 4096);

    memset(t, 0, sizeof(*t));
    t->cpu.model = &t->model;
    t->cpu.mode = mode;
    t->cpu.mxcsr = 0x1f80;
    t->model.phys_bits = 40;
    memset(t->model.features, 0xff, sizeof(t->model.features));
    strcpy(t->model.vendor, "AuthenticAMD");
    for (unsigned i = 0; i < X86_NSEG; i++) {
        t->cpu.s.seg[i].limit = 0xffffffff;
        t->cpu.s.seg[i].attr = X86_ATTR_P | X86_ATTR_S | X86_ATTR_DB | 3;
    }
    for (unsigned i = 0; i < MEM_SIZE; i++) {
        t->mem[i] = (uint8_t)(i * 7 + i / 251);
    }
    return t;
}

/* The vector that fn raises, or -1. */
typedef uint64_t helper_fn(struct jit_cpu *, uint64_t, uint64_t, uint64_t);
static int call(struct toy *t, helper_fn *fn, uint64_t a, uint64_t b, uint64_t c, uint64_t *ret)
{
    uint64_t r;

    if (setjmp(t->fault)) {
        return (int)t->vector;
    }
    r = fn(&t->cpu, a, b, c);
    if (ret) {
        *ret = r;
    }
    return -1;
}

/* ---- decimal: against the manual's own words, and arithmetic meaning ---- */

static void test_packed(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE32 | JIT_MODE_PE | JIT_MODE_FLAT);

    for (unsigned x = 0; x < 100; x++) {
        for (unsigned y = 0; y < 100; y++) {
            unsigned bx = x / 10 * 16 + x % 10, by = y / 10 * 16 + y % 10, sum = (x + y) % 100, dif = (x + 100 - y) % 100;
            uint64_t fl;

            t->cpu.s.gpr[X86_RAX] = 0x1234abcd5678ee00 | ((bx + by) & 0xff);
            jit_set_arith(&t->cpu, (bx + by > 255 ? X86_FL_CF : 0) | ((bx & 15) + (by & 15) > 15 ? X86_FL_AF : 0));
            x86_h_daa(&t->cpu, 0, 0, 0);
            fl = jit_get_rflags(&t->cpu);
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX], ==, 0x1234abcd5678ee00 | (sum / 10 * 16 + sum % 10));
            g_assert_cmpuint(fl & X86_FL_CF, ==, x + y > 99);
            g_assert_cmpuint((fl & X86_FL_ZF) != 0, ==, sum == 0);

            t->cpu.s.gpr[X86_RAX] = (bx - by) & 0xff;
            jit_set_arith(&t->cpu, (bx < by ? X86_FL_CF : 0) | ((bx & 15) < (by & 15) ? X86_FL_AF : 0));
            x86_h_das(&t->cpu, 0, 0, 0);
            fl = jit_get_rflags(&t->cpu);
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX], ==, dif / 10 * 16 + dif % 10);
            g_assert_cmpuint(fl & X86_FL_CF, ==, x < y);
            g_assert_cmpuint((fl & X86_FL_SF) != 0, ==, dif >= 80);
        }
    }
    free(t);
}

static void test_unpacked(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE32 | JIT_MODE_PE | JIT_MODE_FLAT);

    for (unsigned x = 0; x < 10; x++) {
        for (unsigned y = 0; y < 10; y++) {
            t->cpu.s.gpr[X86_RAX] = 0x0300 + x + y;
            jit_set_arith(&t->cpu, x + y > 15 ? X86_FL_AF : 0);
            x86_h_aaa(&t->cpu, 0, 0, 0);
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX], ==, (x + y > 9 ? 0x0400u : 0x0300u) | (x + y) % 10);
            g_assert_cmpuint(jit_get_rflags(&t->cpu) & X86_FL_CF, ==, x + y > 9);

            t->cpu.s.gpr[X86_RAX] = 0x0300 | ((x - y) & 0xff);
            jit_set_arith(&t->cpu, x < y ? X86_FL_AF : 0);
            x86_h_aas(&t->cpu, 0, 0, 0);
            /* AX - 106h borrows from AH when AL is below 6, as the manual's formula has it */
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX] & 0xff, ==, (x + 10 - y) % 10);
            g_assert_cmpuint(jit_get_rflags(&t->cpu) & X86_FL_CF, ==, x < y);
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX] >> 8, ==, x < y ? 2 : 3);

            t->cpu.s.gpr[X86_RAX] = x * y;
            x86_h_aam(&t->cpu, 10, 0, 0);
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX], ==, x * y / 10 << 8 | x * y % 10);
            x86_h_aad(&t->cpu, 10, 0, 0);
            g_assert_cmphex(t->cpu.s.gpr[X86_RAX], ==, x * y);
        }
    }
    g_assert_cmpint(call(t, x86_h_aam, 0, 0, 0, NULL), ==, X86_DE);
    free(t);
}

/* ---- strings: against a loop over elements ---- */

static uint64_t packed(unsigned size, unsigned addrsize, unsigned rep, unsigned seg)
{
    return size | addrsize << 8 | rep << 16 | (uint64_t)seg << 24;
}

static uint64_t element(const uint8_t *m, uint64_t at, unsigned size)
{
    uint64_t v = 0;

    memcpy(&v, m + at, size);
    return v;
}

static void reference_movs(uint8_t *m, uint64_t *si, uint64_t *di, uint64_t n, unsigned size, bool down)
{
    for (; n; n--) {
        uint64_t v = element(m, *si, size);

        memcpy(m + *di, &v, size);
        *si += down ? -(uint64_t)size : size;
        *di += down ? -(uint64_t)size : size;
    }
}

static void test_movs(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);
    uint8_t *copy = g_malloc(MEM_SIZE);

    for (unsigned i = 0; i < 20000; i++) {
        unsigned size = 1u << g_test_rand_int_range(0, 4);
        bool down = g_test_rand_bit();
        uint64_t n = (uint64_t)g_test_rand_int_range(0, 1200), si = (uint64_t)g_test_rand_int_range(12000, 50000);
        uint64_t di = g_test_rand_bit() ? si + (uint64_t)g_test_rand_int_range(-40, 40)
                                        : (uint64_t)g_test_rand_int_range(12000, 50000);
        uint64_t done = 0;

        memcpy(copy, t->mem, MEM_SIZE);
        t->cpu.s.gpr[X86_RSI] = si, t->cpu.s.gpr[X86_RDI] = di, t->cpu.s.gpr[X86_RCX] = n;
        t->cpu.s.rflags = down ? X86_FL_DF | 2 : 2;
        atomic_store(&t->cpu.attention, g_test_rand_bit());
        while (!done) {
            g_assert_cmpint(call(t, x86_h_movs, 0, 0, packed(size, 8, 1, X86_DS), &done), ==, -1);
        }
        reference_movs(copy, &si, &di, n, size, down);
        g_assert_cmphex(t->cpu.s.gpr[X86_RSI], ==, si);
        g_assert_cmphex(t->cpu.s.gpr[X86_RDI], ==, di);
        g_assert_cmphex(t->cpu.s.gpr[X86_RCX], ==, 0);
        g_assert_cmpmem(t->mem, MEM_SIZE, copy, MEM_SIZE);
    }
    g_free(copy);
    free(t);
}

static void test_fault_in_the_middle(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);

    t->cpu.s.gpr[X86_RSI] = 0;
    t->cpu.s.gpr[X86_RDI] = MEM_SIZE - 4096 - 12;
    t->cpu.s.gpr[X86_RCX] = 3000;
    g_assert_cmpint(call(t, x86_h_movs, 0, 0, packed(4, 8, 1, X86_DS), NULL), ==, X86_PF);
    g_assert_cmpuint(t->cpu.s.gpr[X86_RCX], ==, 3000 - (4096 + 12) / 4);
    g_assert_cmphex(t->cpu.s.gpr[X86_RDI], ==, MEM_SIZE);
    free(t);
}

/* 16-bit addresses wrap, and only the low halves of the registers move. */
static void test_wrap(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE16);
    uint64_t done;

    t->cpu.s.gpr[X86_RDI] = 0x12340000fffe;
    t->cpu.s.gpr[X86_RCX] = 0xabcd00000004;
    t->cpu.s.gpr[X86_RAX] = 0x5aa5;
    for (unsigned i = 0; i < X86_NSEG; i++) {
        t->cpu.s.seg[i].limit = 0xffff;
    }
    g_assert_cmpint(call(t, x86_h_stos, 0, 0, packed(2, 2, 1, X86_DS), &done), ==, -1);
    g_assert_cmphex(t->cpu.s.gpr[X86_RDI], ==, 0x123400000006);
    g_assert_cmphex(t->cpu.s.gpr[X86_RCX], ==, 0xabcd00000000);
    g_assert_cmphex(element(t->mem, 0xfffe, 2), ==, 0x5aa5);
    g_assert_cmphex(element(t->mem, 0, 8), ==, 0x5aa55aa55aa5 | element(t->mem, 6, 2) << 48);
    free(t);
}

static void test_scas_cmps(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE32 | JIT_MODE_FLAT | JIT_MODE_PE);
    uint64_t done;

    memset(t->mem, 'x', MEM_SIZE);
    t->mem[9000] = 0;
    t->cpu.s.gpr[X86_RDI] = 0xffffffff00000064;
    t->cpu.s.gpr[X86_RCX] = 0xffffffff;
    g_assert_cmpint(call(t, x86_h_scas, 0, 0, packed(1, 4, 2, X86_DS), &done), ==, -1);
    g_assert_cmpuint(done, ==, 1);
    g_assert_cmphex(t->cpu.s.gpr[X86_RDI], ==, 9001);
    g_assert_cmphex(t->cpu.s.gpr[X86_RCX], ==, 0xffffffffu - 8901);
    g_assert_true(jit_get_rflags(&t->cpu) & X86_FL_ZF);

    t->cpu.s.gpr[X86_RSI] = 100, t->cpu.s.gpr[X86_RDI] = 100 + 4096, t->cpu.s.gpr[X86_RCX] = 4000;
    g_assert_cmpint(call(t, x86_h_cmps, 0, 0, packed(4, 4, 1, X86_DS), &done), ==, -1);
    /* 9000 is in the doubleword that RDI reaches at 4196 + 4 * 1201 */
    g_assert_cmphex(t->cpu.s.gpr[X86_RDI], ==, 4196 + 4 * 1202);
    g_assert_false(jit_get_rflags(&t->cpu) & X86_FL_ZF);
    g_assert_cmphex(t->cpu.s.gpr[X86_RCX], ==, 4000 - 1202);
    free(t);
}

static void test_ins(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);
    uint64_t done;

    t->cpu.s.gpr[X86_RDI] = 4094, t->cpu.s.gpr[X86_RCX] = 3, t->cpu.s.gpr[X86_RDX] = 0x1f0;
    g_assert_cmpint(call(t, x86_h_ins, 0, 0, packed(2, 8, 1, X86_DS), &done), ==, -1);
    g_assert_cmphex(element(t->mem, 4094, 6), ==, 0x000300020001);
    t->cpu.s.gpr[X86_RDI] = MEM_SIZE, t->cpu.s.gpr[X86_RCX] = 1;
    g_assert_cmpint(call(t, x86_h_ins, 0, 0, packed(2, 8, 1, X86_DS), &done), ==, X86_PF);
    g_assert_cmpuint(t->pio_reads, ==, 3); /* the port was not read for nothing */
    free(t);
}

/* ---- FXSAVE and company ---- */

static void test_fxsave(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);
    double three = 3, got = 0;

    for (unsigned i = 0; i < 256; i++) {
        ((uint8_t *)t->cpu.vec)[i] = (uint8_t)(i ^ 0x55);
    }
    __asm__ volatile("fninit; fldl %0" : : "m"(three));
    g_assert_cmpint(call(t, x86_h_fxsave, 1024, 0, 8, NULL), ==, -1);
    g_assert_cmphex(element(t->mem, 1024, 2), ==, 0x37f);
    g_assert_cmphex(element(t->mem, 1024 + 24, 8), ==, 0x0000ffff00001f80);
    g_assert_cmpmem(t->mem + 1024 + 160, 256, t->cpu.vec, 256);
    __asm__ volatile("fninit");
    memset(t->cpu.vec, 0, sizeof(t->cpu.vec));
    g_assert_cmpint(call(t, x86_h_fxrstor, 1024, 0, 8, NULL), ==, -1);
    __asm__ volatile("fstpl %0; fninit" : "=m"(got));
    g_assert_cmpfloat(got, ==, 3);
    g_assert_cmpmem(t->mem + 1024 + 160, 256, t->cpu.vec, 256);
    g_assert_cmpint(call(t, x86_h_fxrstor, 1032, 0, 8, NULL), ==, X86_GP);
    t->mem[1024 + 26] = 1; /* a reserved bit of MXCSR */
    g_assert_cmpint(call(t, x86_h_fxrstor, 1024, 0, 8, NULL), ==, X86_GP);
    free(t);
}

static void test_xsave(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);

    t->cpu.s.xcr0 = 3;
    t->cpu.s.gpr[X86_RAX] = 7;
    g_assert_cmpint(call(t, x86_h_xsave, 2048, 0, 8, NULL), ==, X86_UD);
    t->cpu.s.cr4 = X86_CR4_OSXSAVE;
    memset(t->mem + 2048, 0, 576);
    memset(t->cpu.vec, 0x77, sizeof(t->cpu.vec));
    g_assert_cmpint(call(t, x86_h_xsave, 2048, 0, 8, NULL), ==, -1);
    g_assert_cmphex(element(t->mem, 2048 + 512, 8), ==, 3);
    t->mem[2048 + 512] = 1; /* SSE in its initial state */
    g_assert_cmpint(call(t, x86_h_xrstor, 2048, 0, 8, NULL), ==, -1);
    g_assert_cmphex(t->cpu.vec[15][15], ==, 0);
    t->mem[2048 + 512] = 4; /* a component that XCR0 lacks */
    g_assert_cmpint(call(t, x86_h_xrstor, 2048, 0, 8, NULL), ==, X86_GP);
    memset(t->mem + 2048, 0, 576);
    g_assert_cmpint(call(t, x86_h_xsave, 2048, 2, 8, NULL), ==, -1);
    g_assert_cmphex(element(t->mem, 2048 + 520, 8), ==, 0x8000000000000003);
    g_assert_cmpint(call(t, x86_h_xrstor, 2048, 0, 8, NULL), ==, -1);
    free(t);
}

static void test_fnsave(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE32 | JIT_MODE_FLAT | JIT_MODE_PE);
    double five = 5, got = 0;

    for (unsigned opsize = 2; opsize <= 4; opsize += 2) {
        unsigned env = opsize == 2 ? 14 : 28;

        __asm__ volatile("fninit; fldl %0" : : "m"(five));
        g_assert_cmpint(call(t, x86_h_fnsave, 4090, 0, opsize, NULL), ==, -1);
        g_assert_cmphex(element(t->mem, 4090 + opsize, 2), ==, 0x3800); /* FSW: TOP 7 */
        g_assert_cmphex(element(t->mem, 4090 + 2 * opsize, 2), ==, 0x3fff);
        g_assert_cmphex(element(t->mem, 4090 + env + 8, 2), ==, 0x4001); /* exponent of 5 */
        g_assert_cmpint(call(t, x86_h_frstor, 4090, 0, opsize, NULL), ==, -1);
        __asm__ volatile("fstpl %0; fninit" : "=m"(got));
        g_assert_cmpfloat(got, ==, 5);
    }
    free(t);
}

/* ---- control registers, MSRs, frames, compare-exchange ---- */

static void test_control(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE32 | JIT_MODE_FLAT | JIT_MODE_PE);

    t->cpu.s.cr0 = X86_CR0_PE | X86_CR0_ET;
    g_assert_cmpint(call(t, x86_h_write_cr, 0, X86_CR0_PG, 5, NULL), ==, X86_GP);
    g_assert_true(x86_set_efer(&t->cpu, X86_EFER_LME | X86_EFER_SCE));
    g_assert_cmpint(call(t, x86_h_write_cr, 0, X86_CR0_PG | X86_CR0_PE, 5, NULL), ==, X86_GP); /* no PAE */
    g_assert_cmpint(call(t, x86_h_write_cr, 4, X86_CR4_PAE, 5, NULL), ==, -1);
    g_assert_cmpint(call(t, x86_h_write_cr, 0, X86_CR0_PG | X86_CR0_PE, 5, NULL), ==, -1);
    g_assert_cmphex(t->cpu.s.rip, ==, 5);
    g_assert_cmphex(t->cpu.s.efer, ==, X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE);
    g_assert_false(x86_set_efer(&t->cpu, X86_EFER_SCE));
    g_assert_cmpint(call(t, x86_h_write_cr, 4, 0, 5, NULL), ==, X86_GP);
    g_assert_cmpint(call(t, x86_h_write_cr, 3, 1ull << 63, 5, NULL), ==, X86_GP);
    g_assert_cmpint(call(t, x86_h_write_cr, 4, X86_CR4_PAE | X86_CR4_PCIDE, 5, NULL), ==, -1);
    g_assert_cmpint(call(t, x86_h_write_cr, 3, 1ull << 63 | 0x1007, 5, NULL), ==, -1);
    g_assert_cmphex(t->cpu.s.cr3, ==, 0x1007);
    g_assert_cmpint(call(t, x86_h_write_cr, 0, X86_CR0_PE, 5, NULL), ==, X86_GP); /* PCIDE */
    free(t);
}

static int wrmsr(struct toy *t, uint32_t index, uint64_t v)
{
    t->cpu.s.gpr[X86_RCX] = index;
    t->cpu.s.gpr[X86_RAX] = (uint32_t)v;
    t->cpu.s.gpr[X86_RDX] = v >> 32;
    return call(t, x86_h_wrmsr, 0, 0, 0, NULL);
}

static int rdmsr(struct toy *t, uint32_t index, uint64_t *ret)
{
    int vector;

    t->cpu.s.gpr[X86_RCX] = index;
    vector = call(t, x86_h_rdmsr, 0, 0, 0, NULL);
    *ret = t->cpu.s.gpr[X86_RDX] << 32 | t->cpu.s.gpr[X86_RAX];
    return vector;
}

static void test_msr(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);
    uint64_t v;

    g_assert_cmpint(rdmsr(t, 0x12345, &v), ==, X86_GP);
    g_assert_cmpint(wrmsr(t, 0xc0000082, 0xffffffff81000000), ==, -1);
    g_assert_cmpint(rdmsr(t, 0xc0000082, &v), ==, -1);
    g_assert_cmphex(v, ==, 0xffffffff81000000);
    g_assert_cmpint(wrmsr(t, 0xc0000082, 0x800000000000), ==, X86_GP);
    g_assert_cmpint(wrmsr(t, 0x277, 0x0407050600070106), ==, -1);
    g_assert_cmpint(wrmsr(t, 0x277, 2), ==, X86_GP);
    for (uint32_t i = 0x200; i < 0x210; i++) {
        g_assert_cmpint(wrmsr(t, i, 0x80000800 & ~(i & 1 ? 0 : 0x800u)), ==, -1);
    }
    for (uint32_t i = 0; i < 8; i++) {
        g_assert_cmpint(wrmsr(t, 0x268 + i, 0x0606060606060606), ==, -1);
    }
    g_assert_cmphex(t->cpu.s.mtrr_fix[10], ==, 0x0606060606060606);
    g_assert_cmpint(wrmsr(t, 0x10, 1000), ==, -1);
    g_assert_cmpint(rdmsr(t, 0x10, &v), ==, -1);
    g_assert_cmpuint(v, <, 1000000000);
    g_assert_cmpint(rdmsr(t, 0x3b, &v), ==, -1);
    g_assert_cmphex(v, ==, t->cpu.s.tsc_offset);
    g_assert_cmpint(rdmsr(t, 0xc0010015, &v), ==, -1);
    g_assert_cmpint(rdmsr(t, 0x1a0, &v), ==, X86_GP); /* Intel's */
    /* every number in these ranges must answer, one way or the other */
    for (uint32_t i = 0; i < 0x2000; i++) {
        rdmsr(t, i, &v);
        rdmsr(t, 0xc0000000 + i, &v);
        rdmsr(t, 0xc0010000 + i, &v);
        wrmsr(t, i, 0x0606060606060606);
        wrmsr(t, 0xc0000000 + i, i);
        wrmsr(t, 0xc0010000 + i, i);
    }
    t->cpu.mode |= 3u << 2;
    g_assert_cmpint(rdmsr(t, 0x10, &v), ==, X86_GP);
    free(t);
}

static void test_frames(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE32 | JIT_MODE_SS32 | JIT_MODE_FLAT | JIT_MODE_PE);

    for (unsigned i = 0; i < 8; i++) {
        t->cpu.s.gpr[i] = 0x11111111u * (i + 1);
    }
    t->cpu.s.gpr[X86_RSP] = 0x2000;
    g_assert_cmpint(call(t, x86_h_pusha, 0, 0, 4, NULL), ==, -1);
    g_assert_cmphex(t->cpu.s.gpr[X86_RSP], ==, 0x1fe0);
    g_assert_cmphex(element(t->mem, 0x1ffc, 4), ==, 0x11111111);
    g_assert_cmphex(element(t->mem, 0x1fec, 4), ==, 0x2000);
    memset(t->cpu.s.gpr, 0, 4 * sizeof(uint64_t));
    g_assert_cmpint(call(t, x86_h_popa, 0, 0, 4, NULL), ==, -1);
    g_assert_cmphex(t->cpu.s.gpr[X86_RSP], ==, 0x2000);
    g_assert_cmphex(t->cpu.s.gpr[X86_RBX], ==, 0x44444444);

    t->cpu.s.gpr[X86_RBP] = 0x3000;
    g_assert_cmpint(call(t, x86_h_enter, 16, 2, 4, NULL), ==, -1);
    g_assert_cmphex(element(t->mem, 0x1ffc, 4), ==, 0x3000);
    g_assert_cmphex(element(t->mem, 0x1ff8, 4), ==, element(t->mem, 0x2ffc, 4));
    g_assert_cmphex(element(t->mem, 0x1ff4, 4), ==, 0x1ffc);
    g_assert_cmphex(t->cpu.s.gpr[X86_RBP], ==, 0x1ffc);
    g_assert_cmphex(t->cpu.s.gpr[X86_RSP], ==, 0x1ff4 - 16);
    free(t);
}

static void test_cmpxchg(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE);
    static const uint64_t at[] = { 64, 4092, MMIO_PAGE * 4096 + 8 };
    uint64_t *r = t->cpu.s.gpr;

    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        uint64_t old = element(t->mem, at[i], 8);

        r[X86_RAX] = 1, r[X86_RDX] = 2, r[X86_RBX] = 3, r[X86_RCX] = 4;
        g_assert_cmpint(call(t, x86_h_cmpxchg8b, at[i], 0, 0, NULL), ==, -1);
        g_assert_false(jit_get_rflags(&t->cpu) & X86_FL_ZF);
        g_assert_cmphex(r[X86_RAX], ==, (uint32_t)old);
        g_assert_cmphex(r[X86_RDX], ==, old >> 32);
        g_assert_cmpint(call(t, x86_h_cmpxchg8b, at[i], 0, 1, NULL), ==, -1);
        g_assert_true(jit_get_rflags(&t->cpu) & X86_FL_ZF);
        g_assert_cmphex(element(t->mem, at[i], 8), ==, 0x400000003);
    }
    g_assert_cmpint(call(t, x86_h_cmpxchg16b, 8, 0, 0, NULL), ==, X86_GP);
    r[X86_RAX] = element(t->mem, 128, 8), r[X86_RDX] = element(t->mem, 136, 8), r[X86_RBX] = 5, r[X86_RCX] = 6;
    g_assert_cmpint(call(t, x86_h_cmpxchg16b, 128, 0, 0, NULL), ==, -1);
    g_assert_cmphex(element(t->mem, 128, 8), ==, 5);
    g_assert_cmphex(element(t->mem, 136, 8), ==, 6);
    free(t);
}

static void test_debug(void)
{
    struct toy *t = toy_new(JIT_MODE_CODE64 | JIT_MODE_FLAT | JIT_MODE_PE | JIT_MODE_DEBUG);

    t->cpu.s.dr[1] = 0x1000;
    g_assert_cmpint(call(t, x86_h_write_dr, 7, 0x4 | 0xdu << 20, 9, NULL), ==, -1); /* four bytes, writes */
    x86_h_debug_fetch(&t->cpu, 0x1000, 0, 0);
    x86_h_debug_check(&t->cpu, 0x1003, 0, 4 | JIT_ACC_READ);
    g_assert_cmpint(call(t, x86_h_step_done, 0, 0, 77, NULL), ==, -1);
    x86_h_debug_check(&t->cpu, 0x1004, 0, 4 | JIT_ACC_WRITE);
    g_assert_cmpint(call(t, x86_h_step_done, 0, 0, 77, NULL), ==, -1);
    x86_h_debug_check(&t->cpu, 0xffc, 0, 8 | JIT_ACC_WRITE);
    g_assert_cmpint(call(t, x86_h_step_done, 0, 0, 77, NULL), ==, 1000 + JIT_LEAVE_EXCEPTION);
    g_assert_cmphex(t->cpu.s.rip, ==, 77);
    g_assert_cmphex(t->cpu.s.dr6 & 0xf, ==, 2);
    g_assert_cmpint(call(t, x86_h_write_dr, 7, 0x4, 9, NULL), ==, -1);
    g_assert_cmpint(call(t, x86_h_debug_fetch, 0x1000, 0, 0, NULL), ==, X86_DB);
    t->cpu.s.rflags |= X86_FL_RF;
    g_assert_cmpint(call(t, x86_h_debug_fetch, 0x1000, 0, 0, NULL), ==, -1);
    t->cpu.s.cr4 = X86_CR4_DE;
    g_assert_cmpint(call(t, x86_h_read_dr, 4, 0, 0, NULL), ==, X86_UD);
    free(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86-light/packed decimal", test_packed);
    g_test_add_func("/x86-light/unpacked decimal", test_unpacked);
    g_test_add_func("/x86-light/movs", test_movs);
    g_test_add_func("/x86-light/fault in a string", test_fault_in_the_middle);
    g_test_add_func("/x86-light/16-bit wrap", test_wrap);
    g_test_add_func("/x86-light/scas and cmps", test_scas_cmps);
    g_test_add_func("/x86-light/ins", test_ins);
    g_test_add_func("/x86-light/fxsave", test_fxsave);
    g_test_add_func("/x86-light/xsave", test_xsave);
    g_test_add_func("/x86-light/fnsave", test_fnsave);
    g_test_add_func("/x86-light/control registers", test_control);
    g_test_add_func("/x86-light/msr", test_msr);
    g_test_add_func("/x86-light/frames", test_frames);
    g_test_add_func("/x86-light/cmpxchg", test_cmpxchg);
    g_test_add_func("/x86-light/debug registers", test_debug);
    return g_test_run();
}
