/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IRET (SDM vol. 2, that entry; vol. 3, 6.14.3 for 64-bit mode). Light.
 */
#include "accel/jit/guest-x86/x86_system.h"

/* Flags that IRET takes from the stack at this privilege. */
static uint64_t iret_flags(const struct jit_cpu *cpu, unsigned cpl, unsigned size)
{
    uint64_t mask = X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT;
    if (size != 2) {
        mask |= X86_FL_RF | X86_FL_AC | X86_FL_ID;
    }
    if (cpl <= x86_iopl(cpu)) {
        mask |= X86_FL_IF;
    }
    if (cpl == 0) {
        mask |= X86_FL_IOPL | (size != 2 ? X86_FL_VIF | X86_FL_VIP : 0);
    }
    return mask;
}

static void iret_commit(struct jit_cpu *cpu, uint64_t rip, uint64_t flags, uint64_t mask)
{
    uint64_t old = jit_get_rflags(cpu);
    x86_put_rflags(cpu, (old & ~mask) | (flags & mask));
    if (!(cpu->s.dr7 & 0xffu)) {
        cpu->s.rflags &= ~(uint64_t)X86_FL_RF; /* it would be over with the next instruction, and has no effect on that */
    }
    cpu->s.rip = rip;
    cpu->s.nmi_blocked = 0;
    jit_mode_changed(cpu);
}

static void iret_real(struct jit_cpu *cpu, unsigned size)
{
    struct x86_stack st;
    uint64_t slots[3];
    bool vm86 = x86_vm86(cpu);
    x86_need(cpu, !vm86 || x86_iopl(cpu) == 3, X86_GP, 0);
    x86_stack_current(cpu, &st);
    x86_stack_read(cpu, &st, slots, 3, size);
    x86_need(cpu, slots[0] <= cpu->s.seg[X86_CS].limit, X86_GP, 0);
    uint64_t mask = iret_flags(cpu, 0, size) & ~(uint64_t)(X86_FL_VIF | X86_FL_VIP | (vm86 ? X86_FL_IOPL : 0));
    x86_set_seg_real(cpu, X86_CS, (uint16_t)slots[1]);
    x86_put_sp(cpu, st.sp, st.mask);
    iret_commit(cpu, slots[0], slots[2], mask);
}

/* NT: back to the task that called or was interrupted. */
static void iret_task(struct jit_cpu *cpu, unsigned len)
{
    uint32_t d[2];
    x86_need(cpu, !x86_long(cpu), X86_GP, 0);
    uint16_t link = (uint16_t)jit_load(cpu, cpu->s.tr.base, 2, X86_MMU_SYSTEM);
    x86_need(cpu, !(link & 4u) && !x86_null_sel(link), X86_TS, link);
    x86_need_descriptor(cpu, link, d, X86_TS);
    unsigned type = X86_D_TYPE(d[1]);
    x86_need(cpu, !(d[1] & X86_D_S) && (type == X86_SYS_TSS16_BUSY || type == X86_SYS_TSS32_BUSY), X86_TS, link);
    x86_need(cpu, d[1] & X86_D_P, X86_NP, link);
    x86_task_switch(cpu, link, d, X86_TASK_IRET, x86_next_rip(cpu, len), false, 0);
    cpu->s.nmi_blocked = 0;
    jit_mode_changed(cpu);
}

/* To virtual 8086 mode (SDM vol. 3, 20.2.5): slots 0-2 are read, 6 more follow. */
static void iret_vm86(struct jit_cpu *cpu, struct x86_stack *st, const uint64_t *slots)
{
    static const uint8_t order[] = { X86_SS, X86_ES, X86_DS, X86_FS, X86_GS };
    uint64_t more[6];
    x86_stack_read(cpu, st, more, 6, 4);
    x86_need(cpu, slots[0] <= 0xffffu, X86_GP, 0);
    x86_put_rflags(cpu, slots[2] & 0x3f7fd7u);
    x86_set_seg_real(cpu, X86_CS, (uint16_t)slots[1]);
    for (unsigned i = 0; i < sizeof order; i++) {
        x86_set_seg_real(cpu, order[i], (uint16_t)more[1 + i]);
    }
    cpu->s.gpr[X86_RSP] = more[0];
    iret_commit(cpu, slots[0], slots[2], 0);
}

static void iret_protected(struct jit_cpu *cpu, unsigned size, unsigned len)
{
    struct x86_stack st;
    uint64_t slots[5];
    uint32_t d[2], ss_d[2];
    unsigned cpl = x86_cpl(cpu);
    if (__builtin_expect(cpu->s.rflags & X86_FL_NT, 0)) {
        iret_task(cpu, len);
        return;
    }
    bool from64 = x86_code64(cpu);
    x86_stack_current(cpu, &st);
    x86_stack_read(cpu, &st, slots, from64 ? 5 : 3, size);
    if (size == 4 && (slots[2] & X86_FL_VM) && cpl == 0 && !x86_long(cpu)) {
        iret_vm86(cpu, &st, slots);
        return;
    }
    uint16_t cs = (uint16_t)slots[1];
    unsigned rpl = cs & 3u;
    x86_need(cpu, !x86_null_sel(cs), X86_GP, 0);
    x86_need_descriptor(cpu, cs, d, X86_GP);
    x86_check_return_cs(cpu, cs, d);
    x86_check_rip(cpu, d, slots[0]);
    bool to64 = x86_long(cpu) && (d[1] & X86_D_L), outer = rpl > cpl, ss_null = false;
    uint64_t mask = iret_flags(cpu, cpl, size);
    if (from64 || outer) {
        if (!from64) {
            x86_stack_read(cpu, &st, slots + 3, 2, size);
        }
        uint16_t ss = (uint16_t)slots[4];
        ss_null = x86_null_sel(ss);
        if (ss_null) {
            x86_need(cpu, to64 && rpl != 3 && (ss & 3u) == rpl, X86_GP, 0);
        } else {
            x86_need_descriptor(cpu, ss, ss_d, X86_GP);
            x86_check_ss(cpu, ss, ss_d, rpl, X86_GP);
            x86_mark_accessed(cpu, ss, ss_d);
        }
    }
    x86_mark_accessed(cpu, cs, d);

    x86_set_seg_desc(cpu, X86_CS, cs, d);
    if (!from64 && !outer) {
        x86_put_sp(cpu, st.sp, st.mask);
    } else {
        if (ss_null) {
            x86_set_ss_null(cpu, rpl);
        } else {
            x86_set_seg_desc(cpu, X86_SS, (uint16_t)slots[4], ss_d);
        }
        x86_put_sp(cpu, slots[3], x86_mask(to64 ? 8 : cpu->s.seg[X86_SS].attr & X86_ATTR_DB ? 4 : 2));
        if (outer) {
            x86_hide_segments(cpu, rpl);
        }
    }
    iret_commit(cpu, slots[0], slots[2], mask);
}

uint64_t x86_h_iret(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned size = (unsigned)c & 0xffu;
    if (__builtin_expect(x86_protected(cpu), 1)) {
        iret_protected(cpu, size, (unsigned)(c >> 8) & 0xffu);
    } else {
        iret_real(cpu, size);
    }
    return 0;
}
