/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client's end of a connection: calls from many threads at once, events, streams, descriptors, keepalive. Knows the wire and nothing of what the
 * calls mean: the opening sequence (auth_list, features, connect_open) is the library's.
 *
 * Who reads: a thread that waits for a reply reads the socket itself where no other does (a call costs no switch of threads); a thread of the
 * client's own reads while nobody calls, so that events and pings are seen at once.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "manage/rpc/rpc_proc.h"

struct rpc_client;
struct rpc_stream;

/* Called from whichever thread reads, with no lock held; they may not call the client (put the event in a queue). Members may be NULL. */
struct rpc_client_callbacks {
    void (*event)(void *opaque, const struct rpc_proc *proc, GVariant *payload); /* payload: proc->args_type */
    void (*closed)(void *opaque, int reason); /* virConnectCloseReason; once */
};

/* Connect. NULL: error is set (VIR_ERR_SYSTEM_ERROR). */
struct rpc_client *rpc_client_unix(const char *path, GError **error);
struct rpc_client *rpc_client_tcp(const char *host, const char *port, GError **error); /* port NULL: 16509 */
struct rpc_client *rpc_client_fd(int fd); /* a connected stream socket (ssh, ext): taken over; no descriptors pass unless it is a UNIX socket */
struct rpc_client *rpc_client_ref(struct rpc_client *c);
/* The last reference closes the connection. */
void rpc_client_unref(struct rpc_client *c);
/* Before the first call. */
void rpc_client_set_callbacks(struct rpc_client *c, const struct rpc_client_callbacks *callbacks, void *opaque);
/* Every pending and later call fails; streams too; closed(VIR_CONNECT_CLOSE_REASON_CLIENT). */
void rpc_client_close(struct rpc_client *c);
bool rpc_client_alive(struct rpc_client *c);
bool rpc_client_passes_fds(struct rpc_client *c); /* a UNIX socket */
/* A ping after `interval` seconds of silence; `count` of them unanswered close the connection. interval <= 0: none. Only where the server has
 * answered feature 10 with 1. Pings of the server are always answered. */
void rpc_client_keepalive(struct rpc_client *c, int interval, unsigned count);

/* Calls and waits for the reply: a tuple of proc->ret_type, not floating. NULL: error is set; what the server said with its code
 * (MANAGE_ERROR) and *ret_domain (may be NULL) the virErrorDomain. args: tuple of proc->args_type, sunk if floating. fds: duplicated by the kernel,
 * still the caller's; ret_fds (GArray of int, may be NULL): receives what comes along, the caller's. */
GVariant *rpc_client_call(struct rpc_client *c, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GArray *ret_fds, int *ret_domain,
                          GError **error);

/* ---- streams ---- */

/* A call of a stream procedure: *ret_stream lives beside the connection until rpc_stream_free(). */
GVariant *rpc_client_call_stream(struct rpc_client *c, const struct rpc_proc *proc, GVariant *args, struct rpc_stream **ret_stream, int *ret_domain, GError **error);
/* Sends all of it; waits where the socket is full, unless `nonblock`: then -2 where nothing could be sent. -1: error. */
gssize rpc_stream_send(struct rpc_stream *s, const void *data, gsize size, bool nonblock, GError **error);
bool rpc_stream_send_hole(struct rpc_stream *s, int64_t length, GError **error);
/* Bytes; 0 at the end (*ret_hole > 0: a hole of that length instead); -1 error; -2 nothing there yet (nonblock). ret_hole may be NULL: holes read as
 * zeroes. */
gssize rpc_stream_recv(struct rpc_stream *s, void *buffer, gsize size, int64_t *ret_hole, bool nonblock, GError **error);
/* The client has sent (or read) everything: waits for the server's word that all is in place. */
bool rpc_stream_finish(struct rpc_stream *s, GError **error);
bool rpc_stream_abort(struct rpc_stream *s, GError **error);
/* What is possible now, in virStreamEventType bits (1 readable, 2 writable, 4 error, 8 hang-up). */
int rpc_stream_ready(struct rpc_stream *s);
/* `notify` is called whenever rpc_stream_ready() may have changed, from the thread that reads and with the client's lock held: it may set a flag or write
 * to a descriptor, and call nothing here. Not called any more once this function has returned with NULL. */
void rpc_stream_set_notify(struct rpc_stream *s, void (*notify)(void *opaque), void *opaque);
void rpc_stream_free(struct rpc_stream *s); /* aborts one that is not finished */
