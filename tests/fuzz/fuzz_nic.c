/* SPDX-License-Identifier: GPL-2.0-or-later */
/* e1000e, e1000 and rtl8139 by their registers and rings, with frames from the network. */
#include "fuzz.h"

extern const struct device_class e1000e_class, e1000_class, rtl8139_class;

enum { TX_RING = 0x1000, RX_RING = 0x2000, BUFFERS = 0x20000, PACKET = 0x10000, RING = 16 };

/* Rings as a driver makes them; how: bits that vary. */
static void start_e1000(struct fixture *f, unsigned how)
{
    for (unsigned i = 0; i < RING; i++) {
        uint64_t d[2] = { BUFFERS + 4096 * i, 0 };
        memcpy(f->ram + RX_RING + 16 * i, d, 16);
    }
    static const uint32_t regs[][2] = { { 0x2800, RX_RING }, { 0x2804, 0 }, { 0x2808, RING * 16 }, { 0x2810, 0 }, { 0x2818, RING - 1 },
                                        { 0x3800, TX_RING }, { 0x3804, 0 }, { 0x3808, RING * 16 }, { 0x3810, 0 }, { 0x3818, 0 }, { 0xd0, 0x1f6dc } };
    for (unsigned i = 0; i < G_N_ELEMENTS(regs); i++)
        wr(f, 0, regs[i][0], 4, regs[i][1]);
    wr(f, 0, 0, 4, 0x40 | (how & 1) << 30);                                        /* CTRL: link up, VLAN tags */
    wr(f, 0, 0x5000, 4, how & 2 ? 0x2300 : 0);                                     /* RXCSUM */
    wr(f, 0, 0x5008, 4, how & 4 ? 0x8000 : 0);                                     /* RFCTL: extended descriptors */
    wr(f, 0, 0x400, 4, 2);                                                         /* TCTL */
    wr(f, 0, 0x100, 4, 2 | 0x8018 | (how & 8) << 2 | (how & 0x10) << 2 | (how & 0x60) << 11 | (how & 0x80) << 18); /* RCTL */
}

static void start_rtl(struct fixture *f, unsigned how)
{
    wr(f, 1, 0x37, 1, 0x0c);
    wr(f, 1, 0x30, 4, BUFFERS);
    wr(f, 1, 0x44, 4, 0x0f | (how & 7) << 7 | (how & 0x18) << 8); /* receive: own, broadcasts, all; how large, wrapping */
    wr(f, 1, 0x40, 4, how & 0x20 ? 3 << 17 : 0);
    wr(f, 1, 0x3c, 2, 0xffff);
    wr(f, 1, 0xe0, 2, how & 0x40 ? 0x6b : 0);
    wr(f, 1, 0x20, 4, how & 0x40 ? TX_RING : PACKET);
    wr(f, 1, 0xe4, 4, RX_RING);
    for (unsigned i = 0; i < RING; i++) {
        uint32_t d[4] = { 1u << 31 | (i == RING - 1) << 30 | 1536, 0, BUFFERS + 2048 * i, 0 };
        memcpy(f->ram + RX_RING + 16 * i, d, 16);
    }
}

/* One descriptor for sending, and the word that sends it. */
static void op_send(struct fixture *f, struct input *in, bool rtl, unsigned *tail)
{
    unsigned how = take8(in);
    uint32_t d[4];
    take(in, d, sizeof(d));
    if (how & 1) {
        d[0] = PACKET + (d[0] & 0xfff);
        d[1] = 0;
    }
    if (rtl && !(how & 2)) {
        unsigned slot = how >> 2 & 3;
        wr(f, 1, 0x20 + 4 * slot, 4, d[0]);
        wr(f, 1, 0x10 + 4 * slot, 4, d[2] & 0x1fff);
        return;
    }
    memcpy(f->ram + TX_RING + 16 * (*tail % RING), rtl ? (uint32_t[]){ d[2] | 1u << 31, d[3], d[0], d[1] } : d, 16);
    *tail = (*tail + 1) % RING;
    if (rtl)
        wr(f, 1, 0xd9, 1, 0x40);
    else if (!(how & 4))
        wr(f, 0, 0x3818, 4, *tail);
}

struct player {
    struct fixture f;
    bool rtl;
    unsigned tail;
};

static void add(struct fixture *f, struct input *in)
{
    static const struct device_class *const classes[] = { &e1000e_class, &e1000_class, &rtl8139_class };
    static const char *const props[] = { "netdev", "n", "mac", "52:54:00:00:00:01", NULL };
    unsigned which = take8(in) % 3;
    ((struct player *)f)->rtl = which == 2;
    fixture_add(f, classes[which], props);
}

static void play(struct fixture *f, struct input *in, unsigned op)
{
    struct player *p = (struct player *)f;
    switch (op % 12) {
    case 0: case 1: op_registers(f, in, true); break;
    case 2: op_registers(f, in, false); break;
    case 3: /* the registers that matter, of the BAR that has them */
        if (p->rtl)
            wr(f, 1, take8(in), 1u << (op / 12) % 3, take32(in));
        else
            wr(f, 0, take16(in) & 0x7ffc, 4, take32(in));
        break;
    case 4: op_config(f, in); break;
    case 5: op_ram(f, in); break;
    case 6:
        p->tail = 0;
        p->rtl ? start_rtl(f, take8(in)) : start_e1000(f, take8(in));
        break;
    case 7: case 8: op_send(f, in, p->rtl, &p->tail); break;
    case 9: op_frame(f, in); break;
    case 10: op_net(f, in); break;
    case 11:
        fixture_settle(f);
        if (op >= 240)
            f->d[0]->class->reset(f->d[0]);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct game game = { .add = add, .op = play };
    struct player p = { 0 };
    return fixture_play(&p.f, &game, data, size);
}
