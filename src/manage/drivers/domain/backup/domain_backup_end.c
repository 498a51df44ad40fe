/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of a backup: of its last disk; of one that fails, which ends the others; of a machine that ends; of one that a daemon had begun when it was killed. In push
 * mode a disk's image stays when it is complete. In pull mode the end is what the client asks for when it has read all: the scratch images go.
 */
#include "manage/drivers/domain/backup/domain_backup.h"

#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/save/domain_transfer.h"
#include "manage/drivers/domain/snapshot/domain_checkpoint.h"
#include "manage/drivers/domain/stats/domain_stats.h"

enum { END_WAIT_SECONDS = 30 };

void domain_backup_params(GVariantBuilder *b, const struct domain_backup *k, gint64 elapsed, uint64_t done, uint64_t total, bool over)
{
    manage_param_i32(b, VIR_DOMAIN_JOB_OPERATION, VIR_DOMAIN_JOB_OPERATION_BACKUP);
    manage_param_u64(b, VIR_DOMAIN_JOB_TIME_ELAPSED, (uint64_t)elapsed / 1000);
    if (over)
        manage_param_bool(b, VIR_DOMAIN_JOB_SUCCESS, !k->failed && !k->canceled);
    if (k->pull) { /* what the scratch images have taken */
        manage_param_u64(b, VIR_DOMAIN_JOB_DISK_TEMP_USED, done);
        manage_param_u64(b, VIR_DOMAIN_JOB_DISK_TEMP_TOTAL, total);
        return;
    }
    manage_param_u64(b, VIR_DOMAIN_JOB_DISK_TOTAL, total);
    manage_param_u64(b, VIR_DOMAIN_JOB_DISK_PROCESSED, done);
    manage_param_u64(b, VIR_DOMAIN_JOB_DISK_REMAINING, total - MIN(done, total));
}

static void cancel_others(struct domain *d)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++) {
        struct domain_blockjob *j = d->jobs->pdata[i];
        if (j->type != VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP || j->aborting)
            continue;
        j->aborting = true;
        g_ptr_array_add(names, g_strdup(j->name));
    }
    g_mutex_unlock(&d->lock);
    (void)!domain_write_status(d, NULL);
    for (unsigned i = 0; i < names->len; i++) {
        struct json_object *args = json_object_new_object();
        js_set(args, "device", names->pdata[i]);
        js_bool(args, "force", true);
        json_object_put(monitor_command(d, "block-job-cancel", args, NULL));
    }
}

static void remove_bitmap(struct domain *d, const char *disk)
{
    doc_auto *live = domain_live(d, NULL);
    const struct el *e = live ? domain_find_disk(live, disk) : NULL;
    g_autofree char *node = e ? domain_chain_node(e) : NULL, *bitmap = g_strdup_printf("backup-%s", disk);
    struct json_object *args = json_object_new_object();
    js_set(args, "node", node ? node : "");
    js_set(args, "name", bitmap);
    json_object_put(monitor_command(d, "block-dirty-bitmap-remove", args, NULL));
}

void domain_backup_cancel(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool pull = d->backup && d->backup->active && d->backup->pull;
    g_mutex_unlock(&d->lock);
    if (pull)
        domain_backup_close(d); /* first: nobody reads what is no longer held */
    cancel_others(d);
}

/* Anything but a success leaves no half image; `remove`: it is one that the daemon has made. */
static void settle_disk(struct domain *d, const char *disk, int status, bool remove)
{
    g_autofree char *path = NULL;
    bool incremental = false, pull = false;
    g_mutex_lock(&d->lock);
    struct el *spec = d->backup ? domain_backup_spec(d->backup, disk) : NULL;
    if (spec) {
        pull = d->backup->pull;
        path = remove ? g_strdup(domain_backup_path(spec)) : NULL;
        incremental = el_is(spec, "@backupmode", "incremental");
        d->backup->failed |= status == VIR_DOMAIN_BLOCK_JOB_FAILED;
        d->backup->canceled |= status == VIR_DOMAIN_BLOCK_JOB_CANCELED && !pull;
    }
    g_mutex_unlock(&d->lock);
    if (incremental && !pull)
        remove_bitmap(d, disk);
    if (path && (pull || status != VIR_DOMAIN_BLOCK_JOB_COMPLETED))
        unlink(path);
}

void domain_backup_count(struct domain *d, const char *job)
{
    struct json_object *list = monitor_command(d, "query-jobs", NULL, NULL);
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *id;
        if (!json_object_object_get_ex(o, "id", &id) || strcmp(json_object_get_string(id), job))
            continue;
        g_mutex_lock(&d->lock);
        if (d->backup) {
            d->backup->done += (uint64_t)js_number(o, "current-progress");
            d->backup->total += (uint64_t)js_number(o, "total-progress");
        }
        g_mutex_unlock(&d->lock);
    }
    json_object_put(list);
}

static bool has_jobs_locked(struct domain *d)
{
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++)
        if (((struct domain_blockjob *)d->jobs->pdata[i])->type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
            return true;
    return false;
}

