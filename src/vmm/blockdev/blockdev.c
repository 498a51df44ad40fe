/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/blockdev/blockdev.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/throttle.h"
#include "block/job.h"
#include "vmm/blockdev/export.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

struct blockdev {
    struct machine *machine;
    struct block_graph *graph;
    struct block_jobs *jobs;
    struct blockdev_exports *exports; /* NULL until something is exported */
    bool inactive;      /* another process has the images in hand */
    GPtrArray *drives;  /* struct block_device *, owned */
    GPtrArray *held;    /* struct block_node *, referenced: -blockdev and blockdev-add */
};

/* ---- life ---- */

static void on_event(void *opaque, const char *event, struct json_object *data)
{
    machine_post_event(opaque, event, json_object_get(data));
}

static void call_later(void *opaque, void (*fn)(void *arg), void *arg)
{
    machine_call_later(opaque, fn, arg);
}

struct blockdev *blockdev_create(struct machine *m)
{
    struct blockdev *b = g_new0(struct blockdev, 1);
    b->machine = m;
    b->graph = block_graph_create();
    b->drives = g_ptr_array_new();
    b->held = g_ptr_array_new();
    b->jobs = block_jobs_create(b->graph, call_later, m);
    block_graph_set_events(b->graph, on_event, m);
    m->blockdev = b;
    m->resolve_drive = blockdev_resolve;
    return b;
}

/* ---- images that change hands ---- */

void blockdev_begin_inactive(struct blockdev *b)
{
    b->inactive = true;
}

bool blockdev_is_inactive(const struct blockdev *b)
{
    return b->inactive;
}

bool blockdev_activate(struct blockdev *b, GError **error)
{
    if (b->inactive && !block_activate_all(b->graph, error))
        return false;
    b->inactive = false;
    return true;
}

bool blockdev_inactivate(struct blockdev *b, GError **error)
{
    if (!b->inactive && !block_inactivate_all(b->graph, error))
        return false;
    b->inactive = true;
    return true;
}

static unsigned hands(const struct blockdev *b)
{
    return b->inactive ? BLOCK_INACTIVE : 0;
}

void blockdev_stop(struct blockdev *b)
{
    if (!b)
        return;
    blockdev_exports_end(g_steal_pointer(&b->exports));
    block_jobs_end(b->jobs);
    block_graph_set_events(b->graph, NULL, NULL);
    b->machine->blockdev = NULL;
    b->machine->resolve_drive = NULL;
    b->machine = NULL;
}

void blockdev_destroy(struct blockdev *b)
{
    if (!b)
        return;
    while (b->drives->len)
        block_device_destroy(g_ptr_array_remove_index(b->drives, b->drives->len - 1));
    while (b->held->len)
        block_node_unref(g_ptr_array_remove_index(b->held, b->held->len - 1));
    g_ptr_array_unref(b->drives);
    g_ptr_array_unref(b->held);
    block_jobs_destroy(b->jobs);
    block_graph_destroy(b->graph);
    g_free(b);
}

struct block_graph *blockdev_graph(const struct blockdev *b)
{
    return b->graph;
}

struct machine *blockdev_machine(const struct blockdev *b)
{
    return b->machine;
}

struct blockdev_exports **blockdev_exports(struct blockdev *b)
{
    return &b->exports;
}

struct block_jobs *blockdev_jobs(const struct blockdev *b)
{
    return b->jobs;
}

/* ---- nodes ---- */

bool blockdev_holds(const struct blockdev *b, const struct block_node *n)
{
    return g_ptr_array_find(b->held, n, NULL);
}

void blockdev_hold_node(struct blockdev *b, struct block_node *n)
{
    g_ptr_array_add(b->held, block_node_ref(n));
}

bool blockdev_add_node(struct blockdev *b, const struct keyval *kv, GError **error)
{
    const char *name = keyval_get(kv, "node-name");
    if (!name)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'node-name' must be specified for the root node");
    if (g_hash_table_contains(b->machine->drives, name) && !block_find(b->graph, name))
        return vireo_fail(error, VIREO_ERROR_INVALID, "node-name=%s is conflicting with a device id", name);
    struct block_node *n = block_open_options(b->graph, kv, BLOCK_RDWR | hands(b), error);
    if (!n)
        return false;
    g_ptr_array_add(b->held, n);
    return true;
}

