/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The state of a running machine leaves it: to another host (migration) or into a file (save). What clients see of it as the domain's job, how far it is, and its
 * end. At most one a domain, in d->transfer, which also tells of the last one that has come to its end.
 */
#pragma once

#include "manage/drivers/domain/domain.h"

/* What the machine tells of it (query-migrate). Bytes, milliseconds; the table in domain_transfer.c has one row for each. */
struct transfer_numbers {
    uint64_t ram_total, ram_transferred, ram_remaining, ram_rate, constant, normal, normal_bytes, dirty_rate, iteration, postcopy_requests, page_size;
    uint64_t disk_total, disk_transferred, disk_remaining, disk_rate;
    uint64_t cache, cache_bytes, cache_pages, cache_misses, cache_overflow;
    uint64_t downtime, setup_time, throttle;
};

struct domain_transfer {
    int operation;            /* VIR_DOMAIN_JOB_OPERATION_... */
    int type;                 /* virDomainJobType: UNBOUNDED while it is under way */
    gint64 started, elapsed;  /* monotonic; microseconds, when it has ended */
    bool canceled;            /* somebody has asked for its end */
    bool lasting;             /* the machine cannot be told to end it */
    bool moving;              /* the machine works on it */
    struct transfer_numbers n;
};

/* How. */
struct transfer_how {
    int fd;                   /* where the state goes; the machine gets its own copy. -1: uri says it */
    const char *uri;
    uint64_t bandwidth;       /* bytes a second; 0: as fast as it can */
    const char *const *on;    /* NULL-terminated capabilities of the machine's migration that are to be on; may be NULL */
    struct json_object *parameters; /* further ones of migrate-set-parameters, or NULL; borrowed */
    bool (*go_on)(void *opaque);    /* asked some ten times a second: false ends it. May be NULL */
    void *opaque;
    bool (*switch_over)(void *opaque, GError **error); /* with the capability pause-before-switchover: the guest stands still, and the rest follows when it returns true. May be NULL */
    void *switch_opaque;
};

/* The job begins to be seen by clients; it is under way until domain_transfer_end(). False: another one is (VIR_ERR_OPERATION_INVALID). Takes d->lock. */
bool domain_transfer_begin(struct domain *d, int operation, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Lets the machine do it, and waits for its end. On success the guest stands still and everything has been given away; else the machine has stopped sending (what became of the guest,
 * query-status says). VIR_ERR_OPERATION_ABORTED where a client or go_on() ended it. Not under d->lock; other work on the domain is the caller's to keep away. */
bool domain_transfer_run(struct domain *d, const struct transfer_how *how, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The job has ended. ok: its numbers stay for --completed, and VIR_DOMAIN_EVENT_ID_JOB_COMPLETED is told. Takes d->lock. */
void domain_transfer_end(struct domain *d, bool ok);
/* A client wants its end; false: there is none under way. Takes d->lock. */
bool domain_transfer_cancel(struct domain *d);
bool domain_transfer_lasts(struct domain *d); /* it is under way, and cannot be ended */
/* Is it under way? Takes d->lock. */
bool domain_transfer_active(struct domain *d);

/* A copy of what is known: of the one under way, or (completed) of the last one, which is forgotten unless it is to be kept. False: there is none. Takes d->lock. */
bool domain_transfer_look(struct domain *d, bool completed, bool keep, struct domain_transfer *ret);
/* As typed parameters, libvirt's. */
void domain_transfer_params(GVariantBuilder *b, const struct domain_transfer *t);
/* The reply of RPC_DOMAIN_GET_JOB_INFO. */
GVariant *domain_transfer_info(const struct domain_transfer *t);
