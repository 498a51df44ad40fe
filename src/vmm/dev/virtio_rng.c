/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio entropy device (virtio 1.2, 5.4): the host's getrandom, up to 1 KiB a request (the host's generator does not block). */
#include <sys/random.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/dev/virtio_devices.h"

enum { QUEUE_SIZE = 8, BYTES_MAX = 1024 };

struct virtio_rng {
    struct virtio_device v;
    char *rng;
};

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    for (unsigned i = 0; i < q->size && (c = virtqueue_pop(q)); i++) {
        uint8_t bytes[BYTES_MAX];
        ssize_t n = getrandom(bytes, MIN(c->in_len, sizeof(bytes)), GRND_NONBLOCK);
        virtqueue_push(c, n > 0 ? virtio_chain_write(c, 0, bytes, n) : 0);
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
    return virtio_realize((struct virtio_device *)d, 1, sizes, error);
}

static void unrealize(struct device *d)
{
    virtio_unrealize((struct virtio_device *)d);
}

#define T struct virtio_rng
#define RNG_PROPS { "rng", PROP_STRING, offsetof(T, rng), .help = "accepted; the source is always the host's generator" }
static const struct device_prop pci_props[] = { RNG_PROPS, VIRTIO_PCI_PROPS(T, "2"), { NULL } };
static const struct device_prop mmio_props[] = { RNG_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), { NULL } };
static const struct virtio_class rng = { .name = "virtio-rng", .id = VIRTIO_ID_RNG, .pci_class = 0xff, .features = features, .queue_notify = queue_notify };

const struct device_class virtio_rng_pci_class = {
    .name = "virtio-rng-pci", .help = "random numbers of the host", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &rng,
};
const struct device_class virtio_rng_mmio_class = {
    .name = "virtio-rng-device", .help = "random numbers of the host, in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T),
    .props = mmio_props, .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset,
    .unrealize = unrealize, .bus_class = &rng,
};
