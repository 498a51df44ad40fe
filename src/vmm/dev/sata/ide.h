/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ATA and ATAPI drives (ATA/ATAPI Command Set 2, ACS-2) as a Serial ATA controller drives them, and the controller's side that they see.
 * A drive's device.lock covers it and the port it is at.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/core/device.h"
#include "vmm/dev/disk/disk.h"
#include "vmm/dev/disk/mmc.h"

enum { ATA_ERR = 0x01, ATA_DRQ = 0x08, ATA_DSC = 0x10, ATA_DF = 0x20, ATA_DRDY = 0x40, ATA_BSY = 0x80 };
enum { ATA_ABRT = 0x04, ATA_IDNF = 0x10, ATA_UNC = 0x40 };

enum ide_protocol { IDE_NONDATA, IDE_PIO_IN, IDE_PIO_OUT, IDE_DMA, IDE_QUEUED, IDE_PACKET };

/* One command, from the controller to the drive and back. */
struct ide_command {
    struct disk_request request; /* first: the drive's, for the medium */
    /* the host's registers, and afterwards the drive's */
    uint8_t command, device, packet[16];
    uint16_t feature, count;
    uint64_t lba;             /* 48 bits */
    uint8_t status, error;
    enum ide_protocol protocol;
    bool to_host;             /* the direction of its data */
    bool dma;                 /* of PACKET: data by DMA */
    uint32_t bytes;           /* moved */
    /* The host's memory for the first `bytes` of data, as the controller's list says: sets iov and niov. False: the list is too short, or
     * leads to what is not RAM. Lock held. */
    bool (*map)(struct ide_command *c, uint32_t bytes);
    struct iovec *iov;
    int niov;
    void *bounce;             /* the drive's: data of more pieces than one request may have, or that is made */
    uint32_t bounce_size;
    struct iovec bounce_iov;
    /* Lock held; takes it over. */
    void (*done)(struct ide_command *c);
};

struct ide_drive {
    struct device dev; /* first */
    struct disk disk;
    /* properties */
    char *bus_name, *version, *model;
    uint64_t unit, wwn, rotation_rate, bootindex;
    uint64_t cylinders, heads, sectors;
    bool atapi, dma_off;
    struct mmc mmc;
    /* state */
    uint8_t multiple, transfer_mode;
    bool look_ahead, smart, queue_failed;
    uint8_t failed_tag, failed_status, failed_error; /* of the queued command that failed: log 10h */
    uint64_t failed_lba;
    struct ide_port *port;    /* NULL: not at one */
};

/* A port of a controller: the drive tells it. Lock held. */
struct ide_port_ops {
    void (*batch_done)(struct ide_port *p);  /* after completions on a thread of the block layer */
};
struct ide_port {
    const struct ide_port_ops *ops;
    struct ide_drive *drive;  /* NULL: none */
};

/* For controllers. Lock held. */
void ide_execute(struct ide_drive *d, struct ide_command *c);
void ide_reset(struct ide_drive *d, bool hard);
void ide_signature(const struct ide_drive *d, struct ide_command *ret); /* what a drive shows after a reset (ACS-2, 9.3) */
/* Gives back what the drive took for the command. */
void ide_command_clear(struct ide_command *c);

/* A device class of a controller with ports has a bus_class that begins so. */
struct ide_bus_class {
    unsigned nports;
    struct ide_port *(*port)(struct device *d, unsigned n);
};
extern const struct ide_bus_class ahci_bus_class;
