/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network cards by their registers: EEPROM, PHY, interrupts, rings in loopback with checksums, segments and tags; hostile rings. */
#include <string.h>

#include "vmm/bus/pci.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/dev/nic/nic.h"
#include "vmm/net/ether.h"

extern const struct device_class e1000e_class, e1000_class, rtl8139_class;

#define RAM_SIZE (1u << 20)
#define ECAM 0xe0000000ull
enum { TX_RING = 0x1000, RX_RING = 0x2000, BUFFERS = 0x20000, PACKET = 0x10000, RING = 16 };

struct fixture {
    struct machine m;
    uint8_t *ram;
    bool wire;
    unsigned messages;
    struct device *d;
    uint64_t bar[6];
};

static void set_wire(void *opaque, unsigned input, bool level) { ((struct fixture *)opaque)->wire = level; }
static void message(void *opaque, uint64_t address, uint32_t data) { ((struct fixture *)opaque)->messages++; }
static uint32_t rd(struct fixture *f, unsigned bar, unsigned reg, unsigned size) { return guest_io_read(f->m.memory, false, f->bar[bar] + reg, size); }
static void wr(struct fixture *f, unsigned bar, unsigned reg, unsigned size, uint32_t v) { guest_io_write(f->m.memory, false, f->bar[bar] + reg, size, v); }
static uint32_t er(struct fixture *f, unsigned reg) { return rd(f, 0, reg, 4); }
static void ew(struct fixture *f, unsigned reg, uint32_t v) { wr(f, 0, reg, 4, v); }
static uint64_t conf(unsigned reg) { return ECAM + PCI_DEVFN(1, 0) * 4096ull + reg; }

static void set_up(struct fixture *f, gconstpointer class)
{
    static const struct pci_windows w = { .mem32_base = 0xc0000000, .mem32_size = 1 << 24, .io_base = 0xc000, .io_size = 0x1000, .gsi_base = 16 };
    g_autoptr(GError) error = NULL;
    struct irq_line lines[8];
    for (unsigned i = 0; i < 8; i++)
        lines[i] = (struct irq_line){ set_wire, f, i };
    f->m.memory = guest_memory_create();
    f->m.clock = vclock_create();
    f->m.devices = g_ptr_array_new();
    f->m.msi = (struct msi_sink){ message, f };
    f->ram = guest_memory_alloc(f->m.memory, "ram", RAM_SIZE, &error);
    g_assert_true(guest_memory_add_ram(f->m.memory, 0, RAM_SIZE, f->ram, false, &error));
    pci_bus_map_ports(pci_bus_create(&f->m, lines));
    pci_bus_map_ecam(f->m.pci, ECAM);
    f->d = device_create(&f->m, class);
    g_assert_true(device_realize(f->d, &error));
    f->d->class->reset(f->d);
    g_assert_true(pci_bus_assign(f->m.pci, &w, &error));
    for (unsigned i = 0; i < 6; i++)
        f->bar[i] = guest_io_read(f->m.memory, false, conf(PCI_REG_BAR0 + 4 * i), 4) & ~15u;
    vclock_resume(f->m.clock);
}

static void tear_down(struct fixture *f, gconstpointer class)
{
    device_destroy(f->d);
    pci_bus_destroy(f->m.pci);
    vclock_destroy(f->m.clock);
    guest_memory_destroy(f->m.memory);
    g_ptr_array_free(f->m.devices, TRUE);
}

/* ---- e1000, e1000e ---- */

enum { CTRL = 0, STATUS = 8, EECD = 0x10, EERD = 0x14, MDIC = 0x20, ICR = 0xc0, ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, RCTL = 0x100, TCTL = 0x400,
       RD = 0x2800, TD = 0x3800, BAL = 0, LEN = 8, HEAD = 0x10, TAIL = 0x18, GPTC = 0x4080, GORCL = 0x4088, RXCSUM = 0x5000, RFCTL = 0x5008 };

static uint16_t nvm(struct fixture *f, bool e, unsigned word)
{
    ew(f, EERD, 1 | word << (e ? 2 : 8));
    g_assert_cmphex(er(f, EERD) & (e ? 2 : 0x10), !=, 0);
    return er(f, EERD) >> 16;
}

