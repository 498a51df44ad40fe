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
    char *device; /* without symbolic links, as the partitions' nodes are */
    bool gpt, dos;
    uint64_t size;
    GArray *parts; /* struct part, by start */
};

static void part_clear(gpointer p) { g_free(((struct part *)p)->node); }
static void label_clear(struct label *l)
{
    g_free(l->device);
    if (l->parts)
        g_array_unref(l->parts);
}
#define label_auto __attribute__((cleanup(label_clear))) struct label
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

/* Whether the table is of the kind that the definition says. */
static bool fits(const struct storage_pool *p, const char *name, GError **error)
{
    const char *format = el_get_or(storage_pool_source(p), "format/@type", "unknown"), *label = label_of(format);
    if (!strcmp(format, "unknown") || !strcmp(label ? label : format, name))
        return true;
    return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the disk '%s' has a partition table of type '%s', and the pool says '%s': correct the definition, or 'pool-build --overwrite' "
                       "makes a new table", device_of(p), name, format);
}

static bool read_label(const struct storage_pool *p, struct label *ret, GError **error)
{
    struct label l = { .device = realpath(device_of(p), NULL) };
    const char *argv[] = { "sfdisk", "--json", l.device, NULL }, *size[] = { "blockdev", "--getsize64", l.device, NULL };
    g_autofree char *out = NULL, *bytes = NULL;
    struct json_object *table;
    if (!l.device)
        return manage_fail_errno(error, errno, "device path '%s' doesn't exist", device_of(p));
    int status = 1;
    if (!storage_run(size, &bytes, error) || !storage_run_status(argv, &out, &status, error)) {
        label_clear(&l);
        return false;
    }
    struct json_object *o = status ? NULL : json_tokener_parse(out); /* it ends with 1 where it finds no table */
    bool ok = o && json_object_object_get_ex(o, "partitiontable", &table) ? fits(p, text(table, "label"), error) :
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the disk '%s' has no partition table: 'pool-build' makes one", device_of(p));
    if (ok) {
        l.gpt = !strcmp(text(table, "label"), "gpt");
        l.dos = !strcmp(text(table, "label"), "dos");
        l.size = g_ascii_strtoull(bytes, NULL, 10);
        l.parts = g_array_new(FALSE, FALSE, sizeof(struct part));
        g_array_set_clear_func(l.parts, part_clear);
        add_parts(&l, table);
        *ret = l;
    } else {
        label_clear(&l);
    }
    json_object_put(o);
    return ok;
}

static unsigned part_number(const char *node)
{
    const char *c = node + strlen(node);
    while (c > node && g_ascii_isdigit(c[-1]))
        c--;
    return (unsigned)strtoul(c, NULL, 10);
}

/* The kernel learns of a partition, or forgets it: it may not read tables of this kind by itself, and does not read one of a disk in use. 0 or an errno:
 * EBUSY where somebody uses the partition that is to go. */
static int kernel_part(const char *device, const struct part *p, bool add)
{
    uint64_t length = g_strcmp0(p->format, "extended") ? p->end - p->start : 1024; /* what lies in it are partitions of their own, and must not overlap */
    struct blkpg_partition part = { .start = (long long)p->start, .length = (long long)length, .pno = (int)part_number(p->node) };
    struct blkpg_ioctl_arg arg = { add ? BLKPG_ADD_PARTITION : BLKPG_DEL_PARTITION, 0, sizeof(part), &part };
    int fd = open(device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno;
    int err = ioctl(fd, BLKPG, &arg) < 0 ? errno : 0; /* fails where it knows already: whoever needs the device waits for it */
    close(fd);
    return err;
}

/* ---- primary, extended and logical partitions of a DOS table ---- */

static bool is_logical(const struct label *l, const struct part *p) { return l->dos && part_number(p->node) > 4; }

static const struct part *extended_of(const struct label *l)
{
    for (unsigned i = 0; l->dos && i < l->parts->len; i++)
        if (!strcmp(g_array_index(l->parts, struct part, i).format, "extended"))
            return &g_array_index(l->parts, struct part, i);
    return NULL;
}

static unsigned count_parts(const struct label *l, bool logical)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->parts->len; i++)
        n += is_logical(l, &g_array_index(l->parts, struct part, i)) == logical;
    return n;
}

