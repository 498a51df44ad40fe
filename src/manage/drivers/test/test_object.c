/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is the same for all kinds of objects: finding, defining, listing. */
#include <string.h>

#include "manage/drivers/test/test.h"

static const struct {
    const char *what;
    const struct schema *schema;
    int missing; /* error */
    enum manage_class class;
} kinds[TEST_NKINDS] = {
    [TEST_DOMAIN] = { "domain", &schema_domain, VIR_ERR_NO_DOMAIN, MANAGE_DOMAIN },
    [TEST_NETWORK] = { "network", &schema_network, VIR_ERR_NO_NETWORK, MANAGE_NETWORK },
    [TEST_POOL] = { "storage pool", &schema_pool, VIR_ERR_NO_STORAGE_POOL, MANAGE_POOL },
    [TEST_VOLUME] = { "storage volume", &schema_volume, VIR_ERR_NO_STORAGE_VOL, MANAGE_NCLASSES },
    [TEST_INTERFACE] = { "interface", &schema_interface, VIR_ERR_NO_INTERFACE, MANAGE_NCLASSES },
};

struct test_object *test_find(struct test *t, enum test_kind kind, const char *name)
{
    for (unsigned i = 0; i < t->objects[kind]->len; i++) {
        struct test_object *o = t->objects[kind]->pdata[i];
        if (!strcmp(o->name, name))
            return o;
    }
    return NULL;
}

struct test_object *test_find_uuid(struct test *t, enum test_kind kind, const uint8_t uuid[16])
{
    for (unsigned i = 0; i < t->objects[kind]->len; i++) {
        struct test_object *o = t->objects[kind]->pdata[i];
        if (!memcmp(o->uuid, uuid, 16))
            return o;
    }
    return NULL;
}

static struct test_object *missing(enum test_kind kind, const char *by, const char *value, GError **error)
{
    char *what = g_strdup(kinds[kind].what);
    what[0] = g_ascii_toupper(what[0]);
    manage_fail(error, kinds[kind].missing, "%s not found: no %s with matching %s '%s'", what, kinds[kind].what, by, value);
    g_free(what);
    return NULL;
}

struct test_object *test_arg(struct manage_call *c, struct test *t, enum test_kind kind, GError **error)
{
    g_autoptr(GVariant) a = g_variant_get_child_value(c->args, 0);
    struct test_object *o;
    const char *name;
    char text[37];
    if (g_variant_is_of_type(a, G_VARIANT_TYPE_STRING)) {
        name = g_variant_get_string(a, NULL);
        o = test_find(t, kind, name);
        return o ? o : missing(kind, "name", name, error);
    }
    if (kind == TEST_VOLUME || kind == TEST_INTERFACE) {
        g_variant_get_child(a, kind == TEST_VOLUME ? 1 : 0, "&s", &name);
        o = test_find(t, kind, name);
        return o ? o : missing(kind, "name", name, error);
    }
    if (g_variant_is_of_type(a, G_VARIANT_TYPE_BYTESTRING)) {
        if (g_variant_get_size(a) != 16)
            return manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
        o = test_find_uuid(t, kind, g_variant_get_data(a));
        manage_uuid_format(g_variant_get_data(a), text);
        return o ? o : missing(kind, "uuid", text, error);
    }
    const uint8_t *uuid = manage_variant_uuid(a);
    o = test_find_uuid(t, kind, uuid);
    manage_uuid_format(uuid, text);
    return o ? o : missing(kind, "uuid", text, error);
}

/* ---- making ---- */

static void object_free(struct test_object *o)
{
    doc_free(o->def);
    g_free(o->name);
    g_free(o->pool);
    g_free(o);
}

/* The document's UUID, made up where it has none. */
static bool take_uuid(struct el *root, enum test_kind kind, uint8_t uuid[16], GError **error)
{
    char text[37];
    const char *have = kind == TEST_VOLUME || kind == TEST_INTERFACE ? NULL : el_get(root, "uuid");
    if (have)
        return manage_uuid_parse(have, uuid) || manage_fail(error, VIR_ERR_XML_ERROR, "'%s' is not a UUID", have);
    manage_uuid_random(uuid);
    manage_uuid_format(uuid, text);
    if (kind != TEST_VOLUME && kind != TEST_INTERFACE)
        el_set(root, "uuid", text);
    return true;
}

