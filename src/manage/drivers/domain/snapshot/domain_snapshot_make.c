/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot is made: its document, from what the caller says and what the domain is now; then the disks; or a document alone, given back by who had it before. */
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

#include "manage/drivers/domain/guest/domain_agent.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"

enum { FLAGS = VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | VIR_DOMAIN_SNAPSHOT_CREATE_HALT |
               VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT | VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
               VIR_DOMAIN_SNAPSHOT_CREATE_LIVE | VIR_DOMAIN_SNAPSHOT_CREATE_VALIDATE };

static bool check_flags(struct domain *d, uint32_t flags, GError **error)
{
    static const struct { uint32_t a, b; const char *what; } exclusive[] = {
        { VIR_DOMAIN_SNAPSHOT_CREATE_LIVE, VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY, "a snapshot of a running machine's memory, and of the disks alone" },
        { VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE, VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA, "a document to be taken, and none to be kept" },
        { VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE, VIR_DOMAIN_SNAPSHOT_CREATE_HALT, "a document to be taken, and the domain to be halted" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(exclusive); i++)
        if ((flags & exclusive[i].a) && (flags & exclusive[i].b))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "%s exclude each other", exclusive[i].what);
    if ((flags & VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE) && !(flags & VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "to quiesce goes with a snapshot of the disks alone");
    if (!d->persistent && (flags & VIR_DOMAIN_SNAPSHOT_CREATE_HALT))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot halt after transient domain snapshot");
    return true;
}

/* ---- a document that the caller had before ---- */

static char *redefine(struct domain *d, struct doc *doc, uint32_t flags, GError **error)
{
    struct el *root = doc_root(doc);
    const char *parent = el_get(root, "parent/name");
    g_autofree char *name = g_strdup(el_get_or(root, "name", ""));
    bool good = false;
    doc_auto *inside = NULL;
    if (!*name)
        manage_fail(error, VIR_ERR_XML_ERROR, "a redefined snapshot must have a name");
    else if (!domain_moment_name_ok(MOMENT_SNAPSHOT, name, error))
        ;
    else if (!el_find(root, "domain"))
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "missing domain in snapshot");
    else if (!el_get(root, "creationTime") || !el_get(root, "state"))
        manage_fail(error, VIR_ERR_XML_ERROR, "missing %s from existing snapshot", el_get(root, "state") ? "creationTime" : "state");
    else
        good = (inside = domain_moment_domain(doc, "domain", error)) != NULL;
    char own[37];
    manage_uuid_format(d->uuid, own);
    if (good && !el_is(doc_root(inside), "uuid", own))
        good = manage_fail(error, VIR_ERR_INVALID_ARG, "definition for snapshot %s must use uuid %s", name, own);
    g_mutex_lock(&d->lock);
    struct moment *above = good && parent ? domain_moment_find_locked(d, MOMENT_SNAPSHOT, parent) : NULL;
    bool circle = above && (!g_strcmp0(parent, name) || domain_moment_is_below_locked(d, MOMENT_SNAPSHOT, above, name));
    g_mutex_unlock(&d->lock);
    if (good && parent && !above)
        good = manage_fail(error, VIR_ERR_INVALID_ARG, "parent %s for moment %s not found", parent, name);
    if (good && circle)
        good = manage_fail(error, VIR_ERR_INVALID_ARG, "parent %s would create cycle to %s", parent, name);
    if (!good) {
        doc_free(doc);
        return NULL;
    }
    el_set(root, "active", NULL);
    return domain_moment_put(d, MOMENT_SNAPSHOT, doc, flags & VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT, error) ? g_steal_pointer(&name) : NULL;
}

/* ---- a new one ---- */

