/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img commit: what an overlay has goes into its backing image */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"
#include "tools/img/img_copy.h"

struct args {
    struct img_common common;
    char *base;
    bool drop;
    uint64_t rate;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_CACHE,
    { 'b', NULL, IMG_STRING, A(base), "FILE", "the image of the chain into which everything above it goes (default: the backing file)" },
    { 'd', NULL, IMG_FLAG, A(drop), NULL, "the overlay is not emptied afterwards" },
    { 'r', NULL, IMG_SIZE, A(rate), "RATE", "rate limit" },
    IMG_PROGRESS, IMG_QUIET, IMG_END
};

/* As it stands in the image above it, or as a path to the same file. */
static bool is_named(const struct block_node *above, const struct block_node *n, const char *name)
{
    const char *in_image = block_backing_filename(above);
    g_autofree char *a = realpath(name, NULL), *b = realpath(block_node_filename(n), NULL);
    return (in_image && !strcmp(in_image, name)) || !strcmp(block_node_filename(n), name) || (a && b && !strcmp(a, b));
}

static struct block_node *find_base(struct block_node *top, const char *name, GError **error)
{
    struct block_node *above = block_skip_filters(top), *n = block_skip_filters(block_backing(above));
    if (!n) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Image does not have a backing file");
        return NULL;
    }
    for (; name && n && !is_named(above, n, name); n = block_skip_filters(block_backing(n)))
        above = n;
    if (!n)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Did not find '%s' in the backing chain of '%s'", name, block_node_filename(top));
    return n;
}

static bool make_writable(struct block_node *base, uint64_t size, unsigned flags, GError **error)
{
    struct block_graph *g = block_node_graph(base);
    block_quiesce(g);
    bool ok = block_reopen(base, NULL, block_node_flags(base) | flags, error);
    if (ok && block_node_size(base) < size)
        ok = block_truncate(base, size, false, "off", error);
    block_resume(g);
    return ok;
}

static bool empty(struct block_node *top, GError **error)
{
    GError *e = NULL;
    block_quiesce(block_node_graph(top));
    bool ok = block_make_empty(top, &e);
    block_resume(block_node_graph(top));
    if (!ok)
        g_propagate_prefixed_error(error, e, "Could not empty %s: ", block_node_filename(top));
    return ok;
}

static bool commit(struct img *img, const struct args *a, const char *filename, unsigned flags, bool write_through, GError **error)
{
    block_node_auto *top = img_open(img, &a->common, filename, flags, error);
    struct block_node *base = top ? find_base(top, a->base, error) : NULL;
    if (!base)
        return false;
    uint64_t old = block_node_size(base), size = block_node_size(top);
    if (!make_writable(base, size, flags, error))
        return false;
    struct img_copy c = { .img = img, .source = &top, .nsources = 1, .target = base, .above = true, .base = base, .backing_size = old, .total = size,
                          .sparse = 4096, .unit = 1, .ordered = true, .threads = img_copy_threads(0, size), .rate = a->rate,
                          .write_flags = write_through ? BLOCK_FUA : 0, .progress_end = 0.99 };
    if (!img_copy(&c, error))
        return false;
    int err = block_flush(base); /* before the overlay gives up what it has */
    if (err)
        return vireo_fail_errno(error, err, "cannot finish '%s'", block_node_filename(base));
    if (!a->drop && !a->base && !empty(top, error))
        return false;
    img_progress(img, 1);
    return true;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    unsigned flags = BLOCK_RDWR | BLOCK_UNMAP;
    bool write_through;
    if (!img_cache("cache", a->common.cache, &flags, &write_through, error))
        return -1;
    img_watch_start(img, a->common.progress);
    if (!commit(img, a, operands[0], flags, write_through, error))
        return -1;
    img_watch_end(img);
    if (!a->common.quiet)
        puts("Image committed.");
    return 0;
}

const struct img_command img_commit = {
    .name = "commit", .operands = "FILE", .summary = "writes what an overlay has into its backing image", .options = options,
    .args_size = sizeof(struct args), .min = 1, .max = 1, .expect = "Expecting one image file name", .run = run,
};
