/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img check */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

enum { STATUS_ERROR = 1, STATUS_CORRUPT = 2, STATUS_LEAKS = 3, STATUS_UNSUPPORTED = 63 };

struct args {
    struct img_common common;
    char *repair;
};
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_QUIET, IMG_PROGRESS, IMG_OUTPUT,
    { 'r', "repair", IMG_STRING, offsetof(struct args, repair), "leaks|all", "mends what is wrong: leaked clusters alone, or everything" },
    IMG_SRC_CACHE, IMG_SHARE, IMG_END
};

static void say(void *opaque, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

static void print_human(const struct block_check *c)
{
    if (!c->corruptions && !c->leaks && !c->check_errors)
        puts("No errors were found on the image.");
    if (c->corruptions)
        printf("\n%" G_GUINT64_FORMAT " errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n",
               c->corruptions);
    if (c->leaks)
        printf("\n%" G_GUINT64_FORMAT " leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n", c->leaks);
    if (c->check_errors)
        printf("\n%" G_GUINT64_FORMAT " internal errors have occurred during the check.\n", c->check_errors);
    if (c->total_clusters && c->allocated_clusters)
        printf("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n", c->allocated_clusters,
               c->total_clusters, (double)c->allocated_clusters * 100.0 / (double)c->total_clusters,
               (double)c->fragmented_clusters * 100.0 / (double)c->allocated_clusters, (double)c->compressed_clusters * 100.0 / (double)c->allocated_clusters);
    if (c->image_end_offset)
        printf("Image end offset: %" G_GUINT64_FORMAT "\n", c->image_end_offset);
}

static void print_json(const struct block_check *c, const char *filename, const char *format)
{
    const struct { const char *key; uint64_t value; bool always; } rows[] = {
        { "image-end-offset", c->image_end_offset }, { "total-clusters", c->total_clusters }, { "corruptions", c->corruptions },
        { "check-errors", c->check_errors, true }, { "allocated-clusters", c->allocated_clusters }, { "leaks", c->leaks },
        { "fragmented-clusters", c->fragmented_clusters }, { "compressed-clusters", c->compressed_clusters },
        { "corruptions-fixed", c->corruptions_fixed }, { "leaks-fixed", c->leaks_fixed },
    };
    json_auto *o = json_object_new_object();
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].value || rows[i].always)
            json_object_object_add(o, rows[i].key, json_object_new_int64((int64_t)rows[i].value));
    }
    json_object_object_add(o, "filename", json_object_new_string(filename));
    json_object_object_add(o, "format", json_object_new_string(format));
    img_print_json(o);
}

static int check_once(struct img *img, struct block_node *n, unsigned fix, struct block_check *c, GError **error)
{
    *c = (struct block_check){ .say = say, .progress = img_progress_cb, .opaque = img, .cancel = img_cancel_flag(img) };
    block_quiesce(img->graph);
    int err = block_check(n, fix, c, error);
    block_resume(img->graph);
    return err;
}

/* What was mended is looked at once more: the counts are of what is left. */
static int check_twice(struct img *img, struct block_node *n, unsigned fix, bool human, struct block_check *c, GError **error)
{
    int err = check_once(img, n, fix, c, error);
    if (err || (!c->corruptions_fixed && !c->leaks_fixed))
        return err;
    uint64_t corruptions = c->corruptions_fixed, leaks = c->leaks_fixed;
    if (human)
        printf("The following inconsistencies were found and repaired:\n\n    %" G_GUINT64_FORMAT " leaked clusters\n    %" G_GUINT64_FORMAT
               " corruptions\n\nDouble checking the fixed image now...\n", leaks, corruptions);
    err = check_once(img, n, 0, c, error);
    c->corruptions_fixed = corruptions;
    c->leaks_fixed = leaks;
    return err;
}

static int status_of(const struct block_check *c)
{
    return c->check_errors ? STATUS_ERROR : c->corruptions ? STATUS_CORRUPT : c->leaks ? STATUS_LEAKS : 0;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    bool json;
    unsigned flags = BLOCK_CHECK | BLOCK_NO_BACKING, fix = 0;
    struct block_check c;
    if (!img_output_json(&a->common, &json, error))
        return -1;
    if (a->repair) {
        fix = !strcmp(a->repair, "leaks") ? BLOCK_FIX_LEAKS : !strcmp(a->repair, "all") ? BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS : 0;
        if (!fix) {
            vireo_fail(error, VIREO_ERROR_INVALID, "Unknown option value for -r (expecting 'leaks' or 'all'): %s; try 'vireo-img check --help'", a->repair);
            return -1;
        }
        flags |= BLOCK_RDWR;
    }
    if (!img_cache("source cache", a->common.src_cache, &flags, NULL, error))
        return -1;
    img_watch_start(img, a->common.progress);
    block_node_auto *node = img_open(img, &a->common, operands[0], flags, error);
    if (!node)
        return -1;
    int err = check_twice(img, node, fix, !json && !a->common.quiet, &c, error);
    img_watch_end(img);
    if (err == EOPNOTSUPP) {
        g_clear_error(error);
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "This image format does not support checks");
        return STATUS_UNSUPPORTED;
    }
    if (err == ECANCELED || img_canceled(img)) {
        g_clear_error(error);
        img_interrupted(img, error);
        return -1;
    }
    if (err) {
        if (error && !*error)
            vireo_fail_errno(error, err, "Check failed");
        return -1;
    }
    if (json && !a->common.quiet)
        print_json(&c, operands[0], block_node_driver(node));
    else if (!a->common.quiet)
        print_human(&c);
    return status_of(&c);
}

const struct img_command img_check = {
    .name = "check", .operands = "FILE", .summary = "looks for damage in an image, and mends it", .options = options, .args_size = sizeof(struct args),
    .min = 1, .max = 1, .expect = "Expecting one image file name", .run = run,
};
