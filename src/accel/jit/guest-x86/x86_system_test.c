/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paging, segmentation, interrupts and tasks of the x86 guest, with the engine's services played by a few lines over a
 * flat array of guest physical memory.
 */
#include <glib.h>
#include <setjmp.h>
#include <string.h>

#include "accel/jit/guest-x86/x86_system.h"

#define RAM_SIZE (1u << 20)
#define NO_FAULT (-1)

struct fake {
    uint8_t ram[RAM_SIZE];
    uint8_t nowhere[8]; /* beyond it */
    sigjmp_buf out;
    int left;        /* enum jit_leave + 1 of the last jit_leave */
    bool read_only;  /* jit_phys_cas refuses */
    unsigned disturb; /* jit_phys_cas first changes this many entries */
};

static struct fake *fake_of(struct jit_cpu *cpu) { return cpu->guest_priv; }

/* ---- the engine, played ---- */

void jit_leave(struct jit_cpu *cpu, enum jit_leave why)
{
    fake_of(cpu)->left = (int)why + 1;
    siglongjmp(fake_of(cpu)->out, 1);
}
void jit_raise(struct jit_cpu *cpu, unsigned vector, bool has_error, uint32_t error)
{
    cpu->exception_vector = vector;
    cpu->exception_has_error = has_error;
    cpu->exception_error = error;
    cpu->exception_event = JIT_EV_FAULT;
    cpu->exception_next_len = 0;
    jit_leave(cpu, JIT_LEAVE_EXCEPTION);
}
void jit_raise_pf(struct jit_cpu *cpu, uint64_t gva, uint32_t error)
{
    cpu->s.cr2 = gva;
    jit_raise(cpu, X86_PF, true, error);
}
void jit_sync_rip(struct jit_cpu *cpu) { }
void jit_mode_changed(struct jit_cpu *cpu) { cpu->mode = x86_mode(cpu); }
void jit_check_interrupts(struct jit_cpu *cpu) { }

uint64_t jit_phys_load(struct jit_cpu *cpu, uint64_t gpa, unsigned size)
{
    uint64_t v = 0;
    if (gpa > RAM_SIZE - size) {
        return size == 8 ? UINT64_MAX : UINT32_MAX;
    }
    memcpy(&v, fake_of(cpu)->ram + gpa, size);
    return v;
}
bool jit_phys_cas(struct jit_cpu *cpu, uint64_t gpa, unsigned size, uint64_t old, uint64_t new_value)
{
    struct fake *f = fake_of(cpu);
    if (f->disturb) {
        f->disturb--;
        f->ram[gpa + 1] ^= 2; /* a bit that software may use */
        return false;
    }
    if (f->read_only || jit_phys_load(cpu, gpa, size) != old) {
        return false;
    }
    memcpy(f->ram + gpa, &new_value, size);
    return true;
}
static uint8_t *touch(struct jit_cpu *cpu, uint64_t gva, unsigned access, unsigned mmu)
{
    struct x86_walk w;
    if (!x86_walk(cpu, gva, access, mmu, &w)) {
        if (w.error == X86_WALK_NONCANONICAL) {
            jit_raise(cpu, X86_GP, true, 0);
        }
        jit_raise_pf(cpu, gva, w.error);
    }
    return w.gpa < RAM_SIZE ? fake_of(cpu)->ram + w.gpa : fake_of(cpu)->nowhere;
}
void jit_probe(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned kind, unsigned mmu)
{
    for (unsigned i = 0; i < size; i++) {
        touch(cpu, gva + i, kind & JIT_ACC_WRITE ? X86_ACC_WRITE : X86_ACC_READ, mmu);
    }
}
void jit_load_bytes(struct jit_cpu *cpu, uint64_t gva, void *ret, unsigned size, unsigned mmu)
{
    for (unsigned i = 0; i < size; i++) {
        ((uint8_t *)ret)[i] = *touch(cpu, gva + i, X86_ACC_READ, mmu);
    }
}
void jit_store_bytes(struct jit_cpu *cpu, uint64_t gva, const void *src, unsigned size, unsigned mmu)
{
    jit_probe(cpu, gva, size, JIT_ACC_WRITE, mmu);
    for (unsigned i = 0; i < size; i++) {
        *touch(cpu, gva + i, X86_ACC_WRITE, mmu) = ((const uint8_t *)src)[i];
    }
}
uint64_t jit_load(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu)
{
    uint64_t v = 0;
    jit_load_bytes(cpu, gva, &v, size, mmu);
    return v;
}
void jit_store(struct jit_cpu *cpu, uint64_t gva, unsigned size, unsigned mmu, uint64_t value)
{
    jit_store_bytes(cpu, gva, &value, size, mmu);
}
void *jit_host_ptr(struct jit_cpu *cpu, uint64_t gva, uint32_t desc, unsigned *ret_left)
{
    if ((gva & 0xfff) + JIT_ACC_SIZE(desc) > 0x1000) {
        return NULL;
    }
    return touch(cpu, gva, desc & JIT_ACC_WRITE ? X86_ACC_WRITE : X86_ACC_READ, JIT_ACC_MMU(desc));
}
bool x86_set_cr3(struct jit_cpu *cpu, uint64_t v)
{
    cpu->s.cr3 = v;
    return true;
}

/* ---- tools of the tests ---- */

struct machine {
    struct fake f;
    struct x86_cpu_model model;
    struct jit_cpu *cpu;
};

static void set_up(struct machine *m, gconstpointer unused)
{
    memset(m, 0, sizeof *m);
    m->cpu = aligned_alloc(4096, (sizeof *m->cpu + 4095) & ~(size_t)4095);
    memset(m->cpu, 0, sizeof *m->cpu);
    m->cpu->guest_priv = &m->f;
    m->cpu->model = &m->model;
    m->model.phys_bits = 40;
    memcpy(m->model.vendor, "GenuineIntel", 13);
    m->model.features[X86_FEAT_PDPE1GB / 64] |= 1ull << (X86_FEAT_PDPE1GB % 64);
    m->cpu->s.rflags = X86_FL_1;
    jit_set_arith(m->cpu, 0);
}
static void tear_down(struct machine *m, gconstpointer unused) { free(m->cpu); }

