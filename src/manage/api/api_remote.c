/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A daemon behind a socket: vireod or libvirtd, here or on another host. Which socket: rpc/rpc_transport.c. */
#include <string.h>

#include "manage/api/api_transport.h"

#define FEATURE_TYPED_STRINGS 9
#define FEATURE_KEEPALIVE 10
#define FEATURE_EVENT_FILTER 14
#define AUTH_NONE 0
#define AUTH_POLKIT 2

/* conn->link is the struct rpc_client, a stream's link the struct rpc_stream. */

static void on_event(void *opaque, const struct rpc_proc *proc, GVariant *payload) { api_event_received(opaque, proc, payload); }
static void on_closed(void *opaque, int reason) { api_conn_lost(opaque, reason); }
static void on_stream(void *opaque) { api_stream_changed(opaque); }

static GVariant *remote_call(virConnectPtr conn, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GArray *ret_fds, virStreamPtr st,
                             int *ret_domain, GError **error)
{
    if (!st)
        return rpc_client_call(conn->link, proc, args, fds, nfds, ret_fds, ret_domain, error);
    struct rpc_stream *stream = NULL;
    GVariant *ret = rpc_client_call_stream(conn->link, proc, args, &stream, ret_domain, error);
    if (ret && stream) {
        st->link = stream;
        rpc_stream_set_notify(stream, on_stream, st);
    }
    return ret;
}

static GVariant *simple(virConnectPtr conn, unsigned proc, GVariant *args, GError **error)
{
    return rpc_client_call(conn->link, rpc_proc(proc), args, NULL, 0, NULL, NULL, error);
}

static void remote_close(virConnectPtr conn)
{
    if (!conn->closed && rpc_client_alive(conn->link)) {
        g_autoptr(GVariant) ret = simple(conn, RPC_CONNECT_CLOSE, g_variant_new_tuple(NULL, 0), NULL);
    }
    rpc_client_close(conn->link);
    rpc_client_unref(conn->link);
    conn->link = NULL;
}

static bool remote_alive(virConnectPtr conn) { return rpc_client_alive(conn->link); }

static bool feature(virConnectPtr conn, int number)
{
    g_autoptr(GVariant) ret = simple(conn, RPC_CONNECT_SUPPORTS_FEATURE, g_variant_new("(i)", number), NULL);
    int yes = 0;
    if (ret)
        g_variant_get(ret, "(i)", &yes);
    return yes != 0;
}

static int remote_keepalive(virConnectPtr conn, int interval, unsigned count)
{
    if (!feature(conn, FEATURE_KEEPALIVE))
        return 1;
    rpc_client_keepalive(conn->link, interval, count);
    return 0;
}

static int stream_send(virStreamPtr st, const void *data, size_t size, bool wait, GError **error)
{
    return (int)rpc_stream_send(st->link, data, size, !wait, error);
}

static bool stream_hole(virStreamPtr st, int64_t length, GError **error) { return rpc_stream_send_hole(st->link, length, error); }

static int stream_recv(virStreamPtr st, void *data, size_t size, bool wait, int64_t *ret_hole, GError **error)
{
    return (int)rpc_stream_recv(st->link, data, size, ret_hole, !wait, error);
}

static bool stream_finish(virStreamPtr st, bool abort, GError **error)
{
    if (!abort)
        return rpc_stream_finish(st->link, error);
    GError *inner = NULL;
    if (rpc_stream_abort(st->link, &inner))
        return true;
    if (rpc_client_alive(st->o.conn->link)) { /* the daemon's last word on the stream, that it was given up, is what was asked for */
        g_error_free(inner);
        return true;
    }
    g_propagate_error(error, inner);
    return false;
}

static int stream_ready(virStreamPtr st) { return rpc_stream_ready(st->link); }
static void stream_forget(virStreamPtr st) { rpc_stream_free(st->link); }

#define BACKEND .call = remote_call, .close = remote_close, .alive = remote_alive, .keepalive = remote_keepalive, .send = stream_send, \
    .send_hole = stream_hole, .recv = stream_recv, .finish = stream_finish, .ready = stream_ready, .forget = stream_forget
static const struct api_backend backend_local = { BACKEND, .secure = true };
static const struct api_backend backend_ssh = { BACKEND, .secure = true, .encrypted = true };
static const struct api_backend backend_open = { BACKEND };

/* ---- the opening sequence ---- */

/* Takes the first way that the daemon offers. */
static bool authenticate(virConnectPtr conn, GError **error)
{
    g_autoptr(GVariant) ret = simple(conn, RPC_AUTH_LIST, g_variant_new_tuple(NULL, 0), error);
    if (!ret)
        return false;
    g_autoptr(GVariant) types = g_variant_get_child_value(ret, 0);
    int type = AUTH_NONE;
    if (g_variant_n_children(types))
        g_variant_get_child(types, 0, "i", &type);
    if (type == AUTH_NONE)
        return true;
    if (type == AUTH_POLKIT) {
        g_autoptr(GVariant) done = simple(conn, RPC_AUTH_POLKIT, g_variant_new_tuple(NULL, 0), error);
        return done != NULL;
    }
    return manage_fail(error, VIR_ERR_AUTH_FAILED, "authentication failed: the daemon asks for SASL, which this library does not speak: use ssh instead, as in "
                       "vireo+ssh://HOST/system");
}

static bool open_sequence(virConnectPtr conn, const struct rpc_uri *uri, unsigned flags, GError **error)
{
    if (!authenticate(conn, error))
        return false;
    if (api_loop_present())
        feature(conn, FEATURE_KEEPALIVE); /* the daemon begins to watch the connection */
    g_autoptr(GVariant) opened = simple(conn, RPC_CONNECT_OPEN, g_variant_new("(msu)", uri->remote, flags & VIR_CONNECT_RO), error);
    if (!opened)
        return false;
    conn->event_filter = feature(conn, FEATURE_EVENT_FILTER);
    conn->typed_strings = feature(conn, FEATURE_TYPED_STRINGS);
    return true;
}

bool api_remote_open(virConnectPtr conn, const struct rpc_uri *uri, virConnectAuthPtr auth, unsigned flags, GError **error)
{
    static const struct rpc_client_callbacks callbacks = { on_event, on_closed };
    bool local = false, encrypted = false;
    struct rpc_client *client = rpc_transport_connect(uri, flags & VIR_CONNECT_RO, api_session_start, &local, &encrypted, error);
    if (!client)
        return false;
    conn->link = client;
    conn->backend = local ? &backend_local : encrypted ? &backend_ssh : &backend_open;
    conn->uri = *uri->remote ? g_strdup(uri->text) : NULL;
    rpc_client_set_callbacks(client, &callbacks, conn);
    return open_sequence(conn, uri, flags, error);
}
