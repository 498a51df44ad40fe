/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination of a migration: Prepare starts a machine that waits for its state, Finish lets it run. */
#include <json-c/json.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_save.h"

enum { ARRIVE_SECONDS = 60, LOOK_MS = 10 };

static bool tell(struct domain *d, const char *command, struct json_object *args, GError **error)
{
    struct json_object *o = monitor_command(d, command, args, error);
    json_object_put(o);
    return o != NULL;
}

/* Both ends of the machines' connection are to speak the same. What is for the one that sends alone does no harm here. */
static bool set_up(struct domain *d, const struct migrate_args *a, GError **error)
{
    struct json_object *parameters = NULL, *args = json_object_new_object(), *list = json_object_new_array();
    g_autofree const char **on = migrate_args_capabilities(a, false, &parameters);
    for (unsigned i = 0; on[i]; i++) {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "capability", json_object_new_string(on[i]));
        json_object_object_add(o, "state", json_object_new_boolean(true));
        json_object_array_add(list, o);
    }
    json_object_object_add(args, "capabilities", list);
    bool ok = !on[0] || tell(d, "migrate-set-capabilities", json_object_get(args), error);
    json_object_put(args);
    if (ok && parameters)
        return tell(d, "migrate-set-parameters", parameters, error);
    json_object_put(parameters);
    return ok;
}

/* ---- Prepare ---- */

static bool prepare_inside(struct domain *d, struct doc *doc, struct manage_call *c, const struct migrate_args *a, const struct migrate_cookie *k, char **ret_uri, unsigned *ret_nbd,
                           GError **error)
{
    if (d->id >= 0) {
        doc_free(doc);
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is already active as '%s'", d->name);
    }
    const struct domain_incoming later = { .fd = -1 };
    struct domain_migration *m = domain_migration_new(MIGRATION_PREPARED, a->flags, c->conn->id);
    m->origin = g_strdup(k->name);
    m->made = g_ptr_array_new_with_free_func(g_free);
    if (!migrate_disks_make(a, doc, k, m->made, error)) {
        migrate_disks_unmake(m->made);
        domain_migration_free(m);
        doc_free(doc);
        return false;
    }
    g_mutex_lock(&d->lock);
    domain_migration_free(d->migration);
    d->migration = m;
    d->held = "migration";
    g_mutex_unlock(&d->lock);
    domain_show(d);
    if (!domain_start_incoming(d, doc, c, DOMAIN_START_HELD, &later, error)) /* a failure has taken all of it away */
        return false;
    domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_MIGRATED);
    if (set_up(d, a, error) && migrate_disks_serve(d, a, ret_nbd, error) && migrate_listen(d, a, ret_uri, error))
        return true;
    domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
    return false;
}

/* The document under the name that it is to have. */
static struct doc *parse(struct domain_driver *dr, const char *xml, const char *name, uint8_t uuid[16], GError **error)
{
    doc_auto *doc = doc_parse(&schema_domain, xml, -1, error);
    if (!doc)
        return NULL;
    if (name)
        el_set(doc_root(doc), "name", name);
    g_autofree char *text = doc_format(doc);
    return domain_document_complete(dr, text, uuid, error);
}

/* ---- offline: Finish is not told again what Prepare was told ---- */

struct offline {
    uint64_t owner;
    char *xml, *origin;
};

static void offline_free(gpointer opaque)
{
    struct offline *o = opaque;
    g_free(o->xml);
    g_free(o->origin);
    g_free(o);
}

static gboolean is_of(gpointer name, gpointer value, gpointer conn) { return ((struct offline *)value)->owner == *(uint64_t *)conn; }

void domain_migrate_forget_offline(struct domain_driver *dr, uint64_t conn)
{
    g_mutex_lock(&dr->offline_lock);
    if (dr->offline)
        g_hash_table_foreach_remove(dr->offline, is_of, &conn);
    g_mutex_unlock(&dr->offline_lock);
}

static bool prepare_offline(struct domain_driver *dr, struct manage_call *c, struct doc *doc, const uint8_t uuid[16], const char *origin, GVariant **ret_cookie, GError **error)
{
    const char *name = el_get(doc_root(doc), "name");
    domain_auto *d = domain_claim(dr, uuid, name, error);
    if (!d)
        return false;
    *ret_cookie = migrate_cookie_new(d, origin, NULL, NULL);
    g_mutex_lock(&d->lock);
    bool unused = d->hidden && !d->busy;
    g_mutex_unlock(&d->lock);
    if (unused)
        domain_remove(d);
    struct offline *o = g_new(struct offline, 1);
    *o = (struct offline){ c->conn->id, doc_format(doc), g_strdup(origin) };
    g_mutex_lock(&dr->offline_lock);
    if (!dr->offline)
        dr->offline = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, offline_free);
    g_hash_table_replace(dr->offline, g_strdup(name), o);
    g_mutex_unlock(&dr->offline_lock);
    return true;
}