static void put(struct machine *m, uint64_t gpa, unsigned size, uint64_t v) { memcpy(m->f.ram + gpa, &v, size); }
static uint64_t get(struct machine *m, uint64_t gpa, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, m->f.ram + gpa, size);
    return v;
}

/* Calls a helper; the vector it raised, or NO_FAULT. */
#define CALL(m, helper, a, b, c) \
    (sigsetjmp((m)->f.out, 0) ? (int)(m)->cpu->exception_vector : (helper((m)->cpu, a, b, c), NO_FAULT))

/* The engine's delivery loop. */
static bool deliver(struct machine *m, enum jit_event event, unsigned vector, bool has_error, uint32_t error,
                    unsigned len)
{
    struct jit_cpu *cpu = m->cpu;
    cpu->exception_event = event;
    cpu->exception_vector = vector;
    cpu->exception_has_error = has_error;
    cpu->exception_error = error;
    cpu->exception_next_len = (uint8_t)len;
    (void)sigsetjmp(m->f.out, 0);
    return x86_deliver(cpu, cpu->exception_event, cpu->exception_vector, cpu->exception_has_error, cpu->exception_error,
                       cpu->exception_next_len);
}

/* ---- walks ---- */

static void expect_walk(struct machine *m, uint64_t gva, unsigned access, enum jit_mmu mmu, uint64_t gpa)
{
    struct x86_walk w;
    g_assert_true(x86_walk(m->cpu, gva, access, mmu, &w));
    g_assert_cmphex(w.gpa, ==, gpa);
}
static void expect_pf(struct machine *m, uint64_t gva, unsigned access, enum jit_mmu mmu, uint32_t error)
{
    struct x86_walk w;
    g_assert_false(x86_walk(m->cpu, gva, access, mmu, &w));
    g_assert_cmphex(w.error, ==, error);
}

static void test_walk32(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    struct x86_walk w;
    expect_walk(m, 0x123456789ull, X86_ACC_WRITE, JIT_MMU_KERNEL, 0x23456789);
    s->cr0 = X86_CR0_PE | X86_CR0_PG;
    s->cr3 = 0x1000;
    put(m, 0x1000 + 1 * 4, 4, 0x2007);              /* 4 MiB at 0x400000: a table */
    put(m, 0x1000 + 2 * 4, 4, 0x00c00087 | 3 << 13); /* 0x800000: a large page at 0x3_00c00000 */
    put(m, 0x2000 + 0x12 * 4, 4, 0x5001);           /* supervisor, read-only */
    put(m, 0x2000 + 0x13 * 4, 4, 0x6107);           /* global */
    expect_walk(m, 0x412345, X86_ACC_READ, JIT_MMU_KERNEL, 0x5345);
    g_assert_cmphex(get(m, 0x1004, 4), ==, 0x2027);
    g_assert_cmphex(get(m, 0x2000 + 0x12 * 4, 4), ==, 0x5021);
    expect_walk(m, 0x412345, X86_ACC_WRITE, JIT_MMU_KERNEL, 0x5345); /* WP clear */
    g_assert_cmphex(get(m, 0x2000 + 0x12 * 4, 4), ==, 0x5061);
    s->cr0 |= X86_CR0_WP;
    expect_pf(m, 0x412345, X86_ACC_WRITE, JIT_MMU_KERNEL, 3);
    expect_pf(m, 0x412345, X86_ACC_READ, JIT_MMU_USER, 5);
    expect_pf(m, 0x412345, X86_ACC_WRITE, JIT_MMU_USER, 7);
    expect_pf(m, 0x412345, X86_ACC_EXEC, JIT_MMU_USER, 5); /* no NX and no SMEP: no I/D */
    expect_pf(m, 0x414000, X86_ACC_WRITE, JIT_MMU_KERNEL, 2);
    expect_pf(m, 0xc00000, X86_ACC_READ, JIT_MMU_USER, 4);
    g_assert_true(x86_walk(m->cpu, 0x413000, X86_ACC_READ, JIT_MMU_USER, &w));
    g_assert_true(w.user && w.writable && !w.dirty && !w.global && !w.nx);
    g_assert_cmpuint(w.page_bits, ==, 12);
    s->cr4 = X86_CR4_PSE | X86_CR4_PGE;
    g_assert_true(x86_walk(m->cpu, 0x413000, X86_ACC_WRITE, JIT_MMU_USER, &w));
    g_assert_true(w.dirty && w.global);
    expect_walk(m, 0x812345, X86_ACC_WRITE, JIT_MMU_USER, 0x300c12345ull);
    put(m, 0x1000 + 2 * 4, 4, 0x00e00087);
    expect_pf(m, 0x812345, X86_ACC_READ, JIT_MMU_USER, 0xd); /* bit 21 is reserved */
}

