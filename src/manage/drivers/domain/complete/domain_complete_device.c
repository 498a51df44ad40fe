/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Defaults of devices: disks, interfaces, and all that only need a value filled in. Character devices: domain_complete_char.c. */
#include "manage/drivers/domain/net/domain_bandwidth.h"
#include "manage/drivers/domain/complete/domain_complete.h"

#include <stdio.h>
#include <string.h>

/* ---- disks ---- */

static const char *bus_of_target(const char *target)
{
    static const char *const rows[][2] = { { "fd", "fdc" }, { "hd", "ide" }, { "sd", "scsi" }, { "vd", "virtio" }, { "xvd", "xen" }, { "ubd", "uml" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_has_prefix(target, rows[i][0]))
            return rows[i][1];
    return NULL;
}

static bool has_source(const struct el *disk)
{
    const struct el *s = el_find(disk, "source");
    return s && (el_get(s, "@file") || el_get(s, "@dev") || el_get(s, "@dir") || el_get(s, "@pool") || el_get(s, "@protocol") || el_get(s, "@type") || el_get(s, "@path"));
}

/* Servers that are named without a port, in the disk and in the images below it. */
static void complete_hosts(struct el *e)
{
    static const struct { const char *protocol, *port; } ports[] = { { "nbd", "10809" }, { "iscsi", "3260" }, { "gluster", "24007" }, { "http", "80" }, { "https", "443" },
        { "ftp", "21" }, { "ftps", "990" }, { "tftp", "69" }, { "ssh", "22" }, { "sheepdog", "7000" }, { "vxhs", "9999" } };
    for (; e; e = el_find(e, "backingStore"))
        for (unsigned i = 0; i < G_N_ELEMENTS(ports); i++)
            if (el_is(e, "source/@protocol", ports[i].protocol))
                el_each(host, el_find(e, "source"), "host") {
                    if (el_is(host, "@transport", "tcp"))
                        el_set(host, "@transport", NULL);
                    if (!el_get(host, "@transport"))
                        domain_default(host, "@port", ports[i].port);
                }
}

/* The chain below an image: <backingStore> as in libvirt has a type and, in it, format and source. */
static bool complete_disk(struct domain_complete *c, struct el *disk, GError **error)
{
    domain_default(disk, "@type", "file");
    domain_default(disk, "@device", "disk");
    const char *device = el_get(disk, "@device"), *target = el_get(disk, "target/@dev");
    if (!target || !*target)
        return manage_fail(error, VIR_ERR_XML_ERROR, "a <disk>%s has no <target dev=>: the name by which the domain's disks are told apart", domain_line(disk));
    if (domain_disk_index(target) < 0)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<target dev='%s'>%s: a disk is named by its bus and a letter: vda, sda, hda, fda", target,
                           domain_line(el_find(disk, "target")));
    bool removable = g_str_equal(device, "cdrom") || g_str_equal(device, "floppy");
    if (!has_source(disk) && !removable && !el_is(disk, "@type", "nvme") && !el_is(disk, "@type", "vhostuser"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "the disk '%s'%s has no <source>: only drives with removable media may be empty", target, domain_line(disk));
    const char *bus = el_get(disk, "target/@bus");
    if (!bus) {
        bus = g_str_equal(device, "floppy") ? "fdc" : bus_of_target(target);
        if (!bus)
            return manage_fail(error, VIR_ERR_XML_ERROR, "<target dev='%s'>%s: say which bus with bus=", target, domain_line(el_find(disk, "target")));
        el_set(disk, "target/@bus", bus);
    }
    if (g_str_equal(device, "floppy") != g_str_equal(bus, "fdc"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: floppy drives, and nothing else, are on the bus 'fdc'", target, domain_line(disk));
    if (g_str_equal(bus, "virtio") && removable)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: virtio has no %s drives; use bus='sata' or 'scsi'", target, domain_line(disk), device);
    if (g_str_equal(bus, "ide") && c->machine.pcie)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the disk '%s'%s: the machine '%s' has no IDE; use bus='sata'", target, domain_line(disk), c->machine.name);
    if (!el_is(disk, "@type", "vhostuser")) {
        domain_default(disk, "driver/@name", "qemu");
        domain_default(disk, "driver/@type", "raw");
    }
    if (removable && !el_find(disk, "readonly") && g_str_equal(device, "cdrom"))
        el_add(disk, "readonly");
    complete_hosts(disk);
    if (el_is(disk, "@type", "nvme"))
        domain_default(disk, "source/@managed", "yes");
    if (el_find(disk, "source/encryption"))
        domain_default(disk, "source/encryption/@engine", "qemu");
    return domain_iotune_check(disk, VIR_ERR_CONFIG_UNSUPPORTED, error);
}

/* Disks of one bus stand in the order of their names, wherever the document has them; `bus` is what the document says, which may be nothing. */
static void sort_disks(struct el *devices)
{
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    bool moved = false;
    el_each(disk, devices, "disk") {
        int at = -1;
        for (int i = (int)order->len - 1; i >= 0; i--) {
            struct el *other = order->pdata[i];
            if (!g_str_equal(el_get_or(other, "target/@bus", ""), el_get_or(disk, "target/@bus", "")))
                continue;
            if (domain_disk_index(el_get_or(other, "target/@dev", "")) > domain_disk_index(el_get_or(disk, "target/@dev", "")))
                at = i;
            else if (at == -1)
                at = i + 1;
        }
        moved |= at != -1 && at != (int)order->len;
        g_ptr_array_insert(order, at, disk);
    }
    for (unsigned i = 0; moved && i < order->len; i++)
        el_copy(devices, order->pdata[i]);
    for (unsigned i = 0; moved && i < order->len; i++)
        el_remove(order->pdata[i]);
}

bool domain_complete_disks(struct domain_complete *c, GError **error)
{
    sort_disks(c->devices);
    el_each(disk, c->devices, "disk")
        if (!complete_disk(c, disk, error))
            return false;
    return true;
}

/* ---- interfaces ---- */

/* Attributes of <source> are those of the type: it is made anew. */
void domain_interface_place(struct el *nic, const char *type, const char *bridge, const char *device, const char *mode)
{
    static const char *const kept[] = { "source/@network", "source/@portgroup", "source/@portid" };
    char *values[G_N_ELEMENTS(kept)];
    if (!el_get(nic, "source/@network"))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++)
        values[i] = g_strdup(el_get(nic, kept[i]));
    el_remove(el_find(nic, "source"));
    el_set(nic, "@type", type ? type : "network");
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++) {
        if (values[i])
            el_set(nic, kept[i], values[i]);
        g_free(values[i]);
    }
    if (bridge)
        el_set(nic, "source/@bridge", bridge);
    if (device)
        el_set(nic, "source/@dev", device);
    if (mode)
        el_set(nic, "source/@mode", mode);
}

static void random_default(struct el *e, const char *path)
{
    uint8_t bytes[16];
    char text[37];
    manage_uuid_random(bytes);
    manage_uuid_format(bytes, text);
    domain_default(e, path, text);
}

/* What a switch knows the port by. A network may know the type of port; elsewhere it must be said. */
static bool complete_virtualport(struct el *nic, GError **error)
{
    static const struct { const char *type, *path; } needs[] = { { "midonet", "interfaceid" }, { "802.1Qbg", "managerid" }, { "802.1Qbg", "typeid" }, { "802.1Qbg", "typeidversion" },
        { "802.1Qbh", "profileid" } };
    struct el *port = el_find(nic, "virtualport");
    bool network = el_is(nic, "@type", "network");
    if (!port)
        return true;
    const char *type = el_get(port, "@type");
    if (!type && !network)
        return manage_fail(error, VIR_ERR_XML_ERROR, "<virtualport>%s has no type=, which only an interface of a network can do without", domain_line(port));
    for (unsigned i = 0; type && !network && i < G_N_ELEMENTS(needs); i++) {
        g_autofree char *path = g_strconcat("parameters/@", needs[i].path, NULL);
        if (g_str_equal(type, needs[i].type) && !el_get(port, path))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<virtualport type='%s'>%s lacks <parameters %s=>", type, domain_line(port), needs[i].path);
    }
    if (!type || g_str_equal(type, "openvswitch"))
        random_default(port, "parameters/@interfaceid");
    if (!type || g_str_equal(type, "802.1Qbg"))
        random_default(port, "parameters/@instanceid");
    return true;
}

static bool complete_interface(G_GNUC_UNUSED struct domain_complete *c, struct el *nic, GError **error)
{
    const char *type = el_get(nic, "@type");
    static const struct { const char *type, *path; } needs[] = { { "network", "source/@network" }, { "bridge", "source/@bridge" }, { "direct", "source/@dev" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(needs); i++)
        if (type && g_str_equal(type, needs[i].type) && !el_get(nic, needs[i].path))
            return manage_fail(error, VIR_ERR_XML_ERROR, "an <interface type='%s'>%s needs <%s>", type, domain_line(nic),
                               i == 0 ? "source network=" : i == 1 ? "source bridge=" : "source dev=");
    static const char *const sockets[] = { "mcast", "client", "server", "udp" }; /* a server may listen everywhere */
    for (unsigned i = 0; type && i < G_N_ELEMENTS(sockets); i++)
        if (g_str_equal(type, sockets[i]) && ((i != 2 && !el_get(nic, "source/@address")) || (i == 3 && !el_find(nic, "source/local"))))
            return manage_fail(error, VIR_ERR_XML_ERROR, "an <interface type='%s'>%s needs <%s>", type, domain_line(nic), el_get(nic, "source/@address") ? "local address= port=" : "source address= port=");
    if (!el_get(nic, "mac/@address")) {
        uint32_t r = g_random_int();
        el_setf(nic, "mac/@address", "52:54:00:%02x:%02x:%02x", r & 255, r >> 8 & 255, r >> 16 & 255);
    }
    g_autofree char *mac = g_ascii_strdown(el_get(nic, "mac/@address"), -1);
    unsigned b[6];
    char end;
    if (strlen(mac) != 17 || sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%c", b, b + 1, b + 2, b + 3, b + 4, b + 5, &end) != 6)
        return manage_fail(error, VIR_ERR_XML_ERROR, "'%s'%s is not a MAC address", mac, domain_line(nic));
    if (b[0] & 1)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the MAC address '%s'%s is a multicast address: its first number must be even", mac, domain_line(nic));
    if (type && !g_str_equal(type, "hostdev"))
        domain_default(nic, "model/@type", g_str_equal(type, "vdpa") ? "virtio" : "rtl8139");
    if (el_is(nic, "@type", "direct"))
        domain_default(nic, "source/@mode", "vepa");
    return complete_virtualport(nic, error) && domain_bandwidth_check(nic, error);
}

bool domain_complete_interfaces(struct domain_complete *c, GError **error)
{
    el_each(nic, c->devices, "interface")
        if (!complete_interface(c, nic, error))
            return false;
    return true;
}

/* ---- the others ---- */

/* Values that stand where nothing is said. if_path, if given: only where this has that value (NULL: only where it is not there). */
static const struct {
    const char *element, *path, *value, *if_path, *if_value;
} defaults[] = {
    { "filesystem", "@type", "mount", NULL, NULL },
    { "filesystem", "@accessmode", "passthrough", NULL, NULL },
    { "watchdog", "@action", "reset", NULL, NULL },
    { "hostdev", "@managed", "no", NULL, NULL },
    { "hostdev", "@mode", "subsystem", NULL, NULL },
    { "redirdev", "@bus", "usb", NULL, NULL },
    { "rng", "backend", "/dev/random", "backend/@model", "random" },
    { "vsock", "@model", "virtio", NULL, NULL },
    { "vsock", "cid/@auto", "yes", "cid/@address", NULL },
    { "vsock", "cid/@auto", "no", NULL, NULL },
    { "panic", "@model", "isa", NULL, NULL },
    { "tpm", "@model", "tpm-tis", NULL, NULL },
    { "hub", "@type", "usb", NULL, NULL },
    { "memballoon", "@model", "virtio", NULL, NULL },
    { "video", "model/@heads", "1", NULL, NULL },
    { "video", "model/@vram", "16384", "model/@type", "vga" },
    { "video", "model/@vram", "16384", "model/@type", "cirrus" },
    { "video", "model/@vram", "16384", "model/@type", "bochs" },
    { "video", "model/@vram", "16384", "model/@type", "vmvga" },
    { "video", "model/@ram", "65536", "model/@type", "qxl" },
    { "video", "model/@vram", "65536", "model/@type", "qxl" },
    { "video", "model/@vgamem", "16384", "model/@type", "qxl" },
    { "iommu", "@model", "intel", NULL, NULL },
    { "shmem", "size", "4", "model/@type", "ivshmem-plain" },
    { "shmem", "size/@unit", "M", "model/@type", "ivshmem-plain" },
    { "shmem", "msi/@ioeventfd", "on", "model/@type", "ivshmem-doorbell" },
};

static void apply_defaults(struct el *e)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(defaults); i++) {
        if (!g_str_equal(defaults[i].element, el_name(e)) || (defaults[i].if_path && defaults[i].if_value && !el_is(e, defaults[i].if_path, defaults[i].if_value)) ||
            (defaults[i].if_path && !defaults[i].if_value && el_get(e, defaults[i].if_path)))
            continue;
        const char *now = el_get(e, defaults[i].path);
        if (!now || (!*now && !strchr(defaults[i].path, '@')))
            el_set(e, defaults[i].path, defaults[i].value);
    }
}

static void complete_video(struct domain_complete *c)
{
    if (el_find(c->devices, "graphics") && !el_find(c->devices, "video"))
        el_add(c->devices, "video");
    bool first = true;
    el_each(v, c->devices, "video") {
        if (!el_get(v, "model/@type"))
            el_set(v, "model/@type", c->machine.is_vireo ? "vga" : "cirrus");
        if (el_is(v, "model/@type", "none"))
            continue;
        apply_defaults(v);
        if (first)
            el_set(v, "model/@primary", "yes");
        first = false;
    }
}

static bool takes_ports(const struct el *g)
{
    return el_is(g, "@autoport", "yes") || el_get(g, "@port") || el_get(g, "@tlsPort"); /* 0 is gone by then */
}

static void set_listen(struct el *g, const char *type, const char *path, const char *value)
{
    if (el_find(g, "listen"))
        el_remove(el_find(g, "listen"));
    el_set(g, "listen/@type", type);
    if (path && value)
        el_set(g, path, value);
}

/* Ports: those that are to be found at the start stand as -1 (VNC) or not at all (SPICE), and autoport says it. */
static void complete_ports(struct el *g, bool spice)
{
    static const char *const ports[] = { "@port", "@tlsPort" };
    for (unsigned i = 0; i < G_N_ELEMENTS(ports); i++)
        if (el_is(g, ports[i], "0")) {
            el_set(g, ports[i], NULL);
            domain_default(g, "@autoport", "no");
        }
    if (spice) {
        if (el_is(g, "@port", "-1") && el_is(g, "@tlsPort", "-1"))
            el_set(g, "@autoport", "yes");
        for (unsigned i = 0; el_is(g, "@autoport", "yes") && i < G_N_ELEMENTS(ports); i++)
            el_set(g, ports[i], NULL);
        domain_default(g, "@autoport", "no");
        return;
    }
    if (el_is(g, "@port", "-1"))
        el_set(g, "@autoport", "yes");
    domain_default(g, "@autoport", el_get(g, "@port") ? "no" : "yes");
    if (el_is(g, "@autoport", "yes"))
        el_set(g, "@port", "-1");
}

static bool complete_graphics(struct el *g, GError **error)
{
    static const char *const network[] = { "@port", "@tlsPort", "@autoport", "@websocket", "@listen" };
    static const struct { const char *name, *path; } twins[] = { { "@listen", "listen/@address" }, { "@socket", "listen/@socket" } };
    bool vnc = el_is(g, "@type", "vnc"), spice = el_is(g, "@type", "spice"), rdp = el_is(g, "@type", "rdp");
    if (!vnc && !spice && !rdp)
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(twins); i++)
        if (el_get(g, twins[i].name) && el_get(g, twins[i].path) && !el_is(g, twins[i].path, el_get(g, twins[i].name)))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<graphics>%s says %s='%s', and the first <listen> in it '%s'", domain_line(g), twins[i].name + 1,
                               el_get(g, twins[i].name), el_get(g, twins[i].path));
    complete_ports(g, spice);
    if (vnc && el_get(g, "@socket") && !el_is(g, "listen/@type", "socket"))
        set_listen(g, "socket", "listen/@socket", el_get(g, "@socket"));
    else if (spice && !takes_ports(g) && !el_is(g, "listen/@type", "socket"))
        set_listen(g, "none", NULL, NULL);
    else if (!el_find(g, "listen"))
        set_listen(g, "address", "listen/@address", el_get(g, "@listen"));
    bool local = el_is(g, "listen/@type", "none") || el_is(g, "listen/@type", "socket");
    for (unsigned i = 0; local && i < G_N_ELEMENTS(network); i++)
        if (el_get(g, network[i]))
            el_set(g, network[i], NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(twins); i++)
        if (el_get(g, twins[i].path) && (vnc || i == 0))
            domain_default(g, twins[i].name, el_get(g, twins[i].path));
    return true;
}

