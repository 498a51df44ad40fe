/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages as they stand on the wire, for both ends: a header of 28 bytes, then XDR or a stream's raw bytes. All integers big-endian. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "manage/rpc/rpc_proc.h"

#define RPC_HEADER 28               /* bytes, the length word included */
#define RPC_MESSAGE_MAX 33554436    /* bytes of a whole message */
#define RPC_FDS_MAX 32              /* descriptors of one message */
#define RPC_CHUNK 262120            /* bytes of stream data in one message, either way */

enum rpc_type { RPC_CALL, RPC_REPLY, RPC_MESSAGE, RPC_STREAM, RPC_CALL_WITH_FDS, RPC_REPLY_WITH_FDS, RPC_STREAM_HOLE };
enum rpc_status { RPC_OK, RPC_ERROR, RPC_CONTINUE };
enum { RPC_KEEPALIVE_PING = 1, RPC_KEEPALIVE_PONG = 2 };

struct rpc_header {
    uint32_t length; /* of the whole message, with itself */
    uint32_t program, version, procedure, type, serial, status;
};

void rpc_header_read(const uint8_t from[RPC_HEADER], struct rpc_header *ret);

/* A message with its header; the length is filled in by rpc_message_finish(). Free it with g_byte_array_unref(). */
GByteArray *rpc_message_new(uint32_t program, uint32_t procedure, enum rpc_type type, uint32_t serial, enum rpc_status status);
/* A message whose head is not known yet: room for it; rpc_message_head() fills it in. */
GByteArray *rpc_message_blank(void);
void rpc_message_head(GByteArray *m, uint32_t program, uint32_t procedure, enum rpc_type type, uint32_t serial, enum rpc_status status);
/* nfds > 0: the count word of a message with descriptors; directly after rpc_message_new(). */
void rpc_message_fds(GByteArray *m, unsigned nfds);
void rpc_message_finish(GByteArray *m);

/* The error payload (wire facts, section 4). */
void rpc_message_error(GByteArray *m, int code, int domain, const char *message);
/* Decodes one. *ret_domain may be NULL. Always sets *error: what the peer said, or that it could not be understood. */
void rpc_message_read_error(const void *payload, gsize size, int *ret_domain, GError **error);
