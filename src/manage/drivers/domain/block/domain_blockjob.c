/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which jobs there are on disks: noted, asked for, told to end. */
#include "manage/drivers/domain/backup/domain_backup.h"

#include <string.h>

#include "manage/drivers/domain/stats/domain_stats.h"

enum { END_WAIT_SECONDS = 30 };

/* ---- the list ---- */

void domain_blockjob_free(struct domain_blockjob *j)
{
    if (!j)
        return;
    g_free(j->name);
    g_free(j->disk);
    g_free(j->defined);
    g_free(j);
}

static struct domain_blockjob *find_locked(struct domain *d, bool by_name, const char *text)
{
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++) {
        struct domain_blockjob *j = d->jobs->pdata[i];
        if (g_str_equal(by_name ? j->name : j->disk, text))
            return j;
    }
    return NULL;
}

struct domain_blockjob *domain_blockjob_of_locked(struct domain *d, const char *disk) { return find_locked(d, false, disk); }
struct domain_blockjob *domain_blockjob_named_locked(struct domain *d, const char *name) { return find_locked(d, true, name); }

bool domain_blockjob_none(struct domain *d, const char *disk, GError **error)
{
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = disk ? domain_blockjob_of_locked(d, disk) : d->jobs && d->jobs->len ? d->jobs->pdata[0] : NULL;
    g_autofree char *busy = j ? g_strdup(j->disk) : NULL;
    g_mutex_unlock(&d->lock);
    return !busy || manage_fail(error, VIR_ERR_BLOCK_COPY_ACTIVE, "block copy still active: disk '%s' already in active block job", busy);
}

bool domain_blockjob_note(struct domain *d, struct domain_blockjob *j, GError **error)
{
    g_mutex_lock(&d->lock);
    if (!d->jobs)
        d->jobs = g_ptr_array_new_with_free_func((GDestroyNotify)domain_blockjob_free);
    g_ptr_array_add(d->jobs, j);
    g_autofree char *name = g_strdup(j->name);
    g_mutex_unlock(&d->lock);
    if (domain_write_status(d, error))
        return true;
    domain_blockjob_drop(d, name);
    return false;
}

void domain_blockjob_drop(struct domain *d, const char *name)
{
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
    if (j)
        g_ptr_array_remove(d->jobs, j);
    g_mutex_unlock(&d->lock);
    (void)!domain_write_status(d, NULL);
}

/* ---- in the status file ---- */

static const struct { const char *name; gsize offset; } flag_names[] = {
    { "shallow", offsetof(struct domain_blockjob, shallow) }, { "remove", offsetof(struct domain_blockjob, remove) },
    { "aborting", offsetof(struct domain_blockjob, aborting) }, { "pivoting", offsetof(struct domain_blockjob, pivoting) },
};

void domain_blockjob_format(const struct domain_blockjob *j, GString *to)
{
    g_autofree char *name = g_markup_escape_text(j->name, -1), *disk = g_markup_escape_text(j->disk, -1);
    g_string_append_printf(to, "<job name='%s' disk='%s' type='%d' top='%u' base='%u'", name, disk, j->type, j->top, j->base);
    for (unsigned i = 0; i < G_N_ELEMENTS(flag_names); i++)
        if (*(const bool *)((const char *)j + flag_names[i].offset))
            g_string_append_printf(to, " %s='1'", flag_names[i].name);
    g_autofree char *defined = j->defined ? g_markup_escape_text(j->defined, -1) : NULL;
    if (defined)
        g_string_append_printf(to, " defined='%s'", defined);
    g_string_append(to, "/>\n");
}

