/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page walks (SDM vol. 3, chapter 4): no paging, 32-bit, PAE, and 4-level. 5-level paging is not offered to guests.
 * Light.
 */
#include "accel/jit/engine/jit_cpu.h"

#define PTE_P   0x001u
#define PTE_RW  0x002u
#define PTE_US  0x004u
#define PTE_A   0x020u
#define PTE_D   0x040u
#define PTE_PS  0x080u
#define PTE_G   0x100u
#define PTE_NX  (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

#define PF_P    0x01u
#define PF_W    0x02u
#define PF_U    0x04u
#define PF_RSVD 0x08u
#define PF_I    0x10u

/* Another vCPU may change an entry between our load and our compare-and-set: we look again, but not for ever. */
#define WALK_RETRIES 64

struct walk_format {
    unsigned top;       /* level that CR3 points to */
    unsigned esize;     /* bytes of an entry */
    unsigned index_bits;
    unsigned max_leaf;  /* highest level that may hold a leaf */
    uint64_t table;     /* from CR3 */
    uint64_t reserved;  /* in every entry */
};

static void walk_format(const struct jit_cpu *cpu, struct walk_format *f)
{
    const struct x86_state *s = &cpu->s;
    uint64_t beyond = ~((1ull << cpu->model->phys_bits) - 1);
    uint64_t no_nx = s->efer & X86_EFER_NXE ? 0 : PTE_NX;
    f->esize = 8;
    f->index_bits = 9;
    if (s->efer & X86_EFER_LMA) {
        f->top = 4;
        f->max_leaf = x86_model_has(cpu->model, X86_FEAT_PDPE1GB) ? 3 : 2;
        f->table = s->cr3 & PTE_ADDR;
        f->reserved = (beyond & PTE_ADDR) | no_nx;
    } else if (s->cr4 & X86_CR4_PAE) {
        f->top = 3;
        f->max_leaf = 2;
        f->table = s->cr3 & 0xffffffe0u;
        f->reserved = (beyond & ~PTE_NX) | no_nx;
    } else {
        f->top = 2;
        f->esize = 4;
        f->index_bits = 10;
        f->max_leaf = s->cr4 & X86_CR4_PSE ? 2 : 1;
        f->table = s->cr3 & 0xfffff000u;
        f->reserved = 0;
    }
}

/* Reserved bits of this entry that are set: SDM vol. 3, tables 4-3 to 4-20. */
static uint64_t walk_reserved(const struct walk_format *f, const struct jit_cpu *cpu, unsigned level, uint64_t e)
{
    uint64_t bits = e & f->reserved;
    if (f->esize == 8 && f->top == 3 && level == 3) {
        return (e & (f->reserved | PTE_NX)) | (e & 0x1e6u);
    }
    if (level == 1 || !(e & PTE_PS)) {
        return bits;
    }
    if (f->esize == 4) { /* PSE-36: bits 13-20 are address bits 32-39; without PSE bit 7 is ignored */
        unsigned phys = cpu->model->phys_bits > 40 ? 40 : cpu->model->phys_bits;
        return level > f->max_leaf ? 0 : e & (0x200000u | (0x1fe000u & ~((1u << (phys - 32 + 13)) - 1)));
    }
    if (level > f->max_leaf) {
        return PTE_PS;
    }
    return bits | (e & (level == 3 ? 0x3fffe000u : 0x1fe000u));
}

/* Sets bits in an entry. False: it has changed, walk again. */
static bool walk_set(struct jit_cpu *cpu, uint64_t addr, unsigned size, uint64_t e, uint64_t bits, unsigned *retries)
{
    if ((e & bits) == bits || jit_phys_cas(cpu, addr, size, e, e | bits)) {
        return true;
    }
    /* Tables in ROM never take the bit, as on hardware. */
    return jit_phys_load(cpu, addr, size) == e || ++*retries > WALK_RETRIES;
}

