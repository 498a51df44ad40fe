/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a URI to a connected socket. */
#pragma once

#include "manage/rpc/rpc_client.h"
#include "manage/rpc/rpc_uri.h"

/* Starts the session's daemon where none answers on `path`, and waits for its socket. */
typedef struct rpc_client *(*rpc_transport_start)(const char *path, GError **error);

/* start_session: NULL, or how a session's daemon that does not run is started. *ret_local: a socket of this host; *ret_encrypted: others cannot read along.
 * NULL: error names the socket, host or program. */
struct rpc_client *rpc_transport_connect(const struct rpc_uri *uri, bool readonly, rpc_transport_start start_session, bool *ret_local, bool *ret_encrypted, GError **error);
