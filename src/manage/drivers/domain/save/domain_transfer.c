/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state of a machine leaves it: commands to the machine, progress, the end. See domain_transfer.h. */
#include <json-c/json.h>
#include <string.h>

#include "manage/drivers/domain/save/domain_transfer.h"
#include "manage/drivers/domain/backup/domain_backup.h"

enum { FIRST_LOOK_MS = 5, LOOK_MS = 50, CANCEL_MS = 20000 };
#define NO_LIMIT (INT64_MAX / (1024 * 1024) * (1024 * 1024)) /* bytes a second; what libvirt tells a QEMU */

/* ---- numbers ---- */

#define ROW(section, key, field, member, shown) { section, key, field, offsetof(struct transfer_numbers, member), shown }
enum shown { ALWAYS, NOT_ZERO, WITH_CACHE };

/* query-migrate to typed parameters, in libvirt's order. */
static const struct {
    const char *section, *key, *field; /* section NULL: at the top; field NULL: not told as it is */
    gsize offset;
    enum shown shown;
} rows[] = {
    ROW(NULL, "downtime", VIR_DOMAIN_JOB_DOWNTIME, downtime, ALWAYS),
    ROW(NULL, "setup-time", VIR_DOMAIN_JOB_SETUP_TIME, setup_time, NOT_ZERO),
    ROW("ram", "total", VIR_DOMAIN_JOB_MEMORY_TOTAL, ram_total, ALWAYS),
    ROW("ram", "transferred", VIR_DOMAIN_JOB_MEMORY_PROCESSED, ram_transferred, ALWAYS),
    ROW("ram", "remaining", VIR_DOMAIN_JOB_MEMORY_REMAINING, ram_remaining, ALWAYS),
    ROW("ram", NULL, VIR_DOMAIN_JOB_MEMORY_BPS, ram_rate, ALWAYS),
    ROW("ram", "duplicate", VIR_DOMAIN_JOB_MEMORY_CONSTANT, constant, ALWAYS),
    ROW("ram", "normal", VIR_DOMAIN_JOB_MEMORY_NORMAL, normal, ALWAYS),
    ROW("ram", "normal-bytes", VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES, normal_bytes, ALWAYS),
    ROW("ram", "dirty-pages-rate", VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, dirty_rate, ALWAYS),
    ROW("ram", "dirty-sync-count", VIR_DOMAIN_JOB_MEMORY_ITERATION, iteration, ALWAYS),
    ROW("ram", "postcopy-requests", VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS, postcopy_requests, ALWAYS),
    ROW("ram", "page-size", VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, page_size, NOT_ZERO),
    ROW("disk", "total", VIR_DOMAIN_JOB_DISK_TOTAL, disk_total, ALWAYS),
    ROW("disk", "transferred", VIR_DOMAIN_JOB_DISK_PROCESSED, disk_transferred, ALWAYS),
    ROW("disk", "remaining", VIR_DOMAIN_JOB_DISK_REMAINING, disk_remaining, ALWAYS),
    ROW("disk", NULL, VIR_DOMAIN_JOB_DISK_BPS, disk_rate, NOT_ZERO),
    ROW("xbzrle-cache", "cache-size", VIR_DOMAIN_JOB_COMPRESSION_CACHE, cache, WITH_CACHE),
    ROW("xbzrle-cache", "bytes", VIR_DOMAIN_JOB_COMPRESSION_BYTES, cache_bytes, WITH_CACHE),
    ROW("xbzrle-cache", "pages", VIR_DOMAIN_JOB_COMPRESSION_PAGES, cache_pages, WITH_CACHE),
    ROW("xbzrle-cache", "cache-miss", VIR_DOMAIN_JOB_COMPRESSION_CACHE_MISSES, cache_misses, WITH_CACHE),
    ROW("xbzrle-cache", "overflow", VIR_DOMAIN_JOB_COMPRESSION_OVERFLOW, cache_overflow, WITH_CACHE),
    ROW(NULL, "cpu-throttle-percentage", NULL, throttle, NOT_ZERO),
};

static uint64_t *number(const struct transfer_numbers *n, unsigned i) { return (uint64_t *)((char *)n + rows[i].offset); }

static uint64_t json_number(struct json_object *o, const char *key)
{
    gint64 n = json_object_get_int64(json_object_object_get(o, key));
    return n > 0 ? (uint64_t)n : 0;
}

