/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who uses a file: the storage driver asks before it deletes, wipes or overwrites a volume. */
#include <string.h>
#include <sys/stat.h>

#include "manage/drivers/domain/domain.h"
#include "manage/drivers/domain/command/domain_plan.h"

/* Paths of a disk and of what stands behind it, where the document says so; of a volume its pool says it. */
static void add_paths(struct domain_driver *dr, GPtrArray *to, const struct el *disk)
{
    char *volume = el_is(disk, "@type", "volume") ? domain_image_path(dr, disk, NULL) : NULL;
    if (volume)
        g_ptr_array_add(to, volume);
    for (const struct el *e = disk; e; e = el_find(e, "backingStore")) {
        const char *file = el_get(e, "source/@file"), *device = el_get(e, "source/@dev");
        if (file || device)
            g_ptr_array_add(to, g_strdup(file ? file : device));
    }
    if (el_find(disk, "mirror"))
        add_paths(dr, to, el_find(disk, "mirror"));
}

/* What a running domain has open; empty when it does not run. A disk that guests share or only read may go on being read by others, not be changed. */
static GPtrArray *paths_of(struct domain_driver *dr, struct domain *d)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&d->lock);
    if (d->id >= 0 && d->live)
        el_each (disk, el_find(doc_root(d->live), "devices"), "disk")
            add_paths(dr, paths, disk);
    g_mutex_unlock(&d->lock);
    return paths;
}

/* The same name, or another name of the same file. */
static bool is_file(const char *path, const char *wanted, const struct stat *st)
{
    struct stat own;
    return !strcmp(path, wanted) || (st && stat(path, &own) == 0 && own.st_dev == st->st_dev && own.st_ino == st->st_ino);
}

char *domain_disk_user(struct manage_state *state, const char *path)
{
    struct domain_driver *dr = manage_data(state, "domain");
    g_autoptr(GPtrArray) all = dr ? domain_all(dr) : g_ptr_array_new();
    struct stat st;
    bool known = stat(path, &st) == 0;
    for (unsigned i = 0; i < all->len; i++) {
        g_autoptr(GPtrArray) paths = paths_of(dr, all->pdata[i]);
        for (unsigned k = 0; k < paths->len; k++) {
            if (is_file(paths->pdata[k], path, known ? &st : NULL)) {
                struct domain *d = all->pdata[i];
                g_mutex_lock(&d->lock);
                char *name = g_strdup(d->name);
                g_mutex_unlock(&d->lock);
                return name;
            }
        }
    }
    return NULL;
}
