/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translator through its door: events that another accelerator had begun to deliver, and the log of written pages. */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "accel/accel.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"

#define RAM_SIZE (1u << 20)

struct fixture {
    struct x86_cpu_model *model;
    struct accel *accel;
    struct accel_vcpu *vcpu;
    uint8_t *ram;
    struct x86_state *s;
    gint end;
};

static uint64_t rd(void *o, unsigned cpu, uint64_t at, unsigned size) { return ~0ull; }
static void wr(void *o, unsigned cpu, uint64_t at, unsigned size, uint64_t value) { }
static uint64_t in(void *o, unsigned cpu, uint16_t port, unsigned size) { return ~0ull; }
static void out(void *o, unsigned cpu, uint16_t port, unsigned size, uint64_t value) { }
static int ack(void *o, unsigned cpu) { return -1; }
static unsigned get_tpr(void *o, unsigned cpu) { return 0; }
static void set_tpr(void *o, unsigned cpu, unsigned tpr) { }
static bool msr_read(void *o, unsigned cpu, uint32_t i, uint64_t *ret) { return false; }
static bool msr_write(void *o, unsigned cpu, uint32_t i, uint64_t v) { return false; }
static const struct accel_bus bus = { in, out, rd, wr, ack, get_tpr, set_tpr, msr_read, msr_write, NULL };

/* Real mode: code at 0:1000h, handler of each vector n at 0:2000h + 16 * n, all HLT; stack below 8000h. */
static void set_up(struct fixture *f, gconstpointer data)
{
    uint64_t have[(X86_NFEATURES + 63) / 64];
    accel_jit.features(NULL, have);
    f->model = x86_cpu_model_parse("max", have, NULL);
    const struct accel_config c = { .bus = &bus, .model = f->model, .sockets = 1, .cores = 1, .threads = 1, .max_vcpus = 1 };
    f->accel = accel_jit.create(&c, NULL);
    g_assert_nonnull(f->accel);
    f->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(accel_jit.map_ram(f->accel, 0, RAM_SIZE, f->ram, false, NULL));
    f->vcpu = accel_jit.vcpu_create(f->accel, 0, NULL);
    f->s = aligned_alloc(64, (sizeof(*f->s) + 63) & ~63ul);
    for (unsigned v = 0; v < 256; v++) {
        uint16_t ip = (uint16_t)(0x2000 + 16 * v);
        memcpy(f->ram + 4 * v, &ip, 2);
        f->ram[ip] = 0xf4;
    }
    f->ram[0x1000] = 0xf4;
    accel_jit.vcpu_get_state(f->vcpu, f->s);
    f->s->seg[X86_CS].sel = 0;
    f->s->seg[X86_CS].base = 0;
    f->s->rip = 0x1000;
    f->s->gpr[X86_RSP] = 0x8000;
    f->s->rflags = 2;
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    accel_jit.vcpu_destroy(f->vcpu);
    accel_jit.destroy(f->accel);
    x86_cpu_model_free(f->model);
    munmap(f->ram, RAM_SIZE);
    free(f->s);
}

/* Runs to the HLT; returns rip. */
static uint64_t run(struct fixture *f)
{
    enum accel_exit exit;
    g_assert_true(accel_jit.vcpu_set_state(f->vcpu, f->s, NULL));
    while ((exit = accel_jit.vcpu_run(f->vcpu)) == ACCEL_EXIT_KICKED) /* the log asks vCPUs out */
        ;
    g_assert_cmpint(exit, ==, ACCEL_EXIT_HALT);
    accel_jit.vcpu_get_state(f->vcpu, f->s);
    g_assert_false(f->s->interrupt_injected || f->s->exception_pending || f->s->nmi_injected);
    return f->s->rip;
}

static void test_interrupt(struct fixture *f, gconstpointer data)
{
    f->s->interrupt_injected = 1; /* its delivery had begun, so IF does not matter any more */
    f->s->interrupt_vector = 0x21;
    f->s->activity = X86_HALTED;
    g_assert_cmphex(run(f), ==, 0x2211);
    uint16_t frame[3];
    memcpy(frame, f->ram + 0x7ffa, 6);
    g_assert_cmphex(frame[0], ==, 0x1000);
    g_assert_cmphex(f->s->gpr[X86_RSP], ==, 0x7ffa);
}

static void test_soft_interrupt(struct fixture *f, gconstpointer data)
{
    f->ram[0x1000] = 0xcd; /* INT 80h, which comes again by itself */
    f->ram[0x1001] = 0x80;
    f->s->interrupt_injected = f->s->interrupt_soft = 1;
    f->s->interrupt_vector = 0x80;
    g_assert_cmphex(run(f), ==, 0x2801);
    g_assert_cmphex(f->s->gpr[X86_RSP], ==, 0x7ffa); /* once */
    uint16_t ip;
    memcpy(&ip, f->ram + 0x7ffa, 2);
    g_assert_cmphex(ip, ==, 0x1002);
}

