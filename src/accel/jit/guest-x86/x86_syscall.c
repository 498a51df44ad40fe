/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM vol. 2, those entries; APM vol. 2, 6.1). Segments come from MSRs, not from
 * descriptor tables. Light.
 *
 * Vendors differ: AMD has SYSCALL and SYSRET outside 64-bit code, Intel does not. SYSENTER works in long mode, as Intel
 * has it; a SYSRET to a non-canonical address faults in the kernel, as Intel has it.
 */
#include "accel/jit/guest-x86/x86_system.h"

#define ATTR_CODE64 0xa09bu /* G, L, P, S, execute-read accessed; DPL to be added */
#define ATTR_CODE32 0xc09bu /* G, D */
#define ATTR_DATA   0xc093u
#define ATTR_USER   0x0060u

static void set_flat(struct jit_cpu *cpu, unsigned cs, uint32_t cs_attr, unsigned ss, uint32_t dpl)
{
    x86_set_seg(cpu, X86_CS, (uint16_t)cs, 0, 0xffffffffu, cs_attr | dpl);
    x86_set_seg(cpu, X86_SS, (uint16_t)ss, 0, 0xffffffffu, ATTR_DATA | dpl);
}

static void done(struct jit_cpu *cpu, uint64_t rip)
{
    cpu->s.rip = rip;
    jit_mode_changed(cpu);
}

static void need_syscall(struct jit_cpu *cpu)
{
    bool amd = cpu->model->vendor[0] == 'A';
    bool code64 = x86_code64(cpu);
    if (!(cpu->s.efer & X86_EFER_SCE) || !(code64 || (amd && (cpu->s.cr0 & X86_CR0_PE)))) {
        jit_raise(cpu, X86_UD, false, 0);
    }
}

uint64_t x86_h_syscall(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct x86_state *s = &cpu->s;
    need_syscall(cpu);
    unsigned cs = s->star >> 32 & 0xfffcu;
    uint64_t next = a > 15 ? a : x86_next_rip(cpu, (unsigned)a), rip; /* finding rip costs a search */
    s->gpr[X86_RCX] = next;
    if (x86_long(cpu)) {
        uint64_t flags = jit_get_rflags(cpu) & ~(uint64_t)X86_FL_RF;
        s->gpr[X86_R11] = flags;
        rip = x86_code64(cpu) ? s->lstar : s->cstar;
        x86_put_rflags(cpu, flags & ~s->sfmask);
        set_flat(cpu, cs, ATTR_CODE64, cs + 8, 0);
    } else {
        rip = s->star & 0xffffffffu;
        s->rflags &= ~(uint64_t)(X86_FL_VM | X86_FL_IF | X86_FL_RF);
        set_flat(cpu, cs, ATTR_CODE32, cs + 8, 0);
    }
    s->rip = rip;
    jit_mode_changed(cpu);
    return 0;
}

uint64_t x86_h_sysret(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct x86_state *s = &cpu->s;
    need_syscall(cpu);
    x86_need_cpl0(cpu);
    unsigned cs = s->star >> 48;
    uint64_t rip = s->gpr[X86_RCX];
    bool wide = (c & 0xffu) == 8;
    if (wide) {
        x86_need(cpu, x86_canonical(rip), X86_GP, 0);
        set_flat(cpu, (cs + 16) | 3u, ATTR_CODE64, (cs + 8) | 3u, ATTR_USER);
    } else {
        rip &= 0xffffffffu;
        set_flat(cpu, cs | 3u, ATTR_CODE32, (cs + 8) | 3u, ATTR_USER);
    }
    if (x86_long(cpu)) {
        x86_put_rflags(cpu, s->gpr[X86_R11] & 0x3c7fd7u);
    } else {
        s->rflags |= X86_FL_IF;
    }
    done(cpu, rip);
    return 0;
}

uint64_t x86_h_sysenter(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct x86_state *s = &cpu->s;
    unsigned cs = s->sysenter_cs & 0xfffcu;
    x86_need(cpu, (s->cr0 & X86_CR0_PE) && cs, X86_GP, 0);
    uint64_t mask = x86_mask(x86_long(cpu) ? 8 : 4);
    s->rflags &= ~(uint64_t)(X86_FL_VM | X86_FL_IF | X86_FL_RF);
    set_flat(cpu, cs, x86_long(cpu) ? ATTR_CODE64 : ATTR_CODE32, cs + 8, 0);
    s->gpr[X86_RSP] = s->sysenter_esp & mask;
    s->rip = s->sysenter_eip & mask;
    jit_mode_changed(cpu);
    return 0;
}

uint64_t x86_h_sysexit(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct x86_state *s = &cpu->s;
    unsigned cs = s->sysenter_cs & 0xfffcu;
    x86_need(cpu, (s->cr0 & X86_CR0_PE) && cs && x86_cpl(cpu) == 0, X86_GP, 0);
    uint64_t rip = s->gpr[X86_RDX], rsp = s->gpr[X86_RCX];
    if ((c & 0xffu) == 8) {
        x86_need(cpu, x86_canonical(rip) && x86_canonical(rsp), X86_GP, 0);
        set_flat(cpu, (cs + 32) | 3u, ATTR_CODE64, (cs + 40) | 3u, ATTR_USER);
    } else {
        rip &= 0xffffffffu;
        rsp &= 0xffffffffu;
        set_flat(cpu, (cs + 16) | 3u, ATTR_CODE32, (cs + 24) | 3u, ATTR_USER);
    }
    s->gpr[X86_RSP] = rsp;
    done(cpu, rip);
    return 0;
}
