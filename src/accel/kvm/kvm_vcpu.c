/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU: the loop of entry, exit, answer and re-entry around KVM_RUN (4.10).
 *
 * Requests of other threads are bits of `pending`. The vCPU sets `in_run`, then looks at `pending` a last time and enters; who
 * asks sets `pending`, then looks at `in_run` and, if that is set, makes the kernel come back: kvm_run.immediate_exit for the
 * moment before the kernel looks at it, and a signal for after. Both orders are sequentially consistent, so none is lost. The
 * signal's handler does nothing; it is restarting, so that calls a device makes on this thread do not see it.
 *
 * An access to a port, to device memory or to an MSR that left the guest is only finished by the kernel in the next KVM_RUN. So
 * vcpu_run returns ACCEL_EXIT_KICKED only after a KVM_RUN with immediate_exit set has come back with nothing to answer: then
 * the registers are those between two instructions.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/error.h"

#define KICK_SIGNAL SIGUSR1

static void nothing(int sig)
{
}

bool kvm_vcpu_signals(GError **error)
{
    struct sigaction sa = { .sa_handler = nothing, .sa_flags = SA_RESTART };
    sigemptyset(&sa.sa_mask);
    if (sigaction(KICK_SIGNAL, &sa, NULL) < 0)
        return vireo_fail_errno(error, errno, "cannot install a signal handler");
    return true;
}

/* ---- requests ---- */

static void come_back(struct kvm_vcpu *v)
{
    if (!atomic_load(&v->in_run))
        return;
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int tid = atomic_load(&v->tid);
    if (tid)
        (void)syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
}

static void pend(struct kvm_vcpu *v, uint32_t what)
{
    if (!(atomic_fetch_or(&v->pending, what) & what))
        come_back(v);
}

void kvm_vcpu_kick(struct accel_vcpu *av)
{
    pend(kvm_vcpu_of(av), KVM_PEND_KICK);
}

void kvm_vcpu_interrupt(struct accel_vcpu *av, enum accel_irq irq, bool level)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    uint32_t what = irq == ACCEL_IRQ_INTR ? KVM_PEND_INTR : irq == ACCEL_IRQ_NMI ? KVM_PEND_NMI : KVM_PEND_SMI;
    if (irq == ACCEL_IRQ_SMI && !v->machine->caps.smm)
        return;
    if (level)
        pend(v, what);
    else
        atomic_fetch_and(&v->pending, ~what);
}

bool kvm_vcpu_has_work(struct accel_vcpu *av)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    uint32_t p = atomic_load(&v->pending);
    if (v->machine->irqchip != ACCEL_IRQCHIP_OFF || (p & (KVM_PEND_KICK | KVM_PEND_NMI | KVM_PEND_SMI)))
        return true;
    return (p & KVM_PEND_INTR) && v->run->if_flag;
}

/* ---- before and after ---- */

/* The external interrupt (4.16 KVM_INTERRUPT): given when the guest can take it, else the kernel is asked to come back when it can.
 * True: the line was up. */
static bool offer_interrupt(struct kvm_vcpu *v)
{
    struct kvm_machine *m = v->machine;
    bool waits = atomic_load(&v->pending) & KVM_PEND_INTR, up = waits;
    if (waits && v->run->ready_for_interrupt_injection) {
        int vector = m->bus.ack_interrupt(m->opaque, v->index);
        struct kvm_interrupt irq = { .irq = (uint32_t)vector };
        if (vector >= 0 && kvm_ioctl(v->fd, KVM_INTERRUPT, &irq) == 0)
            v->run->ready_for_interrupt_injection = 0;
        waits = atomic_load(&v->pending) & KVM_PEND_INTR; /* another one behind it */
        if (vector < 0)
            waits = false; /* nothing of sufficient priority; the line changes when that does */
    }
    v->run->request_interrupt_window = waits;
    return up;
}

/* True: nothing is left to do for the external interrupt before the guest runs. */
static bool before(struct kvm_vcpu *v)
{
    struct kvm_machine *m = v->machine;
    uint32_t p = atomic_load(&v->pending);
    if (p & KVM_PEND_NMI) {
        atomic_fetch_and(&v->pending, ~(uint32_t)KVM_PEND_NMI);
        (void)kvm_ioctl(v->fd, KVM_NMI, NULL);
    }
    if (p & KVM_PEND_SMI) {
        atomic_fetch_and(&v->pending, ~(uint32_t)KVM_PEND_SMI);
        (void)kvm_ioctl(v->fd, KVM_SMI, NULL);
    }
    if (m->irqchip == ACCEL_IRQCHIP_ON)
        return true;
    bool up = !(p & KVM_PEND_KICK) && offer_interrupt(v);
    if (m->irqchip == ACCEL_IRQCHIP_OFF) {
        v->tpr = (uint8_t)(m->bus.get_tpr(m->opaque, v->index) & 15);
        v->run->cr8 = v->tpr;
    }
    return up;
}

