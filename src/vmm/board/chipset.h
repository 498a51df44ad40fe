/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both boards have: RAM around the hole below 4 GiB, interrupt controllers and their wiring, timers, clock, ACPI
 * registers; firmware tables and the boot image, which each reset puts in place again. */
#pragma once

#include "vmm/board/acpi.h"
#include "vmm/board/boot.h"
#include "vmm/core/irq.h"
#include "vmm/core/machine.h"

#define CHIPSET_FIRMWARE 0xe0000u /* ACPI tables from here, SMBIOS and the BIOS stub in the upper half */
#define CHIPSET_SMBIOS   0xf0000u
#define CHIPSET_BIOS     0xfc000u
#define CHIPSET_EBDA     0x9fc00u

struct chipset {
    struct machine *machine;
    uint64_t low_size, high_size; /* RAM below and above 4 GiB */
    uint64_t high_end;            /* of what RAM and memory that is plugged take above 4 GiB */
    struct device *ioapic, *pic, *pit, *hpet, *rtc, *pm;
    struct irq_line isa[16];  /* to both controllers */
    struct irq_line gsi[24];  /* to the I/O APIC */
    struct acpi_config acpi;
    struct e820_entry e820[E820_MAX];
    unsigned ne820;
    struct boot_image *boot;    /* NULL: firmware starts */
    struct firmware *firmware;  /* NULL: a kernel is started */
    uint64_t rsdp;              /* of the tables */
    GBytes *tables, *smbios;
    void *own; /* of the board */
    bool (*reset)(struct chipset *cs, GError **error); /* before the boot image is put in place; may be NULL */
};

/* low_max: where the hole begins when RAM is larger than `low_limit`, else RAM ends below it. Sets m->board. */
struct chipset *chipset_create(struct machine *m, uint64_t low_limit, uint64_t low_max, bool with_hpet, GError **error);
void chipset_reserve(struct chipset *cs, uint64_t base, uint64_t size); /* an e820 row */
/* Firmware tables from cs->acpi, the boot image from the options; extra_cmdline is put before -append. */
bool chipset_finish(struct chipset *cs, const char *extra_cmdline, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void chipset_destroy(struct chipset *cs);
/* Serial ports that were made by options, for ACPI. */
void chipset_find_uarts(struct chipset *cs);
