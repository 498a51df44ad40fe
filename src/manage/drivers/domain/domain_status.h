/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A status file as it was read: domain_status.c reads, domain_reattach.c uses it. */
#pragma once

#include "manage/drivers/domain/domain.h"

struct status {
    gint64 id, pid, start, state, reason, since, autodestroy, vireo, rebooting, stopping, nodes, agent_patience, agent_timeout;
    char *name, *dir;
    GPtrArray *networks, *taps;
    GPtrArray *jobs; /* struct domain_blockjob * */
    struct domain_backup *backup;
    struct snapshot_record *record;
    struct domain_saving *saving;
    struct domain_migration *migration;
    struct doc *live;
};
struct status *status_read(const char *path, GError **error);
void status_free(struct status *st);
