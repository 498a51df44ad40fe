/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers of a running domain, as several calls want them (domain_stats.c, domain_stats_all.c, domain_block.c). */
#pragma once

#include <json-c/json.h>

#include "manage/drivers/domain/domain.h"

struct disk_stats {
    uint64_t highest; /* the end of the last byte written */
    uint64_t rd_reqs, rd_bytes, rd_ns, wr_reqs, wr_bytes, wr_ns, fl_reqs, fl_ns, errors;
};
/* Numbers of the disk with this alias out of query-blockstats; false: it is not there. */
bool domain_disk_stats(struct json_object *list, const char *alias, struct disk_stats *ret);
/* Sizes of an image (of a disk, or of what is below it: domain_chain.h) in bytes: what the guest sees, what is used on the host, how long the file is. From the machine where it
 * runs, else from the file. */
struct disk_sizes {
    uint64_t capacity, allocation, physical;
};
bool domain_disk_sizes(struct domain *d, const struct el *disk, struct json_object *nodes, struct disk_sizes *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_image_sizes(const char *path, bool raw, struct disk_sizes *ret); /* from the file; false: errno */
/* The guest's own numbers out of an answer to qom-get of "guest-stats" (NULL: none); how many there are. domain_balloon_question: the arguments, NULL without a balloon. */
enum { BALLOON_STATS = 11 };
struct balloon_stat {
    const char *field; /* in domstats */
    int tag;           /* virDomainMemoryStatTags */
    uint64_t value;
};
unsigned domain_balloon_stats(struct json_object *o, struct balloon_stat ret[BALLOON_STATS]);
struct json_object *domain_balloon_question(const struct doc *doc);
/* rx bytes, packets, errors, dropped, tx the same, as the guest sees them. */
bool domain_net_stats(const struct el *nic, uint64_t ret[8]);
/* Nanoseconds of a thread's CPU time, and how long it has waited for a CPU; 0 where it cannot be read. */
void domain_thread_time(pid_t pid, int tid, uint64_t *ret_run, uint64_t *ret_wait);
/* Nanoseconds that a thread has slept for I/O or waited otherwise (proc's "sched", where the kernel keeps it); 0: not known. */
uint64_t domain_thread_wait(pid_t pid, int tid);
/* The element of <devices> by what users call it: disks by target, source or alias; interfaces by target, MAC or alias. */
struct el *domain_find_disk(struct doc *doc, const char *name);
/* The same; a disk that is not there is an error. Clients know each call's by its code and text: the caller says them, %s in the text is the name. */
struct el *domain_need_disk(struct doc *doc, const char *name, int code, const char *text, GError **error) G_GNUC_PRINTF(4, 0);
struct el *domain_find_interface(struct doc *doc, const char *name);
/* A copy of the live document, else of the definition. */
struct doc *domain_any_document(struct domain *d, GError **error);

/* Names of nodes of a disk: its top node, and the files under it. */
const char *domain_disk_path(const struct el *disk); /* NULL: no source */
/* The same, and of a volume of a pool the volume's path, if the pool knows it; free it. */
char *domain_disk_image(struct domain *d, const struct el *disk);

int64_t js_number(struct json_object *o, const char *key);
