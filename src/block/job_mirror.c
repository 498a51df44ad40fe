/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs that follow a disk: mirror to another node, and commit of the image that the guest writes to, which is a mirror to one of the
 * images below it. A bitmap of the source has what is still to be copied; when it has been empty once, both are the same but for
 * what has just been written, and the job is ready. The last of it is copied with the graph quiet, before the target takes over.
 */
#include <errno.h>

#include "block/bitmap.h"
#include "block/job_private.h"

struct mirror {
    struct block_job job;
    struct block_copy copy;
    struct block_watch watch;
    struct block_node *source, *target, *replaces; /* referenced; replaces may be NULL */
    struct block_node *base;   /* what is above this is copied at first; NULL: the chain */
    bool all;                  /* everything is */
    struct block_node *backing_after; /* referenced, or NULL */
    bool watching, reopened, none;
    struct block_job_errors errors;
};

static int run(struct block_job *j, GError **error)
{
    struct mirror *m = (struct mirror *)j;
    struct block_copy *c = &m->copy;
    struct block_graph *g = block_node_graph(m->source);
    int err = 0;
    if (m->all)
        block_bitmap_set_all(c->todo);
    else if (!m->none)
        err = block_copy_mark_allocated(j, c->todo, m->source, m->base, false);
    block_job_set_remaining(j, block_bitmap_count(c->todo));
    while (!err) {
        err = block_copy_run(c);
        if (err)
            break;
        block_enter(g);
        err = block_flush(m->target);
        block_leave(g);
        if (err && block_job_retry(j, false, m->errors.target, err))
            err = 0;
        else if (!err) {
            block_job_ready(j);
            if (block_job_completing(j))
                return 0;
            block_job_sleep(j, 50000);
            if (!block_job_checkpoint(j))
                err = ECANCELED;
            block_job_set_remaining(j, block_bitmap_count(c->todo));
        }
    }
    return err;
}

/* The copy as it is written: only what is still to be done, with the background's pieces kept away from it. */
static void written(struct block_watch *w, uint64_t offset, uint64_t bytes)
{
    struct mirror *m = (struct mirror *)((char *)w - offsetof(struct mirror, watch));
    uint64_t grain = m->copy.grain, start = offset - offset % grain, end = offset + bytes;
    struct block_range range = { start, end + (grain - end % grain) % grain, false };
    bool read;
    block_ranges_take(&m->copy.ranges, &range);
    (void)block_copy_now(&m->copy, range.start, range.end - range.start, &read); /* what fails stays dirty */
    block_ranges_release(&m->copy.ranges, &range);
}

static bool prepare(struct block_job *j, GError **error)
{
    struct mirror *m = (struct mirror *)j;
    struct block_graph *g = block_node_graph(m->source);
    bool read, ok = true;
    block_quiesce(g);
    int err = block_copy_now(&m->copy, 0, block_bitmap_size(m->copy.todo), &read);
    if (!err)
        err = block_flush(m->target);
    if (err)
        ok = vireo_fail_errno(error, err, "cannot copy the last of '%s' to '%s'", m->source->filename, m->target->filename);
    if (ok && j->completing && !j->soft_cancel) {
        struct block_node *top = block_skip_filters(m->target);
        if (m->backing_after && top->driver->supports_backing)
            ok = block_set_child(top, "backing", m->backing_after, error);
        ok = ok && block_replace_node(m->replaces ? m->replaces : m->source, m->target, error);
    }
    block_resume(g);
    return ok;
}

static void stop_watching(struct mirror *m)
{
    block_quiesce(block_node_graph(m->source));
    if (m->watching)
        block_watch_remove(m->source, &m->watch);
    m->watching = false;
    block_bitmap_release(g_steal_pointer(&m->copy.todo));
    block_resume(block_node_graph(m->source));
}

static void clean(struct block_job *j)
{
    struct mirror *m = (struct mirror *)j;
    stop_watching(m);
    block_copy_clear(&m->copy);
    m->copy.job = NULL;
    if (m->reopened && (j->ret || j->soft_cancel || !j->completing)) {
        block_quiesce(block_node_graph(m->target));
        (void)!block_reopen(m->target, NULL, m->target->flags & ~(unsigned)BLOCK_RDWR, NULL);
        block_resume(block_node_graph(m->target));
    }
}

static void free_mirror(struct block_job *j)
{
    struct mirror *m = (struct mirror *)j;
    if (m->copy.job) { /* it never ran */
        if (m->copy.todo)
            stop_watching(m);
        block_copy_clear(&m->copy);
    }
    block_node_unref(m->source);
    block_node_unref(m->target);
    block_node_unref(m->replaces);
    block_node_unref(m->base);
    block_node_unref(m->backing_after);
}

static const struct block_job_type mirror_type = { .name = "mirror", .block = true, .size = sizeof(struct mirror), .run = run, .prepare = prepare, .clean = clean,
                                                   .free = free_mirror, .can_complete = true };
static const struct block_job_type commit_type = { .name = "commit", .block = true, .size = sizeof(struct mirror), .run = run, .prepare = prepare, .clean = clean,
                                                   .free = free_mirror, .can_complete = true };

