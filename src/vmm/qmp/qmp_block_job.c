/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that start block jobs. */
#include <string.h>

#include "base/error.h"
#include "block/bitmap.h"
#include "block/job.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp_block.h"

/* ---- what they have in common ---- */

#define JOB_ARGS { "job-id", QMP_ARG_STRING, true }, { "speed", QMP_ARG_INT, true }, { "auto-finalize", QMP_ARG_BOOL, true }, { "auto-dismiss", QMP_ARG_BOOL, true }
#define ON_ERROR_ARGS { "on-source-error", QMP_ARG_STRING, true }, { "on-target-error", QMP_ARG_STRING, true }

static const char *const on_error_names[] = { [BLOCK_ON_ERROR_REPORT] = "report", [BLOCK_ON_ERROR_IGNORE] = "ignore", [BLOCK_ON_ERROR_STOP] = "stop",
                                              [BLOCK_ON_ERROR_ENOSPC] = "enospc", "auto", NULL };
static const char *const mode_names[] = { "absolute-paths", "existing", NULL };

static bool on_error(struct json_object *args, const char *name, enum block_on_error *ret, GError **error)
{
    int value;
    if (!qmp_choice(args, name, on_error_names, BLOCK_ON_ERROR_REPORT, &value, error))
        return false;
    *ret = value > BLOCK_ON_ERROR_ENOSPC ? BLOCK_ON_ERROR_REPORT : (enum block_on_error)value;
    return true;
}

bool qmp_job_options(struct blockdev *b, struct json_object *args, const struct block_node *n, struct block_job_options *ret, GError **error)
{
    int64_t speed = qmp_number(args, "speed", 0);
    struct block_device *drive = n ? blockdev_drive_on(b, n) : NULL;
    *ret = (struct block_job_options){ .id = qmp_text(args, "job-id"), .manual_finalize = !qmp_flag(args, "auto-finalize", true),
                                       .manual_dismiss = !qmp_flag(args, "auto-dismiss", true), .speed = (uint64_t)speed };
    if (!ret->id && drive)
        ret->id = block_device_options(drive)->id;
    return speed >= 0 || vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'speed' expects a non-negative value");
}

/* The image in the chain below n (n too) that is called `file`, as a user or as the image above names it. */
static struct block_node *find_in_chain(struct block_node *n, const char *file)
{
    for (struct block_node *above = NULL; n; above = n, n = block_skip_filters(block_backing(n))) {
        const char *named = above ? block_backing_filename(above) : NULL;
        n = block_skip_filters(n);
        if (!g_strcmp0(block_node_filename(n), file) || !g_strcmp0(named, file))
            return n;
    }
    return NULL;
}

/* The node of that name when it is in the chain below n (n too). */
static struct block_node *named_in_chain(struct block_node *n, const char *name)
{
    for (; n; n = block_backing(block_skip_filters(n))) {
        if (!strcmp(block_node_name(n), name) || !strcmp(block_node_name(block_skip_filters(n)), name))
            return n;
    }
    return NULL;
}

/* One of two arguments: a file name or a node's name. NULL without error when neither is given. */
static struct block_node *in_chain(struct block_node *active, struct json_object *args, const char *file_key, const char *node_key, GError **error)
{
    const char *file = qmp_text(args, file_key), *name = qmp_text(args, node_key);
    struct block_node *n = name ? named_in_chain(active, name) : file ? find_in_chain(active, file) : NULL;
    if (file && name)
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' and '%s' are mutually exclusive", node_key, file_key);
    else if ((file || name) && !n)
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in this backing file chain", file ? file : name);
    return file && name ? NULL : n;
}

/* ---- commit and stream ---- */

