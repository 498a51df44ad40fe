/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices: one row an element, in the order of the command line; and what vireo-vmm does not have. */
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/complete/domain_complete.h"

#include <string.h>

/* ---- what is missing ---- */

enum lack { PART_OF_BOARD, LEAVE_OUT, REFUSE };

/* The first row that fits counts; a device without a row is there. Harmless is what the guest cannot tell from a socket into which nothing is plugged. */
static const struct {
    const char *element, *path, *value; /* value NULL: any */
    enum lack lack;
    const char *what;
} lacks[] = {
    { "controller", "@type", "ide", REFUSE, "IDE; use bus='sata'" },
    { "controller", "@type", "fdc", REFUSE, "a floppy controller" },
    { "controller", "@type", "ccid", REFUSE, "a smart card reader" },
    { "controller", "@type", "xenbus", REFUSE, "Xen" },
    { "controller", "@model", "lsilogic", REFUSE, "this SCSI controller; 'virtio-scsi' is there" },
    { "controller", "@model", "buslogic", REFUSE, "this SCSI controller; 'virtio-scsi' is there" },
    { "controller", "@model", "dmi-to-pci-bridge", REFUSE, "this bridge; 'pcie-to-pci-bridge' is there" },
    { "controller", "@model", "pci-expander-bus", REFUSE, "expander buses" },
    { "controller", "@model", "pcie-expander-bus", REFUSE, "expander buses" },
    { "controller", "pcihole64", NULL, REFUSE, "a size of the 64-bit PCI window (<pcihole64>)" },
    { "input", "@bus", "ps2", PART_OF_BOARD, "" },
    { "input", "@model", "virtio-transitional", REFUSE, "this kind of input device; model='virtio' is there" },
    { "input", "@bus", "usb", PART_OF_BOARD, NULL },
    { "input", "@bus", "virtio", PART_OF_BOARD, NULL },
    { "input", "@type", NULL, REFUSE, "an input device of this kind; on the buses usb and virtio there are 'tablet', 'mouse' and 'keyboard'" },
    { "audio", "@type", "none", PART_OF_BOARD, NULL },
    { "audio", "@type", "file", PART_OF_BOARD, NULL },
    { "audio", "@type", NULL, REFUSE, "sound on the host's outputs; 'none' and 'file' are there" },
    { "sound", "@model", "ich9", PART_OF_BOARD, NULL },
    { "sound", "@model", "ich6", PART_OF_BOARD, NULL },
    { "sound", "@model", NULL, REFUSE, "this sound card; 'ich9' and 'ich6' are there" },
    { "graphics", "@type", "vnc", PART_OF_BOARD, NULL },
    { "graphics", "@type", NULL, REFUSE, "this kind of display; 'vnc' is there" },
    { "video", "model/@type", "none", PART_OF_BOARD, "" },
    { "video", "model/acceleration/@accel3d", "yes", REFUSE, "3D acceleration" },
    { "video", "driver/@name", "vhostuser", REFUSE, "a graphics card in another process" },
    { "video", "model/@type", "virtio", PART_OF_BOARD, NULL },
    { "video", "model/@type", "vga", PART_OF_BOARD, NULL },
    { "video", "model/@type", "bochs", PART_OF_BOARD, NULL },
    { "video", "model/@type", NULL, REFUSE, "this graphics card; 'virtio', 'vga' and 'bochs' are there" },
    { "watchdog", "@model", "itco", LEAVE_OUT, "there is no watchdog" },
    { "watchdog", "@model", NULL, REFUSE, "a watchdog" },
    { "tpm", "@model", NULL, REFUSE, "a TPM" },
    { "hostdev", "@mode", NULL, REFUSE, "passing through of the host's devices" },
    { "redirdev", "@bus", NULL, REFUSE, "USB redirection" },
    { "redirfilter", "usbdev/@allow", NULL, REFUSE, "USB redirection" },
    { "smartcard", "@mode", NULL, REFUSE, "a smart card reader" },
    { "hub", "@type", NULL, REFUSE, "USB hubs; a <controller type='usb' ports='15'> has more ports" },
    { "filesystem", "@type", NULL, REFUSE, "a shared directory" },
    { "shmem", "@name", NULL, REFUSE, "shared memory" },
    { "vsock", "@model", NULL, REFUSE, "vsock" },
    { "iommu", "@model", NULL, REFUSE, "an IOMMU" },
    { "crypto", "@model", NULL, REFUSE, "a crypto device" },
    { "panic", "@model", "isa", PART_OF_BOARD, NULL },
    { "panic", "@model", NULL, REFUSE, "this panic device; 'isa' is there" },
    { "memory", "@model", "nvdimm", REFUSE, "nvdimm" },
    { "memory", "@model", "virtio-pmem", REFUSE, "virtio-pmem" },
    { "memory", "@model", "sgx-epc", REFUSE, "SGX" },
};

