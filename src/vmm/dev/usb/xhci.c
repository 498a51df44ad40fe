/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The controller's registers (5), ports (4.19), life; qemu-xhci and nec-usb-xhci. */
#include "vmm/dev/usb/xhci.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/state.h"
#include "vmm/core/vclock.h"

enum { BAR_REGS = 0, BAR_MSIX = 2, REGS_SIZE = 0x4000, CAP_LENGTH = 0x40, PORTS_AT = 0x400, PORT_SIZE = 16, RUNTIME = 0x1000, DOORBELLS = 0x2000, INTERRUPTERS = 0x20 };
enum { USBCMD = 0x00, USBSTS = 0x04, PAGESIZE = 0x08, DNCTRL = 0x14, CRCR = 0x18, DCBAAP = 0x30, CONFIG = 0x38 };
enum { FRAME_NS = 125000, NEC_VENDOR = 0x1033 };
#define CMD_WRITABLE (CMD_RUN | CMD_INTE | 8u)
#define STS_W1C (4u | STS_EINT | STS_PCD | STS_RESTORE_ERROR)
enum { CRCR_CS = 2, CRCR_CA = 4, CRCR_RUNNING = 8 };
/* PORTSC (5.4.8) */
#define P_CCS (1u << 0)
#define P_PED (1u << 1)
#define P_PR (1u << 4)
#define P_PLS (15u << 5)
#define P_PP (1u << 9)
#define P_SPEED_SHIFT 10
#define P_LWS (1u << 16)
#define P_CSC (1u << 17)
#define P_PEC (1u << 18)
#define P_WRC (1u << 19)
#define P_PRC (1u << 21)
#define P_PLC (1u << 22)
#define P_CHANGES (127u << 17)
#define P_WAKE (7u << 25)
#define P_WPR (1u << 31)
enum { PLS_U0 = 0, PLS_U3 = 3, PLS_RX_DETECT = 5, PLS_POLLING = 7, PLS_RESUME = 15 };

extern const struct device_class qemu_xhci_class, nec_usb_xhci_class;

bool xhci_may_dma(const struct xhci *x) { return pci_get16(x->pci.config + PCI_REG_COMMAND) & PCI_CMD_MASTER; }

struct usb_device *xhci_device(struct xhci *x, unsigned slot)
{
    struct usb_device *u = x->slot_port[slot] ? x->bus.devices[x->slot_port[slot] - 1] : NULL;
    return u && u->slot == slot ? u : NULL;
}

enum xhci_fetch xhci_fetch(struct xhci *x, uint64_t *at, unsigned *budget, struct xhci_trb *ret)
{
    uint64_t pos = *at;
    for (;;) {
        uint8_t raw[XHCI_TRB];
        if (!*budget)
            return FETCH_EMPTY; /* the next doorbell goes on */
        --*budget;
        if (!guest_memory_read(xhci_memory(x), pos & ~15ull, raw, sizeof(raw)))
            return FETCH_BAD;
        *ret = (struct xhci_trb){ pos & ~15ull, pci_get32(raw) | (uint64_t)pci_get32(raw + 4) << 32, pci_get32(raw + 8), pci_get32(raw + 12) };
        if ((ret->control & TRB_CYCLE) != (pos & 1))
            return FETCH_EMPTY;
        if (TRB_TYPE(ret->control) != TRB_LINK) {
            *at = pos + XHCI_TRB;
            return FETCH_TRB;
        }
        pos = (ret->parameter & ~15ull) | ((pos & 1) ^ (ret->control & TRB_TOGGLE ? 1 : 0));
    }
}

/* ---- ports ---- */

static bool is_usb3(const struct xhci *x, unsigned port) { return port >= x->bus.n2; }
static void set_link(struct xhci *x, unsigned port, uint32_t state) { x->portsc[port] = (x->portsc[port] & ~P_PLS) | state << 5; }