const struct qmp_arg qmp_block_commit_args[] = {
    { "device", QMP_ARG_STRING }, { "base-node", QMP_ARG_STRING, true }, { "base", QMP_ARG_STRING, true }, { "top-node", QMP_ARG_STRING, true },
    { "top", QMP_ARG_STRING, true }, { "backing-file", QMP_ARG_STRING, true }, { "on-error", QMP_ARG_STRING, true }, { "filter-node-name", QMP_ARG_STRING, true },
    JOB_ARGS, { NULL }
};
struct json_object *qmp_block_commit(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_node *active = b ? blockdev_find_node(b, qmp_text(args, "device"), error) : NULL;
    struct block_job_options o;
    GError *e = NULL;
    struct block_commit c = { .active = active, .backing_file = qmp_text(args, "backing-file") };
    if (!active || !on_error(args, "on-error", &c.on_error, error) || !qmp_job_options(b, args, active, &o, error))
        return NULL;
    c.top = in_chain(active, args, "top", "top-node", &e);
    if (!e && !c.top)
        c.top = active;
    if (!e)
        c.base = in_chain(c.top, args, "base", "base-node", &e);
    if (e) {
        g_propagate_error(error, e);
        return NULL;
    }
    for (struct block_node *n = c.top; n && !qmp_text(args, "base") && !qmp_text(args, "base-node"); n = block_backing(block_skip_filters(n)))
        c.base = n;
    if (!c.base || block_skip_filters(c.base) == block_skip_filters(c.top))
        vireo_fail(error, VIREO_ERROR_INVALID, "cannot commit an image into itself");
    else if (c.backing_file && block_skip_filters(c.top) == block_skip_filters(active))
        vireo_fail(error, VIREO_ERROR_INVALID, "'backing-file' specified, but 'top' is the active layer");
    else
        (void)block_job_commit(blockdev_jobs(b), &o, &c, error);
    return NULL;
}

const struct qmp_arg qmp_block_stream_args[] = {
    { "device", QMP_ARG_STRING }, { "base", QMP_ARG_STRING, true }, { "base-node", QMP_ARG_STRING, true }, { "backing-file", QMP_ARG_STRING, true },
    { "bottom", QMP_ARG_STRING, true }, { "on-error", QMP_ARG_STRING, true }, { "filter-node-name", QMP_ARG_STRING, true }, JOB_ARGS, { NULL }
};
struct json_object *qmp_block_stream(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_node *n = b ? blockdev_find_node(b, qmp_text(args, "device"), error) : NULL;
    struct block_job_options o;
    GError *e = NULL;
    struct block_stream s = { .node = n, .backing_file = qmp_text(args, "backing-file") };
    if (!n || !on_error(args, "on-error", &s.on_error, error) || !qmp_job_options(b, args, n, &o, error))
        return NULL;
    const char *bottom = qmp_text(args, "bottom");
    s.base = in_chain(n, args, "base", "base-node", &e);
    struct block_node *last = !e && bottom ? named_in_chain(n, bottom) : NULL;
    if (!e && bottom && (qmp_text(args, "base") || qmp_text(args, "base-node")))
        vireo_fail(&e, VIREO_ERROR_INVALID, "'bottom' and 'base' are mutually exclusive");
    else if (!e && bottom && !last)
        vireo_fail(&e, VIREO_ERROR_INVALID, "Node '%s' is not in this backing file chain", bottom);
    else if (last)
        s.base = block_backing(block_skip_filters(last));
    if (!e && s.base && block_skip_filters(s.base) == block_skip_filters(n))
        vireo_fail(&e, VIREO_ERROR_INVALID, "'base' is the image itself: there is nothing to stream");
    if (!e && !s.base && s.backing_file)
        vireo_fail(&e, VIREO_ERROR_INVALID, "backing file specified, but streaming the entire chain");
    if (e)
        g_propagate_error(error, e);
    else
        (void)block_job_stream(blockdev_jobs(b), &o, &s, error);
    return NULL;
}

/* ---- mirror ---- */

#define MIRROR_ARGS { "device", QMP_ARG_STRING }, { "target", QMP_ARG_STRING }, { "replaces", QMP_ARG_STRING, true }, { "sync", QMP_ARG_STRING },                     \
    { "granularity", QMP_ARG_INT, true }, { "buf-size", QMP_ARG_INT, true }, { "copy-mode", QMP_ARG_STRING, true }, ON_ERROR_ARGS, JOB_ARGS
