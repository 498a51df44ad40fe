/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run state of a machine. Other threads leave requests under `lock` and wake the main loop; `process` takes them all and
 * acts, in an order that lets the strongest win: exit, shutdown, reset, stop, powerdown.
 */
#include "vmm/core/core_dump.h"
#include "vmm/core/machine.h"

#include <string.h>
#include <x86intrin.h>

#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/throttle.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"
#include "vmm/core/device.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/machine_private.h"
#include "vmm/core/numa.h"
#include "vmm/core/object.h"

static struct machine_impl *impl(struct machine *m)
{
    return (struct machine_impl *)m;
}

const char *machine_state_name(enum machine_state s)
{
    static const char *const names[] = {
        [MACHINE_PRELAUNCH] = "prelaunch", [MACHINE_RUNNING] = "running", [MACHINE_PAUSED] = "paused", [MACHINE_SHUTDOWN] = "shutdown",
        [MACHINE_INMIGRATE] = "inmigrate", [MACHINE_FINISH_MIGRATE] = "finish-migrate", [MACHINE_POSTMIGRATE] = "postmigrate",
        [MACHINE_SAVE_VM] = "save-vm", [MACHINE_RESTORE_VM] = "restore-vm", [MACHINE_IO_ERROR] = "io-error", [MACHINE_GUEST_PANICKED] = "guest-panicked", [MACHINE_INTERNAL_ERROR] = "internal-error",
    };
    return s < G_N_ELEMENTS(names) ? names[s] : "internal-error";
}

const char *machine_cause_name(enum machine_cause c)
{
    static const char *const names[] = {
        [CAUSE_NONE] = "none", [CAUSE_HOST_QMP_QUIT] = "host-qmp-quit", [CAUSE_HOST_QMP_SYSTEM_RESET] = "host-qmp-system-reset",
        [CAUSE_HOST_SIGNAL] = "host-signal", [CAUSE_HOST_UI] = "host-ui", [CAUSE_GUEST_SHUTDOWN] = "guest-shutdown",
        [CAUSE_GUEST_RESET] = "guest-reset", [CAUSE_GUEST_PANIC] = "guest-panic", [CAUSE_HOST_ERROR] = "host-error",
    };
    return c < G_N_ELEMENTS(names) ? names[c] : "none";
}

static void io_error_free(void *opaque)
{
    struct block_io_error *e = opaque;
    g_free((char *)e->device);
    g_free((char *)e->node);
    g_free((char *)e->operation);
    g_free((char *)e->action);
    g_free((char *)e->reason);
    g_free(e);
}

static void config_free(struct machine_config *c)
{
    if (!c)
        return;
    g_free(c->name);
    g_free(c->uuid);
    g_free(c->bios);
    g_free(c->boot_order);
    g_free(c->cpu_spec);
    g_free(c->accel_name);
    g_free(c->accel_device);
    g_free(c->kernel);
    g_free(c->initrd);
    g_free(c->append);
    g_free(c->memory_backend);
    g_free(c->mem_path);
    if (c->globals)
        g_ptr_array_unref(c->globals);
    keyval_free(c->smbios);
    g_free(c);
}

struct machine *machine_create(struct machine_config *config)
{
    struct machine_impl *i = g_new0(struct machine_impl, 1);
    struct machine *m = &i->machine;
    g_mutex_init(&i->lock);
    g_rw_lock_init(&i->gate);
    i->coalesced = g_array_new(FALSE, FALSE, sizeof(struct coalesced));
    i->requests.io_errors = g_ptr_array_new_with_free_func(io_error_free);
    m->config = config;
    m->memory = guest_memory_create();
    m->objects = g_ptr_array_new();
    m->secrets = secrets_create();
    m->throttle = throttle_groups_create();
    m->ram = g_array_new(FALSE, FALSE, sizeof(struct ram_piece));
    m->numa = g_new0(struct numa, 1);
    m->memory_devices = g_ptr_array_new();
    m->cancel_fd = -1;
    m->clock = vclock_create();
    m->devices = g_ptr_array_new();
    m->drives = g_hash_table_new(g_str_hash, g_str_equal);
    m->netdevs = g_hash_table_new(g_str_hash, g_str_equal);
    m->chardevs = g_hash_table_new(g_str_hash, g_str_equal);
    m->listeners = g_array_new(FALSE, FALSE, sizeof(struct machine_listener));
    m->state = MACHINE_PRELAUNCH;
    m->loop = g_main_loop_new(NULL, FALSE);
    return m;
}

