/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which devices there are, and hearing of those that come and go. */
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "nodedev.h"

static const char *const subsystems[] = { "pci", "usb", "net", "block", "scsi", "scsi_host", "scsi_generic", "drm", "mdev", "ccw", "css", "vdpa" };

/* One row a kind: what subsystem and DEVTYPE (NULL: any) it is known by. */
static const struct {
    const char *subsystem, *devtype;
    enum nodedev_cap cap;
} kinds[] = {
    { "pci", NULL, NODEDEV_PCI }, { "usb", "usb_device", NODEDEV_USB_DEVICE }, { "usb", "usb_interface", NODEDEV_USB }, { "net", NULL, NODEDEV_NET },
    { "block", "disk", NODEDEV_STORAGE }, { "scsi", "scsi_device", NODEDEV_SCSI }, { "scsi", "scsi_target", NODEDEV_SCSI_TARGET },
    { "scsi_host", NULL, NODEDEV_SCSI_HOST }, { "scsi_generic", NULL, NODEDEV_SCSI_GENERIC }, { "drm", "drm_minor", NODEDEV_DRM }, { "mdev", NULL, NODEDEV_MDEV },
    { "ccw", NULL, NODEDEV_CCW }, { "css", NULL, NODEDEV_CSS }, { "vdpa", NULL, NODEDEV_VDPA },
};

bool nodedev_classify(struct udev_device *u, enum nodedev_cap *ret)
{
    const char *subsystem = udev_device_get_subsystem(u), *devtype = udev_device_get_devtype(u);
    for (unsigned i = 0; subsystem && i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kinds[i].subsystem, subsystem) || (kinds[i].devtype && g_strcmp0(kinds[i].devtype, devtype)))
            continue;
        *ret = kinds[i].cap;
        if (*ret == NODEDEV_STORAGE && !nodedev_drive_type(u))
            return false;
        return *ret != NODEDEV_DRM || udev_device_get_devnode(u);
    }
    return false;
}

/* "net_eth0_02_fc_00_00_00_01": what tells it from others of its name, with everything but letters and digits made '_'. */
static char *name_of(struct udev_device *u, enum nodedev_cap cap)
{
    g_autofree char *address = cap == NODEDEV_NET ? nodedev_attr(u, "address") : NULL;
    const char *serial = cap == NODEDEV_STORAGE ? udev_device_get_property_value(u, "ID_SERIAL") : NULL;
    const char *more = address && *address ? address : serial;
    char *name = g_strconcat(udev_device_get_subsystem(u), "_", udev_device_get_sysname(u), more ? "_" : NULL, more, NULL);
    for (char *c = name; *c; c++)
        if (!g_ascii_isalnum(*c))
            *c = '_';
    return name;
}

static struct nodedev *make(struct udev_device *u)
{
    enum nodedev_cap cap;
    if (!nodedev_classify(u, &cap))
        return NULL;
    struct nodedev *d = g_new0(struct nodedev, 1);
    d->name = name_of(u, cap);
    d->path = g_strdup(udev_device_get_syspath(u));
    d->type = cap;
    d->caps = 1u << cap;
    if (cap == NODEDEV_PCI)
        d->caps |= nodedev_pci_caps(u);
    return d;
}

/* The nearest device above it that is in the table. Under the lock. */
static void find_parent(struct nodedev_table *t, struct nodedev *d)
{
    g_autofree char *path = g_strdup(d->path);
    const char *name = "computer";
    for (char *slash; (slash = strrchr(path, '/')) && slash != path;) {
        *slash = 0;
        const struct nodedev *above = g_hash_table_lookup(t->by_path, path);
        if (above) {
            name = above->name;
            break;
        }
    }
    g_free(d->parent);
    d->parent = g_strdup(name);
}

/* Under the lock; takes d over. */
static void enter(struct nodedev_table *t, struct nodedev *d)
{
    const struct nodedev *old = g_hash_table_lookup(t->by_name, d->name);
    if (old && old->path)
        g_hash_table_remove(t->by_path, old->path);
    g_hash_table_replace(t->by_name, d->name, d);
    if (d->path)
        g_hash_table_replace(t->by_path, d->path, d);
}

