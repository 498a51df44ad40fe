/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/sandbox.h"
#include "block/job_private.h"

struct block_jobs {
    struct block_graph *graph;
    void (*later)(void *opaque, void (*fn)(void *arg), void *arg);
    void *opaque;
    GMutex lock;       /* covers what block_job says */
    GCond changed;
    GPtrArray *list;   /* struct block_job *, owned; main thread */
    bool ending;
};

struct block_job_txn {
    unsigned refs;
    GPtrArray *jobs;   /* not owned */
    bool aborting;
};

static const char *const status_names[] = {
    [JOB_UNDEFINED] = "undefined", [JOB_CREATED] = "created", [JOB_RUNNING] = "running", [JOB_PAUSED] = "paused", [JOB_READY] = "ready",
    [JOB_STANDBY] = "standby", [JOB_WAITING] = "waiting", [JOB_PENDING] = "pending", [JOB_ABORTING] = "aborting", [JOB_CONCLUDED] = "concluded",
    [JOB_NULL] = "null",
};

/* QEMU's QMP reference, JobVerb: what is possible when. */
#define S(x) (1u << JOB_##x)
static const struct { const char *name; unsigned states; } verbs[] = {
    [JOB_CANCEL] = { "cancel", S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY) | S(WAITING) | S(PENDING) },
    [JOB_PAUSE] = { "pause", S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY) },
    [JOB_RESUME] = { "resume", S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY) },
    [JOB_SET_SPEED] = { "set-speed", S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY) },
    [JOB_COMPLETE] = { "complete", S(READY) },
    [JOB_FINALIZE] = { "finalize", S(PENDING) },
    [JOB_DISMISS] = { "dismiss", S(CONCLUDED) },
};

/* ---- events ---- */

static void event_block(struct block_job *j, const char *name)
{
    struct block_jobs *js = j->jobs;
    if (!j->type->block)
        return;
    g_mutex_lock(&js->lock);
    struct json_object *data = json_make("type", json_object_new_string(j->type->name), "device", json_object_new_string(j->id), "len",
                                         json_object_new_int64((int64_t)j->total), "offset", json_object_new_int64((int64_t)j->done), "speed",
                                         json_object_new_int64((int64_t)j->speed), NULL);
    if (j->ret && !strcmp(name, "BLOCK_JOB_COMPLETED"))
        json_object_object_add(data, "error", json_object_new_string(j->error ? j->error : g_strerror(j->ret)));
    g_mutex_unlock(&js->lock);
    block_graph_event(js->graph, name, data);
}

/* Any thread. */
static void set_status(struct block_job *j, enum block_job_status s)
{
    struct block_jobs *js = j->jobs;
    g_mutex_lock(&js->lock);
    bool same = j->status == s;
    j->status = s;
    g_cond_broadcast(&js->changed);
    g_mutex_unlock(&js->lock);
    if (!same)
        block_graph_event(js->graph, "JOB_STATUS_CHANGE", json_make("id", json_object_new_string(j->id), "status", json_object_new_string(status_names[s]), NULL));
}

/* ---- life ---- */

struct block_jobs *block_jobs_create(struct block_graph *g, void (*later)(void *opaque, void (*fn)(void *arg), void *arg), void *opaque)
{
    struct block_jobs *js = g_new0(struct block_jobs, 1);
    js->graph = g;
    js->later = later;
    js->opaque = opaque;
    g_mutex_init(&js->lock);
    g_cond_init(&js->changed);
    js->list = g_ptr_array_new();
    return js;
}

void block_jobs_destroy(struct block_jobs *js)
{
    if (!js)
        return;
    g_assert(!js->list->len);
    g_ptr_array_unref(js->list);
    g_mutex_clear(&js->lock);
    g_cond_clear(&js->changed);
    g_free(js);
}

struct block_job_txn *block_job_txn_new(void)
{
    struct block_job_txn *t = g_new0(struct block_job_txn, 1);
    t->refs = 1;
    t->jobs = g_ptr_array_new();
    return t;
}

void block_job_txn_unref(struct block_job_txn *t)
{
    if (!t || --t->refs)
        return;
    g_ptr_array_unref(t->jobs);
    g_free(t);
}

static bool wellformed(const char *id)
{
    return g_ascii_isalpha(*id) && strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == strlen(id);
}

