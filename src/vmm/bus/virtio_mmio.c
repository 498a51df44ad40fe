/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio over MMIO, register layout version 2 (virtio 1.2, 4.2), in slots that the board defines. */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/machine.h"

/* 4.2.2 */
enum { REG_MAGIC = 0x000, REG_VERSION = 0x004, REG_DEVICE_ID = 0x008, REG_VENDOR_ID = 0x00c, REG_DEVICE_FEATURES = 0x010,
       REG_DEVICE_FEATURES_SEL = 0x014, REG_DRIVER_FEATURES = 0x020, REG_DRIVER_FEATURES_SEL = 0x024, REG_QUEUE_SEL = 0x030,
       REG_QUEUE_NUM_MAX = 0x034, REG_QUEUE_NUM = 0x038, REG_QUEUE_READY = 0x044, REG_QUEUE_NOTIFY = 0x050,
       REG_INTERRUPT_STATUS = 0x060, REG_INTERRUPT_ACK = 0x064, REG_STATUS = 0x070, REG_QUEUE_DESC = 0x080,
       REG_QUEUE_DRIVER = 0x090, REG_QUEUE_DEVICE = 0x0a0, REG_SHM_LEN = 0x0b0, REG_SHM_BASE = 0x0b8, REG_GENERATION = 0x0fc,
       REG_CONFIG = 0x100, WINDOW_SIZE = 0x200 };
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

struct slot {
    struct io_window window;
    struct irq_line irq;
    struct virtio_device *v;
};

struct virtio_mmio_slots {
    uint64_t base, stride;
    unsigned count, used;
    struct slot *slots;
};

/* ---- registers; device lock held ---- */

static uint64_t reg_read(void *opaque, uint64_t offset, unsigned size)
{
    struct slot *s = opaque;
    struct virtio_device *v = s->v;
    struct virtqueue *q = v->queue_select < v->nqueues ? &v->queues[v->queue_select] : NULL;
    if (offset >= REG_CONFIG)
        return virtio_config_get(v, offset - REG_CONFIG, size);
    if (size != 4)
        return 0;
    switch (offset) {
    case REG_MAGIC: return 0x74726976;
    case REG_VERSION: return 2;
    case REG_DEVICE_ID: return v->vclass->id;
    case REG_VENDOR_ID: return 0x4f524956; /* "VIRO" */
    case REG_DEVICE_FEATURES: return virtio_device_features(v, v->feature_select[0]);
    case REG_QUEUE_NUM_MAX: return q ? q->max_size : 0;
    case REG_QUEUE_READY: return q ? q->enabled : 0;
    case REG_INTERRUPT_STATUS: return v->isr;
    case REG_STATUS: return v->status;
    case REG_GENERATION: return v->config_generation;
    case REG_SHM_LEN: case REG_SHM_LEN + 4: case REG_SHM_BASE: case REG_SHM_BASE + 4: return ~0u; /* no such region */
    default: return 0;
    }
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
    *field = high ? (*field & 0xffffffff) | (uint64_t)value << 32 : (*field & ~0xffffffffull) | value;
}

static void queue_write(struct virtio_device *v, unsigned offset, uint32_t value)
{
    struct virtqueue *q = v->queue_select < v->nqueues ? &v->queues[v->queue_select] : NULL;
    if (!q || v->stopping)
        return;
    if (q->enabled) {
        /* Taking a single queue away while the device runs is allowed by 4.2.3.2 only for a reset; drivers do it on removal. */
        if (offset == REG_QUEUE_READY && !value && !q->inflight) {
            virtqueue_disable(q);
            virtio_event_update(v->event);
        }
        return;
    }
    switch (offset) {
    case REG_QUEUE_NUM: q->size = MIN(value, 0xffffu); break;
    case REG_QUEUE_READY:
        if (value == 1)
            virtqueue_enable(q);
        virtio_event_update(v->event);
        break;
    case REG_QUEUE_DESC: case REG_QUEUE_DESC + 4: set_half(&q->desc, offset & 4, value); break;
    case REG_QUEUE_DRIVER: case REG_QUEUE_DRIVER + 4: set_half(&q->avail, offset & 4, value); break;
    case REG_QUEUE_DEVICE: case REG_QUEUE_DEVICE + 4: set_half(&q->used, offset & 4, value); break;
    }
}

