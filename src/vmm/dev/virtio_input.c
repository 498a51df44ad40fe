/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio input devices (virtio 1.2, 5.8): keyboard, mouse and tablet, as the guest's evdev sees them. */
#include <linux/input-event-codes.h>
#include <string.h>

#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/display/display.h"

enum { EVENTS, STATUS, QUEUE_SIZE = 64, BACKLOG = 256 };
/* 5.8.4: what config.select chooses */
enum { SELECT_NAME = 0x01, SELECT_SERIAL, SELECT_IDS, SELECT_PROPS = 0x10, SELECT_BITS, SELECT_ABS };

struct config { uint8_t select, subsel, size, reserved[5]; uint8_t data[128]; };
struct event { uint16_t type, code; uint32_t value; };

struct virtio_input {
    struct virtio_device v;
    struct display *display;
    uint8_t select, subsel;
    struct event waiting[BACKLOG]; /* for buffers of the guest; the newest are lost when it is full */
    unsigned nwaiting;
    unsigned buttons;
    unsigned x, y;
    char *serial;
};

extern const struct device_class virtio_keyboard_class, virtio_mouse_class, virtio_tablet_class;
static bool is_tablet(const struct virtio_input *in) { return in->v.dev.class == &virtio_tablet_class; }
static bool is_keyboard(const struct virtio_input *in) { return in->v.dev.class == &virtio_keyboard_class; }

/* ---- events; lock held ---- */

static void push_events(struct virtio_input *in)
{
    struct virtqueue *q = &in->v.queues[EVENTS];
    unsigned done = 0;
    struct virtio_chain *c;
    while (virtio_running(&in->v) && done < in->nwaiting && (c = virtqueue_pop(q))) {
        size_t n = virtio_chain_write(c, 0, &in->waiting[done], sizeof(in->waiting[done]));
        virtqueue_push(c, (uint32_t)n);
        done++;
    }
    if (!done)
        return;
    in->nwaiting -= done;
    memmove(in->waiting, in->waiting + done, in->nwaiting * sizeof(in->waiting[0]));
    virtqueue_interrupt(q);
}

static void put(struct virtio_input *in, uint16_t type, uint16_t code, uint32_t value)
{
    if (in->nwaiting < BACKLOG)
        in->waiting[in->nwaiting++] = (struct event){ type, code, value };
}

/* Room for a whole report, so that the guest never sees half of one. */
static bool room(const struct virtio_input *in) { return virtio_running(&in->v) && in->nwaiting + 12 < BACKLOG; }

static void key(void *opaque, unsigned code, bool down)
{
    struct virtio_input *in = opaque;
    g_mutex_lock(&in->v.dev.lock);
    if (room(in) && code <= KEY_MAX) {
        put(in, EV_KEY, (uint16_t)code, down);
        put(in, EV_SYN, SYN_REPORT, 0);
        push_events(in);
    }
    g_mutex_unlock(&in->v.dev.lock);
}

static void put_buttons(struct virtio_input *in, unsigned buttons)
{
    static const struct { unsigned bit, code; } keys[] = { { DISPLAY_BUTTON_LEFT, BTN_LEFT }, { DISPLAY_BUTTON_MIDDLE, BTN_MIDDLE }, { DISPLAY_BUTTON_RIGHT, BTN_RIGHT } };
    unsigned changed = buttons ^ in->buttons;
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (changed & keys[i].bit)
            put(in, EV_KEY, (uint16_t)keys[i].code, (buttons & keys[i].bit) != 0);
    if (changed & buttons & DISPLAY_BUTTON_WHEEL_UP)
        put(in, EV_REL, REL_WHEEL, 1);
    if (changed & buttons & DISPLAY_BUTTON_WHEEL_DOWN)
        put(in, EV_REL, REL_WHEEL, (uint32_t)-1);
    put(in, EV_SYN, SYN_REPORT, 0);
    in->buttons = buttons;
}

