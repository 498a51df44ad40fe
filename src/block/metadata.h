/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Metadata of an image in memory: pages of 4 KiB of its file, read when they are asked for, changed in memory, and written by
 * metadata_flush, which first lets everything that was written to the file before be stable: a table never refers to data that
 * a power cut could take away. Calls of one metadata are made with its user's lock held, but for metadata_flush.
 */
#pragma once

#include "block/node.h"

struct metadata;

/* lock: the user's, taken by metadata_flush. The file stays the caller's. */
struct metadata *metadata_create(struct block_node *file, GMutex *lock);
/* What is dirty is lost; NULL is allowed. */
void metadata_destroy(struct metadata *m);
/* What lies beyond the end of the file reads as zeroes. wait false: EAGAIN rather than I/O. 0 or errno. */
int metadata_read(struct metadata *m, uint64_t offset, size_t bytes, void *to, bool wait);
int metadata_write(struct metadata *m, uint64_t offset, size_t bytes, const void *from);
/* True: so much is dirty that it ought to be flushed. */
bool metadata_full(const struct metadata *m);
/* Everything written so far, data too, is on stable storage. Without the lock. On an error what was dirty stays so. */
int metadata_flush(struct metadata *m);
