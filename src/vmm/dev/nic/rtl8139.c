/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139: registers and what the card is to the machine. A write is cut into the registers it touches; see `registers`. */
#include "vmm/dev/nic/rtl8139.h"

#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/core/vclock.h"

enum { CR9346_MODE = 0xc0, CR9346_UNLOCKED = 0xc0, CR9346_AUTOLOAD = 0x40, CR9346_PROGRAM = 0x80, EE_DO = 1, EE_DI = 2, EE_SK = 4, EE_CS = 8 };
enum { BMCR_RESET = 0x8000, BMCR_RESTART = 0x0200, TCR_LOOPBACK = 3 << 17, TPPOLL_SW = 1, DTCCR_DUMP = 8, TSD_OWN = 1 << 13 };
enum { BAR_SIZE = 256, WORD_ID = 0x8129, WORD_MAC = 7 };

/* ---- interrupts and timer ---- */

static void update_interrupts(struct rtl8139 *s)
{
    pci_intx(&s->nic.pci, rtl_get16(s, ISR) & rtl_get16(s, IMR));
}

void rtl8139_cause(struct rtl8139 *s, uint16_t causes)
{
    pci_set16(s->reg + ISR, rtl_get16(s, ISR) | causes);
    update_interrupts(s);
}

/* TCTR counts the 33 MHz of the PCI bus. */
static uint64_t timer_ticks(const struct rtl8139 *s)
{
    return (vclock_now(s->nic.dev.machine->clock) - s->timer_zero) * 33 / 1000;
}

static void set_timer(struct rtl8139 *s)
{
    uint32_t at = rtl_get32(s, TIMER_INT);
    uint64_t now = timer_ticks(s), round = now & ~0xffffffffull;
    vtimer_cancel(s->timer);
    if (!at)
        return;
    if (round + at <= now)
        round += 1ull << 32;
    vtimer_set(s->timer, s->timer_zero + ((round + at) * 1000 + 32) / 33);
}

static void timer_expired(void *opaque)
{
    struct rtl8139 *s = opaque;
    g_mutex_lock(&s->nic.dev.lock);
    if (rtl_get32(s, TIMER_INT)) {
        rtl8139_cause(s, INT_TIMEOUT);
        set_timer(s);
    }
    g_mutex_unlock(&s->nic.dev.lock);
}

bool rtl8139_loopback(const struct rtl8139 *s)
{
    return (rtl_get32(s, TCR) & TCR_LOOPBACK) == TCR_LOOPBACK;
}

/* ---- reset ---- */

static void load_mac(struct rtl8139 *s)
{
    for (unsigned i = 0; i < 3; i++)
        pci_set16(s->reg + IDR + 2 * i, s->eeprom.word[WORD_MAC + i]);
}

static void phy_reset(struct rtl8139 *s)
{
    pci_set16(s->reg + BMCR, 0x3100);
    pci_set16(s->reg + ANAR, 0x01e1);
}

/* Of CR.RST: receiver, transmitter, interrupts; not address, PHY and configuration. */
static void soft_reset(struct rtl8139 *s)
{
    static const struct { uint8_t first, size; } cleared[] = {
        { TSD, 0x38 - TSD }, { CAPR, TCTR - CAPR }, { MPC, 4 }, { TIMER_INT, 4 }, { MULINT, 2 }, { TPPOLL, 1 }, { CPCR, 4 }, { RDSAR, 9 },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cleared); i++)
        memset(s->reg + cleared[i].first, 0, cleared[i].size);
    for (unsigned i = 0; i < 4; i++)
        pci_set32(s->reg + TSD + 4 * i, TSD_OWN);
    pci_set16(s->reg + CAPR, 0xfff0);
    s->next_tx = 0;
    s->rx_at = s->tx_at = s->tx_high_at = 0;
    s->cbr = 0;
    set_timer(s);
    update_interrupts(s);
}

