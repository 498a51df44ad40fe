/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The slot of a port (PCIe 3.0, 6.7 and 7.8.9 to 7.8.11). A card that comes shows as presence and link. A card that is asked to go: the
 * attention button is pressed; the guest lets go of it, switches the power and then the power indicator off, and with that it is gone.
 *
 * Locks: pci_lock covers it all; cards are taken away on the main thread, with the vCPUs outside guest code.
 */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "vmm/bus/pci_bridge.h"
#include "vmm/bus/pci_private.h"
#include "vmm/core/machine.h"

enum { LINK_CAP = 0x0c, LINK_STATUS = 0x12, SLOT_CAP = 0x14, SLOT_CONTROL = 0x18, SLOT_STATUS = 0x1a };
enum { CAP_BUTTON = 1 << 0, CAP_POWER = 1 << 1, CAP_ATTENTION = 1 << 3, CAP_INDICATOR = 1 << 4, CAP_SURPRISE = 1 << 5, CAP_HOTPLUG = 1 << 6,
       CAP_NUMBER = 19 };
enum { CONTROL_PRESENCE = 1 << 3, CONTROL_COMMAND = 1 << 4, CONTROL_INTERRUPT = 1 << 5, CONTROL_ATTENTION_OFF = 3 << 6, CONTROL_INDICATOR = 3 << 8,
       INDICATOR_ON = 1 << 8, INDICATOR_BLINK = 2 << 8, INDICATOR_OFF = 3 << 8, CONTROL_POWER_OFF = 1 << 10, CONTROL_LINK = 1 << 12 };
enum { STATUS_BUTTON = 1 << 0, STATUS_PRESENCE = 1 << 3, STATUS_COMMAND = 1 << 4, STATUS_PRESENT = 1 << 6, STATUS_LINK = 1 << 8,
       STATUS_EVENTS = 0x11f };
enum { LINK_ACTIVE = 1 << 13 };
#define ASK_AGAIN_US (5 * G_USEC_PER_SEC) /* in which a second press of the button would mean "no, stay" (6.7.1.1.1) */

static uint8_t *cap(struct pci_bridge *b)
{
    return b->pci.config + b->pci.express_cap;
}

static struct pci_bridge *slot_of(const struct pci_bus *bus)
{
    return (struct pci_bridge *)bus->bridge->owner;
}

static uint16_t control(struct pci_bridge *b)
{
    return pci_get16(cap(b) + SLOT_CONTROL);
}

void pcie_slot_init(struct pci_bridge *b)
{
    uint8_t *c = cap(b), *w = b->pci.wmask + b->pci.express_cap;
    uint32_t has = CAP_ATTENTION | CAP_INDICATOR | CAP_BUTTON | (b->power_controller ? CAP_POWER : 0) | (b->hotplug ? CAP_SURPRISE | CAP_HOTPLUG : 0);
    if (b->hotplug && !b->native_hotplug)
        has &= ~CAP_HOTPLUG;
    pci_set32(c + SLOT_CAP, has | (uint32_t)b->slot << CAP_NUMBER);
    pci_set16(w + SLOT_CONTROL, 0x13ff | (b->power_controller ? CONTROL_POWER_OFF : 0));
    pci_set16(b->pci.w1c + b->pci.express_cap + SLOT_STATUS, STATUS_EVENTS);
}

/* The events of Slot Status that Slot Control lets interrupt. */
static uint16_t wanted(struct pci_bridge *b)
{
    uint16_t on = control(b);
    return on & CONTROL_INTERRUPT ? pci_get16(cap(b) + SLOT_STATUS) & ((on & 0x1f) | (on & CONTROL_LINK ? STATUS_LINK : 0)) : 0;
}

/* 6.7.3.4: a message when the first event comes, or the wire as long as there is one. */
static void interrupt(struct pci_bridge *b, uint16_t before)
{
    uint16_t now = wanted(b);
    if (pci_msi_enabled(&b->pci)) {
        if (now & ~before)
            pci_msi_send(&b->pci);
    } else {
        pci_intx(&b->pci, now != 0);
    }
}

