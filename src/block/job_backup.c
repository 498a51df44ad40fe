/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Backup: the target gets what the source held when the job began. What is about to be overwritten is copied before, in the thread
 * that writes; the rest in the background. When that copying fails, the backup is worthless and the job fails: the guest goes on.
 * A target that stands on the source (a client reads from it what the disk held) has a fence meanwhile: see fence.h.
 */
#include <errno.h>

#include "block/bitmap.h"
#include "block/fence.h"
#include "block/job_private.h"

struct backup {
    struct block_job job;
    struct block_copy copy;
    struct block_watch watch;
    struct block_node *source, *target; /* referenced */
    struct block_node *base;            /* sync top: referenced */
    enum block_sync sync;
    struct block_bitmap *bitmap;        /* frozen; NULL: none */
    enum block_bitmap_mode mode;
    bool watching;
    gint broken;                        /* errno value of what failed before a write */
};

static int before(struct block_watch *w, uint64_t offset, uint64_t bytes)
{
    struct backup *b = (struct backup *)((char *)w - offsetof(struct backup, watch));
    uint64_t grain = b->copy.grain, end = offset + bytes;
    struct block_range range = { offset - offset % grain, end + (grain - end % grain) % grain, false };
    bool read;
    if (g_atomic_int_get(&b->broken))
        return 0;
    block_ranges_take(&b->copy.ranges, &range);
    int err = block_copy_now(&b->copy, range.start, range.end - range.start, &read);
    if (err && b->target->fence)
        block_fence_break(b->target->fence);
    if (b->target->fence)
        block_fence_wait(b->target->fence, range.start, range.end - range.start);
    block_ranges_release(&b->copy.ranges, &range);
    if (err && g_atomic_int_compare_and_exchange(&b->broken, 0, err))
        block_job_kick(&b->job);
    return 0;
}

static int broken(struct backup *b, GError **error)
{
    int err = g_atomic_int_get(&b->broken);
    if (err)
        vireo_fail_errno(error, err, "cannot copy to '%s' what the guest was about to overwrite, so the backup is not complete", b->target->filename);
    return err;
}

static int run(struct block_job *j, GError **error)
{
    struct backup *b = (struct backup *)j;
    struct block_graph *g = b->source->graph;
    int err = 0;
    if (b->sync == BLOCK_SYNC_TOP && b->base) {
        /* All is protected already; what the top does not have need not be copied, and goes in pieces as that is found. */
        uint64_t size = block_node_size(b->source);
        for (uint64_t at = 0; at < size && !err;) {
            struct block_status s;
            if (!block_job_checkpoint(j))
                return ECANCELED;
            block_enter(g);
            err = block_status_chain(b->source, b->base, at, size - at, &s);
            if (!err && !(s.flags & BLOCK_STATUS_ALLOCATED))
                block_bitmap_reset(b->copy.todo, at, s.bytes);
            block_leave(g);
            at += err ? 0 : s.bytes;
        }
    }
    block_job_set_remaining(j, block_bitmap_count(b->copy.todo));
    if (!err && b->sync == BLOCK_SYNC_NONE) {
        while (!g_atomic_int_get(&b->broken) && block_job_checkpoint(j))
            block_job_sleep(j, 500000);
        return broken(b, error) ? EIO : ECANCELED;
    }
    if (!err)
        err = block_copy_run(&b->copy);
    if (err)
        return err;
    block_enter(g);
    err = block_flush(b->target);
    block_leave(g);
    return err;
}

static bool prepare(struct block_job *j, GError **error)
{
    struct backup *b = (struct backup *)j;
    return !broken(b, error);
}

/* One that is broken stays: what the image shows is no moment's content. */
static void remove_fence(struct block_node *target)
{
    if (target->fence && !block_fence_broken(target->fence))
        g_clear_pointer(&target->fence, block_fence_free);
}

static void end_watch(struct backup *b, bool success)
{
    block_quiesce(b->source->graph);
    remove_fence(b->target);
    if (b->watching)
        block_watch_remove(b->source, &b->watch);
    b->watching = false;
    if (b->bitmap && (b->mode == BLOCK_BITMAP_NEVER || (!success && b->mode == BLOCK_BITMAP_ON_SUCCESS))) {
        block_bitmap_reclaim(b->bitmap);
    } else if (b->bitmap && success) {
        block_bitmap_abdicate(b->bitmap);
    } else if (b->bitmap) { /* always: what has not been copied is still dirty */
        block_bitmap_clear(b->bitmap);
        (void)!block_bitmap_merge(b->bitmap, b->copy.todo, NULL);
        block_bitmap_reclaim(b->bitmap);
    }
    b->bitmap = NULL;
    block_bitmap_release(g_steal_pointer(&b->copy.todo));
    block_resume(b->source->graph);
    block_copy_clear(&b->copy);
    b->copy.job = NULL;
}

