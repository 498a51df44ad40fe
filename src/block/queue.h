/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A queue: the requests of one thread, which submits them in batches and gets their completions itself, so that no other thread
 * has to be woken for what goes the fast way (data that lies in a file of the host without metadata to change). That is for
 * tools that keep many requests in flight, and for I/O threads of a machine. All functions but block_queue_wake belong to the
 * thread that owns the queue.
 */
#pragma once

#include "block/block.h"

struct block_queue;

/* depth: requests expected in flight. Uses a ring (io_uring) for what is not in the host's cache where the kernel lets it, else
 * worker threads. */
struct block_queue *block_queue_create(struct block_graph *g, unsigned depth);
/* Nothing may be in flight. NULL is allowed. */
void block_queue_destroy(struct block_queue *q);
/* Whether there is a ring. */
bool block_queue_has_ring(const struct block_queue *q);
/* For tools, whose thread has nothing else to do: requests that need format code and are likely to be done from memory are carried
 * out by block_queue_add itself. */
void block_queue_set_may_wait(struct block_queue *q, bool on);
/* Memory that requests will use all the time: the ring has it mapped for good. False: the kernel refused, and it does not matter. */
bool block_queue_register(struct block_queue *q, const struct iovec *iov, unsigned n);
/* r->done is called by block_queue_reap of this thread, never from here. r and its iov stay the queue's until then. */
void block_queue_add(struct block_queue *q, struct block_device *b, struct block_request *r);
/* What has been added is on its way. */
void block_queue_submit(struct block_queue *q);
/* Submits, calls done of what has completed, and returns how many; wait: at least one, when anything is in flight. */
unsigned block_queue_reap(struct block_queue *q, bool wait);
unsigned block_queue_inflight(const struct block_queue *q);
/* Descriptors to poll for reading: one becomes readable when there is something to reap. The second is -1 without a ring. Reading
 * them is block_queue_reap's. */
void block_queue_fds(const struct block_queue *q, int ret[2]);
