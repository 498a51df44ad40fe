/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions: control registers, RFLAGS, TSC, CPUID, TLB invalidation, HLT, port I/O and its permissions.
 * SDM vol. 2 (the instructions) and vol. 3, 2.5 (control registers), 19.5 in vol. 1 (I/O permission). Light code.
 */
#include "accel/jit/guest-x86/x86_helpers.h"

#define EFER_AUTOIBRS (1ull << 21)

_Noreturn static void raise_gp(struct jit_cpu *cpu)
{
    jit_raise(cpu, X86_GP, true, 0);
}

_Noreturn static void raise_ud(struct jit_cpu *cpu)
{
    jit_raise(cpu, X86_UD, false, 0);
}

static void need_cpl0(struct jit_cpu *cpu)
{
    if (x86_cpl(cpu) != 0) {
        raise_gp(cpu);
    }
}

static bool has(const struct jit_cpu *cpu, enum x86_feature f)
{
    return x86_model_has(cpu->model, f);
}

static bool canonical(uint64_t v)
{
    return (uint64_t)((int64_t)(v << 16) >> 16) == v;
}

static unsigned iopl(const struct jit_cpu *cpu)
{
    return (unsigned)(cpu->s.rflags >> 12) & 3;
}

static void set_edx_eax(struct jit_cpu *cpu, uint64_t v)
{
    cpu->s.gpr[X86_RAX] = (uint32_t)v;
    cpu->s.gpr[X86_RDX] = v >> 32;
}

/* ---- CR0, CR3, CR4 ---- */

/* EFER.LMA follows CR0.PG and EFER.LME (SDM vol. 3, 4.1.2). False: the combination is not allowed. */
static bool enter_paging(struct jit_cpu *cpu)
{
    unsigned tss = cpu->s.tr.attr & X86_ATTR_TYPE;

    if (!(cpu->s.efer & X86_EFER_LME)) {
        return true;
    }
    if (!(cpu->s.cr4 & X86_CR4_PAE) || (cpu->s.seg[X86_CS].attr & X86_ATTR_L) || tss == 1 || tss == 3) {
        return false;
    }
    cpu->s.efer |= X86_EFER_LMA;
    return true;
}

static bool leave_paging(struct jit_cpu *cpu)
{
    bool code64 = (cpu->s.efer & X86_EFER_LMA) && (cpu->s.seg[X86_CS].attr & X86_ATTR_L);

    if (code64 || (cpu->s.cr4 & X86_CR4_PCIDE)) {
        return false;
    }
    cpu->s.efer &= ~(uint64_t)X86_EFER_LMA;
    return true;
}

bool x86_set_cr0(struct jit_cpu *cpu, uint64_t v)
{
    uint64_t old = cpu->s.cr0, changed;
    const uint64_t known = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |
                           X86_CR0_NW | X86_CR0_CD | X86_CR0_PG;

    if (v >> 32 || ((v & X86_CR0_PG) && !(v & X86_CR0_PE)) || ((v & X86_CR0_NW) && !(v & X86_CR0_CD))) {
        return false;
    }
    v = (v & known) | X86_CR0_ET;
    changed = v ^ old;
    if ((changed & X86_CR0_PG) && !(v & X86_CR0_PG ? enter_paging(cpu) : leave_paging(cpu))) {
        return false;
    }
    cpu->s.cr0 = v;
    if (changed & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE)) {
        jit_tlb_flush(cpu);
    }
    if (changed) {
        jit_mode_changed(cpu);
    }
    return true;
}

bool x86_set_cr3(struct jit_cpu *cpu, uint64_t v)
{
    if (cpu->s.cr4 & X86_CR4_PCIDE) {
        v &= ~(1ull << 63); /* "do not flush": allowed to flush all the same */
    }
    if (!(cpu->s.efer & X86_EFER_LMA)) {
        v = (uint32_t)v;
    } else if (v >> cpu->model->phys_bits) {
        return false;
    }
    cpu->s.cr3 = v;
    jit_tlb_flush_nonglobal(cpu);
    return true;
}

