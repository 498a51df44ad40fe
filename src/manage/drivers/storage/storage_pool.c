/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools as objects: definitions, their files, start, refresh. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "storage.h"

/* ---- objects ---- */

static guint uuid_hash(gconstpointer u)
{
    guint h;
    memcpy(&h, u, sizeof(h));
    return h;
}
static gboolean uuid_equal(gconstpointer a, gconstpointer b) { return !memcmp(a, b, 16); }

GHashTable *storage_uuid_table(void) { return g_hash_table_new(uuid_hash, uuid_equal); }

static void volume_unref(gpointer v) { storage_volume_unref(v); }
static GHashTable *volume_table(void) { return g_hash_table_new_full(g_str_hash, g_str_equal, NULL, volume_unref); }

static struct storage_pool *pool_new(struct storage *s, struct doc *def, const struct storage_backend *b)
{
    struct storage_pool *p = g_new0(struct storage_pool, 1);
    p->refs = 1;
    p->storage = s;
    p->backend = b;
    p->def = def;
    p->name = g_strdup(el_get(doc_root(def), "name"));
    bool ok = manage_uuid_parse(el_get_or(doc_root(def), "uuid", ""), p->uuid);
    g_assert(ok);
    g_mutex_init(&p->work);
    g_mutex_init(&p->lock);
    p->volumes = volume_table();
    return p;
}

struct storage_pool *storage_pool_ref(struct storage_pool *p)
{
    g_atomic_int_inc(&p->refs);
    return p;
}

void storage_pool_unref(struct storage_pool *p)
{
    if (!p || !g_atomic_int_dec_and_test(&p->refs))
        return;
    g_hash_table_unref(p->volumes);
    doc_free(p->def);
    doc_free(p->new_def);
    g_mutex_clear(&p->work);
    g_mutex_clear(&p->lock);
    g_free(p->name);
    g_free(p);
}

static void pool_unref(gpointer p) { storage_pool_unref(p); }

const char *storage_pool_path(const struct storage_pool *p) { return el_get(doc_root(p->def), "target/path"); }
struct el *storage_pool_source(const struct storage_pool *p) { return el_find(doc_root(p->def), "source"); }

GVariant *storage_pool_record(const struct storage_pool *p) { return g_variant_new("(s@ay)", p->name, manage_uuid_variant(p->uuid)); }

void storage_pool_event(struct storage_pool *p, int event)
{
    manage_event(p->storage->state, MANAGE_POOL, VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, p->uuid, 16, g_variant_new("(@(say)ii)", storage_pool_record(p), event, 0));
}

void storage_pool_refreshed(struct storage_pool *p)
{
    GVariant *record = storage_pool_record(p);
    manage_event(p->storage->state, MANAGE_POOL, VIR_STORAGE_POOL_EVENT_ID_REFRESH, p->uuid, 16, g_variant_new_tuple(&record, 1));
}

/* ---- finding ---- */

struct storage_pool *storage_find_uuid(struct storage *s, const uint8_t uuid[16], const char *name, GError **error)
{
    g_mutex_lock(&s->lock);
    struct storage_pool *p = g_hash_table_lookup(s->by_uuid, uuid);
    if (p)
        storage_pool_ref(p);
    g_mutex_unlock(&s->lock);
    if (!p) {
        char text[37];
        manage_uuid_format(uuid, text);
        if (name)
            manage_fail(error, VIR_ERR_NO_STORAGE_POOL, "no storage pool with matching uuid '%s' (%s)", text, name);
        else
            manage_fail(error, VIR_ERR_NO_STORAGE_POOL, "no storage pool with matching uuid '%s'", text);
    }
    return p;
}

struct storage_pool *storage_find_name(struct storage *s, const char *name, GError **error)
{
    g_mutex_lock(&s->lock);
    struct storage_pool *p = g_hash_table_lookup(s->by_name, name);
    if (p)
        storage_pool_ref(p);
    g_mutex_unlock(&s->lock);
    return p ? p : manage_null(error, VIR_ERR_NO_STORAGE_POOL, "no storage pool with matching name '%s'", name);
}

struct storage *storage_of(struct manage_call *c) { return manage_data(c->conn->state, "storage"); }

