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

static const char *const if_values[] = { "virtio", "none", NULL };
static const char *const other_if_values[] = { "ide", "scsi", "sd", "mtd", "floppy", "pflash", "xen", NULL };
static const char *const cache_values[] = {
    [CACHE_WRITEBACK] = "writeback", [CACHE_NONE] = "none", [CACHE_WRITETHROUGH] = "writethrough",
    [CACHE_DIRECTSYNC] = "directsync", [CACHE_UNSAFE] = "unsafe", NULL
};
static const char *const error_values[] = {
    [BLOCK_ON_ERROR_REPORT] = "report", [BLOCK_ON_ERROR_IGNORE] = "ignore", [BLOCK_ON_ERROR_STOP] = "stop", [BLOCK_ON_ERROR_ENOSPC] = "enospc", NULL
};
static const char *const read_error_values[] = { "report", "ignore", "stop", NULL };
static const char *const discard_values[] = { "ignore", "off", "unmap", "on", NULL };
static const char *const media_values[] = { "disk", NULL };
static const char *const off_values[] = { "off", NULL };
static const char *const aio_values[] = { "threads", "native", "io_uring", NULL };

/* Both options fill this; -1: not given. */
struct disk_opts {
    char *file, *format, *id, *node_name;
    uint64_t index;
    int interface, cache, rerror, werror, discard;
    bool read_only, direct, no_flush, writeback;
};
#define D(member) offsetof(struct disk_opts, member)

static const struct keyval_key drive_keys[] = {
    { "file", KV_STRING, D(file), "image" },
    { "if", KV_ENUM, D(interface), "virtio or none", if_values },
    { "format", KV_STRING, D(format), "raw" },
    { "driver", KV_STRING, D(format), "the same" },
    { "id", KV_STRING, D(id), "name for -device drive=" },
    { "node-name", KV_STRING, D(node_name), "name of the node, shown by QMP" },
    { "index", KV_UINT, D(index), "place among the disks", NULL, 0, 255 },
    { "readonly", KV_BOOL, D(read_only), "the guest cannot write" },
    { "read-only", KV_BOOL, D(read_only), "the same" },
    { "cache", KV_ENUM, D(cache), "host cache", cache_values },
    { "cache.direct", KV_BOOL, D(direct), "past the host's page cache" },
    { "cache.no-flush", KV_BOOL, D(no_flush), "flushes do nothing" },
    { "cache.writeback", KV_BOOL, D(writeback), "off: each write is on the disk before it completes" },
    { "rerror", KV_ENUM, D(rerror), "on a read error", read_error_values },
    { "werror", KV_ENUM, D(werror), "on a write error", error_values },
    { "discard", KV_ENUM, D(discard), "unmap: free what the guest discards", discard_values },
    { "media", KV_ONLY, 0, "there is no CD-ROM drive yet; use a virtio disk with readonly=on", media_values },
    { "snapshot", KV_ONLY, 0, "temporary overlays need an image format with backing files; copy the image", off_values },
    { "aio", KV_ONLY, 0, "", aio_values },
    { "detect-zeroes", KV_ONLY, 0, "it comes with the image formats", off_values },
    { "copy-on-read", KV_ONLY, 0, "it comes with the image formats", off_values },
    { "auto-read-only", KV_IGNORED },
    { "bus", KV_REFUSED, 0, "use if=none and -device" },
    { "unit", KV_REFUSED, 0, "use if=none and -device" },
    { NULL }
};

