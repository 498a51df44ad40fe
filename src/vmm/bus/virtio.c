/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device core: features, status, configuration space, life. Virtio 1.2, chapters 2 and 3. */
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"

#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/iothread.h"
#include "vmm/core/machine.h"

const char *const virtio_on_off_auto[] = { "off", "on", "auto", "true", "false", NULL };

#define MAX_CONFIG 136 /* virtio-input: 1.2, 5.8.4 */

void virtio_broken(struct virtio_device *v, const char *format, ...)
{
    if (v->broken)
        return;
    if (log_on(LOG_GUEST_ERRORS)) {
        va_list ap;
        va_start(ap, format);
        g_autofree char *text = g_strdup_vprintf(format, ap);
        va_end(ap);
        log_write(LOG_GUEST_ERRORS, "%s: %s", v->vclass->name, text);
    }
    v->broken = true;
    v->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        virtio_config_changed(v);
}

void virtio_config_changed(struct virtio_device *v)
{
    v->config_generation++;
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        v->transport->config_interrupt(v);
}

static void reset_locked(struct virtio_device *v)
{
    if (v->stopping)
        return;
    v->stopping = v->broken = true; /* while stop waits, nothing new may start */
    if (v->vclass->stop)
        v->vclass->stop(v);
    v->epoch++;
    for (unsigned i = 0; i < v->nqueues; i++)
        virtqueue_disable(&v->queues[i]);
    v->features = v->driver_features = 0;
    v->status = 0;
    v->isr = 0;
    v->config_vector = VIRTIO_NO_VECTOR;
    v->feature_select[0] = v->feature_select[1] = 0;
    v->queue_select = 0;
    if (v->event)
        virtio_event_update(v->event);
    v->stopping = v->broken = false;
}

/* What the driver has chosen is taken only if it is possible (3.1.1, 6.1): otherwise FEATURES_OK stays clear. */
static bool features_acceptable(const struct virtio_device *v)
{
    if (v->driver_features & ~v->host_features) {
        log_at(LOG_GUEST_ERRORS, "%s: the driver takes features that are not offered: 0x%" G_GINT64_MODIFIER "x", v->vclass->name,
               v->driver_features & ~v->host_features);
        return false;
    }
    return v->driver_features & VIRTIO_F_VERSION_1;
}

void virtio_set_status(struct virtio_device *v, uint8_t status)
{
    uint8_t old = v->status;
    if (!status) {
        reset_locked(v);
        return;
    }
    if (v->stopping)
        return;
    if ((status & ~old) & VIRTIO_STATUS_FEATURES_OK) {
        if (features_acceptable(v)) {
            v->features = v->driver_features;
            if (v->vclass->features_set)
                v->vclass->features_set(v);
        } else {
            status &= ~VIRTIO_STATUS_FEATURES_OK;
        }
    }
    if (!((status | old) & VIRTIO_STATUS_FEATURES_OK))
        status &= ~VIRTIO_STATUS_DRIVER_OK;
    /* Bits are only ever added but by reset (2.1.1). */
    v->status = old | status;
    if ((v->status & ~old) & VIRTIO_STATUS_DRIVER_OK) {
        if (v->broken) /* a queue was wrong before the driver was ready to be told */
            virtio_config_changed(v);
        else if (v->vclass->started)
            v->vclass->started(v);
        for (unsigned i = 0; i < v->nqueues; i++) {
            if (virtqueue_ready(&v->queues[i]))
                v->vclass->queue_notify(v, i);
        }
    }
    if (v->event)
        virtio_event_update(v->event);
}

uint32_t virtio_device_features(struct virtio_device *v, uint32_t select)
{
    return select < 2 ? v->host_features >> 32 * select : 0;
}

