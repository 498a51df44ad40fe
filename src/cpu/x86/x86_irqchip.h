/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The canonical state of a PC's interrupt controllers and its 8254 timer, for when they move between the machine's own
 * devices and an accelerator that has them inside. Data only, host byte order.
 */
#pragma once

#include <stdint.h>

#define X86_IOAPIC_PINS 24

/* One local APIC. regs[i] is the 32-bit register at offset 16 * i of its page (SDM vol. 3, table 10-1); in x2APIC mode too,
 * with the 32-bit id in regs[2] and ICR high in regs[0x31]. regs[0x39], the current count, counts down from the moment of
 * setting on. */
struct x86_lapic {
    uint64_t base;         /* IA32_APIC_BASE */
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE, guest TSC; 0: not armed */
    uint32_t regs[64];
};

/* 82093AA. */
struct x86_ioapic {
    uint32_t id, select;               /* id register's bits 24-27 as a number; IOREGSEL */
    uint32_t level;                    /* inputs pulled now, one bit each */
    uint64_t redirection[X86_IOAPIC_PINS]; /* remote IRR and delivery status included */
};

/* One 8259A. */
struct x86_pic {
    uint8_t last_irr;  /* inputs as last seen, for edges */
    uint8_t irr, imr, isr;
    uint8_t priority_add; /* the input of highest priority */
    uint8_t irq_base, read_isr, poll, special_mask;
    uint8_t init_state; /* 0: working, else the initialisation word that comes next: 2, 3, 4 -> 1, 2, 3 */
    uint8_t auto_eoi, rotate_on_auto_eoi, special_fully_nested, init4;
    uint8_t elcr, elcr_mask;
};

/* One counter of the 8254. */
struct x86_pit_channel {
    uint32_t count;       /* 1 to 65536; 0: none loaded since the mode was set */
    uint16_t latched_count;
    /* States: 0 none, 1 low byte, 2 high byte, 3 low byte of two, 4 high byte of two; count_latched: what is still to be read, 3
     * for both bytes. rw_mode as in the control word: 1 low, 2 high, 3 both. */
    uint8_t count_latched, status_latched, status, read_state, write_state, write_latch, rw_mode, mode, bcd, gate;
    uint64_t age_ns;      /* time since the counter was loaded, while the machine ran */
};

struct x86_irqchip {
    struct x86_ioapic ioapic;
    struct x86_pic pic[2]; /* first, second */
    struct x86_pit_channel pit[3];
    uint8_t pit_speaker;    /* bit 0: gate of channel 2; bit 1: speaker data (port 61h) */
    uint8_t pit_irq_off;    /* the HPET has taken over interrupt 0 */
};
