/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)"): commands, and scan codes of set 2, or
 * of set 1, which is also what the controller makes of set 2 where it translates. */
#include <linux/input-event-codes.h>

#include "vmm/dev/i8042.h"

enum { ACK = 0xfa, RESEND = 0xfe, EXTENDED = 0x80, BREAK_1 = 0x80, BREAK_2 = 0xf0 };

static void put(struct i8042 *k, uint8_t value) { ps2_put(k, &k->kbd, value); }

/* By code of set 1: the code of set 2. */
static const uint8_t set2[0x80] = {
    0, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d, /* 00: -, Esc, 1 to 0, -, =, Backspace, Tab */
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b, /* 10: Q to P, [, ], Enter, Ctrl, A, S */
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a, /* 20: D to L, ;, ', `, Shift, \, Z to V */
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03, /* 30: B to /, Shift, *, Alt, Space, Caps, F1 to F5 */
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69, /* 40: F6 to F10, Num, Scroll, keypad */
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, /* 50: keypad, SysRq, -, 102nd, F11, F12, -, -, Meta, Meta, Menu, Power, Sleep */
    [0x63] = 0x5e, [0x70] = 0x13, [0x73] = 0x51, [0x79] = 0x64, [0x7b] = 0x67, [0x7d] = 0x6a,
};

/* The code of set 1, EXTENDED where E0 stands before it; 0: the keyboard has no such key. Up to F10 and the keypad, and F11 and F12, the
 * kernel's codes are those of set 1. */
static unsigned set1(unsigned key)
{
    static const uint8_t above[] = {
        [KEY_RO] = 0x73, [KEY_HENKAN] = 0x79, [KEY_KATAKANAHIRAGANA] = 0x70, [KEY_MUHENKAN] = 0x7b, [KEY_YEN] = 0x7d,
        [KEY_KPENTER] = EXTENDED | 0x1c, [KEY_RIGHTCTRL] = EXTENDED | 0x1d, [KEY_KPSLASH] = EXTENDED | 0x35, [KEY_SYSRQ] = EXTENDED | 0x37,
        [KEY_RIGHTALT] = EXTENDED | 0x38, [KEY_HOME] = EXTENDED | 0x47, [KEY_UP] = EXTENDED | 0x48, [KEY_PAGEUP] = EXTENDED | 0x49,
        [KEY_LEFT] = EXTENDED | 0x4b, [KEY_RIGHT] = EXTENDED | 0x4d, [KEY_END] = EXTENDED | 0x4f, [KEY_DOWN] = EXTENDED | 0x50,
        [KEY_PAGEDOWN] = EXTENDED | 0x51, [KEY_INSERT] = EXTENDED | 0x52, [KEY_DELETE] = EXTENDED | 0x53, [KEY_MUTE] = EXTENDED | 0x20,
        [KEY_VOLUMEDOWN] = EXTENDED | 0x2e, [KEY_VOLUMEUP] = EXTENDED | 0x30, [KEY_POWER] = EXTENDED | 0x5e, [KEY_LEFTMETA] = EXTENDED | 0x5b,
        [KEY_RIGHTMETA] = EXTENDED | 0x5c, [KEY_COMPOSE] = EXTENDED | 0x5d, [KEY_SLEEP] = EXTENDED | 0x5f, [KEY_WAKEUP] = EXTENDED | 0x63,
    };
    if (key <= KEY_KPDOT || (key >= KEY_102ND && key <= KEY_F12))
        return key;
    return key < G_N_ELEMENTS(above) ? above[key] : 0;
}

/* Pause has no break code: its six or eight bytes are sent when it goes down. */
static void put_pause(struct i8042 *k, bool first_set)
{
    static const uint8_t one[] = { 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5 }, two[] = { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 };
    for (unsigned i = 0; i < (first_set ? sizeof(one) : sizeof(two)); i++)
        put(k, first_set ? one[i] : two[i]);
}

void ps2_keyboard_key(struct i8042 *k, unsigned code, bool down)
{
    unsigned c = set1(code);
    bool first_set = k->scan_set == 1 || i8042_translates(k);
    if (k->kbd_off || k->kbd.count + 8 > PS2_QUEUE) /* whole codes, or none */
        return;
    if (code == KEY_PAUSE && down)
        put_pause(k, first_set);
    if (!c)
        return;
    if (c & EXTENDED)
        put(k, 0xe0);
    if (first_set) {
        put(k, (uint8_t)((c & 0x7f) | (down ? 0 : BREAK_1)));
        return;
    }
    if (!down)
        put(k, BREAK_2);
    put(k, set2[c & 0x7f]);
}

/* ---- commands ---- */

static void parameter(struct i8042 *k, uint8_t command, uint8_t value)
{
    if (command == 0xf0 && value > 2) {
        put(k, RESEND); /* there is no set 3 */
        return;
    }
    put(k, ACK);
    if (command == 0xf0 && value == 0)
        put(k, k->scan_set);
    else if (command == 0xf0)
        k->scan_set = value;
    else if (command == 0xed)
        k->leds = value & 7;
}

static void set_defaults(struct i8042 *k)
{
    k->scan_set = 2;
    k->leds = 0;
    k->kbd.count = 0;
}

void ps2_keyboard_reset(struct i8042 *k)
{
    set_defaults(k);
    k->kbd.head = k->kbd_pending = 0;
    k->kbd_off = false;
}

void ps2_keyboard_write(struct i8042 *k, uint8_t value)
{
    uint8_t pending = k->kbd_pending;
    k->kbd_pending = 0;
    if (pending && value < 0xed) {
        parameter(k, pending, value);
        return;
    }
    switch (value) {
    case 0xff:
        ps2_keyboard_reset(k);
        put(k, ACK);
        put(k, 0xaa);
        break;
    case 0xee:
        put(k, 0xee);
        break;
    case 0xf2:
        put(k, ACK);
        put(k, 0xab);
        put(k, i8042_translates(k) ? 0x41 : 0x83);
        break;
    case 0xf4: case 0xf5: case 0xf6:
        if (value != 0xf4)
            set_defaults(k);
        k->kbd_off = value == 0xf5;
        put(k, ACK);
        break;
    case 0xed: case 0xf0: case 0xf3: case 0xfb: case 0xfc: case 0xfd:
        k->kbd_pending = value;
        put(k, ACK);
        break;
    case 0xf7: case 0xf8: case 0xf9: case 0xfa:
        put(k, ACK);
        break;
    default:
        put(k, RESEND); /* not a command */
    }
}
