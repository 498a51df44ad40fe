/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions come, change and go: define, undefine, create, rename, autostart. */
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/complete/domain_complete.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"
#include "manage/drivers/domain/save/domain_save.h"

enum {
    UNDEFINE_FLAGS = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM |
                     VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_TPM | VIR_DOMAIN_UNDEFINE_KEEP_TPM,
    CREATE_FLAGS = VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY | VIR_DOMAIN_START_BYPASS_CACHE | VIR_DOMAIN_START_FORCE_BOOT | VIR_DOMAIN_START_VALIDATE |
                   VIR_DOMAIN_START_RESET_NVRAM,
    NAME_MAX_BYTES = 240,
};

static struct domain_driver *driver_of(struct manage_call *c) { return manage_data(c->conn->state, "domain"); }

/* The name becomes file names. */
static bool check_name(const char *name, GError **error)
{
    if (!*name)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the domain's name is empty");
    if (strpbrk(name, "/\n"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "name '%s' cannot contain '/' or a line break", name);
    if (!strcmp(name, ".") || !strcmp(name, "..") || name[0] == '.' || g_ascii_isspace(*name))
        return manage_fail(error, VIR_ERR_XML_ERROR, "name '%s' cannot begin with a dot or a blank", name);
    if (strlen(name) > NAME_MAX_BYTES)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the domain's name is longer than %d bytes", NAME_MAX_BYTES);
    return true;
}

/* A document that can be defined or started, and the place that it takes; all flags of parsing are the caller's. */
struct doc *domain_document_complete(struct domain_driver *dr, const char *xml, uint8_t ret_uuid[16], GError **error)
{
    struct doc *doc = doc_parse(&schema_domain, xml, -1, error);
    if (!doc)
        return NULL;
    const struct el *r = doc_root(doc);
    if (check_name(el_get_or(r, "name", ""), error) && domain_complete(dr, doc, error)) {
        if (manage_uuid_parse(el_get_or(r, "uuid", ""), ret_uuid))
            return doc;
        manage_fail(error, VIR_ERR_XML_ERROR, "malformed uuid element");
    }
    doc_free(doc);
    return NULL;
}

/* The domain of a document, inside a job. Two who define the same for the first time: the second waits for the first, and tries again if it failed. */
struct domain *domain_begin_claimed(struct domain_driver *dr, const struct doc *doc, const uint8_t uuid[16], const char *job, GError **error)
{
    for (unsigned i = 0; i < 100; i++) {
        g_autoptr(GError) e = NULL;
        struct domain *d = domain_claim(dr, uuid, el_get(doc_root(doc), "name"), error);
        if (!d)
            return NULL;
        if (domain_begin(d, job, false, &e))
            return d;
        bool again = e->code == VIR_ERR_NO_DOMAIN;
        domain_unref(d);
        if (!again) {
            g_propagate_error(error, g_steal_pointer(&e));
            return NULL;
        }
    }
    return manage_null(error, VIR_ERR_OPERATION_TIMEOUT, "the domain is defined and removed by others all the time");
}

/* ---- define ---- */

static GVariant *define(struct manage_call *c, const char *xml, uint32_t flags, GError **error)
{
    uint8_t uuid[16];
    if (!manage_check_flags(flags, VIR_DOMAIN_DEFINE_VALIDATE, error)) /* documents are always checked */
        return NULL;
    struct doc *doc = domain_document_complete(driver_of(c), xml, uuid, error);
    domain_auto *d = doc ? domain_begin_claimed(driver_of(c), doc, uuid, "define", error) : NULL;
    if (!d) {
        doc_free(doc);
        return NULL;
    }
    bool fresh = d->hidden, was_persistent = d->persistent;
    bool ok = domain_set_definition(d, doc, error);
    if (!ok) {
        doc_free(doc);
        if (fresh)
            domain_remove(d);
    } else if (fresh) {
        domain_show(d);
    }
    domain_end(d);
    if (!ok)
        return NULL;
    domain_event(d, VIR_DOMAIN_EVENT_DEFINED, was_persistent ? VIR_DOMAIN_EVENT_DEFINED_UPDATED : VIR_DOMAIN_EVENT_DEFINED_ADDED);
    return domain_reply(c, d, error);
}

static GVariant *define_xml(struct manage_call *c, GError **error)
{
    const char *xml;
    g_variant_get(c->args, "(&s)", &xml);
    return define(c, xml, 0, error);
}

static GVariant *define_xml_flags(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    return define(c, xml, flags, error);
}

/* ---- undefine ---- */

/* The file with the machine's UEFI variables where there is one: as the definition says, or as a start makes it (domain_command_machine.c). */
static char *nvram_path(struct domain *d)
{
    doc_auto *doc = domain_definition_names(d, "nvram") ? domain_definition(d, NULL) : NULL;
    const char *named = doc ? el_get(doc_root(doc), "os/nvram") : NULL;
    g_autofree char *path = named && *named ? g_strdup(named) : domain_nvram_path(d->driver, d->name);
    return access(path, F_OK) == 0 ? g_steal_pointer(&path) : NULL;
}

/* It is not lost by accident. */
static bool nvram(struct domain *d, uint32_t flags, char **ret_remove, GError **error)
{
    g_autofree char *path = nvram_path(d);
    if (!path || (flags & VIR_DOMAIN_UNDEFINE_KEEP_NVRAM))
        return true;
    if (!(flags & VIR_DOMAIN_UNDEFINE_NVRAM))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot undefine domain with nvram '%s'; say --nvram or --keep-nvram", path);
    *ret_remove = g_steal_pointer(&path);
    return true;
}

void domain_undefined(struct domain *d)
{
    domain_forget_definition(d);
    g_mutex_lock(&d->lock);
    d->persistent = d->autostart = false;
    bool running = d->id >= 0;
    g_mutex_unlock(&d->lock);
    if (!running) {
        domain_moments_erase(d);
        domain_remove(d);
    }
    domain_event(d, VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_REMOVED);
}

static bool undefine(struct domain *d, uint32_t flags, GError **error)
{
    g_autofree char *variables = NULL;
    if (!d->persistent)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot undefine transient domain");
    static const struct { enum moment_kind kind; uint32_t flag; const char *what; } moments[] = {
        { MOMENT_SNAPSHOT, VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA, "snapshots" }, { MOMENT_CHECKPOINT, VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA, "checkpoints" } };
    for (unsigned i = 0; d->id < 0 && i < G_N_ELEMENTS(moments); i++) {
        unsigned n = domain_moments_count(d, moments[i].kind);
        if (n && !(flags & moments[i].flag))
            return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot delete inactive domain with %u %s", n, moments[i].what);
    }
    if (d->saved && !(flags & VIR_DOMAIN_UNDEFINE_MANAGED_SAVE))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "Refusing to undefine while domain managed save image exists");
    if (!nvram(d, flags, &variables, error))
        return false;
    if (d->saved && !domain_managed_remove(d, error))
        return false;
    if (variables && unlink(variables) < 0)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "failed to remove nvram: %s", variables);
    if (!domain_erase_definition(d, error))
        return false;
    domain_undefined(d);
    return true;
}

