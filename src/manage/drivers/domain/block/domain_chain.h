/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The images behind a disk. Each is an element: the <disk> itself, the <backingStore> in it and the one in that, and a job's <mirror>. In the live document each has
 * an index N, by which the machine's nodes are named (libvirt-N-storage, libvirt-N-format); an empty <backingStore/> says that there is nothing below.
 */
#pragma once

#include "manage/drivers/domain/command/domain_plan.h"

/* ---- reading ---- */

unsigned domain_chain_index(const struct el *image);      /* 0: it has none */
const char *domain_chain_path(const struct el *image);    /* of a local file or block device; NULL */
const char *domain_chain_format(const struct el *image);
struct el *domain_chain_below(const struct el *image);    /* NULL: nothing is, or nothing is known */
char *domain_chain_node(const struct el *image);          /* the node that reads its format; NULL: it has no index */
struct el *domain_chain_at(struct el *disk, unsigned index);
/* The image that a call names, by its path or as "vda[N]", N the index; VIR_ERR_INVALID_ARG. */
struct el *domain_chain_find(struct el *disk, const char *name, GError **error);
/* Indexes of the images from `from` down to `to`, without that one (NULL: to the end). */
GArray *domain_chain_indexes(const struct el *from, const struct el *to);
/* How `from`'s directory would name `to`: "base.img", "../b.img". NULL: not at all. */
char *domain_chain_relative(const char *from, const char *to);

/* ---- changing documents ---- */

/* What is below an image becomes `below` (an image of the same chain, or of another document), or nothing. */
void domain_chain_set_below(struct el *image, const struct el *below);
/* The disk (or mirror) gets the source and format of another image; what is below stays. indexes: with its index. */
void domain_chain_take(struct el *disk, const struct el *image, bool indexes);
/* The disk of a definition has the images again that it had before a change: as in this copy of it. */
void domain_chain_put_back(struct el *disk, const struct el *was);
/* Without indexes: for a definition. */
void domain_chain_forget(struct el *image);

/* What the document does not say of what is below is read from the images. path: of the disk's image. */
bool domain_chain_read(struct el *disk, const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the machine ---- */

/* The chain of a disk that is about to be opened: what its document does not say is read from the images; each image gets an index. Says what is wrong with an image.
 * A drive whose medium may be missing and is becomes empty. */
unsigned domain_chain_next(struct domain_build *b); /* an index that no image of this machine has had */
bool domain_chain_complete(struct domain_build *b, struct el *disk, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for an image that a job or a snapshot brings; write: it will be written to. walk: read what is below, else only what the element says. */
bool domain_chain_complete_image(struct domain_build *b, struct el *image, bool write, bool walk, const char *target, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_chain_delete(struct domain *d, GArray *indexes); /* nodes; what is not there any more is no error */
/* Nodes of an image and of all below it are added to the plan (domain_command_disk.c). */
bool domain_plan_image(struct domain_build *b, struct el *disk, struct el *image, bool write, GError **error) G_GNUC_WARN_UNUSED_RESULT;
