/* SPDX-License-Identifier: GPL-2.0-or-later */
/* XDR (RFC 4506) of GVariants, by the letters of rpc_proc.h. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Appends the encoding of tuple `v` (type as of `letters`). Strings over 4 MiB and lists over their limit: error. */
bool rpc_encode(GByteArray *to, const char *letters, GVariant *v, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Decodes; trailing bytes are ignored. NULL: short, a length over its limit, a string that is not UTF-8 (VIR_ERR_RPC). Not floating. */
GVariant *rpc_decode(const char *letters, const void *data, gsize size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "su" -> "(su)", "aD" -> "(a(sayi))". Free it. */
char *rpc_gvariant_type(const char *letters);
