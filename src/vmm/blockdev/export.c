/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/blockdev/export.h"

#include <string.h>

#include "base/error.h"
#include "block/bitmap.h"
#include "block/nbd_address.h"
#include "block/nbd_server.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"

struct blockdev_exports {
    struct machine *machine;
    struct block_graph *graph;
    struct nbd_server *server;   /* NULL: none runs */
    GPtrArray *list;             /* struct nbd_export * */
};

static struct blockdev_exports *exports_of(struct blockdev *b)
{
    struct blockdev_exports **x = blockdev_exports(b);
    if (!*x) {
        *x = g_new0(struct blockdev_exports, 1);
        (*x)->machine = blockdev_machine(b);
        (*x)->graph = blockdev_graph(b);
        (*x)->list = g_ptr_array_new();
    }
    return *x;
}

static struct nbd_export *find(const struct blockdev_exports *x, const char *id)
{
    for (guint i = 0; i < x->list->len; i++) {
        if (!strcmp(nbd_export_id(x->list->pdata[i]), id))
            return x->list->pdata[i];
    }
    return NULL;
}

/* ---- the server ---- */

bool blockdev_nbd_running(const struct blockdev *b)
{
    const struct blockdev_exports *x = *blockdev_exports((struct blockdev *)b);
    return x && x->server;
}

bool blockdev_nbd_start(struct blockdev *b, struct keyval *addr, unsigned max_connections, GError **error)
{
    struct blockdev_exports *x = exports_of(b);
    struct nbd_address a;
    if (x->server)
        return vireo_fail(error, VIREO_ERROR_BUSY, "NBD server already running");
    if (!nbd_address_take(addr, true, &a, error))
        return false;
    if (addr->pairs->len)
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is unexpected", ((struct keyval_pair *)addr->pairs->pdata[0])->key);
    else
        x->server = nbd_server_start(&a, max_connections, error);
    nbd_address_clear(&a);
    return x->server;
}

bool blockdev_nbd_stop(struct blockdev *b, GError **error)
{
    struct blockdev_exports *x = exports_of(b);
    if (!x->server)
        return vireo_fail(error, VIREO_ERROR_FAILED, "NBD server not running");
    nbd_server_stop(g_steal_pointer(&x->server));
    return true;
}

void blockdev_exports_end(struct blockdev_exports *x)
{
    if (!x)
        return;
    nbd_server_stop(x->server);
    g_ptr_array_unref(x->list);
    g_free(x);
}

/* ---- exports ---- */

static void set_busy(GPtrArray *bitmaps, bool busy)
{
    for (guint i = 0; bitmaps && i < bitmaps->len; i++)
        block_bitmap_set_busy(bitmaps->pdata[i], busy);
}

static void on_gone(void *opaque, struct nbd_export *e)
{
    struct blockdev_exports *x = opaque;
    g_ptr_array_remove(x->list, e);
    set_busy(nbd_export_bitmaps(e), false);
    machine_post_event(x->machine, "BLOCK_EXPORT_DELETED", json_make("id", json_object_new_string(nbd_export_id(e)), NULL));
}

/* Named: in the node, or in one below it that it reads from. */
static struct block_bitmap *find_bitmap(struct blockdev *b, struct block_node *n, struct json_object *which, GError **error)
{
    const char *name = NULL, *node = NULL;
    if (json_object_is_type(which, json_type_string)) {
        name = json_object_get_string(which);
    } else if (json_object_is_type(which, json_type_object)) {
        name = json_object_get_string(json_object_object_get(which, "name"));
        node = json_object_get_string(json_object_object_get(which, "node"));
    }
    if (!name || (json_object_is_type(which, json_type_object) && !node)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'bitmaps', expected: names, or objects with node and name");
        return NULL;
    }
    if (node) {
        n = blockdev_find_node(b, node, error);
        if (!n)
            return NULL;
    }
    struct block_bitmap *found = NULL;
    for (; n && !found; n = node ? NULL : block_backing(block_skip_filters(n)))
        found = block_bitmap_find(n, name);
    if (!found)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Bitmap '%s' is not found", name);
    return found;
}

