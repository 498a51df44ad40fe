/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network interfaces of the host. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    virInterfacePtr x = *(virInterfacePtr *)a, y = *(virInterfacePtr *)b;
    bool on = virInterfaceIsActive(x) == 1, other = virInterfaceIsActive(y) == 1;
    if (on != other)
        return on ? -1 : 1;
    return strcasecmp(virInterfaceGetName(x), virInterfaceGetName(y));
}

static bool cmd_list(struct call *c)
{
    unsigned flags = opt_flags(c, "inactive", VIR_CONNECT_LIST_INTERFACES_INACTIVE, "all",
        VIR_CONNECT_LIST_INTERFACES_INACTIVE | VIR_CONNECT_LIST_INTERFACES_ACTIVE, NULL);
    if (!flags)
        flags = VIR_CONNECT_LIST_INTERFACES_ACTIVE;
    virInterfacePtr *all = NULL;
    int n = virConnectListAllInterfaces(c->v->connection, &all, flags);
    if (n < 0)
        return complain(c, "Failed to list interfaces");
    qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "Name", "State", "MAC Address", NULL);
    for (int i = 0; i < n; i++) {
        const char *mac = virInterfaceGetMACString(all[i]);
        table_row(t, virInterfaceGetName(all[i]), virInterfaceIsActive(all[i]) == 1 ? "active" : "inactive", mac ? mac : "", NULL);
        virInterfaceFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static bool cmd_name(struct call *c)
{
    g_autoptr(virInterface) interface = virInterfaceLookupByMACString(c->v->connection, opt_str(c, "interface"));
    if (!interface)
        return complain(c, "failed to get interface '%s'", opt_str(c, "interface"));
    return say_value(c, "name", "%s", virInterfaceGetName(interface));
}

static bool cmd_mac(struct call *c)
{
    g_autoptr(virInterface) interface = virInterfaceLookupByName(c->v->connection, opt_str(c, "interface"));
    if (!interface)
        return complain(c, "failed to get interface '%s'", opt_str(c, "interface"));
    return say_value(c, "mac", "%s", virInterfaceGetMACString(interface));
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virInterface) interface = arg_interface(c, "interface");
    g_autofree char *text = interface ? virInterfaceGetXMLDesc(interface, opt_flags(c, "inactive", VIR_INTERFACE_XML_INACTIVE, NULL)) : NULL;
    return text && print_document(c, text);
}

static bool cmd_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virInterface) interface = virInterfaceDefineXML(c->v->connection, text, opt_flags(c, "validate", 1u, NULL));
    if (!interface)
        return complain(c, "Failed to define interface from %s", opt_str(c, "file"));
    note(c, "Interface %s defined from %s\n", virInterfaceGetName(interface), opt_str(c, "file"));
    return true;
}

static bool store_interface(struct call *c, const char *text, void *opaque)
{
    virInterfacePtr *slot = opaque, changed = virInterfaceDefineXML(c->v->connection, text, 0);
    if (!changed)
        return false;
    virInterfaceFree(*slot);
    *slot = changed;
    return true;
}

static bool cmd_edit(struct call *c)
{
    g_autoptr(virInterface) interface = arg_interface(c, "interface");
    g_autofree char *text = interface ? virInterfaceGetXMLDesc(interface, VIR_INTERFACE_XML_INACTIVE) : NULL;
    if (!text)
        return false;
    g_autofree char *nothing = g_strdup_printf("Interface %s XML configuration not changed.\n", virInterfaceGetName(interface));
    virInterfacePtr before = interface;
    if (!edit_document(c, text, store_interface, &interface, nothing))
        return false;
    if (interface != before)
        note(c, "Interface %s XML configuration edited.\n", virInterfaceGetName(interface));
    return true;
}

static bool done(struct call *c, int result, const char *yes, const char *no)
{
    g_auto(GStrv) parts = g_strsplit(result < 0 ? no : yes, "%s", 2);
    g_autofree char *text = g_strjoinv(opt_str(c, "interface"), parts);
    if (result < 0)
        return complain(c, "%s", text);
    note(c, "%s\n", text);
    return true;
}

static bool cmd_start(struct call *c)
{
    g_autoptr(virInterface) interface = arg_interface(c, "interface");
    return interface && done(c, virInterfaceCreate(interface, 0), "Interface %s started", "Failed to start interface %s");
}

