/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Realtek RTL8139: C+ (descriptor rings and offloads beside the old way) or, with cplus=off, the plain 8139C. Between the files of
 * this card. Names and numbers are those of the "RTL8139C(L)+" and "RTL8139C(L)" datasheets (register descriptions, chapter 6).
 */
#pragma once

#include "vmm/dev/nic/nic.h"

enum { /* registers: byte offsets */
    IDR = 0x00, MAR = 0x08, TSD = 0x10, DTCCR = 0x10 /* C+ */, TSAD = 0x20, TNPDS = 0x20 /* C+ */, THPDS = 0x28, RBSTART = 0x30, ERBCR = 0x34,
    ERSR = 0x36, CR = 0x37, CAPR = 0x38, CBR = 0x3a, IMR = 0x3c, ISR = 0x3e, TCR = 0x40, RCR = 0x44, TCTR = 0x48, MPC = 0x4c,
    CR9346 = 0x50, CONFIG0 = 0x51, CONFIG1 = 0x52, TIMER_INT = 0x54, MSR = 0x58, CONFIG3 = 0x59, CONFIG4 = 0x5a, MULINT = 0x5c,
    RERID = 0x5e, TSAD_STATUS = 0x60, BMCR = 0x62, BMSR = 0x64, ANAR = 0x66, ANLPAR = 0x68, ANER = 0x6a, DIS = 0x6c, FCSC = 0x6e, NWAYTR = 0x70,
    REC = 0x72, CSCR = 0x74, PHY1 = 0x78, TW = 0x7c, PHY2 = 0x80, CONFIG5 = 0xd8, TPPOLL = 0xd9, CPCR = 0xe0, MITIGATE = 0xe2, RDSAR = 0xe4,
    ETTHR = 0xec, RTL_REGS = 0x100,
};
enum { CR_BUFE = 1, CR_TE = 4, CR_RE = 8, CR_RST = 16 };
enum { INT_ROK = 1, INT_RER = 2, INT_TOK = 4, INT_TER = 8, INT_RXOVW = 0x10, INT_LINK = 0x20, INT_FOVW = 0x40, INT_TDU = 0x80,
       INT_SW = 0x100, INT_TIMEOUT = 0x4000, INT_MASK = 0xe1ff };
enum { CPCR_TX = 1, CPCR_RX = 2, CPCR_DAC = 0x10, CPCR_CHECK = 0x20, CPCR_VLAN = 0x40 };
enum { RTL_FRAME_MAX = 8192, RTL_TX_MAX = 128 << 10, RTL_RING = 64 /* descriptors of a C+ ring */ };

struct rtl_counters { /* DTCCR's dump: 64 bytes */
    uint64_t tx_ok, rx_ok, tx_error;
    uint32_t rx_error;
    uint16_t missed, frame_align;
    uint32_t tx_one_collision, tx_collisions;
    uint64_t rx_own, rx_broadcast;
    uint32_t rx_multicast;
    uint16_t tx_abort, tx_underrun;
};

struct rtl8139 {
    struct nic nic;
    bool cplus;                /* property */
    uint8_t reg[RTL_REGS];     /* little-endian, as the guest sees them */
    uint8_t next_tx;           /* of the four old descriptors: the one that is sent next */
    uint16_t rx_at, tx_at, tx_high_at; /* C+: index in the ring */
    uint32_t cbr;              /* where the next packet goes in the old ring; CBR shows 16 bits */
    uint64_t timer_zero;       /* when TCTR was 0 */
    struct eeprom93 eeprom;
    struct rtl_counters counters;
    struct vtimer *timer;
    uint8_t *packet, *scratch; /* RTL_TX_MAX, RTL_FRAME_MAX; used within one call only */
};

static inline uint16_t rtl_get16(const struct rtl8139 *s, unsigned r) { return pci_get16(s->reg + r); }
static inline uint32_t rtl_get32(const struct rtl8139 *s, unsigned r) { return pci_get32(s->reg + r); }

/* rtl8139.c */
void rtl8139_cause(struct rtl8139 *s, uint16_t causes);
bool rtl8139_loopback(const struct rtl8139 *s);
/* rtl8139_io.c; lock held */
bool rtl8139_can_receive(struct rtl8139 *s);
bool rtl8139_ring_full(const struct rtl8139 *s); /* the old ring: another large frame may not fit */
void rtl8139_receive(struct rtl8139 *s, const uint8_t *frame, size_t n);
void rtl8139_transmit_old(struct rtl8139 *s); /* one or more of TSD0-3 were given to the card */
void rtl8139_transmit(struct rtl8139 *s);     /* the C+ rings */
void rtl8139_dump(struct rtl8139 *s);         /* DTCCR */
uint32_t rtl8139_ring_size(const struct rtl8139 *s);
