/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Human interface devices (Device Class Definition for HID 1.11, HID Usage Tables 1.12): usb-tablet, usb-mouse, usb-kbd. What people do
 * (vmm/display) waits in a short queue until the guest asks; motion that waits is joined. A report comes when something has changed,
 * whatever the idle rate says.
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/usb/usb.h"
#include "vmm/display/display.h"

enum { BACKLOG = 64, MAX_KEYS = 6, REPORT_IN = 0x81 };
enum { GET_REPORT = 1, GET_IDLE = 2, GET_PROTOCOL = 3, SET_REPORT = 9, SET_IDLE = 10, SET_PROTOCOL = 11 };
enum { D_HID = 0x21, D_REPORT = 0x22 };

/* A pointer: place (tablet) or motion (mouse), buttons, wheel. A key: usage in x, down in y. */
struct event {
    int16_t x, y;
    uint8_t buttons;
    int8_t wheel;
};

struct hid {
    struct usb_device u;
    struct display *display;
    struct event queue[BACKLOG];
    uint16_t nqueue;
    uint8_t idle, protocol;   /* protocol 1: reports as described, 0: boot protocol */
    uint8_t leds;
    struct event last;        /* what the guest knows of a pointer */
    uint8_t modifiers, keys[MAX_KEYS];
    unsigned raw_buttons;     /* the display's, with the wheel */
    char *display_name;
    uint64_t head;
};

/* ---- descriptors ---- */

static const uint8_t tablet_report[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00,                                     /* desktop, mouse; pointer */
    0x05, 0x09, 0x19, 0x01, 0x29, 0x03, 0x15, 0x00, 0x25, 0x01, 0x95, 0x03, 0x75, 0x01, 0x81, 0x02, /* three buttons */
    0x95, 0x01, 0x75, 0x05, 0x81, 0x01,
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x15, 0x00, 0x26, 0xff, 0x7f, 0x35, 0x00, 0x46, 0xff, 0x7f, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02, /* X, Y absolute */
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00, 0x75, 0x08, 0x95, 0x01, 0x81, 0x06, /* wheel */
    0xc0, 0xc0,
};
static const uint8_t mouse_report[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00,
    0x05, 0x09, 0x19, 0x01, 0x29, 0x03, 0x15, 0x00, 0x25, 0x01, 0x95, 0x03, 0x75, 0x01, 0x81, 0x02,
    0x95, 0x01, 0x75, 0x05, 0x81, 0x01,
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x75, 0x08, 0x95, 0x03, 0x81, 0x06, /* X, Y, wheel relative */
    0xc0, 0xc0,
};
static const uint8_t keyboard_report[] = {
    0x05, 0x01, 0x09, 0x06, 0xa1, 0x01,
    0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7, 0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02, /* modifiers */
    0x95, 0x01, 0x75, 0x08, 0x81, 0x01,
    0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x95, 0x05, 0x75, 0x01, 0x91, 0x02, 0x95, 0x01, 0x75, 0x03, 0x91, 0x01, /* lamps */
    0x05, 0x07, 0x19, 0x00, 0x2a, 0xff, 0x00, 0x15, 0x00, 0x26, 0xff, 0x00, 0x95, 0x06, 0x75, 0x08, 0x81, 0x00, /* six keys */
    0xc0,
};
#define HID_DESCRIPTOR(report) { 9, D_HID, 0x11, 0x01, 0, 1, D_REPORT, sizeof(report), 0 }
static const uint8_t tablet_hid[] = HID_DESCRIPTOR(tablet_report), mouse_hid[] = HID_DESCRIPTOR(mouse_report), keyboard_hid[] = HID_DESCRIPTOR(keyboard_report);

static const struct usb_class tablet, mouse, keyboard;
static bool is(const struct hid *h, const struct usb_class *c) { return h->u.dev.class->bus_class == c; }

/* ---- keys: evdev code -> usage (HID Usage Tables, 10) ---- */

