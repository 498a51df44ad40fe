/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks that only one of the two hosts sees are copied: the destination's machine serves its images by NBD while it waits for its state, the source's copies its disks onto
 * them (block jobs like any other's) and lets go of them between the guest's last instruction and the end of the state, when the machine stops in "pre-switchover".
 */
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_transfer.h"

enum { LOOK_MS = 50 };

#define NBD_SOCKET "migration-nbd"

bool migrate_copies(const struct migrate_args *a, const struct el *disk)
{
    const char *target = el_get_or(disk, "target/@dev", "");
    if (!(a->flags & MIGRATE_COPY_FLAGS) || !el_is(disk, "@device", "disk") || !domain_chain_path(disk))
        return false;
    for (unsigned i = 0; i < a->ndisks; i++)
        if (!strcmp(a->disks[i], target))
            return true;
    return !a->ndisks && !el_find(disk, "readonly") && !el_find(disk, "shareable");
}

bool migrate_disks_check(const struct migrate_args *a, const struct doc *doc, GError **error)
{
    for (unsigned i = 0; i < a->ndisks; i++) {
        bool found = false;
        el_each(disk, el_find(doc_root(doc), "devices"), "disk")
            found |= el_is(disk, "target/@dev", a->disks[i]) && migrate_copies(a, disk);
        if (!found)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "there is no disk '%s' that could be copied", a->disks[i]);
    }
    if ((a->ndisks || a->disks_port) && !(a->flags & MIGRATE_COPY_FLAGS))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "use of disks' parameters requires a flag that has them copied");
    return true;
}

bool migrate_disks_cookie(struct domain *d, const struct migrate_args *a, const struct doc *live, struct migrate_cookie *k, GError **error)
{
    el_each(disk, el_find(doc_root(live), "devices"), "disk") {
        if (!migrate_copies(a, disk))
            continue;
        g_autofree char *node = domain_chain_node(disk);
        struct migrate_disk m = { 0 };
        if (!node || !domain_node_size(d, node, &m.size, error))
            return node ? false : manage_fail(error, VIR_ERR_OPERATION_INVALID, "disk '%s' has no medium", el_get_or(disk, "target/@dev", "?"));
        g_strlcpy(m.target, el_get_or(disk, "target/@dev", ""), sizeof(m.target));
        if (!k->disks)
            k->disks = g_array_new(FALSE, TRUE, sizeof(struct migrate_disk));
        g_array_append_val(k->disks, m);
    }
    return true;
}

/* ---- destination: images ---- */

static const struct migrate_disk *find(const struct migrate_cookie *k, const char *target)
{
    for (unsigned i = 0; k->disks && i < k->disks->len; i++)
        if (!strcmp(g_array_index(k->disks, struct migrate_disk, i).target, target))
            return &g_array_index(k->disks, struct migrate_disk, i);
    return NULL;
}

void migrate_disks_unmake(GPtrArray *made)
{
    for (unsigned i = 0; made && i < made->len; i++)
        unlink(made->pdata[i]);
}

bool migrate_disks_make(const struct migrate_args *a, const struct doc *doc, const struct migrate_cookie *k, GPtrArray *made, GError **error)
{
    el_each(disk, el_find(doc_root(doc), "devices"), "disk") {
        const char *target = el_get_or(disk, "target/@dev", ""), *path = domain_chain_path(disk);
        const struct migrate_disk *m = find(k, target);
        bool fresh = false;
        if (!migrate_copies(a, disk) || g_file_test(path, G_FILE_TEST_EXISTS))
            continue;
        if (a->flags & VIR_MIGRATE_NON_SHARED_INC)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' of disk '%s' must be there with what is below it, for its top alone is copied", path, target);
        if (!m)
            return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the source does not say how large disk '%s' is", target);
        if (!domain_image_make(path, domain_chain_format(disk), m->size, NULL, NULL, target, &fresh, error))
            return false;
        if (fresh)
            g_ptr_array_add(made, g_strdup(path));
    }
    return true;
}

/* ---- destination: NBD ---- */

static bool serve(struct domain *d, int fd, GError **error)
{
    struct json_object *args = json_object_new_object(), *addr = json_object_new_object(), *data = json_object_new_object();
    js_set(args, "fdname", NBD_SOCKET);
    struct json_object *o = monitor_command_fds(d, "getfd", args, &fd, 1, error);
    json_object_put(o);
    js_set(data, "str", NBD_SOCKET);
    js_set(addr, "type", "fd");
    json_object_object_add(addr, "data", data);
    args = json_object_new_object();
    json_object_object_add(args, "addr", addr);
    if (o)
        return domain_command_run(d, "nbd-server-start", args, error);
    json_object_put(args);
    return false;
}

static char *export_of(const struct el *disk) { return g_strdup_printf("drive-%s", el_get_or(disk, "alias/@name", "")); }

static bool offer(struct domain *d, const struct el *disk, GError **error)
{
    struct json_object *args = json_object_new_object();
    g_autofree char *node = domain_chain_node(disk), *name = export_of(disk), *id = g_strdup_printf("migration-%s", el_get_or(disk, "target/@dev", ""));
    js_set(args, "type", "nbd");
    js_set(args, "id", id);
    js_set(args, "node-name", node);
    js_set(args, "name", name);
    js_bool(args, "writable", true);
    return domain_command_run(d, "block-export-add", args, error);
}

