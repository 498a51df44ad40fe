/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One queue of a back end that has a descriptor, and the thread that waits on it. The thread takes frames from the descriptor
 * and gives them to the front end; frames of the guest are written by whoever sends them, and the thread only waits for room.
 */
#pragma once

#include <stdatomic.h>

#include "vmm/net/net_private.h"

struct net_port;

struct net_port_ops {
    /* The next frame into the pieces: its bytes; -EAGAIN: none now; 0 or another error: the descriptor is of no more use. */
    ssize_t (*read)(struct net_port *p, const struct iovec *iov, unsigned n);
    /* May be NULL. The descriptor has room again: more to write of an earlier frame? True: wait for room once more. */
    bool (*flush)(struct net_port *p);
    /* May be NULL. The thread has given up and ends; it is still to be joined (net_port_stop). On the thread. */
    void (*ended)(struct net_port *p);
};

struct net_port {
    struct net_backend *b;
    const struct net_port_ops *ops;
    unsigned queue;
    int fd, wake_fd;
    GThread *thread;
    _Atomic bool stopping;
    _Atomic bool stalled;   /* the front end had no buffers; net_port_wake ends that */
    _Atomic bool blocked;   /* somebody waits for room to send */
    uint8_t *scratch;       /* a frame for a simple front end */
};

/* fd stays the caller's. */
void net_port_init(struct net_port *p, struct net_backend *b, const struct net_port_ops *ops, unsigned queue, int fd);
void net_port_finish(struct net_port *p);
void net_port_start(struct net_port *p);
void net_port_stop(struct net_port *p); /* waits for the thread's end; not on it */
void net_port_wake(struct net_port *p); /* any thread: the front end has buffers again */
void net_port_wait_room(struct net_port *p); /* any thread: tx_ready of the front end when the descriptor takes more */
