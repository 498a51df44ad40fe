/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Intel 8042 as in the IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller". */
#include "vmm/dev/i8042.h"

#include "base/log.h"
#include "vmm/core/machine.h"

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

#define QUEUE 32

struct i8042 {
    struct device dev;
    struct irq_line irq1, irq12;
    struct io_window data, command;
    uint8_t mode, status, outport;
    uint8_t pending_command; /* controller command that waits for its byte on port 60h */
    uint8_t kbd_pending, aux_pending; /* device command that waits for its parameter */
    uint8_t scan_set, leds;
    uint8_t sample_rate, resolution, aux_flags; /* aux_flags: status byte 0 of E9h */
    uint8_t head, count;
    uint8_t queue[QUEUE], from_aux[QUEUE];
};

static void update(struct i8042 *k)
{
    bool obf = k->count, aux = obf && k->from_aux[k->head];
    k->status = (k->status & (uint8_t)~(ST_OBF | ST_AUX)) | (obf ? ST_OBF : 0) | (aux ? ST_AUX : 0);
    irq_set(&k->irq1, obf && !aux && (k->mode & MODE_IRQ_KBD));
    irq_set(&k->irq12, aux && (k->mode & MODE_IRQ_AUX));
}

static void put(struct i8042 *k, bool aux, uint8_t value)
{
    if (k->count == QUEUE)
        return; /* as a full keyboard buffer */
    unsigned at = (k->head + k->count++) % QUEUE;
    k->queue[at] = value;
    k->from_aux[at] = aux;
    update(k);
}

/* PS/2 keyboard commands. */
static void keyboard_write(struct i8042 *k, uint8_t value)
{
    uint8_t pending = k->kbd_pending;
    k->kbd_pending = 0;
    if (pending && value < 0xed) {
        put(k, false, 0xfa);
        if (pending == 0xf0 && value == 0)
            put(k, false, k->scan_set);
        else if (pending == 0xf0)
            k->scan_set = value <= 3 ? value : k->scan_set;
        else if (pending == 0xed)
            k->leds = value & 7;
        return;
    }
    switch (value) {
    case 0xff:
        k->scan_set = 2;
        put(k, false, 0xfa);
        put(k, false, 0xaa);
        break;
    case 0xee:
        put(k, false, 0xee);
        break;
    case 0xf2:
        put(k, false, 0xfa);
        put(k, false, 0xab);
        put(k, false, 0x83);
        break;
    case 0xed: case 0xf0: case 0xf3: case 0xfb: case 0xfc: case 0xfd:
        k->kbd_pending = value;
        put(k, false, 0xfa);
        break;
    case 0xf4: case 0xf5: case 0xf6: case 0xf7: case 0xf8: case 0xf9: case 0xfa:
        put(k, false, 0xfa);
        break;
    default:
        put(k, false, 0xfe); /* resend: not a command */
    }
}

/* PS/2 mouse commands. */
static void mouse_write(struct i8042 *k, uint8_t value)
{
    uint8_t pending = k->aux_pending;
    k->aux_pending = 0;
    if (pending) {
        if (pending == 0xf3)
            k->sample_rate = value;
        else
            k->resolution = value & 3;
        put(k, true, 0xfa);
        return;
    }
    put(k, true, value >= 0xe6 && value != 0xf1 ? 0xfa : 0xfe);
    switch (value) {
    case 0xff:
        put(k, true, 0xaa);
        put(k, true, 0x00);
        /* fall through */
    case 0xf6:
        k->sample_rate = 100;
        k->resolution = 2;
        k->aux_flags = 0;
        break;
    case 0xf4: k->aux_flags |= 0x20; break;
    case 0xf5: k->aux_flags &= 0xdf; break;
    case 0xe6: k->aux_flags &= 0xef; break;
    case 0xe7: k->aux_flags |= 0x10; break;
    case 0xf0: k->aux_flags |= 0x40; break;
    case 0xea: k->aux_flags &= 0xbf; break;
    case 0xf2:
        put(k, true, 0x00);
        break;
    case 0xe8: case 0xf3:
        k->aux_pending = value;
        break;
    case 0xe9:
        put(k, true, k->aux_flags);
        put(k, true, k->resolution);
        put(k, true, k->sample_rate);
        break;
    case 0xeb:
        put(k, true, 0x08);
        put(k, true, 0x00);
        put(k, true, 0x00);
        break;
    }
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
        update(k);
        break;
    case 0xd1: set_outport(k, value); break;
    case 0xd2: put(k, false, value); break;
    case 0xd3: put(k, true, value); break;
    case 0xd4:
        k->mode &= (uint8_t)~MODE_NO_AUX;
        mouse_write(k, value);
        break;
    }
}

