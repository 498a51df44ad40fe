/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ACPI tables of a machine, made from a description of its hardware (ACPI 6.5). */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define ACPI_MAX_MMIO 32
#define ACPI_MAX_UARTS 4
#define ACPI_MAX_CPUS 1024

struct acpi_config {
    unsigned ncpus;                 /* there from the start: slots 0 to ncpus - 1 */
    unsigned max_cpus;              /* above ncpus: that many slots, the later ones come and go */
    const uint8_t *cpu_present;     /* of the later slots, one byte per slot from 0: is it there now? NULL: none is */
    bool pci, hpet, i8042, rtc;
    uint64_t ecam_base;             /* pci: of bus 0 */
    unsigned ecam_buses;
    uint32_t mem32_base, mem32_size;
    uint64_t mem64_base, mem64_size;
    uint32_t io_base, io_size;
    unsigned (*intx_line)(unsigned slot, unsigned pin); /* pci: line 0-7 of pin 1-4; the GSI is 16 + it */
    struct { uint16_t port; uint8_t irq; } uart[ACPI_MAX_UARTS];
    unsigned nuarts;
    struct { uint64_t base; uint32_t size; uint32_t gsi; } virtio_mmio[ACPI_MAX_MMIO];
    unsigned nvirtio_mmio;
    unsigned mem_slots;             /* for modules of memory */
    /* NUMA; nnodes 0: no SRAT, no SLIT */
    unsigned nnodes;
    const uint8_t *cpu_node;        /* of each possible CPU */
    const uint8_t (*distance)[128]; /* NULL: no SLIT */
    GArray *memory;                 /* struct acpi_memory; NULL: none yet */
};

struct acpi_memory { uint64_t base, size; uint8_t node; bool hotplug; };
void acpi_add_memory(struct acpi_config *c, uint64_t base, uint64_t size, unsigned node, bool hotplug);
/* All tables as one block of bytes that belongs at guest physical `base` (16-byte aligned); *ret_rsdp: where the RSDP lies. */
GBytes *acpi_build(const struct acpi_config *c, uint64_t base, uint64_t *ret_rsdp);
/* One table by signature out of such a block ("DSDT", "APIC", ...); NULL: not there. For tests and tools. */
const uint8_t *acpi_find(GBytes *block, uint64_t base, const char *signature, uint32_t *ret_size);
