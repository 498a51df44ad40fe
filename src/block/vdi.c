/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Format "vdi", VirtualBox's disk images, version 1.1: a header of one sector, a table of 32-bit numbers (which block of the
 * file holds this block of the disk), and blocks of 1 MiB. All numbers are little-endian. The layout was taken from images.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/crypto.h"
#include "base/error.h"
#include "block/drivers.h"
#include "block/mapped.h"
#include "block/metadata.h"

enum {
    VDI_SIGNATURE_AT = 0x40, VDI_SIGNATURE = 0xbeda107f, VDI_VERSION = 0x00010001,
    VDI_DYNAMIC = 1, VDI_STATIC = 2,
    SECTOR = 512, BLOCK = 1 << 20,
};
#define VDI_ABSENT UINT32_C(0xffffffff)
#define VDI_ZERO UINT32_C(0xfffffffe)
/* More blocks than this cannot be said in the table, nor is a file that long. */
#define VDI_MAX_BLOCKS UINT32_C(0x3fffffff)

struct vdi_header { /* on the disk, little-endian */
    char text[0x40];
    uint32_t signature, version, header_size, type, flags;
    char description[256];
    uint32_t table_offset, data_offset, cylinders, heads, sectors, sector_size, unused;
    uint64_t disk_size;
    uint32_t block_size, block_extra, blocks, allocated;
    uint8_t uuid[16], uuid_snapshot[16], uuid_link[16], uuid_parent[16], rest[56];
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct vdi_header) == SECTOR && offsetof(struct vdi_header, disk_size) == 0x170);

struct vdi {
    struct mapped m;
    struct metadata *metadata;
    uint64_t table, data;   /* offsets in the file */
    uint32_t blocks, block_bytes;
    uint32_t allocated;     /* as the header says */
    uint64_t next;          /* number of the first block that nobody uses; m.lock */
};

static struct block_node *file(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}

static uint64_t block_at(const struct vdi *v, uint32_t number)
{
    return v->data + (uint64_t)number * v->block_bytes;
}

/* ---- the table ---- */

static int vdi_find(struct block_node *n, uint64_t offset, bool wait, struct mapped_piece *ret)
{
    const struct vdi *v = n->state;
    uint64_t index = offset / v->block_bytes, inside = offset % v->block_bytes;
    uint32_t entry;
    int err = metadata_read(v->metadata, v->table + index * sizeof(entry), sizeof(entry), &entry, wait);
    if (err)
        return err;
    entry = GUINT32_FROM_LE(entry);
    ret->block = offset - inside;
    ret->block_bytes = v->block_bytes;
    ret->bytes = v->block_bytes - inside;
    ret->kind = entry == VDI_ABSENT ? MAPPED_ABSENT : entry == VDI_ZERO ? MAPPED_ZERO : MAPPED_DATA;
    if (ret->kind != MAPPED_DATA)
        return 0;
    if (entry >= v->next)
        return EIO; /* the table names a block that the file does not have */
    ret->file = file(n);
    ret->at = block_at(v, entry) + inside;
    return 0;
}

static int vdi_allocate(struct block_node *n, struct mapped_piece *p)
{
    struct vdi *v = n->state;
    if (v->next >= VDI_MAX_BLOCKS)
        return EFBIG;
    p->file = file(n);
    p->at = block_at(v, (uint32_t)v->next++);
    return 0;
}

static int vdi_commit(struct block_node *n, const struct mapped_piece *p)
{
    struct vdi *v = n->state;
    uint32_t entry = GUINT32_TO_LE((uint32_t)((p->at - v->data) / v->block_bytes)), count = GUINT32_TO_LE(v->allocated + 1);
    int err = metadata_write(v->metadata, v->table + p->block / v->block_bytes * sizeof(entry), sizeof(entry), &entry);
    if (!err)
        err = metadata_write(v->metadata, offsetof(struct vdi_header, allocated), sizeof(count), &count);
    if (!err)
        v->allocated++;
    return err;
}

static int vdi_relieve(struct block_node *n)
{
    const struct vdi *v = n->state;
    return metadata_full(v->metadata) ? metadata_flush(v->metadata) : 0;
}

static const struct mapped_format vdi_format = { .find = vdi_find, .allocate = vdi_allocate, .commit = vdi_commit, .relieve = vdi_relieve };

/* ---- opening ---- */

static int vdi_probe(const uint8_t *head, size_t n, const char *filename)
{
    uint32_t signature;
    if (n < sizeof(struct vdi_header))
        return 0;
    memcpy(&signature, head + VDI_SIGNATURE_AT, sizeof(signature));
    return GUINT32_FROM_LE(signature) == VDI_SIGNATURE ? 100 : 0;
}

static bool bad(const struct block_node *n, const char *what, uint64_t value, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "unsupported VDI image '%s': %s is %" G_GUINT64_FORMAT, n->filename, what, value);
}

