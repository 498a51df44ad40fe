/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending a machine. A thread writes the stream; whatever it needs of the machine it has the main thread do (errand_run): reading the log of
 * written pages, stopping the machine, handing the disks over. The guest runs while its memory is sent once and then what it has written since,
 * until what is left can be sent within downtime-limit.
 *
 * Whatever fails before the stream has left this process brings the machine back: its disks are taken again, and it runs if it ran.
 */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "block/job.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate_private.h"

struct migrate_out {
    struct migration *g;
    struct machine *machine;
    struct channel channel;
    struct errand_place errands;
    GThread *thread;
    struct ram_map *ram;
    char *description;
    GArray *dirty;          /* struct dirty_run: to be sent next */
    GPtrArray *states;      /* once the machine stands still */
    struct ram_stats stats;
    enum machine_state was; /* before it was stopped */
    struct converge converge;
    bool stopped, handed, over, go_on; /* over: the main thread has heard of the end; go_on: migrate-continue */
    uint64_t remaining;     /* bytes; atomic, like what follows */
    uint64_t rounds, dirty_rate, bandwidth /* bytes a second, as measured */, expected_downtime;
    int64_t began, setup_ms, stopped_at, downtime_ms, total_ms;
    GError *error;          /* of the thread */
};

static int64_t now_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

static uint64_t bytes_of(const GArray *runs)
{
    return dirty_log_pages(runs) * STREAM_PAGE;
}

/* ---- errands: on the main thread ---- */

static bool read_dirty(void *opaque, GError **error)
{
    struct migrate_out *o = opaque;
    g_clear_pointer(&o->dirty, g_array_unref);
    o->dirty = dirty_log_read(o->machine, error);
    if (!o->dirty)
        return false;
    __atomic_store_n(&o->remaining, bytes_of(o->dirty), __ATOMIC_RELAXED);
    __atomic_fetch_add(&o->rounds, 1, __ATOMIC_RELAXED);
    if (o->g->caps[CAP_AUTO_CONVERGE] && !o->stopped)
        converge_round(&o->converge, bytes_of(o->dirty), __atomic_load_n(&o->channel.bytes, __ATOMIC_RELAXED));
    return true;
}

static bool stop_machine(void *opaque, GError **error)
{
    struct migrate_out *o = opaque;
    struct machine *m = o->machine;
    if (!migrate_possible(m, error)) /* something may have been plugged in */
        return false;
    converge_end(&o->converge);
    o->was = m->state;
    o->stopped = true;
    o->stopped_at = now_ms();
    if (o->was == MACHINE_RUNNING)
        machine_stop(m, MACHINE_FINISH_MIGRATE);
    machine_set_state(m, MACHINE_FINISH_MIGRATE);
    state_drain(m);
    migration_set_status(o->g, o->g->caps[CAP_PAUSE_BEFORE_SWITCHOVER] ? MIGRATE_PRE_SWITCHOVER : MIGRATE_DEVICE);
    return true;
}

static bool jobs_are_quiet(struct machine *m, GError **error)
{
    if (!m->blockdev)
        return true;
    struct json_object *jobs = block_jobs_query(blockdev_jobs(m->blockdev));
    bool ok = true;
    for (size_t i = 0; ok && i < json_object_array_length(jobs); i++) {
        struct json_object *j = json_object_array_get_idx(jobs, i);
        if (g_strcmp0(json_object_get_string(json_object_object_get(j, "status")), "concluded"))
            ok = vireo_fail(error, VIREO_ERROR_BUSY, "the block job '%s' still uses the machine's disks; end it before they are handed over (capability "
                            "pause-before-switchover)", json_object_get_string(json_object_object_get(j, "id")));
    }
    json_object_put(jobs);
    return ok;
}

/* All that is left to be sent, and the disks let go of. */
static bool hand_over(void *opaque, GError **error)
{
    struct migrate_out *o = opaque;
    struct machine *m = o->machine;
    migration_set_status(o->g, MIGRATE_DEVICE);
    if (!jobs_are_quiet(m, error) || !(o->states = state_collect(m, o->was, error)) || !read_dirty(o, error))
        return false;
    if (m->blockdev && !blockdev_inactivate(m->blockdev, error))
        return false;
    o->handed = true;
    g_autofree char *description = state_describe(m, o->ram);
    return !strcmp(description, o->description) ||
           vireo_fail(error, VIREO_ERROR_FAILED, "something was plugged into the machine, or out, while it was migrated; try again");
}

