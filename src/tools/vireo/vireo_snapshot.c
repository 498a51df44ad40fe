/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots of domains. */
#include "vireo_commands.h"
#include "vireo_domain.h"
#include "vireo_tree.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The snapshot an option names, or the current one with --current. */
static virDomainSnapshotPtr arg_snapshot(struct call *c, virDomainPtr domain)
{
    const char *name = opt_str(c, "snapshotname");
    bool current = opt_bool(c, "current");
    if (name && current) {
        complain(c, "--%s and --current are mutually exclusive", "snapshotname");
        return NULL;
    }
    if (!name && !current) {
        complain(c, "--%s or --current is required", "snapshotname");
        return NULL;
    }
    return name ? virDomainSnapshotLookupByName(domain, name, 0) : virDomainSnapshotCurrent(domain, 0);
}

static unsigned create_flags(struct call *c)
{
    return opt_flags(c, "redefine", VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE, "current", VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT,
        "no-metadata", VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA, "halt", VIR_DOMAIN_SNAPSHOT_CREATE_HALT, "disk-only", VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY,
        "reuse-external", VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT, "quiesce", VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE, "atomic", VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC,
        "live", VIR_DOMAIN_SNAPSHOT_CREATE_LIVE, "validate", VIR_DOMAIN_SNAPSHOT_CREATE_VALIDATE, NULL);
}

static bool create(struct call *c, virDomainPtr domain, const char *xml, unsigned flags, const char *from)
{
    g_autoptr(virDomainSnapshot) snapshot = virDomainSnapshotCreateXML(domain, xml, flags);
    if (!snapshot)
        return false;
    const char *name = virDomainSnapshotGetName(snapshot);
    if (from)
        note(c, "Domain snapshot %s created from '%s'", name, from);
    else
        note(c, "Domain snapshot %s created", name);
    return true;
}

static bool cmd_create(struct call *c)
{
    if (opt_bool(c, "current") && !opt_bool(c, "redefine"))
        return complain(c, "Option --%s is required by option --%s", "redefine", "current");
    const char *file = opt_str(c, "xmlfile");
    g_autofree char *xml = file ? opt_file(c, "xmlfile") : g_strdup("<domainsnapshot/>");
    g_autoptr(virDomain) domain = xml ? arg_domain(c) : NULL;
    return domain && create(c, domain, xml, create_flags(c), file);
}

/* "a,b=x,c" with ",," for a comma in a value. */
static char **split_spec(const char *text)
{
    GPtrArray *parts = g_ptr_array_new();
    GString *s = g_string_new(NULL);
    for (const char *p = text; *p; p++) {
        if (*p == ',' && p[1] == ',') {
            g_string_append_c(s, ',');
            p++;
        } else if (*p == ',') {
            g_ptr_array_add(parts, g_string_free(s, false));
            s = g_string_new(NULL);
        } else {
            g_string_append_c(s, *p);
        }
    }
    g_ptr_array_add(parts, g_string_free(s, false));
    g_ptr_array_add(parts, NULL);
    return (char **)g_ptr_array_free(parts, false);
}

static bool memspec(struct call *c, GString *s, const char *text)
{
    const char *snapshot = NULL, *file = NULL;
    g_auto(GStrv) parts = split_spec(text);
    for (char **p = parts; *p; p++) {
        if (g_str_has_prefix(*p, "snapshot="))
            snapshot = *p + 9;
        else if (g_str_has_prefix(*p, "file="))
            file = *p + 5;
        else if (!file && **p == '/')
            file = *p;
        else
            return complain(c, "unable to parse memspec: %s", text);
    }
    g_autofree char *first = snapshot ? g_markup_printf_escaped(" snapshot='%s'", snapshot) : g_strdup("");
    g_autofree char *second = file ? g_markup_printf_escaped(" file='%s'", file) : g_strdup("");
    g_string_append_printf(s, "  <memory%s%s/>\n", first, second);
    return true;
}