struct domain_blockjob *domain_blockjob_parse(const char **names, const char **values)
{
    struct domain_blockjob *j = g_new0(struct domain_blockjob, 1);
    for (unsigned i = 0; names[i]; i++) {
        unsigned n = (unsigned)g_ascii_strtoull(values[i], NULL, 10);
        if (g_str_equal(names[i], "name"))
            g_free(j->name), j->name = g_strdup(values[i]);
        else if (g_str_equal(names[i], "disk"))
            g_free(j->disk), j->disk = g_strdup(values[i]);
        else if (g_str_equal(names[i], "defined"))
            g_free(j->defined), j->defined = g_strdup(values[i]);
        else if (g_str_equal(names[i], "type"))
            j->type = (int)n;
        else if (g_str_equal(names[i], "top"))
            j->top = n;
        else if (g_str_equal(names[i], "base"))
            j->base = n;
        for (unsigned k = 0; k < G_N_ELEMENTS(flag_names); k++)
            if (g_str_equal(names[i], flag_names[k].name))
                *(bool *)((char *)j + flag_names[k].offset) = n != 0;
    }
    if (j->name && j->disk)
        return j;
    domain_blockjob_free(j);
    return NULL;
}

/* ---- what the machine tells ---- */

/* Status and error of a job in the machine. Free them; status NULL: it does not know the job. */
static void look(struct json_object *list, const char *name, char **ret_status, char **ret_error)
{
    *ret_status = *ret_error = NULL;
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && !*ret_status; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *id, *status, *why;
        if (!json_object_object_get_ex(o, "id", &id) || strcmp(json_object_get_string(id), name) || !json_object_object_get_ex(o, "status", &status))
            continue;
        *ret_status = g_strdup(json_object_get_string(status));
        if (json_object_object_get_ex(o, "error", &why))
            *ret_error = g_strdup(json_object_get_string(why));
    }
}

static bool known(struct domain *d, const char *name)
{
    g_mutex_lock(&d->lock);
    bool yes = domain_blockjob_named_locked(d, name) != NULL;
    g_mutex_unlock(&d->lock);
    return yes;
}

static void look_and_act(struct domain *d, struct json_object *list, const char *name)
{
    g_autofree char *status = NULL, *why = NULL;
    look(list, name, &status, &why);
    if (!status)
        domain_blockjob_ended(d, name, "the machine does not know the job any more");
    else if (g_str_equal(status, "concluded"))
        domain_blockjob_ended(d, name, why);
    else if (g_str_equal(status, "pending"))
        domain_blockjob_pending(d, name);
    else if (g_str_equal(status, "ready") || g_str_equal(status, "standby"))
        domain_blockjob_ready(d, name);
}

void domain_blockjob_changed(struct domain *d, const char *name, const char *status)
{
    bool ready = g_str_equal(status, "ready");
    if ((!ready && !g_str_equal(status, "concluded") && !g_str_equal(status, "pending")) || !known(d, name))
        return;
    domain_begin_wait(d, "block job");
    if (known(d, name) && ready) {
        domain_blockjob_ready(d, name);
    } else if (known(d, name)) {
        struct json_object *list = monitor_command(d, "query-jobs", NULL, NULL);
        if (list)
            look_and_act(d, list, name);
        json_object_put(list);
    }
    domain_end(d);
}

static struct json_object *args_of(const char *key, const char *value)
{
    struct json_object *o = json_object_new_object();
    js_set(o, key, value);
    return o;
}

/* What the daemon before had noted that it would ask of a job, and perhaps had not asked any more; to ask twice does no harm. */
static void ask_again(struct domain *d, const char *name)
{
    g_mutex_lock(&d->lock);
    const struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
    const char *command = !j ? NULL : j->aborting ? "block-job-cancel" : j->pivoting ? "job-complete" : NULL;
    g_mutex_unlock(&d->lock);
    if (command)
        (void)!domain_command_run(d, command, args_of(command[0] == 'b' ? "device" : "id", name), NULL);
}

void domain_blockjob_refresh(struct domain *d)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&d->lock);
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++)
        g_ptr_array_add(names, g_strdup(((struct domain_blockjob *)d->jobs->pdata[i])->name));
    g_mutex_unlock(&d->lock);
    struct json_object *list = names->len ? monitor_command(d, "query-jobs", NULL, NULL) : NULL;
    for (unsigned i = 0; list && i < names->len; i++) {
        look_and_act(d, list, names->pdata[i]);
        ask_again(d, names->pdata[i]);
    }
    json_object_put(list);
}

