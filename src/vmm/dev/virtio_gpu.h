/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio GPU (virtio_gpu.c), for cards that are more than that: one whose struct begins with struct virtio_gpu. */
#pragma once

#include "vmm/bus/virtio.h"

struct display;
struct state_reader;
struct state_writer;

struct virtio_gpu_rect { uint32_t x, y, width, height; };
struct virtio_gpu_config { uint32_t events_read, events_clear, scanouts, capsets; };

struct virtio_gpu {
    struct virtio_device v;
    uint64_t width, height, max_bytes, outputs; /* properties */
    bool edid, blob;
    struct display *display;
    GHashTable *resources; /* id -> struct resource * */
    uint64_t bytes;        /* of all pixels and backing lists */
    uint32_t shown;        /* id of the resource on the head; 0: none */
    struct virtio_gpu_rect view;
    struct virtio_gpu_config config;
    uint32_t cursor, hot_x, hot_y; /* the resource that the pointer looks like; 0: none */
    /* May be NULL. The guest's driver shows something now (before it is drawn), or nothing any more. Lock held. */
    void (*active)(struct virtio_gpu *g, bool on);
};

/* Members of struct virtio_class. */
uint64_t virtio_gpu_features(struct virtio_device *v);
void virtio_gpu_config_read(struct virtio_device *v, uint8_t *ret);
void virtio_gpu_config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
void virtio_gpu_queue_notify(struct virtio_device *v, unsigned queue);
void virtio_gpu_stop(struct virtio_device *v);
#define VIRTIO_GPU_CLASS(kind, subclass, stop_method, more)                                                                           \
    { .name = kind, .id = VIRTIO_ID_GPU, .pci_class = 0x03, .pci_subclass = subclass, .config_size = sizeof(struct virtio_gpu_config), \
      .features = virtio_gpu_features, .config_read = virtio_gpu_config_read, .config_write = virtio_gpu_config_write,                \
      .queue_notify = virtio_gpu_queue_notify, .stop = stop_method, .pci_more = more }

/* The device's realize and unrealize: claim the display, plug the device in. */
bool virtio_gpu_realize(struct device *d, GError **error);
void virtio_gpu_unrealize(struct device *d);

/* Its save and load (struct device_class): resources with their pixels, and what is shown. */
void virtio_gpu_save(struct device *d, struct state_writer *w);
bool virtio_gpu_load(struct device *d, struct state_reader *r, GError **error);
#define VIRTIO_GPU_FIELDS(type, member)                                                                                                 \
    DEVICE_FIELD(type, member.shown), DEVICE_FIELD(type, member.view.x), DEVICE_FIELD(type, member.view.y),                             \
    DEVICE_FIELD(type, member.view.width), DEVICE_FIELD(type, member.view.height), DEVICE_FIELD(type, member.config.events_read),       \
    DEVICE_FIELD(type, member.cursor), DEVICE_FIELD(type, member.hot_x), DEVICE_FIELD(type, member.hot_y)

/* Where struct virtio_gpu is at the beginning of struct `type`. */
#define VIRTIO_GPU_MEMBER(member) offsetof(struct virtio_gpu, member)
#define VIRTIO_GPU_PROPS(type)                                                                                                         \
    { "xres", PROP_UINT, VIRTIO_GPU_MEMBER(width), 64, 8192, .def = "1280", .help = "width in pixels that the guest is told" },        \
    { "yres", PROP_UINT, VIRTIO_GPU_MEMBER(height), 64, 8192, .def = "800", .help = "height in pixels" },                              \
    { "edid", PROP_BOOL, VIRTIO_GPU_MEMBER(edid), .def = "on", .help = "the monitor describes itself" },                               \
    { "max_outputs", PROP_UINT, VIRTIO_GPU_MEMBER(outputs), 1, 1, .def = "1", .help = "only 1: a card has one head" },                 \
    { "blob", PROP_BOOL, VIRTIO_GPU_MEMBER(blob), .def = "off", .help = "only off: pictures are copied" },                             \
    { "max_hostmem", PROP_SIZE, VIRTIO_GPU_MEMBER(max_bytes), 1 << 20, 4ull << 30, .def = "256M", .help = "memory of the host for the guest's pictures" }
