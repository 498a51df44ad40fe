/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The run state, vCPU threads and the clock, with an accelerator that runs nothing. */
#include "vmm/core/machine.h"

#include "cpu/x86/x86_model.h"
#include "base/error.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/irqchip.h"

struct seen { unsigned n[EVENT_BLOCK_IO_ERROR + 1]; enum machine_cause cause; };

static void on_event(void *opaque, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    struct seen *s = opaque;
    s->n[ev]++;
    s->cause = cause;
}

static struct machine *make_with(bool no_reboot, unsigned max_cpus, struct seen *seen)
{
    struct machine_config *c = g_new0(struct machine_config, 1);
    c->cpus = 2;
    c->max_cpus = max_cpus;
    c->no_reboot = no_reboot;
    struct machine *m = machine_create(c);
    m->accel_ops = &fake_accel;
    m->cpu_model = x86_cpu_model_parse("max", (uint64_t[(X86_NFEATURES + 63) / 64]){ 0 }, NULL);
    g_assert_nonnull(m->cpu_model);
    g_assert_true(machine_create_cpus(m, NULL));
    machine_add_listener(m, (struct machine_listener){ on_event, seen });
    return m;
}

static struct machine *make(bool no_reboot, struct seen *seen) { return make_with(no_reboot, 2, seen); }
static void ignore_event(void *opaque, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io) { }

static gboolean do_reset(void *m) { machine_request_reset(m, CAUSE_HOST_QMP_SYSTEM_RESET); return G_SOURCE_REMOVE; }
static gboolean do_shutdown(void *m) { machine_request_shutdown(m, CAUSE_GUEST_SHUTDOWN); return G_SOURCE_REMOVE; }
static gboolean do_exit(void *m) { machine_request_exit(m, 33); return G_SOURCE_REMOVE; }

static void test_reset_and_shutdown(void)
{
    struct seen seen = { 0 };
    struct machine *m = make(false, &seen);
    g_timeout_add(10, do_reset, m);
    g_timeout_add(30, do_shutdown, m);
    g_assert_cmpint(machine_main(m), ==, 0);
    g_assert_cmpuint(seen.n[EVENT_RESET], ==, 1);
    g_assert_cmpuint(seen.n[EVENT_SHUTDOWN], ==, 1);
    g_assert_cmpint(seen.cause, ==, CAUSE_GUEST_SHUTDOWN);
    g_assert_cmpstr(machine_state_name(m->state), ==, "shutdown");
    machine_destroy(m);
}

static void test_no_reboot(void)
{
    struct seen seen = { 0 };
    struct machine *m = make(true, &seen);
    g_timeout_add(10, do_reset, m);
    g_assert_cmpint(machine_main(m), ==, 0);
    g_assert_cmpuint(seen.n[EVENT_RESET], ==, 0);
    g_assert_cmpuint(seen.n[EVENT_SHUTDOWN], ==, 1);
    machine_destroy(m);
}

static void test_exit_status(void)
{
    struct seen seen = { 0 };
    struct machine *m = make(false, &seen);
    g_timeout_add(10, do_exit, m);
    g_assert_cmpint(machine_main(m), ==, 33);
    machine_destroy(m);
}

static void test_triple_fault(void)
{
    struct seen seen = { 0 };
    struct machine *m = make(true, &seen);
    m->accel->exit = ACCEL_EXIT_SHUTDOWN;
    g_assert_cmpint(machine_main(m), ==, 0);
    g_assert_cmpint(seen.cause, ==, CAUSE_GUEST_RESET);
    machine_destroy(m);
}

static void mark(struct vcpu *v, void *opaque) { *(int *)opaque = vcpu_thread_id(v); }

