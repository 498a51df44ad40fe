/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XDR to GVariant. The bytes of a GVariant (its specification, section 2.3: alignment, framing offsets) are written directly, in one pass and one
 * buffer: several times faster than builders, and every call that arrives passes here. Framing offsets of a container wait on a stack until its
 * size is known.
 */
#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_xdr.h"

struct decoder {
    const guint8 *at, *end; /* what is left of the message */
    guint8 *out;            /* the GVariant's bytes */
    gsize len, room;
    GArray *ends;           /* gsize: where members of open containers end */
    GError **error;
};

/* ---- shape of types ---- */

struct shape {
    unsigned align;
    bool fixed;
};

static struct shape shape_of(const char *p);

static struct shape shape_of_members(const char *p)
{
    struct shape s = { 1, true };
    for (; *p && *p != ')'; p = rpc_skip(p)) {
        struct shape m = shape_of(p);
        s.align = MAX(s.align, m.align);
        s.fixed = s.fixed && m.fixed;
    }
    return s;
}

static struct shape shape_of(const char *p)
{
    guint32 limit;
    const char *record = rpc_record(*p);
    if (record)
        return shape_of_members(record + 1);
    switch (*p) {
    case 'i': case 'u': return (struct shape){ 4, true };
    case 'x': case 't': case 'd': return (struct shape){ 8, true };
    case 'b': case 'y': return (struct shape){ 1, true };
    case 'q': return (struct shape){ 2, true };
    case 'T': return (struct shape){ 8, false };
    case 'm': return (struct shape){ shape_of(p + 1).align, false };
    case 'a': return (struct shape){ shape_of(rpc_limit(p + 1, &limit)).align, false };
    case '(': return shape_of_members(p + 1);
    default: return (struct shape){ 1, false }; /* s U O C */
    }
}

/* ---- output ---- */

static guint8 *reserve(struct decoder *d, gsize n)
{
    if (d->room - d->len < n) {
        d->room = (d->room + n) * 2;
        d->out = g_realloc(d->out, d->room);
    }
    guint8 *at = d->out + d->len;
    d->len += n;
    return at;
}

static void pad(struct decoder *d, unsigned align)
{
    gsize n = -d->len & (align - 1);
    memset(reserve(d, n), 0, n);
}

static void out(struct decoder *d, const void *data, gsize n) { memcpy(reserve(d, n), data, n); }
static void out_zero(struct decoder *d) { *reserve(d, 1) = 0; }

/* The offsets of the container that began at `start`, from the stack above `base`; a tuple's stand in reverse order. */
static void finish_container(struct decoder *d, gsize start, guint base, bool reversed)
{
    gsize n = d->ends->len - base, body = d->len - start;
    unsigned size = body + n <= 0xff ? 1 : body + 2 * n <= 0xffff ? 2 : body + 4 * n <= 0xffffffff ? 4 : 8;
    for (gsize i = 0; i < n; i++) {
        guint64 end = GUINT64_TO_LE(g_array_index(d->ends, gsize, base + (reversed ? n - 1 - i : i)) - start);
        out(d, &end, size);
    }
    g_array_set_size(d->ends, base);
}

/* ---- input ---- */

static bool need(struct decoder *d, gsize n)
{
    if ((gsize)(d->end - d->at) >= n)
        return true;
    return manage_fail(d->error, VIR_ERR_RPC, "Unable to decode message payload: it is too short");
}

static bool get32(struct decoder *d, guint32 *ret)
{
    if (!need(d, 4))
        return false;
    memcpy(ret, d->at, 4);
    *ret = GUINT32_FROM_BE(*ret);
    d->at += 4;
    return true;
}

static bool read32(struct decoder *d)
{
    guint32 v;
    if (!get32(d, &v))
        return false;
    out(d, &v, 4);
    return true;
}

static bool read64(struct decoder *d)
{
    guint64 v;
    if (!need(d, 8))
        return false;
    memcpy(&v, d->at, 8);
    v = GUINT64_FROM_BE(v);
    d->at += 8;
    out(d, &v, 8);
    return true;
}

static bool read_small(struct decoder *d, unsigned size)
{
    guint32 v;
    if (!get32(d, &v))
        return false;
    guint16 s = (guint16)v;
    guint8 c = (guint8)v;
    out(d, size == 2 ? (const void *)&s : (const void *)&c, size);
    return true;
}

static bool read_bool(struct decoder *d)
{
    guint32 v;
    if (!get32(d, &v))
        return false;
    *reserve(d, 1) = v != 0;
    return true;
}

/* Opens `n` bytes and their padding. */
static const guint8 *take(struct decoder *d, guint32 n, guint32 limit)
{
    if (n > limit)
        return manage_null(d->error, VIR_ERR_RPC, "Unable to decode message payload: a length of %u bytes is over the limit of %u", n, limit);
    gsize padded = ((gsize)n + 3) & ~(gsize)3;
    if (!need(d, padded))
        return NULL;
    const guint8 *at = d->at;
    d->at += padded;
    return at;
}

static bool read_string(struct decoder *d)
{
    guint32 n;
    const guint8 *s;
    if (!get32(d, &n) || !(s = take(d, n, RPC_STRING_MAX)))
        return false;
    if (!g_utf8_validate_len((const char *)s, n, NULL))
        return manage_fail(d->error, VIR_ERR_RPC, "Unable to decode message payload: a string is not valid UTF-8");
    out(d, s, n);
    out_zero(d);
    return true;
}

