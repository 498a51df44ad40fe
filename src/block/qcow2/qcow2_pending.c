/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What other files of this room will hold; each function goes from here when its file comes. */
#include "block/qcow2/qcow2.h"

#include <errno.h>

int qcow2_compress(struct qcow2 *q, const void *from, size_t bytes, void *to, size_t max, size_t *ret_bytes)
{
    return EOPNOTSUPP;
}
int qcow2_decompress(struct qcow2 *q, const void *from, size_t from_bytes, void *to, size_t bytes)
{
    return EOPNOTSUPP;
}
void qcow2_codec_free(struct qcow2 *q)
{
}
int qcow2_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error)
{
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "qcow2 images cannot be checked yet");
    return EOPNOTSUPP;
}
bool qcow2_snapshots_read(struct qcow2 *q, GError **error)
{
    return true;
}
void qcow2_snapshots_free(struct qcow2 *q)
{
}
bool qcow2_bitmaps_open(struct qcow2 *q, GError **error)
{
    if (q->read_only || !(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return true;
    q->h.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS; /* they will not follow what is written */
    int err = qcow2_header_features(q);
    return !err || vireo_fail_errno(error, err, "cannot write the header of '%s'", q->n->filename);
}
bool qcow2_bitmaps_store(struct qcow2 *q, GError **error)
{
    return true;
}
void qcow2_bitmaps_free(struct qcow2 *q)
{
}
void qcow2_bitmaps_info(const struct qcow2 *q, struct json_object *data)
{
}
