/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8042 as in the IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller". The keyboard and the
 * mouse behind it are in i8042_keyboard.c and i8042_mouse.c; each has a queue of bytes for the controller, which takes one at a time into
 * its output buffer, the keyboard's first; what the controller itself says goes before them.
 */
#include "vmm/dev/i8042.h"

#include "base/log.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/display/display.h"

#define ST_OBF 0x01u
#define ST_SYS 0x04u
#define ST_CMD 0x08u
#define ST_UNLOCKED 0x10u
#define ST_AUX 0x20u

#define MODE_IRQ_KBD 0x01u
#define MODE_IRQ_AUX 0x02u
#define MODE_SYS     0x04u
#define MODE_NO_KBD  0x10u
#define MODE_NO_AUX  0x20u
#define MODE_TRANSLATE 0x40u

static void update(struct i8042 *k)
{
    bool aux = k->full && k->from_aux;
    k->status = (k->status & (uint8_t)~(ST_OBF | ST_AUX)) | (k->full ? ST_OBF : 0) | (aux ? ST_AUX : 0);
    irq_set(&k->irq1, k->full && !aux && (k->mode & MODE_IRQ_KBD));
    irq_set(&k->irq12, aux && (k->mode & MODE_IRQ_AUX));
}

static uint8_t ps2_queue_get(struct ps2_queue *q)
{
    uint8_t value = q->data[q->head];
    q->head = (q->head + 1) % PS2_QUEUE;
    q->count--;
    return value;
}

void i8042_fill(struct i8042 *k)
{
    if (!k->full && k->own_full) {
        k->out = k->own;
        k->from_aux = k->own_aux;
        k->full = true;
        k->own_full = false;
    } else if (!k->full && k->kbd.count && !(k->mode & MODE_NO_KBD)) {
        k->out = ps2_queue_get(&k->kbd);
        k->from_aux = false;
        k->full = true;
    } else if (!k->full && k->aux.count && !(k->mode & MODE_NO_AUX)) {
        k->out = ps2_queue_get(&k->aux);
        k->from_aux = k->full = true;
        ps2_mouse_report(k); /* there is room for what has moved meanwhile */
    }
    update(k);
}

void ps2_put(struct i8042 *k, struct ps2_queue *q, uint8_t value)
{
    if (q->count < PS2_QUEUE) /* what a full queue does not take is lost, as in a keyboard */
        q->data[(q->head + q->count++) % PS2_QUEUE] = value;
    i8042_fill(k);
}

bool i8042_translates(const struct i8042 *k) { return k->mode & MODE_TRANSLATE; }

/* What the controller has to say. */
static void say(struct i8042 *k, bool aux, uint8_t value)
{
    k->own = value;
    k->own_aux = aux;
    k->own_full = true;
    i8042_fill(k);
}

static void set_outport(struct i8042 *k, uint8_t value)
{
    k->outport = value; /* A20 (bit 1) is remembered; this machine's A20 is always on */
    if (!(value & 1))
        machine_request_reset(k->dev.machine, CAUSE_GUEST_RESET);
}

static void controller_data(struct i8042 *k, uint8_t command, uint8_t value)
{
    switch (command) {
    case 0x60:
        k->mode = value;
        k->status = (k->status & (uint8_t)~ST_SYS) | (value & MODE_SYS);
        i8042_fill(k);
        break;
    case 0xd1: set_outport(k, value); break;
    case 0xd2: say(k, false, value); break;
    case 0xd3: say(k, true, value); break;
    case 0xd4:
        k->mode &= (uint8_t)~MODE_NO_AUX;
        ps2_mouse_write(k, value);
        break;
    }
}

static void controller_command(struct i8042 *k, uint8_t c)
{
    k->pending_command = 0;
    switch (c) {
    case 0x20: say(k, false, k->mode); break;
    case 0x60: case 0xd1: case 0xd2: case 0xd3: case 0xd4: k->pending_command = c; break;
    case 0xa7: k->mode |= MODE_NO_AUX; break;
    case 0xa8:
        k->mode &= (uint8_t)~MODE_NO_AUX;
        i8042_fill(k);
        break;
    case 0xa9: say(k, false, 0x00); break;
    case 0xaa:
        k->status |= ST_SYS;
        say(k, false, 0x55);
        break;
    case 0xab: say(k, false, 0x00); break;
    case 0xad: k->mode |= MODE_NO_KBD; break;
    case 0xae:
        k->mode &= (uint8_t)~MODE_NO_KBD;
        i8042_fill(k);
        break;
    case 0xc0: say(k, false, 0x80); break;
    case 0xd0: say(k, false, k->outport | (k->full ? 0x10 : 0)); break;
    case 0xdd: k->outport &= (uint8_t)~2; break;
    case 0xdf: k->outport |= 2; break;
    case 0xf0 ... 0xff:
        if (!(c & 1))
            machine_request_reset(k->dev.machine, CAUSE_GUEST_RESET); /* pulses bit 0 of the output port: FEh */
        break;
    default:
        log_at(LOG_GUEST_ERRORS, "i8042: no command %#x", c);
    }
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8042 *k = opaque;
    uint8_t v = k->out; /* once more what was there, when nothing is */
    if (k->full) {
        /* The line falls between two bytes: each is an edge of its own. */
        irq_set(&k->irq1, false);
        irq_set(&k->irq12, false);
        k->full = false;
        i8042_fill(k);
    }
    return v;
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = opaque;
    k->status &= (uint8_t)~ST_CMD;
    uint8_t command = k->pending_command;
    k->pending_command = 0;
    if (command) {
        controller_data(k, command, (uint8_t)value);
    } else {
        k->mode &= (uint8_t)~MODE_NO_KBD;
        ps2_keyboard_write(k, (uint8_t)value);
    }
}

