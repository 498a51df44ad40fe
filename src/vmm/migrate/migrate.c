/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both directions of migration share: settings, status, and errands to the main thread. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate_private.h"

/* By enum migrate_capability; why: what it stands for is not there. */
static const struct { const char *name, *why; } capabilities[NCAPS] = {
    [CAP_EVENTS] = { "events", NULL },
    [CAP_RETURN_PATH] = { "return-path", "a stream goes one way" },
    [CAP_PAUSE_BEFORE_SWITCHOVER] = { "pause-before-switchover", NULL },
    [CAP_LATE_BLOCK_ACTIVATE] = { "late-block-activate", NULL },
    [CAP_XBZRLE] = { "xbzrle", "pages are sent whole" },
    [CAP_RDMA_PIN_ALL] = { "rdma-pin-all", "there is no RDMA" },
    [CAP_AUTO_CONVERGE] = { "auto-converge", NULL },
    [CAP_ZERO_BLOCKS] = { "zero-blocks", "disks are not part of the stream" },
    [CAP_COMPRESS] = { "compress", "pages are sent as they are" },
    [CAP_POSTCOPY_RAM] = { "postcopy-ram", "the machine moves when all of its memory is there" },
    [CAP_X_COLO] = { "x-colo", "there is no second machine that runs along" },
    [CAP_RELEASE_RAM] = { "release-ram", "memory stays until the process ends" },
    [CAP_BLOCK] = { "block", "disks are not part of the stream: mirror them to an NBD server of the other side" },
    [CAP_MULTIFD] = { "multifd", "there is one connection" },
    [CAP_DIRTY_BITMAPS] = { "dirty-bitmaps", "bitmaps travel in their images" },
    [CAP_POSTCOPY_BLOCKTIME] = { "postcopy-blocktime", "there is no postcopy" },
    [CAP_X_IGNORE_SHARED] = { "x-ignore-shared", "all memory is sent" },
    [CAP_VALIDATE_UUID] = { "validate-uuid", "the stream does not carry it" },
    [CAP_BACKGROUND_SNAPSHOT] = { "background-snapshot", "writes of the guest are not held back" },
    [CAP_ZERO_COPY_SEND] = { "zero-copy-send", "pages are copied" },
    [CAP_POSTCOPY_PREEMPT] = { "postcopy-preempt", "there is no postcopy" },
};

/* Parameters that are numbers; unit: for an error's words. */
#define N(member) offsetof(struct migrate_numbers, member)
static const struct { const char *name; size_t offset; int64_t value, least, most; const char *unit; } numbers[] = {
    { "max-bandwidth", N(max_bandwidth), 128 << 20, 0, INT64_MAX, " bytes/second" }, { "downtime-limit", N(downtime_limit), 300, 0, 2000000, " ms" },
    { "throttle-trigger-threshold", N(throttle_trigger), 50, 1, 100, "" }, { "cpu-throttle-initial", N(throttle_initial), 20, 1, 99, "" },
    { "cpu-throttle-increment", N(throttle_increment), 10, 1, 99, "" }, { "max-cpu-throttle", N(throttle_max), 99, 1, 99, "" },
};
#undef N

static int64_t *number_of(struct migration *g, size_t i)
{
    return (int64_t *)((char *)&g->numbers + numbers[i].offset);
}

struct migration *migration_of(struct machine *m)
{
    if (!m->migration) {
        m->migration = g_new0(struct migration, 1);
        m->migration->machine = m;
        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
            *number_of(m->migration, i) = numbers[i].value;
        m->migration->other_params = json_object_new_object();
    }
    return m->migration;
}

const char *migrate_status_name(enum migrate_status s)
{
    static const char *const names[] = { "none", "setup", "active", "pre-switchover", "device", "cancelling", "cancelled", "completed", "failed" };
    return names[s];
}

void migration_set_status(struct migration *g, enum migrate_status s)
{
    if (s == g->status)
        return;
    g->status = s;
    if (g->caps[CAP_EVENTS])
        machine_event(g->machine, "MIGRATION", json_make("status", json_object_new_string(migrate_status_name(s)), NULL));
}

