/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/qmp/qmp_limit.h"

#include <string.h>

enum { PERIOD_MS = 1000 };

/* `member`: events that differ in it are different events. */
static const struct { const char *name, *member; } limited[] = {
    { "BALLOON_CHANGE", NULL }, { "RTC_CHANGE", NULL }, { "WATCHDOG", NULL }, { "MEMORY_DEVICE_SIZE_CHANGE", "qom-path" },
    { "VSERPORT_CHANGE", "id" },
};

struct qmp_limit {
    void (*send)(void *opaque, const char *name, struct json_object *data);
    void *opaque;
    GHashTable *waiting; /* key -> struct slot *, of those sent within the last second */
};

struct slot {
    struct qmp_limit *limit;
    char *key;
    const char *name;
    struct json_object *data;
    bool pending;
    guint timer;
};

static void slot_free(void *opaque)
{
    struct slot *s = opaque;
    g_source_remove(s->timer);
    json_object_put(s->data);
    g_free(s->key);
    g_free(s);
}

struct qmp_limit *qmp_limit_create(void (*send)(void *opaque, const char *name, struct json_object *data), void *opaque)
{
    struct qmp_limit *l = g_new0(struct qmp_limit, 1);
    l->send = send;
    l->opaque = opaque;
    l->waiting = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, slot_free);
    return l;
}

void qmp_limit_destroy(struct qmp_limit *l)
{
    if (!l)
        return;
    g_hash_table_destroy(l->waiting);
    g_free(l);
}

static gboolean second_is_over(gpointer opaque)
{
    struct slot *s = opaque;
    if (!s->pending) {
        g_hash_table_remove(s->limit->waiting, s->key);
        return G_SOURCE_CONTINUE; /* the source was removed with the slot */
    }
    json_auto *data = g_steal_pointer(&s->data);
    s->pending = false;
    s->limit->send(s->limit->opaque, s->name, data);
    return G_SOURCE_CONTINUE;
}

static char *key_of(const char *name, struct json_object *data, const char **ret_name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limited); i++) {
        struct json_object *value = NULL;
        if (strcmp(limited[i].name, name))
            continue;
        if (limited[i].member && data)
            json_object_object_get_ex(data, limited[i].member, &value);
        *ret_name = limited[i].name;
        return g_strdup_printf("%s %s", name, value ? json_object_get_string(value) : "");
    }
    return NULL;
}

void qmp_limit_event(struct qmp_limit *l, const char *name, struct json_object *data)
{
    const char *fixed = NULL;
    g_autofree char *key = key_of(name, data, &fixed);
    struct slot *s = key ? g_hash_table_lookup(l->waiting, key) : NULL;
    if (s) {
        json_object_put(s->data);
        s->data = json_object_get(data);
        s->pending = true;
        return;
    }
    if (key) {
        s = g_new0(struct slot, 1);
        s->limit = l;
        s->key = g_steal_pointer(&key);
        s->name = fixed;
        s->timer = g_timeout_add(PERIOD_MS, second_is_over, s);
        g_hash_table_insert(l->waiting, s->key, s);
    }
    l->send(l->opaque, name, data);
}
