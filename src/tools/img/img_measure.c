/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img measure: how large a new image would be */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/bitmap.h"
#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    char *target_format, *snapshot;
    GPtrArray *options;
    uint64_t size;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_OUTPUT,
    { 'O', NULL, IMG_STRING, A(target_format), "FORMAT", "format of the new image (default raw)" },
    { 'o', NULL, IMG_LIST, A(options), "KEY=VALUE,...", "options of the new image" },
    { 'l', NULL, IMG_STRING, A(snapshot), "SNAPSHOT", "measures a snapshot inside the image" },
    { 0, "size", IMG_SIZE, A(size), "SIZE", "image size" },
    IMG_SHARE, IMG_END
};

/* Bytes of clusters of the new image that have data. */
static bool count_data(struct block_node *n, uint64_t cluster, uint64_t *ret, GError **error)
{
    uint64_t size = block_node_size(n), counted = 0 /* end of the last cluster that is counted */;
    *ret = 0;
    for (uint64_t at = 0; at < size;) {
        struct block_status s;
        int err = block_status_chain(n, NULL, at, size - at, &s);
        if (err)
            return vireo_fail_errno(error, err, "Failed to read the allocation at offset %" G_GUINT64_FORMAT, at);
        uint64_t end = at + s.bytes;
        if (!(s.flags & BLOCK_STATUS_ZERO) && end > counted) {
            uint64_t from = MAX(at, counted) / cluster * cluster, to = (end + cluster - 1) / cluster * cluster;
            *ret += to - MAX(from, counted);
            counted = to;
        }
        at = end;
    }
    return true;
}

/* qcow2, "Bitmaps": the table of each and its data in clusters, and their directory. */
static uint64_t bitmaps_size(struct block_node *n, uint64_t cluster)
{
    uint64_t sum = 0, directory = 0;
    for (struct block_bitmap *b = block_bitmap_next(n, NULL); b; b = block_bitmap_next(n, b)) {
        if (!block_bitmap_persistent(b) || block_bitmap_inconsistent(b))
            continue;
        uint64_t clusters = (block_bitmap_bytes_total(block_node_size(n), block_bitmap_granularity(b)) + cluster - 1) / cluster;
        sum += (clusters * 8 + cluster - 1) / cluster * cluster + clusters * cluster;
        directory += (24 + strlen(block_bitmap_name(b)) + 7) & ~7ull;
    }
    return sum + (directory + cluster - 1) / cluster * cluster;
}

static bool measure(struct img *img, const struct args *a, const char *filename, bool json, GError **error)
{
    const char *format = a->target_format ? a->target_format : "raw";
    const struct block_driver *d = block_driver_find(format);
    bool help, has_bitmaps = false;
    uint64_t cluster = 65536, data = 0, required, fully, bitmaps = 0;
    struct block_create c = { .size = a->size };
    keyval_auto *kv = img_join_options(a->options, &help, error);
    block_node_auto *n = NULL;
    if (!kv)
        return false;
    if (help)
        return img_help_options(format, filename, error);
    if (!d || !d->measure)
        return d ? vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Block driver '%s' does not support size measurement", format)
                 : vireo_fail(error, VIREO_ERROR_INVALID, "Unknown file format '%s'", format);
    const char *text = keyval_get(kv, "cluster_size");
    if (text && !keyval_size("cluster_size", text, 1, &cluster, error))
        return false;
    if (filename) {
        n = img_open(img, &a->common, filename, 0, error);
        if (!n || (a->snapshot && !img_load_snapshot(n, a->snapshot, error)) || !count_data(n, MAX(cluster, 512), &data, error))
            return false;
        c.size = block_node_size(n);
        has_bitmaps = !strcmp(block_node_driver(n), "qcow2") && !strcmp(format, "qcow2");
        bitmaps = has_bitmaps ? bitmaps_size(n, MAX(cluster, 512)) : 0;
    }
    c.options = kv;
    g_autofree char *backing = keyval_take(kv, "backing_file"), *backing_format = keyval_take(kv, "backing_fmt"), *size = keyval_take(kv, "size");
    c.backing_file = backing;
    c.backing_format = backing_format;
    if (!img_check_options(d, kv, error) || !d->measure(&c, data, &required, &fully, error))
        return false;
    if (json) {
        json_auto *o = json_make("required", json_object_new_int64((int64_t)required), "fully-allocated", json_object_new_int64((int64_t)fully), NULL);
        if (has_bitmaps)
            json_object_object_add(o, "bitmaps", json_object_new_int64((int64_t)bitmaps));
        img_print_json(o);
        return true;
    }
    printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", required, fully);
    if (has_bitmaps)
        printf("bitmaps size: %" PRIu64 "\n", bitmaps);
    return true;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    bool json;
    if (!img_output_json(&a->common, &json, error))
        return -1;
    if (n && a->size != UINT64_MAX)
        vireo_fail(error, VIREO_ERROR_INVALID, "--size N cannot be used together with a filename.");
    else if (!n && a->size == UINT64_MAX)
        vireo_fail(error, VIREO_ERROR_INVALID, "Either --size N or one filename must be specified.");
    else
        return measure(img, a, n ? operands[0] : NULL, json, error) ? 0 : -1;
    return -1;
}

static void defaults(void *args)
{
    ((struct args *)args)->size = UINT64_MAX;
}

const struct img_command img_measure = {
    .name = "measure", .operands = "[FILE]", .summary = "says how large a new image would be", .options = options, .args_size = sizeof(struct args),
    .min = 0, .max = 1, .expect = "Either --size N or one filename must be specified.", .defaults = defaults, .run = run,
};
