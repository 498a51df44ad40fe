/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers, interrupts, PHY and EEPROM of the cards, and what they are to the machine. Delay timers of descriptors (RDTR, TIDV
 * ...) are taken and have no effect: a cause is set at once, and ITR and EITR hold interrupts back.
 */
#include "vmm/dev/nic/e1000.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/core/vclock.h"
#include "vmm/net/ether.h"

enum { CTRL_MASTER_DISABLE = 1 << 2, CTRL_RST = 1 << 26, CTRL_EXT_EE_RST = 1 << 13, CTRL_EXT_EIAME = 1 << 24, CTRL_EXT_IAME = 1 << 27 };
#define CTRL_PHY_RST (1u << 31)
enum { STATUS_FD = 1, STATUS_LU = 2, STATUS_1000 = 0x80, STATUS_PHYRA = 0x400, STATUS_MASTER = 0x80000 };
enum { EECD_SK = 1, EECD_CS = 2, EECD_DI = 4, EECD_DO = 8, EECD_REQ = 0x40, EECD_GNT = 0x80, EECD_PRES = 0x100, EECD_AUTO_RD = 0x200 };
enum { EXTCNF_MDIO_SW = 1 << 5, SWSM_SMBI = 1, RCTL_LBM = 0xc0, TIMER_PERIOD = 40 /* ns: 25 MHz */ };
enum { PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_ANAR = 4, PHY_LPA = 5, PHY_ANER = 6, PHY_1000_CONTROL = 9,
       PHY_1000_STATUS = 10, PHY_EXTENDED = 15, PHY_M88_CONTROL = 16, PHY_M88_STATUS = 17, PHY_M88_INTS = 19, PHY_PAGE = 22 };
enum { PHY_RESET = 0x8000, PHY_LOOPBACK = 0x4000, PHY_AUTONEG = 0x1000, PHY_RESTART = 0x0200 };
enum { IO_BAR_SIZE = 64 /* 82540EM */, IO_BAR_SIZE_E = 32 };

/* ---- statistics: they stick at all ones, and a read clears them (82574, 10.2.8) ---- */

void e1000_count(struct e1000 *s, unsigned counter, uint32_t n)
{
    uint32_t *c = e1000_reg(s, counter);
    *c = *c + n < *c ? ~0u : *c + n;
}

void e1000_count64(struct e1000 *s, unsigned counter, uint32_t n)
{
    uint32_t *low = e1000_reg(s, counter), *high = low + 1;
    uint64_t before = *low | (uint64_t)*high << 32, sum = before + n;
    if (sum < before)
        sum = ~0ull;
    *low = sum;
    *high = sum >> 32;
}

void e1000_count_size(struct e1000 *s, unsigned first, size_t size)
{
    static const uint16_t up_to[] = { 64, 127, 255, 511, 1023 };
    unsigned i = 0;
    while (i < G_N_ELEMENTS(up_to) && size > up_to[i])
        i++;
    e1000_count(s, first + 4 * i, 1);
}

/* ---- interrupts ---- */

/* The causes that vector `v` stands for (IVAR, 10.2.4.9). */
static uint32_t vector_causes(struct e1000 *s, unsigned v)
{
    static const uint32_t causes[] = { INT_RXQ0, INT_RXQ0 << 1, INT_TXQ0, INT_TXQ0 << 1, INT_OTHER };
    uint32_t ivar = R(s, IVAR), ret = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(causes); i++) {
        if ((ivar >> 4 * i & 15) == (8 | v))
            ret |= causes[i];
    }
    return ret;
}

static void arm_timer(struct e1000 *s)
{
    uint64_t next = 0;
    for (unsigned i = 0; i < E1000_THROTTLES; i++) {
        if (s->throttled[i] && (!next || s->throttle[i] < next))
            next = s->throttle[i];
    }
    if (next)
        vtimer_set(s->timer, next);
}

