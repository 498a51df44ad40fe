/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots and checkpoints as documents: in memory, on disk, in lists. */
#include "manage/drivers/domain/snapshot/domain_moment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/complete/domain_complete.h"

static const struct {
    const char *dir, *root;
    const struct schema *schema;
    int missing;
    const char *what;
} kinds[MOMENT_KINDS] = {
    [MOMENT_SNAPSHOT] = { "snapshot", "domainsnapshot", &schema_snapshot, VIR_ERR_NO_DOMAIN_SNAPSHOT, "snapshot" },
    [MOMENT_CHECKPOINT] = { "checkpoint", "domaincheckpoint", &schema_checkpoint, VIR_ERR_NO_DOMAIN_CHECKPOINT, "checkpoint" },
};

/* ---- memory ---- */

static void moment_free(gpointer p)
{
    struct moment *m = p;
    doc_free(m->doc);
    g_free(m);
}

static struct moment *moment_new(struct doc *doc)
{
    struct moment *m = g_new0(struct moment, 1);
    m->doc = doc;
    m->name = el_get_or(doc_root(doc), "name", "");
    m->parent = el_get(doc_root(doc), "parent/name");
    return m;
}

void domain_moments_free(struct moments *m)
{
    for (unsigned k = 0; m && k < MOMENT_KINDS; k++) {
        if (m[k].all)
            g_ptr_array_unref(m[k].all);
        g_free(m[k].current);
    }
    g_free(m);
}

static struct moments *moments_locked(struct domain *d, enum moment_kind kind)
{
    if (!d->moments) {
        d->moments = g_new0(struct moments, MOMENT_KINDS);
        for (unsigned k = 0; k < MOMENT_KINDS; k++)
            d->moments[k].all = g_ptr_array_new_with_free_func(moment_free);
    }
    return &d->moments[kind];
}

struct moment *domain_moment_find_locked(struct domain *d, enum moment_kind kind, const char *name)
{
    GPtrArray *all = d->moments ? d->moments[kind].all : NULL;
    for (unsigned i = 0; all && i < all->len; i++) {
        struct moment *m = all->pdata[i];
        if (g_str_equal(m->name, name))
            return m;
    }
    return NULL;
}

bool domain_moment_is_below_locked(struct domain *d, enum moment_kind kind, const struct moment *m, const char *ancestor)
{
    unsigned limit = d->moments ? d->moments[kind].all->len : 0; /* files may name each other in a circle */
    for (unsigned i = 0; m && m->parent && i < limit; i++) {
        if (g_str_equal(m->parent, ancestor))
            return true;
        m = domain_moment_find_locked(d, kind, m->parent);
    }
    return false;
}

unsigned domain_moment_children_locked(struct domain *d, enum moment_kind kind, const char *name)
{
    GPtrArray *all = d->moments ? d->moments[kind].all : NULL;
    unsigned n = 0;
    for (unsigned i = 0; all && i < all->len; i++)
        n += !g_strcmp0(((struct moment *)all->pdata[i])->parent, name);
    return n;
}

const char *domain_moment_current_locked(struct domain *d, enum moment_kind kind) { return d->moments ? d->moments[kind].current : NULL; }

unsigned domain_moments_count(struct domain *d, enum moment_kind kind)
{
    g_mutex_lock(&d->lock);
    unsigned n = d->moments ? d->moments[kind].all->len : 0;
    g_mutex_unlock(&d->lock);
    return n;
}

struct doc *domain_moment_document(struct domain *d, enum moment_kind kind, const char *name, GError **error)
{
    g_mutex_lock(&d->lock);
    struct moment *m = domain_moment_find_locked(d, kind, name);
    struct doc *doc = m ? doc_copy(m->doc) : NULL;
    g_mutex_unlock(&d->lock);
    return doc ? doc : manage_null(error, kinds[kind].missing, "Domain %s not found: no domain %s with matching name '%s'", kinds[kind].what, kinds[kind].what, name);
}

/* ---- disk ---- */

static char *dir_of(struct domain_driver *dr, enum moment_kind kind, const char *domain) { return g_build_filename(dr->lib_dir, kinds[kind].dir, domain, NULL); }

static char *path_of(struct domain *d, enum moment_kind kind, const char *name)
{
    g_autofree char *dir = dir_of(d->driver, kind, d->name);
    return g_strdup_printf("%s/%s.xml", dir, name);
}

