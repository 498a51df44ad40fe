/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Filters: their files, and the calls about them. A filter that is in use changes where it is in use, or not at all. */
#include <string.h>

#include "base/log.h"
#include "manage/drivers/nwfilter/nwfilter.h"

struct nwfilter_driver *nwfilter_driver_of(struct manage_call *c) { return manage_data(c->conn->state, "nwfilter"); }

void nwfilter_free(gpointer opaque)
{
    struct nwfilter *f = opaque;
    if (!f)
        return;
    doc_free(f->def);
    g_free(f->name);
    g_free(f);
}

/* A checked definition with a UUID. *ret_given: it had one. */
static struct nwfilter *parse(const char *xml, bool *ret_given, GError **error)
{
    doc_auto *d = doc_parse(&schema_nwfilter, xml, -1, error);
    if (!d || !nwfilter_check(d, error))
        return NULL;
    struct el *root = doc_root(d);
    const char *given = el_get(root, "uuid");
    struct nwfilter *f = g_new0(struct nwfilter, 1);
    char text[37];
    *ret_given = given && manage_uuid_parse(given, f->uuid);
    if (!*ret_given)
        manage_uuid_random(f->uuid);
    manage_uuid_format(f->uuid, text);
    el_set(root, "uuid", text);
    f->name = g_strdup(el_get(root, "@name"));
    f->def = g_steal_pointer(&d);
    return f;
}

static char *file_of(const struct nwfilter_driver *dr, const char *name) { return g_strdup_printf("%s/%s.xml", dr->config_dir, name); }

bool nwfilter_save(struct nwfilter_driver *dr, struct nwfilter *f, GError **error)
{
    g_autofree char *path = file_of(dr, f->name), *text = doc_format(f->def);
    return manage_write_file(path, text, -1, 0600, error);
}

/* A file without a UUID, which somebody wrote by hand, gets one. */
static void load_one(struct nwfilter_driver *dr, const char *file)
{
    g_autofree char *path = g_build_filename(dr->config_dir, file, NULL), *text = NULL;
    g_autoptr(GError) e = NULL;
    bool given = true;
    struct nwfilter *f = !g_file_get_contents(path, &text, NULL, &e) ? NULL : *text ? parse(text, &given, &e) : nwfilter_standard_again(file);
    given &= text && *text;
    g_autofree char *expected = f ? file_of(dr, f->name) : NULL;
    if (f && !strcmp(expected, path) && (given || nwfilter_save(dr, f, &e))) {
        g_hash_table_replace(dr->filters, f->name, f);
        return;
    }
    log_warn("network filters: '%s' is left alone: %s", path, e ? e->message : "the file's name is not the filter's");
    nwfilter_free(f);
}

void nwfilter_load(struct nwfilter_driver *dr)
{
    g_autoptr(GDir) dir = g_dir_open(dr->config_dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, ".xml") && *name != '.')
            load_one(dr, name);
}

/* ---- finding; under the lock, or with `change` held ---- */

static struct nwfilter *find_uuid(struct nwfilter_driver *dr, const uint8_t uuid[16])
{
    GHashTableIter i;
    gpointer value;
    g_hash_table_iter_init(&i, dr->filters);
    while (g_hash_table_iter_next(&i, NULL, &value))
        if (!memcmp(((struct nwfilter *)value)->uuid, uuid, 16))
            return value;
    return NULL;
}

static struct nwfilter *need_uuid(struct nwfilter_driver *dr, GVariant *bytes, GError **error)
{
    char text[37];
    if (g_variant_get_size(bytes) != 16)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
    struct nwfilter *f = find_uuid(dr, g_variant_get_data(bytes));
    manage_uuid_format(g_variant_get_data(bytes), text);
    return f ? f : manage_null(error, VIR_ERR_NO_NWFILTER, "Network filter not found: no nwfilter with matching uuid '%s'", text);
}

/* The filter of a call's record. */
static struct nwfilter *of_call(struct nwfilter_driver *dr, struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) r = g_variant_get_child_value(c->args, 0);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(r, 1);
    return need_uuid(dr, bytes, error);
}

static GVariant *record(const struct nwfilter *f) { return g_variant_new("(s@ay)", f->name, manage_uuid_variant(f->uuid)); }

static GVariant *one(const struct nwfilter *f)
{
    GVariant *r = f ? record(f) : NULL;
    return r ? g_variant_new_tuple(&r, 1) : NULL;
}

/* ---- calls ---- */

static GList *names(struct nwfilter_driver *dr) { return g_list_sort(g_hash_table_get_keys(dr->filters), (GCompareFunc)strcmp); }

