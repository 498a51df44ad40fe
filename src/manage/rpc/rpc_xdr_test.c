/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec: bytes as RFC 4506 says, every procedure's layout there and back, hostile bytes. */
#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_proc.h"
#include "manage/rpc/rpc_xdr.h"

static void types(void)
{
    static const char *const pairs[][2] = {
        { "", "()" }, { "su", "(su)" }, { "Du", "((sayi)u)" }, { "a16384Du", "(a(sayi)u)" }, { "msmD", "(msm(sayi))" }, { "a16384(Da262144T)", "(a((sayi)a(sv)))" },
        { "Ctii", "(stii)" }, { "Zi(s)O", "((s(sayi))i(s)ay)" }, { "a64(a4097yi)i", "(a(ayi)i)" }, { "imS", "(im(ayis))" }, { "Niu", "((say)iu)" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autofree char *type = rpc_gvariant_type(pairs[i][0]);
        g_assert_cmpstr(type, ==, pairs[i][1]);
    }
}

static void expect_bytes(const char *letters, const char *text, const void *bytes, gsize size)
{
    g_autoptr(GByteArray) to = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new_parsed(text));
    g_assert_true(rpc_encode(to, letters, v, &error));
    g_assert_cmpmem(to->data, to->len, bytes, size);
    g_autoptr(GVariant) back = rpc_decode(letters, bytes, size, &error);
    g_assert_no_error(error);
    g_assert_true(g_variant_equal(v, back));
}

#define BYTES(s) s, sizeof(s) - 1
static void bytes(void)
{
    expect_bytes("su", "('abcde', uint32 258)", BYTES("\0\0\0\5abcde\0\0\0\0\0\1\2"));
    expect_bytes("msi", "(@ms nothing, -1)", BYTES("\0\0\0\0\377\377\377\377"));
    expect_bytes("msi", "(@ms 'x', 1)", BYTES("\0\0\0\1\0\0\0\1x\0\0\0\0\0\0\1"));
    expect_bytes("yqb", "(byte 7, uint16 9, true)", BYTES("\0\0\0\7\0\0\0\11\0\0\0\1"));
    expect_bytes("a8x", "([int64 1, -2],)", BYTES("\0\0\0\2\0\0\0\0\0\0\0\1\377\377\377\377\377\377\377\376"));
    expect_bytes("a8T", "([('a', <uint32 1>), ('b', <'z'>), ('d', <1.0>)],)",
                 BYTES("\0\0\0\3\0\0\0\1a\0\0\0\0\0\0\2\0\0\0\1\0\0\0\1b\0\0\0\0\0\0\7\0\0\0\1z\0\0\0\0\0\0\1d\0\0\0\0\0\0\5\77\360\0\0\0\0\0\0"));
    expect_bytes("N", "(('n', [byte 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]),)", BYTES("\0\0\0\1n\0\0\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20"));
    expect_bytes("O", "([byte 1,2,3],)", BYTES("\0\0\0\3\1\2\3\0"));
}

/* As the C library's XDR routines read it: what is not 0 is true, and there. */
static void any_truth(void)
{
    g_autoptr(GVariant) v = rpc_decode("msb", BYTES("\1\0\0\0\0\0\0\1x\0\0\0\0\0\0\2"), NULL);
    g_autoptr(GVariant) wanted = g_variant_ref_sink(g_variant_new_parsed("(@ms 'x', true)"));
    g_assert_nonnull(v);
    g_assert_true(g_variant_equal(v, wanted));
}

static void refused(void)
{
    static const struct { const char *letters, *bytes; gsize size; const char *message; } bad[] = {
        { "s", BYTES("\0\0\0\5abc"), "short" },
        { "s", BYTES("\377\377\377\377abcd"), "over the limit" },
        { "s", BYTES("\0\0\0\1\377\0\0\0"), "UTF-8" },
        { "s", BYTES("\0\0\0\2a\0\0\0"), "UTF-8" },
        { "u", BYTES("\0\0\0"), "short" },
        { "a20i", BYTES("\0\0\0\25"), "over the limit of 20" },
        { "a20i", BYTES("\0\0\0\24\0\0\0\1"), "short" },
        { "a16384D", BYTES("\0\0\77\377\0\0\0\1"), "short" },
        { "a8T", BYTES("\0\0\0\1\0\0\0\1a\0\0\0\0\0\0\11\0\0\0\0"), "unknown type 9" },
        { "D", BYTES("\0\0\0\0\0\0\0\0"), "short" },
        { "C", BYTES("abcd"), "short" },
        { "O", BYTES("\1\0\0\0"), "over the limit" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(rpc_decode(bad[i].letters, bad[i].bytes, bad[i].size, &error));
        g_assert_error(error, MANAGE_ERROR, VIR_ERR_RPC);
        if (!strstr(error->message, bad[i].message))
            g_error("%s: '%s' lacks '%s'", bad[i].letters, error->message, bad[i].message);
    }
    g_autoptr(GByteArray) to = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new_parsed("('abc', ['a', 'b', 'c'])"));
    g_assert_false(rpc_encode(to, "sa2s", v, &error));
    g_assert_nonnull(strstr(error->message, "limit is 2"));
    g_assert_cmpuint(to->len, ==, 0);
}

