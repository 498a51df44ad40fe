/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Node devices: what the host has, as a tree below "computer". nodedev_udev.c finds devices and hears of changes, nodedev_describe.c (with nodedev_pci.c and nodedev_net.c) makes the
 * document of one, fresh each time it is asked for; nodedev_driver.c has the table and the calls.
 *
 * libudev reads /sys by itself: without a running udevd there are the same devices, without what udevd adds to them (serial numbers, links in /dev), and changes
 * are heard from the kernel.
 *
 * nodedev.lock covers the tables; it is a leaf. The udev handle of the monitor is used by the main context's thread alone, the others have handles of their own.
 */
#pragma once

#include <libudev.h>
#include <libvirt/libvirt.h>

#include "manage/core/manage.h"
#include "manage/model/doc.h"

/* In the order of VIR_CONNECT_LIST_NODE_DEVICES_CAP_...: bit n of struct nodedev.caps. */
enum nodedev_cap { NODEDEV_SYSTEM, NODEDEV_PCI, NODEDEV_USB_DEVICE, NODEDEV_USB, NODEDEV_NET, NODEDEV_SCSI_HOST, NODEDEV_SCSI_TARGET, NODEDEV_SCSI, NODEDEV_STORAGE,
                   NODEDEV_FC_HOST, NODEDEV_VPORTS, NODEDEV_SCSI_GENERIC, NODEDEV_DRM, NODEDEV_MDEV_TYPES, NODEDEV_MDEV, NODEDEV_CCW, NODEDEV_CSS, NODEDEV_VDPA,
                   NODEDEV_AP_CARD, NODEDEV_AP_QUEUE, NODEDEV_AP_MATRIX, NODEDEV_VPD, NODEDEV_NCAPS };
extern const char *const nodedev_cap_names[NODEDEV_NCAPS];

struct nodedev {
    char *name, *path;   /* path: under /sys; NULL: the computer */
    char *parent;        /* name; NULL: none */
    enum nodedev_cap type;
    uint32_t caps;       /* bits */
};

struct nodedev_table {
    struct manage_state *state;
    GMutex lock;
    GHashTable *by_name, *by_path; /* struct nodedev *; by_name owns */
    struct udev *udev;
    struct udev_monitor *monitor;
    GSource *source;
};

void nodedev_free(gpointer d);
/* What kind of device it is; false: none that is shown. */
bool nodedev_classify(struct udev_device *u, enum nodedev_cap *ret);
/* Fills the table with what is there, and listens from then on. */
void nodedev_scan(struct nodedev_table *t);
void nodedev_listen(struct nodedev_table *t);
void nodedev_deaf(struct nodedev_table *t);

/* The document; NULL with error when the device has gone. d is a copy of the caller's. */
char *nodedev_describe(const struct nodedev *d, GError **error);
void nodedev_describe_pci(struct el *cap, struct udev_device *u);
void nodedev_describe_net(struct el *cap, struct udev_device *u);
/* drive_type of a block device: "disk", "cdrom", ...; NULL: one that is not shown (loop, ram). */
const char *nodedev_drive_type(struct udev_device *u);
/* An attribute of /sys without blanks around it, or NULL; free it. */
char *nodedev_attr(struct udev_device *u, const char *name);
/* "0000:00:02.0" as attributes domain, bus, slot, function. */
bool nodedev_put_address(struct el *address, const char *text);
uint32_t nodedev_pci_caps(struct udev_device *u);
