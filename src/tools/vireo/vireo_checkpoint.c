/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checkpoints of domains: points in time that backups count from. */
#include "vireo_commands.h"
#include "vireo_domain.h"
#include "vireo_tree.h"

#include <stdlib.h>
#include <string.h>

static virDomainCheckpointPtr arg_checkpoint(struct call *c, virDomainPtr domain)
{
    const char *name = opt_str(c, "checkpointname");
    if (!name) {
        complain(c, "--%s is required", "checkpointname");
        return NULL;
    }
    return virDomainCheckpointLookupByName(domain, name, 0);
}

static bool create(struct call *c, virDomainPtr domain, const char *xml, const char *from)
{
    unsigned flags = opt_flags(c, "redefine", VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE, "redefine-validate", VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE,
        "quiesce", VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE, NULL);
    g_autoptr(virDomainCheckpoint) checkpoint = virDomainCheckpointCreateXML(domain, xml, flags);
    if (!checkpoint)
        return false;
    if (from)
        note(c, "Domain checkpoint %s created from '%s'", virDomainCheckpointGetName(checkpoint), from);
    else
        note(c, "Domain checkpoint %s created", virDomainCheckpointGetName(checkpoint));
    return true;
}

static bool cmd_create(struct call *c)
{
    const char *file = opt_str(c, "xmlfile");
    g_autofree char *xml = file ? opt_file(c, "xmlfile") : g_strdup("<domaincheckpoint/>");
    g_autoptr(virDomain) domain = xml ? arg_domain(c) : NULL;
    return domain && create(c, domain, xml, file);
}

static bool diskspec(struct call *c, GString *s, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    const char *checkpoint = NULL, *bitmap = NULL;
    for (char **p = parts + 1; *parts && *p; p++) {
        if (g_str_has_prefix(*p, "checkpoint="))
            checkpoint = *p + 11;
        else if (g_str_has_prefix(*p, "bitmap="))
            bitmap = *p + 7;
        else
            return complain(c, "unable to parse diskspec: %s", text);
    }
    g_autofree char *a = g_markup_printf_escaped("    <disk name='%s'", parts[0]);
    g_autofree char *b = checkpoint ? g_markup_printf_escaped(" checkpoint='%s'", checkpoint) : g_strdup("");
    g_autofree char *d = bitmap ? g_markup_printf_escaped(" bitmap='%s'", bitmap) : g_strdup("");
    g_string_append_printf(s, "%s%s%s/>\n", a, b, d);
    return true;
}

static bool cmd_create_as(struct call *c)
{
    char **disks = opt_list(c, "diskspec");
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(GString) s = g_string_new("<domaincheckpoint>\n");
    if (!domain)
        return false;
    g_autofree char *name = opt_str(c, "name") ? g_markup_printf_escaped("  <name>%s</name>\n", opt_str(c, "name")) : g_strdup("");
    g_autofree char *text = opt_str(c, "description") ? g_markup_printf_escaped("  <description>%s</description>\n", opt_str(c, "description")) : g_strdup("");
    g_string_append_printf(s, "%s%s%s", name, text, disks ? "  <disks>\n" : "");
    for (char **d = disks; d && *d; d++)
        if (!diskspec(c, s, *d))
            return false;
    g_string_append_printf(s, "%s</domaincheckpoint>\n", disks ? "  </disks>\n" : "");
    if (opt_bool(c, "print-xml")) {
        say(c, "%s\n", s->str);
        return true;
    }
    return create(c, domain, s->str, NULL);
}

static bool cmd_delete(struct call *c)
{
    unsigned flags = opt_flags(c, "children", VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN, "children-only", VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY,
        "metadata", VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY, NULL);
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainCheckpoint) checkpoint = domain ? arg_checkpoint(c, domain) : NULL;
    if (!checkpoint)
        return false;
    const char *name = opt_str(c, "checkpointname");
    if (virDomainCheckpointDelete(checkpoint, flags) < 0)
        return complain(c, "Failed to delete checkpoint %s", name);
    note(c, flags & VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY ? "Domain checkpoint %s children deleted\n" : "Domain checkpoint %s deleted\n", name);
    return true;
}

