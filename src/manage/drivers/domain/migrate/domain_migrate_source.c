/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source of a migration: Begin, Perform, Confirm. */
#include <json-c/json.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/save/domain_transfer.h"

/* ---- what may not be migrated ---- */

/* On a file system that other hosts see as well: NFS, GFS2, OCFS2, AFS, SMB, CIFS, CEPH, GPFS. */
static bool is_shared(const char *path)
{
    static const uint32_t types[] = { 0x6969, 0x01161970, 0x7461636f, 0x5346414f, 0x517b, 0xff534d42, 0x00c36400, 0x47504653, 0xfe534d42 };
    struct statfs st;
    if (statfs(path, &st) < 0)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++)
        if ((uint32_t)st.f_type == types[i])
            return true;
    return false;
}

/* A guest that runs on both sides of the same cache would read what the other has overwritten. */
static bool safe_disks(const struct doc *doc, const struct migrate_args *a, GError **error)
{
    el_each(disk, el_find(doc_root(doc), "devices"), "disk") {
        const char *file = el_get(disk, "source/@file"), *cache = el_get_or(disk, "driver/@cache", "default");
        bool named = file || el_get(disk, "source/@dev") || el_get(disk, "source/@name") || el_get(disk, "source/@volume");
        if (!named || migrate_copies(a, disk) || el_find(disk, "readonly") || el_is(disk, "source/@protocol", "rbd"))
            continue;
        if (file && !is_shared(file))
            return manage_fail(error, VIR_ERR_MIGRATE_UNSAFE, "Migration without shared storage is unsafe: disk '%s' is on a file system of this host alone",
                               el_get_or(disk, "target/@dev", "?"));
        if (!el_find(disk, "shareable") && strcmp(cache, "none") && strcmp(cache, "directsync"))
            return manage_fail(error, VIR_ERR_MIGRATE_UNSAFE, "Migration may lead to data corruption if disks use cache other than none or directsync: disk '%s'",
                               el_get_or(disk, "target/@dev", "?"));
    }
    return true;
}

static bool movable_devices(const struct doc *doc, GError **error)
{
    static const char *const fixed[] = { "hostdev", "redirdev", "shmem", "filesystem" };
    for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++)
        if (el_child(el_find(doc_root(doc), "devices"), fixed[i]))
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "a domain with a device <%s> cannot be migrated; detach it first", fixed[i]);
    return true;
}

static bool movable(struct domain *d, const struct doc *doc, const struct migrate_args *a, GError **error)
{
    unsigned moments = domain_moments_count(d, MOMENT_SNAPSHOT);
    if (moments)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot migrate domain with %u snapshots", moments);
    if (a->flags & VIR_MIGRATE_OFFLINE)
        return true;
    g_mutex_lock(&d->lock);
    bool jobs = d->jobs && d->jobs->len, crashed = d->state == VIR_DOMAIN_CRASHED || d->state == VIR_DOMAIN_SHUTDOWN;
    bool elsewhere = d->migration != NULL, sandboxed = d->run && d->run->is_vireo;
    g_mutex_unlock(&d->lock);
    if (elsewhere)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "another migration of domain '%s' is in progress", d->name);
    if (sandboxed && (a->flags & MIGRATE_COPY_FLAGS))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "there is no copy of the disks (VIR_MIGRATE_NON_SHARED_DISK) with vireo-vmm, which connects to no NBD server from its sandbox; both hosts must see them");
    if (crashed)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain '%s' has crashed or shut down", d->name);
    if (jobs)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain has active block job");
    return movable_devices(doc, error) && migrate_disks_check(a, doc, error) && ((a->flags & VIR_MIGRATE_UNSAFE) || safe_disks(doc, a, error));
}

/* ---- Begin ---- */

/* The document for the destination. */
static char *document(const struct doc *doc, const struct migrate_args *a, GError **error)
{
    doc_auto *want = a->xml ? doc_parse(&schema_domain, a->xml, -1, error) : NULL;
    if (a->xml && (!want || !domain_same_machine(doc, want, error)))
        return NULL;
    doc_auto *copy = domain_portable(want ? want : doc);
    return doc_format(copy);
}

