/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segment registers: descriptors, loads, and the checks of an access (SDM vol. 3, chapters 3 and 5). Light.
 */
#include "accel/jit/guest-x86/x86_system.h"

unsigned x86_cpl(const struct jit_cpu *cpu)
{
    if (!(cpu->s.cr0 & X86_CR0_PE)) {
        return 0;
    }
    return x86_vm86(cpu) ? 3 : X86_ATTR_DPL(cpu->s.seg[X86_SS].attr);
}

uint64_t x86_desc_base(const uint32_t d[2])
{
    return d[0] >> 16 | (d[1] & 0xffu) << 16 | (d[1] & 0xff000000u);
}

uint32_t x86_desc_limit(const uint32_t d[2])
{
    uint32_t limit = (d[0] & 0xffffu) | (d[1] & 0xf0000u);
    return d[1] & 0x800000u ? limit << 12 | 0xfffu : limit;
}

uint32_t x86_desc_attr(const uint32_t d[2])
{
    return d[1] >> 8 & 0xf0ffu;
}

/* The linear address of a descriptor of `bytes` bytes, false when it is beyond its table. */
static bool descriptor_address(const struct jit_cpu *cpu, uint16_t sel, unsigned bytes, uint64_t *ret)
{
    const struct x86_state *s = &cpu->s;
    uint64_t base = s->gdt.base;
    uint32_t limit = s->gdt.limit;
    if (sel & 4u) {
        base = s->ldt.base;
        limit = s->ldt.limit;
        if (s->ldt.attr & X86_ATTR_UNUSABLE || !(s->ldt.attr & X86_ATTR_P)) {
            return false;
        }
    }
    uint32_t off = sel & 0xfff8u;
    if (off + bytes - 1 > limit) {
        return false;
    }
    base += off;
    *ret = x86_long(cpu) ? base : base & 0xffffffffu;
    return true;
}

bool x86_read_descriptor(struct jit_cpu *cpu, uint16_t sel, uint32_t ret[2])
{
    uint64_t lin;
    if (!descriptor_address(cpu, sel, 8, &lin)) {
        return false;
    }
    uint64_t v = jit_load(cpu, lin, 8, X86_MMU_SYSTEM);
    ret[0] = (uint32_t)v;
    ret[1] = (uint32_t)(v >> 32);
    return true;
}

void x86_need_descriptor(struct jit_cpu *cpu, uint16_t sel, uint32_t ret[2], unsigned vector)
{
    x86_need(cpu, x86_read_descriptor(cpu, sel, ret), vector, sel);
}

uint32_t x86_descriptor_high(struct jit_cpu *cpu, uint16_t sel, unsigned vector)
{
    uint64_t lin = 0;
    x86_need(cpu, descriptor_address(cpu, sel, 16, &lin), vector, sel);
    uint64_t v = jit_load(cpu, lin + 8, 8, X86_MMU_SYSTEM);
    x86_need(cpu, !(v >> 40 & 0x1fu), vector, sel);
    return (uint32_t)v;
}

void x86_descriptor_set(struct jit_cpu *cpu, uint16_t sel, uint32_t d[2], uint32_t bit)
{
    uint64_t lin = 0;
    d[1] |= bit;
    if (descriptor_address(cpu, sel, 8, &lin)) {
        jit_store(cpu, lin + 5, 1, X86_MMU_SYSTEM, d[1] >> 8 & 0xffu);
    }
}

void x86_set_seg(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel, uint64_t base, uint32_t limit, uint32_t attr)
{
    struct x86_segment *p = &cpu->s.seg[seg];
    p->sel = sel;
    p->base = base;
    p->limit = limit;
    p->attr = attr;
    cpu->seg_base[seg] = base;
}

void x86_set_seg_desc(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel, const uint32_t d[2])
{
    x86_set_seg(cpu, seg, sel, x86_desc_base(d), x86_desc_limit(d), x86_desc_attr(d));
}

void x86_set_seg_real(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel)
{
    struct x86_segment *p = &cpu->s.seg[seg];
    uint64_t base = (uint64_t)sel << 4;
    if (x86_vm86(cpu)) {
        x86_set_seg(cpu, seg, sel, base, 0xffff, X86_ATTR_P | X86_ATTR_S | 0x63u);
    } else if (p->attr & X86_ATTR_UNUSABLE) {
        x86_set_seg(cpu, seg, sel, base, 0xffff, X86_ATTR_P | X86_ATTR_S | 0x03u);
    } else { /* what protected mode loaded into limit and attributes stays: "unreal" mode */
        x86_set_seg(cpu, seg, sel, base, p->limit, p->attr);
    }
}

void x86_set_seg_null(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel)
{
    x86_set_seg(cpu, seg, sel, 0, cpu->s.seg[seg].limit, X86_ATTR_UNUSABLE);
}