/* True when interrupt `i` may be raised now; otherwise the timer asks again. */
static bool may_raise(struct e1000 *s, unsigned i)
{
    uint32_t interval = R(s, i < E1000_VECTORS ? EITR + 4 * i : (unsigned)ITR) & 0xffff;
    uint64_t now = vclock_now(s->nic.dev.machine->clock);
    if (now < s->throttle[i]) {
        s->throttled[i] = true;
        arm_timer(s);
        return false;
    }
    s->throttled[i] = false;
    s->throttle[i] = now + interval * 256ull;
    return true;
}

static void raise_vectors(struct e1000 *s)
{
    for (unsigned v = 0; v < E1000_VECTORS; v++) {
        uint32_t news = R(s, ICR) & R(s, IMS) & ~s->announced & vector_causes(s, v);
        if (!news || !may_raise(s, v))
            continue;
        s->announced |= news;
        s->asserted = true;
        e1000_count(s, IAC, 1);
        pci_msix_send(&s->nic.pci, v);
        /* Auto-clear and auto-mask (10.2.4.7, 10.2.2.5). */
        R(s, ICR) &= ~(news & R(s, EIAC));
        if (R(s, CTRL_EXT) & CTRL_EXT_EIAME)
            R(s, IMS) &= ~(news & R(s, IAM));
    }
}

static void update_interrupts(struct e1000 *s)
{
    uint32_t active = R(s, ICR) & R(s, IMS);
    s->announced &= active;
    if (s->e && pci_msix_enabled(&s->nic.pci)) {
        pci_intx(&s->nic.pci, false);
        raise_vectors(s);
        s->announced &= R(s, ICR) & R(s, IMS);
        return;
    }
    if (!active) {
        pci_intx(&s->nic.pci, false);
        return;
    }
    if (!(active & ~s->announced) || !may_raise(s, E1000_VECTORS))
        return;
    s->announced = active;
    s->asserted = true;
    e1000_count(s, IAC, 1);
    pci_intx(&s->nic.pci, true);
    pci_msi_send(&s->nic.pci);
}

static void throttle_over(void *opaque)
{
    struct e1000 *s = opaque;
    g_mutex_lock(&s->nic.dev.lock);
    uint64_t now = vclock_now(s->nic.dev.machine->clock);
    for (unsigned i = 0; i < E1000_THROTTLES; i++)
        s->throttled[i] &= s->throttle[i] > now;
    update_interrupts(s);
    arm_timer(s);
    g_mutex_unlock(&s->nic.dev.lock);
}

void e1000_cause(struct e1000 *s, uint32_t causes)
{
    bool msix = s->e && pci_msix_enabled(&s->nic.pci);
    if (!msix)
        causes &= ~(0x1fu << 20); /* queues and others are causes of MSI-X only */
    else if (causes & (INT_LSC | INT_RXO | INT_MDAC | INT_SRPD | INT_ACK | INT_MNG))
        causes |= INT_OTHER;
    /* In MSI-X a cause that is still set is told about again. */
    s->announced &= msix ? ~causes : ~0u;
    R(s, ICR) |= causes;
    update_interrupts(s);
}

/* 82574, 10.2.4.1: what a read clears depends on the mask; the older card clears everything. */
static uint32_t read_icr(struct e1000 *s)
{
    uint32_t value = R(s, ICR);
    bool asserted = s->e && s->asserted;
    if (!s->e || !R(s, IMS) || asserted) {
        R(s, ICR) = 0;
        s->asserted = false;
    }
    if (asserted && (R(s, CTRL_EXT) & CTRL_EXT_IAME))
        R(s, IMS) &= ~R(s, IAM);
    update_interrupts(s);
    return value | (asserted ? INT_ASSERTED : 0);
}

static void write_icr(struct e1000 *s, uint32_t value)
{
    if (s->e && s->asserted && (R(s, CTRL_EXT) & CTRL_EXT_IAME))
        R(s, IMS) &= ~R(s, IAM);
    R(s, ICR) &= ~value;
    if (!R(s, ICR) || (value & INT_ASSERTED))
        s->asserted = false;
    update_interrupts(s);
}

/* ---- PHY: Marvell M88 (IEEE 802.3, clause 22 and its own registers) ---- */