static void test_walk_pae(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    s->cr0 = X86_CR0_PE | X86_CR0_PG;
    s->cr4 = X86_CR4_PAE;
    s->cr3 = 0x1020;
    put(m, 0x1020 + 3 * 8, 8, 0x2001);
    put(m, 0x2000 + 1 * 8, 8, 0x3007);
    put(m, 0x2000 + 2 * 8, 8, 0xffe000e7);           /* 2 MiB, no reserved bit */
    put(m, 0x3000 + 1 * 8, 8, 0x8000000000005007ull); /* NX */
    put(m, 0x3000 + 2 * 8, 8, 0x0000010000005007ull); /* bit 40: beyond the physical address */
    put(m, 0x3000 + 3 * 8, 8, 0x0010000000005007ull); /* bit 52 */
    expect_pf(m, 0xc0201000, X86_ACC_READ, JIT_MMU_KERNEL, 9); /* NX is reserved without NXE */
    s->efer = X86_EFER_NXE;
    expect_walk(m, 0xc0201008, X86_ACC_READ, JIT_MMU_KERNEL, 0x5008);
    expect_pf(m, 0xc0201000, X86_ACC_EXEC, JIT_MMU_USER, 0x15);
    expect_pf(m, 0xc0202000, X86_ACC_READ, JIT_MMU_USER, 0xd);
    expect_pf(m, 0xc0203000, X86_ACC_WRITE, JIT_MMU_KERNEL, 0xb);
    expect_pf(m, 0x80203000, X86_ACC_READ, JIT_MMU_KERNEL, 0);
    expect_walk(m, 0xc0412345, X86_ACC_READ, JIT_MMU_KERNEL, 0xffe12345);
    put(m, 0x2000 + 2 * 8, 8, 0xffe020e7);
    expect_pf(m, 0xc0412345, X86_ACC_READ, JIT_MMU_KERNEL, 9);
    put(m, 0x1020 + 3 * 8, 8, 0x2003); /* R/W is reserved in a PDPTE */
    expect_pf(m, 0xc0201000, X86_ACC_READ, JIT_MMU_KERNEL, 9);
}

static void long_tables(struct machine *m)
{
    struct x86_state *s = &m->cpu->s;
    s->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    s->cr4 = X86_CR4_PAE;
    s->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    s->cr3 = 0x1000;
    put(m, 0x1000 + 511 * 8, 8, 0x2007);
    put(m, 0x1000, 8, 0x2007);
    put(m, 0x2000, 8, 0x3007);
    put(m, 0x2000 + 8, 8, 0x40000083);               /* 1 GiB, supervisor */
    put(m, 0x3000, 8, 0x4007);
    put(m, 0x3000 + 8, 8, 0x00200087);               /* 2 MiB, user */
    for (unsigned i = 0; i < 256; i++) {
        put(m, 0x4000 + i * 8, 8, i << 12 | 3);
    }
}

static void test_walk_long(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    struct x86_walk w;
    long_tables(m);
    put(m, 0x4000 + 0x20 * 8, 8, 0x20007);
    expect_walk(m, 0xffffff8000005123ull, X86_ACC_WRITE, JIT_MMU_KERNEL, 0x5123);
    expect_walk(m, 0x40123456, X86_ACC_READ, JIT_MMU_KERNEL, 0x40123456);
    expect_walk(m, 0x212345, X86_ACC_WRITE, JIT_MMU_USER, 0x212345);
    g_assert_cmphex(get(m, 0x3008, 8), ==, 0x002000e7);
    expect_pf(m, 0x5000, X86_ACC_READ, JIT_MMU_USER, 5);
    expect_pf(m, 0x5000, X86_ACC_EXEC, JIT_MMU_USER, 0x15);
    expect_pf(m, 0x0000800000000000ull, X86_ACC_READ, JIT_MMU_USER, X86_WALK_NONCANONICAL);
    /* SMEP, SMAP */
    expect_walk(m, 0x20000, X86_ACC_EXEC, JIT_MMU_KERNEL, 0x20000);
    s->cr4 |= X86_CR4_SMEP | X86_CR4_SMAP;
    expect_pf(m, 0x20000, X86_ACC_EXEC, JIT_MMU_KERNEL, 0x11);
    expect_pf(m, 0x20000, X86_ACC_READ, JIT_MMU_KERNEL, 1);
    expect_pf(m, 0x20000, X86_ACC_WRITE, JIT_MMU_KERNEL, 3);
    g_assert_true(x86_walk(m->cpu, 0x20000, X86_ACC_WRITE, JIT_MMU_KERNEL_AC, &w));
    g_assert_true(w.nx && w.user && w.writable);
    expect_walk(m, 0x20000, X86_ACC_EXEC, JIT_MMU_USER, 0x20000);
    /* reserved: PS in a PML4E; a 1 GiB page without the feature */
    put(m, 0x1000, 8, 0x2087);
    expect_pf(m, 0x5000, X86_ACC_READ, JIT_MMU_KERNEL, 9);
    put(m, 0x1000, 8, 0x2007);
    m->model.features[X86_FEAT_PDPE1GB / 64] = 0;
    expect_pf(m, 0x40123456, X86_ACC_READ, JIT_MMU_KERNEL, 9);
    /* an entry that changes under us, and one that never takes the bit */
    put(m, 0x4000 + 6 * 8, 8, 0x6003);
    m->f.disturb = 3;
    expect_walk(m, 0x6000, X86_ACC_WRITE, JIT_MMU_KERNEL, 0x6000);
    g_assert_cmphex(get(m, 0x4000 + 6 * 8, 8) & 0x60, ==, 0x60);
    m->f.read_only = true;
    put(m, 0x4000 + 7 * 8, 8, 0x7003);
    expect_walk(m, 0x7000, X86_ACC_WRITE, JIT_MMU_KERNEL, 0x7000);
}

/* ---- protected mode ---- */

enum { GDT = 0x10000, IDT = 0x11000, TSS = 0x12000, TSS2 = 0x13000 };

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)attr << 40
         | (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}
static uint64_t gate(uint16_t sel, uint32_t off, unsigned type_dpl)
{
    return (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)(0x80 | type_dpl) << 40 | (uint64_t)(off >> 16) << 48;
}
static void load(struct machine *m, enum x86_seg seg, uint16_t sel)
{
    uint32_t d[2];
    memcpy(d, m->f.ram + GDT + (sel & 0xfff8), 8);
    x86_set_seg_desc(m->cpu, seg, sel, d);
}

/* GDT: 08 kernel code, 10 kernel data, 18 user code, 20 user data, 28 TSS, 30 second TSS, 38 task gate, 40 call gate,
 * 48 absent data, 50 64-bit kernel code, 58 64-bit user code, 60-68 64-bit TSS */
