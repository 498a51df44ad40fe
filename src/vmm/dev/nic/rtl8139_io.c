/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames in and out of an RTL8139: the old ring of bytes and four transmit buffers, and the C+ descriptors. */
#include <string.h>

#include "vmm/dev/nic/rtl8139.h"
#include "vmm/net/ether.h"

enum { RCR_AAP = 1, RCR_APM = 2, RCR_AM = 4, RCR_AB = 8, RCR_AR = 16, RCR_WRAP = 128 };
enum { RX_ROK = 1, RX_BAR = 0x2000, RX_PAM = 0x4000, RX_MAR = 0x8000 }; /* old header */
enum { TSD_SIZE = 0x1fff, TSD_OWN = 1 << 13, TSD_TOK = 1 << 15 };
enum { FCS = 4, RX_HEADER = 4, OLD_MAX = 1792 /* a frame's buffer in the driver's four slots */ };
enum { /* C+ descriptor, first word */
    D_EOR = 1 << 30, D_FS = 1 << 29, D_LS = 1 << 28, RX_D_MAR = 1 << 26, RX_D_PAM = 1 << 25, RX_D_BAR = 1 << 24, RX_D_IPF = 1 << 15,
    RX_D_UDPF = 1 << 14, RX_D_TCPF = 1 << 13, RX_D_TAGGED = 1 << 16 /* second word */,
    TX_D_LARGE = 1 << 27, TX_D_IPCS = 1 << 18, TX_D_UDPCS = 1 << 17, TX_D_TCPCS = 1 << 16, TX_D_TAG = 1 << 17 /* second word */,
};
#define D_OWN (1u << 31)

struct desc {
    uint32_t status, tag, low, high;
};

/* ---- from the network ---- */

static bool hashed(const struct rtl8139 *s, const uint8_t *mac)
{
    uint32_t crc = ether_fcs(mac, 6), hash = 0;
    for (unsigned i = 0; i < 6; i++) /* the top six bits of the CRC before it is reflected and inverted */
        hash = hash << 1 | (~crc >> i & 1);
    return s->reg[MAR + hash / 8] >> (hash & 7) & 1;
}

/* 0: not for us; else RX_BAR, RX_PAM, RX_MAR. Promiscuous unicast has no bit of its own. */
static bool wanted(const struct rtl8139 *s, const uint8_t *to, unsigned *ret_kind)
{
    uint32_t rcr = rtl_get32(s, RCR);
    *ret_kind = 0;
    if (!memcmp(to, "\xff\xff\xff\xff\xff\xff", 6)) {
        *ret_kind = RX_BAR;
        return rcr & (RCR_AB | RCR_AAP);
    }
    if (to[0] & 1) {
        *ret_kind = RX_MAR;
        return (rcr & RCR_AAP) || ((rcr & RCR_AM) && hashed(s, to));
    }
    if (!memcmp(to, s->reg + IDR, 6)) {
        *ret_kind = RX_PAM;
        return rcr & (RCR_APM | RCR_AAP);
    }
    return rcr & RCR_AAP;
}

uint32_t rtl8139_ring_size(const struct rtl8139 *s)
{
    return 8192u << (rtl_get32(s, RCR) >> 11 & 3);
}

/* Bytes that the driver has not read: from CAPR + 16 to where the card writes. */
static uint32_t ring_free(const struct rtl8139 *s)
{
    uint32_t size = rtl8139_ring_size(s), read = (rtl_get16(s, CAPR) + 16u) % size;
    uint32_t used = (s->cbr % size + size - read) % size;
    return size - used;
}

static void missed(struct rtl8139 *s, uint16_t cause)
{
    s->counters.missed++;
    uint32_t mpc = rtl_get32(s, MPC);
    pci_set32(s->reg + MPC, MIN(mpc + 1, 0xffffffu));
    rtl8139_cause(s, cause);
}