struct block_job *block_job_new(struct block_jobs *js, const struct block_job_type *type, const struct block_job_options *o, GError **error)
{
    if (!o->id || !*o->id) {
        vireo_fail(error, VIREO_ERROR_INVALID, "An explicit job ID is required for this node");
        return NULL;
    }
    if (!wellformed(o->id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Invalid job ID '%s'", o->id);
        return NULL;
    }
    if (block_job_find(js, o->id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Job ID '%s' already in use", o->id);
        return NULL;
    }
    struct block_job *j = g_malloc0(type->size);
    j->type = type;
    j->jobs = js;
    j->id = g_strdup(o->id);
    j->auto_finalize = !o->manual_finalize;
    j->auto_dismiss = !o->manual_dismiss;
    j->speed = o->speed;
    j->hold = o->hold;
    j->io_status = "ok";
    j->blocked = g_ptr_array_new();
    j->reason = g_strdup_printf("block device is in use by block job: %s", type->name);
    j->txn = o->txn ? o->txn : block_job_txn_new();
    if (o->txn)
        o->txn->refs++;
    g_ptr_array_add(j->txn->jobs, j);
    g_ptr_array_add(js->list, j);
    set_status(j, JOB_CREATED);
    return j;
}

void block_job_use(struct block_job *j, struct block_node *n)
{
    if (g_ptr_array_find(j->blocked, n, NULL))
        return;
    g_ptr_array_add(j->blocked, block_node_ref(n));
    block_node_block(n, j->reason);
}

static void unuse(struct block_job *j)
{
    while (j->blocked->len) {
        struct block_node *n = g_ptr_array_remove_index(j->blocked, j->blocked->len - 1);
        block_node_unblock(n, j->reason);
        block_node_unref(n);
    }
}

static void job_free(struct block_job *j)
{
    unuse(j);
    if (j->type->free)
        j->type->free(j);
    if (j->txn) {
        g_ptr_array_remove(j->txn->jobs, j);
        block_job_txn_unref(j->txn);
    }
    g_ptr_array_remove(j->jobs->list, j);
    g_ptr_array_unref(j->blocked);
    g_free(j->reason);
    g_free(j->id);
    g_free(j->error);
    g_free(j);
}

void block_job_discard(struct block_job *j)
{
    set_status(j, JOB_NULL);
    job_free(j);
}

/* ---- how it ends: main thread ---- */

static void join(struct block_job *j)
{
    if (j->thread)
        g_thread_join(g_steal_pointer(&j->thread));
}

/* Its fate is decided: ret says which. */
static void conclude(struct block_job *j)
{
    j->settled = true;
    if (j->ret)
        set_status(j, JOB_ABORTING);
    if (!j->ret && j->type->commit)
        j->type->commit(j);
    else if (j->ret && j->type->abort)
        j->type->abort(j);
    if (j->type->clean)
        j->type->clean(j);
    unuse(j);
    event_block(j, j->ret == ECANCELED && j->cancelled ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED");
    set_status(j, JOB_CONCLUDED);
    g_ptr_array_remove(j->txn->jobs, j);
    block_job_txn_unref(g_steal_pointer(&j->txn));
    if (j->auto_dismiss) {
        set_status(j, JOB_NULL);
        job_free(j);
    }
}

static void ask_to_cancel(struct block_job *j)
{
    struct block_jobs *js = j->jobs;
    g_mutex_lock(&js->lock);
    j->cancelled = true;
    j->want_pause = j->user_paused = false;
    g_cond_broadcast(&js->changed);
    g_mutex_unlock(&js->lock);
}

/* One has failed: so have all that were to succeed with it. */
static void abort_all(struct block_job_txn *t)
{
    if (t->aborting)
        return;
    t->aborting = true;
    t->refs++;
    for (guint i = 0; i < t->jobs->len; i++) {
        struct block_job *j = t->jobs->pdata[i];
        if (!j->finished)
            ask_to_cancel(j);
    }
    while (t->jobs->len) {
        struct block_job *j = t->jobs->pdata[0];
        join(j);
        if (!j->ret) {
            j->ret = ECANCELED;
            j->cancelled = true;
        }
        conclude(j);
    }
    block_job_txn_unref(t);
}

static void take_error(struct block_job *j, GError *e)
{
    g_free(j->error);
    j->error = g_strdup(e ? e->message : NULL);
    g_clear_error(&e);
}

static void finalize_all(struct block_job_txn *t)
{
    t->refs++;
    for (guint i = 0; i < t->jobs->len; i++) {
        struct block_job *j = t->jobs->pdata[i];
        GError *e = NULL;
        if (j->type->prepare && !j->type->prepare(j, &e)) {
            j->ret = EIO;
            take_error(j, e);
            abort_all(t);
            break;
        }
    }
    while (!t->aborting && t->jobs->len)
        conclude(t->jobs->pdata[0]);
    block_job_txn_unref(t);
}

static void settle(struct block_job *j)
{
    struct block_job_txn *t = j->txn;
    bool manual = false;
    join(j);
    if (!j->ret && j->cancelled)
        j->ret = ECANCELED;
    if (j->ret) {
        abort_all(t);
        return;
    }
    set_status(j, JOB_WAITING);
    for (guint i = 0; i < t->jobs->len; i++) {
        if (((struct block_job *)t->jobs->pdata[i])->status != JOB_WAITING)
            return;
    }
    for (guint i = 0; i < t->jobs->len; i++) {
        struct block_job *p = t->jobs->pdata[i];
        set_status(p, JOB_PENDING);
        manual |= !p->auto_finalize;
        if (!p->auto_finalize && p->type->block)
            block_graph_event(p->jobs->graph, "BLOCK_JOB_PENDING", json_make("type", json_object_new_string(p->type->name), "id", json_object_new_string(p->id), NULL));
    }
    if (!manual)
        finalize_all(t);
}

/* The job may be gone by now: it was cancelled, or has been waited for. */
static void on_finished(void *opaque)
{
    void **pair = opaque;
    struct block_jobs *js = pair[0];
    struct block_job *j = pair[1];
    g_free(pair);
    if (g_ptr_array_find(js->list, j, NULL) && j->finished && j->status < JOB_WAITING && !j->settled)
        settle(j);
}

static void run_it(struct block_job *j)
{
    GError *e = NULL;
    int err = block_job_checkpoint(j) ? j->type->run(j, &e) : ECANCELED;
    g_mutex_lock(&j->jobs->lock);
    j->ret = err;
    take_error(j, e);
    g_mutex_unlock(&j->jobs->lock);
}

static void *thread(void *opaque)
{
    struct block_job *j = opaque;
    struct block_jobs *js = j->jobs;
    void **pair = g_new(void *, 2);
    run_it(j);
    pair[0] = js;
    pair[1] = j;
    g_mutex_lock(&js->lock);
    j->finished = true;
    g_cond_broadcast(&js->changed);
    g_mutex_unlock(&js->lock);
    js->later(js->opaque, on_finished, pair);
    return NULL;
}

static void run_on_main(void *opaque)
{
    void **pair = opaque;
    struct block_jobs *js = pair[0];
    struct block_job *j = pair[1];
    g_free(pair);
    if (!g_ptr_array_find(js->list, j, NULL) || j->finished)
        return;
    run_it(j);
    j->finished = true;
    settle(j);
}

void block_job_start(struct block_job *j)
{
    set_status(j, JOB_RUNNING);
    if (!j->type->on_main) {
        j->thread = sandbox_thread_new(SANDBOX_BLOCK, "block job", thread, j);
        return;
    }
    void **pair = g_new(void *, 2);
    pair[0] = j->jobs;
    pair[1] = j;
    j->jobs->later(j->jobs->opaque, run_on_main, pair);
}

void block_job_go(struct block_job *j)
{
    if (!j->hold)
        block_job_start(j);
}

void block_jobs_end(struct block_jobs *js)
{
    js->ending = true;
    for (guint i = 0; i < js->list->len; i++)
        ask_to_cancel(js->list->pdata[i]);
    while (js->list->len) {
        struct block_job *j = js->list->pdata[0];
        j->auto_dismiss = true;
        join(j);
        j->finished = true;
        if (j->settled)
            block_job_discard(j);
        else
            abort_all((j->ret = j->ret ? j->ret : ECANCELED, j->txn));
    }
}

/* ---- what users ask for ---- */

struct block_job *block_job_find(struct block_jobs *js, const char *id)
{
    for (guint i = 0; i < js->list->len; i++) {
        if (!strcmp(((struct block_job *)js->list->pdata[i])->id, id))
            return js->list->pdata[i];
    }
    return NULL;
}

bool block_job_is_block(const struct block_job *j)
{
    return j->type->block;
}

const char *block_job_id(const struct block_job *j)
{
    return j->id;
}

bool block_job_user_paused(const struct block_job *j)
{
    return j->user_paused;
}

static bool may(struct block_job *j, enum block_job_verb verb, GError **error)
{
    g_mutex_lock(&j->jobs->lock);
    enum block_job_status s = j->status;
    g_mutex_unlock(&j->jobs->lock);
    if (verbs[verb].states >> s & 1)
        return true;
    return vireo_fail(error, VIREO_ERROR_INVALID, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id, status_names[s], verbs[verb].name);
}

bool block_job_cancel(struct block_job *j, bool force, GError **error)
{
    if (!may(j, JOB_CANCEL, error))
        return false;
    struct block_jobs *js = j->jobs;
    if (j->status == JOB_WAITING || j->status == JOB_PENDING) {
        j->ret = ECANCELED;
        j->cancelled = true;
        abort_all(j->txn);
        return true;
    }
    g_mutex_lock(&js->lock);
    bool soft = j->is_ready && !force;
    if (soft)
        j->soft_cancel = true;
    g_cond_broadcast(&js->changed);
    g_mutex_unlock(&js->lock);
    if (!soft)
        ask_to_cancel(j);
    return true;
}

bool block_job_pause(struct block_job *j, GError **error)
{
    if (!may(j, JOB_PAUSE, error))
        return false;
    if (j->user_paused)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Job is already paused");
    g_mutex_lock(&j->jobs->lock);
    j->want_pause = j->user_paused = true;
    g_cond_broadcast(&j->jobs->changed);
    g_mutex_unlock(&j->jobs->lock);
    return true;
}

bool block_job_resume(struct block_job *j, GError **error)
{
    struct block_jobs *js = j->jobs;
    if (!may(j, JOB_RESUME, error))
        return false;
    if (!j->user_paused)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Can't resume a job that was not paused");
    g_mutex_lock(&js->lock);
    j->want_pause = j->user_paused = false;
    j->io_status = "ok";
    g_cond_broadcast(&js->changed);
    g_mutex_unlock(&js->lock);
    return true;
}

bool block_job_set_speed(struct block_job *j, int64_t speed, GError **error)
{
    if (!may(j, JOB_SET_SPEED, error))
        return false;
    if (speed < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'speed' expects a non-negative value");
    g_mutex_lock(&j->jobs->lock);
    j->speed = (uint64_t)speed;
    j->budget_at = 0;
    g_cond_broadcast(&j->jobs->changed);
    g_mutex_unlock(&j->jobs->lock);
    return true;
}

bool block_job_complete(struct block_job *j, GError **error)
{
    if (!may(j, JOB_COMPLETE, error))
        return false;
    if (!j->type->can_complete || j->cancelled || j->soft_cancel)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The active block job '%s' cannot be completed", j->id);
    g_mutex_lock(&j->jobs->lock);
    j->completing = true;
    g_cond_broadcast(&j->jobs->changed);
    g_mutex_unlock(&j->jobs->lock);
    return true;
}

bool block_job_finalize(struct block_job *j, GError **error)
{
    if (!may(j, JOB_FINALIZE, error))
        return false;
    finalize_all(j->txn);
    return true;
}

bool block_job_dismiss(struct block_job *j, GError **error)
{
    if (!may(j, JOB_DISMISS, error))
        return false;
    block_job_discard(j);
    return true;
}

struct json_object *block_jobs_query(struct block_jobs *js)
{
    struct json_object *list = json_object_new_array();
    g_mutex_lock(&js->lock);
    for (guint i = 0; i < js->list->len; i++) {
        const struct block_job *j = js->list->pdata[i];
        struct json_object *o = json_make("current-progress", json_object_new_int64((int64_t)j->done), "status", json_object_new_string(status_names[j->status]),
                                          "total-progress", json_object_new_int64((int64_t)j->total), "type", json_object_new_string(j->type->name), "id",
                                          json_object_new_string(j->id), NULL);
        if (j->finished && j->ret)
            json_object_object_add(o, "error", json_object_new_string(j->error ? j->error : g_strerror(j->ret)));
        json_object_array_add(list, o);
    }
    g_mutex_unlock(&js->lock);
    return list;
}

struct json_object *block_jobs_query_block(struct block_jobs *js)
{
    struct json_object *list = json_object_new_array();
    g_mutex_lock(&js->lock);
    for (guint i = 0; i < js->list->len; i++) {
        const struct block_job *j = js->list->pdata[i];
        bool still = j->status == JOB_PAUSED || j->status == JOB_STANDBY || j->finished;
        if (!j->type->block)
            continue;
        struct json_object *o = json_make("auto-finalize", json_object_new_boolean(j->auto_finalize), "io-status", json_object_new_string(j->io_status),
                                          "device", json_object_new_string(j->id), "auto-dismiss", json_object_new_boolean(j->auto_dismiss), "busy",
                                          json_object_new_boolean(!still && !j->is_ready), "len", json_object_new_int64((int64_t)j->total), "offset",
                                          json_object_new_int64((int64_t)j->done), "status", json_object_new_string(status_names[j->status]), "paused",
                                          json_object_new_boolean(j->want_pause), "speed", json_object_new_int64((int64_t)j->speed), "ready",
                                          json_object_new_boolean(j->is_ready), "type", json_object_new_string(j->type->name), NULL);
        if (j->finished && j->ret)
            json_object_object_add(o, "error", json_object_new_string(j->error ? j->error : g_strerror(j->ret)));
        json_object_array_add(list, o);
    }
    g_mutex_unlock(&js->lock);
    return list;
}

/* ---- the job's thread ---- */

bool block_job_cancelled(struct block_job *j)
{
    g_mutex_lock(&j->jobs->lock);
    bool yes = j->cancelled;
    g_mutex_unlock(&j->jobs->lock);
    return yes;
}

bool block_job_wanted(struct block_job *j)
{
    g_mutex_lock(&j->jobs->lock);
    bool yes = j->cancelled || j->want_pause;
    g_mutex_unlock(&j->jobs->lock);
    return yes;
}

bool block_job_checkpoint(struct block_job *j)
{
    struct block_jobs *js = j->jobs;
    if (j->type->on_main)
        return !block_job_cancelled(j);
    g_mutex_lock(&js->lock);
    bool paused = j->want_pause && !j->cancelled;
    enum block_job_status before = j->status;
    g_mutex_unlock(&js->lock);
    if (paused) {
        set_status(j, before == JOB_READY ? JOB_STANDBY : JOB_PAUSED);
        g_mutex_lock(&js->lock);
        while (j->want_pause && !j->cancelled)
            g_cond_wait(&js->changed, &js->lock);
        j->budget_at = 0;
        g_mutex_unlock(&js->lock);
        set_status(j, before);
    }
    return !block_job_cancelled(j);
}

void block_job_sleep(struct block_job *j, gint64 us)
{
    struct block_jobs *js = j->jobs;
    gint64 until = g_get_monotonic_time() + us;
    g_mutex_lock(&js->lock);
    if (!j->cancelled && !j->want_pause && !(j->is_ready && (j->completing || j->soft_cancel)))
        (void)g_cond_wait_until(&js->changed, &js->lock, until);
    g_mutex_unlock(&js->lock);
}

void block_job_kick(struct block_job *j)
{
    g_mutex_lock(&j->jobs->lock);
    g_cond_broadcast(&j->jobs->changed);
    g_mutex_unlock(&j->jobs->lock);
}

#define SLICE_US 100000 /* what is saved up at most */

void block_job_throttle(struct block_job *j, uint64_t bytes)
{
    struct block_jobs *js = j->jobs;
    g_mutex_lock(&js->lock);
    while (j->speed && !j->cancelled && !j->want_pause) {
        gint64 now = g_get_monotonic_time();
        uint64_t most = MAX((uint64_t)((double)j->speed * SLICE_US / G_USEC_PER_SEC), 1);
        if (!j->budget_at)
            j->budget = most;
        else
            j->budget = MIN(most, j->budget + (uint64_t)((double)j->speed * (double)(now - j->budget_at) / G_USEC_PER_SEC));
        j->budget_at = now;
        /* More than ever is saved up may go once the whole has been saved up; the next has to wait for what it took too much. */
        if (j->budget >= MIN(bytes, most)) {
            if (bytes <= j->budget) {
                j->budget -= bytes;
            } else {
                j->budget_at = now + (gint64)((double)(bytes - j->budget) * G_USEC_PER_SEC / (double)j->speed);
                j->budget = 0;
                while (!j->cancelled && !j->want_pause && j->speed && g_get_monotonic_time() < j->budget_at)
                    (void)g_cond_wait_until(&js->changed, &js->lock, j->budget_at);
            }
            break;
        }
        (void)g_cond_wait_until(&js->changed, &js->lock, now + 10000);
    }
    g_mutex_unlock(&js->lock);
}

void block_job_add_done(struct block_job *j, uint64_t bytes)
{
    g_mutex_lock(&j->jobs->lock);
    j->done += bytes;
    j->total = MAX(j->total, j->done);
    g_mutex_unlock(&j->jobs->lock);
}

void block_job_add_total(struct block_job *j, uint64_t bytes)
{
    g_mutex_lock(&j->jobs->lock);
    j->total += bytes;
    g_mutex_unlock(&j->jobs->lock);
}

void block_job_set_remaining(struct block_job *j, uint64_t bytes)
{
    g_mutex_lock(&j->jobs->lock);
    j->total = j->done + bytes;
    g_mutex_unlock(&j->jobs->lock);
}

void block_job_ready(struct block_job *j)
{
    g_mutex_lock(&j->jobs->lock);
    bool first = !j->is_ready;
    j->is_ready = true;
    g_mutex_unlock(&j->jobs->lock);
    if (!first)
        return;
    set_status(j, JOB_READY);
    event_block(j, "BLOCK_JOB_READY");
}

bool block_job_completing(struct block_job *j)
{
    g_mutex_lock(&j->jobs->lock);
    bool yes = j->completing || j->soft_cancel;
    g_mutex_unlock(&j->jobs->lock);
    return yes;
}

bool block_job_retry(struct block_job *j, bool read, enum block_on_error policy, int err)
{
    struct block_jobs *js = j->jobs;
    bool stop = policy == BLOCK_ON_ERROR_STOP || (policy == BLOCK_ON_ERROR_ENOSPC && err == ENOSPC), ignore = policy == BLOCK_ON_ERROR_IGNORE;
    block_graph_event(js->graph, "BLOCK_JOB_ERROR", json_make("device", json_object_new_string(j->id), "operation", json_object_new_string(read ? "read" : "write"),
                                                              "action", json_object_new_string(stop ? "stop" : ignore ? "ignore" : "report"), NULL));
    if (stop) {
        g_mutex_lock(&js->lock);
        j->io_status = err == ENOSPC ? "nospace" : "failed";
        if (!j->cancelled)
            j->want_pause = j->user_paused = true;
        g_mutex_unlock(&js->lock);
    }
    if (ignore)
        block_job_sleep(j, 100000);
    return stop || ignore;
}

/* ---- a function as a job ---- */

struct call {
    struct block_job job;
    bool (*fn)(void *opaque, GError **error);
    void *opaque;
    void (*free_opaque)(void *opaque);
};

static int call_run(struct block_job *j, GError **error)
{
    struct call *c = (struct call *)j;
    return c->fn(c->opaque, error) ? 0 : EIO;
}

static void call_free(struct block_job *j)
{
    struct call *c = (struct call *)j;
    if (c->free_opaque)
        c->free_opaque(c->opaque);
}

struct block_job *block_job_call(struct block_jobs *js, const struct block_job_options *o, const char *type, bool (*fn)(void *opaque, GError **error),
                                 void *opaque, void (*free_opaque)(void *opaque), bool main, GError **error)
{
#define CALL(text) { { .name = text, .size = sizeof(struct call), .run = call_run, .free = call_free },                       \
                     { .name = text, .size = sizeof(struct call), .run = call_run, .free = call_free, .on_main = true } }
    static const struct block_job_type types[][2] = { CALL("create"), CALL("amend"), CALL("snapshot-save"), CALL("snapshot-load"), CALL("snapshot-delete") };
#undef CALL
    unsigned i = 0;
    while (i + 1 < G_N_ELEMENTS(types) && strcmp(types[i][0].name, type))
        i++;
    struct block_job *j = block_job_new(js, &types[i][main], o, error);
    if (!j) {
        if (free_opaque)
            free_opaque(opaque);
        return NULL;
    }
    struct call *c = (struct call *)j;
    *c = (struct call){ .job = *j, .fn = fn, .opaque = opaque, .free_opaque = free_opaque };
    block_job_add_total(j, 1);
    block_job_go(j);
    return j;
}
