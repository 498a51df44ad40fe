/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between net.c and the kinds of back end. */
#pragma once

#include "vmm/net/net.h"

struct net_backend_ops {
    const char *type;
    struct net_backend *(*create)(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error);
    void (*destroy)(struct net_backend *b);
    void (*send)(struct net_backend *b, const uint8_t *frame, size_t n); /* any thread */
    void (*wake)(struct net_backend *b);                                 /* any thread: call net_flush on the main thread soon */
};

struct net_backend { /* first in a kind's own struct */
    const struct net_backend_ops *ops;
    char *id;
    const struct net_frontend *frontend; /* main thread; set while the machine does not run */
    void *frontend_opaque;
    GQueue waiting; /* GBytes for the guest while it has no buffers; main thread */
};

/* For kinds, main thread: a frame for the guest; what waits. */
void net_deliver(struct net_backend *b, const uint8_t *frame, size_t n);
void net_flush(struct net_backend *b);

extern const struct net_backend_ops net_slirp;
