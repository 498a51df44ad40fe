/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools that are a disk, whose volumes are its partitions, by sfdisk. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/blkpg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "storage.h"

enum { ALIGN = 1 << 20 };

static const char *device_of(const struct storage_pool *p) { return el_get(storage_pool_source(p), "device/@path"); }

static bool check_def(struct doc *def, GError **error)
{
    const char *device = el_get(doc_root(def), "source/device/@path");
    if (device && *device != '/')
        return manage_fail(error, VIR_ERR_XML_ERROR, "the device '%s' of the pool is no path: begin it with '/'", device);
    return true;
}

/* Labels that sfdisk makes, by the pool's names for them. */
static const char *label_of(const char *format)
{
    static const char *const labels[][2] = { { "dos", "dos" }, { "gpt", "gpt" }, { "sun", "sun" }, { "dvh", "sgi" }, { "unknown", "dos" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(labels); i++)
        if (!strcmp(labels[i][0], format))
            return labels[i][1];
    return NULL;
}

/* Types of partitions: in a DOS label, and in a GPT (UEFI 2.10, 5.3.3). */
static const struct { const char *format, *dos, *gpt; } kinds[] = {
    { "none", "83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4" },       { "linux", "83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4" },
    { "fat16", "6", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7" },       { "fat32", "c", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7" },
    { "linux-swap", "82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F" }, { "linux-lvm", "8e", "E6D6D379-F507-44C2-A23C-238F2A3DF928" },
    { "linux-raid", "fd", "A19D880F-05FC-4D3B-A006-743F0F84911E" }, { "extended", "5", NULL },
};

static const char *format_of(const char *type)
{
    for (unsigned i = 1; i < G_N_ELEMENTS(kinds); i++)
        if (!g_ascii_strcasecmp(kinds[i].dos, type) || (kinds[i].gpt && !g_ascii_strcasecmp(kinds[i].gpt, type)))
            return kinds[i].format;
    return !strcmp(type, "f") || !strcmp(type, "85") ? "extended" : "none";
}

/* ---- the table ---- */

struct part {
    char *node; /* "/dev/sda1" */
    const char *format;
    uint64_t start, end; /* bytes; end: behind the last */
};
struct label {
    bool gpt;
    uint64_t size;
    GArray *parts; /* struct part, by start */
};

static void part_clear(gpointer p) { g_free(((struct part *)p)->node); }
static int by_start(gconstpointer a, gconstpointer b)
{
    const struct part *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static const char *text(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "";
}
static uint64_t number(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? (uint64_t)json_object_get_int64(v) : 0;
}

static void add_parts(struct label *l, struct json_object *table)
{
    struct json_object *list;
    uint64_t sector = number(table, "sectorsize");
    if (!json_object_object_get_ex(table, "partitions", &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct part p = { g_strdup(text(o, "node")), format_of(text(o, "type")), number(o, "start") * (sector ? sector : 512), 0 };
        p.end = p.start + number(o, "size") * (sector ? sector : 512);
        g_array_append_val(l->parts, p);
    }
    g_array_sort(l->parts, by_start);
}

static bool read_label(const char *device, struct label *ret, GError **error)
{
    const char *argv[] = { "sfdisk", "--json", device, NULL }, *size[] = { "blockdev", "--getsize64", device, NULL };
    g_autofree char *out = NULL, *bytes = NULL;
    struct json_object *table;
    if (access(device, F_OK) < 0)
        return manage_fail_errno(error, errno, "device path '%s' doesn't exist", device);
    if (!storage_run(size, &bytes, error) || !storage_run(argv, &out, error))
        return false;
    struct json_object *o = json_tokener_parse(out);
    if (!o || !json_object_object_get_ex(o, "partitiontable", &table)) {
        json_object_put(o);
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the disk '%s' has no partition table: 'pool-build' makes one", device);
    }
    *ret = (struct label){ !strcmp(text(table, "label"), "gpt"), g_ascii_strtoull(bytes, NULL, 10), g_array_new(FALSE, FALSE, sizeof(struct part)) };
    g_array_set_clear_func(ret->parts, part_clear);
    add_parts(ret, table);
    json_object_put(o);
    return true;
}

static unsigned part_number(const char *node)
{
    const char *c = node + strlen(node);
    while (c > node && g_ascii_isdigit(c[-1]))
        c--;
    return (unsigned)strtoul(c, NULL, 10);
}

/* The kernel learns of a partition, or forgets it: it may not read tables of this kind by itself, and does not read one of a disk in use. */
static void kernel_part(const char *device, const struct part *p, bool add)
{
    struct blkpg_partition part = { .start = (long long)p->start, .length = (long long)(p->end - p->start), .pno = (int)part_number(p->node) };
    struct blkpg_ioctl_arg arg = { add ? BLKPG_ADD_PARTITION : BLKPG_DEL_PARTITION, 0, sizeof(part), &part };
    int fd = open(device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    (void)ioctl(fd, BLKPG, &arg); /* fails where it knows already: whoever needs the device waits for it */
    close(fd);
}

/* Calls fn for each free piece, of whole MiB. Logical partitions lie inside an extended one, whose space is taken as a whole. */
static void each_free(const struct label *l, void (*fn)(void *opaque, uint64_t start, uint64_t end), void *opaque)
{
    uint64_t at = ALIGN, last = l->size - MIN(l->size, l->gpt ? ALIGN : 0);
    for (unsigned i = 0; i <= l->parts->len; i++) {
        const struct part *p = i < l->parts->len ? &g_array_index(l->parts, struct part, i) : NULL;
        uint64_t end = (p ? MIN(p->start, last) : last) / ALIGN * ALIGN;
        if (end > at)
            fn(opaque, at, end);
        if (p)
            at = MAX(at, (p->end + ALIGN - 1) / ALIGN * ALIGN);
    }
}

/* ---- looking ---- */

static char *name_of(const char *node) { return g_path_get_basename(node); }

static void put_free(void *opaque, uint64_t start, uint64_t end)
{
    struct el *e = el_add(opaque, "freeExtent");
    el_setf(e, "@start", "%" G_GUINT64_FORMAT, start);
    el_setf(e, "@end", "%" G_GUINT64_FORMAT, end);
}

static void sum_free(void *opaque, uint64_t start, uint64_t end) { *(uint64_t *)opaque += end - start; }

static void show_free(struct storage_pool *p, const struct label *l)
{
    g_mutex_lock(&p->lock);
    struct el *device = el_find(storage_pool_source(p), "device");
    for (struct el *e; (e = el_child(device, "freeExtent"));)
        el_remove(e);
    each_free(l, put_free, device);
    g_mutex_unlock(&p->lock);
}

static struct storage_volume *volume_of(const struct storage_pool *p, const struct part *part)
{
    g_autofree char *name = name_of(part->node);
    struct storage_volume *v = storage_volume_new(name);
    if (access(part->node, F_OK) < 0)
        kernel_part(device_of(p), part, true);
    storage_volume_set_path(v, part->node);
    storage_volume_add_extent(v, device_of(p), part->start, part->end);
    v->target.format = g_strdup(part->format);
    if (storage_device_look(v, NULL)) {
        v->target.capacity = v->target.allocation = part->end - part->start; /* an extended partition has a device of 1 KiB */
        return v;
    }
    storage_volume_unref(v);
    return NULL;
}

static bool refresh(struct storage_pool *p, struct storage_scan *ret, GError **error)
{
    struct label l;
    if (!read_label(device_of(p), &l, error))
        return false;
    for (unsigned i = 0; i < l.parts->len; i++) {
        struct storage_volume *v = volume_of(p, &g_array_index(l.parts, struct part, i));
        if (v)
            storage_scan_add(ret, v);
    }
    ret->capacity = l.size;
    each_free(&l, sum_free, &ret->available);
    ret->allocation = ret->capacity - MIN(ret->available, ret->capacity);
    show_free(p, &l);
    g_array_unref(l.parts);
    return true;
}

static bool is_active(struct storage_pool *p, bool *ret, GError **error)
{
    (void)error;
    *ret = access(device_of(p), F_OK) == 0;
    return true;
}

/* ---- the disk ---- */

static bool build(struct storage_pool *p, unsigned flags, GError **error)
{
    const char *device = device_of(p), *format = el_get_or(storage_pool_source(p), "format/@type", "dos"), *label = label_of(format);
    const char *look[] = { "blkid", "-p", device, NULL }, *argv[] = { "sfdisk", "--wipe", "always", device, NULL };
    int status;
    if (!label)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "partition tables of type '%s' cannot be made: use dos, gpt, sun or dvh", format);
    if (access(device, F_OK) < 0)
        return manage_fail_errno(error, errno, "device path '%s' doesn't exist", device);
    if (!(flags & VIR_STORAGE_POOL_BUILD_OVERWRITE)) {
        if (!storage_run_status(look, NULL, &status, error))
            return false;
        if (status != 2)
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "device '%s' holds something already: overwrite must be asked for", device);
    }
    g_autofree char *input = g_strdup_printf("label: %s\n", label);
    return storage_run_with(argv, input, NULL, error);
}

/* ---- partitions ---- */

struct choice {
    uint64_t wanted, start, end;
};

/* The smallest piece that is large enough. */
static void choose(void *opaque, uint64_t start, uint64_t end)
{
    struct choice *c = opaque;
    if (end - start >= c->wanted && (!c->end || end - start < c->end - c->start)) {
        c->start = start;
        c->end = end;
    }
}

/* The name that the next partition will have: "sda3", "nvme0n1p3". */
static char *next_name(const char *device, const struct label *l)
{
    unsigned n = 1;
    for (unsigned i = 0; i < l->parts->len; i++) {
        if (part_number(g_array_index(l->parts, struct part, i).node) == n) {
            n++;
            i = UINT_MAX; /* from the beginning: they are sorted by place, not by number */
        }
    }
    g_autofree char *base = g_path_get_basename(device);
    return g_strdup_printf("%s%s%u", base, g_ascii_isdigit(base[strlen(base) - 1]) ? "p" : "", n);
}

static const char *type_of(const struct label *l, const char *format)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!strcmp(kinds[i].format, format))
            return l->gpt ? kinds[i].gpt : kinds[i].dos;
    return NULL;
}

