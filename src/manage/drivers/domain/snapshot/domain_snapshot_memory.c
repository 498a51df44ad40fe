/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots of a running domain with its memory. External: the state goes into a file as a save does it, the guest stands still, the disks get their overlays, the guest runs on.
 * Internal: the machine writes its state into the first of the images and takes them all (QMP snapshot-save), and the same way back (snapshot-load).
 *
 * The note in the status file (domain_save_note.c) names the file, or the snapshot: whoever finds it learns from the machine what became of it.
 */
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"
#include "manage/drivers/domain/stats/domain_stats.h"

enum { LOOK_MS = 20 };
#define JOB "snapshot-state"

static const char *name_of(const struct doc *snapshot) { return el_get_or(doc_root(snapshot), "name", ""); }

/* ---- a job of the machine ---- */

/* The images that a snapshot is inside, as the machine names them; the first has its memory. NULL: a disk is not there. */
static struct json_object *devices_of(struct doc *live, const struct doc *snapshot, GError **error)
{
    struct json_object *list = json_object_new_array();
    el_each(spec, el_find(doc_root(snapshot), "disks"), "disk") {
        struct el *disk = el_is(spec, "@snapshot", "internal") ? domain_find_disk(live, el_get_or(spec, "@name", "")) : NULL;
        g_autofree char *node = disk ? domain_chain_node(disk) : NULL;
        if (!el_is(spec, "@snapshot", "internal"))
            continue;
        if (!node) {
            json_object_put(list);
            return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "the machine has no disk '%s', which is in the snapshot '%s'", el_get_or(spec, "@name", "?"), name_of(snapshot));
        }
        json_object_array_add(list, json_object_new_string(node));
    }
    if (json_object_array_length(list))
        return list;
    json_object_put(list);
    return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "the snapshot '%s' is in no image", name_of(snapshot));
}

/* Where the job is: NULL: there is none; else an element of *list. */
static struct json_object *find_job(struct json_object *list)
{
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (!g_strcmp0(json_object_get_string(json_object_object_get(o, "id")), JOB))
            return o;
    }
    return NULL;
}

enum verdict { GOES_ON, DONE, FAILED, NOT_THERE };

static enum verdict look(struct domain *d, GError **error)
{
    struct json_object *list = monitor_command(d, "query-jobs", NULL, error), *o = list ? find_job(list) : NULL;
    const char *why = o ? json_object_get_string(json_object_object_get(o, "error")) : NULL;
    enum verdict v = !list ? FAILED : !o ? NOT_THERE : strcmp(json_object_get_string(json_object_object_get(o, "status")), "concluded") ? GOES_ON : why ? FAILED : DONE;
    if (why && v == FAILED)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine of domain '%s': %s", d->name, why);
    json_object_put(list);
    return v;
}

static void dismiss(struct domain *d)
{
    struct json_object *id = json_object_new_object();
    js_set(id, "id", JOB);
    json_object_put(monitor_command(d, "job-dismiss", id, NULL));
}

static enum verdict wait_for_job(struct domain *d, GError **error)
{
    for (;; g_usleep(LOOK_MS * 1000)) {
        enum verdict v = look(d, error);
        if (v != GOES_ON)
            return v;
    }
}

/* The machine's job stays there, concluded, until it is dismissed. */
static bool run_job(struct domain *d, const char *command, const struct doc *snapshot, GError **error)
{
    doc_auto *live = domain_live(d, error);
    struct json_object *devices = live ? devices_of(live, snapshot, error) : NULL, *args = json_object_new_object(), *o = NULL;
    dismiss(d); /* one that a daemon before has left */
    if (devices) {
        js_set(args, "job-id", JOB);
        js_set(args, "tag", name_of(snapshot));
        js_set(args, "vmstate", json_object_get_string(json_object_array_get_idx(devices, 0)));
        json_object_object_add(args, "devices", devices);
        o = monitor_command(d, command, args, error);
    } else {
        json_object_put(args);
    }
    if (!o)
        return false;
    json_object_put(o);
    return wait_for_job(d, error) == DONE;
}

/* ---- taking one ---- */

/* The guest is to stand still, and clients know it: live ones have been stopped by the machine. */
static bool stand_still(struct domain *d, GError **error) { return d->state != VIR_DOMAIN_RUNNING || domain_hold(d, VIR_DOMAIN_PAUSED_SNAPSHOT, error); }

