/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Abuse of the virtqueues of each virtio device (virtio 1.2, 2.7 and 4.1). Rings that cannot be right must give DEVICE_NEEDS_RESET
 * (2.1.2); after a reset the device must serve a good request. Then random rings, after which the device must also work again.
 */
#include "hostile.h"

enum { CAP_VENDOR = 9, CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_DEVICE = 4 };
enum { ID_NET = 1, ID_BLOCK = 2, ID_CONSOLE = 3, ID_RNG = 4, ID_BALLOON = 5 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
enum { MAX_SIZE = 256, WAIT = 400000 };
#define RINGS 0x1000000u   /* desc, avail (+ 0x4000), used (+ 0x8000) */
#define BUFFERS 0x1100000u
#define TABLE 0x1200000u   /* indirect descriptors */
#define HOLE 0xd0000000u   /* neither RAM nor a device */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct device {
    unsigned function, id, queue;  /* the queue that takes requests of the driver */
    const char *name;
    volatile uint8_t *common, *notify;
    uint16_t size;
    uint16_t avail;                /* what was made available */
};

static struct desc *const descs = (struct desc *)RINGS;
static volatile uint16_t *const avail = (volatile uint16_t *)(RINGS + 0x4000); /* flags, idx, ring */
static volatile uint16_t *const used = (volatile uint16_t *)(RINGS + 0x8000);

static void w32(struct device *d, unsigned offset, uint32_t v) { *(volatile uint32_t *)(d->common + offset) = v; }
static void w16(struct device *d, unsigned offset, uint16_t v) { *(volatile uint16_t *)(d->common + offset) = v; }
static uint16_t r16(struct device *d, unsigned offset) { return *(volatile uint16_t *)(d->common + offset); }
static uint8_t status(struct device *d) { return d->common[0x14]; }

/* ---- finding and starting the device (4.1.4, 3.1.1) ---- */

static bool find_regions(struct device *d, uint32_t base)
{
    unsigned cap = pci_read(d->function, 0x34) & 0xfc;
    /* BAR 4 is the one with the registers; MSI-X stays off. */
    pci_write(d->function, 0x20, base);
    pci_write(d->function, 0x24, 0);
    pci_write(d->function, 4, 6);
    for (; cap; cap = pci_read(d->function, cap) >> 8 & 0xfc) {
        uint32_t head = pci_read(d->function, cap);
        uint8_t *at = (uint8_t *)base + pci_read(d->function, cap + 8);
        if ((head & 0xff) != CAP_VENDOR)
            continue;
        if (head >> 24 == CFG_COMMON)
            d->common = at;
        if (head >> 24 == CFG_NOTIFY)
            d->notify = at;
    }
    return d->common && d->notify;
}

static bool reset(struct device *d)
{
    d->common[0x14] = 0;
    for (unsigned i = 0; i < WAIT; i++) {
        if (!status(d))
            return true;
    }
    return false;
}

static void set_queue(struct device *d, unsigned queue, uint16_t size, uint64_t desc, uint64_t av, uint64_t us)
{
    w16(d, 0x16, queue);
    w16(d, 0x18, size);
    w32(d, 0x20, desc);
    w32(d, 0x24, desc >> 32);
    w32(d, 0x28, av);
    w32(d, 0x2c, av >> 32);
    w32(d, 0x30, us);
    w32(d, 0x34, us >> 32);
    w16(d, 0x1c, 1);
}

/* To FEATURES_OK with VIRTIO_F_VERSION_1 and indirect descriptors. */
static bool negotiate(struct device *d)
{
    if (!reset(d))
        return false;
    memset((void *)RINGS, 0, 0x10000);
    d->common[0x14] = ACKNOWLEDGE;
    d->common[0x14] = ACKNOWLEDGE | DRIVER;
    w32(d, 8, 0);
    w32(d, 0xc, 1u << 28);
    w32(d, 8, 1);
    w32(d, 0xc, 1);
    d->common[0x14] = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    w16(d, 0x16, d->queue);
    d->size = r16(d, 0x18);
    if (d->size > MAX_SIZE)
        d->size = MAX_SIZE;
    d->avail = 0;
    return status(d) & FEATURES_OK;
}

static void driver_ok(struct device *d)
{
    d->common[0x14] = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
}

static bool start(struct device *d)
{
    if (!negotiate(d))
        return false;
    set_queue(d, d->queue, d->size, RINGS, RINGS + 0x4000, RINGS + 0x8000);
    driver_ok(d);
    return !(status(d) & NEEDS_RESET);
}