static GPtrArray *take_bitmaps(struct blockdev *b, struct block_node *n, const struct blockdev_export *e, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    for (size_t i = 0; e->bitmaps && i < json_object_array_length(e->bitmaps); i++) {
        struct block_bitmap *bitmap = find_bitmap(b, n, json_object_array_get_idx(e->bitmaps, i), error);
        if (!bitmap || !block_bitmap_check(bitmap, BLOCK_BITMAP_READABLE, error))
            return NULL;
        if (!e->writable && !block_node_read_only(block_bitmap_node(bitmap)) && block_bitmap_enabled(bitmap)) {
            vireo_fail(error, VIREO_ERROR_INVALID, "Enabled bitmap '%s' incompatible with readonly export", block_bitmap_name(bitmap));
            return NULL;
        }
        if (!g_ptr_array_find(list, bitmap, NULL))
            g_ptr_array_add(list, bitmap);
    }
    return g_steal_pointer(&list);
}

static bool good_id(const char *id)
{
    if (!g_ascii_isalpha(*id))
        return false;
    while (*++id) {
        if (!g_ascii_isalnum(*id) && !strchr("-._", *id))
            return false;
    }
    return true;
}

static bool take_over(struct blockdev *b, struct block_node *n, GError **error)
{
    block_quiesce(blockdev_graph(b));
    bool ok = block_activate(n, error);
    block_resume(blockdev_graph(b));
    return ok;
}

bool blockdev_export_add(struct blockdev *b, const struct blockdev_export *given, GError **error)
{
    struct blockdev_exports *x = exports_of(b);
    struct blockdev_export e = *given;
    if (!x->server)
        return vireo_fail(error, VIREO_ERROR_FAILED, "NBD server not running");
    if (!e.read_only_falls_back && !good_id(e.id))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid block export id");
    if (find(x, e.id))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Block export id '%s' is already in use", e.id);
    struct block_node *n = e.read_only_falls_back ? blockdev_find_node(b, e.node_name, error) : blockdev_find_either(b, NULL, e.node_name, error);
    if (!n)
        return false;
    if (e.writable && block_node_flags(n) & BLOCK_INACTIVE && !take_over(b, n, error)) /* storage that is copied to an incoming machine */
        return false;
    if (e.writable && block_node_read_only(n)) {
        if (!e.read_only_falls_back)
            return vireo_fail(error, VIREO_ERROR_PERMISSION, "Block node is read-only");
        e.writable = false;
    }
    g_autoptr(GPtrArray) bitmaps = take_bitmaps(b, n, &e, error);
    if (!bitmaps)
        return false;
    const struct nbd_export_options o = { .id = e.id, .name = e.name ? e.name : e.node_name, .description = e.description, .writable = e.writable,
                                          .write_through = e.write_through, .allocation_depth = e.allocation_depth, .bitmaps = bitmaps->len ? bitmaps : NULL };
    struct nbd_export *export = nbd_server_add(x->server, n, &o, on_gone, x, error);
    if (!export)
        return false;
    set_busy(bitmaps, true);
    g_ptr_array_add(x->list, export);
    return true;
}

bool blockdev_export_del(struct blockdev *b, const char *id, bool hard, GError **error)
{
    struct nbd_export *e = find(exports_of(b), id);
    if (!e)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Export '%s' is not found", id);
    if (nbd_export_removed(e))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Export '%s' is already shutting down", id);
    if (!hard && nbd_export_used(e))
        return vireo_fail(error, VIREO_ERROR_BUSY, "export '%s' still in use; use mode='hard' to force client disconnect", id);
    nbd_export_remove(e);
    return true;
}

struct json_object *blockdev_exports_info(struct blockdev *b)
{
    struct blockdev_exports *x = exports_of(b);
    struct json_object *list = json_object_new_array();
    for (guint i = 0; i < x->list->len; i++) {
        const struct nbd_export *e = x->list->pdata[i];
        const struct block_node *n = nbd_export_node(e);
        json_object_array_add(list, json_make("node-name", json_object_new_string(n ? block_node_name(n) : ""), "shutting-down",
                                              json_object_new_boolean(nbd_export_removed(e)), "type", json_object_new_string("nbd"), "id",
                                              json_object_new_string(nbd_export_id(e)), NULL));
    }
    return list;
}
