/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtual networks, their leases and ports. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>

static bool done(struct call *c, bool good, const char *name, const char *yes, const char *no)
{
    g_auto(GStrv) parts = g_strsplit(good ? yes : no, "%s", 2);
    g_autofree char *text = g_strjoinv(name, parts);
    if (!good)
        return complain(c, "%s", text);
    note(c, "%s\n", text);
    return true;
}

static int by_name(const void *a, const void *b)
{
    virNetworkPtr x = *(virNetworkPtr *)a, y = *(virNetworkPtr *)b;
    bool on = virNetworkIsActive(x) == 1, other = virNetworkIsActive(y) == 1;
    if (on != other)
        return on ? -1 : 1;
    return strcasecmp(virNetworkGetName(x), virNetworkGetName(y));
}

static void net_row(struct table *t, virNetworkPtr network)
{
    int autostart;
    const char *starts = virNetworkGetAutostart(network, &autostart) < 0 ? "no autostart" : autostart ? "yes" : "no";
    table_row(t, virNetworkGetName(network), virNetworkIsActive(network) == 1 ? "active" : "inactive", starts,
        virNetworkIsPersistent(network) ? "yes" : "no", NULL);
}

static bool cmd_net_list(struct call *c)
{
    unsigned flags = opt_flags(c, "all", VIR_CONNECT_LIST_NETWORKS_ACTIVE | VIR_CONNECT_LIST_NETWORKS_INACTIVE, "inactive", VIR_CONNECT_LIST_NETWORKS_INACTIVE,
        "persistent", VIR_CONNECT_LIST_NETWORKS_PERSISTENT, "transient", VIR_CONNECT_LIST_NETWORKS_TRANSIENT,
        "autostart", VIR_CONNECT_LIST_NETWORKS_AUTOSTART, "no-autostart", VIR_CONNECT_LIST_NETWORKS_NO_AUTOSTART, NULL);
    if (!opt_bool(c, "inactive") && !opt_bool(c, "all"))
        flags |= VIR_CONNECT_LIST_NETWORKS_ACTIVE;
    if (!opt_exclusive(c, "table", "name", "uuid", NULL))
        return false;
    virNetworkPtr *all = NULL;
    int n = virConnectListAllNetworks(c->v->connection, &all, flags);
    if (n < 0)
        return complain(c, "Failed to list networks");
    qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "Name", "State", "Autostart", "Persistent", NULL);
    bool plain = !call_json(c) && (opt_bool(c, "name") || opt_bool(c, "uuid"));
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        if (plain && opt_bool(c, "uuid") && virNetworkGetUUIDString(all[i], uuid) == 0)
            say(c, "%s\n", uuid);
        else if (plain)
            say(c, "%s\n", virNetworkGetName(all[i]));
        else
            net_row(t, all[i]);
        virNetworkFree(all[i]);
    }
    free(all);
    return plain ? table_drop(t) : table_print(t);
}

static bool cmd_net_info(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    if (!network)
        return false;
    struct fields *f = fields_new(c, 15);
    char uuid[VIR_UUID_STRING_BUFLEN];
    int active = virNetworkIsActive(network), persistent = virNetworkIsPersistent(network), autostart = 0;
    field(f, "Name:", "%s", virNetworkGetName(network));
    if (virNetworkGetUUIDString(network, uuid) == 0)
        field(f, "UUID:", "%s", uuid);
    if (active >= 0)
        field(f, "Active:", "%s", active ? "yes" : "no");
    field(f, "Persistent:", "%s", persistent < 0 ? "unknown" : persistent ? "yes" : "no");
    if (virNetworkGetAutostart(network, &autostart) < 0)
        field(f, "Autostart:", "%s", "no autostart");
    else
        field(f, "Autostart:", "%s", autostart ? "yes" : "no");
    g_autofree char *bridge = virNetworkGetBridgeName(network);
    if (bridge)
        field(f, "Bridge:", "%s", bridge);
    return fields_print(f);
}

