/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One thread per vCPU: runs guest code, waits while the machine is paused or the vCPU halted, and does for others what must
 * happen on this thread (INIT, start-up IPI, work).
 *
 * Waking a halted vCPU: the waker raises the line in the accelerator, then looks at `sleeping`; the vCPU sets `sleeping`,
 * then asks the accelerator whether there is work. Both orders are sequentially consistent, so one of them sees the other.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/machine_private.h"

struct work {
    void (*fn)(struct vcpu *v, void *opaque);
    void *opaque;
    bool done;
    struct work *next;
};

struct vcpu {
    struct machine *machine;
    unsigned index;
    struct accel_vcpu *accel;
    GThread *thread;
    _Atomic int tid;
    _Atomic int cpu_clock; /* clockid_t of the thread's CPU time; 0: not there yet */
    GMutex lock; /* covers everything below but the atomics */
    GCond wake;  /* the thread waits */
    GCond told;  /* others wait for the thread: paused, work done */
    struct work *work;
    bool pause, hold, quit;
    bool paused;      /* outside guest code and staying there */
    int64_t nap;      /* monotonic time until which it runs no guest code; 0: none */
    bool init, sipi;  /* signals that have arrived */
    uint8_t sipi_vector;
    _Atomic bool attention; /* any of the above wants a look before the next run */
    _Atomic bool halted, wait_sipi;
    _Atomic bool sleeping;
    unsigned poll_us; /* how long a halted vCPU looks for work before it sleeps; its own thread's */
};

static _Thread_local struct vcpu *current;
static _Thread_local unsigned current_index;

unsigned vcpu_current_index(void)
{
    return current_index;
}

void vcpu_set_current_index(unsigned index)
{
    current_index = index;
}

static const struct accel_ops *ops_of(const struct vcpu *v)
{
    return v->machine->accel_ops;
}

/* Makes the thread look at its requests. */
static void alert_locked(struct vcpu *v)
{
    atomic_store(&v->attention, true);
    g_cond_signal(&v->wake);
    if (current != v)
        ops_of(v)->vcpu_kick(v->accel);
}

static void do_init(struct vcpu *v)
{
    struct x86_state state, *s = &state;
    bool bsp = v->index == 0;
    ops_of(v)->vcpu_get_state(v->accel, s);
    x86_state_reset(s, v->machine->cpu_model, bsp, true);
    s->activity = bsp ? X86_RUNNING : X86_WAIT_SIPI;
    log_at(LOG_RESET, "cpu %u: INIT", v->index);
    (void)ops_of(v)->vcpu_set_state(v->accel, s, NULL);
    atomic_store(&v->halted, false);
    atomic_store(&v->wait_sipi, !bsp);
}

/* SDM vol. 3, 10.4.4: execution starts at VV000h, CS selector VV00h, IP 0. */
static void do_sipi(struct vcpu *v, uint8_t vector)
{
    struct x86_state state, *s = &state;
    ops_of(v)->vcpu_get_state(v->accel, s);
    s->seg[X86_CS].sel = (uint16_t)(vector << 8);
    s->seg[X86_CS].base = (uint64_t)vector << 12;
    s->rip = 0;
    s->activity = X86_RUNNING;
    log_at(LOG_RESET, "cpu %u: start-up IPI, vector %#x", v->index, vector);
    (void)ops_of(v)->vcpu_set_state(v->accel, s, NULL);
    atomic_store(&v->halted, false);
    atomic_store(&v->wait_sipi, false);
}

static void do_work_locked(struct vcpu *v)
{
    while (v->work) {
        struct work *w = v->work;
        v->work = w->next;
        g_mutex_unlock(&v->lock);
        w->fn(v, w->opaque);
        g_mutex_lock(&v->lock);
        w->done = true;
        g_cond_broadcast(&v->told);
    }
}

static void do_signals_locked(struct vcpu *v)
{
    if (v->init) {
        v->init = false;
        g_mutex_unlock(&v->lock);
        do_init(v);
        g_mutex_lock(&v->lock);
    }
    if (v->sipi && !v->init) {
        v->sipi = false;
        uint8_t vector = v->sipi_vector;
        g_mutex_unlock(&v->lock);
        if (atomic_load(&v->wait_sipi))
            do_sipi(v, vector);
        g_mutex_lock(&v->lock);
    }
}

