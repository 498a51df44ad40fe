/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Letters, and GVariant to XDR. The other direction is in rpc_xdr_decode.c. */
#include "manage/rpc/rpc_xdr.h"

#include <string.h>

#include "manage/core/manage_error.h"

/* ---- letters ---- */

const char *rpc_record(char letter)
{
    switch (letter) {
    case 'D': return "(sUi)";
    case 'N': case 'P': case 'F': return "(sU)";
    case 'V': return "(sss)";
    case 'S': return "(Uis)";
    case 'I': return "(ss)";
    case 'Z': return "(s(sUi))";
    default: return NULL;
    }
}

const char *rpc_limit(const char *p, guint32 *ret_limit)
{
    guint32 n = 0;
    const char *start = p;
    while (g_ascii_isdigit(*p))
        n = n * 10 + (guint32)(*p++ - '0');
    *ret_limit = p == start ? 65536 : n;
    return p;
}

const char *rpc_skip(const char *p)
{
    guint32 limit;
    while (*p == 'm' || *p == 'a')
        p = *p == 'm' ? p + 1 : rpc_limit(p + 1, &limit);
    if (*p != '(')
        return p + 1;
    for (p++; *p != ')';)
        p = rpc_skip(p);
    return p + 1;
}

static const char *append_type(GString *to, const char *p);

static void append_types(GString *to, const char *p, const char *end)
{
    g_string_append_c(to, '(');
    while (p < end)
        p = append_type(to, p);
    g_string_append_c(to, ')');
}

static const char *append_type(GString *to, const char *p)
{
    const char *end = rpc_skip(p), *record = rpc_record(*p);
    guint32 limit;
    if (record)
        append_types(to, record + 1, record + strlen(record) - 1);
    else if (*p == '(')
        append_types(to, p + 1, end - 1);
    else if (*p == 'm' || *p == 'a') {
        g_string_append_c(to, *p);
        append_type(to, *p == 'm' ? p + 1 : rpc_limit(p + 1, &limit));
    } else if (*p == 'U' || *p == 'O')
        g_string_append(to, "ay");
    else if (*p == 'T')
        g_string_append(to, "(sv)");
    else
        g_string_append_c(to, *p == 'C' ? 's' : *p);
    return end;
}

char *rpc_gvariant_type(const char *letters)
{
    GString *to = g_string_new(NULL);
    append_types(to, letters, letters + strlen(letters));
    return g_string_free(to, FALSE);
}

/* ---- encoding ---- */

void rpc_put_u32(GByteArray *to, guint32 v)
{
    guint32 big = GUINT32_TO_BE(v);
    g_byte_array_append(to, (const guint8 *)&big, 4);
}

void rpc_put_u64(GByteArray *to, guint64 v)
{
    guint64 big = GUINT64_TO_BE(v);
    g_byte_array_append(to, (const guint8 *)&big, 8);
}

static void put_double(GByteArray *to, double d)
{
    guint64 bits;
    memcpy(&bits, &d, 8);
    rpc_put_u64(to, bits);
}

static void put_bytes(GByteArray *to, const void *data, gsize size)
{
    static const guint8 zero[4];
    if (size)
        g_byte_array_append(to, data, (guint)size);
    g_byte_array_append(to, zero, (guint)(-size & 3));
}

static bool put_text(GByteArray *to, const char *s, gsize n, GError **error)
{
    if (n > RPC_STRING_MAX)
        return manage_fail(error, VIR_ERR_RPC, "a string of %zu bytes is too long for a message, the limit is %d", n, RPC_STRING_MAX);
    rpc_put_u32(to, (guint32)n);
    put_bytes(to, s, n);
    return true;
}

static bool put_string(GByteArray *to, GVariant *v, GError **error)
{
    gsize n;
    const char *s = g_variant_get_string(v, &n);
    return put_text(to, s, n, error);
}

static bool put_opaque(GByteArray *to, GVariant *v, bool counted, GError **error)
{
    gsize n;
    const void *data = g_variant_get_fixed_array(v, &n, 1);
    if (counted ? n > RPC_OPAQUE_MAX : n != 16)
        return manage_fail(error, VIR_ERR_RPC, counted ? "%zu bytes are too many for a message" : "a UUID of %zu bytes instead of 16", n);
    if (counted)
        rpc_put_u32(to, (guint32)n);
    put_bytes(to, data, n);
    return true;
}

static void put_chars(GByteArray *to, GVariant *v)
{
    const char *s = g_variant_get_string(v, NULL);
    for (unsigned i = 0; i < 32; i++) {
        rpc_put_u32(to, i < 31 ? (guint8)*s : 0);
        s += *s != 0;
    }
}