static void protected_tables(struct machine *m, unsigned cpl)
{
    struct x86_state *s = &m->cpu->s;
    s->cr0 |= X86_CR0_PE;
    put(m, GDT + 0x08, 8, descriptor(0, 0xfffff, 0xc09a));
    put(m, GDT + 0x10, 8, descriptor(0, 0xfffff, 0xc092));
    put(m, GDT + 0x18, 8, descriptor(0, 0xfffff, 0xc0fa));
    put(m, GDT + 0x20, 8, descriptor(0, 0xfffff, 0xc0f2));
    put(m, GDT + 0x28, 8, descriptor(TSS, 0x67, 0x8b));
    put(m, GDT + 0x30, 8, descriptor(TSS2, 0x67, 0x89));
    put(m, GDT + 0x38, 8, gate(0x30, 0, 0x65));
    put(m, GDT + 0x40, 8, gate(0x08, 0x7000, 0x6c) | 2ull << 32);
    put(m, GDT + 0x48, 8, descriptor(0, 0xfffff, 0xc012));
    put(m, GDT + 0x50, 8, descriptor(0, 0xfffff, 0xa09a));
    put(m, GDT + 0x58, 8, descriptor(0, 0xfffff, 0xa0fa));
    put(m, GDT + 0x60, 8, descriptor(TSS, 0x67, 0x89));
    put(m, GDT + 0x68, 8, 0);
    s->gdt.base = GDT;
    s->gdt.limit = 0x6f;
    s->idt.base = IDT;
    s->idt.limit = 0x7ff;
    s->tr = (struct x86_segment){ .sel = 0x28, .base = TSS, .limit = 0x67, .attr = 0x8b };
    s->ldt.attr = X86_ATTR_UNUSABLE;
    put(m, TSS + 4, 4, 0x9000);
    put(m, TSS + 8, 4, 0x10);
    load(m, X86_CS, cpl ? 0x1b : 0x08);
    load(m, X86_SS, cpl ? 0x23 : 0x10);
    load(m, X86_DS, cpl ? 0x23 : 0x10);
    load(m, X86_ES, cpl ? 0x23 : 0x10);
    x86_set_seg_null(m->cpu, X86_FS, 0);
    x86_set_seg_null(m->cpu, X86_GS, 0);
    s->rip = 0x5000;
    s->gpr[X86_RSP] = 0x8000;
    s->rflags |= X86_FL_IF;
    jit_mode_changed(m->cpu);
}

static void test_interrupt_same(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    protected_tables(m, 0);
    g_assert_cmphex(m->cpu->mode, ==, JIT_MODE_CODE32 | JIT_MODE_PE | JIT_MODE_SS32 | JIT_MODE_FLAT);
    put(m, IDT + 0x20 * 8, 8, gate(0x08, 0x12345678, 0xe));
    put(m, IDT + 13 * 8, 8, gate(0x08, 0x6000, 0xf));
    jit_set_arith(m->cpu, X86_FL_CF | X86_FL_OF);
    g_assert_true(deliver(m, JIT_EV_EXTERNAL, 0x20, false, 0, 0));
    g_assert_cmphex(s->rip, ==, 0x12345678);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x7ff4);
    g_assert_cmphex(get(m, 0x7ff4, 4), ==, 0x5000);
    g_assert_cmphex(get(m, 0x7ff8, 4), ==, 0x08);
    g_assert_cmphex(get(m, 0x7ffc, 4), ==, X86_FL_1 | X86_FL_IF | X86_FL_CF | X86_FL_OF);
    g_assert_false(s->rflags & X86_FL_IF);
    g_assert_cmphex(get(m, GDT + 0x08 + 5, 1), ==, 0x9b); /* accessed */
    /* a fault through a trap gate: RF is pushed, IF stays */
    s->rflags |= X86_FL_IF | X86_FL_TF;
    g_assert_true(deliver(m, JIT_EV_FAULT, X86_GP, true, 0x18, 0));
    g_assert_cmphex(s->rip, ==, 0x6000);
    g_assert_cmphex(get(m, 0x7fe4, 4), ==, 0x18);
    g_assert_cmphex(get(m, 0x7fe8, 4), ==, 0x12345678);
    g_assert_cmphex(get(m, 0x7ff0, 4) & (X86_FL_RF | X86_FL_TF), ==, X86_FL_RF | X86_FL_TF);
    g_assert_cmphex(s->rflags & (X86_FL_IF | X86_FL_TF), ==, X86_FL_IF);
    /* back again */
    s->gpr[X86_RSP] += 4;
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 4), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x12345678);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x7ff4);
    g_assert_true(s->rflags & X86_FL_TF);
    g_assert_true(m->cpu->mode & JIT_MODE_STEP);
}

static void test_interrupt_inner(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    protected_tables(m, 3);
    put(m, IDT + 0x80 * 8, 8, gate(0x08, 0x6000, 0x6e));
    put(m, IDT + 0x81 * 8, 8, gate(0x08, 0x6000, 0x0e));
    put(m, IDT + 13 * 8, 8, gate(0x08, 0x6100, 0x0e));
    g_assert_true(deliver(m, JIT_EV_SOFT_INT, 0x80, false, 0, 2));
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x9000 - 20);
    g_assert_cmphex(get(m, 0x9000 - 20, 4), ==, 0x5002);
    g_assert_cmphex(get(m, 0x9000 - 16, 4), ==, 0x1b);
    g_assert_cmphex(get(m, 0x9000 - 8, 4), ==, 0x8000);
    g_assert_cmphex(get(m, 0x9000 - 4, 4), ==, 0x23);
    g_assert_cmphex(s->seg[X86_SS].sel, ==, 0x10);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 0);
    load(m, X86_ES, 0x10);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 4), ==, NO_FAULT);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 3);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x8000);
    g_assert_cmphex(s->rip, ==, 0x5002);
    g_assert_cmphex(s->seg[X86_ES].attr & X86_ATTR_UNUSABLE, ==, X86_ATTR_UNUSABLE);
    g_assert_cmphex(s->seg[X86_DS].sel, ==, 0x23);
    /* a gate of DPL 0: #GP with the IDT bit, at the INT itself, without EXT */
    g_assert_true(deliver(m, JIT_EV_SOFT_INT, 0x81, false, 0, 2));
    g_assert_cmphex(s->rip, ==, 0x6100);
    g_assert_cmphex(get(m, 0x9000 - 24, 4), ==, 0x81 << 3 | 2);
    g_assert_cmphex(get(m, 0x9000 - 20, 4), ==, 0x5002);
    g_assert_cmpuint(m->cpu->delivering, ==, 0);
}

