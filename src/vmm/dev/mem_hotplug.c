/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks: the controller's device.lock covers the slots. Modules come and go on the main thread; a guest's eject is carried out
 * there soon after (machine_call_later).
 */
#include "vmm/dev/mem_hotplug.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory_device.h"

struct dimm;
struct slot {
    struct dimm *dimm;     /* NULL: empty; the main thread writes */
    uint8_t events;        /* MEM_SLOT_CAME, MEM_SLOT_LEAVE */
    bool leaving;          /* device_del was asked for */
    bool ejected;          /* the main thread has yet to take it away */
    uint32_t ost_event;
};

struct controller {
    struct device dev;
    struct io_window window;
    struct irq_line gpe;
    struct slot *slots;
    unsigned nslots;
    uint32_t selected;
};

#define ANY_SLOT UINT64_C(0xffffffff)

struct dimm {
    struct device dev;
    char *memdev;
    uint64_t addr, slot, node;
    struct memory_device md;
    bool mapped;
};

static struct controller *controller_of(const struct machine *m)
{
    return (struct controller *)m->mem_hotplug;
}

/* --- the registers ---------------------------------------------------------------------------------------------------- */

static struct slot *selected(struct controller *c)
{
    return c->selected < c->nslots ? &c->slots[c->selected] : NULL;
}

static uint32_t next_slot(const struct controller *c)
{
    for (unsigned i = 0; i < c->nslots; i++) {
        if (c->slots[i].events)
            return i;
    }
    return UINT32_MAX;
}

static uint64_t controller_read(void *opaque, uint64_t offset, unsigned size)
{
    struct controller *c = opaque;
    const struct slot *s = selected(c);
    const struct memory_device *md = s && s->dimm && !s->ejected ? &s->dimm->md : NULL;
    if (offset >= MEM_HOTPLUG_RANGE && offset < MEM_HOTPLUG_NODE && md) {
        const uint64_t values[] = { md->base, md->base + md->size - 1, md->size };
        return (uint32_t)(values[(offset - MEM_HOTPLUG_RANGE) / 8] >> (offset & 4) * 8);
    }
    switch (offset) {
    case MEM_HOTPLUG_SELECT:
        return c->selected;
    case MEM_HOTPLUG_STATUS:
        return s ? (md ? MEM_SLOT_PRESENT : 0u) | s->events : 0;
    case MEM_HOTPLUG_NEXT:
        return next_slot(c);
    case MEM_HOTPLUG_NODE:
        return md ? md->node : 0;
    default:
        return 0;
    }
}

static void take_ejected(void *opaque)
{
    struct controller *c = opaque;
    for (unsigned i = 0; i < c->nslots; i++) {
        g_mutex_lock(&c->dev.lock);
        struct dimm *gone = c->slots[i].ejected ? c->slots[i].dimm : NULL;
        g_mutex_unlock(&c->dev.lock);
        if (gone)
            device_gone(&gone->dev);
    }
}

static void status_write(struct controller *c, uint32_t value)
{
    struct slot *s = selected(c);
    if (!s)
        return;
    s->events &= (uint8_t)~(value & (MEM_SLOT_CAME | MEM_SLOT_LEAVE));
    if (!(value & MEM_SLOT_EJECT) || !s->dimm || s->ejected)
        return;
    s->ejected = true;
    machine_call_later(c->dev.machine, take_ejected, c);
}

static struct json_object *ost_info(unsigned index, const struct slot *s, uint32_t status)
{
    g_autofree char *number = g_strdup_printf("%u", index);
    struct json_object *info = json_make("slot", json_object_new_string(number), "slot-type", json_object_new_string("DIMM"), "source",
                                         json_object_new_int64(s->ost_event), "status", json_object_new_int64(status), NULL);
    if (s->dimm->dev.id)
        json_object_object_add(info, "device", json_object_new_string(s->dimm->dev.id));
    return info;
}

/* ACPI 6.5, 6.3.5: source events that ask for a device to go; the status of those that did, or are about to. */
static bool refuses_to_go(uint32_t event, uint32_t status)
{
    bool eject = event == 3 || event == 0x103;
    return eject && status != 0 && status != 0x84;
}

static void ost_write(struct controller *c, uint32_t status)
{
    struct slot *s = selected(c);
    if (!s || !s->dimm)
        return;
    machine_post_event(c->dev.machine, "ACPI_DEVICE_OST", json_make("info", ost_info(c->selected, s, status), NULL));
    if (!s->leaving || !refuses_to_go(s->ost_event, status))
        return;
    s->leaving = false;
    const char *id = s->dimm->dev.id;
    g_autofree char *path = g_strdup_printf("/machine/peripheral%s%s", id ? "/" : "-anon", id ? id : "");
    struct json_object *data = json_make("path", json_object_new_string(path), NULL);
    if (id)
        json_object_object_add(data, "device", json_object_new_string(id));
    machine_post_event(c->dev.machine, "DEVICE_UNPLUG_GUEST_ERROR", data);
}

