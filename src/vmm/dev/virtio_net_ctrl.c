/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control queue of a network card (virtio 1.2, 5.1.6.5), and the filters that it sets. */
#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/dev/virtio_net.h"

enum { CTRL_RX = 0, CTRL_MAC = 1, CTRL_VLAN = 2, CTRL_ANNOUNCE = 3, CTRL_MQ = 4, CTRL_GUEST_OFFLOADS = 5 };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, VLAN_ADD = 0, VLAN_DEL = 1, ANNOUNCE_ACK = 0, MQ_PAIRS_SET = 0, OFFLOADS_SET = 0 };
#define GUEST_OFFLOADS (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN | NET_F_GUEST_UFO)

/* ---- filters ---- */

void virtio_net_filter_reset(struct virtio_net *s)
{
    memcpy(s->guest_mac, s->mac, 6);
    memset(s->mode, 0, sizeof(s->mode));
    s->mode[NET_RX_PROMISC] = true; /* until a driver says otherwise */
    s->nuni = s->nmulti = 0;
    s->uni_overflow = s->multi_overflow = false;
    memset(s->vlans, 0, sizeof(s->vlans));
}

static bool in_table(const uint8_t *table, uint32_t n, const uint8_t *mac)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!memcmp(table + 6 * i, mac, 6))
            return true;
    }
    return false;
}

static bool vlan_wanted(const struct virtio_net *s, const uint8_t *frame, size_t n)
{
    if (!virtio_has(&s->v, NET_F_CTRL_VLAN) || n < 16 || frame[12] != 0x81 || frame[13] != 0x00)
        return true;
    unsigned vlan = (frame[14] << 8 | frame[15]) & 0xfff;
    return s->vlans[vlan / 32] >> vlan % 32 & 1;
}

bool virtio_net_wanted(const struct virtio_net *s, const uint8_t *to, size_t n)
{
    static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    if (s->mode[NET_RX_PROMISC])
        return true;
    if (!vlan_wanted(s, to, n))
        return false;
    if (!memcmp(to, broadcast, 6))
        return !s->mode[NET_RX_NOBCAST];
    if (to[0] & 1)
        return !s->mode[NET_RX_NOMULTI] && (s->mode[NET_RX_ALLMULTI] || s->multi_overflow || in_table(s->multi, s->nmulti, to));
    return !s->mode[NET_RX_NOUNI] &&
           (s->mode[NET_RX_ALLUNI] || s->uni_overflow || !memcmp(to, s->guest_mac, 6) || in_table(s->uni, s->nuni, to));
}

/* ---- what the back end does for it ---- */

void virtio_net_apply_offloads(struct virtio_net *s)
{
    static const struct { uint64_t feature; unsigned offload; } bits[] = {
        { NET_F_GUEST_CSUM, NET_OFFLOAD_CSUM }, { NET_F_GUEST_TSO4, NET_OFFLOAD_TSO4 }, { NET_F_GUEST_TSO6, NET_OFFLOAD_TSO6 },
        { NET_F_GUEST_ECN, NET_OFFLOAD_ECN }, { NET_F_GUEST_UFO, NET_OFFLOAD_UFO },
    };
    unsigned offloads = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++)
        offloads |= s->offloads & bits[i].feature ? bits[i].offload : 0;
    if (s->header)
        net_set_offloads(s->backend, offloads);
}

void virtio_net_use_pairs(struct virtio_net *s, unsigned n)
{
    s->used_pairs = n;
    if (s->backend)
        net_set_queues(s->backend, n);
    virtio_net_vhost_update(s);
}

/* ---- commands: true is VIRTIO_NET_OK ---- */

struct command {
    struct virtio_net *s;
    const struct virtio_chain *c;
    uint8_t code;
};

static bool argument(const struct command *k, void *ret, size_t n)
{
    return k->c->out_len == 2 + n && virtio_chain_read(k->c, 2, ret, n) == n;
}

