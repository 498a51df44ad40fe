/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio network device (virtio 1.2, 5.1), between its files: virtio_net.c the device, virtio_net_rx.c frames to the guest,
 * virtio_net_tx.c frames from it, virtio_net_ctrl.c the control queue and the filters.
 *
 * The device's lock covers everything. It is released while the kernel copies a frame from or to the guest's buffers; the pair's
 * rx.busy or tx_busy is set meanwhile, and whoever resets the device waits until both are clear (`idle`).
 */
#pragma once

#include "vmm/bus/virtio.h"
#include "vmm/net/net.h"

/* 5.1.3 */
#define NET_F_CSUM (1ull << 0)
#define NET_F_GUEST_CSUM (1ull << 1)
#define NET_F_CTRL_GUEST_OFFLOADS (1ull << 2)
#define NET_F_MTU (1ull << 3)
#define NET_F_MAC (1ull << 5)
#define NET_F_GUEST_TSO4 (1ull << 7)
#define NET_F_GUEST_TSO6 (1ull << 8)
#define NET_F_GUEST_ECN (1ull << 9)
#define NET_F_GUEST_UFO (1ull << 10)
#define NET_F_HOST_TSO4 (1ull << 11)
#define NET_F_HOST_TSO6 (1ull << 12)
#define NET_F_HOST_ECN (1ull << 13)
#define NET_F_HOST_UFO (1ull << 14)
#define NET_F_MRG_RXBUF (1ull << 15)
#define NET_F_STATUS (1ull << 16)
#define NET_F_CTRL_VQ (1ull << 17)
#define NET_F_CTRL_RX (1ull << 18)
#define NET_F_CTRL_VLAN (1ull << 19)
#define NET_F_CTRL_RX_EXTRA (1ull << 20)
#define NET_F_GUEST_ANNOUNCE (1ull << 21)
#define NET_F_MQ (1ull << 22)
#define NET_F_CTRL_MAC_ADDR (1ull << 23)
#define NET_F_SPEED_DUPLEX (1ull << 63)

enum { NET_TABLE_MAX = 64 /* addresses of each kind */, NET_RX_WINDOW = 64 /* buffers of one frame */, NET_MAX_PAIRS = 16 };
enum { NET_RX_PROMISC, NET_RX_ALLMULTI, NET_RX_ALLUNI, NET_RX_NOMULTI, NET_RX_NOUNI, NET_RX_NOBCAST, NET_RX_NMODES }; /* 5.1.6.5.1 */
enum { NET_STATUS_LINK_UP = 1, NET_STATUS_ANNOUNCE = 2 }; /* 5.1.4 */

/* Buffers of the guest that were taken from the queue and wait for frames. */
struct net_rx {
    struct virtio_chain *chain[NET_RX_WINDOW];
    unsigned n;
    uint64_t capacity; /* bytes of all of them */
    size_t direct;     /* of the frame on its way: bytes that go straight to the buffers, header included; the rest to spill */
    size_t pending;    /* bytes of a frame that waits for more buffers, header included; 0: none */
    bool busy, discard, notify;
    uint8_t *spill;    /* NET_HEADER + NET_FRAME_MAX bytes */
};

struct net_pair {
    struct virtio_net *s;
    unsigned index;
    struct net_rx rx;
    bool tx_busy, tx_blocked;
    bool tx_again; /* room came while tx_busy */
};

struct net_vhost;

struct virtio_net {
    struct virtio_device v;
    /* properties */
    char *netdev, *tx, *speed_text, *duplex_text;
    uint8_t mac[6];
    bool prop_csum, prop_guest_csum, prop_gso, prop_guest_tso4, prop_guest_tso6, prop_guest_ecn, prop_guest_ufo, prop_guest_announce,
        prop_host_tso4, prop_host_tso6, prop_host_ecn, prop_host_ufo, prop_mrg_rxbuf, prop_status, prop_ctrl_vq, prop_ctrl_rx,
        prop_ctrl_vlan, prop_ctrl_rx_extra, prop_ctrl_mac_addr, prop_ctrl_guest_offloads, prop_mq, prop_rss, prop_hash, prop_failover;
    uint64_t rx_queue_size, tx_queue_size, host_mtu, x_txtimer, x_txburst;
    /* what the machine is made of */
    struct net_backend *backend;
    bool header;               /* of the back end: in use */
    unsigned npairs, used_pairs;
    struct net_pair *pairs;
    uint32_t speed;
    uint8_t duplex;
    struct net_vhost *vhost;   /* NULL: none */
    GCond idle;
    bool paused;               /* the machine stands still */
    guint tx_later;
    /* state */
    uint8_t guest_mac[6];
    bool mode[NET_RX_NMODES];
    bool announce;             /* the guest is asked to announce itself */
    uint32_t nuni, nmulti;
    bool uni_overflow, multi_overflow;
    uint8_t uni[NET_TABLE_MAX * 6], multi[NET_TABLE_MAX * 6];
    uint32_t vlans[128];       /* bit n: frames of VLAN n are taken */
    uint64_t offloads;         /* NET_F_GUEST_* that are on */
    bool filter_told;          /* of NIC_RX_FILTER_CHANGED, since the last query */
};

/* virtio_net_rx.c */
unsigned virtio_net_rx_buffers(void *opaque, unsigned queue, struct iovec *ret, unsigned max);
void virtio_net_rx_done(void *opaque, unsigned queue, size_t n);
void virtio_net_rx_drop(struct net_pair *p);   /* gives up all buffers; lock held */
void virtio_net_rx_return(struct net_pair *p); /* puts them back into the queue; lock held, not busy */

/* virtio_net_tx.c; lock held, which virtio_net_transmit may release meanwhile */
void virtio_net_transmit(struct virtio_net *s, unsigned pair);
void virtio_net_tx_ready(void *opaque, unsigned queue); /* lock not held */

/* virtio_net_ctrl.c; lock held */
void virtio_net_control(struct virtio_net *s, struct virtqueue *q);
void virtio_net_filter_reset(struct virtio_net *s);
bool virtio_net_wanted(const struct virtio_net *s, const uint8_t *frame, size_t n); /* frame: its first 18 bytes, or all */
void virtio_net_apply_offloads(struct virtio_net *s);
void virtio_net_use_pairs(struct virtio_net *s, unsigned n);

/* virtio_net.c; lock held: tells QMP once. */
void virtio_net_filter_changed(struct virtio_net *s);

/* virtio_net_vhost.c; lock held, but for init and finish */
bool virtio_net_vhost_init(struct virtio_net *s, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void virtio_net_vhost_finish(struct virtio_net *s);
void virtio_net_vhost_update(struct virtio_net *s);                       /* starts and stops what should run now */
bool virtio_net_vhost_runs(const struct virtio_net *s, unsigned pair);    /* the kernel has its rings */
