/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of the host for guests: objects memory-backend-ram, -memfd and -file. Where pages come from (anonymous, memfd, file,
 * huge pages), who may share them, on which nodes of the host they lie, whether they are taken at once (prealloc) or as they
 * are touched. Main thread, but for the prealloc threads of its own.
 *
 * The address range stays mapped until the process ends, also when the object goes at run time: whoever looked an address up
 * a moment before must not fault. What was in it is given back.
 */
#pragma once

#include "vmm/core/object.h"

enum hostmem_policy { HOSTMEM_DEFAULT, HOSTMEM_PREFERRED, HOSTMEM_BIND, HOSTMEM_INTERLEAVE };
enum { HOSTMEM_MAX_NODES = 128 };
enum hostmem_lock { HOSTMEM_LOCK_OFF, HOSTMEM_LOCK_ON };

struct hostmem {
    struct object obj;
    uint64_t size, align, prealloc_threads, hugetlbsize;
    bool share, merge, dump, prealloc, hugetlb, readonly, discard_data, reserve, seal, pmem;
    char *mem_path;
    GPtrArray *host_nodes_text;
    int policy;
    /* once complete */
    uint64_t nodes[HOSTMEM_MAX_NODES / 64];
    uint8_t *host;
    uint64_t page_size;
    int fd;        /* -1: anonymous */
    bool in_guest; /* it has been part of a guest's memory map */
};

extern const char *const hostmem_policies[]; /* names by enum hostmem_policy */
/* The object of this id when it is memory; else NULL with error. */
struct hostmem *hostmem_find(const struct machine *m, const char *id, GError **error);
bool hostmem_is(const struct object *o);
/* Memory of the machine that no -object describes: `id` for messages, after -mem-path, -mem-prealloc and mem-merge. */
struct hostmem *hostmem_create_default(struct machine *m, const char *id, uint64_t size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* It becomes part of the guest's memory map (the caller maps it): discarded pages go back to the host from now on. Once. */
void hostmem_enter_guest(struct hostmem *h);
/* Takes pages now: [offset, offset + size), by prealloc_threads threads; progress goes to a terminal. Ends early when the process is
 * asked to end. */
bool hostmem_populate(struct hostmem *h, uint64_t offset, uint64_t size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Gives the pages of [offset, offset + size) back to the host; they read as zeroes (of a private file: as the file). Whole pages
 * of the back end only; others stay. Any thread. */
void hostmem_discard(struct hostmem *h, uint64_t offset, uint64_t size);
/* Bytes that the host has given for it by now (mincore(2) of shared memory, present pages of private memory). */
uint64_t hostmem_resident(const struct hostmem *h);
