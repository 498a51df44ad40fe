/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs: long operations on images beside a running machine. A job has a thread, states, and a life as QEMU's QMP reference tells it
 * (JobStatus): created, running (paused), ready (standby), waiting, pending, concluded, null; aborting on failure.
 *
 * Threads. The functions below are for one thread, the main thread, but for those that are said to be for the job's own. A job's run
 * method does I/O between block_enter and block_leave; changes of the graph are made by its other methods, on the main thread.
 * block_jobs.lock covers the states; it is a leaf, never held while a method or an event is called.
 */
#pragma once

#include "block/block.h"

struct block_job;
struct block_jobs;
struct block_job_txn;

enum block_job_status { JOB_UNDEFINED, JOB_CREATED, JOB_RUNNING, JOB_PAUSED, JOB_READY, JOB_STANDBY, JOB_WAITING, JOB_PENDING, JOB_ABORTING,
                        JOB_CONCLUDED, JOB_NULL };
enum block_job_verb { JOB_CANCEL, JOB_PAUSE, JOB_RESUME, JOB_SET_SPEED, JOB_COMPLETE, JOB_FINALIZE, JOB_DISMISS };

/* later: calls fn(arg) on the main thread soon after; any thread. */
struct block_jobs *block_jobs_create(struct block_graph *g, void (*later)(void *opaque, void (*fn)(void *arg), void *arg), void *opaque);
/* Cancels all and waits for them. */
void block_jobs_end(struct block_jobs *js);
void block_jobs_destroy(struct block_jobs *js); /* after the end; NULL is allowed */

/* ---- what users ask for ---- */

struct block_job_options {
    const char *id;              /* required */
    bool manual_finalize, manual_dismiss;
    uint64_t speed;              /* bytes per second, 0: any */
    bool hold;                   /* is not started: block_job_start or block_job_discard comes later */
    struct block_job_txn *txn;   /* completes together with others; NULL: alone */
};
/* Jobs whose lives end together: all succeed or none does. Referenced by its jobs and by whoever made it. */
struct block_job_txn *block_job_txn_new(void);
void block_job_txn_unref(struct block_job_txn *t);

void block_job_start(struct block_job *j);
void block_job_discard(struct block_job *j); /* one that was never started */
struct block_job *block_job_find(struct block_jobs *js, const char *id);
/* force: a mirror that is ready does not end as a success either. */
bool block_job_cancel(struct block_job *j, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool block_job_pause(struct block_job *j, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool block_job_resume(struct block_job *j, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool block_job_set_speed(struct block_job *j, int64_t speed, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool block_job_complete(struct block_job *j, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool block_job_finalize(struct block_job *j, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool block_job_dismiss(struct block_job *j, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* frees it */
/* QMP's list of JobInfo, and of BlockJobInfo. */
struct json_object *block_jobs_query(struct block_jobs *js);
struct json_object *block_jobs_query_block(struct block_jobs *js);
bool block_job_is_block(const struct block_job *j); /* seen by the commands block-job-* */
const char *block_job_id(const struct block_job *j);
bool block_job_user_paused(const struct block_job *j);

/* ---- the jobs there are; each returns the started job, or NULL with *error ---- */

struct block_job_errors { enum block_on_error source, target; };

enum block_sync { BLOCK_SYNC_TOP, BLOCK_SYNC_FULL, BLOCK_SYNC_NONE, BLOCK_SYNC_INCREMENTAL, BLOCK_SYNC_BITMAP };
struct block_mirror {
    struct block_node *source, *target; /* the target is writable; referenced by the job */
    struct block_node *replaces; /* what the target takes the place of; NULL: source */
    enum block_sync sync;        /* TOP, FULL, NONE */
    uint32_t granularity;        /* 0: chosen */
    bool write_blocking;
    bool target_is_zero;         /* it was made just now */
    struct block_node *backing_after; /* the target's backing image from the completion on (drive-mirror); NULL: as it is */
    struct block_job_errors errors;
};
struct block_job *block_job_mirror(struct block_jobs *js, const struct block_job_options *o, const struct block_mirror *m, GError **error);

struct block_commit {
    struct block_node *active;   /* the one that users write to */
    struct block_node *top, *base; /* what lies above base up to top goes into base */
    const char *backing_file, *backing_format; /* what the image above top is to name; NULL: base's name */
    enum block_on_error on_error;
};
struct block_job *block_job_commit(struct block_jobs *js, const struct block_job_options *o, const struct block_commit *c, GError **error);

struct block_stream {
    struct block_node *node, *base; /* base NULL: the whole chain */
    const char *backing_file, *backing_format;
    enum block_on_error on_error;
};
struct block_job *block_job_stream(struct block_jobs *js, const struct block_job_options *o, const struct block_stream *s, GError **error);

enum block_bitmap_mode { BLOCK_BITMAP_ON_SUCCESS, BLOCK_BITMAP_NEVER, BLOCK_BITMAP_ALWAYS };
struct block_backup {
    struct block_node *source, *target;
    enum block_sync sync;
    struct block_bitmap *bitmap; /* INCREMENTAL, BITMAP */
    enum block_bitmap_mode mode;
    bool compress, target_is_zero;
    struct block_job_errors errors;
};
struct block_job *block_job_backup(struct block_jobs *js, const struct block_job_options *o, const struct block_backup *b, GError **error);

/* QMP blockdev-create, snapshot-save and others, by their type: fn runs on the job's thread or, when `main` says so, on the main thread, where files may be opened. */
struct block_job *block_job_call(struct block_jobs *js, const struct block_job_options *o, const char *type, bool (*fn)(void *opaque, GError **error),
                                 void *opaque, void (*free_opaque)(void *opaque), bool main, GError **error);
