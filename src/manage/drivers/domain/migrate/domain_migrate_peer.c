/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Migration from daemon to daemon: this one is the client of the destination's (vireod or libvirtd). When the connection is lost while the destination is told to
 * let the guest run, it is asked again what became of it: the guest stays paused here until that is known.
 */
#include <string.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/rpc/rpc_client.h"
#include "manage/rpc/rpc_transport.h"

enum { FEATURE_V3 = 6, FEATURE_KEEPALIVE = 10, FEATURE_OFFLINE = 12, FEATURE_PARAMS = 13, AUTH_NONE = 0, AUTH_POLKIT = 2, RESOLVE_SECONDS = 30 };

struct peer {
    struct rpc_client *client;
    struct manage_conn *conn; /* of who asked for the migration */
};

/* ---- the connection ---- */

static GVariant *call(struct rpc_client *c, unsigned proc, GVariant *args, GError **error) { return rpc_client_call(c, rpc_proc(proc), args, NULL, 0, NULL, NULL, error); }

static bool has_feature(struct rpc_client *c, int number)
{
    g_autoptr(GVariant) ret = call(c, RPC_CONNECT_SUPPORTS_FEATURE, g_variant_new("(i)", number), NULL);
    int yes = 0;
    if (ret)
        g_variant_get(ret, "(i)", &yes);
    return yes != 0;
}

static bool authenticate(struct rpc_client *c, GError **error)
{
    g_autoptr(GVariant) ret = call(c, RPC_AUTH_LIST, manage_void(), error);
    int type = AUTH_NONE;
    if (!ret)
        return false;
    g_autoptr(GVariant) types = g_variant_get_child_value(ret, 0);
    if (g_variant_n_children(types))
        g_variant_get_child(types, 0, "i", &type);
    g_autoptr(GVariant) done = type == AUTH_POLKIT ? call(c, RPC_AUTH_POLKIT, manage_void(), error) : NULL;
    if (type == AUTH_NONE || done)
        return true;
    return type == AUTH_POLKIT ? false : manage_fail(error, VIR_ERR_AUTH_FAILED, "authentication failed: the other daemon asks for SASL, which is not spoken here; use ssh");
}

/* A program that the URI names is not started for a client: this may be root's daemon. */
static struct rpc_uri *parse_uri(const char *text, GError **error)
{
    struct rpc_uri *u = rpc_uri_parse(text, error);
    if (u && !g_strcmp0(u->transport, "ext"))
        manage_fail(error, VIR_ERR_INVALID_ARG, "the daemon starts no program for the connection '%s'", text);
    else if (u && (rpc_uri_query(u, "command") || rpc_uri_query(u, "netcat")))
        manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' names a program, and the daemon starts none but ssh", text);
    else
        return u;
    rpc_uri_free(u);
    return NULL;
}

static struct rpc_client *open_peer(const char *text, GError **error)
{
    bool local, encrypted;
    struct rpc_uri *u = parse_uri(text, error);
    struct rpc_client *c = u ? rpc_transport_connect(u, false, NULL, &local, &encrypted, error) : NULL;
    bool ok = c && authenticate(c, error);
    bool watched = ok && has_feature(c, FEATURE_KEEPALIVE);
    g_autoptr(GVariant) opened = ok ? call(c, RPC_CONNECT_OPEN, g_variant_new("(msu)", u->remote, (guint32)0), error) : NULL;
    rpc_uri_free(u);
    if (opened) {
        if (watched)
            rpc_client_keepalive(c, 5, 5);
        return c;
    }
    if (c)
        rpc_client_unref(c);
    return NULL;
}

static void close_peer(struct rpc_client *c)
{
    GVariant *ret = rpc_client_alive(c) ? call(c, RPC_CONNECT_CLOSE, manage_void(), NULL) : NULL;
    if (ret)
        g_variant_unref(ret);
    rpc_client_close(c);
    rpc_client_unref(c);
}

static bool speaks(struct rpc_client *c, const struct migrate_args *a, const char *peer, GError **error)
{
    if (!has_feature(c, FEATURE_V3) || !has_feature(c, FEATURE_PARAMS))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the daemon at '%s' does not know migration with parameters (version 3)", peer);
    if ((a->flags & VIR_MIGRATE_OFFLINE) && !has_feature(c, FEATURE_OFFLINE))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the daemon at '%s' does not know offline migration", peer);
    return true;
}

static bool go_on(void *opaque)
{
    struct peer *p = opaque;
    return rpc_client_alive(p->client) && !g_atomic_int_get(&p->conn->lost);
}

/* ---- the destination's calls ---- */