static bool cmd_destroy(struct call *c)
{
    g_autoptr(virInterface) interface = arg_interface(c, "interface");
    return interface && done(c, virInterfaceDestroy(interface, 0), "Interface %s destroyed", "Failed to destroy interface %s");
}

static bool cmd_undefine(struct call *c)
{
    g_autoptr(virInterface) interface = arg_interface(c, "interface");
    return interface && done(c, virInterfaceUndefine(interface), "Interface %s undefined", "Failed to undefine interface %s");
}

static bool cmd_begin(struct call *c)
{
    if (virInterfaceChangeBegin(c->v->connection, 0) < 0)
        return complain(c, "Failed to begin network config change transaction");
    note(c, "Network config change transaction started\n");
    return true;
}

static bool cmd_commit(struct call *c)
{
    if (virInterfaceChangeCommit(c->v->connection, 0) < 0)
        return complain(c, "Failed to commit network config change transaction");
    note(c, "Network config change transaction committed\n");
    return true;
}

static bool cmd_rollback(struct call *c)
{
    if (virInterfaceChangeRollback(c->v->connection, 0) < 0)
        return complain(c, "Failed to rollback network config change transaction");
    note(c, "Network config change transaction rolled back\n");
    return true;
}

/* A bridge's document: the device's, with its addresses and start mode moved up to the bridge around it. */
static char *bridge_document(struct call *c, struct xml *x, const char *bridge, bool stp, unsigned delay)
{
    xmlNodePtr device = xmlDocGetRootElement(x->doc);
    g_autofree char *type = xml_text(x, NULL, "/interface/@type");
    g_autofree char *name = xml_text(x, NULL, "/interface/@name");
    if (!type || !name) {
        complain(c, "Existing device %s has no type", opt_str(c, "interface"));
        return NULL;
    }
    g_autoptr(GString) s = g_string_new(NULL), inner = g_string_new(NULL);
    g_autofree char *head = g_markup_printf_escaped("<interface type='bridge' name='%s'>\n", bridge);
    g_string_append(s, head);
    for (xmlNodePtr n = device->children; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        g_autofree char *text = xml_dump(x, n);
        bool up = !xmlStrcmp(n->name, (const xmlChar *)"start") || !xmlStrcmp(n->name, (const xmlChar *)"mtu") || !xmlStrcmp(n->name, (const xmlChar *)"protocol");
        g_string_append_printf(up ? s : inner, "%s\n", text);
    }
    g_string_append_printf(s, "<bridge stp='%s'", stp ? "on" : "off");
    if (stp)
        g_string_append_printf(s, " delay='%u'", delay);
    g_autofree char *port = g_markup_printf_escaped(">\n<interface type='%s' name='%s'>\n", type, name);
    g_string_append_printf(s, "%s%s</interface>\n</bridge>\n</interface>\n", port, inner->str);
    return g_strdup(s->str);
}

static bool cmd_bridge(struct call *c)
{
    const char *name = opt_str(c, "interface"), *bridge = opt_str(c, "bridge");
    unsigned delay = 0;
    struct xml x;
    if (opt_uint(c, "delay", &delay) < 0)
        return false;
    virInterfacePtr other = virInterfaceLookupByName(c->v->connection, bridge);
    if (other) {
        virInterfaceFree(other);
        return complain(c, "Network device %s already exists", bridge);
    }
    forget_library_error(c->v);
    g_autoptr(virInterface) interface = arg_interface(c, "interface");
    g_autofree char *text = interface ? virInterfaceGetXMLDesc(interface, VIR_INTERFACE_XML_INACTIVE) : NULL;
    if (!text)
        return false;
    if (!xml_open(&x, text))
        return complain(c, "Failed to parse configuration of %s", name);
    g_autofree char *type = xml_text(&x, NULL, "/interface/@type");
    bool nested = !g_strcmp0(type, "bridge");
    g_autofree char *whole = nested ? NULL : bridge_document(c, &x, bridge, !opt_bool(c, "no-stp"), delay);
    xml_close(&x);
    if (!whole)
        return nested && complain(c, "Existing device %s is already a bridge", name);
    g_autoptr(virInterface) made = virInterfaceDefineXML(c->v->connection, whole, 0);
    if (!made)
        return complain(c, "Failed to define new bridge interface %s", bridge);
    note(c, "Created bridge %s with attached device %s\n", bridge, name);
    if (opt_bool(c, "no-start"))
        return true;
    if (virInterfaceCreate(made, 0) < 0)
        return complain(c, "Failed to start bridge interface %s", bridge);
    note(c, "Bridge interface %s started\n", bridge);
    return true;
}