static uint16_t phy(struct fixture *f, unsigned reg)
{
    ew(f, MDIC, 2 << 26 | 1 << 21 | reg << 16);
    g_assert_cmphex(er(f, MDIC) & 0x50000000, ==, 0x10000000);
    return er(f, MDIC);
}

static void test_e1000_registers(struct fixture *f, gconstpointer class)
{
    bool e = class == &e1000e_class;
    uint16_t sum = 0;
    for (unsigned i = 0; i < 64; i++)
        sum += nvm(f, e, i);
    g_assert_cmphex(sum, ==, 0xbaba);
    g_assert_cmphex(nvm(f, e, 0), ==, 0x5452);
    g_assert_cmphex(er(f, 0x5400), ==, 0x12005452);
    g_assert_cmphex(er(f, 0x5404), ==, 0x80005634);
    g_assert_cmphex(phy(f, 2), ==, 0x0141);
    g_assert_cmphex(phy(f, 1) & 4, ==, 0); /* no cable */
    g_assert_cmphex(er(f, STATUS) & 2, ==, 0);
    ew(f, MDIC, 2 << 26 | 3 << 21); /* no PHY at address 3 */
    g_assert_cmphex(er(f, MDIC) & 0x40000000, !=, 0);
    ew(f, 0x5220, 0x12345678);
    g_assert_cmphex(er(f, 0x5220), ==, 0x12345678);
    ew(f, CTRL, 1 << 26);
    g_assert_cmphex(er(f, CTRL) & 1 << 26, ==, 0);
    g_assert_cmphex(er(f, 0x5220), ==, 0);
    g_assert_cmphex(er(f, 0x5400), ==, 0x12005452);
    g_assert_cmphex(er(f, 0x1fff0), ==, 0); /* nothing there */
    ew(f, 0x1fff0, 1);
}

/* The older card's EEPROM by its wires, as its driver reads it. */
static void test_e1000_wires(struct fixture *f, gconstpointer class)
{
    const unsigned sk = 1, cs = 2, di = 4, dout = 8, word = 63, command = 6 << 6 | word;
    uint16_t value = 0;
    ew(f, EECD, cs);
    for (int i = 8; i >= 0; i--) {
        unsigned bit = command >> i & 1 ? di : 0;
        ew(f, EECD, cs | bit);
        ew(f, EECD, cs | bit | sk);
        ew(f, EECD, cs | bit);
    }
    for (unsigned i = 0; i < 16; i++) {
        ew(f, EECD, cs | sk);
        value = value << 1 | !!(er(f, EECD) & dout);
        ew(f, EECD, cs);
    }
    ew(f, EECD, 0);
    g_assert_cmphex(value, ==, nvm(f, false, 63));
}

static void test_e1000_interrupts(struct fixture *f, gconstpointer class)
{
    ew(f, ICS, 4);
    g_assert_false(f->wire);
    g_assert_cmphex(er(f, ICR) & 0x7fffffff, ==, 4); /* nothing is unmasked: reading clears */
    g_assert_cmphex(er(f, ICR), ==, 0);
    ew(f, IMS, 4);
    ew(f, ICS, 4);
    g_assert_true(f->wire);
    ew(f, IMC, 4);
    g_assert_false(f->wire);
    ew(f, IMS, 4);
    g_assert_true(f->wire);
    g_assert_cmphex(er(f, ICR) & 4, ==, 4);
    g_assert_false(f->wire);
}

static void put_desc(struct fixture *f, uint64_t ring, unsigned i, uint64_t address, uint32_t low, uint32_t high)
{
    uint8_t *d = f->ram + ring + 16 * i;
    memcpy(d, &address, 8);
    pci_set32(d + 8, low);
    pci_set32(d + 12, high);
}