static void later_free(void *opaque);

static void destroy_vcpus(struct machine *m)
{
    for (unsigned n = m->max_vcpus; n-- > 0;) {
        vcpu_destroy(m->vcpus[n]);
        vcpu_destroy(impl(m)->parked[n]);
    }
    g_clear_pointer(&m->vcpus, g_free);
    g_clear_pointer(&impl(m)->parked, g_free);
    m->nvcpus = m->max_vcpus = 0;
}

void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    struct machine_impl *i = impl(m);
    if (m->state == MACHINE_RUNNING)
        machine_stop(m, MACHINE_SHUTDOWN);
    dirty_log_finish(m);
    core_dump_finish(m);
    destroy_vcpus(m); /* first: no vCPU may enter a device that goes away */
    while (m->devices->len)
        device_destroy(g_ptr_array_index(m->devices, m->devices->len - 1));
    if (m->board_destroy)
        m->board_destroy(m);
    if (m->display)
        m->display_destroy(m->display);
    if (m->accel) {
        char *stats = log_on(LOG_ACCEL) && m->accel_ops->stats ? m->accel_ops->stats(m->accel) : NULL;
        if (stats)
            log_at(LOG_ACCEL, "%s", stats);
        g_free(stats);
        m->accel_ops->destroy(m->accel);
    }
    while (g_idle_remove_by_data(i))
        ;
    g_queue_clear_full(&i->later, later_free);
    vclock_destroy(m->clock);
    guest_memory_destroy(m->memory);
    m->ending = true;
    object_destroy_all(m);
    g_ptr_array_free(m->objects, TRUE);
    secrets_destroy(m->secrets);
    throttle_groups_destroy(m->throttle);
    g_ptr_array_free(m->memory_devices, TRUE);
    g_array_free(m->ram, TRUE);
    g_free(m->numa);
    g_ptr_array_free(m->devices, TRUE);
    g_hash_table_destroy(m->drives);
    g_hash_table_destroy(m->netdevs);
    g_hash_table_destroy(m->chardevs);
    if (m->audiodevs)
        g_hash_table_destroy(m->audiodevs);
    g_array_free(m->listeners, TRUE);
    g_main_loop_unref(m->loop);
    if (m->cpu_model)
        x86_cpu_model_free(m->cpu_model);
    g_free(m->cpu_supported);
    config_free(m->config);
    g_ptr_array_free(i->requests.io_errors, TRUE);
    g_array_free(i->coalesced, TRUE);
    if (m->hooks)
        g_array_free(m->hooks, TRUE);
    g_rw_lock_clear(&i->gate);
    g_mutex_clear(&i->lock);
    g_free(i);
}

struct accel *machine_make_accel(struct machine *m, const struct accel_ops *ops, const struct x86_cpu_model *model, GError **error)
{
    const struct machine_config *c = m->config;
    unsigned n = MAX(c->max_cpus, MAX(c->cpus, 1u));
    struct accel_config ac = { .bus = &machine_bus, .opaque = m, .model = model, .sockets = MAX(c->sockets, 1u),
                               .cores = MAX(c->cores, 1u), .threads = MAX(c->threads, 1u), .max_vcpus = n,
                               .irqchip = c->irqchip < 0 ? ACCEL_IRQCHIP_ON : (enum accel_irqchip)c->irqchip,
                               .dirty_ring = c->dirty_ring, .device = c->accel_device };
    if ((uint64_t)ac.sockets * ac.cores * ac.threads < n) {
        ac.sockets = ac.threads = 1;
        ac.cores = n;
    }
    return ops->create(&ac, error);
}

enum accel_irqchip machine_irqchip_of(const struct accel_ops *ops, struct accel *a)
{
    return ops->irqchip ? ops->irqchip(a) : ACCEL_IRQCHIP_OFF;
}

