/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drivers "file" and "host_device": a file or block device of the host. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fdset.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "block/block_private.h"
#include "block/drivers.h"
#include "block/file.h"

#define BOUNCE_MAX (1u << 20)

struct file {
    char *path, *pr_manager;
    int aio, locking;
    bool drop_cache, check_cache;
    uint64_t max_workers;
    int fd;
    bool open, direct, device, can_punch, can_zero_range;
    uint32_t align;               /* of O_DIRECT: offset, length and memory */
    GRWLock rmw;                  /* O_DIRECT: writer: read, modify, write of a part of an aligned unit; reader: other writes */
};
#define F(member) offsetof(struct file, member)
static const char *const aio_values[] = { "threads", "native", "io_uring", NULL };
static const char *const locking_values[] = { "auto", "on", "off", NULL };
static const struct keyval_key file_keys[] = {
    { "filename", KV_STRING, F(path), "path, or /dev/fdset/N" },
    { "aio", KV_ENUM, F(aio), "how requests wait", aio_values },
    { "locking", KV_ENUM, F(locking), "keep other users of the image out", locking_values },
    { "drop-cache", KV_BOOL, F(drop_cache), "accepted" },
    { "x-check-cache-dropped", KV_BOOL, F(check_cache), "accepted" },
    { "aio-max-batch", KV_UINT, F(max_workers), "accepted" },
    { "pr-manager", KV_REFUSED, 0, "persistent reservations are not passed on" },
    { NULL }
};

/* ---- reading and writing ---- */

static bool memory_aligned(const struct file *f, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t mask = f->align - 1;
    if (!f->direct)
        return true;
    if ((offset | bytes) & mask)
        return false;
    for (int i = 0; i < niov; i++) {
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & mask)
            return false;
    }
    return true;
}

/* seccomp(block): preadv pwritev
 * Straight between the file and memory. Past the end of the file reads as zeroes. */
static int transfer(struct file *f, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, bool write)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t done = 0;
    while (done < bytes) {
        struct iovec part[64];
        uint64_t length;
        int n = iov_cursor_fill(&c, part, G_N_ELEMENTS(part), MIN(bytes - done, 1u << 30), &length);
        if (!n)
            return EINVAL;
        ssize_t got = write ? pwritev(f->fd, part, n, offset + done) : preadv(f->fd, part, n, offset + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0 && write)
            return ENOSPC;
        if (got == 0) {
            iov_cursor_zero(&c, bytes - done);
            return 0;
        }
        iov_cursor_advance(&c, got);
        done += got;
    }
    return 0;
}

/* O_DIRECT with memory or an extent that is not aligned: through an aligned buffer, piece by piece. */
static int bounce(struct file *f, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, bool write)
{
    uint64_t mask = f->align - 1, at = offset, end = offset + bytes;
    struct iov_cursor c = { iov, niov, 0 };
    size_t size = MIN((bytes + 2 * f->align) & ~mask, (uint64_t)BOUNCE_MAX);
    void *buffer;
    int err = posix_memalign(&buffer, MAX(f->align, 4096), size);
    if (err)
        return err;
    while (at < end && !err) {
        uint64_t lo = at & ~mask, hi = MIN((end + mask) & ~mask, lo + size), stop = MIN(hi, end);
        const struct iovec whole = { buffer, hi - lo };
        if (!write || at != lo || stop != hi)
            err = transfer(f, lo, hi - lo, &whole, 1, false);
        if (!err && write)
            iov_cursor_read(&c, (char *)buffer + (at - lo), stop - at);
        else if (!err)
            iov_cursor_write(&c, (char *)buffer + (at - lo), stop - at);
        if (!err && write)
            err = transfer(f, lo, hi - lo, &whole, 1, true);
        at = stop;
    }
    free(buffer);
    return err;
}

static int file_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct file *f = n->state;
    return memory_aligned(f, offset, bytes, iov, niov) ? transfer(f, offset, bytes, iov, niov, false) : bounce(f, offset, bytes, iov, niov, false);
}

