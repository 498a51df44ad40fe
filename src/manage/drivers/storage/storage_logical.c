/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools that are an LVM volume group, by the programs of lvm2. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "storage.h"

static const char *group_of(const struct storage_pool *p) { return el_get(storage_pool_source(p), "name"); }

/* lvm's own rule for names, which also keeps them from being taken for options. */
static bool name_fits(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("+_.-", *c))
            return false;
    return *name && *name != '-' && strlen(name) < 128;
}

static bool check_def(struct doc *def, GError **error)
{
    struct el *root = doc_root(def);
    if (!el_get(root, "source/name"))
        el_set(root, "source/name", el_get(root, "name"));
    const char *group = el_get(root, "source/name");
    if (!name_fits(group))
        return manage_fail(error, VIR_ERR_XML_ERROR, "'%s' is no name of a volume group", group);
    el_setf(root, "target/path", "/dev/%s", group);
    el_each(d, el_find(root, "source"), "device")
        if (*el_get_or(d, "@path", "") != '/')
            return manage_fail(error, VIR_ERR_XML_ERROR, "the device '%s' of the pool is no path: begin it with '/'", el_get_or(d, "@path", ""));
    return true;
}

static bool is_active(struct storage_pool *p, bool *ret, GError **error)
{
    const char *argv[] = { "vgs", "--noheadings", group_of(p), NULL };
    int status;
    if (!storage_run_status(argv, NULL, &status, error))
        return false;
    *ret = status == 0;
    return true;
}

static bool activate(struct storage_pool *p, const char *how, GError **error)
{
    const char *argv[] = { "vgchange", how, group_of(p), NULL };
    return storage_run(argv, NULL, error);
}
static bool start(struct storage_pool *p, GError **error) { return activate(p, "-aly", error); }
static bool stop(struct storage_pool *p, GError **error) { return activate(p, "-aln", error); }

/* ---- the group ---- */

static void unmake(GPtrArray *made)
{
    for (unsigned i = 0; i < made->len; i++) {
        const char *argv[] = { "pvremove", "-f", "-y", made->pdata[i], NULL };
        g_autoptr(GError) e = NULL;
        if (!storage_run(argv, NULL, &e))
            log_warn("storage: %s", e->message);
    }
}

static bool make_physical(const char *device, bool overwrite, GError **error)
{
    const char *look[] = { "blkid", "-p", device, NULL }, *argv[] = { "pvcreate", overwrite ? "-ff" : "-q", "-y", device, NULL };
    int status;
    if (access(device, F_OK) < 0)
        return manage_fail_errno(error, errno, "cannot use the device '%s'", device);
    if (!overwrite && !storage_run_status(look, NULL, &status, error))
        return false;
    if (!overwrite && status != 2)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "device '%s' holds something already: overwrite must be asked for", device);
    return storage_run(argv, NULL, error);
}

static bool build(struct storage_pool *p, unsigned flags, GError **error)
{
    g_autoptr(GPtrArray) made = g_ptr_array_new(), argv = g_ptr_array_new();
    bool ok = true;
    g_ptr_array_add(argv, (char *)"vgcreate");
    g_ptr_array_add(argv, (char *)group_of(p));
    el_each(d, storage_pool_source(p), "device") {
        char *device = (char *)el_get(d, "@path");
        g_ptr_array_add(argv, device);
        ok = ok && make_physical(device, flags & VIR_STORAGE_POOL_BUILD_OVERWRITE, error);
        if (ok)
            g_ptr_array_add(made, device);
    }
    if (argv->len == 2)
        return manage_fail(error, VIR_ERR_XML_ERROR, "a volume group is made of devices: say <device path='...'/> in <source>");
    g_ptr_array_add(argv, NULL);
    ok = ok && storage_run((const char *const *)argv->pdata, NULL, error);
    if (!ok)
        unmake(made);
    return ok;
}

static bool delete(struct storage_pool *p, unsigned flags, GError **error)
{
    const char *argv[] = { "vgremove", "-f", group_of(p), NULL };
    if (flags)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "a volume group cannot be overwritten with zeroes: wipe its volumes one by one");
    if (!storage_run(argv, NULL, error))
        return false;
    g_autoptr(GPtrArray) made = g_ptr_array_new();
    el_each(d, storage_pool_source(p), "device")
        g_ptr_array_add(made, (char *)el_get(d, "@path"));
    unmake(made);
    return true;
}

