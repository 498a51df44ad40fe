/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options that describe disks, devices, networks, character back ends and control. */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/chardev.h"
#include "vmm/core/device.h"
#include "vmm/core/object.h"
#include "vmm/options.h"

static bool known_id(GPtrArray *list, const char *key, const char *id, const char *what, GError **error)
{
    for (guint i = 0; i < list->len; i++) {
        const struct option_item *item = list->pdata[i];
        const char *other = keyval_get(item->kv, key);
        if (other && !strcmp(other, id)) {
            vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate ID '%s' for %s", id, what);
            return true;
        }
    }
    return false;
}

/* An item of `list` that must have an id of its own. */
static struct option_item *add_with_id(struct options *o, GPtrArray *list, const char *option, const char *arg, const char *implied,
                                       const char *key, GError **error)
{
    struct option_item *item = options_add_item(o, NULL, option, arg, true, implied, error);
    if (!item)
        return NULL;
    const char *id = keyval_get(item->kv, key);
    if (!id || !*id) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing; add %s=NAME", key, key);
        return NULL;
    }
    if (known_id(list, key, id, option + 1, error))
        return NULL;
    g_ptr_array_add(list, item);
    return item;
}

/* ---- disks ---- */

void option_drive_free(void *p)
{
    struct option_drive *d = p;
    blockdev_drive_clear(&d->drive);
    g_free(d);
}

static bool drive_id_taken(const struct options *o, const char *id)
{
    for (guint i = 0; i < o->drives->len; i++) {
        if (!strcmp(((const struct option_drive *)o->drives->pdata[i])->drive.id, id))
            return true;
    }
    return false;
}

/* What an interface has been given is counted, as is its name: "virtio1". */
static unsigned drives_of(const struct options *o, int interface)
{
    unsigned n = 0;
    for (guint i = 0; i < o->drives->len; i++)
        n += ((const struct option_drive *)o->drives->pdata[i])->drive.interface == interface;
    return n;
}

static bool place_taken(const struct options *o, uint64_t index)
{
    for (guint i = 0; i < o->drives->len; i++) {
        const struct blockdev_drive *d = &((const struct option_drive *)o->drives->pdata[i])->drive;
        if (d->interface == BLOCKDEV_IF_IDE && d->index == index)
            return true;
    }
    return false;
}

/* A port has one drive: index= and bus= are the same. Without them the first free one. */
static bool place_ide(const struct options *o, struct blockdev_drive *d, GError **error)
{
    if (d->unit != UINT64_MAX && d->unit)
        return vireo_fail(error, VIREO_ERROR_INVALID, "unit %u too big (max is 0)", (unsigned)d->unit);
    if (d->index == UINT64_MAX)
        d->index = d->bus;
    for (uint64_t n = 0; d->index == UINT64_MAX; n++) {
        if (!place_taken(o, n))
            d->index = n;
    }
    if (place_taken(o, d->index))
        return vireo_fail(error, VIREO_ERROR_INVALID, "drive with bus=%u, unit=0 (index=%u) exists", (unsigned)d->index, (unsigned)d->index);
    if (!d->id)
        d->id = g_strdup_printf("ide%u-%s0", (unsigned)d->index, d->media ? "cd" : "hd");
    return true;
}

static bool check_drive(struct options *o, struct blockdev_drive *d, GError **error)
{
    static const char *const names[] = { [BLOCKDEV_IF_NONE] = "none", [BLOCKDEV_IF_VIRTIO] = "virtio", [BLOCKDEV_IF_IDE] = "ide", [BLOCKDEV_IF_SCSI] = "scsi",
                                         [BLOCKDEV_IF_SD] = "sd", [BLOCKDEV_IF_MTD] = "mtd", [BLOCKDEV_IF_FLOPPY] = "floppy", [BLOCKDEV_IF_PFLASH] = "pflash",
                                         [BLOCKDEV_IF_XEN] = "xen" };
    if (d->interface == BLOCKDEV_IF_DEFAULT)
        d->interface = BLOCKDEV_IF_IDE;
    if (d->interface > BLOCKDEV_IF_SCSI)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "if=%s is not there yet; use if=ide, if=scsi, if=virtio, or if=none for a -device", names[d->interface]);
    if ((!d->file || !*d->file) && !d->node->pairs->len && !(d->media && d->interface != BLOCKDEV_IF_VIRTIO))
        return vireo_fail(error, VIREO_ERROR_INVALID, "no image; add file=FILE");
    if (d->interface == BLOCKDEV_IF_IDE && !place_ide(o, d, error))
        return false;
    if (!d->id)
        d->id = g_strdup_printf("%s%u", names[d->interface], drives_of(o, d->interface));
    return !drive_id_taken(o, d->id) || vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate ID '%s' for drive", d->id);
}