static bool has_input(struct el *devices, const char *type)
{
    el_each(i, devices, "input")
        if (el_is(i, "@type", type) && el_is(i, "@bus", "ps2"))
            return true;
    return false;
}

static void complete_inputs(struct domain_complete *c)
{
    static const char *const always[] = { "mouse", "keyboard" };
    el_each(i, c->devices, "input") {
        if (el_is(i, "@type", "evdev"))
            continue;
        bool ps2 = (el_is(i, "@type", "mouse") || el_is(i, "@type", "keyboard")) && c->machine.has_pci;
        domain_default(i, "@bus", ps2 ? "ps2" : "usb");
    }
    for (unsigned i = 0; c->machine.has_pci && i < G_N_ELEMENTS(always); i++)
        if (!has_input(c->devices, always[i])) {
            struct el *e = el_add(c->devices, "input");
            el_set(e, "@type", always[i]);
            el_set(e, "@bus", "ps2");
        }
}

static void complete_audio(struct domain_complete *c)
{
    /* The last display says where sound goes; those that are windows of the machine's own need no back end. */
    const char *last = "vnc";
    unsigned n = 0;
    el_each(g, c->devices, "graphics")
        last = el_get_or(g, "@type", "");
    el_each(a, c->devices, "audio") {
        n++;
        if (!el_get(a, "@id"))
            el_setf(a, "@id", "%u", n);
    }
    if (n || (!g_str_equal(last, "vnc") && !g_str_equal(last, "spice")))
        return;
    struct el *a = el_add(c->devices, "audio");
    el_set(a, "@id", "1");
    el_set(a, "@type", g_str_equal(last, "spice") ? "spice" : "none");
}

