/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk images: opening, locking, and the worker threads that execute requests. The one format is raw (raw.c); others are
 * recognised and refused with what to do.
 */
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "block/block_private.h"

#define WORKERS 8 /* at most, per device */
#define IDLE_US (10 * G_USEC_PER_SEC) /* after which a worker ends, but for the last */

/* What other formats start with. */
static const struct magic {
    const char *format;
    unsigned offset, size;
    const char *bytes;
} magics[] = {
    { "qcow2", 0, 4, "QFI\xfb" },
    { "vmdk", 0, 4, "KDMV" },
    { "vmdk", 0, 4, "COWD" },
    { "vmdk", 0, 21, "# Disk DescriptorFile" },
    { "vhdx", 0, 8, "vhdxfile" },
    { "vpc", 0, 8, "conectix" },
    { "vdi", 0x40, 4, "\x7f\x10\xda\xbe" },
    { "qed", 0, 4, "QED" },
    { "luks", 0, 6, "LUKS\xba\xbe" },
    { "parallels", 0, 16, "WithoutFreeSpace" },
    { "parallels", 0, 16, "WithouFreSpacExt" },
};

static bool refuse_format(GError **error, const char *path, const char *format)
{
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "disk '%s' is a %s image, and only raw ones can be used now; convert it with: "
                      "qemu-img convert -O raw '%s' '%s.raw'", path, format, path, path);
}

static bool check_format(int fd, const struct block_options *o, GError **error)
{
    uint8_t head[512] = { 0 };
    if (o->format && !strcmp(o->format, "raw"))
        return true;
    if (o->format)
        return refuse_format(error, o->path, o->format);
    ssize_t n;
    do {
        n = pread(fd, head, sizeof(head), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return vireo_fail_errno(error, errno, "cannot read disk '%s'", o->path);
    for (unsigned i = 0; i < G_N_ELEMENTS(magics); i++) {
        const struct magic *g = &magics[i];
        if (!memcmp(head + g->offset, g->bytes, g->size))
            return refuse_format(error, o->path, g->format);
    }
    log_warn("disk '%s': no format given, and it looks like raw; a guest could make it look like another format. Say format=raw", o->path);
    return true;
}

static bool find_size(struct block_device *b, GError **error)
{
    struct stat st;
    const char *path = b->options.path;
    uint64_t size;
    if (fstat(b->fd, &st) < 0)
        return vireo_fail_errno(error, errno, "cannot examine disk '%s'", path);
    if (S_ISBLK(st.st_mode)) {
        b->host_device = true;
        if (ioctl(b->fd, BLKGETSIZE64, &size) < 0)
            return vireo_fail_errno(error, errno, "cannot find the size of disk '%s'", path);
    } else if (S_ISREG(st.st_mode)) {
        size = st.st_size;
    } else {
        return vireo_fail(error, VIREO_ERROR_INVALID, "disk '%s' is neither a file nor a block device", path);
    }
    if (!size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "disk '%s' is empty; give it a size: truncate -s 10G '%s'", path, path);
    b->size = (size + 511) & ~511ull;
    if (b->direct && size % b->align) {
        log_warn("disk '%s': its size of %" G_GUINT64_FORMAT " bytes is not a multiple of %u, so it is used with the host's cache", path,
                 size, b->align);
        if (fcntl(b->fd, F_SETFL, fcntl(b->fd, F_GETFL) & ~O_DIRECT) < 0)
            return vireo_fail_errno(error, errno, "disk '%s'", path);
        b->direct = false;
    }
    return true;
}

static uint32_t direct_alignment(int fd)
{
    struct statx sx;
#ifdef STATX_DIOALIGN
    if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align) {
        uint32_t align = MAX(sx.stx_dio_offset_align, sx.stx_dio_mem_align);
        if (align >= 512 && !(align & (align - 1)) && align <= 65536)
            return align;
    }
#else
    (void)sx;
#endif
    return 4096;
}

static bool open_failed(GError **error, int err, const struct block_options *o)
{
    if (fdset_path(o->path) && err == ENOENT)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "cannot open disk '%s': there is no such set of descriptors; pass one with -add-fd", o->path);
    if (fdset_path(o->path) && err == EACCES)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot open disk '%s': no descriptor in that set is open for %s", o->path,
                          o->read_only ? "reading only" : "reading and writing");
    if (err == ENOENT)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "cannot open disk '%s': there is no such file; make one with: truncate -s 10G '%s'",
                          o->path, o->path);
    if ((err == EACCES || err == EROFS || err == EPERM) && !o->read_only && access(o->path, R_OK) == 0)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot open disk '%s' for writing: %s; change its permissions, or use it with "
                          "readonly=on", o->path, g_strerror(err));
    return vireo_fail_errno(error, err, "cannot open disk '%s'", o->path);
}

