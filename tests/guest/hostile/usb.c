/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Abuse of the USB controller (xHCI 1.0) and the sound controller (HD Audio): command and transfer rings that loop, TRBs that lie about
 * lengths and places, contexts that are not in RAM, doorbells of slots that are not there, buffer lists of nothing. After a reset of the
 * USB controller a device must be addressed and tell its descriptor again.
 */
#include "hostile.h"

enum { RUN = 1, RESET = 2, INTE = 4, HALTED = 1, OP = 0x40, PORTS = 0x440, IR0 = 0x1020, DB = 0x2000, WAIT = 200000, RING = 16 };
#define REGS 0xd2000000u
#define SOUND 0xd2100000u
#define DCBAA 0x1000000u
#define COMMANDS 0x1001000u
#define ERST 0x1002000u
#define EVENTS 0x1003000u
#define INPUT 0x1004000u
#define OUTPUT 0x1010000u  /* of slot n: + n * 0x1000 */
#define RINGS 0x1100000u   /* of endpoint e: + e * 0x1000, for all slots alike */
#define DATA 0x1800000u
#define HOLE 0xd0000000u

static unsigned at, cycle;

static volatile uint32_t *reg(unsigned offset) { return (volatile uint32_t *)(REGS + offset); }

static uint32_t somewhere(void)
{
    static const uint32_t places[] = { 0, HOLE, 0xfffffff0, 0xa0000, REGS, 0x3fffff0, COMMANDS, RINGS };
    return rnd() & 3 ? DATA + (rnd() & 0x3ffff) : places[rnd() & 7];
}

static void trb(uint32_t where, uint32_t low, uint32_t high, uint32_t status, uint32_t control)
{
    uint32_t *t = (uint32_t *)where;
    t[0] = low;
    t[1] = high;
    t[2] = status;
    t[3] = control;
}

static void command(uint32_t low, uint32_t control)
{
    trb(COMMANDS + 16 * at, low, 0, 0, control | cycle);
    if (++at == RING - 1) {
        trb(COMMANDS + 16 * at, COMMANDS, 0, 0, 6 << 10 | 2 | cycle);
        at = 0;
        cycle ^= 1;
    }
    *reg(DB) = 0;
}

static void start(void)
{
    *reg(OP) = RESET;
    for (uint32_t p = DCBAA; p < EVENTS + 0x1000; p += 4)
        *(uint32_t *)p = 0;
    for (unsigned i = 1; i < 4; i++)
        *(uint32_t *)(DCBAA + 8 * i) = OUTPUT + i * 0x1000;
    *(uint32_t *)ERST = EVENTS;
    *(uint32_t *)(ERST + 8) = 256;
    *reg(OP + 0x38) = 8;
    *reg(OP + 0x30) = DCBAA;
    *reg(OP + 0x34) = 0;
    *reg(OP + 0x18) = COMMANDS | 1;
    *reg(OP + 0x1c) = 0;
    *reg(IR0 + 8) = 1;
    *reg(IR0 + 0x18) = EVENTS;
    *reg(IR0 + 0x1c) = 0;
    *reg(IR0 + 0x10) = ERST;
    *reg(IR0 + 0x14) = 0;
    *reg(OP) = RUN | INTE;
    at = 0;
    cycle = 1;
}

/* Contexts as a driver makes them, for the device at this port. */
static void good_input(unsigned port, uint32_t add)
{
    static const uint8_t types[5] = { 0, 4, 0, 7, 2 };
    for (uint32_t p = INPUT; p < INPUT + 0x400; p += 4)
        *(uint32_t *)p = 0;
    *(uint32_t *)(INPUT + 4) = add;
    *(uint32_t *)(INPUT + 32) = 4u << 27 | 1u << 20;
    *(uint32_t *)(INPUT + 36) = port << 16;
    for (unsigned ep = 1; ep < 5; ep++) {
        *(uint32_t *)(INPUT + 32 + ep * 32 + 4) = 3 << 1 | (uint32_t)types[ep] << 3 | 64u << 16;
        *(uint32_t *)(INPUT + 32 + ep * 32 + 8) = (RINGS + ep * 0x1000) | 1;
    }
}

static void random_ring(unsigned ep)
{
    uint32_t ring = RINGS + ep * 0x1000;
    for (unsigned i = 0; i < 60; i++) {
        uint32_t type = rnd() & 3 ? 1 + rnd() % 8 : rnd() & 63;
        trb(ring + 16 * i, rnd() & 7 ? somewhere() : rnd(), rnd() & 31 ? 0 : rnd(), rnd() & 1 ? rnd() & 0x1ffff : rnd(), type << 10 | (rnd() & 0x37e) | 1);
    }
    if (rnd() & 1) /* for ever: the link keeps the cycle */
        trb(ring + 16 * (rnd() & 63), ring, 0, 0, 6 << 10 | 1);
}

