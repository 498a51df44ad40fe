/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vireod: sockets, clients and threads around the management core. Files from the top: main.c, daemon_listen.c (sockets), daemon_server.c (the thread
 * that reads them all), daemon_client.c (one connection: frames in, queue out), daemon_call.c (what a message asks for), daemon_stream.c.
 *
 * Threads: the main thread waits for signals; one thread runs state->context (timers, monitors, children); the socket thread reads all sockets and
 * answers RPC_QUICK calls itself; a pool of workers makes the other calls; a stream has a thread for each direction. Locks: docs/locking.md.
 */
#pragma once

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "manage/core/manage.h"
#include "manage/rpc/rpc_message.h"
#include "manage/rpc/rpc_xdr.h"

/* ---- options and configuration ---- */

struct daemon_options {
    char *root, *config, *pid_file;
    bool listen, daemonize, verbose;
    int timeout; /* seconds without clients after which the daemon ends; 0: never */
    int inherited; /* sockets, from descriptor 3 */
};
/* Parses the command line. *ret_exit >= 0: the program is to end with that code (help, version, mistakes: said already). */
void daemon_options_parse(int argc, char **argv, struct daemon_options *ret, int *ret_exit);
void daemon_options_free(struct daemon_options *o);

/* vireod.conf; the names of its keys are those of the members. */
struct daemon_config {
    int libvirt_names;
    char *unix_sock_group, *unix_sock_rw_perms, *unix_sock_ro_perms;
    int listen_tcp;
    char *listen_addr, *tcp_port, *auth_tcp, *host_uuid;
    int max_clients, max_anonymous_clients, max_user_clients, max_workers, max_client_requests;
    int keepalive_interval, keepalive_count;
};
/* Defaults, then the file where it exists (`must`: it has to). */
bool daemon_config_load(struct daemon_config *ret, const char *path, bool must, bool privileged, GError **error);
void daemon_config_clear(struct daemon_config *c);
char *daemon_config_text(void); /* the default file: every key with its meaning, commented out */

/* ---- log ---- */

void daemon_log_init(bool verbose);
void daemon_log_to_syslog(void);
void daemon_log(const char *format, ...) G_GNUC_PRINTF(1, 2);
void daemon_debug(const char *format, ...) G_GNUC_PRINTF(1, 2); /* with --verbose */

/* ---- server ---- */

struct client;
struct server;

/* What epoll hands back: the first member of everything that is waited for. */
enum watched_kind { WATCHED_WAKE, WATCHED_LISTENER, WATCHED_CLIENT };
struct watched {
    enum watched_kind kind;
};

struct listener {
    struct watched watched;
    int fd;
    bool readonly, tcp;
    char *path, *alias; /* to be removed at the end; NULL: not ours */
};

struct server {
    struct manage_state *state;
    struct daemon_config config; /* under lock; the socket thread reads numbers without it */
    int epoll;
    struct watched wake;
    int wake_fd;
    GThread *thread;
    GThreadPool *workers;
    GPtrArray *listeners; /* struct listener */
    /* The socket thread's own: */
    GHashTable *clients;
    GPtrArray *dead;      /* clients closed in this round of events */
    uint8_t *buffer;      /* what a read fills */
    gsize held;           /* bytes of unfinished messages of all clients */
    gint64 now, next_tick, idle_since;
    bool accepting;
    gint streams;         /* that live, any thread */
    gint trim;            /* a big answer was sent: 2: its memory goes back to the system at the second tick from now */
    /* Under lock: */
    GMutex lock;
    GPtrArray *resume;    /* clients to be looked at again */
    bool stopping;
    int timeout;
    void (*idle)(void *opaque); /* the timeout has passed */
    void *idle_opaque;
};

/* Takes the configuration and the listeners over. */
struct server *server_new(struct manage_state *state, struct daemon_config *config, GPtrArray *listeners);
bool server_start(struct server *s, GError **error);
/* No more clients; calls that are under way end first; then everything is freed. The state must still be there. */
void server_free(struct server *s);
void server_set_timeout(struct server *s, int seconds, void (*idle)(void *opaque), void *opaque);
void server_reload(struct server *s, struct daemon_config *config);
/* Any thread: the socket thread is to look at a client again. */
void server_resume(struct server *s, struct client *c);