static uint8_t usage_of(unsigned code)
{
    static const uint8_t usages[] = {
        [KEY_A] = 0x04, [KEY_B] = 0x05, [KEY_C] = 0x06, [KEY_D] = 0x07, [KEY_E] = 0x08, [KEY_F] = 0x09, [KEY_G] = 0x0a, [KEY_H] = 0x0b, [KEY_I] = 0x0c,
        [KEY_J] = 0x0d, [KEY_K] = 0x0e, [KEY_L] = 0x0f, [KEY_M] = 0x10, [KEY_N] = 0x11, [KEY_O] = 0x12, [KEY_P] = 0x13, [KEY_Q] = 0x14, [KEY_R] = 0x15,
        [KEY_S] = 0x16, [KEY_T] = 0x17, [KEY_U] = 0x18, [KEY_V] = 0x19, [KEY_W] = 0x1a, [KEY_X] = 0x1b, [KEY_Y] = 0x1c, [KEY_Z] = 0x1d, [KEY_1] = 0x1e,
        [KEY_2] = 0x1f, [KEY_3] = 0x20, [KEY_4] = 0x21, [KEY_5] = 0x22, [KEY_6] = 0x23, [KEY_7] = 0x24, [KEY_8] = 0x25, [KEY_9] = 0x26, [KEY_0] = 0x27,
        [KEY_ENTER] = 0x28, [KEY_ESC] = 0x29, [KEY_BACKSPACE] = 0x2a, [KEY_TAB] = 0x2b, [KEY_SPACE] = 0x2c, [KEY_MINUS] = 0x2d, [KEY_EQUAL] = 0x2e,
        [KEY_LEFTBRACE] = 0x2f, [KEY_RIGHTBRACE] = 0x30, [KEY_BACKSLASH] = 0x31, [KEY_SEMICOLON] = 0x33, [KEY_APOSTROPHE] = 0x34, [KEY_GRAVE] = 0x35,
        [KEY_COMMA] = 0x36, [KEY_DOT] = 0x37, [KEY_SLASH] = 0x38, [KEY_CAPSLOCK] = 0x39, [KEY_F1] = 0x3a, [KEY_F2] = 0x3b, [KEY_F3] = 0x3c, [KEY_F4] = 0x3d,
        [KEY_F5] = 0x3e, [KEY_F6] = 0x3f, [KEY_F7] = 0x40, [KEY_F8] = 0x41, [KEY_F9] = 0x42, [KEY_F10] = 0x43, [KEY_F11] = 0x44, [KEY_F12] = 0x45,
        [KEY_SYSRQ] = 0x46, [KEY_SCROLLLOCK] = 0x47, [KEY_PAUSE] = 0x48, [KEY_INSERT] = 0x49, [KEY_HOME] = 0x4a, [KEY_PAGEUP] = 0x4b, [KEY_DELETE] = 0x4c,
        [KEY_END] = 0x4d, [KEY_PAGEDOWN] = 0x4e, [KEY_RIGHT] = 0x4f, [KEY_LEFT] = 0x50, [KEY_DOWN] = 0x51, [KEY_UP] = 0x52, [KEY_NUMLOCK] = 0x53,
        [KEY_KPSLASH] = 0x54, [KEY_KPASTERISK] = 0x55, [KEY_KPMINUS] = 0x56, [KEY_KPPLUS] = 0x57, [KEY_KPENTER] = 0x58, [KEY_KP1] = 0x59, [KEY_KP2] = 0x5a,
        [KEY_KP3] = 0x5b, [KEY_KP4] = 0x5c, [KEY_KP5] = 0x5d, [KEY_KP6] = 0x5e, [KEY_KP7] = 0x5f, [KEY_KP8] = 0x60, [KEY_KP9] = 0x61, [KEY_KP0] = 0x62,
        [KEY_KPDOT] = 0x63, [KEY_102ND] = 0x64, [KEY_COMPOSE] = 0x65, [KEY_POWER] = 0x66, [KEY_KPEQUAL] = 0x67, [KEY_F13] = 0x68, [KEY_F14] = 0x69,
        [KEY_F15] = 0x6a, [KEY_F16] = 0x6b, [KEY_F17] = 0x6c, [KEY_F18] = 0x6d, [KEY_F19] = 0x6e, [KEY_F20] = 0x6f, [KEY_F21] = 0x70, [KEY_F22] = 0x71,
        [KEY_F23] = 0x72, [KEY_F24] = 0x73, [KEY_STOP] = 0x78, [KEY_AGAIN] = 0x79, [KEY_UNDO] = 0x7a, [KEY_CUT] = 0x7b, [KEY_COPY] = 0x7c, [KEY_PASTE] = 0x7d,
        [KEY_FIND] = 0x7e, [KEY_MUTE] = 0x7f, [KEY_VOLUMEUP] = 0x80, [KEY_VOLUMEDOWN] = 0x81, [KEY_KPCOMMA] = 0x85, [KEY_RO] = 0x87,
        [KEY_KATAKANAHIRAGANA] = 0x88, [KEY_YEN] = 0x89, [KEY_HENKAN] = 0x8a, [KEY_MUHENKAN] = 0x8b, [KEY_HANGEUL] = 0x90, [KEY_HANJA] = 0x91,
        [KEY_LEFTCTRL] = 0xe0, [KEY_LEFTSHIFT] = 0xe1, [KEY_LEFTALT] = 0xe2, [KEY_LEFTMETA] = 0xe3, [KEY_RIGHTCTRL] = 0xe4, [KEY_RIGHTSHIFT] = 0xe5,
        [KEY_RIGHTALT] = 0xe6, [KEY_RIGHTMETA] = 0xe7,
    };
    return code < G_N_ELEMENTS(usages) ? usages[code] : 0;
}

