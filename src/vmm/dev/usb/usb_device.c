/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors and standard requests (USB 2.0, 9.4 to 9.6; USB 3.1, 9.6), coming and going. */
#include "vmm/dev/usb/usb.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

enum { GET_STATUS = 0, CLEAR_FEATURE = 1, SET_FEATURE = 3, SET_ADDRESS = 5, GET_DESCRIPTOR = 6, GET_CONFIGURATION = 8, SET_CONFIGURATION = 9, GET_INTERFACE = 10,
       SET_INTERFACE = 11, SET_SEL = 0x30, SET_ISOCH_DELAY = 0x31 };
enum { D_DEVICE = 1, D_CONFIG = 2, D_STRING = 3, D_INTERFACE = 4, D_ENDPOINT = 5, D_QUALIFIER = 6, D_BOS = 15, D_CAPABILITY = 16, D_SS_COMPANION = 48 };
enum { S_LANGUAGE, S_MANUFACTURER, S_PRODUCT, S_SERIAL };
enum { FEATURE_HALT = 0, FEATURE_WAKEUP = 1, FEATURE_U1 = 48, FEATURE_U2 = 49 };

static const struct usb_class *class_of(const struct usb_device *u) { return u->dev.class->bus_class; }
static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

GMutex *usb_lock(const struct usb_device *u) { return &u->bus->controller->lock; }

/* ---- packets ---- */

static size_t move(struct usb_packet *p, void *data, size_t n, bool in)
{
    uint64_t skip = p->actual;
    size_t done = 0;
    for (unsigned i = 0; i < p->niov && done < n; i++) {
        size_t there = p->iov[i].iov_len;
        if (skip >= there) {
            skip -= there;
            continue;
        }
        size_t part = MIN(n - done, there - skip);
        uint8_t *at = (uint8_t *)p->iov[i].iov_base + skip;
        if (in)
            memcpy(at, (uint8_t *)data + done, part);
        else
            memcpy((uint8_t *)data + done, at, part);
        done += part;
        skip = 0;
    }
    p->actual += done;
    return done;
}

size_t usb_packet_write(struct usb_packet *p, const void *data, size_t n) { return move(p, (void *)data, n, true); }
size_t usb_packet_read(struct usb_packet *p, void *ret, size_t n) { return move(p, ret, n, false); }

/* ---- descriptors ---- */

static unsigned put_endpoint(const struct usb_device *u, const struct usb_endpoint *e, uint8_t *to)
{
    bool super = u->speed == USB_SPEED_SUPER;
    uint16_t packet = e->type != 2 ? e->max_packet : super ? 1024 : u->speed == USB_SPEED_HIGH ? 512 : 64;
    const uint8_t d[] = { 7, D_ENDPOINT, e->address, e->type, (uint8_t)packet, (uint8_t)(packet >> 8), e->interval, 6, D_SS_COMPANION, super && e->type == 2 ? 15 : 0, 0, 0, 0 };
    unsigned n = super ? 13 : 7;
    memcpy(to, d, n);
    return n;
}

static unsigned put_config(const struct usb_device *u, uint8_t *to)
{
    const struct usb_class *c = class_of(u);
    uint8_t power = u->speed == USB_SPEED_SUPER ? 12 : 50; /* of 8 mA, of 2 mA */
    const uint8_t head[] = { 9, D_CONFIG, 0, 0, 1, 1, 0, (uint8_t)(0x80 | (c->remote_wakeup ? 0x20 : 0)), power,
                             9, D_INTERFACE, 0, 0, c->nendpoints, c->class, c->subclass, c->protocol, 0 };
    unsigned n = sizeof(head);
    memcpy(to, head, n);
    if (c->nextra)
        memcpy(to + n, c->extra, c->nextra);
    n += c->nextra;
    for (unsigned i = 0; i < c->nendpoints; i++)
        n += put_endpoint(u, &c->endpoints[i], to + n);
    to[2] = (uint8_t)n;
    to[3] = (uint8_t)(n >> 8);
    return n;
}

