/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers: one row each. SDM vol. 4; APM vol. 2, appendix A. A register without a row does not exist: #GP,
 * as on hardware. Light code.
 */
#include "accel/jit/guest-x86/x86_helpers.h"

enum msr_how {
    MSR_STATE,     /* a field of x86_state at `arg`; `mask`: bits that may be set */
    MSR_CANONICAL, /* the same, an address */
    MSR_CONST,     /* reads `mask`, writes are #GP */
    MSR_IGNORE,    /* reads `mask`, writes are accepted and change nothing */
    MSR_COMMAND,   /* write-only, bits of `mask`; nothing to do */
    MSR_BUS,       /* the machine's */
    MSR_SEGBASE,   /* `arg`: enum x86_seg */
    MSR_SPECIAL,   /* by index in the code below */
};
enum msr_vendor { ANY, INTEL, AMD };

struct msr_row {
    uint32_t first, last;
    uint8_t how, vendor;
    uint16_t feature; /* needed in the model; 0 (FPU): none */
    uint16_t arg;
    uint64_t mask;
};

#define IN_STATE(field) offsetof(struct x86_state, field)
#define ALL ~0ull

enum {
    IA32_TSC = 0x10, IA32_APIC_BASE = 0x1b, IA32_FEATURE_CONTROL = 0x3a, IA32_TSC_ADJUST = 0x3b, IA32_UCODE_REV = 0x8b,
    PLATFORM_INFO = 0xce, MTRR_PHYS_BASE0 = 0x200, MTRR_FIX64K = 0x250, MTRR_FIX16K = 0x258, MTRR_FIX16K_LAST = 0x259,
    MTRR_FIX4K = 0x268, MTRR_DEF_TYPE = 0x2ff, IA32_PAT = 0x277,
};
#define MSR_EFER 0xc0000080u

/* What IA32_ARCH_CAPABILITIES promises: see the note on speculation in x86_model.c. RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO,
 * MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. */
#define ARCH_CAPABILITIES (0x17bull | 7ull << 13 | 1ull << 20 | 1ull << 24 | 3ull << 26 | 1ull << 62)

