/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option ROMs: an image behind the expansion ROM base address register (PCI 3.0, 6.2.5.2 and 6.3), from which firmware takes it. */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/bus/pci_private.h"
#include "vmm/core/firmware_file.h"
#include "vmm/core/machine.h"

enum { ROM_ENABLE = 1, HEADER_KIND = 0x7f };

uint64_t pci_rom_address(const struct pci_device *d)
{
    uint32_t reg = pci_get32(d->config + PCI_REG_ROM);
    return reg & ROM_ENABLE ? reg & ~0x7ffu : 0;
}

void pci_rom_write(struct pci_device *d, uint64_t base)
{
    pci_set32(d->config + PCI_REG_ROM, (uint32_t)base); /* not enabled: firmware looks at one card's after the other's */
}

static bool show(struct pci_device *d, struct guest_memory *memory, const char *path, GError **error)
{
    size_t size, room;
    void *image = firmware_file_load(memory, path, 4096, &size, &room, error);
    if (!image)
        return false;
    d->rom = (struct pci_bar){ .kind = PCI_BAR_MEM32,
                               .window = { .name = d->name, .size = room, .behind = true, .ram = image, .rom = true } };
    pci_set32(d->wmask + PCI_REG_ROM, (uint32_t)~(room - 1) | ROM_ENABLE);
    return true;
}

/* A network card from which the machine shall start has iPXE; others do without, which spares firmware the time that it takes to begin. */
static const char *network_rom(const struct pci_device *d, const struct machine *m)
{
    static const struct { const char *card, *rom; } rows[] = {
        { "virtio-net-pci", "pxe-virtio.rom" }, { "e1000e", "pxe-e1000e.rom" }, { "e1000", "pxe-e1000.rom" }, { "rtl8139", "pxe-rtl8139.rom" },
    };
    const struct machine_config *c = m->config;
    bool wanted = c && !c->kernel && (device_bootindex(d->owner) != UINT32_MAX || (c->boot_order && strchr(c->boot_order, 'n')));
    for (unsigned i = 0; wanted && i < G_N_ELEMENTS(rows); i++) {
        if (!strcmp(rows[i].card, d->owner->class->name))
            return rows[i].rom;
    }
    return NULL;
}

bool pci_rom_realize(struct pci_device *d, struct machine *m, GError **error)
{
    const char *name = d->owner->romfile ? d->owner->romfile : d->rom_default ? d->rom_default : network_rom(d, m);
    if (!name || !*name || !d->owner->rombar)
        return true;
    if (d->config[PCI_REG_HEADER_TYPE] & HEADER_KIND)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: romfile: a bridge has no option ROM", d->name);
    g_autofree char *path = firmware_file_find(name);
    if (path && show(d, m->memory, path, error)) {
        return true;
    } else if (path) {
        g_prefix_error(error, "device %s: romfile: ", d->name);
        return false;
    }
    if (d->owner->romfile)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: romfile: there is no '%s' here or in /usr/share/seabios", d->name, name);
    log_warn("device %s: there is no '%s': the guest's firmware will not use it; install the package %s", d->name, name, d->rom_default ? "seabios" : "ipxe-qemu");
    return true;
}