/* With the local APIC outside, the kernel's copies of its task priority and of its base register follow the guest's. */
static void after(struct kvm_vcpu *v)
{
    struct kvm_machine *m = v->machine;
    if (m->irqchip != ACCEL_IRQCHIP_OFF)
        return;
    if ((v->run->cr8 & 15) != v->tpr) {
        v->tpr = v->run->cr8 & 15;
        m->bus.set_tpr(m->opaque, v->index, v->tpr);
    }
    if (v->run->apic_base != v->apic_base) {
        v->apic_base = v->run->apic_base;
        (void)m->bus.msr_write(m->opaque, v->index, 0x1b, v->apic_base);
    }
}

/* ---- the loop ---- */

static enum accel_exit run_loop(struct kvm_vcpu *v)
{
    const uint32_t now = KVM_PEND_KICK | KVM_PEND_NMI | KVM_PEND_SMI;
    enum accel_exit exit;
    uint64_t left = 0;
    v->row = KVM_NROWS;
    for (;;) {
        bool offered = before(v);
        atomic_store(&v->in_run, true);
        uint32_t p = atomic_load(&v->pending);
        if ((p & now) || ((p & KVM_PEND_INTR) && !offered))
            __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
        if (v->row < KVM_NROWS)
            __atomic_store_n(&v->counts[v->row].ticks, v->counts[v->row].ticks + (__rdtsc() - left), __ATOMIC_RELAXED);
        int r = ioctl(v->fd, KVM_RUN, 0);
        int err = errno;
        left = __rdtsc();
        atomic_store_explicit(&v->in_run, false, memory_order_relaxed);
        after(v);
        kvm_coalesced_drain(v);
        if (r < 0) {
            v->row = KVM_ROW_KICK;
            __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            __atomic_store_n(&v->counts[v->row].count, v->counts[v->row].count + 1, __ATOMIC_RELAXED);
            if (err != EINTR && err != EAGAIN)
                return kvm_exit_failed(v, err);
            if (err == EINTR && (atomic_fetch_and(&v->pending, ~(uint32_t)KVM_PEND_KICK) & KVM_PEND_KICK))
                return ACCEL_EXIT_KICKED;
            continue;
        }
        bool leave = kvm_exit_handle(v, &exit);
        __atomic_store_n(&v->counts[v->row].count, v->counts[v->row].count + 1, __ATOMIC_RELAXED);
        if (leave) {
            __atomic_store_n(&v->counts[v->row].ticks, v->counts[v->row].ticks + (__rdtsc() - left), __ATOMIC_RELAXED);
            return exit;
        }
    }
}

/* seccomp(vcpu-kvm): ioctl(KVM_RUN KVM_INTERRUPT KVM_NMI KVM_SMI) */
enum accel_exit kvm_vcpu_run(struct accel_vcpu *av)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    static _Thread_local int tid; /* saves a call per run */
    if (!tid)
        tid = (int)syscall(SYS_gettid);
    if (atomic_load_explicit(&v->tid, memory_order_relaxed) != tid)
        atomic_store(&v->tid, tid);
    v->activity = X86_RUNNING;
    return run_loop(v);
}

const char *kvm_vcpu_error(struct accel_vcpu *av)
{
    return kvm_vcpu_of(av)->error;
}

/* ---- making one ---- */

void kvm_vcpu_destroy(struct accel_vcpu *av)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    if (!v)
        return;
    struct kvm_machine *m = v->machine;
    g_mutex_lock(&m->slots_lock); /* the rings are read under it */
    if (atomic_load(&m->vcpus[v->index]) == v)
        atomic_store(&m->vcpus[v->index], NULL);
    for (unsigned r = 0; r < KVM_NROWS; r++) {
        m->gone[r].count += v->counts[r].count;
        m->gone[r].ticks += v->counts[r].ticks;
    }
    g_mutex_unlock(&m->slots_lock);
    if (v->index == 0)
        atomic_store(&m->ring, NULL); /* it is in this mapping */
    if (v->ring)
        munmap(v->ring, m->ring_entries * sizeof(*v->ring));
    if (v->run)
        munmap(v->run, m->run_size);
    if (v->fd >= 0)
        close(v->fd);
    g_free(v->msr_shadow);
    g_free(v->error);
    g_free(v);
}

static bool map_run(struct kvm_vcpu *v, GError **error)
{
    struct kvm_machine *m = v->machine;
    v->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED) {
        v->run = NULL;
        return vireo_fail_errno(error, errno, "-accel kvm: cannot map vCPU %u", v->index);
    }
    if (!m->ring_entries)
        return true;
    v->ring = mmap(NULL, m->ring_entries * sizeof(*v->ring), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
    if (v->ring == MAP_FAILED) {
        v->ring = NULL;
        return vireo_fail_errno(error, errno, "-accel kvm: cannot map the dirty ring of vCPU %u", v->index);
    }
    return true;
}