static const char *const sync_names[] = { [BLOCK_SYNC_TOP] = "top", [BLOCK_SYNC_FULL] = "full", [BLOCK_SYNC_NONE] = "none", [BLOCK_SYNC_INCREMENTAL] = "incremental",
                                          [BLOCK_SYNC_BITMAP] = "bitmap", NULL };

static bool read_sync(struct json_object *args, enum block_sync *ret, GError **error)
{
    int value;
    if (!qmp_choice(args, "sync", sync_names, 0, &value, error))
        return false;
    *ret = (enum block_sync)value;
    return true;
}

/* Everything but the target. */
static bool read_mirror(struct blockdev *b, struct json_object *args, struct block_mirror *w, struct block_job_options *o, GError **error)
{
    static const char *const copy_modes[] = { "background", "write-blocking", NULL };
    const char *replaces = qmp_text(args, "replaces");
    int64_t granularity = qmp_number(args, "granularity", 0);
    int copy_mode;
    w->source = blockdev_find_node(b, qmp_text(args, "device"), error);
    if (!w->source || !read_sync(args, &w->sync, error) || !qmp_choice(args, "copy-mode", copy_modes, 0, &copy_mode, error) ||
        !on_error(args, "on-source-error", &w->errors.source, error) || !on_error(args, "on-target-error", &w->errors.target, error) ||
        !qmp_job_options(b, args, w->source, o, error))
        return false;
    if (w->sync > BLOCK_SYNC_NONE)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Sync mode '%s' not supported", sync_names[w->sync]);
    if (granularity < 0 || granularity > 64 << 20 || (granularity && granularity < 512))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'granularity' expects a value in range [512B, 64MB]");
    if (replaces && !(w->replaces = block_find(blockdev_graph(b), replaces)))
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Failed to find node with node-name='%s'", replaces);
    w->granularity = (uint32_t)granularity;
    w->write_blocking = copy_mode == 1;
    return true;
}

const struct qmp_arg qmp_blockdev_mirror_args[] = { MIRROR_ARGS, { "filter-node-name", QMP_ARG_STRING, true }, { NULL } };
struct json_object *qmp_blockdev_mirror(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_mirror w = { 0 };
    struct block_job_options o;
    if (!b || !read_mirror(b, args, &w, &o, error) || !(w.target = blockdev_find_node(b, qmp_text(args, "target"), error)))
        return NULL;
    if (blockdev_drive_on(b, w.target))
        vireo_fail(error, VIREO_ERROR_BUSY, "Cannot mirror to an attached block device");
    else
        (void)block_job_mirror(blockdev_jobs(b), &o, &w, error);
    return NULL;
}

/* The node of drive-mirror and drive-backup, made when `mode` says so. Referenced. */
static struct block_node *open_target(struct blockdev *b, struct json_object *args, struct block_node *source, enum block_sync sync, bool chain, GError **error)
{
    const char *file = qmp_text(args, "target"), *format = qmp_text(args, "format"), *name = qmp_text(args, "node-name");
    struct block_node *top = block_skip_filters(source), *backing = sync == BLOCK_SYNC_TOP ? block_skip_filters(block_backing(top)) : sync == BLOCK_SYNC_NONE ? top : NULL;
    keyval_auto *none = keyval_new(), *options = keyval_new();
    int mode;
    if (!qmp_choice(args, "mode", mode_names, 0, &mode, error))
        return NULL;
    struct block_create c = { .size = block_node_size(source), .options = none, .backing_file = backing ? block_node_filename(backing) : NULL,
                              .backing_format = backing ? block_node_driver(backing) : NULL };
    if (!format && mode == 0)
        format = block_node_driver(top);
    if (mode == 0 && !block_create_image(blockdev_graph(b), file, format, &c, error))
        return NULL;
    if (name)
        keyval_add(options, "node-name", name);
    unsigned flags = block_node_flags(source) & (BLOCK_DIRECT | BLOCK_NO_FLUSH | BLOCK_AIO_NATIVE | BLOCK_AIO_IO_URING);
    return block_open_filename(blockdev_graph(b), file, format, options, flags | BLOCK_RDWR | BLOCK_UNMAP | (chain ? 0 : BLOCK_NO_BACKING), error);
}