/* ---- calls ---- */

bool domain_command_run(struct domain *d, const char *command, struct json_object *args, GError **error)
{
    struct json_object *o = monitor_command(d, command, args, error);
    bool ok = o != NULL;
    json_object_put(o);
    return ok;
}

void domain_blocktarget_clear(struct domain_blocktarget *t)
{
    if (t->d)
        domain_unref(t->d);
    doc_free(t->live);
}

static bool look_up(struct domain_blocktarget *t, const char *name, GError **error)
{
    t->disk = domain_need_disk(t->live, name, VIR_ERR_INVALID_ARG, t->unknown ? t->unknown : "invalid argument: disk '%s' not found in domain", error);
    t->name = t->disk ? el_get_or(t->disk, "target/@dev", "") : NULL; /* all have it: a document without is not taken */
    return t->disk != NULL;
}

bool domain_blocktarget_find(struct manage_call *c, struct domain_blocktarget *t, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 1, "&s", &name);
    t->d = domain_of_call(c, 0, error);
    t->live = t->d ? domain_live(t->d, error) : NULL;
    if (!t->live)
        return false;
    return look_up(t, name, error);
}

bool domain_blocktarget_again(struct domain_blocktarget *t, GError **error)
{
    g_autofree char *name = g_strdup(t->name);
    doc_free(t->live);
    t->disk = NULL;
    t->live = domain_live(t->d, error);
    if (!t->live || !look_up(t, name, error))
        return false;
    if (!domain_chain_index(t->disk))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "disk '%s' has no medium", name);
    return true;
}

bool domain_speed(uint64_t bandwidth, bool bytes, uint64_t *ret, GError **error)
{
    if (!bytes && bandwidth > G_MAXINT64 >> 20)
        return manage_fail(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %lld", (long long)(G_MAXINT64 >> 20));
    if (bytes && bandwidth > G_MAXINT64)
        return manage_fail(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %lld", (long long)G_MAXINT64);
    *ret = bytes ? bandwidth : bandwidth << 20;
    return true;
}

/* A copy of the disk's job; false with VIR_ERR_INVALID_ARG: it has none. Strings are to be freed. */
static bool job_of(struct domain_blocktarget *t, struct domain_blockjob *ret, GError **error)
{
    g_mutex_lock(&t->d->lock);
    struct domain_blockjob *j = domain_blockjob_of_locked(t->d, t->name);
    if (j) {
        *ret = *j;
        ret->name = g_strdup(j->name);
        ret->disk = ret->defined = NULL;
    }
    g_mutex_unlock(&t->d->lock);
    return j || (error && manage_fail(error, VIR_ERR_INVALID_ARG, "disk %s does not have an active block job", t->name));
}

/* The numbers of query-block-jobs; a reference. NULL: the machine has no such job, or an error. */
static struct json_object *numbers(struct domain *d, const char *name, GError **error)
{
    struct json_object *list = monitor_command(d, "query-block-jobs", NULL, error), *found = NULL;
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && !found; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *id;
        if (json_object_object_get_ex(o, "device", &id) && !strcmp(json_object_get_string(id), name))
            found = json_object_get(o);
    }
    json_object_put(list);
    return found;
}

static bool is_ready(struct json_object *o)
{
    struct json_object *ready;
    return o && json_object_object_get_ex(o, "ready", &ready) && json_object_get_boolean(ready);
}

/* Both ends alike say that it is complete: only a copy that is ready may say so. */
static void correct(bool ready, uint64_t *at, uint64_t *end)
{
    if (ready && *end == 0)
        *at = *end = 1;
    else if (!ready && *at == *end && *at > 0)
        (*at)--;
    else if (!ready && *at == *end)
        (*end)++;
}

static GVariant *job_info(struct manage_call *c, GError **error)
{
    uint32_t flags;
    blocktarget_auto t = { NULL };
    struct domain_blockjob j;
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES, error) || !domain_blocktarget_find(c, &t, error))
        return NULL;
    if (!job_of(&t, &j, NULL))
        return g_variant_new("(iittt)", 0, 0, (uint64_t)0, (uint64_t)0, (uint64_t)0);
    g_autofree char *name = j.name;
    g_autoptr(GError) e = NULL;
    struct json_object *o = numbers(t.d, name, &e);
    if (e) {
        g_propagate_error(error, g_steal_pointer(&e));
        return NULL;
    }
    uint64_t speed = 0, at = 0, end = 0; /* ended, and not yet seen to: as good as begun */
    if (o) {
        speed = (uint64_t)js_number(o, "speed");
        at = (uint64_t)js_number(o, "offset");
        end = (uint64_t)js_number(o, "len");
    }
    correct(is_ready(o), &at, &end);
    json_object_put(o);
    if (!(flags & VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES))
        speed = (speed + (1 << 20) - 1) >> 20;
    return g_variant_new("(iittt)", 1, j.type, speed, at, end);
}