static void test_double_fault(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    protected_tables(m, 3);
    s->cr0 |= X86_CR0_PG;
    s->cr3 = 0x1000;
    put(m, 0x1000, 4, 0x2007);
    for (unsigned i = 0; i < 256; i++) {
        put(m, 0x2000 + i * 4, 4, i << 12 | 7);
    }
    put(m, TSS + 4, 4, 0x9004); /* the kernel stack's next page is missing */
    put(m, 0x2000 + 8 * 4, 4, 0);
    put(m, IDT + 14 * 8, 8, gate(0x08, 0x6000, 0x0e));
    put(m, IDT + 0x20 * 8, 8, gate(0x08, 0x6000, 0x0e));
    struct x86_segment cs = s->seg[X86_CS];
    /* #PF delivery meets #PF, #DF meets #PF: triple fault, and nothing has changed */
    put(m, IDT + 8 * 8, 8, gate(0x08, 0x6800, 0x0e));
    g_assert_false(deliver(m, JIT_EV_FAULT, X86_PF, true, 4, 0));
    g_assert_cmphex(s->rip, ==, 0x5000);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x8000);
    g_assert_cmpmem(&cs, sizeof cs, &s->seg[X86_CS], sizeof cs);
    g_assert_cmpuint(m->cpu->delivering, ==, 0);
    /* the same with a task gate for #DF: a new stack, error code 0 */
    put(m, IDT + 8 * 8, 8, gate(0x30, 0, 0x05));
    put(m, TSS2 + 0x1c, 4, 0x1000);
    put(m, TSS2 + 0x20, 4, 0x7777);
    put(m, TSS2 + 0x24, 4, 2);
    put(m, TSS2 + 0x38, 4, 0xa000);
    put(m, TSS2 + 0x4c, 4, 0x08);
    put(m, TSS2 + 0x50, 4, 0x10);
    g_assert_true(deliver(m, JIT_EV_FAULT, X86_PF, true, 4, 0));
    g_assert_cmphex(s->rip, ==, 0x7777);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x9ffc);
    g_assert_cmphex(get(m, 0x9ffc, 4), ==, 0);
    g_assert_cmphex(s->tr.sel, ==, 0x30);
    g_assert_cmphex(get(m, TSS2, 2), ==, 0x28);
    g_assert_cmphex(get(m, TSS + 0x20, 4), ==, 0x5000);
    g_assert_true(s->rflags & X86_FL_NT);
    g_assert_cmphex(s->cr2, ==, 0x8ffc);
}

static void test_fault_in_external(struct machine *m, gconstpointer unused)
{
    /* an external interrupt is benign: the #NP of its gate is delivered as such, with EXT and IDT bits */
    struct x86_state *s = &m->cpu->s;
    protected_tables(m, 0);
    put(m, IDT + 0x20 * 8, 8, gate(0x08, 0x6000, 0x0e) & ~(0x80ull << 40));
    put(m, IDT + 11 * 8, 8, gate(0x08, 0x6500, 0x0e));
    g_assert_true(deliver(m, JIT_EV_EXTERNAL, 0x20, false, 0, 0));
    g_assert_cmphex(s->rip, ==, 0x6500);
    g_assert_cmphex(get(m, 0x8000 - 16, 4), ==, 0x20 << 3 | 3);
    /* #GP whose gate is missing: #GP in #GP is #DF; that gate is missing too: shutdown */
    put(m, IDT + 13 * 8, 8, 0);
    g_assert_false(deliver(m, JIT_EV_FAULT, X86_GP, true, 0, 0));
}

static void test_task(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    protected_tables(m, 0);
    s->gpr[X86_RBX] = 0xdeadbeef;
    put(m, TSS2 + 0x20, 4, 0x7000);
    put(m, TSS2 + 0x24, 4, 0x202);
    put(m, TSS2 + 0x28, 4, 0x1111);
    put(m, TSS2 + 0x38, 4, 0xa000);
    put(m, TSS2 + 0x48, 4, 0x23);
    put(m, TSS2 + 0x4c, 4, 0x1b);
    put(m, TSS2 + 0x50, 4, 0x23);
    put(m, TSS2 + 0x54, 4, 0x23);
    g_assert_cmpint(CALL(m, x86_h_jmp_far, 0x30, 0, 4 | 7 << 8), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x7000);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 3);
    g_assert_cmphex(s->gpr[X86_RAX], ==, 0x1111);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0xa000);
    g_assert_cmphex(s->tr.sel, ==, 0x30);
    g_assert_cmphex(get(m, TSS + 0x20, 4), ==, 0x5007);
    g_assert_cmphex(get(m, TSS + 0x34, 4), ==, 0xdeadbeef);
    g_assert_cmphex(get(m, TSS + 0x4c, 2), ==, 0x08);
    g_assert_cmphex(get(m, GDT + 0x28 + 5, 1), ==, 0x89); /* no longer busy */
    g_assert_cmphex(get(m, GDT + 0x30 + 5, 1), ==, 0x8b);
    g_assert_true(s->cr0 & X86_CR0_TS);
    g_assert_false(s->rflags & X86_FL_NT);
    /* to itself: busy */
    put(m, GDT + 0x30 + 5, 1, 0xeb);
    g_assert_cmpint(CALL(m, x86_h_jmp_far, 0x30, 0, 4 | 7 << 8), ==, X86_GP);
    g_assert_cmphex(m->cpu->exception_error, ==, 0x30);
    /* a call back through the TSS, and IRET */
    put(m, GDT + 0x28 + 5, 1, 0xe9);
    g_assert_cmpint(CALL(m, x86_h_call_far, 0x28, 0, 4 | 7 << 8), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x5007);
    g_assert_cmphex(s->gpr[X86_RBX], ==, 0xdeadbeef);
    g_assert_true(s->rflags & X86_FL_NT);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 4 | 1 << 8), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x7007);
    g_assert_false(s->rflags & X86_FL_NT);
    g_assert_cmphex(get(m, GDT + 0x28 + 5, 1), ==, 0xe9);
    /* a bad stack selector: #TS in the new task */
    put(m, TSS + 0x50, 4, 0x23);
    g_assert_cmpint(CALL(m, x86_h_jmp_far, 0x28, 0, 4 | 7 << 8), ==, X86_TS);
    g_assert_cmphex(m->cpu->exception_error, ==, 0x20);
    g_assert_cmphex(s->tr.sel, ==, 0x28);
    g_assert_cmphex(s->rip, ==, 0x5008);
}

