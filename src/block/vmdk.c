/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/vmdk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/crypto.h"
#include "base/log.h"

static struct block_node *file(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}

static struct vmdk_extent *extent_at(const struct vmdk *v, uint64_t offset)
{
    guint low = 0, high = v->extents->len;
    while (high - low > 1) {
        guint middle = (low + high) / 2;
        if (g_array_index(v->extents, struct vmdk_extent, middle).start <= offset)
            low = middle;
        else
            high = middle;
    }
    return &g_array_index(v->extents, struct vmdk_extent, low);
}

/* ---- grains ---- */

static int read_entry(const struct vmdk_extent *e, uint64_t at, bool wait, uint32_t *ret)
{
    int err = metadata_read(e->metadata, at, sizeof(*ret), ret, wait);
    *ret = GUINT32_FROM_LE(*ret);
    return err;
}

/* Where in the file the entry of grain `index` stands, in the directory `gd` and its tables; 0: there is no table. */
static int entry_place(const struct vmdk_extent *e, uint64_t gd, uint64_t index, bool wait, uint64_t *ret)
{
    uint32_t table;
    int err = read_entry(e, gd + index / e->gtes * 4, wait, &table);
    *ret = err || !table ? 0 : (uint64_t)table * VMDK_SECTOR + index % e->gtes * 4;
    return err;
}

/* Content that comes from the parent is that of the parent as it was. */
static int check_parent(struct block_node *n)
{
    struct vmdk *v = n->state;
    const struct block_node *parent = n->child[BLOCK_ROLE_BACKING];
    if (!parent || v->parent_checked || n->backing_overridden)
        return 0;
    uint32_t cid = vmdk_node_cid(parent);
    if (cid != v->parent_cid && cid != VMDK_NO_PARENT) {
        log_warn("'%s' stands on '%s' as it was with the content ID %08x, but that was changed since: it has %08x now", n->filename, parent->filename, v->parent_cid, cid);
        return EINVAL;
    }
    v->parent_checked = true;
    return 0;
}

static int find_grain(struct block_node *n, const struct vmdk_extent *e, uint64_t offset, bool wait, struct mapped_piece *ret)
{
    uint64_t within = offset - e->start, index = within / e->grain, inside = within % e->grain, place, at;
    uint32_t entry = 0;
    ret->block = offset - inside;
    ret->block_bytes = e->grain;
    ret->bytes = MIN(e->grain - inside, e->bytes - within);
    ret->fixed = e->read_only;
    int err = entry_place(e, e->gd, index, wait, &place);
    if (!err && place)
        err = read_entry(e, place, wait, &entry);
    if (err)
        return err;
    ret->kind = !entry ? MAPPED_ABSENT : e->zero_grains && entry == 1 ? MAPPED_ZERO : e->compressed ? MAPPED_COMPRESSED : MAPPED_DATA;
    if (ret->kind == MAPPED_ABSENT && !place) { /* there is no table: none of its grains is there */
        uint64_t all = (uint64_t)e->gtes * e->grain;
        ret->bytes = MIN(all - within % all, e->bytes - within);
    }
    if (ret->kind == MAPPED_ABSENT)
        return check_parent(n);
    if (ret->kind == MAPPED_ZERO)
        return 0;
    at = (uint64_t)entry * VMDK_SECTOR;
    if (at < e->overhead || at >= block_node_size(e->file))
        return EIO; /* a table points into the metadata or past the file */
    ret->file = e->file;
    ret->at = at + (e->compressed ? 0 : inside);
    return 0;
}

static int vmdk_find(struct block_node *n, uint64_t offset, bool wait, struct mapped_piece *ret)
{
    const struct vmdk *v = n->state;
    struct vmdk_extent *e = extent_at(v, offset);
    ret->unit = e;
    if (e->kind == VMDK_SPARSE)
        return find_grain(n, e, offset, wait, ret);
    ret->kind = e->kind == VMDK_FLAT ? MAPPED_DATA : MAPPED_ZERO;
    ret->block = e->start;
    ret->bytes = e->start + e->bytes - offset;
    ret->fixed = true;
    ret->file = e->file;
    ret->at = e->flat + (offset - e->start);
    return 0;
}

