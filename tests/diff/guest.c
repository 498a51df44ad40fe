/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a case on the translator: a machine of 8 MiB with page tables that put code and data where the host has them, user mode
 * (CPL 3), no IDT: any exception ends in a triple fault that leaves the state as it was at the faulting instruction. */
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "accel/accel.h"
#include "accel/jit/engine/jit_engine.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"
#include "diff.h"

#define RAM_SIZE 0x800000u
#define GPA_PML4 0x1000u
#define GPA_PDPT 0x2000u
#define GPA_PD 0x3000u
#define GPA_PT_CODE 0x4000u
#define GPA_PT_DATA 0x5000u
/* the second mapping's tables */
#define GPA_PDPT2 0x6000u
#define GPA_PD2 0x7000u
#define GPA_PT_CODE2 0x8000u
#define GPA_PT_DATA2 0x9000u
#define GPA_CODE 0x100000u
#define GPA_CODE_OTHER 0x180000u
#define GPA_DATA 0x200000u

struct diff_guest {
    uint8_t *ram;
    struct x86_cpu_model *model;
    struct accel *accel;
    struct accel_vcpu *vcpu;
    struct x86_state state;
};

static uint64_t no_read(void *o, unsigned cpu, uint64_t gpa, unsigned size) { return ~0ull; }
static void no_write(void *o, unsigned cpu, uint64_t gpa, unsigned size, uint64_t v) {}
static uint64_t no_in(void *o, unsigned cpu, uint16_t port, unsigned size) { return ~0ull; }
static void no_out(void *o, unsigned cpu, uint16_t port, unsigned size, uint64_t v) {}
static int no_interrupt(void *o, unsigned cpu) { return -1; }
static unsigned no_tpr(void *o, unsigned cpu) { return 0; }
static void set_no_tpr(void *o, unsigned cpu, unsigned v) {}
static bool no_rdmsr(void *o, unsigned cpu, uint32_t i, uint64_t *v) { return false; }
static bool no_wrmsr(void *o, unsigned cpu, uint32_t i, uint64_t v) { return false; }
static const struct accel_bus bus = { no_in, no_out, no_read, no_write, no_interrupt, no_tpr, set_no_tpr, no_rdmsr, no_wrmsr };

static void put64(struct diff_guest *g, uint32_t gpa, uint64_t v) { memcpy(g->ram + gpa, &v, 8); }

static void map_pages(struct diff_guest *g, uint64_t gva, uint32_t pdpt, uint32_t pd, uint32_t pt, uint32_t gpa, unsigned size)
{
    put64(g, GPA_PML4 + (gva >> 39 & 511) * 8, pdpt | 7);
    put64(g, pdpt + (gva >> 30 & 511) * 8, pd | 7);
    put64(g, pd + (gva >> 21 & 511) * 8, pt | 7);
    for (unsigned i = 0; i < size; i += 4096)
        put64(g, pt + ((gva + i) >> 12 & 511) * 8, (gpa + i) | 7);
}

struct diff_guest *diff_guest_create(bool interpret)
{
    g_autoptr(GError) error = NULL;
    struct diff_guest *g = g_new0(struct diff_guest, 1);
    uint64_t supported[(X86_NFEATURES + 63) / 64];
    x86_jit_features(supported);
    g->model = x86_cpu_model_parse("max", supported, &error);
    g->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->model)
        g->accel = accel_jit.create(&(struct accel_config){ .bus = &bus, .opaque = g, .model = g->model, .sockets = 1, .cores = 1, .threads = 1, .max_vcpus = 1 },
                                    &error);
    if (g->accel && accel_jit.map_ram(g->accel, 0, RAM_SIZE, g->ram, false, &error))
        g->vcpu = accel_jit.vcpu_create(g->accel, 0, &error);
    if (!g->vcpu) {
        fprintf(stderr, "cannot make the guest: %s\n", error ? error->message : "?");
        return NULL;
    }
    ((struct jit_machine *)g->accel)->interpret = interpret;
    map_pages(g, DIFF_CODE, GPA_PDPT, GPA_PD, GPA_PT_CODE, GPA_CODE, DIFF_CODE_SIZE);
    map_pages(g, DIFF_DATA, GPA_PDPT, GPA_PD, GPA_PT_DATA, GPA_DATA, DIFF_DATA_SIZE);
    map_pages(g, DIFF_CODE + DIFF_SHIFT, GPA_PDPT2, GPA_PD2, GPA_PT_CODE2, GPA_CODE, DIFF_CODE_SIZE);
    map_pages(g, DIFF_DATA + DIFF_SHIFT, GPA_PDPT2, GPA_PD2, GPA_PT_DATA2, GPA_DATA, DIFF_DATA_SIZE);
    return g;
}

static void user_segment(struct x86_segment *s, uint16_t sel, uint32_t attr)
{
    *s = (struct x86_segment){ .limit = 0xffffffff, .attr = attr, .sel = sel };
}

