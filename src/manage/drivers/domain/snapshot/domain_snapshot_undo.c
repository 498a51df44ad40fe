/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Back to a snapshot, and its end. */
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

#include "manage/drivers/domain/stats/domain_stats.h"

static bool is_external(const struct doc *doc)
{
    bool external = el_is(doc_root(doc), "memory/@snapshot", "external");
    el_each(disk, el_find(doc_root(doc), "disks"), "disk")
        external |= el_is(disk, "@snapshot", "external");
    return external;
}

/* ---- revert ---- */

/* The images that have it inside, of the domain as it was then. */
static bool apply(struct domain *d, const struct doc *snapshot, const struct doc *domain, enum snapshot_action what, GError **error)
{
    const char *name = el_get_or(doc_root(snapshot), "name", "");
    el_each(spec, el_find(doc_root(snapshot), "disks"), "disk") {
        if (!el_is(spec, "@snapshot", "internal"))
            continue;
        struct el *disk = domain_find_disk((struct doc *)domain, el_get_or(spec, "@name", ""));
        g_autofree char *path = disk ? domain_image_path(d->driver, disk, error) : NULL, *user = path ? domain_disk_user(d->driver->state, path) : NULL;
        if (!path)
            return manage_fail(error && *error ? NULL : error, VIR_ERR_OPERATION_FAILED, "operation failed: the disk '%s' of the snapshot has no image", el_get(spec, "@name"));
        if (user)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' is in use by the running domain '%s'", path, user);
        if (!domain_snapshot_inside(path, el_get(spec, "@name"), what, name, error))
            return false;
    }
    return true;
}

static bool define_again(struct domain *d, struct doc *domain, GError **error)
{
    el_set(doc_root(domain), "name", d->name); /* it may have been renamed since */
    if (!domain_set_definition(d, domain, error)) {
        doc_free(domain);
        return false;
    }
    domain_event(d, VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT);
    return true;
}

/* The definition as it was then, where the domain has one. */
static bool define_inactive(struct domain *d, const struct doc *snapshot, GError **error)
{
    const char *which = el_find(doc_root(snapshot), "inactiveDomain") ? "inactiveDomain" : "domain";
    struct doc *then = d->persistent ? domain_moment_domain(snapshot, which, error) : NULL;
    return !d->persistent || (then && define_again(d, then, error));
}

static bool revert_to_state(struct domain *d, const char *name, const struct doc *snapshot, uint32_t flags, struct manage_call *c, GError **error)
{
    if (!el_is(doc_root(snapshot), "memory/@snapshot", "internal"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the snapshot '%s' has no memory that could be loaded", name);
    return domain_snapshot_load(d, snapshot, flags, c, error) && define_inactive(d, snapshot, error) && domain_moment_set_current(d, MOMENT_SNAPSHOT, name, error);
}

static bool revert(struct domain *d, const char *name, uint32_t flags, struct manage_call *c, GError **error)
{
    doc_auto *doc = domain_moment_document(d, MOMENT_SNAPSHOT, name, error);
    if (!doc)
        return false;
    if (is_external(doc))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "revert to external snapshot not supported yet: start the domain with the images that the snapshot kept");
    if (!el_is(doc_root(doc), "state", "shutoff"))
        return revert_to_state(d, name, doc, flags, c, error);
    if (!d->persistent)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "transient domain needs to request run or pause to revert to inactive snapshot");
    struct doc *domain = domain_moment_domain(doc, "domain", error);
    if (!domain)
        return false;
    if (d->id >= 0)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT);
    if (!apply(d, doc, domain, SNAPSHOT_APPLY, error)) {
        doc_free(domain);
        return false;
    }
    if (!define_again(d, domain, error) || !domain_moment_set_current(d, MOMENT_SNAPSHOT, name, error))
        return false;
    uint32_t how = DOMAIN_START_FROM_SNAPSHOT | (flags & VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED ? VIR_DOMAIN_START_PAUSED : 0);
    if (flags & (VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING | VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED))
        return domain_start(d, c, how, error);
    g_mutex_lock(&d->lock);
    d->reason = VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT;
    g_mutex_unlock(&d->lock);
    return true;
}

