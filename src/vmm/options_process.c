/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options about the process: what it may do, who it is, what it was given. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/core/machine.h"
#include "vmm/options.h"

/* ---- -sandbox ---- */

/* What QEMU's sub-options could allow is not on any thread's list, since nothing here does it: allowing it changes nothing. */
static const char *const allow_deny[] = { "allow", "deny", NULL };
static const char *const allow_deny_children[] = { "allow", "deny", "children", NULL };
static const char *const files_values[] = { [FILES_AUTO] = "auto", [FILES_ON] = "on", [FILES_OFF] = "off", NULL };
static const struct keyval_key sandbox_keys[] = {
    { "enable", KV_BOOL, offsetof(struct options, sandbox), "on or off" },
    { "obsolete", KV_ONLY, 0, "it takes allow or deny", allow_deny },
    { "elevateprivileges", KV_ONLY, 0, "it takes allow, deny or children", allow_deny_children },
    { "spawn", KV_ONLY, 0, "it takes allow or deny", allow_deny },
    { "files", KV_ENUM, offsetof(struct options, sandbox_files), "may QMP open images of the host by name: auto (unless all disks were given as descriptors), on or off",
      files_values },
    { "resourcecontrol", KV_ONLY, 0, "it takes allow or deny", allow_deny },
    { NULL }
};

bool opt_sandbox(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    keyval_auto *kv = keyval_parse(arg, "enable", error);
    return kv && keyval_load(kv, sandbox_keys, o, error) && (!o->sandbox || sandbox_possible(error));
}

/* ---- -run-with, -runas, -chroot ---- */

static const char *const off_values[] = { "off", NULL };
static const struct keyval_key run_with_keys[] = {
    { "user", KV_STRING, offsetof(struct options, run_as), "user of the process once all is open: NAME or UID:GID" },
    { "chroot", KV_STRING, offsetof(struct options, chroot), "root directory of the process once all is open" },
    { "async-teardown", KV_ONLY, 0, "memory is given back before the process ends", off_values },
    { "exit-with-parent", KV_ONLY, 0, "it is not there yet", off_values },
    { NULL }
};

bool opt_run_with(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(row->name, "run-with")) {
        keyval_auto *kv = keyval_parse(arg, NULL, error);
        return kv && keyval_load(kv, run_with_keys, o, error);
    }
    char **field = !strcmp(row->name, "runas") ? &o->run_as : &o->chroot;
    g_free(*field);
    *field = g_strdup(arg);
    return true;
}

/* ---- -add-fd ---- */

struct add_fd_opts { uint64_t fd, set; char *opaque; };
#define NOT_GIVEN UINT64_MAX
static const struct keyval_key add_fd_keys[] = {
    { "fd", KV_UINT, offsetof(struct add_fd_opts, fd), "number of the inherited descriptor", NULL, 0, G_MAXINT },
    { "set", KV_UINT, offsetof(struct add_fd_opts, set), "number of the set", NULL, 0, G_MAXINT },
    { "opaque", KV_STRING, offsetof(struct add_fd_opts, opaque), "text that QMP query-fdsets shows" },
    { NULL }
};

static bool add_fd(const struct add_fd_opts *v, GError **error)
{
    if (v->fd == NOT_GIVEN || v->set == NOT_GIVEN)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing", v->fd == NOT_GIVEN ? "fd" : "set");
    if (v->fd <= 2)
        return vireo_fail(error, VIREO_ERROR_INVALID, "fd=%d is one of the standard streams; pass another number, at least 3", (int)v->fd);
    return fdset_add((int64_t)v->set, (int)v->fd, v->opaque, error) >= 0;
}

/* What the address means is found out when it is opened. */
bool opt_incoming(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    static const char *const forms[] = { "fd:", "unix:", "tcp:", "exec:" };
    bool known = !strcmp(arg, "defer");
    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++)
        known |= g_str_has_prefix(arg, forms[i]) && arg[strlen(forms[i])];
    if (!known)
        return vireo_fail(error, VIREO_ERROR_INVALID, "unknown migration protocol: '%s'", arg);
    /* Now, while nothing of this process's own has that number. */
    if (g_str_has_prefix(arg, "fd:") && g_ascii_isdigit(arg[3]) && fcntl(atoi(arg + 3), F_GETFD) < 0)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "descriptor %s is not open; who starts this program must leave it open", arg + 3);
    g_free(o->incoming);
    o->incoming = g_strdup(arg);
    o->config->incoming = true;
    return true;
}

bool opt_add_fd(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct add_fd_opts v = { NOT_GIVEN, NOT_GIVEN, NULL };
    keyval_auto *kv = keyval_parse(arg, NULL, error);
    bool ok = kv && keyval_load(kv, add_fd_keys, &v, error) && add_fd(&v, error);
    g_free(v.opaque);
    return ok;
}
