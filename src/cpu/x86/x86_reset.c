/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vCPU after power-on or INIT. SDM vol. 3, table 10-1 (9-1 in older editions). */
#include <string.h>

#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"

enum { XSAVE_FCW = 0, XSAVE_MXCSR = 24, XSAVE_MXCSR_MASK = 28, XSAVE_XSTATE_BV = 512 };

static struct x86_segment segment(uint16_t sel, uint64_t base, uint32_t attr)
{
    return (struct x86_segment){ .base = base, .limit = 0xffff, .attr = attr, .sel = sel };
}

static void reset_segments(struct x86_state *s)
{
    for (unsigned i = 0; i < X86_NSEG; i++) {
        s->seg[i] = segment(0, 0, X86_ATTR_P | X86_ATTR_S | 3);
    }
    s->seg[X86_CS] = segment(0xf000, 0xffff0000, X86_ATTR_P | X86_ATTR_S | 0xb);
    s->ldt = segment(0, 0, X86_ATTR_P | 2);
    s->tr = segment(0, 0, X86_ATTR_P | 0xb); /* busy 32-bit TSS */
    s->gdt = s->idt = (struct x86_dtable){ .limit = 0xffff };
}

static void reset_msrs(struct x86_state *s, bool bsp)
{
    s->star = s->lstar = s->cstar = s->sfmask = s->kernel_gs_base = 0;
    s->sysenter_cs = s->sysenter_esp = s->sysenter_eip = 0;
    s->pat = 0x0007040600070406;
    s->apic_base = 0xfee00000 | 0x800 | (bsp ? 0x100 : 0);
    s->misc_enable = 1 | 1u << 11 | 1u << 12; /* fast strings; no BTS, no PEBS */
    s->tsc_aux = s->spec_ctrl = s->mcg_status = 0;
    s->feature_control = 1; /* locked, VMX off: what firmware leaves */
    s->tsc_offset = s->tsc_adjust = 0;
    s->mtrr_def = 0;
    memset(s->mtrr_fix, 0, sizeof(s->mtrr_fix));
    memset(s->mtrr_base, 0, sizeof(s->mtrr_base));
    memset(s->mtrr_mask, 0, sizeof(s->mtrr_mask));
}

static void put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static void reset_fpu(struct x86_state *s)
{
    memset(s->xsave, 0, sizeof(s->xsave));
    put32(s->xsave + XSAVE_FCW, 0x037f);
    put32(s->xsave + XSAVE_MXCSR, 0x1f80);
    put32(s->xsave + XSAVE_MXCSR_MASK, 0xffff);
    put32(s->xsave + XSAVE_XSTATE_BV, 3);
    s->xcr0 = 1;
}

static uint32_t signature(const struct x86_cpu_model *m)
{
    static const struct x86_cpu_topology alone = { .sockets = 1, .cores = 1, .threads = 1 };
    static const struct x86_state none;
    uint32_t r[4];

    x86_cpuid(m, &alone, &none, 1, 0, r);
    return r[0];
}

void x86_state_reset(struct x86_state *s, const struct x86_cpu_model *m, bool bsp, bool init)
{
    uint64_t cache_bits = init ? s->cr0 & (X86_CR0_CD | X86_CR0_NW) : X86_CR0_CD | X86_CR0_NW;

    memset(s->gpr, 0, sizeof(s->gpr));
    s->gpr[X86_RDX] = signature(m);
    s->rip = 0xfff0;
    s->rflags = X86_FL_1;
    reset_segments(s);
    s->cr0 = X86_CR0_ET | cache_bits;
    s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
    memset(s->dr, 0, sizeof(s->dr));
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->efer = 0;
    if (!init) {
        reset_msrs(s, bsp);
        reset_fpu(s);
        s->nested_size = 0;
        s->smm = s->smi_pending = 0;
        s->smbase = 0x30000;
        s->debugctl = s->xss = 0;
    }
    s->interrupt_injected = s->interrupt_soft = s->interrupt_vector = s->nmi_injected = s->triple_fault_pending = 0;
    s->activity = bsp ? X86_RUNNING : X86_WAIT_SIPI;
    s->interrupt_shadow = s->nmi_pending = s->nmi_blocked = 0;
    s->exception_pending = s->exception_vector = s->exception_has_error = 0;
    s->exception_error = 0;
}