bool domain_moment_name_ok(enum moment_kind kind, const char *name, GError **error)
{
    const char *bad = !*name ? "it is empty" : strchr(name, '/') ? "name can't contain '/'" : *name == '.' ? "name can't start with '.'" : strlen(name) > 240 ? "it is longer than 240 bytes" : NULL;
    for (const char *p = name; *p && !bad; p++)
        if ((unsigned char)*p < ' ')
            bad = "it has control characters";
    return !bad || manage_fail(error, VIR_ERR_XML_DETAIL, "invalid %s name '%s': %s", kinds[kind].what, name, bad);
}

/* The mark of the current one goes to the file alone: snapshots have it in their document there, checkpoints are told by their place. */
static bool write_file(struct domain *d, enum moment_kind kind, const struct doc *doc, bool current, GError **error)
{
    doc_auto *copy = doc_copy(doc);
    if (kind == MOMENT_SNAPSHOT)
        el_set(doc_root(copy), "active", current ? "1" : "0");
    g_autofree char *body = doc_format(copy), *path = path_of(d, kind, el_get_or(doc_root(doc), "name", ""));
    g_autofree char *text = g_strdup_printf("<!--\nThis file belongs to the daemon vireod: changes made here are seen at its next start.\nUse 'virsh %s-edit' instead, which checks them.\n-->\n%s",
                                            kinds[kind].what, body);
    return manage_write_file(path, text, -1, 0600, error);
}

static struct doc *read_file(enum moment_kind kind, const char *path, const char *file, bool *ret_current, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error))
        return NULL;
    const char *end = g_str_has_prefix(text, "<!--") ? strstr(text, "-->\n") : NULL;
    struct doc *doc = doc_parse(kinds[kind].schema, end ? end + 4 : text, -1, error);
    if (!doc)
        return NULL;
    g_autofree char *own = g_strconcat(el_get_or(doc_root(doc), "name", ""), ".xml", NULL);
    if (!g_str_equal(own, file)) {
        manage_fail(error, VIR_ERR_XML_ERROR, "the %s inside is named '%s'", kinds[kind].what, el_get_or(doc_root(doc), "name", ""));
        doc_free(doc);
        return NULL;
    }
    *ret_current = kind == MOMENT_SNAPSHOT && el_is(doc_root(doc), "active", "1");
    if (kind == MOMENT_SNAPSHOT)
        el_set(doc_root(doc), "active", NULL);
    return doc;
}

/* A parent that is not there (its file was lost, or a circle) leaves a root. The current checkpoint is the last one. */
static void mend_locked(struct domain *d, enum moment_kind kind)
{
    struct moments *ms = moments_locked(d, kind);
    guint64 latest = 0;
    for (unsigned i = 0; i < ms->all->len; i++) {
        struct moment *m = ms->all->pdata[i];
        if (m->parent && (!domain_moment_find_locked(d, kind, m->parent) || domain_moment_is_below_locked(d, kind, m, m->name))) {
            el_remove(el_find(doc_root(m->doc), "parent"));
            m->parent = NULL;
        }
        guint64 time = domain_number(doc_root(m->doc), "creationTime", 0);
        if (kind == MOMENT_CHECKPOINT && !domain_moment_children_locked(d, kind, m->name) && time >= latest) {
            latest = time;
            g_free(ms->current);
            ms->current = g_strdup(m->name);
        }
    }
}

static void load_dir(struct domain *d, enum moment_kind kind, const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *file;
    g_mutex_lock(&d->lock);
    struct moments *ms = moments_locked(d, kind);
    while (dir && (file = g_dir_read_name(dir))) {
        g_autoptr(GError) error = NULL;
        g_autofree char *full = g_build_filename(path, file, NULL);
        bool current = false;
        if (file[0] == '.' && strstr(file, ".xml."))
            unlink(full); /* half written */
        if (file[0] == '.' || !g_str_has_suffix(file, ".xml"))
            continue;
        struct doc *doc = read_file(kind, full, file, &current, &error);
        if (!doc) {
            g_warning("%s: not loaded, the file is left as it is: %s", full, error->message);
            continue;
        }
        struct moment *m = moment_new(doc);
        g_ptr_array_add(ms->all, m);
        if (current) {
            g_free(ms->current);
            ms->current = g_strdup(m->name);
        }
    }
    mend_locked(d, kind);
    g_mutex_unlock(&d->lock);
}