static bool diskspec(struct call *c, GString *s, const char *text)
{
    const char *snapshot = NULL, *driver = NULL, *file = NULL, *type = "file";
    g_auto(GStrv) parts = split_spec(text);
    for (char **p = parts + 1; *parts && *p; p++) {
        if (g_str_has_prefix(*p, "snapshot="))
            snapshot = *p + 9;
        else if (g_str_has_prefix(*p, "driver="))
            driver = *p + 7;
        else if (g_str_has_prefix(*p, "file="))
            file = *p + 5;
        else if (g_str_has_prefix(*p, "stype="))
            type = *p + 6;
        else
            return complain(c, "unable to parse diskspec: %s", text);
    }
    if (strcmp(type, "file") && strcmp(type, "block"))
        return complain(c, "Unknown storage type: '%s'", type);
    g_autofree char *name = g_markup_printf_escaped("    <disk name='%s'", parts[0]);
    g_autofree char *how = snapshot ? g_markup_printf_escaped(" snapshot='%s'", snapshot) : g_strdup("");
    g_autofree char *kind = file && strcmp(type, "file") ? g_strdup(" type='block'") : g_strdup("");
    g_string_append_printf(s, "%s%s%s", name, how, kind);
    if (!driver && !file) {
        g_string_append(s, "/>\n");
        return true;
    }
    g_string_append(s, ">\n");
    g_autofree char *first = driver ? g_markup_printf_escaped("      <driver type='%s'/>\n", driver) : g_strdup("");
    g_autofree char *second = !file ? g_strdup("") : strcmp(type, "file") ? g_markup_printf_escaped("      <source dev='%s'/>\n", file)
                                                                           : g_markup_printf_escaped("      <source file='%s'/>\n", file);
    g_string_append_printf(s, "%s%s    </disk>\n", first, second);
    return true;
}

static bool cmd_create_as(struct call *c)
{
    char **disks = opt_list(c, "diskspec");
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(GString) s = g_string_new("<domainsnapshot>\n");
    if (!domain)
        return false;
    if (opt_str(c, "name")) {
        g_autofree char *text = g_markup_printf_escaped("  <name>%s</name>\n", opt_str(c, "name"));
        g_string_append(s, text);
    }
    if (opt_str(c, "description")) {
        g_autofree char *text = g_markup_printf_escaped("  <description>%s</description>\n", opt_str(c, "description"));
        g_string_append(s, text);
    }
    if (opt_str(c, "memspec") && !memspec(c, s, opt_str(c, "memspec")))
        return false;
    if (disks)
        g_string_append(s, "  <disks>\n");
    for (char **d = disks; d && *d; d++)
        if (!diskspec(c, s, *d))
            return false;
    g_string_append_printf(s, "%s</domainsnapshot>\n", disks ? "  </disks>\n" : "");
    if (opt_bool(c, "print-xml")) {
        say(c, "%s\n", s->str);
        return true;
    }
    return create(c, domain, s->str, create_flags(c), NULL);
}

static bool cmd_current(struct call *c)
{
    const char *name = opt_str(c, "snapshotname");
    if (!opt_exclusive(c, "name", "snapshotname", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (name) {
        g_autoptr(virDomainSnapshot) snapshot = virDomainSnapshotLookupByName(domain, name, 0);
        g_autofree char *xml = snapshot ? virDomainSnapshotGetXMLDesc(snapshot, VIR_DOMAIN_SNAPSHOT_XML_SECURE) : NULL;
        g_autoptr(virDomainSnapshot) again = xml ? virDomainSnapshotCreateXML(domain, xml, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT) : NULL;
        if (again)
            note(c, "Snapshot %s set as current", name);
        return again != NULL;
    }
    int has = virDomainHasCurrentSnapshot(domain, 0);
    if (has < 0)
        return false;
    if (!has)
        return complain(c, "domain '%s' has no current snapshot", virDomainGetName(domain));
    g_autoptr(virDomainSnapshot) snapshot = virDomainSnapshotCurrent(domain, 0);
    if (snapshot && opt_bool(c, "name")) {
        say(c, "%s", virDomainSnapshotGetName(snapshot));
        return true;
    }
    g_autofree char *xml = snapshot ? virDomainSnapshotGetXMLDesc(snapshot, opt_flags(c, "security-info", VIR_DOMAIN_SNAPSHOT_XML_SECURE, NULL)) : NULL;
    if (xml)
        say(c, "%s", xml);
    return xml != NULL;
}

static bool cmd_delete(struct call *c)
{
    unsigned flags = opt_flags(c, "children", VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN, "children-only", VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY,
        "metadata", VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY, NULL);
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainSnapshot) snapshot = domain ? arg_snapshot(c, domain) : NULL;
    if (!snapshot)
        return false;
    g_autofree char *name = g_strdup(virDomainSnapshotGetName(snapshot));
    if (virDomainSnapshotDelete(snapshot, flags) < 0)
        return complain(c, "Failed to delete snapshot %s", name);
    note(c, flags & VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY ? "Domain snapshot %s children deleted\n" : "Domain snapshot %s deleted\n", name);
    return true;
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainSnapshot) snapshot = domain ? virDomainSnapshotLookupByName(domain, opt_str(c, "snapshotname"), 0) : NULL;
    g_autofree char *xml = snapshot ? virDomainSnapshotGetXMLDesc(snapshot, opt_flags(c, "security-info", VIR_DOMAIN_SNAPSHOT_XML_SECURE, NULL)) : NULL;
    return xml && print_document(c, xml);
}

