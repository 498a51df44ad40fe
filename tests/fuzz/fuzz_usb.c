/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An xHCI controller with a tablet and a disk: registers, command ring, contexts, transfer rings, as a driver makes them and as an attacker does. */
#include "fuzz.h"
#include "vmm/display/display.h"

extern const struct device_class qemu_xhci_class, usb_tablet_class, usb_storage_class;

enum { DCBAA = 0x1000, ERST = 0x1800, COMMANDS = 0x2000, EVENTS = 0x3000, INPUT = 0x4000, OUTPUT = 0x5000 /* 4 KiB each */, TRANSFERS = 0x10000 /* likewise */,
       DATA = 0x40000, RING = 16, EPS = 5, OPERATIONAL = 0x40, PORTSC = 0x440, INTERRUPTER = 0x1020, DOORBELL = 0x2000, SLOTS = 3 };

struct ring { unsigned base, at, cycle; };
struct player {
    struct fixture f;
    struct ring commands, transfers[SLOTS][EPS];
};

static void put(struct player *p, struct ring *r, uint64_t parameter, uint32_t status, uint32_t control)
{
    uint32_t trb[4] = { (uint32_t)parameter, (uint32_t)(parameter >> 32), status, (control & ~1u) | r->cycle };
    memcpy(p->f.ram + r->base + 16 * r->at, trb, 16);
    if (++r->at == RING - 1) {
        uint32_t link[4] = { r->base, 0, 0, 6 << 10 | 2 | r->cycle };
        memcpy(p->f.ram + r->base + 16 * r->at, link, 16);
        r->at = 0;
        r->cycle ^= 1;
    }
}

static void command(struct player *p, uint64_t parameter, uint32_t control)
{
    put(p, &p->commands, parameter, 0, control);
    wr(&p->f, 0, DOORBELL, 4, 0);
}

static void word(struct player *p, unsigned at, uint32_t v) { memcpy(p->f.ram + at, &v, 4); }

static struct ring *ring_of(struct player *p, unsigned slot, unsigned ep)
{
    struct ring *r = &p->transfers[slot % SLOTS][ep % EPS];
    r->base = TRANSFERS + (slot % SLOTS * EPS + ep % EPS) * 4096u;
    return r;
}

/* Slot and endpoint contexts as a driver fills them. */
static void input(struct player *p, unsigned slot, unsigned port, uint32_t add)
{
    static const uint8_t types[EPS + 1] = { 0, 4, 0, 7, 2, 0 };
    memset(p->f.ram + INPUT, 0, 1024);
    word(p, INPUT + 4, add);
    word(p, INPUT + 32, 1 << 27 | 4 << 20);
    word(p, INPUT + 36, port << 16);
    for (unsigned ep = 1; ep < EPS; ep++) {
        struct ring *r = ring_of(p, slot, ep);
        bool bulk = port != 1 && ep == 3;
        word(p, INPUT + 32 + 32 * ep + 4, 3 << 1 | (uint32_t)(bulk ? 6 : types[ep]) << 3 | 512 << 16);
        word(p, INPUT + 32 + 32 * ep + 8, r->base | 1);
        if (add >> ep & 1) {
            memset(p->f.ram + r->base, 0, RING * 16);
            r->at = 0;
            r->cycle = 1;
        }
    }
}

static void start(struct player *p)
{
    wr(&p->f, 0, OPERATIONAL, 4, 2);
    memset(p->f.ram + COMMANDS, 0, RING * 16);
    p->commands = (struct ring){ COMMANDS, 0, 1 };
    for (unsigned i = 1; i < SLOTS; i++)
        word(p, DCBAA + 8 * i, OUTPUT + i * 4096);
    word(p, ERST, EVENTS);
    word(p, ERST + 8, 64);
    wr(&p->f, 0, OPERATIONAL + 0x38, 4, SLOTS);
    wr(&p->f, 0, OPERATIONAL + 0x30, 4, DCBAA);
    wr(&p->f, 0, OPERATIONAL + 0x18, 4, COMMANDS | 1);
    wr(&p->f, 0, INTERRUPTER + 8, 4, 1);
    wr(&p->f, 0, INTERRUPTER + 0x18, 4, EVENTS);
    wr(&p->f, 0, INTERRUPTER + 0x10, 4, ERST);
    wr(&p->f, 0, INTERRUPTER + 0x14, 4, 0);
    wr(&p->f, 0, INTERRUPTER, 4, 2);
    wr(&p->f, 0, OPERATIONAL, 4, 5);
    for (unsigned slot = 1; slot < SLOTS; slot++) {
        unsigned port = slot == 1 ? 1 : 6; /* the disk: the USB 3 port of connector 2 */
        wr(&p->f, 0, PORTSC + 16 * (port - 1), 4, 1 << 4);
        command(p, 0, 9 << 10);
        input(p, slot, port, 3);
        command(p, INPUT, 11 << 10 | slot << 24);
        input(p, slot, port, slot == 1 ? 1 | 1 << 3 : 1 | 1 << 3 | 1 << 4);
        command(p, INPUT, 12 << 10 | slot << 24);
        put(p, ring_of(p, slot, 1), 0x00010900, 8, 2 << 10 | 64); /* SET_CONFIGURATION 1 */
        put(p, ring_of(p, slot, 1), 0, 0, 4 << 10 | 1 << 16 | 32);
        wr(&p->f, 0, DOORBELL + 4 * slot, 4, 1);
    }
}

