/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs that shorten a chain of images: commit of images below the active one into their base, and stream of what lies below into
 * a node. The metadata that says what an image stands on is written last, when all else is on stable storage.
 */
#include <errno.h>

#include "block/bitmap.h"
#include "block/job_private.h"

struct chain {
    struct block_job job;
    struct block_copy copy;
    struct block_watch watch;
    struct block_node *top, *base;     /* referenced; base may be NULL for stream */
    struct block_node *overlay;        /* its backing child becomes base; referenced */
    char *backing_file, *backing_format;
    bool stream, watching, base_reopened, overlay_reopened;
};

static int run(struct block_job *j, GError **error)
{
    struct chain *w = (struct chain *)j;
    struct block_graph *g = block_node_graph(w->top);
    int err = block_copy_mark_allocated(j, w->copy.todo, w->top, w->base, w->stream);
    block_job_set_remaining(j, block_bitmap_count(w->copy.todo));
    if (!err)
        err = block_copy_run(&w->copy);
    if (err)
        return err;
    block_enter(g);
    err = block_flush(w->copy.target);
    block_leave(g);
    return err;
}

static int before(struct block_watch *watch, uint64_t offset, uint64_t bytes)
{
    struct chain *w = (struct chain *)((char *)watch - offsetof(struct chain, watch));
    block_ranges_share(&w->copy.ranges, offset, bytes);
    return 0;
}

static void end(struct block_watch *watch, uint64_t offset, uint64_t bytes)
{
    struct chain *w = (struct chain *)((char *)watch - offsetof(struct chain, watch));
    block_ranges_unshare(&w->copy.ranges, offset, bytes);
}

static bool prepare(struct block_job *j, GError **error)
{
    struct chain *w = (struct chain *)j;
    struct block_node *base = block_skip_filters(w->base);
    const char *file = w->backing_file ? w->backing_file : base ? block_node_filename(base) : NULL;
    const char *format = w->backing_format ? w->backing_format : base ? block_node_driver(base) : NULL;
    block_quiesce(w->top->graph);
    bool ok = block_change_backing_file(w->overlay, file, file ? format : NULL, error);
    int err = ok ? block_flush(w->overlay) : 0;
    if (err)
        ok = vireo_fail_errno(error, err, "cannot write to '%s'", w->overlay->filename);
    ok = ok && block_set_child(w->overlay, "backing", w->base, error);
    block_resume(w->top->graph);
    return ok;
}

static void read_only_again(struct block_node *n)
{
    (void)!block_reopen(n, NULL, n->flags & ~(unsigned)BLOCK_RDWR, NULL);
}

static void undo(struct chain *w)
{
    block_quiesce(w->top->graph);
    if (w->watching)
        block_watch_remove(w->copy.target, &w->watch);
    w->watching = false;
    block_bitmap_release(g_steal_pointer(&w->copy.todo));
    if (w->base_reopened)
        read_only_again(w->base);
    if (w->overlay_reopened)
        read_only_again(w->overlay);
    block_resume(w->top->graph);
    block_copy_clear(&w->copy);
    w->copy.job = NULL;
}

static void clean(struct block_job *j)
{
    undo((struct chain *)j);
}

static void free_chain(struct block_job *j)
{
    struct chain *w = (struct chain *)j;
    if (w->copy.job)
        undo(w);
    block_node_unref(w->top);
    block_node_unref(w->base);
    block_node_unref(w->overlay);
    g_free(w->backing_file);
    g_free(w->backing_format);
}

static const struct block_job_type commit_type = { .name = "commit", .block = true, .size = sizeof(struct chain), .run = run, .prepare = prepare, .clean = clean,
                                                   .free = free_chain };
static const struct block_job_type stream_type = { .name = "stream", .block = true, .size = sizeof(struct chain), .run = run, .prepare = prepare, .clean = clean,
                                                   .free = free_chain };

static bool writable(struct block_node *n, bool *ret_reopened, GError **error)
{
    if (!block_node_read_only(n))
        return true;
    return *ret_reopened = block_reopen(n, NULL, n->flags | BLOCK_RDWR, error);
}