/* 4.19.2: an event for changes that were not there yet. */
static void port_changed(struct xhci *x, unsigned port, uint32_t changes)
{
    if ((x->portsc[port] & changes) == changes)
        return;
    x->portsc[port] |= changes;
    if (!xhci_running(x))
        return;
    x->usbsts |= STS_PCD;
    xhci_event(x, 0, (uint64_t)(port + 1) << 24, (uint32_t)CC_SUCCESS << 24, TRB_E_PORT << 10);
}

/* What a port shows of who is there, or is not; no event. */
static void port_show(struct xhci *x, unsigned port)
{
    struct usb_device *u = x->bus.devices[port];
    uint32_t keep = x->portsc[port] & (P_CHANGES | P_WAKE);
    x->portsc[port] = keep | P_PP;
    set_link(x, port, PLS_RX_DETECT);
    if (!u)
        return;
    x->portsc[port] |= P_CCS | (uint32_t)u->speed << P_SPEED_SHIFT;
    if (is_usb3(x, port))
        x->portsc[port] |= P_PED;
    set_link(x, port, is_usb3(x, port) ? PLS_U0 : PLS_POLLING);
}

/* Whoever has the device forgets what is under way: it fails at the next try. */
static void device_lost(struct xhci *x, struct usb_device *u)
{
    for (unsigned ep = 1; u->slot && ep < XHCI_EPS; ep++)
        xhci_ep_cancel(x, u->slot, ep, false);
}

static void port_reset(struct xhci *x, unsigned port, bool warm)
{
    struct usb_device *u = x->bus.devices[port];
    if (!u)
        return;
    device_lost(x, u);
    usb_reset(u);
    x->portsc[port] |= P_PED;
    set_link(x, port, PLS_U0);
    port_changed(x, port, P_PRC | (warm && is_usb3(x, port) ? P_WRC : 0));
}

static void write_link(struct xhci *x, unsigned port, uint32_t state)
{
    uint32_t now = (x->portsc[port] & P_PLS) >> 5;
    if (!(x->portsc[port] & P_CCS) || state == now)
        return;
    if (state == PLS_U0 && (now == PLS_U3 || now == PLS_RESUME)) {
        set_link(x, port, PLS_U0);
        port_changed(x, port, P_PLC);
        struct usb_device *u = x->bus.devices[port];
        for (unsigned ep = 1; u && u->slot && ep < XHCI_EPS; ep++)
            xhci_ep_kick(x, u->slot, ep);
    } else if ((state == PLS_U3 && (x->portsc[port] & P_PED)) || (state == PLS_RESUME && now == PLS_U3 && !is_usb3(x, port)) || (state == PLS_U0)) {
        set_link(x, port, state);
    }
}

static void portsc_write(struct xhci *x, unsigned port, uint32_t value)
{
    uint32_t *p = &x->portsc[port];
    *p &= ~(value & P_CHANGES);
    *p = (*p & ~P_WAKE) | (value & P_WAKE);
    if (value & (P_PR | (is_usb3(x, port) ? P_WPR : 0))) {
        port_reset(x, port, value & P_WPR);
        return;
    }
    if ((value & P_PED) && (*p & P_PED)) { /* written 1: off */
        *p &= ~P_PED;
        set_link(x, port, is_usb3(x, port) ? PLS_RX_DETECT : PLS_POLLING);
    }
    if (value & P_LWS)
        write_link(x, port, (value & P_PLS) >> 5);
}

static void attached(struct usb_bus *b, unsigned port)
{
    struct xhci *x = (struct xhci *)b->controller;
    port_show(x, port);
    port_changed(x, port, P_CSC);
}

static void detached(struct usb_bus *b, unsigned port)
{
    struct xhci *x = (struct xhci *)b->controller;
    struct usb_device *u = b->devices[port];
    unsigned slot = u->slot;
    device_lost(x, u);
    b->devices[port] = NULL;
    port_show(x, port);
    port_changed(x, port, P_CSC);
    for (unsigned ep = 1; slot && ep < XHCI_EPS; ep++)
        xhci_ep_kick(x, slot, ep); /* what waited fails now */
    b->devices[port] = u;
}

