/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The procedures about pools. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "storage.h"

/* ---- lists ---- */

/* Does the pool pass the filters of VIR_CONNECT_LIST_STORAGE_POOLS_...? In each group no bit means all. */
static bool matches(struct storage_pool *p, uint32_t flags)
{
    enum { TYPES = ~0x3fu };
    g_mutex_lock(&p->lock);
    bool active = p->active, persistent = p->persistent, autostart = p->autostart;
    unsigned number = p->backend->number;
    g_mutex_unlock(&p->lock);
    uint32_t state = flags & 3, kept = flags & 12, starts = flags & 48, types = flags & TYPES;
    return (!state || (state & (active ? VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE : VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE))) &&
           (!kept || (kept & (persistent ? VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT : VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT))) &&
           (!starts || (starts & (autostart ? VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART : VIR_CONNECT_LIST_STORAGE_POOLS_NO_AUTOSTART))) &&
           (!types || (types & (1u << (number + 6))));
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    int want;
    uint32_t flags, n = 0;
    g_variant_get(c->args, "(iu)", &want, &flags);
    if (!manage_check_flags(flags, 0xfffff, error))
        return NULL;
    g_autoptr(GPtrArray) all = storage_all(storage_of(c));
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(say)"));
    for (unsigned i = 0; i < all->len; i++) {
        if (!matches(all->pdata[i], flags))
            continue;
        n++;
        if (want)
            g_variant_builder_add_value(&b, storage_pool_record(all->pdata[i]));
    }
    return g_variant_new("(a(say)u)", &b, n);
}

static GVariant *count(struct manage_call *c, bool active)
{
    g_autoptr(GPtrArray) all = storage_all(storage_of(c));
    int n = 0;
    for (unsigned i = 0; i < all->len; i++)
        n += matches(all->pdata[i], active ? VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE : VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE);
    return g_variant_new("(i)", n);
}
static GVariant *num_active(struct manage_call *c, GError **error) { return (void)error, count(c, true); }
static GVariant *num_defined(struct manage_call *c, GError **error) { return (void)error, count(c, false); }

static GVariant *names(struct manage_call *c, bool active)
{
    g_autoptr(GPtrArray) all = storage_all(storage_of(c));
    GVariantBuilder b;
    int max, n = 0;
    g_variant_get(c->args, "(i)", &max);
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < all->len && n < max; i++) {
        struct storage_pool *p = all->pdata[i];
        if (!matches(p, active ? VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE : VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE))
            continue;
        g_variant_builder_add(&b, "s", p->name);
        n++;
    }
    return g_variant_new("(as)", &b);
}
static GVariant *list_active(struct manage_call *c, GError **error) { return (void)error, names(c, true); }
static GVariant *list_defined(struct manage_call *c, GError **error) { return (void)error, names(c, false); }

/* ---- looking up ---- */

static GVariant *one(struct storage_pool *p)
{
    GVariant *record = p ? storage_pool_record(p) : NULL;
    storage_pool_unref(p);
    return p ? g_variant_new_tuple(&record, 1) : NULL;
}

static GVariant *lookup_name(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get(c->args, "(&s)", &name);
    return one(storage_find_name(storage_of(c), name, error));
}

static GVariant *lookup_uuid(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) bytes = g_variant_get_child_value(c->args, 0);
    if (g_variant_get_size(bytes) != 16)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
    return one(storage_find_uuid(storage_of(c), g_variant_get_data(bytes), NULL, error));
}

static GVariant *lookup_volume(struct manage_call *c, GError **error)
{
    const char *pool;
    g_variant_get(c->args, "((&sss))", &pool, NULL, NULL);
    return one(storage_find_name(storage_of(c), pool, error));
}

static GVariant *lookup_target(struct manage_call *c, GError **error)
{
    g_autoptr(GPtrArray) all = storage_all(storage_of(c));
    const char *path;
    g_variant_get(c->args, "(&s)", &path);
    g_autofree char *wanted = g_strdup(path);
    for (size_t n = strlen(wanted); n > 1 && wanted[n - 1] == '/'; n--)
        wanted[n - 1] = 0;
    for (unsigned i = 0; i < all->len; i++) {
        struct storage_pool *p = all->pdata[i];
        g_mutex_lock(&p->lock);
        bool hit = p->active && !g_strcmp0(storage_pool_path(p), wanted);
        g_mutex_unlock(&p->lock);
        if (hit)
            return one(storage_pool_ref(p));
    }
    return manage_null(error, VIR_ERR_NO_STORAGE_POOL, "no storage pool with matching target path '%s'", path);
}

