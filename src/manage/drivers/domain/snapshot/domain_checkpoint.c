/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checkpoints: bitmaps in images, their documents, the calls about them. */
#include "manage/drivers/domain/snapshot/domain_checkpoint.h"

#include <string.h>

#include "manage/drivers/domain/guest/domain_agent.h"
#include "manage/drivers/domain/stats/domain_stats.h"

enum { LIST_FLAGS = VIR_DOMAIN_CHECKPOINT_LIST_ROOTS | VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL | VIR_DOMAIN_CHECKPOINT_LIST_LEAVES | VIR_DOMAIN_CHECKPOINT_LIST_NO_LEAVES,
       LIST_MOST = 16384 };

/* ---- bitmaps ---- */

struct json_object *domain_bitmap_nodes(struct domain *d, GError **error)
{
    struct json_object *args = json_object_new_object();
    js_bool(args, "flat", true);
    return monitor_command(d, "query-named-block-nodes", args, error);
}

void domain_action(struct json_object *actions, const char *type, struct json_object *data)
{
    struct json_object *o = json_object_new_object();
    js_set(o, "type", type);
    json_object_object_add(o, "data", data);
    json_object_array_add(actions, o);
}

bool domain_transaction(struct domain *d, struct json_object *actions, GError **error)
{
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "actions", actions);
    return domain_command_run(d, "transaction", args, error);
}

/* Its dirty-bitmaps; NULL: none. Borrowed. */
static struct json_object *bitmaps_of(struct json_object *nodes, const char *node)
{
    for (size_t i = 0; nodes && json_object_is_type(nodes, json_type_array) && i < json_object_array_length(nodes); i++) {
        struct json_object *o = json_object_array_get_idx(nodes, i), *name, *list;
        if (json_object_object_get_ex(o, "node-name", &name) && !g_strcmp0(json_object_get_string(name), node))
            return json_object_object_get_ex(o, "dirty-bitmaps", &list) && json_object_is_type(list, json_type_array) ? list : NULL;
    }
    return NULL;
}

static struct json_object *find_bitmap(struct json_object *nodes, const char *node, const char *bitmap)
{
    struct json_object *list = bitmaps_of(nodes, node), *name;
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (json_object_object_get_ex(o, "name", &name) && !g_strcmp0(json_object_get_string(name), bitmap))
            return o;
    }
    return NULL;
}

static bool is_true(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static struct json_object *new_bitmap(const char *node, const char *name)
{
    struct json_object *o = json_object_new_object();
    js_set(o, "node", node);
    js_set(o, "name", name);
    js_bool(o, "persistent", true);
    return o;
}

void domain_bitmap_carry_on(struct json_object *actions, struct json_object *nodes, const char *node, const char *overlay)
{
    struct json_object *list = bitmaps_of(nodes, node), *name;
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (!is_true(o, "persistent") || !is_true(o, "recording") || is_true(o, "inconsistent") || !json_object_object_get_ex(o, "name", &name))
            continue;
        struct json_object *data = new_bitmap(overlay, json_object_get_string(name));
        if (js_number(o, "granularity"))
            js_int(data, "granularity", js_number(o, "granularity"));
        domain_action(actions, "block-dirty-bitmap-add", data);
    }
}

struct json_object *domain_bitmap_chain(struct json_object *nodes, const struct el *disk, const char *bitmap, uint64_t *ret_dirty, GError **error)
{
    struct json_object *all = json_object_new_array();
    for (const struct el *e = disk; e; e = domain_chain_below(e)) {
        g_autofree char *node = domain_chain_node(e);
        struct json_object *o = node ? find_bitmap(nodes, node, bitmap) : NULL, *one;
        if (!o)
            break;
        if (is_true(o, "inconsistent") || (e == disk && !is_true(o, "recording"))) {
            json_object_put(all);
            return manage_null(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "Checkpoint inconsistent: the bitmap '%s' of disk '%s' does not have all writes", bitmap, el_get_or(disk, "target/@dev", "?"));
        }
        one = json_object_new_object();
        js_set(one, "node", node);
        js_set(one, "name", bitmap);
        json_object_array_add(all, one);
        if (ret_dirty)
            *ret_dirty += (uint64_t)js_number(o, "count");
    }
    if (json_object_array_length(all))
        return all;
    json_object_put(all);
    return manage_null(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "Checkpoint inconsistent: missing or broken bitmap '%s' for disk '%s'", bitmap, el_get_or(disk, "target/@dev", "?"));
}

