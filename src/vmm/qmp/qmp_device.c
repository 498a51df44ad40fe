/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices over QMP: added and removed while the machine lives, and the classes and properties that there are. */
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/board/board.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/core/object.h"
#include "vmm/options.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_device_add_args[] = { { "driver", QMP_ARG_STRING }, { "id", QMP_ARG_STRING, true }, { "bus", QMP_ARG_STRING, true }, { NULL } };
const struct qmp_arg qmp_device_del_args[] = { { "id", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_device_list_properties_args[] = { { "typename", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_qom_list_types_args[] = { { "implements", QMP_ARG_STRING, true }, { "abstract", QMP_ARG_BOOL, true }, { NULL } };

struct json_object *qmp_device_add(struct machine *m, struct json_object *args, GError **error)
{
    const struct device_class *c = device_class_for_user(m, json_object_get_string(json_object_object_get(args, "driver")), error);
    keyval_auto *kv = keyval_new();
    if (c && json_flatten_object(args, kv, error))
        (void)!device_add(m, c, kv, error);
    return NULL;
}

struct json_object *qmp_device_del(struct machine *m, struct json_object *args, GError **error)
{
    (void)!device_del(m, json_object_get_string(json_object_object_get(args, "id")), error);
    return NULL;
}

/* The name of a property's type on QMP, and its default as a value of that type; NULL: it has none. */
static const char *prop_type_name(enum prop_type t)
{
    static const char *const names[] = { [PROP_BOOL] = "bool", [PROP_UINT] = "uint64", [PROP_SIZE] = "size", [PROP_PCI_ADDR] = "int32" };
    return t < G_N_ELEMENTS(names) && names[t] ? names[t] : "str";
}

static struct json_object *prop_default(const struct device_prop *p)
{
    if (!p->def)
        return NULL;
    if (p->type == PROP_BOOL)
        return json_object_new_boolean(!strcmp(p->def, "on") || !strcmp(p->def, "true"));
    if (p->type == PROP_UINT)
        return json_object_new_int64((int64_t)g_ascii_strtoull(p->def, NULL, 0));
    return json_object_new_string(p->def);
}

static void prop_rows(struct json_object *list, const struct device_prop *p)
{
    for (; p && p->name; p++) {
        struct json_object *row = json_make("name", json_object_new_string(p->name), "type", json_object_new_string(prop_type_name(p->type)), NULL);
        struct json_object *def = prop_default(p);
        if (p->help)
            json_object_object_add(row, "description", json_object_new_string(p->help));
        if (def)
            json_object_object_add(row, "default-value", def);
        json_object_array_add(list, row);
    }
}

struct json_object *qmp_device_list_properties(struct machine *m, struct json_object *args, GError **error)
{
    const char *name = json_object_get_string(json_object_object_get(args, "typename"));
    const struct device_class *c = device_class_find(name);
    if (!c) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, device_class_missing(name) ? "Device '%s' is not there yet" : "Device '%s' not found", name);
        return NULL;
    }
    struct json_object *list = json_object_new_array();
    prop_rows(list, c->props);
    prop_rows(list, device_bus_props(c));
    return list;
}

static struct json_object *key_rows(const struct keyval_key *keys)
{
    static const char *const types[] = { [KV_BOOL] = "bool", [KV_UINT] = "int", [KV_SIZE] = "int" };
    struct json_object *list = json_object_new_array();
    for (; keys && keys->name; keys++) {
        const char *type = keys->type < G_N_ELEMENTS(types) && types[keys->type] ? types[keys->type] : "str";
        if (keys->type != KV_REFUSED)
            json_object_array_add(list, json_make("name", json_object_new_string(keys->name), "type", json_object_new_string(type), NULL));
    }
    return list;
}

/* Of any type: a device, what object-add makes, a board ("q35-machine": what -machine takes). */
struct json_object *qmp_qom_list_properties(struct machine *m, struct json_object *args, GError **error)
{
    const char *name = json_object_get_string(json_object_object_get(args, "typename"));
    const struct object_class *o = object_class_find(name);
    if (o && o->complete)
        return key_rows(o->keys);
    for (unsigned i = 0; board_list()[i]; i++) {
        g_autofree char *type = g_strdup_printf("%s-machine", board_list()[i]->name);
        if (!strcmp(type, name))
            return key_rows(options_machine_keys());
    }
    return qmp_device_list_properties(m, args, error);
}

/* Devices, accelerators, and what object-add makes. */
struct json_object *qmp_qom_list_types(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *implements = args ? json_object_object_get(args, "implements") : NULL, *list = json_object_new_array();
    const struct device_class *const *classes = device_class_list();
    const char *parent = implements ? json_object_get_string(implements) : NULL;
    for (unsigned i = 0; (!parent || !strcmp(parent, "object")) && object_class_at(i); i++) {
        if (object_class_at(i)->complete)
            json_object_array_add(list, json_make("name", json_object_new_string(object_class_at(i)->name), "parent", json_object_new_string("object"),
                                                  NULL));
    }
    /* The translator by the name that clients know; -accel takes it too. */
    for (const struct accel_ops *const *a = accel_list(); (!parent || !strcmp(parent, "accel")) && *a; a++) {
        g_autofree char *name = g_strdup_printf("%s-accel", strcmp((*a)->name, "jit") ? (*a)->name : "tcg");
        json_object_array_add(list, json_make("name", json_object_new_string(name), "parent", json_object_new_string("accel"), NULL));
    }
    for (size_t i = 0; (!parent || !strcmp(parent, "device")) && classes[i]; i++)
        json_object_array_add(list, json_make("name", json_object_new_string(classes[i]->name), "parent", json_object_new_string("device"), NULL));
    return list;
}
