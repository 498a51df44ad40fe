/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the builder of command lines offers to the files that attach devices and translate documents. */
#pragma once

#include "manage/drivers/domain/command/domain_plan.h"

/* d NULL: for a document that does not run (domxml-to-native). */
void domain_build_init(struct domain_build *b, struct domain *d, struct domain_driver *dr, struct doc *live);
/* Detaches networks that are still in the plan. */
void domain_build_finish(struct domain_build *b);
/* Machine and all devices. */
bool domain_build_all(struct domain_build *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_devices(struct domain_build *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
