/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reception (82574 datasheet, 7.1): address and VLAN filters, three forms of descriptors, checksums and the RSS hash. A frame for
 * which there are not enough descriptors is lost, and counted.
 */
#include <string.h>

#include "vmm/dev/nic/e1000.h"
#include "vmm/net/ether.h"

enum {
    RCTL_EN = 1 << 1, RCTL_UPE = 1 << 3, RCTL_MPE = 1 << 4, RCTL_LPE = 1 << 5, RCTL_DTYP_SPLIT = 1 << 10, RCTL_BAM = 1 << 15,
    RCTL_VFE = 1 << 18, RCTL_CFIEN = 1 << 19, RCTL_CFI = 1 << 20, RCTL_BSEX = 1 << 25, RCTL_SECRC = 1 << 26,
};
enum { RXCSUM_IPOFL = 1 << 8, RXCSUM_TUOFL = 1 << 9, RXCSUM_PCSD = 1 << 13, RFCTL_EXTEN = 1 << 15, RFCTL_IPV6_DIS = 1 << 10 };
enum { STATUS_DD = 1, STATUS_EOP = 2, STATUS_IXSM = 4, STATUS_VP = 8, STATUS_UDPCS = 16, STATUS_TCPCS = 32, STATUS_IPCS = 64, STATUS_PIF = 128 };
enum { ERROR_L4 = 0x20, ERROR_IP = 0x40 };
enum { RSS_NONE, RSS_IPV4_TCP, RSS_IPV4, RSS_IPV6_TCP, RSS_IPV6_EX, RSS_IPV6 };
enum { MRQC_TCP_IPV4 = 1 << 16, MRQC_IPV4 = 1 << 17, MRQC_TCP_IPV6 = 1 << 18, MRQC_IPV6 = 1 << 20 };
enum { FRAME_STANDARD = 1518, TAG = 4, FCS = 4 };
#define CTRL_VME (1u << 30)
#define RAH_AV (1u << 31)

/* A frame on its way in. */
struct incoming {
    const uint8_t *data;
    size_t n;
    uint8_t status, errors, rss_type, queue;
    uint16_t vlan, checksum, ip_id;
    uint32_t hash;
    struct ether_parts parts;
};

/* ---- filters ---- */

static bool in_hash(struct e1000 *s, const uint8_t *mac)
{
    static const uint8_t shifts[] = { 4, 3, 2, 0 };
    unsigned shift = shifts[R(s, RCTL) >> 12 & 3];
    unsigned hash = (mac[4] >> shift | mac[5] << (8 - shift)) & 0xfff;
    return R(s, MTA + 4 * (hash >> 5)) >> (hash & 31) & 1;
}

static bool is_own(struct e1000 *s, const uint8_t *mac)
{
    for (unsigned at = RAL0; at < RA_END; at += 8) {
        uint32_t high = R(s, at + 4);
        if ((high & RAH_AV) && pci_get32(mac) == R(s, at) && pci_get16(mac + 4) == (high & 0xffff))
            return true;
    }
    return false;
}

static bool wanted(struct e1000 *s, const uint8_t *f, size_t n, uint8_t *ret_status)
{
    uint32_t rctl = R(s, RCTL);
    if (ether_get16(f + 12) == (R(s, VET) & 0xffff) && n >= ETHER_HEADER + TAG && (rctl & RCTL_VFE)) {
        uint16_t tci = ether_get16(f + 14);
        if (!(R(s, VFTA + 4 * (tci >> 5 & 0x7f)) >> (tci & 31) & 1))
            return false;
        if ((rctl & RCTL_CFIEN) && !(tci & 0x1000) != !(rctl & RCTL_CFI))
            return false;
    }
    if (!memcmp(f, "\xff\xff\xff\xff\xff\xff", 6))
        return rctl & (RCTL_BAM | RCTL_MPE);
    if (is_own(s, f))
        return true;
    if (!(f[0] & 1))
        return rctl & RCTL_UPE;
    if (!(rctl & RCTL_MPE) && !in_hash(s, f))
        return false;
    *ret_status |= in_hash(s, f) ? STATUS_PIF : 0; /* the hash is not exact */
    return true;
}

/* ---- what the card finds out about a frame ---- */

