/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of a machine: asked for, or noticed. */
#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manage/drivers/domain/command/domain_plan.h"
#include "manage/drivers/domain/net/domain_bandwidth.h"
#include "manage/drivers/domain/net/domain_filter.h"
#include "manage/drivers/domain/net/domain_macvtap.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/backup/domain_backup.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"
#include "manage/drivers/domain/tune/domain_cgroup.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"

enum { TERM_MS = 10000, KILL_MS = 5000, GRACEFUL_MS = 15000 };

void domain_run_free(struct domain_run *r)
{
    if (!r)
        return;
    if (r->watch) {
        g_source_destroy(r->watch);
        g_source_unref(r->watch);
    }
    if (r->pidfd >= 0)
        close(r->pidfd);
    cgroup_unref(r->cgroup);
    if (r->networks)
        g_ptr_array_unref(r->networks);
    if (r->taps)
        g_ptr_array_unref(r->taps);
    g_free(r);
}

/* ---- following the process ---- */

static void ended(struct domain *d, void *opaque)
{
    const struct domain_run *of = opaque; /* which run; compared, never followed */
    domain_begin_wait(d, "stop");
    g_mutex_lock(&d->lock);
    bool mine = d->run && d->run == of && !d->removed;
    int reason = VIR_DOMAIN_SHUTOFF_CRASHED;
    if (mine && d->run->stop_reason)
        reason = d->run->stop_reason;
    else if (mine && d->run->powered_down)
        reason = VIR_DOMAIN_SHUTOFF_SHUTDOWN;
    else if (mine && d->migration && d->migration->phase >= MIGRATION_PREPARED)
        reason = VIR_DOMAIN_SHUTOFF_FAILED; /* it has never run here */
    g_mutex_unlock(&d->lock);
    if (mine)
        domain_stop(d, reason);
    domain_end(d);
}

static gboolean on_pidfd(gint fd, GIOCondition condition, gpointer opaque)
{
    struct domain *d = opaque;
    g_mutex_lock(&d->lock);
    struct domain_run *run = d->run;
    bool tell = run && run->pidfd == fd && !run->ending;
    g_mutex_unlock(&d->lock);
    if (tell && !g_atomic_int_get(&d->driver->stopping))
        domain_queue(d, ended, run);
    return G_SOURCE_REMOVE;
}

bool domain_watch(struct domain *d)
{
    int fd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    if (fd < 0)
        return false;
    if (d->pid_start && domain_pid_start(d->pid) != d->pid_start) { /* another process by now */
        close(fd);
        return false;
    }
    GSource *s = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(s, G_SOURCE_FUNC(on_pidfd), domain_ref(d), (GDestroyNotify)domain_unref);
    g_mutex_lock(&d->lock);
    d->run->pidfd = fd;
    d->run->watch = s;
    g_mutex_unlock(&d->lock);
    g_source_attach(s, d->driver->state->context);
    return true;
}

/* The monitor ended: the process is about to. One that lives on without a monitor is of no use to anybody. */
void domain_monitor_lost(struct domain *d, void *opaque)
{
    const struct domain_run *of = opaque;
    domain_begin_wait(d, "stop");
    g_mutex_lock(&d->lock);
    bool mine = d->run && d->run == of && !d->removed;
    int fd = mine ? d->run->pidfd : -1;
    g_mutex_unlock(&d->lock);
    struct pollfd p = { fd, POLLIN, 0 };
    if (mine && poll(&p, 1, 2000) == 0)
        g_warning("domain '%s': its process %d closed the monitor and lives on; it is ended", d->name, (int)d->pid);
    domain_end(d);
    if (mine)
        ended(d, (void *)of);
}

/* ---- ending it ---- */

/* Our child is taken in; one of an earlier daemon is not ours to take. */
static bool gone(struct domain *d, int pidfd, int ms)
{
    struct pollfd p = { pidfd, POLLIN, 0 };
    if (pidfd < 0)
        return true;
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR)
        ;
    if (n > 0)
        (void)waitpid(d->pid, NULL, WNOHANG);
    return n > 0;
}

bool domain_kill(struct domain *d, int term_ms)
{
    g_mutex_lock(&d->lock);
    pid_t pid = d->pid;
    int fd = d->run ? d->run->pidfd : -1;
    g_mutex_unlock(&d->lock);
    int own = -1;
    if (fd < 0 && pid > 0) /* failed while starting: not followed yet */
        fd = own = (int)syscall(SYS_pidfd_open, pid, 0);
    bool done = fd < 0 || gone(d, fd, 0);
    if (!done && (term_ms < 0 || term_ms > 0)) {
        syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
        done = gone(d, fd, term_ms < 0 ? GRACEFUL_MS : term_ms);
    }
    if (!done && term_ms >= 0) {
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
        done = gone(d, fd, KILL_MS);
    }
    if (own >= 0)
        close(own);
    return done;
}

/* Takes what the machine had away from *d and gives it to *old; readers see a machine that does not run. */
struct leftovers {
    struct domain_run *run;
    struct monitor *monitor;
    struct doc *live;
    char *dir;
    int id;
    GPtrArray *made;
};

