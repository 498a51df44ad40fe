/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Far JMP, CALL and RET (SDM vol. 2, those entries; vol. 3, 5.8), and the stacks that they, IRET and interrupts use.
 * Light.
 */
#include "accel/jit/guest-x86/x86_system.h"

/* ---- stacks ---- */

void x86_stack_current(const struct jit_cpu *cpu, struct x86_stack *ret)
{
    ret->seg = cpu->s.seg[X86_SS];
    ret->flat64 = x86_code64(cpu);
    ret->mask = x86_mask(ret->flat64 ? 8 : ret->seg.attr & X86_ATTR_DB ? 4 : 2);
    ret->sp = cpu->s.gpr[X86_RSP] & ret->mask;
    ret->mmu = x86_mmu_at(cpu, x86_cpl(cpu));
    ret->error_sel = 0;
}

static uint64_t stack_lin(struct jit_cpu *cpu, const struct x86_stack *st, uint64_t sp, unsigned bytes, unsigned kind)
{
    if (st->flat64) {
        x86_need(cpu, x86_canonical(sp) && x86_canonical(sp + bytes - 1), X86_SSF, st->error_sel);
        return sp;
    }
    return x86_segment_lin(cpu, &st->seg, sp, bytes, kind, X86_SSF, st->error_sel);
}

void x86_stack_push(struct jit_cpu *cpu, struct x86_stack *st, const uint64_t *slots, unsigned n, unsigned size)
{
    unsigned bytes = n * size;
    uint64_t sp = (st->sp - bytes) & st->mask;
    if (__builtin_expect(sp > st->sp && !st->flat64, 0)) { /* wraps around the segment's end: one by one */
        while (n--) {
            sp = (st->sp - size) & st->mask;
            jit_store(cpu, stack_lin(cpu, st, sp, size, JIT_ACC_WRITE), size, st->mmu, slots[n]);
            st->sp = sp;
        }
        return;
    }
    uint64_t lin = stack_lin(cpu, st, sp, bytes, JIT_ACC_WRITE);
    uint8_t *p = NULL;
    if ((lin & 0xfff) + bytes <= 0x1000) { /* asked for the first push, so that CR2 names it when it faults */
        p = jit_host_ptr(cpu, lin + bytes - size, JIT_ACC(size, JIT_ACC_WRITE, st->mmu), NULL);
        p = p ? p - (bytes - size) : NULL;
    }
    if (p && size == 8) {
        for (unsigned i = 0; i < n; i++) {
            ((volatile uint64_t *)p)[i] = slots[i];
        }
    } else if (p && size == 4) {
        for (unsigned i = 0; i < n; i++) {
            ((volatile uint32_t *)p)[i] = (uint32_t)slots[i];
        }
    } else {
        while (n--) {
            jit_store(cpu, lin + n * size, size, st->mmu, slots[n] & x86_mask(size));
        }
    }
    st->sp = sp;
}

void x86_stack_read(struct jit_cpu *cpu, struct x86_stack *st, uint64_t *ret, unsigned n, unsigned size)
{
    unsigned bytes = n * size;
    if (__builtin_expect(!st->flat64 && st->sp + bytes - 1 > st->mask, 0)) {
        for (unsigned i = 0; i < n; i++) {
            ret[i] = jit_load(cpu, stack_lin(cpu, st, st->sp, size, JIT_ACC_READ), size, st->mmu);
            st->sp = (st->sp + size) & st->mask;
        }
        return;
    }
    uint64_t lin = stack_lin(cpu, st, st->sp, bytes, JIT_ACC_READ);
    const uint8_t *p = jit_host_ptr(cpu, lin, JIT_ACC(bytes, JIT_ACC_READ, st->mmu), NULL);
    for (unsigned i = 0; i < n; i++) {
        ret[i] = p && size == 8 ? ((const volatile uint64_t *)p)[i]
               : p && size == 4 ? ((const volatile uint32_t *)p)[i] : jit_load(cpu, lin + i * size, size, st->mmu);
    }
    st->sp = (st->sp + bytes) & st->mask;
}

