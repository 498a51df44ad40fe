/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Storage of the test driver: what pools hold. A volume is its document; its bytes do not exist. */
#include <string.h>

#include "manage/drivers/test/test.h"

#define POOL_BYTES (100ull << 30)

static uint64_t bytes_of(const struct test_object *v, const char *path)
{
    uint64_t n = 0;
    el_get_bytes(doc_root(v->def), path, "bytes", &n);
    return n;
}

static uint64_t used(struct test *t, const struct test_object *pool)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < t->objects[TEST_VOLUME]->len; i++) {
        const struct test_object *v = t->objects[TEST_VOLUME]->pdata[i];
        if (!strcmp(v->pool, pool->name))
            n += bytes_of(v, "capacity");
    }
    return n;
}

static struct test_object *active_pool(struct manage_call *c, struct test *t, GError **error)
{
    struct test_object *p = test_arg(c, t, TEST_POOL, error);
    return p && test_want(p, TEST_POOL, true, error) ? p : NULL;
}

LOCKED(pool_info)
{
    struct test_object *p = test_arg(c, t, TEST_POOL, error);
    if (!p)
        return NULL;
    uint64_t n = p->active ? MIN(used(t, p), POOL_BYTES) : 0;
    return g_variant_new("(yttt)", (uint8_t)(p->active ? VIR_STORAGE_POOL_RUNNING : VIR_STORAGE_POOL_INACTIVE), POOL_BYTES, n, POOL_BYTES - n);
}

LOCKED(nothing) { return test_arg(c, t, TEST_POOL, error) ? manage_void() : NULL; }

/* ---- volumes ---- */

/* Volumes of a pool, as records or as names. */
static GVariant *volumes(struct test *t, const struct test_object *pool, bool names, unsigned max, unsigned *ret_n)
{
    GVariantBuilder b;
    *ret_n = 0;
    g_variant_builder_init(&b, names ? G_VARIANT_TYPE("as") : G_VARIANT_TYPE("a(sss)"));
    for (unsigned i = 0; i < t->objects[TEST_VOLUME]->len; i++) {
        const struct test_object *v = t->objects[TEST_VOLUME]->pdata[i];
        if (strcmp(v->pool, pool->name))
            continue;
        if ((*ret_n)++ < max)
            g_variant_builder_add_value(&b, names ? g_variant_new_string(v->name) : test_record(v));
    }
    return g_variant_builder_end(&b);
}

LOCKED(num)
{
    struct test_object *p = active_pool(c, t, error);
    unsigned n;
    if (!p)
        return NULL;
    g_autoptr(GVariant) all = g_variant_ref_sink(volumes(t, p, true, 0, &n));
    return g_variant_new("(i)", (int)n);
}

LOCKED(names)
{
    struct test_object *p = active_pool(c, t, error);
    unsigned n;
    int max;
    if (!p)
        return NULL;
    g_variant_get_child(c->args, 1, "i", &max);
    return g_variant_new("(@as)", volumes(t, p, true, (unsigned)MAX(max, 0), &n));
}

LOCKED(list_all)
{
    struct test_object *p = active_pool(c, t, error);
    unsigned n;
    int results;
    if (!p)
        return NULL;
    g_variant_get_child(c->args, 1, "i", &results);
    GVariant *list = volumes(t, p, false, results ? G_MAXUINT : 0, &n);
    return g_variant_new("(@a(sss)u)", list, n);
}

LOCKED(create)
{
    struct test_object *p = active_pool(c, t, error);
    const char *xml;
    if (!p)
        return NULL;
    g_variant_get_child(c->args, 1, "&s", &xml);
    doc_auto *d = doc_parse(&schema_volume, xml, -1, error);
    const char *name = d ? el_get(doc_root(d), "name") : NULL;
    if (!d)
        return NULL;
    if (name && test_find(t, TEST_VOLUME, name))
        return manage_null(error, VIR_ERR_STORAGE_VOL_EXIST, "storage volume '%s' exists already", name);
    struct test_object *v = test_define(t, TEST_VOLUME, xml, true, error);
    if (!v)
        return NULL;
    v->pool = g_strdup(p->name);
    if (used(t, p) > POOL_BYTES) {
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "pool '%s' has not enough space left for volume '%s'", p->name, v->name);
        test_remove(t, v);
        return NULL;
    }
    return g_variant_new("(@(sss))", test_record(v));
}