char *domain_checkpoint_bitmap(struct domain *d, const char *checkpoint, const char *disk)
{
    doc_auto *doc = domain_moment_document(d, MOMENT_CHECKPOINT, checkpoint, NULL);
    el_each(e, doc ? el_find(doc_root(doc), "disks") : NULL, "disk")
        if (el_is(e, "@name", disk) && el_is(e, "@checkpoint", "bitmap"))
            return g_strdup(el_get_or(e, "@bitmap", checkpoint));
    return NULL;
}

/* ---- a new one ---- */

static bool describe_disk(struct el *spec, const struct el *disk, const char *name, bool listed, GError **error)
{
    bool can = el_find(disk, "source") && !el_find(disk, "readonly");
    const char *target = el_get_or(disk, "target/@dev", "?");
    el_set(spec, "@name", target);
    if (!el_get(spec, "@checkpoint"))
        el_set(spec, "@checkpoint", can && listed ? "bitmap" : "no");
    if (el_is(spec, "@checkpoint", "no"))
        return true;
    if (!can)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' is empty or readonly", target);
    if (!el_is(disk, "driver/@type", "qcow2"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "checkpoint for disk %s unsupported for storage type %s", target, el_get_or(disk, "driver/@type", "raw"));
    if (!el_get(spec, "@bitmap"))
        el_set(spec, "@bitmap", name);
    return true;
}

static struct el *named(struct el *disks, const char *target)
{
    el_each(e, disks, "disk")
        if (el_is(e, "@name", target))
            return e;
    return NULL;
}

static bool align(struct doc *doc, struct doc *live, struct json_object *actions, GError **error)
{
    struct el *root = doc_root(doc), *old = el_find(root, "disks"), *devices = el_find(doc_root(live), "devices");
    const char *name = el_get_or(root, "name", "");
    el_each(spec, old, "disk")
        if (!domain_need_disk(live, el_get_or(spec, "@name", ""), VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: no disk named '%s'", error))
            return false;
    struct el *disks = el_add(root, "disks");
    el_each(disk, devices, "disk") {
        struct el *said = old ? named(old, el_get_or(disk, "target/@dev", "")) : NULL, *spec = said ? el_copy(disks, said) : el_add(disks, "disk");
        if (!describe_disk(spec, disk, name, said || !old, error))
            return false;
        g_autofree char *node = el_is(spec, "@checkpoint", "bitmap") ? domain_chain_node(disk) : NULL;
        if (node)
            domain_action(actions, "block-dirty-bitmap-add", new_bitmap(node, el_get(spec, "@bitmap")));
    }
    if (old)
        el_remove(old);
    return true;
}

static bool describe(struct domain *d, struct doc *doc, struct doc *live, GError **error)
{
    struct el *root = doc_root(doc);
    static const char *const given[] = { "parent", "creationTime", "domain" };
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    if (!el_get(root, "name"))
        el_setf(root, "name", "%" G_GINT64_FORMAT, now);
    const char *name = el_get(root, "name");
    if (!domain_moment_name_ok(MOMENT_CHECKPOINT, name, error))
        return false;
    g_mutex_lock(&d->lock);
    bool taken = domain_moment_find_locked(d, MOMENT_CHECKPOINT, name) != NULL;
    g_autofree char *parent = g_strdup(domain_moment_current_locked(d, MOMENT_CHECKPOINT));
    g_mutex_unlock(&d->lock);
    if (taken)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "domain moment %s already exists", name);
    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        if (el_find(root, given[i]))
            el_remove(el_find(root, given[i]));
    if (parent)
        el_set(root, "parent/name", parent);
    el_setf(root, "creationTime", "%" G_GINT64_FORMAT, now);
    domain_moment_set_domain(doc, "domain", live);
    return true;
}

struct doc *domain_checkpoint_plan(struct domain *d, const char *xml, struct json_object *actions, GError **error)
{
    struct doc *doc = doc_parse(&schema_checkpoint, xml, -1, error);
    doc_auto *live = doc ? domain_live(d, error) : NULL;
    if (live && describe(d, doc, live, error) && align(doc, live, actions, error))
        return doc;
    doc_free(doc);
    return NULL;
}

static bool create_new(struct domain *d, const char *xml, char **ret_name, GError **error)
{
    if (d->id < 0)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "cannot create checkpoint for inactive domain");
    struct json_object *actions = json_object_new_array();
    doc_auto *doc = domain_checkpoint_plan(d, xml, actions, error);
    if (!doc || !domain_moment_put(d, MOMENT_CHECKPOINT, doc_copy(doc), true, error)) {
        json_object_put(actions);
        return false;
    }
    *ret_name = g_strdup(el_get(doc_root(doc), "name"));
    bool any = json_object_array_length(actions) > 0;
    if (!any)
        json_object_put(actions);
    if (!any || domain_transaction(d, actions, error))
        return true;
    (void)!domain_moment_remove(d, MOMENT_CHECKPOINT, *ret_name, NULL);
    g_clear_pointer(ret_name, g_free);
    return false;
}

static bool redefine(struct domain *d, const char *xml, char **ret_name, GError **error)
{
    struct doc *doc = doc_parse(&schema_checkpoint, xml, -1, error);
    const char *name = doc ? el_get(doc_root(doc), "name") : NULL, *parent = doc ? el_get(doc_root(doc), "parent/name") : NULL;
    bool ok = doc != NULL;
    if (ok && (!name || !el_get(doc_root(doc), "creationTime")))
        ok = manage_fail(error, VIR_ERR_XML_ERROR, "missing %s from existing checkpoint", name ? "creationTime" : "name");
    ok = ok && domain_moment_name_ok(MOMENT_CHECKPOINT, name, error);
    doc_auto *inside = ok ? domain_moment_domain(doc, "domain", error) : NULL;
    ok = ok && inside;
    g_mutex_lock(&d->lock);
    struct moment *above = ok && parent ? domain_moment_find_locked(d, MOMENT_CHECKPOINT, parent) : NULL;
    bool circle = above && (!g_strcmp0(parent, name) || domain_moment_is_below_locked(d, MOMENT_CHECKPOINT, above, name));
    bool last = ok && !domain_moment_children_locked(d, MOMENT_CHECKPOINT, name) && !g_strcmp0(domain_moment_current_locked(d, MOMENT_CHECKPOINT), parent);
    g_mutex_unlock(&d->lock);
    if (ok && ((parent && !above) || circle))
        ok = manage_fail(error, VIR_ERR_INVALID_ARG, "parent %s for moment %s %s", parent, name, circle ? "would create cycle" : "not found");
    if (!ok) {
        doc_free(doc);
        return false;
    }
    *ret_name = g_strdup(name);
    return domain_moment_put(d, MOMENT_CHECKPOINT, doc, last, error);
}

static GVariant *create(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    g_autofree char *name = NULL;
    g_variant_get_child(c->args, 1, "&s", &xml);
    g_variant_get_child(c->args, 2, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "checkpoint", false, error))
        return NULL;
    bool quiet = flags & VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE, ok = true;
    if (quiet) {
        struct json_object *o = domain_agent_command(d, "guest-fsfreeze-freeze", NULL, false, error);
        ok = o != NULL;
        json_object_put(o);
    }
    ok = ok && (flags & VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE ? redefine(d, xml, &name, error) : create_new(d, xml, &name, error));
    if (quiet)
        json_object_put(domain_agent_command(d, "guest-fsfreeze-thaw", NULL, false, NULL));
    domain_end(d);
    return ok ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, name)) : NULL;
}

