/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks: the nodes of the image (libvirt-N-storage, libvirt-N-format; N is <source index=> of the live document) and the drive. */
#include "manage/drivers/domain/block/domain_chain.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- storage ---- */

static const struct {
    const char *cache;
    bool direct, no_flush, writeback;
} caches[] = { { "none", true, false, true }, { "writeback", false, false, true }, { "writethrough", false, false, false }, { "directsync", true, false, false },
               { "unsafe", false, true, true } };

static void add_cache(struct json_object *o, const struct el *disk)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(caches); i++)
        if (el_is(disk, "driver/@cache", caches[i].cache)) {
            struct json_object *c = json_object_new_object();
            js_bool(c, "direct", caches[i].direct);
            js_bool(c, "no-flush", caches[i].no_flush);
            json_object_object_add(o, "cache", c);
        }
}

/* On, off: whether the guest sees a write cache. NULL: the device's default. */
static const char *write_cache(const struct el *disk)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(caches); i++)
        if (el_is(disk, "driver/@cache", caches[i].cache))
            return caches[i].writeback ? "on" : "off";
    return NULL;
}

static struct json_object *nbd_server(const struct el *source)
{
    const struct el *host = el_find(source, "host");
    struct json_object *s = json_object_new_object();
    if (el_is(host, "@transport", "unix")) {
        js_set(s, "type", "unix");
        js_set(s, "path", el_get_or(host, "@socket", ""));
    } else {
        js_set(s, "type", "inet");
        js_set(s, "host", host ? el_get_or(host, "@name", "localhost") : "localhost");
        js_set(s, "port", host ? el_get_or(host, "@port", "10809") : "10809");
    }
    return s;
}

static bool network_node(struct domain_build *b, const struct el *disk, const struct el *image, const char *node, GError **error)
{
    const struct el *source = el_find(image, "source");
    const char *protocol = el_get_or(source, "@protocol", ""), *name = el_get(source, "@name");
    static const char *const curl[] = { "http", "https", "ftp", "ftps" };
    if (g_str_equal(protocol, "nbd")) {
        if (el_is(source, "@tls", "yes"))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: NBD with TLS is not there yet", el_get(disk, "target/@dev"), domain_line(source));
        struct json_object *o = domain_plan_blockdev(b, "nbd", node);
        json_object_object_add(o, "server", nbd_server(source));
        js_set(o, "export", name);
        const char *delay = el_get(source, "reconnect/@delay");
        if (delay)
            js_int(o, "reconnect-delay", (int64_t)g_ascii_strtoull(delay, NULL, 10));
        js_bool(o, "auto-read-only", true);
        return true;
    }
    for (unsigned i = 0; !b->m.is_vireo && i < G_N_ELEMENTS(curl); i++)
        if (g_str_equal(protocol, curl[i])) {
            struct json_object *o = domain_plan_blockdev(b, protocol, node);
            const char *port = el_get(source, "host/@port");
            const char *query = el_get(source, "@query");
            g_autofree char *url = g_strdup_printf("%s://%s%s%s/%s%s%s", protocol, el_get_or(source, "host/@name", ""), port ? ":" : "", port ? port : "", name ? name : "",
                                                   query ? "?" : "", query ? query : "");
            js_set(o, "url", url);
            if (el_get(source, "ssl/@verify"))
                js_bool(o, "sslverify", el_is(source, "ssl/@verify", "yes"));
            uint64_t v;
            if (el_get_u64(source, "readahead/@size", &v))
                js_int(o, "readahead", (int64_t)v);
            if (el_get_u64(source, "timeout/@seconds", &v))
                js_int(o, "timeout", (int64_t)v);
            return true;
        }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: disks over '%s' are not there: 'nbd' is", el_get(disk, "target/@dev"), domain_line(source), protocol);
}

static bool local_node(struct domain_build *b, const struct el *disk, const struct el *image, const char *path, bool write, const char *node, GError **error)
{
    struct stat st;
    bool cdrom = el_is(disk, "@device", "cdrom");
    if (b->d && image == disk && !domain_image_conflicts(b->dr, b->d, disk, error))
        return false;
    bool block = b->d ? stat(path, &st) == 0 && S_ISBLK(st.st_mode) : el_is(image, "@type", "block");
    struct json_object *o = domain_plan_blockdev(b, !block ? "file" : cdrom && !b->m.is_vireo ? "host_cdrom" : "host_device", node);
    js_set(o, "filename", path);
    const char *io = el_get(disk, "driver/@io");
    js_set(o, "aio", io);
    js_bool(o, "auto-read-only", true);
    if (b->m.is_vireo && !write) /* QEMU opens it for writing when it has to; vireo-vmm at once, and then nobody else may read it */
        js_bool(o, "read-only", true);
    js_set(o, "discard", el_get_or(disk, "driver/@discard", "unmap"));
    add_cache(o, disk);
    return true;
}

