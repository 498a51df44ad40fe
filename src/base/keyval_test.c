/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/keyval.h"

#include <string.h>

static struct keyval *parse(const char *text, const char *implied)
{
    GError *error = NULL;
    struct keyval *kv = keyval_parse(text, implied, &error);
    g_assert_no_error(error);
    return kv;
}

static void test_rules(void)
{
    keyval_auto *a = parse("disk,,1.img,if=virtio,ro,path=a,,b=c", "file");
    g_assert_cmpstr(keyval_get(a, "file"), ==, "disk,1.img");
    g_assert_cmpstr(keyval_get(a, "if"), ==, "virtio");
    g_assert_cmpstr(keyval_get(a, "ro"), ==, "on");
    g_assert_cmpstr(keyval_get(a, "path"), ==, "a,b=c");
    g_assert_null(keyval_get(a, "none"));
    keyval_auto *r = parse("user,hostfwd=1,hostfwd=2", "type");
    g_assert_cmpuint(r->pairs->len, ==, 3);
    g_assert_cmpstr(keyval_get(r, "hostfwd"), ==, "2");
    keyval_auto *j = parse("{\"driver\":\"raw\",\"read-only\":true,\"file\":{\"driver\":\"file\",\"filename\":\"x,y\"},\"n\":[1,2]}", NULL);
    g_assert_cmpstr(keyval_get(j, "file.filename"), ==, "x,y");
    g_assert_cmpstr(keyval_get(j, "read-only"), ==, "on");
    g_assert_cmpstr(keyval_get(j, "n.1"), ==, "2");
    keyval_auto *file = keyval_take_nested(j, "file");
    g_assert_cmpuint(file->pairs->len, ==, 2);
    g_assert_null(keyval_get(j, "file.driver"));
    keyval_auto *f = parse("unix:x,server,nowait", "spec");
    g_autoptr(GHashTable) h = keyval_to_hash(f);
    g_assert_cmpstr(g_hash_table_lookup(h, "server"), ==, "on");
    g_assert_cmpstr(g_hash_table_lookup(h, "wait"), ==, "off");
}

static void test_bad(void)
{
    static const struct { const char *text, *message; } bad[] = {
        { "a=1,=2", "a parameter without name at '=2'" },
        { "a=1,,,b=2", NULL }, /* "a" is "1," and b is 2 */
        { "a=1,b,", NULL },
        { ",x", "an empty parameter; write ',,' for a comma inside a value" },
        { "{\"a\":null}", "JSON member 'a' is null" },
        { "{\"a\":1} x", "JSON: unexpected character" },
        { "{", "JSON: unexpected end of data" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        keyval_auto *kv = keyval_parse(bad[i].text, NULL, &error);
        g_assert_cmpstr(error ? error->message : NULL, ==, bad[i].message);
        g_assert(!kv == !!bad[i].message);
    }
}

static void test_values(void)
{
    static const struct { const char *text; uint64_t unit, value; bool ok; } sizes[] = {
        { "512", 1 << 20, 512ull << 20, true }, { "1G", 1 << 20, 1ull << 30, true }, { "1.5G", 1, 3ull << 29, true },
        { "64k", 1, 65536, true }, { "0x10", 1, 16, true }, { "0", 1, 0, true }, { "16E", 1, 0, false }, { "15E", 1, 15ull << 60, true },
        { "-1", 1, 0, false }, { "", 1, 0, false }, { "12x", 1, 0, false }, { "1GB", 1, 0, false }, { "1.", 1, 0, false },
        { "99999999999999999999", 1, 0, false }, { " 1", 1, 0, false }, { "nan", 1, 0, false },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        uint64_t v = 0;
        bool ok = keyval_size("size", sizes[i].text, sizes[i].unit, &v, NULL);
        if (ok != sizes[i].ok || v != sizes[i].value)
            g_error("size '%s': %d %" G_GUINT64_FORMAT, sizes[i].text, ok, v);
    }
    uint64_t u;
    g_assert_true(keyval_uint("x", "0x505", 0, 65535, &u, NULL) && u == 0x505);
    g_assert_false(keyval_uint("x", "65536", 0, 65535, &u, NULL));
    g_assert_false(keyval_uint("x", "-1", 0, 0, &u, NULL));
    g_assert_false(keyval_uint("x", "1a", 0, 0, &u, NULL));
}

struct target { char *s; bool b; uint64_t u; int e; GPtrArray *l; };
static const char *const colours[] = { "red", "green", NULL };
static const char *const off_only[] = { "off", NULL };
static const struct keyval_key keys[] = {
    { "name", KV_STRING, offsetof(struct target, s), "" },
    { "flag", KV_BOOL, offsetof(struct target, b), "" },
    { "count", KV_UINT, offsetof(struct target, u), "", NULL, 1, 9 },
    { "colour", KV_ENUM, offsetof(struct target, e), "", colours },
    { "list", KV_LIST, offsetof(struct target, l), "" },
    { "snapshot", KV_ONLY, 0, "it comes with the image formats", off_only },
    { "old", KV_REFUSED, 0, "use name=" },
    { NULL }
};

static void test_load(void)
{
    static const struct { const char *text, *message; } lines[] = {
        { "name=a,name=b,flag,count=3,colour=green,list=1,list=2,snapshot=off", NULL },
        { "noflag", NULL },
        { "name", "Parameter 'name' needs a value: name=..." },
        { "count=10", "Parameter 'count' must lie between 1 and 9, not 10" },
        { "count=x", "Parameter 'count' expects a number, not 'x'" },
        { "flag=maybe", "Parameter 'flag' expects 'on' or 'off', not 'maybe'" },
        { "colour=blue", "Parameter 'colour' does not accept 'blue'; there are: 'red', 'green'" },
        { "snapshot=on", "Parameter 'snapshot=on' is not available: it comes with the image formats" },
        { "old=1", "Parameter 'old' is not available: use name=" },
        { "color=red", "Invalid parameter 'color'; did you mean 'colour'? there are: name, flag, count, colour, list, snapshot" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        struct target t = { .b = i == 1 };
        g_autoptr(GError) error = NULL;
        keyval_auto *kv = parse(lines[i].text, NULL);
        bool ok = keyval_load(kv, keys, &t, &error);
        g_assert_cmpstr(error ? error->message : NULL, ==, lines[i].message);
        g_assert(ok == !lines[i].message);
        if (!i) {
            g_assert_cmpstr(t.s, ==, "b");
            g_assert(t.b && t.u == 3 && t.e == 1 && t.l->len == 2);
        } else if (i == 1) {
            g_assert_false(t.b);
        }
        g_free(t.s);
        g_clear_pointer(&t.l, g_ptr_array_unref);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keyval/rules", test_rules);
    g_test_add_func("/keyval/bad", test_bad);
    g_test_add_func("/keyval/values", test_values);
    g_test_add_func("/keyval/load", test_load);
    return g_test_run();
}
