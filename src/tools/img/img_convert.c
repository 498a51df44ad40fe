/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img convert */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bitmap.h"
#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"
#include "tools/img/img_copy.h"

enum { SPARSE_DEFAULT = 4096, SPARSE_MAX = 16 << 20, THREADS_MAX = 16 };

struct args {
    struct img_common common;
    char *target_format, *backing, *backing_format, *snapshot, *threads;
    GPtrArray *options;
    uint64_t sparse, rate;
    bool compressed, skip_create, out_of_order, copy_range, target_image_opts, target_is_zero, salvage, bitmaps, skip_broken;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS,
    { 'f', NULL, IMG_STRING, IMG_COMMON(format), "FORMAT", "format of the sources; without it their beginnings are looked at" },
    { 'O', NULL, IMG_STRING, A(target_format), "FORMAT", "format of the new image (default raw)" },
    { 'o', NULL, IMG_LIST, A(options), "KEY=VALUE,...", "options of the new image; '-o help' lists them" },
    { 'B', NULL, IMG_STRING, A(backing), "FILE", "backing file of the new image: what the source does not have itself stays there" },
    { 'F', NULL, IMG_STRING, A(backing_format), "FORMAT", "format of that backing file" },
    { 'c', NULL, IMG_FLAG, A(compressed), NULL, "compressed clusters" },
    { 'S', NULL, IMG_SIZE, A(sparse), "SIZE", "buffer size for sparse output" },
    { 'l', NULL, IMG_STRING, A(snapshot), "SNAPSHOT", "the source is a snapshot inside the image: an id, a name, snapshot.id=ID or snapshot.name=NAME" },
    { 'n', NULL, IMG_FLAG, A(skip_create), NULL, "the target is there already and is not made" },
    { 0, "target-image-opts", IMG_FLAG, A(target_image_opts), NULL, "the target's name is options (needs -n)" },
    { 0, "target-is-zero", IMG_FLAG, A(target_is_zero), NULL, "the target reads as zeroes (needs -n)" },
    { 'm', NULL, IMG_STRING, A(threads), "NUMBER", "how many threads work at the same time (default: processors)" },
    { 'W', NULL, IMG_FLAG, A(out_of_order), NULL, "the target need not be written in order" },
    { 'r', NULL, IMG_SIZE, A(rate), "RATE", "rate limit" },
    { 'C', NULL, IMG_FLAG, A(copy_range), NULL, "let the host's file system copy, without looking for zeroes" },
    { 0, "salvage", IMG_FLAG, A(salvage), NULL, "what cannot be read becomes zeroes, with a warning" },
    { 0, "bitmaps", IMG_FLAG, A(bitmaps), NULL, "copy the persistent dirty bitmaps too" },
    { 0, "skip-broken-bitmaps", IMG_FLAG, A(skip_broken), NULL, "leave out bitmaps that are inconsistent" },
    { 't', NULL, IMG_STRING, IMG_COMMON(cache), "CACHE", "how the target is written: unsafe (default), writeback, none, writethrough, directsync" },
    IMG_SRC_CACHE, IMG_PROGRESS, IMG_QUIET, IMG_SHARE, IMG_END
};

static bool needs(bool given, bool with, const char *message, GError **error)
{
    return !given || with || vireo_fail(error, VIREO_ERROR_INVALID, "%s", message);
}

