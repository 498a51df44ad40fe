/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rows of replies as typed parameters: each type, sizes at which the serialised form has wider offsets, and rows that C cannot have. */
#include <string.h>

#include "manage/api/api.h"

/* The value of row i, as many kinds as there are, strings up to `longest` bytes. */
static GVariant *value(unsigned i, unsigned longest)
{
    g_autofree char *text = g_strnfill(i * 7919u % (longest + 1), 'x');
    switch (i % 7) {
    case 0: return g_variant_new_int32(-5 - (int)i);
    case 1: return g_variant_new_uint32(0xfffffff0u - i);
    case 2: return g_variant_new_int64(G_MININT64 + (int)i);
    case 3: return g_variant_new_uint64(G_MAXUINT64 - i);
    case 4: return g_variant_new_double(i / 3.0);
    case 5: return g_variant_new_boolean(i % 2);
    default: return g_variant_new_string(text);
    }
}

static void same(const virTypedParameter *p, GVariant *v)
{
    switch (p->type) {
    case VIR_TYPED_PARAM_INT: g_assert_cmpint(p->value.i, ==, g_variant_get_int32(v)); break;
    case VIR_TYPED_PARAM_UINT: g_assert_cmpuint(p->value.ui, ==, g_variant_get_uint32(v)); break;
    case VIR_TYPED_PARAM_LLONG: g_assert_cmpint(p->value.l, ==, g_variant_get_int64(v)); break;
    case VIR_TYPED_PARAM_ULLONG: g_assert_cmpuint(p->value.ul, ==, g_variant_get_uint64(v)); break;
    case VIR_TYPED_PARAM_DOUBLE: g_assert_cmpfloat(p->value.d, ==, g_variant_get_double(v)); break;
    case VIR_TYPED_PARAM_BOOLEAN: g_assert_cmpint(p->value.b, ==, g_variant_get_boolean(v)); break;
    default:
        g_assert_cmpint(p->type, ==, VIR_TYPED_PARAM_STRING);
        g_assert_cmpstr(p->value.s, ==, g_variant_get_string(v, NULL));
    }
}

static GVariant *list_of(unsigned n, unsigned longest)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("row.%u%.*s", i, (int)(i % 60), "............................................................");
        g_variant_builder_add(&b, "(sv)", name, value(i, longest));
    }
    return g_variant_ref_sink(g_variant_builder_end(&b));
}

static void check_rows(const virTypedParameter *params, GVariant *list)
{
    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        const char *name;
        g_autoptr(GVariant) v = NULL;
        g_variant_get_child(list, i, "(&sv)", &name, &v);
        g_assert_cmpstr(params[i].field, ==, name);
        same(&params[i], v);
    }
}

static void test_rows(void)
{
    static const struct { unsigned n, longest; } sizes[] = { { 0, 0 }, { 1, 9 }, { 7, 3 }, { 8, 300 }, { 40, 70000 }, { 3000, 30 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GVariant) list = list_of(sizes[i].n, sizes[i].longest);
        int n = -1;
        virTypedParameterPtr params = api_params_of(list, &n); /* as made by a driver in the program */
        g_assert_cmpint(n, ==, (int)sizes[i].n);
        check_rows(params, list);
        g_autoptr(GVariant) again = g_variant_ref_sink(api_params_variant(params, n));
        g_assert_true(g_variant_equal(again, list));
        virTypedParamsFree(params, n);
        /* and from bytes, some of which nobody vouches for */
        g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(list);
        g_autoptr(GVariant) foreign = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE("a(sv)"), bytes, FALSE));
        params = api_params_of(foreign, &n);
        check_rows(params, list);
        virTypedParamsFree(params, n);
    }
}

static void refused(GVariant *v, int code, const char *word)
{
    g_autoptr(GVariant) list = g_variant_ref_sink(v);
    virTypedParameter params[3];
    virResetLastError();
    g_assert_cmpint(api_params_fill(list, params, (int)g_variant_n_children(list)), ==, -1);
    g_assert_cmpint(virGetLastErrorCode(), ==, code);
    g_assert_nonnull(strstr(virGetLastErrorMessage(), word));
}

static void quiet(void *data, virErrorPtr error) { (void)data, (void)error; }

static void test_refused(void)
{
    virSetErrorFunc(NULL, quiet);
    refused(g_variant_new_parsed("[('good', <'text'>), ('bad', <b'bytes'>)]"), VIR_ERR_RPC, "'bad' has a type");
    refused(g_variant_new_parsed("[('good', <'text'>), ('bad', <()>)]"), VIR_ERR_RPC, "'bad' has a type");
    refused(g_variant_new_parsed("[('bad', <byte 3>)]"), VIR_ERR_RPC, "'bad' has a type");
    refused(g_variant_new_parsed("[('a name of eighty bytes or more: 3456789 123456789 123456789 123456789 123456789 123456789', <1>)]"), VIR_ERR_RPC, "too long");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/api/params/rows", test_rows);
    g_test_add_func("/api/params/refused", test_refused);
    return g_test_run();
}
