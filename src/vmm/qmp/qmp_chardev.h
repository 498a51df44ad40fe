/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands about character back ends, for the table in qmp_commands.c. */
#pragma once

#include "vmm/qmp/qmp.h"

struct json_object *qmp_chardev_add(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_chardev_remove(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_chardev_add_args[], qmp_chardev_remove_args[];
