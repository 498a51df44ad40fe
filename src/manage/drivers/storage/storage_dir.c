/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools that are a directory, and what all pools of files share. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage.h"

/* ---- looking ---- */

/* Names that cannot stand in a document or on the wire are no volumes. */
static bool name_fits(const char *name)
{
    if (!strcmp(name, ".") || !strcmp(name, "..") || !g_utf8_validate(name, -1, NULL))
        return false;
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return true;
}

static struct storage_volume *look(struct storage *s, const char *directory, const char *name, GError **error)
{
    struct storage_volume *v = storage_volume_new(name);
    g_autofree char *path = g_build_filename(directory, name, NULL);
    storage_volume_set_path(v, path);
    if (storage_probe(&v->target, &v->type, &v->backing, error) != STORAGE_PROBE_OK) {
        storage_volume_unref(v);
        return NULL;
    }
    storage_probe_secret(s, &v->target);
    return v;
}

void storage_dir_permissions(struct storage_pool *p)
{
    struct stat st;
    if (stat(storage_pool_path(p), &st) < 0)
        return;
    struct el *root = doc_root(p->def);
    g_mutex_lock(&p->lock);
    el_setf(root, "target/permissions/mode", "0%o", st.st_mode & 07777);
    el_setf(root, "target/permissions/owner", "%u", st.st_uid);
    el_setf(root, "target/permissions/group", "%u", st.st_gid);
    g_mutex_unlock(&p->lock);
}

static void sizes(const char *path, struct storage_scan *ret)
{
    struct statvfs f;
    if (statvfs(path, &f) < 0)
        return;
    ret->capacity = (uint64_t)f.f_frsize * f.f_blocks;
    ret->available = (uint64_t)f.f_frsize * f.f_bfree;
    ret->allocation = ret->capacity - ret->available;
}

bool storage_dir_refresh(struct storage_pool *p, struct storage_scan *ret, GError **error)
{
    const char *path = storage_pool_path(p);
    DIR *d = opendir(path);
    if (!d)
        return manage_fail_errno(error, errno, "cannot open directory '%s'", path);
    bool ok = true;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            ok = !errno || manage_fail_errno(error, errno, "cannot read directory '%s'", path);
            break;
        }
        if (!name_fits(e->d_name) || e->d_type == DT_FIFO || e->d_type == DT_SOCK || e->d_type == DT_CHR || storage_image_leftover(dirfd(d), e->d_name))
            continue;
        struct storage_volume *v = look(p->storage, path, e->d_name, NULL); /* one that cannot be looked at is none */
        if (v)
            storage_scan_add(ret, v);
    }
    closedir(d);
    sizes(path, ret);
    storage_dir_permissions(p);
    return ok;
}

struct storage_volume *storage_dir_look_at(struct storage_pool *p, const struct storage_volume *v, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(v->target.path);
    GError *e = NULL;
    struct storage_volume *new = look(p->storage, directory, v->name, &e);
    if (!new)
        manage_fail(error, VIR_ERR_NO_STORAGE_VOL, "the file '%s' has gone%s%s", v->target.path, e ? ": " : "", e ? e->message : "");
    g_clear_error(&e);
    return new;
}

/* ---- the directory itself ---- */

static mode_t wanted_mode(const struct el *root)
{
    const char *mode = el_get(root, "target/permissions/mode");
    return mode ? (mode_t)strtoul(mode, NULL, 8) & 07777 : 0711;
}

bool storage_dir_build(struct storage_pool *p, unsigned flags, GError **error)
{
    const struct el *root = doc_root(p->def);
    const char *path = storage_pool_path(p), *owner = el_get(root, "target/permissions/owner"), *group = el_get(root, "target/permissions/group");
    g_autofree char *parent = g_path_get_dirname(path);
    (void)flags;
    if (g_mkdir_with_parents(parent, 0755) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", parent);
    bool made = mkdir(path, wanted_mode(root)) == 0;
    if (!made && errno != EEXIST)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", path);
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "'%s' is there and is no directory", path);
    uid_t uid = owner && *owner != '-' ? (uid_t)strtoul(owner, NULL, 10) : (uid_t)-1;
    gid_t gid = group && *group != '-' ? (gid_t)strtoul(group, NULL, 10) : (gid_t)-1;
    bool changes = (uid != (uid_t)-1 && uid != st.st_uid) || (gid != (gid_t)-1 && gid != st.st_gid);
    if ((changes && chown(path, uid, gid) < 0) || ((made || el_get(root, "target/permissions/mode")) && chmod(path, wanted_mode(root)) < 0)) {
        int err = errno;
        if (made)
            rmdir(path);
        return manage_fail_errno(error, err, "cannot set owner and mode of '%s'", path);
    }
    return true;
}