bool opt_drive(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct option_item *item = options_add_item(o, NULL, "-drive", arg, true, NULL, error);
    struct blockdev_drive d;
    if (!item || !blockdev_drive_parse(item->kv, &d, error))
        return false;
    if (!check_drive(o, &d, error)) {
        blockdev_drive_clear(&d);
        return false;
    }
    struct option_drive *drive = g_new0(struct option_drive, 1);
    *drive = (struct option_drive){ item, d };
    g_ptr_array_add(o->drives, drive);
    return true;
}

/* -hda to -hdd, -cdrom. */
bool opt_hd(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    bool cd = !strcmp(row->name, "cdrom");
    g_auto(GStrv) parts = g_strsplit(arg, ",", -1);
    g_autofree char *escaped = g_strjoinv(",,", parts);
    g_autofree char *text = g_strdup_printf("if=ide,index=%u,media=%s,file=%s", cd ? 2 : row->name[2] - 'a', cd ? "cdrom" : "disk", escaped);
    return opt_drive(o, row, text, error);
}

bool opt_blockdev(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct option_item *item = add_with_id(o, o->blockdevs, "-blockdev", arg, "driver", "node-name", error);
    if (!item)
        return false;
    if (!keyval_get(item->kv, "driver"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'driver' is missing; add driver=raw or driver=file");
    return true;
}

/* ---- devices ---- */

static char *device_list(void)
{
    static const char *const buses[] = { [DEV_BUS_NONE] = "System", [DEV_BUS_ISA] = "ISA", [DEV_BUS_PCI] = "PCI", [DEV_BUS_IDE] = "IDE", [DEV_BUS_VIRTIO] = "virtio-bus" };
    GString *s = g_string_new(NULL);
    const struct device_class *const *list = device_class_list();
    for (size_t i = 0; list[i]; i++) {
        if (list[i]->user_creatable)
            g_string_append_printf(s, "name \"%s\", bus %s, desc \"%s\"\n", list[i]->name, buses[list[i]->bus], list[i]->help);
    }
    return g_string_free(s, FALSE);
}

/* "help" asks for the list; "TYPE,help" for what the type takes. */
bool opt_object(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct option_item *item = options_add_item(o, o->objects, "-object", arg, true, "qom-type", error);
    if (!item)
        return false;
    const char *type = keyval_get(item->kv, "qom-type");
    if (!type)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'qom-type' is missing");
    if (!strcmp(type, "help") || !strcmp(type, "?"))
        return options_print(error, object_help(NULL));
    if (keyval_get(item->kv, "help"))
        return options_print(error, object_help(type));
    return true;
}

bool opt_device(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct option_item *item = options_add_item(o, o->devices, "-device", arg, true, "driver", error);
    if (!item)
        return false;
    const char *driver = keyval_get(item->kv, "driver");
    if (!driver)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'driver' is missing");
    if (!strcmp(driver, "help") || !strcmp(driver, "?"))
        return options_print(error, device_list());
    if (keyval_get(item->kv, "help")) {
        g_autofree char *pci = g_strdup_printf("%s-pci", driver); /* "virtio-blk" */
        const struct device_class *c = device_class_find(driver);
        c = c ? c : device_class_find(pci);
        if (!c && device_class_missing(driver))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the device '%s' is not there yet; -device help lists those that are", driver);
        if (!c)
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "'%s' is not a valid device model name; -device help lists them", driver);
        return options_print(error, device_class_help(c));
    }
    const char *id = keyval_get(item->kv, "id");
    g_ptr_array_remove_index(o->devices, o->devices->len - 1);
    if (id && known_id(o->devices, "id", id, "device", error))
        return false;
    g_ptr_array_add(o->devices, item);
    return true;
}

bool opt_audiodev(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?"))
        return options_print(error, g_strdup("Available audio drivers:\nnone\nwav\n"));
    return add_with_id(o, o->audiodevs, "-audiodev", arg, "driver", "id", error) != NULL;
}

bool opt_usbdevice(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    static const struct { const char *name, *device; } all[] = { { "tablet", "usb-tablet" }, { "mouse", "usb-mouse" }, { "keyboard", "usb-kbd" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!strcmp(arg, all[i].name)) {
            o->usb = true;
            return options_add_item(o, o->devices, "-usbdevice", all[i].device, true, "driver", error) != NULL;
        }
    }
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there are: tablet, mouse, keyboard; for another device use -device");
}

/* ---- networks ---- */

static char *netdev_help(void)
{
    return g_strdup("Available netdev backend types:\nuser\ntap\nbridge\nsocket\nstream\ndgram\n");
}

bool opt_netdev(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "help"))
        return options_print(error, netdev_help());
    return add_with_id(o, o->netdevs, "-netdev", arg, "type", "id", error) != NULL;
}

