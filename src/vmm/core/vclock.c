/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One thread sleeps on a timerfd that is armed for the earliest timer. The timerfd is only set again when a timer comes
 * before what it is armed for; when the earliest timer moves away it fires once for nothing, which is cheaper than a system
 * call for every deadline a guest replaces.
 */
#include "vmm/core/vclock.h"

#include <errno.h>
#include <glib.h>
#include <stdatomic.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/sandbox.h"

#define NSEC 1000000000ull
#define FROZEN (1ull << 63)
#define NEVER UINT64_MAX

struct vtimer {
    struct vclock *clock;
    void (*fn)(void *opaque);
    void *opaque;
    uint64_t deadline;
    bool queued;
    struct vtimer *prev, *next; /* sorted by deadline */
};

struct vclock {
    /* Bit 63 set: frozen, the rest is the time. Clear: running, what to subtract from CLOCK_MONOTONIC. */
    _Atomic uint64_t base;
    GMutex lock; /* covers everything below */
    GCond done;
    struct vtimer *first;
    struct vtimer *running; /* its callback is being called */
    uint64_t armed;         /* virtual time the timerfd fires at, or NEVER */
    int fd;
    bool quit;
    GThread *thread;
};

static uint64_t monotonic(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC + (uint64_t)ts.tv_nsec;
}

uint64_t vclock_now(const struct vclock *c)
{
    uint64_t base = atomic_load_explicit(&c->base, memory_order_acquire);
    return base & FROZEN ? base & ~FROZEN : (monotonic() - base) & ~FROZEN; /* a clock that came from elsewhere may be ahead of the host's */
}

/* Absolute monotonic time 0 means disarm to the kernel; 1 is long past.
 * seccomp(device): timerfd_settime */
static void arm_fd(struct vclock *c, uint64_t mono)
{
    struct itimerspec its = { .it_value = { (time_t)(mono / NSEC), (long)(mono % NSEC) } };
    timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &its, NULL);
}

static void arm_locked(struct vclock *c)
{
    uint64_t base = atomic_load(&c->base);
    uint64_t want = c->first && !(base & FROZEN) ? c->first->deadline : NEVER;
    if (want >= c->armed)
        return;
    c->armed = want;
    uint64_t now = base & FROZEN ? want : vclock_now(c), mono = want > now ? monotonic() + MIN(want - now, (uint64_t)INT32_MAX * NSEC) : 1;
    arm_fd(c, MIN(mono, (uint64_t)INT32_MAX * NSEC));
}

static void unlink_locked(struct vtimer *t)
{
    if (!t->queued)
        return;
    if (t->prev)
        t->prev->next = t->next;
    else
        t->clock->first = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->queued = false;
    t->prev = t->next = NULL;
}

static void run_due_locked(struct vclock *c)
{
    while (c->first && !c->quit && !(atomic_load(&c->base) & FROZEN) && c->first->deadline <= vclock_now(c)) {
        struct vtimer *t = c->first;
        unlink_locked(t);
        c->running = t;
        g_mutex_unlock(&c->lock);
        t->fn(t->opaque);
        g_mutex_lock(&c->lock);
        c->running = NULL;
        g_cond_broadcast(&c->done);
    }
}

static void *clock_thread(void *opaque)
{
    struct vclock *c = opaque;
    g_mutex_lock(&c->lock);
    while (!c->quit) {
        run_due_locked(c);
        c->armed = NEVER;
        arm_locked(c);
        g_mutex_unlock(&c->lock);
        uint64_t expirations;
        ssize_t n = read(c->fd, &expirations, sizeof(expirations));
        (void)n; /* EINTR: looks again, no harm */
        g_mutex_lock(&c->lock);
    }
    g_mutex_unlock(&c->lock);
    return NULL;
}

struct vclock *vclock_create(void)
{
    struct vclock *c = g_new0(struct vclock, 1);
    g_mutex_init(&c->lock);
    g_cond_init(&c->done);
    c->base = FROZEN;
    c->armed = NEVER;
    c->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (c->fd < 0)
        g_error("timerfd_create: %s", g_strerror(errno));
    c->thread = sandbox_thread_new(SANDBOX_CLOCK, "vclock", clock_thread, c);
    return c;
}

void vclock_destroy(struct vclock *c)
{
    if (!c)
        return;
    g_mutex_lock(&c->lock);
    c->quit = true;
    arm_fd(c, 1);
    g_mutex_unlock(&c->lock);
    g_thread_join(c->thread);
    close(c->fd);
    g_cond_clear(&c->done);
    g_mutex_clear(&c->lock);
    g_free(c);
}

void vclock_set(struct vclock *c, uint64_t now)
{
    g_mutex_lock(&c->lock);
    atomic_store(&c->base, now | FROZEN);
    g_mutex_unlock(&c->lock);
}

void vclock_pause(struct vclock *c)
{
    g_mutex_lock(&c->lock);
    if (!(atomic_load(&c->base) & FROZEN))
        atomic_store(&c->base, vclock_now(c) | FROZEN);
    /* A callback that began before the pause ends before it: the machine stands still when this returns. */
    while (c->running && g_thread_self() != c->thread)
        g_cond_wait(&c->done, &c->lock);
    g_mutex_unlock(&c->lock);
}

void vclock_resume(struct vclock *c)
{
    g_mutex_lock(&c->lock);
    uint64_t base = atomic_load(&c->base);
    if (base & FROZEN) {
        atomic_store(&c->base, (monotonic() - (base & ~FROZEN)) & ~FROZEN);
        c->armed = NEVER;
        arm_locked(c);
    }
    g_mutex_unlock(&c->lock);
}

struct vtimer *vtimer_create(struct vclock *c, void (*fn)(void *opaque), void *opaque)
{
    struct vtimer *t = g_new0(struct vtimer, 1);
    t->clock = c;
    t->fn = fn;
    t->opaque = opaque;
    return t;
}

void vtimer_destroy(struct vtimer *t)
{
    if (!t)
        return;
    struct vclock *c = t->clock;
    g_mutex_lock(&c->lock);
    unlink_locked(t);
    while (c->running == t && g_thread_self() != c->thread)
        g_cond_wait(&c->done, &c->lock);
    unlink_locked(t); /* the callback may have set it again */
    g_mutex_unlock(&c->lock);
    g_free(t);
}

void vtimer_set(struct vtimer *t, uint64_t deadline_ns)
{
    struct vclock *c = t->clock;
    g_mutex_lock(&c->lock);
    unlink_locked(t);
    t->deadline = MIN(deadline_ns, NEVER - 1);
    struct vtimer *before = NULL, *after = c->first;
    while (after && after->deadline <= t->deadline) {
        before = after;
        after = after->next;
    }
    t->prev = before;
    t->next = after;
    if (before)
        before->next = t;
    else
        c->first = t;
    if (after)
        after->prev = t;
    t->queued = true;
    if (!before)
        arm_locked(c);
    g_mutex_unlock(&c->lock);
}

void vtimer_cancel(struct vtimer *t)
{
    g_mutex_lock(&t->clock->lock);
    unlink_locked(t);
    g_mutex_unlock(&t->clock->lock);
}