static void random_round(void)
{
    for (unsigned i = 0; i < 6; i++) {
        good_input(1 + rnd_below(9), rnd() & 3 ? 0xb : rnd());
        if (rnd() & 1)
            *(uint32_t *)(INPUT + 4 * rnd_below(64)) = rnd() & 1 ? rnd() : somewhere();
        if (!(rnd() & 7))
            *(uint32_t *)(DCBAA + 8 * rnd_below(4)) = somewhere();
        command(rnd() & 7 ? INPUT : somewhere(), (8 + rnd() % 18) << 10 | rnd() % 5 << 24 | rnd() % 6 << 16 | (rnd() & 0x200));
    }
    for (unsigned i = 0; i < 4; i++) {
        unsigned ep = 1 + rnd_below(4);
        random_ring(ep);
        *reg(DB + 4 * rnd_below(5)) = rnd() & 7 ? ep : rnd();
    }
    *reg(PORTS + 16 * rnd_below(8)) = rnd();
    *reg(IR0 + 0x18) = EVENTS | (rnd() & 0xff8);
    if (!(rnd() & 31))
        *reg((OP + (rnd() & 0x3c)) & ~3u) = rnd();
    if (!(rnd() & 31))
        *reg(IR0 + (rnd() & 0x3c)) = rnd() & 1 ? rnd() : somewhere();
    if (!(rnd() & 63))
        *reg((rnd() & 0x3ffc)) = rnd();
}

/* A command ring that is nothing but a link to itself. */
static void endless_commands(void)
{
    start();
    trb(COMMANDS, COMMANDS, 0, 0, 6 << 10 | 1);
    for (unsigned i = 0; i < 20; i++)
        *reg(DB) = 0;
}

/* Does the tablet at port 1 say what it is? */
static bool identify(void)
{
    start();
    *reg(PORTS) = 0x210;
    command(0, 9 << 10);
    good_input(1, 3);
    command(INPUT, 11 << 10 | 1u << 24);
    memset((void *)DATA, 0, 64);
    uint32_t ring = RINGS + 0x1000;
    memset((void *)ring, 0, 256);
    trb(ring, 0x01000680, 18 << 16, 8, 2 << 10 | 3u << 16 | 64 | 1);
    trb(ring + 16, DATA, 0, 18, 3 << 10 | 1u << 16 | 1);
    trb(ring + 32, 0, 0, 0, 4 << 10 | 32 | 1);
    *reg(DB + 4) = 1;
    for (unsigned i = 0; i < WAIT && ((volatile uint8_t *)DATA)[0] != 18; i++)
        ;
    return *(uint32_t *)DATA == 0x02000112 && *(uint32_t *)(DATA + 8) == 0x00010627;
}

static void abuse_sound(void)
{
    volatile uint8_t *r = (volatile uint8_t *)SOUND;
    *(volatile uint32_t *)(r + 8) = 1;
    *(volatile uint32_t *)(r + 0x20) = 0xc00000ff;
    for (unsigned i = 0; i < 400; i++) {
        volatile uint8_t *s = r + 0x80 + 0x20 * rnd_below(9);
        uint32_t *list = (uint32_t *)(DATA + (rnd() & 0xff80));
        for (unsigned k = 0; k < 16; k++)
            trb((uint32_t)(list + 4 * k), somewhere(), 0, rnd() & 3 ? rnd() & 0xffff : rnd(), rnd() & 1);
        *(volatile uint32_t *)(s + 8) = rnd() & 3 ? rnd() & 0xffff : rnd();
        *(volatile uint32_t *)(s + 12) = rnd() & 15;
        *(volatile uint32_t *)(s + 16) = rnd();
        *(volatile uint32_t *)(s + 24) = rnd() & 7 ? (uint32_t)list : somewhere();
        *(volatile uint32_t *)s = 0x10001e;
        *(volatile uint32_t *)(r + 0x40) = somewhere();
        *(volatile uint32_t *)(r + 0x50) = somewhere();
        *(volatile uint32_t *)(r + 0x70) = rnd() & 1 ? somewhere() | 1 : 0;
        *(volatile uint32_t *)(r + 0x4c) = 2;
        *(volatile uint32_t *)(r + 0x5c) = 7;
        *(volatile uint16_t *)(r + 0x48) = (uint16_t)rnd();
        (void)*(volatile uint32_t *)(s + 4);
        if (rnd() & 1)
            *(volatile uint32_t *)s = rnd() & 1;
        *(volatile uint32_t *)(r + (rnd() & 0xfc)) = rnd() | 1;
    }
    *(volatile uint32_t *)(r + 8) = 0;
}

static unsigned find(uint32_t id)
{
    for (unsigned f = 0; f < 256; f += 8)
        if (pci_read(f, 0) == id)
            return f;
    return 0;
}

bool run_usb(void)
{
    unsigned f = find(0x000d1b36), sound = find(0x293e8086);
    if (!f || !sound)
        return false;
    pci_write(f, 0x10, REGS);
    pci_write(f, 0x14, 0);
    pci_write(f, 4, 6);
    pci_write(sound, 0x10, SOUND);
    pci_write(sound, 4, 6);
    for (unsigned round = 0; round < 12; round++) {
        start();
        for (unsigned n = 0; n < 60; n++)
            random_round();
        endless_commands();
        if (!identify()) {
            print("wrong: the tablet does not say what it is after a reset of its controller\n");
            return false;
        }
    }
    abuse_sound();
    pci_write(f, 4, 0);
    pci_write(sound, 4, 0);
    return true;
}
