/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio 1.2 devices, independent of their transport (virtio_pci.c, virtio_mmio.c): feature negotiation, status, split and packed
 * virtqueues with indirect descriptors and event index, interrupt suppression.
 *
 * A device struct starts with struct virtio_device, which starts with struct device; its class's bus (DEV_BUS_PCI or
 * DEV_BUS_VIRTIO) says which transport virtio_realize gives it, and class->bus_class is its struct virtio_class.
 *
 * Locks: the device's lock (struct device) covers everything here. The dispatcher holds it when a driver's register access
 * calls into a device; whoever completes requests on another thread takes it.
 *
 * Everything in guest memory is hostile: each descriptor is copied once and checked. A chain that loops, is too long, lies
 * outside RAM or is ordered wrongly breaks the device: status DEVICE_NEEDS_RESET (2.1.2), and nothing more until it is reset.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

struct iothread;
struct machine;
struct pci_device;
struct virtio_device;
struct virtqueue;

enum { VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4, VIRTIO_ID_BALLOON = 5, VIRTIO_ID_SCSI = 8, VIRTIO_ID_GPU = 16, VIRTIO_ID_INPUT = 18,
       VIRTIO_ID_MEM = 24 };
enum { VIRTIO_STATUS_ACKNOWLEDGE = 1, VIRTIO_STATUS_DRIVER = 2, VIRTIO_STATUS_DRIVER_OK = 4, VIRTIO_STATUS_FEATURES_OK = 8,
       VIRTIO_STATUS_NEEDS_RESET = 64, VIRTIO_STATUS_FAILED = 128 };
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_RING_PACKED (1ull << 34)

#define VIRTIO_MAX_QUEUES 64
#define VIRTIO_MAX_CHAIN 1024       /* descriptors of one request, indirect ones included */
#define VIRTIO_NO_VECTOR 0xffff

/* What a transport does for the device. Interrupts: called with the device's lock held; reset and destroy: without. */
struct virtio_transport_ops {
    void (*queue_interrupt)(struct virtio_device *v, unsigned queue);
    void (*config_interrupt)(struct virtio_device *v);
    void (*reset)(struct virtio_device *v);    /* machine reset: the transport's registers */
    void (*destroy)(struct virtio_device *v);
    unsigned (*vectors)(struct virtio_device *v); /* how many MSI-X vectors there are */
    void (*loaded)(struct virtio_device *v);   /* the device's registers came from a saved machine: lines follow. Lock held */
};

/* A kind of device. Methods are called with the device's lock held. */
struct virtio_class {
    const char *name;
    uint16_t id;
    uint8_t pci_class, pci_subclass;
    uint16_t config_size;
    uint64_t (*features)(struct virtio_device *v);                                 /* its own bits; the ring's are added */
    void (*features_set)(struct virtio_device *v);                                 /* may be NULL: v->features is agreed */
    void (*config_read)(struct virtio_device *v, uint8_t *ret);                    /* the whole space, config_size bytes */
    void (*config_write)(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value); /* may be NULL: read only */
    void (*queue_notify)(struct virtio_device *v, unsigned queue);                 /* buffers were added; quick */
    void (*started)(struct virtio_device *v);                                      /* may be NULL: DRIVER_OK was set */
    /* Back to the state after power-on; waits until no request touches guest memory any more (may wait on a GCond with the
     * device's lock). The queues are cleared after it. */
    void (*stop)(struct virtio_device *v);                                         /* may be NULL */
    /* May be NULL. On PCI, before it is plugged in and with no lock held: base address registers of its own (0, 2, 3), an option ROM. */
    void (*pci_more)(struct virtio_device *v, struct pci_device *d);
};

struct virtqueue {
    struct virtio_device *v;
    unsigned index;
    uint16_t max_size;            /* what the device offers */
    /* the driver's registers */
    uint16_t size, vector;
    bool enabled;
    uint64_t desc, avail, used;   /* guest physical addresses; packed: of the ring, the driver's and the device's event suppression */
    /* running state; packed: places in the ring, and how often each has wrapped */
    bool packed, avail_wrap, used_wrap;
    uint16_t last_avail, used_idx, signalled_used;
    unsigned since_signal;        /* packed: places given back since the last interrupt */
    bool signalled_valid;
    bool no_avail_events;         /* the device does not want notifications now */
    uint8_t *desc_host, *avail_host, *used_host; /* set while enabled */
    unsigned inflight;            /* requests; packed: their places */
};