static bool remove_part(const char *device, const char *node, GError **error)
{
    g_autofree char *n = g_strdup_printf("%u", part_number(node));
    const char *argv[] = { "sfdisk", "--no-reread", "--delete", device, n, NULL };
    const struct part part = { (char *)node, NULL, 0, 0 };
    if (!storage_run(argv, NULL, error))
        return false;
    kernel_part(device, &part, false);
    return true;
}

static bool add_part(const char *device, const struct label *l, struct storage_volume *v, GError **error)
{
    struct choice c = { .wanted = (v->target.capacity + ALIGN - 1) / ALIGN * ALIGN };
    const char *type = type_of(l, v->target.format ? v->target.format : "none");
    g_autofree char *expected = next_name(device, l), *directory = g_path_get_dirname(device), *path = g_build_filename(directory, expected, NULL);
    if (strcmp(expected, v->name))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "invalid partition name '%s', expected '%s'", v->name, expected);
    if (!type)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "a partition of type '%s' cannot be in this partition table", v->target.format);
    each_free(l, choose, &c);
    if (!c.end || !c.wanted)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the disk '%s' has no free piece of %" G_GUINT64_FORMAT " bytes", device, c.wanted);
    g_autofree char *input = g_strdup_printf("start=%" G_GUINT64_FORMAT "KiB, size=%" G_GUINT64_FORMAT "KiB, type=%s\n", c.start / 1024, c.wanted / 1024, type);
    const char *argv[] = { "sfdisk", "--append", "--no-reread", "--wipe", "never", device, NULL };
    g_clear_pointer(&v->key, g_free);
    storage_volume_set_path(v, path);
    storage_volume_add_extent(v, device, c.start, c.start + c.wanted);
    if (!storage_run_with(argv, input, NULL, error))
        return false;
    const struct part part = { path, NULL, c.start, c.start + c.wanted };
    kernel_part(device, &part, true);
    return true;
}

