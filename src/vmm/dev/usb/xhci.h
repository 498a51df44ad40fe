/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xHCI 1.0 controller: what its files share. Section numbers are those of Intel's "eXtensible Host Controller Interface for Universal
 * Serial Bus", revision 1.1, which describes 1.0 as well. dev.lock covers all of it, and the devices on its bus.
 *
 *   xhci.c           registers, ports, life
 *   xhci_event.c     event rings and interrupts
 *   xhci_command.c   the command ring: slots, contexts, endpoints' states
 *   xhci_transfer.c  transfer rings
 *
 * Rings and contexts are the guest's, and hostile: each TRB is copied once, addresses are checked by who reads them, and the work
 * that one doorbell can cause is bounded (XHCI_WORK TRBs and 64 MiB).
 */
#pragma once

#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/dev/usb/usb.h"

enum { XHCI_SLOTS = USB_MAX_SLOTS, XHCI_EPS = 32 /* 1 to 31 */, XHCI_INTERRUPTERS = 16, XHCI_WORK = 4096, XHCI_TD_TRBS = 2048 };
enum { XHCI_TRB = 16, XHCI_WORK_BYTES = 16384 /* of data: as much work as a TRB */ };

/* TRB types (6.4.6) */
enum { TRB_NORMAL = 1, TRB_SETUP, TRB_DATA, TRB_STATUS, TRB_ISOCH, TRB_LINK, TRB_EVENT_DATA, TRB_NOOP, TRB_ENABLE_SLOT, TRB_DISABLE_SLOT,
       TRB_ADDRESS_DEVICE, TRB_CONFIGURE, TRB_EVALUATE, TRB_RESET_EP, TRB_STOP_EP, TRB_SET_DEQUEUE, TRB_RESET_DEVICE, TRB_COMMAND_NOOP = 23,
       TRB_E_TRANSFER = 32, TRB_E_COMMAND, TRB_E_PORT, TRB_E_HOST = 37, TRB_E_NEC = 48, TRB_NEC_FIRMWARE = 49 };
/* Completion codes (6.4.5) */
enum { CC_INVALID, CC_SUCCESS, CC_DATA_BUFFER, CC_BABBLE, CC_TRANSACTION, CC_TRB, CC_STALL, CC_RESOURCE, CC_BANDWIDTH, CC_NO_SLOTS, CC_SLOT_DISABLED = 11,
       CC_EP_DISABLED, CC_SHORT, CC_PARAMETER = 17, CC_CONTEXT_STATE = 19, CC_EVENT_RING_FULL = 21, CC_COMMAND_STOPPED = 24, CC_COMMAND_ABORTED, CC_STOPPED };
#define TRB_CYCLE 1u
#define TRB_TOGGLE 2u  /* of a link */
#define TRB_ISP 4u
#define TRB_CHAIN 16u
#define TRB_IOC 32u
#define TRB_IDT 64u
#define TRB_BSR 512u   /* of Address Device; DC of Configure Endpoint */
#define TRB_TYPE(control) ((control) >> 10 & 63)

enum { EP_DISABLED, EP_RUNNING, EP_HALTED, EP_STOPPED, EP_ERROR };            /* 6.2.3 */
enum { SLOT_NONE, SLOT_ENABLED, SLOT_DEFAULT, SLOT_ADDRESSED, SLOT_CONFIGURED }; /* 6.2.2: in the context one less */
enum { EPT_ISOCH_OUT = 1, EPT_BULK_OUT, EPT_INTERRUPT_OUT, EPT_CONTROL, EPT_ISOCH_IN, EPT_BULK_IN, EPT_INTERRUPT_IN };

struct xhci_trb {
    uint64_t gpa, parameter;
    uint32_t status, control;
};

/* A transfer descriptor that is at work, or waits for the device to have something. */
struct xhci_td {
    struct usb_packet p;      /* first */
    struct xhci *x;
    uint8_t slot, ep;
    bool in, starting;
    uint64_t next;            /* dequeue pointer behind it */
    unsigned ntrbs;
    struct xhci_trb *trbs;
    struct iovec *iov;
    uint64_t *gpa;            /* of each */
    uint64_t done;            /* bytes moved, of a control transfer too */
};

