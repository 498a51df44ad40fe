/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Backups in push mode: all disks at one moment by one transaction, full, or what was written since a checkpoint (from its bitmaps, merged into one for the job).
 * The machine writes them into images that the daemon has made. Pull mode, where a client reads them from the machine, is refused.
 */
#include "manage/drivers/domain/domain_backup.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/drivers/domain/domain_checkpoint.h"
#include "manage/drivers/domain/domain_command.h"
#include "manage/drivers/domain/domain_stats.h"

void domain_backup_free(struct domain_backup *b)
{
    if (!b)
        return;
    doc_free(b->doc);
    g_free(b);
}

/* ---- in the status file ---- */

void domain_backup_format_locked(struct domain *d, GString *to)
{
    if (!d->backup || !d->backup->active)
        return;
    g_autofree char *xml = doc_format(d->backup->doc), *escaped = g_markup_escape_text(xml, -1);
    g_string_append_printf(to, "<backup started='%" G_GINT64_FORMAT "' xml='%s'/>\n", d->backup->started, escaped);
}

struct domain_backup *domain_backup_parse(const char *xml, gint64 started)
{
    struct doc *doc = doc_parse(&schema_backup, xml, -1, NULL);
    if (!doc)
        return NULL;
    struct domain_backup *b = g_new0(struct domain_backup, 1);
    b->doc = doc;
    b->active = true;
    b->started = started;
    return b;
}

/* ---- what is to be done ---- */

struct backup {
    struct domain *d;
    struct doc *doc, *live, *checkpoint;
    struct domain_build build;
    bool built;
    uint32_t flags;
    struct json_object *actions, *nodes;
    GPtrArray *jobs;      /* names */
    GPtrArray *made;      /* paths */
};

static struct el *spec_of(struct el *disks, const char *target)
{
    el_each(e, disks, "disk")
        if (el_is(e, "@name", target))
            return e;
    return NULL;
}

static const char *path_of(const struct el *spec)
{
    const char *file = el_get(spec, "target/@file");
    return file ? file : el_get(spec, "target/@dev");
}