bool domain_snapshot_revert(struct domain *d, const char *name, uint32_t flags, struct manage_call *c, GError **error)
{
    const uint32_t both = VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING | VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED;
    if (!manage_check_flags(flags, both | VIR_DOMAIN_SNAPSHOT_REVERT_FORCE | VIR_DOMAIN_SNAPSHOT_REVERT_RESET_NVRAM, error))
        return false;
    if ((flags & both) == both)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "running and paused flags are mutually exclusive");
    if (!domain_begin(d, "snapshot revert", false, error))
        return false;
    bool ok = revert(d, name, flags, c, error);
    domain_end(d);
    return ok;
}

/* ---- delete ---- */

/* In the images that a running machine has open, by the machine. */
static bool delete_live(struct domain *d, const struct doc *snapshot, GError **error)
{
    doc_auto *live = domain_live(d, error);
    el_each(spec, live ? el_find(doc_root(snapshot), "disks") : NULL, "disk") {
        struct el *disk = el_is(spec, "@snapshot", "internal") ? domain_find_disk(live, el_get_or(spec, "@name", "")) : NULL;
        g_autofree char *node = disk ? domain_chain_node(disk) : NULL;
        if (!node)
            continue;
        struct json_object *args = json_object_new_object();
        js_set(args, "device", node);
        js_set(args, "name", el_get_or(doc_root(snapshot), "name", ""));
        if (!domain_command_run(d, "blockdev-snapshot-delete-internal-sync", args, error))
            return false;
    }
    return live != NULL;
}

static bool delete_inside(struct domain *d, const struct doc *snapshot, GError **error)
{
    if (d->id >= 0)
        return delete_live(d, snapshot, error);
    doc_auto *now = domain_definition(d, error);
    return now && apply(d, snapshot, now, SNAPSHOT_DELETE, error);
}

/* Inside a job: an internal one with its data, or the document alone. */
static bool delete_one(struct domain *d, const char *name, bool metadata, GError **error)
{
    doc_auto *doc = domain_moment_document(d, MOMENT_SNAPSHOT, name, error);
    return doc && (metadata || delete_inside(d, doc, error)) && domain_moment_remove(d, MOMENT_SNAPSHOT, name, error);
}

static bool any_external(struct domain *d, GPtrArray *names)
{
    bool any = false;
    for (unsigned i = 0; i < names->len; i++) {
        doc_auto *doc = domain_moment_document(d, MOMENT_SNAPSHOT, names->pdata[i], NULL);
        any |= doc && is_external(doc);
    }
    return any;
}

static bool delete_inside_job(struct domain *d, GPtrArray *names, bool metadata, GError **error)
{
    if (!domain_begin(d, "snapshot delete", false, error))
        return false;
    bool ok = true;
    for (unsigned i = 0; ok && i < names->len; i++)
        ok = delete_one(d, names->pdata[i], metadata, error);
    domain_end(d);
    return ok;
}

/* What it took goes into the image below, as its children still stand on it. */
static bool delete_external(struct domain *d, const char *name, GError **error)
{
    doc_auto *doc = domain_moment_document(d, MOMENT_SNAPSHOT, name, error);
    g_autoptr(GPtrArray) self = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&d->lock);
    unsigned children = domain_moment_children_locked(d, MOMENT_SNAPSHOT, name);
    g_mutex_unlock(&d->lock);
    if (children > 1)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "deletion of external disk snapshots with multiple children not supported");
    g_ptr_array_add(self, g_strdup(name));
    return doc && domain_snapshot_merge(d, doc, error) && delete_inside_job(d, self, true, error);
}

bool domain_snapshot_delete(struct domain *d, const char *name, uint32_t flags, GError **error)
{
    bool metadata = flags & VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY, below = flags & (VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN | VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY);
    if (!manage_check_flags(flags, VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN | VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY | VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY, error))
        return false;
    if ((flags & VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN) && (flags & VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "children and children_only flags are mutually exclusive");
    g_autoptr(GPtrArray) names = below ? domain_moment_descendants(d, MOMENT_SNAPSHOT, name) : g_ptr_array_new_with_free_func(g_free);
    if (!(flags & VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY))
        g_ptr_array_add(names, g_strdup(name));
    if (!metadata && any_external(d, names))
        return below ? manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "deletion of external children disk snapshots not supported") : delete_external(d, name, error);
    return delete_inside_job(d, names, metadata, error);
}
