/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The network filter driver: its start and its end. Rules stay in the kernel when the daemon ends; the next one finds the bindings and makes them anew. */
#include "manage/drivers/nwfilter/nwfilter.h"

#include <string.h>

static void driver_free(struct nwfilter_driver *dr)
{
    GHashTableIter i;
    gpointer b;
    g_mutex_lock(&dr->change);
    g_hash_table_iter_init(&i, dr->bindings);
    while (g_hash_table_iter_next(&i, NULL, &b))
        nwfilter_learn_end(b);
    g_mutex_unlock(&dr->change);
    g_thread_pool_free(dr->learned, FALSE, TRUE);
    g_hash_table_unref(dr->bindings); /* a learner that began meanwhile ends here */
    g_hash_table_unref(dr->filters);
    g_mutex_clear(&dr->change);
    g_mutex_clear(&dr->lock);
    g_free(dr->config_dir);
    g_free(dr->state_dir);
    g_free(dr->table);
    g_free(dr);
}

/* Daemons with other directories have tables of their own. "vireo_": the network driver's watch looks for that. */
static char *table_name(const char *state_dir)
{
    return g_str_equal(state_dir, "/run/vireo/nwfilter-binding") ? g_strdup("vireo_nwfilter") : g_strdup_printf("vireo_nwfilter_%08x", g_str_hash(state_dir));
}

static bool start(struct manage_state *s, void **ret_data, GError **error)
{
    struct nwfilter_driver *dr = g_new0(struct nwfilter_driver, 1);
    g_autoptr(GError) why = NULL;
    dr->state = s;
    dr->config_dir = g_build_filename(s->dirs.config, "nwfilter", NULL);
    dr->state_dir = g_build_filename(s->dirs.state, "nwfilter-binding", NULL);
    dr->table = table_name(dr->state_dir);
    g_mutex_init(&dr->change);
    g_mutex_init(&dr->lock);
    dr->filters = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nwfilter_free);
    dr->bindings = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nwfilter_binding_free);
    dr->learned = g_thread_pool_new(nwfilter_learn_done, dr, 1, FALSE, NULL);
    nwfilter_standard(dr);
    nwfilter_load(dr);
    nwfilter_binding_load(dr);
    if (!nwfilter_apply(dr, &why))
        g_warning("the rules of network filters are as the daemon before left them: %s", why->message);
    nwfilter_binding_serve(dr);
    *ret_data = dr;
    return true;
}

static void stop(struct manage_state *s, void *data)
{
    if (data)
        driver_free(data);
}

static const struct manage_row *const more[] = { nwfilter_rows_binding, NULL };
const struct manage_driver manage_driver_nwfilter = { .name = "nwfilter", .rows = nwfilter_rows_filter, .more_rows = more, .start = start, .stop = stop };
