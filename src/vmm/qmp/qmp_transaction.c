/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be done in a transaction: snapshots, bitmaps, backups. Each is an action with prepare, commit and abort; a command of its
 * own is a transaction of one. All happen with the graph quiet, so that they are of one moment. Jobs start when all have succeeded.
 */
#include <string.h>

#include "base/error.h"
#include "block/bitmap.h"
#include "block/job.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp_block.h"

struct action_type;
struct action {
    const struct action_type *type;
    struct machine *machine;
    struct blockdev *b;
    struct json_object *data;    /* borrowed */
    struct block_job_txn *txn;   /* of completion-mode grouped; NULL */
    struct block_node *node, *overlay; /* referenced */
    struct block_bitmap *bitmap;
    struct block_bitmap_bits *bits;
    struct block_job *job;
    char *text;
    bool was, done;
};
struct action_type {
    const char *name;
    const struct qmp_arg *args;
    bool (*prepare)(struct action *a, GError **error);
    bool (*commit)(struct action *a, GError **error); /* may only fail where nothing of others depends on it */
    void (*abort)(struct action *a);
};

/* ---- snapshots in files of their own ---- */

const struct qmp_arg qmp_blockdev_snapshot_args[] = { { "node", QMP_ARG_STRING }, { "overlay", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_blockdev_snapshot_sync_args[] = { { "device", QMP_ARG_STRING, true }, { "node-name", QMP_ARG_STRING, true }, { "snapshot-file", QMP_ARG_STRING },
                                                           { "snapshot-node-name", QMP_ARG_STRING, true }, { "format", QMP_ARG_STRING, true },
                                                           { "mode", QMP_ARG_STRING, true }, { NULL } };

static bool not_busy(const struct block_node *n, GError **error)
{
    const char *why = block_node_blocked(n);
    return !why || vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", block_node_name(n), why);
}

/* Puts the overlay between the node and its users. */
static bool put_above(struct action *a, GError **error)
{
    if (block_node_size(a->overlay) != block_node_size(a->node) && block_node_size(a->overlay) < block_node_size(a->node))
        return vireo_fail(error, VIREO_ERROR_INVALID, "the overlay '%s' is smaller than '%s'", block_node_name(a->overlay), block_node_name(a->node));
    if (!block_replace_node(a->node, a->overlay, error))
        return false;
    a->done = true;
    if (!block_set_child(a->overlay, "backing", a->node, error))
        return false;
    a->was = !block_node_read_only(a->node);
    if (a->was)
        (void)!block_reopen(a->node, NULL, block_node_flags(a->node) & ~(unsigned)BLOCK_RDWR, NULL);
    return true;
}

static bool snapshot_prepare(struct action *a, GError **error)
{
    const char *name = qmp_text(a->data, "overlay");
    struct block_node *n = blockdev_find_node(a->b, qmp_text(a->data, "node"), error), *overlay = n ? blockdev_find_node(a->b, name, error) : NULL;
    if (!overlay || !not_busy(n, error))
        return false;
    if (blockdev_drive_on(a->b, overlay))
        return vireo_fail(error, VIREO_ERROR_INVALID, "The overlay is already in use");
    if (block_backing(overlay) || block_backing_filename(overlay) ? block_backing(overlay) != NULL : false)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The overlay already has a backing image");
    if (n == overlay)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Making '%s' a backing child of '%s' would create a cycle", name, name);
    a->node = block_node_ref(n);
    a->overlay = block_node_ref(overlay);
    return put_above(a, error);
}

static bool snapshot_sync_prepare(struct action *a, GError **error)
{
    static const char *const modes[] = { "absolute-paths", "existing", NULL };
    const char *file = qmp_text(a->data, "snapshot-file"), *format = qmp_text(a->data, "format"), *name = qmp_text(a->data, "snapshot-node-name");
    struct block_node *n = blockdev_find_either(a->b, qmp_text(a->data, "device"), qmp_text(a->data, "node-name"), error);
    keyval_auto *none = keyval_new(), *options = keyval_new();
    int mode;
    if (!n || !not_busy(n, error) || !qmp_choice(a->data, "mode", modes, 0, &mode, error))
        return false;
    struct block_node *image = block_skip_filters(n);
    if (qmp_text(a->data, "node-name") && !name)
        return vireo_fail(error, VIREO_ERROR_INVALID, "New overlay node-name missing");
    if (name && block_find(blockdev_graph(a->b), name))
        return vireo_fail(error, VIREO_ERROR_INVALID, "New overlay node-name already in use");
    format = format ? format : "qcow2";
    struct block_create c = { .size = block_node_size(n), .options = none, .backing_file = block_node_filename(image), .backing_format = block_node_driver(image) };
    if (mode == 0 && !block_create_image(blockdev_graph(a->b), file, format, &c, error))
        return false;
    if (name)
        keyval_add(options, "node-name", name);
    unsigned flags = block_node_flags(n) & (BLOCK_RDWR | BLOCK_DIRECT | BLOCK_NO_FLUSH | BLOCK_UNMAP | BLOCK_AIO_NATIVE | BLOCK_AIO_IO_URING);
    a->node = block_node_ref(n);
    a->overlay = block_open_filename(blockdev_graph(a->b), file, format, options, flags | BLOCK_NO_BACKING, error);
    return a->overlay && put_above(a, error);
}

static void snapshot_abort(struct action *a)
{
    if (!a->done)
        return;
    if (a->was)
        (void)!block_reopen(a->node, NULL, block_node_flags(a->node) | BLOCK_RDWR, NULL);
    (void)!block_set_child(a->overlay, "backing", NULL, NULL);
    (void)!block_replace_node(a->overlay, a->node, NULL);
}

/* ---- snapshots inside the image ---- */

const struct qmp_arg qmp_blockdev_snapshot_internal_sync_args[] = { { "device", QMP_ARG_STRING }, { "name", QMP_ARG_STRING }, { NULL } };

static bool has_snapshot(struct block_node *n, const char *name, GError **error)
{
    GPtrArray *list = block_snapshot_list(n, NULL);
    bool found = false;
    for (guint i = 0; list && i < list->len; i++)
        found |= !g_strcmp0(((const struct block_snapshot *)list->pdata[i])->name, name);
    if (list)
        g_ptr_array_unref(list);
    return found && !vireo_fail(error, VIREO_ERROR_INVALID, "Snapshot with name '%s' already exists on device '%s'", name, block_node_name(n));
}

static bool internal_prepare(struct action *a, GError **error)
{
    const char *name = qmp_text(a->data, "name");
    struct block_node *n = blockdev_find_node(a->b, qmp_text(a->data, "device"), error), *image = block_skip_filters(n);
    gint64 now = g_get_real_time();
    if (!n || !not_busy(n, error))
        return false;
    if (!*name)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Name is empty");
    if (has_snapshot(image, name, error))
        return false;
    const struct block_snapshot s = { .name = (char *)name, .date_sec = (uint64_t)now / G_USEC_PER_SEC, .date_nsec = (uint64_t)now % G_USEC_PER_SEC * 1000,
                                      .vm_clock_nsec = a->machine->clock ? (uint64_t)vclock_now(a->machine->clock) : 0, .icount = UINT64_MAX };
    a->node = block_node_ref(image);
    a->text = g_strdup(name);
    return a->done = block_snapshot_create(image, &s, error);
}

static void internal_abort(struct action *a)
{
    if (a->done)
        (void)!block_snapshot_delete(a->node, a->text, NULL);
}

const struct qmp_arg qmp_blockdev_snapshot_delete_internal_sync_args[] = { { "device", QMP_ARG_STRING }, { "id", QMP_ARG_STRING, true }, { "name", QMP_ARG_STRING, true },
                                                                           { NULL } };
struct json_object *qmp_blockdev_snapshot_delete_internal_sync(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    const char *id = qmp_text(args, "id"), *name = qmp_text(args, "name");
    struct block_node *n = b ? blockdev_find_node(b, qmp_text(args, "device"), error) : NULL, *image = block_skip_filters(n);
    struct json_object *info = NULL;
    if (!n || !not_busy(n, error))
        return NULL;
    if (!id && !name) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Name or id must be provided");
        return NULL;
    }
    block_quiesce(blockdev_graph(b));
    GPtrArray *list = block_snapshot_list(image, error);
    const struct block_snapshot *found = NULL;
    for (guint i = 0; list && i < list->len && !found; i++) {
        const struct block_snapshot *s = list->pdata[i];
        if ((!id || !g_strcmp0(s->id, id)) && (!name || !g_strcmp0(s->name, name)))
            found = s;
    }
    if (list && !found)
        vireo_fail(error, VIREO_ERROR_INVALID, "Snapshot with id '%s' and name '%s' does not exist on device '%s'", id ? id : "(null)", name ? name : "(null)",
                   qmp_text(args, "device"));
    if (found && block_snapshot_delete(image, found->id ? found->id : found->name, error)) {
        info = json_make("vm-clock-nsec", json_object_new_int64((int64_t)(found->vm_clock_nsec % 1000000000)), "name", json_object_new_string(found->name),
                         "date-sec", json_object_new_int64((int64_t)found->date_sec), "date-nsec", json_object_new_int64((int64_t)found->date_nsec), "vm-clock-sec",
                         json_object_new_int64((int64_t)(found->vm_clock_nsec / 1000000000)), "id", json_object_new_string(found->id), "vm-state-size",
                         json_object_new_int64((int64_t)found->vm_state_size), NULL);
        if (found->icount != UINT64_MAX)
            json_object_object_add(info, "icount", json_object_new_int64((int64_t)found->icount));
    }
    if (list)
        g_ptr_array_unref(list);
    block_resume(blockdev_graph(b));
    return info;
}

/* ---- bitmaps ---- */

const struct qmp_arg qmp_block_dirty_bitmap_add_args[] = { { "node", QMP_ARG_STRING }, { "name", QMP_ARG_STRING }, { "granularity", QMP_ARG_INT, true },
                                                           { "persistent", QMP_ARG_BOOL, true }, { "disabled", QMP_ARG_BOOL, true }, { NULL } };
#define BITMAP_ARGS { { "node", QMP_ARG_STRING }, { "name", QMP_ARG_STRING }, { NULL } }
const struct qmp_arg qmp_block_dirty_bitmap_remove_args[] = BITMAP_ARGS;
const struct qmp_arg qmp_block_dirty_bitmap_clear_args[] = BITMAP_ARGS;
const struct qmp_arg qmp_block_dirty_bitmap_enable_args[] = BITMAP_ARGS;
const struct qmp_arg qmp_block_dirty_bitmap_disable_args[] = BITMAP_ARGS;
const struct qmp_arg qmp_block_dirty_bitmap_merge_args[] = { { "node", QMP_ARG_STRING }, { "target", QMP_ARG_STRING }, { "bitmaps", QMP_ARG_ARRAY }, { NULL } };

static struct block_bitmap *find_bitmap(struct action *a, const char *node, const char *name, unsigned refuse, GError **error)
{
    struct block_node *n = node ? blockdev_find_node(a->b, node, error) : NULL;
    struct block_bitmap *bitmap = n && name ? block_bitmap_find(n, name) : NULL;
    if (n && !bitmap)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Dirty bitmap '%s' not found", name ? name : "");
    return bitmap && block_bitmap_check(bitmap, refuse, error) ? bitmap : NULL;
}

static bool add_prepare(struct action *a, GError **error)
{
    const char *name = qmp_text(a->data, "name");
    struct block_node *n = blockdev_find_node(a->b, qmp_text(a->data, "node"), error);
    int64_t granularity = qmp_number(a->data, "granularity", 0);
    bool persistent = qmp_flag(a->data, "persistent", false);
    if (!n)
        return false;
    if (!*name)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap name cannot be empty");
    if (json_object_object_get(a->data, "granularity") && (granularity < 512 || granularity & (granularity - 1)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Granularity must be a power of 2 and at least 512");
    if (granularity > BLOCK_BITMAP_MAX_GRANULARITY)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Granularity is too large");
    uint32_t grain = granularity ? (uint32_t)granularity : block_bitmap_default_granularity(n);
    if (persistent && !block_bitmap_check_persistent(n, name, grain, error))
        return false;
    a->bitmap = block_bitmap_create(n, name, grain, error);
    if (!a->bitmap)
        return false;
    block_bitmap_set_enabled(a->bitmap, !qmp_flag(a->data, "disabled", false));
    block_bitmap_set_persistent(a->bitmap, persistent);
    return true;
}

static void add_abort(struct action *a)
{
    block_bitmap_release(a->bitmap);
}

static bool remove_prepare(struct action *a, GError **error)
{
    a->bitmap = find_bitmap(a, qmp_text(a->data, "node"), qmp_text(a->data, "name"), BLOCK_BITMAP_BUSY | BLOCK_BITMAP_READ_ONLY, error);
    return a->bitmap != NULL;
}

static bool remove_commit(struct action *a, GError **error)
{
    return block_bitmap_remove(a->bitmap, error);
}

static bool change_prepare(struct action *a, GError **error)
{
    a->bitmap = find_bitmap(a, qmp_text(a->data, "node"), qmp_text(a->data, "name"), BLOCK_BITMAP_USABLE, error);
    a->was = a->bitmap && block_bitmap_enabled(a->bitmap);
    return a->bitmap != NULL;
}

static bool clear_prepare(struct action *a, GError **error)
{
    if (!change_prepare(a, error))
        return false;
    a->bits = block_bitmap_save(a->bitmap);
    block_bitmap_clear(a->bitmap);
    return true;
}

static void bits_abort(struct action *a)
{
    if (a->bits)
        block_bitmap_restore(a->bitmap, g_steal_pointer(&a->bits));
}

static bool enable_prepare(struct action *a, GError **error)
{
    if (!change_prepare(a, error))
        return false;
    block_bitmap_set_enabled(a->bitmap, true);
    return true;
}

static bool disable_prepare(struct action *a, GError **error)
{
    if (!change_prepare(a, error))
        return false;
    block_bitmap_set_enabled(a->bitmap, false);
    return true;
}

static void enabled_abort(struct action *a)
{
    if (a->bitmap)
        block_bitmap_set_enabled(a->bitmap, a->was);
}

static bool merge_prepare(struct action *a, GError **error)
{
    struct json_object *list = json_object_object_get(a->data, "bitmaps");
    a->bitmap = find_bitmap(a, qmp_text(a->data, "node"), qmp_text(a->data, "target"), BLOCK_BITMAP_USABLE, error);
    if (!a->bitmap)
        return false;
    a->bits = block_bitmap_save(a->bitmap);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        bool object = json_object_is_type(o, json_type_object);
        if (!object && !json_object_is_type(o, json_type_string))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'bitmaps', expected: a name, or an object with node and name");
        struct block_bitmap *from = object ? find_bitmap(a, qmp_text(o, "node"), qmp_text(o, "name"), BLOCK_BITMAP_READABLE, error)
                                           : find_bitmap(a, qmp_text(a->data, "node"), json_object_get_string(o), BLOCK_BITMAP_READABLE, error);
        if (!from && error && !*error)
            vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'node' is missing");
        if (!from || !block_bitmap_merge(a->bitmap, from, error))
            return false;
    }
    return true;
}

/* ---- backup, and abort by itself ---- */

static bool blockdev_backup_prepare(struct action *a, GError **error)
{
    a->job = qmp_backup(a->b, a->data, false, true, a->txn, error);
    return a->job != NULL;
}

static bool drive_backup_prepare(struct action *a, GError **error)
{
    a->job = qmp_backup(a->b, a->data, true, true, a->txn, error);
    return a->job != NULL;
}

static bool job_commit(struct action *a, GError **error)
{
    block_job_start(a->job);
    return true;
}

static void job_abort(struct action *a)
{
    if (a->job)
        block_job_discard(a->job);
}

static bool abort_prepare(struct action *a, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_FAILED, "Transaction aborted using Abort action");
}

static const struct qmp_arg no_args[] = { { NULL } };
static const struct action_type types[] = {
    { "abort", no_args, abort_prepare },
    { "blockdev-snapshot", qmp_blockdev_snapshot_args, snapshot_prepare, NULL, snapshot_abort },
    { "blockdev-snapshot-sync", qmp_blockdev_snapshot_sync_args, snapshot_sync_prepare, NULL, snapshot_abort },
    { "blockdev-snapshot-internal-sync", qmp_blockdev_snapshot_internal_sync_args, internal_prepare, NULL, internal_abort },
    { "block-dirty-bitmap-add", qmp_block_dirty_bitmap_add_args, add_prepare, NULL, add_abort },
    { "block-dirty-bitmap-remove", qmp_block_dirty_bitmap_remove_args, remove_prepare, remove_commit },
    { "block-dirty-bitmap-clear", qmp_block_dirty_bitmap_clear_args, clear_prepare, NULL, bits_abort },
    { "block-dirty-bitmap-enable", qmp_block_dirty_bitmap_enable_args, enable_prepare, NULL, enabled_abort },
    { "block-dirty-bitmap-disable", qmp_block_dirty_bitmap_disable_args, disable_prepare, NULL, enabled_abort },
    { "block-dirty-bitmap-merge", qmp_block_dirty_bitmap_merge_args, merge_prepare, NULL, bits_abort },
    { "blockdev-backup", qmp_blockdev_backup_args, blockdev_backup_prepare, job_commit, job_abort },
    { "drive-backup", qmp_drive_backup_args, drive_backup_prepare, job_commit, job_abort },
};

/* ---- several of them ---- */

static void action_free(void *opaque)
{
    struct action *a = opaque;
    block_node_unref(a->node);
    block_node_unref(a->overlay);
    block_bitmap_bits_free(a->bits);
    g_free(a->text);
    g_free(a);
}

static bool run_all(struct blockdev *b, GPtrArray *actions, GError **error)
{
    guint done = 0;
    bool ok = true;
    block_quiesce(blockdev_graph(b));
    while (ok && done < actions->len) {
        struct action *a = actions->pdata[done++];
        ok = a->type->prepare(a, error);
    }
    for (guint i = done; !ok && i-- > 0;) {
        struct action *a = actions->pdata[i];
        if (a->type->abort)
            a->type->abort(a);
    }
    for (guint i = 0; ok && i < actions->len; i++) {
        struct action *a = actions->pdata[i];
        if (a->type->commit && !a->type->commit(a, error))
            ok = false;
    }
    g_ptr_array_unref(actions); /* the last reference to a node may go: quiet */
    block_resume(blockdev_graph(b));
    return ok;
}

static const struct action_type *find_type(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if (!g_strcmp0(types[i].name, name))
            return &types[i];
    }
    return NULL;
}

