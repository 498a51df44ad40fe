/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The graph: which nodes there are, who is inside it with I/O, and who keeps others out to change it. The gate counts those
 * inside; a thread that quiesces closes it and waits for zero.
 */
#include <string.h>

#include "block/block_private.h"
#include "base/throttle.h"

struct block_graph *block_graph_create(void)
{
    struct block_graph *g = g_new0(struct block_graph, 1);
    g_mutex_init(&g->lock);
    g_cond_init(&g->changed);
    g_rec_mutex_init(&g->tree);
    g->nodes = g_ptr_array_new();
    g->resume = g_array_new(FALSE, FALSE, sizeof(struct block_resume));
    return g;
}

void block_graph_destroy(struct block_graph *g)
{
    if (!g)
        return;
    g_assert(!g->nodes->len);
    throttle_groups_destroy(g->own_throttle);
    g_ptr_array_unref(g->nodes);
    g_array_unref(g->resume);
    g_mutex_clear(&g->lock);
    g_cond_clear(&g->changed);
    g_rec_mutex_clear(&g->tree);
    g_free(g);
}

/* ---- the gate ---- */

enum { CLOSED = 1u << 30 }; /* in g->inside, beside the number of those inside */

bool block_try_enter(struct block_graph *g)
{
    int old = g_atomic_int_get(&g->inside);
    while (!(old & CLOSED)) {
        if (__atomic_compare_exchange_n(&g->inside, &old, old + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

void block_enter(struct block_graph *g)
{
    while (!block_try_enter(g)) {
        g_mutex_lock(&g->lock);
        while (g_atomic_int_get(&g->inside) & CLOSED)
            g_cond_wait(&g->changed, &g->lock);
        g_mutex_unlock(&g->lock);
    }
}

void block_leave(struct block_graph *g)
{
    if (__atomic_sub_fetch(&g->inside, 1, __ATOMIC_RELEASE) != CLOSED)
        return;
    g_mutex_lock(&g->lock);
    g_cond_broadcast(&g->changed);
    g_mutex_unlock(&g->lock);
}

void block_quiesce(struct block_graph *g)
{
    g_mutex_lock(&g->lock);
    if (g->quiescer != g_thread_self()) {
        while (g->quiescer)
            g_cond_wait(&g->changed, &g->lock);
        g->quiescer = g_thread_self();
        __atomic_or_fetch(&g->inside, CLOSED, __ATOMIC_ACQ_REL);
        while (__atomic_load_n(&g->inside, __ATOMIC_ACQUIRE) != CLOSED)
            g_cond_wait(&g->changed, &g->lock);
    }
    g->quiesced++;
    g_mutex_unlock(&g->lock);
}

void block_resume(struct block_graph *g)
{
    g_autoptr(GArray) tell = NULL;
    g_mutex_lock(&g->lock);
    g_assert(g->quiescer == g_thread_self());
    if (!--g->quiesced) {
        g->quiescer = NULL;
        __atomic_and_fetch(&g->inside, ~CLOSED, __ATOMIC_ACQ_REL);
        g_cond_broadcast(&g->changed);
        tell = g_array_copy(g->resume);
    }
    g_mutex_unlock(&g->lock);
    for (guint i = 0; tell && i < tell->len; i++) {
        struct block_resume *r = &g_array_index(tell, struct block_resume, i);
        r->fn(r->opaque);
    }
}

void block_graph_on_resume(struct block_graph *g, void (*fn)(void *opaque), void *opaque)
{
    g_mutex_lock(&g->lock);
    for (guint i = 0; i < g->resume->len; i++) {
        if (g_array_index(g->resume, struct block_resume, i).opaque == opaque) {
            g_array_remove_index(g->resume, i);
            break;
        }
    }
    if (fn) {
        const struct block_resume r = { fn, opaque };
        g_array_append_val(g->resume, r);
    }
    g_mutex_unlock(&g->lock);
}

bool block_graph_wanted(struct block_graph *g)
{
    return g_atomic_int_get(&g->inside) & CLOSED;
}

/* ---- groups of limits ---- */

void block_graph_set_throttle(struct block_graph *g, struct throttle_groups *set)
{
    g_mutex_lock(&g->lock);
    g->throttle = set;
    g_mutex_unlock(&g->lock);
}

struct throttle_groups *block_graph_throttle(struct block_graph *g)
{
    g_mutex_lock(&g->lock);
    if (!g->throttle)
        g->throttle = g->own_throttle = throttle_groups_create();
    struct throttle_groups *set = g->throttle;
    g_mutex_unlock(&g->lock);
    return set;
}

/* ---- secrets ---- */

void block_graph_set_secrets(struct block_graph *g, secret_find_fn *find, void *opaque)
{
    g_mutex_lock(&g->lock);
    g->secrets = find;
    g->secrets_opaque = opaque;
    g_mutex_unlock(&g->lock);
}

GBytes *block_graph_secret(struct block_graph *g, const char *id, GError **error)
{
    g_mutex_lock(&g->lock);
    secret_find_fn *find = g->secrets;
    void *opaque = g->secrets_opaque;
    g_mutex_unlock(&g->lock);
    if (find)
        return find(opaque, id, error);
    vireo_fail(error, VIREO_ERROR_NOT_FOUND, "No secret with id '%s'", id);
    return NULL;
}

/* ---- events ---- */

void block_graph_set_events(struct block_graph *g, block_event_fn *fn, void *opaque)
{
    g_mutex_lock(&g->lock);
    g->event = fn;
    g->event_opaque = opaque;
    g_mutex_unlock(&g->lock);
}

void block_graph_event(struct block_graph *g, const char *event, struct json_object *data)
{
    g_mutex_lock(&g->lock);
    block_event_fn *fn = g->event;
    void *opaque = g->event_opaque;
    g_mutex_unlock(&g->lock);
    if (fn)
        fn(opaque, event, data);
    json_object_put(data);
}

/* ---- nodes ---- */

struct block_node *block_find(struct block_graph *g, const char *node_name)
{
    struct block_node *found = NULL;
    g_rec_mutex_lock(&g->tree);
    for (guint i = 0; i < g->nodes->len && !found; i++) {
        struct block_node *n = g->nodes->pdata[i];
        if (!strcmp(n->name, node_name))
            found = n;
    }
    g_rec_mutex_unlock(&g->tree);
    return found;
}

static void release(void *n)
{
    block_node_unref(n);
}

GPtrArray *block_nodes(struct block_graph *g)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(release);
    g_rec_mutex_lock(&g->tree);
    for (guint i = 0; i < g->nodes->len; i++)
        g_ptr_array_add(list, block_node_ref(g->nodes->pdata[i]));
    g_rec_mutex_unlock(&g->tree);
    return list;
}

bool block_graph_add(struct block_graph *g, struct block_node *n, GError **error)
{
    bool ok = true;
    g_rec_mutex_lock(&g->tree);
    if (!n->name) {
        n->auto_named = true;
        n->name = g_strdup_printf("#block%03u", g->counter++);
    } else if (block_find(g, n->name)) {
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate nodes with node-name='%s'", n->name);
    }
    if (ok)
        g_ptr_array_add(g->nodes, n);
    g_rec_mutex_unlock(&g->tree);
    return ok;
}

void block_graph_remove(struct block_graph *g, struct block_node *n)
{
    g_rec_mutex_lock(&g->tree);
    g_ptr_array_remove(g->nodes, n);
    g_rec_mutex_unlock(&g->tree);
}
