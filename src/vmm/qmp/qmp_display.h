/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the display (qmp_display.c, qmp_vnc.c), for the table. */
#pragma once

#include "vmm/qmp/qmp.h"

struct json_object *qmp_screendump(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_send_key(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_input_send_event(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_mice(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_vnc(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_vnc_servers(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_set_password(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_change_vnc_password(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_expire_password(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_add_client(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_set_password_args[], qmp_change_vnc_password_args[], qmp_expire_password_args[], qmp_add_client_args[];
extern const struct qmp_arg qmp_screendump_args[], qmp_send_key_args[], qmp_input_send_event_args[];