static void op_command(struct player *p, struct input *in)
{
    unsigned how = take8(in), slot = how & 3;
    if (how & 4)
        input(p, slot, take8(in) % 9, take8(in) & 63);
    if (how & 8)
        take(in, p->f.ram + INPUT + take8(in) * 4, 4);
    command(p, how & 16 ? take32(in) : INPUT, (uint32_t)(8 + how / 16 % 16) << 10 | (uint32_t)take8(in) % 6 << 16 | (uint32_t)slot << 24 | (how & 32 ? 512 : 0));
}

static void op_control(struct player *p, struct input *in)
{
    static const uint16_t requests[] = { 0x0680, 0x0681, 0x0080, 0x0880, 0x0900, 0x0300, 0x0100, 0x0102, 0x0302, 0x01a1, 0x0921, 0x0a21, 0x0b21, 0xfea1, 0xff21, 0x02a1 };
    unsigned how = take8(in), slot = 1 + (how & 1);
    uint64_t setup = (uint64_t)requests[how >> 1 & 15] | (uint64_t)take16(in) << 16 | (uint64_t)take8(in) << 32 | (uint64_t)take16(in) << 48;
    put(p, ring_of(p, slot, 1), how & 0x20 ? take32(in) : setup, 8, 2 << 10 | 64);
    for (unsigned i = 0; i < (how >> 6); i++)
        put(p, ring_of(p, slot, 1), DATA + take16(in), take16(in), (i ? 1 : 3) << 10 | take8(in) % 128);
    put(p, ring_of(p, slot, 1), 0, 0, 4 << 10 | 32);
    wr(&p->f, 0, DOORBELL + 4 * slot, 4, 1);
}

static void op_transfer(struct player *p, struct input *in)
{
    unsigned how = take8(in), slot = 1 + (how & 1), ep = 3 + (how >> 1 & 1), n = how >> 2 & 3;
    for (unsigned i = 0; i <= n; i++)
        put(p, ring_of(p, slot, ep), how & 0x80 ? take32(in) : DATA + take16(in) * 4u, take16(in), (how & 0x40 ? take8(in) : 1) % 64 << 10 | (i < n ? 16 : 32) | (take8(in) & 4));
    wr(&p->f, 0, DOORBELL + 4 * slot, 4, ep);
}

/* A command of bulk-only transport: to the disk, then data and status. */
static void op_disk(struct player *p, struct input *in)
{
    uint8_t cbw[31] = { 'U', 'S', 'B', 'C' };
    unsigned how = take8(in), length = take16(in);
    cbw[8] = (uint8_t)length;
    cbw[9] = (uint8_t)(length >> 8);
    cbw[10] = how & 0x20 ? take8(in) : 0;
    cbw[12] = how & 1 ? 0x80 : 0;
    cbw[14] = 16;
    take(in, cbw + 15, how >> 1 & 15);
    memcpy(p->f.ram + DATA, cbw, sizeof(cbw));
    put(p, ring_of(p, 2, 4), DATA, sizeof(cbw), 1 << 10 | 32);
    wr(&p->f, 0, DOORBELL + 8, 4, 4);
    if (length)
        put(p, ring_of(p, 2, how & 1 ? 3 : 4), DATA + 4096, how & 0x40 ? length / 2 : length, 1 << 10 | 36);
    put(p, ring_of(p, 2, 3), DATA + 64, 13, 1 << 10 | 36);
    wr(&p->f, 0, DOORBELL + 8, 4, 4);
    wr(&p->f, 0, DOORBELL + 8, 4, 3);
}

static void add(struct fixture *f, struct input *in)
{
    fixture_add(f, &qemu_xhci_class, (const char *const[]){ "msix", take8(in) & 1 ? "on" : "off", NULL });
    fixture_add(f, &usb_tablet_class, (const char *const[]){ "port", "1", NULL });
    fixture_add(f, &usb_storage_class, (const char *const[]){ "drive", "d", "port", "2", NULL });
}

static void begin(struct fixture *f) { start((struct player *)f); }

static void play(struct fixture *f, struct input *in, unsigned op)
{
    struct player *p = (struct player *)f;
    if (op_common(f, in, op % 14))
        return;
    switch (op % 14) {
    case 4: start(p); break;
    case 5: wr(f, 0, DOORBELL + 4 * (op / 14 % 4), 4, take8(in)); break;
    case 6: wr(f, 0, INTERRUPTER + 0x18, 4, (EVENTS + take8(in) % 64 * 16) | 8); break;
    case 7: display_pointer(display_of(f->m), take16(in), op, op / 14); break;
    case 8: block_drain(f->disk); break;
    case 9: op_settle(f, op > 200); break;
    case 10: op_command(p, in); break;
    case 11: op_control(p, in); break;
    case 12: op_transfer(p, in); break;
    default: op_disk(p, in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct game game = { .disk = true, .add = add, .begin = begin, .op = play };
    struct player p = { 0 };
    return fixture_play(&p.f, &game, data, size);
}
