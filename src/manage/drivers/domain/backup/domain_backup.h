/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup of a running domain's disks (domain_backup*.c): one at a time, a block job for each disk. */
#pragma once

#include "manage/drivers/domain/block/domain_blockjob.h"

struct domain_backup {
    struct doc *doc;          /* <domainbackup>, as it runs */
    bool active, failed, canceled, pull;
    bool begun;               /* the machine has all of it; else a daemon that comes after this one takes it back */
    char *checkpoint, *making; /* until it has begun: the checkpoint that is made with it; an image that belongs to no job yet; NULL: none */
    gint64 started, elapsed;  /* g_get_real_time(); microseconds, when it has ended */
    uint64_t done, total;     /* bytes, of the disks that have ended */
};

void domain_backup_free(struct domain_backup *b);
struct el *domain_backup_spec(const struct domain_backup *b, const char *target); /* <disk>; NULL: it is not in it */
const char *domain_backup_path(const struct el *spec);                            /* target or scratch image */
/* In the status file; d->lock held. */
void domain_backup_format_locked(struct domain *d, GString *to);
struct domain_backup *domain_backup_parse(const char **names, const char **values);

/* ---- its end (domain_backup_end.c); inside a job ---- */

/* The backup of a disk has ended (its nodes are gone). The last one ends the backup, one that failed ends the others. remove: the daemon has made its image. */
void domain_backup_disk_ended(struct domain *d, const char *disk, int status, bool remove);
void domain_backup_count(struct domain *d, const char *job); /* before it is dismissed: what it has copied */
void domain_backup_cancel(struct domain *d);      /* all disks; the end comes later */
void domain_backup_take_back(struct domain *d);   /* the same with the checkpoint that was made with it */
void domain_backup_wait(struct domain *d);        /* not inside a job: until it has ended */
void domain_backup_refresh(struct domain *d);     /* before domain_blockjob_refresh(): what the daemon before had not wholly begun is taken back */
void domain_backup_gone(struct domain *d);        /* the machine has ended: what it left of a backup goes */
/* Typed parameters of its job. */
void domain_backup_params(GVariantBuilder *b, const struct domain_backup *k, gint64 elapsed, uint64_t done, uint64_t total, bool over);

/* ---- pull mode (domain_backup_pull.c) ---- */

/* <server> is what can be; what it does not say is filled in. */
bool domain_backup_check_server(struct el *root, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The machine's NBD server on a socket made here. */
bool domain_backup_serve(struct domain *d, const struct el *root, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_backup_export(struct domain *d, const struct el *spec, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* a disk; @index is its scratch image's */
void domain_backup_close(struct domain *d);         /* the server ends, with its exports and its socket */
void domain_backup_remove_socket(struct domain *d); /* the file alone */