/* ---- errands ---- */

struct errand {
    struct errand_place *place;
    bool (*fn)(void *opaque, GError **error);
    void *opaque;
    GError **error;
    bool done, ok, left; /* left: who waited has gone */
};

void errand_place_init(struct errand_place *p)
{
    g_mutex_init(&p->lock);
    g_cond_init(&p->done);
    p->cancelled = false;
}

void errand_place_clear(struct errand_place *p)
{
    g_mutex_clear(&p->lock);
    g_cond_clear(&p->done);
}

void errand_cancel(struct errand_place *p)
{
    g_mutex_lock(&p->lock);
    p->cancelled = true;
    g_cond_broadcast(&p->done);
    g_mutex_unlock(&p->lock);
}

/* Who waited frees it, unless it has left before it was run. */
static void run_errand(void *opaque)
{
    struct errand *e = opaque;
    if (__atomic_load_n(&e->left, __ATOMIC_ACQUIRE)) {
        g_free(e);
        return;
    }
    bool ok = e->fn(e->opaque, e->error);
    g_mutex_lock(&e->place->lock);
    e->ok = ok;
    e->done = true;
    g_cond_broadcast(&e->place->done);
    g_mutex_unlock(&e->place->lock);
}

bool errand_run(struct machine *m, struct errand_place *p, bool (*fn)(void *opaque, GError **error), void *opaque, GError **error)
{
    struct errand *e = g_new0(struct errand, 1);
    *e = (struct errand){ .place = p, .fn = fn, .opaque = opaque, .error = error };
    machine_call_later(m, run_errand, e);
    g_mutex_lock(&p->lock);
    while (!e->done && !p->cancelled)
        g_cond_wait(&p->done, &p->lock);
    bool ok = e->done && e->ok, done = e->done;
    if (!done) /* errand_cancel is the main thread's: the errand is not being run now */
        __atomic_store_n(&e->left, true, __ATOMIC_RELEASE);
    g_mutex_unlock(&p->lock);
    if (done)
        g_free(e);
    else
        vireo_fail(error, VIREO_ERROR_FAILED, "the migration was cancelled");
    return ok;
}

/* ---- settings ---- */

bool migrate_set_capability(struct machine *m, const char *name, bool on, GError **error)
{
    struct migration *g = migration_of(m);
    if (g->status == MIGRATE_SETUP || g->status == MIGRATE_ACTIVE || g->status == MIGRATE_PRE_SWITCHOVER || g->status == MIGRATE_DEVICE)
        return vireo_fail(error, VIREO_ERROR_BUSY, "There's a migration process in progress");
    for (unsigned i = 0; i < NCAPS; i++) {
        if (strcmp(name, capabilities[i].name))
            continue;
        if (on && capabilities[i].why)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the migration capability '%s' is not there: %s", name, capabilities[i].why);
        g->caps[i] = on;
        return true;
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'capability' does not accept value '%s'", name);
}

struct json_object *migrate_query_capabilities(struct machine *m)
{
    const struct migration *g = migration_of(m);
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < NCAPS; i++) {
        if (capabilities[i].why)
            continue; /* clients take what they find here for there */
        json_object_array_add(list, json_make("state", json_object_new_boolean(g->caps[i]), "capability", json_object_new_string(capabilities[i].name), NULL));
    }
    return list;
}

/* Parameters whose meaning is not there; they are remembered with QEMU's defaults, so that clients that set them all find them. */
static const struct { const char *name; int64_t value; const char *text; } others[] = {
    { "announce-initial", 50 }, { "announce-max", 550 }, { "announce-rounds", 5 }, { "announce-step", 100 }, { "compress-level", 1 }, { "compress-threads", 8 },
    { "compress-wait-thread", -1 }, { "decompress-threads", 2 }, { "cpu-throttle-tailslow", -2 }, { "x-checkpoint-delay", 20000 }, { "block-incremental", -2 }, { "multifd-channels", 2 }, { "xbzrle-cache-size", 67108864 },
    { "max-postcopy-bandwidth", 0 }, { "multifd-compression", 0, "none" }, { "tls-creds", 0, "" }, { "tls-hostname", 0, "" },
    { "tls-authz", 0, "" },
};