struct test_object *test_define(struct test *t, enum test_kind kind, const char *xml, bool persistent, GError **error)
{
    doc_auto *d = doc_parse(kinds[kind].schema, xml, -1, error);
    uint8_t uuid[16];
    if (!d)
        return NULL;
    struct el *root = doc_root(d);
    const char *name = el_get(root, kind == TEST_INTERFACE ? "@name" : "name");
    if (!name || !*name)
        return manage_null(error, VIR_ERR_XML_ERROR, "the %s has no name", kinds[kind].what);
    struct test_object *o = test_find(t, kind, name);
    if (o && kind != TEST_VOLUME && !el_get(root, "uuid") && kind != TEST_INTERFACE) { /* the name alone redefines */
        char text[37];
        manage_uuid_format(o->uuid, text);
        el_set(root, "uuid", text);
    }
    if (!take_uuid(root, kind, uuid, error))
        return NULL;
    struct test_object *same = test_find_uuid(t, kind, uuid);
    if ((o || same) && o != same)
        return manage_null(error, VIR_ERR_OPERATION_FAILED, "%s '%s' already exists with another %s", kinds[kind].what, o ? o->name : same->name, o ? "uuid" : "name");
    if (!o) {
        o = g_new0(struct test_object, 1);
        *o = (struct test_object){ .kind = kind, .name = g_strdup(name), .id = -1, .state = VIR_DOMAIN_SHUTOFF };
        memcpy(o->uuid, uuid, 16);
        g_ptr_array_add(t->objects[kind], o);
    }
    o->persistent |= persistent;
    doc_free(o->def);
    o->def = d;
    d = NULL;
    if (kind == TEST_DOMAIN && !test_domain_take(o, error)) {
        test_remove(t, o);
        return NULL;
    }
    return o;
}

void test_remove(struct test *t, struct test_object *o)
{
    g_ptr_array_remove(t->objects[o->kind], o);
    object_free(o);
}

/* ---- telling ---- */

GVariant *test_record(const struct test_object *o)
{
    switch (o->kind) {
    case TEST_DOMAIN:
        return g_variant_new("(s@ayi)", o->name, manage_uuid_variant(o->uuid), o->id);
    case TEST_VOLUME: {
        g_autofree char *key = g_strdup_printf("/%s/%s", o->pool, o->name);
        return g_variant_new("(sss)", o->pool, o->name, key);
    }
    case TEST_INTERFACE:
        return g_variant_new("(ss)", o->name, el_get_or(doc_root(o->def), "mac/@address", ""));
    default:
        return g_variant_new("(s@ay)", o->name, manage_uuid_variant(o->uuid));
    }
}

static const GVariantType *record_type(enum test_kind kind)
{
    return kind == TEST_DOMAIN ? G_VARIANT_TYPE("a(sayi)") : kind == TEST_VOLUME ? G_VARIANT_TYPE("a(sss)") : kind == TEST_INTERFACE ? G_VARIANT_TYPE("a(ss)") :
                                                                                                              G_VARIANT_TYPE("a(say)");
}

GVariant *test_list(struct test *t, enum test_kind kind, bool results, uint32_t flags, bool (*match)(const struct test_object *, uint32_t flags))
{
    GVariantBuilder b;
    unsigned n = 0;
    g_variant_builder_init(&b, record_type(kind));
    for (unsigned i = 0; i < t->objects[kind]->len; i++) {
        const struct test_object *o = t->objects[kind]->pdata[i];
        if (!match(o, flags))
            continue;
        n++;
        if (results)
            g_variant_builder_add_value(&b, test_record(o));
    }
    return g_variant_new("(@a*u)", g_variant_builder_end(&b), n);
}

GVariant *test_names(struct test *t, enum test_kind kind, bool active, int max)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < t->objects[kind]->len && max > 0; i++) {
        const struct test_object *o = t->objects[kind]->pdata[i];
        if (o->active == active && max-- > 0)
            g_variant_builder_add(&b, "s", o->name);
    }
    return g_variant_new("(as)", &b);
}

int test_count(struct test *t, enum test_kind kind, bool active)
{
    int n = 0;
    for (unsigned i = 0; i < t->objects[kind]->len; i++)
        n += ((struct test_object *)t->objects[kind]->pdata[i])->active == active;
    return n;
}

bool test_want(const struct test_object *o, enum test_kind kind, bool active, GError **error)
{
    if (o->active == active)
        return true;
    return manage_fail(error, VIR_ERR_OPERATION_INVALID, "%s '%s' is %s", kinds[kind].what, o->name,
                       active ? kind == TEST_DOMAIN ? "not running" : "not active" : kind == TEST_DOMAIN ? "already running" : "already active");
}

void test_event(struct manage_call *c, const struct test_object *o, int event, int detail)
{
    GVariant *members[] = { test_record(o), g_variant_new_int32(event), g_variant_new_int32(detail) };
    manage_event(c->conn->state, kinds[o->kind].class, 0, o->uuid, 16, g_variant_new_tuple(members, 3));
}
