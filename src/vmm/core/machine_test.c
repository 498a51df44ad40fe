/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The run state, vCPU threads and the clock, with an accelerator that runs nothing. */
#include "vmm/core/machine.h"

#include "cpu/x86/x86_model.h"
#include "vmm/core/fake_accel.h"

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
    g_usleep(60000);
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
    return g_test_run();
}
