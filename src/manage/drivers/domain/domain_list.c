/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which domains there are: tables by UUID, name and id, and the calls that look domains up or list them. */
#include <string.h>

#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/backup/domain_backup.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"
#include "manage/rpc/rpc_message.h"
#include "manage/rpc/rpc_xdr.h"

#define LIST(name) VIR_CONNECT_LIST_DOMAINS_##name
enum { LIST_KNOWN = (1 << 16) - 1, LIST_LIMIT = 16384 }; /* flags up to NO_CHECKPOINT; records in one reply */

struct domain_list {
    GMutex lock;
    GHashTable *by_uuid, *by_name, *by_id; /* by_uuid holds the reference; keys lie in the domain */
    GPtrArray *sorted; /* all by name, without references; NULL: not since the last change */
};

static guint uuid_hash(gconstpointer key)
{
    uint64_t half[2]; /* both: UUIDs that people number themselves differ in the last digits only */
    memcpy(half, key, sizeof(half));
    return (guint)((half[0] * 0x9e3779b97f4a7c15u ^ half[1]) * 0x9e3779b97f4a7c15u >> 32);
}

static gboolean uuid_equal(gconstpointer a, gconstpointer b) { return !memcmp(a, b, 16); }

struct domain_list *domain_list_new(void)
{
    struct domain_list *l = g_new0(struct domain_list, 1);
    g_mutex_init(&l->lock);
    l->by_uuid = g_hash_table_new_full(uuid_hash, uuid_equal, NULL, (GDestroyNotify)domain_unref);
    l->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    l->by_id = g_hash_table_new(NULL, NULL);
    return l;
}

static void changed_locked(struct domain_list *l)
{
    if (l->sorted)
        g_ptr_array_unref(g_steal_pointer(&l->sorted));
}

void domain_list_free(struct domain_list *l)
{
    if (!l)
        return;
    changed_locked(l);
    g_hash_table_unref(l->by_id);
    g_hash_table_unref(l->by_name);
    g_hash_table_unref(l->by_uuid);
    g_mutex_clear(&l->lock);
    g_free(l);
}

/* ---- one domain ---- */

static struct domain *domain_new(struct domain_driver *dr, const uint8_t uuid[16], const char *name)
{
    struct domain *d = g_new0(struct domain, 1);
    d->refs = 1;
    d->driver = dr;
    g_mutex_init(&d->lock);
    g_cond_init(&d->job_done);
    g_mutex_init(&d->status_lock);
    memcpy(d->uuid, uuid, 16);
    d->name = g_strdup(name);
    d->id = -1;
    d->state = VIR_DOMAIN_SHUTOFF;
    d->hidden = true;
    d->os_type = "hvm";
    return d;
}

struct domain *domain_ref(struct domain *d)
{
    g_atomic_int_inc(&d->refs);
    return d;
}

void domain_unref(struct domain *d)
{
    if (!g_atomic_int_dec_and_test(&d->refs))
        return;
    domain_moments_free(d->moments);
    domain_backup_free(d->backup);
    domain_snapshot_record_free(d->record);
    domain_saving_free(d->saving);
    if (d->jobs)
        g_ptr_array_unref(d->jobs);
    doc_free(d->live);
    doc_free(d->defined);
    g_free(d->disks);
    g_free(d->transfer);
    domain_migration_free(d->migration);
    domain_run_free(d->run);
    if (d->stats)
        g_hash_table_unref(d->stats);
    if (d->consoles)
        g_hash_table_unref(d->consoles);
    g_free(d->dir);
    g_free(d->name);
    g_cond_clear(&d->job_done);
    g_mutex_clear(&d->status_lock);
    g_mutex_clear(&d->lock);
    g_free(d);
}

/* ---- changing the list ---- */

static bool taken(const struct domain *other, const uint8_t uuid[16], const char *name, GError **error)
{
    char text[37];
    manage_uuid_format(other->uuid, text);
    if (memcmp(other->uuid, uuid, 16))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "domain '%s' already exists with uuid %s", name, text);
    return manage_fail(error, VIR_ERR_OPERATION_FAILED, "domain '%s' is already defined with uuid %s", other->name, text);
}

