/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XDR (RFC 4506) of GVariants, by the letters of rpc_proc.h. Both directions are bounded by the letters: no depth, count or length of a message is
 * believed before it has been compared with its limit and with the bytes that are there.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define RPC_STRING_MAX 4194304 /* bytes of a string */
#define RPC_OPAQUE_MAX 8388608 /* bytes of an opaque<> */

/* Appends the encoding of tuple `v` (type as of `letters`). Strings over 4 MiB and lists over their limit: error, `to` is as before. */
bool rpc_encode(GByteArray *to, const char *letters, GVariant *v, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same piece by piece, for long lists that need not be in memory as GVariants: the caller follows the letters and holds their limits. */
void rpc_put_u32(GByteArray *to, guint32 v); /* also 'i' */
void rpc_put_u64(GByteArray *to, guint64 v); /* also 'x' */
bool rpc_put_string(GByteArray *to, const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* UTF-8; over 4 MiB: error, `to` is as before */
void rpc_put_uuid(GByteArray *to, const guint8 uuid[16]);
/* A list's number of items goes before them and is known behind them: the place for it, to be filled in by rpc_put_count(). */
guint rpc_put_list(GByteArray *to);
void rpc_put_count(GByteArray *to, guint list, guint32 n);
/* Decodes; trailing bytes are ignored. NULL: short, a length over its limit, a string that is not UTF-8 (VIR_ERR_RPC). Not floating. */
GVariant *rpc_decode(const char *letters, const void *data, gsize size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same where the letters' GVariant type is known (rpc_proc: args_type, ret_type). *ret_used (may be NULL): how many bytes were taken. */
GVariant *rpc_decode_as(const char *letters, const char *type, const void *data, gsize size, gsize *ret_used, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "su" -> "(su)", "aD" -> "(a(sayi))". Free it. */
char *rpc_gvariant_type(const char *letters);

/* ---- for the two halves (rpc_xdr.c, rpc_xdr_decode.c) ---- */

/* The record that a letter stands for ("(sUi)" for D); NULL: the letter stands for itself. */
const char *rpc_record(char letter);
/* The end of the one type that begins at p. */
const char *rpc_skip(const char *p);
/* p behind 'a': takes the limit's digits; *ret_limit is 65536 where there are none. */
const char *rpc_limit(const char *p, guint32 *ret_limit);
