/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The drivers of a real host, in the order in which they are started: who is asked by others first. */
#include "manage/core/manage.h"

extern const struct manage_driver manage_driver_host, manage_driver_secret, manage_driver_storage, manage_driver_network,
    manage_driver_interface, manage_driver_nwfilter, manage_driver_nodedev, manage_driver_domain;

static const struct manage_driver *const drivers[] = {
    &manage_driver_host,
    &manage_driver_secret,
    &manage_driver_storage,
    &manage_driver_network,
    &manage_driver_interface,
    &manage_driver_nwfilter,
    &manage_driver_nodedev,
    &manage_driver_domain,
    NULL
};
const struct manage_table manage_table_host = { .type = "QEMU", .drivers = drivers };
