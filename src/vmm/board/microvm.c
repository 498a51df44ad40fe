/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `microvm`: no PCI; virtio devices in memory-mapped slots at 0xfeb00000, announced by ACPI; 8259, 8254, clock and ACPI registers. */
#include "base/error.h"
#include "vmm/board/board.h"
#include "vmm/board/chipset.h"
#include "vmm/bus/virtio.h"

#define GIB (1ull << 30)
#define SLOT_BASE 0xfeb00000ull
#define SLOT_SIZE 0x200u
/* I/O APIC inputs of the slots: those above ISA first, then ISA lines that nothing here uses. */
static const uint8_t slot_gsi[] = { 16, 17, 18, 19, 20, 21, 22, 23, 5, 6, 7, 10, 11, 12, 13, 14 };

static void microvm_destroy(struct machine *m)
{
    virtio_mmio_destroy_slots(m);
    chipset_destroy(m->board);
}

static bool microvm_create(struct machine *m, GError **error)
{
    struct irq_line lines[G_N_ELEMENTS(slot_gsi)];
    m->board_destroy = microvm_destroy;
    if (m->config->max_ram_size)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-m maxmem: memory cannot be added to the board microvm; use q35, or give all of it with size=");
    struct chipset *cs = chipset_create(m, 3 * GIB, 3 * GIB, false, error);
    if (!cs)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(slot_gsi); i++)
        lines[i] = cs->gsi[slot_gsi[i]];
    virtio_mmio_define_slots(m, SLOT_BASE, SLOT_SIZE, G_N_ELEMENTS(slot_gsi), lines);
    return true;
}

static bool microvm_finish(struct machine *m, GError **error)
{
    struct chipset *cs = m->board;
    cs->acpi.nvirtio_mmio = MIN(virtio_mmio_used(m), G_N_ELEMENTS(slot_gsi));
    for (unsigned i = 0; i < cs->acpi.nvirtio_mmio; i++) {
        cs->acpi.virtio_mmio[i].base = SLOT_BASE + i * SLOT_SIZE;
        cs->acpi.virtio_mmio[i].size = SLOT_SIZE;
        cs->acpi.virtio_mmio[i].gsi = slot_gsi[i];
    }
    return chipset_finish(cs, NULL, error);
}

extern const struct board board_microvm;
const struct board board_microvm = { "microvm", "minimal machine with virtio-mmio, without PCI", microvm_create, microvm_finish, NULL, 255, false };
