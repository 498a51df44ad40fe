/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transfer rings (4.11): one TD of an endpoint is at work at a time; control, interrupt and bulk. */
#include "vmm/dev/usb/xhci.h"

#include <string.h>

#include "base/log.h"

static bool is_in(const struct xhci *x, unsigned slot, unsigned ep)
{
    uint8_t type = x->ep_type[XHCI_EP(slot, ep)];
    return type == EPT_BULK_IN || type == EPT_INTERRUPT_IN;
}

static bool has_data(const struct xhci_trb *t) { return TRB_TYPE(t->control) == TRB_NORMAL || TRB_TYPE(t->control) == TRB_DATA; }
static uint32_t length_of(const struct xhci_trb *t) { return t->status & 0x1ffff; }

/* ---- taking a TD off the ring ---- */

static void td_free(struct xhci_td *td)
{
    g_free(td->trbs);
    g_free(td->iov);
    g_free(td->gpa);
    g_free(td);
}

/* A TD ends with a TRB that is not chained; a control transfer with its Status stage, whose Event Data may follow. */
static bool is_last(bool control, bool *status, const struct xhci_trb *t)
{
    *status |= TRB_TYPE(t->control) == TRB_STATUS;
    return !(t->control & TRB_CHAIN) && (!control || *status || TRB_TYPE(t->control) == TRB_NOOP);
}

/* NULL with *ret_code CC_INVALID: it is not whole yet; with another: an error. */
static struct xhci_td *td_take(struct xhci *x, unsigned slot, unsigned ep, unsigned *budget, unsigned *ret_code)
{
    bool control = ep == 1, status = false;
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct xhci_trb));
    uint64_t at = x->ep_dequeue[XHCI_EP(slot, ep)];
    struct xhci_trb t;
    do {
        enum xhci_fetch got = all->len < XHCI_TD_TRBS ? xhci_fetch(x, &at, budget, &t) : FETCH_BAD;
        *ret_code = got == FETCH_BAD ? CC_TRB : CC_INVALID;
        if (got != FETCH_TRB)
            return NULL;
        g_array_append_val(all, t);
    } while (!is_last(control, &status, &t));
    struct xhci_td *td = g_new0(struct xhci_td, 1);
    td->x = x;
    td->slot = (uint8_t)slot;
    td->ep = (uint8_t)ep;
    td->next = at;
    td->ntrbs = all->len;
    td->trbs = (struct xhci_trb *)g_array_free(g_steal_pointer(&all), FALSE);
    return td;
}

/* Where the data is. False: not in RAM, or TRBs that do not belong there. */
static bool td_map(struct xhci_td *td, bool in)
{
    td->in = in;
    td->iov = g_new(struct iovec, td->ntrbs);
    td->gpa = g_new(uint64_t, td->ntrbs);
    for (unsigned i = 0; i < td->ntrbs; i++) {
        struct xhci_trb *t = &td->trbs[i];
        uint32_t n = length_of(t);
        unsigned type = TRB_TYPE(t->control);
        if (!has_data(t)) {
            if (type != TRB_EVENT_DATA && type != TRB_NOOP && (td->ep != 1 || (type != TRB_SETUP && type != TRB_STATUS)))
                return false;
            continue;
        }
        bool immediate = t->control & TRB_IDT;
        void *host = immediate ? &t->parameter : n ? guest_memory_ptr(xhci_memory(td->x), t->parameter, n, in) : NULL;
        if (immediate ? in || n > 8 : n && !host)
            return false;
        if (!n)
            continue;
        td->iov[td->p.niov] = (struct iovec){ host, n };
        td->gpa[td->p.niov++] = t->parameter;
        td->p.length += n;
    }
    td->p.iov = td->iov;
    return true;
}

/* ---- events of a TD ---- */

