/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checkpoints: from when on a disk's writes are known. Each is a persistent bitmap of its name in the disk's image; a snapshot gives the overlay one of the same name,
 * so that the bitmaps of that name from the top of the chain down, without a gap, have all writes since. Backups (domain_backup.c) copy what they say.
 */
#pragma once

#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"

/* The machine's nodes with their bitmaps (query-named-block-nodes). */
struct json_object *domain_bitmap_nodes(struct domain *d, GError **error);
/* An action of a QMP transaction; data is taken over. */
void domain_action(struct json_object *actions, const char *type, struct json_object *data);
/* Adds an action to `actions` for each bitmap of `node` that records: `overlay` gets one of its name. */
void domain_bitmap_carry_on(struct json_object *actions, struct json_object *nodes, const char *node, const char *overlay);
/* Images of the disk, from the top, that have the bitmap: array of {"node", "name"} as block-dirty-bitmap-merge takes them. NULL with VIR_ERR_CHECKPOINT_INCONSISTENT: the top
 * has none, or one that does not record. *ret_dirty: bytes (each image's added up); may be NULL. */
struct json_object *domain_bitmap_chain(struct json_object *nodes, const struct el *disk, const char *bitmap, uint64_t *ret_dirty, GError **error);
bool domain_transaction(struct domain *d, struct json_object *actions, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* actions are taken over */
/* Inside a job: the document of a new checkpoint, and the actions that make its bitmaps. */
struct doc *domain_checkpoint_plan(struct domain *d, const char *xml, struct json_object *actions, GError **error);
/* Inside a job of a running domain: it goes with its bitmaps. */
bool domain_checkpoint_delete(struct domain *d, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The bitmap of a disk in a checkpoint; NULL: it has none. */
char *domain_checkpoint_bitmap(struct domain *d, const char *checkpoint, const char *disk);
