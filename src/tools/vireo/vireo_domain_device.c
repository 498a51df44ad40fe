/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of a domain: attached, detached, changed; from documents or from arguments. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <stdlib.h>
#include <string.h>

/* --persistent means the definition, and a running domain too. */
static bool device_flags(struct call *c, virDomainPtr domain, unsigned *ret_flags)
{
    if (!opt_affect(c, ret_flags))
        return false;
    if (opt_bool(c, "persistent")) {
        *ret_flags |= VIR_DOMAIN_AFFECT_CONFIG;
        if (virDomainIsActive(domain) == 1)
            *ret_flags |= VIR_DOMAIN_AFFECT_LIVE;
    }
    return true;
}

static bool attach(struct call *c, virDomainPtr domain, const char *xml, unsigned flags)
{
    return (flags || opt_bool(c, "current") ? virDomainAttachDeviceFlags(domain, xml, flags) : virDomainAttachDevice(domain, xml)) == 0;
}

static bool detach(struct call *c, virDomainPtr domain, const char *xml, unsigned flags)
{
    return (flags || opt_bool(c, "current") ? virDomainDetachDeviceFlags(domain, xml, flags) : virDomainDetachDevice(domain, xml)) == 0;
}

static bool cmd_attach_device(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags;
    g_autofree char *xml = domain && device_flags(c, domain, &flags) ? opt_file(c, "file") : NULL;
    if (!xml)
        return false;
    if (!attach(c, domain, xml, flags))
        return complain(c, "Failed to attach device from %s", opt_str(c, "file"));
    note(c, "Device attached successfully\n");
    return true;
}

static bool cmd_detach_device(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags;
    g_autofree char *xml = domain && device_flags(c, domain, &flags) ? opt_file(c, "file") : NULL;
    if (!xml)
        return false;
    if (!detach(c, domain, xml, flags))
        return complain(c, "Failed to detach device from %s", opt_str(c, "file"));
    note(c, "Device detached successfully\n");
    return true;
}

static bool cmd_detach_alias(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags;
    if (!domain || !device_flags(c, domain, &flags))
        return false;
    if (virDomainDetachDeviceAlias(domain, opt_str(c, "alias"), flags) < 0)
        return complain(c, "Failed to detach device with alias %s", opt_str(c, "alias"));
    note(c, "Device detach request sent successfully\n");
    return true;
}

static bool cmd_update_device(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags;
    g_autofree char *xml = domain && device_flags(c, domain, &flags) ? opt_file(c, "file") : NULL;
    if (!xml)
        return false;
    flags |= opt_flags(c, "force", VIR_DOMAIN_DEVICE_MODIFY_FORCE, NULL);
    if (virDomainUpdateDeviceFlags(domain, xml, flags) < 0)
        return complain(c, "Failed to update device from %s", opt_str(c, "file"));
    note(c, "Device updated successfully\n");
    return true;
}

/* Appends FORMAT with the option's value, escaped, if it was given. */
static void with(struct call *c, GString *s, const char *option, const char *format)
{
    const char *value = opt_str(c, option);
    if (!value)
        return;
    g_autofree char *safe = g_markup_escape_text(value, -1);
    g_auto(GStrv) parts = g_strsplit(format, "%s", 2);
    g_autofree char *text = g_strjoinv(safe, parts);
    g_string_append(s, text);
}

/* "pci:0000.00.05.0", "scsi:0.0.1", ... */
static bool disk_address(struct call *c, GString *s)
{
    const char *text = opt_str(c, "address"), *target = opt_str(c, "target");
    unsigned a = 0, b = 0, d = 0, e = 0;
    unsigned long long unit = 0;
    char end;
    if (!text)
        return true;
    if (sscanf(text, "pci:%x.%x.%x.%x%c", &a, &b, &d, &e, &end) == 4 || sscanf(text, "pci:%x:%x:%x.%x%c", &a, &b, &d, &e, &end) == 4) {
        g_string_append_printf(s, "  <address type='pci' domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%0x'%s/>\n", a, b, d, e,
            opt_bool(c, "multifunction") ? " multifunction='on'" : "");
        return true;
    }
    if (sscanf(text, "ccw:%x.%x.%x%c", &a, &b, &d, &end) == 3) {
        g_string_append_printf(s, "  <address type='ccw' cssid='0x%02x' ssid='0x%01x' devno='0x%04x'/>\n", a, b, d);
        return true;
    }
    if (sscanf(text, "usb:%u.%u%c", &a, &b, &end) == 2) {
        g_string_append_printf(s, "  <address type='usb' bus='%u' port='%u'/>\n", a, b);
        return true;
    }
    if (sscanf(text, "scsi:%u.%u.%llu%c", &a, &b, &unit, &end) == 3 || sscanf(text, "ide:%u.%u.%llu%c", &a, &b, &unit, &end) == 3
        || sscanf(text, "sata:%u.%u.%llu%c", &a, &b, &unit, &end) == 3) {
        g_string_append_printf(s, "  <address type='drive' controller='%u' bus='%u' unit='%llu'/>\n", a, b, unit);
        return true;
    }
    return complain(c, "the address '%s' of disk '%s' is none: pci:DOMAIN.BUS.SLOT.FUNCTION, scsi:CONTROLLER.BUS.UNIT, usb:BUS.PORT or ccw:CSSID.SSID.DEVNO", text, target);
}

