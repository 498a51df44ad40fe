/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img resize */
#include <stdio.h>
#include <string.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    char *preallocation;
    bool shrink;
};
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_QUIET,
    { 0, "preallocation", IMG_STRING, offsetof(struct args, preallocation), "MODE", "what is added is allocated: off (default), metadata, falloc, full" },
    { 0, "shrink", IMG_FLAG, offsetof(struct args, shrink), NULL, "the image may become smaller; what lies behind its new end is lost" },
    IMG_END
};

/* "10G", "+10G", "-10G" */
static bool new_size(const char *text, uint64_t old, uint64_t *ret, GError **error)
{
    char sign = *text == '+' || *text == '-' ? *text : 0;
    uint64_t v;
    if (!g_ascii_isdigit(text[sign != 0]) || !keyval_size("size", text + (sign != 0), 1, &v, NULL) || v > INT64_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'size' expects a non-negative number below 2^64 with an optional suffix k, M, G, T, P or E, "
                          "not '%s'", text);
    if (sign == '-' ? v >= old : !sign && !v)
        return vireo_fail(error, VIREO_ERROR_INVALID, "New image size must be positive");
    *ret = sign == '+' ? old + v : sign == '-' ? old - v : v;
    return *ret <= INT64_MAX || vireo_fail(error, VIREO_ERROR_INVALID, "the new size is too large");
}

static bool resize(struct img *img, const struct args *a, char **operands, GError **error)
{
    const char *const modes[] = { "off", "metadata", "falloc", "full", NULL };
    const char *how = a->preallocation ? a->preallocation : "off";
    uint64_t size = 0;
    if (!g_strv_contains(modes, how))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid preallocation mode '%s'", how);
    block_node_auto *n = img_open(img, &a->common, operands[0], BLOCK_RDWR, error);
    if (!n || !new_size(operands[1], block_node_size(n), &size, error))
        return false;
    if (size <= block_node_size(n) && strcmp(how, "off"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Preallocation can only be used for growing images");
    if (size < block_node_size(n) && !a->shrink)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Use the --shrink option to perform a shrink operation. Shrinking an image will delete all data beyond "
                          "the shrunken image's end. Before performing such an operation, make sure there is no important data there.");
    block_quiesce(img->graph);
    bool ok = block_truncate(n, size, true, how, error);
    block_resume(img->graph);
    int err = ok ? block_flush(n) : 0;
    return ok && (!err || vireo_fail_errno(error, err, "cannot finish '%s'", operands[0]));
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    if (!resize(img, args, operands, error))
        return -1;
    if (!img->quiet)
        puts("Image resized.");
    return 0;
}

const struct img_command img_resize = {
    .name = "resize", .operands = "FILE [+|-]SIZE", .summary = "changes the size of an image", .options = options, .args_size = sizeof(struct args),
    .min = 2, .max = 2, .expect = "Expecting image file name and size",
    .run = run, .last_word = true,
};
