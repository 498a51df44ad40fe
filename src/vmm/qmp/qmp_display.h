/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the display (qmp_display.c, qmp_vnc.c), for the table. */
#pragma once

#include "vmm/qmp/qmp.h"

struct json_object *qmp_screendump(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_send_key(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_input_send_event(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_mice(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_screendump_args[], qmp_send_key_args[], qmp_input_send_event_args[];
