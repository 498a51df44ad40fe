/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Task switch (SDM vol. 3, 7.2 and 7.3). Light.
 *
 * Up to the commit point faults belong to the old task and leave everything as it was. After it they belong to the new
 * task and are raised at its first instruction (SDM vol. 3, 7.3): s.rip is then the new task's, so they must not go
 * through jit_raise under generated code, which would look s.rip up.
 */
#include "accel/jit/guest-x86/x86_system.h"

/* Where things are in a TSS (SDM vol. 3, figures 7-2 and 7-10); [0] 16-bit, [1] 32-bit. */
struct tss_layout {
    uint8_t word;      /* bytes of a register */
    uint8_t ip, flags, gpr, seg, nseg, seg_step, ldt, min_limit;
};
static const struct tss_layout tss_layouts[2] = {
    { .word = 2, .ip = 0x0e, .flags = 0x10, .gpr = 0x12, .seg = 0x22, .nseg = 4, .seg_step = 2, .ldt = 0x2a,
      .min_limit = 0x2b },
    { .word = 4, .ip = 0x20, .flags = 0x24, .gpr = 0x28, .seg = 0x48, .nseg = 6, .seg_step = 4, .ldt = 0x60,
      .min_limit = 0x67 },
};
#define TSS_CR3 0x1c
#define TSS_TRAP 0x64
#define TSS_MAX 0x68

struct task {
    uint64_t base;
    const struct tss_layout *layout;
    uint32_t cr3, ip, flags;
    uint32_t gpr[8];
    uint16_t seg[X86_NSEG], ldt;
    bool trap;
};

static const struct tss_layout *layout_of(unsigned type)
{
    return &tss_layouts[type >> 3 & 1u];
}

static uint32_t image_get(const uint8_t *image, unsigned off, unsigned size)
{
    uint32_t v = image[off] | (uint32_t)image[off + 1] << 8;
    return size == 2 ? v : v | (uint32_t)image[off + 2] << 16 | (uint32_t)image[off + 3] << 24;
}

static void read_task(struct jit_cpu *cpu, const uint32_t d[2], struct task *t)
{
    uint8_t image[TSS_MAX];
    t->layout = layout_of(X86_D_TYPE(d[1]));
    t->base = x86_desc_base(d);
    const struct tss_layout *l = t->layout;
    jit_load_bytes(cpu, t->base, image, l->min_limit + 1u, X86_MMU_SYSTEM);
    t->ip = image_get(image, l->ip, l->word);
    t->flags = image_get(image, l->flags, l->word);
    for (unsigned i = 0; i < 8; i++) {
        t->gpr[i] = image_get(image, l->gpr + i * l->word, l->word);
    }
    for (unsigned i = 0; i < X86_NSEG; i++) {
        t->seg[i] = i < l->nseg ? (uint16_t)image_get(image, l->seg + i * l->seg_step, 2) : 0;
    }
    t->ldt = (uint16_t)image_get(image, l->ldt, 2);
    t->cr3 = l->word == 4 ? image_get(image, TSS_CR3, 4) : 0;
    t->trap = l->word == 4 && (image[TSS_TRAP] & 1u);
}

/* The part of a TSS that a switch away writes: from `ip` to the last selector. */
static unsigned save_size(const struct tss_layout *l)
{
    return l->seg + (l->nseg - 1u) * l->seg_step + 2u - l->ip;
}

static void save_task(struct jit_cpu *cpu, const struct tss_layout *l, uint64_t rip, uint64_t flags)
{
    const struct x86_state *s = &cpu->s;
    uint64_t base = s->tr.base;
    jit_store(cpu, base + l->ip, l->word, X86_MMU_SYSTEM, rip & x86_mask(l->word));
    jit_store(cpu, base + l->flags, l->word, X86_MMU_SYSTEM, flags & x86_mask(l->word));
    for (unsigned i = 0; i < 8; i++) {
        jit_store(cpu, base + l->gpr + i * l->word, l->word, X86_MMU_SYSTEM, s->gpr[i] & x86_mask(l->word));
    }
    for (unsigned i = 0; i < l->nseg; i++) {
        jit_store(cpu, base + l->seg + i * l->seg_step, 2, X86_MMU_SYSTEM, s->seg[i].sel);
    }
}

