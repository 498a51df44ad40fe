/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage pools. */
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

static const char *pool_state(int state)
{
    static const char *const states[] = {"inactive", "building", "running", "degraded", "inaccessible"};
    return state >= 0 && state < (int)G_N_ELEMENTS(states) ? states[state] : "unknown";
}

static int by_name(const void *a, const void *b)
{
    virStoragePoolPtr x = *(virStoragePoolPtr *)a, y = *(virStoragePoolPtr *)b;
    bool on = virStoragePoolIsActive(x) == 1, other = virStoragePoolIsActive(y) == 1;
    if (on != other)
        return on ? -1 : 1;
    return strcasecmp(virStoragePoolGetName(x), virStoragePoolGetName(y));
}

static bool type_flags(struct call *c, unsigned *flags)
{
    static const struct {
        const char *name;
        unsigned flag;
    } types[] = {{"dir", VIR_CONNECT_LIST_STORAGE_POOLS_DIR}, {"fs", VIR_CONNECT_LIST_STORAGE_POOLS_FS}, {"netfs", VIR_CONNECT_LIST_STORAGE_POOLS_NETFS},
        {"logical", VIR_CONNECT_LIST_STORAGE_POOLS_LOGICAL}, {"disk", VIR_CONNECT_LIST_STORAGE_POOLS_DISK}, {"iscsi", VIR_CONNECT_LIST_STORAGE_POOLS_ISCSI},
        {"scsi", VIR_CONNECT_LIST_STORAGE_POOLS_SCSI}, {"mpath", VIR_CONNECT_LIST_STORAGE_POOLS_MPATH}, {"rbd", VIR_CONNECT_LIST_STORAGE_POOLS_RBD},
        {"sheepdog", VIR_CONNECT_LIST_STORAGE_POOLS_SHEEPDOG}, {"gluster", VIR_CONNECT_LIST_STORAGE_POOLS_GLUSTER}, {"zfs", VIR_CONNECT_LIST_STORAGE_POOLS_ZFS},
        {"vstorage", VIR_CONNECT_LIST_STORAGE_POOLS_VSTORAGE}, {"iscsi-direct", VIR_CONNECT_LIST_STORAGE_POOLS_ISCSI_DIRECT}};
    g_auto(GStrv) words = g_strsplit(opt_str(c, "type") ? opt_str(c, "type") : "", ",", -1);
    for (char **w = words; *w; w++) {
        unsigned i = 0;
        while (i < G_N_ELEMENTS(types) && strcmp(types[i].name, *w))
            i++;
        if (i == G_N_ELEMENTS(types))
            return complain(c, "Invalid pool type '%s'", *w);
        *flags |= types[i].flag;
    }
    return true;
}

static char *size_text(unsigned long long n)
{
    const char *unit;
    double value = pretty_size(n, &unit);
    return g_strdup_printf("%.2lf %s", value, unit);
}

static void pool_row(struct table *t, virStoragePoolPtr pool, bool details)
{
    int autostart;
    const char *starts = virStoragePoolGetAutostart(pool, &autostart) < 0 ? "no autostart" : autostart ? "yes" : "no";
    virStoragePoolInfo info = {};
    bool known = virStoragePoolGetInfo(pool, &info) == 0;
    if (!details) {
        table_row(t, virStoragePoolGetName(pool), virStoragePoolIsActive(pool) == 1 ? "active" : "inactive", starts, NULL);
        return;
    }
    int persistent = virStoragePoolIsPersistent(pool);
    bool sized = known && (info.state == VIR_STORAGE_POOL_RUNNING || info.state == VIR_STORAGE_POOL_DEGRADED);
    g_autofree char *capacity = sized ? size_text(info.capacity) : g_strdup("-");
    g_autofree char *allocation = sized ? size_text(info.allocation) : g_strdup("-");
    g_autofree char *available = sized ? size_text(info.available) : g_strdup("-");
    table_row(t, virStoragePoolGetName(pool), known ? pool_state(info.state) : "unknown", starts,
        persistent < 0 ? "unknown" : persistent ? "yes" : "no", capacity, allocation, available, NULL);
}

