/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An external snapshot is deleted: what its overlays have goes into the images below them, and their files go. With a running machine by its block jobs; of a
 * shut-off domain here, image by image: the data first, then the name that the image above has of it, or the definition.
 */
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

#include <string.h>
#include <unistd.h>

#include "block/node.h"
#include "manage/drivers/domain/stats/domain_stats.h"

enum { PIECE = 1 << 20 };

/* ---- shut off ---- */

static int copy_piece(struct block_node *top, struct block_node *base, uint64_t at, const struct block_status *st, void *buffer)
{
    uint64_t bytes = st->bytes;
    if (!(st->flags & BLOCK_STATUS_ALLOCATED))
        return 0;
    if (st->flags & BLOCK_STATUS_ZERO)
        return block_write_zeroes(base, at, bytes, BLOCK_MAY_UNMAP);
    int err = 0;
    for (uint64_t done = 0; !err && done < bytes; done += PIECE) {
        uint64_t n = MIN(PIECE, bytes - done);
        err = block_pread(top, at + done, n, buffer);
        err = err ? err : block_pwrite(base, at + done, n, buffer, 0);
    }
    return err;
}

static int copy_down(struct block_node *top, struct block_node *base)
{
    g_autofree void *buffer = g_malloc(PIECE);
    uint64_t size = block_node_size(top);
    int err = 0;
    block_enter(block_node_graph(top));
    for (uint64_t at = 0; !err && at < size;) {
        struct block_status st = { 0 };
        err = block_status(top, at, MIN(size - at, (uint64_t)1 << 30), &st);
        err = err ? err : copy_piece(top, base, at, &st, buffer);
        at += st.bytes;
    }
    err = err ? err : block_flush(base);
    block_leave(block_node_graph(top));
    return err;
}

static bool grow(struct block_node *base, uint64_t size, GError **error)
{
    if (block_node_size(base) >= size)
        return true;
    block_quiesce(block_node_graph(base));
    bool ok = block_truncate(base, size, false, "off", error);
    block_resume(block_node_graph(base));
    return ok;
}

static bool rename_below(struct block_graph *g, const struct el *above, const struct el *base, GError **error)
{
    block_node_auto *n = block_open_filename(g, domain_chain_path(above), domain_chain_format(above), NULL, BLOCK_RDWR | BLOCK_NO_BACKING, error);
    if (!n)
        return false;
    block_quiesce(g);
    bool ok = block_change_backing_file(n, domain_chain_path(base), domain_chain_format(base), error);
    int err = ok ? block_flush(n) : 0;
    block_resume(g);
    return ok && (!err || manage_fail_errno(error, err, "cannot write '%s'", domain_chain_path(above)));
}

/* above NULL: the overlay is the disk's own image. */
static bool merge_images(const struct el *above, const struct el *top, const struct el *base, GError **error)
{
    g_autoptr(GError) why = NULL;
    struct block_graph *g = block_graph_create();
    struct block_node *from = block_open_filename(g, domain_chain_path(top), domain_chain_format(top), NULL, BLOCK_NO_BACKING, &why);
    struct block_node *to = from ? block_open_filename(g, domain_chain_path(base), domain_chain_format(base), NULL, BLOCK_RDWR | BLOCK_UNMAP | BLOCK_NO_BACKING, &why) : NULL;
    bool ok = to && grow(to, block_node_size(from), &why);
    int err = ok ? copy_down(from, to) : 0;
    block_node_unref(from);
    block_node_unref(to);
    ok = ok && !err && (!above || rename_below(g, above, base, &why));
    block_graph_destroy(g);
    return ok || manage_fail(error, VIR_ERR_OPERATION_FAILED, "the image '%s' cannot be merged into '%s': %s", domain_chain_path(top), domain_chain_path(base),
                             err ? g_strerror(err) : why ? why->message : "");
}

static struct el *find_image(struct el *disk, const char *path, GError **error)
{
    for (struct el *e = disk; e; e = domain_chain_below(e))
        if (!g_strcmp0(domain_chain_path(e), path))
            return domain_chain_below(e) ? e : manage_null(error, VIR_ERR_OPERATION_FAILED, "there is no image below the snapshot's image '%s'", path);
    return manage_null(error, VIR_ERR_OPERATION_FAILED, "the snapshot's image '%s' is not in the chain of disk '%s'", path, el_get_or(disk, "target/@dev", "?"));
}