static void wakeup(struct usb_device *u, uint8_t endpoint)
{
    struct xhci *x = (struct xhci *)u->bus->controller;
    if ((x->portsc[u->port] & P_PLS) >> 5 == PLS_U3) {
        if (!u->wakeup_enabled)
            return;
        set_link(x, u->port, is_usb3(x, u->port) ? PLS_U0 : PLS_RESUME);
        port_changed(x, u->port, P_PLC);
    } else if (u->slot) {
        xhci_ep_kick(x, u->slot, (endpoint & 15u) * 2 + (endpoint & 0x80 ? 1 : 0));
    }
}

static const struct usb_bus_ops bus_ops = { attached, detached, wakeup };

/* ---- running and resetting ---- */

static void reset(struct xhci *x)
{
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        x->slot_context[i] = 0; /* the guest's memory is not written any more */
        xhci_slot_free(x, i);
    }
    x->usbcmd = x->dnctrl = x->config = 0;
    x->usbsts = STS_HALTED;
    x->crcr = x->dcbaap = x->command_ring = 0;
    x->frame_base = x->dev.machine->clock ? vclock_now(x->dev.machine->clock) : 0;
    xhci_interrupters_reset(x);
    for (unsigned i = 0; i < x->bus.n2 + x->bus.n3; i++) {
        x->portsc[i] = 0;
        port_show(x, i);
        if (x->bus.devices[i]) {
            usb_reset(x->bus.devices[i]);
            x->portsc[i] |= P_CSC;
        }
    }
    pci_intx(&x->pci, false);
}

static void write_usbcmd(struct xhci *x, uint32_t value)
{
    if (value & CMD_RESET) {
        reset(x);
        return;
    }
    x->usbcmd = value & CMD_WRITABLE;
    if (value & CMD_RESTORE)
        x->usbsts |= STS_RESTORE_ERROR; /* nothing was kept: the driver starts anew */
    if (value & CMD_RUN) {
        x->usbsts &= ~(uint32_t)STS_HALTED;
    } else {
        x->usbsts |= STS_HALTED;
        x->crcr &= ~(uint64_t)CRCR_RUNNING;
    }
    xhci_update_interrupts(x);
}

static void write_crcr_low(struct xhci *x, uint32_t value)
{
    if ((value & (CRCR_CS | CRCR_CA)) && (x->crcr & CRCR_RUNNING)) { /* commands end at once: there is nothing to stop but the ring */
        x->crcr &= ~(uint64_t)CRCR_RUNNING;
        xhci_event(x, 0, x->command_ring & ~15ull, (uint32_t)CC_COMMAND_STOPPED << 24, TRB_E_COMMAND << 10);
    } else if (!(x->crcr & CRCR_RUNNING)) {
        x->command_ring = (x->command_ring & ~0xffffffffull) | (value & ~63u) | (value & 1);
    }
}

static void doorbell(struct xhci *x, unsigned slot, uint32_t value)
{
    unsigned ep = value & 0xff;
    if (!xhci_running(x) || !xhci_may_dma(x))
        return;
    if (!slot) {
        if (ep == 0) {
            x->crcr |= CRCR_RUNNING;
            xhci_commands(x);
        }
        return;
    }
    if (slot > x->nslots || x->slot_state[slot] < SLOT_DEFAULT || !ep || ep >= XHCI_EPS || value >> 16)
        return;
    uint8_t *state = &x->ep_state[XHCI_EP(slot, ep)];
    if (*state == EP_STOPPED) {
        *state = EP_RUNNING;
        xhci_ep_write_back(x, slot, ep);
    }
    if (*state == EP_RUNNING)
        xhci_ep_run(x, slot, ep);
}

/* ---- registers ---- */