struct domain *domain_claim(struct domain_driver *dr, const uint8_t uuid[16], const char *name, GError **error)
{
    struct domain_list *l = dr->list;
    g_mutex_lock(&l->lock);
    struct domain *same = g_hash_table_lookup(l->by_uuid, uuid), *named = g_hash_table_lookup(l->by_name, name), *d = NULL;
    if (same && same == named) {
        d = domain_ref(same);
    } else if (same || named) {
        (void)!taken(named ? named : same, uuid, name, error);
    } else {
        d = domain_new(dr, uuid, name);
        g_hash_table_insert(l->by_uuid, d->uuid, domain_ref(d));
        g_hash_table_insert(l->by_name, d->name, d);
        changed_locked(l);
    }
    g_mutex_unlock(&l->lock);
    return d;
}

void domain_show(struct domain *d)
{
    struct domain_list *l = d->driver->list;
    g_mutex_lock(&l->lock);
    d->hidden = false;
    g_mutex_unlock(&l->lock);
}

void domain_remove(struct domain *d)
{
    struct domain_list *l = d->driver->list;
    domain_forget_definition(d);
    g_mutex_lock(&l->lock);
    g_mutex_lock(&d->lock);
    bool there = !d->removed;
    d->removed = true;
    changed_locked(l);
    if (there && d->id >= 0)
        g_hash_table_remove(l->by_id, GINT_TO_POINTER(d->id));
    if (there)
        g_hash_table_remove(l->by_name, d->name);
    g_mutex_unlock(&d->lock);
    if (there)
        g_hash_table_remove(l->by_uuid, d->uuid); /* last: drops the list's reference; the caller has its own */
    g_mutex_unlock(&l->lock);
}

bool domain_rename(struct domain *d, const char *name, GError **error)
{
    struct domain_list *l = d->driver->list;
    g_mutex_lock(&l->lock);
    struct domain *other = g_hash_table_lookup(l->by_name, name);
    if (other) {
        (void)!taken(other, d->uuid, name, error);
    } else {
        g_mutex_lock(&d->lock);
        g_hash_table_remove(l->by_name, d->name);
        g_free(d->name);
        d->name = g_strdup(name);
        g_hash_table_insert(l->by_name, d->name, d);
        changed_locked(l);
        g_mutex_unlock(&d->lock);
    }
    g_mutex_unlock(&l->lock);
    return !other;
}

void domain_set_id(struct domain *d, int id)
{
    struct domain_list *l = d->driver->list;
    g_mutex_lock(&l->lock);
    g_mutex_lock(&d->lock);
    if (d->id >= 0)
        g_hash_table_remove(l->by_id, GINT_TO_POINTER(d->id));
    d->id = id;
    if (id >= 0 && !d->removed)
        g_hash_table_insert(l->by_id, GINT_TO_POINTER(id), d);
    g_mutex_unlock(&d->lock);
    g_mutex_unlock(&l->lock);
}

/* ---- looking up ---- */

static struct domain *find(struct domain_driver *dr, GHashTable *table, gconstpointer key)
{
    g_mutex_lock(&dr->list->lock);
    struct domain *d = g_hash_table_lookup(table, key);
    d = d && !d->hidden ? domain_ref(d) : NULL;
    g_mutex_unlock(&dr->list->lock);
    return d;
}

struct domain *domain_find_name(struct domain_driver *dr, const char *name) { return find(dr, dr->list->by_name, name); }

struct domain *domain_by_uuid(struct domain_driver *dr, const uint8_t uuid[16], const char *name, GError **error)
{
    char text[37];
    struct domain *d = find(dr, dr->list->by_uuid, uuid);
    if (d)
        return d;
    manage_uuid_format(uuid, text);
    if (name)
        return manage_null(error, VIR_ERR_NO_DOMAIN, "no domain with matching uuid '%s' (%s)", text, name);
    return manage_null(error, VIR_ERR_NO_DOMAIN, "no domain with matching uuid '%s'", text);
}

struct domain *domain_by_name(struct domain_driver *dr, const char *name, GError **error)
{
    struct domain *d = find(dr, dr->list->by_name, name);
    return d ? d : manage_null(error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'", name);
}

struct domain *domain_by_id(struct domain_driver *dr, int id, GError **error)
{
    struct domain *d = id >= 0 ? find(dr, dr->list->by_id, GINT_TO_POINTER(id)) : NULL;
    return d ? d : manage_null(error, VIR_ERR_NO_DOMAIN, "no domain with matching id %d", id);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(struct domain *const *)a)->name, (*(struct domain *const *)b)->name);
}

