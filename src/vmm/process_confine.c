/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Before guest code runs: another root directory, another user, and the sandbox. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sandbox.h"
#include "vmm/core/chardev.h"
#include "vmm/setup.h"

#define GROUPS_MAX 256

struct run_as {
    uid_t uid;
    gid_t gid;
    int ngroups;
    gid_t groups[GROUPS_MAX];
};

static bool parse_numbers(const char *text, struct run_as *r)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 2);
    guint64 uid, gid;
    if (!parts[0] || !parts[1] || !g_ascii_string_to_unsigned(parts[0], 10, 0, G_MAXUINT32 - 1, &uid, NULL) ||
        !g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXUINT32 - 1, &gid, NULL))
        return false;
    *r = (struct run_as){ (uid_t)uid, (gid_t)gid, 1, { (gid_t)gid } };
    return true;
}

static bool find_name(const char *name, struct run_as *r, GError **error)
{
    errno = 0;
    const struct passwd *p = getpwnam(name);
    if (!p && errno && errno != ENOENT)
        return vireo_fail_errno(error, errno, "-run-with user=%s: cannot look up the user", name);
    if (!p)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "-run-with user=%s: there is no such user; give NAME or UID:GID", name);
    r->uid = p->pw_uid;
    r->gid = p->pw_gid;
    r->ngroups = GROUPS_MAX;
    if (getgrouplist(name, r->gid, r->groups, &r->ngroups) < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "-run-with user=%s: the user is in more than %d groups", name, GROUPS_MAX);
    return true;
}

bool process_find_user(struct vm *vm, GError **error)
{
    const struct options *o = &vm->options;
    if (o->chroot && geteuid() != 0)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "-run-with chroot=%s: only root can change the root directory; start the program as root, or "
                          "leave it out", o->chroot);
    if (!o->run_as)
        return true;
    struct run_as r = { 0 };
    if (!parse_numbers(o->run_as, &r) && !find_name(o->run_as, &r, error))
        return false;
    if (r.uid == getuid() && r.uid == geteuid() && geteuid() != 0)
        return true;
    if (geteuid() != 0)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "-run-with user=%s: only root can become another user; start the program as root, or as that user",
                          o->run_as);
    vm->run_as = g_memdup2(&r, sizeof(r));
    return true;
}

bool process_confine(struct vm *vm, GError **error)
{
    const struct run_as *r = vm->run_as;
    const char *root = vm->options.chroot;
    if (root && (chroot(root) || chdir("/")))
        return vireo_fail_errno(error, errno, "-run-with chroot=%s: cannot change the root directory", root);
    /* The C library does this for all threads (nptl(7)). */
    if (r && (setgroups((size_t)r->ngroups, r->groups) || setresgid(r->gid, r->gid, r->gid) || setresuid(r->uid, r->uid, r->uid)))
        return vireo_fail_errno(error, errno, "-run-with user=%s: cannot become that user", vm->options.run_as);
    if (r && r->uid && !setuid(0))
        return vireo_fail(error, VIREO_ERROR_FAILED, "-run-with user=%s: the process could become root again", vm->options.run_as);
    return true;
}

bool process_close_sandbox(struct vm *vm, GError **error)
{
    if (!vm->options.sandbox)
        return true;
    g_log_set_writer_func(g_log_writer_standard_streams, NULL, NULL); /* the default one may look for a journal to connect to */
    sandbox_set_last_act(chardev_restore_terminal);
    return sandbox_close(error);
}
