/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the state of the vCPU means for translation: the mode bits of engine/jit_cpu.h. Light.
 */
#include "accel/jit/guest-x86/x86_system.h"

static bool mode_flat_segment(const struct x86_segment *seg)
{
    return seg->base == 0 && seg->limit == 0xffffffffu;
}

static bool mode_flat_data(const struct x86_segment *seg)
{
    /* present, S, data, expand up, writable */
    return mode_flat_segment(seg)
        && (seg->attr & (X86_ATTR_UNUSABLE | X86_ATTR_P | X86_ATTR_S | 0xeu)) == (X86_ATTR_P | X86_ATTR_S | 0x2u);
}

static bool mode_flat(const struct x86_segment *seg)
{
    return mode_flat_segment(&seg[X86_CS]) && mode_flat_data(&seg[X86_SS]) && mode_flat_data(&seg[X86_DS])
        && mode_flat_data(&seg[X86_ES]);
}

uint32_t x86_mode(const struct jit_cpu *cpu)
{
    const struct x86_state *s = &cpu->s;
    uint32_t cs = s->seg[X86_CS].attr;
    unsigned cpl = x86_cpl(cpu);
    uint32_t mode = cpl << 2 | x86_mmu_at(cpu, cpl) << 4;
    if (s->efer & X86_EFER_LMA) {
        mode |= JIT_MODE_LMA;
    }
    if ((s->efer & X86_EFER_LMA) && (cs & X86_ATTR_L)) {
        mode |= JIT_MODE_CODE64 | JIT_MODE_FLAT;
    } else {
        mode |= cs & X86_ATTR_DB ? JIT_MODE_CODE32 : JIT_MODE_CODE16;
        mode |= mode_flat(s->seg) ? JIT_MODE_FLAT : 0;
    }
    if (s->cr0 & X86_CR0_PE) {
        mode |= s->rflags & X86_FL_VM ? JIT_MODE_VM86 : JIT_MODE_PE;
    }
    mode |= s->seg[X86_SS].attr & X86_ATTR_DB ? JIT_MODE_SS32 : 0;
    mode |= s->cr0 & X86_CR0_TS ? JIT_MODE_FPU_NM : 0;
    mode |= s->cr0 & X86_CR0_EM ? JIT_MODE_FPU_EM : 0;
    mode |= s->cr4 & X86_CR4_OSFXSR ? JIT_MODE_SSE : 0;
    mode |= s->cr4 & X86_CR4_OSXSAVE ? JIT_MODE_AVX : 0;
    mode |= s->rflags & X86_FL_TF ? JIT_MODE_STEP : 0;
    mode |= s->dr7 & 0xffu ? JIT_MODE_DEBUG : 0;
    mode |= s->interrupt_shadow ? JIT_MODE_SHADOW : 0;
    return mode;
}
