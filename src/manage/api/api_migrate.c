/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Migration, driven by this library between two daemons (version 3 of the protocol, with parameters): Begin at the source, Prepare at the destination, Perform at the
 * source, Finish at the destination, Confirm at the source. Whatever fails in between, the steps that undo it are made. Or the source's daemon does all of it (peer to peer).
 */
#include <string.h>

#include "manage/api/api.h"

enum { FEATURE_V3 = 6, FEATURE_PROTECTION = 7, FEATURE_OFFLINE = 12, FEATURE_PARAMS = 13, OWN_PARAMS = 4 };

/* Flags that the destination is not told of. */
#define SOURCE_FLAGS ((unsigned)(VIR_MIGRATE_ABORT_ON_ERROR | VIR_MIGRATE_AUTO_CONVERGE))

static bool has_feature(virConnectPtr conn, int number)
{
    g_autoptr(GVariant) r = CALL(conn, CONNECT_SUPPORTS_FEATURE, number);
    int yes = 0;
    if (r)
        g_variant_get(r, "(i)", &yes);
    return yes != 0;
}

/* ---- parameters and cookies ---- */

/* The caller's, with some of our own in place of theirs. Strings are borrowed. */
struct list {
    virTypedParameterPtr all;
    unsigned n;
};

static struct list list_new(virTypedParameterPtr params, unsigned n)
{
    struct list l = { g_new0(virTypedParameter, n + OWN_PARAMS), n };
    if (n)
        memcpy(l.all, params, n * sizeof(*params));
    return l;
}

static virTypedParameterPtr list_find(const struct list *l, const char *field)
{
    for (unsigned i = 0; i < l->n; i++)
        if (!strncmp(l->all[i].field, field, sizeof(l->all[i].field)))
            return &l->all[i];
    return NULL;
}

static void list_set(struct list *l, const char *field, const char *value)
{
    virTypedParameterPtr p = list_find(l, field);
    if (!p)
        p = &l->all[l->n++];
    g_strlcpy(p->field, field, sizeof(p->field));
    p->type = VIR_TYPED_PARAM_STRING;
    p->value.s = (char *)value;
}

static void list_drop(struct list *l, const char *field)
{
    virTypedParameterPtr p = list_find(l, field);
    if (p)
        *p = l->all[--l->n];
}

struct cookie {
    GVariant *v;
    const void *bytes;
    gsize size;
};

/* Child i of a reply. */
static void take_cookie(struct cookie *k, GVariant *reply, unsigned i)
{
    if (k->v)
        g_variant_unref(k->v);
    k->v = g_variant_get_child_value(reply, i);
    k->bytes = g_variant_get_fixed_array(k->v, &k->size, 1);
}

/* ---- the steps ---- */

struct migration {
    virDomainPtr domain;
    virConnectPtr there;
    struct list l;
    unsigned flags, flags_there;
    bool held;              /* the source keeps changes away since Begin */
    struct cookie last;     /* for the next step */
    virErrorPtr first;      /* what went wrong first */
};

static void keep_error(struct migration *m)
{
    if (!m->first)
        m->first = virSaveLastError();
}

static char *begin(struct migration *m)
{
    char *xml = NULL;
    g_autoptr(GVariant) r = CALL(m->domain, DOMAIN_MIGRATE_BEGIN3_PARAMS, m->domain, m->l.all, m->l.n, m->flags);
    if (!r)
        return NULL;
    take_cookie(&m->last, r, 0);
    g_variant_get_child(r, 1, "s", &xml);
    return xml;
}

static bool is_paused(virDomainPtr domain)
{
    int state = 0, reason;
    return virDomainGetState(domain, &state, &reason, 0) == 0 && state == VIR_DOMAIN_PAUSED;
}

/* The state's address stays with the caller. */
static bool prepare(struct migration *m, const char *xml, char **ret_uri)
{
    list_set(&m->l, VIR_MIGRATE_PARAM_DEST_XML, xml);
    g_autoptr(GVariant) r = CALL(m->there, DOMAIN_MIGRATE_PREPARE3_PARAMS, m->l.all, m->l.n, m->last.bytes, (size_t)m->last.size, m->flags_there);
    list_drop(&m->l, VIR_MIGRATE_PARAM_DEST_XML);
    if (!r)
        return false;
    take_cookie(&m->last, r, 0);
    g_variant_get_child(r, 1, "ms", ret_uri);
    return true;
}