/* Inside a job. */
static bool begin_inside(struct domain *d, const struct migrate_args *a, uint64_t owner, const char *peer, char **ret_xml, GVariant **ret_cookie, GError **error)
{
    bool offline = a->flags & VIR_MIGRATE_OFFLINE;
    doc_auto *doc = offline ? domain_definition(d, error) : domain_live(d, error);
    if (offline && !d->persistent)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "a transient domain has no definition to migrate offline");
    if (!doc || !movable(d, doc, a, error))
        return false;
    struct migrate_cookie more = { .asks = peer != NULL };
    char *xml = document(doc, a, error);
    if (!xml || (!offline && !migrate_disks_cookie(d, a, doc, &more, error))) {
        migrate_cookie_clear(&more);
        g_free(xml);
        return false;
    }
    if (!offline && (owner == 0 || (a->flags & VIR_MIGRATE_CHANGE_PROTECTION))) {
        g_mutex_lock(&d->lock);
        d->migration = domain_migration_new(MIGRATION_BEGUN, a->flags, owner);
        d->migration->peer = g_strdup(peer);
        d->migration->paused = d->state != VIR_DOMAIN_RUNNING;
        g_mutex_unlock(&d->lock);
        if (!domain_migration_set(d, MIGRATION_BEGUN, error)) {
            (void)!domain_migration_set(d, 0, NULL);
            migrate_cookie_clear(&more);
            g_free(xml);
            return false;
        }
    }
    *ret_xml = xml;
    *ret_cookie = migrate_cookie_new(d, d->name, offline ? doc : NULL, &more);
    migrate_cookie_clear(&more);
    return true;
}

bool migrate_begin(struct domain *d, const struct migrate_args *a, uint64_t owner, const char *peer, char **ret_xml, GVariant **ret_cookie, GError **error)
{
    if (!domain_begin(d, "migrate", !(a->flags & VIR_MIGRATE_OFFLINE), error))
        return false;
    bool ok = begin_inside(d, a, owner, peer, ret_xml, ret_cookie, error);
    domain_end(d);
    return ok;
}

/* ---- Perform ---- */

/* The guest stands still for the migration: said once. */
static void told_to_stand_still(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool news = d->state == VIR_DOMAIN_RUNNING;
    if (news) {
        d->state = VIR_DOMAIN_PAUSED;
        d->reason = VIR_DOMAIN_PAUSED_MIGRATION;
    }
    g_mutex_unlock(&d->lock);
    if (news)
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED);
}

bool domain_migrate_on_stop(struct domain *d)
{
    enum migration_phase phase = domain_migration_phase(d);
    if (phase >= MIGRATION_PREPARED)
        return true;
    if (phase != MIGRATION_PERFORM && phase != MIGRATION_PERFORMED && phase != MIGRATION_FINISHING)
        return false;
    told_to_stand_still(d);
    return true;
}

bool domain_migrate_on_resume(struct domain *d)
{
    return domain_migration_phase(d) != 0; /* migrate_back() and Finish tell of it */
}

/* Inside a job: Perform begins. Without a Begin that held the domain, the migration begins here. */
static bool enter(struct domain *d, const struct migrate_args *a, uint64_t owner, GError **error)
{
    g_mutex_lock(&d->lock);
    struct domain_migration *m = d->migration;
    bool mine = !m || (m->phase == MIGRATION_BEGUN && m->owner == owner);
    if (!m) {
        m = d->migration = domain_migration_new(MIGRATION_PERFORM, a->flags, owner);
        m->paused = d->state != VIR_DOMAIN_RUNNING;
    }
    g_mutex_unlock(&d->lock);
    if (!mine)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "another migration of domain '%s' is in progress", d->name);
    if (!domain_transfer_begin(d, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, error) || !domain_migration_set(d, MIGRATION_PERFORM, error)) {
        (void)!domain_migration_set(d, 0, NULL);
        return false;
    }
    return true;
}

static bool stand_still(struct domain *d, GError **error)
{
    struct json_object *o = monitor_command(d, "stop", NULL, error);
    json_object_put(o);
    if (o)
        told_to_stand_still(d);
    return o != NULL;
}