void domain_moments_load_one(struct domain *d)
{
    for (unsigned k = 0; k < MOMENT_KINDS; k++) {
        g_autofree char *path = dir_of(d->driver, k, d->name);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            load_dir(d, (enum moment_kind)k, path);
    }
}

static bool loaded(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool yes = d->moments != NULL;
    g_mutex_unlock(&d->lock);
    return yes;
}

void domain_moments_load(struct domain_driver *dr)
{
    for (unsigned k = 0; k < MOMENT_KINDS; k++) {
        g_autofree char *top = g_build_filename(dr->lib_dir, kinds[k].dir, NULL);
        g_autoptr(GDir) dir = g_dir_open(top, 0, NULL);
        const char *name;
        while (dir && (name = g_dir_read_name(dir))) {
            domain_auto *d = domain_find_name(dr, name);
            if (d && !loaded(d))
                domain_moments_load_one(d);
        }
    }
}

bool domain_moments_rename(struct domain *d, const char *from, const char *to, GError **error)
{
    for (unsigned k = 0; k < MOMENT_KINDS; k++) {
        g_autofree char *old = dir_of(d->driver, k, from), *new = dir_of(d->driver, k, to);
        domain_remove_tree(new); /* of a domain that is no more */
        if (rename(old, new) < 0 && errno != ENOENT)
            return manage_fail_errno(error, errno, "cannot rename the directory '%s'", old);
    }
    return true;
}

void domain_moments_erase(struct domain *d)
{
    for (unsigned k = 0; k < MOMENT_KINDS; k++) {
        g_autofree char *dir = dir_of(d->driver, k, d->name);
        domain_remove_tree(dir);
    }
    g_mutex_lock(&d->lock);
    g_clear_pointer(&d->moments, domain_moments_free);
    g_mutex_unlock(&d->lock);
}

/* ---- changes ---- */

/* The document that a moment's file should have: a copy, with another parent where `parent` is given ("" : none). */
static bool rewrite(struct domain *d, enum moment_kind kind, const char *name, const char *parent, bool current, GError **error)
{
    doc_auto *doc = domain_moment_document(d, kind, name, error);
    if (!doc)
        return false;
    struct el *old = parent ? el_find(doc_root(doc), "parent") : NULL;
    if (old)
        el_remove(old);
    if (parent && *parent)
        el_set(doc_root(doc), "parent/name", parent);
    if (!write_file(d, kind, doc, current, error))
        return false;
    g_mutex_lock(&d->lock);
    struct moment *m = domain_moment_find_locked(d, kind, name);
    struct doc *before = m->doc;
    m->doc = g_steal_pointer(&doc);
    m->name = el_get_or(doc_root(m->doc), "name", "");
    m->parent = el_get(doc_root(m->doc), "parent/name");
    g_mutex_unlock(&d->lock);
    doc_free(before);
    return true;
}

static char *current_name(struct domain *d, enum moment_kind kind)
{
    g_mutex_lock(&d->lock);
    char *name = g_strdup(domain_moment_current_locked(d, kind));
    g_mutex_unlock(&d->lock);
    return name;
}

bool domain_moment_set_current(struct domain *d, enum moment_kind kind, const char *name, GError **error)
{
    g_autofree char *old = current_name(d, kind);
    if (!g_strcmp0(old, name))
        return true;
    if (old && !rewrite(d, kind, old, NULL, false, error))
        return false;
    if (name && !rewrite(d, kind, name, NULL, true, error))
        return false;
    g_mutex_lock(&d->lock);
    struct moments *ms = moments_locked(d, kind);
    g_free(ms->current);
    ms->current = g_strdup(name);
    g_mutex_unlock(&d->lock);
    return true;
}

bool domain_moment_put(struct domain *d, enum moment_kind kind, struct doc *doc, bool current, GError **error)
{
    g_autofree char *was = current_name(d, kind), *name = g_strdup(el_get_or(doc_root(doc), "name", "")); /* its document may be replaced below */
    if (!write_file(d, kind, doc, current || !g_strcmp0(was, name), error)) {
        doc_free(doc);
        return false;
    }
    struct moment *m = moment_new(doc);
    g_mutex_lock(&d->lock);
    struct moments *ms = moments_locked(d, kind);
    struct moment *old = domain_moment_find_locked(d, kind, name);
    if (old)
        g_ptr_array_remove(ms->all, old);
    g_ptr_array_add(ms->all, m);
    g_mutex_unlock(&d->lock);
    return !current || domain_moment_set_current(d, kind, name, error);
}

