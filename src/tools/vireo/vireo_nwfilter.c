/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packet filters and what they are bound to. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcasecmp(virNWFilterGetName(*(virNWFilterPtr *)a), virNWFilterGetName(*(virNWFilterPtr *)b));
}

static int by_port(const void *a, const void *b)
{
    return strcasecmp(virNWFilterBindingGetPortDev(*(virNWFilterBindingPtr *)a), virNWFilterBindingGetPortDev(*(virNWFilterBindingPtr *)b));
}

static bool cmd_list(struct call *c)
{
    virNWFilterPtr *all = NULL;
    int n = virConnectListAllNWFilters(c->v->connection, &all, 0);
    if (n < 0)
        return complain(c, "Failed to list network filters");
    qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "UUID", "Name", NULL);
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        virNWFilterGetUUIDString(all[i], uuid);
        table_row(t, uuid, virNWFilterGetName(all[i]), NULL);
        virNWFilterFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static bool cmd_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virNWFilter) filter = opt_bool(c, "validate") ? virNWFilterDefineXMLFlags(c->v->connection, text, 1) : virNWFilterDefineXML(c->v->connection, text);
    if (!filter)
        return complain(c, "Failed to define network filter from %s", opt_str(c, "file"));
    note(c, "Network filter %s defined from %s\n", virNWFilterGetName(filter), opt_str(c, "file"));
    return true;
}

static bool cmd_undefine(struct call *c)
{
    g_autoptr(virNWFilter) filter = arg_nwfilter(c);
    if (!filter)
        return false;
    if (virNWFilterUndefine(filter) < 0)
        return complain(c, "Failed to undefine network filter %s", opt_str(c, "nwfilter"));
    note(c, "Network filter %s undefined\n", opt_str(c, "nwfilter"));
    return true;
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virNWFilter) filter = arg_nwfilter(c);
    g_autofree char *text = filter ? virNWFilterGetXMLDesc(filter, 0) : NULL;
    return text && print_document(c, text);
}

static bool store_filter(struct call *c, const char *text, void *opaque)
{
    virNWFilterPtr *slot = opaque, changed = virNWFilterDefineXML(c->v->connection, text);
    if (!changed)
        return false;
    virNWFilterFree(*slot);
    *slot = changed;
    return true;
}

static bool cmd_edit(struct call *c)
{
    g_autoptr(virNWFilter) filter = arg_nwfilter(c);
    g_autofree char *text = filter ? virNWFilterGetXMLDesc(filter, 0) : NULL;
    if (!text)
        return false;
    g_autofree char *nothing = g_strdup_printf("Network filter %s XML configuration not changed.\n", virNWFilterGetName(filter));
    virNWFilterPtr before = filter;
    if (!edit_document(c, text, store_filter, &filter, nothing))
        return false;
    if (filter != before)
        note(c, "Network filter %s XML configuration edited.\n", virNWFilterGetName(filter));
    return true;
}

static virNWFilterBindingPtr arg_binding(struct call *c)
{
    virNWFilterBindingPtr binding = virNWFilterBindingLookupByPortDev(c->v->connection, opt_str(c, "binding"));
    if (!binding)
        complain(c, "failed to get nwfilter binding '%s'", opt_str(c, "binding"));
    return binding;
}

static bool cmd_binding_list(struct call *c)
{
    virNWFilterBindingPtr *all = NULL;
    int n = virConnectListAllNWFilterBindings(c->v->connection, &all, 0);
    if (n < 0)
        return complain(c, "Failed to list network filter bindings");
    qsort(all, n, sizeof *all, by_port);
    struct table *t = table_new(c, "Port Dev", "Filter", NULL);
    for (int i = 0; i < n; i++) {
        table_row(t, virNWFilterBindingGetPortDev(all[i]), virNWFilterBindingGetFilterName(all[i]), NULL);
        virNWFilterBindingFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static bool cmd_binding_create(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virNWFilterBinding) binding = virNWFilterBindingCreateXML(c->v->connection, text, opt_flags(c, "validate", 1u, NULL));
    if (!binding)
        return complain(c, "Failed to create network filter from %s", opt_str(c, "file"));
    note(c, "Network filter binding on %s created from %s\n", virNWFilterBindingGetPortDev(binding), opt_str(c, "file"));
    return true;
}

static bool cmd_binding_delete(struct call *c)
{
    g_autoptr(virNWFilterBinding) binding = arg_binding(c);
    if (!binding)
        return false;
    if (virNWFilterBindingDelete(binding) < 0)
        return complain(c, "Failed to delete network filter binding on %s", opt_str(c, "binding"));
    note(c, "Network filter binding on %s deleted\n", opt_str(c, "binding"));
    return true;
}

static bool cmd_binding_dumpxml(struct call *c)
{
    g_autoptr(virNWFilterBinding) binding = arg_binding(c);
    g_autofree char *text = binding ? virNWFilterBindingGetXMLDesc(binding, 0) : NULL;
    return text && print_document(c, text);
}

const struct command nwfilter_commands[] = {
    {"nwfilter-binding-create", "filter", "file! validate", cmd_binding_create, 0, "Bind a filter to a port, from a document"},
    {"nwfilter-binding-delete", "filter", "binding!", cmd_binding_delete, 0, "Take a filter off a port"},
    {"nwfilter-binding-dumpxml", "filter", "binding! xpath=@ wrap", cmd_binding_dumpxml, 0, "Print the document of a binding"},
    {"nwfilter-binding-list", "filter", "", cmd_binding_list, COMMAND_LIST, "List which filter is bound to which port"},
    {"nwfilter-define", "filter", "file! validate", cmd_define, 0, "Store a filter from a document"},
    {"nwfilter-dumpxml", "filter", "nwfilter! xpath=@ wrap", cmd_dumpxml, 0, "Print the document of a filter"},
    {"nwfilter-edit", "filter", "nwfilter!", cmd_edit, 0, "Change the document of a filter in an editor"},
    {"nwfilter-list", "filter", "", cmd_list, COMMAND_LIST, "List packet filters"},
    {"nwfilter-undefine", "filter", "nwfilter!", cmd_undefine, 0, "Forget a filter"},
    {},
};