/* A grain table where there was none: at the end of the file, where all reads as zeroes. */
static int make_table(struct vmdk_extent *e, uint64_t gd, uint64_t index)
{
    uint32_t entry = GUINT32_TO_LE((uint32_t)(e->next / VMDK_SECTOR));
    g_autofree uint8_t *zeroes = g_malloc0((size_t)e->gtes * 4);
    int err = metadata_write(e->metadata, e->next, (size_t)e->gtes * 4, zeroes);
    if (!err)
        err = metadata_write(e->metadata, gd + index / e->gtes * 4, sizeof(entry), &entry);
    e->next += ((uint64_t)e->gtes * 4 + e->grain - 1) / e->grain * e->grain;
    return err;
}

static int make_tables(struct vmdk_extent *e, uint64_t index)
{
    const uint64_t directories[] = { e->rgd, e->gd };
    for (unsigned i = 0; i < 2; i++) {
        uint64_t place = 0;
        int err = directories[i] ? entry_place(e, directories[i], index, true, &place) : 0;
        if (!err && directories[i] && !place)
            err = make_table(e, directories[i], index);
        if (err)
            return err;
    }
    return 0;
}

static int vmdk_allocate(struct block_node *n, struct mapped_piece *p)
{
    struct vmdk_extent *e = p->unit;
    if (e->compressed)
        return EOPNOTSUPP;
    int err = make_tables(e, (p->block - e->start) / e->grain);
    if (err)
        return err;
    if (e->next / VMDK_SECTOR > UINT32_MAX - e->grain / VMDK_SECTOR)
        return EFBIG;
    p->file = e->file;
    p->at = e->next;
    e->next += e->grain;
    return 0;
}

static int vmdk_commit(struct block_node *n, const struct mapped_piece *p)
{
    const struct vmdk_extent *e = p->unit;
    const uint64_t directories[] = { e->rgd, e->gd };
    uint32_t entry = GUINT32_TO_LE((uint32_t)(p->at / VMDK_SECTOR));
    for (unsigned i = 0; i < 2; i++) {
        uint64_t place = 0;
        int err = directories[i] ? entry_place(e, directories[i], (p->block - e->start) / e->grain, true, &place) : 0;
        if (!err && place)
            err = metadata_write(e->metadata, place, sizeof(entry), &entry);
        if (err)
            return err;
    }
    return 0;
}

static int vmdk_relieve(struct block_node *n)
{
    const struct vmdk *v = n->state;
    int err = 0;
    for (guint i = 0; i < v->extents->len && !err; i++) {
        struct metadata *m = g_array_index(v->extents, struct vmdk_extent, i).metadata;
        err = m && metadata_full(m) ? metadata_flush(m) : 0;
    }
    return err;
}

/* A compressed grain: the number of its first sector, 64 bits; the data's length, 32 bits; data as of RFC 1950. */
static int vmdk_decompress(struct block_node *n, const struct mapped_piece *p, uint8_t *to)
{
    const struct vmdk_extent *e = p->unit;
    uint64_t size = block_node_size(e->file), room = size - p->at, head = e->markers ? VMDK_MARKER : 0, bytes = MIN(room, 2ull * e->grain);
    if (e->markers) {
        uint8_t marker[VMDK_MARKER];
        uint32_t length;
        int err = room < VMDK_MARKER ? EIO : block_pread(e->file, p->at, VMDK_MARKER, marker);
        if (err)
            return err;
        memcpy(&length, marker + 8, sizeof(length));
        bytes = GUINT32_FROM_LE(length);
        if (!bytes || bytes > 2ull * e->grain || bytes > room - VMDK_MARKER)
            return EIO;
    }
    g_autofree uint8_t *packed = g_malloc(bytes);
    int err = block_pread(e->file, p->at + head, bytes, packed);
    if (err)
        return err;
    z_stream z = { .next_in = packed, .avail_in = (uInt)bytes, .next_out = to, .avail_out = e->grain };
    if (inflateInit(&z) != Z_OK)
        return ENOMEM;
    int end = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    if (end != Z_STREAM_END && (end != Z_BUF_ERROR || z.avail_out))
        return EIO;
    memset(to + e->grain - z.avail_out, 0, z.avail_out);
    return 0;
}