/* The caller's parameters, with those of `more` in place of theirs. */
static GVariant *parameters(GVariant *params, const char *const more[][2])
{
    GVariantBuilder b;
    GVariantIter iter;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    g_variant_iter_init(&iter, params);
    for (;;) {
        const char *field;
        g_autoptr(GVariant) v = NULL;
        bool replaced = false;
        if (!g_variant_iter_next(&iter, "(&sv)", &field, &v))
            break;
        for (unsigned i = 0; more[i][0]; i++)
            replaced |= !strcmp(more[i][0], field);
        if (!replaced)
            g_variant_builder_add(&b, "(sv)", field, v);
    }
    for (unsigned i = 0; more[i][0]; i++)
        if (more[i][1])
            manage_param_string(&b, more[i][0], more[i][1]);
    return g_variant_builder_end(&b);
}

static uint32_t flags_there(struct domain *d, const struct migrate_args *a)
{
    g_mutex_lock(&d->lock);
    bool paused = d->migration && d->migration->paused;
    g_mutex_unlock(&d->lock);
    return (a->flags & ~(uint32_t)(VIR_MIGRATE_ABORT_ON_ERROR | VIR_MIGRATE_AUTO_CONVERGE)) | (paused ? VIR_MIGRATE_PAUSED : 0);
}

static bool prepare(struct peer *p, GVariant *params, const char *name, const char *xml, uint32_t flags, GVariant **cookie, char **ret_uri, GError **error)
{
    const char *const more[][2] = { { VIR_MIGRATE_PARAM_DEST_XML, xml }, { VIR_MIGRATE_PARAM_DEST_NAME, name }, { VIR_MIGRATE_PARAM_PERSIST_XML, NULL }, { NULL } };
    g_autoptr(GVariant) ret = call(p->client, RPC_DOMAIN_MIGRATE_PREPARE3_PARAMS, g_variant_new("(@a(sv)@ayu)", parameters(params, more), *cookie, flags), error);
    if (!ret)
        return false;
    g_variant_unref(*cookie);
    g_variant_get(ret, "(@ayms)", cookie, ret_uri);
    return true;
}

/* *ret_lost: the connection was lost before an answer came. */
static bool finish(struct peer *p, GVariant *params, const char *name, uint32_t flags, GVariant *cookie, bool canceled, bool *ret_lost, GError **error)
{
    const char *const more[][2] = { { VIR_MIGRATE_PARAM_DEST_XML, NULL }, { VIR_MIGRATE_PARAM_DEST_NAME, name }, { VIR_MIGRATE_PARAM_PERSIST_XML, NULL }, { NULL } };
    g_autoptr(GVariant) ret = call(p->client, RPC_DOMAIN_MIGRATE_FINISH3_PARAMS, g_variant_new("(@a(sv)@ayui)", parameters(params, more), cookie, flags, (int)canceled), error);
    *ret_lost = !ret && !rpc_client_alive(p->client);
    return ret != NULL;
}

/* ---- who has it? ---- */

enum whereabouts { UNKNOWN, THERE, NOT_THERE };

/* A domain that waits for its state, or is being decided about, is neither. */
static enum whereabouts ask(struct rpc_client *c, struct domain *d)
{
    g_autoptr(GError) e = NULL;
    int state, reason;
    g_autoptr(GVariant) found = call(c, RPC_DOMAIN_LOOKUP_BY_UUID, g_variant_new("(@ay)", manage_uuid_variant(d->uuid)), &e);
    if (!found)
        return e->code == VIR_ERR_NO_DOMAIN ? NOT_THERE : UNKNOWN;
    g_autoptr(GVariant) record = g_variant_get_child_value(found, 0);
    g_autoptr(GVariant) ret = call(c, RPC_DOMAIN_GET_STATE, g_variant_new("(@(sayi)u)", record, (guint32)0), NULL);
    if (!ret)
        return UNKNOWN;
    g_variant_get(ret, "(ii)", &state, &reason);
    if (state == VIR_DOMAIN_PAUSED)
        return reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_STARTING_UP ? UNKNOWN : THERE;
    if (state == VIR_DOMAIN_SHUTOFF) /* has it run there, and ended? */
        return reason == VIR_DOMAIN_SHUTOFF_SHUTDOWN || reason == VIR_DOMAIN_SHUTOFF_DESTROYED || reason == VIR_DOMAIN_SHUTOFF_MIGRATED || reason == VIR_DOMAIN_SHUTOFF_SAVED ? THERE : NOT_THERE;
    return THERE;
}

static enum whereabouts whereabouts(struct domain *d, const char *peer)
{
    gint64 until = g_get_monotonic_time() + RESOLVE_SECONDS * G_TIME_SPAN_SECOND;
    enum whereabouts at = UNKNOWN;
    while (at == UNKNOWN && g_get_monotonic_time() < until && !g_atomic_int_get(&d->driver->stopping)) {
        struct rpc_client *c = open_peer(peer, NULL);
        at = c ? ask(c, d) : UNKNOWN;
        if (c)
            close_peer(c);
        if (at == UNKNOWN)
            g_usleep(G_USEC_PER_SEC / 5);
    }
    return at;
}