static void test_sipi(void)
{
    struct seen seen = { 0 };
    struct machine *m = make(false, &seen);
    int tid = 0;
    machine_start(m);
    g_assert_true(vcpu_halted(m->vcpus[1]));
    vcpu_init(m, 1);
    vcpu_sipi(m, 1, 0x9a);
    for (unsigned i = 0; i < 200 && !atomic_load(&m->accel->vcpus[1]->runs); i++)
        g_usleep(1000);
    g_assert_cmpuint(atomic_load(&m->accel->vcpus[1]->runs), >, 0);
    vcpu_run_on(m->vcpus[1], mark, &tid);
    g_assert_cmpint(tid, ==, vcpu_thread_id(m->vcpus[1]));
    machine_stop(m, MACHINE_PAUSED);
    g_assert_cmpuint(m->accel->vcpus[1]->state.seg[X86_CS].base, ==, 0x9a000);
    g_assert_cmpuint(m->accel->vcpus[1]->state.rip, ==, 0);
    g_assert_cmpuint(seen.n[EVENT_STOP], ==, 1);
    machine_destroy(m);
}

struct tick { struct vclock *c; struct vtimer *t; _Atomic unsigned n; uint64_t at[8]; };

static void on_tick(void *opaque)
{
    struct tick *t = opaque;
    unsigned n = atomic_load(&t->n);
    if (n < 8)
        t->at[n] = vclock_now(t->c);
    atomic_fetch_add(&t->n, 1);
}

struct plugging { struct machine *m; GString *events; };

static void on_named(void *opaque, const char *name, struct json_object *data)
{
    g_string_append_printf(((struct plugging *)opaque)->events, "%s ", name);
}

static void called(void *opaque) { g_string_append(((struct plugging *)opaque)->events, "called "); }

static void *from_thread(void *opaque)
{
    struct plugging *p = opaque;
    for (unsigned i = 0; i < 1000; i++)
        vcpu_set_intr(p->m, 2, i & 1); /* while the place is filled and emptied */
    machine_post_event(p->m, "ONE", NULL);
    machine_call_later(p->m, called, p);
    machine_post_event(p->m, "TWO", NULL);
    return NULL;
}

/* A place is filled, emptied and filled again, running and stopped; others may talk to it meanwhile. */
static gboolean plug(void *opaque)
{
    struct plugging *p = opaque;
    struct machine *m = p->m;
    GThread *t = g_thread_new("other", from_thread, p);
    for (unsigned i = 0; i < 20; i++) {
        if (i == 10)
            machine_stop(m, MACHINE_PAUSED);
        g_assert_true(machine_add_vcpu(m, 2, NULL));
        g_assert_cmpuint(m->nvcpus, ==, 3);
        g_assert_true(m->vcpus[2] && vcpu_halted(m->vcpus[2]) && vcpu_thread_id(m->vcpus[2]) > 0);
        machine_remove_vcpu(m, 2);
        g_assert_true(!m->vcpus[2] && m->nvcpus == 2);
    }
    machine_start(m);
    g_thread_join(t);
    g_assert_true(machine_add_vcpu(m, 3, NULL)); /* a hole before it */
    g_timeout_add(20, do_shutdown, m);
    return G_SOURCE_REMOVE;
}

static void test_vcpus_come_and_go(void)
{
    struct seen seen = { 0 };
    struct machine *m = make_with(false, 4, &seen);
    struct plugging p = { m, g_string_new(NULL) };
    machine_add_listener(m, (struct machine_listener){ ignore_event, &p, on_named });
    g_timeout_add(5, plug, &p);
    g_assert_cmpint(machine_main(m), ==, 0);
    g_assert_cmpstr(p.events->str, ==, "ONE called TWO ");
    machine_destroy(m);
    g_string_free(p.events, TRUE);
}