/* What Perform works on. */
struct performing {
    struct domain *d;
    const struct migrate_args *a;
    unsigned nbd_port;
    bool (*go_on)(void *opaque);
    void *opaque;
    struct migrate_copying disks;
};

static bool still_wanted(struct domain *d, void *opaque)
{
    struct performing *p = opaque;
    g_mutex_lock(&d->lock);
    bool yes = d->transfer && !d->transfer->canceled && d->run && !d->run->ending;
    g_mutex_unlock(&d->lock);
    return yes && p->go_on(p->opaque);
}

/* The guest stands still, and its state is not yet all there. */
static bool switch_over(void *opaque, GError **error)
{
    struct performing *p = opaque;
    told_to_stand_still(p->d);
    return migrate_disks_let_go(&p->disks, error);
}

static bool send_memory(struct performing *p, uint64_t mib, GError **error)
{
    const struct migrate_args *a = p->a;
    struct json_object *parameters;
    /* One that needs several connections makes them itself. */
    bool itself = a->flags & VIR_MIGRATE_PARALLEL;
    g_autofree char *uri = itself ? migrate_uri_machine(a->uri, error) : NULL;
    int fd = itself ? -1 : migrate_uri_connect(a->uri, error);
    if (itself ? !uri : fd < 0)
        return false;
    g_autofree const char **on = migrate_args_capabilities(a, true, &parameters);
    const struct transfer_how how = { .fd = fd, .uri = uri, .bandwidth = mib << 20, .on = on, .parameters = parameters, .go_on = p->go_on, .switch_over = switch_over, .opaque = p->opaque,
                                      .switch_opaque = p };
    bool ok = domain_transfer_run(p->d, &how, error);
    json_object_put(parameters);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool send_state(struct performing *p, GError **error)
{
    struct domain *d = p->d;
    const struct migrate_args *a = p->a;
    if (!a->uri)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "no address of the destination's machine was given");
    g_mutex_lock(&d->lock);
    uint64_t mib = a->bandwidth ? a->bandwidth : d->migrate_mib;
    bool runs = d->state == VIR_DOMAIN_RUNNING;
    g_mutex_unlock(&d->lock);
    if (!(a->flags & VIR_MIGRATE_LIVE) && runs && !stand_still(d, error))
        return false;
    bool ok = (!(a->flags & MIGRATE_COPY_FLAGS) || migrate_disks_copy(&p->disks, a, p->nbd_port, mib << 20, still_wanted, p, error)) && send_memory(p, mib, error);
    if (!ok)
        (void)!migrate_disks_let_go(&p->disks, NULL);
    migrate_copying_clear(&p->disks);
    return ok;
}

/* The cookie of Perform: what the destination is to keep. */
static GVariant *performed_cookie(struct domain *d, const struct migrate_args *a, GError **error)
{
    if (!(a->flags & VIR_MIGRATE_PERSIST_DEST))
        return migrate_cookie_new(d, d->name, NULL, NULL);
    doc_auto *doc = a->persistent_xml ? doc_parse(&schema_domain, a->persistent_xml, -1, error) : domain_definition(d, error);
    return doc ? migrate_cookie_new(d, d->name, doc, NULL) : NULL;
}

void migrate_back(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&d->lock);
    bool stopped = d->state == VIR_DOMAIN_PAUSED && d->reason == VIR_DOMAIN_PAUSED_MIGRATION, running = d->state == VIR_DOMAIN_RUNNING, paused = d->migration && d->migration->paused;
    g_mutex_unlock(&d->lock);
    bool go = (stopped && !paused) || running;
    struct json_object *o = go ? monitor_command(d, "query-status", NULL, &error) : NULL;
    if (o && !json_object_get_boolean(json_object_object_get(o, "running"))) {
        json_object_put(o);
        o = monitor_command(d, "cont", NULL, &error);
    }
    if (go && !o) {
        g_autofree char *text = g_strdup_printf("the migration has failed, and the guest does not go on: %s", error->message);
        domain_log(d, text);
        g_warning("domain '%s': %s", d->name, text);
    } else if (stopped && go) {
        domain_set_state(d, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATION_CANCELED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
    } else if (stopped) {
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, -1, 0);
    }
    json_object_put(o);
    domain_transfer_end(d, false);
    (void)!domain_migration_set(d, 0, NULL);
}