static bool cmd_pool_list(struct call *c)
{
    bool details = opt_bool(c, "details");
    unsigned flags = opt_flags(c, "all", VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE | VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE,
        "inactive", VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE, "persistent", VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT,
        "transient", VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT, "autostart", VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART,
        "no-autostart", VIR_CONNECT_LIST_STORAGE_POOLS_NO_AUTOSTART, NULL);
    if (!opt_bool(c, "inactive") && !opt_bool(c, "all"))
        flags |= VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE;
    if (!type_flags(c, &flags) || !opt_exclusive(c, "details", "uuid", NULL) || !opt_exclusive(c, "details", "name", NULL))
        return false;
    virStoragePoolPtr *all = NULL;
    int n = virConnectListAllStoragePools(c->v->connection, &all, flags);
    if (n < 0)
        return complain(c, "Failed to list pools");
    qsort(all, n, sizeof *all, by_name);
    struct table *t = table_new(c, "Name", "State", "Autostart", details ? "Persistent" : NULL, "Capacity", "Allocation", "Available", NULL);
    bool named = opt_bool(c, "name"), by_uuid = opt_bool(c, "uuid"), plain = !call_json(c) && (named || by_uuid);
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";
        virStoragePoolGetUUIDString(all[i], uuid);
        if (plain && by_uuid)
            say(c, "%-36s%c", uuid, named ? ' ' : '\n');
        if (plain && named)
            say(c, "%-20s\n", virStoragePoolGetName(all[i]));
        if (!plain)
            pool_row(t, all[i], details);
        virStoragePoolFree(all[i]);
    }
    free(all);
    return plain ? table_drop(t) : table_print(t);
}

static void size_field(struct call *c, struct fields *f, const char *label, unsigned long long n)
{
    const char *unit;
    double value = pretty_size(n, &unit);
    if (opt_bool(c, "bytes") || call_json(c))
        field(f, label, "%llu", n);
    else
        field(f, label, "%2.2lf %s", value, unit);
}

static bool cmd_pool_info(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    virStoragePoolInfo info;
    char uuid[VIR_UUID_STRING_BUFLEN];
    int autostart;
    if (!pool)
        return false;
    struct fields *f = fields_new(c, 15);
    field(f, "Name:", "%s", virStoragePoolGetName(pool));
    if (virStoragePoolGetUUIDString(pool, uuid) == 0)
        field(f, "UUID:", "%s", uuid);
    if (virStoragePoolGetInfo(pool, &info) == 0) {
        field(f, "State:", "%s", pool_state(info.state));
        int persistent = virStoragePoolIsPersistent(pool);
        field(f, "Persistent:", "%s", persistent < 0 ? "unknown" : persistent ? "yes" : "no");
        if (virStoragePoolGetAutostart(pool, &autostart) < 0)
            field(f, "Autostart:", "%s", "no autostart");
        else
            field(f, "Autostart:", "%s", autostart ? "yes" : "no");
        if (info.state == VIR_STORAGE_POOL_RUNNING || info.state == VIR_STORAGE_POOL_DEGRADED) {
            size_field(c, f, "Capacity:", info.capacity);
            size_field(c, f, "Allocation:", info.allocation);
            size_field(c, f, "Available:", info.available);
        }
    }
    return fields_print(f);
}

/* An element with one attribute, if the option was given. */
static void element(struct call *c, GString *s, const char *option, const char *format)
{
    const char *value = opt_str(c, option);
    if (!value)
        return;
    g_autofree char *safe = g_markup_escape_text(value, -1);
    g_auto(GStrv) parts = g_strsplit(format, "%s", 2);
    g_autofree char *text = g_strjoinv(safe, parts);
    g_string_append(s, text);
}

static void pool_adapter(struct call *c, GString *s)
{
    if (opt_str(c, "adapter-wwnn")) {
        g_string_append(s, "    <adapter type='fc_host'");
        element(c, s, "adapter-parent", " parent='%s'");
        element(c, s, "adapter-parent-wwnn", " parent_wwnn='%s'");
        element(c, s, "adapter-parent-wwpn", " parent_wwpn='%s'");
        element(c, s, "adapter-parent-fabric-wwn", " parent_fabric_wwn='%s'");
        element(c, s, "adapter-wwnn", " wwnn='%s'");
        element(c, s, "adapter-wwpn", " wwpn='%s'/>\n");
    } else {
        element(c, s, "adapter-name", "    <adapter type='scsi_host' name='%s'/>\n");
    }
}