/* The guest's TSC runs at the host's rate; where the model was made on another, the kernel scales, if the CPU can. */
static void set_tsc_rate(struct kvm_vcpu *v)
{
    uint64_t khz = v->machine->model->tsc_hz / 1000;
    int host = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
    if (v->machine->caps.tsc_control && khz && host > 0 && (khz > (uint64_t)host ? khz - (uint64_t)host : (uint64_t)host - khz) > (uint64_t)host / 4000)
        (void)kvm_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz);
}

/* Machine check banks as the translator's: four, and MCG_CTL (4.104 KVM_X86_SETUP_MCE). */
static void set_up_mce(struct kvm_vcpu *v)
{
    uint64_t cap = 4 | 1u << 8;
    if (v->machine->caps.mce && x86_model_has(v->machine->model, X86_FEAT_MCA))
        (void)kvm_ioctl(v->fd, KVM_X86_SETUP_MCE, &cap);
}

static bool first_state(struct kvm_vcpu *v, GError **error)
{
    struct x86_state s;
    memset(&s, 0, sizeof(s));
    x86_state_reset(&s, v->machine->model, v->index == 0, false);
    s.tsc_offset = 0 - __rdtsc();
    return kvm_set_state((struct accel_vcpu *)v, &s, error);
}

/* seccomp(main): ioctl(KVM_CREATE_VCPU KVM_GET_TSC_KHZ KVM_SET_TSC_KHZ KVM_X86_SETUP_MCE) */
struct accel_vcpu *kvm_vcpu_create(struct accel *a, unsigned index, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_vcpu *v = g_new0(struct kvm_vcpu, 1);
    v->machine = m;
    v->index = index;
    v->fd = ioctl(m->vm, KVM_CREATE_VCPU, (unsigned long)index);
    while (v->fd < 0 && errno == EINTR)
        v->fd = ioctl(m->vm, KVM_CREATE_VCPU, (unsigned long)index);
    if (v->fd < 0) {
        vireo_fail_errno(error, errno, "-accel kvm: cannot create vCPU %u of %u", index, m->max_vcpus);
        goto fail;
    }
    if (!map_run(v, error))
        goto fail;
    set_tsc_rate(v);
    set_up_mce(v);
    if (!kvm_cpuid_set(v, error) || !kvm_msr_vcpu_init(v, error) || !first_state(v, error))
        goto fail;
    int page = kvm_check(m->kvm, KVM_CAP_COALESCED_MMIO); /* 4.15: the ring's page within the mapping of any vCPU */
    if (page > 0 && (size_t)(page + 1) * 4096 <= m->run_size && index == 0) {
        m->ring_room = (4096 - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);
        atomic_store(&m->ring, (struct kvm_coalesced_mmio_ring *)((char *)v->run + page * 4096));
    }
    atomic_store(&m->vcpus[index], v);
    return (struct accel_vcpu *)v;
fail:
    kvm_vcpu_destroy((struct accel_vcpu *)v);
    return NULL;
}

/* ---- debugging (4.87 KVM_SET_GUEST_DEBUG) ---- */

/* seccomp(main, vcpu-kvm): ioctl(KVM_SET_GUEST_DEBUG) */
bool kvm_vcpu_debug(struct accel_vcpu *av, const struct accel_debug *d, GError **error)
{
    static const uint8_t lengths[9] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 }; /* LEN of DR7, SDM vol. 3, 17.2.4 */
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    struct kvm_guest_debug g = { 0 };
    if (!v->machine->caps.debug)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel cannot debug guests (KVM_CAP_SET_GUEST_DEBUG)");
    if (d->nbreakpoints > 4)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the CPU has four breakpoint registers, not %u", d->nbreakpoints);
    if (d->single_step)
        g.control |= KVM_GUESTDBG_SINGLESTEP;
    if (d->software_breakpoints)
        g.control |= KVM_GUESTDBG_USE_SW_BP;
    if (d->nbreakpoints)
        g.control |= KVM_GUESTDBG_USE_HW_BP;
    if (g.control)
        g.control |= KVM_GUESTDBG_ENABLE;
    g.arch.debugreg[7] = 0x400 | (d->nbreakpoints ? 1u << 9 : 0); /* GE */
    for (unsigned i = 0; i < d->nbreakpoints; i++) {
        const struct accel_breakpoint *b = &d->breakpoints[i];
        if ((b->type != 0 && b->type != 1 && b->type != 3) || (b->size != 1 && b->size != 2 && b->size != 4 && b->size != 8))
            return vireo_fail(error, VIREO_ERROR_INVALID, "a breakpoint is for execution, writing or access, of 1, 2, 4 or 8 bytes");
        g.arch.debugreg[i] = b->address;
        g.arch.debugreg[7] |= 2ull << (2 * i) | (uint64_t)b->type << (16 + 4 * i) | (uint64_t)(b->type ? lengths[b->size] : 0) << (18 + 4 * i);
    }
    if (kvm_ioctl(v->fd, KVM_SET_GUEST_DEBUG, &g) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot set breakpoints");
    return true;
}
