/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Save and restore: the calls, and the steps in an order in which nothing is lost. */
#include "manage/drivers/domain/save/domain_save.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/backup/domain_backup.h"
#include "manage/drivers/domain/snapshot/domain_moment.h"

enum { SAVE_FLAGS = VIR_DOMAIN_SAVE_BYPASS_CACHE | VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED, RESTORE_FLAGS = SAVE_FLAGS | VIR_DOMAIN_SAVE_RESET_NVRAM, REST_MS = 10000 };

static struct domain_driver *driver_of(struct manage_call *c) { return manage_data(c->conn->state, "domain"); }

static bool check_flags(uint32_t flags, uint32_t known, GError **error)
{
    const uint32_t both = VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
    if (!manage_check_flags(flags, known, error))
        return false;
    return (flags & both) != both || manage_fail(error, VIR_ERR_INVALID_ARG, "running and paused flags are mutually exclusive");
}

/* ---- the guest stands still ---- */

static bool command(struct domain *d, const char *name, GError **error)
{
    struct json_object *o = monitor_command(d, name, NULL, error);
    json_object_put(o);
    return o != NULL;
}

/* The state before the machine tells of it: that is told here. */
static void set_quietly(struct domain *d, int state, int reason)
{
    g_mutex_lock(&d->lock);
    d->state = state;
    d->reason = reason;
    g_mutex_unlock(&d->lock);
}

