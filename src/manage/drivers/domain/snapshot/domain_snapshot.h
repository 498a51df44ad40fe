/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots of a domain's disks: in files of their own (external: an overlay takes the disk's place) and inside qcow2 images; of a running one with its memory, too. Their
 * documents are moments (domain_moment.h).
 */
#pragma once

#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"

/* One disk of a snapshot that is being made. */
struct snapshot_disk {
    struct el *spec;          /* <disk> of the snapshot's document */
    struct el *disk;          /* of the domain's document */
    char *path, *format;      /* external: the overlay; internal: the image */
    unsigned index;           /* of the overlay's nodes */
    bool external, made;      /* made: its file did not exist before */
};
enum snapshot_memory { SNAPSHOT_NO_MEMORY, SNAPSHOT_MEMORY_INTERNAL, SNAPSHOT_MEMORY_EXTERNAL };
struct snapshot {
    struct domain *d;
    struct doc *doc;          /* of the snapshot */
    struct doc *domain;       /* what the machine, or the definition, has now; a copy */
    bool live;
    enum snapshot_memory memory;
    uint32_t flags;           /* virDomainSnapshotCreateFlags */
    GArray *disks;            /* struct snapshot_disk, of those that are in it */
};

/* domain_snapshot_make.c: inside a job. The name of the new snapshot, or NULL. */
char *domain_snapshot_make(struct domain *d, const char *xml, uint32_t flags, GError **error);
/* domain_snapshot_disks.c: which disks are in it, and how; the document gets a line for each disk of the domain. */
bool domain_snapshot_align(struct snapshot *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* All of them at one moment; nothing is left of one that fails. */
bool domain_snapshot_take(struct snapshot *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* domain_snapshot_memory.c: with the memory of the running machine. External: around take(), which takes the disks. */
bool domain_snapshot_take_external(struct snapshot *s, bool (*take)(struct snapshot *s, GError **error), GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_snapshot_take_internal(struct snapshot *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What a daemon that was killed had begun; the file of a snapshot that was taken stays. */
bool domain_snapshot_settle_memory(struct domain *d, const char *path, bool running);
void domain_snapshot_settle_inside(struct domain *d, const char *name, bool running);
/* Back to one that has the state of a machine inside its images. flags: virDomainSnapshotRevertFlags. */
bool domain_snapshot_load(struct domain *d, const struct doc *snapshot, uint32_t flags, struct manage_call *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* domain_snapshot_record.c: the overlay as an image of the disk, <mirror>, the element that a disk can have beside its chain. */
struct el *domain_snapshot_overlay(struct snapshot_disk *k);
/* The disk stands on what it was. */
void domain_snapshot_put_on_top(struct el *disk, const struct el *overlay);
/* A snapshot inside a qcow2 image that nobody has open. */
enum snapshot_action { SNAPSHOT_CREATE, SNAPSHOT_APPLY, SNAPSHOT_DELETE };
bool domain_snapshot_inside(const char *path, const char *target, enum snapshot_action what, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* domain_snapshot_merge.c; not inside a job: the overlays of a snapshot go into what is below them. */
bool domain_snapshot_merge(struct domain *d, const struct doc *snapshot, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* domain_snapshot_undo.c; not inside a job. */
bool domain_snapshot_revert(struct domain *d, const char *name, uint32_t flags, struct manage_call *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_snapshot_delete(struct domain *d, const char *name, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
