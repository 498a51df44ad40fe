/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * After a start of the daemon: the machines of the one before. Their status files say which process it was; the same number with the same start time
 * is the same process. Monitors are connected by worker threads, in a job of each domain, so that the daemon answers at once.
 */
#include <dirent.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/drivers/domain/backup/domain_backup.h"
#include "manage/drivers/domain/net/domain_macvtap.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"
#include "manage/drivers/domain/domain_status.h"
#include "manage/drivers/domain/tune/domain_tune.h"

enum { ATTACH_WAIT_MS = 20000, SHUTOFF_REASONS = VIR_DOMAIN_SHUTOFF_DAEMON + 1 };

/* The process whose environment has this directory: for a daemon that ended before it wrote the number down. 0: none. */
static pid_t find_process(const char *dir)
{
    g_autofree char *want = g_strconcat("VIREO_DOMAIN=", dir, NULL);
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while (proc && (name = g_dir_read_name(proc))) {
        g_autofree char *path = g_strdup_printf("/proc/%s/environ", name), *text = NULL;
        gsize size = 0;
        if (!g_ascii_isdigit(name[0]) || atoi(name) == getpid() || !g_file_get_contents(path, &text, &size, NULL))
            continue;
        for (const char *p = text; p < text + size; p += strlen(p) + 1)
            if (!strcmp(p, want))
                return (pid_t)atoi(name);
    }
    return 0;
}

/* On a worker thread, inside the job that take() began. */
static void attach(struct domain *d, void *opaque)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(d->dir, "monitor.sock", NULL);
    struct monitor *m = monitor_open(d, path, ATTACH_WAIT_MS, domain_on_event, &error);
    g_mutex_lock(&d->lock);
    d->monitor = m;
    bool autodestroy = d->autodestroy;
    g_mutex_unlock(&d->lock);
    if (!m) {
        g_warning("domain '%s': process %d does not answer and is ended: %s", d->name, (int)d->pid, error->message);
        domain_stop(d, VIR_DOMAIN_SHUTOFF_CRASHED);
    } else if (autodestroy) {
        domain_stop(d, VIR_DOMAIN_SHUTOFF_DESTROYED); /* its client has gone with the daemon */
    } else if (domain_saving_settle(d)) {
        (void)domain_snapshot_settle(d, true);
        if (d->migration) {
            domain_backup_refresh(d);
            domain_blockjob_refresh(d);
            domain_migrate_found(d);
        } else if (domain_read_state(d, &error)) { /* one that has shut down has been ended */
            domain_backup_refresh(d);
            domain_blockjob_refresh(d);
        } else {
            g_warning("domain '%s': %s", d->name, error->message);
        }
    }
    domain_end(d);
}

/* The domain of a status file: the one that is defined, or a new transient one. */
static struct domain *domain_of(struct domain_driver *dr, const struct status *st, GError **error)
{
    uint8_t uuid[16];
    if (!manage_uuid_parse(el_get_or(doc_root(st->live), "uuid", ""), uuid))
        return manage_null(error, VIR_ERR_XML_ERROR, "it has no UUID");
    return domain_claim(dr, uuid, st->name, error);
}

/* Of a status file that an older daemon wrote. */
static unsigned highest_node(struct doc *live)
{
    unsigned max = 0;
    el_each(disk, el_find(doc_root(live), "devices"), "disk")
        for (const struct el *e = disk; e; e = domain_chain_below(e))
            max = MAX(max, domain_chain_index(e));
    return max;
}

