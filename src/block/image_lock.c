/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The advisory locks by which programs that use an image keep out of each other's way, interoperable with QEMU's: byte
 * 100 + n of the file is read-locked by whoever uses permission n, byte 200 + n by whoever does not let others have it.
 * Open file description locks (fcntl(2), F_OFD_SETLK), so that they go when the descriptor does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "block/block_private.h"

enum { PERM_CONSISTENT_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE, NPERMS };
enum { USED_BASE = 100, UNSHARED_BASE = 200 };

static const char *const perm_names[NPERMS] = { "read", "write", "rewrite", "resize" };

static int lock_byte(int fd, int byte)
{
    struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? errno : 0;
}

/* Whether somebody else has locked this byte. */
static bool byte_taken(int fd, int byte)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* Whether /proc/PID/fdinfo/FD tells of a lock of an open file description. */
static bool holds_lock(const char *pid, const char *fd)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fdinfo/%s", pid, fd), *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "OFDLCK");
}

/* Whether a process has this file open with such a lock. */
static bool is_holder(const char *pid, const struct stat *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fd", pid);
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *fd;
    bool found = false;
    while (dir && !found && (fd = g_dir_read_name(dir))) {
        g_autofree char *link = g_strdup_printf("%s/%s", path, fd);
        struct stat st;
        found = stat(link, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino && holds_lock(pid, fd);
    }
    if (dir)
        g_dir_close(dir);
    return found;
}

/* "process 12 (qemu-img)" for the one that has the file locked, as far as this process may look; else "another process". The
 * kernel does not tell who holds the lock of an open file description, so all processes are looked at. */
static char *name_holder(int fd)
{
    struct stat file;
    GDir *dir = sandbox_closed() || fstat(fd, &file) < 0 ? NULL : g_dir_open("/proc", 0, NULL);
    char *ret = NULL;
    const char *pid;
    while (dir && !ret && (pid = g_dir_read_name(dir))) {
        if (!g_ascii_isdigit(pid[0]) || (pid_t)strtol(pid, NULL, 10) == getpid() || !is_holder(pid, &file))
            continue;
        g_autofree char *path = g_strdup_printf("/proc/%s/comm", pid), *comm = NULL;
        (void)!g_file_get_contents(path, &comm, NULL, NULL);
        ret = g_strdup_printf("process %s (%s)", pid, comm ? g_strchomp(comm) : "?");
    }
    if (dir)
        g_dir_close(dir);
    return ret ? ret : g_strdup("another process");
}

static bool busy(GError **error, int fd, const char *path, const char *what, int perm)
{
    g_autofree char *holder = name_holder(fd);
    return vireo_fail(error, VIREO_ERROR_BUSY, "disk '%s' is in use (locked): %s %s %s access to it; end that process, or open "
                      "the disk read-only in both", path, holder, what, perm_names[perm]);
}

bool image_lock(int fd, const char *path, bool write, GError **error)
{
    unsigned used = 1u << PERM_CONSISTENT_READ | (write ? 1u << PERM_WRITE | 1u << PERM_RESIZE : 0);
    unsigned unshared = 1u << PERM_WRITE | 1u << PERM_RESIZE;
    for (int i = 0; i < NPERMS; i++) {
        int err = used >> i & 1 ? lock_byte(fd, USED_BASE + i) : 0;
        if (!err && unshared >> i & 1)
            err = lock_byte(fd, UNSHARED_BASE + i);
        if (err == EAGAIN || err == EACCES)
            return busy(error, fd, path, "has exclusive", i);
        if (err) {
            log_warn("disk '%s' cannot be locked (%s): make sure that nothing else uses it", path, g_strerror(err));
            return true;
        }
    }
    for (int i = 0; i < NPERMS; i++) {
        if (used >> i & 1 && byte_taken(fd, UNSHARED_BASE + i))
            return busy(error, fd, path, "does not allow", i);
        if (unshared >> i & 1 && byte_taken(fd, USED_BASE + i))
            return busy(error, fd, path, "has", i);
    }
    return true;
}

void image_unlock(int fd)
{
    struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = USED_BASE, .l_len = UNSHARED_BASE + NPERMS - USED_BASE };
    (void)fcntl(fd, F_OFD_SETLK, &l);
}