static bool free_to_use(const struct block_node *n, GError **error)
{
    const char *why = block_node_blocked(n);
    return !why || vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", n->name, why);
}

static struct mirror *mirror_new(struct block_jobs *js, const struct block_job_type *type, const struct block_job_options *o, struct block_node *source,
                                 struct block_node *target, uint32_t granularity, GError **error)
{
    if (!free_to_use(source, error) || !free_to_use(target, error))
        return NULL;
    struct mirror *m = (struct mirror *)block_job_new(js, type, o, error);
    if (!m)
        return NULL;
    m->source = block_node_ref(source);
    m->target = block_node_ref(target);
    block_copy_init(&m->copy, &m->job);
    m->copy.source = source;
    m->copy.target = target;
    block_quiesce(source->graph);
    m->copy.todo = block_bitmap_create(source, NULL, granularity, error);
    block_resume(source->graph);
    if (!m->copy.todo) {
        block_job_discard(&m->job);
        return NULL;
    }
    m->copy.grain = block_bitmap_granularity(m->copy.todo);
    return m;
}

struct block_job *block_job_mirror(struct block_jobs *js, const struct block_job_options *o, const struct block_mirror *w, GError **error)
{
    struct block_node *backing = block_backing(block_skip_filters(w->source));
    if (w->source == w->target || block_skip_filters(w->target) == block_skip_filters(w->source)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Can't mirror node into itself");
        return NULL;
    }
    if (w->target->flags & BLOCK_RDWR ? false : true) {
        vireo_fail(error, VIREO_ERROR_INVALID, "target node '%s' is read-only", w->target->name);
        return NULL;
    }
    if (block_node_size(w->source) != block_node_size(w->target)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Source and target image have different sizes");
        return NULL;
    }
    if (w->granularity && (w->granularity < 512 || w->granularity > 64u << 20 || w->granularity & (w->granularity - 1))) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'granularity' expects %s", w->granularity & (w->granularity - 1) ? "a power of 2" : "a value in range [512B, 64MB]");
        return NULL;
    }
    struct block_info info;
    (void)block_get_info(block_skip_filters(w->target), &info);
    uint32_t grain = w->granularity ? w->granularity : block_bitmap_default_granularity(w->source);
    if (w->sync != BLOCK_SYNC_FULL) /* a part of a cluster would get the rest of it from the target's backing image, which may not be there yet */
        grain = MAX(grain, info.cluster_size);
    struct mirror *m = mirror_new(js, &mirror_type, o, w->source, w->target, grain, error);
    if (!m)
        return NULL;
    m->replaces = w->replaces ? block_node_ref(w->replaces) : NULL;
    m->all = w->sync == BLOCK_SYNC_FULL || (w->sync == BLOCK_SYNC_TOP && !backing);
    m->none = w->sync == BLOCK_SYNC_NONE;
    m->copy.partial = !m->all;
    m->base = w->sync == BLOCK_SYNC_TOP && backing ? block_node_ref(backing) : NULL;
    m->backing_after = w->backing_after ? block_node_ref(w->backing_after) : NULL;
    m->errors = m->copy.errors = w->errors;
    if (w->write_blocking) {
        m->watch.after = written;
        block_quiesce(w->source->graph);
        block_watch_add(w->source, &m->watch);
        m->watching = true;
        block_resume(w->source->graph);
    }
    block_job_use(&m->job, w->source);
    block_job_use(&m->job, w->target);
    block_job_go(&m->job);
    return &m->job;
}

struct block_job *block_job_commit_active(struct block_jobs *js, const struct block_job_options *o, const struct block_commit *w, GError **error)
{
    struct block_node *top = w->top, *base = w->base;
    bool ok = true, reopened = false;
    if (!free_to_use(top, error) || !free_to_use(base, error))
        return NULL;
    block_quiesce(top->graph);
    if (block_node_read_only(base))
        ok = reopened = block_reopen(base, NULL, base->flags | BLOCK_RDWR | (top->flags & BLOCK_UNMAP), error);
    if (ok && block_node_size(base) < block_node_size(top))
        ok = block_truncate(base, block_node_size(top), false, "off", error);
    block_resume(top->graph);
    struct mirror *m = ok ? mirror_new(js, &commit_type, o, top, base, 0, error) : NULL;
    if (!m) {
        block_quiesce(top->graph);
        if (reopened)
            (void)!block_reopen(base, NULL, base->flags & ~(unsigned)BLOCK_RDWR, NULL);
        block_resume(top->graph);
        return NULL;
    }
    m->base = block_node_ref(base);
    m->reopened = reopened;
    m->errors = m->copy.errors = (struct block_job_errors){ w->on_error, w->on_error };
    block_job_use(&m->job, top);
    for (struct block_node *n = block_backing(block_skip_filters(top)); n; n = block_backing(block_skip_filters(n))) {
        block_job_use(&m->job, n);
        if (n == base)
            break;
    }
    block_job_use(&m->job, base);
    block_job_go(&m->job);
    return &m->job;
}
