/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Mouse"), with the wheel of Microsoft's IntelliMouse: a driver that sets the
 * sampling rates 200, 100, 80 one after the other gets the identity 3 and packets of four bytes. */
#include "vmm/dev/i8042.h"
#include "vmm/display/display.h"

enum { ACK = 0xfa, RESEND = 0xfe, FLAG_ON = 0x20, FLAG_REMOTE = 0x40, FLAG_SCALING = 0x10, WITH_WHEEL = 3, STEP = 127, PACKETS = 16, FAR = 1 << 16 };

static void put(struct i8042 *k, uint8_t value) { ps2_put(k, &k->aux, value); }

/* Takes up to `limit` either way out of *rest. */
static int take(int32_t *rest, int limit)
{
    int v = CLAMP(*rest, -limit, limit);
    *rest -= v;
    return v;
}

static void put_packet(struct i8042 *k)
{
    int dx = take(&k->dx, STEP), dy = -take(&k->dy, STEP), dz = take(&k->dz, 7);
    uint8_t packet[] = { (uint8_t)(0x08 | k->buttons | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)), (uint8_t)dx, (uint8_t)dy, (uint8_t)dz };
    unsigned size = k->aux_id == WITH_WHEEL ? 4 : 3;
    k->reported = k->buttons;
    /* all of it before the first byte goes on, which would ask for more */
    for (unsigned i = 0; i < size; i++)
        k->aux.data[(k->aux.head + k->aux.count++) % PS2_QUEUE] = packet[i];
}

void ps2_mouse_report(struct i8042 *k)
{
    if (!k->aux_id)
        k->dz = 0;
    if (!(k->aux_flags & FLAG_ON) || (k->aux_flags & FLAG_REMOTE) || k->aux_wrap)
        return;
    while ((k->dx || k->dy || k->dz || k->buttons != k->reported) && k->aux.count + 4 <= (k->buttons != k->reported ? PS2_QUEUE : PACKETS))
        put_packet(k);
}

void ps2_mouse_motion(struct i8042 *k, int dx, int dy, unsigned buttons)
{
    static const struct { unsigned from; uint8_t to; } bits[] = { { DISPLAY_BUTTON_LEFT, 1 }, { DISPLAY_BUTTON_RIGHT, 2 }, { DISPLAY_BUTTON_MIDDLE, 4 } };
    k->dx = CLAMP(k->dx + CLAMP(dx, -FAR, FAR), -FAR, FAR);
    k->dy = CLAMP(k->dy + CLAMP(dy, -FAR, FAR), -FAR, FAR);
    k->dz += (buttons & DISPLAY_BUTTON_WHEEL_DOWN ? 1 : 0) - (buttons & DISPLAY_BUTTON_WHEEL_UP ? 1 : 0);
    k->dz = CLAMP(k->dz, -STEP, STEP);
    k->buttons = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++)
        k->buttons |= buttons & bits[i].from ? bits[i].to : 0;
    if (!(k->aux_flags & FLAG_ON))
        k->dx = k->dy = k->dz = 0; /* nobody wants to know */
    ps2_mouse_report(k);
    i8042_fill(k);
}

bool ps2_mouse_sane(const struct i8042 *k)
{
    return ABS(k->dx / 2) <= FAR / 2 && ABS(k->dy / 2) <= FAR / 2 && ABS(k->dz / 2) <= STEP / 2 && k->buttons <= 7 && k->reported <= 7 &&
           (k->aux_id == 0 || k->aux_id == WITH_WHEEL);
}

/* ---- commands ---- */

static void set_rate(struct i8042 *k, uint8_t rate)
{
    static const uint8_t sequence[] = { 200, 100, 80 };
    k->sample_rate = rate;
    k->knocks = rate == sequence[k->knocks] ? k->knocks + 1 : rate == sequence[0];
    if (k->knocks == sizeof(sequence)) {
        k->aux_id = WITH_WHEEL;
        k->knocks = 0;
    }
}

static void set_defaults(struct i8042 *k)
{
    k->sample_rate = 100;
    k->resolution = 2;
    k->aux_flags = 0;
    k->dx = k->dy = k->dz = 0;
    k->aux.count = 0;
}

void ps2_mouse_reset(struct i8042 *k)
{
    set_defaults(k);
    k->aux.head = k->aux_pending = k->aux_id = k->knocks = k->buttons = k->reported = 0;
    k->aux_wrap = false;
}

static void put_status(struct i8042 *k)
{
    /* buttons of the status byte: left 4, right 1, middle 2 */
    uint8_t buttons = (uint8_t)((k->buttons & 1) << 2 | (k->buttons & 2) >> 1 | (k->buttons & 4) >> 1);
    put(k, k->aux_flags | buttons);
    put(k, k->resolution);
    put(k, k->sample_rate);
}

static bool known(uint8_t value)
{
    return value >= 0xe6 && value != 0xed && value != 0xef && value != 0xf1 && value != 0xf7 && value != 0xf8 && value != 0xf9 && value < 0xfa;
}

static void command(struct i8042 *k, uint8_t value)
{
    switch (value) {
    case 0xf6: set_defaults(k); break;
    case 0xf4: k->aux_flags |= FLAG_ON; break;
    case 0xf5: k->aux_flags &= (uint8_t)~FLAG_ON; break;
    case 0xe6: k->aux_flags &= (uint8_t)~FLAG_SCALING; break;
    case 0xe7: k->aux_flags |= FLAG_SCALING; break;
    case 0xf0: k->aux_flags |= FLAG_REMOTE; break;
    case 0xea: k->aux_flags &= (uint8_t)~FLAG_REMOTE; break;
    case 0xee: k->aux_wrap = true; break;
    case 0xe8: case 0xf3: k->aux_pending = value; break;
    }
}

void ps2_mouse_write(struct i8042 *k, uint8_t value)
{
    uint8_t pending = k->aux_pending;
    k->aux_pending = 0;
    if (k->aux_wrap && value != 0xff && value != 0xec) {
        put(k, value);
        return;
    }
    if (pending) {
        if (pending == 0xf3)
            set_rate(k, value);
        else
            k->resolution = value & 3;
        put(k, ACK);
        return;
    }
    if (value == 0xff)
        ps2_mouse_reset(k);
    else
        command(k, value);
    k->aux_wrap &= value != 0xec;
    put(k, value == 0xff || known(value) ? ACK : RESEND);
    switch (value) {
    case 0xff:
        put(k, 0xaa);
        put(k, 0x00);
        break;
    case 0xf2: put(k, k->aux_id); break;
    case 0xe9: put_status(k); break;
    case 0xeb:
        put_packet(k);
        i8042_fill(k);
        break;
    }
}