static void test_clock(void)
{
    struct vclock *c = vclock_create();
    struct tick a = { .c = c }, b = { .c = c };
    a.t = vtimer_create(c, on_tick, &a);
    b.t = vtimer_create(c, on_tick, &b);
    g_assert_cmpuint(vclock_now(c), ==, 0);
    vtimer_set(a.t, 20000000);
    vtimer_set(b.t, 10000000);
    g_usleep(30000);
    g_assert_cmpuint(atomic_load(&a.n), ==, 0); /* a paused clock fires nothing */
    vclock_resume(c);
    for (unsigned i = 0; i < 10000 && !(atomic_load(&a.n) && atomic_load(&b.n)); i++)
        g_usleep(1000);
    g_assert_cmpuint(atomic_load(&a.n), ==, 1);
    g_assert_cmpuint(atomic_load(&b.n), ==, 1);
    g_assert_cmpuint(b.at[0], <=, a.at[0]);
    g_assert_cmpuint(a.at[0], >=, 20000000);
    vclock_pause(c);
    uint64_t now = vclock_now(c);
    g_usleep(5000);
    g_assert_cmpuint(vclock_now(c), ==, now);
    vtimer_set(a.t, now + 1000000);
    vtimer_cancel(a.t);
    vclock_resume(c);
    g_usleep(5000);
    g_assert_cmpuint(atomic_load(&a.n), ==, 1);
    vtimer_destroy(a.t);
    vtimer_destroy(b.t);
    vclock_destroy(c);
}

/* ---- change of accelerator ---- */

static struct accel *second; /* what the other accelerator made last */
static const char *fail_at;  /* where it fails */

static struct accel *other_create(const struct accel_config *config, GError **error)
{
    return second = fake_create(config, error);
}
static void other_destroy(struct accel *a)
{
    if (a == second)
        second = NULL;
    fake_destroy(a);
}
static struct accel_vcpu *other_vcpu_create(struct accel *a, unsigned index, GError **error)
{
    if (!g_strcmp0(fail_at, "vcpu") && index == 1) {
        vireo_fail(error, VIREO_ERROR_FAILED, "no more vCPUs");
        return NULL;
    }
    return fake_vcpu_create(a, index, error);
}
static bool other_set_state(struct accel_vcpu *v, const struct x86_state *s, GError **error)
{
    if (!g_strcmp0(fail_at, "state") && v->index == 1)
        return vireo_fail(error, VIREO_ERROR_FAILED, "this state is not possible");
    return fake_vcpu_set_state(v, s, error);
}
static struct x86_irqchip other_chip;
static struct x86_lapic other_lapic[2];
static unsigned others_lines, other_messages;
static enum accel_irqchip other_irqchip(struct accel *a) { return ACCEL_IRQCHIP_ON; }
static void other_gsi(struct accel *a, unsigned gsi, bool level) { others_lines = level ? others_lines | 1u << gsi : others_lines & ~(1u << gsi); }
static void other_msi(struct accel *a, uint64_t address, uint32_t data) { other_messages++; }
static void other_chip_get(struct accel *a, struct x86_irqchip *ret) { *ret = other_chip; }
static bool other_chip_set(struct accel *a, const struct x86_irqchip *c, GError **error)
{
    if (!g_strcmp0(fail_at, "irqchip"))
        return vireo_fail(error, VIREO_ERROR_FAILED, "no such interrupt controller");
    other_chip = *c;
    return true;
}
static void other_lapic_get(struct accel_vcpu *v, struct x86_lapic *ret) { *ret = other_lapic[v->index]; }
static bool other_lapic_set(struct accel_vcpu *v, const struct x86_lapic *s, GError **error)
{
    other_lapic[v->index] = *s;
    return true;
}
static uint64_t other_has = ~0ull;
static void other_features(const char *device, uint64_t *ret)
{
    for (unsigned i = 0; i < (X86_NFEATURES + 63) / 64; i++)
        ret[i] = other_has;
}
static struct accel_ops other_accel;