/* Waits without the domain's turn until the job has been seen to. */
void domain_blockjob_wait_end(struct domain *d, const char *name)
{
    gint64 until = g_get_monotonic_time() + END_WAIT_SECONDS * G_TIME_SPAN_SECOND;
    g_mutex_lock(&d->lock);
    while (domain_blockjob_named_locked(d, name) && domain_wait_locked(d, until))
        ;
    g_mutex_unlock(&d->lock);
}

static void mark_mirror(struct el *disk, void *opaque)
{
    struct el *mirror = el_find(disk, "mirror");
    if (mirror)
        el_set(mirror, "@ready", opaque);
}

/* What is asked of a job is on disk before the machine is told, so that its end is understood by a daemon that comes after this one. */
static void mark(struct domain *d, const char *name, const char *disk, bool abort, bool pivot)
{
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
    if (j) {
        j->aborting = abort;
        j->pivoting = pivot;
    }
    g_mutex_unlock(&d->lock);
    domain_disk_edit(d, disk, mark_mirror, abort ? "abort" : pivot ? "pivot" : "yes");
    (void)!domain_write_status(d, NULL);
}

bool domain_blockjob_pivot(struct domain *d, const char *name, GError **error)
{
    struct json_object *o = numbers(d, name, NULL);
    bool ready = is_ready(o);
    json_object_put(o);
    if (!ready)
        return manage_fail(error, VIR_ERR_BLOCK_COPY_ACTIVE, "block copy still active: block job '%s' not ready for pivot yet", name);
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
    g_autofree char *disk = j ? g_strdup(j->disk) : NULL;
    g_mutex_unlock(&d->lock);
    if (!disk)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "block job '%s' has ended", name);
    mark(d, name, disk, false, true);
    if (domain_command_run(d, "job-complete", args_of("id", name), error))
        return true;
    mark(d, name, disk, false, false);
    return false;
}

static bool pivot(struct domain_blocktarget *t, const struct domain_blockjob *j, GError **error)
{
    if (j->type != VIR_DOMAIN_BLOCK_JOB_TYPE_COPY && j->type != VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "pivot of disk '%s' requires an active copy job", t->name);
    return domain_blockjob_pivot(t->d, j->name, error);
}

static bool ready_locked(struct domain *d, const struct domain_blockjob *j)
{
    struct el *disk = d->live ? domain_find_disk(d->live, j->disk) : NULL;
    return disk && el_get(disk, "mirror/@ready");
}

bool domain_blockjob_wait(struct domain *d, const char *name)
{
    bool ready = false;
    g_mutex_lock(&d->lock);
    for (;;) {
        struct domain_blockjob *j = domain_blockjob_named_locked(d, name);
        ready = j && !j->pivoting && ready_locked(d, j);
        if (!j || ready)
            break;
        (void)domain_wait_locked(d, G_MAXINT64);
    }
    g_mutex_unlock(&d->lock);
    return ready;
}

