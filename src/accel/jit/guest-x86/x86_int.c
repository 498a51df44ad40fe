/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Delivery of exceptions and interrupts (SDM vol. 3, chapter 6; 20.1.4 for real mode, 20.3 from virtual 8086 mode).
 * Light.
 *
 * A fault met during delivery unwinds to the run loop through jit_raise, with nothing of the guest's registers changed;
 * the run loop calls x86_deliver again with that fault, and jit_cpu.delivering tells what it interrupted.
 */
#include "accel/jit/guest-x86/x86_system.h"

struct delivery {
    enum jit_event event;
    unsigned vector;
    bool soft;          /* INT n, INT3, INTO: the gate's DPL counts, and faults met have no EXT */
    bool has_error;
    uint32_t error;
    uint64_t rip;       /* to be pushed */
    uint64_t flags;     /* to be pushed */
};

struct gate {
    unsigned type, ist;
    uint16_t sel;
    uint64_t off;
    uint32_t d1;
};

/* Error code of a fault that names an IDT entry: the IDT bit (SDM vol. 3, 6.13). */
static inline void need_gate(struct jit_cpu *cpu, bool ok, unsigned vector, const struct delivery *e)
{
    if (__builtin_expect(!ok, 0)) {
        jit_raise(cpu, vector, true, e->vector << 3 | 2u | x86_ext(cpu));
    }
}

/* ---- real mode ---- */

static void deliver_real(struct jit_cpu *cpu, const struct delivery *e)
{
    struct x86_state *s = &cpu->s;
    struct x86_stack st;
    x86_need(cpu, e->vector * 4 + 3 <= s->idt.limit, X86_GP, e->vector << 3);
    uint32_t target = (uint32_t)jit_load(cpu, (s->idt.base + e->vector * 4) & 0xffffffffu, 4, X86_MMU_SYSTEM);
    uint64_t slots[3] = { e->rip, s->seg[X86_CS].sel, e->flags };
    x86_stack_current(cpu, &st);
    x86_stack_push(cpu, &st, slots, 3, 2);
    x86_put_sp(cpu, st.sp, st.mask);
    x86_set_seg_real(cpu, X86_CS, (uint16_t)(target >> 16));
    s->rip = target & 0xffffu;
    s->rflags &= ~(uint64_t)(X86_FL_IF | X86_FL_TF | X86_FL_RF | X86_FL_AC);
}

/* ---- protected and long mode ---- */

static void read_gate(struct jit_cpu *cpu, const struct delivery *e, struct gate *g)
{
    const struct x86_state *s = &cpu->s;
    bool wide = x86_long(cpu);
    unsigned size = wide ? 16 : 8;
    need_gate(cpu, e->vector * size + size - 1 <= s->idt.limit, X86_GP, e);
    uint64_t lin = s->idt.base + e->vector * size;
    uint64_t v = jit_load(cpu, wide ? lin : lin & 0xffffffffu, 8, X86_MMU_SYSTEM);
    g->d1 = (uint32_t)(v >> 32);
    g->type = g->d1 >> 8 & 0x1fu; /* with the S bit, which must be 0 */
    g->sel = (uint16_t)(v >> 16);
    g->off = v & 0xffffu;
    g->ist = 0;
    bool ok = g->type == X86_SYS_INT32 || g->type == X86_SYS_TRAP32;
    if (wide) {
        g->off |= (g->d1 & 0xffff0000u) | (ok ? jit_load(cpu, lin + 8, 8, X86_MMU_SYSTEM) << 32 : 0);
        g->ist = g->d1 & 7u;
    } else if (ok) {
        g->off |= g->d1 & 0xffff0000u;
    } else {
        ok = g->type == X86_SYS_INT16 || g->type == X86_SYS_TRAP16 || g->type == X86_SYS_TASK_GATE;
    }
    need_gate(cpu, ok, X86_GP, e);
    need_gate(cpu, !e->soft || X86_D_DPL(g->d1) >= x86_cpl(cpu), X86_GP, e);
    need_gate(cpu, g->d1 & X86_D_P, X86_NP, e);
}

static void deliver_task(struct jit_cpu *cpu, const struct delivery *e, const struct gate *g)
{
    uint32_t d[2];
    x86_need(cpu, !(g->sel & 4u) && !x86_null_sel(g->sel), X86_GP, g->sel);
    x86_need_descriptor(cpu, g->sel, d, X86_GP);
    unsigned type = X86_D_TYPE(d[1]);
    x86_need(cpu, !(d[1] & X86_D_S) && (type == X86_SYS_TSS16 || type == X86_SYS_TSS32), X86_GP, g->sel);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, g->sel);
    x86_task_switch(cpu, g->sel, d, X86_TASK_INT, e->rip, e->has_error, e->error);
}