bool domain_moment_remove(struct domain *d, enum moment_kind kind, const char *name, GError **error)
{
    g_autoptr(GPtrArray) children = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *path = path_of(d, kind, name), *parent = NULL;
    g_mutex_lock(&d->lock);
    struct moment *m = domain_moment_find_locked(d, kind, name);
    bool was_current = !g_strcmp0(domain_moment_current_locked(d, kind), name);
    parent = m ? g_strdup(m->parent) : NULL;
    for (unsigned i = 0; m && i < d->moments[kind].all->len; i++) {
        struct moment *child = d->moments[kind].all->pdata[i];
        if (!g_strcmp0(child->parent, name))
            g_ptr_array_add(children, g_strdup(child->name));
    }
    g_mutex_unlock(&d->lock);
    if (!m)
        return true;
    g_autofree char *now = current_name(d, kind);
    for (unsigned i = 0; i < children->len; i++)
        if (!rewrite(d, kind, children->pdata[i], parent ? parent : "", !g_strcmp0(now, children->pdata[i]), error))
            return false;
    if (was_current && !domain_moment_set_current(d, kind, parent, error))
        return false;
    if (!manage_remove_file(path, error))
        return false;
    g_mutex_lock(&d->lock);
    m = domain_moment_find_locked(d, kind, name);
    if (m)
        g_ptr_array_remove(d->moments[kind].all, m);
    g_mutex_unlock(&d->lock);
    return true;
}

static void collect_locked(struct domain *d, enum moment_kind kind, const char *name, GPtrArray *to, bool deepest_first)
{
    for (unsigned i = 0; d->moments && i < d->moments[kind].all->len; i++) {
        struct moment *m = d->moments[kind].all->pdata[i];
        if (g_strcmp0(m->parent, name))
            continue;
        if (!deepest_first)
            g_ptr_array_add(to, g_strdup(m->name));
        collect_locked(d, kind, m->name, to, deepest_first);
        if (deepest_first)
            g_ptr_array_add(to, g_strdup(m->name));
    }
}

GPtrArray *domain_moment_descendants(struct domain *d, enum moment_kind kind, const char *name)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&d->lock);
    collect_locked(d, kind, name, all, true);
    g_mutex_unlock(&d->lock);
    return all;
}

/* ---- lists ---- */

static bool group(uint32_t flags, uint32_t all, uint32_t mine) { return !(flags & all) || (flags & mine); }

static bool is_external(const struct el *root)
{
    bool external = el_is(root, "memory/@snapshot", "external");
    el_each(disk, el_find(root, "disks"), "disk")
        external |= el_is(disk, "@snapshot", "external");
    return external;
}

static bool wanted_locked(struct domain *d, enum moment_kind kind, const struct moment *m, uint32_t flags)
{
    const struct el *root = doc_root(m->doc);
    bool leaf = !domain_moment_children_locked(d, kind, m->name);
    if (!group(flags, VIR_DOMAIN_SNAPSHOT_LIST_LEAVES | VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES, leaf ? VIR_DOMAIN_SNAPSHOT_LIST_LEAVES : VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES))
        return false;
    if (kind != MOMENT_SNAPSHOT)
        return true;
    const char *state = el_get_or(root, "state", "shutoff");
    uint32_t status = !strcmp(state, "disk-snapshot") ? VIR_DOMAIN_SNAPSHOT_LIST_DISK_ONLY : !strcmp(state, "shutoff") ? VIR_DOMAIN_SNAPSHOT_LIST_INACTIVE : VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE;
    return group(flags, VIR_DOMAIN_SNAPSHOT_LIST_METADATA | VIR_DOMAIN_SNAPSHOT_LIST_NO_METADATA, VIR_DOMAIN_SNAPSHOT_LIST_METADATA) &&
           group(flags, VIR_DOMAIN_SNAPSHOT_LIST_INACTIVE | VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE | VIR_DOMAIN_SNAPSHOT_LIST_DISK_ONLY, status) &&
           group(flags, VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL | VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL,
                 is_external(root) ? VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL : VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL);
}