static int vmdk_compress(struct block_node *n, struct mapped_piece *p, const uint8_t *from)
{
    struct vmdk *v = n->state;
    struct vmdk_extent *e = p->unit;
    uint64_t bytes, lba = GUINT64_TO_LE((p->block - e->start) / VMDK_SECTOR);
    uLongf packed = compressBound(e->grain);
    if (!e->compressed || !e->markers)
        return EOPNOTSUPP;
    g_autofree uint8_t *out = g_malloc0(VMDK_MARKER + packed + VMDK_SECTOR);
    if (compress2(out + VMDK_MARKER, &packed, from, e->grain, Z_DEFAULT_COMPRESSION) != Z_OK)
        return EIO;
    uint32_t length = GUINT32_TO_LE((uint32_t)packed);
    memcpy(out, &lba, sizeof(lba));
    memcpy(out + 8, &length, sizeof(length));
    bytes = (VMDK_MARKER + packed + VMDK_SECTOR - 1) / VMDK_SECTOR * VMDK_SECTOR;
    memset(out + VMDK_MARKER + packed, 0, bytes - VMDK_MARKER - packed);
    g_mutex_lock(&v->m.lock);
    int err = make_tables(e, (p->block - e->start) / e->grain);
    p->at = e->next;
    if (!err && (e->next + bytes) / VMDK_SECTOR > UINT32_MAX)
        err = EFBIG;
    if (!err)
        e->next += bytes;
    g_mutex_unlock(&v->m.lock);
    if (!err)
        err = block_pwrite(e->file, p->at, bytes, out, 0);
    g_mutex_lock(&v->m.lock);
    if (!err)
        err = vmdk_commit(n, p);
    g_mutex_unlock(&v->m.lock);
    return err;
}

static const struct mapped_format vmdk_format = { .find = vmdk_find, .allocate = vmdk_allocate, .commit = vmdk_commit, .compress = vmdk_compress,
                                                  .decompress = vmdk_decompress, .relieve = vmdk_relieve };

/* ---- writing ---- */

/* Before the first change: images that stand on this one as it was will know. */
static int change_cid(struct block_node *n)
{
    struct vmdk *v = n->state;
    uint32_t cid;
    int err = 0;
    if (g_atomic_int_get(&v->cid_changed))
        return 0;
    g_mutex_lock(&v->m.alloc);
    if (!v->cid_changed) {
        crypto_random(&cid, sizeof(cid));
        cid &= 0x7fffffff; /* not the value that says "no parent" */
        char *text = vmdk_with_cid(v->descriptor, cid);
        size_t bytes = strlen(text);
        if (!v->descriptor_room || bytes <= v->descriptor_room)
            err = block_pwrite(file(n), v->descriptor_at, bytes, text, 0);
        if (!err) {
            g_free(v->descriptor);
            v->descriptor = text;
            v->cid = cid;
            g_atomic_int_set(&v->cid_changed, 1);
        } else {
            g_free(text);
        }
    }
    g_mutex_unlock(&v->m.alloc);
    return err;
}

static int vmdk_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    const struct vmdk *v = n->state;
    int err = change_cid(n);
    if (g_array_index(v->extents, struct vmdk_extent, 0).compressed)
        flags |= BLOCK_COMPRESSED;
    return err ? err : mapped_pwritev(n, offset, bytes, iov, niov, flags);
}

static int vmdk_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    int err = change_cid(n);
    return err ? err : mapped_write_zeroes(n, offset, bytes, flags);
}

static bool vmdk_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret)
{
    const struct vmdk *v = n->state;
    return (!write || g_atomic_int_get(&v->cid_changed)) && mapped_map_now(n, write, offset, bytes, ret);
}

static int vmdk_flush(struct block_node *n)
{
    const struct vmdk *v = n->state;
    int err = 0;
    for (guint i = 0; i < v->extents->len && !err; i++) {
        const struct vmdk_extent *e = &g_array_index(v->extents, struct vmdk_extent, i);
        err = e->metadata ? metadata_flush(e->metadata) : e->file ? block_flush(e->file) : 0;
    }
    return err ? err : block_flush(file(n));
}