void x86_put_sp(struct jit_cpu *cpu, uint64_t sp, uint64_t mask)
{
    uint64_t *rsp = &cpu->s.gpr[X86_RSP];
    *rsp = mask == 0xffffu ? (*rsp & ~mask) | (sp & mask) : sp & mask;
}

/* RSPn or ISTn of a 64-bit TSS (SDM vol. 3, 7.7). */
static void stack_inner_long(struct jit_cpu *cpu, unsigned cpl, unsigned ist, struct x86_stack *ret)
{
    const struct x86_segment *tr = &cpu->s.tr;
    unsigned off = ist ? 28 + ist * 8 : 4 + cpl * 8;
    x86_need(cpu, off + 7 <= tr->limit, X86_TS, tr->sel);
    ret->sp = jit_load(cpu, tr->base + off, 8, X86_MMU_SYSTEM);
    ret->mask = ~(uint64_t)0;
    ret->flat64 = true;
}

void x86_stack_inner(struct jit_cpu *cpu, unsigned cpl, unsigned ist, struct x86_stack *ret, uint16_t *ret_ss,
                     uint32_t ret_d[2])
{
    const struct x86_segment *tr = &cpu->s.tr;
    ret->mmu = x86_mmu_at(cpu, cpl);
    ret->error_sel = 0;
    *ret_ss = (uint16_t)cpl;
    if (x86_long(cpu)) {
        stack_inner_long(cpu, cpl, ist, ret);
        return;
    }
    bool wide = tr->attr & 8u; /* a 32-bit TSS */
    unsigned off = wide ? 4 + cpl * 8 : 2 + cpl * 4;
    x86_need(cpu, off + (wide ? 5 : 3) <= tr->limit, X86_TS, tr->sel);
    ret->sp = jit_load(cpu, (tr->base + off) & 0xffffffffu, wide ? 4 : 2, X86_MMU_SYSTEM);
    uint16_t ss = (uint16_t)jit_load(cpu, (tr->base + off + (wide ? 4 : 2)) & 0xffffffffu, 2, X86_MMU_SYSTEM);
    x86_need(cpu, !x86_null_sel(ss), X86_TS, 0);
    x86_need_descriptor(cpu, ss, ret_d, X86_TS);
    x86_check_ss(cpu, ss, ret_d, cpl, X86_TS);
    x86_mark_accessed(cpu, ss, ret_d);
    ret->seg.base = x86_desc_base(ret_d);
    ret->seg.limit = x86_desc_limit(ret_d);
    ret->seg.attr = x86_desc_attr(ret_d);
    ret->mask = x86_mask(ret_d[1] & X86_D_DB ? 4 : 2);
    ret->sp &= ret->mask;
    ret->error_sel = ss;
    ret->flat64 = false;
    *ret_ss = ss;
}

void x86_commit_inner(struct jit_cpu *cpu, unsigned cpl, const struct x86_stack *st, uint16_t ss, const uint32_t d[2])
{
    if (st->flat64) {
        x86_set_ss_null(cpu, cpl);
    } else {
        x86_set_seg_desc(cpu, X86_SS, ss, d);
    }
    x86_put_sp(cpu, st->sp, st->mask);
}

void x86_hide_segments(struct jit_cpu *cpu, unsigned cpl)
{
    static const uint8_t which[] = { X86_ES, X86_DS, X86_FS, X86_GS };
    for (unsigned i = 0; i < sizeof which; i++) {
        struct x86_segment *seg = &cpu->s.seg[which[i]];
        bool conforming = (seg->attr & 0xcu) == 0xcu;
        if (!(seg->attr & X86_ATTR_UNUSABLE) && !conforming && X86_ATTR_DPL(seg->attr) < cpl) {
            seg->sel = 0;
            seg->attr |= X86_ATTR_UNUSABLE;
        }
    }
}

uint64_t x86_next_rip(struct jit_cpu *cpu, unsigned len)
{
    jit_sync_rip(cpu);
    uint64_t next = cpu->s.rip + len;
    return x86_code64(cpu) ? next : next & x86_mask(cpu->s.seg[X86_CS].attr & X86_ATTR_DB ? 4 : 2);
}