static char *find_sources(struct storage *s, const struct el *spec, GError **error)
{
    const char *argv[] = { "pvs", "--noheadings", "--separator", "|", "-o", "vg_name,pv_name", NULL };
    g_autofree char *out = NULL;
    (void)s;
    (void)spec;
    if (!storage_run(argv, &out, error))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    g_autoptr(GHashTable) devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) part = g_strsplit(g_strstrip(lines[i]), "|", 2);
        if (g_strv_length(part) != 2 || !*part[0])
            continue;
        const char *before = g_hash_table_lookup(devices, part[0]);
        g_hash_table_replace(devices, g_strdup(part[0]), g_markup_printf_escaped("%s    <device path='%s'/>\n", "", part[1]));
        if (before)
            g_hash_table_replace(devices, g_strdup(part[0]), g_strconcat(before, g_hash_table_lookup(devices, part[0]), NULL));
    }
    GString *text = g_string_new("<sources>\n");
    GHashTableIter it;
    gpointer key, value;
    g_hash_table_iter_init(&it, devices);
    while (g_hash_table_iter_next(&it, &key, &value))
        g_string_append_printf(text, "  <source>\n%s    <name>%s</name>\n    <format type='lvm2'/>\n  </source>\n", (char *)value, (char *)key);
    g_string_append(text, "</sources>\n");
    return g_string_free(text, FALSE);
}

/* ---- looking ---- */

/* "/dev/sda1(12)" and the like, one for each stripe: where a segment lies. */
static void add_extents(struct storage_volume *v, const char *devices, uint64_t size, uint64_t extent)
{
    g_auto(GStrv) all = g_strsplit(devices, ",", -1);
    unsigned n = g_strv_length(all);
    for (unsigned i = 0; i < n; i++) {
        char *at = strrchr(all[i], '(');
        if (!at)
            continue;
        *at = 0;
        uint64_t first = g_ascii_strtoull(at + 1, NULL, 10) * extent;
        storage_volume_add_extent(v, all[i], first, first + size / n);
    }
}

enum { NAME, ORIGIN, UUID, SEGMENT_SIZE, ATTR, GROUP_EXTENT, DEVICES, NFIELDS };

static char *path_of(const struct storage_pool *p, const char *name) { return g_strdup_printf("/dev/%s/%s", group_of(p), name); }

/* What a snapshot, or a volume that grows as it is written ("[NAME_vorigin]" is its origin), has of the group is what its extents say. */
static void count_extents(struct storage_volume *v)
{
    uint64_t sum = 0;
    for (unsigned i = 0; v->extents && i < v->extents->len; i++) {
        const struct storage_extent *e = &g_array_index(v->extents, struct storage_extent, i);
        sum += e->end - e->start;
    }
    if (sum)
        v->target.allocation = sum;
}

/* One line of lvs, which is one segment of a volume, into a table of volumes that nobody has looked at yet. */
static void add_segment(const struct storage_pool *p, GHashTable *volumes, char **field)
{
    struct storage_volume *v = g_hash_table_lookup(volumes, field[NAME]);
    if (field[ATTR][0] == 't' || strlen(field[ATTR]) < 5 || field[ATTR][4] != 'a') /* pools of thin volumes, and what is not active */
        return;
    if (!v) {
        v = storage_volume_new(field[NAME]);
        g_autofree char *path = path_of(p, field[NAME]);
        v->key = g_strdup(field[UUID]);
        storage_volume_set_path(v, path);
        if (*field[ORIGIN] && *field[ORIGIN] != '[') {
            v->backing = g_new0(struct storage_target, 1);
            v->backing->path = path_of(p, field[ORIGIN]);
        }
        g_hash_table_insert(volumes, v->name, v);
    }
    add_extents(v, field[DEVICES], g_ascii_strtoull(field[SEGMENT_SIZE], NULL, 10), g_ascii_strtoull(field[GROUP_EXTENT], NULL, 10));
}

/* All volumes, or the one of this name ("GROUP/NAME"), by name; NULL with error. */
static GHashTable *list_volumes(const struct storage_pool *p, const char *what, GError **error)
{
    const char *lvs[] = { "lvs", "--noheadings", "--units", "b", "--nosuffix", "--separator", "|", "-o",
                          "lv_name,origin,uuid,seg_size,lv_attr,vg_extent_size,devices", what, NULL };
    g_autofree char *out = NULL;
    if (!storage_run(lvs, &out, error))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    GHashTable *volumes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)storage_volume_unref);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) field = g_strsplit(g_strstrip(lines[i]), "|", NFIELDS);
        if (g_strv_length(field) == NFIELDS)
            add_segment(p, volumes, field);
    }
    return volumes;
}

