/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine as a tree of objects, as far as clients walk it: /machine/peripheral/ID and /machine/peripheral-anon/device[N] are the
 * devices of -device and device_add, /objects/ID what -object and object-add made. Properties are the rows of the tables
 * (device.h, object.h).
 */
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/core/device.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory_device.h"
#include "vmm/dev/cpu_hotplug.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_object_add_args[] = { { "qom-type", QMP_ARG_STRING }, { "id", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_object_del_args[] = { { "id", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_qom_list_args[] = { { "path", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_qom_get_args[] = { { "path", QMP_ARG_STRING }, { "property", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_qom_set_args[] = { { "path", QMP_ARG_STRING }, { "property", QMP_ARG_STRING }, { "value", QMP_ARG_ANY }, { NULL } };

/* ---- objects ---- */

struct json_object *qmp_object_add(struct machine *m, struct json_object *args, GError **error)
{
    keyval_auto *kv = keyval_new();
    if (json_flatten_object(args, kv, error))
        (void)!object_create(m, kv, error);
    return NULL;
}

struct json_object *qmp_object_del(struct machine *m, struct json_object *args, GError **error)
{
    (void)!object_delete(m, json_object_get_string(json_object_object_get(args, "id")), error);
    return NULL;
}

static struct json_object *node_list(const struct hostmem *h)
{
    struct json_object *list = json_object_new_array();
    for (int n = 0; n < HOSTMEM_MAX_NODES; n++) {
        if (h->nodes[n / 64] >> n % 64 & 1)
            json_object_array_add(list, json_object_new_int(n));
    }
    return list;
}

struct json_object *qmp_query_memdev(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (guint i = 0; i < m->objects->len; i++) {
        const struct object *o = m->objects->pdata[i];
        if (!g_str_has_prefix(o->class->name, "memory-backend-"))
            continue;
        const struct hostmem *h = (const struct hostmem *)o;
        json_object_array_add(list, json_make("id", json_object_new_string(o->id), "size", json_object_new_uint64(h->size), "merge",
                                              json_object_new_boolean(h->merge), "dump", json_object_new_boolean(h->dump), "prealloc",
                                              json_object_new_boolean(h->prealloc), "share", json_object_new_boolean(h->share), "reserve",
                                              json_object_new_boolean(h->reserve || h->hugetlb), "host-nodes", node_list(h), "policy",
                                              json_object_new_string(hostmem_policies[h->policy]), NULL));
    }
    return list;
}

struct json_object *qmp_query_memory_devices(struct machine *m, struct json_object *args, GError **error)
{
    return memory_device_query(m);
}

struct json_object *qmp_query_memory_size(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("base-memory", json_object_new_uint64(m->config->ram_size), "plugged-memory", json_object_new_uint64(memory_device_plugged(m)), NULL);
}

/* ---- what a path means ---- */

struct node {
    struct device *device;
    struct object *object;
    const char *container; /* one of the paths below */
};
static const char *const containers[] = { "/", "/machine", "/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached", "/objects", NULL };

static bool find_node(const struct machine *m, const char *path, struct node *ret, GError **error)
{
    g_autofree char *plain = g_strdup(path);
    size_t n = strlen(plain);
    if (n > 1 && plain[n - 1] == '/')
        plain[n - 1] = 0;
    *ret = (struct node){ 0 };
    for (unsigned i = 0; containers[i]; i++) {
        if (!strcmp(plain, containers[i])) {
            ret->container = containers[i];
            return true;
        }
    }
    const char *id = g_str_has_prefix(plain, "/objects/") ? plain + strlen("/objects/") : *plain == '/' ? NULL : plain;
    ret->device = device_find(m, plain);
    ret->object = !ret->device && id ? object_find(m, id) : NULL;
    return ret->device || ret->object || vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", path);
}

/* ---- properties ---- */

static const char *prop_type(enum prop_type t)
{
    static const char *const names[] = { [PROP_BOOL] = "bool", [PROP_UINT] = "uint64", [PROP_SIZE] = "size", [PROP_PCI_ADDR] = "int32" };
    return t < G_N_ELEMENTS(names) && names[t] ? names[t] : "str";
}

static struct json_object *text_or_empty(const char *s)
{
    return json_object_new_string(s ? s : "");
}