/* The handler's code segment; the privilege it runs at. */
static unsigned check_handler(struct jit_cpu *cpu, const struct gate *g, uint32_t d[2], unsigned cpl)
{
    x86_need(cpu, !x86_null_sel(g->sel), X86_GP, 0);
    x86_need_descriptor(cpu, g->sel, d, X86_GP);
    unsigned dpl = X86_D_DPL(d[1]);
    x86_need(cpu, x86_is_code(d[1]) && dpl <= cpl, X86_GP, g->sel);
    x86_need(cpu, !x86_long(cpu) || (d[1] & (X86_D_L | X86_D_DB)) == X86_D_L, X86_GP, g->sel);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, g->sel);
    unsigned to = d[1] & X86_D_CONFORM ? cpl : dpl;
    x86_need(cpu, !x86_vm86(cpu) || to == 0, X86_GP, g->sel);
    return to;
}

static void enter_handler(struct jit_cpu *cpu, const struct gate *g, const uint32_t d[2], unsigned cpl)
{
    uint64_t clear = X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM;
    if (!(g->type & 1u)) { /* interrupt gates are even, trap gates odd */
        clear |= X86_FL_IF;
    }
    cpu->s.rflags &= ~clear;
    x86_set_seg_desc(cpu, X86_CS, (uint16_t)((g->sel & 0xfffcu) | cpl), d);
    cpu->s.rip = g->off;
}

static void deliver_long(struct jit_cpu *cpu, const struct delivery *e)
{
    struct x86_state *s = &cpu->s;
    struct gate g;
    struct x86_stack st;
    uint32_t d[2];
    uint16_t ss;
    unsigned cpl = x86_cpl(cpu), i = 0;
    read_gate(cpu, e, &g);
    unsigned to = check_handler(cpu, &g, d, cpl);
    x86_need(cpu, x86_canonical(g.off), X86_GP, 0);
    if (to != cpl || g.ist) {
        x86_stack_inner(cpu, to, g.ist, &st, &ss, NULL);
    } else {
        st.sp = s->gpr[X86_RSP];
        st.mask = ~(uint64_t)0;
        st.mmu = x86_mmu_at(cpu, to);
        st.error_sel = 0;
        st.flat64 = true;
    }
    st.sp &= ~(uint64_t)15;
    x86_mark_accessed(cpu, g.sel, d);
    uint64_t slots[6];
    if (e->has_error) {
        slots[i++] = e->error;
    }
    slots[i++] = e->rip;
    slots[i++] = s->seg[X86_CS].sel;
    slots[i++] = e->flags;
    slots[i++] = s->gpr[X86_RSP];
    slots[i++] = s->seg[X86_SS].sel;
    x86_stack_push(cpu, &st, slots, i, 8);
    if (to != cpl) {
        x86_set_ss_null(cpu, to);
    }
    s->gpr[X86_RSP] = st.sp;
    enter_handler(cpu, &g, d, to);
}

static void deliver_protected(struct jit_cpu *cpu, const struct delivery *e)
{
    struct x86_state *s = &cpu->s;
    struct gate g;
    struct x86_stack st;
    uint32_t d[2], ss_d[2];
    uint16_t ss = 0;
    uint64_t slots[10];
    unsigned cpl = x86_cpl(cpu), i = 0;
    bool vm86 = x86_vm86(cpu);
    read_gate(cpu, e, &g);
    if (g.type == X86_SYS_TASK_GATE) {
        deliver_task(cpu, e, &g);
        return;
    }
    unsigned to = check_handler(cpu, &g, d, cpl);
    if (to != cpl) {
        x86_stack_inner(cpu, to, 0, &st, &ss, ss_d);
    } else {
        x86_stack_current(cpu, &st);
    }
    x86_check_rip(cpu, d, g.off);
    x86_mark_accessed(cpu, g.sel, d);
    if (e->has_error) {
        slots[i++] = e->error;
    }
    slots[i++] = e->rip;
    slots[i++] = s->seg[X86_CS].sel;
    slots[i++] = e->flags;
    if (to != cpl) {
        slots[i++] = s->gpr[X86_RSP];
        slots[i++] = s->seg[X86_SS].sel;
    }
    if (vm86) {
        slots[i++] = s->seg[X86_ES].sel;
        slots[i++] = s->seg[X86_DS].sel;
        slots[i++] = s->seg[X86_FS].sel;
        slots[i++] = s->seg[X86_GS].sel;
    }
    x86_stack_push(cpu, &st, slots, i, g.type & 8u ? 4 : 2);
    if (to != cpl) {
        x86_commit_inner(cpu, to, &st, ss, ss_d);
    } else {
        x86_put_sp(cpu, st.sp, st.mask);
    }
    enter_handler(cpu, &g, d, to);
    if (vm86) {
        x86_set_seg_null(cpu, X86_ES, 0);
        x86_set_seg_null(cpu, X86_DS, 0);
        x86_set_seg_null(cpu, X86_FS, 0);
        x86_set_seg_null(cpu, X86_GS, 0);
    }
}