static void test_exception_and_nmi(struct fixture *f, gconstpointer data)
{
    f->s->exception_pending = 1;
    f->s->exception_vector = X86_GP; /* real mode pushes no error code */
    f->s->exception_has_error = 0;
    g_assert_cmphex(run(f), ==, 0x20d1);
    f->s->rip = 0x1000;
    f->s->activity = X86_RUNNING;
    f->s->nmi_injected = 1;
    f->s->nmi_blocked = 0;
    g_assert_cmphex(run(f), ==, 0x2021);
    g_assert_true(f->s->nmi_blocked);
}

static void test_triple_fault(struct fixture *f, gconstpointer data)
{
    f->s->triple_fault_pending = 1;
    g_assert_true(accel_jit.vcpu_set_state(f->vcpu, f->s, NULL));
    g_assert_cmpint(accel_jit.vcpu_run(f->vcpu), ==, ACCEL_EXIT_SHUTDOWN);
}

/* Writes a byte at 3000h and 5fffh, and a word across 6fffh and 7000h. */
static const uint8_t writer[] = { 0xc6, 0x06, 0x00, 0x30, 1, 0xc6, 0x06, 0xff, 0x5f, 2, 0xc7, 0x06, 0xff, 0x6f, 3, 4, 0xf4 };

static uint64_t written(struct fixture *f)
{
    uint64_t bitmap[RAM_SIZE / 4096 / 64] = { 0 };
    g_assert_true(accel_jit.dirty_read(f->accel, 0, RAM_SIZE, bitmap, NULL));
    return bitmap[0];
}

static void test_dirty(struct fixture *f, gconstpointer data)
{
    uint64_t word = 0;
    memcpy(f->ram + 0x1000, writer, sizeof(writer));
    run(f); /* the TLB may write these pages before the log begins */
    g_assert_false(accel_jit.dirty_read(f->accel, 0, 4096, &word, NULL));
    g_assert_true(accel_jit.dirty_start(f->accel, NULL));
    g_assert_cmphex(written(f), ==, 0);
    for (unsigned i = 0; i < 3; i++) {
        f->s->rip = 0x1000;
        f->s->activity = X86_RUNNING;
        run(f);
        g_assert_cmphex(written(f), ==, 1u << 3 | 1u << 5 | 1u << 6 | 1u << 7);
        g_assert_cmphex(written(f), ==, 0);
    }
    accel_jit.ram_written(f->accel, 0x20ffe, 4);
    g_assert_cmphex(written(f), ==, 3ull << 32);
    accel_jit.ram_written(f->accel, 0x30000, 1);
    g_assert_true(accel_jit.dirty_read(f->accel, 0x2f000, 0x2000, &word, NULL));
    g_assert_cmphex(word, ==, 2);
    accel_jit.dirty_stop(f->accel);
    g_assert_false(accel_jit.dirty_read(f->accel, 0, 4096, &word, NULL));
}

static gpointer run_until_told(gpointer opaque)
{
    struct fixture *f = opaque;
    while (accel_jit.vcpu_run(f->vcpu) == ACCEL_EXIT_KICKED && !g_atomic_int_get(&f->end))
        ;
    return NULL;
}

static gpointer burn(gpointer opaque)
{
    while (!g_atomic_int_get((gint *)opaque))
        ;
    return NULL;
}

/* The vCPU loops in registers with interrupts off: nothing but the reader's own kick brings it out, and each must. */
static void test_dirty_of_a_spinning_guest(struct fixture *f, gconstpointer data)
{
    static const uint8_t spin[] = { 0xeb, 0xfe };
    memcpy(f->ram + 0x1000, spin, sizeof(spin));
    g_assert_true(accel_jit.vcpu_set_state(f->vcpu, f->s, NULL));
    GThread *t = g_thread_new("vcpu", run_until_told, f), *others[4]; /* so that the reader is interrupted anywhere */
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        others[i] = g_thread_new("burn", burn, &f->end);
    g_assert_true(accel_jit.dirty_start(f->accel, NULL));
    for (unsigned i = 0; i < 60000; i++)
        g_assert_cmphex(written(f), ==, 0);
    g_atomic_int_set(&f->end, 1);
    accel_jit.vcpu_kick(f->vcpu);
    g_thread_join(t);
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        g_thread_join(others[i]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add(name, struct fixture, NULL, set_up, fn, tear_down)
    ADD("/jit/unfinished/interrupt", test_interrupt);
    ADD("/jit/unfinished/soft-interrupt", test_soft_interrupt);
    ADD("/jit/unfinished/exception-and-nmi", test_exception_and_nmi);
    ADD("/jit/unfinished/triple-fault", test_triple_fault);
    ADD("/jit/dirty", test_dirty);
    ADD("/jit/dirty/spinning", test_dirty_of_a_spinning_guest);
    return g_test_run();
}
