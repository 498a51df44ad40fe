/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The drivers in this process: vireo:///embed?root=DIR and test:///default. Connections with the same root share one state, which lives as long as one of
 * them; a thread runs its main loop. Calls go to manage_dispatch() on the caller's thread.
 * A stream has a thread that reads ahead up to STREAM_AHEAD bytes; what is written goes to the source on the caller's thread.
 */
#include <string.h>
#include <unistd.h>

#include "manage/api/api.h"

#define STREAM_CHUNK (64 * 1024)
#define STREAM_AHEAD (1024 * 1024)

struct embed_state {
    int refs;
    char *key;
    struct manage_state *state;
    GMainLoop *loop;
    GThread *thread;
};

/* All states of this process, by root; the C interface has no place to keep them. */
static struct {
    GMutex lock;
    GHashTable *states;
    GMutex live_lock;
    GHashTable *live; /* connections that take events: an event may be under way on another thread while one ends */
} all;

struct embed {
    struct embed_state *shared;
    struct manage_conn *conn;
};

/* ---- states ---- */

static gpointer run_loop(gpointer opaque)
{
    struct embed_state *s = opaque;
    GMainContext *context = g_main_loop_get_context(s->loop);
    g_main_context_push_thread_default(context);
    g_main_loop_run(s->loop);
    g_main_context_pop_thread_default(context);
    return NULL;
}

/* The loop ends from within itself, so that quitting cannot come before running. */
static gboolean on_quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void state_end(struct embed_state *s)
{
    if (s->state)
        manage_state_free(s->state);
    g_autoptr(GSource) quit = g_idle_source_new();
    g_source_set_callback(quit, on_quit, s->loop, NULL);
    g_source_attach(quit, g_main_loop_get_context(s->loop));
    g_thread_join(s->thread);
    g_main_loop_unref(s->loop);
    g_free(s->key);
    g_free(s);
}

/* Under all.lock. */
static struct embed_state *state_new_locked(const char *key, const struct manage_table *table, const char *root, GError **error)
{
    struct embed_state *s = g_new0(struct embed_state, 1);
    g_autoptr(GMainContext) context = g_main_context_new();
    s->refs = 1;
    s->key = g_strdup(key);
    s->loop = g_main_loop_new(context, FALSE);
    s->thread = g_thread_new("vireo-embed", run_loop, s);
    s->state = manage_state_new(table, root, context, error);
    if (!s->state) {
        state_end(s);
        return NULL;
    }
    s->state->embedded = true;
    g_hash_table_insert(all.states, s->key, s);
    return s;
}

static struct embed_state *state_get(const char *key, const struct manage_table *table, const char *root, GError **error)
{
    g_mutex_lock(&all.lock);
    if (!all.states)
        all.states = g_hash_table_new(g_str_hash, g_str_equal);
    struct embed_state *s = g_hash_table_lookup(all.states, key);
    if (s)
        s->refs++;
    else
        s = state_new_locked(key, table, root, error);
    g_mutex_unlock(&all.lock);
    return s;
}

static void state_put(struct embed_state *s)
{
    g_mutex_lock(&all.lock);
    bool last = --s->refs == 0;
    if (last) {
        g_hash_table_remove(all.states, s->key);
        state_end(s); /* under the lock: the next open of this root finds nobody on its files */
    }
    g_mutex_unlock(&all.lock);
}

/* ---- streams ---- */

struct embed_stream {
    virStreamPtr st;
    struct manage_stream *source;
    GThread *reader; /* NULL: nothing comes from this source */
    GMutex lock; /* what follows */
    GCond cond;
    GByteArray *ahead;
    int64_t hole; /* behind the bytes in `ahead` */
    GError *error;
    bool ended, cancelled;
};

static gpointer read_ahead(gpointer opaque)
{
    struct embed_stream *s = opaque;
    g_autofree uint8_t *buffer = g_malloc(STREAM_CHUNK);
    for (bool go_on = true; go_on;) {
        int64_t hole = 0;
        GError *error = NULL;
        gssize n = s->source->ops->read(s->source->opaque, buffer, STREAM_CHUNK, &hole, &error);
        g_mutex_lock(&s->lock);
        if (n > 0)
            g_byte_array_append(s->ahead, buffer, (guint)n);
        s->hole = hole;
        s->ended = n < 0 || (n == 0 && hole <= 0);
        s->error = error;
        g_cond_broadcast(&s->cond);
        api_stream_changed(s->st);
        while (!s->cancelled && !s->ended && (s->ahead->len >= STREAM_AHEAD || s->hole > 0))
            g_cond_wait(&s->cond, &s->lock);
        go_on = !s->ended && !s->cancelled;
        g_mutex_unlock(&s->lock);
    }
    return NULL;
}