static void pointer(void *opaque, unsigned x, unsigned y, unsigned buttons)
{
    struct virtio_input *in = opaque;
    g_mutex_lock(&in->v.dev.lock);
    if (room(in)) {
        if (x != in->x)
            put(in, EV_ABS, ABS_X, x);
        if (y != in->y)
            put(in, EV_ABS, ABS_Y, y);
        in->x = x;
        in->y = y;
        put_buttons(in, buttons);
        push_events(in);
    }
    g_mutex_unlock(&in->v.dev.lock);
}

static void motion(void *opaque, int dx, int dy, unsigned buttons)
{
    struct virtio_input *in = opaque;
    g_mutex_lock(&in->v.dev.lock);
    if (room(in)) {
        if (dx)
            put(in, EV_REL, REL_X, (uint32_t)dx);
        if (dy)
            put(in, EV_REL, REL_Y, (uint32_t)dy);
        put_buttons(in, buttons);
        push_events(in);
    }
    g_mutex_unlock(&in->v.dev.lock);
}

static bool ready(void *opaque)
{
    struct virtio_input *in = opaque;
    g_mutex_lock(&in->v.dev.lock);
    bool running = virtio_running(&in->v);
    g_mutex_unlock(&in->v.dev.lock);
    return running;
}

/* ---- configuration (5.8.5.1) ---- */

static void set_bit(struct config *c, unsigned bit)
{
    c->data[bit / 8] |= (uint8_t)(1u << bit % 8);
    c->size = (uint8_t)MAX(c->size, bit / 8 + 1);
}

static void config_bits(const struct virtio_input *in, struct config *c, unsigned type)
{
    if (is_keyboard(in)) {
        if (type == EV_KEY)
            for (unsigned i = 1; i < 248; i++)
                set_bit(c, i);
        if (type == EV_REP)
            c->size = 1;
        return;
    }
    if (type == EV_KEY)
        for (unsigned i = BTN_LEFT; i <= BTN_MIDDLE; i++)
            set_bit(c, i);
    if (type == EV_ABS && is_tablet(in)) {
        set_bit(c, ABS_X);
        set_bit(c, ABS_Y);
    }
    if (type == EV_REL && !is_tablet(in)) {
        set_bit(c, REL_X);
        set_bit(c, REL_Y);
    }
    if (type == EV_REL)
        set_bit(c, REL_WHEEL);
}

static const char *name_of(const struct virtio_input *in)
{
    return is_keyboard(in) ? "Vireo virtio keyboard" : is_tablet(in) ? "Vireo virtio tablet" : "Vireo virtio mouse";
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    const struct virtio_input *in = (const struct virtio_input *)v;
    struct config c = { .select = in->select, .subsel = in->subsel };
    static const uint16_t ids[4] = { 0x06 /* BUS_VIRTUAL */, 0x1af4, 1, 1 };
    switch (in->select) {
    case SELECT_NAME:
        c.size = (uint8_t)g_strlcpy((char *)c.data, name_of(in), sizeof(c.data));
        break;
    case SELECT_SERIAL:
        c.size = in->serial ? (uint8_t)MIN(g_strlcpy((char *)c.data, in->serial, sizeof(c.data)), sizeof(c.data) - 1) : 0;
        break;
    case SELECT_IDS:
        memcpy(c.data, ids, c.size = sizeof(ids));
        break;
    case SELECT_BITS:
        config_bits(in, &c, in->subsel);
        break;
    case SELECT_ABS:
        if (is_tablet(in) && in->subsel <= ABS_Y) {
            const uint32_t range[5] = { 0, DISPLAY_POINTER_MAX };
            memcpy(c.data, range, c.size = sizeof(range));
        }
        break;
    }
    memcpy(ret, &c, sizeof(c));
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    struct virtio_input *in = (struct virtio_input *)v;
    for (unsigned i = 0; i < size; i++) {
        if (offset + i == 0)
            in->select = (uint8_t)(value >> 8 * i);
        if (offset + i == 1)
            in->subsel = (uint8_t)(value >> 8 * i);
    }
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_chain *c;
    if (queue == EVENTS) {
        push_events((struct virtio_input *)v);
        return;
    }
    for (unsigned i = 0; i < v->queues[queue].size && (c = virtqueue_pop(&v->queues[queue])); i++) { /* lamps of the keyboard: nobody sees them */
        virtqueue_push(c, 0);
        virtqueue_interrupt(&v->queues[queue]);
    }
}

