/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of a block job: the live document shows the chain as it is from now on, nodes that nobody needs go, the definition follows where it means the same image,
 * and clients are told last, when all that is true. All of it is found out from the document and the job's note alone: a daemon that was started anew does the same.
 */
#include "manage/drivers/domain/backup/domain_backup.h"

#include <errno.h>
#include <unistd.h>

#include "manage/drivers/domain/stats/domain_stats.h"

/* ---- documents ---- */

bool domain_disk_edit(struct domain *d, const char *target, domain_disk_editor fn, void *opaque)
{
    g_mutex_lock(&d->lock);
    struct doc *old = d->live, *copy = old ? doc_copy(old) : NULL;
    struct el *disk = copy ? domain_find_disk(copy, target) : NULL;
    if (disk) {
        fn(disk, opaque);
        d->live = copy;
        doc_free(old);
    } else {
        doc_free(copy);
    }
    g_mutex_unlock(&d->lock);
    return disk != NULL;
}

/* Of what a definition says is below its disk stays what still is. */
static void prune(struct el *disk, const struct el *live)
{
    for (struct el *e = disk, *below; (below = domain_chain_below(e));) {
        bool still = false;
        for (const struct el *l = domain_chain_below(live); l && !still; l = domain_chain_below(l))
            still = !g_strcmp0(domain_chain_path(l), domain_chain_path(below));
        if (still)
            e = below;
        else
            domain_chain_set_below(e, domain_chain_below(below));
    }
}

static void follow(struct el *disk, const struct el *live, bool chain)
{
    struct el *old = el_find(disk, "backingStore");
    domain_chain_take(disk, live, false);
    if (chain && old)
        el_remove(old);
    if (chain && el_find(live, "backingStore"))
        el_copy(disk, el_find(live, "backingStore"));
    else if (old)
        prune(disk, live);
    domain_chain_forget(disk);
}

void domain_disk_follow(struct domain *d, const char *target, const char *old, bool chain)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&d->lock);
    bool persistent = d->persistent;
    g_mutex_unlock(&d->lock);
    doc_auto *live = persistent ? domain_live(d, NULL) : NULL, *defined = live ? domain_definition(d, &error) : NULL;
    struct el *disk = defined ? domain_find_disk(defined, target) : NULL, *now = live ? domain_find_disk(live, target) : NULL;
    const char *path = disk ? domain_chain_path(disk) : NULL;
    if (!disk || !now || g_strcmp0(path, old))
        return; /* another image is defined by now */
    follow(disk, now, chain);
    if (domain_follow_definition(d, defined, &error))
        defined = NULL;
    else
        g_warning("domain '%s': the definition still names the image '%s' of disk '%s': %s", d->name, old, target, error->message);
}

/* ---- what each kind changes ---- */

struct end {
    const struct domain_blockjob *j;
    bool success, chain;       /* chain: the definition gets what is below, too */
    GArray *nodes;             /* indexes that nobody needs any more */
    GPtrArray *files;          /* of a commit: what it emptied */
    char *old;                 /* the disk's image before */
};

static void take_nodes(struct end *e, const struct el *from, const struct el *to)
{
    g_autoptr(GArray) some = domain_chain_indexes(from, to);
    g_array_append_vals(e->nodes, some->data, some->len);
    for (const struct el *i = from; i && i != to && e->j->remove; i = domain_chain_below(i))
        if (domain_chain_path(i) && el_is(i, "@type", "file"))
            g_ptr_array_add(e->files, g_strdup(domain_chain_path(i)));
}

/* The copy is the disk. */
static void end_copy(struct el *disk, struct el *mirror, struct end *e)
{
    if (!e->success) {
        take_nodes(e, mirror, NULL); /* what it shares with the disk is not in it */
        return;
    }
    bool own = el_find(mirror, "backingStore") != NULL;
    take_nodes(e, disk, own ? NULL : domain_chain_below(disk));
    domain_chain_take(disk, mirror, true);
    if (own)
        domain_chain_set_below(disk, domain_chain_below(mirror));
}

static void end_active_commit(struct el *disk, struct end *e)
{
    struct el *base = domain_chain_at(disk, e->j->base);
    if (!e->success || !base || base == disk)
        return;
    take_nodes(e, disk, base);
    domain_chain_take(disk, base, true);
    domain_chain_set_below(disk, domain_chain_below(base));
    e->chain = true;
}