static const struct keyval_key blockdev_keys[] = {
    { "filename", KV_STRING, D(file), "image" },
    { "driver", KV_STRING, D(format), "raw or file" },
    { "node-name", KV_STRING, D(node_name), "name for -device drive=" },
    { "read-only", KV_BOOL, D(read_only), "the guest cannot write" },
    { "cache.direct", KV_BOOL, D(direct), "past the host's page cache" },
    { "cache.no-flush", KV_BOOL, D(no_flush), "flushes do nothing" },
    { "discard", KV_ENUM, D(discard), "unmap: free what the guest discards", discard_values },
    { "detect-zeroes", KV_ONLY, 0, "it comes with the image formats", off_values },
    { "aio", KV_ONLY, 0, "", aio_values },
    { "auto-read-only", KV_IGNORED }, { "locking", KV_IGNORED }, { "force-share", KV_ONLY, 0, "open it with read-only=on", off_values },
    { "offset", KV_REFUSED, 0, "parts of an image cannot be shown yet" },
    { "size", KV_REFUSED, 0, "parts of an image cannot be shown yet" },
    { NULL }
};

static void disk_opts_clear(struct disk_opts *d)
{
    g_free(d->file);
    g_free(d->format);
    g_free(d->id);
    g_free(d->node_name);
}

void option_drive_free(void *p)
{
    struct option_drive *d = p;
    g_free((char *)d->block.path);
    g_free((char *)d->block.format);
    g_free((char *)d->block.id);
    g_free((char *)d->block.node_name);
    g_free(d);
}

static enum option_cache cache_mode(const struct disk_opts *d)
{
    if (d->cache >= 0)
        return (enum option_cache)d->cache;
    if (d->no_flush)
        return CACHE_UNSAFE;
    if (d->direct)
        return d->writeback ? CACHE_NONE : CACHE_DIRECTSYNC;
    return d->writeback ? CACHE_WRITEBACK : CACHE_WRITETHROUGH;
}

static bool add_drive(struct options *o, struct option_item *item, struct disk_opts *d, GError **error)
{
    for (guint i = 0; i < o->drives->len; i++) {
        const struct option_drive *other = o->drives->pdata[i];
        const char *name = d->id ? d->id : d->node_name;
        if (!g_strcmp0(other->block.id, name) || !g_strcmp0(other->block.node_name, name))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate ID '%s' for drive", name);
    }
    struct option_drive *drive = g_new0(struct option_drive, 1);
    drive->item = item;
    drive->attach = d->interface == 0;
    drive->block = (struct option_disk){
        .path = g_steal_pointer(&d->file), .node_name = g_steal_pointer(&d->node_name), .id = g_steal_pointer(&d->id),
        .format = g_steal_pointer(&d->format), .read_only = d->read_only, .discard = d->discard >= 2, .cache = cache_mode(d),
        .rerror = d->rerror >= 0 ? (enum block_on_error)d->rerror : BLOCK_ON_ERROR_REPORT,
        .werror = d->werror >= 0 ? (enum block_on_error)d->werror : BLOCK_ON_ERROR_ENOSPC,
    };
    g_ptr_array_add(o->drives, drive);
    return true;
}

static bool check_drive(struct options *o, struct disk_opts *d, GError **error)
{
    if (d->interface < 0)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is no IDE controller yet; add if=virtio, or if=none for a -device");
    if (!d->file || !*d->file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "no image; add file=FILE");
    if (d->cache >= 0 && (d->direct || d->no_flush || !d->writeback))
        return vireo_fail(error, VIREO_ERROR_INVALID, "cache= and cache.* contradict each other; keep one of them");
    if (!d->id)
        d->id = g_strdup_printf("%s%u", if_values[d->interface], o->drives->len);
    return true;
}

bool opt_drive(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct disk_opts d = { .interface = -1, .cache = -1, .rerror = -1, .werror = -1, .discard = -1, .writeback = true };
    struct option_item *item = options_add_item(o, NULL, "-drive", arg, true, NULL, error);
    if (!item)
        return false;
    const char *interface = keyval_get(item->kv, "if");
    if (interface && g_strv_contains(other_if_values, interface))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "if=%s is not there yet; use if=virtio, or if=none for a -device", interface);
    bool ok = keyval_load(item->kv, drive_keys, &d, error) && check_drive(o, &d, error) && add_drive(o, item, &d, error);
    disk_opts_clear(&d);
    return ok;
}

