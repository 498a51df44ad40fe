/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the generic files of src/block; drivers and users do not include it. */
#pragma once

#include "base/error.h"
#include "block/block.h"
#include "block/file.h"
#include "block/driver.h"

struct block_resume {
    void (*fn)(void *opaque);
    void *opaque;
};

struct block_graph {
    GMutex lock;             /* covers quiescer, quiesced, resume, event */
    GCond changed;
    GThread *quiescer;
    unsigned quiesced;
    gint inside;             /* the gate, see graph.c */
    GArray *resume;          /* struct block_resume */
    struct throttle_groups *throttle, *own_throttle; /* the one in use; the graph's own */
    block_event_fn *event;
    void *event_opaque;
    secret_find_fn *secrets; /* set before it is used */
    void *secrets_opaque;
    GRecMutex tree;          /* covers nodes, names, parents, reference counts that reach zero */
    GPtrArray *nodes;        /* struct block_node * */
    unsigned counter;
};

/* graph.c: gives a node without a name one. */
bool block_graph_add(struct block_graph *g, struct block_node *n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void block_graph_remove(struct block_graph *g, struct block_node *n);
/* image_lock.c: what QEMU's programs look at before they open an image. */
bool image_lock(int fd, const char *path, bool write, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void image_unlock(int fd);
char *block_backing_resolved(const struct block_node *n); /* NULL: none */
/* device.c: requests that waited outside the graph. */
void block_device_let_in(void *device);
/* device.c: what a request of the fast way leaves behind in the counters. began: monotonic, microseconds. */
void block_device_count(struct block_device *b, enum block_op op, uint64_t bytes, gint64 began, int err);
/* node_io.c: bytes have been written by the fast way. */
void block_node_written(struct block_node *n, uint64_t offset, uint64_t bytes);
/* device.c: block_submit without the ring. */
void block_submit_to_worker(struct block_device *b, struct block_request *r);
/* device.c: n requests that the ring had are done. */
void block_device_ring_done(struct block_device *b, unsigned n);
/* device.c: limits have to be waited for, which only worker threads do. */
bool block_device_throttled(const struct block_device *b);
