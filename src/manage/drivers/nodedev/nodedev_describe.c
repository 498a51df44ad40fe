/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The document of a device. Texts from /sys are the device's own words: made valid before they go into a document. */
#include <stdio.h>
#include <string.h>

#include "nodedev.h"

char *nodedev_attr(struct udev_device *u, const char *name)
{
    const char *raw = udev_device_get_sysattr_value(u, name);
    if (!raw)
        return NULL;
    char *text = g_utf8_make_valid(raw, -1);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20)
            *c = ' ';
    return g_strstrip(text);
}

static void put_attr(struct el *e, const char *path, struct udev_device *u, const char *name)
{
    g_autofree char *text = nodedev_attr(u, name);
    if (text && *text)
        el_set(e, path, text);
}

static void put_number(struct el *e, const char *path, struct udev_device *u, const char *name, int base)
{
    g_autofree char *text = nodedev_attr(u, name);
    el_setf(e, path, "%lu", text ? strtoul(text, NULL, base) : 0);
}

/* ---- the computer ---- */

static void put_dmi(struct el *cap, const char *path, const char *file)
{
    g_autofree char *name = g_build_filename("/sys/class/dmi/id", file, NULL), *text = NULL;
    if (!g_file_get_contents(name, &text, NULL, NULL))
        return;
    g_autofree char *valid = g_strstrip(g_utf8_make_valid(text, -1));
    if (*valid)
        el_set(cap, path, valid);
}

static void describe_system(struct el *cap)
{
    static const char *const rows[][2] = {
        { "product", "product_name" }, { "hardware/vendor", "sys_vendor" }, { "hardware/version", "product_version" }, { "hardware/serial", "product_serial" },
        { "firmware/vendor", "bios_vendor" }, { "firmware/version", "bios_version" }, { "firmware/release_date", "bios_date" },
    };
    el_add(cap, "hardware");
    el_add(cap, "firmware");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        put_dmi(cap, rows[i][0], rows[i][1]);
    el_set(cap, "hardware/uuid", "00000000-0000-0000-0000-000000000000");
    put_dmi(cap, "hardware/uuid", "product_uuid");
}

/* ---- storage ---- */

const char *nodedev_drive_type(struct udev_device *u)
{
    static const char *const disks[] = { "vd", "nvme", "xvd", "pmem", "dasd", "mmcblk" };
    const char *name = udev_device_get_sysname(u), *type = udev_device_get_property_value(u, "ID_TYPE");
    if (type && !strcmp(type, "cd"))
        return "cdrom";
    if (type && (!strcmp(type, "disk") || !strcmp(type, "floppy") || !strcmp(type, "sd")))
        return !strcmp(type, "disk") ? "disk" : !strcmp(type, "sd") ? "sd" : "floppy";
    for (unsigned i = 0; i < G_N_ELEMENTS(disks); i++)
        if (g_str_has_prefix(name, disks[i]))
            return "disk";
    /* Without udevd: the kind of the SCSI device below it. */
    g_autofree char *scsi = nodedev_attr(u, "device/type");
    return !scsi ? NULL : !strcmp(scsi, "0") ? "disk" : !strcmp(scsi, "5") ? "cdrom" : NULL;
}

static void put_blocks(struct el *e, struct udev_device *u, const char *size_name)
{
    g_autofree char *sectors = nodedev_attr(u, "size"), *block = nodedev_attr(u, "queue/logical_block_size");
    uint64_t size = sectors ? g_ascii_strtoull(sectors, NULL, 10) * 512 : 0, unit = block ? g_ascii_strtoull(block, NULL, 10) : 0;
    el_setf(e, size_name, "%" G_GUINT64_FORMAT, size);
    if (!unit)
        return;
    el_setf(e, "logical_block_size", "%" G_GUINT64_FORMAT, unit);
    el_setf(e, "num_blocks", "%" G_GUINT64_FORMAT, size / unit);
}

static void describe_storage(struct el *cap, struct udev_device *u)
{
    const char *bus = udev_device_get_property_value(u, "ID_BUS"), *serial = udev_device_get_property_value(u, "ID_SERIAL");
    g_autofree char *removable = nodedev_attr(u, "removable"), *size = nodedev_attr(u, "size");
    el_set(cap, "block", udev_device_get_devnode(u));
    if (bus)
        el_set(cap, "bus", bus);
    el_set(cap, "drive_type", nodedev_drive_type(u));
    put_attr(cap, "model", u, "device/model");
    put_attr(cap, "vendor", u, "device/vendor");
    if (serial)
        el_set(cap, "serial", serial);
    if (!removable || strcmp(removable, "1")) {
        put_blocks(cap, u, "size");
        return;
    }
    struct el *r = el_add(cap, "capability");
    bool medium = size && strcmp(size, "0");
    el_set(r, "@type", "removable");
    el_set(r, "media_available", medium ? "1" : "0");
    if (medium)
        put_blocks(r, u, "media_size");
    else
        el_set(r, "media_size", "0");
}

/* ---- USB, SCSI, graphics ---- */

static void describe_usb_device(struct el *cap, struct udev_device *u)
{
    g_autofree char *vendor = nodedev_attr(u, "idVendor"), *product = nodedev_attr(u, "idProduct");
    const char *vendor_name = udev_device_get_property_value(u, "ID_VENDOR_FROM_DATABASE"), *product_name = udev_device_get_property_value(u, "ID_MODEL_FROM_DATABASE");
    put_number(cap, "bus", u, "busnum", 10);
    put_number(cap, "device", u, "devnum", 10);
    struct el *p = el_add(cap, "product"), *v = el_add(cap, "vendor");
    el_setf(p, "@id", "0x%s", product ? product : "0000");
    el_setf(v, "@id", "0x%s", vendor ? vendor : "0000");
    if (product_name)
        el_set(p, "", product_name);
    else
        put_attr(p, "", u, "product");
    if (vendor_name)
        el_set(v, "", vendor_name);
    else
        put_attr(v, "", u, "manufacturer");
}