static void power_on(struct rtl8139 *s)
{
    memset(s->reg, 0, sizeof(s->reg));
    memset(&s->counters, 0, sizeof(s->counters));
    s->timer_zero = vclock_now(s->nic.dev.machine->clock);
    s->reg[CONFIG1] = 0x0c; /* both I/O and memory */
    s->reg[CONFIG3] = 0x01;
    s->eeprom.select = s->eeprom.clock = s->eeprom.writable = s->eeprom.started = false;
    load_mac(s);
    phy_reset(s);
    soft_reset(s);
}

/* ---- registers that do something when they are written; v: the new value, old bits where the access did not reach ---- */

static void write_cr(struct rtl8139 *s, uint32_t v)
{
    if (v & CR_RST) {
        soft_reset(s);
        return;
    }
    bool receive = v & ~s->reg[CR] & CR_RE;
    s->reg[CR] = v & (CR_RE | CR_TE);
    if (receive)
        nic_ready(&s->nic);
    if (v & CR_TE) {
        if (!(rtl_get16(s, CPCR) & CPCR_TX))
            rtl8139_transmit_old(s);
        rtl8139_transmit(s);
    }
}

/* The four old transmit descriptors, or in the C+ way the command to dump counters. */
static void write_tsd(struct rtl8139 *s, unsigned offset, uint32_t v)
{
    if (s->cplus && (rtl_get16(s, CPCR) & (CPCR_TX | CPCR_RX))) {
        pci_set32(s->reg + offset, v);
        if (offset == DTCCR && (v & DTCCR_DUMP)) {
            rtl8139_dump(s);
            pci_set32(s->reg + offset, v & ~(uint32_t)DTCCR_DUMP);
        }
        return;
    }
    pci_set32(s->reg + offset, v & 0x003f3fff);
    if (!(v & TSD_OWN))
        rtl8139_transmit_old(s);
}

static void write_9346(struct rtl8139 *s, uint32_t v)
{
    s->reg[CR9346] = v & (CR9346_MODE | EE_CS | EE_SK | EE_DI);
    if ((v & CR9346_MODE) == CR9346_PROGRAM)
        eeprom93_wires(&s->eeprom, v & EE_CS, v & EE_SK, v & EE_DI);
    if ((v & CR9346_MODE) == CR9346_AUTOLOAD) {
        load_mac(s);
        s->reg[CR9346] = 0; /* done */
    }
}

static void write_bmcr(struct rtl8139 *s, uint32_t v)
{
    if (v & BMCR_RESET)
        phy_reset(s);
    else
        pci_set16(s->reg + BMCR, v & 0x7d80 & ~BMCR_RESTART);
    if (v & (BMCR_RESET | BMCR_RESTART))
        rtl8139_cause(s, INT_LINK);
}

static void write_tppoll(struct rtl8139 *s, uint32_t v)
{
    s->reg[TPPOLL] |= v & 0xc0;
    if (v & TPPOLL_SW)
        rtl8139_cause(s, INT_SW);
    rtl8139_transmit(s);
}

static void write_special(struct rtl8139 *s, unsigned offset, uint32_t v)
{
    switch (offset) {
    case CR:
        write_cr(s, v);
        break;
    case TSD: case TSD + 4: case TSD + 8: case TSD + 12:
        write_tsd(s, offset, v);
        break;
    case ISR:
        pci_set16(s->reg + ISR, rtl_get16(s, ISR) & ~v);
        update_interrupts(s);
        if ((v & INT_ROK) && rtl8139_ring_full(s))
            nic_ready(&s->nic); /* if frames wait, the driver hears of the ring again */
        break;
    case TCTR:
        s->timer_zero = vclock_now(s->nic.dev.machine->clock);
        set_timer(s);
        break;
    case MPC:
        pci_set32(s->reg + MPC, 0);
        break;
    case CR9346:
        write_9346(s, v);
        break;
    case BMCR:
        write_bmcr(s, v);
        break;
    case TPPOLL:
        write_tppoll(s, v);
        break;
    }
}

/* ---- the register file ---- */

