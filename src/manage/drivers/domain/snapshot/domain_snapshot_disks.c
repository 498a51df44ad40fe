/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The disks of a snapshot: which, how, and all at one moment. */
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/node.h"
#include "manage/drivers/domain/snapshot/domain_checkpoint.h"
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"
#include "manage/drivers/domain/stats/domain_stats.h"

/* ---- which, and how ---- */

static const char *target_of(const struct el *disk) { return el_get_or(disk, "target/@dev", "?"); }

static bool is_empty(const struct el *disk) { return !el_find(disk, "source") || (!domain_chain_path(disk) && !el_is(disk, "@type", "network") && !el_is(disk, "@type", "volume")); }

/* What becomes of a disk that the caller does not name. */
static const char *by_default(const struct snapshot *s, const struct el *disk)
{
    const char *own = el_get(disk, "@snapshot");
    if (own)
        return own;
    if (is_empty(disk) || el_find(disk, "readonly"))
        return "no";
    if (s->memory)
        return s->memory == SNAPSHOT_MEMORY_INTERNAL ? "internal" : "external";
    return s->live || (s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY) ? "external" : "internal";
}

static struct el *spec_of(struct el *disks, const struct el *disk)
{
    const char *path = domain_chain_path(disk);
    el_each(spec, disks, "disk")
        if (el_is(spec, "@name", target_of(disk)) || (path && el_is(spec, "@name", path)))
            return spec;
    return NULL;
}

/* The overlay's name where none is given: the image's, with the snapshot's name in the place of what follows the last dot. */
static char *generate(const struct el *disk, const char *snapshot, GError **error)
{
    const char *path = domain_chain_path(disk);
    if (!path || !el_is(disk, "@type", "file"))
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "cannot generate external snapshot name for disk '%s' on a '%s' device: name its file", target_of(disk),
                           el_get_or(disk, "@type", "file"));
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    int keep = (int)(dot && (!slash || dot > slash) ? dot - path : (gssize)strlen(path));
    return g_strdup_printf("%.*s.%s", keep, path, snapshot);
}

static bool align_external(struct snapshot *s, struct snapshot_disk *k, GError **error)
{
    const char *name = el_get_or(doc_root(s->doc), "name", ""), *path = domain_chain_path(k->spec);
    g_autofree char *made = path ? NULL : generate(k->disk, name, error);
    if (!path && !made)
        return false;
    if (el_is(k->spec, "@type", "network"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the snapshot of disk '%s' cannot be on the network: file and block are there", target_of(k->disk));
    if (!el_get(k->spec, "@type"))
        el_set(k->spec, "@type", "file");
    if (made)
        el_set(k->spec, "source/@file", made);
    if (!el_get(k->spec, "driver/@type"))
        el_set(k->spec, "driver/@type", "qcow2");
    k->format = g_strdup(el_get(k->spec, "driver/@type"));
    k->path = g_strdup(domain_chain_path(k->spec));
    if (!g_str_equal(k->format, "qcow2") && !g_str_equal(k->format, "qed"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "external snapshot format for disk %s is unsupported: %s", target_of(k->disk), k->format);
    if (*k->path != '/')
        return manage_fail(error, VIR_ERR_XML_ERROR, "disk snapshot image path '%s' must be absolute", k->path);
    return true;
}

static bool align_internal(struct snapshot *s, struct snapshot_disk *k, GError **error)
{
    if (s->live && s->memory != SNAPSHOT_MEMORY_INTERNAL)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "active qemu domains require external disk snapshots; disk %s requested internal", target_of(k->disk));
    const char *format = el_get_or(k->disk, "driver/@type", "raw");
    k->path = domain_image_path(s->d->driver, k->disk, error);
    if (!k->path)
        return error && *error ? false : manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "internal snapshot for disk %s unsupported: it has no local image",
                                                     target_of(k->disk));
    if (!g_str_equal(format, "qcow2"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "internal snapshot for disk %s unsupported for storage type %s", target_of(k->disk), format);
    k->format = g_strdup(format);
    return true;
}

static bool align_one(struct snapshot *s, struct el *disk, struct el *spec, GError **error)
{
    struct snapshot_disk k = { .spec = spec, .disk = disk };
    if (!el_get(spec, "@snapshot"))
        el_set(spec, "@snapshot", domain_chain_path(spec) ? "external" : by_default(s, disk));
    const char *how = el_get(spec, "@snapshot");
    el_set(spec, "@name", target_of(disk));
    if (g_str_equal(how, "manual") && s->live)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "a manual snapshot of disk '%s' needs a paused machine and is not there", target_of(disk));
    if (g_str_equal(how, "no") || g_str_equal(how, "manual"))
        return true;
    if (is_empty(disk))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' has no medium: there is nothing to take", target_of(disk));
    k.external = g_str_equal(how, "external");
    bool ok = k.external ? align_external(s, &k, error) : align_internal(s, &k, error);
    g_array_append_val(s->disks, k);
    return ok;
}

static bool check_names(struct snapshot *s, struct el *devices, struct el *disks, GError **error)
{
    el_each(spec, disks, "disk") {
        const char *name = el_get_or(spec, "@name", "");
        struct el *found = NULL;
        el_each(disk, devices, "disk") {
            const char *path = domain_chain_path(disk);
            if (g_str_equal(target_of(disk), name) || (path && g_str_equal(path, name)))
                found = disk;
        }
        if (!found)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "no disk named '%s'", name);
        if (spec_of(disks, found) != spec)
            return manage_fail(error, VIR_ERR_XML_ERROR, "disk '%s' specified twice", target_of(found));
    }
    return true;
}

