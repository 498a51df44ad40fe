/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A mark in a disk's image: once the machine writes beyond it, the event BLOCK_THRESHOLD tells (virsh domblkthreshold). */
#include <stdio.h>
#include <string.h>

#include "manage/drivers/domain/stats/domain_stats.h"

/* "vda", "vda[2]": the image itself or one of its chain by its number. The number in its nodes' names; NULL: there is none. Free it. */
static char *node_index(struct doc *live, const char *name)
{
    g_autofree char *disk_name = g_strndup(name, strcspn(name, "["));
    const struct el *disk = domain_find_disk(live, disk_name);
    const char *bracket = strchr(name, '[');
    if (!disk || !bracket)
        return disk ? g_strdup(el_get(disk, "source/@index")) : NULL;
    g_autofree char *number = g_strndup(bracket + 1, strcspn(bracket + 1, "]"));
    if (el_is(disk, "source/@index", number))
        return g_steal_pointer(&number);
    for (const struct el *b = el_child(disk, "backingStore"); b; b = el_child(b, "backingStore"))
        if (el_is(b, "@index", number))
            return g_steal_pointer(&number);
    return NULL;
}

static GVariant *set_threshold(struct manage_call *c, GError **error)
{
    const char *name;
    uint64_t threshold;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "&s", &name);
    g_variant_get_child(c->args, 2, "t", &threshold);
    g_variant_get_child(c->args, 3, "u", &flags);
    domain_auto *d = manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "block threshold", true, error))
        return NULL;
    doc_auto *live = domain_live(d, error);
    g_autofree char *index = live ? node_index(live, name) : NULL;
    struct json_object *o = NULL;
    if (live && !index) {
        manage_fail(error, VIR_ERR_INVALID_ARG, "failed to find disk '%s'", name);
    } else if (live) {
        struct json_object *args = json_object_new_object();
        g_autofree char *node = g_strdup_printf("libvirt-%s-storage", index);
        json_object_object_add(args, "node-name", json_object_new_string(node));
        json_object_object_add(args, "write-threshold", json_object_new_int64((int64_t)MIN(threshold, (uint64_t)G_MAXINT64)));
        o = monitor_command(d, "block-set-write-threshold", args, error);
    }
    domain_end(d);
    bool ok = o != NULL;
    json_object_put(o);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_threshold[] = {
    { RPC_DOMAIN_SET_BLOCK_THRESHOLD, set_threshold },
    { 0, NULL },
};
