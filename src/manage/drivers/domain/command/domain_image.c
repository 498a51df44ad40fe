/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images of disks, looked at before the machine is: what is wrong is said by name here, by the emulator it would be a line about a node. */
#include "manage/drivers/domain/command/domain_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_DEPTH 64

static const char *user_name(void)
{
    const struct passwd *p = getpwuid(geteuid());
    return p ? p->pw_name : "this user";
}

/* The first directory on the way that cannot be searched, NULL: none. */
static char *closed_directory(const char *path)
{
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *dir = g_strndup(path, slash - path);
        if (faccessat(AT_FDCWD, dir, X_OK, AT_EACCESS) < 0 && errno == EACCES)
            return g_steal_pointer(&dir);
    }
    return NULL;
}

static bool explain(const char *path, int err, const char *what, GError **error)
{
    g_autofree char *dir = err == EACCES ? closed_directory(path) : NULL;
    if (dir)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' cannot be opened: Permission denied; the directory '%s' is not searchable by user '%s' (chmod o+x, or "
                           "setfacl -m u:%s:x '%s')", what, path, dir, user_name(), user_name(), dir);
    if (err == EACCES)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' cannot be opened: Permission denied for user '%s'", what, path, user_name());
    if (err == ENOENT)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' is missing: No such file or directory", what, path);
    return manage_fail_errno(error, err, "%s '%s' cannot be opened", what, path);
}