bool migrate_disks_serve(struct domain *d, const struct migrate_args *a, unsigned *ret_port, GError **error)
{
    doc_auto *live = domain_live(d, error);
    bool any = false, ok = live != NULL;
    unsigned port = (unsigned)a->disks_port;
    *ret_port = 0;
    el_each(disk, live ? el_find(doc_root(live), "devices") : NULL, "disk") {
        if (!ok || !migrate_copies(a, disk))
            continue;
        int fd = any ? -1 : migrate_listen_somewhere(d->driver, a->listen, &port, error);
        ok = (any || (fd >= 0 && serve(d, fd, error))) && offer(d, disk, error);
        any = true;
        if (fd >= 0)
            close(fd);
    }
    *ret_port = any ? port : 0;
    return ok;
}

void migrate_disks_close(struct domain *d)
{
    json_object_put(monitor_command(d, "nbd-server-stop", NULL, NULL));
}

/* ---- source ---- */

void migrate_copying_clear(struct migrate_copying *c)
{
    if (c->names)
        g_ptr_array_unref(c->names);
    if (c->targets)
        g_ptr_array_unref(c->targets);
}

static bool begin_one(struct migrate_copying *c, const struct migrate_args *a, const struct el *disk, const char *host, unsigned port, uint64_t speed, GError **error)
{
    const char *target = el_get_or(disk, "target/@dev", "");
    g_autofree char *name = export_of(disk);
    g_autofree char *xml = g_markup_printf_escaped("<disk type='network' device='disk'><driver type='raw'/><source protocol='nbd' name='%s'><host name='%s' port='%u'/></source></disk>",
                                                   name, host, port);
    uint32_t flags = (a->flags & VIR_MIGRATE_NON_SHARED_INC ? VIR_DOMAIN_BLOCK_COPY_SHALLOW : 0) |
                     (a->flags & VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES ? VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES : 0);
    domain_begin_wait(c->d, "migrate");
    char *job = domain_blockjob_copy(c->d, target, xml, flags, speed, error);
    domain_end(c->d);
    if (!job)
        return false;
    g_ptr_array_add(c->names, job);
    g_ptr_array_add(c->targets, g_strdup(target));
    return true;
}

/* All copies are ready; the job's numbers follow. */
static bool ready(struct migrate_copying *c, bool *ret_all, GError **error)
{
    uint64_t done = 0, total = 0;
    *ret_all = true;
    for (unsigned i = 0; i < c->names->len; i++) {
        uint64_t one = 0, of = 0;
        bool is = false;
        if (!domain_blockjob_progress(c->d, c->names->pdata[i], &is, &one, &of))
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the copy of disk '%s' has failed: see the domain's log", (char *)c->targets->pdata[i]);
        *ret_all &= is;
        done += one;
        total += of;
    }
    g_mutex_lock(&c->d->lock);
    if (c->d->transfer) {
        c->d->transfer->n.disk_total = total;
        c->d->transfer->n.disk_transferred = done;
        c->d->transfer->n.disk_remaining = total - MIN(done, total);
    }
    g_mutex_unlock(&c->d->lock);
    return true;
}

bool migrate_disks_copy(struct migrate_copying *c, const struct migrate_args *a, unsigned port, uint64_t speed, bool (*go_on)(struct domain *d, void *opaque), void *opaque, GError **error)
{
    doc_auto *live = domain_live(c->d, error);
    g_autofree char *host = NULL;
    unsigned unused;
    bool local = false, all = false;
    c->names = g_ptr_array_new_with_free_func(g_free);
    c->targets = g_ptr_array_new_with_free_func(g_free);
    if (!live || !migrate_uri_parse(a->uri, &host, &unused, &local, error))
        return false;
    if (local)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "disks are copied over TCP alone: the destination's address must be tcp://HOST");
    el_each(disk, el_find(doc_root(live), "devices"), "disk") {
        if (!migrate_copies(a, disk))
            continue;
        if (!port)
            return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the destination does not say where it takes copies of disks");
        if (!begin_one(c, a, disk, host, port, speed, error))
            return false;
    }
    while (!all) {
        if (!ready(c, &all, error))
            return false;
        if (!go_on(c->d, opaque))
            return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the job on domain '%s' was canceled by client", c->d->name);
        if (!all)
            g_usleep(LOOK_MS * 1000);
    }
    return true;
}

bool migrate_disks_let_go(struct migrate_copying *c, GError **error)
{
    bool ok = true;
    for (unsigned i = 0; c->names && i < c->names->len; i++) {
        domain_begin_wait(c->d, "migrate");
        ok &= domain_blockjob_cancel(c->d, c->targets->pdata[i], ok ? error : NULL);
        domain_end(c->d);
    }
    for (unsigned i = 0; c->names && i < c->names->len; i++)
        domain_blockjob_wait_end(c->d, c->names->pdata[i]);
    if (c->names)
        g_ptr_array_set_size(c->names, 0);
    return ok;
}