/* It is over when its last disk is; clients are told. */
static void finish(struct domain *d)
{
    GVariantBuilder b;
    g_mutex_lock(&d->lock);
    bool over = d->backup && d->backup->active && !has_jobs_locked(d);
    if (over) {
        d->backup->active = false;
        d->backup->elapsed = g_get_real_time() - d->backup->started;
        if (d->transfer && d->transfer->type != VIR_DOMAIN_JOB_UNBOUNDED) /* of the jobs that ended the last one is told */
            g_clear_pointer(&d->transfer, g_free);
        g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
        domain_backup_params(&b, d->backup, d->backup->elapsed, d->backup->done, d->backup->total, true);
        g_cond_broadcast(&d->job_done);
    }
    g_mutex_unlock(&d->lock);
    if (!over)
        return;
    (void)!domain_write_status(d, NULL);
    manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, d->uuid, sizeof(d->uuid), g_variant_new("(@(sayi)a(sv))", domain_variant(d), &b));
}

void domain_backup_disk_ended(struct domain *d, const char *disk, int status, bool remove)
{
    settle_disk(d, disk, status, remove);
    if (status != VIR_DOMAIN_BLOCK_JOB_COMPLETED)
        domain_backup_cancel(d);
    finish(d);
}

void domain_backup_wait(struct domain *d)
{
    gint64 until = g_get_monotonic_time() + END_WAIT_SECONDS * G_TIME_SPAN_SECOND;
    g_mutex_lock(&d->lock);
    while (d->backup && d->backup->active && g_cond_wait_until(&d->job_done, &d->lock, until))
        ;
    g_mutex_unlock(&d->lock);
}

/* ---- what was begun and is not to be ---- */

/* What stands in the note alone; free it. */
static void take_note(struct domain *d, char **ret_checkpoint, char **ret_making)
{
    g_mutex_lock(&d->lock);
    d->backup->failed = true;
    *ret_checkpoint = g_steal_pointer(&d->backup->checkpoint);
    *ret_making = g_steal_pointer(&d->backup->making);
    g_mutex_unlock(&d->lock);
}

static bool open_locked(struct domain *d) { return d->backup && d->backup->active && !d->backup->begun; }

void domain_backup_take_back(struct domain *d)
{
    g_autofree char *checkpoint = NULL, *making = NULL;
    g_autoptr(GError) why = NULL;
    take_note(d, &checkpoint, &making);
    domain_backup_cancel(d);
    if (making)
        unlink(making);
    g_mutex_lock(&d->lock);
    bool there = checkpoint && domain_moment_find_locked(d, MOMENT_CHECKPOINT, checkpoint);
    g_mutex_unlock(&d->lock);
    if (there && !domain_checkpoint_delete(d, checkpoint, &why))
        g_warning("domain '%s': the checkpoint '%s' of a backup that was taken back is still there: %s", d->name, checkpoint, why->message);
    finish(d); /* where no disk was noted yet */
}

/* Whether the machine knows a job of the backup: its transaction was all or nothing. */
static bool knows_jobs(struct domain *d, struct json_object *list)
{
    bool any = false;
    g_mutex_lock(&d->lock);
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *id;
        struct domain_blockjob *j = json_object_object_get_ex(json_object_array_get_idx(list, i), "id", &id) ? domain_blockjob_named_locked(d, json_object_get_string(id)) : NULL;
        any |= j && j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
    }
    g_mutex_unlock(&d->lock);
    return any;
}

void domain_backup_refresh(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool open = open_locked(d), pull = open && d->backup->pull;
    g_mutex_unlock(&d->lock);
    struct json_object *list = open ? monitor_command(d, "query-jobs", NULL, NULL) : NULL;
    if (!list)
        return;
    bool runs = knows_jobs(d, list);
    json_object_put(list);
    if (runs && !pull) { /* it has all that it needs */
        g_mutex_lock(&d->lock);
        d->backup->begun = true;
        g_clear_pointer(&d->backup->checkpoint, g_free);
        g_mutex_unlock(&d->lock);
        (void)!domain_write_status(d, NULL);
        return;
    }
    g_warning("domain '%s': a backup that was not wholly begun when the daemon before ended is taken back", d->name);
    domain_backup_take_back(d);
}

/* ---- a machine that ends ---- */

static GPtrArray *files_locked(struct domain *d)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++) {
        const struct domain_blockjob *j = d->jobs->pdata[i];
        const struct el *spec = j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP && j->remove ? domain_backup_spec(d->backup, j->disk) : NULL;
        if (spec && domain_backup_path(spec))
            g_ptr_array_add(files, g_strdup(domain_backup_path(spec)));
    }
    return files;
}

void domain_backup_gone(struct domain *d)
{
    g_autofree char *checkpoint = NULL, *making = NULL;
    g_mutex_lock(&d->lock);
    bool active = d->backup && d->backup->active, open = open_locked(d);
    g_autoptr(GPtrArray) files = active ? files_locked(d) : NULL;
    g_mutex_unlock(&d->lock);
    if (!active)
        return;
    if (open)
        take_note(d, &checkpoint, &making);
    for (unsigned i = 0; i < files->len; i++)
        unlink(files->pdata[i]);
    if (making)
        unlink(making);
    domain_backup_remove_socket(d);
    if (checkpoint) /* may not have been written */
        (void)!domain_moment_remove(d, MOMENT_CHECKPOINT, checkpoint, NULL);
    g_mutex_lock(&d->lock);
    d->backup->canceled = true;
    g_clear_pointer(&d->jobs, g_ptr_array_unref);
    g_mutex_unlock(&d->lock);
    finish(d);
}
