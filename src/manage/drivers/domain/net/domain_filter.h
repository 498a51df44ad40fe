/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <filterref> of interfaces (driver: drivers/nwfilter). */
#pragma once

#include "manage/drivers/domain/domain.h"

/* Filters are for taps in bridges. */
bool domain_filter_refuse(const struct el *nic, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Puts what the document says in force on <target dev=>, or nothing. bridge: that the tap is in. */
bool domain_filter_apply(struct domain *d, const struct el *nic, const char *bridge, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_filter_gone(struct domain *d, const struct el *nic);
/* A machine that does not run any more. */
void domain_filter_gone_all(struct domain *d, const struct doc *live);
bool domain_filter_same(const struct el *a, const struct el *b);
