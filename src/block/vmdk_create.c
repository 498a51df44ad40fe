/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New vmdk images: one file, or a descriptor and extents beside it whose names come from its own. */
#include <errno.h>
#include <string.h>

#include "base/crypto.h"
#include "block/vmdk.h"

enum { GRAIN = 128 /* sectors */, GTES = 512, TABLE = GTES * 4 / VMDK_SECTOR /* sectors */, DESCRIPTOR = 1, DESCRIPTOR_ROOM = 20 /* sectors */ };
#define SPLIT UINT64_C(0x80000000)

static const char *const subformats[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized", NULL };
enum { MONOLITHIC_SPARSE, MONOLITHIC_FLAT, SPLIT_SPARSE, SPLIT_FLAT, STREAM };
static const char *const adapters[] = { "ide", "buslogic", "lsilogic", "legacyESX", NULL };

struct options {
    int subformat, adapter;
    bool compat6, zeroed_grain;
    char *hwversion, *toolsversion;
};
#define O(member) offsetof(struct options, member)
const struct keyval_key vmdk_create_keys[] = {
    { "adapter_type", KV_ENUM, O(adapter), "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX", adapters },
    { "compat6", KV_BOOL, O(compat6), "VMDK version 6 image" },
    { "hwversion", KV_STRING, O(hwversion), "VMDK hardware version" },
    { "subformat", KV_ENUM, O(subformat),
      "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ", subformats },
    { "toolsversion", KV_STRING, O(toolsversion), "VMware guest tools version" },
    { "zeroed_grain", KV_BOOL, O(zeroed_grain), "Enable efficient zero writes using the zeroed-grain GTE feature" },
    { NULL }
};

static uint64_t up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit;
}

/* Header, descriptor's room, two directories each with its tables: the tables are there from the start. sectors: of the disk. */
static int write_sparse(struct block_node *f, uint64_t sectors, const struct options *o, const char *descriptor)
{
    uint64_t tables = up(up(sectors, GRAIN), GTES), directory = up(tables * 4, VMDK_SECTOR), rgd = DESCRIPTOR + DESCRIPTOR_ROOM, gd = rgd + directory + TABLE * tables,
             overhead = up(gd + directory + TABLE * tables, GRAIN) * GRAIN;
    bool stream = o->subformat == STREAM;
    struct vmdk_header h = {
        .magic = GUINT32_TO_LE(VMDK_MAGIC), .version = GUINT32_TO_LE(stream ? 3 : o->zeroed_grain ? 2 : 1),
        .flags = GUINT32_TO_LE(VMDK_FLAG_NEWLINES | VMDK_FLAG_RGD | (stream ? VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS : 0) | (o->zeroed_grain ? VMDK_FLAG_ZERO_GRAIN : 0)),
        .capacity = GUINT64_TO_LE(sectors), .grain = GUINT64_TO_LE(GRAIN), .descriptor = GUINT64_TO_LE(DESCRIPTOR), .descriptor_size = GUINT64_TO_LE(DESCRIPTOR_ROOM),
        .gtes = GUINT32_TO_LE(GTES), .rgd = GUINT64_TO_LE(rgd), .gd = GUINT64_TO_LE(gd), .overhead = GUINT64_TO_LE(overhead), .newlines = { '\n', ' ', '\r', '\n' },
        .compression = GUINT16_TO_LE(stream ? 1 : 0),
    };
    if (gd + directory + TABLE * tables > UINT32_MAX || strlen(descriptor) > DESCRIPTOR_ROOM * VMDK_SECTOR)
        return EFBIG;
    g_autofree uint32_t *list = g_malloc0(directory * VMDK_SECTOR);
    const uint64_t places[] = { rgd, gd };
    int err = 0;
    for (unsigned k = 0; k < 2 && !err; k++) {
        for (uint64_t i = 0; i < tables; i++)
            list[i] = GUINT32_TO_LE((uint32_t)(places[k] + directory + i * TABLE));
        err = block_pwrite(f, places[k] * VMDK_SECTOR, directory * VMDK_SECTOR, list, 0);
    }
    static const uint8_t zero[VMDK_SECTOR];
    if (!err)
        err = block_pwrite(f, (overhead - 1) * VMDK_SECTOR, VMDK_SECTOR, zero, 0); /* up to there it is metadata */
    if (!err && *descriptor)
        err = block_pwrite(f, DESCRIPTOR * VMDK_SECTOR, strlen(descriptor), descriptor, 0);
    return err ? err : block_pwrite(f, 0, sizeof(h), &h, 0);
}