static bool cmd_net_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virNetwork) network = opt_bool(c, "validate") ? virNetworkDefineXMLFlags(c->v->connection, text, VIR_NETWORK_DEFINE_VALIDATE)
                                                            : virNetworkDefineXML(c->v->connection, text);
    if (!network)
        return complain(c, "Failed to define network from %s", opt_str(c, "file"));
    note(c, "Network %s defined from %s\n", virNetworkGetName(network), opt_str(c, "file"));
    return true;
}

static bool cmd_net_create(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virNetwork) network = opt_bool(c, "validate") ? virNetworkCreateXMLFlags(c->v->connection, text, VIR_NETWORK_CREATE_VALIDATE)
                                                            : virNetworkCreateXML(c->v->connection, text);
    if (!network)
        return complain(c, "Failed to create network from %s", opt_str(c, "file"));
    note(c, "Network %s created from %s\n", virNetworkGetName(network), opt_str(c, "file"));
    return true;
}

static bool cmd_net_start(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    return network && done(c, virNetworkCreate(network) == 0, virNetworkGetName(network), "Network %s started", "Failed to start network %s");
}

static bool cmd_net_destroy(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    return network && done(c, virNetworkDestroy(network) == 0, opt_str(c, "network"), "Network %s destroyed", "Failed to destroy network %s");
}

static bool cmd_net_undefine(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    return network && done(c, virNetworkUndefine(network) == 0, opt_str(c, "network"), "Network %s has been undefined", "Failed to undefine network %s");
}

static bool cmd_net_autostart(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    if (!network)
        return false;
    const char *name = opt_str(c, "network");
    if (opt_bool(c, "disable"))
        return done(c, virNetworkSetAutostart(network, 0) == 0, name, "Network %s unmarked as autostarted", "failed to unmark network %s as autostarted");
    return done(c, virNetworkSetAutostart(network, 1) == 0, name, "Network %s marked as autostarted", "failed to mark network %s as autostarted");
}

static bool cmd_net_name(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    return network && say_value(c, "name", "%s", virNetworkGetName(network));
}

static bool cmd_net_uuid(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (!network)
        return false;
    if (virNetworkGetUUIDString(network, uuid) < 0)
        return complain(c, "failed to get network UUID");
    return say_value(c, "uuid", "%s", uuid);
}

static bool cmd_net_dumpxml(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    g_autofree char *text = network ? virNetworkGetXMLDesc(network, opt_flags(c, "inactive", VIR_NETWORK_XML_INACTIVE, NULL)) : NULL;
    return text && print_document(c, text);
}

static bool store_network(struct call *c, const char *text, void *opaque)
{
    virNetworkPtr *slot = opaque, changed = virNetworkDefineXML(c->v->connection, text);
    if (!changed)
        return false;
    virNetworkFree(*slot);
    *slot = changed;
    return true;
}

static bool cmd_net_edit(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    if (!network)
        return false;
    g_autofree char *text = virNetworkGetXMLDesc(network, VIR_NETWORK_XML_INACTIVE);
    if (!text && c->v->last_error && c->v->last_error->code == VIR_ERR_INVALID_ARG)
        text = virNetworkGetXMLDesc(network, 0); /* a driver that knows only one document */
    if (!text)
        return false;
    forget_library_error(c->v);
    g_autofree char *nothing = g_strdup_printf("Network %s XML configuration not changed.\n", virNetworkGetName(network));
    virNetworkPtr before = network;
    if (!edit_document(c, text, store_network, &network, nothing))
        return false;
    if (network != before)
        note(c, "Network %s XML configuration edited.\n", virNetworkGetName(network));
    return true;
}

static int index_of(const char *const *names, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (names[i] && !strcmp(names[i], name))
            return i;
    return -1;
}

