/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An interrupt wire: a level from a device to an input of a controller. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct irq_line {
    void (*set)(void *opaque, unsigned input, bool level);
    void *opaque;
    unsigned input;
};
static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l && l->set)
        l->set(l->opaque, l->input, level);
}
/* An edge. */
static inline void irq_pulse(const struct irq_line *l)
{
    irq_set(l, true);
    irq_set(l, false);
}
/* A message-signalled interrupt goes to this sink (the board connects it to the local APICs): address and data as in
 * SDM vol. 3, 10.11. */
struct msi_sink {
    void (*send)(void *opaque, uint64_t address, uint32_t data);
    void *opaque;
};