bool migrate_perform(struct domain *d, const struct migrate_args *a, uint64_t owner, GVariant *cookie, bool (*go_on)(void *opaque), void *opaque, GVariant **ret_cookie, GError **error)
{
    struct migrate_cookie k;
    if (!domain_begin(d, "migrate", true, error))
        return false;
    GVariant *mine = migrate_cookie_parse(d->driver->state, cookie, NULL, d->uuid, false, &k, error) ? performed_cookie(d, a, error) : NULL;
    struct performing p = { .d = d, .a = a, .nbd_port = k.nbd_port, .go_on = go_on, .opaque = opaque, .disks = { .d = d } };
    migrate_cookie_clear(&k);
    struct domain_run *run = d->run;
    bool entered = mine && enter(d, a, owner, error);
    if (!mine && domain_migration_phase(d) == MIGRATION_BEGUN)
        (void)!domain_migration_set(d, 0, NULL);
    domain_end(d);
    bool ok = entered && send_state(&p, error);
    domain_begin_wait(d, "migrate");
    g_mutex_lock(&d->lock);
    bool there = d->run == run && run && !run->ending;
    g_mutex_unlock(&d->lock);
    if (entered && there && ok) {
        told_to_stand_still(d);
        ok = domain_migration_set(d, MIGRATION_PERFORMED, error);
    } else if (ok) {
        ok = manage_fail(error, VIR_ERR_OPERATION_FAILED, "domain '%s' is not running any more", d->name);
    }
    if (entered && there && !ok)
        migrate_back(d);
    domain_end(d);
    if (ok)
        *ret_cookie = g_steal_pointer(&mine);
    else if (mine)
        g_variant_unref(g_variant_ref_sink(mine));
    return ok;
}

/* ---- Confirm ---- */

void migrate_undefine(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    if (!d->persistent)
        return;
    if (!domain_erase_definition(d, &error)) {
        g_warning("domain '%s' has moved, and its definition stays here: %s", d->name, error->message);
        return;
    }
    domain_undefined(d);
}

void migrate_leave(struct domain *d, const char *why)
{
    domain_log(d, why);
    g_warning("domain '%s': %s", d->name, why);
    domain_transfer_end(d, false);
    (void)!domain_migration_set(d, 0, NULL);
}

/* Inside a job: the guest runs elsewhere. What is written down first says so to a daemon that comes after us. */
static void give_away(struct domain *d, uint32_t flags)
{
    g_mutex_lock(&d->lock);
    bool running = d->run != NULL;
    if (d->migration)
        d->migration->flags |= flags & VIR_MIGRATE_UNDEFINE_SOURCE;
    if (running) {
        d->run->stop_reason = VIR_DOMAIN_SHUTOFF_MIGRATED;
        d->run->destroying = true;
    }
    g_mutex_unlock(&d->lock);
    if (running)
        (void)!domain_write_status(d, NULL);
    domain_transfer_end(d, true);
    if (flags & VIR_MIGRATE_UNDEFINE_SOURCE)
        migrate_undefine(d);
    if (running)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_MIGRATED);
}

bool migrate_confirm(struct domain *d, uint32_t flags, bool moved, GError **error)
{
    domain_begin_wait(d, "migrate");
    enum migration_phase phase = domain_migration_phase(d);
    bool offline = flags & VIR_MIGRATE_OFFLINE, ok = true;
    if (offline && moved && (flags & VIR_MIGRATE_UNDEFINE_SOURCE) && d->id < 0 && !d->removed)
        migrate_undefine(d);
    else if (offline || d->id < 0)
        ; /* the machine has ended meanwhile: the other one has all of it */
    else if (phase != MIGRATION_PERFORMED && phase != MIGRATION_FINISHING && (moved || phase != MIGRATION_BEGUN))
        ok = manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is not being migrated", d->name);
    else if (moved)
        give_away(d, flags);
    else
        migrate_back(d);
    domain_end(d);
    return ok;
}
