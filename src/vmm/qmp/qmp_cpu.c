/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs and CPU models over QMP. */
#include <string.h>

#include "base/error.h"
#include "cpu/x86/x86_model.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/core/numa.h"
#include "vmm/core/plug_slots.h"
#include "vmm/dev/cpu_hotplug.h"
#include "vmm/qmp/qmp.h"

#define NWORDS ((X86_NFEATURES + 63) / 64)

/* ---- vCPUs ---- */

static struct json_object *place(const struct machine *m, unsigned i)
{
    struct cpu_place p = cpu_place_of(m, i);
    struct json_object *o = json_make("core-id", json_object_new_int((int)p.core), "thread-id", json_object_new_int((int)p.thread), "socket-id",
                                      json_object_new_int((int)p.socket), NULL);
    if (m->numa && m->numa->nnodes)
        json_object_object_add(o, "node-id", json_object_new_int(m->numa->cpu_node[i]));
    return o;
}

char *qmp_cpu_path(const struct machine *m, unsigned i)
{
    const struct device *d = cpu_hotplug_device(m, i);
    return d ? device_path(d) : g_strdup_printf("/machine/unattached/device[%u]", i);
}

struct json_object *qmp_query_cpus_fast(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (!m->vcpus[i])
            continue;
        g_autofree char *path = qmp_cpu_path(m, i);
        json_object_array_add(list, json_make("thread-id", json_object_new_int(vcpu_thread_id(m->vcpus[i])), "props", place(m, i), "qom-path",
                                              json_object_new_string(path), "cpu-index", json_object_new_int((int)i), "target",
                                              json_object_new_string("x86_64"), NULL));
    }
    return list;
}

/* As QEMU: the last place first. */
struct json_object *qmp_query_hotpluggable_cpus(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    g_autofree char *type = cpu_type_name(m);
    for (unsigned i = m->max_vcpus; i-- > 0;) {
        struct json_object *row = json_make("props", place(m, i), "vcpus-count", json_object_new_int(1), "type", json_object_new_string(type), NULL);
        g_autofree char *path = m->vcpus[i] ? qmp_cpu_path(m, i) : NULL;
        if (path)
            json_object_object_add(row, "qom-path", json_object_new_string(path));
        json_object_array_add(list, row);
    }
    return list;
}

static struct json_object *ost_row(const struct device *d, unsigned i, const char *type, uint32_t event, uint32_t status)
{
    g_autofree char *slot = g_strdup_printf("%u", i);
    struct json_object *row = json_make("slot", json_object_new_string(slot), "slot-type", json_object_new_string(type), "source",
                                        json_object_new_int64(event), "status", json_object_new_int64(status), NULL);
    if (d && d->id)
        json_object_object_add(row, "device", json_object_new_string(d->id));
    return row;
}

struct json_object *qmp_query_acpi_ospm_status(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; m->mem_slots && i < m->mem_slots->n; i++) { /* as QEMU: memory slots from the start, those of vCPUs once the guest spoke of them */
        uint32_t event, status;
        (void)plug_slot_ost(m->mem_slots, i, &event, &status);
        json_object_array_add(list, ost_row(m->mem_slots->slots[i].dev, i, "DIMM", event, status));
    }
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        uint32_t event, status;
        if (cpu_hotplug_ost(m, i, &event, &status))
            json_object_array_add(list, ost_row(cpu_hotplug_device(m, i), i, "CPU", event, status));
    }
    return list;
}

/* ---- models ---- */

static bool supported_features(const struct machine *m, uint64_t ret[NWORDS], GError **error)
{
    if (!m->cpu_supported)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the machine has no accelerator");
    memcpy(ret, m->cpu_supported, NWORDS * sizeof(*ret));
    return true;
}