static void phy_reset(struct e1000 *s)
{
    static const uint16_t values[E1000_PHY_REGS] = {
        [PHY_CONTROL] = 0x1140, [PHY_STATUS] = 0x7949, [PHY_ID1] = 0x0141, [PHY_ANAR] = 0x0de1, [PHY_LPA] = 0xcde1, [PHY_ANER] = 0x000f,
        [PHY_1000_CONTROL] = 0x0e00, [PHY_1000_STATUS] = 0x7c00, [PHY_EXTENDED] = 0x3000, [PHY_M88_CONTROL] = 0x0360,
    };
    memcpy(s->phy, values, sizeof(values));
    s->phy[PHY_ID2] = s->e ? 0x0cb1 : 0x0c20;
    s->phy_page = 0;
}

bool e1000_loopback(const struct e1000 *s)
{
    return (s->reg[RCTL / 4] & RCTL_LBM) || (s->phy[PHY_CONTROL] & PHY_LOOPBACK);
}

static bool link_up(const struct e1000 *s)
{
    return nic_link(&s->nic) || (s->phy[PHY_CONTROL] & PHY_LOOPBACK);
}

static uint16_t phy_read(struct e1000 *s, unsigned reg)
{
    bool up = link_up(s);
    if (reg == PHY_PAGE)
        return s->phy_page;
    if (reg > 15 && s->phy_page)
        return 0;
    switch (reg) {
    case PHY_STATUS:
        return s->phy[reg] | (up ? 0x24 : 0); /* autonegotiation complete, link */
    case PHY_LPA:
    case PHY_1000_STATUS:
        return up ? s->phy[reg] : 0;
    case PHY_M88_STATUS:
        return up ? 0xac08 : 0; /* 1000 Mb/s, full duplex, resolved, link */
    default:
        return s->phy[reg];
    }
}

static void phy_write(struct e1000 *s, unsigned reg, uint16_t value)
{
    static const uint16_t mask[E1000_PHY_REGS] = {
        [PHY_CONTROL] = 0x7dc0, [PHY_ANAR] = 0xffff, [7] = 0xffff, [PHY_1000_CONTROL] = 0xff00, [PHY_M88_CONTROL] = 0xffff, [18] = 0xffff,
        [20] = 0xffff, [24] = 0xffff, [25] = 0xffff, [26] = 0xffff, [29] = 0xffff, [30] = 0xffff,
    };
    if (reg == PHY_PAGE) {
        s->phy_page = value & 0xff;
        return;
    }
    if (reg > 15 && s->phy_page)
        return;
    if (reg == PHY_CONTROL && (value & PHY_RESET)) {
        phy_reset(s);
        e1000_cause(s, INT_LSC);
        return;
    }
    s->phy[reg] = value & mask[reg];
    if (reg == PHY_CONTROL && (value & PHY_RESTART)) {
        s->phy[reg] &= ~PHY_RESTART; /* done at once */
        if (value & PHY_AUTONEG)
            e1000_cause(s, INT_LSC);
    }
}

/* 10.2.2.7: data, register, PHY address, operation, ready, interrupt enable, error. */
static void write_mdic(struct e1000 *s, uint32_t v)
{
    unsigned reg = v >> 16 & 31, phy = v >> 21 & 31, op = v >> 26 & 3;
    uint32_t result = v & 0x2fffffff;
    if (v & 1u << 28)
        return;
    if (phy != 1)
        result |= 1u << 30;
    else if (op == 2)
        result = (result & ~0xffffu) | phy_read(s, reg);
    else if (op == 1)
        phy_write(s, reg, v);
    R(s, MDIC) = result | 1u << 28;
    if (v & 1u << 29)
        e1000_cause(s, INT_MDAC);
}

/* ---- EEPROM ---- */

enum { NVM_WORDS = 64, NVM_CHECKSUM = 63, NVM_SUM = 0xbaba };