/* Says of every disk of the domain what becomes of it. */
static bool align(struct backup *w, GError **error)
{
    struct el *root = doc_root(w->doc), *old = el_find(root, "disks"), *devices = el_find(doc_root(w->live), "devices");
    const char *incremental = el_get(root, "incremental");
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    bool any = false;
    el_each(spec, old, "disk")
        if (!domain_need_disk(w->live, el_get_or(spec, "@name", ""), VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: no disk named '%s'", error))
            return false;
    struct el *disks = el_add(root, "disks");
    el_each(disk, devices, "disk") {
        const char *target = el_get_or(disk, "target/@dev", "?"), *image = domain_chain_path(disk);
        struct el *said = old ? spec_of(old, target) : NULL, *spec = said ? el_copy(disks, said) : el_add(disks, "disk");
        bool can = el_find(disk, "source") && !el_find(disk, "readonly");
        el_set(spec, "@name", target);
        if (!el_get(spec, "@backup"))
            el_set(spec, "@backup", can && (said || !old) ? "yes" : "no");
        if (el_is(spec, "@backup", "no"))
            continue;
        any = true;
        if (!can)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: disk '%s' is empty or readonly: there is nothing to back up", target);
        if (!el_get(spec, "@type"))
            el_set(spec, "@type", "file");
        if (!el_get(spec, "driver/@type"))
            el_set(spec, "driver/@type", "qcow2");
        if (!path_of(spec) && !image)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: the backup of disk '%s' needs a target with a name", target);
        if (!path_of(spec))
            el_setf(spec, "target/@file", "%s.%" G_GINT64_FORMAT, image, now);
        if (!el_get(spec, "@backupmode"))
            el_set(spec, "@backupmode", incremental || el_get(spec, "@incremental") ? "incremental" : "full");
        if (el_is(spec, "@backupmode", "incremental") && !el_get(spec, "@incremental") && incremental)
            el_set(spec, "@incremental", incremental);
    }
    if (old)
        el_remove(old);
    return any || manage_fail(error, VIR_ERR_INVALID_ARG, "invalid argument: no disks selected for backup");
}

/* A bitmap of the job's own with all that was written since the checkpoint. */
static bool add_bitmap(struct backup *w, const struct el *spec, const struct el *disk, const char *node, char **ret, GError **error)
{
    const char *since = el_get(spec, "@incremental");
    *ret = NULL;
    if (!el_is(spec, "@backupmode", "incremental"))
        return true;
    const char *target = el_get(spec, "@name");
    g_autofree char *bitmap = since ? domain_checkpoint_bitmap(w->d, since, target) : NULL;
    doc_auto *known = since ? domain_moment_document(w->d, MOMENT_CHECKPOINT, since, error) : NULL;
    if (since && !known)
        return false;
    if (!bitmap)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "invalid argument: disk '%s' is not in the checkpoint '%s': what was written since is not known", target, since ? since : "?");
    struct json_object *chain = domain_bitmap_chain(w->nodes, disk, bitmap, NULL, error), *add = json_object_new_object(), *merge;
    if (!chain) {
        json_object_put(add);
        return false;
    }
    *ret = g_strdup_printf("backup-%s", target);
    js_set(add, "node", node);
    js_set(add, "name", *ret);
    js_bool(add, "persistent", false);
    js_bool(add, "disabled", true);
    domain_action(w->actions, "block-dirty-bitmap-add", add);
    merge = json_object_new_object();
    js_set(merge, "node", node);
    js_set(merge, "target", *ret);
    json_object_object_add(merge, "bitmaps", chain);
    domain_action(w->actions, "block-dirty-bitmap-merge", merge);
    return true;
}

/* The target's image and its node. */
static bool add_target(struct backup *w, struct el *spec, struct el *disk, const char *node, unsigned *ret_index, GError **error)
{
    const char *path = path_of(spec), *format = el_get(spec, "driver/@type"), *target = el_get(spec, "@name");
    struct stat st;
    bool made = false, there = stat(path, &st) == 0, reuse = w->flags & VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL;
    uint64_t size;
    g_autofree char *user = domain_disk_user(w->d->driver->state, path);
    if (user)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: the image '%s' is in use by the running domain '%s'", path, user);
    if (there && !reuse && !S_ISBLK(st.st_mode) && st.st_size)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "invalid argument: store '%s' for backup of '%s' exists", path, target);
    if (el_is(spec, "@backupmode", "incremental") && g_str_equal(format, "raw"))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "invalid argument: an incremental backup of disk '%s' needs a format that says what it holds: not raw", target);
    if (!reuse && (!domain_node_size(w->d, node, &size, error) || !domain_image_make(path, format, size, NULL, NULL, target, &made, error)))
        return false;
    if (made)
        g_ptr_array_add(w->made, g_strdup(path));
    struct el *m = el_find(disk, "mirror") ? NULL : el_add(disk, "mirror");
    if (!m)
        return manage_fail(error, VIR_ERR_BLOCK_COPY_ACTIVE, "block copy still active: disk '%s' already in active block job", target);
    bool block = stat(path, &st) == 0 && S_ISBLK(st.st_mode);
    el_set(m, "@type", block ? "block" : "file");
    el_set(m, "format/@type", format);
    el_set(m, block ? "source/@dev" : "source/@file", path);
    domain_chain_set_below(m, NULL);
    bool ok = domain_chain_complete_image(&w->build, m, true, false, target, error) && domain_plan_image(&w->build, disk, m, true, error);
    *ret_index = domain_chain_index(m);
    return ok;
}

