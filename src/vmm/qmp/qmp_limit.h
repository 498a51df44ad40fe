/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events that a guest can cause at will reach clients at most once a second, as QEMU's do: the first at once, of those that follow
 * within the second the last one. Main thread. */
#pragma once

#include "base/json.h"

struct qmp_limit;
/* send: takes no data over. */
struct qmp_limit *qmp_limit_create(void (*send)(void *opaque, const char *name, struct json_object *data), void *opaque);
void qmp_limit_destroy(struct qmp_limit *l);
/* Sends now, or later, or never when a newer one follows. data is borrowed and may be NULL. */
void qmp_limit_event(struct qmp_limit *l, const char *name, struct json_object *data);
