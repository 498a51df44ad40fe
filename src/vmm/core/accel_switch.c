/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts a machine that stands still onto another accelerator. The new one is made beside the old one and given all state; only when
 * it has taken everything does it take over, and the old one ends. Until then nothing of the old one has changed.
 */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/machine_private.h"

struct side {
    const struct accel_ops *ops;
    struct accel *accel;
    enum accel_irqchip irqchip;
    struct accel_vcpu **vcpus; /* by index, those of parked vCPUs included */
};

static struct vcpu *vcpu_of(struct machine *m, unsigned i)
{
    return m->vcpus[i] ? m->vcpus[i] : ((struct machine_impl *)m)->parked[i];
}

static bool check_features(const struct machine *m, const struct accel_ops *ops, GError **error)
{
    uint64_t have[(X86_NFEATURES + 63) / 64] = { 0 };
    g_autoptr(GString) lacks = g_string_new(NULL);
    if (ops->features)
        ops->features(m->config->accel_device, have);
    for (unsigned f = 0; f < X86_NFEATURES; f++) {
        if (x86_model_has(m->cpu_model, f) && !(have[f / 64] >> f % 64 & 1))
            g_string_append_printf(lacks, "%s%s", lacks->len ? ", " : "", x86_feature_name(f));
    }
    return !lacks->len || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the accelerator %s lacks features of this machine's CPU: %s; start the machine with "
                                     "a -cpu that is without them", ops->name, lacks->str);
}

static void side_end(struct machine *m, struct side *s)
{
    for (unsigned i = 0; s->vcpus && i < m->max_vcpus; i++) {
        if (s->vcpus[i])
            s->ops->vcpu_destroy(s->vcpus[i]);
    }
    if (s->accel)
        s->ops->destroy(s->accel);
    g_free(s->vcpus);
}

static bool side_make(struct machine *m, struct side *s, GError **error)
{
    s->accel = machine_make_accel(m, s->ops, m->cpu_model, error);
    if (!s->accel || !guest_memory_show(m->memory, s->ops, s->accel, error))
        return false;
    s->irqchip = machine_irqchip_of(s->ops, s->accel);
    s->vcpus = g_new0(struct accel_vcpu *, m->max_vcpus);
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (vcpu_of(m, i) && !(s->vcpus[i] = s->ops->vcpu_create(s->accel, i, error)))
            return false;
    }
    return true;
}

/* The machine's own pointers; everything that is not a vCPU or interrupt controller follows them. */
static struct side use(struct machine *m, const struct side *s)
{
    struct side old = { m->accel_ops, m->accel, m->irqchip, g_new0(struct accel_vcpu *, m->max_vcpus) };
    m->accel_ops = s->ops;
    m->accel = s->accel;
    m->irqchip = s->irqchip;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (vcpu_of(m, i))
            old.vcpus[i] = vcpu_swap_accel(vcpu_of(m, i), s->vcpus[i]);
    }
    guest_memory_use(m->memory, s->ops, s->accel);
    return old;
}

static bool copy_vcpus(struct machine *m, const struct side *to, const struct irqchip_state *chips, struct vcpu_activity *ret, GError **error)
{
    struct x86_state state, *s = &state;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (!m->vcpus[i])
            continue;
        vcpu_get_state(m->vcpus[i], s);
        s->cr8 = chips->lapic[i].regs[8] >> 4 & 15; /* the task priority register is the local APIC's */
        if (!to->ops->vcpu_set_state(to->vcpus[i], s, error))
            return false;
        ret[i] = (struct vcpu_activity){ s->activity, s->sipi_vector };
        if (i == 0)
            m->tsc_offset = s->tsc_offset;
    }
    return true;
}

static void log_switch(const struct machine *m, const struct side *old, gint64 started)
{
    log_at(LOG_ACCEL, "accelerator %s: takes over from %s after %lld us", m->accel_ops->name, old->ops->name,
           (long long)(g_get_monotonic_time() - started));
}

/* Gate held for writing: no device raises an interrupt. On failure the old accelerator goes on. */
static bool take_over(struct machine *m, struct side *new, struct side *ret_old, GError **error)
{
    g_autofree struct irqchip_state *chips = irqchip_read(m);
    g_autofree struct vcpu_activity *activity = g_new0(struct vcpu_activity, m->max_vcpus);
    uint64_t tsc_offset = m->tsc_offset;
    if (!copy_vcpus(m, new, chips, activity, error)) {
        m->tsc_offset = tsc_offset;
        return false;
    }
    *ret_old = use(m, new);
    if (!irqchip_write(m, chips, error)) {
        struct side back = use(m, ret_old);
        g_free(back.vcpus);
        g_free(ret_old->vcpus);
        m->tsc_offset = tsc_offset;
        return false;
    }
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_adopt_activity(m->vcpus[i], &activity[i]);
    }
    if (m->chips.quiet)
        m->chips.quiet(m);
    return true;
}

bool machine_switch_accel(struct machine *m, const char *name, GError **error)
{
    struct machine_impl *impl = (struct machine_impl *)m;
    gint64 started = g_get_monotonic_time();
    g_autofree char *why = NULL;
    struct side new = { 0 }, old = { 0 };
    if (m->state == MACHINE_RUNNING)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the machine runs; stop it first (QMP stop)");
    if (m->dirty_log)
        return vireo_fail(error, VIREO_ERROR_BUSY, "the log of written pages is on; stop it first (x-dirty-log-stop)");
    if (!sandbox_may_open("another accelerator", error) || !(new.ops = accel_find(name, m->config->accel_device, &why, error)) || !check_features(m, new.ops, error))
        return false;
    if (!side_make(m, &new, error)) {
        side_end(m, &new);
        return false;
    }
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_settle(m->vcpus[i]);
    }
    machine_run_hooks(m, HOOK_ACCEL_LEAVE);
    g_rw_lock_writer_lock(&impl->gate);
    bool ok = take_over(m, &new, &old, error);
    g_rw_lock_writer_unlock(&impl->gate);
    if (ok)
        irqchip_coalesce_again(m);
    machine_run_hooks(m, HOOK_ACCEL_ENTER);
    if (!ok) {
        side_end(m, &new);
        return false;
    }
    log_switch(m, &old, started);
    g_free(new.vcpus);
    side_end(m, &old);
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_rename(m->vcpus[i]);
    }
    return true;
}