static void kick(struct device *d, unsigned queue)
{
    *(volatile uint16_t *)(d->notify + 4 * queue) = queue;
}

static void offer(struct device *d, uint16_t head)
{
    avail[2 + d->avail++ % d->size] = head;
    avail[1] = d->avail;
    kick(d, d->queue);
}

static void set_desc(unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    descs[i] = (struct desc){ addr, len, flags, next };
}

/* ---- a request that is right ---- */

static void good_request(struct device *d)
{
    uint32_t *b = (uint32_t *)BUFFERS;
    memset(b, 0, 4096);
    switch (d->id) {
    case ID_BLOCK: /* read sector 0 (5.2.6) */
        *(uint8_t *)(BUFFERS + 1024) = 0xff;
        set_desc(0, BUFFERS, 16, NEXT, 1);
        set_desc(1, BUFFERS + 512, 512, NEXT | WRITE, 2);
        set_desc(2, BUFFERS + 1024, 1, WRITE, 0);
        break;
    case ID_NET: /* header and a frame (5.1.6) */
        memset(b + 3, 0xff, 6);
        set_desc(0, BUFFERS, 12 + 60, 0, 0);
        break;
    case ID_CONSOLE:
        set_desc(0, BUFFERS, 1, 0, 0);
        break;
    case ID_BALLOON: /* page numbers (5.5.6) */
        b[0] = 0x2000000 >> 12;
        set_desc(0, BUFFERS, 4, 0, 0);
        break;
    default:
        set_desc(0, BUFFERS, 64, WRITE, 0);
    }
}

static bool works(struct device *d)
{
    if (!start(d))
        return false;
    good_request(d);
    offer(d, 0);
    for (unsigned i = 0; i < WAIT && used[1] != 1; i++)
        (void)status(d);
    return used[1] == 1 && !(status(d) & NEEDS_RESET) && (d->id != ID_BLOCK || *(uint8_t *)(BUFFERS + 1024) == 0);
}

/* ---- wrong ones: each must break the device ---- */

static void bad_rings(struct device *d, uint16_t size, uint64_t desc, uint64_t av, uint64_t us)
{
    negotiate(d);
    set_queue(d, d->queue, size, desc, av, us);
    driver_ok(d);
    kick(d, d->queue);
}

static void rings_in_the_hole(struct device *d) { bad_rings(d, d->size, HOLE, HOLE + 0x4000, HOLE + 0x8000); }
static void used_in_the_hole(struct device *d) { bad_rings(d, d->size, RINGS, RINGS + 0x4000, HOLE); }
static void rings_above_everything(struct device *d) { bad_rings(d, d->size, ~15ull, ~1ull, ~3ull); }
static void rings_over_the_end(struct device *d) { bad_rings(d, d->size, RINGS, 0x4000000 - 4, RINGS + 0x8000); }
static void rings_in_registers(struct device *d) { bad_rings(d, d->size, 0xfee00000, 0xfec00000, (uint32_t)d->common & ~15u); }
static void used_in_firmware(struct device *d) { bad_rings(d, d->size, RINGS, RINGS + 0x4000, 0xfffff000); }
static void rings_misaligned(struct device *d) { bad_rings(d, d->size, RINGS + 1, RINGS + 0x4001, RINGS + 0x8001); }
static void size_zero(struct device *d) { bad_rings(d, 0, RINGS, RINGS + 0x4000, RINGS + 0x8000); }
static void size_not_a_power(struct device *d) { bad_rings(d, 3, RINGS, RINGS + 0x4000, RINGS + 0x8000); }
static void size_huge(struct device *d) { bad_rings(d, 0x8000, RINGS, RINGS + 0x4000, RINGS + 0x8000); }

/* A started device and one descriptor, made available. */
static void one_desc(struct device *d, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    start(d);
    set_desc(0, addr, len, flags, next);
    offer(d, 0);
}

static void buffer_in_the_hole(struct device *d) { one_desc(d, HOLE, 64, WRITE, 0); }
static void buffer_wraps(struct device *d) { one_desc(d, ~15ull, 64, WRITE, 0); }
static void buffer_huge(struct device *d) { one_desc(d, BUFFERS, 0xffffffff, WRITE, 0); }
static void buffer_huge_out(struct device *d) { one_desc(d, BUFFERS, 0xfffff000, 0, 0); }
static void buffer_in_registers(struct device *d) { one_desc(d, 0xfee00000, 64, WRITE, 0); }
static void loop_of_one(struct device *d) { one_desc(d, BUFFERS, 16, NEXT, 0); }
static void next_outside(struct device *d) { one_desc(d, BUFFERS, 16, NEXT, 0xffff); }