static bool add_disk(struct backup *w, struct el *spec, struct el *disk, GError **error)
{
    g_autofree char *node = domain_chain_node(disk), *bitmap = NULL, *to = NULL;
    const char *target = el_get(spec, "@name");
    unsigned index = 0;
    if (!domain_blockjob_none(w->d, target, error) || !add_target(w, spec, disk, node, &index, error) || !add_bitmap(w, spec, disk, node, &bitmap, error))
        return false;
    struct domain_blockjob *j = g_new0(struct domain_blockjob, 1);
    j->name = g_strdup_printf("backup-%s-%s", target, node);
    j->disk = g_strdup(target);
    j->type = VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
    j->top = domain_chain_index(disk);
    j->base = index;
    to = g_strdup_printf("libvirt-%u-format", index);
    struct json_object *o = json_object_new_object();
    js_set(o, "job-id", j->name);
    js_set(o, "device", node);
    js_set(o, "target", to);
    js_set(o, "sync", bitmap ? "incremental" : "full");
    js_set(o, "bitmap", bitmap);
    js_bool(o, "auto-finalize", true);
    js_bool(o, "auto-dismiss", false);
    domain_action(w->actions, "blockdev-backup", o);
    g_ptr_array_add(w->jobs, g_strdup(j->name));
    return domain_blockjob_note(w->d, j, error);
}

static bool add_disks(struct backup *w, GError **error)
{
    bool ok = true;
    el_each(spec, el_find(doc_root(w->doc), "disks"), "disk")
        if (ok && el_is(spec, "@backup", "yes"))
            ok = add_disk(w, spec, domain_find_disk(w->live, el_get_or(spec, "@name", "")), error);
    return ok;
}

/* ---- begin ---- */

