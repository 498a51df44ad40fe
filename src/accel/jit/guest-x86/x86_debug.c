/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug registers, breakpoints and single step. SDM vol. 3, 18.2 and 18.3. Light code. Regions of one instruction call
 * debug_fetch first, debug_check for each memory operand, step_done last.
 */
#include "accel/jit/guest-x86/x86_helpers.h"

#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
#define DR6_WRITABLE 0xe00fu
#define DR6_FIXED 0xffff0ff0u
#define DR7_GD 0x2000u
#define DR7_WRITABLE 0xffff23ffu
#define DR7_FIXED 0x400u

enum { DR7_RW_EXEC = 0, DR7_RW_WRITE = 1, DR7_RW_BOTH = 3 };

static unsigned dr7_rw(const struct jit_cpu *cpu, unsigned i)
{
    return (unsigned)(cpu->s.dr7 >> (16 + 4 * i)) & 3;
}

static unsigned dr7_len(const struct jit_cpu *cpu, unsigned i)
{
    static const uint8_t len[4] = { 1, 2, 8, 4 };

    return len[cpu->s.dr7 >> (18 + 4 * i) & 3];
}

static bool dr7_enabled(const struct jit_cpu *cpu, unsigned i)
{
    return cpu->s.dr7 >> (2 * i) & 3;
}

static void note(struct jit_cpu *cpu, uint64_t dr6_bits)
{
    cpu->s.dr6 |= dr6_bits;
    cpu->s.dr7 &= ~(uint64_t)DR7_GD; /* so that the handler may read the registers */
}

_Noreturn static void debug_fault(struct jit_cpu *cpu, uint64_t dr6_bits)
{
    note(cpu, dr6_bits);
    jit_raise(cpu, X86_DB, false, 0);
}

/* The instruction is complete: what is pushed is the address of the next one. */
_Noreturn static void debug_trap(struct jit_cpu *cpu, uint64_t next)
{
    cpu->s.rip = next;
    cpu->exception_vector = X86_DB;
    cpu->exception_error = 0;
    cpu->exception_has_error = 0;
    cpu->exception_next_len = 0;
    cpu->exception_event = JIT_EV_FAULT;
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}

/* The register meant by number a: 4 and 5 are 6 and 7 without CR4.DE. */
static unsigned dr_number(struct jit_cpu *cpu, uint64_t a)
{
    if (x86_cpl(cpu) != 0) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    if (a > 7 || ((a == 4 || a == 5) && (cpu->s.cr4 & X86_CR4_DE))) {
        jit_raise(cpu, X86_UD, false, 0);
    }
    if (cpu->s.dr7 & DR7_GD) {
        debug_fault(cpu, DR6_BD);
    }
    return a == 4 || a == 5 ? (unsigned)a + 2 : (unsigned)a;
}

uint64_t x86_h_read_dr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned n = dr_number(cpu, a);

    return n == 6 ? cpu->s.dr6 : n == 7 ? cpu->s.dr7 : cpu->s.dr[n];
}

uint64_t x86_h_write_dr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned n = dr_number(cpu, a);

    if (n >= 6 && b >> 32) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    if (n == 6) {
        cpu->s.dr6 = (b & DR6_WRITABLE) | DR6_FIXED;
    } else if (n == 7) {
        cpu->s.dr7 = (b & DR7_WRITABLE) | DR7_FIXED;
    } else {
        cpu->s.dr[n] = b;
    }
    cpu->s.rip = c;
    jit_mode_changed(cpu);
    return 0;
}

uint64_t x86_h_debug_fetch(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t hits = 0;

    if (!(cpu->mode & JIT_MODE_SHADOW)) { /* else MOV SS may have left some */
        cpu->debug_hit = 0;
    }
    cpu->debug_rf = (cpu->s.rflags & X86_FL_RF) != 0;
    if (cpu->debug_rf) {
        return 0;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (dr7_enabled(cpu, i) && dr7_rw(cpu, i) == DR7_RW_EXEC && cpu->s.dr[i] == a) {
            hits |= 1u << i;
        }
    }
    if (hits) {
        debug_fault(cpu, hits);
    }
    return 0;
}

uint64_t x86_h_debug_check(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned size = JIT_ACC_SIZE(c);

    for (unsigned i = 0; i < 4; i++) {
        unsigned rw = dr7_rw(cpu, i), len = dr7_len(cpu, i);
        uint64_t at = cpu->s.dr[i] & ~(uint64_t)(len - 1);
        bool kind = rw == DR7_RW_BOTH || (rw == DR7_RW_WRITE && (c & JIT_ACC_WRITE));

        if (dr7_enabled(cpu, i) && kind && a < at + len && at < a + size) {
            cpu->debug_hit |= (uint8_t)(1u << i);
        }
    }
    return 0;
}

uint64_t x86_h_step_done(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t bits = cpu->debug_hit;

    if (cpu->debug_rf && !(a & X86_STEP_AGAIN)) { /* RF holds for one instruction (SDM vol. 3, 18.3.1.1) */
        cpu->debug_rf = 0;
        cpu->s.rflags &= ~(uint64_t)X86_FL_RF;
    }
    if (a & X86_STEP_HELD) {
        return 0;
    }
    cpu->debug_hit = 0;
    if (a & X86_STEP_NEW_TF ? cpu->mode & JIT_MODE_STEP : a & X86_STEP_TF) {
        bits |= DR6_BS;
    }
    if (!bits) {
        return 0;
    }
    note(cpu, bits);
    debug_trap(cpu, c);
}
