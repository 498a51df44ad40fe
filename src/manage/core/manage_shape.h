/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rates of network devices: <bandwidth> of networks and interfaces in force by tc(8), and by nftables where the kernel cannot police what it receives. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "manage/model/doc.h"

/* An <inbound> or <outbound>: kilobytes per second (1000, as tc has it, and so libvirt); burst in kilobytes. average 0: no limit. peak, burst 0: not given. */
struct manage_rate {
    uint64_t average, peak, burst, floor;
};

struct manage_rate manage_rate_of(const struct el *e); /* e NULL: no limit */

/* What the host sends by the device is queued to the rate `send`, what it receives beyond the rate `receive` is dropped; what was in force before goes. NULL, or
 * average 0: no limit in this direction. On errors no limit is in force. owner: a number that another device of the same name, later, has not. */
bool manage_shape(const char *device, unsigned owner, const struct manage_rate *send, const struct manage_rate *receive, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The device has gone, and its name may be another's already. What belongs to it has gone with it, but for rules of nftables. */
void manage_shape_gone(const char *device, unsigned owner);
