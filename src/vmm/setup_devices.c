/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes the devices: those of -device, and those that other options imply. */
#include <string.h>

#include "base/error.h"
#include "vmm/board/board.h"
#include "vmm/core/chardev.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/display/display.h"
#include "vmm/net/net.h"
#include "vmm/setup.h"

/* The name of a virtio device on this board's bus. */
static char *on_transport(const struct vm *vm, const char *name)
{
    return g_strdup_printf("%s-%s", name, vm->board->pci ? "pci" : "device");
}

static bool make_device(struct vm *vm, const struct device_class *c, const struct keyval *kv, GError **error)
{
    return device_add(vm->machine, c, kv, error) != NULL;
}

static bool has_device(const struct vm *vm, const char *driver)
{
    for (guint i = 0; i < vm->options.devices->len; i++) {
        const struct option_item *item = vm->options.devices->pdata[i];
        if (!g_strcmp0(keyval_get(item->kv, "driver"), driver))
            return true;
    }
    return false;
}

/* ---- serial ports ---- */

static bool add_serial(struct vm *vm, unsigned index, const char *spec, GError **error)
{
    g_autofree char *id = g_strdup_printf("serial%u", index), *number = g_strdup_printf("%u", index);
    struct chardev *c = NULL;
    if (spec && !setup_find_chardev(vm, id, spec, &c, error))
        return false;
    if (spec && !c)
        return true; /* "none": no such port */
    keyval_auto *kv = keyval_new();
    keyval_add(kv, "index", number);
    if (c)
        keyval_add(kv, "chardev", chardev_id(c));
    return make_device(vm, device_class_find("isa-serial"), kv, error);
}

bool setup_serial(struct vm *vm, GError **error)
{
    const struct options *o = &vm->options;
    for (guint i = 0; i < o->serials->len; i++) {
        const struct option_item *item = o->serials->pdata[i];
        if (!add_serial(vm, i, item->text, error)) {
            g_prefix_error(error, "-serial %s: ", item->text);
            return false;
        }
    }
    if (o->serials->len || vm->machine->config->nodefaults || has_device(vm, "isa-serial"))
        return true;
    if (add_serial(vm, 0, o->nographic ? "mon:stdio" : NULL, error))
        return true;
    g_prefix_error(error, "-nographic: ");
    return false;
}

/* ---- disks and cards without -device ---- */

/* The controller of disks with if=scsi: one for all of them. */
static bool need_scsi(struct vm *vm, GError **error)
{
    g_autofree char *name = on_transport(vm, "virtio-scsi");
    keyval_auto *kv = keyval_new();
    keyval_add(kv, "id", "scsi");
    const struct device_class *c = device_class_for_user(vm->machine, name, error);
    return device_find(vm->machine, "scsi") || (c && make_device(vm, c, kv, error));
}

static bool add_disk(struct vm *vm, const struct blockdev_drive *d, GError **error)
{
    bool ide = d->interface == BLOCKDEV_IF_IDE, scsi = d->interface == BLOCKDEV_IF_SCSI;
    g_autofree char *name = scsi ? g_strdup(d->media ? "scsi-cd" : "scsi-hd") : ide ? g_strdup(d->media ? "ide-cd" : "ide-hd") : on_transport(vm, "virtio-blk");
    keyval_auto *kv = keyval_new();
    if (ide && !vm->board->pci)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the board %s has no SATA controller; use if=virtio", vm->board->name);
    if (ide && d->index >= 6)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the board has the SATA ports 0 to 5, not %u; add a controller with -device ich9-ahci", (unsigned)d->index);
    if (scsi && !need_scsi(vm, error))
        return false;
    const struct device_class *c = device_class_for_user(vm->machine, name, error);
    keyval_add(kv, "drive", d->id);
    if (scsi) {
        g_autofree char *unit = g_strdup_printf("%u", (unsigned)d->unit), *index = g_strdup_printf("%u", (unsigned)d->index);
        keyval_add(kv, "bus", "scsi.0");
        if (d->unit != UINT64_MAX || d->index != UINT64_MAX)
            keyval_add(kv, "scsi-id", d->unit != UINT64_MAX ? unit : index);
    }
    if (ide) {
        g_autofree char *bus = g_strdup_printf("ide.%u", (unsigned)d->index);
        keyval_add(kv, "bus", bus);
    }
    return c && make_device(vm, c, kv, error);
}

