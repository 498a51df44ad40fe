/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a URI to a connected socket. */
#pragma once

#include "manage/api/api.h"
#include "manage/rpc/rpc_client.h"

/* *ret_local: a socket of this host; *ret_encrypted: others cannot read along. NULL: error names the socket, host or program. */
struct rpc_client *api_transport_connect(const struct api_uri *uri, bool readonly, bool *ret_local, bool *ret_encrypted, GError **error);
/* Starts the session's daemon where none answers on `path`, and waits for its socket. */
struct rpc_client *api_session_start(const char *path, GError **error);