static unsigned put_device(const struct usb_device *u, uint8_t *to)
{
    const struct usb_class *c = class_of(u);
    bool super = u->speed == USB_SPEED_SUPER;
    const uint8_t d[] = { 18, D_DEVICE, 0, super ? 3 : 2, 0, 0, 0, super ? 9 : 64, (uint8_t)c->vendor_id, (uint8_t)(c->vendor_id >> 8), (uint8_t)c->product_id,
                          (uint8_t)(c->product_id >> 8), 0, 0, S_MANUFACTURER, S_PRODUCT, u->serial ? S_SERIAL : 0, 1 };
    memcpy(to, d, sizeof(d));
    return sizeof(d);
}

/* What it would be at its other speed. */
static unsigned put_qualifier(const struct usb_device *u, uint8_t *to)
{
    static const uint8_t d[] = { 10, D_QUALIFIER, 0, 2, 0, 0, 0, 64, 1, 0 };
    if (u->speed != USB_SPEED_HIGH)
        return 0;
    memcpy(to, d, sizeof(d));
    return sizeof(d);
}

static unsigned put_bos(const struct usb_device *u, uint8_t *to)
{
    static const uint8_t d[] = { 5, D_BOS, 22, 0, 2, 7, D_CAPABILITY, 2 /* USB 2.0 extension */, 0, 0, 0, 0,
                                 10, D_CAPABILITY, 3 /* SuperSpeed */, 0, 0x0e, 0, 1, 0, 0, 0 };
    if (u->speed != USB_SPEED_SUPER)
        return 0;
    memcpy(to, d, sizeof(d));
    return sizeof(d);
}

/* Texts in UTF-16LE; what is not ASCII is left out. */
static unsigned put_string(const struct usb_device *u, unsigned index, uint8_t *to)
{
    const char *texts[] = { [S_MANUFACTURER] = "Vireo", [S_PRODUCT] = class_of(u)->product, [S_SERIAL] = u->serial };
    unsigned n = 2;
    if (index == S_LANGUAGE) {
        memcpy(to, (const uint8_t[]){ 4, D_STRING, 0x09, 0x04 }, 4);
        return 4;
    }
    if (index > S_SERIAL || !texts[index])
        return 0;
    for (const char *s = texts[index]; *s && n < 254; s++) {
        if ((unsigned char)*s >= 0x80)
            continue;
        to[n++] = (uint8_t)*s;
        to[n++] = 0;
    }
    to[0] = (uint8_t)n;
    to[1] = D_STRING;
    return n;
}

/* 0: there is none. */
static unsigned descriptor(const struct usb_device *u, uint16_t value, uint8_t *to)
{
    switch (value >> 8) {
    case D_DEVICE: return put_device(u, to);
    case D_CONFIG: return value & 0xff ? 0 : put_config(u, to);
    case D_STRING: return put_string(u, value & 0xff, to);
    case D_QUALIFIER: return put_qualifier(u, to);
    case D_BOS: return put_bos(u, to);
    default: return 0;
    }
}

/* ---- standard requests ---- */

static uint32_t halt_bit(uint8_t endpoint) { return 1u << ((endpoint & 15) + (endpoint & 0x80 ? 16 : 0)); }

static void forget(struct usb_device *u)
{
    u->halted = 0;
    if (class_of(u)->reset)
        class_of(u)->reset(u);
}

static bool feature(struct usb_device *u, const uint8_t *setup, bool on)
{
    uint16_t what = get16(setup + 2);
    switch (setup[0] & 31) {
    case 0:
        if (what == FEATURE_WAKEUP)
            u->wakeup_enabled = on && class_of(u)->remote_wakeup;
        return what == FEATURE_WAKEUP || (u->speed == USB_SPEED_SUPER && (what == FEATURE_U1 || what == FEATURE_U2));
    case 1:
        if (u->speed == USB_SPEED_SUPER && what == 0) /* FUNCTION_SUSPEND: bit 1 of the high byte of wIndex allows remote wakeup */
            u->wakeup_enabled = on && class_of(u)->remote_wakeup && (setup[5] & 2);
        return u->speed == USB_SPEED_SUPER && what == 0;
    case 2:
        if (what == FEATURE_HALT)
            u->halted = on ? u->halted | halt_bit(setup[4]) : u->halted & ~halt_bit(setup[4]);
        return what == FEATURE_HALT;
    default:
        return false;
    }
}