/* 7.1.11.2: for each bit of the input that is set, the 32 bits of the key that begin there. */
static uint32_t toeplitz(struct e1000 *s, const uint8_t *input, size_t n)
{
    const uint8_t *key = (const uint8_t *)e1000_reg(s, RSSRK);
    uint32_t window = ether_get32(key), hash = 0;
    for (size_t i = 0; i < n; i++) {
        for (int bit = 7; bit >= 0; bit--) {
            if (input[i] >> bit & 1)
                hash ^= window;
            window = window << 1 | (key[i + 4] >> bit & 1);
        }
    }
    return hash;
}

static void rss(struct e1000 *s, struct incoming *in)
{
    const struct ether_parts *p = &in->parts;
    uint32_t mrqc = R(s, MRQC);
    bool tcp = p->l4 && p->protocol == IP_PROTO_TCP;
    uint8_t input[36];
    size_t n = p->ipv4 ? 8 : 32;
    if (!(R(s, RXCSUM) & RXCSUM_PCSD) || (mrqc & 7) != 1 || !p->l3)
        return;
    memcpy(input, in->data + p->l3 + (p->ipv4 ? 12 : 8), n);
    if (tcp && (mrqc & (p->ipv4 ? MRQC_TCP_IPV4 : MRQC_TCP_IPV6))) {
        memcpy(input + n, in->data + p->l4, 4);
        n += 4;
        in->rss_type = p->ipv4 ? RSS_IPV4_TCP : RSS_IPV6_TCP;
    } else if (mrqc & (p->ipv4 ? MRQC_IPV4 : MRQC_IPV6)) {
        in->rss_type = p->ipv4 ? RSS_IPV4 : RSS_IPV6;
    } else {
        return;
    }
    in->hash = toeplitz(s, input, n);
    in->queue = ((const uint8_t *)e1000_reg(s, RETA))[in->hash & 0x7f] >> 7;
}

static void check_sums(struct e1000 *s, struct incoming *in)
{
    const struct ether_parts *p = &in->parts;
    uint32_t rxcsum = R(s, RXCSUM), start = rxcsum & 0xff;
    if (!(rxcsum & RXCSUM_PCSD) && start < in->n)
        in->checksum = ~ether_checksum(ether_sum(in->data + start, in->n - start, 0));
    if (!p->l3 || (p->ipv6 && (R(s, RFCTL) & RFCTL_IPV6_DIS)) || !(rxcsum & (RXCSUM_IPOFL | RXCSUM_TUOFL))) {
        in->status |= STATUS_IXSM;
        return;
    }
    if (p->ipv4 && (rxcsum & RXCSUM_IPOFL)) {
        in->status |= STATUS_IPCS;
        in->errors |= ether_ip_checksum_ok(in->data, p) ? 0 : ERROR_IP;
    }
    if (p->ipv4)
        in->ip_id = ether_get16(in->data + p->l3 + 4);
    bool tcp = p->protocol == IP_PROTO_TCP, checked = tcp || !p->ipv4 || (p->l4 && ether_get16(in->data + p->l4 + 6));
    if (p->l4 && checked && (rxcsum & RXCSUM_TUOFL)) {
        in->status |= tcp ? STATUS_TCPCS : STATUS_TCPCS | STATUS_UDPCS;
        in->errors |= ether_l4_checksum_ok(in->data, p) ? 0 : ERROR_L4;
    }
}

/* ---- descriptors ---- */

static uint32_t buffer_size(struct e1000 *s)
{
    uint32_t rctl = R(s, RCTL), code = rctl >> 16 & 3, flex = rctl >> 27 & 15;
    if (flex && s->e)
        return flex << 10;
    if ((rctl & RCTL_BSEX) && code)
        return 32768 >> code;
    return 2048 >> code;
}

static bool is_split(struct e1000 *s)
{
    return s->e && (R(s, RCTL) & RCTL_DTYP_SPLIT) && (R(s, RFCTL) & RFCTL_EXTEN);
}

/* Sizes of the four buffers of a split descriptor (10.2.5.8). */
static void split_sizes(struct e1000 *s, uint32_t *ret)
{
    uint32_t v = R(s, PSRCTL);
    ret[0] = (v & 0x7f) * 128;
    for (unsigned i = 1; i < 4; i++)
        ret[i] = (v >> 8 * i & 0x3f) * 1024;
}

