/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Runs a program, gives it `input` (NULL: nothing); waits for at most 20 s. argv[0] is looked for in PATH and the sbin directories. False: error has its name, exit
 * status and what it said. Any thread but the main loop's. */
bool manage_run(const char *const *argv, const char *input, GError **error) G_GNUC_WARN_UNUSED_RESULT;
