/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Filter "blklogwrites": every write of the node below is written to a log as well, in the format of the kernel's dm-log-writes
 * target (Documentation/admin-guide/device-mapper/log-writes.rst), so that what a power cut would leave can be put together.
 *
 * Log: a super block of one sector { magic, version, entries, sector size }, then per write an entry of one sector { sector,
 * sectors, flags, data bytes } and the data, all little-endian. A flush marks the entries before it as being on stable storage.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_private.h"
#include "block/drivers.h"

#define LOG_MAGIC UINT64_C(0x6a736677736872)
enum { LOG_FLUSH = 1, LOG_FUA = 2, LOG_DISCARD = 4 };

struct log_super {
    uint64_t magic, version, entries;
    uint32_t sector_size;
} __attribute__((packed));
struct log_entry {
    uint64_t sector, sectors, flags, data_bytes;
} __attribute__((packed));

struct logwrites {
    uint64_t sector_size, super_interval;
    bool append;
    GMutex lock; /* covers next, entries; the log and the disk have writes in one order */
    uint64_t next, entries;
    bool open;
};
#define L(member) offsetof(struct logwrites, member)
static const struct keyval_key log_keys[] = {
    { "log-sector-size", KV_SIZE, L(sector_size), "bytes of a sector of the log" },
    { "log-super-update-interval", KV_UINT, L(super_interval), "writes after which the number of entries is noted" },
    { "log-append", KV_BOOL, L(append), "go on with a log that is there" },
    { NULL }
};

static struct block_node *log_of(struct block_node *n)
{
    return n->child[BLOCK_ROLE_DATA_FILE];
}

static int write_super(struct block_node *n)
{
    const struct logwrites *s = n->state;
    g_autofree struct log_super *super = g_malloc0(s->sector_size);
    *super = (struct log_super){ GUINT64_TO_LE(LOG_MAGIC), GUINT64_TO_LE(1), GUINT64_TO_LE(s->entries), GUINT32_TO_LE((uint32_t)s->sector_size) };
    int err = block_pwrite(log_of(n), 0, s->sector_size, super, 0);
    return err ? err : block_flush(log_of(n));
}

static bool log_open(struct block_node *n, unsigned flags, GError **error)
{
    struct logwrites *s = n->state;
    if (!log_of(n))
        return vireo_fail(error, VIREO_ERROR_INVALID, "A block device must be specified for \"log\"");
    if (s->append)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "log-append=on is not possible; use another file for the log");
    s->sector_size = s->sector_size ? s->sector_size : 512;
    if (s->sector_size < 512 || s->sector_size > 4096 || s->sector_size & (s->sector_size - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "log-sector-size must be 512, 1024, 2048 or 4096");
    n->size = block_node_size(n->child[BLOCK_ROLE_FILE]);
    n->limits.request_alignment = (uint32_t)s->sector_size;
    s->next = s->sector_size;
    s->open = true;
    g_mutex_init(&s->lock);
    int err = write_super(n);
    return !err || vireo_fail_errno(error, err, "cannot write the log");
}

static void log_close(struct block_node *n)
{
    struct logwrites *s = n->state;
    if (!s->open)
        return;
    (void)write_super(n);
    g_mutex_clear(&s->lock);
}

static int log_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    return block_preadv(n->child[BLOCK_ROLE_FILE], offset, bytes, iov, niov);
}

/* One entry, and its data from the vectors (niov 0: none). */
static int append_locked(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, uint64_t flags)
{
    struct logwrites *s = n->state;
    g_autofree struct log_entry *e = g_malloc0(s->sector_size);
    *e = (struct log_entry){ GUINT64_TO_LE(offset / s->sector_size), GUINT64_TO_LE(bytes / s->sector_size), GUINT64_TO_LE(flags),
                             GUINT64_TO_LE(niov ? bytes : 0) };
    int err = block_pwrite(log_of(n), s->next, s->sector_size, e, 0);
    if (!err && niov)
        err = block_pwritev(log_of(n), s->next + s->sector_size, bytes, iov, niov, 0);
    if (err)
        return err;
    s->next += s->sector_size + (niov ? bytes : 0);
    s->entries++;
    return flags & LOG_FLUSH || (s->super_interval && s->entries % s->super_interval == 0) ? write_super(n) : 0;
}

static int log_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct logwrites *s = n->state;
    g_mutex_lock(&s->lock);
    int err = append_locked(n, offset, bytes, iov, niov, flags & BLOCK_FUA ? LOG_FUA : 0);
    if (!err)
        err = block_pwritev(n->child[BLOCK_ROLE_FILE], offset, bytes, iov, niov, flags);
    if (!err && offset + bytes > n->size)
        __atomic_store_n(&n->size, offset + bytes, __ATOMIC_RELAXED);
    g_mutex_unlock(&s->lock);
    return err;
}

static int log_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    struct logwrites *s = n->state;
    g_mutex_lock(&s->lock);
    int err = append_locked(n, offset, bytes, NULL, 0, LOG_DISCARD);
    if (!err)
        err = block_discard(n->child[BLOCK_ROLE_FILE], offset, bytes);
    g_mutex_unlock(&s->lock);
    return err;
}

static int log_flush(struct block_node *n)
{
    struct logwrites *s = n->state;
    g_mutex_lock(&s->lock);
    int err = append_locked(n, 0, 0, NULL, 0, LOG_FLUSH);
    if (!err)
        err = block_flush(n->child[BLOCK_ROLE_FILE]);
    g_mutex_unlock(&s->lock);
    return err;
}

static bool log_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    if (!block_truncate(n->child[BLOCK_ROLE_FILE], size, exact, prealloc, error))
        return false;
    n->size = block_node_size(n->child[BLOCK_ROLE_FILE]);
    return true;
}

const struct block_driver block_logwrites = {
    .name = "blklogwrites", .help = "also writes all writes to a log, as dm-log-writes does", .kind = BLOCK_FILTER, .second_child = "log", .growable = true,
    .state_size = sizeof(struct logwrites), .keys = log_keys, .open = log_open, .close = log_close, .preadv = log_preadv, .pwritev = log_pwritev,
    .discard = log_discard, .flush = log_flush, .truncate = log_truncate, .supports_fua = true,
};
