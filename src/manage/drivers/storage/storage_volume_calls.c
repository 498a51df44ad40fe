/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The procedures about volumes. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "storage.h"

static GVariant *record(const struct storage_pool *p, const struct storage_volume *v) { return g_variant_new("(sss)", p->name, v->name, v->key); }

static GVariant *one(const struct storage_pool *p, const struct storage_volume *v)
{
    GVariant *r = record(p, v);
    return g_variant_new_tuple(&r, 1);
}

/* ---- finding ---- */

static void *no_volume(const char *what, const char *value, GError **error)
{
    return manage_null(error, VIR_ERR_NO_STORAGE_VOL, "no storage vol with matching %s '%s'", what, value);
}

static bool check_active(const struct storage_pool *p, GError **error)
{
    return p->active || manage_fail(error, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is not active", p->name);
}

/* Under the lock; referenced. */
static struct storage_volume *find_locked(struct storage_pool *p, const char *name, GError **error)
{
    if (!check_active(p, error))
        return NULL;
    struct storage_volume *v = g_hash_table_lookup(p->volumes, name);
    return v ? storage_volume_ref(v) : no_volume("name", name, error);
}

struct storage_volume *storage_volume_find(struct manage_call *c, unsigned arg, struct storage_pool **ret_pool, GError **error)
{
    g_autoptr(GVariant) r = g_variant_get_child_value(c->args, arg);
    const char *pool, *name;
    g_variant_get(r, "(&s&s&s)", &pool, &name, NULL);
    struct storage_pool *p = storage_find_name(storage_of(c), pool, error);
    if (!p)
        return NULL;
    g_mutex_lock(&p->lock);
    struct storage_volume *v = find_locked(p, name, error);
    g_mutex_unlock(&p->lock);
    if (v)
        *ret_pool = p;
    else
        storage_pool_unref(p);
    return v;
}

/* Any active pool's volume for which `fits` says so. */
static GVariant *search(struct manage_call *c, bool (*fits)(const struct storage_volume *v, const char *value), const char *what, GError **error)
{
    g_autoptr(GPtrArray) all = storage_all(storage_of(c));
    const char *value;
    g_variant_get(c->args, "(&s)", &value);
    for (unsigned i = 0; i < all->len; i++) {
        struct storage_pool *p = all->pdata[i];
        GHashTableIter it;
        gpointer v;
        GVariant *found = NULL;
        g_mutex_lock(&p->lock);
        g_hash_table_iter_init(&it, p->volumes);
        while (p->active && !found && g_hash_table_iter_next(&it, NULL, &v))
            if (fits(v, value))
                found = one(p, v);
        g_mutex_unlock(&p->lock);
        if (found)
            return found;
    }
    return no_volume(what, value, error);
}

static bool has_key(const struct storage_volume *v, const char *key) { return v->key && !strcmp(v->key, key); }
static bool has_path(const struct storage_volume *v, const char *path) { return v->target.path && !strcmp(v->target.path, path); }
static GVariant *lookup_key(struct manage_call *c, GError **error) { return search(c, has_key, "key", error); }
static GVariant *lookup_path(struct manage_call *c, GError **error) { return search(c, has_path, "path", error); }

static GVariant *lookup_name(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 1, "&s", &name);
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    if (!p)
        return NULL;
    g_mutex_lock(&p->lock);
    storage_volume_auto *v = find_locked(p, name, error);
    g_mutex_unlock(&p->lock);
    return v ? one(p, v) : NULL;
}

/* ---- lists ---- */

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(struct storage_volume *const *)a)->name, (*(struct storage_volume *const *)b)->name);
}

static void volume_unref(gpointer v) { storage_volume_unref(v); }

/* All volumes, referenced; NULL with error. */
static GPtrArray *volumes(struct storage_pool *p, GError **error)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(volume_unref);
    GHashTableIter it;
    gpointer v;
    g_mutex_lock(&p->lock);
    bool ok = check_active(p, error);
    g_hash_table_iter_init(&it, p->volumes);
    while (ok && g_hash_table_iter_next(&it, NULL, &v))
        g_ptr_array_add(all, storage_volume_ref(v));
    g_mutex_unlock(&p->lock);
    if (!ok) {
        g_ptr_array_unref(all);
        return NULL;
    }
    g_ptr_array_sort(all, by_name);
    return all;
}

