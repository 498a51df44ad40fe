/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manage/core/manage.h"

static const struct manage_row rows[] = { { 0, NULL } };
const struct manage_driver manage_driver_storage = { .name = "storage", .rows = rows };