/* The passphrase reaches the machine through memory that has no name. */
static bool add_secret(struct domain_build *b, const struct el *encryption, const char *id, GError **error)
{
    const struct el *secret = el_find(encryption, "secret");
    if (!secret)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<encryption>%s names no <secret>", domain_line(encryption));
    struct json_object *o = domain_plan_object(b, "secret", id);
    struct plan_item *item = b->plan->items->pdata[b->plan->items->len - 1];
    if (!b->d) {
        js_set(o, "data", "");
        return true;
    }
    if (!b->dr->state->services->secret_value)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<encryption>%s: there are no secrets here", domain_line(encryption));
    g_autoptr(GBytes) value = b->dr->state->services->secret_value(b->dr->state, el_get(secret, "@uuid"), el_get_or(secret, "@type", "volume"), el_get(secret, "@usage"), error);
    if (!value)
        return false;
    gsize size = 0;
    const void *data = g_bytes_get_data(value, &size);
    if (b->d->monitor) {
        g_autofree char *text = g_base64_encode(data, size);
        js_set(o, "data", text);
        js_set(o, "format", "base64");
        return true;
    }
    int fd = memfd_create("secret", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0) {
        if (fd >= 0)
            close(fd);
        return manage_fail(error, VIR_ERR_SYSTEM_ERROR, "no memory for a secret");
    }
    domain_plan_fd(item, fd);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    js_set(o, "file", path);
    js_set(o, "format", "raw");
    return true;
}

/* What the format node of an image stands on: said, where the document knows it; NULL in JSON: nothing. */
static void add_backing(struct json_object *o, const struct el *image, const char *format)
{
    static const char *const layered[] = { "qcow2", "qcow", "qed", "vmdk" };
    const struct el *below = domain_chain_below(image);
    bool can = false;
    for (unsigned i = 0; i < G_N_ELEMENTS(layered); i++)
        can |= g_str_equal(format, layered[i]);
    if (!can || !el_find(image, "backingStore"))
        return;
    g_autofree char *node = below ? domain_chain_node(below) : NULL;
    json_object_object_add(o, "backing", node ? json_object_new_string(node) : NULL);
}

/* The node that reads the image's format. */
static bool format_node(struct domain_build *b, const struct el *disk, const struct el *image, bool write, const char *storage, const char *node, GError **error)
{
    const char *format = domain_chain_format(image);
    const struct el *encryption = el_find(image, "source/encryption");
    if (image == disk && el_find(disk, "encryption"))
        encryption = el_find(disk, "encryption");
    g_autofree char *secret = encryption ? g_strdup_printf("%s-encryption-secret0", node) : NULL;
    if (encryption && !add_secret(b, encryption, secret, error))
        return false;
    bool luks = encryption && (g_str_equal(format, "raw") || g_str_equal(format, "luks"));
    struct json_object *o = json_object_new_object();
    js_set(o, "node-name", node);
    js_bool(o, "read-only", !write);
    add_cache(o, disk);
    js_set(o, "discard", el_get(disk, "driver/@discard"));
    if (image == disk)
        js_set(o, "detect-zeroes", el_get(disk, "driver/@detect_zeroes"));
    js_set(o, "driver", luks ? "luks" : g_str_equal(format, "iso") ? "raw" : format);
    uint64_t cache;
    if (g_str_equal(format, "qcow2") && el_get_bytes(image, image == disk ? "driver/metadata_cache/max_size" : "format/metadata_cache/max_size", "bytes", &cache))
        js_int(o, "cache-size", (int64_t)cache);
    if (luks)
        js_set(o, "key-secret", secret);
    if (encryption && !luks) {
        struct json_object *e = json_object_new_object();
        js_set(e, "format", el_is(encryption, "@format", "qcow") ? "aes" : "luks");
        js_set(e, "key-secret", secret);
        json_object_object_add(o, "encrypt", e);
    }
    js_set(o, "file", storage);
    add_backing(o, image, format);
    domain_plan_add(b, PLAN_BLOCKDEV, node, o);
    return true;
}