static void transfer_event(struct xhci_td *td, const struct xhci_trb *t, uint64_t parameter, unsigned code, uint32_t length, bool data)
{
    xhci_event(td->x, t->status >> 22, parameter, code << 24 | (length & 0xffffff),
               TRB_E_TRANSFER << 10 | (uint32_t)td->slot << 24 | (uint32_t)td->ep << 16 | (data ? 4 : 0));
}

/* 4.10.1: an event where the guest asked for one, for the first short piece (then no more of that stage), or for the piece that an error
 * fell on. */
static void report(struct xhci_td *td, unsigned code)
{
    uint64_t left = td->done;
    uint32_t total = 0; /* EDTLA: since the last Event Data */
    bool ok = code == CC_SUCCESS, is_short = false, told = false;
    for (unsigned i = 0; i < td->ntrbs; i++) {
        const struct xhci_trb *t = &td->trbs[i];
        unsigned type = TRB_TYPE(t->control);
        uint32_t n = has_data(t) ? length_of(t) : 0, moved = (uint32_t)MIN(n, left);
        left -= moved;
        total += moved;
        if (type == TRB_STATUS)
            is_short = told = false;
        is_short |= ok && moved < n;
        bool failed = !ok && (i + 1 == td->ntrbs || (type != TRB_SETUP && !left && (moved < n || !n)));
        if (failed || (ok && !told && ((t->control & TRB_IOC) || (is_short && (t->control & TRB_ISP))))) {
            unsigned c = is_short ? CC_SHORT : code;
            bool data = type == TRB_EVENT_DATA;
            transfer_event(td, t, data ? t->parameter : t->gpa, c, data ? total : n - moved, data);
            told = is_short;
        }
        if (failed)
            return;
        if (type == TRB_EVENT_DATA)
            total = 0;
    }
}

static unsigned code_of(enum usb_status s)
{
    switch (s) {
    case USB_DONE: return CC_SUCCESS;
    case USB_BABBLE: return CC_BABBLE;
    case USB_STALL: return CC_STALL;
    default: return CC_TRANSACTION;
    }
}

static void finish(struct xhci_td *td, unsigned code)
{
    struct xhci *x = td->x;
    unsigned e = XHCI_EP(td->slot, td->ep);
    uint64_t left = td->in ? td->done : 0;
    for (unsigned i = 0; left && i < td->p.niov; i++) {
        uint64_t part = MIN(left, td->iov[i].iov_len);
        guest_memory_written(xhci_memory(x), td->gpa[i], part);
        left -= part;
    }
    x->ep_td[e] = NULL;
    if (code == CC_SUCCESS) {
        x->ep_dequeue[e] = td->next;
    } else {
        x->ep_state[e] = code == CC_TRB ? EP_ERROR : EP_HALTED;
        xhci_ep_write_back(x, td->slot, td->ep);
    }
    report(td, code);
    td_free(td);
}

/* ---- execution ---- */

static void complete(struct usb_packet *p)
{
    struct xhci_td *td = (struct xhci_td *)p;
    struct xhci *x = td->x;
    unsigned slot = td->slot, ep = td->ep;
    td->done = p->actual;
    finish(td, code_of(p->status));
    xhci_ep_run(x, slot, ep);
}

/* Setup, Data and Status stages at once. */
static unsigned control_transfer(struct xhci_td *td, struct usb_device *u)
{
    uint8_t setup[8], data[USB_MAX_CONTROL];
    const struct xhci_trb *t = &td->trbs[0];
    if (TRB_TYPE(t->control) != TRB_SETUP || length_of(t) != 8 || !(t->control & TRB_IDT))
        return CC_TRB;
    memcpy(setup, &t->parameter, 8);
    bool in = setup[0] & 0x80;
    unsigned wanted = pci_get16(setup + 6), n = 0;
    if (!td_map(td, in))
        return CC_TRB;
    td->p.length = MIN(td->p.length, wanted);
    if (!in) {
        if (td->p.length > sizeof(data))
            return CC_STALL;
        n = (unsigned)usb_packet_read(&td->p, data, td->p.length);
    }
    enum usb_status s = usb_control(u, setup, data, &n);
    td->done = in ? 0 : td->p.actual;
    if (s == USB_DONE && in)
        td->done = usb_packet_write(&td->p, data, MIN(n, td->p.length));
    return code_of(s);
}