/*
 * Sleeping and waking costs some ten microseconds. Where the last sleeps were shorter than POLL_MAX_US (vCPUs that send each other
 * messages, fast disks), the vCPU first looks for work that long; where they were longer, as in an idle guest, it does not.
 */
#define POLL_MIN_US 8
#define POLL_MAX_US 50

static bool work_comes_soon(struct vcpu *v)
{
    if (!v->poll_us)
        return false;
    int64_t end = g_get_monotonic_time() + v->poll_us;
    do {
        for (unsigned i = 0; i < 16; i++) {
            if (ops_of(v)->vcpu_has_work(v->accel))
                return true;
            __builtin_ia32_pause();
        }
    } while (!atomic_load(&v->attention) && g_get_monotonic_time() < end);
    return false;
}

static void sleep_locked(struct vcpu *v)
{
    int64_t begun = g_get_monotonic_time();
    g_cond_wait(&v->wake, &v->lock);
    if (!atomic_load(&v->halted))
        return;
    bool was_short = g_get_monotonic_time() - begun <= POLL_MAX_US;
    v->poll_us = was_short ? MIN(MAX(v->poll_us * 2, POLL_MIN_US), POLL_MAX_US) : v->poll_us / 2 < POLL_MIN_US ? 0 : v->poll_us / 2;
}

/* True: there may be something else to look at now. */
static bool nap_locked(struct vcpu *v)
{
    if (g_get_monotonic_time() < v->nap) {
        g_cond_wait_until(&v->wake, &v->lock, v->nap);
        return true;
    }
    v->nap = 0;
    return false;
}

/* Waits until there is guest code to run; false: the thread ends. */
static bool get_ready(struct vcpu *v)
{
    bool run = false;
    g_mutex_lock(&v->lock);
    while (!v->quit && !run) {
        atomic_store(&v->attention, false);
        do_work_locked(v);
        if (v->quit)
            break;
        if (v->pause || v->hold) {
            if (v->pause && !v->paused) {
                v->paused = true;
                g_cond_broadcast(&v->told);
            }
            if (!v->work)
                g_cond_wait(&v->wake, &v->lock);
            continue;
        }
        v->paused = false;
        do_signals_locked(v);
        if (atomic_load(&v->attention) || nap_locked(v))
            continue;
        if (machine_lapic_inside(v->machine)) {
            run = true; /* waits for interrupts and start-up messages inside */
        } else if (!atomic_load(&v->wait_sipi)) {
            if (!atomic_load(&v->halted))
                run = true;
            atomic_store(&v->sleeping, true);
            if (!run && ops_of(v)->vcpu_has_work(v->accel)) {
                atomic_store(&v->halted, false);
                run = true;
            }
        }
        if (!run)
            sleep_locked(v);
        atomic_store(&v->sleeping, false);
    }
    run = !v->quit;
    g_mutex_unlock(&v->lock);
    return run;
}

static void handle_exit(struct vcpu *v, enum accel_exit exit)
{
    struct machine *m = v->machine;
    switch (exit) {
    case ACCEL_EXIT_KICKED:
        break;
    case ACCEL_EXIT_HALT:
        if (!work_comes_soon(v))
            atomic_store(&v->halted, true);
        break;
    case ACCEL_EXIT_SHUTDOWN:
        log_at(LOG_RESET, "cpu %u: triple fault", v->index);
        machine_request_reset(m, CAUSE_GUEST_RESET);
        break;
    case ACCEL_EXIT_RESET:
        machine_request_reset(m, CAUSE_GUEST_RESET);
        break;
    case ACCEL_EXIT_DEBUG:
        machine_request_stop(m, MACHINE_PAUSED);
        break;
    case ACCEL_EXIT_ERROR:
        log_warn("CPU %u cannot go on: %s", v->index, ops_of(v)->vcpu_error(v->accel));
        machine_request_stop(m, MACHINE_INTERNAL_ERROR);
        break;
    }
}

