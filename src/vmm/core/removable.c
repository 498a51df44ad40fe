/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/removable.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

static GMutex *lock_of(const struct removable *r)
{
    return r->lock ? r->lock : &r->dev->lock;
}

/* The drive that a device's properties name. */
static const char *drive_of(const struct device *d)
{
    for (const struct device_prop *p = d->class->props; p && p->name; p++) {
        if (p->type == PROP_DRIVE)
            return *(char *const *)((const char *)d + p->offset);
    }
    return NULL;
}

void removable_init(struct removable *r, struct device *dev, GMutex *lock, struct block_device *block, const struct removable_ops *ops)
{
    g_autofree char *path = device_path(dev);
    *r = (struct removable){ .dev = dev, .lock = lock, .block = block, .ops = ops };
    g_strlcpy(r->path, path, sizeof(r->path));
    dev->removable = r;
}

struct removable *removable_find(const struct machine *m, const char *id)
{
    const struct device *d = device_find(m, id);
    for (guint i = 0; !d && i < m->devices->len; i++) {
        const struct device *other = m->devices->pdata[i];
        if (other->removable && !g_strcmp0(drive_of(other), id))
            d = other;
    }
    return d ? d->removable : NULL;
}

static void tell(struct removable *r)
{
    const char *drive = drive_of(r->dev);
    machine_post_event(r->dev->machine, "DEVICE_TRAY_MOVED",
                       json_make("device", json_object_new_string(drive ? drive : ""), "id", json_object_new_string(r->dev->id ? r->dev->id : r->path),
                                 "tray-open", json_object_new_boolean(r->open), NULL));
}

bool removable_open(struct removable *r, bool force, GError **error)
{
    g_mutex_lock(lock_of(r));
    bool may = r->open || !r->locked || force;
    if (!may && r->ops->eject_request) {
        r->ops->eject_request(r);
    } else if (may && !r->open) {
        r->open = true;
        r->ops->moved(r);
        tell(r);
    }
    g_mutex_unlock(lock_of(r));
    return may || vireo_fail(error, VIREO_ERROR_BUSY, "Device '%s' is locked and force was not specified, wait for tray to open and try again",
                             r->dev->id ? r->dev->id : r->dev->class->name);
}

void removable_close(struct removable *r)
{
    g_mutex_lock(lock_of(r));
    if (r->open) {
        r->open = false;
        r->ops->moved(r);
        tell(r);
    }
    g_mutex_unlock(lock_of(r));
}

bool removable_is_open(struct removable *r)
{
    g_mutex_lock(lock_of(r));
    bool open = r->open;
    g_mutex_unlock(lock_of(r));
    return open;
}

bool removable_is_locked(struct removable *r)
{
    g_mutex_lock(lock_of(r));
    bool locked = r->locked;
    g_mutex_unlock(lock_of(r));
    return locked;
}

void removable_guest_moved(struct removable *r, bool open)
{
    if (r->open == open)
        return;
    r->open = open;
    tell(r);
}