static void stream_begin(virStreamPtr st, struct manage_stream *source)
{
    struct embed_stream *s = g_new0(struct embed_stream, 1);
    s->source = source;
    s->st = st;
    s->ahead = g_byte_array_new();
    g_mutex_init(&s->lock);
    g_cond_init(&s->cond);
    st->link = s;
    s->ended = !source->ops->read;
    if (source->ops->read)
        s->reader = g_thread_new("vireo-stream", read_ahead, s);
}

static int stream_send(virStreamPtr st, const void *data, size_t size, bool wait, GError **error)
{
    struct embed_stream *s = st->link;
    if (!s->source->ops->write)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "nothing can be sent to this stream"), -1;
    return s->source->ops->write(s->source->opaque, data, (gssize)size, error) ? (int)size : -1;
}

static bool stream_send_hole(virStreamPtr st, int64_t length, GError **error)
{
    struct embed_stream *s = st->link;
    if (s->source->ops->hole)
        return s->source->ops->hole(s->source->opaque, length, error);
    g_autofree char *zeroes = g_malloc0(STREAM_CHUNK);
    while (length > 0) {
        int n = stream_send(st, zeroes, (size_t)MIN(length, STREAM_CHUNK), true, error);
        if (n < 0)
            return false;
        length -= n;
    }
    return true;
}

static int stream_recv(virStreamPtr st, void *data, size_t size, bool wait, int64_t *ret_hole, GError **error)
{
    struct embed_stream *s = st->link;
    int n = 0;
    g_mutex_lock(&s->lock);
    while (wait && !s->ahead->len && !s->hole && !s->ended)
        g_cond_wait(&s->cond, &s->lock);
    if (s->ahead->len) {
        n = (int)MIN(size, s->ahead->len);
        memcpy(data, s->ahead->data, (size_t)n);
        g_byte_array_remove_range(s->ahead, 0, (guint)n);
    } else if (s->hole) {
        *ret_hole = s->hole;
        s->hole = 0;
    } else if (s->error) {
        g_propagate_error(error, g_error_copy(s->error));
        n = -1;
    } else if (!s->ended) {
        n = -2;
    }
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
    return n;
}

static void stream_cancel(struct embed_stream *s)
{
    if (s->source->ops->cancel)
        s->source->ops->cancel(s->source->opaque);
    g_mutex_lock(&s->lock);
    s->cancelled = true;
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
}

static bool stream_finish(virStreamPtr st, bool abort, GError **error)
{
    struct embed_stream *s = st->link;
    bool good = abort || !s->source->ops->finish || s->source->ops->finish(s->source->opaque, error);
    stream_cancel(s);
    return good;
}

static int stream_ready(virStreamPtr st)
{
    struct embed_stream *s = st->link;
    g_mutex_lock(&s->lock);
    int ready = s->ahead->len || s->hole || s->ended ? VIR_STREAM_EVENT_READABLE : 0;
    if (s->error)
        ready |= VIR_STREAM_EVENT_ERROR;
    g_mutex_unlock(&s->lock);
    return ready | (s->source->ops->write ? VIR_STREAM_EVENT_WRITABLE : 0);
}

/* What the source holds (a volume that is busy) is free again when this returns. */
static void stream_forget(virStreamPtr st)
{
    struct embed_stream *s = st->link;
    stream_cancel(s);
    if (s->reader)
        g_thread_join(s->reader);
    if (s->source->ops->free)
        s->source->ops->free(s->source->opaque);
    g_free(s->source);
    g_clear_error(&s->error);
    g_byte_array_unref(s->ahead);
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->cond);
    g_free(s);
}

/* ---- calls ---- */

