/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two files of the QMP client share; drivers use what domain.h declares. */
#pragma once

#include <json-c/json.h>

#include "manage/drivers/domain/domain.h"

enum {
    MONITOR_FDS = 16,               /* with one write */
    MONITOR_BATCH_BYTES = 4 << 20,  /* of the answers to questions that are asked together: several machines' are in memory at once */
};

/* A command on its way. */
struct pending {
    uint64_t id;
    const char *name;           /* the asker's */
    struct monitor_batch *batch;
    bool done;
    struct json_object *answer; /* the whole message; NULL with done: the connection has ended, or */
    bool large;                 /* it was thrown away */
};

/* Commands on their way together: who waits for them is woken once, by the last answer. Under m->lock until nothing is left. */
struct monitor_batch {
    struct monitor *m;          /* a reference */
    GCond answered;
    gint64 until;               /* monotonic */
    unsigned n, left;           /* left: of them, not done yet */
    gsize bytes;                /* of their answers */
    struct pending p[];
};

/* Bytes that wait to be written; descriptors go with the first of them. */
struct outgoing {
    char *text;
    gsize size, at;
    int fds[MONITOR_FDS];
    unsigned nfds;
};

struct monitor {
    gint refs;
    struct domain *domain;     /* constant; a reference */
    GMainContext *context;
    monitor_event fn;
    GMutex lock;
    int fd;                    /* constant; shut down at the end, closed with the last reference: the main loop may be reading */
    bool ended;
    GSource *in, *out;
    GString *partial;          /* of the main loop alone: a message that has not ended */
    gsize scanned;             /* bytes of partial without a line's end */
    GPtrArray *pending;        /* of struct pending * */
    GQueue outgoing;           /* of struct outgoing * */
    uint64_t next_id;
};

struct monitor *monitor_ref(struct monitor *m);
void monitor_unref(gpointer monitor);
/* Takes o over. m->lock is held. */
void monitor_send_locked(struct monitor *m, struct outgoing *o);
