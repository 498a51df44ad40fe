/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over PCI, the modern interface (virtio 1.2, 4.1): MSI-X in BAR 1, the four register regions in BAR 4, and the
 * window on them in configuration space.
 */
#include <string.h>

#include "vmm/bus/pci.h"
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/machine.h"

enum { BAR_MSIX = 1, BAR_REGS = 4, REGION_SIZE = 0x1000 };
enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI }; /* 4.1.4 */
enum { REGION_COMMON, REGION_ISR, REGION_DEVICE, REGION_NOTIFY, NREGIONS };
enum { NOTIFY_MULTIPLIER = 4 };
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

/* 4.1.4.3 */
enum { COMMON_DF_SELECT = 0, COMMON_DF = 4, COMMON_GF_SELECT = 8, COMMON_GF = 0xc, COMMON_CONFIG_VECTOR = 0x10, COMMON_NQUEUES = 0x12,
       COMMON_STATUS = 0x14, COMMON_GENERATION = 0x15, COMMON_Q_SELECT = 0x16, COMMON_Q_SIZE = 0x18, COMMON_Q_VECTOR = 0x1a,
       COMMON_Q_ENABLE = 0x1c, COMMON_Q_NOTIFY_OFF = 0x1e, COMMON_Q_DESC = 0x20, COMMON_Q_DRIVER = 0x28, COMMON_Q_DEVICE = 0x30,
       COMMON_SIZE = 0x38 };

struct virtio_pci {
    struct pci_device pci;
    struct virtio_device *v;
    uint8_t window_cap; /* VIRTIO_PCI_CAP_PCI_CFG */
};

static struct virtio_pci *of(struct virtio_device *v)
{
    return v->transport_data;
}

static struct virtqueue *selected(struct virtio_device *v)
{
    return v->queue_select < v->nqueues ? &v->queues[v->queue_select] : NULL;
}

/* ---- interrupts (4.1.5) ---- */

static void interrupt(struct virtio_device *v, uint16_t vector, unsigned isr)
{
    struct virtio_pci *s = of(v);
    if (pci_msix_enabled(&s->pci)) {
        if (vector != VIRTIO_NO_VECTOR)
            pci_msix_send(&s->pci, vector);
        return;
    }
    v->isr |= isr;
    pci_intx(&s->pci, true);
}

static void queue_interrupt(struct virtio_device *v, unsigned queue)
{
    interrupt(v, v->queues[queue].vector, ISR_QUEUE);
}

static void config_interrupt(struct virtio_device *v)
{
    interrupt(v, v->config_vector, ISR_CONFIG);
}

static uint16_t valid_vector(const struct virtio_pci *s, uint64_t vector)
{
    return vector < s->pci.msix.nvectors ? vector : VIRTIO_NO_VECTOR;
}

/* ---- the common region ---- */

static uint64_t common_queue_read(struct virtio_device *v, unsigned offset)
{
    struct virtqueue *q = selected(v);
    if (!q)
        return offset == COMMON_Q_VECTOR ? VIRTIO_NO_VECTOR : 0; /* size 0: no such queue */
    switch (offset) {
    case COMMON_Q_SIZE: return q->size;
    case COMMON_Q_VECTOR: return q->vector;
    case COMMON_Q_ENABLE: return q->enabled;
    case COMMON_Q_NOTIFY_OFF: return q->index;
    case COMMON_Q_DESC: return (uint32_t)q->desc;
    case COMMON_Q_DESC + 4: return q->desc >> 32;
    case COMMON_Q_DRIVER: return (uint32_t)q->avail;
    case COMMON_Q_DRIVER + 4: return q->avail >> 32;
    case COMMON_Q_DEVICE: return (uint32_t)q->used;
    case COMMON_Q_DEVICE + 4: return q->used >> 32;
    default: return 0;
    }
}

static uint64_t common_read(struct virtio_pci *s, unsigned offset)
{
    struct virtio_device *v = s->v;
    switch (offset) {
    case COMMON_DF_SELECT: return v->feature_select[0];
    case COMMON_DF: return virtio_device_features(v, v->feature_select[0]);
    case COMMON_GF_SELECT: return v->feature_select[1];
    case COMMON_GF: return v->feature_select[1] < 2 ? (uint32_t)(v->driver_features >> 32 * v->feature_select[1]) : 0;
    case COMMON_CONFIG_VECTOR: return v->config_vector;
    case COMMON_NQUEUES: return v->nqueues;
    case COMMON_STATUS: return v->status;
    case COMMON_GENERATION: return v->config_generation & 0xff;
    case COMMON_Q_SELECT: return v->queue_select;
    default: return common_queue_read(v, offset);
    }
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
    *field = high ? (*field & 0xffffffff) | (uint64_t)value << 32 : (*field & ~0xffffffffull) | value;
}

