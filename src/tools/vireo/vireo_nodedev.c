/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of the host. */
#include "vireo_commands.h"
#include "vireo_tree.h"

#include <stdlib.h>
#include <string.h>

static const char *const capabilities[] = {"system", "pci", "usb_device", "usb", "net", "scsi_host", "scsi_target", "scsi", "storage", "fc_host", "vports",
    "scsi_generic", "drm", "mdev_types", "mdev", "ccw", "css", "vdpa", "ap_card", "ap_queue", "ap_matrix", "vpd"};

static int by_name(const void *a, const void *b)
{
    return strcasecmp(virNodeDeviceGetName(*(virNodeDevicePtr *)a), virNodeDeviceGetName(*(virNodeDevicePtr *)b));
}

static bool capability_flags(struct call *c, unsigned *flags)
{
    g_auto(GStrv) words = g_strsplit(opt_str(c, "cap") ? opt_str(c, "cap") : "", ",", -1);
    for (char **w = words; *w; w++) {
        unsigned i = 0;
        while (i < G_N_ELEMENTS(capabilities) && strcmp(capabilities[i], *w))
            i++;
        if (i == G_N_ELEMENTS(capabilities))
            return complain(c, "Invalid capability type");
        *flags |= 1u << i;
    }
    return true;
}

static bool cmd_list(struct call *c)
{
    unsigned flags = 0;
    bool tree = opt_bool(c, "tree");
    if (!capability_flags(c, &flags))
        return false;
    if (tree && (opt_str(c, "cap") || opt_bool(c, "inactive")))
        return complain(c, "Options --%s and --%s are mutually exclusive", "tree", opt_str(c, "cap") ? "cap" : "inactive");
    bool inactive = opt_bool(c, "inactive") || opt_bool(c, "all"), active = !opt_bool(c, "inactive") || opt_bool(c, "all");
    virNodeDevicePtr *all = NULL;
    unsigned states = (inactive ? VIR_CONNECT_LIST_NODE_DEVICES_INACTIVE : 0) | (active ? VIR_CONNECT_LIST_NODE_DEVICES_ACTIVE : 0);
    int n = virConnectListAllNodeDevices(c->v->connection, &all, flags | states);
    if (n < 0 && active) /* drivers that know no inactive devices */
        n = virConnectListAllNodeDevices(c->v->connection, &all, flags);
    if (n < 0)
        return complain(c, "Failed to list node devices");
    qsort(all, n, sizeof *all, by_name);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(tree_node_free);
    for (int i = 0; tree && i < n; i++)
        g_ptr_array_add(nodes, tree_node(virNodeDeviceGetName(all[i]), virNodeDeviceGetParent(all[i])));
    tree_print(c, nodes);
    struct table *t = call_json(c) ? table_new(c, "Name", NULL) : NULL;
    for (int i = 0; i < n; i++) {
        if (t)
            table_row(t, virNodeDeviceGetName(all[i]), NULL);
        else if (!tree)
            say(c, "%s\n", virNodeDeviceGetName(all[i]));
        virNodeDeviceFree(all[i]);
    }
    free(all);
    return !t || table_print(t);
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    g_autofree char *text = device ? virNodeDeviceGetXMLDesc(device, 0) : NULL;
    return text && print_document(c, text);
}

static bool cmd_info(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    if (!device)
        return false;
    struct fields *f = fields_new(c, 15);
    const char *parent = virNodeDeviceGetParent(device);
    int autostart;
    field(f, "Name:", "%s", virNodeDeviceGetName(device));
    field(f, "Parent:", "%s", parent ? parent : "");
    field(f, "Active:", "%s", virNodeDeviceIsActive(device) ? "yes" : "no");
    field(f, "Persistent:", "%s", virNodeDeviceIsPersistent(device) ? "yes" : "no");
    if (virNodeDeviceGetAutostart(device, &autostart) < 0)
        field(f, "Autostart:", "%s", "no autostart");
    else
        field(f, "Autostart:", "%s", autostart ? "yes" : "no");
    return fields_print(f);
}