static bool status(const struct usb_device *u, const uint8_t *setup, uint8_t *data, unsigned *length)
{
    unsigned to = setup[0] & 31;
    data[0] = to == 0 ? (uint8_t)(u->wakeup_enabled << 1) : to == 2 ? (u->halted & halt_bit(setup[4])) != 0 : 0;
    data[1] = 0;
    *length = 2;
    return to <= 2;
}

static bool one_byte(uint8_t *data, unsigned *length, uint8_t value)
{
    data[0] = value;
    *length = 1;
    return true;
}

static bool standard(struct usb_device *u, const uint8_t *setup, uint8_t *data, unsigned *length)
{
    uint16_t value = get16(setup + 2);
    switch (setup[1]) {
    case GET_STATUS: return status(u, setup, data, length);
    case CLEAR_FEATURE: return feature(u, setup, false);
    case SET_FEATURE: return feature(u, setup, true);
    case SET_ADDRESS: case SET_SEL: case SET_ISOCH_DELAY: return true;
    case GET_CONFIGURATION: return one_byte(data, length, u->configuration);
    case GET_INTERFACE: return one_byte(data, length, 0);
    case SET_INTERFACE: return value == 0 && get16(setup + 4) == 0;
    case SET_CONFIGURATION:
        if (value > 1)
            return false;
        u->configuration = (uint8_t)value;
        forget(u);
        return true;
    case GET_DESCRIPTOR:
        return (setup[0] & 31) == 0 && (*length = descriptor(u, value, data)) != 0;
    default:
        return false;
    }
}

enum usb_status usb_control(struct usb_device *u, const uint8_t setup[8], uint8_t *data, unsigned *length)
{
    /* Whatever is asked for is made whole, and then cut to what was asked. */
    uint8_t answer[USB_MAX_CONTROL];
    unsigned wanted = get16(setup + 6), n = 0;
    bool in = setup[0] & 0x80, own = setup[0] & 0x60, ok = false;
    if (!in)
        n = *length;
    if (!own && !(setup[1] == GET_DESCRIPTOR && (setup[0] & 31)))
        ok = standard(u, setup, in ? answer : data, &n);
    else if (class_of(u)->control)
        ok = class_of(u)->control(u, setup, in ? answer : data, &n);
    *length = in && ok ? MIN(n, MIN(wanted, USB_MAX_CONTROL)) : 0;
    if (*length)
        memcpy(data, answer, *length);
    return ok ? USB_DONE : USB_STALL;
}

enum usb_status usb_data(struct usb_device *u, struct usb_packet *p)
{
    const struct usb_class *c = class_of(u);
    p->actual = 0;
    if (!u->configuration || (u->halted & halt_bit(p->endpoint)))
        return p->status = USB_STALL;
    for (unsigned i = 0; i < c->nendpoints; i++) {
        if (c->endpoints[i].address != p->endpoint)
            continue;
        p->status = c->data(u, p);
        if (p->status == USB_STALL)
            u->halted |= halt_bit(p->endpoint);
        return p->status;
    }
    return p->status = USB_STALL;
}

void usb_cancel(struct usb_device *u, struct usb_packet *p)
{
    if (class_of(u)->cancel)
        class_of(u)->cancel(u, p);
}

void usb_reset(struct usb_device *u)
{
    u->configuration = 0;
    u->wakeup_enabled = false;
    forget(u);
}

bool usb_device_loaded(struct usb_device *u, struct state_reader *r, GError **error)
{
    uint8_t slot = u->slot, configuration = u->configuration;
    if (slot <= USB_MAX_SLOTS && configuration <= 1)
        return true;
    u->slot = u->configuration = 0;
    return state_bad(r, error, "slot %u and configuration %u are not possible", slot, configuration);
}

/* ---- coming and going ---- */