struct snapshot_edit {
    virDomainPtr domain;
    const char *name;
    unsigned flags;
    char *new_name;
};

static bool store_snapshot(struct call *c, const char *text, void *opaque)
{
    struct snapshot_edit *e = opaque;
    g_autoptr(virDomainSnapshot) changed = virDomainSnapshotCreateXML(e->domain, text, e->flags);
    if (!changed)
        return false;
    const char *name = virDomainSnapshotGetName(changed);
    bool same = !strcmp(name, e->name);
    if (!same && !opt_bool(c, "rename") && !opt_bool(c, "clone")) {
        virDomainSnapshotDelete(changed, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY);
        return complain(c, "Must use --rename or --clone to change %s to %s", e->name, name);
    }
    e->new_name = g_strdup(name);
    return true;
}

static bool cmd_edit(struct call *c)
{
    if (!opt_exclusive(c, "rename", "clone", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    bool named = domain && opt_str(c, "snapshotname"), current = opt_bool(c, "current");
    g_autoptr(virDomainSnapshot) snapshot = !domain ? NULL : named ? virDomainSnapshotLookupByName(domain, opt_str(c, "snapshotname"), 0) : arg_snapshot(c, domain);
    g_autofree char *xml = snapshot ? virDomainSnapshotGetXMLDesc(snapshot, VIR_DOMAIN_SNAPSHOT_XML_SECURE) : NULL;
    if (!xml)
        return false;
    const char *name = virDomainSnapshotGetName(snapshot);
    bool is_current = virDomainSnapshotIsCurrent(snapshot, 0) == 1;
    forget_library_error(c->v);
    struct snapshot_edit e = {domain, name, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | (current || is_current ? VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT : 0), NULL};
    g_autofree char *nothing = g_strdup_printf("Snapshot %s XML configuration not changed.\n", name);
    if (!edit_document(c, xml, store_snapshot, &e, nothing))
        return false;
    if (!e.new_name)
        return true;
    if (!strcmp(e.new_name, name)) {
        note(c, "Snapshot %s edited.\n", name);
    } else {
        note(c, "Snapshot %s cloned to %s.\n", name, e.new_name);
        if (opt_bool(c, "rename"))
            virDomainSnapshotDelete(snapshot, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY);
    }
    g_free(e.new_name);
    return true;
}

/* What a snapshot's document says, for list and info. */
struct described {
    char *state, *created, *parent, *location;
};

static void described_clear(struct described *d)
{
    g_free(d->state);
    g_free(d->created);
    g_free(d->parent);
    g_free(d->location);
}

static bool describe(virDomainSnapshotPtr snapshot, struct described *d)
{
    g_autofree char *xml = virDomainSnapshotGetXMLDesc(snapshot, 0);
    struct xml x;
    *d = (struct described){};
    if (!xml_open(&x, xml))
        return false;
    d->state = xml_text(&x, NULL, "/domainsnapshot/state");
    d->created = xml_text(&x, NULL, "/domainsnapshot/creationTime");
    d->parent = xml_text(&x, NULL, "/domainsnapshot/parent/name");
    g_autofree char *memory = xml_text(&x, NULL, "/domainsnapshot/memory/@snapshot");
    g_autoptr(GPtrArray) external = xml_nodes(&x, NULL, "/domainsnapshot/disks/disk[@snapshot='external']");
    d->location = g_strdup(!g_strcmp0(memory, "external") || external->len ? "external" : "internal");
    xml_close(&x);
    return true;
}

static bool cmd_info(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainSnapshot) snapshot = domain ? arg_snapshot(c, domain) : NULL;
    struct described d;
    if (!snapshot)
        return false;
    struct fields *f = fields_new(c, 15);
    field(f, "Name:", "%s", virDomainSnapshotGetName(snapshot));
    field(f, "Domain:", "%s", virDomainGetName(domain));
    int current = virDomainSnapshotIsCurrent(snapshot, 0);
    if (current >= 0)
        field(f, "Current:", "%s", current ? "yes" : "no");
    if (describe(snapshot, &d)) {
        field(f, "State:", "%s", d.state ? d.state : "");
        field(f, "Location:", "%s", d.location);
        field(f, "Parent:", "%s", d.parent ? d.parent : "-");
    }
    described_clear(&d);
    int children = virDomainSnapshotNumChildren(snapshot, 0), below = virDomainSnapshotNumChildren(snapshot, VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS);
    if (children >= 0)
        field(f, "Children:", "%d", children);
    if (below >= 0)
        field(f, "Descendants:", "%d", below);
    int metadata = virDomainSnapshotHasMetadata(snapshot, 0);
    if (metadata >= 0)
        field(f, "Metadata:", "%s", metadata ? "yes" : "no");
    return fields_print(f);
}

static int by_name(const void *a, const void *b)
{
    return strcasecmp(virDomainSnapshotGetName(*(virDomainSnapshotPtr *)a), virDomainSnapshotGetName(*(virDomainSnapshotPtr *)b));
}

static void list_row(struct call *c, struct table *t, virDomainSnapshotPtr snapshot)
{
    struct described d;
    if (!describe(snapshot, &d))
        return;
    g_autoptr(GDateTime) when = d.created ? g_date_time_new_from_unix_local(g_ascii_strtoll(d.created, NULL, 10)) : NULL;
    g_autofree char *time = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S %z") : g_strdup("");
    const char *state = d.state ? d.state : "";
    if (opt_bool(c, "parent"))
        table_row(t, virDomainSnapshotGetName(snapshot), time, state, d.parent ? d.parent : "", NULL);
    else
        table_row(t, virDomainSnapshotGetName(snapshot), time, state, NULL);
    described_clear(&d);
}

static bool cmd_list(struct call *c)
{
    unsigned flags = opt_flags(c, "roots", VIR_DOMAIN_SNAPSHOT_LIST_ROOTS, "leaves", VIR_DOMAIN_SNAPSHOT_LIST_LEAVES, "no-leaves", VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES,
        "metadata", VIR_DOMAIN_SNAPSHOT_LIST_METADATA, "no-metadata", VIR_DOMAIN_SNAPSHOT_LIST_NO_METADATA, "inactive", VIR_DOMAIN_SNAPSHOT_LIST_INACTIVE,
        "active", VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE, "disk-only", VIR_DOMAIN_SNAPSHOT_LIST_DISK_ONLY, "internal", VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL,
        "external", VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL, "descendants", VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS, "topological", VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL, NULL);
    bool tree = opt_bool(c, "tree"), below = opt_str(c, "from") || opt_bool(c, "current");
    if (!opt_exclusive(c, "tree", "name", NULL) || !opt_exclusive(c, "parent", "roots", NULL) || !opt_exclusive(c, "parent", "tree", NULL)
        || !opt_exclusive(c, "roots", "tree", NULL) || !opt_exclusive(c, "roots", "from", NULL) || !opt_exclusive(c, "roots", "current", NULL))
        return false;
    if (opt_bool(c, "descendants") && !below)
        return complain(c, "--descendants requires either --from or --current");
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainSnapshot) from = NULL;
    virDomainSnapshotPtr *all = NULL;
    if (!domain)
        return false;
    if (below && !(from = opt_str(c, "from") ? virDomainSnapshotLookupByName(domain, opt_str(c, "from"), 0) : virDomainSnapshotCurrent(domain, 0)))
        return false;
    int n = from ? virDomainSnapshotListAllChildren(from, &all, flags) : virDomainListAllSnapshots(domain, &all, flags);
    if (n < 0)
        return false;
    if (!opt_bool(c, "topological"))
        qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "Name", "Creation Time", "State", opt_bool(c, "parent") ? "Parent" : NULL, NULL);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(tree_node_free);
    bool plain = !call_json(c) && (tree || opt_bool(c, "name"));
    if (tree && from)
        g_ptr_array_add(nodes, tree_node(virDomainSnapshotGetName(from), NULL));
    for (int i = 0; i < n; i++) {
        struct described d = {};
        if (tree && describe(all[i], &d))
            g_ptr_array_add(nodes, tree_node(virDomainSnapshotGetName(all[i]), d.parent));
        else if (plain)
            say(c, "%s\n", virDomainSnapshotGetName(all[i]));
        else
            list_row(c, t, all[i]);
        described_clear(&d);
        virDomainSnapshotFree(all[i]);
    }
    free(all);
    if (tree && !call_json(c))
        tree_print(c, nodes);
    return plain ? table_drop(t) : table_print(t);
}

