/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The canonical vCPU state from and to the translator's, and which CPU features the translator runs. Ordinary code: the vCPU is
 * outside vcpu_run, its XMM registers in jit_cpu.vec.
 */
#include <string.h>

#include "accel/jit/engine/jit_cpu.h"

enum {
    AT_FCW = 0, AT_FOP = 6, AT_MXCSR = 24, AT_MXCSR_MASK = 28, AT_ST = 32, AT_XMM = 160, AT_HEADER = 512,
    HEADER_SIZE = 64,
};
#define MXCSR_KNOWN 0xffffu
#define RFLAGS_KNOWN 0x3f7fd5u

/* ---- features ---- */

/* Instructions that the host executes for the guest: offered where the host has them. */
static const uint16_t passed_through[] = {
    X86_FEAT_MMX, X86_FEAT_MMXEXT, X86_FEAT_SSE, X86_FEAT_SSE2, X86_FEAT_SSE3, X86_FEAT_SSSE3, X86_FEAT_SSE4_1,
    X86_FEAT_SSE4_2, X86_FEAT_AES, X86_FEAT_PCLMULQDQ, X86_FEAT_SHA_NI, X86_FEAT_BMI1, X86_FEAT_BMI2, X86_FEAT_ADX,
    X86_FEAT_MOVBE, X86_FEAT_POPCNT, X86_FEAT_ABM, X86_FEAT_RDRAND, X86_FEAT_RDSEED, X86_FEAT_CX16, X86_FEAT_FXSR,
    X86_FEAT_F3DNOWPREFETCH, X86_FEAT_GFNI, X86_FEAT_INVTSC /* the guest's TSC is the host's */,
};
/* What we provide ourselves, whatever the host is. */
static const uint16_t emulated[] = {
    X86_FEAT_FPU, X86_FEAT_DE, X86_FEAT_PSE, X86_FEAT_TSC, X86_FEAT_MSR, X86_FEAT_PAE, X86_FEAT_MCE, X86_FEAT_CX8,
    X86_FEAT_APIC, X86_FEAT_SEP, X86_FEAT_MTRR, X86_FEAT_PGE, X86_FEAT_MCA, X86_FEAT_CMOV, X86_FEAT_PAT, X86_FEAT_PSE36,
    X86_FEAT_CLFLUSH, X86_FEAT_PCID, X86_FEAT_X2APIC, X86_FEAT_TSC_DEADLINE, X86_FEAT_XSAVE, X86_FEAT_HYPERVISOR,
    X86_FEAT_ARAT, X86_FEAT_FSGSBASE, X86_FEAT_TSC_ADJUST, X86_FEAT_SMEP, X86_FEAT_ERMS, X86_FEAT_INVPCID, X86_FEAT_SMAP,
    X86_FEAT_CLFLUSHOPT, X86_FEAT_CLWB, X86_FEAT_UMIP, X86_FEAT_RDPID, X86_FEAT_FSRM, X86_FEAT_ARCH_CAPABILITIES,
    X86_FEAT_SPEC_CTRL, X86_FEAT_STIBP, X86_FEAT_SSBD, X86_FEAT_XSAVEOPT, X86_FEAT_XGETBV1,
    X86_FEAT_SYSCALL, X86_FEAT_NX, X86_FEAT_PDPE1GB, X86_FEAT_RDTSCP, X86_FEAT_LM, X86_FEAT_LAHF_LM, X86_FEAT_CR8LEGACY,
    X86_FEAT_TOPOEXT, X86_FEAT_WBNOINVD, X86_FEAT_IBPB, X86_FEAT_IBRS, X86_FEAT_AMD_STIBP,
    X86_FEAT_AMD_SSBD, X86_FEAT_AMD_NO_SSB, X86_FEAT_AMD_PSFD, X86_FEAT_BTC_NO, X86_FEAT_NO_NESTED_DATA_BP,
    X86_FEAT_LFENCE_ALWAYS_SERIALIZING, X86_FEAT_NULL_SEL_CLR_BASE, X86_FEAT_AUTO_IBRS, X86_FEAT_NO_SMM_CTL_MSR,
    X86_FEAT_SRSO_NO, X86_FEAT_SRSO_USER_KERNEL_NO, X86_FEAT_TSA_SQ_NO, X86_FEAT_TSA_L1_NO,
};

static void add(uint64_t *set, unsigned f)
{
    set[f / 64] |= 1ull << (f % 64);
}

