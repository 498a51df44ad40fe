/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run loop of a vCPU: enter generated code, look at why it came back, deliver events, again.
 */
#include "accel/jit/engine/jit_engine.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "base/error.h"
#include "base/log.h"

static __thread struct jit_vcpu *current_vcpu; /* for the signal handler: the vCPU this thread runs, or NULL */

/* ---- host signals in generated code ---- */

static void on_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    struct jit_vcpu *v = current_vcpu;
    const uint8_t *pc = (const uint8_t *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    if (v && v->cpu->in_code && pc >= v->machine->cache_start && pc < v->machine->cache_end) {
        v->cpu->scratch[7] = (uint64_t)(uintptr_t)pc;
        v->cpu->scratch[6] = (uint64_t)sig;
        v->cpu->scratch[5] = sig == SIGFPE && info->si_code == FPE_INTDIV;
        uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)v->machine->thunks.host_fault;
        return;
    }
    /* seccomp(vcpu-jit): rt_sigaction(SIGSEGV SIGBUS SIGFPE SIGILL) */
    /* Not the guest's doing: die as if nobody had asked. */
    signal(sig, SIG_DFL);
}

bool jit_signals_init(GError **error)
{
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };
    static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    for (unsigned i = 0; i < G_N_ELEMENTS(sigs); i++)
        if (sigaction(sigs[i], &sa, NULL))
            return vireo_fail_errno(error, errno, "cannot handle signal %d", sigs[i]);
    return true;
}

/* ---- events ---- */

void jit_raise_outside(struct jit_cpu *cpu)
{
    siglongjmp(cpu->vcpu->outside, 1);
}

static void log_event(struct jit_cpu *cpu)
{
    static const char *const kinds[] = { "fault", "soft int", "soft exception", "icebp", "external", "nmi" };
    log_write(LOG_INT, "%u: %s %u error %x at %x:%" G_GINT64_MODIFIER "x cpl %u rsp %" G_GINT64_MODIFIER "x cr2 %" G_GINT64_MODIFIER
              "x rax %" G_GINT64_MODIFIER "x flags %" G_GINT64_MODIFIER "x mode %x", cpu->index, kinds[cpu->exception_event],
              cpu->exception_vector, cpu->exception_has_error ? cpu->exception_error : 0, cpu->s.seg[X86_CS].sel, cpu->s.rip,
              JIT_MODE_CPL(cpu->mode), cpu->s.gpr[X86_RSP], cpu->s.cr2, cpu->s.gpr[X86_RAX], jit_get_rflags(cpu), cpu->mode);
}

/* Delivers what exception_* describes; a fault on the way takes its place. False: triple fault. */
static bool deliver(struct jit_vcpu *v)
{
    struct jit_cpu *cpu = v->cpu;
    for (;;) {
        if (sigsetjmp(v->outside, 0) == 0) {
            if (log_on(LOG_INT))
                log_event(cpu);
            return x86_deliver(cpu, (enum jit_event)cpu->exception_event, cpu->exception_vector, cpu->exception_has_error,
                               cpu->exception_error, cpu->exception_next_len);
        }
        /* jit_raise came here with exception_* describing the fault; x86_deliver knows what it was doing */
    }
}

static bool deliver_external(struct jit_vcpu *v, enum jit_event event, unsigned vector)
{
    struct jit_cpu *cpu = v->cpu;
    cpu->exception_event = event;
    cpu->exception_vector = vector;
    cpu->exception_has_error = false;
    cpu->exception_error = 0;
    cpu->exception_next_len = 0;
    return deliver(v);
}

static bool finish_exception(struct jit_vcpu *v)
{
    struct jit_cpu *cpu = v->cpu;
    cpu->s.activity = X86_RUNNING;
    cpu->exception_event = JIT_EV_FAULT;
    cpu->exception_vector = cpu->s.exception_vector;
    cpu->exception_has_error = cpu->s.exception_has_error;
    cpu->exception_error = cpu->s.exception_error;
    cpu->exception_next_len = 0;
    return deliver(v);
}

/* An event whose delivery another accelerator had begun, or that was about to come, when it gave the state away: comes before anything
 * else. Software interrupts and exceptions are not delivered: rip is still at their instruction, which does it again. False: triple
 * fault. */
static bool finish_event(struct jit_vcpu *v)
{
    struct jit_cpu *cpu = v->cpu;
    struct x86_state *s = &cpu->s;
    if (s->triple_fault_pending) {
        s->triple_fault_pending = 0;
        return false;
    }
    if (s->exception_pending) {
        bool soft = s->exception_vector == X86_BP || s->exception_vector == X86_OF;
        s->exception_pending = 0;
        if (!soft && !finish_exception(v))
            return false;
    }
    if (s->nmi_injected) {
        s->nmi_injected = 0;
        s->activity = X86_RUNNING;
        if (!deliver_external(v, JIT_EV_NMI, X86_NMI))
            return false;
    }
    if (s->interrupt_injected) {
        s->interrupt_injected = 0;
        if (s->interrupt_soft)
            return true;
        s->activity = X86_RUNNING;
        return deliver_external(v, JIT_EV_EXTERNAL, s->interrupt_vector);
    }
    return true;
}