/* Names change under the list's lock alone, so sorting happens there. */
static const GPtrArray *sorted_locked(struct domain_list *l)
{
    GHashTableIter i;
    gpointer d;
    if (l->sorted)
        return l->sorted;
    l->sorted = g_ptr_array_sized_new(g_hash_table_size(l->by_uuid) + 1);
    g_hash_table_iter_init(&i, l->by_uuid);
    while (g_hash_table_iter_next(&i, NULL, &d))
        g_ptr_array_add(l->sorted, d);
    g_ptr_array_sort(l->sorted, by_name);
    return l->sorted;
}

GPtrArray *domain_all(struct domain_driver *dr)
{
    struct domain_list *l = dr->list;
    g_mutex_lock(&l->lock);
    const GPtrArray *sorted = sorted_locked(l);
    GPtrArray *all = g_ptr_array_new_full(sorted->len + 1, (GDestroyNotify)domain_unref);
    for (guint i = 0; i < sorted->len; i++)
        if (!((struct domain *)sorted->pdata[i])->hidden)
            g_ptr_array_add(all, domain_ref(sorted->pdata[i]));
    g_mutex_unlock(&l->lock);
    return all;
}

static struct domain_driver *driver_of(struct manage_call *c) { return manage_data(c->conn->state, "domain"); }

struct domain *domain_of_call(struct manage_call *c, unsigned i, GError **error)
{
    g_autoptr(GVariant) record = g_variant_get_child_value(c->args, i);
    struct domain_driver *dr = driver_of(c);
    struct domain *d = find(dr, dr->list->by_uuid, manage_variant_uuid(record));
    const char *name;
    if (d)
        return d;
    g_variant_get_child(record, 0, "&s", &name);
    return domain_by_uuid(dr, manage_variant_uuid(record), name, error);
}

GVariant *domain_variant(struct domain *d)
{
    g_mutex_lock(&d->lock);
    GVariant *v = g_variant_new("(s@ayi)", d->name, manage_uuid_variant(d->uuid), d->id);
    g_mutex_unlock(&d->lock);
    return v;
}

bool domain_put(GByteArray *to, struct domain *d, GError **error)
{
    g_mutex_lock(&d->lock);
    bool ok = rpc_put_string(to, d->name, error);
    rpc_put_uuid(to, d->uuid);
    rpc_put_u32(to, (guint32)d->id);
    g_mutex_unlock(&d->lock);
    return ok;
}

/* ---- calls ---- */

GVariant *domain_reply(struct manage_call *c, struct domain *d, GError **error)
{
    g_autoptr(GByteArray) m = rpc_message_blank();
    return domain_put(m, d, error) ? manage_reply_encoded(c, g_steal_pointer(&m)) : NULL;
}

static GVariant *reply(struct manage_call *c, struct domain *found, GError **error)
{
    domain_auto *d = found;
    return d ? domain_reply(c, d, error) : NULL;
}

static GVariant *lookup_by_id(struct manage_call *c, GError **error)
{
    int id;
    g_variant_get(c->args, "(i)", &id);
    return reply(c, domain_by_id(driver_of(c), id, error), error);
}

static GVariant *lookup_by_name(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get(c->args, "(&s)", &name);
    return reply(c, domain_by_name(driver_of(c), name, error), error);
}

static GVariant *lookup_by_uuid(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) uuid = g_variant_get_child_value(c->args, 0);
    if (g_variant_get_size(uuid) != 16)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a UUID has 16 bytes");
    return reply(c, domain_by_uuid(driver_of(c), g_variant_get_data(uuid), NULL, error), error);
}

/* Of a group of flags: none named, or one named that holds. */
static bool among(uint32_t flags, uint32_t yes, uint32_t no, bool holds)
{
    return !(flags & (yes | no)) || (flags & (holds ? yes : no));
}

static bool state_listed(const struct domain *d, uint32_t flags)
{
    uint32_t mine = d->state == VIR_DOMAIN_RUNNING ? LIST(RUNNING) : d->state == VIR_DOMAIN_PAUSED ? LIST(PAUSED) : d->state == VIR_DOMAIN_SHUTOFF ? LIST(SHUTOFF) : LIST(OTHER);
    return !(flags & (LIST(RUNNING) | LIST(PAUSED) | LIST(SHUTOFF) | LIST(OTHER))) || (flags & mine);
}