bool opt_nic(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "help"))
        return options_print(error, netdev_help());
    if (!strcmp(arg, "none")) {
        o->no_net = true;
        return true;
    }
    return options_add_item(o, o->nics, "-nic", arg, true, "type", error) != NULL;
}

bool opt_net(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (strcmp(arg, "none"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "only none is there; use -nic user,model=virtio-net-pci");
    o->no_net = true;
    return true;
}

/* ---- character back ends and control ---- */

bool opt_chardev(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "help"))
        return options_print(error, chardev_help());
    return add_with_id(o, o->chardevs, "-chardev", arg, "backend", "id", error) != NULL;
}

bool opt_serial(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (o->serials->len == 4)
        return vireo_fail(error, VIREO_ERROR_INVALID, "there are only 4 serial ports");
    return options_add_item(o, o->serials, "-serial", arg, false, NULL, error) != NULL;
}

bool opt_qmp(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "none"))
        return true;
    if (g_str_has_prefix(arg, "mon:"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Ctrl-A commands and QMP do not share a line; leave out 'mon:'");
    return options_add_item(o, o->qmps, strcmp(row->name, "qmp") ? "-qmp-pretty" : "-qmp", arg, false, NULL, error) != NULL;
}

struct mon_opts { char *chardev; int mode; bool pretty; };
static const char *const mon_modes[] = { "readline", "control", NULL };
static const struct keyval_key mon_keys[] = {
    { "chardev", KV_STRING, offsetof(struct mon_opts, chardev), "id of a -chardev" },
    { "mode", KV_ENUM, offsetof(struct mon_opts, mode), "control", mon_modes },
    { "pretty", KV_BOOL, offsetof(struct mon_opts, pretty), "indented output" },
    { "id", KV_IGNORED },
    { NULL }
};

static bool add_mon(struct options *o, const struct mon_opts *v, GError **error)
{
    if (!v->chardev)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'chardev' is missing");
    if (v->mode != 1)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is no monitor for humans yet; add mode=control");
    g_autofree char *spec = g_strdup_printf("chardev:%s", v->chardev);
    return options_add_item(o, o->qmps, v->pretty ? "-qmp-pretty" : "-qmp", spec, false, NULL, error) != NULL;
}

bool opt_mon(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct mon_opts v = { 0 };
    keyval_auto *kv = keyval_parse(arg, "chardev", error);
    bool ok = kv && keyval_load(kv, mon_keys, &v, error) && add_mon(o, &v, error);
    g_free(v.chardev);
    return ok;
}

bool opt_log(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?"))
        return options_print(error, log_help());
    return log_parse(arg, error);
}