static bool check_args(const struct args *a, unsigned n, unsigned *ret_threads, GError **error)
{
    uint64_t threads = 0;
    if (n < 2)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Must specify image file name; try 'vireo-img convert --help'");
    if (a->threads && (!keyval_uint("-m", a->threads, 1, THREADS_MAX, &threads, NULL)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid number of coroutines. Allowed number of coroutines is between 1 and %d", THREADS_MAX);
    *ret_threads = (unsigned)threads;
    if (a->sparse != UINT64_MAX && (a->sparse % 512 || a->sparse > SPARSE_MAX))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to %d. "
                          "Select 0 to disable sparse detection (fully allocates output).", SPARSE_MAX);
    return needs(a->common.image_opts && a->common.format, false, "--image-opts and --format are mutually exclusive", error) &&
           needs(a->copy_range, a->sparse == UINT64_MAX, "Cannot enable copy offloading when -S is used", error) &&
           needs(a->copy_range, !a->compressed, "Cannot enable copy offloading when -c is used", error) &&
           needs(a->target_image_opts, a->skip_create, "--target-image-opts requires use of -n flag", error) &&
           needs(a->target_is_zero, a->skip_create, "--target-is-zero requires use of -n flag", error) &&
           needs(a->skip_create && a->options, false, "-o has no effect when skipping image creation", error) &&
           needs(a->backing_format && !a->backing, false, "-F is only for the backing file of -B", error) &&
           needs(a->skip_broken, a->bitmaps, "Use of --skip-broken-bitmaps requires --bitmaps", error);
}

/* ---- sources ---- */

struct sources {
    struct block_node **node;
    unsigned n;
    uint64_t total;
};

static void sources_clear(struct sources *s)
{
    for (unsigned i = 0; i < s->n; i++)
        block_node_unref(s->node[i]);
    g_free(s->node);
}

static bool open_sources(struct img *img, const struct args *a, char **names, unsigned n, struct sources *s, GError **error)
{
    unsigned flags = 0;
    if (!img_cache("source cache", a->common.src_cache, &flags, NULL, error))
        return false;
    s->node = g_new0(struct block_node *, n);
    for (unsigned i = 0; i < n; i++) {
        struct block_node *node = img_open(img, &a->common, names[i], flags, error);
        if (!node)
            return false;
        s->node[s->n++] = node;
        s->total += block_node_size(node);
    }
    if (a->snapshot && n > 1)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "No support for concatenating multiple snapshot");
    if (!a->snapshot)
        return true;
    if (!img_load_snapshot(s->node[0], a->snapshot, error))
        return false;
    s->total = block_node_size(s->node[0]);
    return true;
}

/* ---- the target ---- */

struct target {
    struct block_node *node;
    char *backing, *backing_format; /* NULL: none */
    uint64_t backing_size;
    unsigned flags;
    bool write_through, prealloc, encrypted;
};

static bool take_backing(const struct args *a, struct keyval *kv, struct target *t, GError **error)
{
    t->backing = keyval_take(kv, "backing_file");
    t->backing_format = keyval_take(kv, "backing_fmt");
    if (a->backing && t->backing)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the backing file is given twice: keep -B, or the option backing_file");
    if (a->backing)
        t->backing = g_strdup(a->backing);
    if (a->backing_format) {
        g_free(t->backing_format);
        t->backing_format = g_strdup(a->backing_format);
    }
    return !t->backing || t->backing_format || a->skip_create ||
           vireo_fail(error, VIREO_ERROR_INVALID, "Use of backing file requires explicit backing format: -F FORMAT");
}

/* The backing image must be there. */
static bool look_at_backing(struct img *img, const char *filename, struct target *t, GError **error)
{
    if (!t->backing)
        return true;
    g_autofree char *path = block_resolve(filename, t->backing);
    block_node_auto *n = img_open_as(img, path, t->backing_format, false, BLOCK_NO_IO, error);
    if (!n)
        return false;
    t->backing_size = block_node_size(n);
    return true;
}

static bool create_target(struct img *img, const char *filename, const char *format, struct keyval *kv, uint64_t size, struct target *t, GError **error)
{
    struct block_create c = { .size = size, .backing_file = t->backing, .backing_format = t->backing_format, .options = kv };
    g_autofree char *ignored = keyval_take(kv, "size");
    const char *prealloc = keyval_get(kv, "preallocation"), *encrypted = keyval_get(kv, "encrypt.format");
    GError *e = NULL;
    t->prealloc = prealloc && strcmp(prealloc, "off");
    t->encrypted = encrypted || !strcmp(format, "luks");
    if (!block_create_image(img->graph, filename, format, &c, &e)) {
        g_propagate_prefixed_error(error, e, "%s: error while converting %s: ", filename, format);
        return false;
    }
    img_watch_target(img, filename);
    return true;
}

/* Secrets that the new image was made with open it too. */
static struct block_node *open_new(struct img *img, const char *filename, const char *format, const char *secret, unsigned flags, GError **error)
{
    keyval_auto *kv = keyval_new();
    if (secret)
        keyval_add(kv, strcmp(format, "luks") ? "encrypt.key-secret" : "key-secret", secret);
    GError *e = NULL;
    struct block_node *n = block_open_filename(img->graph, filename, format, kv, flags, &e);
    if (!n)
        g_propagate_prefixed_error(error, e, "Could not open '%s': ", filename);
    return n;
}

