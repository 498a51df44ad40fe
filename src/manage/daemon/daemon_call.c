/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a message asks for: pings, calls (at once or on a worker), stream data. */
#include <string.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

#define SLOW_QUICK_CALL (100 * 1000) /* microseconds of the socket thread, above which the log names the call */

struct job {
    struct client *client;
    struct rpc_header header;
    const struct rpc_proc *proc; /* NULL: the connection has gone */
    GVariant *args;
    GArray *fds;
};

/* ---- answers ---- */

static void answer_error(struct client *c, const struct rpc_header *h, const GError *error)
{
    int code = manage_error_code(error);
    g_autofree char *text = manage_error_text(error);
    GByteArray *m = rpc_message_new(h->program, h->procedure, RPC_REPLY, h->serial, RPC_ERROR);
    const struct rpc_proc *p = rpc_proc_on_wire(h->program, h->procedure);
    rpc_message_error(m, code, code == VIR_ERR_RPC ? VIR_FROM_RPC : manage_error_domain_of(p ? p->name : NULL, error), text);
    rpc_message_finish(m);
    client_send(c, m, NULL, NULL);
}

static void G_GNUC_PRINTF(4, 5) refuse(struct client *c, const struct rpc_header *h, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autoptr(GError) error = g_error_new_valist(MANAGE_ERROR, code, format, args);
    va_end(args);
    answer_error(c, h, error);
}

/* The reply's message; NULL: error is set. encoded: of manage_reply_encoded(), taken; NULL: none. */
static GByteArray *reply_message(const struct rpc_header *h, const struct rpc_proc *p, GVariant *ret, GByteArray *encoded, unsigned nfds, GError **error)
{
    GByteArray *m = encoded ? encoded : rpc_message_blank();
    rpc_message_head(m, h->program, h->procedure, nfds ? RPC_REPLY_WITH_FDS : RPC_REPLY, h->serial, RPC_OK);
    if (nfds && !encoded)
        rpc_message_fds(m, nfds);
    bool ok = encoded || rpc_encode(m, p->ret, ret, error);
    if (ok && m->len > RPC_MESSAGE_MAX)
        ok = manage_fail(error, VIR_ERR_RPC, "the answer to %s has %u bytes, a message may have %u", p->name, m->len, RPC_MESSAGE_MAX);
    if (ok) {
        rpc_message_finish(m);
        return m;
    }
    g_byte_array_unref(m);
    return NULL;
}

static void discard_stream(struct manage_call *call)
{
    if (!call->stream)
        return;
    if (call->stream->ops->cancel)
        call->stream->ops->cancel(call->stream->opaque);
    call->stream->ops->free(call->stream->opaque);
    g_clear_pointer(&call->stream, g_free);
}

static GArray *take_ret_fds(struct manage_call *call)
{
    GArray *fds = call->ret_fds;
    call->ret_fds = NULL;
    if (fds && fds->len > 0)
        return fds;
    if (fds)
        g_array_unref(fds);
    return NULL;
}

static void close_fds(GArray *fds)
{
    for (guint i = 0; fds && i < fds->len; i++)
        close(g_array_index(fds, int, i));
    if (fds)
        g_array_unref(fds);
}

/* A good reply, and the stream that begins with it. */
static bool answer(struct client *c, const struct rpc_header *h, struct manage_call *call, GVariant *ret, GError **error)
{
    GArray *fds = take_ret_fds(call);
    GByteArray *m = reply_message(h, call->proc, ret, g_steal_pointer(&call->encoded), fds ? fds->len : 0, error);
    struct stream *s = NULL;
    if (m && call->stream) {
        s = stream_new(c, h, call->stream, error);
        if (!s)
            g_clear_pointer(&m, g_byte_array_unref);
        else
            call->stream = NULL;
    }
    if (!m) {
        close_fds(fds);
        return false;
    }
    client_send(c, m, fds, NULL);
    if (s) {
        stream_start(s);
        stream_unref(s);
    }
    return true;
}

static void make_call(struct client *c, const struct rpc_header *h, const struct rpc_proc *p, GVariant *args, const int *fds, unsigned nfds)
{
    g_autoptr(GError) error = NULL;
    struct manage_call call = { .conn = c->conn, .proc = p, .args = args, .fds = fds, .nfds = nfds, .encodes = true };
    g_autoptr(GVariant) ret = manage_dispatch(&call, &error);
    if (!ret || !answer(c, h, &call, ret, &error)) {
        if (!error)
            manage_fail(&error, VIR_ERR_INTERNAL_ERROR, "%s failed and gave no reason", p->name);
        discard_stream(&call);
        close_fds(take_ret_fds(&call));
        answer_error(c, h, error);
    }
}

/* ---- workers ---- */

static void job_free(struct job *j)
{
    client_unref(j->client);
    if (j->args)
        g_variant_unref(j->args);
    close_fds(j->fds);
    g_free(j);
}

void call_worker(gpointer job, gpointer server)
{
    struct job *j = job;
    if (j->proc) {
        make_call(j->client, &j->header, j->proc, j->args, (const int *)(void *)j->fds->data, j->fds->len);
        client_call_done(j->client);
    } else {
        manage_conn_close(j->client->conn);
    }
    job_free(j);
}

