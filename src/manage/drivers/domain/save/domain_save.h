/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A domain's state goes into a file and comes from there: save, restore, managed save, and what dumps and snapshots with memory share with them.
 *
 * What is under way is noted in the status file before the first byte is written (struct domain_saving), so that a daemon that comes after one that was killed lets the guest
 * run on, or ends it where its state is whole on the disk. Only what is whole says so (domain_save_file.h).
 */
#pragma once

#include "manage/drivers/domain/save/domain_save_file.h"
#include "manage/drivers/domain/save/domain_transfer.h"

enum saving_kind {
    SAVING_SAVE,              /* the machine ends when the file is whole */
    SAVING_DUMP,              /* it goes on */
    SAVING_MEMORY,            /* of an external snapshot */
    SAVING_INSIDE,            /* a snapshot inside images; the path is its name */
    SAVING_USED,              /* a managed save that the machine has begun with: the file goes */
};
struct domain_saving {
    enum saving_kind kind;
    char *path;
    bool ran;                 /* the guest is to run afterwards */
    bool managed;
    bool taken;               /* SAVING_MEMORY: the disks are, too */
};
void domain_saving_taken(struct domain *d); /* the next status file that is written says so; takes d->lock */
void domain_saving_free(struct domain_saving *s);
/* In the status file; d->lock held. */
void domain_saving_format_locked(struct domain *d, GString *to);
struct domain_saving *domain_saving_parse(const char **names, const char **values);

/* Inside a job: notes it, with the status file; and no more. */
bool domain_saving_note(struct domain *d, enum saving_kind kind, const char *path, bool ran, bool managed, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_saving_drop(struct domain *d);
/* domain_incoming.c: a machine that an earlier daemon told to send its state does not any more. */
bool domain_stop_sending(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Inside a job: what an earlier daemon left. False: the machine has been ended. */
bool domain_saving_settle(struct domain *d);
/* The machine has ended: what is not whole goes. */
void domain_saving_gone(struct domain *d);

/* The guest stands still, with this reason and what clients are told; and runs again. */
bool domain_hold(struct domain *d, int reason, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_let_go(struct domain *d, int reason, GError **error);
bool domain_let_go_as(struct domain *d, int reason, int detail, GError **error); /* detail: of the event */
/* Refused while disks have jobs (with_jobs: not, the memory alone goes out), or the state is one that cannot be saved. *ret_runs: the guest runs. */
bool domain_can_save(struct domain *d, bool with_jobs, bool *ret_runs, GError **error) G_GNUC_WARN_UNUSED_RESULT;

struct save_request {
    const char *path;
    const char *xml;          /* for the restored machine; NULL: as it is now */
    uint32_t flags;           /* virDomainSaveRestoreFlags */
    enum save_format format;
    bool managed;
};
/* Inside a job: the domain is saved and ended. */
bool domain_save_to(struct domain *d, const struct save_request *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The machine's stream into fd, packed. */
bool domain_save_stream(struct domain *d, int fd, enum save_format format, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The document of the running machine, or the caller's where it is of the same machine: as text. */
char *domain_save_document(struct domain *d, const char *xml, GError **error);

/* The machine that an image is of, or the one that `xml` has instead of it: complete. */
struct doc *domain_image_document(struct domain_driver *dr, const struct save_image *i, const char *xml, GError **error);
/* Changes what an image says of its machine. */
bool domain_image_redefine(struct domain_driver *dr, const char *path, const char *xml, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
char *domain_image_text(struct domain_driver *dr, const char *path, uint32_t flags, GError **error); /* virDomainSaveImageXMLFlags */

/* Inside a job: the domain, which does not run, starts from an image; the document is taken over. */
bool domain_restore_image(struct domain *d, const struct save_image *i, struct doc *live, struct manage_call *c, uint32_t create_flags,
                          bool (*loaded)(struct domain *d, void *opaque, GError **error), void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* domain_define.c: a document that can be started; *ret_uuid of it. And its domain, inside a job. */
struct doc *domain_document_complete(struct domain_driver *dr, const char *xml, uint8_t ret_uuid[16], GError **error);
struct domain *domain_begin_claimed(struct domain_driver *dr, const struct doc *doc, const uint8_t uuid[16], const char *job, GError **error);

/* domain_abi.c: VIR_ERR_CONFIG_UNSUPPORTED where a guest would see another machine. */
bool domain_same_machine(const struct doc *from, const struct doc *to, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- managed saves (domain_save_managed.c) ---- */

char *domain_managed_path(struct domain *d);       /* takes d->lock */
void domain_managed_load(struct domain_driver *dr); /* which domains have one */
bool domain_managed_remove(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* inside a job; missing is fine */
