/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drives whose medium can be changed (CD-ROM): the tray, and who may move it. A device of that kind has one of these and names it in
 * device.removable; QMP's blockdev-open-tray and its siblings use the functions below, and put another node into `block` while the tray
 * is open (block_device_set_node), of which the device hears by block_device_on_change.
 *
 * device.lock of `dev` covers `open`, `locked`; `block` is set once.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct block_device;
struct device;
struct machine;
struct removable;

struct removable_ops {
    /* All with the device's lock held, on the main thread. */
    void (*eject_request)(struct removable *r); /* the eject button: the guest has locked the tray, and is asked */
    void (*moved)(struct removable *r);         /* the host has opened or closed the tray (r->open): the guest is told */
};

struct removable {
    struct device *dev;
    GMutex *lock;                /* NULL: dev->lock */
    struct block_device *block;  /* NULL: the drive has no back end, and never gets a medium */
    const struct removable_ops *ops;
    char path[64];               /* QOM path of dev */
    bool open, locked;           /* the tray is; the guest does not want it to be opened */
};

/* Main thread, from the device's realize. Sets dev->removable. */
void removable_init(struct removable *r, struct device *dev, GMutex *lock, struct block_device *block, const struct removable_ops *ops);
/* By a device's id or QOM path, or by the id of the drive that it uses; NULL: there is no such removable drive. */
struct removable *removable_find(const struct machine *m, const char *id);
/* Main thread. Opens the tray: at once, or, when the guest has locked it and !force, by asking the guest; then it is an error that says
 * to wait (as QEMU's). Nothing happens when it is open. */
bool removable_open(struct removable *r, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void removable_close(struct removable *r);
bool removable_is_open(struct removable *r);
bool removable_is_locked(struct removable *r);
/* For the device, lock held: the guest has moved the tray. Sends DEVICE_TRAY_MOVED. */
void removable_guest_moved(struct removable *r, bool open);
