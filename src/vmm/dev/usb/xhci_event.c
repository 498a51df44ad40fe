/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Event rings (4.9.4) of one segment each, and interrupts (4.17). Moderation is not done: an event interrupts at once. */
#include "vmm/dev/usb/xhci.h"

#include <string.h>

#include "base/log.h"

enum { IMAN = 0, IMOD = 4, ERSTSZ = 8, ERSTBA = 16, ERDP = 24, STRIDE = 32 };
enum { IMAN_IP = 1, IMAN_IE = 2, ERDP_EHB = 8, MIN_SIZE = 16, MAX_SIZE = 4096 };

/* 4.17.5: a message clears IP; a wire shows it. */
static void signal_guest(struct xhci *x, unsigned i)
{
    bool msix = pci_msix_enabled(&x->pci), msi = !msix && pci_msi_enabled(&x->pci), on = x->usbcmd & CMD_INTE;
    if ((msix || msi) && on && (x->iman[i] & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE)) {
        x->iman[i] &= ~(uint32_t)IMAN_IP;
        if (msix)
            pci_msix_send(&x->pci, i);
        else
            pci_msi_send(&x->pci);
    }
    if (i == 0)
        pci_intx(&x->pci, !msix && !msi && on && (x->iman[0] & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE));
}

void xhci_update_interrupts(struct xhci *x)
{
    for (unsigned i = 0; i < x->nintrs; i++)
        signal_guest(x, i);
}

static void interrupt(struct xhci *x, unsigned i)
{
    bool busy = x->erdp[i] & ERDP_EHB;
    x->erdp[i] |= ERDP_EHB;
    x->usbsts |= STS_EINT;
    if (busy)
        return; /* the driver is looking already, and will say how far it has come */
    x->iman[i] |= IMAN_IP;
    signal_guest(x, i);
}

static void put(struct xhci *x, unsigned i, uint64_t parameter, uint32_t status, uint32_t control)
{
    uint8_t trb[XHCI_TRB];
    uint64_t at = x->er_base[i] + (uint64_t)x->er_index[i] * XHCI_TRB;
    uint8_t *host = guest_memory_ptr(xhci_memory(x), at, XHCI_TRB, true);
    if (!host || !xhci_may_dma(x)) {
        log_at(LOG_GUEST_ERRORS, "xhci: event ring %u is not in RAM", i);
        x->usbsts |= STS_HCE;
        return;
    }
    pci_set32(trb, (uint32_t)parameter);
    pci_set32(trb + 4, (uint32_t)(parameter >> 32));
    pci_set32(trb + 8, status);
    memcpy(host, trb, 12);
    __atomic_store_n((uint32_t *)(host + 12), (control & ~TRB_CYCLE) | x->er_cycle[i], __ATOMIC_RELEASE); /* makes it valid */
    guest_memory_written(xhci_memory(x), at, XHCI_TRB);
    if (++x->er_index[i] == x->er_size[i]) {
        x->er_index[i] = 0;
        x->er_cycle[i] ^= 1;
    }
}

static uint32_t room(const struct xhci *x, unsigned i)
{
    uint64_t dequeue = ((x->erdp[i] & ~15ull) - x->er_base[i]) / XHCI_TRB;
    if (dequeue >= x->er_size[i])
        return 0;
    return (uint32_t)(dequeue + x->er_size[i] - x->er_index[i] - 1) % x->er_size[i];
}

void xhci_event(struct xhci *x, unsigned i, uint64_t parameter, uint32_t status, uint32_t control)
{
    i = i < x->nintrs ? i : 0;
    if (!x->er_size[i] || (x->usbsts & STS_HCE) || x->er_full[i])
        return;
    uint32_t left = room(x, i);
    if (left > 1) {
        put(x, i, parameter, status, control);
    } else if (left == 1) {
        x->er_full[i] = 1; /* 4.9.4: the driver did not keep up; what comes now is lost until it has */
        put(x, i, 0, (uint32_t)CC_EVENT_RING_FULL << 24, TRB_E_HOST << 10);
    } else {
        return;
    }
    interrupt(x, i);
}

