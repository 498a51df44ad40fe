/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A SCSI logical unit: a disk (SBC-3) or a CD/DVD drive (MMC-5) with what both have (SPC-4). Commands come from whatever carries them:
 * a SCSI controller, or a SATA drive's packet interface. The disk's lock covers it.
 */
#pragma once

#include "vmm/core/removable.h"
#include "vmm/dev/disk/disk.h"

enum { SCSI_GOOD = 0, SCSI_CHECK_CONDITION = 2, SCSI_BUSY = 8, SCSI_RESERVATION_CONFLICT = 0x18 }; /* SAM-5, 5.3.1 */
enum { SCSI_SENSE_SIZE = 18, SCSI_CDB_SIZE = 16 };
/* Sense keys (SPC-4, 4.5.6) */
enum { SCSI_NO_SENSE = 0, SCSI_NOT_READY = 2, SCSI_MEDIUM_ERROR = 3, SCSI_HARDWARE_ERROR = 4, SCSI_ILLEGAL_REQUEST = 5, SCSI_UNIT_ATTENTION = 6,
       SCSI_DATA_PROTECT = 7, SCSI_ABORTED_COMMAND = 11 };
/* Additional sense codes, with their qualifiers (SPC-4, annex F) */
enum { SCSI_ASC_NONE = 0, SCSI_ASC_INVALID_OPCODE = 0x2000, SCSI_ASC_LBA_RANGE = 0x2100, SCSI_ASC_INVALID_FIELD = 0x2400, SCSI_ASC_NO_SUCH_LUN = 0x2500,
       SCSI_ASC_INVALID_PARAMETER = 0x2600, SCSI_ASC_PARAMETER_LENGTH = 0x1a00, SCSI_ASC_WRITE_PROTECTED = 0x2700, SCSI_ASC_MEDIUM_CHANGED = 0x2800,
       SCSI_ASC_RESET = 0x2900, SCSI_ASC_CAPACITY_CHANGED = 0x2a09, SCSI_ASC_NO_MEDIUM = 0x3a00, SCSI_ASC_NO_MEDIUM_TRAY_OPEN = 0x3a02,
       SCSI_ASC_REMOVAL_PREVENTED = 0x5302, SCSI_ASC_READ_ERROR = 0x1100, SCSI_ASC_WRITE_ERROR = 0x0c00, SCSI_ASC_TARGET_FAILURE = 0x4400,
       SCSI_ASC_SPACE = 0x2707, SCSI_ASC_MEDIUM_LOADED = 0x2801 };

struct scsi_unit {
    struct disk *disk;
    bool cd, atapi;            /* atapi: behind a SATA port */
    /* who it says it is; borrowed */
    const char *vendor, *product, *version, *serial, *device_id;
    uint64_t wwn;              /* 0: none */
    uint16_t rotation_rate;    /* 1: no moving parts */
    bool removable_medium, dpofua;
    uint64_t max_unmap, max_io; /* bytes */
    unsigned lun;
    /* A CD drive's tray; a disk has none. */
    struct removable tray;
    bool stopped;              /* START STOP UNIT */
    uint16_t attention;        /* additional sense code of a unit attention that waits, or 0 */
    uint8_t media_event;       /* of GET EVENT STATUS NOTIFICATION: not yet told */
    /* The controller's list for REPORT LUNS: fills at most n LUNs, returns how many there are. NULL: only LUN 0. */
    unsigned (*luns)(struct scsi_unit *u, uint16_t *ret, unsigned n);
    void *opaque;              /* the controller's */
};

/* State rows of what has a struct scsi_unit `member`. */
#define SCSI_UNIT_FIELDS(type, member)                                                                                                 \
    DEVICE_FIELD(type, member.tray.open), DEVICE_FIELD(type, member.tray.locked), DEVICE_FIELD(type, member.stopped),                  \
    DEVICE_FIELD(type, member.attention), DEVICE_FIELD(type, member.media_event)

struct scsi_command {
    struct disk_request d;     /* the unit's own */
    struct scsi_unit *unit;
    uint8_t cdb[SCSI_CDB_SIZE];
    const struct iovec *out, *in; /* guest memory: data to the unit, from it */
    unsigned nout, nin;
    uint64_t out_len, in_len;  /* bytes of them */
    /* The answer. */
    uint8_t status, sense[SCSI_SENSE_SIZE];
    bool cancelled;            /* disk_settle gave it up: there is no answer */
    uint64_t transferred;      /* bytes written to `in`, or taken from `out` */
    uint64_t wanted;           /* bytes that the command would have transferred */
    /* Lock held; by scsi_execute itself or later. Owns the command from then on. */
    void (*finished)(struct scsi_command *c);
    /* the unit's own */
    struct iovec *iov;
    uint8_t *buffer;
    unsigned at, nranges;
    uint64_t left, step;
};

/* disk is open; the fields above `tray` are set. dev: the removable device (a CD drive). */
void scsi_unit_init(struct scsi_unit *u, struct disk *disk, bool cd);
/* A CD drive's tray, for QMP; main thread. */
void scsi_unit_init_tray(struct scsi_unit *u);
/* Power on, or a reset of the bus or unit. */
void scsi_unit_reset(struct scsi_unit *u);
/* The disk's medium or size changed (disk.changed, which takes the lock). */
void scsi_unit_changed(struct scsi_unit *u, bool resized);
/* c: unit, cdb, data, finished are set, the rest is zero. */
void scsi_execute(struct scsi_command *c);
/* Sets the answer to a check condition. */
void scsi_fail(struct scsi_command *c, uint8_t key, uint16_t asc);
/* For units that are not there: INQUIRY, REPORT LUNS, REQUEST SENSE work on them (SPC-4, 6.4.1), nothing else. luns as in scsi_unit. */
void scsi_execute_no_unit(struct scsi_command *c, const uint16_t *luns, unsigned nluns);
/* Length of a command by its first byte (SPC-4, 4.2.5); 0: unknown. */
unsigned scsi_cdb_length(uint8_t opcode);