/* Calls fn for each free piece, of whole MiB: outside of an extended partition or inside, where the table of each logical partition takes a MiB before it. */
static void each_free(const struct label *l, bool inside, void (*fn)(void *opaque, uint64_t start, uint64_t end), void *opaque)
{
    const struct part *extended = extended_of(l);
    if (inside && !extended)
        return;
    uint64_t at = inside ? extended->start : ALIGN, last = inside ? extended->end : l->size - MIN(l->size, l->gpt ? ALIGN : 0), before = inside ? ALIGN : 0;
    for (unsigned i = 0; i <= l->parts->len; i++) {
        const struct part *p = i < l->parts->len ? &g_array_index(l->parts, struct part, i) : NULL;
        if (p && is_logical(l, p) != inside)
            continue;
        uint64_t start = (at + ALIGN - 1) / ALIGN * ALIGN + before, end = (p ? MIN(p->start - MIN(p->start, before), last) : last) / ALIGN * ALIGN;
        if (end > start)
            fn(opaque, start, end);
        if (p)
            at = MAX(at, p->end);
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
    each_free(l, false, put_free, device);
    each_free(l, true, put_free, device);
    g_mutex_unlock(&p->lock);
}

/* An extended partition has a device of 1 KiB. */
static void size_by_extent(struct storage_volume *v)
{
    const struct storage_extent *e = v->extents && v->extents->len ? &g_array_index(v->extents, struct storage_extent, 0) : NULL;
    if (e)
        v->target.capacity = v->target.allocation = e->end - e->start;
}

static struct storage_volume *look_at(struct storage_pool *p, const struct storage_volume *v, GError **error)
{
    struct storage_volume *now = storage_device_look_at(p, v, error);
    if (now)
        size_by_extent(now);
    return now;
}

static struct storage_volume *volume_of(const struct storage_pool *p, const struct label *l, const struct part *part)
{
    g_autofree char *name = name_of(part->node);
    struct storage_volume *v = storage_volume_new(name);
    if (access(part->node, F_OK) < 0 && kernel_part(l->device, part, true) == 0)
        (void)storage_device_wait(part->node, NULL);
    g_autofree char *path = storage_device_stable(storage_pool_path(p), part->node);
    storage_volume_set_path(v, path);
    storage_volume_add_extent(v, device_of(p), part->start, part->end);
    v->target.format = g_strdup(part->format);
    if (storage_device_look(v, NULL)) {
        size_by_extent(v);
        return v;
    }
    storage_volume_unref(v);
    return NULL;
}

static bool refresh(struct storage_pool *p, struct storage_scan *ret, GError **error)
{
    label_auto l = { 0 };
    if (!read_label(p, &l, error))
        return false;
    for (unsigned i = 0; i < l.parts->len; i++) {
        struct storage_volume *v = volume_of(p, &l, &g_array_index(l.parts, struct part, i));
        if (v)
            storage_scan_add(ret, v);
    }
    ret->capacity = l.size;
    each_free(&l, false, sum_free, &ret->available);
    each_free(&l, true, sum_free, &ret->available);
    ret->allocation = ret->capacity - MIN(ret->available, ret->capacity);
    show_free(p, &l);
    return true;
}

static bool start(struct storage_pool *p, GError **error)
{
    label_auto l = { 0 };
    return read_label(p, &l, error);
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

static bool has_number(const struct label *l, unsigned n)
{
    for (unsigned i = 0; i < l->parts->len; i++)
        if (part_number(g_array_index(l->parts, struct part, i).node) == n)
            return true;
    return false;
}

/* The name that the next partition will have: "sda3", "nvme0n1p3". NULL: there is no place in the table. */
static char *next_name(const struct label *l, bool logical)
{
    unsigned n = logical ? 5 : 1;
    while (has_number(l, n))
        n++;
    if (l->dos && (logical ? !extended_of(l) : n > 4))
        return NULL;
    g_autofree char *base = g_path_get_basename(l->device);
    return g_strdup_printf("%s%s%u", base, g_ascii_isdigit(base[strlen(base) - 1]) ? "p" : "", n);
}

/* Whether the new partition is a logical one: where its name says so, or where the table has no place for another. */
static bool choose_name(const struct label *l, const struct storage_volume *v, bool *ret_logical, GError **error)
{
    g_autofree char *primary = next_name(l, false), *logical = l->dos ? next_name(l, true) : NULL;
    bool extended = !g_strcmp0(v->target.format, "extended");
    if (extended && extended_of(l))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "extended partition already exists");
    if (!primary && (!logical || extended))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the table has four partitions: with an extended one among them there can be logical ones in that");
    *ret_logical = !extended && logical && (!primary || !strcmp(logical, v->name));
    const char *expected = *ret_logical ? logical : primary;
    return !strcmp(expected, v->name) || manage_fail(error, VIR_ERR_INVALID_ARG, "invalid partition name '%s', expected '%s'", v->name, expected);
}

static const char *type_of(const struct label *l, const char *format)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!strcmp(kinds[i].format, format))
            return l->gpt ? kinds[i].gpt : kinds[i].dos;
    return NULL;
}

/* Only what nobody uses: the kernel has to forget it before the table does. */
static bool remove_part(const char *device, const struct part *part, GError **error)
{
    g_autofree char *n = g_strdup_printf("%u", part_number(part->node));
    const char *argv[] = { "sfdisk", "--no-reread", "--delete", device, n, NULL };
    if (kernel_part(device, part, false) == EBUSY)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the partition '%s' is in use: it is mounted, or a program has it open", part->node);
    if (storage_run(argv, NULL, error))
        return true;
    (void)kernel_part(device, part, true);
    return false;
}