/* A typed parameter (libvirt's numbers: 1 int, 2 unsigned, 3 long long, 4 unsigned long long, 5 double, 6 boolean, 7 string). */
static bool put_param(GByteArray *to, GVariant *v, GError **error)
{
    g_autoptr(GVariant) field = g_variant_get_child_value(v, 0), boxed = g_variant_get_child_value(v, 1), value = g_variant_get_variant(boxed);
    static const char letters[] = "iuxtdbs";
    char letter = *g_variant_get_type_string(value);
    const char *known = strchr(letters, letter);
    if (!known)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "typed parameter '%s' has type %c", g_variant_get_string(field, NULL), letter);
    if (!put_string(to, field, error))
        return false;
    rpc_put_u32(to, (guint32)(known - letters) + 1);
    switch (letter) {
    case 'i': rpc_put_u32(to, (guint32)g_variant_get_int32(value)); return true;
    case 'u': rpc_put_u32(to, g_variant_get_uint32(value)); return true;
    case 'x': rpc_put_u64(to, (guint64)g_variant_get_int64(value)); return true;
    case 't': rpc_put_u64(to, g_variant_get_uint64(value)); return true;
    case 'd': put_double(to, g_variant_get_double(value)); return true;
    case 'b': rpc_put_u32(to, g_variant_get_boolean(value)); return true;
    default: return put_string(to, value, error);
    }
}

static bool put_value(GByteArray *to, const char *p, GVariant *v, GError **error);

static bool put_tuple(GByteArray *to, const char *p, GVariant *v, GError **error)
{
    gsize n = g_variant_n_children(v);
    for (gsize i = 0; i < n; i++, p = rpc_skip(p)) {
        g_autoptr(GVariant) child = g_variant_get_child_value(v, i);
        if (!put_value(to, p, child, error))
            return false;
    }
    return true;
}

static bool put_list(GByteArray *to, const char *p, GVariant *v, GError **error)
{
    gsize n = g_variant_n_children(v);
    guint32 limit;
    p = rpc_limit(p, &limit);
    if (n > limit)
        return manage_fail(error, VIR_ERR_RPC, "a list of %zu items is too long for a message, the limit is %u", n, limit);
    rpc_put_u32(to, (guint32)n);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(v, i);
        if (!put_value(to, p, child, error))
            return false;
    }
    return true;
}

static bool put_maybe(GByteArray *to, const char *p, GVariant *v, GError **error)
{
    g_autoptr(GVariant) child = g_variant_get_maybe(v);
    rpc_put_u32(to, child != NULL);
    return !child || put_value(to, p, child, error);
}

static bool put_value(GByteArray *to, const char *p, GVariant *v, GError **error)
{
    const char *record = rpc_record(*p);
    if (record)
        return put_tuple(to, record + 1, v, error);
    switch (*p) {
    case 'i': rpc_put_u32(to, (guint32)g_variant_get_int32(v)); return true;
    case 'u': rpc_put_u32(to, g_variant_get_uint32(v)); return true;
    case 'x': rpc_put_u64(to, (guint64)g_variant_get_int64(v)); return true;
    case 't': rpc_put_u64(to, g_variant_get_uint64(v)); return true;
    case 'd': put_double(to, g_variant_get_double(v)); return true;
    case 'b': rpc_put_u32(to, g_variant_get_boolean(v)); return true;
    case 'y': rpc_put_u32(to, g_variant_get_byte(v)); return true;
    case 'q': rpc_put_u32(to, g_variant_get_uint16(v)); return true;
    case 's': return put_string(to, v, error);
    case 'U': return put_opaque(to, v, false, error);
    case 'O': return put_opaque(to, v, true, error);
    case 'C': put_chars(to, v); return true;
    case 'T': return put_param(to, v, error);
    case 'm': return put_maybe(to, p + 1, v, error);
    case 'a': return put_list(to, p + 1, v, error);
    case '(': return put_tuple(to, p + 1, v, error);
    default: return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "no such type letter: %s", p);
    }
}

bool rpc_encode(GByteArray *to, const char *letters, GVariant *v, GError **error)
{
    guint before = to->len;
    if (put_tuple(to, letters, v, error))
        return true;
    g_byte_array_set_size(to, before);
    return false;
}

bool rpc_put_string(GByteArray *to, const char *text, GError **error) { return put_text(to, text, strlen(text), error); }

void rpc_put_uuid(GByteArray *to, const guint8 uuid[16]) { put_bytes(to, uuid, 16); }

guint rpc_put_list(GByteArray *to)
{
    rpc_put_u32(to, 0);
    return to->len - 4;
}

void rpc_put_count(GByteArray *to, guint list, guint32 n)
{
    guint32 big = GUINT32_TO_BE(n);
    memcpy(to->data + list, &big, 4);
}
