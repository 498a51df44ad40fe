/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Format "vhdx" after Microsoft's [MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format" (sections named below): headers and region
 * tables twice over, a log of metadata, a metadata table, and the block allocation table (BAT) of 64-bit entries. All numbers
 * are little-endian.
 *
 * A log that was not emptied is replayed in memory; a writable image has it written out and emptied as it is opened. We do not
 * write to the log ourselves: the only metadata that changes are entries of the BAT, each in one sector, after their data.
 */
#include <errno.h>
#include <string.h>

#include "base/crypto.h"
#include "base/error.h"
#include "block/drivers.h"
#include "block/mapped.h"
#include "block/metadata.h"

enum {
    MIB = 1 << 20, PAGE = 4096, TABLE_BYTES = 64 << 10,
    HEADER_1 = 64 << 10, HEADER_2 = 128 << 10, REGIONS_1 = 192 << 10, REGIONS_2 = 256 << 10, /* 2.2 */
    LOG_MAX = 64 << 20, BLOCK_MAX = 256 << 20,
    REGION_ENTRIES = 2047,
    META_BLOCKS = 1 << 0, META_SIZE = 1 << 1, META_LOGICAL = 1 << 2, META_ALL = 7,
};
#define VHDX_SIZE_MAX (UINT64_C(64) << 40)
#define REPLAY_MAX (UINT64_C(256) << 20)
/* States of payload blocks (2.5.1.1). */
enum { BAT_NOT_PRESENT, BAT_UNDEFINED, BAT_ZERO, BAT_UNMAPPED, BAT_PRESENT = 6, BAT_PARTIAL = 7 };

/* GUIDs as they lie on the disk. */
#define GUID(a, b, c, d0, d1, d2, d3, d4, d5, d6, d7) \
    { (a) & 0xff, (a) >> 8 & 0xff, (a) >> 16 & 0xff, (a) >> 24 & 0xff, (b) & 0xff, (b) >> 8, (c) & 0xff, (c) >> 8, d0, d1, d2, d3, d4, d5, d6, d7 }
static const uint8_t region_bat[16] = GUID(0x2dc27766u, 0xf623, 0x4200, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08);
static const uint8_t region_metadata[16] = GUID(0x8b7ca206u, 0x4790, 0x4b9a, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e);
static const uint8_t item_blocks[16] = GUID(0xcaa16737u, 0xfa36, 0x4d43, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b);
static const uint8_t item_size[16] = GUID(0x2fa54224u, 0xcd1b, 0x4876, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8);
static const uint8_t item_logical[16] = GUID(0x8141bf1du, 0xa96f, 0x4709, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f);
static const uint8_t item_physical[16] = GUID(0xcda348c7u, 0x445d, 0x4471, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56);
static const uint8_t item_page83[16] = GUID(0xbeca12abu, 0xb2e6, 0x4523, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46);
static const uint8_t no_guid[16];

struct header { /* 2.2.2; the rest of 4 KiB is reserved */
    uint32_t signature, checksum;
    uint64_t sequence;
    uint8_t file_write[16], data_write[16], log[16];
    uint16_t log_version, version;
    uint32_t log_bytes;
    uint64_t log_offset;
};
struct region { /* 2.2.3.2 */
    uint8_t guid[16];
    uint64_t offset;
    uint32_t bytes, required;
};
struct item { /* 2.6.1.2 */
    uint8_t guid[16];
    uint32_t offset, bytes, flags, reserved;
};
struct log_entry { /* 2.3.1.1 */
    uint32_t signature, checksum, bytes, tail;
    uint64_t sequence;
    uint32_t descriptors, reserved;
    uint8_t guid[16];
    uint64_t flushed_end, last_end;
};
struct log_descriptor { /* 2.3.1.2, 2.3.1.3 */
    uint32_t signature, trailing;
    uint64_t leading /* or length of zeroes */, offset, sequence;
};
G_STATIC_ASSERT(sizeof(struct header) == 80 && sizeof(struct region) == 32 && sizeof(struct item) == 32 && sizeof(struct log_entry) == 64 &&
                sizeof(struct log_descriptor) == 32);

struct vhdx {
    struct mapped m;
    struct metadata *metadata;
    struct header h;          /* the current one, host order but for GUIDs */
    bool second;              /* it lies at HEADER_2 */
    bool log_dirty;           /* replayed in memory alone */
    gint announced;           /* the header has new GUIDs: the content changes from now on */
    uint64_t bat, bat_bytes, meta, meta_bytes;
    uint32_t block_bytes, logical;
    uint64_t chunk_ratio;
    uint64_t next;            /* a new block goes here; m.lock */
};

