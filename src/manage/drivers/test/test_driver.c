/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manage/core/manage.h"

static const struct manage_driver *const drivers[] = { NULL };
const struct manage_table manage_table_test = { .type = "TEST", .drivers = drivers };