static void test_far(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    protected_tables(m, 3);
    put(m, 0x8000, 4, 0xaaaa);
    put(m, 0x8004, 4, 0xbbbb);
    /* a call gate to ring 0 with two parameters, and the return */
    g_assert_cmpint(CALL(m, x86_h_call_far, 0x43, 0, 4 | 7 << 8), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x7000);
    g_assert_cmphex(s->seg[X86_CS].sel, ==, 0x08);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x9000 - 24);
    g_assert_cmphex(get(m, 0x9000 - 24, 4), ==, 0x5007);
    g_assert_cmphex(get(m, 0x9000 - 16, 4), ==, 0xaaaa);
    g_assert_cmphex(get(m, 0x9000 - 12, 4), ==, 0xbbbb);
    g_assert_cmphex(get(m, 0x9000 - 8, 4), ==, 0x8000);
    g_assert_cmpint(CALL(m, x86_h_ret_far, 8, 0, 4), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x5007);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x8008);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 3);
    /* refused: inner code, inner data, absent data, beyond the table, null SS */
    g_assert_cmpint(CALL(m, x86_h_jmp_far, 0x0b, 0, 4 | 7 << 8), ==, X86_GP);
    g_assert_cmphex(m->cpu->exception_error, ==, 0x08);
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_DS, 0x13, 0), ==, X86_GP);
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_DS, 0x1000, 0), ==, X86_GP);
    g_assert_cmphex(m->cpu->exception_error, ==, 0x1000);
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_SS, 0, 0), ==, X86_GP);
    g_assert_cmphex(s->seg[X86_DS].sel, ==, 0x23);
    put(m, GDT + 0x48, 8, descriptor(0, 0xfffff, 0xc072));
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_DS, 0x4b, 0), ==, X86_NP);
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_SS, 0x4b, 0), ==, X86_SSF);
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_DS, 0, 0), ==, NO_FAULT);
    g_assert_false(m->cpu->mode & JIT_MODE_FLAT);
    g_assert_cmpint(CALL(m, x86_h_seg_check, 0, X86_DS, 4 | JIT_ACC_READ), ==, X86_GP);
    g_assert_cmpint(CALL(m, x86_h_seg_check, 0, X86_CS, 4 | JIT_ACC_WRITE), ==, X86_GP);
    g_assert_cmpint(CALL(m, x86_h_seg_check, 0xfffffffe, X86_SS, 4 | JIT_ACC_READ), ==, X86_SSF);
    g_assert_cmpint(CALL(m, x86_h_load_seg, X86_SS, 0x23, 0), ==, NO_FAULT);
    g_assert_cmpuint(s->interrupt_shadow, ==, 1);
    g_assert_true(m->cpu->mode & JIT_MODE_SHADOW);
    /* LAR and LSL */
    g_assert_cmphex(x86_h_lar(m->cpu, 0x18, 5, 4), ==, 0xcffb00);
    g_assert_true(m->cpu->cc & 0x4000);
    g_assert_cmphex(x86_h_lsl(m->cpu, 0x18, 5, 4), ==, 0xffffffff);
    g_assert_cmphex(x86_h_lsl(m->cpu, 0x08, 5, 4), ==, 5);
    g_assert_false(m->cpu->cc & 0x4000);
    g_assert_cmphex(x86_h_arpl(m->cpu, 0x40, 3, 0), ==, 0x43);
}

static void test_vm86(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    static const uint32_t frame[9] = { 0x100, 0x2000, X86_FL_VM | X86_FL_IOPL | X86_FL_1, 0xfff0, 0x3000, 0x4000,
                                       0x5000, 0x6000, 0x7000 };
    protected_tables(m, 0);
    memcpy(m->f.ram + 0x8000, frame, sizeof frame);
    put(m, IDT + 0x21 * 8, 8, gate(0x08, 0x6000, 0x6e));
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 4), ==, NO_FAULT);
    g_assert_true(m->cpu->mode & JIT_MODE_VM86);
    g_assert_cmpuint(JIT_MODE_CPL(m->cpu->mode), ==, 3);
    g_assert_cmphex(s->seg[X86_CS].base, ==, 0x20000);
    g_assert_cmphex(s->seg[X86_GS].base, ==, 0x70000);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0xfff0);
    /* INT n with IOPL 3 goes to the monitor, and back */
    g_assert_true(deliver(m, JIT_EV_SOFT_INT, 0x21, false, 0, 2));
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x9000 - 36);
    g_assert_cmphex(get(m, 0x9000 - 36, 4), ==, 0x102);
    g_assert_cmphex(get(m, 0x9000 - 4, 4), ==, 0x7000);
    g_assert_false(s->rflags & X86_FL_VM);
    g_assert_true(s->seg[X86_DS].attr & X86_ATTR_UNUSABLE);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 4), ==, NO_FAULT);
    g_assert_true(s->rflags & X86_FL_VM);
    s->rflags &= ~(uint64_t)X86_FL_IOPL;
    g_assert_cmpint(CALL(m, x86_h_int_soft, 0x21, 2, JIT_EV_SOFT_INT), ==, X86_GP);
    g_assert_cmpint(CALL(m, x86_h_int_soft, 3, 1, JIT_EV_SOFT_EXC), ==, 3);
}