/* The definition names what the overlay stood on. */
static bool redefine(struct domain *d, const char *target, const struct el *base, GError **error)
{
    struct doc *doc = domain_definition(d, error);
    struct el *disk = doc ? domain_find_disk(doc, target) : NULL, *chain = disk ? el_find(disk, "backingStore") : NULL;
    if (disk) {
        domain_chain_take(disk, base, false);
        if (chain)
            domain_chain_set_below(disk, domain_chain_below(base));
        domain_chain_forget(disk);
    }
    if (disk && domain_set_definition(d, doc, error))
        return true;
    doc_free(doc);
    return false;
}

static bool merge_offline(struct domain *d, const char *target, const char *path, GError **error)
{
    doc_auto *doc = domain_definition(d, error);
    struct el *disk = doc ? domain_find_disk(doc, target) : NULL;
    g_autofree char *image = disk ? domain_image_path(d->driver, disk, error) : NULL;
    if (!disk || !image)
        return manage_fail(error && *error ? NULL : error, VIR_ERR_OPERATION_FAILED, "operation failed: the domain has no disk '%s' any more", target);
    g_autofree char *user = domain_disk_user(d->driver->state, path);
    if (user)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' is in use by the running domain '%s'", path, user);
    if (!domain_chain_read(disk, image, error))
        return false;
    struct el *top = find_image(disk, path, error), *base = top ? domain_chain_below(top) : NULL;
    if (!top || !merge_images(top == disk ? NULL : el_parent(top), top, base, error) || (top == disk && !redefine(d, target, base, error)))
        return false;
    if (unlink(path) < 0)
        g_warning("domain '%s': the image '%s' was merged and cannot be removed: %m", d->name, path);
    return true;
}

/* ---- running ---- */

static bool merge_live(struct domain *d, const char *target, const char *path, GError **error)
{
    if (!domain_begin(d, "snapshot delete", true, error))
        return false;
    g_autofree char *job = domain_blockjob_merge(d, target, path, error);
    domain_end(d);
    if (!job)
        return false;
    if (domain_blockjob_wait(d, job)) {
        if (!domain_begin(d, "snapshot delete", true, error))
            return false;
        bool ok = domain_blockjob_pivot(d, job, error);
        domain_end(d);
        if (!ok)
            return false;
        (void)domain_blockjob_wait(d, job);
    }
    doc_auto *live = domain_live(d, error);
    struct el *disk = live ? domain_find_disk(live, target) : NULL;
    for (struct el *e = disk; e; e = domain_chain_below(e))
        if (!g_strcmp0(domain_chain_path(e), path))
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the image '%s' of disk '%s' was not merged: see the domain's log", path, target);
    return live != NULL;
}

/* ---- both ---- */

/* Before anything is changed: every overlay is where it should be. */
static bool check(struct domain *d, const struct doc *snapshot, GError **error)
{
    doc_auto *doc = domain_any_document(d, error);
    if (!doc)
        return false;
    el_each(spec, el_find(doc_root(snapshot), "disks"), "disk") {
        if (!el_is(spec, "@snapshot", "external"))
            continue;
        struct el *disk = domain_find_disk(doc, el_get_or(spec, "@name", ""));
        g_autofree char *path = disk ? domain_image_path(d->driver, disk, NULL) : NULL;
        if (!disk || !path)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the domain has no disk '%s' any more: delete the snapshot's metadata alone (--metadata)", el_get(spec, "@name"));
        if ((d->id < 0 && !domain_chain_read(disk, path, error)) || !find_image(disk, domain_chain_path(spec), error))
            return false;
    }
    return true;
}

bool domain_snapshot_merge(struct domain *d, const struct doc *snapshot, GError **error)
{
    if (!check(d, snapshot, error))
        return false;
    el_each(spec, el_find(doc_root(snapshot), "disks"), "disk") {
        const char *target = el_get_or(spec, "@name", ""), *path = domain_chain_path(spec);
        if (!el_is(spec, "@snapshot", "external") || !path)
            continue;
        bool ok = false;
        if (d->id >= 0) {
            ok = merge_live(d, target, path, error);
        } else if (domain_begin(d, "snapshot delete", false, error)) {
            ok = d->id < 0 ? merge_offline(d, target, path, error) :
                 manage_fail(error, VIR_ERR_OPERATION_INVALID, "the domain was started while its snapshot was being deleted: try again");
            domain_end(d);
        }
        if (!ok)
            return false;
    }
    return true;
}
