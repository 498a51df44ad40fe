/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `q35`: a PCI Express PC. Memory map: RAM, ECAM at 0xb0000000, PCI memory 0xc0000000-0xfebfffff, I/O APIC, HPET, local APIC,
 * RAM above 4 GiB, 64-bit PCI memory above that. */
#include "base/error.h"
#include "cpu/x86/x86_model.h"
#include "vmm/board/board.h"
#include "vmm/board/chipset.h"
#include "vmm/board/firmware.h"
#include "vmm/bus/pci.h"
#include "vmm/core/device.h"
#include "vmm/dev/i8042.h"
#include "vmm/dev/virtio_devices.h"

#define GIB (1ull << 30)
#define ECAM_BASE 0xb0000000ull
#define MEM32_BASE 0xc0000000ull
#define MEM32_END 0xfec00000ull
#define IO_BASE 0xc000u
#define IO_SIZE 0x3000u

static struct pci_windows windows_of(const struct chipset *cs)
{
    /* Above RAM, at a round address, as much as the CPU can address but no more than anybody needs. */
    uint64_t limit = 1ull << MIN(cs->machine->cpu_model ? cs->machine->cpu_model->phys_bits : 36, 46u);
    uint64_t base = (cs->high_end + 32 * GIB - 1) & ~(32 * GIB - 1);
    uint64_t size = base < limit ? MIN(limit - base, 512 * GIB) : 0;
    return (struct pci_windows){ .mem32_base = MEM32_BASE, .mem32_size = MEM32_END - MEM32_BASE, .mem64_base = base, .mem64_size = size,
                                 .io_base = IO_BASE, .io_size = IO_SIZE, .gsi_base = 16 };
}

static bool pc_reset(struct chipset *cs, GError **error)
{
    struct pci_windows w = windows_of(cs);
    return pci_bus_assign(cs->machine->pci, &w, error);
}

static bool add(struct machine *m, const struct device_class *class, unsigned devfn, GError **error)
{
    struct device *d = device_create(m, class);
    g_autofree char *addr = g_strdup_printf("%x.%u", PCI_SLOT(devfn), PCI_FUNC(devfn));
    if (device_set_prop(d, "addr", addr, error) && device_realize(d, error))
        return true;
    device_destroy(d);
    return false;
}

static void pc_destroy(struct machine *m)
{
    g_clear_pointer(&m->pci, pci_bus_destroy);
    chipset_destroy(m->board);
}

static bool pc_create(struct machine *m, GError **error)
{
    m->board_destroy = pc_destroy;
    struct chipset *cs = chipset_create(m, ECAM_BASE - 1, 2 * GIB, !m->config->no_hpet, error);
    if (!cs)
        return false;
    cs->reset = pc_reset;
    if (!m->config->kernel && !(cs->firmware = firmware_create(cs, error)))
        return false;
    if (!i8042_create(m, cs->isa[1], cs->isa[12], error))
        return false;
    struct pci_bus *bus = pci_bus_create(m, cs->gsi + 16);
    pci_bus_map_ports(bus);
    pci_bus_map_ecam(bus, ECAM_BASE);
    return add(m, &pci_host_class, PCI_DEVFN(0, 0), error) && add(m, &lpc_class, PCI_DEVFN(0x1f, 0), error) &&
           add(m, &ahci_class, PCI_DEVFN(0x1f, 2), error);
}

static bool pc_finish(struct machine *m, GError **error)
{
    struct chipset *cs = m->board;
    struct pci_windows w = windows_of(cs);
    cs->acpi.pci = cs->acpi.i8042 = true;
    cs->acpi.ecam_base = ECAM_BASE;
    cs->acpi.ecam_buses = PCI_ECAM_BUSES;
    cs->acpi.mem32_base = (uint32_t)w.mem32_base;
    cs->acpi.mem32_size = (uint32_t)w.mem32_size;
    cs->acpi.mem64_base = w.mem64_base;
    cs->acpi.mem64_size = w.mem64_size;
    cs->acpi.io_base = w.io_base;
    cs->acpi.io_size = w.io_size;
    cs->acpi.intx_line = pci_intx_line;
    chipset_reserve(cs, ECAM_BASE, PCI_ECAM_SIZE);
    if (!pci_bus_assign(m->pci, &w, error)) /* as each reset does it: what does not fit is found now */
        return false;
    return chipset_finish(cs, NULL, error);
}

extern const struct board board_q35, board_pc;
const struct board board_q35 = { "q35", "PCI Express PC (default)", pc_create, pc_finish, NULL, 255, true, true };
const struct board board_pc = { "pc", "the same as q35", pc_create, pc_finish, NULL, 255, true, true };