struct storage_pool *storage_find_arg(struct manage_call *c, unsigned n, GError **error)
{
    g_autoptr(GVariant) record = g_variant_get_child_value(c->args, n);
    const char *name;
    g_variant_get_child(record, 0, "&s", &name);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(record, 1);
    uint8_t uuid[16] = { 0 };
    if (g_variant_get_size(bytes) == 16)
        memcpy(uuid, g_variant_get_data(bytes), 16);
    return storage_find_uuid(storage_of(c), uuid, name, error);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(struct storage_pool *const *)a)->name, (*(struct storage_pool *const *)b)->name);
}

GPtrArray *storage_all(struct storage *s)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(pool_unref);
    GHashTableIter i;
    gpointer p;
    g_mutex_lock(&s->lock);
    g_hash_table_iter_init(&i, s->by_name);
    while (g_hash_table_iter_next(&i, NULL, &p))
        g_ptr_array_add(all, storage_pool_ref(p));
    g_mutex_unlock(&s->lock);
    g_ptr_array_sort(all, by_name);
    return all;
}

/* ---- definitions ---- */

/* "//a///b/" -> "/a/b"; the two slashes of a network name in front stay. */
static char *clean_path(const char *path)
{
    GString *s = g_string_new(NULL);
    for (const char *c = path; *c; c++)
        if (*c != '/' || !s->len || s->str[s->len - 1] != '/')
            g_string_append_c(s, *c);
    while (s->len > 1 && s->str[s->len - 1] == '/')
        g_string_truncate(s, s->len - 1);
    return g_string_free(s, FALSE);
}

static bool check_needs(const struct el *root, const struct storage_backend *b, GError **error)
{
    static const struct { unsigned need; const char *path, *what; } needs[] = {
        { STORAGE_HOST, "source/host/@name", "missing storage pool source host name: say <host name='...'/> in <source>" },
        { STORAGE_DIR, "source/dir/@path", "missing storage pool source path: say <dir path='...'/> in <source>" },
        { STORAGE_DEVICE, "source/device/@path", "missing storage pool source device name: say <device path='...'/> in <source>" },
        { STORAGE_TARGET, "target/path", "missing storage pool target path: say <target><path>...</path></target>" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(needs); i++) {
        const char *value = el_get(root, needs[i].path);
        if ((b->needs & needs[i].need) && (!value || !*value))
            return manage_fail(error, VIR_ERR_XML_ERROR, "%s", needs[i].what);
    }
    const char *format = el_get(root, "source/format/@type");
    if (format && b->formats && !g_strv_contains(b->formats, format))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "unknown pool format type %s for a pool of type '%s'", format, b->type);
    if (el_find(root, "features/cow") && strcmp(b->type, "dir") && strcmp(b->type, "fs"))
        return manage_fail(error, VIR_ERR_NO_SUPPORT, "cow feature may only be used for 'fs' and 'dir' pools");
    return true;
}

static bool name_and_uuid(struct el *root, const struct storage_backend *b, GError **error)
{
    const char *name = el_get(root, "name"), *uuid = el_get(root, "uuid");
    char text[37];
    uint8_t bytes[16];
    if ((!name || !*name) && (b->needs & STORAGE_NAME) && el_get(root, "source/name"))
        el_set(root, "name", el_get(root, "source/name"));
    name = el_get(root, "name");
    if (!name || !*name)
        return manage_fail(error, VIR_ERR_XML_ERROR, "missing pool source name element");
    if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        return manage_fail(error, VIR_ERR_XML_ERROR, "name %s cannot contain '/', or be '.' or '..'", name);
    if (strlen(name) > NAME_MAX - 16)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the name of the pool is longer than %d bytes", NAME_MAX - 16);
    if (uuid && !manage_uuid_parse(uuid, bytes))
        return manage_fail(error, VIR_ERR_XML_ERROR, "malformed uuid element");
    if (!uuid)
        manage_uuid_random(bytes);
    manage_uuid_format(bytes, text);
    el_set(root, "uuid", text);
    return true;
}

