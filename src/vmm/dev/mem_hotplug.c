/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/mem_hotplug.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory_device.h"
#include "vmm/core/plug_slots.h"

#define ANY_SLOT UINT64_C(0xffffffff)

struct dimm {
    struct device dev;
    char *memdev;
    uint64_t addr, slot, node;
    struct memory_device md;
    bool mapped;
};

static uint32_t read_range(const struct plug_slot *s, unsigned offset)
{
    const struct memory_device *md = &((const struct dimm *)s->dev)->md;
    const uint64_t values[] = { md->base, md->base + md->size - 1, md->size };
    if (offset == MEM_HOTPLUG_NODE)
        return md->node;
    return (uint32_t)(values[(offset - MEM_HOTPLUG_RANGE) / 8 % 3] >> (offset & 4) * 8);
}

static const struct plug_kind kind = { .name = "mem-hotplug", .type = "DIMM", .base = MEM_HOTPLUG_BASE, .size = MEM_HOTPLUG_SIZE, .read = read_range };

bool mem_hotplug_create(struct machine *m, struct irq_line gpe, GError **error)
{
    m->mem_slots = plug_slots_create(m, &kind, m->config->mem_slots, gpe, error);
    return m->mem_slots != NULL;
}

/* --- the module -------------------------------------------------------------------------------------------------------- */

static uint64_t dimm_plugged(const struct memory_device *md)
{
    return md->size;
}

static void dimm_describe(const struct memory_device *md, struct json_object *data)
{
    const struct dimm *d = (const struct dimm *)md->dev;
    json_object_object_add(data, "addr", json_object_new_uint64(md->base));
    json_object_object_add(data, "slot", json_object_new_int((int)d->slot));
    json_object_object_add(data, "size", json_object_new_uint64(md->size));
    json_object_object_add(data, "hotpluggable", json_object_new_boolean(true));
    json_object_object_add(data, "hotplugged", json_object_new_boolean(d->dev.hotplugged));
}

static bool choose_slot(const struct plug_slots *c, struct dimm *d, GError **error)
{
    if (d->slot == ANY_SLOT) {
        for (d->slot = 0; d->slot < c->n && c->slots[d->slot].dev;)
            d->slot++;
        return d->slot < c->n || vireo_fail(error, VIREO_ERROR_INVALID, "no free slots: all %u of -m slots= are taken", c->n);
    }
    if (d->slot >= c->n)
        return vireo_fail(error, VIREO_ERROR_INVALID, "invalid slot number %u, valid range is [0-%u]", (unsigned)d->slot, c->n - 1);
    return !c->slots[d->slot].dev || vireo_fail(error, VIREO_ERROR_INVALID, "slot %u is busy", (unsigned)d->slot);
}

static bool dimm_map(struct dimm *d, GError **error)
{
    struct memory_device *md = &d->md;
    d->mapped = guest_memory_add_ram(d->dev.machine->memory, md->base, md->size, md->mem->host, md->mem->readonly, error);
    if (!d->mapped)
        guest_memory_remove_ram(d->dev.machine->memory, md->base, md->size);
    return d->mapped;
}

static bool dimm_realize(struct device *dev, GError **error)
{
    struct dimm *d = (struct dimm *)dev;
    struct machine *m = dev->machine;
    struct plug_slots *c = m->mem_slots;
    if (!d->memdev)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'memdev' property is not set");
    struct hostmem *mem = hostmem_find(m, d->memdev, error);
    if (!mem)
        return false;
    if (!c)
        return vireo_fail(error, VIREO_ERROR_INVALID, "this machine has no slots for memory modules; start it with -m SIZE,slots=N,maxmem=SIZE%s",
                          m->pci ? "" : " on the board q35");
    if (!choose_slot(c, d, error))
        return false;
    d->md = (struct memory_device){ .dev = dev, .kind = "dimm", .mem = mem, .node = (unsigned)d->node, .plugged = dimm_plugged, .describe = dimm_describe };
    if (!memory_device_add(m, &d->md, d->addr, 4096, error))
        return false;
    if (!dimm_map(d, error)) {
        memory_device_remove(m, &d->md);
        return false;
    }
    d->addr = d->md.base;
    plug_slot_fill(c, (unsigned)d->slot, dev);
    return true;
}

static bool dimm_unplug(struct device *dev, GError **error)
{
    plug_slot_ask(dev->machine->mem_slots, (unsigned)((struct dimm *)dev)->slot);
    return true;
}

static void dimm_unrealize(struct device *dev)
{
    struct dimm *d = (struct dimm *)dev;
    struct machine *m = dev->machine;
    guest_memory_remove_ram(m->memory, d->md.base, d->md.size);
    hostmem_discard(d->md.mem, 0, d->md.size);
    memory_device_remove(m, &d->md);
    if (m->mem_slots)
        plug_slot_clear(m->mem_slots, (unsigned)d->slot);
}

static struct json_object *get_size(struct device *dev, GError **error)
{
    return json_object_new_uint64(((const struct dimm *)dev)->md.size);
}

static const struct device_attr dimm_attrs[] = { { "size", "uint64", get_size, NULL }, { NULL } };
static const struct device_prop dimm_props[] = {
    { "memdev", PROP_STRING, offsetof(struct dimm, memdev), .help = "id of the memory object in it" },
    { "addr", PROP_UINT, offsetof(struct dimm, addr), .def = "0", .help = "guest address; 0: a free one" },
    { "slot", PROP_UINT, offsetof(struct dimm, slot), 0, ANY_SLOT, .def = "4294967295", .help = "slot; 4294967295: a free one" },
    { "node", PROP_UINT, offsetof(struct dimm, node), 0, 127, .def = "0", .help = "NUMA node" },
    { NULL }
};

extern const struct device_class pc_dimm_class;
const struct device_class pc_dimm_class = {
    .name = "pc-dimm", .help = "a memory module; needs -m slots= and maxmem=", .size = sizeof(struct dimm), .props = dimm_props, .user_creatable = true,
    .hotplug = true, .unplug = dimm_unplug, .stateless = true, .realize = dimm_realize, .unrealize = dimm_unrealize, .attrs = dimm_attrs,
};
