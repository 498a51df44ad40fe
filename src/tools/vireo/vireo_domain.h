/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files about domains share. */
#pragma once

#include "vireo.h"

const char *domain_state_text(int state);
/* The document of a domain, opened; false and said if there is none. */
bool domain_xml(struct call *c, virDomainPtr domain, unsigned flags, struct xml *ret_xml);