/* ---- the end ---- */

static bool remove_bitmaps(struct domain *d, const char *name, GError **error)
{
    doc_auto *doc = domain_moment_document(d, MOMENT_CHECKPOINT, name, error), *live = doc ? domain_live(d, error) : NULL;
    struct json_object *nodes = live ? domain_bitmap_nodes(d, error) : NULL, *actions = json_object_new_array();
    el_each(spec, nodes ? el_find(doc_root(doc), "disks") : NULL, "disk") {
        const struct el *disk = el_is(spec, "@checkpoint", "bitmap") ? domain_find_disk(live, el_get_or(spec, "@name", "")) : NULL;
        const char *bitmap = el_get_or(spec, "@bitmap", name);
        g_autofree char *node = disk ? domain_chain_node(disk) : NULL;
        if (!node || !find_bitmap(nodes, node, bitmap)) /* what lies deeper cannot be changed, and does no harm */
            continue;
        struct json_object *data = json_object_new_object();
        js_set(data, "node", node);
        js_set(data, "name", bitmap);
        domain_action(actions, "block-dirty-bitmap-remove", data);
    }
    bool ok = nodes != NULL, any = json_object_array_length(actions) > 0;
    json_object_put(nodes);
    if (ok && any)
        return domain_transaction(d, actions, error);
    json_object_put(actions);
    return ok;
}