static GVariant *num(struct manage_call *c, GError **error)
{
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    g_autoptr(GPtrArray) all = p ? volumes(p, error) : NULL;
    return all ? g_variant_new("(i)", (int)all->len) : NULL;
}

static GVariant *names(struct manage_call *c, GError **error)
{
    int max;
    g_variant_get_child(c->args, 1, "i", &max);
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    g_autoptr(GPtrArray) all = p ? volumes(p, error) : NULL;
    if (!all)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < all->len && (int)i < max; i++)
        g_variant_builder_add(&b, "s", ((struct storage_volume *)all->pdata[i])->name);
    return g_variant_new("(as)", &b);
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    int want;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "i", &want);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    g_autoptr(GPtrArray) all = p ? volumes(p, error) : NULL;
    if (!all)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sss)"));
    for (unsigned i = 0; want && i < all->len; i++)
        g_variant_builder_add_value(&b, record(p, all->pdata[i]));
    return g_variant_new("(a(sss)u)", &b, all->len);
}

/* ---- facts ---- */

void storage_volume_replace(struct storage_pool *p, struct storage_volume *v)
{
    g_mutex_lock(&p->lock);
    struct storage_volume *old = p->active ? g_hash_table_lookup(p->volumes, v->name) : NULL;
    if (old && !old->building) {
        v->in_use = old->in_use;
        uint64_t more = MIN(v->target.allocation - MIN(v->target.allocation, old->target.allocation), p->available);
        uint64_t less = MIN(old->target.allocation - MIN(v->target.allocation, old->target.allocation), p->allocation);
        p->allocation += more - less;
        p->available += less - more;
        g_hash_table_replace(p->volumes, v->name, v);
        v = NULL;
    }
    g_mutex_unlock(&p->lock);
    storage_volume_unref(v);
}

/* What is being made has as much as has been written. */
static struct storage_volume *look_at_building(const struct storage_volume *v, const char *path)
{
    struct storage_volume *copy = storage_volume_new(v->name);
    struct stat st;
    storage_volume_set_path(copy, v->target.path);
    copy->type = v->type;
    copy->target.format = g_strdup(v->target.format);
    copy->target.capacity = v->target.capacity;
    if (path && stat(path, &st) == 0)
        copy->target.allocation = (uint64_t)st.st_blocks * 512;
    return copy;
}

/* The volume of a call as it is now, referenced. */
static struct storage_volume *fresh(struct manage_call *c, GError **error)
{
    storage_pool_auto *p = NULL;
    storage_volume_auto *v = storage_volume_find(c, 0, &p, error);
    if (!v)
        return NULL;
    g_mutex_lock(&p->lock);
    bool building = v->building;
    g_autofree char *path = g_strdup(v->building_path);
    g_mutex_unlock(&p->lock);
    if (building)
        return look_at_building(v, path);
    if (!p->backend->look_at)
        return g_steal_pointer(&v);
    struct storage_volume *now = p->backend->look_at(p, v, error);
    if (now)
        storage_volume_replace(p, storage_volume_ref(now));
    return now;
}

static GVariant *info(struct manage_call *c, bool physical, GError **error)
{
    storage_volume_auto *v = fresh(c, error);
    return v ? g_variant_new("(ytt)", v->type, v->target.capacity, physical ? v->target.physical : v->target.allocation) : NULL;
}
static GVariant *get_info(struct manage_call *c, GError **error) { return info(c, false, error); }
static GVariant *get_info_flags(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return manage_check_flags(flags, VIR_STORAGE_VOL_GET_PHYSICAL, error) ? info(c, flags, error) : NULL;
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    storage_volume_auto *v = fresh(c, error);
    return v ? g_variant_new("(@s)", g_variant_new_take_string(storage_volume_xml(v))) : NULL;
}

static GVariant *get_path(struct manage_call *c, GError **error)
{
    storage_pool_auto *p = NULL;
    storage_volume_auto *v = storage_volume_find(c, 0, &p, error);
    return v ? g_variant_new("(s)", v->target.path) : NULL;
}

/* ---- making ---- */

