/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One long piece of work a domain at a time, and work in order that comes from the machine. */
#include "manage/drivers/domain/domain.h"

enum { JOB_WAIT_SECONDS = 30 };

bool domain_wait_locked(struct domain *d, gint64 until)
{
    bool in_time = true;
    d->waiting++;
    if (until == G_MAXINT64)
        g_cond_wait(&d->job_done, &d->lock);
    else
        in_time = g_cond_wait_until(&d->job_done, &d->lock, until);
    d->waiting--;
    return in_time;
}

/* Short things that a long one (a migration) has to live with; all others wait for its end. */
static bool goes_beside(const char *job)
{
    static const char *const jobs[] = { "migrate", "suspend", "destroy", "abort", "shutdown", "send key", "statistics", NULL };
    return g_strv_contains(jobs, job);
}

static bool must_wait_locked(const struct domain *d, const char *job) { return d->busy || (d->held && !goes_beside(job)); }

static void begin_locked(struct domain *d, const char *job)
{
    d->busy = true;
    d->job = job;
    d->job_started = g_get_monotonic_time();
}

bool domain_begin(struct domain *d, const char *job, bool running, GError **error)
{
    gint64 until = g_get_monotonic_time() + JOB_WAIT_SECONDS * G_TIME_SPAN_SECOND;
    bool ok = false;
    g_mutex_lock(&d->lock);
    while (must_wait_locked(d, job) && domain_wait_locked(d, until))
        ;
    if (d->busy)
        manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "domain '%s' is busy with '%s' for %d s; try again later", d->name, d->job,
                    (int)((g_get_monotonic_time() - d->job_started) / G_TIME_SPAN_SECOND));
    else if (must_wait_locked(d, job))
        manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "domain '%s' is busy with '%s'; wait for its end or stop it with domjobabort", d->name, d->held);
    else if (d->removed)
        manage_fail(error, VIR_ERR_NO_DOMAIN, "domain '%s' has been removed", d->name);
    else if (running && d->id < 0)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    else
        ok = true;
    if (ok)
        begin_locked(d, job);
    g_mutex_unlock(&d->lock);
    return ok;
}

void domain_begin_wait(struct domain *d, const char *job)
{
    g_mutex_lock(&d->lock);
    while (d->busy)
        (void)domain_wait_locked(d, G_MAXINT64);
    begin_locked(d, job);
    g_mutex_unlock(&d->lock);
}

void domain_end(struct domain *d)
{
    g_mutex_lock(&d->lock);
    d->busy = false;
    d->job = NULL;
    if (d->waiting) /* else a system call for nobody */
        g_cond_broadcast(&d->job_done);
    g_mutex_unlock(&d->lock);
}

/* ---- work in order ---- */

struct work {
    domain_work fn;
    void *opaque;
};

void domain_queue(struct domain *d, domain_work fn, void *opaque)
{
    struct work *w = g_new(struct work, 1);
    *w = (struct work){ fn, opaque };
    g_mutex_lock(&d->lock);
    g_queue_push_tail(&d->work, w);
    bool start = !d->working;
    d->working = true;
    g_mutex_unlock(&d->lock);
    if (start)
        g_thread_pool_push(d->driver->workers, domain_ref(d), NULL);
}

/* Of the thread pool: all the work that a domain has, one after the other. */
void domain_do_work(gpointer opaque, gpointer unused)
{
    struct domain *d = opaque;
    for (;;) {
        g_mutex_lock(&d->lock);
        struct work *w = g_queue_pop_head(&d->work);
        d->working = w != NULL;
        g_mutex_unlock(&d->lock);
        if (!w)
            break;
        w->fn(d, w->opaque);
        g_free(w);
    }
    domain_unref(d);
}

/* ---- what a change is for ---- */

bool domain_affect(struct domain *d, uint32_t flags, bool *ret_live, bool *ret_config, GError **error)
{
    g_mutex_lock(&d->lock);
    bool active = d->id >= 0, persistent = d->persistent;
    g_mutex_unlock(&d->lock);
    bool live = flags & VIR_DOMAIN_AFFECT_LIVE, config = flags & VIR_DOMAIN_AFFECT_CONFIG;
    if (!live && !config) {
        live = active;
        config = !active;
    }
    if (live && !active)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    if (config && !persistent)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "transient domains do not have any persistent config");
    *ret_live = live;
    *ret_config = config;
    return true;
}