/* A state without "ram" (setup, a failure) leaves what is known. */
static void read_numbers(struct transfer_numbers *n, struct json_object *o)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct json_object *from = rows[i].section ? json_object_object_get(o, rows[i].section) : o;
        if (from && rows[i].key && json_object_object_get(from, rows[i].key))
            *number(n, i) = json_number(from, rows[i].key);
    }
    struct json_object *ram = json_object_object_get(o, "ram");
    double mbps = json_object_get_double(json_object_object_get(ram, "mbps"));
    if (mbps >= 0 && mbps < 1e9)
        n->ram_rate = (uint64_t)(mbps * 1000 * 1000 / 8);
    if (!json_object_object_get(o, "downtime"))
        n->downtime = json_number(o, "expected-downtime");
}

static uint64_t elapsed_ms(const struct domain_transfer *t)
{
    return (uint64_t)(t->elapsed ? t->elapsed : g_get_monotonic_time() - t->started) / 1000;
}

void domain_transfer_params(GVariantBuilder *b, const struct domain_transfer *t)
{
    const struct transfer_numbers *n = &t->n;
    manage_param_i32(b, VIR_DOMAIN_JOB_OPERATION, t->operation);
    manage_param_u64(b, VIR_DOMAIN_JOB_TIME_ELAPSED, elapsed_ms(t));
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!strcmp(rows[i].key ? rows[i].key : "", "total") && !strcmp(rows[i].section, "ram")) { /* the sums stand before */
            manage_param_u64(b, VIR_DOMAIN_JOB_DATA_TOTAL, n->ram_total + n->disk_total);
            manage_param_u64(b, VIR_DOMAIN_JOB_DATA_PROCESSED, n->ram_transferred + n->disk_transferred);
            manage_param_u64(b, VIR_DOMAIN_JOB_DATA_REMAINING, n->ram_remaining + n->disk_remaining);
        }
        uint64_t v = *number(n, i);
        if (rows[i].field && (rows[i].shown == ALWAYS || (rows[i].shown == NOT_ZERO && v) || (rows[i].shown == WITH_CACHE && n->cache)))
            manage_param_u64(b, rows[i].field, v);
    }
    if (n->throttle)
        manage_param_i32(b, VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE, (int)n->throttle);
}

GVariant *domain_transfer_info(const struct domain_transfer *t)
{
    const struct transfer_numbers *n = &t->n;
    return g_variant_new("(ittttttttttt)", t->type, elapsed_ms(t), (guint64)0, n->ram_total + n->disk_total, n->ram_transferred + n->disk_transferred,
                         n->ram_remaining + n->disk_remaining, n->ram_total, n->ram_transferred, n->ram_remaining, n->disk_total, n->disk_transferred, n->disk_remaining);
}

/* ---- the job that clients see ---- */

bool domain_transfer_begin(struct domain *d, int operation, GError **error)
{
    g_mutex_lock(&d->lock);
    bool ok = !d->transfer || d->transfer->type != VIR_DOMAIN_JOB_UNBOUNDED;
    if (ok) {
        if (!d->transfer)
            d->transfer = g_new0(struct domain_transfer, 1);
        *d->transfer = (struct domain_transfer){ .operation = operation, .type = VIR_DOMAIN_JOB_UNBOUNDED, .started = g_get_monotonic_time() };
    }
    g_mutex_unlock(&d->lock);
    return ok || manage_fail(error, VIR_ERR_OPERATION_INVALID, "the state of domain '%s' is on its way elsewhere already", d->name);
}

void domain_transfer_end(struct domain *d, bool ok)
{
    GVariantBuilder b;
    g_mutex_lock(&d->lock);
    struct domain_transfer *t = d->transfer, done = t ? *t : (struct domain_transfer){ 0 };
    if (t) {
        t->elapsed = done.elapsed = MAX(1, g_get_monotonic_time() - t->started);
        t->type = done.type = ok ? VIR_DOMAIN_JOB_COMPLETED : t->canceled ? VIR_DOMAIN_JOB_CANCELLED : VIR_DOMAIN_JOB_FAILED;
        t->moving = false;
        if (ok && d->backup && !d->backup->active) /* of the jobs that ended the last one is told */
            g_clear_pointer(&d->backup, domain_backup_free);
        if (!ok)
            g_clear_pointer(&d->transfer, g_free);
    }
    g_mutex_unlock(&d->lock);
    if (!t || !ok || !manage_event_wanted(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED))
        return;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    domain_transfer_params(&b, &done);
    manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, d->uuid, sizeof(d->uuid), g_variant_new("(@(sayi)a(sv))", domain_variant(d), &b));
}

