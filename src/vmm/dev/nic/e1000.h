/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel's gigabit cards: 82574L ("e1000e": MSI-X, two queues each way) and 82540EM ("e1000"). Between the files of this card.
 * Names are those of Intel's "82574 GbE Controller Family Datasheet" (chapter 10) and "PCI/PCI-X Family of Gigabit Ethernet
 * Controllers Software Developer's Manual" (chapter 13).
 *
 * Frames come on the back end's thread, go out on the vCPU's and on the main loop; the device's lock covers all.
 */
#pragma once

#include "vmm/dev/nic/nic.h"

enum { /* registers: byte offsets */
    CTRL = 0x0000, CTRL_DUP = 0x0004, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014, CTRL_EXT = 0x0018, MDIC = 0x0020, VET = 0x0038,
    ICR = 0x00c0, ITR = 0x00c4, ICS = 0x00c8, IMS = 0x00d0, IMC = 0x00d8, EIAC = 0x00dc, IAM = 0x00e0, IVAR = 0x00e4, EITR = 0x00e8,
    RCTL = 0x0100, TCTL = 0x0400, LEDCTL = 0x0e00, EXTCNF_CTRL = 0x0f00, PBA = 0x1000, EEMNGCTL = 0x1010, EEWR = 0x102c,
    PSRCTL = 0x2170, RX_QUEUE = 0x2800 /* 0x100 apart */, TX_QUEUE = 0x3800,
    STATS = 0x4000, STATS_END = 0x4128, RXCSUM = 0x5000, RFCTL = 0x5008, MTA = 0x5200, RAL0 = 0x5400, RAH0 = 0x5404, RA_END = 0x5480,
    VFTA = 0x5600, MRQC = 0x5818, FACTPS = 0x5b30, SWSM = 0x5b50, FWSM = 0x5b54, SWSM2 = 0x5b58, RETA = 0x5c00, RSSRK = 0x5c80,
    E1000_REGS = 0x6000, /* what follows are time stamps, on the 82574 */
    SYSTIML = 0xb600, SYSTIMH = 0xb604, TIMINCA = 0xb608, E1000_BAR = 0x20000,
};
enum { /* of a queue, from RX_QUEUE or TX_QUEUE + 0x100 n */
    Q_BAL = 0x00, Q_BAH = 0x04, Q_LEN = 0x08, Q_HEAD = 0x10, Q_TAIL = 0x18, Q_DCTL = 0x28,
};
enum { /* statistics that are counted */
    MPC = 0x4010, PRC64 = 0x405c, GPRC = 0x4074, BPRC = 0x4078, MPRC = 0x407c, GPTC = 0x4080, GORC = 0x4088, GOTC = 0x4090,
    RNBC = 0x40a0, RUC = 0x40a4, ROC = 0x40ac, TOR = 0x40c0, TOT = 0x40c8, TPR = 0x40d0, TPT = 0x40d4, PTC64 = 0x40d8,
    MPTC = 0x40f0, BPTC = 0x40f4, TSCTC = 0x40f8, IAC = 0x4100, ICRXOC = 0x4124,
};
enum { /* ICR, IMS, IMC, ICS */
    INT_TXDW = 1 << 0, INT_TXQE = 1 << 1, INT_LSC = 1 << 2, INT_RXDMT0 = 1 << 4, INT_RXO = 1 << 6, INT_RXT0 = 1 << 7, INT_MDAC = 1 << 9,
    INT_SRPD = 1 << 16, INT_ACK = 1 << 17, INT_MNG = 1 << 18, INT_RXQ0 = 1 << 20, INT_TXQ0 = 1 << 22, INT_OTHER = 1 << 24,
};
#define INT_ASSERTED (1u << 31)
enum { E1000_QUEUES = 2, E1000_VECTORS = 5, E1000_THROTTLES = E1000_VECTORS + 1 /* the last: INTx and MSI */, E1000_PHY_REGS = 32 };
enum { E1000_TX_MAX = 256 << 10 /* a large packet */, E1000_FRAME_MAX = 16384, E1000_PACKET_DESCS = 256 };

/* What a context descriptor says (82574 datasheet, 7.2.10.2). */
struct e1000_context {
    uint32_t payload;
    uint16_t ip_end, l4_end, mss;
    uint8_t ip_start, ip_sum, l4_start, l4_sum, header;
    bool ipv4, tcp;
};

struct e1000 {
    struct nic nic;
    bool e;              /* 82574 */
    uint32_t reg[E1000_REGS / 4];
    uint16_t phy[E1000_PHY_REGS];
    uint16_t phy_page;
    uint32_t io_address, timinca;
    uint64_t systim_base, systim_at; /* SYSTIM was `base` at time `at` */
    struct eeprom93 eeprom;
    struct e1000_context context[E1000_QUEUES][2]; /* plain; segmentation */
    /* interrupts: causes that were told about; when a vector may be used again; it waits for that */
    uint32_t announced;
    bool asserted;
    uint64_t throttle[E1000_THROTTLES];
    bool throttled[E1000_THROTTLES];
    struct vtimer *timer;
    uint8_t *packet, *scratch; /* E1000_TX_MAX, E1000_FRAME_MAX: allocated, used within one call only */
};

static inline uint32_t *e1000_reg(struct e1000 *s, unsigned offset) { return &s->reg[offset / 4]; }
#define R(s, offset) (*e1000_reg(s, offset))

/* A descriptor ring: entries, or 0 when head or tail are not inside. */
struct e1000_ring {
    uint64_t base;
    uint32_t n, head, tail;
};
static inline struct e1000_ring e1000_ring(struct e1000 *s, unsigned queue)
{
    struct e1000_ring r = { R(s, queue + Q_BAL) | (uint64_t)R(s, queue + Q_BAH) << 32, R(s, queue + Q_LEN) / 16, R(s, queue + Q_HEAD),
                            R(s, queue + Q_TAIL) };
    if (r.head >= r.n || r.tail >= r.n)
        r.n = 0;
    return r;
}

/* e1000.c */
void e1000_cause(struct e1000 *s, uint32_t causes);
void e1000_count(struct e1000 *s, unsigned counter, uint32_t n);
void e1000_count64(struct e1000 *s, unsigned counter, uint32_t n); /* the low half's offset */
void e1000_count_size(struct e1000 *s, unsigned first, size_t size); /* PRC64.., PTC64.. */
bool e1000_loopback(const struct e1000 *s);
/* e1000_rx.c; lock held */
bool e1000_can_receive(struct e1000 *s);
void e1000_receive(struct e1000 *s, const uint8_t *frame, size_t n);
/* e1000_tx.c; lock held */
void e1000_transmit(struct e1000 *s);