static void put_sizes(struct el *root, uint64_t capacity, uint64_t allocation, uint64_t available)
{
    el_setf(root, "capacity", "%" G_GUINT64_FORMAT, capacity);
    el_set(root, "capacity/@unit", "bytes");
    el_setf(root, "allocation", "%" G_GUINT64_FORMAT, allocation);
    el_set(root, "allocation/@unit", "bytes");
    el_setf(root, "available", "%" G_GUINT64_FORMAT, available);
    el_set(root, "available/@unit", "bytes");
}

struct doc *storage_pool_parse(const char *xml, const struct storage_backend **ret_backend, GError **error)
{
    doc_auto *d = doc_parse(&schema_pool, xml, -1, error);
    if (!d)
        return NULL;
    struct el *root = doc_root(d);
    const struct storage_backend *b = storage_backend_find(el_get_or(root, "@type", ""), error);
    if (!b || !name_and_uuid(root, b, error))
        return NULL;
    if (!el_find(root, "source"))
        el_add(root, "source");
    if (!el_find(root, "target"))
        el_add(root, "target");
    if (b->check_def && !b->check_def(d, error))
        return NULL;
    if (!check_needs(root, b, error))
        return NULL;
    if (b->default_format && !el_get(root, "source/format/@type"))
        el_set(root, "source/format/@type", b->default_format);
    const char *path = el_get(root, "target/path");
    if (path && *path != '/')
        return manage_null(error, VIR_ERR_XML_ERROR, "the target path '%s' of the pool is not absolute: begin it with '/'", path);
    if (path) {
        g_autofree char *clean = clean_path(path);
        el_set(root, "target/path", clean);
    }
    static const char *const owners[] = { "target/permissions/owner", "target/permissions/group" };
    for (unsigned i = 0; i < G_N_ELEMENTS(owners); i++)
        if (el_is(root, owners[i], "-1")) /* as if it did not say */
            el_set(root, owners[i], NULL);
    put_sizes(root, 0, 0, 0);
    *ret_backend = b;
    return g_steal_pointer(&d);
}

/* Whether two pools would stand on the same thing. */
static bool same_source(const struct storage_backend *ba, const struct el *a, const struct storage_backend *bb, const struct el *b)
{
    unsigned need = ba->needs & bb->needs;
    bool devices = (ba->needs | bb->needs) & STORAGE_DEVICE;
    if (need & STORAGE_DIR)
        return el_is(a, "source/dir/@path", el_get_or(b, "source/dir/@path", "")) && el_is(a, "source/host/@name", el_get_or(b, "source/host/@name", ""));
    if (!devices && ba == bb && (need & STORAGE_TARGET))
        return el_is(a, "target/path", el_get_or(b, "target/path", ""));
    if ((need & STORAGE_HOST) && !el_is(a, "source/host/@name", el_get_or(b, "source/host/@name", "")))
        return false;
    if ((ba->needs & STORAGE_HOST) != (bb->needs & STORAGE_HOST))
        return false;
    el_each(x, el_find(a, "source"), "device")
        el_each(y, el_find(b, "source"), "device")
            if (el_is(x, "@path", el_get_or(y, "@path", "")))
                return true;
    return false;
}

/* Under storage.lock. */
static bool check_conflict(struct storage *s, const struct storage_pool *self, const struct el *root, const struct storage_backend *b, GError **error)
{
    GHashTableIter i;
    gpointer value;
    g_hash_table_iter_init(&i, s->by_name);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        struct storage_pool *other = value;
        if (other == self)
            continue;
        g_mutex_lock(&other->lock);
        bool same = same_source(b, root, other->backend, doc_root(other->def));
        g_mutex_unlock(&other->lock);
        if (same)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "Storage source conflict with pool: '%s'", other->name);
    }
    return true;
}

/* The pool that a definition means; *ret NULL: a new one. Under storage.lock. */
static bool find_same(struct storage *s, const struct el *root, const uint8_t uuid[16], struct storage_pool **ret, GError **error)
{
    const char *name = el_get(root, "name");
    char text[37];
    struct storage_pool *u = g_hash_table_lookup(s->by_uuid, uuid), *n = g_hash_table_lookup(s->by_name, name);
    if (u && strcmp(u->name, name)) {
        manage_uuid_format(uuid, text);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "pool '%s' is already defined with uuid %s", u->name, text);
    }
    if (n && n != u) {
        manage_uuid_format(n->uuid, text);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "pool '%s' already exists with uuid %s", name, text);
    }
    *ret = u;
    return true;
}