/* A message made piece by piece is the message as a whole; what is refused leaves no trace. */
static void pieces(void)
{
    static const guint8 uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
    static const struct { const char *name; guint32 number; guint64 big; } rows[] = { { "abc", 1, 2 }, { "", 3, G_MAXUINT64 }, { "de", G_MAXUINT32, 4 } };
    g_autoptr(GByteArray) made = g_byte_array_new(), whole = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new_parsed("([('abc', [byte 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], @u 1, @t 2), ('', [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], "
                                                                    "3, 18446744073709551615), ('de', [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], 4294967295, 4)], @u 7)"));
    g_assert_true(rpc_encode(whole, "a3(sUut)u", v, NULL));
    guint list = rpc_put_list(made);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_true(rpc_put_string(made, rows[i].name, NULL));
        rpc_put_uuid(made, uuid);
        rpc_put_u32(made, rows[i].number);
        rpc_put_u64(made, rows[i].big);
    }
    rpc_put_count(made, list, G_N_ELEMENTS(rows));
    rpc_put_u32(made, 7);
    g_assert_cmpmem(made->data, made->len, whole->data, whole->len);
    g_autofree char *long_text = g_strnfill(RPC_STRING_MAX + 1, 'x');
    g_assert_false(rpc_put_string(made, long_text, &error));
    g_assert_nonnull(strstr(error->message, "too long"));
    g_assert_cmpmem(made->data, made->len, whole->data, whole->len);
}

/* ---- every layout with random values ---- */

static GVariant *random_value(GRand *r, const char *p);

static GVariant *random_tuple(GRand *r, const char *p)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE_TUPLE);
    for (; *p && *p != ')'; p = rpc_skip(p))
        g_variant_builder_add_value(&b, random_value(r, p));
    return g_variant_builder_end(&b);
}

static GVariant *random_string(GRand *r, int max)
{
    GString *s = g_string_new(NULL);
    for (int n = g_rand_int_range(r, 0, max); n > 0; n--)
        g_string_append_c(s, (char)g_rand_int_range(r, 'a', 'z'));
    return g_variant_new_take_string(g_string_free(s, FALSE));
}

static GVariant *random_opaque(GRand *r, gsize n)
{
    guint8 data[600];
    for (gsize i = 0; i < n; i++)
        data[i] = (guint8)g_rand_int(r);
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, n, 1);
}

static GVariant *random_list(GRand *r, const char *p)
{
    GVariantBuilder b;
    guint32 limit;
    p = rpc_limit(p, &limit);
    g_autofree char *letters = g_strndup(p, (gsize)(rpc_skip(p) - p)), *item = rpc_gvariant_type(letters);
    item[strlen(item) - 1] = 0;
    g_autofree char *type = g_strconcat("a", item + 1, NULL);
    g_variant_builder_init(&b, G_VARIANT_TYPE(type));
    for (int n = g_rand_int_range(r, 0, g_rand_int_range(r, 0, 10) ? 4 : MIN(300, (int)limit)); n > 0; n--)
        g_variant_builder_add_value(&b, random_value(r, p));
    return g_variant_builder_end(&b);
}

static GVariant *random_maybe(GRand *r, const char *p)
{
    g_autofree char *letters = g_strndup(p, (gsize)(rpc_skip(p) - p)), *type = rpc_gvariant_type(letters);
    type[strlen(type) - 1] = 0;
    return g_variant_new_maybe(G_VARIANT_TYPE(type + 1), g_rand_boolean(r) ? random_value(r, p) : NULL);
}

static GVariant *random_value(GRand *r, const char *p)
{
    const char *record = rpc_record(*p);
    if (record)
        return random_tuple(r, record + 1);
    switch (*p) {
    case 'i': return g_variant_new_int32((gint32)g_rand_int(r));
    case 'u': return g_variant_new_uint32(g_rand_int(r));
    case 'x': return g_variant_new_int64((gint64)g_rand_int(r) << 30);
    case 't': return g_variant_new_uint64((guint64)g_rand_int(r) << 32 | g_rand_int(r));
    case 'd': return g_variant_new_double(g_rand_double(r));
    case 'b': return g_variant_new_boolean(g_rand_boolean(r));
    case 'y': return g_variant_new_byte((guint8)g_rand_int(r));
    case 'q': return g_variant_new_uint16((guint16)g_rand_int(r));
    case 's': return random_string(r, g_rand_int_range(r, 0, 20) ? 20 : 70000);
    case 'C': return random_string(r, 31);
    case 'U': return random_opaque(r, 16);
    case 'O': return random_opaque(r, (gsize)g_rand_int_range(r, 0, 600));
    case 'T': {
        char letter[2] = { "iuxtdbs"[g_rand_int_range(r, 0, 7)], 0 };
        return g_variant_new("(@sv)", random_string(r, 12), random_value(r, letter));
    }
    case 'm': return random_maybe(r, p + 1);
    case 'a': return random_list(r, p + 1);
    case '(': return random_tuple(r, p + 1);
    default: g_error("letter %c", *p);
    }
}