bool domain_hold(struct domain *d, int reason, GError **error)
{
    int before = d->reason;
    set_quietly(d, VIR_DOMAIN_PAUSED, reason);
    if (!command(d, "stop", error)) {
        set_quietly(d, VIR_DOMAIN_RUNNING, before);
        return false;
    }
    domain_set_state(d, VIR_DOMAIN_PAUSED, reason, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    return true;
}

/* A QEMU that has just finished or given up a transfer is not ready to run for a moment. */
static void wait_for_rest(struct domain *d)
{
    for (unsigned i = 0; i < REST_MS; i += 10) {
        struct json_object *o = monitor_command(d, "query-status", NULL, NULL);
        bool busy = o && !g_strcmp0(json_object_get_string(json_object_object_get(o, "status")), "finish-migrate");
        json_object_put(o);
        if (!busy)
            return;
        g_usleep(10000);
    }
}

bool domain_let_go(struct domain *d, int reason, GError **error) { return domain_let_go_as(d, reason, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED, error); }

bool domain_let_go_as(struct domain *d, int reason, int detail, GError **error)
{
    int before = d->reason;
    set_quietly(d, VIR_DOMAIN_RUNNING, reason);
    wait_for_rest(d);
    if (!command(d, "cont", error)) {
        set_quietly(d, VIR_DOMAIN_PAUSED, before);
        return false;
    }
    domain_set_state(d, VIR_DOMAIN_RUNNING, reason, VIR_DOMAIN_EVENT_RESUMED, detail);
    return true;
}

bool domain_can_save(struct domain *d, bool with_jobs, bool *ret_runs, GError **error)
{
    g_mutex_lock(&d->lock);
    int state = d->state;
    bool backup = d->backup && d->backup->active;
    g_mutex_unlock(&d->lock);
    *ret_runs = state == VIR_DOMAIN_RUNNING;
    if (state != VIR_DOMAIN_RUNNING && state != VIR_DOMAIN_PAUSED && state != VIR_DOMAIN_CRASHED)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is %s", state == VIR_DOMAIN_PMSUSPENDED ? "pmsuspended: wake it up first (dompmwakeup)" : "shutting down");
    if (with_jobs)
        return true;
    if (backup)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain has an active backup job: wait for its end, or end it (domjobabort)");
    return domain_blockjob_none(d, NULL, error);
}

/* ---- save ---- */

char *domain_save_document(struct domain *d, const char *xml, GError **error)
{
    doc_auto *live = domain_live(d, error), *own = live ? domain_portable(live) : NULL, *other = NULL;
    uint8_t uuid[16];
    if (!own)
        return NULL;
    g_mutex_lock(&d->lock);
    uint64_t now = d->balloon_kib;
    g_mutex_unlock(&d->lock);
    if (now)
        el_setf(doc_root(own), "currentMemory", "%llu", (unsigned long long)now), el_set(doc_root(own), "currentMemory/@unit", "KiB");
    if (!xml)
        return doc_format(own);
    if (!(other = domain_document_complete(d->driver, xml, uuid, error)) || !domain_same_machine(own, other, error))
        return NULL;
    return doc_format(other);
}

bool domain_save_stream(struct domain *d, int fd, enum save_format format, GError **error)
{
    int to = fd;
    struct save_packer *p = format == SAVE_RAW ? NULL : save_packer_new(format, fd, &to, error);
    if (format != SAVE_RAW && !p)
        return false;
    const struct transfer_how how = { .fd = to };
    bool ok = domain_transfer_run(d, &how, error);
    if (!p)
        return ok;
    close(to);
    return save_packer_finish(p, ok ? error : NULL) && ok;
}

/* The header is there; the guest stands still. */
static bool write_state(struct domain *d, const struct save_request *r, int fd, GError **error)
{
    if (!domain_transfer_begin(d, VIR_DOMAIN_JOB_OPERATION_SAVE, error))
        return false;
    bool ok = domain_save_stream(d, fd, r->format, error) && save_image_complete(fd, r->path, r->flags & VIR_DOMAIN_SAVE_BYPASS_CACHE, error);
    domain_transfer_end(d, ok);
    return ok;
}

static bool save_noted(struct domain *d, const struct save_request *r, const char *xml, bool runs, GError **error)
{
    bool will_run = r->flags & VIR_DOMAIN_SAVE_RUNNING ? true : r->flags & VIR_DOMAIN_SAVE_PAUSED ? false : runs;
    if (runs && !domain_hold(d, VIR_DOMAIN_PAUSED_SAVE, error))
        return false;
    int fd = save_image_begin(r->path, xml, will_run, r->format, error);
    bool ok = fd >= 0 && write_state(d, r, fd, error);
    if (fd >= 0)
        close(fd);
    if (!ok)
        save_image_remove(r->path);
    g_autoptr(GError) why = NULL;
    if (!ok && runs && !domain_let_go(d, VIR_DOMAIN_RUNNING_SAVE_CANCELED, &why))
        g_warning("domain '%s': it was not saved and does not run on: %s", d->name, why->message);
    return ok;
}

bool domain_save_to(struct domain *d, const struct save_request *r, GError **error)
{
    bool runs;
    g_autofree char *xml = domain_can_save(d, false, &runs, error) ? domain_save_document(d, r->xml, error) : NULL;
    if (!xml || !save_file_prepare(d->driver->state, r->path, error) || !domain_saving_note(d, SAVING_SAVE, r->path, runs, r->managed, error))
        return false;
    bool ok = save_noted(d, r, xml, runs, error);
    if (!ok) {
        domain_saving_drop(d);
        return false;
    }
    g_mutex_lock(&d->lock);
    d->saved |= r->managed;
    g_mutex_unlock(&d->lock);
    domain_stop(d, VIR_DOMAIN_SHUTOFF_SAVED);
    return true;
}

static bool save(struct manage_call *c, const struct save_request *r, GError **error)
{
    if (!r->path || !*r->path)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the file that the state goes to is not named");
    domain_auto *d = check_flags(r->flags, SAVE_FLAGS, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "save", true, error))
        return false;
    bool ok = domain_save_to(d, r, error);
    domain_end(d);
    return ok;
}

static GVariant *save_plain(struct manage_call *c, GError **error)
{
    struct save_request r = { 0 };
    g_variant_get_child(c->args, 1, "&s", &r.path);
    return save(c, &r, error) ? manage_void() : NULL;
}

static GVariant *save_flags(struct manage_call *c, GError **error)
{
    struct save_request r = { 0 };
    g_variant_get_child(c->args, 1, "&s", &r.path);
    g_variant_get_child(c->args, 2, "m&s", &r.xml);
    g_variant_get_child(c->args, 3, "u", &r.flags);
    return save(c, &r, error) ? manage_void() : NULL;
}