enum what { PLAIN, SPECIAL /* write_special */, SPECIAL_ZERO /* and bytes not written are 0 */, LOCKED /* by 9346CR */, NEW /* C+ only */ };
struct reg { uint8_t offset, size; enum what what; uint32_t mask; };

/* What is not here takes nothing. */
static const struct reg registers[] = {
    { IDR, 4, LOCKED, ~0u }, { IDR + 4, 2, LOCKED, ~0u }, { MAR, 4, PLAIN, ~0u }, { MAR + 4, 4, PLAIN, ~0u },
    { TSD, 4, SPECIAL }, { TSD + 4, 4, SPECIAL }, { TSD + 8, 4, SPECIAL }, { TSD + 12, 4, SPECIAL },
    { TSAD, 4, PLAIN, ~0u }, { TSAD + 4, 4, PLAIN, ~0u }, { TSAD + 8, 4, PLAIN, ~0u }, { TSAD + 12, 4, PLAIN, ~0u },
    { RBSTART, 4, PLAIN, ~0u }, { CR, 1, SPECIAL }, { CAPR, 2, PLAIN, ~0u }, { IMR, 2, PLAIN, INT_MASK }, { ISR, 2, SPECIAL_ZERO },
    { TCR, 4, PLAIN, 0x030707f0 }, { RCR, 4, PLAIN, 0x0f03ffbf | 0x40 }, { TCTR, 4, SPECIAL }, { MPC, 4, SPECIAL }, { CR9346, 1, SPECIAL },
    { CONFIG1, 1, LOCKED, 0xf3 }, { TIMER_INT, 4, PLAIN, ~0u }, { MSR, 1, PLAIN, 0xc0 }, { CONFIG3, 1, LOCKED, 0x6b },
    { CONFIG4, 1, LOCKED, 0xff }, { MULINT, 2, PLAIN, 0xffff }, { BMCR, 2, SPECIAL }, { ANAR, 2, PLAIN, 0xffff }, { NWAYTR, 2, PLAIN, 0xff },
    { CSCR, 2, PLAIN, 0x8000 }, { PHY1, 4, PLAIN, ~0u }, { TW, 4, PLAIN, ~0u }, { PHY2, 1, PLAIN, 0xff }, { CONFIG5, 1, LOCKED, 0xff },
    { TPPOLL, 1, SPECIAL_ZERO }, { CPCR, 2, NEW, 0x007b }, { MITIGATE, 2, NEW, 0xffff }, { RDSAR, 4, NEW, ~0xffu }, { RDSAR + 4, 4, NEW, ~0u },
    { ETTHR, 1, NEW, 0xff },
};

static void written(struct rtl8139 *s, unsigned offset)
{
    switch (offset) {
    case IMR:
        update_interrupts(s);
        break;
    case TIMER_INT:
        set_timer(s);
        break;
    case TSAD: case TSAD + 4:
        s->tx_at = 0;
        break;
    case THPDS: case THPDS + 4:
        s->tx_high_at = 0;
        break;
    case RDSAR: case RDSAR + 4:
        s->rx_at = 0;
        break;
    }
    /* IMR: drivers of the C+ way give descriptors back without a register access, and let interrupts through again after it. */
    if (offset == CAPR || offset == RCR || offset == CPCR || offset == IMR)
        nic_ready(&s->nic);
}

static void reg_write(struct rtl8139 *s, const struct reg *r, uint32_t v)
{
    uint8_t bytes[4];
    if (r->what == SPECIAL || r->what == SPECIAL_ZERO) {
        write_special(s, r->offset, v);
        return;
    }
    if ((r->what == LOCKED && (s->reg[CR9346] & CR9346_MODE) != CR9346_UNLOCKED) || (r->what == NEW && !s->cplus))
        return;
    pci_set32(bytes, v & r->mask);
    uint8_t mask[4];
    pci_set32(mask, r->mask);
    for (unsigned i = 0; i < r->size; i++)
        s->reg[r->offset + i] = (s->reg[r->offset + i] & ~mask[i]) | bytes[i];
    written(s, r->offset);
}

