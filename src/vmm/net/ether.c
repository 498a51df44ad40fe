/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers, checksums and segmentation of Ethernet frames. RFC 791, 793, 768, 8200; IEEE 802.3, 802.1Q. */
#include "vmm/net/ether.h"

#include <string.h>

enum { IPV4_HEADER = 20, IPV6_HEADER = 40, TCP_HEADER = 20, UDP_HEADER = 8, TCP_FLAGS = 13 };
enum { TCP_FIN = 1, TCP_PSH = 8, TCP_CWR = 0x80 };

static bool is_ipv6_option(uint8_t protocol)
{
    return protocol == 0 || protocol == 43 || protocol == 60; /* hop-by-hop, routing, destination options (RFC 8200, 4) */
}

static void parse_l4(const uint8_t *f, size_t at, struct ether_parts *p)
{
    size_t header;
    if (p->protocol == IP_PROTO_TCP && p->end >= at + TCP_HEADER)
        header = (f[at + 12] >> 4) * 4;
    else if (p->protocol == IP_PROTO_UDP && p->end >= at + UDP_HEADER)
        header = UDP_HEADER;
    else
        return;
    if (p->protocol == IP_PROTO_TCP && header < TCP_HEADER)
        return;
    if (at + header > p->end)
        return;
    p->l4 = at;
    p->payload = at + header;
}

static void parse_ipv4(const uint8_t *f, size_t n, size_t at, struct ether_parts *p)
{
    if (n < at + IPV4_HEADER || f[at] >> 4 != 4)
        return;
    size_t header = (f[at] & 15) * 4, total = ether_get16(f + at + 2);
    if (header < IPV4_HEADER || total < header || at + total > n)
        return;
    p->ipv4 = true;
    p->l3 = at;
    p->end = at + total;
    p->protocol = f[at + 9];
    p->fragment = ether_get16(f + at + 6) & 0x3fff; /* more fragments, or an offset */
    if (!p->fragment)
        parse_l4(f, at + header, p);
}

static void parse_ipv6(const uint8_t *f, size_t n, size_t at, struct ether_parts *p)
{
    if (n < at + IPV6_HEADER || f[at] >> 4 != 6)
        return;
    size_t total = IPV6_HEADER + ether_get16(f + at + 4), next = at + IPV6_HEADER;
    if (at + total > n)
        return;
    p->ipv6 = true;
    p->l3 = at;
    p->end = at + total;
    p->protocol = f[at + 6];
    while (is_ipv6_option(p->protocol)) {
        if (next + 8 > p->end)
            return;
        p->protocol = f[next];
        next += 8 + f[next + 1] * 8u;
    }
    p->fragment = p->protocol == 44;
    if (!p->fragment)
        parse_l4(f, next, p);
}

void ether_parse(const uint8_t *f, size_t n, struct ether_parts *ret)
{
    size_t at = 12;
    *ret = (struct ether_parts){ 0 };
    if (n < ETHER_HEADER)
        return;
    ret->type = ether_get16(f + at);
    if (ret->type == ETHER_TYPE_VLAN && n >= ETHER_HEADER + 4) {
        at += 4;
        ret->type = ether_get16(f + at);
    }
    if (ret->type == ETHER_TYPE_IPV4)
        parse_ipv4(f, n, at + 2, ret);
    else if (ret->type == ETHER_TYPE_IPV6)
        parse_ipv6(f, n, at + 2, ret);
}

uint32_t ether_sum(const uint8_t *data, size_t n, uint32_t seed)
{
    uint64_t sum = seed;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) /* two words at a time: 2^16 is 1 in ones' complement */
        sum += ether_get32(data + i);
    for (; i + 2 <= n; i += 2)
        sum += ether_get16(data + i);
    if (i < n)
        sum += data[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

uint16_t ether_checksum(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

uint32_t ether_pseudo_sum(const uint8_t *f, const struct ether_parts *p, uint32_t length)
{
    uint32_t sum = p->ipv4 ? ether_sum(f + p->l3 + 12, 8, 0) : ether_sum(f + p->l3 + 8, 32, 0);
    return sum + p->protocol + (length >> 16) + (length & 0xffff);
}

bool ether_ip_checksum_ok(const uint8_t *f, const struct ether_parts *p)
{
    return !p->ipv4 || ether_checksum(ether_sum(f + p->l3, (f[p->l3] & 15) * 4, 0)) == 0;
}

bool ether_l4_checksum_ok(const uint8_t *f, const struct ether_parts *p)
{
    if (!p->l4)
        return true;
    if (p->protocol == IP_PROTO_UDP && p->ipv4 && !ether_get16(f + p->l4 + 6))
        return true;
    size_t n = p->end - p->l4;
    return ether_checksum(ether_sum(f + p->l4, n, ether_pseudo_sum(f, p, n))) == 0;
}

uint32_t ether_fcs(const uint8_t *frame, size_t n)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= frame[i];
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

/* ---- segmentation ---- */

static bool segments_fit(const struct ether_segments *t, size_t n)
{
    unsigned l3 = t->ipv4 ? IPV4_HEADER : IPV6_HEADER, l4 = t->tcp ? TCP_HEADER : UDP_HEADER;
    return t->mss && t->header <= n && t->l3 >= ETHER_HEADER && t->l3 + l3 <= t->l4 && t->l4 + l4 <= t->header &&
           t->ip_sum_at + 2 <= t->header && t->l4_sum_at + 2 <= t->header;
}

static void fix_headers(uint8_t *f, size_t n, const struct ether_segments *t, unsigned index, size_t offset, bool last)
{
    if (t->ipv4) {
        ether_put16(f + t->l3 + 2, n - t->l3);
        ether_put16(f + t->l3 + 4, ether_get16(f + t->l3 + 4) + index);
    } else {
        ether_put16(f + t->l3 + 4, n - t->l3 - IPV6_HEADER);
    }
    if (!t->tcp) {
        ether_put16(f + t->l4 + 4, n - t->l4);
        return;
    }
    ether_put32(f + t->l4 + 4, ether_get32(f + t->l4 + 4) + offset);
    f[t->l4 + TCP_FLAGS] &= ~((last ? 0 : TCP_FIN | TCP_PSH) | (index ? TCP_CWR : 0));
}

static void fix_sums(uint8_t *f, size_t n, const struct ether_segments *t)
{
    if (t->ip_sum && t->ipv4) {
        ether_put16(f + t->ip_sum_at, 0);
        ether_put16(f + t->ip_sum_at, ether_checksum(ether_sum(f + t->l3, t->l4 - t->l3, 0)));
    }
    if (t->l4_sum) {
        ether_put16(f + t->l4_sum_at, 0);
        ether_put16(f + t->l4_sum_at, ether_checksum(ether_sum(f + t->l4, n - t->l4, t->pseudo + (n - t->l4))));
    }
}

bool ether_segment(const uint8_t *packet, size_t n, const struct ether_segments *t, uint8_t *scratch,
                   void (*emit)(void *opaque, uint8_t *frame, size_t n), void *opaque)
{
    if (!segments_fit(t, n))
        return false;
    size_t payload = n - t->header, offset = 0;
    unsigned index = 0;
    do {
        size_t part = payload - offset < t->mss ? payload - offset : t->mss;
        memcpy(scratch, packet, t->header);
        memcpy(scratch + t->header, packet + t->header + offset, part);
        fix_headers(scratch, t->header + part, t, index++, offset, offset + part == payload);
        fix_sums(scratch, t->header + part, t);
        emit(opaque, scratch, t->header + part);
        offset += part;
    } while (offset < payload);
    return true;
}
