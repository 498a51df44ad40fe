/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dump-guest-memory and what tells of it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/core/core_dump.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_dump_guest_memory_args[] = { { "paging", QMP_ARG_BOOL }, { "protocol", QMP_ARG_STRING }, { "detach", QMP_ARG_BOOL, true }, { "begin", QMP_ARG_INT, true },
                                                      { "length", QMP_ARG_INT, true }, { "format", QMP_ARG_STRING, true }, { NULL } };

/* "fd:NAME" of getfd, or "file:PATH". */
static int open_protocol(const char *protocol, GError **error)
{
    if (g_str_has_prefix(protocol, "fd:"))
        return fdset_take(protocol + 3, error);
    if (!g_str_has_prefix(protocol, "file:"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter 'protocol': 'fd:NAME' of a descriptor passed before, or 'file:PATH'"), -1;
    const char *path = protocol + 5;
    if (!fdset_path(path) && !sandbox_may_open_image(path, error))
        return -1;
    int fd = fdset_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        vireo_fail_errno(error, errno, "failed to open file '%s'", path);
    return fd;
}

static bool check(struct json_object *args, uint64_t *ret_begin, uint64_t *ret_end, GError **error)
{
    struct json_object *begin = json_object_object_get(args, "begin"), *length = json_object_object_get(args, "length"), *format = json_object_object_get(args, "format");
    if (json_object_get_boolean(json_object_object_get(args, "paging")))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Parameter 'paging' must be false: memory is dumped by its physical addresses");
    if (format && strcmp(json_object_get_string(format), "elf"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "dump format '%s' is not there: only 'elf' is", json_object_get_string(format));
    if (!begin != !length)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing: 'begin' and 'length' go together", begin ? "length" : "begin");
    int64_t from = begin ? json_object_get_int64(begin) : 0, size = length ? json_object_get_int64(length) : INT64_MAX;
    if (from < 0 || size <= 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is out of range", from < 0 ? "begin" : "length");
    *ret_begin = (uint64_t)from;
    *ret_end = (uint64_t)from + (uint64_t)size;
    return true;
}

struct json_object *qmp_dump_guest_memory(struct machine *m, struct json_object *args, GError **error)
{
    uint64_t begin = 0, end = 0;
    bool detach = json_object_get_boolean(json_object_object_get(args, "detach"));
    if (!check(args, &begin, &end, error))
        return NULL;
    int fd = open_protocol(json_object_get_string(json_object_object_get(args, "protocol")), error);
    bool good = fd >= 0 && core_dump_start(m, fd, begin, end, error) && (detach || core_dump_run(m, error));
    return good ? json_object_new_object() : NULL;
}

struct json_object *qmp_query_dump(struct machine *m, struct json_object *args, GError **error)
{
    static const char *const names[] = { "none", "active", "completed", "failed" };
    uint64_t done, total;
    enum core_dump_status s = core_dump_query(m, &done, &total);
    return json_make("status", json_object_new_string(names[s]), "completed", json_object_new_int64((int64_t)done), "total", json_object_new_int64((int64_t)total), NULL);
}

struct json_object *qmp_query_dump_capability(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *formats = json_object_new_array();
    json_object_array_add(formats, json_object_new_string("elf"));
    return json_make("formats", formats, NULL);
}

bool qmp_dump_active(const struct machine *m)
{
    uint64_t done, total;
    return core_dump_query(m, &done, &total) == CORE_DUMP_ACTIVE;
}