static const struct msr_row rows[] = {
    /* first, last, how, vendor, feature, arg, mask; in order of number */
    { 0x10, 0x10, MSR_SPECIAL, ANY, X86_FEAT_TSC, 0, ALL },
    { 0x17, 0x17, MSR_CONST, INTEL, 0, 0, 0 },                                /* PLATFORM_ID */
    { 0x1b, 0x1b, MSR_BUS, ANY, X86_FEAT_APIC, 0, ALL },                      /* APIC_BASE */
    { 0x2a, 0x2a, MSR_IGNORE, INTEL, 0, 0, 0 },                               /* EBL_CR_POWERON */
    { 0x3a, 0x3a, MSR_SPECIAL, INTEL, 0, 0, ALL },                            /* FEATURE_CONTROL */
    { 0x3b, 0x3b, MSR_SPECIAL, ANY, X86_FEAT_TSC_ADJUST, 0, ALL },
    { 0x48, 0x48, MSR_STATE, ANY, 0, IN_STATE(spec_ctrl), 0x87 },             /* IBRS STIBP SSBD PSFD */
    { 0x49, 0x49, MSR_COMMAND, ANY, 0, 0, 0x81 },                             /* PRED_CMD: IBPB SBPB */
    { 0x79, 0x79, MSR_COMMAND, INTEL, 0, 0, ALL },                            /* BIOS_UPDT_TRIG */
    { 0x8b, 0x8b, MSR_IGNORE, INTEL, 0, 0, 0x100000000 },                     /* microcode revision */
    { 0x8b, 0x8b, MSR_IGNORE, AMD, 0, 0, 0x0a101148 },
    { 0xce, 0xce, MSR_SPECIAL, INTEL, 0, 0, 0 },                              /* PLATFORM_INFO */
    { 0xfe, 0xfe, MSR_CONST, ANY, X86_FEAT_MTRR, 0, 0x500 | X86_NMTRR_VAR },  /* MTRRCAP: WC, fixed ranges */
    { 0x10a, 0x10a, MSR_CONST, ANY, X86_FEAT_ARCH_CAPABILITIES, 0, ARCH_CAPABILITIES },
    { 0x10b, 0x10b, MSR_COMMAND, ANY, X86_FEAT_FLUSH_L1D, 0, 1 },
    { 0x119, 0x119, MSR_IGNORE, INTEL, 0, 0, 0 },                             /* BBL_CR_CTL */
    { 0x11e, 0x11e, MSR_IGNORE, INTEL, 0, 0, 0 },                             /* BBL_CR_CTL3 */
    { 0x140, 0x140, MSR_IGNORE, INTEL, 0, 0, 0 },                             /* MISC_FEATURES_ENABLES */
    { 0x174, 0x174, MSR_STATE, ANY, X86_FEAT_SEP, IN_STATE(sysenter_cs), 0xffffffff },
    { 0x175, 0x175, MSR_CANONICAL, ANY, X86_FEAT_SEP, IN_STATE(sysenter_esp), ALL },
    { 0x176, 0x176, MSR_CANONICAL, ANY, X86_FEAT_SEP, IN_STATE(sysenter_eip), ALL },
    { 0x179, 0x179, MSR_CONST, ANY, X86_FEAT_MCA, 0, 0x104 },                 /* MCG_CAP: MCG_CTL, 4 banks */
    { 0x17a, 0x17a, MSR_STATE, ANY, X86_FEAT_MCA, IN_STATE(mcg_status), 7 },
    { 0x17b, 0x17b, MSR_IGNORE, ANY, X86_FEAT_MCA, 0, ALL },                  /* MCG_CTL */
    { 0x198, 0x198, MSR_CONST, INTEL, 0, 0, 0x1000 },                         /* PERF_STATUS */
    { 0x199, 0x19c, MSR_IGNORE, INTEL, 0, 0, 0 },                             /* PERF_CTL, clock modulation, thermal */
    { 0x1a0, 0x1a0, MSR_STATE, INTEL, 0, IN_STATE(misc_enable), ALL },
    { 0x1d9, 0x1d9, MSR_IGNORE, ANY, 0, 0, 0 },                               /* DEBUGCTL: no branch records */
    { 0x1db, 0x1de, MSR_CONST, ANY, 0, 0, 0 },                                /* last branch, last interrupt */
    { 0x200, 0x200 + 2 * X86_NMTRR_VAR - 1, MSR_SPECIAL, ANY, X86_FEAT_MTRR, 0, ALL },
    { 0x250, 0x250, MSR_SPECIAL, ANY, X86_FEAT_MTRR, 0, ALL },
    { 0x258, 0x259, MSR_SPECIAL, ANY, X86_FEAT_MTRR, 0, ALL },
    { 0x268, 0x26f, MSR_SPECIAL, ANY, X86_FEAT_MTRR, 0, ALL },
    { 0x277, 0x277, MSR_SPECIAL, ANY, X86_FEAT_PAT, 0, ALL },
    { 0x2ff, 0x2ff, MSR_SPECIAL, ANY, X86_FEAT_MTRR, 0, ALL },
    { 0x400, 0x40f, MSR_SPECIAL, ANY, X86_FEAT_MCA, 0, 0 },                   /* MCi_CTL, STATUS, ADDR, MISC */
    { 0x6e0, 0x6e0, MSR_BUS, ANY, X86_FEAT_TSC_DEADLINE, 0, ALL },
    { 0x800, 0x8ff, MSR_BUS, ANY, X86_FEAT_X2APIC, 0, ALL },
    { 0xc0000080, 0xc0000080, MSR_SPECIAL, ANY, X86_FEAT_MSR, 0, ALL },       /* EFER */
    { 0xc0000081, 0xc0000081, MSR_STATE, ANY, X86_FEAT_SYSCALL, IN_STATE(star), ALL },
    { 0xc0000082, 0xc0000082, MSR_CANONICAL, ANY, X86_FEAT_LM, IN_STATE(lstar), ALL },
    { 0xc0000083, 0xc0000083, MSR_CANONICAL, ANY, X86_FEAT_LM, IN_STATE(cstar), ALL },
    { 0xc0000084, 0xc0000084, MSR_STATE, ANY, X86_FEAT_LM, IN_STATE(sfmask), 0xffffffff },
    { 0xc0000100, 0xc0000100, MSR_SEGBASE, ANY, X86_FEAT_LM, X86_FS, ALL },
    { 0xc0000101, 0xc0000101, MSR_SEGBASE, ANY, X86_FEAT_LM, X86_GS, ALL },
    { 0xc0000102, 0xc0000102, MSR_CANONICAL, ANY, X86_FEAT_LM, IN_STATE(kernel_gs_base), ALL },
    { 0xc0000103, 0xc0000103, MSR_STATE, ANY, X86_FEAT_RDTSCP, IN_STATE(tsc_aux), 0xffffffff },
    { 0xc0010010, 0xc0010010, MSR_IGNORE, AMD, 0, 0, 0 },                     /* SYSCFG */
    { 0xc0010015, 0xc0010015, MSR_IGNORE, AMD, 0, 0, 1u << 24 },              /* HWCR: TscFreqSel */
    { 0xc0010016, 0xc001001a, MSR_IGNORE, AMD, 0, 0, 0 },                     /* IORRs, TOP_MEM */
    { 0xc001001d, 0xc001001d, MSR_IGNORE, AMD, 0, 0, 0 },                     /* TOP_MEM2 */
    { 0xc001001f, 0xc001001f, MSR_IGNORE, AMD, 0, 0, 0 },                     /* NB_CFG */
    { 0xc0010020, 0xc0010020, MSR_COMMAND, AMD, 0, 0, ALL },                  /* PATCH_LOADER */
    { 0xc0010055, 0xc0010055, MSR_IGNORE, AMD, 0, 0, 0 },                     /* interrupt pending message */
    { 0xc0010058, 0xc0010058, MSR_IGNORE, AMD, 0, 0, 0 },                     /* MMIO configuration base: none */
    { 0xc0010111, 0xc0010113, MSR_IGNORE, AMD, 0, 0, 0 },                     /* SMM base, address, mask */
    { 0xc0010114, 0xc0010114, MSR_IGNORE, AMD, 0, 0, 0x10 },                  /* VM_CR: SVM disabled */
    { 0xc0011020, 0xc0011023, MSR_IGNORE, AMD, 0, 0, 0 },                     /* LS_CFG, IC_CFG, DC_CFG, TW_CFG */
    { 0xc0011028, 0xc0011028, MSR_IGNORE, AMD, 0, 0, 0 },                     /* FP_CFG */
    { 0xc0011029, 0xc0011029, MSR_IGNORE, AMD, 0, 0, 2 },                     /* DE_CFG: LFENCE serializes */
    { 0xc001102a, 0xc001102a, MSR_IGNORE, AMD, 0, 0, 0 },                     /* CU_CFG2 */
    { 0xc001102c, 0xc001102e, MSR_IGNORE, AMD, 0, 0, 0 },                     /* EX_CFG, LS_CFG2, BP_CFG */
    { 0xc00110e3, 0xc00110e3, MSR_IGNORE, AMD, 0, 0, 0 },                     /* DE_CFG2 */
};

