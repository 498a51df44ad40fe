/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the program can do, told from its own tables: commands, events, options, machines. */
#include <string.h>

#include "base/error.h"
#include "vmm/board/board.h"
#include "vmm/core/machine.h"
#include "vmm/options.h"
#include "vmm/qmp/qmp.h"

/* A test holds this against the calls that send events. */
const char *const qmp_events[] = {
    "ACPI_DEVICE_OST",
    "BALLOON_CHANGE",
    "BLOCK_EXPORT_DELETED",
    "BLOCK_IMAGE_CORRUPTED",
    "BLOCK_IO_ERROR",
    "BLOCK_JOB_CANCELLED",
    "BLOCK_JOB_COMPLETED",
    "BLOCK_JOB_ERROR",
    "BLOCK_JOB_PENDING",
    "BLOCK_JOB_READY",
    "BLOCK_WRITE_THRESHOLD",
    "DEVICE_DELETED",
    "DEVICE_TRAY_MOVED",
    "DEVICE_UNPLUG_GUEST_ERROR",
    "DUMP_COMPLETED",
    "NETDEV_STREAM_CONNECTED",
    "NETDEV_STREAM_DISCONNECTED",
    "NIC_RX_FILTER_CHANGED",
    "GUEST_CRASHLOADED",
    "GUEST_PANICKED",
    "JOB_STATUS_CHANGE",
    "MEMORY_DEVICE_SIZE_CHANGE",
    "MIGRATION",
    "POWERDOWN",
    "RESET",
    "RESUME",
    "SHUTDOWN",
    "STOP",
    "VNC_CONNECTED",
    "VNC_DISCONNECTED",
    "VNC_INITIALIZED",
    "VSERPORT_CHANGE",
    NULL
};

struct json_object *qmp_query_commands(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (const struct qmp_command *c = qmp_commands; c->name; c++)
        json_object_array_add(list, json_make("name", json_object_new_string(c->name), NULL));
    return list;
}

/* ---- query-qmp-schema (QEMU's docs/devel/qapi-code-gen, "Client JSON Protocol introspection") ---- */

static void add_builtin(struct json_object *list, const char *name, const char *json_type)
{
    json_object_array_add(list, json_make("name", json_object_new_string(name), "json-type", json_object_new_string(json_type), "meta-type",
                                          json_object_new_string("builtin"), NULL));
}

static void add_object(struct json_object *list, const char *name, struct json_object *members)
{
    json_object_array_add(list, json_make("name", json_object_new_string(name), "members", members, "meta-type", json_object_new_string("object"),
                                          NULL));
}

static struct json_object *member(const char *name, const char *type, bool optional)
{
    struct json_object *o = json_make("name", json_object_new_string(name), "type", json_object_new_string(type), NULL);
    if (optional)
        json_object_object_add(o, "default", NULL);
    return o;
}

static struct json_object *members_of(const struct qmp_command *c)
{
    static const char *const types[] = { [QMP_ARG_STRING] = "str", [QMP_ARG_INT] = "int", [QMP_ARG_BOOL] = "bool", [QMP_ARG_ARRAY] = "[any]",
                                         [QMP_ARG_OBJECT] = "any", [QMP_ARG_ANY] = "any" };
    struct json_object *members = json_object_new_array();
    for (const struct qmp_arg *a = c->args; a && a->name; a++)
        json_object_array_add(members, member(a->name, types[a->type], a->optional));
    if (!c->run) /* qmp_capabilities: qmp.c reads its argument */
        json_object_array_add(members, member("enable", "[any]", true));
    return members;
}

/* Arguments are exact. What a command returns is not described here: its type is "any". */
static void add_command(struct json_object *list, const struct qmp_command *c, unsigned number)
{
    g_autofree char *type = g_strdup_printf("%u", number);
    struct json_object *members = members_of(c);
    bool none = !json_object_array_length(members);
    if (none)
        json_object_put(members);
    else
        add_object(list, type, members);
    json_object_array_add(list, json_make("name", json_object_new_string(c->name), "ret-type", json_object_new_string("any"), "meta-type",
                                          json_object_new_string("command"), "arg-type", json_object_new_string(none ? "0" : type), NULL));
}