static bool cmd_create(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virNodeDevice) device = virNodeDeviceCreateXML(c->v->connection, text, opt_flags(c, "validate", 1u, NULL));
    if (!device)
        return complain(c, "Failed to create node device from %s", opt_str(c, "file"));
    note(c, "Node device %s created from %s\n", virNodeDeviceGetName(device), opt_str(c, "file"));
    return true;
}

static bool cmd_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virNodeDevice) device = virNodeDeviceDefineXML(c->v->connection, text, opt_flags(c, "validate", 1u, NULL));
    if (!device)
        return complain(c, "Failed to define node device from '%s'", opt_str(c, "file"));
    note(c, "Node device '%s' defined from '%s'\n", virNodeDeviceGetName(device), opt_str(c, "file"));
    return true;
}

static bool done(struct call *c, int result, const char *yes, const char *no)
{
    g_auto(GStrv) parts = g_strsplit(result < 0 ? no : yes, "%s", 2);
    g_autofree char *text = g_strjoinv(opt_str(c, "device"), parts);
    if (result < 0)
        return complain(c, "%s", text);
    note(c, "%s\n", text);
    return true;
}

static bool cmd_destroy(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    return device && done(c, virNodeDeviceDestroy(device), "Destroyed node device '%s'", "Failed to destroy node device '%s'");
}

static bool cmd_undefine(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    return device && done(c, virNodeDeviceUndefine(device, 0), "Undefined node device '%s'", "Failed to undefine node device '%s'");
}

static bool cmd_start(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    return device && done(c, virNodeDeviceCreate(device, 0), "Device %s started", "Failed to start device %s");
}

static bool cmd_reset(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    return device && done(c, virNodeDeviceReset(device), "Device %s reset", "Failed to reset device %s");
}

static bool cmd_reattach(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    return device && done(c, virNodeDeviceReAttach(device), "Device %s re-attached", "Failed to re-attach device %s");
}

static bool cmd_detach(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    if (!device)
        return false;
    const char *driver = opt_str(c, "driver");
    return done(c, driver ? virNodeDeviceDetachFlags(device, driver, 0) : virNodeDeviceDettach(device), "Device %s detached", "Failed to detach device %s");
}

static bool cmd_autostart(struct call *c)
{
    g_autoptr(virNodeDevice) device = arg_nodedev(c);
    bool off = opt_bool(c, "disable");
    return device && done(c, virNodeDeviceSetAutostart(device, !off), off ? "Device %s unmarked as autostarted" : "Device %s marked as autostarted",
        off ? "failed to unmark device %s as autostarted" : "failed to mark device %s as autostarted");
}

const struct command nodedev_commands[] = {
    {"nodedev-autostart", "nodedev", "device! disable", cmd_autostart, 0, "Start a host device with the host, or no longer"},
    {"nodedev-create", "nodedev", "file! validate", cmd_create, 0, "Make a host device from a document"},
    {"nodedev-define", "nodedev", "file! validate", cmd_define, 0, "Store a host device from a document"},
    {"nodedev-destroy", "nodedev", "device!", cmd_destroy, 0, "Remove a host device that was made"},
    {"nodedev-detach", "nodedev", "device! driver=", cmd_detach, 0, "Take a device from its driver so that a guest can have it"},
    {"nodedev-dettach", "nodedev", "device! driver=", cmd_detach, COMMAND_HIDDEN, "Old name of nodedev-detach"},
    {"nodedev-dumpxml", "nodedev", "device! xpath=@ wrap", cmd_dumpxml, 0, "Print the document of a host device"},
    {"nodedev-info", "nodedev", "device!", cmd_info, COMMAND_LIST, "Tell what a host device is and how it is"},
    {"nodedev-list", "nodedev", "tree cap= inactive all", cmd_list, COMMAND_LIST, "List the devices of the host"},
    {"nodedev-reattach", "nodedev", "device!", cmd_reattach, 0, "Give a device back to its driver"},
    {"nodedev-reset", "nodedev", "device!", cmd_reset, 0, "Reset a device of the host"},
    {"nodedev-start", "nodedev", "device!", cmd_start, 0, "Start a host device that has been defined"},
    {"nodedev-undefine", "nodedev", "device!", cmd_undefine, 0, "Forget the definition of a host device"},
    {},
};
