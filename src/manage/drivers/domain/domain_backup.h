/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup of a running domain's disks (domain_backup.c): one at a time, a block job for each disk. */
#pragma once

#include "manage/drivers/domain/domain_blockjob.h"

struct domain_backup {
    struct doc *doc;          /* <domainbackup>, as it runs */
    bool active, failed, canceled;
    gint64 started, elapsed;  /* g_get_real_time(); microseconds, when it has ended */
    uint64_t done, total;     /* bytes, of the disks that have ended */
};

void domain_backup_free(struct domain_backup *b);
/* Inside a job: the backup of a disk has ended (its nodes are gone). The last one ends the backup, one that failed ends the others. */
void domain_backup_disk_ended(struct domain *d, const char *disk, int status);
void domain_backup_count(struct domain *d, const char *job); /* before it is dismissed: what it has copied */
/* In the status file; d->lock held. */
void domain_backup_format_locked(struct domain *d, GString *to);
struct domain_backup *domain_backup_parse(const char *xml, gint64 started);