static bool check_mixture(struct snapshot *s, GError **error)
{
    unsigned external = 0;
    for (unsigned i = 0; i < s->disks->len; i++) {
        const struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        external += k->external;
        for (unsigned j = 0; j < i && k->external; j++)
            if (!g_strcmp0(g_array_index(s->disks, struct snapshot_disk, j).path, k->path))
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "two disks cannot have their snapshot in the same file '%s'", k->path);
    }
    if (external && s->memory == SNAPSHOT_MEMORY_INTERNAL)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "mixing internal and external targets for a snapshot is not yet supported: the memory goes into the disks' images, unless a file is named for it");
    if (!s->disks->len && s->memory != SNAPSHOT_MEMORY_EXTERNAL)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "nothing selected for snapshot");
    if (external && external < s->disks->len)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "mixing internal and external targets for a snapshot is not yet supported");
    if (!external && (s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "reuse is not supported with this snapshot type");
    return true;
}

bool domain_snapshot_align(struct snapshot *s, GError **error)
{
    struct el *root = doc_root(s->doc), *devices = el_find(doc_root(s->domain), "devices"), *old = el_find(root, "disks");
    if (old && !check_names(s, devices, old, error))
        return false;
    struct el *disks = el_add(root, "disks"); /* in the order of the domain's disks */
    el_each(disk, devices, "disk") {
        struct el *said = old ? spec_of(old, disk) : NULL, *spec = said ? el_copy(disks, said) : el_add(disks, "disk");
        if (!align_one(s, disk, spec, error))
            return false;
    }
    if (old)
        el_remove(old);
    return check_mixture(s, error);
}

/* ---- overlays ---- */

static bool image_size(struct snapshot *s, const struct snapshot_disk *k, uint64_t *ret, GError **error)
{
    g_autofree char *node = s->live ? domain_chain_node(k->disk) : NULL;
    if (node)
        return domain_node_size(s->d, node, ret, error);
    struct disk_sizes sizes;
    if (!domain_disk_sizes(s->d, k->disk, NULL, &sizes, error))
        return false;
    *ret = sizes.capacity;
    return true;
}

/* On the disk before a definition names it: a crash of the host leaves no definition of a file that is not there. */
static bool sync_overlay(const struct snapshot_disk *k, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(k->path);
    const char *const paths[] = { k->path, dir };
    for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++) {
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        bool ok = fd >= 0 && fsync(fd) == 0;
        int err = errno;
        if (fd >= 0)
            close(fd);
        if (!ok)
            return manage_fail_errno(error, err, "cannot write the overlay '%s' of disk '%s' to its disk", k->path, target_of(k->disk));
    }
    return true;
}

static bool make_overlay(struct snapshot *s, struct snapshot_disk *k, GError **error)
{
    struct stat st;
    uint64_t size;
    g_autofree char *below = domain_image_path(s->d->driver, k->disk, error);
    g_autofree char *user = domain_disk_user(s->d->driver->state, k->path);
    if (!below)
        return error && *error ? false : manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "external snapshots of disk '%s' need a local image", target_of(k->disk));
    bool there = stat(k->path, &st) == 0;
    if (s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT) {
        if (user)
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' is in use by the running domain '%s'", k->path, user);
        return there || manage_fail(error, VIR_ERR_OPERATION_FAILED, "missing existing file for disk %s: %s", target_of(k->disk), k->path);
    }
    if (there && !S_ISBLK(st.st_mode) && (!S_ISREG(st.st_mode) || st.st_size))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "external snapshot file for disk %s already exists and is not a block device: %s", target_of(k->disk), k->path);
    return image_size(s, k, &size, error) &&
           domain_image_make(k->path, k->format, size, below, el_get_or(k->disk, "driver/@type", "raw"), target_of(k->disk), &k->made, error) &&
           (!s->d->persistent || sync_overlay(k, error));
}

static void remove_overlays(struct snapshot *s)
{
    for (unsigned i = 0; i < s->disks->len; i++) {
        struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        if (k->made)
            unlink(k->path);
        k->made = false;
    }
}

static bool make_overlays(struct snapshot *s, GError **error)
{
    for (unsigned i = 0; i < s->disks->len; i++)
        if (!make_overlay(s, &g_array_index(s->disks, struct snapshot_disk, i), error)) {
            remove_overlays(s);
            return false;
        }
    return true;
}