static bool perform(struct migration *m, const char *uri)
{
    if (uri)
        list_set(&m->l, VIR_MIGRATE_PARAM_URI, uri);
    if (!list_find(&m->l, VIR_MIGRATE_PARAM_URI)) {
        api_fail(m->domain->o.conn, VIR_ERR_INTERNAL_ERROR, "the destination did not say where its machine is");
        return false;
    }
    g_autoptr(GVariant) r = CALL(m->domain, DOMAIN_MIGRATE_PERFORM3_PARAMS, m->domain, (const char *)NULL, m->l.all, m->l.n, m->last.bytes, (size_t)m->last.size, m->flags);
    if (!r)
        return false;
    take_cookie(&m->last, r, 0);
    return true;
}

static virDomainPtr finish(struct migration *m, bool canceled)
{
    g_autoptr(GVariant) r = CALL(m->there, DOMAIN_MIGRATE_FINISH3_PARAMS, m->l.all, m->l.n, m->last.bytes, (size_t)m->last.size, m->flags_there, (int)canceled);
    if (!r)
        return NULL;
    take_cookie(&m->last, r, 1);
    g_autoptr(GVariant) record = g_variant_get_child_value(r, 0);
    return api_object_of(m->there, API_DOMAIN, record, NULL);
}

static void confirm(struct migration *m, bool canceled)
{
    g_autoptr(GVariant) r = CALL(m->domain, DOMAIN_MIGRATE_CONFIRM3_PARAMS, m->domain, m->l.all, m->l.n, m->last.bytes, (size_t)m->last.size, m->flags, (int)canceled);
    if (!r)
        keep_error(m);
}

/* Begun. The guest is there in the end, or here. */
static virDomainPtr carry_out(struct migration *m, const char *xml)
{
    g_autofree char *uri = NULL;
    bool offline = m->flags & VIR_MIGRATE_OFFLINE;
    if (!prepare(m, xml, &uri)) {
        keep_error(m);
        if (m->held)
            confirm(m, true);
        return NULL;
    }
    bool performed = offline || perform(m, uri);
    if (!performed)
        keep_error(m); /* the source has undone its part by itself */
    virDomainPtr moved = finish(m, !performed);
    if (!moved)
        keep_error(m);
    if (performed)
        confirm(m, !moved);
    return moved;
}

static virDomainPtr drive(virDomainPtr domain, virConnectPtr there, virTypedParameterPtr params, unsigned n, unsigned flags)
{
    struct migration m = { .domain = domain, .there = there, .l = list_new(params, n), .flags = flags };
    m.held = !(flags & VIR_MIGRATE_OFFLINE) && has_feature(domain->o.conn, FEATURE_PROTECTION);
    m.flags |= m.held ? VIR_MIGRATE_CHANGE_PROTECTION : 0;
    m.flags_there = (m.flags & ~SOURCE_FLAGS) | (is_paused(domain) ? VIR_MIGRATE_PAUSED : 0);
    g_autofree char *xml = begin(&m);
    if (xml && !list_find(&m.l, VIR_MIGRATE_PARAM_DEST_NAME))
        list_set(&m.l, VIR_MIGRATE_PARAM_DEST_NAME, domain->o.name);
    virDomainPtr moved = xml ? carry_out(&m, xml) : NULL;
    if (m.last.v)
        g_variant_unref(m.last.v);
    if (m.first)
        api_error_restore(m.first);
    g_free(m.l.all);
    return moved;
}

static bool both_can(virDomainPtr domain, virConnectPtr there, unsigned flags)
{
    virConnectPtr all[] = { domain->o.conn, there };
    for (unsigned i = 0; i < 2; i++) {
        if (!has_feature(all[i], FEATURE_V3) || !has_feature(all[i], FEATURE_PARAMS))
            api_fail(all[i], VIR_ERR_NO_SUPPORT, "migration of version 3 with parameters, by the %s", i ? "destination" : "source");
        else if ((flags & VIR_MIGRATE_OFFLINE) && !has_feature(all[i], FEATURE_OFFLINE))
            api_fail(all[i], VIR_ERR_ARGUMENT_UNSUPPORTED, "offline migration is not supported by the %s", i ? "destination" : "source");
        else
            continue;
        return false;
    }
    return true;
}

/* ---- the public functions ---- */