static void test_real(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    for (unsigned i = 0; i < X86_NSEG; i++) {
        x86_set_seg(m->cpu, i, 0x1000, 0x10000, 0xffff, 0x93);
    }
    s->idt.limit = 0x3ff;
    s->rip = 0x100;
    s->gpr[X86_RSP] = 0xabcd0002; /* SP wraps */
    s->rflags |= X86_FL_IF;
    put(m, 0x10 * 4, 4, 0xf0001234);
    g_assert_true(deliver(m, JIT_EV_SOFT_INT, 0x10, false, 0, 2));
    g_assert_cmphex(s->seg[X86_CS].base, ==, 0xf0000);
    g_assert_cmphex(s->rip, ==, 0x1234);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0xabcdfffc);
    g_assert_cmphex(get(m, 0x10000, 2), ==, 0x202);
    g_assert_cmphex(get(m, 0x1fffe, 2), ==, 0x1000);
    g_assert_cmphex(get(m, 0x1fffc, 2), ==, 0x102);
    g_assert_false(s->rflags & X86_FL_IF);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 2), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x102);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0xabcd0002);
    g_assert_true(s->rflags & X86_FL_IF);
    g_assert_cmpint(CALL(m, x86_h_jmp_far, 0xf000, 0xfff0, 2 | 5 << 8), ==, NO_FAULT);
    g_assert_cmphex(s->seg[X86_CS].sel, ==, 0xf000);
    /* an IDT with no room: #GP, #DF, shutdown */
    s->idt.limit = 0;
    g_assert_false(deliver(m, JIT_EV_FAULT, X86_UD, false, 0, 0));
}

/* ---- long mode ---- */

static void long_mode(struct machine *m, unsigned cpl)
{
    struct x86_state *s = &m->cpu->s;
    long_tables(m);
    protected_tables(m, cpl);
    for (unsigned i = 0; i < 256; i++) { /* a user half of the same memory at 0x100000 */
        put(m, 0x4000 + (256 + i) * 8, 8, i << 12 | 7);
    }
    load(m, X86_CS, cpl ? 0x5b : 0x50);
    s->idt.limit = 0xfff;
    s->tr.limit = 0x67;
    put(m, TSS + 4, 8, 0xffffff8000009008ull);
    put(m, TSS + 0x24, 8, 0xb010); /* IST1 */
    jit_mode_changed(m->cpu);
}
static void long_gate(struct machine *m, unsigned vector, uint64_t off, unsigned ist, unsigned type_dpl)
{
    put(m, IDT + vector * 16, 8, gate(0x50, (uint32_t)off, type_dpl) | (uint64_t)ist << 32);
    put(m, IDT + vector * 16 + 8, 8, off >> 32);
}

static void test_long_interrupt(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    long_mode(m, 3);
    g_assert_cmpuint(JIT_MODE_CODE(m->cpu->mode), ==, JIT_MODE_CODE64);
    long_gate(m, 14, 0xffffff8000006000ull, 0, 0xe);
    long_gate(m, 2, 0xffffff8000006100ull, 1, 0xe);
    s->rip = 0x7fffffff1234ull;
    s->gpr[X86_RSP] = 0x7fffffff8888ull;
    s->cr2 = 0x1234;
    g_assert_true(deliver(m, JIT_EV_FAULT, X86_PF, true, 6, 0));
    g_assert_cmphex(s->rip, ==, 0xffffff8000006000ull);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0xffffff8000009000ull - 48);
    g_assert_cmphex(get(m, 0x9000 - 48, 8), ==, 6);
    g_assert_cmphex(get(m, 0x9000 - 40, 8), ==, 0x7fffffff1234ull);
    g_assert_cmphex(get(m, 0x9000 - 32, 8), ==, 0x5b);
    g_assert_cmphex(get(m, 0x9000 - 16, 8), ==, 0x7fffffff8888ull);
    g_assert_cmphex(get(m, 0x9000 - 8, 8), ==, 0x23);
    g_assert_cmphex(s->seg[X86_SS].sel, ==, 0);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 0);
    /* NMI in the kernel, on IST1; the null SS goes and comes */
    uint64_t rsp = s->gpr[X86_RSP];
    g_assert_true(deliver(m, JIT_EV_NMI, X86_NMI, false, 0, 0));
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0xb010 - 40);
    g_assert_cmpuint(s->nmi_blocked, ==, 1);
    g_assert_cmphex(get(m, 0xb010 - 8, 8), ==, 0);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 8), ==, NO_FAULT);
    g_assert_cmpuint(s->nmi_blocked, ==, 0);
    g_assert_cmphex(s->gpr[X86_RSP], ==, rsp);
    g_assert_cmphex(s->rip, ==, 0xffffff8000006000ull);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 0);
    /* out to the user */
    s->gpr[X86_RSP] += 8;
    load(m, X86_DS, 0x10);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 8), ==, NO_FAULT);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 3);
    g_assert_cmphex(s->rip, ==, 0x7fffffff1234ull);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x7fffffff8888ull);
    g_assert_cmphex(s->seg[X86_SS].sel, ==, 0x23);
    g_assert_true(s->rflags & X86_FL_IF && !(s->rflags & X86_FL_RF));
    g_assert_true(s->seg[X86_DS].attr & X86_ATTR_UNUSABLE);
    g_assert_cmpuint(JIT_MODE_MMU(m->cpu->mode), ==, JIT_MMU_USER);
}