static void run_on(struct domain *d, bool ran)
{
    g_autoptr(GError) why = NULL;
    if (ran && d->state == VIR_DOMAIN_PAUSED && !domain_let_go(d, VIR_DOMAIN_RUNNING_UNPAUSED, &why))
        g_warning("domain '%s': it stood still for a snapshot and does not run on: %s", d->name, why->message);
}

static bool write_memory(struct snapshot *s, const char *path, const char *xml, bool runs, GError **error)
{
    struct domain *d = s->d;
    int fd = save_image_begin(path, xml, runs, SAVE_RAW, error);
    bool begun = fd >= 0 && domain_transfer_begin(d, VIR_DOMAIN_JOB_OPERATION_SNAPSHOT, error);
    bool ok = begun && domain_save_stream(d, fd, SAVE_RAW, error) && save_image_complete(fd, path, false, error);
    if (begun)
        domain_transfer_end(d, ok);
    if (fd >= 0)
        close(fd);
    return ok && stand_still(d, error);
}

bool domain_snapshot_take_external(struct snapshot *s, bool (*take)(struct snapshot *s, GError **error), GError **error)
{
    struct domain *d = s->d;
    bool runs, live = s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_LIVE;
    const char *path = el_get_or(doc_root(s->doc), "memory/@file", "");
    g_autofree char *xml = domain_can_save(d, false, &runs, error) ? domain_save_document(d, NULL, error) : NULL;
    if (xml && access(path, F_OK) == 0 && save_image_kind(path) == SAVE_NONE)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the file '%s' is there and is no saved state: name another one for the memory", path);
    if (!xml || !save_file_prepare(d->driver->state, path, error) || !domain_saving_note(d, SAVING_MEMORY, path, runs, false, error))
        return false;
    bool ok = (live || stand_still(d, error)) && write_memory(s, path, xml, runs, error) && take(s, error);
    if (!ok)
        save_image_remove(path);
    if (!ok || !(s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_HALT))
        run_on(d, runs);
    domain_saving_drop(d);
    return ok;
}

/* What a snapshot that failed has left in images. */
static void take_out(struct domain *d, const struct doc *snapshot)
{
    dismiss(d);
    (void)!run_job(d, "snapshot-delete", snapshot, NULL);
    dismiss(d);
}

bool domain_snapshot_take_internal(struct snapshot *s, GError **error)
{
    struct domain *d = s->d;
    bool runs;
    g_mutex_lock(&d->lock);
    g_autofree char *before = g_strdup(domain_moment_current_locked(d, MOMENT_SNAPSHOT));
    g_mutex_unlock(&d->lock);
    if (!domain_can_save(d, false, &runs, error) || !domain_saving_note(d, SAVING_INSIDE, name_of(s->doc), runs, false, error))
        return false;
    bool put = domain_moment_put(d, MOMENT_SNAPSHOT, doc_copy(s->doc), true, error), held = put && stand_still(d, error);
    bool ok = held && run_job(d, "snapshot-save", s->doc, error);
    if (!ok && held)
        take_out(d, s->doc);
    if (put && (!ok || (s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA))) {
        (void)!domain_moment_remove(d, MOMENT_SNAPSHOT, name_of(s->doc), NULL);
        (void)!domain_moment_set_current(d, MOMENT_SNAPSHOT, before, NULL);
    }
    if (!ok || !(s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_HALT))
        run_on(d, runs);
    domain_saving_drop(d);
    if (ok)
        dismiss(d);
    return ok;
}

/* ---- found by a daemon that comes after ---- */

bool domain_snapshot_settle_memory(struct domain *d, const char *path, bool running)
{
    (void)domain_snapshot_settle(d, running); /* its record may be there still */
    g_mutex_lock(&d->lock);
    bool keep = d->saving && d->saving->taken;
    g_mutex_unlock(&d->lock);
    if (!keep)
        save_image_remove(path);
    return keep;
}

/* In images that nobody has open. */
static void take_out_of_files(struct domain *d, const struct doc *snapshot)
{
    doc_auto *domain = domain_moment_domain(snapshot, "domain", NULL);
    el_each(spec, domain ? el_find(doc_root(snapshot), "disks") : NULL, "disk") {
        struct el *disk = el_is(spec, "@snapshot", "internal") ? domain_find_disk(domain, el_get_or(spec, "@name", "")) : NULL;
        g_autofree char *path = disk ? domain_image_path(d->driver, disk, NULL) : NULL, *user = path ? domain_disk_user(d->driver->state, path) : NULL;
        if (path && (!user || g_str_equal(user, d->name)))
            (void)!domain_snapshot_inside(path, el_get_or(spec, "@name", ""), SNAPSHOT_DELETE, name_of(snapshot), NULL);
    }
}