/* With WRAP the packet goes on behind the ring's end, else from its start; the largest ring always wraps. */
static void ring_put(struct rtl8139 *s, uint32_t at, const uint8_t *data, size_t n)
{
    uint32_t size = rtl8139_ring_size(s), base = rtl_get32(s, RBSTART);
    bool behind = (rtl_get32(s, RCR) & RCR_WRAP) && size < 65536;
    size_t first = behind || at + n <= size ? n : size - at;
    nic_write(&s->nic, (uint64_t)base + at, data, first);
    if (first < n)
        nic_write(&s->nic, base, data + first, n - first);
}

static bool store_old(struct rtl8139 *s, uint8_t *frame, size_t n, unsigned kind)
{
    uint32_t size = rtl8139_ring_size(s), at = s->cbr % size, total = (RX_HEADER + n + FCS + 3) & ~3u;
    uint8_t bytes[RX_HEADER + RTL_FRAME_MAX + FCS + 4];
    if (total >= ring_free(s) || n > OLD_MAX) {
        missed(s, INT_RXOVW);
        return false;
    }
    pci_set16(bytes, RX_ROK | kind);
    pci_set16(bytes + 2, n + FCS);
    memcpy(bytes + RX_HEADER, frame, n);
    pci_set32(bytes + RX_HEADER + n, ether_fcs(frame, n));
    ring_put(s, at, bytes, RX_HEADER + n + FCS);
    s->cbr = (at + total) % size;
    pci_set16(s->reg + CBR, s->cbr);
    return true;
}

/* What the card says of a frame's protocol and sums. */
static uint32_t checks(struct rtl8139 *s, const uint8_t *frame, size_t n)
{
    struct ether_parts p;
    uint32_t v = 0;
    ether_parse(frame, n, &p);
    if (!p.ipv4 || !(rtl_get16(s, CPCR) & CPCR_CHECK))
        return 0;
    v = ether_ip_checksum_ok(frame, &p) ? 0 : RX_D_IPF;
    if (p.l4 && p.protocol == IP_PROTO_TCP)
        return v | 1 << 16 | (ether_l4_checksum_ok(frame, &p) ? 0 : RX_D_TCPF);
    if (p.l4 && p.protocol == IP_PROTO_UDP)
        return v | 2 << 16 | (ether_l4_checksum_ok(frame, &p) ? 0 : RX_D_UDPF);
    return v | 3 << 16;
}

static uint64_t ring_base(const struct rtl8139 *s, unsigned reg)
{
    return (rtl_get32(s, reg) & ~255u) | (uint64_t)rtl_get32(s, reg + 4) << 32;
}

static uint64_t desc_address(const struct desc *d)
{
    return d->low | (uint64_t)d->high << 32;
}

static bool rx_desc(struct rtl8139 *s, unsigned index, struct desc *ret)
{
    uint8_t b[16];
    if (!nic_read(&s->nic, ring_base(s, RDSAR) + 16ull * index, b, sizeof(b)))
        return false;
    *ret = (struct desc){ pci_get32(b), pci_get32(b + 4), pci_get32(b + 8), pci_get32(b + 12) };
    return true;
}

/* Tag first, status (with ownership) last. */
static void rx_done(struct rtl8139 *s, unsigned index, uint32_t status, uint32_t tag)
{
    uint8_t b[8];
    uint64_t at = ring_base(s, RDSAR) + 16ull * index;
    pci_set32(b, status);
    pci_set32(b + 4, tag);
    nic_write(&s->nic, at + 4, b + 4, 4);
    nic_write(&s->nic, at, b, 4);
}

static bool last_of_ring(const struct desc *d, unsigned index)
{
    return (d->status & D_EOR) || index == RTL_RING - 1;
}