/* ---- from the display; any thread ---- */

static void push(struct hid *h, const struct event *e)
{
    if (!h->u.configuration)
        return; /* nobody listens */
    if (h->nqueue < BACKLOG)
        h->queue[h->nqueue++] = *e;
    usb_wakeup(&h->u, REPORT_IN);
}

static void on_key(void *opaque, unsigned code, bool down)
{
    struct hid *h = opaque;
    uint8_t usage = usage_of(code);
    if (!usage)
        return;
    g_mutex_lock(usb_lock(&h->u));
    push(h, &(struct event){ .x = usage, .y = down });
    g_mutex_unlock(usb_lock(&h->u));
}

/* Before the guest's driver has come, keys belong to another keyboard. */
static bool listens(void *opaque)
{
    struct hid *h = opaque;
    g_mutex_lock(usb_lock(&h->u));
    bool yes = h->u.configuration != 0;
    g_mutex_unlock(usb_lock(&h->u));
    return yes;
}

/* Wheel steps from the display's buttons, and the three that the device has. */
static void take_buttons(struct hid *h, unsigned buttons, struct event *e)
{
    unsigned pressed = buttons & ~h->raw_buttons;
    e->wheel = (int8_t)(((pressed & DISPLAY_BUTTON_WHEEL_UP) != 0) - ((pressed & DISPLAY_BUTTON_WHEEL_DOWN) != 0));
    e->buttons = (uint8_t)((buttons & DISPLAY_BUTTON_LEFT ? 1 : 0) | (buttons & DISPLAY_BUTTON_RIGHT ? 2 : 0) | (buttons & DISPLAY_BUTTON_MIDDLE ? 4 : 0));
    h->raw_buttons = buttons;
}

static void on_pointer(void *opaque, unsigned x, unsigned y, unsigned buttons)
{
    struct hid *h = opaque;
    struct event e = { .x = (int16_t)MIN(x, DISPLAY_POINTER_MAX), .y = (int16_t)MIN(y, DISPLAY_POINTER_MAX) };
    g_mutex_lock(usb_lock(&h->u));
    take_buttons(h, buttons, &e);
    struct event *tail = h->nqueue ? &h->queue[h->nqueue - 1] : NULL;
    if (tail && tail->buttons == e.buttons && !e.wheel && !tail->wheel) {
        *tail = e;
        usb_wakeup(&h->u, REPORT_IN);
    } else {
        push(h, &e);
    }
    g_mutex_unlock(usb_lock(&h->u));
}

static void on_motion(void *opaque, int dx, int dy, unsigned buttons)
{
    struct hid *h = opaque;
    struct event e = { 0 };
    g_mutex_lock(usb_lock(&h->u));
    take_buttons(h, buttons, &e);
    struct event *tail = h->nqueue ? &h->queue[h->nqueue - 1] : NULL;
    int x = dx, y = dy;
    if (tail && tail->buttons == e.buttons) {
        x += tail->x;
        y += tail->y;
        e.wheel = (int8_t)CLAMP(e.wheel + tail->wheel, -127, 127);
        h->nqueue--;
    }
    e.x = (int16_t)CLAMP(x, -4096, 4096);
    e.y = (int16_t)CLAMP(y, -4096, 4096);
    push(h, &e);
    g_mutex_unlock(usb_lock(&h->u));
}

/* ---- reports ---- */

static void pop(struct hid *h)
{
    memmove(h->queue, h->queue + 1, --h->nqueue * sizeof(h->queue[0]));
}

static void apply_key(struct hid *h, uint8_t usage, bool down)
{
    if (usage >= 0xe0) {
        uint8_t bit = (uint8_t)(1u << (usage - 0xe0));
        h->modifiers = down ? h->modifiers | bit : h->modifiers & (uint8_t)~bit;
        return;
    }
    unsigned i = 0;
    for (; i < MAX_KEYS && h->keys[i] && h->keys[i] != usage; i++)
        ;
    if (i == MAX_KEYS)
        return;
    if (down) {
        h->keys[i] = usage;
    } else if (h->keys[i]) {
        memmove(h->keys + i, h->keys + i + 1, MAX_KEYS - 1 - i);
        h->keys[MAX_KEYS - 1] = 0;
    }
}