static bool cmd_parent(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainSnapshot) snapshot = domain ? arg_snapshot(c, domain) : NULL;
    if (!snapshot)
        return false;
    g_autoptr(virDomainSnapshot) parent = virDomainSnapshotGetParent(snapshot, 0);
    if (!parent) {
        if (c->v->last_error && c->v->last_error->code == VIR_ERR_NO_DOMAIN_SNAPSHOT)
            forget_library_error(c->v);
        return complain(c, "snapshot '%s' has no parent", virDomainSnapshotGetName(snapshot));
    }
    json_member(c, "parent", "%s", virDomainSnapshotGetName(parent));
    say(c, "%s", virDomainSnapshotGetName(parent));
    return true;
}

static bool cmd_revert(struct call *c)
{
    unsigned flags = opt_flags(c, "running", VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING, "paused", VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED,
        "force", VIR_DOMAIN_SNAPSHOT_REVERT_FORCE, "reset-nvram", VIR_DOMAIN_SNAPSHOT_REVERT_RESET_NVRAM, NULL);
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(virDomainSnapshot) snapshot = domain ? arg_snapshot(c, domain) : NULL;
    if (!snapshot)
        return false;
    const char *name = virDomainSnapshotGetName(snapshot);
    if (virDomainRevertToSnapshot(snapshot, flags) < 0)
        return complain(c, "Failed to revert snapshot %s", name);
    note(c, "Domain snapshot %s reverted\n", name);
    return true;
}