bool storage_dir_delete(struct storage_pool *p, unsigned flags, GError **error)
{
    const char *path = storage_pool_path(p);
    if (flags)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "a directory cannot be overwritten with zeroes: wipe its volumes one by one");
    if (rmdir(path) < 0)
        return manage_fail_errno(error, errno, "failed to remove pool '%s'", path);
    return true;
}

static bool dir_start(struct storage_pool *p, GError **error)
{
    const char *path = storage_pool_path(p);
    struct stat st;
    if (stat(path, &st) < 0)
        return manage_fail_errno(error, errno, "cannot open directory '%s'; 'pool-build %s' makes it", path, p->name);
    return S_ISDIR(st.st_mode) || manage_fail(error, VIR_ERR_OPERATION_INVALID, "'%s' is no directory", path);
}

/* ---- volumes ---- */

static bool make_directory(const struct storage_volume *v, GError **error)
{
    const struct storage_target *t = &v->target;
    mode_t mode = t->mode >= 0 ? (mode_t)t->mode & 07777 : 0711;
    if (mkdir(t->path, mode) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", t->path);
    if (chmod(t->path, mode) < 0 || ((t->uid >= 0 || t->gid >= 0) && chown(t->path, (uid_t)t->uid, (gid_t)t->gid) < 0)) {
        int err = errno;
        rmdir(t->path);
        return manage_fail_errno(error, err, "cannot set owner and mode of '%s'", t->path);
    }
    return true;
}

bool storage_dir_create_volume(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error)
{
    g_autofree char *directory = NULL;
    g_mutex_lock(&j->pool->lock);
    directory = g_strdup(storage_pool_path(j->pool));
    g_mutex_unlock(&j->pool->lock);
    g_autofree char *path = g_build_filename(directory, v->name, NULL);
    storage_volume_set_path(v, path);
    struct stat st;
    if (lstat(path, &st) == 0)
        return manage_fail(error, VIR_ERR_STORAGE_VOL_EXIST, "there is a file '%s' already: refresh the pool to see it", path);
    if (from && from->type == VIR_STORAGE_VOL_DIR)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "volume '%s' is a directory and cannot be copied", from->name);
    if (!g_strcmp0(v->target.format, "dir"))
        return from ? manage_fail(error, VIR_ERR_INVALID_ARG, "a directory cannot be made of another volume") : make_directory(v, error);
    return storage_image_make(j, v, from, flags, error);
}

bool storage_dir_delete_volume(struct storage_pool *p, struct storage_volume *v, unsigned flags, GError **error)
{
    (void)p;
    if (flags)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "wipe the volume first, then delete it: deleting with zeroes is not there");
    bool directory = v->type == VIR_STORAGE_VOL_DIR;
    if ((directory ? rmdir(v->target.path) : unlink(v->target.path)) < 0 && errno != ENOENT)
        return manage_fail_errno(error, errno, "cannot remove %s '%s'", directory ? "directory" : "file", v->target.path);
    return true;
}

bool storage_dir_resize_volume(struct storage_pool *p, struct storage_volume *v, uint64_t capacity, unsigned flags, GError **error)
{
    if (v->type == VIR_STORAGE_VOL_DIR)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "volume '%s' is a directory and has no size", v->name);
    return storage_image_resize(p->storage, v, capacity, flags, error);
}

static const char *const volume_formats[] = { "none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow", "qcow2",
                                              "qed", "vmdk", NULL };

#define FILE_VOLUMES \
    .volume_formats = volume_formats, .default_volume_format = "raw", .volume_options = true, .create_volume = storage_dir_create_volume, \
    .delete_volume = storage_dir_delete_volume, .resize_volume = storage_dir_resize_volume, .look_at = storage_dir_look_at

const struct storage_backend storage_dir = {
    .type = "dir", .number = 0, .needs = STORAGE_TARGET, .build = storage_dir_build, .start = dir_start, .delete = storage_dir_delete,
    .refresh = storage_dir_refresh, FILE_VOLUMES,
};

/* ---- file systems that are mounted (fs, netfs) ---- */

static char *source_of(const struct storage_pool *p)
{
    const struct el *source = storage_pool_source(p);
    const char *host = el_get(source, "host/@name"), *dir = el_get(source, "dir/@path");
    if (!host)
        return g_strdup(el_get(source, "device/@path"));
    if (el_is(source, "format/@type", "cifs"))
        return g_strdup_printf("//%s%s%s", host, *dir == '/' ? "" : "/", dir);
    return strchr(host, ':') ? g_strdup_printf("[%s]:%s", host, dir) : g_strdup_printf("%s:%s", host, dir);
}