/* Takes it out; NULL: there is none of this client's. */
static struct offline *take_offline(struct domain_driver *dr, struct manage_call *c, const char *name)
{
    struct offline *o = NULL;
    g_mutex_lock(&dr->offline_lock);
    struct offline *there = dr->offline ? g_hash_table_lookup(dr->offline, name) : NULL;
    if (there && there->owner == c->conn->id) {
        gpointer key, value;
        if (g_hash_table_steal_extended(dr->offline, name, &key, &value)) {
            g_free(key);
            o = value;
        }
    }
    g_mutex_unlock(&dr->offline_lock);
    return o;
}

bool migrate_prepare(struct domain_driver *dr, struct manage_call *c, const struct migrate_args *a, GVariant *cookie, char **ret_uri, GVariant **ret_cookie, GError **error)
{
    struct migrate_cookie k;
    uint8_t uuid[16];
    if (!migrate_cookie_parse(dr->state, cookie, NULL, NULL, true, &k, error))
        return false;
    struct doc *doc = parse(dr, a->xml, a->name, uuid, error);
    bool ok = doc && (!memcmp(uuid, k.uuid, 16) || manage_fail(error, VIR_ERR_XML_ERROR, "the document of the migration is of another domain than its cookie"));
    if (ok && (a->flags & VIR_MIGRATE_OFFLINE)) {
        ok = prepare_offline(dr, c, doc, uuid, k.name, ret_cookie, error);
        doc_free(doc);
        migrate_cookie_clear(&k);
        return ok;
    }
    domain_auto *d = ok ? domain_begin_claimed(dr, doc, uuid, "migrate", error) : NULL;
    if (!d) {
        doc_free(doc);
        migrate_cookie_clear(&k);
        return false;
    }
    bool fresh = d->hidden;
    struct migrate_cookie more = { 0 };
    ok = prepare_inside(d, doc, c, a, &k, ret_uri, &more.nbd_port, error);
    if (!ok && fresh && !d->removed)
        domain_remove(d);
    if (ok)
        *ret_cookie = migrate_cookie_new(d, k.name, NULL, &more);
    domain_end(d);
    migrate_cookie_clear(&k);
    return ok;
}

/* ---- Finish ---- */

/* All that the source has sent is in its place. */
static bool arrived(struct domain *d, GError **error)
{
    gint64 until = g_get_monotonic_time() + ARRIVE_SECONDS * G_TIME_SPAN_SECOND;
    for (;;) {
        g_autoptr(GError) e = NULL;
        struct json_object *o = monitor_command(d, "query-migrate", NULL, &e);
        g_autofree char *status = g_strdup(json_object_get_string(json_object_object_get(o, "status")));
        g_autofree char *why = g_strdup(json_object_get_string(json_object_object_get(o, "error-desc")));
        json_object_put(o);
        if (!o)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine of domain '%s' has not taken its state: %s", d->name, e->message);
        if (!g_strcmp0(status, "completed"))
            return true;
        if (!g_strcmp0(status, "failed"))
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine of domain '%s' has not taken its state: %s", d->name, why ? why : "see its log");
        if (g_get_monotonic_time() > until)
            return manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "the state of domain '%s' does not arrive", d->name);
        g_usleep(LOOK_MS * 1000);
    }
}

/* The definition that the source has sent along, else what runs. */
static bool keep(struct domain *d, const struct migrate_cookie *k, bool *ret_fresh, GError **error)
{
    uint8_t uuid[16];
    doc_auto *live = k->persistent ? NULL : domain_live(d, error);
    g_autofree char *text = live ? doc_format(live) : NULL;
    if (!live && !k->persistent)
        return false;
    struct doc *doc = parse(d->driver, k->persistent ? k->persistent : text, d->name, uuid, error);
    if (doc && memcmp(uuid, d->uuid, 16)) {
        doc_free(doc);
        return manage_fail(error, VIR_ERR_XML_ERROR, "the definition in the migration's cookie is of another domain");
    }
    *ret_fresh = !d->persistent;
    if (!doc || domain_set_definition(d, doc, error))
        return doc != NULL;
    doc_free(doc);
    return false;
}

static bool let_run(struct domain *d, bool paused, GError **error)
{
    migrate_disks_close(d);
    if (!domain_migration_set(d, MIGRATION_FINISH, error))
        return false;
    if (paused)
        return true;
    g_mutex_lock(&d->lock);
    d->state = VIR_DOMAIN_RUNNING; /* before its RESUME comes, which is told here */
    d->reason = VIR_DOMAIN_RUNNING_MIGRATED;
    g_mutex_unlock(&d->lock);
    return tell(d, "cont", NULL, error);
}