/* "ID.0" of the controller; one without an id has QEMU's name "usb-bus.0". */
static bool is_named(const struct device *controller, const char *name)
{
    const char *id = controller->id ? controller->id : "usb-bus";
    size_t n = strlen(id);
    return !strncmp(name, id, n) && (!name[n] || !strcmp(name + n, ".0"));
}

static struct usb_bus *find_bus(const struct usb_device *u)
{
    const GPtrArray *all = u->dev.machine->devices;
    for (unsigned i = all->len; i-- > 0;) {
        struct usb_bus *b = usb_bus_of(g_ptr_array_index(all, i));
        if (b && (!u->bus_name || is_named(b->controller, u->bus_name)))
            return b;
    }
    return NULL;
}

static bool connector_free(const struct usb_bus *b, unsigned n)
{
    return (n > b->n2 || !b->devices[n - 1]) && (n > b->n3 || !b->devices[b->n2 + n - 1]);
}

/* The port of connector n (from 1) that fits the device: USB 3 where both can. False: none does. */
static bool port_of(struct usb_device *u, const struct usb_bus *b, unsigned n)
{
    const struct usb_class *c = class_of(u);
    if (!connector_free(b, n))
        return false;
    bool super = c->max_speed == USB_SPEED_SUPER && n <= b->n3;
    if (!super && n > b->n2)
        return false;
    u->speed = super ? USB_SPEED_SUPER : c->speed;
    u->port = super ? b->n2 + n - 1 : n - 1;
    return true;
}

bool usb_device_find_port(struct usb_device *u, GError **error)
{
    const char *name = u->dev.class->name;
    struct usb_bus *b = find_bus(u);
    if (!b)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no USB controller%s%s; put -device qemu-xhci%s before it", name, u->bus_name ? " " : "",
                          u->bus_name ? u->bus_name : "", u->bus_name ? ",id=..." : "");
    unsigned connectors = MAX(b->n2, b->n3), n = 1;
    if (u->port_name) {
        char *end;
        guint64 v = g_ascii_strtoull(u->port_name, &end, 10);
        if (strchr(u->port_name, '.'))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: port=%s: there are no hubs yet; the ports are 1 to %u", name, u->port_name, connectors);
        if (!g_ascii_isdigit(*u->port_name) || *end || !v || v > connectors)
            return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: port=%s: the controller has the ports 1 to %u", name, u->port_name, connectors);
        if (!port_of(u, b, (unsigned)v))
            return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: port=%s is %s", name, u->port_name,
                              connector_free(b, (unsigned)v) ? "a USB 3 port without USB 2; raise p2= of the controller" : "already taken");
    } else {
        for (; n <= connectors && !port_of(u, b, n); n++)
            ;
        if (n > connectors)
            return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: all %u ports of the controller are taken; raise its p2= and p3= (up to 15)", name, connectors);
    }
    u->bus = b;
    u->dev.parent = b->controller;
    return true;
}

void usb_device_show(struct usb_device *u)
{
    g_mutex_lock(usb_lock(u));
    u->bus->devices[u->port] = u;
    u->bus->ops->attached(u->bus, u->port);
    g_mutex_unlock(usb_lock(u));
}

bool usb_device_attach(struct usb_device *u, GError **error)
{
    if (!usb_device_find_port(u, error))
        return false;
    usb_device_show(u);
    return true;
}

/* Lock held. */
static void leave(struct usb_device *u)
{
    if (u->bus->devices[u->port] != u)
        return;
    u->bus->ops->detached(u->bus, u->port);
    u->bus->devices[u->port] = NULL;
    u->slot = 0;
}

void usb_device_detach(struct usb_device *u)
{
    if (!u->bus)
        return;
    GMutex *lock = usb_lock(u);
    g_mutex_lock(lock);
    leave(u);
    g_mutex_unlock(lock);
}

bool usb_device_unplug(struct device *d, GError **error)
{
    struct usb_device *u = (struct usb_device *)d;
    if (!device_gone_soon(d, error))
        return false;
    usb_device_detach(u);
    return true;
}

void usb_wakeup(struct usb_device *u, uint8_t endpoint)
{
    if (u->bus && u->bus->devices[u->port] == u)
        u->bus->ops->wakeup(u, endpoint);
}
