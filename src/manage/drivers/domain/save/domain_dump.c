/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of a machine goes into a file for people who look for a defect in the guest: as the machine's own stream (as libvirt does), or as a core that debuggers read. */
#include "manage/drivers/domain/save/domain_dump.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/stats/domain_stats.h"

enum { FLAGS = VIR_DUMP_CRASH | VIR_DUMP_LIVE | VIR_DUMP_BYPASS_CACHE | VIR_DUMP_RESET | VIR_DUMP_MEMORY_ONLY, LOOK_MS = 20 };

/* virDomainCoreDumpFormat. */
static const char *const formats[] = { "elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp" };

static bool check_flags(unsigned format, uint32_t flags, GError **error)
{
    static const struct { uint32_t a, b; const char *what; } exclusive[] = {
        { VIR_DUMP_CRASH, VIR_DUMP_LIVE, "crash and live" }, { VIR_DUMP_CRASH, VIR_DUMP_RESET, "crash and reset" }, { VIR_DUMP_LIVE, VIR_DUMP_RESET, "live and reset" } };
    if (!manage_check_flags(flags, FLAGS, error))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(exclusive); i++)
        if ((flags & exclusive[i].a) && (flags & exclusive[i].b))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "%s flags are mutually exclusive", exclusive[i].what);
    if (format >= G_N_ELEMENTS(formats))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "unknown dump format: %u", format);
    return format == VIR_DOMAIN_CORE_DUMP_FORMAT_RAW || flags & VIR_DUMP_MEMORY_ONLY ||
           manage_fail(error, VIR_ERR_INVALID_ARG, "kdump-compressed format is only supported with memory-only dump");
}

/* ---- a core ---- */

enum verdict { GOES_ON, DONE, FAILED };

/* A dump of the memory alone runs to its end: the machine cannot be told to leave it. */
static enum verdict look(struct domain *d, GError **error)
{
    struct json_object *o = monitor_command(d, "query-dump", NULL, error);
    const char *status = o ? json_object_get_string(json_object_object_get(o, "status")) : NULL;
    enum verdict v = !o || !g_strcmp0(status, "failed") ? FAILED : !g_strcmp0(status, "active") ? GOES_ON : DONE;
    if (o && v == FAILED)
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine of domain '%s' has not written its memory to the end: is there room for it?", d->name);
    g_mutex_lock(&d->lock);
    if (o && d->transfer) {
        uint64_t total = (uint64_t)js_number(o, "total"), done = (uint64_t)js_number(o, "completed");
        d->transfer->n.ram_total = total;
        d->transfer->n.ram_transferred = MIN(done, total);
        d->transfer->n.ram_remaining = total - MIN(done, total);
    }
    g_mutex_unlock(&d->lock);
    json_object_put(o);
    return v;
}

bool domain_dump_wait(struct domain *d, GError **error)
{
    for (;; g_usleep(LOOK_MS * 1000)) {
        enum verdict v = look(d, error);
        if (v != GOES_ON)
            return v == DONE;
    }
}

static bool tell(struct domain *d, const char *command, struct json_object *args, const int *fd, GError **error)
{
    struct json_object *o = monitor_command_fds(d, command, args, fd, fd ? 1 : 0, error);
    json_object_put(o);
    return o != NULL;
}

static bool write_core(struct domain *d, int fd, unsigned format, GError **error)
{
    struct json_object *give = json_object_new_object(), *args = json_object_new_object();
    js_set(give, "fdname", "dump");
    js_bool(args, "paging", false);
    js_set(args, "protocol", "fd:dump");
    js_bool(args, "detach", true);
    if (format != VIR_DOMAIN_CORE_DUMP_FORMAT_RAW)
        js_set(args, "format", formats[format]);
    g_mutex_lock(&d->lock);
    d->transfer->lasting = true;
    g_mutex_unlock(&d->lock);
    if (tell(d, "getfd", give, &fd, error))
        return tell(d, "dump-guest-memory", args, NULL, error) && domain_dump_wait(d, error);
    json_object_put(args);
    return false;
}

