/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The calls about node devices. */
#include <string.h>

#include "nodedev.h"

const char *const nodedev_cap_names[NODEDEV_NCAPS] = {
    "system", "pci", "usb_device", "usb", "net", "scsi_host", "scsi_target", "scsi", "storage", "fc_host", "vports", "scsi_generic", "drm", "mdev_types", "mdev",
    "ccw", "css", "vdpa", "ap_card", "ap_queue", "ap_matrix", "vpd",
};

void nodedev_free(gpointer opaque)
{
    struct nodedev *d = opaque;
    if (!d)
        return;
    g_free(d->name);
    g_free(d->path);
    g_free(d->parent);
    g_free(d);
}

static struct nodedev_table *table_of(struct manage_call *c) { return manage_data(c->conn->state, "nodedev"); }

/* A copy of the device, or NULL with error. */
static struct nodedev *find(struct manage_call *c, const char *name, GError **error)
{
    struct nodedev_table *t = table_of(c);
    struct nodedev *copy = NULL;
    g_mutex_lock(&t->lock);
    const struct nodedev *d = g_hash_table_lookup(t->by_name, name);
    if (d) {
        copy = g_new0(struct nodedev, 1);
        *copy = (struct nodedev){ g_strdup(d->name), g_strdup(d->path), g_strdup(d->parent), d->type, d->caps };
    }
    g_mutex_unlock(&t->lock);
    return copy ? copy : manage_null(error, VIR_ERR_NO_NODE_DEVICE, "no node device with matching name '%s'", name);
}

static struct nodedev *of_call(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 0, "&s", &name);
    return find(c, name, error);
}

static inline void cleanup(struct nodedev **d) { nodedev_free(*d); }
#define nodedev_auto __attribute__((cleanup(cleanup))) struct nodedev

/* ---- lists ---- */

static int by_text(gconstpointer a, gconstpointer b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Names of the devices with one of these capabilities (0: all), in order. */
static GPtrArray *names_with(struct nodedev_table *t, uint32_t caps)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter i;
    gpointer value;
    g_mutex_lock(&t->lock);
    g_hash_table_iter_init(&i, t->by_name);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        const struct nodedev *d = value;
        if (!caps || (d->caps & caps))
            g_ptr_array_add(names, g_strdup(d->name));
    }
    g_mutex_unlock(&t->lock);
    g_ptr_array_sort(names, by_text);
    return names;
}

/* UINT32_MAX bits that nothing has: an unknown name finds nothing. */
static uint32_t cap_of(const char *name)
{
    for (unsigned i = 0; name && i < NODEDEV_NCAPS; i++)
        if (!strcmp(nodedev_cap_names[i], name))
            return 1u << i;
    return name ? 1u << 31 : 0;
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    enum { CAPS = (1u << NODEDEV_NCAPS) - 1 };
    const uint32_t active = 1u << 31, inactive = 1u << 30;
    int want;
    uint32_t flags;
    g_variant_get(c->args, "(iu)", &want, &flags);
    if (!manage_check_flags(flags, CAPS | active | inactive, error))
        return NULL;
    bool none = (flags & inactive) && !(flags & active); /* all devices are active */
    g_autoptr(GPtrArray) names = none ? g_ptr_array_new() : names_with(table_of(c), flags & CAPS);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(s)"));
    for (unsigned i = 0; want && i < names->len; i++)
        g_variant_builder_add(&b, "(s)", names->pdata[i]);
    return g_variant_new("(a(s)u)", &b, names->len);
}

static GVariant *num(struct manage_call *c, GError **error)
{
    const char *cap;
    uint32_t flags;
    g_variant_get(c->args, "(m&su)", &cap, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_autoptr(GPtrArray) names = names_with(table_of(c), cap_of(cap));
    return g_variant_new("(i)", (int)names->len);
}

static GVariant *list(struct manage_call *c, GError **error)
{
    const char *cap;
    int max;
    uint32_t flags;
    g_variant_get(c->args, "(m&siu)", &cap, &max, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_autoptr(GPtrArray) names = names_with(table_of(c), cap_of(cap));
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < names->len && (int)i < max; i++)
        g_variant_builder_add(&b, "s", names->pdata[i]);
    return g_variant_new("(as)", &b);
}

/* ---- one ---- */

static GVariant *lookup(struct manage_call *c, GError **error)
{
    nodedev_auto *d = of_call(c, error);
    return d ? g_variant_new("((s))", d->name) : NULL;
}

static GVariant *lookup_wwn(struct manage_call *c, GError **error)
{
    const char *wwnn, *wwpn;
    g_variant_get(c->args, "(&s&su)", &wwnn, &wwpn, NULL);
    return manage_null(error, VIR_ERR_NO_NODE_DEVICE, "no SCSI host with wwnn '%s', wwpn '%s'", wwnn, wwpn);
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 1, error))
        return NULL;
    nodedev_auto *d = of_call(c, error);
    char *text = d ? nodedev_describe(d, error) : NULL;
    return text ? g_variant_new("(@s)", g_variant_new_take_string(text)) : NULL;
}