void domain_snapshot_settle_inside(struct domain *d, const char *name, bool running)
{
    doc_auto *doc = domain_moment_document(d, MOMENT_SNAPSHOT, name, NULL);
    bool done = running && wait_for_job(d, NULL) == DONE;
    if (doc && !done) {
        g_warning("domain '%s': the snapshot '%s' was being taken when the daemon before ended, and is taken back", d->name, name);
        if (running)
            take_out(d, doc);
        else
            take_out_of_files(d, doc);
        (void)!domain_moment_remove(d, MOMENT_SNAPSHOT, name, NULL);
    }
    if (running)
        dismiss(d);
}

/* ---- back to one ---- */

static bool load(struct domain *d, const struct doc *snapshot, GError **error)
{
    bool ok = run_job(d, "snapshot-load", snapshot, error);
    dismiss(d);
    return ok;
}

/* Its machine is the snapshot's: only its state changes. */
static bool load_running(struct domain *d, const struct doc *snapshot, bool run, GError **error)
{
    bool ran = d->state == VIR_DOMAIN_RUNNING;
    if (ran && !domain_hold(d, VIR_DOMAIN_PAUSED_FROM_SNAPSHOT, error))
        return false;
    if (!load(d, snapshot, error)) {
        run_on(d, ran);
        return false;
    }
    if (!run) {
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT);
        return true;
    }
    return domain_let_go_as(d, VIR_DOMAIN_RUNNING_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT, error);
}

/* A machine is made for it. */
static bool load_new(struct domain *d, const struct doc *snapshot, struct doc *domain, bool run, struct manage_call *c, GError **error)
{
    if (!domain_start_document(d, domain, c, DOMAIN_START_HELD, error))
        return false;
    if (!load(d, snapshot, error)) {
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
        return false;
    }
    domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT);
    if (run)
        return domain_let_go_as(d, VIR_DOMAIN_RUNNING_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT, error);
    domain_event(d, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT);
    return true;
}

/* The same machine on the same images. */
static bool fits(struct domain *d, const struct doc *snapshot, const struct doc *domain, GError **error)
{
    doc_auto *live = domain_live(d, error), *now = live ? domain_portable(live) : NULL;
    if (!now || !domain_same_machine(domain, now, error))
        return false;
    el_each(spec, el_find(doc_root(snapshot), "disks"), "disk") {
        const char *name = el_get_or(spec, "@name", "");
        struct el *then = domain_find_disk((struct doc *)domain, name), *disk = domain_find_disk(now, name);
        if (el_is(spec, "@snapshot", "internal") && (!then || !disk || g_strcmp0(domain_chain_path(then), domain_chain_path(disk))))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s' has another image now", name);
    }
    return true;
}

bool domain_snapshot_load(struct domain *d, const struct doc *snapshot, uint32_t flags, struct manage_call *c, GError **error)
{
    bool run = flags & VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING || (!(flags & VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED) && el_is(doc_root(snapshot), "state", "running"));
    g_autoptr(GError) why = NULL;
    bool runs;
    struct doc *domain = domain_moment_domain(snapshot, "domain", error);
    if (!domain)
        return false;
    el_set(doc_root(domain), "name", d->name); /* it may have been renamed since */
    bool same = d->id >= 0 && fits(d, snapshot, domain, &why);
    if (d->id >= 0 && !same && !(flags & VIR_DOMAIN_SNAPSHOT_REVERT_FORCE)) {
        doc_free(domain);
        return manage_fail(error, VIR_ERR_SNAPSHOT_REVERT_RISKY, "revert requires force: the machine has to be made anew: %s", why->message);
    }
    if (same) {
        doc_free(domain);
        return domain_can_save(d, false, &runs, error) && load_running(d, snapshot, run, error);
    }
    if (!d->persistent) { /* it would be gone with its machine */
        doc_free(domain);
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "a transient domain cannot be made anew for a snapshot: %s", why ? why->message : "it does not run");
    }
    if (d->id >= 0)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT);
    return load_new(d, snapshot, domain, run, c, error);
}