static uint32_t capability(const struct xhci *x, unsigned offset)
{
    const uint32_t usb = 'U' | 'S' << 8 | 'B' << 16 | ' ' << 24;
    switch (offset) {
    case 0x00: return CAP_LENGTH | 0x0100u << 16;
    case 0x04: return (uint32_t)x->nslots | (uint32_t)x->nintrs << 8 | (x->bus.n2 + x->bus.n3) << 24;
    case 0x08: return 15; /* isochronous threshold; event rings of one segment */
    case 0x10: return 1 | 1 << 7 | (0x20 / 4) << 16; /* 64-bit addresses, no secondary stream ids, extended capabilities */
    case 0x14: return DOORBELLS;
    case 0x18: return RUNTIME;
    /* Supported Protocol (7.2): USB 2.0, then 3.0 */
    case 0x20: return 0x02000002u | (x->bus.n3 ? 4u << 8 : 0);
    case 0x24: case 0x34: return offset == 0x24 || x->bus.n3 ? usb : 0;
    case 0x28: return x->bus.n2 << 8 | 1;
    case 0x30: return x->bus.n3 ? 0x03000002u : 0;
    case 0x38: return x->bus.n3 ? x->bus.n3 << 8 | (x->bus.n2 + 1) : 0;
    default: return 0;
    }
}

static uint32_t operational(const struct xhci *x, unsigned offset)
{
    unsigned port = (offset - PORTS_AT) / PORT_SIZE;
    if (offset >= PORTS_AT)
        return port < x->bus.n2 + x->bus.n3 && offset % PORT_SIZE == 0 ? x->portsc[port] : 0;
    switch (offset) {
    case USBCMD: return x->usbcmd;
    case USBSTS: return x->usbsts;
    case PAGESIZE: return 1;
    case DNCTRL: return x->dnctrl;
    case CRCR: return (uint32_t)x->crcr & CRCR_RUNNING;
    case DCBAAP: return (uint32_t)x->dcbaap;
    case DCBAAP + 4: return (uint32_t)(x->dcbaap >> 32);
    case CONFIG: return x->config;
    default: return 0;
    }
}

static uint64_t regs_read(void *opaque, uint64_t offset, unsigned size)
{
    struct xhci *x = opaque;
    unsigned shift = (unsigned)(offset & 3) * 8; /* capabilities may be read in bytes */
    uint32_t v = 0;
    offset &= ~3ull;
    if (offset < CAP_LENGTH)
        v = capability(x, (unsigned)offset);
    else if (offset < RUNTIME)
        v = operational(x, (unsigned)offset - CAP_LENGTH);
    else if (offset == RUNTIME)
        v = (uint32_t)((vclock_now(x->dev.machine->clock) - x->frame_base) / FRAME_NS) & 0x3fff;
    else if (offset >= RUNTIME + INTERRUPTERS && offset < DOORBELLS)
        v = xhci_interrupter_read(x, (unsigned)offset - RUNTIME - INTERRUPTERS);
    return v >> shift & (size == 4 ? 0xffffffffu : (1u << 8 * size) - 1);
}

static void operational_write(struct xhci *x, unsigned offset, uint32_t value)
{
    unsigned port = (offset - PORTS_AT) / PORT_SIZE;
    if (offset >= PORTS_AT) {
        if (port < x->bus.n2 + x->bus.n3 && offset % PORT_SIZE == 0)
            portsc_write(x, port, value);
        return;
    }
    switch (offset) {
    case USBCMD: write_usbcmd(x, value); break;
    case USBSTS: x->usbsts &= ~(value & STS_W1C); break;
    case DNCTRL: x->dnctrl = value & 0xffff; break;
    case CRCR: write_crcr_low(x, value); break;
    case CRCR + 4:
        if (!(x->crcr & CRCR_RUNNING))
            x->command_ring = (uint32_t)x->command_ring | (uint64_t)value << 32;
        break;
    case DCBAAP: x->dcbaap = (x->dcbaap & ~0xffffffffull) | (value & ~63u); break;
    case DCBAAP + 4: x->dcbaap = (uint32_t)x->dcbaap | (uint64_t)value << 32; break;
    case CONFIG: x->config = value & 0xff; break;
    }
}

static void regs_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct xhci *x = opaque;
    if (size != 4 || (offset & 3) || offset < CAP_LENGTH)
        return;
    if (offset < RUNTIME)
        operational_write(x, (unsigned)offset - CAP_LENGTH, (uint32_t)value);
    else if (offset >= DOORBELLS)
        doorbell(x, (unsigned)(offset - DOORBELLS) / 4, (uint32_t)value);
    else if (offset >= RUNTIME + INTERRUPTERS)
        xhci_interrupter_write(x, (unsigned)offset - RUNTIME - INTERRUPTERS, (uint32_t)value);
}