static const struct msr_row *find(const struct jit_cpu *cpu, uint32_t index)
{
    unsigned vendor = cpu->model->vendor[0] == 'G' ? INTEL : AMD;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct msr_row *r = &rows[i];

        if (index < r->first) {
            return NULL;
        }
        if (index <= r->last && (r->vendor == ANY || r->vendor == vendor)) {
            return !r->feature || x86_model_has(cpu->model, (enum x86_feature)r->feature) ? r : NULL;
        }
    }
    return NULL;
}

static uint64_t *state_field(struct jit_cpu *cpu, const struct msr_row *r)
{
    return (uint64_t *)((char *)&cpu->s + r->arg);
}

static bool canonical(uint64_t v)
{
    return (uint64_t)((int64_t)(v << 16) >> 16) == v;
}

/* ---- MTRR and PAT (SDM vol. 3, 12.11 and 12.12) ---- */

static bool memory_type(uint64_t t)
{
    return t < 7 && t != 2 && t != 3;
}

static bool eight_types(uint64_t v, bool pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t t = v >> i & 0xff;

        if (!memory_type(t) && !(pat && t == 7)) {
            return false;
        }
    }
    return true;
}

static uint64_t *mtrr(struct jit_cpu *cpu, uint32_t index)
{
    if (index < MTRR_FIX64K) {
        unsigned n = (index - MTRR_PHYS_BASE0) / 2;

        return index & 1 ? &cpu->s.mtrr_mask[n] : &cpu->s.mtrr_base[n];
    }
    if (index == MTRR_DEF_TYPE) {
        return &cpu->s.mtrr_def;
    }
    return index == MTRR_FIX64K ? &cpu->s.mtrr_fix[0] : index <= MTRR_FIX16K_LAST ? &cpu->s.mtrr_fix[1 + index - MTRR_FIX16K]
                                                                                 : &cpu->s.mtrr_fix[3 + index - MTRR_FIX4K];
}

static bool mtrr_value_ok(const struct jit_cpu *cpu, uint32_t index, uint64_t v)
{
    uint64_t beyond = ~0ull << cpu->model->phys_bits;

    if (index == MTRR_DEF_TYPE) {
        return !(v & ~0xcffull) && memory_type(v & 0xff);
    }
    if (index >= MTRR_FIX64K) {
        return eight_types(v, false);
    }
    return index & 1 ? !(v & (beyond | 0x7ff)) : !(v & (beyond | 0xf00)) && memory_type(v & 0xff);
}

/* ---- registers with code of their own ---- */

