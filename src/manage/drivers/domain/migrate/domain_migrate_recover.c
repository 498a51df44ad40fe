/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migrations whose client or daemon has ended in between. */
#include <json-c/json.h>
#include <string.h>

#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_save.h"

/* ---- the client has gone ---- */

struct gone {
    uint64_t conn;
    struct domain_migration *of; /* compared, never followed */
};

static void client_gone(struct domain *d, void *opaque)
{
    struct gone *g = opaque;
    domain_begin_wait(d, "migrate");
    g_mutex_lock(&d->lock);
    struct domain_migration *m = d->migration;
    enum migration_phase phase = m && m == g->of && m->owner == g->conn ? m->phase : 0;
    g_mutex_unlock(&d->lock);
    if (phase == MIGRATION_BEGUN)
        migrate_back(d);
    else if (phase == MIGRATION_PERFORMED)
        migrate_leave(d, "the client of the migration ended before it told whether the guest runs at the destination: it stays paused here. Once it is sure that it does not run there, "
                         "'resume' lets it go on here; else 'destroy' it");
    else if (phase == MIGRATION_PREPARED)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
    domain_end(d);
    g_free(g);
}

void domain_migrate_conn_closed(struct domain *d, uint64_t conn)
{
    struct gone *g = NULL;
    g_mutex_lock(&d->lock);
    if (d->migration && d->migration->owner == conn) {
        g = g_new(struct gone, 1);
        *g = (struct gone){ conn, d->migration };
    }
    g_mutex_unlock(&d->lock);
    if (g)
        domain_queue(d, client_gone, g);
}

/* ---- the daemon has ended, and this is the next ---- */

/* Nobody will tell it to run: its source knows by now that it has lost us. */
bool domain_migrate_half(const struct domain_migration *m) { return m && m->phase == MIGRATION_PREPARED; }

/* The destination was told to let it run, and whether it has done so is known there alone. Not inside a job: this may last. */
static void ask_peer(struct domain *d, void *opaque)
{
    char *peer = opaque;
    g_mutex_lock(&d->lock);
    bool still = d->migration && d->migration->phase == MIGRATION_FINISHING;
    uint32_t flags = still ? d->migration->flags : 0;
    g_mutex_unlock(&d->lock);
    if (still)
        (void)!migrate_resolve(d, peer, flags);
    g_free(peer);
}

static bool runs(struct domain *d)
{
    struct json_object *o = monitor_command(d, "query-status", NULL, NULL);
    bool yes = json_object_get_boolean(json_object_object_get(o, "running"));
    json_object_put(o);
    return yes;
}

/* The daemon before was just letting it run: it does, or it never will. */
static void decide(struct domain *d, uint32_t flags)
{
    bool running = runs(d);
    if (!running) {
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
        return;
    }
    (void)!domain_migration_set(d, 0, NULL);
    domain_set_state(d, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
}

/* All jobs are the migration's: it does not begin where there are others. */
static void stop_copying(struct domain *d)
{
    g_autoptr(GPtrArray) targets = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++)
        g_ptr_array_add(targets, g_strdup(((struct domain_blockjob *)d->jobs->pdata[i])->disk));
    g_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < targets->len; i++)
        (void)!domain_blockjob_cancel(d, targets->pdata[i], NULL);
}

void domain_migrate_found(struct domain *d)
{
    g_mutex_lock(&d->lock);
    struct domain_migration *m = d->migration;
    enum migration_phase phase = m ? m->phase : 0;
    g_autofree char *peer = m ? g_strdup(m->peer) : NULL;
    uint32_t flags = m ? m->flags : 0;
    d->held = m ? "migration" : NULL;
    g_mutex_unlock(&d->lock);
    switch (phase) {
    case MIGRATION_PERFORM:
        stop_copying(d);
        (void)!domain_stop_sending(d, NULL);
        migrate_back(d);
        break;
    case MIGRATION_BEGUN:
        migrate_back(d);
        break;
    case MIGRATION_PERFORMED: /* one that this daemon drove has not been told to run there */
        if (peer)
            migrate_back(d);
        else
            migrate_leave(d, "the daemon ended before the client of the migration told whether the guest runs at the destination: it stays paused here. Once it is sure that it does not run "
                             "there, 'resume' lets it go on here; else 'destroy' it");
        break;
    case MIGRATION_FINISHING:
        if (peer)
            domain_queue(d, ask_peer, g_steal_pointer(&peer));
        break;
    case MIGRATION_FINISH:
        decide(d, flags);
        break;
    default:
        break;
    }
}