bool domain_plan_lacks(struct domain_build *b, const struct el *e, bool *ret_skip, GError **error)
{
    *ret_skip = false;
    for (unsigned i = 0; b->m.is_vireo && i < G_N_ELEMENTS(lacks); i++) {
        if (!g_str_equal(lacks[i].element, el_name(e)) || (lacks[i].value ? !el_is(e, lacks[i].path, lacks[i].value) : !el_get(e, lacks[i].path)))
            continue;
        if (!lacks[i].what)
            return true;
        *ret_skip = true;
        if (lacks[i].lack == LEAVE_OUT) {
            if (!el_is(e, "@model", "none"))
                domain_plan_note(b, "<%s %s='%s'>%s is left out: %s", el_name(e), strchr(lacks[i].path, '@') + 1, el_get(e, lacks[i].path), domain_line(e), lacks[i].what);
        } else if (lacks[i].lack == REFUSE) {
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: vireo-vmm does not have %s yet; take the element out of the domain, or use QEMU by <emulator>", el_name(e),
                               domain_line(e), lacks[i].what);
        }
        return true;
    }
    return true;
}

/* ---- controllers ---- */

static bool pci_controller(struct domain_build *b, struct el *e, GError **error)
{
    static const struct { const char *model, *driver; } drivers[] = { { "pcie-root-port", "pcie-root-port" }, { "pcie-to-pci-bridge", "pcie-pci-bridge" }, { "pci-bridge", "pci-bridge" },
        { "pcie-switch-upstream-port", "x3130-upstream" }, { "pcie-switch-downstream-port", "xio3130-downstream" }, { "dmi-to-pci-bridge", "i82801b11-bridge" } };
    const char *model = el_get_or(e, "@model", "");
    if (g_str_equal(model, "pci-root") || g_str_equal(model, "pcie-root")) {
        uint64_t hole;
        if (el_get_bytes(e, "pcihole64", "KiB", &hole))
            domain_plan_option(b, "-global", "%s-pcihost.pci-hole64-size=%" G_GUINT64_FORMAT "K", b->m.pcie ? "q35" : "i440FX", hole >> 10);
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (!g_str_equal(drivers[i].model, model))
            continue;
        struct json_object *o = domain_plan_device(b, i == 0 ? el_get_or(e, "model/@name", drivers[i].driver) : drivers[i].driver, e);
        if (i == 0 || i == 4) {
            js_int(o, "port", (int64_t)domain_number(e, "target/@port", 0));
            js_int(o, "chassis", (int64_t)domain_number(e, "target/@chassis", 0));
            if (el_get(e, "target/@hotplug"))
                js_bool(o, "hotplug", el_is(e, "target/@hotplug", "on"));
        } else if (i == 2) {
            js_int(o, "chassis_nr", (int64_t)domain_number(e, "target/@chassisNr", 0));
        }
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='pci' model='%s'>%s is not there", model, domain_line(e));
}

/* vireo-vmm's USB controllers are xHCI. Documents for systems of unknown age (virt-install's, where it was not told which) have an ICH9 EHCI with three companions: what is
 * plugged in there finds the same ports at an xHCI, at function 0 of the group's place, which is where a guest looks first. One without devices, and companions, are left out. */
static bool usb_stand_in(struct domain_build *b, struct el *e)
{
    const char *model = el_get_or(e, "@model", "");
    if (el_find(e, "master") || !domain_usb_used(b->devices, domain_number(e, "@index", 0))) {
        domain_plan_note(b, "<controller type='usb' model='%s'>%s is left out: of USB controllers 'qemu-xhci' and 'nec-xhci' are there", model, domain_line(e));
        return true;
    }
    domain_plan_note(b, "<controller type='usb' model='%s'>%s: a 'qemu-xhci' takes its place", model, domain_line(e));
    struct json_object *o = domain_plan_device(b, "qemu-xhci", e);
    unsigned ports = domain_usb_ports(e);
    js_int(o, "p2", ports);
    js_int(o, "p3", ports);
    if (el_is(e, "address/@type", "pci") && domain_number(e, "address/@function", 0)) {
        g_autofree char *slot = g_strdup_printf("0x%x", (unsigned)domain_number(e, "address/@slot", 0));
        json_object_object_del(o, "addr");
        js_set(o, "addr", slot);
    }
    return true;
}

static bool usb_controller(struct domain_build *b, struct el *e, GError **error)
{
    static const struct { const char *model, *driver; } drivers[] = { { "qemu-xhci", "qemu-xhci" }, { "nec-xhci", "nec-usb-xhci" }, { "piix3-uhci", "piix3-usb-uhci" },
        { "piix4-uhci", "piix4-usb-uhci" }, { "ehci", "usb-ehci" }, { "ich9-ehci1", "ich9-usb-ehci1" }, { "ich9-uhci1", "ich9-usb-uhci1" }, { "ich9-uhci2", "ich9-usb-uhci2" },
        { "ich9-uhci3", "ich9-usb-uhci3" }, { "pci-ohci", "pci-ohci" } };
    const char *model = el_get_or(e, "@model", "");
    if (g_str_equal(model, "none"))
        return true;
    if (b->m.is_vireo && !g_str_has_suffix(model, "-xhci"))
        return usb_stand_in(b, e);
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (!g_str_equal(drivers[i].model, model))
            continue;
        struct json_object *o = domain_plan_device(b, drivers[i].driver, e);
        if (i < 2 && el_get(e, "@ports")) {
            js_int(o, "p2", (int64_t)domain_number(e, "@ports", 4));
            js_int(o, "p3", (int64_t)domain_number(e, "@ports", 4));
        }
        if (el_find(e, "master")) {
            json_object_object_del(o, "id");
            js_set(o, "masterbus", "usb.0");
            js_int(o, "firstport", (int64_t)domain_number(e, "master/@startport", 0));
        }
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='usb' model='%s'>%s is not there", model, domain_line(e));
}

static bool scsi_controller(struct domain_build *b, struct el *e, GError **error)
{
    static const struct { const char *path, *key; } numbers[] = { { "driver/@queues", "num_queues" }, { "driver/@cmd_per_lun", "cmd_per_lun" }, { "driver/@max_sectors", "max_sectors" } };
    static const struct { const char *model, *driver; } drivers[] = { { "virtio-scsi", "virtio-scsi-pci" }, { "virtio-non-transitional", "virtio-scsi-pci-non-transitional" },
        { "virtio-transitional", "virtio-scsi-pci-transitional" }, { "lsilogic", "lsi" }, { "lsisas1068", "mptsas1068" }, { "lsisas1078", "megasas" }, { "vmpvscsi", "pvscsi" } };
    const char *model = el_get_or(e, "@model", "virtio-scsi");
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (!g_str_equal(drivers[i].model, model) || (b->m.is_vireo && i > 1))
            continue;
        struct json_object *o = domain_plan_device(b, i == 0 && !b->m.has_pci ? "virtio-scsi-device" : drivers[i].driver, e);
        for (unsigned n = 0; n < G_N_ELEMENTS(numbers); n++)
            if (el_get(e, numbers[n].path))
                js_int(o, numbers[n].key, (int64_t)domain_number(e, numbers[n].path, 0));
        if (el_get(e, "driver/@iothread")) {
            g_autofree char *name = g_strdup_printf("iothread%s", el_get(e, "driver/@iothread"));
            js_set(o, "iothread", name);
        }
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='scsi' model='%s'>%s is not there: 'virtio-scsi' is", model, domain_line(e));
}

static bool add_controller(struct domain_build *b, struct el *e, GError **error)
{
    const char *type = el_get_or(e, "@type", "");
    unsigned index = domain_number(e, "@index", 0);
    if (g_str_equal(type, "pci"))
        return pci_controller(b, e, error);
    if (g_str_equal(type, "usb"))
        return usb_controller(b, e, error);
    if (g_str_equal(type, "scsi"))
        return scsi_controller(b, e, error);
    if (g_str_equal(type, "virtio-serial")) {
        struct json_object *o = domain_plan_device(b, b->m.has_pci ? "virtio-serial-pci" : "virtio-serial-device", e);
        if (el_get(e, "@ports"))
            js_int(o, "max_ports", (int64_t)domain_number(e, "@ports", 31));
        if (el_get(e, "@vectors"))
            js_int(o, "vectors", (int64_t)domain_number(e, "@vectors", 2));
        return true;
    }
    if (g_str_equal(type, "sata")) {
        if (index || !b->m.pcie)
            domain_plan_device(b, b->m.is_vireo ? "ich9-ahci" : "ahci", e);
        return true;
    }
    bool board = (g_str_equal(type, "ide") && b->m.i440fx && index == 0) || (g_str_equal(type, "fdc") && index == 0 && !b->m.pcie);
    if (g_str_equal(type, "fdc") && b->m.pcie) {
        js_set(domain_plan_device(b, "isa-fdc", NULL), "id", el_get(e, "alias/@name"));
        return true;
    }
    if (g_str_equal(type, "ccid")) {
        js_set(domain_plan_device(b, "usb-ccid", e), "bus", "usb.0");
        return true;
    }
    return board || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<controller type='%s'>%s is not there", type, domain_line(e));
}

/* Bridges first, those that others stand on before these. */
static bool add_controllers(struct domain_build *b, GError **error)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned max = 0;
        el_each(e, b->devices, "controller")
            max = MAX(max, (unsigned)domain_number(e, "@index", 0));
        for (unsigned index = 0; pass == 0 && index <= max && index < 256; index++)
            el_each(e, b->devices, "controller") {
                bool skip = true;
                if (!el_is(e, "@type", "pci") || domain_number(e, "@index", 0) != index)
                    continue;
                if (!domain_plan_lacks(b, e, &skip, error) || (!skip && !add_controller(b, e, error)))
                    return false;
            }
        el_each(e, b->devices, "controller") {
            bool skip = true;
            if (pass == 0 || el_is(e, "@type", "pci"))
                continue;
            if (!domain_plan_lacks(b, e, &skip, error) || (!skip && !add_controller(b, e, error)))
                return false;
        }
    }
    return true;
}