static void rings(struct fixture *f, uint32_t rctl)
{
    ew(f, RD + BAL, RX_RING);
    ew(f, RD + LEN, RING * 16);
    ew(f, TD + BAL, TX_RING);
    ew(f, TD + LEN, RING * 16);
    for (unsigned i = 0; i < RING; i++)
        put_desc(f, RX_RING, i, BUFFERS + i * 2048, 0, 0);
    ew(f, RD + TAIL, RING - 1);
    ew(f, RCTL, 2 | 1 << 6 | 1 << 26 | rctl); /* enabled, loopback, no FCS */
    ew(f, TCTL, 2 | 8);
}

/* A TCP packet over IPv4 of so many bytes of payload. */
static size_t packet(uint8_t *p, size_t payload)
{
    memset(p, 0, 54);
    memset(p, 0xff, 6);
    p[6] = 2;
    ether_put16(p + 12, ETHER_TYPE_IPV4);
    p[14] = 0x45;
    ether_put16(p + 16, 40 + payload);
    p[22] = 64;
    p[23] = IP_PROTO_TCP;
    ether_put32(p + 26, 0x0a000001);
    ether_put32(p + 30, 0x0a000002);
    ether_put32(p + 38, 1000); /* sequence number */
    p[46] = 0x50;
    p[47] = 0x19; /* FIN, PSH, ACK */
    for (size_t i = 0; i < payload; i++)
        p[54 + i] = i * 7;
    return 54 + payload;
}

static bool sums_right(const uint8_t *p, size_t n)
{
    struct ether_parts parts;
    ether_parse(p, n, &parts);
    return parts.l4 && ether_ip_checksum_ok(p, &parts) && ether_l4_checksum_ok(p, &parts);
}

static void test_e1000_loopback(struct fixture *f, gconstpointer class)
{
    rings(f, 1 << 15);
    size_t n = packet(f->ram + PACKET, 500);
    struct ether_parts parts;
    ether_parse(f->ram + PACKET, n, &parts);
    ether_put16(f->ram + PACKET + 50, ether_sum(NULL, 0, ether_pseudo_sum(f->ram + PACKET, &parts, 520))); /* the driver's part */
    put_desc(f, TX_RING, 0, 14ull | 24 << 8 | 33 << 16 | 34ull << 32 | 50ull << 40, 3u << 24 | 1u << 29, 0); /* context */
    put_desc(f, TX_RING, 1, PACKET, 100 | 1 << 20 | 0x28u << 24, 3 << 8);
    put_desc(f, TX_RING, 2, PACKET + 100, (n - 100) | 1 << 20 | 0x29u << 24, 0);
    ew(f, IMS, 0x81);
    ew(f, TD + TAIL, 3);
    g_assert_cmpuint(er(f, TD + HEAD), ==, 3);
    g_assert_cmphex(f->ram[TX_RING + 2 * 16 + 12] & 1, ==, 1);
    g_assert_cmphex(f->ram[RX_RING + 12] & 0x23, ==, 0x23); /* done, end, TCP checksum looked at */
    g_assert_cmphex(f->ram[RX_RING + 13], ==, 0);
    g_assert_cmpuint(pci_get16(f->ram + RX_RING + 8), ==, n);
    g_assert_true(sums_right(f->ram + BUFFERS, n));
    g_assert_true(f->wire);
    g_assert_cmphex(er(f, ICR) & 0x81, ==, 0x81);
    g_assert_cmpuint(er(f, GPTC), ==, 1);
    g_assert_cmpuint(er(f, GPTC), ==, 0);
    g_assert_cmpuint(er(f, GORCL), ==, n);
    f->ram[PACKET + 60] ^= 1; /* without a checksum to insert, a wrong one arrives as wrong */
    put_desc(f, TX_RING, 3, PACKET, n | 9u << 24, 0);
    ew(f, TD + TAIL, 4);
    g_assert_cmphex(f->ram[RX_RING + 16 + 13] & 0x20, ==, 0x20);
}