static uint64_t features(struct virtio_device *v) { return 0; }

static void stop(struct virtio_device *v)
{
    struct virtio_input *in = (struct virtio_input *)v;
    in->nwaiting = in->buttons = 0;
    in->select = in->subsel = 0;
}

static bool realize(struct device *d, GError **error)
{
    static const uint16_t sizes[] = { QUEUE_SIZE, QUEUE_SIZE };
    struct virtio_input *in = (struct virtio_input *)d;
    if (!virtio_realize(&in->v, 2, sizes, error))
        return false;
    in->display = display_of(d->machine);
    const struct display_input take = { .key = is_keyboard(in) ? key : NULL, .pointer = is_tablet(in) ? pointer : NULL,
                                        .motion = is_keyboard(in) || is_tablet(in) ? NULL : motion, .opaque = in, .name = name_of(in), .ready = ready };
    display_add_input(in->display, &take);
    return true;
}

static void unrealize(struct device *d)
{
    struct virtio_input *in = (struct virtio_input *)d;
    display_remove_input(in->display, in);
    virtio_unrealize(&in->v);
}

/* Rows of type and code, value. */
static void save(struct device *d, struct state_writer *w)
{
    const struct virtio_input *in = (struct virtio_input *)d;
    uint32_t rows[BACKLOG][2];
    virtio_save(&((struct virtio_input *)d)->v, w);
    for (unsigned i = 0; i < in->nwaiting; i++) {
        rows[i][0] = in->waiting[i].type | (uint32_t)in->waiting[i].code << 16;
        rows[i][1] = in->waiting[i].value;
    }
    state_put(w, "waiting", rows, 4, in->nwaiting * 2);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_input *in = (struct virtio_input *)d;
    uint32_t rows[BACKLOG][2], n;
    if (!virtio_load(&in->v, r, error) || !state_get_some(r, "waiting", rows, 4, BACKLOG * 2, &n, error))
        return false;
    in->nwaiting = n / 2;
    for (unsigned i = 0; i < in->nwaiting; i++)
        in->waiting[i] = (struct event){ (uint16_t)rows[i][0], (uint16_t)(rows[i][0] >> 16), rows[i][1] };
    return true;
}

#define T struct virtio_input
static const struct device_prop props[] = { { "serial", PROP_STRING, offsetof(T, serial), .help = "serial number that the guest sees" }, VIRTIO_PCI_PROPS(T, "2"), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), DEVICE_FIELD(T, select), DEVICE_FIELD(T, subsel), DEVICE_FIELD(T, buttons), DEVICE_FIELD(T, x), DEVICE_FIELD(T, y), { NULL } };
#define CLASS(symbol, kind, subclass)                                                                                                                  \
    static const struct virtio_class symbol = { .name = kind, .id = VIRTIO_ID_INPUT, .pci_class = 0x09, .pci_subclass = subclass,                     \
                                                .config_size = sizeof(struct config), .features = features, .config_read = config_read,               \
                                                .config_write = config_write, .queue_notify = queue_notify, .stop = stop }
CLASS(keyboard, "virtio-keyboard", 0x00);
CLASS(mouse, "virtio-mouse", 0x02);
CLASS(tablet, "virtio-tablet", 0x02);

#define DEVICE(id, kind, text)                                                                                                                         \
    const struct device_class virtio_##id##_class = { .name = kind "-pci", .help = text, .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, \
                                                      .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset,      \
                                                      .unrealize = unrealize, .save = save, .load = load, .bus_class = &id }
DEVICE(keyboard, "virtio-keyboard", "virtio keyboard");
DEVICE(mouse, "virtio-mouse", "virtio mouse: a pointer that moves by so much");
DEVICE(tablet, "virtio-tablet", "virtio tablet: a pointer at absolute places");
