/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Managed saves: LIB/qemu/save/NAME.save, which the next start of the domain goes on from and uses up. The file goes when the machine has all of its state and before the
 * guest runs: a guest that has gone on must never be started from an old state. In between the status file says what is to be done (SAVING_USED).
 */
#include "manage/drivers/domain/save/domain_save.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

char *domain_managed_path(struct domain *d)
{
    g_mutex_lock(&d->lock);
    char *path = g_strdup_printf("%s/save/%s.save", d->driver->lib_dir, d->name);
    g_mutex_unlock(&d->lock);
    return path;
}

static void set_saved(struct domain *d, bool saved)
{
    g_mutex_lock(&d->lock);
    d->saved = saved;
    g_mutex_unlock(&d->lock);
}

static bool is_saved(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool saved = d->saved;
    g_mutex_unlock(&d->lock);
    return saved;
}

void domain_managed_load(struct domain_driver *dr)
{
    g_autofree char *where = g_build_filename(dr->lib_dir, "save", NULL);
    g_autoptr(GDir) dir = g_dir_open(where, 0, NULL);
    const char *file;
    while (dir && (file = g_dir_read_name(dir))) {
        if (!g_str_has_suffix(file, ".save"))
            continue;
        g_autofree char *name = g_strndup(file, strlen(file) - 5);
        domain_auto *d = domain_find_name(dr, name);
        if (d) /* also one that is incomplete: whoever starts it looks; and of a running one, which found it in its note */
            set_saved(d, true);
    }
}

bool domain_managed_remove(struct domain *d, GError **error)
{
    g_autofree char *path = domain_managed_path(d);
    if (!manage_remove_file(path, error))
        return false;
    set_saved(d, false);
    return true;
}

/* ---- a start ---- */

struct use {
    const char *path;
    bool run;
};

/* Its state is in the machine: what is on the disk is the past. */
static bool used(struct domain *d, void *opaque, GError **error)
{
    const struct use *u = opaque;
    g_mutex_lock(&d->lock);
    d->reason = VIR_DOMAIN_PAUSED_USER; /* not starting up any more: a daemon that finds it does not end it */
    g_mutex_unlock(&d->lock);
    if (!domain_saving_note(d, SAVING_USED, u->path, u->run, true, error) || !manage_remove_file(u->path, error))
        return false;
    set_saved(d, false);
    return true;
}

static bool restore(struct domain *d, const struct save_image *i, struct manage_call *c, uint32_t flags, GError **error)
{
    struct doc *doc = domain_image_document(d->driver, i, NULL, error);
    char own[37];
    manage_uuid_format(d->uuid, own);
    if (doc && (!el_is(doc_root(doc), "uuid", own) || !el_is(doc_root(doc), "name", d->name))) {
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "'%s' is the state of another domain ('%s')", i->path, el_get_or(doc_root(doc), "name", ""));
        g_clear_pointer(&doc, doc_free);
    }
    if (!doc)
        return false;
    struct use u = { i->path, !(flags & VIR_DOMAIN_START_PAUSED) && i->ran };
    bool ok = domain_restore_image(d, i, doc, c, flags | (u.run ? 0 : VIR_DOMAIN_START_PAUSED), used, &u, error);
    if (ok)
        domain_saving_drop(d);
    return ok;
}

bool domain_start_or_restore(struct domain *d, struct manage_call *c, uint32_t flags, GError **error)
{
    g_autofree char *path = domain_managed_path(d);
    bool partial = false;
    if (!is_saved(d))
        return domain_start(d, c, flags, error);
    if (flags & VIR_DOMAIN_START_FORCE_BOOT)
        return domain_managed_remove(d, error) && domain_start(d, c, flags, error);
    partial = save_image_kind(path) == SAVE_PARTIAL;
    if (partial || (access(path, F_OK) < 0 && errno == ENOENT)) {
        g_warning("domain '%s': its saved state '%s' was never written to its end, or has gone: the domain boots", d->name, path);
        return domain_managed_remove(d, error) && domain_start(d, c, flags, error);
    }
    save_image_auto *i = save_image_read(path, NULL, error);
    return i && restore(d, i, c, flags, error);
}

/* ---- calls ---- */

static uint32_t flags_of(struct manage_call *c, unsigned i)
{
    uint32_t flags;
    g_variant_get_child(c->args, i, "u", &flags);
    return flags;
}

static bool save(struct domain *d, uint32_t flags, GError **error)
{
    g_autofree char *path = domain_managed_path(d), *dir = g_path_get_dirname(path);
    struct save_request r = { .path = path, .flags = flags, .managed = true };
    if (!d->persistent)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot do managed save for transient domain");
    if (g_mkdir_with_parents(dir, 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dir);
    return domain_save_to(d, &r, error);
}

static GVariant *managed_save(struct manage_call *c, GError **error)
{
    const uint32_t both = VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
    uint32_t flags = flags_of(c, 1);
    if (!manage_check_flags(flags, both | VIR_DOMAIN_SAVE_BYPASS_CACHE, error))
        return NULL;
    if ((flags & both) == both)
        return manage_null(error, VIR_ERR_INVALID_ARG, "running and paused flags are mutually exclusive");
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "managed save", true, error))
        return NULL;
    bool ok = save(d, flags, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

static GVariant *has(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_of(c, 1), 0, error) ? domain_of_call(c, 0, error) : NULL;
    return d ? manage_reply_i32(c, 1, is_saved(d)) : NULL;
}

static GVariant *remove_call(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(flags_of(c, 1), 0, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "remove the managed save", false, error))
        return NULL;
    bool ok = domain_managed_remove(d, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

/* The path of a managed save that is there. */
static char *path_of(struct domain *d, GError **error)
{
    return is_saved(d) ? domain_managed_path(d) : manage_null(error, VIR_ERR_OPERATION_INVALID, "domain does not have managed save image");
}

static GVariant *get_xml(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    g_autofree char *path = d ? path_of(d, error) : NULL, *text = path ? domain_image_text(d->driver, path, flags_of(c, 1), error) : NULL;
    return text ? g_variant_new("(s)", text) : NULL;
}

static GVariant *define(struct manage_call *c, GError **error)
{
    const char *xml = NULL;
    g_variant_get_child(c->args, 1, "m&s", &xml);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "change the managed save", false, error))
        return NULL;
    g_autofree char *path = path_of(d, error);
    bool ok = path && domain_image_redefine(d->driver, path, xml, flags_of(c, 2), error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_managed_save[] = {
    { RPC_DOMAIN_MANAGED_SAVE, managed_save },
    { RPC_DOMAIN_HAS_MANAGED_SAVE_IMAGE, has },
    { RPC_DOMAIN_MANAGED_SAVE_REMOVE, remove_call },
    { RPC_DOMAIN_MANAGED_SAVE_GET_XML_DESC, get_xml },
    { RPC_DOMAIN_MANAGED_SAVE_DEFINE_XML, define },
    { 0, NULL },
};
