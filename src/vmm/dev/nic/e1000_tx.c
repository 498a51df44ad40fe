/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transmission (82574 datasheet, 7.2). A packet is taken when all its descriptors are there, so nothing is left half done between
 * register writes; one of more than E1000_PACKET_DESCS descriptors or E1000_TX_MAX bytes is dropped.
 */
#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/dev/nic/e1000.h"
#include "vmm/net/ether.h"

enum { TCTL_EN = 1 << 1, TCTL_PSP = 1 << 3 };
enum { CMD_EOP = 1, CMD_IC = 4 /* legacy */, CMD_TSE = 4, CMD_RS = 8, CMD_RPS = 16, CMD_DEXT = 32, CMD_VLE = 64 };
enum { TUCMD_TCP = 1, TUCMD_IP = 2 };
enum { POPTS_IXSM = 1, POPTS_TXSM = 2 };
enum { TYPE_CONTEXT = 0, TYPE_DATA = 1 };
#define CTRL_VME (1u << 30)

struct desc {
    uint64_t address;
    uint32_t low, high;
};

static unsigned cmd(const struct desc *d) { return d->low >> 24; }
static bool is_extended(const struct desc *d) { return cmd(d) & CMD_DEXT; }
static bool is_context(const struct desc *d) { return is_extended(d) && (d->low >> 20 & 15) == TYPE_CONTEXT; }
static uint32_t length(const struct desc *d) { return d->low & (is_extended(d) ? 0xfffff : 0xffff); }

static void set_context(struct e1000_context *c, const struct desc *d)
{
    c->ip_start = d->address;
    c->ip_sum = d->address >> 8;
    c->ip_end = d->address >> 16;
    c->l4_start = d->address >> 32;
    c->l4_sum = d->address >> 40;
    c->l4_end = d->address >> 48;
    c->payload = d->low & 0xfffff;
    c->tcp = cmd(d) & TUCMD_TCP;
    c->ipv4 = cmd(d) & TUCMD_IP;
    c->header = d->high >> 8;
    c->mss = d->high >> 16;
}

/* Sums [start, end] (end 0: to the end of the packet), what is in the field included, and puts the result there. */
static void insert_sum(uint8_t *p, size_t n, unsigned start, unsigned at, unsigned end)
{
    size_t stop = end && end + 1u < n ? end + 1u : n;
    if (start < stop && at + 2 <= n)
        ether_put16(p + at, ether_checksum(ether_sum(p + start, stop - start, 0)));
}

static void count_sent(struct e1000 *s, const uint8_t *frame, size_t n)
{
    e1000_count(s, GPTC, 1);
    e1000_count(s, TPT, 1);
    e1000_count64(s, GOTC, n + 4);
    e1000_count64(s, TOT, n + 4);
    e1000_count_size(s, PTC64, n + 4);
    if (frame[0] & 1)
        e1000_count(s, !memcmp(frame, "\xff\xff\xff\xff\xff\xff", 6) ? BPTC : MPTC, 1);
}

struct tag { bool insert; uint16_t tci; };
struct sending { struct e1000 *s; struct tag tag; };

/* One finished frame; its buffer has room for a tag and padding. */
static void send_frame(struct e1000 *s, uint8_t *frame, size_t n, struct tag tag)
{
    if (n < ETHER_HEADER || n + 4 > E1000_FRAME_MAX)
        return;
    if (tag.insert) {
        memmove(frame + 16, frame + 12, n - 12);
        ether_put16(frame + 12, R(s, VET));
        ether_put16(frame + 14, tag.tci);
        n += 4;
    }
    if (n < ETHER_MIN && (R(s, TCTL) & TCTL_PSP)) {
        memset(frame + n, 0, ETHER_MIN - n);
        n = ETHER_MIN;
    }
    count_sent(s, frame, n);
    if (e1000_loopback(s))
        e1000_receive(s, frame, n);
    else
        nic_send(&s->nic, frame, n);
}

static void send_segment(void *opaque, uint8_t *frame, size_t n)
{
    struct sending *x = opaque;
    send_frame(x->s, frame, n, x->tag);
}

static void send_segments(struct e1000 *s, const struct e1000_context *c, size_t n, unsigned popts, struct tag tag)
{
    uint8_t *p = s->packet;
    struct sending x = { s, tag };
    struct ether_segments t = {
        .l3 = c->ip_start, .l4 = c->l4_start, .header = c->header, .mss = c->mss, .ipv4 = c->ipv4, .tcp = c->tcp,
        .ip_sum = popts & POPTS_IXSM, .l4_sum = popts & POPTS_TXSM, .ip_sum_at = c->ip_sum, .l4_sum_at = c->l4_sum,
    };
    if ((size_t)t.header + t.mss + 4 > E1000_FRAME_MAX)
        return;
    if (t.l4_sum_at + 2u <= n)
        t.pseudo = ether_get16(p + t.l4_sum_at); /* the driver has put it there */
    if (!t.ipv4)
        t.ip_sum_at = 0;
    if (ether_segment(p, n, &t, s->scratch, send_segment, &x))
        e1000_count(s, TSCTC, 1);
}