/* -d exits: the exits that reach this file; those to devices are in machine_bus.c. */
static void trace_exit(struct vcpu *v, enum accel_exit exit, uint64_t left)
{
    static const char *const words[] = {
        [ACCEL_EXIT_KICKED] = "kick: asked to look at requests", [ACCEL_EXIT_HALT] = "halt: slept until there was work",
        [ACCEL_EXIT_SHUTDOWN] = "shutdown: triple fault", [ACCEL_EXIT_RESET] = "reset: asked for at the accelerator's own device",
        [ACCEL_EXIT_DEBUG] = "debug: breakpoint or single step", [ACCEL_EXIT_ERROR] = "error: the accelerator could not go on",
    };
    uint64_t ns = (uint64_t)((unsigned __int128)(__rdtsc() - left) * 1000000000u / machine_tsc_hz(v->machine));
    log_write(LOG_EXITS, "cpu %u: %s; %llu ns", v->index, exit < G_N_ELEMENTS(words) ? words[exit] : "unknown", (unsigned long long)ns);
}

static void *vcpu_thread(void *opaque)
{
    struct vcpu *v = opaque;
    enum accel_exit last = ACCEL_EXIT_KICKED;
    uint64_t left = 0; /* when, if somebody wants to see it */
    current = v;
    current_index = v->index;
    g_mutex_lock(&v->lock);
    atomic_store(&v->tid, (int)syscall(SYS_gettid));
    clockid_t clock = 0;
    if (!pthread_getcpuclockid(pthread_self(), &clock))
        atomic_store(&v->cpu_clock, clock);
    g_cond_broadcast(&v->told);
    g_mutex_unlock(&v->lock);
    while (get_ready(v)) {
        enum accel_exit exit;
        if (left)
            trace_exit(v, last, left);
        do {
            exit = ops_of(v)->vcpu_run(v->accel);
        } while (exit == ACCEL_EXIT_KICKED && !atomic_load(&v->attention));
        left = log_on(LOG_EXITS) ? __rdtsc() : 0;
        last = exit;
        handle_exit(v, exit);
    }
    return NULL;
}

static void thread_name(const struct vcpu *v, char *ret, size_t size)
{
    g_autofree char *upper = g_ascii_strup(ops_of(v)->name, -1);
    g_snprintf(ret, size, "CPU %u/%s", v->index, upper);
}

static void start_thread(struct vcpu *v)
{
    char name[16];
    thread_name(v, name, sizeof(name));
    v->thread = sandbox_thread_new(strcmp(ops_of(v)->name, "kvm") ? SANDBOX_VCPU_JIT : SANDBOX_VCPU_KVM, name, vcpu_thread, v);
}

struct vcpu *vcpu_create(struct machine *m, unsigned index, GError **error)
{
    struct accel_vcpu *a = m->accel_ops->vcpu_create(m->accel, index, error);
    if (!a)
        return NULL;
    struct vcpu *v = g_new0(struct vcpu, 1);
    v->machine = m;
    v->index = index;
    v->accel = a;
    v->pause = true;
    atomic_store(&v->wait_sipi, index != 0);
    g_mutex_init(&v->lock);
    g_cond_init(&v->wake);
    g_cond_init(&v->told);
    start_thread(v);
    return v;
}

void vcpu_park(struct vcpu *v)
{
    if (!v->thread)
        return;
    g_mutex_lock(&v->lock);
    v->quit = true;
    alert_locked(v);
    g_mutex_unlock(&v->lock);
    g_thread_join(g_steal_pointer(&v->thread));
    atomic_store(&v->tid, 0);
}

void vcpu_revive(struct vcpu *v)
{
    v->quit = v->hold = v->paused = false;
    v->pause = true;
    start_thread(v);
}

void vcpu_destroy(struct vcpu *v)
{
    if (!v)
        return;
    vcpu_park(v);
    ops_of(v)->vcpu_destroy(v->accel);
    g_cond_clear(&v->told);
    g_cond_clear(&v->wake);
    g_mutex_clear(&v->lock);
    g_free(v);
}

void vcpu_pause(struct vcpu *v)
{
    g_mutex_lock(&v->lock);
    v->pause = true;
    alert_locked(v);
    g_mutex_unlock(&v->lock);
}