static bool read_special(struct jit_cpu *cpu, uint32_t index, uint64_t *ret)
{
    switch (index) {
    case IA32_TSC:
        *ret = __builtin_ia32_rdtsc() + cpu->s.tsc_offset;
        return true;
    case IA32_TSC_ADJUST:
        *ret = cpu->s.tsc_adjust;
        return true;
    case IA32_FEATURE_CONTROL:
        *ret = cpu->s.feature_control;
        return true;
    case PLATFORM_INFO: /* ratio of the TSC to 100 MHz */
        *ret = (cpu->model->tsc_hz / 100000000 & 0xff) << 8;
        return true;
    case IA32_PAT:
        *ret = cpu->s.pat;
        return true;
    case MSR_EFER:
        *ret = cpu->s.efer;
        return true;
    }
    if (index >> 4 == 0x40) { /* machine check banks: all events enabled, none has happened */
        *ret = index & 3 ? 0 : ALL;
        return true;
    }
    *ret = *mtrr(cpu, index);
    return true;
}

static bool write_special(struct jit_cpu *cpu, uint32_t index, uint64_t v)
{
    uint64_t delta;

    switch (index) {
    case IA32_TSC:
        delta = v - (__builtin_ia32_rdtsc() + cpu->s.tsc_offset);
        cpu->s.tsc_offset += delta;
        cpu->s.tsc_adjust += delta;
        return true;
    case IA32_TSC_ADJUST:
        cpu->s.tsc_offset += v - cpu->s.tsc_adjust;
        cpu->s.tsc_adjust = v;
        return true;
    case IA32_FEATURE_CONTROL: /* bit 0: locked */
        if ((cpu->s.feature_control & 1) || (v & ~1ull)) {
            return false;
        }
        cpu->s.feature_control = v;
        return true;
    case PLATFORM_INFO:
        return false;
    case IA32_PAT:
        if (!eight_types(v, true)) {
            return false;
        }
        cpu->s.pat = v;
        return true;
    case MSR_EFER:
        return x86_set_efer(cpu, v);
    }
    if (index >> 4 == 0x40) {
        return !(index & 3) || !v; /* status, address, misc: only cleared */
    }
    if (!mtrr_value_ok(cpu, index, v)) {
        return false;
    }
    *mtrr(cpu, index) = v; /* memory types have no effect here */
    return true;
}

/* ---- the two instructions ---- */

static bool read_msr(struct jit_cpu *cpu, uint32_t index, uint64_t *ret)
{
    const struct msr_row *r = find(cpu, index);

    if (!r) {
        return false;
    }
    switch (r->how) {
    case MSR_STATE:
    case MSR_CANONICAL:
        *ret = *state_field(cpu, r);
        return true;
    case MSR_CONST:
    case MSR_IGNORE:
        *ret = r->mask;
        return true;
    case MSR_SEGBASE:
        *ret = cpu->s.seg[r->arg].base;
        return true;
    case MSR_BUS:
        return jit_bus_msr(cpu, false, index, ret);
    case MSR_SPECIAL:
        return read_special(cpu, index, ret);
    default:
        return false;
    }
}

static bool write_bus(struct jit_cpu *cpu, uint32_t index, uint64_t v)
{
    if (!jit_bus_msr(cpu, true, index, &v)) {
        return false;
    }
    if (index == IA32_APIC_BASE) {
        cpu->s.apic_base = v; /* CPUID shows its enable bit */
    }
    return true;
}

static bool write_msr(struct jit_cpu *cpu, uint32_t index, uint64_t v)
{
    const struct msr_row *r = find(cpu, index);

    if (!r) {
        return false;
    }
    switch (r->how) {
    case MSR_STATE:
        if (v & ~r->mask) {
            return false;
        }
        *state_field(cpu, r) = v;
        return true;
    case MSR_CANONICAL:
        if (!canonical(v)) {
            return false;
        }
        *state_field(cpu, r) = v;
        return true;
    case MSR_IGNORE:
        return true;
    case MSR_COMMAND:
        return !(v & ~r->mask);
    case MSR_SEGBASE:
        if (!canonical(v)) {
            return false;
        }
        cpu->s.seg[r->arg].base = cpu->seg_base[r->arg] = v;
        return true;
    case MSR_BUS:
        return write_bus(cpu, index, v);
    case MSR_SPECIAL:
        return write_special(cpu, index, v);
    default:
        return false;
    }
}

uint64_t x86_h_rdmsr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t v = 0;

    if (x86_cpl(cpu) != 0 || !read_msr(cpu, (uint32_t)cpu->s.gpr[X86_RCX], &v)) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    cpu->s.gpr[X86_RAX] = (uint32_t)v;
    cpu->s.gpr[X86_RDX] = v >> 32;
    return 0;
}

uint64_t x86_h_wrmsr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t v = (uint32_t)cpu->s.gpr[X86_RAX] | cpu->s.gpr[X86_RDX] << 32;

    if (x86_cpl(cpu) != 0 || !write_msr(cpu, (uint32_t)cpu->s.gpr[X86_RCX], v)) {
        jit_raise(cpu, X86_GP, true, 0);
    }
    cpu->s.rip = c;
    return 0;
}
