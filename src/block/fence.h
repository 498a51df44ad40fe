/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fence of a node that shows what another node held at one moment: an image that stands on the disk and gets, by a backup, what is about to be overwritten there.
 * Whoever reads it looks into the image first and then, where nothing is, at the disk; a write that comes in between must not be seen. So a reader says what it reads,
 * and a writer, when the old content is in the image, waits for the readers who may have looked before.
 *
 * Any thread. A reader waits for nobody: a writer always comes through.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct block_fence;
struct block_fence_reader { /* of the reader's stack, untouched until it leaves */
    uint64_t start, end, turn;
};

struct block_fence *block_fence_new(void);
void block_fence_free(struct block_fence *f); /* nobody reads; NULL is allowed */
/* 0, and leave must follow; EIO: what it shows is not what was there (block_fence_break). */
int block_fence_enter(struct block_fence *f, struct block_fence_reader *r, uint64_t offset, uint64_t bytes);
void block_fence_leave(struct block_fence *f, struct block_fence_reader *r);
/* Until nobody reads in the range who has begun before. */
void block_fence_wait(struct block_fence *f, uint64_t offset, uint64_t bytes);
/* Something was overwritten that is not in the image: from now on nothing can be read. */
void block_fence_break(struct block_fence *f);
bool block_fence_broken(struct block_fence *f);
