/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Block commands of QMP; for the table in qmp_commands.c. */
#pragma once

#include "vmm/qmp/qmp.h"

struct json_object *qmp_query_block(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_named_block_nodes(struct machine *m, struct json_object *args, GError **error);