/* What would have another image opened than the one that is meant. */
static bool refuse_source(const struct el *disk, const struct el *image, GError **error)
{
    static const struct { const char *path, *what; } never[] = { { "source/@fdgroup", "a file by descriptor (fdgroup)" }, { "source/slices", "a part of a file (<slices>)" },
        { "source/cookies", "cookies" }, { "source/identity", "an identity for SSH" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(never); i++)
        if (strchr(never[i].path, '@') ? el_get(image, never[i].path) != NULL : el_find(image, never[i].path) != NULL)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: %s is not there yet", el_get(disk, "target/@dev"), domain_line(image), never[i].what);
    return true;
}

bool domain_plan_image(struct domain_build *b, struct el *disk, struct el *image, bool write, GError **error)
{
    if (!refuse_source(disk, image, error))
        return false;
    struct el *below = domain_chain_below(image);
    if (below && !domain_plan_image(b, disk, below, false, error))
        return false;
    g_autofree char *storage = g_strdup_printf("libvirt-%u-storage", domain_chain_index(image)), *node = domain_chain_node(image), *path = NULL;
    if (el_is(image, "@type", "network"))
        return network_node(b, disk, image, storage, error) && format_node(b, disk, image, write, storage, node, error);
    path = image != disk ? g_strdup(domain_chain_path(image)) : b->d || !el_is(disk, "@type", "volume") ? domain_image_path(b->dr, disk, error) : g_strdup(el_get(disk, "source/@volume"));
    return path && local_node(b, disk, image, path, write, storage, error) && format_node(b, disk, image, write, storage, node, error);
}

bool domain_plan_storage(struct domain_build *b, struct el *disk, char **ret_top, GError **error)
{
    const char *type = el_get_or(disk, "@type", "file");
    static const char *const known[] = { "file", "block", "volume", "network" };
    bool good = false;
    *ret_top = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++)
        good |= g_str_equal(type, known[i]);
    if (!good)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: type '%s' is not there: file, block, volume and network are", el_get(disk, "target/@dev"),
                           domain_line(disk), type);
    if (!domain_chain_complete(b, disk, error))
        return false;
    if (!domain_chain_index(disk))
        return true; /* an empty drive */
    /* The format is never what the image's first bytes say: a guest wrote them. */
    if (!domain_plan_image(b, disk, disk, !el_find(disk, "readonly"), error))
        return false;
    *ret_top = domain_chain_node(disk);
    return true;
}

/* All disks of a start: indexes are given from the last disk to the first, as clients of libvirt see them. */
bool domain_plan_chains(struct domain_build *b, GError **error)
{
    static const char *const known[] = { "file", "block", "volume", "network" };
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    el_each(disk, b->devices, "disk")
        for (unsigned i = 0; i < G_N_ELEMENTS(known); i++)
            if (el_is(disk, "@type", known[i]))
                g_ptr_array_add(disks, disk);
    for (unsigned i = disks->len; i > 0; i--) {
        if (!domain_chain_complete(b, disks->pdata[i - 1], error))
            return false;
        if (!domain_chain_index(disks->pdata[i - 1]))
            (void)domain_chain_next(b); /* an empty drive has one all the same */
    }
    return true;
}

/* ---- drives ---- */

static bool sata_bus(struct domain_build *b, struct el *disk, struct json_object *o, GError **error)
{
    unsigned controller = domain_number(disk, "address/@controller", 0), unit = domain_number(disk, "address/@unit", 0);
    struct el *c = domain_controller(b->devices, "sata", controller);
    const char *alias = c ? el_get(c, "alias/@name") : NULL;
    if (controller && !alias)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s is on a SATA controller %u that is not there", el_get(disk, "target/@dev"), domain_line(disk), controller);
    g_autofree char *bus = controller ? g_strdup_printf("%s.%u", alias, unit) : g_strdup_printf("ide.%u", unit);
    js_set(o, "bus", bus);
    return true;
}

static bool scsi_bus(struct domain_build *b, struct el *disk, struct json_object *o, GError **error)
{
    unsigned controller = domain_number(disk, "address/@controller", 0);
    struct el *c = domain_controller(b->devices, "scsi", controller);
    if (!c)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s is on a SCSI controller %u that is not there", el_get(disk, "target/@dev"), domain_line(disk), controller);
    g_autofree char *bus = g_strdup_printf("%s.%u", el_get_or(c, "alias/@name", "scsi0"), (unsigned)domain_number(disk, "address/@bus", 0));
    g_autofree char *id = g_strdup_printf("drive-%s", el_get_or(disk, "alias/@name", ""));
    js_set(o, "bus", bus);
    if (el_is(c, "@model", "lsilogic")) {
        js_int(o, "scsi-id", (int64_t)domain_number(disk, "address/@unit", 0));
    } else {
        js_int(o, "channel", 0);
        js_int(o, "scsi-id", (int64_t)domain_number(disk, "address/@target", 0));
        js_int(o, "lun", (int64_t)domain_number(disk, "address/@unit", 0));
    }
    js_set(o, "device_id", id);
    return true;
}