static GVariant *undefine_call(struct manage_call *c, uint32_t flags, GError **error)
{
    if (!manage_check_flags(flags, UNDEFINE_FLAGS, error))
        return NULL;
    if ((flags & VIR_DOMAIN_UNDEFINE_NVRAM) && (flags & VIR_DOMAIN_UNDEFINE_KEEP_NVRAM))
        return manage_null(error, VIR_ERR_INVALID_ARG, "nvram is to be kept or to be removed, not both");
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "undefine", false, error))
        return NULL;
    bool ok = undefine(d, flags, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

static GVariant *undefine_plain(struct manage_call *c, GError **error) { return undefine_call(c, 0, error); }

static GVariant *undefine_flags(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return undefine_call(c, flags, error);
}

/* ---- start ---- */

/* The next start makes it anew from its template. */
static bool reset_nvram(struct domain *d, uint32_t flags, GError **error)
{
    g_autofree char *path = flags & VIR_DOMAIN_START_RESET_NVRAM ? nvram_path(d) : NULL;
    return !path || unlink(path) == 0 || manage_fail(error, VIR_ERR_OPERATION_FAILED, "failed to remove nvram: %s", path);
}

static bool start(struct manage_call *c, struct domain *d, uint32_t flags, GError **error)
{
    if (!manage_check_flags(flags, CREATE_FLAGS & ~VIR_DOMAIN_START_VALIDATE, error) || !domain_begin(d, "start", false, error))
        return false;
    bool ok = d->id < 0 || manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is already running");
    ok = ok && reset_nvram(d, flags, error) && domain_start_or_restore(d, c, flags, error);
    domain_end(d);
    return ok;
}

static GVariant *create(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d && start(c, d, 0, error) ? manage_void() : NULL;
}

static GVariant *create_with_flags(struct manage_call *c, GError **error)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    domain_auto *d = domain_of_call(c, 0, error);
    return d && start(c, d, flags, error) ? domain_reply(c, d, error) : NULL;
}

