/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI's view of slots (vmm/core/plug_slots.h): methods of \_SB that talk to their registers, for the devices that stand for the slots
 * (ACPI 6.5, 5.6.6, 6.3). Names begin with the kind's letters: for "M" and "MM", MSTA (slot) is a slot's _STA, MEJ0 and MOST its _EJ0
 * and _OST, MMHS tells the OS of every slot that has something to tell; MMSL, MMST ... are the registers.
 */
#pragma once

#include "vmm/board/aml.h"

struct acpi_slots {
    const char *letter, *pair;
    unsigned base, size;            /* ports */
    unsigned first, end;            /* slots of which the OS may be told */
    const char *const *more;        /* registers beyond the common four, as aml_fields32 takes them; NULL: none */
    const char *gpe;                /* "\\_GPE" method, "_E02" */
};

/* Inside Scope (\_SB): the registers, the lock that keeps a selection and what follows it together, methods that devices forward to. */
void acpi_slots_methods(struct aml *a, const struct acpi_slots *s);
/* Name of a slot's device: letter and three digits. */
void acpi_slots_name(const struct acpi_slots *s, unsigned index, char ret[5]);
/* Begins a method letter + suffix (slot, ...) that holds the lock, the slot selected. flags: of aml_begin_method, with the number of
 * arguments. acpi_slots_release gives the lock back. */
void acpi_slots_begin(struct aml *a, const struct acpi_slots *s, const char *suffix, unsigned flags);
void acpi_slots_release(struct aml *a, const struct acpi_slots *s);
/* In a slot's device: a method that calls letter + suffix with the slot's number and the first `pass` of its own arguments. */
void acpi_slots_forward(struct aml *a, const struct acpi_slots *s, const char *name, unsigned nargs, const char *suffix, unsigned slot, unsigned pass);
/* In a slot's device: _STA, _EJ0, _OST. */
void acpi_slots_device(struct aml *a, const struct acpi_slots *s, unsigned slot);
/* After the devices. */
void acpi_slots_scan(struct aml *a, const struct acpi_slots *s);
/* At the root: the general-purpose event that says that a slot has changed. */
void acpi_slots_event(struct aml *a, const struct acpi_slots *s);
