/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/acpi_hotplug.h"

#include "vmm/board/acpi_slots.h"
#include "vmm/dev/cpu_hotplug.h"

static struct acpi_slots slots_of(const struct acpi_config *c)
{
    G_STATIC_ASSERT(CPU_HOTPLUG_GPE == 2);
    return (struct acpi_slots){ .letter = "C", .pair = "CP", .base = CPU_HOTPLUG_BASE, .size = CPU_HOTPLUG_SIZE, .first = c->ncpus, .end = c->max_cpus, .gpe = "_E02" };
}

void acpi_cpu_name(unsigned index, char ret[5])
{
    acpi_slots_name(&(struct acpi_slots){ .letter = "C" }, index, ret);
}

static void processor(struct aml *a, const struct acpi_config *c, const struct acpi_slots *s, unsigned i)
{
    char name[5];
    acpi_cpu_name(i, name);
    aml_begin_device(a, name);
    aml_name_string(a, "_HID", "ACPI0007");
    aml_name_int(a, "_UID", i);
    if (i >= c->ncpus) {
        const uint8_t entry[8] = { 0, 8, (uint8_t)i, (uint8_t)i, 1 }; /* as in the MADT, 5.2.12.2 */
        if (c->nnodes)
            aml_name_int(a, "_PXM", c->cpu_node[i]);
        aml_name(a, "_MAT");
        aml_buffer(a, entry, sizeof(entry));
        acpi_slots_device(a, s, i);
    }
    aml_end(a);
}

void acpi_hotplug_cpus(struct aml *a, const struct acpi_config *c)
{
    struct acpi_slots s = slots_of(c);
    if (c->max_cpus > c->ncpus)
        acpi_slots_methods(a, &s);
    for (unsigned i = 0; i < MAX(c->max_cpus, c->ncpus); i++)
        processor(a, c, &s, i);
    if (c->max_cpus > c->ncpus)
        acpi_slots_scan(a, &s);
}

void acpi_hotplug_events(struct aml *a, const struct acpi_config *c)
{
    struct acpi_slots s = slots_of(c);
    if (c->max_cpus > c->ncpus)
        acpi_slots_event(a, &s);
}
