/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/qmp/qmp_fd.h"

#include "base/error.h"
#include "base/fdset.h"

const struct qmp_arg qmp_getfd_args[] = { { "fdname", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_closefd_args[] = { { "fdname", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_add_fd_args[] = { { "fdset-id", QMP_ARG_INT, true }, { "opaque", QMP_ARG_STRING, true }, { NULL } };
const struct qmp_arg qmp_remove_fd_args[] = { { "fdset-id", QMP_ARG_INT }, { "fd", QMP_ARG_INT, true }, { NULL } };

static const char *text_of(struct json_object *args, const char *key)
{
    return json_object_get_string(json_object_object_get(args, key));
}

/* The descriptor that came with the command; the caller's. */
static int came(GError **error)
{
    int fd = fdset_offer(-1);
    if (fd < 0)
        vireo_fail(error, VIREO_ERROR_INVALID, "No file descriptor supplied via SCM_RIGHTS; send it with the command over a UNIX socket");
    return fd;
}

struct json_object *qmp_getfd(struct machine *m, struct json_object *args, GError **error)
{
    int fd = came(error);
    if (fd >= 0)
        (void)fdset_name(text_of(args, "fdname"), fd, error);
    return NULL;
}

struct json_object *qmp_closefd(struct machine *m, struct json_object *args, GError **error)
{
    (void)fdset_unname(text_of(args, "fdname"), error);
    return NULL;
}

struct json_object *qmp_add_fd(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *id;
    int64_t set = json_object_object_get_ex(args, "fdset-id", &id) ? json_object_get_int64(id) : -1;
    if (id && set < 0) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'fdset-id' expects a non-negative value");
        return NULL;
    }
    int fd = came(error);
    if (fd < 0)
        return NULL;
    set = fdset_add(set, fd, text_of(args, "opaque"), error);
    return json_make("fdset-id", json_object_new_int64(set), "fd", json_object_new_int(fd), NULL);
}

struct json_object *qmp_remove_fd(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *fd;
    int64_t which = json_object_object_get_ex(args, "fd", &fd) ? json_object_get_int64(fd) : -1;
    if (fd && which < 0)
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'fd' expects a non-negative value");
    else
        (void)fdset_remove(json_object_get_int64(json_object_object_get(args, "fdset-id")), which, error);
    return NULL;
}

/* One descriptor into the entry of its set, which is made when it is the first. */
static void list_one(int64_t set, int fd, const char *opaque, void *data)
{
    struct json_object *sets = data, *entry = NULL;
    for (size_t i = 0; i < json_object_array_length(sets) && !entry; i++) {
        struct json_object *s = json_object_array_get_idx(sets, i);
        if (json_object_get_int64(json_object_object_get(s, "fdset-id")) == set)
            entry = s;
    }
    if (!entry) {
        entry = json_make("fdset-id", json_object_new_int64(set), "fds", json_object_new_array(), NULL);
        json_object_array_add(sets, entry);
    }
    struct json_object *one = json_make("fd", json_object_new_int(fd), NULL);
    if (opaque)
        json_object_object_add(one, "opaque", json_object_new_string(opaque));
    json_object_array_add(json_object_object_get(entry, "fds"), one);
}

struct json_object *qmp_query_fdsets(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *sets = json_object_new_array();
    fdset_foreach(list_one, sets);
    return sets;
}
