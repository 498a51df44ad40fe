/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few x87, MMX and SSE instructions whose operands do not fit an IR_HOST operation. Light code: the guest's
 * vector and x87 state is in the host's registers while these run.
 */
#include "accel/jit/guest-x86/x86_helpers.h"

/* SDM vol. 3, 2.5, table 2-2: WAIT/FWAIT looks at MP and TS only. */
uint64_t x86_h_fwait_check(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if ((cpu->s.cr0 & (X86_CR0_MP | X86_CR0_TS)) == (X86_CR0_MP | X86_CR0_TS))
        jit_raise(cpu, X86_NM, false, 0);
    return 0;
}

/* Half of MASKMOVDQU, or MASKMOVQ. All eight bytes are probed first, so that a fault comes before its first byte is
 * written. */
uint64_t x86_h_maskmov(struct jit_cpu *cpu, uint64_t lin, uint64_t data, uint64_t mask)
{
    unsigned mmu = JIT_MODE_MMU(cpu->mode);
    uint64_t wrap = JIT_MODE_CODE(cpu->mode) == JIT_MODE_CODE64 ? ~0ull : 0xffffffffu;
    if (!(mask & 0x8080808080808080ull))
        return 0;
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < 8; i++) {
            if (!(mask >> (8 * i + 7) & 1))
                continue;
            if (pass == 0)
                jit_probe(cpu, (lin + i) & wrap, 1, JIT_ACC_WRITE, mmu);
            else
                jit_store(cpu, (lin + i) & wrap, 1, mmu, data >> (8 * i) & 0xff);
        }
    }
    return 0;
}