static unsigned chips_set, chips_quiet;
static void chip_get(struct machine *m, struct x86_irqchip *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->ioapic.redirection[5] = 0x1234;
    ret->ioapic.level = 1u << 17 | 1u << 2;
}
static void chip_set(struct machine *m, const struct x86_irqchip *s)
{
    chips_set++;
    g_assert_cmphex(s->ioapic.redirection[5], ==, 0x1234);
    g_assert_cmphex(s->ioapic.level, ==, 1u << 19 | 1u << 2); /* what the devices have done meanwhile */
}
static void lapic_get(struct machine *m, unsigned cpu, struct x86_lapic *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->regs[8] = 0x50;
    ret->regs[0x20] = 7 + cpu;
}
static void lapic_set(struct machine *m, unsigned cpu, const struct x86_lapic *s) { g_assert_cmphex(s->regs[0x20], ==, 7 + cpu); }
static void quiet(struct machine *m) { chips_quiet++; }

static unsigned hooks_seen[4];
static void hook(void *opaque, enum machine_hook_event ev) { hooks_seen[ev]++; }

static struct machine *make_for_switch(struct seen *seen)
{
    other_accel = fake_accel;
    other_accel.name = "other";
    fake_second = &other_accel;
    other_accel.create = other_create;
    other_accel.destroy = other_destroy;
    other_accel.vcpu_create = other_vcpu_create;
    other_accel.vcpu_set_state = other_set_state;
    other_accel.features = other_features;
    other_accel.irqchip = other_irqchip;
    other_accel.gsi_set = other_gsi;
    other_accel.msi_send = other_msi;
    other_accel.irqchip_get = other_chip_get;
    other_accel.irqchip_set = other_chip_set;
    other_accel.lapic_get = other_lapic_get;
    other_accel.lapic_set = other_lapic_set;
    struct machine *m = make(false, seen);
    m->config->irqchip = -1;
    m->chips = (struct machine_chips){ lapic_get, lapic_set, chip_get, chip_set, quiet, NULL };
    void *ram = guest_memory_alloc(m->memory, "ram", 1 << 20, NULL);
    g_assert_true(guest_memory_add_ram(m->memory, 0, 1 << 20, ram, false, NULL));
    machine_start(m);
    machine_stop(m, MACHINE_PAUSED);
    m->accel->vcpus[0]->state.gpr[X86_RBX] = 0xabcdef;
    m->accel->vcpus[1]->state.gpr[X86_RBX] = 0x123456;
    return m;
}

static void refuse_switch(struct machine *m, const char *where, const char *message)
{
    g_autoptr(GError) error = NULL;
    struct accel *before = m->accel;
    fail_at = where;
    chips_quiet = 0;
    g_assert_false(machine_switch_accel(m, "other", &error));
    g_assert_nonnull(strstr(error->message, message));
    fail_at = NULL;
    g_assert_true(m->accel == before && m->accel_ops == &fake_accel);
    g_assert_null(second); /* nothing half made */
    g_assert_cmpuint(chips_quiet, ==, 0);
    g_assert_cmpint(m->irqchip, ==, ACCEL_IRQCHIP_OFF);
    uint64_t written = atomic_load(&m->accel->written);
    guest_memory_written(m->memory, 0x1000, 8);
    g_assert_cmpuint(atomic_load(&m->accel->written), ==, written + 8);
    machine_start(m); /* goes on */
    unsigned runs = atomic_load(&m->accel->vcpus[0]->runs);
    machine_stop(m, MACHINE_PAUSED);
    g_assert_cmpuint(atomic_load(&m->accel->vcpus[0]->runs), >=, runs);
}

