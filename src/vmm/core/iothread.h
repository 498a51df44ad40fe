/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -object iothread: a thread on which the queues of devices are served (virtio-blk-pci,iothread=ID), so that a vCPU that notifies one
 * goes on at once. It runs a GLib context of its own; sources are attached to it by any thread.
 */
#pragma once

#include "vmm/core/object.h"

struct iothread {
    struct object obj;
    /* its properties; all but the thread's own are kept and have no effect (docs/compatibility.md) */
    uint64_t poll_max_ns, poll_grow, poll_shrink, aio_max_batch, pool_min, pool_max;
    int thread_id;
    GMainContext *context;
    GThread *thread;
    bool quit;
    GPtrArray *users; /* char *: what uses it */
    GMutex lock;      /* covers started */
    GCond told;
    bool started;
};

/* The object `id`; an error when there is none, or it is something else. */
struct iothread *iothread_find(const struct machine *m, const char *id, GError **error);
/* `who` ("the device 'disk0'") uses it until iothread_release with the same words. Main thread. */
void iothread_hold(struct iothread *t, const char *who);
void iothread_release(struct iothread *t, const char *who);
/* What the thread was doing when this was called, it has done when it returns. Any other thread, with no lock that the thread takes. */
void iothread_sync(struct iothread *t);