static void test_e1000_segments(struct fixture *f, gconstpointer class)
{
    rings(f, 1 << 15);
    size_t n = packet(f->ram + PACKET, 3500);
    struct ether_parts parts;
    ether_parse(f->ram + PACKET, n, &parts);
    ether_put16(f->ram + PACKET + 16, 0);
    ether_put16(f->ram + PACKET + 50, ether_sum(NULL, 0, ether_pseudo_sum(f->ram + PACKET, &parts, 0)));
    put_desc(f, TX_RING, 0, 14ull | 24 << 8 | 33 << 16 | 34ull << 32 | 50ull << 40, 3500 | 7u << 24 | 1u << 29, 54 << 8 | 1000u << 16);
    put_desc(f, TX_RING, 1, PACKET, n | 1 << 20 | 0x6du << 24, 3 << 8 | 0x2005u << 16); /* end, segments, status, tag */
    ew(f, CTRL, 1u << 30 | 1);
    ew(f, TD + TAIL, 2);
    g_assert_cmpuint(er(f, RD + HEAD), ==, 4);
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *p = f->ram + BUFFERS + 2048 * i, *d = f->ram + RX_RING + 16 * i;
        size_t part = i < 3 ? 1000 : 500;
        g_assert_cmpuint(pci_get16(d + 8), ==, 54 + part);
        g_assert_cmphex(d[12] & 8, ==, 8); /* the tag was put in, and taken out */
        g_assert_cmphex(pci_get16(d + 14), ==, 0x2005);
        g_assert_true(sums_right(p, 54 + part));
        g_assert_cmpuint(ether_get32(p + 38), ==, 1000 + i * 1000);
        g_assert_cmpuint(ether_get16(p + 18), ==, i);
        g_assert_cmphex(p[47], ==, i == 3 ? 0x19 : 0x10);
        g_assert_cmpmem(p + 54, part, f->ram + PACKET + 54 + 1000 * i, part);
    }
}

static void test_e1000_filters(struct fixture *f, gconstpointer class)
{
    rings(f, 0); /* no broadcasts */
    size_t n = packet(f->ram + PACKET, 100);
    unsigned tail = 0;
#define SEND() (put_desc(f, TX_RING, tail % RING, PACKET, n | 9u << 24, 0), ew(f, TD + TAIL, ++tail % RING), er(f, RD + HEAD))
    g_assert_cmpuint(SEND(), ==, 0);
    memcpy(f->ram + PACKET, "\x52\x54\x00\x12\x34\x56", 6);
    g_assert_cmpuint(SEND(), ==, 1);
    f->ram[PACKET + 5] = 0x57;
    g_assert_cmpuint(SEND(), ==, 1);
    ew(f, RCTL, er(f, RCTL) | 8); /* promiscuous */
    g_assert_cmpuint(SEND(), ==, 2);
    memcpy(f->ram + PACKET, "\x01\x00\x5e\x00\x00\xfb", 6);
    g_assert_cmpuint(SEND(), ==, 2);
    unsigned hash = (0x00 >> 4 | 0xfb << 4) & 0xfff;
    ew(f, 0x5200 + 4 * (hash >> 5), 1u << (hash & 31));
    g_assert_cmpuint(SEND(), ==, 3);
    n = packet(f->ram + PACKET, 1600); /* too long */
    ew(f, RCTL, er(f, RCTL) | 1 << 15);
    g_assert_cmpuint(SEND(), ==, 3);
    ew(f, RCTL, er(f, RCTL) | 1 << 5);
    g_assert_cmpuint(SEND(), ==, 4);
}

/* Split descriptors: the header in the first buffer, the rest in the second. */
static void test_e1000e_split(struct fixture *f, gconstpointer class)
{
    rings(f, 1 << 15 | 1 << 10 | 1 << 5);
    ew(f, RFCTL, 1 << 15);
    ew(f, RD + HEAD, 0);
    uint64_t address[4] = { BUFFERS, BUFFERS + 4096, BUFFERS + 8192, 0 };
    memcpy(f->ram + RX_RING, address, 32);
    ew(f, 0x2170, 2 | 4 << 8 | 4 << 16);
    size_t n = packet(f->ram + PACKET, 5000);
    put_desc(f, TX_RING, 0, PACKET, n | 9u << 24, 0);
    ew(f, TD + TAIL, 1);
    const uint8_t *d = f->ram + RX_RING;
    g_assert_cmpuint(er(f, RD + HEAD), ==, 2);
    g_assert_cmphex(d[8] & 3, ==, 3);
    g_assert_cmpuint(pci_get16(d + 12), ==, 54);
    g_assert_cmphex(pci_get16(d + 16), ==, 0x8036);
    g_assert_cmpuint(pci_get16(d + 18), ==, 4096);
    g_assert_cmpuint(pci_get16(d + 20), ==, 904);
    g_assert_cmpmem(f->ram + BUFFERS + 4096, 4096, f->ram + PACKET + 54, 4096);
}