/* Where the memory goes. */
static bool check_file(struct snapshot *s, const char *file, GError **error)
{
    bool external = s->memory == SNAPSHOT_MEMORY_EXTERNAL;
    if (external && !file)
        return manage_fail(error, VIR_ERR_XML_ERROR, "external memory snapshots require a filename");
    if (external && *file != '/')
        return manage_fail(error, VIR_ERR_XML_ERROR, "memory snapshot file path (%s) must be absolute", file);
    if (!external && file)
        return manage_fail(error, VIR_ERR_XML_ERROR, "memory filename '%s' requires external snapshot", file);
    if (!external && (s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_LIVE))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "live snapshot creation is supported only with external checkpoints: name a file for the memory");
    return true;
}

static bool check_memory(struct snapshot *s, GError **error)
{
    const char *memory = el_get(doc_root(s->doc), "memory/@snapshot"), *file = el_get(doc_root(s->doc), "memory/@file");
    bool external = memory ? g_str_equal(memory, "external") : file != NULL, internal = !g_strcmp0(memory, "internal"), disks = s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY;
    if (!s->live && (external || internal))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "memory snapshot is not possible for an inactive domain");
    if (disks && (external || internal))
        return manage_fail(error, VIR_ERR_XML_ERROR, "a snapshot of the disks alone has no memory: <memory snapshot='%s'>", memory ? memory : "external");
    if (!s->live && (s->flags & (VIR_DOMAIN_SNAPSHOT_CREATE_LIVE | VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is not running: there is nothing to be quiesced or kept running");
    if (!s->live || disks)
        return true;
    if (!g_strcmp0(memory, "no")) {
        s->flags |= VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY;
        return true;
    }
    s->memory = external ? SNAPSHOT_MEMORY_EXTERNAL : SNAPSHOT_MEMORY_INTERNAL;
    return check_file(s, file, error);
}

static bool describe(struct snapshot *s, GError **error)
{
    struct el *root = doc_root(s->doc);
    static const char *const given[] = { "state", "parent", "creationTime", "memory", "domain", "inactiveDomain", "cookie", "active" };
    static const char *const memories[] = { "no", "internal", "external" };
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *file = g_strdup(el_get(root, "memory/@file"));
    if (!el_get(root, "name"))
        el_setf(root, "name", "%" G_GINT64_FORMAT, now);
    const char *name = el_get(root, "name");
    if (!domain_moment_name_ok(MOMENT_SNAPSHOT, name, error))
        return false;
    g_mutex_lock(&s->d->lock);
    bool taken = domain_moment_find_locked(s->d, MOMENT_SNAPSHOT, name) != NULL;
    g_autofree char *parent = g_strdup(domain_moment_current_locked(s->d, MOMENT_SNAPSHOT));
    g_mutex_unlock(&s->d->lock);
    if (taken)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "domain moment %s already exists", name);
    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        if (el_find(root, given[i]))
            el_remove(el_find(root, given[i]));
    el_set(root, "state", s->memory ? s->d->state == VIR_DOMAIN_RUNNING ? "running" : "paused" : s->live ? "disk-snapshot" : "shutoff");
    if (parent)
        el_set(root, "parent/name", parent);
    el_setf(root, "creationTime", "%" G_GINT64_FORMAT, now);
    el_set(root, "memory/@snapshot", memories[s->memory]);
    if (s->memory == SNAPSHOT_MEMORY_EXTERNAL)
        el_set(root, "memory/@file", file);
    domain_moment_set_domain(s->doc, "domain", s->domain);
    doc_auto *defined = s->live && s->d->persistent ? domain_definition(s->d, error) : NULL;
    if (defined)
        domain_moment_set_domain(s->doc, "inactiveDomain", defined);
    return !s->live || !s->d->persistent || defined;
}

/* File systems of the guest at rest while the disks are taken. */
static bool quiesce(struct snapshot *s, bool freeze, GError **error)
{
    if (!(s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE))
        return true;
    struct json_object *o = domain_agent_command(s->d, freeze ? "guest-fsfreeze-freeze" : "guest-fsfreeze-thaw", NULL, false, error);
    bool ok = o != NULL;
    json_object_put(o);
    return ok;
}

/* The snapshot is there, with all that belongs to it, and whoever asked for it has to look after the guest. One that is to be ended needs nothing. */
static bool still_frozen(const struct snapshot *s, const char *name, const GError *why, GError **error)
{
    return s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_HALT ||
           manage_fail(error, VIR_ERR_AGENT_UNRESPONSIVE, "the snapshot '%s' is taken, but the guest's file systems are still frozen (domfsthaw thaws them "
                       "when the agent is there again): %s", name, why->message);
}

/* The document is on disk before the disks change: one without its snapshot does less harm than the other way round. What is left of a live one that fails is known from its record. */
static bool take(struct snapshot *s, GError **error)
{
    const char *name = el_get_or(doc_root(s->doc), "name", "");
    bool keep = !(s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);
    g_mutex_lock(&s->d->lock);
    g_autofree char *before = g_strdup(domain_moment_current_locked(s->d, MOMENT_SNAPSHOT));
    g_mutex_unlock(&s->d->lock);
    if (s->live && !domain_snapshot_intend(s, error))
        return false;
    bool put = !keep || domain_moment_put(s->d, MOMENT_SNAPSHOT, doc_copy(s->doc), true, error);
    bool frozen = put && quiesce(s, true, error), ok = frozen && domain_snapshot_take(s, error);
    g_autoptr(GError) thaw = NULL;
    bool thawed = !put || quiesce(s, false, &thaw); /* also where it is not known whether they were frozen */
    if (frozen && !thawed)
        g_warning("domain '%s': its file systems were frozen for a snapshot and are not thawed: %s", s->d->name, thaw->message);
    if (s->live && !domain_snapshot_conclude(s->d, ok, error))
        return false;
    if (s->live)
        return !frozen || thawed || still_frozen(s, name, thaw, error);
    if (!ok && put && keep) {
        (void)!domain_moment_remove(s->d, MOMENT_SNAPSHOT, name, NULL);
        (void)!domain_moment_set_current(s->d, MOMENT_SNAPSHOT, before, NULL);
    }
    return ok;
}

static bool take_all(struct snapshot *s, GError **error)
{
    return s->memory == SNAPSHOT_MEMORY_INTERNAL ? domain_snapshot_take_internal(s, error) : s->memory ? domain_snapshot_take_external(s, take, error) : take(s, error);
}

static void snapshot_clear(struct snapshot *s)
{
    for (unsigned i = 0; s->disks && i < s->disks->len; i++) {
        struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        g_free(k->path);
        g_free(k->format);
    }
    if (s->disks)
        g_array_unref(s->disks);
    doc_free(s->doc);
    doc_free(s->domain);
}

char *domain_snapshot_make(struct domain *d, const char *xml, uint32_t flags, GError **error)
{
    if (!manage_check_flags(flags, FLAGS, error) || !check_flags(d, flags, error))
        return NULL;
    struct doc *doc = doc_parse(&schema_snapshot, xml, -1, error);
    if (!doc)
        return NULL;
    if (flags & VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)
        return redefine(d, doc, flags, error);
    struct snapshot s = { .d = d, .doc = doc, .live = d->id >= 0, .flags = flags, .disks = g_array_new(FALSE, TRUE, sizeof(struct snapshot_disk)) };
    s.domain = s.live ? domain_live(d, error) : domain_definition(d, error);
    char *name = NULL;
    if (s.domain && check_memory(&s, error) && describe(&s, error) && domain_snapshot_align(&s, error) && take_all(&s, error)) {
        name = g_strdup(el_get_or(doc_root(s.doc), "name", ""));
        if (s.live && (flags & VIR_DOMAIN_SNAPSHOT_CREATE_HALT))
            domain_stop(d, VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT);
    }
    snapshot_clear(&s);
    return name;
}
