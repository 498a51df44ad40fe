/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Format "raw": bytes of the disk are bytes of the file, or of a part of it. */
#include <errno.h>
#include <string.h>

#include "block/block_private.h"
#include "block/drivers.h"

struct raw {
    uint64_t offset, size; /* of the part; size 0: to the end */
};
#define R(member) offsetof(struct raw, member)
static const struct keyval_key raw_keys[] = {
    { "offset", KV_SIZE, R(offset), "where in the file it begins" },
    { "size", KV_SIZE, R(size), "how much of the file it is" },
    { NULL }
};

/* A disk consists of whole sectors: a file's last one may be there in part. */
static uint64_t sectors(uint64_t size)
{
    return (size + 511) & ~511ull;
}

static bool raw_open(struct block_node *n, unsigned flags, GError **error)
{
    const struct raw *r = n->state;
    uint64_t size = block_node_size(n->child[BLOCK_ROLE_FILE]);
    if (r->offset > size || r->size > size - r->offset)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' has %" G_GUINT64_FORMAT " bytes: offset and size go beyond it", n->filename, size);
    if (r->size % 512)
        return vireo_fail(error, VIREO_ERROR_INVALID, "size is not a multiple of 512 bytes");
    n->size = r->size ? r->size : sectors(size - r->offset);
    return true;
}

/* Another process may have made the file larger. */
static bool raw_reopen(struct block_node *n, unsigned flags, GError **error)
{
    return !(n->flags & BLOCK_INACTIVE) || flags & BLOCK_INACTIVE || raw_open(n, flags, error);
}

static struct block_node *file(struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}

static uint64_t at(const struct block_node *n, uint64_t offset)
{
    return ((const struct raw *)n->state)->offset + offset;
}

static int raw_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    return block_preadv(file(n), at(n, offset), bytes, iov, niov);
}

static int raw_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    return flags & BLOCK_COMPRESSED ? EOPNOTSUPP : block_pwritev(file(n), at(n, offset), bytes, iov, niov, flags);
}

static int raw_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    return block_write_zeroes(file(n), at(n, offset), bytes, flags);
}

static int raw_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    return block_discard(file(n), at(n, offset), bytes);
}

static int raw_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    *ret = (struct block_status){ .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED | BLOCK_STATUS_RECURSE, .bytes = bytes,
                                  .map = at(n, offset), .file = file(n) };
    return 0;
}

static bool raw_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret)
{
    ret->node = file(n);
    ret->offset = at(n, offset);
    return true;
}

static bool raw_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    const struct raw *r = n->state;
    if (r->size)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' is shown with a fixed size (size=)", n->filename);
    if (!block_truncate(file(n), r->offset + size, exact, prealloc, error))
        return false;
    n->size = exact ? sectors(size) : sectors(block_node_size(file(n)) - r->offset);
    return true;
}

static bool raw_create(struct block_node *n, struct block_create *c, GError **error)
{
    if (c->backing_file)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Backing file not supported for file format 'raw'");
    return block_node_size(n) >= c->size || block_truncate(n, c->size, false, "off", error);
}

static bool raw_measure(struct block_create *c, uint64_t data, uint64_t *ret_required, uint64_t *ret_fully, GError **error)
{
    *ret_required = *ret_fully = sectors(c->size);
    return true;
}

const struct block_driver block_raw = {
    .name = "raw", .help = "bytes as they are", .kind = BLOCK_FORMAT, .state_size = sizeof(struct raw), .keys = raw_keys, .open = raw_open, .reopen = raw_reopen, .preadv = raw_preadv,
    .pwritev = raw_pwritev, .write_zeroes = raw_write_zeroes, .discard = raw_discard, .supports_fua = true, .status = raw_status, .map_now = raw_map_now,
    .truncate = raw_truncate, .create = raw_create, .measure = raw_measure,
};