static bool cmd_net_update(struct call *c)
{
    static const char *const commands[] = {NULL, "modify", "delete", "add-last", "add-first"};
    static const char *const sections[] = {NULL, "bridge", "domain", "ip", "ip-dhcp-host", "ip-dhcp-range", "forward", "forward-interface",
        "forward-pf", "portgroup", "dns-host", "dns-txt", "dns-srv"};
    const char *word = opt_str(c, "command"), *place = opt_str(c, "section"), *xml = opt_str(c, "xml");
    g_autoptr(virNetwork) network = arg_network(c);
    if (!network || !opt_exclusive(c, "current", "live", NULL) || !opt_exclusive(c, "current", "config", NULL))
        return false;
    int command = !strcmp(word, "add") ? VIR_NETWORK_UPDATE_COMMAND_ADD_LAST : index_of(commands, G_N_ELEMENTS(commands), word);
    int section = index_of(sections, G_N_ELEMENTS(sections), place), parent = -1;
    if (command <= 0)
        return complain(c, "unrecognized command name '%s'", word);
    if (section <= 0)
        return complain(c, "unrecognized section name '%s'", place);
    if (opt_int(c, "parent-index", &parent) < 0)
        return complain(c, "malformed parent-index argument");
    g_autofree char *file = *xml == '<' ? NULL : opt_file(c, "xml");
    if (*xml != '<' && !file)
        return false;
    unsigned flags = opt_flags(c, "live", VIR_NETWORK_UPDATE_AFFECT_LIVE, "config", VIR_NETWORK_UPDATE_AFFECT_CONFIG, NULL);
    if (virNetworkUpdate(network, command, section, parent, file ? file : xml, flags) < 0)
        return complain(c, "Failed to update network %s", virNetworkGetName(network));
    const char *what = (flags & VIR_NETWORK_UPDATE_AFFECT_CONFIG) ? (flags & VIR_NETWORK_UPDATE_AFFECT_LIVE ? "persistent config and live state" : "persistent config")
        : (flags & VIR_NETWORK_UPDATE_AFFECT_LIVE) || virNetworkIsActive(network) == 1 ? "live state" : "persistent config";
    say(c, "Updated network %s %s", virNetworkGetName(network), what);
    return true;
}

static int by_mac(const void *a, const void *b)
{
    const virNetworkDHCPLeasePtr x = *(virNetworkDHCPLeasePtr *)a, y = *(virNetworkDHCPLeasePtr *)b;
    return g_strcmp0(x->mac, y->mac);
}

static bool cmd_leases(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    virNetworkDHCPLeasePtr *all = NULL;
    if (!network)
        return false;
    int n = virNetworkGetDHCPLeases(network, opt_str(c, "mac"), &all, 0);
    if (n < 0)
        return complain(c, "Failed to get leases info for %s", virNetworkGetName(network));
    qsort(all, n, sizeof *all, by_mac);
    struct table *t = table_new(c, "Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID", NULL);
    for (int i = 0; i < n; i++) {
        virNetworkDHCPLeasePtr l = all[i];
        g_autoptr(GDateTime) when = g_date_time_new_from_unix_local(l->expirytime);
        g_autofree char *expiry = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
        g_autofree char *address = g_strdup_printf("%s/%d", l->ipaddr, l->prefix);
        const char *kind = l->type == VIR_IP_ADDR_TYPE_IPV4 ? "ipv4" : l->type == VIR_IP_ADDR_TYPE_IPV6 ? "ipv6" : "";
        table_row(t, expiry, l->mac ? l->mac : "-", kind, address, l->hostname ? l->hostname : "-", l->clientid ? l->clientid : "-", NULL);
        virNetworkDHCPLeaseFree(l);
    }
    free(all);
    return table_print(t);
}

static virNetworkPortPtr arg_port(struct call *c, virNetworkPtr network)
{
    virNetworkPortPtr port = virNetworkPortLookupByUUIDString(network, opt_str(c, "port"));
    if (!port)
        complain(c, "failed to get network port '%s'", opt_str(c, "port"));
    return port;
}

