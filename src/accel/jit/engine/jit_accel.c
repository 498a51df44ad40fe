/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator behind accel.h.
 */
#include "accel/jit/engine/jit_engine.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/log.h"

static int jit_probe_host(const char *device, GError **error)
{
    if (!host_supported()) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED,
                   "-accel jit: this host's CPU lacks SSE4.2, POPCNT or BMI2, which the translator's code needs");
        return 0;
    }
    return 2;
}

static void jit_features(const char *device, uint64_t *ret_features) { x86_jit_features(ret_features); }

static struct jit_machine *machine_of(struct accel *a) { return (struct jit_machine *)a; }
static struct jit_vcpu *vcpu_of(struct accel_vcpu *v) { return (struct jit_vcpu *)v; }

/* Both kinds of marks are one mapping. */
static void free_marks(const struct jit_slot *s)
{
    munmap((void *)s->has_code, jit_marks_size(s->size) * 2);
}

static void jit_destroy(struct accel *a)
{
    struct jit_machine *m = machine_of(a);
    if (!m)
        return;
    jit_cache_finish(m);
    struct jit_slots *s = atomic_load(&m->slots);
    for (unsigned i = 0; s && i < s->n; i++)
        free_marks(&s->slot[i]);
    g_free(s);
    g_ptr_array_unref(m->old_slots);
    g_free(m->vcpus);
    pthread_rwlock_destroy(&m->gate);
    g_mutex_clear(&m->lock);
    g_free(m);
}

static struct accel *jit_create(const struct accel_config *c, GError **error)
{
    struct jit_machine *m = g_new0(struct jit_machine, 1);
    m->bus = *c->bus;
    m->bus_opaque = c->opaque;
    m->model = c->model;
    m->max_vcpus = c->max_vcpus;
    /* APIC ids are vCPU numbers without gaps: levels that are no powers of two cannot be shown. */
    m->topo = (struct x86_cpu_topology){ 0, c->sockets, c->cores, c->threads };
    if ((c->cores & (c->cores - 1)) || (c->threads & (c->threads - 1)))
        m->topo = (struct x86_cpu_topology){ 0, 1, c->max_vcpus, 1 };
    m->tsc_offset = -__builtin_ia32_rdtsc(); /* the guest's clock starts at 0, the same on all vCPUs */
    m->vcpus = g_new0(struct jit_vcpu *, c->max_vcpus);
    m->old_slots = g_ptr_array_new_with_free_func(g_free);
    g_mutex_init(&m->lock);
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&m->gate, &attr);
    pthread_rwlockattr_destroy(&attr);
    atomic_store(&m->slots, g_new0(struct jit_slots, 1));
    if (!jit_cache_init(m, error) || !jit_signals_init(error)) {
        jit_destroy((struct accel *)m);
        return NULL;
    }
    return (struct accel *)m;
}

static void slots_publish(struct jit_machine *m, struct jit_slots *s)
{
    g_ptr_array_add(m->old_slots, atomic_load(&m->slots)); /* a vCPU may still be reading it */
    atomic_store_explicit(&m->slots, s, memory_order_release);
}

