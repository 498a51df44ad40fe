/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio entropy device (virtio 1.2, 5.4): random numbers of an object or of the host's getrandom, up to 1 KiB a request (the host's generator does not block). */
#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/rng.h"
#include "vmm/dev/virtio_devices.h"

enum { QUEUE_SIZE = 8, BYTES_MAX = 1024 };

struct virtio_rng {
    struct virtio_device v;
    char *rng;
    struct object *source; /* NULL: getrandom */
};

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        uint8_t bytes[BYTES_MAX];
        size_t n = rng_read(((struct virtio_rng *)v)->source, bytes, MIN(c->in_len, sizeof(bytes)));
        virtqueue_push(c, n ? virtio_chain_write(c, 0, bytes, n) : 0);
        virtqueue_interrupt(q);
    }
}

static uint64_t features(struct virtio_device *v)
{
    return 0;
}

static bool realize(struct device *d, GError **error)
{
    static const uint16_t sizes[] = { QUEUE_SIZE };
    struct virtio_rng *r = (struct virtio_rng *)d;
    if (r->rng) {
        r->source = rng_find(d->machine, r->rng, error);
        if (!r->source)
            return false;
        r->source->user = "a virtio-rng device";
    }
    return virtio_realize((struct virtio_device *)d, 1, sizes, error);
}

static void unrealize(struct device *d)
{
    if (((struct virtio_rng *)d)->source)
        ((struct virtio_rng *)d)->source->user = NULL;
    virtio_unrealize((struct virtio_device *)d);
}

static void save(struct device *d, struct state_writer *w)
{
    virtio_save((struct virtio_device *)d, w);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    return virtio_load((struct virtio_device *)d, r, error);
}

#define T struct virtio_rng
#define RNG_PROPS { "rng", PROP_STRING, offsetof(T, rng), .help = "id of an -object rng-random or rng-builtin; default: the host's generator" }
static const struct device_prop pci_props[] = { RNG_PROPS, VIRTIO_PCI_PROPS(T, "2"), { NULL } };
static const struct device_prop mmio_props[] = { RNG_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), { NULL } };
static const struct virtio_class rng = { .name = "virtio-rng", .id = VIRTIO_ID_RNG, .pci_class = 0xff, .features = features, .queue_notify = queue_notify };

const struct device_class virtio_rng_pci_class = {
    .name = "virtio-rng-pci", .help = "random numbers of the host", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .save = save,
    .load = load, .bus_class = &rng,
};
const struct device_class virtio_rng_mmio_class = {
    .name = "virtio-rng-device", .help = "random numbers of the host, in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T),
    .props = mmio_props, .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset,
    .unrealize = unrealize, .save = save,
    .load = load, .bus_class = &rng,
};