static void nvm_fill(struct e1000 *s)
{
    static const uint16_t values[NVM_WORDS] = {
        [3] = 0x0420, [4] = 0xf746, [5] = 0x2010, [6] = 0xffff, [7] = 0xffff, [0x0a] = 0x026b, [0x0b] = 0x0000, [0x0c] = 0x8086,
        [0x0d] = 0x10d3, [0x0e] = 0x8086, [0x0f] = 0x83d5, [0x10] = 0x7061, [0x11] = 0x5001, [0x13] = 0x3d02, [0x14] = 0x2fa4, [0x15] = 0x7e0b,
        [0x16] = 0x3000, [0x17] = 0x1000, [0x18] = 0x48b3, [0x1a] = 0x0408, [0x1f] = 0x0100, [0x21] = 0x0002, [0x30] = 0x1100, [0x31] = 0x4018,
    };
    uint16_t *w = s->eeprom.word, sum = 0;
    memcpy(w, values, sizeof(values));
    for (unsigned i = 0; i < 3; i++)
        w[i] = pci_get16(s->nic.mac + 2 * i);
    if (!s->e) {
        w[3] = w[4] = w[5] = 0;
        w[0x0a] = 0x640b;
        w[0x0d] = 0x100e;
        w[0x0f] = 0;
    }
    for (unsigned i = 0; i < NVM_CHECKSUM; i++)
        sum += w[i];
    w[NVM_CHECKSUM] = NVM_SUM - sum;
}

/* EERD and EEWR: the 82574 has address and done bit elsewhere than the older card. */
static void nvm_access(struct e1000 *s, unsigned reg, uint32_t v)
{
    unsigned address = s->e ? v >> 2 & 0x3fff : v >> 8 & 0xff;
    uint32_t done = s->e ? 2 : 0x10;
    if (!(v & 1)) {
        R(s, reg) = v & ~done;
        return;
    }
    if (reg == EERD)
        v = (v & 0xffff) | (uint32_t)(address < NVM_WORDS ? s->eeprom.word[address] : 0xffff) << 16;
    else if (address < NVM_WORDS)
        s->eeprom.word[address] = v >> 16;
    R(s, reg) = (v & ~1u) | done;
}

static void write_eecd(struct e1000 *s, uint32_t v)
{
    eeprom93_wires(&s->eeprom, v & EECD_CS, v & EECD_SK, v & EECD_DI);
    R(s, EECD) = v & (EECD_SK | EECD_CS | EECD_DI | EECD_REQ | 0x30);
}

static uint32_t read_eecd(struct e1000 *s)
{
    uint32_t v = R(s, EECD);
    return v | EECD_PRES | (v & EECD_REQ ? EECD_GNT : 0) | (s->eeprom.out ? EECD_DO : 0) | (s->e ? EECD_AUTO_RD : 0);
}

/* ---- reset ---- */

struct value { uint16_t reg; uint32_t value; };

static void load_mac(struct e1000 *s)
{
    const uint16_t *w = s->eeprom.word;
    R(s, RAL0) = w[0] | (uint32_t)w[1] << 16;
    R(s, RAH0) = w[2] | 1u << 31;
}

/* The card's own reset (CTRL.RST): everything but PHY and EEPROM. */
static void soft_reset(struct e1000 *s)
{
    static const struct value values[] = {
        { CTRL, 0x0240 | 1 }, { VET, ETHER_TYPE_VLAN }, { LEDCTL, 0x07061302 }, { PBA, 0x00140014 }, { EEMNGCTL, 1 << 18 }, { TCTL, 1 << 3 },
        { RX_QUEUE + Q_DCTL, 0x01010000 }, { RX_QUEUE + 0x100 + Q_DCTL, 0x01010000 }, { RXCSUM, 0x300 }, { PSRCTL, 0x00040402 },
        { FACTPS, 0x20000000 },
    };
    memset(s->reg, 0, sizeof(s->reg));
    memset(s->context, 0, sizeof(s->context));
    for (size_t i = 0; i < G_N_ELEMENTS(values); i++)
        R(s, values[i].reg) = values[i].value;
    R(s, STATUS) = STATUS_PHYRA;
    load_mac(s);
    s->announced = 0;
    s->asserted = false;
    memset(s->throttle, 0, sizeof(s->throttle));
    memset(s->throttled, 0, sizeof(s->throttled));
    vtimer_cancel(s->timer);
    s->timinca = 0;
    s->systim_base = s->systim_at = 0;
    pci_intx(&s->nic.pci, false);
}

