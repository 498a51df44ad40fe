/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that are volumes: made, copied, resized. A new file has no name until it is complete (O_TMPFILE, then a link), so that nothing is left of one that failed, was
 * cancelled, or whose daemon was killed. File systems without that get a name that says so (".vireo-NAME.XXXXXX.unfinished"); such a file is locked while somebody
 * works on it, and removed by the next refresh when nobody does.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "block/node.h"
#include "storage.h"

#define BEGINS ".vireo-"
#define UNFINISHED ".unfinished"
enum { CHUNK = 1 << 20, STEP = 64 << 20 };

/* ---- a file without a name ---- */

/* Says that somebody works on an unfinished file: one byte, behind those that image programs lock (src/block/image_lock.c), because on NFS flock(2) takes all of them,
 * also against this process. False: somebody else does. type: F_WRLCK, which needs a descriptor for writing, or F_RDLCK. */
static bool lock_unfinished(int fd, short type)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = 300, .l_len = 1 };
    return fcntl(fd, F_OFD_SETLK, &l) == 0;
}

struct unfinished {
    int fd;
    char *name;  /* NULL: it has none */
    char *path;  /* by which it can be opened meanwhile */
};

static bool unfinished_open(struct unfinished *u, const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path), *base = g_path_get_basename(path);
    u->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (u->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        base[MIN(strlen(base), NAME_MAX - 32)] = 0;
        u->name = g_strdup_printf("%s/" BEGINS "%s.XXXXXX" UNFINISHED, dir, base);
        u->fd = mkostemps(u->name, sizeof(UNFINISHED) - 1, O_CLOEXEC);
        if (u->fd >= 0)
            (void)lock_unfinished(u->fd, F_WRLCK);
    }
    if (u->fd < 0) {
        g_clear_pointer(&u->name, g_free);
        return manage_fail_errno(error, errno, "cannot make a file in '%s'", dir);
    }
    u->path = u->name ? g_strdup(u->name) : g_strdup_printf("/proc/self/fd/%d", u->fd);
    return true;
}