static const struct io_ops regs_ops = { regs_read, regs_write, 1, 4 };

/* ---- a saved machine: transfers begin anew from their rings ---- */

static bool slots_ok(const struct xhci *x)
{
    for (unsigned i = 0; i <= XHCI_SLOTS; i++) {
        bool may_be = i && i <= x->nslots;
        if (x->slot_state[i] > (may_be ? SLOT_CONFIGURED : SLOT_NONE) || x->slot_port[i] > x->bus.n2 + x->bus.n3 || x->ep_interrupter[i] >= x->nintrs)
            return false;
        for (unsigned ep = 0; ep < XHCI_EPS; ep++) {
            unsigned e = XHCI_EP(i, ep);
            if (x->ep_state[e] > (may_be && ep ? EP_ERROR : EP_DISABLED) || x->ep_type[e] > EPT_INTERRUPT_IN)
                return false;
        }
    }
    return true;
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct xhci *x = (struct xhci *)d;
    if (slots_ok(x) && xhci_interrupters_ok(x))
        return true;
    memset(x->slot_state, SLOT_NONE, sizeof(x->slot_state));
    memset(x->slot_port, 0, sizeof(x->slot_port));
    reset(x);
    return state_bad(r, error, "its slots, endpoints or event rings are not possible");
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct xhci *x = opaque;
    if (ev != HOOK_RUN)
        return;
    g_mutex_lock(&x->dev.lock);
    xhci_enter(x);
    for (unsigned slot = 1; slot <= x->nslots; slot++) {
        for (unsigned ep = 1; x->slot_state[slot] >= SLOT_DEFAULT && ep < XHCI_EPS; ep++) {
            if (x->ep_state[XHCI_EP(slot, ep)] == EP_RUNNING)
                xhci_ep_run(x, slot, ep);
        }
    }
    xhci_leave(x);
    g_mutex_unlock(&x->dev.lock);
}

/* ---- life ---- */

static void device_reset_xhci(struct device *d)
{
    struct xhci *x = (struct xhci *)d;
    g_mutex_lock(&d->lock);
    reset(x);
    g_mutex_unlock(&d->lock);
    pci_device_reset(&x->pci);
}

static bool realize(struct device *d, GError **error)
{
    struct xhci *x = (struct xhci *)d;
    bool nec = d->class == &nec_usb_xhci_class;
    const struct pci_id id = { .vendor = nec ? NEC_VENDOR : 0x1b36, .device = nec ? 0x0194 : 0x000d, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                               .revision = nec ? 3 : 1, .class_code = 0x0c, .subclass = 0x03, .prog_if = 0x30, .int_pin = 1 };
    if (x->streams)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: streams=on is not there: no device uses them", d->class->name);
    if (!x->p2 && !x->p3)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: p2=0,p3=0 leaves no port", d->class->name);
    x->bus = (struct usb_bus){ .controller = d, .ops = &bus_ops, .n2 = (unsigned)x->p2, .n3 = (unsigned)x->p3 };
    pci_device_init(&x->pci, d, d->class->name, &id);
    x->pci.cap_end = 0x64; /* behind SBRN and FLADJ */
    x->pci.config[0x60] = 0x30; /* SBRN: release 3.0 (5.2.3) */
    x->pci.config[0x61] = 0x20;
    pci_bar_init(&x->pci, BAR_REGS, PCI_BAR_MEM64, REGS_SIZE, &regs_ops, x, &d->lock);
    if (x->msix_wanted)
        pci_msix_init(&x->pci, (unsigned)x->nintrs, BAR_MSIX);
    if (x->msi_wanted)
        pci_msi_init(&x->pci);
    pci_express_init(&x->pci);
    g_mutex_lock(&d->lock);
    reset(x);
    g_mutex_unlock(&d->lock);
    if (pci_device_plug(&x->pci, d->machine, x->addr, error)) {
        machine_add_hook(d->machine, on_hook, x);
        return true;
    }
    pci_device_unplug(&x->pci);
    return false;
}