const struct qmp_arg qmp_drive_mirror_args[] = { MIRROR_ARGS, { "format", QMP_ARG_STRING, true }, { "node-name", QMP_ARG_STRING, true }, { "mode", QMP_ARG_STRING, true },
                                                 { "unmap", QMP_ARG_BOOL, true }, { NULL } };
struct json_object *qmp_drive_mirror(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_mirror w = { 0 };
    struct block_job_options o;
    if (!b || !read_mirror(b, args, &w, &o, error))
        return NULL;
    if (!o.id || block_job_find(blockdev_jobs(b), o.id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, o.id ? "Job ID '%s' already in use" : "An explicit job ID is required for this node", o.id);
        return NULL;
    }
    if (block_node_blocked(w.source)) {
        vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", block_node_name(w.source), block_node_blocked(w.source));
        return NULL;
    }
    block_node_auto *target = open_target(b, args, w.source, w.sync, false, error);
    w.target = target;
    w.backing_after = w.sync == BLOCK_SYNC_TOP ? block_backing(block_skip_filters(w.source)) : w.sync == BLOCK_SYNC_NONE ? w.source : NULL;
    if (target)
        (void)block_job_mirror(blockdev_jobs(b), &o, &w, error);
    return NULL;
}

/* ---- backup: an action of transactions too (qmp_transaction.c) ---- */

struct block_job *qmp_backup(struct blockdev *b, struct json_object *args, bool drive, bool hold, struct block_job_txn *txn, GError **error)
{
    static const char *const modes[] = { [BLOCK_BITMAP_ON_SUCCESS] = "on-success", [BLOCK_BITMAP_NEVER] = "never", [BLOCK_BITMAP_ALWAYS] = "always", NULL };
    const char *bitmap = qmp_text(args, "bitmap");
    struct block_backup w = { .source = blockdev_find_node(b, qmp_text(args, "device"), error), .compress = qmp_flag(args, "compress", false) };
    struct block_job_options o;
    int mode;
    if (!w.source || !read_sync(args, &w.sync, error) || !qmp_choice(args, "bitmap-mode", modes, -1, &mode, error) ||
        !on_error(args, "on-source-error", &w.errors.source, error) || !on_error(args, "on-target-error", &w.errors.target, error) ||
        !qmp_job_options(b, args, w.source, &o, error))
        return NULL;
    o.hold = hold;
    o.txn = txn;
    if (w.sync == BLOCK_SYNC_INCREMENTAL && mode > BLOCK_BITMAP_ON_SUCCESS) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
        return NULL;
    }
    if (bitmap && mode < 0 && w.sync != BLOCK_SYNC_INCREMENTAL) {
        vireo_fail(error, VIREO_ERROR_INVALID, w.sync == BLOCK_SYNC_BITMAP ? "Bitmap sync mode must be given when providing a bitmap"
                                                                          : "Sync mode '%s' does not go with a bitmap; use bitmap or incremental", sync_names[w.sync]);
        return NULL;
    }
    w.mode = mode < 0 ? BLOCK_BITMAP_ON_SUCCESS : (enum block_bitmap_mode)mode;
    if (bitmap && !(w.bitmap = block_bitmap_find(w.source, bitmap))) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Bitmap '%s' could not be found", bitmap);
        return NULL;
    }
    if (!o.id || block_job_find(blockdev_jobs(b), o.id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, o.id ? "Job ID '%s' already in use" : "An explicit job ID is required for this node", o.id);
        return NULL;
    }
    block_node_auto *opened = drive ? open_target(b, args, w.source, w.sync, true, error) : NULL;
    w.target = drive ? opened : blockdev_find_node(b, qmp_text(args, "target"), error);
    return w.target ? block_job_backup(blockdev_jobs(b), &o, &w, error) : NULL;
}

#define BACKUP_ARGS { "device", QMP_ARG_STRING }, { "target", QMP_ARG_STRING }, { "sync", QMP_ARG_STRING }, { "bitmap", QMP_ARG_STRING, true },                       \
    { "bitmap-mode", QMP_ARG_STRING, true }, { "compress", QMP_ARG_BOOL, true }, { "filter-node-name", QMP_ARG_STRING, true }, { "x-perf", QMP_ARG_OBJECT, true },     \
    ON_ERROR_ARGS, JOB_ARGS