/* file, block or network; by what is there if not told. */
static const char *source_type(struct call *c, bool *good)
{
    const char *told = opt_str(c, "sourcetype"), *source = opt_str(c, "source");
    *good = true;
    if (!told && opt_str(c, "source-protocol"))
        return "network";
    if (!told)
        return g_str_has_prefix(source, "/dev/") ? "block" : "file";
    if (!strcmp(told, "file") || !strcmp(told, "block") || !strcmp(told, "network"))
        return told;
    *good = complain(c, "Unknown source type: '%s'", told);
    return NULL;
}

static void disk_source(struct call *c, GString *s, const char *type)
{
    const char *source = opt_str(c, "source");
    if (!strcmp(type, "network")) {
        with(c, s, "source-protocol", "  <source protocol='%s'");
        with(c, s, "source", " name='%s'");
        g_string_append(s, ">\n");
        const char *host = opt_str(c, "source-host-name");
        if (host || opt_str(c, "source-host-socket")) {
            g_auto(GStrv) parts = g_strsplit(host ? host : "", ":", 2);
            g_autofree char *name = host ? g_markup_printf_escaped(" name='%s'", parts[0]) : g_strdup("");
            g_autofree char *port = host && parts[1] ? g_markup_printf_escaped(" port='%s'", parts[1]) : g_strdup("");
            g_string_append(s, "    <host");
            with(c, s, "source-host-transport", " transport='%s'");
            g_string_append(s, name);
            with(c, s, "source-host-socket", " socket='%s'");
            g_string_append_printf(s, "%s/>\n", port);
        }
        g_string_append(s, "  </source>\n");
    } else if (source && *source) {
        with(c, s, "source", !strcmp(type, "file") ? "  <source file='%s'/>\n" : "  <source dev='%s'/>\n");
    }
}

static char *disk_document(struct call *c)
{
    const char *mode = opt_str(c, "mode"), *target = opt_str(c, "target");
    bool good;
    const char *type = source_type(c, &good);
    if (!good)
        return NULL;
    if (mode && strcmp(mode, "readonly") && strcmp(mode, "shareable")) {
        complain(c, "No support for %s in command 'attach-disk'", mode);
        return NULL;
    }
    const char *wwn = opt_str(c, "wwn");
    if (wwn && (strlen(wwn) != 16 || strspn(wwn, "0123456789abcdefABCDEF") != 16)) {
        complain(c, "Malformed wwn: %s", wwn);
        return NULL;
    }
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_append_printf(s, "<disk type='%s'", type);
    with(c, s, "type", " device='%s'");
    if (opt_bool(c, "rawio"))
        g_string_append(s, " rawio='yes'");
    g_string_append(s, ">\n");
    if (opt_str(c, "driver") || opt_str(c, "subdriver") || opt_str(c, "iothread") || opt_str(c, "cache") || opt_str(c, "io")) {
        g_string_append(s, "  <driver");
        with(c, s, "driver", " name='%s'");
        with(c, s, "subdriver", " type='%s'");
        with(c, s, "iothread", " iothread='%s'");
        with(c, s, "cache", " cache='%s'");
        with(c, s, "io", " io='%s'");
        g_string_append(s, "/>\n");
    }
    disk_source(c, s, type);
    g_autofree char *place = g_markup_printf_escaped("  <target dev='%s'", target);
    g_string_append(s, place);
    with(c, s, "targetbus", " bus='%s'");
    g_string_append(s, "/>\n");
    if (mode)
        g_string_append_printf(s, "  <%s/>\n", mode);
    with(c, s, "serial", "  <serial>%s</serial>\n");
    with(c, s, "alias", "  <alias name='%s'/>\n");
    with(c, s, "wwn", "  <wwn>%s</wwn>\n");
    if (!disk_address(c, s))
        return NULL;
    g_string_append(s, "</disk>\n");
    return g_strdup(s->str);
}