static const struct {
    uint32_t bits;
    uint16_t feature; /* enum x86_feature */
} cr4_features[] = {
    { X86_CR4_VME | X86_CR4_PVI, X86_FEAT_VME },
    { X86_CR4_TSD, X86_FEAT_TSC },
    { X86_CR4_DE, X86_FEAT_DE },
    { X86_CR4_PSE, X86_FEAT_PSE },
    { X86_CR4_PAE, X86_FEAT_PAE },
    { X86_CR4_MCE, X86_FEAT_MCE },
    { X86_CR4_PGE, X86_FEAT_PGE },
    { X86_CR4_PCE, X86_FEAT_MMX },
    { X86_CR4_OSFXSR, X86_FEAT_FXSR },
    { X86_CR4_OSXMMEXCPT, X86_FEAT_SSE },
    { X86_CR4_UMIP, X86_FEAT_UMIP },
    { X86_CR4_FSGSBASE, X86_FEAT_FSGSBASE },
    { X86_CR4_PCIDE, X86_FEAT_PCID },
    { X86_CR4_OSXSAVE, X86_FEAT_XSAVE },
    { X86_CR4_SMEP, X86_FEAT_SMEP },
    { X86_CR4_SMAP, X86_FEAT_SMAP },
};

static uint64_t cr4_allowed(const struct jit_cpu *cpu)
{
    uint64_t allowed = 0;

    for (unsigned i = 0; i < sizeof(cr4_features) / sizeof(cr4_features[0]); i++) {
        if (has(cpu, (enum x86_feature)cr4_features[i].feature)) {
            allowed |= cr4_features[i].bits;
        }
    }
    return allowed;
}

bool x86_set_cr4(struct jit_cpu *cpu, uint64_t v)
{
    uint64_t changed = v ^ cpu->s.cr4;
    bool lma = cpu->s.efer & X86_EFER_LMA;

    if ((v & ~cr4_allowed(cpu)) || (lma && !(v & X86_CR4_PAE))) {
        return false;
    }
    if ((changed & v & X86_CR4_PCIDE) && (!lma || (cpu->s.cr3 & 0xfff))) {
        return false;
    }
    cpu->s.cr4 = v;
    if (changed & (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP)) {
        jit_tlb_flush(cpu);
    }
    if (changed) {
        jit_mode_changed(cpu);
    }
    return true;
}

bool x86_set_efer(struct jit_cpu *cpu, uint64_t v)
{
    uint64_t allowed = X86_EFER_LMA, changed;

    allowed |= has(cpu, X86_FEAT_SYSCALL) ? X86_EFER_SCE : 0;
    allowed |= has(cpu, X86_FEAT_LM) ? X86_EFER_LME : 0;
    allowed |= has(cpu, X86_FEAT_NX) ? X86_EFER_NXE : 0;
    allowed |= has(cpu, X86_FEAT_AUTO_IBRS) ? EFER_AUTOIBRS : 0;
    if (v & ~allowed) {
        return false;
    }
    v = (v & ~(uint64_t)X86_EFER_LMA) | (cpu->s.efer & X86_EFER_LMA); /* LMA is read-only */
    changed = v ^ cpu->s.efer;
    if ((changed & X86_EFER_LME) && (cpu->s.cr0 & X86_CR0_PG)) {
        return false;
    }
    cpu->s.efer = v;
    if (changed & X86_EFER_NXE) {
        jit_tlb_flush(cpu);
    }
    if (changed) {
        jit_mode_changed(cpu);
    }
    return true;
}

uint64_t x86_h_read_cr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    switch (a) {
    case 0:
        return cpu->s.cr0;
    case 2:
        return cpu->s.cr2;
    case 3:
        return cpu->s.cr3;
    case 4:
        return cpu->s.cr4;
    case 8:
        return jit_get_tpr(cpu);
    }
    raise_ud(cpu);
}

