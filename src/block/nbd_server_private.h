/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between nbd_server.c (listening, exports), nbd_negotiate.c and nbd_transmit.c. */
#pragma once

#include "block/nbd_proto.h"
#include "block/nbd_server.h"

struct block_device;

enum { NBD_INPUT = 16 << 10, NBD_MAX_THREADS = 8, NBD_MAX_BITMAPS = 64 };

struct nbd_export {
    struct nbd_server *server;
    char *id, *name, *description;
    bool writable, allocation_depth, multi_conn, fast_zero;
    GPtrArray *bitmaps;
    struct block_device *device;
    struct block_graph *graph;
    uint64_t size;
    void (*gone)(void *opaque, struct nbd_export *e);
    void *opaque;
    unsigned users;            /* connections; server.lock */
    bool removed;
};

/* Metadata contexts: ids on the wire. Bitmap i of the export: NBD_CONTEXT_BITMAP + i. */
enum { NBD_CONTEXT_BASE = 1, NBD_CONTEXT_DEPTH = 2, NBD_CONTEXT_BITMAP = 3 };

struct nbd_peer { /* one connection */
    struct nbd_server *server;
    int fd;
    gint64 deadline;           /* of the negotiation, monotonic; 0: none */
    struct nbd_export *export; /* NULL until chosen */
    bool no_zeroes, structured;
    uint64_t contexts;         /* bit per id, of: */
    char *contexts_of;         /* the export's name they were set for */

    /* Input: of the thread that reads. */
    uint8_t input[NBD_INPUT];
    size_t in_at, in_end;
    unsigned eager;            /* > 0: the client has sent requests before answers came */

    GMutex send_lock;          /* a reply, or a chunk of one, goes out in one piece */

    GMutex lock;               /* all below */
    GCond idle;
    bool reading, ending;
    unsigned threads, waiting;
};

/* nbd_server.c */
struct nbd_export *nbd_server_take_locked_export(struct nbd_peer *p, const char *name, size_t length); /* counted as used; NULL: none */
void nbd_server_each_export(struct nbd_server *s, void (*fn)(void *opaque, const struct nbd_export *e), void *opaque);
/* The named one for looking at it under the server's lock: released by nbd_server_unlook. */
const struct nbd_export *nbd_server_look(struct nbd_server *s, const char *name, size_t length);
void nbd_server_unlook(struct nbd_server *s);
/* All `n` bytes; false: the connection is at its end, or the time for negotiating. */
bool nbd_peer_read(struct nbd_peer *p, void *to, size_t n);
bool nbd_peer_skip(struct nbd_peer *p, uint64_t n);
bool nbd_peer_send(struct nbd_peer *p, struct iovec *iov, int niov); /* changes iov */

/* nbd_negotiate.c. True: on to the requests. */
bool nbd_negotiate(struct nbd_peer *p);
uint16_t nbd_export_flags(const struct nbd_export *e, bool structured);

/* nbd_transmit.c: returns when the connection is at its end; more threads may be inside. */
void nbd_transmit(struct nbd_peer *p);
bool nbd_peer_more_threads(struct nbd_peer *p); /* nbd_server.c: one more, which calls nbd_transmit; counted by the caller */