const struct qmp_arg qmp_blockdev_backup_args[] = { BACKUP_ARGS, { NULL } };
const struct qmp_arg qmp_drive_backup_args[] = { BACKUP_ARGS, { "format", QMP_ARG_STRING, true }, { "mode", QMP_ARG_STRING, true }, { NULL } };

struct json_object *qmp_blockdev_backup(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    if (b)
        (void)qmp_backup(b, args, false, false, NULL, error);
    return NULL;
}

struct json_object *qmp_drive_backup(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    if (b)
        (void)qmp_backup(b, args, true, false, NULL, error);
    return NULL;
}

/* ---- blockdev-create ---- */

struct create {
    struct block_graph *graph;
    char *driver;
    struct keyval *options;
};

static void create_free(void *opaque)
{
    struct create *c = opaque;
    g_free(c->driver);
    keyval_free(c->options);
    g_free(c);
}

/* Names of BlockdevCreateOptions that differ from those of qemu-img -o. */
static void rename_options(struct keyval *kv)
{
    static const char *const names[][2] = { { "cluster-size", "cluster_size" }, { "lazy-refcounts", "lazy_refcounts" }, { "refcount-bits", "refcount_bits" },
                                            { "extended-l2", "extended_l2" }, { "compression-type", "compression_type" }, { "data-file-raw", "data_file_raw" },
                                            { "version", "compat" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = keyval_take(kv, names[i][0]);
        if (!value)
            continue;
        const char *v = strcmp(names[i][0], "version") ? value : !strcmp(value, "v2") ? "0.10" : !strcmp(value, "v3") ? "1.1" : value;
        keyval_add(kv, names[i][1], v);
    }
}

static bool create_run(void *opaque, GError **error)
{
    struct create *c = opaque;
    g_autofree char *size = keyval_take(c->options, "size"), *backing = keyval_take(c->options, "backing-file"), *format = keyval_take(c->options, "backing-fmt"),
                    *file = keyval_take(c->options, "file"), *filename = keyval_take(c->options, "filename");
    struct block_create w = { .options = c->options, .backing_file = backing, .backing_format = format };
    if (!size || !keyval_size("size", size, 1, &w.size, error))
        return size ? false : vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'size' is missing");
    if (!block_driver_find(c->driver))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unknown driver '%s'", c->driver);
    if (filename)
        return block_create_image(c->graph, filename, "raw", &w, error);
    if (!file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'file' is missing");
    struct block_node *n = block_find(c->graph, file);
    if (!n)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find device='' nor node-name='%s'", file);
    if (block_node_blocked(n))
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", file, block_node_blocked(n));
    rename_options(c->options);
    block_quiesce(c->graph);
    bool ok = block_format_node(n, c->driver, &w, error);
    int err = ok ? block_flush(n) : 0;
    block_resume(c->graph);
    return ok && (!err || vireo_fail_errno(error, err, "cannot write to '%s'", file));
}

const struct qmp_arg qmp_blockdev_create_args[] = { { "job-id", QMP_ARG_STRING }, { "options", QMP_ARG_OBJECT }, { NULL } };
struct json_object *qmp_blockdev_create(struct machine *m, struct json_object *args, GError **error)
{
    struct blockdev *b = qmp_blockdev(m, error);
    struct block_job_options o = { .id = qmp_text(args, "job-id"), .manual_dismiss = true };
    if (!b)
        return NULL;
    struct create *c = g_new0(struct create, 1);
    c->graph = blockdev_graph(b);
    c->options = keyval_new();
    if (json_flatten_object(json_object_object_get(args, "options"), c->options, error) && (c->driver = keyval_take(c->options, "driver")))
        (void)block_job_call(blockdev_jobs(b), &o, "create", create_run, c, create_free, true, error);
    else {
        if (error && !*error)
            vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'driver' is missing");
        create_free(c);
    }
    return NULL;
}