static struct json_object *prop_value(const struct device *d, const struct device_prop *p)
{
    const char *at = (const char *)d + p->offset;
    const uint8_t *mac = (const uint8_t *)at;
    switch (p->type) {
    case PROP_BOOL: return json_object_new_boolean(*(const bool *)at);
    case PROP_UINT:
    case PROP_SIZE: return json_object_new_uint64(*(const uint64_t *)at);
    case PROP_ENUM: return text_or_empty(p->values[*(const int *)at]);
    case PROP_PCI_ADDR: return json_object_new_int(*(const int *)at);
    case PROP_MAC: {
        g_autofree char *text = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        return json_object_new_string(text);
    }
    default: return text_or_empty(*(char *const *)at);
    }
}

static const struct device_attr *find_attr(const struct device *d, const char *name)
{
    for (const struct device_attr *a = d->class->attrs; a && a->name; a++) {
        if (!strcmp(a->name, name))
            return a;
    }
    return NULL;
}

static const struct device_prop *find_prop(const struct device *d, const char *name)
{
    for (const struct device_prop *p = d->class->props; p && p->name; p++) {
        if (!strcmp(p->name, name))
            return p;
    }
    return NULL;
}

static struct json_object *no_property(const char *type, const char *name, GError **error)
{
    vireo_fail(error, VIREO_ERROR_INVALID, "Property '%s.%s' not found", type, name);
    return NULL;
}

/* The name that it was made by: a vCPU's has its model before it. */
static const char *type_name(const struct device *d, char **ret_own)
{
    if (strcmp(d->class->name, "x86_64-cpu"))
        return d->class->name;
    return *ret_own = cpu_type_name(d->machine);
}

static struct json_object *device_value(struct device *d, const char *name, GError **error)
{
    g_autofree char *own = NULL;
    const struct device_attr *a = find_attr(d, name);
    const struct device_prop *p = find_prop(d, name);
    if (a && a->get)
        return a->get(d, error);
    if (p)
        return prop_value(d, p);
    if (!strcmp(name, "type"))
        return json_object_new_string(type_name(d, &own));
    if (!strcmp(name, "id"))
        return text_or_empty(d->id);
    if (!strcmp(name, "realized") || !strcmp(name, "hotplugged"))
        return json_object_new_boolean(*name == 'r' ? d->realized : d->hotplugged);
    return no_property(d->class->name, name, error);
}

static struct json_object *object_value(const struct object *o, const char *name, GError **error)
{
    if (!strcmp(name, "type"))
        return json_object_new_string(o->class->name);
    for (const struct keyval_key *k = o->class->keys; k && k->name; k++) {
        const char *at = (const char *)o + k->offset;
        if (strcmp(k->name, name))
            continue;
        switch (k->type) {
        case KV_STRING: return text_or_empty(*(char *const *)at);
        case KV_BOOL: return json_object_new_boolean(*(const bool *)at);
        case KV_UINT:
        case KV_SIZE: return json_object_new_uint64(*(const uint64_t *)at);
        case KV_ENUM: return json_object_new_string(k->values[*(const int *)at]);
        case KV_LIST: return node_list((const struct hostmem *)o); /* host-nodes, the only list there is */
        default: break;
        }
    }
    return no_property(o->class->name, name, error);
}

struct json_object *qmp_qom_get(struct machine *m, struct json_object *args, GError **error)
{
    const char *path = json_object_get_string(json_object_object_get(args, "path")), *name = json_object_get_string(json_object_object_get(args, "property"));
    struct node n;
    if (!find_node(m, path, &n, error))
        return NULL;
    if (n.device)
        return device_value(n.device, name, error);
    if (n.object)
        return object_value(n.object, name, error);
    const char *type = !strcmp(n.container, "/machine") ? "pc-q35-7.2-machine" : "container";
    return strcmp(name, "type") ? no_property(type, name, error) : json_object_new_string(type);
}

static const struct keyval_key *find_key(const struct object *o, const char *name)
{
    for (const struct keyval_key *k = o->class->keys; k && k->name; k++) {
        if (!strcmp(k->name, name) && k->type == KV_UINT)
            return k;
    }
    return NULL;
}