static void common_queue_write(struct virtio_pci *s, unsigned offset, uint64_t value)
{
    struct virtqueue *q = selected(s->v);
    if (!q || s->v->stopping)
        return;
    if (offset == COMMON_Q_VECTOR) {
        q->vector = valid_vector(s, value);
        virtio_event_update(s->v->event);
        return;
    }
    if (q->enabled)
        return; /* an enabled queue stays as it is until the device is reset */
    switch (offset) {
    case COMMON_Q_SIZE: q->size = value; break;
    case COMMON_Q_ENABLE:
        if (value == 1)
            virtqueue_enable(q);
        virtio_event_update(s->v->event);
        break;
    case COMMON_Q_DESC: case COMMON_Q_DESC + 4: set_half(&q->desc, offset & 4, value); break;
    case COMMON_Q_DRIVER: case COMMON_Q_DRIVER + 4: set_half(&q->avail, offset & 4, value); break;
    case COMMON_Q_DEVICE: case COMMON_Q_DEVICE + 4: set_half(&q->used, offset & 4, value); break;
    }
}

static void common_write(struct virtio_pci *s, unsigned offset, uint64_t value)
{
    struct virtio_device *v = s->v;
    switch (offset) {
    case COMMON_DF_SELECT: v->feature_select[0] = value; break;
    case COMMON_GF_SELECT: v->feature_select[1] = value; break;
    case COMMON_GF: virtio_driver_features(v, v->feature_select[1], value); break;
    case COMMON_CONFIG_VECTOR: v->config_vector = valid_vector(s, value); break;
    case COMMON_STATUS:
        virtio_set_status(v, value);
        if (!v->status)
            pci_intx(&s->pci, false);
        break;
    case COMMON_Q_SELECT: v->queue_select = value; break;
    default: common_queue_write(s, offset, value);
    }
}

/* ---- the register BAR; device lock held ---- */

static uint64_t regs_read(void *opaque, uint64_t offset, unsigned size)
{
    struct virtio_pci *s = opaque;
    unsigned at = offset % REGION_SIZE;
    uint64_t value;
    switch (offset / REGION_SIZE) {
    case REGION_COMMON:
        return common_read(s, at);
    case REGION_ISR:
        value = s->v->isr; /* reading acknowledges (4.1.4.5) */
        s->v->isr = 0;
        pci_intx(&s->pci, false);
        return value;
    case REGION_DEVICE:
        return virtio_config_get(s->v, at, size);
    default:
        return 0;
    }
}

static void regs_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_pci *s = opaque;
    unsigned at = offset % REGION_SIZE;
    switch (offset / REGION_SIZE) {
    case REGION_COMMON: common_write(s, at, value); break;
    case REGION_DEVICE: virtio_config_set(s->v, at, size, value); break;
    case REGION_NOTIFY: virtio_notify(s->v, at / NOTIFY_MULTIPLIER); break;
    }
}

static const struct io_ops regs_ops = { regs_read, regs_write, 1, 4 };

/* ---- the window in configuration space (4.1.4.9) ---- */

static bool window_target(struct virtio_pci *s, uint32_t *ret_offset, uint32_t *ret_size)
{
    const uint8_t *cap = s->pci.config + s->window_cap;
    *ret_offset = pci_get32(cap + 8);
    *ret_size = pci_get32(cap + 12);
    return cap[4] == BAR_REGS && (*ret_size == 1 || *ret_size == 2 || *ret_size == 4) && *ret_offset % *ret_size == 0 &&
           *ret_offset < NREGIONS * REGION_SIZE;
}

static bool in_window_data(const struct virtio_pci *s, unsigned offset, unsigned size)
{
    return s->window_cap && offset < s->window_cap + 20u && offset + size > s->window_cap + 16u;
}

static void window_read(struct pci_device *d, unsigned offset, unsigned size)
{
    struct virtio_pci *s = (struct virtio_pci *)d;
    uint32_t at, n;
    if (!in_window_data(s, offset, size) || !window_target(s, &at, &n))
        return;
    g_mutex_lock(&s->v->dev.lock);
    pci_set32(d->config + s->window_cap + 16, regs_read(s, at, n));
    g_mutex_unlock(&s->v->dev.lock);
}

static void window_written(struct pci_device *d, unsigned offset, unsigned size)
{
    struct virtio_pci *s = (struct virtio_pci *)d;
    uint32_t at, n;
    if (!in_window_data(s, offset, size) || !window_target(s, &at, &n))
        return;
    uint32_t value = pci_get32(d->config + s->window_cap + 16) & (n == 4 ? ~0u : (1u << n * 8) - 1);
    g_mutex_lock(&s->v->dev.lock);
    regs_write(s, at, n, value);
    g_mutex_unlock(&s->v->dev.lock);
}