static const char *drive_driver(const struct domain_build *b, const struct el *disk)
{
    bool cdrom = el_is(disk, "@device", "cdrom");
    if (el_is(disk, "target/@bus", "virtio"))
        return el_is(disk, "@model", "virtio-transitional") && !b->m.is_vireo ? "virtio-blk-pci-transitional" :
               el_is(disk, "@model", "virtio-non-transitional") ? "virtio-blk-pci-non-transitional" : b->m.has_pci ? "virtio-blk-pci" : "virtio-blk-device";
    if (el_is(disk, "target/@bus", "scsi"))
        return cdrom ? "scsi-cd" : el_is(disk, "@device", "lun") ? "scsi-block" : "scsi-hd";
    if (el_is(disk, "target/@bus", "sata") || el_is(disk, "target/@bus", "ide"))
        return cdrom ? "ide-cd" : "ide-hd";
    if (el_is(disk, "target/@bus", "usb"))
        return "usb-storage";
    if (b->m.is_vireo)
        return NULL;
    return el_is(disk, "target/@bus", "fdc") ? "floppy" : NULL;
}

/* Which bootindex a device has by <os><boot dev=>: the first of a kind only; 0: none. */
static unsigned boot_by_os(struct domain_build *b, const struct el *e)
{
    const char *kind = g_str_equal(el_name(e), "interface") ? "network" : el_is(e, "@device", "cdrom") ? "cdrom" : el_is(e, "@device", "floppy") ? "fd" : "hd";
    unsigned n = 0;
    el_each(boot, el_find(b->root, "os"), "boot") {
        n++;
        if (!el_is(boot, "@dev", kind))
            continue;
        el_each(other, b->devices, el_name(e)) {
            if (other == e)
                return n;
            const char *k = g_str_equal(el_name(e), "interface") ? "network" : el_is(other, "@device", "cdrom") ? "cdrom" : el_is(other, "@device", "floppy") ? "fd" : "hd";
            if (g_str_equal(k, kind))
                return 0;
        }
    }
    return 0;
}

static void add_boot(struct domain_build *b, struct json_object *o, const struct el *e)
{
    uint64_t order = domain_number(e, "boot/@order", 0);
    if (!order && !(b->d && b->d->monitor))
        order = boot_by_os(b, e);
    if (order)
        js_int(o, "bootindex", (int64_t)order);
}

/* Numbers of the disk that are properties of the drive. */
static void add_geometry(struct json_object *o, const struct el *disk)
{
    static const struct { const char *path, *key; } numbers[] = { { "blockio/@logical_block_size", "logical_block_size" }, { "blockio/@physical_block_size", "physical_block_size" },
        { "target/@rotation_rate", "rotation_rate" }, { "driver/@queues", "num-queues" }, { "driver/@queue_size", "queue-size" }, { "geometry/@cyls", "cyls" },
        { "geometry/@heads", "heads" }, { "geometry/@secs", "secs" } };
    static const struct { const char *path, *key; } texts[] = { { "serial", "serial" }, { "vendor", "vendor" }, { "product", "product" }, { "driver/@rerror_policy", "rerror" },
                                                                { "driver/@error_policy", "werror" } };
    uint64_t v;
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        if (el_get_u64(disk, numbers[i].path, &v))
            js_int(o, numbers[i].key, (int64_t)v);
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *t = el_get(disk, texts[i].path);
        if (t)
            js_set(o, texts[i].key, g_str_equal(t, "enospace") ? "enospc" : t);
    }
    static const char *const onoff[] = { "ioeventfd", "event_idx" };
    for (unsigned i = 0; el_is(disk, "target/@bus", "virtio") && i < G_N_ELEMENTS(onoff); i++) {
        g_autofree char *path = g_strdup_printf("driver/@%s", onoff[i]);
        if (el_get(disk, path))
            js_bool(o, onoff[i], el_is(disk, path, "on"));
    }
    if (el_get(disk, "driver/@error_policy") && !el_get(disk, "driver/@rerror_policy") && !el_is(disk, "driver/@error_policy", "enospace"))
        js_set(o, "rerror", el_get(disk, "driver/@error_policy"));
    if (el_get(disk, "wwn")) {
        g_autofree char *wwn = g_strdup_printf("0x%s", el_get(disk, "wwn"));
        js_set(o, "wwn", wwn);
    }
    if (el_find(disk, "shareable"))
        js_bool(o, "share-rw", true);
}

