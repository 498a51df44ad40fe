/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device is one description: class, properties, reset, state fields. `-device NAME,prop=value,...` finds the class by
 * name and walks the property table; save, restore and introspection (later) walk the field table. Class tables are const;
 * registered in one list in vmm/dev/devices.c.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;
struct device;

enum prop_type { PROP_BOOL /* bool */, PROP_UINT /* uint64_t */, PROP_SIZE /* uint64_t, K M G T suffixes */, PROP_STRING /* char *, freed with the device */,
                 PROP_MAC /* uint8_t[6] */, PROP_ENUM /* int: index into values */, PROP_PCI_ADDR /* int: devfn, -1 = any */,
                 PROP_DRIVE, PROP_NETDEV, PROP_CHARDEV /* char *: id of a back end, looked up at realize */ };

struct device_prop {
    const char *name;
    enum prop_type type;
    size_t offset;            /* in the device struct */
    uint64_t min, max;        /* UINT, SIZE */
    const char *const *values;/* ENUM: NULL-terminated */
    const char *def;          /* as text; NULL: required unless type has a natural empty value (0, NULL, false, -1) */
    const char *help;
};

/* One row per field that makes up the device's state (everything the guest can tell apart, not properties or host handles). */
struct device_field {
    const char *name;
    size_t offset;
    uint16_t size;  /* bytes of one element: 1, 2, 4, 8 */
    uint16_t count; /* elements */
};
#define DEVICE_FIELD(type, member) { #member, offsetof(type, member), sizeof(((type *)0)->member), 1 }
#define DEVICE_ARRAY(type, member) { #member, offsetof(type, member), sizeof(((type *)0)->member[0]), \
                                     sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]) }

enum device_bus { DEV_BUS_NONE /* board-internal */, DEV_BUS_ISA, DEV_BUS_PCI, DEV_BUS_VIRTIO /* sits on a virtio transport */ };

struct device_class {
    const char *name;         /* -device NAME; aliases: further rows */
    const char *help;         /* one line */
    enum device_bus bus;
    size_t size;              /* of the device struct, which starts with struct device */
    const struct device_prop *props;   /* ends with name NULL; may be NULL */
    const struct device_field *fields; /* likewise */
    bool user_creatable;      /* may be given to -device */
    /* Attach to machine and bus, check back ends; called once, machine not running. */
    bool (*realize)(struct device *d, GError **error);
    void (*reset)(struct device *d);   /* power-on values; called with the machine stopped */
    void (*unrealize)(struct device *d);
    const void *bus_class;    /* what the bus needs more: struct pci_class *, struct virtio_class * */
};

struct device {
    const struct device_class *class;
    struct machine *machine;
    char *id;          /* may be NULL */
    GMutex lock;       /* covers the device's state; held by the dispatcher around its windows */
    bool realized;
};

const struct device_class *device_class_find(const char *name); /* vmm/dev/devices.c */
const struct device_class *const *device_class_list(void);      /* NULL-terminated */
/* Allocates, sets defaults; then device_set_prop for each option, then device_realize, which adds it to the machine. */
struct device *device_create(struct machine *m, const struct device_class *c);
bool device_set_prop(struct device *d, const char *name, const char *value, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool device_realize(struct device *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void device_destroy(struct device *d); /* unrealize if realized; also one that never was */
char *device_class_help(const struct device_class *c); /* property table in words; caller frees */