static void test_long_faults(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    long_mode(m, 0);
    long_gate(m, 13, 0x6000, 0, 0xe);
    long_gate(m, 12, 0x6100, 0, 0xe);
    long_gate(m, 8, 0x6200, 1, 0xe);
    /* a stack pointer that is no address: #SS, whose delivery fails likewise: #DF on its IST stack */
    s->gpr[X86_RSP] = 0x0000800000000000ull + 0x1000;
    g_assert_true(deliver(m, JIT_EV_EXTERNAL, 13, false, 0, 0));
    g_assert_cmphex(s->rip, ==, 0x6200);
    g_assert_cmphex(get(m, 0xb010 - 48, 8), ==, 0);
    g_assert_cmphex(get(m, 0xb010 - 16, 8), ==, 0x0000800000001000ull);
    /* IRET to a non-canonical address: #GP(0), nothing changed */
    s->gpr[X86_RSP] = 0xa000;
    put(m, 0xa000, 8, 0x0000800000000000ull);
    put(m, 0xa008, 8, 0x5b);
    put(m, 0xa018, 8, 0x1000);
    put(m, 0xa020, 8, 0x23);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 8), ==, X86_GP);
    g_assert_cmphex(m->cpu->exception_error, ==, 0);
    g_assert_cmphex(s->seg[X86_CS].sel, ==, 0x50);
    /* to 32-bit user code */
    put(m, 0xa000, 8, 0x5678);
    put(m, 0xa008, 8, 0x1b);
    put(m, 0xa010, 8, 0x202);
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 8), ==, NO_FAULT);
    g_assert_cmpuint(JIT_MODE_CODE(m->cpu->mode), ==, JIT_MODE_CODE32);
    g_assert_true(m->cpu->mode & JIT_MODE_LMA);
    g_assert_cmphex(s->gpr[X86_RSP], ==, 0x1000);
    /* NT in long mode */
    long_mode(m, 0);
    s->rflags |= X86_FL_NT;
    g_assert_cmpint(CALL(m, x86_h_iret, 0, 0, 8), ==, X86_GP);
    /* LTR of a 16-byte descriptor */
    g_assert_cmpint(CALL(m, x86_h_ltr, 0x60, 0, 0), ==, NO_FAULT);
    g_assert_cmphex(get(m, GDT + 0x60 + 5, 1), ==, 0x8b);
    g_assert_cmpint(CALL(m, x86_h_ltr, 0x60, 0, 0), ==, X86_GP);
}

static void test_syscall(struct machine *m, gconstpointer unused)
{
    struct x86_state *s = &m->cpu->s;
    long_mode(m, 3);
    g_assert_cmpint(CALL(m, x86_h_syscall, 2, 0, 0), ==, X86_UD);
    s->efer |= X86_EFER_SCE;
    s->star = 0x0048005000000000ull;
    s->lstar = 0xffffff8000007000ull;
    s->sfmask = X86_FL_IF | X86_FL_CF;
    jit_set_arith(m->cpu, X86_FL_CF | X86_FL_ZF);
    g_assert_cmpint(CALL(m, x86_h_syscall, 2, 0, 0), ==, NO_FAULT);
    g_assert_cmphex(s->gpr[X86_RCX], ==, 0x5002);
    g_assert_cmphex(s->gpr[X86_R11], ==, X86_FL_1 | X86_FL_IF | X86_FL_CF | X86_FL_ZF);
    g_assert_cmphex(jit_get_rflags(m->cpu), ==, X86_FL_1 | X86_FL_ZF);
    g_assert_cmphex(s->rip, ==, s->lstar);
    g_assert_cmphex(s->seg[X86_CS].sel, ==, 0x50);
    g_assert_cmphex(s->seg[X86_SS].sel, ==, 0x58);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 0);
    s->gpr[X86_RCX] = 0x0000800000000000ull;
    g_assert_cmpint(CALL(m, x86_h_sysret, 0, 0, 8), ==, X86_GP);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 0);
    s->gpr[X86_RCX] = 0x5002;
    g_assert_cmpint(CALL(m, x86_h_sysret, 0, 0, 8), ==, NO_FAULT);
    g_assert_cmphex(s->seg[X86_CS].sel, ==, 0x5b);
    g_assert_cmphex(s->seg[X86_SS].sel, ==, 0x53);
    g_assert_cmphex(jit_get_rflags(m->cpu), ==, X86_FL_1 | X86_FL_IF | X86_FL_CF | X86_FL_ZF);
    g_assert_cmpuint(x86_cpl(m->cpu), ==, 3);
    g_assert_cmphex(s->rip, ==, 0x5002);
    g_assert_cmpint(CALL(m, x86_h_sysenter, 0, 0, 0), ==, X86_GP);
    s->sysenter_cs = 0x08;
    s->sysenter_eip = 0xffffff8000007100ull;
    g_assert_cmpint(CALL(m, x86_h_sysenter, 0, 0, 0), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0xffffff8000007100ull);
    g_assert_false(s->rflags & X86_FL_IF);
    s->gpr[X86_RDX] = 0xffffffff00001000ull;
    g_assert_cmpint(CALL(m, x86_h_sysexit, 0, 0, 4), ==, NO_FAULT);
    g_assert_cmphex(s->rip, ==, 0x1000);
    g_assert_cmphex(s->seg[X86_CS].sel, ==, 0x1b);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(struct machine *, gconstpointer); } tests[] = {
        { "/walk/32-bit", test_walk32 },           { "/walk/pae", test_walk_pae },
        { "/walk/long", test_walk_long },          { "/interrupt/same-privilege", test_interrupt_same },
        { "/interrupt/inner", test_interrupt_inner }, { "/interrupt/double-fault", test_double_fault },
        { "/interrupt/nested", test_fault_in_external }, { "/task", test_task },
        { "/far", test_far },                      { "/vm86", test_vm86 },
        { "/real", test_real },                    { "/long/interrupt", test_long_interrupt },
        { "/long/faults", test_long_faults },      { "/long/syscall", test_syscall },
    };
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, struct machine, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