/* ---- far JMP and CALL ---- */

struct far {
    uint16_t sel;
    uint64_t off;
    unsigned opsize, len;
    bool call;
};

static void far_real(struct jit_cpu *cpu, const struct far *f)
{
    struct x86_stack st;
    x86_need(cpu, f->off <= cpu->s.seg[X86_CS].limit, X86_GP, 0);
    if (f->call) {
        uint64_t slots[2] = { x86_next_rip(cpu, f->len), cpu->s.seg[X86_CS].sel };
        x86_stack_current(cpu, &st);
        x86_stack_push(cpu, &st, slots, 2, f->opsize);
        x86_put_sp(cpu, st.sp, st.mask);
    }
    x86_set_seg_real(cpu, X86_CS, f->sel);
    cpu->s.rip = f->off;
    jit_mode_changed(cpu);
}

static void need_code_size(struct jit_cpu *cpu, uint16_t sel, uint32_t d1)
{
    x86_need(cpu, !x86_long(cpu) || (d1 & (X86_D_L | X86_D_DB)) != (X86_D_L | X86_D_DB), X86_GP, sel);
}

/* To code of the same privilege; size is that of the return address. */
static void far_same(struct jit_cpu *cpu, const struct far *f, uint16_t sel, uint32_t d[2], uint64_t rip, unsigned size)
{
    unsigned cpl = x86_cpl(cpu);
    x86_check_rip(cpu, d, rip);
    x86_mark_accessed(cpu, sel, d);
    if (f->call) {
        struct x86_stack st;
        uint64_t slots[2] = { x86_next_rip(cpu, f->len), cpu->s.seg[X86_CS].sel };
        x86_stack_current(cpu, &st);
        if (size == 8) { /* the target's kind of stack, when compatibility mode calls through a gate */
            st.flat64 = true;
            st.mask = ~(uint64_t)0;
            st.sp = cpu->s.gpr[X86_RSP];
        }
        x86_stack_push(cpu, &st, slots, 2, size);
        x86_put_sp(cpu, st.sp, st.mask);
    }
    x86_set_seg_desc(cpu, X86_CS, (uint16_t)((sel & 0xfffcu) | cpl), d);
    cpu->s.rip = rip;
    jit_mode_changed(cpu);
}

/* A call gate to more privileged code (SDM vol. 3, 5.8.5). */
static void far_inner(struct jit_cpu *cpu, const struct far *f, const uint32_t gate[2], uint16_t sel, uint32_t d[2],
                      uint64_t rip, unsigned size)
{
    unsigned cpl = X86_D_DPL(d[1]), nparams = size == 8 ? 0 : gate[1] & 31u;
    struct x86_stack old, st;
    uint64_t slots[4 + 31];
    uint16_t ss;
    uint32_t ss_d[2];
    x86_stack_inner(cpu, cpl, 0, &st, &ss, ss_d);
    x86_check_rip(cpu, d, rip);
    x86_mark_accessed(cpu, sel, d);
    x86_stack_current(cpu, &old);
    slots[0] = x86_next_rip(cpu, f->len);
    slots[1] = cpu->s.seg[X86_CS].sel;
    slots[2 + nparams] = old.sp;
    slots[3 + nparams] = cpu->s.seg[X86_SS].sel;
    if (nparams) {
        x86_stack_read(cpu, &old, slots + 2, nparams, size);
    }
    x86_stack_push(cpu, &st, slots, 4 + nparams, size);
    x86_commit_inner(cpu, cpl, &st, ss, ss_d);
    x86_set_seg_desc(cpu, X86_CS, (uint16_t)((sel & 0xfffcu) | cpl), d);
    cpu->s.rip = rip;
    jit_mode_changed(cpu);
}

