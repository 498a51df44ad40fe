/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls about snapshots: lists, documents, the current one; making, reverting and deleting are in files of their own. */
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

enum {
    LIST_FLAGS = VIR_DOMAIN_SNAPSHOT_LIST_ROOTS | VIR_DOMAIN_SNAPSHOT_LIST_METADATA | VIR_DOMAIN_SNAPSHOT_LIST_LEAVES | VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES |
                 VIR_DOMAIN_SNAPSHOT_LIST_NO_METADATA | VIR_DOMAIN_SNAPSHOT_LIST_INACTIVE | VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE | VIR_DOMAIN_SNAPSHOT_LIST_DISK_ONLY |
                 VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL | VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL | VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL,
    LIST_MOST = 16384,
};

static uint32_t flags_arg(struct manage_call *c, unsigned i)
{
    uint32_t flags;
    g_variant_get_child(c->args, i, "u", &flags);
    return flags;
}

static int int_arg(struct manage_call *c, unsigned i)
{
    int n;
    g_variant_get_child(c->args, i, "i", &n);
    return n;
}

/* ---- lists ---- */

/* Of a domain, or of what is below one of its snapshots. */
static GPtrArray *list(struct manage_call *c, bool below, unsigned flags_at, struct domain **ret, GError **error)
{
    const char *from = NULL;
    uint32_t flags = flags_arg(c, flags_at);
    *ret = !manage_check_flags(flags, LIST_FLAGS, error) ? NULL : below ? domain_moment_of_call(c, MOMENT_SNAPSHOT, &from, error) : domain_of_call(c, 0, error);
    return *ret ? domain_moment_list(*ret, MOMENT_SNAPSHOT, from, flags) : NULL;
}

static GVariant *number(struct manage_call *c, bool below, GError **error)
{
    domain_auto *d = NULL;
    g_autoptr(GPtrArray) all = list(c, below, 1, &d, error);
    return all ? g_variant_new("(i)", (int)all->len) : NULL;
}

static GVariant *names(struct manage_call *c, bool below, GError **error)
{
    domain_auto *d = NULL;
    int most = int_arg(c, 1);
    g_autoptr(GPtrArray) all = list(c, below, 2, &d, error);
    if (!all)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < all->len && (int)i < MIN(most, LIST_MOST); i++)
        g_variant_builder_add(&b, "s", all->pdata[i]);
    return g_variant_new("(as)", &b);
}

static GVariant *records(struct manage_call *c, bool below, GError **error)
{
    domain_auto *d = NULL;
    int need = int_arg(c, 1);
    g_autoptr(GPtrArray) all = list(c, below, 2, &d, error);
    if (!all)
        return NULL;
    if (all->len > LIST_MOST)
        return manage_null(error, VIR_ERR_RPC, "too many domain snapshots '%u' for limit '%d'", all->len, LIST_MOST);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(s(sayi))"));
    for (unsigned i = 0; need && i < all->len; i++)
        g_variant_builder_add_value(&b, domain_moment_record(d, all->pdata[i]));
    return g_variant_new("(a(s(sayi))i)", &b, (int)all->len);
}

static GVariant *num(struct manage_call *c, GError **error) { return number(c, false, error); }
static GVariant *num_children(struct manage_call *c, GError **error) { return number(c, true, error); }
static GVariant *list_names(struct manage_call *c, GError **error) { return names(c, false, error); }
static GVariant *list_children_names(struct manage_call *c, GError **error) { return names(c, true, error); }
static GVariant *list_all(struct manage_call *c, GError **error) { return records(c, false, error); }
static GVariant *list_all_children(struct manage_call *c, GError **error) { return records(c, true, error); }

/* ---- one ---- */

static GVariant *lookup(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 1, "&s", &name);
    domain_auto *d = manage_check_flags(flags_arg(c, 2), 0, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    bool there = domain_moment_find_locked(d, MOMENT_SNAPSHOT, name) != NULL;
    g_mutex_unlock(&d->lock);
    return there ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, name)) :
           manage_null(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "no domain snapshot with matching name '%s'", name);
}

static char *current_of(struct domain *d)
{
    g_mutex_lock(&d->lock);
    char *name = g_strdup(domain_moment_current_locked(d, MOMENT_SNAPSHOT));
    g_mutex_unlock(&d->lock);
    return name;
}

static GVariant *has_current(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_arg(c, 1), 0, error) ? domain_of_call(c, 0, error) : NULL;
    g_autofree char *name = d ? current_of(d) : NULL;
    return d ? g_variant_new("(i)", name != NULL) : NULL;
}

static GVariant *current(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_arg(c, 1), 0, error) ? domain_of_call(c, 0, error) : NULL;
    g_autofree char *name = d ? current_of(d) : NULL;
    if (d && !name)
        return manage_null(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "the domain does not have a current snapshot");
    return d ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, name)) : NULL;
}