void x86_set_ss_null(struct jit_cpu *cpu, unsigned cpl)
{
    x86_set_seg(cpu, X86_SS, (uint16_t)cpl, 0, cpu->s.seg[X86_SS].limit, X86_ATTR_UNUSABLE | cpl << 5);
}

void x86_check_ss(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2], unsigned cpl, unsigned vector)
{
    x86_need(cpu, (sel & 3u) == cpl && X86_D_DPL(d[1]) == cpl && x86_is_writable_data(d[1]), vector, sel);
    x86_need(cpu, d[1] & X86_D_P, X86_SSF, sel);
}

void x86_check_data(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2], unsigned cpl, unsigned vector)
{
    bool code = d[1] & X86_D_CODE;
    x86_need(cpu, (d[1] & X86_D_S) && (!code || (d[1] & X86_D_RW)), vector, sel);
    if (!code || !(d[1] & X86_D_CONFORM)) {
        unsigned dpl = X86_D_DPL(d[1]);
        x86_need(cpu, dpl >= cpl && dpl >= (sel & 3u), vector, sel);
    }
    x86_need(cpu, d[1] & X86_D_P, X86_NP, sel);
}

void x86_check_rip(struct jit_cpu *cpu, const uint32_t d[2], uint64_t rip)
{
    bool wide = x86_long(cpu) && (d[1] & X86_D_L);
    x86_need(cpu, wide ? x86_canonical(rip) : rip <= x86_desc_limit(d), X86_GP, 0);
}

static void load_protected(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel)
{
    unsigned cpl = x86_cpl(cpu);
    uint32_t d[2];
    if (x86_null_sel(sel)) {
        if (seg != X86_SS) {
            x86_set_seg_null(cpu, seg, sel);
            return;
        }
        x86_need(cpu, x86_code64(cpu) && cpl != 3 && (sel & 3u) == cpl, X86_GP, 0);
        x86_set_ss_null(cpu, cpl);
        return;
    }
    x86_need_descriptor(cpu, sel, d, X86_GP);
    if (seg == X86_SS) {
        x86_check_ss(cpu, sel, d, cpl, X86_GP);
    } else {
        x86_check_data(cpu, sel, d, cpl, X86_GP);
    }
    x86_mark_accessed(cpu, sel, d);
    x86_set_seg_desc(cpu, seg, sel, d);
}

uint64_t x86_h_load_seg(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    enum x86_seg seg = (enum x86_seg)a;
    if (x86_protected(cpu)) {
        load_protected(cpu, seg, (uint16_t)b);
    } else {
        x86_set_seg_real(cpu, seg, (uint16_t)b);
    }
    if (seg == X86_SS) {
        cpu->s.interrupt_shadow = 1;
    }
    /* In 64-bit code no mode bit comes from the data segments. */
    if (seg == X86_SS || (seg < X86_FS && !x86_code64(cpu))) {
        jit_mode_changed(cpu);
    }
    return 0;
}

uint64_t x86_segment_lin(struct jit_cpu *cpu, const struct x86_segment *seg, uint64_t off, unsigned size, unsigned kind,
                         unsigned vector, unsigned error_sel)
{
    off &= 0xffffffffu;
    uint64_t last = off + size - 1;
    bool ok;
    if (x86_protected(cpu)) {
        bool code = seg->attr & 8u;
        bool access = kind & JIT_ACC_WRITE ? !code && (seg->attr & 2u) : !code || (seg->attr & 2u);
        x86_need(cpu, access && !(seg->attr & X86_ATTR_UNUSABLE), vector, error_sel);
    }
    if ((seg->attr & (X86_ATTR_UNUSABLE | X86_ATTR_S | 0xcu)) == (X86_ATTR_S | 0x4u)) { /* data that expands down */
        ok = off > seg->limit && last <= (seg->attr & X86_ATTR_DB ? 0xffffffffu : 0xffffu);
    } else {
        ok = last <= seg->limit;
    }
    x86_need(cpu, ok, vector, error_sel);
    return (seg->base + off) & 0xffffffffu;
}

uint64_t x86_seg_lin(struct jit_cpu *cpu, enum x86_seg seg, uint64_t off, unsigned size, unsigned kind)
{
    unsigned vector = seg == X86_SS ? X86_SSF : X86_GP;
    if (x86_code64(cpu)) {
        uint64_t lin = off + (seg >= X86_FS ? cpu->s.seg[seg].base : 0);
        x86_need(cpu, x86_canonical(lin) && x86_canonical(lin + size - 1), vector, 0);
        return lin;
    }
    return x86_segment_lin(cpu, &cpu->s.seg[seg], off, size, kind, vector, 0);
}

uint64_t x86_h_seg_check(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_seg_lin(cpu, (enum x86_seg)b, a, JIT_ACC_SIZE((unsigned)c), (unsigned)c & (JIT_ACC_READ | JIT_ACC_WRITE));
    return 0;
}

uint64_t x86_h_push_seg_sel(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return cpu->s.seg[a].sel;
}
