/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks of a running domain: size. */
#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/stats/domain_stats.h"

/* What a client is told of a disk that is not there. */
static const char not_live[] = "disk '%s' was not found in the domain config";

/* ---- size ---- */

static GVariant *block_resize(struct manage_call *c, GError **error)
{
    uint64_t size;
    uint32_t flags;
    blocktarget_auto t = { .unknown = not_live };
    g_variant_get_child(c->args, 2, "t", &size);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_RESIZE_BYTES, error) || !domain_blocktarget_find(c, &t, error))
        return NULL;
    g_autofree char *node = domain_chain_node(t.disk);
    if (!node)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "disk '%s' has no medium", t.name);
    if (!(flags & VIR_DOMAIN_BLOCK_RESIZE_BYTES)) {
        if (size > UINT64_MAX / 1024)
            return manage_null(error, VIR_ERR_OVERFLOW, "size must be less than %" G_GUINT64_FORMAT " KiB", UINT64_MAX / 1024);
        size *= 1024;
    }
    size = (size + 511) & ~(uint64_t)511;
    if (!domain_begin(t.d, "block resize", true, error))
        return NULL;
    struct json_object *args = json_object_new_object();
    js_set(args, "node-name", node);
    js_int(args, "size", (int64_t)size);
    bool ok = domain_command_run(t.d, "block_resize", args, error);
    domain_end(t.d);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_block[] = {
    { RPC_DOMAIN_BLOCK_RESIZE, block_resize },
    { 0, NULL },
};
