/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <bandwidth> of interfaces. What goes into the guest is sent by the tap, what comes out of it is received there; with a macvtap it is the other way round. */
#pragma once

#include "manage/drivers/domain/domain.h"

/* A definition: an <inbound> has an average or a floor, an <outbound> an average. */
bool domain_bandwidth_check(const struct el *nic, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Puts what the document says in force on <target dev=>, or ends it. id: of the domain. */
bool domain_bandwidth_apply(int id, const struct el *nic, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the portgroup says is the interface's, where that says nothing itself. */
void domain_bandwidth_inherit(struct el *nic, const struct manage_network_place *place);
bool domain_bandwidth_same(const struct el *a, const struct el *b);
/* The device has gone. */
void domain_bandwidth_gone(int id, const struct el *nic);
/* A machine that does not run any more. */
void domain_bandwidth_gone_all(int id, const struct doc *live);