/* Whether one of those that are still to be made is named by kv as a child, at any depth. */
static bool waits_for(const struct keyval *kv, const GPtrArray *items, const bool *done)
{
    static const char *const roles[] = { "file", "backing", "data-file", "target", "image" };
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        const char *dot = strrchr(p->key, '.'), *last = dot ? dot + 1 : p->key;
        bool child = false;
        for (size_t r = 0; r < G_N_ELEMENTS(roles); r++)
            child |= !strcmp(last, roles[r]);
        for (guint j = 0; child && j < items->len; j++) {
            const char *name = keyval_get(items->pdata[j], "node-name");
            if (!done[j] && items->pdata[j] != kv && !g_strcmp0(name, p->value))
                return true;
        }
    }
    return false;
}

bool blockdev_add_nodes(struct blockdev *b, const GPtrArray *items, guint *ret_failed, GError **error)
{
    g_autofree bool *done = g_new0(bool, items->len + 1);
    for (guint left = items->len; left;) {
        guint before = left;
        for (guint i = 0; i < items->len; i++) {
            if (done[i] || waits_for(items->pdata[i], items, done))
                continue;
            *ret_failed = i;
            if (!blockdev_add_node(b, items->pdata[i], error))
                return false;
            done[i] = true;
            left--;
        }
        if (left == before) { /* they name each other */
            while (done[*ret_failed = items->len - left])
                left--;
            return vireo_fail(error, VIREO_ERROR_INVALID, "nodes name each other as children");
        }
    }
    return true;
}

/* Drives without id are there for as long as a device uses them. */
static void collect(struct blockdev *b)
{
    for (guint i = 0; i < b->drives->len; i++) {
        struct block_device *drive = b->drives->pdata[i];
        GHashTableIter it;
        void *value;
        if (block_device_options(drive)->id || block_claimed_by(drive))
            continue;
        if (b->machine) {
            g_hash_table_iter_init(&it, b->machine->drives);
            while (g_hash_table_iter_next(&it, NULL, &value)) {
                if (value == drive)
                    g_hash_table_iter_remove(&it);
            }
        }
        g_ptr_array_remove_index(b->drives, i--);
        block_device_destroy(drive);
    }
}

bool blockdev_del_node(struct blockdev *b, const char *name, GError **error)
{
    struct block_node *n = block_find(b->graph, name);
    if (!n)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Failed to find node with node-name='%s'", name);
    collect(b);
    if (blockdev_drive_on(b, n))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node %s is in use", name);
    if (!blockdev_holds(b, n))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Node %s is not owned by the monitor", name);
    if (block_node_blocked(n))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", name, block_node_blocked(n));
    if (block_node_refs(n) > 1)
        return vireo_fail(error, VIREO_ERROR_BUSY, "Block device %s is in use", name);
    g_ptr_array_remove(b->held, n);
    block_node_unref(n);
    return true;
}

/* ---- drives ---- */

const GPtrArray *blockdev_drives(struct blockdev *b)
{
    collect(b);
    return b->drives;
}

static struct block_device *enter_drive(struct blockdev *b, struct block_device *drive, const char *name)
{
    g_ptr_array_add(b->drives, drive);
    g_hash_table_insert(b->machine->drives, (void *)g_intern_string(name), drive);
    return drive;
}

struct block_device *blockdev_resolve(struct machine *m, const char *name, GError **error)
{
    struct blockdev *b = m->blockdev;
    collect(b);
    struct block_device *drive = g_hash_table_lookup(m->drives, name);
    struct block_node *n = drive ? NULL : block_find(b->graph, name);
    const struct block_device_options o = { .rerror = BLOCK_ON_ERROR_REPORT, .werror = BLOCK_ON_ERROR_ENOSPC };
    if (drive)
        return drive;
    if (!n) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "there is no drive '%s'; give it with -drive if=none,id=%s or -blockdev node-name=%s", name, name, name);
        return NULL;
    }
    if (block_node_blocked(n)) {
        vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", name, block_node_blocked(n));
        return NULL;
    }
    return enter_drive(b, block_device_create(b->graph, n, &o), name);
}