/* Undoes the \040 of /proc/self/mounts. */
static char *unescape(const char *text) { return g_strcompress(text); }

static bool fs_is_active(struct storage_pool *p, bool *ret, GError **error)
{
    g_autofree char *mounts = NULL;
    g_auto(GStrv) lines = NULL;
    *ret = false;
    if (!g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "cannot read /proc/self/mounts");
    lines = g_strsplit(mounts, "\n", -1);
    for (unsigned i = 0; lines[i] && !*ret; i++) {
        g_auto(GStrv) part = g_strsplit(lines[i], " ", 3);
        g_autofree char *at = g_strv_length(part) > 2 ? unescape(part[1]) : NULL;
        *ret = at && !strcmp(at, storage_pool_path(p));
    }
    return true;
}

static char *mount_options(const struct storage_pool *p)
{
    const struct el *root = doc_root(p->def);
    GString *s = g_string_new("nodev,nosuid,noexec");
    el_each(o, el_find(root, "fs:mount_opts"), "fs:option")
        g_string_append_printf(s, ",%s", el_get(o, "@name"));
    if (el_get(root, "source/protocol/@ver"))
        g_string_append_printf(s, ",nfsvers=%s", el_get(root, "source/protocol/@ver"));
    if (el_is(root, "source/format/@type", "cifs"))
        g_string_append(s, ",guest");
    return g_string_free(s, FALSE);
}

static bool fs_start(struct storage_pool *p, GError **error)
{
    bool active;
    if (!fs_is_active(p, &active, error))
        return false;
    if (active)
        return true;
    g_autofree char *source = source_of(p), *options = mount_options(p);
    const char *format = el_get_or(storage_pool_source(p), "format/@type", "auto");
    if (access(storage_pool_path(p), F_OK) < 0)
        return manage_fail_errno(error, errno, "cannot mount on '%s'; 'pool-build %s' makes the directory", storage_pool_path(p), p->name);
    bool plain = !strcmp(p->backend->type, "netfs") && !strcmp(format, "auto");
    const char *argv[] = { "mount", "-o", options, plain ? source : "-t", plain ? storage_pool_path(p) : format, plain ? NULL : source, storage_pool_path(p), NULL };
    return storage_run(argv, NULL, error);
}

static bool fs_stop(struct storage_pool *p, GError **error)
{
    bool active;
    const char *argv[] = { "umount", storage_pool_path(p), NULL };
    return fs_is_active(p, &active, error) && (!active || storage_run(argv, NULL, error));
}

/* Whether there is something on the device that would be lost: blkid says 2 where it knows nothing. */
static bool is_empty(const char *device, bool *ret, GError **error)
{
    const char *argv[] = { "blkid", "-p", device, NULL };
    int status;
    if (!storage_run_status(argv, NULL, &status, error))
        return false;
    *ret = status == 2;
    return true;
}

/* mkfs(8) hands over to a program for each kind. */
static bool has_mkfs(const char *format, GError **error)
{
    static const struct { const char *format; struct storage_tool tool[2]; } makers[] = {
        { "ext2", { { "mkfs.ext2", "e2fsprogs" } } }, { "ext3", { { "mkfs.ext3", "e2fsprogs" } } }, { "ext4", { { "mkfs.ext4", "e2fsprogs" } } },
        { "xfs", { { "mkfs.xfs", "xfsprogs" } } }, { "vfat", { { "mkfs.vfat", "dosfstools" } } }, { "udf", { { "mkfs.udf", "udftools" } } },
        { "gfs2", { { "mkfs.gfs2", "gfs2-utils" } } }, { "ocfs2", { { "mkfs.ocfs2", "ocfs2-tools" } } }, { "hfs+", { { "mkfs.hfsplus", "hfsprogs" } } },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(makers); i++) {
        struct storage_backend asker = { .type = "fs", .tools = makers[i].tool };
        if (!strcmp(makers[i].format, format))
            return storage_backend_tools(&asker, error);
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "file systems of type '%s' cannot be made: make it with a program of its own, and build the pool without overwrite", format);
}

