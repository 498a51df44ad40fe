/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bus, and the devices on it: scsi-hd and scsi-cd. */
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/scsi/scsi_bus.h"

enum { AUTO = UINT32_MAX, CD_BLOCK = 2048 };

extern const struct device_class scsi_cd_class;

/* ---- the bus ---- */

void scsi_bus_init(struct scsi_bus *b, struct device *controller, unsigned max_id, unsigned max_lun)
{
    b->controller = controller;
    b->devices = g_ptr_array_new();
    b->max_id = max_id;
    b->max_lun = max_lun;
}

void scsi_bus_finish(struct scsi_bus *b)
{
    for (guint i = 0; b->devices && i < b->devices->len; i++)
        ((struct scsi_device *)b->devices->pdata[i])->bus = NULL;
    g_clear_pointer(&b->devices, g_ptr_array_unref);
}

struct scsi_device *scsi_bus_find(const struct scsi_bus *b, unsigned id, unsigned lun)
{
    for (guint i = 0; i < b->devices->len; i++) {
        struct scsi_device *d = b->devices->pdata[i];
        if (d->id == id && d->lun == lun)
            return d;
    }
    return NULL;
}

static int by_number(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

unsigned scsi_bus_luns(const struct scsi_bus *b, unsigned id, uint16_t *ret, unsigned n)
{
    unsigned count = 0;
    for (guint i = 0; i < b->devices->len && count < n; i++) {
        const struct scsi_device *d = b->devices->pdata[i];
        if (d->id == id)
            ret[count++] = (uint16_t)d->lun;
    }
    qsort(ret, count, sizeof(*ret), by_number);
    return count;
}

void scsi_bus_settle(struct scsi_bus *b)
{
    for (guint i = 0; i < b->devices->len; i++)
        disk_settle(&((struct scsi_device *)b->devices->pdata[i])->disk);
}

void scsi_bus_drain(struct scsi_bus *b)
{
    for (guint i = 0; i < b->devices->len; i++)
        disk_drain(&((struct scsi_device *)b->devices->pdata[i])->disk);
}

void scsi_bus_reset(struct scsi_bus *b)
{
    for (guint i = 0; i < b->devices->len; i++)
        scsi_unit_reset(&((struct scsi_device *)b->devices->pdata[i])->unit);
}

/* ---- a device ---- */

/* "bus" is ID.0 of the controller; without it, the last one. */
static struct scsi_bus *find_bus(const struct scsi_device *s)
{
    const GPtrArray *all = s->dev.machine->devices;
    for (unsigned i = all->len; i-- > 0;) {
        struct device *d = g_ptr_array_index(all, i);
        size_t n = d->id ? strlen(d->id) : 0;
        struct scsi_bus *b = scsi_bus_of(d);
        if (b && (!s->bus_name || (n && !strncmp(s->bus_name, d->id, n) && (!s->bus_name[n] || !strcmp(s->bus_name + n, ".0")))))
            return b;
    }
    return NULL;
}

static bool take_place(struct scsi_device *s, GError **error)
{
    const char *name = s->dev.class->name;
    struct scsi_bus *b = s->bus;
    if (s->channel)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: channel=%" G_GUINT64_FORMAT ": the controller has channel 0 alone", name, s->channel);
    if (s->id == AUTO) {
        s->lun = s->lun == AUTO ? 0 : s->lun;
        for (s->id = 0; s->id <= b->max_id && scsi_bus_find(b, s->id, s->lun); s->id++)
            ;
    } else if (s->lun == AUTO) {
        for (s->lun = 0; s->lun <= b->max_lun && s->id <= b->max_id && scsi_bus_find(b, s->id, s->lun); s->lun++)
            ;
    }
    if (s->id > b->max_id || s->lun > b->max_lun)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: no such place on the bus: scsi-id up to %u, lun up to %u", name, b->max_id, b->max_lun);
    const struct scsi_device *other = scsi_bus_find(b, s->id, s->lun);
    if (other)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: lun already used by '%s'", name, other->dev.id ? other->dev.id : other->dev.class->name);
    return true;
}

static unsigned unit_luns(struct scsi_unit *u, uint16_t *ret, unsigned n)
{
    const struct scsi_device *s = u->opaque;
    return scsi_bus_luns(s->bus, (unsigned)s->id, ret, n);
}

static void changed(void *opaque, bool resized)
{
    struct scsi_device *s = opaque;
    scsi_unit_changed(&s->unit, resized);
    g_mutex_lock(s->disk.lock);
    if (resized && s->bus)
        s->bus->changed(s->bus, s, SCSI_ASC_CAPACITY_CHANGED);
    g_mutex_unlock(s->disk.lock);
}

static void batch_done(void *opaque)
{
    struct scsi_device *s = opaque;
    if (s->bus)
        s->bus->batch_done(s->bus);
}

static void fill_unit(struct scsi_device *s, bool cd)
{
    struct scsi_unit *u = &s->unit;
    const char *drive = s->disk.block ? block_device_options(s->disk.block)->id : NULL;
    scsi_unit_init(u, &s->disk, cd);
    u->vendor = s->vendor ? s->vendor : "VIREO";
    u->product = s->product ? s->product : cd ? "CD-ROM" : "DISK";
    u->version = s->version ? s->version : "1.0";
    u->serial = s->disk.serial;
    u->device_id = s->device_id ? s->device_id : s->disk.serial ? NULL : drive;
    u->wwn = s->wwn;
    u->rotation_rate = s->rotation_rate;
    u->removable_medium = s->removable;
    u->dpofua = s->dpofua;
    u->max_unmap = s->max_unmap;
    u->max_io = s->max_io;
    u->lun = s->lun;
    u->luns = unit_luns;
    u->opaque = s;
    s->disk.batch_done = batch_done;
    s->disk.changed = changed;
    s->disk.opaque = s;
}

static bool realize(struct device *d, GError **error)
{
    struct scsi_device *s = (struct scsi_device *)d;
    bool cd = d->class == &scsi_cd_class;
    s->bus = find_bus(s);
    if (!s->bus)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no SCSI controller%s%s; put -device virtio-scsi-pci before it",
                          d->class->name, s->bus_name ? " " : "", s->bus_name ? s->bus_name : "");
    if (cd)
        s->disk.logical_block_size = s->disk.physical_block_size = CD_BLOCK;
    if (!take_place(s, error) || !disk_open(&s->disk, d, &s->bus->controller->lock, cd, error))
        return false;
    fill_unit(s, cd);
    if (cd)
        scsi_unit_init_tray(&s->unit);
    d->parent = d->boot_controller = s->bus->controller;
    g_snprintf(d->boot_unit, sizeof(d->boot_unit), "/channel@0/disk@%x,%x", (unsigned)s->id, (unsigned)s->lun);
    g_mutex_lock(s->disk.lock);
    g_ptr_array_add(s->bus->devices, s);
    s->bus->plugged(s->bus, s, true);
    g_mutex_unlock(s->disk.lock);
    return true;
}