/* What of the first motion in the queue fits a report. */
static void step_mouse(struct hid *h, struct event *ret)
{
    struct event *e = &h->queue[0];
    *ret = *e;
    ret->x = (int16_t)CLAMP(e->x, -127, 127);
    ret->y = (int16_t)CLAMP(e->y, -127, 127);
    e->x = (int16_t)(e->x - ret->x);
    e->y = (int16_t)(e->y - ret->y);
    e->wheel = 0;
    if (!e->x && !e->y)
        pop(h);
}

/* The next report; what it tells leaves the queue when `take`. */
static unsigned make_report(struct hid *h, uint8_t *to, bool take)
{
    struct event e = h->last;
    e.wheel = 0;
    if (is(h, &keyboard)) {
        if (take && h->nqueue) {
            apply_key(h, (uint8_t)h->queue[0].x, h->queue[0].y);
            pop(h);
        }
        to[0] = h->modifiers;
        to[1] = 0;
        memcpy(to + 2, h->keys, MAX_KEYS);
        return 8;
    }
    if (is(h, &mouse)) {
        e.x = e.y = 0;
        if (take && h->nqueue)
            step_mouse(h, &e);
        const uint8_t report[] = { e.buttons, (uint8_t)e.x, (uint8_t)e.y, (uint8_t)e.wheel };
        h->last = e;
        memcpy(to, report, sizeof(report));
        return h->protocol ? 4 : 3;
    }
    if (take && h->nqueue) {
        e = h->queue[0];
        pop(h);
    }
    const uint8_t report[] = { e.buttons, (uint8_t)e.x, (uint8_t)(e.x >> 8), (uint8_t)e.y, (uint8_t)(e.y >> 8), (uint8_t)e.wheel };
    h->last = e;
    memcpy(to, report, sizeof(report));
    return sizeof(report);
}

static enum usb_status data(struct usb_device *u, struct usb_packet *p)
{
    struct hid *h = (struct hid *)u;
    uint8_t report[8];
    if (!h->nqueue)
        return USB_NAK;
    unsigned n = make_report(h, report, true);
    if (n > p->length) {
        usb_packet_write(p, report, n);
        return USB_BABBLE;
    }
    usb_packet_write(p, report, n);
    return USB_DONE;
}

/* ---- requests ---- */

static unsigned class_descriptor(struct hid *h, unsigned type, uint8_t *to)
{
    const uint8_t *from = is(h, &tablet) ? tablet_report : is(h, &mouse) ? mouse_report : keyboard_report;
    unsigned n = is(h, &tablet) ? sizeof(tablet_report) : is(h, &mouse) ? sizeof(mouse_report) : sizeof(keyboard_report);
    const struct usb_class *c = h->u.dev.class->bus_class;
    if (type == D_HID)
        from = c->extra, n = c->nextra;
    if (type != D_HID && type != D_REPORT)
        return 0;
    memcpy(to, from, n);
    return n;
}

static bool byte(uint8_t *to, unsigned *length, uint8_t value)
{
    *to = value;
    *length = 1;
    return true;
}

static bool control(struct usb_device *u, const uint8_t setup[8], uint8_t *to, unsigned *length)
{
    struct hid *h = (struct hid *)u;
    switch (setup[0] << 8 | setup[1]) {
    case 0x8106: return (*length = class_descriptor(h, setup[3], to)) != 0;
    case 0xa100 | GET_REPORT: return (*length = make_report(h, to, false)) != 0;
    case 0xa100 | GET_IDLE: return byte(to, length, h->idle);
    case 0xa100 | GET_PROTOCOL: return byte(to, length, h->protocol);
    case 0x2100 | SET_IDLE: h->idle = setup[3]; return true;
    case 0x2100 | SET_PROTOCOL: h->protocol = setup[2] & 1; return !is(h, &tablet);
    case 0x2100 | SET_REPORT:
        if (is(h, &keyboard) && *length)
            h->leds = to[0];
        return is(h, &keyboard);
    default: return false;
    }
}

static void bus_reset(struct usb_device *u)
{
    struct hid *h = (struct hid *)u;
    h->protocol = 1;
    h->idle = h->leds = h->modifiers = 0;
    h->nqueue = 0;
    memset(h->keys, 0, sizeof(h->keys));
}

/* ---- life ---- */