static struct json_object *default_of(size_t i)
{
    if (others[i].text)
        return json_object_new_string(others[i].text);
    return others[i].value < 0 ? json_object_new_boolean(others[i].value == -1) : json_object_new_int64(others[i].value);
}

static int other_of(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        if (!strcmp(others[i].name, name))
            return (int)i;
    }
    return -1;
}

static bool check_parameter(const char *name, struct json_object *value, GError **error)
{
    bool number = json_object_is_type(value, json_type_int);
    int64_t v = json_object_get_int64(value);
    int other = other_of(name);
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (!strcmp(name, numbers[i].name))
            return (number && v >= numbers[i].least && v <= numbers[i].most) ||
                   vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' expects an integer in the range of %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT "%s", name, numbers[i].least,
                              numbers[i].most, numbers[i].unit);
    }
    if (other < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is unexpected", name);
    if (g_str_has_prefix(name, "tls-") && *json_object_get_string(value))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the migration parameter '%s' is not there: streams are not encrypted; use a tunnel", name);
    return true;
}

bool migrate_set_parameters(struct machine *m, struct json_object *members, GError **error)
{
    struct migration *g = migration_of(m);
    json_object_object_foreach(members, name, value) {
        if (!check_parameter(name, value, error))
            return false;
    }
    json_object_object_foreach(members, key, v) {
        bool number = false;
        for (size_t i = 0; i < G_N_ELEMENTS(numbers) && !number; i++) {
            number = !strcmp(key, numbers[i].name);
            if (number)
                __atomic_store_n(number_of(g, i), json_object_get_int64(v), __ATOMIC_RELAXED);
        }
        if (!number)
            json_object_object_add(g->other_params, key, json_object_get(v));
    }
    migrate_out_limits(g);
    return true;
}

struct json_object *migrate_query_parameters(struct machine *m)
{
    struct migration *g = migration_of(m);
    struct json_object *o = json_object_new_object();
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        json_object_object_add(o, numbers[i].name, json_object_new_int64(*number_of(g, i)));
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        struct json_object *set = json_object_object_get(g->other_params, others[i].name);
        json_object_object_add(o, others[i].name, set ? json_object_get(set) : default_of(i));
    }
    return o;
}

/* ---- life ---- */

bool migrate_setup(struct machine *m, const char *incoming, GError **error)
{
    (void)migration_of(m);
    if (!incoming || !strcmp(incoming, "defer"))
        return true;
    return migrate_in_begin(migration_of(m), incoming, error);
}

bool migrate_incoming(struct machine *m, const char *uri, GError **error)
{
    struct migration *g = migration_of(m);
    if (m->state != MACHINE_INMIGRATE)
        return vireo_fail(error, VIREO_ERROR_FAILED, "'-incoming' was not specified on the command line");
    if (g->in)
        return vireo_fail(error, VIREO_ERROR_FAILED, "The incoming migration has already been started");
    return migrate_in_begin(g, uri, error);
}

bool migrate_before_cont(struct machine *m, GError **error)
{
    struct migration *g = migration_of(m);
    if (m->state == MACHINE_FINISH_MIGRATE)
        return vireo_fail(error, VIREO_ERROR_FAILED, "Migration is not finalized yet");
    if (m->blockdev && !blockdev_activate(m->blockdev, error))
        return false;
    g->left = false;
    return true;
}

void migrate_finish(struct machine *m)
{
    struct migration *g = m->migration;
    if (!g)
        return;
    migrate_out_free(g->out);
    migrate_in_free(g->in);
    json_object_put(g->other_params);
    g_free(g->failure);
    g_clear_pointer(&m->migration, g_free);
}

struct json_object *migrate_query(struct machine *m)
{
    return migrate_out_query(migration_of(m));
}
