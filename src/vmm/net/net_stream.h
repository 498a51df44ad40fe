/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Back ends over stream sockets, for -netdev stream and socket. */
#pragma once

#include "vmm/net/net_address.h"
#include "vmm/net/net_private.h"

/* server: listens; else connects, and tries again after reconnect_ms when that is not 0. An address of kind fd is listened at or
 * used as it is. The address is taken over. */
struct net_backend *net_stream_make(const char *what, struct net_address *a, bool server, uint64_t reconnect_ms, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Methods but for create. */
void net_stream_destroy(struct net_backend *b);
enum net_sent net_stream_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n);
void net_stream_wake(struct net_backend *b, unsigned queue);
void net_stream_start(struct net_backend *b);
void net_stream_stop(struct net_backend *b);
