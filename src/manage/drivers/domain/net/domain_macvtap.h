/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Macvtaps: a device of the host that shares a network card with others, and whose frames go through a descriptor. Other than a tap it stays when the descriptor
 * is closed: a file "macvtap-NAME" in the machine's directory says, before the device exists, what is to be taken away.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct domain_macvtap {
    const char *dir, *lower, *mode, *mac; /* the machine's directory; the device below; "bridge", "private", "vepa", "passthrough"; of the guest */
    unsigned queues;
};

/* *ret_name: in: the name that is asked for, or NULL; out: what it is called (free it). ret_fds: of its queues. The device is up, and so is the one below it; in mode
 * passthrough that one has the guest's address meanwhile. On errors nothing is left. */
bool domain_macvtap_new(const struct domain_macvtap *m, char **ret_name, GArray *ret_fds, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Takes away what the file says, if it is still that. One that has no file is nobody's. */
void domain_macvtap_remove(const char *dir, const char *name);
void domain_macvtap_remove_all(const char *dir);
