/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Secrets: passphrases of volumes and the like. Definitions are CONFIG/secrets/UUID.xml, values UUID.base64 beside them, readable by the daemon alone; those of ephemeral
 * secrets stay in memory. Values are wiped from memory when they are dropped. One lock over the whole table: it is small, and held for moments but while a file of
 * it is written.
 */
#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "manage/core/manage.h"
#include "manage/core/manage_services.h"
#include "manage/model/doc.h"

enum { VALUE_MAX = 65536 };

struct secret {
    uint8_t uuid[16];
    struct doc *def;
    int usage_type;
    char *usage;   /* "" where there is none */
    guint8 *value; /* NULL: not set */
    gsize size;
};

struct secrets_table {
    struct manage_state *state;
    char *directory;
    GMutex change; /* one change at a time, over writing of files; before lock */
    GMutex lock;
    GHashTable *by_uuid; /* text -> struct secret *, owned */
};

/* By virSecretUsageType; `path`: where the usage stands in the document. */
static const struct { const char *name, *path; } usages[] = {
    { "none", NULL }, { "volume", "usage/volume" }, { "ceph", "usage/name" }, { "iscsi", "usage/target" }, { "tls", "usage/name" }, { "vtpm", "usage/name" },
};

/* ---- objects ---- */

static void drop_value(struct secret *s)
{
    if (s->value)
        explicit_bzero(s->value, s->size);
    g_clear_pointer(&s->value, g_free);
    s->size = 0;
}

static void secret_free(gpointer opaque)
{
    struct secret *s = opaque;
    drop_value(s);
    doc_free(s->def);
    g_free(s->usage);
    g_free(s);
}

static bool is_ephemeral(const struct secret *s) { return el_is(doc_root(s->def), "@ephemeral", "yes"); }
static bool is_private(const struct secret *s) { return el_is(doc_root(s->def), "@private", "yes"); }

/* A checked definition with all that may be left out filled in. */
static struct secret *parse(const char *xml, GError **error)
{
    doc_auto *d = doc_parse(&schema_secret, xml, -1, error);
    if (!d)
        return NULL;
    struct el *root = doc_root(d);
    uint8_t uuid[16];
    char text[37];
    int type = 0;
    const char *name = el_get_or(root, "usage/@type", "none"), *given = el_get(root, "uuid");
    if (given && !manage_uuid_parse(given, uuid))
        return manage_null(error, VIR_ERR_XML_ERROR, "malformed uuid element");
    if (!given)
        manage_uuid_random(uuid);
    while (type < (int)G_N_ELEMENTS(usages) && strcmp(usages[type].name, name))
        type++;
    if (type == (int)G_N_ELEMENTS(usages))
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "unknown secret usage type %s", name);
    const char *usage = usages[type].path ? el_get(root, usages[type].path) : "";
    if (!usage || (usages[type].path && !*usage))
        return manage_null(error, VIR_ERR_XML_ERROR, "%s usage specified, but <%s> is missing", name, strchr(usages[type].path, '/') + 1);
    manage_uuid_format(uuid, text);
    el_set(root, "uuid", text);
    el_set(root, "@ephemeral", el_get_or(root, "@ephemeral", "no"));
    el_set(root, "@private", el_get_or(root, "@private", "no"));
    if (!type && el_find(root, "usage"))
        el_remove(el_find(root, "usage"));
    struct secret *s = g_new0(struct secret, 1);
    memcpy(s->uuid, uuid, 16);
    s->usage_type = type;
    s->usage = g_strdup(usage);
    s->def = g_steal_pointer(&d);
    return s;
}

static GVariant *record(const struct secret *s) { return g_variant_new("(@ayis)", manage_uuid_variant(s->uuid), s->usage_type, s->usage); }

static char *file_of(const struct secrets_table *t, const struct secret *s, const char *suffix)
{
    char text[37];
    manage_uuid_format(s->uuid, text);
    return g_strdup_printf("%s/%s.%s", t->directory, text, suffix);
}