/* Attaches the device of this document, or prints the document. */
static bool attach_made(struct call *c, char *(*document)(struct call *c), const char *what, const char *done)
{
    g_autoptr(virDomain) domain = opt_bool(c, "print-xml") ? NULL : arg_domain(c);
    unsigned flags;
    if (!domain && !opt_bool(c, "print-xml"))
        return false;
    g_autofree char *xml = document(c);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    if (!device_flags(c, domain, &flags))
        return false;
    if (!attach(c, domain, xml, flags))
        return complain(c, "Failed to attach %s", what);
    note(c, "%s attached successfully\n", done);
    return true;
}

static bool cmd_attach_disk(struct call *c) { return attach_made(c, disk_document, "disk", "Disk"); }

/* average,peak,burst,floor as attributes of <inbound> or <outbound>. */
static bool bandwidth(struct call *c, GString *s, const char *option)
{
    static const char *const names[] = {"average", "peak", "burst", "floor"};
    const char *text = opt_str(c, option);
    if (!text)
        return true;
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    unsigned count = g_strv_length(parts);
    if (count > 4)
        return complain(c, "Rate string '%s' has too many fields", text);
    if (count > 3 && strcmp(option, "inbound"))
        return complain(c, "outbound floor is unsupported yet");
    g_string_append_printf(s, "    <%s", option);
    for (unsigned i = 0; i < count; i++) {
        char *end;
        guint64 value = g_ascii_strtoull(parts[i], &end, 10);
        if (!*parts[i] && i)
            continue;
        if (end == parts[i] || *end)
            return complain(c, "field '%s' is malformed", names[i]);
        g_string_append_printf(s, " %s='%llu'", names[i], (unsigned long long)value);
    }
    g_string_append(s, "/>\n");
    return true;
}

static bool interface_source(struct call *c, GString *s, const char *type)
{
    const char *source = opt_str(c, "source"), *mode = opt_str(c, "source-mode");
    unsigned a, b, d, e;
    char end;
    if (!strcmp(type, "network") || !strcmp(type, "bridge")) {
        g_autofree char *format = g_strdup_printf("  <source %s='%%s'/>\n", type);
        with(c, s, "source", format);
    } else if (!strcmp(type, "direct")) {
        with(c, s, "source", "  <source dev='%s'/>\n");
    } else if (!strcmp(type, "hostdev")) {
        if (sscanf(source, "%x:%x:%x.%x%c", &a, &b, &d, &e, &end) != 4 && sscanf(source, "pci:%x.%x.%x.%x%c", &a, &b, &d, &e, &end) != 4)
            return complain(c, "cannot parse pci address '%s' for network interface", source);
        g_string_append_printf(s, "  <source>\n    <address type='pci' domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%0x'/>\n  </source>\n", a, b, d, e);
    } else if (!strcmp(type, "vhostuser")) {
        if (!mode)
            return complain(c, "source-mode is mandatory");
        if (strcmp(mode, "server") && strcmp(mode, "client"))
            return complain(c, "Invalid source mode: %s", mode);
        with(c, s, "source", "  <source type='unix' path='%s'");
        g_string_append_printf(s, " mode='%s'/>\n", mode);
    } else if (strcmp(type, "user") && strcmp(type, "ethernet")) {
        return complain(c, "No support for %s in command 'attach-interface'", type);
    }
    return true;
}

static char *interface_document(struct call *c)
{
    const char *type = opt_str(c, "type");
    g_autoptr(GString) s = g_string_new(NULL);
    with(c, s, "type", "<interface type='%s'");
    if (!strcmp(type, "hostdev") && opt_bool(c, "managed"))
        g_string_append(s, " managed='yes'");
    g_string_append(s, ">\n");
    if (!interface_source(c, s, type))
        return NULL;
    with(c, s, "target", "  <target dev='%s'/>\n");
    with(c, s, "mac", "  <mac address='%s'/>\n");
    with(c, s, "script", "  <script path='%s'/>\n");
    with(c, s, "model", "  <model type='%s'/>\n");
    with(c, s, "alias", "  <alias name='%s'/>\n");
    if (opt_str(c, "inbound") || opt_str(c, "outbound")) {
        g_string_append(s, "  <bandwidth>\n");
        if (!bandwidth(c, s, "inbound") || !bandwidth(c, s, "outbound"))
            return NULL;
        g_string_append(s, "  </bandwidth>\n");
    }
    g_string_append(s, "</interface>\n");
    return g_strdup(s->str);
}