struct device *blockdev_user(struct blockdev *b, const struct block_device *drive, char **ret_path)
{
    struct machine *m = b->machine;
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        for (const struct device_prop *p = d->class->props; p && p->name; p++) {
            const char *name = p->type == PROP_DRIVE ? *(char *const *)((const char *)d + p->offset) : NULL;
            if (!name || g_hash_table_lookup(m->drives, name) != drive)
                continue;
            g_autofree char *path = device_path(d);
            bool virtio = g_str_has_prefix(d->class->name, "virtio-");
            if (ret_path)
                *ret_path = g_strconcat(path, virtio ? "/virtio-backend" : "", NULL);
            return d;
        }
    }
    return NULL;
}

/* `id` may be a device's id, its path, or that with what QMP showed behind it. */
static struct block_device *drive_of_device(struct blockdev *b, const char *id)
{
    for (guint i = 0; i < b->drives->len; i++) {
        g_autofree char *path = NULL;
        const struct device *d = blockdev_user(b, b->drives->pdata[i], &path);
        if (d && (!g_strcmp0(d->id, id) || !strcmp(path, id) || (g_str_has_prefix(path, id) && path[strlen(id)] == '/')))
            return b->drives->pdata[i];
    }
    return NULL;
}

struct block_device *blockdev_find_drive(struct blockdev *b, const char *device, const char *id, GError **error)
{
    struct block_device *found = NULL;
    collect(b);
    if (!device == !id) {
        vireo_fail(error, VIREO_ERROR_INVALID, device ? "Only one of 'device' and 'id' may be used" : "Need either 'device' or 'id'");
        return NULL;
    }
    for (guint i = 0; device && i < b->drives->len && !found; i++) {
        if (!g_strcmp0(block_device_options(b->drives->pdata[i])->id, device))
            found = b->drives->pdata[i];
    }
    if (id)
        found = drive_of_device(b, id);
    if (!found)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, id ? "Device with id '%s' not found" : "Device '%s' not found", id ? id : device);
    return found;
}

struct block_node *blockdev_find_node(struct blockdev *b, const char *name, GError **error)
{
    g_autoptr(GError) none = NULL;
    struct block_device *drive = blockdev_find_drive(b, name, NULL, &none);
    struct block_node *n = drive ? block_device_node(drive) : block_find(b->graph, name);
    if (!n && drive)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' has no medium", name);
    else if (!n)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find device='%s' nor node-name='%s'", name, name);
    return n;
}

struct block_node *blockdev_find_either(struct blockdev *b, const char *device, const char *node_name, GError **error)
{
    if (!device == !node_name) {
        vireo_fail(error, VIREO_ERROR_INVALID, "%s", device ? "Only one of 'device' and 'node-name' may be used" : "Need either 'device' or 'node-name'");
        return NULL;
    }
    if (device)
        return blockdev_find_node(b, device, error);
    struct block_node *n = block_find(b->graph, node_name);
    if (!n)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find device='' nor node-name='%s'", node_name);
    return n;
}

struct block_device *blockdev_drive_on(struct blockdev *b, const struct block_node *n)
{
    for (guint i = 0; i < b->drives->len; i++) {
        if (block_device_node(b->drives->pdata[i]) == n)
            return b->drives->pdata[i];
    }
    return NULL;
}

/* ---- opening ---- */

char *blockdev_temporary(GError **error)
{
    const char *dir = g_getenv("TMPDIR");
    char *path = g_build_filename(dir && *dir ? dir : "/var/tmp", "vl.XXXXXX", NULL);
    int fd = mkstemp(path);
    if (fd >= 0) {
        close(fd);
        return path;
    }
    vireo_fail_errno(error, errno, "cannot create a temporary file '%s'; set TMPDIR to a directory that can be written", path);
    g_free(path);
    return NULL;
}

struct block_node *blockdev_overlay(struct blockdev *b, struct block_node *below, const char *node_name, unsigned flags, GError **error)
{
    g_autofree char *path = blockdev_temporary(error);
    keyval_auto *options = keyval_new(), *kv = keyval_new();
    struct block_create c = { .size = block_node_size(below), .options = options };
    if (!path)
        return NULL;
    struct block_node *n = NULL;
    if (block_create_image(b->graph, path, "qcow2", &c, error)) {
        keyval_add(kv, "driver", "qcow2");
        keyval_add(kv, "file.driver", "file");
        keyval_add(kv, "file.filename", path);
        keyval_add(kv, "backing", block_node_name(below));
        if (node_name)
            keyval_add(kv, "node-name", node_name);
        n = block_open_options(b->graph, kv, (flags & ~(unsigned)(BLOCK_DIRECT | BLOCK_AIO_NATIVE)) | BLOCK_RDWR | BLOCK_TEMPORARY | BLOCK_NO_FLUSH, error);
    }
    if (!n)
        (void)unlink(path);
    return n;
}