static bool uuid_set(const uint8_t *uuid)
{
    return !buffer_is_zero(uuid, 16);
}

static bool check_header(struct block_node *n, const struct vdi_header *h, GError **error)
{
    struct vdi *v = n->state;
    uint32_t block = GUINT32_FROM_LE(h->block_size);
    if (GUINT32_FROM_LE(h->signature) != VDI_SIGNATURE)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in VDI format (bad signature)", n->filename);
    if (GUINT32_FROM_LE(h->version) != VDI_VERSION)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "unsupported VDI image '%s': version %u.%u", n->filename, GUINT32_FROM_LE(h->version) >> 16,
                          GUINT32_FROM_LE(h->version) & 0xffff);
    if (GUINT32_FROM_LE(h->type) != VDI_DYNAMIC && GUINT32_FROM_LE(h->type) != VDI_STATIC)
        return bad(n, "the image type (1: dynamic, 2: static)", GUINT32_FROM_LE(h->type), error);
    if (GUINT32_FROM_LE(h->sector_size) != SECTOR)
        return bad(n, "the sector size", GUINT32_FROM_LE(h->sector_size), error);
    if (block != BLOCK || h->block_extra)
        return bad(n, h->block_extra ? "the extra size of a block" : "the block size", h->block_extra ? GUINT32_FROM_LE(h->block_extra) : block, error);
    if (uuid_set(h->uuid_link) || uuid_set(h->uuid_parent))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "unsupported VDI image '%s': it stands on another image (non-NULL %s UUID)", n->filename,
                          uuid_set(h->uuid_link) ? "link" : "parent");
    v->table = GUINT32_FROM_LE(h->table_offset);
    v->data = GUINT32_FROM_LE(h->data_offset);
    v->blocks = GUINT32_FROM_LE(h->blocks);
    v->allocated = GUINT32_FROM_LE(h->allocated);
    v->block_bytes = block;
    n->size = (GUINT64_FROM_LE(h->disk_size) + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
    if (v->table % SECTOR || v->table < SECTOR)
        return bad(n, "the offset of the block map", v->table, error);
    if (v->data % SECTOR || v->data < v->table + (uint64_t)v->blocks * 4)
        return bad(n, "the offset of the data", v->data, error);
    if (v->blocks > VDI_MAX_BLOCKS || n->size > (uint64_t)v->blocks * block || GUINT64_FROM_LE(h->disk_size) > INT64_MAX)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "unsupported VDI image '%s': a disk of %" G_GUINT64_FORMAT " bytes, %u blocks in the map", n->filename,
                          GUINT64_FROM_LE(h->disk_size), v->blocks);
    return true;
}

/* Finds where the file's used part ends, and blocks that are used twice: writing would change two places of the disk. */
static bool scan_table(struct block_node *n, bool writable, GError **error)
{
    struct vdi *v = n->state;
    uint64_t size = block_node_size(file(n)), room = size > v->data ? (size - v->data + v->block_bytes - 1) / v->block_bytes : 0, bytes = (uint64_t)v->blocks * 4;
    v->next = room;
    if (v->table + bytes > size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "VDI image '%s' ends within its block map", n->filename);
    if (!writable)
        return true;
    g_autofree uint8_t *taken = g_malloc0(room / 8 + 1);
    g_autofree uint32_t *piece = g_malloc(1 << 16);
    for (uint64_t done = 0, part; done < bytes; done += part) {
        part = MIN(bytes - done, 1 << 16);
        int err = block_pread(file(n), v->table + done, part, piece);
        if (err)
            return vireo_fail_errno(error, err, "cannot read the block map of '%s'", n->filename);
        for (uint64_t i = 0; i < part / 4; i++) {
            uint32_t e = GUINT32_FROM_LE(piece[i]);
            if (e >= VDI_ZERO)
                continue;
            if (e >= room)
                return vireo_fail(error, VIREO_ERROR_INVALID, "VDI image '%s' is damaged: the file has no block %u, which the map names; it can be read (read-only=on)",
                                  n->filename, e);
            if (taken[e / 8] >> e % 8 & 1)
                return vireo_fail(error, VIREO_ERROR_INVALID, "VDI image '%s' is damaged: block %u is used twice; it can be read (read-only=on)", n->filename, e);
            taken[e / 8] |= (uint8_t)(1u << e % 8);
        }
    }
    return true;
}

static bool vdi_open(struct block_node *n, unsigned flags, GError **error)
{
    struct vdi *v = n->state;
    struct vdi_header h;
    int err = block_node_size(file(n)) < sizeof(h) ? EINVAL : block_pread(file(n), 0, sizeof(h), &h);
    if (err)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in VDI format: it has no header", n->filename);
    if (!check_header(n, &h, error) || !scan_table(n, flags & BLOCK_RDWR, error))
        return false;
    mapped_init(&v->m, &vdi_format);
    v->metadata = metadata_create(file(n), &v->m.lock);
    return true;
}