/* ---- in the new task ---- */

static _Noreturn void task_fault(struct jit_cpu *cpu, unsigned vector, uint32_t error)
{
    jit_mode_changed(cpu);
    if (cpu->delivering) { /* no generated code above us: s.rip stays */
        jit_raise(cpu, vector, true, error);
    }
    cpu->exception_vector = vector;
    cpu->exception_error = error;
    cpu->exception_has_error = 1;
    cpu->exception_event = JIT_EV_FAULT;
    cpu->exception_next_len = 0;
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}

static void task_need(struct jit_cpu *cpu, bool ok, unsigned vector, unsigned sel)
{
    if (!ok) {
        task_fault(cpu, vector, (sel & 0xfffcu) | x86_ext(cpu));
    }
}

/* Takes a page fault of the new task here, so that the access itself cannot fault. */
static void task_probe(struct jit_cpu *cpu, uint64_t lin, unsigned size, unsigned access, unsigned mmu)
{
    struct x86_walk w;
    const uint64_t ends[2] = { lin & 0xffffffffu, (lin + size - 1) & 0xffffffffu };
    for (unsigned i = 0; i < 2; i++) {
        if (!x86_walk(cpu, ends[i], access, mmu, &w)) {
            cpu->s.cr2 = ends[i];
            task_fault(cpu, X86_PF, w.error);
        }
    }
}

/* Reads a descriptor of the new task and marks it accessed when it is a segment. */
static void task_descriptor(struct jit_cpu *cpu, uint16_t sel, uint32_t d[2], bool segment)
{
    const struct x86_state *s = &cpu->s;
    bool local = sel & 4u;
    task_need(cpu, !local || !(s->ldt.attr & X86_ATTR_UNUSABLE), X86_TS, sel);
    uint64_t base = local ? s->ldt.base : s->gdt.base;
    uint32_t limit = local ? s->ldt.limit : s->gdt.limit;
    task_need(cpu, (sel | 7u) <= limit, X86_TS, sel);
    uint64_t lin = base + (sel & 0xfff8u);
    task_probe(cpu, lin, 8, X86_ACC_READ, X86_MMU_SYSTEM);
    x86_read_descriptor(cpu, sel, d);
    if (segment && (d[1] & X86_D_S) && !(d[1] & X86_D_ACCESSED)) {
        task_probe(cpu, lin + 5, 1, X86_ACC_WRITE, X86_MMU_SYSTEM);
        x86_descriptor_set(cpu, sel, d, X86_D_ACCESSED);
    }
}

static void task_load_ldt(struct jit_cpu *cpu, uint16_t sel)
{
    struct x86_segment *ldt = &cpu->s.ldt;
    uint32_t d[2];
    ldt->sel = sel;
    ldt->attr = X86_ATTR_UNUSABLE;
    if (x86_null_sel(sel)) {
        return;
    }
    task_need(cpu, !(sel & 4u), X86_TS, sel);
    task_descriptor(cpu, sel, d, false);
    task_need(cpu, !(d[1] & X86_D_S) && X86_D_TYPE(d[1]) == X86_SYS_LDT && (d[1] & X86_D_P), X86_TS, sel);
    ldt->base = x86_desc_base(d);
    ldt->limit = x86_desc_limit(d);
    ldt->attr = x86_desc_attr(d);
}

static void task_load_cs(struct jit_cpu *cpu, uint16_t sel)
{
    uint32_t d[2];
    unsigned rpl = sel & 3u;
    task_need(cpu, !x86_null_sel(sel), X86_TS, 0);
    task_descriptor(cpu, sel, d, true);
    unsigned dpl = X86_D_DPL(d[1]);
    task_need(cpu, x86_is_code(d[1]) && (d[1] & X86_D_CONFORM ? dpl <= rpl : dpl == rpl), X86_TS, sel);
    task_need(cpu, d[1] & X86_D_P, X86_NP, sel);
    x86_set_seg_desc(cpu, X86_CS, sel, d);
}