static bool add_part(struct storage_pool *p, const struct label *l, struct storage_volume *v, GError **error)
{
    struct choice c = { .wanted = (v->target.capacity + ALIGN - 1) / ALIGN * ALIGN };
    const char *type = type_of(l, v->target.format ? v->target.format : "none");
    g_autofree char *directory = g_path_get_dirname(l->device), *path = g_build_filename(directory, v->name, NULL);
    bool logical = false;
    if (!choose_name(l, v, &logical, error))
        return false;
    if (!type)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "a partition of type '%s' cannot be in this partition table", v->target.format);
    each_free(l, logical, choose, &c);
    if (!c.end || !c.wanted)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the disk '%s' has no free piece of %" G_GUINT64_FORMAT " bytes%s", l->device, c.wanted,
                           logical ? " in its extended partition" : "");
    g_autofree char *input = g_strdup_printf("start=%" G_GUINT64_FORMAT "KiB, size=%" G_GUINT64_FORMAT "KiB, type=%s\n", c.start / 1024, c.wanted / 1024, type);
    const char *argv[] = { "sfdisk", "--append", "--no-reread", "--wipe", "never", l->device, NULL };
    g_clear_pointer(&v->key, g_free);
    storage_volume_set_path(v, path);
    storage_volume_add_extent(v, device_of(p), c.start, c.start + c.wanted);
    if (!storage_run_with(argv, input, NULL, error))
        return false;
    const struct part part = { path, v->target.format, c.start, c.start + c.wanted };
    (void)kernel_part(l->device, &part, true);
    return true;
}

static void take_back(const struct label *l, const struct storage_volume *v)
{
    const struct storage_extent *e = &g_array_index(v->extents, struct storage_extent, 0);
    const struct part part = { v->target.path, v->target.format, e->start, e->end };
    (void)remove_part(l->device, &part, NULL);
}

/* The pool's directory may have a name for the new partition that lasts; and the free pieces are others now. */
static void show_new(struct storage_pool *p, struct storage_volume *v)
{
    label_auto l = { 0 };
    if (g_strcmp0(storage_pool_path(p), "/dev"))
        storage_device_settle();
    g_autofree char *path = storage_device_stable(storage_pool_path(p), v->target.path);
    g_clear_pointer(&v->key, g_free);
    storage_volume_set_path(v, path);
    if (read_label(p, &l, NULL))
        show_free(p, &l);
}

static bool create_volume(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error)
{
    struct storage_pool *p = j->pool;
    label_auto l = { 0 };
    if (flags || v->backing)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "partitions are made without backing store, preallocation and reflink");
    if (from && !g_strcmp0(v->target.format, "extended"))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "an extended partition holds partitions, not a copy of a volume");
    g_mutex_lock(&p->work); /* two at once would choose the same place */
    bool ok = read_label(p, &l, error) && add_part(p, &l, v, error);
    g_mutex_unlock(&p->work);
    if (!ok)
        return false;
    if (!storage_device_fill(j, v, from, error)) {
        take_back(&l, v);
        return false;
    }
    show_new(p, v);
    return true;
}

/* Partitions whose numbers, and so names, would change are not to: a domain might be given another's disk. */
static bool keeps_names(const struct label *l, const struct part *part, GError **error)
{
    unsigned last = 4 + count_parts(l, true), number = part_number(part->node);
    g_autofree char *base = g_path_get_basename(part->node);
    if (!strcmp(part->format, "extended") && l->dos && last > 4)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the extended partition '%s' holds logical ones: delete those first", base);
    if (is_logical(l, part) && number < last)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the logical partitions behind '%s' would get other names: delete the last of them first", base);
    return true;
}

static bool delete_volume(struct storage_pool *p, struct storage_volume *v, unsigned flags, GError **error)
{
    label_auto l = { 0 }, after = { 0 };
    const struct part *part = NULL;
    if (flags)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "wipe the volume first, then delete it: deleting with zeroes is not there");
    g_mutex_lock(&p->work);
    bool ok = read_label(p, &l, error);
    for (unsigned i = 0; ok && i < l.parts->len; i++) {
        const struct part *one = &g_array_index(l.parts, struct part, i);
        g_autofree char *name = name_of(one->node);
        part = strcmp(name, v->name) ? part : one;
    }
    if (ok && !part)
        ok = manage_fail(error, VIR_ERR_NO_STORAGE_VOL, "the disk '%s' has no partition '%s' any more", l.device, v->name);
    ok = ok && keeps_names(&l, part, error) && remove_part(l.device, part, error);
    if (ok && read_label(p, &after, NULL))
        show_free(p, &after);
    g_mutex_unlock(&p->work);
    return ok;
}

static const char *const formats[] = { "unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2", NULL };
static const char *const volume_formats[] = { "none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended", NULL };
static const struct storage_tool tools[] = { { "sfdisk", "fdisk" }, { "blkid", "util-linux" }, { "blockdev", "util-linux" }, { NULL, NULL } };

const struct storage_backend storage_disk = {
    .type = "disk", .number = 4, .needs = STORAGE_DEVICE | STORAGE_TARGET, .tools = tools, .formats = formats, .default_format = "unknown",
    .volume_formats = volume_formats, .default_volume_format = "none", .volume_options = true, .check_def = check_def, .is_active = is_active, .build = build,
    .start = start, .refresh = refresh, .create_volume = create_volume, .delete_volume = delete_volume, .look_at = look_at,
};