static bool try_accel(struct machine *m, const char *name, GError **error)
{
    struct machine_config *c = m->config;
    g_autofree char *why = NULL;
    const struct accel_ops *ops = m->accel_ops ? m->accel_ops : accel_find(name, c->accel_device, &why, error);
    if (!ops)
        return false;
    struct x86_cpu_model *model = m->cpu_model;
    if (!model) {
        uint64_t supported[(X86_NFEATURES + 63) / 64];
        ops->features(c->accel_device, supported);
        g_free(m->cpu_supported); /* kept: the sandbox may not let anybody ask again */
        m->cpu_supported = g_memdup2(supported, sizeof(supported));
        model = x86_cpu_model_parse(c->cpu_spec ? c->cpu_spec : "max", supported, error);
        if (!model)
            return false;
    }
    m->accel = machine_make_accel(m, ops, model, error);
    if (!m->accel) {
        if (model != m->cpu_model)
            x86_cpu_model_free(model);
        return false;
    }
    m->accel_ops = ops;
    m->cpu_model = model;
    m->irqchip = machine_irqchip_of(ops, m->accel);
    if (why && g_str_has_prefix(why, "warning: "))
        log_warn("%s", why + strlen("warning: "));
    if (model->dropped)
        log_warn("-cpu %s: the guest has to do without %s: this host's accelerator does not offer that", model->name, model->dropped);
    log_at(LOG_ACCEL, "accelerator %s: %s", ops->name, why ? why : "asked for");
    return true;
}

/* -accel A -accel B, or A:B: the first one that works. */
bool machine_create_accel(struct machine *m, GError **error)
{
    g_auto(GStrv) names = g_strsplit(m->config->accel_name ? m->config->accel_name : "auto", ":", 0);
    for (unsigned i = 0; names[i]; i++) {
        GError *why = NULL;
        if (try_accel(m, names[i], &why))
            return true;
        if (!names[i + 1]) {
            g_propagate_error(error, why);
            return false;
        }
        log_warn("%s; falling back to %s", why ? why->message : names[i], names[i + 1]);
        g_clear_error(&why);
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "-accel: give the name of an accelerator");
}

bool machine_create_cpus(struct machine *m, GError **error)
{
    struct machine_config *c = m->config;
    unsigned n = MAX(c->cpus, 1u), max = MAX(c->max_cpus, n);
    if (!machine_create_accel(m, error) || !guest_memory_set_accel(m->memory, m->accel_ops, m->accel, error))
        return false;
    m->vcpus = g_new0(struct vcpu *, max);
    impl(m)->parked = g_new0(struct vcpu *, max);
    m->max_vcpus = max;
    for (unsigned i = 0; i < n; i++) {
        if (!machine_add_vcpu(m, i, error))
            return false;
    }
    return true;
}

bool machine_add_vcpu(struct machine *m, unsigned index, GError **error)
{
    struct vcpu *v = g_steal_pointer(&impl(m)->parked[index]);
    if (v)
        vcpu_revive(v);
    else
        v = vcpu_create(m, index, error);
    if (!v)
        return false;
    if (m->reset_lapic)
        m->reset_lapic(m, index);
    __atomic_store_n(&m->vcpus[index], v, __ATOMIC_RELEASE);
    m->nvcpus++;
    if (m->live)
        vcpu_reset(v, m->tsc_offset);
    if (m->live && !irqchip_reset_lapic(m, index, error)) {
        machine_remove_vcpu(m, index);
        return false;
    }
    if (m->state == MACHINE_RUNNING)
        vcpu_resume(v);
    return true;
}

void machine_remove_vcpu(struct machine *m, unsigned index)
{
    struct vcpu *v = m->vcpus ? m->vcpus[index] : NULL;
    if (!v)
        return;
    vcpu_pause(v);
    vcpu_wait_paused(v);
    vcpu_park(v);
    __atomic_store_n(&m->vcpus[index], NULL, __ATOMIC_RELEASE);
    m->nvcpus--;
    impl(m)->parked[index] = v;
    vcpu_reset(v, m->tsc_offset);
    if (m->reset_lapic)
        m->reset_lapic(m, index);
}

