/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files about domains share. */
#pragma once

#include "vireo.h"

const char *domain_state_text(int state);
/* A function of the library's part for the emulator, which need not be there: NULL said. */
void *qemu_call(struct call *c, const char *name);
/* The document of a domain, opened; false and said if there is none. */
bool domain_xml(struct call *c, virDomainPtr domain, unsigned flags, struct xml *ret_xml);
