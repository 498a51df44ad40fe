/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of guest memory in files. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory.h"
#include "vmm/qmp/qmp.h"

enum { PAGE = 4096 };

const struct qmp_arg qmp_pmemsave_args[] = { { "val", QMP_ARG_INT }, { "size", QMP_ARG_INT }, { "filename", QMP_ARG_STRING }, { NULL } };

/* Page by page, as far as RAM goes; what is no RAM is written as zeroes. */
static bool copy_out(struct guest_memory *m, int fd, uint64_t from, uint64_t size)
{
    uint8_t page[PAGE];
    while (size) {
        uint64_t n = MIN(size, PAGE - from % PAGE);
        if (!guest_memory_read(m, from, page, n))
            memset(page, 0, n);
        for (uint64_t done = 0; done < n;) {
            ssize_t k = write(fd, page + done, n - done);
            if (k < 0 && errno == EINTR)
                continue;
            if (k <= 0)
                return false;
            done += (uint64_t)k;
        }
        from += n;
        size -= n;
    }
    return true;
}

struct json_object *qmp_pmemsave(struct machine *m, struct json_object *args, GError **error)
{
    const char *path = json_object_get_string(json_object_object_get(args, "filename"));
    int64_t from = json_object_get_int64(json_object_object_get(args, "val")), size = json_object_get_int64(json_object_object_get(args, "size"));
    if (size < 0 || (size && (uint64_t)from > UINT64_MAX - (uint64_t)size + 1)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'size' expects a number of bytes that lies in the address space");
        return NULL;
    }
    if (!fdset_path(path) && !sandbox_may_open_image(path, error))
        return NULL;
    int fd = fdset_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0) {
        vireo_fail_errno(error, errno, "failed to open file '%s'", path);
        return NULL;
    }
    bool good = copy_out(m->memory, fd, (uint64_t)from, (uint64_t)size);
    int err = errno;
    if (close(fd) && good) {
        good = false;
        err = errno;
    }
    if (!good)
        vireo_fail_errno(error, err, "cannot write memory to '%s'", path);
    return NULL;
}