/* ---- defining ---- */

static GVariant *define(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    const struct storage_backend *b;
    bool new;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    if (!manage_check_flags(flags, VIR_STORAGE_POOL_DEFINE_VALIDATE, error))
        return NULL;
    struct doc *d = storage_pool_parse(xml, &b, error);
    storage_pool_auto *p = d ? storage_pool_define(storage_of(c), d, b, true, &new, error) : NULL;
    if (!p)
        return NULL;
    storage_pool_event(p, VIR_STORAGE_POOL_EVENT_DEFINED);
    return one(storage_pool_ref(p));
}

static bool set_autostart(struct storage_pool *p, bool on, GError **error)
{
    g_autofree char *link = storage_pool_file(p, p->storage->autostart), *file = storage_pool_file(p, p->storage->config);
    if (on) {
        if (g_mkdir_with_parents(p->storage->autostart, 0700) < 0)
            return manage_fail_errno(error, errno, "cannot make the directory '%s'", p->storage->autostart);
        if (symlink(file, link) < 0 && errno != EEXIST)
            return manage_fail_errno(error, errno, "cannot make the link '%s'", link);
    } else if (unlink(link) < 0 && errno != ENOENT) {
        return manage_fail_errno(error, errno, "cannot remove the link '%s'", link);
    }
    g_mutex_lock(&p->lock);
    p->autostart = on;
    g_mutex_unlock(&p->lock);
    return true;
}

/* What keeps a pool from being stopped, changed or looked at anew. Under the lock. */
static bool no_jobs(struct storage_pool *p, GError **error)
{
    return !p->jobs || manage_fail(error, VIR_ERR_INTERNAL_ERROR, "pool '%s' has asynchronous jobs running.", p->name);
}

static bool is_inactive(struct storage_pool *p, const char *still, GError **error)
{
    return !p->active || manage_fail(error, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is %s active", p->name, still);
}

static bool is_active(struct storage_pool *p, GError **error)
{
    return p->active || manage_fail(error, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is not active", p->name);
}

static bool is_there(struct storage_pool *p, GError **error)
{
    return !p->gone || manage_fail(error, VIR_ERR_NO_STORAGE_POOL, "'%s' was undefined meanwhile", p->name);
}

static GVariant *undefine(struct manage_call *c, GError **error)
{
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    if (!p)
        return NULL;
    g_autofree char *file = storage_pool_file(p, p->storage->config);
    g_mutex_lock(&p->work);
    g_mutex_lock(&p->lock);
    bool ok = is_there(p, error) && is_inactive(p, "still", error) && no_jobs(p, error);
    g_mutex_unlock(&p->lock);
    ok = ok && set_autostart(p, false, error) && manage_remove_file(file, error);
    if (ok)
        storage_pool_remove(p);
    g_mutex_unlock(&p->work);
    if (!ok)
        return NULL;
    storage_pool_event(p, VIR_STORAGE_POOL_EVENT_UNDEFINED);
    return manage_void();
}

/* ---- life ---- */

/* One thing at a time on a pool: takes `work` and checks; the caller releases it when this has returned a pool. */
static struct storage_pool *begin(struct manage_call *c, bool (*check)(struct storage_pool *p, GError **error), GError **error)
{
    struct storage_pool *p = storage_find_arg(c, 0, error);
    if (!p)
        return NULL;
    g_mutex_lock(&p->work);
    g_mutex_lock(&p->lock);
    bool ok = is_there(p, error) && check(p, error);
    g_mutex_unlock(&p->lock);
    if (ok && storage_backend_tools(p->backend, error))
        return p;
    g_mutex_unlock(&p->work);
    storage_pool_unref(p);
    return NULL;
}

static GVariant *end(struct storage_pool *p, bool ok, int event)
{
    g_mutex_unlock(&p->work);
    if (ok && event >= 0)
        storage_pool_event(p, event);
    storage_pool_unref(p);
    return ok ? manage_void() : NULL;
}

static bool may_start(struct storage_pool *p, GError **error) { return is_inactive(p, "already", error); }
static bool may_stop(struct storage_pool *p, GError **error) { return is_active(p, error) && no_jobs(p, error); }
static bool may_delete(struct storage_pool *p, GError **error) { return is_inactive(p, "still", error) && no_jobs(p, error); }

static bool build(struct storage_pool *p, unsigned flags, GError **error)
{
    enum { BOTH = VIR_STORAGE_POOL_BUILD_OVERWRITE | VIR_STORAGE_POOL_BUILD_NO_OVERWRITE };
    if ((flags & BOTH) == BOTH)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "overwrite and no-overwrite cannot be asked for at once");
    if (!p->backend->build)
        return true;
    return p->backend->build(p, flags, error);
}

/* The flags of create that ask for build, as those of build. */
static bool build_as_created(struct storage_pool *p, uint32_t flags, bool *ret_built, GError **error)
{
    unsigned how = (flags & VIR_STORAGE_POOL_CREATE_WITH_BUILD_OVERWRITE ? VIR_STORAGE_POOL_BUILD_OVERWRITE : 0) |
                   (flags & VIR_STORAGE_POOL_CREATE_WITH_BUILD_NO_OVERWRITE ? VIR_STORAGE_POOL_BUILD_NO_OVERWRITE : 0);
    *ret_built = how || (flags & VIR_STORAGE_POOL_CREATE_WITH_BUILD);
    return !*ret_built || build(p, how, error);
}

static GVariant *create(struct manage_call *c, GError **error)
{
    uint32_t flags;
    bool built;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 7, error))
        return NULL;
    struct storage_pool *p = begin(c, may_start, error);
    if (!p)
        return NULL;
    return end(p, build_as_created(p, flags, &built, error) && storage_pool_start(p, error), -1);
}

