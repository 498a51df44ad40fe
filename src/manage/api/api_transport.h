/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the library adds to the ways to a daemon (rpc/rpc_transport.h): the session's daemon is started. */
#pragma once

#include "manage/api/api.h"
#include "manage/rpc/rpc_transport.h"

/* Starts the session's daemon where none answers on `path`, and waits for its socket. */
struct rpc_client *api_session_start(const char *path, GError **error);