static bool cmd_port_list(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    virNetworkPortPtr *all = NULL;
    if (!network)
        return false;
    int n = virNetworkListAllPorts(network, &all, 0);
    if (n < 0)
        return false;
    struct table *t = table_new(c, "UUID", NULL);
    bool plain = !call_json(c) && opt_bool(c, "uuid");
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        virNetworkPortGetUUIDString(all[i], uuid);
        if (plain)
            say(c, "%s\n", uuid);
        else
            table_row(t, uuid, NULL);
        virNetworkPortFree(all[i]);
    }
    free(all);
    return plain ? table_drop(t) : table_print(t);
}

static bool cmd_port_create(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    g_autoptr(virNetwork) network = text ? arg_network(c) : NULL;
    if (!network)
        return false;
    g_autoptr(virNetworkPort) port = virNetworkPortCreateXML(network, text, opt_flags(c, "validate", VIR_NETWORK_PORT_CREATE_VALIDATE, NULL));
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (!port || virNetworkPortGetUUIDString(port, uuid) < 0)
        return complain(c, "Failed to create network from %s", opt_str(c, "file"));
    note(c, "Network port %s created from %s\n", uuid, opt_str(c, "file"));
    return true;
}

static bool cmd_port_dumpxml(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    g_autoptr(virNetworkPort) port = network ? arg_port(c, network) : NULL;
    g_autofree char *text = port ? virNetworkPortGetXMLDesc(port, 0) : NULL;
    return text && print_document(c, text);
}

static bool cmd_port_delete(struct call *c)
{
    g_autoptr(virNetwork) network = arg_network(c);
    g_autoptr(virNetworkPort) port = network ? arg_port(c, network) : NULL;
    return port && done(c, virNetworkPortDelete(port, 0) == 0, opt_str(c, "port"), "Network port %s deleted", "Failed to delete network port %s");
}

const struct command network_commands[] = {
    {"net-autostart", "network", "network! disable", cmd_net_autostart, 0, "Start a network with the host, or no longer"},
    {"net-create", "network", "file! validate", cmd_net_create, 0, "Start a network that lives as long as it is up, from a document"},
    {"net-define", "network", "file! validate", cmd_net_define, 0, "Store a network from a document"},
    {"net-destroy", "network", "network!", cmd_net_destroy, 0, "Stop a network"},
    {"net-dhcp-leases", "network", "network! mac=", cmd_leases, COMMAND_LIST, "List the addresses that a network has handed out"},
    {"net-dumpxml", "network", "network! inactive xpath=@ wrap", cmd_net_dumpxml, 0, "Print the document of a network"},
    {"net-edit", "network", "network!", cmd_net_edit, 0, "Change the document of a network in an editor"},
    {"net-info", "network", "network!", cmd_net_info, COMMAND_LIST, "Tell what a network is and how it is"},
    {"net-list", "network", "inactive all persistent transient autostart no-autostart uuid name table", cmd_net_list, COMMAND_LIST, "List networks"},
    {"net-name", "network", "network!", cmd_net_name, COMMAND_LIST, "Print the name of a network"},
    {"net-port-create", "network", "network! file! validate", cmd_port_create, 0, "Make a port of a network from a document"},
    {"net-port-delete", "network", "network! port!", cmd_port_delete, 0, "Remove a port of a network"},
    {"net-port-dumpxml", "network", "network! port! xpath=@ wrap", cmd_port_dumpxml, 0, "Print the document of a port"},
    {"net-port-list", "network", "network! uuid table", cmd_port_list, COMMAND_LIST, "List the ports of a network"},
    {"net-start", "network", "network!", cmd_net_start, 0, "Start a network that has been defined"},
    {"net-undefine", "network", "network!", cmd_net_undefine, 0, "Forget the definition of a network"},
    {"net-update", "network",
        "network! command! section! xml! parent-index# config live current",
        cmd_net_update, 0, "Change one part of a network, also while it is up"},
    {"net-uuid", "network", "network!", cmd_net_uuid, COMMAND_LIST, "Print the UUID of a network"},
    {},
};
