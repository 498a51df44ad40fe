/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client's end of streams (wire facts, section 8). */
#include <poll.h>
#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_client_private.h"

struct chunk {
    GBytes *data;  /* NULL: a hole */
    gsize at;
    int64_t hole;
};

static void chunk_free(struct chunk *k)
{
    if (k->data)
        g_bytes_unref(k->data);
    g_free(k);
}

/* ---- what comes ---- */

static void push_chunk(struct rpc_stream *s, GBytes *data, int64_t hole)
{
    struct chunk *k = g_new(struct chunk, 1);
    *k = (struct chunk){ data, 0, hole };
    g_queue_push_tail(&s->chunks, k);
    s->client->backlog += data ? g_bytes_get_size(data) : 0;
}

void rpc_stream_message_locked(struct rpc_stream *s, const struct rpc_header *h, const uint8_t *payload, gsize size)
{
    uint64_t hole = 0;
    if (h->type == RPC_STREAM_HOLE) {
        if (size >= 8)
            memcpy(&hole, payload, 8);
        hole = GUINT64_FROM_BE(hole);
        if (hole > 0 && hole <= G_MAXINT64)
            push_chunk(s, NULL, (int64_t)hole);
    } else if (h->status == RPC_CONTINUE) {
        if (size > 0)
            push_chunk(s, g_bytes_new(payload, size), 0);
        else
            s->eof = true;
    } else {
        if (h->status == RPC_ERROR && !s->error)
            rpc_message_read_error(payload, size, NULL, &s->error);
        s->done = s->eof = true;
        g_hash_table_remove(s->client->streams, GUINT_TO_POINTER(s->serial));
    }
}

/* ---- receiving ---- */

static bool has_something(void *opaque)
{
    struct rpc_stream *s = opaque;
    return !g_queue_is_empty(&s->chunks) || s->eof || s->error;
}

static bool has_ended(void *opaque) { return ((struct rpc_stream *)opaque)->done; }

static void wait_locked(struct rpc_stream *s, bool (*until)(void *opaque))
{
    struct waiter w = { .stream = s };
    g_cond_init(&w.cond);
    rpc_client_wait_locked(s->client, &w, until, s);
    g_cond_clear(&w.cond);
}

/* From the first chunk. */
static gssize take_locked(struct rpc_stream *s, void *buffer, gsize size, int64_t *ret_hole)
{
    struct chunk *k = g_queue_peek_head(&s->chunks);
    gsize n;
    if (!k->data) {
        if (ret_hole) {
            *ret_hole = k->hole;
            n = 0;
            k->hole = 0;
        } else {
            n = (gsize)MIN((int64_t)size, k->hole);
            memset(buffer, 0, n);
            k->hole -= (int64_t)n;
        }
        if (k->hole == 0)
            chunk_free(g_queue_pop_head(&s->chunks));
        return (gssize)n;
    }
    gsize all;
    const uint8_t *data = g_bytes_get_data(k->data, &all);
    n = MIN(size, all - k->at);
    memcpy(buffer, data + k->at, n);
    k->at += n;
    s->client->backlog -= n;
    if (k->at == all)
        chunk_free(g_queue_pop_head(&s->chunks));
    return (gssize)n;
}

gssize rpc_stream_recv(struct rpc_stream *s, void *buffer, gsize size, int64_t *ret_hole, bool nonblock, GError **error)
{
    struct rpc_client *c = s->client;
    gssize n = 0;
    if (ret_hole)
        *ret_hole = 0;
    g_mutex_lock(&c->lock);
    if (!nonblock)
        wait_locked(s, has_something);
    if (!g_queue_is_empty(&s->chunks)) {
        n = take_locked(s, buffer, size, ret_hole);
    } else if (s->error) {
        n = -1;
        g_propagate_error(error, g_error_copy(s->error));
    } else if (!s->eof) {
        n = c->closed ? -1 : -2;
        if (c->closed)
            rpc_client_closed_error(c, error);
    }
    g_mutex_unlock(&c->lock);
    return n;
}

/* ---- sending ---- */

static bool send_message(struct rpc_stream *s, enum rpc_type type, enum rpc_status status, const void *data, gsize size, GError **error)
{
    g_autoptr(GByteArray) m = rpc_message_new(s->program, s->procedure, type, s->serial, status);
    g_byte_array_append(m, data, (guint)size);
    rpc_message_finish(m);
    return rpc_client_send(s->client, m, NULL, 0, error);
}

