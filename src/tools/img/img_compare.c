/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img compare */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

enum { SAME = 0, DIFFERENT = 1, STATUS_OPEN = 2, STATUS_IO = 3, BUFFER = 1 << 20, SECTOR = 512 };

struct args {
    struct img_common common;
    char *second_format;
    bool strict;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS,
    { 'f', NULL, IMG_STRING, IMG_COMMON(format), "FORMAT", "format of the first image" },
    { 'F', NULL, IMG_STRING, A(second_format), "FORMAT", "format of the second image" },
    IMG_SRC_CACHE, IMG_PROGRESS, IMG_QUIET,
    { 's', NULL, IMG_FLAG, A(strict), NULL, "strict: sizes and what is allocated must be the same too" },
    IMG_SHARE, IMG_END
};

struct compare {
    struct img *img;
    struct block_node *node[2];
    uint64_t size[2], common, total;
    uint8_t *buffer[2];
    bool strict, quiet;
};

static int failed(GError **error, int err, const char *what, const struct block_node *n, uint64_t offset)
{
    vireo_fail_errno(error, err, "Error while %s offset %" G_GUINT64_FORMAT " of %s", what, offset, block_node_filename(n));
    return STATUS_IO;
}

static int differ(const struct compare *c, const char *format, uint64_t offset)
{
    img_watch_end(c->img);
    if (!c->quiet) {
        printf(format, offset);
        puts("");
    }
    return DIFFERENT;
}

/* Reads the piece of the nodes that have data there; the first sector in which they differ, or bytes. */
static int compare_data(struct compare *c, uint64_t offset, uint64_t bytes, const bool data[2], GError **error)
{
    for (uint64_t done = 0; done < bytes; done += BUFFER) {
        uint64_t part = MIN(bytes - done, (uint64_t)BUFFER), same = 0;
        for (int i = 0; i < 2; i++) {
            int err = data[i] ? block_pread(c->node[i], offset + done, part, c->buffer[i]) : 0;
            if (err)
                return failed(error, err, "reading", c->node[i], offset + done);
        }
        const uint8_t *only = data[0] ? c->buffer[0] : c->buffer[1];
        if (data[0] && data[1] ? !memcmp(c->buffer[0], c->buffer[1], part) : buffer_is_zero(only, part))
            continue;
        while (data[0] && data[1] ? !memcmp(c->buffer[0] + same, c->buffer[1] + same, MIN(SECTOR, part - same))
                                  : buffer_is_zero(only + same, MIN(SECTOR, part - same)))
            same += SECTOR;
        return differ(c, "Content mismatch at offset %" G_GUINT64_FORMAT "!", offset + done + same);
    }
    return SAME;
}

/* The part that both images have. */
static int compare_common(struct compare *c, GError **error)
{
    const unsigned mask = BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_EOF;
    for (uint64_t at = 0; at < c->common;) {
        struct block_status s[2];
        for (int i = 0; i < 2; i++) {
            int err = block_status_chain(c->node[i], NULL, at, c->size[i] - at, &s[i]);
            if (err)
                return failed(error, err, "looking at the allocation at", c->node[i], at);
        }
        if (c->strict && (s[0].flags & mask) != (s[1].flags & mask))
            return differ(c, "Strict mode: Offset %" G_GUINT64_FORMAT " block status mismatch!", at);
        uint64_t bytes = MIN(MIN(s[0].bytes, s[1].bytes), c->common - at);
        const bool data[2] = { !(s[0].flags & BLOCK_STATUS_ZERO), !(s[1].flags & BLOCK_STATUS_ZERO) };
        if (data[0] || data[1])
            bytes = MIN(bytes, 64u << 20); /* for the progress */
        int status = data[0] || data[1] ? compare_data(c, at, bytes, data, error) : SAME;
        if (status != SAME)
            return status;
        at += bytes;
        img_progress(c->img, (double)at / (double)MAX(c->total, 1));
        if (img_canceled(c->img)) {
            img_interrupted(c->img, error);
            return STATUS_OPEN;
        }
    }
    return SAME;
}

/* What only the larger one has must be zero. */
static int compare_rest(struct compare *c, GError **error)
{
    int i = c->size[1] > c->size[0];
    const bool data[2] = { i == 0, i == 1 };
    for (uint64_t at = c->common; at < c->total;) {
        struct block_status s;
        int err = block_status_chain(c->node[i], NULL, at, c->total - at, &s);
        if (err)
            return failed(error, err, "looking at the allocation at", c->node[i], at);
        if (!(s.flags & BLOCK_STATUS_ZERO)) {
            int status = compare_data(c, at, s.bytes, data, error);
            if (status != SAME)
                return status;
        }
        at += s.bytes;
        img_progress(c->img, (double)at / (double)c->total);
    }
    return SAME;
}

static int compare(struct compare *c, GError **error)
{
    for (int i = 0; i < 2; i++)
        c->size[i] = block_node_size(c->node[i]);
    c->common = MIN(c->size[0], c->size[1]);
    c->total = MAX(c->size[0], c->size[1]);
    if (c->strict && c->common != c->total) {
        if (!c->quiet)
            puts("Strict mode: Image size mismatch!");
        return DIFFERENT;
    }
    int status = compare_common(c, error);
    if (status == SAME && c->common != c->total) {
        if (!c->quiet)
            puts("Warning: Image size mismatch!");
        status = compare_rest(c, error);
    }
    if (status == SAME) {
        img_progress(c->img, 1);
        if (!c->quiet)
            puts("Images are identical.");
    }
    return status;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    unsigned flags = a->common.force_share ? BLOCK_FORCE_SHARE : 0;
    if (!img_cache("source cache", a->common.src_cache, &flags, NULL, error))
        return -1;
    block_node_auto *first = img_open(img, &a->common, operands[0], flags, error);
    if (!first)
        return -1;
    block_node_auto *second = img_open_as(img, operands[1], a->second_format, a->common.image_opts, flags, error);
    if (!second)
        return -1;
    struct compare c = { .img = img, .node = { first, second }, .strict = a->strict, .quiet = a->common.quiet,
                         .buffer = { img_buffer(BUFFER), img_buffer(BUFFER) } };
    img_watch_start(img, a->common.progress);
    int status = c.buffer[0] && c.buffer[1] ? compare(&c, error) : failed(error, ENOMEM, "reading", first, 0);
    free(c.buffer[0]);
    free(c.buffer[1]);
    return status;
}

const struct img_command img_compare = {
    .name = "compare", .operands = "FILE1 FILE2", .summary = "compares the content of two images", .options = options, .args_size = sizeof(struct args),
    .min = 2, .max = 2, .expect = "Expecting two image file names", .run = run, .open_status = STATUS_OPEN,
};
