/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bindings: which filter is on which tap. The domain driver makes and ends those of its machines; clients may make others. */
#include <net/if.h>
#include <string.h>

#include "base/log.h"
#include "manage/drivers/nwfilter/nwfilter.h"

/* ---- objects and files ---- */

void nwfilter_binding_free(gpointer opaque)
{
    struct nwbinding *b = opaque;
    if (!b)
        return;
    nwfilter_learn_end(b);
    doc_free(b->def);
    g_free(b->ip);
    g_free(b->port);
    g_free(b);
}

/* nft takes some characters of a device's name for its own. */
static bool good_port(const char *name)
{
    return *name && strlen(name) < IFNAMSIZ && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:@") == strlen(name);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(el_get_or(*(struct el *const *)a, "@name", ""), el_get_or(*(struct el *const *)b, "@name", ""));
}

/* Parameters in the order of their names; values of one name stay in their order (g_ptr_array_sort is stable). */
static void sort_parameters(struct doc *def)
{
    struct el *ref = el_find(doc_root(def), "filterref");
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
    el_each (p, ref, "parameter")
        g_ptr_array_add(all, p);
    g_ptr_array_sort(all, by_name);
    for (unsigned i = 0; i < all->len; i++) {
        g_ptr_array_add(pairs, g_strdup(el_get(all->pdata[i], "@name")));
        g_ptr_array_add(pairs, g_strdup(el_get(all->pdata[i], "@value")));
    }
    for (unsigned i = 0; i < all->len; i++)
        el_remove(all->pdata[i]);
    for (unsigned i = 0; i < pairs->len; i += 2) {
        struct el *p = el_add(ref, "parameter");
        el_set(p, "@name", pairs->pdata[i]);
        el_set(p, "@value", pairs->pdata[i + 1]);
    }
}

/* The first value of a parameter, or NULL. */
static const char *parameter(const struct el *ref, const char *name)
{
    el_each (p, ref, "parameter")
        if (el_is(p, "@name", name))
            return el_get_or(p, "@value", "");
    return NULL;
}

static bool learn_mode(const struct el *ref, enum nwfilter_learn *ret, GError **error)
{
    static const char *const modes[] = { [NW_LEARN_ANY] = "any", [NW_LEARN_DHCP] = "dhcp", [NW_LEARN_NONE] = "none" };
    const char *text = parameter(ref, "CTRL_IP_LEARNING");
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++)
        if (!g_ascii_strcasecmp(text ? text : "any", modes[i])) {
            *ret = i;
            return true;
        }
    return manage_fail(error, VIR_ERR_XML_ERROR, "CTRL_IP_LEARNING is '%s': any, dhcp and none are there", text);
}

/* Takes def. */
static struct nwbinding *binding_new(struct doc *def, bool domains, GError **error)
{
    struct el *root = doc_root(def), *ref = el_find(root, "filterref");
    const char *port = el_get_or(root, "portdev/@name", ""), *name = el_get_or(root, "owner/name", "");
    if (!good_port(port) || strpbrk(name, "\n")) {
        manage_fail(error, VIR_ERR_XML_ERROR, "'%s' cannot be the name of a network device that is filtered", port);
        doc_free(def);
        return NULL;
    }
    enum nwfilter_learn mode = NW_LEARN_ANY;
    if (!learn_mode(ref, &mode, error)) {
        doc_free(def);
        return NULL;
    }
    if (!parameter(ref, "MAC")) {
        struct el *p = el_add(ref, "parameter");
        el_set(p, "@name", "MAC");
        el_set(p, "@value", el_get(root, "mac/@address"));
    }
    sort_parameters(def);
    struct nwbinding *b = g_new0(struct nwbinding, 1);
    b->port = g_strdup(port);
    b->def = def;
    b->domains = domains;
    b->mode = mode;
    return b;
}

static char *file_of(const struct nwfilter_driver *dr, const struct nwbinding *b)
{
    return g_strdup_printf("%s/%s.%s", dr->state_dir, b->port, b->domains ? "domain" : "xml");
}

static char *note_of(const struct nwfilter_driver *dr, const struct nwbinding *b) { return g_strdup_printf("%s/%s.address", dr->state_dir, b->port); }

bool nwfilter_binding_note(struct nwfilter_driver *dr, const struct nwbinding *b, GError **error)
{
    g_autofree char *path = note_of(dr, b);
    return manage_put_file(path, b->ip, -1, 0600, error);
}

static bool save(struct nwfilter_driver *dr, const struct nwbinding *b, GError **error)
{
    g_autofree char *path = file_of(dr, b), *text = doc_format(b->def);
    return manage_put_file(path, text, -1, 0600, error); /* need not outlive the host's next start */
}