static GVariant *get_parent(struct manage_call *c, GError **error)
{
    nodedev_auto *d = of_call(c, error);
    return d ? g_variant_new("(ms)", d->parent) : NULL;
}

static GVariant *num_caps(struct manage_call *c, GError **error)
{
    nodedev_auto *d = of_call(c, error);
    return d ? g_variant_new("(i)", __builtin_popcount(d->caps)) : NULL;
}

static GVariant *list_caps(struct manage_call *c, GError **error)
{
    int max, n = 0;
    g_variant_get_child(c->args, 1, "i", &max);
    nodedev_auto *d = of_call(c, error);
    if (!d)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < NODEDEV_NCAPS && n < max; i++) {
        if (d->caps & (1u << i)) {
            g_variant_builder_add(&b, "s", nodedev_cap_names[i]);
            n++;
        }
    }
    return g_variant_new("(as)", &b);
}

static GVariant *yes(struct manage_call *c, GError **error)
{
    nodedev_auto *d = of_call(c, error);
    return d ? g_variant_new("(i)", 1) : NULL;
}

/* ---- what is not done ---- */

static GVariant *refuse(struct manage_call *c, GError **error)
{
    nodedev_auto *d = of_call(c, error);
    return d ? manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s: the devices of this host cannot be given to guests or changed by vireo yet ('%s')", c->proc->name, d->name)
             : NULL;
}

static GVariant *refuse_new(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s: vireo does not make node devices (mediated devices, virtual HBAs) yet", c->proc->name);
}

/* ---- start and stop ---- */

static bool start(struct manage_state *state, void **ret_data, GError **error)
{
    (void)error;
    struct nodedev_table *t = g_new0(struct nodedev_table, 1);
    t->state = state;
    g_mutex_init(&t->lock);
    t->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nodedev_free);
    t->by_path = g_hash_table_new(g_str_hash, g_str_equal);
    t->udev = udev_new();
    *ret_data = t;
    nodedev_listen(t); /* first, so that nothing falls between */
    nodedev_scan(t);
    return true;
}

static void stop(struct manage_state *state, void *data)
{
    struct nodedev_table *t = data;
    (void)state;
    if (!t)
        return;
    nodedev_deaf(t);
    udev_unref(t->udev);
    g_hash_table_unref(t->by_path);
    g_hash_table_unref(t->by_name);
    g_mutex_clear(&t->lock);
    g_free(t);
}

static const struct manage_row rows[] = {
    { RPC_CONNECT_LIST_ALL_NODE_DEVICES, list_all },
    { RPC_NODE_NUM_OF_DEVICES, num },
    { RPC_NODE_LIST_DEVICES, list },
    { RPC_NODE_DEVICE_LOOKUP_BY_NAME, lookup },
    { RPC_NODE_DEVICE_LOOKUP_SCSI_HOST_BY_WWN, lookup_wwn },
    { RPC_NODE_DEVICE_GET_XML_DESC, get_xml },
    { RPC_NODE_DEVICE_GET_PARENT, get_parent },
    { RPC_NODE_DEVICE_NUM_OF_CAPS, num_caps },
    { RPC_NODE_DEVICE_LIST_CAPS, list_caps },
    { RPC_NODE_DEVICE_IS_ACTIVE, yes },
    { RPC_NODE_DEVICE_IS_PERSISTENT, yes },
    { RPC_NODE_DEVICE_GET_AUTOSTART, yes },
    { RPC_NODE_DEVICE_DETTACH, refuse },
    { RPC_NODE_DEVICE_DETACH_FLAGS, refuse },
    { RPC_NODE_DEVICE_RE_ATTACH, refuse },
    { RPC_NODE_DEVICE_RESET, refuse },
    { RPC_NODE_DEVICE_DESTROY, refuse },
    { RPC_NODE_DEVICE_UNDEFINE, refuse },
    { RPC_NODE_DEVICE_CREATE, refuse },
    { RPC_NODE_DEVICE_SET_AUTOSTART, refuse },
    { RPC_NODE_DEVICE_UPDATE, refuse },
    { RPC_NODE_DEVICE_CREATE_XML, refuse_new },
    { RPC_NODE_DEVICE_DEFINE_XML, refuse_new },
    { 0, NULL },
};
const struct manage_driver manage_driver_nodedev = { .name = "nodedev", .rows = rows, .start = start, .stop = stop };