uint64_t x86_h_write_cr(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    bool ok = true;

    need_cpl0(cpu);
    switch (a) {
    case 0:
        ok = x86_set_cr0(cpu, b);
        break;
    case 2:
        cpu->s.cr2 = b;
        break;
    case 3:
        ok = x86_set_cr3(cpu, b);
        break;
    case 4:
        ok = x86_set_cr4(cpu, b);
        break;
    case 8:
        ok = b < 16;
        if (ok) {
            jit_set_tpr(cpu, (unsigned)b);
            jit_check_interrupts(cpu);
        }
        break;
    default:
        raise_ud(cpu);
    }
    if (!ok) {
        raise_gp(cpu);
    }
    cpu->s.rip = c;
    return 0;
}

uint64_t x86_h_smsw(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_h_umip_check(cpu, 0, 0, 0);
    return cpu->s.cr0;
}

uint64_t x86_h_lmsw(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    /* PE can be set, not cleared */
    if (!x86_set_cr0(cpu, (cpu->s.cr0 & ~(uint64_t)(X86_CR0_MP | X86_CR0_EM | X86_CR0_TS)) | (a & 0xf))) {
        raise_gp(cpu);
    }
    cpu->s.rip = c;
    return 0;
}

uint64_t x86_h_clts(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    if (cpu->s.cr0 & X86_CR0_TS) {
        cpu->s.cr0 &= ~(uint64_t)X86_CR0_TS;
        jit_mode_changed(cpu);
    }
    cpu->s.rip = c;
    return 0;
}

uint64_t x86_h_umip_check(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if ((cpu->s.cr4 & X86_CR4_UMIP) && x86_cpl(cpu) != 0) {
        raise_gp(cpu);
    }
    return 0;
}

uint64_t x86_h_cpl0_check(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    return 0;
}

/* ---- RFLAGS ---- */

/* Writes the bits in mask. Always true; checks of who may change what are the caller's. */
bool x86_set_rflags(struct jit_cpu *cpu, uint64_t v, uint64_t mask)
{
    uint64_t old = jit_get_rflags(cpu), now = (old & ~mask) | (v & mask), changed = old ^ now;

    jit_set_arith(cpu, now);
    cpu->s.rflags = (now & ~(uint64_t)X86_FL_ARITH) | X86_FL_1;
    if (changed & (X86_FL_TF | X86_FL_AC | X86_FL_VM)) {
        jit_mode_changed(cpu);
    }
    if (changed & now & X86_FL_IF) {
        jit_check_interrupts(cpu);
    }
    return true;
}

/* #GP unless IOPL allows this program to touch IF. VME and PVI are not offered. */
static void need_iopl(struct jit_cpu *cpu)
{
    if ((cpu->s.cr0 & X86_CR0_PE) && x86_cpl(cpu) > iopl(cpu)) {
        raise_gp(cpu);
    }
}

uint64_t x86_h_cli(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_iopl(cpu);
    cpu->s.rflags &= ~(uint64_t)X86_FL_IF;
    return 0;
}

uint64_t x86_h_sti(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_iopl(cpu);
    cpu->s.rip = c;
    if (!(cpu->s.rflags & X86_FL_IF)) {
        cpu->s.rflags |= X86_FL_IF;
        cpu->s.interrupt_shadow = 1;
        jit_mode_changed(cpu);
        jit_check_interrupts(cpu);
    }
    return 0;
}

uint64_t x86_h_sti_open(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_iopl(cpu);
    cpu->s.rflags |= X86_FL_IF;
    jit_check_interrupts(cpu);
    return 0;
}

static void need_vm86_iopl3(struct jit_cpu *cpu)
{
    if ((cpu->s.rflags & X86_FL_VM) && iopl(cpu) < 3) {
        raise_gp(cpu);
    }
}

uint64_t x86_h_pushf(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_vm86_iopl3(cpu);
    return jit_get_rflags(cpu) & ~(uint64_t)(X86_FL_VM | X86_FL_RF);
}