static struct block_node *open_drive_node(struct blockdev *b, const struct blockdev_drive *d, GError **error)
{
    unsigned flags = d->flags | hands(b);
    bool over = d->snapshot && flags & BLOCK_RDWR;
    keyval_auto *options = keyval_copy(d->node);
    g_autofree char *name = over ? keyval_take(options, "node-name") : NULL;
    if (over)
        flags &= ~(unsigned)BLOCK_RDWR;
    struct block_node *n = NULL;
    if (d->file && *d->file)
        n = block_open_filename(b->graph, d->file, d->format, options, flags, error);
    else if (d->format && (n = (keyval_add(options, "driver", d->format), block_open_options(b->graph, options, flags, error))))
        ;
    else if (!d->format)
        n = block_open_filename(b->graph, "", NULL, options, flags, error);
    if (!n || !over)
        return n;
    struct block_node *overlay = blockdev_overlay(b, n, name, d->flags, error);
    block_node_unref(n);
    return overlay;
}

static struct block_node *add_filter(struct blockdev *b, struct block_node *below, struct keyval *kv, unsigned flags, GError **error)
{
    keyval_add(kv, "file", block_node_name(below));
    struct block_node *n = block_open_options(b->graph, kv, (flags & BLOCK_RDWR) | hands(b), error);
    block_node_unref(below);
    return n;
}

static struct block_node *open_drive(struct blockdev *b, const struct blockdev_drive *d, GError **error)
{
    struct block_node *n = open_drive_node(b, d, error);
    if (n && d->copy_on_read) {
        keyval_auto *kv = keyval_new();
        keyval_add(kv, "driver", "copy-on-read");
        n = add_filter(b, n, kv, d->flags, error);
    }
    if (n && !block_node_size(n) && !d->media) {
        vireo_fail(error, VIREO_ERROR_INVALID, "disk '%s' is empty; give it a size: vireo-img resize '%s' 10G", d->file ? d->file : d->id, d->file ? d->file : d->id);
        g_clear_pointer(&n, block_node_unref);
    }
    return n;
}

/* throttling.*, without the group. */
static bool take_limits(const struct blockdev_drive *d, struct throttle_config *ret, GError **error)
{
    keyval_auto *kv = keyval_copy(d->throttle);
    g_free(keyval_take(kv, "group"));
    if (!throttle_config_take(kv, "", ret, error) || !throttle_config_check(ret, error))
        return false;
    return !kv->pairs->len || vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter 'throttling.%s'", ((struct keyval_pair *)kv->pairs->pdata[0])->key);
}

struct block_device *blockdev_add_drive(struct blockdev *b, const struct blockdev_drive *d, GError **error)
{
    bool empty = (!d->file || !*d->file) && !d->node->pairs->len;
    if (d->id && (g_hash_table_contains(b->machine->drives, d->id) || block_find(b->graph, d->id))) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Device with id '%s' already exists", d->id);
        return NULL;
    }
    struct throttle_config limits = { 0 };
    if (d->throttle && !take_limits(d, &limits, error))
        return NULL;
    block_node_auto *n = empty ? NULL : open_drive(b, d, error);
    if (!n && !empty)
        return NULL;
    const struct block_device_options o = { .id = d->id, .write_through = d->write_through, .rerror = (enum block_on_error)d->rerror,
                                            .werror = (enum block_on_error)d->werror };
    struct block_device *drive = enter_drive(b, block_device_create(b->graph, n, &o), d->id);
    const char *group = d->throttle ? keyval_get(d->throttle, "group") : NULL;
    if (throttle_config_on(&limits))
        block_device_set_limits(drive, group ? group : d->id ? d->id : "", &limits);
    else if (group && !block_device_join_limits(drive, group))
        log_warn("-drive: throttling.group=%s: there is no such group with limits yet; the disk has none", group);
    const char *name = n ? keyval_get(d->node, "node-name") : NULL;
    if (name)
        g_hash_table_insert(b->machine->drives, (void *)g_intern_string(name), drive);
    return drive;
}
