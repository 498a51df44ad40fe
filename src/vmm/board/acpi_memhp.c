/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/acpi_memhp.h"

#include "vmm/dev/mem_hotplug.h"

#define NOTIFY_DEVICE_CHECK 1u
#define NOTIFY_EJECT_REQUEST 3u
#define SERIALIZED 8u /* flag of a method that makes names (20.2.5.2) */

static void slot_name(unsigned index, char ret[5])
{
    g_snprintf(ret, 5, "M%03X", index & 0xfff);
}

/* Registers as fields, and the lock that keeps a selection and what follows it together. */
static void registers(struct aml *a)
{
    static const char *const fields[] = { "MMSL", "MMST", "MMNX", "MMOS", "+MMBA", "+MMLA", "+MMSZ", "MMPX", NULL };
    aml_port_region(a, "MMRG", MEM_HOTPLUG_BASE, MEM_HOTPLUG_SIZE);
    aml_fields32(a, "MMRG", fields);
    aml_mutex(a, "MMLK");
}

static void store_arg(struct aml *a, unsigned arg, const char *field)
{
    aml_store(a);
    aml_arg(a, arg);
    aml_path(a, field);
}

static void store_int(struct aml *a, uint64_t v, const char *field)
{
    aml_store(a);
    aml_int(a, v);
    aml_path(a, field);
}

static void begin_on_slot(struct aml *a, const char *method, unsigned nargs)
{
    aml_begin_method(a, method, nargs);
    aml_acquire(a, "MMLK");
    store_arg(a, 0, "MMSL");
}

/* MSTA (slot): its _STA. MPXM (slot): its _PXM. */
static void methods_read(struct aml *a)
{
    begin_on_slot(a, "MSTA", 1);
    aml_store(a);
    aml_path(a, "MMST");
    aml_local(a, 0);
    aml_release(a, "MMLK");
    aml_begin_if(a);
    aml_and(a);
    aml_local(a, 0);
    aml_int(a, MEM_SLOT_PRESENT);
    aml_no_target(a);
    aml_return(a);
    aml_int(a, 0xf);
    aml_end(a);
    aml_return(a);
    aml_int(a, 0);
    aml_end(a);

    begin_on_slot(a, "MPXM", 1);
    aml_store(a);
    aml_path(a, "MMPX");
    aml_local(a, 0);
    aml_release(a, "MMLK");
    aml_return(a);
    aml_local(a, 0);
    aml_end(a);
}

/* MCRS (slot): a QWord address space descriptor (6.4.3.5.1) with the range put in. */
static void method_resources(struct aml *a)
{
    static const uint8_t template[48] = { 0x8a, 0x2b, 0x00, 0 /* memory */, 0x0c /* fixed, positive decode */, 0x03 /* cacheable, read-write */,
                                          [46] = 0x79, 0 };
    static const struct { uint8_t at; const char *name, *field; } patches[] = {
        { 14, "MMIN", "MMBA" }, { 22, "MMAX", "MMLA" }, { 38, "MLEN", "MMSZ" },
    };
    begin_on_slot(a, "MCRS", 1 | SERIALIZED);
    aml_name(a, "MBUF");
    aml_buffer(a, template, sizeof(template));
    for (unsigned i = 0; i < G_N_ELEMENTS(patches); i++) {
        aml_qword_field(a, "MBUF", patches[i].at, patches[i].name);
        aml_store(a);
        aml_path(a, patches[i].field);
        aml_path(a, patches[i].name);
    }
    aml_release(a, "MMLK");
    aml_return(a);
    aml_path(a, "MBUF");
    aml_end(a);
}

/* MEJ0 (slot), MOST (slot, event, status). */
static void methods_write(struct aml *a)
{
    begin_on_slot(a, "MEJ0", 1);
    store_int(a, MEM_SLOT_EJECT, "MMST");
    aml_release(a, "MMLK");
    aml_end(a);
    begin_on_slot(a, "MOST", 3);
    store_arg(a, 1, "MMNX");
    store_arg(a, 2, "MMOS");
    aml_release(a, "MMLK");
    aml_end(a);
}