static void take(struct domain *d, struct status *st)
{
    struct domain_run *run = g_new0(struct domain_run, 1);
    run->pidfd = -1;
    run->is_vireo = st->vireo;
    run->fake_reboot = st->rebooting;
    run->networks = g_ptr_array_ref(st->networks);
    run->taps = g_ptr_array_ref(st->taps);
    g_mutex_lock(&d->lock);
    d->live = g_steal_pointer(&st->live);
    d->run = run;
    d->dir = g_strdup(st->dir);
    d->pid = (pid_t)st->pid;
    d->pid_start = (uint64_t)st->start;
    d->state = (int)st->state;
    d->reason = (int)st->reason;
    d->started = st->since;
    d->autodestroy = st->autodestroy;
    d->jobs = g_ptr_array_ref(st->jobs);
    d->backup = g_steal_pointer(&st->backup);
    d->record = g_steal_pointer(&st->record);
    d->saving = g_steal_pointer(&st->saving);
    d->migration = g_steal_pointer(&st->migration);
    d->held = d->migration ? "migration" : NULL;
    d->agent_patience = st->agent_patience;
    d->agent_timeout = (int)st->agent_timeout;
    d->nodes = MAX((unsigned)st->nodes, highest_node(d->live));
    domain_summary_locked(d, d->live);
    g_mutex_unlock(&d->lock);
    domain_set_id(d, (int)st->id);
    domain_tune_found(d);
    domain_show(d);
    if (st->id > g_atomic_int_get(&d->driver->next_id))
        g_atomic_int_set(&d->driver->next_id, (gint)st->id);
}

/* Nothing of it runs: what is left of it goes, as at any end. Clients that come later see it shut off. */
static void clear(struct domain *d, int reason)
{
    domain_begin_wait(d, "stop");
    if (reason == VIR_DOMAIN_SHUTOFF_MIGRATED && d->migration && (d->migration->flags & VIR_MIGRATE_UNDEFINE_SOURCE))
        migrate_undefine(d);
    domain_stop(d, reason);
    domain_end(d);
}

static bool attach_file(struct domain_driver *dr, const char *path, GError **error)
{
    struct status *st = status_read(path, error);
    domain_auto *d = st ? domain_of(dr, st, error) : NULL;
    if (!d) {
        status_free(st);
        return false;
    }
    bool half = (st->state == VIR_DOMAIN_PAUSED && st->reason == VIR_DOMAIN_PAUSED_STARTING_UP) || domain_migrate_half(st->migration);
    if (half && st->pid == 0)
        st->pid = find_process(st->dir), st->start = (gint64)domain_pid_start((pid_t)st->pid);
    bool alive = st->pid > 0 && st->start && domain_pid_start((pid_t)st->pid) == (uint64_t)st->start;
    if (!alive)
        st->pid = 0;
    int stopping = st->stopping > 0 && st->stopping < SHUTOFF_REASONS ? (int)st->stopping : 0;
    take(d, st);
    status_free(st);
    domain_moments_load_one(d); /* a record may name one */
    if (alive && (half || stopping)) /* its guest has not run yet, or has been told to end already */
        alive = !domain_kill(d, half ? 0 : 2000);
    if (half || stopping || !alive || !domain_watch(d)) {
        clear(d, half ? VIR_DOMAIN_SHUTOFF_FAILED : stopping ? stopping : d->state == VIR_DOMAIN_SHUTDOWN ? VIR_DOMAIN_SHUTOFF_SHUTDOWN : VIR_DOMAIN_SHUTOFF_UNKNOWN);
        return true;
    }
    domain_begin_wait(d, "attach to the running machine");
    domain_queue(d, attach, NULL);
    return true;
}

/* Directories of machines that were never written down, or not taken away. */
static void clear_directories(struct domain_driver *dr)
{
    g_autoptr(GHashTable) used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) all = domain_all(dr);
    g_autoptr(GDir) dir = g_dir_open(dr->state_dir, 0, NULL);
    const char *name;
    for (unsigned i = 0; i < all->len; i++)
        if (((struct domain *)all->pdata[i])->dir)
            g_hash_table_add(used, g_path_get_basename(((struct domain *)all->pdata[i])->dir));
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(dr->state_dir, name, NULL);
        if (name[0] == '.' && strstr(name, ".xml.")) /* half written */
            unlink(path);
        else if (g_str_has_prefix(name, "domain-") && g_file_test(path, G_FILE_TEST_IS_DIR) && !g_hash_table_contains(used, name)) {
            domain_macvtap_remove_all(path);
            domain_remove_tree(path);
        }
    }
}

void domain_attach_running(struct domain_driver *dr)
{
    g_autoptr(GDir) dir = g_dir_open(dr->state_dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autoptr(GError) error = NULL;
        g_autofree char *path = g_build_filename(dr->state_dir, name, NULL);
        if (name[0] != '.' && g_str_has_suffix(name, ".xml") && !attach_file(dr, path, &error))
            g_warning("%s: the machine is not found again: %s", path, error->message);
    }
    clear_directories(dr);
}