static bool realize(struct device *d, GError **error)
{
    struct hid *h = (struct hid *)d;
    if (!usb_device_attach(&h->u, error))
        return false;
    h->display = display_of(d->machine);
    display_add_input(h->display, &(struct display_input){ .key = is(h, &keyboard) ? on_key : NULL, .pointer = is(h, &tablet) ? on_pointer : NULL,
                                                           .motion = is(h, &mouse) ? on_motion : NULL, .ready = listens, .opaque = h,
                                                           .name = ((const struct usb_class *)d->class->bus_class)->product });
    return true;
}

static void unrealize(struct device *d)
{
    struct hid *h = (struct hid *)d;
    display_remove_input(h->display, h);
    usb_device_detach(&h->u);
}

static void reset(struct device *d)
{
    struct hid *h = (struct hid *)d;
    if (!h->u.bus)
        return;
    g_mutex_lock(usb_lock(&h->u));
    usb_reset(&h->u);
    h->last = (struct event){ 0 };
    h->raw_buttons = 0;
    g_mutex_unlock(usb_lock(&h->u));
}

/* Rows of x, y, buttons, wheel. */
static void save(struct device *d, struct state_writer *w)
{
    struct hid *h = (struct hid *)d;
    uint16_t rows[BACKLOG][4];
    for (unsigned i = 0; i < h->nqueue; i++) {
        const struct event *e = &h->queue[i];
        const uint16_t row[] = { (uint16_t)e->x, (uint16_t)e->y, e->buttons, (uint16_t)e->wheel };
        memcpy(rows[i], row, sizeof(row));
    }
    state_put(w, "queue", rows, 2, h->nqueue * 4u);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct hid *h = (struct hid *)d;
    uint16_t rows[BACKLOG][4];
    uint32_t n;
    if (!usb_device_loaded(&h->u, r, error) || !state_get_some(r, "queue", rows, 2, BACKLOG * 4, &n, error))
        return false;
    h->nqueue = (uint16_t)(n / 4);
    for (unsigned i = 0; i < h->nqueue; i++)
        h->queue[i] = (struct event){ (int16_t)rows[i][0], (int16_t)rows[i][1], (uint8_t)rows[i][2], (int8_t)rows[i][3] };
    h->protocol &= 1;
    return true;
}

#define T struct hid
#define HID_CLASS(id, text, sub, proto)                                                                                          \
    static const struct usb_class id = { .product = text, .vendor_id = 0x0627, .product_id = 0x0001, .class = 3, .subclass = sub,       \
                                         .protocol = proto, .speed = USB_SPEED_FULL, .max_speed = USB_SPEED_FULL, .remote_wakeup = true, \
                                         .nendpoints = 1, .endpoints = { { REPORT_IN, 3, 8, 10 } }, .extra = id##_hid,                  \
                                         .nextra = sizeof(id##_hid), .control = control, .data = data, .reset = bus_reset }
HID_CLASS(tablet, "Vireo USB Tablet", 0, 0);
HID_CLASS(mouse, "Vireo USB Mouse", 1, 2);
HID_CLASS(keyboard, "Vireo USB Keyboard", 1, 1);

static const struct device_prop props[] = {
    USB_PROPS(T, u),
    { "display", PROP_STRING, offsetof(T, display_name), .help = "accepted: there is one display" },
    { "head", PROP_UINT, offsetof(T, head), 0, 0, .def = "0", .help = "accepted: there is one head" },
    { NULL }
};
static const struct device_field fields[] = {
    USB_FIELDS(T, u), DEVICE_FIELD(T, idle), DEVICE_FIELD(T, protocol), DEVICE_FIELD(T, leds), DEVICE_FIELD(T, modifiers), DEVICE_ARRAY(T, keys),
    DEVICE_FIELD(T, last.x), DEVICE_FIELD(T, last.y), DEVICE_FIELD(T, last.buttons), DEVICE_FIELD(T, raw_buttons),
    { NULL }
};
#define DEVICE(id, kind, text, bus)                                                                                                       \
    const struct device_class id = { .name = kind, .help = text, .size = sizeof(T), .props = props, .fields = fields, .user_creatable = true, \
                                     .realize = realize, .reset = reset, .unrealize = unrealize, .hotplug = true, .unplug = usb_device_unplug, .save = save, \
                                     .load = load, .bus_class = &bus }
DEVICE(usb_tablet_class, "usb-tablet", "USB tablet: a pointer at absolute places", tablet);
DEVICE(usb_mouse_class, "usb-mouse", "USB mouse", mouse);
DEVICE(usb_kbd_class, "usb-kbd", "USB keyboard", keyboard);