void vcpu_wait_paused(struct vcpu *v)
{
    g_mutex_lock(&v->lock);
    while (!v->paused)
        g_cond_wait(&v->told, &v->lock);
    g_mutex_unlock(&v->lock);
}

void vcpu_resume(struct vcpu *v)
{
    g_mutex_lock(&v->lock);
    v->pause = v->hold = v->paused = false;
    v->nap = 0;
    alert_locked(v);
    g_mutex_unlock(&v->lock);
}

void vcpu_nap(struct vcpu *v, int64_t until)
{
    g_mutex_lock(&v->lock);
    v->nap = until;
    alert_locked(v);
    g_mutex_unlock(&v->lock);
}

void vcpu_hold_current(struct machine *m)
{
    struct vcpu *v = current;
    if (!v || v->machine != m)
        return;
    g_mutex_lock(&v->lock);
    v->hold = true;
    atomic_store(&v->attention, true);
    g_mutex_unlock(&v->lock);
    ops_of(v)->vcpu_kick(v->accel);
}

void vcpu_release(struct vcpu *v)
{
    g_mutex_lock(&v->lock);
    v->hold = false;
    g_cond_signal(&v->wake);
    g_mutex_unlock(&v->lock);
}

/* Of the MSRs that only the accelerator knows, those by which the guest has given it places in its memory (KVM's paravirtual ones, Linux
 * Documentation/virt/kvm/x86/msr.rst): they are off after a reset. The others stay as they are. */
static void forget_places(struct x86_state *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < MIN(s->nmsrs, (uint32_t)X86_MSRS_MAX); i++) {
        uint32_t index = s->msrs[i].index;
        if ((index >= 0x4b564d00 && index <= 0x4b564d0f) || index == 0x11 || index == 0x12)
            s->msrs[n++] = (struct x86_msr){ .index = index, .value = 0 };
    }
    s->nmsrs = n;
}

void vcpu_reset(struct vcpu *v, uint64_t tsc_offset)
{
    struct x86_state state, *s = &state;
    vcpu_get_state(v, s);
    forget_places(s);
    x86_state_reset(s, v->machine->cpu_model, v->index == 0, false);
    s->tsc_offset = tsc_offset;
    s->activity = v->index ? X86_WAIT_SIPI : X86_RUNNING;
    g_autoptr(GError) error = NULL;
    if (!vcpu_set_state(v, s, &error))
        log_warn("CPU %u cannot be reset: %s", v->index, error->message);
    g_mutex_lock(&v->lock);
    v->init = v->sipi = false;
    g_mutex_unlock(&v->lock);
    log_at(LOG_RESET, "cpu %u: reset", v->index);
}

void vcpu_shift_tsc(struct vcpu *v, int64_t delta)
{
    struct x86_state state, *s = &state;
    vcpu_get_state(v, s);
    s->tsc_offset += (uint64_t)delta;
    (void)vcpu_set_state(v, s, NULL);
}

void vcpu_settle(struct vcpu *v)
{
    g_mutex_lock(&v->lock);
    do_signals_locked(v);
    g_mutex_unlock(&v->lock);
}

struct accel_vcpu *vcpu_swap_accel(struct vcpu *v, struct accel_vcpu *a)
{
    struct accel_vcpu *old = v->accel;
    v->accel = a;
    return old;
}

void vcpu_adopt_activity(struct vcpu *v, const struct vcpu_activity *a)
{
    atomic_store(&v->wait_sipi, a->activity >= X86_WAIT_SIPI);
    atomic_store(&v->halted, a->activity == X86_HALTED);
    if (a->activity == X86_SIPI_RECEIVED && !machine_lapic_inside(v->machine))
        vcpu_sipi(v->machine, v->index, a->sipi_vector);
}

static void do_rename(struct vcpu *v, void *unused)
{
    char name[16];
    thread_name(v, name, sizeof(name));
    pthread_setname_np(pthread_self(), name);
}

void vcpu_rename(struct vcpu *v)
{
    vcpu_run_on(v, do_rename, NULL);
}

unsigned vcpu_index(const struct vcpu *v)
{
    return v->index;
}

const struct accel_exit_count *vcpu_exits(struct vcpu *v)
{
    return ops_of(v)->vcpu_exits ? ops_of(v)->vcpu_exits(v->accel) : NULL;
}