/* One buffer after the other; if they do not suffice the frame is lost, and they stay the card's. */
static bool store_descs(struct rtl8139 *s, const uint8_t *data, size_t n, uint32_t kind, uint32_t tag)
{
    struct desc d[RTL_RING];
    uint16_t index[RTL_RING], at = s->rx_at;
    unsigned count = 0;
    size_t whole = n;
    for (size_t have = 0; have < n; count++) {
        if (count == RTL_RING || !rx_desc(s, at, &d[count]) || !(d[count].status & D_OWN) || !(d[count].status & 0x1fff)) {
            missed(s, INT_RXOVW);
            return false;
        }
        index[count] = at;
        have += d[count].status & 0x1fff;
        at = last_of_ring(&d[count], at) ? 0 : at + 1;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t part = MIN(n, d[i].status & 0x1fff);
        nic_write(&s->nic, desc_address(&d[i]), data, part);
        data += part;
        n -= part;
        uint32_t size = n ? d[i].status & 0x1fff : whole & 0x1fff; /* the last one has the length of the whole frame */
        d[i].status = (d[i].status & D_EOR) | (i ? 0 : D_FS) | (n ? 0 : D_LS) | kind | size;
    }
    /* Ownership of the first comes last. */
    for (unsigned i = count; i-- > 0;)
        rx_done(s, index[i], d[i].status, tag);
    s->rx_at = at;
    return true;
}

static bool store_new(struct rtl8139 *s, uint8_t *frame, size_t n, unsigned kind)
{
    uint32_t tag = 0, bits = checks(s, frame, n);
    bits |= kind == RX_BAR ? RX_D_BAR : kind == RX_MAR ? RX_D_MAR : kind == RX_PAM ? RX_D_PAM : 0;
    if ((rtl_get16(s, CPCR) & CPCR_VLAN) && ether_get16(frame + 12) == ETHER_TYPE_VLAN && n >= ETHER_HEADER + 4) {
        tag = RX_D_TAGGED | pci_get16(frame + 14); /* its bytes as they came */
        memmove(frame + 12, frame + 16, n - 16);
        n -= 4;
    }
    pci_set32(frame + n, ether_fcs(frame, n));
    return store_descs(s, frame, n + FCS, bits, tag);
}

static bool new_way(const struct rtl8139 *s)
{
    return s->cplus && (rtl_get16(s, CPCR) & CPCR_RX);
}

bool rtl8139_ring_full(const struct rtl8139 *s)
{
    return !new_way(s) && ring_free(s) <= 2048;
}

bool rtl8139_can_receive(struct rtl8139 *s)
{
    struct desc d;
    if (!(s->reg[CR] & CR_RE) || !nic_dma(&s->nic))
        return true; /* taken, and lost */
    if (new_way(s))
        return rx_desc(s, s->rx_at, &d) && (d.status & D_OWN);
    if (!rtl8139_ring_full(s))
        return true;
    /*
     * No frame is lost: it waits in the back end. But Linux' 8139too may have cleared ROK with frames left in the ring, and looks at
     * them again only when a cause comes: after one more frame, or the overflow by a frame that is lost. It hears of those it has.
     */
    if (!(rtl_get16(s, ISR) & INT_ROK))
        rtl8139_cause(s, INT_ROK);
    return false;
}

void rtl8139_receive(struct rtl8139 *s, const uint8_t *frame, size_t n)
{
    uint8_t copy[RTL_FRAME_MAX + 64];
    unsigned kind;
    if (!(s->reg[CR] & CR_RE) || !nic_dma(&s->nic) || n < ETHER_HEADER || n > RTL_FRAME_MAX - FCS || !wanted(s, frame, &kind))
        return;
    memcpy(copy, frame, n);
    if (n < ETHER_MIN) {
        memset(copy + n, 0, ETHER_MIN - n);
        n = ETHER_MIN;
    }
    if (!(new_way(s) ? store_new(s, copy, n, kind) : store_old(s, copy, n, kind)))
        return;
    s->counters.rx_ok++;
    s->counters.rx_own += kind == RX_PAM;
    s->counters.rx_broadcast += kind == RX_BAR;
    s->counters.rx_multicast += kind == RX_MAR;
    rtl8139_cause(s, INT_ROK);
}

