/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs on the images of a running domain: copy, commit, pull, backup. The daemon notes each one, in memory and in the status file, before the machine is told to begin;
 * the machine keeps a job that has ended until it is told to forget it (auto-dismiss off). So a daemon that was killed in between learns what became of it.
 *
 * d->jobs is under d->lock. Jobs begin and are ended inside domain_begin(): of a disk there is one at a time.
 */
#pragma once

#include "manage/drivers/domain/block/domain_chain.h"

struct domain_blockjob {
    char *name;           /* in the machine: "copy-vda-libvirt-3-format" */
    char *disk;           /* the target of <disk> */
    int type;             /* virDomainBlockJobType */
    unsigned top, base;   /* indexes: the images of a commit; base of a pull, 0: none; target node of a backup */
    bool shallow;         /* a copy shares what is below the disk */
    bool remove;          /* a commit removes the files that it has made useless; a backup that of a failed target */
    bool aborting, pivoting;
    char *defined;        /* of a pivot: <disk> of the definition as it was; the definition names the new image already. NULL: it does not */
};

void domain_blockjob_free(struct domain_blockjob *j);
/* The job of a disk, or of a name; d->lock held. NULL: none. */
struct domain_blockjob *domain_blockjob_of_locked(struct domain *d, const char *disk);
struct domain_blockjob *domain_blockjob_named_locked(struct domain *d, const char *name);
/* VIR_ERR_BLOCK_COPY_ACTIVE where a disk has a job; disk NULL: where any has. */
bool domain_blockjob_none(struct domain *d, const char *disk, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Notes a job that is about to begin (taken over), with the status file. drop: it did not. */
bool domain_blockjob_note(struct domain *d, struct domain_blockjob *j, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_blockjob_drop(struct domain *d, const char *name);

/* The machine told that a job's status changed: a worker's, not in a job of the domain. */
void domain_blockjob_changed(struct domain *d, const char *name, const char *status);
/* Inside a job: what has become of the jobs since the daemon before looked. */
void domain_blockjob_refresh(struct domain *d);
/* Inside a job (domain_blockjob_end.c): it has ended; documents and nodes follow, clients are told. why: the machine's error, NULL: none. */
void domain_blockjob_ended(struct domain *d, const char *name, const char *why);
/* The machine waits before the last step of the job, and is told to do it: of a pivot the definition names the new image before. */
void domain_blockjob_pending(struct domain *d, const char *name);
/* The copy can take the disk's place. */
void domain_blockjob_ready(struct domain *d, const char *name);

/* Edits a disk of the live document in place. False: it is not there any more. */
typedef void (*domain_disk_editor)(struct el *disk, void *opaque);
bool domain_disk_edit(struct domain *d, const char *target, domain_disk_editor fn, void *opaque);
/* The definition follows a change of the live document: the disk that had the image `old` gets that of the live one. chain: with what is below it. */
void domain_disk_follow(struct domain *d, const char *target, const char *old, bool chain);

/* In the status file: attributes of an element, in pairs. */
void domain_blockjob_format(const struct domain_blockjob *j, GString *to);
struct domain_blockjob *domain_blockjob_parse(const char **names, const char **values);

/* ---- for the files that begin jobs ---- */

struct domain_blocktarget {
    struct domain *d;
    struct doc *live;   /* a copy */
    struct el *disk;
    const char *name;   /* its target */
    const char *unknown; /* what a client is told where there is no such disk: VIR_ERR_INVALID_ARG with this text; NULL: as of a job's disk */
};
void domain_blocktarget_clear(struct domain_blocktarget *t);
#define blocktarget_auto __attribute__((cleanup(domain_blocktarget_clear))) struct domain_blocktarget
/* The domain and disk that a call's first two arguments name. */
bool domain_blocktarget_find(struct manage_call *c, struct domain_blocktarget *t, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The disk again, in the document as it is by now: inside a job. */
bool domain_blocktarget_again(struct domain_blocktarget *t, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Inside a job: an image of the disk goes into the one below it, and its file goes. NULL: it did not begin. Else the job's name. */
char *domain_blockjob_merge(struct domain *d, const char *disk, const char *path, GError **error);
/* Inside a job: the copy, or what was committed into, takes the disk's place. */
bool domain_blockjob_pivot(struct domain *d, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Not inside a job: waits until the job is ready (true) or has ended. */
bool domain_blockjob_wait(struct domain *d, const char *name);
/* The size of a node as the guest sees it. */
bool domain_node_size(struct domain *d, const char *node, uint64_t *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* An empty image, made by the daemon; a file that has something in it is refused unless it is a block device. backing NULL: none. */
bool domain_image_make(const char *path, const char *format, uint64_t size, const char *backing, const char *backing_format, const char *target, bool *ret_made, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Inside a job: the disk is copied to what <disk> `xml` says, which is there; flags: SHALLOW and SYNCHRONOUS_WRITES of virDomainBlockCopyFlags. NULL: it did not begin. Else the job's name. */
char *domain_blockjob_copy(struct domain *d, const char *disk, const char *xml, uint32_t flags, uint64_t speed, GError **error);
/* Inside a job: the job of a disk is to end, a copy that is ready with all that has been written until then. None there: true. */
bool domain_blockjob_cancel(struct domain *d, const char *disk, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_blockjob_wait_end(struct domain *d, const char *name); /* not inside a job; a minute at most */
/* False: there is no such job any more. */
bool domain_blockjob_progress(struct domain *d, const char *name, bool *ret_ready, uint64_t *ret_done, uint64_t *ret_total) G_GNUC_WARN_UNUSED_RESULT;
bool domain_speed(uint64_t bandwidth, bool bytes, uint64_t *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_command_run(struct domain *d, const char *command, struct json_object *args, GError **error) G_GNUC_WARN_UNUSED_RESULT;