bool domain_complete_others(struct domain_complete *c, GError **error)
{
    el_each(e, c->devices, NULL) {
        if (g_str_equal(el_name(e), "video"))
            continue;
        if (g_str_equal(el_name(e), "graphics") && !complete_graphics(e, error))
            return false;
        apply_defaults(e);
        if (g_str_equal(el_name(e), "rng") && !el_get(e, "@model"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<rng>%s has no model: 'virtio'", domain_line(e));
    }
    complete_inputs(c);
    complete_video(c);
    complete_audio(c);
    if (c->machine.has_pci && !el_find(c->devices, "memballoon"))
        el_set(el_add(c->devices, "memballoon"), "@model", "virtio");
    return true;
}

/* ---- controllers ---- */

static bool has_controller(struct el *devices, const char *type)
{
    el_each(c, devices, "controller")
        if (el_is(c, "@type", type))
            return true;
    return false;
}

/* Controllers without an index get the lowest that is free; the parts of an ICH9 USB controller share one. */
static void number_controllers(struct el *devices)
{
    el_each(c, devices, "controller") {
        if (el_get(c, "@index"))
            continue;
        const char *type = el_get_or(c, "@type", ""), *model = el_get_or(c, "@model", "");
        unsigned n = 0;
        while (domain_controller(devices, type, n) && domain_controller(devices, type, n) != c)
            n++;
        if (g_str_has_prefix(model, "ich9-uhci") && n)
            n--;
        if (g_str_equal(type, "pci") && !g_str_has_suffix(model, "-root") && n == 0)
            for (n = 1; domain_controller(devices, type, n); n++)
                ;
        el_setf(c, "@index", "%u", n);
    }
}

static const char *default_model(const struct domain_machine *m, const char *type)
{
    if (g_str_equal(type, "usb"))
        return m->pcie ? "qemu-xhci" : "piix3-uhci";
    if (g_str_equal(type, "scsi"))
        return m->is_vireo ? "virtio-scsi" : "lsilogic";
    return NULL;
}

static bool complete_controller(struct domain_complete *c, struct el *e, GError **error)
{
    const char *type = el_get_or(e, "@type", ""), *model = el_get(e, "@model");
    if (!model) {
        if (g_str_equal(type, "pci"))
            return manage_fail(error, VIR_ERR_XML_ERROR, "a <controller type='pci'>%s has no model, such as 'pcie-root-port'", domain_line(e));
        if ((model = default_model(&c->machine, type)))
            el_set(e, "@model", model);
    } else if (g_str_equal(type, "scsi") && g_str_equal(model, "auto")) {
        el_set(e, "@model", default_model(&c->machine, type));
    }
    return true;
}

bool domain_complete_controllers(struct domain_complete *c, GError **error)
{
    number_controllers(c->devices);
    el_each(e, c->devices, "controller")
        if (!complete_controller(c, e, error))
            return false;
    if (!c->machine.has_pci)
        return true;
    if (!has_controller(c->devices, "usb"))
        domain_add_controller(c->devices, "usb", 0, default_model(&c->machine, "usb"));
    if (c->machine.pcie && !domain_controller(c->devices, "sata", 0))
        domain_add_controller(c->devices, "sata", 0, NULL);
    const char *root = c->machine.pcie ? "pcie-root" : "pci-root";
    struct el *zero = domain_controller(c->devices, "pci", 0);
    if (!zero)
        domain_add_controller(c->devices, "pci", 0, root);
    else if (!el_is(zero, "@model", root))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the PCI controller 0%s of the machine '%s' is a '%s', not a '%s'", domain_line(zero), c->machine.name, root,
                           el_get_or(zero, "@model", ""));
    return true;
}

bool domain_complete_device(struct domain_complete *c, struct el *e, GError **error)
{
    const char *name = el_name(e);
    if (g_str_equal(name, "disk"))
        return complete_disk(c, e, error);
    if (g_str_equal(name, "interface"))
        return complete_interface(c, e, error);
    if (g_str_equal(name, "controller")) {
        number_controllers(c->devices);
        return complete_controller(c, e, error);
    }
    if (g_str_equal(name, "graphics") && !complete_graphics(e, error))
        return false;
    if (g_str_equal(name, "input") && !el_is(e, "@type", "evdev"))
        domain_default(e, "@bus", "usb");
    apply_defaults(e);
    return domain_complete_chars(c, error);
}