/* Starts it, or tries it again. False: it stays. */
static bool start(struct xhci_td *td, unsigned *ret_code)
{
    struct xhci *x = td->x;
    struct usb_device *u = xhci_device(x, td->slot);
    bool noop = td->ntrbs == 1 && TRB_TYPE(td->trbs[0].control) == TRB_NOOP;
    *ret_code = noop ? CC_SUCCESS : !u ? CC_TRANSACTION : td->ep == 1 ? control_transfer(td, u) : CC_INVALID;
    if (*ret_code != CC_INVALID)
        return true;
    if (!td->iov && !td_map(td, is_in(x, td->slot, td->ep))) {
        *ret_code = CC_TRB;
        return true;
    }
    td->p.endpoint = (uint8_t)(td->ep / 2 | (td->ep & 1 ? 0x80 : 0));
    td->p.complete = complete;
    td->starting = true;
    enum usb_status s = usb_data(u, &td->p);
    td->starting = false;
    if (s == USB_NAK || s == USB_PENDING)
        return false;
    td->done = td->p.actual;
    *ret_code = code_of(s);
    return true;
}

static void ring_error(struct xhci *x, unsigned slot, unsigned ep)
{
    unsigned e = XHCI_EP(slot, ep);
    log_at(LOG_GUEST_ERRORS, "xhci: the ring of endpoint %u of slot %u leads nowhere", ep, slot);
    x->ep_state[e] = EP_ERROR;
    xhci_ep_write_back(x, slot, ep);
    xhci_event(x, x->ep_interrupter[slot], x->ep_dequeue[e] & ~15ull, (uint32_t)CC_TRB << 24, TRB_E_TRANSFER << 10 | (uint32_t)slot << 24 | (uint32_t)ep << 16);
}

void xhci_ep_run(struct xhci *x, unsigned slot, unsigned ep)
{
    unsigned e = XHCI_EP(slot, ep), code;
    xhci_enter(x);
    while (xhci_running(x) && xhci_may_dma(x) && x->ep_state[e] == EP_RUNNING && !x->ep_td[e]) {
        struct xhci_td *td = td_take(x, slot, ep, &x->budget, &code);
        if (!td && code != CC_INVALID)
            ring_error(x, slot, ep);
        if (!td)
            break;
        x->ep_td[e] = td;
        if (!start(td, &code))
            break;
        x->budget -= (unsigned)MIN(x->budget, td->done / XHCI_WORK_BYTES);
        finish(td, code);
    }
    xhci_leave(x);
}

void xhci_ep_kick(struct xhci *x, unsigned slot, unsigned ep)
{
    unsigned e = XHCI_EP(slot, ep), code;
    struct xhci_td *td = x->ep_td[e];
    if (!xhci_running(x) || x->ep_state[e] != EP_RUNNING)
        return;
    if (td) {
        if (td->starting || td->p.status != USB_NAK || !start(td, &code))
            return;
        finish(td, code);
    }
    xhci_ep_run(x, slot, ep);
}

void xhci_ep_cancel(struct xhci *x, unsigned slot, unsigned ep, bool event)
{
    unsigned e = XHCI_EP(slot, ep);
    struct xhci_td *td = x->ep_td[e];
    struct usb_device *u = xhci_device(x, slot);
    if (!td)
        return;
    if (u && td->p.status == USB_PENDING)
        usb_cancel(u, &td->p);
    x->ep_td[e] = NULL;
    if (event)
        transfer_event(td, &td->trbs[0], td->trbs[0].gpa, CC_STOPPED, has_data(&td->trbs[0]) ? length_of(&td->trbs[0]) : 0, false);
    td_free(td);
}