static struct block_node *file(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}

/* CRC-32C (RFC 3720, B.4), four bits at a time. */
static uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
    static const uint32_t table[16] = { 0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };
    for (const uint8_t *at = data; n--; at++) {
        crc = table[(crc ^ *at) & 15] ^ crc >> 4;
        crc = table[(crc ^ *at >> 4) & 15] ^ crc >> 4;
    }
    return crc;
}

/* Of a structure whose own checksum, at `at`, counts as zero. */
static uint32_t checksum(const uint8_t *data, size_t n, size_t at)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(UINT32_MAX, data, at);
    crc = crc32c(crc, zero, sizeof(zero));
    return ~crc32c(crc, data + at + 4, n - at - 4);
}

static bool checksum_fits(const uint8_t *data, size_t n)
{
    uint32_t there;
    memcpy(&there, data + 4, sizeof(there));
    return GUINT32_FROM_LE(there) == checksum(data, n, 4);
}

/* ---- headers and regions ---- */

static bool read_header(struct block_node *f, uint64_t at, struct header *ret)
{
    g_autofree uint8_t *page = g_malloc(PAGE);
    if (at + PAGE > block_node_size(f) || block_pread(f, at, PAGE, page) || memcmp(page, "head", 4) || !checksum_fits(page, PAGE))
        return false;
    memcpy(ret, page, sizeof(*ret));
    ret->sequence = GUINT64_FROM_LE(ret->sequence);
    ret->log_version = GUINT16_FROM_LE(ret->log_version);
    ret->version = GUINT16_FROM_LE(ret->version);
    ret->log_bytes = GUINT32_FROM_LE(ret->log_bytes);
    ret->log_offset = GUINT64_FROM_LE(ret->log_offset);
    return true;
}

static bool choose_header(struct block_node *n, GError **error)
{
    struct vhdx *v = n->state;
    struct header a, b;
    bool has_a = read_header(file(n), HEADER_1, &a), has_b = read_header(file(n), HEADER_2, &b);
    if (!has_a && !has_b)
        return vireo_fail(error, VIREO_ERROR_INVALID, "No valid VHDX header found in '%s'", n->filename);
    v->second = !has_a || (has_b && b.sequence > a.sequence);
    v->h = v->second ? b : a;
    if (v->h.version != 1)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': VHDX version %u is not supported, only 1 is", n->filename, v->h.version);
    if (memcmp(v->h.log, no_guid, 16) && (v->h.log_version || v->h.log_offset % MIB || v->h.log_offset < MIB || v->h.log_bytes % MIB || !v->h.log_bytes ||
                                          v->h.log_bytes > LOG_MAX || v->h.log_offset > block_node_size(file(n)) ||
                                          v->h.log_bytes > block_node_size(file(n)) - v->h.log_offset))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX log's place or version is wrong", n->filename);
    return true;
}

/* The next sequence number, in the header that is not the current one (2.2.2). */
static int write_header(struct block_node *f, struct vhdx *v)
{
    g_autofree uint8_t *page = g_malloc0(PAGE);
    struct header h = v->h;
    h.sequence = GUINT64_TO_LE(v->h.sequence + 1);
    h.log_version = GUINT16_TO_LE(h.log_version);
    h.version = GUINT16_TO_LE(h.version);
    h.log_bytes = GUINT32_TO_LE(h.log_bytes);
    h.log_offset = GUINT64_TO_LE(h.log_offset);
    memcpy(page, &h, sizeof(h));
    uint32_t sum = GUINT32_TO_LE(checksum(page, PAGE, 4));
    memcpy(page + 4, &sum, sizeof(sum));
    int err = block_pwrite(f, v->second ? HEADER_1 : HEADER_2, PAGE, page, 0);
    if (!err)
        err = block_flush(f);
    if (!err) {
        v->h.sequence++;
        v->second = !v->second;
    }
    return err;
}

static bool region_ok(const struct block_node *n, uint64_t offset, uint64_t bytes)
{
    uint64_t size = block_node_size(file(n));
    return offset >= MIB && offset % MIB == 0 && bytes && bytes % MIB == 0 && offset < size && bytes <= INT64_MAX - offset;
}