/* ---- opening ---- */

static int vmdk_probe(const uint8_t *head, size_t n, const char *filename)
{
    if (n >= 4 && (!memcmp(head, "KDMV", 4) || !memcmp(head, "COWD", 4)))
        return 100;
    return vmdk_is_descriptor((const char *)head, n) ? 100 : 0;
}

static bool bad(const struct block_node *f, GError **error, const char *what)
{
    return vireo_fail(error, VIREO_ERROR_INVALID, "VMDK extent '%s' is damaged, or of a kind that is not supported: %s", f->filename, what);
}

static bool read_header(struct block_node *f, uint64_t at, struct vmdk_header *ret, GError **error)
{
    uint64_t size = block_node_size(f);
    int err = size < sizeof(*ret) || at > size - sizeof(*ret) ? EIO : block_pread(f, at, sizeof(*ret), ret);
    return !err || vireo_fail_errno(error, err, "cannot read the header of '%s'", f->filename);
}

/* The whole directory is there: a hostile size of the disk costs as much of the file. */
static bool directory_there(const struct vmdk_extent *e, uint64_t capacity_bytes)
{
    uint64_t covers = (uint64_t)e->gtes * e->grain, entries = capacity_bytes / covers + (capacity_bytes % covers != 0), size = block_node_size(e->file);
    return e->gd < size && entries * 4 <= size - e->gd;
}

/* Where a new grain may go: behind all that is there. */
static void set_next(struct vmdk_extent *e)
{
    uint64_t end = MAX(block_node_size(e->file), e->overhead), unit = e->compressed ? VMDK_SECTOR : e->grain;
    e->next = (end + unit - 1) / unit * unit;
}

static bool open_sparse(struct block_node *n, struct vmdk_extent *e, struct vmdk_header *h, GError **error)
{
    struct vmdk *v = n->state;
    struct block_node *f = e->file;
    if (!read_header(f, 0, h, error))
        return false;
    if (GUINT64_FROM_LE(h->gd) == VMDK_GD_AT_END) { /* written as a stream: what was not known at first stands at the end */
        if (block_node_size(f) < 4 * VMDK_SECTOR || !read_header(f, block_node_size(f) - 2 * VMDK_SECTOR, h, error))
            return bad(f, error, "it has no footer");
        if (GUINT64_FROM_LE(h->gd) == VMDK_GD_AT_END)
            return bad(f, error, "its footer names no directory");
        e->read_only = true; /* what is appended would part the footer from the end */
    }
    uint64_t grain = GUINT64_FROM_LE(h->grain), gd = GUINT64_FROM_LE(h->gd), rgd = GUINT64_FROM_LE(h->rgd), capacity = GUINT64_FROM_LE(h->capacity);
    uint32_t flags = GUINT32_FROM_LE(h->flags), version = GUINT32_FROM_LE(h->version);
    if (GUINT32_FROM_LE(h->magic) != VMDK_MAGIC)
        return bad(f, error, "bad signature");
    if (!version || version > 3)
        return bad(f, error, "its version is not 1, 2 or 3");
    if (!grain || grain & (grain - 1) || grain > VMDK_GRAIN_MAX / VMDK_SECTOR)
        return bad(f, error, "the grain size is not a power of two of at most 4 MiB");
    if (GUINT32_FROM_LE(h->gtes) == 0 || GUINT32_FROM_LE(h->gtes) > 512)
        return bad(f, error, "a grain table has no entry, or more than 512");
    if (capacity > INT64_MAX / VMDK_SECTOR || gd > INT64_MAX / 2 / VMDK_SECTOR || rgd > INT64_MAX / 2 / VMDK_SECTOR || GUINT64_FROM_LE(h->overhead) > INT64_MAX / 2 / VMDK_SECTOR)
        return bad(f, error, "a size or an offset in its header is beyond all measure");
    if (flags & VMDK_FLAG_COMPRESSED && GUINT16_FROM_LE(h->compression) != 1)
        return bad(f, error, "its compression is not 'deflate'");
    if (!gd || gd * VMDK_SECTOR >= block_node_size(f))
        return bad(f, error, "its grain directory lies past the end of the file");
    if (e->bytes > capacity * VMDK_SECTOR)
        return bad(f, error, "the descriptor says it is larger than it is");
    e->kind = VMDK_SPARSE;
    e->bytes = e->bytes ? e->bytes : capacity * VMDK_SECTOR;
    e->grain = (uint32_t)grain * VMDK_SECTOR;
    e->gtes = GUINT32_FROM_LE(h->gtes);
    e->gd = gd * VMDK_SECTOR;
    if (!directory_there(e, capacity * VMDK_SECTOR))
        return bad(f, error, "its grain directory goes beyond the end of the file");
    e->rgd = flags & VMDK_FLAG_RGD && rgd * VMDK_SECTOR < block_node_size(f) ? rgd * VMDK_SECTOR : 0;
    e->overhead = flags & VMDK_FLAG_COMPRESSED ? VMDK_SECTOR : GUINT64_FROM_LE(h->overhead) * VMDK_SECTOR;
    e->zero_grains = flags & VMDK_FLAG_ZERO_GRAIN;
    e->compressed = flags & VMDK_FLAG_COMPRESSED;
    e->markers = flags & VMDK_FLAG_MARKERS;
    e->metadata = metadata_create(f, &v->m.lock);
    set_next(e);
    return true;
}