static bool delete_one(struct domain *d, const char *name, bool metadata, GError **error)
{
    if (!metadata && d->id < 0)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "cannot delete checkpoint for inactive domain");
    return (metadata || remove_bitmaps(d, name, error)) && domain_moment_remove(d, MOMENT_CHECKPOINT, name, error);
}

bool domain_checkpoint_delete(struct domain *d, const char *name, GError **error) { return delete_one(d, name, false, error); }

static GVariant *delete(struct manage_call *c, GError **error)
{
    const char *name;
    uint32_t flags;
    const uint32_t below = VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN | VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY;
    g_variant_get_child(c->args, 1, "u", &flags);
    domain_auto *d = manage_check_flags(flags, below | VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY, error) ? domain_moment_of_call(c, MOMENT_CHECKPOINT, &name, error) : NULL;
    if (!d || !domain_begin(d, "checkpoint delete", false, error))
        return NULL;
    g_autoptr(GPtrArray) names = flags & below ? domain_moment_descendants(d, MOMENT_CHECKPOINT, name) : g_ptr_array_new_with_free_func(g_free);
    if (!(flags & VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY))
        g_ptr_array_add(names, g_strdup(name));
    bool ok = true;
    for (unsigned i = 0; ok && i < names->len; i++)
        ok = delete_one(d, names->pdata[i], flags & VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

/* ---- looking ---- */

/* How much was written since, by disk. */
static bool add_sizes(struct domain *d, struct doc *doc, GError **error)
{
    doc_auto *live = domain_live(d, error);
    struct json_object *nodes = live ? domain_bitmap_nodes(d, error) : NULL;
    bool ok = nodes != NULL;
    el_each(spec, ok ? el_find(doc_root(doc), "disks") : NULL, "disk") {
        const struct el *disk = el_is(spec, "@checkpoint", "bitmap") ? domain_find_disk(live, el_get_or(spec, "@name", "")) : NULL;
        uint64_t dirty = 0;
        if (!disk)
            continue;
        struct json_object *chain = ok ? domain_bitmap_chain(nodes, disk, el_get_or(spec, "@bitmap", ""), &dirty, error) : NULL;
        ok = chain != NULL;
        json_object_put(chain);
        el_setf(spec, "@size", "%" G_GUINT64_FORMAT, dirty);
    }
    json_object_put(nodes);
    return ok;
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    const char *name;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_CHECKPOINT_XML_SECURE | VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN | VIR_DOMAIN_CHECKPOINT_XML_SIZE, error) ?
                     domain_moment_of_call(c, MOMENT_CHECKPOINT, &name, error) : NULL;
    if (d && c->conn->readonly && (flags & VIR_DOMAIN_CHECKPOINT_XML_SECURE))
        return manage_null(error, VIR_ERR_OPERATION_DENIED, "a read-only connection does not see passwords");
    doc_auto *doc = d ? domain_moment_document(d, MOMENT_CHECKPOINT, name, error) : NULL;
    if (!doc)
        return NULL;
    struct el *domain = el_find(doc_root(doc), "domain");
    if (domain && (flags & VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN))
        el_remove(domain);
    else if (!(flags & VIR_DOMAIN_CHECKPOINT_XML_SECURE))
        el_each(g, domain ? el_find(domain, "devices") : NULL, "graphics")
            if (el_get(g, "@passwd"))
                el_set(g, "@passwd", NULL);
    if ((flags & VIR_DOMAIN_CHECKPOINT_XML_SIZE) && !add_sizes(d, doc, error))
        return NULL;
    g_autofree char *text = doc_format(doc);
    return g_variant_new("(s)", text);
}

static GVariant *records(struct manage_call *c, bool below, GError **error)
{
    const char *from = NULL;
    int need;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "i", &need);
    g_variant_get_child(c->args, 2, "u", &flags);
    domain_auto *d = !manage_check_flags(flags, LIST_FLAGS, error) ? NULL : below ? domain_moment_of_call(c, MOMENT_CHECKPOINT, &from, error) : domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    g_autoptr(GPtrArray) all = domain_moment_list(d, MOMENT_CHECKPOINT, from, flags);
    if (all->len > LIST_MOST)
        return manage_null(error, VIR_ERR_RPC, "too many domain checkpoints '%u' for limit '%d'", all->len, LIST_MOST);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(s(sayi))"));
    for (unsigned i = 0; need && i < all->len; i++)
        g_variant_builder_add_value(&b, domain_moment_record(d, all->pdata[i]));
    return g_variant_new("(a(s(sayi))i)", &b, (int)all->len);
}