/* The document of a bridge's only port, with what the bridge had taken over. */
static char *port_document(struct call *c, struct xml *x, const char *bridge)
{
    g_autoptr(GPtrArray) ports = xml_nodes(x, NULL, "/interface[@type='bridge']/bridge/interface");
    if (ports->len != 1) {
        complain(c, ports->len ? "Multiple interfaces attached to bridge" : "No interface attached to bridge %s", bridge);
        return NULL;
    }
    g_autoptr(GPtrArray) moved = xml_nodes(x, NULL, "/interface/start|/interface/mtu|/interface/protocol");
    for (guint i = 0; i < moved->len; i++) {
        xmlUnlinkNode(moved->pdata[i]);
        xmlAddChild(ports->pdata[0], moved->pdata[i]);
    }
    return xml_dump(x, ports->pdata[0]);
}

static bool cmd_unbridge(struct call *c)
{
    const char *bridge = opt_str(c, "bridge");
    struct xml x;
    g_autoptr(virInterface) interface = arg_interface(c, "bridge");
    g_autofree char *text = interface ? virInterfaceGetXMLDesc(interface, VIR_INTERFACE_XML_INACTIVE) : NULL;
    if (!text)
        return false;
    if (!xml_open(&x, text))
        return complain(c, "Failed to parse configuration of %s", bridge);
    g_autofree char *type = xml_text(&x, NULL, "/interface/@type");
    bool is_bridge = !g_strcmp0(type, "bridge") || complain(c, "Device %s is not a bridge", bridge);
    g_autofree char *port = is_bridge ? port_document(c, &x, bridge) : NULL;
    xml_close(&x);
    if (!port)
        return false;
    if (virInterfaceIsActive(interface) == 1 && virInterfaceDestroy(interface, 0) < 0)
        return complain(c, "Failed to destroy bridge interface %s", bridge);
    if (virInterfaceUndefine(interface) < 0)
        return complain(c, "Failed to undefine bridge interface %s", bridge);
    g_autoptr(virInterface) alone = virInterfaceDefineXML(c->v->connection, port, 0);
    if (!alone)
        return complain(c, "Failed to define new interface %s", bridge);
    note(c, "Device %s un-attached from bridge %s\n", virInterfaceGetName(alone), bridge);
    if (opt_bool(c, "no-start"))
        return true;
    if (virInterfaceCreate(alone, 0) < 0)
        return complain(c, "Failed to start interface %s", virInterfaceGetName(alone));
    note(c, "Interface %s started\n", virInterfaceGetName(alone));
    return true;
}

const struct command interface_commands[] = {
    {"iface-begin", "interface", "", cmd_begin, 0, "Remember how the interfaces are configured, to be able to go back"},
    {"iface-bridge", "interface", "interface! bridge! no-stp delay# no-start", cmd_bridge, 0, "Put an interface under a new bridge"},
    {"iface-commit", "interface", "", cmd_commit, 0, "Keep the changes made since iface-begin"},
    {"iface-define", "interface", "file! validate", cmd_define, 0, "Store an interface from a document"},
    {"iface-destroy", "interface", "interface!", cmd_destroy, 0, "Take an interface down"},
    {"iface-dumpxml", "interface", "interface! inactive xpath=@ wrap", cmd_dumpxml, 0, "Print the document of an interface"},
    {"iface-edit", "interface", "interface!", cmd_edit, 0, "Change the document of an interface in an editor"},
    {"iface-list", "interface", "inactive all", cmd_list, COMMAND_LIST, "List the host's interfaces"},
    {"iface-mac", "interface", "interface!", cmd_mac, COMMAND_LIST, "Print the hardware address of an interface"},
    {"iface-name", "interface", "interface!", cmd_name, COMMAND_LIST, "Print the interface that has a hardware address"},
    {"iface-rollback", "interface", "", cmd_rollback, 0, "Go back to how the interfaces were at iface-begin"},
    {"iface-start", "interface", "interface!", cmd_start, 0, "Bring an interface up"},
    {"iface-unbridge", "interface", "bridge! no-start", cmd_unbridge, 0, "Take an interface out of its bridge and remove the bridge"},
    {"iface-undefine", "interface", "interface!", cmd_undefine, 0, "Forget the configuration of an interface"},
    {},
};