static bool cmd_dumpxml(struct call *c)
{
    unsigned flags = opt_flags(c, "security-info", VIR_DOMAIN_CHECKPOINT_XML_SECURE, "no-domain", VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN, "size", VIR_DOMAIN_CHECKPOINT_XML_SIZE, NULL);
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainCheckpoint) checkpoint = domain ? arg_checkpoint(c, domain) : NULL;
    g_autofree char *xml = checkpoint ? virDomainCheckpointGetXMLDesc(checkpoint, flags) : NULL;
    return xml && print_document(c, xml);
}

struct checkpoint_edit {
    virDomainPtr domain;
    const char *name;
    bool stored;
};

static bool store_checkpoint(struct call *c, const char *text, void *opaque)
{
    struct checkpoint_edit *e = opaque;
    struct xml x;
    g_autofree char *name = xml_open(&x, text) ? xml_text(&x, NULL, "/domaincheckpoint/name") : NULL;
    xml_close(&x);
    if (g_strcmp0(name, e->name))
        return complain(c, "Cannot rename checkpoint %s to %s", e->name, name ? name : "");
    g_autoptr(virDomainCheckpoint) changed = virDomainCheckpointCreateXML(e->domain, text, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);
    e->stored = changed != NULL;
    return e->stored;
}

static bool cmd_edit(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainCheckpoint) checkpoint = domain ? arg_checkpoint(c, domain) : NULL;
    g_autofree char *xml = checkpoint ? virDomainCheckpointGetXMLDesc(checkpoint, VIR_DOMAIN_CHECKPOINT_XML_SECURE) : NULL;
    if (!xml)
        return false;
    struct checkpoint_edit e = {domain, virDomainCheckpointGetName(checkpoint), false};
    g_autofree char *nothing = g_strdup_printf("Checkpoint %s XML configuration not changed.\n", e.name);
    bool good = edit_document(c, xml, store_checkpoint, &e, nothing);
    if (good && e.stored)
        note(c, "Checkpoint %s edited.\n", e.name);
    return good;
}

static bool cmd_info(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainCheckpoint) checkpoint = domain ? arg_checkpoint(c, domain) : NULL;
    if (!checkpoint)
        return false;
    struct fields *f = fields_new(c, 15);
    field(f, "Name:", "%s", virDomainCheckpointGetName(checkpoint));
    field(f, "Domain:", "%s", virDomainGetName(domain));
    g_autoptr(virDomainCheckpoint) parent = virDomainCheckpointGetParent(checkpoint, 0);
    forget_library_error(c->v);
    field(f, "Parent:", "%s", parent ? virDomainCheckpointGetName(parent) : "-");
    int children = virDomainCheckpointListAllChildren(checkpoint, NULL, 0);
    int below = virDomainCheckpointListAllChildren(checkpoint, NULL, VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS);
    if (children >= 0)
        field(f, "Children:", "%d", children);
    if (below >= 0)
        field(f, "Descendants:", "%d", below);
    return fields_print(f);
}

static int by_name(const void *a, const void *b)
{
    return strcasecmp(virDomainCheckpointGetName(*(virDomainCheckpointPtr *)a), virDomainCheckpointGetName(*(virDomainCheckpointPtr *)b));
}

