/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * I/O limits: so many bytes and requests per second on average, with bursts. A limit is a leaky bucket: a request fills it, time
 * empties it at the average rate, and who comes while it is too full waits. A group of limits is shared by its members (disks,
 * filters), which have turns, so that none starves.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct json_object;
struct keyval;

enum throttle_limit { THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ, THROTTLE_BPS_WRITE, THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_READ, THROTTLE_IOPS_WRITE,
                      THROTTLE_NLIMITS };
struct throttle_config {
    struct {
        uint64_t avg;          /* per second; 0: no limit */
        uint64_t max;          /* per second, in bursts; 0: a tenth of a second's avg at once */
        uint64_t max_length;   /* seconds that a burst may last; 0 stands for 1 */
    } limit[THROTTLE_NLIMITS];
    uint64_t iops_size;        /* a request of more bytes counts as several; 0: never */
};

/* Takes iops-total, iops-total-max, iops-total-max-length ... iops-size out of kv, each after `prefix`; values replace those of *c. */
bool throttle_config_take(struct keyval *kv, const char *prefix, struct throttle_config *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same by the names of QMP's BlockIOThrottle: bps, bps_rd, bps_max, bps_max_length ..., iops_size. */
bool throttle_config_from_json(struct json_object *o, struct throttle_config *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool throttle_config_check(const struct throttle_config *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool throttle_config_on(const struct throttle_config *c); /* limits anything */
/* Adds what BlockDeviceInfo has of it: bps ... iops_wr always, the rest when it is set. */
void throttle_config_info(const struct throttle_config *c, struct json_object *info);
/* ThrottleLimits: "iops-total": ... all of them. The caller frees. */
struct json_object *throttle_config_limits(const struct throttle_config *c);

/* ---- groups ---- */

/* The groups of a machine or a tool, by name. Any thread. */
struct throttle_groups;
struct throttle_group;
struct throttle_groups *throttle_groups_create(void);
void throttle_groups_destroy(struct throttle_groups *s); /* groups that somebody still has live on; NULL is allowed */
/* Referenced; made without limits when there is none of this name. */
struct throttle_group *throttle_group_get(struct throttle_groups *s, const char *name);
struct throttle_group *throttle_group_find(struct throttle_groups *s, const char *name); /* not referenced; NULL: none */
struct throttle_group *throttle_group_ref(struct throttle_group *g);
void throttle_group_unref(struct throttle_group *g); /* NULL is allowed */
const char *throttle_group_name(const struct throttle_group *g);
void throttle_group_config(struct throttle_group *g, struct throttle_config *ret);
/* What waits is looked at again under the new limits. */
void throttle_group_set_config(struct throttle_group *g, const struct throttle_config *c);

/* ---- members ---- */

struct throttle_member;
struct throttle_member *throttle_join(struct throttle_group *g);  /* keeps a reference to g */
void throttle_leave(struct throttle_member *m);                   /* nobody waits in it; NULL is allowed */
struct throttle_group *throttle_member_group(const struct throttle_member *m);
/* Waits until the request may begin, or hurry(opaque) says that there is no time for it (asked every 50 ms; NULL: never). */
void throttle_wait(struct throttle_member *m, bool write, uint64_t bytes, bool (*hurry)(void *opaque), void *opaque);
/* Counts the request and returns true when it may begin now, else changes nothing. */
bool throttle_try(struct throttle_member *m, bool write, uint64_t bytes);