const struct command snapshot_commands[] = {
    {"snapshot-create", "snapshot",
        "domain! xmlfile= redefine current no-metadata halt disk-only reuse-external quiesce atomic live validate",
        cmd_create, 0, "Take a snapshot as a document says"},
    {"snapshot-create-as", "snapshot",
        "domain! name= description= print-xml no-metadata halt disk-only reuse-external quiesce atomic live validate memspec=@ "
        "diskspec...",
        cmd_create_as, 0, "Take a snapshot as arguments say"},
    {"snapshot-current", "snapshot",
        "domain! name security-info snapshotname=",
        cmd_current, 0, "Show the current snapshot, or make another the current one"},
    {"snapshot-delete", "snapshot", "domain! snapshotname= current children children-only metadata", cmd_delete, 0, "Delete a snapshot"},
    {"snapshot-dumpxml", "snapshot", "domain! snapshotname! security-info xpath=@ wrap", cmd_dumpxml, 0, "Print the document of a snapshot"},
    {"snapshot-edit", "snapshot", "domain! snapshotname= current rename clone", cmd_edit, 0, "Change the document of a snapshot in an editor"},
    {"snapshot-info", "snapshot", "domain! snapshotname= current", cmd_info, COMMAND_LIST, "Tell what a snapshot is"},
    {"snapshot-list", "snapshot",
        "domain! parent roots leaves no-leaves metadata no-metadata inactive active disk-only internal external tree from= "
        "current descendants name topological",
        cmd_list, COMMAND_LIST, "List the snapshots of a domain"},
    {"snapshot-parent", "snapshot", "domain! snapshotname= current", cmd_parent, COMMAND_LIST, "Print the snapshot that another stands on"},
    {"snapshot-revert", "snapshot", "domain! snapshotname= current running paused force reset-nvram", cmd_revert, 0, "Go back to a snapshot"},
    {},
};
