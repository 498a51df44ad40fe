/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Object "throttle-group": I/O limits that several disks or throttle nodes share (base/throttle.h). */
#include "base/error.h"
#include "base/throttle.h"
#include "vmm/core/machine.h"
#include "vmm/core/object.h"

struct throttle_object {
    struct object obj;
    struct throttle_config config;
    struct throttle_group *group;
};

static bool complete(struct object *obj, GError **error)
{
    struct throttle_object *t = (struct throttle_object *)obj;
    if (!throttle_config_check(&t->config, error))
        return false;
    if (throttle_group_find(obj->machine->throttle, obj->id))
        return vireo_fail(error, VIREO_ERROR_BUSY, "A group with this name already exists");
    t->group = throttle_group_get(obj->machine->throttle, obj->id);
    throttle_group_set_config(t->group, &t->config);
    return true;
}

static void finish(struct object *obj)
{
    throttle_group_unref(((struct throttle_object *)obj)->group);
}

#define T(member) offsetof(struct throttle_object, config.member)
#define LIMIT(prefix, name, which, what) \
    { prefix name, KV_UINT, T(limit[which].avg), what " per second", NULL, 0, INT64_MAX }, \
    { prefix name "-max", KV_UINT, T(limit[which].max), what " per second in bursts", NULL, 0, INT64_MAX }, \
    { prefix name "-max-length", KV_UINT, T(limit[which].max_length), "seconds that a burst lasts; 1", NULL, 1, INT64_MAX }
#define LIMITS(prefix) \
    LIMIT(prefix, "bps-total", THROTTLE_BPS_TOTAL, "bytes"), LIMIT(prefix, "bps-read", THROTTLE_BPS_READ, "bytes read"), \
    LIMIT(prefix, "bps-write", THROTTLE_BPS_WRITE, "bytes written"), LIMIT(prefix, "iops-total", THROTTLE_IOPS_TOTAL, "requests"), \
    LIMIT(prefix, "iops-read", THROTTLE_IOPS_READ, "reads"), LIMIT(prefix, "iops-write", THROTTLE_IOPS_WRITE, "writes"), \
    { prefix "iops-size", KV_UINT, T(iops_size), "bytes from which a request counts as several", NULL, 0, INT64_MAX }
static const struct keyval_key keys[] = { LIMITS("limits."), LIMITS("x-"), { NULL } };
const struct object_class throttle_group_class = { "throttle-group", "I/O limits that disks share", sizeof(struct throttle_object), keys, NULL, complete, finish };