static bool open_target(struct img *img, const struct args *a, const char *filename, struct keyval *kv, uint64_t size, struct target *t, GError **error)
{
    const char *format = a->target_format ? a->target_format : "raw";
    t->flags = BLOCK_RDWR | (a->sparse ? BLOCK_UNMAP : 0);
    if (!img_cache("cache", a->common.cache ? a->common.cache : "unsafe", &t->flags, &t->write_through, error))
        return false;
    if (a->skip_create) {
        t->node = img_open_as(img, filename, a->target_image_opts ? NULL : a->target_format ? a->target_format : "raw", a->target_image_opts, t->flags, error);
    } else {
        g_autofree char *secret = g_strdup(keyval_get(kv, "encrypt.key-secret"));
        if (!secret)
            secret = g_strdup(keyval_get(kv, "key-secret"));
        if (!create_target(img, filename, format, kv, size, t, error))
            return false;
        t->node = open_new(img, filename, format, secret, t->flags, error);
    }
    return t->node && (block_node_size(t->node) >= size || vireo_fail(error, VIREO_ERROR_INVALID, "output file is smaller than input file"));
}

/* Whether a new image reads as zeroes before anything is written: bytes of a file that did not exist, or clusters that are not there. */
static bool is_zero(const struct args *a, const struct target *t)
{
    struct block_node *below = t->node;
    if (a->skip_create)
        return a->target_is_zero;
    while (block_child(below, "file"))
        below = block_child(below, "file");
    bool file = !strcmp(block_node_driver(below), "file"), raw = !strcmp(block_node_driver(t->node), "raw");
    if (!strcmp(block_node_driver(t->node), "luks"))
        return false;
    return file ? !(t->encrypted && t->prealloc) : !raw && !t->prealloc;
}

/* ---- bitmaps ---- */

static bool check_bitmaps(const struct args *a, struct block_node *source, GError **error)
{
    if (!block_driver_find(block_node_driver(source))->bitmaps)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Source lacks bitmap support");
    for (struct block_bitmap *b = block_bitmap_next(source, NULL); b; b = block_bitmap_next(source, b)) {
        if (block_bitmap_persistent(b) && block_bitmap_inconsistent(b) && !a->skip_broken)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Cannot copy inconsistent bitmap '%s'; use --skip-broken-bitmaps, or use "
                              "'vireo-img bitmap --remove'", block_bitmap_name(b));
    }
    return true;
}

static bool copy_bitmaps(struct block_node *from, struct block_node *to, GError **error)
{
    bool ok = true;
    block_quiesce(block_node_graph(to));
    for (struct block_bitmap *b = block_bitmap_next(from, NULL); b && ok; b = block_bitmap_next(from, b)) {
        const char *name = block_bitmap_name(b);
        if (!block_bitmap_persistent(b) || block_bitmap_inconsistent(b))
            continue;
        GError *e = NULL;
        struct block_bitmap *new = NULL;
        ok = block_bitmap_check_persistent(to, name, block_bitmap_granularity(b), &e) &&
             (new = block_bitmap_create(to, name, block_bitmap_granularity(b), &e)) != NULL;
        if (ok) {
            block_bitmap_set_persistent(new, true);
            block_bitmap_set_enabled(new, block_bitmap_enabled(b));
            ok = block_bitmap_merge(new, b, &e);
        }
        if (!ok)
            g_propagate_prefixed_error(error, e, "Failed to populate bitmap %s: ", name);
    }
    block_resume(block_node_graph(to));
    return ok;
}

/* ---- all of it ---- */

/* The image of the source's chain that the new image will stand on, or what the source itself stands on. */
static struct block_node *base_of(struct block_node *source, const char *filename, const struct target *t)
{
    g_autofree char *path = block_resolve(filename, t->backing), *real = realpath(path, NULL);
    struct block_node *top = block_skip_filters(source), *first = block_skip_filters(block_backing(top));
    for (struct block_node *n = first; n && real; n = block_skip_filters(block_backing(n))) {
        g_autofree char *other = realpath(block_node_filename(n), NULL);
        if (other && !strcmp(other, real))
            return n;
    }
    return first;
}

