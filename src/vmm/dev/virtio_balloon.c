/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio memory balloon (virtio 1.2, 5.5): pages that the guest gives are given back to the host. No statistics queue. */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"

enum { Q_INFLATE, Q_DEFLATE, NQUEUES };
enum { F_DEFLATE_ON_OOM = 1 << 2 };
enum { PAGE = 4096, PFN_SHIFT = 12, QUEUE_SIZE = 128, BATCH = 256, CONFIG_SIZE = 8 };

struct virtio_balloon {
    struct virtio_device v;
    bool deflate_on_oom;
    uint32_t num_pages, actual;
};

static void give_back(struct guest_memory *m, uint64_t pfn, uint64_t count)
{
    guest_memory_discard(m, pfn << PFN_SHIFT, count * PAGE);
}

static void inflate(struct virtio_balloon *s, const struct virtio_chain *c)
{
    uint32_t pfns[BATCH];
    uint64_t start = 0, count = 0, at = 0;
    size_t n;
    while ((n = virtio_chain_read(c, at, pfns, sizeof(pfns)) / 4)) {
        at += n * 4;
        for (size_t i = 0; i < n; i++) {
            if (count && pfns[i] == start + count) {
                count++;
                continue;
            }
            if (count)
                give_back(s->v.dev.machine->memory, start, count);
            start = pfns[i];
            count = 1;
        }
    }
    if (count)
        give_back(s->v.dev.machine->memory, start, count);
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        if (c->out_len > PAGE) /* a driver sends up to 256 page numbers at a time */
            virtio_broken(v, "%" G_GUINT64_FORMAT " bytes of page numbers", c->out_len);
        else if (queue == Q_INFLATE)
            inflate((struct virtio_balloon *)v, c);
        virtqueue_push(c, 0);
        virtqueue_interrupt(q);
    }
}

static uint64_t features(struct virtio_device *v)
{
    return ((struct virtio_balloon *)v)->deflate_on_oom ? F_DEFLATE_ON_OOM : 0;
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    struct virtio_balloon *s = (struct virtio_balloon *)v;
    memcpy(ret, &s->num_pages, 4);
    memcpy(ret + 4, &s->actual, 4);
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    if (offset == 4 && size == 4)
        ((struct virtio_balloon *)v)->actual = value;
}

static void stop(struct virtio_device *v)
{
    ((struct virtio_balloon *)v)->actual = 0; /* the guest has all its memory again; the target stays */
}

static bool realize(struct device *d, GError **error)
{
    static const uint16_t sizes[NQUEUES] = { QUEUE_SIZE, QUEUE_SIZE };
    return virtio_realize((struct virtio_device *)d, NQUEUES, sizes, error);
}

static void unrealize(struct device *d)
{
    virtio_unrealize((struct virtio_device *)d);
}

#define T struct virtio_balloon
#define BALLOON_PROPS { "deflate-on-oom", PROP_BOOL, offsetof(T, deflate_on_oom), .def = "off", .help = "the guest may take pages when it runs out" }
static const struct device_prop pci_props[] = { BALLOON_PROPS, VIRTIO_PCI_PROPS(T, "3"), { NULL } };
static const struct device_prop mmio_props[] = { BALLOON_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), DEVICE_FIELD(T, num_pages), DEVICE_FIELD(T, actual), { NULL } };
static const struct virtio_class balloon = {
    .name = "virtio-balloon", .id = VIRTIO_ID_BALLOON, .pci_class = 0xff, .config_size = CONFIG_SIZE, .features = features,
    .config_read = config_read, .config_write = config_write, .queue_notify = queue_notify, .stop = stop,
};

static struct virtio_balloon *find(struct machine *m, GError **error)
{
    for (unsigned i = 0; i < m->devices->len; i++) {
        struct device *d = g_ptr_array_index(m->devices, i);
        if (d->class->bus_class == &balloon)
            return (struct virtio_balloon *)d;
    }
    vireo_fail(error, VIREO_ERROR_NOT_FOUND, "there is no balloon device; add -device virtio-balloon-pci");
    return NULL;
}

bool virtio_balloon_set_target(struct machine *m, uint64_t bytes, GError **error)
{
    struct virtio_balloon *s = find(m, error);
    if (!s)
        return false;
    if (!bytes)
        return vireo_fail(error, VIREO_ERROR_INVALID, "a balloon target of 0 bytes is not possible");
    g_mutex_lock(&s->v.dev.lock);
    uint64_t ram = m->config->ram_size;
    s->num_pages = (ram - MIN(bytes, ram)) >> PFN_SHIFT;
    virtio_config_changed(&s->v);
    g_mutex_unlock(&s->v.dev.lock);
    return true;
}

bool virtio_balloon_actual(struct machine *m, uint64_t *ret_bytes, GError **error)
{
    struct virtio_balloon *s = find(m, error);
    if (!s)
        return false;
    g_mutex_lock(&s->v.dev.lock);
    uint64_t taken = (uint64_t)s->actual << PFN_SHIFT;
    g_mutex_unlock(&s->v.dev.lock);
    *ret_bytes = m->config->ram_size - MIN(taken, m->config->ram_size);
    return true;
}

const struct device_class virtio_balloon_pci_class = {
    .name = "virtio-balloon-pci", .help = "memory balloon", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &balloon,
};
const struct device_class virtio_balloon_mmio_class = {
    .name = "virtio-balloon-device", .help = "memory balloon in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &balloon,
};
