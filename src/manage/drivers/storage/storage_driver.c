/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The storage driver: start, stop, and what other drivers ask. The first file of this room; storage.h says what is where. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "storage.h"

/* ---- what other drivers ask ---- */

static struct storage_volume *volume_in(struct storage_pool *p, const char *name)
{
    g_mutex_lock(&p->lock);
    struct storage_volume *v = p->active ? g_hash_table_lookup(p->volumes, name) : NULL;
    if (v && v->building)
        v = NULL;
    if (v)
        storage_volume_ref(v);
    g_mutex_unlock(&p->lock);
    return v;
}

static char *volume_path(struct manage_state *state, const char *pool, const char *volume, char **ret_format, GError **error)
{
    storage_pool_auto *p = storage_find_name(manage_data(state, "storage"), pool, error);
    if (!p)
        return NULL;
    storage_volume_auto *v = volume_in(p, volume);
    if (!v)
        return manage_null(error, VIR_ERR_NO_STORAGE_VOL, "no volume '%s' in pool '%s', or the pool is not active", volume, pool);
    if (ret_format)
        *ret_format = g_strdup(v->type == VIR_STORAGE_VOL_BLOCK || !v->target.format ? "raw" : v->target.format);
    return g_strdup(v->target.path);
}

static bool volume_of_path(struct manage_state *state, const char *path, char **ret_pool, char **ret_volume)
{
    g_autoptr(GPtrArray) all = storage_all(manage_data(state, "storage"));
    for (unsigned i = 0; i < all->len; i++) {
        struct storage_pool *p = all->pdata[i];
        GHashTableIter it;
        gpointer value;
        bool hit = false;
        g_mutex_lock(&p->lock);
        g_hash_table_iter_init(&it, p->volumes);
        while (!hit && g_hash_table_iter_next(&it, NULL, &value)) {
            const struct storage_volume *v = value;
            hit = !g_strcmp0(v->target.path, path);
            if (hit && ret_volume)
                *ret_volume = g_strdup(v->name);
        }
        g_mutex_unlock(&p->lock);
        if (hit && ret_pool)
            *ret_pool = g_strdup(p->name);
        if (hit)
            return true;
    }
    return false;
}

/* ---- start and stop ---- */

/* The pool that every host has from the first start on. */
static void make_default(struct storage *s)
{
    g_autofree char *images = g_build_filename(s->state->dirs.lib, "images", NULL);
    g_autofree char *xml = g_markup_printf_escaped("<pool type='dir'><name>default</name><target><path>%s</path></target></pool>", images);
    g_autofree char *link = g_build_filename(s->autostart, "default.xml", NULL), *file = g_build_filename(s->config, "default.xml", NULL);
    g_autoptr(GError) e = NULL;
    const struct storage_backend *b;
    bool new;
    struct doc *d = storage_pool_parse(xml, &b, &e);
    storage_pool_auto *p = d ? storage_pool_define(s, d, b, true, &new, &e) : NULL;
    if (!p) {
        log_warn("storage: the pool 'default' cannot be made: %s", e->message);
        return;
    }
    if (g_mkdir_with_parents(images, 0711) < 0)
        log_warn("storage: cannot make '%s': %s", images, g_strerror(errno));
    p->autostart = g_mkdir_with_parents(s->autostart, 0700) == 0 && symlink(file, link) == 0;
}

static bool start(struct manage_state *state, void **ret_data, GError **error)
{
    (void)error;
    struct storage *s = g_new0(struct storage, 1);
    s->state = state;
    s->config = g_build_filename(state->dirs.config, "storage", NULL);
    s->autostart = g_build_filename(s->config, "autostart", NULL);
    s->status = g_build_filename(state->dirs.state, "storage", NULL);
    g_mutex_init(&s->lock);
    s->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)storage_pool_unref);
    s->by_uuid = storage_uuid_table();
    s->jobs = g_ptr_array_new();
    *ret_data = s;
    struct manage_services *services = manage_services_of(state);
    services->volume_path = volume_path;
    services->volume_of_path = volume_of_path;
    bool first = access(s->config, F_OK) < 0;
    storage_load(s);
    if (first)
        make_default(s);
    return true;
}

/* Once while the host is up: a pool that was stopped on purpose stays so when the daemon is started anew. */
static void autostart(struct manage_state *state, void *data)
{
    (void)state;
    struct storage *s = data;
    g_autofree char *mark = g_build_filename(s->status, "autostarted", NULL);
    if (access(mark, F_OK) == 0)
        return;
    g_autoptr(GPtrArray) all = storage_all(s);
    for (unsigned i = 0; i < all->len; i++) {
        struct storage_pool *p = all->pdata[i];
        g_autoptr(GError) e = NULL;
        if (!p->autostart || p->active)
            continue;
        g_mutex_lock(&p->work);
        if (!storage_backend_tools(p->backend, &e) || !storage_pool_start(p, &e))
            log_warn("storage: pool '%s' does not start: %s", p->name, e->message);
        g_mutex_unlock(&p->work);
    }
    g_autoptr(GError) e = NULL;
    if (!manage_write_file(mark, "", 0, 0600, &e))
        log_warn("storage: %s", e->message);
}

/* conn NULL: all. */
static void cancel_jobs(struct storage *s, const struct manage_conn *conn)
{
    g_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->jobs->len; i++) {
        struct storage_job *j = s->jobs->pdata[i];
        if (!conn || j->conn == conn)
            g_atomic_int_set(&j->cancelled, 1);
    }
    g_mutex_unlock(&s->lock);
}

static void conn_closed(struct manage_conn *c, void *data) { cancel_jobs(data, c); }

static void stop(struct manage_state *state, void *data)
{
    (void)state;
    struct storage *s = data;
    if (!s)
        return;
    cancel_jobs(s, NULL);
    g_hash_table_unref(s->by_uuid);
    g_hash_table_unref(s->by_name);
    g_ptr_array_unref(s->jobs);
    g_mutex_clear(&s->lock);
    g_free(s->config);
    g_free(s->autostart);
    g_free(s->status);
    g_free(s);
}

static const struct manage_row *const more[] = { storage_volume_rows, NULL };
const struct manage_driver manage_driver_storage = {
    .name = "storage", .rows = storage_pool_rows, .more_rows = more, .start = start, .autostart = autostart, .stop = stop, .conn_closed = conn_closed,
};