struct json_object *qmp_query_qmp_schema(struct machine *m, struct json_object *args, GError **error)
{
    static const char *const builtins[][2] = { { "str", "string" }, { "int", "int" }, { "bool", "boolean" }, { "any", "value" } };
    struct json_object *list = json_object_new_array();
    unsigned number = 1;
    for (size_t i = 0; i < G_N_ELEMENTS(builtins); i++)
        add_builtin(list, builtins[i][0], builtins[i][1]);
    json_object_array_add(list, json_make("name", json_object_new_string("[any]"), "element-type", json_object_new_string("any"), "meta-type",
                                          json_object_new_string("array"), NULL));
    add_object(list, "0", json_object_new_array());
    for (const struct qmp_command *c = qmp_commands; c->name; c++)
        add_command(list, c, number++);
    for (const char *const *e = qmp_events; *e; e++)
        json_object_array_add(list, json_make("name", json_object_new_string(*e), "meta-type", json_object_new_string("event"), "arg-type",
                                              json_object_new_string("0"), NULL));
    return list;
}

/* ---- options ---- */

const struct qmp_arg qmp_query_command_line_options_args[] = { { "option", QMP_ARG_STRING, true }, { NULL } };

/* QEMU's names of the groups that are not those of the options. */
static const char *group_of(const char *option)
{
    static const char *const names[][2] = { { "smp", "smp-opts" }, { "m", "memory" }, { "boot", "boot-opts" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!strcmp(option, names[i][0]))
            return names[i][1];
    }
    return option;
}

/* The keys in the form of an option's argument: "[cpus=]N[,maxcpus=N]" has cpus and maxcpus. */
static struct json_object *parameters_of(const struct option_row *row)
{
    struct json_object *list = json_object_new_array();
    const char *start = row->args;
    for (const char *p = row->args; p && *p; p++) {
        if (*p == '=' && p > start) {
            g_autofree char *name = g_strndup(start, (gsize)(p - start));
            json_object_array_add(list, json_make("name", json_object_new_string(name), "type", json_object_new_string("string"), NULL));
        }
        if (!g_ascii_islower(*p) && *p != '-' && *p != '.')
            start = p + 1;
    }
    return list;
}

struct json_object *qmp_query_command_line_options(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *wanted = NULL, *list = json_object_new_array();
    json_object_object_get_ex(args, "option", &wanted);
    const char *only = wanted ? json_object_get_string(wanted) : NULL;
    for (const struct option_row *row = option_rows; row->name || row->help; row++) {
        const char *group = row->name ? group_of(row->name) : NULL;
        if (!group || option_refused(row) || (only && strcmp(only, group)))
            continue;
        json_object_array_add(list, json_make("option", json_object_new_string(group), "parameters", parameters_of(row), NULL));
    }
    if (only && !json_object_array_length(list)) {
        json_object_put(list);
        vireo_fail(error, VIREO_ERROR_INVALID, "invalid option name: %s", only);
        return NULL;
    }
    return list;
}

/* ---- machines ---- */

struct json_object *qmp_query_machines(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    const struct board *const *boards = board_list();
    for (unsigned i = 0; boards[i]; i++) {
        const struct board *b = boards[i];
        if (!strcmp(b->name, "pc"))
            continue; /* refused by -machine: it would be another chipset */
        struct json_object *row = json_make("hotpluggable-cpus", json_object_new_boolean(b->hotplug), "name", json_object_new_string(b->name),
                                            "numa-mem-supported", json_object_new_boolean(false), "default-cpu-type",
                                            json_object_new_string("max-x86_64-cpu"), "cpu-max", json_object_new_int((int)b->max_cpus), "deprecated",
                                            json_object_new_boolean(false), "default-ram-id", json_object_new_string("pc.ram"), NULL);
        if (!i)
            json_object_object_add(row, "is-default", json_object_new_boolean(true));
        json_object_array_add(list, row);
    }
    return list;
}
