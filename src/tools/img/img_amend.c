/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img amend: other options for an image that is there */
#include <string.h>

#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    GPtrArray *options;
    bool force;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_PROGRESS, IMG_QUIET, IMG_FORMAT, IMG_CACHE,
    { 0, "force", IMG_FLAG, A(force), NULL, "also what could make the image unusable (the last key)" },
    { 'o', NULL, IMG_LIST, A(options), "KEY=VALUE,...", "the options that change; '-o help' with -f lists them" },
    IMG_END
};

static bool amend(struct img *img, const struct args *a, const char *filename, struct keyval *kv, unsigned flags, GError **error)
{
    img_watch_start(img, a->common.progress);
    block_node_auto *n = img_open(img, &a->common, filename, flags, error);
    if (!n)
        return false;
    if (!block_driver_find(block_node_driver(n))->amend)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Format driver '%s' does not support option amendment", block_node_driver(n));
    if (keyval_get(kv, "backing_file") || keyval_get(kv, "backing_fmt"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Cannot amend the backing file; use 'vireo-img rebase' instead");
    block_quiesce(img->graph);
    bool ok = block_amend(n, kv, a->force, img_progress_cb, img, error);
    block_resume(img->graph);
    if (ok)
        img_progress(img, 1);
    return ok;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    bool help;
    unsigned flags = BLOCK_RDWR;
    if (!a->options) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Must specify options (-o); try 'vireo-img amend --help'");
        return -1;
    }
    keyval_auto *kv = img_join_options(a->options, &help, error);
    if (!kv || !img_cache("cache", a->common.cache, &flags, NULL, error))
        return -1;
    if (help && a->common.format) {
        const struct block_driver *d = block_driver_find(a->common.format);
        if (d && !d->amend)
            vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Format driver '%s' does not support option amendment", a->common.format);
        return (!d || d->amend) && img_help_amend(a->common.format, error) ? 0 : -1;
    }
    if (!n || n > 1) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Expecting one image file name");
        return -1;
    }
    return amend(img, a, operands[0], kv, flags, error) ? 0 : -1;
}

const struct img_command img_amend = {
    .name = "amend", .operands = "FILE", .summary = "changes options of an image", .options = options, .args_size = sizeof(struct args), .min = 0,
    .max = UINT32_MAX, .run = run,
};
