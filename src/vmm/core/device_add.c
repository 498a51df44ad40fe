/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices by the user's words: -device at start, device_add and device_del on a live machine. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"

/* As QEMU's aliases: "virtio-blk" is the one that fits the board. */
static const struct device_class *find_class(const struct machine *m, const char *name)
{
    const struct device_class *c = device_class_find(name);
    g_autofree char *full = g_strdup_printf("%s-%s", name, m->pci ? "pci" : "device");
    return c ? c : device_class_find(full);
}

static bool no_such_class(const char *name, GError **error)
{
    if (device_class_missing(name))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the device '%s' is not there yet; -device help lists those that are", name);
    const struct device_class *const *list = device_class_list();
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (size_t i = 0; list[i]; i++) {
        if (list[i]->user_creatable)
            g_ptr_array_add(names, (void *)list[i]->name);
    }
    const char *near = nearest_name(name, (const char *const *)names->pdata, names->len);
    return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "'%s' is not a valid device model name; %s%s%s-device help lists them", name,
                      near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
}

const struct device_class *device_class_for_user(const struct machine *m, const char *name, GError **error)
{
    const struct device_class *c = find_class(m, name);
    if (!c) {
        no_such_class(name, error);
        return NULL;
    }
    if (!c->user_creatable) {
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' belongs to the board and cannot be added", name);
        return NULL;
    }
    if (c->bus == DEV_BUS_PCI && !m->pci) {
        vireo_fail(error, VIREO_ERROR_INVALID, "No 'PCI' bus found for device '%s'; the board %s has virtio over MMIO: use the name that ends in "
                   "-device", name, m->config->board);
        return NULL;
    }
    return c;
}

static bool has_prop(const struct device_class *c, const char *name)
{
    for (const struct device_prop *p = c->props; p && p->name; p++) {
        if (!strcmp(p->name, name))
            return true;
    }
    return false;
}

/* bus= where the class has no property of that name: the bus itself looks for it, but for those that there is only one of. */
static bool set_bus(struct device *d, const char *bus, GError **error)
{
    if (d->class->bus == DEV_BUS_ISA ? strcmp(bus, "isa.0") != 0 : d->class->bus != DEV_BUS_PCI)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Bus '%s' not found%s", bus, d->class->bus == DEV_BUS_ISA ? "; there is only 'isa.0'" : "");
    g_free(d->bus);
    d->bus = g_strdup(bus);
    return true;
}

static bool set_props(struct device *d, const struct keyval *kv, GError **error)
{
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        const char *value = p->value ? p->value : "on";
        if (!strcmp(p->key, "driver"))
            continue;
        if (!strcmp(p->key, "bus") && !has_prop(d->class, "bus")) {
            if (!set_bus(d, value, error))
                return false;
        } else if (!device_set_prop(d, p->key, value, error)) {
            return false;
        }
    }
    return true;
}

/* A letter, then letters, digits, '-', '.', '_': as QEMU's ids. */
static bool id_is_wellformed(const char *id)
{
    if (!g_ascii_isalpha(*id))
        return false;
    while (g_ascii_isalnum(*id) || (*id && strchr("-._", *id)))
        id++;
    return !*id;
}

static bool check_id(const struct machine *m, const char *id, GError **error)
{
    if (!id)
        return true;
    if (m->live && !id_is_wellformed(id))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'id' expects an identifier: a letter, then letters, digits, '-', '.', '_'");
    for (guint i = 0; i < m->devices->len; i++) {
        if (!g_strcmp0(((const struct device *)m->devices->pdata[i])->id, id))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate device ID '%s'", id);
    }
    return true;
}

static bool check_live(const struct device_class *c, const char *driver, GError **error)
{
    if (c->hotplug || c->bus == DEV_BUS_PCI) /* on PCI the bus decides */
        return true;
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Device '%s' cannot be added to a machine that is there already; give it on the command line",
                      driver);
}