/* Under the lock. */
static struct secret *find_usage(struct secrets_table *t, int type, const char *usage)
{
    GHashTableIter i;
    gpointer value;
    if (!type)
        return NULL;
    g_hash_table_iter_init(&i, t->by_uuid);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        struct secret *s = value;
        if (s->usage_type == type && !strcmp(s->usage, usage))
            return s;
    }
    return NULL;
}

static struct secret *find_uuid(struct secrets_table *t, const uint8_t uuid[16], GError **error)
{
    char text[37];
    manage_uuid_format(uuid, text);
    struct secret *s = g_hash_table_lookup(t->by_uuid, text);
    return s ? s : manage_null(error, VIR_ERR_NO_SECRET, "no secret with matching uuid '%s'", text);
}

/* The secret of a call, under the lock. */
static struct secret *of_call(struct secrets_table *t, struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) r = g_variant_get_child_value(c->args, 0);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(r, 0);
    if (g_variant_get_size(bytes) != 16)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
    return find_uuid(t, g_variant_get_data(bytes), error);
}

static struct secrets_table *table_of(struct manage_call *c) { return manage_data(c->conn->state, "secret"); }

/* ---- files ---- */

static bool save_value(const struct secrets_table *t, const struct secret *s, const guint8 *value, gsize size, GError **error)
{
    g_autofree char *path = file_of(t, s, "base64"), *text = g_base64_encode(value, size);
    bool ok = manage_write_file(path, text, -1, 0600, error);
    explicit_bzero(text, strlen(text));
    return ok;
}

static void load_value(const struct secrets_table *t, struct secret *s)
{
    g_autofree char *path = file_of(t, s, "base64"), *text = NULL;
    gsize size;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return;
    g_strstrip(text);
    if (*text)
        s->value = g_base64_decode(text, &size);
    s->size = s->value ? size : 0;
    explicit_bzero(text, strlen(text));
}

static void load(struct secrets_table *t)
{
    g_autoptr(GDir) dir = g_dir_open(t->directory, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(t->directory, name, NULL), *text = NULL;
        g_autoptr(GError) e = NULL;
        if (!g_str_has_suffix(name, ".xml") || *name == '.')
            continue;
        struct secret *s = g_file_get_contents(path, &text, NULL, &e) ? parse(text, &e) : NULL;
        g_autofree char *expected = s ? file_of(t, s, "xml") : NULL;
        if (!s || strcmp(expected, path)) {
            log_warn("secrets: '%s' is left alone: %s", path, e ? e->message : "the file's name is not the UUID");
            if (s)
                secret_free(s);
            continue;
        }
        load_value(t, s);
        g_hash_table_replace(t->by_uuid, g_strdup(el_get(doc_root(s->def), "uuid")), s);
    }
}

/* ---- events ---- */

static void event(struct manage_state *state, GVariant *floating, int id, int what)
{
    g_autoptr(GVariant) r = g_variant_ref_sink(floating);
    g_autoptr(GVariant) uuid = g_variant_get_child_value(r, 0);
    GVariant *body = id == VIR_SECRET_EVENT_ID_LIFECYCLE ? g_variant_new("(@(ayis)ii)", r, what, 0) : g_variant_new_tuple(&r, 1);
    manage_event(state, MANAGE_SECRET, (unsigned)id, g_variant_get_data(uuid), 16, body);
}

/* ---- procedures ---- */

static bool matches(const struct secret *s, uint32_t flags)
{
    uint32_t kept = flags & 3, seen = flags & 12;
    return (!kept || (kept & (is_ephemeral(s) ? VIR_CONNECT_LIST_SECRETS_EPHEMERAL : VIR_CONNECT_LIST_SECRETS_NO_EPHEMERAL))) &&
           (!seen || (seen & (is_private(s) ? VIR_CONNECT_LIST_SECRETS_PRIVATE : VIR_CONNECT_LIST_SECRETS_NO_PRIVATE)));
}

