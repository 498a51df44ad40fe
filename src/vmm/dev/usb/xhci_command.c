/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command ring (4.6): slots, contexts, states of endpoints. Contexts have 32 bytes. */
#include "vmm/dev/usb/xhci.h"

#include <string.h>

#include "base/log.h"

enum { CONTEXT = 32, ROUTE = 0xfffff };

/* ---- contexts ---- */

static bool read_context(struct xhci *x, uint64_t at, unsigned index, uint32_t ret[8])
{
    uint8_t raw[CONTEXT];
    if (!guest_memory_read(xhci_memory(x), at + index * CONTEXT, raw, sizeof(raw)))
        return false;
    for (unsigned i = 0; i < 8; i++)
        ret[i] = pci_get32(raw + 4 * i);
    return true;
}

static bool write_context(struct xhci *x, uint64_t at, unsigned index, const uint32_t c[8])
{
    uint8_t raw[CONTEXT];
    for (unsigned i = 0; i < 8; i++)
        pci_set32(raw + 4 * i, c[i]);
    return guest_memory_write(xhci_memory(x), at + index * CONTEXT, raw, sizeof(raw));
}

void xhci_ep_write_back(struct xhci *x, unsigned slot, unsigned ep)
{
    uint32_t c[8];
    unsigned e = XHCI_EP(slot, ep);
    if (!read_context(x, x->slot_context[slot], ep, c))
        return;
    c[0] = (c[0] & ~7u) | x->ep_state[e];
    c[2] = (uint32_t)x->ep_dequeue[e];
    c[3] = (uint32_t)(x->ep_dequeue[e] >> 32);
    if (!write_context(x, x->slot_context[slot], ep, c))
        log_at(LOG_GUEST_ERRORS, "xhci: the context of slot %u is not in RAM", slot);
}

/* State, address and what follows from them into the slot's context. */
static bool slot_write_back(struct xhci *x, unsigned slot, unsigned state, unsigned entries)
{
    uint32_t c[8];
    x->slot_state[slot] = (uint8_t)state;
    if (!read_context(x, x->slot_context[slot], 0, c))
        return false;
    c[3] = (uint32_t)(state - 1) << 27 | (state >= SLOT_ADDRESSED ? slot : 0);
    if (entries)
        c[0] = (c[0] & ~(31u << 27)) | entries << 27;
    return write_context(x, x->slot_context[slot], 0, c);
}

static void ep_disable(struct xhci *x, unsigned slot, unsigned ep)
{
    unsigned e = XHCI_EP(slot, ep);
    xhci_ep_cancel(x, slot, ep, false);
    if (x->ep_state[e] != EP_DISABLED && x->slot_context[slot]) {
        x->ep_state[e] = EP_DISABLED;
        xhci_ep_write_back(x, slot, ep);
    }
    x->ep_state[e] = EP_DISABLED;
    x->ep_type[e] = 0;
    x->ep_dequeue[e] = 0;
}

static void ep_enable(struct xhci *x, unsigned slot, unsigned ep, const uint32_t c[8])
{
    unsigned e = XHCI_EP(slot, ep);
    x->ep_type[e] = c[1] >> 3 & 7;
    x->ep_dequeue[e] = ((uint64_t)c[3] << 32 | c[2]) & ~14ull;
    x->ep_state[e] = EP_RUNNING;
}

void xhci_slot_free(struct xhci *x, unsigned slot)
{
    struct usb_device *u = xhci_device(x, slot);
    for (unsigned ep = 1; ep < XHCI_EPS; ep++)
        ep_disable(x, slot, ep);
    if (u)
        u->slot = 0;
    x->slot_state[slot] = SLOT_NONE;
    x->slot_port[slot] = 0;
    x->slot_context[slot] = 0;
}

/* ---- commands; each returns a completion code ---- */

static unsigned enable_slot(struct xhci *x, unsigned *ret_slot)
{
    unsigned most = MIN(x->config & 0xff, (unsigned)x->nslots);
    for (unsigned i = 1; i <= most; i++) {
        if (x->slot_state[i] != SLOT_NONE)
            continue;
        x->slot_state[i] = SLOT_ENABLED;
        *ret_slot = i;
        return CC_SUCCESS;
    }
    return CC_NO_SLOTS;
}