/* A pool that is there gets another definition: at once, or when it stops. Takes doc over. */
static bool redefine(struct storage_pool *p, struct doc *doc, const struct storage_backend *b, bool persistent, GError **error)
{
    g_mutex_lock(&p->work);
    g_mutex_lock(&p->lock);
    bool active = p->active, ok = true;
    if (p->gone)
        ok = manage_fail(error, VIR_ERR_OPERATION_FAILED, "pool '%s' was undefined meanwhile: try again", p->name);
    else if (active && !persistent)
        ok = manage_fail(error, VIR_ERR_OPERATION_INVALID, "pool is already active as '%s'", p->name);
    else if (active && b != p->backend)
        ok = manage_fail(error, VIR_ERR_OPERATION_INVALID, "pool '%s' is active and of type '%s': stop it before its type is changed", p->name, p->backend->type);
    g_mutex_unlock(&p->lock);
    ok = ok && (!persistent || storage_pool_save(p, doc, error));
    if (ok) {
        g_mutex_lock(&p->lock);
        struct doc **to = p->active ? &p->new_def : &p->def;
        doc_free(*to);
        *to = g_steal_pointer(&doc);
        p->backend = b;
        p->persistent |= persistent;
        g_mutex_unlock(&p->lock);
    }
    g_mutex_unlock(&p->work);
    doc_free(doc);
    return ok;
}

struct storage_pool *storage_pool_define(struct storage *s, struct doc *given, const struct storage_backend *b, bool persistent, bool *ret_new, GError **error)
{
    doc_auto *doc = given;
    uint8_t uuid[16];
    struct storage_pool *p = NULL;
    bool known = manage_uuid_parse(el_get(doc_root(doc), "uuid"), uuid);
    g_assert(known);
    g_mutex_lock(&s->lock);
    bool ok = find_same(s, doc_root(doc), uuid, &p, error) && check_conflict(s, p, doc_root(doc), b, error);
    *ret_new = ok && !p;
    if (*ret_new) {
        p = pool_new(s, g_steal_pointer(&doc), b);
        g_mutex_lock(&p->work); /* nobody undefines it before it is written */
        g_hash_table_insert(s->by_name, p->name, p);
        g_hash_table_insert(s->by_uuid, p->uuid, p);
    }
    if (ok)
        storage_pool_ref(p);
    g_mutex_unlock(&s->lock);
    if (!ok)
        return NULL;
    if (!*ret_new)
        ok = redefine(p, g_steal_pointer(&doc), b, persistent, error);
    else {
        ok = !persistent || storage_pool_save(p, p->def, error);
        g_mutex_lock(&p->lock);
        p->persistent = ok && persistent;
        g_mutex_unlock(&p->lock);
        if (!ok)
            storage_pool_remove(p);
        g_mutex_unlock(&p->work);
    }
    if (!ok) {
        storage_pool_unref(p);
        return NULL;
    }
    return p;
}

void storage_pool_remove(struct storage_pool *p)
{
    struct storage *s = p->storage;
    g_mutex_lock(&s->lock);
    if (g_hash_table_lookup(s->by_uuid, p->uuid) == p) {
        g_hash_table_remove(s->by_uuid, p->uuid);
        g_mutex_lock(&p->lock);
        p->gone = true;
        g_mutex_unlock(&p->lock);
        g_hash_table_remove(s->by_name, p->name); /* the table's reference */
    }
    g_mutex_unlock(&s->lock);
}

/* ---- files ---- */

char *storage_pool_file(const struct storage_pool *p, const char *directory) { return g_strdup_printf("%s/%s.xml", directory, p->name); }

bool storage_pool_save(struct storage_pool *p, const struct doc *def, GError **error)
{
    g_autofree char *path = storage_pool_file(p, p->storage->config), *text = doc_format(def);
    return manage_write_file(path, text, -1, 0600, error);
}