struct virtio_device {
    struct device dev;
    const struct virtio_class *vclass;
    const struct virtio_transport_ops *transport;
    void *transport_data;
    struct virtio_event *event;       /* virtio_event.h */
    struct iothread *iothread;        /* serves the queues (vmm/core/iothread.h); NULL: vCPUs and the main loop do. Set before realize */
    char *iothread_user;              /* how it knows this device, while it serves it */
    uint64_t host_features, features; /* offered; agreed */
    uint8_t status;
    uint32_t config_generation;
    uint32_t epoch;                   /* counts resets */
    bool broken, stopping;
    unsigned nqueues;
    struct virtqueue queues[VIRTIO_MAX_QUEUES];
    unsigned isr;                     /* 1: used buffers, 2: configuration change (4.1.4.5) */
    uint16_t config_vector;
    uint32_t feature_select[2];       /* device's, driver's */
    uint16_t queue_select;
    uint64_t driver_features;         /* as written so far */
    /* properties of the PCI form; see VIRTIO_PCI_PROPS */
    int pci_addr;
    uint64_t pci_vectors, bootindex;
    int disable_legacy;
    bool disable_modern, indirect_desc, event_idx, iommu_platform, packed, ats, ioeventfd;
};

/* A request: buffers the device reads (out) first, then those it writes (in), as host pointers into guest RAM. */
struct virtio_chain {
    struct virtqueue *queue;
    uint16_t head, places;        /* what names it to the driver; packed: its places in the ring */
    uint32_t epoch;
    unsigned nout, nin;
    uint64_t out_len, in_len;     /* bytes */
    struct iovec *iov;            /* nout + nin */
    uint64_t *gpa;                /* of each */
};

/* Called from a device's realize after its own fields are set: allocates queues of the given maximum sizes, then plugs it into
 * its transport. On failure nothing remains. */