static void raise_events(struct pci_bridge *b, uint16_t events)
{
    uint16_t before = wanted(b);
    pci_set16(cap(b) + SLOT_STATUS, pci_get16(cap(b) + SLOT_STATUS) | events);
    interrupt(b, before);
}

static void set_present(struct pci_bridge *b, bool present)
{
    uint8_t *c = cap(b);
    uint16_t link = pci_get16(c + LINK_STATUS) & ~LINK_ACTIVE;
    pci_set16(c + LINK_STATUS, link | (present ? LINK_ACTIVE : 0));
    pci_set16(c + SLOT_STATUS, (pci_get16(c + SLOT_STATUS) & ~STATUS_PRESENT) | (present ? STATUS_PRESENT : 0));
}

static bool populated(struct pci_bridge *b)
{
    return b->secondary->devices[0] != NULL;
}

void pcie_slot_reset(struct pci_bridge *b)
{
    bool full = populated(b);
    set_present(b, full);
    pci_set16(cap(b) + SLOT_CONTROL, CONTROL_ATTENTION_OFF | (full ? INDICATOR_ON : INDICATOR_OFF | (b->power_controller ? CONTROL_POWER_OFF : 0)));
    b->control = control(b);
    b->unplug_asked = b->blinked = false;
}

/* ---- coming ---- */

static bool may_plug(struct pci_bus *bus, struct pci_device *d, GError **error)
{
    struct pci_bridge *b = slot_of(bus);
    if (!b->hotplug)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Hot-plug failed: unsupported by the port device '%s'", bus->name);
    pci_lock(bus);
    bool busy = b->unplug_asked || b->eject;
    pci_unlock(bus);
    return !busy || vireo_fail(error, VIREO_ERROR_BUSY, "Hot-plug failed: what is in the slot '%s' has been asked to go, and the guest has not let it "
                               "go yet", bus->name);
}

/* Functions beside function 0 wait for it: it is the one that a guest looks for. */
static void plugged(struct pci_bus *bus, struct pci_device *d)
{
    struct pci_bridge *b = slot_of(bus);
    if (PCI_FUNC(d->devfn))
        return;
    pci_lock(bus);
    set_present(b, true);
    raise_events(b, STATUS_PRESENCE | STATUS_LINK);
    pci_unlock(bus);
}

/* ---- going ---- */

static void empty(struct pci_bus *bus)
{
    for (int i = 255; i >= 0; i--) {
        struct pci_device *d = bus->devices[i];
        if (!d)
            continue;
        if (d->secondary)
            empty(d->secondary);
        device_gone(d->owner);
    }
}

static struct pci_bridge *next_to_eject(struct pci_bus *bus)
{
    struct pci_bridge *found = NULL;
    for (struct pci_device *d = NULL; !found && (d = pci_bus_next(bus, d));) {
        struct pci_bridge *b = d->secondary ? (struct pci_bridge *)d->owner : NULL;
        if (b)
            found = b->eject ? b : next_to_eject(d->secondary);
    }
    return found;
}

/* Main thread. A bridge may go with what it is plugged into, so each is looked for anew. */
static void take_ejected(void *opaque)
{
    struct machine *m = opaque;
    struct pci_bridge *b;
    while (m->pci) {
        pci_lock(m->pci);
        b = next_to_eject(m->pci);
        if (b)
            b->eject = false;
        pci_unlock(m->pci);
        if (!b)
            return;
        machine_hold_vcpus(m);
        empty(b->secondary);
        pci_lock(m->pci);
        b->unplug_asked = b->blinked = false;
        set_present(b, false);
        raise_events(b, STATUS_PRESENCE | STATUS_LINK);
        pci_unlock(m->pci);
        machine_let_vcpus(m);
    }
}

