/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option ROMs: an image behind the expansion ROM base address register (PCI 3.0, 6.2.5.2 and 6.3), from which firmware takes it. */
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

bool pci_rom_realize(struct pci_device *d, struct machine *m, GError **error)
{
    const char *name = d->owner->romfile ? d->owner->romfile : d->rom_default;
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
    log_warn("device %s: there is no '%s': the guest's firmware will not use it; install the package seabios", d->name, name);
    return true;
}
