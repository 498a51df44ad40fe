/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the short ways share: run makes what ssh, rm and top then know by the domain's metadata. */
#pragma once

#include "vireo.h"

#define RUN_NAMESPACE "urn:vireo:run"

struct seed_file {
    const char *name, *text; /* in the order of their names */
};
/* The CD image with these files; free with g_byte_array_unref. */
GByteArray *seed_image(const struct seed_file *files, unsigned n);

/* What run wrote down about a domain; all but user may be NULL. */
struct run_notes {
    char *user, *key, *port, *pool;
    char **volumes;
};
bool run_notes_read(virDomainPtr domain, struct run_notes *notes);
void run_notes_clear(struct run_notes *notes);
/* An address that a client of this host reaches, or NULL: from leases, the guest's agent, or the host's ARP table. */
char *guest_address(struct call *c, virDomainPtr domain);
/* The command line of ssh to a guest, NULL-terminated; NULL said if no address is known. */
char **ssh_command(struct call *c, virDomainPtr domain, const struct run_notes *notes);
/* Makes kernel, initrd and disk of a Debian guest in `folder` unless they are there; false said. */
bool debian_image(struct call *c, const char *folder);