/* ---- from the guest ---- */

static void send_frame(struct rtl8139 *s, uint8_t *frame, size_t n)
{
    if (n < ETHER_HEADER || n > RTL_FRAME_MAX)
        return;
    if (n < ETHER_MIN) {
        memset(frame + n, 0, ETHER_MIN - n);
        n = ETHER_MIN;
    }
    s->counters.tx_ok++;
    if (rtl8139_loopback(s))
        rtl8139_receive(s, frame, n);
    else
        nic_send(&s->nic, frame, n);
}

void rtl8139_transmit_old(struct rtl8139 *s)
{
    bool any = false;
    for (unsigned i = 0; i < 4 && (s->reg[CR] & CR_TE); i++) {
        uint8_t *tsd = s->reg + TSD + 4 * s->next_tx;
        uint32_t v = pci_get32(tsd), n = v & TSD_SIZE;
        if (v & TSD_OWN)
            break;
        if (n <= OLD_MAX && nic_read(&s->nic, rtl_get32(s, TSAD + 4 * s->next_tx), s->packet, n))
            send_frame(s, s->packet, n);
        pci_set32(tsd, v | TSD_OWN | TSD_TOK);
        s->next_tx = (s->next_tx + 1) & 3;
        any = true;
    }
    if (any)
        rtl8139_cause(s, INT_TOK);
}

static size_t insert_tag(uint8_t *f, size_t n, uint32_t tag)
{
    if (!(tag & TX_D_TAG) || n < ETHER_HEADER || n + 4 > RTL_FRAME_MAX)
        return n;
    memmove(f + 16, f + 12, n - 12);
    ether_put16(f + 12, ETHER_TYPE_VLAN);
    pci_set16(f + 14, tag);
    return n + 4;
}

struct sending { struct rtl8139 *s; uint32_t tag; };

static void emit(void *opaque, uint8_t *frame, size_t n)
{
    struct sending *x = opaque;
    send_frame(x->s, frame, insert_tag(frame, n, x->tag));
}

static void insert_sums(uint8_t *f, size_t n, uint32_t status)
{
    struct ether_parts p;
    ether_parse(f, n, &p);
    if (!p.ipv4)
        return;
    if (status & TX_D_IPCS) {
        ether_put16(f + p.l3 + 10, 0);
        ether_put16(f + p.l3 + 10, ether_checksum(ether_sum(f + p.l3, (f[p.l3] & 15) * 4, 0)));
    }
    bool tcp = p.protocol == IP_PROTO_TCP;
    if (!p.l4 || !(status & (tcp ? TX_D_TCPCS : TX_D_UDPCS)))
        return;
    unsigned at = p.l4 + (tcp ? 16 : 6);
    ether_put16(f + at, 0);
    uint16_t sum = ether_checksum(ether_sum(f + p.l4, p.end - p.l4, ether_pseudo_sum(f, &p, p.end - p.l4)));
    ether_put16(f + at, sum || tcp ? sum : 0xffff);
}

static void send_large(struct rtl8139 *s, size_t n, const struct desc *d)
{
    struct ether_parts p;
    struct sending x = { s, d->tag };
    uint8_t *f = s->packet;
    /* The total length of a large packet may be 0; the parser wants it right. */
    if (n >= ETHER_HEADER + 20 && ether_get16(f + 12) == ETHER_TYPE_IPV4)
        ether_put16(f + 16, n - ETHER_HEADER > 0xffff ? 0xffff : n - ETHER_HEADER);
    ether_parse(f, n, &p);
    if (!p.ipv4 || !p.l4 || p.protocol != IP_PROTO_TCP)
        return;
    struct ether_segments t = {
        .l3 = p.l3, .l4 = p.l4, .header = p.payload, .mss = d->status >> 16 & 0x7ff, .ipv4 = true, .tcp = true, .ip_sum = true, .l4_sum = true,
        .ip_sum_at = p.l3 + 10, .l4_sum_at = p.l4 + 16, .pseudo = ether_pseudo_sum(f, &p, 0),
    };
    if (t.header + t.mss > RTL_FRAME_MAX || !ether_segment(f, n, &t, s->scratch, emit, &x))
        s->counters.tx_error++;
}

