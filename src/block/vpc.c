/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Format "vpc", Microsoft's Virtual Hard Disk (VHD) images, read only, after the "Virtual Hard Disk Image Format Specification"
 * 1.0: a footer of 512 bytes at the end; fixed images are the disk before it, dynamic ones have a copy of the footer at the
 * start, a header, a table of 32-bit sector numbers, and blocks, each with a bitmap before it. All numbers are big-endian.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/drivers.h"
#include "block/mapped.h"
#include "block/metadata.h"

enum { SECTOR = 512, VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4, BLOCK_MAX = 256 << 20 };
#define VHD_ABSENT UINT32_C(0xffffffff)
/* What cylinders, heads and sectors can say at most: such a disk may be larger. */
#define CHS_MAX (UINT64_C(65535) * 16 * 255)

struct vhd_footer { /* "Hard Disk Footer Format" */
    char cookie[8];
    uint32_t features, version;
    uint64_t data_offset;
    uint32_t time;
    char creator[4];
    uint32_t creator_version, creator_host;
    uint64_t original_size, current_size;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t type, checksum;
    uint8_t uuid[16], saved, rest[427];
} __attribute__((packed));
struct vhd_dynamic { /* "Dynamic Disk Header Format" */
    char cookie[8];
    uint64_t data_offset, table_offset;
    uint32_t version, entries, block_bytes, checksum;
    uint8_t rest[1024 - 40];
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct vhd_footer) == SECTOR && sizeof(struct vhd_dynamic) == 1024);

struct vpc {
    struct mapped m;
    int size_from; /* of size_names */
    struct metadata *metadata;
    bool fixed;
    uint64_t table;
    uint32_t entries, block_bytes, bitmap_bytes;
};
static const char *const size_names[] = { "", "chs", "current_size", NULL };
static const struct keyval_key keys[] = {
    { "force_size_calc", KV_ENUM, offsetof(struct vpc, size_from), "where the disk's size comes from: chs or current_size; default: as who made the image means it", size_names },
    { NULL }
};

static struct block_node *file(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}

static int vpc_find(struct block_node *n, uint64_t offset, bool wait, struct mapped_piece *ret)
{
    const struct vpc *v = n->state;
    uint32_t entry;
    ret->fixed = true;
    ret->file = file(n);
    if (v->fixed) {
        ret->kind = MAPPED_DATA;
        ret->bytes = n->size - offset;
        ret->at = offset;
        return 0;
    }
    uint64_t index = offset / v->block_bytes, inside = offset % v->block_bytes;
    int err = metadata_read(v->metadata, v->table + index * sizeof(entry), sizeof(entry), &entry, wait);
    if (err)
        return err;
    entry = GUINT32_FROM_BE(entry);
    ret->block = offset - inside;
    ret->block_bytes = v->block_bytes;
    ret->bytes = v->block_bytes - inside;
    ret->kind = entry == VHD_ABSENT ? MAPPED_ABSENT : MAPPED_DATA;
    ret->at = (uint64_t)entry * SECTOR + v->bitmap_bytes + inside;
    return ret->kind == MAPPED_DATA && ret->at >= block_node_size(file(n)) ? EIO : 0;
}

static const struct mapped_format vpc_format = { .find = vpc_find };

static int vpc_probe(const uint8_t *head, size_t n, const char *filename)
{
    return n >= 8 && !memcmp(head, "conectix", 8) ? 100 : 0;
}

/* The sum of all bytes but those of the sum itself, inverted. */
static bool checksum_fits(const void *data, size_t n, size_t at)
{
    const uint8_t *bytes = data;
    uint32_t sum = 0, there;
    for (size_t i = 0; i < n; i++)
        sum += i >= at && i < at + 4 ? 0 : bytes[i];
    memcpy(&there, bytes + at, sizeof(there));
    return ~sum == GUINT32_FROM_BE(there);
}

/* Microsoft's programs and a few others mean the size that stands there; the rest mean what the geometry gives. */
static uint64_t disk_size(const struct vpc *v, const struct vhd_footer *f)
{
    static const char exact[][4] = { "win ", "qem2", "d2v ", "tap", "CTXS" };
    uint64_t chs = (uint64_t)GUINT16_FROM_BE(f->cylinders) * f->heads * f->sectors;
    bool by_chs = v->size_from != 2;
    for (unsigned i = 0; i < G_N_ELEMENTS(exact); i++)
        by_chs &= v->size_from == 1 || memcmp(f->creator, exact[i], 4);
    return by_chs && chs && chs != CHS_MAX ? chs * SECTOR : GUINT64_FROM_BE(f->current_size) / SECTOR * SECTOR;
}