static void there_and_back(GRand *r, const struct rpc_proc *p, const char *letters, const char *type)
{
    g_autoptr(GVariant) v = g_variant_ref_sink(random_tuple(r, letters));
    g_autoptr(GByteArray) wire = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    gsize used = 0;
    g_assert_cmpstr(g_variant_get_type_string(v), ==, type);
    g_assert_true(rpc_encode(wire, letters, v, &error));
    g_autoptr(GVariant) back = rpc_decode_as(letters, type, wire->data, wire->len, &used, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(used, ==, wire->len);
    g_assert_cmpuint(wire->len % 4, ==, 0);
    /* The bytes are what GLib itself would have written, so that calling them trusted is right. */
    g_assert_cmpmem(g_variant_get_data(back), g_variant_get_size(back), g_variant_get_data(v), g_variant_get_size(v));
    g_autoptr(GBytes) copy = g_bytes_new(g_variant_get_data(back), g_variant_get_size(back));
    g_autoptr(GVariant) untrusted = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(type), copy, FALSE));
    if (!g_variant_is_normal_form(untrusted))
        g_error("%s: %s is not in normal form", p->name, letters);
    for (gsize cut = 0; cut < MIN(wire->len, 300); cut++) { /* every truncation is refused */
        g_clear_error(&error);
        g_assert_null(rpc_decode_as(letters, type, wire->data, cut, NULL, &error));
        g_assert_nonnull(error);
    }
}

static void all_layouts(void)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(5);
    unsigned n = 0;
    for (unsigned i = 0; i < RPC_NPROCS; i++) {
        const struct rpc_proc *p = rpc_proc(i);
        for (unsigned round = 0; p && round < 20; round++) {
            there_and_back(r, p, p->args, p->args_type);
            there_and_back(r, p, p->ret, p->ret_type);
        }
        n += p != NULL;
    }
    g_assert_cmpuint(n, >, 440);
}

static void random_bytes(void)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(7);
    for (unsigned round = 0; round < 200; round++) {
        guint8 data[256];
        for (unsigned i = 0; i < sizeof(data); i++) /* mostly small numbers, so that counts and lengths often pass */
            data[i] = (i & 3) < 3 ? 0 : (guint8)(g_rand_int(r) & (g_rand_boolean(r) ? 7 : 255));
        for (unsigned i = 0; i < RPC_NPROCS; i++) {
            const struct rpc_proc *p = rpc_proc(i);
            g_autoptr(GVariant) v = p ? rpc_decode(p->args, data, sizeof(data), NULL) : NULL;
            if (!v)
                continue;
            g_autoptr(GByteArray) again = g_byte_array_new();
            g_autoptr(GError) error = NULL;
            g_assert_true(rpc_encode(again, p->args, v, &error));
        }
    }
}

static void programs(void)
{
    g_assert_cmpuint(rpc_proc_on_wire(RPC_REMOTE_PROGRAM, 9)->number, ==, RPC_DOMAIN_CREATE);
    g_assert_cmpuint(rpc_proc_on_wire(RPC_QEMU_PROGRAM, 1)->number, ==, RPC_QEMU_DOMAIN_MONITOR_COMMAND);
    g_assert_cmpuint(rpc_proc_on_wire(RPC_QEMU_PROGRAM, 3)->wire, ==, 3);
    g_assert_null(rpc_proc_on_wire(RPC_REMOTE_PROGRAM, RPC_QEMU_DOMAIN_MONITOR_COMMAND));
    g_assert_null(rpc_proc_on_wire(RPC_QEMU_PROGRAM, 8));
    g_assert_null(rpc_proc_on_wire(RPC_QEMU_PROGRAM, 0xffffffff));
    g_assert_null(rpc_proc_on_wire(0, 1));
    g_assert_null(rpc_proc(0));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xdr/types", types);
    g_test_add_func("/xdr/bytes", bytes);
    g_test_add_func("/xdr/any-truth", any_truth);
    g_test_add_func("/xdr/refused", refused);
    g_test_add_func("/rpc/xdr/pieces", pieces);
    g_test_add_func("/xdr/all-layouts", all_layouts);
    g_test_add_func("/xdr/random-bytes", random_bytes);
    g_test_add_func("/xdr/programs", programs);
    return g_test_run();
}