/* The machine as it was before. */
static void bring_back(struct migrate_out *o)
{
    struct machine *m = o->machine;
    g_autoptr(GError) error = NULL;
    if (!o->stopped)
        return;
    if (o->handed && m->blockdev && !blockdev_activate(m->blockdev, &error)) {
        log_warn("the machine stays stopped: after the migration failed its disks could not be taken again: %s", error->message);
        machine_set_state(m, MACHINE_PAUSED);
        return;
    }
    machine_set_state(m, o->was == MACHINE_RUNNING ? MACHINE_PAUSED : o->was);
    if (o->was == MACHINE_RUNNING)
        machine_start(m);
}

/* The other side sees the end now, not when the next migration begins. */
static void close_channel(struct migrate_out *o)
{
    if (o->channel.fd >= 0)
        close(o->channel.fd);
    o->channel.fd = -1;
}

static void end(void *opaque)
{
    struct migrate_out *o = opaque;
    struct migration *g = o->g;
    o->over = true;
    converge_end(&o->converge);
    dirty_log_stop(o->machine);
    o->total_ms = now_ms() - o->began;
    o->downtime_ms = o->stopped_at ? now_ms() - o->stopped_at : 0;
    g_clear_pointer(&g->failure, g_free);
    if (o->error) {
        bool cancelled = g->status == MIGRATE_CANCELLING;
        if (!cancelled)
            log_warn("the migration failed: %s", o->error->message);
        bring_back(o);
        g->failure = cancelled ? NULL : g_strdup(o->error->message);
        migration_set_status(g, cancelled ? MIGRATE_CANCELLED : MIGRATE_FAILED);
    } else {
        g->left = true;
        machine_set_state(o->machine, MACHINE_POSTMIGRATE);
        migration_set_status(g, MIGRATE_COMPLETED);
    }
    close_channel(o);
}

/* ---- the thread ---- */

static bool send_dirty(struct migrate_out *o, const struct migrate_sink *k, GError **error)
{
    uint64_t before = __atomic_load_n(&o->channel.bytes, __ATOMIC_RELAXED);
    int64_t began = g_get_monotonic_time();
    if (!ram_send_runs(o->ram, k, o->dirty, &o->stats, error) || !channel_flush(&o->channel, error))
        return false;
    int64_t us = MAX(g_get_monotonic_time() - began, 1);
    uint64_t sent = __atomic_load_n(&o->channel.bytes, __ATOMIC_RELAXED) - before;
    if (sent > 1 << 20)
        __atomic_store_n(&o->bandwidth, (uint64_t)((double)sent * 1e6 / (double)us), __ATOMIC_RELAXED);
    return true;
}

/* How many bytes go within downtime-limit. */
static uint64_t affordable(struct migrate_out *o)
{
    uint64_t bandwidth = __atomic_load_n(&o->bandwidth, __ATOMIC_RELAXED);
    return (uint64_t)((double)MAX(bandwidth, 1 << 20) * (double)__atomic_load_n(&o->g->numbers.downtime_limit, __ATOMIC_RELAXED) / 1000);
}

/* While the guest runs. */
static bool send_rounds(struct migrate_out *o, const struct migrate_sink *k, GError **error)
{
    int64_t began = g_get_monotonic_time();
    if (!ram_send_all(o->ram, k, &o->stats, error) || !channel_flush(&o->channel, error))
        return false;
    int64_t us = MAX(g_get_monotonic_time() - began, 1);
    __atomic_store_n(&o->bandwidth, (uint64_t)((double)o->channel.bytes * 1e6 / (double)us), __ATOMIC_RELAXED);
    for (int64_t last = began;;) {
        if (!errand_run(o->machine, &o->errands, read_dirty, o, error))
            return false;
        int64_t now = g_get_monotonic_time();
        __atomic_store_n(&o->dirty_rate, (uint64_t)((double)dirty_log_pages(o->dirty) * 1e6 / (double)MAX(now - last, 1)), __ATOMIC_RELAXED);
        last = now;
        __atomic_store_n(&o->expected_downtime, bytes_of(o->dirty) * 1000 / MAX(__atomic_load_n(&o->bandwidth, __ATOMIC_RELAXED), 1), __ATOMIC_RELAXED);
        bool enough = bytes_of(o->dirty) <= affordable(o);
        if (!send_dirty(o, k, error))
            return false;
        if (enough)
            return true;
    }
}