/* The table's only entry (6.5). */
static void take_segment(struct xhci *x, unsigned i)
{
    uint8_t entry[16];
    x->er_size[i] = x->er_index[i] = 0;
    x->er_cycle[i] = 1;
    x->er_full[i] = 0;
    if (x->erstsz[i] != 1 || !x->erstba[i])
        return;
    if (!xhci_may_dma(x) || !guest_memory_read(xhci_memory(x), x->erstba[i], entry, sizeof(entry))) {
        x->usbsts |= STS_HCE;
        return;
    }
    uint32_t size = pci_get32(entry + 8) & 0xffff;
    if (size < MIN_SIZE || size > MAX_SIZE) {
        log_at(LOG_GUEST_ERRORS, "xhci: an event ring of %u entries; 16 to 4096", size);
        x->usbsts |= STS_HCE;
        return;
    }
    x->er_base[i] = (pci_get32(entry) | (uint64_t)pci_get32(entry + 4) << 32) & ~63ull;
    x->er_size[i] = size;
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
    *field = high ? (uint32_t)*field | (uint64_t)value << 32 : (*field & ~0xffffffffull) | value;
}

/* Written low half first, or whole; busy is cleared by writing it. */
static void write_dequeue(struct xhci *x, unsigned i, bool high, uint32_t value)
{
    bool busy = (x->erdp[i] & ERDP_EHB) && (high || !(value & ERDP_EHB));
    set_half(&x->erdp[i], high, value);
    x->erdp[i] = (x->erdp[i] & ~(uint64_t)ERDP_EHB) | (busy ? ERDP_EHB : 0);
    if (!x->er_size[i])
        return;
    if (room(x, i) > 1)
        x->er_full[i] = 0;
    if (!high && !busy && x->er_base[i] + (uint64_t)x->er_index[i] * XHCI_TRB != (x->erdp[i] & ~15ull))
        interrupt(x, i); /* more has come meanwhile */
}

uint32_t xhci_interrupter_read(struct xhci *x, unsigned offset)
{
    unsigned i = offset / STRIDE;
    if (i >= x->nintrs)
        return 0;
    switch (offset % STRIDE) {
    case IMAN: return x->iman[i];
    case IMOD: return x->imod[i];
    case ERSTSZ: return x->erstsz[i];
    case ERSTBA: return (uint32_t)x->erstba[i];
    case ERSTBA + 4: return (uint32_t)(x->erstba[i] >> 32);
    case ERDP: return (uint32_t)x->erdp[i];
    case ERDP + 4: return (uint32_t)(x->erdp[i] >> 32);
    default: return 0;
    }
}

void xhci_interrupter_write(struct xhci *x, unsigned offset, uint32_t value)
{
    unsigned i = offset / STRIDE;
    if (i >= x->nintrs)
        return;
    switch (offset % STRIDE) {
    case IMAN:
        x->iman[i] = (x->iman[i] & ~(value & IMAN_IP) & ~(uint32_t)IMAN_IE) | (value & IMAN_IE);
        signal_guest(x, i);
        break;
    case IMOD: x->imod[i] = value; break;
    case ERSTSZ: x->erstsz[i] = value & 0xffff; break;
    case ERSTBA: set_half(&x->erstba[i], false, value & ~63u); break;
    case ERSTBA + 4:
        set_half(&x->erstba[i], true, value);
        take_segment(x, i);
        break;
    case ERDP: write_dequeue(x, i, false, value); break;
    case ERDP + 4: write_dequeue(x, i, true, value); break;
    }
}

bool xhci_interrupters_ok(const struct xhci *x)
{
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        uint32_t size = x->er_size[i];
        if ((size && (size < MIN_SIZE || size > MAX_SIZE)) || x->er_index[i] >= MAX(size, 1) || x->er_cycle[i] > 1 || x->er_full[i] > 1)
            return false;
    }
    return true;
}

void xhci_interrupters_reset(struct xhci *x)
{
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        x->iman[i] = x->erstsz[i] = x->er_size[i] = x->er_index[i] = 0;
        x->erstba[i] = x->erdp[i] = x->er_base[i] = 0;
        x->imod[i] = 4000;
        x->er_cycle[i] = 1;
        x->er_full[i] = 0;
    }
}
