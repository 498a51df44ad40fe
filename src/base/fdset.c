/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fdset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define PREFIX "/dev/fdset/"

struct passed {
    int64_t set; /* -1: has a name instead */
    int fd;
    char *text;  /* opaque of a set, or the name */
};

/* In the order they came. Main thread, but for fdset_open, hence the lock. */
static struct {
    GMutex lock;
    GArray *list; /* struct passed */
    int offered;  /* main thread */
    bool refuse_names;
} passed = { .offered = -1 };

static GArray *list_locked(void)
{
    if (!passed.list)
        passed.list = g_array_new(FALSE, FALSE, sizeof(struct passed));
    return passed.list;
}

static struct passed *at(guint i)
{
    return &g_array_index(passed.list, struct passed, i);
}

static void drop_locked(guint i, bool close_it)
{
    if (close_it)
        close(at(i)->fd);
    g_free(at(i)->text);
    g_array_remove_index(passed.list, i);
}

static bool set_exists_locked(int64_t set)
{
    for (guint i = 0; i < list_locked()->len; i++) {
        if (at(i)->set == set)
            return true;
    }
    return false;
}

/* ---- opening ---- */

bool fdset_path(const char *path)
{
    return g_str_has_prefix(path, PREFIX);
}

/* seccomp(main): fcntl(F_GETFL F_SETFL F_DUPFD_CLOEXEC F_GETFD F_SETFD) ftruncate */
static int open_from_set(int64_t set, int flags)
{
    int err = set_exists_locked(set) ? EACCES : ENOENT;
    for (guint i = 0; i < passed.list->len; i++) {
        int have = at(i)->set == set ? fcntl(at(i)->fd, F_GETFL) : -1;
        if (have < 0 || (have & O_ACCMODE) != (flags & O_ACCMODE))
            continue;
        int fd = fcntl(at(i)->fd, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0 && (flags & O_APPEND) && !(have & O_APPEND))
            (void)fcntl(fd, F_SETFL, have | O_APPEND);
        if (fd >= 0 && (flags & O_TRUNC))
            (void)!ftruncate(fd, 0); /* a pipe has nothing to cut */
        return fd;
    }
    errno = err;
    return -1;
}

void fdset_refuse_names(void)
{
    passed.refuse_names = true;
}

int fdset_open(const char *path, int flags, mode_t mode)
{
    guint64 set;
    if (!fdset_path(path) && passed.refuse_names) {
        errno = EACCES;
        return -1;
    }
    if (!fdset_path(path))
        return open(path, flags | O_CLOEXEC, mode);
    if (!g_ascii_string_to_unsigned(path + strlen(PREFIX), 10, 0, G_MAXINT64, &set, NULL)) {
        errno = ENOENT;
        return -1;
    }
    g_mutex_lock(&passed.lock);
    int fd = open_from_set((int64_t)set, flags);
    int err = errno;
    g_mutex_unlock(&passed.lock);
    errno = err;
    return fd;
}

static int take_named(const char *name)
{
    int fd = -1;
    g_mutex_lock(&passed.lock);
    for (guint i = 0; fd < 0 && i < list_locked()->len; i++) {
        if (at(i)->set < 0 && !strcmp(at(i)->text, name)) {
            fd = at(i)->fd;
            drop_locked(i, false);
        }
    }
    g_mutex_unlock(&passed.lock);
    return fd;
}

int fdset_take(const char *text, GError **error)
{
    guint64 number;
    int fd;
    if (!g_ascii_isdigit(*text)) {
        fd = take_named(text);
        if (fd < 0)
            vireo_fail(error, VIREO_ERROR_NOT_FOUND, "File descriptor named '%s' has not been found; pass it with QMP getfd", text);
        return fd;
    }
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &number, NULL)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is no number of a file descriptor", text);
        return -1;
    }
    fd = (int)number;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "File descriptor '%s' is not open; who starts this program must leave it open", text);
        return -1;
    }
    return fd;
}

/* ---- sets and names ---- */

int fdset_offer(int fd)
{
    int before = passed.offered;
    passed.offered = fd;
    return before;
}

static int64_t free_number_locked(void)
{
    int64_t n = 0;
    while (set_exists_locked(n))
        n++;
    return n;
}

int64_t fdset_add(int64_t set, int fd, const char *opaque, GError **error)
{
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "file descriptor %d is not open", fd);
        return -1;
    }
    g_mutex_lock(&passed.lock);
    (void)list_locked();
    struct passed p = { set >= 0 ? set : free_number_locked(), fd, g_strdup(opaque) };
    g_array_append_val(passed.list, p);
    g_mutex_unlock(&passed.lock);
    return p.set;
}

bool fdset_remove(int64_t set, int64_t fd, GError **error)
{
    bool found = false;
    g_mutex_lock(&passed.lock);
    for (guint i = list_locked()->len; i-- > 0;) {
        if (at(i)->set == set && (fd < 0 || at(i)->fd == fd)) {
            found = true;
            drop_locked(i, true);
        }
    }
    g_mutex_unlock(&passed.lock);
    if (found)
        return true;
    if (fd < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "File descriptor named 'fdset-id:%lld' not found", (long long)set);
    return vireo_fail(error, VIREO_ERROR_INVALID, "File descriptor named 'fdset-id:%lld, fd:%lld' not found", (long long)set, (long long)fd);
}

void fdset_foreach(void (*fn)(int64_t set, int fd, const char *opaque, void *data), void *data)
{
    for (guint i = 0; passed.list && i < passed.list->len; i++) {
        if (at(i)->set >= 0)
            fn(at(i)->set, at(i)->fd, at(i)->text, data);
    }
}

bool fdset_name(const char *name, int fd, GError **error)
{
    if (!*name || g_ascii_isdigit(*name)) {
        close(fd);
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'fdname' expects a name not starting with a digit");
    }
    int old = take_named(name);
    if (old >= 0)
        close(old);
    struct passed p = { -1, fd, g_strdup(name) };
    g_mutex_lock(&passed.lock);
    g_array_append_val(list_locked(), p);
    g_mutex_unlock(&passed.lock);
    return true;
}

bool fdset_unname(const char *name, GError **error)
{
    int fd = take_named(name);
    if (fd < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "File descriptor named '%s' not found", name);
    close(fd);
    return true;
}
