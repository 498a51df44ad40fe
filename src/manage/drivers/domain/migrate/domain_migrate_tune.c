/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits of migrations: how fast, how long the guest may stand still, how much is kept for comparison. The machine keeps the last two. */
#include <json-c/json.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_transfer.h"

#define MIB_MAX ((uint64_t)(INT64_MAX / (1024 * 1024))) /* what libvirt tells where there is no limit */

static bool set_parameter(struct domain *d, const char *name, int64_t value, GError **error)
{
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, name, json_object_new_int64(value));
    struct json_object *o = monitor_command(d, "migrate-set-parameters", args, error);
    json_object_put(o);
    return o != NULL;
}

static bool get_parameter(struct domain *d, const char *name, uint64_t *ret, GError **error)
{
    struct json_object *o = monitor_command(d, "query-migrate-parameters", NULL, error), *v = o ? json_object_object_get(o, name) : NULL;
    *ret = v ? (uint64_t)json_object_get_int64(v) : 0;
    bool ok = o && (v || manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the machine of domain '%s' has no parameter '%s' of migration", d->name, name));
    json_object_put(o);
    return ok;
}

static struct domain *running(struct manage_call *c, uint32_t flags, uint32_t known, GError **error)
{
    domain_auto *d = manage_check_flags(flags, known, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock);
    bool up = d->id >= 0 && d->monitor;
    g_mutex_unlock(&d->lock);
    return up ? domain_ref(d) : manage_null(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
}

static uint32_t last_flags(struct manage_call *c)
{
    uint32_t flags;
    g_variant_get_child(c->args, g_variant_n_children(c->args) - 1, "u", &flags);
    return flags;
}

static uint64_t number_of(struct manage_call *c)
{
    guint64 n;
    g_variant_get_child(c->args, 1, "t", &n);
    return n;
}

/* ---- how fast ---- */

static bool not_postcopy(uint32_t flags, GError **error)
{
    return !(flags & VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY) || manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "there is no post-copy migration, and no limit of it");
}

static GVariant *set_speed(struct manage_call *c, GError **error)
{
    uint32_t flags = last_flags(c);
    uint64_t mib = number_of(c);
    if (!not_postcopy(flags, error) || !manage_check_flags(flags, 0, error))
        return NULL;
    if (mib > MIB_MAX)
        return manage_null(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %llu", (unsigned long long)MIB_MAX + 1);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    if (domain_transfer_active(d) && d->monitor && !set_parameter(d, "max-bandwidth", (int64_t)((mib ? mib : MIB_MAX) << 20), error))
        return NULL;
    g_mutex_lock(&d->lock);
    d->migrate_mib = mib == MIB_MAX ? 0 : mib;
    g_mutex_unlock(&d->lock);
    return manage_void();
}

static GVariant *get_speed(struct manage_call *c, GError **error)
{
    uint32_t flags = last_flags(c);
    domain_auto *d = not_postcopy(flags, error) && manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    return d ? g_variant_new("(t)", d->migrate_mib ? d->migrate_mib : MIB_MAX) : NULL;
}

/* ---- how long the guest stands still ---- */

static GVariant *set_downtime(struct manage_call *c, GError **error)
{
    uint64_t ms = number_of(c);
    domain_auto *d = running(c, last_flags(c), 0, error);
    return d && set_parameter(d, "downtime-limit", (int64_t)MIN(ms, (uint64_t)INT64_MAX), error) ? manage_void() : NULL;
}

static GVariant *get_downtime(struct manage_call *c, GError **error)
{
    uint64_t ms;
    domain_auto *d = running(c, last_flags(c), 0, error);
    return d && get_parameter(d, "downtime-limit", &ms, error) ? g_variant_new("(t)", ms) : NULL;
}

/* ---- compression ---- */

static GVariant *set_cache(struct manage_call *c, GError **error)
{
    uint64_t bytes = number_of(c);
    domain_auto *d = running(c, last_flags(c), 0, error);
    return d && set_parameter(d, "xbzrle-cache-size", (int64_t)MIN(bytes, (uint64_t)INT64_MAX), error) ? manage_void() : NULL;
}

static GVariant *get_cache(struct manage_call *c, GError **error)
{
    uint64_t bytes;
    domain_auto *d = running(c, last_flags(c), 0, error);
    return d && get_parameter(d, "xbzrle-cache-size", &bytes, error) ? g_variant_new("(t)", bytes) : NULL;
}

static GVariant *start_postcopy(struct manage_call *c, GError **error)
{
    domain_auto *d = running(c, last_flags(c), 0, error);
    return d ? manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "there is no post-copy migration") : NULL;
}

const struct manage_row domain_rows_migrate_tune[] = {
    { RPC_DOMAIN_MIGRATE_SET_MAX_SPEED, set_speed },
    { RPC_DOMAIN_MIGRATE_GET_MAX_SPEED, get_speed },
    { RPC_DOMAIN_MIGRATE_SET_MAX_DOWNTIME, set_downtime },
    { RPC_DOMAIN_MIGRATE_GET_MAX_DOWNTIME, get_downtime },
    { RPC_DOMAIN_MIGRATE_SET_COMPRESSION_CACHE, set_cache },
    { RPC_DOMAIN_MIGRATE_GET_COMPRESSION_CACHE, get_cache },
    { RPC_DOMAIN_MIGRATE_START_POST_COPY, start_postcopy },
    { 0, NULL },
};
