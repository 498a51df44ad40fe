/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files job*.c. */
#pragma once

#include "block/block_private.h"
#include "block/job.h"

struct block_job_type {
    const char *name;
    bool block;         /* shown by query-block-jobs, with events of its own */
    size_t size;        /* of the struct that begins with struct block_job */
    /* The job's thread. 0, or an errno value with or without *error. ECANCELED when block_job_checkpoint said so. */
    int (*run)(struct block_job *j, GError **error);
    /* Main thread, in this order, any may be NULL. prepare: all that can fail; commit or abort; clean. */
    bool (*prepare)(struct block_job *j, GError **error);
    void (*commit)(struct block_job *j);
    void (*abort)(struct block_job *j);
    void (*clean)(struct block_job *j);
    void (*free)(struct block_job *j);
    bool can_complete;  /* becomes ready, and then waits for job-complete */
    bool on_main;       /* run is called on the main thread */
};

struct block_job {
    const struct block_job_type *type;
    struct block_jobs *jobs;
    struct block_job_txn *txn;
    char *id;
    bool auto_finalize, auto_dismiss, hold;
    GThread *thread;
    /* block_jobs.lock: */
    enum block_job_status status;
    bool want_pause, user_paused, cancelled, soft_cancel, completing, finished /* run has returned */, settled /* its fate is decided */;
    bool is_ready;
    uint64_t speed, done, total;     /* bytes */
    uint64_t budget; gint64 budget_at; /* of the speed */
    const char *io_status;           /* "ok", "failed", "nospace" */
    int ret;                         /* errno value of run */
    char *error;                     /* text */
    GPtrArray *blocked;              /* struct block_node *, referenced, with a blocker */
    char *reason;
};

/* A new one of type->size bytes, in state "created"; start makes it run. */
struct block_job *block_job_new(struct block_jobs *js, const struct block_job_type *type, const struct block_job_options *o, GError **error);
/* Starts it, unless whoever made it wants to do that. */
void block_job_go(struct block_job *j);
/* Others keep off the node until the job has ended. */
void block_job_use(struct block_job *j, struct block_node *n);

/* ---- for the job's thread ---- */

/* Waits while the job is paused. False: cancelled. */
bool block_job_checkpoint(struct block_job *j);
bool block_job_cancelled(struct block_job *j);
/* Whether somebody waits for the job to pause or end. */
bool block_job_wanted(struct block_job *j);
/* Sleeps, less when something is asked of the job. */
void block_job_sleep(struct block_job *j, gint64 us);
void block_job_kick(struct block_job *j); /* any thread: ends that sleep */
/* Waits as long as the speed wants before `bytes` more are moved. */
void block_job_throttle(struct block_job *j, uint64_t bytes);
void block_job_add_done(struct block_job *j, uint64_t bytes);
void block_job_add_total(struct block_job *j, uint64_t bytes);
/* What remains; the total follows. */
void block_job_set_remaining(struct block_job *j, uint64_t bytes);
void block_job_ready(struct block_job *j);
/* Ready, and asked to complete (or to end softly). */
bool block_job_completing(struct block_job *j);
/* What the policy says about an error. True: try again (the job may have been paused by it); false: it fails. */
bool block_job_retry(struct block_job *j, bool read, enum block_on_error policy, int err);

/* job_mirror.c: of block_job_commit, when top is what users write to. */
struct block_job *block_job_commit_active(struct block_jobs *js, const struct block_job_options *o, const struct block_commit *w, GError **error);

/* ---- job_copy.c ---- */

/* Ranges of bytes somebody is at. */
struct block_ranges {
    GMutex lock;
    GCond changed;
    GList *list; /* struct block_range * */
};
struct block_range { uint64_t start, end; bool shared; };
void block_ranges_init(struct block_ranges *r);
void block_ranges_clear(struct block_ranges *r);
/* Waits until no range overlaps that is not shared with this one. The range must stay where it is until released. */
void block_ranges_take(struct block_ranges *r, struct block_range *range);
void block_ranges_release(struct block_ranges *r, struct block_range *range);
/* Writers of the guest, from the `before` of a watch to its `end`. */
void block_ranges_share(struct block_ranges *r, uint64_t offset, uint64_t bytes);
void block_ranges_unshare(struct block_ranges *r, uint64_t offset, uint64_t bytes);

/* Copies what `todo` says from source to target, several pieces at once. */
struct block_copy {
    struct block_job *job;
    struct block_node *source, *target;
    struct block_bitmap *todo;
    struct block_ranges ranges;
    uint64_t grain;
    unsigned write_flags;
    bool up;                       /* the target is the source's own top: only what it does not have (stream) */
    struct block_node *base;       /* up: not what comes from here on; referenced by the job */
    bool partial;                  /* the target gets a part of the content only: the rest comes from its backing image, now or later */
    struct block_job_errors errors;
    /* the copy's own */
    GMutex lock;
    GCond changed;
    GQueue tasks;
    unsigned nthreads, busy;
    bool quit;
    int err; bool err_read;
    GThread *threads[8];
};
void block_copy_init(struct block_copy *c, struct block_job *j);
void block_copy_clear(struct block_copy *c); /* ends the threads */
/* Until nothing is dirty, or the job is cancelled (ECANCELED) or fails. */
int block_copy_run(struct block_copy *c);
/* One range now, in this thread, which holds it and is inside the graph or has quiesced it. *ret_read: it was reading that failed. */
int block_copy_now(struct block_copy *c, uint64_t offset, uint64_t bytes, bool *ret_read);
/* Marks in `todo` what the chain of n has above base (NULL: all of it); below: not what n itself has. */
int block_copy_mark_allocated(struct block_job *j, struct block_bitmap *todo, struct block_node *n, struct block_node *base, bool below);
