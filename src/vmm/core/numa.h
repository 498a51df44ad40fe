/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's memory as its options describe it: of which back ends the RAM consists, and which guest NUMA node has which
 * memory and which vCPUs. The board maps the pieces and tells the guest (SRAT, SLIT). Main thread, before the board is made.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/keyval.h"

struct hostmem;
struct machine;

enum { NUMA_MAX_NODES = 128, NUMA_NO_NODE = 255, NUMA_DISTANCE_SELF = 10, NUMA_DISTANCE_FAR = 20 };

/* RAM in the order of guest addresses, holes left out. */
struct ram_piece {
    struct hostmem *mem;
    uint64_t size;
    uint8_t node;
};

struct numa {
    unsigned nnodes;                     /* 0: the guest sees no NUMA */
    uint8_t cpu_node[256];               /* by vCPU index, for every possible vCPU */
    uint8_t distance[NUMA_MAX_NODES][NUMA_MAX_NODES];
    bool distances;                      /* some were given: there is a SLIT */
};

/* -numa options in order (struct keyval *, "type" first). Fills m->numa and m->ram. */
bool numa_build(struct machine *m, const GPtrArray *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