static void loop_of_two(struct device *d)
{
    start(d);
    set_desc(0, BUFFERS, 0xffffff, NEXT | WRITE, 1);
    set_desc(1, BUFFERS, 0, NEXT | WRITE, 0);
    offer(d, 0);
}

static void read_after_write(struct device *d)
{
    start(d);
    set_desc(0, BUFFERS, 16, NEXT | WRITE, 1);
    set_desc(1, BUFFERS, 16, 0, 0);
    offer(d, 0);
}

static void head_outside(struct device *d)
{
    start(d);
    offer(d, 0xffff);
}

static void jump(struct device *d, uint16_t by)
{
    start(d);
    good_request(d);
    avail[1] = by;
    kick(d, d->queue);
}

static void index_jumps_by_one_too_many(struct device *d) { jump(d, d->size + 1); }
static void index_jumps_far(struct device *d) { jump(d, 0x8000); }
static void index_goes_back(struct device *d) { jump(d, 0xffff); }

/* An indirect table whose first entry is this. */
static void indirect(struct device *d, uint64_t addr, uint32_t len, uint16_t flags, struct desc first)
{
    *(struct desc *)TABLE = first;
    one_desc(d, addr, len, INDIRECT | flags, 0);
}

static const struct desc plain = { BUFFERS, 16, 0, 0 };
static void indirect_in_the_hole(struct device *d) { indirect(d, HOLE, 16, 0, plain); }
static void indirect_odd(struct device *d) { indirect(d, TABLE, 17, 0, plain); }
static void indirect_empty(struct device *d) { indirect(d, TABLE, 0, 0, plain); }
static void indirect_huge(struct device *d) { indirect(d, TABLE, 0xfffffff0, 0, plain); }
static void indirect_with_next(struct device *d) { indirect(d, TABLE, 16, NEXT, plain); }
static void indirect_in_itself(struct device *d) { indirect(d, TABLE, 16, 0, (struct desc){ TABLE, 16, INDIRECT, 0 }); }
static void indirect_loop(struct device *d) { indirect(d, TABLE, 16, 0, (struct desc){ BUFFERS, 16, NEXT, 0 }); }
static void indirect_leaves(struct device *d) { indirect(d, TABLE, 16, 0, (struct desc){ BUFFERS, 16, NEXT, 1 }); }

static void indirect_endless(struct device *d)
{
    for (unsigned i = 0; i < 0x10000; i++)
        ((struct desc *)TABLE)[i] = (struct desc){ BUFFERS, 1, NEXT, i + 1 };
    one_desc(d, TABLE, 0x100000, INDIRECT, 0);
}

#define CASE(name) { #name, name }
static const struct {
    const char *name;
    void (*run)(struct device *d);
} cases[] = {
    CASE(rings_in_the_hole), CASE(used_in_the_hole), CASE(rings_above_everything), CASE(rings_over_the_end), CASE(rings_in_registers),
    CASE(used_in_firmware), CASE(rings_misaligned), CASE(size_zero), CASE(size_not_a_power), CASE(size_huge), CASE(buffer_in_the_hole),
    CASE(buffer_wraps), CASE(buffer_huge), CASE(buffer_huge_out), CASE(buffer_in_registers), CASE(loop_of_one), CASE(loop_of_two),
    CASE(next_outside), CASE(read_after_write), CASE(head_outside), CASE(index_jumps_by_one_too_many), CASE(index_jumps_far),
    CASE(index_goes_back), CASE(indirect_in_the_hole), CASE(indirect_odd), CASE(indirect_empty), CASE(indirect_huge),
    CASE(indirect_with_next), CASE(indirect_in_itself), CASE(indirect_loop), CASE(indirect_leaves), CASE(indirect_endless),
};

static bool complain(struct device *d, const char *what, const char *text)
{
    print(d->name);
    print(": ");
    print(what);
    print(text);
    print("\n");
    return false;
}

static bool run_cases(struct device *d)
{
    bool good = true;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cases[i].run(d);
        for (unsigned n = 0; n < WAIT && !(status(d) & NEEDS_RESET); n++)
            ;
        if (!(status(d) & NEEDS_RESET))
            good = complain(d, cases[i].name, ": DEVICE_NEEDS_RESET is not set");
        kick(d, d->queue);
        if (!works(d))
            good = complain(d, cases[i].name, ": the device does not work after a reset");
    }
    return good;
}