/* A thread that has just been made says its id itself: that takes a moment. */
int vcpu_thread_id(struct vcpu *v)
{
    g_mutex_lock(&v->lock);
    while (!atomic_load(&v->tid))
        g_cond_wait(&v->told, &v->lock);
    g_mutex_unlock(&v->lock);
    return atomic_load(&v->tid);
}

uint64_t vcpu_cpu_time_ns(const struct vcpu *v)
{
    struct timespec t = { 0 };
    int clock = atomic_load(&v->cpu_clock);
    if (clock)
        clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool vcpu_halted(const struct vcpu *v)
{
    if (!machine_lapic_inside(v->machine))
        return atomic_load(&v->halted) || atomic_load(&v->wait_sipi);
    if (v->machine->state == MACHINE_RUNNING)
        return false; /* it would have to be stopped to be asked */
    struct x86_state s;
    ops_of(v)->vcpu_get_state(v->accel, &s);
    return s.activity != X86_RUNNING;
}

struct accel_vcpu *vcpu_accel(struct vcpu *v)
{
    return v->accel;
}

static void wake_if_sleeping(struct vcpu *v)
{
    if (!atomic_load(&v->sleeping))
        return;
    g_mutex_lock(&v->lock);
    g_cond_signal(&v->wake);
    g_mutex_unlock(&v->lock);
}

static struct vcpu *nth(struct machine *m, unsigned index)
{
    return index < m->max_vcpus ? __atomic_load_n(&m->vcpus[index], __ATOMIC_ACQUIRE) : NULL;
}

void vcpu_set_intr(struct machine *m, unsigned index, bool level)
{
    struct vcpu *v = nth(m, index);
    if (!v)
        return;
    m->accel_ops->vcpu_interrupt(v->accel, ACCEL_IRQ_INTR, level);
    if (level)
        wake_if_sleeping(v);
}

void vcpu_nmi(struct machine *m, unsigned index)
{
    struct vcpu *v = nth(m, index);
    if (!v)
        return;
    m->accel_ops->vcpu_interrupt(v->accel, ACCEL_IRQ_NMI, true);
    wake_if_sleeping(v);
}

void vcpu_init(struct machine *m, unsigned index)
{
    struct vcpu *v = nth(m, index);
    if (!v)
        return;
    g_mutex_lock(&v->lock);
    v->init = true;
    v->sipi = false;
    atomic_store(&v->attention, true);
    g_cond_signal(&v->wake);
    g_mutex_unlock(&v->lock);
    m->accel_ops->vcpu_kick(v->accel); /* also from its own device access: it must leave guest code */
}

void vcpu_sipi(struct machine *m, unsigned index, uint8_t vector)
{
    struct vcpu *v = nth(m, index);
    if (!v)
        return;
    g_mutex_lock(&v->lock);
    if (v->init || atomic_load(&v->wait_sipi)) {
        v->sipi = true;
        v->sipi_vector = vector;
        atomic_store(&v->attention, true);
        g_cond_signal(&v->wake);
    }
    g_mutex_unlock(&v->lock);
}

void vcpu_get_state(struct vcpu *v, struct x86_state *ret)
{
    ops_of(v)->vcpu_get_state(v->accel, ret);
    if (!machine_lapic_inside(v->machine))
        ret->activity = atomic_load(&v->wait_sipi) ? X86_WAIT_SIPI : atomic_load(&v->halted) ? X86_HALTED : X86_RUNNING;
}

bool vcpu_set_state(struct vcpu *v, const struct x86_state *s, GError **error)
{
    if (!ops_of(v)->vcpu_set_state(v->accel, s, error))
        return false;
    vcpu_adopt_activity(v, &(struct vcpu_activity){ s->activity, s->sipi_vector });
    return true;
}

void vcpu_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *opaque), void *opaque)
{
    struct work w = { fn, opaque, false, NULL };
    g_mutex_lock(&v->lock);
    struct work **end = &v->work;
    while (*end)
        end = &(*end)->next;
    *end = &w;
    alert_locked(v);
    while (!w.done)
        g_cond_wait(&v->told, &v->lock);
    g_mutex_unlock(&v->lock);
}