/* Enters a volume that is being made, so that its name is taken. */
static bool reserve(struct storage_pool *p, struct storage_volume *v, GError **error)
{
    g_mutex_lock(&p->lock);
    bool ok = check_active(p, error);
    if (ok && g_hash_table_contains(p->volumes, v->name))
        ok = manage_fail(error, VIR_ERR_STORAGE_VOL_EXIST, "storage volume '%s' exists already", v->name);
    if (ok) {
        g_autofree char *path = g_build_filename(storage_pool_path(p) ? storage_pool_path(p) : "/", v->name, NULL);
        storage_volume_set_path(v, path);
        v->building = true;
        g_hash_table_replace(p->volumes, v->name, storage_volume_ref(v));
    }
    g_mutex_unlock(&p->lock);
    return ok;
}

/* The result, or nothing, takes the place of the entry. made: NULL when it failed. */
static void settle(struct storage_pool *p, struct storage_volume *v, struct storage_volume *made)
{
    g_mutex_lock(&p->lock);
    v->building = false;
    if (g_hash_table_lookup(p->volumes, v->name) == v)
        g_hash_table_remove(p->volumes, v->name);
    if (made) {
        g_hash_table_replace(p->volumes, made->name, storage_volume_ref(made));
        uint64_t size = MIN(made->target.allocation, p->available);
        p->allocation += size;
        p->available -= size;
    }
    g_mutex_unlock(&p->lock);
}

static void use(struct storage_pool *p, struct storage_volume *v, int by)
{
    g_mutex_lock(&p->lock);
    struct storage_volume *now = g_hash_table_lookup(p->volumes, v->name);
    if (now)
        now->in_use += (unsigned)by;
    g_mutex_unlock(&p->lock);
}

static bool make(struct manage_call *c, struct storage_pool *p, struct storage_volume *v, struct storage_volume *from, unsigned flags, struct storage_volume **ret,
                 GError **error)
{
    struct storage_job j;
    *ret = NULL;
    if (!p->backend->create_volume)
        return manage_fail(error, VIR_ERR_NO_SUPPORT, "a pool of type '%s' cannot make volumes", p->backend->type);
    if (!storage_job_begin(&j, p, c->conn, error))
        return false;
    bool ok = reserve(p, v, error);
    if (ok) {
        ok = p->backend->create_volume(&j, v, from, flags, error);
        if (ok && p->backend->look_at)
            *ret = p->backend->look_at(p, v, error);
        else if (ok)
            *ret = storage_volume_ref(v);
        settle(p, v, *ret);
    }
    storage_job_end(&j);
    if (*ret)
        storage_pool_refreshed(p);
    return *ret;
}

static struct storage_volume *definition(struct storage_pool *p, const char *xml, GError **error)
{
    g_mutex_lock(&p->lock);
    bool ok = check_active(p, error);
    g_mutex_unlock(&p->lock);
    return ok ? storage_volume_parse(p->backend, xml, error) : NULL;
}

static GVariant *create(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "&s", &xml);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA | VIR_STORAGE_VOL_CREATE_VALIDATE, error))
        return NULL;
    storage_pool_auto *p = storage_find_arg(c, 0, error);
    storage_volume_auto *v = p ? definition(p, xml, error) : NULL, *made = NULL;
    return v && make(c, p, v, NULL, flags, &made, error) ? one(p, made) : NULL;
}

/* A copy is at least as large as its source, and allocates what that does where it does not say. */
static void take_after(struct storage_volume *v, const struct storage_volume *from)
{
    v->target.capacity = MAX(v->target.capacity, from->target.capacity);
    if (!v->has_allocation)
        v->target.allocation = MIN(from->target.allocation, v->target.capacity);
    v->has_capacity = true;
}

static bool may_read(struct storage_pool *p, const struct storage_volume *v, GError **error)
{
    g_mutex_lock(&p->lock);
    bool ok = !v->building || manage_fail(error, VIR_ERR_OPERATION_INVALID, "volume '%s' is still being allocated.", v->name);
    g_mutex_unlock(&p->lock);
    return ok;
}

static GVariant *create_from(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "&s", &xml);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, 7, error))
        return NULL;
    storage_pool_auto *p = storage_find_arg(c, 0, error), *other = NULL;
    storage_volume_auto *from = p ? storage_volume_find(c, 2, &other, error) : NULL;
    storage_volume_auto *v = from ? definition(p, xml, error) : NULL, *made = NULL;
    if (!v || !may_read(other, from, error))
        return NULL;
    struct storage_job j; /* the source's pool stays as well */
    if (!storage_job_begin(&j, other, c->conn, error))
        return NULL;
    take_after(v, from);
    use(other, from, 1);
    bool ok = make(c, p, v, from, flags, &made, error);
    use(other, from, -1);
    storage_job_end(&j);
    return ok ? one(p, made) : NULL;
}