/* Another thread may have made it larger still. */
static void grown(struct block_node *n, uint64_t end)
{
    uint64_t old = __atomic_load_n(&n->size, __ATOMIC_RELAXED);
    while (old < end && !__atomic_compare_exchange_n(&n->size, &old, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static int file_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct file *f = n->state;
    bool part = f->direct && ((offset | bytes) & (f->align - 1));
    if (part)
        g_rw_lock_writer_lock(&f->rmw);
    else if (f->direct)
        g_rw_lock_reader_lock(&f->rmw);
    int err = memory_aligned(f, offset, bytes, iov, niov) ? transfer(f, offset, bytes, iov, niov, true) : bounce(f, offset, bytes, iov, niov, true);
    if (part)
        g_rw_lock_writer_unlock(&f->rmw);
    else if (f->direct)
        g_rw_lock_reader_unlock(&f->rmw);
    if (!err)
        grown(n, offset + bytes);
    return err;
}

static bool not_supported(int err)
{
    return err == EOPNOTSUPP || err == ENOSYS || err == EINVAL || err == ENOTTY || err == EPERM;
}

/* seccomp(block): fallocate
 * True: done, with *ret_err. False: this file cannot do it. */
static bool try_fallocate(struct file *f, bool *able, int mode, uint64_t offset, uint64_t bytes, int *ret_err)
{
    if (!*able)
        return false;
    int err;
    do {
        err = fallocate(f->fd, mode, offset, bytes) < 0 ? errno : 0;
    } while (err == EINTR);
    if (not_supported(err)) {
        *able = false;
        return false;
    }
    *ret_err = err;
    return true;
}

static int file_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct file *f = n->state;
    uint64_t size = block_node_size(n);
    int err = 0;
    if (offset + bytes > size) { /* the end moves: zeroes come by themselves */
        if (f->device)
            return EINVAL;
        if (ftruncate(f->fd, offset + bytes) < 0)
            return errno;
        grown(n, offset + bytes);
        if (offset >= size)
            return 0;
        bytes = size - offset;
    }
    if (flags & BLOCK_MAY_UNMAP && try_fallocate(f, &f->can_punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, &err))
        return err;
    if (try_fallocate(f, &f->can_zero_range, FALLOC_FL_ZERO_RANGE, offset, bytes, &err))
        return err;
    return EOPNOTSUPP;
}

static int file_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    struct file *f = n->state;
    int err = 0; /* a hint: where it cannot be followed, nothing is lost */
    (void)try_fallocate(f, &f->can_punch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, &err);
    return err;
}

/* seccomp(block): fdatasync ftruncate lseek */
static int file_flush(struct block_node *n)
{
    struct file *f = n->state;
    if (n->flags & BLOCK_NO_FLUSH)
        return 0;
    return fdatasync(f->fd) < 0 ? errno : 0;
}

static int file_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    struct file *f = n->state;
    off_t end = (off_t)(offset + bytes), data = f->device ? -1 : lseek(f->fd, offset, SEEK_DATA);
    *ret = (struct block_status){ .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED, .bytes = bytes, .map = offset, .file = n };
    if (f->device || (data < 0 && errno != ENXIO))
        return 0;
    if (data < 0 || data > (off_t)offset) { /* a hole, to its end or the file's */
        ret->flags = BLOCK_STATUS_ZERO | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED;
        ret->bytes = data < 0 ? bytes : (uint64_t)MIN(data, end) - offset;
        return 0;
    }
    off_t hole = lseek(f->fd, offset, SEEK_HOLE);
    if (hole > (off_t)offset && hole < end)
        ret->bytes = (uint64_t)hole - offset;
    return 0;
}

static bool file_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret)
{
    if (write && offset + bytes > block_node_size(n))
        return false;
    ret->node = n;
    ret->offset = offset;
    return true;
}

int block_node_fd(struct block_node *n)
{
    return n->driver == &block_file || n->driver == &block_host_device ? ((struct file *)n->state)->fd : -1;
}