/* Makes the sockets: inherited ones (LISTEN_FDS) or its own. NULL-safe result: array of struct listener. */
GPtrArray *daemon_listen(const struct manage_dirs *dirs, const struct daemon_options *options, const struct daemon_config *config, bool privileged, GError **error);
int daemon_inherited(void); /* how many sockets systemd handed over; once, before there are threads */
void listener_free(gpointer listener);

/* ---- clients ---- */

#define CLIENT_OUT_HIGH (4u << 20)    /* bytes waiting to be sent, above which nothing more is read from the client */
#define CLIENT_OUT_EVENTS (16u << 20) /* above which an event closes the connection */
#define CLIENT_STREAM_HIGH (1u << 20) /* bytes of stream data that wait for their reader */
#define CLIENT_STREAMS 64

struct out {
    GByteArray *data;
    gsize at;
    GArray *fds;           /* descriptors that follow; owned */
    unsigned fds_sent;
    struct stream *stream; /* to be told when it has been written; its reading thread keeps it alive until then */
};

struct client {
    struct watched watched;
    gint refs;
    struct server *server;
    struct manage_conn *conn;
    int fd;
    bool is_unix;
    /* The socket thread's own: */
    GByteArray *in;        /* the beginning of a message */
    GArray *fds_in;        /* descriptors that came, in order */
    gint64 last_in, born;
    unsigned pings;
    bool keepalive, handling;
    /* Under lock: */
    GMutex lock;
    GQueue out;            /* struct out */
    gsize out_bytes, stream_bytes;
    uint32_t waiting;      /* epoll events asked for */
    unsigned calls;        /* in flight on workers */
    bool corked, paused, broken, closed;
    GHashTable *streams;   /* serial -> struct stream */
};

struct client *client_new(struct server *s, int fd, const struct listener *from);
struct client *client_ref(struct client *c);
void client_unref(struct client *c);
/* Socket thread: something happened to the descriptor. False: the client is to be closed. */
bool client_events(struct client *c, uint32_t events);
/* Socket thread: the client was paused and may go on. */
bool client_resume(struct client *c);
/* Socket thread, once a second: keepalive, connections that never open. */
bool client_tick(struct client *c, gint64 now);
/* Socket thread: takes it out of epoll, ends its streams; its calls go on and find nobody to answer. */
void client_close(struct client *c);
/* Any thread. Takes the message (and fds, may be NULL) over; `stream`: told when it has left. */
void client_send(struct client *c, GByteArray *m, GArray *fds, struct stream *stream);
/* Any thread: a worker's call or stream data is done with; goes on reading where that had stopped. */
void client_call_done(struct client *c);
void client_stream_bytes(struct client *c, gssize change);
void client_event(struct manage_conn *conn, const struct rpc_proc *proc, GVariant *payload);

/* ---- messages ---- */

/* Socket thread: one whole message. fds: descriptors that came with it (the caller closes them). False: the client is to be closed. */
bool call_message(struct client *c, const struct rpc_header *h, const uint8_t *payload, gsize size, const int *fds, unsigned nfds);
void call_worker(gpointer job, gpointer server); /* the pool's function */
void call_conn_closed(struct client *c);         /* has the pool tell the drivers */

/* ---- streams ---- */

struct stream;
/* Registers a stream for the call of `h` before its reply goes out; false: too many. Takes `m` over. */
struct stream *stream_new(struct client *c, const struct rpc_header *h, struct manage_stream *m, GError **error);
void stream_start(struct stream *s);
/* Socket thread: a STREAM or STREAM_HOLE message; s is the client's stream of that serial. */
void stream_message(struct stream *s, const struct rpc_header *h, const uint8_t *payload, gsize size);
void stream_written(struct stream *s);  /* its chunk has left; under the client's lock */
void stream_cancel(struct stream *s);   /* the client has gone; under its lock */
struct stream *stream_ref(struct stream *s);
void stream_unref(struct stream *s);