static void io_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtl8139 *s = opaque;
    for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++) {
        const struct reg *r = &registers[i];
        if (offset >= r->offset + r->size || r->offset >= offset + size)
            continue;
        uint32_t v = 0;
        for (unsigned b = 0; b < r->size; b++) {
            uint64_t at = r->offset + b;
            uint8_t old = r->what == SPECIAL_ZERO ? 0 : s->reg[at];
            v |= (uint32_t)(at >= offset && at < offset + size ? (uint8_t)(value >> 8 * (at - offset)) : old) << 8 * b;
        }
        reg_write(s, r, v);
    }
}

static uint16_t transmit_status(const struct rtl8139 *s)
{
    uint16_t v = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t tsd = rtl_get32(s, TSD + 4 * i);
        v |= (tsd >> 13 & 1) << i | (tsd >> 30 & 1) << (4 + i) | (tsd >> 14 & 1) << (8 + i) | (tsd >> 15 & 1) << (12 + i);
    }
    return v;
}

/* Brings what is computed up to date in the register file. */
static void refresh(struct rtl8139 *s)
{
    bool link = nic_link(&s->nic);
    bool empty = s->cbr == (rtl_get16(s, CAPR) + 16u) % rtl8139_ring_size(s);
    s->reg[CR] = (s->reg[CR] & ~CR_BUFE) | (empty ? CR_BUFE : 0);
    /* The version: bits 30-26, 23, 22 of TCR tell the kinds of 8139 apart. */
    pci_set32(s->reg + TCR, (rtl_get32(s, TCR) & 0x030707f0) | (s->cplus ? 0x74800000 : 0x74000000));
    pci_set32(s->reg + TCTR, timer_ticks(s));
    s->reg[CR9346] = (s->reg[CR9346] & ~EE_DO) | (s->eeprom.out ? EE_DO : 0);
    s->reg[MSR] = (s->reg[MSR] & 0xc0) | (link ? 0 : 4);
    pci_set16(s->reg + TSAD_STATUS, transmit_status(s));
    pci_set16(s->reg + BMSR, 0x7809 | (link ? 0x24 : 0));
    pci_set16(s->reg + ANLPAR, link ? 0x45e1 : 0);
    pci_set16(s->reg + ANER, link ? 1 : 0);
    pci_set16(s->reg + CSCR, (rtl_get16(s, CSCR) & 0x8000) | 0x01c0 | (link ? 0x0408 : 0));
}

static uint64_t io_read(void *opaque, uint64_t offset, unsigned size)
{
    struct rtl8139 *s = opaque;
    uint64_t v = 0;
    refresh(s);
    for (unsigned i = 0; i < size && offset + i < RTL_REGS; i++)
        v |= (uint64_t)s->reg[offset + i] << 8 * i;
    return v;
}

static const struct io_ops ops = { io_read, io_write, 1, 4 };

/* ---- the network ---- */

static bool can_receive(struct nic *n)
{
    return rtl8139_can_receive((struct rtl8139 *)n);
}

static void receive(struct nic *n, const uint8_t *frame, size_t size)
{
    struct rtl8139 *s = (struct rtl8139 *)n;
    if (!rtl8139_loopback(s))
        rtl8139_receive(s, frame, size);
}

static void send_more(struct nic *n)
{
    rtl8139_transmit((struct rtl8139 *)n);
}

static void link_changed(struct nic *n)
{
    rtl8139_cause((struct rtl8139 *)n, INT_LINK);
}

static const struct nic_ops nic_ops = { can_receive, receive, send_more, link_changed };

/* ---- the device ---- */

static void reset(struct device *d)
{
    struct rtl8139 *s = (struct rtl8139 *)d;
    pci_device_reset(&s->nic.pci);
    g_mutex_lock(&d->lock);
    power_on(s);
    g_mutex_unlock(&d->lock);
}

static void drop(struct rtl8139 *s)
{
    nic_unplug(&s->nic);
    vtimer_destroy(s->timer);
    pci_device_unplug(&s->nic.pci);
    g_free(s->packet);
    g_free(s->scratch);
}

