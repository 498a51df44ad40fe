/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/acpi_slots.h"

#include "vmm/core/plug_slots.h"

#define NOTIFY_DEVICE_CHECK 1u
#define NOTIFY_EJECT_REQUEST 3u

struct name { char text[16]; };

/* A register or the lock: "MM" and "SL"; a method: "M" and "STA". */
static struct name reg(const struct acpi_slots *s, const char *suffix)
{
    struct name n;
    g_snprintf(n.text, sizeof(n.text), "%s%s", s->pair, suffix);
    return n;
}

static struct name method(const struct acpi_slots *s, const char *suffix)
{
    struct name n;
    g_snprintf(n.text, sizeof(n.text), "%s%s", s->letter, suffix);
    return n;
}

void acpi_slots_name(const struct acpi_slots *s, unsigned index, char ret[5])
{
    g_snprintf(ret, 5, "%c%03X", s->letter[0], index & 0xfff);
}

static void registers(struct aml *a, const struct acpi_slots *s)
{
    struct name common[] = { reg(s, "SL"), reg(s, "ST"), reg(s, "NX"), reg(s, "OS") };
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(common); i++)
        g_ptr_array_add(all, common[i].text);
    for (unsigned i = 0; s->more && s->more[i]; i++)
        g_ptr_array_add(all, (void *)s->more[i]);
    g_ptr_array_add(all, NULL);
    aml_port_region(a, reg(s, "RG").text, s->base, s->size);
    aml_fields32(a, reg(s, "RG").text, (const char *const *)all->pdata);
    aml_mutex(a, reg(s, "LK").text);
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

void acpi_slots_begin(struct aml *a, const struct acpi_slots *s, const char *suffix, unsigned flags)
{
    aml_begin_method(a, method(s, suffix).text, flags);
    aml_acquire(a, reg(s, "LK").text);
    store_arg(a, 0, reg(s, "SL").text);
}

void acpi_slots_release(struct aml *a, const struct acpi_slots *s)
{
    aml_release(a, reg(s, "LK").text);
}

static void method_status(struct aml *a, const struct acpi_slots *s)
{
    acpi_slots_begin(a, s, "STA", 1);
    aml_store(a);
    aml_path(a, reg(s, "ST").text);
    aml_local(a, 0);
    acpi_slots_release(a, s);
    aml_begin_if(a);
    aml_and(a);
    aml_local(a, 0);
    aml_int(a, PLUG_PRESENT);
    aml_no_target(a);
    aml_return(a);
    aml_int(a, 0xf);
    aml_end(a);
    aml_return(a);
    aml_int(a, 0);
    aml_end(a);
}

void acpi_slots_methods(struct aml *a, const struct acpi_slots *s)
{
    registers(a, s);
    method_status(a, s);
    acpi_slots_begin(a, s, "EJ0", 1);
    store_int(a, PLUG_EJECT, reg(s, "ST").text);
    acpi_slots_release(a, s);
    aml_end(a);
    acpi_slots_begin(a, s, "OST", 3); /* slot, event, status */
    store_arg(a, 1, reg(s, "NX").text);
    store_arg(a, 2, reg(s, "OS").text);
    acpi_slots_release(a, s);
    aml_end(a);
}

void acpi_slots_forward(struct aml *a, const struct acpi_slots *s, const char *name, unsigned nargs, const char *suffix, unsigned slot, unsigned pass)
{
    aml_begin_method(a, name, nargs);
    if (!nargs)
        aml_return(a);
    aml_path(a, method(s, suffix).text);
    aml_int(a, slot);
    for (unsigned i = 0; i < pass; i++)
        aml_arg(a, i);
    aml_end(a);
}

void acpi_slots_device(struct aml *a, const struct acpi_slots *s, unsigned slot)
{
    acpi_slots_forward(a, s, "_STA", 0, "STA", slot, 0);
    acpi_slots_forward(a, s, "_EJ0", 1, "EJ0", slot, 0);
    acpi_slots_forward(a, s, "_OST", 3, "OST", slot, 2);
}

/* NTF (slot, event): a device's name must stand in the code, so each has its own line. */
static void method_notify(struct aml *a, const struct acpi_slots *s)
{
    aml_begin_method(a, method(s, "NTF").text, 2);
    for (unsigned i = s->first; i < s->end; i++) {
        char name[5];
        acpi_slots_name(s, i, name);
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

/* If (Local1 & bit) { ST = bit; NTF (Local0, event) } */
static void scan_event(struct aml *a, const struct acpi_slots *s, unsigned bit, unsigned event)
{
    aml_begin_if(a);
    aml_and(a);
    aml_local(a, 1);
    aml_int(a, bit);
    aml_no_target(a);
    store_int(a, bit, reg(s, "ST").text);
    aml_path(a, method(s, "NTF").text);
    aml_local(a, 0);
    aml_int(a, event);
    aml_end(a);
}

void acpi_slots_scan(struct aml *a, const struct acpi_slots *s)
{
    method_notify(a, s);
    aml_begin_method(a, reg(s, "HS").text, 0);
    aml_acquire(a, reg(s, "LK").text);
    aml_begin_while(a);
    aml_int(a, 1);
    aml_store(a);
    aml_path(a, reg(s, "NX").text);
    aml_local(a, 0);
    aml_begin_if(a);
    aml_equal(a);
    aml_local(a, 0);
    aml_int(a, 0xffffffff);
    aml_break(a);
    aml_end(a);
    aml_store(a);
    aml_local(a, 0);
    aml_path(a, reg(s, "SL").text);
    aml_store(a);
    aml_path(a, reg(s, "ST").text);
    aml_local(a, 1);
    scan_event(a, s, PLUG_CAME, NOTIFY_DEVICE_CHECK);
    scan_event(a, s, PLUG_LEAVE, NOTIFY_EJECT_REQUEST);
    aml_end(a);
    acpi_slots_release(a, s);
    aml_end(a);
}

void acpi_slots_event(struct aml *a, const struct acpi_slots *s)
{
    g_autofree char *path = g_strdup_printf("\\_SB_.%sHS", s->pair);
    aml_begin_scope(a, "\\_GPE");
    aml_begin_method(a, s->gpe, 0);
    aml_path(a, path);
    aml_end(a);
    aml_end(a);
}