static void send_packet(struct e1000 *s, unsigned q, const struct desc *first, const struct desc *last, size_t n)
{
    struct tag tag = { (cmd(last) & CMD_VLE) && (R(s, CTRL) & CTRL_VME), last->high >> 16 };
    if (!is_extended(first)) {
        if (cmd(last) & CMD_IC)
            insert_sum(s->packet, n, last->high >> 8 & 0xff, last->low >> 16 & 0xff, 0);
        send_frame(s, s->packet, n, tag);
        return;
    }
    bool tse = cmd(first) & CMD_TSE;
    const struct e1000_context *c = &s->context[q][tse];
    unsigned popts = first->high >> 8 & 0xff;
    if (tse) {
        send_segments(s, c, n, popts, tag);
        return;
    }
    if (popts & POPTS_TXSM)
        insert_sum(s->packet, n, c->l4_start, c->l4_sum, c->l4_end);
    if (popts & POPTS_IXSM)
        insert_sum(s->packet, n, c->ip_start, c->ip_sum, c->ip_end);
    send_frame(s, s->packet, n, tag);
}

static void write_back(struct e1000 *s, const struct e1000_ring *r, uint32_t at, const struct desc *d, bool *ret_told)
{
    if (!(cmd(d) & (CMD_RS | CMD_RPS)))
        return;
    uint8_t status = (d->high & 0xff) | 1; /* descriptor done */
    nic_write(&s->nic, r->base + 16ull * at + 12, &status, 1);
    *ret_told = true;
}

/* Copies a packet of `count` descriptors together; 0: too large or not there. */
static size_t gather(struct e1000 *s, const struct desc *d, unsigned count)
{
    size_t n = 0;
    for (unsigned i = 0; i < count; i++) {
        uint32_t part = length(&d[i]);
        if (n + part > E1000_TX_MAX || (part && !nic_read(&s->nic, d[i].address, s->packet + n, part)))
            return 0;
        n += part;
    }
    return n;
}

/* The next packet or context; false: nothing complete is there. */
static bool transmit_one(struct e1000 *s, unsigned q, bool *ret_told)
{
    unsigned queue = TX_QUEUE + 0x100 * q, count = 0;
    struct e1000_ring r = e1000_ring(s, queue);
    struct desc d[E1000_PACKET_DESCS];
    uint32_t at = r.head;
    bool whole = false;
    while (r.n && at != r.tail && count < E1000_PACKET_DESCS && !whole) {
        if (!nic_read(&s->nic, r.base + 16ull * at, &d[count], 16))
            return false; /* a ring outside RAM: the unit stands still */
        if (is_context(&d[count]) && count)
            return R(s, queue + Q_HEAD) = at, true; /* a packet without an end */
        at = (at + 1) % r.n;
        whole = is_context(&d[count]) || (cmd(&d[count]) & CMD_EOP);
        count++;
    }
    if (!count || (!whole && count < E1000_PACKET_DESCS))
        return false;
    if (is_context(&d[0])) {
        set_context(&s->context[q][cmd(&d[0]) & CMD_TSE ? 1 : 0], &d[0]);
    } else if (whole) {
        size_t n = gather(s, d, count);
        if (n)
            send_packet(s, q, &d[0], &d[count - 1], n);
    }
    for (unsigned i = 0; i < count; i++)
        write_back(s, &r, (r.head + i) % r.n, &d[i], ret_told);
    R(s, queue + Q_HEAD) = at;
    return true;
}

void e1000_transmit(struct e1000 *s)
{
    uint32_t causes = 0;
    for (unsigned q = 0; q < (s->e ? E1000_QUEUES : 1); q++) {
        unsigned queue = TX_QUEUE + 0x100 * q, n = 0;
        bool told = false;
        if (!(R(s, TCTL) & TCTL_EN))
            return;
        while (n < NIC_TX_BURST && transmit_one(s, q, &told))
            n++;
        if (n == NIC_TX_BURST)
            nic_send_later(&s->nic);
        if (told)
            causes |= INT_TXDW | INT_TXQ0 << q;
        if (n && R(s, queue + Q_HEAD) == R(s, queue + Q_TAIL))
            causes |= INT_TXQE;
    }
    if (causes)
        e1000_cause(s, causes);
}