static bool realize(struct device *d, GError **error)
{
    struct rtl8139 *s = (struct rtl8139 *)d;
    const struct pci_id id = { .vendor = 0x10ec, .device = 0x8139, .subsys_vendor = 0x10ec, .subsys = 0x8139, .revision = s->cplus ? 0x20 : 0x10,
                               .class_code = 2, .int_pin = 1 };
    if (!nic_check(&s->nic, &nic_ops, error))
        return false;
    s->eeprom.word[0] = WORD_ID;
    s->eeprom.word[1] = s->eeprom.word[3] = 0x10ec;
    s->eeprom.word[2] = s->eeprom.word[4] = 0x8139;
    for (unsigned i = 0; i < 3; i++)
        s->eeprom.word[WORD_MAC + i] = pci_get16(s->nic.mac + 2 * i);
    s->timer = vtimer_create(d->machine->clock, timer_expired, s);
    s->packet = g_malloc(RTL_TX_MAX + 8); /* room for a tag */
    s->scratch = g_malloc(RTL_FRAME_MAX + 8);
    pci_device_init(&s->nic.pci, d, d->class->name, &id);
    pci_bar_init(&s->nic.pci, 0, PCI_BAR_IO, BAR_SIZE, &ops, s, &d->lock);
    pci_bar_init(&s->nic.pci, 1, PCI_BAR_MEM32, BAR_SIZE, &ops, s, &d->lock);
    power_on(s);
    if (nic_plug(&s->nic, error))
        return true;
    drop(s);
    return false;
}

static void unrealize(struct device *d)
{
    drop((struct rtl8139 *)d);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct rtl8139 *s = (struct rtl8139 *)d;
    if (s->next_tx >= 4 || s->rx_at >= RTL_RING || s->tx_at >= RTL_RING || s->tx_high_at >= RTL_RING) {
        power_on(s);
        return state_bad(r, error, "its places in the rings are not possible");
    }
    s->eeprom.bits = MIN(s->eeprom.bits, 24);
    set_timer(s);
    return true;
}

#define T struct rtl8139
static const struct device_prop props[] = {
    NIC_PROPS(T), { "cplus", PROP_BOOL, offsetof(T, cplus), .def = "on", .help = "off: an RTL8139C, without descriptor rings (Linux: 8139too)" },
    { NULL }
};
static const struct device_field fields[] = {
    DEVICE_ARRAY(T, reg), DEVICE_FIELD(T, next_tx), DEVICE_FIELD(T, rx_at), DEVICE_FIELD(T, tx_at), DEVICE_FIELD(T, tx_high_at),
    DEVICE_FIELD(T, cbr), DEVICE_FIELD(T, timer_zero), DEVICE_ARRAY(T, eeprom.word), DEVICE_FIELD(T, eeprom.select),
    DEVICE_FIELD(T, eeprom.clock), DEVICE_FIELD(T, eeprom.out), DEVICE_FIELD(T, eeprom.writable), DEVICE_FIELD(T, eeprom.bits),
    DEVICE_FIELD(T, eeprom.started), DEVICE_FIELD(T, eeprom.in), DEVICE_FIELD(T, eeprom.shift), DEVICE_FIELD(T, counters.tx_ok),
    DEVICE_FIELD(T, counters.rx_ok), DEVICE_FIELD(T, counters.tx_error), DEVICE_FIELD(T, counters.rx_error), DEVICE_FIELD(T, counters.missed),
    DEVICE_FIELD(T, counters.frame_align), DEVICE_FIELD(T, counters.tx_one_collision), DEVICE_FIELD(T, counters.tx_collisions),
    DEVICE_FIELD(T, counters.rx_own), DEVICE_FIELD(T, counters.rx_broadcast), DEVICE_FIELD(T, counters.rx_multicast),
    DEVICE_FIELD(T, counters.tx_abort), DEVICE_FIELD(T, counters.tx_underrun), { NULL }
};

const struct device_class rtl8139_class = {
    .name = "rtl8139", .help = "Realtek RTL8139C+ network card", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .load = load,
};
