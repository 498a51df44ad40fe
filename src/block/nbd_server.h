/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An NBD server (doc/proto.md of the NBD project): fixed newstyle negotiation, simple and structured replies. A thread of its own
 * takes connections; each has from one to a few threads of its own, of which one at a time reads requests; the others carry them out
 * and answer.
 *
 * What is declared here is called by the main thread, which runs GLib's default main context.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "block/node.h"

struct block_bitmap;
struct nbd_address;
struct nbd_export;
struct nbd_server;

/* max_connections 0: any number. */
struct nbd_server *nbd_server_start(const struct nbd_address *addr, unsigned max_connections, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* For a socket that listens already; taken over. -1: none, connections come by nbd_server_take. */
struct nbd_server *nbd_server_start_fd(int fd, unsigned max_connections);
/* Serves a connection that is there already (a socket; taken over). */
void nbd_server_take(struct nbd_server *s, int fd);
/* Ends all connections, then removes all exports. NULL is allowed. */
void nbd_server_stop(struct nbd_server *s);

struct nbd_export_options {
    const char *id;           /* of QMP; NULL: the name */
    const char *name, *description; /* description NULL: none */
    bool writable, write_through, allocation_depth;
    GPtrArray *bitmaps;       /* struct block_bitmap *, made busy by the caller; or NULL */
};
/* The node is referenced for the export, which follows replacements. gone: called in the main context when the export has been
 * removed and nobody uses it any more, just before it is freed (bitmaps are no longer in use then); may be NULL. */
struct nbd_export *nbd_server_add(struct nbd_server *s, struct block_node *node, const struct nbd_export_options *o,
                                  void (*gone)(void *opaque, struct nbd_export *e), void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* No new connections; those there are are ended. It is gone some time after. */
void nbd_export_remove(struct nbd_export *e);

const char *nbd_export_id(const struct nbd_export *e);
const char *nbd_export_name(const struct nbd_export *e);
struct block_node *nbd_export_node(const struct nbd_export *e); /* not referenced */
bool nbd_export_used(const struct nbd_export *e);     /* has connections */
bool nbd_export_removed(const struct nbd_export *e);  /* nbd_export_remove was called */
GPtrArray *nbd_export_bitmaps(const struct nbd_export *e); /* as given; NULL: none */
struct nbd_export *nbd_server_find(struct nbd_server *s, const char *name);