/* ---- the file ---- */

static bool write_file(struct domain *d, const char *path, unsigned format, uint32_t flags, GError **error)
{
    int fd = save_file_open(path, error);
    if (fd < 0)
        return false;
    bool ok = domain_transfer_begin(d, VIR_DOMAIN_JOB_OPERATION_DUMP, error);
    if (ok) {
        ok = flags & VIR_DUMP_MEMORY_ONLY ? write_core(d, fd, format, error) : domain_save_stream(d, fd, SAVE_RAW, error);
        if (ok && fsync(fd) < 0)
            ok = manage_fail_errno(error, errno, "cannot write '%s' to the disk", path);
        domain_transfer_end(d, ok);
    }
    if (flags & VIR_DUMP_BYPASS_CACHE)
        (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    if (!ok)
        save_image_remove(path);
    return ok;
}

static bool crash(struct domain *d)
{
    g_mutex_lock(&d->lock);
    d->state = VIR_DOMAIN_CRASHED;
    g_mutex_unlock(&d->lock);
    domain_stop(d, VIR_DOMAIN_SHUTOFF_CRASHED);
    return true;
}

bool domain_dump(struct domain *d, const char *path, unsigned format, uint32_t flags, GError **error)
{
    bool runs, live = flags & VIR_DUMP_LIVE, core = flags & VIR_DUMP_MEMORY_ONLY;
    if (!domain_can_save(d, core, &runs, error) || !save_file_prepare(d->driver->state, path, error) || !domain_saving_note(d, SAVING_DUMP, path, runs, false, error))
        return false;
    bool ok = live || !runs || domain_hold(d, VIR_DOMAIN_PAUSED_DUMP, error);
    ok = ok && write_file(d, path, format, flags, error);
    if (ok && (flags & VIR_DUMP_CRASH)) {
        domain_saving_drop(d);
        return crash(d);
    }
    if (ok && (flags & VIR_DUMP_RESET))
        ok = tell(d, "system_reset", NULL, NULL, error);
    g_autoptr(GError) why = NULL;
    if (runs && !(live && core) && !domain_let_go(d, VIR_DOMAIN_RUNNING_UNPAUSED, &why))
        g_warning("domain '%s': its memory was dumped and it does not run on: %s", d->name, why->message);
    domain_saving_drop(d);
    return ok;
}

void domain_dump_of_crash(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%d-%H:%M:%S"), *dir = g_build_filename(d->driver->lib_dir, "dump", NULL);
    g_autofree char *path = g_strdup_printf("%s/%d-%s-%s", dir, d->id, d->name, when);
    if (g_mkdir_with_parents(dir, 0700) < 0 || !domain_dump(d, path, VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, VIR_DUMP_MEMORY_ONLY, &error))
        g_warning("domain '%s': its guest has panicked, and its memory cannot be dumped to '%s': %s", d->name, path, error ? error->message : g_strerror(errno));
}

/* ---- calls ---- */

static GVariant *dump(struct manage_call *c, const char *path, unsigned format, uint32_t flags, GError **error)
{
    if (!check_flags(format, flags, error))
        return NULL;
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "dump", true, error))
        return NULL;
    bool ok = domain_dump(d, path, format, flags, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

static GVariant *core_dump(struct manage_call *c, GError **error)
{
    const char *path;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "&s", &path);
    g_variant_get_child(c->args, 2, "u", &flags);
    return dump(c, path, VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, flags, error);
}

static GVariant *core_dump_with_format(struct manage_call *c, GError **error)
{
    const char *path;
    uint32_t format, flags;
    g_variant_get_child(c->args, 1, "&s", &path);
    g_variant_get_child(c->args, 2, "u", &format);
    g_variant_get_child(c->args, 3, "u", &flags);
    return dump(c, path, format, flags, error);
}

const struct manage_row domain_rows_dump[] = {
    { RPC_DOMAIN_CORE_DUMP, core_dump },
    { RPC_DOMAIN_CORE_DUMP_WITH_FORMAT, core_dump_with_format },
    { 0, NULL },
};
