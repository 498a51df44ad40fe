/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/acpi_memhp.h"

#include "vmm/board/acpi_slots.h"
#include "vmm/dev/mem_hotplug.h"

#define SERIALIZED 8u /* flag of a method that makes names (20.2.5.2) */

static struct acpi_slots slots_of(const struct acpi_config *c)
{
    static const char *const more[] = { "+MMBA", "+MMLA", "+MMSZ", "MMPX", NULL };
    G_STATIC_ASSERT(MEM_HOTPLUG_GPE == 3);
    return (struct acpi_slots){ .letter = "M", .pair = "MM", .base = MEM_HOTPLUG_BASE, .size = MEM_HOTPLUG_SIZE, .end = c->mem_slots, .more = more, .gpe = "_E03" };
}

/* MPXM (slot): its _PXM. */
static void method_proximity(struct aml *a, const struct acpi_slots *s)
{
    acpi_slots_begin(a, s, "PXM", 1);
    aml_store(a);
    aml_path(a, "MMPX");
    aml_local(a, 0);
    acpi_slots_release(a, s);
    aml_return(a);
    aml_local(a, 0);
    aml_end(a);
}

/* MCRS (slot): a QWord address space descriptor (6.4.3.5.1) with the range put in. */
static void method_resources(struct aml *a, const struct acpi_slots *s)
{
    static const uint8_t template[48] = { 0x8a, 0x2b, 0x00, 0 /* memory */, 0x0c /* fixed, positive decode */, 0x03 /* cacheable, read-write */,
                                          [46] = 0x79, 0 };
    static const struct { uint8_t at; const char *name, *field; } patches[] = {
        { 14, "MMIN", "MMBA" }, { 22, "MMAX", "MMLA" }, { 38, "MLEN", "MMSZ" },
    };
    acpi_slots_begin(a, s, "CRS", 1 | SERIALIZED);
    aml_name(a, "MBUF");
    aml_buffer(a, template, sizeof(template));
    for (unsigned i = 0; i < G_N_ELEMENTS(patches); i++) {
        aml_qword_field(a, "MBUF", patches[i].at, patches[i].name);
        aml_store(a);
        aml_path(a, patches[i].field);
        aml_path(a, patches[i].name);
    }
    acpi_slots_release(a, s);
    aml_return(a);
    aml_path(a, "MBUF");
    aml_end(a);
}

static void slot(struct aml *a, const struct acpi_slots *s, unsigned i, bool numa)
{
    char name[5];
    acpi_slots_name(s, i, name);
    aml_begin_device(a, name);
    aml_name_eisaid(a, "_HID", "PNP0C80");
    aml_name_int(a, "_UID", i);
    acpi_slots_device(a, s, i);
    acpi_slots_forward(a, s, "_CRS", 0, "CRS", i, 0);
    if (numa)
        acpi_slots_forward(a, s, "_PXM", 0, "PXM", i, 0);
    aml_end(a);
}

void acpi_memhp_slots(struct aml *a, const struct acpi_config *c)
{
    struct acpi_slots s = slots_of(c);
    if (!c->mem_slots)
        return;
    acpi_slots_methods(a, &s);
    method_proximity(a, &s);
    method_resources(a, &s);
    for (unsigned i = 0; i < c->mem_slots; i++)
        slot(a, &s, i, c->nnodes);
    acpi_slots_scan(a, &s);
}

void acpi_memhp_event(struct aml *a, const struct acpi_config *c)
{
    struct acpi_slots s = slots_of(c);
    if (c->mem_slots)
        acpi_slots_event(a, &s);
}
