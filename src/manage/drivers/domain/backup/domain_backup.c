/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Backups begin: all disks at one moment by one transaction, full, or what was written since a checkpoint (from its bitmaps, merged into one for the job). In push mode
 * the machine writes them into images that the daemon has made. In pull mode a client reads them from the machine (domain_backup_pull.c): an image that stands on the
 * disk, the scratch image, gets what the guest is about to overwrite, and shows with the disk below it what there was.
 *
 * What is being begun is noted in the status file before each step, so that a daemon that comes after one that was killed takes it back (domain_backup_end.c).
 */
#include "manage/drivers/domain/backup/domain_backup.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/drivers/domain/snapshot/domain_checkpoint.h"
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/stats/domain_stats.h"
#include "manage/drivers/domain/save/domain_transfer.h"

void domain_backup_free(struct domain_backup *b)
{
    if (!b)
        return;
    doc_free(b->doc);
    g_free(b->checkpoint);
    g_free(b->making);
    g_free(b);
}

/* ---- in the status file ---- */

static void attribute(GString *to, const char *name, const char *value)
{
    g_autofree char *escaped = value ? g_markup_escape_text(value, -1) : NULL;
    if (escaped)
        g_string_append_printf(to, " %s='%s'", name, escaped);
}

void domain_backup_format_locked(struct domain *d, GString *to)
{
    const struct domain_backup *b = d->backup;
    if (!b || !b->active)
        return;
    g_autofree char *xml = doc_format(b->doc);
    g_string_append_printf(to, "<backup started='%" G_GINT64_FORMAT "' begun='%d'", b->started, b->begun);
    attribute(to, "checkpoint", b->checkpoint);
    attribute(to, "making", b->making);
    attribute(to, "xml", xml);
    g_string_append(to, "/>\n");
}

static const char *value_of(const char *name, const char **names, const char **values)
{
    for (unsigned i = 0; names[i]; i++)
        if (g_str_equal(names[i], name))
            return values[i];
    return NULL;
}

struct domain_backup *domain_backup_parse(const char **names, const char **values)
{
    const char *xml = value_of("xml", names, values), *started = value_of("started", names, values), *begun = value_of("begun", names, values);
    struct doc *doc = xml ? doc_parse(&schema_backup, xml, -1, NULL) : NULL;
    if (!doc)
        return NULL;
    struct domain_backup *b = g_new0(struct domain_backup, 1);
    b->doc = doc;
    b->active = true;
    b->pull = el_is(doc_root(doc), "@mode", "pull");
    b->begun = g_strcmp0(begun, "0") != 0; /* an older daemon does not say */
    b->started = started ? g_ascii_strtoll(started, NULL, 10) : 0;
    b->checkpoint = g_strdup(value_of("checkpoint", names, values));
    b->making = g_strdup(value_of("making", names, values));
    return b;
}

/* ---- what is to be done ---- */

struct backup {
    struct domain *d;
    struct doc *doc, *live, *checkpoint;
    struct domain_build build;
    bool built, pull;
    bool late;            /* it began and is being ended: whoever asked waits for that */
    uint32_t flags;
    struct json_object *actions, *nodes;
    GPtrArray *jobs;      /* names */
    GPtrArray *made;      /* paths */
};

struct el *domain_backup_spec(const struct domain_backup *b, const char *target)
{
    el_each(e, el_find(doc_root(b->doc), "disks"), "disk")
        if (el_is(e, "@name", target))
            return e;
    return NULL;
}

const char *domain_backup_path(const struct el *spec)
{
    static const char *const where[] = { "target/@file", "target/@dev", "scratch/@file", "scratch/@dev" };
    for (unsigned i = 0; i < G_N_ELEMENTS(where); i++)
        if (el_get(spec, where[i]))
            return el_get(spec, where[i]);
    return NULL;
}

static struct el *spec_of(struct el *disks, const char *target)
{
    el_each(e, disks, "disk")
        if (el_is(e, "@name", target))
            return e;
    return NULL;
}