void nodedev_scan(struct nodedev_table *t)
{
    struct udev_enumerate *e = udev_enumerate_new(t->udev);
    struct udev_list_entry *i;
    GHashTableIter it;
    gpointer value;
    struct nodedev *computer = g_new0(struct nodedev, 1);
    computer->name = g_strdup("computer");
    computer->type = NODEDEV_SYSTEM;
    computer->caps = 1u << NODEDEV_SYSTEM;
    for (unsigned k = 0; k < G_N_ELEMENTS(subsystems); k++)
        udev_enumerate_add_match_subsystem(e, subsystems[k]);
    if (udev_enumerate_scan_devices(e) < 0)
        log_warn("node devices: /sys cannot be read");
    g_mutex_lock(&t->lock);
    enter(t, computer);
    udev_list_entry_foreach(i, udev_enumerate_get_list_entry(e)) {
        struct udev_device *u = udev_device_new_from_syspath(t->udev, udev_list_entry_get_name(i));
        struct nodedev *d = u ? make(u) : NULL;
        if (d)
            enter(t, d);
        udev_device_unref(u);
    }
    g_hash_table_iter_init(&it, t->by_path);
    while (g_hash_table_iter_next(&it, NULL, &value))
        find_parent(t, value);
    g_mutex_unlock(&t->lock);
    udev_enumerate_unref(e);
}

/* ---- hot-plug ---- */

static void tell(struct nodedev_table *t, const char *name, int id, int what)
{
    GVariant *device = g_variant_new("(s)", name);
    GVariant *body = id == VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE ? g_variant_new("(@(s)ii)", device, what, 0) : g_variant_new_tuple(&device, 1);
    manage_event(t->state, MANAGE_NODEDEV, (unsigned)id, name, strlen(name), body);
}

static void gone(struct nodedev_table *t, const char *path)
{
    g_mutex_lock(&t->lock);
    struct nodedev *d = g_hash_table_lookup(t->by_path, path);
    g_autofree char *name = d ? g_strdup(d->name) : NULL;
    if (d) {
        g_hash_table_remove(t->by_path, path);
        g_hash_table_remove(t->by_name, name);
    }
    g_mutex_unlock(&t->lock);
    if (name)
        tell(t, name, VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, VIR_NODE_DEVICE_EVENT_DELETED);
}

static void came(struct nodedev_table *t, struct udev_device *u)
{
    struct nodedev *d = make(u);
    if (!d)
        return;
    g_autofree char *name = g_strdup(d->name);
    g_mutex_lock(&t->lock);
    const struct nodedev *before = g_hash_table_lookup(t->by_path, d->path);
    bool same = before && !strcmp(before->name, d->name);
    g_mutex_unlock(&t->lock);
    if (before && !same) /* it has another name now */
        gone(t, d->path);
    g_mutex_lock(&t->lock);
    find_parent(t, d);
    enter(t, d);
    g_mutex_unlock(&t->lock);
    if (same)
        tell(t, name, VIR_NODE_DEVICE_EVENT_ID_UPDATE, 0);
    else
        tell(t, name, VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, VIR_NODE_DEVICE_EVENT_CREATED);
}

static gboolean heard(gint fd, GIOCondition condition, gpointer opaque)
{
    struct nodedev_table *t = opaque;
    struct udev_device *u;
    (void)fd;
    (void)condition;
    while ((u = udev_monitor_receive_device(t->monitor))) {
        const char *action = udev_device_get_action(u), *old = udev_device_get_property_value(u, "DEVPATH_OLD");
        if (!g_strcmp0(action, "remove")) {
            gone(t, udev_device_get_syspath(u));
        } else {
            g_autofree char *before = old ? g_strconcat("/sys", old, NULL) : NULL;
            if (before)
                gone(t, before);
            came(t, u);
        }
        udev_device_unref(u);
    }
    return G_SOURCE_CONTINUE;
}

void nodedev_listen(struct nodedev_table *t)
{
    bool udevd = access("/run/udev/control", F_OK) == 0;
    t->monitor = udev_monitor_new_from_netlink(t->udev, udevd ? "udev" : "kernel");
    if (!t->monitor) {
        log_warn("node devices: changes are not heard of");
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(subsystems); i++)
        udev_monitor_filter_add_match_subsystem_devtype(t->monitor, subsystems[i], NULL);
    udev_monitor_set_receive_buffer_size(t->monitor, 8 << 20); /* fails without privileges, which is no harm */
    if (udev_monitor_enable_receiving(t->monitor) < 0) {
        log_warn("node devices: changes are not heard of");
        return;
    }
    t->source = g_unix_fd_source_new(udev_monitor_get_fd(t->monitor), G_IO_IN);
    g_source_set_callback(t->source, G_SOURCE_FUNC(heard), t, NULL);
    g_source_attach(t->source, t->state->context);
}

void nodedev_deaf(struct nodedev_table *t)
{
    if (t->source) {
        g_source_destroy(t->source);
        g_source_unref(t->source);
    }
    udev_monitor_unref(t->monitor);
}