static void clean(struct block_job *j)
{
    end_watch((struct backup *)j, !j->ret);
}

static void free_backup(struct block_job *j)
{
    struct backup *b = (struct backup *)j;
    if (b->copy.job)
        end_watch(b, false);
    block_node_unref(b->source);
    block_node_unref(b->target);
    block_node_unref(b->base);
}

static const struct block_job_type backup_type = { .name = "backup", .block = true, .size = sizeof(struct backup), .run = run, .prepare = prepare, .clean = clean,
                                                   .free = free_backup };

static bool stands_on(struct block_node *n, struct block_node *below)
{
    below = block_skip_filters(below);
    while (n && (n = block_skip_filters(block_backing(block_skip_filters(n)))) && n != below)
        ;
    return n != NULL;
}

static bool check(const struct block_backup *w, GError **error)
{
    const char *busy = block_node_blocked(w->target) ? block_node_blocked(w->target) : block_node_blocked(w->source);
    if (w->source == w->target)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Source and target cannot be the same");
    if (busy)
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", block_node_blocked(w->target) ? w->target->name : w->source->name, busy);
    if (block_node_read_only(w->target))
        return vireo_fail(error, VIREO_ERROR_INVALID, "target node '%s' is read-only", w->target->name);
    if (block_node_size(w->source) != block_node_size(w->target))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Source and target image have different sizes");
    if ((w->sync == BLOCK_SYNC_BITMAP || w->sync == BLOCK_SYNC_INCREMENTAL) != (w->bitmap != NULL))
        return vireo_fail(error, VIREO_ERROR_INVALID, w->bitmap ? "sync mode and bitmap do not go together" : "must provide a valid bitmap name for this sync mode");
    return !w->bitmap || block_bitmap_check(w->bitmap, w->mode == BLOCK_BITMAP_NEVER ? BLOCK_BITMAP_READABLE : BLOCK_BITMAP_USABLE, error);
}

struct block_job *block_job_backup(struct block_jobs *js, const struct block_job_options *o, const struct block_backup *w, GError **error)
{
    struct block_info info;
    struct block_node *backing = block_backing(block_skip_filters(w->source));
    if (!check(w, error))
        return NULL;
    struct backup *b = (struct backup *)block_job_new(js, &backup_type, o, error);
    if (!b)
        return NULL;
    b->source = block_node_ref(w->source);
    b->target = block_node_ref(w->target);
    b->base = w->sync == BLOCK_SYNC_TOP && backing ? block_node_ref(backing) : NULL;
    b->sync = w->sync;
    b->mode = w->mode;
    block_copy_init(&b->copy, &b->job);
    b->copy.source = w->source;
    b->copy.target = w->target;
    b->copy.errors = w->errors;
    b->copy.partial = w->sync != BLOCK_SYNC_FULL;
    b->copy.write_flags = w->compress ? BLOCK_COMPRESSED : 0;
    b->watch.before = before;
    (void)block_get_info(block_skip_filters(w->target), &info);
    block_quiesce(w->source->graph);
    b->copy.todo = block_bitmap_create(w->source, NULL, MAX(65536, info.cluster_size), error);
    bool ok = b->copy.todo && (!w->bitmap || block_bitmap_freeze(w->bitmap, error));
    if (ok) {
        b->copy.grain = block_bitmap_granularity(b->copy.todo);
        block_bitmap_set_enabled(b->copy.todo, false);
        b->bitmap = w->bitmap;
        if (w->bitmap)
            ok = block_bitmap_merge(b->copy.todo, w->bitmap, error);
        else
            block_bitmap_set_all(b->copy.todo);
    }
    if (ok) {
        if (!w->target->fence && stands_on(w->target, w->source))
            w->target->fence = block_fence_new();
        block_watch_add(w->source, &b->watch);
        b->watching = true;
    }
    block_resume(w->source->graph);
    if (!ok) {
        block_job_discard(&b->job);
        return NULL;
    }
    block_job_use(&b->job, w->source);
    block_job_use(&b->job, w->target);
    block_job_go(&b->job);
    return &b->job;
}
