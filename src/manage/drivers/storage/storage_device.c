/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What pools of block devices have in common. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage.h"

bool storage_device_wait(const char *path, GError **error)
{
    for (unsigned i = 0; i < 100; i++) {
        if (access(path, F_OK) == 0)
            return true;
        g_usleep(50000);
    }
    return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the device '%s' does not appear", path);
}

void storage_device_settle(void)
{
    static const char *const argv[] = { "udevadm", "settle", "--timeout=10", NULL };
    int status;
    (void)!storage_run_status(argv, NULL, &status, NULL);
}

char *storage_device_stable(const char *directory, const char *device)
{
    g_autoptr(GDir) dir = directory && strcmp(directory, "/dev") && g_str_has_prefix(directory, "/dev/") ? g_dir_open(directory, 0, NULL) : NULL;
    const char *name;
    char *best = NULL;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL), *real = realpath(path, NULL);
        if (real && !strcmp(real, device) && (!best || strcmp(path, best) < 0)) { /* of several always the same, in whatever order they come */
            g_free(best);
            best = g_steal_pointer(&path);
        }
    }
    return best ? best : g_strdup(device);
}

bool storage_device_look(struct storage_volume *v, GError **error)
{
    struct storage_target *deeper = NULL;
    g_autofree char *format = g_steal_pointer(&v->target.format);
    GError *e = NULL;
    int type;
    bool ok = storage_probe(&v->target, &type, &deeper, &e) == STORAGE_PROBE_OK && type == VIR_STORAGE_VOL_FILE;
    if (deeper)
        storage_target_clear(deeper);
    g_free(deeper);
    if (!ok)
        manage_fail(error, VIR_ERR_NO_STORAGE_VOL, "the device '%s' has gone%s%s", v->target.path, e ? ": " : "", e ? e->message : "");
    g_clear_error(&e);
    v->type = VIR_STORAGE_VOL_BLOCK;
    g_free(v->target.format);
    v->target.format = g_steal_pointer(&format);
    g_clear_pointer(&v->target.encryption, g_free); /* what a guest wrote onto it says nothing about the pool */
    g_clear_pointer(&v->target.compat, g_free);
    v->target.has_features = v->target.lazy_refcounts = v->target.extended_l2 = false;
    v->target.cluster = 0;
    v->target.capacity = v->target.allocation = v->target.physical;
    return ok;
}

bool storage_device_owner(const struct storage_volume *v, GError **error)
{
    const struct storage_target *t = &v->target;
    if ((t->uid >= 0 || t->gid >= 0) && chown(t->path, t->uid >= 0 ? (uid_t)t->uid : (uid_t)-1, t->gid >= 0 ? (gid_t)t->gid : (gid_t)-1) < 0)
        return manage_fail_errno(error, errno, "cannot set the owner of '%s'", t->path);
    if (t->mode >= 0 && chmod(t->path, (mode_t)t->mode & 07777) < 0)
        return manage_fail_errno(error, errno, "cannot set the mode of '%s'", t->path);
    return true;
}

bool storage_device_fill(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, GError **error)
{
    if (v->target.encryption)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "volumes of a pool of type '%s' cannot be encrypted by the pool yet", j->pool->backend->type);
    if (!storage_device_wait(v->target.path, error) || !storage_device_owner(v, error))
        return false;
    if (!from)
        return true;
    g_autofree char *format = g_steal_pointer(&v->target.format); /* a partition's, which says nothing of the content */
    bool ok = storage_image_fill(j, v, from, error);
    v->target.format = g_steal_pointer(&format);
    return ok;
}

struct storage_volume *storage_device_look_at(struct storage_pool *p, const struct storage_volume *v, GError **error)
{
    struct storage_volume *new = storage_volume_new(v->name);
    (void)p;
    new->key = g_strdup(v->key);
    storage_volume_set_path(new, v->target.path);
    new->target.format = g_strdup(v->target.format);
    new->partition = g_strdup(v->partition);
    for (unsigned i = 0; v->extents && i < v->extents->len; i++) {
        const struct storage_extent *e = &g_array_index(v->extents, struct storage_extent, i);
        storage_volume_add_extent(new, e->device, e->start, e->end);
    }
    if (v->backing) {
        new->backing = g_new0(struct storage_target, 1);
        new->backing->path = g_strdup(v->backing->path);
    }
    if (storage_device_look(new, error))
        return new;
    storage_volume_unref(new);
    return NULL;
}