static void test_switch(void)
{
    struct seen seen = { 0 };
    struct machine *m = make_for_switch(&seen);
    machine_add_hook(m, hook, NULL);
    machine_coalesce(m, true, 0x70, 1);
    g_assert_true(machine_switch_accel(m, "other", NULL));
    g_assert_true(m->accel == second && m->accel_ops == &other_accel);
    g_assert_cmphex(second->vcpus[0]->state.gpr[X86_RBX], ==, 0xabcdef);
    g_assert_cmphex(second->vcpus[1]->state.gpr[X86_RBX], ==, 0x123456);
    g_assert_cmpuint(second->vcpus[0]->state.cr8, ==, 5);
    g_assert_cmpuint(second->vcpus[1]->state.activity, ==, X86_WAIT_SIPI);
    g_assert_cmpuint(second->nmaps, ==, 1);
    g_assert_cmphex(other_lapic[1].regs[0x20], ==, 8);
    g_assert_cmphex(other_chip.ioapic.redirection[5], ==, 0x1234);
    g_assert_cmphex(other_chip.ioapic.level, ==, 1u << 17); /* the timer's line is low between pulses */
    g_assert_true(machine_irqchip_inside(m));
    g_assert_cmpuint(chips_quiet, ==, 1);
    g_assert_cmpuint(hooks_seen[HOOK_ACCEL_LEAVE], ==, 1);
    g_assert_cmpuint(hooks_seen[HOOK_ACCEL_ENTER], ==, 1);
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/comm", vcpu_thread_id(m->vcpus[1])), *name = NULL;
    g_assert_true(g_file_get_contents(path, &name, NULL, NULL));
    g_assert_cmpstr(name, ==, "CPU 1/OTHER\n");
    guest_memory_written(m->memory, 0x1000, 8);
    g_assert_cmpuint(atomic_load(&second->written), ==, 8);

    machine_start(m);
    for (unsigned i = 0; i < 200 && !atomic_load(&second->vcpus[1]->runs); i++)
        g_usleep(1000);
    g_assert_cmpuint(atomic_load(&second->vcpus[1]->runs), >, 0); /* waits for its start-up message inside */
    machine_irq_begin(m);
    machine_gsi_set(m, 17, false);
    machine_gsi_set(m, 19, true);
    machine_irq_end(m);
    g_assert_cmphex(others_lines, ==, 1u << 19);
    machine_stop(m, MACHINE_PAUSED);

    other_chip.ioapic.level = 1u << 2 | 1u << 3; /* the timer's is taken from there */
    g_assert_true(machine_switch_accel(m, "fake", NULL));
    g_assert_null(second);
    g_assert_true(m->accel_ops == &fake_accel);
    g_assert_cmpuint(chips_set, ==, 1);
    g_assert_cmphex(m->accel->vcpus[1]->state.gpr[X86_RBX], ==, 0x123456);
    g_assert_true(vcpu_halted(m->vcpus[1]));
    machine_destroy(m);
}

static void test_switch_refused(void)
{
    struct seen seen = { 0 };
    struct machine *m = make_for_switch(&seen);
    refuse_switch(m, "vcpu", "no more vCPUs");
    refuse_switch(m, "state", "this state is not possible");
    refuse_switch(m, "irqchip", "no such interrupt controller");
    m->cpu_model->features[0] |= 1ull << X86_FEAT_SSE2 | 1ull << X86_FEAT_PAE;
    other_has = ~(1ull << X86_FEAT_SSE2 | 1ull << X86_FEAT_PAE);
    refuse_switch(m, NULL, "pae, sse2");
    machine_start(m);
    g_autoptr(GError) error = NULL;
    g_assert_false(machine_switch_accel(m, "other", &error));
    g_assert_nonnull(strstr(error->message, "stop it first"));
    machine_destroy(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/machine/reset-and-shutdown", test_reset_and_shutdown);
    g_test_add_func("/machine/no-reboot", test_no_reboot);
    g_test_add_func("/machine/exit-status", test_exit_status);
    g_test_add_func("/machine/triple-fault", test_triple_fault);
    g_test_add_func("/machine/start-up-ipi", test_sipi);
    g_test_add_func("/machine/vcpus-come-and-go", test_vcpus_come_and_go);
    g_test_add_func("/clock/timers", test_clock);
    g_test_add_func("/accel/switch", test_switch);
    g_test_add_func("/accel/switch-refused", test_switch_refused);
    return g_test_run();
}