/* Gives it its name; never over another file. */
static bool unfinished_link(struct unfinished *u, const char *path, GError **error)
{
    if (linkat(AT_FDCWD, u->path, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return true;
    if (u->name && errno != EEXIST && renameat2(AT_FDCWD, u->name, AT_FDCWD, path, RENAME_NOREPLACE) == 0) { /* file systems without links */
        g_clear_pointer(&u->name, g_free);
        return true;
    }
    if (errno == EEXIST)
        return manage_fail(error, VIR_ERR_STORAGE_VOL_EXIST, "there is a file '%s' already: refresh the pool to see it", path);
    return manage_fail_errno(error, errno, "cannot give the new volume its name '%s'", path);
}

static void unfinished_close(struct unfinished *u)
{
    if (u->name)
        unlink(u->name);
    if (u->fd >= 0)
        close(u->fd);
    g_free(u->name);
    g_free(u->path);
}

bool storage_image_is_unfinished(const char *name) { return g_str_has_prefix(name, BEGINS) && g_str_has_suffix(name, UNFINISHED); }

bool storage_image_leftover(int dir, const char *name)
{
    if (!storage_image_is_unfinished(name))
        return false;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && lock_unfinished(fd, F_RDLCK))
        unlinkat(dir, name, 0);
    if (fd >= 0)
        close(fd);
    return true;
}

/* ---- raw files ---- */

static bool write_at(int fd, const char *data, size_t size, uint64_t at, const char *what, GError **error)
{
    while (size) {
        ssize_t n = pwrite(fd, data, size, (off_t)at);
        if (n < 0 && errno != EINTR)
            return manage_fail_errno(error, errno, "cannot write volume '%s'", what);
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Space for bytes [from, to). File systems that cannot reserve it get zeroes written. */
static bool allocate(const struct storage_job *j, int fd, uint64_t from, uint64_t to, const char *what, GError **error)
{
    static char zeroes[CHUNK]; /* never written; not const, so that it is no part of the program's file */
    bool reserve = true;
    while (from < to) {
        uint64_t n = MIN(to - from, reserve ? (uint64_t)1 << 30 : CHUNK);
        if (j && !storage_job_goes_on(j, error))
            return false;
        if (reserve && fallocate(fd, 0, (off_t)from, (off_t)n) < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EOPNOTSUPP && errno != ENOSYS)
                return manage_fail_errno(error, errno, "cannot allocate %" G_GUINT64_FORMAT " bytes for volume '%s'", to - from, what);
            reserve = false;
            continue;
        }
        if (!reserve && !write_at(fd, zeroes, n, from, what, error))
            return false;
        from += n;
    }
    return true;
}

static bool make_raw(const struct storage_job *j, int fd, const struct storage_volume *v, GError **error)
{
    uint64_t reserved = MIN(v->target.allocation, v->target.capacity);
    if (ftruncate(fd, (off_t)v->target.capacity) < 0)
        return manage_fail_errno(error, errno, "cannot make volume '%s' as large as %" G_GUINT64_FORMAT " bytes", v->name, v->target.capacity);
    return allocate(j, fd, 0, reserved, v->name, error);
}

/* Bytes [at, end), which hold data: by the kernel where it can (which may share the blocks), else through here. */
static bool copy_data(const struct storage_job *j, int in, int out, uint64_t at, uint64_t end, bool *in_kernel, char *buffer, const char *what, GError **error)
{
    while (at < end) {
        if (!storage_job_goes_on(j, error))
            return false;
        if (*in_kernel) {
            loff_t from = (loff_t)at, to = (loff_t)at;
            ssize_t n = copy_file_range(in, &from, out, &to, MIN(end - at, STEP), 0);
            if (n > 0) {
                at += (uint64_t)n;
                continue;
            }
            if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
                return manage_fail_errno(error, errno, "cannot write volume '%s'", what);
            *in_kernel = false;
        }
        ssize_t n = pread(in, buffer, MIN(end - at, CHUNK), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return manage_fail_errno(error, errno, "cannot read the volume that '%s' is to be a copy of", what);
        if (!n)
            return true; /* it became shorter */
        if (!write_at(out, buffer, (size_t)n, at, what, error))
            return false;
        at += (uint64_t)n;
    }
    return true;
}

/* The content of a file; its holes stay holes. The copy reads as zeroes before. */
static bool copy_file(const struct storage_job *j, int in, int out, const char *what, GError **error)
{
    g_autofree char *buffer = g_malloc(CHUNK);
    bool in_kernel = true;
    off_t size = lseek(in, 0, SEEK_END);
    for (off_t at = 0; at < size;) {
        off_t data = lseek(in, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return true;
        if (data < 0)
            data = at;
        off_t hole = lseek(in, data, SEEK_HOLE);
        if (hole < 0)
            hole = size;
        if (!copy_data(j, in, out, (uint64_t)data, (uint64_t)hole, &in_kernel, buffer, what, error))
            return false;
        at = hole;
    }
    return true;
}

static bool clone_raw(const struct storage_job *j, int out, const struct storage_volume *v, const struct storage_volume *from, unsigned flags, GError **error)
{
    int in = open(from->target.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (in < 0)
        return manage_fail_errno(error, errno, "cannot open the volume '%s'", from->target.path);
    bool shared = ioctl(out, FICLONE, in) == 0, ok = true;
    if (!shared && (flags & VIR_STORAGE_VOL_CREATE_REFLINK))
        ok = manage_fail_errno(error, errno, "the file system cannot share the blocks of '%s' (reflink)", from->target.path);
    struct stat st;
    if (ok && fstat(out, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(out, (off_t)v->target.capacity) < 0)
        ok = manage_fail_errno(error, errno, "cannot make volume '%s' as large as %" G_GUINT64_FORMAT " bytes", v->name, v->target.capacity);
    if (ok && !shared && v->has_allocation && v->target.allocation >= v->target.capacity)
        ok = allocate(j, out, 0, v->target.capacity, v->name, error);
    ok = ok && (shared || copy_file(j, in, out, v->name, error));
    if (ok && fdatasync(out) < 0)
        ok = manage_fail_errno(error, errno, "cannot write volume '%s'", v->name);
    close(in);
    return ok;
}

/* ---- images with a format ---- */

struct keys { /* what the block layer asks for by these ids */
    struct storage *s;
    const struct storage_target *own, *from;
};
#define OWN_KEY "volume-key"
#define FROM_KEY "source-key"

static GBytes *find_key(void *opaque, const char *id, GError **error)
{
    struct keys *k = opaque;
    const struct storage_target *t = !strcmp(id, OWN_KEY) ? k->own : k->from;
    struct manage_state *state = k->s->state;
    if (!t || (!t->secret_uuid && !t->secret_usage))
        return manage_null(error, VIR_ERR_INVALID_SECRET, "the volume is encrypted: its <encryption> must name a <secret type='passphrase' uuid='...'/>");
    if (!state->services->secret_value)
        return manage_null(error, VIR_ERR_NO_SUPPORT, "there are no secrets here");
    return state->services->secret_value(state, t->secret_uuid, t->secret_uuid ? NULL : "volume", t->secret_usage, error);
}

/* "raw" with encryption is LUKS. */
static const char *driver_of(const struct storage_target *t)
{
    const char *format = t->format ? t->format : "raw";
    return !strcmp(format, "raw") && t->encryption ? "luks" : !strcmp(format, "iso") || !strcmp(format, "none") || !strcmp(format, "unknown") ? "raw" : format;
}

static bool is_raw(const struct storage_target *t) { return !strcmp(driver_of(t), "raw"); }

static void cipher_options(struct keyval *kv, const char *prefix, const char *key)
{
    g_autofree char *name = g_strconcat(prefix, "key-secret", NULL);
    keyval_add(kv, name, key);
}

static bool create_options(const struct storage_volume *v, unsigned flags, struct keyval *kv, GError **error)
{
    const struct storage_target *t = &v->target;
    bool qcow2 = !strcmp(driver_of(t), "qcow2"), luks = !strcmp(driver_of(t), "luks");
    if (t->encryption && strcmp(t->encryption, "luks"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "volumes cannot be encrypted with '%s': use format='luks'", t->encryption);
    if (t->encryption && !qcow2 && !luks)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "a volume of format '%s' cannot be encrypted: use raw or qcow2", t->format);
    if (luks)
        cipher_options(kv, "", OWN_KEY);
    if (!qcow2) {
        if (flags & VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "metadata preallocation conflicts with '%s' format: it is for qcow2", t->format ? t->format : "raw");
        return true;
    }
    if (t->encryption) {
        keyval_add(kv, "encrypt.format", "luks");
        cipher_options(kv, "encrypt.", OWN_KEY);
    }
    g_autofree char *cluster = t->cluster ? g_strdup_printf("%" G_GUINT64_FORMAT, t->cluster) : NULL;
    bool newer = t->has_features || t->encryption || t->extended_l2 || t->lazy_refcounts;
    keyval_add(kv, "compat", t->compat ? t->compat : newer ? "1.1" : "0.10"); /* libvirt's default: readable everywhere */
    if (cluster)
        keyval_add(kv, "cluster_size", cluster);
    if (t->lazy_refcounts)
        keyval_add(kv, "lazy_refcounts", "on");
    if (t->extended_l2)
        keyval_add(kv, "extended_l2", "on");
    if (flags & VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA)
        keyval_add(kv, "preallocation", "metadata");
    return true;
}

/* A backing file must be there, and may give the size. */
static bool check_backing(struct storage_volume *v, GError **error)
{
    struct storage_target look = { .path = v->backing->path };
    struct storage_target *deeper = NULL;
    int type;
    if (is_raw(&v->target) || !strcmp(driver_of(&v->target), "luks"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "backing storage not supported for raw volumes: make it qcow2");
    GError *e = NULL;
    if (storage_probe(&look, &type, &deeper, &e) != STORAGE_PROBE_OK || type != VIR_STORAGE_VOL_FILE) {
        manage_fail(error, VIR_ERR_SYSTEM_ERROR, "inaccessible backing store volume %s: %s", v->backing->path, e ? e->message : "there is no such file");
        g_clear_error(&e);
        return false;
    }
    bool raw = !v->backing->format || !strcmp(v->backing->format, "raw");
    if (!v->has_capacity)
        v->target.capacity = raw ? look.physical : look.capacity;
    if (deeper)
        storage_target_clear(deeper);
    g_free(deeper);
    look.path = NULL;
    storage_target_clear(&look);
    return true;
}

static struct block_node *open_image(struct block_graph *g, const char *path, const struct storage_target *t, const char *key, unsigned flags, GError **error)
{
    keyval_auto *kv = keyval_new();
    const char *driver = driver_of(t);
    if (!strcmp(driver, "luks"))
        cipher_options(kv, "", key);
    else if (t->encryption) {
        keyval_add(kv, "encrypt.format", "luks");
        cipher_options(kv, "encrypt.", key);
    }
    return block_open_filename(g, path, driver, kv, flags, error);
}

static bool all_zero(const char *p, size_t n) { return !n || (!*p && !memcmp(p, p + 1, n - 1)); }

/* Writes what is not zero in a piece that was read. */
static int write_data(struct block_node *to, uint64_t at, const char *data, uint64_t n, bool fresh)
{
    enum { UNIT = 65536 };
    for (uint64_t i = 0; i < n;) {
        uint64_t end = i, part = MIN(UNIT, n - i);
        if (fresh && all_zero(data + i, part)) {
            i += part;
            continue;
        }
        while (end < n && !(fresh && all_zero(data + end, MIN(UNIT, n - end))))
            end += MIN(UNIT, n - end);
        int err = block_pwrite(to, at + i, end - i, data + i, 0);
        if (err)
            return err;
        i = end;
    }
    return 0;
}

/* One piece; *ret_bytes: how far. fresh: the target reads as zeroes. base: what the target stands on has that content already. */
static int copy_piece(struct block_node *from, struct block_node *base, struct block_node *to, uint64_t at, uint64_t size, bool fresh, char *buffer, uint64_t *ret_bytes)
{
    struct block_status st;
    int err = block_status_chain(from, base, at, size - at, &st);
    if (err)
        return err;
    if (base && !(st.flags & BLOCK_STATUS_ALLOCATED)) {
        *ret_bytes = st.bytes;
        return 0;
    }
    if (st.flags & BLOCK_STATUS_ZERO) {
        *ret_bytes = MIN(st.bytes, STEP);
        return fresh && !base ? 0 : block_write_zeroes(to, at, *ret_bytes, BLOCK_MAY_UNMAP);
    }
    *ret_bytes = MIN(st.bytes, CHUNK);
    err = block_pread(from, at, *ret_bytes, buffer);
    return err ? err : write_data(to, at, buffer, *ret_bytes, fresh && !base);
}

static bool copy_image(const struct storage_job *j, struct block_node *from, struct block_node *base, struct block_node *to, bool fresh, const char *what, GError **error)
{
    struct block_graph *g = block_node_graph(to);
    uint64_t size = block_node_size(from), n;
    g_autofree char *buffer = g_malloc(CHUNK);
    if (size > block_node_size(to))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "volume '%s' is smaller than what it is to be a copy of (%" G_GUINT64_FORMAT " bytes)", what, size);
    for (uint64_t at = 0; at < size; at += n) {
        if (!storage_job_goes_on(j, error))
            return false;
        block_enter(g);
        int err = copy_piece(from, base, to, at, size, fresh, buffer, &n);
        block_leave(g);
        if (err)
            return manage_fail_errno(error, err, "cannot copy to volume '%s' at byte %" G_GUINT64_FORMAT, what, at);
    }
    return true;
}

static bool sync_fd(int fd, const char *what, GError **error)
{
    return fdatasync(fd) == 0 || manage_fail_errno(error, errno, "cannot write volume '%s'", what);
}

/* Opens both and copies. path: where the target is now. Nothing is flushed on the way: what fails is thrown away, which is to be quick. */
static bool copy_between(const struct storage_job *j, struct block_graph *g, const char *path, const struct storage_volume *v, const struct storage_volume *from,
                         bool fresh, GError **error)
{
    block_node_auto *in = open_image(g, from->target.path, &from->target, FROM_KEY, 0, error);
    block_node_auto *out = in ? open_image(g, path, &v->target, OWN_KEY, BLOCK_RDWR | BLOCK_NO_FLUSH | (v->backing ? BLOCK_NO_BACKING : 0), error) : NULL;
    if (!out)
        return false;
    struct block_node *base = v->backing ? block_skip_filters(block_backing(in)) : NULL;
    return copy_image(j, in, base, out, fresh && strcmp(driver_of(&v->target), "luks") != 0, v->name, error);
}

static bool make_formatted(struct storage_job *j, const char *path, struct storage_volume *v, const struct storage_volume *from, unsigned flags, GError **error)
{
    const struct storage *s = j->pool->storage;
    struct keys keys = { (struct storage *)s, &v->target, from ? &from->target : NULL };
    keyval_auto *kv = keyval_new();
    if (from && v->backing && (!from->backing || g_strcmp0(from->backing->path, v->backing->path)))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "a different backing store can not be specified: a copy has that of its source, or none");
    if (!create_options(v, flags, kv, error) || (v->backing && !check_backing(v, error)))
        return false;
    struct block_graph *g = block_graph_create();
    block_graph_set_secrets(g, find_key, &keys);
    struct block_create c = { .size = (v->target.capacity + 1023) & ~(uint64_t)1023, .options = kv }; /* in KiB, as libvirt does */
    if (v->backing) {
        c.backing_file = v->backing->path;
        c.backing_format = v->backing->format ? v->backing->format : "raw";
    }
    bool ok = is_raw(&v->target) || block_create_image(g, path, driver_of(&v->target), &c, error);
    ok = ok && (!from || copy_between(j, g, path, v, from, true, error));
    block_graph_destroy(g);
    return ok;
}

/* ---- all of it ---- */

static void no_copy_on_write(int fd, const struct storage_target *t)
{
    int attributes;
    if (t->nocow && ioctl(fd, FS_IOC_GETFLAGS, &attributes) == 0) {
        attributes |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &attributes); /* btrfs alone has it; elsewhere there is nothing to turn off */
    }
}

static bool set_owner(int fd, const struct storage_target *t, GError **error)
{
    if ((t->uid >= 0 || t->gid >= 0) && fchown(fd, t->uid >= 0 ? (uid_t)t->uid : (uid_t)-1, t->gid >= 0 ? (gid_t)t->gid : (gid_t)-1) < 0)
        return manage_fail_errno(error, errno, "cannot give the volume to user %lld, group %lld", (long long)t->uid, (long long)t->gid);
    if (fchmod(fd, t->mode >= 0 ? (mode_t)t->mode & 07777 : 0600) < 0)
        return manage_fail_errno(error, errno, "cannot set the mode of the volume");
    return true;
}

static bool fill(struct storage_job *j, const struct unfinished *u, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error)
{
    bool plain = is_raw(&v->target) && !v->backing;
    if (from && plain && is_raw(&from->target))
        return clone_raw(j, u->fd, v, from, flags, error);
    if (flags & VIR_STORAGE_VOL_CREATE_REFLINK)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "blocks can be shared (reflink) between raw volumes alone");
    bool raw = plain && !(flags & VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA);
    if (raw && !make_raw(j, u->fd, v, error))
        return false;
    return (raw && !from) || (make_formatted(j, u->path, v, from, flags, error) && (!from || sync_fd(u->fd, v->name, error)));
}

bool storage_image_make(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error)
{
    struct unfinished u = { .fd = -1 };
    GError *e = NULL;
    if (!unfinished_open(&u, v->target.path, error))
        return false;
    g_mutex_lock(&j->pool->lock);
    v->building_path = g_strdup(u.path);
    g_mutex_unlock(&j->pool->lock);
    no_copy_on_write(u.fd, &v->target);
    bool ok = fill(j, &u, v, from, flags, &e) && set_owner(u.fd, &v->target, &e) && storage_job_goes_on(j, &e) && unfinished_link(&u, v->target.path, &e);
    g_mutex_lock(&j->pool->lock);
    g_clear_pointer(&v->building_path, g_free);
    g_mutex_unlock(&j->pool->lock);
    unfinished_close(&u);
    if (e)
        g_propagate_prefixed_error(error, e, "cannot make volume '%s': ", v->name);
    return ok;
}

bool storage_image_fill(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, GError **error)
{
    if (is_raw(&v->target) && is_raw(&from->target)) {
        int fd = open(v->target.path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return manage_fail_errno(error, errno, "cannot open '%s'", v->target.path);
        int in = open(from->target.path, O_RDONLY | O_CLOEXEC);
        g_autofree char *buffer = g_malloc(CHUNK);
        bool in_kernel = false; /* holes are to become zeroes: a device has old content */
        off_t size = in >= 0 ? lseek(in, 0, SEEK_END) : 0;
        bool ok = in >= 0 ? copy_data(j, in, fd, 0, (uint64_t)MAX(size, 0), &in_kernel, buffer, v->name, error)
                          : manage_fail_errno(error, errno, "cannot open the volume '%s'", from->target.path);
        if (ok && fdatasync(fd) < 0)
            ok = manage_fail_errno(error, errno, "cannot write volume '%s'", v->name);
        if (in >= 0)
            close(in);
        close(fd);
        return ok;
    }
    struct keys keys = { j->pool->storage, &v->target, &from->target };
    struct block_graph *g = block_graph_create();
    block_graph_set_secrets(g, find_key, &keys);
    bool ok = copy_between(j, g, v->target.path, v, from, false, error);
    block_graph_destroy(g);
    int fd = ok ? open(v->target.path, O_RDWR | O_CLOEXEC) : -1;
    ok = ok && fd >= 0 && sync_fd(fd, v->name, error);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* ---- resizing ---- */

static bool resize_raw(const struct storage_volume *v, uint64_t capacity, bool reserve, GError **error)
{
    int fd = open(v->target.path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return manage_fail_errno(error, errno, "cannot open '%s'", v->target.path);
    bool ok = !reserve || allocate(NULL, fd, v->target.capacity, capacity, v->name, error);
    if (ok && ftruncate(fd, (off_t)capacity) < 0)
        ok = manage_fail_errno(error, errno, "cannot resize volume '%s' to %" G_GUINT64_FORMAT " bytes", v->name, capacity);
    if (!ok && reserve)
        (void)!ftruncate(fd, (off_t)v->target.capacity);
    close(fd);
    return ok;
}

bool storage_image_resize(struct storage *s, struct storage_volume *v, uint64_t capacity, unsigned flags, GError **error)
{
    bool reserve = flags & VIR_STORAGE_VOL_RESIZE_ALLOCATE;
    if (is_raw(&v->target))
        return resize_raw(v, capacity, reserve, error);
    capacity = (capacity + 511) & ~(uint64_t)511;
    if (reserve && capacity < v->target.capacity)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "preallocation is only possible when the volume grows");
    struct keys keys = { s, &v->target, NULL };
    struct block_graph *g = block_graph_create();
    block_graph_set_secrets(g, find_key, &keys);
    block_node_auto *n = open_image(g, v->target.path, &v->target, OWN_KEY, BLOCK_RDWR, error);
    bool ok = n;
    if (ok) {
        block_quiesce(g);
        ok = block_truncate(n, capacity, true, reserve ? "falloc" : "off", error);
        block_resume(g);
    }
    int err = ok ? block_flush(n) : 0;
    if (err)
        ok = manage_fail_errno(error, err, "cannot resize volume '%s'", v->name);
    block_node_unref(g_steal_pointer(&n));
    block_graph_destroy(g);
    return ok;
}
