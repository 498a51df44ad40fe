/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio memory device (virtio 1.2, 5.15): a region of guest addresses in which the guest plugs and unplugs blocks, as many as
 * `requested-size` asks for. All is unplugged at first and after a reset of the machine, not after one of the device.
 *
 * Guest addresses are given memory in chunks, as far as the usable region reaches: a guest that touches blocks which it has not
 * plugged takes memory of the host, but no more than the last chunk it was allowed to use.
 */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/machine.h"
#include "vmm/core/memory_device.h"
#include "vmm/core/numa.h"
#include "vmm/core/state.h"
#include "vmm/dev/virtio_devices.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define BLOCK_MIN MIB
#define BLOCK_DEFAULT (2 * MIB)
#define USABLE_EXTRA (512 * MIB) /* a guest that adds memory in larger pieces than blocks needs room to round up */
enum { QUEUE_SIZE = 128, CHUNKS_MAX = 32 };

/* 5.15.3, 5.15.6 */
enum { VIRTIO_MEM_F_ACPI_PXM = 0, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE = 1 };
enum { VIRTIO_MEM_REQ_PLUG, VIRTIO_MEM_REQ_UNPLUG, VIRTIO_MEM_REQ_UNPLUG_ALL, VIRTIO_MEM_REQ_STATE };
enum { VIRTIO_MEM_RESP_ACK, VIRTIO_MEM_RESP_NACK, VIRTIO_MEM_RESP_BUSY, VIRTIO_MEM_RESP_ERROR };
enum { VIRTIO_MEM_STATE_PLUGGED, VIRTIO_MEM_STATE_UNPLUGGED, VIRTIO_MEM_STATE_MIXED };
struct virtio_mem_config { /* 5.15.4 */
    uint64_t block_size;
    uint16_t node_id;
    uint8_t padding[6];
    uint64_t addr, region_size, usable_region_size, plugged_size, requested_size;
};
struct virtio_mem_req {
    uint16_t type, padding[3];
    uint64_t addr; /* of all but UNPLUG_ALL */
    uint16_t nb_blocks, padding2[3];
};
struct virtio_mem_resp {
    uint16_t type, padding[3];
    uint16_t state; /* of STATE */
};

static const char *const on_off_auto[] = { "off", "on", "auto", NULL };
enum { OFF, ON, AUTO };

struct virtio_mem {
    struct virtio_device v;
    char *memdev;
    uint64_t requested, block, node, memaddr;
    int inaccessible;
    bool prealloc;
    struct memory_device md;
    uint64_t usable, plugged, chunk, mapped; /* mapped: bytes from the start; a multiple of chunk, or all; main thread */
    uint8_t *blocks;                         /* one bit each: plugged */
    bool telling, mapping;                   /* calls on their way to the main thread */
};

/* ---- blocks ---- */

static bool block_plugged(const struct virtio_mem *s, uint64_t n)
{
    return s->blocks[n / 8] >> n % 8 & 1;
}

/* Counts the plugged ones among n blocks from `first`. */
static uint64_t count_plugged(const struct virtio_mem *s, uint64_t first, uint64_t n)
{
    uint64_t found = 0;
    for (uint64_t i = first; i < first + n; i++)
        found += block_plugged(s, i);
    return found;
}

static void set_blocks(struct virtio_mem *s, uint64_t first, uint64_t n, bool plugged)
{
    for (uint64_t i = first; i < first + n; i++) {
        uint8_t bit = (uint8_t)(1u << i % 8);
        s->blocks[i / 8] = (uint8_t)(plugged ? s->blocks[i / 8] | bit : s->blocks[i / 8] & ~bit);
    }
}

static void tell_size(void *opaque)
{
    struct virtio_mem *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    uint64_t size = s->plugged;
    s->telling = false;
    g_mutex_unlock(&s->v.dev.lock);
    g_autofree char *path = device_path(&s->v.dev);
    struct json_object *data = json_make("size", json_object_new_uint64(size), "qom-path", json_object_new_string(path), NULL);
    if (s->v.dev.id)
        json_object_object_add(data, "id", json_object_new_string(s->v.dev.id));
    machine_event(s->v.dev.machine, "MEMORY_DEVICE_SIZE_CHANGE", data);
}

