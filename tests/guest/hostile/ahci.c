/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Abuse of the SATA controller (AHCI 1.3.1): random command lists, tables, frames and lists of pieces, registers written at the wrong
 * moment. After a reset of the controller IDENTIFY must work again.
 */
#include "hostile.h"

enum { GHC = 4, PORT = 0x100, PORT_SIZE = 0x80, CLB = 0, CLBU = 4, FB = 8, FBU = 12, IS = 16, IE = 20, CMD = 24, TFD = 32, SCTL = 44, SERR = 48, SACT = 52, CI = 56 };
enum { NPORTS = 3, WAIT = 2000000 };
#define ABAR 0xd1000000u
#define LIST 0x1000000u    /* of port n: + n * 0x10000 */
#define FRAMES 0x1008000u
#define TABLES 0x1100000u  /* 32 of 4 KiB for each port */
#define DATA 0x1800000u
#define HOLE 0xd0000000u

static volatile uint32_t *reg(unsigned offset) { return (volatile uint32_t *)(ABAR + offset); }
static volatile uint32_t *port_reg(unsigned port, unsigned offset) { return reg(PORT + port * PORT_SIZE + offset); }

static uint32_t somewhere(void)
{
    static const uint32_t places[] = { 0, HOLE, 0xfffffff0, 0xa0000, ABAR, 0x3fffff0, 0xfee00000, DATA };
    return rnd() & 3 ? DATA + (rnd() & 0x3fffff) : places[rnd() & 7];
}

static void start_port(unsigned port)
{
    *port_reg(port, CMD) = 0;
    *port_reg(port, CLB) = LIST + port * 0x10000;
    *port_reg(port, CLBU) = 0;
    *port_reg(port, FB) = FRAMES + port * 0x10000;
    *port_reg(port, FBU) = 0;
    *port_reg(port, SERR) = ~0u;
    *port_reg(port, IS) = ~0u;
    *port_reg(port, CMD) = 0x10;
    *port_reg(port, CMD) = 0x11;
}

/* entries: of the list of pieces. */
static void header(unsigned port, unsigned slot, uint32_t flags, unsigned entries)
{
    uint32_t *h = (uint32_t *)(LIST + port * 0x10000 + slot * 32);
    h[0] = flags | entries << 16;
    h[1] = 0;
    h[2] = TABLES + (port * 32 + slot) * 4096;
    h[3] = 0;
}

static void piece(unsigned port, unsigned slot, unsigned i, uint32_t at, uint32_t bytes)
{
    uint32_t *p = (uint32_t *)(TABLES + (port * 32 + slot) * 4096 + 0x80 + i * 16);
    p[0] = at;
    p[1] = rnd() & 63 ? 0 : rnd();
    p[2] = 0;
    p[3] = bytes - 1;
}

static void random_slot(unsigned port, unsigned slot)
{
    static const uint8_t commands[] = { 0x60, 0x61, 0x25, 0x35, 0x3d, 0xc8, 0xca, 0x20, 0x30, 0xc4, 0xc5, 0x06, 0x2f, 0x47, 0xec, 0xa1, 0xa0, 0xb0, 0xef, 0xea, 0xe7,
                                        0xc6, 0xf8, 0x27, 0x40, 0x42, 0x90, 0x08, 0x00, 0xe5 };
    uint8_t *t = (uint8_t *)(TABLES + (port * 32 + slot) * 4096);
    unsigned entries = rnd_below(40);
    for (unsigned i = 0; i < 0x80; i++)
        t[i] = rnd() & 1 ? rnd() : 0;
    t[0] = rnd() & 31 ? 0x27 : rnd();
    t[1] = rnd() & 15 ? 0x80 : rnd();
    t[2] = rnd() & 7 ? commands[rnd_below(sizeof(commands))] : rnd();
    if (rnd() & 3) { /* a place that there is, so that something moves */
        t[4] = rnd();
        t[5] = rnd() & 7;
        t[6] = t[8] = t[9] = t[10] = 0;
        t[13] = 0;
    }
    if ((t[2] & 0xfe) == 0x60 && rnd() & 7)
        t[12] = slot << 3;
    for (unsigned i = 0; i < entries; i++)
        piece(port, slot, i, somewhere(), 1 + (rnd() & (rnd() & 3 ? 0xfff : 0x3fffff)));
    header(port, slot, 5 | (rnd() & 0x60), rnd() & 15 ? entries : rnd() & 0xffff);
    if (!(rnd() & 31))
        *(uint32_t *)(LIST + port * 0x10000 + slot * 32 + 8) = somewhere();
}

static void random_port(unsigned port)
{
    static const uint8_t registers[] = { CLB, CLBU, FB, FBU, IS, IE, CMD, TFD, SCTL, SERR, SACT, CI };
    for (unsigned i = 0; i < 4; i++)
        random_slot(port, rnd() & 31);
    *port_reg(port, SACT) = rnd();
    *port_reg(port, CI) = rnd();
    if (rnd() & 1)
        *port_reg(port, IS) = ~0u;
    if (!(rnd() & 3)) {
        unsigned r = registers[rnd_below(sizeof(registers))];
        *port_reg(port, r) = rnd();
    }
    if (!(rnd() & 7))
        start_port(port);
    if (!(rnd() & 63))
        *reg(GHC) = rnd();
}

/* A good command: does the disk say what it is? */
static bool identify(unsigned port)
{
    uint8_t *t = (uint8_t *)(TABLES + port * 32 * 4096);
    *port_reg(port, SCTL) = 1;
    *port_reg(port, SCTL) = 0;
    start_port(port);
    memset(t, 0, 0x80);
    memset((void *)DATA, 0, 512);
    t[0] = 0x27;
    t[1] = 0x80;
    t[2] = port == 1 ? 0xa1 : 0xec; /* the CD-ROM drive is at port 1 */
    header(port, 0, 5, 1);
    piece(port, 0, 0, DATA, 512);
    ((uint32_t *)(t + 0x80))[1] = 0;
    *port_reg(port, CI) = 1;
    for (unsigned i = 0; i < WAIT && *port_reg(port, CI); i++)
        ;
    return !*port_reg(port, CI) && ((uint8_t *)DATA)[510] == 0xa5;
}

bool run_ahci(void)
{
    unsigned f = 0x1f << 3 | 2;
    if (pci_read(f, 0) != 0x29228086)
        return false;
    pci_write(f, 0x24, ABAR);
    pci_write(f, 4, 6);
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned p = 0; p < NPORTS; p++)
            start_port(p);
        for (unsigned n = 0; n < 150; n++)
            random_port(rnd_below(NPORTS));
        *reg(GHC) = 1;
        for (unsigned p = 0; p < 2; p++) {
            if (!identify(p)) {
                print("wrong: a drive does not answer after a reset: port ");
                print_hex(p);
                print("\n");
                return false;
            }
        }
    }
    pci_write(f, 4, 0);
    return true;
}