/* MNTF (slot, event): a device's name must stand in the code, so each has its own line. */
static void method_notify(struct aml *a, unsigned n)
{
    aml_begin_method(a, "MNTF", 2);
    for (unsigned i = 0; i < n; i++) {
        char name[5];
        slot_name(i, name);
        aml_begin_if(a);
        aml_equal(a);
        aml_arg(a, 0);
        aml_int(a, i);
        aml_notify(a, name);
        aml_arg(a, 1);
        aml_end(a);
    }
    aml_end(a);
}

/* If (MMST & bit) { MMST = bit; MNTF (Local0, event) } */
static void scan_event(struct aml *a, unsigned bit, unsigned event)
{
    aml_begin_if(a);
    aml_and(a);
    aml_local(a, 1);
    aml_int(a, bit);
    aml_no_target(a);
    store_int(a, bit, "MMST");
    aml_path(a, "MNTF");
    aml_local(a, 0);
    aml_int(a, event);
    aml_end(a);
}

/* MMHS: tells the OS of every slot that has something to tell. */
static void method_scan(struct aml *a)
{
    aml_begin_method(a, "MMHS", 0);
    aml_acquire(a, "MMLK");
    aml_begin_while(a);
    aml_int(a, 1);
    aml_store(a);
    aml_path(a, "MMNX");
    aml_local(a, 0);
    aml_begin_if(a);
    aml_equal(a);
    aml_local(a, 0);
    aml_int(a, 0xffffffff);
    aml_break(a);
    aml_end(a);
    aml_store(a);
    aml_local(a, 0);
    aml_path(a, "MMSL");
    aml_store(a);
    aml_path(a, "MMST");
    aml_local(a, 1);
    scan_event(a, MEM_SLOT_CAME, NOTIFY_DEVICE_CHECK);
    scan_event(a, MEM_SLOT_LEAVE, NOTIFY_EJECT_REQUEST);
    aml_end(a);
    aml_release(a, "MMLK");
    aml_end(a);
}

/* A method that calls another with the slot's number and its own arguments. */
static void forward(struct aml *a, const char *name, unsigned nargs, const char *to, unsigned slot, unsigned pass)
{
    aml_begin_method(a, name, nargs);
    if (!nargs)
        aml_return(a);
    aml_path(a, to);
    aml_int(a, slot);
    for (unsigned i = 0; i < pass; i++)
        aml_arg(a, i);
    aml_end(a);
}

static void slot(struct aml *a, unsigned i, bool numa)
{
    char name[5];
    slot_name(i, name);
    aml_begin_device(a, name);
    aml_name_eisaid(a, "_HID", "PNP0C80");
    aml_name_int(a, "_UID", i);
    forward(a, "_STA", 0, "MSTA", i, 0);
    forward(a, "_CRS", 0, "MCRS", i, 0);
    if (numa)
        forward(a, "_PXM", 0, "MPXM", i, 0);
    forward(a, "_EJ0", 1, "MEJ0", i, 0);
    forward(a, "_OST", 3, "MOST", i, 2);
    aml_end(a);
}

void acpi_memhp_slots(struct aml *a, const struct acpi_config *c)
{
    if (!c->mem_slots)
        return;
    registers(a);
    methods_read(a);
    method_resources(a);
    methods_write(a);
    for (unsigned i = 0; i < c->mem_slots; i++)
        slot(a, i, c->nnodes);
    method_notify(a, c->mem_slots);
    method_scan(a);
}

void acpi_memhp_event(struct aml *a, const struct acpi_config *c)
{
    if (!c->mem_slots)
        return;
    G_STATIC_ASSERT(MEM_HOTPLUG_GPE == 3);
    aml_begin_scope(a, "\\_GPE");
    aml_begin_method(a, "_E03", 0);
    aml_path(a, "\\_SB_.MMHS");
    aml_end(a);
    aml_end(a);
}