bool block_file_direct(struct block_node *n, uint32_t *ret_align)
{
    struct file *f = n->state;
    *ret_align = f->direct ? f->align : 1;
    return f->direct;
}

/* ---- opening ---- */

bool block_file_is_device(const char *path)
{
    struct stat st;
    return !fdset_path(path) && stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static uint32_t direct_alignment(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx sx;
    if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align) {
        uint32_t align = MAX(sx.stx_dio_offset_align, sx.stx_dio_mem_align);
        if (align >= 512 && !(align & (align - 1)) && align <= 65536)
            return align;
    }
#endif
    int sector;
    if (ioctl(fd, BLKSSZGET, &sector) == 0 && sector >= 512 && sector <= 65536)
        return sector;
    return 4096;
}

static bool find_size(struct block_node *n, GError **error)
{
    struct file *f = n->state;
    struct stat st;
    uint64_t size;
    if (fstat(f->fd, &st) < 0)
        return vireo_fail_errno(error, errno, "cannot examine disk '%s'", f->path);
    if (S_ISBLK(st.st_mode)) {
        f->device = true;
        if (ioctl(f->fd, BLKGETSIZE64, &size) < 0)
            return vireo_fail_errno(error, errno, "cannot find the size of disk '%s'", f->path);
    } else if (S_ISREG(st.st_mode)) {
        size = st.st_size;
    } else {
        return vireo_fail(error, VIREO_ERROR_INVALID, "disk '%s' is neither a file nor a block device", f->path);
    }
    n->size = size;
    return true;
}

static bool open_failed(GError **error, int err, const char *path, bool write)
{
    if (fdset_path(path) && err == ENOENT)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "cannot open disk '%s': there is no such set of descriptors; pass one with -add-fd", path);
    if (fdset_path(path) && err == EACCES)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot open disk '%s': no descriptor in that set is open for %s", path,
                          write ? "reading and writing" : "reading only");
    if (err == ENOENT)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "cannot open disk '%s': there is no such file; make one with: vireo-img create '%s' 10G",
                          path, path);
    if ((err == EACCES || err == EROFS || err == EPERM) && write && access(path, R_OK) == 0)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "cannot open disk '%s' for writing: %s; change its permissions, or use it with "
                          "readonly=on", path, g_strerror(err));
    return vireo_fail_errno(error, err, "cannot open disk '%s'", path);
}

static void set_direct(struct block_node *n, bool on)
{
    struct file *f = n->state;
    f->direct = on;
    if (on && !f->device && n->size % f->align) {
        log_warn("disk '%s': its size of %" G_GUINT64_FORMAT " bytes is not a multiple of %u, so it is used with the host's cache", f->path,
                 n->size, f->align);
        f->direct = false;
    }
    if (fcntl(f->fd, F_SETFL, f->direct ? O_DIRECT : 0) < 0 && f->direct) {
        log_warn("disk '%s': its file system has no direct access (cache=none), so it is used with the host's cache", f->path);
        f->direct = false;
        (void)!fcntl(f->fd, F_SETFL, 0);
    }
}

/* seccomp(main+files): open openat newfstatat stat statx access faccessat faccessat2 readlink readlinkat getcwd unlink unlinkat
 * seccomp(main): fcntl(F_OFD_SETLK F_OFD_GETLK F_SETFL F_GETFL F_DUPFD_CLOEXEC) ioctl(BLKGETSIZE64 BLKSSZGET) dup3 statx(AT_EMPTY_PATH)
 * What -blockdev and QMP open by name while the machine runs. */
static bool may_open(const char *path, GError **error)
{
    return fdset_path(path) || sandbox_may_open_image(path, error);
}

