/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk images, asynchronously. A request is executed by worker threads (io_uring comes with the image formats) and
 * completes on a worker thread. Raw images now; block_open is the one door.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct block_device;

enum block_on_error { BLOCK_ON_ERROR_REPORT, BLOCK_ON_ERROR_IGNORE, BLOCK_ON_ERROR_STOP, BLOCK_ON_ERROR_ENOSPC };
enum block_cache { BLOCK_CACHE_WRITEBACK, BLOCK_CACHE_NONE, BLOCK_CACHE_WRITETHROUGH, BLOCK_CACHE_DIRECTSYNC, BLOCK_CACHE_UNSAFE };
struct block_options {
    const char *path, *node_name, *id;
    const char *format;   /* "raw", or NULL: probed with a warning as QEMU does */
    bool read_only, snapshot_off, discard;
    enum block_cache cache;
    enum block_on_error rerror, werror; /* defaults: report, enospc */
};

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };
struct block_request {
    enum block_op op;
    uint64_t offset, length;     /* bytes */
    const struct iovec *iov; int niov;
    void (*done)(struct block_request *r, int err); /* err: 0 or an errno value; on a worker thread */
    void *opaque;
    GList link; /* the device's own */
};

/* Opens and locks the image as QEMU does (OFD locks on bytes 100+ and 200+ of the file, so that either program respects the
 * other). A missing, unreadable, truncated or locked image is an error that says what to do. */
struct block_device *block_open(const struct block_options *o, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void block_close(struct block_device *b); /* waits for requests, flushes */
uint64_t block_allocated(const struct block_device *b);  /* bytes that the file takes on the host */
uint64_t block_size(const struct block_device *b);       /* bytes, multiple of 512 */
bool block_read_only(const struct block_device *b);
const struct block_options *block_options_of(const struct block_device *b);
void block_submit(struct block_device *b, struct block_request *r); /* any thread */
void block_drain(struct block_device *b); /* all submitted requests are done */
/* A guest front end takes it for itself; an error names the one that has it. */
bool block_claim(struct block_device *b, const char *who, GError **error) G_GNUC_WARN_UNUSED_RESULT;