static bool copy(struct img *img, const struct args *a, const struct sources *s, const struct target *t, const char *filename, unsigned threads, GError **error)
{
    struct block_info info;
    struct img_copy c = { .img = img, .source = s->node, .nsources = s->n, .target = t->node, .total = s->total, .target_zero = is_zero(a, t),
                          .sparse = a->sparse == UINT64_MAX ? SPARSE_DEFAULT : a->sparse, .compressed = a->compressed,
                          .ordered = !a->out_of_order && !a->compressed, .salvage = a->salvage, .copy_range = a->copy_range,
                          .threads = img_copy_threads(threads, s->total), .write_flags = t->write_through ? BLOCK_FUA : 0, .rate = a->rate,
                          .unit = 1, .progress_end = 1 };
    if (!block_get_info(t->node, &info) && info.cluster_size)
        c.unit = info.cluster_size;
    else /* where a byte lies does not depend on when it is written */
        c.ordered = false;
    /* Shared blocks cost neither time nor space. */
    bool files = !strcmp(block_node_driver(s->node[0]), "raw") && !strcmp(block_node_driver(t->node), "raw");
    c.clone = files && c.sparse && !a->rate && !a->salvage;
    c.copy_range &= files;
    if (t->backing) {
        c.above = true;
        c.base = base_of(s->node[0], filename, t);
        c.backing_size = t->backing_size;
    }
    if (!img_copy(&c, error))
        return false;
    int err = block_flush(t->node);
    return !err || vireo_fail_errno(error, err, "cannot finish '%s'", filename);
}

static bool convert(struct img *img, const struct args *a, char **operands, unsigned n, unsigned threads, struct sources *s, struct target *t, GError **error)
{
    const char *filename = operands[n - 1], *format = a->target_format ? a->target_format : "raw";
    const struct block_driver *d = block_driver_find(format);
    bool help;
    keyval_auto *kv = img_join_options(a->options, &help, error);
    if (!kv || !take_backing(a, kv, t, error))
        return false;
    if (t->backing && n > 2)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Having a backing file for the target makes no sense when concatenating multiple input images");
    if (!d)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unknown file format '%s'", format);
    if (!open_sources(img, a, operands, n - 1, s, error))
        return false;
    if (a->bitmaps && (!check_bitmaps(a, s->node[0], error) ||
                       (!d->bitmaps && !a->target_image_opts && !vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Format driver '%s' does not support bitmaps", format))))
        return false;
    if (a->compressed && !a->skip_create && !strcmp(format, "raw"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Compression not supported for this file format");
    if (!look_at_backing(img, filename, t, error) || !open_target(img, a, filename, kv, s->total, t, error))
        return false;
    if (a->compressed) {
        struct block_info info;
        if (block_get_info(t->node, &info) || !info.compressed_possible || !info.cluster_size)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Compression not supported for this file format");
    }
    if (!copy(img, a, s, t, filename, threads, error) || (a->bitmaps && !copy_bitmaps(s->node[0], t->node, error)))
        return false;
    img_progress(img, 1);
    return true;
}

static bool wants_help(const struct args *a, char **operands, unsigned n, bool *ret_ok, GError **error)
{
    bool help = false;
    keyval_auto *kv = img_join_options(a->options, &help, NULL);
    if (kv && help)
        *ret_ok = img_help_options(a->target_format ? a->target_format : "raw", n > 1 ? operands[n - 1] : NULL, error);
    return kv && help;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    unsigned threads = 0;
    bool ok = false;
    struct sources s = { 0 };
    struct target t = { 0 };
    if (wants_help(a, operands, n, &ok, error))
        return ok ? 0 : -1;
    if (!check_args(a, n, &threads, error))
        return -1;
    img_watch_start(img, a->common.progress);
    ok = convert(img, a, operands, n, threads, &s, &t, error);
    sources_clear(&s);
    block_node_unref(t.node);
    g_free(t.backing);
    g_free(t.backing_format);
    if (ok)
        img_watch_keep(img);
    return ok ? 0 : -1;
}

static void defaults(void *args)
{
    ((struct args *)args)->sparse = UINT64_MAX;
}

const struct img_command img_convert = {
    .name = "convert", .operands = "FILE... NEW_FILE", .summary = "copies an image into another format", .options = options, .args_size = sizeof(struct args),
    .min = 0, .max = UINT32_MAX, .defaults = defaults, .run = run,
};