/* Another descriptor of the same file, locked; -1 with *error. */
static int open_locked(struct block_node *n, unsigned *flags, GError **error)
{
    struct file *f = n->state;
    bool write = *flags & BLOCK_RDWR;
    if (!may_open(f->path, error))
        return -1;
    int fd = fdset_open(f->path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (fd < 0 && write && *flags & BLOCK_AUTO_READ_ONLY && (errno == EACCES || errno == EROFS || errno == EPERM)) {
        write = false;
        *flags &= ~(unsigned)BLOCK_RDWR;
        fd = fdset_open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    }
    if (fd < 0) {
        open_failed(error, errno, f->path, write);
        return -1;
    }
    if (f->locking != 2 && !(*flags & (BLOCK_FORCE_SHARE | BLOCK_INACTIVE)) && !image_lock(fd, f->path, write, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool file_open(struct block_node *n, unsigned flags, GError **error)
{
    struct file *f = n->state;
    f->open = true;
    f->fd = -1;
    g_rw_lock_init(&f->rmw);
    if (!f->path || !*f->path)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The 'file' block driver requires a file name");
    f->fd = open_locked(n, &flags, error);
    if (f->fd < 0)
        return false;
    n->flags = flags;
    if (flags & BLOCK_TEMPORARY && unlink(f->path) < 0)
        return vireo_fail_errno(error, errno, "cannot remove temporary file '%s'", f->path);
    if (!find_size(n, error))
        return false;
    f->align = direct_alignment(f->fd);
    f->can_punch = f->can_zero_range = true;
    set_direct(n, flags & BLOCK_DIRECT);
    return true;
}

static void file_close(struct block_node *n)
{
    struct file *f = n->state;
    if (f->open) {
        if (f->fd >= 0)
            close(f->fd);
        g_rw_lock_clear(&f->rmw);
    }
    g_free(f->path);
    g_free(f->pr_manager);
}

static bool file_reopen(struct block_node *n, unsigned flags, GError **error)
{
    struct file *f = n->state;
    if ((flags ^ n->flags) & BLOCK_INACTIVE && !((flags ^ n->flags) & BLOCK_RDWR)) {
        /* The same descriptor: names may not be reached any more, or lead elsewhere. */
        if (flags & BLOCK_INACTIVE)
            image_unlock(f->fd);
        else if ((f->locking != 2 && !(flags & BLOCK_FORCE_SHARE) && !image_lock(f->fd, f->path, flags & BLOCK_RDWR, error)) || !find_size(n, error))
            return false;
    } else if ((flags ^ n->flags) & (BLOCK_RDWR | BLOCK_INACTIVE)) {
        int old = f->fd;
        image_unlock(old); /* our own lock is no reason to refuse */
        int fd = open_locked(n, &flags, error);
        if (fd < 0) {
            (void)!image_lock(old, f->path, n->flags & BLOCK_RDWR, NULL);
            return false;
        }
        /* The number stays: whoever looks it up without a lock finds an open file. */
        dup3(fd, old, O_CLOEXEC);
        close(fd);
    }
    set_direct(n, flags & BLOCK_DIRECT);
    return true;
}

/* ---- size ---- */

static bool preallocate(struct block_node *n, uint64_t from, uint64_t to, const char *how, GError **error)
{
    struct file *f = n->state;
    if (!strcmp(how, "falloc")) {
        int err = posix_fallocate(f->fd, from, to - from);
        return !err || vireo_fail_errno(error, err, "cannot allocate %" G_GUINT64_FORMAT " bytes for '%s'", to - from, f->path);
    }
    g_autofree char *zeroes = g_malloc0(BOUNCE_MAX);
    for (uint64_t at = from; at < to; at += BOUNCE_MAX) {
        const struct iovec iov = { zeroes, MIN(to - at, (uint64_t)BOUNCE_MAX) };
        int err = file_pwritev(n, at, iov.iov_len, &iov, 1, 0);
        if (err)
            return vireo_fail_errno(error, err, "cannot write zeroes to '%s'", f->path);
    }
    return true;
}

static bool file_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    struct file *f = n->state;
    uint64_t old = n->size;
    if (f->device) {
        if (!find_size(n, error))
            return false;
        return size == n->size || (!exact && size < n->size) ||
               vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the size of device '%s' is %" G_GUINT64_FORMAT " bytes and cannot be changed here", f->path, n->size);
    }
    bool none = !strcmp(prealloc, "off") || size <= old;
    if (!none && strcmp(prealloc, "falloc") && strcmp(prealloc, "full"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': preallocation '%s' is not possible for files: off, falloc, full", f->path, prealloc);
    if (none && ftruncate(f->fd, size) < 0)
        return vireo_fail_errno(error, errno, "cannot set the size of '%s'", f->path);
    if (!none && !preallocate(n, old, size, prealloc, error)) {
        (void)!ftruncate(f->fd, old);
        n->size = old;
        return false;
    }
    n->size = size;
    return true;
}

static uint64_t file_allocated(struct block_node *n)
{
    const struct file *f = n->state;
    struct stat st;
    return fstat(f->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* ---- creating ---- */

static const char *const prealloc_values[] = { "off", "falloc", "full", NULL };
static const struct keyval_key file_create_keys[] = {
    { "preallocation", KV_ENUM, 0, "Preallocation mode (allowed values: off, falloc, full)", prealloc_values },
    { "nocow", KV_BOOL, 0, "Turn off copy-on-write (valid only on btrfs)" },
    { "extent_size_hint", KV_SIZE, 0, "Extent size hint for the image file, 0 to disable" },
    { NULL }
};

/* An existing file is locked before it is emptied, so that nobody's disk is taken from under it. */
static bool file_create(struct block_graph *g, const char *filename, struct block_create *c, bool *ret_made, GError **error)
{
    const char *path = g_str_has_prefix(filename, "file:") ? filename + 5 : filename;
    g_autofree char *prealloc = keyval_take(c->options, "preallocation"), *nocow = keyval_take(c->options, "nocow"),
                    *hint = keyval_take(c->options, "extent_size_hint");
    int how = 0;
    if (prealloc && !keyval_enum("preallocation", prealloc, prealloc_values, &how, error))
        return false;
    *ret_made = false;
    if (!may_open(path, error))
        return false;
    int fd = fdset_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0)
        *ret_made = true;
    else
        fd = fdset_open(path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return vireo_fail_errno(error, errno, "cannot create '%s'", path);
    bool ok = image_lock(fd, path, true, error);
    if (ok && !block_file_is_device(path)) {
        if (ftruncate(fd, 0) < 0 || (!how && ftruncate(fd, c->size) < 0))
            ok = vireo_fail_errno(error, errno, "cannot set the size of '%s'", path);
    }
    close(fd);
    if (ok && how) {
        keyval_auto *kv = keyval_new();
        keyval_add(kv, "driver", "file");
        keyval_add(kv, "filename", path);
        block_node_auto *n = block_open_options(g, kv, BLOCK_RDWR, error);
        ok = n && block_truncate(n, c->size, true, prealloc_values[how], error);
    }
    if (!ok && *ret_made)
        unlink(path);
    return ok;
}

static bool file_remove(const char *filename)
{
    return unlink(g_str_has_prefix(filename, "file:") ? filename + 5 : filename) == 0;
}

#define FILE_METHODS                                                                                                       \
    .kind = BLOCK_PROTOCOL, .state_size = sizeof(struct file), .keys = file_keys, .open = file_open, .close = file_close,  \
    .reopen = file_reopen, .preadv = file_preadv, .pwritev = file_pwritev, .write_zeroes = file_write_zeroes,              \
    .discard = file_discard, .flush = file_flush, .status = file_status, .map_now = file_map_now, .truncate = file_truncate,\
    .allocated = file_allocated, .create_keys = file_create_keys, .create_file = file_create

const struct block_driver block_file = { .name = "file", .help = "file of the host", .growable = true, .remove_file = file_remove, FILE_METHODS };
const struct block_driver block_host_device = { .name = "host_device", .help = "block device of the host", FILE_METHODS };
