/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interfaces of running machines that go to another network or bridge: the tap stays, and what it is plugged into changes. */
#pragma once

#include "manage/drivers/domain/domain.h"

/* Does the new document name another network or bridge than the one that the running machine's tap is in? */
bool domain_interface_moves(const struct el *e, const struct el *old);
/* The tap of `old` joins the network or bridge of `e`, which is told what became of it. The network before stays the machine's until
 * domain_interface_leave(). On errors nothing has changed. */
bool domain_interface_move(struct domain *d, struct el *e, const struct el *old, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Back again: what came after domain_interface_move() has failed. */
void domain_interface_move_back(struct domain *d, const struct el *e, const struct el *old);
/* The network that a device was in: it is not the machine's any more. */
void domain_interface_leave(struct domain *d, const struct el *e);