static void add_throttle(struct domain_build *b, const struct el *disk)
{
    if (el_find(disk, "iotune"))
        domain_iotune_args(disk, b->m.is_vireo, domain_plan_after(b, "block_set_io_throttle"));
}

static bool refuse_unsupported(struct domain_build *b, const struct el *disk, GError **error)
{
    static const char *const never[] = { "mirror", "transient", "reservations" };
    for (unsigned i = 0; i < G_N_ELEMENTS(never); i++)
        if (el_find(disk, never[i]) || (i == 2 && el_find(disk, "source/reservations")))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: <%s> is not there yet", el_get(disk, "target/@dev"), domain_line(disk), never[i]);
    if (el_is(disk, "driver/@copy_on_read", "on"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: copy_on_read is not there yet", el_get(disk, "target/@dev"), domain_line(disk));
    if (b->m.is_vireo && el_is(disk, "@device", "cdrom") && el_is(disk, "target/@bus", "usb"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: vireo-vmm has no CD drives on USB; bus='sata' and bus='scsi' have", el_get(disk, "target/@dev"), domain_line(disk));
    if (b->m.is_vireo && el_is(disk, "@device", "lun"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: device='lun' is not there: a SCSI device of the host goes as device='disk'", el_get(disk, "target/@dev"),
                           domain_line(disk));
    return true;
}

bool domain_plan_disk(struct domain_build *b, struct el *disk, GError **error)
{
    const char *bus = el_get_or(disk, "target/@bus", ""), *driver = drive_driver(b, disk);
    g_autofree char *top = NULL;
    if (!driver)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: the machine has no bus '%s': virtio, scsi, usb%s are there", el_get(disk, "target/@dev"), domain_line(disk), bus,
                           b->m.pcie ? " and sata" : "");
    if (!refuse_unsupported(b, disk, error) || !domain_plan_storage(b, disk, &top, error))
        return false;
    struct json_object *o = domain_plan_device(b, driver, disk);
    bool good = true;
    if (g_str_equal(bus, "sata")) {
        good = sata_bus(b, disk, o, error);
    } else if (g_str_equal(bus, "scsi")) {
        good = scsi_bus(b, disk, o, error);
    } else if (g_str_equal(bus, "ide")) {
        g_autofree char *name = g_strdup_printf("ide.%u", (unsigned)domain_number(disk, "address/@bus", 0));
        js_set(o, "bus", name);
        js_int(o, "unit", (int64_t)domain_number(disk, "address/@unit", 0));
    } else if (g_str_equal(bus, "usb")) {
        good = good && domain_plan_usb(b, o, disk, error);
        js_bool(o, "removable", el_is(disk, "target/@removable", "on"));
    } else if (g_str_equal(bus, "fdc")) {
        js_int(o, "unit", (int64_t)domain_number(disk, "address/@unit", 0));
    }
    if (!good)
        return false;
    /* An empty drive of vireo-vmm takes media when it has a back end, of QEMU in any case. */
    if (!top && b->m.is_vireo) {
        top = g_strdup_printf("drive-%s", el_get_or(disk, "alias/@name", ""));
        g_autofree char *device = g_strdup_printf("if=none,id=%s,media=cdrom,readonly=on", top);
        struct plan_item *last = g_ptr_array_steal_index(b->plan->items, b->plan->items->len - 1);
        domain_plan_option(b, "-drive", "%s", device);
        g_ptr_array_add(b->plan->items, last);
    }
    js_set(o, "drive", top);
    add_boot(b, o, disk);
    if (top && !el_is(disk, "@device", "cdrom"))
        js_set(o, "write-cache", write_cache(disk));
    add_geometry(o, disk);
    uint64_t thread = domain_number(disk, "driver/@iothread", 0);
    if (thread) {
        g_autofree char *name = g_strdup_printf("iothread%u", (unsigned)thread);
        js_set(o, "iothread", name);
    }
    add_throttle(b, disk);
    return true;
}

void domain_plan_boot(struct domain_build *b, struct json_object *o, const struct el *e)
{
    add_boot(b, o, e);
}
