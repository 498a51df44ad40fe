/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * USB: what sits on a bus (usb_device), and what the bus's controller does for it (usb_bus). USB 2.0 and 3.1 chapter 9 give the
 * descriptors and standard requests, which usb_device.c answers from a device's description; a device adds class requests and data.
 *
 * The controller's device.lock covers the bus and all devices on it. Ports: a connector N has a USB 2 port and, where the
 * controller has that many, a USB 3 port; a device is at one of them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/core/device.h"

struct state_reader;

enum usb_speed { USB_SPEED_NONE, USB_SPEED_FULL, USB_SPEED_LOW, USB_SPEED_HIGH, USB_SPEED_SUPER }; /* xHCI's default speed numbers (7.2.2.1.1) */
/* NAK: nothing yet, try again after usb_wakeup. PENDING: complete is called. */
enum usb_status { USB_DONE, USB_NAK, USB_PENDING, USB_STALL, USB_BABBLE };
enum { USB_MAX_PORTS = 30, USB_MAX_CONTROL = 4096, USB_MAX_ENDPOINTS = 3, USB_MAX_SLOTS = 64 /* of a controller */ };

/* Data to or from an endpoint other than 0. */
struct usb_packet {
    uint8_t endpoint;         /* address, with 0x80 for IN */
    const struct iovec *iov;  /* guest memory */
    unsigned niov;
    uint64_t length;          /* bytes of it */
    uint64_t actual;          /* how many were moved */
    enum usb_status status;
    void (*complete)(struct usb_packet *p); /* of one that was pending; lock held */
};

struct usb_device;
struct usb_bus;

struct usb_endpoint {
    uint8_t address, type;    /* type: 2 bulk, 3 interrupt */
    uint16_t max_packet;      /* below SuperSpeed; there it is 1024 for bulk */
    uint8_t interval;
};

struct usb_class { /* device_class.bus_class */
    const char *product;
    uint16_t vendor_id, product_id;
    uint8_t class, subclass, protocol;
    enum usb_speed speed, max_speed; /* at a USB 2 port; at a USB 3 port, where it can */
    bool remote_wakeup;
    uint8_t nendpoints;
    struct usb_endpoint endpoints[USB_MAX_ENDPOINTS];
    const uint8_t *extra;     /* descriptors of the class, behind the interface's */
    uint8_t nextra;
    /* Requests that are not standard. data: up to wLength bytes in (filled) or out; *length: how many there are. False: stall. */
    bool (*control)(struct usb_device *u, const uint8_t setup[8], uint8_t *data, unsigned *length);
    enum usb_status (*data)(struct usb_device *u, struct usb_packet *p);
    void (*cancel)(struct usb_device *u, struct usb_packet *p); /* a pending one; complete is not called. NULL: none is ever pending */
    void (*reset)(struct usb_device *u);                        /* the bus's reset, or another configuration */
};

struct usb_device {
    struct device dev;
    struct usb_bus *bus;      /* NULL: not attached */
    unsigned port;            /* index in bus->devices */
    enum usb_speed speed;
    uint8_t slot;             /* the controller's; 0: none */
    uint8_t configuration;    /* 0: not configured */
    bool wakeup_enabled;
    uint32_t halted;          /* bit per endpoint; IN from bit 16 on */
    /* properties */
    char *bus_name, *port_name, *serial;
};

struct usb_bus_ops { /* lock held */
    void (*attached)(struct usb_bus *b, unsigned port);
    void (*detached)(struct usb_bus *b, unsigned port); /* the device is still in bus->devices */
    void (*wakeup)(struct usb_device *u, uint8_t endpoint);
};

struct usb_bus {
    struct device *controller;
    const struct usb_bus_ops *ops;
    unsigned n2, n3;                          /* ports of each kind */
    struct usb_device *devices[USB_MAX_PORTS];/* those of USB 2 first */
};

/* The bus of a controller (xhci.c), NULL: the device is none. */
struct usb_bus *usb_bus_of(struct device *d);

/* ---- for devices ---- */

/* Finds the bus and a free port, and is seen by the guest from then on. Takes the controller's lock. */
bool usb_device_attach(struct usb_device *u, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Only the first half, for who needs the controller's lock before the guest sees the device. */
bool usb_device_find_port(struct usb_device *u, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void usb_device_show(struct usb_device *u);
void usb_device_detach(struct usb_device *u);
/* device_class.unplug: it goes at once, and the guest sees an empty port. */
bool usb_device_unplug(struct device *d, GError **error);
/* Lock held: an endpoint that answered NAK has something now. */
void usb_wakeup(struct usb_device *u, uint8_t endpoint);
GMutex *usb_lock(const struct usb_device *u);
/* Bytes into, out of a packet, from its `actual` on, which moves; at most what fits. */
size_t usb_packet_write(struct usb_packet *p, const void *data, size_t n);
size_t usb_packet_read(struct usb_packet *p, void *ret, size_t n);

#define USB_PROPS(type, member)                                                                                                       \
    { "bus", PROP_STRING, offsetof(type, member.bus_name), .help = "ID.0 of the controller; without it, the last one" },              \
    { "port", PROP_STRING, offsetof(type, member.port_name), .help = "number of the port; without it, the first free one" },          \
    { "serial", PROP_STRING, offsetof(type, member.serial), .help = "serial number that the guest sees" }
#define USB_FIELDS(type, member)                                                                                                      \
    DEVICE_FIELD(type, member.slot), DEVICE_FIELD(type, member.configuration), DEVICE_FIELD(type, member.wakeup_enabled), DEVICE_FIELD(type, member.halted)

/* In device_class.load of every device, when its table is loaded. */
bool usb_device_loaded(struct usb_device *u, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- for controllers; lock held ---- */

/* A control transfer, whole. data: wLength bytes at most. Returns DONE or STALL; *length in: bytes to the device; out: from it. */
enum usb_status usb_control(struct usb_device *u, const uint8_t setup[8], uint8_t *data, unsigned *length);
enum usb_status usb_data(struct usb_device *u, struct usb_packet *p);
void usb_cancel(struct usb_device *u, struct usb_packet *p);
void usb_reset(struct usb_device *u);