static void push(struct client *c, const struct rpc_header *h, const struct rpc_proc *p, GVariant *args, const int *fds, unsigned nfds)
{
    struct job *j = g_new0(struct job, 1);
    *j = (struct job){ client_ref(c), *h, p, g_variant_ref(args), g_array_new(FALSE, FALSE, sizeof(int)) };
    for (unsigned i = 0; i < nfds; i++) {
        int own = dup(fds[i]);
        if (own >= 0)
            g_array_append_val(j->fds, own);
    }
    g_mutex_lock(&c->lock);
    c->calls++;
    g_mutex_unlock(&c->lock);
    g_thread_pool_push(c->server->workers, j, NULL);
}

void call_conn_closed(struct client *c)
{
    struct job *j = g_new0(struct job, 1);
    j->client = client_ref(c);
    g_thread_pool_push(c->server->workers, j, NULL);
}

/* ---- calls ---- */

/* Nobody has to prove who he is: whom the socket's mode lets in may use it. */
static GVariant *auth_list(void)
{
    const gint32 none = 0;
    return g_variant_ref_sink(g_variant_new("(@ai)", g_variant_new_fixed_array(G_VARIANT_TYPE_INT32, &none, 1, sizeof(none))));
}

static void answer_auth(struct client *c, const struct rpc_header *h, const struct rpc_proc *p)
{
    g_autoptr(GVariant) ret = p->number == RPC_AUTH_LIST ? auth_list() : NULL;
    GByteArray *m = ret ? reply_message(h, p, ret, NULL, 0, NULL) : NULL;
    if (m)
        client_send(c, m, NULL, NULL);
    else
        refuse(c, h, VIR_ERR_AUTH_FAILED, "this server does not ask for authentication");
}

static void quick_call(struct client *c, const struct rpc_header *h, const struct rpc_proc *p, GVariant *args, const int *fds, unsigned nfds)
{
    gint64 start = g_get_monotonic_time();
    make_call(c, h, p, args, fds, nfds);
    gint64 took = g_get_monotonic_time() - start;
    if (took > SLOW_QUICK_CALL)
        daemon_debug("%s took %d ms on the socket thread", p->name, (int)(took / 1000));
    if (p->number == RPC_CONNECT_SUPPORTS_FEATURE) {
        int feature;
        g_variant_get_child(args, 0, "i", &feature);
        c->keepalive |= feature == 10; /* VIR_DRV_FEATURE_PROGRAM_KEEPALIVE: who asks understands pings */
    }
}

static bool is_auth(const struct rpc_proc *p) { return p->number >= RPC_AUTH_LIST && p->number <= RPC_AUTH_POLKIT; }

static void call(struct client *c, const struct rpc_header *h, const uint8_t *payload, gsize size, const int *fds, unsigned nfds)
{
    const struct rpc_proc *p = rpc_proc_on_wire(h->program, h->procedure);
    if (h->program != RPC_REMOTE_PROGRAM && h->program != RPC_QEMU_PROGRAM) {
        refuse(c, h, VIR_ERR_RPC, "unknown program 0x%x", h->program);
        return;
    }
    if (h->version != 1) {
        refuse(c, h, VIR_ERR_RPC, "program 0x%x has version 1, not %u", h->program, h->version);
        return;
    }
    if (h->status != RPC_OK) {
        refuse(c, h, VIR_ERR_RPC, "a call has the status %u instead of 0", h->status);
        return;
    }
    if (!p || (p->flags & RPC_EVENT) || (!is_auth(p) && !manage_find(c->conn->state, p->number))) {
        refuse(c, h, VIR_ERR_RPC, "unknown procedure: %u", h->procedure);
        return;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) args = rpc_decode_as(p->args, p->args_type, payload, size, NULL, &error);
    if (!args)
        answer_error(c, h, error);
    else if (is_auth(p))
        answer_auth(c, h, p);
    else if (p->flags & RPC_QUICK)
        quick_call(c, h, p, args, fds, nfds);
    else
        push(c, h, p, args, fds, nfds);
}

/* ---- messages ---- */

static void keepalive(struct client *c, const struct rpc_header *h)
{
    if (h->type != RPC_MESSAGE || h->procedure != RPC_KEEPALIVE_PING)
        return;
    GByteArray *m = rpc_message_new(RPC_KEEPALIVE_PROGRAM, RPC_KEEPALIVE_PONG, RPC_MESSAGE, 0, RPC_OK);
    rpc_message_finish(m);
    client_send(c, m, NULL, NULL);
}

static void stream_data(struct client *c, const struct rpc_header *h, const uint8_t *payload, gsize size)
{
    g_mutex_lock(&c->lock);
    struct stream *s = g_hash_table_lookup(c->streams, GUINT_TO_POINTER(h->serial));
    if (s)
        stream_ref(s);
    g_mutex_unlock(&c->lock);
    if (!s)
        return; /* it has ended: what was under way is dropped */
    stream_message(s, h, payload, size);
    stream_unref(s);
}

bool call_message(struct client *c, const struct rpc_header *h, const uint8_t *payload, gsize size, const int *fds, unsigned nfds)
{
    if (h->program == RPC_KEEPALIVE_PROGRAM)
        keepalive(c, h);
    else if (h->type == RPC_CALL || h->type == RPC_CALL_WITH_FDS)
        call(c, h, payload, size, fds, nfds);
    else if (h->type == RPC_STREAM || h->type == RPC_STREAM_HOLE)
        stream_data(c, h, payload, size);
    return true; /* replies and messages of other kinds are none of a client's business: ignored */
}
