/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/memory_device.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/core/device.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"
#include "vmm/core/numa.h"

/* Linux adds memory in pieces of 128 MiB (x86-64 SECTION_SIZE_BITS); at other addresses it would leave some out. */
#define ALIGN_MIN (UINT64_C(128) << 20)

static struct memory_device *overlapping(const struct machine *m, uint64_t base, uint64_t size)
{
    for (guint i = 0; i < m->memory_devices->len; i++) {
        struct memory_device *o = m->memory_devices->pdata[i];
        if (base < o->base + o->size && o->base < base + size)
            return o;
    }
    return NULL;
}

/* The lowest place; 0: none. */
static uint64_t find_place(const struct machine *m, uint64_t size, uint64_t align)
{
    uint64_t at = (m->plug_base + align - 1) & ~(align - 1);
    const struct memory_device *o;
    while (at + size <= m->plug_base + m->plug_size && at + size > at) {
        o = overlapping(m, at, size);
        if (!o)
            return at;
        at = (o->base + o->size + align - 1) & ~(align - 1);
    }
    return 0;
}

static bool choose(struct machine *m, struct memory_device *d, uint64_t base, uint64_t align, GError **error)
{
    uint64_t size = d->mem->size, used = 0, room = m->config->max_ram_size - m->config->ram_size;
    for (guint i = 0; i < m->memory_devices->len; i++)
        used += ((const struct memory_device *)m->memory_devices->pdata[i])->size;
    if (size > room - MIN(used, room))
        return vireo_fail(error, VIREO_ERROR_NO_MEMORY, "not enough space, currently 0x%" G_GINT64_MODIFIER "x in use of total space for memory devices "
                          "0x%" G_GINT64_MODIFIER "x; start with a larger maxmem", used, room);
    d->size = size;
    d->base = base ? base : find_place(m, size, MAX(align, ALIGN_MIN));
    if (!d->base)
        return vireo_fail(error, VIREO_ERROR_NO_MEMORY, "there is no free range of 0x%" G_GINT64_MODIFIER "x bytes between the memory devices", size);
    if (!base)
        return true;
    if (base % align)
        return vireo_fail(error, VIREO_ERROR_INVALID, "address 0x%" G_GINT64_MODIFIER "x must be a multiple of 0x%" G_GINT64_MODIFIER "x", base, align);
    if (base < m->plug_base || base + size < base || base + size > m->plug_base + m->plug_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "can't add memory device [0x%" G_GINT64_MODIFIER "x:0x%" G_GINT64_MODIFIER "x], usable range for memory "
                          "devices [0x%" G_GINT64_MODIFIER "x:0x%" G_GINT64_MODIFIER "x]", base, size, m->plug_base, m->plug_size);
    const struct memory_device *o = overlapping(m, base, size);
    return !o || vireo_fail(error, VIREO_ERROR_INVALID, "address range conflicts with memory device id='%s'", o->dev->id ? o->dev->id : "(unnamed)");
}

static void count(struct machine *m, const struct memory_device *d, int sign)
{
    if (!strcmp(d->kind, "dimm"))
        __atomic_fetch_add(&m->plugged_dimms, sign > 0 ? d->size : -d->size, __ATOMIC_RELAXED);
}

bool memory_device_add(struct machine *m, struct memory_device *d, uint64_t base, uint64_t align, GError **error)
{
    if (!m->plug_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "memory devices (e.g. for memory hotplug) are not enabled, please specify the maxmem option: -m "
                          "SIZE,slots=N,maxmem=SIZE");
    if (d->mem->obj.user)
        return vireo_fail(error, VIREO_ERROR_BUSY, "can't use already busy memdev: '%s' is in use by %s", d->mem->obj.id, d->mem->obj.user);
    if (d->node && d->node >= m->numa->nnodes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "property node has value %u, which exceeds the number of numa nodes: %u", d->node, m->numa->nnodes);
    if (!choose(m, d, base, MAX(align, d->mem->page_size), error))
        return false;
    d->user = g_strdup_printf("the device '%s'", d->dev->id ? d->dev->id : d->dev->class->name);
    d->mem->obj.user = d->user;
    hostmem_enter_guest(d->mem);
    g_ptr_array_add(m->memory_devices, d);
    count(m, d, 1);
    return true;
}

void memory_device_remove(struct machine *m, struct memory_device *d)
{
    if (!g_ptr_array_remove(m->memory_devices, d))
        return;
    count(m, d, -1);
    d->mem->obj.user = NULL;
    g_clear_pointer(&d->user, g_free);
}

uint64_t memory_device_plugged(const struct machine *m)
{
    uint64_t sum = 0;
    for (guint i = 0; i < m->memory_devices->len; i++) {
        const struct memory_device *d = m->memory_devices->pdata[i];
        sum += d->plugged(d);
    }
    return sum;
}

uint64_t memory_device_dimms(const struct machine *m)
{
    return __atomic_load_n(&m->plugged_dimms, __ATOMIC_RELAXED);
}

struct json_object *memory_device_query(const struct machine *m)
{
    struct json_object *list = json_object_new_array();
    for (guint i = 0; i < m->memory_devices->len; i++) {
        const struct memory_device *d = m->memory_devices->pdata[i];
        g_autofree char *memdev = g_strdup_printf("/objects/%s", d->mem->obj.id);
        struct json_object *data = json_make("memdev", json_object_new_string(memdev), "node", json_object_new_int((int)d->node), NULL);
        if (d->dev->id)
            json_object_object_add(data, "id", json_object_new_string(d->dev->id));
        d->describe(d, data);
        json_object_array_add(list, json_make("type", json_object_new_string(d->kind), "data", data, NULL));
    }
    return list;
}