static void set_number(struct object *o, const struct keyval_key *k, struct json_object *value, GError **error)
{
    if (json_object_get_type(value) != json_type_int)
        vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s', expected: integer", k->name);
    else
        (void)!keyval_uint(k->name, json_object_get_string(value), k->min, k->max, (uint64_t *)((char *)o + k->offset), error);
}

struct json_object *qmp_qom_set(struct machine *m, struct json_object *args, GError **error)
{
    const char *path = json_object_get_string(json_object_object_get(args, "path")), *name = json_object_get_string(json_object_object_get(args, "property"));
    struct node n;
    if (!find_node(m, path, &n, error))
        return NULL;
    const struct device_attr *a = n.device ? find_attr(n.device, name) : NULL;
    const char *type = n.device ? n.device->class->name : n.object ? n.object->class->name : "container";
    const struct keyval_key *k = n.object && n.object->class->numbers_change ? find_key(n.object, name) : NULL;
    if (k)
        set_number(n.object, k, json_object_object_get(args, "value"), error);
    else if (a && a->set)
        (void)!a->set(n.device, json_object_object_get(args, "value"), error);
    else if (a || (n.device && find_prop(n.device, name)))
        vireo_fail(error, VIREO_ERROR_INVALID, "Attempt to set property '%s' on device '%s' (type '%s') after it was realized", name, path, type);
    else
        no_property(type, name, error);
    return NULL;
}

/* ---- qom-list ---- */

static void add_row(struct json_object *list, const char *name, const char *type)
{
    json_object_array_add(list, json_make("name", json_object_new_string(name), "type", json_object_new_string(type), NULL));
}

static void list_device(struct json_object *list, const struct device *d)
{
    for (const struct device_prop *p = d->class->props; p && p->name; p++)
        add_row(list, p->name, prop_type(p->type));
    for (const struct device_attr *a = d->class->attrs; a && a->name; a++) {
        if (!find_prop(d, a->name))
            add_row(list, a->name, a->type);
    }
    add_row(list, "realized", "bool");
    add_row(list, "hotplugged", "bool");
}

static void list_object(struct json_object *list, const struct object *o)
{
    static const char *const types[] = { [KV_STRING] = "string", [KV_BOOL] = "bool", [KV_UINT] = "int", [KV_SIZE] = "int", [KV_ENUM] = "string",
                                         [KV_LIST] = "list" };
    for (const struct keyval_key *k = o->class->keys; k && k->name; k++) {
        if (k->type < G_N_ELEMENTS(types))
            add_row(list, k->name, types[k->type]);
    }
}

static void add_child(struct json_object *list, const char *name, const char *class)
{
    g_autofree char *type = g_strdup_printf("child<%s>", class);
    add_row(list, name, type);
}

static void list_container(const struct machine *m, struct json_object *list, const char *path)
{
    bool root = !strcmp(path, "/");
    size_t n = root ? 0 : strlen(path);
    for (unsigned i = 1; containers[i]; i++) { /* its direct children */
        if (!strncmp(containers[i], path, n) && containers[i][n] == '/' && !strchr(containers[i] + n + 1, '/'))
            add_child(list, containers[i] + n + 1, "container");
    }
    for (guint i = 0; i < m->devices->len; i++) {
        const struct device *d = m->devices->pdata[i];
        g_autofree char *at = d->class->user_creatable ? device_path(d) : NULL, *own = NULL;
        if (at && !root && g_str_has_prefix(at, path) && at[n] == '/' && !strchr(at + n + 1, '/'))
            add_child(list, at + n + 1, type_name(d, &own));
    }
    for (guint i = 0; !strcmp(path, "/objects") && i < m->objects->len; i++) {
        const struct object *o = m->objects->pdata[i];
        add_child(list, o->id, o->class->name);
    }
}

struct json_object *qmp_qom_list(struct machine *m, struct json_object *args, GError **error)
{
    struct node n;
    if (!find_node(m, json_object_get_string(json_object_object_get(args, "path")), &n, error))
        return NULL;
    struct json_object *list = json_object_new_array();
    add_row(list, "type", "string");
    if (n.device)
        list_device(list, n.device);
    else if (n.object)
        list_object(list, n.object);
    else
        list_container(m, list, n.container);
    return list;
}