/* What the element says that goes with the other mode alone. */
static bool check_spec(const struct backup *w, const struct el *spec, GError **error)
{
    static const char *const pull_only[] = { "scratch", "@exportname", "@exportbitmap" };
    const char *name = el_get(spec, "@name");
    bool increment = el_is(spec, "@backupmode", "incremental");
    for (unsigned i = 0; !w->pull && i < G_N_ELEMENTS(pull_only); i++)
        if (*pull_only[i] == '@' ? el_get(spec, pull_only[i]) != NULL : el_find(spec, pull_only[i]) != NULL)
            return manage_fail(error, VIR_ERR_XML_ERROR, "'%s' of disk '%s' is for backups in pull mode", pull_only[i] + (*pull_only[i] == '@'), name);
    if (!w->pull)
        return true;
    if (el_find(spec, "target"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<target> of disk '%s' is for backups in push mode: in pull mode there is <scratch>", name);
    if (!el_is(spec, "driver/@type", "qcow2"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the scratch image of disk '%s' must be qcow2, not %s", name, el_get(spec, "driver/@type"));
    return increment || !el_get(spec, "@exportbitmap") ||
           manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the full backup of disk '%s' has no bitmap to be exported: that has one since a checkpoint", name);
}

/* Each export has a name of its own. */
static bool name_export(struct el *disks, struct el *spec, GError **error)
{
    if (!el_get(spec, "@exportname"))
        el_set(spec, "@exportname", el_get(spec, "@name"));
    el_each(e, disks, "disk")
        if (e != spec && !g_strcmp0(el_get(e, "@exportname"), el_get(spec, "@exportname")))
            return manage_fail(error, VIR_ERR_XML_ERROR, "the disks '%s' and '%s' have the same exportname '%s'", el_get(e, "@name"), el_get(spec, "@name"), el_get(e, "@exportname"));
    return true;
}

/* Says of every disk of the domain what becomes of it. */
static bool align(struct backup *w, GError **error)
{
    struct el *root = doc_root(w->doc), *old = el_find(root, "disks"), *devices = el_find(doc_root(w->live), "devices");
    const char *incremental = el_get(root, "incremental");
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *suffix = w->checkpoint ? g_strdup(el_get(doc_root(w->checkpoint), "name")) : g_strdup_printf("%" G_GINT64_FORMAT, now);
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
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' is empty or readonly: there is nothing to back up", target);
        if (!el_get(spec, "@type"))
            el_set(spec, "@type", "file");
        if (!el_get(spec, "driver/@type"))
            el_set(spec, "driver/@type", "qcow2");
        if (!domain_backup_path(spec) && !image)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the backup of disk '%s' needs a %s with a name", target, w->pull ? "scratch file" : "target");
        if (!domain_backup_path(spec))
            el_setf(spec, w->pull ? "scratch/@file" : "target/@file", "%s.%s", image, suffix);
        if (!el_get(spec, "@backupmode"))
            el_set(spec, "@backupmode", incremental || el_get(spec, "@incremental") ? "incremental" : "full");
        if (el_is(spec, "@backupmode", "incremental") && !el_get(spec, "@incremental") && incremental)
            el_set(spec, "@incremental", incremental);
        if (!check_spec(w, spec, error) || (w->pull && !name_export(disks, spec, error)))
            return false;
    }
    if (old)
        el_remove(old);
    return any || manage_fail(error, VIR_ERR_INVALID_ARG, "no disks selected for backup");
}

/* A bitmap of the job's own with all that was written since the checkpoint. */
static bool add_bitmap(struct backup *w, const struct el *spec, const struct el *disk, const char *node, const char *name, char **ret, GError **error)
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
        return manage_fail(error, VIR_ERR_INVALID_ARG, "disk '%s' is not in the checkpoint '%s': what was written since is not known", target, since ? since : "?");
    struct json_object *chain = domain_bitmap_chain(w->nodes, disk, bitmap, NULL, error), *add = json_object_new_object(), *merge;
    if (!chain) {
        json_object_put(add);
        return false;
    }
    *ret = name ? g_strdup(name) : g_strdup_printf("backup-%s", target);
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

/* A file that is about to be made; it belongs to the job as soon as that is noted. */
static bool note_making(struct backup *w, const char *path, GError **error)
{
    g_mutex_lock(&w->d->lock);
    g_free(w->d->backup->making);
    w->d->backup->making = g_strdup(path);
    g_mutex_unlock(&w->d->lock);
    return domain_write_status(w->d, error);
}

/* The plan's last node reads from the disk what it does not have itself. */
static void stand_on(struct domain_build *b, const char *node)
{
    struct plan_item *top = b->plan->items->pdata[b->plan->items->len - 1];
    js_set(top->json, "backing", node);
}

/* The target's image and its node. */
static bool add_target(struct backup *w, struct el *spec, struct el *disk, const char *node, unsigned *ret_index, bool *ret_made, GError **error)
{
    const char *path = domain_backup_path(spec), *format = el_get(spec, "driver/@type"), *target = el_get(spec, "@name");
    struct stat st;
    bool made = false, there = stat(path, &st) == 0, reuse = w->flags & VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL;
    uint64_t size;
    g_autofree char *user = domain_disk_user(w->d->driver->state, path);
    if (user)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' is in use by the running domain '%s'", path, user);
    if (there && !reuse && !S_ISBLK(st.st_mode) && st.st_size)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "store '%s' for backup of '%s' exists", path, target);
    if (el_is(spec, "@backupmode", "incremental") && g_str_equal(format, "raw"))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "an incremental backup of disk '%s' needs a format that says what it holds: not raw", target);
    if (!reuse && !there && !note_making(w, path, error))
        return false;
    if (!reuse && (!domain_node_size(w->d, node, &size, error) || !domain_image_make(path, format, size, NULL, NULL, target, &made, error)))
        return false;
    *ret_made = made;
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
    if (ok && w->pull)
        stand_on(&w->build, node);
    *ret_index = domain_chain_index(m);
    return ok;
}

static struct json_object *job_action(const struct backup *w, const struct domain_blockjob *j, const char *node, const char *to, const char *bitmap)
{
    struct json_object *o = json_object_new_object();
    js_set(o, "job-id", j->name);
    js_set(o, "device", node);
    js_set(o, "target", to);
    js_set(o, "sync", w->pull ? "none" : bitmap ? "incremental" : "full");
    js_set(o, "bitmap", w->pull ? NULL : bitmap);
    js_bool(o, "auto-finalize", true);
    js_bool(o, "auto-dismiss", false);
    return o;
}

static bool add_disk(struct backup *w, struct el *spec, struct el *disk, GError **error)
{
    g_autofree char *node = domain_chain_node(disk), *bitmap = NULL, *to = NULL;
    const char *target = el_get(spec, "@name");
    unsigned index = 0;
    bool made = false;
    if (!domain_blockjob_none(w->d, target, error) || !add_target(w, spec, disk, node, &index, &made, error))
        return false;
    to = g_strdup_printf("libvirt-%u-format", index);
    el_setf(spec, "@index", "%u", index);
    if (!add_bitmap(w, spec, disk, w->pull ? to : node, el_get(spec, "@exportbitmap"), &bitmap, error)) /* in pull mode it goes with the scratch image's node */
        return false;
    struct domain_blockjob *j = g_new0(struct domain_blockjob, 1);
    j->name = g_strdup_printf("backup-%s-%s", target, node);
    j->disk = g_strdup(target);
    j->type = VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
    j->top = domain_chain_index(disk);
    j->base = index;
    j->remove = made;
    domain_action(w->actions, "blockdev-backup", job_action(w, j, node, to, bitmap));
    g_ptr_array_add(w->jobs, g_strdup(j->name));
    g_mutex_lock(&w->d->lock);
    g_clear_pointer(&w->d->backup->making, g_free);
    g_mutex_unlock(&w->d->lock);
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
    struct el *root = doc_root(w->doc);
    w->pull = el_is(root, "@mode", "pull");
    if (!w->pull && el_find(root, "server"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "<server> is for backups in pull mode: say <domainbackup mode='pull'>");
    if (w->pull && !domain_backup_check_server(root, error))
        return false;
    g_mutex_lock(&w->d->lock);
    bool busy = w->d->backup && w->d->backup->active;
    g_mutex_unlock(&w->d->lock);
    return !busy || manage_fail(error, VIR_ERR_OPERATION_INVALID, "another backup of the domain is running");
}

static bool note(struct backup *w, const char *checkpoint, GError **error)
{
    struct domain_backup *b = g_new0(struct domain_backup, 1);
    el_set(doc_root(w->doc), "@mode", w->pull ? "pull" : "push");
    b->doc = doc_copy(w->doc);
    b->active = true;
    b->pull = w->pull;
    b->started = g_get_real_time();
    b->checkpoint = g_strdup(checkpoint);
    g_mutex_lock(&w->d->lock);
    domain_backup_free(w->d->backup);
    w->d->backup = b;
    g_mutex_unlock(&w->d->lock);
    return domain_write_status(w->d, error);
}

/* The machine has nothing to do yet. */
static void take_back(struct backup *w, const char *checkpoint)
{
    if (w->pull)
        domain_backup_close(w->d);
    for (unsigned i = 0; i < w->jobs->len; i++)
        domain_blockjob_drop(w->d, w->jobs->pdata[i]);
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

static bool export_disks(struct backup *w, GError **error)
{
    bool ok = true;
    el_each(spec, el_find(doc_root(w->doc), "disks"), "disk")
        if (ok && el_is(spec, "@backup", "yes"))
            ok = domain_backup_export(w->d, spec, error);
    return ok;
}

static void begun(struct backup *w)
{
    g_autoptr(GError) why = NULL;
    g_mutex_lock(&w->d->lock);
    struct domain_backup *b = w->d->backup;
    doc_free(b->doc);
    b->doc = doc_copy(w->doc); /* by now with the nodes' numbers */
    b->begun = true;
    g_clear_pointer(&b->checkpoint, g_free);
    g_mutex_unlock(&w->d->lock);
    if (!domain_write_status(w->d, &why))
        g_warning("domain '%s': the backup has begun, and the status file does not say so: %s", w->d->name, why->message);
}

/* All of it up to the one moment. The server comes first: it is what fails most. */
static bool send(struct backup *w, GError **error)
{
    return add_disks(w, error) && (!w->pull || domain_backup_serve(w->d, doc_root(w->doc), error)) && domain_plan_send(w->build.plan, w->d, error) &&
           domain_transaction(w->d, g_steal_pointer(&w->actions), error);
}

/* The checkpoint's bitmaps come in the same moment as the backup. */
static bool begin(struct backup *w, const char *checkpoint, GError **error)
{
    w->live = domain_live(w->d, error);
    w->nodes = w->live ? domain_bitmap_nodes(w->d, error) : NULL;
    if (!w->nodes || !check(w, error) || (checkpoint && !(w->checkpoint = domain_checkpoint_plan(w->d, checkpoint, w->actions, error))) || !align(w, error))
        return false;
    const char *name = w->checkpoint ? el_get(doc_root(w->checkpoint), "name") : NULL;
    domain_build_init(&w->build, w->d, w->d->driver, w->live);
    w->built = true;
    bool noted = note(w, name, error), kept = noted && name && domain_moment_put(w->d, MOMENT_CHECKPOINT, doc_copy(w->checkpoint), true, error);
    if (!noted || (name && !kept) || !send(w, error)) {
        take_back(w, kept ? name : NULL);
        return false;
    }
    w->late = w->pull && !export_disks(w, error);
    if (w->late)
        domain_backup_take_back(w->d);
    else
        begun(w);
    return !w->late;
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
    if (w.late)
        domain_backup_wait(d);
    return ok ? manage_void() : NULL;
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
    struct domain_transfer t;
    if (!d)
        return NULL;
    if (d->id < 0)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    if (domain_transfer_look(d, false, true, &t))
        return domain_transfer_info(&t);
    look(d, false, true, &n);
    guint64 left = n.total - MIN(n.done, n.total);
    return g_variant_new("(ittttttttttt)", n.type, (guint64)n.elapsed / 1000, z, n.total, n.done, left, z, z, z, n.total, n.done, left);
}

static GVariant *get_job_stats(struct manage_call *c, GError **error)
{
    uint32_t flags;
    struct numbers n;
    struct domain_transfer t;
    GVariantBuilder b;
    g_variant_get_child(c->args, 1, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    bool completed = flags & VIR_DOMAIN_JOB_STATS_COMPLETED;
    if (d->id < 0 && !completed)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    if (domain_transfer_look(d, completed, flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED, &t)) {
        domain_transfer_params(&b, &t);
        return g_variant_new("(ia(sv))", t.type, &b);
    }
    look(d, completed, flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED, &n);
    if (n.type != VIR_DOMAIN_JOB_NONE)
        domain_backup_params(&b, &n.b, n.elapsed, n.done, n.total, completed);
    return g_variant_new("(ia(sv))", n.type, &b);
}

static GVariant *abort_job(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (d && domain_transfer_lasts(d))
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "this job cannot be aborted: the machine writes the memory to its end");
    if (d && domain_transfer_cancel(d)) /* whose own job would be waited for */
        return manage_void();
    if (!d || !domain_begin(d, "abort", true, error))
        return NULL;
    g_mutex_lock(&d->lock);
    bool active = d->backup && d->backup->active;
    g_mutex_unlock(&d->lock);
    if (active)
        domain_backup_cancel(d);
    domain_end(d);
    return active ? manage_void() : manage_null(error, VIR_ERR_OPERATION_INVALID, "no job is active on the domain");
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