static void write_ctrl(struct e1000 *s, uint32_t v)
{
    if (v & CTRL_PHY_RST)
        phy_reset(s);
    if (v & CTRL_RST) {
        soft_reset(s);
        return;
    }
    R(s, CTRL) = v & ~(CTRL_RST | CTRL_PHY_RST);
    if (v & CTRL_PHY_RST) {
        R(s, STATUS) |= STATUS_PHYRA;
        e1000_cause(s, INT_LSC);
    }
}

static uint32_t read_status(struct e1000 *s)
{
    uint32_t v = STATUS_FD | STATUS_1000 | (link_up(s) ? STATUS_LU : 0);
    if (s->e)
        v |= (R(s, STATUS) & STATUS_PHYRA) | (R(s, CTRL) & CTRL_MASTER_DISABLE ? 0 : STATUS_MASTER);
    return v;
}

/* ---- time stamps' clock (82574, 10.2.10): grows by a value each so many periods ---- */

static uint64_t systim(struct e1000 *s)
{
    uint64_t period = (uint64_t)TIMER_PERIOD * MAX(1u, s->timinca >> 24);
    return s->systim_base + (vclock_now(s->nic.dev.machine->clock) - s->systim_at) / period * (s->timinca & 0xffffff);
}

static void set_systim(struct e1000 *s, uint64_t value)
{
    s->systim_base = value;
    s->systim_at = vclock_now(s->nic.dev.machine->clock);
}

static uint32_t time_read(struct e1000 *s, unsigned offset)
{
    return offset == SYSTIML ? systim(s) : offset == SYSTIMH ? systim(s) >> 32 : offset == TIMINCA ? s->timinca : 0;
}

static void time_write(struct e1000 *s, unsigned offset, uint32_t v)
{
    uint64_t now = systim(s);
    if (offset == TIMINCA)
        s->timinca = v;
    if (offset == SYSTIML)
        now = (now & ~0xffffffffull) | v;
    else if (offset == SYSTIMH)
        now = (uint32_t)now | (uint64_t)v << 32;
    if (offset == TIMINCA || offset == SYSTIML || offset == SYSTIMH)
        set_systim(s, now);
}

/* ---- register file: what only remembers ---- */

struct range { uint16_t first, last; bool e; uint32_t mask; };

/* e: of the 82574 only. What is not here reads as 0 and takes nothing. */
static const struct range ranges[] = {
    { CTRL_EXT, CTRL_EXT, false, ~(uint32_t)CTRL_EXT_EE_RST }, { 0x001c, 0x001c, false, ~0u },         /* FLA */
    { 0x0028, 0x002c, false, ~0u }, { 0x0030, 0x0030, false, 0xffff }, { VET, VET, false, 0xffff },     /* FCAL, FCAH, FCT */
    { ITR, ITR, false, 0xffff }, { EIAC, EIAC, true, 0x01f00000 }, { IAM, IAM, true, ~0u }, { IVAR, IVAR, true, 0x800fffff },
    { EITR, EITR + 4 * (E1000_VECTORS - 1), true, 0xffff }, { 0x0170, 0x0170, false, 0xffff },          /* FCTTV */
    { 0x0178, 0x0178, false, ~0u }, { RCTL, RCTL, false, ~0u }, { TCTL, TCTL, false, ~0u }, { 0x0404, 0x0404, true, ~0u },
    { 0x0410, 0x0410, false, ~0u }, { 0x0458, 0x0458, false, ~0u }, { LEDCTL, LEDCTL, false, ~0u },     /* TIPG, AIT */
    { EXTCNF_CTRL, EXTCNF_CTRL, true, ~0u }, { 0x0f08, 0x0f10, true, ~0u }, { PBA, 0x1008, false, ~0u },
    { 0x1010, 0x1010, true, ~0u }, { 0x2008, 0x2008, true, ~0u }, { 0x2160, 0x2168, false, ~0u }, { PSRCTL, PSRCTL, true, 0x3f3f3f7f },
    { 0x2820, 0x282c, false, ~0u }, { 0x2920, 0x292c, true, ~0u }, { 0x2c00, 0x2c08, false, ~0u },      /* RDTR to RADV, RSRPD */
    { 0x3820, 0x3840, false, ~0u }, { 0x3920, 0x3940, true, ~0u }, { RXCSUM, RXCSUM, false, 0xffff }, { RFCTL, RFCTL, true, ~0u },
    { MTA, 0x53fc, false, ~0u }, { RAL0, RA_END - 4, false, ~0u }, { VFTA, 0x57fc, false, ~0u }, { 0x5800, 0x5808, false, ~0u },
    { MRQC, MRQC, true, ~0u }, { 0x5820, 0x5820, false, ~0u }, { 0x5838, 0x58ac, false, ~0u }, { 0x5b00, 0x5b2c, true, ~0u },
    { SWSM, SWSM, true, 3 }, { SWSM2, SWSM2, true, ~0u }, { RETA, 0x5c7c, true, ~0u }, { RSSRK, 0x5ca4, true, ~0u },
    { 0x5f00, 0x5f00, true, ~0u }, { 0x5f08, 0x5f0c, true, ~0u },
};

