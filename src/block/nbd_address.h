/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses of NBD servers, as QMP's SocketAddress has them, and sockets made of them. Descriptors are close-on-exec. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>

struct keyval;

struct nbd_address {
    GArray *resolved;        /* struct nbd_sockaddr: to be tried in this order; NULL for a descriptor */
    char *host, *port, *path;/* inet: host (may be NULL) and port; unix: path; else NULL */
    char *fd_name;           /* type fd: as fdset_take takes it */
    char *text;              /* for messages: "127.0.0.1:10809", "/run/nbd.sock" */
};
struct nbd_sockaddr {
    struct sockaddr_storage sa;
    socklen_t len;
};

/* Takes type, host, port, path, str and the further members of SocketAddress out of kv. Host names are looked up, which the sandbox
 * of a running machine does not allow: there only numeric addresses. passive: to listen on. */
bool nbd_address_take(struct keyval *kv, bool passive, struct nbd_address *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void nbd_address_clear(struct nbd_address *a);
/* A connected blocking socket within timeout_ms, or -1. A descriptor can be had once. */
int nbd_address_connect(const struct nbd_address *a, int timeout_ms, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A listening socket, or -1. *ret_made_path: a socket file that is now to be removed at the end. */
int nbd_address_listen(const struct nbd_address *a, bool *ret_made_path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