static struct action *action_new(struct machine *m, const struct action_type *t, struct json_object *data, struct block_job_txn *txn)
{
    struct action *a = g_new0(struct action, 1);
    *a = (struct action){ .type = t, .machine = m, .b = m->blockdev, .data = data, .txn = txn };
    return a;
}

static struct json_object *run_one(struct machine *m, const char *name, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    GPtrArray *actions = b ? g_ptr_array_new_with_free_func(action_free) : NULL;
    if (!b)
        return NULL;
    g_ptr_array_add(actions, action_new(m, find_type(name), args, NULL));
    (void)!run_all(b, actions, error);
    return NULL;
}

#define ACTION_COMMAND(function, name)                                                                                     \
    struct json_object *qmp_##function(struct machine *m, struct json_object *args, GError **error)                         \
    {                                                                                                                      \
        return run_one(m, name, args, error);                                                                              \
    }
ACTION_COMMAND(blockdev_snapshot, "blockdev-snapshot")
ACTION_COMMAND(blockdev_snapshot_sync, "blockdev-snapshot-sync")
ACTION_COMMAND(blockdev_snapshot_internal_sync, "blockdev-snapshot-internal-sync")
ACTION_COMMAND(block_dirty_bitmap_add, "block-dirty-bitmap-add")
ACTION_COMMAND(block_dirty_bitmap_remove, "block-dirty-bitmap-remove")
ACTION_COMMAND(block_dirty_bitmap_clear, "block-dirty-bitmap-clear")
ACTION_COMMAND(block_dirty_bitmap_enable, "block-dirty-bitmap-enable")
ACTION_COMMAND(block_dirty_bitmap_disable, "block-dirty-bitmap-disable")
ACTION_COMMAND(block_dirty_bitmap_merge, "block-dirty-bitmap-merge")