static char *pool_document(struct call *c)
{
    GString *s = g_string_new(NULL);
    element(c, s, "type", "<pool type='%s'>\n");
    element(c, s, "name", "  <name>%s</name>\n");
    bool source = opt_str(c, "source-host") || opt_str(c, "source-path") || opt_str(c, "source-dev") || opt_str(c, "source-name") || opt_str(c, "source-format")
        || opt_str(c, "source-initiator") || opt_str(c, "adapter-name") || opt_str(c, "adapter-wwnn") || opt_str(c, "auth-type") || opt_str(c, "source-protocol-ver");
    if (source) {
        g_string_append(s, "  <source>\n");
        element(c, s, "source-host", "    <host name='%s'/>\n");
        element(c, s, "source-initiator", "    <initiator>\n      <iqn name='%s'/>\n    </initiator>\n");
        element(c, s, "source-path", "    <dir path='%s'/>\n");
        element(c, s, "source-dev", "    <device path='%s'/>\n");
        pool_adapter(c, s);
        if (opt_str(c, "auth-type") && opt_str(c, "auth-username")) {
            element(c, s, "auth-type", "    <auth type='%s'");
            element(c, s, "auth-username", " username='%s'>\n");
            element(c, s, "secret-usage", "      <secret usage='%s'/>\n");
            if (!opt_str(c, "secret-usage"))
                element(c, s, "secret-uuid", "      <secret uuid='%s'/>\n");
            g_string_append(s, "    </auth>\n");
        }
        element(c, s, "source-format", "    <format type='%s'/>\n");
        element(c, s, "source-name", "    <name>%s</name>\n");
        element(c, s, "source-protocol-ver", "    <protocol ver='%s'/>\n");
        g_string_append(s, "  </source>\n");
    }
    element(c, s, "target", "  <target>\n    <path>%s</path>\n  </target>\n");
    g_string_append(s, "</pool>\n");
    return g_string_free(s, false);
}

static bool create_flags(struct call *c, unsigned *flags)
{
    if (!opt_exclusive(c, "overwrite", "no-overwrite", NULL))
        return false;
    *flags = opt_flags(c, "build", VIR_STORAGE_POOL_CREATE_WITH_BUILD, "overwrite", VIR_STORAGE_POOL_CREATE_WITH_BUILD_OVERWRITE,
        "no-overwrite", VIR_STORAGE_POOL_CREATE_WITH_BUILD_NO_OVERWRITE, NULL);
    return true;
}

static bool cmd_create_as(struct call *c)
{
    unsigned flags;
    if (!create_flags(c, &flags))
        return false;
    g_autofree char *text = pool_document(c);
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", text);
        return true;
    }
    g_autoptr(virStoragePool) pool = virStoragePoolCreateXML(c->v->connection, text, flags);
    return done(c, pool != NULL, opt_str(c, "name"), "Pool %s created", "Failed to create pool %s");
}

static bool cmd_define_as(struct call *c)
{
    g_autofree char *text = pool_document(c);
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", text);
        return true;
    }
    g_autoptr(virStoragePool) pool = virStoragePoolDefineXML(c->v->connection, text, 0);
    return done(c, pool != NULL, opt_str(c, "name"), "Pool %s defined", "Failed to define pool %s");
}

static bool cmd_create(struct call *c)
{
    unsigned flags;
    g_autofree char *text = create_flags(c, &flags) ? opt_file(c, "file") : NULL;
    if (!text)
        return false;
    g_autoptr(virStoragePool) pool = virStoragePoolCreateXML(c->v->connection, text, flags);
    if (!pool)
        return complain(c, "Failed to create pool from %s", opt_str(c, "file"));
    note(c, "Pool %s created from %s\n", virStoragePoolGetName(pool), opt_str(c, "file"));
    return true;
}

static bool cmd_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autoptr(virStoragePool) pool = virStoragePoolDefineXML(c->v->connection, text, opt_flags(c, "validate", VIR_STORAGE_POOL_DEFINE_VALIDATE, NULL));
    if (!pool)
        return complain(c, "Failed to define pool from %s", opt_str(c, "file"));
    note(c, "Pool %s defined from %s\n", virStoragePoolGetName(pool), opt_str(c, "file"));
    return true;
}