static void forget(struct nwfilter_driver *dr, const struct nwbinding *b)
{
    g_autofree char *path = file_of(dr, b), *note = note_of(dr, b);
    (void)manage_remove_file(path, NULL);
    (void)manage_remove_file(note, NULL);
}

/* A machine's tap that has gone took its binding along, though no daemon was there to see it. */
static void load_one(struct nwfilter_driver *dr, const char *file)
{
    g_autofree char *path = g_build_filename(dr->state_dir, file, NULL), *text = NULL;
    g_autoptr(GError) e = NULL;
    bool domains = g_str_has_suffix(file, ".domain");
    struct doc *def = g_file_get_contents(path, &text, NULL, &e) ? doc_parse(&schema_nwfilterbinding, text, -1, &e) : NULL;
    struct nwbinding *b = def ? binding_new(def, domains, &e) : NULL;
    if (!b) {
        log_warn("network filters: '%s' is left alone: %s", path, e->message);
    } else if (domains && !if_nametoindex(b->port)) {
        forget(dr, b);
        nwfilter_binding_free(b);
    } else {
        g_autofree char *note = note_of(dr, b), *address = NULL;
        if (g_file_get_contents(note, &address, NULL, NULL))
            b->ip = nwfilter_canonical(NW_IP4, false, g_strchomp(address));
        g_hash_table_replace(dr->bindings, b->port, b);
    }
}

void nwfilter_binding_load(struct nwfilter_driver *dr)
{
    g_autoptr(GDir) dir = g_dir_open(dr->state_dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (*name != '.' && (g_str_has_suffix(name, ".xml") || g_str_has_suffix(name, ".domain")))
            load_one(dr, name);
}

/* ---- changes: under `change` ---- */

static struct nwbinding *exchange(struct nwfilter_driver *dr, const char *port, struct nwbinding *b)
{
    gpointer key = NULL, old = NULL;
    g_mutex_lock(&dr->lock);
    g_hash_table_steal_extended(dr->bindings, port, &key, &old);
    if (b)
        g_hash_table_insert(dr->bindings, b->port, b);
    g_mutex_unlock(&dr->lock);
    return old;
}

/* Rules first, then the file: what is written down is in force. Takes b, also where it fails. */
static bool put(struct nwfilter_driver *dr, struct nwbinding *b, GError **error)
{
    struct nwbinding *old = exchange(dr, b->port, b);
    if (old && old->domains && b->domains && el_equal(el_find(doc_root(old->def), "owner"), el_find(doc_root(b->def), "owner")) && b->mode != NW_LEARN_NONE)
        b->ip = g_strdup(old->ip); /* the same guest with another filter */
    if (nwfilter_apply(dr, error) && save(dr, b, error)) {
        if (old && old->domains != b->domains)
            forget(dr, old);
        nwfilter_binding_free(old);
        return true;
    }
    (void)exchange(dr, b->port, old);
    (void)!nwfilter_apply(dr, NULL);
    nwfilter_binding_free(b);
    return false;
}

static bool take_away(struct nwfilter_driver *dr, const char *port, GError **error)
{
    struct nwbinding *b = exchange(dr, port, NULL);
    if (!b)
        return true;
    forget(dr, b);
    bool ok = nwfilter_apply(dr, error);
    nwfilter_binding_free(b);
    return ok;
}

/* ---- what the domain driver asks ---- */

static bool attach(struct manage_state *s, const struct manage_filter_place *p, GError **error)
{
    struct nwfilter_driver *dr = manage_data(s, "nwfilter");
    struct doc *def = doc_new(&schema_nwfilterbinding);
    struct el *root = doc_root(def);
    el_set(root, "owner/name", p->domain);
    el_set(root, "owner/uuid", p->uuid);
    el_set(root, "portdev/@name", p->port);
    if (p->bridge)
        el_set(root, "linkdev/@name", p->bridge);
    el_set(root, "mac/@address", p->mac);
    el_set(root, "filterref/@filter", el_get(p->filterref, "@filter"));
    struct el *ref = el_find(root, "filterref");
    el_each (from, p->filterref, "parameter") {
        struct el *to = el_add(ref, "parameter");
        el_set(to, "@name", el_get(from, "@name"));
        el_set(to, "@value", el_get(from, "@value"));
    }
    struct nwbinding *b = binding_new(def, true, error);
    if (!b)
        return false;
    g_mutex_lock(&dr->change);
    bool ok = put(dr, b, error);
    g_mutex_unlock(&dr->change);
    return ok;
}

static void detach(struct manage_state *s, const char *port)
{
    struct nwfilter_driver *dr = manage_data(s, "nwfilter");
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&dr->lock);
    bool there = g_hash_table_contains(dr->bindings, port);
    g_mutex_unlock(&dr->lock);
    if (!there)
        return;
    g_mutex_lock(&dr->change);
    if (!take_away(dr, port, &error))
        g_warning("the network filter of '%s' is left behind: %s", port, error->message);
    g_mutex_unlock(&dr->change);
}