uint64_t x86_h_popf(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t mask = X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT | X86_FL_AC | X86_FL_ID | X86_FL_RF;
    unsigned cpl = x86_cpl(cpu);

    need_vm86_iopl3(cpu);
    if (!(cpu->s.cr0 & X86_CR0_PE) || cpl == 0) {
        mask |= X86_FL_IOPL | X86_FL_IF | X86_FL_VIF | X86_FL_VIP;
        a &= ~(uint64_t)(X86_FL_VIF | X86_FL_VIP);
    } else if (cpl <= iopl(cpu)) {
        mask |= X86_FL_IF;
    }
    if (c == 2) {
        mask &= 0xffff;
    }
    cpu->s.rip = b;
    x86_set_rflags(cpu, a & ~(uint64_t)X86_FL_RF, mask);
    return 0;
}

static uint64_t set_ac(struct jit_cpu *cpu, uint64_t ac, uint64_t next)
{
    if (!has(cpu, X86_FEAT_SMAP) || x86_cpl(cpu) != 0) {
        raise_ud(cpu);
    }
    cpu->s.rip = next;
    x86_set_rflags(cpu, ac, X86_FL_AC);
    return 0;
}

uint64_t x86_h_stac(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return set_ac(cpu, X86_FL_AC, c);
}

uint64_t x86_h_clac(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return set_ac(cpu, 0, c);
}

/* ---- time, identity ---- */

static uint64_t guest_tsc(const struct jit_cpu *cpu)
{
    return __builtin_ia32_rdtsc() + cpu->s.tsc_offset;
}

uint64_t x86_h_rdtsc(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if ((cpu->s.cr4 & X86_CR4_TSD) && x86_cpl(cpu) != 0) {
        raise_gp(cpu);
    }
    set_edx_eax(cpu, guest_tsc(cpu));
    return 0;
}

uint64_t x86_h_rdtscp(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if (!has(cpu, X86_FEAT_RDTSCP)) {
        raise_ud(cpu);
    }
    __asm__ volatile("lfence" : : : "memory"); /* RDTSCP waits for earlier loads (SDM vol. 2), RDTSC does not */
    x86_h_rdtsc(cpu, 0, 0, 0);
    cpu->s.gpr[X86_RCX] = (uint32_t)cpu->s.tsc_aux;
    return 0;
}

/* There are no counters: every index is out of range. */
uint64_t x86_h_rdpmc(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    raise_gp(cpu);
}

uint64_t x86_h_rdpid(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if (!has(cpu, X86_FEAT_RDPID)) {
        raise_ud(cpu);
    }
    return (uint32_t)cpu->s.tsc_aux;
}

uint64_t x86_h_cpuid(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t r[4];

    x86_cpuid(cpu->model, &cpu->topo, &cpu->s, (uint32_t)cpu->s.gpr[X86_RAX], (uint32_t)cpu->s.gpr[X86_RCX], r);
    cpu->s.gpr[X86_RAX] = r[0];
    cpu->s.gpr[X86_RBX] = r[1];
    cpu->s.gpr[X86_RCX] = r[2];
    cpu->s.gpr[X86_RDX] = r[3];
    return 0;
}

/* ---- TLB, caches ---- */

uint64_t x86_h_invlpg(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    jit_tlb_flush_page(cpu, a);
    return 0;
}

uint64_t x86_h_invpcid(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t desc[2];

    if (!has(cpu, X86_FEAT_INVPCID)) {
        raise_ud(cpu);
    }
    need_cpl0(cpu);
    jit_load_bytes(cpu, b, desc, sizeof(desc), JIT_MODE_MMU(cpu->mode));
    if (a > 3 || (a < 2 && ((desc[0] >> 12) || (desc[0] && !(cpu->s.cr4 & X86_CR4_PCIDE)))) ||
        (a == 0 && !canonical(desc[1]))) {
        raise_gp(cpu);
    }
    switch (a) {
    case 0:
        if (desc[0] == ((cpu->s.cr4 & X86_CR4_PCIDE) ? cpu->s.cr3 & 0xfff : 0)) {
            jit_tlb_flush_page(cpu, desc[1]);
        }
        break;
    case 2:
        jit_tlb_flush(cpu);
        break;
    default:
        jit_tlb_flush_nonglobal(cpu);
        break;
    }
    return 0;
}

