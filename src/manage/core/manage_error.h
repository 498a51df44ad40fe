/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors of the management layer carry libvirt's error number (virErrorNumber, <libvirt/virterror.h>), so that clients can act on
 * them. The message is complete by itself: what happened, to what, what to do. The error domain on the wire follows from the number
 * and from the kind of object that the procedure works on (manage_error_domain).
 */
#pragma once

#include <glib.h>
#include <libvirt/virterror.h>
#include <stdbool.h>

#define MANAGE_ERROR (manage_error_quark())
GQuark manage_error_quark(void);

/* Sets *error (if error is not NULL); `code` is a virErrorNumber. Always false. */
bool manage_fail(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same, and NULL: `return manage_null(error, VIR_ERR_..., ...)` in functions that return a pointer. */
void *manage_null(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* VIR_ERR_SYSTEM_ERROR with ": " and the text of errno value `err`. Always false. */
bool manage_fail_errno(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The virErrorNumber of any error: MANAGE_ERROR's own; the nearest for those of src/base and src/block; else VIR_ERR_INTERNAL_ERROR. */
int manage_error_code(const GError *error);
/* The message as clients of libvirt know it: behind the phrase that belongs to its code, unless it begins with that. Free it. */
char *manage_error_text(const GError *error);
/* The virErrorDomain that goes with a code (facts: 33 for nwfilter codes, 38 streams, 7 RPC, by object kind else). */
int manage_error_domain(int code);
/* The same for the answer to a call: where the code alone does not say it, the kind of object that the procedure is about does. */
int manage_error_domain_of(const char *procedure, const GError *error);