static uint64_t command_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct i8042 *)opaque)->status;
}

static void command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = opaque;
    k->status |= ST_CMD;
    controller_command(k, (uint8_t)value);
}

static const struct io_ops data_ops = { data_read, data_write, 1, 1 }, command_ops = { command_read, command_write, 1, 1 };

static void i8042_reset(struct device *d)
{
    struct i8042 *k = (struct i8042 *)d;
    g_mutex_lock(&d->lock);
    k->mode = MODE_IRQ_KBD | MODE_IRQ_AUX | MODE_SYS | MODE_TRANSLATE;
    k->status = ST_UNLOCKED | ST_SYS | ST_CMD;
    k->outport = 0xcf;
    k->pending_command = k->out = k->own = 0;
    k->full = k->from_aux = k->own_full = k->own_aux = false;
    ps2_keyboard_reset(k);
    ps2_mouse_reset(k);
    update(k);
    g_mutex_unlock(&d->lock);
}

static bool i8042_load(struct device *d, struct state_reader *r, GError **error)
{
    struct i8042 *k = (struct i8042 *)d;
    if (k->kbd.head >= PS2_QUEUE || k->kbd.count > PS2_QUEUE || k->aux.head >= PS2_QUEUE || k->aux.count > PS2_QUEUE || k->knocks > 2 ||
        k->scan_set < 1 || k->scan_set > 2 || !ps2_mouse_sane(k))
        return state_bad(r, error, "a queue or a count is out of bounds");
    update(k);
    return true;
}

/* ---- from people ---- */

static void take_key(void *opaque, unsigned code, bool down)
{
    struct i8042 *k = opaque;
    g_mutex_lock(&k->dev.lock);
    ps2_keyboard_key(k, code, down);
    g_mutex_unlock(&k->dev.lock);
}

static void take_motion(void *opaque, int dx, int dy, unsigned buttons)
{
    struct i8042 *k = opaque;
    g_mutex_lock(&k->dev.lock);
    ps2_mouse_motion(k, dx, dy, buttons);
    g_mutex_unlock(&k->dev.lock);
}

/* ---- life ---- */

static bool i8042_realize(struct device *d, GError **error)
{
    struct i8042 *k = (struct i8042 *)d;
    k->data = (struct io_window){ .name = "i8042-data", .ops = &data_ops, .opaque = k, .lock = &d->lock, .size = 1, .port = true };
    k->command = (struct io_window){ .name = "i8042-command", .ops = &command_ops, .opaque = k, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &k->data, 0x60);
    io_window_map(d->machine->memory, &k->command, 0x64);
    display_add_input(display_of(d->machine), &(struct display_input){ .key = take_key, .motion = take_motion, .opaque = k, .name = "Vireo PS/2 mouse" });
    return true;
}

static void i8042_unrealize(struct device *d)
{
    struct i8042 *k = (struct i8042 *)d;
    display_remove_input(display_of(d->machine), k);
    io_window_unmap(d->machine->memory, &k->data);
    io_window_unmap(d->machine->memory, &k->command);
}

#define T struct i8042
static const struct device_field i8042_fields[] = {
    DEVICE_FIELD(T, mode), DEVICE_FIELD(T, status), DEVICE_FIELD(T, outport), DEVICE_FIELD(T, pending_command), DEVICE_FIELD(T, out),
    DEVICE_FIELD(T, own), DEVICE_FIELD(T, full), DEVICE_FIELD(T, from_aux), DEVICE_FIELD(T, own_full), DEVICE_FIELD(T, own_aux), DEVICE_FIELD(T,
    kbd.head), DEVICE_FIELD(T, kbd.count), DEVICE_FIELD(T, aux.head), DEVICE_FIELD(T, aux.count), DEVICE_FIELD(T, kbd_pending), DEVICE_FIELD(T,
    scan_set), DEVICE_FIELD(T, leds), DEVICE_FIELD(T, kbd_off), DEVICE_FIELD(T, aux_pending), DEVICE_FIELD(T, sample_rate), DEVICE_FIELD(T,
    resolution), DEVICE_FIELD(T, aux_flags), DEVICE_FIELD(T, aux_id), DEVICE_FIELD(T, aux_wrap), DEVICE_FIELD(T, knocks), DEVICE_FIELD(T,
    buttons), DEVICE_FIELD(T, reported), DEVICE_FIELD(T, dx), DEVICE_FIELD(T, dy), DEVICE_FIELD(T, dz), DEVICE_ARRAY(T, kbd.data),
    DEVICE_ARRAY(T, aux.data), { 0 }
};

static const struct device_class i8042_class = {
    .name = "i8042", .help = "keyboard controller", .size = sizeof(struct i8042), .fields = i8042_fields,
    .realize = i8042_realize, .reset = i8042_reset, .load = i8042_load, .unrealize = i8042_unrealize,
};

struct device *i8042_create(struct machine *m, struct irq_line irq1, struct irq_line irq12, GError **error)
{
    struct device *d = device_create(m, &i8042_class);
    ((struct i8042 *)d)->irq1 = irq1;
    ((struct i8042 *)d)->irq12 = irq12;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    i8042_reset(d);
    return d;
}
