/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ethernet frames as network cards look into them: where the headers are, Internet checksums, segmentation of a large TCP or UDP
 * packet (what cards call TSO). Frames come from guests and networks: every length is checked, nothing is read outside [0, n).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ETHER_HEADER = 14, ETHER_MIN = 60 /* without FCS */, ETHER_TYPE_VLAN = 0x8100, ETHER_TYPE_IPV4 = 0x0800, ETHER_TYPE_IPV6 = 0x86dd };
enum { IP_PROTO_TCP = 6, IP_PROTO_UDP = 17 };

static inline uint16_t ether_get16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static inline void ether_put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static inline uint32_t ether_get32(const uint8_t *p) { return (uint32_t)ether_get16(p) << 16 | ether_get16(p + 2); }
static inline void ether_put32(uint8_t *p, uint32_t v) { ether_put16(p, v >> 16); ether_put16(p + 2, v); }

/* What a frame holds. Offsets from its start; 0: there is none. */
struct ether_parts {
    uint16_t type;             /* EtherType, behind a VLAN tag if there is one */
    uint16_t l3, l4, payload;  /* IP header; TCP or UDP header, whole and not of a later fragment; what follows it */
    size_t end;                /* of the IP packet; the rest is padding */
    uint8_t protocol;          /* of IP */
    bool ipv4, ipv6, fragment;
};
void ether_parse(const uint8_t *frame, size_t n, struct ether_parts *ret);

/* Ones' complement sum in host byte order of big-endian words (RFC 1071), not inverted; chains by `seed`. The first byte is the
 * high half of a word. */
uint32_t ether_sum(const uint8_t *data, size_t n, uint32_t seed);
/* Folds and inverts: the value of a checksum field. */
uint16_t ether_checksum(uint32_t sum);
/* The pseudo header's sum for a transport packet of `length` bytes (RFC 793, RFC 8200 8.1). */
uint32_t ether_pseudo_sum(const uint8_t *frame, const struct ether_parts *p, uint32_t length);
/* Of received frames: true when right. A UDP packet over IPv4 without checksum is right. */
bool ether_ip_checksum_ok(const uint8_t *frame, const struct ether_parts *p);
bool ether_l4_checksum_ok(const uint8_t *frame, const struct ether_parts *p);
/* Frame check sequence (IEEE 802.3, 3.2.9) as its four bytes are sent, lowest first. */
uint32_t ether_fcs(const uint8_t *frame, size_t n);

/* A large packet: `header` bytes of headers, then payload to be cut into pieces of `mss`. */
struct ether_segments {
    unsigned l3, l4, header, mss;
    bool ipv4, tcp;       /* else IPv6, UDP */
    bool ip_sum, l4_sum;  /* checksums to fill in */
    unsigned ip_sum_at, l4_sum_at; /* where they lie */
    uint32_t pseudo;      /* pseudo header's sum without the length */
};
/* Calls `emit` for each frame, built in `scratch` (header + mss bytes). False, and nothing emitted: the description does not
 * fit the packet. */
bool ether_segment(const uint8_t *packet, size_t n, const struct ether_segments *t, uint8_t *scratch,
                   void (*emit)(void *opaque, uint8_t *frame, size_t n), void *opaque);