/* Looks at everything that may be pending. False: triple fault. *ret_kicked: the caller wants us. */
static bool attend(struct jit_vcpu *v, bool *ret_kicked)
{
    struct jit_cpu *cpu = v->cpu;
    *ret_kicked = false;
    atomic_store(&cpu->attention, 0);
    uint32_t p = atomic_load(&cpu->pending);
    if (p & JIT_PEND_KICK) {
        atomic_fetch_and(&cpu->pending, ~JIT_PEND_KICK);
        if (p & ~JIT_PEND_KICK)
            atomic_store(&cpu->attention, 1);
        *ret_kicked = true;
        return true;
    }
    if (p & JIT_PEND_TLB) {
        atomic_fetch_and(&cpu->pending, ~JIT_PEND_TLB);
        jit_tlb_flush(cpu);
    }
    if (cpu->s.interrupt_shadow)
        return true;
    if ((p & JIT_PEND_NMI) && !cpu->s.nmi_blocked) {
        atomic_fetch_and(&cpu->pending, ~JIT_PEND_NMI);
        cpu->s.activity = X86_RUNNING;
        return deliver_external(v, JIT_EV_NMI, X86_NMI);
    }
    if ((p & JIT_PEND_INTR) && (cpu->s.rflags & X86_FL_IF)) {
        struct jit_machine *m = v->machine;
        uint64_t start = __builtin_ia32_rdtsc();
        int vector = m->bus.ack_interrupt(m->bus_opaque, cpu->index);
        if (vector >= 0)
            jit_exit_over(v, JIT_EXIT_INTERRUPT, start);
        if (vector >= 0) {
            cpu->s.activity = X86_RUNNING;
            return deliver_external(v, JIT_EV_EXTERNAL, (unsigned)vector);
        }
    }
    return true;
}

static bool has_work(const struct jit_cpu *cpu)
{
    uint32_t p = atomic_load(&((struct jit_cpu *)cpu)->pending);
    return (p & JIT_PEND_KICK) || (cpu->s.activity != X86_WAIT_SIPI &&
           (((p & JIT_PEND_NMI) && !cpu->s.nmi_blocked) || ((p & JIT_PEND_INTR) && (cpu->s.rflags & X86_FL_IF))));
}

/* ---- the loop ---- */

static int execute(struct jit_vcpu *v, struct jit_region *r)
{
    struct jit_cpu *cpu = v->cpu;
    jit_set_base(cpu, cpu->s.rip);
    if (r->ir)
        return sigsetjmp(v->outside, 0) ? v->outside_why : ir_interp(cpu, r->ir);
    cpu->in_code = 1;
    cpu->vec_saved = 0;
    int why = v->machine->thunks.enter(cpu, r->entry);
    cpu->vec_saved = 1;
    cpu->in_code = 0;
    return why;
}

static void empty_cache(struct jit_vcpu *v)
{
    struct jit_machine *m = v->machine;
    pthread_rwlock_unlock(&m->gate);
    /* One vCPU empties the cache. The others must not queue for writing as well: the first of them to run on would keep the rest
     * waiting for as long as it stays in guest code. */
    if (!atomic_exchange(&m->flushing, true)) {
        if (atomic_load(&m->want_flush)) {
            pthread_rwlock_wrlock(&m->gate);
            jit_cache_flush(m);
            pthread_rwlock_unlock(&m->gate);
        }
        atomic_store(&m->flushing, false);
    }
    pthread_rwlock_rdlock(&m->gate);
}

/* Called after attention was cleared and before guest code is entered: who wants the gate says so first and sets attention then, so
 * that it is either seen here or at the first look in guest code. */
static void stand_aside(struct jit_vcpu *v)
{
    struct jit_machine *m = v->machine;
    while (atomic_load(&m->want_gate)) { /* a reader is let in until the writer has queued */
        pthread_rwlock_unlock(&m->gate);
        pthread_rwlock_rdlock(&m->gate);
    }
    if (!atomic_load(&m->want_flush))
        return;
    for (unsigned i = 0; i < m->max_vcpus; i++)
        if (m->vcpus[i])
            atomic_store(&m->vcpus[i]->cpu->attention, 1);
    empty_cache(v);
}