/* Inside a job. On errors the machine has ended. */
static bool finish_inside(struct domain *d, uint32_t flags, const struct migrate_cookie *k, GError **error)
{
    bool fresh = false, paused = flags & VIR_MIGRATE_PAUSED, was_persistent = d->persistent;
    if (!arrived(d, error) || ((flags & VIR_MIGRATE_PERSIST_DEST) && !keep(d, k, &fresh, error)) || !let_run(d, paused, error)) {
        if (!was_persistent && d->persistent)
            migrate_undefine(d);
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
        return false;
    }
    if (flags & VIR_MIGRATE_PERSIST_DEST)
        domain_event(d, VIR_DOMAIN_EVENT_DEFINED, fresh ? VIR_DOMAIN_EVENT_DEFINED_ADDED : VIR_DOMAIN_EVENT_DEFINED_UPDATED);
    g_mutex_lock(&d->lock);
    g_clear_pointer(&d->migration, domain_migration_free);
    d->held = NULL;
    g_mutex_unlock(&d->lock);
    if (paused)
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    else
        domain_set_state(d, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
    return true;
}

static struct domain *define_offline(struct domain_driver *dr, const char *xml, const char *name, GError **error)
{
    uint8_t uuid[16];
    struct doc *doc = parse(dr, xml, name, uuid, error);
    domain_auto *d = doc ? domain_begin_claimed(dr, doc, uuid, "migrate", error) : NULL;
    if (!d) {
        doc_free(doc);
        return NULL;
    }
    bool hidden = d->hidden, was_persistent = d->persistent, ok = domain_set_definition(d, doc, error);
    if (ok)
        domain_show(d);
    else
        doc_free(doc);
    if (!ok && hidden)
        domain_remove(d);
    domain_end(d);
    if (!ok)
        return NULL;
    domain_event(d, VIR_DOMAIN_EVENT_DEFINED, was_persistent ? VIR_DOMAIN_EVENT_DEFINED_UPDATED : VIR_DOMAIN_EVENT_DEFINED_ADDED);
    return domain_ref(d);
}

static struct domain *finish_offline(struct domain_driver *dr, struct manage_call *c, const char *name, bool canceled, GVariant **ret_cookie, GError **error)
{
    struct offline *o = take_offline(dr, c, name);
    struct domain *d = NULL;
    if (!o)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is not processing incoming migration", name);
    else if (canceled)
        manage_fail(error, VIR_ERR_MIGRATE_FINISH_OK, "migration successfully aborted");
    else if ((d = define_offline(dr, o->xml, name, error)))
        *ret_cookie = migrate_cookie_new(d, o->origin, NULL, NULL);
    if (o)
        offline_free(o);
    return d;
}

/* The machine that waits, inside a job. */
static struct domain *waiting(struct domain_driver *dr, struct manage_call *c, const char *name, char **ret_origin, GError **error)
{
    domain_auto *d = domain_by_name(dr, name, error);
    if (!d || !domain_begin(d, "migrate", true, error))
        return NULL;
    g_mutex_lock(&d->lock);
    const struct domain_migration *m = d->migration;
    bool mine = m && m->phase == MIGRATION_PREPARED && m->owner == c->conn->id;
    *ret_origin = mine ? g_strdup(m->origin) : NULL;
    g_mutex_unlock(&d->lock);
    if (mine)
        return domain_ref(d);
    domain_end(d);
    return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is not processing incoming migration", name);
}

struct domain *migrate_finish(struct domain_driver *dr, struct manage_call *c, const char *name, uint32_t flags, GVariant *cookie, bool canceled, GVariant **ret_cookie, GError **error)
{
    struct migrate_cookie k;
    g_autofree char *origin = NULL;
    if (flags & VIR_MIGRATE_OFFLINE)
        return finish_offline(dr, c, name, canceled, ret_cookie, error);
    struct domain *d = waiting(dr, c, name, &origin, error);
    if (!d)
        return NULL;
    bool ok = false;
    k = (struct migrate_cookie){ 0 };
    if (canceled || !migrate_cookie_parse(dr->state, cookie, origin, d->uuid, false, &k, error)) {
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FAILED);
        if (canceled)
            manage_fail(error, VIR_ERR_MIGRATE_FINISH_OK, "migration successfully aborted");
    } else {
        ok = finish_inside(d, flags, &k, error);
    }
    domain_end(d);
    migrate_cookie_clear(&k);
    if (!ok) {
        domain_unref(d);
        return NULL;
    }
    *ret_cookie = migrate_cookie_new(d, origin, NULL, NULL);
    return d;
}