/* ESX's sparse extents: another header, grain tables of 4096 entries. */
static bool open_cowd(struct block_node *n, struct vmdk_extent *e, GError **error)
{
    struct vmdk *v = n->state;
    uint32_t h[9];
    struct block_node *f = e->file;
    int err = block_node_size(f) < sizeof(h) ? EIO : block_pread(f, 0, sizeof(h), h);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the header of '%s'", f->filename);
    for (unsigned i = 0; i < G_N_ELEMENTS(h); i++)
        h[i] = GUINT32_FROM_LE(h[i]);
    if (h[0] != VMDK_COWD_MAGIC || h[1] != 1 || !h[3] || !h[4] || h[4] & (h[4] - 1) || h[4] > VMDK_GRAIN_MAX / VMDK_SECTOR || !h[5] ||
        (uint64_t)h[5] * VMDK_SECTOR >= block_node_size(f) || e->bytes > (uint64_t)h[3] * VMDK_SECTOR)
        return bad(f, error, "its header (COWD) is wrong");
    e->kind = VMDK_SPARSE;
    e->bytes = e->bytes ? e->bytes : (uint64_t)h[3] * VMDK_SECTOR;
    e->grain = h[4] * VMDK_SECTOR;
    e->gtes = 4096;
    e->gd = (uint64_t)h[5] * VMDK_SECTOR;
    if (!directory_there(e, (uint64_t)h[3] * VMDK_SECTOR))
        return bad(f, error, "its grain directory goes beyond the end of the file");
    e->overhead = VMDK_SECTOR;
    e->metadata = metadata_create(f, &v->m.lock);
    set_next(e);
    return true;
}

static bool set_backing(struct block_node *n, GError **error)
{
    struct vmdk *v = n->state;
    v->cid = vmdk_cid(v->descriptor, "CID");
    v->parent_cid = vmdk_cid(v->descriptor, "parentCID");
    v->create_type = vmdk_value(v->descriptor, "createType");
    g_autofree char *hint = vmdk_value(v->descriptor, "parentFileNameHint");
    if (!v->create_type)
        return vireo_fail(error, VIREO_ERROR_INVALID, "VMDK descriptor of '%s' is invalid: it has no createType", n->filename);
    if (v->parent_cid == VMDK_NO_PARENT)
        return true;
    if (!hint || !*hint)
        return vireo_fail(error, VIREO_ERROR_INVALID, "VMDK image '%s' stands on another image and does not name it (parentFileNameHint)", n->filename);
    n->backing_file = g_steal_pointer(&hint);
    n->backing_format = g_strdup("vmdk");
    return true;
}

