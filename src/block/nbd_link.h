/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client's connection to one export of an NBD server, over libnbd (one: more to servers that allow it brought nothing measurable). A call is made by the thread that wants it and returns
 * with the server's answer; any number of threads may have calls under way. There is no thread that serves replies: of the threads
 * that wait for one on a connection, one polls and handles replies for all, until its own has come and it hands that over.
 *
 * A connection that is lost is made anew by a thread of the link's own, at most once a second, when calls want it. Calls that it
 * had under way, and new ones, wait for that up to reconnect_delay seconds from the loss, then they fail with EIO.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct nbd_address;
struct nbd_link;

struct nbd_link_options {
    const char *export_name, *context; /* context: of block status; "base:allocation" */
    bool want_context;                 /* the server must have it */
    const struct nbd_tls *tls;         /* NULL: none */
    uint64_t reconnect_delay, open_timeout; /* seconds */
    bool want_write;
};
struct nbd_tls {
    bool psk, verify;
    char *dir, *username, *hostname;
};

struct nbd_export_info {
    uint64_t size;
    uint32_t min_block, preferred_block, max_block; /* bytes */
    bool read_only, flush, fua, trim, zero, fast_zero, multi_conn, status;
};

/* addr: taken over, also when it fails. */
struct nbd_link *nbd_link_open(struct nbd_address *addr, const struct nbd_link_options *o, struct nbd_export_info *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void nbd_link_close(struct nbd_link *l); /* no call is under way; NULL is allowed */

enum nbd_call_op { NBD_CALL_READ, NBD_CALL_WRITE, NBD_CALL_FLUSH, NBD_CALL_TRIM, NBD_CALL_ZERO, NBD_CALL_STATUS };
struct nbd_call {
    enum nbd_call_op op;
    uint64_t offset, bytes;
    void *buffer;               /* of `bytes`: filled, or written */
    uint32_t flags;             /* LIBNBD_CMD_FLAG_ */
    uint64_t extent;            /* status: how many bytes the answer is about (0: none came), and its flags */
    uint32_t extent_flags;
    /* nbd_link.c's own */
    struct nbd_conn *conn;
    GCond cond;
    bool done, waiting;
    int err;
    const char *context;
};
int nbd_link_call(struct nbd_link *l, struct nbd_call *call); /* 0 or a positive errno value */