static bool check(struct backup *w, GError **error)
{
    if (el_is(doc_root(w->doc), "@mode", "pull") || el_find(doc_root(w->doc), "server"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "Operation not supported: backups in pull mode are not there yet: push mode is");
    g_mutex_lock(&w->d->lock);
    bool busy = w->d->backup && w->d->backup->active;
    g_mutex_unlock(&w->d->lock);
    return !busy || manage_fail(error, VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: another backup of the domain is running");
}

static void note(struct backup *w)
{
    struct domain_backup *b = g_new0(struct domain_backup, 1);
    b->doc = doc_copy(w->doc);
    el_set(doc_root(b->doc), "@mode", "push");
    b->active = true;
    b->started = g_get_real_time();
    g_mutex_lock(&w->d->lock);
    domain_backup_free(w->d->backup);
    w->d->backup = b;
    g_mutex_unlock(&w->d->lock);
}

static void take_back(struct backup *w, const char *checkpoint)
{
    for (unsigned i = 0; i < w->jobs->len; i++)
        domain_blockjob_drop(w->d, w->jobs->pdata[i]);
    if (w->built)
        domain_plan_undo(w->build.plan, w->d);
    for (unsigned i = 0; i < w->made->len; i++)
        unlink(w->made->pdata[i]);
    if (checkpoint)
        (void)!domain_moment_remove(w->d, MOMENT_CHECKPOINT, checkpoint, NULL);
    g_mutex_lock(&w->d->lock);
    g_clear_pointer(&w->d->backup, domain_backup_free);
    g_mutex_unlock(&w->d->lock);
    (void)!domain_write_status(w->d, NULL);
}

/* The checkpoint's bitmaps come in the same moment as the backup. */
static bool begin(struct backup *w, const char *checkpoint, GError **error)
{
    w->live = domain_live(w->d, error);
    w->nodes = w->live ? domain_bitmap_nodes(w->d, error) : NULL;
    if (!w->nodes || !check(w, error) || !align(w, error))
        return false;
    if (checkpoint && !(w->checkpoint = domain_checkpoint_plan(w->d, checkpoint, w->actions, error)))
        return false;
    domain_build_init(&w->build, w->d, w->d->driver, w->live);
    w->built = true;
    note(w);
    const char *name = w->checkpoint ? el_get(doc_root(w->checkpoint), "name") : NULL;
    bool kept = name && domain_moment_put(w->d, MOMENT_CHECKPOINT, doc_copy(w->checkpoint), true, error);
    bool ok = (!name || kept) && add_disks(w, error) && domain_plan_send(w->build.plan, w->d, error) && domain_transaction(w->d, g_steal_pointer(&w->actions), error);
    if (!ok)
        take_back(w, kept ? name : NULL);
    return ok;
}

static GVariant *backup_begin(struct manage_call *c, GError **error)
{
    const char *xml, *checkpoint;
    struct backup w = { NULL };
    g_variant_get_child(c->args, 1, "&s", &xml);
    g_variant_get_child(c->args, 2, "m&s", &checkpoint);
    g_variant_get_child(c->args, 3, "u", &w.flags);
    domain_auto *d = manage_check_flags(w.flags, VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? doc_parse(&schema_backup, xml, -1, error) : NULL;
    if (!doc || !domain_begin(d, "backup", true, error))
        return NULL;
    w.d = d;
    w.doc = doc;
    w.actions = json_object_new_array();
    w.jobs = g_ptr_array_new_with_free_func(g_free);
    w.made = g_ptr_array_new_with_free_func(g_free);
    bool ok = begin(&w, checkpoint, error);
    if (w.built)
        domain_build_finish(&w.build);
    json_object_put(w.actions);
    json_object_put(w.nodes);
    g_ptr_array_unref(w.jobs);
    g_ptr_array_unref(w.made);
    doc_free(w.live);
    doc_free(w.checkpoint);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

/* ---- its end ---- */

static void params(GVariantBuilder *b, const struct domain_backup *k, gint64 elapsed, uint64_t done, uint64_t total, bool over)
{
    manage_param_i32(b, VIR_DOMAIN_JOB_OPERATION, VIR_DOMAIN_JOB_OPERATION_BACKUP);
    manage_param_u64(b, VIR_DOMAIN_JOB_TIME_ELAPSED, (uint64_t)elapsed / 1000);
    if (over)
        manage_param_bool(b, VIR_DOMAIN_JOB_SUCCESS, !k->failed && !k->canceled);
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

/* Anything but a success leaves no half image. */
static void settle_disk(struct domain *d, const char *disk, int status)
{
    g_autofree char *path = NULL;
    bool incremental = false;
    g_mutex_lock(&d->lock);
    struct el *spec = d->backup ? spec_of(el_find(doc_root(d->backup->doc), "disks"), disk) : NULL;
    if (spec) {
        path = el_is(spec, "@type", "file") ? g_strdup(path_of(spec)) : NULL;
        incremental = el_is(spec, "@backupmode", "incremental");
        d->backup->failed |= status == VIR_DOMAIN_BLOCK_JOB_FAILED;
        d->backup->canceled |= status == VIR_DOMAIN_BLOCK_JOB_CANCELED;
    }
    g_mutex_unlock(&d->lock);
    if (incremental)
        remove_bitmap(d, disk);
    if (path && status != VIR_DOMAIN_BLOCK_JOB_COMPLETED)
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

void domain_backup_disk_ended(struct domain *d, const char *disk, int status)
{
    GVariantBuilder b;
    settle_disk(d, disk, status);
    if (status != VIR_DOMAIN_BLOCK_JOB_COMPLETED)
        cancel_others(d);
    g_mutex_lock(&d->lock);
    bool over = d->backup && d->backup->active;
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++)
        over &= ((struct domain_blockjob *)d->jobs->pdata[i])->type != VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
    if (over) {
        d->backup->active = false;
        d->backup->elapsed = g_get_real_time() - d->backup->started;
        g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
        params(&b, d->backup, d->backup->elapsed, d->backup->done, d->backup->total, true);
    }
    g_mutex_unlock(&d->lock);
    if (!over)
        return;
    (void)!domain_write_status(d, NULL);
    manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, d->uuid, sizeof(d->uuid), g_variant_new("(@(sayi)a(sv))", domain_variant(d), &b));
}

/* ---- looking at it, and ending it ---- */

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    g_autofree char *text = d->backup && d->backup->active ? doc_format(d->backup->doc) : NULL;
    g_mutex_unlock(&d->lock);
    return text ? g_variant_new("(s)", text) : manage_null(error, VIR_ERR_NO_DOMAIN_BACKUP, "Domain backup job id not found: no domain backup job present");
}

/* Bytes of the disks that are under way, beside those that have ended. */
static void progress(struct domain *d, uint64_t *done, uint64_t *total)
{
    struct json_object *list = monitor_command(d, "query-block-jobs", NULL, NULL);
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *type;
        if (!json_object_object_get_ex(o, "type", &type) || strcmp(json_object_get_string(type), "backup"))
            continue;
        *done += (uint64_t)js_number(o, "offset");
        *total += (uint64_t)js_number(o, "len");
    }
    json_object_put(list);
}

struct numbers {
    int type;
    gint64 elapsed;
    uint64_t done, total;
    struct domain_backup b;
};

/* completed: of the last one, which is forgotten unless it is to be kept. */
static void look(struct domain *d, bool completed, bool keep, struct numbers *n)
{
    *n = (struct numbers){ .type = VIR_DOMAIN_JOB_NONE };
    g_mutex_lock(&d->lock);
    struct domain_backup *b = d->backup;
    bool show = b && b->active == !completed;
    if (show) {
        n->b = *b;
        n->b.doc = NULL;
        n->type = b->active ? VIR_DOMAIN_JOB_UNBOUNDED : b->failed ? VIR_DOMAIN_JOB_FAILED : b->canceled ? VIR_DOMAIN_JOB_CANCELLED : VIR_DOMAIN_JOB_COMPLETED;
        n->elapsed = b->active ? g_get_real_time() - b->started : b->elapsed;
        n->done = b->done;
        n->total = b->total;
        if (completed && !keep)
            g_clear_pointer(&d->backup, domain_backup_free);
    }
    g_mutex_unlock(&d->lock);
    if (show && !completed)
        progress(d, &n->done, &n->total);
}

static GVariant *get_job_info(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    struct numbers n;
    guint64 z = 0;
    if (!d)
        return NULL;
    look(d, false, true, &n);
    guint64 left = n.total - MIN(n.done, n.total);
    return g_variant_new("(ittttttttttt)", n.type, (guint64)n.elapsed / 1000, z, n.total, n.done, left, z, z, z, n.total, n.done, left);
}

static GVariant *get_job_stats(struct manage_call *c, GError **error)
{
    uint32_t flags;
    struct numbers n;
    GVariantBuilder b;
    g_variant_get_child(c->args, 1, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    bool completed = flags & VIR_DOMAIN_JOB_STATS_COMPLETED;
    if (d->id < 0 && !completed)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: domain is not running");
    look(d, completed, flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED, &n);
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    if (n.type != VIR_DOMAIN_JOB_NONE)
        params(&b, &n.b, n.elapsed, n.done, n.total, completed);
    return g_variant_new("(ia(sv))", n.type, &b);
}

static GVariant *abort_job(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "abort", true, error))
        return NULL;
    g_mutex_lock(&d->lock);
    bool active = d->backup && d->backup->active;
    g_mutex_unlock(&d->lock);
    if (active)
        cancel_others(d);
    domain_end(d);
    return active ? manage_void() : manage_null(error, VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: no job is active on the domain");
}

const struct manage_row domain_rows_backup[] = {
    { RPC_DOMAIN_BACKUP_BEGIN, backup_begin },
    { RPC_DOMAIN_BACKUP_GET_XML_DESC, get_xml },
    { RPC_DOMAIN_GET_JOB_INFO, get_job_info },
    { RPC_DOMAIN_GET_JOB_STATS, get_job_stats },
    { RPC_DOMAIN_ABORT_JOB, abort_job },
    { RPC_DOMAIN_ABORT_JOB_FLAGS, abort_job },
    { 0, NULL },
};
