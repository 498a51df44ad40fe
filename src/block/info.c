/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What QMP and the image tool say about an image (ImageInfo). */
#include <string.h>

#include "block/block_private.h"

struct json_object *block_image_info(struct block_node *n, bool chain)
{
    struct block_info info;
    (void)block_get_info(n, &info);
    struct json_object *o = json_make("virtual-size", json_object_new_int64((int64_t)block_node_size(n)), "filename",
                                      json_object_new_string(n->filename), "format", json_object_new_string(n->driver->name), "actual-size",
                                      json_object_new_int64((int64_t)block_node_allocated(n)), "dirty-flag", json_object_new_boolean(info.dirty), NULL);
    if (info.cluster_size)
        json_object_object_add(o, "cluster-size", json_object_new_int64(info.cluster_size));
    if (info.encrypted)
        json_object_object_add(o, "encrypted", json_object_new_boolean(true));
    if (n->backing_file) {
        g_autofree char *full = block_backing_resolved(n);
        json_object_object_add(o, "backing-filename", json_object_new_string(n->backing_file));
        json_object_object_add(o, "full-backing-filename", json_object_new_string(full));
        if (n->backing_format)
            json_object_object_add(o, "backing-filename-format", json_object_new_string(n->backing_format));
    }
    struct json_object *specific = block_specific_info(n);
    if (specific)
        json_object_object_add(o, "format-specific", specific);
    struct block_node *backing = block_skip_filters(block_backing(n));
    if (chain && backing)
        json_object_object_add(o, "backing-image", block_image_info(backing, true));
    return o;
}