static bool wait_for_continue(struct migrate_out *o, GError **error)
{
    bool pause = o->g->caps[CAP_PAUSE_BEFORE_SWITCHOVER];
    g_mutex_lock(&o->errands.lock);
    while (pause && !o->go_on && !o->errands.cancelled)
        g_cond_wait(&o->errands.done, &o->errands.lock);
    bool cancelled = o->errands.cancelled;
    g_mutex_unlock(&o->errands.lock);
    return !cancelled || vireo_fail(error, VIREO_ERROR_FAILED, "the migration was cancelled");
}

static bool send_rest(struct migrate_out *o, const struct migrate_sink *k, GError **error)
{
    __atomic_store_n(&o->channel.limit, 0, __ATOMIC_RELAXED); /* the guest waits */
    if (!send_dirty(o, k, error))
        return false;
    for (guint i = 0; i < o->states->len; i++) {
        const struct named_state *s = o->states->pdata[i];
        if (!stream_write_state(k, s->name, s->values, error))
            return false;
    }
    return stream_write_end(k, o->states->len, error) && channel_flush(&o->channel, error);
}

static bool send_machine(struct migrate_out *o, GError **error)
{
    const struct migrate_sink k = { channel_write, &o->channel };
    return stream_write_head(&k, error) && stream_write_text(&k, o->description, error) && send_rounds(o, &k, error) &&
           errand_run(o->machine, &o->errands, stop_machine, o, error) && wait_for_continue(o, error) &&
           errand_run(o->machine, &o->errands, hand_over, o, error) && send_rest(o, &k, error);
}

static void *out_thread(void *opaque)
{
    struct migrate_out *o = opaque;
    (void)!send_machine(o, &o->error);
    machine_call_later(o->machine, end, o);
    return NULL;
}

/* ---- main thread ---- */

void migrate_out_free(struct migrate_out *o)
{
    if (!o)
        return;
    if (!o->over) {
        errand_cancel(&o->errands);
        channel_cancel(&o->channel);
    }
    g_thread_join(o->thread);
    if (!o->over) {
        converge_end(&o->converge);
        dirty_log_stop(o->machine);
    }
    channel_clear(&o->channel);
    errand_place_clear(&o->errands);
    ram_map_free(o->ram);
    g_free(o->description);
    g_clear_pointer(&o->dirty, g_array_unref);
    g_clear_pointer(&o->states, g_ptr_array_unref);
    g_clear_error(&o->error);
    g_free(o);
}

static bool is_busy(const struct migration *g)
{
    return g->out && !g->out->over;
}

void migrate_out_limits(struct migration *g)
{
    if (is_busy(g) && !g->out->stopped)
        __atomic_store_n(&g->out->channel.limit, (uint64_t)g->numbers.max_bandwidth, __ATOMIC_RELAXED);
}

static bool may_start(struct machine *m, GError **error)
{
    struct migration *g = migration_of(m);
    if (is_busy(g))
        return vireo_fail(error, VIREO_ERROR_BUSY, "There's a migration process in progress");
    if (m->state == MACHINE_INMIGRATE)
        return vireo_fail(error, VIREO_ERROR_FAILED, "Guest is waiting for an incoming migration");
    if (m->state == MACHINE_POSTMIGRATE || g->left)
        return vireo_fail(error, VIREO_ERROR_FAILED, "Can't migrate the vm that was paused due to previous migration");
    return migrate_possible(m, error) && (!m->blockdev || block_may_change_hands(blockdev_graph(m->blockdev), error));
}

bool migrate_start(struct machine *m, const char *uri, GError **error)
{
    struct migration *g = migration_of(m);
    if (!channel_check(uri, error) || !may_start(m, error))
        return false;
    int fd = channel_connect(uri, error);
    if (fd < 0)
        return false;
    migrate_out_free(g_steal_pointer(&g->out));
    struct migrate_out *o = g_new0(struct migrate_out, 1);
    o->g = g;
    o->machine = m;
    o->began = now_ms();
    channel_init(&o->channel, fd);
    if (!dirty_log_start(m, error)) {
        channel_clear(&o->channel);
        g_free(o);
        return false;
    }
    errand_place_init(&o->errands);
    o->channel.limit = (uint64_t)g->numbers.max_bandwidth;
    converge_begin(&o->converge, m, &g->numbers);
    o->ram = ram_map_new(m);
    o->description = state_describe(m, o->ram);
    o->remaining = o->ram->pages * STREAM_PAGE;
    g->out = o;
    migration_set_status(g, MIGRATE_SETUP);
    migration_set_status(g, MIGRATE_ACTIVE);
    o->setup_ms = now_ms() - o->began;
    o->thread = sandbox_thread_new(SANDBOX_MIGRATE, "migrate", out_thread, o);
    return true;
}