static bool add_action(struct machine *m, GPtrArray *actions, struct json_object *o, struct block_job_txn *txn, GError **error)
{
    if (!json_object_is_type(o, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'actions', expected: object");
    struct json_object *type = json_object_object_get(o, "type"), *data = json_object_object_get(o, "data");
    const struct action_type *t = json_object_is_type(type, json_type_string) ? find_type(json_object_get_string(type)) : NULL;
    if (!t)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'type' does not accept value '%s'", type ? json_object_get_string(type) : "");
    if (!json_object_is_type(data, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'data' is missing");
    if (!qmp_check_args(t->args, data, error))
        return false;
    g_ptr_array_add(actions, action_new(m, t, data, txn));
    return true;
}

const struct qmp_arg qmp_transaction_args[] = { { "actions", QMP_ARG_ARRAY }, { "properties", QMP_ARG_OBJECT, true }, { NULL } };
struct json_object *qmp_transaction(struct machine *m, struct json_object *args, GError **error)
{
    static const char *const modes[] = { "individual", "grouped", NULL };
    struct blockdev *b = qmp_blockdev(m, error);
    struct json_object *list = json_object_object_get(args, "actions");
    int mode;
    if (!b || !qmp_choice(json_object_object_get(args, "properties"), "completion-mode", modes, 0, &mode, error))
        return NULL;
    GPtrArray *actions = g_ptr_array_new_with_free_func(action_free);
    struct block_job_txn *txn = mode ? block_job_txn_new() : NULL;
    bool ok = true;
    for (size_t i = 0; ok && i < json_object_array_length(list); i++)
        ok = add_action(m, actions, json_object_array_get_idx(list, i), txn, error);
    if (ok)
        (void)!run_all(b, actions, error);
    else
        g_ptr_array_unref(actions);
    block_job_txn_unref(txn);
    return NULL;
}
