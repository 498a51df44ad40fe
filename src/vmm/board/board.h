/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines by name (-machine NAME): which hardware, where, and how it starts. */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct machine;

struct board {
    const char *name; /* -machine NAME; aliases are further rows */
    const char *help; /* one line */
    /* RAM, CPUs (machine_create_cpus), chipset, buses. Then -device. What it made goes with machine_destroy, also when it
     * fails. */
    bool (*create)(struct machine *m, GError **error);
    /* After -device: firmware tables, boot files read and checked. Then machine_main. */
    bool (*finish)(struct machine *m, GError **error);
    void (*destroy)(struct machine *m); /* before machine_destroy; may be NULL (boards end by machine->board_destroy) */
    unsigned max_cpus;
    bool pci;
    bool hotplug; /* vCPUs may come and go at run time */
};

const struct board *board_find(const char *name); /* NULL: the default, q35 */
const struct board *const *board_list(void);      /* NULL-terminated */
