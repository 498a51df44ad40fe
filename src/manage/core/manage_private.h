/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of core share. */
#pragma once

#include "manage/core/manage.h"

struct manage_private {
    manage_handler handlers[RPC_NPROCS];
    void **data; /* by driver, in the table's order */
    struct manage_services *services;
    gint next_conn;
};

struct manage_events *manage_events_new(void);
void manage_events_free(struct manage_events *e);
/* Handlers of the register and deregister procedures. */
extern const struct manage_row manage_event_rows[];
/* Takes the registrations of a connection away. */
void manage_events_forget(struct manage_events *e, struct manage_conn *c);
