/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img bitmap: the dirty bitmaps that are kept in an image */
#include <string.h>

#include "block/bitmap.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    GPtrArray *actions;
    char *source, *source_format;
    uint64_t granularity;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    { 0, "add", IMG_ACTION, A(actions), NULL, "makes the bitmap" },
    { 0, "remove", IMG_ACTION, A(actions), NULL, "removes it" },
    { 0, "clear", IMG_ACTION, A(actions), NULL, "makes it clean" },
    { 0, "enable", IMG_ACTION, A(actions), NULL, "writes to the image are recorded in it" },
    { 0, "disable", IMG_ACTION, A(actions), NULL, "writes are no longer recorded" },
    { 0, "merge", IMG_ACTION, A(actions), "SOURCE", "what is dirty in SOURCE becomes dirty in it" },
    { 'b', NULL, IMG_STRING, A(source), "FILE", "image that has the bitmaps for --merge" },
    { 'F', NULL, IMG_STRING, A(source_format), "FORMAT", "its format" },
    { 'g', NULL, IMG_SIZE, A(granularity), "SIZE", "granularity" },
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_END
};

static struct block_bitmap *find(struct block_node *n, const char *name, GError **error)
{
    struct block_bitmap *b = block_bitmap_find(n, name);
    if (!b)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Dirty bitmap '%s' not found", name);
    return b;
}

static bool add(struct block_node *n, const char *name, uint64_t granularity, GError **error)
{
    if (granularity > BLOCK_BITMAP_MAX_GRANULARITY || (granularity && (granularity < 512 || granularity & (granularity - 1))))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Granularity must be power of 2 and at least 512");
    uint32_t g = granularity ? (uint32_t)granularity : block_bitmap_default_granularity(n);
    if (block_bitmap_find(n, name))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bitmap already exists: %s", name);
    if (!block_bitmap_check_persistent(n, name, g, error))
        return false;
    struct block_bitmap *b = block_bitmap_create(n, name, g, error);
    if (b)
        block_bitmap_set_persistent(b, true);
    return b;
}

static bool merge(struct block_node *n, struct block_node *from, const char *name, const char *source, GError **error)
{
    struct block_bitmap *to = find(n, name, error), *b = to ? find(from, source, error) : NULL;
    return b && block_bitmap_check(to, BLOCK_BITMAP_USABLE, error) && block_bitmap_check(b, BLOCK_BITMAP_READABLE, error) &&
           block_bitmap_merge(to, b, error);
}

static bool act(struct block_node *n, struct block_node *source, const struct args *a, const struct img_action *action, const char *name, GError **error)
{
    const char *what = action->option->name;
    if (!strcmp(what, "add"))
        return add(n, name, a->granularity, error);
    if (!strcmp(what, "merge"))
        return merge(n, source ? source : n, name, action->value, error);
    struct block_bitmap *b = find(n, name, error);
    if (!b)
        return false;
    if (!strcmp(what, "remove"))
        return block_bitmap_check(b, BLOCK_BITMAP_BUSY | BLOCK_BITMAP_READ_ONLY, error) && block_bitmap_remove(b, error);
    if (!block_bitmap_check(b, BLOCK_BITMAP_USABLE, error))
        return false;
    if (!strcmp(what, "clear"))
        block_bitmap_clear(b);
    else
        block_bitmap_set_enabled(b, !strcmp(what, "enable"));
    return true;
}

static bool change(struct img *img, const struct args *a, char **operands, GError **error)
{
    block_node_auto *n = img_open(img, &a->common, operands[0], BLOCK_RDWR | BLOCK_NO_BACKING, error);
    block_node_auto *source = NULL;
    if (!n || (a->source && !(source = img_open_as(img, a->source, a->source_format, false, BLOCK_NO_BACKING, error))))
        return false;
    bool ok = true;
    block_quiesce(img->graph);
    for (guint i = 0; i < a->actions->len && ok; i++) {
        const struct img_action *action = a->actions->pdata[i];
        GError *e = NULL;
        ok = act(n, source, a, action, operands[1], &e);
        if (!ok)
            g_propagate_prefixed_error(error, e, "Operation %s on bitmap %s failed: ", action->option->name, operands[1]);
    }
    block_resume(img->graph);
    return ok;
}

static bool has(const struct args *a, const char *what)
{
    for (guint i = 0; i < a->actions->len; i++) {
        if (!strcmp(((const struct img_action *)a->actions->pdata[i])->option->name, what))
            return true;
    }
    return false;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    if (!a->actions)
        vireo_fail(error, VIREO_ERROR_INVALID, "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
    else if (n != 2)
        vireo_fail(error, VIREO_ERROR_INVALID, "Expecting filename and bitmap name");
    else if (a->granularity && !has(a, "add"))
        vireo_fail(error, VIREO_ERROR_INVALID, "granularity only supported with --add");
    else if (a->source && !has(a, "merge"))
        vireo_fail(error, VIREO_ERROR_INVALID, "Merge bitmap source file only supported with --merge");
    else if (a->source_format && !a->source)
        vireo_fail(error, VIREO_ERROR_INVALID, "-F is only for the image of -b");
    else
        return change(img, a, operands, error) ? 0 : -1;
    return -1;
}

const struct img_command img_bitmap = {
    .name = "bitmap", .operands = "FILE BITMAP", .summary = "changes the dirty bitmaps kept in an image", .options = options,
    .args_size = sizeof(struct args), .min = 0, .max = UINT32_MAX, .run = run,
};