static void task_load_ss(struct jit_cpu *cpu, uint16_t sel, unsigned cpl)
{
    uint32_t d[2];
    task_need(cpu, !x86_null_sel(sel), X86_TS, 0);
    task_descriptor(cpu, sel, d, true);
    task_need(cpu, (sel & 3u) == cpl && X86_D_DPL(d[1]) == cpl && x86_is_writable_data(d[1]), X86_TS, sel);
    task_need(cpu, d[1] & X86_D_P, X86_SSF, sel);
    x86_set_seg_desc(cpu, X86_SS, sel, d);
}

static void task_load_data(struct jit_cpu *cpu, enum x86_seg seg, uint16_t sel, unsigned cpl)
{
    uint32_t d[2];
    if (x86_null_sel(sel)) {
        return;
    }
    task_descriptor(cpu, sel, d, true);
    bool code = d[1] & X86_D_CODE, conforming = code && (d[1] & X86_D_CONFORM);
    unsigned dpl = X86_D_DPL(d[1]);
    task_need(cpu, (d[1] & X86_D_S) && (!code || (d[1] & X86_D_RW)), X86_TS, sel);
    task_need(cpu, conforming || (dpl >= cpl && dpl >= (sel & 3u)), X86_TS, sel);
    task_need(cpu, d[1] & X86_D_P, X86_NP, sel);
    x86_set_seg_desc(cpu, seg, sel, d);
}

static void task_load_segments(struct jit_cpu *cpu, const struct task *t)
{
    static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };
    /* All are unusable until loaded, so that a fault handler finds the selectors and nothing else. */
    unsigned cpl = t->flags & X86_FL_VM ? 3 : t->seg[X86_CS] & 3u;
    for (unsigned i = 0; i < X86_NSEG; i++) {
        x86_set_seg_null(cpu, i, t->seg[i]);
    }
    cpu->s.seg[X86_SS].attr |= cpl << 5;
    task_load_ldt(cpu, t->ldt);
    if (t->flags & X86_FL_VM) {
        for (unsigned i = 0; i < X86_NSEG; i++) {
            x86_set_seg_real(cpu, i, t->seg[i]);
        }
        return;
    }
    task_load_cs(cpu, t->seg[X86_CS]);
    task_load_ss(cpu, t->seg[X86_SS], cpl);
    for (unsigned i = 0; i < sizeof data; i++) {
        task_load_data(cpu, data[i], t->seg[data[i]], cpl);
    }
}

static void task_push_error(struct jit_cpu *cpu, unsigned size, uint32_t error)
{
    const struct x86_segment *ss = &cpu->s.seg[X86_SS];
    uint64_t mask = x86_mask(ss->attr & X86_ATTR_DB ? 4 : 2);
    uint64_t sp = (cpu->s.gpr[X86_RSP] - size) & mask, last = sp + size - 1;
    bool down = (ss->attr & 0xcu) == 4u;
    task_need(cpu, down ? sp > ss->limit && last <= mask : last <= ss->limit, X86_SSF, 0);
    unsigned mmu = x86_mmu_at(cpu, x86_cpl(cpu));
    uint64_t lin = (ss->base + sp) & 0xffffffffu;
    task_probe(cpu, lin, size, X86_ACC_WRITE, mmu);
    jit_store(cpu, lin, size, mmu, error & x86_mask(size));
    x86_put_sp(cpu, sp, mask);
}

static void enter_task(struct jit_cpu *cpu, const struct task *t, bool has_error, uint32_t error)
{
    struct x86_state *s = &cpu->s;
    bool wide = t->layout->word == 4;
    uint64_t flags = wide ? t->flags & 0x3f7fd7u : t->flags & 0x7fd7u;
    s->rip = t->ip;
    x86_put_rflags(cpu, flags);
    for (unsigned i = 0; i < 8; i++) {
        s->gpr[i] = wide ? t->gpr[i] : t->gpr[i] | 0xffff0000u;
    }
    s->dr7 &= ~(uint64_t)0x155; /* the local breakpoints L0-L3 and LE belonged to the old task */
    if (wide && (s->cr0 & X86_CR0_PG) && t->cr3 != s->cr3) {
        task_need(cpu, x86_set_cr3(cpu, t->cr3), X86_TS, s->tr.sel);
    }
    task_load_segments(cpu, t);
    if (has_error) {
        task_push_error(cpu, wide ? 4 : 2, error);
    }
    task_need(cpu, t->ip <= s->seg[X86_CS].limit, X86_GP, 0);
}