static void controller_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct controller *c = opaque;
    struct slot *s = selected(c);
    switch (offset) {
    case MEM_HOTPLUG_SELECT:
        c->selected = (uint32_t)value;
        break;
    case MEM_HOTPLUG_STATUS:
        status_write(c, (uint32_t)value);
        break;
    case MEM_HOTPLUG_NEXT:
        if (s)
            s->ost_event = (uint32_t)value;
        break;
    case MEM_HOTPLUG_OST:
        ost_write(c, (uint32_t)value);
        break;
    }
}

static const struct io_ops controller_ops = { controller_read, controller_write, 4, 4 };

/* A guest that starts anew finds by _STA what is there. */
static void controller_reset(struct device *d)
{
    struct controller *c = (struct controller *)d;
    g_mutex_lock(&d->lock);
    c->selected = 0;
    for (unsigned i = 0; i < c->nslots; i++) {
        c->slots[i].events = 0;
        c->slots[i].leaving = false;
    }
    g_mutex_unlock(&d->lock);
}

static bool controller_realize(struct device *d, GError **error)
{
    struct controller *c = (struct controller *)d;
    c->nslots = d->machine->config->mem_slots;
    c->slots = g_new0(struct slot, c->nslots);
    c->window = (struct io_window){ .name = "mem-hotplug", .ops = &controller_ops, .opaque = c, .lock = &d->lock, .size = MEM_HOTPLUG_SIZE, .port = true };
    io_window_map(d->machine->memory, &c->window, MEM_HOTPLUG_BASE);
    return true;
}

static void controller_unrealize(struct device *d)
{
    struct controller *c = (struct controller *)d;
    io_window_unmap(d->machine->memory, &c->window);
    d->machine->mem_hotplug = NULL;
    g_free(c->slots);
}

static const struct device_field controller_fields[] = { DEVICE_FIELD(struct controller, selected), { 0 } };
static const struct device_class controller_class = {
    .name = "mem-hotplug", .help = "registers of memory modules", .size = sizeof(struct controller), .fields = controller_fields,
    .realize = controller_realize, .reset = controller_reset, .unrealize = controller_unrealize,
};

struct device *mem_hotplug_create(struct machine *m, struct irq_line gpe, GError **error)
{
    struct device *d = device_create(m, &controller_class);
    ((struct controller *)d)->gpe = gpe;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    m->mem_hotplug = d;
    return d;
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

static bool choose_slot(struct controller *c, struct dimm *d, GError **error)
{
    if (d->slot == ANY_SLOT) {
        for (d->slot = 0; d->slot < c->nslots && c->slots[d->slot].dimm;)
            d->slot++;
        return d->slot < c->nslots || vireo_fail(error, VIREO_ERROR_INVALID, "no free slots: all %u of -m slots= are taken", c->nslots);
    }
    if (d->slot >= c->nslots)
        return vireo_fail(error, VIREO_ERROR_INVALID, "invalid slot number %u, valid range is [0-%u]", (unsigned)d->slot, c->nslots - 1);
    return !c->slots[d->slot].dimm || vireo_fail(error, VIREO_ERROR_INVALID, "slot %u is busy", (unsigned)d->slot);
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
    struct controller *c = controller_of(m);
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
    g_mutex_lock(&c->dev.lock);
    c->slots[d->slot] = (struct slot){ .dimm = d, .events = m->live ? MEM_SLOT_CAME : 0 };
    g_mutex_unlock(&c->dev.lock);
    if (m->live)
        irq_pulse(&c->gpe);
    return true;
}

/* Asking twice asks the guest again: it may have been busy, or not up yet. */
static bool dimm_unplug(struct device *dev, GError **error)
{
    struct controller *c = controller_of(dev->machine);
    g_mutex_lock(&c->dev.lock);
    struct slot *s = &c->slots[((struct dimm *)dev)->slot];
    s->events |= MEM_SLOT_LEAVE;
    s->leaving = true;
    g_mutex_unlock(&c->dev.lock);
    irq_pulse(&c->gpe);
    return true;
}

static void dimm_unrealize(struct device *dev)
{
    struct dimm *d = (struct dimm *)dev;
    struct machine *m = dev->machine;
    struct controller *c = controller_of(m);
    guest_memory_remove_ram(m->memory, d->md.base, d->md.size);
    hostmem_discard(d->md.mem, 0, d->md.size);
    memory_device_remove(m, &d->md);
    if (!c)
        return;
    g_mutex_lock(&c->dev.lock);
    c->slots[d->slot] = (struct slot){ 0 };
    g_mutex_unlock(&c->dev.lock);
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
    .hotplug = true, .unplug = dimm_unplug, .realize = dimm_realize, .unrealize = dimm_unrealize, .attrs = dimm_attrs,
};