void virtio_driver_features(struct virtio_device *v, uint32_t select, uint32_t value)
{
    if (select > 1 || (v->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    v->driver_features &= ~(0xffffffffull << 32 * select);
    v->driver_features |= (uint64_t)value << 32 * select;
}

uint64_t virtio_config_get(struct virtio_device *v, uint64_t offset, unsigned size)
{
    uint8_t space[MAX_CONFIG] = { 0 };
    uint64_t value = 0;
    if (offset >= v->vclass->config_size || v->vclass->config_size - offset < size)
        return ~0ull;
    v->vclass->config_read(v, space);
    memcpy(&value, space + offset, size);
    return value;
}

void virtio_config_set(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset < v->vclass->config_size && v->vclass->config_size - offset >= size && v->vclass->config_write && !v->broken)
        v->vclass->config_write(v, offset, size, value);
}

void virtio_notify(struct virtio_device *v, uint32_t queue)
{
    if (queue >= v->nqueues || !v->event || virtio_event_notify(v->event, queue))
        virtio_serve(v, queue);
}

void virtio_serve(struct virtio_device *v, uint32_t queue)
{
    if (queue < v->nqueues && virtio_running(v) && v->queues[queue].enabled)
        v->vclass->queue_notify(v, queue);
}

static bool check_props(const struct virtio_device *v, GError **error)
{
    const char *name = v->dev.class->name;
    const struct { bool bad; const char *text; } rules[] = {
        { v->iommu_platform, "iommu_platform=on is not possible: there is no IOMMU" },
        { v->ats, "ats=on is not possible: there is no IOMMU" },
        { v->disable_modern, "disable-modern=on is not possible: there is no legacy interface" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].bad)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: %s", name, rules[i].text);
    }
    if (v->disable_legacy == 0 && v->dev.class->bus == DEV_BUS_PCI)
        log_warn("device %s: disable-legacy=off: the legacy interface is not there, the guest needs a virtio 1.0 driver", name);
    return true;
}

bool virtio_realize(struct virtio_device *v, unsigned nqueues, const uint16_t *sizes, GError **error)
{
    v->vclass = v->dev.class->bus_class;
    g_assert(nqueues <= VIRTIO_MAX_QUEUES && v->vclass->config_size <= MAX_CONFIG);
    if (!check_props(v, error))
        return false;
    v->nqueues = nqueues;
    for (unsigned i = 0; i < nqueues; i++) {
        v->queues[i].v = v;
        v->queues[i].index = i;
        v->queues[i].max_size = sizes[i];
        virtqueue_disable(&v->queues[i]);
    }
    v->config_vector = VIRTIO_NO_VECTOR;
    v->host_features = v->vclass->features(v) | VIRTIO_F_VERSION_1 | (v->indirect_desc ? VIRTIO_F_INDIRECT_DESC : 0) |
                       (v->event_idx ? VIRTIO_F_EVENT_IDX : 0) | (v->packed ? VIRTIO_F_RING_PACKED : 0);
    if (!(v->dev.class->bus == DEV_BUS_PCI ? virtio_pci_plug(v->dev.machine, v, error) : virtio_mmio_plug(v->dev.machine, v, error)))
        return false;
    if (v->iothread) {
        v->iothread_user = g_strdup_printf("the device '%s'", v->dev.id ? v->dev.id : v->dev.class->name);
        iothread_hold(v->iothread, v->iothread_user);
    }
    return true;
}

void virtio_unrealize(struct virtio_device *v)
{
    g_mutex_lock(&v->dev.lock);
    reset_locked(v);
    g_mutex_unlock(&v->dev.lock);
    v->transport->destroy(v);
    v->transport = NULL;
    v->transport_data = NULL;
    if (v->iothread_user)
        iothread_release(v->iothread, v->iothread_user);
    g_clear_pointer(&v->iothread_user, g_free);
}

void virtio_device_reset(struct device *d)
{
    struct virtio_device *v = (struct virtio_device *)d;
    g_mutex_lock(&d->lock);
    reset_locked(v);
    g_mutex_unlock(&d->lock);
    v->transport->reset(v);
}