bool diff_guest_run(struct diff_guest *g, const struct diff_case *c, const struct diff_state *init, struct diff_state *ret)
{
    g_autoptr(GError) error = NULL;
    struct x86_state *s = &g->state;
    memcpy(g->ram + GPA_DATA, init->data, DIFF_DATA_SIZE);
    if (!c->in_place) {
        memcpy(g->ram + GPA_CODE, c->code, DIFF_CODE_SIZE);
        accel_jit.ram_written(g->accel, GPA_CODE, DIFF_CODE_SIZE);
    }

    x86_state_reset(s, g->model, true, false);
    memcpy(s->gpr, init->gpr, sizeof(s->gpr));
    s->rip = init->rip;
    s->rflags = init->rflags;
    s->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
    s->cr3 = GPA_PML4;
    s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_FSGSBASE | X86_CR4_OSXSAVE;
    s->xcr0 = 3;
    s->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
    user_segment(&s->seg[X86_CS], 0x33, 0xa0fb);
    for (unsigned i = 0; i < X86_NSEG; i++)
        if (i != X86_CS)
            user_segment(&s->seg[i], 0x2b, 0xc0f3);
    s->idt.limit = 0;
    s->gdt.limit = 0;
    s->tr.attr = 0x8b;
    memcpy(s->xsave, init->fxsave, 512);
    s->xsave[512] = 3;
    if (!accel_jit.vcpu_set_state(g->vcpu, s, &error)) {
        fprintf(stderr, "set_state: %s\n", error->message);
        return false;
    }
    enum accel_exit e = accel_jit.vcpu_run(g->vcpu);
    if (e != ACCEL_EXIT_SHUTDOWN) {
        fprintf(stderr, "exit %d: %s\n", e, e == ACCEL_EXIT_ERROR ? accel_jit.vcpu_error(g->vcpu) : "");
        return false;
    }
    accel_jit.vcpu_get_state(g->vcpu, s);
    memcpy(ret->gpr, s->gpr, sizeof(ret->gpr));
    ret->rip = s->rip;
    ret->rflags = s->rflags;
    memcpy(ret->fxsave, s->xsave, 512);
    memcpy(ret->data, g->ram + GPA_DATA, DIFF_DATA_SIZE);
    return true;
}

bool diff_guest_next_page(struct diff_guest *g)
{
    /* mov edi,5; L: call F; add ebx,eax; dec edi; jnz L; ud2. F, two bytes before the page's end: mov eax,imm32; ret. The call is
     * chained: it must not lead to the other page's translation. */
    static const uint8_t caller[] = { 0xbf, 5, 0, 0, 0, 0xe8, 0x74, 0, 0, 0, 0x01, 0xc3, 0xff, 0xcf, 0x75, 0xf5, 0x0f, 0x0b };
    static const uint8_t callee[] = { 0xb8, 0x11, 0x22, 0x33, 0x44, 0xc3 };
    g_autofree struct diff_case *c = g_new0(struct diff_case, 1);
    g_autofree struct diff_state *init = g_new0(struct diff_state, 1), *got = g_new0(struct diff_state, 1);
    memcpy(c->code + 0xf80, caller, sizeof(caller));
    memcpy(c->code + 0xffe, callee, sizeof(callee));
    init->gpr[4] = DIFF_DATA + 0x3000;
    init->rflags = 0x202;
    init->fxsave[0] = 0x7f, init->fxsave[1] = 3;
    init->fxsave[24] = 0x80, init->fxsave[25] = 0x1f;
    memcpy(g->ram + GPA_CODE_OTHER, c->code + 0x1000, 0x1000);
    g->ram[GPA_CODE_OTHER + 2] = 0x55;
    uint32_t pte = GPA_PT_CODE2 + ((DIFF_CODE + DIFF_SHIFT + 0x1000) >> 12 & 511) * 8;
    put64(g, pte, GPA_CODE_OTHER | 7);
    bool good = true;
    for (unsigned i = 0; i < 6 && good; i++) {
        uint32_t value = i & 1 ? 0x55332211 : 0x44332211;
        c->shift = i & 1 ? DIFF_SHIFT : 0;
        init->rip = DIFF_CODE + c->shift + 0xf80;
        good = diff_guest_run(g, c, init, got) && got->gpr[0] == value && got->gpr[3] == (uint32_t)(5 * value);
        if (!good)
            printf("next page: run %u: eax %lx instead of %x, sum %lx\n", i, (unsigned long)got->gpr[0], value, (unsigned long)got->gpr[3]);
        c->in_place = true;
    }
    put64(g, pte, (GPA_CODE + 0x1000) | 7);
    return good;
}

unsigned diff_guest_translated(struct diff_guest *g)
{
    return (unsigned)((struct jit_machine *)g->accel)->translated_regions;
}

void diff_guest_destroy(struct diff_guest *g)
{
    if (!g)
        return;
    accel_jit.vcpu_destroy(g->vcpu);
    accel_jit.destroy(g->accel);
    x86_cpu_model_free(g->model);
    munmap(g->ram, RAM_SIZE);
    g_free(g);
}
