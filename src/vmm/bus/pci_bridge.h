/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI-to-PCI bridge: a function with a type 1 header and a bus behind it (PCI-to-PCI Bridge Architecture 1.2, chapter 3). With an
 * Express capability it is a port; a root or downstream port with hot-plug has a slot (PCIe 3.0, 6.7): what is plugged into it on a
 * live machine is announced to the guest, and what is asked to go goes when the guest has switched the slot's power off.
 *
 * The device structs of dev/pci_bridges.c embed it.
 */
#pragma once

#include "vmm/bus/pci.h"

enum pcie_port_type { PCIE_ENDPOINT = 0, PCIE_ROOT_PORT = 4, PCIE_UPSTREAM = 5, PCIE_DOWNSTREAM = 6, PCIE_TO_PCI = 7 };

/* What is reserved behind a bridge, in bytes and bus numbers, beside what is there at power-on. */
struct pci_bridge_room {
    uint64_t mem, pref, io;
    unsigned buses;
};

struct pci_bridge {
    struct device dev;    /* first */
    struct pci_device pci;
    struct pci_bus *secondary;
    /* properties; PCI_BRIDGE_PROPS, PCIE_SLOT_PROPS */
    int addr;
    uint64_t bus_reserve, io_reserve, mem_reserve, pref32_reserve, pref64_reserve;
    uint64_t port, chassis, slot, aer_log_max, chassis_nr;
    int speed, width;
    bool hotplug, power_controller, disable_acs, native_hotplug, shpc;
    int msi;
    /* the slot; pci_lock */
    bool has_slot;
    bool unplug_asked, blinked, eject;
    gint64 asked_at;
    uint16_t control;     /* Slot Control before the write that is under way */
};

/* Fills the type 1 header; capabilities follow, then pci_bridge_plug. */
void pci_bridge_init(struct pci_bridge *b, const struct pci_id *id);
void pcie_port_init(struct pci_bridge *b, enum pcie_port_type type, bool slot);
int pcie_port_type_of(const struct pci_device *d); /* as its capability says; -1: it has none */
/* Into its place, with a bus behind it of the bridge's id. conventional: it has 32 slots, one otherwise. */
bool pci_bridge_plug(struct pci_bridge *b, unsigned nslots, bool express, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void pci_bridge_unplug(struct pci_bridge *b); /* also of one never plugged; nothing is behind it any more */
void pci_bridge_reset(struct pci_bridge *b);
struct pci_bridge_room pci_bridge_room(const struct pci_device *d);

/* pcie_slot.c, for pci_bridge.c. */
struct pci_bus_ops;
extern const struct pci_bus_ops pcie_slot_ops;
void pcie_slot_init(struct pci_bridge *b);
void pcie_slot_reset(struct pci_bridge *b);                                             /* lock held */
void pcie_slot_written(struct pci_bridge *b, unsigned offset, unsigned size);           /* lock held */