static int vdi_flush(struct block_node *n)
{
    return metadata_flush(((struct vdi *)n->state)->metadata);
}

static void vdi_close(struct block_node *n)
{
    struct vdi *v = n->state;
    if (v->metadata && n->flags & BLOCK_RDWR)
        vdi_flush(n);
    metadata_destroy(g_steal_pointer(&v->metadata));
    mapped_finish(&v->m);
}

static bool vdi_reopen(struct block_node *n, unsigned flags, GError **error)
{
    if (n->flags & BLOCK_RDWR && !(flags & BLOCK_RDWR)) {
        int err = vdi_flush(n);
        return !err || vireo_fail_errno(error, err, "cannot flush '%s'", n->filename);
    }
    return !(flags & BLOCK_RDWR) || n->flags & BLOCK_RDWR || scan_table(n, true, error);
}

static int vdi_get_info(struct block_node *n, struct block_info *ret)
{
    ret->cluster_size = ((struct vdi *)n->state)->block_bytes;
    return 0;
}

static int vdi_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error)
{
    g_autoptr(GError) e = NULL;
    uint64_t before = c->corruptions;
    int err = mapped_check(n, fix, c, error);
    if (err || c->corruptions != before || scan_table(n, true, &e))
        return err;
    c->corruptions++; /* a block that is used twice */
    if (c->say)
        c->say(c->opaque, e->message);
    return 0;
}

/* ---- creating ---- */

static bool vdi_create(struct block_node *f, struct block_create *c, GError **error)
{
    struct vdi_header h = { .text = "<<< Vireo VM Virtual Disk Image >>>\n", .signature = GUINT32_TO_LE(VDI_SIGNATURE), .version = GUINT32_TO_LE(VDI_VERSION),
                            .header_size = GUINT32_TO_LE(0x180), .sector_size = GUINT32_TO_LE(SECTOR), .block_size = GUINT32_TO_LE(BLOCK) };
    g_autofree char *text = keyval_take(c->options, "static");
    bool fixed = false;
    if (text && !keyval_bool("static", text, &fixed, error))
        return false;
    if (c->backing_file)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Backing file not supported for file format 'vdi'");
    uint64_t blocks = c->size / BLOCK + (c->size % BLOCK != 0);
    if (blocks > VDI_MAX_BLOCKS)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unsupported VDI image size (size is 0x%" G_GINT64_MODIFIER "x, max supported is 0x%" G_GINT64_MODIFIER "x)",
                          c->size, (uint64_t)VDI_MAX_BLOCKS * BLOCK);
    uint64_t table = (blocks * 4 + SECTOR - 1) & ~(uint64_t)(SECTOR - 1), data = SECTOR + table;
    h.type = GUINT32_TO_LE(fixed ? VDI_STATIC : VDI_DYNAMIC);
    h.table_offset = GUINT32_TO_LE(SECTOR);
    h.data_offset = GUINT32_TO_LE((uint32_t)data);
    h.disk_size = GUINT64_TO_LE(c->size);
    h.blocks = GUINT32_TO_LE((uint32_t)blocks);
    h.allocated = fixed ? h.blocks : 0;
    crypto_random(h.uuid, sizeof(h.uuid));
    crypto_random(h.uuid_snapshot, sizeof(h.uuid_snapshot));
    if (!block_truncate(f, 0, false, "off", error) || (fixed && !block_truncate(f, data + blocks * BLOCK, false, "off", error)))
        return false;
    /* The header comes last: what was interrupted is no image. */
    uint32_t piece[16384];
    int err = 0;
    for (uint64_t done = 0, part; done < table && !err; done += part) {
        part = MIN(table - done, sizeof(piece));
        for (uint64_t i = 0; i < part / 4; i++) {
            uint64_t number = done / 4 + i;
            piece[i] = number >= blocks ? 0 : fixed ? GUINT32_TO_LE((uint32_t)number) : VDI_ABSENT;
        }
        err = block_pwrite(f, SECTOR + done, part, piece, 0);
    }
    if (!err)
        err = block_pwrite(f, 0, sizeof(h), &h, 0);
    return !err || vireo_fail_errno(error, err, "cannot write the VDI image");
}

static const struct keyval_key create_keys[] = {
    { "static", KV_BOOL, 0, "VDI static (pre-allocated) image" },
    { NULL }
};

const struct block_driver block_vdi = {
    .name = "vdi", .help = "VirtualBox disk image", .kind = BLOCK_FORMAT, .state_size = sizeof(struct vdi), .probe = vdi_probe, .open = vdi_open, .close = vdi_close,
    .reopen = vdi_reopen, .preadv = mapped_preadv, .pwritev = mapped_pwritev, .write_zeroes = mapped_write_zeroes, .flush = vdi_flush, .status = mapped_status,
    .check = vdi_check, .map_now = mapped_map_now, .get_info = vdi_get_info, .create_keys = create_keys, .create = vdi_create,
};
