/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A volume, and its document in both directions. */
#include <string.h>

#include "storage.h"

struct storage_volume *storage_volume_new(const char *name)
{
    struct storage_volume *v = g_new0(struct storage_volume, 1);
    v->refs = 1;
    v->name = g_strdup(name);
    v->target.mode = v->target.uid = v->target.gid = -1;
    return v;
}

struct storage_volume *storage_volume_ref(struct storage_volume *v)
{
    g_atomic_int_inc(&v->refs);
    return v;
}

void storage_target_clear(struct storage_target *t)
{
    g_free(t->path);
    g_free(t->format);
    g_free(t->label);
    g_free(t->encryption);
    g_free(t->secret_uuid);
    g_free(t->secret_usage);
    g_free(t->compat);
    memset(t, 0, sizeof(*t));
}

void storage_volume_unref(struct storage_volume *v)
{
    if (!v || !g_atomic_int_dec_and_test(&v->refs))
        return;
    storage_target_clear(&v->target);
    if (v->backing)
        storage_target_clear(v->backing);
    g_free(v->backing);
    if (v->extents)
        g_array_unref(v->extents);
    g_free(v->partition);
    g_free(v->building_path);
    g_free(v->name);
    g_free(v->key);
    g_free(v);
}

static void extent_clear(gpointer opaque)
{
    struct storage_extent *e = opaque;
    g_free(e->device);
}

void storage_volume_add_extent(struct storage_volume *v, const char *device, uint64_t start, uint64_t end)
{
    struct storage_extent e = { g_strdup(device), start, end };
    if (!v->extents) {
        v->extents = g_array_new(FALSE, FALSE, sizeof(struct storage_extent));
        g_array_set_clear_func(v->extents, extent_clear);
    }
    g_array_append_val(v->extents, e);
}

void storage_volume_set_path(struct storage_volume *v, const char *path)
{
    g_free(v->target.path);
    v->target.path = g_strdup(path);
    if (!v->key)
        v->key = g_strdup(path);
}

/* ---- to text ---- */

static void put_bytes(struct el *e, const char *path, uint64_t bytes)
{
    g_autofree char *unit = g_strconcat(path, "/@unit", NULL);
    el_setf(e, path, "%" G_GUINT64_FORMAT, bytes);
    el_set(e, unit, "bytes");
}

static void put_time(struct el *e, const char *path, const struct timespec *t)
{
    if (t->tv_nsec)
        el_setf(e, path, "%lld.%09ld", (long long)t->tv_sec, t->tv_nsec);
    else
        el_setf(e, path, "%lld", (long long)t->tv_sec);
}

static void put_target(struct el *e, const struct storage_target *t)
{
    if (t->path)
        el_set(e, "path", t->path);
    if (t->format)
        el_set(e, "format/@type", t->format);
    if (t->has_perms) {
        el_setf(e, "permissions/mode", "0%llo", (unsigned long long)t->mode & 07777);
        el_setf(e, "permissions/owner", "%lld", (long long)t->uid);
        el_setf(e, "permissions/group", "%lld", (long long)t->gid);
        if (t->label)
            el_set(e, "permissions/label", t->label);
    }
    if (t->has_times) {
        put_time(e, "timestamps/atime", &t->atime);
        put_time(e, "timestamps/mtime", &t->mtime);
        put_time(e, "timestamps/ctime", &t->ctime);
        el_set(e, "timestamps/btime", "0"); /* as libvirtd 9 prints it on Linux */
    }
}

static void put_details(struct el *e, const struct storage_target *t)
{
    if (t->encryption) {
        el_set(e, "encryption/@format", t->encryption);
        if (t->secret_uuid || t->secret_usage) {
            el_set(e, "encryption/secret/@type", "passphrase");
            el_set(e, t->secret_uuid ? "encryption/secret/@uuid" : "encryption/secret/@usage", t->secret_uuid ? t->secret_uuid : t->secret_usage);
        }
    }
    if (t->compat)
        el_set(e, "compat", t->compat);
    if (t->nocow)
        el_set(e, "nocow", "");
    if (t->cluster) {
        el_setf(e, "clusterSize", "%" G_GUINT64_FORMAT, t->cluster);
        el_set(e, "clusterSize/@unit", "B");
    }
    if (t->has_features)
        el_set(e, "features", "");
    if (t->lazy_refcounts)
        el_set(e, "features/lazy_refcounts", "");
    if (t->extended_l2)
        el_set(e, "features/extended_l2", "");
}

static void put_extents(struct el *root, const struct storage_volume *v)
{
    struct el *source = NULL, *device = NULL;
    for (unsigned i = 0; v->extents && i < v->extents->len; i++) {
        const struct storage_extent *x = &g_array_index(v->extents, struct storage_extent, i);
        if (!source)
            source = el_add(root, "source");
        if (!device || !el_is(device, "@path", x->device)) {
            device = el_add(source, "device");
            el_set(device, "@path", x->device);
        }
        struct el *extent = el_add(device, "extent");
        el_setf(extent, "@start", "%" G_GUINT64_FORMAT, x->start);
        el_setf(extent, "@end", "%" G_GUINT64_FORMAT, x->end);
    }
}

