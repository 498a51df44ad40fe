/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/firmware_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "vmm/core/memory.h"

#define MAX_SIZE (16u << 20)

static const char *const places[] = { "/usr/share/seabios", "/usr/share/qemu", "/usr/share/qemu-kvm", "/usr/share/seavgabios", "/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu", NULL };

char *firmware_file_find(const char *name)
{
    if (strchr(name, '/') || access(name, R_OK) == 0)
        return g_strdup(name);
    for (unsigned i = 0; places[i]; i++) {
        g_autofree char *path = g_build_filename(places[i], name, NULL);
        if (access(path, R_OK) == 0)
            return g_steal_pointer(&path);
    }
    return NULL;
}

static bool read_all(int fd, const char *path, char *to, size_t size, GError **error)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return vireo_fail_errno(error, n ? errno : EIO, "cannot read the image '%s'", path);
        done += (size_t)n;
    }
    return true;
}

void *firmware_file_load(struct guest_memory *m, const char *path, size_t unit, size_t *ret_size, size_t *ret_room, GError **error)
{
    int fd = fdset_open(path, O_RDONLY, 0);
    struct stat st;
    void *memory = NULL;
    if (fd < 0) {
        vireo_fail_errno(error, errno, "cannot open the image '%s'", path);
        return NULL;
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAX_SIZE) {
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is no BIOS image and no option ROM: it must be a file of 1 byte to 16 MiB", path);
    } else {
        size_t room = unit;
        while (room < (size_t)st.st_size)
            room *= 2;
        memory = guest_memory_alloc(m, path, room, error);
        if (memory && !read_all(fd, path, memory, (size_t)st.st_size, error))
            memory = NULL;
        *ret_size = (size_t)st.st_size;
        *ret_room = room;
    }
    close(fd);
    return memory;
}