static GVariant *is_current(struct manage_call *c, GError **error)
{
    const char *name;
    domain_auto *d = manage_check_flags(flags_arg(c, 1), 0, error) ? domain_moment_of_call(c, MOMENT_SNAPSHOT, &name, error) : NULL;
    g_autofree char *now = d ? current_of(d) : NULL;
    return d ? g_variant_new("(i)", !g_strcmp0(now, name)) : NULL;
}

static GVariant *has_metadata(struct manage_call *c, GError **error)
{
    const char *name;
    domain_auto *d = manage_check_flags(flags_arg(c, 1), 0, error) ? domain_moment_of_call(c, MOMENT_SNAPSHOT, &name, error) : NULL;
    return d ? g_variant_new("(i)", 1) : NULL;
}

static GVariant *get_parent(struct manage_call *c, GError **error)
{
    const char *name;
    domain_auto *d = manage_check_flags(flags_arg(c, 1), 0, error) ? domain_moment_of_call(c, MOMENT_SNAPSHOT, &name, error) : NULL;
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    struct moment *m = domain_moment_find_locked(d, MOMENT_SNAPSHOT, name);
    g_autofree char *parent = m ? g_strdup(m->parent) : NULL;
    g_mutex_unlock(&d->lock);
    return parent ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, parent)) :
           manage_null(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "snapshot '%s' does not have a parent", name);
}

/* Passwords of the domain inside are for those who may write. */
static void hide_passwords(struct doc *doc)
{
    static const char *const domains[] = { "domain", "inactiveDomain" };
    for (unsigned i = 0; i < G_N_ELEMENTS(domains); i++)
        el_each(g, el_find(el_find(doc_root(doc), domains[i]), "devices"), "graphics")
            if (el_get(g, "@passwd"))
                el_set(g, "@passwd", NULL);
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    const char *name;
    uint32_t flags = flags_arg(c, 1);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_SNAPSHOT_XML_SECURE, error) ? domain_moment_of_call(c, MOMENT_SNAPSHOT, &name, error) : NULL;
    if (d && c->conn->readonly && (flags & VIR_DOMAIN_SNAPSHOT_XML_SECURE))
        return manage_null(error, VIR_ERR_OPERATION_DENIED, "a read-only connection does not see passwords");
    doc_auto *doc = d ? domain_moment_document(d, MOMENT_SNAPSHOT, name, error) : NULL;
    if (!doc)
        return NULL;
    if (!(flags & VIR_DOMAIN_SNAPSHOT_XML_SECURE))
        hide_passwords(doc);
    g_autofree char *text = doc_format(doc);
    return g_variant_new("(s)", text);
}

/* ---- changes ---- */

static GVariant *create(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags = flags_arg(c, 2);
    g_variant_get_child(c->args, 1, "&s", &xml);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "snapshot", false, error))
        return NULL;
    g_autofree char *name = domain_snapshot_make(d, xml, flags, error);
    domain_end(d);
    return name ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, name)) : NULL;
}

static GVariant *revert(struct manage_call *c, GError **error)
{
    const char *name;
    domain_auto *d = domain_moment_of_call(c, MOMENT_SNAPSHOT, &name, error);
    return d && domain_snapshot_revert(d, name, flags_arg(c, 1), c, error) ? manage_void() : NULL;
}

static GVariant *delete(struct manage_call *c, GError **error)
{
    const char *name;
    domain_auto *d = domain_moment_of_call(c, MOMENT_SNAPSHOT, &name, error);
    return d && domain_snapshot_delete(d, name, flags_arg(c, 1), error) ? manage_void() : NULL;
}

const struct manage_row domain_rows_snapshot[] = {
    { RPC_DOMAIN_SNAPSHOT_NUM, num },
    { RPC_DOMAIN_SNAPSHOT_LIST_NAMES, list_names },
    { RPC_DOMAIN_LIST_ALL_SNAPSHOTS, list_all },
    { RPC_DOMAIN_SNAPSHOT_NUM_CHILDREN, num_children },
    { RPC_DOMAIN_SNAPSHOT_LIST_CHILDREN_NAMES, list_children_names },
    { RPC_DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN, list_all_children },
    { RPC_DOMAIN_SNAPSHOT_LOOKUP_BY_NAME, lookup },
    { RPC_DOMAIN_HAS_CURRENT_SNAPSHOT, has_current },
    { RPC_DOMAIN_SNAPSHOT_CURRENT, current },
    { RPC_DOMAIN_SNAPSHOT_IS_CURRENT, is_current },
    { RPC_DOMAIN_SNAPSHOT_HAS_METADATA, has_metadata },
    { RPC_DOMAIN_SNAPSHOT_GET_PARENT, get_parent },
    { RPC_DOMAIN_SNAPSHOT_GET_XML_DESC, get_xml },
    { RPC_DOMAIN_SNAPSHOT_CREATE_XML, create },
    { RPC_DOMAIN_REVERT_TO_SNAPSHOT, revert },
    { RPC_DOMAIN_SNAPSHOT_DELETE, delete },
    { 0, NULL },
};