static bool cmd_build(struct call *c)
{
    unsigned flags = opt_flags(c, "overwrite", VIR_STORAGE_POOL_BUILD_OVERWRITE, "no-overwrite", VIR_STORAGE_POOL_BUILD_NO_OVERWRITE, NULL);
    if (!opt_exclusive(c, "overwrite", "no-overwrite", NULL))
        return false;
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    return pool && done(c, virStoragePoolBuild(pool, flags) == 0, opt_str(c, "pool"), "Pool %s built", "Failed to build pool %s");
}

static bool cmd_start(struct call *c)
{
    unsigned flags;
    g_autoptr(virStoragePool) pool = create_flags(c, &flags) ? arg_pool(c, "pool") : NULL;
    return pool && done(c, virStoragePoolCreate(pool, flags) == 0, opt_str(c, "pool"), "Pool %s started", "Failed to start pool %s");
}

static bool cmd_destroy(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    return pool && done(c, virStoragePoolDestroy(pool) == 0, opt_str(c, "pool"), "Pool %s destroyed", "Failed to destroy pool %s");
}

static bool cmd_delete(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    return pool && done(c, virStoragePoolDelete(pool, 0) == 0, opt_str(c, "pool"), "Pool %s deleted", "Failed to delete pool %s");
}

static bool cmd_refresh(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    return pool && done(c, virStoragePoolRefresh(pool, 0) == 0, opt_str(c, "pool"), "Pool %s refreshed", "Failed to refresh pool %s");
}

static bool cmd_undefine(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    return pool && done(c, virStoragePoolUndefine(pool) == 0, opt_str(c, "pool"), "Pool %s has been undefined", "Failed to undefine pool %s");
}

static bool cmd_autostart(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    if (!pool)
        return false;
    if (opt_bool(c, "disable"))
        return done(c, virStoragePoolSetAutostart(pool, 0) == 0, opt_str(c, "pool"), "Pool %s unmarked as autostarted", "failed to unmark pool %s as autostarted");
    return done(c, virStoragePoolSetAutostart(pool, 1) == 0, opt_str(c, "pool"), "Pool %s marked as autostarted", "failed to mark pool %s as autostarted");
}

static bool cmd_name(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    return pool && say_value(c, "name", "%s", virStoragePoolGetName(pool));
}

static bool cmd_uuid(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (!pool)
        return false;
    if (virStoragePoolGetUUIDString(pool, uuid) < 0)
        return complain(c, "failed to get pool UUID");
    return say_value(c, "uuid", "%s", uuid);
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    g_autofree char *text = pool ? virStoragePoolGetXMLDesc(pool, opt_flags(c, "inactive", VIR_STORAGE_XML_INACTIVE, NULL)) : NULL;
    return text && print_document(c, text);
}

static bool store_pool(struct call *c, const char *text, void *opaque)
{
    virStoragePoolPtr *slot = opaque, changed = virStoragePoolDefineXML(c->v->connection, text, 0);
    if (!changed)
        return false;
    virStoragePoolFree(*slot);
    *slot = changed;
    return true;
}

static bool cmd_edit(struct call *c)
{
    g_autoptr(virStoragePool) pool = arg_pool(c, "pool");
    g_autofree char *text = pool ? virStoragePoolGetXMLDesc(pool, VIR_STORAGE_XML_INACTIVE) : NULL;
    if (pool && !text && c->v->last_error && c->v->last_error->code == VIR_ERR_INVALID_ARG)
        text = virStoragePoolGetXMLDesc(pool, 0); /* a driver that knows only one document */
    if (!text)
        return false;
    g_autofree char *nothing = g_strdup_printf("Pool %s XML configuration not changed.\n", virStoragePoolGetName(pool));
    virStoragePoolPtr before = pool;
    if (!edit_document(c, text, store_pool, &pool, nothing))
        return false;
    if (pool != before)
        note(c, "Pool %s XML configuration edited.\n", virStoragePoolGetName(pool));
    return true;
}

static bool print_sources(struct call *c, const char *spec)
{
    g_autofree char *text = virConnectFindStoragePoolSources(c->v->connection, opt_str(c, "type"), spec, 0);
    if (!text)
        return complain(c, "Failed to find any %s pool sources", opt_str(c, "type"));
    say(c, "%s", text);
    return true;
}

static bool cmd_sources(struct call *c)
{
    g_autofree char *spec = opt_str(c, "srcSpec") ? opt_file(c, "srcSpec") : NULL;
    if (opt_str(c, "srcSpec") && !spec)
        return false;
    return print_sources(c, spec);
}

