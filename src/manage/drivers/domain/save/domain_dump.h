/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dumps of a machine's memory (domain_dump.c). */
#pragma once

#include "manage/drivers/domain/domain.h"

/* Inside a job: flags are virDomainCoreDumpFlags, format a virDomainCoreDumpFormat. Nothing is left of one that fails, and the guest runs on. */
bool domain_dump(struct domain *d, const char *path, unsigned format, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Inside a job: the guest has panicked and <on_crash> wants its memory: a core in LIB/qemu/dump. */
void domain_dump_of_crash(struct domain *d);
/* Until a dump that the machine writes has come to its end. */
bool domain_dump_wait(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