static void test_e1000e_msix(struct fixture *f, gconstpointer class)
{
    unsigned cap = 0;
    for (unsigned at = guest_io_read(f->m.memory, false, conf(PCI_REG_CAP_PTR), 1); at; at = guest_io_read(f->m.memory, false, conf(at + 1), 1))
        cap = guest_io_read(f->m.memory, false, conf(at), 1) == PCI_CAP_MSIX ? at : cap;
    g_assert_cmpuint(guest_io_read(f->m.memory, false, conf(cap + 2), 2), ==, 4);
    guest_io_write(f->m.memory, false, conf(cap + 2), 2, 0x8000);
    for (unsigned v = 0; v < 5; v++)
        wr(f, 3, 16 * v + 12, 4, 0);
    ew(f, 0xe4, 8 | (8 | 1) << 8 | (8 | 2) << 16 | 1u << 31);
    ew(f, 0xdc, 0x00500000); /* EIAC */
    rings(f, 1 << 15);
    ew(f, IMS, 0x01500004);
    size_t n = packet(f->ram + PACKET, 100);
    put_desc(f, TX_RING, 0, PACKET, n | 9u << 24, 0);
    ew(f, TD + TAIL, 1);
    g_assert_cmpuint(f->messages, ==, 2); /* one for each direction */
    ew(f, ICS, 4);
    g_assert_cmpuint(f->messages, ==, 3); /* the link is one of the "other" causes */
    g_assert_cmphex(er(f, ICR) & 0x01500004, ==, 0x01000004); /* the queues' causes were cleared by their messages */
}

static void test_e1000_hostile(struct fixture *f, gconstpointer class)
{
    rings(f, 1 << 15);
    static const uint64_t places[] = { RAM_SIZE - 8, 0xc0000000, ~0ull & ~15ull, 1ull << 40 };
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        put_desc(f, TX_RING, 0, places[i], 1000 | 9u << 24, 0);
        ew(f, TD + HEAD, 0);
        ew(f, TD + TAIL, 1);
        g_assert_cmpuint(er(f, TD + HEAD), ==, 1);
        ew(f, TD + BAL, places[i]);
        ew(f, TD + TAIL, 5);
        ew(f, TD + BAL, TX_RING);
    }
    ew(f, TD + TAIL, 0xffff); /* outside the ring */
    ew(f, TD + LEN, 0);
    ew(f, TD + TAIL, 0);
    ew(f, TD + LEN, 0xfff80);
    ew(f, TD + HEAD, 0);
    ew(f, TD + TAIL, 0xffff);
    for (unsigned i = 0; i < 3000; i++) {
        ew(f, g_test_rand_int_range(0, 0x6000) & ~3, g_test_rand_int());
        er(f, g_test_rand_int_range(0, 0x20000) & ~3);
    }
    f->d->class->reset(f->d);
}

/* ---- rtl8139 ---- */

static uint32_t lr(struct fixture *f, unsigned reg, unsigned size) { return rd(f, 1, reg, size); }
static void lw(struct fixture *f, unsigned reg, unsigned size, uint32_t v) { wr(f, 1, reg, size, v); }

