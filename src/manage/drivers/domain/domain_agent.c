/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls that need the guest's agent (qemu-guest-agent over a virtio channel), and the machine's own monitor commands. */
#include <json-c/json.h>
#include <string.h>

#include "manage/drivers/domain/domain.h"

bool domain_agent_ready(struct domain *d)
{
    (void)d;
    return false;
}

static bool no_agent(GError **error)
{
    return manage_fail(error, VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent is not responding: QEMU guest agent is not connected");
}

bool domain_agent_shutdown(struct domain *d, bool reboot, GError **error)
{
    (void)d;
    (void)reboot;
    return no_agent(error);
}

static GVariant *needs_agent(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    if (d->id < 0)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: domain is not running");
    (void)no_agent(error);
    return NULL;
}

const struct manage_row domain_rows_agent[] = {
    { RPC_DOMAIN_GET_HOSTNAME, needs_agent },
    { RPC_DOMAIN_GET_TIME, needs_agent },
    { RPC_DOMAIN_SET_TIME, needs_agent },
    { 0, NULL },
};