static char *text_in(virDomainCheckpointPtr checkpoint, const char *path)
{
    g_autofree char *xml = virDomainCheckpointGetXMLDesc(checkpoint, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
    struct xml x;
    char *text = xml_open(&x, xml) ? xml_text(&x, NULL, "%s", path) : NULL;
    xml_close(&x);
    return text;
}

static bool cmd_list(struct call *c)
{
    unsigned flags = opt_flags(c, "roots", VIR_DOMAIN_CHECKPOINT_LIST_ROOTS, "leaves", VIR_DOMAIN_CHECKPOINT_LIST_LEAVES,
        "no-leaves", VIR_DOMAIN_CHECKPOINT_LIST_NO_LEAVES, "descendants", VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS, "topological", VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL, NULL);
    bool tree = opt_bool(c, "tree"), parents = opt_bool(c, "parent");
    if (!opt_exclusive(c, "tree", "name", NULL) || !opt_exclusive(c, "parent", "roots", NULL) || !opt_exclusive(c, "parent", "tree", NULL)
        || !opt_exclusive(c, "roots", "tree", NULL) || !opt_exclusive(c, "roots", "from", NULL))
        return false;
    if (opt_bool(c, "descendants") && !opt_str(c, "from"))
        return complain(c, "Option --%s is required by option --%s", "from", "descendants");
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainCheckpoint) from = domain && opt_str(c, "from") ? virDomainCheckpointLookupByName(domain, opt_str(c, "from"), 0) : NULL;
    virDomainCheckpointPtr *all = NULL;
    if (!domain || (opt_str(c, "from") && !from))
        return false;
    int n = from ? virDomainCheckpointListAllChildren(from, &all, flags) : virDomainListAllCheckpoints(domain, &all, flags);
    if (n < 0)
        return false;
    if (!opt_bool(c, "topological"))
        qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "Name", "Creation Time", parents ? "Parent" : NULL, NULL);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(tree_node_free);
    bool plain = !call_json(c) && (tree || opt_bool(c, "name"));
    for (int i = 0; i < n; i++) {
        const char *name = virDomainCheckpointGetName(all[i]);
        g_autofree char *created = text_in(all[i], "/domaincheckpoint/creationTime"), *parent = text_in(all[i], "/domaincheckpoint/parent/name");
        g_autoptr(GDateTime) when = created ? g_date_time_new_from_unix_local(g_ascii_strtoll(created, NULL, 10)) : NULL;
        g_autofree char *time = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S %z") : g_strdup("");
        if (tree)
            g_ptr_array_add(nodes, tree_node(name, parent));
        else if (plain)
            say(c, "%s\n", name);
        if (!plain)
            table_row(t, name, time, parents ? (parent ? parent : "") : NULL, NULL);
        virDomainCheckpointFree(all[i]);
    }
    free(all);
    if (tree && plain)
        tree_print(c, nodes);
    return plain ? table_drop(t) : table_print(t);
}

static bool cmd_parent(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainCheckpoint) checkpoint = domain ? arg_checkpoint(c, domain) : NULL;
    if (!checkpoint)
        return false;
    g_autoptr(virDomainCheckpoint) parent = virDomainCheckpointGetParent(checkpoint, 0);
    if (!parent) {
        forget_library_error(c->v);
        return complain(c, "checkpoint '%s' has no parent", opt_str(c, "checkpointname"));
    }
    json_member(c, "parent", "%s", virDomainCheckpointGetName(parent));
    say(c, "%s", virDomainCheckpointGetName(parent));
    return true;
}

const struct command checkpoint_commands[] = {
    {"checkpoint-create", "checkpoint", "domain! xmlfile= redefine redefine-validate quiesce", cmd_create, 0, "Make a checkpoint as a document says"},
    {"checkpoint-create-as", "checkpoint",
        "domain! name= description= print-xml quiesce diskspec...",
        cmd_create_as, 0, "Make a checkpoint as arguments say"},
    {"checkpoint-delete", "checkpoint", "domain! checkpointname= children children-only metadata", cmd_delete, 0, "Delete a checkpoint"},
    {"checkpoint-dumpxml", "checkpoint",
        "domain! checkpointname= security-info no-domain size xpath=@ wrap",
        cmd_dumpxml, 0, "Print the document of a checkpoint"},
    {"checkpoint-edit", "checkpoint", "domain! checkpointname=", cmd_edit, 0, "Change the document of a checkpoint in an editor"},
    {"checkpoint-info", "checkpoint", "domain! checkpointname=", cmd_info, COMMAND_LIST, "Tell what a checkpoint is"},
    {"checkpoint-list", "checkpoint",
        "domain! parent roots leaves no-leaves tree from= descendants name topological",
        cmd_list, COMMAND_LIST, "List the checkpoints of a domain"},
    {"checkpoint-parent", "checkpoint", "domain! checkpointname=", cmd_parent, COMMAND_LIST, "Print the checkpoint that another follows"},
    {},
};