/* All that pass, by UUID; under the lock. */
static GPtrArray *sorted(struct secrets_table *t, uint32_t flags)
{
    GList *keys = g_list_sort(g_hash_table_get_keys(t->by_uuid), (GCompareFunc)strcmp);
    GPtrArray *all = g_ptr_array_new();
    for (GList *k = keys; k; k = k->next) {
        struct secret *s = g_hash_table_lookup(t->by_uuid, k->data);
        if (matches(s, flags))
            g_ptr_array_add(all, s);
    }
    g_list_free(keys);
    return all;
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    int want;
    uint32_t flags;
    g_variant_get(c->args, "(iu)", &want, &flags);
    if (!manage_check_flags(flags, 15, error))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(ayis)"));
    g_mutex_lock(&t->lock);
    g_autoptr(GPtrArray) all = sorted(t, flags);
    for (unsigned i = 0; want && i < all->len; i++)
        g_variant_builder_add_value(&b, record(all->pdata[i]));
    g_mutex_unlock(&t->lock);
    return g_variant_new("(a(ayis)u)", &b, all->len);
}

static GVariant *num(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    (void)error;
    g_mutex_lock(&t->lock);
    int n = (int)g_hash_table_size(t->by_uuid);
    g_mutex_unlock(&t->lock);
    return g_variant_new("(i)", n);
}

static GVariant *list(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    int max;
    (void)error;
    g_variant_get(c->args, "(i)", &max);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    g_mutex_lock(&t->lock);
    g_autoptr(GPtrArray) all = sorted(t, 0);
    for (unsigned i = 0; i < all->len && (int)i < max; i++)
        g_variant_builder_add(&b, "s", el_get(doc_root(((struct secret *)all->pdata[i])->def), "uuid"));
    g_mutex_unlock(&t->lock);
    return g_variant_new("(as)", &b);
}

static GVariant *one(struct secrets_table *t, struct secret *s)
{
    GVariant *r = s ? record(s) : NULL;
    g_mutex_unlock(&t->lock);
    return r ? g_variant_new_tuple(&r, 1) : NULL;
}

static GVariant *lookup_uuid(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(c->args, 0);
    if (g_variant_get_size(bytes) != 16)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
    g_mutex_lock(&t->lock);
    return one(t, find_uuid(t, g_variant_get_data(bytes), error));
}

static GVariant *lookup_usage(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    int type;
    const char *usage;
    g_variant_get(c->args, "(i&s)", &type, &usage);
    g_mutex_lock(&t->lock);
    struct secret *s = find_usage(t, type, usage);
    if (!s)
        manage_fail(error, VIR_ERR_NO_SECRET, "no secret with matching usage '%s'", usage);
    return one(t, s);
}

/* May `s` be entered? A secret keeps its usage, and no two have the same. Under the lock. */
static bool check_define(struct secrets_table *t, const struct secret *s, const struct secret *old, GError **error)
{
    const struct secret *other = find_usage(t, s->usage_type, s->usage);
    char text[37];
    if (other && other != old) {
        manage_uuid_format(other->uuid, text);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "a secret with UUID %s already defined for use with %s", text, s->usage);
    }
    manage_uuid_format(s->uuid, text);
    if (old && (old->usage_type != s->usage_type || strcmp(old->usage, s->usage)))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "a secret with UUID %s is already defined for use with %s", text, old->usage);
    if (old && is_private(old) && !is_private(s))
        return manage_fail(error, VIR_ERR_OPERATION_DENIED, "cannot change private flag on existing secret");
    return true;
}