static bool read_opaque(struct decoder *d, bool counted)
{
    guint32 n = 16;
    const guint8 *s;
    if ((counted && !get32(d, &n)) || !(s = take(d, n, RPC_OPAQUE_MAX)))
        return false;
    out(d, s, n);
    return true;
}

/* char[32] as a string: up to the first NUL, ASCII. */
static bool read_chars(struct decoder *d)
{
    if (!need(d, 128))
        return false;
    for (unsigned i = 0; i < 31 && d->at[4 * i + 3]; i++)
        *reserve(d, 1) = d->at[4 * i + 3] < 128 ? d->at[4 * i + 3] : '?';
    d->at += 128;
    out_zero(d);
    return true;
}

static bool read_value(struct decoder *d, const char *p);

/* (sv): the field, then the value aligned to 8 with its type behind it, then where the field ends. */
static bool read_param(struct decoder *d)
{
    gsize start = d->len;
    guint32 type;
    if (!read_string(d) || !get32(d, &type))
        return false;
    gsize end = d->len;
    if (type < 1 || type > 7)
        return manage_fail(d->error, VIR_ERR_RPC, "Unable to decode message payload: a typed parameter has the unknown type %u", type);
    char letter[2] = { "iuxtdbs"[type - 1], 0 };
    pad(d, 8);
    if (!read_value(d, letter))
        return false;
    out_zero(d);
    out(d, letter, 1);
    guint base = d->ends->len;
    g_array_append_val(d->ends, end);
    finish_container(d, start, base, true);
    return true;
}

static bool read_maybe(struct decoder *d, const char *p)
{
    guint32 there;
    if (!get32(d, &there))
        return false;
    if (!there) /* any other number says that it is there: go-libvirt sends 0x01000000 */
        return true;
    bool fixed = shape_of(p).fixed;
    if (!read_value(d, p))
        return false;
    if (!fixed)
        out_zero(d);
    return true;
}

static bool read_list(struct decoder *d, const char *p)
{
    guint32 n, limit;
    p = rpc_limit(p, &limit);
    if (!get32(d, &n))
        return false;
    if (n > limit)
        return manage_fail(d->error, VIR_ERR_RPC, "Unable to decode message payload: a list of %u items is over the limit of %u", n, limit);
    if (!need(d, (gsize)n * 4)) /* no item takes less */
        return false;
    struct shape s = shape_of(p);
    gsize start = d->len;
    guint base = d->ends->len;
    for (guint32 i = 0; i < n; i++) {
        pad(d, s.align);
        if (!read_value(d, p))
            return false;
        if (!s.fixed)
            g_array_append_val(d->ends, d->len);
    }
    finish_container(d, start, base, false);
    return true;
}

/* Members up to ')' or the end of the letters. */
static bool read_tuple(struct decoder *d, const char *p)
{
    gsize start = d->len;
    guint base = d->ends->len;
    struct shape whole = { 1, true };
    if (!*p || *p == ')') {
        out_zero(d); /* the unit tuple is one byte */
        return true;
    }
    while (*p && *p != ')') {
        const char *next = rpc_skip(p);
        struct shape s = shape_of(p);
        whole.align = MAX(whole.align, s.align);
        whole.fixed = whole.fixed && s.fixed;
        pad(d, s.align);
        if (!read_value(d, p))
            return false;
        if (!s.fixed && *next && *next != ')')
            g_array_append_val(d->ends, d->len);
        p = next;
    }
    if (whole.fixed)
        pad(d, whole.align);
    else
        finish_container(d, start, base, true);
    return true;
}

static bool read_value(struct decoder *d, const char *p)
{
    const char *record = rpc_record(*p);
    if (record)
        return read_tuple(d, record + 1);
    switch (*p) {
    case 'i': case 'u': return read32(d);
    case 'x': case 't': case 'd': return read64(d);
    case 'b': return read_bool(d);
    case 'y': return read_small(d, 1);
    case 'q': return read_small(d, 2);
    case 's': return read_string(d);
    case 'U': return read_opaque(d, false);
    case 'O': return read_opaque(d, true);
    case 'C': return read_chars(d);
    case 'T': return read_param(d);
    case 'm': return read_maybe(d, p + 1);
    case 'a': return read_list(d, p + 1);
    case '(': return read_tuple(d, p + 1);
    default: return manage_fail(d->error, VIR_ERR_INTERNAL_ERROR, "no such type letter: %s", p);
    }
}

GVariant *rpc_decode_as(const char *letters, const char *type, const void *data, gsize size, gsize *ret_used, GError **error)
{
    static const guint8 nothing[1];
    const guint8 *at = size ? data : nothing;
    gsize room = size + size / 2 + 16; /* strings get a NUL each, and offsets: seldom more */
    struct decoder d = { at, at + size, g_malloc(room), 0, room, NULL, error };
    d.ends = g_array_new(FALSE, FALSE, sizeof(gsize));
    bool ok = read_tuple(&d, letters);
    g_array_free(d.ends, TRUE);
    if (!ok) {
        g_free(d.out);
        return NULL;
    }
    if (ret_used)
        *ret_used = (gsize)(d.at - at);
    return g_variant_ref_sink(g_variant_new_from_data(G_VARIANT_TYPE(type), d.out, d.len, TRUE, g_free, d.out));
}

GVariant *rpc_decode(const char *letters, const void *data, gsize size, GError **error)
{
    g_autofree char *type = rpc_gvariant_type(letters);
    return rpc_decode_as(letters, type, data, size, NULL, error);
}