/* ---- events without a way through the process ---- */

static bool notify_at(struct virtio_device *v, unsigned queue, uint64_t *ret_address, unsigned *ret_size, bool *ret_match)
{
    const struct io_window *w = &of(v)->pci.bars[BAR_REGS].window;
    *ret_address = w->base + REGION_NOTIFY * REGION_SIZE + queue * NOTIFY_MULTIPLIER;
    *ret_size = 0;
    *ret_match = false;
    return w->mapped;
}

static bool message(struct virtio_device *v, unsigned queue, uint64_t *ret_address, uint32_t *ret_data)
{
    return pci_msix_message(&of(v)->pci, v->queues[queue].vector, ret_address, ret_data);
}

static const struct virtio_event_ops event_ops = { notify_at, message };

/* Windows have moved, or MSI-X vectors changed. */
static void changed(struct pci_device *d)
{
    struct virtio_device *v = ((struct virtio_pci *)d)->v;
    g_mutex_lock(&v->dev.lock);
    if (v->event)
        virtio_event_update(v->event);
    g_mutex_unlock(&v->dev.lock);
}

/* ---- life ---- */

static void add_region(struct virtio_pci *s, uint8_t type, unsigned region, uint32_t size)
{
    uint8_t length = type == CFG_NOTIFY || type == CFG_PCI ? 20 : 16;
    uint8_t at = pci_cap_add(&s->pci, PCI_CAP_VENDOR, length);
    uint8_t *cap = s->pci.config + at;
    cap[2] = length;
    cap[3] = type;
    if (type == CFG_PCI) {
        s->window_cap = at;
        s->pci.wmask[at + 4] = 0xff;
        memset(s->pci.wmask + at + 8, 0xff, 12);
        return;
    }
    cap[4] = BAR_REGS;
    pci_set32(cap + 8, region * REGION_SIZE);
    pci_set32(cap + 12, size);
    if (type == CFG_NOTIFY)
        pci_set32(cap + 16, NOTIFY_MULTIPLIER);
}

static void transport_reset(struct virtio_device *v)
{
    pci_device_reset(&of(v)->pci);
}

static void transport_destroy(struct virtio_device *v)
{
    struct virtio_pci *s = of(v);
    virtio_event_destroy(v->event);
    pci_device_unplug(&s->pci);
    g_free(s);
}

static unsigned vectors(struct virtio_device *v)
{
    return of(v)->pci.msix.nvectors;
}

static void loaded(struct virtio_device *v)
{
    pci_intx(&of(v)->pci, v->isr != 0);
}

static const struct virtio_transport_ops transport = { queue_interrupt, config_interrupt, transport_reset, transport_destroy, vectors, loaded };

bool virtio_pci_plug(struct machine *m, struct virtio_device *v, GError **error)
{
    struct virtio_pci *s = g_new0(struct virtio_pci, 1);
    const struct pci_id id = { .vendor = 0x1af4, .device = 0x1040 + v->vclass->id, .subsys_vendor = 0x1af4, .subsys = 0x1100,
                               .revision = 1, .class_code = v->vclass->pci_class, .subclass = v->vclass->pci_subclass, .int_pin = 1 };
    s->v = v;
    v->transport = &transport;
    v->transport_data = s;
    pci_device_init(&s->pci, &v->dev, v->dev.class->name, &id);
    pci_bar_init(&s->pci, BAR_REGS, PCI_BAR_MEM64_PREFETCH, NREGIONS * REGION_SIZE, &regs_ops, s, &v->dev.lock);
    if (v->pci_vectors)
        pci_msix_init(&s->pci, v->pci_vectors, BAR_MSIX);
    add_region(s, CFG_COMMON, REGION_COMMON, COMMON_SIZE);
    add_region(s, CFG_ISR, REGION_ISR, 1);
    if (v->vclass->config_size)
        add_region(s, CFG_DEVICE, REGION_DEVICE, v->vclass->config_size);
    add_region(s, CFG_NOTIFY, REGION_NOTIFY, v->nqueues * NOTIFY_MULTIPLIER);
    add_region(s, CFG_PCI, 0, 0);
    pci_express_init(&s->pci);
    s->pci.config_read = window_read;
    s->pci.config_written = window_written;
    s->pci.changed = changed;
    if (v->vclass->pci_more)
        v->vclass->pci_more(v, &s->pci);
    virtio_event_create(v, &event_ops);
    if (pci_device_plug(&s->pci, m, v->pci_addr, error))
        return true;
    transport_destroy(v);
    v->transport = NULL;
    v->transport_data = NULL;
    return false;
}