bool domain_transfer_active(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool yes = d->transfer && d->transfer->type == VIR_DOMAIN_JOB_UNBOUNDED;
    g_mutex_unlock(&d->lock);
    return yes;
}

bool domain_transfer_lasts(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool yes = d->transfer && d->transfer->type == VIR_DOMAIN_JOB_UNBOUNDED && d->transfer->lasting;
    g_mutex_unlock(&d->lock);
    return yes;
}

bool domain_transfer_cancel(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool yes = d->transfer && d->transfer->type == VIR_DOMAIN_JOB_UNBOUNDED;
    if (yes)
        d->transfer->canceled = true;
    g_mutex_unlock(&d->lock);
    return yes;
}

bool domain_transfer_look(struct domain *d, bool completed, bool keep, struct domain_transfer *ret)
{
    g_mutex_lock(&d->lock);
    bool show = d->transfer && (d->transfer->type == VIR_DOMAIN_JOB_UNBOUNDED) == !completed;
    if (show)
        *ret = *d->transfer;
    if (show && completed && !keep)
        g_clear_pointer(&d->transfer, g_free);
    g_mutex_unlock(&d->lock);
    return show;
}

/* ---- the machine ---- */

static bool tell(struct domain *d, const char *command, struct json_object *args, GError **error)
{
    struct json_object *o = monitor_command(d, command, args, error);
    json_object_put(o);
    return o != NULL;
}

/* What is not asked for is switched off: an earlier transfer may have left it on. A machine that knows none of it is asked nothing. */
static bool set_capabilities(struct domain *d, const char *const *on, GError **error)
{
    struct json_object *known = monitor_command(d, "query-migrate-capabilities", NULL, on && *on ? error : NULL), *list = json_object_new_array(), *args = json_object_new_object();
    json_object_object_add(args, "capabilities", list);
    for (size_t i = 0; known && i < json_object_array_length(known); i++) {
        struct json_object *c = json_object_array_get_idx(known, i), *o;
        const char *name = json_object_get_string(json_object_object_get(c, "capability"));
        bool want = name && on && g_strv_contains((const gchar *const *)on, name);
        if (!name || (!g_strcmp0(name, "events") || want) == json_object_get_boolean(json_object_object_get(c, "state")))
            continue;
        o = json_object_new_object();
        json_object_object_add(o, "capability", json_object_new_string(name));
        json_object_object_add(o, "state", json_object_new_boolean(want || !strcmp(name, "events")));
        json_object_array_add(list, o);
    }
    bool ok = known || !on || !*on;
    for (unsigned i = 0; ok && on && on[i]; i++) {
        bool there = false;
        for (size_t k = 0; !there && k < json_object_array_length(known); k++)
            there = !g_strcmp0(json_object_get_string(json_object_object_get(json_object_array_get_idx(known, k), "capability")), on[i]);
        ok = there || manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the machine of domain '%s' has no migration capability '%s'", d->name, on[i]);
    }
    if (ok && json_object_array_length(list))
        ok = tell(d, "migrate-set-capabilities", json_object_get(args), error);
    json_object_put(args);
    json_object_put(known);
    return ok;
}

static bool set_parameters(struct domain *d, const struct transfer_how *how, GError **error)
{
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "max-bandwidth", json_object_new_int64(how->bandwidth ? (int64_t)MIN(how->bandwidth, (uint64_t)NO_LIMIT) : NO_LIMIT));
    if (how->parameters) {
        json_object_object_foreach(how->parameters, key, value)
            json_object_object_add(args, key, json_object_get(value));
    }
    return tell(d, "migrate-set-parameters", args, error);
}

static bool start(struct domain *d, const struct transfer_how *how, GError **error)
{
    struct json_object *args = json_object_new_object();
    if (how->fd >= 0) {
        struct json_object *name = json_object_new_object();
        json_object_object_add(name, "fdname", json_object_new_string("migrate"));
        struct json_object *o = monitor_command_fds(d, "getfd", name, &how->fd, 1, error);
        json_object_put(o);
        if (!o) {
            json_object_put(args);
            return false;
        }
    }
    json_object_object_add(args, "uri", json_object_new_string(how->fd >= 0 ? "fd:migrate" : how->uri));
    if (tell(d, "migrate", args, error))
        return true;
    if (how->fd >= 0) { /* not taken: it is not to stay there */
        struct json_object *name = json_object_new_object();
        json_object_object_add(name, "fdname", json_object_new_string("migrate"));
        (void)tell(d, "closefd", name, NULL);
    }
    return false;
}