static void test_rtl_registers(struct fixture *f, gconstpointer class)
{
    g_assert_cmphex(lr(f, 0, 4), ==, 0x12005452);
    g_assert_cmphex(lr(f, 4, 2), ==, 0x5634);
    lw(f, 0, 4, 0);
    g_assert_cmphex(lr(f, 0, 4), ==, 0x12005452); /* locked */
    lw(f, 0x50, 1, 0xc0);
    lw(f, 1, 1, 0x77); /* one byte of four */
    g_assert_cmphex(lr(f, 0, 4), ==, 0x12007752);
    lw(f, 0x50, 1, 0x40); /* from the EEPROM again */
    g_assert_cmphex(lr(f, 0, 4), ==, 0x12005452);
    g_assert_cmphex(lr(f, 0x40, 4) & 0x7cc00000, ==, 0x74800000);
    g_assert_cmphex(lr(f, 0x58, 1) & 4, ==, 4); /* no cable */
    g_assert_cmphex(lr(f, 0x37, 1), ==, 1);
    lw(f, 0x3c, 2, 0x4000);
    lw(f, 0x54, 4, 33000); /* a millisecond */
    lw(f, 0x48, 4, 0);
    for (unsigned i = 0; i < 1000 && !f->wire; i++)
        g_usleep(1000);
    g_assert_cmphex(lr(f, 0x3e, 2), ==, 0x4000);
    lw(f, 0x54, 4, 0);
    lw(f, 0x3e, 2, 0x4000);
    g_assert_false(f->wire);
    lw(f, 0x37, 1, 0x10);
    g_assert_cmphex(lr(f, 0x37, 1), ==, 1);
}

static void test_rtl_old_way(struct fixture *f, gconstpointer class)
{
    lw(f, 0x30, 4, BUFFERS);
    lw(f, 0x37, 1, 0x0c);
    lw(f, 0x44, 4, 0x8a); /* own, broadcast, wrap behind */
    lw(f, 0x40, 4, 3 << 17);
    lw(f, 0x3c, 2, 5);
    unsigned at = 0;
    for (unsigned i = 0; i < 300; i++) {
        size_t n = packet(f->ram + PACKET, 100 + i);
        lw(f, 0x20 + 4 * (i & 3), 4, PACKET);
        lw(f, 0x10 + 4 * (i & 3), 4, n);
        g_assert_cmphex(lr(f, 0x10 + 4 * (i & 3), 4) & 0xa000, ==, 0xa000);
        g_assert_cmphex(lr(f, 0x3e, 2), ==, 5);
        g_assert_cmphex(lr(f, 0x37, 1) & 1, ==, 0);
        const uint8_t *r = f->ram + BUFFERS + at;
        g_assert_cmphex(pci_get16(r), ==, 0x2001);
        g_assert_cmpuint(pci_get16(r + 2), ==, n + 4);
        g_assert_cmpmem(r + 4, n, f->ram + PACKET, n);
        g_assert_cmphex(pci_get32(r + 4 + n), ==, ether_fcs(r + 4, n));
        at = (at + n + 8 + 3) / 4 * 4 % 8192;
        lw(f, 0x38, 2, at - 16);
        g_assert_cmphex(lr(f, 0x37, 1) & 1, ==, 1);
        g_assert_true(f->wire);
        lw(f, 0x3e, 2, 0xffff);
        g_assert_false(f->wire);
    }
}

/* A full ring: the network's frames wait, and the driver hears of it, also one that has put the causes out and left frames unread. */
static void test_rtl_full_ring(struct fixture *f, gconstpointer class)
{
    struct nic *nic = (struct nic *)f->d;
    lw(f, 0x30, 4, BUFFERS);
    lw(f, 0x37, 1, 0x0c);
    lw(f, 0x44, 4, 0x8a);
    lw(f, 0x40, 4, 3 << 17);
    lw(f, 0x3c, 2, 0x7f);
    size_t n = packet(f->ram + PACKET, 1000);
    for (unsigned i = 0; nic->ops->can_receive(nic); i++) {
        g_assert_cmpuint(i, <, 8);
        lw(f, 0x20 + 4 * (i & 3), 4, PACKET);
        lw(f, 0x10 + 4 * (i & 3), 4, n);
        lw(f, 0x3e, 2, 0xffff);
    }
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(f->wire);
        g_assert_cmphex(lr(f, 0x3e, 2), ==, 1); /* and no error */
        lw(f, 0x3e, 2, 0x51);
        g_assert_false(f->wire);
        g_assert_false(nic->ops->can_receive(nic));
    }
    lw(f, 0x3e, 2, 0xffff);
    lw(f, 0x38, 2, lr(f, 0x3a, 2) - 16); /* all is read */
    g_assert_true(nic->ops->can_receive(nic));
    g_assert_false(f->wire);
}