uint64_t machine_guest_tsc(const struct machine *m)
{
    uint64_t stopped_at = ((const struct machine_impl *)m)->paused_tsc;
    return (m->state == MACHINE_RUNNING || !stopped_at ? __rdtsc() : stopped_at) + m->tsc_offset;
}

static void add_exits(struct vcpu *v, unsigned n, struct accel_exit_count *to)
{
    const struct accel_exit_count *c = v ? vcpu_exits(v) : NULL;
    for (unsigned i = 0; c && i < n; i++) {
        to[i].count += __atomic_load_n(&c[i].count, __ATOMIC_RELAXED);
        to[i].ticks += __atomic_load_n(&c[i].ticks, __ATOMIC_RELAXED);
    }
}

void machine_sum_exits(struct machine *m, struct accel_exit_count *ret)
{
    unsigned n = m->accel_ops->nexit_reasons;
    memset(ret, 0, n * sizeof(*ret));
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        add_exits(m->vcpus[i], n, ret);
        add_exits(impl(m)->parked[i], n, ret);
    }
}

uint64_t machine_tsc_hz(const struct machine *m)
{
    return m->cpu_model && m->cpu_model->tsc_hz ? m->cpu_model->tsc_hz : 1000000000u;
}

const char *machine_cpu_model_name(const struct machine *m)
{
    return m->cpu_model ? m->cpu_model->name : "max";
}

bool machine_has_x2apic(const struct machine *m)
{
    return !m->cpu_model || x86_model_has(m->cpu_model, X86_FEAT_X2APIC);
}

void machine_add_listener(struct machine *m, struct machine_listener l)
{
    g_array_append_val(m->listeners, l);
}

void machine_remove_listener(struct machine *m, void *opaque)
{
    for (unsigned i = m->listeners ? m->listeners->len : 0; i-- > 0;) {
        if (g_array_index(m->listeners, struct machine_listener, i).opaque == opaque)
            g_array_remove_index(m->listeners, i);
    }
}

static void emit(struct machine *m, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    for (unsigned i = 0; i < m->listeners->len; i++) {
        const struct machine_listener *l = &g_array_index(m->listeners, struct machine_listener, i);
        l->event(l->opaque, ev, cause, io);
    }
}

void machine_event(struct machine *m, const char *name, struct json_object *data)
{
    for (unsigned i = 0; i < m->listeners->len; i++) {
        const struct machine_listener *l = &g_array_index(m->listeners, struct machine_listener, i);
        if (l->named)
            l->named(l->opaque, name, data);
    }
    json_object_put(data);
}

/* What another thread wants done on the main thread: a call, or an event. */
struct later {
    void (*fn)(void *opaque);
    void *opaque;
    char *event;
    struct json_object *data;
};

static void later_free(void *opaque)
{
    struct later *l = opaque;
    json_object_put(l->data);
    g_free(l->event);
    g_free(l);
}

static gboolean do_later(void *opaque)
{
    struct machine_impl *i = opaque;
    for (;;) {
        g_mutex_lock(&i->lock);
        struct later *l = g_queue_pop_head(&i->later);
        i->later_scheduled = l != NULL;
        g_mutex_unlock(&i->lock);
        if (!l)
            return G_SOURCE_REMOVE;
        if (l->fn)
            l->fn(l->opaque);
        else
            machine_event(&i->machine, l->event, g_steal_pointer(&l->data));
        later_free(l);
    }
}

static void put_later(struct machine *m, struct later l)
{
    struct machine_impl *i = impl(m);
    g_mutex_lock(&i->lock);
    g_queue_push_tail(&i->later, g_memdup2(&l, sizeof(l)));
    if (!i->later_scheduled) {
        i->later_scheduled = true;
        g_idle_add_full(G_PRIORITY_HIGH, do_later, i, NULL);
    }
    g_mutex_unlock(&i->lock);
}

void machine_post_event(struct machine *m, const char *name, struct json_object *data)
{
    put_later(m, (struct later){ .event = g_strdup(name), .data = data });
}

void machine_call_later(struct machine *m, void (*fn)(void *opaque), void *opaque)
{
    put_later(m, (struct later){ .fn = fn, .opaque = opaque });
}