static bool jit_map_ram(struct accel *a, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error)
{
    struct jit_machine *m = machine_of(a);
    const struct jit_slots *old = atomic_load(&m->slots);
    if (old->n == JIT_MAX_SLOTS)
        return vireo_fail(error, VIREO_ERROR_FAILED, "more than %d pieces of guest memory", JIT_MAX_SLOTS);
    uint8_t *has_code = mmap(NULL, jit_marks_size(size) * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (has_code == MAP_FAILED)
        return vireo_fail_errno(error, errno, "cannot get memory to watch guest pages");
    struct jit_slots *s = g_memdup2(old, sizeof(*old));
    unsigned at = s->n++;
    /* the largest first: it is asked for most */
    while (at > 0 && s->slot[at - 1].size < size) {
        s->slot[at] = s->slot[at - 1];
        at--;
    }
    s->slot[at] = (struct jit_slot){ gpa, size, host, readonly, (_Atomic uint8_t *)has_code, readonly ? NULL : (_Atomic uint8_t *)has_code + jit_marks_size(size) };
    slots_publish(m, s);
    return true;
}

static void flush_all_later(struct jit_machine *m)
{
    for (unsigned i = 0; i < m->max_vcpus; i++)
        if (m->vcpus[i]) {
            atomic_fetch_or(&m->vcpus[i]->cpu->pending, JIT_PEND_TLB);
            atomic_store(&m->vcpus[i]->cpu->attention, 1);
        }
}

static void jit_unmap_ram(struct accel *a, uint64_t gpa, uint64_t size)
{
    struct jit_machine *m = machine_of(a);
    jit_cache_invalidate(m, gpa, size, NULL);
    const struct jit_slots *old = atomic_load(&m->slots);
    struct jit_slots *s = g_new0(struct jit_slots, 1);
    for (unsigned i = 0; i < old->n; i++)
        if (old->slot[i].gpa != gpa || old->slot[i].size != size)
            s->slot[s->n++] = old->slot[i];
    slots_publish(m, s);
    flush_all_later(m);
}

static void jit_ram_written(struct accel *a, uint64_t gpa, uint64_t size)
{
    struct jit_machine *m = machine_of(a);
    for (uint64_t page = gpa & ~0xfffull; atomic_load(&m->log_dirty) && page < gpa + size; page += 0x1000) {
        const struct jit_slot *s = jit_slot_of(m, page);
        if (s)
            jit_mark_dirty(m, s, page);
    }
    for (uint64_t page = gpa & ~0xfffull; page < gpa + size; page += 0x1000) {
        const struct jit_slot *s = jit_slot_of(m, page);
        if (s && atomic_load(&s->has_code[(page - s->gpa) >> 12])) {
            jit_cache_invalidate(m, gpa, size, NULL);
            return;
        }
    }
}

static void jit_vcpu_destroy(struct accel_vcpu *av)
{
    struct jit_vcpu *v = vcpu_of(av);
    if (!v)
        return;
    v->machine->vcpus[v->cpu->index] = NULL;
    munmap(v->mapping, v->mapping_size);
    g_free(v->error);
    free(v);
}

static struct accel_vcpu *jit_vcpu_create(struct accel *a, unsigned index, GError **error)
{
    struct jit_machine *m = machine_of(a);
    size_t cpu_size = (sizeof(struct jit_cpu) + 4095) & ~4095ul, guard = 4096;
    size_t size = guard + JIT_STACK_SIZE + cpu_size;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct jit_vcpu *v = aligned_alloc(64, (sizeof(*v) + 63) & ~63ul);
    if (p == MAP_FAILED || !v) {
        vireo_fail_errno(error, ENOMEM, "cannot get memory for vCPU %u", index);
        if (p != MAP_FAILED)
            munmap(p, size);
        free(v);
        return NULL;
    }
    mprotect(p, guard, PROT_NONE);
    memset(v, 0, sizeof(*v));
    v->mapping = p;
    v->mapping_size = size;
    v->machine = m;
    v->left_why = JIT_EXIT_NROWS;
    v->cpu = (struct jit_cpu *)(p + guard + JIT_STACK_SIZE);
    struct jit_cpu *cpu = v->cpu;
    cpu->machine = m;
    cpu->model = m->model;
    cpu->index = index;
    cpu->topo = m->topo;
    cpu->topo.index = index;
    cpu->vcpu = v;
    cpu->vec_saved = 1;
    cpu->mxcsr_mask = 0xffff;
    for (unsigned i = 0; i < JIT_JUMPS; i++)
        cpu->jumps[i].key = ~0ull >> 1;
    jit_tlb_init(cpu);
    struct x86_state *s = g_new0(struct x86_state, 1);
    x86_state_reset(s, m->model, index == 0, false);
    s->tsc_offset = m->tsc_offset;
    x86_state_in(cpu, s);
    memcpy(v->fpu, cpu->s.xsave, 512); /* which x86_state_in has checked: FXRSTOR will not fault */
    g_free(s);
    m->vcpus[index] = v;
    jit_mode_changed(cpu);
    return (struct accel_vcpu *)v;
}

static enum accel_exit jit_vcpu_run(struct accel_vcpu *av) { return jit_run(vcpu_of(av)); }
static const char *jit_vcpu_error(struct accel_vcpu *av) { return vcpu_of(av)->error; }

static void pend(struct jit_cpu *cpu, uint32_t what)
{
    atomic_fetch_or(&cpu->pending, what);
    atomic_store(&cpu->attention, 1);
}

static void jit_vcpu_kick(struct accel_vcpu *av) { pend(vcpu_of(av)->cpu, JIT_PEND_KICK); }

static void jit_vcpu_interrupt(struct accel_vcpu *av, enum accel_irq irq, bool level)
{
    struct jit_cpu *cpu = vcpu_of(av)->cpu;
    if (irq == ACCEL_IRQ_SMI)
        return;
    uint32_t what = irq == ACCEL_IRQ_NMI ? JIT_PEND_NMI : JIT_PEND_INTR;
    if (level)
        pend(cpu, what);
    else
        atomic_fetch_and(&cpu->pending, ~what);
}

static bool jit_vcpu_has_work(struct accel_vcpu *av)
{
    struct jit_cpu *cpu = vcpu_of(av)->cpu;
    uint32_t p = atomic_load(&cpu->pending);
    if (p & JIT_PEND_KICK)
        return true;
    if (cpu->s.activity == X86_WAIT_SIPI)
        return false;
    if (cpu->s.nmi_injected || cpu->s.interrupt_injected || cpu->s.exception_pending || cpu->s.triple_fault_pending)
        return true;
    return cpu->s.activity == X86_RUNNING || ((p & JIT_PEND_NMI) && !cpu->s.nmi_blocked) ||
           ((p & JIT_PEND_INTR) && (cpu->s.rflags & X86_FL_IF));
}

static void jit_get_state(struct accel_vcpu *av, struct x86_state *ret)
{
    struct jit_vcpu *v = vcpu_of(av);
    x86_state_out(v->cpu, ret);
    if (!v->in_run)
        memcpy(ret->xsave, v->fpu, 160); /* x87 half of the FXSAVE image: the header and ST0-7; XMM come from vec[] */
    memcpy(ret->xsave + 24, &v->cpu->mxcsr, 4);
    ret->cr8 = v->machine->bus.get_tpr(v->machine->bus_opaque, v->cpu->index);
    ret->nmi_pending = (atomic_load(&v->cpu->pending) & JIT_PEND_NMI) != 0;
}

/* State that only another accelerator can give a guest is refused, not dropped. */
static bool representable(const struct x86_state *s, GError **error)
{
    for (unsigned i = 0; i < MIN(s->nmsrs, X86_MSRS_MAX); i++) {
        if (s->msrs[i].value)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest uses MSR %#x (value %#" G_GINT64_MODIFIER "x), which the translator does not "
                              "have; start it with a -cpu that does not offer what it stands for (kvmclock: -cpu ...,-kvmclock)",
                              s->msrs[i].index, s->msrs[i].value);
    }
    if (s->nested_size)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest runs guests of its own, which the translator cannot do; use -cpu ...,-svm,-vmx");
    if (s->smm || s->smi_pending)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest is in system management mode, which the translator does not have; try again later");
    return true;
}