static void send_packet(struct rtl8139 *s, size_t n, const struct desc *d)
{
    if (d->status & TX_D_LARGE) {
        send_large(s, n, d);
        return;
    }
    if (n > RTL_FRAME_MAX)
        return;
    if (d->status & (TX_D_IPCS | TX_D_UDPCS | TX_D_TCPCS))
        insert_sums(s->packet, n, d->status);
    send_frame(s, s->packet, insert_tag(s->packet, n, d->tag));
}

/* The next whole packet of a ring. One that begins in the middle, or is not all there or too large, goes unsent. */
static bool transmit_one(struct rtl8139 *s, unsigned reg, uint16_t *position)
{
    struct desc d[RTL_RING];
    uint16_t index[RTL_RING], at = *position;
    uint64_t base = ring_base(s, reg);
    unsigned count = 0;
    size_t n = 0;
    bool good = true;
    do {
        uint8_t b[16];
        if (count == RTL_RING || !nic_read(&s->nic, base + 16ull * at, b, sizeof(b)))
            return false;
        d[count] = (struct desc){ pci_get32(b), pci_get32(b + 4), pci_get32(b + 8), pci_get32(b + 12) };
        if (!(d[count].status & D_OWN))
            return false;
        index[count] = at;
        at = last_of_ring(&d[count], at) ? 0 : at + 1;
    } while (!(d[count++].status & D_LS));
    for (unsigned i = 0; i < count && good; i++) {
        uint32_t part = d[i].status & 0xffff;
        good = n + part <= RTL_TX_MAX && nic_read(&s->nic, desc_address(&d[i]), s->packet + n, part);
        n += part;
    }
    if (good && (d[0].status & D_FS))
        send_packet(s, n, &d[0]);
    for (unsigned i = count; i-- > 0;) {
        uint8_t b[4];
        pci_set32(b, d[i].status & (D_EOR | D_FS | D_LS)); /* no error, no collisions */
        nic_write(&s->nic, base + 16ull * index[i], b, 4);
    }
    *position = at;
    return true;
}

void rtl8139_transmit(struct rtl8139 *s)
{
    static const uint8_t poll[] = { 0x80, 0x40 }; /* high, normal priority */
    unsigned n = 0;
    for (unsigned ring = 0; ring < 2; ring++) {
        if (!(s->reg[TPPOLL] & poll[ring]))
            continue;
        uint16_t *position = ring ? &s->tx_at : &s->tx_high_at;
        bool on = s->cplus && (rtl_get16(s, CPCR) & CPCR_TX) && (s->reg[CR] & CR_TE);
        while (on && n < NIC_TX_BURST && transmit_one(s, ring ? TNPDS : THPDS, position))
            n++;
        if (n == NIC_TX_BURST) {
            nic_send_later(&s->nic);
            break;
        }
        s->reg[TPPOLL] &= ~poll[ring];
    }
    if (n)
        rtl8139_cause(s, INT_TOK | (n < NIC_TX_BURST ? INT_TDU : 0));
}

void rtl8139_dump(struct rtl8139 *s)
{
    G_STATIC_ASSERT(sizeof(struct rtl_counters) == 64);
    uint64_t at = (rtl_get32(s, DTCCR) & ~63u) | (uint64_t)rtl_get32(s, DTCCR + 4) << 32;
    nic_write(&s->nic, at, &s->counters, sizeof(s->counters));
}