static bool cmd_attach_interface(struct call *c) { return attach_made(c, interface_document, "interface", "Interface"); }

/* Opens the document that fits what is to be changed: the stored one if only that is. */
static bool document_for(struct call *c, virDomainPtr domain, unsigned flags, struct xml *x)
{
    bool stored = (flags & VIR_DOMAIN_AFFECT_CONFIG) && !(flags & VIR_DOMAIN_AFFECT_LIVE);
    return domain_xml(c, domain, stored ? VIR_DOMAIN_XML_INACTIVE : 0, x);
}

/* The interface of a kind, by its hardware address or because it is the only one; a document, NULL said. */
static char *find_interface(struct call *c, virDomainPtr domain, unsigned flags)
{
    const char *type = opt_str(c, "type"), *mac = opt_str(c, "mac");
    struct xml x;
    if (!document_for(c, domain, flags, &x))
        return NULL;
    g_autoptr(GPtrArray) all = xml_nodes(&x, NULL, "/domain/devices/interface");
    g_autoptr(GPtrArray) fit = g_ptr_array_new(), kind = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *its_type = xml_text(&x, all->pdata[i], "./@type");
        g_autofree char *its_mac = xml_text(&x, all->pdata[i], "./mac/@address");
        if (g_strcmp0(its_type, type))
            continue;
        g_ptr_array_add(kind, all->pdata[i]);
        if (!mac || (its_mac && !g_ascii_strcasecmp(its_mac, mac)))
            g_ptr_array_add(fit, all->pdata[i]);
    }
    char *text = NULL;
    if (!kind->len)
        complain(c, "No interface found whose type is %s", type);
    else if (!mac && kind->len > 1)
        complain(c, "Domain has %zd interfaces. Please specify which one to detach using --mac", (ssize_t)kind->len);
    else if (!fit->len)
        complain(c, "No interface with MAC address %s was found", mac);
    else if (fit->len > 1)
        complain(c, "Domain has multiple interfaces matching MAC address %s. You must use detach-device and specify the device pci address to remove it.", mac);
    else
        text = xml_dump(&x, fit->pdata[0]);
    xml_close(&x);
    return text;
}

static bool detach_from(struct call *c, virDomainPtr domain, unsigned flags)
{
    g_autofree char *xml = find_interface(c, domain, flags);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    return detach(c, domain, xml, flags);
}

static bool cmd_detach_interface(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags;
    if (!domain || !device_flags(c, domain, &flags))
        return false;
    bool good;
    /* the two documents may differ, so each is asked on its own */
    if ((flags & VIR_DOMAIN_AFFECT_CONFIG) && (flags & VIR_DOMAIN_AFFECT_LIVE))
        good = detach_from(c, domain, VIR_DOMAIN_AFFECT_CONFIG) && detach_from(c, domain, VIR_DOMAIN_AFFECT_LIVE);
    else
        good = detach_from(c, domain, flags);
    if (!good)
        return complain(c, "Failed to detach interface");
    if (!opt_bool(c, "print-xml"))
        note(c, "Interface detached successfully\n");
    return true;
}

/* The disk with this target or source. `removable`: only drives with a medium. The node belongs to x. */
static xmlNodePtr find_disk(struct call *c, struct xml *x, const char *name, bool removable)
{
    g_autoptr(GPtrArray) all = xml_nodes(x, NULL, "/domain/devices/disk");
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *target = xml_text(x, all->pdata[i], "./target/@dev");
        g_autofree char *source = xml_text(x, all->pdata[i], "string(./source/@file|./source/@dev|./source/@dir|./source/@name)");
        g_autofree char *device = xml_text(x, all->pdata[i], "./@device");
        if (g_strcmp0(target, name) && (!*source || strcmp(source, name)))
            continue;
        if (removable && g_strcmp0(device, "cdrom") && g_strcmp0(device, "floppy"))
            continue;
        return all->pdata[i];
    }
    complain(c, "No disk found whose source path or target is %s", name);
    return NULL;
}