static void vcpus_outside(struct machine *m)
{
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_pause(m->vcpus[i]);
    }
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_wait_paused(m->vcpus[i]);
    }
}

void machine_hold_vcpus(struct machine *m)
{
    if (m->state == MACHINE_RUNNING)
        vcpus_outside(m);
}

void machine_let_vcpus(struct machine *m)
{
    for (unsigned i = 0; m->state == MACHINE_RUNNING && i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_resume(m->vcpus[i]);
    }
}

void machine_nap(struct machine *m, int64_t us)
{
    int64_t until = g_get_monotonic_time() + us;
    for (unsigned i = 0; m->state == MACHINE_RUNNING && i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_nap(m->vcpus[i], until);
    }
}

static void pause_vcpus(struct machine *m)
{
    vcpus_outside(m);
    vclock_pause(m->clock);
    impl(m)->paused_tsc = __rdtsc();
    if (m->accel_ops->run_state)
        m->accel_ops->run_state(m->accel, false);
    machine_run_hooks(m, HOOK_STOP);
}

static void resume_vcpus(struct machine *m)
{
    if (m->accel_ops->run_state)
        m->accel_ops->run_state(m->accel, true);
    machine_run_hooks(m, HOOK_RUN);
    vclock_resume(m->clock);
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_resume(m->vcpus[i]);
    }
}

static void reset_all(struct machine *m)
{
    for (unsigned i = 0; i < m->devices->len; i++) {
        struct device *d = g_ptr_array_index(m->devices, i);
        if (d->class->reset)
            d->class->reset(d);
    }
    /* The guest TSC starts at 0 in all vCPUs alike. */
    uint64_t now = __rdtsc();
    impl(m)->paused_tsc = now;
    m->tsc_offset = 0 - now;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_reset(m->vcpus[i], m->tsc_offset);
    }
    if (m->board_reset)
        m->board_reset(m);
    g_autoptr(GError) error = NULL;
    if (!irqchip_reset(m, &error)) {
        log_warn("the interrupt controllers cannot be reset: %s", error->message);
        machine_request_shutdown(m, CAUSE_HOST_ERROR);
    }
}

/* What passed while the machine stood still has not passed for the guest. */
static void shift_tsc(struct machine *m)
{
    int64_t away = (int64_t)(__rdtsc() - impl(m)->paused_tsc);
    m->tsc_offset -= (uint64_t)away;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_shift_tsc(m->vcpus[i], -away);
    }
}

void machine_start(struct machine *m)
{
    if (m->state == MACHINE_RUNNING || impl(m)->ended)
        return;
    if (m->state == MACHINE_PRELAUNCH || m->state == MACHINE_SHUTDOWN)
        reset_all(m); /* the TSC begins here */
    else
        shift_tsc(m);
    m->state = MACHINE_RUNNING;
    resume_vcpus(m);
    emit(m, EVENT_RESUME, CAUSE_NONE, NULL);
}

void machine_stop(struct machine *m, enum machine_state why)
{
    bool ran = m->state == MACHINE_RUNNING;
    if (ran)
        pause_vcpus(m);
    if (ran || m->state != MACHINE_PRELAUNCH)
        m->state = why;
    if (ran)
        emit(m, EVENT_STOP, CAUSE_NONE, NULL);
}

/* ---- for those that move the state about ---- */

void machine_reset_now(struct machine *m)
{
    reset_all(m);
}

void machine_set_state(struct machine *m, enum machine_state s)
{
    m->state = s;
}

void machine_clocks_get(const struct machine *m, struct machine_clocks *ret)
{
    *ret = (struct machine_clocks){ machine_guest_tsc(m), vclock_now(m->clock), m->accel_ops->clock_get ? m->accel_ops->clock_get(m->accel) : vclock_now(m->clock) };
}

void machine_clocks_set(struct machine *m, const struct machine_clocks *c)
{
    impl(m)->paused_tsc = __rdtsc();
    m->tsc_offset = c->tsc - impl(m)->paused_tsc;
    vclock_set(m->clock, c->ns);
    if (m->accel_ops->clock_set)
        m->accel_ops->clock_set(m->accel, c->accel_ns);
}