static GVariant *list_all(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    int want;
    uint32_t flags, n = 0;
    g_variant_get(c->args, "(iu)", &want, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(say)"));
    g_mutex_lock(&dr->lock);
    GList *all = names(dr);
    for (GList *l = all; l; l = l->next, n++)
        if (want)
            g_variant_builder_add_value(&b, record(g_hash_table_lookup(dr->filters, l->data)));
    g_list_free(all);
    g_mutex_unlock(&dr->lock);
    return g_variant_new("(a(say)u)", &b, n);
}

static GVariant *count(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    g_mutex_lock(&dr->lock);
    int n = (int)g_hash_table_size(dr->filters);
    g_mutex_unlock(&dr->lock);
    return g_variant_new("(i)", n);
}

static GVariant *list(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    int max;
    g_variant_get(c->args, "(i)", &max);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    g_mutex_lock(&dr->lock);
    GList *all = names(dr);
    for (GList *l = all; l && max > 0; l = l->next, max--)
        g_variant_builder_add(&b, "s", l->data);
    g_list_free(all);
    g_mutex_unlock(&dr->lock);
    return g_variant_new("(as)", &b);
}

static GVariant *by_name(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    const char *name;
    g_variant_get(c->args, "(&s)", &name);
    g_mutex_lock(&dr->lock);
    GVariant *v = one(g_hash_table_lookup(dr->filters, name));
    g_mutex_unlock(&dr->lock);
    return v ? v : manage_null(error, VIR_ERR_NO_NWFILTER, "Network filter not found: no nwfilter with matching name '%s'", name);
}

static GVariant *by_uuid(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(c->args, 0);
    g_mutex_lock(&dr->lock);
    GVariant *v = one(need_uuid(dr, bytes, error));
    g_mutex_unlock(&dr->lock);
    return v;
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_mutex_lock(&dr->lock);
    const struct nwfilter *f = of_call(dr, c, error);
    GVariant *v = f ? g_variant_new("(@s)", g_variant_new_take_string(doc_format(f->def))) : NULL;
    g_mutex_unlock(&dr->lock);
    return v;
}

/* Does `name` lead back to `to`, by what filters refer to? */
static bool leads_to(struct nwfilter_driver *dr, const struct el *root, const char *to, unsigned depth)
{
    el_each (ref, root, "filterref") {
        const char *name = el_get_or(ref, "@filter", "");
        const struct nwfilter *next = g_hash_table_lookup(dr->filters, name);
        if (!strcmp(name, to) || depth > 64 || (next && leads_to(dr, doc_root(next->def), to, depth + 1)))
            return true;
    }
    return false;
}

static bool check_define(struct nwfilter_driver *dr, const struct nwfilter *f, const struct nwfilter *old, GError **error)
{
    const struct nwfilter *same = find_uuid(dr, f->uuid);
    char text[37];
    if (same && same != old)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "filter with same UUID but different name ('%s') already exists", same->name);
    if (old && same != old) {
        manage_uuid_format(old->uuid, text);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "filter '%s' already exists with uuid %s", old->name, text);
    }
    return !leads_to(dr, doc_root(f->def), f->name, 0) || manage_fail(error, VIR_ERR_OPERATION_FAILED, "filter would introduce a loop");
}

/* Puts a filter (NULL: none) in the place of the one of this name, which is returned. Under `change`. */
static struct nwfilter *exchange(struct nwfilter_driver *dr, const char *name, struct nwfilter *f)
{
    gpointer key = NULL, old = NULL;
    g_mutex_lock(&dr->lock);
    g_hash_table_steal_extended(dr->filters, name, &key, &old);
    if (f)
        g_hash_table_insert(dr->filters, f->name, f);
    g_mutex_unlock(&dr->lock);
    return old;
}

/* Running machines get the new rules first: where these cannot be made, the filter stays what it was. */
static bool put(struct nwfilter_driver *dr, struct nwfilter *f, GError **error)
{
    struct nwfilter *old = g_hash_table_lookup(dr->filters, f->name);
    if (!check_define(dr, f, old, error))
        return false;
    old = exchange(dr, f->name, f);
    bool changed = !old || !el_equal(doc_root(old->def), doc_root(f->def));
    if ((!changed || nwfilter_apply(dr, error)) && nwfilter_save(dr, f, error)) {
        nwfilter_free(old);
        return true;
    }
    (void)exchange(dr, f->name, old);
    if (!nwfilter_apply(dr, NULL))
        g_warning("the rules of network filter '%s' could not be put back", f->name);
    return false;
}

static GVariant *define_text(struct nwfilter_driver *dr, const char *xml, GError **error)
{
    bool given;
    struct nwfilter *f = parse(xml, &given, error);
    if (!f)
        return NULL;
    g_mutex_lock(&dr->change);
    bool ok = put(dr, f, error);
    GVariant *v = ok ? one(f) : NULL;
    g_mutex_unlock(&dr->change);
    if (!ok)
        nwfilter_free(f);
    return v;
}

static GVariant *define(struct manage_call *c, GError **error)
{
    const char *xml;
    g_variant_get(c->args, "(&s)", &xml);
    return define_text(nwfilter_driver_of(c), xml, error);
}

static GVariant *define_flags(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    return manage_check_flags(flags, VIR_NWFILTER_DEFINE_VALIDATE, error) ? define_text(nwfilter_driver_of(c), xml, error) : NULL;
}

static GVariant *undefine(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    g_autoptr(GHashTable) used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_lock(&dr->change);
    struct nwfilter *f = of_call(dr, c, error);
    g_autofree char *path = f ? file_of(dr, f->name) : NULL;
    if (f)
        g_free(nwfilter_ruleset(dr, used, NULL));
    bool ok = f && (!g_hash_table_contains(used, f->name) || manage_fail(error, VIR_ERR_OPERATION_INVALID, "nwfilter is in use"));
    ok = ok && manage_remove_file(path, error);
    if (ok)
        nwfilter_free(exchange(dr, f->name, NULL));
    g_mutex_unlock(&dr->change);
    return ok ? manage_void() : NULL;
}

const struct manage_row nwfilter_rows_filter[] = {
    { RPC_CONNECT_NUM_OF_NWFILTERS, count },
    { RPC_CONNECT_LIST_NWFILTERS, list },
    { RPC_CONNECT_LIST_ALL_NWFILTERS, list_all },
    { RPC_NWFILTER_LOOKUP_BY_NAME, by_name },
    { RPC_NWFILTER_LOOKUP_BY_UUID, by_uuid },
    { RPC_NWFILTER_GET_XML_DESC, get_xml },
    { RPC_NWFILTER_DEFINE_XML, define },
    { RPC_NWFILTER_DEFINE_XML_FLAGS, define_flags },
    { RPC_NWFILTER_UNDEFINE, undefine },
    { 0, NULL },
};