/* ---- double and triple faults: SDM vol. 3, tables 6-4 and 6-5 ---- */

static enum x86_delivering event_class(enum jit_event event, unsigned vector)
{
    if (event != JIT_EV_FAULT) {
        return X86_DELIVER_BENIGN;
    }
    switch (vector) {
    case X86_DE: case X86_TS: case X86_NP: case X86_SSF: case X86_GP: return X86_DELIVER_CONTRIBUTORY;
    case X86_PF: return X86_DELIVER_PF;
    case X86_DF: return X86_DELIVER_DF;
    default: return X86_DELIVER_BENIGN;
    }
}

/* The class to deliver when `second` came up during `first`; X86_DELIVER_NONE: triple fault. */
static enum x86_delivering combine(enum x86_delivering first, enum x86_delivering second)
{
    bool serious = second == X86_DELIVER_CONTRIBUTORY || second == X86_DELIVER_PF;
    switch (first) {
    case X86_DELIVER_CONTRIBUTORY: return second == X86_DELIVER_CONTRIBUTORY ? X86_DELIVER_DF : second;
    case X86_DELIVER_PF: return serious ? X86_DELIVER_DF : second;
    case X86_DELIVER_DF: return serious ? X86_DELIVER_NONE : second;
    default: return second;
    }
}

/* RF as pushed: faults set it, so that the restarted instruction meets no instruction breakpoint again; #DB does not
 * (SDM vol. 3, 17.3.1.1). */
static uint64_t pushed_flags(const struct jit_cpu *cpu, enum jit_event event, unsigned vector)
{
    uint64_t flags = jit_get_rflags(cpu);
    return event == JIT_EV_FAULT && vector != X86_DB ? flags | X86_FL_RF : flags;
}

bool x86_deliver(struct jit_cpu *cpu, enum jit_event event, unsigned vector, bool has_error, uint32_t error,
                 unsigned insn_len)
{
    struct x86_state *s = &cpu->s;
    enum x86_delivering class = event_class(event, vector);
    if (cpu->delivering) {
        enum x86_delivering now = combine(X86_DELIVER_CLASS(cpu->delivering), class);
        if (now == X86_DELIVER_NONE) {
            cpu->delivering = X86_DELIVER_NONE;
            return false;
        }
        if (now == X86_DELIVER_DF && class != X86_DELIVER_DF) {
            vector = X86_DF;
            has_error = true;
            error = 0;
        }
        class = now;
    }
    struct delivery e = { .event = event, .vector = vector, .has_error = has_error, .error = error, .rip = s->rip };
    e.soft = event == JIT_EV_SOFT_INT || event == JIT_EV_SOFT_EXC;
    e.flags = pushed_flags(cpu, event, vector);
    if (e.soft || event == JIT_EV_ICEBP) {
        e.rip += insn_len;
        e.rip &= x86_code64(cpu) ? ~(uint64_t)0 : x86_mask(s->seg[X86_CS].attr & X86_ATTR_DB ? 4 : 2);
    }
    if (event == JIT_EV_NMI) {
        s->nmi_blocked = 1; /* from here on, even if delivery faults */
    }
    cpu->delivering = (uint8_t)(class | (e.soft ? 0 : X86_DELIVER_EXT));
    cpu->deliver_vector = (uint8_t)vector;
    if (x86_long(cpu)) {
        deliver_long(cpu, &e);
    } else if (s->cr0 & X86_CR0_PE) {
        deliver_protected(cpu, &e);
    } else {
        deliver_real(cpu, &e);
    }
    cpu->delivering = X86_DELIVER_NONE;
    s->interrupt_shadow = 0;
    if (vector == X86_DB && !e.soft) {
        s->dr7 &= ~(uint64_t)0x2000; /* GD: the handler may use the debug registers */
    }
    jit_mode_changed(cpu);
    return true;
}

uint64_t x86_h_int_soft(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_need(cpu, !x86_vm86(cpu) || c != JIT_EV_SOFT_INT || x86_iopl(cpu) == 3, X86_GP, 0);
    cpu->exception_vector = (uint32_t)a;
    cpu->exception_error = 0;
    cpu->exception_event = (uint32_t)c;
    cpu->exception_has_error = 0;
    cpu->exception_next_len = (uint8_t)b;
    jit_sync_rip(cpu);
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}