static bool cmd_sources_as(struct call *c)
{
    if (!opt_str(c, "host"))
        return opt_str(c, "port") || opt_str(c, "initiator") ? complain(c, "--port and --initiator need --host") : print_sources(c, NULL);
    g_autoptr(GString) s = g_string_new("<source>\n");
    element(c, s, "host", "  <host name='%s'");
    element(c, s, "port", " port='%s'");
    g_string_append(s, "/>\n");
    element(c, s, "initiator", "  <initiator>\n    <iqn name='%s'/>\n  </initiator>\n");
    g_string_append(s, "</source>\n");
    return print_sources(c, s->str);
}

static bool cmd_capabilities(struct call *c)
{
    g_autofree char *text = virConnectGetStoragePoolCapabilities(c->v->connection, 0);
    if (!text)
        return complain(c, "failed to get storage pool capabilities");
    say(c, "%s\n", text);
    return true;
}

const struct command pool_commands[] = {
    {"find-storage-pool-sources-as", "pool",
        "type! host= port= initiator=",
        cmd_sources_as, 0, "Look for what a pool could be made of, from arguments"},
    {"find-storage-pool-sources", "pool", "type! srcSpec=", cmd_sources, 0, "Look for what a pool could be made of, from a document"},
    {"pool-autostart", "pool", "pool! disable", cmd_autostart, 0, "Start a pool with the host, or no longer"},
    {"pool-build", "pool", "pool! no-overwrite overwrite", cmd_build, 0, "Make what a pool stands on: a directory, a file system, a volume group"},
    {"pool-capabilities", "pool", "", cmd_capabilities, 0, "Print which kinds of pools there are"},
    {"pool-create-as", "pool",
        "name! type! print-xml source-host= source-path= source-dev= source-name= target= source-format= auth-type= "
        "auth-username= secret-usage= secret-uuid= adapter-name= adapter-wwnn= adapter-wwpn= adapter-parent= "
        "adapter-parent-wwnn= adapter-parent-wwpn= adapter-parent-fabric-wwn= source-protocol-ver= source-initiator= build "
        "no-overwrite overwrite",
        cmd_create_as, 0, "Start a pool that lives as long as it is up, from arguments"},
    {"pool-create", "pool", "file! build no-overwrite overwrite", cmd_create, 0, "Start a pool that lives as long as it is up, from a document"},
    {"pool-define-as", "pool",
        "name! type! print-xml source-host= source-path= source-dev= source-name= target= source-format= auth-type= "
        "auth-username= secret-usage= secret-uuid= adapter-name= adapter-wwnn= adapter-wwpn= adapter-parent= "
        "adapter-parent-wwnn= adapter-parent-wwpn= adapter-parent-fabric-wwn= source-protocol-ver= source-initiator=",
        cmd_define_as, 0, "Store a pool from arguments"},
    {"pool-define", "pool", "file! validate", cmd_define, 0, "Store a pool from a document"},
    {"pool-delete", "pool", "pool!", cmd_delete, 0, "Destroy what a pool stands on"},
    {"pool-destroy", "pool", "pool!", cmd_destroy, 0, "Stop a pool; its contents stay"},
    {"pool-dumpxml", "pool", "pool! inactive xpath=@ wrap", cmd_dumpxml, 0, "Print the document of a pool"},
    {"pool-edit", "pool", "pool!", cmd_edit, 0, "Change the document of a pool in an editor"},
    {"pool-info", "pool", "pool! bytes", cmd_pool_info, COMMAND_LIST, "Tell what a pool is and how full"},
    {"pool-list", "pool",
        "inactive all transient persistent autostart no-autostart type= details uuid name",
        cmd_pool_list, COMMAND_LIST, "List storage pools"},
    {"pool-name", "pool", "pool!", cmd_name, COMMAND_LIST, "Print the name of a pool"},
    {"pool-refresh", "pool", "pool!", cmd_refresh, 0, "Look again at what is in a pool"},
    {"pool-start", "pool", "pool! build no-overwrite overwrite", cmd_start, 0, "Start a pool that has been defined"},
    {"pool-undefine", "pool", "pool!", cmd_undefine, 0, "Forget the definition of a pool"},
    {"pool-uuid", "pool", "pool!", cmd_uuid, COMMAND_LIST, "Print the UUID of a pool"},
    {},
};