/* Lock held: nobody finds it any more. */
static void leave(struct scsi_device *s)
{
    if (s->bus && g_ptr_array_remove(s->bus->devices, s))
        s->bus->plugged(s->bus, s, false);
}

static void unrealize(struct device *d)
{
    struct scsi_device *s = (struct scsi_device *)d;
    GMutex *lock = s->disk.lock;
    g_mutex_lock(lock);
    leave(s);
    disk_settle(&s->disk);
    g_mutex_unlock(lock);
    disk_close(&s->disk);
}

/* As QEMU: the device goes at once, and the guest is told. */
static bool unplug(struct device *d, GError **error)
{
    struct scsi_device *s = (struct scsi_device *)d;
    if (!device_gone_soon(d, error))
        return false;
    g_mutex_lock(s->disk.lock);
    leave(s);
    g_mutex_unlock(s->disk.lock);
    return true;
}

/* Its commands are the controller's. */
static void save(struct device *d, struct state_writer *w)
{
    disk_save(&((struct scsi_device *)d)->disk, w);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    return disk_load(&((struct scsi_device *)d)->disk, r, error);
}

#define T struct scsi_device
#define SCSI_PROPS                                                                                                           \
    DISK_PROPS(T, disk), DISK_ERROR_PROPS(T, disk), DISK_SERIAL_PROP(T, disk, "serial number, up to 36 bytes"),              \
    { "bus", PROP_STRING, offsetof(T, bus_name), .help = "ID.0 of the controller; without it, the last one" },               \
    { "channel", PROP_UINT, offsetof(T, channel), 0, UINT32_MAX, .def = "0", .help = "0" },                                  \
    { "scsi-id", PROP_UINT, offsetof(T, id), 0, UINT32_MAX, .def = "4294967295", .help = "target; 4294967295: the first free one" }, \
    { "lun", PROP_UINT, offsetof(T, lun), 0, UINT32_MAX, .def = "4294967295", .help = "logical unit; 4294967295: the first free one" }, \
    { "vendor", PROP_STRING, offsetof(T, vendor), .help = "of INQUIRY" },                                                    \
    { "product", PROP_STRING, offsetof(T, product), .help = "of INQUIRY" },                                                  \
    { "ver", PROP_STRING, offsetof(T, version), .help = "of INQUIRY" },                                                      \
    { "device_id", PROP_STRING, offsetof(T, device_id), .help = "designator of the unit; without it the serial number or the drive's id" }, \
    { "wwn", PROP_UINT, offsetof(T, wwn), 0, UINT64_MAX, .def = "0", .help = "name, NAA; 0: none" },                         \
    { "max_io_size", PROP_UINT, offsetof(T, max_io), 0, UINT64_MAX, .def = "2147483647", .help = "bytes of a request" },     \
    { "bootindex", PROP_UINT, offsetof(T, bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" }, \
    { "scsi_version", PROP_UINT, offsetof(T, scsi_version), 5, 5, .def = "5", .help = "only 5" }

static const struct device_prop hd_props[] = {
    SCSI_PROPS,
    { "removable", PROP_BOOL, offsetof(T, removable), .def = "off", .help = "its medium can be taken out" },
    { "dpofua", PROP_BOOL, offsetof(T, dpofua), .def = "off", .help = "offer writes that go past the cache" },
    { "rotation_rate", PROP_UINT, offsetof(T, rotation_rate), 0, 65535, .def = "0", .help = "per minute; 1: no moving parts" },
    { "max_unmap_size", PROP_UINT, offsetof(T, max_unmap), 0, UINT64_MAX, .def = "1073741824", .help = "bytes of a discard" },
    { NULL }
};
static const struct device_prop cd_props[] = { SCSI_PROPS, { NULL } };
static const struct device_field fields[] = { SCSI_UNIT_FIELDS(T, unit), { NULL } };

const struct device_class scsi_hd_class = {
    .name = "scsi-hd", .help = "disk on a SCSI controller", .size = sizeof(T), .props = hd_props, .fields = fields, .user_creatable = true, .realize = realize,
    .unrealize = unrealize, .hotplug = true, .unplug = unplug, .save = save, .load = load,
};
const struct device_class scsi_cd_class = {
    .name = "scsi-cd", .help = "CD/DVD drive on a SCSI controller", .size = sizeof(T), .props = cd_props, .fields = fields, .user_creatable = true, .realize = realize,
    .unrealize = unrealize, .hotplug = true, .unplug = unplug, .save = save, .load = load,
};