/* Everything from `from` down to `to` (NULL: to the end) is used by the job. */
static bool use_chain(struct block_job *j, struct block_node *from, struct block_node *to, GError **error)
{
    for (struct block_node *n = from; n; n = block_backing(block_skip_filters(n))) {
        if (block_node_blocked(n) && !g_ptr_array_find(j->blocked, n, NULL))
            return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", n->name, block_node_blocked(n));
        block_job_use(j, n);
        if (n == to || (to && block_skip_filters(n) == block_skip_filters(to)))
            break;
    }
    return true;
}

static struct block_job *start(struct block_jobs *js, const struct block_job_type *type, const struct block_job_options *o, struct chain *like, GError **error)
{
    struct chain *w = (struct chain *)block_job_new(js, type, o, error);
    if (!w)
        return NULL;
    w->top = block_node_ref(like->top);
    w->base = like->base ? block_node_ref(like->base) : NULL;
    w->overlay = block_node_ref(like->overlay);
    w->backing_file = g_strdup(like->backing_file);
    w->backing_format = g_strdup(like->backing_format);
    w->stream = type == &stream_type;
    block_copy_init(&w->copy, &w->job);
    w->copy.source = w->top;
    w->copy.target = w->stream ? w->top : w->base;
    w->copy.up = w->stream;
    w->copy.base = w->base;
    w->copy.errors = like->copy.errors;
    block_quiesce(w->top->graph);
    bool ok = use_chain(&w->job, w->overlay, w->base, error) && writable(w->overlay, &w->overlay_reopened, error);
    if (ok && !w->stream)
        ok = writable(w->base, &w->base_reopened, error);
    if (ok && !w->stream && block_node_size(w->base) < block_node_size(w->top))
        ok = block_truncate(w->base, block_node_size(w->top), false, "off", error);
    w->copy.todo = ok ? block_bitmap_create(w->top, NULL, 0, error) : NULL;
    if (w->copy.todo) {
        w->copy.grain = block_bitmap_granularity(w->copy.todo);
        block_bitmap_set_enabled(w->copy.todo, false);
    }
    if (w->copy.todo && w->stream) {
        w->watch = (struct block_watch){ .before = before, .end = end };
        block_watch_add(w->top, &w->watch);
        w->watching = true;
    }
    block_resume(w->top->graph);
    if (!w->copy.todo) {
        block_job_discard(&w->job);
        return NULL;
    }
    block_job_go(&w->job);
    return &w->job;
}

struct block_job *block_job_commit(struct block_jobs *js, const struct block_job_options *o, const struct block_commit *c, GError **error)
{
    struct block_node *top = block_skip_filters(c->top), *overlay = block_skip_filters(c->active);
    if (top == overlay)
        return block_job_commit_active(js, o, c, error);
    while (overlay && block_skip_filters(block_backing(overlay)) != top)
        overlay = block_skip_filters(block_backing(overlay));
    if (!overlay) {
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in this backing file chain", c->top->name);
        return NULL;
    }
    struct chain like = { .top = top, .base = c->base, .overlay = overlay, .backing_file = (char *)c->backing_file, .backing_format = (char *)c->backing_format,
                          .copy.errors = { c->on_error, c->on_error } };
    return start(js, &commit_type, o, &like, error);
}

struct block_job *block_job_stream(struct block_jobs *js, const struct block_job_options *o, const struct block_stream *s, GError **error)
{
    struct block_node *top = block_skip_filters(s->node);
    if (!block_backing(top) || !top->driver->supports_backing) {
        /* Nothing lies below: done at once, as a job all the same. */
        if (!top->driver->supports_backing) {
            vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Node '%s' has no backing image: there is nothing to stream", s->node->name);
            return NULL;
        }
    }
    struct chain like = { .top = top, .base = s->base, .overlay = top, .backing_file = (char *)s->backing_file, .backing_format = (char *)s->backing_format,
                          .copy.errors = { s->on_error, s->on_error } };
    return start(js, &stream_type, o, &like, error);
}
