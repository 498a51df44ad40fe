/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events of queues without a way through the process: a guest's notification that the accelerator turns into the signal of an
 * eventfd (kick), an eventfd whose signal it turns into an interrupt (call). Where the accelerator has none of this, or not for now
 * (an interrupt that is masked), the same descriptors work by way of the process.
 *
 * Kicks of all queues of a device go through eventfds once the driver is ready, if the accelerator can and ioeventfd=on; the main loop
 * serves them, or the device's iothread, which does so also where the accelerator cannot. Who asks for a queue's kick descriptor serves
 * it instead.
 *
 * Lock: the device's covers everything; machine hooks take it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus/virtio.h"

/* What a transport knows. */
struct virtio_event_ops {
    /* Where a driver writes to notify the queue: guest physical address, size in bytes (0: any) and, with *ret_match, the value. False:
     * nowhere just now. */
    bool (*notify_at)(struct virtio_device *v, unsigned queue, uint64_t *ret_address, unsigned *ret_size, bool *ret_match);
    /* What the queue's interrupt is now: false: not a message, or masked. NULL: never a message. */
    bool (*message)(struct virtio_device *v, unsigned queue, uint64_t *ret_address, uint32_t *ret_data);
};

struct virtio_event;

/* For transports. */
struct virtio_event *virtio_event_create(struct virtio_device *v, const struct virtio_event_ops *ops);
void virtio_event_destroy(struct virtio_event *e); /* without the device's lock */
/* Something of the above may have changed, or the device's status; lock held. */
void virtio_event_update(struct virtio_event *e);
/* A notification that came through the process. False: the kick descriptor has been signalled, its owner goes on. Lock held. */
bool virtio_event_notify(struct virtio_event *e, unsigned queue);

/* The queue is notified once more, by the thread that serves it or the main loop, soon: more waits than should be done at once. */
void virtio_queue_again(struct virtqueue *q);
/* For devices; lock held. The descriptor to wait at for notifications of the queue; from now on queue_notify is not called. -1: the host
 * has no more. It stays the transport's, until virtio_queue_kick_release or the end of the device. */
int virtio_queue_kick_fd(struct virtqueue *q);
void virtio_queue_kick_release(struct virtqueue *q);
/* The descriptor to signal for an interrupt of the queue (whoever signals has looked whether the driver wants one). */
int virtio_queue_call_fd(struct virtqueue *q);
/* Each enabled queue is looked at once more when the machine runs: it comes from a saved one. Lock held. */
void virtio_event_look_again(struct virtio_event *e);