static uint32_t plain_mask(const struct e1000 *s, unsigned offset)
{
    for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
        if (offset >= ranges[i].first && offset <= ranges[i].last)
            return ranges[i].e && !s->e ? 0 : ranges[i].mask;
    }
    return 0;
}

/* Base, length, head and tail of a ring; false: the register is none of them. */
static bool ring_write(struct e1000 *s, unsigned offset, uint32_t v)
{
    unsigned queue = offset & ~0xffu, at = offset & 0xff;
    bool rx = (queue & ~0x100u) == RX_QUEUE, tx = (queue & ~0x100u) == TX_QUEUE;
    if ((!rx && !tx) || (!s->e && (queue & 0x100)))
        return false;
    switch (at) {
    case Q_BAL:
        R(s, offset) = v & ~15u;
        return true;
    case Q_BAH:
        R(s, offset) = v;
        return true;
    case Q_LEN:
        R(s, offset) = v & 0xfff80;
        return true;
    case Q_HEAD:
        R(s, offset) = v & 0xffff;
        return true;
    case Q_TAIL:
        R(s, offset) = v & 0xffff;
        if (tx)
            e1000_transmit(s);
        else
            nic_ready(&s->nic);
        return true;
    default:
        return false;
    }
}

static uint32_t reg_read(struct e1000 *s, unsigned offset)
{
    uint32_t v;
    switch (offset) {
    case CTRL_DUP:
        return R(s, CTRL);
    case STATUS:
        return read_status(s);
    case EECD:
        return read_eecd(s);
    case ICR:
        return read_icr(s);
    case ICS:
    case IMC:
        return 0;
    case SWSM: /* whoever finds the semaphore free has taken it (10.2.2.19) */
        v = R(s, SWSM);
        R(s, SWSM) |= s->e ? SWSM_SMBI : 0;
        return v;
    default:
        break;
    }
    if (offset >= E1000_REGS)
        return s->e ? time_read(s, offset) : 0;
    v = R(s, offset);
    if (offset >= STATS && offset < STATS_END) {
        R(s, offset) = 0;
        if (offset == GORC || offset == GOTC || offset == TOR || offset == TOT)
            R(s, offset) = v; /* cleared with its upper half */
        else if (offset == GORC + 4 || offset == GOTC + 4 || offset == TOR + 4 || offset == TOT + 4)
            R(s, offset - 4) = 0;
    }
    return v;
}