/* ---- changing ---- */

/* Nobody else may be at work on it, no running domain may write it. */
static bool is_free(struct storage_pool *p, const struct storage_volume *v, const char *what, GError **error)
{
    struct manage_state *state = p->storage->state;
    g_mutex_lock(&p->lock);
    const struct storage_volume *now = g_hash_table_lookup(p->volumes, v->name);
    bool building = now && now->building, used = now && now->in_use;
    g_mutex_unlock(&p->lock);
    if (building)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "volume '%s' is still being allocated.", v->name);
    if (used)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "volume '%s' is still in use.", v->name);
    g_autofree char *domain = state->services->disk_user ? state->services->disk_user(state, v->target.path) : NULL;
    if (domain && *domain)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "volume '%s' is in use by domain '%s': it cannot be %s while that runs", v->name, domain, what);
    return true;
}

static GVariant *delete(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, VIR_STORAGE_VOL_DELETE_ZEROED | VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS, error))
        return NULL;
    storage_pool_auto *p = NULL;
    storage_volume_auto *v = storage_volume_find(c, 0, &p, error);
    if (!v || !is_free(p, v, "deleted", error))
        return NULL;
    if (!p->backend->delete_volume)
        return manage_null(error, VIR_ERR_NO_SUPPORT, "a pool of type '%s' cannot delete volumes", p->backend->type);
    if (!p->backend->delete_volume(p, v, flags, error))
        return NULL;
    g_mutex_lock(&p->lock);
    struct storage_volume *now = g_hash_table_lookup(p->volumes, v->name);
    if (now && !now->building) {
        uint64_t size = MIN(v->target.allocation, p->allocation);
        p->allocation -= size;
        p->available += size;
        g_hash_table_remove(p->volumes, v->name);
    }
    g_mutex_unlock(&p->lock);
    storage_pool_refreshed(p);
    return manage_void();
}

static bool new_capacity(const struct storage_volume *v, uint64_t asked, uint32_t flags, uint64_t *ret, GError **error)
{
    uint64_t old = v->target.capacity;
    bool shrink = flags & VIR_STORAGE_VOL_RESIZE_SHRINK;
    *ret = !(flags & VIR_STORAGE_VOL_RESIZE_DELTA) ? asked : shrink ? old - MIN(asked, old) : old + asked;
    if (*ret > INT64_MAX || ((flags & VIR_STORAGE_VOL_RESIZE_DELTA) && asked > INT64_MAX))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the new capacity is too large");
    bool raw = !v->target.format || !strcmp(v->target.format, "raw");
    if (raw && *ret < v->target.allocation && !shrink)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "can't shrink capacity below existing allocation");
    if (*ret < old && !shrink)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "Can't shrink capacity below current capacity unless shrink flag explicitly specified");
    if (!*ret)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "a volume cannot have no size at all");
    return true;
}

static GVariant *resize(struct manage_call *c, GError **error)
{
    uint32_t flags;
    uint64_t asked, capacity;
    g_variant_get_child(c->args, 1, "t", &asked);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, 7, error))
        return NULL;
    storage_pool_auto *p = NULL;
    storage_volume_auto *v = storage_volume_find(c, 0, &p, error);
    if (!v || !is_free(p, v, "resized", error))
        return NULL;
    if (!p->backend->resize_volume)
        return manage_null(error, VIR_ERR_NO_SUPPORT, "volumes of a pool of type '%s' cannot be resized", p->backend->type);
    struct storage_job j;
    storage_volume_auto *now = p->backend->look_at ? p->backend->look_at(p, v, error) : storage_volume_ref(v);
    if (!now || !new_capacity(now, asked, flags, &capacity, error) || !storage_job_begin(&j, p, c->conn, error))
        return NULL;
    use(p, v, 1);
    bool ok = p->backend->resize_volume(p, now, capacity, flags, error);
    storage_volume_release(p, v->name);
    storage_job_end(&j);
    return ok ? manage_void() : NULL;
}

void storage_volume_let_go(struct storage_pool *p, const char *name)
{
    g_mutex_lock(&p->lock);
    struct storage_volume *v = g_hash_table_lookup(p->volumes, name);
    if (v)
        v->in_use -= v->in_use > 0;
    g_mutex_unlock(&p->lock);
}