static bool walk_flat(uint64_t gva, struct x86_walk *w)
{
    w->gpa = gva & 0xffffffffu;
    w->writable = w->user = w->dirty = true;
    w->nx = w->global = false;
    w->page_bits = 12;
    w->error = 0;
    return true;
}

bool x86_walk(struct jit_cpu *cpu, uint64_t gva, unsigned access, enum jit_mmu mmu, struct x86_walk *w)
{
    const struct x86_state *s = &cpu->s;
    if (!(s->cr0 & X86_CR0_PG)) {
        return walk_flat(gva, w);
    }
    struct walk_format f;
    walk_format(cpu, &f);
    bool user_access = mmu == JIT_MMU_USER;
    w->error = (access == X86_ACC_WRITE ? PF_W : 0) | (user_access ? PF_U : 0);
    if (access == X86_ACC_EXEC && ((s->cr4 & X86_CR4_SMEP) || (f.esize == 8 && (s->efer & X86_EFER_NXE)))) {
        w->error |= PF_I;
    }
    if (f.top == 4) {
        if ((uint64_t)((int64_t)(gva << 16) >> 16) != gva) {
            w->error = X86_WALK_NONCANONICAL;
            return false;
        }
    } else {
        gva &= 0xffffffffu;
    }

    unsigned retries = 0;
    uint64_t table, e, perm, nx, addr;
    unsigned level, shift;
again:
    table = f.table;
    perm = PTE_RW | PTE_US;
    nx = 0;
    for (level = f.top;; level--) {
        shift = 12 + f.index_bits * (level - 1);
        addr = table + (gva >> shift & ((1u << f.index_bits) - 1)) * f.esize;
        e = jit_phys_load(cpu, addr, f.esize);
        if (!(e & PTE_P)) {
            return false;
        }
        if (__builtin_expect(walk_reserved(&f, cpu, level, e) != 0, 0)) {
            w->error |= PF_P | PF_RSVD;
            return false;
        }
        if (level == 3 && f.top == 3) { /* a PDPTE of PAE paging has neither permissions nor an accessed bit */
            table = e & PTE_ADDR;
            continue;
        }
        perm &= e;
        nx |= f.esize == 8 ? e & PTE_NX : 0;
        if (level == 1 || ((e & PTE_PS) && level <= f.max_leaf)) {
            break;
        }
        if (!walk_set(cpu, addr, f.esize, e, PTE_A, &retries)) {
            goto again;
        }
        table = e & (f.esize == 8 ? PTE_ADDR : 0xfffff000u);
    }

    w->user = perm & PTE_US;
    w->writable = (perm & PTE_RW) || (!user_access && !(s->cr0 & X86_CR0_WP));
    w->nx = nx || (!user_access && w->user && (s->cr4 & X86_CR4_SMEP));
    bool denied = user_access && !w->user;
    if (access == X86_ACC_EXEC) {
        denied |= w->nx;
    } else {
        denied |= mmu == JIT_MMU_KERNEL && w->user && (s->cr4 & X86_CR4_SMAP);
        denied |= access == X86_ACC_WRITE && !w->writable;
    }
    if (denied) {
        w->error |= PF_P;
        return false;
    }
    if (!walk_set(cpu, addr, f.esize, e, PTE_A | (access == X86_ACC_WRITE ? PTE_D : 0), &retries)) {
        goto again;
    }
    w->dirty = access == X86_ACC_WRITE || (e & PTE_D);
    w->global = (e & PTE_G) && (s->cr4 & X86_CR4_PGE);
    w->page_bits = shift;
    uint64_t offset = (1ull << shift) - 1;
    uint64_t base = f.esize == 8 ? e & PTE_ADDR : e & 0xfffff000u;
    if (shift == 22) {
        base = (e & 0xffc00000u) | (e & 0x1fe000u) << 19;
    }
    w->gpa = (base & ~offset) | (gva & offset);
    w->error = 0;
    return true;
}