static void reg_write(struct e1000 *s, unsigned offset, uint32_t v)
{
    switch (offset) {
    case CTRL:
    case CTRL_DUP:
        write_ctrl(s, v);
        return;
    case STATUS:
        R(s, STATUS) &= v | ~(uint32_t)STATUS_PHYRA;
        return;
    case EECD:
        write_eecd(s, v);
        return;
    case EERD:
        nvm_access(s, EERD, v);
        return;
    case EEWR:
        if (s->e)
            nvm_access(s, EEWR, v);
        return;
    case MDIC:
        write_mdic(s, v);
        return;
    case ICR:
        write_icr(s, v);
        return;
    case ICS:
        e1000_cause(s, v & 0x01ffffff);
        return;
    case IMS:
        R(s, IMS) |= v & 0x01ffffff;
        update_interrupts(s);
        return;
    case IMC:
        R(s, IMS) &= ~v;
        update_interrupts(s);
        return;
    default:
        break;
    }
    if (offset >= E1000_REGS) {
        if (s->e)
            time_write(s, offset, v);
        return;
    }
    if (ring_write(s, offset, v))
        return;
    uint32_t mask = plain_mask(s, offset);
    R(s, offset) = (R(s, offset) & ~mask) | (v & mask);
    if (offset == RCTL)
        nic_ready(&s->nic);
    else if (offset == TCTL)
        e1000_transmit(s);
    else if (offset == CTRL_EXT && (v & CTRL_EXT_EE_RST))
        load_mac(s);
    else if (offset == IVAR)
        update_interrupts(s);
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    return reg_read(opaque, offset & ~3ull);
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    if (!(offset & 3))
        reg_write(opaque, offset, value);
}

static const struct io_ops mmio_ops = { mmio_read, mmio_write, 4, 4 };

/* IOADDR and IODATA: the registers through ports (10.2.1.2). */
static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct e1000 *s = opaque;
    if (offset == 0)
        return s->io_address;
    return offset == 4 && s->io_address < E1000_BAR ? reg_read(s, s->io_address & ~3u) : 0;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct e1000 *s = opaque;
    if (offset == 0)
        s->io_address = value;
    else if (offset == 4 && s->io_address < E1000_BAR)
        reg_write(s, s->io_address & ~3u, value);
}

static const struct io_ops port_ops = { port_read, port_write, 4, 4 };

/* ---- the network ---- */

static bool can_receive(struct nic *n)
{
    return e1000_can_receive((struct e1000 *)n);
}

static void receive(struct nic *n, const uint8_t *frame, size_t size)
{
    struct e1000 *s = (struct e1000 *)n;
    if (!e1000_loopback(s))
        e1000_receive(s, frame, size);
}

static void send_more(struct nic *n)
{
    e1000_transmit((struct e1000 *)n);
}

static void link_changed(struct nic *n)
{
    e1000_cause((struct e1000 *)n, INT_LSC);
}

static const struct nic_ops nic_ops = { can_receive, receive, send_more, link_changed };

/* ---- the device ---- */

static void reset(struct device *d)
{
    struct e1000 *s = (struct e1000 *)d;
    pci_device_reset(&s->nic.pci);
    g_mutex_lock(&d->lock);
    phy_reset(s);
    soft_reset(s);
    s->io_address = 0;
    g_mutex_unlock(&d->lock);
}

static void pci_setup(struct e1000 *s)
{
    static const struct pci_id e = { .vendor = 0x8086, .device = 0x10d3, .subsys_vendor = 0x8086, .class_code = 2, .int_pin = 1 };
    static const struct pci_id old = { .vendor = 0x8086, .device = 0x100e, .subsys_vendor = 0x8086, .subsys = 0x001e, .revision = 3,
                                       .class_code = 2, .int_pin = 1 };
    struct pci_device *p = &s->nic.pci;
    struct device *d = &s->nic.dev;
    pci_device_init(p, d, d->class->name, s->e ? &e : &old);
    pci_bar_init(p, 0, PCI_BAR_MEM32, E1000_BAR, &mmio_ops, s, &d->lock);
    pci_bar_init(p, s->e ? 2 : 1, PCI_BAR_IO, s->e ? IO_BAR_SIZE_E : IO_BAR_SIZE, &port_ops, s, &d->lock);
    if (!s->e)
        return;
    pci_msi_init(p);
    pci_express_init(p);
    pci_msix_init(p, E1000_VECTORS, 3);
}

