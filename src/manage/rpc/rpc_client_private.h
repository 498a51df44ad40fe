/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What rpc_client.c (the connection) and rpc_client_stream.c share. */
#pragma once

#include "manage/rpc/rpc_client.h"
#include "manage/rpc/rpc_message.h"

/* A thread that waits for something that comes over the socket. On its stack, in client->waiters. */
struct waiter {
    GCond cond;
    struct rpc_stream *stream; /* woken by messages of this stream */
};

struct rpc_client {
    gint refs;
    int fd, wake;            /* wake: eventfd, for the client's own thread */
    bool is_unix;
    GThread *thread;
    const struct rpc_client_callbacks *callbacks;
    void *opaque;
    GMutex send_lock;        /* one message at a time; taken before lock, never after */
    GByteArray *in;          /* of the thread that has `reading` */
    GArray *fds_in;
    GMutex lock;             /* covers all below */
    GCond thread_cond;
    bool reading;            /* a thread reads the socket */
    bool closed, told, stop; /* told: callbacks->closed has been called */
    int reason;
    uint32_t serial;
    GHashTable *pending;     /* serial -> struct pending */
    GHashTable *streams;     /* serial -> struct rpc_stream */
    GQueue waiters;
    unsigned callers, calls; /* threads in a call; calls ever made */
    gint64 last_call, last_in;
    gsize backlog;           /* bytes of stream data that nobody has taken */
    int interval;            /* keepalive */
    unsigned count, pings;
};

struct rpc_stream {
    struct rpc_client *client;
    uint32_t program, procedure, serial;
    /* Under the client's lock: */
    GQueue chunks;  /* struct chunk */
    bool eof, done; /* done: the server knows the stream no more */
    GError *error;
    void (*notify)(void *opaque);
    void *notify_opaque;
};

/* Sends a finished message and descriptors. False: the connection is closed then. No lock is held. */
bool rpc_client_send(struct rpc_client *c, const GByteArray *m, const int *fds, unsigned nfds, GError **error);
/* Waits until done(opaque) or the connection is closed; reads the socket where nobody else does. The client's lock is held. */
void rpc_client_wait_locked(struct rpc_client *c, struct waiter *w, bool (*done)(void *opaque), void *opaque);
/* The error of a closed connection. Always false. */
bool rpc_client_closed_error(struct rpc_client *c, GError **error);
/* A message of the stream has come (lock held). */
void rpc_stream_message_locked(struct rpc_stream *s, const struct rpc_header *h, const uint8_t *payload, gsize size);
