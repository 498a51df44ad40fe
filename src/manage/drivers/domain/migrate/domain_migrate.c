/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migration: the calls of clients, and what is known of one that is under way. */
#include <string.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"

/* ---- what is known ---- */

struct domain_migration *domain_migration_new(enum migration_phase phase, uint32_t flags, uint64_t owner)
{
    struct domain_migration *m = g_new0(struct domain_migration, 1);
    *m = (struct domain_migration){ .phase = phase, .flags = flags, .owner = owner };
    return m;
}

void domain_migration_free(struct domain_migration *m)
{
    if (!m)
        return;
    g_free(m->origin);
    g_free(m->peer);
    if (m->made)
        g_ptr_array_unref(m->made);
    g_free(m);
}

enum migration_phase domain_migration_phase(struct domain *d)
{
    g_mutex_lock(&d->lock);
    enum migration_phase phase = d->migration ? d->migration->phase : 0;
    g_mutex_unlock(&d->lock);
    return phase;
}

bool domain_migration_set(struct domain *d, enum migration_phase phase, GError **error)
{
    g_mutex_lock(&d->lock);
    if (d->migration && phase)
        d->migration->phase = phase;
    else if (!phase)
        g_clear_pointer(&d->migration, domain_migration_free);
    d->held = d->migration ? "migration" : NULL;
    if (d->waiting)
        g_cond_broadcast(&d->job_done);
    g_mutex_unlock(&d->lock);
    return domain_write_status(d, error);
}

void domain_migration_format_locked(struct domain *d, GString *to)
{
    const struct domain_migration *m = d->migration;
    if (!m)
        return;
    g_autoptr(GString) made = g_string_new(NULL);
    for (unsigned i = 0; m->made && i < m->made->len; i++) {
        g_autofree char *path = g_uri_escape_string(m->made->pdata[i], "/", TRUE);
        g_string_append_printf(made, "%s%s", i ? " " : "", path);
    }
    g_autofree char *text = g_markup_printf_escaped("<migration phase='%d' flags='%u' paused='%d' origin='%s' peer='%s' made='%s'/>\n", m->phase, m->flags, m->paused,
                                                    m->origin ? m->origin : "", m->peer ? m->peer : "", made->str);
    g_string_append(to, text);
}

/* Paths, escaped as in URIs, with blanks between. */
static GPtrArray *parse_made(const char *text)
{
    GPtrArray *made = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    for (unsigned i = 0; words[i]; i++) {
        char *path = g_uri_unescape_string(words[i], NULL);
        if (path && *path == '/')
            g_ptr_array_add(made, path);
        else
            g_free(path);
    }
    return made;
}

struct domain_migration *domain_migration_parse(const char **names, const char **values)
{
    struct domain_migration *m = domain_migration_new(MIGRATION_BEGUN, 0, 0);
    for (unsigned i = 0; names[i]; i++) {
        guint64 n = g_ascii_strtoull(values[i], NULL, 10);
        if (!strcmp(names[i], "phase") && n <= MIGRATION_FINISH)
            m->phase = (enum migration_phase)n;
        else if (!strcmp(names[i], "flags"))
            m->flags = (uint32_t)n;
        else if (!strcmp(names[i], "paused"))
            m->paused = n != 0;
        else if (!strcmp(names[i], "origin") && *values[i])
            g_free(m->origin), m->origin = g_strdup(values[i]);
        else if (!strcmp(names[i], "made") && !m->made)
            m->made = parse_made(values[i]);
        else if (!strcmp(names[i], "peer") && *values[i])
            g_free(m->peer), m->peer = g_strdup(values[i]);
    }
    return m;
}

/* ---- Begin ---- */

static GVariant *no_cookie(void) { return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 0, 1); }

static GVariant *begin(struct manage_call *c, const struct migrate_args *a, GError **error)
{
    g_autofree char *xml = NULL;
    GVariant *cookie = NULL;
    domain_auto *d = domain_of_call(c, 0, error);
    return d && migrate_args_check(a, true, error) && migrate_begin(d, a, c->conn->id, NULL, &xml, &cookie, error) ? g_variant_new("(@ays)", cookie, xml) : NULL;
}