/* 4.3.3, 4.6.5. BSR: the slot gets its contexts, the device no address. */
static unsigned address_device(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    uint32_t control[8], s[8], ep[8];
    uint8_t entry[8];
    uint64_t in = t->parameter & ~15ull;
    bool bsr = t->control & TRB_BSR;
    if (x->slot_state[slot] == SLOT_CONFIGURED || x->slot_state[slot] == SLOT_ADDRESSED || (bsr && x->slot_state[slot] != SLOT_ENABLED))
        return CC_CONTEXT_STATE;
    if (!read_context(x, in, 0, control) || !read_context(x, in, 1, s) || !read_context(x, in, 2, ep) ||
        !guest_memory_read(xhci_memory(x), x->dcbaap + slot * 8, entry, sizeof(entry)))
        return CC_TRB;
    uint64_t out = (pci_get32(entry) | (uint64_t)pci_get32(entry + 4) << 32) & ~63ull;
    unsigned port = s[1] >> 16 & 0xff, target = s[2] >> 22;
    if (control[0] || (control[1] & 3) != 3 || !out || !port || port > x->bus.n2 + x->bus.n3 || target >= x->nintrs || (ep[1] >> 3 & 7) != EPT_CONTROL)
        return CC_PARAMETER;
    struct usb_device *u = x->bus.devices[port - 1];
    if ((s[0] & ROUTE) || !u || (u->slot && u->slot != slot))
        return CC_TRANSACTION;
    xhci_ep_cancel(x, slot, 1, false);
    x->slot_context[slot] = out;
    x->slot_port[slot] = (uint8_t)port;
    x->ep_interrupter[slot] = (uint8_t)target;
    u->slot = (uint8_t)slot;
    if (!bsr)
        u->configuration = 0;
    ep_enable(x, slot, 1, ep);
    ep[0] = (ep[0] & ~7u) | EP_RUNNING;
    if (!write_context(x, out, 0, s) || !write_context(x, out, 1, ep) || !slot_write_back(x, slot, bsr ? SLOT_DEFAULT : SLOT_ADDRESSED, 0)) {
        xhci_slot_free(x, slot);
        x->slot_state[slot] = SLOT_ENABLED;
        return CC_PARAMETER;
    }
    return CC_SUCCESS;
}

static unsigned deconfigure(struct xhci *x, unsigned slot)
{
    for (unsigned ep = 2; ep < XHCI_EPS; ep++)
        ep_disable(x, slot, ep);
    slot_write_back(x, slot, SLOT_ADDRESSED, 1);
    return CC_SUCCESS;
}

/* The contexts of the endpoints that are to come, read once. */
static unsigned read_new(struct xhci *x, uint64_t in, uint32_t add, uint32_t (*ret)[8])
{
    for (unsigned ep = 2; ep < XHCI_EPS; ep++) {
        if (!(add >> ep & 1))
            continue;
        if (!read_context(x, in, ep + 1, ret[ep]))
            return CC_TRB;
        unsigned type = ret[ep][1] >> 3 & 7;
        if (type == EPT_ISOCH_IN || type == EPT_ISOCH_OUT)
            return CC_BANDWIDTH; /* there are no isochronous transfers */
        if (type == 0 || type == EPT_CONTROL || (ret[ep][0] >> 10 & 31) /* streams */ || (type >= EPT_CONTROL) != (ep & 1))
            return CC_PARAMETER;
    }
    return CC_SUCCESS;
}

/* 4.6.6 */
static unsigned configure(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    uint32_t control[8], s[8], eps[XHCI_EPS][8];
    uint64_t in = t->parameter & ~15ull;
    if (x->slot_state[slot] < SLOT_ADDRESSED)
        return CC_CONTEXT_STATE;
    if (t->control & TRB_BSR)
        return deconfigure(x, slot);
    if (!read_context(x, in, 0, control) || !read_context(x, in, 1, s))
        return CC_TRB;
    uint32_t drop = control[0], add = control[1];
    if ((drop & 3) || (add & 3) != 1)
        return CC_PARAMETER;
    unsigned code = read_new(x, in, add, eps), any = 0;
    if (code != CC_SUCCESS)
        return code;
    for (unsigned ep = 2; ep < XHCI_EPS; ep++) {
        if ((drop | add) >> ep & 1)
            ep_disable(x, slot, ep);
        if (add >> ep & 1) {
            ep_enable(x, slot, ep, eps[ep]);
            eps[ep][0] = (eps[ep][0] & ~7u) | EP_RUNNING;
            if (!write_context(x, x->slot_context[slot], ep, eps[ep]))
                return CC_PARAMETER;
        }
        any |= x->ep_state[XHCI_EP(slot, ep)] != EP_DISABLED;
    }
    return slot_write_back(x, slot, any ? SLOT_CONFIGURED : SLOT_ADDRESSED, s[0] >> 27) ? CC_SUCCESS : CC_PARAMETER;
}