static void far_call_gate(struct jit_cpu *cpu, const struct far *f, const uint32_t gate[2])
{
    unsigned cpl = x86_cpl(cpu);
    uint16_t sel = (uint16_t)(gate[0] >> 16);
    uint64_t rip = gate[0] & 0xffffu;
    unsigned size = 2;
    uint32_t d[2];
    if (X86_D_TYPE(gate[1]) == X86_SYS_CALL32) {
        rip |= gate[1] & 0xffff0000u;
        size = 4;
    }
    if (x86_long(cpu)) {
        rip |= (uint64_t)x86_descriptor_high(cpu, f->sel, X86_GP) << 32;
        size = 8;
    }
    x86_need(cpu, gate[1] & X86_D_P, X86_NP, f->sel);
    x86_need(cpu, !x86_null_sel(sel), X86_GP, 0);
    x86_need_descriptor(cpu, sel, d, X86_GP);
    unsigned dpl = X86_D_DPL(d[1]);
    x86_need(cpu, x86_is_code(d[1]) && dpl <= cpl, X86_GP, sel);
    x86_need(cpu, !x86_long(cpu) || (d[1] & (X86_D_L | X86_D_DB)) == X86_D_L, X86_GP, sel);
    bool inner = !(d[1] & X86_D_CONFORM) && dpl < cpl;
    x86_need(cpu, f->call || !inner, X86_GP, sel);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, sel);
    if (inner) {
        far_inner(cpu, f, gate, sel, d, rip, size);
    } else {
        far_same(cpu, f, sel, d, rip, size);
    }
}

static void far_task(struct jit_cpu *cpu, const struct far *f, uint16_t sel, const uint32_t d[2])
{
    x86_need(cpu, d[1] & X86_D_P, X86_NP, sel);
    x86_task_switch(cpu, sel, d, f->call ? X86_TASK_CALL : X86_TASK_JMP, x86_next_rip(cpu, f->len), false, 0);
}

static bool is_available_tss(uint32_t d1)
{
    return !(d1 & X86_D_S) && (X86_D_TYPE(d1) == X86_SYS_TSS16 || X86_D_TYPE(d1) == X86_SYS_TSS32);
}

static void far_system(struct jit_cpu *cpu, const struct far *f, const uint32_t d[2])
{
    unsigned type = X86_D_TYPE(d[1]), dpl = X86_D_DPL(d[1]);
    bool call_gate = type == X86_SYS_CALL32 || (type == X86_SYS_CALL16 && !x86_long(cpu));
    bool task = !x86_long(cpu) && (type == X86_SYS_TASK_GATE || is_available_tss(d[1]));
    x86_need(cpu, (call_gate || task) && dpl >= x86_cpl(cpu) && dpl >= (f->sel & 3u), X86_GP, f->sel);
    if (call_gate) {
        far_call_gate(cpu, f, d);
    } else if (type != X86_SYS_TASK_GATE) {
        far_task(cpu, f, f->sel, d);
    } else {
        uint16_t tss = (uint16_t)(d[0] >> 16);
        uint32_t td[2];
        x86_need(cpu, d[1] & X86_D_P, X86_NP, f->sel);
        x86_need(cpu, !(tss & 4u) && !x86_null_sel(tss), X86_GP, tss);
        x86_need_descriptor(cpu, tss, td, X86_GP);
        x86_need(cpu, is_available_tss(td[1]), X86_GP, tss);
        far_task(cpu, f, tss, td);
    }
}

static void far_protected(struct jit_cpu *cpu, const struct far *f)
{
    unsigned cpl = x86_cpl(cpu);
    uint32_t d[2];
    x86_need(cpu, !x86_null_sel(f->sel), X86_GP, 0);
    x86_need_descriptor(cpu, f->sel, d, X86_GP);
    if (!(d[1] & X86_D_S)) {
        far_system(cpu, f, d);
        return;
    }
    unsigned dpl = X86_D_DPL(d[1]);
    bool may = d[1] & X86_D_CONFORM ? dpl <= cpl : dpl == cpl && (f->sel & 3u) <= cpl;
    x86_need(cpu, x86_is_code(d[1]) && may, X86_GP, f->sel);
    need_code_size(cpu, f->sel, d[1]);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, f->sel);
    far_same(cpu, f, f->sel, d, x86_long(cpu) && (d[1] & X86_D_L) ? f->off : f->off & 0xffffffffu, f->opsize);
}

