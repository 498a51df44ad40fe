/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that do jobs. A job is taken by a thread that waits, or by a new one; whoever hands one over wakes its thread after letting go of the lock, so that a job costs one
 * wake-up (GThreadPool's thread wakes up to find the lock held, and again each half second to see whether it is wanted elsewhere). Threads that nobody has needed for a while
 * end, but for one: a job that no further thread can be made for is done by that one.
 */
#include "manage/daemon/daemon.h"

#define IDLE_US (15 * G_USEC_PER_SEC)

struct pool {
    GMutex lock; /* everything here; a leaf */
    GCond wake, ended;
    GQueue jobs;
    unsigned threads, idle, max; /* idle: of them, those that wait */
    bool closing;
    void (*work)(gpointer job, gpointer opaque);
    gpointer opaque;
};

/* The next job; NULL: the thread is to end. */
static gpointer next_locked(struct pool *p)
{
    gint64 until = g_get_monotonic_time() + IDLE_US;
    bool in_time = true;
    p->idle++;
    while (g_queue_is_empty(&p->jobs) && !p->closing && (in_time || p->threads == 1)) {
        if (p->threads == 1)
            g_cond_wait(&p->wake, &p->lock);
        else
            in_time = g_cond_wait_until(&p->wake, &p->lock, until);
    }
    p->idle--;
    return g_queue_pop_head(&p->jobs);
}

static gpointer pool_thread(gpointer opaque)
{
    struct pool *p = opaque;
    gpointer job;
    g_mutex_lock(&p->lock);
    while ((job = next_locked(p))) {
        g_mutex_unlock(&p->lock);
        p->work(job, p->opaque);
        g_mutex_lock(&p->lock);
    }
    p->threads--;
    g_cond_signal(&p->ended);
    g_mutex_unlock(&p->lock);
    return NULL;
}

static bool add_thread_locked(struct pool *p, GError **error)
{
    GThread *t = g_thread_try_new("pool", pool_thread, p, error);
    if (!t)
        return false;
    g_thread_unref(t);
    p->threads++;
    return true;
}

struct pool *pool_new(void (*work)(gpointer job, gpointer opaque), gpointer opaque, unsigned max, GError **error)
{
    struct pool *p = g_new0(struct pool, 1);
    g_mutex_init(&p->lock);
    g_cond_init(&p->wake);
    g_cond_init(&p->ended);
    g_queue_init(&p->jobs);
    p->max = max;
    p->work = work;
    p->opaque = opaque;
    g_mutex_lock(&p->lock);
    bool ok = add_thread_locked(p, error);
    g_mutex_unlock(&p->lock);
    if (!ok) {
        pool_free(p);
        return NULL;
    }
    return p;
}

void pool_push(struct pool *p, gpointer job)
{
    g_mutex_lock(&p->lock);
    g_queue_push_tail(&p->jobs, job);
    bool wanted = p->jobs.length > p->idle && p->threads < p->max;
    bool wake = !(wanted && add_thread_locked(p, NULL)) && p->idle > 0;
    g_mutex_unlock(&p->lock);
    if (wake)
        g_cond_signal(&p->wake);
}

void pool_set_max(struct pool *p, unsigned max)
{
    g_mutex_lock(&p->lock);
    p->max = max; /* those above it end when they are idle */
    g_mutex_unlock(&p->lock);
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    g_mutex_lock(&p->lock);
    p->closing = true;
    g_cond_broadcast(&p->wake);
    while (p->threads > 0)
        g_cond_wait(&p->ended, &p->lock);
    g_mutex_unlock(&p->lock);
    g_mutex_clear(&p->lock);
    g_cond_clear(&p->wake);
    g_cond_clear(&p->ended);
    g_free(p);
}