static void end_commit(struct el *disk, struct end *e)
{
    struct el *top = domain_chain_at(disk, e->j->top), *base = domain_chain_at(disk, e->j->base);
    if (!e->success || !top || !base || top == disk)
        return;
    take_nodes(e, top, base);
    domain_chain_set_below(el_parent(top), base);
}

static void end_pull(struct el *disk, struct end *e)
{
    struct el *base = e->j->base ? domain_chain_at(disk, e->j->base) : NULL;
    if (!e->success || (e->j->base && !base))
        return;
    take_nodes(e, domain_chain_below(disk), base);
    domain_chain_set_below(disk, base);
}

static void apply(struct el *disk, void *opaque)
{
    struct end *e = opaque;
    struct el *mirror = el_find(disk, "mirror");
    e->old = g_strdup(domain_chain_path(disk));
    if (e->j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY && mirror)
        end_copy(disk, mirror, e);
    else if (e->j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT)
        end_active_commit(disk, e);
    else if (e->j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT)
        end_commit(disk, e);
    else if (e->j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_PULL)
        end_pull(disk, e);
    else if (e->j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
        g_array_append_val(e->nodes, e->j->base);
    if (mirror && e->j->type != VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
        el_remove(mirror);
}

/* ---- telling ---- */

static void tell(struct domain *d, const char *target, int type, int status)
{
    g_mutex_lock(&d->lock);
    struct el *disk = d->live ? domain_find_disk(d->live, target) : NULL;
    g_autofree char *path = g_strdup(disk && domain_chain_path(disk) ? domain_chain_path(disk) : "");
    g_mutex_unlock(&d->lock);
    manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_BLOCK_JOB, d->uuid, sizeof(d->uuid),
                 g_variant_new("(@(sayi)sii)", domain_variant(d), path, type, status));
    manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, d->uuid, sizeof(d->uuid),
                 g_variant_new("(@(sayi)sii)", domain_variant(d), target, type, status));
}

static void mark_ready(struct el *disk, void *opaque)
{
    struct el *mirror = el_find(disk, "mirror");
    bool *news = opaque;
    if (mirror && !el_get(mirror, "@ready")) {
        el_set(mirror, "@ready", "yes");
        *news = true;
    }
}

void domain_blockjob_ready(struct domain *d, const char *name)
{
    bool news = false;
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
    g_autofree char *disk = j ? g_strdup(j->disk) : NULL;
    int type = j ? j->type : 0;
    g_mutex_unlock(&d->lock);
    if (!disk || !domain_disk_edit(d, disk, mark_ready, &news) || !news)
        return;
    (void)!domain_write_status(d, NULL);
    tell(d, disk, type, VIR_DOMAIN_BLOCK_JOB_READY);
}

/* ---- before a pivot ---- */

static bool pivots(const struct domain_blockjob *j)
{
    return j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY || j->type == VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT;
}

static void note_defined(struct domain *d, struct domain_blockjob *j, char *text)
{
    g_mutex_lock(&d->lock);
    g_free(j->defined);
    j->defined = text;
    g_mutex_unlock(&d->lock);
}

/* The definition as it will be; noted first, so that a job that fails after all is known to have changed it. */
static bool define_ahead(struct domain *d, struct domain_blockjob *j, GError **error)
{
    doc_auto *live = domain_live(d, error);
    doc_auto *defined = live && d->persistent ? domain_definition(d, error) : NULL;
    if (!live || (d->persistent && !defined))
        return false;
    struct el *disk = domain_find_disk(live, j->disk), *own = defined ? domain_find_disk(defined, j->disk) : NULL;
    if (!disk || !own)
        return true;
    g_autoptr(GArray) nodes = g_array_new(FALSE, FALSE, sizeof(unsigned));
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    struct end e = { .j = j, .success = true, .nodes = nodes, .files = files };
    apply(disk, &e);
    g_autofree char *old = e.old;
    if (g_strcmp0(domain_chain_path(own), old) != 0)
        return true; /* another image is defined by now */
    note_defined(d, j, el_format(own, 0));
    follow(own, disk, e.chain);
    if (!domain_write_status(d, error) || !domain_follow_definition(d, defined, error)) {
        note_defined(d, j, NULL);
        return false;
    }
    defined = NULL;
    return true;
}

