/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network back ends. A frame is an Ethernet frame without FCS.
 *
 * A front end (a network card) takes frames in one of two ways:
 * - simple: can_receive and receive, each frame as one piece of memory;
 * - with buffers: rx_buffers and rx_done, by which the back end puts frames straight into the guest's memory, on several queues.
 *
 * Threads: a back end with descriptors (tap, sockets) has one thread per queue, and calls the front end on it; the user-mode
 * network calls it on the main thread. So a front end's methods may be called on any thread, but for one queue only on one at a
 * time; they take the device's own lock. net_send and net_sendv may be called on any thread, also with the device's lock held;
 * they never call back. Attach, detach and the setters belong to the main thread.
 *
 * Header: when the back end has it and the front end asked for it (net_use_header), each frame in both directions starts with
 * NET_HEADER bytes, struct virtio_net_hdr with num_buffers (virtio 1.2, 5.1.6), and may be an unsegmented packet or lack its
 * checksum, as that header says and net_set_offloads allowed.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct keyval;
struct machine;
struct net_backend;
struct vhost;

enum { NET_HEADER = 12, NET_FRAME_MAX = 65550 /* Ethernet header, VLAN tag and 64 KiB of IP, rounded */ };
/* What the front end takes from the back end without the work done, as TUN_F_* of <linux/if_tun.h>. */
enum net_offload { NET_OFFLOAD_CSUM = 1, NET_OFFLOAD_TSO4 = 2, NET_OFFLOAD_TSO6 = 4, NET_OFFLOAD_ECN = 8, NET_OFFLOAD_UFO = 16 };
enum net_sent {
    NET_SENT,
    NET_DROPPED, /* as on a wire */
    NET_BLOCKED, /* not taken: tx_ready follows when there is room */
};

struct net_frontend {
    bool (*can_receive)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *frame, size_t n);

    /* All from here on optional; both of the next two or none. Where the next frame may be put: up to `max` pieces in ret, room for
     * a largest frame with its header. Returns how many; 0: none now, net_receive_ready follows. rx_done follows each call
     * that gave some, with the bytes that were put there; 0: no frame came. Nobody waits in between. */
    unsigned (*rx_buffers)(void *opaque, unsigned queue, struct iovec *ret, unsigned max);
    void (*rx_done)(void *opaque, unsigned queue, size_t n);
    void (*tx_ready)(void *opaque, unsigned queue); /* after NET_BLOCKED; NULL: what was blocked is lost */
    void (*link_changed)(void *opaque);             /* net_link says; main thread */
};

/* -netdev TYPE,id=ID,... (opts: strings by key; repeated hostfwd in a GPtrArray of char *). */
struct net_backend *net_backend_create(const char *type, const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void net_backend_destroy(struct net_backend *b);
/* The same from an option's pairs ("type", "id" and the type's own), added to m->netdevs, whose own it is. id: when the pairs have none. */
bool net_open(struct machine *m, const struct keyval *kv, const char *id, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Takes it out of m->netdevs and ends it; an error while a device uses it. */
bool net_close(struct machine *m, const char *id, GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool net_backend_attach(struct net_backend *b, const struct net_frontend *f, void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Nothing calls the front end after this. Not with the device's lock held. */
void net_backend_detach(struct net_backend *b);
bool net_attached(const struct net_backend *b);
const char *net_backend_id(const struct net_backend *b);
const char *net_backend_type(const struct net_backend *b);

/* Sends one frame. */
void net_send(struct net_backend *b, const uint8_t *frame, size_t n);
enum net_sent net_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n);
void net_receive_ready(struct net_backend *b); /* the front end has buffers again */
void net_receive_ready_queue(struct net_backend *b, unsigned queue);

unsigned net_queues(const struct net_backend *b);                /* that it has */
void net_set_queues(struct net_backend *b, unsigned n);          /* that are used: any thread */
bool net_has_header(const struct net_backend *b);
void net_use_header(struct net_backend *b, bool on);             /* before the machine runs */
void net_set_offloads(struct net_backend *b, unsigned offloads); /* any thread; only with the header in use */
/* The kernel's side of a queue (vmm/net/vhost.h) and the descriptor that it needs, or NULL. forced: the user wants nothing else. */
struct vhost *net_vhost(struct net_backend *b, unsigned queue, int *ret_fd, bool *ret_forced);
bool net_link(const struct net_backend *b);
void net_set_link(struct net_backend *b, bool up);               /* down: nothing passes */