static bool read_descriptor(struct block_node *n, uint64_t at, uint64_t bytes, GError **error)
{
    struct vmdk *v = n->state;
    uint64_t size = block_node_size(file(n));
    if (!bytes || bytes > VMDK_DESCRIPTOR_MAX || at > size || bytes > size - at)
        return vireo_fail(error, VIREO_ERROR_INVALID, "VMDK image '%s' has no descriptor, or one of more than 1 MiB", n->filename);
    v->descriptor = g_malloc0(bytes + 1);
    int err = block_pread(file(n), at, bytes, v->descriptor);
    if (err)
        return vireo_fail_errno(error, err, "cannot read the descriptor of '%s'", n->filename);
    v->descriptor_at = at;
    v->descriptor_room = at ? bytes : 0;
    return set_backing(n, error);
}

/* An image in one file: the descriptor is inside. */
static bool open_monolithic(struct block_node *n, GError **error)
{
    struct vmdk *v = n->state;
    struct vmdk_extent e = { .name = g_strdup(file(n)->filename), .type = g_strdup(""), .file = block_node_ref(file(n)) };
    struct vmdk_header first, h;
    bool ok = read_header(file(n), 0, &first, error);
    bool cowd = ok && GUINT32_FROM_LE(first.magic) == VMDK_COWD_MAGIC;
    ok = ok && (cowd ? open_cowd(n, &e, error) : open_sparse(n, &e, &h, error));
    g_array_append_val(v->extents, e);
    if (!ok)
        return false;
    if (cowd) {
        v->descriptor = g_strdup("version=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfsSparse\"\n");
        v->cid_changed = 1; /* it says nothing of its content */
        return set_backing(n, error);
    }
    if (GUINT64_FROM_LE(first.descriptor) > VMDK_DESCRIPTOR_MAX || GUINT64_FROM_LE(first.descriptor_size) > VMDK_DESCRIPTOR_MAX)
        return bad(file(n), error, "the place of its descriptor");
    return read_descriptor(n, GUINT64_FROM_LE(first.descriptor) * VMDK_SECTOR, GUINT64_FROM_LE(first.descriptor_size) * VMDK_SECTOR, error);
}

static char *extent_path(const struct block_node *n, const char *name)
{
    if (g_path_is_absolute(name))
        return g_strdup(name);
    g_autofree char *folder = g_path_get_dirname(file(n)->filename);
    return strchr(file(n)->filename, '/') ? g_build_filename(folder, name, NULL) : g_strdup(name);
}

/* Extents are files of the host and nothing else, whatever the descriptor calls them. */
static struct block_node *open_extent_file(struct block_node *n, const char *name, unsigned flags, GError **error)
{
    g_autofree char *path = extent_path(n, name);
    keyval_auto *kv = keyval_new();
    GError *e = NULL;
    keyval_add(kv, "driver", "file");
    keyval_add(kv, "filename", path);
    struct block_node *f = block_open_options(n->graph, kv, flags & ~(unsigned)(BLOCK_TEMPORARY | BLOCK_NO_BACKING | BLOCK_CHECK), &e);
    if (!f)
        g_propagate_prefixed_error(error, e, "Could not open the extent '%s' of '%s': ", name, n->filename);
    return f;
}

static bool add_extent(struct block_node *n, struct vmdk_line *l, uint64_t start, unsigned flags, GError **error)
{
    static const char *const flat[] = { "FLAT", "VMFS", NULL }, *const sparse[] = { "SPARSE", "VMFSSPARSE", NULL };
    struct vmdk *v = n->state;
    struct vmdk_header h;
    struct vmdk_extent e = { .start = start, .bytes = l->sectors * VMDK_SECTOR, .read_only = strcmp(l->access, "RW"), .type = g_strdup(l->type),
                             .name = l->name, .flat = l->offset * VMDK_SECTOR };
    bool is_flat = g_strv_contains(flat, l->type), is_sparse = g_strv_contains(sparse, l->type), ok = true;
    e.kind = is_flat ? VMDK_FLAT : VMDK_ZERO;
    if (!strcmp(l->access, "NOACCESS"))
        ok = vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "VMDK image '%s' has an extent that nobody may access", n->filename);
    else if (!is_flat && !is_sparse && strcmp(l->type, "ZERO"))
        ok = vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "VMDK image '%s' has an extent of type '%s', which is not supported", n->filename, l->type);
    else if ((is_flat || is_sparse) && !l->name)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "Invalid extent line in the descriptor of '%s': it names no file", n->filename);
    if (ok && (is_flat || is_sparse)) {
        e.file = open_extent_file(n, l->name, e.read_only ? flags & ~(unsigned)BLOCK_RDWR : flags, error);
        ok = e.file && (is_flat || (l->type[0] == 'S' ? open_sparse(n, &e, &h, error) : open_cowd(n, &e, error)));
    }
    if (ok && is_flat && (l->offset > INT64_MAX / VMDK_SECTOR || e.flat > block_node_size(e.file) || e.bytes > block_node_size(e.file) - e.flat))
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "the extent '%s' of '%s' is shorter than its descriptor says", l->name, n->filename);
    g_array_append_val(v->extents, e);
    return ok;
}