static void controller_command(struct i8042 *k, uint8_t c)
{
    k->pending_command = 0;
    switch (c) {
    case 0x20: put(k, false, k->mode); break;
    case 0x60: case 0xd1: case 0xd2: case 0xd3: case 0xd4: k->pending_command = c; break;
    case 0xa7: k->mode |= MODE_NO_AUX; break;
    case 0xa8: k->mode &= (uint8_t)~MODE_NO_AUX; break;
    case 0xa9: put(k, false, 0x00); break;
    case 0xaa:
        k->status |= ST_SYS;
        put(k, false, 0x55);
        break;
    case 0xab: put(k, false, 0x00); break;
    case 0xad: k->mode |= MODE_NO_KBD; break;
    case 0xae: k->mode &= (uint8_t)~MODE_NO_KBD; break;
    case 0xc0: put(k, false, 0x80); break;
    case 0xd0: put(k, false, k->outport | (k->count ? 0x10 : 0)); break;
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
    uint8_t v = k->queue[k->head];
    if (k->count) {
        /* The line falls between two bytes: each is an edge of its own. */
        irq_set(&k->irq1, false);
        irq_set(&k->irq12, false);
        k->count--;
        if (k->count)
            k->head = (k->head + 1) % QUEUE;
        update(k);
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
        keyboard_write(k, (uint8_t)value);
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
    k->mode = MODE_IRQ_KBD | MODE_IRQ_AUX | MODE_SYS;
    k->status = ST_UNLOCKED | ST_SYS | ST_CMD;
    k->outport = 0xcf;
    k->pending_command = k->kbd_pending = k->aux_pending = k->leds = k->aux_flags = k->head = k->count = 0;
    k->scan_set = 2;
    k->sample_rate = 100;
    k->resolution = 2;
    k->queue[0] = 0;
    update(k);
    g_mutex_unlock(&d->lock);
}

static bool i8042_realize(struct device *d, GError **error)
{
    struct i8042 *k = (struct i8042 *)d;
    k->data = (struct io_window){ .name = "i8042-data", .ops = &data_ops, .opaque = k, .lock = &d->lock, .size = 1, .port = true };
    k->command = (struct io_window){ .name = "i8042-command", .ops = &command_ops, .opaque = k, .lock = &d->lock, .size = 1, .port = true };
    io_window_map(d->machine->memory, &k->data, 0x60);
    io_window_map(d->machine->memory, &k->command, 0x64);
    return true;
}

static void i8042_unrealize(struct device *d)
{
    struct i8042 *k = (struct i8042 *)d;
    io_window_unmap(d->machine->memory, &k->data);
    io_window_unmap(d->machine->memory, &k->command);
}

static const struct device_field i8042_fields[] = {
    DEVICE_FIELD(struct i8042, mode), DEVICE_FIELD(struct i8042, status), DEVICE_FIELD(struct i8042, outport),
    DEVICE_FIELD(struct i8042, pending_command), DEVICE_FIELD(struct i8042, kbd_pending), DEVICE_FIELD(struct i8042, aux_pending),
    DEVICE_FIELD(struct i8042, scan_set), DEVICE_FIELD(struct i8042, leds), DEVICE_FIELD(struct i8042, sample_rate),
    DEVICE_FIELD(struct i8042, resolution), DEVICE_FIELD(struct i8042, aux_flags), DEVICE_FIELD(struct i8042, head),
    DEVICE_FIELD(struct i8042, count), DEVICE_ARRAY(struct i8042, queue), DEVICE_ARRAY(struct i8042, from_aux), { 0 }
};

static const struct device_class i8042_class = {
    .name = "i8042", .help = "keyboard controller", .size = sizeof(struct i8042), .fields = i8042_fields,
    .realize = i8042_realize, .reset = i8042_reset, .unrealize = i8042_unrealize,
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
