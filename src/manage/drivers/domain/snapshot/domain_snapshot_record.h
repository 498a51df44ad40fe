/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The record of a live snapshot that is being taken: in the status file from before the first file is made until the documents name the overlays. Whoever finds one,
 * this daemon after a failure or the next after a kill, learns from the machine, or from the images where it has ended, what became of the transaction, and does the
 * rest or takes it back.
 *
 * The definition names the overlays before the machine is told (domain_snapshot_ready): an overlay that nothing was written to reads as the image below it, so a
 * start from it is right whether the transaction came to pass or not. A definition that names the image below is right only if it did not.
 *
 * d->record is under d->lock and changes inside a job of the domain.
 */
#pragma once

#include "manage/drivers/domain/snapshot/domain_snapshot.h"

enum overlay_before { OVERLAY_THEIRS, OVERLAY_EMPTY, OVERLAY_ABSENT }; /* at the overlay's path: not the daemon's; an empty file; nothing */

struct snapshot_record_disk {
    struct doc *disk;          /* <disk> of the live document as it was, with the overlay as its <mirror> */
    struct doc *defined;       /* that of the definition, which is to name the overlay too; NULL: it is not */
    char *below;               /* path of the image that is to be below */
    enum overlay_before before;
    bool over;                 /* the overlay is the disk's image: found out, not written down */
};
struct snapshot_record {
    char *name, *current;      /* of the snapshot; of the one that was current before, NULL: none */
    bool metadata;             /* a document of it is kept */
    bool frozen;               /* the guest's file systems may be at rest for it */
    bool sent;                 /* the machine may have been told */
    GPtrArray *disks;          /* struct snapshot_record_disk * */
};

void domain_snapshot_record_free(struct snapshot_record *r);
void domain_snapshot_set_record(struct domain *d, struct snapshot_record *r); /* the one before is freed; takes d->lock */

static inline const char *record_target(const struct snapshot_record_disk *k) { return el_get_or(doc_root(k->disk), "target/@dev", "?"); }
static inline const struct el *record_overlay(const struct snapshot_record_disk *k) { return el_find(doc_root(k->disk), "mirror"); }
static inline const char *record_path(const struct snapshot_record_disk *k) { return domain_chain_path(record_overlay(k)); }

/* Notes what is to be done, with the status file; each disk gets its overlay as <mirror>, with an index. The domain has no other record and the disks no jobs after that. */
bool domain_snapshot_intend(struct snapshot *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- domain_snapshot_settle.c ---- */

/* The last step before the transaction: the definition names the overlays. */
bool domain_snapshot_ready(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The transaction was done: the documents follow. */
void domain_snapshot_follow(struct domain *d);
/* The end: taken, or a failure on the way (*error), which is undone. True: the snapshot is taken. */
bool domain_snapshot_conclude(struct domain *d, bool ok, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What became of a record's snapshot, and what is left to be done for it. running false: its machine has ended. OPEN: the machine does not answer, all stays. */
enum snapshot_fate { SNAPSHOT_OPEN, SNAPSHOT_TAKEN, SNAPSHOT_NOT_TAKEN };
enum snapshot_fate domain_snapshot_settle(struct domain *d, bool running);

/* ---- domain_snapshot_record.c: in the status file ---- */

/* An element for the snapshot and one for each disk. d->lock held. */
void domain_snapshot_record_format_locked(struct domain *d, GString *to);
struct snapshot_record *domain_snapshot_record_parse(const char **names, const char **values);
void domain_snapshot_record_parse_disk(struct snapshot_record *r, const char **names, const char **values);
