/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device is one description: class, properties, reset, state fields. `-device NAME,prop=value,...` finds the class by
 * name and walks the property table; saving and loading a machine walk the field table. Class tables are const;
 * registered in one list in vmm/dev/devices.c.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;
struct keyval;
struct machine;
struct device;
struct state_reader;
struct state_writer;

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
    bool truth;     /* each is a bool: nothing but 0 and 1 may be loaded */
};
#define DEVICE_FIELD(type, member) { #member, offsetof(type, member), sizeof(((type *)0)->member), 1, \
                                     _Generic(((type *)0)->member, bool: true, default: false) }
#define DEVICE_ARRAY(type, member) { #member, offsetof(type, member), sizeof(((type *)0)->member[0]), \
                                     sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), \
                                     _Generic(((type *)0)->member[0], bool: true, default: false) }

enum device_bus { DEV_BUS_NONE /* board-internal */, DEV_BUS_ISA, DEV_BUS_PCI, DEV_BUS_IDE /* a port of a SATA controller */, DEV_BUS_VIRTIO /* sits on a virtio transport */ };

/* Something that QMP can ask a device for, or tell it, while the machine lives (qom-get, qom-set): one row. Main thread. Values of
 * properties can be read without rows. */
struct device_attr {
    const char *name, *type; /* type: as QEMU names it ("int", "guest statistics") */
    struct json_object *(*get)(struct device *d, GError **error);             /* the caller frees; NULL: an error. NULL: cannot be read */
    bool (*set)(struct device *d, struct json_object *value, GError **error); /* NULL: cannot be set */
};

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
    /* Coming and going while the machine is live (its guest may run). hotplug: realize works then too, and tells the guest.
     * unplug: asks the guest to let the device go; once it has, the owner calls device_gone on the main thread. NULL: such a
     * device stays until the machine ends. */
    bool hotplug;
    bool (*unplug)(struct device *d, GError **error);
    const struct device_attr *attrs; /* ends with name NULL; may be NULL */
    /* Saving and loading a machine's state (vmm/core/state.h); main thread, vCPUs outside, the device's lock held.
     * drain: nothing of the device is under way any more when it returns (it may wait with its lock let go); what cannot be ended soon, such as
     * a request that waits for input, goes back to where the guest put it, or into what save writes. NULL: it has nothing of the kind.
     * save: what is not in the field table. load: the table's fields are set, and not to be trusted; checks them, takes what
     * save wrote, and brings to life what hangs on them: timers, lines, windows, queues. NULL: the table is all.
     * unsaved: why a machine with this device cannot be saved; NULL: it can. stateless: there is nothing to save of its own. */
    void (*drain)(struct device *d);
    void (*save)(struct device *d, struct state_writer *w);
    bool (*load)(struct device *d, struct state_reader *r, GError **error);
    const char *unsaved;
    bool stateless;
    const void *bus_class;    /* what the bus needs more: struct pci_class *, struct virtio_class * */
};

/* What the bus that a device sits on does for one that comes and goes while the machine is live. Main thread. */
struct device_bus_ops {
    void (*plugged)(struct device *d);                 /* realized and reset: the guest may be told */
    bool (*unplug)(struct device *d, GError **error);  /* as device_class.unplug */
};

struct device {
    const struct device_class *class;
    struct machine *machine;
    char *id;          /* may be NULL */
    char *driver;      /* the name that it was asked for by, which may be an alias; NULL: the class's */
    GMutex lock;       /* covers the device's state; held by the dispatcher around its windows */
    bool realized;
    bool hotplugged;   /* added to a live machine */
    bool going;        /* device_gone_soon() was called */
    char *bus;         /* bus= as the user gave it, where the class has no property of that name; NULL: the default */
    bool multifunction;/* on PCI: function 0 says that there are more */
    char *romfile;     /* on PCI: the image of its option ROM; "": none; NULL: the device's own, where it has one */
    uint64_t rombar;   /* on PCI: whether the function shows it */
    const struct device_bus_ops *bus_ops; /* NULL: the bus knows nothing of coming and going */
    void *bus_data;    /* the bus's */
    struct removable *removable; /* its medium can be changed (removable.h); NULL: it has none */
    struct device *parent; /* the device that it sits on and goes with; NULL: none */
    char unit[16];     /* its place there, which no other has at the time ("port 1"); empty: it is told apart by its id */
    /* Firmware's name of a disk behind a controller (Open Firmware, IEEE 1275): the controller, a function on PCI, and what follows its path. */
    struct device *boot_controller; /* NULL: the device is the function itself */
    char boot_unit[32];
};

/* vmm/dev/devices.c and devices_known.c. device_class_missing: QEMU has a device of this name, this program does not have it
 * yet. */
const struct device_class *device_class_find(const char *name);
bool device_class_missing(const char *name);
const char *const *device_class_known_list(void); /* all of QEMU's names; NULL-terminated, sorted */
const struct device_class *const *device_class_list(void);      /* NULL-terminated */
/* Allocates, sets defaults; then device_set_prop for each option, then device_realize, which adds it to the machine. */
struct device *device_create(struct machine *m, const struct device_class *c);
bool device_set_prop(struct device *d, const char *name, const char *value, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool device_realize(struct device *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void device_destroy(struct device *d); /* unrealize if realized; also one that never was */
/* device_add.c: from `driver=NAME,id=ID,...` to a realized device, at start (-device) and on a live machine (QMP device_add).
 * Main thread. Names without transport ("virtio-rng") mean the one that fits the board's bus. */
const struct device_class *device_class_for_user(const struct machine *m, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct device *device_add(struct machine *m, const struct device_class *c, const struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* By id, or by path as device_path gives it; NULL: there is none. */
struct device *device_find(const struct machine *m, const char *id_or_path);
/* "/machine/peripheral/ID", or "/machine/peripheral-anon/device[N]"; the caller frees. */
char *device_path(const struct device *d);
/* Its place in the firmware's boot order, the property bootindex; UINT32_MAX: none. */
uint64_t device_bootindex(const struct device *d);
/* QMP device_del: asks the guest. VIREO_ERROR_NOT_FOUND: no such device. */
bool device_del(struct machine *m, const char *id_or_path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The properties that come with the class's bus: rows beside its own. NULL: none. */
const struct device_prop *device_bus_props(const struct device_class *c);
/* The guest has let it go: destroys it, after those that sit on it, and sends DEVICE_DELETED. Main thread, from no method of the device. */
void device_gone(struct device *d);
/* The same from a method of the device, as its unplug: once the main thread has left it. An error when that is under way already. */
bool device_gone_soon(struct device *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Gives `mac`, when it is all zero, a locally administered address that stays the same for the card's place among the cards. */
void device_default_mac(const struct machine *m, uint8_t mac[6]);
char *device_class_help(const struct device_class *c); /* property table in words; caller frees */