static bool open_extents(struct block_node *n, unsigned flags, GError **error)
{
    struct vmdk *v = n->state;
    g_auto(GStrv) lines = g_strsplit(v->descriptor, "\n", -1);
    uint64_t start = 0;
    for (char **line = lines; *line; line++) {
        struct vmdk_line l = { 0 };
        if (!vmdk_parse_line(*line, &l))
            continue;
        if (!l.sectors || l.sectors > (INT64_MAX - start) / VMDK_SECTOR || v->extents->len >= 65536) {
            g_free(l.name);
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid extent line in the descriptor of '%s': %.200s", n->filename, *line);
        }
        if (v->extents->len) {
            const struct vmdk_extent *before = &g_array_index(v->extents, struct vmdk_extent, v->extents->len - 1);
            if (before->kind == VMDK_SPARSE && before->bytes % before->grain) {
                g_free(l.name);
                return vireo_fail(error, VIREO_ERROR_INVALID, "VMDK image '%s': the extent '%s' ends within a grain", n->filename, before->name);
            }
        }
        uint64_t bytes = l.sectors * VMDK_SECTOR;
        if (!add_extent(n, &l, start, flags, error))
            return false;
        start += bytes;
    }
    return v->extents->len || vireo_fail(error, VIREO_ERROR_INVALID, "the descriptor of '%s' has no extents", n->filename);
}

static bool some_compressed(const struct vmdk *v, bool *ret_all)
{
    bool some = false;
    *ret_all = true;
    for (guint i = 0; i < v->extents->len; i++) {
        bool c = g_array_index(v->extents, struct vmdk_extent, i).compressed;
        some |= c;
        *ret_all &= c;
    }
    return some;
}

static bool vmdk_open(struct block_node *n, unsigned flags, GError **error)
{
    struct vmdk *v = n->state;
    uint8_t magic[4] = { 0 };
    bool all;
    uint64_t size = block_node_size(file(n));
    mapped_init(&v->m, &vmdk_format);
    v->extents = g_array_new(FALSE, TRUE, sizeof(struct vmdk_extent));
    int err = size < sizeof(magic) ? 0 : block_pread(file(n), 0, sizeof(magic), magic);
    if (err)
        return vireo_fail_errno(error, err, "cannot read '%s'", n->filename);
    if (!memcmp(magic, "KDMV", 4) || !memcmp(magic, "COWD", 4)) {
        if (!open_monolithic(n, error))
            return false;
    } else {
        if (!read_descriptor(n, 0, MIN(size, VMDK_DESCRIPTOR_MAX), error))
            return false;
        if (!vmdk_is_descriptor(v->descriptor, strlen(v->descriptor)))
            return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not in VMDK format", n->filename);
        if (!open_extents(n, flags, error))
            return false;
    }
    const struct vmdk_extent *last = &g_array_index(v->extents, struct vmdk_extent, v->extents->len - 1);
    n->size = last->start + last->bytes;
    if (last->read_only && last->file == file(n))
        return mapped_refuse_writing(n, flags, "an image written as a stream", error);
    if (some_compressed(v, &all) && !all)
        return mapped_refuse_writing(n, flags, "an image of which some extents are compressed", error);
    return true;
}