void migrate_cancel(struct machine *m)
{
    struct migration *g = migration_of(m);
    if (!is_busy(g))
        return;
    migration_set_status(g, MIGRATE_CANCELLING);
    errand_cancel(&g->out->errands);
    channel_cancel(&g->out->channel);
}

bool migrate_continue(struct machine *m, const char *state, GError **error)
{
    struct migration *g = migration_of(m);
    if (strcmp(state, migrate_status_name(g->status)) || g->status != MIGRATE_PRE_SWITCHOVER)
        return vireo_fail(error, VIREO_ERROR_FAILED, "Migration not in expected state: %s", migrate_status_name(g->status));
    g_mutex_lock(&g->out->errands.lock);
    g->out->go_on = true;
    g_cond_broadcast(&g->out->errands.done);
    g_mutex_unlock(&g->out->errands.lock);
    return true;
}

/* ---- query-migrate ---- */

static struct json_object *ram_json(const struct migrate_out *o)
{
    uint64_t normal = __atomic_load_n(&o->stats.normal, __ATOMIC_RELAXED), sent = __atomic_load_n(&o->channel.bytes, __ATOMIC_RELAXED);
    int64_t ms = o->over ? o->total_ms : now_ms() - o->began;
    uint64_t total = o->ram->pages * STREAM_PAGE, remaining = o->rounds ? __atomic_load_n(&o->remaining, __ATOMIC_RELAXED) : total - MIN(total, (normal + o->stats.zero) * STREAM_PAGE);
    return json_make("transferred", json_object_new_int64((int64_t)sent), "remaining", json_object_new_int64(o->over && !o->error ? 0 : (int64_t)remaining), "total",
                     json_object_new_int64((int64_t)total), "duplicate", json_object_new_int64((int64_t)o->stats.zero), "skipped", json_object_new_int64(0), "normal",
                     json_object_new_int64((int64_t)normal), "normal-bytes", json_object_new_int64((int64_t)(normal * STREAM_PAGE)), "dirty-pages-rate",
                     json_object_new_int64((int64_t)__atomic_load_n(&o->dirty_rate, __ATOMIC_RELAXED)), "mbps",
                     json_object_new_double(ms > 0 ? (double)sent * 8 / 1000 / (double)ms : 0), "dirty-sync-count",
                     json_object_new_int64((int64_t)__atomic_load_n(&o->rounds, __ATOMIC_RELAXED) + 1), "postcopy-requests", json_object_new_int64(0), "page-size",
                     json_object_new_int64(STREAM_PAGE), "multifd-bytes", json_object_new_int64(0), "pages-per-second",
                     json_object_new_int64((int64_t)(__atomic_load_n(&o->bandwidth, __ATOMIC_RELAXED) / STREAM_PAGE)), "precopy-bytes", json_object_new_int64((int64_t)sent),
                     "downtime-bytes", json_object_new_int64(0), "postcopy-bytes", json_object_new_int64(0), NULL);
}

struct json_object *migrate_out_query(struct migration *g)
{
    const struct migrate_out *o = g->out;
    if (g->status == MIGRATE_NONE)
        return NULL;
    struct json_object *r = json_make("status", json_object_new_string(migrate_status_name(g->status)), NULL);
    if (g->failure)
        json_object_object_add(r, "error-desc", json_object_new_string(g->failure));
    if (!o || g->status == MIGRATE_SETUP)
        return r;
    json_object_object_add(r, "total-time", json_object_new_int64(o->over ? o->total_ms : now_ms() - o->began));
    json_object_object_add(r, "setup-time", json_object_new_int64(o->setup_ms));
    if (g->status == MIGRATE_COMPLETED)
        json_object_object_add(r, "downtime", json_object_new_int64(o->downtime_ms));
    else if (!o->over)
        json_object_object_add(r, "expected-downtime", json_object_new_int64((int64_t)__atomic_load_n(&o->expected_downtime, __ATOMIC_RELAXED)));
    if (o->converge.timer)
        json_object_object_add(r, "cpu-throttle-percentage", json_object_new_int((int)o->converge.percent));
    if (g->status != MIGRATE_FAILED && g->status != MIGRATE_CANCELLED)
        json_object_object_add(r, "ram", ram_json(o));
    return r;
}