bool virtio_realize(struct virtio_device *v, unsigned nqueues, const uint16_t *sizes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void virtio_unrealize(struct virtio_device *v);
void virtio_device_reset(struct device *d); /* struct device_class.reset of every virtio device */
/* The configuration space changed: generation, interrupt. Lock held. */
void virtio_config_changed(struct virtio_device *v);
/* The driver broke the rules: DEVICE_NEEDS_RESET. Lock held. */
void virtio_broken(struct virtio_device *v, const char *format, ...) G_GNUC_PRINTF(2, 3);
static inline bool virtio_has(const struct virtio_device *v, uint64_t feature) { return (v->features & feature) == feature; }
static inline bool virtio_running(const struct virtio_device *v)
{
    return (v->status & VIRTIO_STATUS_DRIVER_OK) && !v->broken;
}

/* ---- queues; lock held ---- */

/* The next request, or NULL: none, or the device broke. The caller gives it back by virtqueue_push (or _unpop). */
struct virtio_chain *virtqueue_pop(struct virtqueue *q) G_GNUC_WARN_UNUSED_RESULT;
/* Puts the last popped request back as if it had not been taken, and frees it. */
void virtqueue_unpop(struct virtqueue *q, struct virtio_chain *c);
/* Whether a request waits. */
bool virtqueue_ready(struct virtqueue *q);
/* Returns a request to the driver with `written` bytes in its `in` buffers, frees it. One of an earlier epoch is only freed.
 * virtqueue_interrupt follows after the last of a batch. */
void virtqueue_push(struct virtio_chain *c, uint32_t written);
/* Several requests at once become visible together (mergeable receive buffers). */
void virtqueue_push_batch(struct virtio_chain **c, const uint32_t *written, unsigned n);
void virtqueue_interrupt(struct virtqueue *q);
/* Asks for (or not) notifications. True: requests came in meanwhile, look again. */
bool virtqueue_want_notify(struct virtqueue *q, bool on);
/* The rings for somebody else (the kernel): nothing is popped or pushed until virtqueue_take_back, with the place in the available
 * ring where that other has stopped; what it had taken, it has given back. False: the queue is not enabled, packed, or broken. */
struct virtqueue_rings { void *desc, *avail, *used; unsigned size; uint16_t last_avail; };
bool virtqueue_hand_over(struct virtqueue *q, struct virtqueue_rings *ret) G_GNUC_WARN_UNUSED_RESULT;
void virtqueue_take_back(struct virtqueue *q, uint16_t last_avail);
void virtio_chain_free(struct virtio_chain *c);
/* Copies from the out buffers / to the in buffers from byte `offset` on; returns how many bytes there were. */
size_t virtio_chain_read(const struct virtio_chain *c, uint64_t offset, void *ret, size_t n);
size_t virtio_chain_write(struct virtio_chain *c, uint64_t offset, const void *data, size_t n);
/* The first n bytes of the in buffers were written through iov, and the request is not (yet) pushed. */
void virtio_chain_written(const struct virtio_chain *c, uint64_t n);

/* ---- for transports; lock held ---- */
void virtio_set_status(struct virtio_device *v, uint8_t status); /* 0: reset */
uint32_t virtio_device_features(struct virtio_device *v, uint32_t select);
void virtio_driver_features(struct virtio_device *v, uint32_t select, uint32_t value);
uint64_t virtio_config_get(struct virtio_device *v, uint64_t offset, unsigned size); /* all ones outside */
void virtio_config_set(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value);
void virtqueue_enable(struct virtqueue *q); /* checks the rings' places */
void virtqueue_disable(struct virtqueue *q);
void virtio_notify(struct virtio_device *v, uint32_t queue);
void virtio_serve(struct virtio_device *v, uint32_t queue); /* the same, now and on this thread */

bool virtio_pci_plug(struct machine *m, struct virtio_device *v, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- MMIO slots (microvm): the board defines them before devices are realized ---- */

/* `count` register windows of 0x200 bytes, `stride` apart from `base`, with one interrupt line each (copied). Sets
 * m->virtio_mmio. */
void virtio_mmio_define_slots(struct machine *m, uint64_t base, uint64_t stride, unsigned count, const struct irq_line *lines);
void virtio_mmio_destroy_slots(struct machine *m); /* after the devices; NULL allowed */
/* How many slots are taken: always the first ones, in the order of the devices. For command line or ACPI. */
unsigned virtio_mmio_used(const struct machine *m);
bool virtio_mmio_plug(struct machine *m, struct virtio_device *v, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Property rows of every virtio device in a struct `type` whose first member is struct virtio_device `v`. */
extern const char *const virtio_on_off_auto[];
#define VIRTIO_COMMON_PROPS(type)                                                                                           \
    { "indirect_desc", PROP_BOOL, offsetof(type, v.indirect_desc), .def = "on", .help = "offer indirect descriptors" },      \
    { "event_idx", PROP_BOOL, offsetof(type, v.event_idx), .def = "on", .help = "offer the event index" },                   \
    { "ioeventfd", PROP_BOOL, offsetof(type, v.ioeventfd), .def = "on", .help = "notifications by eventfd where the accelerator can" }, \
    { "iommu_platform", PROP_BOOL, offsetof(type, v.iommu_platform), .def = "off", .help = "only off: there is no IOMMU" },  \
    { "packed", PROP_BOOL, offsetof(type, v.packed), .def = "off", .help = "offer packed queues" },      \
    { "bootindex", PROP_UINT, offsetof(type, v.bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" }
/* State rows of every virtio device. */
#define VIRTIO_FIELDS(type)                                                                                                 \
    DEVICE_FIELD(type, v.features), DEVICE_FIELD(type, v.driver_features), DEVICE_FIELD(type, v.status),                      \
    DEVICE_FIELD(type, v.config_generation), DEVICE_FIELD(type, v.broken), DEVICE_FIELD(type, v.isr),                         \
    DEVICE_FIELD(type, v.config_vector), DEVICE_ARRAY(type, v.feature_select), DEVICE_FIELD(type, v.queue_select)
#define VIRTIO_PCI_PROPS(type, nvectors)                                                                                    \
    { "addr", PROP_PCI_ADDR, offsetof(type, v.pci_addr), .def = "-1", .help = "slot[.function]" },                           \
    { "vectors", PROP_UINT, offsetof(type, v.pci_vectors), 0, 2048, .def = nvectors, .help = "MSI-X vectors; 0: INTx" },     \
    { "disable-legacy", PROP_ENUM, offsetof(type, v.disable_legacy), .values = virtio_on_off_auto, .def = "on",              \
      .help = "the legacy interface is never there" },                                                                      \
    { "disable-modern", PROP_BOOL, offsetof(type, v.disable_modern), .def = "off", .help = "only off" },                     \
    { "ats", PROP_BOOL, offsetof(type, v.ats), .def = "off", .help = "only off: there is no IOMMU" },                        \
    VIRTIO_COMMON_PROPS(type)

/* ---- saving and loading; device lock held ---- */

/* The queues and the transport, for a class's save and load; the field table has VIRTIO_FIELDS. Nothing is in flight: what drain could not
 * end is saved by virtio_chain_save, after virtio_save. virtio_load checks it all, brings the queues to life and has each looked at once when the
 * machine runs. Values are named "virtio.". */
void virtio_save(struct virtio_device *v, struct state_writer *w);
bool virtio_load(struct virtio_device *v, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A request that was popped and not given back, by a name of the device's choice, and how it comes back. */
void virtio_chain_save(const struct virtio_chain *c, struct state_writer *w, const char *name);
struct virtio_chain *virtio_chain_load(struct virtio_device *v, struct state_reader *r, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Up to `max` of them, "request0" to as many as the value "requests" says, to the end of the queue; those before an error as well. */
bool virtio_chains_load(struct virtio_device *v, struct state_reader *r, uint64_t max, GQueue *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