static bool open_dynamic(struct block_node *n, uint64_t at, GError **error)
{
    struct vpc *v = n->state;
    struct vhd_dynamic d;
    uint64_t size = block_node_size(file(n));
    int err = size < sizeof(d) || at > size - sizeof(d) ? EIO : block_pread(file(n), at, sizeof(d), &d);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the dynamic header of '%s'", n->filename);
    if (memcmp(d.cookie, "cxsparse", 8) || !checksum_fits(&d, sizeof(d), 36))
        return vireo_fail(error, VIREO_ERROR_INVALID, "the dynamic header of '%s' is damaged", n->filename);
    v->table = GUINT64_FROM_BE(d.table_offset);
    v->entries = GUINT32_FROM_BE(d.entries);
    v->block_bytes = GUINT32_FROM_BE(d.block_bytes);
    if (v->block_bytes < SECTOR || v->block_bytes & (v->block_bytes - 1) || v->block_bytes > BLOCK_MAX)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Invalid block size %u in '%s'", v->block_bytes, n->filename);
    if (n->size > (uint64_t)v->entries * v->block_bytes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the block table of '%s' is too small for its disk", n->filename);
    if (v->table > size || (uint64_t)v->entries * 4 > size - v->table)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the block table of '%s' goes beyond its end", n->filename);
    v->bitmap_bytes = (v->block_bytes / SECTOR / 8 + SECTOR - 1) / SECTOR * SECTOR;
    return true;
}

static bool vpc_open(struct block_node *n, unsigned flags, GError **error)
{
    struct vpc *v = n->state;
    struct vhd_footer f;
    uint64_t size = block_node_size(file(n));
    int err = size < sizeof(f) ? EINVAL : block_pread(file(n), 0, sizeof(f), &f);
    if (!err && memcmp(f.cookie, "conectix", 8)) /* a fixed image has it at the end alone */
        err = block_pread(file(n), size - sizeof(f), sizeof(f), &f);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the footer of '%s'", n->filename);
    if (memcmp(f.cookie, "conectix", 8))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in VHD format (vpc): it has no footer", n->filename);
    if (!checksum_fits(&f, sizeof(f), 64))
        return vireo_fail(error, VIREO_ERROR_INVALID, "the footer of '%s' is damaged: its checksum is wrong", n->filename);
    uint32_t type = GUINT32_FROM_BE(f.type);
    n->size = disk_size(v, &f);
    if (n->size > INT64_MAX / 2)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the size of the disk in '%s' is beyond all measure", n->filename);
    if (type == VHD_DIFFERENCING)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' is a differencing VHD, which stands on another image: that is not supported", n->filename);
    if (type != VHD_FIXED && type != VHD_DYNAMIC)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' is a VHD of type %u, which is not supported", n->filename, type);
    v->fixed = type == VHD_FIXED;
    if (v->fixed && n->size > size - sizeof(f))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is shorter than the disk that its footer describes", n->filename);
    if (!v->fixed && !open_dynamic(n, GUINT64_FROM_BE(f.data_offset), error))
        return false;
    mapped_init(&v->m, &vpc_format);
    v->metadata = metadata_create(file(n), &v->m.lock);
    return mapped_refuse_writing(n, flags, "a VHD image", error);
}

static void vpc_close(struct block_node *n)
{
    struct vpc *v = n->state;
    metadata_destroy(g_steal_pointer(&v->metadata));
    mapped_finish(&v->m);
}

static bool vpc_reopen(struct block_node *n, unsigned flags, GError **error)
{
    return mapped_refuse_writing(n, flags, "a VHD image", error);
}

static int vpc_get_info(struct block_node *n, struct block_info *ret)
{
    const struct vpc *v = n->state;
    ret->cluster_size = v->fixed ? 0 : v->block_bytes;
    return 0;
}

const struct block_driver block_vpc = {
    .name = "vpc", .help = "Virtual Hard Disk of Microsoft, read only", .kind = BLOCK_FORMAT, .state_size = sizeof(struct vpc), .keys = keys, .probe = vpc_probe,
    .open = vpc_open, .close = vpc_close, .reopen = vpc_reopen, .preadv = mapped_preadv, .status = mapped_status, .map_now = mapped_map_now, .get_info = vpc_get_info,
};
