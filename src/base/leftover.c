/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/leftover.h"

#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sandbox.h"

struct leftover {
    int dir;
    char *name;
    struct stat made;
};

struct leftover *leftover_keep(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    struct leftover *l = g_new0(struct leftover, 1);
    l->name = g_path_get_basename(path);
    l->dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (l->dir >= 0 && !fstatat(l->dir, l->name, &l->made, AT_SYMLINK_NOFOLLOW)) {
        sandbox_need(SANDBOX_UNLINK);
        return l;
    }
    if (l->dir >= 0)
        close(l->dir);
    g_free(l->name);
    g_free(l);
    return NULL;
}

/* seccomp(main+unlink): newfstatat unlinkat */
void leftover_remove(struct leftover *l)
{
    struct stat now;
    if (!l)
        return;
    if (!fstatat(l->dir, l->name, &now, AT_SYMLINK_NOFOLLOW) && now.st_ino == l->made.st_ino && now.st_dev == l->made.st_dev)
        (void)!unlinkat(l->dir, l->name, 0);
    close(l->dir);
    g_free(l->name);
    g_free(l);
}