/* The T flag of the TSS: #DB, a trap, before the first instruction. */
static void task_trap(struct jit_cpu *cpu)
{
    cpu->s.dr6 |= 0x8000u;
    jit_mode_changed(cpu);
    cpu->exception_vector = X86_DB;
    cpu->exception_error = 0;
    cpu->exception_has_error = 0;
    cpu->exception_event = JIT_EV_FAULT;
    cpu->exception_next_len = 0;
    if (cpu->delivering) {
        cpu->delivering = X86_DELIVER_NONE; /* that event is done: this one is no fault of its delivery */
        jit_raise(cpu, X86_DB, false, 0);
    }
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}

static uint64_t descriptor_lin(const struct jit_cpu *cpu, uint16_t sel)
{
    return (cpu->s.gdt.base + (sel & 0xfff8u)) & 0xffffffffu;
}

static void put_busy(struct jit_cpu *cpu, uint16_t sel, bool busy)
{
    uint64_t lin = descriptor_lin(cpu, sel) + 5;
    uint64_t v = jit_load(cpu, lin, 1, X86_MMU_SYSTEM);
    jit_store(cpu, lin, 1, X86_MMU_SYSTEM, busy ? v | 2u : v & ~(uint64_t)2);
}

void x86_task_switch(struct jit_cpu *cpu, uint16_t tss_sel, const uint32_t desc[2], enum x86_task_kind kind,
                     uint64_t next_rip, bool has_error, uint32_t error)
{
    struct x86_state *s = &cpu->s;
    struct task t;
    unsigned type = X86_D_TYPE(desc[1]);
    const struct tss_layout *old = layout_of(s->tr.attr & X86_ATTR_TYPE);
    bool nested = kind == X86_TASK_CALL || kind == X86_TASK_INT;
    x86_need(cpu, x86_desc_limit(desc) >= layout_of(type)->min_limit, X86_TS, tss_sel);
    x86_need(cpu, s->tr.limit >= old->min_limit, X86_TS, s->tr.sel);
    read_task(cpu, desc, &t);
    jit_probe(cpu, s->tr.base + old->ip, save_size(old), JIT_ACC_WRITE, X86_MMU_SYSTEM);
    if (nested) {
        jit_probe(cpu, t.base, 2, JIT_ACC_WRITE, X86_MMU_SYSTEM);
    } else {
        jit_probe(cpu, descriptor_lin(cpu, s->tr.sel), 8, JIT_ACC_WRITE, X86_MMU_SYSTEM);
    }
    if (kind != X86_TASK_IRET) {
        jit_probe(cpu, descriptor_lin(cpu, tss_sel), 8, JIT_ACC_WRITE, X86_MMU_SYSTEM);
    }

    uint64_t flags = jit_get_rflags(cpu);
    save_task(cpu, old, next_rip, kind == X86_TASK_IRET ? flags & ~(uint64_t)X86_FL_NT : flags);
    if (!nested) {
        put_busy(cpu, s->tr.sel, false);
    }
    if (kind != X86_TASK_IRET) {
        put_busy(cpu, tss_sel, true);
    }
    if (nested) {
        jit_store(cpu, t.base, 2, X86_MMU_SYSTEM, s->tr.sel);
        t.flags |= X86_FL_NT;
    }

    s->tr.sel = tss_sel;
    s->tr.base = t.base;
    s->tr.limit = x86_desc_limit(desc);
    s->tr.attr = x86_desc_attr(desc) | 2u;
    s->cr0 |= X86_CR0_TS;
    enter_task(cpu, &t, has_error, error);
    if (__builtin_expect(t.trap, 0)) {
        task_trap(cpu);
    }
    jit_mode_changed(cpu);
}