static void size_changed(struct virtio_mem *s)
{
    if (s->telling)
        return;
    s->telling = true; /* one call waits at most */
    machine_call_later(s->v.dev.machine, tell_size, s);
}

static void discard(struct virtio_mem *s, uint64_t first, uint64_t n)
{
    struct guest_memory *m = s->v.dev.machine->memory;
    hostmem_discard(s->md.mem, first * s->block, n * s->block);
    guest_memory_written(m, s->md.base + first * s->block, n * s->block);
}

/* ---- how far the region may be used ---- */

static uint64_t usable_for(const struct virtio_mem *s, uint64_t requested)
{
    return requested ? MIN(s->md.size, (requested + USABLE_EXTRA + s->block - 1) & ~(s->block - 1)) : 0;
}

/* Main thread: gives addresses to what is usable, takes them from what is not. */
static bool map_usable(struct virtio_mem *s, GError **error)
{
    struct guest_memory *m = s->v.dev.machine->memory;
    g_mutex_lock(&s->v.dev.lock);
    uint64_t want = MIN(s->md.size, (s->usable + s->chunk - 1) / s->chunk * s->chunk);
    s->mapping = false;
    g_mutex_unlock(&s->v.dev.lock);
    while (s->mapped < want) {
        uint64_t n = MIN(s->chunk, s->md.size - s->mapped);
        if (!guest_memory_add_ram(m, s->md.base + s->mapped, n, s->md.mem->host + s->mapped, false, error)) {
            guest_memory_remove_ram(m, s->md.base + s->mapped, n);
            return false;
        }
        s->mapped += n;
    }
    while (s->mapped > want) {
        uint64_t last = (s->mapped - 1) / s->chunk * s->chunk, n = s->mapped - last;
        guest_memory_remove_ram(m, s->md.base + last, n);
        hostmem_discard(s->md.mem, last, n);
        s->mapped = last;
    }
    return true;
}

static void map_later(void *opaque)
{
    (void)!map_usable(opaque, NULL);
}

static void unplug_all(struct virtio_mem *s)
{
    uint64_t n = s->md.size / s->block;
    discard(s, 0, (s->usable + s->block - 1) / s->block);
    set_blocks(s, 0, n, false);
    if (s->plugged)
        size_changed(s);
    s->plugged = 0;
    s->usable = usable_for(s, s->requested);
    if (!s->mapping) {
        s->mapping = true;
        machine_call_later(s->v.dev.machine, map_later, s);
    }
}

/* ---- requests (5.15.6) ---- */

/* The blocks a request is about, when it may be about them. */
static bool find_blocks(const struct virtio_mem *s, uint64_t addr, uint16_t nb, uint64_t *ret_first)
{
    uint64_t offset = addr - s->md.base, size = nb * s->block;
    if (addr < s->md.base || offset % s->block || !nb || size > s->usable || offset > s->usable - size)
        return false;
    *ret_first = offset / s->block;
    return true;
}

