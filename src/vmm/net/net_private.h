/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between net.c and the kinds of back end. */
#pragma once

#include <stdatomic.h>

#include "vmm/net/net.h"

struct net_backend_ops {
    const char *type;
    struct net_backend *(*create)(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error);
    void (*destroy)(struct net_backend *b);
    enum net_sent (*sendv)(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n); /* any thread */
    void (*wake)(struct net_backend *b, unsigned queue); /* any thread: the front end has buffers again */
    /* Optional. */
    void (*start)(struct net_backend *b); /* a front end was attached */
    void (*stop)(struct net_backend *b);  /* it goes: it is not called any more when this returns */
    void (*set_header)(struct net_backend *b, bool on);
    void (*set_offloads)(struct net_backend *b, unsigned offloads);
    void (*set_queues)(struct net_backend *b, unsigned n);
    struct vhost *(*vhost)(struct net_backend *b, unsigned queue, int *ret_fd, bool *ret_forced);
};

struct net_backend { /* first in a kind's own struct */
    const struct net_backend_ops *ops;
    char *id;
    struct machine *machine;               /* for events; NULL in tests and while it is being made */
    unsigned queues;
    bool has_header, header;               /* can; in use */
    _Atomic bool down;                     /* the link, by set_link */
    const struct net_frontend *frontend;   /* set by the main thread while nothing calls it */
    void *frontend_opaque;
    GQueue waiting; /* GBytes for the guest while it has no buffers; main thread, kinds that use net_deliver */
};

/* For kinds without threads, main thread: a frame for the guest; what waits. */
void net_deliver(struct net_backend *b, const uint8_t *frame, size_t n);
void net_flush(struct net_backend *b);
/* Gives the front end one frame that lies in memory, on the queue's thread. False: it has no buffers now. */
bool net_give(struct net_backend *b, unsigned queue, const uint8_t *frame, size_t n);

size_t net_iov_length(const struct iovec *iov, unsigned n);
/* At most `size` bytes of the pieces to one place; the number of bytes. */
size_t net_iov_gather(const struct iovec *iov, unsigned n, void *ret, size_t size);
/* From one place to the pieces; the number of bytes that had room. */
size_t net_iov_scatter(const struct iovec *iov, unsigned n, const void *data, size_t size);

extern const struct net_backend_ops net_slirp, net_tap, net_bridge, net_socket, net_stream, net_dgram;