static void eject_locked(struct pci_bridge *b)
{
    b->eject = true;
    machine_call_later(b->dev.machine, take_ejected, b->dev.machine);
}

static bool unplug(struct pci_bus *bus, struct pci_device *d, GError **error)
{
    struct pci_bridge *b = slot_of(bus);
    const char *name = d->owner->id ? d->owner->id : d->name;
    bool ok = true;
    pci_lock(bus);
    uint16_t on = control(b);
    bool guest_is_there = bus->host->machine->state != MACHINE_PRELAUNCH;
    if (!b->hotplug)
        ok = vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Hot-unplug failed: unsupported by the port device '%s'", bus->name);
    else if (b->eject || (b->unplug_asked && g_get_monotonic_time() - b->asked_at < ASK_AGAIN_US))
        ok = vireo_fail(error, VIREO_ERROR_BUSY, "Device %s is already in the process of unplug", name);
    else if ((on & CONTROL_INDICATOR) == INDICATOR_BLINK)
        ok = vireo_fail(error, VIREO_ERROR_BUSY, "Hot-unplug failed: guest is busy (power indicator blinking)");
    else if (!guest_is_there || ((on & CONTROL_INDICATOR) == INDICATOR_OFF && (on & CONTROL_POWER_OFF)))
        eject_locked(b);
    else {
        b->unplug_asked = true;
        b->asked_at = g_get_monotonic_time();
        raise_events(b, STATUS_BUTTON);
    }
    pci_unlock(bus);
    return ok;
}

/* The guest blinked, as it does while it may still be told to keep the card, and keeps it. */
static void guest_refused_locked(struct pci_bridge *b)
{
    struct pci_device *d = b->secondary->devices[0];
    b->unplug_asked = b->blinked = false;
    if (!d)
        return;
    g_autofree char *path = device_path(d->owner);
    struct json_object *data = json_make("path", json_object_new_string(path), NULL);
    if (d->owner->id)
        json_object_object_add(data, "device", json_object_new_string(d->owner->id));
    machine_post_event(b->dev.machine, "DEVICE_UNPLUG_GUEST_ERROR", data);
}

void pcie_slot_written(struct pci_bridge *b, unsigned offset, unsigned size)
{
    unsigned at = b->pci.express_cap + SLOT_CONTROL, before_events = b->pci.express_cap + SLOT_STATUS;
    if (offset < before_events + 2 && offset + size > before_events && !pci_msi_enabled(&b->pci))
        pci_intx(&b->pci, wanted(b) != 0);
    if (offset >= at + 2 || offset + size <= at)
        return;
    uint16_t old = b->control, now = control(b);
    b->control = now;
    if (b->unplug_asked && (now & CONTROL_INDICATOR) == INDICATOR_BLINK)
        b->blinked = true;
    bool off = (now & CONTROL_POWER_OFF) && (now & CONTROL_INDICATOR) == INDICATOR_OFF;
    bool was_off = (old & CONTROL_POWER_OFF) && (old & CONTROL_INDICATOR) == INDICATOR_OFF;
    if (b->hotplug && populated(b) && off && !was_off)
        eject_locked(b);
    else if (b->blinked && !(now & CONTROL_POWER_OFF) && (now & CONTROL_INDICATOR) == INDICATOR_ON)
        guest_refused_locked(b);
    /* A command is carried out at once. What it has just let interrupt does so too. */
    uint16_t before = (old & CONTROL_INTERRUPT) && (now & CONTROL_INTERRUPT) ? wanted(b) & ((old & 0x1f) | (old & CONTROL_LINK ? STATUS_LINK : 0)) : 0;
    pci_set16(cap(b) + SLOT_STATUS, pci_get16(cap(b) + SLOT_STATUS) | STATUS_COMMAND);
    interrupt(b, before);
}

const struct pci_bus_ops pcie_slot_ops = { may_plug, plugged, unplug };