static bool jit_set_state(struct accel_vcpu *av, const struct x86_state *s, GError **error)
{
    struct jit_vcpu *v = vcpu_of(av);
    if (!representable(s, error))
        return false;
    x86_state_in(v->cpu, s);
    memcpy(v->fpu, v->cpu->s.xsave, 512);
    v->isolated = false;
    jit_tlb_flush(v->cpu);
    jit_mode_changed(v->cpu);
    if (s->nmi_pending)
        pend(v->cpu, JIT_PEND_NMI);
    return true;
}

static char *jit_stats(struct accel *a)
{
    struct jit_machine *m = machine_of(a);
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "jit: %" G_GUINT64_FORMAT " guest instructions in %" G_GUINT64_FORMAT " regions translated to %zu KiB, %"
                           G_GUINT64_FORMAT " invalidated, %" G_GUINT64_FORMAT " flushes", m->translated_insns, m->translated_regions,
                           (size_t)(m->cache_next - m->cache_start) >> 10, m->invalidated, m->flushes);
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        struct jit_vcpu *v = m->vcpus[i];
        if (v)
            g_string_append_printf(s, "\njit: CPU %u: TLB fills %" G_GUINT64_FORMAT ", look-ups %" G_GUINT64_FORMAT " (%" G_GUINT64_FORMAT
                                   " slow), leaves: lookup %" G_GUINT64_FORMAT " attention %" G_GUINT64_FORMAT " exception %" G_GUINT64_FORMAT
                                   " halt %" G_GUINT64_FORMAT " isolated %" G_GUINT64_FORMAT, i, v->tlb_fills, v->lookups, v->slow_lookups,
                                   v->leaves[JIT_LEAVE_LOOKUP], v->leaves[JIT_LEAVE_ATTENTION], v->leaves[JIT_LEAVE_EXCEPTION],
                                   v->leaves[JIT_LEAVE_HALT], v->leaves[JIT_LEAVE_ISOLATED]);
    }
    return g_string_free(s, FALSE);
}

static void jit_trim(struct accel *a) { jit_cache_trim(machine_of(a)); }
static const struct accel_exit_reason exit_reasons[JIT_EXIT_NROWS] = {
#define X(id, name, help) { name, help },
    JIT_EXIT_ROWS(X)
#undef X
};

static const struct accel_exit_count *jit_vcpu_exits(struct accel_vcpu *av)
{
    return vcpu_of(av)->exits;
}

const struct accel_ops accel_jit = {
    .name = "jit",
    .help = "Vireo's own translator: runs on any x86-64 host, without hardware virtualization",
    .probe = jit_probe_host,
    .features = jit_features,
    .create = jit_create,
    .destroy = jit_destroy,
    .map_ram = jit_map_ram,
    .unmap_ram = jit_unmap_ram,
    .ram_written = jit_ram_written,
    .vcpu_create = jit_vcpu_create,
    .vcpu_destroy = jit_vcpu_destroy,
    .vcpu_run = jit_vcpu_run,
    .vcpu_error = jit_vcpu_error,
    .vcpu_kick = jit_vcpu_kick,
    .vcpu_interrupt = jit_vcpu_interrupt,
    .vcpu_has_work = jit_vcpu_has_work,
    .vcpu_get_state = jit_get_state,
    .vcpu_set_state = jit_set_state,
    .stats = jit_stats,
    .trim = jit_trim,
    .dirty_start = jit_dirty_start,
    .dirty_stop = jit_dirty_stop,
    .dirty_read = jit_dirty_read,
    .exit_reasons = exit_reasons,
    .nexit_reasons = JIT_EXIT_NROWS,
    .vcpu_exits = jit_vcpu_exits,
};
