/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls about the connection and the host itself: open, version, host name, node information, capabilities. */
#include "manage/core/manage.h"

static const struct manage_row rows[] = { { 0, NULL } };
const struct manage_driver manage_driver_host = { .name = "host", .rows = rows };
