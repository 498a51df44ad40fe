/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img snapshot: those inside an image */
#include <sys/time.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    GPtrArray *actions;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_QUIET,
    { 'l', NULL, IMG_ACTION, A(actions), NULL, "lists the snapshots" },
    { 'a', NULL, IMG_ACTION, A(actions), "SNAPSHOT", "goes back to a snapshot: the image's content becomes what it was then" },
    { 'c', NULL, IMG_ACTION, A(actions), "SNAPSHOT", "makes a snapshot of that name" },
    { 'd', NULL, IMG_ACTION, A(actions), "SNAPSHOT", "deletes a snapshot" },
    IMG_SHARE, IMG_END
};

static bool list(struct block_node *n)
{
    g_autoptr(GPtrArray) snapshots = block_snapshot_list(n, NULL);
    if (snapshots)
        img_print_snapshots(snapshots);
    return true;
}

static bool make(struct block_node *n, char *name, GError **error)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    const struct block_snapshot s = { .name = name, .date_sec = (uint64_t)now.tv_sec, .date_nsec = (uint64_t)now.tv_usec * 1000, .disk_size = block_node_size(n) };
    return block_snapshot_create(n, &s, error);
}

static bool change(struct block_node *n, char action, char *name, GError **error)
{
    GError *e = NULL;
    const char *what = action == 'c' ? "create" : action == 'a' ? "apply" : "delete";
    block_quiesce(block_node_graph(n));
    bool ok = action == 'c' ? make(n, name, &e) : action == 'a' ? block_snapshot_apply(n, name, &e) : block_snapshot_delete(n, name, &e);
    block_resume(block_node_graph(n));
    if (!ok)
        g_propagate_prefixed_error(error, e, "Could not %s snapshot '%s': ", what, name);
    return ok;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    const struct img_action *action = a->actions ? a->actions->pdata[0] : NULL;
    if (a->actions && a->actions->len > 1) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Cannot mix '-l', '-a', '-c', '-d'; try 'vireo-img snapshot --help'");
        return -1;
    }
    char what = action ? action->option->letter : 0;
    block_node_auto *node = img_open(img, &a->common, operands[0], what && what != 'l' ? BLOCK_RDWR : BLOCK_NO_IO | BLOCK_NO_BACKING, error);
    if (!node)
        return -1;
    return (!what ? true : what == 'l' ? list(node) : change(node, what, action->value, error)) ? 0 : -1;
}

const struct img_command img_snapshot = {
    .name = "snapshot", .operands = "FILE", .summary = "lists, makes, applies and deletes snapshots inside an image", .options = options,
    .args_size = sizeof(struct args), .min = 1, .max = 1, .expect = "Expecting one image file name", .run = run,
};