void x86_jit_features(uint64_t ret_features[(X86_NFEATURES + 63) / 64])
{
    uint64_t host[(X86_NFEATURES + 63) / 64];

    x86_host_features(host);
    memset(ret_features, 0, sizeof(host));
    for (unsigned i = 0; i < G_N_ELEMENTS(passed_through); i++) {
        unsigned f = passed_through[i];

        if (host[f / 64] >> (f % 64) & 1) {
            add(ret_features, f);
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(emulated); i++) {
        add(ret_features, emulated[i]);
    }
}

/* ---- state ---- */

static void put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* The x87 part (bytes 0-159 of the image) is the engine's: it is in the host's unit or in a save area of its own. */
void x86_state_out(struct jit_cpu *cpu, struct x86_state *ret)
{
    *ret = cpu->s;
    ret->rflags = jit_get_rflags(cpu);
    put32(ret->xsave + AT_MXCSR, cpu->mxcsr);
    put32(ret->xsave + AT_MXCSR_MASK, MXCSR_KNOWN);
    memcpy(ret->xsave + AT_XMM, cpu->vec, sizeof(cpu->vec));
    memset(ret->xsave + AT_HEADER, 0, HEADER_SIZE);
    put32(ret->xsave + AT_HEADER, 3);
    if (atomic_load(&cpu->pending) & JIT_PEND_NMI) {
        ret->nmi_pending = 1;
    }
}

/* Leaves in cpu->s.xsave an image that FXRSTOR takes as it is: a component that XSTATE_BV says is in its initial state may
 * hold anything, and reserved MXCSR bits would fault. */
static void fpu_in(struct jit_cpu *cpu)
{
    uint8_t *x = cpu->s.xsave;
    uint32_t bv = get32(x + AT_HEADER);

    memset(x + AT_FOP, 0, AT_MXCSR - AT_FOP);
    if (!(bv & 1)) {
        memset(x, 0, AT_MXCSR);
        memset(x + AT_ST, 0, AT_XMM - AT_ST);
        x[AT_FCW] = 0x7f;
        x[AT_FCW + 1] = 0x03;
    }
    if (!(bv & 2)) {
        memset(x + AT_XMM, 0, sizeof(cpu->vec));
    }
    cpu->mxcsr = get32(x + AT_MXCSR) & MXCSR_KNOWN;
    put32(x + AT_MXCSR, cpu->mxcsr);
    put32(x + AT_MXCSR_MASK, MXCSR_KNOWN);
    memset(x + AT_HEADER, 0, HEADER_SIZE);
    put32(x + AT_HEADER, 3);
    memcpy(cpu->vec, x + AT_XMM, sizeof(cpu->vec));
}

/* What the architecture keeps true about a state is made true, so that a state from a file cannot confuse the translator. */
static void repair(struct jit_cpu *cpu)
{
    struct x86_state *s = &cpu->s;
    bool lma = (s->cr0 & X86_CR0_PG) && (s->efer & X86_EFER_LME) && (s->cr4 & X86_CR4_PAE);

    s->cr0 = (uint32_t)s->cr0 | X86_CR0_ET;
    if (!(s->cr0 & X86_CR0_PE)) {
        s->cr0 &= ~(uint64_t)X86_CR0_PG;
        lma = false;
    }
    s->efer = lma ? s->efer | X86_EFER_LMA : s->efer & ~(uint64_t)X86_EFER_LMA;
    s->cr3 &= (1ull << cpu->model->phys_bits) - 1;
    s->xcr0 = (s->xcr0 & 2) | 1;
    s->rflags = (s->rflags & RFLAGS_KNOWN) | X86_FL_1;
    s->tsc_aux = (uint32_t)s->tsc_aux;
    s->dr7 = (s->dr7 & 0xffff23ff) | 0x400;
    s->dr6 = (s->dr6 & 0xe00f) | 0xffff0ff0;
}

void x86_state_in(struct jit_cpu *cpu, const struct x86_state *state)
{
    cpu->s = *state;
    repair(cpu);
    jit_set_arith(cpu, cpu->s.rflags);
    cpu->s.rflags &= ~(uint64_t)X86_FL_ARITH;
    fpu_in(cpu);
    for (unsigned i = 0; i < X86_NSEG; i++) {
        cpu->seg_base[i] = cpu->s.seg[i].base;
    }
    if (cpu->s.nmi_pending) {
        cpu->s.nmi_pending = 0;
        atomic_fetch_or(&cpu->pending, JIT_PEND_NMI);
    }
    cpu->debug_hit = cpu->debug_rf = 0;
    cpu->bounce_desc = 0;
    jit_tlb_flush(cpu);
    jit_mode_changed(cpu);
    jit_check_interrupts(cpu);
}