struct json_object *qmp_query_cpu_definitions(struct machine *m, struct json_object *args, GError **error)
{
    uint64_t supported[NWORDS];
    if (!supported_features(m, supported, error))
        return NULL;
    struct json_object *list = json_object_new_array();
    const char *name;
    for (unsigned i = 0; (name = x86_cpu_model_at(i)); i++) {
        g_autofree char *type = g_strdup_printf("%s-x86_64-cpu", name);
        g_autofree const char **lacking = x86_cpu_model_unavailable(name, supported);
        struct json_object *unavailable = json_object_new_array();
        for (unsigned f = 0; lacking[f]; f++)
            json_object_array_add(unavailable, json_object_new_string(lacking[f]));
        bool follows_host = !strcmp(name, "max") || !strcmp(name, "host");
        const char *alias_of = x86_cpu_model_alias_of(name);
        struct json_object *row = json_make("name", json_object_new_string(name), "typename", json_object_new_string(type), "unavailable-features",
                                            unavailable, "static", json_object_new_boolean(false), "migration-safe",
                                            json_object_new_boolean(!follows_host), "deprecated", json_object_new_boolean(false), NULL);
        if (alias_of)
            json_object_object_add(row, "alias-of", json_object_new_string(alias_of));
        json_object_array_add(list, row);
    }
    return list;
}

const struct qmp_arg qmp_query_cpu_model_expansion_args[] = { { "type", QMP_ARG_STRING }, { "model", QMP_ARG_OBJECT }, { NULL } };

/* -cpu text for a model and its properties. "base" has no feature but those given; what else it is comes from max. */
static char *model_spec(const char *name, struct json_object *props)
{
    GString *s = g_string_new(strcmp(name, "base") ? name : "max");
    for (unsigned f = 0; f < X86_NFEATURES && !strcmp(name, "base"); f++)
        g_string_append_printf(s, ",-%s", x86_feature_name((enum x86_feature)f));
    if (props) {
        json_object_object_foreach(props, key, value) {
            bool truth = json_object_is_type(value, json_type_boolean);
            g_string_append_printf(s, ",%s=%s", key, truth ? json_object_get_boolean(value) ? "on" : "off" : json_object_get_string(value));
        }
    }
    return g_string_free(s, FALSE);
}

/* A value with a comma would be another property. */
static bool check_props(struct json_object *props, GError **error)
{
    if (!props)
        return true;
    if (!json_object_is_type(props, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'model.props', expected: object");
    json_object_object_foreach(props, key, value) {
        if (strpbrk(key, ",=+") || json_object_is_type(value, json_type_object) || json_object_is_type(value, json_type_array) || !value ||
            strchr(json_object_get_string(value), ','))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid value of CPU property '%s'", key);
    }
    return true;
}

static struct json_object *expanded_props(const struct x86_cpu_model *model, bool full)
{
    struct json_object *props = json_object_new_object();
    for (unsigned f = 0; f < X86_NFEATURES; f++)
        json_object_object_add(props, x86_feature_name((enum x86_feature)f), json_object_new_boolean(x86_model_has(model, (enum x86_feature)f)));
    if (full) {
        json_object_object_add(props, "vendor", json_object_new_string(model->vendor));
        json_object_object_add(props, "model-id", json_object_new_string(model->brand));
        json_object_object_add(props, "family", json_object_new_int((int)model->family));
        json_object_object_add(props, "model", json_object_new_int((int)model->model));
        json_object_object_add(props, "stepping", json_object_new_int((int)model->stepping));
        json_object_object_add(props, "phys-bits", json_object_new_int((int)model->phys_bits));
    }
    return props;
}

struct json_object *qmp_query_cpu_model_expansion(struct machine *m, struct json_object *args, GError **error)
{
    const char *type = json_object_get_string(json_object_object_get(args, "type"));
    struct json_object *given = json_object_object_get(args, "model"), *name = json_object_object_get(given, "name"), *props = NULL;
    uint64_t supported[NWORDS];
    bool full = !strcmp(type, "full");
    if (!full && strcmp(type, "static")) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s': type is static or full", type);
        return NULL;
    }
    if (!json_object_is_type(name, json_type_string)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'model.name' is missing");
        return NULL;
    }
    json_object_object_get_ex(given, "props", &props);
    if (!check_props(props, error) || !supported_features(m, supported, error))
        return NULL;
    g_autofree char *spec = model_spec(json_object_get_string(name), props);
    struct x86_cpu_model *model = x86_cpu_model_describe(spec, supported, error);
    if (!model)
        return NULL;
    struct json_object *answer = json_make("name", full ? json_object_get(name) : json_object_new_string("base"), "props",
                                           expanded_props(model, full), NULL);
    x86_cpu_model_free(model);
    return json_make("model", answer, NULL);
}