/* file, dxml, and how it is packed. */
static bool read_params(struct manage_call *c, unsigned i, struct save_request *r, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(c->args, i);
    for (gsize n = 0; n < g_variant_n_children(list); n++) {
        const char *name;
        g_autoptr(GVariant) value = NULL;
        g_variant_get_child(list, n, "(&sv)", &name, &value);
        const char *text = g_variant_is_of_type(value, G_VARIANT_TYPE_STRING) ? g_variant_get_string(value, NULL) : NULL;
        if (text && !strcmp(name, VIR_DOMAIN_SAVE_PARAM_FILE))
            r->path = text;
        else if (text && !strcmp(name, VIR_DOMAIN_SAVE_PARAM_DXML))
            r->xml = text;
        else if (!text || strcmp(name, "image_format"))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", name);
        else if (!save_format_parse(text, &r->format))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' is no way to pack a state: raw, gzip, bzip2, xz, lzop, zstd", text);
    }
    return true;
}

static GVariant *save_params(struct manage_call *c, GError **error)
{
    struct save_request r = { 0 };
    g_variant_get_child(c->args, 2, "u", &r.flags);
    if (!read_params(c, 1, &r, error))
        return NULL;
    if (!r.path)
        return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "the file is not named: a state is saved to the file that the parameter 'file' has, or as a managed save");
    return save(c, &r, error) ? manage_void() : NULL;
}

/* ---- restore ---- */

struct doc *domain_image_document(struct domain_driver *dr, const struct save_image *i, const char *xml, GError **error)
{
    uint8_t uuid[16];
    doc_auto *own = domain_document_complete(dr, i->xml, uuid, error);
    struct doc *other = own && xml ? domain_document_complete(dr, xml, uuid, error) : NULL;
    if (!own || (xml && !other))
        return NULL;
    if (!xml)
        return g_steal_pointer(&own);
    if (domain_same_machine(own, other, error))
        return other;
    doc_free(other);
    return NULL;
}

bool domain_restore_image(struct domain *d, const struct save_image *i, struct doc *live, struct manage_call *c, uint32_t create_flags,
                          bool (*loaded)(struct domain *d, void *opaque, GError **error), void *opaque, GError **error)
{
    struct domain_incoming in = { .fd = save_image_stream(i, error), .loaded = loaded, .opaque = opaque };
    if (in.fd < 0) {
        doc_free(live);
        return false;
    }
    bool ok = domain_start_incoming(d, live, c, create_flags | DOMAIN_START_RESTORED, &in, error);
    close(in.fd);
    return ok;
}

/* Inside a job of the document's domain; takes the document over. */
static bool restore_inside(struct manage_call *c, struct domain *d, const struct save_image *i, struct doc *doc, uint32_t flags, GError **error)
{
    bool fresh = d->hidden;
    if (d->id >= 0) {
        doc_free(doc);
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is already active", d->name);
    }
    const char *variables = el_get(doc_root(doc), "os/nvram");
    if ((flags & VIR_DOMAIN_SAVE_RESET_NVRAM) && variables && *variables)
        unlink(variables);
    bool run = flags & VIR_DOMAIN_SAVE_RUNNING ? true : flags & VIR_DOMAIN_SAVE_PAUSED ? false : i->ran;
    domain_show(d);
    bool ok = domain_restore_image(d, i, doc, c, run ? 0 : VIR_DOMAIN_START_PAUSED, NULL, NULL, error);
    if (!ok && fresh && !d->removed)
        domain_remove(d);
    return ok;
}