void storage_volume_look_again(struct storage_pool *p, const char *name)
{
    g_mutex_lock(&p->lock);
    struct storage_volume *v = g_hash_table_lookup(p->volumes, name);
    if (v)
        storage_volume_ref(v);
    g_mutex_unlock(&p->lock);
    struct storage_volume *now = v && p->backend->look_at ? p->backend->look_at(p, v, NULL) : NULL;
    if (now)
        storage_volume_replace(p, now);
    storage_volume_unref(v);
}

void storage_volume_release(struct storage_pool *p, const char *name)
{
    storage_volume_let_go(p, name);
    storage_volume_look_again(p, name);
}

static GVariant *wipe_with(struct manage_call *c, unsigned algorithm, uint32_t flags, GError **error)
{
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    storage_pool_auto *p = NULL;
    storage_volume_auto *v = storage_volume_find(c, 0, &p, error);
    struct storage_job j;
    if (!v || !is_free(p, v, "wiped", error) || !storage_job_begin(&j, p, c->conn, error))
        return NULL;
    use(p, v, 1);
    bool ok = storage_wipe(&j, v, algorithm, error);
    storage_volume_release(p, v->name);
    storage_job_end(&j);
    return ok ? manage_void() : NULL;
}

static GVariant *wipe(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return wipe_with(c, VIR_STORAGE_VOL_WIPE_ALG_ZERO, flags, error);
}

static GVariant *wipe_pattern(struct manage_call *c, GError **error)
{
    uint32_t algorithm, flags;
    g_variant_get_child(c->args, 1, "u", &algorithm);
    g_variant_get_child(c->args, 2, "u", &flags);
    return wipe_with(c, algorithm, flags, error);
}

/* ---- streams ---- */

static GVariant *transfer(struct manage_call *c, bool upload, GError **error)
{
    uint64_t offset, length;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "t", &offset);
    g_variant_get_child(c->args, 2, "t", &length);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM, error))
        return NULL;
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return manage_null(error, VIR_ERR_INVALID_ARG, "offset and length reach beyond 8 EiB");
    storage_pool_auto *p = NULL;
    storage_volume_auto *v = storage_volume_find(c, 0, &p, error);
    if (!v || !(upload ? is_free(p, v, "written", error) : may_read(p, v, error)))
        return NULL;
    struct storage_job *j = g_new0(struct storage_job, 1);
    if (!storage_job_begin(j, p, c->conn, error)) {
        g_free(j);
        return NULL;
    }
    use(p, v, 1);
    if (storage_stream_open(c, j, v, upload, offset, length, flags, error))
        return manage_void();
    use(p, v, -1);
    storage_job_end(j);
    g_free(j);
    return NULL;
}
static GVariant *upload(struct manage_call *c, GError **error) { return transfer(c, true, error); }
static GVariant *download(struct manage_call *c, GError **error) { return transfer(c, false, error); }

const struct manage_row storage_volume_rows[] = {
    { RPC_STORAGE_POOL_NUM_OF_VOLUMES, num },
    { RPC_STORAGE_POOL_LIST_VOLUMES, names },
    { RPC_STORAGE_POOL_LIST_ALL_VOLUMES, list_all },
    { RPC_STORAGE_VOL_LOOKUP_BY_NAME, lookup_name },
    { RPC_STORAGE_VOL_LOOKUP_BY_KEY, lookup_key },
    { RPC_STORAGE_VOL_LOOKUP_BY_PATH, lookup_path },
    { RPC_STORAGE_VOL_GET_INFO, get_info },
    { RPC_STORAGE_VOL_GET_INFO_FLAGS, get_info_flags },
    { RPC_STORAGE_VOL_GET_XML_DESC, get_xml },
    { RPC_STORAGE_VOL_GET_PATH, get_path },
    { RPC_STORAGE_VOL_CREATE_XML, create },
    { RPC_STORAGE_VOL_CREATE_XML_FROM, create_from },
    { RPC_STORAGE_VOL_DELETE, delete },
    { RPC_STORAGE_VOL_RESIZE, resize },
    { RPC_STORAGE_VOL_WIPE, wipe },
    { RPC_STORAGE_VOL_WIPE_PATTERN, wipe_pattern },
    { RPC_STORAGE_VOL_UPLOAD, upload },
    { RPC_STORAGE_VOL_DOWNLOAD, download },
    { 0, NULL },
};