static uint32_t room(struct e1000 *s)
{
    uint32_t sizes[4];
    if (!is_split(s))
        return buffer_size(s);
    split_sizes(s, sizes);
    return sizes[0] + sizes[1] + sizes[2] + sizes[3];
}

/* The status goes last: with it the descriptor is the driver's. */
static void put(struct e1000 *s, uint64_t at, const uint8_t *d, unsigned size, unsigned status_at, unsigned status_size)
{
    nic_write(&s->nic, at, d, status_at);
    nic_write(&s->nic, at + status_at + status_size, d + status_at + status_size, size - status_at - status_size);
    nic_write(&s->nic, at + status_at, d + status_at, status_size);
}

static void put_legacy(struct e1000 *s, uint64_t at, const struct incoming *in, size_t from, size_t part, bool last)
{
    uint8_t d[16];
    if (!nic_read(&s->nic, at, d, sizeof(d)))
        return;
    nic_write(&s->nic, pci_get32(d) | (uint64_t)pci_get32(d + 4) << 32, in->data + from, part);
    pci_set16(d + 8, part);
    pci_set16(d + 10, in->checksum);
    d[12] = STATUS_DD | (last ? STATUS_EOP | in->status : 0);
    d[13] = last ? in->errors : 0;
    pci_set16(d + 14, in->vlan);
    put(s, at, d, sizeof(d), 12, 1);
}

/* The first two words of an extended write-back (7.1.5.2): RSS type and queue, hash or IP identification and checksum; then status. */
static void fill_extended(struct e1000 *s, uint8_t *d, const struct incoming *in, bool last)
{
    pci_set32(d, in->rss_type | in->queue << 8);
    if (R(s, RXCSUM) & RXCSUM_PCSD) {
        pci_set32(d + 4, in->hash);
    } else {
        pci_set16(d + 4, in->ip_id);
        pci_set16(d + 6, in->checksum);
    }
    pci_set32(d + 8, STATUS_DD | (last ? STATUS_EOP | in->status | (uint32_t)in->errors << 24 : 0));
    pci_set16(d + 14, in->vlan);
}

static void put_extended(struct e1000 *s, uint64_t at, const struct incoming *in, size_t from, size_t part, bool last)
{
    uint8_t d[16];
    if (!nic_read(&s->nic, at, d, sizeof(d)))
        return;
    nic_write(&s->nic, pci_get32(d) | (uint64_t)pci_get32(d + 4) << 32, in->data + from, part);
    fill_extended(s, d, in, last);
    pci_set16(d + 12, part);
    put(s, at, d, sizeof(d), 8, 4);
}

static void put_split(struct e1000 *s, uint64_t at, const struct incoming *in, size_t from, size_t part, bool last)
{
    uint8_t d[32], w[32] = { 0 };
    uint32_t sizes[4];
    size_t done = 0, lengths[4] = { 0 }, header = from ? 0 : in->parts.payload;
    if (!nic_read(&s->nic, at, d, sizeof(d)))
        return;
    split_sizes(s, sizes);
    bool splits = header && header <= sizes[0] && header <= part;
    for (unsigned i = 0; i < 4 && done < part; i++) {
        lengths[i] = MIN(part - done, i || !splits ? sizes[i] : header);
        nic_write(&s->nic, pci_get32(d + 8 * i) | (uint64_t)pci_get32(d + 8 * i + 4) << 32, in->data + from + done, lengths[i]);
        done += lengths[i];
    }
    fill_extended(s, w, in, last);
    pci_set16(w + 12, lengths[0]);
    pci_set16(w + 16, splits ? 0x8000 | (header & 0x3ff) : 0);
    for (unsigned i = 1; i < 4; i++)
        pci_set16(w + 16 + 2 * i, lengths[i]);
    put(s, at, w, sizeof(w), 8, 4);
}

/* Descriptors that the driver has given. Head and tail count units of 16 bytes, of which a split descriptor is two (7.1.5.3). */
static uint32_t available(struct e1000 *s, const struct e1000_ring *r)
{
    return r->n ? (r->tail + r->n - r->head) % r->n / (is_split(s) ? 2 : 1) : 0;
}