void machine_vcpu_save(struct machine *m, unsigned index, struct x86_state *ret, uint64_t *ret_tsc)
{
    vcpu_settle(m->vcpus[index]);
    vcpu_get_state(m->vcpus[index], ret);
    *ret_tsc = impl(m)->paused_tsc + ret->tsc_offset;
    ret->tsc_offset = 0;
}

bool machine_vcpu_load(struct machine *m, unsigned index, struct x86_state *s, uint64_t tsc, GError **error)
{
    s->tsc_offset = tsc - impl(m)->paused_tsc;
    return vcpu_set_state(m->vcpus[index], s, error);
}

void machine_vcpu_loaded(struct machine *m, unsigned index, const struct x86_state *s)
{
    const struct vcpu_activity a = { s->activity, s->sipi_vector };
    vcpu_adopt_activity(m->vcpus[index], &a);
}

static void end(struct machine *m)
{
    impl(m)->ended = true;
    g_main_loop_quit(m->loop);
}

static void do_shutdown(struct machine *m, enum machine_cause cause)
{
    bool host_ends_it = cause == CAUSE_HOST_QMP_QUIT || cause == CAUSE_HOST_SIGNAL || cause == CAUSE_HOST_UI;
    if (m->state == MACHINE_RUNNING)
        pause_vcpus(m);
    bool ran = m->state == MACHINE_RUNNING;
    m->state = cause == CAUSE_GUEST_PANIC ? MACHINE_GUEST_PANICKED : MACHINE_SHUTDOWN;
    emit(m, EVENT_SHUTDOWN, cause, NULL);
    if (m->config->no_shutdown && !host_ends_it) {
        if (ran)
            emit(m, EVENT_STOP, CAUSE_NONE, NULL);
        return;
    }
    end(m);
}

static void do_reset(struct machine *m, enum machine_cause cause)
{
    if (m->state == MACHINE_INMIGRATE || m->state == MACHINE_FINISH_MIGRATE)
        return; /* there is no machine that could be reset */
    if (m->config->no_reboot) {
        do_shutdown(m, cause);
        return;
    }
    bool ran = m->state == MACHINE_RUNNING;
    if (ran)
        pause_vcpus(m);
    reset_all(m);
    emit(m, EVENT_RESET, cause, NULL);
    if (ran)
        resume_vcpus(m);
    else if (m->state != MACHINE_PRELAUNCH)
        m->state = MACHINE_PAUSED; /* as a machine that stands at its reset vector */
}

static void release_held(struct machine *m)
{
    for (unsigned i = 0; m->state == MACHINE_RUNNING && i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            vcpu_release(m->vcpus[i]);
    }
}

static gboolean process(void *opaque)
{
    struct machine_impl *i = opaque;
    struct machine *m = &i->machine;
    g_mutex_lock(&i->lock);
    struct machine_requests r = i->requests;
    i->requests = (struct machine_requests){ .io_errors = g_ptr_array_new_with_free_func(io_error_free) };
    i->scheduled = false;
    g_mutex_unlock(&i->lock);

    for (unsigned n = 0; n < r.io_errors->len; n++)
        emit(m, EVENT_BLOCK_IO_ERROR, CAUSE_NONE, g_ptr_array_index(r.io_errors, n));
    g_ptr_array_free(r.io_errors, TRUE);
    if (i->ended)
        return G_SOURCE_REMOVE;
    if (r.exit) {
        if (m->state == MACHINE_RUNNING)
            pause_vcpus(m);
        m->state = MACHINE_SHUTDOWN;
        m->exit_status = r.exit_status;
        m->exit_status_set = true;
        emit(m, EVENT_SHUTDOWN, r.exit_cause, NULL);
        end(m);
        return G_SOURCE_REMOVE;
    }
    if (r.crashloaded)
        emit(m, EVENT_GUEST_CRASHLOADED, CAUSE_NONE, NULL);
    if (r.panicked) {
        emit(m, EVENT_GUEST_PANICKED, CAUSE_GUEST_PANIC, NULL);
        do_shutdown(m, CAUSE_GUEST_PANIC);
    }
    if (r.shutdown && !i->ended)
        do_shutdown(m, r.shutdown);
    else if (r.reset && !i->ended && !r.panicked)
        do_reset(m, r.reset);
    if (r.stop && !i->ended)
        machine_stop(m, r.stop_why);
    if (r.powerdown && !i->ended) {
        emit(m, EVENT_POWERDOWN, CAUSE_NONE, NULL);
        if (m->board_powerdown)
            m->board_powerdown(m);
    }
    release_held(m);
    return G_SOURCE_REMOVE;
}