/* The pivot did not come to pass: the definition names what it named, unless it names a third by now. */
static void define_back(struct domain *d, struct domain_blockjob *j)
{
    g_autoptr(GError) error = NULL;
    doc_auto *was = doc_parse_at(&schema_domain, "devices", j->defined, -1, &error), *live = was ? domain_live(d, &error) : NULL, *defined = live && d->persistent ? domain_definition(d, &error) : NULL;
    struct el *disk = defined ? domain_find_disk(defined, j->disk) : NULL, *now = live ? domain_find_disk(live, j->disk) : NULL, *mirror = now ? el_find(now, "mirror") : NULL;
    if (disk && mirror && !g_strcmp0(domain_chain_path(disk), domain_chain_path(mirror))) {
        domain_chain_put_back(disk, doc_root(was));
        if (domain_follow_definition(d, defined, &error))
            defined = NULL;
    }
    if (error)
        g_warning("domain '%s': the definition of disk '%s' names the image of a job that failed: %s", d->name, j->disk, error->message);
}

/*
 * A copy that waits for its last step has what the disk has, so a definition that names it is right before that step and after it; one that names the disk's image is not
 * right after it. A definition that cannot be written ends the job.
 */
void domain_blockjob_pending(struct domain *d, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
    g_mutex_unlock(&d->lock);
    if (!j)
        return;
    bool good = !pivots(j) || !j->pivoting || j->aborting || j->defined || define_ahead(d, j, &error);
    if (!good)
        g_warning("domain '%s': block job '%s' is ended before its pivot: %s", d->name, name, error->message);
    struct json_object *args = json_object_new_object();
    js_set(args, "id", name);
    json_object_put(monitor_command(d, good ? "job-finalize" : "job-cancel", args, NULL));
}

/* ---- all of it ---- */

static void remove_files(struct domain *d, GPtrArray *files)
{
    for (unsigned i = 0; i < files->len; i++)
        if (unlink(files->pdata[i]) < 0)
            g_warning("domain '%s': the image '%s' was committed and cannot be removed: %s", d->name, (const char *)files->pdata[i], g_strerror(errno));
}

/* The note goes last of all that is on disk: a daemon that is killed before does the same again. */
void domain_blockjob_ended(struct domain *d, const char *name, const char *why)
{
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_named_locked(d, name); /* nobody else takes it away: this is inside a job of the domain */
    g_mutex_unlock(&d->lock);
    if (!j)
        return;
    g_autofree char *disk = g_strdup(j->disk);
    struct end e = { .j = j, .nodes = g_array_new(FALSE, FALSE, sizeof(unsigned)), .files = g_ptr_array_new_with_free_func(g_free) };
    int type = j->type, status;
    e.success = !why && !j->aborting && (!pivots(j) || j->pivoting);
    status = e.success ? VIR_DOMAIN_BLOCK_JOB_COMPLETED : j->aborting || !why ? VIR_DOMAIN_BLOCK_JOB_CANCELED : VIR_DOMAIN_BLOCK_JOB_FAILED;
    if (status == VIR_DOMAIN_BLOCK_JOB_FAILED) {
        g_autofree char *line = g_strdup_printf("block job '%s' failed: %s", name, why);
        domain_log(d, line);
    }
    if (!e.success && j->defined)
        define_back(d, j);
    domain_disk_edit(d, disk, apply, &e);
    if (e.success && e.old && type != VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
        domain_disk_follow(d, disk, e.old, e.chain);
    if (type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
        domain_backup_count(d, name);
    bool remove = j->remove;
    domain_blockjob_drop(d, name);
    struct json_object *args = json_object_new_object();
    js_set(args, "id", name);
    json_object_put(monitor_command(d, "job-dismiss", args, NULL));
    domain_chain_delete(d, e.nodes);
    if (e.success)
        remove_files(d, e.files);
    if (type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
        domain_backup_disk_ended(d, disk, status, remove);
    tell(d, disk, type, status);
    g_array_unref(e.nodes);
    g_ptr_array_unref(e.files);
    g_free(e.old);
}