static bool store(struct e1000 *s, const struct incoming *in)
{
    struct e1000_ring r = e1000_ring(s, RX_QUEUE + 0x100 * in->queue);
    uint32_t each = room(s), have = available(s, &r);
    bool split = is_split(s), extended = R(s, RFCTL) & RFCTL_EXTEN;
    if (!each || (in->n + each - 1) / each > have)
        return false;
    for (size_t from = 0; from < in->n;) {
        size_t part = MIN(each, in->n - from);
        bool last = from + part == in->n;
        if (split)
            put_split(s, r.base + 16ull * r.head, in, from, part, last);
        else if (extended && s->e)
            put_extended(s, r.base + 16ull * r.head, in, from, part, last);
        else
            put_legacy(s, r.base + 16ull * r.head, in, from, part, last);
        r.head = (r.head + (split ? 2 : 1)) % r.n;
        from += part;
    }
    R(s, RX_QUEUE + 0x100 * in->queue + Q_HEAD) = r.head;
    if (available(s, &r) <= r.n / (split ? 2 : 1) >> ((R(s, RCTL) >> 8 & 3) + 1))
        e1000_cause(s, INT_RXDMT0);
    return true;
}

static void count_received(struct e1000 *s, const struct incoming *in)
{
    e1000_count(s, GPRC, 1);
    e1000_count64(s, GORC, in->n);
    e1000_count_size(s, PRC64, in->n);
    if (in->data[0] & 1)
        e1000_count(s, !memcmp(in->data, "\xff\xff\xff\xff\xff\xff", 6) ? BPRC : MPRC, 1);
}

bool e1000_can_receive(struct e1000 *s)
{
    if (!(R(s, RCTL) & RCTL_EN) || !nic_dma(&s->nic))
        return true; /* taken, and lost */
    bool any = false;
    for (unsigned q = 0; q < (s->e ? E1000_QUEUES : 1); q++) {
        struct e1000_ring r = e1000_ring(s, RX_QUEUE + 0x100 * q);
        any |= available(s, &r) > 0;
    }
    return any;
}

/* The frame as the guest gets it: tag taken out, padded, with FCS unless that is stripped. buffer: E1000_FRAME_MAX + 64 bytes. */
static void prepare(struct e1000 *s, struct incoming *in, const uint8_t *frame, size_t n, uint8_t *buffer)
{
    bool strip = (R(s, CTRL) & CTRL_VME) && n >= ETHER_HEADER + TAG && ether_get16(frame + 12) == (R(s, VET) & 0xffff);
    memcpy(buffer, frame, 12);
    memcpy(buffer + 12, frame + (strip ? 16 : 12), n - (strip ? 16 : 12));
    if (strip) {
        in->status |= STATUS_VP;
        in->vlan = ether_get16(frame + 14);
        n -= TAG;
    }
    if (n < ETHER_MIN) {
        memset(buffer + n, 0, ETHER_MIN - n);
        n = ETHER_MIN;
    }
    in->data = buffer;
    in->n = n;
    ether_parse(buffer, n, &in->parts);
    check_sums(s, in);
    rss(s, in);
    if (!(R(s, RCTL) & RCTL_SECRC)) {
        pci_set32(buffer + n, ether_fcs(buffer, n));
        in->n += FCS;
    }
}

void e1000_receive(struct e1000 *s, const uint8_t *frame, size_t n)
{
    uint8_t buffer[E1000_FRAME_MAX + 64];
    struct incoming in = { 0 };
    if (!(R(s, RCTL) & RCTL_EN) || !nic_dma(&s->nic) || n < ETHER_HEADER || n > E1000_FRAME_MAX)
        return;
    e1000_count(s, TPR, 1);
    e1000_count64(s, TOR, n + FCS);
    bool tagged = ether_get16(frame + 12) == ETHER_TYPE_VLAN;
    if (!(R(s, RCTL) & RCTL_LPE) && n + FCS > FRAME_STANDARD + (tagged ? TAG : 0u)) {
        e1000_count(s, ROC, 1);
        return;
    }
    if (!wanted(s, frame, n, &in.status))
        return;
    prepare(s, &in, frame, n, buffer);
    if (!store(s, &in)) {
        e1000_count(s, MPC, 1);
        e1000_count(s, RNBC, 1);
        e1000_cause(s, INT_RXO);
        return;
    }
    count_received(s, &in);
    e1000_cause(s, INT_RXT0 | INT_RXQ0 << in.queue);
}