static bool listed(struct domain *d, uint32_t flags)
{
    g_mutex_lock(&d->lock);
    bool yes = among(flags, LIST(ACTIVE), LIST(INACTIVE), d->id >= 0) && among(flags, LIST(PERSISTENT), LIST(TRANSIENT), d->persistent) && state_listed(d, flags) &&
               among(flags, LIST(MANAGEDSAVE), LIST(NO_MANAGEDSAVE), d->saved) && among(flags, LIST(AUTOSTART), LIST(NO_AUTOSTART), d->autostart) &&
               among(flags, LIST(HAS_SNAPSHOT), LIST(NO_SNAPSHOT), d->moments && d->moments[MOMENT_SNAPSHOT].all->len) &&
               among(flags, LIST(HAS_CHECKPOINT), LIST(NO_CHECKPOINT), d->moments && d->moments[MOMENT_CHECKPOINT].all->len);
    g_mutex_unlock(&d->lock);
    return yes;
}

static GVariant *list_all(struct manage_call *c, GError **error)
{
    int need;
    uint32_t flags, n = 0;
    g_variant_get(c->args, "(iu)", &need, &flags);
    if (!manage_check_flags(flags, LIST_KNOWN, error))
        return NULL;
    g_autoptr(GPtrArray) all = domain_all(driver_of(c));
    g_autoptr(GByteArray) to = rpc_message_blank();
    guint list = rpc_put_list(to);
    for (unsigned i = 0; i < all->len; i++) {
        if (!listed(all->pdata[i], flags))
            continue;
        n++;
        if (need && n <= LIST_LIMIT && !domain_put(to, all->pdata[i], error))
            return NULL;
    }
    if (need && n > LIST_LIMIT)
        return manage_null(error, VIR_ERR_RPC, "too many domains '%u' for limit '%d'", n, LIST_LIMIT);
    rpc_put_count(to, list, need ? n : 0);
    rpc_put_u32(to, n);
    return manage_reply_encoded(c, g_steal_pointer(&to));
}

/* The old pairs: how many, and their names or ids up to a number. */
static GVariant *count(struct manage_call *c, uint32_t flags)
{
    g_autoptr(GPtrArray) all = domain_all(driver_of(c));
    int n = 0;
    for (unsigned i = 0; i < all->len; i++)
        n += listed(all->pdata[i], flags);
    return manage_reply_i32(c, 1, n);
}

static GVariant *num_of_domains(struct manage_call *c, GError **error) { return count(c, LIST(ACTIVE)); }
static GVariant *num_of_defined(struct manage_call *c, GError **error) { return count(c, LIST(INACTIVE) | LIST(PERSISTENT)); }

static GVariant *list_ids(struct manage_call *c, GError **error)
{
    int max;
    g_variant_get(c->args, "(i)", &max);
    g_autoptr(GPtrArray) all = domain_all(driver_of(c));
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("ai"));
    for (unsigned i = 0; i < all->len && max > 0; i++) {
        struct domain *d = all->pdata[i];
        g_mutex_lock(&d->lock);
        int id = d->id;
        g_mutex_unlock(&d->lock);
        if (id >= 0) {
            g_variant_builder_add(&b, "i", id);
            max--;
        }
    }
    return g_variant_new("(ai)", &b);
}

static GVariant *list_defined(struct manage_call *c, GError **error)
{
    int max;
    g_variant_get(c->args, "(i)", &max);
    g_autoptr(GPtrArray) all = domain_all(driver_of(c));
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < all->len && max > 0; i++) {
        struct domain *d = all->pdata[i];
        if (!listed(d, LIST(INACTIVE) | LIST(PERSISTENT)))
            continue;
        g_mutex_lock(&d->lock);
        g_variant_builder_add(&b, "s", d->name);
        g_mutex_unlock(&d->lock);
        max--;
    }
    return g_variant_new("(as)", &b);
}

const struct manage_row domain_rows_list[] = {
    { RPC_DOMAIN_LOOKUP_BY_ID, lookup_by_id },
    { RPC_DOMAIN_LOOKUP_BY_NAME, lookup_by_name },
    { RPC_DOMAIN_LOOKUP_BY_UUID, lookup_by_uuid },
    { RPC_CONNECT_LIST_ALL_DOMAINS, list_all },
    { RPC_CONNECT_NUM_OF_DOMAINS, num_of_domains },
    { RPC_CONNECT_LIST_DOMAINS, list_ids },
    { RPC_CONNECT_NUM_OF_DEFINED_DOMAINS, num_of_defined },
    { RPC_CONNECT_LIST_DEFINED_DOMAINS, list_defined },
    { 0, NULL },
};
