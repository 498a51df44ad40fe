/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of QMP about descriptors that the client passes (SCM_RIGHTS); for the table in qmp_commands.c. */
#pragma once

#include "vmm/qmp/qmp.h"

struct json_object *qmp_getfd(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_closefd(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_add_fd(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_remove_fd(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_fdsets(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_getfd_args[], qmp_closefd_args[], qmp_add_fd_args[], qmp_remove_fd_args[];
