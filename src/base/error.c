/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>

G_DEFINE_QUARK(vireo-error-quark, vireo_error)

bool vireo_fail(GError **error, int code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error_literal(error, VIREO_ERROR, code, text);
    return false;
}

static int code_of_errno(int err)
{
    switch (err) {
    case ENOENT: return VIREO_ERROR_NOT_FOUND;
    case EACCES:
    case EPERM: return VIREO_ERROR_PERMISSION;
    case EAGAIN:
    case EBUSY: return VIREO_ERROR_BUSY;
    case ENOMEM: return VIREO_ERROR_NO_MEMORY;
    case EINVAL: return VIREO_ERROR_INVALID;
    case ENOTSUP:
    case ENOSYS: return VIREO_ERROR_UNSUPPORTED;
    default: return VIREO_ERROR_IO;
    }
}

bool vireo_fail_errno(GError **error, int err, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(error, VIREO_ERROR, code_of_errno(err), "%s: %s", text, g_strerror(err));
    return false;
}