GPtrArray *domain_moment_list(struct domain *d, enum moment_kind kind, const char *from, uint32_t flags)
{
    GPtrArray *fit = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    /* One flag, two meanings: of a domain, roots alone; of a moment, all below it and not its children alone. */
    bool direct = from ? !(flags & VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS) : (flags & VIR_DOMAIN_SNAPSHOT_LIST_ROOTS) != 0;
    g_mutex_lock(&d->lock);
    collect_locked(d, kind, from, all, false);
    for (unsigned i = 0; i < all->len; i++) {
        const struct moment *m = domain_moment_find_locked(d, kind, all->pdata[i]);
        if ((!direct || !g_strcmp0(m->parent, from)) && wanted_locked(d, kind, m, flags))
            g_ptr_array_add(fit, g_strdup(m->name));
    }
    g_mutex_unlock(&d->lock);
    return fit;
}

/* ---- calls ---- */

GVariant *domain_moment_record(struct domain *d, const char *name) { return g_variant_new("(s@(sayi))", name, domain_variant(d)); }

struct domain *domain_moment_of_call(struct manage_call *c, enum moment_kind kind, const char **ret_name, GError **error)
{
    g_autoptr(GVariant) record = g_variant_get_child_value(c->args, 0), of = g_variant_get_child_value(record, 1);
    g_variant_get_child(record, 0, "&s", ret_name);
    struct domain *d = domain_by_uuid(manage_data(c->conn->state, "domain"), manage_variant_uuid(of), NULL, error);
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    bool there = domain_moment_find_locked(d, kind, *ret_name) != NULL;
    g_mutex_unlock(&d->lock);
    if (there)
        return d;
    domain_unref(d);
    return manage_null(error, kinds[kind].missing, "Domain %s not found: no domain %s with matching name '%s'", kinds[kind].what, kinds[kind].what, *ret_name);
}

/* ---- the domain inside ---- */

/* A socket in the directory of the machine that the document is of (domain_start.c): the next one has another. */
static void forget_socket(struct el *e, const char *id)
{
    g_autofree char *own = g_strdup_printf("/qemu/domain-%s-", id);
    if (strstr(el_get_or(e, "source/@path", ""), own))
        el_remove(el_find(e, "source"));
    static const char *const displays[] = { "@socket", "listen/@socket" };
    for (unsigned i = 0; i < G_N_ELEMENTS(displays); i++)
        if (strstr(el_get_or(e, displays[i], ""), own))
            el_set(e, displays[i], NULL);
}

struct doc *domain_portable(const struct doc *domain)
{
    struct doc *copy = doc_copy(domain);
    struct el *root = doc_root(copy);
    g_autofree char *id = g_strdup(el_get(root, "@id"));
    bool live = id != NULL;
    el_set(root, "@id", NULL);
    el_each(e, el_find(root, "devices"), NULL) {
        domain_forget_live(e);
        if (live)
            forget_socket(e, id);
        struct el *chain = live && g_str_equal(el_name(e), "disk") ? el_find(e, "backingStore") : NULL;
        if (chain)
            el_remove(chain); /* found at the start: it will be again */
    }
    return copy;
}

void domain_moment_set_domain(struct doc *moment, const char *element, const struct doc *domain)
{
    doc_auto *copy = domain_portable(domain);
    struct el *root = doc_root(copy), *to = el_add(doc_root(moment), element);
    static const char *const attributes[] = { "@type" };
    for (unsigned i = 0; i < G_N_ELEMENTS(attributes); i++)
        if (el_get(root, attributes[i]))
            el_set(to, attributes[i], el_get(root, attributes[i]));
    el_each(e, root, NULL)
        el_copy(to, e);
}

struct doc *domain_moment_domain(const struct doc *moment, const char *element, GError **error)
{
    const struct el *e = el_find(doc_root(moment), element);
    if (!e)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "the %s '%s' has no <%s>", el_name(doc_root(moment)), el_get_or(doc_root(moment), "name", ""), element);
    g_autofree char *text = el_format(e, 0);
    if (!g_str_equal(element, "domain")) { /* the same content under another name */
        g_autofree char *open = g_strconcat("<", element, NULL), *close = g_strconcat("</", element, ">", NULL);
        char *end = g_strrstr(text, close);
        if (g_str_has_prefix(text, open) && end) {
            *end = '\0';
            char *other = g_strconcat("<domain", text + strlen(open), "</domain>", NULL);
            g_free(text);
            text = other;
        }
    }
    return doc_parse(&schema_domain, text, -1, error);
}
