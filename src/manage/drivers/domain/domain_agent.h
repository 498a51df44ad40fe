/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest agent's transport, for the calls in domain_guest.c. All of it inside a job of the domain. */
#pragma once

#include <json-c/json.h>

#include "manage/drivers/domain/domain.h"

/* One line of JSON, and the whole answer. seconds < 0: as long as it takes. may_vanish: no answer is one too (the guest powers itself off): {}. */
struct json_object *domain_agent_answer(struct domain *d, const char *command, int seconds, bool may_vanish, GError **error);
/* A command's "return"; args is taken over. */
struct json_object *domain_agent_command(struct domain *d, const char *name, struct json_object *args, bool may_vanish, GError **error);