LOCKED(lookup)
{
    struct test_object *p = active_pool(c, t, error);
    const char *name;
    if (!p)
        return NULL;
    g_variant_get_child(c->args, 1, "&s", &name);
    struct test_object *v = test_find(t, TEST_VOLUME, name);
    if (!v || strcmp(v->pool, p->name))
        return manage_null(error, VIR_ERR_NO_STORAGE_VOL, "no storage vol with matching name '%s'", name);
    return g_variant_new("(@(sss))", test_record(v));
}

LOCKED(lookup_path)
{
    const char *path;
    g_variant_get_child(c->args, 0, "&s", &path);
    for (unsigned i = 0; i < t->objects[TEST_VOLUME]->len; i++) {
        const struct test_object *v = t->objects[TEST_VOLUME]->pdata[i];
        g_autofree char *own = g_strdup_printf("/%s/%s", v->pool, v->name);
        if (!strcmp(own, path))
            return g_variant_new("(@(sss))", test_record(v));
    }
    return manage_null(error, VIR_ERR_NO_STORAGE_VOL, "no storage vol with matching path '%s'", path);
}

LOCKED(pool_of_volume)
{
    struct test_object *v = test_arg(c, t, TEST_VOLUME, error);
    struct test_object *p = v ? test_find(t, TEST_POOL, v->pool) : NULL;
    return p ? g_variant_new("(@(say))", test_record(p)) : NULL;
}

LOCKED(delete)
{
    struct test_object *v = test_arg(c, t, TEST_VOLUME, error);
    if (!v)
        return NULL;
    test_remove(t, v);
    return manage_void();
}

LOCKED(volume_info)
{
    struct test_object *v = test_arg(c, t, TEST_VOLUME, error);
    return v ? g_variant_new("(ytt)", (uint8_t)VIR_STORAGE_VOL_FILE, bytes_of(v, "capacity"), bytes_of(v, "allocation")) : NULL;
}

LOCKED(volume_xml)
{
    struct test_object *v = test_arg(c, t, TEST_VOLUME, error);
    if (!v)
        return NULL;
    g_autofree char *xml = doc_format(v->def);
    return g_variant_new("(s)", xml);
}

LOCKED(volume_path)
{
    struct test_object *v = test_arg(c, t, TEST_VOLUME, error);
    g_autofree char *path = v ? g_strdup_printf("/%s/%s", v->pool, v->name) : NULL;
    return v ? g_variant_new("(s)", path) : NULL;
}

const struct manage_row test_storage_rows[] = {
    { RPC_STORAGE_POOL_GET_INFO, pool_info },
    { RPC_STORAGE_POOL_BUILD, nothing },
    { RPC_STORAGE_POOL_REFRESH, nothing },
    { RPC_STORAGE_POOL_DELETE, nothing },
    { RPC_STORAGE_POOL_NUM_OF_VOLUMES, num },
    { RPC_STORAGE_POOL_LIST_VOLUMES, names },
    { RPC_STORAGE_POOL_LIST_ALL_VOLUMES, list_all },
    { RPC_STORAGE_POOL_LOOKUP_BY_VOLUME, pool_of_volume },
    { RPC_STORAGE_VOL_CREATE_XML, create },
    { RPC_STORAGE_VOL_LOOKUP_BY_NAME, lookup },
    { RPC_STORAGE_VOL_LOOKUP_BY_PATH, lookup_path },
    { RPC_STORAGE_VOL_LOOKUP_BY_KEY, lookup_path },
    { RPC_STORAGE_VOL_DELETE, delete },
    { RPC_STORAGE_VOL_GET_INFO, volume_info },
    { RPC_STORAGE_VOL_GET_XML_DESC, volume_xml },
    { RPC_STORAGE_VOL_GET_PATH, volume_path },
    { 0, NULL },
};