static bool read_sizes(const struct storage_pool *p, uint64_t *ret_size, uint64_t *ret_free, GError **error)
{
    const char *vgs[] = { "vgs", "--noheadings", "--units", "b", "--nosuffix", "--separator", "|", "-o", "vg_size,vg_free", group_of(p), NULL };
    g_autofree char *out = NULL;
    if (!storage_run(vgs, &out, error))
        return false;
    g_auto(GStrv) size = g_strsplit(g_strstrip(out), "|", 2);
    bool ok = g_strv_length(size) == 2;
    *ret_size = ok ? g_ascii_strtoull(size[0], NULL, 10) : 0;
    *ret_free = ok ? g_ascii_strtoull(size[1], NULL, 10) : 0;
    return true;
}

static void add_to_scan(gpointer name, gpointer volume, gpointer scan)
{
    if (!storage_device_look(volume, NULL))
        return;
    count_extents(volume);
    storage_scan_add(scan, storage_volume_ref(volume));
}

static bool refresh(struct storage_pool *p, struct storage_scan *ret, GError **error)
{
    if (!read_sizes(p, &ret->capacity, &ret->available, error))
        return false;
    ret->allocation = ret->capacity - MIN(ret->available, ret->capacity);
    g_autoptr(GHashTable) volumes = list_volumes(p, group_of(p), error);
    if (volumes)
        g_hash_table_foreach(volumes, add_to_scan, ret);
    return volumes != NULL;
}

static struct storage_volume *look_at(struct storage_pool *p, const struct storage_volume *v, GError **error)
{
    struct storage_volume *now = storage_device_look_at(p, v, error);
    if (now)
        count_extents(now);
    return now;
}

/* Key and extents of a volume, as they are now. */
static bool learn(const struct storage_pool *p, struct storage_volume *v, GError **error)
{
    g_autofree char *full = g_strdup_printf("%s/%s", group_of(p), v->name);
    g_autoptr(GHashTable) volumes = list_volumes(p, full, error);
    const struct storage_volume *now = volumes ? g_hash_table_lookup(volumes, v->name) : NULL;
    if (!volumes)
        return false;
    if (!now)
        return manage_fail(error, VIR_ERR_NO_STORAGE_VOL, "'%s' has gone", full);
    g_free(v->key);
    v->key = g_strdup(now->key);
    g_clear_pointer(&v->extents, g_array_unref);
    for (unsigned i = 0; now->extents && i < now->extents->len; i++) {
        const struct storage_extent *e = &g_array_index(now->extents, struct storage_extent, i);
        storage_volume_add_extent(v, e->device, e->start, e->end);
    }
    return true;
}

/* ---- volumes ---- */

static char *full_name(const struct storage_pool *p, const char *name) { return g_strdup_printf("%s/%s", group_of(p), name); }

static bool remove_volume(const struct storage_pool *p, const char *name, GError **error)
{
    g_autofree char *full = full_name(p, name);
    const char *argv[] = { "lvremove", "-f", full, NULL };
    return storage_run(argv, NULL, error);
}

/* A snapshot of the backing store; or, where less is to be allocated than there is, a volume that takes its space as it is written. */
static bool make_volume(const struct storage_pool *p, const struct storage_volume *v, GError **error)
{
    bool sparse = !v->backing && v->has_allocation && v->target.allocation < v->target.capacity;
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT "B", MAX(sparse ? v->target.allocation : v->target.capacity, 1));
    g_autofree char *all = g_strdup_printf("%" G_GUINT64_FORMAT "B", v->target.capacity);
    const char *argv[16] = { "lvcreate", "-y", "--name", v->name, "-L", size };
    unsigned n = 6;
    if (sparse) {
        argv[n++] = "--type";
        argv[n++] = "snapshot";
        argv[n++] = "--virtualsize";
        argv[n++] = all;
    }
    if (v->backing)
        argv[n++] = "-s";
    argv[n++] = v->backing ? v->backing->path : group_of(p);
    return storage_run(argv, NULL, error);
}