static void reg_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct slot *s = opaque;
    struct virtio_device *v = s->v;
    if (offset >= REG_CONFIG) {
        virtio_config_set(v, offset - REG_CONFIG, size, value);
        return;
    }
    if (size != 4)
        return;
    switch (offset) {
    case REG_DEVICE_FEATURES_SEL: v->feature_select[0] = value; break;
    case REG_DRIVER_FEATURES_SEL: v->feature_select[1] = value; break;
    case REG_DRIVER_FEATURES: virtio_driver_features(v, v->feature_select[1], value); break;
    case REG_QUEUE_SEL: v->queue_select = MIN(value, 0xffffu); break;
    case REG_QUEUE_NOTIFY: virtio_notify(v, value); break;
    case REG_INTERRUPT_ACK:
        v->isr &= ~value;
        irq_set(&s->irq, v->isr);
        break;
    case REG_STATUS:
        virtio_set_status(v, value);
        irq_set(&s->irq, v->isr);
        break;
    default: queue_write(v, offset, value);
    }
}

static const struct io_ops ops = { reg_read, reg_write, 1, 4 };

/* ---- transport ---- */

static void queue_interrupt(struct virtio_device *v, unsigned queue)
{
    v->isr |= ISR_QUEUE;
    irq_set(&((struct slot *)v->transport_data)->irq, true);
}

static void config_interrupt(struct virtio_device *v)
{
    v->isr |= ISR_CONFIG;
    irq_set(&((struct slot *)v->transport_data)->irq, true);
}

static void transport_reset(struct virtio_device *v)
{
    irq_set(&((struct slot *)v->transport_data)->irq, false);
}

static void transport_destroy(struct virtio_device *v)
{
    struct slot *s = v->transport_data;
    virtio_event_destroy(v->event);
    transport_reset(v);
    io_window_unmap(v->dev.machine->memory, &s->window);
    s->v = NULL;
}

static bool notify_at(struct virtio_device *v, unsigned queue, uint64_t *ret_address, unsigned *ret_size, bool *ret_match)
{
    const struct slot *s = v->transport_data;
    *ret_address = s->window.base + REG_QUEUE_NOTIFY;
    *ret_size = 4;
    *ret_match = true; /* one register for all queues */
    return s->window.mapped;
}

static const struct virtio_event_ops event_ops = { notify_at, NULL };

static unsigned vectors(struct virtio_device *v)
{
    return 0;
}

static void loaded(struct virtio_device *v)
{
    irq_set(&((struct slot *)v->transport_data)->irq, v->isr != 0);
}

static const struct virtio_transport_ops transport = { queue_interrupt, config_interrupt, transport_reset, transport_destroy, vectors, loaded };

void virtio_mmio_define_slots(struct machine *m, uint64_t base, uint64_t stride, unsigned count, const struct irq_line *lines)
{
    struct virtio_mmio_slots *all = g_new0(struct virtio_mmio_slots, 1);
    all->base = base;
    all->stride = stride;
    all->count = count;
    all->slots = g_new0(struct slot, count);
    for (unsigned i = 0; i < count; i++)
        all->slots[i].irq = lines[i];
    m->virtio_mmio = all;
}

void virtio_mmio_destroy_slots(struct machine *m)
{
    if (!m->virtio_mmio)
        return;
    g_free(m->virtio_mmio->slots);
    g_clear_pointer(&m->virtio_mmio, g_free);
}

unsigned virtio_mmio_used(const struct machine *m)
{
    return m->virtio_mmio ? m->virtio_mmio->used : 0;
}

bool virtio_mmio_plug(struct machine *m, struct virtio_device *v, GError **error)
{
    struct virtio_mmio_slots *all = m->virtio_mmio;
    const char *name = v->dev.class->name;
    if (!all)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s needs a virtio-mmio slot, and this machine has none; use the form "
                          "that ends in '-pci', or -M microvm", name);
    if (all->used == all->count)
        return vireo_fail(error, VIREO_ERROR_FAILED, "device %s: all %u virtio-mmio slots are taken", name, all->count);
    struct slot *s = &all->slots[all->used];
    s->v = v;
    s->window = (struct io_window){ .name = name, .ops = &ops, .opaque = s, .lock = &v->dev.lock, .size = WINDOW_SIZE };
    v->transport = &transport;
    v->transport_data = s;
    io_window_map(m->memory, &s->window, all->base + all->stride * all->used);
    virtio_event_create(v, &event_ops);
    all->used++;
    return true;
}