bool opt_blockdev(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    struct option_item *item = add_with_id(o, o->blockdevs, "-blockdev", arg, NULL, "node-name", error);
    if (!item)
        return false;
    if (!keyval_get(item->kv, "driver"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'driver' is missing; add driver=raw or driver=file");
    return true;
}

static struct option_item *find_node(struct options *o, const char *name)
{
    for (guint i = 0; i < o->blockdevs->len; i++) {
        struct option_item *item = o->blockdevs->pdata[i];
        if (!strcmp(keyval_get(item->kv, "node-name"), name))
            return item;
    }
    return NULL;
}

/* Loads the file node below a raw one: options given at either level count. */
static bool load_file_node(const struct keyval *kv, struct disk_opts *d, GError **error)
{
    struct disk_opts file = { .discard = -1, .writeback = true };
    bool ok = keyval_load(kv, blockdev_keys, &file, error);
    if (ok && g_strcmp0(file.format, "file") && g_strcmp0(file.format, "host_device"))
        ok = vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "driver '%s' under raw is not there; use driver=file", file.format ? file.format : "");
    if (ok) {
        d->file = g_steal_pointer(&file.file);
        d->read_only |= file.read_only;
        d->direct |= file.direct;
        d->no_flush |= file.no_flush;
        d->discard = MAX(d->discard, file.discard);
    }
    disk_opts_clear(&file);
    return ok;
}

static bool resolve_node(struct options *o, struct option_item *item, GHashTable *used, GError **error)
{
    struct disk_opts d = { .interface = 1, .cache = -1, .rerror = -1, .werror = -1, .discard = -1, .writeback = true };
    keyval_auto *kv = keyval_copy(item->kv);
    keyval_auto *nested = keyval_take_nested(kv, "file");
    g_autofree char *child = keyval_take(kv, "file");
    const char *driver = keyval_get(kv, "driver");
    bool raw = !strcmp(driver, "raw"), ok;
    if (!raw && strcmp(driver, "file") && strcmp(driver, "host_device"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "driver '%s' is not there yet; there are: raw, file", driver);
    ok = keyval_load(kv, blockdev_keys, &d, error);
    if (ok && raw && child) {
        struct option_item *below = find_node(o, child);
        if (below) {
            g_hash_table_add(used, below);
            ok = load_file_node(below->kv, &d, error);
        } else {
            ok = vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find node '%s'; give it with another -blockdev", child);
        }
    } else if (ok && raw) {
        ok = load_file_node(nested, &d, error);
    }
    if (ok && (!d.file || !*d.file))
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "no image; add %sfilename=FILE", raw ? "file." : "");
    if (ok) {
        g_free(d.format);
        d.format = g_strdup("raw");
        ok = add_drive(o, item, &d, error);
    }
    disk_opts_clear(&d);
    return ok;
}

/* Called when all are known: a node may name one that comes later. A node below another is not a disk of its own. */
bool options_resolve_blockdevs(struct options *o, GError **error)
{
    g_autoptr(GHashTable) used = g_hash_table_new(NULL, NULL);
    for (int pass = 0; pass < 2; pass++) { /* raw nodes first: they say which file nodes they use */
        for (guint i = 0; i < o->blockdevs->len; i++) {
            struct option_item *item = o->blockdevs->pdata[i];
            bool raw = !strcmp(keyval_get(item->kv, "driver"), "raw");
            if (raw != !pass || g_hash_table_contains(used, item))
                continue;
            if (!resolve_node(o, item, used, error)) {
                g_prefix_error(error, "-blockdev %s: ", item->text);
                return false;
            }
        }
    }
    return true;
}

/* ---- devices ---- */

static char *device_list(void)
{
    static const char *const buses[] = { [DEV_BUS_NONE] = "System", [DEV_BUS_ISA] = "ISA", [DEV_BUS_PCI] = "PCI", [DEV_BUS_VIRTIO] = "virtio-bus" };
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