/* ---- live ---- */

static bool transaction(struct snapshot *s, GError **error)
{
    struct json_object *nodes = domain_bitmap_nodes(s->d, error), *actions = nodes ? json_object_new_array() : NULL;
    for (unsigned i = 0; nodes && i < s->disks->len; i++) {
        const struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        g_autofree char *node = domain_chain_node(k->disk), *overlay = g_strdup_printf("libvirt-%u-format", k->index);
        struct json_object *data = json_object_new_object();
        js_set(data, "node", node);
        js_set(data, "overlay", overlay);
        domain_action(actions, "blockdev-snapshot", data);
        domain_bitmap_carry_on(actions, nodes, node, overlay); /* checkpoints go on */
    }
    json_object_put(nodes);
    if (actions && !s->disks->len) {
        json_object_put(actions);
        return true;
    }
    return actions && domain_transaction(s->d, actions, error);
}

/* What fails here is undone by domain_snapshot_conclude(), as it is after a kill: from the record. */
static bool take_live(struct snapshot *s, GError **error)
{
    struct domain_build b;
    bool ok = make_overlays(s, error);
    domain_build_init(&b, s->d, s->d->driver, s->domain);
    for (unsigned i = 0; ok && i < s->disks->len; i++) {
        struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        struct el *overlay = el_find(k->disk, "mirror");
        ok = domain_chain_complete_image(&b, overlay, true, false, target_of(k->disk), error) && domain_plan_image(&b, k->disk, overlay, true, error);
    }
    ok = ok && domain_plan_send(b.plan, s->d, error) && domain_snapshot_ready(s->d, error) && transaction(s, error);
    if (ok)
        domain_snapshot_follow(s->d);
    domain_build_finish(&b);
    return ok;
}

/* ---- of a shut-off domain ---- */

static bool take_offline_external(struct snapshot *s, GError **error)
{
    if (!make_overlays(s, error))
        return false;
    doc_auto *defined = domain_definition(s->d, error);
    for (unsigned i = 0; defined && i < s->disks->len; i++) {
        struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        struct el *disk = domain_find_disk(defined, target_of(k->disk)), *overlay = domain_snapshot_overlay(k);
        bool chain = disk && el_find(disk, "backingStore");
        if (disk && chain)
            domain_snapshot_put_on_top(disk, overlay);
        else if (disk)
            domain_chain_take(disk, overlay, false);
    }
    if (defined && domain_set_definition(s->d, defined, error)) {
        defined = NULL;
        return true;
    }
    remove_overlays(s);
    return false;
}

bool domain_snapshot_inside(const char *path, const char *target, enum snapshot_action what, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    struct block_graph *g = block_graph_create();
    struct block_node *n = block_open_filename(g, path, "qcow2", NULL, BLOCK_RDWR | BLOCK_NO_BACKING, &why);
    bool ok = n != NULL;
    if (n) {
        gint64 now = g_get_real_time();
        const struct block_snapshot s = { .name = (char *)name, .date_sec = (uint64_t)now / G_USEC_PER_SEC, .date_nsec = (uint64_t)now % G_USEC_PER_SEC * 1000, .icount = UINT64_MAX,
                                          .disk_size = block_node_size(n) };
        block_quiesce(g);
        ok = what == SNAPSHOT_CREATE ? block_snapshot_create(n, &s, &why) : what == SNAPSHOT_APPLY ? block_snapshot_apply(n, name, &why) : block_snapshot_delete(n, name, &why);
        int err = ok ? block_flush(n) : 0;
        block_resume(g);
        if (err)
            ok = manage_fail_errno(&why, err, "cannot write it");
    }
    block_node_unref(n);
    block_graph_destroy(g);
    return ok || manage_fail(error, VIR_ERR_OPERATION_FAILED, "snapshot '%s' in the image '%s' of disk '%s': %s", name, path, target, why ? why->message : "it cannot be changed");
}

static bool take_offline_internal(struct snapshot *s, GError **error)
{
    const char *name = el_get_or(doc_root(s->doc), "name", "");
    for (unsigned i = 0; i < s->disks->len; i++) {
        const struct snapshot_disk *k = &g_array_index(s->disks, struct snapshot_disk, i);
        if (domain_snapshot_inside(k->path, target_of(k->disk), SNAPSHOT_CREATE, name, error))
            continue;
        while (i-- > 0)
            (void)!domain_snapshot_inside(g_array_index(s->disks, struct snapshot_disk, i).path, "", SNAPSHOT_DELETE, name, NULL);
        return false;
    }
    return true;
}

bool domain_snapshot_take(struct snapshot *s, GError **error)
{
    const struct snapshot_disk *first = &g_array_index(s->disks, struct snapshot_disk, 0);
    return s->live ? take_live(s, error) : first->external ? take_offline_external(s, error) : take_offline_internal(s, error);
}
