/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptor table registers, and the instructions that ask about selectors: LGDT... SIDT, LLDT, LTR, SLDT, STR, LAR,
 * LSL, VERR, VERW, ARPL (SDM vol. 2; vol. 3, 2.4 and 5.10). Light.
 */
#include "accel/jit/guest-x86/x86_system.h"

static void load_table(struct jit_cpu *cpu, struct x86_dtable *table, uint64_t lin, uint64_t opsize)
{
    unsigned mmu = JIT_MODE_MMU(cpu->mode);
    bool wide = x86_code64(cpu);
    x86_need_cpl0(cpu);
    uint64_t limit = jit_load(cpu, lin, 2, mmu);
    uint64_t base = jit_load(cpu, lin + 2, wide ? 8 : 4, mmu);
    if (wide) {
        x86_need(cpu, x86_canonical(base), X86_GP, 0);
    } else if (opsize == 2) {
        base &= 0xffffffu;
    }
    table->base = base;
    table->limit = (uint16_t)limit;
}

static void need_umip(struct jit_cpu *cpu)
{
    x86_need(cpu, !(cpu->s.cr4 & X86_CR4_UMIP) || x86_cpl(cpu) == 0, X86_GP, 0);
}

static void store_table(struct jit_cpu *cpu, const struct x86_dtable *table, uint64_t lin)
{
    need_umip(cpu);
    uint16_t image[5] = { table->limit, (uint16_t)table->base, (uint16_t)(table->base >> 16),
                          (uint16_t)(table->base >> 32), (uint16_t)(table->base >> 48) };
    jit_store_bytes(cpu, lin, image, x86_code64(cpu) ? 10 : 6, JIT_MODE_MMU(cpu->mode));
}

uint64_t x86_h_lgdt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    load_table(cpu, &cpu->s.gdt, a, c);
    return 0;
}

uint64_t x86_h_lidt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    load_table(cpu, &cpu->s.idt, a, c);
    return 0;
}

uint64_t x86_h_sgdt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    store_table(cpu, &cpu->s.gdt, a);
    return 0;
}

uint64_t x86_h_sidt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    store_table(cpu, &cpu->s.idt, a);
    return 0;
}

/* Base of a system descriptor, 64 bits in long mode. */
static uint64_t system_base(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2])
{
    uint64_t base = x86_desc_base(d);
    if (x86_long(cpu)) {
        base |= (uint64_t)x86_descriptor_high(cpu, sel, X86_GP) << 32;
        x86_need(cpu, x86_canonical(base), X86_GP, 0);
    }
    return base;
}

static void set_system(struct x86_segment *seg, uint16_t sel, uint64_t base, const uint32_t d[2])
{
    seg->sel = sel;
    seg->base = base;
    seg->limit = x86_desc_limit(d);
    seg->attr = x86_desc_attr(d);
}

uint64_t x86_h_lldt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint16_t sel = (uint16_t)a;
    uint32_t d[2];
    x86_need_protected(cpu);
    x86_need_cpl0(cpu);
    if (x86_null_sel(sel)) {
        cpu->s.ldt.sel = sel;
        cpu->s.ldt.attr |= X86_ATTR_UNUSABLE;
        return 0;
    }
    x86_need(cpu, !(sel & 4u), X86_GP, sel);
    x86_need_descriptor(cpu, sel, d, X86_GP);
    x86_need(cpu, !(d[1] & X86_D_S) && X86_D_TYPE(d[1]) == X86_SYS_LDT, X86_GP, sel);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, sel);
    set_system(&cpu->s.ldt, sel, system_base(cpu, sel, d), d);
    return 0;
}

uint64_t x86_h_ltr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint16_t sel = (uint16_t)a;
    uint32_t d[2];
    x86_need_protected(cpu);
    x86_need_cpl0(cpu);
    x86_need(cpu, !x86_null_sel(sel), X86_GP, 0);
    x86_need(cpu, !(sel & 4u), X86_GP, sel);
    x86_need_descriptor(cpu, sel, d, X86_GP);
    unsigned type = X86_D_TYPE(d[1]);
    bool available = type == X86_SYS_TSS32 || (type == X86_SYS_TSS16 && !x86_long(cpu));
    x86_need(cpu, !(d[1] & X86_D_S) && available, X86_GP, sel);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, sel);
    uint64_t base = system_base(cpu, sel, d);
    x86_descriptor_set(cpu, sel, d, X86_D_BUSY);
    set_system(&cpu->s.tr, sel, base, d);
    return 0;
}

uint64_t x86_h_sldt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_need_protected(cpu);
    need_umip(cpu);
    return cpu->s.ldt.sel;
}

uint64_t x86_h_str(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_need_protected(cpu);
    need_umip(cpu);
    return cpu->s.tr.sel;
}

/* System types that LAR and LSL accept (SDM vol. 2, tables 3-52 and 3-56), a bit for each; in long mode fewer. */
#define LAR_TYPES      0x1a3eu
#define LAR_TYPES_LONG 0x1a04u
#define LSL_TYPES      0x0a0eu
#define LSL_TYPES_LONG 0x0a04u

/* The descriptor, when the program may see it. System types are those in the mask. */
static bool visible(struct jit_cpu *cpu, uint16_t sel, uint32_t d[2], uint32_t types)
{
    if (x86_null_sel(sel) || !x86_read_descriptor(cpu, sel, d)) {
        return false;
    }
    if (!(d[1] & X86_D_S) && !(types >> X86_D_TYPE(d[1]) & 1u)) {
        return false;
    }
    if (x86_is_code(d[1]) && (d[1] & X86_D_CONFORM)) {
        return true;
    }
    unsigned dpl = X86_D_DPL(d[1]);
    return dpl >= x86_cpl(cpu) && dpl >= (sel & 3u);
}

static uint64_t answer(struct jit_cpu *cpu, bool ok, uint64_t old, uint64_t value, uint64_t opsize)
{
    x86_put_zf(cpu, ok);
    return !ok ? old : opsize == 2 ? (old & ~(uint64_t)0xffff) | (value & 0xffffu) : value;
}

uint64_t x86_h_lar(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t d[2] = { 0, 0 };
    x86_need_protected(cpu);
    bool ok = visible(cpu, (uint16_t)a, d, x86_long(cpu) ? LAR_TYPES_LONG : LAR_TYPES);
    return answer(cpu, ok, b, d[1] & 0x00ffff00u, c);
}

uint64_t x86_h_lsl(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t d[2] = { 0, 0 };
    x86_need_protected(cpu);
    bool ok = visible(cpu, (uint16_t)a, d, x86_long(cpu) ? LSL_TYPES_LONG : LSL_TYPES);
    return answer(cpu, ok, b, x86_desc_limit(d), c);
}

uint64_t x86_h_verr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t d[2] = { 0, 0 };
    x86_need_protected(cpu);
    x86_put_zf(cpu, visible(cpu, (uint16_t)a, d, 0) && (!(d[1] & X86_D_CODE) || (d[1] & X86_D_RW)));
    return 0;
}

uint64_t x86_h_verw(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t d[2] = { 0, 0 };
    x86_need_protected(cpu);
    x86_put_zf(cpu, visible(cpu, (uint16_t)a, d, 0) && x86_is_writable_data(d[1]));
    return 0;
}

uint64_t x86_h_arpl(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_need_protected(cpu);
    bool raise = (a & 3u) < (b & 3u);
    x86_put_zf(cpu, raise);
    return raise ? (a & ~(uint64_t)3) | (b & 3u) : a;
}