static GVariant *define(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    const char *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    struct secret *s = manage_check_flags(flags, VIR_SECRET_DEFINE_VALIDATE, error) ? parse(xml, error) : NULL;
    if (!s)
        return NULL;
    g_autofree char *path = file_of(t, s, "xml"), *value = file_of(t, s, "base64"), *text = doc_format(s->def);
    g_mutex_lock(&t->change);
    g_mutex_lock(&t->lock);
    struct secret *old = find_uuid(t, s->uuid, NULL);
    bool ok = check_define(t, s, old, error);
    if (ok && old && old->value) {
        s->value = g_memdup2(old->value, old->size);
        s->size = old->size;
    }
    g_mutex_unlock(&t->lock);
    if (ok && is_ephemeral(s))
        ok = manage_remove_file(value, error) && manage_remove_file(path, error);
    else if (ok)
        ok = (!s->value || save_value(t, s, s->value, s->size, error)) && manage_write_file(path, text, -1, 0600, error);
    GVariant *r = ok ? g_variant_ref_sink(record(s)) : NULL;
    g_mutex_lock(&t->lock);
    if (ok)
        g_hash_table_replace(t->by_uuid, g_strdup(el_get(doc_root(s->def), "uuid")), s);
    g_mutex_unlock(&t->lock);
    g_mutex_unlock(&t->change);
    if (!ok) {
        secret_free(s);
        return NULL;
    }
    event(t->state, r, VIR_SECRET_EVENT_ID_LIFECYCLE, VIR_SECRET_EVENT_DEFINED);
    GVariant *ret = g_variant_new_tuple(&r, 1);
    g_variant_unref(r);
    return ret;
}

static GVariant *undefine(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    g_mutex_lock(&t->change);
    g_mutex_lock(&t->lock);
    struct secret *s = of_call(t, c, error);
    g_autofree char *path = s ? file_of(t, s, "xml") : NULL, *value = s ? file_of(t, s, "base64") : NULL;
    g_mutex_unlock(&t->lock);
    /* The value first: a value without a definition would be an orphan. */
    bool ok = s && manage_remove_file(value, error) && manage_remove_file(path, error);
    g_autoptr(GVariant) r = ok ? g_variant_ref_sink(record(s)) : NULL;
    g_mutex_lock(&t->lock);
    if (ok)
        g_hash_table_remove(t->by_uuid, el_get(doc_root(s->def), "uuid"));
    g_mutex_unlock(&t->lock);
    g_mutex_unlock(&t->change);
    if (!ok)
        return NULL;
    event(t->state, r, VIR_SECRET_EVENT_ID_LIFECYCLE, VIR_SECRET_EVENT_UNDEFINED);
    return manage_void();
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_mutex_lock(&t->lock);
    const struct secret *s = of_call(t, c, error);
    GVariant *v = s ? g_variant_new("(@s)", g_variant_new_take_string(doc_format(s->def))) : NULL;
    g_mutex_unlock(&t->lock);
    return v;
}

static GVariant *set_value(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(c->args, 1);
    uint32_t flags;
    g_variant_get_child(c->args, 2, "u", &flags);
    gsize size = g_variant_get_size(bytes);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (!size) /* also what virsh makes of a value that is no base64 */
        return manage_null(error, VIR_ERR_INVALID_ARG, "the value of a secret must not be empty");
    if (size > VALUE_MAX)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a secret has at most %d bytes", VALUE_MAX);
    g_mutex_lock(&t->change);
    g_mutex_lock(&t->lock);
    struct secret *s = of_call(t, c, error);
    g_mutex_unlock(&t->lock);
    bool ok = s && (is_ephemeral(s) || save_value(t, s, g_variant_get_data(bytes), size, error));
    g_autoptr(GVariant) r = ok ? g_variant_ref_sink(record(s)) : NULL;
    g_mutex_lock(&t->lock);
    if (ok) {
        drop_value(s);
        s->value = g_memdup2(g_variant_get_data(bytes), size);
        s->size = size;
    }
    g_mutex_unlock(&t->lock);
    g_mutex_unlock(&t->change);
    if (!ok)
        return NULL;
    event(t->state, r, VIR_SECRET_EVENT_ID_VALUE_CHANGED, 0);
    return manage_void();
}