static GVariant *begin3(struct manage_call *c, GError **error)
{
    struct migrate_args a = { 0 };
    guint64 flags;
    g_variant_get(c->args, "(@(sayi)m&stm&st)", NULL, &a.xml, &flags, &a.name, &a.bandwidth);
    a.flags = (uint32_t)flags;
    return begin(c, &a, error);
}

static GVariant *begin3_params(struct manage_call *c, GError **error)
{
    struct migrate_args a;
    guint32 flags;
    g_autoptr(GVariant) params = NULL;
    g_variant_get(c->args, "(@(sayi)@a(sv)u)", NULL, &params, &flags);
    return migrate_args_parse(&a, params, flags, error) ? begin(c, &a, error) : NULL;
}

/* ---- Prepare ---- */

static GVariant *prepare(struct manage_call *c, const struct migrate_args *a, GVariant *cookie, GError **error)
{
    g_autofree char *uri = NULL;
    GVariant *mine = NULL;
    struct domain_driver *dr = manage_data(c->conn->state, "domain");
    if (!a->xml)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "no domain XML passed");
    if (!migrate_args_check(a, false, error) || !migrate_prepare(dr, c, a, cookie, &uri, &mine, error))
        return NULL;
    return g_variant_new("(@ayms)", mine ? mine : no_cookie(), uri);
}

static GVariant *prepare3(struct manage_call *c, GError **error)
{
    struct migrate_args a = { 0 };
    guint64 flags;
    g_autoptr(GVariant) cookie = NULL;
    g_variant_get(c->args, "(@aym&stm&st&s)", &cookie, &a.uri, &flags, &a.name, &a.bandwidth, &a.xml);
    a.flags = (uint32_t)flags;
    return prepare(c, &a, cookie, error);
}

static GVariant *prepare3_params(struct manage_call *c, GError **error)
{
    struct migrate_args a;
    guint32 flags;
    g_autoptr(GVariant) params = NULL, cookie = NULL;
    g_variant_get(c->args, "(@a(sv)@ayu)", &params, &cookie, &flags);
    return migrate_args_parse(&a, params, flags, error) ? prepare(c, &a, cookie, error) : NULL;
}

/* ---- Perform ---- */

static bool client_there(void *conn) { return !g_atomic_int_get(&((struct manage_conn *)conn)->lost); }

static GVariant *perform(struct manage_call *c, const char *peer, const struct migrate_args *a, GVariant *params, GVariant *cookie, GError **error)
{
    GVariant *mine = NULL;
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !migrate_args_check(a, true, error))
        return NULL;
    if (a->flags & VIR_MIGRATE_PEER2PEER) {
        if (!peer)
            return manage_null(error, VIR_ERR_INVALID_ARG, "a migration from daemon to daemon needs the URI of the other one");
        return migrate_peer(d, c->conn, peer, a, params, error) ? g_variant_new("(@ay)", no_cookie()) : NULL;
    }
    if (peer)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "Unexpected dconnuri parameter with non-peer2peer migration");
    return migrate_perform(d, a, c->conn->id, cookie, client_there, c->conn, &mine, error) ? g_variant_new("(@ay)", mine) : NULL;
}

static void add_string(GVariantBuilder *b, const char *field, const char *value)
{
    if (value)
        manage_param_string(b, field, value);
}

static GVariant *perform3(struct manage_call *c, GError **error)
{
    struct migrate_args a = { 0 };
    const char *peer;
    guint64 flags;
    GVariantBuilder b;
    g_autoptr(GVariant) cookie = NULL;
    g_variant_get(c->args, "(@(sayi)m&s@aym&sm&stm&st)", NULL, &a.xml, &cookie, &peer, &a.uri, &flags, &a.name, &a.bandwidth);
    a.flags = (uint32_t)flags;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    add_string(&b, VIR_MIGRATE_PARAM_URI, a.uri);
    add_string(&b, VIR_MIGRATE_PARAM_DEST_NAME, a.name);
    if (a.bandwidth)
        manage_param_u64(&b, VIR_MIGRATE_PARAM_BANDWIDTH, a.bandwidth);
    g_autoptr(GVariant) params = g_variant_ref_sink(g_variant_builder_end(&b));
    return perform(c, peer, &a, params, cookie, error);
}