static bool create_volume(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error)
{
    struct storage_pool *p = j->pool;
    struct label l;
    if (flags || v->backing)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "partitions are made without backing store, preallocation and reflink");
    g_mutex_lock(&p->work); /* two at once would choose the same place */
    bool ok = read_label(device_of(p), &l, error);
    if (ok) {
        ok = add_part(device_of(p), &l, v, error);
        g_array_unref(l.parts);
    }
    g_mutex_unlock(&p->work);
    if (!ok)
        return false;
    if (storage_device_fill(j, v, from, error)) {
        struct storage_scan scan = { .volumes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)storage_volume_unref) };
        (void)refresh(p, &scan, NULL); /* the free pieces are others now */
        g_hash_table_unref(scan.volumes);
        return true;
    }
    (void)remove_part(device_of(p), v->target.path, NULL);
    return false;
}

static bool delete_volume(struct storage_pool *p, struct storage_volume *v, unsigned flags, GError **error)
{
    struct label l;
    if (flags)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "wipe the volume first, then delete it: deleting with zeroes is not there");
    g_mutex_lock(&p->work);
    bool ok = remove_part(device_of(p), v->target.path, error);
    if (ok && read_label(device_of(p), &l, NULL)) {
        show_free(p, &l);
        g_array_unref(l.parts);
    }
    g_mutex_unlock(&p->work);
    return ok;
}

static const char *const formats[] = { "unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2", NULL };
static const char *const volume_formats[] = { "none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended", NULL };
static const struct storage_tool tools[] = { { "sfdisk", "fdisk" }, { "blkid", "util-linux" }, { "blockdev", "util-linux" }, { NULL, NULL } };

const struct storage_backend storage_disk = {
    .type = "disk", .number = 4, .needs = STORAGE_DEVICE | STORAGE_TARGET, .tools = tools, .formats = formats, .default_format = "unknown",
    .volume_formats = volume_formats, .default_volume_format = "none", .volume_options = true, .check_def = check_def, .is_active = is_active, .build = build,
    .refresh = refresh, .create_volume = create_volume, .delete_volume = delete_volume, .look_at = storage_device_look_at,
};