static void vmdk_close(struct block_node *n)
{
    struct vmdk *v = n->state;
    if (!v->extents)
        return;
    if (n->open && n->flags & BLOCK_RDWR)
        vmdk_flush(n);
    for (guint i = 0; i < v->extents->len; i++) {
        struct vmdk_extent *e = &g_array_index(v->extents, struct vmdk_extent, i);
        metadata_destroy(e->metadata);
        block_node_unref(e->file);
        g_free(e->name);
        g_free(e->type);
    }
    g_array_unref(g_steal_pointer(&v->extents));
    mapped_finish(&v->m);
    g_clear_pointer(&v->create_type, g_free);
    g_clear_pointer(&v->descriptor, g_free);
}

static bool vmdk_reopen(struct block_node *n, unsigned flags, GError **error)
{
    const struct vmdk *v = n->state;
    bool was = n->flags & BLOCK_RDWR, will = flags & BLOCK_RDWR;
    if (was && !will) {
        int err = vmdk_flush(n);
        return !err || vireo_fail_errno(error, err, "cannot flush '%s'", n->filename);
    }
    if (will && !was && g_array_index(v->extents, struct vmdk_extent, 0).file != file(n))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' has its extents in other files, which are open read-only: open it anew", n->filename);
    return true;
}

/* ---- what it is ---- */

uint32_t vmdk_node_cid(const struct block_node *n)
{
    return n->driver == &block_vmdk ? ((const struct vmdk *)n->state)->cid : VMDK_NO_PARENT;
}

static uint64_t vmdk_allocated(struct block_node *n)
{
    const struct vmdk *v = n->state;
    uint64_t sum = block_node_allocated(file(n));
    for (guint i = 0; i < v->extents->len; i++) {
        struct block_node *f = g_array_index(v->extents, struct vmdk_extent, i).file;
        sum += f && f != file(n) ? block_node_allocated(f) : 0;
    }
    return sum;
}

static int vmdk_get_info(struct block_node *n, struct block_info *ret)
{
    const struct vmdk *v = n->state;
    bool all;
    ret->compressed_possible = some_compressed(v, &all);
    ret->needs_compressed_writes = all;
    ret->cluster_size = g_array_index(v->extents, struct vmdk_extent, 0).grain;
    return 0;
}

static struct json_object *vmdk_specific_info(struct block_node *n)
{
    const struct vmdk *v = n->state;
    struct json_object *list = json_object_new_array();
    for (guint i = 0; i < v->extents->len; i++) {
        const struct vmdk_extent *e = &g_array_index(v->extents, struct vmdk_extent, i);
        struct json_object *o = json_object_new_object();
        if (e->compressed)
            json_object_object_add(o, "compressed", json_object_new_boolean(true));
        json_object_object_add(o, "virtual-size", json_object_new_uint64(e->bytes));
        json_object_object_add(o, "filename", json_object_new_string(e->file ? e->file->filename : ""));
        if (e->grain)
            json_object_object_add(o, "cluster-size", json_object_new_uint64(e->grain));
        json_object_object_add(o, "format", json_object_new_string(e->type));
        json_object_array_add(list, o);
    }
    return json_make("type", json_object_new_string("vmdk"), "data",
                     json_make("cid", json_object_new_int64(v->cid), "parent-cid", json_object_new_int64(v->parent_cid),
                               "create-type", json_object_new_string(v->create_type), "extents", list, NULL), NULL);
}

const struct block_driver block_vmdk = {
    .name = "vmdk", .help = "VMware disk image", .kind = BLOCK_FORMAT, .state_size = sizeof(struct vmdk), .supports_backing = true, .probe = vmdk_probe, .open = vmdk_open,
    .close = vmdk_close, .reopen = vmdk_reopen, .preadv = mapped_preadv, .pwritev = vmdk_pwritev, .write_zeroes = vmdk_write_zeroes, .flush = vmdk_flush,
    .status = mapped_status, .check = mapped_check, .map_now = vmdk_map_now, .allocated = vmdk_allocated, .get_info = vmdk_get_info, .specific_info = vmdk_specific_info,
    .create_keys = vmdk_create_keys, .create = vmdk_create,
};
