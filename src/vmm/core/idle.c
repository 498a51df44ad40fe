/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An idle machine gives memory back. Under the translator a booted guest has 100 MiB of translated code, of which an idle
 * one needs very little: once the vCPUs have used less than a hundredth of the time for half a minute, the accelerator is
 * told, and not again before the machine has been busy.
 */
#include "vmm/core/machine_private.h"

#define PERIOD_S 10
#define IDLE_PERIODS 3
#define IDLE_NS (PERIOD_S * 1000000000ull / 100)

struct idle_watch {
    struct machine *machine;
    guint source;
    uint64_t used;
    unsigned idle_periods;
};

static gboolean look(gpointer opaque)
{
    struct idle_watch *w = opaque;
    struct machine *m = w->machine;
    uint64_t used = 0;
    for (unsigned i = 0; i < m->max_vcpus; i++)
        used += m->vcpus[i] ? vcpu_cpu_time_ns(m->vcpus[i]) : 0;
    /* A vCPU that was unplugged takes its time away: no more than an early or late end of the wait. */
    w->idle_periods = used - w->used < IDLE_NS ? w->idle_periods + 1 : 0;
    w->used = used;
    if (w->idle_periods == IDLE_PERIODS && m->accel_ops->trim)
        m->accel_ops->trim(m->accel);
    return G_SOURCE_CONTINUE;
}

struct idle_watch *idle_watch_start(struct machine *m)
{
    struct idle_watch *w = g_new0(struct idle_watch, 1);
    w->machine = m;
    w->source = g_timeout_add_seconds(PERIOD_S, look, w); /* whole seconds: the wake-ups of many machines fall together */
    return w;
}

void idle_watch_stop(struct idle_watch *w)
{
    g_source_remove(w->source);
    g_free(w);
}