bool storage_pool_save_status(struct storage_pool *p, GError **error)
{
    g_autofree char *path = storage_pool_file(p, p->storage->status), *text = doc_format(p->def);
    return manage_write_file(path, text, -1, 0600, error);
}

char *storage_pool_xml(struct storage_pool *p, bool inactive)
{
    g_mutex_lock(&p->lock);
    doc_auto *d = doc_copy(inactive && p->new_def ? p->new_def : p->def);
    put_sizes(doc_root(d), p->capacity, p->allocation, p->available);
    g_mutex_unlock(&p->lock);
    return doc_format(d);
}

/* One file of CONFIG/storage or STATE/storage; NULL: it is no definition of that name, which is logged. */
static struct storage_pool *load_file(struct storage *s, const char *directory, const char *file, bool persistent)
{
    g_autofree char *path = g_build_filename(directory, file, NULL), *text = NULL;
    g_autoptr(GError) e = NULL;
    const struct storage_backend *b;
    bool new;
    if (!g_file_get_contents(path, &text, NULL, &e)) {
        log_warn("storage: %s", e->message);
        return NULL;
    }
    struct doc *d = storage_pool_parse(text, &b, &e);
    g_autofree char *expected = d ? g_strconcat(el_get(doc_root(d), "name"), ".xml", NULL) : NULL;
    if (d && strcmp(expected, file)) {
        doc_free(d);
        manage_fail(&e, VIR_ERR_XML_ERROR, "the pool's name is not the file's");
        d = NULL;
    }
    struct storage_pool *p = NULL;
    if (d && persistent) { /* nothing is written: it comes from there */
        g_mutex_lock(&s->lock);
        p = pool_new(s, d, b);
        new = !g_hash_table_contains(s->by_uuid, p->uuid);
        if (new) {
            p->persistent = true;
            g_hash_table_insert(s->by_name, p->name, p);
            g_hash_table_insert(s->by_uuid, p->uuid, p);
        } else {
            manage_fail(&e, VIR_ERR_XML_ERROR, "another pool has the same UUID");
            g_clear_pointer(&p, storage_pool_unref);
        }
        g_mutex_unlock(&s->lock);
    } else if (d) {
        p = storage_pool_define(s, d, b, false, &new, &e);
        if (p)
            storage_pool_unref(p);
    }
    if (!p)
        log_warn("storage: the definition '%s' is left alone: %s", path, e->message);
    return p;
}

static GPtrArray *xml_files(const char *directory)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, ".xml"))
            g_ptr_array_add(names, g_strdup(name));
    return names;
}

/* A pool that was active when the daemon ended: is it still? */
static void take_up(struct storage *s, const char *file)
{
    g_autofree char *path = g_build_filename(s->status, file, NULL), *name = g_strndup(file, strlen(file) - 4);
    g_autoptr(GError) e = NULL;
    bool active = false;
    storage_pool_auto *p = storage_find_name(s, name, NULL);
    if (!p && load_file(s, s->status, file, false)) /* a transient one */
        p = storage_find_name(s, name, NULL);
    if (!p)
        return;
    if (!p->backend->is_active)
        active = storage_pool_path(p) && access(storage_pool_path(p), F_OK) == 0;
    else if (!p->backend->is_active(p, &active, &e))
        log_warn("storage: pool '%s': %s", p->name, e->message);
    g_clear_error(&e);
    g_mutex_lock(&p->work);
    if (active && !storage_pool_refresh(p, &e)) {
        log_warn("storage: pool '%s' is no longer usable: %s", p->name, e->message);
        active = false;
    }
    g_mutex_lock(&p->lock);
    p->active = active;
    bool keep = active || p->persistent;
    g_mutex_unlock(&p->lock);
    g_mutex_unlock(&p->work);
    if (!active)
        unlink(path);
    if (!keep)
        storage_pool_remove(p);
}

void storage_load(struct storage *s)
{
    g_autoptr(GPtrArray) defined = xml_files(s->config), running = xml_files(s->status);
    for (unsigned i = 0; i < defined->len; i++) {
        struct storage_pool *p = load_file(s, s->config, defined->pdata[i], true);
        if (p) {
            g_autofree char *link = storage_pool_file(p, s->autostart);
            p->autostart = access(link, F_OK) == 0;
        }
    }
    for (unsigned i = 0; i < running->len; i++)
        take_up(s, running->pdata[i]);
}

