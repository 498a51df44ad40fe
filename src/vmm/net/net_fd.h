/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that somebody passed to the program, for fd= of the back ends. */
#pragma once

#include <glib.h>

/* The descriptor with this number or name, now the caller's; -1 with error. `what` names the back end in the message. */
int net_fd_take(const char *what, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
