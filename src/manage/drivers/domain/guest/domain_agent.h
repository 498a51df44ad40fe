/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest agent's transport, for the calls in domain_guest.c. All of it inside a job of the domain. */
#pragma once

#include <json-c/json.h>

#include "manage/drivers/domain/domain.h"

/* One line of JSON, and the whole answer. seconds < 0: as long as it takes. may_vanish: no answer is one too (the guest powers itself off): {}. */
struct json_object *domain_agent_answer(struct domain *d, const char *command, int seconds, bool may_vanish, GError **error);
/* A command's "return"; args is taken over. */
struct json_object *domain_agent_command(struct domain *d, const char *name, struct json_object *args, bool may_vanish, GError **error);

/* domain_guest_vcpus.c: vCPUs that the guest has switched on (all: that it has); -1: error. */
int domain_guest_count_vcpus(struct domain *d, bool all, GError **error);
/* Switches vCPUs until n are on. */
bool domain_guest_set_vcpus(struct domain *d, unsigned n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
