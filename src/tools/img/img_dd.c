/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img dd */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

enum { BUFFER = 1 << 20 };

struct args {
    struct img_common common;
    char *target_format;
};
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT,
    { 'O', NULL, IMG_STRING, offsetof(struct args, target_format), "FORMAT", "format of the new image (default raw)" },
    IMG_SHARE, IMG_END
};

struct dd {
    const char *from, *to;
    uint64_t block, count, skip; /* count: UINT64_MAX: all */
};

static bool parse_operand(struct dd *d, char *text, GError **error)
{
    char *value = strchr(text, '=');
    size_t n = value ? (size_t)(value - text) : strlen(text);
    value = value ? value + 1 : NULL;
    if (value && n == 2 && !strncmp(text, "if", 2))
        d->from = value;
    else if (value && n == 2 && !strncmp(text, "of", 2))
        d->to = value;
    else if (value && n == 5 && !strncmp(text, "count", 5))
        return img_parse_size("count", value, &d->count, error);
    else if (value && n == 4 && !strncmp(text, "skip", 4))
        return img_parse_size("skip", value, &d->skip, error);
    else if (value && n == 2 && !strncmp(text, "bs", 2))
        return img_parse_size("bs", value, &d->block, error) && ((d->block && d->block <= INT_MAX) ||
               vireo_fail(error, VIREO_ERROR_INVALID, "Invalid bs specified. Must be between 1 and %d.", INT_MAX));
    else
        return vireo_fail(error, VIREO_ERROR_INVALID, "unrecognized operand %.*s; there are: if=, of=, bs=, count=, skip=", (int)n, text);
    return true;
}

/* The input from `start` to `end`, whatever it is: zeroes are written too. */
static bool copy(struct img *img, struct block_node *from, struct block_node *to, uint64_t start, uint64_t end, GError **error)
{
    void *buffer = img_buffer(BUFFER);
    int err = buffer ? 0 : ENOMEM;
    for (uint64_t at = start; at < end && !err && !img_canceled(img); at += BUFFER) {
        uint64_t part = MIN(end - at, (uint64_t)BUFFER);
        err = block_pread(from, at, part, buffer);
        if (!err)
            err = block_pwrite(to, at - start, part, buffer, 0);
        img_progress(img, (double)(at + part - start) / (double)(end - start));
    }
    free(buffer);
    if (img_canceled(img))
        return img_interrupted(img, error);
    err = err ? err : block_flush(to);
    return !err || vireo_fail_errno(error, err, "error while copying '%s'", block_node_filename(from));
}

static bool dd(struct img *img, const struct args *a, const struct dd *d, GError **error)
{
    const char *format = a->target_format ? a->target_format : "raw";
    block_node_auto *from = img_open(img, &a->common, d->from, 0, error);
    if (!from)
        return false;
    uint64_t end = block_node_size(from), start;
    if (d->count != UINT64_MAX && d->count <= INT64_MAX / d->block)
        end = MIN(end, d->count * d->block);
    start = d->skip > INT64_MAX / d->block ? end : MIN(d->skip * d->block, end);
    if (start == end && d->skip && start != d->skip * d->block)
        log_warn("%s: cannot skip to specified offset", d->from);
    keyval_auto *kv = keyval_new();
    struct block_create c = { .size = end - start, .options = kv };
    GError *e = NULL;
    if (!block_create_image(img->graph, d->to, format, &c, &e)) {
        g_propagate_prefixed_error(error, e, "%s: error while creating output image of format '%s': ", d->to, format);
        return false;
    }
    img_watch_target(img, d->to);
    block_node_auto *to = img_open_as(img, d->to, format, false, BLOCK_RDWR, error);
    return to && copy(img, from, to, start, end, error);
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    struct dd d = { .block = 512, .count = UINT64_MAX };
    for (unsigned i = 0; i < n; i++) {
        if (!parse_operand(&d, operands[i], error))
            return -1;
    }
    if (!d.from || !d.to) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Must specify both input and output files: if=FILE of=FILE");
        return -1;
    }
    img_watch_start(img, false);
    if (!dd(img, args, &d, error))
        return -1;
    img_watch_keep(img);
    return 0;
}

const struct img_command img_dd = {
    .name = "dd", .operands = "[bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=FILE of=FILE", .summary = "copies a part of an image into a new one",
    .options = options, .args_size = sizeof(struct args), .min = 0, .max = UINT32_MAX, .run = run,
};
