/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img map: where the content of an image lies */
#include <stdio.h>
#include <string.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    uint64_t start, length;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_OUTPUT,
    { 's', "start-offset", IMG_SIZE, A(start), "OFFSET", "start offset" },
    { 'l', "max-length", IMG_SIZE, A(length), "LENGTH", "max length" },
    IMG_SHARE, IMG_END
};

struct extent {
    uint64_t start, length, offset;
    unsigned depth;
    bool present, zero, data, has_offset;
    struct block_node *file;
};

/* The first image from n downwards that says what is there. A backing image that is too short leaves zeroes above itself. */
static int look(struct block_node *n, uint64_t offset, uint64_t bytes, struct extent *ret)
{
    struct block_status s;
    *ret = (struct extent){ .start = offset };
    for (n = block_skip_filters(n);; ret->depth++) {
        int err = block_status(n, offset, bytes, &s);
        if (err)
            return err;
        bytes = s.bytes;
        if (s.flags & (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO))
            break;
        struct block_node *below = block_skip_filters(block_backing(n));
        uint64_t size = below ? block_node_size(below) : 0;
        if (!below || offset >= size) {
            s.flags = BLOCK_STATUS_ZERO | (s.flags & BLOCK_STATUS_ALLOCATED);
            break;
        }
        n = below;
    }
    ret->length = bytes;
    ret->present = s.flags & BLOCK_STATUS_ALLOCATED;
    ret->zero = s.flags & BLOCK_STATUS_ZERO;
    ret->data = s.flags & BLOCK_STATUS_DATA;
    ret->has_offset = s.flags & BLOCK_STATUS_MAPPED;
    ret->offset = s.map;
    ret->file = ret->has_offset ? s.file : NULL;
    return 0;
}

static bool continues(const struct extent *a, const struct extent *b)
{
    return a->zero == b->zero && a->data == b->data && a->present == b->present && a->depth == b->depth && a->has_offset == b->has_offset &&
           a->file == b->file && (!a->has_offset || a->offset + a->length == b->offset);
}

static bool print_human(const struct extent *e, GError **error)
{
    if (e->data && !e->has_offset)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "File contains external, encrypted or compressed clusters.");
    if (e->data && !e->zero)
        printf("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%s\n", e->start, e->length, e->offset,
               e->file ? block_node_filename(e->file) : "");
    return true;
}

static void print_json(const struct extent *e, bool first)
{
    printf("%s{ \"start\": %" G_GUINT64_FORMAT ", \"length\": %" G_GUINT64_FORMAT ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
           first ? "[" : ",\n", e->start, e->length, e->depth, e->present ? "true" : "false", e->zero ? "true" : "false", e->data ? "true" : "false");
    if (e->has_offset)
        printf(", \"offset\": %" G_GUINT64_FORMAT, e->offset);
    fputs("}", stdout);
}

static bool map(struct img *img, struct block_node *n, uint64_t start, uint64_t end, bool json, GError **error)
{
    struct extent current = { .start = start }, next;
    bool first = true;
    for (uint64_t at = start; at < end; at += next.length) {
        int err = look(n, at, end - at, &next);
        if (err)
            return vireo_fail_errno(error, err, "Failed to read the allocation at offset %" G_GUINT64_FORMAT, at);
        if (current.length && continues(&current, &next)) {
            current.length += next.length;
            continue;
        }
        if (current.length) {
            if (json)
                print_json(&current, first);
            else if (!print_human(&current, error))
                return false;
            first = false;
        }
        current = next;
    }
    if (!json)
        return print_human(&current, error);
    print_json(&current, first);
    puts("]");
    return true;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    bool json;
    if (!img_output_json(&a->common, &json, error))
        return -1;
    block_node_auto *node = img_open(img, &a->common, operands[0], 0, error);
    if (!node)
        return -1;
    uint64_t size = block_node_size(node), end = a->length <= size - MIN(a->start, size) ? a->start + a->length : size;
    if (!json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    return map(img, node, a->start, MAX(end, a->start), json, error) ? 0 : -1;
}

static void defaults(void *args)
{
    ((struct args *)args)->length = UINT64_MAX;
}

const struct img_command img_map = {
    .name = "map", .operands = "FILE", .summary = "shows where the content of an image lies", .options = options, .args_size = sizeof(struct args),
    .min = 1, .max = 1, .expect = "Expecting one image file name", .defaults = defaults, .run = run,
};