static bool create_inside(struct manage_call *c, struct domain *d, struct doc *doc, uint32_t flags, GError **error)
{
    bool fresh = d->hidden;
    if (d->id >= 0) {
        doc_free(doc);
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is already active as '%s'", d->name);
    }
    const char *variables = el_get(doc_root(doc), "os/nvram");
    if ((flags & VIR_DOMAIN_START_RESET_NVRAM) && variables && *variables)
        unlink(variables); /* made anew from the template */
    domain_show(d); /* its first event names a domain that can be looked up */
    bool ok = domain_start_document(d, doc, c, flags, error);
    if (!ok && fresh && !d->removed)
        domain_remove(d);
    return ok;
}

static GVariant *create_document(struct manage_call *c, const char *xml, uint32_t flags, GError **error)
{
    uint8_t uuid[16];
    if (!manage_check_flags(flags, CREATE_FLAGS, error))
        return NULL;
    struct doc *doc = domain_document_complete(driver_of(c), xml, uuid, error);
    domain_auto *d = doc ? domain_begin_claimed(driver_of(c), doc, uuid, "create", error) : NULL;
    if (!d) {
        doc_free(doc);
        return NULL;
    }
    bool ok = create_inside(c, d, doc, flags, error);
    domain_end(d);
    return ok ? domain_reply(c, d, error) : NULL;
}

static GVariant *create_xml(struct manage_call *c, GError **error)
{
    const char *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &xml, &flags);
    return create_document(c, xml, flags, error);
}

/* Descriptors for the guest's init exist for containers alone. */
static GVariant *with_files(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "a machine cannot be started with descriptors; start it without");
}

/* ---- rename ---- */

static bool rename_files(struct domain *d, const char *to, GError **error)
{
    g_autofree char *from = g_strdup(d->name);
    doc_auto *doc = domain_definition(d, error);
    bool autostart = d->autostart;
    if (!doc)
        return false;
    el_set(doc_root(doc), "name", to);
    /* The new file first: what a daemon finds that was killed in between is the old name, the other is refused for its UUID. */
    if (!domain_write_definition(d->driver, to, doc, error) || (autostart && !domain_write_autostart(d, false, error)))
        return false;
    if (!domain_rename(d, to, error)) {
        (void)!domain_remove_definition(d->driver, to, true, NULL);
        return false;
    }
    domain_forget_definition(d);
    if (!domain_moments_rename(d, from, to, error))
        return false;
    return (!autostart || domain_write_autostart(d, true, error)) && domain_remove_definition(d->driver, from, true, error);
}

static GVariant *rename_call(struct manage_call *c, GError **error)
{
    const char *to = NULL;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "m&s", &to);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (!to || !check_name(to, error))
        return to ? NULL : manage_null(error, VIR_ERR_INVALID_ARG, "rename needs a new name");
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "rename", false, error))
        return NULL;
    domain_auto *other = domain_find_name(d->driver, to);
    bool ok = false;
    if (d->id >= 0)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot rename active domain");
    else if (d->saved)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain with a managed saved state can't be renamed");
    else if (other == d)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "Can't rename domain to itself");
    else if (other)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain with name '%s' already exists", to);
    else {
        domain_event(d, VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_RENAMED);
        ok = rename_files(d, to, error);
        domain_event(d, VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_RENAMED);
    }
    domain_end(d);
    return ok ? g_variant_new("(i)", 0) : NULL;
}

/* ---- autostart ---- */

static GVariant *get_autostart(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(i)", d->autostart) : NULL;
}

static GVariant *set_autostart(struct manage_call *c, GError **error)
{
    int on;
    g_variant_get_child(c->args, 1, "i", &on);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "set autostart", false, error))
        return NULL;
    bool ok = d->persistent || manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot set autostart for transient domain");
    ok = ok && domain_write_autostart(d, on, error);
    if (ok) {
        g_mutex_lock(&d->lock);
        d->autostart = on;
        g_mutex_unlock(&d->lock);
    }
    domain_end(d);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_define[] = {
    { RPC_DOMAIN_DEFINE_XML, define_xml },
    { RPC_DOMAIN_DEFINE_XML_FLAGS, define_xml_flags },
    { RPC_DOMAIN_UNDEFINE, undefine_plain },
    { RPC_DOMAIN_UNDEFINE_FLAGS, undefine_flags },
    { RPC_DOMAIN_CREATE, create },
    { RPC_DOMAIN_CREATE_WITH_FLAGS, create_with_flags },
    { RPC_DOMAIN_CREATE_XML, create_xml },
    { RPC_DOMAIN_CREATE_WITH_FILES, with_files },
    { RPC_DOMAIN_CREATE_XML_WITH_FILES, with_files },
    { RPC_DOMAIN_RENAME, rename_call },
    { RPC_DOMAIN_GET_AUTOSTART, get_autostart },
    { RPC_DOMAIN_SET_AUTOSTART, set_autostart },
    { 0, NULL },
};