static enum accel_exit loop(struct jit_vcpu *v)
{
    struct jit_cpu *cpu = v->cpu;
    bool kicked;
    for (;;) {
        if (atomic_load(&cpu->attention)) {
            if (!attend(v, &kicked))
                return ACCEL_EXIT_SHUTDOWN;
            if (kicked)
                return ACCEL_EXIT_KICKED;
        }
        stand_aside(v);
        if (cpu->s.activity != X86_RUNNING) {
            if (!has_work(cpu))
                return ACCEL_EXIT_HALT;
            atomic_store(&cpu->attention, 1);
            continue;
        }
        enum jit_leave leave;
        struct jit_region *r = jit_cache_get(cpu, cpu->s.rip, &leave);
        if (!r) {
            if (leave == JIT_LEAVE_EXCEPTION) {
                if (!deliver(v))
                    return ACCEL_EXIT_SHUTDOWN;
                continue;
            }
            if (leave == JIT_LEAVE_LOOKUP)
                continue; /* the cache is full: stand_aside */
            v->error = g_strdup_printf("the translator cannot translate the code at %" G_GINT64_MODIFIER "x", cpu->s.rip);
            return ACCEL_EXIT_ERROR;
        }
        if (log_on(LOG_EXEC))
            log_write(LOG_EXEC, "%u: enter %" G_GINT64_MODIFIER "x mode %x rsp %" G_GINT64_MODIFIER "x rax %" G_GINT64_MODIFIER "x",
                      cpu->index, cpu->s.rip, cpu->mode, cpu->s.gpr[X86_RSP], cpu->s.gpr[X86_RAX]);

        bool single = cpu->mode & JIT_MODE_SINGLE, shadow = cpu->mode & JIT_MODE_SHADOW;
        uint64_t start = cpu->s.rip;
        if (single) { /* must get through its one instruction: nothing may turn it away at the door */
            cpu->s.interrupt_shadow = 0;
            atomic_store(&cpu->attention, 0);
        }
        int why = execute(v, r);
        v->leaves[why & 15]++;
        if (single) {
            bool turned_away = why == JIT_LEAVE_ATTENTION && cpu->s.rip == start;
            if (turned_away && shadow)
                cpu->s.interrupt_shadow = 1;
            if (!turned_away)
                v->isolated = false;
            jit_mode_changed(cpu); /* also looks for what became pending meanwhile */
        }
        switch (why) {
        case JIT_LEAVE_LOOKUP:
        case JIT_LEAVE_ATTENTION:
            break;
        case JIT_LEAVE_EXCEPTION:
            cpu->bounce_desc = 0;
            if (!deliver(v))
                return ACCEL_EXIT_SHUTDOWN;
            break;
        case JIT_LEAVE_HALT:
            cpu->s.activity = X86_HALTED;
            break;
        case JIT_LEAVE_ISOLATED:
            cpu->bounce_desc = 0;
            v->isolated = true;
            jit_mode_changed(cpu);
            break;
        case JIT_LEAVE_SHUTDOWN:
            return ACCEL_EXIT_SHUTDOWN;
        default:
            v->error = g_strdup_printf("the translator left guest code at %" G_GINT64_MODIFIER "x for a reason it does not know (%d)",
                                       cpu->s.rip, why);
            return ACCEL_EXIT_ERROR;
        }
    }
}

/* vcpu_run returns: the time until it is called again is the exit's. */
static void leave_run(struct jit_vcpu *v, enum accel_exit e)
{
    static const uint8_t rows[] = { [ACCEL_EXIT_KICKED] = JIT_EXIT_KICK, [ACCEL_EXIT_HALT] = JIT_EXIT_HALT, [ACCEL_EXIT_SHUTDOWN] = JIT_EXIT_SHUTDOWN,
                                    [ACCEL_EXIT_ERROR] = JIT_EXIT_ERROR };
    v->left_why = rows[e];
    v->left_at = __builtin_ia32_rdtsc();
    __atomic_store_n(&v->exits[v->left_why].count, v->exits[v->left_why].count + 1, __ATOMIC_RELAXED);
}

static void enter_run(struct jit_vcpu *v)
{
    if (v->left_why == JIT_EXIT_NROWS)
        return;
    struct accel_exit_count *c = &v->exits[v->left_why];
    __atomic_store_n(&c->ticks, c->ticks + (__builtin_ia32_rdtsc() - v->left_at), __ATOMIC_RELAXED);
}

enum accel_exit jit_run(struct jit_vcpu *v)
{
    enter_run(v);
    struct jit_machine *m = v->machine;
    pthread_rwlock_rdlock(&m->gate);
    current_vcpu = v;
    uint8_t *fpu = v->fpu;
    uint8_t host_fpu[512] __attribute__((aligned(64)));
    __asm__ volatile("fxsave64 %0" : "=m"(host_fpu));
    /* only the x87 half matters: vector registers come from vec[] at each entry */
    __asm__ volatile("fxrstor64 %0" : : "m"(*(uint8_t(*)[512])fpu) : "memory");
    __asm__ volatile("ldmxcsr %0" : : "m"(*(uint32_t *)(host_fpu + 24)));
    v->in_run = true;
    if (sigsetjmp(v->outside, 0) != 0) {
        /* a fault outside delivery and outside generated code: only a defect of ours gets here */
        v->error = g_strdup("the translator raised an exception with no guest code running");
    }
    enum accel_exit e = v->error ? ACCEL_EXIT_ERROR : !finish_event(v) ? ACCEL_EXIT_SHUTDOWN : loop(v);
    v->in_run = false;
    __asm__ volatile("fxsave64 %0" : "=m"(*(uint8_t(*)[512])fpu) : : "memory");
    __asm__ volatile("fxrstor64 %0" : : "m"(host_fpu) : "memory");
    current_vcpu = NULL;
    pthread_rwlock_unlock(&m->gate);
    leave_run(v, e);
    return e;
}
