/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams (wire facts, section 8): one thread reads the source and sends, with one chunk under way at a time; another takes what the client has sent
 * out of a queue and writes it, then finishes or aborts. Both end after cancel(); the last one frees the source.
 */
#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

enum order { ORDER_DATA, ORDER_HOLE, ORDER_FINISH, ORDER_ABORT };
struct order_from_client {
    enum order what;
    GBytes *data;
    int64_t length;
};

struct stream {
    gint refs;
    struct client *client;
    struct rpc_header header; /* of the call: program, procedure, serial */
    struct manage_stream *source;
    GMutex lock;              /* taken after the client's */
    GCond cond;
    GQueue orders;            /* struct order_from_client */
    bool in_flight;           /* a chunk waits for its turn in the client's queue */
    bool ended;               /* nothing more is sent */
    bool aborted;             /* by the client: what fails now fails because of that */
};

static void order_free(struct order_from_client *o)
{
    if (o->data)
        g_bytes_unref(o->data);
    g_free(o);
}

struct stream *stream_ref(struct stream *s)
{
    g_atomic_int_inc(&s->refs);
    return s;
}

void stream_unref(struct stream *s)
{
    struct order_from_client *o;
    if (!g_atomic_int_dec_and_test(&s->refs))
        return;
    while ((o = g_queue_pop_head(&s->orders)))
        order_free(o);
    if (s->source->ops->free)
        s->source->ops->free(s->source->opaque);
    g_free(s->source);
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->cond);
    g_atomic_int_add(&s->client->server->streams, -1);
    client_unref(s->client);
    g_free(s);
}

struct stream *stream_new(struct client *c, const struct rpc_header *h, struct manage_stream *m, GError **error)
{
    struct stream *s = g_new0(struct stream, 1);
    s->refs = 1;
    s->header = *h;
    g_mutex_init(&s->lock);
    g_cond_init(&s->cond);
    g_queue_init(&s->orders);
    g_mutex_lock(&c->lock);
    bool room = !c->closed && g_hash_table_size(c->streams) < CLIENT_STREAMS && !g_hash_table_contains(c->streams, GUINT_TO_POINTER(h->serial));
    if (room) {
        g_atomic_int_inc(&c->server->streams);
        s->client = client_ref(c);
        s->source = m;
        g_hash_table_insert(c->streams, GUINT_TO_POINTER(h->serial), stream_ref(s));
    }
    g_mutex_unlock(&c->lock);
    if (room)
        return s;
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->cond);
    g_free(s);
    return manage_null(error, VIR_ERR_OPERATION_FAILED, "this connection has %d streams already: finish one first", CLIENT_STREAMS);
}

/* ---- out ---- */

/* Sends one STREAM message unless the stream has ended. `last`: nothing follows, and the client's table forgets the stream. */
static void send_message(struct stream *s, enum rpc_type type, enum rpc_status status, const void *data, gsize size, bool last)
{
    GByteArray *m = rpc_message_new(s->header.program, s->header.procedure, type, s->header.serial, status);
    g_byte_array_append(m, data, (guint)size);
    rpc_message_finish(m);
    bool chunk = !last && size > 0;
    g_mutex_lock(&s->lock);
    bool send = !s->ended;
    s->ended = s->ended || last;
    s->in_flight = s->in_flight || (send && chunk);
    g_mutex_unlock(&s->lock);
    if (last) {
        g_mutex_lock(&s->client->lock);
        bool there = g_hash_table_steal(s->client->streams, GUINT_TO_POINTER(s->header.serial));
        g_mutex_unlock(&s->client->lock);
        if (there)
            stream_unref(s);
    }
    if (send)
        client_send(s->client, m, NULL, chunk ? s : NULL);
    else
        g_byte_array_unref(m);
}

static void send_error(struct stream *s, const GError *error)
{
    g_mutex_lock(&s->lock);
    bool aborted = s->aborted;
    g_mutex_unlock(&s->lock);
    if (aborted)
        return; /* the answer to that follows */
    int code = error ? manage_error_code(error) : VIR_ERR_INTERNAL_ERROR;
    g_autofree char *text = error ? manage_error_text(error) : NULL;
    g_autoptr(GByteArray) payload = g_byte_array_new();
    rpc_message_error(payload, code, manage_error_domain(code), text ? text : "internal error: the stream failed");
    send_message(s, RPC_STREAM, RPC_ERROR, payload->data, payload->len, true);
}

void stream_written(struct stream *s)
{
    g_mutex_lock(&s->lock);
    s->in_flight = false;
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
}

/* Waits until the last chunk has left. False: the stream has ended. */
static bool wait_written(struct stream *s)
{
    g_mutex_lock(&s->lock);
    while (s->in_flight)
        g_cond_wait(&s->cond, &s->lock);
    bool go_on = !s->ended;
    g_mutex_unlock(&s->lock);
    return go_on;
}

static void send_hole(struct stream *s, int64_t length)
{
    const uint64_t be = GUINT64_TO_BE((uint64_t)length);
    uint8_t payload[12] = { 0 };
    memcpy(payload, &be, 8);
    send_message(s, RPC_STREAM_HOLE, RPC_CONTINUE, payload, sizeof(payload), false);
}

static void cancel_source(struct stream *s)
{
    if (s->source->ops->cancel)
        s->source->ops->cancel(s->source->opaque);
}