static GVariant *list_all(struct manage_call *c, GError **error) { return records(c, false, error); }
static GVariant *list_all_children(struct manage_call *c, GError **error) { return records(c, true, error); }

static GVariant *lookup(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 1, "&s", &name);
    domain_auto *d = domain_of_call(c, 0, error);
    doc_auto *doc = d ? domain_moment_document(d, MOMENT_CHECKPOINT, name, error) : NULL;
    return doc ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, name)) : NULL;
}

static GVariant *get_parent(struct manage_call *c, GError **error)
{
    const char *name;
    domain_auto *d = domain_moment_of_call(c, MOMENT_CHECKPOINT, &name, error);
    doc_auto *doc = d ? domain_moment_document(d, MOMENT_CHECKPOINT, name, error) : NULL;
    const char *parent = doc ? el_get(doc_root(doc), "parent/name") : NULL;
    if (doc && !parent)
        return manage_null(error, VIR_ERR_NO_DOMAIN_CHECKPOINT, "checkpoint '%s' does not have a parent", name);
    return parent ? g_variant_new("(@(s(sayi)))", domain_moment_record(d, parent)) : NULL;
}

const struct manage_row domain_rows_checkpoint[] = {
    { RPC_DOMAIN_CHECKPOINT_CREATE_XML, create },
    { RPC_DOMAIN_CHECKPOINT_GET_XML_DESC, get_xml },
    { RPC_DOMAIN_LIST_ALL_CHECKPOINTS, list_all },
    { RPC_DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN, list_all_children },
    { RPC_DOMAIN_CHECKPOINT_LOOKUP_BY_NAME, lookup },
    { RPC_DOMAIN_CHECKPOINT_GET_PARENT, get_parent },
    { RPC_DOMAIN_CHECKPOINT_DELETE, delete },
    { 0, NULL },
};