static bool set_mode(const struct command *k)
{
    uint8_t on;
    if (k->code >= NET_RX_NMODES || !argument(k, &on, 1))
        return false;
    k->s->mode[k->code] = on;
    return true;
}

static bool read_table(const struct virtio_chain *c, uint64_t *at, uint8_t *table, uint32_t *ret_n, bool *ret_overflow)
{
    uint32_t n;
    if (virtio_chain_read(c, *at, &n, 4) != 4 || (uint64_t)n * 6 > c->out_len - *at - 4)
        return false;
    *ret_overflow = n > NET_TABLE_MAX;
    *ret_n = *ret_overflow ? 0 : n;
    virtio_chain_read(c, *at + 4, table, *ret_n * 6ul);
    *at += 4 + n * 6ull;
    return true;
}

static bool set_addresses(const struct command *k)
{
    struct virtio_net *s = k->s;
    uint64_t at = 2;
    if (k->code == MAC_ADDR_SET)
        return argument(k, s->guest_mac, 6);
    return k->code == MAC_TABLE_SET && read_table(k->c, &at, s->uni, &s->nuni, &s->uni_overflow) &&
           read_table(k->c, &at, s->multi, &s->nmulti, &s->multi_overflow);
}

static bool set_vlan(const struct command *k)
{
    uint16_t vlan;
    if ((k->code != VLAN_ADD && k->code != VLAN_DEL) || !argument(k, &vlan, 2) || vlan > 4095)
        return false;
    if (k->code == VLAN_ADD)
        k->s->vlans[vlan / 32] |= 1u << vlan % 32;
    else
        k->s->vlans[vlan / 32] &= ~(1u << vlan % 32);
    return true;
}

static bool announced(const struct command *k)
{
    if (k->code != ANNOUNCE_ACK || !k->s->announce)
        return false;
    k->s->announce = false;
    return true;
}

static bool set_pairs(const struct command *k)
{
    uint16_t n;
    if (k->code != MQ_PAIRS_SET || !argument(k, &n, 2) || !n || n > k->s->npairs)
        return false;
    virtio_net_use_pairs(k->s, n);
    return true;
}

static bool set_offloads(const struct command *k)
{
    uint64_t wanted;
    if (k->code != OFFLOADS_SET || !argument(k, &wanted, 8) || (wanted & ~(k->s->v.features & GUEST_OFFLOADS)))
        return false;
    k->s->offloads = wanted;
    virtio_net_apply_offloads(k->s);
    return true;
}

static const struct {
    uint64_t feature;
    bool (*run)(const struct command *k);
    bool filter; /* changes what query-rx-filter shows */
} commands[] = {
    [CTRL_RX] = { NET_F_CTRL_RX, set_mode, true },         [CTRL_MAC] = { 0, set_addresses, true },
    [CTRL_VLAN] = { NET_F_CTRL_VLAN, set_vlan, true },     [CTRL_ANNOUNCE] = { NET_F_GUEST_ANNOUNCE, announced },
    [CTRL_MQ] = { NET_F_MQ, set_pairs },                   [CTRL_GUEST_OFFLOADS] = { NET_F_CTRL_GUEST_OFFLOADS, set_offloads },
};

static bool control(struct virtio_net *s, const struct virtio_chain *c)
{
    struct command k = { s, c, 0 };
    uint8_t h[2];
    if (virtio_chain_read(c, 0, h, 2) != 2 || h[0] >= G_N_ELEMENTS(commands) || !virtio_has(&s->v, commands[h[0]].feature))
        return false;
    k.code = h[1];
    bool ok = commands[h[0]].run(&k);
    if (ok && commands[h[0]].filter)
        virtio_net_filter_changed(s);
    return ok;
}

void virtio_net_control(struct virtio_net *s, struct virtqueue *q)
{
    struct virtio_chain *c;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        uint8_t ack = control(s, c) ? 0 : 1;
        virtqueue_push(c, virtio_chain_write(c, 0, &ack, 1));
        virtqueue_interrupt(q);
    }
}