static gpointer reading_thread(gpointer opaque)
{
    struct stream *s = opaque;
    g_autofree uint8_t *buffer = g_malloc(RPC_CHUNK);
    while (wait_written(s)) {
        g_autoptr(GError) error = NULL;
        int64_t hole = 0;
        gssize n = s->source->ops->read(s->source->opaque, buffer, RPC_CHUNK, &hole, &error);
        if (n < 0) {
            send_error(s, error);
        } else if (n > 0) {
            send_message(s, RPC_STREAM, RPC_CONTINUE, buffer, (gsize)n, false);
            continue;
        } else if (hole > 0) {
            send_hole(s, hole);
            continue;
        } else {
            send_message(s, RPC_STREAM, RPC_CONTINUE, NULL, 0, false); /* the end */
        }
        break;
    }
    wait_written(s);
    stream_unref(s);
    return NULL;
}

/* ---- in ---- */

/* False: the stream has ended, nobody will take the order. Takes `data` over. */
static bool order(struct stream *s, enum order what, GBytes *data, int64_t length)
{
    struct order_from_client *o = g_new(struct order_from_client, 1);
    *o = (struct order_from_client){ what, data, length };
    g_mutex_lock(&s->lock);
    bool taken = !s->ended;
    if (taken)
        g_queue_push_tail(&s->orders, o);
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
    if (!taken)
        order_free(o);
    return taken;
}

void stream_message(struct stream *s, const struct rpc_header *h, const uint8_t *payload, gsize size)
{
    if (h->type == RPC_STREAM_HOLE) {
        uint64_t length = 0;
        if (size >= 8)
            memcpy(&length, payload, 8);
        order(s, ORDER_HOLE, NULL, (int64_t)GUINT64_FROM_BE(length));
    } else if (h->status == RPC_CONTINUE && size > 0) {
        client_stream_bytes(s->client, (gssize)size);
        if (!order(s, ORDER_DATA, g_bytes_new(payload, size), 0))
            client_stream_bytes(s->client, -(gssize)size);
    } else if (h->status == RPC_OK) {
        order(s, ORDER_FINISH, NULL, 0);
    } else if (h->status == RPC_ERROR) {
        g_mutex_lock(&s->lock);
        s->aborted = true;
        g_mutex_unlock(&s->lock);
        cancel_source(s); /* a write that hangs comes back */
        order(s, ORDER_ABORT, NULL, 0);
    }
}

void stream_cancel(struct stream *s)
{
    g_mutex_lock(&s->lock);
    s->ended = true;
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
    cancel_source(s);
}

/* The client's next order; NULL: the stream has ended. */
static struct order_from_client *next_order(struct stream *s)
{
    g_mutex_lock(&s->lock);
    while (g_queue_is_empty(&s->orders) && !s->ended)
        g_cond_wait(&s->cond, &s->lock);
    struct order_from_client *o = s->ended ? NULL : g_queue_pop_head(&s->orders);
    g_mutex_unlock(&s->lock);
    return o;
}

static bool write_zeroes(struct stream *s, int64_t length, GError **error)
{
    static uint8_t zeroes[65536]; /* never written; not const, so that it is no part of the program's file */
    for (; length > 0; length -= (int64_t)sizeof(zeroes))
        if (!s->source->ops->write(s->source->opaque, zeroes, MIN((gsize)length, sizeof(zeroes)), error))
            return false;
    return true;
}

static bool obey(struct stream *s, const struct order_from_client *o, GError **error)
{
    const struct manage_stream_ops *ops = s->source->ops;
    void *source = s->source->opaque;
    if (o->what == ORDER_FINISH)
        return !ops->finish || ops->finish(source, error);
    if (o->what == ORDER_ABORT)
        return true;
    if (!ops->write)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "this stream only sends: the client may not write to it");
    if (o->what == ORDER_DATA) {
        gsize size;
        const void *data = g_bytes_get_data(o->data, &size);
        return ops->write(source, data, size, error);
    }
    if (!s->source->sparse)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "this stream was not opened as a sparse one: it takes no holes");
    if (o->length < 0)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "a hole of %" PRId64 " bytes", o->length);
    return ops->hole ? ops->hole(source, o->length, error) : write_zeroes(s, o->length, error);
}

static gpointer writing_thread(gpointer opaque)
{
    struct stream *s = opaque;
    struct order_from_client *o;
    while ((o = next_order(s))) {
        g_autoptr(GError) error = NULL;
        bool ok = obey(s, o, &error), last = o->what == ORDER_FINISH || o->what == ORDER_ABORT;
        if (o->data)
            client_stream_bytes(s->client, -(gssize)g_bytes_get_size(o->data));
        order_free(o);
        if (!ok)
            send_error(s, error);
        else if (last)
            send_message(s, RPC_STREAM, RPC_OK, NULL, 0, true);
    }
    cancel_source(s);
    g_mutex_lock(&s->lock);
    gssize left = 0;
    for (GList *l = s->orders.head; l; l = l->next) {
        struct order_from_client *rest = l->data;
        left += rest->data ? (gssize)g_bytes_get_size(rest->data) : 0;
    }
    g_mutex_unlock(&s->lock);
    if (left)
        client_stream_bytes(s->client, -left);
    stream_unref(s);
    return NULL;
}

static bool start_thread(struct stream *s, const char *name, GThreadFunc function, GError **error)
{
    GThread *t = g_thread_try_new(name, function, stream_ref(s), error);
    if (!t) {
        stream_unref(s);
        return false;
    }
    g_thread_unref(t);
    return true;
}

void stream_start(struct stream *s)
{
    g_autoptr(GError) error = NULL;
    if (!start_thread(s, "stream-in", writing_thread, &error) ||
        (s->source->ops->read && !start_thread(s, "stream-out", reading_thread, &error)))
        send_error(s, error);
}