static void drop(struct e1000 *s)
{
    nic_unplug(&s->nic);
    vtimer_destroy(s->timer);
    pci_device_unplug(&s->nic.pci);
    g_free(s->packet);
    g_free(s->scratch);
}

static bool realize(struct device *d, GError **error)
{
    struct e1000 *s = (struct e1000 *)d;
    s->e = d->class->bus_class != NULL;
    if (!nic_check(&s->nic, &nic_ops, error))
        return false;
    nvm_fill(s);
    s->timer = vtimer_create(d->machine->clock, throttle_over, s);
    s->packet = g_malloc(E1000_TX_MAX + 8); /* room for a tag */
    s->scratch = g_malloc(E1000_FRAME_MAX + 8);
    pci_setup(s);
    phy_reset(s);
    soft_reset(s);
    if (nic_plug(&s->nic, error))
        return true;
    drop(s);
    return false;
}

static void unrealize(struct device *d)
{
    drop((struct e1000 *)d);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct e1000 *s = (struct e1000 *)d;
    for (unsigned i = 0; i < 2 * E1000_QUEUES; i++) { /* as a guest can write them */
        unsigned q = (i & 1 ? TX_QUEUE : RX_QUEUE) + 0x100 * (i / 2);
        R(s, q + Q_LEN) &= 0xfff80;
        R(s, q + Q_HEAD) &= 0xffff;
        R(s, q + Q_TAIL) &= 0xffff;
    }
    s->eeprom.bits = MIN(s->eeprom.bits, 24);
    arm_timer(s);
    return true;
}

#define T struct e1000
#define CONTEXT_FIELDS(q, t)                                                                                                     \
    DEVICE_FIELD(T, context[q][t].payload), DEVICE_FIELD(T, context[q][t].ip_end), DEVICE_FIELD(T, context[q][t].l4_end),         \
    DEVICE_FIELD(T, context[q][t].mss), DEVICE_FIELD(T, context[q][t].ip_start), DEVICE_FIELD(T, context[q][t].ip_sum),           \
    DEVICE_FIELD(T, context[q][t].l4_start), DEVICE_FIELD(T, context[q][t].l4_sum), DEVICE_FIELD(T, context[q][t].header),        \
    DEVICE_FIELD(T, context[q][t].ipv4), DEVICE_FIELD(T, context[q][t].tcp)
static const struct device_prop props[] = { NIC_PROPS(T), { NULL } };
static const struct device_field fields[] = {
    DEVICE_ARRAY(T, reg), DEVICE_ARRAY(T, phy), DEVICE_FIELD(T, phy_page), DEVICE_FIELD(T, io_address), DEVICE_FIELD(T, timinca),
    DEVICE_FIELD(T, systim_base), DEVICE_FIELD(T, systim_at), DEVICE_ARRAY(T, eeprom.word), DEVICE_FIELD(T, eeprom.select),
    DEVICE_FIELD(T, eeprom.clock), DEVICE_FIELD(T, eeprom.out), DEVICE_FIELD(T, eeprom.writable), DEVICE_FIELD(T, eeprom.bits),
    DEVICE_FIELD(T, eeprom.started), DEVICE_FIELD(T, eeprom.in), DEVICE_FIELD(T, eeprom.shift), DEVICE_FIELD(T, announced),
    DEVICE_FIELD(T, asserted), DEVICE_ARRAY(T, throttle), DEVICE_ARRAY(T, throttled), CONTEXT_FIELDS(0, 0),
    CONTEXT_FIELDS(0, 1), CONTEXT_FIELDS(1, 0), CONTEXT_FIELDS(1, 1), { NULL }
};

const struct device_class e1000e_class = {
    .name = "e1000e", .help = "Intel 82574L gigabit network card", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .load = load, .bus_class = &e1000e_class,
};
const struct device_class e1000_class = {
    .name = "e1000", .help = "Intel 82540EM gigabit network card, for old guests", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .load = load,
};