static GVariant *restore(struct manage_call *c, const struct save_request *r, GError **error)
{
    uint8_t uuid[16];
    if (!check_flags(r->flags, RESTORE_FLAGS, error))
        return NULL;
    if (!r->path || !*r->path)
        return manage_null(error, VIR_ERR_INVALID_ARG, "the file that the state comes from is not named");
    save_image_auto *i = save_image_read(r->path, NULL, error);
    struct doc *doc = i ? domain_image_document(driver_of(c), i, r->xml, error) : NULL;
    if (!doc)
        return NULL;
    (void)!manage_uuid_parse(el_get_or(doc_root(doc), "uuid", ""), uuid); /* a complete one has it */
    domain_auto *d = domain_begin_claimed(driver_of(c), doc, uuid, "restore", error);
    if (!d) {
        doc_free(doc);
        return NULL;
    }
    bool ok = restore_inside(c, d, i, doc, r->flags, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

static GVariant *restore_plain(struct manage_call *c, GError **error)
{
    struct save_request r = { 0 };
    g_variant_get_child(c->args, 0, "&s", &r.path);
    return restore(c, &r, error);
}

static GVariant *restore_flags(struct manage_call *c, GError **error)
{
    struct save_request r = { 0 };
    g_variant_get(c->args, "(&sm&su)", &r.path, &r.xml, &r.flags);
    return restore(c, &r, error);
}

static GVariant *restore_params(struct manage_call *c, GError **error)
{
    struct save_request r = { 0 };
    g_variant_get_child(c->args, 1, "u", &r.flags);
    return read_params(c, 0, &r, error) ? restore(c, &r, error) : NULL;
}

/* ---- what an image says ---- */

char *domain_image_text(struct domain_driver *dr, const char *path, uint32_t flags, GError **error)
{
    if (!manage_check_flags(flags, VIR_DOMAIN_SAVE_IMAGE_XML_SECURE, error))
        return NULL;
    save_image_auto *i = save_image_read(path, NULL, error);
    doc_auto *doc = i ? doc_parse(&schema_domain, i->xml, -1, error) : NULL;
    if (!doc)
        return NULL;
    el_each(g, el_find(doc_root(doc), "devices"), "graphics")
        if (!(flags & VIR_DOMAIN_SAVE_IMAGE_XML_SECURE) && el_get(g, "@passwd"))
            el_set(g, "@passwd", NULL);
    return doc_format(doc);
}

bool domain_image_redefine(struct domain_driver *dr, const char *path, const char *xml, uint32_t flags, GError **error)
{
    if (!check_flags(flags, VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED, error))
        return false;
    save_image_auto *i = save_image_read(path, NULL, error);
    doc_auto *doc = i ? domain_image_document(dr, i, xml, error) : NULL;
    g_autofree char *text = doc ? doc_format(doc) : NULL;
    bool ran = i && (flags & VIR_DOMAIN_SAVE_RUNNING ? true : flags & VIR_DOMAIN_SAVE_PAUSED ? false : i->ran);
    return text && save_image_rewrite(i, text, ran, error);
}

static GVariant *image_xml(struct manage_call *c, GError **error)
{
    const char *path;
    uint32_t flags;
    g_variant_get(c->args, "(&su)", &path, &flags);
    g_autofree char *text = domain_image_text(driver_of(c), path, flags, error);
    return text ? g_variant_new("(s)", text) : NULL;
}

static GVariant *image_define(struct manage_call *c, GError **error)
{
    const char *path, *xml;
    uint32_t flags;
    g_variant_get(c->args, "(&s&su)", &path, &xml, &flags);
    return domain_image_redefine(driver_of(c), path, xml, flags, error) ? manage_void() : NULL;
}

const struct manage_row domain_rows_save[] = {
    { RPC_DOMAIN_SAVE, save_plain },
    { RPC_DOMAIN_SAVE_FLAGS, save_flags },
    { RPC_DOMAIN_SAVE_PARAMS, save_params },
    { RPC_DOMAIN_RESTORE, restore_plain },
    { RPC_DOMAIN_RESTORE_FLAGS, restore_flags },
    { RPC_DOMAIN_RESTORE_PARAMS, restore_params },
    { RPC_DOMAIN_SAVE_IMAGE_GET_XML_DESC, image_xml },
    { RPC_DOMAIN_SAVE_IMAGE_DEFINE_XML, image_define },
    { 0, NULL },
};