static void unrealize(struct device *d)
{
    struct xhci *x = (struct xhci *)d;
    machine_remove_hook(d->machine, on_hook, x);
    pci_device_detach(&x->pci);
    g_mutex_lock(&d->lock);
    reset(x);
    for (unsigned i = 0; i < USB_MAX_PORTS; i++) {
        if (x->bus.devices[i])
            x->bus.devices[i]->bus = NULL;
        x->bus.devices[i] = NULL;
    }
    g_mutex_unlock(&d->lock);
    pci_device_unplug(&x->pci);
}

struct usb_bus *usb_bus_of(struct device *d)
{
    return d->class == &qemu_xhci_class || d->class == &nec_usb_xhci_class ? &((struct xhci *)d)->bus : NULL;
}

#define T struct xhci
static const char *const off_on_auto[] = { "off", "on", "auto", NULL };
static const struct device_prop props[] = {
    { "addr", PROP_PCI_ADDR, offsetof(T, addr), .def = "-1", .help = "slot[.function]" },
    { "p2", PROP_UINT, offsetof(T, p2), 0, 15, .def = "4", .help = "USB 2 ports" },
    { "p3", PROP_UINT, offsetof(T, p3), 0, 15, .def = "4", .help = "USB 3 ports" },
    { "intrs", PROP_UINT, offsetof(T, nintrs), 1, XHCI_INTERRUPTERS, .def = "16", .help = "interrupters" },
    { "slots", PROP_UINT, offsetof(T, nslots), 1, XHCI_SLOTS, .def = "64", .help = "devices that can be addressed at once" },
    { "msi", PROP_ENUM, offsetof(T, msi_wanted), .values = off_on_auto, .def = "auto", .help = "message signalled interrupts" },
    { "msix", PROP_ENUM, offsetof(T, msix_wanted), .values = off_on_auto, .def = "auto", .help = "MSI-X, one vector for each interrupter" },
    { "streams", PROP_BOOL, offsetof(T, streams), .def = "off", .help = "only off" },
    { NULL }
};
static const struct device_field fields[] = {
    DEVICE_FIELD(T, usbcmd), DEVICE_FIELD(T, usbsts), DEVICE_FIELD(T, dnctrl), DEVICE_FIELD(T, config), DEVICE_FIELD(T, crcr), DEVICE_FIELD(T, dcbaap),
    DEVICE_FIELD(T, command_ring), DEVICE_ARRAY(T, portsc), DEVICE_FIELD(T, frame_base), DEVICE_ARRAY(T, iman), DEVICE_ARRAY(T, imod), DEVICE_ARRAY(T, erstsz),
    DEVICE_ARRAY(T, erstba), DEVICE_ARRAY(T, erdp), DEVICE_ARRAY(T, er_base), DEVICE_ARRAY(T, er_size), DEVICE_ARRAY(T, er_index), DEVICE_ARRAY(T, er_cycle),
    DEVICE_ARRAY(T, er_full), DEVICE_ARRAY(T, slot_state), DEVICE_ARRAY(T, slot_port), DEVICE_ARRAY(T, slot_context), DEVICE_ARRAY(T, ep_state),
    DEVICE_ARRAY(T, ep_type), DEVICE_ARRAY(T, ep_interrupter), DEVICE_ARRAY(T, ep_dequeue),
    { NULL }
};
const struct device_class qemu_xhci_class = {
    .name = "qemu-xhci", .help = "USB controller: USB 2 and 3 (xHCI)", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields, .user_creatable = true,
    .realize = realize, .reset = device_reset_xhci, .unrealize = unrealize, .load = load,
};
const struct device_class nec_usb_xhci_class = {
    .name = "nec-usb-xhci", .help = "USB controller as NEC's uPD720200 (xHCI)", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = device_reset_xhci, .unrealize = unrealize, .load = load,
};