static uint64_t be(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

/* The format of the backing file: a header extension (QCOW2 specification, "Header extensions": 0xe2792aca). NULL: it does not say. */
static char *qcow2_backing_format(int fd, const uint8_t *head)
{
    uint64_t at = be(head + 4, 4) >= 3 ? be(head + 100, 4) : 72;
    for (unsigned i = 0; i < 64 && at < 1 << 16; i++) {
        uint8_t h[8];
        char text[17] = "";
        if (pread(fd, h, sizeof(h), (off_t)at) != sizeof(h) || !be(h, 4))
            return NULL;
        uint64_t size = be(h + 4, 4);
        if (be(h, 4) == 0xe2792aca && size && size < sizeof(text))
            return pread(fd, text, size, (off_t)at + 8) == (ssize_t)size ? g_strdup(text) : NULL;
        at += 8 + (size + 7) / 8 * 8;
    }
    return NULL;
}

/* Name and format of the backing file that a qcow2 header gives (QCOW2 specification, header: offset 8, size 16), NULL: none. */
static char *qcow2_backing(int fd, char **ret_format)
{
    uint8_t h[104] = { 0 };
    if (pread(fd, h, sizeof(h), 0) < 72 || memcmp(h, "QFI\xfb", 4) != 0)
        return NULL;
    uint64_t at = be(h + 8, 8);
    uint32_t size = (uint32_t)be(h + 16, 4);
    if (!at || !size || size > 1023 || at > 1 << 22)
        return NULL;
    g_autofree char *name = g_malloc0(size + 1);
    if (pread(fd, name, size, (off_t)at) != (ssize_t)size || !g_utf8_validate(name, -1, NULL))
        return NULL;
    if (ret_format)
        *ret_format = qcow2_backing_format(fd, h);
    return g_steal_pointer(&name);
}

static char *resolve_backing(const char *image, const char *backing)
{
    if (g_str_has_prefix(backing, "file:"))
        backing += 5;
    if (*backing == '/')
        return g_strdup(backing);
    if (strchr(backing, ':'))
        return NULL; /* json:, nbd: the emulator's business */
    g_autofree char *dir = g_path_get_dirname(image);
    return g_build_filename(dir, backing, NULL);
}

static bool check_one(const char *path, bool write, const char *what, char **ret_backing, GError **error)
{
    struct stat st;
    *ret_backing = NULL;
    if (stat(path, &st) < 0)
        return explain(path, errno, what, error);
    if (S_ISDIR(st.st_mode))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' is a directory", what, path);
    if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' is neither a file nor a block device", what, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return explain(path, errno, what, error);
    char *backing = qcow2_backing(fd, NULL);
    close(fd);
    if (backing)
        *ret_backing = resolve_backing(path, backing);
    g_free(backing);
    if (write && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0) {
        g_clear_pointer(ret_backing, g_free);
        if (errno == EROFS)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' lies on a file system that is read-only: give the disk <readonly/>", what, path);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s '%s' is not writable by user '%s': give the disk <readonly/>, or change the rights", what, path, user_name());
    }
    return true;
}

bool domain_image_check(const char *path, const char *format, bool write, const char *target, GError **error)
{
    g_autofree char *at = g_strdup(path);
    g_autofree char *what = g_strdup_printf("the image of disk '%s'", target);
    for (unsigned depth = 0; at; depth++) {
        g_autofree char *backing = NULL;
        if (depth > IMAGE_DEPTH)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the images behind '%s' are more than %d deep: do they name each other?", path, IMAGE_DEPTH);
        if (!check_one(at, write && depth == 0, what, &backing, error))
            return false;
        if (depth == 0 && format && g_str_equal(format, "raw"))
            return true;
        g_free(what);
        what = g_strdup_printf("the backing file (of disk '%s', named by '%s')", target, at);
        g_free(at);
        at = g_steal_pointer(&backing);
    }
    return true;
}

static int open_image(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        explain(path, errno, "the image", error);
    return fd;
}

/* A backing file whose format nobody wrote down: one that names a third is not believed, a guest could have written that into a raw image. */
static char *guess_format(const char *path, const char *above, GError **error)
{
    uint8_t h[4] = { 0 };
    int fd = open_image(path, error);
    if (fd < 0)
        return NULL;
    bool qcow2 = pread(fd, h, sizeof(h), 0) == sizeof(h) && !memcmp(h, "QFI\xfb", 4);
    g_autofree char *third = qcow2_backing(fd, NULL);
    close(fd);
    if (third)
        return manage_null(error, VIR_ERR_OPERATION_FAILED, "format of backing image '%s' of image '%s' was not specified in the image metadata: say it with "
                           "'vireo-img rebase -u -F FORMAT -b %s %s'", path, above, path, above);
    return g_strdup(qcow2 ? "qcow2" : "raw");
}

char *domain_image_backing_name(const char *path)
{
    int fd = open_image(path, NULL);
    char *name = fd >= 0 ? qcow2_backing(fd, NULL) : NULL;
    if (fd >= 0)
        close(fd);
    return name;
}

bool domain_image_backing(const char *path, const char *format, char **ret_path, char **ret_format, bool *ret_elsewhere, GError **error)
{
    *ret_path = *ret_format = NULL;
    *ret_elsewhere = format && (g_str_equal(format, "vmdk") || g_str_equal(format, "qed") || g_str_equal(format, "qcow"));
    if (!format || !g_str_equal(format, "qcow2"))
        return true;
    int fd = open_image(path, error);
    if (fd < 0)
        return false;
    g_autofree char *said = NULL, *name = qcow2_backing(fd, &said);
    close(fd);
    g_autofree char *full = name ? resolve_backing(path, name) : NULL;
    *ret_elsewhere = name && !full;
    if (!full)
        return true;
    *ret_format = said ? g_strdup(said) : guess_format(full, path, error);
    if (*ret_format)
        *ret_path = g_steal_pointer(&full);
    return *ret_format != NULL;
}

char *domain_image_path(struct domain_driver *dr, const struct el *disk, GError **error)
{
    const char *type = el_get_or(disk, "@type", "file");
    if (g_str_equal(type, "volume")) {
        const char *pool = el_get(disk, "source/@pool"), *volume = el_get(disk, "source/@volume");
        if (!pool || !volume)
            return NULL;
        if (!dr->state->services->volume_path)
            return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s' is a volume of a pool: there are no storage pools here", el_get_or(disk, "target/@dev", ""));
        g_autofree char *format = NULL;
        return dr->state->services->volume_path(dr->state, pool, volume, &format, error);
    }
    const char *path = el_get(disk, g_str_equal(type, "block") ? "source/@dev" : "source/@file");
    return path && *path ? g_strdup(path) : NULL;
}

/* ---- other domains ---- */

static bool same_image(struct domain_driver *dr, const struct el *a, const char *path)
{
    if (el_is(a, "@type", "volume")) {
        g_autofree char *other = domain_image_path(dr, a, NULL);
        return other && g_str_equal(other, path);
    }
    const char *file = el_get(a, el_is(a, "@type", "block") ? "source/@dev" : "source/@file");
    return file && g_str_equal(file, path);
}

static bool writes(const struct el *disk)
{
    return !el_find(disk, "readonly") && !el_find(disk, "shareable");
}

/* The device of a running domain's document that stands against `device`; under its lock. */
static const struct el *conflict(struct domain_driver *dr, struct doc *live, const struct el *device, const char *path)
{
    const struct el *devices = el_find(doc_root(live), "devices");
    const char *name = el_name(device), *mac = el_get(device, "mac/@address");
    el_each(e, devices, name) {
        if (path && (writes(device) || writes(e)) && same_image(dr, e, path))
            return e;
        if (mac && g_str_equal(name, "interface") && el_get(e, "mac/@address") && !g_ascii_strcasecmp(el_get(e, "mac/@address"), mac))
            return e;
    }
    return NULL;
}

bool domain_image_conflicts(struct domain_driver *dr, struct domain *self, const struct el *device, GError **error)
{
    bool disk = g_str_equal(el_name(device), "disk");
    g_autofree char *path = disk ? domain_image_path(dr, device, NULL) : NULL;
    if ((disk && !path) || (!disk && !el_get(device, "mac/@address")) || !dr->list)
        return true;
    g_autoptr(GPtrArray) all = domain_all(dr);
    for (unsigned i = 0; i < all->len; i++) {
        struct domain *d = all->pdata[i];
        if (d == self || d->id < 0)
            continue;
        g_mutex_lock(&d->lock);
        bool found = d->live && conflict(dr, d->live, device, path);
        g_autofree char *name = found ? g_strdup(d->name) : NULL;
        g_mutex_unlock(&d->lock);
        if (found && disk)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' is in use by the running domain '%s': two domains must not write to one image (stop it, make a copy, "
                               "or say <shareable/> or <readonly/> in both)", path, name);
        if (found)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the MAC address '%s' is in use by the running domain '%s': give the interface another one",
                               el_get(device, "mac/@address"), name);
    }
    return true;
}
