/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two functions of a Q35 chipset by which guests recognise it: the host bridge (82G33/Q35 MCH, 8086:29c0, at 00:00.0)
 * and the LPC bridge (ICH9, 8086:2918, at 00:1f.0). Configuration space only: addresses of ECAM, ACPI registers and
 * interrupt routing are the board's and fixed.
 */
#include <string.h>

#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"

struct pci_bridge {
    struct device dev;
    struct pci_device pci;
    int addr;
};

struct bridge_class {
    struct pci_id id;
    bool multifunction;
    struct { uint8_t at, count, reset, mask; } keeps[4]; /* registers that keep what is written, one byte each */
};

/* Subsystem ids are those by which guests' quirk tables know a virtual machine (1af4:1100). */
static const struct bridge_class host_bridge = { { 0x8086, 0x29c0, 0x1af4, 0x1100, 0, 0x06, 0x00, 0, 0 }, false,
                                                 /* PAM: RAM lies at C0000h-FFFFFh whatever they say; where ECAM is; SMRAM */
                                                 { { 0x90, 1, 0, 0x30 }, { 0x91, 6, 0, 0x33 }, { 0x60, 8, 0, 0xff }, { 0x9d, 2, 0, 0xff } } };
static const struct bridge_class lpc_bridge = { { 0x8086, 0x2918, 0x1af4, 0x1100, 2, 0x06, 0x01, 0, 0 }, true,
                                                /* PIRQ routing, disabled (ICH9 datasheet, 13.1.17) */
                                                { { 0x60, 4, 0x80, 0x8f }, { 0x68, 4, 0x80, 0x8f } } };

static bool bridge_realize(struct device *d, GError **error)
{
    struct pci_bridge *s = (struct pci_bridge *)d;
    const struct bridge_class *c = d->class->bus_class;
    pci_device_init(&s->pci, d, d->class->name, &c->id);
    for (unsigned i = 0; i < G_N_ELEMENTS(c->keeps); i++) {
        memset(s->pci.config + c->keeps[i].at, c->keeps[i].reset, c->keeps[i].count);
        memset(s->pci.wmask + c->keeps[i].at, c->keeps[i].mask, c->keeps[i].count);
    }
    if (c->multifunction)
        s->pci.config[PCI_REG_HEADER_TYPE] = 0x80;
    if (pci_device_plug(&s->pci, d->machine, s->addr, error))
        return true;
    pci_device_unplug(&s->pci);
    return false;
}

static void bridge_reset(struct device *d)
{
    pci_device_reset(&((struct pci_bridge *)d)->pci);
}

static void bridge_unrealize(struct device *d)
{
    pci_device_unplug(&((struct pci_bridge *)d)->pci);
}

static const struct device_prop host_props[] = {
    { "addr", PROP_PCI_ADDR, offsetof(struct pci_bridge, addr), .def = "0", .help = "slot[.function]" }, { NULL }
};
static const struct device_prop lpc_props[] = {
    { "addr", PROP_PCI_ADDR, offsetof(struct pci_bridge, addr), .def = "1f", .help = "slot[.function]" }, { NULL }
};
/* The host bridge has what belongs to all functions. */
static void host_save(struct device *d, struct state_writer *w)
{
    pci_host_save(((struct pci_bridge *)d)->pci.bus, w);
}

static bool host_load(struct device *d, struct state_reader *r, GError **error)
{
    return pci_host_load(((struct pci_bridge *)d)->pci.bus, r, error);
}

const struct device_class pci_host_class = {
    .save = host_save, .load = host_load,
    .name = "mch", .help = "host bridge of the Q35 chipset", .bus = DEV_BUS_PCI, .size = sizeof(struct pci_bridge), .props = host_props,
    .realize = bridge_realize, .reset = bridge_reset, .unrealize = bridge_unrealize, .bus_class = &host_bridge,
};
const struct device_class lpc_class = {
    .name = "ICH9-LPC", .help = "LPC bridge of the ICH9 chipset", .bus = DEV_BUS_PCI, .size = sizeof(struct pci_bridge), .props = lpc_props,
    .stateless = true, .realize = bridge_realize, .reset = bridge_reset, .unrealize = bridge_unrealize, .bus_class = &lpc_bridge,
};