/* 4.6.7: of the slot the interrupter and the exit latency, of endpoint 0 the packet size. */
static unsigned evaluate(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    uint32_t control[8], from[8], to[8];
    uint64_t in = t->parameter & ~15ull, out = x->slot_context[slot];
    if (x->slot_state[slot] < SLOT_DEFAULT)
        return CC_CONTEXT_STATE;
    if (!read_context(x, in, 0, control))
        return CC_TRB;
    if (control[0] || (control[1] & ~3u))
        return CC_PARAMETER;
    if (control[1] & 1) {
        if (!read_context(x, in, 1, from) || !read_context(x, out, 0, to) || from[2] >> 22 >= x->nintrs)
            return CC_PARAMETER;
        to[1] = (to[1] & ~0xffffu) | (from[1] & 0xffff);
        to[2] = (to[2] & 0x3fffff) | (from[2] & ~0x3fffffu);
        x->ep_interrupter[slot] = (uint8_t)(from[2] >> 22);
        if (!write_context(x, out, 0, to))
            return CC_PARAMETER;
    }
    if (control[1] & 2) {
        if (!read_context(x, in, 2, from) || !read_context(x, out, 1, to))
            return CC_PARAMETER;
        to[1] = (to[1] & 0xffff) | (from[1] & ~0xffffu);
        if (!write_context(x, out, 1, to))
            return CC_PARAMETER;
    }
    return CC_SUCCESS;
}

static unsigned endpoint_command(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    unsigned ep = t->control >> 16 & 31, e = XHCI_EP(slot, ep);
    if (!ep)
        return CC_TRB;
    if (x->slot_state[slot] < SLOT_DEFAULT || x->ep_state[e] == EP_DISABLED)
        return CC_EP_DISABLED;
    switch (TRB_TYPE(t->control)) {
    case TRB_RESET_EP:
        if (x->ep_state[e] != EP_HALTED)
            return CC_CONTEXT_STATE;
        break;
    case TRB_STOP_EP:
        if (x->ep_state[e] != EP_RUNNING)
            return CC_CONTEXT_STATE;
        xhci_ep_cancel(x, slot, ep, true);
        break;
    default: /* TRB_SET_DEQUEUE */
        if (x->ep_state[e] != EP_STOPPED && x->ep_state[e] != EP_ERROR)
            return CC_CONTEXT_STATE;
        if (t->status >> 16 || (t->parameter & 14))
            return CC_TRB; /* streams */
        x->ep_dequeue[e] = t->parameter;
    }
    x->ep_state[e] = EP_STOPPED;
    xhci_ep_write_back(x, slot, ep);
    return CC_SUCCESS;
}

static unsigned reset_device(struct xhci *x, unsigned slot)
{
    if (x->slot_state[slot] < SLOT_ADDRESSED)
        return CC_CONTEXT_STATE;
    for (unsigned ep = 2; ep < XHCI_EPS; ep++)
        ep_disable(x, slot, ep);
    slot_write_back(x, slot, SLOT_DEFAULT, 1);
    return CC_SUCCESS;
}

static unsigned slot_command(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    if (!slot || slot > x->nslots)
        return CC_TRB;
    if (x->slot_state[slot] == SLOT_NONE)
        return CC_SLOT_DISABLED;
    switch (TRB_TYPE(t->control)) {
    case TRB_DISABLE_SLOT:
        xhci_slot_free(x, slot);
        return CC_SUCCESS;
    case TRB_ADDRESS_DEVICE: return address_device(x, slot, t);
    case TRB_CONFIGURE: return configure(x, slot, t);
    case TRB_EVALUATE: return evaluate(x, slot, t);
    case TRB_RESET_DEVICE: return reset_device(x, slot);
    default: return endpoint_command(x, slot, t);
    }
}

static void command(struct xhci *x, const struct xhci_trb *t)
{
    unsigned type = TRB_TYPE(t->control), slot = t->control >> 24, code, event = TRB_E_COMMAND;
    uint32_t more = 0;
    switch (type) {
    case TRB_ENABLE_SLOT: code = enable_slot(x, &slot); break;
    case TRB_COMMAND_NOOP: code = CC_SUCCESS; break;
    case TRB_NEC_FIRMWARE:
        code = x->pci.config[PCI_REG_VENDOR] == 0x33 ? CC_SUCCESS : CC_TRB;
        event = code == CC_SUCCESS ? TRB_E_NEC : TRB_E_COMMAND;
        more = code == CC_SUCCESS ? 0x3034 : 0;
        break;
    case TRB_DISABLE_SLOT: case TRB_ADDRESS_DEVICE: case TRB_CONFIGURE: case TRB_EVALUATE: case TRB_RESET_EP: case TRB_STOP_EP: case TRB_SET_DEQUEUE:
    case TRB_RESET_DEVICE: code = slot_command(x, slot, t); break;
    default: code = CC_TRB;
    }
    xhci_event(x, 0, t->gpa, code << 24 | more, event << 10 | (uint32_t)slot << 24);
}

void xhci_commands(struct xhci *x)
{
    struct xhci_trb t;
    unsigned budget = XHCI_WORK / 8; /* each may touch many contexts */
    enum xhci_fetch got = FETCH_EMPTY;
    while (xhci_running(x) && xhci_may_dma(x) && (got = xhci_fetch(x, &x->command_ring, &budget, &t)) == FETCH_TRB)
        command(x, &t);
    if (got == FETCH_BAD) {
        log_at(LOG_GUEST_ERRORS, "xhci: the command ring leads nowhere");
        x->usbsts |= STS_HCE;
    }
}