static void describe_usb(struct el *cap, struct udev_device *u)
{
    put_number(cap, "number", u, "bInterfaceNumber", 16);
    put_number(cap, "class", u, "bInterfaceClass", 16);
    put_number(cap, "subclass", u, "bInterfaceSubClass", 16);
    put_number(cap, "protocol", u, "bInterfaceProtocol", 16);
}

static void describe_scsi(struct el *cap, struct udev_device *u)
{
    static const char *const types[] = { "disk", "tape", "printer", "processor", "worm", "cdrom", "scanner", "mod", "changer", NULL, NULL, NULL, "raid" };
    static const char *const parts[] = { "host", "bus", "target", "lun" };
    unsigned at[4];
    g_autofree char *type = nodedev_attr(u, "type");
    unsigned number = type ? (unsigned)strtoul(type, NULL, 10) : UINT_MAX;
    if (sscanf(udev_device_get_sysname(u), "%u:%u:%u:%u", &at[0], &at[1], &at[2], &at[3]) == 4)
        for (unsigned i = 0; i < 4; i++)
            el_setf(cap, parts[i], "%u", at[i]);
    if (number < G_N_ELEMENTS(types) && types[number])
        el_set(cap, "type", types[number]);
}

static void describe_scsi_host(struct el *cap, struct udev_device *u)
{
    unsigned host = 0;
    (void)sscanf(udev_device_get_sysname(u), "host%u", &host);
    el_setf(cap, "host", "%u", host);
    put_attr(cap, "unique_id", u, "unique_id");
}

static void describe_drm(struct el *cap, struct udev_device *u)
{
    const char *name = udev_device_get_sysname(u);
    el_set(cap, "type", g_str_has_prefix(name, "render") ? "render" : g_str_has_prefix(name, "control") ? "control" : "primary");
}

static void describe_simple(struct el *cap, struct udev_device *u, enum nodedev_cap type)
{
    const char *node = udev_device_get_devnode(u), *name = udev_device_get_sysname(u);
    unsigned a, b, c;
    switch (type) {
    case NODEDEV_SCSI_TARGET: el_set(cap, "target", name); break;
    case NODEDEV_SCSI_GENERIC: el_set(cap, "char", node ? node : ""); break;
    case NODEDEV_VDPA: el_set(cap, "chardev", node ? node : ""); break;
    case NODEDEV_MDEV: el_set(cap, "uuid", name); break;
    case NODEDEV_CCW: case NODEDEV_CSS:
        if (sscanf(name, "%x.%x.%x", &a, &b, &c) == 3) {
            el_setf(cap, "cssid", "0x%x", a);
            el_setf(cap, "ssid", "0x%x", b);
            el_setf(cap, "devno", "0x%04x", c);
        }
        break;
    default: break;
    }
}

/* ---- all of it ---- */

static void put_nodes(struct el *root, struct udev_device *u)
{
    const char *node = udev_device_get_devnode(u);
    struct udev_list_entry *i;
    struct el *e;
    if (!node)
        return;
    e = el_add(root, "devnode");
    el_set(e, "@type", "dev");
    el_set(e, "", node);
    udev_list_entry_foreach(i, udev_device_get_devlinks_list_entry(u)) {
        e = el_add(root, "devnode");
        el_set(e, "@type", "link");
        el_set(e, "", udev_list_entry_get_name(i));
    }
}

static void describe(struct el *root, const struct nodedev *d, struct udev_device *u)
{
    const char *driver = udev_device_get_driver(u);
    el_set(root, "path", d->path);
    put_nodes(root, u);
    if (driver)
        el_set(root, "driver/name", driver);
    struct el *cap = el_add(root, "capability");
    el_set(cap, "@type", nodedev_cap_names[d->type]);
    switch (d->type) {
    case NODEDEV_PCI: nodedev_describe_pci(cap, u); break;
    case NODEDEV_NET: nodedev_describe_net(cap, u); break;
    case NODEDEV_STORAGE: describe_storage(cap, u); break;
    case NODEDEV_USB_DEVICE: describe_usb_device(cap, u); break;
    case NODEDEV_USB: describe_usb(cap, u); break;
    case NODEDEV_SCSI: describe_scsi(cap, u); break;
    case NODEDEV_SCSI_HOST: describe_scsi_host(cap, u); break;
    case NODEDEV_DRM: describe_drm(cap, u); break;
    default: describe_simple(cap, u, d->type); break;
    }
}

char *nodedev_describe(const struct nodedev *d, GError **error)
{
    doc_auto *doc = doc_new(&schema_nodedev);
    struct el *root = doc_root(doc);
    el_set(root, "name", d->name);
    if (d->parent)
        el_set(root, "parent", d->parent);
    if (!d->path) {
        struct el *cap = el_add(root, "capability");
        el_set(cap, "@type", "system");
        describe_system(cap);
        return doc_format(doc);
    }
    struct udev *udev = udev_new();
    struct udev_device *u = udev_device_new_from_syspath(udev, d->path);
    enum nodedev_cap type;
    bool ok = u && nodedev_classify(u, &type) && type == d->type;
    if (ok)
        describe(root, d, u);
    udev_device_unref(u);
    udev_unref(udev);
    return ok ? doc_format(doc) : manage_null(error, VIR_ERR_NO_NODE_DEVICE, "'%s' has gone", d->name);
}