static bool fs_build(struct storage_pool *p, unsigned flags, GError **error)
{
    const char *device = el_get(storage_pool_source(p), "device/@path"), *format = el_get_or(storage_pool_source(p), "format/@type", "auto");
    bool overwrite = flags & VIR_STORAGE_POOL_BUILD_OVERWRITE, empty = false;
    if (!storage_dir_build(p, 0, error))
        return false;
    if (!overwrite && !(flags & VIR_STORAGE_POOL_BUILD_NO_OVERWRITE))
        return true;
    if (!strcmp(format, "auto"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "say which file system is to be made: <format type='ext4'/> in <source>");
    if (access(device, F_OK) < 0)
        return manage_fail_errno(error, errno, "source device does not exist when formatting pool '%s': '%s'", p->name, device);
    if (!overwrite && !is_empty(device, &empty, error))
        return false;
    if (!overwrite && !empty)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "device '%s' holds something already: overwrite must be asked for", device);
    if (!has_mkfs(format, error))
        return false;
    const char *force = !strcmp(format, "xfs") ? "-f" : g_str_has_prefix(format, "ext") ? "-F" : NULL;
    const char *argv[] = { "mkfs", "-t", strcmp(format, "hfs+") ? format : "hfsplus", force ? force : device, force ? device : NULL, NULL };
    return storage_run(argv, NULL, error);
}

static const char *const fs_formats[] = { "auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs", "ocfs2", "vmfs", NULL };
static const char *const netfs_formats[] = { "auto", "nfs", "glusterfs", "cifs", NULL };
static const struct storage_tool fs_tools[] = { { "mount", "mount" }, { "umount", "mount" }, { NULL, NULL } };

const struct storage_backend storage_fs = {
    .type = "fs", .number = 1, .needs = STORAGE_DEVICE | STORAGE_TARGET, .tools = fs_tools, .formats = fs_formats, .default_format = "auto",
    .is_active = fs_is_active, .build = fs_build, .start = fs_start, .stop = fs_stop, .delete = storage_dir_delete, .refresh = storage_dir_refresh, FILE_VOLUMES,
};

/* ---- what an NFS server exports ---- */

static char *netfs_sources(struct storage *s, const struct el *spec, GError **error)
{
    static const struct storage_tool tool[] = { { "showmount", "nfs-common" }, { NULL, NULL } };
    const struct storage_backend asker = { .type = "netfs", .tools = tool };
    const char *host = el_get(spec, "host/@name");
    g_autofree char *out = NULL;
    (void)s;
    if (!host)
        return manage_null(error, VIR_ERR_INVALID_ARG, "hostname must be specified for netfs sources");
    const char *argv[] = { "showmount", "--no-headers", "--exports", host, NULL };
    if (*host == '-' || !storage_backend_tools(&asker, error) || !storage_run(argv, &out, error))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    GString *text = g_string_new("<sources>\n");
    for (unsigned i = 0; lines[i]; i++) {
        lines[i][strcspn(lines[i], " ")] = 0;
        if (!*lines[i])
            continue;
        g_autofree char *one = g_markup_printf_escaped("  <source>\n    <host name='%s'/>\n    <dir path='%s'/>\n    <format type='nfs'/>\n  </source>\n", host, lines[i]);
        g_string_append(text, one);
    }
    g_string_append(text, "</sources>\n");
    return g_string_free(text, FALSE);
}

static const struct storage_tool netfs_tools[] = { { "mount", "mount" }, { "umount", "mount" }, { NULL, NULL } };

/* mount(8) hands network file systems to a helper of their own. */
static bool netfs_start(struct storage_pool *p, GError **error)
{
    static const struct { const char *format; struct storage_tool tool[2]; } helpers[] = {
        { "nfs", { { "mount.nfs", "nfs-common" } } }, { "auto", { { "mount.nfs", "nfs-common" } } },
        { "cifs", { { "mount.cifs", "cifs-utils" } } }, { "glusterfs", { { "mount.glusterfs", "glusterfs-client" } } },
    };
    const char *format = el_get_or(storage_pool_source(p), "format/@type", "auto");
    for (unsigned i = 0; i < G_N_ELEMENTS(helpers); i++) {
        struct storage_backend asker = { .type = "netfs", .tools = helpers[i].tool };
        if (!strcmp(helpers[i].format, format) && !storage_backend_tools(&asker, error))
            return false;
    }
    return fs_start(p, error);
}

const struct storage_backend storage_netfs = {
    .type = "netfs", .number = 2, .needs = STORAGE_HOST | STORAGE_DIR | STORAGE_TARGET, .tools = netfs_tools, .formats = netfs_formats,
    .default_format = "auto", .find_sources = netfs_sources, .is_active = fs_is_active, .build = storage_dir_build, .start = netfs_start, .stop = fs_stop,
    .delete = storage_dir_delete, .refresh = storage_dir_refresh, FILE_VOLUMES,
};