bool setup_disks(struct vm *vm, GError **error)
{
    for (guint i = 0; i < vm->options.drives->len; i++) {
        const struct option_drive *d = vm->options.drives->pdata[i];
        if (d->drive.interface == BLOCKDEV_IF_NONE || add_disk(vm, &d->drive, error))
            continue;
        g_prefix_error(error, "-drive %s: ", d->item->text);
        return false;
    }
    return true;
}

static bool is_plain_card(const char *model)
{
    return !strcmp(model, "e1000e") || !strcmp(model, "e1000") || !strcmp(model, "rtl8139");
}

static bool add_nic(struct vm *vm, const struct keyval *given, const char *default_id, GError **error)
{
    keyval_auto *backend = keyval_copy(given);
    keyval_auto *card = keyval_new();
    g_autofree char *model = keyval_take(backend, "model"), *mac = keyval_take(backend, "mac"), *addr = keyval_take(backend, "addr");
    g_autofree char *fitting = on_transport(vm, "virtio-net");
    const char *id = keyval_get(backend, "id");
    if (!model || !strcmp(model, "virtio"))
        model = (g_free(model), g_strdup(fitting));
    if (strcmp(model, fitting) && !(vm->board->pci && is_plain_card(model)))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Unsupported NIC model: %s; there is: %s%s", model, fitting,
                          vm->board->pci ? ", e1000e, e1000, rtl8139" : "");
    const struct device_class *c = device_class_for_user(vm->machine, model, error);
    if (!c || !net_open(vm->machine, backend, default_id, error))
        return false;
    keyval_add(card, "netdev", id ? id : default_id);
    if (mac)
        keyval_add(card, "mac", mac);
    if (addr)
        keyval_add(card, "addr", addr);
    return make_device(vm, c, card, error);
}

/* One card with user networking, where QEMU has one. */
static bool wants_default_nic(const struct vm *vm)
{
    const struct options *o = &vm->options;
    return vm->board->pci && !vm->machine->config->nodefaults && !o->no_net && !o->nics->len && !o->netdevs->len &&
           !has_device(vm, "virtio-net-pci") && !has_device(vm, "virtio-net") && !has_device(vm, "e1000e") && !has_device(vm, "e1000") &&
           !has_device(vm, "rtl8139");
}

bool setup_nics(struct vm *vm, GError **error)
{
    for (guint i = 0; i < vm->options.nics->len; i++) {
        const struct option_item *item = vm->options.nics->pdata[i];
        g_autofree char *id = g_strdup_printf("nic%u", i);
        if (!add_nic(vm, item->kv, id, error)) {
            g_prefix_error(error, "-nic %s: ", item->text);
            return false;
        }
    }
    if (!wants_default_nic(vm))
        return true;
    keyval_auto *user = keyval_new();
    keyval_add(user, "type", "user");
    if (add_nic(vm, user, "nic0", error))
        return true;
    g_prefix_error(error, "the default network card (-nic none leaves it out): ");
    return false;
}

/* ---- the graphics card ---- */

/* After -device, so that it takes no place that the user has given away. */
bool setup_vga(struct vm *vm, GError **error)
{
    const char *vga = vm->options.vga;
    keyval_auto *kv = keyval_new();
    if (!vga && vm->options.vnc && vm->board->pci && !vm->machine->config->nodefaults && !display_claimed(vm->machine->display))
        vga = "std"; /* whoever looks wants to see something */
    if (!vga || !strcmp(vga, "none"))
        return true;
    const struct device_class *c = device_class_for_user(vm->machine, !strcmp(vga, "std") ? "VGA" : "virtio-vga", error);
    if (c && make_device(vm, c, kv, error))
        return true;
    g_prefix_error(error, "-vga %s: ", vga);
    return false;
}

/* ---- -device ---- */

/* Before the devices that may sit on it. */
static bool add_usb(struct vm *vm, GError **error)
{
    keyval_auto *kv = keyval_new();
    const struct device_class *c = device_class_for_user(vm->machine, "qemu-xhci", error);
    return c && make_device(vm, c, kv, error);
}

bool setup_devices(struct vm *vm, GError **error)
{
    if (vm->options.usb && !add_usb(vm, error)) {
        g_prefix_error(error, "-usb: ");
        return false;
    }
    for (guint i = 0; i < vm->options.devices->len; i++) {
        const struct option_item *item = vm->options.devices->pdata[i];
        const struct device_class *c = device_class_for_user(vm->machine, keyval_get(item->kv, "driver"), error);
        if (!c || !make_device(vm, c, item->kv, error)) {
            g_prefix_error(error, "-device %s: ", item->text);
            return false;
        }
    }
    return true;
}