void nwfilter_binding_serve(struct nwfilter_driver *dr)
{
    struct manage_services *services = manage_services_of(dr->state);
    services->filter_attach = attach;
    services->filter_detach = detach;
    services->filter_mend = nwfilter_mend;
}

/* ---- calls ---- */

static GVariant *record(const struct nwbinding *b) { return g_variant_new("(ss)", b->port, el_get(doc_root(b->def), "filterref/@filter")); }

static struct nwbinding *need(struct nwfilter_driver *dr, const char *port, GError **error)
{
    struct nwbinding *b = g_hash_table_lookup(dr->bindings, port);
    return b ? b : manage_null(error, VIR_ERR_NO_NWFILTER_BINDING, "Network filter binding not found: no nwfilter binding for port dev '%s'", port);
}

static struct nwbinding *of_call(struct nwfilter_driver *dr, struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) r = g_variant_get_child_value(c->args, 0);
    const char *port;
    g_variant_get_child(r, 0, "&s", &port);
    return need(dr, port, error);
}

static GVariant *one(const struct nwbinding *b)
{
    GVariant *r = b ? record(b) : NULL;
    return r ? g_variant_new_tuple(&r, 1) : NULL;
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    int want;
    uint32_t flags, n = 0;
    g_variant_get(c->args, "(iu)", &want, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(ss)"));
    g_mutex_lock(&dr->lock);
    GList *all = g_list_sort(g_hash_table_get_keys(dr->bindings), (GCompareFunc)strcmp);
    for (GList *l = all; l; l = l->next, n++)
        if (want)
            g_variant_builder_add_value(&b, record(g_hash_table_lookup(dr->bindings, l->data)));
    g_list_free(all);
    g_mutex_unlock(&dr->lock);
    return g_variant_new("(a(ss)u)", &b, n);
}

static GVariant *by_port(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    const char *port;
    g_variant_get(c->args, "(&s)", &port);
    g_mutex_lock(&dr->lock);
    GVariant *v = one(need(dr, port, error));
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
    const struct nwbinding *b = of_call(dr, c, error);
    GVariant *v = b ? g_variant_new("(@s)", g_variant_new_take_string(doc_format(b->def))) : NULL;
    g_mutex_unlock(&dr->lock);
    return v;
}

static GVariant *create(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    const char *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    struct doc *def = manage_check_flags(flags, VIR_NWFILTER_BINDING_CREATE_VALIDATE, error) ? doc_parse(&schema_nwfilterbinding, xml, -1, error) : NULL;
    struct nwbinding *b = def ? binding_new(def, false, error) : NULL;
    if (!b)
        return NULL;
    g_autofree char *port = g_strdup(b->port);
    g_mutex_lock(&dr->change);
    bool there = g_hash_table_contains(dr->bindings, port);
    if (there) {
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "binding '%s' already exists", port);
        nwfilter_binding_free(b);
    }
    GVariant *v = !there && put(dr, b, error) ? one(b) : NULL;
    g_mutex_unlock(&dr->change);
    return v;
}

static GVariant *delete(struct manage_call *c, GError **error)
{
    struct nwfilter_driver *dr = nwfilter_driver_of(c);
    g_mutex_lock(&dr->change);
    const struct nwbinding *b = of_call(dr, c, error);
    g_autofree char *port = b ? g_strdup(b->port) : NULL;
    bool ok = b && take_away(dr, port, error);
    g_mutex_unlock(&dr->change);
    return ok ? manage_void() : NULL;
}

const struct manage_row nwfilter_rows_binding[] = {
    { RPC_CONNECT_LIST_ALL_NWFILTER_BINDINGS, list_all },
    { RPC_NWFILTER_BINDING_LOOKUP_BY_PORT_DEV, by_port },
    { RPC_NWFILTER_BINDING_GET_XML_DESC, get_xml },
    { RPC_NWFILTER_BINDING_CREATE_XML, create },
    { RPC_NWFILTER_BINDING_DELETE, delete },
    { 0, NULL },
};
