/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames over one stream socket: each is preceded by its length, 4 bytes, big endian. The peer is not trusted: a length beyond
 * NET_FRAME_MAX ends the connection.
 */
#pragma once

#include "vmm/net/net_port.h"

struct net_link {
    struct net_port port;
    int fd;
    GMutex lock;            /* covers the rest of a frame that the socket did not take at once */
    uint8_t *tail;
    size_t tail_at, tail_n;
    uint8_t *in;            /* bytes that came; the port's thread */
    size_t in_at, in_n;
    void (*ended)(void *opaque); /* on the port's thread: no more frames come */
    void *opaque;
};

struct net_link *net_link_create(struct net_backend *b, int fd, void (*ended)(void *opaque), void *opaque); /* fd becomes the link's */
void net_link_destroy(struct net_link *l); /* main thread; waits for the thread */
enum net_sent net_link_send(struct net_link *l, const struct iovec *iov, unsigned n);