/* New rounds over the memory since the last look. */
static void tell_iterations(struct domain *d, uint64_t before, uint64_t now)
{
    if (!manage_event_wanted(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION))
        return;
    for (uint64_t i = MAX(before, now > 100 ? now - 100 : 0) + 1; i <= now; i++)
        manage_event(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, d->uuid, sizeof(d->uuid), g_variant_new("(@(sayi)i)", domain_variant(d), (int)i));
}

enum verdict { GOES_ON, SWITCHES, DONE, FAILED, CANCELED };

static enum verdict look(struct domain *d, GError **error)
{
    struct json_object *o = monitor_command(d, "query-migrate", NULL, error);
    const char *status = o ? json_object_get_string(json_object_object_get(o, "status")) : NULL;
    enum verdict v = GOES_ON;
    if (!o)
        return FAILED;
    g_mutex_lock(&d->lock);
    struct domain_transfer *t = d->transfer;
    uint64_t before = t ? t->n.iteration : 0;
    int operation = t ? t->operation : 0;
    if (t)
        read_numbers(&t->n, o);
    uint64_t now = t ? t->n.iteration : 0;
    g_mutex_unlock(&d->lock);
    if (operation == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT && now > before)
        tell_iterations(d, before, now);
    if (!g_strcmp0(status, "completed")) {
        v = DONE;
    } else if (!g_strcmp0(status, "pre-switchover")) {
        v = SWITCHES;
    } else if (!g_strcmp0(status, "cancelled")) {
        v = CANCELED;
    } else if (!g_strcmp0(status, "failed")) {
        const char *why = json_object_get_string(json_object_object_get(o, "error-desc"));
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the state of domain '%s' did not arrive: %s", d->name, why ? why : "the machine says no more; see its log");
        v = FAILED;
    }
    json_object_put(o);
    return v;
}

static bool wanted(struct domain *d, const struct transfer_how *how)
{
    g_mutex_lock(&d->lock);
    bool yes = d->transfer && !d->transfer->canceled;
    g_mutex_unlock(&d->lock);
    return yes && (!how->go_on || how->go_on(how->opaque));
}

/* The guest stands still before the last of its state leaves. */
static bool switch_over(struct domain *d, const struct transfer_how *how, GError **error)
{
    if (how->switch_over && !how->switch_over(how->switch_opaque, error)) {
        (void)!tell(d, "migrate_cancel", NULL, NULL);
        return false;
    }
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "state", json_object_new_string("pre-switchover"));
    return tell(d, "migrate-continue", args, error);
}

/* Until the machine says that it has ended. A cancellation is told once; one that comes too late is a success. */
static bool follow(struct domain *d, const struct transfer_how *how, GError **error)
{
    gint64 until = 0;
    for (unsigned ms = FIRST_LOOK_MS;; ms = MIN(ms * 2, LOOK_MS)) {
        enum verdict v = look(d, error);
        if (v == DONE)
            return true;
        if (v == FAILED || (v == SWITCHES && !until && wanted(d, how) && !switch_over(d, how, error)))
            return false;
        if (v == CANCELED)
            return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the job on domain '%s' was canceled by client", d->name);
        if (!until && !wanted(d, how)) {
            until = g_get_monotonic_time() + CANCEL_MS * 1000;
            if (!tell(d, "migrate_cancel", NULL, error))
                return false;
            ms = FIRST_LOOK_MS;
        }
        if (until && g_get_monotonic_time() > until)
            return manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "the machine of domain '%s' does not stop sending its state", d->name);
        g_usleep(ms * 1000);
    }
}

bool domain_transfer_run(struct domain *d, const struct transfer_how *how, GError **error)
{
    if (!wanted(d, how))
        return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the job on domain '%s' was canceled by client", d->name);
    if (!set_capabilities(d, how->on, error) || !set_parameters(d, how, error) || !start(d, how, error))
        return false;
    g_mutex_lock(&d->lock);
    if (d->transfer)
        d->transfer->moving = true;
    g_mutex_unlock(&d->lock);
    return follow(d, how, error);
}