/* ---- life ---- */

void storage_scan_add(struct storage_scan *scan, struct storage_volume *v) { g_hash_table_replace(scan->volumes, v->name, v); }

bool storage_pool_refresh(struct storage_pool *p, GError **error)
{
    struct storage_scan scan = { .volumes = volume_table() };
    if (!p->backend->refresh(p, &scan, error)) {
        g_hash_table_unref(scan.volumes);
        return false;
    }
    g_mutex_lock(&p->lock);
    GHashTable *old = p->volumes;
    GHashTableIter i;
    gpointer value;
    g_hash_table_iter_init(&i, scan.volumes);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        struct storage_volume *v = value, *before = g_hash_table_lookup(old, v->name);
        v->in_use = before ? before->in_use : 0;
    }
    p->volumes = scan.volumes;
    p->capacity = scan.capacity;
    p->allocation = scan.allocation;
    p->available = scan.available;
    g_mutex_unlock(&p->lock);
    g_hash_table_unref(old);
    return true;
}

bool storage_pool_start(struct storage_pool *p, GError **error)
{
    if (p->backend->start && !p->backend->start(p, error))
        return false;
    if (!storage_pool_refresh(p, error) || !storage_pool_save_status(p, error)) {
        g_autoptr(GError) e = NULL;
        if (p->backend->stop && !p->backend->stop(p, &e))
            log_warn("storage: pool '%s': %s", p->name, e->message);
        return false;
    }
    g_mutex_lock(&p->lock);
    p->active = true;
    g_mutex_unlock(&p->lock);
    storage_pool_event(p, VIR_STORAGE_POOL_EVENT_STARTED);
    return true;
}

void storage_pool_stopped(struct storage_pool *p)
{
    g_autofree char *path = storage_pool_file(p, p->storage->status);
    GHashTable *empty = volume_table();
    unlink(path);
    g_mutex_lock(&p->lock);
    GHashTable *old = p->volumes;
    p->volumes = empty;
    p->active = false;
    if (p->new_def) {
        doc_free(p->def);
        p->def = g_steal_pointer(&p->new_def);
    }
    bool persistent = p->persistent;
    g_mutex_unlock(&p->lock);
    g_hash_table_unref(old);
    storage_pool_event(p, VIR_STORAGE_POOL_EVENT_STOPPED);
    if (!persistent)
        storage_pool_remove(p);
}

/* ---- jobs ---- */

bool storage_job_begin(struct storage_job *j, struct storage_pool *p, struct manage_conn *conn, GError **error)
{
    g_mutex_lock(&p->lock);
    bool active = p->active;
    p->jobs += active;
    g_mutex_unlock(&p->lock);
    if (!active)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is not active", p->name);
    *j = (struct storage_job){ storage_pool_ref(p), manage_conn_ref(conn), !conn->open, 0 };
    g_mutex_lock(&p->storage->lock);
    g_ptr_array_add(p->storage->jobs, j);
    g_mutex_unlock(&p->storage->lock);
    return true;
}

void storage_job_over(struct storage_job *j)
{
    if (!g_atomic_int_compare_and_exchange(&j->over, 0, 1))
        return;
    g_mutex_lock(&j->pool->storage->lock);
    g_ptr_array_remove_fast(j->pool->storage->jobs, j);
    g_mutex_unlock(&j->pool->storage->lock);
    g_mutex_lock(&j->pool->lock);
    j->pool->jobs--;
    g_mutex_unlock(&j->pool->lock);
}

void storage_job_end(struct storage_job *j)
{
    storage_job_over(j);
    manage_conn_unref(j->conn);
    storage_pool_unref(j->pool);
}

bool storage_job_goes_on(const struct storage_job *j, GError **error)
{
    if (g_atomic_int_get(&j->cancelled) || g_atomic_int_get(&j->conn->lost))
        return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the work on pool '%s' was given up: the client has gone, or the daemon stops", j->pool->name);
    return true;
}