static uint64_t far_go(struct jit_cpu *cpu, uint64_t sel, uint64_t off, uint64_t c, bool call)
{
    struct far f = { .sel = (uint16_t)sel, .opsize = (unsigned)c & 0xffu, .call = call };
    f.len = (unsigned)(c >> 8) & 0xffu;
    f.off = off & x86_mask(f.opsize);
    if (x86_protected(cpu)) {
        far_protected(cpu, &f);
    } else {
        far_real(cpu, &f);
    }
    return 0;
}

uint64_t x86_h_jmp_far(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return far_go(cpu, a, b, c, false);
}

uint64_t x86_h_call_far(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return far_go(cpu, a, b, c, true);
}

/* ---- far RET ---- */

void x86_check_return_cs(struct jit_cpu *cpu, uint16_t sel, const uint32_t d[2])
{
    unsigned rpl = sel & 3u, dpl = X86_D_DPL(d[1]);
    bool may = d[1] & X86_D_CONFORM ? dpl <= rpl : dpl == rpl;
    x86_need(cpu, x86_is_code(d[1]) && rpl >= x86_cpl(cpu) && may, X86_GP, sel);
    need_code_size(cpu, sel, d[1]);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, sel);
}

static void ret_outer(struct jit_cpu *cpu, struct x86_stack *st, uint64_t rip, uint16_t cs, uint32_t d[2], uint64_t pop,
                      unsigned size)
{
    uint64_t slots[2];
    uint32_t ss_d[2];
    unsigned cpl = cs & 3u;
    bool wide = x86_long(cpu) && (d[1] & X86_D_L);
    st->sp = (st->sp + pop) & st->mask;
    x86_stack_read(cpu, st, slots, 2, size);
    uint16_t ss = (uint16_t)slots[1];
    bool null = x86_null_sel(ss);
    x86_check_rip(cpu, d, rip);
    if (null) {
        x86_need(cpu, wide && cpl != 3 && (ss & 3u) == cpl, X86_GP, 0);
    } else {
        x86_need_descriptor(cpu, ss, ss_d, X86_GP);
        x86_check_ss(cpu, ss, ss_d, cpl, X86_GP);
        x86_mark_accessed(cpu, ss, ss_d);
    }
    x86_mark_accessed(cpu, cs, d);
    x86_set_seg_desc(cpu, X86_CS, cs, d);
    if (null) {
        x86_set_ss_null(cpu, cpl);
    } else {
        x86_set_seg_desc(cpu, X86_SS, ss, ss_d);
    }
    x86_put_sp(cpu, slots[0] + pop, x86_mask(wide ? 8 : cpu->s.seg[X86_SS].attr & X86_ATTR_DB ? 4 : 2));
    x86_hide_segments(cpu, cpl);
}

uint64_t x86_h_ret_far(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned size = (unsigned)c & 0xffu;
    struct x86_stack st;
    uint64_t slots[2];
    uint32_t d[2];
    x86_stack_current(cpu, &st);
    x86_stack_read(cpu, &st, slots, 2, size);
    uint64_t rip = slots[0];
    uint16_t cs = (uint16_t)slots[1];
    if (!x86_protected(cpu)) {
        x86_need(cpu, rip <= cpu->s.seg[X86_CS].limit, X86_GP, 0);
        x86_set_seg_real(cpu, X86_CS, cs);
        x86_put_sp(cpu, st.sp + a, st.mask);
    } else {
        x86_need(cpu, !x86_null_sel(cs), X86_GP, 0);
        x86_need_descriptor(cpu, cs, d, X86_GP);
        x86_check_return_cs(cpu, cs, d);
        if ((cs & 3u) > x86_cpl(cpu)) {
            ret_outer(cpu, &st, rip, cs, d, a, size);
        } else {
            x86_check_rip(cpu, d, rip);
            x86_mark_accessed(cpu, cs, d);
            x86_set_seg_desc(cpu, X86_CS, cs, d);
            x86_put_sp(cpu, st.sp + a, st.mask);
        }
    }
    cpu->s.rip = rip;
    jit_mode_changed(cpu);
    return 0;
}