static bool cmd_detach_disk(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags;
    struct xml x;
    if (!domain || !device_flags(c, domain, &flags) || !document_for(c, domain, flags, &x))
        return false;
    xmlNodePtr disk = find_disk(c, &x, opt_str(c, "target"), false);
    g_autofree char *xml = disk ? xml_dump(&x, disk) : NULL;
    xml_close(&x);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    if (!detach(c, domain, xml, flags))
        return complain(c, "Failed to detach disk");
    note(c, "Disk detached successfully\n");
    return true;
}

/* The drive's document with another medium, or none. */
static char *media_document(struct call *c, struct xml *x, xmlNodePtr disk, const char *source)
{
    g_autoptr(GPtrArray) old = xml_nodes(x, disk, "./source");
    bool eject = opt_bool(c, "eject"), update = opt_bool(c, "update"), insert = opt_bool(c, "insert") || (!eject && !update);
    const char *path = opt_str(c, "path");
    if (!old->len && eject) {
        complain(c, "The disk device '%s' doesn't have media", path);
        return NULL;
    }
    if (old->len && insert && !update) {
        complain(c, "The disk device '%s' already has media", path);
        return NULL;
    }
    for (guint i = 0; i < old->len; i++) {
        xmlUnlinkNode(old->pdata[i]);
        xmlFreeNode(old->pdata[i]);
    }
    if (source) {
        bool block = opt_bool(c, "block");
        xmlNodePtr node = xmlNewChild(disk, NULL, (const xmlChar *)"source", NULL);
        xmlNewProp(node, (const xmlChar *)(block ? "dev" : "file"), (const xmlChar *)source);
        xmlSetProp(disk, (const xmlChar *)"type", (const xmlChar *)(block ? "block" : "file"));
    }
    return xml_dump(x, disk);
}

static bool cmd_change_media(struct call *c)
{
    const char *source = opt_str(c, "source");
    bool eject = opt_bool(c, "eject"), insert = opt_bool(c, "insert"), update = opt_bool(c, "update");
    unsigned flags;
    struct xml x;
    if (!opt_exclusive(c, "eject", "insert", "update", NULL) || !opt_exclusive(c, "eject", "block", NULL) || !opt_affect(c, &flags))
        return false;
    if (eject && source)
        return complain(c, "Options --eject and --source are mutually exclusive");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || !document_for(c, domain, flags, &x))
        return false;
    flags |= opt_flags(c, "force", VIR_DOMAIN_DEVICE_MODIFY_FORCE, NULL);
    xmlNodePtr disk = find_disk(c, &x, opt_str(c, "path"), true);
    if (disk && insert && !source) {
        complain(c, "No disk source specified for inserting");
        disk = NULL;
    }
    g_autofree char *xml = disk ? media_document(c, &x, disk, source) : NULL;
    xml_close(&x);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    const char *action = eject ? "eject" : update ? "update" : insert ? "insert" : "update";
    if (virDomainUpdateDeviceFlags(domain, xml, flags) < 0)
        return complain(c, "Failed to complete action %s on media", action);
    note(c, "Successfully %s media.", eject ? "ejected" : insert ? "inserted" : "updated");
    return true;
}

static bool cmd_setlink(struct call *c)
{
    const char *name = opt_str(c, "interface"), *state = opt_str(c, "state");
    struct xml x;
    if (strcmp(state, "up") && strcmp(state, "down"))
        return complain(c, "invalid link state '%s'", state);
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    bool config = opt_bool(c, "config");
    unsigned flags = config || virDomainIsActive(domain) != 1 ? VIR_DOMAIN_AFFECT_CONFIG : VIR_DOMAIN_AFFECT_LIVE;
    if (!domain_xml(c, domain, config ? VIR_DOMAIN_XML_INACTIVE : 0, &x))
        return false;
    g_autoptr(GPtrArray) all = strchr(name, '\'') ? g_ptr_array_new() : xml_nodes(&x, NULL, "/domain/devices/interface[mac/@address='%s' or target/@dev='%s']", name, name);
    g_autofree char *xml = NULL;
    if (all->len == 1) {
        g_autoptr(GPtrArray) link = xml_nodes(&x, all->pdata[0], "./link");
        xmlNodePtr node = link->len ? link->pdata[0] : xmlNewChild(all->pdata[0], NULL, (const xmlChar *)"link", NULL);
        xmlSetProp(node, (const xmlChar *)"state", (const xmlChar *)state);
        xml = xml_dump(&x, all->pdata[0]);
    } else {
        complain(c, all->len ? "multiple matching interfaces found" : "interface '%s' not found", name);
    }
    xml_close(&x);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    if (virDomainUpdateDeviceFlags(domain, xml, flags) < 0)
        return complain(c, "Failed to update interface link state");
    note(c, "Device updated successfully\n");
    return true;
}