static GVariant *perform3_params(struct manage_call *c, GError **error)
{
    struct migrate_args a;
    const char *peer;
    guint32 flags;
    g_autoptr(GVariant) params = NULL, cookie = NULL;
    g_variant_get(c->args, "(@(sayi)m&s@a(sv)@ayu)", NULL, &peer, &params, &cookie, &flags);
    return migrate_args_parse(&a, params, flags, error) ? perform(c, peer, &a, params, cookie, error) : NULL;
}

/* ---- Finish and Confirm ---- */

static GVariant *finish(struct manage_call *c, const char *name, uint32_t flags, GVariant *cookie, int canceled, GError **error)
{
    GVariant *mine = NULL;
    struct domain_driver *dr = manage_data(c->conn->state, "domain");
    domain_auto *d = migrate_finish(dr, c, name, flags, cookie, canceled != 0, &mine, error);
    return d ? g_variant_new("(@(sayi)@ay)", domain_variant(d), mine) : NULL;
}

static GVariant *finish3(struct manage_call *c, GError **error)
{
    const char *name;
    guint64 flags;
    int canceled;
    g_autoptr(GVariant) cookie = NULL;
    g_variant_get(c->args, "(&s@aym&sm&sti)", &name, &cookie, NULL, NULL, &flags, &canceled);
    return finish(c, name, (uint32_t)flags, cookie, canceled, error);
}

static GVariant *finish3_params(struct manage_call *c, GError **error)
{
    struct migrate_args a;
    guint32 flags;
    int canceled;
    g_autoptr(GVariant) params = NULL, cookie = NULL;
    g_variant_get(c->args, "(@a(sv)@ayui)", &params, &cookie, &flags, &canceled);
    if (!migrate_args_parse(&a, params, flags, error))
        return NULL;
    return a.name ? finish(c, a.name, flags, cookie, canceled, error) : manage_null(error, VIR_ERR_INTERNAL_ERROR, "missing domain name");
}

static GVariant *confirm(struct manage_call *c, uint32_t flags, int canceled, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d && migrate_confirm(d, flags, !canceled, error) ? manage_void() : NULL;
}

static GVariant *confirm3(struct manage_call *c, GError **error)
{
    guint64 flags;
    int canceled;
    g_variant_get(c->args, "(@(sayi)@ayti)", NULL, NULL, &flags, &canceled);
    return confirm(c, (uint32_t)flags, canceled, error);
}

static GVariant *confirm3_params(struct manage_call *c, GError **error)
{
    guint32 flags;
    int canceled;
    g_variant_get(c->args, "(@(sayi)@a(sv)@ayui)", NULL, NULL, NULL, &flags, &canceled);
    return confirm(c, flags, canceled, error);
}

const struct manage_row domain_rows_migrate[] = {
    { RPC_DOMAIN_MIGRATE_BEGIN3, begin3 },
    { RPC_DOMAIN_MIGRATE_BEGIN3_PARAMS, begin3_params },
    { RPC_DOMAIN_MIGRATE_PREPARE3, prepare3 },
    { RPC_DOMAIN_MIGRATE_PREPARE3_PARAMS, prepare3_params },
    { RPC_DOMAIN_MIGRATE_PERFORM3, perform3 },
    { RPC_DOMAIN_MIGRATE_PERFORM3_PARAMS, perform3_params },
    { RPC_DOMAIN_MIGRATE_FINISH3, finish3 },
    { RPC_DOMAIN_MIGRATE_FINISH3_PARAMS, finish3_params },
    { RPC_DOMAIN_MIGRATE_CONFIRM3, confirm3 },
    { RPC_DOMAIN_MIGRATE_CONFIRM3_PARAMS, confirm3_params },
    { 0, NULL },
};
