/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between pci.c and pci_irq.c; nobody else includes it. */
#pragma once

#include "vmm/bus/pci.h"

struct pci_host {
    struct machine *machine;
    GMutex lock;      /* configuration space of all functions, address, where windows are, who is on which bus */
    GMutex intx_lock; /* intx_count; a leaf but for the interrupt controllers */
    uint32_t address; /* CONFIG_ADDRESS */
    struct irq_line intx[PCI_INTX_LINES];
    unsigned intx_count[PCI_INTX_LINES]; /* functions that drive it */
    struct io_window address_window, data_window, ecam_window;
};

/* What a bus behind a bridge knows more. Main thread. */
struct pci_bus_ops {
    /* May this function come while the machine is live? NULL: nothing may. */
    bool (*may_plug)(struct pci_bus *bus, struct pci_device *d, GError **error);
    void (*plugged)(struct pci_bus *bus, struct pci_device *d); /* it came, and is in its power-on state */
    bool (*unplug)(struct pci_bus *bus, struct pci_device *d, GError **error);
};

struct pci_bus {
    struct pci_host *host;
    struct pci_device *bridge; /* NULL: the root bus */
    const struct pci_bus_ops *ops;
    char *name;
    bool express;              /* not a conventional bus */
    uint8_t first_slot, nslots; /* where a function without an address goes */
    struct pci_device *devices[256]; /* by devfn */
};

/* Lock held. */
void pci_irq_status(struct pci_device *d);         /* Interrupt Status bit */
void pci_irq_config_written(struct pci_device *d); /* command, MSI and MSI-X control may have changed */
void pci_irq_reset(struct pci_device *d);
void pci_irq_finish(struct pci_device *d);
/* pci_assign.c: windows that the guest has opened are where they are; a bridge lets an access pass, or not. */
unsigned pci_intx_route(const struct pci_device *d); /* which of the board's lines its pin ends at */
void pci_update_windows(struct pci_device *d);
void pci_update_windows_behind(struct pci_bus *bus);
/* pci_rom.c: takes what the user or the device names; where the guest has put it (0: nowhere, or not enabled); gives it an address. */
bool pci_rom_realize(struct pci_device *d, struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
uint64_t pci_rom_address(const struct pci_device *d);
void pci_rom_write(struct pci_device *d, uint64_t base);
/* pci_bridge.c: does this bridge, with its registers as they are, forward that range to its secondary bus? */
bool pci_bridge_forwards(const struct pci_device *bridge, enum pci_bar_kind kind, uint64_t base, uint64_t size);
void pci_bridge_written(struct pci_device *bridge, unsigned offset, unsigned size);