static void detach_locked(struct domain *d, struct leftovers *old, int reason)
{
    *old = (struct leftovers){ d->run, d->monitor, d->live, d->dir, d->id };
    d->run = NULL;
    d->monitor = NULL;
    d->live = NULL;
    d->dir = NULL;
    d->pid = 0;
    d->pid_start = 0;
    d->balloon_kib = 0;
    d->autodestroy = false;
    d->owner = 0;
    d->updated = false;
    d->state = VIR_DOMAIN_SHUTOFF;
    d->reason = reason;
    d->nodes = 0;
    g_clear_pointer(&d->jobs, g_ptr_array_unref);
    g_clear_pointer(&d->record, domain_snapshot_record_free);
    old->made = d->migration && d->migration->made ? g_ptr_array_ref(d->migration->made) : NULL; /* that it did not get to keep */
    g_clear_pointer(&d->migration, domain_migration_free);
    d->held = NULL;
    if (d->waiting)
        g_cond_broadcast(&d->job_done);
    g_clear_pointer(&d->stats, g_hash_table_unref);
}

static void release(struct domain *d, struct leftovers *old)
{
    struct manage_state *s = d->driver->state;
    GPtrArray *n = old->run ? old->run->networks : NULL;
    monitor_close(old->monitor);
    migrate_disks_unmake(old->made);
    if (old->made)
        g_ptr_array_unref(old->made);
    for (unsigned i = 0; n && i + 1 < n->len; i += 2)
        if (s->services->network_detach)
            s->services->network_detach(s, n->pdata[i], d->name, n->pdata[i + 1]);
    for (unsigned i = 0; old->run && old->run->taps && i < old->run->taps->len; i++)
        domain_tap_remove(old->run->taps->pdata[i]);
    if (old->run && old->run->cgroup)
        cgroup_remove(old->run->cgroup);
    domain_run_free(old->run);
    domain_bandwidth_gone_all(old->id, old->live);
    domain_filter_gone_all(d, old->live);
    el_each(e, old->live ? el_find(doc_root(old->live), "devices") : NULL, NULL)
        domain_char_gone(e);
    doc_free(old->live);
    domain_macvtap_remove_all(old->dir);
    domain_remove_tree(old->dir);
    g_free(old->dir);
}

/* The definition as it is on disk shows again. */
static void show_definition(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    doc_auto *doc = d->persistent ? domain_definition(d, &error) : NULL;
    if (!doc)
        return;
    g_mutex_lock(&d->lock);
    domain_summary_locked(d, doc);
    g_mutex_unlock(&d->lock);
}

void domain_stop(struct domain *d, int reason)
{
    static const int detail[] = { [VIR_DOMAIN_SHUTOFF_SHUTDOWN] = VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, [VIR_DOMAIN_SHUTOFF_DESTROYED] = VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
                                  [VIR_DOMAIN_SHUTOFF_CRASHED] = VIR_DOMAIN_EVENT_STOPPED_FAILED, [VIR_DOMAIN_SHUTOFF_SAVED] = VIR_DOMAIN_EVENT_STOPPED_SAVED,
                                  [VIR_DOMAIN_SHUTOFF_FAILED] = VIR_DOMAIN_EVENT_STOPPED_FAILED, [VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT] = VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT,
                                  [VIR_DOMAIN_SHUTOFF_MIGRATED] = VIR_DOMAIN_EVENT_STOPPED_MIGRATED,
                                  [VIR_DOMAIN_SHUTOFF_DAEMON] = 0 };
    struct leftovers old;
    g_mutex_lock(&d->lock);
    bool was_up = d->monitor || reason != VIR_DOMAIN_SHUTOFF_FAILED;
    bool crashed = d->state == VIR_DOMAIN_CRASHED;
    if (d->run) {
        d->run->ending = true;
        d->run->stop_reason = reason;
    }
    bool alive = d->run && d->pid > 0;
    g_mutex_unlock(&d->lock);
    if (alive)
        (void)domain_write_status(d, NULL); /* a daemon that comes after us finishes it */
    if (!domain_kill(d, reason == VIR_DOMAIN_SHUTOFF_FAILED ? 500 : TERM_MS))
        g_warning("domain '%s': process %d does not end", d->name, (int)d->pid);
    domain_log(d, "shutting down");
    domain_consoles_close(d);
    domain_backup_gone(d);
    domain_saving_gone(d);
    (void)domain_snapshot_settle(d, false); /* before the status file goes: its record does not stand elsewhere */
    g_mutex_lock(&d->lock);
    detach_locked(d, &old, reason);
    g_mutex_unlock(&d->lock);
    domain_erase_status(d);
    domain_set_id(d, -1); /* before the event, which clients read the id from */
    release(d, &old);
    show_definition(d);
    if (was_up)
        domain_event(d, VIR_DOMAIN_EVENT_STOPPED, crashed && reason == VIR_DOMAIN_SHUTOFF_CRASHED ? VIR_DOMAIN_EVENT_STOPPED_CRASHED : detail[reason]);
    if (!d->persistent) {
        domain_moments_erase(d);
        domain_remove(d);
    }
}