virDomainPtr virDomainMigrate3(virDomainPtr domain, virConnectPtr dconn, virTypedParameterPtr params, unsigned int nparams, unsigned int flags)
{
    if (!BEGIN(domain) || !api_valid(__func__, dconn, API_CONN))
        return NULL;
    if (flags & (VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_TUNNELLED)) {
        api_fail(domain->o.conn, VIR_ERR_INVALID_ARG, "use virDomainMigrateToURI3 for peer-to-peer migration");
        return NULL;
    }
    if (domain->o.conn->readonly || dconn->readonly) {
        api_fail(domain->o.conn, VIR_ERR_OPERATION_DENIED, "read only access prevents %s", __func__);
        return NULL;
    }
    return both_can(domain, dconn, flags) ? drive(domain, dconn, params, nparams, flags) : NULL;
}

int virDomainMigrateToURI3(virDomainPtr domain, const char *dconnuri, virTypedParameterPtr params, unsigned int nparams, unsigned int flags)
{
    if (!BEGIN(domain))
        return -1;
    if (!(flags & VIR_MIGRATE_PEER2PEER)) {
        api_fail(domain->o.conn, VIR_ERR_ARGUMENT_UNSUPPORTED, "direct migration is not supported by the connection driver: two daemons are needed (VIR_MIGRATE_PEER2PEER)");
        return -1;
    }
    if (!dconnuri) {
        API_NULL_ARG("dconnuri");
        return -1;
    }
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_MIGRATE_PERFORM3_PARAMS, domain, dconnuri, params, nparams, NULL, (size_t)0, flags);
    return r ? 0 : -1;
}

/* ---- the older ones, by the parameters of the new ---- */

struct old {
    virTypedParameterPtr params;
    int n, max;
};

static struct old old_params(const char *uri, const char *xml, const char *name, unsigned long bandwidth)
{
    struct old o = { 0 };
    const char *const rows[][2] = { { VIR_MIGRATE_PARAM_URI, uri }, { VIR_MIGRATE_PARAM_DEST_XML, xml }, { VIR_MIGRATE_PARAM_DEST_NAME, name } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i][1])
            virTypedParamsAddString(&o.params, &o.n, &o.max, rows[i][0], rows[i][1]);
    if (bandwidth)
        virTypedParamsAddULLong(&o.params, &o.n, &o.max, VIR_MIGRATE_PARAM_BANDWIDTH, bandwidth);
    return o;
}

virDomainPtr virDomainMigrate2(virDomainPtr domain, virConnectPtr dconn, const char *dxml, unsigned long flags, const char *dname, const char *uri,
                               unsigned long bandwidth)
{
    if (!BEGIN(domain) || !api_valid(__func__, dconn, API_CONN))
        return NULL;
    struct old o = old_params(uri, dxml, dname, bandwidth);
    virDomainPtr moved = NULL;
    if (flags & VIR_MIGRATE_PEER2PEER) {
        g_autofree char *there = virConnectGetURI(dconn);
        if (there && virDomainMigrateToURI3(domain, there, o.params, (unsigned)o.n, (unsigned)flags) == 0)
            moved = virDomainLookupByName(dconn, dname ? dname : domain->o.name);
    } else {
        moved = virDomainMigrate3(domain, dconn, o.params, (unsigned)o.n, (unsigned)flags);
    }
    virTypedParamsFree(o.params, o.n);
    return moved;
}

virDomainPtr virDomainMigrate(virDomainPtr domain, virConnectPtr dconn, unsigned long flags, const char *dname, const char *uri, unsigned long bandwidth)
{
    return virDomainMigrate2(domain, dconn, NULL, flags, dname, uri, bandwidth);
}

int virDomainMigrateToURI2(virDomainPtr domain, const char *dconnuri, const char *miguri, const char *dxml, unsigned long flags, const char *dname,
                           unsigned long bandwidth)
{
    struct old o = old_params(miguri, dxml, dname, bandwidth);
    int ret = virDomainMigrateToURI3(domain, dconnuri, o.params, (unsigned)o.n, (unsigned)flags);
    virTypedParamsFree(o.params, o.n);
    return ret;
}

int virDomainMigrateToURI(virDomainPtr domain, const char *duri, unsigned long flags, const char *dname, unsigned long bandwidth)
{
    return virDomainMigrateToURI2(domain, duri, NULL, NULL, flags, dname, bandwidth);
}