static uint16_t plug(struct virtio_mem *s, uint64_t first, uint16_t nb)
{
    if (count_plugged(s, first, nb))
        return VIRTIO_MEM_RESP_ERROR;
    if (s->plugged + nb * s->block > s->requested)
        return VIRTIO_MEM_RESP_NACK;
    set_blocks(s, first, nb, true);
    s->plugged += nb * s->block;
    size_changed(s);
    return VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug(struct virtio_mem *s, uint64_t first, uint16_t nb)
{
    if (count_plugged(s, first, nb) != nb)
        return VIRTIO_MEM_RESP_ERROR;
    set_blocks(s, first, nb, false);
    discard(s, first, nb);
    s->plugged -= nb * s->block;
    size_changed(s);
    return VIRTIO_MEM_RESP_ACK;
}

static struct virtio_mem_resp answer(struct virtio_mem *s, const struct virtio_mem_req *r)
{
    struct virtio_mem_resp resp = { .type = VIRTIO_MEM_RESP_ERROR };
    uint64_t first = 0, n;
    if (r->type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
        unplug_all(s);
        resp.type = VIRTIO_MEM_RESP_ACK;
        return resp;
    }
    if (r->type > VIRTIO_MEM_REQ_STATE || !find_blocks(s, r->addr, r->nb_blocks, &first))
        return resp;
    switch (r->type) {
    case VIRTIO_MEM_REQ_PLUG:
        resp.type = plug(s, first, r->nb_blocks);
        break;
    case VIRTIO_MEM_REQ_UNPLUG:
        resp.type = unplug(s, first, r->nb_blocks);
        break;
    case VIRTIO_MEM_REQ_STATE:
        n = count_plugged(s, first, r->nb_blocks);
        resp.type = VIRTIO_MEM_RESP_ACK;
        resp.state = n == r->nb_blocks ? VIRTIO_MEM_STATE_PLUGGED : n ? VIRTIO_MEM_STATE_MIXED : VIRTIO_MEM_STATE_UNPLUGGED;
        break;
    }
    return resp;
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        struct virtio_mem_req req;
        struct virtio_mem_resp resp;
        if (virtio_chain_read(c, 0, &req, sizeof(req)) < sizeof(req) || c->in_len < sizeof(resp)) {
            virtio_broken(v, "a request of %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " bytes is too short", c->out_len, c->in_len);
            virtqueue_push(c, 0);
            return;
        }
        resp = answer((struct virtio_mem *)v, &req);
        virtqueue_push(c, (uint32_t)virtio_chain_write(c, 0, &resp, sizeof(resp)));
        virtqueue_interrupt(q);
    }
}

static uint64_t features(struct virtio_device *v)
{
    struct virtio_mem *s = (struct virtio_mem *)v;
    return (v->dev.machine->numa->nnodes ? 1u << VIRTIO_MEM_F_ACPI_PXM : 0) | (s->inaccessible != OFF ? 1u << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE : 0);
}

static void features_set(struct virtio_device *v)
{
    if (((struct virtio_mem *)v)->inaccessible == ON && !virtio_has(v, 1u << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE))
        virtio_broken(v, "the driver does not promise to leave unplugged memory alone (unplugged-inaccessible=on)");
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    const struct virtio_mem *s = (const struct virtio_mem *)v;
    struct virtio_mem_config c = { .block_size = s->block, .node_id = (uint16_t)s->node, .addr = s->md.base, .region_size = s->md.size,
                                   .usable_region_size = s->usable, .plugged_size = s->plugged, .requested_size = s->requested };
    memcpy(ret, &c, sizeof(c));
}

/* ---- the host's side ---- */

static bool check_requested(const struct virtio_mem *s, uint64_t size, GError **error)
{
    if (size > s->md.size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'requested-size' cannot exceed the memory backend size (0x%" G_GINT64_MODIFIER "x)", s->md.size);
    if (size % s->block)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'requested-size' has to be multiples of 'block-size' (0x%" G_GINT64_MODIFIER "x)", s->block);
    return true;
}

static struct json_object *get_requested(struct device *d, GError **error)
{
    return json_object_new_uint64(((const struct virtio_mem *)d)->requested);
}

static bool set_requested(struct device *d, struct json_object *value, GError **error)
{
    struct virtio_mem *s = (struct virtio_mem *)d;
    int64_t size = json_object_get_int64(value);
    if (!json_object_is_type(value, json_type_int) || size < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'requested-size' takes a number of bytes");
    if (!check_requested(s, (uint64_t)size, error))
        return false;
    g_mutex_lock(&d->lock);
    uint64_t old = s->requested, old_usable = s->usable;
    s->requested = (uint64_t)size;
    s->usable = s->plugged ? MAX(s->usable, usable_for(s, s->requested)) : usable_for(s, s->requested);
    g_mutex_unlock(&d->lock);
    if (!map_usable(s, error)) {
        g_mutex_lock(&d->lock);
        s->requested = old;
        s->usable = old_usable;
        g_mutex_unlock(&d->lock);
        return false;
    }
    g_mutex_lock(&d->lock);
    if (old != s->requested)
        virtio_config_changed(&s->v);
    g_mutex_unlock(&d->lock);
    return true;
}

static uint64_t plugged_bytes(const struct memory_device *md)
{
    struct virtio_mem *s = (struct virtio_mem *)md->dev;
    g_mutex_lock(&s->v.dev.lock);
    uint64_t size = s->plugged;
    g_mutex_unlock(&s->v.dev.lock);
    return size;
}

static struct json_object *get_size(struct device *d, GError **error)
{
    return json_object_new_uint64(plugged_bytes(&((struct virtio_mem *)d)->md));
}

static void describe(const struct memory_device *md, struct json_object *data)
{
    const struct virtio_mem *s = (const struct virtio_mem *)md->dev;
    json_object_object_add(data, "memaddr", json_object_new_uint64(md->base));
    json_object_object_add(data, "requested-size", json_object_new_uint64(s->requested));
    json_object_object_add(data, "size", json_object_new_uint64(plugged_bytes(md)));
    json_object_object_add(data, "max-size", json_object_new_uint64(md->size));
    json_object_object_add(data, "block-size", json_object_new_uint64(s->block));
}

static const struct device_attr attrs[] = {
    { "requested-size", "size", get_requested, set_requested }, { "size", "size", get_size, NULL }, { NULL }
};

/* ---- life ---- */

static bool check_props(struct virtio_mem *s, struct hostmem *mem, GError **error)
{
    uint64_t least = MAX(mem->page_size, BLOCK_MIN);
    s->block = s->block ? s->block : MAX(mem->page_size, BLOCK_DEFAULT);
    if (s->block < least || (s->block & (s->block - 1)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'block-size' property has to be a power of two of at least 0x%" G_GINT64_MODIFIER "x", least);
    if (mem->size % s->block)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'memdev' property: the size 0x%" G_GINT64_MODIFIER "x of '%s' has to be multiples of 'block-size' "
                          "(0x%" G_GINT64_MODIFIER "x)", mem->size, mem->obj.id, s->block);
    if (mem->readonly)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'memdev' property: '%s' is readonly", mem->obj.id);
    if (s->prealloc || mem->prealloc)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "prealloc=on is not available: memory is taken as the guest touches it; leave it out here and at "
                          "the memory object");
    return true;
}

static bool place(struct virtio_mem *s, struct hostmem *mem, GError **error)
{
    struct machine *m = s->v.dev.machine;
    s->md = (struct memory_device){ .dev = &s->v.dev, .kind = "virtio-mem", .mem = mem, .node = (unsigned)s->node, .plugged = plugged_bytes,
                                    .describe = describe };
    if (!memory_device_add(m, &s->md, s->memaddr, s->block, error))
        return false;
    s->memaddr = s->md.base;
    s->chunk = MAX((s->md.size / CHUNKS_MAX + GIB - 1) / GIB * GIB, GIB);
    s->blocks = g_malloc0(s->md.size / s->block / 8 + 1);
    s->usable = usable_for(s, s->requested);
    return check_requested(s, s->requested, error) && map_usable(s, error);
}

static void leave(struct virtio_mem *s)
{
    s->usable = 0;
    if (s->chunk)
        (void)!map_usable(s, NULL);
    memory_device_remove(s->v.dev.machine, &s->md);
    g_clear_pointer(&s->blocks, g_free);
}

static bool realize(struct device *d, GError **error)
{
    static const uint16_t sizes[] = { QUEUE_SIZE };
    struct virtio_mem *s = (struct virtio_mem *)d;
    if (!s->memdev)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'memdev' property is not set");
    struct hostmem *mem = hostmem_find(d->machine, s->memdev, error);
    if (!mem || !check_props(s, mem, error))
        return false;
    if (place(s, mem, error) && virtio_realize(&s->v, 1, sizes, error))
        return true;
    leave(s);
    return false;
}

static void unrealize(struct device *d)
{
    virtio_unrealize((struct virtio_device *)d);
    leave((struct virtio_mem *)d);
}

/* The machine starts anew: without the memory that its last guest had plugged. */
static void reset(struct device *d)
{
    g_mutex_lock(&d->lock);
    unplug_all((struct virtio_mem *)d);
    g_mutex_unlock(&d->lock);
    virtio_device_reset(d);
}

static uint32_t bitmap_bytes(const struct virtio_mem *s)
{
    return (uint32_t)((s->md.size / s->block + 7) / 8);
}

static void save(struct device *d, struct state_writer *w)
{
    const struct virtio_mem *s = (struct virtio_mem *)d;
    virtio_save(&((struct virtio_mem *)d)->v, w);
    state_put_u64(w, "base", s->md.base);
    state_put_u64(w, "block", s->block);
    state_put(w, "blocks", s->blocks, 1, bitmap_bytes(s));
}

static bool state_ok(struct virtio_mem *s, struct state_reader *r, GError **error)
{
    uint64_t base, block, n = s->md.size / s->block;
    if (!state_get_u64(r, "base", UINT64_MAX, &base, error) || !state_get_u64(r, "block", UINT64_MAX, &block, error))
        return false;
    if (base != s->md.base || block != s->block)
        return state_bad(r, error, "its memory is at 0x%" G_GINT64_MODIFIER "x in blocks of 0x%" G_GINT64_MODIFIER "x bytes there, here at 0x%" G_GINT64_MODIFIER
                         "x in blocks of 0x%" G_GINT64_MODIFIER "x", base, block, s->md.base, s->block);
    if (!state_get(r, "blocks", s->blocks, 1, bitmap_bytes(s), error))
        return false;
    if (s->usable > s->md.size || s->usable % s->block || s->requested > s->md.size || s->requested % s->block ||
        s->plugged != count_plugged(s, 0, s->usable / s->block) * s->block || count_plugged(s, s->usable / s->block, n - s->usable / s->block))
        return state_bad(r, error, "its sizes do not belong together");
    return true;
}

/* Without the lock: memory comes to its addresses. */
static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_mem *s = (struct virtio_mem *)d;
    bool ok = state_ok(s, r, error);
    if (!ok) {
        memset(s->blocks, 0, bitmap_bytes(s));
        s->plugged = s->requested = s->usable = 0;
        return false;
    }
    g_mutex_unlock(&d->lock);
    ok = map_usable(s, error);
    g_mutex_lock(&d->lock);
    return ok && virtio_load(&s->v, r, error);
}

#define T struct virtio_mem
static const struct device_prop props[] = {
    { "memdev", PROP_STRING, offsetof(T, memdev), .help = "id of the memory object that it gives out" },
    { "requested-size", PROP_SIZE, offsetof(T, requested), .def = "0", .help = "what the guest is asked to plug; qom-set changes it" },
    { "block-size", PROP_SIZE, offsetof(T, block), .def = "0", .help = "unit of plugging; 0: 2 MiB, or the size of the memory's pages" },
    { "node", PROP_UINT, offsetof(T, node), 0, 127, .def = "0", .help = "NUMA node" },
    { "memaddr", PROP_UINT, offsetof(T, memaddr), .def = "0", .help = "guest address; 0: a free one" },
    { "unplugged-inaccessible", PROP_ENUM, offsetof(T, inaccessible), .values = on_off_auto, .def = "auto",
      .help = "on: only drivers that promise to leave unplugged memory alone" },
    { "prealloc", PROP_BOOL, offsetof(T, prealloc), .def = "off", .help = "only off" },
    VIRTIO_PCI_PROPS(T, "2"), { NULL }
};
static const struct device_field fields[] = { VIRTIO_FIELDS(T), DEVICE_FIELD(T, requested), DEVICE_FIELD(T, usable), DEVICE_FIELD(T, plugged), { NULL } };
static const struct virtio_class virtio_mem = {
    .name = "virtio-mem", .id = VIRTIO_ID_MEM, .pci_class = 0xff, .config_size = sizeof(struct virtio_mem_config), .features = features,
    .features_set = features_set, .config_read = config_read, .queue_notify = queue_notify,
};

extern const struct device_class virtio_mem_pci_class;
const struct device_class virtio_mem_pci_class = {
    .name = "virtio-mem-pci", .help = "memory that comes and goes in blocks; needs -m maxmem=", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .attrs = attrs, .save = save, .load = load,
    .bus_class = &virtio_mem,
};