static GVariant *embed_call(virConnectPtr conn, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GArray *ret_fds, virStreamPtr st,
                            int *ret_domain, GError **error)
{
    struct embed *e = conn->link;
    g_autoptr(GArray) own_fds = ret_fds ? NULL : g_array_new(FALSE, FALSE, sizeof(int));
    struct manage_call c = { .conn = e->conn, .proc = proc, .args = args, .fds = fds, .nfds = nfds, .ret_fds = ret_fds ? ret_fds : own_fds };
    g_autoptr(GError) own = NULL;
    GVariant *ret = manage_dispatch(&c, &own);
    if (own && error) {
        g_autofree char *text = manage_error_text(own);
        *error = g_error_new_literal(MANAGE_ERROR, manage_error_code(own), text);
    }
    for (unsigned i = 0; own_fds && i < own_fds->len; i++)
        close(g_array_index(own_fds, int, i));
    if (ret && c.stream && st) {
        stream_begin(st, c.stream);
    } else if (c.stream) {
        if (c.stream->ops->free)
            c.stream->ops->free(c.stream->opaque);
        g_free(c.stream);
    }
    return ret;
}

static void set_live(virConnectPtr conn, bool live)
{
    g_mutex_lock(&all.live_lock);
    if (!all.live)
        all.live = g_hash_table_new(NULL, NULL);
    if (live)
        g_hash_table_add(all.live, conn);
    else
        g_hash_table_remove(all.live, conn);
    g_mutex_unlock(&all.live_lock);
}

static void on_event(struct manage_conn *c, const struct rpc_proc *proc, GVariant *payload)
{
    g_mutex_lock(&all.live_lock);
    if (g_hash_table_contains(all.live, c->opaque))
        api_event_received(c->opaque, proc, payload); /* puts it into a queue */
    g_mutex_unlock(&all.live_lock);
}

static void embed_close(virConnectPtr conn)
{
    struct embed *e = conn->link;
    set_live(conn, false);
    manage_conn_close(e->conn);
    manage_conn_unref(e->conn);
    state_put(e->shared);
    g_free(e);
    conn->link = NULL;
}

static bool embed_alive(virConnectPtr conn) { return true; }

static int embed_keepalive(virConnectPtr conn, int interval, unsigned count)
{
    api_fail(conn, VIR_ERR_NO_SUPPORT, "virConnectSetKeepAlive");
    return -1;
}

static const struct api_backend backend = { .call = embed_call, .close = embed_close, .alive = embed_alive, .keepalive = embed_keepalive, .secure = true,
                                            .send = stream_send, .send_hole = stream_send_hole, .recv = stream_recv, .finish = stream_finish,
                                            .ready = stream_ready, .forget = stream_forget };

bool api_embed_open(virConnectPtr conn, const struct rpc_uri *uri, unsigned flags, GError **error)
{
    bool test = !strcmp(uri->driver, "test");
    const char *root = test ? NULL : rpc_uri_query(uri, "root");
    if (test && strcmp(uri->path, "/default"))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the test driver has one set of objects, test:///default, and reads no file '%s'", uri->path);
    if (!test && (!root || *root != '/'))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "vireo:///embed needs ?root=DIR, the absolute path of the directory that holds its state");
    g_autofree char *key = g_strconcat(test ? "test:" : "root:", root, NULL);
    struct embed_state *shared = state_get(key, test ? &manage_table_test : &manage_table_host, root, error);
    if (!shared)
        return false;
    struct embed *e = g_new0(struct embed, 1);
    e->shared = shared;
    e->conn = manage_conn_new(shared->state);
    e->conn->event = on_event;
    e->conn->opaque = conn;
    e->conn->uid = getuid();
    e->conn->gid = getgid();
    e->conn->pid = getpid();
    conn->backend = &backend;
    conn->link = e;
    set_live(conn, true);
    conn->uri = g_strdup(uri->text);
    conn->event_filter = conn->typed_strings = true;
    struct manage_call c = { .conn = e->conn, .proc = rpc_proc(RPC_CONNECT_OPEN) };
    g_autoptr(GVariant) args = g_variant_ref_sink(g_variant_new("(msu)", uri->remote, flags & VIR_CONNECT_RO));
    c.args = args;
    g_autoptr(GVariant) opened = manage_dispatch(&c, error);
    return opened != NULL;
}