static char *describe(const struct options *o, const struct block_create *c, uint32_t parent, const char *extents)
{
    uint64_t sectors = up(c->size, VMDK_SECTOR);
    unsigned heads = o->adapter ? 255 : 16;
    uint32_t cid;
    GString *s = g_string_new(NULL);
    crypto_random(&cid, sizeof(cid));
    g_string_append_printf(s, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", cid & 0x7fffffff, parent, subformats[o->subformat]);
    if (c->backing_file)
        g_string_append_printf(s, "parentFileNameHint=\"%s\"\n", c->backing_file);
    g_string_append_printf(s, "\n# Extent description\n%s\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%s\"\nddb.geometry.cylinders = \"%" G_GUINT64_FORMAT
                           "\"\nddb.geometry.heads = \"%u\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"%s\"\nddb.toolsVersion = \"%s\"\n",
                           extents, o->hwversion ? o->hwversion : o->compat6 ? "6" : "4", sectors / (63 * heads), heads, adapters[o->adapter],
                           o->toolsversion ? o->toolsversion : "2147483647");
    return g_string_free(s, FALSE);
}

/* The content ID of the image it stands on. */
static bool parent_cid(struct block_graph *g, const struct block_node *f, const struct block_create *c, uint32_t *ret, GError **error)
{
    *ret = VMDK_NO_PARENT;
    if (!c->backing_file)
        return true;
    if (c->backing_format && strcmp(c->backing_format, "vmdk"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Invalid backing file format: %s. Must be vmdk", c->backing_format);
    const char *slash = strrchr(f->filename, '/');
    g_autofree char *path = g_path_is_absolute(c->backing_file) || !slash ? g_strdup(c->backing_file)
                                                                          : g_strdup_printf("%.*s%s", (int)(slash - f->filename + 1), f->filename, c->backing_file);
    block_node_auto *b = block_open_filename(g, path, "vmdk", NULL, BLOCK_NO_BACKING, error);
    if (b)
        *ret = vmdk_node_cid(b);
    return b != NULL;
}

/* A file beside the image, which holds an extent. */
static bool make_extent(struct block_node *f, const char *path, uint64_t bytes, const struct options *o, bool flat, GError **error)
{
    keyval_auto *none = keyval_new();
    struct block_create c = { .size = flat ? bytes : 0, .options = none };
    if (!block_create_image(f->graph, path, "raw", &c, error))
        return false;
    if (flat)
        return true;
    keyval_auto *file = keyval_new();
    keyval_add(file, "driver", "file");
    keyval_add(file, "filename", path);
    block_node_auto *n = block_open_options(f->graph, file, BLOCK_RDWR, error);
    int err = n ? write_sparse(n, up(bytes, VMDK_SECTOR), o, "") : 0;
    if (n && !err)
        err = block_flush(n);
    return n && (!err || vireo_fail_errno(error, err, "cannot write the extent '%s'", path));
}

/* "dir/NAME.vmdk" -> "dir/NAME-f001.vmdk". */
static char *extent_name(const struct block_node *f, const char *suffix)
{
    const char *name = f->filename, *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
    return dot ? g_strdup_printf("%.*s-%s%s", (int)(dot - name), name, suffix, dot) : g_strdup_printf("%s-%s", name, suffix);
}

static bool make_extents(struct block_node *f, const struct block_create *c, const struct options *o, GString *lines, GPtrArray *made, GError **error)
{
    bool flat = o->subformat == MONOLITHIC_FLAT || o->subformat == SPLIT_FLAT, split = o->subformat == SPLIT_FLAT || o->subformat == SPLIT_SPARSE;
    uint64_t left = up(c->size, VMDK_SECTOR) * VMDK_SECTOR;
    for (unsigned i = 1; left; i++) {
        uint64_t bytes = split ? MIN(left, SPLIT) : left;
        g_autofree char *suffix = split ? g_strdup_printf("%c%03u", flat ? 'f' : 's', i) : g_strdup("flat"), *path = extent_name(f, suffix);
        g_autofree char *base = g_path_get_basename(path);
        if (!make_extent(f, path, bytes, o, flat, error))
            return false;
        g_ptr_array_add(made, g_strdup(path));
        g_string_append_printf(lines, "RW %" G_GUINT64_FORMAT " %s \"%s\"%s\n", bytes / VMDK_SECTOR, flat ? "FLAT" : "SPARSE", base, flat ? " 0" : "");
        left -= bytes;
    }
    return true;
}

static bool create(struct block_node *f, struct block_create *c, const struct options *o, GError **error)
{
    bool alone = o->subformat == MONOLITHIC_SPARSE || o->subformat == STREAM, flat = o->subformat == MONOLITHIC_FLAT || o->subformat == SPLIT_FLAT;
    uint64_t sectors = up(c->size, VMDK_SECTOR);
    g_autoptr(GPtrArray) made = g_ptr_array_new_with_free_func(g_free);
    GString *lines = g_string_new(NULL);
    g_autofree char *base = g_path_get_basename(f->filename);
    uint32_t parent;
    if (strpbrk(f->filename, "\"\n") || (c->backing_file && strpbrk(c->backing_file, "\"\n"))) {
        g_string_free(lines, TRUE);
        return vireo_fail(error, VIREO_ERROR_INVALID, "a descriptor cannot hold a file name with a quotation mark or a line break");
    }
    if (flat && c->backing_file) {
        g_string_free(lines, TRUE);
        return vireo_fail(error, VIREO_ERROR_INVALID, "Flat image can't have backing file");
    }
    bool ok = parent_cid(f->graph, f, c, &parent, error) && block_truncate(f, 0, false, "off", error);
    if (ok && alone)
        g_string_append_printf(lines, "RW %" G_GUINT64_FORMAT " SPARSE \"%s\"\n", sectors, base);
    else
        ok = ok && make_extents(f, c, o, lines, made, error);
    g_autofree char *extents = g_string_free(lines, FALSE), *text = ok ? describe(o, c, parent, extents) : NULL;
    if (ok) {
        int err = alone ? write_sparse(f, sectors, o, text) : block_pwrite(f, 0, strlen(text), text, 0);
        ok = !err || vireo_fail_errno(error, err, "cannot write the VMDK image");
    }
    const struct block_driver *files = block_driver_find("file");
    for (guint i = 0; !ok && i < made->len; i++)
        files->remove_file(made->pdata[i]);
    return ok;
}

bool vmdk_create(struct block_node *f, struct block_create *c, GError **error)
{
    struct options o = { 0 };
    keyval_auto *mine = keyval_new();
    for (const struct keyval_key *k = vmdk_create_keys; k->name; k++) {
        g_autofree char *value = keyval_take(c->options, k->name);
        if (value && strcmp(value, "undefined"))
            keyval_add(mine, k->name, value);
    }
    bool ok = keyval_load(mine, vmdk_create_keys, &o, error);
    if (ok && o.compat6 && o.hwversion)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "compat6 cannot be enabled with hwversion set");
    if (ok && c->size > UINT64_C(0xffffffff) * GRAIN / 64 * VMDK_SECTOR)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "a vmdk image has at most 4 TiB");
    ok = ok && create(f, c, &o, error);
    g_free(o.hwversion);
    g_free(o.toolsversion);
    return ok;
}