static GVariant *create_xml(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    const struct storage_backend *b;
    bool new, built;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    if (!manage_check_flags(flags, 15, error))
        return NULL;
    struct doc *d = storage_pool_parse(xml, &b, error);
    if (d && !storage_backend_tools(b, error)) {
        doc_free(d);
        return NULL;
    }
    storage_pool_auto *p = d ? storage_pool_define(storage_of(c), d, b, false, &new, error) : NULL;
    if (!p)
        return NULL;
    g_mutex_lock(&p->work);
    g_mutex_lock(&p->lock);
    bool ok = is_there(p, error) && is_inactive(p, "already", error);
    g_mutex_unlock(&p->lock);
    ok = ok && build_as_created(p, flags, &built, error) && storage_pool_start(p, error);
    g_mutex_unlock(&p->work);
    if (!ok && new)
        storage_pool_remove(p);
    return ok ? one(storage_pool_ref(p)) : NULL;
}

static GVariant *build_call(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 15, error))
        return NULL;
    struct storage_pool *p = begin(c, may_start, error);
    return p ? end(p, build(p, flags, error), VIR_STORAGE_POOL_EVENT_CREATED) : NULL;
}

static GVariant *destroy(struct manage_call *c, GError **error)
{
    struct storage_pool *p = begin(c, may_stop, error);
    if (!p)
        return NULL;
    bool ok = !p->backend->stop || p->backend->stop(p, error);
    if (ok)
        storage_pool_stopped(p);
    return end(p, ok, -1);
}

static GVariant *delete(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, VIR_STORAGE_POOL_DELETE_ZEROED, error))
        return NULL;
    struct storage_pool *p = begin(c, may_delete, error);
    if (!p)
        return NULL;
    bool ok = p->backend->delete ? p->backend->delete(p, flags, error)
                                 : manage_fail(error, VIR_ERR_NO_SUPPORT, "a pool of type '%s' cannot be deleted; undefine it instead", p->backend->type);
    return end(p, ok, VIR_STORAGE_POOL_EVENT_DELETED);
}

/* A pool that can no longer be looked at has gone: it is stopped. */
static GVariant *refresh(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    struct storage_pool *p = begin(c, may_stop, error);
    if (!p)
        return NULL;
    bool ok = storage_pool_refresh(p, error);
    if (ok) {
        storage_pool_refreshed(p);
    } else {
        if (p->backend->stop)
            (void)p->backend->stop(p, NULL);
        storage_pool_stopped(p);
    }
    return end(p, ok, -1);
}

/* ---- facts ---- */

static GVariant *get_info(struct manage_call *c, GError **error)
{
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    if (!p)
        return NULL;
    g_mutex_lock(&p->lock);
    GVariant *v = g_variant_new("(yttt)", p->active ? VIR_STORAGE_POOL_RUNNING : VIR_STORAGE_POOL_INACTIVE, p->active ? p->capacity : 0,
                                p->active ? p->allocation : 0, p->active ? p->available : 0);
    g_mutex_unlock(&p->lock);
    return v;
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, VIR_STORAGE_XML_INACTIVE, error))
        return NULL;
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    return p ? g_variant_new("(@s)", g_variant_new_take_string(storage_pool_xml(p, flags & VIR_STORAGE_XML_INACTIVE))) : NULL;
}

