/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain driver: its rows, its start and its end. Machines go on when the daemon ends. */
#include <errno.h>

#include "manage/drivers/domain/snapshot/domain_moment.h"
#include "manage/drivers/domain/tune/domain_cgroup.h"
#include "manage/drivers/domain/domain_journal.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_save.h"

enum { WORKERS = 8 };

static const struct manage_row *const more[] = { domain_rows_display, domain_rows_peek, domain_rows_list, domain_rows_define, domain_rows_life, domain_rows_save, domain_rows_managed_save, domain_rows_dump, domain_rows_info, domain_rows_config, domain_rows_metadata, domain_rows_console,
                                                 domain_rows_agent, domain_rows_guest, domain_rows_device, domain_rows_block, domain_rows_iotune, domain_rows_blockjob, domain_rows_checkpoint, domain_rows_backup, domain_rows_blockstart, domain_rows_snapshot, domain_rows_stats, domain_rows_stats_all,
                                                 domain_rows_pin, domain_rows_sched, domain_rows_limits, domain_rows_blkio, domain_rows_iothread, domain_rows_stats_cpu, domain_rows_perf, domain_rows_threshold, domain_rows_vcpu, domain_rows_guest_vcpus, domain_rows_bandwidth, domain_rows_migrate, domain_rows_migrate_tune,
                                                 NULL };
static const struct manage_row rows[] = { { 0, NULL } };

static bool make_dirs(struct domain_driver *dr, GError **error)
{
    const char *const dirs[] = { dr->config_dir, dr->autostart_dir, dr->state_dir, dr->lib_dir, dr->log_dir };
    for (unsigned i = 0; i < G_N_ELEMENTS(dirs); i++)
        if (g_mkdir_with_parents(dirs[i], 0711) < 0)
            return manage_fail_errno(error, errno, "cannot make the directory '%s'", dirs[i]);
    return true;
}

static void driver_free(struct domain_driver *dr)
{
    if (dr->workers)
        g_thread_pool_free(dr->workers, FALSE, TRUE);
    journal_close(dr->journal);
    g_queue_clear_full(&dr->recent, (GDestroyNotify)domain_unref);
    domain_list_free(dr->list);
    if (dr->emulators)
        g_hash_table_unref(dr->emulators);
    cgroup_host_unref(dr->cgroups);
    g_mutex_clear(&dr->recent_lock);
    g_mutex_clear(&dr->offline_lock);
    if (dr->offline)
        g_hash_table_unref(dr->offline);
    g_free(dr->config_dir);
    g_free(dr->autostart_dir);
    g_free(dr->state_dir);
    g_free(dr->lib_dir);
    g_free(dr->log_dir);
    g_free(dr);
}

static bool driver_start(struct manage_state *s, void **ret_data, GError **error)
{
    struct domain_driver *dr = g_new0(struct domain_driver, 1);
    dr->state = s;
    g_mutex_init(&dr->recent_lock);
    g_mutex_init(&dr->offline_lock);
    dr->list = domain_list_new();
    dr->config_dir = g_build_filename(s->dirs.config, "qemu", NULL);
    dr->autostart_dir = g_build_filename(dr->config_dir, "autostart", NULL);
    dr->state_dir = g_build_filename(s->dirs.state, "qemu", NULL);
    dr->lib_dir = g_build_filename(s->dirs.lib, "qemu", NULL);
    dr->log_dir = g_build_filename(s->dirs.log, "qemu", NULL);
    if (!make_dirs(dr, error)) {
        driver_free(dr);
        return false;
    }
    dr->cgroups = cgroup_host_new("");
    dr->workers = g_thread_pool_new(domain_do_work, dr, WORKERS, FALSE, NULL);
    *ret_data = dr;
    manage_services_of(s)->disk_user = domain_disk_user;
    domain_load_definitions(dr);
    domain_managed_load(dr);
    domain_attach_running(dr);
    domain_moments_load(dr);
    return true;
}

static void autostart_one(struct domain *d, void *opaque)
{
    g_autoptr(GError) error = NULL;
    if (!domain_begin(d, "start", false, &error)) {
        g_warning("domain '%s' is not started: %s", d->name, error->message);
        return;
    }
    if (d->id < 0 && !domain_start_or_restore(d, NULL, 0, &error))
        g_warning("domain '%s' is to start with the host and did not: %s", d->name, error->message);
    domain_end(d);
}

/* Once per start of the host: STATE does not outlive it. */
static void driver_autostart(struct manage_state *s, void *data)
{
    struct domain_driver *dr = data;
    g_autofree char *mark = g_build_filename(dr->state_dir, "autostarted", NULL);
    if (g_file_test(mark, G_FILE_TEST_EXISTS))
        return;
    g_file_set_contents(mark, "", 0, NULL);
    g_autoptr(GPtrArray) all = domain_all(dr);
    for (unsigned i = 0; i < all->len; i++) {
        struct domain *d = all->pdata[i];
        if (d->autostart && d->id < 0)
            domain_queue(d, autostart_one, NULL);
    }
}

static void driver_stop(struct manage_state *s, void *data)
{
    struct domain_driver *dr = data;
    g_atomic_int_set(&dr->stopping, 1);
    migrate_listen_stop(dr);
    g_autoptr(GPtrArray) all = domain_all(dr);
    for (unsigned i = 0; i < all->len; i++) {
        struct domain *d = all->pdata[i];
        g_mutex_lock(&d->lock);
        struct monitor *m = g_steal_pointer(&d->monitor);
        GSource *watch = d->run ? g_steal_pointer(&d->run->watch) : NULL;
        g_mutex_unlock(&d->lock);
        if (watch) {
            g_source_destroy(watch);
            g_source_unref(watch);
        }
        monitor_close(m);
    }
    driver_free(dr);
}

/* A client that started machines with autodestroy has gone. */
static void destroy_owned(struct domain *d, void *opaque)
{
    uint64_t *owner = opaque;
    domain_begin_wait(d, "destroy");
    if (d->id >= 0 && d->owner == *owner)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_DESTROYED);
    domain_end(d);
    g_free(owner);
}

static void conn_closed(struct manage_conn *c, void *data)
{
    g_autoptr(GPtrArray) all = domain_all(data);
    domain_migrate_forget_offline(data, c->id);
    for (unsigned i = 0; i < all->len; i++) {
        struct domain *d = all->pdata[i];
        g_mutex_lock(&d->lock);
        bool mine = d->autodestroy && d->owner == c->id;
        g_mutex_unlock(&d->lock);
        domain_migrate_conn_closed(d, c->id);
        if (mine)
            domain_queue(d, destroy_owned, g_memdup2(&c->id, sizeof(c->id)));
    }
}

const struct manage_driver manage_driver_domain = {
    .name = "domain", .rows = rows, .more_rows = more, .start = driver_start, .autostart = driver_autostart, .stop = driver_stop, .conn_closed = conn_closed,
};