static xmlNodePtr find_memory(struct call *c, struct xml *x, int node)
{
    const char *alias = opt_str(c, "alias");
    g_autoptr(GPtrArray) all = node >= 0 ? xml_nodes(x, NULL, "/domain/devices/memory[./target/node='%u']", node)
        : alias && !strchr(alias, '\'') ? xml_nodes(x, NULL, "/domain/devices/memory[./alias/@name='%s']", alias) : xml_nodes(x, NULL, "/domain/devices/memory");
    if (all->len == 1)
        return all->pdata[0];
    complain(c, all->len ? "multiple memory devices found, use --alias or --node to select one" : "no memory device found");
    return NULL;
}

static bool cmd_update_memory(struct call *c)
{
    unsigned flags;
    int node = -1;
    unsigned long long bytes;
    struct xml x;
    if (!opt_affect(c, &flags) || opt_int(c, "node", &node) < 0)
        return false;
    int sized = opt_size(c, "requested-size", &bytes, 1024);
    g_autoptr(virDomain) domain = sized >= 0 ? arg_domain(c) : NULL;
    if (!domain || !document_for(c, domain, flags, &x))
        return false;
    xmlNodePtr memory = find_memory(c, &x, node);
    if (memory && sized) {
        g_autoptr(GPtrArray) requested = xml_nodes(&x, memory, "./target/requested");
        g_autofree char *text = g_strdup_printf("%llu", bytes / 1024);
        if (requested->len) {
            xmlNodeSetContent(requested->pdata[0], (const xmlChar *)text);
            xmlSetProp(requested->pdata[0], (const xmlChar *)"unit", (const xmlChar *)"KiB");
        } else {
            complain(c, "virtio-mem device is missing <requested/>");
            memory = NULL;
        }
    }
    g_autofree char *xml = memory ? xml_dump(&x, memory) : NULL;
    xml_close(&x);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    return virDomainUpdateDeviceFlags(domain, xml, flags) == 0;
}

const struct command domain_device_commands[] = {
    {"attach-device", "domain", "domain! file! persistent config live current", cmd_attach_device, 0, "Attach a device from a document"},
    {"attach-disk", "domain",
        "domain! source! target! targetbus= driver= subdriver= iothread= cache= io= type= mode= sourcetype= serial= wwn= alias= "
        "rawio address= multifunction print-xml source-protocol= source-host-name= source-host-transport= source-host-socket= "
        "persistent config live current shareable>mode=shareable",
        cmd_attach_disk, 0, "Attach a disk from arguments"},
    {"attach-interface", "domain",
        "domain! type! source! target= mac= script= model= alias= inbound= outbound= persistent config live current print-xml "
        "managed source-mode=",
        cmd_attach_interface, 0, "Attach a network interface from arguments"},
    {"change-media", "domain",
        "domain! path! source= eject insert update current live config force print-xml block",
        cmd_change_media, 0, "Put a medium into a drive, or take it out"},
    {"detach-device", "domain", "domain! file! persistent config live current", cmd_detach_device, 0, "Detach the device that a document describes"},
    {"detach-device-alias", "domain", "domain! alias! config live current", cmd_detach_alias, 0, "Detach a device by its alias"},
    {"detach-disk", "domain", "domain! target! persistent config live current print-xml", cmd_detach_disk, 0, "Detach a disk"},
    {"detach-interface", "domain",
        "domain! type! mac= persistent config live current print-xml",
        cmd_detach_interface, 0, "Detach a network interface"},
    {"domif-setlink", "domain", "domain! interface! state! config print-xml", cmd_setlink, 0, "Plug the cable of an interface in or out"},
    {"update-device", "domain", "domain! file! persistent config live current force", cmd_update_device, 0, "Change a device by a document"},
    {"update-memory-device", "domain",
        "domain! config live current print-xml alias= node# requested-size#",
        cmd_update_memory, 0, "Change how much of a memory device the guest shall have"},
    {},
};