static bool read_regions(struct block_node *n, GError **error)
{
    struct vhdx *v = n->state;
    g_autofree uint8_t *table = g_malloc(TABLE_BYTES);
    bool good = false;
    for (unsigned i = 0; i < 2 && !good; i++) {
        uint64_t at = i ? REGIONS_2 : REGIONS_1;
        good = at + TABLE_BYTES <= block_node_size(file(n)) && !block_pread(file(n), at, TABLE_BYTES, table) && !memcmp(table, "regi", 4) &&
               checksum_fits(table, TABLE_BYTES);
    }
    uint32_t count = 0;
    if (good)
        memcpy(&count, table + 8, sizeof(count));
    count = GUINT32_FROM_LE(count);
    if (!good || count > REGION_ENTRIES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' has no valid VHDX region table", n->filename);
    for (uint32_t i = 0; i < count; i++) {
        struct region r;
        memcpy(&r, table + 16 + i * sizeof(r), sizeof(r));
        uint64_t offset = GUINT64_FROM_LE(r.offset), bytes = GUINT32_FROM_LE(r.bytes);
        bool bat = !memcmp(r.guid, region_bat, 16), meta = !memcmp(r.guid, region_metadata, 16);
        if (!bat && !meta && GUINT32_FROM_LE(r.required) & 1)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' has a required VHDX region that is unknown", n->filename);
        if (!bat && !meta)
            continue;
        if (!region_ok(n, offset, bytes) || (bat ? v->bat : v->meta))
            return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': a VHDX region is there twice, or its place is wrong", n->filename);
        *(bat ? &v->bat : &v->meta) = offset;
        *(bat ? &v->bat_bytes : &v->meta_bytes) = bytes;
    }
    if (!v->bat || !v->meta || (v->bat < v->meta + v->meta_bytes && v->meta < v->bat + v->bat_bytes))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX regions for the table of blocks and for metadata are not there, or overlap", n->filename);
    return true;
}

/* ---- the log ---- */

struct replay {
    struct block_node *n;
    uint8_t *log;
    uint64_t bytes;
    uint64_t budget; /* bytes of entries that may still be summed up: a hostile log names long ones at every place */
};

/* `bytes` of the log from `at`, which wraps around. */
static void log_copy(const struct replay *r, uint64_t at, uint64_t bytes, uint8_t *to)
{
    uint64_t first = MIN(bytes, r->bytes - at);
    memcpy(to, r->log + at, first);
    memcpy(to + first, r->log, bytes - first);
}

/* The entry at `at`, whole, when it is valid (2.3.2); the caller frees. */
static uint8_t *log_entry_at(struct replay *r, uint64_t at, struct log_entry *ret)
{
    const struct vhdx *v = r->n->state;
    log_copy(r, at, sizeof(*ret), (uint8_t *)ret);
    ret->bytes = GUINT32_FROM_LE(ret->bytes);
    ret->tail = GUINT32_FROM_LE(ret->tail);
    ret->sequence = GUINT64_FROM_LE(ret->sequence);
    ret->descriptors = GUINT32_FROM_LE(ret->descriptors);
    if (memcmp(&ret->signature, "loge", 4) || !ret->bytes || ret->bytes % PAGE || ret->bytes > r->bytes || ret->tail % PAGE || ret->tail >= r->bytes ||
        !ret->sequence || memcmp(ret->guid, v->h.log, 16) || ret->bytes > r->budget || ret->descriptors > (ret->bytes - sizeof(*ret)) / sizeof(struct log_descriptor))
        return NULL;
    r->budget -= ret->bytes;
    uint8_t *whole = g_malloc(ret->bytes);
    log_copy(r, at, ret->bytes, whole);
    if (checksum_fits(whole, ret->bytes))
        return whole;
    g_free(whole);
    return NULL;
}

struct log_run { /* entries with numbers that follow each other */
    uint64_t start, end /* where the next would be */, tail, last;
    unsigned entries;
    bool complete; /* the last one's tail is the beginning of one of them */
};

static struct log_run log_run_from(struct replay *r, uint64_t start)
{
    struct log_run run = { .start = start, .end = start };
    struct log_entry e;
    g_autoptr(GArray) starts = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    for (uint64_t length = 0;;) {
        uint64_t at = run.end;
        g_autofree uint8_t *whole = log_entry_at(r, at, &e);
        if (!whole || (run.entries && e.sequence != run.last + 1) || (length += e.bytes) > r->bytes)
            break;
        g_array_append_val(starts, at);
        run.entries++;
        run.last = e.sequence;
        run.tail = e.tail;
        run.end = (run.end + e.bytes) % r->bytes;
    }
    for (guint i = 0; i < starts->len; i++)
        run.complete |= g_array_index(starts, uint64_t, i) == run.tail;
    return run;
}

/* One descriptor, and the data sector that belongs to it. Pages go into memory; what is there is a page of 4 KiB. */
static bool apply(struct replay *r, const uint8_t *descriptor, const uint8_t *sector, uint64_t sequence, uint64_t *left, GError **error)
{
    struct vhdx *v = r->n->state;
    struct log_descriptor d;
    uint8_t page[PAGE] = { 0 };
    memcpy(&d, descriptor, sizeof(d));
    uint64_t offset = GUINT64_FROM_LE(d.offset), bytes = sector ? PAGE : GUINT64_FROM_LE(d.leading);
    uint32_t high, low;
    if (GUINT64_FROM_LE(d.sequence) != sequence || offset % PAGE || bytes % PAGE || bytes > *left || offset > INT64_MAX - bytes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX log has a wrong descriptor", r->n->filename);
    *left -= bytes;
    if (sector) {
        memcpy(&high, sector + 4, 4);
        memcpy(&low, sector + PAGE - 4, 4);
        if (memcmp(sector, "data", 4) || ((uint64_t)GUINT32_FROM_LE(high) << 32 | GUINT32_FROM_LE(low)) != sequence)
            return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX log has a wrong data sector", r->n->filename);
        memcpy(page, &d.leading, 8);
        memcpy(page + 8, sector + 8, PAGE - 12);
        memcpy(page + PAGE - 4, &d.trailing, 4);
    }
    for (uint64_t done = 0; done < bytes; done += PAGE) {
        int err = metadata_write(v->metadata, offset + done, PAGE, page);
        if (err)
            return vireo_fail_errno(error, err, "cannot replay the log of '%s'", r->n->filename);
    }
    return true;
}

static bool replay_entry(struct replay *r, const uint8_t *whole, const struct log_entry *e, uint64_t *left, GError **error)
{
    uint64_t sectors = (sizeof(*e) + (uint64_t)e->descriptors * sizeof(struct log_descriptor) + PAGE - 1) / PAGE * PAGE;
    if (GUINT64_FROM_LE(e->flushed_end) > block_node_size(file(r->n)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' was truncated: its log knows of %" G_GUINT64_FORMAT " bytes", r->n->filename, GUINT64_FROM_LE(e->flushed_end));
    for (uint32_t i = 0; i < e->descriptors; i++) {
        const uint8_t *d = whole + sizeof(*e) + i * sizeof(struct log_descriptor), *sector = NULL;
        if (!memcmp(d, "desc", 4)) {
            sector = whole + sectors;
            sectors += PAGE;
        } else if (memcmp(d, "zero", 4)) {
            return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX log has an unknown descriptor", r->n->filename);
        }
        if (sectors > e->bytes || !apply(r, d, sector, e->sequence, left, error))
            return sectors <= e->bytes ? false : vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX log has an entry that is too short", r->n->filename);
    }
    return true;
}

/* 2.3.3: the longest-numbered complete run is what has to be done again, from its tail on. */
static bool replay_log(struct block_node *n, GError **error)
{
    struct vhdx *v = n->state;
    struct replay r = { n, NULL, v->h.log_bytes, 8 * (uint64_t)v->h.log_bytes };
    struct log_run best = { 0 };
    uint64_t left = REPLAY_MAX;
    g_autofree uint8_t *log = r.log = g_malloc(r.bytes);
    int err = block_pread(file(n), v->h.log_offset, r.bytes, log);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the log of '%s'", n->filename);
    for (uint64_t at = 0; at < r.bytes;) {
        struct log_run run = log_run_from(&r, at);
        if (run.entries && run.complete && run.last > best.last)
            best = run;
        at = run.entries && run.end > at ? run.end : run.entries ? r.bytes : at + PAGE;
    }
    if (!best.entries)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' was not closed, and its VHDX log is damaged: it cannot be opened", n->filename);
    for (uint64_t at = best.tail; at != best.end || r.budget;) {
        struct log_entry e;
        r.budget = r.bytes;
        g_autofree uint8_t *whole = log_entry_at(&r, at, &e);
        if (!whole || !replay_entry(&r, whole, &e, &left, error))
            return whole ? false : vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX log is damaged", n->filename);
        at = (at + e.bytes) % r.bytes;
        if (e.sequence == best.last)
            break;
    }
    v->log_dirty = true;
    return true;
}

/* What was replayed goes into the file, and only then the log is no longer needed. */
static bool settle_log(struct block_node *n, GError **error)
{
    struct vhdx *v = n->state;
    int err = metadata_flush(v->metadata);
    memset(v->h.log, 0, sizeof(v->h.log));
    if (!err)
        err = write_header(file(n), v);
    v->log_dirty = err != 0;
    return !err || vireo_fail_errno(error, err, "cannot write out the log of '%s'", n->filename);
}

/* ---- metadata items ---- */

static bool take_item(struct block_node *n, const struct item *i, unsigned *found, GError **error)
{
    struct vhdx *v = n->state;
    static const struct { const uint8_t *guid; uint32_t bytes; unsigned what; } known[] = {
        { item_blocks, 8, META_BLOCKS }, { item_size, 8, META_SIZE }, { item_logical, 4, META_LOGICAL }, { item_physical, 4, 0 }, { item_page83, 16, 0 },
    };
    uint32_t offset = GUINT32_FROM_LE(i->offset), bytes = GUINT32_FROM_LE(i->bytes), words[4] = { 0 };
    unsigned k = 0;
    while (k < G_N_ELEMENTS(known) && memcmp(known[k].guid, i->guid, 16))
        k++;
    if (k == G_N_ELEMENTS(known))
        return !(GUINT32_FROM_LE(i->flags) & 4) || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' has required VHDX metadata that is unknown or not supported", n->filename);
    if (bytes != known[k].bytes || offset < TABLE_BYTES || offset > v->meta_bytes - bytes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX metadata is damaged", n->filename);
    int err = metadata_read(v->metadata, v->meta + offset, bytes, words, true);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the metadata of '%s'", n->filename);
    *found |= known[k].what;
    if (known[k].what == META_BLOCKS && GUINT32_FROM_LE(words[1]) & 2)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' is a differencing VHDX, which stands on another image: that is not supported", n->filename);
    if (known[k].what == META_BLOCKS)
        v->block_bytes = GUINT32_FROM_LE(words[0]);
    if (known[k].what == META_SIZE)
        n->size = GUINT32_FROM_LE(words[0]) | (uint64_t)GUINT32_FROM_LE(words[1]) << 32;
    if (known[k].what == META_LOGICAL)
        v->logical = GUINT32_FROM_LE(words[0]);
    return true;
}

static uint64_t bat_entries(uint64_t size, uint32_t block_bytes, uint64_t ratio)
{
    uint64_t blocks = size / block_bytes + (size % block_bytes != 0);
    return blocks ? blocks + (blocks - 1) / ratio : 0;
}

static bool read_metadata(struct block_node *n, GError **error)
{
    struct vhdx *v = n->state;
    uint8_t head[32];
    uint16_t count;
    unsigned found = 0;
    int err = v->meta_bytes < TABLE_BYTES ? EIO : metadata_read(v->metadata, v->meta, sizeof(head), head, true);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the metadata of '%s'", n->filename);
    memcpy(&count, head + 10, sizeof(count));
    count = GUINT16_FROM_LE(count);
    if (memcmp(head, "metadata", 8) || count > 2047)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX metadata table is damaged", n->filename);
    for (unsigned i = 0; i < count; i++) {
        struct item item;
        err = metadata_read(v->metadata, v->meta + 32 + i * sizeof(item), sizeof(item), &item, true);
        if (err)
            return vireo_fail_errno(error, err, "cannot read the metadata of '%s'", n->filename);
        if (!take_item(n, &item, &found, error))
            return false;
    }
    if (found != META_ALL)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': VHDX metadata is missing", n->filename);
    if (v->block_bytes < MIB || v->block_bytes > BLOCK_MAX || v->block_bytes & (v->block_bytes - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': a VHDX block size of %u bytes is wrong", n->filename, v->block_bytes);
    if (v->logical != 512 && v->logical != 4096)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': sectors of %u bytes are not supported", n->filename, v->logical);
    if (!n->size || n->size > VHDX_SIZE_MAX || n->size % v->logical)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': a VHDX disk of %" G_GUINT64_FORMAT " bytes is wrong", n->filename, n->size);
    v->chunk_ratio = ((uint64_t)v->logical << 23) / v->block_bytes;
    if (bat_entries(n->size, v->block_bytes, v->chunk_ratio) * 8 > v->bat_bytes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the VHDX table of blocks is too small for the disk", n->filename);
    return true;
}

/* ---- blocks ---- */

static uint64_t entry_place(const struct vhdx *v, uint64_t block)
{
    uint64_t index = block / v->block_bytes;
    return v->bat + (index + index / v->chunk_ratio) * 8;
}

static int vhdx_find(struct block_node *n, uint64_t offset, bool wait, struct mapped_piece *ret)
{
    const struct vhdx *v = n->state;
    uint64_t inside = offset % v->block_bytes, entry;
    ret->block = offset - inside;
    ret->block_bytes = v->block_bytes;
    ret->bytes = v->block_bytes - inside;
    int err = metadata_read(v->metadata, entry_place(v, ret->block), sizeof(entry), &entry, wait);
    if (err)
        return err;
    entry = GUINT64_FROM_LE(entry);
    switch (entry & 7) {
    case BAT_NOT_PRESENT: ret->kind = MAPPED_ABSENT; return 0;
    case BAT_UNDEFINED: case BAT_ZERO: case BAT_UNMAPPED: ret->kind = MAPPED_ZERO; return 0;
    case BAT_PRESENT: break;
    default: return EIO; /* half there: of differencing images, which are refused */
    }
    ret->kind = MAPPED_DATA;
    ret->file = file(n);
    ret->at = (entry >> 20 << 20) + inside;
    return (entry >> 20) < 1 || ret->at >= block_node_size(file(n)) || ret->at > INT64_MAX - BLOCK_MAX ? EIO : 0;
}

static int vhdx_allocate(struct block_node *n, struct mapped_piece *p)
{
    struct vhdx *v = n->state;
    p->file = file(n);
    p->at = v->next;
    v->next += v->block_bytes;
    return 0;
}

static int vhdx_commit(struct block_node *n, const struct mapped_piece *p)
{
    const struct vhdx *v = n->state;
    uint64_t entry = GUINT64_TO_LE(p->at | BAT_PRESENT);
    return metadata_write(v->metadata, entry_place(v, p->block), sizeof(entry), &entry);
}

static int vhdx_relieve(struct block_node *n)
{
    const struct vhdx *v = n->state;
    return metadata_full(v->metadata) ? metadata_flush(v->metadata) : 0;
}

static const struct mapped_format vhdx_format = { .find = vhdx_find, .allocate = vhdx_allocate, .commit = vhdx_commit, .relieve = vhdx_relieve };

/* Before the first write the header says that the file is another one now (2.2.2.1). */
static int announce(struct block_node *n)
{
    struct vhdx *v = n->state;
    int err = 0;
    if (g_atomic_int_get(&v->announced))
        return 0;
    g_mutex_lock(&v->m.alloc);
    if (!v->announced) {
        crypto_random(v->h.file_write, sizeof(v->h.file_write));
        crypto_random(v->h.data_write, sizeof(v->h.data_write));
        err = write_header(file(n), v);
        g_atomic_int_set(&v->announced, !err);
    }
    g_mutex_unlock(&v->m.alloc);
    return err;
}

static int vhdx_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    int err = announce(n);
    return err ? err : mapped_pwritev(n, offset, bytes, iov, niov, flags);
}

static int vhdx_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    int err = announce(n);
    return err ? err : mapped_write_zeroes(n, offset, bytes, flags);
}

static bool vhdx_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret)
{
    const struct vhdx *v = n->state;
    return (!write || g_atomic_int_get(&v->announced)) && mapped_map_now(n, write, offset, bytes, ret);
}

static int vhdx_flush(struct block_node *n)
{
    return metadata_flush(((struct vhdx *)n->state)->metadata);
}

/* ---- opening ---- */

static int vhdx_probe(const uint8_t *head, size_t n, const char *filename)
{
    return n >= 8 && !memcmp(head, "vhdxfile", 8) ? 100 : 0;
}

static bool vhdx_open(struct block_node *n, unsigned flags, GError **error)
{
    struct vhdx *v = n->state;
    char signature[8] = { 0 };
    if (block_node_size(file(n)) < MIB || block_pread(file(n), 0, sizeof(signature), signature) || memcmp(signature, "vhdxfile", 8))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in VHDX format", n->filename);
    mapped_init(&v->m, &vhdx_format);
    v->metadata = metadata_create(file(n), &v->m.lock);
    if (!choose_header(n, error) || !read_regions(n, error))
        return false;
    if (memcmp(v->h.log, no_guid, 16) && !replay_log(n, error))
        return false;
    if (!read_metadata(n, error))
        return false;
    v->next = (block_node_size(file(n)) + MIB - 1) / MIB * MIB;
    v->next = MAX(v->next, MAX(v->bat + v->bat_bytes, MAX(v->meta + v->meta_bytes, v->h.log_offset + v->h.log_bytes)));
    return !v->log_dirty || !(flags & BLOCK_RDWR) || settle_log(n, error);
}

static void vhdx_close(struct block_node *n)
{
    struct vhdx *v = n->state;
    if (n->open && n->flags & BLOCK_RDWR)
        vhdx_flush(n);
    metadata_destroy(g_steal_pointer(&v->metadata));
    mapped_finish(&v->m);
}

static bool vhdx_reopen(struct block_node *n, unsigned flags, GError **error)
{
    struct vhdx *v = n->state;
    bool was = n->flags & BLOCK_RDWR, will = flags & BLOCK_RDWR;
    if (was && !will) {
        int err = vhdx_flush(n);
        return !err || vireo_fail_errno(error, err, "cannot flush '%s'", n->filename);
    }
    if (will && v->log_dirty)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' was not closed by who wrote it: open it writable from the start, so that its log is written out", n->filename);
    return true;
}

static int vhdx_get_info(struct block_node *n, struct block_info *ret)
{
    ret->cluster_size = ((struct vhdx *)n->state)->block_bytes;
    return 0;
}

/* ---- creating ---- */

static const char *const subformats[] = { "dynamic", "fixed", NULL };
struct options {
    uint64_t block_bytes, log_bytes;
    int subformat;
    bool zero;
};
#define O(member) offsetof(struct options, member)
static const struct keyval_key create_keys[] = {
    { "block_size", KV_SIZE, O(block_bytes), "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size." },
    { "block_state_zero", KV_BOOL, O(zero), "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when using 'qemu-img convert' with subformat=dynamic." },
    { "log_size", KV_SIZE, O(log_bytes), "Log size; min 1MB." },
    { "subformat", KV_ENUM, O(subformat), "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'.", subformats },
    { NULL }
};

static void put_item(uint8_t *region, unsigned i, const uint8_t *guid, uint32_t offset, uint32_t bytes, uint32_t flags, const void *data)
{
    struct item item = { .offset = GUINT32_TO_LE(offset), .bytes = GUINT32_TO_LE(bytes), .flags = GUINT32_TO_LE(flags) };
    memcpy(item.guid, guid, 16);
    memcpy(region + 32 + i * sizeof(item), &item, sizeof(item));
    memcpy(region + offset, data, bytes);
}

static int write_metadata(struct block_node *f, uint64_t at, uint64_t size, const struct options *o)
{
    g_autofree uint8_t *region = g_malloc0(TABLE_BYTES + PAGE);
    const uint16_t count = GUINT16_TO_LE(5);
    const uint32_t blocks[2] = { GUINT32_TO_LE((uint32_t)o->block_bytes), GUINT32_TO_LE(o->subformat ? 1 : 0) }, logical = GUINT32_TO_LE(512), physical = GUINT32_TO_LE(4096);
    const uint64_t disk = GUINT64_TO_LE(size);
    uint8_t page83[16];
    crypto_random(page83, sizeof(page83));
    memcpy(region, "metadata", 8);
    memcpy(region + 10, &count, sizeof(count));
    put_item(region, 0, item_blocks, TABLE_BYTES, 8, 4, blocks);
    put_item(region, 1, item_size, TABLE_BYTES + 8, 8, 6, &disk);
    put_item(region, 2, item_page83, TABLE_BYTES + 16, 16, 6, page83);
    put_item(region, 3, item_logical, TABLE_BYTES + 32, 4, 6, &logical);
    put_item(region, 4, item_physical, TABLE_BYTES + 36, 4, 6, &physical);
    return block_pwrite(f, at, TABLE_BYTES + PAGE, region, 0);
}

static int write_bat(struct block_node *f, uint64_t at, uint64_t data, uint64_t size, const struct options *o)
{
    uint64_t ratio = (UINT64_C(512) << 23) / o->block_bytes, entries = bat_entries(size, (uint32_t)o->block_bytes, ratio);
    g_autofree uint64_t *piece = g_malloc(TABLE_BYTES);
    int err = 0;
    for (uint64_t i = 0, block = 0; i < entries && !err && o->subformat;) {
        unsigned k = 0;
        for (; k < TABLE_BYTES / 8 && i < entries; k++, i++) {
            bool bitmap = (i + 1) % (ratio + 1) == 0;
            piece[k] = bitmap ? 0 : GUINT64_TO_LE((data + block++ * o->block_bytes) | BAT_PRESENT);
        }
        err = block_pwrite(f, at + (i - k) * 8, k * 8ull, piece, 0);
    }
    return err;
}

static int write_regions(struct block_node *f, uint64_t bat, uint64_t bat_bytes, uint64_t meta)
{
    g_autofree uint8_t *table = g_malloc0(TABLE_BYTES);
    const uint32_t count = GUINT32_TO_LE(2);
    struct region r[2] = { { .offset = GUINT64_TO_LE(bat), .bytes = GUINT32_TO_LE((uint32_t)bat_bytes), .required = GUINT32_TO_LE(1) },
                           { .offset = GUINT64_TO_LE(meta), .bytes = GUINT32_TO_LE(MIB), .required = GUINT32_TO_LE(1) } };
    memcpy(r[0].guid, region_bat, 16);
    memcpy(r[1].guid, region_metadata, 16);
    memcpy(table, "regi", 4);
    memcpy(table + 8, &count, sizeof(count));
    memcpy(table + 16, r, sizeof(r));
    uint32_t sum = GUINT32_TO_LE(checksum(table, TABLE_BYTES, 4));
    memcpy(table + 4, &sum, sizeof(sum));
    int err = block_pwrite(f, REGIONS_1, TABLE_BYTES, table, 0);
    return err ? err : block_pwrite(f, REGIONS_2, TABLE_BYTES, table, 0);
}

static int write_identifier(struct block_node *f)
{
    static const char creator[] = "Vireo";
    uint8_t head[520] = "vhdxfile";
    for (unsigned i = 0; creator[i]; i++)
        head[8 + 2 * i] = (uint8_t)creator[i];
    return block_pwrite(f, 0, sizeof(head), head, 0);
}

static bool vhdx_create(struct block_node *f, struct block_create *c, GError **error)
{
    struct options o = { .log_bytes = MIB };
    keyval_auto *mine = keyval_new();
    for (const struct keyval_key *k = create_keys; k->name; k++) {
        g_autofree char *value = keyval_take(c->options, k->name);
        if (value)
            keyval_add(mine, k->name, value);
    }
    if (!keyval_load(mine, create_keys, &o, error))
        return false;
    if (c->backing_file)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Backing file not supported for file format 'vhdx'");
    if (c->size > VHDX_SIZE_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Image size too large; max of 64TB");
    if (!o.block_bytes)
        o.block_bytes = (c->size > UINT64_C(32) << 40 ? 64 : c->size > UINT64_C(100) << 30 ? 32 : c->size > UINT64_C(1) << 30 ? 16 : 8) * (uint64_t)MIB;
    if (o.block_bytes < MIB || o.block_bytes > BLOCK_MAX || o.block_bytes & (o.block_bytes - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Block size must be a power of two from 1 MiB to 256 MiB");
    if (o.log_bytes < MIB || o.log_bytes % MIB || o.log_bytes > LOG_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Log size must be a multiple of 1 MiB, at most 64 MiB");
    uint64_t size = (c->size + 511) / 512 * 512, entries = bat_entries(size, (uint32_t)o.block_bytes, (UINT64_C(512) << 23) / o.block_bytes), bat = MIB + o.log_bytes,
             bat_bytes = MAX((entries * 8 + MIB - 1) / MIB * MIB, MIB), meta = bat + bat_bytes, data = meta + MIB,
             blocks = size / o.block_bytes + (size % o.block_bytes != 0);
    struct vhdx v = { .h = { .version = 1, .log_bytes = (uint32_t)o.log_bytes, .log_offset = MIB } };
    memcpy(&v.h.signature, "head", 4);
    crypto_random(v.h.file_write, sizeof(v.h.file_write));
    crypto_random(v.h.data_write, sizeof(v.h.data_write));
    if (!block_truncate(f, 0, false, "off", error) || !block_truncate(f, data + (o.subformat ? blocks * o.block_bytes : 0), false, "off", error))
        return false;
    int err = write_bat(f, bat, data, size, &o);
    if (!err)
        err = write_metadata(f, meta, size, &o);
    if (!err)
        err = write_regions(f, bat, bat_bytes, meta);
    for (unsigned i = 0; i < 2 && !err; i++)
        err = write_header(f, &v);
    if (!err) /* the signature comes last: what was interrupted is no image */
        err = write_identifier(f);
    return !err || vireo_fail_errno(error, err, "cannot write the VHDX image");
}

const struct block_driver block_vhdx = {
    .name = "vhdx", .help = "Virtual Hard Disk v2 of Microsoft", .kind = BLOCK_FORMAT, .state_size = sizeof(struct vhdx), .probe = vhdx_probe, .open = vhdx_open,
    .close = vhdx_close, .reopen = vhdx_reopen, .preadv = mapped_preadv, .pwritev = vhdx_pwritev, .write_zeroes = vhdx_write_zeroes, .flush = vhdx_flush,
    .status = mapped_status, .check = mapped_check, .map_now = vhdx_map_now, .get_info = vhdx_get_info, .create_keys = create_keys, .create = vhdx_create,
};
