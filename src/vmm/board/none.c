/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `none`: no memory, no vCPU, no device. Managers start it to ask over QMP what the program has on this host. */
#include "base/error.h"
#include "vmm/board/board.h"
#include "vmm/core/machine.h"

static bool none_create(struct machine *m, GError **error)
{
    m->config->nodefaults = true;
    if (!machine_create_accel(m, error))
        return false;
    m->irqchip = ACCEL_IRQCHIP_OFF; /* whatever is inside the accelerator, nothing here is connected to it */
    return true;
}

static bool none_finish(struct machine *m, GError **error)
{
    if (m->devices->len)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the machine 'none' has no place for devices; use -machine q35");
    return true;
}

extern const struct board board_none;
const struct board board_none = { "none", "empty machine", none_create, none_finish, NULL, 1, false };
