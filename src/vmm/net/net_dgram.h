/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Back ends over datagram sockets, one frame in each, for -netdev dgram and socket. */
#pragma once

#include "vmm/net/net_address.h"
#include "vmm/net/net_private.h"

/* local: what is bound, or a descriptor; remote: where frames go (len 0: to whom the descriptor is connected). With a multicast
 * remote the group is joined, over the interface that has the address local when that is given. Both are taken over. */
struct net_backend *net_dgram_make(const char *what, struct net_address *local, struct net_address *remote, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void net_dgram_destroy(struct net_backend *b);
enum net_sent net_dgram_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n);
void net_dgram_wake(struct net_backend *b, unsigned queue);
void net_dgram_start(struct net_backend *b);
void net_dgram_stop(struct net_backend *b);
