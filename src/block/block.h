/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk as its user sees it: a guest's device, an export or a tool holds a block_device, which stands on a node (node.h) that
 * may be replaced, or missing (no medium). Requests are asynchronous: block_submit gives them to the engine (device.c), which
 * answers from the host's cache at once where it can, else by the ring or by worker threads.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/node.h"

struct block_device;

enum block_on_error { BLOCK_ON_ERROR_REPORT, BLOCK_ON_ERROR_IGNORE, BLOCK_ON_ERROR_STOP, BLOCK_ON_ERROR_ENOSPC };
struct block_device_options {
    const char *id;                     /* of -drive, shown by QMP as `device`; NULL: none */
    bool write_through;                 /* each write is on stable storage before it completes */
    enum block_on_error rerror, werror; /* defaults: report, enospc */
};

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES, BLOCK_NOPS };
struct block_request {
    enum block_op op;
    unsigned flags;              /* enum block_write_flags */
    uint64_t offset, length;     /* bytes */
    const struct iovec *iov; int niov;
    /* err: 0 or an errno value (ENOMEDIUM: none). On a thread of the engine, never within block_submit. */
    void (*done)(struct block_request *r, int err);
    void *opaque;
    GList link;                  /* the engine's own */
    gint64 began;
};

/* node: referenced for the device, or NULL: no medium. */
struct block_device *block_device_create(struct block_graph *g, struct block_node *node, const struct block_device_options *o);
void block_device_destroy(struct block_device *b); /* waits for requests, flushes; NULL is allowed */
struct block_graph *block_device_graph(const struct block_device *b);
struct block_node *block_device_node(const struct block_device *b); /* not referenced; NULL: no medium */
/* Waits for requests, then puts another node (referenced) or none in. */
void block_device_set_node(struct block_device *b, struct block_node *node);
const struct block_device_options *block_device_options(const struct block_device *b);
void block_device_set_write_through(struct block_device *b, bool on);
uint64_t block_size(const struct block_device *b);       /* bytes, a multiple of 512; 0: no medium */
bool block_read_only(const struct block_device *b);
void block_submit(struct block_device *b, struct block_request *r); /* any thread; never waits */
/* True: the request was answered at once, without waiting, with *ret_err; done is not called. */
bool block_try_now(struct block_device *b, struct block_request *r, int *ret_err);
void block_drain(struct block_device *b); /* all submitted requests are done */
/* A guest front end takes it for itself; an error names the one that has it. */
bool block_claim(struct block_device *b, const char *who, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void block_unclaim(struct block_device *b);
const char *block_claimed_by(const struct block_device *b); /* NULL: nobody */
/* Told after the size changed or another medium came, in the thread that did it. fn NULL takes it away. */
void block_device_on_change(struct block_device *b, void (*fn)(void *opaque, bool resized), void *opaque);

/* Calls that: whoever has changed the node's size does. */
void block_device_tell(struct block_device *b, bool resized);

struct throttle_config;
struct throttle_group;
/* Limits (throttle.h): the device becomes a member of the group, which gets these limits; without any it leaves what it was in. */
void block_device_set_limits(struct block_device *b, const char *group, const struct throttle_config *c);
/* The same with a group that has limits already; false: there is none of this name. */
bool block_device_join_limits(struct block_device *b, const char *group);
struct throttle_group *block_device_limits(const struct block_device *b); /* NULL: none */

struct block_stats { /* since the creation, by enum block_op */
    uint64_t bytes[BLOCK_NOPS], operations[BLOCK_NOPS], failed[BLOCK_NOPS], nanoseconds[BLOCK_NOPS];
    gint64 last_access_us; /* monotonic; 0: never */
};
void block_device_stats(const struct block_device *b, struct block_stats *ret);

/* The request in the calling thread, which waits: what tools and exports use. Enters the graph by itself. */
int block_do(struct block_device *b, enum block_op op, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
