/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/acpi_hotplug.h"

#include "vmm/dev/cpu_hotplug.h"

#define NOTIFY_DEVICE_CHECK 1u
#define NOTIFY_EJECT_REQUEST 3u

void acpi_cpu_name(unsigned index, char ret[5])
{
    g_snprintf(ret, 5, "C%03X", index & 0xfff);
}

/* Registers as fields, and the lock that keeps a selection and what follows it together. */
static void registers(struct aml *a)
{
    static const char *const fields[] = { "CPSL", "CPST", "CPNX", "CPOS", NULL };
    aml_port_region(a, "CPRG", CPU_HOTPLUG_BASE, CPU_HOTPLUG_SIZE);
    aml_fields32(a, "CPRG", fields);
    aml_mutex(a, "CPLK");
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

/* CSTA (slot): its _STA. */
static void method_status(struct aml *a)
{
    aml_begin_method(a, "CSTA", 1);
    aml_acquire(a, "CPLK");
    store_arg(a, 0, "CPSL");
    aml_store(a);
    aml_path(a, "CPST");
    aml_local(a, 0);
    aml_release(a, "CPLK");
    aml_begin_if(a);
    aml_and(a);
    aml_local(a, 0);
    aml_int(a, CPU_SLOT_PRESENT);
    aml_no_target(a);
    aml_return(a);
    aml_int(a, 0xf);
    aml_end(a);
    aml_return(a);
    aml_int(a, 0);
    aml_end(a);
}

/* CEJ0 (slot), COST (slot, event, status). */
static void method_eject(struct aml *a)
{
    aml_begin_method(a, "CEJ0", 1);
    aml_acquire(a, "CPLK");
    store_arg(a, 0, "CPSL");
    store_int(a, CPU_SLOT_EJECT, "CPST");
    aml_release(a, "CPLK");
    aml_end(a);
    aml_begin_method(a, "COST", 3);
    aml_acquire(a, "CPLK");
    store_arg(a, 0, "CPSL");
    store_arg(a, 1, "CPNX");
    store_arg(a, 2, "CPOS");
    aml_release(a, "CPLK");
    aml_end(a);
}

/* CNTF (slot, event): a device's name must stand in the code, so each has its own line. */
static void method_notify(struct aml *a, const struct acpi_config *c)
{
    aml_begin_method(a, "CNTF", 2);
    for (unsigned i = c->ncpus; i < c->max_cpus; i++) {
        char name[5];
        acpi_cpu_name(i, name);
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

/* If (CPST & bit) { CPST = bit; CNTF (Local0, event) } */
static void scan_event(struct aml *a, unsigned bit, unsigned event)
{
    aml_begin_if(a);
    aml_and(a);
    aml_local(a, 1);
    aml_int(a, bit);
    aml_no_target(a);
    store_int(a, bit, "CPST");
    aml_path(a, "CNTF");
    aml_local(a, 0);
    aml_int(a, event);
    aml_end(a);
}

/* CPHS: tells the OS of every slot that has something to tell. */
static void method_scan(struct aml *a)
{
    aml_begin_method(a, "CPHS", 0);
    aml_acquire(a, "CPLK");
    aml_begin_while(a);
    aml_int(a, 1);
    aml_store(a);
    aml_path(a, "CPNX");
    aml_local(a, 0);
    aml_begin_if(a);
    aml_equal(a);
    aml_local(a, 0);
    aml_int(a, 0xffffffff);
    aml_break(a);
    aml_end(a);
    aml_store(a);
    aml_local(a, 0);
    aml_path(a, "CPSL");
    aml_store(a);
    aml_path(a, "CPST");
    aml_local(a, 1);
    scan_event(a, CPU_SLOT_CAME, NOTIFY_DEVICE_CHECK);
    scan_event(a, CPU_SLOT_LEAVE, NOTIFY_EJECT_REQUEST);
    aml_end(a);
    aml_release(a, "CPLK");
    aml_end(a);
}

/* A call with the slot's number and the method's own arguments. */
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

static void processor(struct aml *a, const struct acpi_config *c, unsigned i)
{
    char name[5];
    acpi_cpu_name(i, name);
    aml_begin_device(a, name);
    aml_name_string(a, "_HID", "ACPI0007");
    aml_name_int(a, "_UID", i);
    if (i >= c->ncpus) {
        const uint8_t entry[8] = { 0, 8, (uint8_t)i, (uint8_t)i, 1 }; /* as in the MADT, 5.2.12.2 */
        forward(a, "_STA", 0, "CSTA", i, 0);
        if (c->nnodes)
            aml_name_int(a, "_PXM", c->cpu_node[i]);
        aml_name(a, "_MAT");
        aml_buffer(a, entry, sizeof(entry));
        forward(a, "_EJ0", 1, "CEJ0", i, 0);
        forward(a, "_OST", 3, "COST", i, 2);
    }
    aml_end(a);
}

void acpi_hotplug_cpus(struct aml *a, const struct acpi_config *c)
{
    if (c->max_cpus > c->ncpus) {
        registers(a);
        method_status(a);
        method_eject(a);
    }
    for (unsigned i = 0; i < MAX(c->max_cpus, c->ncpus); i++)
        processor(a, c, i);
    if (c->max_cpus > c->ncpus) {
        method_notify(a, c);
        method_scan(a);
    }
}

void acpi_hotplug_events(struct aml *a, const struct acpi_config *c)
{
    if (c->max_cpus <= c->ncpus)
        return;
    G_STATIC_ASSERT(CPU_HOTPLUG_GPE == 2);
    aml_begin_scope(a, "\\_GPE");
    aml_begin_method(a, "_E02", 0);
    aml_path(a, "\\_SB_.CPHS");
    aml_end(a);
    aml_end(a);
}