static bool open_file(struct block_device *b, GError **error)
{
    const struct block_options *o = &b->options;
    int flags = (o->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    b->direct = o->cache == BLOCK_CACHE_NONE || o->cache == BLOCK_CACHE_DIRECTSYNC;
    b->fd = fdset_open(o->path, flags, 0);
    if (b->fd < 0)
        return open_failed(error, errno, o);
    if (!image_lock(b->fd, o->path, !o->read_only, error) || !check_format(b->fd, o, error))
        return false;
    b->align = direct_alignment(b->fd);
    if (fcntl(b->fd, F_SETFL, b->direct ? O_DIRECT : 0) < 0) {
        log_warn("disk '%s': its file system has no direct access (cache=none), so it is used with the host's cache", o->path);
        b->direct = false;
        (void)!fcntl(b->fd, F_SETFL, 0);
    }
    b->can_punch = b->can_zero_range = true;
    return find_size(b, error);
}

/* ---- workers ---- */

static void *worker(void *opaque);

/* One more worker, when requests wait and nobody is free for them. A worker starts the next one, so that no vCPU has to be
 * allowed to make threads; the first is there from the beginning. */
static void start_worker_locked(struct block_device *b)
{
    b->nworkers++;
    (void)!sandbox_thread_new(SANDBOX_BLOCK, "block", worker, b); /* it leaves itself in b->ended */
}

static void join_ended_locked(struct block_device *b)
{
    while (b->ended) {
        GThread *t = b->ended->data;
        b->ended = g_slist_delete_link(b->ended, b->ended);
        g_thread_join(t); /* it has given the lock back, or is about to end without it */
    }
}

/* The next request, or NULL: the worker ends. One worker waits for ever, the others for a while. */
static struct block_request *next_request_locked(struct block_device *b)
{
    gint64 until = g_get_monotonic_time() + IDLE_US;
    while (g_queue_is_empty(&b->pending) && !b->quit) {
        bool in_time = true;
        b->nwaiting++;
        if (b->nworkers == 1)
            g_cond_wait(&b->work, &b->lock);
        else
            in_time = g_cond_wait_until(&b->work, &b->lock, until);
        b->nwaiting--;
        if (!in_time && g_queue_is_empty(&b->pending) && b->nworkers > 1)
            return NULL;
    }
    return g_queue_pop_head(&b->pending);
}

static void execute(struct block_device *b, struct block_request *r)
{
    g_mutex_unlock(&b->lock);
    r->done(r, raw_execute(b, r)); /* r may be gone now */
    g_mutex_lock(&b->lock);
    if (!--b->inflight)
        g_cond_broadcast(&b->idle);
}

static void *worker(void *opaque)
{
    struct block_device *b = opaque;
    struct block_request *r;
    g_mutex_lock(&b->lock);
    while ((r = next_request_locked(b))) {
        join_ended_locked(b);
        if (!g_queue_is_empty(&b->pending) && !b->nwaiting && b->nworkers < WORKERS)
            start_worker_locked(b);
        execute(b, r);
    }
    b->nworkers--;
    b->ended = g_slist_prepend(b->ended, g_thread_self());
    g_cond_broadcast(&b->idle);
    g_mutex_unlock(&b->lock);
    return NULL;
}

static void end_workers(struct block_device *b)
{
    g_mutex_lock(&b->lock);
    b->quit = true;
    g_cond_broadcast(&b->work);
    while (b->nworkers)
        g_cond_wait(&b->idle, &b->lock);
    g_mutex_unlock(&b->lock);
    join_ended_locked(b); /* nobody else is left */
}

struct block_device *block_open(const struct block_options *o, GError **error)
{
    struct block_device *b = g_new0(struct block_device, 1);
    b->options = *o;
    b->options.path = g_strdup(o->path ? o->path : "");
    b->options.node_name = g_strdup(o->node_name);
    b->options.id = g_strdup(o->id);
    b->options.format = g_strdup(o->format);
    b->fd = -1;
    g_mutex_init(&b->lock);
    g_cond_init(&b->idle);
    g_cond_init(&b->work);
    g_queue_init(&b->pending);
    g_rw_lock_init(&b->rmw_lock);
    if (!open_file(b, error)) {
        block_close(b);
        return NULL;
    }
    g_mutex_lock(&b->lock);
    start_worker_locked(b);
    g_mutex_unlock(&b->lock);
    return b;
}

void block_close(struct block_device *b)
{
    if (!b)
        return;
    if (b->nworkers) {
        block_drain(b);
        if (!b->options.read_only && b->options.cache != BLOCK_CACHE_UNSAFE)
            (void)!fdatasync(b->fd);
        end_workers(b);
    }
    if (b->fd >= 0)
        close(b->fd);
    g_free((char *)b->options.path);
    g_free((char *)b->options.node_name);
    g_free((char *)b->options.id);
    g_free((char *)b->options.format);
    g_free(b->claimed_by);
    g_mutex_clear(&b->lock);
    g_cond_clear(&b->idle);
    g_cond_clear(&b->work);
    g_rw_lock_clear(&b->rmw_lock);
    g_free(b);
}

uint64_t block_size(const struct block_device *b)
{
    return b->size;
}

uint64_t block_allocated(const struct block_device *b)
{
    struct stat st;
    return fstat(b->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

bool block_read_only(const struct block_device *b)
{
    return b->options.read_only;
}

const struct block_options *block_options_of(const struct block_device *b)
{
    return &b->options;
}

void block_submit(struct block_device *b, struct block_request *r)
{
    g_mutex_lock(&b->lock);
    b->inflight++;
    g_queue_push_tail(&b->pending, r);
    g_cond_signal(&b->work);
    g_mutex_unlock(&b->lock);
}

void block_drain(struct block_device *b)
{
    g_mutex_lock(&b->lock);
    while (b->inflight)
        g_cond_wait(&b->idle, &b->lock);
    g_mutex_unlock(&b->lock);
}

bool block_claim(struct block_device *b, const char *who, GError **error)
{
    g_mutex_lock(&b->lock);
    bool ok = !b->claimed_by;
    if (ok)
        b->claimed_by = g_strdup(who);
    else
        vireo_fail(error, VIREO_ERROR_BUSY, "drive '%s' is already used by %s", b->options.id ? b->options.id : b->options.path, b->claimed_by);
    g_mutex_unlock(&b->lock);
    return ok;
}