uint64_t x86_h_wbinvd(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    return 0;
}

/* ---- waiting ---- */

uint64_t x86_h_hlt(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    need_cpl0(cpu);
    cpu->s.rip = c;
    jit_leave(cpu, JIT_LEAVE_HALT);
}

uint64_t x86_h_monitor(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if (!has(cpu, X86_FEAT_MONITOR) || x86_cpl(cpu) != 0) {
        raise_ud(cpu);
    }
    return 0;
}

uint64_t x86_h_mwait(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    return x86_h_monitor(cpu, a, b, c);
}

/* ---- FS and GS bases ---- */

uint64_t x86_h_swapgs(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t base = cpu->s.seg[X86_GS].base;

    need_cpl0(cpu);
    cpu->s.seg[X86_GS].base = cpu->seg_base[X86_GS] = cpu->s.kernel_gs_base;
    cpu->s.kernel_gs_base = base;
    return 0;
}

uint64_t x86_h_rdfsgsbase(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    if (!(cpu->s.cr4 & X86_CR4_FSGSBASE)) {
        raise_ud(cpu);
    }
    return cpu->s.seg[a ? X86_GS : X86_FS].base;
}

uint64_t x86_h_wrfsgsbase(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    unsigned seg = a ? X86_GS : X86_FS;

    if (!(cpu->s.cr4 & X86_CR4_FSGSBASE)) {
        raise_ud(cpu);
    }
    if (!canonical(b)) {
        raise_gp(cpu);
    }
    cpu->s.seg[seg].base = cpu->seg_base[seg] = b;
    return 0;
}

/* ---- ports ---- */

enum { TSS_IOMAP_BASE = 0x66, TSS_MIN_LIMIT = 0x67 };

/* SDM vol. 1, 19.5.2. The map is read two bytes at a time, so a byte must follow its last one. */
static bool tss_allows(struct jit_cpu *cpu, unsigned port, unsigned size)
{
    const struct x86_segment *tr = &cpu->s.tr;
    unsigned type = tr->attr & X86_ATTR_TYPE;
    uint32_t at, bits;

    if ((type != 9 && type != 11) || !(tr->attr & X86_ATTR_P) || tr->limit < TSS_MIN_LIMIT) {
        return false;
    }
    at = (uint32_t)jit_load(cpu, tr->base + TSS_IOMAP_BASE, 2, JIT_MMU_KERNEL_AC) + port / 8;
    if (at + 1 > tr->limit) {
        return false;
    }
    bits = (uint32_t)jit_load(cpu, tr->base + at, 2, JIT_MMU_KERNEL_AC);
    return !(bits >> (port & 7) & ((1u << size) - 1));
}

void x86_io_check(struct jit_cpu *cpu, unsigned port, unsigned size)
{
    if (!(cpu->s.cr0 & X86_CR0_PE)) {
        return;
    }
    if (x86_cpl(cpu) <= iopl(cpu) && !(cpu->s.rflags & X86_FL_VM)) {
        return;
    }
    if (!tss_allows(cpu, port, size)) {
        raise_gp(cpu);
    }
}

uint64_t x86_h_in(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_io_check(cpu, (unsigned)a & 0xffff, (unsigned)c);
    return jit_pio_read(cpu, (unsigned)a & 0xffff, (unsigned)c);
}

uint64_t x86_h_out(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    x86_io_check(cpu, (unsigned)a & 0xffff, (unsigned)c);
    jit_pio_write(cpu, (unsigned)a & 0xffff, (unsigned)c, b);
    return 0;
}
