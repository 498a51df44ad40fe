/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Places into which something is plugged at run time, told to the guest by ACPI (vmm/board/acpi_slots.h): vCPUs, memory modules. A
 * controller has n slots and registers of 32 bits, little-endian:
 *
 *   0  SELECT  the slot that the other registers are about
 *   4  STATUS  read: 1 present, 2 it came and nobody was told, 4 its removal was asked for and nobody was told
 *              write: 2 and 4 acknowledge; 8 ejects: the guest has let go of it
 *   8  NEXT    read: the lowest slot with 2 or 4, or all ones; write: event code of _OST for the selected slot
 *  12  OST     write: status code of _OST, which makes the report complete
 *  16  ...     the kind's own
 *
 * Locks: the controller's device.lock covers the slots. Things come and go on the main thread; a guest's eject is carried out there soon
 * after (machine_call_later), since the vCPU that writes the register may be the one that goes.
 */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"

enum { PLUG_SELECT = 0, PLUG_STATUS = 4, PLUG_NEXT = 8, PLUG_OST = 12, PLUG_MORE = 16 };
enum { PLUG_PRESENT = 1, PLUG_CAME = 2, PLUG_LEAVE = 4, PLUG_EJECT = 8 };

struct plug_slot {
    struct device *dev;     /* what is in it; NULL: nothing, or what was there from the start and cannot go. The main thread writes */
    uint8_t events;         /* PLUG_CAME, PLUG_LEAVE */
    bool present, leaving;  /* leaving: device_del was asked for */
    bool ejected;           /* the main thread has yet to take it away */
    bool reported;
    uint32_t ost_event, ost_status;
};

struct plug_slots;
struct plug_kind {
    const char *name, *type; /* of the window; slot-type of ACPI_DEVICE_OST */
    uint16_t base, size;     /* ports */
    uint32_t (*read)(const struct plug_slot *s, unsigned offset); /* PLUG_MORE and beyond, of a slot with something in it; may be NULL */
};

struct plug_slots {
    struct device dev; /* first */
    const struct plug_kind *kind;
    struct io_window window;
    struct irq_line gpe; /* pulsed when the guest has something to look at */
    struct plug_slot *slots;
    unsigned n;
    uint32_t selected;
};

/* A device of the machine; all slots are empty. */
struct plug_slots *plug_slots_create(struct machine *m, const struct plug_kind *kind, unsigned n, struct irq_line gpe, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Main thread. It came (a live machine's guest is told); the guest is asked to let it go (again, when asked twice: it may have been
 * busy, or not up yet); it is gone. */
void plug_slot_fill(struct plug_slots *p, unsigned index, struct device *d);
void plug_slot_ask(struct plug_slots *p, unsigned index);
void plug_slot_clear(struct plug_slots *p, unsigned index);
/* What the guest last said of the slot by _OST; false: nothing yet. */
bool plug_slot_ost(struct plug_slots *p, unsigned index, uint32_t *ret_event, uint32_t *ret_status);