/* The main loop processes requests once per wake-up, however many there are. */
static void schedule_locked(struct machine_impl *i)
{
    if (!i->scheduled) {
        i->scheduled = true;
        g_idle_add_full(G_PRIORITY_HIGH, process, i, NULL);
    }
}

static struct machine_impl *request_begin(struct machine *m)
{
    struct machine_impl *i = impl(m);
    g_mutex_lock(&i->lock);
    return i;
}

/* hold: the calling vCPU must not run on before the request is done. */
static void request_end(struct machine_impl *i, bool hold)
{
    if (hold)
        vcpu_hold_current(&i->machine);
    schedule_locked(i);
    g_mutex_unlock(&i->lock);
}

int machine_main(struct machine *m)
{
    m->live = true;
    if (m->config->incoming) {
        reset_all(m);
        m->state = MACHINE_INMIGRATE;
    } else if (!m->config->start_paused) {
        machine_start(m);
    } else if (m->state == MACHINE_PRELAUNCH) { /* not one that goes on from a snapshot */
        reset_all(m);
    }
    struct idle_watch *watch = idle_watch_start(m);
    if (!impl(m)->ended)
        g_main_loop_run(m->loop);
    idle_watch_stop(watch);
    if (m->state == MACHINE_RUNNING)
        machine_stop(m, MACHINE_SHUTDOWN);
    return m->exit_status_set ? m->exit_status : 0;
}

void machine_request_reset(struct machine *m, enum machine_cause cause)
{
    struct machine_impl *i = request_begin(m);
    i->requests.reset = cause;
    request_end(i, true);
}

void machine_request_shutdown(struct machine *m, enum machine_cause cause)
{
    struct machine_impl *i = request_begin(m);
    i->requests.shutdown = cause;
    request_end(i, true);
}

void machine_request_powerdown(struct machine *m)
{
    struct machine_impl *i = request_begin(m);
    i->requests.powerdown = true;
    request_end(i, false);
}

void machine_request_stop(struct machine *m, enum machine_state why)
{
    struct machine_impl *i = request_begin(m);
    i->requests.stop = true;
    i->requests.stop_why = why;
    request_end(i, true);
}

static void request_exit(struct machine *m, int status, enum machine_cause cause)
{
    struct machine_impl *i = request_begin(m);
    i->requests.exit = true;
    i->requests.exit_status = status;
    i->requests.exit_cause = cause;
    request_end(i, true);
}

void machine_request_exit(struct machine *m, int status)
{
    request_exit(m, status, CAUSE_GUEST_SHUTDOWN);
}

void machine_request_failure(struct machine *m, int status)
{
    request_exit(m, status, CAUSE_HOST_ERROR);
}

void machine_guest_panicked(struct machine *m)
{
    struct machine_impl *i = request_begin(m);
    i->requests.panicked = true;
    request_end(i, true);
}

void machine_guest_crashloaded(struct machine *m)
{
    struct machine_impl *i = request_begin(m);
    i->requests.crashloaded = true;
    request_end(i, false);
}

void machine_report_io_error(struct machine *m, const struct block_io_error *e)
{
    struct block_io_error *copy = g_new0(struct block_io_error, 1);
    *copy = (struct block_io_error){ g_strdup(e->device), g_strdup(e->node), g_strdup(e->operation), g_strdup(e->action),
                                     g_strdup(e->reason), e->nospace };
    struct machine_impl *i = request_begin(m);
    g_ptr_array_add(i->requests.io_errors, copy);
    bool stop = e->action && !strcmp(e->action, "stop");
    if (stop) {
        i->requests.stop = true;
        i->requests.stop_why = MACHINE_IO_ERROR;
    }
    request_end(i, stop);
}
