/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between pci.c and pci_irq.c; nobody else includes it. */
#pragma once

#include "vmm/bus/pci.h"

struct pci_bus {
    struct machine *machine;
    GMutex lock;      /* configuration space of all functions, address, where windows are */
    GMutex intx_lock; /* intx_count; a leaf but for the interrupt controllers */
    uint32_t address; /* CONFIG_ADDRESS */
    struct pci_device *devices[256]; /* by devfn */
    struct irq_line intx[PCI_INTX_LINES];
    unsigned intx_count[PCI_INTX_LINES]; /* functions that drive it */
    struct io_window address_window, data_window, ecam_window;
};

/* Bus lock held. */
void pci_irq_status(struct pci_device *d);         /* Interrupt Status bit */
void pci_irq_config_written(struct pci_device *d); /* command, MSI and MSI-X control may have changed */
void pci_irq_reset(struct pci_device *d);
void pci_irq_finish(struct pci_device *d);