/* What -global says of its driver, in order. */
static bool set_globals(struct device *d, GError **error)
{
    const GPtrArray *all = d->machine->config ? d->machine->config->globals : NULL;
    for (guint i = 0; all && i < all->len; i++) {
        const char *text = all->pdata[i], *dot = strchr(text, '.'), *is = strchr(dot, '=');
        g_autofree char *name = g_strndup(text, dot - text), *property = g_strndup(dot + 1, is - dot - 1);
        if (strcmp(name, d->class->name) || device_set_prop(d, property, is + 1, error))
            continue;
        g_prefix_error(error, "-global %s: ", text);
        return false;
    }
    return true;
}

struct device *device_add(struct machine *m, const struct device_class *c, const struct keyval *kv, GError **error)
{
    const char *driver = keyval_get(kv, "driver");
    if (!check_id(m, keyval_get(kv, "id"), error) || (m->live && !check_live(c, driver ? driver : c->name, error)))
        return NULL;
    struct device *d = device_create(m, c);
    d->driver = g_strdup(driver);
    d->hotplugged = m->live;
    if (!set_globals(d, error) || !set_props(d, kv, error) || !device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    if (m->live && d->bus_ops) {
        if (c->reset)
            c->reset(d);
        if (d->bus_ops->plugged)
            d->bus_ops->plugged(d);
    }
    return d;
}

/* Devices without an id are counted in the order in which they came. */
char *device_path(const struct device *d)
{
    const GPtrArray *all = d->machine->devices;
    unsigned n = 0;
    if (d->id)
        return g_strdup_printf("/machine/peripheral/%s", d->id);
    for (guint i = 0; i < all->len && all->pdata[i] != d; i++) {
        const struct device *other = all->pdata[i];
        n += !other->id && other->class->user_creatable;
    }
    return g_strdup_printf("/machine/peripheral-anon/device[%u]", n);
}

struct device *device_find(const struct machine *m, const char *id_or_path)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        g_autofree char *path = *id_or_path == '/' && d->class->user_creatable ? device_path(d) : NULL;
        if (path ? !strcmp(path, id_or_path) : !g_strcmp0(d->id, id_or_path))
            return d;
    }
    return NULL;
}

bool device_del(struct machine *m, const char *id_or_path, GError **error)
{
    struct device *d = device_find(m, id_or_path);
    if (!d)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", id_or_path);
    if (d->class->unplug)
        return d->class->unplug(d, error);
    if (d->bus_ops && d->bus_ops->unplug)
        return d->bus_ops->unplug(d, error);
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Device '%s' (%s) cannot be removed before the machine ends", id_or_path, d->class->name);
}

void device_gone(struct device *d)
{
    struct machine *m = d->machine;
    for (guint i = m->devices->len; i-- > 0; i = MIN(i, m->devices->len)) {
        struct device *other = m->devices->pdata[i];
        if (other->parent == d)
            device_gone(other);
    }
    g_autofree char *path = device_path(d);
    struct json_object *data = json_make("path", json_object_new_string(path), NULL);
    if (d->id)
        json_object_object_add(data, "device", json_object_new_string(d->id));
    device_destroy(d);
    machine_event(m, "DEVICE_DELETED", data);
}

/* All that are to go: one may have gone with its controller meanwhile. */
static void those_going(void *opaque)
{
    const GPtrArray *all = ((struct machine *)opaque)->devices;
    for (guint i = 0; i < all->len; i++) {
        struct device *d = all->pdata[i];
        if (d->going) {
            device_gone(d);
            i = (guint)-1; /* from the start: others may have gone too */
        }
    }
}

bool device_gone_soon(struct device *d, GError **error)
{
    if (d->going)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Device %s is already in the process of unplug", d->id ? d->id : d->class->name);
    d->going = true;
    machine_call_later(d->machine, those_going, d->machine);
    return true;
}