struct xhci {
    struct device dev;
    struct pci_device pci;
    struct usb_bus bus;
    int addr;
    uint64_t p2, p3, nintrs, nslots; /* properties */
    int msi_wanted, msix_wanted;
    bool streams;
    /* operational registers (5.4) */
    uint32_t usbcmd, usbsts, dnctrl, config;
    uint64_t crcr, dcbaap;
    uint64_t command_ring;    /* dequeue pointer, cycle in bit 0 */
    uint32_t portsc[USB_MAX_PORTS];
    uint64_t frame_base;      /* virtual time at which MFINDEX was 0 */
    /* interrupters (5.5.2) */
    uint32_t iman[XHCI_INTERRUPTERS], imod[XHCI_INTERRUPTERS], erstsz[XHCI_INTERRUPTERS];
    uint64_t erstba[XHCI_INTERRUPTERS], erdp[XHCI_INTERRUPTERS], er_base[XHCI_INTERRUPTERS];
    uint32_t er_size[XHCI_INTERRUPTERS], er_index[XHCI_INTERRUPTERS];
    uint8_t er_cycle[XHCI_INTERRUPTERS], er_full[XHCI_INTERRUPTERS];
    /* slots; index 0 unused */
    uint8_t slot_state[XHCI_SLOTS + 1], slot_port[XHCI_SLOTS + 1] /* root port from 1, 0: none */;
    uint64_t slot_context[XHCI_SLOTS + 1];
    /* endpoints: [slot * XHCI_EPS + number] */
    uint8_t ep_state[(XHCI_SLOTS + 1) * XHCI_EPS], ep_type[(XHCI_SLOTS + 1) * XHCI_EPS];
    uint8_t ep_interrupter[XHCI_SLOTS + 1]; /* of the slot's error events */
    uint64_t ep_dequeue[(XHCI_SLOTS + 1) * XHCI_EPS];
    unsigned budget, depth;                 /* work that what is being done may still cause; not state */
    struct xhci_td *ep_td[(XHCI_SLOTS + 1) * XHCI_EPS]; /* at work; not state: it is begun anew */
};

#define XHCI_EP(slot, ep) ((unsigned)(slot) * XHCI_EPS + (ep))
enum { CMD_RUN = 1, CMD_RESET = 2, CMD_INTE = 4, CMD_SAVE = 1 << 8, CMD_RESTORE = 1 << 9 };
enum { STS_HALTED = 1, STS_EINT = 8, STS_PCD = 16, STS_RESTORE_ERROR = 1 << 10, STS_HCE = 1 << 12 };

/* Around whatever makes rings be looked at: what one thing causes, on however many rings, is bounded together. Nests. */
static inline void xhci_enter(struct xhci *x)
{
    if (!x->depth++)
        x->budget = XHCI_WORK;
}
static inline void xhci_leave(struct xhci *x) { x->depth--; }
static inline struct guest_memory *xhci_memory(struct xhci *x) { return x->dev.machine->memory; }
static inline bool xhci_running(const struct xhci *x) { return (x->usbcmd & CMD_RUN) && !(x->usbsts & STS_HCE); }
bool xhci_may_dma(const struct xhci *x);
struct usb_device *xhci_device(struct xhci *x, unsigned slot); /* NULL: nobody is there any more */

/* The TRB at *at (dequeue pointer, cycle in bit 0), links followed; *at moves behind it. budget: TRBs that may still be read. */
enum xhci_fetch { FETCH_TRB, FETCH_EMPTY, FETCH_BAD };
enum xhci_fetch xhci_fetch(struct xhci *x, uint64_t *at, unsigned *budget, struct xhci_trb *ret);

/* ---- xhci_event.c ---- */
/* Puts an event on the interrupter's ring; cycle bit and interrupt are its matter. */
void xhci_event(struct xhci *x, unsigned interrupter, uint64_t parameter, uint32_t status, uint32_t control);
uint32_t xhci_interrupter_read(struct xhci *x, unsigned offset);
void xhci_interrupter_write(struct xhci *x, unsigned offset, uint32_t value);
void xhci_update_interrupts(struct xhci *x); /* what is enabled has changed */
void xhci_interrupters_reset(struct xhci *x);
bool xhci_interrupters_ok(const struct xhci *x); /* of loaded ones: whether they can be */

/* ---- xhci_command.c ---- */
void xhci_commands(struct xhci *x);
void xhci_slot_free(struct xhci *x, unsigned slot);
/* State and dequeue pointer into the endpoint's context. */
void xhci_ep_write_back(struct xhci *x, unsigned slot, unsigned ep);

/* ---- xhci_transfer.c ---- */
/* The guest rang, or there is something for the TD that waits. */
void xhci_ep_kick(struct xhci *x, unsigned slot, unsigned ep);
void xhci_ep_run(struct xhci *x, unsigned slot, unsigned ep);
/* Nothing is at work afterwards. event: says so with Stopped where something was. */
void xhci_ep_cancel(struct xhci *x, unsigned slot, unsigned ep, bool event);