char *storage_volume_xml(const struct storage_volume *v)
{
    static const char *const types[] = { "file", "block", "dir", "network", "netdir", "ploop" };
    doc_auto *d = doc_new(&schema_volume);
    struct el *root = doc_root(d);
    el_set(root, "@type", types[v->type]);
    el_set(root, "name", v->name);
    el_set(root, "key", v->key ? v->key : "");
    put_extents(root, v);
    put_bytes(root, "capacity", v->target.capacity);
    put_bytes(root, "allocation", v->target.allocation);
    if (v->target.physical)
        put_bytes(root, "physical", v->target.physical);
    struct el *target = el_add(root, "target");
    put_target(target, &v->target);
    put_details(target, &v->target);
    if (v->backing)
        put_target(el_add(root, "backingStore"), v->backing);
    return doc_format(d);
}

/* ---- from text ---- */

static int64_t number_or(const struct el *e, const char *path, int base, int64_t otherwise)
{
    const char *text = el_get(e, path);
    return text && *text ? g_ascii_strtoll(text, NULL, base) : otherwise;
}

static void take_target(const struct el *e, struct storage_target *t)
{
    t->format = g_strdup(el_get(e, "format/@type"));
    t->mode = number_or(e, "permissions/mode", 8, -1);
    t->uid = number_or(e, "permissions/owner", 10, -1);
    t->gid = number_or(e, "permissions/group", 10, -1);
    t->label = g_strdup(el_get(e, "permissions/label"));
    t->encryption = g_strdup(el_get(e, "encryption/@format"));
    t->secret_uuid = g_strdup(el_get(e, "encryption/secret/@uuid"));
    t->secret_usage = g_strdup(el_get(e, "encryption/secret/@usage"));
    t->compat = g_strdup(el_get(e, "compat"));
    t->nocow = el_find(e, "nocow");
    t->has_features = el_find(e, "features");
    t->lazy_refcounts = el_find(e, "features/lazy_refcounts");
    t->extended_l2 = el_find(e, "features/extended_l2");
    el_get_bytes(e, "clusterSize", "B", &t->cluster);
}

static bool take_sizes(const struct el *root, struct storage_volume *v, GError **error)
{
    v->has_capacity = el_get_bytes(root, "capacity", "B", &v->target.capacity);
    v->has_allocation = el_get_bytes(root, "allocation", "B", &v->target.allocation);
    if ((el_find(root, "capacity") && !v->has_capacity) || v->target.capacity > INT64_MAX)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the capacity of volume '%s' is not a size below 8 EiB", v->name);
    if ((el_find(root, "allocation") && !v->has_allocation) || v->target.allocation > INT64_MAX)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the allocation of volume '%s' is not a size below 8 EiB", v->name);
    if (!v->has_capacity && !el_find(root, "backingStore"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "missing capacity element: say <capacity unit='G'>10</capacity>");
    if (!v->has_allocation)
        v->target.allocation = v->target.capacity;
    return true;
}

static bool format_known(const struct storage_backend *b, const char *format)
{
    return !b->volume_formats || g_strv_contains(b->volume_formats, format) || !strcmp(format, "luks");
}

struct storage_volume *storage_volume_parse(const struct storage_backend *b, const char *xml, GError **error)
{
    doc_auto *d = doc_parse(&schema_volume, xml, -1, error);
    if (!d)
        return NULL;
    const struct el *root = doc_root(d);
    const char *name = el_get(root, "name");
    if (!name || !*name)
        return manage_null(error, VIR_ERR_XML_ERROR, "missing volume name element");
    if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "volume name '%s' cannot contain '/', or be '.' or '..'", name);
    if (storage_image_is_unfinished(name))
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "names like '%s' are those of unfinished volumes: choose another one", name);
    storage_volume_auto *v = storage_volume_new(name);
    if (!take_sizes(root, v, error))
        return NULL;
    take_target(el_find(root, "target"), &v->target);
    v->partition = g_strdup(el_get(root, "target/format/@type"));
    if (!v->target.format)
        v->target.format = g_strdup(b->default_volume_format);
    if (v->target.format && !format_known(b, v->target.format))
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "unknown volume format type %s for a pool of type '%s'", v->target.format, b->type);
    const struct el *backing = el_find(root, "backingStore");
    if (el_get(backing, "path")) {
        v->backing = g_new0(struct storage_target, 1);
        take_target(backing, v->backing);
        v->backing->path = g_strdup(el_get(backing, "path"));
        if (v->backing->format && !format_known(b, v->backing->format))
            return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "unknown format type %s of the backing store", v->backing->format);
    } else if (!v->has_capacity) {
        return manage_null(error, VIR_ERR_XML_ERROR, "missing capacity element: say <capacity unit='G'>10</capacity>");
    }
    return g_steal_pointer(&v);
}