static GVariant *flag_of(struct manage_call *c, size_t offset, GError **error)
{
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    if (!p)
        return NULL;
    g_mutex_lock(&p->lock);
    bool on = *(const bool *)((const char *)p + offset);
    g_mutex_unlock(&p->lock);
    return g_variant_new("(i)", on);
}
static GVariant *get_autostart(struct manage_call *c, GError **error) { return flag_of(c, offsetof(struct storage_pool, autostart), error); }
static GVariant *get_active(struct manage_call *c, GError **error) { return flag_of(c, offsetof(struct storage_pool, active), error); }
static GVariant *get_persistent(struct manage_call *c, GError **error) { return flag_of(c, offsetof(struct storage_pool, persistent), error); }

static GVariant *autostart_call(struct manage_call *c, GError **error)
{
    int on;
    g_variant_get_child(c->args, 1, "i", &on);
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    if (!p)
        return NULL;
    g_mutex_lock(&p->work);
    g_mutex_lock(&p->lock);
    bool ok = is_there(p, error) && (p->persistent || manage_fail(error, VIR_ERR_INVALID_ARG, "pool has no config file: a transient pool cannot start by itself; define it first"));
    g_mutex_unlock(&p->lock);
    ok = ok && set_autostart(p, on != 0, error);
    g_mutex_unlock(&p->work);
    return ok ? manage_void() : NULL;
}

static GVariant *find_sources(struct manage_call *c, GError **error)
{
    const char *type, *spec;
    uint32_t flags;
    g_variant_get(c->args, "(&sm&su)", &type, &spec, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    const struct storage_backend *b = storage_backend_find(type, error);
    if (!b)
        return NULL;
    if (!b->find_sources)
        return manage_null(error, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: pool type '%s' does not support source discovery", type);
    if (!storage_backend_tools(b, error))
        return NULL;
    struct doc *d = spec ? doc_parse_at(&schema_pool, "", spec, -1, error) : NULL;
    if (spec && !d)
        return NULL;
    char *text = b->find_sources(storage_of(c), d ? doc_root(d) : NULL, error);
    doc_free(d);
    return text ? g_variant_new("(@s)", g_variant_new_take_string(text)) : NULL;
}

static GVariant *capabilities(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get(c->args, "(u)", &flags);
    return manage_check_flags(flags, 0, error) ? g_variant_new("(@s)", g_variant_new_take_string(storage_capabilities())) : NULL;
}

const struct manage_row storage_pool_rows[] = {
    { RPC_CONNECT_LIST_ALL_STORAGE_POOLS, list_all },
    { RPC_CONNECT_NUM_OF_STORAGE_POOLS, num_active },
    { RPC_CONNECT_NUM_OF_DEFINED_STORAGE_POOLS, num_defined },
    { RPC_CONNECT_LIST_STORAGE_POOLS, list_active },
    { RPC_CONNECT_LIST_DEFINED_STORAGE_POOLS, list_defined },
    { RPC_STORAGE_POOL_LOOKUP_BY_NAME, lookup_name },
    { RPC_STORAGE_POOL_LOOKUP_BY_UUID, lookup_uuid },
    { RPC_STORAGE_POOL_LOOKUP_BY_VOLUME, lookup_volume },
    { RPC_STORAGE_POOL_LOOKUP_BY_TARGET_PATH, lookup_target },
    { RPC_STORAGE_POOL_DEFINE_XML, define },
    { RPC_STORAGE_POOL_UNDEFINE, undefine },
    { RPC_STORAGE_POOL_CREATE, create },
    { RPC_STORAGE_POOL_CREATE_XML, create_xml },
    { RPC_STORAGE_POOL_BUILD, build_call },
    { RPC_STORAGE_POOL_DESTROY, destroy },
    { RPC_STORAGE_POOL_DELETE, delete },
    { RPC_STORAGE_POOL_REFRESH, refresh },
    { RPC_STORAGE_POOL_GET_INFO, get_info },
    { RPC_STORAGE_POOL_GET_XML_DESC, get_xml },
    { RPC_STORAGE_POOL_GET_AUTOSTART, get_autostart },
    { RPC_STORAGE_POOL_SET_AUTOSTART, autostart_call },
    { RPC_STORAGE_POOL_IS_ACTIVE, get_active },
    { RPC_STORAGE_POOL_IS_PERSISTENT, get_persistent },
    { RPC_CONNECT_FIND_STORAGE_POOL_SOURCES, find_sources },
    { RPC_CONNECT_GET_STORAGE_POOL_CAPABILITIES, capabilities },
    { 0, NULL },
};