static bool cancel(struct domain_blocktarget *t, const struct domain_blockjob *j, GError **error)
{
    struct json_object *o = numbers(t->d, j->name, NULL), *args = args_of("device", j->name);
    bool ready = is_ready(o);
    json_object_put(o);
    mark(t->d, j->name, t->name, true, false);
    if (!ready)
        js_bool(args, "force", true);
    g_autoptr(GError) e = NULL;
    if (domain_command_run(t->d, "block-job-cancel", args, &e))
        return true;
    /* It may have ended by itself: what was asked for is done. */
    struct json_object *list = monitor_command(t->d, "query-jobs", NULL, NULL);
    g_autofree char *status = NULL, *why = NULL;
    look(list, j->name, &status, &why);
    json_object_put(list);
    if (!status || g_str_equal(status, "concluded"))
        return true;
    mark(t->d, j->name, t->name, false, false);
    g_propagate_error(error, g_steal_pointer(&e));
    return false;
}

bool domain_blockjob_cancel(struct domain *d, const char *disk, GError **error)
{
    blocktarget_auto t = { .d = domain_ref(d), .name = disk };
    struct domain_blockjob j;
    if (!job_of(&t, &j, NULL))
        return true;
    g_autofree char *name = j.name;
    return j.aborting || cancel(&t, &j, error);
}

bool domain_blockjob_progress(struct domain *d, const char *name, bool *ret_ready, uint64_t *ret_done, uint64_t *ret_total)
{
    g_mutex_lock(&d->lock);
    bool there = domain_blockjob_named_locked(d, name) != NULL;
    g_mutex_unlock(&d->lock);
    struct json_object *o = there ? numbers(d, name, NULL) : NULL;
    *ret_ready = is_ready(o);
    *ret_done = o ? (uint64_t)js_number(o, "offset") : 0;
    *ret_total = o ? (uint64_t)js_number(o, "len") : 0;
    json_object_put(o);
    return o != NULL;
}

static GVariant *job_abort(struct manage_call *c, GError **error)
{
    uint32_t flags;
    blocktarget_auto t = { NULL };
    struct domain_blockjob j;
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC | VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT, error) || !domain_blocktarget_find(c, &t, error) ||
        !domain_begin(t.d, "block job abort", true, error))
        return NULL;
    bool ok = job_of(&t, &j, error);
    g_autofree char *name = ok ? j.name : NULL;
    if (ok && (j.aborting || j.pivoting))
        ok = manage_fail(error, VIR_ERR_OPERATION_INVALID, "block job on disk '%s' is being %s", t.name, j.aborting ? "aborted" : "completed");
    else if (ok && j.type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP && !(flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT))
        domain_backup_cancel(t.d); /* its disks end together, and nobody reads what is no longer held */
    else if (ok)
        ok = flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT ? pivot(&t, &j, error) : cancel(&t, &j, error);
    domain_end(t.d);
    if (ok && !(flags & VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC))
        domain_blockjob_wait_end(t.d, name);
    return ok ? manage_void() : NULL;
}

static GVariant *job_set_speed(struct manage_call *c, GError **error)
{
    uint64_t bandwidth, speed = 0;
    uint32_t flags;
    blocktarget_auto t = { NULL };
    struct domain_blockjob j;
    g_variant_get_child(c->args, 2, "t", &bandwidth);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, error) ||
        !domain_speed(bandwidth, flags & VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, &speed, error) || !domain_blocktarget_find(c, &t, error) || !job_of(&t, &j, error))
        return NULL;
    g_autofree char *name = j.name;
    struct json_object *args = args_of("device", name);
    js_int(args, "speed", (int64_t)speed);
    return domain_command_run(t.d, "block-job-set-speed", args, error) ? manage_void() : NULL;
}

const struct manage_row domain_rows_blockjob[] = {
    { RPC_DOMAIN_GET_BLOCK_JOB_INFO, job_info },
    { RPC_DOMAIN_BLOCK_JOB_ABORT, job_abort },
    { RPC_DOMAIN_BLOCK_JOB_SET_SPEED, job_set_speed },
    { 0, NULL },
};