static void test_rtl_new_way(struct fixture *f, gconstpointer class)
{
    lw(f, 0xe0, 2, 0x2b | 0x40);
    lw(f, 0x20, 4, TX_RING);
    lw(f, 0xe4, 4, RX_RING);
    lw(f, 0x44, 4, 0x0a);
    lw(f, 0x40, 4, 3 << 17);
    lw(f, 0x37, 1, 0x0c);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = BUFFERS + 2048 * i;
        uint32_t d[4] = { 1u << 31 | (i == 7) << 30 | 1536, 0, at, at >> 32 };
        memcpy(f->ram + RX_RING + 16 * i, d, 16);
    }
    size_t n = packet(f->ram + PACKET, 2500);
    uint32_t d[4] = { 0xb0000000 | 1 << 27 | 1000 << 16 | (uint32_t)n, 1 << 17 | 0x0520, PACKET, 0 };
    memcpy(f->ram + TX_RING, d, 16);
    lw(f, 0xd9, 1, 0x40);
    g_assert_cmphex(pci_get32(f->ram + TX_RING), ==, 0x30000000); /* no error bits */
    for (unsigned i = 0; i < 3; i++) {
        size_t part = i < 2 ? 1000 : 500;
        const uint8_t *r = f->ram + RX_RING + 16 * i, *p = f->ram + BUFFERS + 2048 * i;
        g_assert_cmphex(pci_get32(r), ==, 0x31010000u | (54 + part + 4)); /* first, last, broadcast, TCP, good */
        g_assert_cmphex(pci_get32(r + 4), ==, 0x10520);
        g_assert_true(sums_right(p, 54 + part));
        g_assert_cmpuint(ether_get32(p + 38), ==, 1000 + i * 1000);
    }
    lw(f, 0x14, 4, 0);
    lw(f, 0x10, 4, 0x8000 | 8); /* counters */
    g_assert_cmpuint(pci_get32(f->ram + 0x8000), ==, 3);
    g_assert_cmpuint(pci_get32(f->ram + 0x8008), ==, 3);
}

static void test_rtl_hostile(struct fixture *f, gconstpointer class)
{
    for (unsigned i = 0; i < 20000; i++) {
        unsigned size = 1 << g_test_rand_int_range(0, 3);
        lw(f, g_test_rand_int_range(0, 0x100), size, g_test_rand_int());
        lr(f, g_test_rand_int_range(0, 0x100), size);
        lw(f, 0x37, 1, 0x0c);
    }
    f->d->class->reset(f->d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, class, fn) g_test_add(name, struct fixture, &class, set_up, fn, tear_down)
#define BOTH(name, fn) do { ADD("/e1000e/" name, e1000e_class, fn); ADD("/e1000/" name, e1000_class, fn); } while (0)
    BOTH("registers", test_e1000_registers);
    BOTH("interrupts", test_e1000_interrupts);
    BOTH("loopback", test_e1000_loopback);
    BOTH("segments", test_e1000_segments);
    BOTH("filters", test_e1000_filters);
    BOTH("hostile", test_e1000_hostile);
    ADD("/e1000/wires", e1000_class, test_e1000_wires);
    ADD("/e1000e/split", e1000e_class, test_e1000e_split);
    ADD("/e1000e/msix", e1000e_class, test_e1000e_msix);
    ADD("/rtl8139/registers", rtl8139_class, test_rtl_registers);
    ADD("/rtl8139/old", rtl8139_class, test_rtl_old_way);
    ADD("/rtl8139/full", rtl8139_class, test_rtl_full_ring);
    ADD("/rtl8139/new", rtl8139_class, test_rtl_new_way);
    ADD("/rtl8139/hostile", rtl8139_class, test_rtl_hostile);
    return g_test_run();
}
