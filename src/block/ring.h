/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk's own thread with a queue (queue.h): for requests of threads that do not wait, such as vCPUs. */
#pragma once

#include "block/block.h"

struct block_ring;

/* NULL: the kernel has no ring for us, and worker threads do it. */
struct block_ring *block_ring_create(struct block_device *b);
/* Nothing is in flight. NULL is allowed. */
void block_ring_destroy(struct block_ring *r);
/* Any thread. */
void block_ring_submit(struct block_ring *r, struct block_request *request);