/* There may be volumes that a refresh does not see, because they are not active. */
static bool name_is_free(const struct storage_pool *p, const char *name, GError **error)
{
    g_autofree char *full = full_name(p, name);
    const char *argv[] = { "lvs", "--noheadings", full, NULL };
    int status;
    return storage_run_status(argv, NULL, &status, error) &&
        (status != 0 || manage_fail(error, VIR_ERR_STORAGE_VOL_EXIST, "the volume group has a volume '%s' already, which is not active or came after the last refresh", name));
}

static bool create_volume(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error)
{
    struct storage_pool *p = j->pool;
    g_autofree char *path = path_of(p, v->name);
    if (!name_fits(v->name))
        return manage_fail(error, VIR_ERR_XML_ERROR, "'%s' is no name of a logical volume", v->name);
    if (v->backing && *v->backing->path != '/')
        return manage_fail(error, VIR_ERR_XML_ERROR, "the backing store '%s' is no path", v->backing->path);
    if (flags)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "logical volumes are made without preallocation and reflink");
    g_clear_pointer(&v->key, g_free);
    storage_volume_set_path(v, path);
    if (!name_is_free(p, v->name, error))
        return false;
    if (make_volume(p, v, error) && storage_device_fill(j, v, from, error) && learn(p, v, error))
        return true;
    (void)remove_volume(p, v->name, NULL); /* lvcreate itself may leave what it cannot activate */
    return false;
}

/* The group's sizes are what lvm says: it rounds, and takes snapshots along. lock is not held. */
static void follow_sizes(struct storage_pool *p)
{
    uint64_t size, available;
    if (!read_sizes(p, &size, &available, NULL))
        return;
    g_mutex_lock(&p->lock);
    p->capacity = size;
    p->available = available;
    p->allocation = size - MIN(available, size);
    g_mutex_unlock(&p->lock);
}

static gboolean stands_on(gpointer name, gpointer volume, gpointer below)
{
    const struct storage_volume *v = volume, *b = below;
    return v->backing && !strcmp(v->backing->path, b->target.path);
}

/* lvremove would take the snapshots of a volume along without a word. */
static bool has_snapshot(struct storage_pool *p, struct storage_volume *v, GError **error)
{
    g_autoptr(GHashTable) volumes = list_volumes(p, group_of(p), error);
    const struct storage_volume *above = volumes ? g_hash_table_find(volumes, stands_on, v) : NULL;
    if (above)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "volume '%s' has the snapshot '%s', which would go with it: delete that first", v->name, above->name);
    return !volumes || above;
}

static bool delete_volume(struct storage_pool *p, struct storage_volume *v, unsigned flags, GError **error)
{
    if (flags)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "wipe the volume first, then delete it: deleting with zeroes is not there");
    return !has_snapshot(p, v, error) && remove_volume(p, v->name, error);
}

static bool resize_volume(struct storage_pool *p, struct storage_volume *v, uint64_t capacity, unsigned flags, GError **error)
{
    g_autofree char *full = full_name(p, v->name), *size = g_strdup_printf("%" G_GUINT64_FORMAT "B", capacity);
    const char *argv[] = { "lvresize", "-f", "-L", size, full, NULL };
    (void)flags;
    if (v->backing || (v->extents && v->target.allocation < v->target.capacity))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "'%s' is a snapshot, or takes its space as it is written: its size cannot be changed", v->name);
    if (!storage_run(argv, NULL, error))
        return false;
    storage_volume_auto *now = storage_device_look_at(p, v, NULL);
    if (now && learn(p, now, NULL)) {
        count_extents(now);
        storage_volume_replace(p, storage_volume_ref(now));
    }
    follow_sizes(p);
    return true;
}

static const char *const formats[] = { "unknown", "lvm2", NULL };
static const struct storage_tool tools[] = { { "vgchange", "lvm2" }, { "lvcreate", "lvm2" }, { "lvs", "lvm2" }, { NULL, NULL } };

const struct storage_backend storage_logical = {
    .type = "logical", .number = 3, .needs = STORAGE_NAME, .tools = tools, .formats = formats, .default_format = "lvm2", .check_def = check_def,
    .find_sources = find_sources, .is_active = is_active, .build = build, .start = start, .stop = stop, .delete = delete, .refresh = refresh,
    .create_volume = create_volume, .delete_volume = delete_volume, .resize_volume = resize_volume, .look_at = look_at,
};