static GVariant *get_value(struct manage_call *c, GError **error)
{
    struct secrets_table *t = table_of(c);
    uint32_t flags;
    GVariant *v = NULL;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_mutex_lock(&t->lock);
    const struct secret *s = of_call(t, c, error);
    if (s && is_private(s))
        manage_fail(error, VIR_ERR_INVALID_SECRET, "Invalid secret: secret is private");
    else if (s && !s->value)
        manage_fail(error, VIR_ERR_NO_SECRET, "secret '%s' does not have a value", el_get(doc_root(s->def), "uuid"));
    else if (s)
        v = g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, s->value, s->size, 1));
    g_mutex_unlock(&t->lock);
    return v;
}

/* ---- what other drivers ask ---- */

static int type_of(const char *name)
{
    for (unsigned i = 0; name && i < G_N_ELEMENTS(usages); i++)
        if (!strcmp(usages[i].name, name))
            return (int)i;
    return 0;
}

static GBytes *secret_value(struct manage_state *state, const char *uuid, const char *usage_type, const char *usage, GError **error)
{
    struct secrets_table *t = manage_data(state, "secret");
    uint8_t bytes[16];
    GBytes *value = NULL;
    if (uuid && !manage_uuid_parse(uuid, bytes))
        return manage_null(error, VIR_ERR_INVALID_ARG, "'%s' is not the UUID of a secret", uuid);
    g_mutex_lock(&t->lock);
    const struct secret *s = uuid ? find_uuid(t, bytes, error) : find_usage(t, type_of(usage_type), usage ? usage : "");
    if (!s && !uuid)
        manage_fail(error, VIR_ERR_NO_SECRET, "no secret with matching usage '%s'", usage ? usage : "");
    else if (s && !s->value)
        manage_fail(error, VIR_ERR_NO_SECRET, "secret '%s' does not have a value; 'secret-set-value' gives it one", el_get(doc_root(s->def), "uuid"));
    else if (s)
        value = g_bytes_new(s->value, s->size);
    g_mutex_unlock(&t->lock);
    return value;
}

static char *secret_uuid(struct manage_state *state, const char *usage_type, const char *usage)
{
    struct secrets_table *t = manage_data(state, "secret");
    g_mutex_lock(&t->lock);
    const struct secret *s = find_usage(t, type_of(usage_type), usage);
    char *text = s ? g_strdup(el_get(doc_root(s->def), "uuid")) : NULL;
    g_mutex_unlock(&t->lock);
    return text;
}

/* ---- start and stop ---- */

static bool start(struct manage_state *state, void **ret_data, GError **error)
{
    (void)error;
    struct secrets_table *t = g_new0(struct secrets_table, 1);
    t->state = state;
    t->directory = g_build_filename(state->dirs.config, "secrets", NULL);
    g_mutex_init(&t->change);
    g_mutex_init(&t->lock);
    t->by_uuid = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, secret_free);
    load(t);
    manage_services_of(state)->secret_value = secret_value;
    manage_services_of(state)->secret_uuid = secret_uuid;
    *ret_data = t;
    return true;
}

static void stop(struct manage_state *state, void *data)
{
    struct secrets_table *t = data;
    (void)state;
    if (!t)
        return;
    g_hash_table_unref(t->by_uuid);
    g_mutex_clear(&t->lock);
    g_mutex_clear(&t->change);
    g_free(t->directory);
    g_free(t);
}

static const struct manage_row rows[] = {
    { RPC_CONNECT_LIST_ALL_SECRETS, list_all },
    { RPC_CONNECT_NUM_OF_SECRETS, num },
    { RPC_CONNECT_LIST_SECRETS, list },
    { RPC_SECRET_LOOKUP_BY_UUID, lookup_uuid },
    { RPC_SECRET_LOOKUP_BY_USAGE, lookup_usage },
    { RPC_SECRET_DEFINE_XML, define },
    { RPC_SECRET_UNDEFINE, undefine },
    { RPC_SECRET_GET_XML_DESC, get_xml },
    { RPC_SECRET_SET_VALUE, set_value },
    { RPC_SECRET_GET_VALUE, get_value },
    { 0, NULL },
};
const struct manage_driver manage_driver_secret = { .name = "secret", .rows = rows, .start = start, .stop = stop };