/* ---- random rings, in all queues: nothing is expected but that the device can be reset ---- */

static uint64_t address(void)
{
    switch (rnd() & 7) {
    case 0: return (uint64_t)rnd() << 32 | rnd();
    case 1: return rnd() | RINGS;                 /* below lies this guest */
    case 2: return RINGS + (rnd() & 0xfff0);      /* the rings themselves */
    case 3: return 0x3fff000 + (rnd() & 0xfff);   /* the end of RAM */
    case 4: return TABLE + (rnd() & 0xfff0);
    default: return 0x2000000 + (rnd() & 0xffffff);
    }
}

static uint32_t length(void)
{
    switch (rnd() & 3) {
    case 0: return rnd();
    case 1: return rnd() & 0xfffff;
    case 2: return 512 * (rnd() & 7);
    default: return rnd() & 0x7f;
    }
}

static void random_table(struct desc *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t addr = address();
        if (addr >= 0x90000000 || (rnd() & 3))
            addr = 0x2000000 + (rnd() & 0xffffff);
        t[i] = (struct desc){ addr, length(), rnd() & 7 ? rnd() & 3 : rnd() & 0xffff, rnd() & 7 ? rnd_below(n) : rnd() };
        if (!(rnd() & 7))
            t[i] = (struct desc){ TABLE + 16 * (rnd() & 63), 16 * (rnd() & 63), INDIRECT, 0 };
        if (rnd() & 1) { /* a request header at the head of it, a type that may be right */
            uint32_t *header = (uint32_t *)(0x2000000 + (rnd() & 0xffff00));
            header[0] = rnd() & 15;
            header[2] = 0x200 | (rnd() & 0x1ff); /* as a page number for the balloon: not this guest's */
            header[3] = 0;
            t[i] = (struct desc){ (uint32_t)header, 16, NEXT, (i + 1) % n };
        }
    }
}

static bool random_round(struct device *d)
{
    unsigned nqueues;
    if (!negotiate(d))
        return false;
    nqueues = r16(d, 0x12);
    if (nqueues > 8)
        nqueues = 8;
    random_table(descs, MAX_SIZE);
    random_table((struct desc *)TABLE, MAX_SIZE);
    for (unsigned q = 0; q < nqueues; q++) {
        bool odd = !(rnd() & 15);
        set_queue(d, q, odd ? rnd() : d->size, odd ? address() : RINGS, odd ? address() : RINGS + 0x4000, odd ? address() : RINGS + 0x8000);
    }
    for (unsigned i = 0; i < MAX_SIZE; i++)
        avail[2 + i] = rnd() & 15 ? rnd_below(d->size) : rnd();
    driver_ok(d);
    for (unsigned i = 0; i < 12; i++) {
        avail[1] += rnd() & 15 ? 1 + rnd_below(d->size / 2) : rnd();
        kick(d, rnd_below(nqueues));
        if (!(rnd() & 7))
            *(volatile uint32_t *)(d->common + (rnd() & 0x3c)) = rnd();
        if (status(d) & NEEDS_RESET || !status(d))
            break;
        random_table(descs, 16);
    }
    return reset(d);
}

bool run_rings(void)
{
    static const char *const names[] = { "", "net", "blk", "console", "rng", "balloon" };
    bool good = true;
    unsigned seen = 0;
    for (unsigned f = 0; f < 256; f++) /* nothing else answers where the registers are put */
        pci_write(f, 4, 0);
    for (unsigned f = 0; f < 256; f++) {
        uint32_t id = pci_read(f, 0);
        struct device d = { .function = f, .id = (id >> 16) - 0x1040 };
        if ((id & 0xffff) != 0x1af4 || d.id < ID_NET || d.id > ID_BALLOON)
            continue;
        d.name = names[d.id];
        d.queue = d.id == ID_NET || d.id == ID_CONSOLE; /* 1 is their transmit queue */
        if (!find_regions(&d, 0xe8000000 + 0x100000 * seen++) || !works(&d)) {
            good = complain(&d, "", "does not work at all");
            continue;
        }
        if (argument("cases"))
            good &= run_cases(&d);
        for (unsigned i = 0; argument("random") && i < 60; i++) {
            if (!random_round(&d) || !works(&d)) {
                good = complain(&d, "random rings", ": the device does not work after a reset");
                break;
            }
        }
        reset(&d);
        pci_write(f, 4, 0);
    }
    print("devices: ");
    print_hex(seen);
    print("\n");
    return good;
}
