/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A SCSI controller and the disks and CD drives on it. The controller's lock covers them all; they come and go on the main thread.
 */
#pragma once

#include "vmm/dev/disk/scsi_unit.h"

struct scsi_bus;

struct scsi_device { /* "scsi-hd", "scsi-cd" */
    struct device dev;
    struct disk disk;
    struct scsi_unit unit;
    struct scsi_bus *bus;
    /* properties */
    char *bus_name, *vendor, *product, *version, *device_id;
    uint64_t channel, id, lun, wwn, rotation_rate, max_unmap, max_io, bootindex, scsi_version;
    bool removable, dpofua;
};

struct scsi_bus {
    struct device *controller;
    GPtrArray *devices;      /* struct scsi_device * */
    unsigned max_id, max_lun;
    /* Lock held. A device came, or is about to go; one's capacity changed. */
    void (*plugged)(struct scsi_bus *b, struct scsi_device *d, bool came);
    void (*changed)(struct scsi_bus *b, struct scsi_device *d, uint16_t asc);
    void (*batch_done)(struct scsi_bus *b); /* after several commands have finished outside scsi_execute */
};

void scsi_bus_init(struct scsi_bus *b, struct device *controller, unsigned max_id, unsigned max_lun);
void scsi_bus_finish(struct scsi_bus *b);
/* Lock held. NULL: there is none. */
struct scsi_device *scsi_bus_find(const struct scsi_bus *b, unsigned id, unsigned lun);
/* The LUNs of a target in order, at most n; returns how many. */
unsigned scsi_bus_luns(const struct scsi_bus *b, unsigned id, uint16_t *ret, unsigned n);
/* Lock held, given up while it waits: no command is at work any more; those that waited for another try are cancelled. */
void scsi_bus_settle(struct scsi_bus *b);
/* The same, but those that wait for another try go on waiting (disk_drain). */
void scsi_bus_drain(struct scsi_bus *b);
void scsi_bus_reset(struct scsi_bus *b); /* lock held */
/* The bus of a controller (virtio_scsi.c), NULL: the device is none. */
struct scsi_bus *scsi_bus_of(struct device *d);