/* What the server has said of the stream, if it was bad. */
static bool still_good(struct rpc_stream *s, GError **error)
{
    g_mutex_lock(&s->client->lock);
    bool good = !s->error && !s->done && !s->client->closed;
    if (s->error)
        g_propagate_error(error, g_error_copy(s->error));
    else if (s->client->closed)
        rpc_client_closed_error(s->client, error);
    else if (s->done)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "the stream has ended already");
    g_mutex_unlock(&s->client->lock);
    return good;
}

gssize rpc_stream_send(struct rpc_stream *s, const void *data, gsize size, bool nonblock, GError **error)
{
    struct pollfd p = { s->client->fd, POLLOUT, 0 };
    if (!still_good(s, error))
        return -1;
    for (gsize at = 0; at < size;) {
        gsize n = MIN(size - at, RPC_CHUNK);
        if (nonblock && poll(&p, 1, 0) == 0)
            return at > 0 ? (gssize)at : -2;
        if (!send_message(s, RPC_STREAM, RPC_CONTINUE, (const uint8_t *)data + at, n, error) || !still_good(s, error))
            return -1;
        at += n;
    }
    return (gssize)size;
}

bool rpc_stream_send_hole(struct rpc_stream *s, int64_t length, GError **error)
{
    uint8_t payload[12] = { 0 };
    uint64_t be = GUINT64_TO_BE((uint64_t)length);
    memcpy(payload, &be, 8);
    return still_good(s, error) && send_message(s, RPC_STREAM_HOLE, RPC_CONTINUE, payload, sizeof(payload), error);
}

/* Says the last word and waits for the server's. */
static bool end(struct rpc_stream *s, enum rpc_status status, GError **error)
{
    struct rpc_client *c = s->client;
    if (!still_good(s, error) || !send_message(s, RPC_STREAM, status, NULL, 0, error))
        return false;
    g_mutex_lock(&c->lock);
    wait_locked(s, has_ended);
    bool ok = s->done && !s->error;
    if (s->error)
        g_propagate_error(error, g_error_copy(s->error));
    else if (!ok)
        rpc_client_closed_error(c, error);
    s->done = true;
    g_hash_table_remove(c->streams, GUINT_TO_POINTER(s->serial));
    g_mutex_unlock(&c->lock);
    return ok;
}

bool rpc_stream_finish(struct rpc_stream *s, GError **error) { return end(s, RPC_OK, error); }
bool rpc_stream_abort(struct rpc_stream *s, GError **error) { return end(s, RPC_ERROR, error); }

int rpc_stream_ready(struct rpc_stream *s)
{
    struct rpc_client *c = s->client;
    struct pollfd p = { c->fd, POLLOUT, 0 };
    g_mutex_lock(&c->lock);
    int bits = (has_something(s) ? 1 : 0) | (!s->done && !c->closed && poll(&p, 1, 0) == 1 ? 2 : 0) | (s->error || c->closed ? 4 : 0) | (s->done ? 8 : 0);
    g_mutex_unlock(&c->lock);
    return bits;
}

void rpc_stream_set_notify(struct rpc_stream *s, void (*notify)(void *opaque), void *opaque)
{
    g_mutex_lock(&s->client->lock);
    s->notify = notify;
    s->notify_opaque = opaque;
    g_mutex_unlock(&s->client->lock);
}

void rpc_stream_free(struct rpc_stream *s)
{
    if (!s)
        return;
    struct rpc_client *c = s->client;
    g_mutex_lock(&c->lock);
    bool running = !s->done && !c->closed;
    s->notify = NULL;
    g_mutex_unlock(&c->lock);
    if (running && !rpc_stream_abort(s, NULL))
        g_debug("stream %u: the server did not take the abort", s->serial);
    struct chunk *k;
    g_mutex_lock(&c->lock);
    g_hash_table_remove(c->streams, GUINT_TO_POINTER(s->serial));
    while ((k = g_queue_pop_head(&s->chunks))) {
        c->backlog -= k->data ? g_bytes_get_size(k->data) - k->at : 0;
        chunk_free(k);
    }
    g_mutex_unlock(&c->lock);
    g_clear_error(&s->error);
    g_free(s);
    rpc_client_unref(c);
}
