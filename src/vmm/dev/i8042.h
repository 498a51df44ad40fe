/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keyboard and mouse controller at ports 60h and 64h, with a PS/2 keyboard and mouse, which people use through the display. */
#pragma once

#include "vmm/core/device.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"

struct device *i8042_create(struct machine *m, struct irq_line irq1, struct irq_line irq12, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- between the controller and what is plugged into it; the device's lock is held ---- */

#define PS2_QUEUE 128 /* more than hardware has: viewers type faster than people */

struct ps2_queue { uint8_t data[PS2_QUEUE], head, count; };

struct i8042 {
    struct device dev;
    struct irq_line irq1, irq12;
    struct io_window data, command;
    uint8_t mode, status, outport;
    uint8_t pending_command; /* controller command that waits for its byte on port 60h */
    uint8_t out, own;        /* the output buffer; the controller's own next word */
    bool full, from_aux, own_full, own_aux;
    struct ps2_queue kbd, aux;
    /* keyboard */
    uint8_t kbd_pending;     /* command that waits for its parameter */
    uint8_t scan_set, leds;
    bool kbd_off;
    /* mouse */
    uint8_t aux_pending, sample_rate, resolution;
    uint8_t aux_flags;       /* status byte 0 of E9h */
    uint8_t aux_id;          /* 0: PS/2, 3: with a wheel */
    bool aux_wrap;
    uint8_t knocks;          /* how much of the sequence of rates that asks for the wheel has come */
    uint8_t buttons, reported; /* bits of a packet: those that are down, those that the guest knows of */
    int32_t dx, dy, dz;      /* not yet reported; y grows downwards */
};

/* A byte for the guest. */
void ps2_put(struct i8042 *k, struct ps2_queue *q, uint8_t value);
/* The next byte of a queue into the output buffer, if that is empty. */
void i8042_fill(struct i8042 *k);
/* Whether the controller makes scan codes of set 1 of those of set 2. */
bool i8042_translates(const struct i8042 *k);

void ps2_keyboard_write(struct i8042 *k, uint8_t value);
void ps2_keyboard_reset(struct i8042 *k);
void ps2_keyboard_key(struct i8042 *k, unsigned code, bool down); /* KEY_... */

void ps2_mouse_write(struct i8042 *k, uint8_t value);
void ps2_mouse_reset(struct i8042 *k);
void ps2_mouse_motion(struct i8042 *k, int dx, int dy, unsigned buttons); /* DISPLAY_BUTTON_... */
bool ps2_mouse_sane(const struct i8042 *k); /* what came from a saved machine */
/* Reports what has moved, as far as the queue has room for packets. */
void ps2_mouse_report(struct i8042 *k);
