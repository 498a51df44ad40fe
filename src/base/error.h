/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors are GError objects of one domain: what happened, to what, and what to do about it, in one line.
 * Libraries return them, programs print them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define VIREO_ERROR (vireo_error_quark())
GQuark vireo_error_quark(void);

enum vireo_error {
    VIREO_ERROR_FAILED,      /* anything without a kind of its own */
    VIREO_ERROR_INVALID,     /* bad argument, option, property, document */
    VIREO_ERROR_UNSUPPORTED, /* known, and not available here */
    VIREO_ERROR_NOT_FOUND,
    VIREO_ERROR_PERMISSION,
    VIREO_ERROR_BUSY,        /* somebody else uses it */
    VIREO_ERROR_IO,
    VIREO_ERROR_NO_MEMORY,
};

/* Sets *error (if error is not NULL) from a format; `code` is an enum vireo_error. Always returns false, so that a
 * function can end in `return vireo_fail(error, ...)`. */
bool vireo_fail(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same for a failed system call: appends ": " and the text of errno value `err`; the code follows from it. */
bool vireo_fail_errno(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);