/* Inside a job. What it finds is for the caller to do: 1 moved, 0 not, -1 nobody knows. */
static int find_out(struct domain *d, const char *peer)
{
    static const int results[] = { [UNKNOWN] = -1, [THERE] = 1, [NOT_THERE] = 0 };
    return results[whereabouts(d, peer)];
}

bool migrate_resolve(struct domain *d, const char *peer, uint32_t flags)
{
    int moved = find_out(d, peer);
    if (moved < 0) {
        g_autofree char *text = g_strdup_printf("the daemon at '%s' does not answer, and nobody knows whether it has let the guest run: it stays paused here. Once it is sure that it does not run there, "
                                                "'resume' lets it go on here; else 'destroy' it", peer);
        domain_begin_wait(d, "migrate");
        migrate_leave(d, text);
        domain_end(d);
        return false;
    }
    (void)!migrate_confirm(d, flags, moved, NULL);
    return true;
}

/* ---- all of it ---- */

struct moving {
    struct peer p;
    struct domain *d;
    const struct migrate_args *a;
    GVariant *params;
    const char *name, *peer;
    uint32_t there; /* flags */
};

static bool lost_in_finish(struct moving *m, GError *why, GError **error)
{
    int moved = find_out(m->d, m->peer);
    if (moved < 0) {
        g_autofree char *text = g_strdup_printf("the connection to '%s' was lost while it was to let the guest run (%s), and it does not answer: the guest stays paused here. Once it is sure that it "
                                                "does not run there, 'resume' lets it go on here; else 'destroy' it", m->peer, why->message);
        domain_begin_wait(m->d, "migrate");
        migrate_leave(m->d, text);
        domain_end(m->d);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "%s", text);
    }
    bool ok = migrate_confirm(m->d, m->a->flags, moved, error);
    return moved ? ok : manage_fail(error, VIR_ERR_OPERATION_FAILED, "the destination was lost before it let the guest run, which goes on here: %s", why->message);
}

/* The guest stands still here and all of it is there. */
static bool hand_over(struct moving *m, GVariant *cookie, GError **error)
{
    g_autoptr(GError) e = NULL;
    bool lost = false, offline = m->a->flags & VIR_MIGRATE_OFFLINE;
    bool noted = offline || domain_migration_set(m->d, MIGRATION_FINISHING, &e);
    if (noted && finish(&m->p, m->params, m->name, m->there, cookie, false, &lost, &e))
        return migrate_confirm(m->d, m->a->flags, true, error);
    if (lost && !offline)
        return lost_in_finish(m, e, error);
    if (!noted) {
        bool unused;
        (void)!finish(&m->p, m->params, m->name, m->there, cookie, true, &unused, NULL);
    }
    (void)!migrate_confirm(m->d, m->a->flags, false, NULL);
    g_propagate_error(error, g_steal_pointer(&e));
    return false;
}

static bool give_up(struct moving *m, GVariant *cookie)
{
    bool lost;
    g_autoptr(GError) unused = NULL;
    (void)!finish(&m->p, m->params, m->name, m->there, cookie, true, &lost, &unused);
    return false;
}

/* Begun; `cookie` is Begin's, and taken over. */
static bool move(struct moving *m, const char *xml, GVariant *cookie, GError **error)
{
    g_autofree char *uri = NULL;
    bool offline = m->a->flags & VIR_MIGRATE_OFFLINE;
    m->there = flags_there(m->d, m->a);
    if (!prepare(&m->p, m->params, m->name, xml, m->there, &cookie, &uri, error)) {
        g_variant_unref(cookie);
        (void)!migrate_confirm(m->d, m->a->flags, false, NULL);
        return false;
    }
    struct migrate_args a = *m->a;
    a.uri = uri ? uri : a.uri;
    GVariant *performed = NULL;
    bool ok = offline || migrate_perform(m->d, &a, 0, cookie, go_on, &m->p, &performed, error);
    g_autoptr(GVariant) last = performed ? g_variant_ref_sink(performed) : g_variant_ref(cookie);
    ok = ok ? hand_over(m, last, error) : give_up(m, last);
    g_variant_unref(cookie);
    return ok;
}

bool migrate_peer(struct domain *d, struct manage_conn *conn, const char *peer, const struct migrate_args *a, GVariant *params, GError **error)
{
    g_autofree char *xml = NULL, *name = NULL;
    GVariant *cookie = NULL;
    struct rpc_client *client = open_peer(peer, error);
    if (!client)
        return false;
    g_mutex_lock(&d->lock);
    name = g_strdup(a->name ? a->name : d->name);
    g_mutex_unlock(&d->lock);
    struct moving m = { { client, conn }, d, a, params, name, peer, 0 };
    bool ok = speaks(client, a, peer, error) && migrate_begin(d, a, 0, peer, &xml, &cookie, error);
    ok = ok && move(&m, xml, g_variant_ref_sink(cookie), error);
    close_peer(client);
    return ok;
}
