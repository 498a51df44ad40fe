/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every disk of a guest has, whatever bus it is on: its back end, properties, and requests that are answered at once where that is
 * possible, come back in batches, and stay for another try where the policy for errors says so.
 *
 * The device's lock covers it. Completions are called with it held, by disk_submit itself or by a thread of the block layer.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "vmm/core/device.h"

struct disk_request;
struct state_reader;
struct state_writer;

struct disk {
    /* properties: DISK_PROPS */
    char *drive, *serial;
    uint64_t logical_block_size, physical_block_size; /* 0: 512, or the larger of 512 and the other */
    uint64_t min_io_size, opt_io_size, discard_granularity;
    int rerror, werror, write_cache;
    bool share_rw;
    /* the rest */
    struct device *dev;
    GMutex *lock;               /* what covers all this: dev->lock, or that of the controller */
    struct block_device *block; /* NULL: not open */
    bool write_through;         /* as the drive or write-cache= say; the guest may have changed the block device's */
    void (*batch_done)(void *opaque); /* after a batch of completions, lock held; not by disk_submit. May be NULL */
    void (*changed)(void *opaque, bool resized); /* another size or medium; without lock. May be NULL */
    void *opaque;
    unsigned inflight;          /* requests that the block layer has */
    bool dropping;              /* errors are not tried again: disk_settle is at work */
    GCond idle;
    GQueue retry;               /* struct disk_request *: for when the machine goes on */
    GMutex done_lock;           /* a leaf: covers what follows */
    struct disk_request *done;  /* complete, the last first; not yet told */
    bool telling;               /* a thread tells */
};

struct disk_request {
    struct block_request r;
    struct disk *disk;
    int err;
    struct disk_request *next;
    /* Lock held; owns the request from now on. err: 0, or an errno value that the guest is to hear of; ECANCELED: disk_settle gave up
     * a request that waited for another try. */
    void (*complete)(struct disk_request *r, int err);
};

/* Looks the drive up, claims it for the device and checks the properties. lock NULL: dev->lock. may_be_empty (a CD-ROM): no drive= and
 * no medium are no errors, nor a size that is no multiple of the block. */
bool disk_open(struct disk *d, struct device *dev, GMutex *lock, bool may_be_empty, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Without lock; nothing is in flight, or somebody ends it: waits. Also of one that disk_open has refused. */
void disk_close(struct disk *d);
/* Lock held. r->r: op, offset, length, iov, flags; r->complete. */
void disk_submit(struct disk *d, struct disk_request *r);
/* Lock held, given up while it waits until no request is in flight. Those that wait for another try are completed with ECANCELED. */
void disk_settle(struct disk *d);
/* For device_class.drain: lock held, given up while it waits until no request is in flight. Those that wait for another try go on waiting, in
 * `retry`: what the device saves of them is enough to begin them anew. */
void disk_drain(struct disk *d);
/* The guest's choice of cache. */
void disk_save(const struct disk *d, struct state_writer *w);
bool disk_load(struct disk *d, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Back to what the drive or write-cache= say; the guest's choice. */
void disk_reset_cache(struct disk *d);
void disk_set_cache(struct disk *d, bool write_back);
bool disk_has_cache(const struct disk *d);
bool disk_has_medium(const struct disk *d);
/* The vectors from byte `skip` on, `length` bytes, into ret (as many as n); returns how many. */
int disk_slice(const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length, struct iovec *ret);

extern const char *const disk_policies[], *const disk_on_off_auto[];
/* Rows for a struct `type` with a struct disk `member`. */
#define DISK_PROPS(type, member)                                                                                                      \
    { "drive", PROP_DRIVE, offsetof(type, member.drive), .help = "the disk: id of a -drive or node of a -blockdev" },                \
    { "logical_block_size", PROP_SIZE, offsetof(type, member.logical_block_size), 0, 2 << 20, .def = "0", .help = "bytes; 0: 512" },   \
    { "physical_block_size", PROP_SIZE, offsetof(type, member.physical_block_size), 0, 2 << 20, .def = "0", .help = "bytes; 0: 512" }, \
    { "min_io_size", PROP_SIZE, offsetof(type, member.min_io_size), 0, 2 << 20, .def = "0", .help = "bytes that requests should at least have" }, \
    { "opt_io_size", PROP_SIZE, offsetof(type, member.opt_io_size), 0, 1 << 30, .def = "0", .help = "bytes that requests should have" }, \
    { "discard_granularity", PROP_SIZE, offsetof(type, member.discard_granularity), 0, UINT32_MAX, .def = "4294967295",               \
      .help = "bytes that can be discarded; 4294967295: one block" },                                                                \
    { "write-cache", PROP_ENUM, offsetof(type, member.write_cache), .values = disk_on_off_auto, .def = "auto",                        \
      .help = "whether writes need a flush to be on the disk; auto: as the drive says" },                                            \
    { "share-rw", PROP_BOOL, offsetof(type, member.share_rw), .def = "off", .help = "accepted; images are never shared for writing" }
#define DISK_ERROR_PROPS(type, member)                                                                                                \
    { "rerror", PROP_ENUM, offsetof(type, member.rerror), .values = disk_policies, .def = "auto",                                     \
      .help = "what follows a failed read; auto: as the drive says" },                                                               \
    { "werror", PROP_ENUM, offsetof(type, member.werror), .values = disk_policies, .def = "auto", .help = "what follows a failed write" }
#define DISK_SERIAL_PROP(type, member, text) { "serial", PROP_STRING, offsetof(type, member.serial), .help = text }