/* ---- small devices ---- */

static bool add_balloon(struct domain_build *b, struct el *e, G_GNUC_UNUSED GError **error)
{
    if (el_is(e, "@model", "none"))
        return true;
    struct json_object *o = domain_plan_device(b, b->m.has_pci ? "virtio-balloon-pci" : "virtio-balloon-device", e);
    if (el_get(e, "@autodeflate"))
        js_bool(o, "deflate-on-oom", el_is(e, "@autodeflate", "on"));
    if (el_get(e, "@freePageReporting"))
        js_bool(o, "free-page-reporting", el_is(e, "@freePageReporting", "on"));
    uint64_t period = domain_number(e, "stats/@period", 0);
    if (period) {
        struct json_object *args = domain_plan_after(b, "qom-set");
        g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", el_get_or(e, "alias/@name", "balloon0"));
        js_set(args, "path", path);
        js_set(args, "property", "guest-stats-polling-interval");
        js_int(args, "value", (int64_t)period);
    }
    return true;
}

static bool add_rng(struct domain_build *b, struct el *e, GError **error)
{
    g_autofree char *id = g_strdup_printf("obj%s", el_get_or(e, "alias/@name", "rng0"));
    bool builtin = el_is(e, "backend/@model", "builtin");
    if (!builtin && !el_is(e, "backend/@model", "random"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<rng>%s: a source '%s' is not there: random and builtin are", domain_line(e), el_get_or(e, "backend/@model", ""));
    struct json_object *o = domain_plan_object(b, builtin ? "rng-builtin" : "rng-random", id);
    if (!builtin)
        js_set(o, "filename", el_get_or(e, "backend", "/dev/urandom"));
    o = domain_plan_device(b, b->m.has_pci ? "virtio-rng-pci" : "virtio-rng-device", e);
    js_set(o, "rng", id);
    if (el_find(e, "rate")) {
        if (b->m.is_vireo)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<rng>%s: <rate> is not there yet", domain_line(e));
        js_int(o, "max-bytes", (int64_t)domain_number(e, "rate/@bytes", 0));
        js_int(o, "period", (int64_t)domain_number(e, "rate/@period", 1000));
    }
    return true;
}

static bool add_memory(struct domain_build *b, struct el *e, GError **error)
{
    const char *model = el_get_or(e, "@model", "dimm"), *alias = el_get_or(e, "alias/@name", "dimm0");
    g_autofree char *id = g_strdup_printf("mem%s", alias);
    bool dimm = g_str_equal(model, "dimm");
    if (!dimm && !g_str_equal(model, "virtio-mem"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<memory model='%s'>%s is not there: dimm and virtio-mem are", model, domain_line(e));
    static const char *const never[] = { "source/nodemask", "source/pagesize" };
    for (unsigned i = 0; i < G_N_ELEMENTS(never); i++)
        if (el_find(e, never[i]))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<memory>%s: <%s> of a module is not there; <numatune> and <memoryBacking> say it for all memory", domain_line(e),
                               strchr(never[i], '/') + 1);
    domain_plan_memory(b, id, domain_number(e, "target/size", 0) << 10, false);
    struct json_object *o = domain_plan_device(b, dimm ? "pc-dimm" : "virtio-mem-pci", e);
    js_set(o, "memdev", id);
    if (el_get(e, "target/node"))
        js_int(o, "node", (int64_t)domain_number(e, "target/node", 0));
    if (dimm && el_get(e, "address/@slot"))
        js_int(o, "slot", (int64_t)domain_number(e, "address/@slot", 0));
    if (dimm && el_get(e, "address/@base"))
        js_int(o, "addr", (int64_t)domain_number(e, "address/@base", 0));
    if (!dimm) {
        js_int(o, "block-size", (int64_t)(domain_number(e, "target/block", 2048) << 10));
        js_int(o, "requested-size", (int64_t)(domain_number(e, "target/requested", 0) << 10));
    }
    return true;
}

static bool add_panic(struct domain_build *b, struct el *e, GError **error)
{
    if (el_is(e, "@model", "hyperv"))
        return true; /* by the CPU's Hyper-V interface */
    if (!el_is(e, "@model", "isa"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<panic model='%s'>%s is not there: 'isa' is", el_get_or(e, "@model", ""), domain_line(e));
    struct json_object *o = domain_plan_device(b, "pvpanic", NULL);
    if (el_get(e, "address/@iobase"))
        js_int(o, "ioport", (int64_t)domain_number(e, "address/@iobase", 0x505));
    return true;
}

/* ---- what QEMU alone has ---- */

static bool add_watchdog(struct domain_build *b, struct el *e, GError **error)
{
    if (!el_is(e, "@model", "i6300esb") && !el_is(e, "@model", "ib700"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<watchdog model='%s'>%s is not there: i6300esb and ib700 are", el_get_or(e, "@model", ""), domain_line(e));
    domain_plan_device(b, el_get(e, "@model"), e);
    domain_plan_option(b, "-watchdog-action", "%s", el_get_or(e, "@action", "reset"));
    return true;
}

static bool add_filesystem(struct domain_build *b, struct el *e, GError **error)
{
    const char *alias = el_get_or(e, "alias/@name", "fs0");
    if (!el_is(e, "@type", "mount") || (el_get(e, "driver/@type") && !el_is(e, "driver/@type", "path")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<filesystem>%s: only type='mount' with the driver 'path' (9p) is there", domain_line(e));
    g_autofree char *path = domain_plan_escape(el_get_or(e, "source/@dir", "")), *id = g_strdup_printf("fsdev-%s", alias);
    const char *mode = el_get_or(e, "@accessmode", "passthrough");
    g_autoptr(GString) more = g_string_new(el_find(e, "readonly") ? ",readonly=on" : "");
    static const struct { const char *path, *key; } settings[] = { { "driver/@wrpolicy", "writeout" }, { "@multidevs", "multidevs" }, { "@fmode", "fmode" }, { "@dmode", "dmode" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++)
        if (el_get(e, settings[i].path))
            g_string_append_printf(more, ",%s=%s", settings[i].key, el_get(e, settings[i].path));
    domain_plan_option(b, "-fsdev", "local,security_model=%s,id=%s,path=%s%s", g_str_equal(mode, "squash") ? "none" : mode, id, path, more->str);
    struct json_object *o = domain_plan_device(b, "virtio-9p-pci", e);
    js_set(o, "fsdev", id);
    js_set(o, "mount_tag", el_get_or(e, "target/@dir", ""));
    return true;
}

/* ---- the table ---- */

static bool add_nothing(G_GNUC_UNUSED struct domain_build *b, G_GNUC_UNUSED struct el *e, G_GNUC_UNUSED GError **error)
{
    return true;
}

static const struct {
    const char *element;
    bool (*add)(struct domain_build *b, struct el *e, GError **error);
} rows[] = {
    { "emulator", add_nothing },       { "controller", add_controller },  { "memory", add_memory }, { "hub", domain_plan_hub },          { "disk", domain_plan_disk },
    { "filesystem", add_filesystem },  { "interface", domain_plan_interface }, { "serial", domain_plan_char }, { "parallel", domain_plan_char }, { "channel", domain_plan_char },
    { "console", domain_plan_char },   { "input", domain_plan_input },            { "audio", domain_plan_audio },   { "graphics", domain_plan_graphics }, { "video", domain_plan_video },
    { "sound", domain_plan_sound },            { "watchdog", add_watchdog },      { "memballoon", add_balloon }, { "rng", add_rng },     { "panic", add_panic },
};

bool domain_plan_element(struct domain_build *b, struct el *e, GError **error)
{
    bool skip = false;
    if (!domain_plan_lacks(b, e, &skip, error))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].element, el_name(e)))
            return skip || rows[i].add(b, e, error);
    return skip || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s is not there yet", el_name(e), domain_line(e));
}

static bool has_row(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].element, name))
            return true;
    return false;
}

bool domain_plan_devices(struct domain_build *b, GError **error)
{
    unsigned notes = b->plan->notes->len;
    el_each(e, b->devices, NULL) {
        bool skip;
        if (!domain_plan_lacks(b, e, &skip, error))
            return false;
        if (!skip && !has_row(el_name(e)))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s is not there yet", el_name(e), domain_line(e));
    }
    g_ptr_array_set_size(b->plan->notes, (int)notes); /* said again below */
    if (!add_controllers(b, error))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].add == add_controller)
            continue;
        el_each(e, b->devices, rows[i].element)
            if (!domain_plan_element(b, e, error))
                return false;
    }
    return true;
}
