/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Networks over QMP. Shapes of the answers: QMP reference of QEMU 7.2. */
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/net/net.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_netdev_add_args[] = { { "type", QMP_ARG_STRING }, { "id", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_netdev_del_args[] = { { "id", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_set_link_args[] = { { "name", QMP_ARG_STRING }, { "up", QMP_ARG_BOOL }, { NULL } };
const struct qmp_arg qmp_query_rx_filter_args[] = { { "name", QMP_ARG_STRING, true }, { NULL } };
const struct qmp_arg qmp_announce_self_args[] = {
    { "initial", QMP_ARG_INT }, { "max", QMP_ARG_INT }, { "rounds", QMP_ARG_INT }, { "step", QMP_ARG_INT },
    { "interfaces", QMP_ARG_ARRAY, true }, { "id", QMP_ARG_STRING, true }, { NULL }
};

static const char *text_of(struct json_object *args, const char *name)
{
    return args ? json_object_get_string(json_object_object_get(args, name)) : NULL;
}

/* A property of this type of a device, wherever its class has it; NULL: none. */
static const void *prop_of(const struct device *d, enum prop_type type)
{
    for (const struct device_prop *p = d->class->props; p && p->name; p++) {
        if (p->type == type)
            return (const char *)d + p->offset;
    }
    return NULL;
}

/* The back end of a network card, or NULL. */
static struct net_backend *backend_of(const struct machine *m, const struct device *d)
{
    char *const *id = prop_of(d, PROP_NETDEV);
    return id && *id ? g_hash_table_lookup(m->netdevs, *id) : NULL;
}

static struct device *find_device(const struct machine *m, const char *id)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        if (!g_strcmp0(d->id, id))
            return d;
    }
    return NULL;
}

struct json_object *qmp_netdev_add(struct machine *m, struct json_object *args, GError **error)
{
    keyval_auto *kv = keyval_new();
    if (json_flatten_object(args, kv, error))
        (void)!net_open(m, kv, NULL, error);
    return NULL;
}

struct json_object *qmp_netdev_del(struct machine *m, struct json_object *args, GError **error)
{
    (void)!net_close(m, text_of(args, "id"), error);
    return NULL;
}

struct json_object *qmp_set_link(struct machine *m, struct json_object *args, GError **error)
{
    const char *name = text_of(args, "name");
    struct net_backend *b = g_hash_table_lookup(m->netdevs, name);
    const struct device *d = b ? NULL : find_device(m, name);
    if (d)
        b = backend_of(m, d);
    if (b)
        net_set_link(b, json_object_get_boolean(json_object_object_get(args, "up")));
    else
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", name);
    return NULL;
}

struct json_object *qmp_query_rx_filter(struct machine *m, struct json_object *args, GError **error)
{
    const char *name = text_of(args, "name");
    struct json_object *list = json_object_new_array();
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        struct json_object *filter = virtio_net_rx_filter(d);
        const char *own = filter ? json_object_get_string(json_object_object_get(filter, "name")) : NULL;
        if (filter && (!name || !strcmp(name, own)))
            json_object_array_add(list, filter);
        else
            json_object_put(filter);
    }
    if (!name || json_object_array_length(list))
        return list;
    json_object_put(list);
    if (find_device(m, name))
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "net client(%s) doesn't support rx-filter querying", name);
    else
        vireo_fail(error, VIREO_ERROR_FAILED, "invalid net client name: %s", name);
    return NULL;
}

/* ---- announce-self ---- */

struct announcement {
    struct machine *machine;
    GStrv interfaces; /* NULL: all */
    int64_t rounds, delay, max, step; /* milliseconds */
    guint timer;
};

/* A reverse ARP request (RFC 903) for the card's own address: switches on its way learn where it is. */
static void send_rarp(struct net_backend *b, const uint8_t mac[6])
{
    static const uint8_t head[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
    uint8_t f[60] = { 0 };
    memset(f, 0xff, 6);
    memcpy(f + 6, mac, 6);
    memcpy(f + 12, head, sizeof(head));
    memcpy(f + 22, mac, 6);
    memcpy(f + 32, mac, 6);
    net_send(b, f, sizeof(f));
}

static void announce_once(const struct announcement *a)
{
    for (guint i = 0; i < a->machine->devices->len; i++) {
        struct device *d = a->machine->devices->pdata[i];
        struct net_backend *b = backend_of(a->machine, d);
        const uint8_t *mac = prop_of(d, PROP_MAC);
        if (!b || !mac || (a->interfaces && (!d->id || !g_strv_contains((const char *const *)a->interfaces, d->id))))
            continue;
        send_rarp(b, mac);
        (void)virtio_net_announce(d);
    }
}

static void announcement_free(struct announcement *a)
{
    a->machine->announcements = g_slist_remove(a->machine->announcements, a);
    if (a->timer)
        g_source_remove(a->timer);
    g_strfreev(a->interfaces);
    g_free(a);
}

static gboolean announce_round(gpointer opaque)
{
    struct announcement *a = opaque;
    a->timer = 0;
    announce_once(a);
    if (--a->rounds <= 0) {
        announcement_free(a);
        return G_SOURCE_REMOVE;
    }
    a->timer = g_timeout_add((guint)a->delay, announce_round, a);
    a->delay = MIN(a->delay + a->step, a->max);
    return G_SOURCE_REMOVE;
}

static GStrv names_of(struct json_object *list)
{
    GStrv names = g_new0(char *, json_object_array_length(list) + 1);
    for (size_t i = 0; i < json_object_array_length(list); i++)
        names[i] = g_strdup(json_object_get_string(json_object_array_get_idx(list, i)));
    return names;
}

struct json_object *qmp_announce_self(struct machine *m, struct json_object *args, GError **error)
{
    static const struct { const char *name; int64_t max; } rows[] = { { "initial", 100000 }, { "max", 100000 }, { "rounds", 1000 }, { "step", 10000 } };
    int64_t v[G_N_ELEMENTS(rows)];
    struct json_object *interfaces;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        v[i] = json_object_get_int64(json_object_object_get(args, rows[i].name));
        if (v[i] < 0 || v[i] > rows[i].max || (i == 2 && !v[i])) {
            vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' must be from %d to %" G_GINT64_FORMAT, rows[i].name, i == 2, rows[i].max);
            return NULL;
        }
    }
    struct announcement *a = g_new0(struct announcement, 1);
    *a = (struct announcement){ .machine = m, .delay = MIN(v[0], v[1]), .max = v[1], .rounds = v[2], .step = v[3] };
    if (json_object_object_get_ex(args, "interfaces", &interfaces))
        a->interfaces = names_of(interfaces);
    m->announcements = g_slist_prepend(m->announcements, a);
    (void)announce_round(a);
    return NULL;
}

/* As QEMU does by default. */
void qmp_announce_all(struct machine *m)
{
    struct announcement *a = g_new0(struct announcement, 1);
    *a = (struct announcement){ .machine = m, .delay = 50, .max = 550, .rounds = 5, .step = 100 };
    m->announcements = g_slist_prepend(m->announcements, a);
    (void)announce_round(a);
}

void qmp_announce_end(struct machine *m)
{
    while (m->announcements)
        announcement_free(m->announcements->data);
}
